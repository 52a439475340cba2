/* SPDX-License-Identifier: ISC */
/* The inside of the host directory backend, shared by host_*_linux.c. */
#ifndef HK_FUSE_HOST_IMPL_LINUX_H
#define HK_FUSE_HOST_IMPL_LINUX_H

#include <errno.h>
#include <fcntl.h>

#include "base/fault.h"
#include "fuse/backend.h"

/**
 * struct hk_host - a directory or file of the host
 * @proc_fd: /proc/self/fd, the way from a descriptor to what it stands for where no *at() call does
 * it
 * @uid, @gid: the monitor's; @is_root: so it can act for others
 */
struct hk_host {
	struct hk_backend base;
	int proc_fd;
	uid_t uid;
	gid_t gid;
	bool is_root;
};

/* A system call: asks the fault hook, is done again when interrupted, and gives -errno. */
#define HK_HOST_CALL(call) \
	({ \
		__typeof__(call) hk_result_; \
		do { \
			errno = EIO; \
			hk_result_ = hk_fault(HK_FAULT_SYSCALL) ? -1 : (call); \
		} while (hk_result_ < 0 && errno == EINTR); \
		hk_result_ < 0 ? -errno : hk_result_; \
	})

/* The name of a descriptor in proc_fd. */
struct hk_fd_name {
	char text[12];
};
struct hk_fd_name hk_fd_name(int fd); /* @fd >= 0 */
/*
 * What goes before it in a path, in this thread: nothing, or "/proc/self/fd/". In
 * host_attr_linux.c.
 */
const char *hk_host_fd_prefix(struct hk_backend *backend);

struct hk_host *hk_host_of(struct hk_backend *backend);

/* Is this thread prepared by hk_fuse_thread_start()? */
bool hk_host_thread_is_ours(void);
/*
 * Has what this thread creates from now on masked with @mask. Return: false where the umask is not
 * the thread's own.
 */
bool hk_host_mask(mode_t mask);
/* What creating in this thread takes off besides. */
mode_t hk_host_umask(void);

/* openat2(2) of one component, never through a symbolic link; openat(2) where there is no openat2.
 */
int hk_host_open_name(int dir, const char *name, int flags, mode_t mode);

#define HK_HOST_OP(result, name, ...) result hk_host_##name(struct hk_backend *backend, __VA_ARGS__)

/* host_attr_linux.c */
HK_HOST_OP(int, chmod, int obj, mode_t mode);
HK_HOST_OP(int, chown, int obj, uid_t uid, gid_t gid);
HK_HOST_OP(int, utimes, int obj, const struct timespec times[2]);
HK_HOST_OP(int, truncate, int obj, uint64_t size_bytes);
HK_HOST_OP(ssize_t, getxattr, int obj, const char *name, void *value, size_t size);
HK_HOST_OP(ssize_t, getxattr_at, int dir, const char *entry, const char *name, void *value,
	size_t size);
HK_HOST_OP(ssize_t, listxattr, int obj, char *names, size_t size);
HK_HOST_OP(int, setxattr, int obj, const char *name, const void *value, size_t size, int flags);
HK_HOST_OP(int, removexattr, int obj, const char *name);

/* host_name_linux.c */
HK_HOST_OP(
	int, create, int dir, const char *name, int flags, mode_t mode, const struct hk_cred *cred);
HK_HOST_OP(int, tmpfile, int dir, int flags, mode_t mode, const struct hk_cred *cred);
HK_HOST_OP(int, mknod, int dir, const char *name, mode_t mode, uint64_t rdev,
	const struct hk_cred *cred);
HK_HOST_OP(int, mkdir, int dir, const char *name, mode_t mode, const struct hk_cred *cred);
HK_HOST_OP(int, symlink, int dir, const char *name, const char *target, const struct hk_cred *cred);
HK_HOST_OP(int, link, int obj, int dir, const char *name);
HK_HOST_OP(int, unlink, int dir, const char *name, bool is_dir);
HK_HOST_OP(int, rename, int old_dir, const char *old_name, int new_dir, const char *new_name,
	unsigned flags);

/* host_data_linux.c */
HK_HOST_OP(int, open_file, int obj, int flags);
HK_HOST_OP(ssize_t, read, int file, const struct iovec *iov, unsigned count, uint64_t offset);
HK_HOST_OP(ssize_t, write, int file, const struct iovec *iov, unsigned count, uint64_t offset,
	bool append);
HK_HOST_OP(int, resize, int file, uint64_t size_bytes);
HK_HOST_OP(int, fsync, int file, bool data_only);
HK_HOST_OP(int, allocate, int file, int mode, uint64_t offset, uint64_t len);
HK_HOST_OP(int64_t, seek, int file, uint64_t offset, int whence);
HK_HOST_OP(ssize_t, copy, int from, uint64_t from_offset, int to, uint64_t to_offset, size_t len);
HK_HOST_OP(int, open_dir, int obj);
HK_HOST_OP(ssize_t, read_dir, int file, void *buf, size_t size);
HK_HOST_OP(int, seek_dir, int file, uint64_t position);
int hk_host_sync(struct hk_backend *backend);

#endif
