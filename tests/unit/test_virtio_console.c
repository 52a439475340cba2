/* SPDX-License-Identifier: ISC */
/* virtio-console: bytes out, bytes in as far as there is room, and the size of the terminal. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/util.h"
#include "virtio/console.h"
#include "virtq_driver.h"

enum { RX = 0, TX = 1, OUT_MAX = 4096 };

struct fixture {
	struct hk_console_owner owner;
	struct vqh h;
	struct hk_virtio *dev;
	hk_gpa gpa;
	uint8_t out[OUT_MAX];
	size_t out_len;
	unsigned writable;
};

static void output(struct hk_console_owner *owner, const uint8_t *bytes, size_t len)
{
	struct fixture *f = hk_container_of(owner, struct fixture, owner);

	assert_true(f->out_len + len <= OUT_MAX);
	memcpy(f->out + f->out_len, bytes, len);
	f->out_len += len;
}

static void writable(struct hk_console_owner *owner)
{
	hk_container_of(owner, struct fixture, owner)->writable++;
}

static int setup(void **state)
{
	struct fixture *f = test_calloc(1, sizeof(*f));

	f->owner.output = output;
	f->owner.writable = writable;
	assert_int_equal(hk_console_create(&f->owner, &f->dev, NULL), 0);
	vqh_start(&f->h, f->dev, NULL, 1 | HK_VIRTIO_F_EVENT_IDX);
	f->gpa = vqh_alloc(&f->h, 4 << 20);
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

static void write_text(struct fixture *f, uint64_t offset, const char *text)
{
	memcpy(vqh_at(&f->h, f->gpa + offset, strlen(text)), text, strlen(text));
}

static void test_output(void **state)
{
	struct fixture *f = *state;
	struct vqd *tx = &f->h.queues[TX];
	struct vqd_used used;

	write_text(f, 0, "hello, ");
	write_text(f, 100, "world");
	write_text(f, 200, "\n");
	vqd_add(tx, (struct vqd_buf[]){{f->gpa, 7, false}, {f->gpa + 100, 5, false}}, 2, 1);
	vqd_add(tx, (struct vqd_buf[]){{f->gpa + 200, 1, false}}, 1, 2);
	vqh_kick(&f->h, TX);
	assert_int_equal(f->out_len, 13);
	assert_memory_equal(f->out, "hello, world\n", 13);
	for (unsigned i = 1; i <= 2; i++) {
		assert_true(vqd_take(tx, &used));
		assert_int_equal(used.token, i);
		assert_int_equal(used.len, 0);
	}
	/* What the guest wants written into on this queue stays as it is. */
	vqd_add(tx, (struct vqd_buf[]){{f->gpa, 7, true}}, 1, 3);
	vqh_kick(&f->h, TX);
	assert_int_equal(f->out_len, 13);
	assert_false(vqh_needs_reset(&f->h));
}

static void test_output_too_long(void **state)
{
	struct fixture *f = *state;

	vqd_add(&f->h.queues[TX], (struct vqd_buf[]){{f->gpa, (1 << 20) + 1, false}}, 1, 0);
	vqh_kick(&f->h, TX);
	assert_true(vqh_needs_reset(&f->h));
	assert_int_equal(f->out_len, 0);
}

