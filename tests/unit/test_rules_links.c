/* SPDX-License-Identifier: ISC */
/* Rules whose paths run through symbolic links: tests/unit of rules_links.c, with real ones. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "base/util.h"
#include "fuse/rules_file_linux.h"
#include "rules_fixture.h"

enum { PATH_BYTES = 256 };

static char base[PATH_BYTES] =
	"/tmp/hako-links-XXXXXX"; /* real/dir, real/file, link -> real, last -> real/file */

static const char *in_base(char buf[PATH_BYTES], const char *name)
{
	hk_fmt(buf, PATH_BYTES, "%s/%s", base, name);
	return buf;
}

static int setup(void **state)
{
	char path[PATH_BYTES];
	char *real;

	(void)state;
	if (mkdtemp(base) == NULL || (real = realpath(base, NULL)) == NULL) {
		return -1;
	}
	hk_fmt(base, sizeof(base), "%s", real);
	free(real);
	return mkdir(in_base(path, "real"), 0755) < 0 ||
			mkdir(in_base(path, "real/dir"), 0755) < 0 ||
			symlink("real", in_base(path, "link")) < 0 ||
			symlink("real/dir", in_base(path, "last")) < 0 ||
			setenv("HOME", in_base(path, "link"), 1) < 0 || setenv("BASE", base, 1) < 0
		? -1
		: 0;
}

static int teardown(void **state)
{
	static const char *const names[] = {"policy", "link", "last", NULL};
	static const char *const dirs[] = {"real/dir", "real", "", NULL};
	char path[PATH_BYTES];

	(void)state;
	for (const char *const *name = names; *name != NULL; name++) {
		unlink(in_base(path, *name));
	}
	for (const char *const *dir = dirs; *dir != NULL; dir++) {
		rmdir(in_base(path, *dir));
	}
	return 0;
}

static struct hk_rules *load(const char *text, bool elsewhere)
{
	struct hk_rules_user user = {.elsewhere = elsewhere};
	struct hk_rules_files files = {0};
	struct hk_rules *rules = NULL;
	struct hk_err err = HK_ERR_INIT;
	char path[PATH_BYTES];
	FILE *file = fopen(in_base(path, "policy"), "we");

	assert_non_null(file);
	fputs(text, file);
	fclose(file);
	if (hk_rules_load(path, &user, &files, &rules, &err) != 0) {
		fail_msg("%s", hk_err_text(&err));
	}
	hk_rules_files_finish(&files);
	return rules;
}

static enum hk_verdict at(struct hk_rules *rules, const char *name, enum hk_class class)
{
	char path[PATH_BYTES];

	return rules_ruling(rules, in_base(path, name), class).verdict;
}

static void test_what_limits_is_followed(void **state)
{
	struct hk_rules *rules = load("deny write $BASE/link/**\n"
				      "hide * $BASE/link/*.key\n"
				      "ask exec $BASE/link/not/there/yet\n"
				      "cow create $BASE/none/../link/dir\n"
				      "deny delete $BASE/last\n",
		false);

	(void)state;
	assert_int_equal(at(rules, "real", HK_CLASS_WRITE), HK_VERDICT_DENY);
	assert_int_equal(at(rules, "real/dir/deep", HK_CLASS_WRITE), HK_VERDICT_DENY);
	assert_int_equal(at(rules, "link/a", HK_CLASS_WRITE), HK_VERDICT_DENY);
	assert_int_equal(at(rules, "real/a.key", HK_CLASS_READ), HK_VERDICT_HIDE);
	assert_int_equal(at(rules, "real/dir/a.key", HK_CLASS_READ), HK_VERDICT_ALLOW);
	assert_int_equal(at(rules, "real/not/there/yet", HK_CLASS_EXEC), HK_VERDICT_ASK);
	assert_int_equal(at(rules, "real/dir", HK_CLASS_CREATE), HK_VERDICT_COW);
	assert_int_equal(at(rules, "real/dir", HK_CLASS_DELETE), HK_VERDICT_DENY);
	assert_int_equal(at(rules, "last", HK_CLASS_DELETE), HK_VERDICT_DENY);
	hk_rules_free(rules);
}

/* A link that a program placed must not open anything. */
static void test_what_allows_is_not(void **state)
{
	struct hk_rules *rules = load("deny write $BASE/**\nallow write $BASE/link/**\n", false);

	(void)state;
	assert_int_equal(at(rules, "link/a", HK_CLASS_WRITE), HK_VERDICT_ALLOW);
	assert_int_equal(at(rules, "real/a", HK_CLASS_WRITE), HK_VERDICT_DENY);
	hk_rules_free(rules);
}

static void test_home_is_real(void **state)
{
	struct hk_rules *rules =
		load("deny * $BASE/**\nallow * $HOME/**\nhide * $HOME/.ssh/**\n", false);

	(void)state;
	assert_int_equal(at(rules, "real/a", HK_CLASS_READ), HK_VERDICT_ALLOW);
	assert_int_equal(at(rules, "real/.ssh/key", HK_CLASS_READ), HK_VERDICT_HIDE);
	assert_int_equal(at(rules, "other", HK_CLASS_READ), HK_VERDICT_DENY);
	hk_rules_free(rules);
}

static void test_redirects(void **state)
{
	struct hk_rules *rules = load("redirect * $BASE/link/a => /other\n"
				      "redirect * $BASE/last => /other\n",
		false);

	(void)state;
	assert_int_equal(at(rules, "real/a", HK_CLASS_READ), HK_VERDICT_REDIRECT);
	assert_int_equal(at(rules, "last", HK_CLASS_READ), HK_VERDICT_REDIRECT);
	/* The link is redirected, not what it leads to. */
	assert_int_equal(at(rules, "real/dir", HK_CLASS_READ), HK_VERDICT_ALLOW);
	hk_rules_free(rules);
}

/* A box's paths are none of ours. */
static void test_elsewhere(void **state)
{
	struct hk_rules *rules = load("deny write $BASE/link/**\nhide * $HOME/x\n", true);

	(void)state;
	assert_int_equal(at(rules, "link/a", HK_CLASS_WRITE), HK_VERDICT_DENY);
	assert_int_equal(at(rules, "link/x", HK_CLASS_READ), HK_VERDICT_HIDE);
	assert_int_equal(at(rules, "real/a", HK_CLASS_WRITE), HK_VERDICT_ALLOW);
	hk_rules_free(rules);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_what_limits_is_followed),
		cmocka_unit_test(test_what_allows_is_not),
		cmocka_unit_test(test_home_is_real),
		cmocka_unit_test(test_redirects),
		cmocka_unit_test(test_elsewhere),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
