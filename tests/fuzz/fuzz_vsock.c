/* SPDX-License-Identifier: ISC */
/*
 * The vsock device against a hostile driver and moody host ends. The input is a script: bytes that
 * pick what happens next, and its arguments.
 */
#include <fcntl.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#undef NDEBUG
#include <assert.h>

#include "../unit/virtq_driver.h"
#include "base/bytes.h"
#include "base/cleanup.h"
#include "base/util.h"
#include "fuzz_input.h"
#include "virtio/vsock.h"
#include "virtio/vsock_core.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { RX, TX, EVENT, QUEUES };
enum { LISTEN_PORT = 50, MAX_FDS = 16, AREA = 64 * 1024, MAX_STEPS = 400 };

static struct hk_loop *loop;
static struct hk_vsock *vsock;
static struct hk_virtio *dev;
static struct vqh h;
static hk_gpa area, rings;
static struct hk_vsock_listener listener;
static struct hk_vsock_connect connects[MAX_FDS];
static bool connecting[MAX_FDS];
static int fds[MAX_FDS];

static uint32_t take_length(struct fuzz_input *in)
{
	static const uint32_t notable[] = {0, 1, 43, 44, 45, 4095, 4096, 65535, 65536, 262143,
		262144, 262145, INT32_MAX, UINT32_MAX};

	return take_number(in, notable, HK_ARRAY_SIZE(notable));
}

static int accept_any(struct hk_vsock_listener *self, uint32_t guest_port)
{
	int pair[2], slot = (int)(guest_port % MAX_FDS);

	(void)self;
	if (guest_port % 7 == 6 ||
		socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) < 0) {
		return -EACCES;
	}
	hk_close(&fds[slot]);
	fds[slot] = pair[0];
	return pair[1];
}

static void connect_done(struct hk_vsock_connect *connect, int error)
{
	size_t slot = (size_t)(connect - connects);

	(void)error;
	assert(connecting[slot]);
	connecting[slot] = false;
}

static void start_driver(void)
{
	bool accepted;

	vqh_write(&h, HK_MMIO_STATUS, 0);
	accepted = vqh_negotiate(&h, HK_VIRTIO_F_EVENT_IDX | HK_VIRTIO_F_INDIRECT_DESC);
	assert(accepted);
	h.next_gpa = rings;
	for (unsigned i = 0; i < QUEUES; i++) {
		vqh_setup_queue(&h, i, 16);
	}
	vqh_driver_ok(&h);
}

static void set_up(void)
{
	static const struct hk_vsock_listener_ops ops = {.name = "any", .accept = accept_any};
	int r;

	signal(SIGPIPE, SIG_IGN);
	r = hk_loop_create(&loop, NULL);
	assert(r == 0);
	r = hk_vsock_create(loop, &vsock, &dev, NULL);
	assert(r == 0);
	vqh_attach(&h, dev, loop);
	area = vqh_alloc(&h, AREA);
	rings = h.next_gpa;
	listener = (struct hk_vsock_listener){.ops = &ops, .port = LISTEN_PORT};
	r = hk_vsock_listen(vsock, &listener);
	assert(r == 0);
	for (unsigned i = 0; i < MAX_FDS; i++) {
		fds[i] = -1;
		connects[i].done = connect_done;
	}
}

static void offer(unsigned queue, const struct vqd_buf *bufs, unsigned count)
{
	(void)vqd_add(&h.queues[queue], bufs, count, 0);
	vqh_kick(&h, queue);
}

/* A packet that is likely to mean something. */
static void send_packet(struct fuzz_input *in)
{
	struct hk_vsock_hdr hdr = {
		.src_cid = HK_VSOCK_GUEST_CID,
		.dst_cid = HK_VSOCK_HOST_CID,
		.type = HK_VSOCK_STREAM,
		.op = take8(in) % (HK_VSOCK_OP_COUNT + 1),
	};
	uint32_t payload;

	hdr.src_port = take8(in) % 24;
	hdr.dst_port = LISTEN_PORT;
	if (take8(in) % 4 == 0) {
		hdr.dst_port = HK_VSOCK_EPHEMERAL_MIN + take_length(in);
	}
	hdr.flags = take8(in) % 4;
	hdr.buf_alloc = take_length(in);
	hdr.fwd_cnt = take_length(in);
	hdr.len = take_length(in);
	payload = take8(in) % 8 == 0 ? take_length(in) : hdr.len;
	payload = HK_MIN(payload, AREA - HK_VSOCK_HDR_SIZE);
	hk_vsock_hdr_encode(&hdr, vqh_at(&h, area, HK_VSOCK_HDR_SIZE));
	offer(TX, &(struct vqd_buf){area, HK_VSOCK_HDR_SIZE + payload, false}, 1);
}

