/* SPDX-License-Identifier: ISC */
/* Split virtqueues: what drivers may do, what hostile ones do, and that nothing gets lost. */
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/bytes.h"
#include "base/util.h"
#include "virtio/virtq.h"
#include "virtq_driver.h"

enum { SIZE = 128, CAPACITY = 256 };

static const uint64_t ram_bytes = 64 * HK_MIB;
static const hk_gpa ring_gpa = HK_MIB;
static const hk_gpa data_gpa = 8 * HK_MIB;

struct fixture {
	struct hk_mem mem;
	struct hk_virtq vq;
	struct vqd d;
	struct iovec iov[CAPACITY];
	struct hk_chain chain;
};

static void start_queue(struct fixture *f, uint16_t size, bool event_idx, bool indirect)
{
	vqd_init(&f->d, &f->mem, ring_gpa, size);
	f->d.event_idx = event_idx;
	f->d.indirect = indirect;
	f->vq = (struct hk_virtq){
		.mem = &f->mem,
		.size = size,
		.desc_gpa = f->d.desc_gpa,
		.avail_gpa = f->d.avail_gpa,
		.used_gpa = f->d.used_gpa,
		.event_idx = event_idx,
		.indirect = indirect,
	};
	assert_int_equal(hk_virtq_enable(&f->vq), 0);
	f->chain = (struct hk_chain){.iov = f->iov, .capacity = CAPACITY};
}

static int setup(void **state)
{
	struct fixture *f = test_calloc(1, sizeof(*f));

	assert_int_equal(hk_mem_create(&f->mem, ram_bytes, NULL), 0);
	start_queue(f, SIZE, false, true);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	hk_mem_finish(&f->mem);
	test_free(f);
	return 0;
}

static uint8_t *data(struct fixture *f, uint64_t offset)
{
	return hk_mem_at(&f->mem, data_gpa + offset, 1);
}

/* xorshift64, George Marsaglia. */
static uint64_t next_random(uint64_t *state)
{
	*state ^= *state << 13;
	*state ^= *state >> 7;
	*state ^= *state << 17;
	return *state;
}

static void test_enable(void **state)
{
	struct fixture *f = *state;
	const uint64_t end = ram_bytes;
	const struct {
		unsigned size;
		hk_gpa desc, avail, used;
		int rc;
	} cases[] = {
		{128, 0x1000, 0x2000, 0x3000, 0},
		{1, 0x1000, 0x2000, 0x3000, 0},
		{1024, 0x10000, 0x20000, 0x30000, 0},
		{0, 0x1000, 0x2000, 0x3000, -EINVAL},
		{3, 0x1000, 0x2000, 0x3000, -EINVAL},
		{127, 0x1000, 0x2000, 0x3000, -EINVAL},
		{2048, 0x10000, 0x20000, 0x30000, -EINVAL},
		{32768, 0x10000, 0x20000, 0x30000, -EINVAL},
		/* Alignment: 16, 2 and 4. */
		{128, 0x1010, 0x2002, 0x3004, 0},
		{128, 0x1008, 0x2000, 0x3000, -EINVAL},
		{128, 0x1000, 0x2001, 0x3000, -EINVAL},
		{128, 0x1000, 0x2000, 0x3002, -EINVAL},
		/* The last byte of each area is the last of RAM, or the first beyond. */
		{128, end - 2048, 0x2000, 0x3000, 0},
		{128, end - 2032, 0x2000, 0x3000, -EINVAL},
		{128, 0x1000, end - 262, 0x3000, 0},
		{128, 0x1000, end - 260, 0x3000, -EINVAL},
		{128, 0x1000, 0x2000, end - 1032, 0},
		{128, 0x1000, 0x2000, end - 1028, -EINVAL},
		{128, end, 0x2000, 0x3000, -EINVAL},
		{128, 0x1000, HK_MMIO_HOLE_START, 0x3000, -EINVAL},
		{128, 0x1000, 0x2000, UINT64_MAX - 3, -EINVAL},
		{128, UINT64_MAX - 15, 0x2000, 0x3000, -EINVAL},
	};

	for (size_t i = 0; i < HK_ARRAY_SIZE(cases); i++) {
		f->vq = (struct hk_virtq){
			.mem = &f->mem,
			.size = (uint16_t)cases[i].size,
			.desc_gpa = cases[i].desc,
			.avail_gpa = cases[i].avail,
			.used_gpa = cases[i].used,
		};
		if (hk_virtq_enable(&f->vq) != cases[i].rc || f->vq.enabled != (cases[i].rc == 0)) {
			fail_msg("case %zu", i);
		}
	}
}

static void test_disabled_queue_is_silent(void **state)
{
	struct fixture *f = *state;

	vqd_add(&f->d, (struct vqd_buf[]){{data_gpa, 8, false}}, 1, 0);
	hk_virtq_reset(&f->vq);
	assert_ptr_equal(f->vq.mem, &f->mem);
	assert_int_equal(hk_virtq_pop(&f->vq, &f->chain), 0);
	hk_virtq_push(&f->vq, &(struct hk_chain){0}, 0);
	assert_false(hk_virtq_want_kicks(&f->vq, true));
	assert_false(hk_virtq_wants_interrupt(&f->vq));
}

