/* SPDX-License-Identifier: ISC */
/*
 * The control channel's socket: see channel_linux.h.
 *
 * Theory: level-triggered; EPOLLOUT is asked for only while something is left to send. A guest that
 * does not read can make us keep what we tell it: that is bounded by MAX_UNSENT.
 */
#include "box/channel_linux.h"

#include <errno.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/util.h"

enum { READ_SIZE = 4096, MAX_UNSENT = 4 * HK_CONTROL_MAX_FROM_HOST };

static void hang_up(struct hk_channel *channel, int error, const struct hk_err *err)
{
	hk_source_remove(&channel->source);
	hk_close(&channel->source.fd);
	channel->owner->closed(channel->owner, error, err);
}

/* Return: false where the channel is closed now. */
static bool feed(struct hk_channel *channel, const uint8_t *bytes, size_t len)
{
	struct hk_err err = HK_ERR_INIT;
	int event;

	while ((event = hk_session_feed(&channel->session, &bytes, &len, &err)) > 0) {
		channel->owner->event(channel->owner, (enum hk_session_event)event);
		if (channel->source.fd < 0) {
			return false;
		}
	}
	if (event < 0) {
		hang_up(channel, event, &err);
		return false;
	}
	return true;
}

static void receive(struct hk_channel *channel)
{
	uint8_t bytes[READ_SIZE];
	ssize_t n = read(channel->source.fd, bytes, sizeof(bytes));

	if (n > 0) {
		if (feed(channel, bytes, (size_t)n)) {
			hk_channel_flush(channel);
		}
	} else if (n == 0 || (errno != EAGAIN && errno != EINTR)) {
		hang_up(channel, 0, NULL);
	}
}

static void ready(struct hk_source *source, uint32_t events)
{
	struct hk_channel *channel = hk_container_of(source, struct hk_channel, source);

	if ((events & (EPOLLIN | EPOLLHUP | EPOLLERR)) != 0) {
		receive(channel);
	}
	if ((events & EPOLLOUT) != 0) {
		hk_channel_flush(channel);
	}
}

void hk_channel_flush(struct hk_channel *channel)
{
	struct hk_control_buf *out = &channel->session.out;
	uint32_t events = EPOLLIN;

	while (channel->source.fd >= 0 && out->len > 0) {
		/* seccomp: sendto */
		ssize_t n = send(channel->source.fd, out->data, out->len, MSG_NOSIGNAL);

		if (n < 0 && errno == EINTR) {
			continue;
		}
		if (n < 0) {
			/* Where it is not EAGAIN, reading will tell why. */
			events |= errno == EAGAIN ? EPOLLOUT : 0;
			break;
		}
		hk_control_buf_consume(out, (size_t)n);
	}
	if (channel->source.fd < 0) {
		return;
	}
	if (out->len > MAX_UNSENT) {
		struct hk_err err = HK_ERR_INIT;

		hk_fail_msg(&err, EPROTO, "the guest does not listen to its control channel");
		hang_up(channel, -EPROTO, &err);
	} else if (channel->source.events != events) {
		hk_source_set_events(&channel->source, events);
	}
}

int hk_channel_accept(struct hk_channel *channel)
{
	int pair[2];
	int r;

	if (channel->accepted) {
		return -ECONNREFUSED;
	}
	/* seccomp: socketpair:AF_UNIX */
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) < 0) {
		return -errno;
	}
	channel->source.fd = pair[1];
	r = hk_source_add(channel->loop, &channel->source, NULL);
	if (r < 0) {
		hk_close(&channel->source.fd);
		hk_close(&pair[0]);
		return r;
	}
	channel->accepted = true;
	return pair[0];
}

void hk_channel_init(
	struct hk_channel *channel, struct hk_loop *loop, struct hk_channel_owner *owner)
{
	*channel = (struct hk_channel){
		.loop = loop,
		.owner = owner,
		.source = {.fd = -1, .events = EPOLLIN, .ready = ready},
	};
	hk_session_init(&channel->session);
}

void hk_channel_finish(struct hk_channel *channel)
{
	hk_source_remove(&channel->source);
	hk_close(&channel->source.fd);
	hk_session_finish(&channel->session);
}
