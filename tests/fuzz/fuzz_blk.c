/* SPDX-License-Identifier: ISC */
/*
 * The blk device against a hostile driver. The input is a script of requests: their type, place and
 * the lengths of their segments; or raw descriptors. What the disk holds is checked against a copy.
 */
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#undef NDEBUG
#include <assert.h>

#include "../unit/virtq_driver.h"
#include "base/bytes.h"
#include "base/util.h"
#include "fuzz_input.h"
#include "virtio/blk.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { SECTOR = 512, DISK_SECTORS = 64, DISK_BYTES = DISK_SECTORS * SECTOR };
enum { AREA = 64 * 1024, MAX_STEPS = 200, MAX_BUFS = 20, QUEUE_SIZE = 32 };
enum { T_IN = 0, T_OUT = 1, S_OK = 0, S_UNSUPP = 2, S_NONE = 0xaa };

static struct hk_virtio *dev;
static struct vqh h;
static hk_gpa area, status_at, rings;
static uint8_t expected[DISK_BYTES];

static void start_driver(void)
{
	bool accepted;

	vqh_write(&h, HK_MMIO_STATUS, 0);
	/* All that is offered, so write-zeroes, discard and flush among it. */
	accepted =
		vqh_negotiate(&h, dev->offered | HK_VIRTIO_F_EVENT_IDX | HK_VIRTIO_F_INDIRECT_DESC);
	assert(accepted);
	h.next_gpa = rings;
	vqh_setup_queue(&h, 0, QUEUE_SIZE);
	vqh_driver_ok(&h);
}

static void set_up(void)
{
	struct hk_blk_config config = {.queue_count = 1, .serial = "fuzz"};
	int r = hk_blk_open_memory(DISK_BYTES, &config.backend, NULL);

	assert(r == 0);
	r = hk_blk_create(&config, &dev, NULL);
	assert(r == 0);
	vqh_attach(&h, dev, NULL);
	area = vqh_alloc(&h, AREA);
	status_at = vqh_alloc(&h, 1);
	rings = h.next_gpa;
}

static uint32_t take_len(struct fuzz_input *in)
{
	uint8_t how = take8(in);

	if (how < 64) {
		return how + 1;
	}
	return how < 192 ? (how % 8u + 1) * SECTOR : (uint32_t)(take64(in) % AREA) + 1;
}

/* Any chain of buffers in the area, its header at the front of it. */
static void send_chain(struct fuzz_input *in)
{
	struct vqd_buf bufs[MAX_BUFS];
	unsigned readable = take8(in) % (MAX_BUFS / 2), writable = take8(in) % (MAX_BUFS / 2);
	uint8_t *header = vqh_at(&h, area, 16);
	struct vqd_used used;

	hk_store_le32(header, take8(in) % 4 == 0 ? (uint32_t)take64(in) : take8(in) % 16);
	hk_store_le64(header + 8, take8(in) % 4 == 0 ? take64(in) : take8(in) % (DISK_SECTORS + 2));
	for (unsigned i = 0; i < readable + writable; i++) {
		uint32_t len = take_len(in);
		uint32_t offset = i == 0 ? 0 : (uint32_t)(take64(in) % AREA);

		bufs[i] = (struct vqd_buf){area + HK_MIN(offset, AREA - len), len, i >= readable};
	}
	if (readable + writable == 0 || vqd_add(&h.queues[0], bufs, readable + writable, 0) < 0) {
		return;
	}
	vqh_kick(&h, 0);
	/* Memory answers at once. */
	assert(vqd_take(&h.queues[0], &used) || vqh_needs_reset(&h));
}

/* A transfer in good order must do what it says. */
static void transfer(struct fuzz_input *in)
{
	uint32_t type = take8(in) % 2 == 0 ? T_IN : T_OUT;
	uint64_t sector = take8(in) % DISK_SECTORS;
	uint32_t len = (uint32_t)(take8(in) % (DISK_SECTORS - sector) + 1) * SECTOR;
	uint8_t *header = vqh_at(&h, area, 16);
	uint8_t *data = vqh_at(&h, area + 4096, DISK_BYTES);
	uint8_t *status = vqh_at(&h, status_at, 1);
	uint32_t cut = take8(in) * 100u + 1;
	uint32_t first = HK_MIN(cut, len);
	struct vqd_buf bufs[] = {
		{area, 16, false},
		{area + 4096, first, type == T_IN},
		{area + 4096 + first, len - first, type == T_IN},
		{status_at, 1, true},
	};
	unsigned count = 4;
	struct vqd_used used;
	bool came;

	if (first == len) {
		bufs[2] = bufs[3];
		count = 3;
	}
	hk_store_le32(header, type);
	hk_store_le64(header + 8, sector);
	*status = S_NONE;
	if (type == T_OUT) {
		memset(data, take8(in), len);
		memcpy(expected + sector * SECTOR, data, len);
	}
	if (vqd_add(&h.queues[0], bufs, count, 0) < 0) {
		return;
	}
	vqh_kick(&h, 0);
	came = vqd_take(&h.queues[0], &used);
	assert(came && *status == S_OK);
	if (type == T_IN) {
		assert(memcmp(data, expected + sector * SECTOR, len) == 0);
	}
}

/* After requests whose effect nobody has worked out: take the disk as it is. */
static void read_back(void)
{
	uint8_t *header = vqh_at(&h, area, 16);
	struct vqd_buf bufs[] = {
		{area, 16, false}, {area + 4096, DISK_BYTES, true}, {status_at, 1, true}};
	struct vqd_used used;
	int r;

	hk_store_le32(header, T_IN);
	hk_store_le64(header + 8, 0);
	r = vqd_add(&h.queues[0], bufs, 3, 0);
	assert(r >= 0);
	vqh_kick(&h, 0);
	assert(vqd_take(&h.queues[0], &used) && used.len == DISK_BYTES + 1);
	memcpy(expected, vqh_at(&h, area + 4096, DISK_BYTES), DISK_BYTES);
}

static void write_descriptors(struct fuzz_input *in)
{
	struct vqd *d = &h.queues[0];

	for (unsigned i = take8(in) % 8 + 1; i > 0; i--) {
		vqd_raw_desc(d, take8(in) % 8,
			take8(in) % 8 == 0 ? take64(in) : area + take64(in) % AREA, take_len(in),
			take8(in) % 8, take8(in) % 9);
	}
	vqd_raw_offer(d, take8(in) % 9);
	vqh_kick(&h, 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fuzz_input in = {data, size};
	bool known = false;

	if (dev == NULL) {
		set_up();
	}
	start_driver();
	for (unsigned i = 0; i < MAX_STEPS && in.size > 0; i++) {
		switch (take8(&in) % 4) {
		case 0:
		case 1:
			send_chain(&in);
			known = false;
			break;
		case 2:
			write_descriptors(&in);
			known = false;
			/* The driver's own books are wrong now. */
			start_driver();
			break;
		default:
			if (!known) {
				start_driver();
				read_back();
				known = true;
			}
			transfer(&in);
			break;
		}
		if (vqh_needs_reset(&h)) {
			start_driver();
		}
	}
	return 0;
}
