/* SPDX-License-Identifier: ISC */
/* The command line of `hako run`, and the box configuration that it means. */
#ifndef HK_CLI_RUN_OPTIONS_H
#define HK_CLI_RUN_OPTIONS_H

#include "base/err.h"
#include "box/box.h"
#include "cli/run_layers.h"
#include "cli/watch_options.h"

/** struct hk_run_options - zero-initialize; config points into the rest */
struct hk_run_options {
	struct hk_box_config config;
	struct hk_share shares[HK_BOX_MAX_SHARES]; /* strings owned */
	bool is_cow[HK_BOX_MAX_SHARES];
	struct hk_box_disk disks[HK_BOX_MAX_DISKS]; /* paths owned */
	char **env;                                 /* owned strings */
	unsigned env_count;
	char *caller_dir;  /* owned */
	char *caller_name; /* owned */
	char *rootfs;      /* owned */
	char *caller_home; /* owned; a real path, or NULL */
	struct hk_run_layers layers;
	struct hk_watch_options watch;
	bool help;
	bool want_tty;
	bool want_pipes; /* -i */
};

/**
 * hk_run_options_parse() - read argv and the caller's environment
 * @err: what is wrong with the command line
 *
 * Return: 0, -EINVAL and others for a wrong command line (exit status 2).
 */
int hk_run_options_parse(struct hk_run_options *options, char **argv, struct hk_err *err);
void hk_run_options_finish(struct hk_run_options *options);

void hk_run_options_print_help(void);

#endif
