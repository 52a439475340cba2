/* SPDX-License-Identifier: ISC */
/*
 * Raw disk images and block devices: opening, locking, and the steps of operations.
 *
 * Theory: reads and writes go on where a short transfer stopped. A read that gives nothing has met
 * the end of a file which was cut while the box ran: an I/O error of that request, and of no other.
 * Zeros and discards are fallocate(2), which block devices understand too; a file system that does
 * not gets its zeros written, and a discard, which promises nothing, does nothing there.
 *
 * Limits: where the file system has no locks, nothing keeps two boxes from one image.
 */
#include "virtio/blk_file.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fault.h"
#include "base/log.h"
#include "base/util.h"

HK_LOG_CHANNEL("blk");

enum {
	SECTOR_SIZE = 512,
	ZERO_SIZE = 64 * 1024,
	ZERO_SEGMENTS = 16, /* so 1 MiB in a step */
};

/* Aligned for images that were opened with O_DIRECT. */
static const uint8_t zeros[ZERO_SIZE] __attribute__((aligned(4096)));

#define Z \
	{ \
		.iov_base = (void *)(uintptr_t)zeros, .iov_len = ZERO_SIZE \
	}
static const struct iovec zero_iov[ZERO_SEGMENTS] = {
	Z, Z, Z, Z, Z, Z, Z, Z, Z, Z, Z, Z, Z, Z, Z, Z};
#undef Z

void hk_blk_file_begin(struct hk_blk_io *io)
{
	io->by_writing = false;
	io->cut = 0;
}

static void write_zeros_step(const struct hk_blk_io *io, struct hk_blk_step *step)
{
	step->call = HK_BLK_CALL_WRITEV;
	step->iov = zero_iov;
	step->iov_count = (unsigned)HK_MIN(io->len_bytes / ZERO_SIZE, ZERO_SEGMENTS);
	if (step->iov_count == 0) {
		step->one = (struct iovec){
			.iov_base = (void *)(uintptr_t)zeros,
			.iov_len = io->len_bytes,
		};
		step->iov = &step->one;
		step->iov_count = 1;
	}
}

void hk_blk_file_step(const struct hk_blk_io *io, struct hk_blk_step *ret_step)
{
	*ret_step = (struct hk_blk_step){
		.iov = io->iov,
		.iov_count = io->iov_count,
		.offset_bytes = io->offset_bytes,
		.len_bytes = io->len_bytes,
	};

	switch (io->op) {
	case HK_BLK_READ:
		ret_step->call = HK_BLK_CALL_READV;
		break;
	case HK_BLK_WRITE:
		ret_step->call = HK_BLK_CALL_WRITEV;
		break;
	case HK_BLK_FLUSH:
		ret_step->call = HK_BLK_CALL_FDATASYNC;
		break;
	case HK_BLK_DISCARD:
		ret_step->call = HK_BLK_CALL_FALLOCATE;
		ret_step->mode = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;
		break;
	default:
		assert(io->op == HK_BLK_WRITE_ZEROES);
		if (io->by_writing) {
			write_zeros_step(io, ret_step);
			break;
		}
		ret_step->call = HK_BLK_CALL_FALLOCATE;
		ret_step->mode = FALLOC_FL_KEEP_SIZE |
			(io->may_unmap ? FALLOC_FL_PUNCH_HOLE : FALLOC_FL_ZERO_RANGE);
		break;
	}
}

/* Makes the first segment whole again: the owner wants to know all of what was read into it. */
static void uncut(struct hk_blk_io *io)
{
	if (io->cut > 0) {
		io->iov->iov_base = (uint8_t *)io->iov->iov_base - io->cut;
		io->iov->iov_len += io->cut;
		io->cut = 0;
	}
}

/* Moves on by @bytes. */
static void advance(struct hk_blk_io *io, uint64_t bytes)
{
	io->offset_bytes += bytes;
	io->len_bytes -= bytes;
	if (io->op == HK_BLK_WRITE_ZEROES) {
		return;
	}
	bytes += io->cut;
	uncut(io);
	while (bytes > 0 && bytes >= io->iov->iov_len) {
		bytes -= io->iov->iov_len;
		io->iov++;
		io->iov_count--;
	}
	if (bytes > 0) {
		io->iov->iov_base = (uint8_t *)io->iov->iov_base + bytes;
		io->iov->iov_len -= bytes;
		io->cut = bytes;
	}
}

static int refused(struct hk_blk_io *io, int error)
{
	if (error != -EOPNOTSUPP && error != -ENOSYS && error != -EINVAL && error != -ENODEV) {
		return error;
	}
	if (io->op == HK_BLK_DISCARD) {
		return 0;
	}
	if (io->op == HK_BLK_WRITE_ZEROES && !io->by_writing) {
		io->by_writing = true;
		return 1;
	}
	return error;
}

static int next_step(struct hk_blk_io *io, int64_t result)
{
	if (result == -EINTR) {
		return 1;
	}
	if (result < 0) {
		return refused(io, (int)result);
	}
	if (io->op != HK_BLK_READ && io->op != HK_BLK_WRITE && !io->by_writing) {
		return 0;
	}
	if (result == 0) {
		return io->len_bytes == 0 ? 0 : -EIO;
	}
	advance(io, HK_MIN((uint64_t)result, io->len_bytes));
	return io->len_bytes > 0 ? 1 : 0;
}

int hk_blk_file_stepped(struct hk_blk_io *io, int64_t result)
{
	int r = next_step(io, result);

	if (r <= 0) {
		uncut(io);
	}
	return r;
}

