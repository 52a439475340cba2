/* SPDX-License-Identifier: ISC */
/*
 * The audit: what was done to files, by whom, and what the policy said.
 *
 * The server tells of each decision (struct hk_audit_event) from the thread that made it. An audit
 * keeps them twice: as lines of JSON, one for each event (hako-audit(5) has the schema), and added
 * up for each path, for the summary, the report and the policy that a run would have needed. Lines
 * are written by a thread of its own through a bounded queue: where the reader is slow, the server
 * waits; nothing is dropped.
 */
#ifndef HK_FUSE_AUDIT_H
#define HK_FUSE_AUDIT_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/types.h>

#include "base/err.h"
#include "fuse/rules.h"

/** enum hk_event_op - what was asked for; the name in the log is hk_event_op_name()'s */
enum hk_event_op {
	HK_EVENT_LOOKUP, /* only of what is not there, or is hidden */
	HK_EVENT_OPEN,   /* for data; @flags are open(2)'s */
	HK_EVENT_CREATE,
	HK_EVENT_MKDIR,
	HK_EVENT_MKNOD,
	HK_EVENT_SYMLINK,
	HK_EVENT_LINK, /* @path: the new name; @other: what is linked */
	HK_EVENT_UNLINK,
	HK_EVENT_RMDIR,
	HK_EVENT_RENAME, /* @path: from; @other: to */
	HK_EVENT_READLINK,
	HK_EVENT_TRUNCATE,
	HK_EVENT_CHMOD,
	HK_EVENT_CHOWN,
	HK_EVENT_UTIMES,
	HK_EVENT_SETXATTR,
	HK_EVENT_REMOVEXATTR,
	HK_EVENT_LIST,
	HK_EVENT_EXEC,
	HK_EVENT_CLOSE, /* of what was opened; with the bytes */
	HK_EVENT_COUNT,
};

const char *hk_event_op_name(enum hk_event_op op);

/**
 * struct hk_audit_event - one decision, valid during the call only
 * @time_ns: CLOCK_REALTIME
 * @pid: of the process, as the server sees it; 0: the kernel's own (write-back)
 * @path: absolute, as the box or the trace sees it, by the names last seen; bytes, not text:
 *	anything but NUL and '/', and no name is "." or ".."
 * @other: a second path, or NULL
 * @flags: open(2) flags, or mode bits, by @op
 * @error: positive errno that was given, 0: it was done
 * @bytes_read, @bytes_written: of HK_EVENT_CLOSE
 * @exact: false: the kernel moved the data by itself, and the bytes are an estimate: what the file
 *	holds, 0 is any number
 */
struct hk_audit_event {
	enum hk_event_op op;
	enum hk_class class;
	uint64_t time_ns;
	pid_t pid;
	uid_t uid;
	const char *path;
	const char *other;
	uint32_t flags;
	enum hk_verdict verdict;
	uint32_t rule; /* see hk_rules_text() */
	int error;
	uint64_t bytes_read, bytes_written;
	bool exact;
};

/**
 * struct hk_audit_root - what is below @path in the log is below @host on the host; both borrowed
 */
struct hk_audit_root {
	const char *path, *host;
};

/**
 * struct hk_audit_options
 * @log_fd: lines go there; -1: none. Borrowed
 * @rules: for the text of rules, and what is learnt; may be NULL; borrowed
 * @home: paths below are written with $HOME in learnt policies; NULL: none
 * @cwd: likewise with $PWD
 * @proc: where processes are looked up, a /proc of the pid namespace that events have their pids
 *	of; NULL: "/proc"; "": nowhere, as their pids are a guest's: its processes have nothing to
 *	do with ours of the same number
 * @roots: @root_count of them, for the first line; the innermost counts. Borrowed; none: paths are
 *	the host's
 * @start_later: by hk_audit_start(); events that come before wait in the queue
 */
struct hk_audit_options {
	int log_fd;
	struct hk_rules *rules;
	const char *home, *cwd;
	const char *proc;
	const struct hk_audit_root *roots;
	unsigned root_count;
	bool start_later;
};

struct hk_audit;

int hk_audit_create(
	const struct hk_audit_options *options, struct hk_audit **ret_audit, struct hk_err *err);

/**
 * hk_audit_start() - its thread, for a process that must not have threads while it prepares. Once,
 * where @start_later was said. Return: 0 or -errno
 */
int hk_audit_start(struct hk_audit *audit, struct hk_err *err);

/** hk_audit_event() - any thread; waits where the log's reader is slow */
void hk_audit_event(struct hk_audit *audit, const struct hk_audit_event *event);

/**
 * hk_audit_finish() - write what is left and stop. Return: 0, or what writing the log gave. No
 * events after it.
 */
int hk_audit_finish(struct hk_audit *audit, struct hk_err *err);
void hk_audit_free(struct hk_audit *audit); /* NULL is fine; finishes if nobody has */

/** hk_audit_violations() - decisions with an error that a rule gave */
uint64_t hk_audit_violations(const struct hk_audit *audit);

/*
 * After hk_audit_finish(). @command: the command line, for the heading. Return: 0 or -errno of
 * writing.
 */
int hk_audit_summary(
	struct hk_audit *audit, FILE *to, const char *command); /* for people, a terminal's width */
int hk_audit_report_json(
	struct hk_audit *audit, FILE *to, const char *command); /* the same, for programs */
int hk_audit_report_html(
	struct hk_audit *audit, FILE *to, const char *command); /* one page, nothing loaded */
/**
 * hk_audit_learn() - the smallest sensible policy under which the run would have gone the same way
 */
int hk_audit_learn(struct hk_audit *audit, FILE *to, const char *command);

#endif
