/* SPDX-License-Identifier: ISC */
/* The snapshot stream: round trips, and readers of streams that somebody made up. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/bytes.h"
#include "base/fault.h"
#include "base/state.h"

struct sample {
	uint8_t a;
	uint16_t b;
	uint32_t c;
	uint64_t d;
	char bytes[5];
	char blob[7];
	size_t blob_len;
	uint32_t inner;
	uint8_t tail;
};

static const struct sample sample = {
	0x12, 0x3456, 0x789abcde, 0x0123456789abcdef, "byte", "a blob", 6, 42, 0xee};

static void write_sample(struct hk_writer *w)
{
	size_t outer = hk_writer_begin(w, "outer", 3);
	size_t inner;

	hk_write_u8(w, sample.a);
	hk_write_u16(w, sample.b);
	hk_write_u32(w, sample.c);
	inner = hk_writer_begin(w, "in", 1);
	hk_write_u32(w, sample.inner);
	hk_writer_end(w, inner);
	hk_write_u64(w, sample.d);
	hk_write_bytes(w, sample.bytes, sizeof(sample.bytes));
	hk_write_blob(w, sample.blob, sample.blob_len);
	hk_writer_end(w, outer);
	hk_write_u8(w, sample.tail);
}

static void read_sample(struct hk_reader *r, struct sample *s)
{
	struct hk_section outer = hk_reader_begin(r, "outer", 3);
	struct hk_section inner;
	const void *blob;

	s->a = hk_read_u8(r);
	s->b = hk_read_u16(r);
	s->c = hk_read_u32(r);
	inner = hk_reader_begin(r, "in", 9);
	s->inner = hk_read_u32(r);
	hk_reader_end(r, inner);
	s->d = hk_read_u64(r);
	hk_read_bytes(r, s->bytes, sizeof(s->bytes));
	blob = hk_read_blob(r, &s->blob_len);
	if (s->blob_len <= sizeof(s->blob) && blob != NULL) {
		memcpy(s->blob, blob, s->blob_len);
	}
	hk_reader_end(r, outer);
	s->tail = hk_read_u8(r);
}

/* In a block of exactly its size, so that ASan sees a read beyond. */
static uint8_t *exact_copy(const void *data, size_t len)
{
	uint8_t *copy = malloc(len > 0 ? len : 1);

	assert_non_null(copy);
	memcpy(copy, data, len);
	return copy;
}

static void test_round_trip(void **state)
{
	struct hk_writer w = {0};
	struct hk_reader r;
	struct sample got = {0};

	write_sample(&w);
	assert_int_equal(w.error, 0);
	hk_reader_init(&r, w.data, w.len);
	read_sample(&r, &got);
	assert_int_equal(hk_reader_status(&r, NULL), 0);
	assert_int_equal(r.pos, w.len);
	assert_int_equal(got.a, sample.a);
	assert_int_equal(got.b, sample.b);
	assert_int_equal(got.c, sample.c);
	assert_int_equal(got.d, sample.d);
	assert_int_equal(got.inner, sample.inner);
	assert_int_equal(got.tail, sample.tail);
	assert_int_equal(got.blob_len, sample.blob_len);
	assert_string_equal(got.bytes, sample.bytes);
	assert_string_equal(got.blob, sample.blob);
	hk_writer_finish(&w);
	assert_null(w.data);
	hk_writer_finish(&w);
}

/* The layout is a promise to files that are on disks. */
static void test_layout(void **state)
{
	static const uint8_t expected[] = {
		2, 0, 'a', 'b',          /* name */
		4, 3, 2, 1,              /* version */
		10, 0, 0, 0, 0, 0, 0, 0, /* length */
		0x34, 0x12,              /* u16 */
		0, 0, 0, 0, 0, 0, 0, 0,  /* empty blob */
	};
	struct hk_writer w = {0};
	size_t mark = hk_writer_begin(&w, "ab", 0x01020304);

	hk_write_u16(&w, 0x1234);
	hk_write_blob(&w, NULL, 0);
	hk_write_bytes(&w, NULL, 0);
	hk_writer_end(&w, mark);
	assert_int_equal(w.len, sizeof(expected));
	assert_memory_equal(w.data, expected, sizeof(expected));
	hk_writer_finish(&w);
}

static void test_empty_blob_is_not_a_failure(void **state)
{
	struct hk_writer w = {0};
	struct hk_reader r;
	size_t len = 9;

	hk_write_blob(&w, NULL, 0);
	hk_reader_init(&r, w.data, w.len);
	assert_non_null(hk_read_blob(&r, &len));
	assert_int_equal(len, 0);
	assert_int_equal(hk_reader_status(&r, NULL), 0);
	hk_writer_finish(&w);
}