static int64_t call(int fd, const struct hk_blk_step *step)
{
	int64_t r;

	if (hk_fault(HK_FAULT_SYSCALL)) {
		return -EIO;
	}
	switch (step->call) {
	case HK_BLK_CALL_READV:
		/* seccomp disk: preadv */
		r = preadv(fd, step->iov, (int)step->iov_count, (off_t)step->offset_bytes);
		break;
	case HK_BLK_CALL_WRITEV:
		/* seccomp disk: pwritev */
		r = pwritev(fd, step->iov, (int)step->iov_count, (off_t)step->offset_bytes);
		break;
	case HK_BLK_CALL_FDATASYNC:
		/* seccomp disk: fdatasync */
		r = fdatasync(fd);
		break;
	default:
		/* seccomp disk: fallocate */
		r = fallocate(fd, step->mode, (off_t)step->offset_bytes, (off_t)step->len_bytes);
		break;
	}
	return r < 0 ? -errno : r;
}

int hk_blk_file_run(int fd, struct hk_blk_io *io)
{
	int r;

	hk_blk_file_begin(io);
	do {
		struct hk_blk_step step;

		hk_blk_file_step(io, &step);
		r = hk_blk_file_stepped(io, call(fd, &step));
	} while (r > 0);
	return r;
}

/* Opening */

static int find_size(int fd, uint64_t *ret_bytes, struct hk_err *err)
{
	struct stat st;

	if (fstat(fd, &st) < 0) {
		return hk_fail(err, errno, "stat");
	}
	if (S_ISREG(st.st_mode)) {
		*ret_bytes = (uint64_t)st.st_size;
	} else if (S_ISBLK(st.st_mode)) {
		if (ioctl(fd, BLKGETSIZE64, ret_bytes) < 0) {
			return hk_fail(err, errno, "size of block device");
		}
	} else {
		return hk_fail_msg(err, EINVAL, "neither a regular file nor a block device");
	}
	if (*ret_bytes == 0) {
		hk_fail_msg(err, EINVAL, "the disk image is empty");
		hk_err_hint(err, "give it a size first: truncate -s 1G FILE");
		return -EINVAL;
	}
	if (*ret_bytes % SECTOR_SIZE != 0) {
		hk_fail_msg(err, EINVAL, "its size (%llu bytes) is no multiple of %d",
			(unsigned long long)*ret_bytes, SECTOR_SIZE);
		hk_err_hint(err,
			"is it a raw disk image? 'truncate -s %%%d FILE' rounds the size up",
			SECTOR_SIZE);
		return -EINVAL;
	}
	return 0;
}

static int check_mode(int fd, bool read_only, struct hk_err *err)
{
	int flags = fcntl(fd, F_GETFL);

	if (flags < 0) {
		return hk_fail(err, errno, "descriptor %d", fd);
	}
	if (!read_only && (flags & O_ACCMODE) != O_RDWR) {
		return hk_fail_msg(err, EBADF, "not open for reading and writing");
	}
	return 0;
}

/* The lock belongs to the open file description, so it goes with the box however that ends. */
static int lock_file(int fd, bool read_only, struct hk_err *err)
{
	struct flock lock = {
		.l_type = read_only ? F_RDLCK : F_WRLCK,
		.l_whence = SEEK_SET,
	};
	int error;

	if (fcntl(fd, F_OFD_SETLK, &lock) == 0) {
		return 0;
	}
	error = errno;
	if (error == EAGAIN || error == EACCES) {
		hk_fail_msg(err, EBUSY, "is in use by another process");
		hk_err_hint(err,
			"a disk that is written belongs to one box: end the other one, or %s",
			read_only ? "let it read only" : "read only in both");
		return -EBUSY;
	}
	hk_log_debug("no lock on the disk image: %s", strerror(error));
	return 0;
}

/*
 * Can a read be told not to wait? Where not (tmpfs before Linux 6.6, overlay on FUSE), io_uring
 * hands every operation to a thread of the kernel's and back, which takes twice as long as our
 * pool.
 */
static bool can_read_at_once(int fd)
{
	uint8_t sector[SECTOR_SIZE] __attribute__((aligned(4096)));
	struct iovec iov = {.iov_base = sector, .iov_len = sizeof(sector)};

	return preadv2(fd, &iov, 1, 0, RWF_NOWAIT) >= 0 || errno == EAGAIN;
}

int hk_blk_open_file(struct hk_loop *loop, int fd, bool read_only,
	struct hk_blk_backend **ret_backend, struct hk_err *err)
{
	autoclose int owned = fd;
	struct hk_blk_backend *backend;
	uint64_t size_bytes;
	int r;

	r = check_mode(fd, read_only, err);
	if (r < 0) {
		return r;
	}
	r = find_size(fd, &size_bytes, err);
	if (r < 0) {
		return r;
	}
	r = lock_file(fd, read_only, err);
	if (r < 0) {
		return r;
	}
	r = can_read_at_once(fd) ? hk_blk_open_uring(loop, fd, &backend) : -EOPNOTSUPP;
	if (r < 0) {
		hk_log_debug("no io_uring (%s): worker pool", strerror(-r));
		r = hk_blk_open_pool(loop, fd, &backend, err);
	}
	if (r < 0) {
		return r;
	}
	take_fd(&owned);
	backend->size_bytes = size_bytes;
	backend->can_discard = !read_only;
	*ret_backend = backend;
	return 0;
}

void hk_blk_backend_destroy(struct hk_blk_backend *backend)
{
	if (backend != NULL) {
		backend->ops->drain(backend);
		backend->ops->destroy(backend);
	}
}