static void test_chain_copies(void **state)
{
	struct fixture *f = *state;
	const struct vqd_buf bufs[] = {
		{data_gpa, 3, false},
		{data_gpa + 100, 5, false},
		{data_gpa + 200, 4, true},
		{data_gpa + 300, 1, true},
		{data_gpa + 400, 7, true},
	};
	uint8_t out[32] = {0};
	struct iovec slices[8];
	struct vqd_used used;

	memcpy(data(f, 0), "abc", 3);
	memcpy(data(f, 100), "defgh", 5);
	assert_true(vqd_add(&f->d, bufs, HK_ARRAY_SIZE(bufs), 42) >= 0);
	assert_int_equal(hk_virtq_pop(&f->vq, &f->chain), 1);
	assert_int_equal(f->chain.readable_count, 2);
	assert_int_equal(f->chain.writable_count, 3);
	assert_int_equal(f->chain.readable_bytes, 8);
	assert_int_equal(f->chain.writable_bytes, 12);

	assert_int_equal(hk_chain_read(&f->chain, 0, out, sizeof(out)), 8);
	assert_memory_equal(out, "abcdefgh", 8);
	assert_int_equal(hk_chain_read(&f->chain, 2, out, 3), 3);
	assert_memory_equal(out, "cde", 3);
	assert_int_equal(hk_chain_read(&f->chain, 7, out, 3), 1);
	assert_int_equal(hk_chain_read(&f->chain, 8, out, 3), 0);
	assert_int_equal(hk_chain_read(&f->chain, UINT32_MAX, out, UINT32_MAX), 0);

	assert_int_equal(hk_chain_write(&f->chain, 3, "XYZ", 3), 3);
	assert_int_equal(*data(f, 203), 'X');
	assert_int_equal(*data(f, 300), 'Y');
	assert_int_equal(*data(f, 400), 'Z');
	assert_int_equal(hk_chain_write(&f->chain, 11, "!?", 2), 1);
	assert_int_equal(*data(f, 406), '!');
	assert_int_equal(*data(f, 407), 0);

	assert_int_equal(hk_chain_slice(&f->chain, true, 2, 4, slices, 8), 3);
	assert_ptr_equal(slices[0].iov_base, data(f, 202));
	assert_int_equal(slices[0].iov_len, 2);
	assert_int_equal(slices[1].iov_len, 1);
	assert_int_equal(slices[2].iov_len, 1);
	assert_int_equal(hk_chain_slice(&f->chain, true, 2, 4, slices, 2), 2);
	assert_int_equal(hk_chain_slice(&f->chain, false, 0, 0, slices, 8), 0);
	assert_int_equal(hk_chain_slice(&f->chain, true, 12, 1, slices, 8), 0);

	assert_false(vqd_take(&f->d, &used));
	hk_virtq_push(&f->vq, &f->chain, 12);
	assert_true(vqd_take(&f->d, &used));
	assert_int_equal(used.token, 42);
	assert_int_equal(used.len, 12);
	assert_false(vqd_take(&f->d, &used));
}

/*
 * Notes what the engine is told of memory that devices write: @before_data calls came before the
 * data was there, @after_used when the driver could already know.
 */
static struct {
	struct hk_mem_watcher watcher;
	const struct fixture *f;
	uint16_t used_idx;
	unsigned before_data, after_used;
	hk_gpa gpa[8];
	uint64_t len[8];
	unsigned count;
} told;

static void note_written(struct hk_mem_watcher *watcher, hk_gpa gpa, uint64_t len)
{
	assert_ptr_equal(watcher, &told.watcher);
	assert_true(told.count < HK_ARRAY_SIZE(told.gpa));
	for (uint64_t i = 0; i < len; i++) {
		if (*(const uint8_t *)hk_mem_at(&told.f->mem, gpa + i, 1) != 0xee) {
			told.before_data++;
			break;
		}
	}
	told.after_used += hk_load_le16(told.f->vq.used + 2) != told.used_idx;
	told.gpa[told.count] = gpa;
	told.len[told.count++] = len;
}

/*
 * Else code that was decoded from a buffer would outlive what a disk or a file put there. At the
 * push, because a vCPU can decode the old bytes up to the moment at which the new ones are there.
 */
static void test_engine_is_told_of_what_is_written(void **state)
{
	struct fixture *f = *state;
	const struct vqd_buf bufs[] = {
		{data_gpa, 3, false},
		{data_gpa + 5000, 9000, true},
		{data_gpa + 100, 1, true},
	};
	struct vqd_used used;
	uint8_t bytes[9001];

	memset(bytes, 0xee, sizeof(bytes));
	told.watcher.written = note_written;
	told.f = f;
	told.before_data = 0;
	told.after_used = 0;
	f->mem.watcher = &told.watcher;
	for (unsigned round = 0; round < 4; round++) {
		/* A failure half-way has written as well, but does not say so. */
		uint32_t written = (round & 2) != 0 ? 0 : sizeof(bytes);

		f->d.indirect = (round & 1) != 0;
		told.count = 0;
		told.used_idx = f->vq.next_used;
		memset(data(f, 0), 0, 16 * 1024);
		assert_true(vqd_add(&f->d, bufs, HK_ARRAY_SIZE(bufs), 42) >= 0);
		assert_int_equal(hk_virtq_pop(&f->vq, &f->chain), 1);
		hk_chain_write(&f->chain, 0, bytes, sizeof(bytes));
		assert_int_equal(told.count, 0);
		hk_virtq_push(&f->vq, &f->chain, written);
		assert_int_equal(told.count, 2);
		for (unsigned i = 0; i < 2; i++) {
			assert_int_equal(told.gpa[i], bufs[1 + i].gpa);
			assert_int_equal(told.len[i], bufs[1 + i].len);
		}
		assert_true(vqd_take(&f->d, &used));
		assert_int_equal(used.len, written);
	}

	/* A reset does not undo what was written. */
	told.count = 0;
	told.used_idx = f->vq.next_used;
	assert_true(vqd_add(&f->d, bufs, HK_ARRAY_SIZE(bufs), 42) >= 0);
	assert_int_equal(hk_virtq_pop(&f->vq, &f->chain), 1);
	f->vq.enabled = false;
	hk_virtq_push(&f->vq, &f->chain, sizeof(bytes));
	assert_int_equal(told.count, 2);

	assert_int_equal(told.before_data, 0);
	assert_int_equal(told.after_used, 0);
	f->mem.watcher = NULL;
}

