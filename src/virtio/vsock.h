/* SPDX-License-Identifier: ISC */
/*
 * virtio-vsock: stream sockets between the guest (CID 3) and its monitor (CID 2).
 *
 * The host end of every connection is a stream descriptor (a unix socket, one end of a
 * socketpair): the device copies between it and the queues, keeping to the credit the
 * peer announced, so a slow reader on one stream never blocks another.
 *
 * Guest connects to host port P: the listener of that port gives a descriptor, or the connection is
 * reset. Host connects to guest port P: hk_vsock_connect().
 *
 * What the guest wrote before it closed its end, was reset or powered off is still delivered, and
 * then the host end is closed: so a reader that waits for the end of the stream misses nothing.
 * Connections do not survive into another process: a restored device tells its guest so.
 *
 * All functions are for the loop's thread. They do not take the device's lock and may be called
 * from the callbacks below; only destroying the device in one is not allowed.
 *
 * Source: VIRTIO 1.2, section 5.10.
 */
#ifndef HK_VIRTIO_VSOCK_H
#define HK_VIRTIO_VSOCK_H

#include <stdint.h>

#include "base/err.h"
#include "virtio/device.h"

enum { HK_VSOCK_HOST_CID = 2, HK_VSOCK_GUEST_CID = 3 };

struct hk_vsock;
struct hk_vsock_listener;

struct hk_vsock_listener_ops {
	const char *name;
	/* The guest connects to @listener's port from @guest_port. Must not block. Required.
	 * Return: a connected stream descriptor, which the device then owns (it makes it
	 * non-blocking), or -errno to refuse. */
	int (*accept)(struct hk_vsock_listener *listener, uint32_t guest_port);
};

struct hk_vsock_listener {
	const struct hk_vsock_listener_ops *ops;
	uint32_t port;
	struct hk_vsock_listener *next; /* the device's own */
};

/**
 * struct hk_vsock_connect - told how an hk_vsock_connect() went
 * @done: called once; @error is 0, -ECONNREFUSED, -ECONNRESET (the device was reset) or -ECANCELED
 *        (it was destroyed). May free @connect.
 */
struct hk_vsock_connect {
	void (*done)(struct hk_vsock_connect *connect, int error);
	void *conn; /* the device's own; NULL while not under way */
};

/**
 * hk_vsock_create() - the device
 * @loop: borrowed; watches the host ends
 * @ret_dev: what to attach, and to destroy: on the loop's thread; @ret_vsock goes with it
 */
int hk_vsock_create(struct hk_loop *loop, struct hk_vsock **ret_vsock, struct hk_virtio **ret_dev,
	struct hk_err *err);

/**
 * hk_vsock_listen() - serve @listener's port; borrowed until removed
 *
 * Return: 0, -EADDRINUSE, or -EINVAL (ports from 2^30 on are for connections that we open).
 */
int hk_vsock_listen(struct hk_vsock *vsock, struct hk_vsock_listener *listener);
/** hk_vsock_unlisten() - connections already made live on; fine if it does not listen */
void hk_vsock_unlisten(struct hk_vsock *vsock, struct hk_vsock_listener *listener);

/** struct hk_vsock_unix - a listener that connects each guest stream to a unix socket */
struct hk_vsock_unix;

/**
 * hk_vsock_unix_create() - serve @port by connecting to @socket_path anew for each stream
 * @vsock: outlives the listener
 *
 * Nobody needs to listen there yet: then the guest's connection is reset.
 *
 * Return: 0, -ENAMETOOLONG, -ENOMEM, or as hk_vsock_listen().
 */
int hk_vsock_unix_create(struct hk_vsock *vsock, uint32_t port, const char *socket_path,
	struct hk_vsock_unix **ret_listener, struct hk_err *err);
void hk_vsock_unix_destroy(struct hk_vsock_unix *listener); /* NULL is fine */

/**
 * hk_vsock_connect() - open a stream to @guest_port
 * @fd: its host end, owned by the device from here on, also on failure
 * @connect: borrowed until its done() has been called, or hk_vsock_cancel()
 *
 * There is no time limit: a guest that never answers is the caller's to give up on.
 *
 * Return: 0, and done() will be called, not within; -ENOTCONN while the guest's driver is not up;
 * -EMFILE where there are 1024 connections; -ENOMEM.
 */
int hk_vsock_connect(
	struct hk_vsock *vsock, uint32_t guest_port, int fd, struct hk_vsock_connect *connect);

/** hk_vsock_cancel() - give up; done() will not be called. Fine if it has been. */
void hk_vsock_cancel(struct hk_vsock *vsock, struct hk_vsock_connect *connect);

#endif
