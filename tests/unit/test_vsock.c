/* SPDX-License-Identifier: ISC */
/* The vsock device: a driver in memory on one side, socketpairs on the other. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <poll.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/cleanup.h"
#include "base/fault.h"
#include "base/util.h"
#include "virtio/vsock.h"
#include "virtio/vsock_core.h"
#include "virtq_driver.h"

enum {
	RX,
	TX,
	EVENT,
	RX_BUFFER = 4096,
	RX_PAYLOAD = RX_BUFFER - HK_VSOCK_HDR_SIZE,
	TX_BUFFER = 128 * 1024,
	LISTEN_PORT = 50,
	GUEST_BUFFER = 256 * 1024,
	MAX_ACCEPTED = 1100,
};

struct fixture {
	struct hk_loop *loop;
	struct hk_vsock *vsock;
	struct hk_virtio *dev;
	struct vqh h;
	hk_gpa rx_area, tx_area;
	struct hk_vsock_listener listener;
	int accept_error;           /* what to refuse with */
	int accepted[MAX_ACCEPTED]; /* our ends, in order; -1 once closed */
	unsigned accepted_count;
};

static int test_accept(struct hk_vsock_listener *listener, uint32_t guest_port)
{
	struct fixture *f = hk_container_of(listener, struct fixture, listener);
	int fds[2];

	(void)guest_port;
	if (f->accept_error != 0) {
		return f->accept_error;
	}
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) < 0) {
		return -errno;
	}
	fcntl(fds[0], F_SETFL, O_NONBLOCK);
	assert_true(f->accepted_count < MAX_ACCEPTED);
	f->accepted[f->accepted_count++] = fds[0];
	return fds[1];
}

static const struct hk_vsock_listener_ops test_listener_ops = {
	.name = "test",
	.accept = test_accept,
};

static void spin(struct fixture *f)
{
	for (int i = 0; i < 4; i++) {
		assert_int_equal(hk_loop_run_once(f->loop, 0), 0);
	}
}

/* For what the kernel does in its own time, as with terminals. */
static void wait_packet(struct fixture *f)
{
	const struct vqd *d = &f->h.queues[RX];
	const uint16_t *used_idx = vqh_at(&f->h, d->used_gpa + 2, 2);

	for (unsigned i = 0; i < 1000 && hk_load_acquire(used_idx) == d->last_used; i++) {
		assert_int_equal(hk_loop_run_once(f->loop, 10), 0);
	}
}

/* Gives @count rx buffers. */
static void give_rx(struct fixture *f, unsigned count)
{
	static unsigned slot;

	for (unsigned i = 0; i < count; i++) {
		hk_gpa gpa = f->rx_area + (uint64_t)(slot++ % 128) * RX_BUFFER;

		assert_true(vqd_add(&f->h.queues[RX], &(struct vqd_buf){gpa, RX_BUFFER, true}, 1,
				    gpa) >= 0);
	}
	if (vqd_wants_kick(&f->h.queues[RX])) {
		vqh_kick(&f->h, RX);
	}
}

static void begin_with(struct fixture *f, unsigned rx_buffers, uint64_t features)
{
	memset(f, 0, sizeof(*f));
	assert_int_equal(hk_loop_create(&f->loop, NULL), 0);
	assert_int_equal(hk_vsock_create(f->loop, &f->vsock, &f->dev, NULL), 0);
	vqh_start(&f->h, f->dev, f->loop, features);
	f->rx_area = vqh_alloc(&f->h, 128 * RX_BUFFER);
	f->tx_area = vqh_alloc(&f->h, TX_BUFFER);
	f->listener = (struct hk_vsock_listener){.ops = &test_listener_ops, .port = LISTEN_PORT};
	assert_int_equal(hk_vsock_listen(f->vsock, &f->listener), 0);
	give_rx(f, rx_buffers);
}

static void begin(struct fixture *f)
{
	begin_with(f, 100, HK_VIRTIO_F_EVENT_IDX | HK_VIRTIO_F_INDIRECT_DESC);
}

static void finish(struct fixture *f)
{
	vqh_finish(&f->h);
	hk_virtio_destroy(f->dev);
	hk_loop_destroy(f->loop);
	for (unsigned i = 0; i < f->accepted_count; i++) {
		hk_close(&f->accepted[i]);
	}
}

/* A packet to the host, which must be taken at once. */
static void send_hdr(struct fixture *f, const struct hk_vsock_hdr *hdr, const void *payload,
	uint32_t payload_len)
{
	struct vqd_buf bufs[2] = {
		{f->tx_area, HK_VSOCK_HDR_SIZE, false},
		{f->tx_area + HK_VSOCK_HDR_SIZE, payload_len, false},
	};
	struct vqd_used used;

	assert_true(payload_len <= TX_BUFFER - HK_VSOCK_HDR_SIZE);
	hk_vsock_hdr_encode(hdr, vqh_at(&f->h, f->tx_area, HK_VSOCK_HDR_SIZE));
	if (payload_len > 0) {
		memcpy(vqh_at(&f->h, bufs[1].gpa, payload_len), payload, payload_len);
	}
	assert_true(vqd_add(&f->h.queues[TX], bufs, payload_len > 0 ? 2 : 1, 0) >= 0);
	vqh_kick(&f->h, TX);
	assert_true(vqd_take(&f->h.queues[TX], &used));
	assert_int_equal(used.len, 0);
}

static struct hk_vsock_hdr packet(uint32_t guest_port, uint32_t host_port, enum hk_vsock_op op)
{
	return (struct hk_vsock_hdr){
		.src_cid = HK_VSOCK_GUEST_CID,
		.dst_cid = HK_VSOCK_HOST_CID,
		.src_port = guest_port,
		.dst_port = host_port,
		.type = HK_VSOCK_STREAM,
		.op = (uint16_t)op,
		.buf_alloc = GUEST_BUFFER,
	};
}

static void send_op(struct fixture *f, uint32_t guest_port, enum hk_vsock_op op, uint32_t flags)
{
	struct hk_vsock_hdr hdr = packet(guest_port, LISTEN_PORT, op);

	hdr.flags = flags;
	send_hdr(f, &hdr, NULL, 0);
}

