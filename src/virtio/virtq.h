/* SPDX-License-Identifier: ISC */
/*
 * Split virtqueues, the device's side. A protocol core: it touches guest memory
 * through a `struct hk_mem` and nothing else; no fd, no thread, no clock.
 *
 * The guest is hostile. Every ring field is read exactly once, into a local, and checked;
 * a queue on which the guest broke the rules (loop, address outside RAM, index jump, chain
 * that is too long, zero-length buffer, readable after writable, nested indirect table) is
 * `broken`: it gives no more chains, and the device goes to needs-reset.
 *
 * What is promised of a chain: its segments lie in RAM, none is empty, there are at most @capacity
 * of them, and together they have less than 4 GiB. At most `size` chains are between
 * hk_virtq_pop() and hk_virtq_push() at a time. What is not: that segments do not overlap each
 * other, the rings or another chain's, that their bytes stay the same from one read to the next, or
 * that a head that is being served is not offered again. So copy headers out before looking at
 * them, and do not index state by head without a check of your own.
 *
 * Source: Virtual I/O Device (VIRTIO) 1.2, sections 2.7 (split virtqueues), 2.7.7 (used
 * buffer notification suppression), 2.7.10 (available buffer notification suppression).
 */
#ifndef HK_VIRTIO_VIRTQ_H
#define HK_VIRTIO_VIRTQ_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

#include "base/state.h"
#include "engine/mem.h"

enum { HK_VIRTQ_MAX_SIZE = 1024 };

/**
 * struct hk_virtq - one queue; owned by the thread that serves it while the device is active
 * @size: entries, a power of two, at most HK_VIRTQ_MAX_SIZE
 * @desc_gpa, @avail_gpa, @used_gpa: as the driver set them
 * @enabled: the driver made it ready; the areas below are then checked and valid
 * @broken: the guest broke the rules; sticky until reset
 * @why: static text, what the guest did; NULL unless broken
 * @event_idx: VIRTIO_F_EVENT_IDX was negotiated
 * @indirect: VIRTIO_F_INDIRECT_DESC was negotiated
 * @next_avail: the next available-ring index to look at
 * @next_used: the next used-ring index to write; next_avail - next_used chains are being served
 * @avail_seen: up to where the available ring is known to be filled; next_avail or beyond
 * @notified_used: value of next_used when hk_virtq_wants_interrupt() was last asked
 */
struct hk_virtq {
	const struct hk_mem *mem; /* borrowed */
	uint16_t size;
	hk_gpa desc_gpa, avail_gpa, used_gpa;
	bool enabled;
	bool broken;
	const char *why;
	bool event_idx;
	bool indirect;
	uint16_t next_avail;
	uint16_t next_used;
	uint16_t avail_seen;
	uint16_t notified_used;
	/* Host views of the three areas; borrowed from mem, valid while enabled. */
	uint8_t *desc;
	uint8_t *avail;
	uint8_t *used;
};

/**
 * struct hk_chain - one descriptor chain, translated
 * @iov: @capacity elements the caller provides; device-readable segments first, then writable
 * @capacity: a chain with more segments breaks the queue, so let it be what the device's
 *            configuration allows the driver (queue size always suffices)
 * @head: by which the driver knows it
 * @readable_count, @writable_count: elements of @iov in use
 * @readable_bytes, @writable_bytes: their sums
 */
struct hk_chain {
	struct iovec *iov;
	unsigned capacity;
	uint16_t head;
	unsigned readable_count;
	unsigned writable_count;
	uint32_t readable_bytes;
	uint32_t writable_bytes;
};

/**
 * hk_virtq_enable() - check size and areas as the driver set them, and start at index 0
 *
 * Return: 0; -EINVAL (then @vq stays disabled) where the size is no power of two or too large, or
 * an area is misaligned or not wholly in RAM.
 */
int hk_virtq_enable(struct hk_virtq *vq);

/** hk_virtq_reset() - as after power-on; @mem stays */
void hk_virtq_reset(struct hk_virtq *vq);

/**
 * hk_virtq_pop() - the next available chain
 *
 * Return: 1 with @chain filled in; 0 where there is none; -EPROTO where the queue is or became
 * broken.
 */
int hk_virtq_pop(struct hk_virtq *vq, struct hk_chain *chain);

/** hk_virtq_unpop() - give the chain popped last back untouched, to be popped again */
void hk_virtq_unpop(struct hk_virtq *vq);

/**
 * hk_virtq_push() - return @chain with @written bytes in its writable part; in any order
 * @chain: as it was popped: the engine is told that its writable segments were written. One of
 *	which
 *         none were may be given back by its head alone.
 */
void hk_virtq_push(struct hk_virtq *vq, const struct hk_chain *chain, uint32_t written);

/** hk_virtq_wants_interrupt() - after pushes: must the driver be told? Call once for each batch. */
bool hk_virtq_wants_interrupt(struct hk_virtq *vq);

/**
 * hk_virtq_want_kicks() - ask for (or spare us) notifications of new buffers
 *
 * Right after hk_virtq_enable() the first buffer gives a kick. From then on ask before each
 * sleep; a queue of which all buffers are taken as they come is served with
 *
 *	do {
 *		while ((rc = hk_virtq_pop(vq, &chain)) == 1) {
 *			... hk_virtq_push(vq, &chain, written);
 *		}
 *	} while (rc == 0 && hk_virtq_want_kicks(vq, true));
 *	hk_virtio_interrupt(dev, index);
 *
 * Sparing is a hint: kicks may come all the same.
 *
 * Return: with @want, whether buffers arrived meanwhile, so that the caller looks again before it
 * sleeps.
 */
bool hk_virtq_want_kicks(struct hk_virtq *vq, bool want);

void hk_virtq_save(const struct hk_virtq *vq, struct hk_writer *w);
/** hk_virtq_restore() - checks everything as if the guest had set it; a failed reader leaves @vq
 * reset */
void hk_virtq_restore(struct hk_virtq *vq, struct hk_reader *r);

/*
 * Copies between a chain's segments and a flat buffer, from byte @offset of the readable (or
 * writable) part. Return: bytes copied, less than @len where the part ends.
 */
uint32_t hk_chain_read(const struct hk_chain *chain, uint32_t offset, void *buf, uint32_t len);
uint32_t hk_chain_write(
	const struct hk_chain *chain, uint32_t offset, const void *buf, uint32_t len);

/**
 * hk_chain_slice() - the segments of [offset, offset+len) of the readable or writable part
 * @out: @capacity elements
 *
 * Return: number of elements; stops early at the end of the part or of @out.
 */
unsigned hk_chain_slice(const struct hk_chain *chain, bool writable, uint32_t offset, uint32_t len,
	struct iovec *out, unsigned capacity);

#endif
