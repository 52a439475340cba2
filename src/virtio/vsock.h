/* SPDX-License-Identifier: ISC */
/*
 * virtio-vsock: stream sockets between the guest (CID 3) and its monitor (CID 2).
 *
 * The host end of every connection is a stream file descriptor (a unix socket, one end of a
 * socketpair): the device copies between it and the queues, keeping to the credit the
 * peer announced, so a slow reader on one stream never blocks another.
 *
 * Guest connects to host port P: the listener of that port gives a descriptor, or the connection is
 * reset. Host connects to guest port P: hk_vsock_connect().
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
	/* The guest connects to @listener's port from @guest_port. Return: a connected stream descriptor, which the
	 * device then owns (it makes it non-blocking), or -errno to refuse. Loop's thread. Required. */
	int (*accept)(struct hk_vsock_listener *listener, uint32_t guest_port);
};

struct hk_vsock_listener {
	const struct hk_vsock_listener_ops *ops;
	uint32_t port;
	struct hk_vsock_listener *next; /* the device's own */
};

/* Told how an hk_vsock_connect() went. Loop's thread, once. */
struct hk_vsock_connect {
	void (*done)(struct hk_vsock_connect *connect, int error); /* 0 or -errno */
	void *next; /* the device's own */
};

/**
 * hk_vsock_create() - the device; @ret_dev is what to attach and to destroy
 */
int hk_vsock_create(struct hk_loop *loop, struct hk_vsock **ret_vsock, struct hk_virtio **ret_dev,
	struct hk_err *err);

/* Both on the loop's thread; the listener is borrowed until removed. */
int hk_vsock_listen(struct hk_vsock *vsock, struct hk_vsock_listener *listener);
void hk_vsock_unlisten(struct hk_vsock *vsock, struct hk_vsock_listener *listener);

/** struct hk_vsock_unix - a listener that connects each guest stream to a unix socket of the host */
struct hk_vsock_unix;
int hk_vsock_unix_create(struct hk_vsock *vsock, uint32_t port, const char *socket_path,
	struct hk_vsock_unix **ret_listener, struct hk_err *err);
void hk_vsock_unix_destroy(struct hk_vsock_unix *listener);

/**
 * hk_vsock_connect() - open a stream to @guest_port; @fd becomes its host end, owned by the device
 * @connect: borrowed until its done() has been called
 */
int hk_vsock_connect(
	struct hk_vsock *vsock, uint32_t guest_port, int fd, struct hk_vsock_connect *connect);

#endif
