/* SPDX-License-Identifier: ISC */
/*
 * Storage behind virtio-blk: asynchronous, in bytes.
 *
 * Implementations: a raw file by io_uring (blk_uring_linux.c) or by the worker pool
 * (blk_pool_linux.c), memory (blk_memory.c), and a wrapper that fails operations (blk_fault.c).
 *
 * Threads: the device calls with its lock held, so one call at a time, but not always from the same
 * thread: a reset of the device drains from the vCPU's. A backend does not watch its own
 * completions: it gives the device a descriptor to watch, and the device calls @reap, with its
 * lock.
 */
#ifndef HK_VIRTIO_BLK_BACKEND_H
#define HK_VIRTIO_BLK_BACKEND_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "base/err.h"
#include "base/loop.h"

enum hk_blk_op {
	HK_BLK_READ,
	HK_BLK_WRITE,
	HK_BLK_FLUSH,
	HK_BLK_DISCARD,
	HK_BLK_WRITE_ZEROES,
	HK_BLK_OP_COUNT,
};

/**
 * struct hk_blk_io - one operation; embedded in its owner, which keeps it until @done
 * @iov: @iov_count segments for read and write, borrowed; the backend may change pointer and count,
 *       and the segments until @done: then they are as they were
 * @offset_bytes: within the size of the backend (the caller has checked), as is the end; the
 * backend may change it
 * @len_bytes: for read and write the sum of @iov; the backend may change it
 * @may_unmap: write-zeroes may free the blocks
 * @done: called once, from within submit, kick, reap or drain; @result is 0 or -errno. May submit
 *        @io anew.
 */
struct hk_blk_io {
	enum hk_blk_op op;
	struct iovec *iov;
	unsigned iov_count;
	uint64_t offset_bytes;
	uint64_t len_bytes;
	bool may_unmap;
	void (*done)(struct hk_blk_io *io, int result);
	/* The backend's own while in flight. */
	struct hk_blk_io *next;
	int result;
	size_t cut;      /* bytes off the front of the first segment, done already */
	bool by_writing; /* zeros are written, because the file system cannot do it in one go */
};

struct hk_blk_backend;

struct hk_blk_backend_ops {
	const char *name;
	/* Start @io; done() may be called from within. Required. */
	void (*submit)(struct hk_blk_backend *backend, struct hk_blk_io *io);
	/* Tell the kernel of all that was submitted since; once a batch. done() may be called from
	 * within. Optional. */
	void (*kick)(struct hk_blk_backend *backend);
	/* Call done() for all that has ended. Required if @event_fd >= 0. The device kicks
	 * afterwards. */
	void (*reap)(struct hk_blk_backend *backend);
	/* Returns when nothing is in flight; completions are called meanwhile. Required. */
	void (*drain)(struct hk_blk_backend *backend);
	void (*destroy)(struct hk_blk_backend *backend); /* drained, loop's thread; required */
};

/**
 * struct hk_blk_backend - first member of implementations
 * @can_discard: blocks can be freed
 * @loop: borrowed; where to watch @event_fd; NULL where that is -1
 * @event_fd: readable when there is something to reap; the backend's; -1: never
 */
struct hk_blk_backend {
	const struct hk_blk_backend_ops *ops;
	uint64_t size_bytes;
	bool can_discard;
	struct hk_loop *loop;
	int event_fd;
};

/**
 * hk_blk_open_file() - a raw disk image or block device
 * @fd: owned by the backend from here on, also on failure
 *
 * By io_uring where the host allows it and the file gains from it, else by a worker pool. The file
 * is locked: to this box alone if it may write, else to all that only read, where the file system
 * has locks. A file whose size is no multiple of 512 bytes is refused.
 *
 * Return: 0; -EBUSY (another box has it), -EINVAL (size, or no disk at all), -EBADF (not open for
 * writing), or the -errno of a system call.
 */
int hk_blk_open_file(struct hk_loop *loop, int fd, bool read_only,
	struct hk_blk_backend **ret_backend, struct hk_err *err);

/** hk_blk_open_memory() - @size_bytes of zeros, a multiple of 512; for tests and scratch disks */
int hk_blk_open_memory(
	uint64_t size_bytes, struct hk_blk_backend **ret_backend, struct hk_err *err);

/**
 * hk_blk_open_fault() - passes all to @inner, but fails the @nth (from 1) operation @op with @error
 * @inner: owned by the wrapper from here on, also on failure
 * @error: a positive errno
 */
int hk_blk_open_fault(struct hk_blk_backend *inner, enum hk_blk_op op, uint64_t nth, int error,
	struct hk_blk_backend **ret_backend, struct hk_err *err);

void hk_blk_backend_destroy(struct hk_blk_backend *backend); /* drains; NULL is fine */

#endif
