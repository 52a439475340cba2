/* SPDX-License-Identifier: ISC */
/* The registers of virtio-mmio: the way a driver walks, and every way it may stray. */
#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/bytes.h"
#include "base/util.h"
#include "virtio/mmio_regs.h"
#include "virtq_driver.h"

enum {
	CONFIG_LEN = 10,
	QUEUES = 2,
	QUEUE_SIZE = 64,

	ACK = HK_VIRTIO_STATUS_ACKNOWLEDGE,
	DRIVER = HK_VIRTIO_STATUS_DRIVER,
	FEATURES_OK = HK_VIRTIO_STATUS_FEATURES_OK,
	DRIVER_OK = HK_VIRTIO_STATUS_DRIVER_OK,
	NEEDS_RESET = HK_VIRTIO_STATUS_NEEDS_RESET,
	FAILED = HK_VIRTIO_STATUS_FAILED,
};

#define MOCK_FEATURE (UINT64_C(1) << 3)

/* A device that counts what is done to it; chains go back as they came. */
struct mock {
	struct hk_virtio dev;
	uint8_t config[CONFIG_LEN];
	int activate_rc;
	unsigned activated, kicked[QUEUES], resets;
	bool active;
	uint32_t state;
};

static struct mock *from_dev(struct hk_virtio *dev)
{
	return hk_container_of(dev, struct mock, dev);
}

static void mock_read_config(struct hk_virtio *dev, unsigned offset, void *buf, unsigned len)
{
	assert_true(offset + len <= CONFIG_LEN);
	memcpy(buf, from_dev(dev)->config + offset, len);
}

static void mock_write_config(struct hk_virtio *dev, unsigned offset, const void *buf, unsigned len)
{
	assert_true(offset + len <= CONFIG_LEN);
	memcpy(from_dev(dev)->config + offset, buf, len);
}

static int mock_activate(struct hk_virtio *dev)
{
	struct mock *mock = from_dev(dev);

	mock->activated++;
	mock->active = mock->activate_rc == 0;
	return mock->activate_rc;
}

static uint32_t echo(struct hk_virtio *dev, unsigned index, const struct hk_chain *chain)
{
	return chain->writable_bytes;
}

static void mock_kick(struct hk_virtio *dev, unsigned index)
{
	assert_true(from_dev(dev)->active);
	from_dev(dev)->kicked[index]++;
	hk_virtio_serve(dev, index, echo);
}

static void mock_reset(struct hk_virtio *dev)
{
	from_dev(dev)->resets++;
	from_dev(dev)->active = false;
}

static void mock_resume(struct hk_virtio *dev)
{
	from_dev(dev)->active = true;
}

static void mock_save(struct hk_virtio *dev, struct hk_writer *w)
{
	size_t mark = hk_writer_begin(w, "mock", 1);

	hk_write_u32(w, from_dev(dev)->state);
	hk_writer_end(w, mark);
}

static void mock_restore(struct hk_virtio *dev, struct hk_reader *r)
{
	struct hk_section section = hk_reader_begin(r, "mock", 1);

	from_dev(dev)->state = hk_read_u32(r);
	hk_reader_end(r, section);
}

static void mock_destroy(struct hk_virtio *dev)
{
}

static const struct hk_virtio_ops mock_ops = {
	.name = "mock",
	.type = HK_VIRTIO_SND,
	.read_config = mock_read_config,
	.write_config = mock_write_config,
	.activate = mock_activate,
	.kick = mock_kick,
	.reset = mock_reset,
	.resume = mock_resume,
	.save = mock_save,
	.restore = mock_restore,
	.destroy = mock_destroy,
};

static void mock_init(struct mock *mock)
{
	static const uint16_t sizes[QUEUES] = {QUEUE_SIZE, 16};

	*mock = (struct mock){0};
	hk_virtio_init(&mock->dev, &mock_ops, QUEUES, sizes);
	mock->dev.offered = MOCK_FEATURE;
	mock->dev.config_len = CONFIG_LEN;
	for (unsigned i = 0; i < CONFIG_LEN; i++) {
		mock->config[i] = (uint8_t)(0x10 + i);
	}
}

