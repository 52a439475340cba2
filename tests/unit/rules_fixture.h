/* SPDX-License-Identifier: ISC */
/* What the tests of the rules share: an environment out of tables, and steps by a path. */
#ifndef HK_TESTS_RULES_FIXTURE_H
#define HK_TESTS_RULES_FIXTURE_H

#include <stdint.h>

#include "fuse/rules.h"
#include "rules_naive.h"

/* $HOME, $PWD, ..., and files by name. */
extern struct hk_rules_env rules_env;

struct hk_rules *rules_parse(const char *text); /* fails the test where that fails */
hk_place rules_walk(struct hk_rules *rules, const char *path);
struct hk_ruling rules_ruling(struct hk_rules *rules, const char *path, enum hk_class class);

/* The same numbers each time. */
struct random {
	struct naive_source source;
	uint64_t state; /* not 0 */
};

unsigned random_next(struct naive_source *source, unsigned limit);

#define RANDOM(seed) ((struct random){.source = {.next = random_next}, .state = (seed)})

#endif
