/* SPDX-License-Identifier: ISC */
/* What an audit found, told at the end: the summary, the report, the policy that was learnt. */
#ifndef HK_CLI_FINDINGS_H
#define HK_CLI_FINDINGS_H

#include <stdbool.h>

#include "cli/watch_options.h"
#include "fuse/audit.h"

/** enum hk_summary - when to print it */
enum hk_summary {
	HK_SUMMARY_IF_DENIED, /* the policy has denied something */
	HK_SUMMARY_ALWAYS,
	HK_SUMMARY_NEVER,
};

/* Those of the log, the report and the learnt policy. */
enum { HK_FINDINGS_FILES = 3 };

/**
 * struct hk_findings
 * @verb: of hako; @argv: the command
 * @options: borrowed; of the files, "-" is standard error
 * @log_fd, @report_fd, @learn_fd: owned; -1: not open
 * @real: owned; the real paths of those that are regular files, which the command is not to see:
 *	nobody reads a pipe by its name. NULL: it is none
 */
struct hk_findings {
	const char *verb;
	char *const *argv;
	const struct hk_watch_options *options;
	int log_fd, report_fd, learn_fd;
	char *real[HK_FINDINGS_FILES];
	enum hk_summary summary;
};

/** HK_FINDINGS_INIT - nothing is open */
#define HK_FINDINGS_INIT \
	{ \
		.log_fd = -1, .report_fd = -1, .learn_fd = -1 \
	}

/**
 * hk_findings_open() - open the files, before there is a command that could put others in their
 * places
 * @policy: a file that none of them may be, or NULL
 *
 * What is in them stays for now: the log's until hk_findings_begin(), the others' until
 * hk_findings_tell().
 *
 * Return: 0; -EINVAL for one file with two purposes, or one with further names (hard links);
 * -errno.
 */
int hk_findings_open(struct hk_findings *findings, const char *policy, struct hk_err *err);

/**
 * hk_findings_hide() - add the files that the command is not to see to the *@count paths in
 * @hidden; borrowed
 */
void hk_findings_hide(const struct hk_findings *findings, const char **hidden, unsigned *count);

/**
 * hk_findings_begin() - the rules have been read: the log is empty from now on. Return: 0 or -errno
 */
int hk_findings_begin(const struct hk_findings *findings, struct hk_err *err);

/**
 * hk_findings_tell() - after hk_audit_finish(); @audit may be NULL. Return: is all written? If not,
 * it is said
 */
bool hk_findings_tell(struct hk_findings *findings, struct hk_audit *audit);
void hk_findings_finish(struct hk_findings *findings); /* with HK_FINDINGS_INIT only is fine */

#endif
