/* SPDX-License-Identifier: ISC */
/* Decompression: each format, whole, cut short at each byte, damaged, and over its limit. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/bytes.h"
#include "base/fault.h"
#include "base/util.h"
#include "kernel/unpack.h"
#include "test_kernel_fixture.h"

static const enum hk_pack packs[] = {
	HK_PACK_GZIP, HK_PACK_XZ, HK_PACK_LZMA, HK_PACK_LZ4, HK_PACK_ZSTD};

static struct fx_bytes sample(size_t len)
{
	struct fx_bytes bytes = {malloc(len), len};

	for (size_t i = 0; i < len; i++) {
		bytes.data[i] = (uint8_t)("some words that come again "[i % 27] + (i % 1000 == 7));
	}
	return bytes;
}

/* Unpacks and compares. Return: as hk_unpack(); 1 if it went well with other bytes. */
static int check(
	enum hk_pack pack, const void *data, size_t len, size_t limit, struct fx_bytes expected)
{
	struct hk_err err = HK_ERR_INIT;
	void *out = NULL;
	size_t out_len = 0;
	int r = hk_unpack(pack, data, len, limit, &out, &out_len, &err);

	if (r < 0) {
		assert_int_equal(err.code, -r);
		assert_null(out);
		return r;
	}
	r = out_len != expected.len || memcmp(out, expected.data, out_len) != 0;
	free(out);
	return r;
}

static void test_round_trip(void **state)
{
	static const size_t lens[] = {1, 100, 65535, 65536, 65537, 300000};

	for (size_t i = 0; i < HK_ARRAY_SIZE(packs); i++) {
		for (size_t k = 0; k < HK_ARRAY_SIZE(lens); k++) {
			struct fx_bytes in = sample(lens[k]);
			struct fx_bytes packed = fx_pack(packs[i], in);

			assert_int_equal(hk_pack_detect(packed.data, packed.len), packs[i]);
			assert_int_equal(check(packs[i], packed.data, packed.len, 1 << 20, in), 0);
			assert_int_equal(check(packs[i], packed.data, packed.len, in.len, in), 0);
			free(packed.data);
			free(in.data);
		}
	}
}

static void test_limit(void **state)
{
	struct fx_bytes in = sample(100000);

	for (size_t i = 0; i < HK_ARRAY_SIZE(packs); i++) {
		struct fx_bytes packed = fx_pack(packs[i], in);
		int r = check(packs[i], packed.data, packed.len, in.len - 1, in);

		/* A block that does not fit and a corrupt one look the same to lz4. */
		if (packs[i] != HK_PACK_LZ4) {
			assert_int_equal(r, -EFBIG);
		} else {
			assert_true(r == -EFBIG || r == -EBADMSG);
		}
		r = check(packs[i], packed.data, packed.len, 0, in);
		assert_true(r == -EFBIG || r == -EBADMSG);
		free(packed.data);
	}
	free(in.data);
}

static void test_cut_short(void **state)
{
	struct fx_bytes in = sample(3000);

	for (size_t i = 0; i < HK_ARRAY_SIZE(packs); i++) {
		struct fx_bytes packed = fx_pack(packs[i], in);

		for (size_t len = 0; len < packed.len; len++) {
			/* In memory of its own, so that reading over the end is seen. */
			uint8_t *cut = malloc(len + (len == 0));
			int r;

			memcpy(cut, packed.data, len);
			r = check(packs[i], cut, len, 1 << 20, in);
			if (r != -EBADMSG) {
				/* lz4 has no end: at a block's border it is just shorter. */
				assert_int_equal(packs[i], HK_PACK_LZ4);
				assert_int_equal(r, 1);
				assert_true(len <= 4);
			}
			free(cut);
		}
		free(packed.data);
	}
	free(in.data);
}

static void test_damaged(void **state)
{
	struct fx_bytes in = sample(3000);

	for (size_t i = 0; i < HK_ARRAY_SIZE(packs); i++) {
		struct fx_bytes packed = fx_pack(packs[i], in);

		for (size_t pos = 0; pos < packed.len; pos++) {
			int r;

			packed.data[pos] ^= 0xff;
			r = check(packs[i], packed.data, packed.len, 1 << 20, in);
			packed.data[pos] ^= 0xff;
			/* gzip, xz and zstd have checksums: never other bytes without an error. */
			if (packs[i] != HK_PACK_LZ4 && packs[i] != HK_PACK_LZMA) {
				assert_int_not_equal(r, 1);
			}
		}
		free(packed.data);
	}
	free(in.data);
}

