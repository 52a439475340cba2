/* SPDX-License-Identifier: ISC */
/*
 * Writer of cpio archives in the "newc" format, which the kernel takes as initramfs. Archives are
 * reproducible: owner root, time 0, inode numbers counted. No I/O.
 *
 * Source: Linux Documentation/driver-api/early-userspace/buffer-format.rst.
 */
#ifndef HK_KERNEL_CPIO_H
#define HK_KERNEL_CPIO_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/str.h"

/** struct hk_cpio - an archive that grows; zero-initialize, then hk_cpio_finish() */
struct hk_cpio {
	struct hk_str out; /* its failure flag is ours */
	uint32_t inode_count;
};

/* @path has no leading slash; a directory comes before what is in it. */
void hk_cpio_add_dir(struct hk_cpio *cpio, const char *path, mode_t mode);
void hk_cpio_add_file(
	struct hk_cpio *cpio, const char *path, mode_t mode, const void *data, size_t len);
void hk_cpio_add_char_device(
	struct hk_cpio *cpio, const char *path, mode_t mode, unsigned major, unsigned minor);

/**
 * hk_cpio_end() - write the trailer
 * @ret_data: owned by the caller, free()
 *
 * Return: 0, -ENOMEM.
 */
int hk_cpio_end(struct hk_cpio *cpio, void **ret_data, size_t *ret_len);
void hk_cpio_finish(struct hk_cpio *cpio);

#endif
