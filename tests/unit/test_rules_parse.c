/* SPDX-License-Identifier: ISC */
/* The policy language: what patterns match, what is an error, and where; and Fusebox's commands. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/str.h"
#include "base/util.h"
#include "fuse/rules.h"
#include "rules_fixture.h"

/* What matches */

static void test_patterns(void **state)
{
	static const struct {
		const char *pattern;
		const char *matched[6], *missed[6];
	} cases[] = {
		{"/", {"/"}, {"/a"}},
		{"/a", {"/a"}, {"/", "/a/b", "/ab", "/b"}},
		{"/a/b", {"/a/b"}, {"/a", "/b", "/a/b/c"}},
		{"/**", {"/", "/a", "/a/b/c"}, {0}},
		{"/a/**", {"/a", "/a/b", "/a/b/c"}, {"/", "/ab", "/b/a"}},
		{"/a/*", {"/a/b", "/a/.b"}, {"/a", "/a/b/c"}},
		{"/a/*/**", {"/a/b", "/a/b/c"}, {"/a"}},
		{"/**/a", {"/a", "/b/a", "/b/c/a", "/a/a"}, {"/", "/a/b"}},
		{"/a/**/b", {"/a/b", "/a/x/b", "/a/b/b", "/a/x/y/b"}, {"/a", "/b", "/a/b/x"}},
		{"/**/a/**", {"/a", "/x/a", "/x/a/y", "/a/a/a"}, {"/", "/x", "/x/y"}},
		{"/**/**", {"/", "/a/b"}, {0}},
		{"/**/*.c", {"/x.c", "/a/.c"}, {"/x.h", "/x.c/d"}},
		{"/a*", {"/a", "/abc"}, {"/ba", "/"}},
		{"/?", {"/a", "/\xc3\xa9", "/\xff"}, {"/ab", "/\xc3\xa9\xc3\xa9"}},
		{"/[a-c]", {"/a", "/c"}, {"/d", "/ab"}},
		{"/[!a-c]", {"/d", "/\xc3\xa9"}, {"/a"}},
		{"/[^a]", {"/d"}, {"/a"}},
		{"/[]]", {"/]"}, {"/[", "/[]]"}},
		{"/[a-]", {"/a", "/-"}, {"/b"}},
		{"/[\\]a]", {"/]", "/a"}, {"/\\"}},
		{"/[\xc3\xa0-\xc3\xbf]", {"/\xc3\xa9"}, {"/e", "/\xc3"}},
		{"/a]", {"/a]"}, {"/a"}},
		{"/a b", {"/a b"}, {"/a"}},
		{"/a\\ /b", {"/a /b"}, {"/a"}},
		{"/a  b  # why", {"/a  b"}, {"/a", "/a  b  # why"}},
		{"/a#b", {"/a#b"}, {"/a"}},
		{"/a \\#b", {"/a #b"}, {"/a"}},
		{"\"/a #b\"/*", {"/a #b/c"}, {"/a"}},
		{"/\\*", {"/*"}, {"/a"}},
		{"\"/*\"", {"/*"}, {"/a"}},
		{"/\"*\"*", {"/*", "/*a"}, {"/a"}},
		{"/\\x41\\xff\\n\\t\\ ", {"/A\xff\n\t "}, {"/A"}},
		{"//a///b", {"/a/b"}, {"/a"}},
		{"/./a/.", {"/a"}, {"/"}},
		{"/a/../b", {"/b"}, {"/a", "/a/b"}},
		{"/a/b/../../c/**", {"/c", "/c/d"}, {"/a"}},
		{"$HOME/x", {"/home/me/x"}, {"/x"}},
		{"${HOME}x", {"/home/mex"}, {"/home/me"}},
		{"$PWD/../*", {"/home/me/y"}, {"/home/me"}},
		{"/run/$UID", {"/run/1000"}, {"/run"}},
		{"$_x1/y", {"/x/y"}, {"/x"}},
		{"$STARS/*", {"/a*[b]?/**/c"}, {"/ab/x/c"}},
		{"$SLASH", {"/s"}, {"/s/t"}},
		{"$SLASH/**", {"/s", "/s/t"}, {"/"}},
		{"\"$HOME\"", {"/home/me"}, {"/$HOME"}},
		{"/\\$HOME", {"/$HOME"}, {"/home/me"}},
	};

	for (size_t i = 0; i < HK_ARRAY_SIZE(cases); i++) {
		char text[256];
		struct hk_rules *rules;

		assert_true(hk_fmt(text, sizeof(text), "deny read %s", cases[i].pattern) > 0);
		rules = rules_parse(text);
		for (size_t k = 0; k < 6 && cases[i].matched[k] != NULL; k++) {
			if (rules_ruling(rules, cases[i].matched[k], HK_CLASS_READ).rule != 1) {
				fail_msg("%s misses %s", cases[i].pattern, cases[i].matched[k]);
			}
		}
		for (size_t k = 0; k < 6 && cases[i].missed[k] != NULL; k++) {
			if (rules_ruling(rules, cases[i].missed[k], HK_CLASS_READ).rule != 0) {
				fail_msg("%s matches %s", cases[i].pattern, cases[i].missed[k]);
			}
		}
		hk_rules_free(rules);
	}
}

