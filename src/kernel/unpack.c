/* SPDX-License-Identifier: ISC */
/*
 * Decompression in memory: gzip, xz, lzma, legacy lz4, zstd.
 *
 * Theory: the output buffer may grow to one byte more than the limit, so no decoder ever has to be
 * told that its output is full: if the byte is used, the stream was too long. Growing doubles; the
 * pages of a large buffer cost nothing until they are written.
 *
 * Limits: one stream (gzip member, xz stream, zstd frame) is unpacked. zstd goes in one shot, which
 * needs no window buffer beside the output. xz may use 256 MiB for its dictionary.
 */
#include "kernel/unpack.h"

#include <lz4.h>
#include <lzma.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>
#include <zstd.h>
#include <zstd_errors.h>

#include "base/alloc.h"
#include "base/bytes.h"
#include "base/util.h"

#define XZ_MEMORY_BYTES   (256 * HK_MIB)
#define LZ4_LEGACY_MAGIC  UINT32_C(0x184C2102)
#define LZ4_BLOCK_BYTES   (8 * HK_MIB)
#define FIRST_CHUNK_BYTES (64 * HK_KIB)

/* What grows while a stream is unpacked. */
struct output {
	uint8_t *data; /* owned */
	size_t len;
	size_t cap;
	size_t limit;
};

static const struct {
	const char *name;
	size_t magic_len;
	uint8_t magic[6];
} formats[HK_PACK_COUNT] = {
	[HK_PACK_NONE] = {"an unknown format"},
	[HK_PACK_GZIP] = {"gzip", 2, {0x1f, 0x8b}},
	[HK_PACK_XZ] = {"xz", 6, {0xfd, '7', 'z', 'X', 'Z', 0x00}},
	[HK_PACK_LZMA] = {"lzma", 3, {0x5d, 0x00, 0x00}},
	[HK_PACK_LZ4] = {"lz4", 4, {0x02, 0x21, 0x4c, 0x18}},
	[HK_PACK_ZSTD] = {"zstd", 4, {0x28, 0xb5, 0x2f, 0xfd}},
	[HK_PACK_BZIP2] = {"bzip2", 3, {'B', 'Z', 'h'}},
	[HK_PACK_LZO] = {"lzo", 4, {0x89, 'L', 'Z', 'O'}},
};

enum hk_pack hk_pack_detect(const void *data, size_t len)
{
	for (unsigned i = HK_PACK_GZIP; i < HK_PACK_COUNT; i++) {
		size_t n = formats[i].magic_len;

		if (len >= n && memcmp(data, formats[i].magic, n) == 0) {
			return (enum hk_pack)i;
		}
	}
	return HK_PACK_NONE;
}

const char *hk_pack_name(enum hk_pack pack)
{
	return formats[pack].name;
}

/* Makes room for @want more bytes, or for as many as may still come; at least one. */
static int reserve(struct output *out, size_t want)
{
	size_t most = out->limit + 1;
	size_t cap = HK_MAX(out->cap, HK_MIN(FIRST_CHUNK_BYTES, most));
	uint8_t *data;

	if (out->len > out->limit) {
		return -EFBIG;
	}
	want = HK_MIN(want, most - out->len);
	while (cap - out->len < want) {
		cap = cap > most / 2 ? most : cap * 2;
	}
	if (cap == out->cap) {
		return 0;
	}
	data = hk_realloc_array(out->data, cap, 1);
	if (data == NULL) {
		return -ENOMEM;
	}
	out->data = data;
	out->cap = cap;
	return 0;
}

/* zlib counts in 32 bits. */
static unsigned clamp32(size_t n)
{
	return (unsigned)HK_MIN(n, (size_t)UINT32_MAX);
}

static int inflate_all(z_stream *z, const uint8_t *data, size_t len, struct output *out)
{
	size_t pos = 0;

	for (;;) {
		unsigned in_len = clamp32(len - pos);
		unsigned out_len;
		int status;
		int r = reserve(out, 1);

		if (r < 0) {
			return r;
		}
		out_len = clamp32(out->cap - out->len);
		z->next_in = (Bytef *)(uintptr_t)(data + pos);
		z->avail_in = in_len;
		z->next_out = out->data + out->len;
		z->avail_out = out_len;
		status = inflate(z, Z_NO_FLUSH);
		pos += in_len - z->avail_in;
		out->len += out_len - z->avail_out;
		if (status == Z_STREAM_END) {
			return 0;
		}
		if (status == Z_MEM_ERROR) {
			return -ENOMEM;
		}
		if (status != Z_OK) { /* Z_BUF_ERROR too: there was room, so input is missing */
			return -EBADMSG;
		}
	}
}

static int unpack_gzip(const uint8_t *data, size_t len, struct output *out)
{
	z_stream z = {0};
	int r;

	if (inflateInit2(&z, MAX_WBITS + 16) != Z_OK) {
		return -ENOMEM;
	}
	r = inflate_all(&z, data, len, out);
	inflateEnd(&z);
	return r;
}