struct fixture {
	struct mock mock;
	struct mock other; /* to move to */
	struct vqh h;
};

static int setup(void **state)
{
	struct fixture *f = test_calloc(1, sizeof(*f));

	mock_init(&f->mock);
	mock_init(&f->other);
	vqh_attach(&f->h, &f->mock.dev, NULL);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	vqh_finish(&f->h);
	hk_virtio_destroy(&f->mock.dev);
	hk_virtio_destroy(&f->other.dev);
	test_free(f);
	return 0;
}

static void start(struct fixture *f)
{
	assert_true(vqh_negotiate(&f->h, MOCK_FEATURE | HK_VIRTIO_F_EVENT_IDX));
	vqh_setup_queue(&f->h, 0, QUEUE_SIZE);
	vqh_setup_queue(&f->h, 1, 8);
	vqh_driver_ok(&f->h);
	assert_true(f->mock.active);
}

static void test_identity(void **state)
{
	struct vqh *h = &((struct fixture *)*state)->h;

	assert_int_equal(vqh_read(h, HK_MMIO_MAGIC), 0x74726976);
	assert_int_equal(vqh_read(h, HK_MMIO_VERSION), 2);
	assert_int_equal(vqh_read(h, HK_MMIO_DEVICE_ID), 25);
	assert_int_equal(vqh_read(h, HK_MMIO_STATUS), 0);
	assert_int_equal(vqh_read(h, HK_MMIO_INTERRUPT_STATUS), 0);
	vqh_write(h, HK_MMIO_QUEUE_SEL, 1);
	assert_int_equal(vqh_read(h, HK_MMIO_QUEUE_NUM_MAX), 16);
	vqh_write(h, HK_MMIO_QUEUE_SEL, QUEUES);
	assert_int_equal(vqh_read(h, HK_MMIO_QUEUE_NUM_MAX), 0);
	assert_int_equal(vqh_read(h, HK_MMIO_QUEUE_READY), 0);
	vqh_write(h, HK_MMIO_QUEUE_SEL, UINT32_MAX);
	assert_int_equal(vqh_read(h, HK_MMIO_QUEUE_NUM_MAX), 0);
}

/* All that is no register, or not to be read, or read in another width: zero, and no effect. */
static void test_access_widths(void **state)
{
	struct vqh *h = &((struct fixture *)*state)->h;
	static const unsigned widths[] = {1, 2, 4, 8};

	for (unsigned offset = 0; offset < HK_MMIO_CONFIG; offset++) {
		for (unsigned i = 0; i < HK_ARRAY_SIZE(widths); i++) {
			if (widths[i] == 4 && offset % 4 == 0) {
				continue;
			}
			assert_int_equal(hk_mmio_regs_read(&h->regs, offset, widths[i]), 0);
			hk_mmio_regs_write(&h->regs, offset, widths[i], 0x0f0f);
		}
	}
	assert_int_equal(vqh_read(h, HK_MMIO_STATUS), 0);
	for (unsigned reg = HK_MMIO_QUEUE_DESC_LOW; reg < HK_MMIO_SHM_SEL; reg += 4) {
		assert_int_equal(vqh_read(h, reg), 0);
	}
}

