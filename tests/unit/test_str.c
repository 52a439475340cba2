/* SPDX-License-Identifier: ISC */
/* Strings: truncation, growth, every failed allocation, escapes, numbers. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/fault.h"
#include "base/str.h"
#include "base/util.h"

static void test_fmt(void **state)
{
	char buf[8];

	assert_int_equal(hk_fmt(buf, sizeof(buf), "%s", "1234567"), 7);
	assert_string_equal(buf, "1234567");
	assert_int_equal(hk_fmt(buf, sizeof(buf), "%s", "12345678"), -ENAMETOOLONG);
	assert_string_equal(buf, "1234567");
	assert_int_equal(hk_fmt(buf, 1, "%s", "x"), -ENAMETOOLONG);
	assert_string_equal(buf, "");
	assert_int_equal(hk_fmt(buf, 1, "%s", ""), 0);
}

static void test_ends_with(void **state)
{
	assert_true(hk_str_ends_with("vfat.ko.xz", ".ko.xz"));
	assert_true(hk_str_ends_with(".ko", ".ko"));
	assert_true(hk_str_ends_with("text", ""));
	assert_false(hk_str_ends_with("vfat.ko.xz", ".ko"));
	assert_false(hk_str_ends_with("o", ".ko"));
	assert_false(hk_str_ends_with("", ".ko"));
}

static void test_path_within(void **state)
{
	static const struct {
		const char *path, *dir, *rest;
	} rows[] = {
		{"/usr", "/usr", ""},
		{"/usr/lib", "/usr", "/lib"},
		{"/usr2", "/usr", NULL},
		{"/us", "/usr", NULL},
		{"/", "/usr", NULL},
		{"", "/usr", NULL},
		{"/usr/lib", "/", "/usr/lib"},
		{"/", "/", "/"},
		{"usr/lib", "", "usr/lib"},
		{"usr/lib", "usr", "/lib"},
		{"usr/lib", "u", NULL},
		{"", "", ""},
	};

	for (size_t i = 0; i < HK_ARRAY_SIZE(rows); i++) {
		const char *rest = hk_path_within(rows[i].path, rows[i].dir);

		if (rows[i].rest == NULL) {
			assert_null(rest);
		} else {
			assert_string_equal(rest, rows[i].rest);
		}
	}
}

static void test_str_grows(void **state)
{
	struct hk_str s = {0};
	char *text = NULL;

	assert_string_equal(hk_str_text(&s), "");
	for (int i = 0; i < 1000; i++) {
		hk_str_add(&s, "ab");
		hk_str_add_bytes(&s, "cde", 2);
		hk_str_addf(&s, "%d", i % 10);
		assert_int_equal(s.len, (size_t)(i + 1) * 5);
		assert_int_equal(strlen(hk_str_text(&s)), s.len);
	}
	assert_memory_equal(hk_str_text(&s) + s.len - 10, "abcd8abcd9", 10);
	assert_int_equal(hk_str_take(&s, &text), 0);
	assert_int_equal(strlen(text), 5000);
	assert_null(s.data);
	assert_string_equal(hk_str_text(&s), "");
	free(text);
	hk_str_finish(&s);
}

static void test_str_of_nothing(void **state)
{
	struct hk_str s = {0};
	char *text = NULL;

	hk_str_add(&s, "");
	hk_str_add_bytes(&s, NULL, 0);
	hk_str_addf(&s, "%s", "");
	assert_null(s.data);
	assert_int_equal(hk_str_take(&s, &text), 0);
	assert_non_null(text);
	assert_string_equal(text, "");
	free(text);
	hk_str_finish(&s);
	hk_str_finish(&s);
}

static void test_str_keeps_nul_bytes(void **state)
{
	struct hk_str s = {0};

	hk_str_add_bytes(&s, "a\0b", 3);
	assert_int_equal(s.len, 3);
	assert_memory_equal(hk_str_text(&s), "a\0b", 4);
	hk_str_finish(&s);
}

/* Each length around the sizes at which the buffer grows; ASan sees a byte too much. */
static void test_str_sizes(void **state)
{
	for (size_t len = 0; len < 300; len++) {
		struct hk_str s = {0};

		hk_str_addf(&s, "%*s", (int)len, "");
		assert_int_equal(s.len, len);
		hk_str_add(&s, "x");
		assert_int_equal(strlen(hk_str_text(&s)), len + 1);
		hk_str_finish(&s);
	}
}

