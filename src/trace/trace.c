/* SPDX-License-Identifier: ISC */
/*
 * A command on a mirror: see trace.h.
 *
 * Theory: the server lives in the host's mount namespace and the mirror in the sandbox's, so the
 * server never meets its own mount, whatever is looked up: it cannot come to wait for itself.
 *
 * Besides the policy there are rules of our own behind it, so that nothing overrules them. The
 * mirror shows mounts of the host as they are, but those of the kernel's own file systems (proc,
 * sysfs, ...) it must not: what they give depends on who reads, and that is the server, with the
 * host's processes and its rights. Where they stand in the mirror there is nothing; on /proc, /sys
 * and /dev, which programs expect, the sandbox mounts its own. Hidden as well are files of ours:
 * the log, which the command could else rewrite, and the layer of copy-on-write. The policy's own
 * files nobody changes.
 *
 * Limits: file systems of the kernel that are mounted on the host while the command runs are not
 * hidden. Sockets of the host are seen in the mirror, but nobody answers there: the kernel looks
 * for them by inode.
 */
#include "trace/trace.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/str.h"
#include "base/sys.h"
#include "base/util.h"
#include "fuse/audit.h"
#include "fuse/dev_linux.h"
#include "fuse/overlay.h"
#include "fuse/rules_file_linux.h"
#include "fuse/server.h"
#include "trace/sandbox_linux.h"

enum { MAX_MOUNTS_BYTES = 64 << 20 };

static const char export_name[] = "root";

struct hk_trace {
	const struct hk_trace_config *config; /* borrowed */
	struct hk_fuse_owner owner;
	struct hk_rules *rules;
	gid_t *groups; /* owned; of the caller */
	unsigned group_count;
	struct hk_sandbox *sandbox;
	int fuse_fd; /* -1: the transport's, or none */
	struct hk_fuse_server *server;
	struct hk_audit *audit;
	struct hk_fuse_dev *dev;
};

/* Rules */

/* /proc/self/mountinfo writes blanks and the like as \ooo. In place. */
static void unescape(char *text)
{
	char *to = text;

	for (const char *from = text; *from != '\0'; to++) {
		if (from[0] == '\\' && strspn(from + 1, "01234567") >= 3) {
			*to = (char)((from[1] - '0') << 6 | (from[2] - '0') << 3 | (from[3] - '0'));
			from += 4;
		} else {
			*to = *from++;
		}
	}
	*to = '\0';
}

static bool is_kernels(const char *type)
{
	static const char *const types[] = {"proc", "sysfs", "devtmpfs", "devpts", "cgroup",
		"cgroup2", "debugfs", "tracefs", "securityfs", "selinuxfs", "smackfs", "bpf",
		"configfs", "pstore", "efivarfs", "binfmt_misc", "fusectl", "mqueue", "resctrl",
		"rpc_pipefs", "nfsd", "nsfs"};

	for (size_t i = 0; i < HK_ARRAY_SIZE(types); i++) {
		if (strcmp(type, types[i]) == 0) {
			return true;
		}
	}
	return false;
}

/* A line: ID PARENT MAJOR:MINOR ROOT PLACE OPTIONS [TAG]... - TYPE SOURCE OPTIONS */
static int hide_mount(struct hk_rules *rules, char *line)
{
	char *type = strstr(line, " - ");
	char *place = line;

	for (unsigned field = 0; place != NULL && field < 4; field++) {
		place = strchr(place, ' ');
		place = place == NULL ? NULL : place + 1;
	}
	if (type == NULL || place == NULL) {
		return 0;
	}
	type += 3;
	type[strcspn(type, " \n")] = '\0';
	place[strcspn(place, " ")] = '\0';
	if (!is_kernels(type)) {
		return 0;
	}
	unescape(place);
	return hk_rules_hide(rules, place);
}

static int hide_kernels_mounts(struct hk_rules *rules, struct hk_err *err)
{
	autofree char *text = NULL;
	void *data = NULL;
	char *line;
	char *rest;
	size_t len;
	int r = hk_read_file("/proc/self/mountinfo", MAX_MOUNTS_BYTES, &data, &len, err);

	if (r == -ENOENT) {
		return hk_err_hint(err, "mount it: mount -t proc proc /proc");
	}
	rest = text = data;
	while (r == 0 && (line = strsep(&rest, "\n")) != NULL) {
		r = hide_mount(rules, line);
	}
	return r;
}

static int add_views(struct hk_trace *trace)
{
	const struct hk_trace_config *config = trace->config;
	int r = 0;

	for (unsigned i = 0; r == 0 && i < config->view_count; i++) {
		r = hk_rules_add(trace->rules, config->views[i].verdict, HK_CLASSES_CHANGING,
			config->views[i].path, true);
	}
	return r;
}