static void send_raw(struct fuzz_input *in)
{
	uint32_t len = take8(in) % 64 + 1;
	uint8_t *bytes = vqh_at(&h, area, 64);

	for (uint32_t i = 0; i < len; i++) {
		bytes[i] = take8(in);
	}
	offer(TX, &(struct vqd_buf){area, len, false}, 1);
}

static void write_descriptor(struct fuzz_input *in)
{
	struct vqd *d = &h.queues[take8(in) % QUEUES];
	uint8_t index = take8(in);

	vqd_raw_desc(d, index, take8(in) % 8 == 0 ? take32(in) : area + take_length(in) % AREA,
		take_length(in), take8(in) % 8, take8(in) % 20);
	vqd_raw_offer(d, index % 20);
	vqh_kick(&h, (unsigned)(d - h.queues));
}

static void host_end(struct fuzz_input *in)
{
	static uint8_t bytes[AREA];
	unsigned slot = take8(in) % MAX_FDS, what = take8(in) % 6;
	uint32_t len = what >= 3 ? take_length(in) % (sizeof(bytes) + 1) : 0;
	ssize_t ignored = 0;

	switch (what) {
	case 0:
		hk_close(&fds[slot]);
		break;
	case 1:
		shutdown(fds[slot], SHUT_WR);
		break;
	case 2:
		shutdown(fds[slot], SHUT_RD);
		break;
	case 3:
		ignored = read(fds[slot], bytes, len);
		break;
	default:
		ignored = write(fds[slot], bytes, len);
		break;
	}
	(void)ignored;
}

static void host_connect(struct fuzz_input *in)
{
	unsigned slot = take8(in) % MAX_FDS;
	int pair[2];

	if (connecting[slot]) {
		hk_vsock_cancel(vsock, &connects[slot]);
		connecting[slot] = false;
		return;
	}
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) < 0) {
		return;
	}
	hk_close(&fds[slot]);
	fds[slot] = pair[0];
	connecting[slot] = true;
	if (hk_vsock_connect(vsock, take8(in) % 24, pair[1], &connects[slot]) < 0) {
		connecting[slot] = false;
	}
}

static void take_used(void)
{
	struct vqd_used used;

	for (unsigned i = 0; i < QUEUES; i++) {
		while (vqd_take(&h.queues[i], &used)) {
			assert(i != TX || used.len == 0);
		}
	}
}

static void pause_and_resume(void)
{
	pthread_mutex_lock(&dev->lock);
	dev->ops->quiesce(dev);
	pthread_mutex_unlock(&dev->lock);
	(void)hk_loop_run_once(loop, 0);
	pthread_mutex_lock(&dev->lock);
	dev->ops->resume(dev);
	pthread_mutex_unlock(&dev->lock);
}

static void step(struct fuzz_input *in)
{
	switch (take8(in) % 12) {
	case 0:
	case 1:
	case 2:
		send_packet(in);
		break;
	case 3:
		send_raw(in);
		break;
	case 4:
	case 5:
		for (unsigned i = 0; i < 4; i++) {
			offer(RX, &(struct vqd_buf){area + 4096 * i, 4096, true}, 1);
		}
		break;
	case 6:
		offer(take8(in) % QUEUES, &(struct vqd_buf){area, take_length(in) % AREA + 1, true},
			1);
		break;
	case 7:
		write_descriptor(in);
		break;
	case 8:
		host_end(in);
		break;
	case 9:
		host_connect(in);
		break;
	case 10:
		(void)hk_loop_run_once(loop, 0);
		break;
	default:
		if (take8(in) % 4 == 0) {
			pause_and_resume();
		} else {
			take_used();
		}
		break;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fuzz_input in = {data, size};

	if (loop == NULL) {
		set_up();
	}
	start_driver();
	for (unsigned i = 0; i < MAX_STEPS && in.size > 0; i++) {
		step(&in);
		if (vqh_needs_reset(&h)) {
			start_driver();
		}
	}
	vqh_write(&h, HK_MMIO_STATUS, 0);
	for (unsigned i = 0; i < MAX_FDS; i++) {
		hk_close(&fds[i]);
	}
	for (unsigned i = 0; i < 4; i++) {
		(void)hk_loop_run_once(loop, 0);
	}
	for (unsigned i = 0; i < MAX_FDS; i++) {
		assert(!connecting[i]); /* each was told */
	}
	return 0;
}