/* More segments than the copies take at a time. */
static void test_long_chain_copies(void **state)
{
	struct fixture *f = *state;
	struct vqd_buf bufs[60];
	uint8_t in[60], out[60];

	for (unsigned i = 0; i < 60; i++) {
		bufs[i] = (struct vqd_buf){data_gpa + i * 16, 1, i >= 30};
		*data(f, i * 16) = (uint8_t)i;
		in[i] = (uint8_t)(100 + i);
	}
	assert_true(vqd_add(&f->d, bufs, 60, 0) >= 0);
	assert_int_equal(hk_virtq_pop(&f->vq, &f->chain), 1);
	assert_int_equal(hk_chain_read(&f->chain, 1, out, 60), 29);
	for (unsigned i = 0; i < 29; i++) {
		assert_int_equal(out[i], i + 1);
	}
	assert_int_equal(hk_chain_write(&f->chain, 1, in, 60), 29);
	for (unsigned i = 0; i < 29; i++) {
		assert_int_equal(*data(f, (31 + i) * 16), 100 + i);
	}
}

/*
 * What breaks a queue. Each function writes one hostile ring; in all cases the queue has SIZE
 * entries.
 */

static void head_beyond(struct fixture *f)
{
	vqd_raw_offer(&f->d, SIZE);
}

static void head_far_beyond(struct fixture *f)
{
	vqd_raw_offer(&f->d, UINT16_MAX);
}

static void next_beyond(struct fixture *f)
{
	vqd_raw_desc(&f->d, 0, data_gpa, 8, VQD_F_NEXT, SIZE);
	vqd_raw_offer(&f->d, 0);
}

static void loop_of_one(struct fixture *f)
{
	vqd_raw_desc(&f->d, 5, data_gpa, 8, VQD_F_NEXT, 5);
	vqd_raw_offer(&f->d, 5);
}

static void loop_of_three(struct fixture *f)
{
	for (uint16_t i = 0; i < 3; i++) {
		vqd_raw_desc(&f->d, i, data_gpa, 8, VQD_F_NEXT, (uint16_t)((i + 1) % 3));
	}
	vqd_raw_offer(&f->d, 0);
}

static void loop_of_all(struct fixture *f)
{
	for (uint16_t i = 0; i < SIZE; i++) {
		vqd_raw_desc(&f->d, i, data_gpa, 8, VQD_F_NEXT, (uint16_t)((i + 1) % SIZE));
	}
	vqd_raw_offer(&f->d, 0);
}

static void addr_beyond(struct fixture *f)
{
	vqd_raw_desc(&f->d, 0, ram_bytes, 1, 0, 0);
	vqd_raw_offer(&f->d, 0);
}

static void addr_straddles_end(struct fixture *f)
{
	vqd_raw_desc(&f->d, 0, ram_bytes - 8, 9, 0, 0);
	vqd_raw_offer(&f->d, 0);
}

static void addr_wraps(struct fixture *f)
{
	vqd_raw_desc(&f->d, 0, UINT64_MAX - 3, 8, 0, 0);
	vqd_raw_offer(&f->d, 0);
}

static void addr_in_mmio(struct fixture *f)
{
	vqd_raw_desc(&f->d, 0, HK_MMIO_HOLE_START + 0x1000, 4, VQD_F_WRITE, 0);
	vqd_raw_offer(&f->d, 0);
}

static void length_huge(struct fixture *f)
{
	vqd_raw_desc(&f->d, 0, 0, UINT32_MAX, 0, 0);
	vqd_raw_offer(&f->d, 0);
}

static void length_zero(struct fixture *f)
{
	vqd_raw_desc(&f->d, 0, data_gpa, 0, 0, 0);
	vqd_raw_offer(&f->d, 0);
}

static void length_zero_later(struct fixture *f)
{
	vqd_raw_desc(&f->d, 0, data_gpa, 8, VQD_F_NEXT, 1);
	vqd_raw_desc(&f->d, 1, data_gpa, 0, VQD_F_WRITE, 0);
	vqd_raw_offer(&f->d, 0);
}

static void total_over_4_gib(struct fixture *f)
{
	for (uint16_t i = 0; i < 70; i++) {
		vqd_raw_desc(&f->d, i, 0, 62u << 20, i < 69 ? VQD_F_NEXT : 0, (uint16_t)(i + 1));
	}
	vqd_raw_offer(&f->d, 0);
}

static void readable_after_writable(struct fixture *f)
{
	vqd_raw_desc(&f->d, 0, data_gpa, 8, VQD_F_NEXT | VQD_F_WRITE, 1);
	vqd_raw_desc(&f->d, 1, data_gpa, 8, 0, 0);
	vqd_raw_offer(&f->d, 0);
}

static void table_not_negotiated(struct fixture *f)
{
	f->vq.indirect = false;
	vqd_raw_table_desc(&f->d, data_gpa, 0, data_gpa, 8, 0, 0);
	vqd_raw_desc(&f->d, 0, data_gpa, VQD_DESC_SIZE, VQD_F_INDIRECT, 0);
	vqd_raw_offer(&f->d, 0);
}

static void table_with_next(struct fixture *f)
{
	vqd_raw_table_desc(&f->d, data_gpa, 0, data_gpa, 8, 0, 0);
	vqd_raw_desc(&f->d, 0, data_gpa, VQD_DESC_SIZE, VQD_F_INDIRECT | VQD_F_NEXT, 1);
	vqd_raw_desc(&f->d, 1, data_gpa, 8, 0, 0);
	vqd_raw_offer(&f->d, 0);
}

static void table_empty(struct fixture *f)
{
	vqd_raw_desc(&f->d, 0, data_gpa, 0, VQD_F_INDIRECT, 0);
	vqd_raw_offer(&f->d, 0);
}

static void table_of_half_an_entry(struct fixture *f)
{
	vqd_raw_desc(&f->d, 0, data_gpa, VQD_DESC_SIZE + 8, VQD_F_INDIRECT, 0);
	vqd_raw_offer(&f->d, 0);
}

static void table_too_long(struct fixture *f)
{
	vqd_raw_desc(&f->d, 0, data_gpa, (SIZE + 1) * VQD_DESC_SIZE, VQD_F_INDIRECT, 0);
	vqd_raw_offer(&f->d, 0);
}

static void table_outside(struct fixture *f)
{
	vqd_raw_desc(&f->d, 0, ram_bytes - 16, 2 * VQD_DESC_SIZE, VQD_F_INDIRECT, 0);
	vqd_raw_offer(&f->d, 0);
}