static void test_features(void **state)
{
	struct fixture *f = *state;
	struct vqh *h = &f->h;
	const uint64_t base = HK_VIRTIO_F_VERSION_1;
	const struct {
		uint64_t features;
		bool accepted;
	} cases[] = {
		{base, true},
		{base | MOCK_FEATURE, true},
		{base | HK_VIRTIO_F_EVENT_IDX | HK_VIRTIO_F_INDIRECT_DESC, true},
		{0, false},
		{MOCK_FEATURE, false},
		{base | 1, false},                   /* of the device, not offered */
		{base | (UINT64_C(1) << 33), false}, /* ACCESS_PLATFORM */
		{base | (UINT64_C(1) << 34), false}, /* packed ring */
		{base | (UINT64_C(1) << 40), false}, /* ring reset */
		{base | (UINT64_C(1) << 63), false},
		{UINT64_MAX, false},
	};

	vqh_write(h, HK_MMIO_DEVICE_FEATURES_SEL, 0);
	assert_int_equal(vqh_read(h, HK_MMIO_DEVICE_FEATURES), MOCK_FEATURE | 3u << 28);
	vqh_write(h, HK_MMIO_DEVICE_FEATURES_SEL, 1);
	assert_int_equal(vqh_read(h, HK_MMIO_DEVICE_FEATURES), 1);
	vqh_write(h, HK_MMIO_DEVICE_FEATURES_SEL, 2);
	assert_int_equal(vqh_read(h, HK_MMIO_DEVICE_FEATURES), 0);
	for (size_t i = 0; i < HK_ARRAY_SIZE(cases); i++) {
		uint64_t features = cases[i].features;

		vqh_write(h, HK_MMIO_STATUS, 0);
		vqh_write(h, HK_MMIO_STATUS, ACK | DRIVER);
		for (uint32_t sel = 0; sel < 2; sel++) {
			vqh_write(h, HK_MMIO_DRIVER_FEATURES_SEL, sel);
			vqh_write(h, HK_MMIO_DRIVER_FEATURES, (uint32_t)(features >> (32 * sel)));
		}
		vqh_write(h, HK_MMIO_DRIVER_FEATURES_SEL, 2);
		vqh_write(h, HK_MMIO_DRIVER_FEATURES, UINT32_MAX); /* no such bits: ignored */
		vqh_write(h, HK_MMIO_STATUS, ACK | DRIVER | FEATURES_OK);
		if ((vqh_read(h, HK_MMIO_STATUS) == (ACK | DRIVER | FEATURES_OK)) !=
			cases[i].accepted) {
			fail_msg("case %zu", i);
		}
		assert_int_equal(f->mock.dev.features, cases[i].accepted ? features : 0);
	}
	/* Settled: later writes change nothing. */
	assert_true(vqh_negotiate(h, 0));
	vqh_write(h, HK_MMIO_DRIVER_FEATURES, UINT32_MAX);
	assert_int_equal(f->mock.dev.features, base);
}

/* A sequence of writes to Status, each with what is then read. Ends at a write of 0, a reset. */
static void test_status_walk(void **state)
{
	struct fixture *f = *state;
	struct vqh *h = &f->h;
	static const struct {
		uint32_t writes[6];
		uint32_t reads[6];
		unsigned activated;
	} cases[] = {
		{{ACK, ACK | DRIVER, 11, 15}, {1, 3, 11, 15}, 1},
		{{15}, {15}, 1},                             /* all at once, in order */
		{{ACK, ACK | DRIVER, 7}, {1, 3, 3}, 0},      /* DRIVER_OK without FEATURES_OK */
		{{ACK, ACK | FEATURES_OK}, {1, 1}, 0},       /* without DRIVER */
		{{DRIVER, DRIVER | FEATURES_OK}, {2, 2}, 0}, /* without ACKNOWLEDGE */
		{{DRIVER_OK, FEATURES_OK}, {0, 0}, 0},
		{{15, 15, 15}, {15, 15, 15}, 1},                    /* once is enough */
		{{15, 11, 3, 1}, {15, 15, 15, 15}, 1},              /* no way back */
		{{ACK | FAILED, 15 | FAILED}, {129, 143}, 1},       /* its own affair */
		{{NEEDS_RESET | 0x30, NEEDS_RESET | 1}, {0, 1}, 0}, /* not the driver's to set */
		{{UINT32_MAX}, {143}, 1},
	};

	for (size_t i = 0; i < HK_ARRAY_SIZE(cases); i++) {
		vqh_write(h, HK_MMIO_STATUS, 0);
		vqh_write(h, HK_MMIO_DRIVER_FEATURES_SEL, 1);
		vqh_write(h, HK_MMIO_DRIVER_FEATURES, 1);
		f->mock.activated = 0;
		for (unsigned n = 0; cases[i].writes[n] != 0; n++) {
			vqh_write(h, HK_MMIO_STATUS, cases[i].writes[n]);
			if (vqh_read(h, HK_MMIO_STATUS) != cases[i].reads[n]) {
				fail_msg("case %zu, step %u: %#x", i, n,
					vqh_read(h, HK_MMIO_STATUS));
			}
		}
		assert_int_equal(f->mock.activated, cases[i].activated);
	}
}

