/* SPDX-License-Identifier: ISC */
/*
 * A virtio driver in memory, for tests of devices.
 *
 * struct vqd is the driver's side of one queue: it builds rings in guest memory, adds buffers
 * (direct or in an indirect table), decides about notifications and takes used buffers back, all
 * as Linux does, barriers included. Its vqd_raw_*() functions write whatever a hostile driver
 * might.
 *
 * struct vqh is the harness around one device: guest memory, the registers (mmio_regs.h) as its
 * transport, and a queue driver for each queue. A test of a device reads
 *
 *	struct vqh h;
 *
 *	vqh_start(&h, dev, NULL, features);
 *	hk_gpa gpa = vqh_alloc(&h, 64);
 *	vqd_add(&h.queues[0], (struct vqd_buf[]){{gpa, 64, true}}, 1, 7);
 *	vqh_kick(&h, 0);
 *	assert_true(vqd_take(&h.queues[0], &used));	// used.token == 7, used.len == what was
 * written vqh_finish(&h); hk_virtio_destroy(dev);
 *
 * Misuse by the test fails an assert().
 */
#ifndef HK_TESTS_VIRTQ_DRIVER_H
#define HK_TESTS_VIRTQ_DRIVER_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "engine/mem.h"
#include "virtio/device.h"
#include "virtio/mmio_regs.h"

enum {
	VQD_F_NEXT = 1u << 0,
	VQD_F_WRITE = 1u << 1,
	VQD_F_INDIRECT = 1u << 2,

	VQD_TABLE_ENTRIES = 64, /* most buffers of a chain that goes in an indirect table */
	VQD_DESC_SIZE = 16,
};

/** struct vqd_buf - one buffer of a chain; readable ones first */
struct vqd_buf {
	hk_gpa gpa;
	uint32_t len;
	bool writable;
};

/** struct vqd_used - a chain that came back */
struct vqd_used {
	uint16_t head;
	uint32_t len;
	uint64_t token;
};

/**
 * struct vqd - the driver's side of one queue
 * @event_idx, @indirect: as negotiated; with @indirect chains of two and more go in tables
 * @kicked: available index at the last vqd_wants_kick()
 */
struct vqd {
	const struct hk_mem *mem; /* borrowed */
	uint16_t size;
	bool event_idx;
	bool indirect;
	hk_gpa desc_gpa, avail_gpa, used_gpa, tables_gpa;
	uint16_t avail_idx;
	uint16_t last_used;
	uint16_t kicked;
	bool callbacks; /* the driver wants interrupts */
	uint16_t free_head;
	uint16_t free_count;
	/* For each descriptor, what the driver remembers, out of the guest's memory. */
	uint16_t next[HK_VIRTQ_MAX_SIZE];
	uint16_t chain_len[HK_VIRTQ_MAX_SIZE]; /* descriptors of the chain that starts here; 0: none
						*/
	uint64_t tokens[HK_VIRTQ_MAX_SIZE];
};

/** vqd_init() - empty rings of @size at @area, page-aligned. Return: first address after them. */
hk_gpa vqd_init(struct vqd *d, const struct hk_mem *mem, hk_gpa area, uint16_t size);

/**
 * vqd_add() - put a chain on the available ring
 * @bufs: @count elements, not empty
 * @token: comes back with the chain
 *
 * Return: its head, or -ENOSPC.
 */
int vqd_add(struct vqd *d, const struct vqd_buf *bufs, unsigned count, uint64_t token);

/** vqd_wants_kick() - does the device want to hear of what was added since the last call? */
bool vqd_wants_kick(struct vqd *d);

/** vqd_take() - the next used chain. Return: false where there is none. */
bool vqd_take(struct vqd *d, struct vqd_used *ret_used);

/** vqd_enable_callbacks() - want interrupts. Return: false where buffers are used already: take
 * those. */
bool vqd_enable_callbacks(struct vqd *d);
void vqd_disable_callbacks(struct vqd *d);

/* What a hostile driver writes. Indices are taken modulo the size where they address a slot. */
void vqd_raw_desc(
	struct vqd *d, unsigned index, hk_gpa addr, uint32_t len, uint16_t flags, uint16_t next);
/** vqd_raw_table_desc() - the same in an indirect table at @table */
void vqd_raw_table_desc(struct vqd *d, hk_gpa table, unsigned index, hk_gpa addr, uint32_t len,
	uint16_t flags, uint16_t next);
/** vqd_raw_offer() - put @head on the ring and move the index on */
void vqd_raw_offer(struct vqd *d, uint16_t head);
void vqd_raw_avail_idx(struct vqd *d, uint16_t idx);

/**
 * struct vqh - a device, its memory, its registers and its driver
 * @interrupts, @config_changes: how often the device raised them; the test may set them back
 */
struct vqh {
	struct hk_virtio_transport transport;
	struct hk_mmio_regs regs;
	struct hk_mem mem;
	struct hk_virtio *dev; /* borrowed */
	hk_gpa next_gpa;
	atomic_uint interrupts;
	atomic_uint config_changes;
	atomic_uint again; /* bit n: queue n asked for another turn, hk_virtio_notify_self() */
	struct vqd queues[HK_VIRTIO_MAX_QUEUES];
};

/**
 * vqh_start() - make memory, attach @dev, negotiate, set up all queues at their full size
 * @loop: for the device; may be NULL
 * @features: to take, VERSION_1 comes by itself; must be offered
 */
void vqh_start(struct vqh *h, struct hk_virtio *dev, struct hk_loop *loop, uint64_t features);

/* The steps of vqh_start(), for tests that want to come in between. */
void vqh_attach(struct vqh *h, struct hk_virtio *dev, struct hk_loop *loop);
bool vqh_negotiate(struct vqh *h, uint64_t features); /* up to FEATURES_OK. Return: was it taken? */
void vqh_setup_queue(struct vqh *h, unsigned index, uint16_t size);
void vqh_driver_ok(struct vqh *h);

/** vqh_finish() - reset and detach the device; free the memory */
void vqh_finish(struct vqh *h);

/** vqh_alloc() - zeroed guest memory, 4 KiB aligned */
hk_gpa vqh_alloc(struct vqh *h, uint64_t len);
/** vqh_at() - host view of it */
void *vqh_at(struct vqh *h, hk_gpa gpa, uint64_t len);

/** vqh_kick() - notify queue @index, whether the device wants it or not */
void vqh_kick(struct vqh *h, unsigned index);

uint32_t vqh_read(struct vqh *h, unsigned reg);
void vqh_write(struct vqh *h, unsigned reg, uint32_t value);
uint64_t vqh_config(struct vqh *h, unsigned offset, unsigned len);
void vqh_write_config(struct vqh *h, unsigned offset, unsigned len, uint64_t value);
bool vqh_needs_reset(struct vqh *h);

/**
 * vqh_move() - save the device, restore it into @fresh and go on there, with the same memory
 * @fresh: created like the device, which stays the caller's, reset and detached
 *
 * Return: false where the restore failed; then @fresh is attached, and as after power-on.
 */
bool vqh_move(struct vqh *h, struct hk_virtio *fresh);

/* Its two halves, for tests that come in between. */
void vqh_save(struct vqh *h, struct hk_writer *w);
bool vqh_restore(struct vqh *h, struct hk_virtio *fresh, struct hk_reader *r);

#endif
