/* SPDX-License-Identifier: ISC */
/*
 * The host end of a vsock connection: a non-blocking descriptor in the loop, and a bounded buffer
 * for bytes from the guest that the descriptor does not take at once.
 *
 * Loop's thread only. Platform: vsock_stream_linux.c.
 */
#ifndef HK_VIRTIO_VSOCK_STREAM_H
#define HK_VIRTIO_VSOCK_STREAM_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/uio.h>

#include "base/loop.h"
#include "virtio/virtq.h"

/**
 * struct hk_vsock_stream - embedded in its owner, which sets @changed; then hk_vsock_stream_open()
 * @changed: @readable was set, or hk_vsock_stream_flush() may get on
 * @readable: bytes, the end of the stream or an error may be there to read
 * @hung_up: the other end closed both directions
 */
struct hk_vsock_stream {
	void (*changed)(struct hk_vsock_stream *stream);
	bool readable;
	bool hung_up;
	/* The stream's own. */
	struct hk_source source; /* fd owned; -1 once closed */
	bool is_socket;          /* a stream socket */
	bool ending;             /* an end or error was announced: read until it comes */
	uint8_t *buf;            /* a ring of @cap bytes, owned; NULL while empty */
	uint32_t cap;
	uint32_t head, len; /* of what is held */
};

/**
 * hk_vsock_stream_open() - watch @fd, which is the stream's from here on, also on failure
 * @cap: most bytes that it will ever hold
 *
 * Return: 0, or -errno.
 */
int hk_vsock_stream_open(
	struct hk_vsock_stream *stream, struct hk_loop *loop, int fd, uint32_t cap);
void hk_vsock_stream_close(struct hk_vsock_stream *stream); /* fine if closed */
bool hk_vsock_stream_is_open(const struct hk_vsock_stream *stream);

/**
 * hk_vsock_stream_read() - into @iov; clears @readable once there is no more
 *
 * Return: bytes; 0 at the end of the stream; -EAGAIN or another -errno.
 */
ssize_t hk_vsock_stream_read(struct hk_vsock_stream *stream, struct iovec *iov, int count);

/**
 * hk_vsock_stream_write() - bytes @offset to the end of @chain's readable part, @len of them: to
 * the descriptor, the rest held
 *
 * Return: bytes that went out at once; -ENOMEM, -EPIPE or another -errno of the descriptor, after
 * which nothing is held and nothing more can be written.
 */
ssize_t hk_vsock_stream_write(struct hk_vsock_stream *stream, const struct hk_chain *chain,
	uint32_t offset, uint32_t len);

/** hk_vsock_stream_flush() - what is held. Return: bytes that went out, or as
 * hk_vsock_stream_write(). */
ssize_t hk_vsock_stream_flush(struct hk_vsock_stream *stream);

/** hk_vsock_stream_shut_send() - no more bytes for the host's reader; nothing is held */
void hk_vsock_stream_shut_send(struct hk_vsock_stream *stream);
/** hk_vsock_stream_shut_receive() - we will not read any more: tell the host's writer */
void hk_vsock_stream_shut_receive(struct hk_vsock_stream *stream);

#endif