static void test_activation_fails(void **state)
{
	struct fixture *f = *state;

	f->mock.activate_rc = -ENOMEM;
	assert_true(vqh_negotiate(&f->h, 0));
	vqh_driver_ok(&f->h);
	assert_int_equal(vqh_read(&f->h, HK_MMIO_STATUS), 15 | NEEDS_RESET);
	assert_int_equal(vqh_read(&f->h, HK_MMIO_INTERRUPT_STATUS), HK_MMIO_ISR_CONFIG);
	vqh_kick(&f->h, 0);
	assert_int_equal(f->mock.kicked[0], 0);
	f->mock.activate_rc = 0;
	start(f);
	assert_int_equal(vqh_read(&f->h, HK_MMIO_STATUS), 15);
}

static void test_bad_queue(void **state)
{
	struct fixture *f = *state;
	static const struct {
		uint32_t size, desc_low, desc_high, avail_low, used_low;
	} cases[] = {
		{0, 0x1000, 0, 0x2000, 0x3000},
		{QUEUE_SIZE * 2, 0x1000, 0, 0x2000, 0x3000}, /* more than QueueNumMax */
		{0x10000 + QUEUE_SIZE, 0x1000, 0, 0x2000, 0x3000},
		{48, 0x1000, 0, 0x2000, 0x3000},
		{QUEUE_SIZE, 0x1001, 0, 0x2000, 0x3000},
		{QUEUE_SIZE, 0x1000, 1, 0x2000, 0x3000}, /* beyond RAM by its high half */
		{QUEUE_SIZE, 0x1000, 0, 0xfec00000, 0x3000},
		{QUEUE_SIZE, 0x1000, 0, 0x2000, 0x3fffffc},
	};

	for (size_t i = 0; i < HK_ARRAY_SIZE(cases); i++) {
		struct vqh *h = &f->h;

		assert_true(vqh_negotiate(h, 0));
		vqh_write(h, HK_MMIO_QUEUE_SEL, 0);
		vqh_write(h, HK_MMIO_QUEUE_NUM, cases[i].size);
		vqh_write(h, HK_MMIO_QUEUE_DESC_LOW, cases[i].desc_low);
		vqh_write(h, HK_MMIO_QUEUE_DESC_HIGH, cases[i].desc_high);
		vqh_write(h, HK_MMIO_QUEUE_DRIVER_LOW, cases[i].avail_low);
		vqh_write(h, HK_MMIO_QUEUE_DEVICE_LOW, cases[i].used_low);
		vqh_write(h, HK_MMIO_QUEUE_READY, 1);
		if (vqh_read(h, HK_MMIO_QUEUE_READY) != 0 || !vqh_needs_reset(h)) {
			fail_msg("case %zu", i);
		}
		f->mock.activated = 0;
		vqh_driver_ok(h);
		assert_int_equal(f->mock.activated, 0); /* nothing to start */
		vqh_kick(h, 0);
		assert_int_equal(f->mock.kicked[0], 0);
	}
}