/* What stands behind the policy, so that it cannot be overruled. */
static int add_own_rules(
	struct hk_trace *trace, const struct hk_rules_files *files, struct hk_err *err)
{
	static const char *const mount_points[] = {"/proc", "/sys", "/dev"};
	int r = add_views(trace);

	if (r == 0) {
		r = hide_kernels_mounts(trace->rules, err);
	}
	for (size_t i = 0; r == 0 && i < files->count; i++) {
		r = hk_rules_keep(trace->rules, files->paths[i]);
	}
	for (unsigned i = 0; r == 0 && i < trace->config->hidden_count; i++) {
		r = hk_rules_hide(trace->rules, trace->config->hidden[i]);
	}
	for (size_t i = 0; r == 0 && i < HK_ARRAY_SIZE(mount_points); i++) {
		r = hk_rules_add(
			trace->rules, HK_VERDICT_ALLOW, HK_CLASSES_ALL, mount_points[i], false);
	}
	return r;
}

static int read_rules(struct hk_trace *trace, struct hk_err *err)
{
	const struct hk_trace_config *config = trace->config;
	struct hk_rules_user user = {.pwd = config->cwd, .uid = getuid()};
	struct hk_rules_files files = {0};
	int r = config->fusebox_acl != NULL
		? hk_rules_load_fusebox(config->fusebox_acl, &files, &trace->rules, err)
		: hk_rules_load(config->policy, &user, &files, &trace->rules, err);

	if (r == 0) {
		r = add_own_rules(trace, &files, err);
	}
	hk_rules_files_finish(&files);
	return r < 0 && (err == NULL || err->code == 0) ? hk_fail(err, -r, "policy") : r;
}

/* Serving */

static bool ask(struct hk_fuse_owner *owner, const char *path, const char *class_name, pid_t pid)
{
	const struct hk_trace *trace = hk_container_of(owner, struct hk_trace, owner);

	return trace->config->ask(trace->config->ask_arg, path, class_name, pid);
}

static int judge(struct hk_fuse_owner *owner, const struct hk_fuse_question *question)
{
	const struct hk_trace *trace = hk_container_of(owner, struct hk_trace, owner);

	return trace->config->judge(trace->config->judge_arg, question);
}

static void denied(struct hk_fuse_owner *owner, const struct hk_fuse_denial *denial)
{
	const struct hk_trace *trace = hk_container_of(owner, struct hk_trace, owner);

	trace->config->violated(trace->config->violated_arg);
}

static int make_audit(struct hk_trace *trace, struct hk_err *err)
{
	struct hk_audit_options options = {
		.log_fd = trace->config->log_fd,
		.rules = trace->rules,
		.home = getenv("HOME"),
		.cwd = trace->config->cwd,
	};

	return trace->config->has_audit ? hk_audit_create(&options, &trace->audit, err) : 0;
}

/* Any thread. */
static bool is_cow(void *arg, const char *path)
{
	return hk_rules_is_cow(arg, path);
}

/* The same with --cow: all is kept apart, but for what the last -v that covers it lets through. */
static bool is_cow_despite_views(void *arg, const char *path)
{
	const struct hk_trace_config *config = arg;
	bool is_cow = true;

	for (unsigned i = 0; i < config->view_count; i++) {
		if (hk_path_within(path, config->views[i].path) != NULL) {
			is_cow = config->views[i].verdict != HK_VERDICT_ALLOW;
		}
	}
	return is_cow;
}

static bool lets_through(const struct hk_trace_config *config)
{
	bool lets = false;

	for (unsigned i = 0; i < config->view_count; i++) {
		lets |= config->views[i].verdict == HK_VERDICT_ALLOW;
	}
	return lets;
}

static int make_overlay(struct hk_trace *trace, struct hk_backend **ret_backend, struct hk_err *err)
{
	struct hk_overlay_options options = {
		.lower = "/",
		.layer = trace->config->layer,
		.is_cow = is_cow,
		.arg = trace->rules,
	};

	if (trace->config->cow) {
		options.is_cow = lets_through(trace->config) ? is_cow_despite_views : NULL;
		options.arg = (void *)trace->config;
	}
	return trace->config->layer == NULL ? 0 : hk_overlay_open(&options, ret_backend, err);
}

/* The caller's groups. */
static int find_groups(struct hk_trace *trace)
{
	int count = getgroups(0, NULL);

	if (count < 0) {
		return -errno;
	}
	trace->groups = hk_calloc((size_t)count + 1, sizeof(*trace->groups));
	if (trace->groups == NULL) {
		return -ENOMEM;
	}
	count = getgroups(count, trace->groups);
	trace->group_count = count < 0 ? 0 : (unsigned)count;
	return 0;
}

