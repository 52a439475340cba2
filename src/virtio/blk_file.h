/* SPDX-License-Identifier: ISC */
/*
 * What the two backends of raw files share: what each step of an operation is, and what follows
 * from its result. An operation takes one step as a rule, more where a transfer comes back short or
 * zeros have to be written.
 */
#ifndef HK_VIRTIO_BLK_FILE_H
#define HK_VIRTIO_BLK_FILE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

#include "virtio/blk_backend.h"

enum hk_blk_call {
	HK_BLK_CALL_READV,
	HK_BLK_CALL_WRITEV,
	HK_BLK_CALL_FDATASYNC,
	HK_BLK_CALL_FALLOCATE,
	HK_BLK_CALL_COUNT,
};

/**
 * struct hk_blk_step - a system call that brings an operation on
 * @iov: for readv and writev, at most IOV_MAX elements. Several outlive the step; a single one may
 *	be
 *       @one, which does not
 * @mode, @len_bytes: for fallocate
 */
struct hk_blk_step {
	enum hk_blk_call call;
	const struct iovec *iov;
	unsigned iov_count;
	struct iovec one;
	uint64_t offset_bytes;
	uint64_t len_bytes;
	int mode;
};

/** hk_blk_file_begin() - before the first step */
void hk_blk_file_begin(struct hk_blk_io *io);
void hk_blk_file_step(const struct hk_blk_io *io, struct hk_blk_step *ret_step);

/**
 * hk_blk_file_stepped() - @result of the call: bytes, 0, or -errno
 *
 * Return: 1 if another step is needed; 0 or -errno as the operation's result.
 */
int hk_blk_file_stepped(struct hk_blk_io *io, int64_t result);

/** hk_blk_file_run() - all steps, blocking. Any thread. Return: the operation's result. */
int hk_blk_file_run(int fd, struct hk_blk_io *io);

/*
 * The backends, for hk_blk_open_file() and for tests. @fd is owned by them from here on, but not on
 * failure. The caller fills in size_bytes and can_discard.
 */
int hk_blk_open_uring(struct hk_loop *loop, int fd, struct hk_blk_backend **ret_backend);
int hk_blk_open_pool(
	struct hk_loop *loop, int fd, struct hk_blk_backend **ret_backend, struct hk_err *err);

#endif