static void test_texts_and_targets(void **state)
{
	struct hk_rules *rules = rules_parse("# first\n"
					     "  deny read /a b   # why\n"
					     "include two\n"
					     "redirect * /etc/x => $HOME/my x # here\n");

	assert_string_equal(hk_rules_text(rules, 1), "p:2: deny read /a b");
	assert_string_equal(hk_rules_text(rules, 2), "one:1: deny read /one");
	assert_string_equal(hk_rules_text(rules, 3), "two:2: deny read /two");
	assert_string_equal(hk_rules_text(rules, 4), "p:4: redirect * /etc/x => $HOME/my x");
	assert_null(hk_rules_text(rules, 0));
	assert_null(hk_rules_text(rules, 6));
	assert_string_equal(hk_rules_target(rules, 4), "/home/me/my x");
	assert_null(hk_rules_target(rules, 1));
	assert_null(hk_rules_target(rules, 0));
	assert_true(hk_rules_any(rules, HK_VERDICT_REDIRECT));
	assert_true(hk_rules_any(rules, HK_VERDICT_DENY));
	assert_false(hk_rules_any(rules, HK_VERDICT_HIDE));
	assert_int_equal(rules_ruling(rules, "/etc/x", HK_CLASS_LIST).rule, 4);
	hk_rules_free(rules);
}

/* Errors */

