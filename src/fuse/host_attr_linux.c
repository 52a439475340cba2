/* SPDX-License-Identifier: ISC */
/*
 * Attributes and extended attributes of host inodes: see host_linux.c.
 *
 * Theory: fchmodat and utimensat take the directory /proc/self/fd and the number of the descriptor
 * in it. The calls for extended attributes and truncate(2) take paths only: threads of ours have
 * /proc/self/fd as their current directory and name just the number, so this goes on working when
 * the monitor has given up its view of /proc; other threads use the whole path.
 */
#include <limits.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "fuse/host_impl_linux.h"
#include "fuse/setid_linux.h"

struct fd_path {
	char text[32];
};

const char *hk_host_fd_prefix(struct hk_backend *backend)
{
	static _Thread_local bool is_there;

	if (!is_there && hk_host_thread_is_ours()) {
		/* seccomp: fchdir */
		is_there = fchdir(hk_host_of(backend)->proc_fd) == 0;
	}
	return is_there ? "" : "/proc/self/fd/";
}

static struct fd_path path_of(struct hk_backend *backend, int fd)
{
	const char *before = hk_host_fd_prefix(backend);
	struct hk_fd_name number = hk_fd_name(fd);
	struct fd_path path;
	size_t len;

	/* By hand, as hk_fd_name(). */
	len = strlen(before);
	memcpy(path.text, before, len);
	memcpy(path.text + len, number.text, sizeof(number.text));
	return path;
}

int hk_host_chmod(struct hk_backend *backend, int obj, mode_t mode)
{
	hk_setid_take_up_for(mode);
	/* seccomp write: fchmodat */
	return HK_HOST_CALL(fchmodat(hk_host_of(backend)->proc_fd, hk_fd_name(obj).text, mode, 0));
}

int hk_host_chown(struct hk_backend *backend, int obj, uid_t uid, gid_t gid)
{
	hk_setid_take_up_of(obj);
	/* seccomp write: fchownat */
	return HK_HOST_CALL(fchownat(obj, "", uid, gid, AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW));
}

int hk_host_utimes(struct hk_backend *backend, int obj, const struct timespec times[2])
{
	/* seccomp write: utimensat */
	return HK_HOST_CALL(
		utimensat(hk_host_of(backend)->proc_fd, hk_fd_name(obj).text, times, 0));
}

int hk_host_truncate(struct hk_backend *backend, int obj, uint64_t size_bytes)
{
	hk_setid_take_up_of(obj);
	/* seccomp write: truncate */
	return HK_HOST_CALL(truncate(path_of(backend, obj).text, (off_t)size_bytes));
}

ssize_t hk_host_getxattr(
	struct hk_backend *backend, int obj, const char *name, void *value, size_t size)
{
	/* seccomp: getxattr */
	return HK_HOST_CALL(getxattr(path_of(backend, obj).text, name, value, size));
}

/*
 * A path of three: /proc/self/fd leads to the directory itself, and a name that is no link followed
 * to what is in it.
 */
ssize_t hk_host_getxattr_at(struct hk_backend *backend, int dir, const char *entry,
	const char *name, void *value, size_t size)
{
	struct fd_path at = path_of(backend, dir);
	char path[sizeof(at.text) + NAME_MAX + 1];
	size_t at_len = strlen(at.text);
	size_t len = strlen(entry);

	if (len > NAME_MAX) {
		return -ENAMETOOLONG;
	}
	memcpy(path, at.text, at_len);
	path[at_len] = '/';
	memcpy(path + at_len + 1, entry, len + 1);
	/* seccomp: lgetxattr */
	return HK_HOST_CALL(lgetxattr(path, name, value, size));
}

ssize_t hk_host_listxattr(struct hk_backend *backend, int obj, char *names, size_t size)
{
	/* seccomp: listxattr */
	return HK_HOST_CALL(listxattr(path_of(backend, obj).text, names, size));
}

int hk_host_setxattr(struct hk_backend *backend, int obj, const char *name, const void *value,
	size_t size, int flags)
{
	/* An ACL changes the mode. */
	hk_setid_take_up_of(obj);
	/* seccomp write: setxattr */
	return HK_HOST_CALL(setxattr(path_of(backend, obj).text, name, value, size, flags));
}

int hk_host_removexattr(struct hk_backend *backend, int obj, const char *name)
{
	/* seccomp write: removexattr */
	return HK_HOST_CALL(removexattr(path_of(backend, obj).text, name));
}