static void test_queue_registers_close(void **state)
{
	struct fixture *f = *state;
	struct hk_virtq before;
	static const unsigned regs[] = {HK_MMIO_QUEUE_NUM, HK_MMIO_QUEUE_READY,
		HK_MMIO_QUEUE_DESC_LOW, HK_MMIO_QUEUE_DESC_HIGH, HK_MMIO_QUEUE_DRIVER_LOW,
		HK_MMIO_QUEUE_DRIVER_HIGH, HK_MMIO_QUEUE_DEVICE_LOW, HK_MMIO_QUEUE_DEVICE_HIGH};

	/* Ready: closed but for QueueReady, which opens it again. */
	assert_true(vqh_negotiate(&f->h, 0));
	vqh_setup_queue(&f->h, 0, 8);
	before = f->mock.dev.queues[0].vq;
	for (size_t i = 0; i < HK_ARRAY_SIZE(regs); i++) {
		vqh_write(&f->h, regs[i], 16);
	}
	assert_memory_equal(&before, &f->mock.dev.queues[0].vq, sizeof(before));
	vqh_write(&f->h, HK_MMIO_QUEUE_READY, 0);
	assert_int_equal(vqh_read(&f->h, HK_MMIO_QUEUE_READY), 0);
	vqh_write(&f->h, HK_MMIO_QUEUE_NUM, 4);
	assert_int_equal(f->mock.dev.queues[0].vq.size, 4);

	/* DRIVER_OK: closed. */
	start(f);
	vqh_write(&f->h, HK_MMIO_QUEUE_SEL, 0);
	before = f->mock.dev.queues[0].vq;
	for (size_t i = 0; i < HK_ARRAY_SIZE(regs); i++) {
		vqh_write(&f->h, regs[i], 0);
	}
	assert_memory_equal(&before, &f->mock.dev.queues[0].vq, sizeof(before));
}

static void test_work_and_interrupts(void **state)
{
	struct fixture *f = *state;
	struct vqh *h = &f->h;
	struct vqd_used used;
	hk_gpa gpa;

	start(f);
	gpa = vqh_alloc(h, 64);
	vqh_kick(h, QUEUES); /* no such queue */
	vqh_kick(h, UINT32_MAX);
	assert_int_equal(f->mock.kicked[0] + f->mock.kicked[1], 0);
	vqd_add(&h->queues[1], (struct vqd_buf[]){{gpa, 64, true}}, 1, 9);
	vqh_kick(h, 1);
	assert_int_equal(f->mock.kicked[1], 1);
	assert_int_equal(h->interrupts, 1);
	assert_true(vqd_take(&h->queues[1], &used));
	assert_int_equal(used.token, 9);
	assert_int_equal(used.len, 64);

	hk_virtio_config_changed(&f->mock.dev);
	assert_int_equal(vqh_read(h, HK_MMIO_INTERRUPT_STATUS), 3);
	vqh_write(h, HK_MMIO_INTERRUPT_ACK, 1);
	assert_int_equal(vqh_read(h, HK_MMIO_INTERRUPT_STATUS), 2);
	vqh_write(h, HK_MMIO_INTERRUPT_ACK, UINT32_MAX);
	assert_int_equal(vqh_read(h, HK_MMIO_INTERRUPT_STATUS), 0);
}

/* A driver that refills as fast as it is served gets no more than a queue's length at a time. */
static void test_turns(void **state)
{
	struct fixture *f = *state;
	struct vqh *h = &f->h;
	hk_gpa gpa;

	start(f);
	gpa = vqh_alloc(h, 64);
	for (unsigned i = 0; i < 8; i++) {
		vqd_add(&h->queues[1], (struct vqd_buf[]){{gpa, 64, true}}, 1, i);
	}
	hk_mmio_regs_kick(&h->regs, 1);
	assert_int_equal(atomic_load(&h->again), 1u << 1);
	assert_int_equal(f->mock.dev.queues[1].vq.next_used, 8);
	assert_int_equal(h->interrupts, 1);
	vqh_kick(h, 1);
	assert_int_equal(atomic_load(&h->again), 0);
}

static void test_broken_queue_needs_reset(void **state)
{
	struct fixture *f = *state;
	struct vqh *h = &f->h;

	start(f);
	vqd_raw_avail_idx(&h->queues[0], 1000);
	vqh_kick(h, 0);
	assert_true(vqh_needs_reset(h));
	assert_int_equal(h->config_changes, 1);
	assert_int_equal(vqh_read(h, HK_MMIO_INTERRUPT_STATUS), HK_MMIO_ISR_CONFIG);
	vqh_kick(h, 0);
	vqh_kick(h, 1);
	assert_int_equal(f->mock.kicked[0], 1); /* nothing more, for none of its queues */
	assert_int_equal(f->mock.kicked[1], 0);
	assert_int_equal(h->config_changes, 1);
	/* A driver that writes back what it read does not end the state, a reset does. */
	vqh_write(h, HK_MMIO_STATUS, vqh_read(h, HK_MMIO_STATUS));
	assert_true(vqh_needs_reset(h));
	start(f);
	assert_false(vqh_needs_reset(h));
	vqh_kick(h, 0);
	assert_int_equal(f->mock.kicked[0], 2);
}

