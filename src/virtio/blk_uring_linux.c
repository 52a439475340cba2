/* SPDX-License-Identifier: ISC */
/*
 * Raw files by io_uring.
 *
 * Theory: one ring. submit() fills entries, kick() hands all of them to the kernel with one system
 * call and takes what ended there and then (as reads from the page cache do); the rest makes the
 * ring's descriptor readable. An operation that needs another step goes round once more.
 *
 * The kernel may refuse entries for want of memory: they stay in the ring and are offered again
 * after the next completions, or after a short sleep where none is to come.
 *
 * Limits: no registered buffers (all of guest memory would count against RLIMIT_MEMLOCK). No
 * registered file: the kernel drops it some time after the ring is closed, and its lock with it, so
 * that the next box would find the image in use. Linux 5.10, for rings that can be restricted.
 */
#include "virtio/blk_file.h"

#include <assert.h>
#include <errno.h>
#include <liburing.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/fault.h"
#include "base/util.h"

enum { RING_ENTRIES = 256, REAP_BATCH = 64 };

struct uring {
	struct hk_blk_backend base; /* first */
	struct io_uring ring;
	int fd;             /* owned */
	unsigned in_flight; /* not done yet, in the kernel or before */
};

static const struct hk_blk_backend_ops uring_ops;

static struct uring *uring_of(struct hk_blk_backend *backend)
{
	assert(backend->ops == &uring_ops);
	return hk_container_of(backend, struct uring, base);
}

/* Gives all entries to the kernel. Return: false where it does not take them now. */
static bool flush(struct uring *uring)
{
	while (io_uring_sq_ready(&uring->ring) > 0) {
		/* seccomp disk: io_uring_enter */
		int r = io_uring_submit(&uring->ring);

		if (r < 0 && r != -EINTR) {
			return false;
		}
	}
	return true;
}

static void wait_a_little(void)
{
	struct timespec pause = {.tv_nsec = (long)HK_NS_PER_MS};

	/* seccomp disk: nanosleep clock_nanosleep */
	nanosleep(&pause, NULL);
}

/* For want of anything else to wait for, when the kernel is out of memory. */
static void flush_until_some_run(struct uring *uring)
{
	while (!flush(uring) && io_uring_sq_ready(&uring->ring) == uring->in_flight &&
		io_uring_cq_ready(&uring->ring) == 0) {
		wait_a_little();
	}
}

static struct io_uring_sqe *get_entry(struct uring *uring)
{
	struct io_uring_sqe *sqe = io_uring_get_sqe(&uring->ring);

	while (sqe == NULL) {
		if (!flush(uring)) {
			wait_a_little();
		}
		sqe = io_uring_get_sqe(&uring->ring);
	}
	return sqe;
}

static void prepare(struct uring *uring, struct hk_blk_io *io)
{
	struct io_uring_sqe *sqe = get_entry(uring);
	struct hk_blk_step step;
	const struct iovec *iov;

	hk_blk_file_step(io, &step);
	iov = step.iov;
	switch (step.call) {
	case HK_BLK_CALL_READV:
		if (step.iov_count == 1) {
			io_uring_prep_read(sqe, uring->fd, iov->iov_base,
				(unsigned)HK_MIN(iov->iov_len, UINT32_C(1) << 30),
				step.offset_bytes);
		} else {
			io_uring_prep_readv(sqe, uring->fd, iov, step.iov_count, step.offset_bytes);
		}
		break;
	case HK_BLK_CALL_WRITEV:
		if (step.iov_count == 1) {
			io_uring_prep_write(sqe, uring->fd, iov->iov_base,
				(unsigned)HK_MIN(iov->iov_len, UINT32_C(1) << 30),
				step.offset_bytes);
		} else {
			io_uring_prep_writev(
				sqe, uring->fd, iov, step.iov_count, step.offset_bytes);
		}
		break;
	case HK_BLK_CALL_FDATASYNC:
		io_uring_prep_fsync(sqe, uring->fd, IORING_FSYNC_DATASYNC);
		break;
	default:
		io_uring_prep_fallocate(
			sqe, uring->fd, step.mode, (off_t)step.offset_bytes, (off_t)step.len_bytes);
		break;
	}
	io_uring_sqe_set_data(sqe, io);
}

static void uring_submit(struct hk_blk_backend *backend, struct hk_blk_io *io)
{
	struct uring *uring = uring_of(backend);

	hk_blk_file_begin(io);
	uring->in_flight++;
	prepare(uring, io);
}

