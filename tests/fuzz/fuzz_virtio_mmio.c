/* SPDX-License-Identifier: ISC */
/*
 * Fuzz target: the registers of virtio-mmio with a device behind them, and the input as its guest.
 *
 * The first byte picks the device: rng, console or balloon. The rest is a program of register
 * accesses, writes to guest memory, and what the host does meanwhile; one instruction brings a
 * device up as a driver would, so that the input need not find that by itself.
 */
#undef NDEBUG
#include <assert.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "base/bytes.h"
#include "base/util.h"
#include "virtio/balloon.h"
#include "virtio/console.h"
#include "virtio/mmio_regs.h"
#include "virtio/rng.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum {
	RING_GPA = 0x10000,
	RING_STRIDE = 0x4000, /* a queue's rings: descriptors, +0x2000 available, +0x3000 used */
	AREA_BYTES = 0x40000, /* rings and buffers, cleared for each input */
	QUEUE_SIZE = 32,
	MAX_STEPS = 2000,
};

struct input {
	const uint8_t *data;
	size_t left;
};

struct run {
	struct hk_virtio_transport transport;
	struct hk_mmio_regs regs;
	struct hk_virtio *dev;
	unsigned device;
	unsigned again;
	uint16_t avail_idx[HK_VIRTIO_MAX_QUEUES];
};

static struct hk_mem mem;

static uint64_t take(struct input *in, unsigned bytes)
{
	uint8_t raw[8] = {0};
	size_t got = HK_MIN((size_t)bytes, in->left);

	memcpy(raw, in->data, got);
	in->data += got;
	in->left -= got;
	return hk_load_le64(raw);
}

static void count_up(void *buf, size_t len)
{
	assert(len <= 4096);
	memset(buf, 0x77, len);
}

static void output(struct hk_console_owner *owner, const uint8_t *bytes, size_t len)
{
	volatile uint8_t touched = bytes[0];

	(void)owner;
	touched = bytes[len - 1];
	(void)touched;
}

static void release(struct hk_balloon_host *host, const struct hk_mem *in, hk_gpa gpa, uint64_t len)
{
	(void)host;
	assert(gpa % HK_PAGE_SIZE == 0 && len % HK_PAGE_SIZE == 0 && len > 0);
	assert(hk_mem_at(in, gpa, len) != NULL);
}

static struct hk_console_owner console_owner = {.output = output};
static struct hk_balloon_host balloon_host = {.release = release};

static void interrupt(struct hk_virtio_transport *transport, bool config_changed)
{
	hk_mmio_regs_raise(
		&hk_container_of(transport, struct run, transport)->regs, config_changed);
}

static void notify_later(struct hk_virtio_transport *transport, unsigned index)
{
	hk_container_of(transport, struct run, transport)->again |= 1u << index;
}

static void notify(struct hk_mmio_regs *regs, unsigned index)
{
	assert(index < regs->dev->queue_count);
	hk_mmio_regs_kick(regs, index);
}

static const struct hk_virtio_transport_ops transport_ops = {
	.name = "fuzz", .interrupt = interrupt, .notify = notify_later};
static const struct hk_mmio_regs_ops regs_ops = {.name = "fuzz", .notify = notify};

static void attach(struct run *run)
{
	int rc;

	switch (run->device % 3) {
	case 0:
		rc = hk_rng_create(count_up, &run->dev, NULL);
		break;
	case 1:
		rc = hk_console_create(&console_owner, &run->dev, NULL);
		break;
	default:
		rc = hk_balloon_create(&balloon_host, &run->dev, NULL);
		break;
	}
	assert(rc == 0);
	hk_mmio_regs_init(&run->regs, &regs_ops, run->dev);
	run->transport.ops = &transport_ops;
	run->dev->transport = &run->transport;
	run->dev->mem = &mem;
	for (unsigned i = 0; i < run->dev->queue_count; i++) {
		run->dev->queues[i].vq.mem = &mem;
	}
}

static void detach(struct run *run)
{
	hk_mmio_regs_write(&run->regs, HK_MMIO_STATUS, 4, 0);
	run->dev->transport = NULL;
	hk_virtio_destroy(run->dev);
}

static void write_reg(struct run *run, unsigned reg, uint32_t value)
{
	hk_mmio_regs_write(&run->regs, reg, 4, value);
}

static void store(hk_gpa gpa, uint64_t value, unsigned bytes)
{
	uint8_t raw[8];

	hk_store_le64(raw, value);
	(void)hk_mem_write(&mem, gpa, raw, bytes);
}

