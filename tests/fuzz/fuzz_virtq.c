/* SPDX-License-Identifier: ISC */
/*
 * Fuzz target: a split virtqueue whose driver is the input.
 *
 * The input is a program: it writes descriptors, ring entries and indices, raw bytes too, and in
 * between the device pops, pushes and is saved and restored. Whatever it does, a chain that comes
 * out keeps what virtq.h promises of it.
 */
#undef NDEBUG
#include <assert.h>
#include <errno.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "base/bytes.h"
#include "base/util.h"
#include "virtio/virtq.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum {
	RING_GPA = 0x10000,
	RING_BYTES = 0x10000, /* rings, tables and buffers, cleared for each input */
	CAPACITY = 64,
	MAX_SERVED = HK_VIRTQ_MAX_SIZE,
};

struct input {
	const uint8_t *data;
	size_t left;
};

static uint64_t take(struct input *in, unsigned bytes)
{
	uint8_t raw[8] = {0};
	size_t got = HK_MIN((size_t)bytes, in->left);

	memcpy(raw, in->data, got);
	in->data += got;
	in->left -= got;
	return hk_load_le64(raw);
}

struct run {
	struct hk_mem *mem;
	struct hk_virtq vq;
	uint16_t served[MAX_SERVED];
	unsigned served_count;
	uint16_t avail_idx;
};

/* Mostly within the cleared area, at times anywhere. */
static hk_gpa take_gpa(struct input *in)
{
	uint64_t raw = take(in, 4);

	return raw & 0x80000000 ? raw << 20 | take(in, 2) : RING_GPA + raw % RING_BYTES;
}

static void write_desc(struct run *run, struct input *in)
{
	hk_gpa table = take(in, 1) & 1 ? run->vq.desc_gpa : take_gpa(in);
	uint8_t raw[16];

	hk_store_le64(raw, take_gpa(in));
	hk_store_le32(raw + 8, (uint32_t)take(in, 2));
	hk_store_le16(raw + 12, (uint16_t)take(in, 1));
	hk_store_le16(raw + 14, (uint16_t)take(in, 1));
	(void)hk_mem_write(run->mem, table + 16 * take(in, 1), raw, sizeof(raw));
}

static void offer(struct run *run, struct input *in)
{
	uint8_t raw[2];

	hk_store_le16(raw, (uint16_t)take(in, 1));
	(void)hk_mem_write(run->mem,
		run->vq.avail_gpa + 4 + 2 * (run->avail_idx & (run->vq.size - 1u)), raw, 2);
	hk_store_le16(raw, ++run->avail_idx);
	(void)hk_mem_write(run->mem, run->vq.avail_gpa + 2, raw, 2);
}

static void set_index(struct run *run, struct input *in)
{
	uint8_t raw[2];

	run->avail_idx = (uint16_t)take(in, 2);
	hk_store_le16(raw, run->avail_idx);
	(void)hk_mem_write(run->mem, run->vq.avail_gpa + 2, raw, 2);
}

static void check_chain(const struct run *run, const struct hk_chain *chain)
{
	unsigned count = chain->readable_count + chain->writable_count;
	uint64_t readable = 0, writable = 0;
	uint8_t byte = 0x55;

	assert(count >= 1 && count <= run->vq.size && count <= chain->capacity);
	for (unsigned i = 0; i < count; i++) {
		const uint8_t *base = chain->iov[i].iov_base;

		assert(chain->iov[i].iov_len > 0);
		assert(base >= run->mem->ram &&
			hk_range_within((uint64_t)(base - run->mem->ram), chain->iov[i].iov_len,
				run->mem->ram_bytes));
		*(i < chain->readable_count ? &readable : &writable) += chain->iov[i].iov_len;
	}
	assert(readable == chain->readable_bytes && writable == chain->writable_bytes);
	assert(hk_chain_read(chain, (uint32_t)readable, &byte, 1) == 0);
	if (writable > 0) {
		/* Over the rings, too. */
		assert(hk_chain_write(chain, (uint32_t)writable - 1, &byte, 1) == 1);
	}
}

