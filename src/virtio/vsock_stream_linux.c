/* SPDX-License-Identifier: ISC */
/*
 * Host ends of vsock connections over Linux descriptors.
 *
 * Theory: the descriptor is watched edge-triggered for input, so that a stream which may not be
 * read now (no credit, no buffers of the guest's) costs neither wake-ups nor calls to say so. A
 * read from a stream socket that gives less than was asked for has emptied it (epoll(7)), unless
 * its end was announced already; terminals and the like are read until they have nothing. Output
 * is watched for only while bytes are held: else every read by the other end would wake us.
 *
 * The buffer is allocated when the descriptor first takes less than it was given, and freed once it
 * has run empty: readers that keep up cost no memory.
 *
 * Limits: bytes can be written to sockets without SIGPIPE; for pipes the process must ignore that
 * signal, as our command line does.
 */
#include "virtio/vsock_stream.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/fault.h"
#include "base/util.h"

enum { WRITE_SEGMENTS = 32 };

static const uint32_t input_events = EPOLLIN | EPOLLRDHUP | EPOLLET;

static void source_ready(struct hk_source *source, uint32_t events)
{
	struct hk_vsock_stream *stream = hk_container_of(source, struct hk_vsock_stream, source);

	if ((events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR)) != 0) {
		stream->ending = true;
	}
	if ((events & (EPOLLHUP | EPOLLERR)) != 0) {
		stream->hung_up = true;
	}
	if ((events & ~(uint32_t)EPOLLOUT) != 0) {
		stream->readable = true;
	}
	stream->changed(stream);
}

int hk_vsock_stream_open(struct hk_vsock_stream *stream, struct hk_loop *loop, int fd, uint32_t cap)
{
	int type;
	socklen_t len = sizeof(type);
	/* seccomp: fcntl:F_GETFL fcntl:F_SETFL getsockopt */
	int flags = fcntl(fd, F_GETFL);
	int r;

	stream->source = (struct hk_source){
		.fd = fd,
		.events = input_events,
		.ready = source_ready,
	};
	stream->cap = cap;
	stream->is_socket =
		getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &len) == 0 && type == SOCK_STREAM;
	if (flags < 0 || hk_fault(HK_FAULT_SYSCALL) || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0) {
		r = flags < 0 ? -errno : -EIO;
		hk_vsock_stream_close(stream);
		return r;
	}
	r = hk_source_add(loop, &stream->source, NULL);
	if (r < 0) {
		hk_vsock_stream_close(stream);
	}
	return r;
}

static void drop_held(struct hk_vsock_stream *stream)
{
	free(stream->buf);
	stream->buf = NULL;
	stream->head = 0;
	stream->len = 0;
}

void hk_vsock_stream_close(struct hk_vsock_stream *stream)
{
	hk_source_remove(&stream->source);
	hk_close(&stream->source.fd);
	drop_held(stream);
	stream->readable = false;
}

bool hk_vsock_stream_is_open(const struct hk_vsock_stream *stream)
{
	return stream->source.fd >= 0;
}

static size_t iov_bytes(const struct iovec *iov, int count)
{
	size_t sum = 0;

	for (int i = 0; i < count; i++) {
		sum += iov[i].iov_len;
	}
	return sum;
}

/* Return: bytes, or -1 with errno; @ret_cut: the kernel stopped early, at a passed descriptor. */
static ssize_t read_some(
	struct hk_vsock_stream *stream, struct iovec *iov, int count, bool *ret_cut)
{
	struct msghdr msg = {.msg_iov = iov, .msg_iovlen = (size_t)count};
	ssize_t got;

	*ret_cut = false;
	if (hk_fault(HK_FAULT_SYSCALL)) {
		errno = ENOBUFS;
		return -1;
	}
	if (!stream->is_socket) {
		/* seccomp: readv recvmsg */
		return readv(stream->source.fd, iov, count);
	}
	/* Descriptors that somebody passes along have no way into the guest: they are closed. */
	got = recvmsg(stream->source.fd, &msg, MSG_CMSG_CLOEXEC);
	*ret_cut = (msg.msg_flags & MSG_CTRUNC) != 0;
	return got;
}