static void table_in_table(struct fixture *f)
{
	vqd_raw_table_desc(&f->d, data_gpa, 0, data_gpa, VQD_DESC_SIZE, VQD_F_INDIRECT, 0);
	vqd_raw_desc(&f->d, 0, data_gpa, VQD_DESC_SIZE, VQD_F_INDIRECT, 0);
	vqd_raw_offer(&f->d, 0);
}

static void table_next_beyond(struct fixture *f)
{
	/* Index 2 would be in the ring's own table, but not in this one. */
	vqd_raw_table_desc(&f->d, data_gpa, 0, data_gpa, 8, VQD_F_NEXT, 2);
	vqd_raw_desc(&f->d, 0, data_gpa, 2 * VQD_DESC_SIZE, VQD_F_INDIRECT, 0);
	vqd_raw_offer(&f->d, 0);
}

static void table_loops(struct fixture *f)
{
	vqd_raw_table_desc(&f->d, data_gpa, 0, data_gpa, 8, VQD_F_NEXT, 1);
	vqd_raw_table_desc(&f->d, data_gpa, 1, data_gpa, 8, VQD_F_NEXT, 0);
	vqd_raw_desc(&f->d, 0, data_gpa, 2 * VQD_DESC_SIZE, VQD_F_INDIRECT, 0);
	vqd_raw_offer(&f->d, 0);
}

static void table_makes_chain_too_long(struct fixture *f)
{
	vqd_raw_desc(&f->d, 0, data_gpa, 8, VQD_F_NEXT, 1);
	vqd_raw_desc(&f->d, 1, data_gpa, SIZE * VQD_DESC_SIZE, VQD_F_INDIRECT, 0);
	for (unsigned i = 0; i < SIZE; i++) {
		vqd_raw_table_desc(&f->d, data_gpa, i, data_gpa, 8, i + 1 < SIZE ? VQD_F_NEXT : 0,
			(uint16_t)(i + 1));
	}
	vqd_raw_offer(&f->d, 0);
}

static void index_jumps_ahead(struct fixture *f)
{
	vqd_raw_avail_idx(&f->d, SIZE + 1);
}

static void index_jumps_far(struct fixture *f)
{
	vqd_raw_avail_idx(&f->d, 0x8000);
}

static void index_goes_back(struct fixture *f)
{
	vqd_raw_avail_idx(&f->d, UINT16_MAX);
}

/* Two chains are being served, so one more than the rest of the ring cannot be there. */
static void index_jumps_with_chains_served(struct fixture *f)
{
	for (uint16_t i = 0; i < 2; i++) {
		vqd_raw_desc(&f->d, i, data_gpa, 8, 0, 0);
		vqd_raw_offer(&f->d, i);
		assert_int_equal(hk_virtq_pop(&f->vq, &f->chain), 1);
	}
	vqd_raw_avail_idx(&f->d, SIZE + 1);
}

static void index_takes_back_what_is_served(struct fixture *f)
{
	for (uint16_t i = 0; i < 2; i++) {
		vqd_raw_desc(&f->d, i, data_gpa, 8, 0, 0);
		vqd_raw_offer(&f->d, i);
		assert_int_equal(hk_virtq_pop(&f->vq, &f->chain), 1);
	}
	vqd_raw_avail_idx(&f->d, 1);
}

static void beyond_capacity(struct fixture *f)
{
	f->chain.capacity = 2;
	for (uint16_t i = 0; i < 3; i++) {
		vqd_raw_desc(&f->d, i, data_gpa, 8, i < 2 ? VQD_F_NEXT : 0, (uint16_t)(i + 1));
	}
	vqd_raw_offer(&f->d, 0);
}

static const struct {
	void (*write)(struct fixture *f);
	const char *why;
} hostile_rings[] = {
	{head_beyond, "descriptor index beyond its table"},
	{head_far_beyond, "descriptor index beyond its table"},
	{next_beyond, "descriptor index beyond its table"},
	{loop_of_one, "chain is too long"},
	{loop_of_three, "chain is too long"},
	{loop_of_all, "chain is too long"},
	{addr_beyond, "buffer outside of memory"},
	{addr_straddles_end, "buffer outside of memory"},
	{addr_wraps, "buffer outside of memory"},
	{addr_in_mmio, "buffer outside of memory"},
	{length_huge, "buffer outside of memory"},
	{length_zero, "buffer of no length"},
	{length_zero_later, "buffer of no length"},
	{total_over_4_gib, "chain of 4 GiB or more"},
	{readable_after_writable, "readable buffer after a writable one"},
	{table_not_negotiated, "indirect table was not negotiated"},
	{table_with_next, "indirect table is not last in its chain"},
	{table_empty, "indirect table has a broken length"},
	{table_of_half_an_entry, "indirect table has a broken length"},
	{table_too_long, "indirect table is longer than the queue"},
	{table_outside, "indirect table outside RAM"},
	{table_in_table, "indirect table within an indirect table"},
	{table_next_beyond, "descriptor index beyond its table"},
	{table_loops, "chain is too long"},
	{table_makes_chain_too_long, "chain is too long"},
	{index_jumps_ahead, "available index jumped"},
	{index_jumps_far, "available index jumped"},
	{index_goes_back, "available index jumped"},
	{index_jumps_with_chains_served, "available index jumped"},
	{index_takes_back_what_is_served, "available index jumped"},
	{beyond_capacity, "chain is too long"},
};

