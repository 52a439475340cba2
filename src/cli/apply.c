/* SPDX-License-Identifier: ISC */
/* `hako apply`: brings changes of a kept layer below. The work is in fuse/layer.h. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/str.h"
#include "cli/builtin.h"
#include "cli/layer.h"
#include "cli/opts.h"
#include "cli/report.h"
#include "fuse/layer.h"

enum { OPT_FORCE, OPT_HELP, OPT_COUNT };

static const struct hk_opt table[OPT_COUNT] = {
	[OPT_FORCE] = {"force", 'f', NULL, "also where below has changed, or an owner is lost"},
	[OPT_HELP] = {"help", 'h', NULL, "this"},
};

static void print_help(void)
{
	puts("usage: hako apply [--force] NAME [PATH]... [--force]\n\n"
	     "Brings what layer NAME changes (at these paths, or all) to what it was made over. "
	     "What\n"
	     "was applied leaves the layer. Where below has changed since, it is left, and told; "
	     "so "
	     "is\nwhat would lose its owner, and what cannot be changed.\n");
	hk_opts_print(stdout, table, OPT_COUNT);
}

static void tell_left(void *arg, const struct hk_change *change, const char *why)
{
	char path[8192];

	hk_str_escape(path, sizeof(path), change->path, strlen(change->path));
	hk_report("apply", "'%s' %s: left as it is", path, why);
}

/* Return: number of conflicts, or -errno. */
static int execute(char **words, bool force, struct hk_err *err)
{
	autofree char *lower = NULL;
	struct hk_layer *layer;
	char **paths = NULL;
	int r = hk_cli_open_layer(words[0], &layer, &lower, err);

	if (r < 0) {
		return r;
	}
	r = hk_cli_layer_paths(words + 1, lower, &paths, err);
	if (r == 0) {
		r = hk_layer_apply(layer, (const char *const *)paths, force, tell_left, NULL, err);
	}
	hk_cli_free_paths(paths);
	hk_layer_close(layer);
	return r;
}

/* Options may stand behind the paths, too: takes "--force" out of @words. */
static bool take_force(char **words)
{
	bool found = false;
	char **to = words;

	for (; *words != NULL; words++) {
		if (strcmp(*words, "--force") == 0 || strcmp(*words, "-f") == 0) {
			found = true;
		} else {
			*to++ = *words;
		}
	}
	*to = NULL;
	return found;
}

int hk_cmd_apply(char **argv)
{
	struct hk_err err = HK_ERR_INIT;
	struct hk_opts opts;
	const char *value;
	bool force = false;
	int option;
	int r;

	hk_opts_init(&opts, "apply", table, OPT_COUNT, argv);
	while ((option = hk_opts_next(&opts, &value, &err)) != HK_OPTS_END) {
		switch (option) {
		case OPT_FORCE:
			force = true;
			break;
		case OPT_HELP:
			print_help();
			return HK_STATUS_OK;
		default:
			return hk_report_err("apply", &err, HK_STATUS_USAGE);
		}
	}
	if (argv[opts.next] == NULL) {
		hk_report("apply", "which layer? See hako layers, hako apply --help");
		return HK_STATUS_USAGE;
	}
	force |= take_force(argv + opts.next + 1);
	r = execute(argv + opts.next, force, &err);
	if (r < 0) {
		return hk_report_err("apply", &err, HK_STATUS_FAILURE);
	}
	if (r > 0) {
		hk_report("apply", "%d left; hako diff shows them, --force applies them, too", r);
	}
	return r > 0 ? HK_STATUS_NO : HK_STATUS_OK;
}
