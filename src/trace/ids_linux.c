/* SPDX-License-Identifier: ISC */
/*
 * Whose ids are whose in the sandbox.
 *
 * Root keeps all ids and needs no user namespace. One with every id mapped to itself would take
 * from root what needs capabilities of the host, which are dropped anyway (rights_linux.c), and not
 * what root may do by owning files, which is where the danger is (/proc/sys): that takes read-only
 * mounts either way. In return it would not start where user namespaces are off, nor in containers
 * that cover a part of /proc.
 *
 * Anyone else gets a user namespace in which he has the id he has. The mirror belongs to it, so
 * owners of files are ids of this namespace: root's files are to show as root's, and 0 must be
 * mapped to something. Where /etc/subuid and /etc/subgid give the user a range, newuidmap(1) maps
 * all ids but his own to it, and every owner shows as it is. The range's users are never used:
 * nothing in the sandbox becomes one of them. Of its groups, those are that the user is in: by them
 * the kernel of the sandbox tells whether a group's file is his. The server is in the host's
 * groups, and has the last word.
 *
 * Without a range only the user's own ids are known. The kernel shows all others as 65534, and
 * refuses to write to their files and directories, whatever the mode says, to /tmp for one. So the
 * server shows those as his own that he may have a right to (struct hk_fuse_export, @lone_user).
 *
 * Limits: without a range, a file cannot be given to another group of the user's: the kernel gives
 * EINVAL without asking us. With one, devices that are the host's (/dev/kvm) are not open to him
 * for being in their group.
 */
#include <fcntl.h>
#include <grp.h>
#include <limits.h>
#include <linux/magic.h>
#include <linux/seccomp.h>
#include <pwd.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/vfs.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/str.h"
#include "base/sys.h"
#include "base/util.h"
#include "trace/sandbox_impl_linux.h"

/* What unknown users and groups show as; a range ends about here. */
enum { OVERFLOW_ID = 65534 };

struct range {
	uint64_t first, count;
};

/* A sysctl's value, or -1 where there is none. */
static int64_t sysctl(const char *path)
{
	void *text = NULL;
	size_t len;
	int64_t value = -1;

	if (hk_read_file(path, 64, &text, &len, NULL) == 0) {
		value = strtoll(text, NULL, 10);
	}
	free(text);
	return value;
}

bool hk_ids_all_known(void)
{
	autofclose FILE *map = fopen("/proc/self/uid_map", "re");
	uint64_t known = 0;
	char line[80];

	/* Lines of FIRST OUTSIDE COUNT */
	while (map != NULL && fgets(line, sizeof(line), map) != NULL) {
		uint64_t numbers[3];
		char *rest = line;

		for (size_t i = 0; i < HK_ARRAY_SIZE(numbers); i++) {
			numbers[i] = strtoull(rest, &rest, 10);
		}
		known += numbers[2];
	}
	return map == NULL || known >= OVERFLOW_ID;
}

/* Our mirror is its root, and our filter refuses namespaces. */
static bool is_traced(void)
{
	struct statfs root;

	return statfs("/", &root) == 0 && root.f_type == FUSE_SUPER_MAGIC &&
		prctl(PR_GET_SECCOMP, 0, 0, 0, 0) == SECCOMP_MODE_FILTER;
}

static int explain(int code, struct hk_err *err)
{
	static const char unprivileged[] = "/proc/sys/kernel/unprivileged_userns_clone";
	static const char most[] = "/proc/sys/user/max_user_namespaces";

	hk_fail(err, code, "user namespace");
	if (sysctl(unprivileged) == 0) {
		hk_err_hint(err,
			"this kernel keeps them from users: as root, sysctl "
			"kernel.unprivileged_userns_clone=1");
	} else if (sysctl(most) == 0) {
		hk_err_hint(err, "they are off: as root, sysctl user.max_user_namespaces=10000");
	} else if (code == ENOSPC || code == EUSERS) {
		hk_err_hint(err, "there are too many: see /proc/sys/user/max_user_namespaces");
	} else if (code == EPERM && is_traced()) {
		hk_err_hint(err, "this is inside of a hako trace, where there is no other");
	} else if (code == EPERM) {
		hk_err_hint(err,
			"a chroot, the container, or a security module forbids them: run hako as "
			"root, or outside");
	} else if (code == EINVAL) {
		hk_err_hint(err, "this kernel has none (CONFIG_USER_NS): run hako as root");
	}
	return -code;
}

int hk_ids_probe(struct hk_err *err)
{
	int status;
	pid_t pid = fork();

	if (pid < 0) {
		return hk_fail(err, errno, "fork");
	}
	if (pid == 0) {
		_exit(unshare(CLONE_NEWUSER | CLONE_NEWNS) < 0 ? errno : 0);
	}
	if (waitpid(pid, &status, 0) < 0 || !WIFEXITED(status)) {
		return hk_fail(err, ECHILD, "user namespace");
	}
	return WEXITSTATUS(status) == 0 ? 0 : explain(WEXITSTATUS(status), err);
}

static int write_text(const char *path, const char *text)
{
	autoclose int fd = hk_open(AT_FDCWD, path, O_WRONLY, 0);

	return fd < 0 ? fd : hk_write_full(fd, text, strlen(text));
}

