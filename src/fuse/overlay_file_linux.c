/* SPDX-License-Identifier: ISC */
/*
 * Attributes and data of a copy-on-write tree: see overlay_impl.h.
 *
 * Theory: whatever changes an inode copies it up and then does it there. The upper descriptor of an
 * inode stays open as long as the inode is in use, so no lock is held while it is worked on; the
 * lower one goes at copy-up, so it is. A file opened for reading below goes over to the copy with
 * the first call after copy-up: it sees what others write.
 */
#include <linux/limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/cleanup.h"
#include "fuse/overlay_impl.h"

static bool is_copied(const struct hk_ov_inode *inode)
{
	return atomic_load_explicit(&inode->is_copied, memory_order_acquire);
}

/* --- finding --- */

int hk_ov_lookup(struct hk_backend *backend, int dir, const char *name, struct hk_stat *st)
{
	struct hk_overlay *ov = hk_overlay_of(backend);
	struct hk_ov_found found;
	int r;

	pthread_rwlock_rdlock(&ov->tree);
	r = hk_ov_find(ov, hk_ov_slot(ov, dir)->inode, name, false, &found);
	pthread_rwlock_unlock(&ov->tree);
	if (r == 0) {
		hk_ov_found_stat(&found, st);
	}
	return r;
}

int hk_ov_reach_obj(struct hk_backend *backend, int dir, const char *name)
{
	struct hk_overlay *ov = hk_overlay_of(backend);
	struct hk_ov_inode *inode;
	int r;

	pthread_rwlock_rdlock(&ov->tree);
	r = hk_ov_reach(ov, hk_ov_slot(ov, dir)->inode, name, &inode);
	pthread_rwlock_unlock(&ov->tree);
	return r < 0 ? r : hk_ov_slot_new(ov, inode, -1, 0);
}

int hk_ov_stat(struct hk_backend *backend, int obj, struct hk_stat *st)
{
	struct hk_overlay *ov = hk_overlay_of(backend);
	int r;

	pthread_rwlock_rdlock(&ov->tree);
	r = hk_ov_inode_stat(ov, hk_ov_slot(ov, obj)->inode, st);
	pthread_rwlock_unlock(&ov->tree);
	return r;
}

/* An inode to look at: give it back with done(). */
struct use {
	int fd;
	bool is_locked;
};

static struct use use(struct hk_overlay *ov, int obj)
{
	struct hk_ov_inode *inode = hk_ov_slot(ov, obj)->inode;
	struct use u = {.fd = inode->upper};

	if (!is_copied(inode)) {
		pthread_rwlock_rdlock(&ov->tree);
		u.is_locked = true;
		u.fd = inode->is_cow && inode->upper >= 0 ? inode->upper : inode->lower;
	}
	return u;
}

static void done(struct hk_overlay *ov, struct use u)
{
	if (u.is_locked) {
		pthread_rwlock_unlock(&ov->tree);
	}
}

ssize_t hk_ov_readlink(struct hk_backend *backend, int obj, char *buf, size_t size)
{
	struct hk_overlay *ov = hk_overlay_of(backend);
	struct use u = use(ov, obj);
	ssize_t n = ov->host->ops->readlink(ov->host, u.fd, buf, size);

	done(ov, u);
	return n;
}

int hk_ov_statfs(struct hk_backend *backend, int obj, struct statvfs *st)
{
	struct hk_overlay *ov = hk_overlay_of(backend);
	struct hk_ov_inode *inode = hk_ov_slot(ov, obj)->inode;

	/* What there is room for is what counts. */
	return ov->host->ops->statfs(ov->host, inode->is_cow ? ov->upper : inode->lower, st);
}

/* --- attributes --- */

/* The descriptor that changes are made by. */
static int change(struct hk_overlay *ov, struct hk_ov_inode *inode, unsigned how)
{
	int r;

	if (!inode->is_cow) {
		return inode->lower;
	}
	if (is_copied(inode)) {
		return inode->upper;
	}
	pthread_rwlock_wrlock(&ov->tree);
	r = hk_ov_copy_up(ov, inode, how | HK_OV_ALONE);
	pthread_rwlock_unlock(&ov->tree);
	return r < 0 ? r : inode->upper;
}

int hk_ov_chmod(struct hk_backend *backend, int obj, mode_t mode)
{
	struct hk_overlay *ov = hk_overlay_of(backend);
	struct hk_ov_inode *inode = hk_ov_slot(ov, obj)->inode;
	int fd = change(ov, inode, 0);
	int r = fd < 0 ? fd : hk_host_chmod(ov->host, fd, mode);

	if (r == 0 && !ov->is_root && (mode & S_IRUSR) == 0 && inode->is_cow && inode->has_record) {
		/* While its attributes cannot be read, the record is found elsewhere. */
		pthread_rwlock_wrlock(&ov->tree);
		r = hk_ov_save_record(ov, inode);
		pthread_rwlock_unlock(&ov->tree);
	}
	return r;
}

