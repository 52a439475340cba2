/* SPDX-License-Identifier: ISC */
/* The command line of `hako trace`: see hako-trace(1). */
#include "cli/trace_options.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "base/str.h"
#include "cli/layers.h"
#include "cli/opts.h"
#include "cli/parse.h"

enum {
	OPT_WATCH,
	OPT_FUSEBOX_ACL = OPT_WATCH + HK_WATCH_COUNT,
	OPT_VOLUME,
	OPT_COW,
	OPT_KEEP,
	OPT_NET,
	OPT_MINIMAL_DEV,
	OPT_TIMEOUT,
	OPT_VERBOSE,
	OPT_QUIET,
	OPT_GENTOO,
	OPT_HELP,
	OPT_COUNT,
};

static const struct hk_opt table[OPT_COUNT] = {
	[OPT_WATCH] = HK_WATCH_ROWS,
	[OPT_FUSEBOX_ACL] = {"fusebox-acl", 0, "FILE", "a policy in the words of Fusebox"},
	[OPT_VOLUME] = {"volume", 'v', "DIR[:ro|rw|cow]",
		"what may be changed there, whatever the policy says"},
	[OPT_COW] = {"cow", 0, NULL, "keep changes apart; thrown away at the end"},
	[OPT_KEEP] = {"keep", 0, "NAME", "with --cow: keep them, for hako diff and hako apply"},
	[OPT_NET] = {"net", 0, "on|off", "the host's network (default), or none"},
	[OPT_MINIMAL_DEV] = {"minimal-dev", 0, NULL, "no graphics, sound or /dev/kvm"},
	[OPT_TIMEOUT] = {"timeout", 0, "TIME", "end it after 30, 30s, 5m, ...: exit status 124"},
	[OPT_VERBOSE] = {"verbose", 0, NULL, "print the summary in any case"},
	[OPT_QUIET] = {"quiet", 'q', NULL, "print no summary in any case"},
	[OPT_GENTOO] = {"gentoo", 0, NULL, NULL}, /* where it is not the first */
	[OPT_HELP] = {"help", 'h', NULL, "this"},
};

void hk_trace_options_print_help(void)
{
	puts("usage: hako trace [option]... [--] COMMAND [ARGUMENT]...\n\n"
	     "Runs COMMAND here, on a mirror of the file system that sees and can refuse what it "
	     "does\n"
	     "to files. Without a policy it only looks on.\n");
	hk_opts_print(stdout, table, OPT_COUNT);
	puts("\nThe exit status is the command's; 128+N if signal N killed it, 127 if it was not\n"
	     "found, 126 if it cannot be executed, 125 if hako itself failed. See "
	     "hako-trace(1).\n\n"
	     "hako trace --gentoo [COMMAND], with no option before, stands in for Gentoo's "
	     "sandbox:\nsee hako-sandbox(1).");
}

static int set_net(struct hk_trace_options *options, const char *value, struct hk_err *err)
{
	options->no_net = strcmp(value, "off") == 0;
	return options->no_net || strcmp(value, "on") == 0
		? 0
		: hk_opts_bad_value("--net", value, "it is on or off", err);
}

static int add_view(struct hk_trace_options *options, const char *value, struct hk_err *err)
{
	static const struct {
		const char *word;
		enum hk_verdict verdict;
	} kinds[] = {
		{":ro", HK_VERDICT_DENY}, {":rw", HK_VERDICT_ALLOW}, {":cow", HK_VERDICT_COW},
		{"", HK_VERDICT_DENY}, /* as in hako run */
	};
	struct hk_trace_view *view = &options->views[options->view_count];
	autofree char *path = NULL;
	size_t i = 0;

	if (options->view_count == HK_TRACE_MAX_VIEWS) {
		return hk_opts_bad_value("-v", value, "there are too many; write a policy", err);
	}
	while (!hk_str_ends_with(value, kinds[i].word)) {
		i++;
	}
	path = strndup(value, strlen(value) - strlen(kinds[i].word));
	if (path == NULL) {
		return hk_fail(err, ENOMEM, "-v");
	}
	view->path = realpath(path, NULL);
	view->verdict = kinds[i].verdict;
	if (view->path == NULL) {
		return hk_fail(err, errno, "-v '%s'", path);
	}
	options->view_count++;
	return 0;
}

static int gentoo_comes_first(struct hk_err *err)
{
	hk_fail_msg(err, EINVAL, "--gentoo has to be the first option, and has none of these");
	return hk_err_hint(err, "see hako-sandbox(1)");
}