static void send_data(struct fixture *f, uint32_t guest_port, const void *bytes, uint32_t len)
{
	struct hk_vsock_hdr hdr = packet(guest_port, LISTEN_PORT, HK_VSOCK_OP_RW);

	hdr.len = len;
	send_hdr(f, &hdr, bytes, len);
}

/* The next packet from the host. Its buffer goes back at once. Return: is there one? */
static bool receive(struct fixture *f, struct hk_vsock_hdr *ret_hdr, uint8_t payload[RX_PAYLOAD])
{
	struct vqd_used used;
	const uint8_t *bytes;

	if (!vqd_take(&f->h.queues[RX], &used)) {
		return false;
	}
	bytes = vqh_at(&f->h, used.token, RX_BUFFER);
	hk_vsock_hdr_decode(bytes, ret_hdr);
	assert_int_equal(used.len, HK_VSOCK_HDR_SIZE + ret_hdr->len);
	if (payload != NULL) {
		memcpy(payload, bytes + HK_VSOCK_HDR_SIZE, ret_hdr->len);
	}
	give_rx(f, 1);
	return true;
}

static void expect_op(struct fixture *f, uint32_t guest_port, enum hk_vsock_op op, uint32_t flags)
{
	struct hk_vsock_hdr hdr;

	assert_true(receive(f, &hdr, NULL));
	assert_int_equal(hdr.op, op);
	assert_int_equal(hdr.dst_port, guest_port);
	assert_int_equal(hdr.src_cid, HK_VSOCK_HOST_CID);
	assert_int_equal(hdr.dst_cid, HK_VSOCK_GUEST_CID);
	assert_int_equal(hdr.flags, flags);
}

static void expect_silence(struct fixture *f)
{
	struct hk_vsock_hdr hdr;

	assert_false(receive(f, &hdr, NULL));
}

static void expect_data(struct fixture *f, uint32_t guest_port, const char *text)
{
	struct hk_vsock_hdr hdr;
	uint8_t payload[RX_PAYLOAD];

	assert_true(receive(f, &hdr, payload));
	assert_int_equal(hdr.op, HK_VSOCK_OP_RW);
	assert_int_equal(hdr.dst_port, guest_port);
	assert_int_equal(hdr.len, strlen(text));
	assert_memory_equal(payload, text, hdr.len);
}

static int guest_connect(struct fixture *f, uint32_t guest_port)
{
	unsigned before = f->accepted_count;

	send_op(f, guest_port, HK_VSOCK_OP_REQUEST, 0);
	expect_op(f, guest_port, HK_VSOCK_OP_RESPONSE, 0);
	assert_int_equal(f->accepted_count, before + 1);
	return f->accepted[before];
}

static void expect_host_text(int fd, const char *text)
{
	char bytes[256];
	ssize_t got = read(fd, bytes, sizeof(bytes));

	assert_int_equal(got, strlen(text));
	assert_memory_equal(bytes, text, (size_t)got);
}

static void expect_host_end(int fd)
{
	char byte;

	assert_int_equal(read(fd, &byte, 1), 0);
}

static void expect_host_nothing(int fd)
{
	char byte;

	assert_int_equal(read(fd, &byte, 1), -1);
	assert_int_equal(errno, EAGAIN);
}

static uint8_t pattern(uint64_t at)
{
	return (uint8_t)(at * 131 + (at >> 8) * 7);
}

static void fill_pattern(uint8_t *bytes, uint32_t len, uint64_t at)
{
	for (uint32_t i = 0; i < len; i++) {
		bytes[i] = pattern(at + i);
	}
}

static void test_config(void **state)
{
	struct fixture f;

	begin(&f);
	assert_int_equal(vqh_config(&f.h, 0, 4), HK_VSOCK_GUEST_CID);
	assert_int_equal(vqh_config(&f.h, 4, 4), 0);
	finish(&f);
}

static void test_conversation(void **state)
{
	static const uint64_t features[] = {
		0,
		HK_VIRTIO_F_EVENT_IDX,
		HK_VIRTIO_F_EVENT_IDX | HK_VIRTIO_F_INDIRECT_DESC,
	};

	for (unsigned i = 0; i < HK_ARRAY_SIZE(features); i++) {
		struct fixture f;
		int host;

		begin_with(&f, 100, features[i]);
		host = guest_connect(&f, 1000);
		send_data(&f, 1000, "hello", 5);
		expect_host_text(host, "hello");
		assert_int_equal(write(host, "world", 5), 5);
		spin(&f);
		expect_data(&f, 1000, "world");
		assert_true(f.h.interrupts > 0);
		/* The guest closes. */
		send_op(&f, 1000, HK_VSOCK_OP_SHUTDOWN, HK_VSOCK_SHUT_BOTH);
		expect_op(&f, 1000, HK_VSOCK_OP_RST, 0);
		expect_host_end(host);
		expect_silence(&f);
		finish(&f);
	}
}

static void test_refused(void **state)
{
	struct hk_vsock_hdr hdr = packet(1000, 51, HK_VSOCK_OP_REQUEST), answer;
	struct fixture f;

	begin(&f);
	send_hdr(&f, &hdr, NULL, 0);
	assert_true(receive(&f, &answer, NULL));
	assert_int_equal(answer.op, HK_VSOCK_OP_RST);
	assert_int_equal(answer.src_port, 51);
	f.accept_error = -EACCES;
	send_op(&f, 1000, HK_VSOCK_OP_REQUEST, 0);
	expect_op(&f, 1000, HK_VSOCK_OP_RST, 0);
	f.accept_error = 0;
	hk_vsock_unlisten(f.vsock, &f.listener);
	hk_vsock_unlisten(f.vsock, &f.listener);
	send_op(&f, 1000, HK_VSOCK_OP_REQUEST, 0);
	expect_op(&f, 1000, HK_VSOCK_OP_RST, 0);
	assert_int_equal(hk_vsock_listen(f.vsock, &f.listener), 0);
	assert_int_equal(hk_vsock_listen(f.vsock, &f.listener), -EADDRINUSE);
	assert_int_equal(
		hk_vsock_listen(f.vsock, &(struct hk_vsock_listener){.port = UINT32_MAX}), -EINVAL);
	guest_connect(&f, 1000);
	finish(&f);
}