static void test_rest_of_a_section_is_skipped(void **state)
{
	struct hk_writer w = {0};
	struct hk_reader r;
	struct hk_section section;
	size_t mark = hk_writer_begin(&w, "dev", 1);
	size_t inner;

	hk_write_u8(&w, 1);
	hk_write_u64(&w, 2); /* what an older reader does not know */
	inner = hk_writer_begin(&w, "unknown", 8);
	hk_write_u64(&w, 3);
	hk_writer_end(&w, inner);
	hk_writer_end(&w, mark);
	mark = hk_writer_begin(&w, "next", 0);
	hk_writer_end(&w, mark);

	hk_reader_init(&r, w.data, w.len);
	section = hk_reader_begin(&r, "dev", 1);
	assert_int_equal(section.version, 1);
	assert_int_equal(hk_read_u8(&r), 1);
	hk_reader_end(&r, section);
	section = hk_reader_begin(&r, "next", 5);
	assert_int_equal(section.version, 0);
	hk_reader_end(&r, section);
	assert_int_equal(hk_reader_status(&r, NULL), 0);
	assert_int_equal(r.pos, r.end);
	hk_writer_finish(&w);
}

static void test_reading_stops_at_the_section(void **state)
{
	struct hk_writer w = {0};
	struct hk_reader r;
	struct hk_err err = HK_ERR_INIT;
	size_t mark = hk_writer_begin(&w, "short", 1);
	uint8_t bytes[4] = {1, 2, 3, 4};

	hk_write_u16(&w, 0xffff);
	hk_writer_end(&w, mark);
	hk_write_u64(&w, UINT64_MAX); /* is there, but not ours */

	hk_reader_init(&r, w.data, w.len);
	hk_reader_begin(&r, "short", 1);
	assert_int_equal(hk_read_u32(&r), 0);
	assert_int_equal(r.error, -EPROTO);
	/* Sticky: not even what would have fitted. */
	assert_int_equal(hk_read_u8(&r), 0);
	hk_read_bytes(&r, bytes, sizeof(bytes));
	assert_memory_equal(bytes, "\0\0\0\0", 4);
	assert_int_equal(hk_reader_status(&r, &err), -EPROTO);
	assert_non_null(strstr(hk_err_text(&err), "'short'"));
	hk_writer_finish(&w);
}

/* After an inner section has ended, a failure is the outer one's. */
static void test_failure_names_the_section_it_is_in(void **state)
{
	struct hk_writer w = {0};
	struct hk_reader r;
	struct hk_err err = HK_ERR_INIT;
	struct hk_section inner;
	size_t mark = hk_writer_begin(&w, "machine", 1);

	hk_writer_end(&w, hk_writer_begin(&w, "cpu", 1));
	hk_writer_end(&w, mark);

	hk_reader_init(&r, w.data, w.len);
	hk_reader_begin(&r, "machine", 1);
	inner = hk_reader_begin(&r, "cpu", 1);
	hk_reader_end(&r, inner);
	hk_reader_fail(&r);
	assert_int_equal(hk_reader_status(&r, &err), -EPROTO);
	assert_string_equal(r.what, "machine");
	assert_non_null(strstr(hk_err_text(&err), "'machine'"));
	hk_reader_fail(&r); /* twice is fine */

	hk_reader_init(&r, w.data, w.len);
	hk_reader_fail(&r);
	assert_string_equal(r.what, "");
	assert_int_equal(hk_reader_status(&r, &err), -EPROTO);
	assert_null(strstr(hk_err_text(&err), "''"));
	hk_writer_finish(&w);
}

static void test_other_section(void **state)
{
	struct hk_writer w = {0};
	struct hk_reader r;
	struct hk_err err = HK_ERR_INIT;
	struct hk_section section;

	hk_writer_end(&w, hk_writer_begin(&w, "evil\n\x1b[2J", 1));
	hk_reader_init(&r, w.data, w.len);
	section = hk_reader_begin(&r, "blk", 1);
	assert_int_equal(section.version, 0);
	hk_reader_end(&r, section);
	assert_int_equal(hk_reader_status(&r, &err), -ENOMSG);
	assert_string_equal(
		hk_err_text(&err), "state: section 'blk' expected, 'evil\\n\\x1b[2J' found");
	/* Prefixes are other names too. */
	hk_reader_init(&r, w.data, w.len);
	hk_reader_begin(&r, "evi", 1);
	assert_int_equal(r.error, -ENOMSG);
	hk_writer_finish(&w);
}

static void test_newer_version(void **state)
{
	struct hk_writer w = {0};
	struct hk_reader r;
	struct hk_err err = HK_ERR_INIT;

	hk_writer_end(&w, hk_writer_begin(&w, "blk", 2));
	hk_reader_init(&r, w.data, w.len);
	hk_reader_begin(&r, "blk", 1);
	assert_int_equal(hk_reader_status(&r, &err), -ENOTSUP);
	assert_non_null(strstr(hk_err_text(&err), "'blk'"));
	/* The first failure stays. */
	hk_reader_fail(&r);
	hk_reader_begin(&r, "net", 1);
	assert_int_equal(hk_reader_status(&r, NULL), -ENOTSUP);
	hk_writer_finish(&w);
}

