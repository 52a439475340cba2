/* SPDX-License-Identifier: ISC */
/* The policy language and its automaton: what matches, what is an error, and where; against a plain matcher; in threads. */
#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/fault.h"
#include "base/str.h"
#include "base/util.h"
#include "fuse/rules.h"
#include "fuse/rules_impl.h"
#include "rules_naive.h"

/* An environment out of tables: $HOME, $PWD, ..., and files by name. */

static const struct {
	const char *name, *value;
} variables[] = {
	{"HOME", "/home/me"},
	{"PWD", "/home/me/work"},
	{"UID", "1000"},
	{"EMPTY", ""},
	{"STARS", "/a*[b]?/**"},
	{"SLASH", "/s/"},
	{"RELATIVE", "r"},
	{"_x1", "/x"},
};

static const struct {
	const char *name, *text;
} files[] = {
	{"none", ""},
	{"one", "deny read /one\n"},
	{"two", "include one\ndeny read /two"},
	{"a", "include b\n"},
	{"b", "# b\n  include a\n"},
	{"self", "include self\n"},
	{"bad", "deny read /x\ndeny raed /x\n"},
	{"with bad", "\n\ninclude bad\n"},
	{"twice", "include one\ninclude one\n"},
};

static const char *variable(struct hk_rules_env *env, const char *name)
{
	for (size_t i = 0; i < HK_ARRAY_SIZE(variables); i++) {
		if (strcmp(variables[i].name, name) == 0) {
			return variables[i].value;
		}
	}
	return NULL;
}

/* "deepN" includes "deepN+1", without an end. */
static char *deep_file(const char *path)
{
	struct hk_str text = {0};
	uint64_t n;
	char *ret = NULL;

	if (hk_parse_uint(path + 4, 0, 1000000, &n) < 0) {
		return NULL;
	}
	hk_str_addf(&text, "include deep%u", (unsigned)n + 1);
	assert_int_equal(hk_str_take(&text, &ret), 0);
	return ret;
}

static char *include(struct hk_rules_env *env, const char *from, const char *path, char **ret_name,
	struct hk_err *err)
{
	char *text = strncmp(path, "deep", 4) == 0 ? deep_file(path) : NULL;

	for (size_t i = 0; text == NULL && i < HK_ARRAY_SIZE(files); i++) {
		if (strcmp(files[i].name, path) == 0) {
			text = hk_strdup(files[i].text);
		}
	}
	if (text == NULL) {
		(void)hk_fail(err, ENOENT, "'%s'", path);
		return NULL;
	}
	*ret_name = hk_strdup(path);
	return text;
}

static struct hk_rules_env env = {.variable = variable, .include = include};

static struct hk_rules *parse(const char *text)
{
	struct hk_err err = HK_ERR_INIT;
	struct hk_rules *rules = NULL;

	if (hk_rules_parse("p", text, &env, &rules, &err) < 0) {
		fail_msg("%s: %s", text, hk_err_text(&err));
	}
	return rules;
}

static hk_place walk(struct hk_rules *rules, const char *path)
{
	hk_place place = hk_rules_root(rules);
	char name[256];

	while (*path == '/') {
		size_t len = strcspn(++path, "/");

		assert_true(len < sizeof(name));
		memcpy(name, path, len);
		name[len] = '\0';
		if (len > 0) {
			place = hk_rules_step(rules, place, name);
		}
		path += len;
	}
	return place;
}

static struct hk_ruling rule_at(struct hk_rules *rules, const char *path, enum hk_class class)
{
	return hk_rules_at(rules, walk(rules, path), class);
}

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
		rules = parse(text);
		for (size_t k = 0; k < 6 && cases[i].matched[k] != NULL; k++) {
			if (rule_at(rules, cases[i].matched[k], HK_CLASS_READ).rule != 1) {
				fail_msg("%s misses %s", cases[i].pattern, cases[i].matched[k]);
			}
		}
		for (size_t k = 0; k < 6 && cases[i].missed[k] != NULL; k++) {
			if (rule_at(rules, cases[i].missed[k], HK_CLASS_READ).rule != 0) {
				fail_msg("%s matches %s", cases[i].pattern, cases[i].missed[k]);
			}
		}
		hk_rules_free(rules);
	}
}