static void test_str_absurd_length(void **state)
{
	volatile size_t absurd = SIZE_MAX - 2;
	struct hk_str s = {0};
	char *text = NULL;

	hk_str_add(&s, "x");
	hk_str_add_bytes(&s, "y", absurd);
	assert_true(s.failed);
	assert_string_equal(hk_str_text(&s), "x");
	assert_int_equal(hk_str_take(&s, &text), -ENOMEM);
	hk_str_finish(&s);
	assert_false(s.failed);
}

#ifdef HK_WITH_FAULT
static int build_string(char **ret_text)
{
	struct hk_str s = {0};
	int r;

	for (int i = 0; i < 50; i++) {
		hk_str_add(&s, "0123456789");
		hk_str_addf(&s, "%s", "0123456789");
		hk_str_add_bytes(&s, "0123456789", 10);
	}
	r = hk_str_take(&s, ret_text);
	hk_str_finish(&s);
	return r;
}

static void test_str_every_allocation_fails(void **state)
{
	for (uint64_t n = 1;; n++) {
		char *text = NULL;
		int r;

		hk_fault_arm(HK_FAULT_ALLOC, n);
		r = build_string(&text);
		if (!hk_fault_fired()) {
			assert_true(n > 3); /* it did grow a few times */
			assert_int_equal(r, 0);
			assert_int_equal(strlen(text), 1500);
			free(text);
			break;
		}
		assert_int_equal(r, -ENOMEM);
		assert_null(text);
	}
	hk_fault_arm(0, 0);
}

static void test_empty_take_can_fail(void **state)
{
	struct hk_str s = {0};
	char *text = NULL;

	hk_fault_arm(HK_FAULT_ALLOC, 1);
	assert_int_equal(hk_str_take(&s, &text), -ENOMEM);
	hk_fault_arm(0, 0);
	assert_null(text);
	hk_str_finish(&s);
}
#endif

static void test_escape(void **state)
{
#define CASE(in, out) \
	{ \
		in, sizeof(in) - 1, out \
	}
	static const struct {
		const char *in;
		size_t len;
		const char *out;
	} cases[] = {
		CASE("", ""),
		CASE("plain ~", "plain ~"),
		CASE("a\nb\tc", "a\\nb\\tc"),
		CASE("\r\x1b[31m\x07", "\\x0d\\x1b[31m\\x07"),
		CASE("a\0b", "a\\x00b"),
		CASE("\x7f", "\\x7f"),
		CASE("back\\slash", "back\\x5cslash"),
		CASE("ä€😀", "ä€😀"),
		CASE("\xc2\x9b"
		     "31m",
			"\\xc2\\x9b31m"), /* C1 CSI */
		CASE("\xc2\x80\xc2\x9f\xc2\xa0", "\\xc2\\x80\\xc2\\x9f\xc2\xa0"),
		CASE("\x80\xbf", "\\x80\\xbf"),                   /* continuation alone */
		CASE("\xc0\xaf\xc1\xbf", "\\xc0\\xaf\\xc1\\xbf"), /* overlong */
		CASE("\xe0\x9f\xbf", "\\xe0\\x9f\\xbf"),          /* overlong */
		CASE("\xf0\x8f\xbf\xbf", "\\xf0\\x8f\\xbf\\xbf"), /* overlong */
		CASE("\xe0\xa0\x80", "\xe0\xa0\x80"),
		CASE("\xf0\x90\x80\x80", "\xf0\x90\x80\x80"),
		CASE("\xed\xa0\x80", "\\xed\\xa0\\x80"), /* surrogate */
		CASE("\xed\x9f\xbf\xee\x80\x80", "\xed\x9f\xbf\xee\x80\x80"),
		CASE("\xf4\x8f\xbf\xbf", "\xf4\x8f\xbf\xbf"),
		CASE("\xf4\x90\x80\x80", "\\xf4\\x90\\x80\\x80"), /* over U+10FFFF */
		CASE("\xf5\x80\x80\x80\xff", "\\xf5\\x80\\x80\\x80\\xff"),
		CASE("\xc3", "\\xc3"), /* cut short */
		CASE("\xe2\x82", "\\xe2\\x82"),
		CASE("\xf0\x9f\x98", "\\xf0\\x9f\\x98"),
		CASE("\xe2\x82x", "\\xe2\\x82x"),
		CASE("\xf0\x9f\x98\xc3\xa4", "\\xf0\\x9f\\x98ä"),
	};
#undef CASE

	for (size_t i = 0; i < HK_ARRAY_SIZE(cases); i++) {
		char out[64];
		/* Exactly sized, so that ASan sees a read beyond. */
		char *in = malloc(cases[i].len + 1);

		assert_non_null(in);
		memcpy(in + 1, cases[i].in, cases[i].len);
		assert_int_equal(hk_str_escape(out, sizeof(out), in + 1, cases[i].len),
			strlen(cases[i].out));
		assert_string_equal(out, cases[i].out);
		free(in);
	}
}

