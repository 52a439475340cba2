/* SPDX-License-Identifier: ISC */
/* The command line of `hako trace`, from tables. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/util.h"
#include "cli/trace_options.h"

enum { WORDS = 10 };

static int parse(struct hk_trace_options *options, const char *const words[], struct hk_err *err)
{
	return hk_trace_options_parse(options, (char **)words, err);
}

static void test_all_of_them(void **state)
{
	static const char *const words[] = {"trace", "--policy", "rules", "--strict", "--ask=sh",
		"--cow", "--keep", "name", "--log", "l", "--report=r.html", "--learn", "p", "--net",
		"off", "--minimal-dev", "--timeout", "1m", "--verbose", "-v", "/usr/bin/../..",
		"-v/tmp:rw", "--", "make", "--strict", "--", NULL};
	struct hk_trace_options options = {0};
	struct hk_err err = HK_ERR_INIT;
	char *cwd = getcwd(NULL, 0);

	assert_int_equal(parse(&options, words, &err), 0);
	assert_string_equal(options.watch.policy, "rules");
	assert_string_equal(options.watch.ask, "sh");
	assert_string_equal(options.keep, "name");
	assert_string_equal(options.watch.log, "l");
	assert_string_equal(options.watch.report, "r.html");
	assert_string_equal(options.watch.learn, "p");
	assert_true(options.watch.strict && options.cow && options.no_net && options.minimal_dev &&
		options.verbose && !options.help);
	assert_true(options.timeout_ns == 60 * HK_NS_PER_SEC);
	assert_int_equal(options.view_count, 2);
	assert_string_equal(options.views[0].path, "/");
	assert_int_equal(options.views[0].verdict, HK_VERDICT_DENY);
	assert_string_equal(options.views[1].path, "/tmp");
	assert_int_equal(options.views[1].verdict, HK_VERDICT_ALLOW);
	assert_string_equal(options.cwd, cwd);
	/* What is behind the command is its own. */
	assert_string_equal(options.argv[0], "make");
	assert_string_equal(options.argv[1], "--strict");
	assert_string_equal(options.argv[2], "--");
	assert_null(options.argv[3]);
	hk_trace_options_finish(&options);
	free(cwd);
}

static void test_defaults(void **state)
{
	static const char *const words[] = {"trace", "true", "-p", NULL};
	struct hk_trace_options options = {0};
	struct hk_err err = HK_ERR_INIT;

	assert_int_equal(parse(&options, words, &err), 0);
	assert_string_equal(options.argv[0], "true");
	assert_string_equal(options.argv[1], "-p");
	assert_null(options.watch.policy);
	assert_null(options.keep);
	assert_int_equal(options.view_count, 0);
	assert_true(options.timeout_ns == 0);
	assert_false(options.cow || options.watch.strict || options.no_net || options.minimal_dev ||
		options.verbose);
	hk_trace_options_finish(&options);
}

static void test_summary(void **state)
{
	static const struct {
		const char *words[6];
		enum hk_summary summary;
	} rows[] = {
		{{"trace", "true", NULL}, HK_SUMMARY_ALWAYS},
		{{"trace", "--cow", "true", NULL}, HK_SUMMARY_ALWAYS},
		{{"trace", "--cow", "--keep", "t", "true", NULL}, HK_SUMMARY_IF_DENIED},
		{{"trace", "--policy", "p", "true", NULL}, HK_SUMMARY_IF_DENIED},
		{{"trace", "--fusebox-acl", "p", "true", NULL}, HK_SUMMARY_IF_DENIED},
		{{"trace", "--log", "l", "true", NULL}, HK_SUMMARY_IF_DENIED},
		{{"trace", "--report", "r", "true", NULL}, HK_SUMMARY_IF_DENIED},
		{{"trace", "--learn", "p", "true", NULL}, HK_SUMMARY_IF_DENIED},
		{{"trace", "--verbose", "--log=l", "true", NULL}, HK_SUMMARY_ALWAYS},
		{{"trace", "-q", "true", NULL}, HK_SUMMARY_NEVER},
		{{"trace", "-q", "--policy", "p", "true", NULL}, HK_SUMMARY_NEVER},
	};

	for (size_t i = 0; i < HK_ARRAY_SIZE(rows); i++) {
		struct hk_trace_options options = {0};
		struct hk_err err = HK_ERR_INIT;

		assert_int_equal(parse(&options, rows[i].words, &err), 0);
		assert_int_equal(options.summary, rows[i].summary);
		hk_trace_options_finish(&options);
	}
}

