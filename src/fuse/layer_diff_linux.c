/* SPDX-License-Identifier: ISC */
/*
 * One change as text: see layer.h.
 *
 * Theory: diff(1) makes the unified diff. It gets both files as descriptors, opened by us one
 * component at a time, so no symbolic link that a program left behind leads it elsewhere. What is
 * no text, or no regular file, is told in a line, and so is all else that applying it makes: modes,
 * owners, attributes (of which capabilities and ACLs are some), devices.
 *
 * Limits: without diff(1) a line says that the files differ. What counts as text is what has no NUL
 * in its first 8 KiB.
 */
#include <linux/limits.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/str.h"
#include "base/sys.h"
#include "base/util.h"
#include "fuse/layer_impl.h"

enum { TEXT_LOOKED_AT = 8192 };

static int open_side(struct hk_layer *layer, int root, const char *path, int flags)
{
	const char *name;
	autoclose int dir = hk_layer_walk(root, path, &name);
	autoclose int obj = dir < 0 ? dir : hk_host_open_name(dir, name, O_PATH, 0);

	if (obj < 0 || flags == O_PATH) {
		return obj < 0 ? obj : take_fd(&obj);
	}
	return root == layer->ov->upper ? hk_layer_open_upper(layer->ov, obj)
					: hk_host_open_file(layer->ov->host, obj, flags);
}

static bool is_text(int fd)
{
	char buf[TEXT_LOOKED_AT];
	ssize_t n = hk_pread_full(fd, buf, sizeof(buf), 0);

	return n >= 0 && memchr(buf, '\0', (size_t)n) == NULL;
}

/* Runs diff(1) with its output into @out. Return: its exit status, or -errno. */
static int run_diff(int old_fd, int new_fd, int out, char *old_label, char *new_label)
{
	char old_path[32];
	char new_path[32];
	char *argv[] = {(char *)"diff", (char *)"-u", (char *)"--label", old_label,
		(char *)"--label", new_label, (char *)"--", old_path, new_path, NULL};
	char *const env[] = {(char *)"LC_ALL=C", (char *)"PATH=/usr/bin:/bin", NULL};
	posix_spawn_file_actions_t actions;
	pid_t pid;
	int status;
	int r;

	r = posix_spawn_file_actions_init(&actions);
	if (r != 0) {
		return -r;
	}
	hk_fmt(old_path, sizeof(old_path), "/dev/fd/%d", old_fd);
	hk_fmt(new_path, sizeof(new_path), "/dev/fd/%d", new_fd);
	/* Onto themselves: then they stay open. */
	posix_spawn_file_actions_adddup2(&actions, old_fd, old_fd);
	posix_spawn_file_actions_adddup2(&actions, new_fd, new_fd);
	posix_spawn_file_actions_adddup2(&actions, out, STDOUT_FILENO);
	r = posix_spawnp(&pid, "diff", &actions, NULL, argv, env);
	posix_spawn_file_actions_destroy(&actions);
	if (r != 0) {
		return -r;
	}
	while (waitpid(pid, &status, 0) < 0) {
		if (errno != EINTR) {
			return -errno;
		}
	}
	return WIFEXITED(status) ? WEXITSTATUS(status) : 2;
}

static int copy_out(int fd, FILE *to)
{
	char buf[8192];
	uint64_t at = 0;
	ssize_t n;

	while ((n = hk_pread_full(fd, buf, sizeof(buf), at)) > 0) {
		if (fwrite(buf, 1, (size_t)n, to) != (size_t)n) {
			return -EIO;
		}
		at += (uint64_t)n;
	}
	return (int)n;
}

static void label(char text[2 * PATH_MAX], const char *side, const char *path)
{
	int len = hk_fmt(text, 2 * PATH_MAX, "%s", side);

	hk_str_escape(text + len, (size_t)(2 * PATH_MAX - len), path, strlen(path));
}

static int diff_files(
	struct hk_layer *layer, const struct hk_change *change, FILE *to, struct hk_err *err)
{
	static char old_label[2 * PATH_MAX];
	static char new_label[2 * PATH_MAX];
	bool has_old = S_ISREG(change->lower.st_mode);
	bool has_new = S_ISREG(change->upper.st_mode);
	autoclose int old_fd = has_old
		? open_side(layer, layer->ov->host->root, change->old_path, O_RDONLY)
		: hk_open(AT_FDCWD, "/dev/null", O_RDONLY, 0);
	autoclose int new_fd = has_new ? open_side(layer, layer->ov->upper, change->path, O_RDONLY)
				       : hk_open(AT_FDCWD, "/dev/null", O_RDONLY, 0);
	autoclose int out = hk_memfd("diff", 0);
	int r;

