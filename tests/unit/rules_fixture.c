/* SPDX-License-Identifier: ISC */
/* See rules_fixture.h. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/alloc.h"
#include "base/str.h"
#include "base/util.h"
#include "rules_fixture.h"

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

struct hk_rules_env rules_env = {.variable = variable, .include = include};

struct hk_rules *rules_parse(const char *text)
{
	struct hk_err err = HK_ERR_INIT;
	struct hk_rules *rules = NULL;

	if (hk_rules_parse("p", text, &rules_env, &rules, &err) < 0) {
		fail_msg("%s: %s", text, hk_err_text(&err));
	}
	return rules;
}

hk_place rules_walk(struct hk_rules *rules, const char *path)
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

struct hk_ruling rules_ruling(struct hk_rules *rules, const char *path, enum hk_class class)
{
	return hk_rules_at(rules, rules_walk(rules, path), class);
}

unsigned random_next(struct naive_source *source, unsigned limit)
{
	struct random *random = hk_container_of(source, struct random, source);

	random->state ^= random->state << 13;
	random->state ^= random->state >> 7;
	random->state ^= random->state << 17;
	return (unsigned)(random->state >> 20) % limit;
}