static void test_last_match_wins(void **state)
{
	struct hk_rules *rules = parse("deny write,create,delete /**\n"
				       "allow * $PWD/**\n"
				       "hide * $HOME/.ssh/**\n"
				       "ask exec,link /usr/bin/*\r\n"
				       "cow * /var/lib/**\n");
	struct hk_ruling ruling = rule_at(rules, "/home/me/work/x/y", HK_CLASS_WRITE);

	assert_int_equal(ruling.verdict, HK_VERDICT_ALLOW);
	assert_int_equal(ruling.rule, 2);
	ruling = rule_at(rules, "/home/me/other", HK_CLASS_WRITE);
	assert_int_equal(ruling.verdict, HK_VERDICT_DENY);
	assert_int_equal(ruling.rule, 1);
	ruling = rule_at(rules, "/home/me/other", HK_CLASS_READ);
	assert_int_equal(ruling.verdict, HK_VERDICT_ALLOW);
	assert_int_equal(ruling.rule, 0);
	assert_int_equal(rule_at(rules, "/home/me/.ssh", HK_CLASS_LIST).verdict, HK_VERDICT_HIDE);
	assert_int_equal(rule_at(rules, "/usr/bin/cc", HK_CLASS_EXEC).verdict, HK_VERDICT_ASK);
	assert_int_equal(rule_at(rules, "/usr/bin/cc", HK_CLASS_READ).verdict, HK_VERDICT_ALLOW);
	assert_int_equal(rule_at(rules, "/var/lib", HK_CLASS_METADATA).verdict, HK_VERDICT_COW);
	hk_rules_free(rules);
}

static void test_one_rule_is_asked_for_its_text(void **state)
{
	struct hk_rules *rules = parse("# first\n"
				       "  deny read /a b   # why\n"
				       "include two\n"
				       "redirect read,list /etc/x => $HOME/my x # here\n");

	assert_string_equal(hk_rules_text(rules, 1), "p:2: deny read /a b");
	assert_string_equal(hk_rules_text(rules, 2), "one:1: deny read /one");
	assert_string_equal(hk_rules_text(rules, 3), "two:2: deny read /two");
	assert_string_equal(
		hk_rules_text(rules, 4), "p:4: redirect read,list /etc/x => $HOME/my x");
	assert_null(hk_rules_text(rules, 0));
	assert_null(hk_rules_text(rules, 6));
	assert_string_equal(hk_rules_target(rules, 4), "/home/me/my x");
	assert_null(hk_rules_target(rules, 1));
	assert_null(hk_rules_target(rules, 0));
	assert_true(hk_rules_any(rules, HK_VERDICT_REDIRECT));
	assert_true(hk_rules_any(rules, HK_VERDICT_DENY));
	assert_false(hk_rules_any(rules, HK_VERDICT_HIDE));
	assert_int_equal(rule_at(rules, "/etc/x", HK_CLASS_LIST).rule, 4);
	hk_rules_free(rules);
}

static void test_no_rules(void **state)
{
	struct hk_rules *rules = parse("\xef\xbb\xbf\n # nothing\n\n   ");

	assert_true(hk_rules_uniform(rules, hk_rules_root(rules)));
	assert_false(hk_rules_may_hide(rules, hk_rules_root(rules)));
	assert_int_equal(rule_at(rules, "/a/b", HK_CLASS_READ).rule, 0);
	assert_int_equal(hk_rules_place_count(rules), 2);
	hk_rules_free(rules);
}

