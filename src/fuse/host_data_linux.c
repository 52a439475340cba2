/* SPDX-License-Identifier: ISC */
/*
 * Data of host files, and listings of host directories: see host_linux.c.
 *
 * Theory: thin. Reads and writes carry their offset, so one descriptor serves any number of
 * requests at a time; listings and SEEK_DATA move the descriptor's own position, which nothing else
 * uses.
 */
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "fuse/host_impl_linux.h"
#include "fuse/setid_linux.h"

int hk_host_open_file(struct hk_backend *backend, int obj, int flags)
{
	struct hk_fd_name name = hk_fd_name(obj);
	int proc_fd = hk_host_of(backend)->proc_fd;
	int fd;

	flags |= O_CLOEXEC | O_NOCTTY | O_LARGEFILE;
	if ((flags & O_TRUNC) != 0) {
		hk_setid_take_up_of(obj);
	}
	fd = HK_HOST_CALL(openat(proc_fd, name.text, flags));
	if (fd == -EPERM && (flags & O_NOATIME) != 0) {
		/* The guest's caller owns the file; the monitor may not. It is a wish only. */
		fd = HK_HOST_CALL(openat(proc_fd, name.text, flags & ~O_NOATIME));
	}
	return fd;
}

ssize_t hk_host_read(struct hk_backend *backend, int file, const struct iovec *iov, unsigned count,
	uint64_t offset)
{
	/* seccomp: preadv */
	return HK_HOST_CALL(preadv(file, iov, (int)count, (off_t)offset));
}

ssize_t hk_host_write(struct hk_backend *backend, int file, const struct iovec *iov, unsigned count,
	uint64_t offset, bool append)
{
	hk_setid_take_up_of(file);
	/* seccomp write: pwritev2 pwritev */
	return HK_HOST_CALL(
		pwritev2(file, iov, (int)count, (off_t)offset, append ? RWF_APPEND : 0));
}

int hk_host_resize(struct hk_backend *backend, int file, uint64_t size_bytes)
{
	hk_setid_take_up_of(file);
	/* seccomp write: ftruncate */
	return HK_HOST_CALL(ftruncate(file, (off_t)size_bytes));
}

int hk_host_fsync(struct hk_backend *backend, int file, bool data_only)
{
	/* seccomp: fdatasync fsync */
	return HK_HOST_CALL(data_only ? fdatasync(file) : fsync(file));
}

int hk_host_allocate(struct hk_backend *backend, int file, int mode, uint64_t offset, uint64_t len)
{
	hk_setid_take_up_of(file);
	/* seccomp write: fallocate */
	return HK_HOST_CALL(fallocate(file, mode, (off_t)offset, (off_t)len));
}

int64_t hk_host_seek(struct hk_backend *backend, int file, uint64_t offset, int whence)
{
	/* seccomp: lseek */
	return HK_HOST_CALL(lseek(file, (off_t)offset, whence));
}

ssize_t hk_host_copy(struct hk_backend *backend, int from, uint64_t from_offset, int to,
	uint64_t to_offset, size_t len)
{
	off_t in = (off_t)from_offset;
	off_t out = (off_t)to_offset;

	hk_setid_take_up_of(to);
	/* seccomp write: copy_file_range */
	return HK_HOST_CALL(copy_file_range(from, &in, to, &out, len, 0));
}

int hk_host_open_dir(struct hk_backend *backend, int obj)
{
	return HK_HOST_CALL(openat(obj, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
}

ssize_t hk_host_read_dir(struct hk_backend *backend, int file, void *buf, size_t size)
{
	/* seccomp: getdents64 */
	ssize_t n = HK_HOST_CALL(syscall(SYS_getdents64, file, buf, size));

	return n == -ENOENT ? 0 : n; /* a directory removed while it is read is empty */
}

int hk_host_seek_dir(struct hk_backend *backend, int file, uint64_t position)
{
	off_t r = HK_HOST_CALL(lseek(file, (off_t)position, SEEK_SET));

	return r < 0 ? (int)r : 0;
}

int hk_host_sync(struct hk_backend *backend)
{
	struct hk_host *host = hk_host_of(backend);
	autoclose int fd = HK_HOST_CALL(
		openat(host->proc_fd, hk_fd_name(backend->root).text, O_RDONLY | O_CLOEXEC));

	/* seccomp: syncfs */
	return fd < 0 ? fd : HK_HOST_CALL(syncfs(fd));
}