static int write_map(const char *path, unsigned id, struct hk_err *err)
{
	char text[64];
	int r;

	hk_fmt(text, sizeof(text), "%u %u 1\n", id, id);
	r = write_text(path, text);
	return r < 0 ? hk_fail(err, -r, "%s", path) : 0;
}

static int map_own(uid_t uid, gid_t gid, struct hk_err *err)
{
	/* Old kernels (before 3.19) have no such file, and want none. */
	int r = write_text("/proc/self/setgroups", "deny");

	if (r < 0 && r != -ENOENT) {
		return hk_fail(err, -r, "/proc/self/setgroups");
	}
	r = write_map("/proc/self/uid_map", uid, err);
	return r == 0 ? write_map("/proc/self/gid_map", gid, err) : r;
}

/* In the namespace, groups are those of the range; a group that is not in it is left. */
static void join_groups(gid_t *groups, int count, gid_t own)
{
	size_t known_count = 0;

	for (int i = 0; i < count; i++) {
		if (groups[i] == own || groups[i] < OVERFLOW_ID) {
			groups[known_count++] = groups[i];
		}
	}
	/* Where that is not allowed he has fewer groups, and what he may not do he is told. */
	(void)setgroups(known_count, groups);
}

int hk_ids_enter(struct hk_sandbox_setup *setup, struct hk_err *err)
{
	struct hk_sandbox_message reply = {0};
	autofree gid_t *groups = hk_calloc(NGROUPS_MAX, sizeof(*groups));
	int group_count = groups == NULL ? 0 : getgroups(NGROUPS_MAX, groups);
	uid_t uid = geteuid();
	gid_t gid = getegid();
	int r;

	if (unshare(CLONE_NEWUSER) < 0) {
		return explain(errno, err);
	}
	r = hk_sandbox_send(setup->socket, HK_WORD_MAP, 0, NULL, -1);
	if (r == 0) {
		r = hk_sandbox_receive(setup->socket, true, &reply, NULL);
	}
	if (r < 0) {
		return hk_fail(err, -r, "user namespace");
	}
	setup->all_ids = reply.value == 1;
	if (!setup->all_ids) {
		return map_own(uid, gid, err);
	}
	join_groups(groups, group_count, gid);
	return 0;
}

/* "NAME:FIRST:COUNT" for this user, by name or by number. */
static bool parse_line(char *line, const char *name, const char *number, struct range *range)
{
	char *first = strchr(line, ':');
	char *count = first == NULL ? NULL : strchr(first + 1, ':');

	if (count == NULL) {
		return false;
	}
	*first++ = '\0';
	*count++ = '\0';
	count[strcspn(count, "\n")] = '\0';
	return (strcmp(line, name) == 0 || strcmp(line, number) == 0) &&
		hk_parse_uint(first, 1, UINT32_MAX, &range->first) == 0 &&
		hk_parse_uint(count, 1, UINT32_MAX, &range->count) == 0;
}

static bool find_range(const char *path, uid_t uid, struct range *range)
{
	autofclose FILE *file = fopen(path, "re");
	const struct passwd *entry = getpwuid(uid);
	bool found = false;
	char number[16];
	char line[256];

	hk_fmt(number, sizeof(number), "%u", uid);
	while (file != NULL && !found && fgets(line, sizeof(line), file) != NULL) {
		found = parse_line(line, entry == NULL ? number : entry->pw_name, number, range);
	}
	return found;
}

/* newuidmap PID 0 FIRST ID  ID ID 1  ID+1 FIRST+ID REST */
static int run_helper(const char *helper, pid_t pid, unsigned id, const struct range *range)
{
	uint64_t below = HK_MIN((uint64_t)id, range->count);
	uint64_t above = range->count - below;
	uint64_t numbers[] = {(uint64_t)pid, id, id, 1, 0, range->first, below, id + UINT64_C(1),
		range->first + below, above};
	char texts[HK_ARRAY_SIZE(numbers)][24];
	char *argv[HK_ARRAY_SIZE(numbers) + 2] = {(char *)helper};
	unsigned count = 1;
	int status;
	pid_t child;

	for (size_t i = 0; i < HK_ARRAY_SIZE(numbers); i++) {
		hk_fmt(texts[i], sizeof(texts[i]), "%llu", (unsigned long long)numbers[i]);
		if ((i >= 4 && i < 7 && below == 0) || (i >= 7 && above == 0)) {
			continue;
		}
		argv[count++] = texts[i];
	}
	child = fork();
	if (child == 0) {
		/* What it has to say is of no use to the user: there is another way. */
		int null = open("/dev/null", O_RDWR | O_CLOEXEC);

		dup2(null, STDOUT_FILENO);
		dup2(null, STDERR_FILENO);
		execvp(helper, argv);
		_exit(127);
	}
	if (child < 0 || waitpid(child, &status, 0) < 0) {
		return -errno;
	}
	return WIFEXITED(status) && WEXITSTATUS(status) == 0 ? 0 : -EPERM;
}

int hk_ids_map(pid_t pid)
{
	struct range users;
	struct range groups;

	/* A half of it is worse than none: it can be written only once. */
	return find_range("/etc/subuid", geteuid(), &users) &&
		find_range("/etc/subgid", geteuid(), &groups) &&
		run_helper("newgidmap", pid, getegid(), &groups) == 0 &&
		run_helper("newuidmap", pid, geteuid(), &users) == 0;
}
