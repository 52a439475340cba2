/* SPDX-License-Identifier: ISC */
/*
 * rules: what a step through a policy costs, by the number of its rules.
 *
 *	rules			a table: each kind of policy with 10, 100, 1,000 and 10,000 rules
 *	rules KIND COUNT	one line of it; for callgrind:
 *
 *	valgrind --tool=callgrind --toggle-collect=steps rules dirs 10000
 *
 * The same 1,000 paths of 6 names each are walked again and again (the columns "known" and
 * instructions), and once with names never seen before ("new"). Times are the least of several
 * rounds.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/err.h"
#include "base/str.h"
#include "base/util.h"
#include "fuse/rules.h"

enum { PATHS = 1000, DEPTH = 6, ROUNDS = 20 };

static const struct kind {
	const char *name;
	const char *text; /* before the rules */
	const char *rule; /* #: its number */
	const char *path; /* 6 names; first #: a number below the rules'; second: the path's */
	const char *about;
} kinds[] = {
	{"dirs", "deny write,create,delete /**\n", "allow * /home/me/project#/**",
		"home/me/project#/src/lib/file#.c", "directories, each allowed"},
	{"elsewhere", "deny write,create,delete /**\n", "allow * /home/me/project#/**",
		"usr/lib/gcc/x#/12/f#", "the same; paths that no rule names"},
	{"names", "allow * /home/me/**\n", "hide * /**/secret#", "home/me/a/b#/c/f#",
		"a name hidden at any depth"},
	{"found", "allow * /home/me/**\n", "hide * /**/secret#", "home/me/a/secret#/c/f#",
		"the same; paths that have it"},
	{"globs", "allow * /**\n", "deny read /data/a/b/c/d/*.type#", "data/a/b/c/d/x#.f#",
		"globs in one directory"},
	{"deep", "allow * /**\n", "deny read /home/**/*.type#", "home/me/a/b#/c/f#",
		"globs at any depth"},
	{"worst", "allow * /**\n", "deny read /data/a/b/c/d/*part#*", "data/a/b/c/d/x#.f#",
		"globs that begin and end with a star"},
};

static char path_names[PATHS][DEPTH][32];

/* Appends @text with the first '#' as one number, and further ones as another. */
static void add_numbered(struct hk_str *out, const char *text, unsigned first, unsigned second)
{
	for (; *text != '\0'; text++) {
		if (*text == '#') {
			hk_str_addf(out, "%u", first);
			first = second;
		} else {
			hk_str_add_bytes(out, text, 1);
		}
	}
}

static uint64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * HK_NS_PER_SEC + (uint64_t)now.tv_nsec;
}

/* Cuts path @i into its names; @salt keeps the last name from being one that was seen. */
static void make_path(unsigned i, const struct kind *kind, unsigned count, unsigned salt)
{
	struct hk_str text = {0};
	char *rest;

	add_numbered(&text, kind->path, i * 7919 % count, i + salt);
	rest = text.data;
	for (unsigned k = 0; k < DEPTH; k++) {
		(void)hk_fmt(path_names[i][k], sizeof(path_names[i][k]), "%s", strsep(&rest, "/"));
	}
	hk_str_finish(&text);
}

static struct hk_rules *make_rules(const struct kind *kind, unsigned count)
{
	struct hk_err err = HK_ERR_INIT;
	struct hk_rules *rules = NULL;
	struct hk_str text = {0};

	hk_str_add(&text, kind->text);
	for (unsigned i = 0; i < count; i++) {
		add_numbered(&text, kind->rule, i, i);
		hk_str_add(&text, "\n");
	}
	if (hk_rules_parse("policy", hk_str_text(&text), NULL, &rules, &err) < 0) {
		fprintf(stderr, "rules: %s\n", hk_err_text(&err));
		exit(1);
	}
	hk_str_finish(&text);
	return rules;
}

/* Not inlined: callgrind is told to look here only. */
__attribute__((noinline)) uint64_t steps(struct hk_rules *rules);

uint64_t steps(struct hk_rules *rules)
{
	uint64_t sum = 0;

	for (unsigned i = 0; i < PATHS; i++) {
		hk_place place = hk_rules_root(rules);

		for (unsigned k = 0; k < DEPTH; k++) {
			place = hk_rules_step(rules, place, path_names[i][k]);
		}
		sum += hk_rules_at(rules, place, HK_CLASS_READ).rule;
	}
	return sum;
}

static void walk_untimed(struct hk_rules *rules)
{
	for (unsigned i = 0; i < PATHS; i++) {
		hk_place place = hk_rules_root(rules);

		for (unsigned k = 0; k < DEPTH; k++) {
			place = hk_rules_step(rules, place, path_names[i][k]);
		}
	}
}

static void make_paths(const struct kind *kind, unsigned count, unsigned salt)
{
	for (unsigned i = 0; i < PATHS; i++) {
		make_path(i, kind, count, salt);
	}
}

static void run(const struct kind *kind, unsigned count)
{
	uint64_t start = now_ns();
	struct hk_rules *rules = make_rules(kind, count);
	uint64_t parse_ns = now_ns() - start;
	uint64_t known_ns = UINT64_MAX;
	uint64_t new_ns;

	make_paths(kind, count, 0);
	walk_untimed(rules);
	for (unsigned round = 0; round < ROUNDS; round++) {
		start = now_ns();
		(void)steps(rules);
		known_ns = HK_MIN(known_ns, now_ns() - start);
	}
	make_paths(kind, count, 1000000);
	start = now_ns();
	walk_untimed(rules);
	new_ns = now_ns() - start;
	printf("%-10s %7u %9.1f %9.1f %9.2f   %s\n", kind->name, count,
		(double)known_ns / (PATHS * DEPTH), (double)new_ns / (PATHS * DEPTH),
		(double)parse_ns / HK_NS_PER_MS, kind->about);
	hk_rules_free(rules);
}

int main(int argc, char **argv)
{
	uint64_t count = 0;

	if (argc != 1 && (argc != 3 || hk_parse_uint(argv[2], 1, 1000000, &count) < 0)) {
		fprintf(stderr, "usage: rules [KIND COUNT]\n");
		return 2;
	}
	printf("%-10s %7s %9s %9s %9s\n", "policy", "rules", "known ns", "new ns", "parse ms");
	for (size_t i = 0; i < HK_ARRAY_SIZE(kinds); i++) {
		if (argc == 3 && strcmp(argv[1], kinds[i].name) == 0) {
			run(&kinds[i], (unsigned)count);
		}
		for (unsigned n = 10; argc == 1 && n <= 10000; n *= 10) {
			run(&kinds[i], n);
		}
	}
	return 0;
}
