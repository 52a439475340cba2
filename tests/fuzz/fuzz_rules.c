/* SPDX-License-Identifier: ISC */
/*
 * The policy language and its automaton.
 *
 * Inputs that begin with a byte below 0x80 are text: a policy, behind its first NUL names to step
 * by. It compiles or it is an error, and what it compiles to says the same again. With other
 * inputs, bytes are choices that make a policy and paths which a plain matcher understands, too:
 * both have to agree.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/str.h"
#include "base/util.h"
#include "fuse/rules.h"
#include "rules_naive.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool condition)
{
	if (!condition) {
		abort();
	}
}

/* Choices out of the input; 0 where it has ended. */
struct choices {
	struct naive_source source;
	const uint8_t *data;
	size_t size;
};

static unsigned next_choice(struct naive_source *source, unsigned limit)
{
	struct choices *choices = hk_container_of(source, struct choices, source);

	if (choices->size == 0) {
		return 0;
	}
	choices->size--;
	return *choices->data++ % limit;
}

static const char *variable(struct hk_rules_env *env, const char *name)
{
	return strcmp(name, "HOME") == 0 ? "/home/me" : strcmp(name, "E") == 0 ? "" : NULL;
}

/* The file "a" includes itself; all others have one rule. */
static char *include(struct hk_rules_env *env, const char *from, const char *path, char **ret_name,
	struct hk_err *err)
{
	*ret_name = strdup(path);
	return strdup(strcmp(path, "a") == 0 ? "include a" : "deny read /**/x*");
}

static void check_place(const struct hk_rules *rules, hk_place place)
{
	for (unsigned class = 0; class < HK_CLASS_COUNT; class ++) {
		struct hk_ruling ruling = hk_rules_at(rules, place, (enum hk_class) class);

		require((ruling.rule == 0) == (hk_rules_text(rules, ruling.rule) == NULL));
		require((ruling.verdict == HK_VERDICT_REDIRECT) ==
			(hk_rules_target(rules, ruling.rule) != NULL));
		require(ruling.rule == 0 || hk_rules_any(rules, ruling.verdict) ||
			ruling.verdict == HK_VERDICT_DENY);
	}
}

/* Names are what stands between NULs; an empty one leads back to the root. */
static void walk(struct hk_rules *rules, const char *names, const char *end)
{
	hk_place place = hk_rules_root(rules);

	while (names < end) {
		hk_place next = hk_rules_step(rules, place, names);
		bool is_hidden = false;

		require(next == hk_rules_step(rules, place, names));
		check_place(rules, next);
		for (unsigned class = 0; class < HK_CLASS_COUNT; class ++) {
			is_hidden |= hk_rules_at(rules, next, (enum hk_class) class).verdict ==
				HK_VERDICT_HIDE;
		}
		require(!is_hidden || hk_rules_may_hide(rules, place));
		require(!hk_rules_uniform(rules, place) || hk_rules_uniform(rules, next));
		place = *names != '\0' ? next : hk_rules_root(rules);
		names += strlen(names) + 1;
	}
}

static void any_text(const char *text, const char *end)
{
	struct hk_rules_env env = {.variable = variable, .include = include};
	struct hk_err err = HK_ERR_INIT;
	struct hk_rules *rules = NULL;
	const char *names = text + strlen(text) + 1;

	if (hk_rules_parse("policy", text, &env, &rules, &err) < 0) {
		require(rules == NULL && err.code != 0 && *hk_err_text(&err) != '\0');
	} else {
		walk(rules, names, end);
		hk_rules_free(rules);
		rules = NULL;
	}
	if (hk_rules_parse_fusebox("acl", text, &rules, &err) == 0) {
		walk(rules, names, end);
		hk_rules_free(rules);
	}
}

static void as_the_plain_matcher(struct choices *choices)
{
	struct hk_rules *rules = NULL;
	struct naive_policy policy;
	char path[NAIVE_TEXT];
	char *text;

	naive_make_policy(&choices->source, &policy);
	text = naive_text(&policy);
	require(text != NULL && hk_rules_parse("policy", text, NULL, &rules, NULL) == 0);
	while (choices->size > 0) {
		hk_place place = hk_rules_root(rules);
		char *rest = path;
		char copy[NAIVE_TEXT];

		naive_make_path(&choices->source, path);
		memcpy(copy, path, sizeof(copy));
		for (rest = copy + (*copy == '/'); *copy != '\0' && rest != NULL;) {
			place = hk_rules_step(rules, place, strsep(&rest, "/"));
		}
		for (unsigned class = 0; class < HK_CLASS_COUNT; class ++) {
			require(hk_rules_at(rules, place, (enum hk_class) class).rule ==
				naive_ruling(&policy, path, (enum hk_class) class).rule);
		}
	}
	hk_rules_free(rules);
	free(text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct choices choices = {.source = {.next = next_choice}};
	char *text;

	if (size == 0) {
		return 0;
	}
	if (data[0] >= 0x80) {
		choices.data = data + 1;
		choices.size = size - 1;
		as_the_plain_matcher(&choices);
		return 0;
	}
	text = malloc(size + 1);
	require(text != NULL);
	memcpy(text, data, size);
	text[size] = '\0';
	any_text(text, text + size);
	free(text);
	return 0;
}