static void test_long_names_are_cut_in_errors(void **state)
{
	struct hk_writer w = {0};
	struct hk_reader r;
	char *name = malloc(65536);

	assert_non_null(name);
	memset(name, 'n', 65535);
	name[65535] = '\0';
	hk_writer_end(&w, hk_writer_begin(&w, name, 1));
	hk_reader_init(&r, w.data, w.len);
	hk_reader_begin(&r, name, 0);
	assert_int_equal(r.error, -ENOTSUP);
	assert_int_equal(strlen(r.what), sizeof(r.what) - 1);
	hk_reader_init(&r, w.data, w.len);
	hk_reader_begin(&r, "n", 0);
	assert_int_equal(r.error, -ENOMSG);
	assert_int_equal(strlen(r.found), sizeof(r.found) - 1);
	free(name);
	hk_writer_finish(&w);
}

static void test_every_truncation_fails(void **state)
{
	struct hk_writer w = {0};

	write_sample(&w);
	for (size_t len = 0; len < w.len; len++) {
		uint8_t *data = exact_copy(w.data, len);
		struct sample got = {0};
		struct hk_reader r;

		hk_reader_init(&r, data, len);
		read_sample(&r, &got);
		assert_int_equal(hk_reader_status(&r, NULL), -EPROTO);
		free(data);
	}
	hk_writer_finish(&w);
}

/* Whatever a byte is changed to: no read outside, and a window that stays inside. */
static void test_every_changed_byte_is_survived(void **state)
{
	static const uint8_t values[] = {0x00, 0x01, 0x7f, 0x80, 0xff};
	struct hk_writer w = {0};

	write_sample(&w);
	for (size_t i = 0; i < w.len; i++) {
		for (size_t k = 0; k < sizeof(values); k++) {
			uint8_t *data = exact_copy(w.data, w.len);
			struct sample got = {0};
			struct hk_reader r;

			data[i] = values[k];
			hk_reader_init(&r, data, w.len);
			read_sample(&r, &got);
			assert_true(r.pos <= r.end && r.end <= w.len);
			free(data);
		}
	}
	hk_writer_finish(&w);
}

static void test_huge_section_lengths(void **state)
{
	static const uint64_t lengths[] = {
		1, 0x7fffffff, 0xffffffff, INT64_MAX, UINT64_MAX - 20, UINT64_MAX};

	for (size_t i = 0; i < sizeof(lengths) / sizeof(lengths[0]); i++) {
		struct hk_writer w = {0};
		struct hk_reader r;
		struct hk_section section;
		size_t mark = hk_writer_begin(&w, "x", 1);

		hk_store_le64(w.data + mark - 8, lengths[i]);
		hk_reader_init(&r, w.data, w.len);
		section = hk_reader_begin(&r, "x", 1);
		assert_int_equal(r.error, -EPROTO);
		assert_string_equal(r.what, "x");
		assert_true(section.end <= w.len);
		hk_writer_finish(&w);
	}
}

/* An inner section may not reach out of the outer one, even where the stream goes on. */
static void test_inner_section_longer_than_outer(void **state)
{
	struct hk_writer w = {0};
	struct hk_reader r;
	size_t outer = hk_writer_begin(&w, "o", 1);
	size_t inner = hk_writer_begin(&w, "i", 1);

	hk_writer_end(&w, inner);
	hk_writer_end(&w, outer);
	hk_write_u64(&w, 0);
	hk_store_le64(w.data + inner - 8, 1);
	hk_reader_init(&r, w.data, w.len);
	hk_reader_begin(&r, "o", 1);
	hk_reader_begin(&r, "i", 1);
	assert_int_equal(r.error, -EPROTO);
	hk_writer_finish(&w);
}

static void test_huge_blob_lengths(void **state)
{
	static const uint64_t lengths[] = {5, 0x100000004, INT64_MAX, UINT64_MAX - 7, UINT64_MAX};

	for (size_t i = 0; i < sizeof(lengths) / sizeof(lengths[0]); i++) {
		struct hk_writer w = {0};
		struct hk_reader r;
		size_t len = 99;
		size_t mark = hk_writer_begin(&w, "x", 1);

		hk_write_u64(&w, lengths[i]);
		hk_write_u32(&w, 0);
		hk_writer_end(&w, mark);
		hk_write_u64(&w, 0); /* outside of the section */
		hk_reader_init(&r, w.data, w.len);
		hk_reader_begin(&r, "x", 1);
		assert_null(hk_read_blob(&r, &len));
		assert_int_equal(len, 0);
		assert_int_equal(r.error, -EPROTO);
		hk_writer_finish(&w);
	}
}