int hk_ov_chown(struct hk_backend *backend, int obj, uid_t uid, gid_t gid)
{
	struct hk_overlay *ov = hk_overlay_of(backend);
	struct hk_ov_inode *inode = hk_ov_slot(ov, obj)->inode;
	int fd = change(ov, inode, 0);
	int r = fd < 0 ? fd : hk_host_chown(ov->host, fd, uid, gid);

	if (r < 0 || !inode->is_cow || !inode->has_record) {
		return r;
	}
	pthread_rwlock_wrlock(&ov->tree);
	if ((uid != (uid_t)-1 && inode->record.uid >= 0) ||
		(gid != (gid_t)-1 && inode->record.gid >= 0)) {
		inode->record.uid = uid != (uid_t)-1 ? -1 : inode->record.uid;
		inode->record.gid = gid != (gid_t)-1 ? -1 : inode->record.gid;
		r = hk_ov_save_record(ov, inode);
	}
	pthread_rwlock_unlock(&ov->tree);
	return r;
}

int hk_ov_utimes(struct hk_backend *backend, int obj, const struct timespec times[2])
{
	struct hk_overlay *ov = hk_overlay_of(backend);
	int fd = change(ov, hk_ov_slot(ov, obj)->inode, 0);

	return fd < 0 ? fd : hk_host_utimes(ov->host, fd, times);
}

int hk_ov_truncate(struct hk_backend *backend, int obj, uint64_t size_bytes)
{
	static const struct timespec now[2] = {{.tv_nsec = UTIME_OMIT}, {.tv_nsec = UTIME_NOW}};
	struct hk_overlay *ov = hk_overlay_of(backend);
	struct hk_ov_inode *inode = hk_ov_slot(ov, obj)->inode;
	bool is_left_empty = !is_copied(inode) && inode->is_cow && size_bytes == 0;
	int fd = S_ISREG(inode->type) ? change(ov, inode, size_bytes == 0 ? HK_OV_EMPTY : 0)
				      : -EINVAL;
	int r = fd < 0 ? fd : hk_host_truncate(ov->host, fd, size_bytes);

	if (r == 0 && is_left_empty && inode->record.size > 0) {
		/* The copy was empty already, so that was no change to the file system. */
		r = hk_host_utimes(ov->host, fd, now);
	}
	return r;
}

ssize_t hk_ov_getxattr(
	struct hk_backend *backend, int obj, const char *name, void *value, size_t size)
{
	struct hk_overlay *ov = hk_overlay_of(backend);
	struct use u;
	ssize_t n;

	if (hk_ov_is_our_xattr(name)) {
		return -ENODATA;
	}
	u = use(ov, obj);
	n = hk_host_getxattr(ov->host, u.fd, name, value, size);
	done(ov, u);
	return n;
}

/* Return: how long the list is without ours. */
static ssize_t filter(char *names, ssize_t len)
{
	ssize_t kept = 0;

	for (ssize_t at = 0; at < len;) {
		ssize_t n = (ssize_t)strlen(names + at) + 1;

		if (!hk_ov_is_our_xattr(names + at)) {
			memmove(names + kept, names + at, (size_t)n);
			kept += n;
		}
		at += n;
	}
	return kept;
}

ssize_t hk_ov_listxattr(struct hk_backend *backend, int obj, char *names, size_t size)
{
	struct hk_overlay *ov = hk_overlay_of(backend);
	autofree char *all = NULL;
	struct use u = use(ov, obj);
	ssize_t n = hk_host_listxattr(ov->host, u.fd, NULL, 0);

	if (n > 0) {
		all = hk_malloc(XATTR_LIST_MAX);
		n = all == NULL ? -ENOMEM : hk_host_listxattr(ov->host, u.fd, all, XATTR_LIST_MAX);
	}
	done(ov, u);
	if (n <= 0) {
		return n;
	}
	n = filter(all, n);
	if (size == 0) {
		return n;
	}
	if ((size_t)n > size) {
		return -ERANGE;
	}
	memcpy(names, all, (size_t)n);
	return n;
}

int hk_ov_setxattr(struct hk_backend *backend, int obj, const char *name, const void *value,
	size_t size, int flags)
{
	struct hk_overlay *ov = hk_overlay_of(backend);
	int fd = hk_ov_is_our_xattr(name) ? -EPERM : change(ov, hk_ov_slot(ov, obj)->inode, 0);

	return fd < 0 ? fd : hk_host_setxattr(ov->host, fd, name, value, size, flags);
}

int hk_ov_removexattr(struct hk_backend *backend, int obj, const char *name)
{
	struct hk_overlay *ov = hk_overlay_of(backend);
	ssize_t has = hk_ov_getxattr(backend, obj, name, NULL, 0);
	int fd = has < 0 ? (int)has : change(ov, hk_ov_slot(ov, obj)->inode, 0);

	return fd < 0 ? fd : hk_host_removexattr(ov->host, fd, name);
}

/* --- data --- */

