/* SPDX-License-Identifier: ISC */
/*
 * How a thread that serves /dev/fuse judges its load: see dev_impl_linux.h.
 *
 * Theory: to offer the core and to try again is a gain where the next request comes within the time
 * it takes to wake a core, on ours or on another. It is a loss where others want the core for
 * themselves: then we get it back when their time is up, milliseconds later, whereas one who sleeps
 * and is woken gets it soon. So whoever got it back late sleeps at once the next times, longer each
 * time it happens.
 *
 * A request that waits already is no sign by itself that we cannot keep up: where who asks shares
 * our core, its next request is there when we come round. Requests of several threads, one after
 * the other, are one.
 */
#include <sched.h>
#include <time.h>

#include "base/timespec.h"
#include "base/util.h"
#include "fuse/dev_impl_linux.h"

enum {
	TRY_NS = 20 * 1000,      /* before sleeping: as long as waking a core takes */
	CROWDED_NS = 100 * 1000, /* who offers the core, and gets it back after so long, */
	REST_MIN = 64,           /* sleeps at once the next times; twice as many after each */
	REST_MAX = 4096,
	BACKLOG = 8, /* of others' requests, each there already: one thread is not enough */
};

uint64_t hk_fuse_load_now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)hk_timespec_ns(now);
}

bool hk_fuse_load_offer_core(struct hk_fuse_load *load, uint64_t *since_ns)
{
	uint64_t before;

	if (*since_ns == 0 && load->rest > 0) {
		load->rest--;
		return false;
	}
	before = hk_fuse_load_now_ns();
	if (*since_ns == 0) {
		*since_ns = before;
	} else if (before - *since_ns > TRY_NS) {
		return false;
	}
	sched_yield();
	if (hk_fuse_load_now_ns() - before > CROWDED_NS) {
		load->rest_next =
			HK_MIN(2 * HK_MAX(load->rest_next, REST_MIN / 2u), (unsigned)REST_MAX);
		load->rest = load->rest_next;
	}
	return true;
}

void hk_fuse_load_got_one(struct hk_fuse_load *load)
{
	if (load->rest == 0) {
		load->rest_next -= load->rest_next / 8;
	}
}

bool hk_fuse_load_is_behind(
	struct hk_fuse_load *load, const struct fuse_in_header *head, unsigned tries)
{
	if (tries > 1) {
		load->backlog = 0;
	} else if (head->pid != load->last_pid && head->pid != 0) {
		load->backlog++;
	}
	load->last_pid = head->pid;
	if (load->backlog < BACKLOG) {
		return false;
	}
	load->backlog = 0;
	return true;
}

bool hk_fuse_load_takes_long(uint32_t opcode)
{
	switch (opcode) {
	case FUSE_FSYNC:
	case FUSE_FSYNCDIR:
	case FUSE_SYNCFS:
		return true;
	default:
		return false;
	}
}