	if (old_fd < 0 || new_fd < 0 || out < 0) {
		r = old_fd < 0 ? old_fd : new_fd < 0 ? new_fd : out;
		return hk_layer_fail(err, r, change->path, NULL);
	}
	label(old_label, has_old ? "a/" : "/dev/null", has_old ? change->old_path : "");
	label(new_label, has_new ? "b/" : "/dev/null", has_new ? change->path : "");
	if (!is_text(old_fd) || !is_text(new_fd)) {
		fprintf(to, "Binary files %s and %s differ\n", old_label, new_label);
		return 0;
	}
	r = run_diff(old_fd, new_fd, out, old_label, new_label);
	if (r < 0 || r > 1) {
		fprintf(to, "Files %s and %s differ (diff(1) says how, but cannot be run%s%s)\n",
			old_label, new_label, r < 0 ? ": " : "", r < 0 ? strerror(-r) : "");
		return 0;
	}
	r = copy_out(out, to);
	return r < 0 ? hk_layer_fail(err, r, change->path, "diff") : 0;
}

static const char *type_name(mode_t mode)
{
	switch (mode & S_IFMT) {
	case S_IFDIR:
		return "directory";
	case S_IFLNK:
		return "symbolic link";
	case S_IFIFO:
		return "FIFO";
	case S_IFSOCK:
		return "socket";
	case S_IFCHR:
		return "character device";
	case S_IFBLK:
		return "block device";
	default:
		return "file";
	}
}

/* "symbolic link to 'x'", for one side of what is no regular file. */
static void print_side(
	struct hk_layer *layer, int root, const char *path, const struct stat *st, FILE *to)
{
	char target[PATH_MAX];
	char escaped[2 * PATH_MAX];
	autoclose int obj = -1;
	ssize_t n = -1;

	fputs(type_name(st->st_mode), to);
	if (S_ISLNK(st->st_mode)) {
		obj = open_side(layer, root, path, O_PATH);
		n = obj < 0 ? obj : readlinkat(obj, "", target, sizeof(target));
	}
	if (n > 0) {
		hk_str_escape(escaped, sizeof(escaped), target, (size_t)n);
		fprintf(to, " to '%s'", escaped);
	}
	if (S_ISCHR(st->st_mode) || S_ISBLK(st->st_mode)) {
		fprintf(to, " %u:%u", major(st->st_rdev), minor(st->st_rdev));
	}
}

/* The value of an attribute into @value. Return: its length; -1: there is none */
static ssize_t value_of(struct hk_layer *layer, int obj, const char *name, char *value)
{
	return obj < 0
		? -1
		: HK_MAX(hk_host_getxattr(layer->ov->host, obj, name, value, XATTR_SIZE_MAX), -1);
}

/*
 * Names of attributes of @obj that @other has with another value, or not at all; @only_missing:
 * just the latter.
 */
static void print_attributes(struct hk_layer *layer, int obj, int other, bool only_missing,
	const char **separator, FILE *to)
{
	autofree char *names = hk_malloc(XATTR_LIST_MAX);
	autofree char *values = hk_malloc(2 * XATTR_SIZE_MAX);
	ssize_t len;

	if (names == NULL || values == NULL || obj < 0) {
		return;
	}
	len = hk_host_listxattr(layer->ov->host, obj, names, XATTR_LIST_MAX);
	if (len < 0 && len != -EOPNOTSUPP) {
		fprintf(to, "%s(unknown: %s)", *separator, strerror((int)-len));
		*separator = ", ";
	}
	for (ssize_t at = 0; at < len; at += (ssize_t)strlen(names + at) + 1) {
		char shown[4 * XATTR_NAME_MAX + 1];
		ssize_t n, m;

		/* Where the host labels everything, a label is no news. */
		if (hk_ov_is_our_xattr(names + at) ||
			(other < 0 && strcmp(names + at, "security.selinux") == 0)) {
			continue;
		}
		n = value_of(layer, obj, names + at, values);
		m = value_of(layer, other, names + at, values + XATTR_SIZE_MAX);
		if (only_missing ? m >= 0
				 : n == m &&
					(n < 0 ||
						memcmp(values, values + XATTR_SIZE_MAX,
							(size_t)n) == 0)) {
			continue;
		}
		hk_str_escape(shown, sizeof(shown), names + at, strlen(names + at));
		fprintf(to, "%s%s", *separator, shown);
		*separator = ", ";
	}
}