static void test_errors(void **state)
{
	static const struct {
		const char *text, *message;
		int code;
	} cases[] = {
		{"deyn read /x",
			"p:1:1: 'deyn' is not a verdict: expected allow, deny, hide, cow, ask "
			"or redirect, or include",
			EINVAL},
		{"\n\n  deny raed /x",
			"p:3:8: 'raed' is not a class of operations: expected read, "
			"write, create, delete, exec, metadata, link or list, with "
			"commas between them, or *",
			EINVAL},
		{"deny read,wirte /x",
			"p:1:11: 'wirte' is not a class of operations: expected read, "
			"write, create, delete, exec, metadata, link or list, with "
			"commas between them, or *",
			EINVAL},
		{"deny read, write /x",
			"p:1:11: '' is not a class of operations: expected read, "
			"write, create, delete, exec, metadata, link or list, with "
			"commas between them, or *",
			EINVAL},
		{"deny", "p:1:5: classes of operations expected, such as read,write, or * for all",
			EINVAL},
		{"deny /x",
			"p:1:6: classes of operations expected, such as read,write, or * for all",
			EINVAL},
		{"deny # read",
			"p:1:6: classes of operations expected, such as read,write, or * for "
			"all",
			EINVAL},
		{"deny read", "p:1:10: a pattern of paths expected", EINVAL},
		{"deny read # x", "p:1:11: a pattern of paths expected", EINVAL},
		{"deny read \"\"", "p:1:11: a pattern of paths expected, not an empty one", EINVAL},
		{"deny read src/**",
			"p:1:11: the pattern 'src/**' is relative: it has to begin with "
			"'/', or a variable such as $PWD/",
			EINVAL},
		{"deny read ~/x",
			"p:1:11: the pattern '~/x' is relative: it has to begin with '/', or "
			"a variable such as $PWD/",
			EINVAL},
		{"deny read $RELATIVE/x",
			"p:1:11: the pattern '$RELATIVE/x' is relative: it has to "
			"begin with '/', or a variable such as $PWD/",
			EINVAL},
		{"deny read /x/",
			"p:1:13: the pattern ends with '/': leave it out for the directory "
			"itself, write '/**' for all that is in it, too",
			EINVAL},
		{"deny read /a**b",
			"p:1:13: '**' stands alone between slashes: write '*' for any part "
			"of a name",
			EINVAL},
		{"deny read /***",
			"p:1:12: '**' stands alone between slashes: write '*' for any part "
			"of a name",
			EINVAL},
		{"deny read /\xc3\xa9/[a",
			"p:1:14: '[' without its ']' in the same name: write \\[ for "
			"the character",
			EINVAL},
		{"deny read /[a/]",
			"p:1:12: '[' without its ']' in the same name: write \\[ for the "
			"character",
			EINVAL},
		{"deny read /[z-a]", "p:1:13: a range that ends before it begins", EINVAL},
		{"deny read /[[:alpha:]]",
			"p:1:13: classes of characters by name are not known: write "
			"ranges, as in [a-z], or \\[ for the character",
			EINVAL},
		{"deny read /$NOPE/x", "p:1:12: unknown variable $NOPE", EINVAL},
		{"deny read $EMPTY/x",
			"p:1:11: variable $EMPTY is empty: the rule would mean other "
			"files",
			EINVAL},
		{"deny read /$",
			"p:1:12: '$' without a variable's name: write \\$ for the character",
			EINVAL},
		{"deny read /$1",
			"p:1:12: '$' without a variable's name: write \\$ for the character",
			EINVAL},
		{"deny read ${HOME/x", "p:1:17: '}' expected at the end of the variable's name",
			EINVAL},
		{"deny read /a\\",
			"p:1:13: '\\' at the end of the line: a rule is one line; write \\\\ "
			"for the character",
			EINVAL},
		{"deny read /\\d",
			"p:1:12: unknown escape '\\d': there are \\n, \\t, \\xHH, and '\\' "
			"before any mark or blank",
			EINVAL},
		{"deny read /\\x2f",
			"p:1:12: '\\x' without the two digits of a byte that can be in a "
			"name, as in \\xe9",
			EINVAL},
		{"deny read /\\x0",
			"p:1:12: '\\x' without the two digits of a byte that can be in a "
			"name, as in \\xe9",
			EINVAL},
		{"deny read \"/a b",
			"p:1:11: '\"' without another one that ends it: write \\\" for the "
			"character",
			EINVAL},
		{"deny read /a\tb", "p:1:13: a tab in a name: write \\t if it is meant", EINVAL},
		{"deny read /a\x01", "p:1:13: control character \\x01: write it so if it is meant",
			EINVAL},
		{"deny read /a/../../b", "p:1:17: '..' leads out of '/'", EINVAL},
		{"deny read /*/../b", "p:1:14: '..' behind a glob", EINVAL},
		{"deny read /**/../b", "p:1:15: '..' behind a glob", EINVAL},
		{"deny read /a => /b",
			"p:1:14: '=>' in a rule that is no redirect: write \\=> if a name "
			"has it",
			EINVAL},
		{"redirect read /a => /b",
			"p:1:10: a redirect of some classes only: what is written would not be "
			"what is read. Write redirect *, and deny classes by a rule for the target",
			EINVAL},
		{"redirect * /a", "p:1:14: '=> TARGET' expected behind the pattern of a redirect",
			EINVAL},
		{"redirect * /a =>", "p:1:17: the target's path expected", EINVAL},
		{"redirect * /a => b",
			"p:1:18: the target 'b' is relative: it has to begin with '/', "
			"or a variable such as $PWD/",
			EINVAL},
		{"redirect * /a => /b*",
			"p:1:20: '*' in the target, which is one path: write \\* for "
			"the character",
			EINVAL},
		{"redirect * /a => /b => /c", "p:1:20: a second '=>'", EINVAL},
		{"redirect * /a/** => /b",
			"p:1:16: '**' at the end of a redirect: a directory brings "
			"along what is in it, leave '/**' out",
			EINVAL},
		{"deny read /a /b",
			"p:1:13: a blank in front of '/': there is one path on a line; "
			"write '\\ ' if a name ends with it",
			EINVAL},
		{"deny read /a $HOME/b",
			"p:1:13: a blank in front of '/': there is one path on a line; "
			"write '\\ ' if a name ends with it",
			EINVAL},
		{"include", "p:1:8: the name of a file expected", EINVAL},
		{"include *",
			"p:1:9: '*' in the name of a file, which is one path: write \\* for the "
			"character",
			EINVAL},
		{"include gone", "p:1:9: 'gone': No such file or directory", ENOENT},
		{"include bad",
			"p:1: bad:2:6: 'raed' is not a class of operations: expected read, "
			"write, create, delete, exec, metadata, link or list, with commas "
			"between them, or *",
			EINVAL},
		{"include with bad",
			"p:1: with bad:3: bad:2:6: 'raed' is not a class of operations: "
			"expected read, write, create, delete, exec, metadata, link or "
			"list, with commas between them, or *",
			EINVAL},
		{"include self", "p:1: self:1:9: 'self' includes itself", ELOOP},
		{"include a", "p:1: a:1: b:2:11: 'a' includes itself through other files", ELOOP},
	};

	for (size_t i = 0; i < HK_ARRAY_SIZE(cases); i++) {
		struct hk_err err = HK_ERR_INIT;
		struct hk_rules *rules = NULL;
		int r = hk_rules_parse("p", cases[i].text, &rules_env, &rules, &err);

		assert_string_equal(hk_err_text(&err), cases[i].message);
		assert_int_equal(r, -cases[i].code);
		assert_null(rules);
		/* Nobody who wants to know. */
		assert_int_equal(
			hk_rules_parse("p", cases[i].text, &rules_env, &rules, NULL) < 0, true);
	}
}