static void test_reset(void **state)
{
	struct fixture *f = *state;
	unsigned resets;

	start(f);
	hk_virtio_config_changed(&f->mock.dev);
	resets = f->mock.resets;
	vqh_write(&f->h, HK_MMIO_STATUS, 0);
	assert_int_equal(f->mock.resets, resets + 1);
	assert_int_equal(vqh_read(&f->h, HK_MMIO_STATUS), 0);
	assert_int_equal(vqh_read(&f->h, HK_MMIO_INTERRUPT_STATUS), 0);
	assert_int_equal(f->mock.dev.features, 0);
	for (unsigned i = 0; i < QUEUES; i++) {
		vqh_write(&f->h, HK_MMIO_QUEUE_SEL, i);
		assert_int_equal(vqh_read(&f->h, HK_MMIO_QUEUE_READY), 0);
		assert_int_equal(f->mock.dev.queues[i].vq.size, 0);
		vqh_kick(&f->h, i);
		assert_int_equal(f->mock.kicked[i], 0);
	}
}

static void test_config_space(void **state)
{
	struct fixture *f = *state;
	struct vqh *h = &f->h;
	uint32_t generation = vqh_read(h, HK_MMIO_CONFIG_GENERATION);

	assert_int_equal(vqh_config(h, 0, 1), 0x10);
	assert_int_equal(vqh_config(h, 1, 2), 0x1211);
	assert_int_equal(vqh_config(h, 0, 4), 0x13121110);
	assert_int_equal(vqh_config(h, 2, 8), 0x1918171615141312);
	assert_int_equal(vqh_config(h, 9, 1), 0x19);
	/* Over the edge, in whole or in part. */
	assert_int_equal(vqh_config(h, 9, 2), 0);
	assert_int_equal(vqh_config(h, 3, 8), 0);
	assert_int_equal(vqh_config(h, CONFIG_LEN, 1), 0);
	assert_int_equal(vqh_config(h, 0xeff, 1), 0);
	assert_int_equal(vqh_config(h, UINT32_MAX - HK_MMIO_CONFIG, 8), 0);
	vqh_write_config(h, 4, 2, 0xbeef);
	assert_int_equal(vqh_config(h, 4, 4), 0x1716beef);
	vqh_write_config(h, 9, 2, 0xffff);
	assert_int_equal(vqh_config(h, 9, 1), 0x19);
	vqh_write_config(h, CONFIG_LEN, 8, UINT64_MAX);

	assert_int_equal(vqh_read(h, HK_MMIO_CONFIG_GENERATION), generation);
	hk_virtio_config_changed(&f->mock.dev);
	assert_int_not_equal(vqh_read(h, HK_MMIO_CONFIG_GENERATION), generation);
}

static void test_shm(void **state)
{
	struct fixture *f = *state;
	struct vqh *h = &f->h;
	const struct hk_mem_region window = {
		.kind = HK_REGION_WINDOW, .gpa = 0x1234567000, .len_bytes = 0x280000000};

	f->mock.dev.shm[1].window = &window;
	vqh_write(h, HK_MMIO_SHM_SEL, 1);
	assert_int_equal(vqh_read(h, HK_MMIO_SHM_LEN_LOW), 0x80000000);
	assert_int_equal(vqh_read(h, HK_MMIO_SHM_LEN_HIGH), 2);
	assert_int_equal(vqh_read(h, HK_MMIO_SHM_BASE_LOW), 0x34567000);
	assert_int_equal(vqh_read(h, HK_MMIO_SHM_BASE_HIGH), 0x12);
	for (uint32_t i = 0; i < 3; i++) {
		static const uint32_t absent[] = {0, HK_VIRTIO_MAX_SHM, UINT32_MAX};

		vqh_write(h, HK_MMIO_SHM_SEL, absent[i]);
		assert_int_equal(vqh_read(h, HK_MMIO_SHM_LEN_LOW), UINT32_MAX);
		assert_int_equal(vqh_read(h, HK_MMIO_SHM_LEN_HIGH), UINT32_MAX);
		assert_int_equal(vqh_read(h, HK_MMIO_SHM_BASE_LOW), UINT32_MAX);
		assert_int_equal(vqh_read(h, HK_MMIO_SHM_BASE_HIGH), UINT32_MAX);
	}
	f->mock.dev.shm[1].window = NULL;
}

