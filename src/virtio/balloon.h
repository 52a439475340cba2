/* SPDX-License-Identifier: ISC */
/*
 * virtio-balloon: gives memory the guest does not use back to the host. Inflation, deflation on
 * OOM, statistics, free-page reporting (the guest tells of free pages as it goes) and hinting (on
 * request).
 * Source: VIRTIO 1.2, section 5.5.
 */
#ifndef HK_VIRTIO_BALLOON_H
#define HK_VIRTIO_BALLOON_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "virtio/device.h"

/* How pages go back to the host; madvise in balloon_linux.c, a recorder in tests. */
struct hk_balloon_host {
	/* The guest no longer needs [gpa, gpa+len), whole pages of one RAM region of @mem: drop
	 * them, and give zeros where it touches them again. Loop's thread or a vCPU's, one at a
	 * time. Required. */
	void (*release)(
		struct hk_balloon_host *host, const struct hk_mem *mem, hk_gpa gpa, uint64_t len);
};
extern struct hk_balloon_host hk_balloon_host_linux;

/** struct hk_balloon_stats - as the guest reported last; bytes, and counts of faults since its boot
 */
struct hk_balloon_stats {
	uint64_t free_bytes;
	uint64_t available_bytes; /* free, and what can be made so without swapping */
	uint64_t total_bytes;
	uint64_t cached_bytes;
	uint64_t major_faults;
	uint64_t minor_faults;
};

/** hk_balloon_create() - @host is borrowed. Return: 0, or -ENOMEM. */
int hk_balloon_create(struct hk_balloon_host *host, struct hk_virtio **ret_dev, struct hk_err *err);

/* All on the loop's thread. */

/** hk_balloon_set_target() - ask the guest to give up @bytes; it does what it can, over time */
void hk_balloon_set_target(struct hk_virtio *dev, uint64_t bytes);
/** hk_balloon_actual() - bytes that the guest says it has given up */
uint64_t hk_balloon_actual(struct hk_virtio *dev);
/** hk_balloon_released() - bytes given back to the host so far, on whatever occasion */
uint64_t hk_balloon_released(struct hk_virtio *dev);

/**
 * hk_balloon_stats() - the latest the guest reported; asks for fresh ones
 *
 * Return: 0, or -EAGAIN where none were reported yet.
 */
int hk_balloon_stats(struct hk_virtio *dev, struct hk_balloon_stats *ret_stats);

/**
 * hk_balloon_hint_start() - ask for one round of free-page hints
 *
 * The guest takes as much of its free memory as it can, we drop it, and the guest has it back.
 *
 * Return: 0; -ENOTSUP where the guest has no such driver; -EALREADY where a round is under way.
 */
int hk_balloon_hint_start(struct hk_virtio *dev);

/** hk_balloon_hinting() - is a round under way? */
bool hk_balloon_hinting(struct hk_virtio *dev);

#endif
