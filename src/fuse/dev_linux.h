/* SPDX-License-Identifier: ISC */
/*
 * The transport over /dev/fuse: threads that read requests of a mount, have the server answer, and
 * write replies.
 *
 * Each request is answered by the thread that read it, and one thread alone serves for as long as
 * it keeps up: handing over costs more than most requests. Threads read from clones of the
 * descriptor (FUSE_DEV_IOC_CLONE).
 *
 * Source: linux/fuse.h; the kernel's fs/fuse/dev.c for what read(2) and write(2) give.
 */
#ifndef HK_FUSE_DEV_LINUX_H
#define HK_FUSE_DEV_LINUX_H

#include <stdint.h>

#include "base/err.h"
#include "fuse/server.h"

struct hk_fuse_dev;

/**
 * hk_fuse_dev_create() - serve a mount
 * @fd: of /dev/fuse, mounted or about to be; becomes the transport's, also on failure
 * @threads: that serve at most; 0: as many as fit
 *
 * Sets the server's transport (passthrough, notifications). Its threads take no signals.
 * Descriptors of a mount that processes without an exec inherit keep the mount alive when the
 * server is gone: a child closes @fd at once.
 *
 * Return: 0, or what starting a thread gave.
 */
int hk_fuse_dev_create(struct hk_fuse_server *server, int fd, unsigned threads,
	struct hk_fuse_dev **ret_dev, struct hk_err *err);

/** hk_fuse_dev_ended_fd() - an eventfd, readable when the mount is gone. Borrowed. */
int hk_fuse_dev_ended_fd(const struct hk_fuse_dev *dev);

/**
 * hk_fuse_dev_count() - how many requests with this opcode were read; for tests and measurements.
 * Any thread.
 */
uint64_t hk_fuse_dev_count(const struct hk_fuse_dev *dev, uint32_t opcode);

/**
 * hk_fuse_dev_destroy() - abort the connection: who waits gets ECONNABORTED, later ones ENOTCONN;
 * NULL is fine
 *
 * Waits for requests that are being answered. The server has no transport any more and may be
 * destroyed.
 */
void hk_fuse_dev_destroy(struct hk_fuse_dev *dev);

#endif