static void test_views(void **state)
{
	static const struct {
		const char *value;
		enum hk_verdict verdict;
	} rows[] = {
		{"/tmp", HK_VERDICT_DENY},
		{"/tmp:ro", HK_VERDICT_DENY},
		{"/tmp:rw", HK_VERDICT_ALLOW},
		{"/tmp:cow", HK_VERDICT_COW},
		{"/tmp/.//", HK_VERDICT_DENY},
	};

	for (size_t i = 0; i < HK_ARRAY_SIZE(rows); i++) {
		const char *const words[] = {"trace", "-v", rows[i].value, "true", NULL};
		struct hk_trace_options options = {0};
		struct hk_err err = HK_ERR_INIT;

		assert_int_equal(parse(&options, words, &err), 0);
		assert_int_equal(options.view_count, 1);
		assert_string_equal(options.views[0].path, "/tmp");
		assert_int_equal(options.views[0].verdict, rows[i].verdict);
		hk_trace_options_finish(&options);
	}
}

static void test_too_many_views(void **state)
{
	const char *words[2 * (HK_TRACE_MAX_VIEWS + 1) + 3] = {"trace"};
	struct hk_trace_options options = {0};
	struct hk_err err = HK_ERR_INIT;
	size_t count = 1;

	for (unsigned i = 0; i <= HK_TRACE_MAX_VIEWS; i++) {
		words[count++] = "-v";
		words[count++] = "/tmp";
	}
	words[count++] = "true";
	assert_int_equal(parse(&options, words, &err), -EINVAL);
	assert_non_null(strstr(hk_err_text(&err), "-v"));
	hk_trace_options_finish(&options);
}

static void test_what_is_wrong(void **state)
{
	static const struct {
		const char *words[WORDS];
		const char *says;
		bool hints;
	} rows[] = {
		{{"trace"}, "no command", true},
		{{"trace", "--"}, "no command", true},
		{{"trace", "--cow"}, "no command", true},
		{{"trace", "--bogus", "true"}, "--bogus", true},
		{{"trace", "-x", "true"}, "-x", true},
		{{"trace", "--policy"}, "--policy", true},
		{{"trace", "--cow=yes", "true"}, "takes no value", true},
		{{"trace", "--net", "maybe", "true"}, "--net maybe", true},
		{{"trace", "--timeout", "soon", "true"}, "--timeout soon", true},
		{{"trace", "--timeout", "0", "true"}, "--timeout 0", true},
		{{"trace", "--policy", "a", "--fusebox-acl", "b", "true"}, "one policy", true},
		{{"trace", "--keep", "a", "true"}, "without --cow", true},
		{{"trace", "-v", "/nosuch/dir", "true"}, "No such file", false},
		{{"trace", "-v", "", "true"}, "-v", false},
		{{"trace", "-v", ":rw", "true"}, "-v", false},
	};

	for (size_t i = 0; i < HK_ARRAY_SIZE(rows); i++) {
		struct hk_trace_options options = {0};
		struct hk_err err = HK_ERR_INIT;

		assert_true(parse(&options, rows[i].words, &err) < 0);
		if (strstr(hk_err_text(&err), rows[i].says) == NULL) {
			fail_msg("row %zu: '%s'", i, hk_err_text(&err));
		}
		if (rows[i].hints) {
			assert_string_not_equal(err.hint, "");
		}
		hk_trace_options_finish(&options);
	}
}

/* Help asks for nothing else to be right. */
static void test_help(void **state)
{
	static const char *const words[] = {"trace", "-h", NULL};
	struct hk_trace_options options = {0};
	struct hk_err err = HK_ERR_INIT;

	assert_int_equal(parse(&options, words, &err), 0);
	assert_true(options.help);
	hk_trace_options_finish(&options);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_all_of_them),
		cmocka_unit_test(test_defaults),
		cmocka_unit_test(test_summary),
		cmocka_unit_test(test_views),
		cmocka_unit_test(test_too_many_views),
		cmocka_unit_test(test_what_is_wrong),
		cmocka_unit_test(test_help),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