static void test_uniform(void **state)
{
	static const struct {
		const char *text, *path;
		bool is_uniform;
	} cases[] = {
		{"deny read /**", "", true},
		{"deny read /a", "", false},
		{"deny read /a", "/a", true},
		{"deny read /a", "/b", true},
		{"deny read /a/*", "/a", false},
		{"deny read /a/*", "/a/x", true},
		{"deny read /a/**", "/a", true},
		{"deny read /**/x", "/a/b", false},
		/* What a later rule covers is not looked at any more... */
		{"deny read /**/x\nallow * /a/**", "/a", true},
		{"deny read /**/x\nallow * /a/**", "/b", false},
		/* ... for its classes, and if it is later. */
		{"deny read,write /**/x\nallow read /a/**", "/a", false},
		{"allow * /a/**\ndeny read /**/x", "/a", false},
		{"hide * /a/.ssh/**\nallow * /a/**", "/a", true},
		{"deny read /\nallow read /b", "", false},
	};

	for (size_t i = 0; i < HK_ARRAY_SIZE(cases); i++) {
		struct hk_rules *rules = parse(cases[i].text);

		if (hk_rules_uniform(rules, walk(rules, cases[i].path)) != cases[i].is_uniform) {
			fail_msg("%s, at '%s'", cases[i].text, cases[i].path);
		}
		hk_rules_free(rules);
	}
}

static void test_may_hide(void **state)
{
	static const struct {
		const char *text, *path;
		bool may_hide;
	} cases[] = {
		{"hide * /a", "", true},
		{"hide * /a", "/a", false},
		{"hide * /a", "/b", false},
		{"hide * /a/**", "", true},
		{"hide * /a/**", "/a", true},
		{"hide * /a/**", "/a/b", true},
		{"hide * /a/b/**", "", false},
		{"hide * /*/b", "", false},
		{"hide * /*/b", "/x", true},
		{"hide * /**/b", "/x/y", true},
		{"hide list /**/*~", "/x", true},
		{"hide * /a/**\nallow * /**", "/a", false},
		{"hide * /a/**\nallow * /**", "", false},
		{"deny * /**", "", false},
	};

	for (size_t i = 0; i < HK_ARRAY_SIZE(cases); i++) {
		struct hk_rules *rules = parse(cases[i].text);

		if (hk_rules_may_hide(rules, walk(rules, cases[i].path)) != cases[i].may_hide) {
			fail_msg("%s, at '%s'", cases[i].text, cases[i].path);
		}
		hk_rules_free(rules);
	}
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
		{"redirect read /a",
			"p:1:17: '=> TARGET' expected behind the pattern of a redirect", EINVAL},
		{"redirect read /a =>", "p:1:20: the target's path expected", EINVAL},
		{"redirect read /a => b",
			"p:1:21: the target 'b' is relative: it has to begin with '/', "
			"or a variable such as $PWD/",
			EINVAL},
		{"redirect read /a => /b*",
			"p:1:23: '*' in the target, which is one path: write \\* for "
			"the character",
			EINVAL},
		{"redirect read /a => /b => /c", "p:1:23: a second '=>'", EINVAL},
		{"redirect read /a/** => /b",
			"p:1:19: '**' at the end of a redirect: a directory brings "
			"along what is in it, leave '/**' out",
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
		int r = hk_rules_parse("p", cases[i].text, &env, &rules, &err);

		assert_string_equal(hk_err_text(&err), cases[i].message);
		assert_int_equal(r, -cases[i].code);
		assert_null(rules);
		/* Nobody who wants to know. */
		assert_int_equal(hk_rules_parse("p", cases[i].text, &env, &rules, NULL) < 0, true);
	}
}

static void test_includes(void **state)
{
	struct hk_err err = HK_ERR_INIT;
	struct hk_rules *rules = parse("include twice\ninclude none # here\ninclude \"one\"");

	assert_string_equal(hk_rules_text(rules, 3), "one:1: deny read /one");
	assert_null(hk_rules_text(rules, 5));
	hk_rules_free(rules);
	assert_int_equal(hk_rules_parse("p", "include deep0", &env, &rules, &err), -ELOOP);
	assert_non_null(strstr(hk_err_text(&err), "more than 32 files include each other"));
	err = HK_ERR_INIT;
	assert_int_equal(hk_rules_parse("p", "include one", NULL, &rules, &err), -EINVAL);
	assert_string_equal(hk_err_text(&err), "p:1:9: no file can be included here");
	err = HK_ERR_INIT;
	assert_int_equal(hk_rules_parse("p", "deny read $HOME", NULL, &rules, &err), -EINVAL);
	assert_string_equal(hk_err_text(&err), "p:1:11: unknown variable $HOME");
}