static void test_trailing_bytes(void **state)
{
	struct fx_bytes in = sample(500);

	for (size_t i = 0; i < HK_ARRAY_SIZE(packs); i++) {
		struct fx_bytes packed = fx_pack(packs[i], in);
		int r;

		packed.data = realloc(packed.data, packed.len + 8);
		memset(packed.data + packed.len, 0xee, 8);
		r = check(packs[i], packed.data, packed.len + 8, 1 << 20, in);
		assert_int_equal(r, packs[i] == HK_PACK_LZ4 ? -EBADMSG : 0);
		free(packed.data);
	}
	free(in.data);
}

/* The blocks of 8 MiB that a kernel has several of, and two frames one after the other. */
static void test_lz4_blocks(void **state)
{
	struct fx_bytes in = sample((20 << 20) + 5);
	struct fx_bytes packed = fx_pack(HK_PACK_LZ4, in);
	struct fx_bytes half = {in.data, 8 << 20};
	struct fx_bytes twice = fx_pack(HK_PACK_LZ4, half);
	size_t len = twice.len;

	assert_int_equal(check(HK_PACK_LZ4, packed.data, packed.len, in.len, in), 0);
	free(packed.data);

	twice.data = realloc(twice.data, len * 2);
	memcpy(twice.data + len, twice.data, len);
	memcpy(in.data + half.len, in.data, half.len);
	assert_int_equal(check(HK_PACK_LZ4, twice.data, len * 2, in.len,
				 (struct fx_bytes){in.data, half.len * 2}),
		0);

	hk_store_le32(twice.data + 4, UINT32_MAX);
	assert_int_equal(check(HK_PACK_LZ4, twice.data, len, in.len, in), -EBADMSG);
	hk_store_le32(twice.data + 4, 0);
	assert_int_equal(check(HK_PACK_LZ4, twice.data, len, in.len, in), -EBADMSG);
	free(twice.data);
	free(in.data);
}

static void test_zstd_bombs(void **state)
{
	/* A frame that says it holds 2^60 bytes, and is over at once. */
	static const uint8_t large[] = {
		0x28, 0xb5, 0x2f, 0xfd, 0xe0, 0, 0, 0, 0, 0, 0, 0, 0x10, 1, 0, 0};
	struct fx_bytes in = sample(1);

	assert_true(check(HK_PACK_ZSTD, large, sizeof(large), 1 << 20, in) < 0);
	free(in.data);
}

static void test_unknown(void **state)
{
	static const struct {
		const char *bytes;
		size_t len;
		enum hk_pack pack;
		const char *text;
	} cases[] = {
		{"", 0, HK_PACK_NONE, "compressed with an unknown format, which hako cannot read"},
		{"\x1f", 1, HK_PACK_NONE,
			"compressed with an unknown format, which hako cannot read"},
		{"BZh9", 4, HK_PACK_BZIP2, "compressed with bzip2, which hako cannot read"},
		{"\x89LZO", 4, HK_PACK_LZO, "compressed with lzo, which hako cannot read"},
	};

	for (size_t i = 0; i < HK_ARRAY_SIZE(cases); i++) {
		struct hk_err err = HK_ERR_INIT;
		void *out;
		size_t len;

		assert_int_equal(hk_pack_detect(cases[i].bytes, cases[i].len), cases[i].pack);
		assert_int_equal(hk_unpack(cases[i].pack, cases[i].bytes, cases[i].len, 100, &out,
					 &len, &err),
			-ENOTSUP);
		assert_string_equal(hk_err_text(&err), cases[i].text);
	}
}

static void test_no_memory(void **state)
{
	struct fx_bytes in = sample(300000);

	for (size_t i = 0; i < HK_ARRAY_SIZE(packs); i++) {
		struct fx_bytes packed = fx_pack(packs[i], in);

		for (uint64_t nth = 1;; nth++) {
			int r;

			hk_fault_arm(HK_FAULT_ALLOC, nth);
			r = check(packs[i], packed.data, packed.len, 1 << 20, in);
			if (!hk_fault_fired()) {
				assert_true(nth > 1);
				assert_int_equal(r, 0);
				break;
			}
			assert_int_equal(r, -ENOMEM);
		}
		hk_fault_arm(0, 0);
		free(packed.data);
	}
	free(in.data);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_round_trip),
		cmocka_unit_test(test_limit),
		cmocka_unit_test(test_cut_short),
		cmocka_unit_test(test_damaged),
		cmocka_unit_test(test_trailing_bytes),
		cmocka_unit_test(test_lz4_blocks),
		cmocka_unit_test(test_zstd_bombs),
		cmocka_unit_test(test_unknown),
		cmocka_unit_test(test_no_memory),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
