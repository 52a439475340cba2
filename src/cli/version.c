/* SPDX-License-Identifier: ISC */
/* `hako version` */
#include <stdio.h>

#include "base/util.h"
#include "cli/builtin.h"
#include "cli/opts.h"
#include "cli/report.h"
#include "engine/engine.h"

enum { OPT_HELP };

static const struct hk_opt options[] = {
	[OPT_HELP] = {"help", 'h', NULL, "this"},
};

int hk_cmd_version(char **argv)
{
	struct hk_engine_probe probes[8];
	struct hk_err err = HK_ERR_INIT;
	struct hk_opts opts;
	const char *value;
	unsigned count;
	int r;

	hk_opts_init(&opts, "version", options, HK_ARRAY_SIZE(options), argv);
	r = hk_opts_next(&opts, &value, &err);
	if (r == OPT_HELP) {
		puts("usage: hako version\n\nSays which hako this is, and which engines are in "
		     "it.");
		return HK_STATUS_OK;
	}
	if (r != HK_OPTS_END) {
		return hk_report_err("version", &err, HK_STATUS_USAGE);
	}
	count = hk_engine_probe_all(probes, HK_ARRAY_SIZE(probes));
	printf("hako %s\nengines:", HAKO_VERSION);
	for (unsigned i = 0; i < count; i++) {
		printf(" %s", probes[i].name);
	}
	putchar('\n');
	return HK_STATUS_OK;
}