ssize_t hk_vsock_stream_read(struct hk_vsock_stream *stream, struct iovec *iov, int count)
{
	bool cut;
	ssize_t got;

	do {
		got = read_some(stream, iov, count, &cut);
	} while (got < 0 && errno == EINTR);
	if (got < 0) {
		if (errno == EAGAIN) {
			stream->readable = false;
		}
		/* How terminals say that the other side is gone. */
		return errno == EIO && stream->ending && !stream->is_socket ? 0 : -errno;
	}
	if (got == 0 ||
		(stream->is_socket && !cut && !stream->ending &&
			(size_t)got < iov_bytes(iov, count))) {
		stream->readable = false;
	}
	return got;
}

/* Return: bytes written, 0 where the descriptor takes none now, or -errno. */
static ssize_t write_some(struct hk_vsock_stream *stream, struct iovec *iov, unsigned count)
{
	struct msghdr msg = {.msg_iov = iov, .msg_iovlen = count};
	ssize_t put;

	do {
		if (hk_fault(HK_FAULT_SYSCALL)) {
			return -EIO;
		}
		/* seccomp: sendmsg writev */
		put = stream->is_socket ? sendmsg(stream->source.fd, &msg, MSG_NOSIGNAL)
					: writev(stream->source.fd, iov, (int)count);
	} while (put < 0 && errno == EINTR);
	if (put < 0) {
		return errno == EAGAIN ? 0 : -errno;
	}
	return put;
}

static ssize_t write_failed(struct hk_vsock_stream *stream, ssize_t r)
{
	drop_held(stream);
	hk_source_set_events(&stream->source, input_events);
	return r;
}

/* Appends what the descriptor did not take; the caller keeps to the capacity. */
static int hold(
	struct hk_vsock_stream *stream, const struct hk_chain *chain, uint32_t offset, uint32_t len)
{
	int r;

	if (stream->buf == NULL) {
		stream->buf = hk_malloc(stream->cap);
		if (stream->buf == NULL) {
			return -ENOMEM;
		}
		r = hk_source_set_events(&stream->source, input_events | EPOLLOUT);
		if (r < 0) {
			return r;
		}
	}
	while (len > 0) {
		uint32_t tail = (stream->head + stream->len) % stream->cap;
		uint32_t piece = HK_MIN(len, stream->cap - tail);

		hk_chain_read(chain, offset, stream->buf + tail, piece);
		stream->len += piece;
		offset += piece;
		len -= piece;
	}
	return 0;
}

ssize_t hk_vsock_stream_write(
	struct hk_vsock_stream *stream, const struct hk_chain *chain, uint32_t offset, uint32_t len)
{
	ssize_t done = 0;
	int r;

	while (stream->len == 0 && len > 0) {
		struct iovec iov[WRITE_SEGMENTS];
		unsigned count = hk_chain_slice(chain, false, offset, len, iov, WRITE_SEGMENTS);
		ssize_t put = write_some(stream, iov, count);

		if (put < 0) {
			return write_failed(stream, put);
		}
		done += put;
		offset += (uint32_t)put;
		len -= (uint32_t)put;
		if ((size_t)put < iov_bytes(iov, (int)count)) {
			break;
		}
	}
	if (len == 0) {
		return done;
	}
	r = hold(stream, chain, offset, len);
	return r < 0 ? write_failed(stream, r) : done;
}

ssize_t hk_vsock_stream_flush(struct hk_vsock_stream *stream)
{
	ssize_t done = 0;

	while (stream->len > 0) {
		uint32_t first = HK_MIN(stream->len, stream->cap - stream->head);
		struct iovec iov[2] = {
			{.iov_base = stream->buf + stream->head, .iov_len = first},
			{.iov_base = stream->buf, .iov_len = stream->len - first},
		};
		ssize_t put = write_some(stream, iov, stream->len > first ? 2 : 1);

		if (put < 0) {
			return write_failed(stream, put);
		}
		if (put == 0) {
			return done;
		}
		stream->head = (stream->head + (uint32_t)put) % stream->cap;
		stream->len -= (uint32_t)put;
		done += put;
	}
	if (stream->buf != NULL) {
		drop_held(stream);
		hk_source_set_events(&stream->source, input_events);
	}
	return done;
}

void hk_vsock_stream_shut_send(struct hk_vsock_stream *stream)
{
	if (stream->is_socket) {
		/* seccomp: shutdown */
		shutdown(stream->source.fd, SHUT_WR);
	}
}

void hk_vsock_stream_shut_receive(struct hk_vsock_stream *stream)
{
	stream->readable = false;
	if (stream->is_socket) {
		shutdown(stream->source.fd, SHUT_RD);
	}
}
