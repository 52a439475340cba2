/* SPDX-License-Identifier: ISC */
/* What an audit found, told at the end: the summary, the report, the policy that was learnt. */
#ifndef HK_CLI_FINDINGS_H
#define HK_CLI_FINDINGS_H

#include <stdbool.h>

#include "fuse/audit.h"

/** enum hk_summary - when to print it */
enum hk_summary {
	HK_SUMMARY_IF_DENIED, /* the policy has denied something */
	HK_SUMMARY_ALWAYS,
	HK_SUMMARY_NEVER,
};

/**
 * struct hk_findings
 * @verb: of hako; @argv: the command
 * @report, @learn: where to, "-" is standard error; NULL: nowhere
 * @report_fd, @learn_fd: owned; opened before, or -1
 */
struct hk_findings {
	const char *verb;
	char *const *argv;
	const char *report, *learn;
	int report_fd, learn_fd;
	enum hk_summary summary;
};

/**
 * hk_output_open() - open a file for what will be written
 * @option: that names it, for messages
 * @path: "-" is standard error
 * @keep: what is in it stays until then
 * @ret_real: its real path, free(), where it is a regular file; else NULL: nobody reads a pipe by its name
 *
 * Return: 0 or -errno.
 */
int hk_output_open(const char *option, const char *path, bool keep, int *ret_fd, char **ret_real,
	struct hk_err *err);

/** hk_findings_tell() - after hk_audit_finish(); @audit may be NULL. Return: is all written? If not, it is said */
bool hk_findings_tell(struct hk_findings *findings, struct hk_audit *audit);
void hk_findings_finish(struct hk_findings *findings);

#endif
