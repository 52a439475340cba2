/* SPDX-License-Identifier: ISC */
/*
 * The path that a thread gave to the system call it is in, for the log of Gentoo's sandbox.
 *
 * Theory: the file server sees nodes and names, and works real paths out of them; a log is read by
 * people who look for what their makefile says. The thread that asks waits in its system call until
 * it is answered, so the kernel can tell which call that is (/proc/TID/syscall), and what it points
 * to can be read. That is done for what is written down only.
 *
 * What a thread says it says for its own log: its memory may change meanwhile, and is no reason for
 * any verdict.
 *
 * Limits: calls made through io_uring, by the kernel (a program's loader), or by descriptor have no
 * path; those of programs of 32 bits have other numbers. Then the real path stands in.
 */
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/str.h"
#include "base/sys.h"
#include "base/util.h"
#include "trace/gentoo.h"

enum { CWD = -1, ARGS = 6, CHUNK = 4096, FCHMODAT2 = 452, OPENAT2 = 437, TRIES = 3 };

/**
 * struct call - a system call with a path; one with two has two rows
 * @dir: the argument that says where it begins, or CWD
 * @path: the argument that points to it
 */
static const struct call {
	int16_t nr;
	int8_t dir;
	int8_t path;
} calls[] = {
#ifdef SYS_open
	{SYS_open, CWD, 0},
	{SYS_creat, CWD, 0},
	{SYS_mkdir, CWD, 0},
	{SYS_mknod, CWD, 0},
	{SYS_rmdir, CWD, 0},
	{SYS_unlink, CWD, 0},
	{SYS_symlink, CWD, 1},
	{SYS_link, CWD, 0},
	{SYS_link, CWD, 1},
	{SYS_rename, CWD, 0},
	{SYS_rename, CWD, 1},
	{SYS_chmod, CWD, 0},
	{SYS_chown, CWD, 0},
	{SYS_lchown, CWD, 0},
	{SYS_utime, CWD, 0},
	{SYS_utimes, CWD, 0},
	{SYS_futimesat, 0, 1},
#endif
	{SYS_openat, 0, 1},
	{OPENAT2, 0, 1},
	{SYS_mkdirat, 0, 1},
	{SYS_mknodat, 0, 1},
	{SYS_unlinkat, 0, 1},
	{SYS_symlinkat, 1, 2},
	{SYS_linkat, 0, 1},
	{SYS_linkat, 2, 3},
	{SYS_renameat2, 0, 1},
	{SYS_renameat2, 2, 3},
	{SYS_renameat, 0, 1},
	{SYS_renameat, 2, 3},
	{SYS_fchmodat, 0, 1},
	{FCHMODAT2, 0, 1},
	{SYS_fchownat, 0, 1},
	{SYS_utimensat, 0, 1},
	{SYS_truncate, CWD, 0},
	{SYS_setxattr, CWD, 0},
	{SYS_lsetxattr, CWD, 0},
	{SYS_removexattr, CWD, 0},
	{SYS_lremovexattr, CWD, 0},
	{SYS_execve, CWD, 0},
	{SYS_execveat, 0, 1},
};

/* Return: its number, or -1: it is in none, or not yet asleep in it. */
static int read_call(pid_t tid, uint64_t args[ARGS])
{
	char path[32];
	char text[256];
	int nr;

	hk_fmt(path, sizeof(path), "/proc/%d/syscall", (int)tid);
	if (hk_read_text(AT_FDCWD, path, text, sizeof(text)) <= 0) {
		return -1;
	}
	return sscanf(text,
		       "%d %" SCNx64 " %" SCNx64 " %" SCNx64 " %" SCNx64 " %" SCNx64 " %" SCNx64,
		       &nr, &args[0], &args[1], &args[2], &args[3], &args[4], &args[5]) == 7
		? nr
		: -1;
}

