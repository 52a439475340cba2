/* SPDX-License-Identifier: ISC */
/*
 * The virtio-fs device against a hostile driver: FUSE requests of any bytes, in chains of any
 * shape. What the requests mean is fuzz_fuse's part; here it is how they come in and how replies go
 * out, by the device's own threads. Each chain comes back, with a reply that is one, or the device
 * needs a reset. The input is a script: bytes that pick what happens next, and its arguments.
 */
#include <errno.h>
#include <linux/fuse.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#undef NDEBUG
#include <assert.h>

#include "../unit/virtq_driver.h"
#include "base/util.h"
#include "fuse/server.h"
#include "fuzz_dir.h"
#include "fuzz_input.h"
#include "virtio/fs.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { HIPRIO, REQUEST, QUEUES };
enum { AREA = 64 * 1024, MAX_STEPS = 60, MAX_PIECES = 4, MAX_BODY = 160, WAIT_MS = 10000 };

static char dir[64];
static struct hk_fuse_server *server;
static struct hk_virtio *dev;
static struct vqh h;
static hk_gpa in_area, out_area, rings;

static uint32_t take_length(struct fuzz_input *in)
{
	static const uint32_t notable[] = {0, 1, 15, 16, 17, 39, 40, 41, 80, 4095, 4096, 65535,
		65536, 1 << 20, INT32_MAX, UINT32_MAX};

	return take_number(in, notable, HK_ARRAY_SIZE(notable));
}

static void finish(void)
{
	fuzz_dir_empty(dir);
	rmdir(dir);
}

static void kick(unsigned queue)
{
	uint64_t one = 1;
	ssize_t n = write(dev->queues[queue].kick_fd, &one, sizeof(one));

	assert(n == sizeof(one));
}

/* Has the device come to the end of what it was offered, or given up? */
static bool is_done(const struct vqd *d)
{
	uint16_t used = hk_load_acquire((uint16_t *)vqh_at(&h, d->used_gpa + 2, 2));

	return used == d->avail_idx || vqh_needs_reset(&h);
}

static void wait_for(unsigned queue)
{
	const struct vqd *d = &h.queues[queue];

	for (unsigned i = 0; i < WAIT_MS * 20 && !is_done(d); i++) {
		usleep(i < 100 ? 0 : 50);
	}
	assert(is_done(d));
}

/* Sends a request that is whole, and waits for it. */
static void send_plain(uint32_t opcode, uint64_t nodeid, const void *body, uint32_t len)
{
	struct fuse_in_header head = {.len = (uint32_t)sizeof(head) + len,
		.opcode = opcode,
		.unique = 1,
		.nodeid = nodeid};
	uint8_t *bytes = vqh_at(&h, in_area, AREA);
	struct vqd_used used;

	memcpy(bytes, &head, sizeof(head));
	memcpy(bytes + sizeof(head), body, len);
	(void)vqd_add(&h.queues[REQUEST],
		(struct vqd_buf[]){{in_area, head.len, false}, {out_area, 4096, true}}, 2, 0);
	kick(REQUEST);
	wait_for(REQUEST);
	assert(vqd_take(&h.queues[REQUEST], &used) && used.len >= sizeof(struct fuse_out_header));
}

static void start_driver(void)
{
	struct fuse_init_in init = {.major = 7, .minor = 38};
	bool accepted;

	vqh_write(&h, HK_MMIO_STATUS, 0);
	accepted = vqh_negotiate(&h, HK_VIRTIO_F_EVENT_IDX | HK_VIRTIO_F_INDIRECT_DESC);
	assert(accepted);
	h.next_gpa = rings;
	for (unsigned i = 0; i < QUEUES; i++) {
		vqh_setup_queue(&h, i, 16);
	}
	vqh_driver_ok(&h);
	send_plain(FUSE_INIT, 0, &init, sizeof(init));
	send_plain(FUSE_LOOKUP, FUSE_ROOT_ID, "x", 2);
}

static void set_up(void)
{
	struct hk_fuse_export export = {.name = "x", .path = dir};
	struct hk_fs_config config = {.tag = "fuzz", .request_queues = 1, .threads = 2};
	int r;

	r = fuzz_dir_make(dir, sizeof(dir));
	assert(r == 0);
	atexit(finish);
	r = hk_fuse_server_create(NULL, &server, NULL);
	assert(r == 0);
	r = hk_fuse_server_export(server, &export, NULL);
	assert(r == 0);
	config.server = server;
	r = hk_fs_create(&config, &dev, NULL);
	assert(r == 0);
	for (unsigned i = 0; i < dev->queue_count; i++) {
		dev->queues[i].kick_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	}
	vqh_attach(&h, dev, NULL);
	in_area = vqh_alloc(&h, AREA);
	out_area = vqh_alloc(&h, AREA);
	rings = h.next_gpa;
	r = fuzz_dir_limit();
	assert(r == 0);
}