/* No byte of any value can put a control byte or half a character on the terminal. */
static void test_escape_all_pairs(void **state)
{
	for (unsigned i = 0; i < 0x10000; i++) {
		const uint8_t in[2] = {(uint8_t)(i >> 8), (uint8_t)i};
		char out[16];
		size_t n = hk_str_escape(out, sizeof(out), in, sizeof(in));

		assert_int_equal(strlen(out), n);
		for (size_t k = 0; k < n; k++) {
			uint8_t c = (uint8_t)out[k];

			assert_true(c >= ' ' && c != 0x7f);
			if (c >= 0x80) { /* only a whole two-byte character remains */
				assert_int_equal(n, 2);
				assert_memory_equal(out, in, 2);
				assert_in_range(in[0], 0xc2, 0xdf);
				assert_true(in[0] > 0xc2 || in[1] >= 0xa0);
			}
		}
	}
}

static void test_escape_cuts_before_a_unit(void **state)
{
	static const char in[] = "ab\x01€c";
	static const char *const out[] = {"", "", "a", "ab", "ab", "ab", "ab", "ab\\x01", "ab\\x01",
		"ab\\x01", "ab\\x01€", "ab\\x01€c", "ab\\x01€c"};

	for (size_t size = 0; size < HK_ARRAY_SIZE(out); size++) {
		char *buf = malloc(size + 1);

		assert_non_null(buf);
		buf[size] = '!';
		assert_int_equal(hk_str_escape(buf, size, in, sizeof(in) - 1), strlen(out[size]));
		assert_int_equal(buf[size], '!');
		if (size > 0) {
			assert_string_equal(buf, out[size]);
		}
		free(buf);
	}
}

