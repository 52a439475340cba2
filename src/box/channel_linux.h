/* SPDX-License-Identifier: ISC */
/* The control channel's socket: moves bytes between the vsock stream and a session. Loop's thread.
 */
#ifndef HK_BOX_CHANNEL_LINUX_H
#define HK_BOX_CHANNEL_LINUX_H

#include "base/err.h"
#include "base/loop.h"
#include "box/session.h"

struct hk_channel;

struct hk_channel_owner {
	/* Something happened. The handler may use the session and the channel, not finish them. */
	void (*event)(struct hk_channel_owner *owner, enum hk_session_event event);
	/* The guest hung up (0), or broke the protocol or refused (-errno, @err says more). Once.
	 */
	void (*closed)(struct hk_channel_owner *owner, int error, const struct hk_err *err);
};

/** struct hk_channel - hk_channel_init() */
struct hk_channel {
	struct hk_loop *loop;           /* borrowed */
	struct hk_channel_owner *owner; /* borrowed */
	struct hk_source source;        /* fd owned; -1: not connected */
	bool accepted;                  /* the agent comes once */
	struct hk_session session;
};

void hk_channel_init(
	struct hk_channel *channel, struct hk_loop *loop, struct hk_channel_owner *owner);
void hk_channel_finish(struct hk_channel *channel);

/** hk_channel_accept() - the agent connects. Return: its end for the device, or -errno. */
int hk_channel_accept(struct hk_channel *channel);

/** hk_channel_flush() - send what the session has to say; after every request to it */
void hk_channel_flush(struct hk_channel *channel);

#endif
