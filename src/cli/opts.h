/* SPDX-License-Identifier: ISC */
/*
 * Command-line options from a table that serves both the parser and --help.
 *
 *	--name VALUE   --name=VALUE   -x VALUE   -xVALUE   -abc   --
 *
 * Names are not abbreviated: what works today must not become ambiguous tomorrow. The first
 * word that is no option ends the options, so that a command's own options stay its own.
 */
#ifndef HK_CLI_OPTS_H
#define HK_CLI_OPTS_H

#include <stdint.h>
#include <stdio.h>

#include "base/err.h"

/**
 * struct hk_opt - one option
 * @name: without the dashes; NULL: has only a letter
 * @letter: 0: has only a name
 * @value: what --help calls its value; NULL: takes none
 * @help: what it does; NULL: not shown
 */
struct hk_opt {
	const char *name;
	char letter;
	const char *value;
	const char *help;
};

/** struct hk_opts - a parser; all borrowed */
struct hk_opts {
	const struct hk_opt *table;
	unsigned count;
	char **argv;         /* NULL-terminated; [0] is the verb */
	unsigned next;       /* the word to look at */
	const char *letters; /* what is left of a cluster such as -ti, or NULL */
	const char *verb;    /* for "see hako VERB --help" */
};

enum { HK_OPTS_END = -1 };

void hk_opts_init(struct hk_opts *opts, const char *verb, const struct hk_opt *table,
	unsigned count, char **argv);

/**
 * hk_opts_next() - the next option
 * @ret_value: its value, borrowed from argv; NULL where it takes none
 * @err: names the word that is wrong, and where to look
 *
 * Return: its index in the table; HK_OPTS_END, and then opts->argv + opts->next is the rest;
 * -EINVAL.
 */
int hk_opts_next(struct hk_opts *opts, const char **ret_value, struct hk_err *err);

/**
 * hk_opts_bad_value() - @err: the option with its value, and what would be right. Return: -EINVAL
 */
int hk_opts_bad_value(const char *option, const char *value, const char *hint, struct hk_err *err);

/**
 * hk_opts_take_time() - a duration as @option's value: hk_duration_parse(). Return: 0 or -EINVAL
 */
int hk_opts_take_time(const char *option, const char *value, uint64_t *ret_ns, struct hk_err *err);

/** hk_opts_print() - the lines of --help */
void hk_opts_print(FILE *out, const struct hk_opt *table, unsigned count);

#endif