static void test_parse_size(void **state)
{
	static const uint64_t untouched = 0xabcdef;
	static const struct {
		const char *text;
		int result;
		uint64_t bytes;
	} cases[] = {
		{"0", 0, 0},
		{"1", 0, 1},
		{"65536", 0, 65536},
		{"007", 0, 7},
		{"1K", 0, 1024},
		{"1k", 0, 1024},
		{"64KiB", 0, 65536},
		{"64kB", 0, 65536},
		{"512M", 0, 512 * HK_MIB},
		{"512m", 0, 512 * HK_MIB},
		{"2G", 0, 2 * HK_GIB},
		{"2GiB", 0, 2 * HK_GIB},
		{"3TB", 0, 3 * 1024 * HK_GIB},
		{"8388607T", 0, UINT64_C(8388607) << 40},
		{"8388608T", 0, UINT64_C(1) << 63},
		{"8388609T", -ERANGE, 0},
		{"9223372036854775808", 0, UINT64_C(1) << 63},
		{"9223372036854775809", -ERANGE, 0},
		{"18446744073709551615", -ERANGE, 0},
		{"18446744073709551616", -ERANGE, 0}, /* wraps to 0 */
		{"18446744073709551617K", -ERANGE, 0},
		{"99999999999999999999999999", -ERANGE, 0},
		{"18014398509481984K", -ERANGE, 0}, /* shifts to 0 */
		{"99999999999999999999999999x", -EINVAL, 0},
		{"", -EINVAL, 0},
		{"K", -EINVAL, 0},
		{"B", -EINVAL, 0},
		{"-1", -EINVAL, 0},
		{"+1", -EINVAL, 0},
		{" 1", -EINVAL, 0},
		{"1 ", -EINVAL, 0},
		{"1 K", -EINVAL, 0},
		{"1KK", -EINVAL, 0},
		{"1Ki", -EINVAL, 0},
		{"1KiBs", -EINVAL, 0},
		{"1KBi", -EINVAL, 0},
		{"1P", -EINVAL, 0},
		{"1B", -EINVAL, 0},
		{"1iB", -EINVAL, 0},
		{"1.5G", -EINVAL, 0},
		{"0x10", -EINVAL, 0},
		{"1e3", -EINVAL, 0},
		{"1\xc3\xa4", -EINVAL, 0},
	};

	for (size_t i = 0; i < HK_ARRAY_SIZE(cases); i++) {
		uint64_t bytes = untouched;
		int r = hk_parse_size(cases[i].text, &bytes);

		if (r != cases[i].result || bytes != (r == 0 ? cases[i].bytes : untouched)) {
			fail_msg("'%s' gave %d, %llu", cases[i].text, r, (unsigned long long)bytes);
		}
	}
}

static void test_parse_uint(void **state)
{
	static const struct {
		const char *text;
		uint64_t min, max;
		int result;
		uint64_t value;
	} cases[] = {
		{"0", 0, 0, 0, 0},
		{"18446744073709551615", 0, UINT64_MAX, 0, UINT64_MAX},
		{"18446744073709551616", 0, UINT64_MAX, -ERANGE, 0},
		{"18446744073709551620", 0, UINT64_MAX, -ERANGE, 0}, /* wraps to 4 */
		{"184467440737095516150", 0, UINT64_MAX, -ERANGE, 0},
		{"1", 2, 4, -ERANGE, 0},
		{"2", 2, 4, 0, 2},
		{"4", 2, 4, 0, 4},
		{"5", 2, 4, -ERANGE, 0},
		{"", 0, 9, -EINVAL, 0},
		{"-1", 0, UINT64_MAX, -EINVAL, 0},
		{"+1", 0, 9, -EINVAL, 0},
		{" 1", 0, 9, -EINVAL, 0},
		{"1 ", 0, 9, -EINVAL, 0},
		{"1k", 0, 9999, -EINVAL, 0},
		{"18446744073709551616x", 0, 9, -EINVAL, 0},
		{"0x1", 0, 9, -EINVAL, 0},
	};

	for (size_t i = 0; i < HK_ARRAY_SIZE(cases); i++) {
		uint64_t value = 77;
		int r = hk_parse_uint(cases[i].text, cases[i].min, cases[i].max, &value);

		if (r != cases[i].result || value != (r == 0 ? cases[i].value : 77)) {
			fail_msg("'%s' gave %d, %llu", cases[i].text, r, (unsigned long long)value);
		}
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_fmt),
		cmocka_unit_test(test_ends_with),
		cmocka_unit_test(test_path_within),
		cmocka_unit_test(test_str_grows),
		cmocka_unit_test(test_str_of_nothing),
		cmocka_unit_test(test_str_keeps_nul_bytes),
		cmocka_unit_test(test_str_sizes),
		cmocka_unit_test(test_str_absurd_length),
#ifdef HK_WITH_FAULT
		cmocka_unit_test(test_str_every_allocation_fails),
		cmocka_unit_test(test_empty_take_can_fail),
#endif
		cmocka_unit_test(test_escape),
		cmocka_unit_test(test_escape_all_pairs),
		cmocka_unit_test(test_escape_cuts_before_a_unit),
		cmocka_unit_test(test_parse_size),
		cmocka_unit_test(test_parse_uint),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
