/* SPDX-License-Identifier: ISC */
/* Kernels, modules and packages made up for the tests of the kernel store. All of them are small.
 */
#ifndef HK_TEST_KERNEL_FIXTURE_H
#define HK_TEST_KERNEL_FIXTURE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "kernel/unpack.h"

#define FX_RELEASE "6.1.0-9-test-amd64"

/* Bytes on the heap; free(.data). */
struct fx_bytes {
	uint8_t *data;
	size_t len;
};

/* An ELF kernel: banner, a PVH note if asked for, @marks (drivers built in), @filler more bytes. */
struct fx_bytes fx_vmlinux(const char *release, bool pvh, const char *marks, size_t filler);

/* The whole of @in as one stream; zstd streams do not tell their size, as the kernel's do not. */
struct fx_bytes fx_pack(enum hk_pack pack, struct fx_bytes in);

/* A bzImage with @vmlinux in it. */
enum { FX_SETUP_BYTES = 4 * 512 };
struct fx_bytes fx_bzimage(const char *release, enum hk_pack pack, struct fx_bytes vmlinux);

/* A module; @depends is a comma list. */
struct fx_bytes fx_module(const char *name, const char *depends, const char *release);

/* A directory that is removed, with all in it, by fx_remove(). */
void fx_make_dir(char path[64]);
void fx_remove(const char *path);

/* Writes DIR/NAME, making directories between. */
void fx_write(const char *dir, const char *name, const void *data, size_t len);
void fx_write_text(const char *dir, const char *name, const char *text);
void fx_write_bytes(const char *dir, const char *name, struct fx_bytes bytes); /* frees them */

/* One file of a package. */
struct fx_member {
	const char *name;
	char type;               /* 'f' file, 'd' directory, 'l' symbolic link, 'h' hard link */
	struct fx_bytes content; /* 'l', 'h': the target; freed */
};

/* Writes a .deb; @pack is HK_PACK_GZIP, XZ, ZSTD or NONE; @members end with a NULL name. */
void fx_deb(const char *path, enum hk_pack pack, const struct fx_member *members);

/* Writes all modules that a guest needs to DIR, with modules.dep if asked for. */
void fx_modules(const char *dir, const char *release, bool with_dep);

#endif