/* Ends, or brings on, all that has completed. */
static void reap(struct uring *uring)
{
	struct io_uring_cqe *cqes[REAP_BATCH];
	unsigned count;

	while ((count = io_uring_peek_batch_cqe(&uring->ring, cqes, REAP_BATCH)) > 0) {
		struct {
			struct hk_blk_io *io;
			int result;
		} ended[REAP_BATCH];

		/* Copied first: done() may submit, and that may need the room. */
		for (unsigned i = 0; i < count; i++) {
			ended[i].io = io_uring_cqe_get_data(cqes[i]);
			ended[i].result = hk_fault(HK_FAULT_SYSCALL) ? -EIO : cqes[i]->res;
		}
		io_uring_cq_advance(&uring->ring, count);
		for (unsigned i = 0; i < count; i++) {
			int r = hk_blk_file_stepped(ended[i].io, ended[i].result);

			if (r > 0) {
				prepare(uring, ended[i].io);
			} else {
				uring->in_flight--;
				ended[i].io->done(ended[i].io, r);
			}
		}
	}
}

static void uring_kick(struct hk_blk_backend *backend)
{
	struct uring *uring = uring_of(backend);

	do {
		flush_until_some_run(uring);
		reap(uring);
		/* What the kernel refuses waits for the next completion, if there will be one. */
	} while (io_uring_sq_ready(&uring->ring) > 0 &&
		(flush(uring) || io_uring_sq_ready(&uring->ring) == uring->in_flight));
}

static void uring_reap(struct hk_blk_backend *backend)
{
	reap(uring_of(backend));
}

static void uring_drain(struct hk_blk_backend *backend)
{
	struct uring *uring = uring_of(backend);

	while (uring->in_flight > 0) {
		struct io_uring_cqe *cqe;

		flush_until_some_run(uring);
		(void)io_uring_wait_cqe(&uring->ring, &cqe);
		reap(uring);
	}
}

static void uring_destroy(struct hk_blk_backend *backend)
{
	struct uring *uring = uring_of(backend);

	io_uring_queue_exit(&uring->ring);
	close(uring->fd);
	free(uring);
}

static const struct hk_blk_backend_ops uring_ops = {
	.name = "io_uring",
	.submit = uring_submit,
	.kick = uring_kick,
	.reap = uring_reap,
	.drain = uring_drain,
	.destroy = uring_destroy,
};

static const uint8_t needed[] = {
	IORING_OP_READV,
	IORING_OP_WRITEV,
	IORING_OP_READ,
	IORING_OP_WRITE,
	IORING_OP_FSYNC,
	IORING_OP_FALLOCATE,
};

static bool knows_operations(struct io_uring *ring)
{
	struct io_uring_probe *probe = io_uring_get_probe_ring(ring);
	bool all = probe != NULL;

	for (unsigned i = 0; all && i < HK_ARRAY_SIZE(needed); i++) {
		all = io_uring_opcode_supported(probe, needed[i]);
	}
	io_uring_free_probe(probe);
	return all;
}

/*
 * No other operations from here on: what goes through a ring passes no system call filter. By
 * system call, as not every liburing has functions for it.
 */
static int restrict_operations(struct io_uring *ring)
{
	struct io_uring_restriction allowed[HK_ARRAY_SIZE(needed)] = {0};

	for (unsigned i = 0; i < HK_ARRAY_SIZE(needed); i++) {
		allowed[i].opcode = IORING_RESTRICTION_SQE_OP;
		allowed[i].sqe_op = needed[i];
	}
	if (syscall(SYS_io_uring_register, ring->ring_fd, IORING_REGISTER_RESTRICTIONS, allowed,
		    HK_ARRAY_SIZE(allowed)) < 0 ||
		syscall(SYS_io_uring_register, ring->ring_fd, IORING_REGISTER_ENABLE_RINGS, NULL,
			0) < 0) {
		return -errno;
	}
	return 0;
}

int hk_blk_open_uring(struct hk_loop *loop, int fd, struct hk_blk_backend **ret_backend)
{
	struct uring *uring;
	int r;

	if (hk_new(uring) == NULL) {
		return -ENOMEM;
	}
	r = hk_fault(HK_FAULT_SYSCALL)
		? -EPERM
		: io_uring_queue_init(RING_ENTRIES, &uring->ring, IORING_SETUP_R_DISABLED);
	if (r < 0) {
		free(uring);
		return r;
	}
	/* A kernel too old to keep completions that do not fit the ring is too old for us. */
	if ((uring->ring.features & IORING_FEAT_NODROP) == 0 || !knows_operations(&uring->ring) ||
		restrict_operations(&uring->ring) < 0) {
		io_uring_queue_exit(&uring->ring);
		free(uring);
		return -ENOSYS;
	}
	uring->base = (struct hk_blk_backend){
		.ops = &uring_ops,
		.loop = loop,
		.event_fd = uring->ring.ring_fd,
	};
	uring->fd = fd;
	*ret_backend = &uring->base;
	return 0;
}
