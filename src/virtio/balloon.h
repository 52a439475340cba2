/* SPDX-License-Identifier: ISC */
/*
 * virtio-balloon: gives memory the guest does not use back to the host. Inflation, deflation on OOM,
 * statistics, free-page reporting (the guest tells of free pages as it goes) and hinting (on request).
 * Source: VIRTIO 1.2, section 5.5.
 */
#ifndef HK_VIRTIO_BALLOON_H
#define HK_VIRTIO_BALLOON_H

#include "base/err.h"
#include "virtio/device.h"

/* How pages go back to the host; madvise/fallocate in balloon_linux.c, a recorder in tests. */
struct hk_balloon_host {
	/* The guest no longer needs [host, host+len): drop it. Device's thread. Required. */
	void (*release)(struct hk_balloon_host *host, const struct hk_mem *mem, hk_gpa gpa, uint64_t len);
};
extern struct hk_balloon_host hk_balloon_host_linux;

/** struct hk_balloon_stats - as the guest reported last; bytes */
struct hk_balloon_stats {
	uint64_t free_bytes, available_bytes, total_bytes, cached_bytes;
	uint64_t major_faults, minor_faults;
};

int hk_balloon_create(struct hk_balloon_host *host, struct hk_virtio **ret_dev, struct hk_err *err);
/** hk_balloon_set_target() - ask the guest to give up @bytes. Loop's thread. */
void hk_balloon_set_target(struct hk_virtio *dev, uint64_t bytes);
uint64_t hk_balloon_actual(struct hk_virtio *dev);
/** hk_balloon_stats() - Return: 0, or -EAGAIN where none were reported yet. Asks for fresh ones. */
int hk_balloon_stats(struct hk_virtio *dev, struct hk_balloon_stats *ret_stats);
/** hk_balloon_hint_start() - ask for one round of free-page hints */
void hk_balloon_hint_start(struct hk_virtio *dev);

#endif