static void test_hostile_rings(void **state)
{
	struct fixture *f = *state;

	for (size_t i = 0; i < HK_ARRAY_SIZE(hostile_rings); i++) {
		uint16_t next_used;
		int rc;

		start_queue(f, SIZE, false, true);
		hostile_rings[i].write(f);
		rc = hk_virtq_pop(&f->vq, &f->chain);
		if (rc != -EPROTO || !f->vq.broken ||
			strcmp(f->vq.why, hostile_rings[i].why) != 0) {
			fail_msg("case %zu (%s): %d, %s", i, hostile_rings[i].why, rc, f->vq.why);
		}

		/* It stays so, whatever comes, and is silent. */
		vqd_raw_avail_idx(&f->d, f->vq.next_avail);
		next_used = f->vq.next_used;
		assert_int_equal(hk_virtq_pop(&f->vq, &f->chain), -EPROTO);
		assert_false(hk_virtq_want_kicks(&f->vq, true));
		hk_virtq_push(&f->vq, &(struct hk_chain){0}, 0);
		assert_int_equal(f->vq.next_used, next_used);

		/* Until the driver begins anew. */
		start_queue(f, SIZE, false, true);
		vqd_add(&f->d, (struct vqd_buf[]){{data_gpa, 8, false}}, 1, 0);
		assert_int_equal(hk_virtq_pop(&f->vq, &f->chain), 1);
	}
}

/* What is unusual, and allowed. */

static void test_longest_chain(void **state)
{
	struct fixture *f = *state;
	struct vqd_buf bufs[SIZE];

	for (unsigned i = 0; i < SIZE; i++) {
		bufs[i] = (struct vqd_buf){data_gpa + i, 1, true};
	}
	f->d.indirect = false;
	assert_true(vqd_add(&f->d, bufs, SIZE, 0) >= 0);
	assert_int_equal(hk_virtq_pop(&f->vq, &f->chain), 1);
	assert_int_equal(f->chain.writable_count, SIZE);
}

static void test_longest_table(void **state)
{
	struct fixture *f = *state;

	for (unsigned i = 0; i < SIZE; i++) {
		vqd_raw_table_desc(&f->d, data_gpa, i, data_gpa, 8, i + 1 < SIZE ? VQD_F_NEXT : 0,
			(uint16_t)(i + 1));
	}
	/* WRITE on the table itself means nothing (2.7.5.3.2). */
	vqd_raw_desc(&f->d, 7, data_gpa, SIZE * VQD_DESC_SIZE, VQD_F_INDIRECT | VQD_F_WRITE, 99);
	vqd_raw_offer(&f->d, 7);
	assert_int_equal(hk_virtq_pop(&f->vq, &f->chain), 1);
	assert_int_equal(f->chain.readable_count, SIZE);
	assert_int_equal(f->chain.writable_count, 0);
	assert_int_equal(f->chain.head, 7);
}

static void test_table_after_direct(void **state)
{
	struct fixture *f = *state;
	hk_gpa table = data_gpa + 3; /* at an odd address, too */

	vqd_raw_table_desc(&f->d, table, 0, data_gpa + 64, 8, VQD_F_NEXT | VQD_F_WRITE, 1);
	vqd_raw_table_desc(&f->d, table, 1, data_gpa + 128, 8, VQD_F_WRITE, 0);
	vqd_raw_desc(&f->d, 0, data_gpa + 256, 8, VQD_F_NEXT, 1);
	vqd_raw_desc(&f->d, 1, table, 2 * VQD_DESC_SIZE, VQD_F_INDIRECT, 0);
	vqd_raw_offer(&f->d, 0);
	assert_int_equal(hk_virtq_pop(&f->vq, &f->chain), 1);
	assert_int_equal(f->chain.readable_count, 1);
	assert_int_equal(f->chain.writable_count, 2);
	assert_ptr_equal(f->chain.iov[2].iov_base, data(f, 128));
}

static void test_full_ring(void **state)
{
	struct fixture *f = *state;

	for (unsigned i = 0; i < SIZE; i++) {
		assert_true(vqd_add(&f->d, (struct vqd_buf[]){{data_gpa, 8, false}}, 1, i) >= 0);
	}
	assert_int_equal(vqd_add(&f->d, (struct vqd_buf[]){{data_gpa, 8, false}}, 1, 0), -ENOSPC);
	for (unsigned i = 0; i < SIZE; i++) {
		assert_int_equal(hk_virtq_pop(&f->vq, &f->chain), 1);
	}
	assert_int_equal(hk_virtq_pop(&f->vq, &f->chain), 0);
}

static void test_smallest_queue(void **state)
{
	struct fixture *f = *state;
	struct vqd_used used;

	start_queue(f, 1, true, true);
	for (unsigned i = 0; i < 70000; i++) { /* past the wrap of the indices */
		assert_true(vqd_add(&f->d, (struct vqd_buf[]){{data_gpa, 8, true}}, 1, i) >= 0);
		assert_int_equal(hk_virtq_pop(&f->vq, &f->chain), 1);
		hk_virtq_push(&f->vq, &f->chain, 8);
		assert_true(vqd_take(&f->d, &used));
		assert_int_equal(used.token, i);
	}
}

static void test_unpop(void **state)
{
	struct fixture *f = *state;

	for (unsigned i = 0; i < 3; i++) {
		vqd_add(&f->d, (struct vqd_buf[]){{data_gpa + i, 1, false}}, 1, i);
	}
	assert_int_equal(hk_virtq_pop(&f->vq, &f->chain), 1);
	assert_int_equal(hk_virtq_pop(&f->vq, &f->chain), 1);
	assert_ptr_equal(f->chain.iov[0].iov_base, data(f, 1));
	hk_virtq_unpop(&f->vq);
	assert_int_equal(hk_virtq_pop(&f->vq, &f->chain), 1);
	assert_ptr_equal(f->chain.iov[0].iov_base, data(f, 1));
	assert_int_equal(hk_virtq_pop(&f->vq, &f->chain), 1);
	assert_ptr_equal(f->chain.iov[0].iov_base, data(f, 2));
	hk_virtq_unpop(&f->vq);
	assert_true(hk_virtq_want_kicks(&f->vq, true)); /* it waits again */
}

static void serve_one(struct fixture *f)
{
	vqd_add(&f->d, (struct vqd_buf[]){{data_gpa, 8, true}}, 1, 0);
	assert_int_equal(hk_virtq_pop(&f->vq, &f->chain), 1);
	hk_virtq_push(&f->vq, &f->chain, 0);
}

