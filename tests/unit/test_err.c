/* SPDX-License-Identifier: ISC */
/* Errors with context: order, overflow, and that the cause survives whatever is put before it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/err.h"

static void test_cause_and_context(void **state)
{
	struct hk_err err = HK_ERR_INIT;

	assert_int_equal(hk_fail(&err, EACCES, "open"), -EACCES);
	assert_string_equal(hk_err_text(&err), "open: Permission denied");
	assert_int_equal(hk_err_ctx(&err, "disk '%s'", "a.img"), -EACCES);
	assert_int_equal(hk_err_ctx(&err, "box %d", 7), -EACCES);
	assert_string_equal(hk_err_text(&err), "box 7: disk 'a.img': open: Permission denied");
	assert_int_equal(err.code, EACCES);
}

static void test_message_without_reason(void **state)
{
	struct hk_err err = HK_ERR_INIT;

	assert_int_equal(hk_fail_msg(&err, EINVAL, "%d is odd", 3), -EINVAL);
	assert_string_equal(hk_err_text(&err), "3 is odd");
}

static void test_unknown_code(void **state)
{
	struct hk_err err = HK_ERR_INIT;

	assert_int_equal(hk_fail(&err, 12345, "x"), -12345);
	assert_string_equal(hk_err_text(&err), "x: Unknown error 12345");
}

static void test_null_and_empty(void **state)
{
	struct hk_err zero = {0};
	struct hk_err err = HK_ERR_INIT;

	assert_int_equal(hk_fail(NULL, ENOENT, "x"), -ENOENT);
	assert_int_equal(hk_fail_msg(NULL, ENOENT, "x"), -ENOENT);
	assert_int_equal(hk_err_ctx(NULL, "x"), -EIO);
	assert_int_equal(hk_err_hint(NULL, "x"), -EIO);
	assert_string_equal(hk_err_text(&err), "");
	assert_int_equal(hk_err_ctx(&err, "x"), -EIO);
	assert_string_equal(hk_err_text(&err), "");
	/* All zero is as good as HK_ERR_INIT. */
	assert_string_equal(hk_err_text(&zero), "");
	hk_err_ctx(&zero, "x");
	hk_fail(&zero, ENOENT, "open");
	assert_string_equal(hk_err_text(&zero), "open: No such file or directory");
}

static void test_innermost_hint_stays(void **state)
{
	struct hk_err err = HK_ERR_INIT;

	hk_fail(&err, ENODEV, "kvm");
	assert_string_equal(err.hint, "");
	assert_int_equal(hk_err_hint(&err, "use %s", "--soft"), -ENODEV);
	assert_int_equal(hk_err_hint(&err, "outer"), -ENODEV);
	assert_string_equal(err.hint, "use --soft");
}

static void test_new_cause_replaces_all(void **state)
{
	struct hk_err err = HK_ERR_INIT;

	hk_fail(&err, ENODEV, "a long text that must go");
	hk_err_ctx(&err, "context");
	hk_err_hint(&err, "hint");
	hk_fail_msg(&err, EPERM, "b");
	assert_string_equal(hk_err_text(&err), "b");
	assert_string_equal(err.hint, "");
	assert_int_equal(err.code, EPERM);
}

static void test_long_hint_is_cut(void **state)
{
	struct hk_err err = HK_ERR_INIT;

	hk_fail_msg(&err, EPERM, "b");
	hk_err_hint(&err, "%0*d", 2000, 0);
	assert_int_equal(strlen(err.hint), HK_ERR_HINT_SIZE - 1);
	assert_string_equal(hk_err_text(&err), "b");
}

/* One context of every length around the point where it stops fitting. */
static void test_overflow_by_one_context(void **state)
{
	static const char cause[] = "open: Permission denied";
	const size_t room = HK_ERR_TEXT_SIZE - 1;

	for (size_t len = 0; len < 2 * HK_ERR_TEXT_SIZE; len++) {
		struct hk_err err = HK_ERR_INIT;
		const char *text;

		hk_fail(&err, EACCES, "open");
		assert_int_equal(hk_err_ctx(&err, "%0*d", (int)len, 7), -EACCES);
		text = hk_err_text(&err);
		assert_string_equal(text + strlen(text) - strlen(cause), cause);
		/* "7" at least, ": ", and the cause */
		if ((len > 0 ? len : 1) + 2 + strlen(cause) <= room) {
			assert_int_equal(strlen(text), (len > 0 ? len : 1) + 2 + strlen(cause));
			assert_int_not_equal(text[0], '.');
		} else {
			assert_int_equal(strlen(text), room);
			assert_memory_equal(text, "...", 3);
			/* What is kept of the context is its end, as far as one was formatted. */
			if (len <= room) {
				assert_memory_equal(
					text + strlen(text) - strlen(cause) - 4, "07: ", 4);
			}
		}
	}
}

static void test_overflow_by_many_contexts(void **state)
{
	static const char end[] = "ctx 1: ctx 0: open: Permission denied";
	struct hk_err err = HK_ERR_INIT;
	const char *text;

	hk_fail(&err, EACCES, "open");
	for (int i = 0; i < 1000; i++) {
		assert_int_equal(hk_err_ctx(&err, "ctx %d", i), -EACCES);
		text = hk_err_text(&err);
		assert_in_range(
			strlen(text), strlen(end) - strlen("ctx 1: "), HK_ERR_TEXT_SIZE - 1);
	}
	text = hk_err_text(&err);
	assert_memory_equal(text, "...", 3);
	assert_string_equal(text + strlen(text) - strlen(end), end);
}

static void test_overflow_by_cause(void **state)
{
	struct hk_err err = HK_ERR_INIT;
	const char *text;

	hk_fail(&err, EACCES, "%0*d", 5000, 0);
	text = hk_err_text(&err);
	assert_int_equal(strlen(text), HK_ERR_TEXT_SIZE - 1);
	assert_memory_equal(text, "...0", 4);
	assert_non_null(strstr(text, "0: Permission denied"));
	hk_err_ctx(&err, "more");
	assert_string_equal(hk_err_text(&err), text);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_cause_and_context),
		cmocka_unit_test(test_message_without_reason),
		cmocka_unit_test(test_unknown_code),
		cmocka_unit_test(test_null_and_empty),
		cmocka_unit_test(test_innermost_hint_stays),
		cmocka_unit_test(test_new_cause_replaces_all),
		cmocka_unit_test(test_long_hint_is_cut),
		cmocka_unit_test(test_overflow_by_one_context),
		cmocka_unit_test(test_overflow_by_many_contexts),
		cmocka_unit_test(test_overflow_by_cause),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