static void test_half_close_by_guest(void **state)
{
	struct fixture f;
	int host;

	begin(&f);
	host = guest_connect(&f, 1000);
	send_data(&f, 1000, "last", 4);
	send_op(&f, 1000, HK_VSOCK_OP_SHUTDOWN, HK_VSOCK_SHUT_SEND);
	expect_host_text(host, "last");
	expect_host_end(host);
	/* The other direction goes on. */
	assert_int_equal(write(host, "answer", 6), 6);
	spin(&f);
	expect_data(&f, 1000, "answer");
	shutdown(host, SHUT_WR);
	spin(&f);
	/* With both directions closed the socket has hung up. */
	expect_op(&f, 1000, HK_VSOCK_OP_SHUTDOWN, HK_VSOCK_SHUT_BOTH);
	expect_op(&f, 1000, HK_VSOCK_OP_RST, 0);
	expect_silence(&f);
	finish(&f);
}

static void test_half_close_by_host(void **state)
{
	struct fixture f;
	int host;

	begin(&f);
	host = guest_connect(&f, 1000);
	assert_int_equal(write(host, "all", 3), 3);
	shutdown(host, SHUT_WR);
	spin(&f);
	expect_data(&f, 1000, "all");
	expect_op(&f, 1000, HK_VSOCK_OP_SHUTDOWN, HK_VSOCK_SHUT_SEND);
	send_data(&f, 1000, "more", 4);
	expect_host_text(host, "more");
	/* Then it hangs up: the guest is told although there is nothing left to read. */
	hk_close(&f.accepted[0]);
	spin(&f);
	expect_op(&f, 1000, HK_VSOCK_OP_SHUTDOWN, HK_VSOCK_SHUT_BOTH);
	send_data(&f, 1000, "lost", 4);
	expect_silence(&f);
	send_op(&f, 1000, HK_VSOCK_OP_RST, 0);
	expect_silence(&f);
	finish(&f);
}

static void test_guest_stops_reading(void **state)
{
	struct fixture f;
	int host;

	begin(&f);
	host = guest_connect(&f, 1000);
	send_op(&f, 1000, HK_VSOCK_OP_SHUTDOWN, HK_VSOCK_SHUT_RCV);
	assert_int_equal(send(host, "x", 1, MSG_NOSIGNAL), -1);
	assert_int_equal(errno, EPIPE);
	spin(&f);
	send_data(&f, 1000, "still", 5);
	expect_host_text(host, "still");
	hk_close(&f.accepted[0]);
	spin(&f);
	expect_op(&f, 1000, HK_VSOCK_OP_SHUTDOWN, HK_VSOCK_SHUT_BOTH);
	finish(&f);
}

static void test_host_hangs_up(void **state)
{
	struct fixture f;
	int host;

	begin(&f);
	host = guest_connect(&f, 1000);
	assert_int_equal(write(host, "bye", 3), 3);
	hk_close(&f.accepted[0]);
	spin(&f);
	expect_data(&f, 1000, "bye");
	expect_op(&f, 1000, HK_VSOCK_OP_SHUTDOWN, HK_VSOCK_SHUT_BOTH);
	send_op(&f, 1000, HK_VSOCK_OP_RST, 0);

	/* With bytes that were not read, the kernel makes it an error. */
	guest_connect(&f, 1001);
	send_data(&f, 1001, "unread", 6);
	hk_close(&f.accepted[1]);
	spin(&f);
	expect_op(&f, 1001, HK_VSOCK_OP_RST, 0);
	expect_silence(&f);
	finish(&f);
}

static void test_host_stops_reading(void **state)
{
	struct fixture f;
	int host;

	begin(&f);
	host = guest_connect(&f, 1000);
	shutdown(host, SHUT_RD);
	send_data(&f, 1000, "x", 1);
	expect_op(&f, 1000, HK_VSOCK_OP_SHUTDOWN, HK_VSOCK_SHUT_RCV);
	assert_int_equal(write(host, "y", 1), 1);
	spin(&f);
	expect_data(&f, 1000, "y");
	/* What was under way does no harm. */
	send_data(&f, 1000, "x", 1);
	expect_silence(&f);
	finish(&f);
}

/* Sends @total bytes as credit allows while the host reads nothing. Return: bytes sent. */
static uint64_t stuff(struct fixture *f, uint32_t guest_port, uint32_t credit)
{
	static uint8_t bytes[64 * 1024];
	struct hk_vsock_hdr hdr;
	uint64_t sent = 0, fwd_cnt = 0;

	for (;;) {
		uint32_t len = (uint32_t)HK_MIN(sizeof(bytes), fwd_cnt + credit - sent);

		if (len == 0) {
			return sent;
		}
		fill_pattern(bytes, len, sent);
		send_data(f, guest_port, bytes, len);
		sent += len;
		while (receive(f, &hdr, NULL)) {
			assert_int_equal(hdr.op, HK_VSOCK_OP_CREDIT_UPDATE);
			fwd_cnt = hdr.fwd_cnt;
		}
	}
}

static void expect_host_pattern(struct fixture *f, int fd, uint64_t total, bool to_the_end)
{
	static uint8_t bytes[50000];
	uint64_t at = 0;

	for (unsigned idle = 0; idle < 100;) {
		ssize_t got = read(fd, bytes, sizeof(bytes));

		if (got == 0) {
			break;
		}
		if (got < 0) {
			assert_int_equal(errno, EAGAIN);
			spin(f);
			idle++;
			continue;
		}
		idle = 0;
		for (ssize_t i = 0; i < got; i++) {
			assert_int_equal(bytes[i], pattern(at + (uint64_t)i));
		}
		at += (uint64_t)got;
		if (at == total && !to_the_end) {
			return;
		}
	}
	assert_int_equal(at, total);
}