static void test_interrupt_flag(void **state)
{
	struct fixture *f = *state;

	assert_false(hk_virtq_wants_interrupt(&f->vq)); /* nothing pushed */
	serve_one(f);
	assert_true(hk_virtq_wants_interrupt(&f->vq));
	assert_false(hk_virtq_wants_interrupt(&f->vq)); /* once for each batch */
	vqd_disable_callbacks(&f->d);
	serve_one(f);
	assert_false(hk_virtq_wants_interrupt(&f->vq));
	assert_false(vqd_enable_callbacks(&f->d)); /* two are there */
	serve_one(f);
	assert_true(hk_virtq_wants_interrupt(&f->vq));
}

/* VIRTIO 1.2, 2.7.7: interrupt when used index goes past used_event. */
static void test_interrupt_event(void **state)
{
	struct fixture *f = *state;
	static const struct {
		uint16_t old, pushes, event;
		bool wants;
	} cases[] = {
		{0, 1, 0, true},
		{0, 1, 1, false},
		{0, 2, 1, true},
		{0, 3, 1, true},
		{5, 1, 4, false},
		{5, 1, 5, true},
		{5, 4, 9, false},
		{0xffff, 1, 0xffff, true},
		{0xffff, 1, 0, false},
		{0xfffe, 4, 1, true},
		{0xfffe, 4, 0xfffd, false},
		{0xfffe, 4, 2, false},
		{100, 0, 99, false},
	};

	for (size_t i = 0; i < HK_ARRAY_SIZE(cases); i++) {
		start_queue(f, SIZE, true, true);
		f->vq.next_avail = f->vq.avail_seen = cases[i].old;
		f->vq.next_used = f->vq.notified_used = cases[i].old;
		f->d.last_used = f->d.avail_idx = cases[i].old;
		for (unsigned n = 0; n < cases[i].pushes; n++) {
			serve_one(f);
		}
		f->d.last_used = cases[i].event;
		vqd_enable_callbacks(&f->d);
		if (hk_virtq_wants_interrupt(&f->vq) != cases[i].wants) {
			fail_msg("case %zu", i);
		}
	}
}

/* As many pushes as there are indices must not read as none. */
static void test_interrupt_after_wrap(void **state)
{
	struct fixture *f = *state;
	struct vqd_used used;

	start_queue(f, SIZE, true, true);
	f->d.last_used = 5;
	vqd_enable_callbacks(&f->d);
	f->d.callbacks = false; /* used_event stays 5 */
	f->d.last_used = 0;
	for (unsigned i = 0; i < 0x10000; i++) {
		serve_one(f);
		assert_true(vqd_take(&f->d, &used));
	}
	assert_true(hk_virtq_wants_interrupt(&f->vq));
	assert_false(hk_virtq_wants_interrupt(&f->vq));
}

static void test_kicks(void **state)
{
	struct fixture *f = *state;
	const struct vqd_buf buf = {data_gpa, 8, true};

	for (int event_idx = 0; event_idx <= 1; event_idx++) {
		start_queue(f, SIZE, event_idx, true);
		assert_false(vqd_wants_kick(&f->d)); /* nothing added */
		vqd_add(&f->d, &buf, 1, 0);
		assert_true(vqd_wants_kick(&f->d));             /* from the start */
		assert_true(hk_virtq_want_kicks(&f->vq, true)); /* something waits */
		assert_int_equal(hk_virtq_pop(&f->vq, &f->chain), 1);
		assert_false(hk_virtq_want_kicks(&f->vq, true));
		vqd_add(&f->d, &buf, 1, 0);
		assert_true(vqd_wants_kick(&f->d));
		assert_int_equal(hk_virtq_pop(&f->vq, &f->chain), 1);
		assert_false(hk_virtq_want_kicks(&f->vq, false));
		vqd_add(&f->d, &buf, 1, 0);
		assert_false(vqd_wants_kick(&f->d)); /* spared */
		assert_true(hk_virtq_want_kicks(&f->vq, true));
		assert_int_equal(hk_virtq_pop(&f->vq, &f->chain), 1);
		assert_false(hk_virtq_want_kicks(&f->vq, true));
		vqd_add(&f->d, &buf, 1, 0);
		vqd_add(&f->d, &buf, 1, 0);
		assert_true(vqd_wants_kick(&f->d));
	}
}

static void save(const struct hk_virtq *vq, struct hk_writer *w)
{
	*w = (struct hk_writer){0};
	hk_virtq_save(vq, w);
	assert_int_equal(w->error, 0);
}

static bool restore(struct fixture *f, const struct hk_writer *w, size_t len)
{
	struct hk_reader r;

	f->vq = (struct hk_virtq){.mem = &f->mem};
	hk_reader_init(&r, w->data, len);
	hk_virtq_restore(&f->vq, &r);
	assert_ptr_equal(f->vq.mem, &f->mem);
	assert_true(r.error == 0 || !f->vq.enabled);
	return r.error == 0;
}

/* Saved with chains in all states: waiting, served and not yet returned, returned and not yet told.
 */
static void test_save_in_mid_work(void **state)
{
	struct fixture *f = *state;
	struct hk_writer w;
	struct vqd_used used;
	uint16_t heads[2];

	start_queue(f, SIZE, true, true);
	for (unsigned i = 0; i < 4; i++) {
		vqd_add(&f->d, (struct vqd_buf[]){{data_gpa + i, 1, true}}, 1, i);
	}
	for (unsigned i = 0; i < 2; i++) {
		assert_int_equal(hk_virtq_pop(&f->vq, &f->chain), 1);
		heads[i] = f->chain.head;
	}
	hk_virtq_push(&f->vq, &(struct hk_chain){.head = heads[1]}, 11);
	save(&f->vq, &w);
	assert_true(restore(f, &w, w.len));
	hk_writer_finish(&w);

	assert_true(f->vq.event_idx);
	assert_true(f->vq.indirect);
	assert_true(hk_virtq_wants_interrupt(&f->vq));
	hk_virtq_push(&f->vq, &(struct hk_chain){.head = heads[0]}, 10);
	for (unsigned i = 2; i < 4; i++) {
		assert_int_equal(hk_virtq_pop(&f->vq, &f->chain), 1);
		hk_virtq_push(&f->vq, &f->chain, 10 + i);
	}
	for (unsigned i = 0; i < 4; i++) {
		static const unsigned order[] = {1, 0, 2, 3};

		assert_true(vqd_take(&f->d, &used));
		assert_int_equal(used.token, order[i]);
		assert_int_equal(used.len, 10 + order[i]);
	}
	assert_int_equal(hk_virtq_pop(&f->vq, &f->chain), 0);
}

