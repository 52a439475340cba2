/* SPDX-License-Identifier: ISC */
/* The end of a guest's console, and denials. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/str.h"
#include "base/util.h"
#include "box/denials.h"
#include "box/tail.h"

static void add(struct hk_tail *tail, const char *text)
{
	hk_tail_write(tail, (const uint8_t *)text, strlen(text));
}

static void expect(struct hk_tail *tail, unsigned back, const char *expected)
{
	char line[128];

	assert_true(hk_tail_line(tail, back, line, sizeof(line)));
	assert_string_equal(line, expected);
}

static void test_lines(void **state)
{
	struct hk_tail tail;
	char line[128];

	hk_tail_init(&tail);
	assert_false(hk_tail_line(&tail, 0, line, sizeof(line)));
	add(&tail, "one\r\n\r\n\ntwo\033[2J\n");
	expect(&tail, 0, "two\\x1b[2J");
	expect(&tail, 1, "one");
	assert_false(hk_tail_line(&tail, 2, line, sizeof(line)));
	add(&tail, "unfinished");
	expect(&tail, 0, "unfinished");
	expect(&tail, 2, "one");
	assert_true(hk_tail_find(&tail, "ne", line, sizeof(line)));
	assert_string_equal(line, "ne");
	assert_false(hk_tail_find(&tail, "three", line, sizeof(line)));
	hk_tail_finish(&tail);
}

static void test_wraps(void **state)
{
	struct hk_tail tail;
	char line[128];
	unsigned back = 0;

	hk_tail_init(&tail);
	for (unsigned i = 0; i < 10000; i++) {
		hk_fmt(line, sizeof(line), "line %05u\n", i);
		add(&tail, line);
	}
	while (hk_tail_line(&tail, back, line, sizeof(line))) {
		back++;
	}
	assert_in_range(back, HK_TAIL_SIZE / 11, HK_TAIL_SIZE / 11 + 1);
	expect(&tail, 0, "line 09999");
	expect(&tail, 1000, "line 08999");
	hk_tail_finish(&tail);
}

/* One line longer than everything that is kept. */
static void test_endless_line(void **state)
{
	struct hk_tail tail;
	char line[128];

	hk_tail_init(&tail);
	for (unsigned i = 0; i < 3 * HK_TAIL_SIZE; i++) {
		add(&tail, "x");
	}
	assert_true(hk_tail_line(&tail, 0, line, sizeof(line)));
	assert_int_equal(strlen(line), sizeof(line) - 1);
	assert_false(hk_tail_line(&tail, 1, line, sizeof(line)));
	assert_false(hk_tail_take_line(&tail, line, sizeof(line)));
	hk_tail_finish(&tail);
}

static void test_take(void **state)
{
	struct hk_tail tail;
	char line[128];

	hk_tail_init(&tail);
	add(&tail, "a\nb");
	assert_true(hk_tail_take_line(&tail, line, sizeof(line)));
	assert_string_equal(line, "a");
	assert_false(hk_tail_take_line(&tail, line, sizeof(line)));
	add(&tail, "c\n\n");
	assert_true(hk_tail_take_line(&tail, line, sizeof(line)));
	assert_string_equal(line, "bc");
	assert_true(hk_tail_take_line(&tail, line, sizeof(line)));
	assert_string_equal(line, "");
	assert_false(hk_tail_take_line(&tail, line, sizeof(line)));
	hk_tail_finish(&tail);
}

static void test_denials(void **state)
{
	static const struct hk_share shares[] = {
		{"/home/me/src", "/src", false},
		{"/data", "/data", false},
		{"/rw", "/rw", true},
	};
	static const struct {
		struct hk_fuse_denial denial;
		const char *line; /* NULL: not kept */
	} rows[] = {
		{{"v0", "x", "write", EROFS},
			"write /src/x: /src is shared read-only; allow it with -v "
			"/home/me/src:/src:rw"},
		{{"v0", "x", "write", EROFS}, NULL},
		{{"usr", "bin", "write", EROFS}, NULL},
		{{NULL, "bin", "write", EROFS}, NULL},
		{{"v1", "/a\nb", "create", EROFS},
			"create /data/a\\nb: /data is shared read-only; allow it with -v /data:rw"},
		{{"v1", NULL, "write", EROFS},
			"write /data: /data is shared read-only; allow it with -v /data:rw"},
		{{"v2", "secret", "read", EACCES},
			"read /rw/secret: the host refused it to you: Permission denied"},
	};
	struct hk_box_config config = {.shares = shares, .share_count = HK_ARRAY_SIZE(shares)};
	struct hk_layout layout = {.config = &config};
	struct hk_denials denials;
	unsigned kept = 0;
	char line[512];

	hk_denials_init(&denials, NULL);
	for (size_t i = 0; i < HK_ARRAY_SIZE(rows); i++) {
		denials.owner.denied(&denials.owner, &rows[i].denial);
		if (rows[i].line != NULL) {
			assert_true(hk_denials_line(&denials, &layout, kept, line, sizeof(line)));
			assert_string_equal(line, rows[i].line);
			kept++;
		}
		assert_false(hk_denials_line(&denials, &layout, kept, line, sizeof(line)));
	}
	for (unsigned i = 0; i < 1000; i++) {
		char path[16];
		struct hk_fuse_denial more = {"v0", path, "write", EROFS};

		hk_fmt(path, sizeof(path), "%u", i);
		denials.owner.denied(&denials.owner, &more);
	}
	assert_true(hk_denials_line(&denials, &layout, HK_DENIALS_MAX - 1, line, sizeof(line)));
	assert_false(hk_denials_line(&denials, &layout, HK_DENIALS_MAX, line, sizeof(line)));
	assert_int_equal(hk_denials_total(&denials), 1000 + kept);
	hk_denials_finish(&denials);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_lines),
		cmocka_unit_test(test_wraps),
		cmocka_unit_test(test_endless_line),
		cmocka_unit_test(test_take),
		cmocka_unit_test(test_denials),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