/* Cuts @len bytes at @gpa into up to MAX_PIECES. Return: how many. */
static unsigned cut(
	struct fuzz_input *in, hk_gpa gpa, uint32_t len, bool writable, struct vqd_buf *bufs)
{
	unsigned count = 0;

	while (len > 0 && count < MAX_PIECES) {
		uint32_t piece = count == MAX_PIECES - 1 ? len : HK_MIN(take_length(in), len);

		if (piece > 0) {
			bufs[count++] = (struct vqd_buf){gpa, piece, writable};
		} else {
			bufs[count++] = (struct vqd_buf){gpa, len, writable};
			piece = len;
		}
		gpa += piece;
		len -= piece;
	}
	return count;
}

static void check_reply(uint32_t used_len, uint32_t room, uint64_t unique)
{
	struct fuse_out_header head;

	assert(used_len <= room);
	if (used_len == 0) {
		return; /* it wants none, or there is no room for one */
	}
	assert(used_len >= sizeof(head));
	memcpy(&head, vqh_at(&h, out_area, sizeof(head)), sizeof(head));
	assert(head.len == used_len && head.unique == unique);
	assert(head.error <= 0 && head.error > -4096);
}

/* A request that is likely to mean something, in a chain of some shape. */
static void send_request(struct fuzz_input *in)
{
	struct fuse_in_header head = {.opcode = take8(in) % 64, .unique = take8(in)};
	struct vqd_buf bufs[2 * MAX_PIECES];
	unsigned queue = take8(in) % 8 == 0 ? HIPRIO : REQUEST;
	uint8_t *bytes = vqh_at(&h, in_area, AREA);
	uint32_t body = take8(in) % MAX_BODY;
	uint32_t room = take_length(in) % (AREA / 2);
	struct vqd_used used;
	unsigned count;

	/* Not the one that waits for the whole machine. */
	head.opcode = head.opcode == FUSE_SYNCFS ? FUSE_GETATTR : head.opcode;
	head.nodeid = take8(in) % 4 == 0 ? take_length(in) : UINT64_C(1) << 32 | take8(in) % 8;
	head.nodeid = take8(in) % 4 == 0 ? FUSE_ROOT_ID : head.nodeid;
	head.uid = take8(in) % 4 == 0 ? 65534 : 0;
	head.len = take8(in) % 8 == 0 ? take_length(in) : (uint32_t)sizeof(head) + body;
	memcpy(bytes, &head, sizeof(head));
	for (uint32_t i = 0; i < body; i++) {
		bytes[sizeof(head) + i] = take8(in);
	}
	count = cut(in, in_area, (uint32_t)sizeof(head) + body, false, bufs);
	count += cut(in, out_area, room, true, bufs + count);
	if (vqd_add(&h.queues[queue], bufs, count, 0) < 0) {
		return;
	}
	kick(queue);
	wait_for(queue);
	if (vqd_take(&h.queues[queue], &used)) {
		check_reply(used.len, room, head.unique);
	}
}

/* A chain that no driver would make. */
static void send_descriptors(struct fuzz_input *in)
{
	unsigned queue = take8(in) % QUEUES;
	struct vqd *d = &h.queues[queue];
	unsigned index = take8(in) % 16;

	for (unsigned i = take8(in) % 4 + 1; i > 0; i--) {
		vqd_raw_desc(d, take8(in) % 18,
			take8(in) % 8 == 0 ? (hk_gpa)take_length(in) << 12
					   : in_area + take_length(in) % AREA,
			take_length(in), take8(in) % 8, take8(in) % 20);
	}
	if (take8(in) % 16 == 0) {
		vqd_raw_avail_idx(d, (uint16_t)take_length(in));
	} else {
		vqd_raw_offer(d, (uint16_t)index);
	}
	kick(queue);
	/* What it makes of it is its affair; it must be there for the next driver. */
	usleep(take8(in) % 4 * 50);
	start_driver();
}

static void step(struct fuzz_input *in)
{
	switch (take8(in) % 16) {
	case 0:
		send_descriptors(in);
		break;
	case 1:
		pthread_mutex_lock(&dev->lock);
		dev->ops->quiesce(dev);
		dev->ops->resume(dev);
		pthread_mutex_unlock(&dev->lock);
		break;
	default:
		send_request(in);
		break;
	}
	if (vqh_needs_reset(&h)) {
		start_driver();
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fuzz_input in = {data, size};

	if (server == NULL) {
		set_up();
	}
	start_driver();
	for (unsigned i = 0; i < MAX_STEPS && in.size > 0; i++) {
		step(&in);
	}
	vqh_write(&h, HK_MMIO_STATUS, 0);
	return 0;
}
