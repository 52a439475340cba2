/* SPDX-License-Identifier: ISC */
/* `hako discard`: removes a kept layer, if no run has it. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>

#include "base/cleanup.h"
#include "base/sys.h"
#include "base/util.h"
#include "cli/builtin.h"
#include "cli/layer.h"
#include "cli/layers.h"
#include "cli/opts.h"
#include "cli/report.h"

enum { OPT_HELP };

static const struct hk_opt options[] = {
	[OPT_HELP] = {"help", 'h', NULL, "this"},
};

static int discard(const char *name, struct hk_err *err)
{
	autofree char *path = NULL;
	autoclose int fd = -1;
	int r = hk_cli_find_layer(name, &path, err);

	if (r < 0) {
		return r;
	}
	fd = hk_open(AT_FDCWD, path, O_RDONLY | O_DIRECTORY, 0);
	if (fd < 0) {
		return hk_fail(err, -fd, "layer '%s'", name);
	}
	if (flock(fd, LOCK_EX | LOCK_NB) < 0) {
		hk_fail_msg(err, EBUSY, "layer '%s' is in use by another run", name);
		hk_err_hint(err, "wait for it");
		return -EBUSY;
	}
	/* First, so that what is half gone is no layer any more. */
	unlinkat(fd, "version", 0);
	return hk_layers_remove(path, err);
}

int hk_cmd_discard(char **argv)
{
	struct hk_err err = HK_ERR_INIT;
	struct hk_opts opts;
	const char *value;
	int r;

	hk_opts_init(&opts, "discard", options, HK_ARRAY_SIZE(options), argv);
	r = hk_opts_next(&opts, &value, &err);
	if (r == OPT_HELP) {
		puts("usage: hako discard NAME\n\nRemoves layer NAME: all that a copy-on-write run "
		     "has changed, and that was not applied.");
		return HK_STATUS_OK;
	}
	if (r != HK_OPTS_END) {
		return hk_report_err("discard", &err, HK_STATUS_USAGE);
	}
	if (argv[opts.next] == NULL || argv[opts.next + 1] != NULL) {
		hk_report("discard", "which layer? One name; see hako layers");
		return HK_STATUS_USAGE;
	}
	return discard(argv[opts.next], &err) < 0
		? hk_report_err("discard", &err, HK_STATUS_FAILURE)
		: HK_STATUS_OK;
}