static void test_slow_reader(void **state)
{
	struct fixture f;
	struct hk_vsock_hdr hdr;
	uint64_t sent;
	int slow, quick;

	begin(&f);
	slow = guest_connect(&f, 1000);
	quick = guest_connect(&f, 1001);
	sent = stuff(&f, 1000, 256 * 1024);
	assert_true(sent > 256 * 1024);
	/* Nobody else waits for it. */
	send_data(&f, 1001, "prompt", 6);
	expect_host_text(quick, "prompt");
	/* As it reads, everything arrives, in order, and credit comes back. */
	expect_host_pattern(&f, slow, sent, false);
	assert_true(receive(&f, &hdr, NULL));
	assert_int_equal(hdr.op, HK_VSOCK_OP_CREDIT_UPDATE);
	send_data(&f, 1000, "again", 5);
	expect_host_text(slow, "again");
	finish(&f);
}

static void test_beyond_credit(void **state)
{
	static uint8_t bytes[32 * 1024];
	struct fixture f;
	struct hk_vsock_hdr hdr;
	uint64_t sent;
	int host;

	begin(&f);
	host = guest_connect(&f, 1000);
	sent = stuff(&f, 1000, 256 * 1024);
	/* Up to half of the buffer may be free without our having been told. */
	for (;;) {
		fill_pattern(bytes, sizeof(bytes), sent);
		send_data(&f, 1000, bytes, sizeof(bytes));
		if (receive(&f, &hdr, NULL)) {
			break;
		}
		sent += sizeof(bytes);
		assert_true(sent < 1024 * 1024);
	}
	assert_int_equal(hdr.op, HK_VSOCK_OP_RST);
	/* What was within the rules still arrives. */
	expect_host_pattern(&f, host, sent, true);
	finish(&f);
}

/* However the guest ends it, a slow reader gets all that was sent before. */
static void test_held_bytes_survive(void **state)
{
	enum { CLOSE, RESET_PACKET, DEVICE_RESET, WAYS };

	for (unsigned way = 0; way < WAYS; way++) {
		struct fixture f;
		uint64_t sent;
		int host;

		begin(&f);
		host = guest_connect(&f, 1000);
		sent = stuff(&f, 1000, 256 * 1024);
		switch (way) {
		case CLOSE:
			send_op(&f, 1000, HK_VSOCK_OP_SHUTDOWN, HK_VSOCK_SHUT_BOTH);
			expect_op(&f, 1000, HK_VSOCK_OP_RST, 0);
			break;
		case RESET_PACKET:
			send_op(&f, 1000, HK_VSOCK_OP_RST, 0);
			break;
		default:
			vqh_write(&f.h, HK_MMIO_STATUS, 0);
			break;
		}
		spin(&f);
		assert_int_equal(send(host, "x", 1, MSG_NOSIGNAL), -1);
		assert_int_equal(errno, EPIPE);
		expect_host_pattern(&f, host, sent, true);
		finish(&f);
	}
}

static void test_credit_of_guest(void **state)
{
	static uint8_t bytes[32 * 1024];
	uint8_t payload[RX_PAYLOAD];
	struct hk_vsock_hdr hdr = packet(1000, LISTEN_PORT, HK_VSOCK_OP_REQUEST), got;
	struct fixture f;
	uint32_t total = 0;
	int host;

	begin(&f);
	hdr.buf_alloc = 10000;
	send_hdr(&f, &hdr, NULL, 0);
	expect_op(&f, 1000, HK_VSOCK_OP_RESPONSE, 0);
	host = f.accepted[0];
	fill_pattern(bytes, sizeof(bytes), 0);
	assert_int_equal(write(host, bytes, sizeof(bytes)), sizeof(bytes));
	while (total < sizeof(bytes)) {
		uint32_t round = 0;

		spin(&f);
		while (receive(&f, &got, payload)) {
			if (got.op == HK_VSOCK_OP_CREDIT_REQUEST) {
				continue;
			}
			assert_int_equal(got.op, HK_VSOCK_OP_RW);
			assert_memory_equal(payload, bytes + total, got.len);
			total += got.len;
			round += got.len;
		}
		assert_int_equal(round, HK_MIN(sizeof(bytes) - (total - round), 10000));
		hdr.op = HK_VSOCK_OP_CREDIT_UPDATE;
		hdr.fwd_cnt = total;
		send_hdr(&f, &hdr, NULL, 0);
	}
	expect_silence(&f);
	finish(&f);
}

/* With few buffers, streams take turns, and what waits is sent as buffers come. */
static void test_few_buffers(void **state)
{
	static uint8_t bytes[100 * 1024];
	uint8_t payload[RX_PAYLOAD];
	struct hk_vsock_hdr hdr;
	struct fixture f;
	uint32_t totals[2] = {0};
	int hosts[2];

	begin_with(&f, 2, 0);
	for (uint32_t i = 0; i < 2; i++) {
		hosts[i] = guest_connect(&f, 1000 + i);
		fill_pattern(bytes, sizeof(bytes), i);
		assert_int_equal(write(hosts[i], bytes, sizeof(bytes)), sizeof(bytes));
	}
	spin(&f);
	while (receive(&f, &hdr, payload)) {
		uint32_t i = hdr.dst_port - 1000;

		assert_int_equal(hdr.op, HK_VSOCK_OP_RW);
		assert_int_equal(payload[0], pattern(i + totals[i]));
		totals[i] += hdr.len;
		if (totals[0] < sizeof(bytes) && totals[1] < sizeof(bytes)) {
			assert_true(totals[0] <= totals[1] + 4 * RX_PAYLOAD);
			assert_true(totals[1] <= totals[0] + 4 * RX_PAYLOAD);
		}
		spin(&f);
	}
	assert_int_equal(totals[0], sizeof(bytes));
	assert_int_equal(totals[1], sizeof(bytes));
	finish(&f);
}

struct connecting {
	struct hk_vsock_connect connect;
	int error; /* 1: not told yet */
};

static void connect_done(struct hk_vsock_connect *connect, int error)
{
	struct connecting *c = hk_container_of(connect, struct connecting, connect);

	assert_int_equal(c->error, 1);
	c->error = error;
}