/* Rules from elsewhere */

static void test_add(void **state)
{
	struct hk_rules *rules = hk_rules_new();
	const uint32_t all = (1u << HK_CLASS_COUNT) - 1;

	assert_int_equal(hk_rules_add(rules, HK_VERDICT_DENY, all, "/", true), 0);
	assert_int_equal(hk_rules_add(rules, HK_VERDICT_ALLOW, 3, "/a*//./b/", true), 0);
	hk_rules_make_quiet(rules);
	assert_int_equal(hk_rules_add(rules, HK_VERDICT_COW, all, "/c/../../d", false), 0);
	assert_int_equal(hk_rules_add(rules, HK_VERDICT_DENY, all, "d", false), -EINVAL);
	assert_int_equal(hk_rules_add(rules, HK_VERDICT_DENY, all, "", false), -EINVAL);
	assert_int_equal(hk_rules_add(rules, HK_VERDICT_DENY, 0, "/d", false), -EINVAL);
	assert_int_equal(hk_rules_add(rules, HK_VERDICT_DENY, all + 1, "/d", false), -EINVAL);
	assert_int_equal(hk_rules_add(rules, HK_VERDICT_REDIRECT, all, "/d", false), -EINVAL);
	assert_string_equal(hk_rules_text(rules, 1), "deny * /**");
	assert_string_equal(hk_rules_text(rules, 2), "allow read,write /a\\*//./b/**");
	assert_true(hk_rules_is_quiet(rules, 2));
	assert_false(hk_rules_is_quiet(rules, 1));
	assert_int_equal(rule_at(rules, "/a*/b/c", HK_CLASS_WRITE).rule, 2);
	assert_int_equal(rule_at(rules, "/a*/b/c", HK_CLASS_EXEC).rule, 1);
	assert_int_equal(rule_at(rules, "/ax/b/c", HK_CLASS_WRITE).rule, 1);
	assert_int_equal(rule_at(rules, "/d", HK_CLASS_WRITE).rule, 3);
	assert_int_equal(rule_at(rules, "/d/x", HK_CLASS_WRITE).rule, 1);
	assert_int_equal(hk_rules_add(rules, HK_VERDICT_DENY, all, "/d", false), -EBUSY);
	hk_rules_free(rules);
	hk_rules_free(NULL);
}

struct random {
	struct naive_source source;
	uint64_t state;
};

static unsigned random_next(struct naive_source *source, unsigned limit)
{
	struct random *random = hk_container_of(source, struct random, source);

	random->state ^= random->state << 13;
	random->state ^= random->state >> 7;
	random->state ^= random->state << 17;
	return (unsigned)(random->state >> 20) % limit;
}

#define RANDOM(seed) ((struct random){.source = {.next = random_next}, .state = (seed)})

