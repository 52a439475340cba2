/* SPDX-License-Identifier: ISC */
/*
 * Storage behind virtio-blk: asynchronous, in bytes, with completions on the loop's thread.
 *
 * Implementations: a raw file by io_uring (blk_uring_linux.c) or by the worker pool
 * (blk_pool.c), memory (blk_memory.c), and a wrapper that fails operations (blk_fault.c).
 */
#ifndef HK_VIRTIO_BLK_BACKEND_H
#define HK_VIRTIO_BLK_BACKEND_H

#include <stdbool.h>
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
 * @iov: @iov_count segments for read and write, borrowed
 * @offset_bytes, @len_bytes: within the size of the backend (the caller has checked)
 * @may_unmap: write-zeroes may free the blocks
 * @done: loop's thread; @result 0 or -errno
 */
struct hk_blk_io {
	enum hk_blk_op op;
	struct iovec *iov;
	unsigned iov_count;
	uint64_t offset_bytes;
	uint64_t len_bytes;
	bool may_unmap;
	void (*done)(struct hk_blk_io *io, int result);
	struct hk_blk_io *next; /* the backend's own while in flight */
};

struct hk_blk_backend;

struct hk_blk_backend_ops {
	const char *name;
	/* Start @io; done() may be called from within. Loop's thread. Required. */
	void (*submit)(struct hk_blk_backend *backend, struct hk_blk_io *io);
	/* Tell the kernel of all that was submitted since; once a batch. Optional. */
	void (*kick)(struct hk_blk_backend *backend);
	/* Returns when nothing is in flight; completions are called meanwhile. Required. */
	void (*drain)(struct hk_blk_backend *backend);
	void (*destroy)(struct hk_blk_backend *backend); /* drained; required */
};

/** struct hk_blk_backend - first member of implementations */
struct hk_blk_backend {
	const struct hk_blk_backend_ops *ops;
	uint64_t size_bytes;
	bool can_discard;
};

/**
 * hk_blk_open_file() - a raw disk image or block device
 * @fd: owned by the backend from here on, also on failure
 *
 * io_uring where the host allows it, else the worker pool. A regular file whose size is no multiple of 512 bytes
 * is refused.
 */
int hk_blk_open_file(struct hk_loop *loop, int fd, bool read_only, struct hk_blk_backend **ret_backend,
	struct hk_err *err);

/** hk_blk_open_memory() - @size_bytes of zeros; for tests and scratch disks */
int hk_blk_open_memory(uint64_t size_bytes, struct hk_blk_backend **ret_backend, struct hk_err *err);

void hk_blk_backend_destroy(struct hk_blk_backend *backend); /* drains; NULL is fine */

#endif