static void test_save_disabled_and_broken(void **state)
{
	struct fixture *f = *state;
	struct hk_writer w;

	vqd_raw_offer(&f->d, SIZE);
	assert_int_equal(hk_virtq_pop(&f->vq, &f->chain), -EPROTO);
	save(&f->vq, &w);
	assert_true(restore(f, &w, w.len));
	hk_writer_finish(&w);
	assert_int_equal(hk_virtq_pop(&f->vq, &f->chain), -EPROTO);
	assert_non_null(f->vq.why);

	hk_virtq_reset(&f->vq);
	f->vq.size = 64;
	f->vq.desc_gpa = 0x123;
	save(&f->vq, &w);
	assert_true(restore(f, &w, w.len));
	hk_writer_finish(&w);
	assert_false(f->vq.enabled);
	assert_int_equal(f->vq.size, 64);
	assert_int_equal(f->vq.desc_gpa, 0x123);
}

static void test_restore_checks(void **state)
{
	struct fixture *f = *state;
	const struct hk_virtq good = f->vq;
	struct hk_virtq bad[6];
	struct hk_writer w;

	for (size_t i = 0; i < HK_ARRAY_SIZE(bad); i++) {
		bad[i] = good;
	}
	bad[0].size = 100;
	bad[1].size = 0;
	bad[2].used_gpa = ram_bytes;
	bad[3].desc_gpa += 8;
	bad[4].next_avail = SIZE + 1; /* more served than there are */
	bad[5].enabled = false;       /* and yet chains served */
	bad[5].next_avail = 1;
	for (size_t i = 0; i < HK_ARRAY_SIZE(bad); i++) {
		save(&bad[i], &w);
		if (restore(f, &w, w.len)) {
			fail_msg("case %zu", i);
		}
		hk_writer_finish(&w);
	}
	save(&good, &w);
	for (size_t len = 0; len < w.len; len++) {
		assert_false(restore(f, &w, len));
	}
	assert_true(restore(f, &w, w.len));
	hk_writer_finish(&w);
}

/*
 * Random work, driver against device, one step at a time: every chain is popped with the bytes
 * that were put in, and comes back exactly once, in whatever order the device likes. Now and then
 * the device is saved and restored.
 */
enum { WORK_SIZE = 16, WORK_CHAINS = 30000, SLOTS = 64, SLOT_BYTES = 64 };

struct served {
	uint16_t head;
	uint32_t len;
	uint8_t tag;
};

struct work {
	struct fixture *f;
	uint64_t random;
	bool outstanding[SLOTS]; /* token of a chain the driver waits for */
	struct served served[WORK_SIZE];
	unsigned served_count;
	unsigned added, taken;
	bool interrupt_due; /* the device owes or gave one since the driver last looked */
};

static void drive_add(struct work *work)
{
	struct fixture *f = work->f;
	unsigned slot = (unsigned)(next_random(&work->random) % SLOTS);
	unsigned count = 1 + (unsigned)(next_random(&work->random) % 5);
	unsigned readable = (unsigned)(next_random(&work->random) % (count + 1));
	struct vqd_buf bufs[5];

	if (work->outstanding[slot]) {
		return;
	}
	for (unsigned i = 0; i < count; i++) {
		uint64_t offset = (uint64_t)slot * SLOT_BYTES + i * 8;

		bufs[i] = (struct vqd_buf){data_gpa + offset, 1 + (uint32_t)(i % 8), i >= readable};
		memset(data(f, offset), (int)slot, 8);
	}
	if (vqd_add(&f->d, bufs, count, slot) >= 0) {
		work->outstanding[slot] = true;
		work->added++;
	}
}

static void device_pop(struct work *work)
{
	struct fixture *f = work->f;
	int rc = hk_virtq_pop(&f->vq, &f->chain);
	uint8_t tag = 0;

	assert_true(rc >= 0);
	if (rc == 0) {
		return;
	}
	assert_true(work->served_count < WORK_SIZE);
	for (unsigned i = 0; i < f->chain.readable_count; i++) {
		const uint8_t *bytes = f->chain.iov[i].iov_base;

		assert_ptr_equal(bytes, data(f, (uint64_t)bytes[0] * SLOT_BYTES + i * 8));
		tag = bytes[0];
	}
	work->served[work->served_count++] =
		(struct served){f->chain.head, f->chain.writable_bytes, tag};
}

static void device_push(struct work *work)
{
	struct fixture *f = work->f;
	unsigned which;

	if (work->served_count == 0) {
		return;
	}
	which = (unsigned)(next_random(&work->random) % work->served_count);
	hk_virtq_push(&f->vq, &(struct hk_chain){.head = work->served[which].head},
		work->served[which].len);
	work->served[which] = work->served[--work->served_count];
	if (hk_virtq_wants_interrupt(&f->vq)) {
		work->interrupt_due = true;
	}
}

static void driver_take(struct work *work)
{
	struct fixture *f = work->f;
	struct vqd_used used;

	while (vqd_take(&f->d, &used)) {
		assert_true(work->outstanding[used.token]);
		work->outstanding[used.token] = false;
		work->taken++;
	}
	work->interrupt_due = false;
}

static void move(struct work *work)
{
	struct hk_writer w;

	save(&work->f->vq, &w);
	assert_true(restore(work->f, &w, w.len));
	hk_writer_finish(&w);
}