/* Return: our end; the REQUEST is due. */
static int start_connect(struct fixture *f, struct connecting *c)
{
	int fds[2];

	*c = (struct connecting){.connect.done = connect_done, .error = 1};
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
	fcntl(fds[0], F_SETFL, O_NONBLOCK);
	assert_int_equal(hk_vsock_connect(f->vsock, 2000, fds[1], &c->connect), 0);
	f->accepted[f->accepted_count++] = fds[0];
	return fds[0];
}

static void test_host_connects(void **state)
{
	struct connecting c;
	struct hk_vsock_hdr hdr;
	struct fixture f;
	uint32_t host_port;
	int host;

	begin(&f);
	host = start_connect(&f, &c);
	/* Bytes that are there already wait for the answer. */
	assert_int_equal(write(host, "early", 5), 5);
	spin(&f);
	assert_true(receive(&f, &hdr, NULL));
	assert_int_equal(hdr.op, HK_VSOCK_OP_REQUEST);
	assert_int_equal(hdr.dst_port, 2000);
	assert_int_equal(hdr.buf_alloc, 256 * 1024);
	host_port = hdr.src_port;
	expect_silence(&f);
	assert_int_equal(c.error, 1);
	hdr = packet(2000, host_port, HK_VSOCK_OP_RESPONSE);
	send_hdr(&f, &hdr, NULL, 0);
	assert_int_equal(c.error, 0);
	expect_data(&f, 2000, "early");
	hdr = packet(2000, host_port, HK_VSOCK_OP_RW);
	hdr.len = 4;
	send_hdr(&f, &hdr, "okay", 4);
	expect_host_text(host, "okay");
	hk_vsock_cancel(f.vsock, &c.connect);
	expect_host_nothing(host);
	finish(&f);
}

static void test_host_connect_fails(void **state)
{
	struct connecting c, d;
	struct hk_vsock_hdr hdr;
	struct fixture f;
	int host;

	begin(&f);
	/* Refused. */
	host = start_connect(&f, &c);
	spin(&f);
	assert_true(receive(&f, &hdr, NULL));
	hdr = packet(2000, hdr.src_port, HK_VSOCK_OP_RST);
	send_hdr(&f, &hdr, NULL, 0);
	assert_int_equal(c.error, -ECONNREFUSED);
	expect_host_end(host);
	/* Given up, before and after the guest heard of it. */
	host = start_connect(&f, &c);
	hk_vsock_cancel(f.vsock, &c.connect);
	expect_host_end(host);
	spin(&f);
	expect_op(&f, 2000, HK_VSOCK_OP_RST, 0);
	host = start_connect(&f, &c);
	spin(&f);
	expect_op(&f, 2000, HK_VSOCK_OP_REQUEST, 0);
	hk_vsock_cancel(f.vsock, &c.connect);
	hk_vsock_cancel(f.vsock, &c.connect);
	expect_host_end(host);
	spin(&f);
	expect_op(&f, 2000, HK_VSOCK_OP_RST, 0);
	assert_int_equal(c.error, 1);
	/* The driver goes away. */
	start_connect(&f, &c);
	vqh_write(&f.h, HK_MMIO_STATUS, 0);
	spin(&f);
	assert_int_equal(c.error, -ECONNRESET);
	assert_int_equal(
		hk_vsock_connect(f.vsock, 2000, dup(f.accepted[0]), &c.connect), -ENOTCONN);
	finish(&f);
	/* The device goes away. */
	begin(&f);
	start_connect(&f, &d);
	finish(&f);
	assert_int_equal(d.error, -ECANCELED);
}

/* Bytes for the tx queue that are not a packet of a connection. */
static void test_hostile_tx(void **state)
{
	static const uint32_t lengths[] = {1, 8, HK_VSOCK_HDR_SIZE - 1};
	struct fixture f;
	struct vqd_used used;

	begin(&f);
	for (unsigned i = 0; i < HK_ARRAY_SIZE(lengths); i++) {
		assert_true(vqd_add(&f.h.queues[TX],
				    &(struct vqd_buf){f.tx_area, lengths[i], false}, 1, 0) >= 0);
		vqh_kick(&f.h, TX);
		assert_true(vqd_take(&f.h.queues[TX], &used));
		assert_int_equal(used.len, 0);
	}
	/* No readable part at all. */
	assert_true(vqd_add(&f.h.queues[TX], &(struct vqd_buf){f.tx_area, 100, true}, 1, 0) >= 0);
	vqh_kick(&f.h, TX);
	assert_true(vqd_take(&f.h.queues[TX], &used));
	expect_silence(&f);
	assert_false(vqh_needs_reset(&f.h));
	/* The device is none the worse for it. */
	guest_connect(&f, 1000);
	finish(&f);
}

static void test_broken_queues(void **state)
{
	for (unsigned q = RX; q <= EVENT; q++) {
		struct fixture f, g;
		struct connecting c;

		begin_with(&f, 0, 0);
		vqd_raw_desc(&f.h.queues[q], 0, UINT64_MAX - 10, 100, q == TX ? 0 : VQD_F_WRITE, 0);
		vqd_raw_offer(&f.h.queues[q], 0);
		if (q == EVENT) {
			/* Looked at only when there is an event. */
			assert_int_equal(hk_vsock_create(f.loop, &g.vsock, &g.dev, NULL), 0);
			assert_true(vqh_move(&f.h, g.dev));
			hk_virtio_destroy(f.dev);
			f.dev = g.dev;
			f.vsock = g.vsock;
		} else {
			start_connect(&f, &c);
			spin(&f);
		}
		vqh_kick(&f.h, q);
		assert_true(vqh_needs_reset(&f.h));
		spin(&f);
		finish(&f);
	}
}

static void test_rx_buffer_too_small(void **state)
{
	struct fixture f;

	begin_with(&f, 0, 0);
	assert_true(vqd_add(&f.h.queues[RX], &(struct vqd_buf){f.rx_area, HK_VSOCK_HDR_SIZE, true},
			    1, 0) >= 0);
	send_op(&f, 1000, HK_VSOCK_OP_REQUEST, 0);
	assert_true(vqh_needs_reset(&f.h));
	/* The driver may start again. */
	vqh_write(&f.h, HK_MMIO_STATUS, 0);
	assert_true(vqh_negotiate(&f.h, 0));
	for (unsigned i = 0; i <= EVENT; i++) {
		vqh_setup_queue(&f.h, i, 16);
	}
	vqh_driver_ok(&f.h);
	give_rx(&f, 8);
	guest_connect(&f, 1000);
	expect_host_end(f.accepted[0]);
	finish(&f);
}

