/* SPDX-License-Identifier: ISC */
/*
 * The options that `hako run` and `hako trace` have in common: the rules, and where it is told what
 * was done.
 *
 * A verb's table has them in one run, from an index that it chooses:
 *
 *	enum { OPT_COW, OPT_WATCH, OPT_HELP = OPT_WATCH + HK_WATCH_COUNT, OPT_COUNT };
 *	static const struct hk_opt table[OPT_COUNT] = {
 *		[OPT_COW] = ...,
 *		[OPT_WATCH] = HK_WATCH_ROWS,
 *		[OPT_HELP] = ...,
 */
#ifndef HK_CLI_WATCH_OPTIONS_H
#define HK_CLI_WATCH_OPTIONS_H

#include <stdbool.h>

#include "base/err.h"

enum hk_watch_option {
	HK_WATCH_POLICY,
	HK_WATCH_STRICT,
	HK_WATCH_ASK,
	HK_WATCH_LOG,
	HK_WATCH_REPORT,
	HK_WATCH_LEARN,
	HK_WATCH_COUNT,
};

/*
 * Their rows, in the order of the enum: a designator stands before the first, and the others
 * follow.
 */
/* clang-format off */
#define HK_WATCH_ROWS \
	{"policy", 0, "FILE", "what may be done to which files; see hako-policy(5)"}, \
	{"strict", 0, NULL, "end with status 123 as soon as the policy denies anything"}, \
	{"ask", 0, "PROGRAM", "who answers what the policy asks (default: the terminal)"}, \
	{"log", 0, "FILE", "a line of JSON for each decision"}, \
	{"report", 0, "FILE", "what was done, by file: text, .json or .html"}, \
	{"learn", 0, "FILE", "write the policy that this run would have needed"}
/* clang-format on */

/** struct hk_watch_options - zero-initialize; strings are argv's, NULL: not given */
struct hk_watch_options {
	const char *policy;
	const char *ask;
	const char *log;
	const char *report;
	const char *learn;
	bool strict;
};

/**
 * hk_watch_options_take() - @option is the verb's index less that of its first
 *
 * Return: is it one of these? Then it is in @options.
 */
bool hk_watch_options_take(struct hk_watch_options *options, int option, const char *value);

/**
 * hk_watch_options_check() - once all are taken: do they make sense together, and can the program
 * of --ask be executed?
 * @rules: the options that give rules, for the message; @has_rules: one of them was given
 *
 * Return: 0 or -EINVAL.
 */
int hk_watch_options_check(const struct hk_watch_options *options, bool has_rules,
	const char *rules, struct hk_err *err);

/** hk_watch_options_tell() - has the caller named a file that tells what was done? */
bool hk_watch_options_tell(const struct hk_watch_options *options);

#endif
