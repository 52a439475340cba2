/* SPDX-License-Identifier: ISC */
/* The agent: serves one control channel. */
#ifndef HK_GUEST_AGENT_H
#define HK_GUEST_AGENT_H

#include <stdint.h>

#include "control/control.h"

struct hk_agent;

/** enum hk_agent_end - why an agent stopped */
enum hk_agent_end {
	HK_AGENT_SHUTDOWN, /* it was told to */
	HK_AGENT_CLOSED,   /* the host closed the channel, before anything was set up */
	HK_AGENT_LOST,     /* the host closed the channel of a box */
	HK_AGENT_BROKEN,   /* the host broke the protocol, or the agent ran out of memory */
	HK_AGENT_END_COUNT,
};

/**
 * hk_agent_create() - an agent for the channel @control_fd
 * @control_fd: non-blocking; owned from now on, also on failure
 *
 * Blocks SIGCHLD and ignores SIGPIPE, for good. Return: NULL if out of memory or descriptors.
 */
struct hk_agent *hk_agent_create(int control_fd);
void hk_agent_destroy(struct hk_agent *agent); /* NULL is fine */

/**
 * hk_agent_hello() - send HELLO, and wait until it is on its way
 *
 * Return: 0; -errno if the channel could not be connected.
 */
int hk_agent_hello(struct hk_agent *agent, const struct hk_msg_hello *hello);

/** hk_agent_run() - serve the channel to its end. Commands may be left running */
enum hk_agent_end hk_agent_run(struct hk_agent *agent);

#endif
