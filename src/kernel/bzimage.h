/* SPDX-License-Identifier: ISC */
/*
 * The bzImage, the form in which distributions install x86 kernels: real-mode code with the setup
 * header, the decompressor, and within it the compressed ELF vmlinux that we are after. No I/O.
 */
#ifndef HK_KERNEL_BZIMAGE_H
#define HK_KERNEL_BZIMAGE_H

#include <stdbool.h>
#include <stddef.h>

#include "base/err.h"
#include "kernel/kernel.h"
#include "kernel/unpack.h"

/* More than any kernel; a corrupt size must not make us ask for all memory. */
#define HK_VMLINUX_MAX_BYTES ((size_t)512 << 20)

/**
 * struct hk_bzimage - what the setup header says, checked against the file's length
 * @payload_offset, @payload_len: the compressed kernel, with the four bytes of its size
 * @vmlinux_len: size of the kernel when unpacked
 */
struct hk_bzimage {
	char release[HK_KERNEL_RELEASE_SIZE];
	enum hk_pack pack;
	size_t payload_offset;
	size_t payload_len;
	size_t vmlinux_len;
};

/** hk_bzimage_detect() - has it the boot sector's mark and the setup header's magic? */
bool hk_bzimage_detect(const void *data, size_t len);

/**
 * hk_bzimage_parse() - read the setup header
 * @data: the whole file, @len bytes
 *
 * Return: 0, -ENOEXEC (not a bzImage), -ENOTSUP (boot protocol before 2.08, Linux 2.6.26) or
 * -EBADMSG (corrupt or cut short).
 *
 * Source: Linux Documentation/arch/x86/boot.rst, "The Real-Mode Kernel Header".
 */
int hk_bzimage_parse(
	const void *data, size_t len, struct hk_bzimage *ret_image, struct hk_err *err);

/**
 * hk_bzimage_extract() - unpack the vmlinux; it is not looked into
 * @image: of the same @data
 * @ret_vmlinux: owned by the caller, free()
 *
 * Return: 0, -EBADMSG (corrupt), -ENOTSUP (compression that we cannot read), or -ENOMEM.
 */
int hk_bzimage_extract(const void *data, const struct hk_bzimage *image, void **ret_vmlinux,
	size_t *ret_len, struct hk_err *err);

#endif