static void bring_up(struct run *run, struct input *in)
{
	uint64_t features = take(in, 1) | take(in, 1) << 28 | HK_VIRTIO_F_VERSION_1;

	write_reg(run, HK_MMIO_STATUS, 0);
	write_reg(run, HK_MMIO_STATUS, 3);
	for (uint32_t sel = 0; sel < 2; sel++) {
		write_reg(run, HK_MMIO_DRIVER_FEATURES_SEL, sel);
		write_reg(run, HK_MMIO_DRIVER_FEATURES, (uint32_t)(features >> (32 * sel)));
	}
	write_reg(run, HK_MMIO_STATUS, 11);
	for (uint32_t i = 0; i < run->dev->queue_count; i++) {
		uint32_t gpa = RING_GPA + i * RING_STRIDE;

		write_reg(run, HK_MMIO_QUEUE_SEL, i);
		write_reg(run, HK_MMIO_QUEUE_NUM, QUEUE_SIZE);
		write_reg(run, HK_MMIO_QUEUE_DESC_LOW, gpa);
		write_reg(run, HK_MMIO_QUEUE_DRIVER_LOW, gpa + 0x2000);
		write_reg(run, HK_MMIO_QUEUE_DEVICE_LOW, gpa + 0x3000);
		write_reg(run, HK_MMIO_QUEUE_READY, 1);
		run->avail_idx[i] = 0;
		store(gpa + 0x2000, 0, 4);
		store(gpa + 0x3000, 0, 4);
	}
	write_reg(run, HK_MMIO_STATUS, 15);
}

/* A chain of one or two buffers on a queue, then its notification. */
static void add_buffer(struct run *run, struct input *in)
{
	unsigned index = (unsigned)(take(in, 1) % run->dev->queue_count);
	hk_gpa ring = RING_GPA + index * RING_STRIDE;
	unsigned head = (unsigned)(take(in, 1) % QUEUE_SIZE);
	uint16_t flags = (uint16_t)take(in, 1);

	for (unsigned i = 0; i < 2; i++) {
		hk_gpa desc = ring + 16 * ((head + i) % QUEUE_SIZE);

		store(desc, take(in, 4) % (33 * HK_MIB), 8);
		store(desc + 8, take(in, 3), 4);
		store(desc + 12, (i == 0 ? flags : flags >> 4) & 7, 2);
		store(desc + 14, (head + i + 1) % QUEUE_SIZE, 2);
	}
	store(ring + 0x2004 + 2 * (run->avail_idx[index] % QUEUE_SIZE), head, 2);
	store(ring + 0x2002, ++run->avail_idx[index], 2);
	write_reg(run, HK_MMIO_QUEUE_NOTIFY, index);
}

static void host_acts(struct run *run, struct input *in)
{
	uint8_t bytes[256] = {0};
	struct hk_balloon_stats stats;

	switch (run->device % 3) {
	case 1:
		(void)hk_console_input(run->dev, bytes, (size_t)take(in, 1));
		hk_console_resize(run->dev, (uint16_t)take(in, 1), 1);
		break;
	case 2:
		hk_balloon_set_target(run->dev, take(in, 4));
		(void)hk_balloon_stats(run->dev, &stats);
		(void)hk_balloon_hint_start(run->dev);
		(void)hk_balloon_actual(run->dev);
		break;
	default:
		break;
	}
}

/* Saved, and restored into a new device, with one byte changed if the input says so. */
static void move(struct run *run, struct input *in)
{
	struct hk_writer w = {0};
	struct hk_reader r;
	uint8_t flip = (uint8_t)take(in, 1);
	size_t at = (size_t)take(in, 2);

	pthread_mutex_lock(&run->dev->lock);
	hk_mmio_regs_save(&run->regs, &w);
	pthread_mutex_unlock(&run->dev->lock);
	assert(w.error == 0);
	w.data[at % w.len] ^= flip;
	detach(run);
	attach(run);
	hk_reader_init(&r, w.data, w.len);
	pthread_mutex_lock(&run->dev->lock);
	hk_mmio_regs_restore(&run->regs, &r);
	pthread_mutex_unlock(&run->dev->lock);
	assert(flip != 0 || r.error == 0);
	hk_writer_finish(&w);
}

static void step(struct run *run, struct input *in)
{
	static const unsigned widths[] = {1, 2, 4, 8};
	unsigned op = (unsigned)take(in, 1);
	unsigned width = op & 0x40 ? 4 : widths[op >> 4 & 3];
	uint64_t offset;

	switch (op % 16) {
	case 0:
	case 1:
		bring_up(run, in);
		break;
	case 2:
	case 3:
	case 4:
	case 5:
		add_buffer(run, in);
		break;
	case 6:
	case 7:
		offset = take(in, 2) % 0x200 & ~(uint64_t)(width - 1);
		(void)hk_mmio_regs_read(&run->regs, offset, width);
		break;
	case 8:
	case 9:
	case 10:
		offset = take(in, 2) % 0x200 & ~(uint64_t)(width - 1);
		hk_mmio_regs_write(&run->regs, offset, width, take(in, width));
		break;
	case 11:
		store(RING_GPA + take(in, 3) % AREA_BYTES, take(in, 8), 8);
		break;
	case 12:
		host_acts(run, in);
		break;
	case 13:
		move(run, in);
		break;
	default:
		write_reg(run, HK_MMIO_QUEUE_NOTIFY, (uint32_t)take(in, 1));
		break;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input in = {.data = data, .left = size};
	struct run run = {0};

	if (mem.ram == NULL) {
		assert(hk_mem_create(&mem, 32 * HK_MIB, NULL) == 0);
	}
	memset(hk_mem_at(&mem, RING_GPA, AREA_BYTES), 0, AREA_BYTES);
	run.device = (unsigned)take(&in, 1);
	attach(&run);
	for (unsigned steps = 0; in.left > 0 && steps < MAX_STEPS; steps++) {
		step(&run, &in);
	}
	detach(&run);
	return 0;
}