static void test_connection_limit(void **state)
{
	struct fixture f;

	begin(&f);
	for (uint32_t i = 0; i < HK_VSOCK_MAX_CONNS; i++) {
		guest_connect(&f, i);
	}
	send_op(&f, 5000, HK_VSOCK_OP_REQUEST, 0);
	expect_op(&f, 5000, HK_VSOCK_OP_RST, 0);
	assert_int_equal(
		hk_vsock_connect(f.vsock, 2000, dup(0), &(struct hk_vsock_connect){0}), -EMFILE);
	send_op(&f, 17, HK_VSOCK_OP_RST, 0);
	guest_connect(&f, 5000);
	finish(&f);
}

static void test_save_restore(void **state)
{
	struct fixture f, g;
	struct connecting c;
	struct hk_vsock_hdr hdr;
	struct vqd_used used;
	uint32_t first_port;
	uint64_t sent;
	hk_gpa event;
	int host;

	begin(&f);
	event = vqh_alloc(&f.h, 64);
	host = guest_connect(&f, 1000);
	sent = stuff(&f, 1000, 256 * 1024);
	start_connect(&f, &c);
	spin(&f);
	assert_true(receive(&f, &hdr, NULL));
	first_port = hdr.src_port;
	assert_int_equal(hk_vsock_create(f.loop, &g.vsock, &g.dev, NULL), 0);
	assert_true(vqh_move(&f.h, g.dev));
	spin(&f);
	/* On the old side nothing is lost. */
	expect_host_pattern(&f, host, sent, true);
	assert_int_equal(c.error, -ECONNRESET);
	hk_virtio_destroy(f.dev);
	f.dev = g.dev;
	f.vsock = g.vsock;
	/* The guest is told, once it has a buffer for it. */
	assert_true(vqd_add(&f.h.queues[EVENT], &(struct vqd_buf){event, 8, true}, 1, 0) >= 0);
	assert_true(vqd_wants_kick(&f.h.queues[EVENT]));
	hk_store_le32(vqh_at(&f.h, event, 4), 0xffffffff);
	vqh_kick(&f.h, EVENT);
	assert_true(vqd_take(&f.h.queues[EVENT], &used));
	assert_int_equal(used.len, 4);
	assert_int_equal(hk_load_le32(vqh_at(&f.h, event, 4)), 0);
	assert_true(vqd_add(&f.h.queues[EVENT], &(struct vqd_buf){event, 8, true}, 1, 0) >= 0);
	vqh_kick(&f.h, EVENT);
	assert_false(vqd_take(&f.h.queues[EVENT], &used));
	/* Old connections are unknown, new ones work and have other ports. */
	send_data(&f, 1000, "late", 4);
	expect_op(&f, 1000, HK_VSOCK_OP_RST, 0);
	assert_int_equal(hk_vsock_listen(f.vsock, &f.listener), 0);
	guest_connect(&f, 1001);
	start_connect(&f, &c);
	spin(&f);
	assert_true(receive(&f, &hdr, NULL));
	assert_int_equal(hdr.src_port, first_port + 1);
	finish(&f);
}

static void test_restore_refuses(void **state)
{
	static const struct {
		uint64_t cid;
		uint32_t last_ephemeral;
		bool good;
	} cases[] = {
		{3, 0, true},
		{3, HK_VSOCK_EPHEMERAL_MIN, true},
		{3, UINT32_MAX, true},
		{4, 0, false},
		{3, 5, false},
		{UINT64_MAX, UINT32_MAX, false},
	};

	for (unsigned i = 0; i < HK_ARRAY_SIZE(cases); i++) {
		struct hk_writer w = {0};
		struct hk_reader r;
		struct fixture f;
		size_t mark = hk_writer_begin(&w, "vsock", 1);

		hk_write_u64(&w, cases[i].cid);
		hk_write_u32(&w, cases[i].last_ephemeral);
		hk_writer_end(&w, mark);
		begin(&f);
		hk_reader_init(&r, w.data, w.len);
		f.dev->ops->restore(f.dev, &r);
		assert_int_equal(r.error == 0, cases[i].good);
		hk_reader_init(&r, w.data, w.len - 1);
		f.dev->ops->restore(f.dev, &r);
		assert_int_not_equal(r.error, 0);
		hk_writer_finish(&w);
		finish(&f);
	}
}

static void lock_and(struct fixture *f, void (*op)(struct hk_virtio *))
{
	pthread_mutex_lock(&f->dev->lock);
	op(f->dev);
	pthread_mutex_unlock(&f->dev->lock);
}

static void test_pause(void **state)
{
	struct fixture f;
	struct vqd_used used;
	struct hk_vsock_hdr hdr = packet(1000, LISTEN_PORT, HK_VSOCK_OP_RW);
	int host;

	begin(&f);
	host = guest_connect(&f, 1000);
	lock_and(&f, f.dev->ops->quiesce);
	assert_int_equal(write(host, "meanwhile", 9), 9);
	hdr.len = 3;
	hk_vsock_hdr_encode(&hdr, vqh_at(&f.h, f.tx_area, HK_VSOCK_HDR_SIZE));
	memcpy(vqh_at(&f.h, f.tx_area + HK_VSOCK_HDR_SIZE, 3), "too", 3);
	assert_true(vqd_add(&f.h.queues[TX],
			    &(struct vqd_buf){f.tx_area, HK_VSOCK_HDR_SIZE + 3, false}, 1, 0) >= 0);
	spin(&f);
	expect_silence(&f);
	assert_false(vqd_take(&f.h.queues[TX], &used));
	lock_and(&f, f.dev->ops->resume);
	spin(&f);
	expect_data(&f, 1000, "meanwhile");
	assert_true(vqd_take(&f.h.queues[TX], &used));
	expect_host_text(host, "too");
	finish(&f);
}