static void test_includes(void **state)
{
	struct hk_err err = HK_ERR_INIT;
	struct hk_rules *rules = rules_parse("include twice\ninclude none # here\ninclude \"one\"");

	assert_string_equal(hk_rules_text(rules, 3), "one:1: deny read /one");
	assert_null(hk_rules_text(rules, 5));
	hk_rules_free(rules);
	assert_int_equal(hk_rules_parse("p", "include deep0", &rules_env, &rules, &err), -ELOOP);
	assert_non_null(strstr(hk_err_text(&err), "more than 32 files include each other"));
	err = HK_ERR_INIT;
	assert_int_equal(hk_rules_parse("p", "include one", NULL, &rules, &err), -EINVAL);
	assert_string_equal(hk_err_text(&err), "p:1:9: no file can be included here");
	err = HK_ERR_INIT;
	assert_int_equal(hk_rules_parse("p", "deny read $HOME", NULL, &rules, &err), -EINVAL);
	assert_string_equal(hk_err_text(&err), "p:1:11: unknown variable $HOME");
}

/* Forms of paths, and of policies */

static void test_quote_is_read_back(void **state)
{
	struct random random = RANDOM(7);

	for (unsigned round = 0; round < 5000; round++) {
		static const char odd[] = "*?[]!^-\\\"$# =>\t\n\r\x01\x7f\x80\xff\xc3\xa9{}~'/";
		char path[20] = "/x";
		struct hk_str text = {0};
		struct hk_rules *rules;

		for (size_t i = 2; i + 1 < sizeof(path); i++) {
			path[i] = odd[random_next(&random.source, sizeof(odd) - 1)];
		}
		if (path[sizeof(path) - 2] == '/') {
			path[sizeof(path) - 2] = ' ';
		}
		hk_str_add(&text, "deny read ");
		hk_rules_quote(&text, path);
		rules = rules_parse(hk_str_text(&text));
		if (rules_ruling(rules, path, HK_CLASS_READ).rule != 1) {
			fail_msg("%s is not %s", hk_str_text(&text), path);
		}
		hk_rules_free(rules);
		hk_str_finish(&text);
	}
}