static int lzma_all(lzma_stream *lz, const uint8_t *data, size_t len, struct output *out)
{
	lz->next_in = data;
	lz->avail_in = len;
	for (;;) {
		size_t out_len;
		lzma_ret status;
		int r = reserve(out, 1);

		if (r < 0) {
			return r;
		}
		out_len = out->cap - out->len;
		lz->next_out = out->data + out->len;
		lz->avail_out = out_len;
		status = lzma_code(lz, LZMA_FINISH);
		out->len += out_len - lz->avail_out;
		if (status == LZMA_STREAM_END) {
			return 0;
		}
		if (status == LZMA_MEM_ERROR || status == LZMA_MEMLIMIT_ERROR) {
			return -ENOMEM;
		}
		if (status != LZMA_OK) {
			return -EBADMSG;
		}
	}
}

static int unpack_lzma(enum hk_pack pack, const uint8_t *data, size_t len, struct output *out)
{
	lzma_stream lz = LZMA_STREAM_INIT;
	lzma_ret status = pack == HK_PACK_XZ ? lzma_stream_decoder(&lz, XZ_MEMORY_BYTES, 0)
					     : lzma_alone_decoder(&lz, XZ_MEMORY_BYTES);
	int r;

	if (status != LZMA_OK) {
		return -ENOMEM;
	}
	r = lzma_all(&lz, data, len, out);
	lzma_end(&lz);
	return r;
}

/*
 * The legacy frame: the magic, then blocks of a 32-bit length and so many packed bytes, each at
 * most 8 MiB when unpacked. Where a length should be, the magic may stand again.
 *
 * Source: lz4_Frame_format.md, "Legacy frame"; Linux lib/decompress_unlz4.c.
 */
static int unpack_lz4(const uint8_t *data, size_t len, struct output *out)
{
	size_t pos = 4;

	while (pos < len) {
		uint32_t packed;
		int n;
		int r;

		if (len - pos < 4) {
			return -EBADMSG;
		}
		packed = hk_load_le32(data + pos);
		pos += 4;
		if (packed == LZ4_LEGACY_MAGIC) {
			continue;
		}
		if (packed > len - pos || packed > (uint32_t)LZ4_compressBound(LZ4_BLOCK_BYTES)) {
			return -EBADMSG;
		}
		r = reserve(out, LZ4_BLOCK_BYTES);
		if (r < 0) {
			return r;
		}
		n = LZ4_decompress_safe((const char *)data + pos, (char *)out->data + out->len,
			(int)packed, (int)HK_MIN(out->cap - out->len, LZ4_BLOCK_BYTES));
		if (n < 0) {
			return -EBADMSG;
		}
		out->len += (size_t)n;
		pos += packed;
	}
	return 0;
}

static int unpack_zstd(const uint8_t *data, size_t len, struct output *out)
{
	size_t frame_len = ZSTD_findFrameCompressedSize(data, len);
	unsigned long long size;
	size_t n;
	int r;

	if (ZSTD_isError(frame_len)) {
		return -EBADMSG;
	}
	size = ZSTD_getFrameContentSize(data, frame_len);
	if (size == ZSTD_CONTENTSIZE_ERROR) {
		return -EBADMSG;
	}
	if (size == ZSTD_CONTENTSIZE_UNKNOWN || size > out->limit) {
		size = out->limit;
	}
	r = reserve(out, (size_t)size + 1);
	if (r < 0) {
		return r;
	}
	n = ZSTD_decompress(out->data, out->cap, data, frame_len);
	if (!ZSTD_isError(n)) {
		out->len = n;
		return 0;
	}
	switch (ZSTD_getErrorCode(n)) {
	case ZSTD_error_dstSize_tooSmall:
		return -EFBIG;
	case ZSTD_error_memory_allocation:
		return -ENOMEM;
	default:
		return -EBADMSG;
	}
}

static int unpack(enum hk_pack pack, const uint8_t *data, size_t len, struct output *out)
{
	switch (pack) {
	case HK_PACK_GZIP:
		return unpack_gzip(data, len, out);
	case HK_PACK_XZ:
	case HK_PACK_LZMA:
		return unpack_lzma(pack, data, len, out);
	case HK_PACK_LZ4:
		return unpack_lz4(data, len, out);
	case HK_PACK_ZSTD:
		return unpack_zstd(data, len, out);
	default:
		return -ENOTSUP;
	}
}

int hk_unpack(enum hk_pack pack, const void *data, size_t len, size_t limit, void **ret_data,
	size_t *ret_len, struct hk_err *err)
{
	struct output out = {.limit = HK_MIN(limit, (size_t)PTRDIFF_MAX - 1)};
	int r = unpack(pack, data, len, &out);

	if (r == 0 && out.len > out.limit) {
		r = -EFBIG;
	}
	if (r == 0) {
		r = reserve(&out, 1); /* a stream of nothing still gives a buffer */
	}
	if (r < 0) {
		free(out.data);
		switch (r) {
		case -EBADMSG:
			return hk_fail_msg(err, EBADMSG, "the %s stream is corrupt or cut short",
				hk_pack_name(pack));
		case -EFBIG:
			return hk_fail_msg(err, EFBIG, "the %s stream holds more than %zu bytes",
				hk_pack_name(pack), out.limit);
		case -ENOTSUP:
			return hk_fail_msg(err, ENOTSUP,
				"compressed with %s, which hako cannot read", hk_pack_name(pack));
		default:
			return hk_fail(err, -r, "unpack %s", hk_pack_name(pack));
		}
	}
	*ret_data = out.data;
	*ret_len = out.len;
	return 0;
}