static void *reset_and_restart(void *argument)
{
	struct fixture *f = argument;

	vqh_write(&f->h, HK_MMIO_STATUS, 0);
	vqh_negotiate(&f->h, 0);
	for (unsigned i = 0; i <= EVENT; i++) {
		vqh_setup_queue(&f->h, i, i == EVENT ? 16 : 128);
	}
	vqh_driver_ok(&f->h);
	return NULL;
}

/* A vCPU resets the device and starts it again before the loop's thread has noticed. */
static void test_reset_by_other_thread(void **state)
{
	struct fixture f;
	pthread_t thread;
	int host;

	begin(&f);
	host = guest_connect(&f, 1000);
	assert_int_equal(pthread_create(&thread, NULL, reset_and_restart, &f), 0);
	pthread_join(thread, NULL);
	expect_host_nothing(host);
	give_rx(&f, 100);
	guest_connect(&f, 1000); /* the same port: the old connection is gone by now */
	expect_host_end(host);
	spin(&f);
	send_data(&f, 1000, "new", 3);
	expect_host_text(f.accepted[1], "new");
	finish(&f);
}

static int accept_given(struct hk_vsock_listener *listener, uint32_t guest_port)
{
	(void)listener;
	return (int)guest_port; /* the test says which */
}

/* Any descriptor that can be polled will do, in the directions that it has. */
static void test_pipes(void **state)
{
	static const struct hk_vsock_listener_ops ops = {.name = "given", .accept = accept_given};
	struct hk_vsock_listener listener = {.ops = &ops, .port = 60};
	struct hk_vsock_hdr hdr;
	struct fixture f;
	int in[2], out[2];
	uint32_t port;

	begin(&f);
	assert_int_equal(hk_vsock_listen(f.vsock, &listener), 0);
	assert_int_equal(pipe2(in, O_CLOEXEC), 0);
	assert_int_equal(pipe2(out, O_CLOEXEC), 0);
	/* One for the guest to read. */
	port = (uint32_t)in[0];
	hdr = packet(port, 60, HK_VSOCK_OP_REQUEST);
	send_hdr(&f, &hdr, NULL, 0);
	expect_op(&f, port, HK_VSOCK_OP_RESPONSE, 0);
	assert_int_equal(write(in[1], "piped", 5), 5);
	close(in[1]);
	spin(&f);
	expect_data(&f, port, "piped");
	assert_true(receive(&f, &hdr, NULL));
	assert_int_equal(hdr.op, HK_VSOCK_OP_SHUTDOWN);
	/* One to write. */
	port = (uint32_t)out[1];
	hdr = packet(port, 60, HK_VSOCK_OP_REQUEST);
	send_hdr(&f, &hdr, NULL, 0);
	expect_op(&f, port, HK_VSOCK_OP_RESPONSE, 0);
	hdr = packet(port, 60, HK_VSOCK_OP_RW);
	hdr.len = 5;
	send_hdr(&f, &hdr, "piped", 5);
	expect_host_text(out[0], "piped");
	close(out[0]);
	send_hdr(&f, &hdr, "piped", 5);
	spin(&f);
	assert_true(receive(&f, &hdr, NULL));
	assert_true(hdr.op == HK_VSOCK_OP_SHUTDOWN || hdr.op == HK_VSOCK_OP_RST);
	finish(&f);
}

/* Reads that end early although there is more: lines of a terminal, passed descriptors. */
static void test_reads_that_end_early(void **state)
{
	static const struct hk_vsock_listener_ops ops = {.name = "given", .accept = accept_given};
	struct hk_vsock_listener listener = {.ops = &ops, .port = 60};
	union {
		char bytes[CMSG_SPACE(sizeof(int))];
		struct cmsghdr align;
	} control = {0};
	struct iovec iov = {.iov_base = "one", .iov_len = 3};
	struct msghdr msg = {
		.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = control.bytes,
		.msg_controllen = sizeof(control.bytes),
	};
	struct cmsghdr *cmsg = CMSG_FIRSTHDR(&msg);
	struct hk_vsock_hdr hdr;
	struct fixture f;
	int host, master, slave;
	uint32_t port;

	begin(&f);
	host = guest_connect(&f, 1000);
	cmsg->cmsg_level = SOL_SOCKET;
	cmsg->cmsg_type = SCM_RIGHTS;
	cmsg->cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(cmsg), &host, sizeof(int));
	assert_int_equal(sendmsg(host, &msg, 0), 3);
	assert_int_equal(write(host, "two", 3), 3);
	spin(&f);
	expect_data(&f, 1000, "one");
	expect_data(&f, 1000, "two");

	assert_int_equal(hk_vsock_listen(f.vsock, &listener), 0);
	master = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC);
	assert_true(master >= 0 && grantpt(master) == 0 && unlockpt(master) == 0);
	slave = open(ptsname(master), O_RDWR | O_NOCTTY | O_CLOEXEC);
	assert_true(slave >= 0);
	port = (uint32_t)slave;
	hdr = packet(port, 60, HK_VSOCK_OP_REQUEST);
	send_hdr(&f, &hdr, NULL, 0);
	expect_op(&f, port, HK_VSOCK_OP_RESPONSE, 0);
	assert_int_equal(write(master, "first\nsecond\n", 13), 13);
	wait_packet(&f);
	expect_data(&f, port, "first\n");
	wait_packet(&f);
	expect_data(&f, port, "second\n");
	close(master);
	wait_packet(&f);
	assert_true(receive(&f, &hdr, NULL));
	assert_int_equal(hdr.op, HK_VSOCK_OP_SHUTDOWN);
	finish(&f);
}

