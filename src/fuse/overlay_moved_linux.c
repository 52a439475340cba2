/* SPDX-License-Identifier: ISC */
/*
 * Directories of a copy-on-write tree that are elsewhere below than above: see overlay_impl.h.
 *
 * Theory: a directory that is renamed is not copied with all that is in it. Its upper twin moves,
 * and notes where the lower one is, as a path from the lower root: overlayfs's
 * user.overlay.redirect, and 'r' as its mark of opaqueness, for nothing at its new name below has
 * to do with it. What is in it is found in that lower directory then, and renaming it once more
 * leaves the note as it is. A directory that was in it and moves out gets a note of its own.
 *
 * The record says which inode the lower one was. Where the path leads to another by now, or to
 * none, the upper one stands alone: what somebody puts in its place later has never been seen by
 * the run, and hako apply calls it a conflict. So there are no circles, however the host renames: a
 * lower directory shows at one place only.
 *
 * Limits: who is not root cannot rename a directory that he cannot read. Where only parts of the
 * tree are copy-on-write, and where the path is longer than an attribute may be (4096 bytes), the
 * tree is copied.
 */
#include <linux/limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/cleanup.h"
#include "fuse/overlay_impl.h"

bool hk_ov_is_original(const struct hk_ov_record *record, const struct hk_stat *st)
{
	return record->id.ino == st->ino && record->id.born_ns == st->born_ns;
}

int hk_ov_walk(int root, const char *path)
{
	/* seccomp: openat */
	int at = HK_HOST_CALL(openat(root, ".", O_PATH | O_CLOEXEC));

	while (at >= 0) {
		char name[NAME_MAX + 1];
		size_t len;
		int next;

		path += strspn(path, "/");
		len = strcspn(path, "/");
		if (len == 0) {
			break;
		}
		if (len > NAME_MAX) {
			close(at);
			return -ENAMETOOLONG;
		}
		memcpy(name, path, len);
		name[len] = '\0';
		path += len;
		next = hk_host_open_name(at, name, O_PATH | O_DIRECTORY, 0);
		close(at);
		at = next;
	}
	return at;
}

/* Is it nowhere, rather than out of reach at the moment? */
static bool is_gone(int r)
{
	return r == -ENOENT || r == -ENOTDIR || r == -ELOOP || r == -ENAMETOOLONG || r == -EXDEV;
}

int hk_ov_open_moved(struct hk_overlay *ov, int dir, const char *name,
	const struct hk_ov_record *record, struct hk_stat *ret_st, char **ret_path)
{
	autofree char *path = hk_malloc(PATH_MAX);
	autoclose int fd = -1;
	ssize_t n;
	int r;

	if (path == NULL) {
		return -ENOMEM;
	}
	n = hk_ov_get_xattr(ov, dir, name, HK_OV_REDIRECT, path, PATH_MAX - 1);
	if (n <= 0) {
		return n == -ENODATA || n == 0 ? -ENOENT : (int)n;
	}
	path[n] = '\0';
	fd = hk_ov_walk(ov->host->root, path);
	if (fd < 0) {
		return is_gone(fd) ? -ENOENT : fd;
	}
	r = ov->host->ops->stat(ov->host, fd, ret_st);
	if (r < 0) {
		return r;
	}
	if (!hk_ov_is_original(record, ret_st)) {
		return -ENOENT;
	}
	*ret_path = take_ptr(path);
	return take_fd(&fd);
}

/* Return: 0; -ENOENT where the way there is not to be relied on; -errno. */
static int redirect(struct hk_overlay *ov, struct hk_ov_inode *inode)
{
	autofree char *path = NULL;
	autoclose int fd = -1;
	struct hk_stat st;
	struct hk_stat at_path;
	int r = hk_ov_lower_path(ov, inode->parent, inode->name, &path);

	if (r == 0) {
		fd = hk_ov_walk(ov->host->root, path);
		r = fd < 0 ? fd : ov->host->ops->stat(ov->host, fd, &at_path);
	}
	if (r == 0) {
		r = ov->host->ops->stat(ov->host, inode->lower, &st);
	}
	if (r < 0) {
		return is_gone(r) ? -ENOENT : r;
	}
	if (st.ino != at_path.ino || st.dev != at_path.dev || !inode->has_record ||
		!hk_ov_is_original(&inode->record, &st)) {
		return -ENOENT;
	}
	r = hk_ov_set_mark(ov, inode->upper, NULL, HK_OV_REDIRECT, path);
	if (r == 0) {
		r = hk_ov_set_mark(
			ov, inode->upper, NULL, HK_OV_OPAQUE, inode->xattr_whiteouts ? "R" : "r");
	}
	if (r == 0) {
		inode->redirect = take_ptr(path);
	}
	return r == -E2BIG || r == -ERANGE || r == -ENOSPC ? -ENOENT : r;
}

int hk_ov_make_movable(struct hk_overlay *ov, struct hk_ov_inode *inode)
{
	struct hk_stat st;
	int r = hk_ov_upper_dir(ov, inode);

	if (r < 0 || inode->redirect != NULL) {
		return r;
	}
	r = ov->host->ops->stat(ov->host, inode->upper, &st);
	if (r == 0 && !ov->is_root && inode->lower >= 0 && (st.mode & S_IRUSR) == 0) {
		r = -EACCES;
	}
	if (r < 0) {
		return r; /* nobody could read where it is below */
	}
	if (inode->lower >= 0 && ov->is_cow == NULL) {
		r = redirect(ov, inode);
		if (r != -ENOENT) {
			return r;
		}
	}
	r = hk_ov_own_tree(ov, inode);
	/* Where it goes, there may be a directory below. */
	return r < 0 ? r : hk_ov_set_mark(ov, inode->upper, NULL, HK_OV_OPAQUE, "y");
}