/* At each step of the driver's walk: saved, restored into another device, and on it goes. */
static void test_move_at_each_step(void **state)
{
	struct fixture *f = *state;
	struct vqh *h = &f->h;
	struct mock *now = &f->mock, *next = &f->other, *swap;
	struct vqd_used used;
	hk_gpa gpa;

#define MOVE() \
	do { \
		now->state++; \
		assert_true(vqh_move(h, &next->dev)); \
		assert_int_equal(next->state, now->state); \
		swap = now; \
		now = next; \
		next = swap; \
	} while (0)

	MOVE();
	assert_true(vqh_negotiate(h, MOCK_FEATURE | HK_VIRTIO_F_INDIRECT_DESC));
	MOVE();
	assert_true(hk_virtio_has(&now->dev, MOCK_FEATURE));
	vqh_write(h, HK_MMIO_QUEUE_SEL, 1);
	vqh_write(h, HK_MMIO_QUEUE_NUM, 4);
	MOVE();
	assert_int_equal(now->dev.queues[1].vq.size, 4);
	vqh_setup_queue(h, 0, 16);
	vqh_setup_queue(h, 1, 16);
	MOVE();
	assert_int_equal(vqh_read(h, HK_MMIO_QUEUE_READY), 1);
	vqh_driver_ok(h);
	assert_int_equal(now->activated, 1);
	gpa = vqh_alloc(h, 64);
	vqd_add(&h->queues[0], (struct vqd_buf[]){{gpa, 8, false}, {gpa + 8, 8, true}}, 2, 77);
	MOVE(); /* a buffer waits, its kick is nowhere */
	assert_int_equal(now->activated, 0);
	assert_true(vqd_take(&h->queues[0], &used));
	assert_int_equal(used.token, 77);
	assert_int_equal(vqh_read(h, HK_MMIO_INTERRUPT_STATUS), HK_MMIO_ISR_USED);
	MOVE(); /* an interrupt that nobody acknowledged */
	assert_int_equal(vqh_read(h, HK_MMIO_INTERRUPT_STATUS), HK_MMIO_ISR_USED);
	assert_int_equal(vqh_read(h, HK_MMIO_STATUS), 15);
	hk_virtio_fail(&now->dev, "test");
	MOVE();
	assert_true(vqh_needs_reset(h));
}

static void save(struct vqh *h, struct hk_writer *w)
{
	*w = (struct hk_writer){0};
	vqh_save(h, w);
	assert_int_equal(w->error, 0);
}

/* Each byte of a snapshot changed, and each length of it: refused, or a state that can be; never
 * worse. */
static void test_restore_checks(void **state)
{
	struct fixture *f = *state;
	struct vqh *h = &f->h;
	struct mock *now = &f->mock, *next = &f->other, *swap;
	struct hk_writer w;
	size_t refused = 0;

	start(f);
	save(h, &w);
	for (size_t i = 0; i < 4 * w.len; i++) {
		struct hk_reader r;
		uint8_t *byte = &w.data[i % w.len], saved = *byte;
		static const uint8_t flips[] = {0x01, 0x80, 0x12, 0xff};

		*byte ^= flips[i / w.len];
		hk_reader_init(&r, w.data, w.len);
		if (!vqh_restore(h, &next->dev, &r)) {
			refused++;
			assert_int_equal(vqh_read(h, HK_MMIO_STATUS), 0);
			assert_int_equal(next->dev.features, 0);
		}
		*byte = saved;
		swap = now;
		now = next;
		next = swap;
	}
	assert_true(refused > w.len);
	for (size_t len = 0; len < w.len; len++) {
		struct hk_reader r;

		hk_reader_init(&r, w.data, len);
		assert_false(vqh_restore(h, &next->dev, &r));
		swap = now;
		now = next;
		next = swap;
	}
	hk_writer_finish(&w);
}

