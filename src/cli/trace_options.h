/* SPDX-License-Identifier: ISC */
/* The command line of `hako trace`. */
#ifndef HK_CLI_TRACE_OPTIONS_H
#define HK_CLI_TRACE_OPTIONS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "cli/findings.h"
#include "cli/watch_options.h"
#include "trace/trace.h"

/** struct hk_trace_options - zero-initialize; strings are argv's but for @cwd */
struct hk_trace_options {
	char **argv; /* of the command */
	char *cwd;   /* owned */
	struct hk_watch_options watch;
	const char *fusebox_acl;
	const char *keep;
	struct hk_trace_view views[HK_TRACE_MAX_VIEWS]; /* paths owned */
	unsigned view_count;
	uint64_t timeout_ns; /* 0: none */
	bool cow;
	bool no_net;
	bool minimal_dev;
	bool verbose;
	bool quiet;
	enum hk_summary summary; /* follows from the others */
	bool help;
};

/**
 * hk_trace_options_parse() - Return: 0; -EINVAL and others for a wrong command line (exit status 2)
 */
int hk_trace_options_parse(struct hk_trace_options *options, char **argv, struct hk_err *err);
void hk_trace_options_finish(struct hk_trace_options *options);

void hk_trace_options_print_help(void);

#endif