/* What another file has, too, that a user makes without a thought. */
static bool is_usual(mode_t mode)
{
	mode_t bits = mode & 07777;

	return S_ISLNK(mode) || bits == 0755 || bits == 0775 ||
		(!S_ISDIR(mode) && (bits == 0644 || bits == 0664));
}

/*
 * All that applying it makes, besides the content: " mode 0644 to 4755 owner ..."; of what is new,
 * what is unusual.
 */
static void print_meta(struct hk_layer *layer, const struct hk_change *change, FILE *to)
{
	const struct stat *l = &change->lower;
	const struct stat *u = &change->upper;
	bool has_old = l->st_mode != 0;
	autoclose int new_obj = open_side(layer, layer->ov->upper, change->path, O_PATH);
	autoclose int old_obj =
		has_old ? open_side(layer, layer->ov->host->root, change->old_path, O_PATH) : -1;
	const char *separator = " attributes ";

	if (has_old && (l->st_mode & 07777) != (u->st_mode & 07777)) {
		fprintf(to, " mode %04o to %04o", l->st_mode & 07777, u->st_mode & 07777);
	} else if (!has_old && !is_usual(u->st_mode)) {
		fprintf(to, " mode %04o", u->st_mode & 07777);
	}
	if (has_old && (l->st_uid != u->st_uid || l->st_gid != u->st_gid)) {
		fprintf(to, " owner %u:%u to %u:%u", l->st_uid, l->st_gid, u->st_uid, u->st_gid);
	} else if (!has_old && (u->st_uid != geteuid() || u->st_gid != getegid())) {
		fprintf(to, " owner %u:%u", u->st_uid, u->st_gid);
	}
	if (change->loses_owner) {
		fprintf(to, " owner %u:%u (which applying it cannot keep)", u->st_uid, u->st_gid);
	}
	/* Other content has another time. */
	if (change->kind == HK_CHANGE_METADATA &&
		(S_ISDIR(u->st_mode) ? change->sets_time
				     : hk_timespec_ns(l->st_mtim) != hk_timespec_ns(u->st_mtim))) {
		fputs(" time", to);
	}
	if (new_obj < 0 || (has_old && old_obj < 0)) {
		fputs(" attributes (unknown: it cannot be opened)", to);
		return;
	}
	print_attributes(layer, new_obj, old_obj, false, &separator, to);
	print_attributes(layer, old_obj, new_obj, true, &separator, to);
}

/* A line of that, if there is any. */
static int tell_meta(struct hk_layer *layer, const struct hk_change *change, const char *path,
	FILE *to, struct hk_err *err)
{
	autofree char *text = NULL;
	size_t len = 0;
	FILE *memory = open_memstream(&text, &len);

	if (memory == NULL) {
		return hk_fail(err, errno, "memory");
	}
	print_meta(layer, change, memory);
	if (fclose(memory) != 0) {
		return hk_fail(err, errno, "memory");
	}
	if (len > 0) {
		fprintf(to, "%s:%s\n", path, text);
	}
	return 0;
}

int hk_layer_diff(
	struct hk_layer *layer, const struct hk_change *change, FILE *to, struct hk_err *err)
{
	static char path[2 * PATH_MAX];
	bool has_old = change->lower.st_mode != 0;
	bool has_new = change->upper.st_mode != 0;

	label(path, "", change->path);
	if (change->kind == HK_CHANGE_RENAMED) {
		fprintf(to, "%s: directory renamed from ", path);
		label(path, "", change->old_path);
		fprintf(to, "%s\n", path);
		return 0;
	}
	if (change->kind == HK_CHANGE_METADATA) {
		fprintf(to, "%s:", path);
		print_meta(layer, change, to);
		fputs("\n", to);
		return 0;
	}
	if (has_new) {
		int r = tell_meta(layer, change, path, to, err);

		if (r < 0) {
			return r;
		}
	}
	if ((!has_old || S_ISREG(change->lower.st_mode)) &&
		(!has_new || S_ISREG(change->upper.st_mode))) {
		return diff_files(layer, change, to, err);
	}
	fprintf(to, "%s: ", path);
	if (has_old) {
		print_side(layer, layer->ov->host->root, change->old_path, &change->lower, to);
		fputs(has_new ? " replaced by " : " removed\n", to);
	}
	if (has_new) {
		print_side(layer, layer->ov->upper, change->path, &change->upper, to);
		fputs(has_old ? "\n" : " added\n", to);
	}
	return 0;
}
