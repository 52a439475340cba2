/* SPDX-License-Identifier: ISC */
/* virtio-rng: buffers come back filled; what is no buffer to fill ends the device. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/fault.h"
#include "base/util.h"
#include "virtio/rng.h"
#include "virtq_driver.h"

/* Never 0, so that each filled byte shows. */
static void count_up(void *buf, size_t len)
{
	static uint8_t next;

	for (size_t i = 0; i < len; i++) {
		next = (uint8_t)(next % 255 + 1);
		((uint8_t *)buf)[i] = next;
	}
}

struct fixture {
	struct vqh h;
	struct hk_virtio *dev;
	hk_gpa gpa;
};

static int setup(void **state)
{
	struct fixture *f = test_calloc(1, sizeof(*f));

	assert_int_equal(hk_rng_create(count_up, &f->dev, NULL), 0);
	vqh_start(&f->h, f->dev, NULL, HK_VIRTIO_F_EVENT_IDX | HK_VIRTIO_F_INDIRECT_DESC);
	f->gpa = vqh_alloc(&f->h, 1 << 20);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	vqh_finish(&f->h);
	hk_virtio_destroy(f->dev);
	test_free(f);
	return 0;
}

static uint64_t count_filled(struct fixture *f, uint64_t len)
{
	const uint8_t *bytes = vqh_at(&f->h, f->gpa, len);
	uint64_t filled = 0;

	for (uint64_t i = 0; i < len; i++) {
		filled += bytes[i] != 0;
	}
	return filled;
}

static void test_fills(void **state)
{
	struct fixture *f = *state;
	static const struct {
		uint32_t lens[3];
		uint32_t written;
	} cases[] = {
		{{1}, 1},
		{{64}, 64},
		{{4096}, 4096},
		{{4097}, 4096}, /* more is less */
		{{1 << 19}, 4096},
		{{1, 2, 3}, 6},
		{{4000, 4000, 4000}, 4096},
	};

	assert_int_equal(vqh_read(&f->h, HK_MMIO_DEVICE_ID), 4);
	for (size_t i = 0; i < HK_ARRAY_SIZE(cases); i++) {
		struct vqd_buf bufs[3];
		struct vqd_used used;
		unsigned count = 0;
		uint32_t total = 0;

		memset(vqh_at(&f->h, f->gpa, 1 << 20), 0, 1 << 20);
		for (; count < 3 && cases[i].lens[count] != 0; count++) {
			bufs[count] = (struct vqd_buf){f->gpa + total, cases[i].lens[count], true};
			total += cases[i].lens[count];
		}
		assert_true(vqd_add(&f->h.queues[0], bufs, count, i) >= 0);
		vqh_kick(&f->h, 0);
		assert_true(vqd_take(&f->h.queues[0], &used));
		assert_int_equal(used.token, i);
		assert_int_equal(used.len, cases[i].written);
		assert_int_equal(count_filled(f, 1 << 20), cases[i].written);
		assert_int_equal(f->h.interrupts, i + 1);
	}
}

static void test_many_at_once(void **state)
{
	struct fixture *f = *state;
	struct vqd_used used;
	unsigned back = 0;

	for (unsigned i = 0; i < 64; i++) {
		struct vqd_buf buf = {f->gpa + i * 16, 16, true};

		assert_true(vqd_add(&f->h.queues[0], &buf, 1, i) >= 0);
	}
	vqh_kick(&f->h, 0);
	assert_int_equal(f->h.interrupts, 1);
	while (vqd_take(&f->h.queues[0], &used)) {
		assert_int_equal(used.token, back++);
	}
	assert_int_equal(back, 64);
	assert_int_equal(count_filled(f, 64 * 16), 64 * 16);
}

static void test_readable_only(void **state)
{
	struct fixture *f = *state;
	struct vqd_used used;

	vqd_add(&f->h.queues[0], (struct vqd_buf[]){{f->gpa, 16, false}}, 1, 0);
	vqh_kick(&f->h, 0);
	assert_true(vqh_needs_reset(&f->h));
	assert_false(vqd_take(&f->h.queues[0], &used));
}

static void test_broken_queue(void **state)
{
	struct fixture *f = *state;

	vqd_raw_desc(&f->h.queues[0], 0, f->gpa, 0, VQD_F_WRITE, 0);
	vqd_raw_offer(&f->h.queues[0], 0);
	vqh_kick(&f->h, 0);
	assert_true(vqh_needs_reset(&f->h));
}

static void test_move(void **state)
{
	struct fixture *f = *state;
	struct hk_virtio *fresh;
	struct vqd_used used;

	vqd_add(&f->h.queues[0], (struct vqd_buf[]){{f->gpa, 16, true}}, 1, 3);
	assert_int_equal(hk_rng_create(count_up, &fresh, NULL), 0);
	assert_true(vqh_move(&f->h, fresh));
	hk_virtio_destroy(f->dev);
	f->dev = fresh;
	assert_true(vqd_take(&f->h.queues[0], &used));
	assert_int_equal(used.token, 3);
	assert_int_equal(count_filled(f, 16), 16);
}

static void test_no_memory(void **state)
{
	struct hk_err err = HK_ERR_INIT;
	struct hk_virtio *dev = NULL;

	(void)state;
	hk_fault_arm(HK_FAULT_ALLOC, 1);
	assert_int_equal(hk_rng_create(count_up, &dev, &err), -ENOMEM);
	hk_fault_arm(0, 0);
	assert_null(dev);
	assert_string_equal(hk_err_text(&err), "virtio rng: Cannot allocate memory");
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(test_##name, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(fills),
		TEST(many_at_once),
		TEST(readable_only),
		TEST(broken_queue),
		TEST(move),
		cmocka_unit_test(test_no_memory),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
