/* SPDX-License-Identifier: ISC */
/*
 * The verbs of `hako`.
 *
 * Adding a verb:
 *	1. cli/VERB.c: hk_cmd_VERB(), which parses argv with opts.h, works through the libraries
 *	   and returns an exit status. It alone prints: results on stdout, all else on stderr.
 *	2. Its prototype here, its line in the table in main.c, its file in cli/meson.build.
 *	3. man/hako-VERB.1.scd, and its line in man/hako.1.scd and man/meson.build.
 *	4. Tests of what it parses in tests/unit/test_cli_*.c, of what it does in
 *tests/integration/.
 */
#ifndef HK_CLI_BUILTIN_H
#define HK_CLI_BUILTIN_H

#include <stdbool.h>

struct hk_fuse_question;

enum {
	HK_STATUS_OK = 0,
	HK_STATUS_NO = 1, /* the answer is no: doctor */
	HK_STATUS_USAGE = 2,
	HK_STATUS_VIOLATION = 123, /* trace --strict: the policy denied something */
	HK_STATUS_TIMED_OUT = 124, /* as timeout(1) */
	HK_STATUS_FAILURE = 125,   /* as docker and env(1): not the command's own */
	HK_STATUS_NOT_EXECUTABLE = 126,
	HK_STATUS_NOT_FOUND = 127,
};

/**
 * struct hk_verb - one row of main.c's table
 * @run: @argv[0] is the verb; NULL-terminated. Returns the exit status.
 * @as_called: it prepares the process by itself: what it starts is to find signals, limits and
 *	privileges as we did
 */
struct hk_verb {
	const char *name;
	const char *summary;
	int (*run)(char **argv);
	bool as_called;
};

int hk_cmd_run(char **argv);
int hk_cmd_trace(char **argv);
int hk_cmd_sandbox(char **argv);
int hk_cmd_diff(char **argv);
int hk_cmd_apply(char **argv);
int hk_cmd_discard(char **argv);
int hk_cmd_layers(char **argv);
int hk_cmd_doctor(char **argv);
int hk_cmd_kernel(char **argv);
int hk_cmd_version(char **argv);

/**
 * hk_trace_judged() - `hako trace` with somebody who judges, see struct hk_trace_config; NULL:
 * nobody
 */
int hk_trace_judged(char **argv, int (*judge)(void *arg, const struct hk_fuse_question *question),
	void *judge_arg);

#endif