/* Return: false if it is not there, or has no end. */
static bool read_string(pid_t tid, uint64_t address, char buf[PATH_MAX])
{
	size_t len = 0;

	while (len < PATH_MAX) {
		/* Not over the end of a page: the next one may not be there. */
		size_t room = HK_MIN(PATH_MAX - len, CHUNK - (address + len) % CHUNK);
		struct iovec to = {buf + len, room};
		struct iovec from = {(void *)(uintptr_t)(address + len), room};
		ssize_t n = process_vm_readv(tid, &to, 1, &from, 1, 0);

		if (n <= 0) {
			return false;
		}
		if (memchr(buf + len, '\0', (size_t)n) != NULL) {
			return true;
		}
		len += (size_t)n;
	}
	return false;
}

/* Where a path that does not begin with '/' does. */
static bool read_dir(pid_t tid, const struct call *call, const uint64_t *args, char buf[PATH_MAX])
{
	int dir = call->dir == CWD ? AT_FDCWD : (int)args[call->dir];
	char link[48];
	ssize_t n;

	if (dir == AT_FDCWD) {
		hk_fmt(link, sizeof(link), "/proc/%d/cwd", (int)tid);
	} else {
		hk_fmt(link, sizeof(link), "/proc/%d/fd/%d", (int)tid, dir);
	}
	n = readlink(link, buf, PATH_MAX - 1);
	buf[HK_MAX(n, 0)] = '\0';
	return n > 0 && buf[0] == '/';
}

static void remove_last(struct hk_str *out)
{
	const char *slash = out->len > 0 ? strrchr(out->data, '/') : NULL;

	if (slash != NULL) {
		out->len = (size_t)(slash - out->data);
		out->data[out->len] = '\0';
	}
}

/* Without "." and "..", as they are written: symbolic links stay. */
static void add_clean(struct hk_str *out, const char *path)
{
	for (path += strspn(path, "/"); *path != '\0'; path += strspn(path, "/")) {
		size_t len = strcspn(path, "/");

		if (len == 2 && path[0] == '.' && path[1] == '.') {
			remove_last(out);
		} else if (len != 1 || path[0] != '.') {
			hk_str_add(out, "/");
			hk_str_add_bytes(out, path, len);
		}
		path += len;
	}
}

char *hk_gentoo_absolute(const char *dir, const char *path)
{
	struct hk_str out = {0};
	char *text;

	if (path[0] != '/') {
		add_clean(&out, dir);
	}
	add_clean(&out, path);
	if (out.len == 0) {
		hk_str_add(&out, "/");
	}
	if (hk_str_take(&out, &text) < 0) {
		hk_str_finish(&out);
		return NULL;
	}
	return text;
}

static bool ends_alike(const char *a, const char *b)
{
	return strcmp(strrchr(a, '/'), strrchr(b, '/')) == 0;
}

static bool is_symlink(const char *path)
{
	struct stat st;

	return lstat(path, &st) == 0 && S_ISLNK(st.st_mode);
}

/*
 * The path of one row, if it may have led to @real: they end alike or, where any will do, it is a
 * symbolic link.
 */
static bool try_call(pid_t tid, const struct call *call, const uint64_t *args, const char *real,
	bool any, char **ret_passed, char **ret_absolute)
{
	autofree char *absolute = NULL;
	char passed[PATH_MAX];
	char dir[PATH_MAX] = "";

	if (!read_string(tid, args[call->path], passed) ||
		(passed[0] != '/' && !read_dir(tid, call, args, dir))) {
		return false;
	}
	absolute = hk_gentoo_absolute(dir, passed);
	if (absolute == NULL || !(any ? is_symlink(absolute) : ends_alike(absolute, real))) {
		return false;
	}
	*ret_passed = hk_strdup(passed);
	if (*ret_passed == NULL) {
		return false;
	}
	*ret_absolute = take_ptr(absolute);
	return true;
}

bool hk_gentoo_passed(pid_t tid, const char *real, char **ret_passed, char **ret_absolute)
{
	uint64_t args[ARGS];
	int nr = -1;

	/* It may be on its way to sleep. */
	for (int i = 0; i < TRIES && nr < 0; i++) {
		nr = read_call(tid, args);
	}
	for (int any = 0; nr >= 0 && any < 2; any++) {
		for (size_t i = 0; i < HK_ARRAY_SIZE(calls); i++) {
			if (calls[i].nr == nr &&
				try_call(tid, &calls[i], args, real, any != 0, ret_passed,
					ret_absolute)) {
				return true;
			}
		}
	}
	return false;
}