static int take(struct hk_trace_options *options, int option, const char *value, struct hk_err *err)
{
	if (hk_watch_options_take(&options->watch, option - OPT_WATCH, value)) {
		return 0;
	}
	switch (option) {
	case OPT_FUSEBOX_ACL:
		options->fusebox_acl = value;
		return 0;
	case OPT_VOLUME:
		return add_view(options, value, err);
	case OPT_COW:
		options->cow = true;
		return 0;
	case OPT_KEEP:
		options->keep = value;
		return 0;
	case OPT_NET:
		return set_net(options, value, err);
	case OPT_MINIMAL_DEV:
		options->minimal_dev = true;
		return 0;
	case OPT_TIMEOUT:
		return hk_opts_take_time("--timeout", value, &options->timeout_ns, err);
	case OPT_VERBOSE:
		options->verbose = true;
		return 0;
	case OPT_QUIET:
		options->quiet = true;
		return 0;
	case OPT_GENTOO:
		return gentoo_comes_first(err);
	case OPT_HELP:
		options->help = true;
		return 0;
	default:
		return 0;
	}
}

/* Who asks for nothing in particular wants to know what the command does. */
static enum hk_summary choose_summary(const struct hk_trace_options *options)
{
	bool asks = options->watch.policy != NULL || options->fusebox_acl != NULL ||
		hk_watch_options_tell(&options->watch) || options->keep != NULL;

	if (options->quiet) {
		return HK_SUMMARY_NEVER;
	}
	return options->verbose || !asks ? HK_SUMMARY_ALWAYS : HK_SUMMARY_IF_DENIED;
}

static int check(struct hk_trace_options *options, struct hk_err *err)
{
	bool has_rules = options->watch.policy != NULL || options->fusebox_acl != NULL ||
		options->view_count > 0;
	autofree char *layer = NULL;

	if (options->argv[0] == NULL) {
		hk_fail_msg(err, EINVAL, "there is no command");
		hk_err_hint(err, "give it after the options, as in hako trace -- make");
		return -EINVAL;
	}
	if (options->watch.policy != NULL && options->fusebox_acl != NULL) {
		hk_fail_msg(err, EINVAL, "--policy and --fusebox-acl: there is one policy");
		hk_err_hint(err, "give one of them");
		return -EINVAL;
	}
	if (hk_watch_options_check(
		    &options->watch, has_rules, "--policy, --fusebox-acl or -v", err) < 0) {
		return -EINVAL;
	}
	if (options->quiet && options->verbose) {
		hk_fail_msg(err, EINVAL, "--quiet and --verbose: the summary is printed or not");
		hk_err_hint(err, "give one of them");
		return -EINVAL;
	}
	if (options->keep != NULL && !options->cow && options->watch.policy == NULL &&
		options->view_count == 0) {
		hk_fail_msg(err, EINVAL, "--keep %s: there is nothing to keep without --cow",
			options->keep);
		hk_err_hint(err, "give both");
		return -EINVAL;
	}
	if (options->keep != NULL && hk_layers_named("", options->keep, &layer, err) < 0) {
		return hk_err_ctx(err, "--keep");
	}
	options->summary = choose_summary(options);
	options->cwd = getcwd(NULL, 0);
	/* It may be out of reach, too: "(unreachable)/...". */
	if (options->cwd == NULL || options->cwd[0] != '/') {
		hk_fail(err, options->cwd == NULL ? errno : ENOENT, "current directory");
		hk_err_hint(err, "change to one that is there");
		return -err->code;
	}
	return 0;
}

int hk_trace_options_parse(struct hk_trace_options *options, char **argv, struct hk_err *err)
{
	const char *log_spec = getenv("HAKO_LOG");
	struct hk_opts opts;
	const char *value;
	int option;
	int r = log_spec == NULL ? 0 : hk_log_configure(log_spec, err);

	if (r < 0) {
		return hk_err_ctx(err, "HAKO_LOG");
	}
	hk_opts_init(&opts, "trace", table, OPT_COUNT, argv);
	while (r == 0 && (option = hk_opts_next(&opts, &value, err)) != HK_OPTS_END) {
		r = option < 0 ? option : take(options, option, value, err);
	}
	options->argv = argv + opts.next;
	return r < 0 || options->help ? r : check(options, err);
}

void hk_trace_options_finish(struct hk_trace_options *options)
{
	for (unsigned i = 0; i < options->view_count; i++) {
		free((char *)options->views[i].path);
	}
	free(options->cwd);
	*options = (struct hk_trace_options){0};
}
