/* SPDX-License-Identifier: ISC */
/*
 * From one inode to another: see transfer.h.
 *
 * Theory: FICLONE copies a whole file in no time where the file system shares blocks; else
 * SEEK_DATA and SEEK_HOLE find what there is to copy, and copy_file_range(2) lets the kernel do it;
 * between file systems that cannot, read and write.
 *
 * Limits: an attribute of over 64 KiB, more than Linux has, is an error.
 */
#include <linux/fs.h>
#include <linux/limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/sys.h"
#include "base/util.h"
#include "fuse/host_impl_linux.h"
#include "fuse/transfer.h"

enum {
	BUFFER = 256 << 10,
	NO_HOLES = 4096, /* up to this, a hole would save nothing, nor would sharing */
};

static int copy_by_hand(int from, int to, uint64_t at, uint64_t end)
{
	autofree char *buf = hk_malloc(BUFFER);

	if (buf == NULL) {
		return -ENOMEM;
	}
	while (at < end) {
		size_t want = (size_t)HK_MIN(end - at, (uint64_t)BUFFER);
		ssize_t n = HK_HOST_CALL(pread(from, buf, want, (off_t)at));
		ssize_t done = 0;

		if (n <= 0) {
			return (int)n; /* shorter by now */
		}
		while (done < n) {
			ssize_t m = HK_HOST_CALL(pwrite(
				to, buf + done, (size_t)(n - done), (off_t)(at + (uint64_t)done)));

			if (m < 0) {
				return (int)m;
			}
			done += m;
		}
		at += (uint64_t)n;
	}
	return 0;
}

static int copy_range(int from, int to, uint64_t at, uint64_t end)
{
	while (at < end) {
		off_t in = (off_t)at;
		off_t out = (off_t)at;
		/* seccomp write: copy_file_range */
		ssize_t n =
			HK_HOST_CALL(copy_file_range(from, &in, to, &out, (size_t)(end - at), 0));

		if (n == 0 || n == -EXDEV || n == -EINVAL || n == -ENOSYS || n == -EOPNOTSUPP) {
			return copy_by_hand(from, to, at, end);
		}
		if (n < 0) {
			return (int)n;
		}
		at += (uint64_t)n;
	}
	return 0;
}

int hk_transfer_data(int from, int to, uint64_t size_bytes)
{
	uint64_t at = 0;

	if (size_bytes <= NO_HOLES) {
		return copy_range(from, to, 0, size_bytes);
	}
	/* seccomp write: ioctl:FICLONE ftruncate */
	if (ioctl(to, FICLONE, from) == 0) {
		return 0;
	}
	while (at < size_bytes) {
		int64_t data = HK_HOST_CALL(lseek(from, (off_t)at, SEEK_DATA));
		int64_t hole;
		int r;

		if (data == -ENXIO) {
			break; /* a hole up to the end */
		}
		if (data < 0) {
			data = (int64_t)at; /* cannot tell */
			hole = (int64_t)size_bytes;
		} else {
			hole = HK_HOST_CALL(lseek(from, (off_t)data, SEEK_HOLE));
			if (hole < 0) {
				hole = (int64_t)size_bytes;
			}
		}
		hole = HK_MIN(hole, (int64_t)size_bytes);
		r = copy_range(from, to, (uint64_t)data, (uint64_t)hole);
		if (r < 0) {
			return r;
		}
		at = (uint64_t)hole;
	}
	return HK_HOST_CALL(ftruncate(to, (off_t)size_bytes));
}

static bool may_stay_behind(int r)
{
	return r == -EPERM || r == -EOPNOTSUPP || r == -ENODATA || r == -EACCES;
}

static int copy_xattrs(struct hk_backend *host, int from, int to, bool (*is_ours)(const char *name))
{
	autofree char *names = NULL;
	autofree char *value = NULL;
	ssize_t len = hk_host_listxattr(host, from, NULL, 0);

	if (len <= 0) {
		return len == -EOPNOTSUPP ? 0 : (int)len;
	}
	names = hk_malloc(XATTR_LIST_MAX);
	value = hk_malloc(XATTR_SIZE_MAX);
	if (names == NULL || value == NULL) {
		return -ENOMEM;
	}
	len = hk_host_listxattr(host, from, names, XATTR_LIST_MAX);
	for (ssize_t at = 0; at < len; at += (ssize_t)strlen(names + at) + 1) {
		ssize_t n;

		if (is_ours(names + at)) {
			continue;
		}
		n = hk_host_getxattr(host, from, names + at, value, XATTR_SIZE_MAX);
		if (n >= 0) {
			n = hk_host_setxattr(host, to, names + at, value, (size_t)n, 0);
		}
		if (n < 0 && !may_stay_behind((int)n)) {
			return (int)n;
		}
	}
	return len < 0 ? (int)len : 0;
}

static int give(
	struct hk_backend *host, int to, const struct hk_stat *st, struct hk_transfer_left *left)
{
	int r = hk_host_chown(host, to, st->uid, st->gid);

	if (r != -EPERM) {
		return r;
	}
	left->uid = hk_host_chown(host, to, st->uid, (gid_t)-1) < 0;
	left->gid = hk_host_chown(host, to, (uid_t)-1, st->gid) < 0;
	return 0;
}

int hk_transfer_meta(struct hk_backend *host, int from, int to, const struct hk_stat *st,
	bool (*is_ours)(const char *name), struct hk_transfer_left *left)
{
	struct timespec times[2] = {st->atime, st->mtime};
	mode_t mode = st->mode & 07777;
	int r = give(host, to, st, left);

	if (r == 0) {
		r = copy_xattrs(host, from, to, is_ours);
	}
	/* A directory's say which group is in it, and harm nobody. */
	if ((left->uid || left->gid) && !S_ISDIR(st->mode)) {
		mode &= ~(mode_t)(S_ISUID | S_ISGID);
	}
	if (r == 0 && !S_ISLNK(st->mode)) {
		r = hk_host_chmod(host, to, mode);
	}
	return r == 0 ? hk_host_utimes(host, to, times) : r;
}