static void test_hostile_name_lengths(void **state)
{
	static const uint8_t too_long[] = {0xff, 0xff, 'x', 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0};
	static const uint8_t none[] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0};
	struct hk_reader r;

	hk_reader_init(&r, too_long, sizeof(too_long));
	hk_reader_begin(&r, "x", 1);
	assert_int_equal(r.error, -EPROTO);
	hk_reader_init(&r, none, sizeof(none));
	hk_reader_begin(&r, "x", 1);
	assert_int_equal(r.error, -ENOMSG);
}

static void test_no_stream_at_all(void **state)
{
	struct hk_reader r;
	struct hk_section section;
	size_t len = 1;
	char c = 'c';

	hk_reader_init(&r, NULL, 0);
	hk_read_bytes(&r, &c, 0);
	assert_int_equal(r.error, 0);
	section = hk_reader_begin(&r, "x", 1);
	hk_reader_end(&r, section);
	assert_int_equal(r.error, -EPROTO);
	assert_null(hk_read_blob(&r, &len));
	assert_int_equal(len, 0);
	hk_read_bytes(&r, &c, 1);
	assert_int_equal(c, 0);
}

static void test_deep_nesting(void **state)
{
	enum { DEPTH = 2000 };
	static size_t marks[DEPTH];
	static struct hk_section sections[DEPTH];
	struct hk_writer w = {0};
	struct hk_reader r;

	for (int i = 0; i < DEPTH; i++) {
		marks[i] = hk_writer_begin(&w, "n", (uint32_t)i);
	}
	hk_write_u8(&w, 0x5a);
	for (int i = DEPTH - 1; i >= 0; i--) {
		hk_writer_end(&w, marks[i]);
	}
	hk_reader_init(&r, w.data, w.len);
	for (int i = 0; i < DEPTH; i++) {
		sections[i] = hk_reader_begin(&r, "n", DEPTH);
		assert_int_equal(sections[i].version, i);
	}
	assert_int_equal(hk_read_u8(&r), 0x5a);
	for (int i = DEPTH - 1; i >= 0; i--) {
		hk_reader_end(&r, sections[i]);
	}
	assert_int_equal(hk_reader_status(&r, NULL), 0);
	assert_int_equal(r.pos, w.len);
	hk_writer_finish(&w);
}

static void test_absurd_write(void **state)
{
	volatile size_t absurd = SIZE_MAX - 1;
	struct hk_writer w = {0};

	hk_write_u8(&w, 1);
	hk_write_bytes(&w, "x", absurd);
	assert_int_equal(w.error, -ENOMEM);
	assert_int_equal(w.len, 1);
	hk_writer_finish(&w);
}

static void test_every_allocation_fails(void **state)
{
#ifdef HK_WITH_FAULT
	static const uint8_t page[1000];

	for (uint64_t n = 1;; n++) {
		struct hk_writer w = {0};
		size_t mark;

		hk_fault_arm(HK_FAULT_ALLOC, n);
		mark = hk_writer_begin(&w, "big", 1);
		for (int i = 0; i < 20; i++) {
			hk_write_bytes(&w, page, sizeof(page));
			write_sample(&w);
		}
		hk_writer_end(&w, mark);
		if (!hk_fault_fired()) {
			assert_true(n > 3);
			assert_int_equal(w.error, 0);
			hk_writer_finish(&w);
			break;
		}
		assert_int_equal(w.error, -ENOMEM);
		hk_writer_finish(&w);
	}
	hk_fault_arm(0, 0);
#else
	skip();
#endif
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_round_trip),
		cmocka_unit_test(test_layout),
		cmocka_unit_test(test_empty_blob_is_not_a_failure),
		cmocka_unit_test(test_rest_of_a_section_is_skipped),
		cmocka_unit_test(test_reading_stops_at_the_section),
		cmocka_unit_test(test_failure_names_the_section_it_is_in),
		cmocka_unit_test(test_other_section),
		cmocka_unit_test(test_newer_version),
		cmocka_unit_test(test_long_names_are_cut_in_errors),
		cmocka_unit_test(test_every_truncation_fails),
		cmocka_unit_test(test_every_changed_byte_is_survived),
		cmocka_unit_test(test_huge_section_lengths),
		cmocka_unit_test(test_inner_section_longer_than_outer),
		cmocka_unit_test(test_huge_blob_lengths),
		cmocka_unit_test(test_hostile_name_lengths),
		cmocka_unit_test(test_no_stream_at_all),
		cmocka_unit_test(test_deep_nesting),
		cmocka_unit_test(test_absurd_write),
		cmocka_unit_test(test_every_allocation_fails),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
