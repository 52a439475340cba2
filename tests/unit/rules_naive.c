/* SPDX-License-Identifier: ISC */
/* See rules_naive.h. */
#include "rules_naive.h"

#include <stdlib.h>
#include <string.h>

#include "base/str.h"
#include "base/util.h"

static bool at_end(const char *text)
{
	return *text == '\0' || *text == '/';
}

/* Is @c in the set whose first member is at *@pattern? Moves that behind the ']'. */
static bool match_set(const char **pattern, char c)
{
	const char *p = *pattern;
	bool is_not = *p == '!';
	bool is_in = false;

	p += is_not;
	do {
		if (p[1] == '-' && p[2] != ']') {
			is_in |= c >= p[0] && c <= p[2];
			p += 3;
		} else {
			is_in |= c == *p;
			p++;
		}
	} while (*p != ']');
	*pattern = p + 1;
	return is_in != is_not;
}

bool naive_match_name(const char *pattern, const char *name)
{
	if (at_end(pattern)) {
		return at_end(name);
	}
	if (*pattern == '*') {
		return naive_match_name(pattern + 1, name) ||
			(!at_end(name) && naive_match_name(pattern, name + 1));
	}
	if (at_end(name)) {
		return false;
	}
	if (*pattern == '[') {
		pattern++;
		return match_set(&pattern, *name) && naive_match_name(pattern, name + 1);
	}
	return (*pattern == '?' || *pattern == *name) && naive_match_name(pattern + 1, name + 1);
}

static const char *skip_name(const char *text)
{
	return text + 1 + strcspn(text + 1, "/");
}

bool naive_match(const char *pattern, const char *path)
{
	if (*pattern == '\0') {
		return *path == '\0';
	}
	if (strncmp(pattern, "/**", 3) == 0 && at_end(pattern + 3)) {
		return naive_match(pattern + 3, path) ||
			(*path != '\0' && naive_match(pattern, skip_name(path)));
	}
	return *path != '\0' && naive_match_name(pattern + 1, path + 1) &&
		naive_match(skip_name(pattern), skip_name(path));
}

struct hk_ruling naive_ruling(
	const struct naive_policy *policy, const char *path, enum hk_class class)
{
	struct hk_ruling ruling = {.verdict = HK_VERDICT_ALLOW};

	for (unsigned i = 0; i < policy->count; i++) {
		const struct naive_rule *rule = &policy->rules[i];

		if ((rule->classes & 1u << class) != 0 && naive_match(rule->pattern, path)) {
			ruling = (struct hk_ruling){.verdict = rule->verdict, .rule = i + 1};
		}
	}
	return ruling;
}

static const char *const names[] = {"a", "b", "c", "ab", "ba", "abc", "a.c", "b.c", "-", "aab"};
static const char *const globs[] = {
	"*", "?", "a*", "*b", "[ab]", "[!a]*", "*.c", "?[a-c]*", "a*b", "*a*", "[]a-]"};

static void add_part(struct naive_source *source, struct hk_str *path, bool is_pattern)
{
	unsigned kind = is_pattern ? source->next(source, 4) : 0;

	hk_str_add(path, "/");
	if (kind < 2) {
		hk_str_add(path, names[source->next(source, HK_ARRAY_SIZE(names))]);
	} else if (kind == 2) {
		hk_str_add(path, globs[source->next(source, HK_ARRAY_SIZE(globs))]);
	} else {
		hk_str_add(path, "**");
	}
}

static void make_path(struct naive_source *source, char out[NAIVE_TEXT], bool is_pattern)
{
	unsigned count = source->next(source, 6);
	struct hk_str path = {0};

	for (unsigned i = 0; i < count; i++) {
		add_part(source, &path, is_pattern);
	}
	(void)hk_fmt(out, NAIVE_TEXT, "%s", hk_str_text(&path));
	hk_str_finish(&path);
}

void naive_make_path(struct naive_source *source, char path[NAIVE_TEXT])
{
	make_path(source, path, false);
}

void naive_make_policy(struct naive_source *source, struct naive_policy *policy)
{
	policy->count = source->next(source, NAIVE_RULES + 1);
	for (unsigned i = 0; i < policy->count; i++) {
		struct naive_rule *rule = &policy->rules[i];

		rule->verdict = (enum hk_verdict)source->next(source, HK_VERDICT_REDIRECT);
		rule->classes = source->next(source, 3) == 0
			? (1u << HK_CLASS_COUNT) - 1
			: 1 + source->next(source, (1u << HK_CLASS_COUNT) - 1);
		make_path(source, rule->pattern, true);
	}
}

char *naive_text(const struct naive_policy *policy)
{
	struct hk_str text = {0};
	char *ret = NULL;

	for (unsigned i = 0; i < policy->count; i++) {
		const struct naive_rule *rule = &policy->rules[i];
		const char *separator = " ";

		hk_str_add(&text, hk_verdict_name(rule->verdict));
		for (unsigned class = 0; class < HK_CLASS_COUNT; class ++) {
			if ((rule->classes & 1u << class) != 0) {
				hk_str_addf(&text, "%s%s", separator,
					hk_class_name((enum hk_class) class));
				separator = ",";
			}
		}
		hk_str_addf(&text, " %s\n", *rule->pattern != '\0' ? rule->pattern : "/");
	}
	hk_str_add(&text, "");
	if (text.data == NULL) {
		hk_str_add(&text, "\n");
	}
	return hk_str_take(&text, &ret) == 0 ? ret : NULL;
}