static void run_work(struct fixture *f, bool event_idx, bool indirect)
{
	struct work work = {.f = f, .random = 0x9e3779b97f4a7c15u};

	start_queue(f, WORK_SIZE, event_idx, indirect);
	while (work.taken < WORK_CHAINS) {
		switch (next_random(&work.random) % 8) {
		case 0:
		case 1:
		case 2:
			if (work.added < WORK_CHAINS) {
				drive_add(&work);
			}
			break;
		case 3:
		case 4:
			device_pop(&work);
			break;
		case 5:
		case 6:
			device_push(&work);
			/* The driver has seen all but what it was interrupted for. */
			assert_true(work.interrupt_due || f->d.last_used == f->vq.next_used);
			break;
		default:
			if (next_random(&work.random) % 16 == 0) {
				move(&work);
			}
			if (work.interrupt_due) {
				driver_take(&work);
			}
			break;
		}
	}
	assert_int_equal(work.added, work.taken);
	assert_int_equal(f->vq.next_avail, f->vq.next_used);
	assert_int_equal(f->d.free_count, WORK_SIZE);
}

static void test_random_work(void **state)
{
	run_work(*state, false, false);
	run_work(*state, false, true);
	run_work(*state, true, false);
	run_work(*state, true, true);
}

/*
 * Two threads that sleep until they are told: a lost notification shows as a sleep that does not
 * end. They take turns at being the slower one, so that both often fall asleep just as the other
 * looks.
 */
enum { PAIR_SIZE = 8, PAIR_CHAINS = 40000, DEADLINE_MS = 20000 };

struct pair {
	struct fixture *f;
	int kick_fd;
	int irq_fd;
	bool device_lost;
	uint64_t sum; /* of what the device read */
};

static bool sleep_on(int fd)
{
	struct pollfd pfd = {.fd = fd, .events = POLLIN};
	eventfd_t count;

	return poll(&pfd, 1, DEADLINE_MS) == 1 && eventfd_read(fd, &count) == 0;
}

static void dawdle(uint64_t *random)
{
	for (volatile unsigned i = 0; i < next_random(random) % 256; i++) {
	}
}

static void *device_thread(void *arg)
{
	struct pair *pair = arg;
	struct hk_virtq *vq = &pair->f->vq;
	struct iovec iov[4];
	uint64_t random = 7;
	unsigned done = 0;

	while (done < PAIR_CHAINS) {
		struct hk_chain chain = {.iov = iov, .capacity = 4};
		int rc = hk_virtq_pop(vq, &chain);

		if (rc < 0) {
			pair->device_lost = true;
			break;
		}
		if (rc == 1) {
			uint8_t raw[8];

			(void)hk_chain_read(&chain, 0, raw, sizeof(raw));
			pair->sum += hk_load_le64(raw);
			(void)hk_chain_write(&chain, 0, raw, sizeof(raw));
			dawdle(&random);
			hk_virtq_push(vq, &chain, sizeof(raw));
			done++;
			if (hk_virtq_wants_interrupt(vq)) {
				eventfd_write(pair->irq_fd, 1);
			}
			continue;
		}
		if (!hk_virtq_want_kicks(vq, true) && !sleep_on(pair->kick_fd)) {
			pair->device_lost = true;
			break;
		}
		hk_virtq_want_kicks(vq, false);
	}
	return NULL;
}

static void run_pair(struct fixture *f, bool event_idx, bool indirect)
{
	struct pair pair = {
		.f = f,
		.kick_fd = eventfd(0, EFD_CLOEXEC),
		.irq_fd = eventfd(0, EFD_CLOEXEC),
	};
	uint64_t random = 3, expected = 0;
	unsigned added = 0, taken = 0;
	pthread_t thread;
	struct vqd_used used;

	start_queue(f, PAIR_SIZE, event_idx, indirect);
	assert_int_equal(pthread_create(&thread, NULL, device_thread, &pair), 0);
	while (taken < PAIR_CHAINS) {
		while (added < PAIR_CHAINS) {
			/* A cell is free again before a third chain after its own is added. */
			hk_gpa cell = data_gpa + (hk_gpa)(added % (4 * PAIR_SIZE)) * 16;
			const struct vqd_buf bufs[] = {{cell, 8, false}, {cell + 8, 8, true}};

			if (f->d.free_count < 2) {
				break;
			}
			hk_store_le64(hk_mem_at(&f->mem, cell, 8), added * 3);
			assert_true(vqd_add(&f->d, bufs, 2, added) >= 0);
			expected += added++ * 3;
			if (vqd_wants_kick(&f->d)) {
				eventfd_write(pair.kick_fd, 1);
			}
		}
		vqd_disable_callbacks(&f->d);
		while (vqd_take(&f->d, &used)) {
			hk_gpa cell = data_gpa + (hk_gpa)(used.token % (4 * PAIR_SIZE)) * 16;

			assert_int_equal(used.token, taken); /* this device keeps the order */
			assert_int_equal(hk_load_le64(hk_mem_at(&f->mem, cell + 8, 8)), taken * 3);
			taken++;
			dawdle(&random);
		}
		if (taken < PAIR_CHAINS && vqd_enable_callbacks(&f->d) &&
			f->d.free_count < PAIR_SIZE && !sleep_on(pair.irq_fd)) {
			fail_msg("no interrupt: %u added, %u back", added, taken);
		}
	}
	pthread_join(thread, NULL);
	assert_false(pair.device_lost);
	assert_int_equal(pair.sum, expected);
	close(pair.kick_fd);
	close(pair.irq_fd);
}

static void test_no_notification_is_lost(void **state)
{
	run_pair(*state, false, false);
	run_pair(*state, false, true);
	run_pair(*state, true, false);
	run_pair(*state, true, true);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(test_##name, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(enable),
		TEST(disabled_queue_is_silent),
		TEST(chain_copies),
		TEST(engine_is_told_of_what_is_written),
		TEST(long_chain_copies),
		TEST(hostile_rings),
		TEST(longest_chain),
		TEST(longest_table),
		TEST(table_after_direct),
		TEST(full_ring),
		TEST(smallest_queue),
		TEST(unpop),
		TEST(interrupt_flag),
		TEST(interrupt_event),
		TEST(interrupt_after_wrap),
		TEST(kicks),
		TEST(save_in_mid_work),
		TEST(save_disabled_and_broken),
		TEST(restore_checks),
		TEST(random_work),
		TEST(no_notification_is_lost),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