static void test_fusebox(void **state)
{
	struct hk_err err = HK_ERR_INIT;
	struct hk_rules *rules = NULL;

	assert_int_equal(hk_rules_parse_fusebox("acl",
				 "allowread /\n"
				 "# Don't remove a next line\n"
				 "CLEARALL\n\n"
				 "allowread /usr\n"
				 "  addwrite /home/me/my *  \n"
				 "addpredict /etc\r\n"
				 "discardwrite /usr/lib\n"
				 "adddeny /usr/secret\n",
				 &rules, &err),
		0);
	assert_int_equal(
		rules_ruling(rules, "/usr/bin/x", HK_CLASS_READ).verdict, HK_VERDICT_ALLOW);
	assert_int_equal(
		rules_ruling(rules, "/usr/bin/x", HK_CLASS_EXEC).verdict, HK_VERDICT_ALLOW);
	assert_int_equal(rules_ruling(rules, "/usrlocal", HK_CLASS_READ).verdict, HK_VERDICT_DENY);
	assert_int_equal(rules_ruling(rules, "/usr", HK_CLASS_READ).verdict, HK_VERDICT_ALLOW);
	assert_int_equal(rules_ruling(rules, "/usr", HK_CLASS_CREATE).verdict, HK_VERDICT_DENY);
	assert_int_equal(
		rules_ruling(rules, "/usr/lib/x", HK_CLASS_CREATE).verdict, HK_VERDICT_COW);
	assert_int_equal(
		rules_ruling(rules, "/usr/secret/x", HK_CLASS_READ).verdict, HK_VERDICT_DENY);
	assert_int_equal(
		rules_ruling(rules, "/home/me/my */x", HK_CLASS_DELETE).verdict, HK_VERDICT_ALLOW);
	assert_int_equal(
		rules_ruling(rules, "/home/me/my x", HK_CLASS_DELETE).verdict, HK_VERDICT_DENY);
	assert_int_equal(rules_ruling(rules, "/nowhere", HK_CLASS_LIST).verdict, HK_VERDICT_ALLOW);
	assert_int_equal(rules_ruling(rules, "/etc/x", HK_CLASS_READ).verdict, HK_VERDICT_ALLOW);
	assert_int_equal(rules_ruling(rules, "/etc/x", HK_CLASS_WRITE).verdict, HK_VERDICT_DENY);
	assert_true(hk_rules_is_quiet(rules, rules_ruling(rules, "/etc/x", HK_CLASS_WRITE).rule));
	assert_false(hk_rules_is_quiet(rules, rules_ruling(rules, "/x", HK_CLASS_WRITE).rule));
	assert_string_equal(
		hk_rules_text(rules, rules_ruling(rules, "/usr/lib/x", HK_CLASS_WRITE).rule),
		"acl:8: discardwrite /usr/lib");
	assert_string_equal(hk_rules_text(rules, 1), "acl: nothing allows it");
	hk_rules_free(rules);
	rules = NULL;
	assert_int_equal(
		hk_rules_parse_fusebox("acl", "clearall\n allow /x", &rules, &err), -EINVAL);
	assert_non_null(strstr(hk_err_text(&err), "acl:2:2: 'allow' is not a command of Fusebox"));
	assert_int_equal(hk_rules_parse_fusebox("acl", "addread x", &rules, &err), -EINVAL);
	assert_string_equal(hk_err_text(&err), "acl:1:9: a path expected that begins with '/'");
	assert_int_equal(hk_rules_parse_fusebox("acl", "addread", &rules, &err), -EINVAL);
	assert_int_equal(hk_rules_parse_fusebox("acl", "clearall /x", &rules, &err), -EINVAL);
	assert_null(rules);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_patterns),
		cmocka_unit_test(test_texts_and_targets),
		cmocka_unit_test(test_errors),
		cmocka_unit_test(test_includes),
		cmocka_unit_test(test_quote_is_read_back),
		cmocka_unit_test(test_fusebox),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
