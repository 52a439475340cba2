/* SPDX-License-Identifier: ISC */
/* What we want to know about ELF files: is it a kernel, is it a module, what does it say. No I/O.
 */
#ifndef HK_KERNEL_ELF_FILE_H
#define HK_KERNEL_ELF_FILE_H

#include <stdbool.h>
#include <stddef.h>

#include "base/err.h"

/** hk_elf_detect() - do the bytes begin like an ELF file? */
bool hk_elf_detect(const void *data, size_t len);

/**
 * hk_elf_check_kernel() - is this an x86-64 kernel that can be loaded?
 * @data: the file, @len bytes, at any alignment
 * @ret_pvh: it has a note with a PVH entry
 *
 * Return: 0, -ENOEXEC (not ELF, not x86-64, nothing to load) or -EBADMSG (tables out of the file).
 *
 * Source: System V ABI, "ELF header", "Program header"; Xen include/public/elfnote.h.
 */
int hk_elf_check_kernel(const void *data, size_t len, bool *ret_pvh, struct hk_err *err);

/**
 * hk_elf_kernel_release() - find "Linux version RELEASE " in a kernel
 * @ret_release: @size bytes, NUL-terminated
 *
 * Return: 0, or -ENOENT.
 */
int hk_elf_kernel_release(const void *data, size_t len, char *ret_release, size_t size);

/** struct hk_modinfo - what a module says of itself; pointers into the module's bytes */
struct hk_modinfo {
	const char *depends; /* names with commas between, "" if none */
	const char *release; /* first word of "vermagic"; not NUL-terminated; NULL if absent */
	size_t release_len;
};

/**
 * hk_elf_modinfo() - read the .modinfo section of an x86-64 kernel module
 *
 * Return: 0, -ENOEXEC (not such a module) or -EBADMSG (tables out of the file).
 */
int hk_elf_modinfo(
	const void *data, size_t len, struct hk_modinfo *ret_modinfo, struct hk_err *err);

#endif