static void test_input(void **state)
{
	struct fixture *f = *state;
	struct vqd *rx = &f->h.queues[RX];
	struct vqd_used used;

	assert_int_equal(hk_console_input(f->dev, (const uint8_t *)"abc", 3), 0); /* no room */
	assert_int_equal(f->h.interrupts, 0);
	vqd_add(rx, (struct vqd_buf[]){{f->gpa, 2, true}, {f->gpa + 10, 2, true}}, 2, 1);
	vqd_add(rx, (struct vqd_buf[]){{f->gpa + 20, 4, true}}, 1, 2);
	assert_true(vqd_wants_kick(rx)); /* the device was out of room, and asked to be told */
	vqh_kick(&f->h, RX);
	assert_int_equal(f->writable, 1);
	assert_int_equal(hk_console_input(f->dev, (const uint8_t *)"0123456789", 10), 8);
	assert_int_equal(f->h.interrupts, 1);
	assert_memory_equal(vqh_at(&f->h, f->gpa, 2), "01", 2);
	assert_memory_equal(vqh_at(&f->h, f->gpa + 10, 2), "23", 2);
	assert_memory_equal(vqh_at(&f->h, f->gpa + 20, 4), "4567", 4);
	assert_true(vqd_take(rx, &used));
	assert_int_equal(used.len, 4);
	assert_true(vqd_take(rx, &used));
	assert_int_equal(used.len, 4);
	/* A buffer that came without a notification is found, too. */
	vqd_add(rx, (struct vqd_buf[]){{f->gpa, 16, true}}, 1, 3);
	assert_int_equal(hk_console_input(f->dev, (const uint8_t *)"89", 2), 2);
	assert_true(vqd_take(rx, &used));
	assert_int_equal(used.len, 2);
	assert_int_equal(hk_console_input(f->dev, NULL, 0), 0);
}

static void test_input_into_readable(void **state)
{
	struct fixture *f = *state;

	vqd_add(&f->h.queues[RX], (struct vqd_buf[]){{f->gpa, 16, false}}, 1, 0);
	assert_int_equal(hk_console_input(f->dev, (const uint8_t *)"x", 1), 0);
	assert_true(vqh_needs_reset(&f->h));
	assert_int_equal(hk_console_input(f->dev, (const uint8_t *)"x", 1), 0);
}

static void test_input_on_broken_queue(void **state)
{
	struct fixture *f = *state;

	vqd_raw_avail_idx(&f->h.queues[RX], 500);
	assert_int_equal(hk_console_input(f->dev, (const uint8_t *)"x", 1), 0);
	assert_true(vqh_needs_reset(&f->h));
}

static void test_input_before_driver(void **state)
{
	struct fixture *f = *state;

	vqh_write(&f->h, HK_MMIO_STATUS, 0);
	assert_int_equal(hk_console_input(f->dev, (const uint8_t *)"x", 1), 0);
	assert_false(vqh_needs_reset(&f->h));
}

static void test_size(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(vqh_config(&f->h, 0, 4), 0);
	hk_console_resize(f->dev, 132, 43);
	assert_int_equal(f->h.config_changes, 1);
	assert_int_equal(vqh_config(&f->h, 0, 2), 132);
	assert_int_equal(vqh_config(&f->h, 2, 2), 43);
	assert_int_equal(vqh_config(&f->h, 4, 8), 0);
	vqh_write_config(&f->h, 0, 4, UINT32_MAX); /* not the guest's to say */
	assert_int_equal(vqh_config(&f->h, 0, 2), 132);
	vqh_write(&f->h, HK_MMIO_STATUS, 0);
	assert_int_equal(vqh_config(&f->h, 0, 2), 132); /* the terminal is as it was */
}

static void test_move(void **state)
{
	struct fixture *f = *state;
	struct hk_virtio *fresh;

	hk_console_resize(f->dev, 80, 25);
	write_text(f, 0, "before");
	vqd_add(&f->h.queues[TX], (struct vqd_buf[]){{f->gpa, 6, false}}, 1, 0);
	vqd_add(&f->h.queues[RX], (struct vqd_buf[]){{f->gpa + 64, 6, true}}, 1, 0);
	assert_int_equal(hk_console_create(&f->owner, &fresh, NULL), 0);
	assert_true(vqh_move(&f->h, fresh));
	hk_virtio_destroy(f->dev);
	f->dev = fresh;
	assert_int_equal(vqh_config(&f->h, 0, 4), 80 | 25 << 16);
	assert_memory_equal(f->out, "before", 6);
	assert_int_equal(hk_console_input(f->dev, (const uint8_t *)"in", 2), 2);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(test_##name, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(output),
		TEST(output_too_long),
		TEST(input),
		TEST(input_into_readable),
		TEST(input_on_broken_queue),
		TEST(input_before_driver),
		TEST(size),
		TEST(move),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