/* States that no driver can bring about. */
static void test_restore_of_the_impossible(void **state)
{
	struct fixture *f = *state;
	struct vqh *h = &f->h;
	const uint32_t all = 15;

	for (int i = 0;; i++) {
		struct hk_writer w;
		struct hk_reader r;

		vqh_finish(h);
		vqh_attach(h, &f->mock.dev, NULL);
		start(f);
		switch (i) {
		case 0:
			h->regs.status = all & ~(uint32_t)FEATURES_OK;
			break;
		case 1:
			h->regs.status = ACK;
			break;
		case 2:
			h->regs.status |= 0x100;
			break;
		case 3:
			f->mock.dev.features &= ~HK_VIRTIO_F_VERSION_1;
			break;
		case 4:
			f->mock.dev.features |= 1;
			break;
		case 5:
			f->mock.dev.queues[1].vq.size = 32; /* more than its size_max */
			break;
		case 6:
			atomic_store(&h->regs.isr, 4);
			break;
		default:
			return;
		}
		save(h, &w);
		hk_reader_init(&r, w.data, w.len);
		if (vqh_restore(h, &f->other.dev, &r)) {
			fail_msg("case %d", i);
		}
		hk_writer_finish(&w);
	}
}

/* vCPUs that work, reset and read, all at once; the mock asserts that it is not kicked while reset.
 */
enum { RACE_ROUNDS = 2000 };

static void *race_kicks(void *arg)
{
	struct vqh *h = arg;

	for (unsigned i = 0; i < 4 * RACE_ROUNDS; i++) {
		vqh_kick(h, i % 3);
		(void)vqh_read(h, HK_MMIO_INTERRUPT_STATUS);
		vqh_write(h, HK_MMIO_INTERRUPT_ACK, 3);
	}
	return NULL;
}

static void *race_config(void *arg)
{
	struct vqh *h = arg;

	for (unsigned i = 0; i < 4 * RACE_ROUNDS; i++) {
		hk_virtio_config_changed(h->dev);
		(void)vqh_config(h, 0, 8);
		(void)vqh_read(h, HK_MMIO_CONFIG_GENERATION);
		if (i % 64 == 0) {
			hk_virtio_fail(h->dev, "test");
		}
	}
	return NULL;
}

static void test_racing_vcpus(void **state)
{
	struct fixture *f = *state;
	pthread_t threads[2];
	hk_gpa rewind = f->h.next_gpa;

	assert_int_equal(pthread_create(&threads[0], NULL, race_kicks, &f->h), 0);
	assert_int_equal(pthread_create(&threads[1], NULL, race_config, &f->h), 0);
	for (unsigned i = 0; i < RACE_ROUNDS; i++) {
		if (!vqh_negotiate(&f->h, 0)) {
			fail_msg("features refused");
		}
		f->h.next_gpa = rewind;
		vqh_setup_queue(&f->h, 0, 8);
		vqh_driver_ok(&f->h);
		vqh_write(&f->h, HK_MMIO_STATUS, 0);
	}
	pthread_join(threads[0], NULL);
	pthread_join(threads[1], NULL);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(test_##name, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(identity),
		TEST(access_widths),
		TEST(features),
		TEST(status_walk),
		TEST(activation_fails),
		TEST(bad_queue),
		TEST(queue_registers_close),
		TEST(work_and_interrupts),
		TEST(turns),
		TEST(broken_queue_needs_reset),
		TEST(reset),
		TEST(config_space),
		TEST(shm),
		TEST(move_at_each_step),
		TEST(restore_checks),
		TEST(restore_of_the_impossible),
		TEST(racing_vcpus),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
