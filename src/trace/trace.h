/* SPDX-License-Identifier: ISC */
/*
 * A command on a mirror of the root file system: the file server with its rules and its audit, in
 * this process; the sandbox around the command (sandbox_linux.h); /dev/fuse between them.
 *
 *	hk_trace_create()	rules are read, namespaces made; no thread yet, nothing of this process changed
 *	hk_trace_start()	the mirror is served, the command runs
 *	hk_trace_finish()	all of the sandbox has ended, nothing is served any more; the audit is complete
 */
#ifndef HK_TRACE_TRACE_H
#define HK_TRACE_TRACE_H

#include <signal.h>
#include <stdbool.h>
#include <sys/types.h>

#include "base/err.h"
#include "fuse/rules.h"

enum { HK_TRACE_MAX_HIDDEN = 8, HK_TRACE_MAX_VIEWS = 32 };

struct hk_audit;
struct hk_fuse_question;
struct hk_sandbox;

/**
 * struct hk_trace_view - what may be changed at a path and below, whatever the policy says
 * @path: real and absolute
 * @verdict: HK_VERDICT_ALLOW, HK_VERDICT_DENY or HK_VERDICT_COW
 */
struct hk_trace_view {
	const char *path;
	enum hk_verdict verdict;
};

/**
 * struct hk_trace_config - all borrowed; as long as the trace
 * @argv, @env, @cwd: the command; @cwd absolute
 * @policy: a file of rules; NULL: none
 * @fusebox_acl: or one of Fusebox's commands; NULL: none
 * @views: @view_count of them, the last one that covers a path decides
 * @layer: a directory of its own for what is changed (fuse/overlay.h); NULL: changes go to the
 *	files. May be set until hk_trace_start()
 * @cow: all that is changed goes there; else what the policy says
 * @hidden: @hidden_count paths of ours that the command is not to see, files or directories with
 *	all in them
 * @has_audit: decisions are kept; @log_fd: and written there, -1: nowhere
 * @net, @minimal_dev: see struct hk_sandbox_options
 * @signals: blocked in the command; NULL: as at present
 * @ask, @judge: see struct hk_fuse_owner; NULL: no. Any thread
 * @violated: the policy has denied something; NULL: nobody waits for it. Any thread
 */
struct hk_trace_config {
	const char *const *argv;
	const char *const *env;
	const char *cwd;
	const char *policy;
	const char *fusebox_acl;
	const struct hk_trace_view *views;
	unsigned view_count;
	const char *layer;
	bool cow;
	const char *hidden[HK_TRACE_MAX_HIDDEN];
	unsigned hidden_count;
	bool has_audit;
	int log_fd;
	bool net;
	bool minimal_dev;
	const sigset_t *signals;
	bool (*ask)(void *arg, const char *path, const char *class_name, pid_t pid);
	void *ask_arg;
	int (*judge)(void *arg, const struct hk_fuse_question *question);
	void *judge_arg;
	void (*violated)(void *arg);
	void *violated_arg;
};

struct hk_trace;

/** hk_trace_create() - before there are threads. Return: 0, or -errno */
int hk_trace_create(
	const struct hk_trace_config *config, struct hk_trace **ret_trace, struct hk_err *err);

/** hk_trace_needs_layer() - does the policy have rules of copy-on-write? */
bool hk_trace_needs_layer(const struct hk_trace *trace);

/** hk_trace_start() - in the thread that created it. @ret_at_command: see hk_sandbox_start() */
int hk_trace_start(struct hk_trace *trace, bool *ret_at_command, struct hk_err *err);

struct hk_sandbox *hk_trace_sandbox(struct hk_trace *trace); /* borrowed */
struct hk_audit *hk_trace_audit(struct hk_trace *trace);     /* borrowed; NULL: has none */

/**
 * hk_trace_finish() - end what is left
 * @ret_status: of the command, as waitpid() gives it; -ECHILD where it was lost
 *
 * Return: 0, or what writing the log gave.
 */
int hk_trace_finish(struct hk_trace *trace, int *ret_status, struct hk_err *err);
void hk_trace_destroy(struct hk_trace *trace); /* NULL is fine */

#endif
