/* SPDX-License-Identifier: ISC */
/*
 * The rules, matched the plain way: each pattern against each path, from the left, by recursion.
 * And random policies and paths to compare that with what src/fuse/rules*.c make of it. For tests
 * only.
 */
#ifndef HK_TESTS_RULES_NAIVE_H
#define HK_TESTS_RULES_NAIVE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "fuse/rules.h"

enum { NAIVE_RULES = 24, NAIVE_TEXT = 128 };

struct naive_rule {
	enum hk_verdict verdict;
	uint32_t classes;
	char pattern[NAIVE_TEXT];
};

struct naive_policy {
	unsigned count;
	struct naive_rule rules[NAIVE_RULES];
};

/* Where random choices come from. Return: a number below @limit. */
struct naive_source {
	unsigned (*next)(struct naive_source *source, unsigned limit);
};

/* "*", "?", "[...]" in one name of ASCII characters, up to the next slash */
bool naive_match_name(const char *pattern, const char *name);
/* Both absolute; "/" is "" */
bool naive_match(const char *pattern, const char *path);
struct hk_ruling naive_ruling(
	const struct naive_policy *policy, const char *path, enum hk_class class);

void naive_make_policy(struct naive_source *source, struct naive_policy *policy);
void naive_make_path(struct naive_source *source, char path[NAIVE_TEXT]);
/* As text for hk_rules_parse(); malloc'd */
char *naive_text(const struct naive_policy *policy);

#endif