static void test_quote_is_read_back(void **state)
{
	struct random random = RANDOM(7);

	for (unsigned round = 0; round < 5000; round++) {
		static const char odd[] = "*?[]!^-\\\"$# =>\t\n\r\x01\x7f\x80\xff\xc3\xa9{}~'";
		char path[20] = "/x";
		struct hk_str text = {0};
		struct hk_rules *rules;

		for (size_t i = 2; i + 1 < sizeof(path); i++) {
			path[i] = odd[random_next(&random.source, sizeof(odd) - 1)];
		}
		hk_str_add(&text, "deny read ");
		hk_rules_quote(&text, path);
		rules = parse(hk_str_text(&text));
		if (rule_at(rules, path, HK_CLASS_READ).rule != 1) {
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
	assert_int_equal(rule_at(rules, "/usr/bin/x", HK_CLASS_READ).verdict, HK_VERDICT_ALLOW);
	assert_int_equal(rule_at(rules, "/usr/bin/x", HK_CLASS_EXEC).verdict, HK_VERDICT_ALLOW);
	assert_int_equal(rule_at(rules, "/usrlocal", HK_CLASS_READ).verdict, HK_VERDICT_DENY);
	assert_int_equal(rule_at(rules, "/usr", HK_CLASS_READ).verdict, HK_VERDICT_ALLOW);
	assert_int_equal(rule_at(rules, "/usr", HK_CLASS_CREATE).verdict, HK_VERDICT_DENY);
	assert_int_equal(rule_at(rules, "/usr/lib/x", HK_CLASS_CREATE).verdict, HK_VERDICT_COW);
	assert_int_equal(rule_at(rules, "/usr/secret/x", HK_CLASS_READ).verdict, HK_VERDICT_DENY);
	assert_int_equal(
		rule_at(rules, "/home/me/my */x", HK_CLASS_DELETE).verdict, HK_VERDICT_ALLOW);
	assert_int_equal(rule_at(rules, "/home/me/my x", HK_CLASS_DELETE).verdict, HK_VERDICT_DENY);
	assert_int_equal(rule_at(rules, "/nowhere", HK_CLASS_LIST).verdict, HK_VERDICT_ALLOW);
	assert_int_equal(rule_at(rules, "/etc/x", HK_CLASS_READ).verdict, HK_VERDICT_ALLOW);
	assert_int_equal(rule_at(rules, "/etc/x", HK_CLASS_WRITE).verdict, HK_VERDICT_DENY);
	assert_true(hk_rules_is_quiet(rules, rule_at(rules, "/etc/x", HK_CLASS_WRITE).rule));
	assert_false(hk_rules_is_quiet(rules, rule_at(rules, "/x", HK_CLASS_WRITE).rule));
	assert_string_equal(hk_rules_text(rules, rule_at(rules, "/usr/lib/x", HK_CLASS_WRITE).rule),
		"acl:8: discardwrite /usr/lib");
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

/* The automaton */

static void compare(struct hk_rules *rules, const struct naive_policy *policy, const char *path)
{
	hk_place place = walk(rules, path);

	for (unsigned class = 0; class < HK_CLASS_COUNT; class ++) {
		struct hk_ruling ruling = hk_rules_at(rules, place, (enum hk_class) class);
		struct hk_ruling expected = naive_ruling(policy, path, (enum hk_class) class);

		if (ruling.rule != expected.rule || ruling.verdict != expected.verdict) {
			fail_msg("%s of %s: rule %u, expected %u, in:\n%s",
				hk_class_name((enum hk_class) class), path, ruling.rule,
				expected.rule, naive_text(policy));
		}
	}
}

/* What a place promises about the entries below it. */
static void check_promises(struct hk_rules *rules, const char *path, const char *name)
{
	hk_place place = walk(rules, path);
	hk_place next = hk_rules_step(rules, place, name);

	for (unsigned class = 0; class < HK_CLASS_COUNT; class ++) {
		assert_true(hk_rules_may_hide(rules, place) ||
			hk_rules_at(rules, next, (enum hk_class) class).verdict != HK_VERDICT_HIDE);
	}
	if (hk_rules_uniform(rules, place)) {
		assert_int_equal(next, hk_rules_step(rules, place, "any other"));
		assert_int_equal(next, hk_rules_step(rules, next, "and below"));
		assert_true(hk_rules_uniform(rules, next));
	}
}

static void test_as_the_plain_matcher(void **state)
{
	struct random random = RANDOM(42);

	for (unsigned round = 0; round < 4000; round++) {
		struct naive_policy policy;
		autofree char *text = NULL;
		struct hk_rules *rules;

		naive_make_policy(&random.source, &policy);
		text = naive_text(&policy);
		rules = parse(text);
		for (unsigned i = 0; i < 40; i++) {
			char path[NAIVE_TEXT];

			naive_make_path(&random.source, path);
			compare(rules, &policy, path);
			compare(rules, &policy, path);
			check_promises(rules, path, i % 2 != 0 ? "a" : "b.c");
		}
		hk_rules_free(rules);
	}
}

/* A program that looks up whatever comes to its mind. */
static void test_names_need_no_memory(void **state)
{
	struct hk_rules *rules =
		parse("deny read /a/b/c/**\nhide read /**/*.o\ncow * /a/*x*/**\nask * /?");
	uint32_t places = 0;

	for (unsigned i = 0; i < 200000; i++) {
		char name[HK_RULES_SYMBOL_BITS * 8];

		assert_true(hk_fmt(name, sizeof(name), "/a/%u%s", i,
				    i % 3 == 0           ? "x"
					    : i % 3 == 1 ? ".o"
							 : "") > 0);
		assert_int_equal(rule_at(rules, name, HK_CLASS_READ).rule,
			i % 3 == 0           ? 3
				: i % 3 == 1 ? 2
					     : 0);
		if (i == 1000) {
			places = hk_rules_place_count(rules);
		}
	}
	assert_int_equal(hk_rules_place_count(rules), places);
	hk_rules_free(rules);
}

static void test_long_names(void **state)
{
	struct hk_rules *rules = parse("deny read /**/a*b");
	char path[1 + 255 + 1] = "/";

	for (size_t len = 2; len <= 255; len++) {
		memset(path + 1, 'a', len - 1);
		path[len] = 'b';
		path[len + 1] = '\0';
		for (unsigned again = 0; again < 2; again++) {
			assert_int_equal(rule_at(rules, path, HK_CLASS_READ).rule, 1);
		}
		path[len] = 'c';
		assert_int_equal(rule_at(rules, path, HK_CLASS_READ).rule, 0);
	}
	hk_rules_free(rules);
}

/* A policy that needs 2^20 places: what does not fit is denied, and says so. */
static void test_too_many_places(void **state)
{
	struct hk_rules *rules = parse("ask read /**/a/*/*/*/*/*/*/*/*/*/*/*/*/*/*/*/*/*/*/*/*");
	struct random random = RANDOM(3);
	hk_place place = hk_rules_root(rules);

	rules->max_places = 1000;
	for (unsigned i = 0; i < 100000 && place != HK_PLACE_NOWHERE; i++) {
		place = hk_rules_step(
			rules, place, random_next(&random.source, 2) != 0 ? "a" : "b");
	}
	assert_int_equal(place, HK_PLACE_NOWHERE);
	assert_int_equal(hk_rules_step(rules, place, "a"), place);
	assert_int_equal(hk_rules_at(rules, place, HK_CLASS_LIST).verdict, HK_VERDICT_DENY);
	assert_int_equal(hk_rules_at(rules, place, HK_CLASS_LIST).rule, 2);
	assert_non_null(strstr(hk_rules_text(rules, 2), "no memory left"));
	assert_true(hk_rules_uniform(rules, place));
	/* What is known goes on. */
	assert_int_equal(hk_rules_at(rules, hk_rules_root(rules), HK_CLASS_READ).rule, 0);
	hk_rules_free(rules);
}

static void test_many_rules(void **state)
{
	struct hk_str text = {0};
	struct hk_rules *rules;
	char path[64];

	for (unsigned i = 0; i < 10000; i++) {
		hk_str_addf(&text, "deny write $HOME/d%u/**\nhide read /g/*.%u\n", i, i);
	}
	rules = parse(hk_str_text(&text));
	for (unsigned i = 0; i < 10000; i++) {
		assert_true(hk_fmt(path, sizeof(path), "/home/me/d%u/x/y", i) > 0);
		assert_int_equal(rule_at(rules, path, HK_CLASS_WRITE).rule, 2 * i + 1);
	}
	for (unsigned i = 0; i < 10000; i += 97) {
		assert_true(hk_fmt(path, sizeof(path), "/g/x.%u", i) > 0);
		assert_int_equal(rule_at(rules, path, HK_CLASS_READ).rule, 2 * i + 2);
	}
	assert_int_equal(rule_at(rules, "/home/me/d10000", HK_CLASS_WRITE).rule, 0);
	hk_rules_free(rules);
	hk_str_finish(&text);
}

/* Threads */

enum { THREADS = 4, WALKS = 20000 };

struct walker {
	struct hk_rules *rules;
	const struct naive_policy *policy;
	uint64_t seed;
	atomic_uint *wrong;
};

static void *run_walker(void *arg)
{
	struct walker *walker = arg;
	struct random random = RANDOM(walker->seed);

	for (unsigned i = 0; i < WALKS; i++) {
		char path[NAIVE_TEXT];
		hk_place place;

		naive_make_path(&random.source, path);
		place = walk(walker->rules, path);
		for (unsigned class = 0; class < HK_CLASS_COUNT; class ++) {
			struct hk_ruling ruling =
				hk_rules_at(walker->rules, place, (enum hk_class) class);
			struct hk_ruling expected =
				naive_ruling(walker->policy, path, (enum hk_class) class);

			if (ruling.rule != expected.rule) {
				atomic_fetch_add(walker->wrong, 1);
			}
		}
	}
	return NULL;
}

static void test_threads(void **state)
{
	struct random random = RANDOM(1);
	atomic_uint wrong = 0;

	for (unsigned round = 0; round < 5; round++) {
		struct naive_policy policy = {0};
		struct walker walkers[THREADS];
		pthread_t threads[THREADS];
		autofree char *text = NULL;
		struct hk_rules *rules;

		while (policy.count < NAIVE_RULES / 2) {
			naive_make_policy(&random.source, &policy);
		}
		text = naive_text(&policy);
		rules = parse(text);
		for (unsigned i = 0; i < THREADS; i++) {
			walkers[i] = (struct walker){rules, &policy, 100 * round + i + 1, &wrong};
			assert_int_equal(
				pthread_create(&threads[i], NULL, run_walker, &walkers[i]), 0);
		}
		for (unsigned i = 0; i < THREADS; i++) {
			pthread_join(threads[i], NULL);
		}
		hk_rules_free(rules);
	}
	assert_int_equal(wrong, 0);
}

/* Memory runs out at each point there is: an error, or a denial; and no more than that. */
static void test_no_memory(void **state)
{
#ifdef HK_WITH_FAULT
	static const char text[] = "include two\ndeny read $HOME/**\nredirect read /r => /s\n"
				   "hide * /a/*/[b]/**\nask write /**/x";
	const char *paths[] = {"/home/me/x", "/a/b/b/c", "/one/two/three", "/a/x"};
	bool fired = true;

	for (uint64_t nth = 1; fired; nth++) {
		struct hk_err err = HK_ERR_INIT;
		struct hk_rules *rules = NULL;
		int r;

		hk_fault_arm(HK_FAULT_ALLOC, nth);
		r = hk_rules_parse("p", text, &env, &rules, &err);
		if (r == 0) {
			for (size_t i = 0; i < HK_ARRAY_SIZE(paths); i++) {
				hk_place place = walk(rules, paths[i]);

				(void)hk_rules_at(rules, place, HK_CLASS_READ);
				assert_true(place != HK_PLACE_NOWHERE || hk_fault_fired());
			}
		}
		fired = hk_fault_fired();
		hk_fault_arm(0, 0);
		assert_true(r == 0 || fired);
		hk_rules_free(rules);
	}
	hk_fault_arm(0, 0);
#else
	skip();
#endif
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_patterns),
		cmocka_unit_test(test_last_match_wins),
		cmocka_unit_test(test_one_rule_is_asked_for_its_text),
		cmocka_unit_test(test_no_rules),
		cmocka_unit_test(test_uniform),
		cmocka_unit_test(test_may_hide),
		cmocka_unit_test(test_errors),
		cmocka_unit_test(test_includes),
		cmocka_unit_test(test_add),
		cmocka_unit_test(test_quote_is_read_back),
		cmocka_unit_test(test_fusebox),
		cmocka_unit_test(test_as_the_plain_matcher),
		cmocka_unit_test(test_names_need_no_memory),
		cmocka_unit_test(test_long_names),
		cmocka_unit_test(test_too_many_places),
		cmocka_unit_test(test_many_rules),
		cmocka_unit_test(test_threads),
		cmocka_unit_test(test_no_memory),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