static void test_unix_listener(void **state)
{
	char dir[] = "/tmp/hako-vsock-XXXXXX", path[64];
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	struct hk_vsock_unix *listener, *second;
	struct hk_err err = HK_ERR_INIT;
	struct hk_vsock_hdr hdr = packet(1000, 70, HK_VSOCK_OP_REQUEST);
	struct fixture f;
	int server, host;
	char longer[200];

	begin(&f);
	assert_non_null(mkdtemp(dir));
	snprintf(path, sizeof(path), "%s/socket", dir);
	snprintf(address.sun_path, sizeof(address.sun_path), "%s", path);
	assert_int_equal(hk_vsock_unix_create(f.vsock, 70, path, &listener, &err), 0);
	/* Nobody there. */
	send_hdr(&f, &hdr, NULL, 0);
	expect_op(&f, 1000, HK_VSOCK_OP_RST, 0);
	server = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_equal(bind(server, (struct sockaddr *)&address, sizeof(address)), 0);
	assert_int_equal(listen(server, 1), 0);
	send_hdr(&f, &hdr, NULL, 0);
	expect_op(&f, 1000, HK_VSOCK_OP_RESPONSE, 0);
	host = accept4(server, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	assert_true(host >= 0);
	hdr = packet(1000, 70, HK_VSOCK_OP_RW);
	hdr.len = 4;
	send_hdr(&f, &hdr, "unix", 4);
	expect_host_text(host, "unix");
	/* A backlog that is full refuses, and does not block. */
	for (uint32_t port = 1001;; port++) {
		hdr = packet(port, 70, HK_VSOCK_OP_REQUEST);
		send_hdr(&f, &hdr, NULL, 0);
		assert_true(receive(&f, &hdr, NULL));
		if (hdr.op == HK_VSOCK_OP_RST) {
			break;
		}
		assert_true(port < 1010);
	}
	assert_int_equal(hk_vsock_unix_create(f.vsock, 70, path, &second, &err), -EADDRINUSE);
	assert_non_null(strstr(hk_err_text(&err), path));
	memset(longer, 'x', sizeof(longer) - 1);
	longer[sizeof(longer) - 1] = '\0';
	assert_int_equal(hk_vsock_unix_create(f.vsock, 71, longer, &second, &err), -ENAMETOOLONG);
	assert_non_null(strstr(err.hint, "107 bytes"));
	hk_vsock_unix_destroy(listener);
	hk_vsock_unix_destroy(NULL);
	close(host);
	close(server);
	unlink(path);
	rmdir(dir);
	finish(&f);
}

/* One life of a few connections, in which anything may fail but nothing may crash or leak. */
static void live(struct fixture *f)
{
	static uint8_t bytes[64 * 1024];
	struct connecting c = {.connect.done = connect_done, .error = 1};
	struct hk_vsock_hdr hdr;
	int fds[2];

	send_op(f, 1000, HK_VSOCK_OP_REQUEST, 0);
	for (unsigned i = 0; i < 6; i++) {
		send_data(f, 1000, bytes, sizeof(bytes));
	}
	if (f->accepted_count > 0) {
		ssize_t ignored = write(f->accepted[0], "to the guest", 12);

		(void)ignored;
		spin(f);
		while (read(f->accepted[0], bytes, sizeof(bytes)) > 0) {
			spin(f);
		}
	}
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
	close(fds[0]);
	if (hk_vsock_connect(f->vsock, 2000, fds[1], &c.connect) == 0) {
		spin(f);
		hk_vsock_cancel(f->vsock, &c.connect);
	}
	send_op(f, 1000, HK_VSOCK_OP_SHUTDOWN, HK_VSOCK_SHUT_BOTH);
	spin(f);
	while (receive(f, &hdr, NULL)) {
		spin(f);
	}
}

static void test_every_fault(void **state)
{
	static const unsigned kinds[] = {HK_FAULT_ALLOC, HK_FAULT_SYSCALL};

	for (unsigned k = 0; k < HK_ARRAY_SIZE(kinds); k++) {
		uint64_t n;
		bool fired = true;

		for (n = 1; fired; n++) {
			struct fixture f;

			begin(&f);
			hk_fault_arm(kinds[k], n);
			live(&f);
			fired = hk_fault_fired();
			hk_fault_arm(0, 0);
			assert_false(vqh_needs_reset(&f.h));
			/* Afterwards it serves as before. */
			guest_connect(&f, 3000);
			finish(&f);
			assert_true(n < 1000);
		}
		assert_true(n > 2);
	}
	for (uint64_t n = 1;; n++) {
		struct hk_vsock *vsock;
		struct hk_virtio *dev;
		struct hk_err err = HK_ERR_INIT;
		int r;

		hk_fault_arm(HK_FAULT_ALLOC, n);
		r = hk_vsock_create(NULL, &vsock, &dev, &err);
		hk_fault_arm(0, 0);
		if (r == 0) {
			assert_true(n > 1);
			free(vsock);
			break;
		}
		assert_int_equal(r, -ENOMEM);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_config),
		cmocka_unit_test(test_conversation),
		cmocka_unit_test(test_refused),
		cmocka_unit_test(test_half_close_by_guest),
		cmocka_unit_test(test_half_close_by_host),
		cmocka_unit_test(test_guest_stops_reading),
		cmocka_unit_test(test_host_hangs_up),
		cmocka_unit_test(test_host_stops_reading),
		cmocka_unit_test(test_slow_reader),
		cmocka_unit_test(test_beyond_credit),
		cmocka_unit_test(test_held_bytes_survive),
		cmocka_unit_test(test_credit_of_guest),
		cmocka_unit_test(test_few_buffers),
		cmocka_unit_test(test_host_connects),
		cmocka_unit_test(test_host_connect_fails),
		cmocka_unit_test(test_hostile_tx),
		cmocka_unit_test(test_broken_queues),
		cmocka_unit_test(test_rx_buffer_too_small),
		cmocka_unit_test(test_connection_limit),
		cmocka_unit_test(test_save_restore),
		cmocka_unit_test(test_restore_refuses),
		cmocka_unit_test(test_pause),
		cmocka_unit_test(test_reset_by_other_thread),
		cmocka_unit_test(test_pipes),
		cmocka_unit_test(test_reads_that_end_early),
		cmocka_unit_test(test_unix_listener),
		cmocka_unit_test(test_every_fault),
	};

	/* As the command line does: pipes have no MSG_NOSIGNAL. */
	signal(SIGPIPE, SIG_IGN);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
