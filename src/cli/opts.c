/* SPDX-License-Identifier: ISC */
/*
 * Options: see opts.h for what is accepted.
 *
 * Theory: getopt_long() keeps hidden global state, permutes, abbreviates and prints; this is
 * shorter than what it takes to keep it from doing so.
 */
#include "cli/opts.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>

#include "base/str.h"
#include "base/util.h"
#include "cli/parse.h"

/* HK_OPTS_END is -1, and so is -EPERM: errors are all -EINVAL here. */
_Static_assert(-EINVAL != HK_OPTS_END, "an error must not look like the end");

void hk_opts_init(struct hk_opts *opts, const char *verb, const struct hk_opt *table,
	unsigned count, char **argv)
{
	*opts = (struct hk_opts){
		.table = table,
		.count = count,
		.argv = argv,
		.next = argv[0] == NULL ? 0 : 1,
		.verb = verb,
	};
}

static int wrong(const struct hk_opts *opts, struct hk_err *err)
{
	hk_err_hint(err, "see hako %s --help", opts->verb);
	return -EINVAL;
}

static int find_letter(const struct hk_opts *opts, char letter)
{
	for (unsigned i = 0; i < opts->count; i++) {
		if (opts->table[i].letter == letter) {
			return (int)i;
		}
	}
	return -ENOENT;
}

static int find_name(const struct hk_opts *opts, const char *name, size_t len)
{
	for (unsigned i = 0; i < opts->count; i++) {
		const char *candidate = opts->table[i].name;

		if (candidate != NULL && strlen(candidate) == len &&
			memcmp(candidate, name, len) == 0) {
			return (int)i;
		}
	}
	return -ENOENT;
}

/* @inline_value: what stood in the same word, or NULL. */
static int take_value(struct hk_opts *opts, int index, const char *inline_value,
	const char **ret_value, const char *word, struct hk_err *err)
{
	if (inline_value == NULL) {
		inline_value = opts->argv[opts->next];
		if (inline_value == NULL) {
			hk_fail_msg(err, EINVAL, "%s needs a value: %s", word,
				opts->table[index].value);
			return wrong(opts, err);
		}
		opts->next++;
	}
	*ret_value = inline_value;
	return index;
}

static int next_letter(struct hk_opts *opts, const char **ret_value, struct hk_err *err)
{
	const char word[] = {'-', *opts->letters, '\0'};
	int index = find_letter(opts, *opts->letters);
	const char *rest = opts->letters + 1;

	if (index < 0) {
		hk_fail_msg(err, EINVAL, "unknown option %s", word);
		return wrong(opts, err);
	}
	if (opts->table[index].value != NULL) {
		opts->letters = NULL;
		return take_value(opts, index, *rest == '\0' ? NULL : rest, ret_value, word, err);
	}
	opts->letters = *rest == '\0' ? NULL : rest;
	return index;
}

static int next_name(
	struct hk_opts *opts, const char *word, const char **ret_value, struct hk_err *err)
{
	const char *name = word + 2;
	size_t len = strcspn(name, "=");
	const char *inline_value = name[len] == '=' ? name + len + 1 : NULL;
	int index = find_name(opts, name, len);

	if (index < 0) {
		hk_fail_msg(err, EINVAL, "unknown option --%.*s", (int)HK_MIN(len, 64), name);
		return wrong(opts, err);
	}
	if (opts->table[index].value != NULL) {
		return take_value(opts, index, inline_value, ret_value, word, err);
	}
	if (inline_value != NULL) {
		hk_fail_msg(err, EINVAL, "--%s takes no value", opts->table[index].name);
		return wrong(opts, err);
	}
	return index;
}

int hk_opts_next(struct hk_opts *opts, const char **ret_value, struct hk_err *err)
{
	const char *word = opts->argv[opts->next];

	*ret_value = NULL;
	if (opts->letters != NULL) {
		return next_letter(opts, ret_value, err);
	}
	if (word == NULL || word[0] != '-' || word[1] == '\0') {
		return HK_OPTS_END;
	}
	opts->next++;
	if (word[1] != '-') {
		opts->letters = word + 1;
		return next_letter(opts, ret_value, err);
	}
	if (word[2] == '\0') {
		return HK_OPTS_END;
	}
	return next_name(opts, word, ret_value, err);
}

int hk_opts_bad_value(const char *option, const char *value, const char *hint, struct hk_err *err)
{
	hk_fail_msg(err, EINVAL, "%s %s", option, value);
	hk_err_hint(err, "%s", hint);
	return -EINVAL;
}

int hk_opts_take_time(const char *option, const char *value, uint64_t *ret_ns, struct hk_err *err)
{
	return hk_duration_parse(value, ret_ns) < 0
		? hk_opts_bad_value(option, value, "give it a time such as 30s, 5m or 2h", err)
		: 0;
}

void hk_opts_print(FILE *out, const struct hk_opt *table, unsigned count)
{
	enum { HELP_COLUMN = 28 };

	for (unsigned i = 0; i < count; i++) {
		const struct hk_opt *opt = &table[i];
		char left[80] = "";
		int len;

		if (opt->help == NULL) {
			continue;
		}
		len = hk_fmt(left, sizeof(left), "  %c%c%s%s%s%s%s", opt->letter != 0 ? '-' : ' ',
			opt->letter != 0 ? opt->letter : ' ',
			opt->letter != 0 && opt->name != NULL ? ", " : "  ",
			opt->name != NULL ? "--" : "", opt->name != NULL ? opt->name : "",
			opt->value != NULL ? " " : "", opt->value != NULL ? opt->value : "");
		if (len >= HELP_COLUMN) {
			fprintf(out, "%s\n%*s%s\n", left, HELP_COLUMN, "", opt->help);
		} else {
			fprintf(out, "%-*s%s\n", HELP_COLUMN, left, opt->help);
		}
	}
}