static struct hk_ov_inode *ref(struct hk_overlay *ov, struct hk_ov_inode *inode)
{
	pthread_mutex_lock(&ov->live_lock);
	inode->refs++;
	pthread_mutex_unlock(&ov->live_lock);
	return inode;
}

int hk_ov_open_file(struct hk_backend *backend, int obj, int flags)
{
	struct hk_overlay *ov = hk_overlay_of(backend);
	struct hk_ov_inode *inode = hk_ov_slot(ov, obj)->inode;
	bool is_write = (flags & O_ACCMODE) != O_RDONLY || (flags & O_TRUNC) != 0;
	bool is_below = false;
	int file;
	int fd;

	if (is_write) {
		fd = change(ov, inode, (flags & O_TRUNC) != 0 ? HK_OV_EMPTY : 0);
		fd = fd < 0 ? fd : hk_host_open_file(ov->host, fd, flags);
	} else {
		struct use u = use(ov, obj);

		is_below = inode->is_cow && u.fd == inode->lower;
		fd = hk_host_open_file(ov->host, u.fd, flags);
		done(ov, u);
	}
	if (fd < 0) {
		return fd;
	}
	file = hk_ov_slot_new(ov, ref(ov, inode), fd, flags);
	if (file >= 0 && is_below) {
		atomic_store(&hk_ov_slot(ov, file)->is_below, true);
	}
	return file;
}

/* The descriptor of a file, the copy's where there is one now. */
static int fd_of(struct hk_overlay *ov, int file)
{
	struct hk_ov_slot *slot = hk_ov_slot(ov, file);
	int fd;

	if (!atomic_load_explicit(&slot->is_below, memory_order_acquire) ||
		!is_copied(slot->inode)) {
		return atomic_load(&slot->fd);
	}
	pthread_mutex_lock(&ov->slots_lock);
	fd = atomic_load(&slot->fd);
	if (atomic_load(&slot->is_below)) {
		int upper = hk_host_open_file(ov->host, slot->inode->upper, slot->flags);

		if (upper >= 0) {
			slot->old_fd = fd; /* others may be using it: until the file is closed */
			atomic_store(&slot->fd, upper);
			atomic_store_explicit(&slot->is_below, false, memory_order_release);
		}
		fd = upper;
	}
	pthread_mutex_unlock(&ov->slots_lock);
	return fd;
}

/* What is below is not for the kernel to read by itself: it would not go over to the copy. */
int hk_ov_real_fd(struct hk_backend *backend, int file)
{
	struct hk_overlay *ov = hk_overlay_of(backend);
	struct hk_ov_slot *slot = hk_ov_slot(ov, file);

	return slot->inode->is_cow && !is_copied(slot->inode) ? -1 : fd_of(ov, file);
}

ssize_t hk_ov_read(struct hk_backend *backend, int file, const struct iovec *iov, unsigned count,
	uint64_t offset)
{
	struct hk_overlay *ov = hk_overlay_of(backend);
	int fd = fd_of(ov, file);

	return fd < 0 ? fd : hk_host_read(ov->host, fd, iov, count, offset);
}

ssize_t hk_ov_write(struct hk_backend *backend, int file, const struct iovec *iov, unsigned count,
	uint64_t offset, bool append)
{
	struct hk_overlay *ov = hk_overlay_of(backend);
	int fd = fd_of(ov, file);

	return fd < 0 ? fd : hk_host_write(ov->host, fd, iov, count, offset, append);
}

int hk_ov_resize(struct hk_backend *backend, int file, uint64_t size_bytes)
{
	struct hk_overlay *ov = hk_overlay_of(backend);
	int fd = fd_of(ov, file);

	return fd < 0 ? fd : hk_host_resize(ov->host, fd, size_bytes);
}

int hk_ov_fsync(struct hk_backend *backend, int file, bool data_only)
{
	struct hk_overlay *ov = hk_overlay_of(backend);
	int fd = fd_of(ov, file);

	return fd < 0 ? fd : hk_host_fsync(ov->host, fd, data_only);
}

int hk_ov_allocate(struct hk_backend *backend, int file, int mode, uint64_t offset, uint64_t len)
{
	struct hk_overlay *ov = hk_overlay_of(backend);
	int fd = fd_of(ov, file);

	return fd < 0 ? fd : hk_host_allocate(ov->host, fd, mode, offset, len);
}

int64_t hk_ov_seek(struct hk_backend *backend, int file, uint64_t offset, int whence)
{
	struct hk_overlay *ov = hk_overlay_of(backend);
	int fd = fd_of(ov, file);

	return fd < 0 ? fd : hk_host_seek(ov->host, fd, offset, whence);
}

ssize_t hk_ov_copy(struct hk_backend *backend, int from, uint64_t from_offset, int to,
	uint64_t to_offset, size_t len)
{
	struct hk_overlay *ov = hk_overlay_of(backend);
	int in = fd_of(ov, from);
	int out = fd_of(ov, to);

	if (in < 0 || out < 0) {
		return in < 0 ? in : out;
	}
	return hk_host_copy(ov->host, in, from_offset, out, to_offset, len);
}
