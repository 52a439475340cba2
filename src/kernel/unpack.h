/* SPDX-License-Identifier: ISC */
/* Decompression in memory, for kernels and modules. No I/O. */
#ifndef HK_KERNEL_UNPACK_H
#define HK_KERNEL_UNPACK_H

#include <stddef.h>

#include "base/err.h"

enum hk_pack {
	HK_PACK_NONE, /* none that we know by its first bytes */
	HK_PACK_GZIP,
	HK_PACK_XZ,
	HK_PACK_LZMA, /* the old .lzma, without checksum */
	HK_PACK_LZ4,  /* the legacy frame, `lz4 -l`, as the kernel's build uses it */
	HK_PACK_ZSTD,
	HK_PACK_BZIP2, /* known by name only, not unpacked */
	HK_PACK_LZO,   /* the same */
	HK_PACK_COUNT,
};

/** hk_pack_detect() - tell the format from the first bytes */
enum hk_pack hk_pack_detect(const void *data, size_t len);

/** hk_pack_name() - for messages; static */
const char *hk_pack_name(enum hk_pack pack);

/**
 * hk_unpack() - decompress one stream; bytes behind its end are left alone
 * @data: the stream, @len bytes
 * @limit: more output than this is -EFBIG
 * @ret_data: owned by the caller, free()
 *
 * An LZ4 legacy frame has no end: all of @data must be whole blocks.
 *
 * Return: 0, -EBADMSG (corrupt or cut short), -EFBIG, -ENOTSUP (HK_PACK_NONE and the formats that
 * we only know by name), -ENOMEM.
 */
int hk_unpack(enum hk_pack pack, const void *data, size_t len, size_t limit, void **ret_data,
	size_t *ret_len, struct hk_err *err);

#endif