static void pop(struct run *run)
{
	struct iovec iov[CAPACITY];
	struct hk_chain chain = {.iov = iov, .capacity = CAPACITY};
	bool was_broken = run->vq.broken;
	int rc = hk_virtq_pop(&run->vq, &chain);

	assert(!was_broken || rc == -EPROTO);
	assert((rc == -EPROTO) == run->vq.broken);
	assert(!run->vq.broken || run->vq.why != NULL);
	if (rc == 1) {
		check_chain(run, &chain);
		assert(run->served_count < run->vq.size);
		run->served[run->served_count++] = chain.head;
	}
}

static void unpop(struct run *run)
{
	if (run->served_count > 0) {
		hk_virtq_unpop(&run->vq);
		run->served_count--;
	}
}

static void push(struct run *run, struct input *in)
{
	unsigned which = (unsigned)take(in, 1);

	if (run->served_count > 0 && !run->vq.broken) {
		which %= run->served_count;
		hk_virtq_push(&run->vq, &(struct hk_chain){.head = run->served[which]},
			(uint32_t)take(in, 4));
		run->served[which] = run->served[--run->served_count];
	}
}

/* Saved and restored, with one byte changed if the input says so. */
static void move(struct run *run, struct input *in)
{
	struct hk_writer w = {0};
	struct hk_reader r;
	uint8_t flip = (uint8_t)take(in, 1);
	size_t at = (size_t)take(in, 1);

	hk_virtq_save(&run->vq, &w);
	assert(w.error == 0);
	w.data[at % w.len] ^= flip;
	hk_reader_init(&r, w.data, w.len);
	hk_virtq_restore(&run->vq, &r);
	assert(flip != 0 || r.error == 0);
	hk_writer_finish(&w);
	if (flip != 0) {
		/* Who knows which chains are served now: count them as its state says. */
		run->served_count = 0;
		if (run->vq.enabled) {
			run->served_count = (uint16_t)(run->vq.next_avail - run->vq.next_used);
			assert(run->served_count <= run->vq.size);
			memset(run->served, 0, sizeof(run->served));
		}
	}
}

static void setup(struct run *run, struct input *in)
{
	unsigned flags = (unsigned)take(in, 1);

	hk_virtq_reset(&run->vq);
	run->served_count = 0;
	run->avail_idx = 0;
	run->vq.size = (uint16_t)(1u << (flags & 7));
	run->vq.event_idx = flags & 8;
	run->vq.indirect = flags & 16;
	run->vq.desc_gpa = RING_GPA;
	run->vq.avail_gpa = RING_GPA + 0x2000;
	run->vq.used_gpa = RING_GPA + 0x3000;
	if (flags & 32) {
		run->vq.size = (uint16_t)take(in, 2);
		run->vq.desc_gpa = take_gpa(in);
		run->vq.avail_gpa = take_gpa(in);
		run->vq.used_gpa = take_gpa(in);
	}
	(void)hk_virtq_enable(&run->vq);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct hk_mem mem;
	struct input in = {.data = data, .left = size};
	struct run run = {.mem = &mem, .vq.mem = &mem};

	if (mem.ram == NULL) {
		assert(hk_mem_create(&mem, 32 * HK_MIB, NULL) == 0);
	}
	memset(hk_mem_at(&mem, RING_GPA, RING_BYTES), 0, RING_BYTES);
	setup(&run, &in);
	while (in.left > 0) {
		switch (take(&in, 1) % 16) {
		case 0:
		case 1:
		case 2:
			write_desc(&run, &in);
			break;
		case 3:
		case 4:
		case 5:
			offer(&run, &in);
			break;
		case 6:
			set_index(&run, &in);
			break;
		case 7:
		case 8:
		case 9:
			pop(&run);
			break;
		case 10:
		case 11:
			push(&run, &in);
			break;
		case 12:
			unpop(&run);
			break;
		case 13:
			(void)hk_virtq_wants_interrupt(&run.vq);
			(void)hk_virtq_want_kicks(&run.vq, take(&in, 1) & 1);
			break;
		case 14:
			move(&run, &in);
			break;
		default:
			setup(&run, &in);
			break;
		}
	}
	return 0;
}