static int make_server(struct hk_trace *trace, struct hk_err *err)
{
	struct hk_fuse_export export = {
		.name = export_name,
		.path = "/",
		.rules = trace->rules,
		.audit = trace->audit,
		/* The kernel that asks has the host's ids where root runs us. */
		.acls = geteuid() == 0 && hk_sandbox_knows_all_ids(trace->sandbox),
		.lone_user = !hk_sandbox_knows_all_ids(trace->sandbox),
		.guest_uid = geteuid(),
		.guest_gid = getegid(),
	};
	int r = find_groups(trace);

	if (r < 0) {
		return hk_fail(err, -r, "groups");
	}
	export.groups = trace->groups;
	export.group_count = trace->group_count;
	r = hk_fuse_server_create(&trace->owner, &trace->server, err);
	if (r == 0) {
		r = make_overlay(trace, &export.backend, err);
	}
	return r == 0 ? hk_fuse_server_export(trace->server, &export, err) : r;
}

/*
 * A file server holds many files open. The command has been forked already, with the caller's
 * limit.
 */
static void raise_limits(void)
{
	struct rlimit files;

	if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
		files.rlim_cur = files.rlim_max;
		setrlimit(RLIMIT_NOFILE, &files);
	}
}

int hk_trace_create(
	const struct hk_trace_config *config, struct hk_trace **ret_trace, struct hk_err *err)
{
	struct hk_sandbox_options options = {
		.argv = config->argv,
		.env = config->env,
		.cwd = config->cwd,
		.export_name = export_name,
		.net = config->net,
		.minimal_dev = config->minimal_dev,
		.device_nodes = config->policy == NULL && config->fusebox_acl == NULL &&
			config->judge == NULL,
		.keep_terminal = true,
		.signals = config->signals,
	};
	struct hk_trace *trace;
	int r;

	if (hk_new(trace) == NULL) {
		return hk_fail(err, ENOMEM, "trace");
	}
	trace->config = config;
	trace->fuse_fd = -1;
	trace->owner.ask = config->ask == NULL ? NULL : ask;
	trace->owner.judge = config->judge == NULL ? NULL : judge;
	trace->owner.denied = config->violated == NULL ? NULL : denied;
	r = read_rules(trace, err);
	if (r == 0) {
		r = hk_sandbox_create(&options, &trace->sandbox, &trace->fuse_fd, err);
	}
	if (r < 0) {
		hk_trace_destroy(trace);
		return r;
	}
	*ret_trace = trace;
	return 0;
}

bool hk_trace_needs_layer(const struct hk_trace *trace)
{
	return hk_rules_any(trace->rules, HK_VERDICT_COW);
}

/*
 * The current directory is there for us, and not for the command: no error of the kernel's says
 * why.
 */
static void suspect_policy(const struct hk_trace_config *config, struct hk_err *err)
{
	if ((config->policy != NULL || config->fusebox_acl != NULL) &&
		access(config->cwd, X_OK) == 0) {
		hk_err_hint(
			err, "the policy may hide it: allow what leads to the current directory");
	}
}

int hk_trace_start(struct hk_trace *trace, bool *ret_at_command, struct hk_err *err)
{
	int r;

	*ret_at_command = false;
	raise_limits();
	r = make_audit(trace, err);
	if (r == 0) {
		r = make_server(trace, err);
	}
	if (r == 0) {
		r = hk_fuse_dev_create(
			trace->server, take_fd(&trace->fuse_fd), 0, &trace->dev, err);
	}
	if (r == 0) {
		r = hk_sandbox_start(trace->sandbox, ret_at_command, err);
	}
	if (r == -ENOENT && !*ret_at_command) {
		suspect_policy(trace->config, err);
	}
	return r;
}

struct hk_sandbox *hk_trace_sandbox(struct hk_trace *trace)
{
	return trace->sandbox;
}

struct hk_audit *hk_trace_audit(struct hk_trace *trace)
{
	return trace->audit;
}

/* The sandbox first: what runs there may still wait for answers. */
static void stop(struct hk_trace *trace)
{
	hk_sandbox_destroy(trace->sandbox);
	trace->sandbox = NULL;
	hk_fuse_dev_destroy(trace->dev);
	trace->dev = NULL;
	hk_fuse_server_destroy(trace->server);
	trace->server = NULL;
}

int hk_trace_finish(struct hk_trace *trace, int *ret_status, struct hk_err *err)
{
	*ret_status = hk_sandbox_wait(trace->sandbox);
	stop(trace);
	return trace->audit == NULL ? 0 : hk_audit_finish(trace->audit, err);
}

void hk_trace_destroy(struct hk_trace *trace)
{
	if (trace == NULL) {
		return;
	}
	stop(trace);
	hk_close(&trace->fuse_fd);
	hk_audit_free(trace->audit);
	hk_rules_free(trace->rules);
	free(trace->groups);
	free(trace);
}
