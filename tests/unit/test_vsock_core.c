/* SPDX-License-Identifier: ISC */
/* The vsock protocol core: headers, credit, order of turns, ends of connections. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/util.h"
#include "virtio/vsock.h"
#include "virtio/vsock_core.h"

enum { GUEST_PORT = 7, HOST_PORT = 9, BUFFER = 1000 };

static struct hk_vsock_hdr packet(enum hk_vsock_op op)
{
	return (struct hk_vsock_hdr){
		.src_cid = HK_VSOCK_GUEST_CID,
		.dst_cid = HK_VSOCK_HOST_CID,
		.src_port = GUEST_PORT,
		.dst_port = HOST_PORT,
		.type = HK_VSOCK_STREAM,
		.op = (uint16_t)op,
		.buf_alloc = BUFFER,
	};
}

static enum hk_vsock_event receive(
	struct hk_vsock_core *core, struct hk_vsock_hdr hdr, struct hk_vsock_conn **ret_conn)
{
	return hk_vsock_receive(core, &hdr, hdr.len, ret_conn);
}

/* The next packet; its op, or INVALID where there is none. */
static enum hk_vsock_op next_op(struct hk_vsock_core *core, struct hk_vsock_turn *ret_turn)
{
	struct hk_vsock_turn turn = hk_vsock_next(core);

	if (ret_turn != NULL) {
		*ret_turn = turn;
	}
	return turn.kind == HK_VSOCK_TURN_PACKET ? turn.hdr.op : HK_VSOCK_OP_INVALID;
}

/* A connection that the guest opened, with its RESPONSE sent. */
static void open_conn(struct hk_vsock_core *core, struct hk_vsock_conn *conn)
{
	struct hk_vsock_hdr hdr = packet(HK_VSOCK_OP_REQUEST);
	struct hk_vsock_conn *found;

	assert_int_equal(receive(core, hdr, &found), HK_VSOCK_REQUESTED);
	assert_null(found);
	hk_vsock_accept(core, conn, &hdr, BUFFER);
	assert_int_equal(next_op(core, NULL), HK_VSOCK_OP_RESPONSE);
	assert_int_equal(conn->state, HK_VSOCK_OPEN);
}

static void test_header_bytes(void **state)
{
	static const uint8_t wire[HK_VSOCK_HDR_SIZE] = {
		3, 0, 0, 0, 0, 0, 0, 0,            /* src_cid */
		2, 0, 0, 0, 0, 0, 0, 0,            /* dst_cid */
		0x04, 0x03, 0x02, 0x01,            /* src_port */
		0x08, 0x07, 0x06, 0x05,            /* dst_port */
		0x0c, 0x0b, 0x0a, 0x09,            /* len */
		1, 0, 5, 0,                        /* type, op */
		0x10, 0, 0, 0,                     /* flags */
		0, 0, 4, 0, 0xff, 0xff, 0xff, 0xff /* buf_alloc, fwd_cnt */
	};
	struct hk_vsock_hdr hdr;
	uint8_t out[HK_VSOCK_HDR_SIZE];

	hk_vsock_hdr_decode(wire, &hdr);
	assert_int_equal(hdr.src_cid, 3);
	assert_int_equal(hdr.dst_cid, 2);
	assert_int_equal(hdr.src_port, 0x01020304);
	assert_int_equal(hdr.dst_port, 0x05060708);
	assert_int_equal(hdr.len, 0x090a0b0c);
	assert_int_equal(hdr.type, HK_VSOCK_STREAM);
	assert_int_equal(hdr.op, HK_VSOCK_OP_RW);
	assert_int_equal(hdr.flags, 0x10);
	assert_int_equal(hdr.buf_alloc, 0x40000);
	assert_int_equal(hdr.fwd_cnt, UINT32_MAX);
	hk_vsock_hdr_encode(&hdr, out);
	assert_memory_equal(out, wire, sizeof(wire));
}

/* Packets that belong to no connection: answered with a RST that mirrors them, or not at all. */
static void test_strangers(void **state)
{
	static const struct {
		const char *what;
		uint64_t src_cid, dst_cid;
		uint16_t type, op;
		bool answered;
	} cases[] = {
		{"data", 3, 2, 1, HK_VSOCK_OP_RW, true},
		{"response", 3, 2, 1, HK_VSOCK_OP_RESPONSE, true},
		{"shutdown", 3, 2, 1, HK_VSOCK_OP_SHUTDOWN, true},
		{"credit update", 3, 2, 1, HK_VSOCK_OP_CREDIT_UPDATE, true},
		{"reset is never answered", 3, 2, 1, HK_VSOCK_OP_RST, false},
		{"no such operation", 3, 2, 1, 99, true},
		{"operation 0", 3, 2, 1, 0, true},
		{"wrong destination", 3, 77, 1, HK_VSOCK_OP_REQUEST, true},
		{"wrong source", 4, 2, 1, HK_VSOCK_OP_REQUEST, true},
		{"reset from a wrong source", 4, 2, 1, HK_VSOCK_OP_RST, false},
		{"sequenced packets", 3, 2, HK_VSOCK_SEQPACKET, HK_VSOCK_OP_REQUEST, true},
		{"unknown type", 3, 2, 0xffff, HK_VSOCK_OP_REQUEST, true},
	};

	for (unsigned i = 0; i < HK_ARRAY_SIZE(cases); i++) {
		struct hk_vsock_core core = {0};
		struct hk_vsock_hdr hdr = packet(cases[i].op);
		struct hk_vsock_conn *conn;
		struct hk_vsock_turn turn;

		print_message("%s\n", cases[i].what);
		hdr.src_cid = cases[i].src_cid;
		hdr.dst_cid = cases[i].dst_cid;
		hdr.type = cases[i].type;
		assert_int_equal(receive(&core, hdr, &conn), HK_VSOCK_NOTHING);
		assert_null(conn);
		assert_int_equal(hk_vsock_has_turn(&core), cases[i].answered);
		if (!cases[i].answered) {
			continue;
		}
		assert_int_equal(next_op(&core, &turn), HK_VSOCK_OP_RST);
		assert_null(turn.conn);
		assert_int_equal(turn.hdr.src_cid, cases[i].dst_cid);
		assert_int_equal(turn.hdr.dst_cid, cases[i].src_cid);
		assert_int_equal(turn.hdr.src_port, HOST_PORT);
		assert_int_equal(turn.hdr.dst_port, GUEST_PORT);
		assert_int_equal(turn.hdr.type, cases[i].type);
		assert_int_equal(turn.hdr.len, 0);
		assert_false(hk_vsock_has_turn(&core));
	}
}

static void test_strangers_are_bounded(void **state)
{
	struct hk_vsock_core core = {0};
	struct hk_vsock_conn *conn;
	struct hk_vsock_turn turn;

	for (uint32_t i = 0; i < HK_VSOCK_MAX_ORPHANS + 10; i++) {
		struct hk_vsock_hdr hdr = packet(HK_VSOCK_OP_RW);

		hdr.src_port = i;
		assert_int_equal(receive(&core, hdr, &conn), HK_VSOCK_NOTHING);
	}
	assert_int_equal(core.dropped, 10);
	for (uint32_t i = 0; i < HK_VSOCK_MAX_ORPHANS; i++) {
		assert_int_equal(next_op(&core, &turn), HK_VSOCK_OP_RST);
		assert_int_equal(turn.hdr.dst_port, i);
	}
	assert_false(hk_vsock_has_turn(&core));
}

/* What an open connection makes of a packet. */
static void test_packets_of_open(void **state)
{
	static const struct {
		const char *what;
		uint16_t op;
		uint32_t len;
		uint64_t payload_bytes;
		uint32_t flags;
		enum hk_vsock_event event;
		enum hk_vsock_op answer;
	} cases[] = {
		{"data", HK_VSOCK_OP_RW, 10, 10, 0, HK_VSOCK_DATA, 0},
		{"no data", HK_VSOCK_OP_RW, 0, 0, 0, HK_VSOCK_DATA, 0},
		{"data with a longer buffer", HK_VSOCK_OP_RW, 10, 4000, 0, HK_VSOCK_DATA, 0},
		{"all the credit", HK_VSOCK_OP_RW, BUFFER, BUFFER, 0, HK_VSOCK_DATA, 0},
		{"beyond credit", HK_VSOCK_OP_RW, BUFFER + 1, BUFFER + 1, 0, HK_VSOCK_ENDED,
			HK_VSOCK_OP_RST},
		{"more than is there", HK_VSOCK_OP_RW, 11, 10, 0, HK_VSOCK_ENDED, HK_VSOCK_OP_RST},
		{"much more than is there", HK_VSOCK_OP_RW, UINT32_MAX, 0, 0, HK_VSOCK_ENDED,
			HK_VSOCK_OP_RST},
		{"a second request", HK_VSOCK_OP_REQUEST, 0, 0, 0, HK_VSOCK_ENDED, HK_VSOCK_OP_RST},
		{"a response", HK_VSOCK_OP_RESPONSE, 0, 0, 0, HK_VSOCK_ENDED, HK_VSOCK_OP_RST},
		{"no such operation", 8, 0, 0, 0, HK_VSOCK_ENDED, HK_VSOCK_OP_RST},
		{"operation 0", 0, 0, 0, 0, HK_VSOCK_ENDED, HK_VSOCK_OP_RST},
		{"reset", HK_VSOCK_OP_RST, 0, 0, 0, HK_VSOCK_ENDED, 0},
		{"credit update", HK_VSOCK_OP_CREDIT_UPDATE, 0, 0, 0, HK_VSOCK_NOTHING, 0},
		{"credit request", HK_VSOCK_OP_CREDIT_REQUEST, 0, 0, 0, HK_VSOCK_NOTHING,
			HK_VSOCK_OP_CREDIT_UPDATE},
		{"no more from the guest", HK_VSOCK_OP_SHUTDOWN, 0, 0, HK_VSOCK_SHUT_SEND,
			HK_VSOCK_SHUTDOWN, 0},
		{"no more to the guest", HK_VSOCK_OP_SHUTDOWN, 0, 0, HK_VSOCK_SHUT_RCV,
			HK_VSOCK_SHUTDOWN, 0},
		{"no more at all", HK_VSOCK_OP_SHUTDOWN, 0, 0, HK_VSOCK_SHUT_BOTH, HK_VSOCK_ENDED,
			HK_VSOCK_OP_RST},
		{"unknown flags", HK_VSOCK_OP_SHUTDOWN, 0, 0, 0xfffffff0, HK_VSOCK_SHUTDOWN, 0},
	};

	for (unsigned i = 0; i < HK_ARRAY_SIZE(cases); i++) {
		struct hk_vsock_core core = {0};
		struct hk_vsock_conn conn = {0}, *found;
		struct hk_vsock_hdr hdr = packet(cases[i].op);
		struct hk_vsock_turn turn;

		print_message("%s\n", cases[i].what);
		open_conn(&core, &conn);
		hdr.len = cases[i].len;
		hdr.flags = cases[i].flags;
		assert_int_equal(hk_vsock_receive(&core, &hdr, cases[i].payload_bytes, &found),
			cases[i].event);
		assert_ptr_equal(found, cases[i].event == HK_VSOCK_NOTHING ? NULL : &conn);
		assert_int_equal(next_op(&core, &turn), cases[i].answer);
		if (cases[i].answer != 0) {
			assert_ptr_equal(turn.conn, &conn);
			assert_int_equal(turn.hdr.src_port, HOST_PORT);
			assert_int_equal(turn.hdr.dst_port, GUEST_PORT);
		}
		assert_int_equal(conn.state,
			cases[i].event == HK_VSOCK_ENDED ? HK_VSOCK_UNUSED : HK_VSOCK_OPEN);
		assert_int_equal(core.count, conn.state == HK_VSOCK_UNUSED ? 0 : 1);
		assert_false(hk_vsock_has_turn(&core));
	}
}

static void test_credit_given(void **state)
{
	struct hk_vsock_core core = {0};
	struct hk_vsock_conn conn = {0}, *found;
	struct hk_vsock_hdr hdr = packet(HK_VSOCK_OP_RW);
	struct hk_vsock_turn turn;

	open_conn(&core, &conn);
	/* Counts wrap, and nobody notices. */
	conn.rx_cnt = conn.fwd_cnt = conn.fwd_told = UINT32_MAX - BUFFER / 2;
	hdr.len = BUFFER;
	assert_int_equal(receive(&core, hdr, &found), HK_VSOCK_DATA);
	hk_vsock_consumed(&core, &conn, BUFFER / 2 - 1);
	assert_false(hk_vsock_has_turn(&core));
	hk_vsock_consumed(&core, &conn, 1);
	assert_int_equal(next_op(&core, &turn), HK_VSOCK_OP_CREDIT_UPDATE);
	assert_int_equal(turn.hdr.buf_alloc, BUFFER);
	assert_int_equal(turn.hdr.fwd_cnt, UINT32_MAX);
	assert_false(hk_vsock_has_turn(&core));
	/* Half of it is free again: as much may come, and not a byte more. */
	hdr.len = BUFFER / 2;
	assert_int_equal(receive(&core, hdr, &found), HK_VSOCK_DATA);
	hdr.len = 1;
	assert_int_equal(receive(&core, hdr, &found), HK_VSOCK_ENDED);
}

static void test_credit_kept(void **state)
{
	struct hk_vsock_core core = {0};
	struct hk_vsock_conn conn = {0}, *found;
	struct hk_vsock_hdr hdr = packet(HK_VSOCK_OP_CREDIT_UPDATE), sent;
	struct hk_vsock_turn turn;

	open_conn(&core, &conn);
	hk_vsock_set_readable(&core, &conn, true);
	turn = hk_vsock_next(&core);
	assert_int_equal(turn.kind, HK_VSOCK_TURN_DATA);
	assert_int_equal(turn.max_bytes, BUFFER);
	hk_vsock_sent(&core, &conn, BUFFER - 1, &sent);
	assert_int_equal(sent.op, HK_VSOCK_OP_RW);
	assert_int_equal(sent.len, BUFFER - 1);
	turn = hk_vsock_next(&core);
	assert_int_equal(turn.max_bytes, 1);
	hk_vsock_sent(&core, &conn, 1, &sent);
	/* None left: asked for once, then silence. */
	assert_int_equal(next_op(&core, NULL), HK_VSOCK_OP_CREDIT_REQUEST);
	assert_false(hk_vsock_has_turn(&core));
	assert_int_equal(receive(&core, hdr, &found), HK_VSOCK_NOTHING);
	assert_false(hk_vsock_has_turn(&core));
	hdr.fwd_cnt = 600;
	assert_int_equal(receive(&core, hdr, &found), HK_VSOCK_NOTHING);
	assert_int_equal(hk_vsock_next(&core).max_bytes, 600);
	/* A buffer that shrinks below what is under way, and a count of what was never sent. */
	hdr.buf_alloc = 10;
	receive(&core, hdr, &found);
	assert_int_equal(next_op(&core, NULL), HK_VSOCK_OP_CREDIT_REQUEST);
	assert_false(hk_vsock_has_turn(&core));
	hdr.buf_alloc = BUFFER;
	hdr.fwd_cnt = BUFFER + 1;
	receive(&core, hdr, &found);
	assert_false(hk_vsock_has_turn(&core));
}

static void test_turns_go_round(void **state)
{
	struct hk_vsock_core core = {0};
	struct hk_vsock_conn conns[3] = {0};
	struct hk_vsock_hdr sent;

	for (uint32_t i = 0; i < 3; i++) {
		struct hk_vsock_hdr hdr = packet(HK_VSOCK_OP_REQUEST);

		hdr.src_port = i;
		hk_vsock_accept(&core, &conns[i], &hdr, BUFFER);
		assert_int_equal(next_op(&core, NULL), HK_VSOCK_OP_RESPONSE);
	}
	for (unsigned i = 0; i < 3; i++) {
		hk_vsock_set_readable(&core, &conns[i], true);
	}
	for (unsigned i = 0; i < 9; i++) {
		struct hk_vsock_turn turn = hk_vsock_next(&core);

		assert_int_equal(turn.kind, HK_VSOCK_TURN_DATA);
		assert_ptr_equal(turn.conn, &conns[i % 3]);
		hk_vsock_sent(&core, turn.conn, 1, &sent);
	}
	hk_vsock_forget(&core, &conns[1]);
	assert_ptr_equal(hk_vsock_next(&core).conn, &conns[0]);
	assert_ptr_equal(hk_vsock_next(&core).conn, &conns[2]);
	hk_vsock_set_readable(&core, &conns[0], false);
	assert_ptr_equal(hk_vsock_next(&core).conn, &conns[2]);
	hk_vsock_forget(&core, &conns[0]);
	hk_vsock_forget(&core, &conns[2]);
	hk_vsock_forget(&core, &conns[2]);
	assert_int_equal(core.count, 0);
	assert_int_equal(hk_vsock_next(&core).kind, HK_VSOCK_TURN_NONE);
}

static void test_both_sides_finish_sending(void **state)
{
	static const bool host_first[] = {true, false};

	for (unsigned i = 0; i < HK_ARRAY_SIZE(host_first); i++) {
		struct hk_vsock_core core = {0};
		struct hk_vsock_conn conn = {0}, *found;
		struct hk_vsock_hdr hdr = packet(HK_VSOCK_OP_SHUTDOWN);
		struct hk_vsock_turn turn;

		hdr.flags = HK_VSOCK_SHUT_SEND;
		open_conn(&core, &conn);
		if (host_first[i]) {
			hk_vsock_shut(&core, &conn, HK_VSOCK_SHUT_SEND);
			assert_int_equal(next_op(&core, &turn), HK_VSOCK_OP_SHUTDOWN);
			assert_int_equal(turn.hdr.flags, HK_VSOCK_SHUT_SEND);
			assert_int_equal(conn.state, HK_VSOCK_OPEN);
			assert_int_equal(receive(&core, hdr, &found), HK_VSOCK_ENDED);
		} else {
			assert_int_equal(receive(&core, hdr, &found), HK_VSOCK_SHUTDOWN);
			hk_vsock_shut(&core, &conn, HK_VSOCK_SHUT_SEND);
			assert_int_equal(next_op(&core, &turn), HK_VSOCK_OP_SHUTDOWN);
		}
		assert_int_equal(conn.state, HK_VSOCK_RESETTING);
		assert_int_equal(next_op(&core, &turn), HK_VSOCK_OP_RST);
		assert_ptr_equal(turn.conn, &conn);
		assert_int_equal(conn.state, HK_VSOCK_UNUSED);
		assert_false(hk_vsock_has_turn(&core));
	}
}

static void test_nothing_after_the_end(void **state)
{
	struct hk_vsock_core core = {0};
	struct hk_vsock_conn conn = {0}, *found;
	struct hk_vsock_hdr hdr = packet(HK_VSOCK_OP_RW);

	open_conn(&core, &conn);
	hk_vsock_abort(&core, &conn);
	hk_vsock_set_readable(&core, &conn, true);
	hk_vsock_shut(&core, &conn, HK_VSOCK_SHUT_BOTH);
	hdr.len = 5;
	assert_int_equal(receive(&core, hdr, &found), HK_VSOCK_NOTHING);
	assert_int_equal(next_op(&core, NULL), HK_VSOCK_OP_RST);
	assert_false(hk_vsock_has_turn(&core));
	hk_vsock_abort(&core, &conn);
	hk_vsock_consumed(&core, &conn, 0);
	assert_false(hk_vsock_has_turn(&core));

	/* After its SHUTDOWN the guest sends no data. */
	open_conn(&core, &conn);
	hdr = packet(HK_VSOCK_OP_SHUTDOWN);
	hdr.flags = HK_VSOCK_SHUT_SEND;
	assert_int_equal(receive(&core, hdr, &found), HK_VSOCK_SHUTDOWN);
	assert_int_equal(receive(&core, packet(HK_VSOCK_OP_RW), &found), HK_VSOCK_ENDED);
}

static void test_open_to_guest(void **state)
{
	static const struct {
		enum hk_vsock_op op;
		bool before_request; /* is sent */
		enum hk_vsock_event event;
	} cases[] = {
		{HK_VSOCK_OP_RESPONSE, false, HK_VSOCK_CONNECTED},
		{HK_VSOCK_OP_RESPONSE, true, HK_VSOCK_ENDED},
		{HK_VSOCK_OP_RST, false, HK_VSOCK_ENDED},
		{HK_VSOCK_OP_RW, false, HK_VSOCK_ENDED},
		{HK_VSOCK_OP_SHUTDOWN, false, HK_VSOCK_ENDED},
		{HK_VSOCK_OP_REQUEST, false, HK_VSOCK_ENDED},
	};

	for (unsigned i = 0; i < HK_ARRAY_SIZE(cases); i++) {
		struct hk_vsock_core core = {0};
		struct hk_vsock_conn conn = {0}, *found;
		struct hk_vsock_hdr hdr = packet(cases[i].op);
		struct hk_vsock_turn turn;

		hk_vsock_open(&core, &conn, GUEST_PORT, BUFFER);
		assert_true(conn.host_port >= HK_VSOCK_EPHEMERAL_MIN);
		hk_vsock_set_readable(&core, &conn, true);
		if (!cases[i].before_request) {
			assert_int_equal(next_op(&core, &turn), HK_VSOCK_OP_REQUEST);
			assert_int_equal(turn.hdr.buf_alloc, BUFFER);
			assert_false(hk_vsock_has_turn(&core));
		}
		hdr.dst_port = conn.host_port;
		assert_int_equal(receive(&core, hdr, &found), cases[i].event);
		assert_ptr_equal(found, &conn);
		if (cases[i].event == HK_VSOCK_CONNECTED) {
			assert_int_equal(hk_vsock_next(&core).kind, HK_VSOCK_TURN_DATA);
		}
	}
}

static void test_ephemeral_ports(void **state)
{
	struct hk_vsock_core core = {.last_ephemeral = UINT32_MAX - 2};
	struct hk_vsock_conn conns[3] = {0};

	for (unsigned i = 0; i < 3; i++) {
		hk_vsock_open(&core, &conns[i], GUEST_PORT, BUFFER);
	}
	assert_int_equal(conns[0].host_port, UINT32_MAX - 1);
	assert_int_equal(conns[1].host_port, HK_VSOCK_EPHEMERAL_MIN);
	assert_int_equal(conns[2].host_port, HK_VSOCK_EPHEMERAL_MIN + 1);
	/* One that is in use is passed over. */
	hk_vsock_forget(&core, &conns[0]);
	core.last_ephemeral = UINT32_MAX - 1;
	hk_vsock_open(&core, &conns[0], GUEST_PORT, BUFFER);
	assert_int_equal(conns[0].host_port, HK_VSOCK_EPHEMERAL_MIN + 2);
}

static void test_limit(void **state)
{
	struct hk_vsock_core core = {0};
	struct hk_vsock_conn *conns = calloc(HK_VSOCK_MAX_CONNS, sizeof(*conns)), *found;
	struct hk_vsock_hdr hdr = packet(HK_VSOCK_OP_REQUEST);

	for (uint32_t i = 0; i < HK_VSOCK_MAX_CONNS; i++) {
		hdr.src_port = i;
		assert_int_equal(receive(&core, hdr, &found), HK_VSOCK_REQUESTED);
		hk_vsock_accept(&core, &conns[i], &hdr, BUFFER);
	}
	hdr.src_port = HK_VSOCK_MAX_CONNS;
	assert_int_equal(receive(&core, hdr, &found), HK_VSOCK_NOTHING);
	assert_int_equal(next_op(&core, NULL), HK_VSOCK_OP_RST);
	/* Each is found again among the many. */
	for (uint32_t i = 0; i < HK_VSOCK_MAX_CONNS; i++) {
		hdr.src_port = i;
		hdr.op = HK_VSOCK_OP_RST;
		assert_int_equal(receive(&core, hdr, &found), HK_VSOCK_ENDED);
		assert_ptr_equal(found, &conns[i]);
	}
	assert_int_equal(core.count, 0);
	assert_false(hk_vsock_has_turn(&core));
	free(conns);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_header_bytes),
		cmocka_unit_test(test_strangers),
		cmocka_unit_test(test_strangers_are_bounded),
		cmocka_unit_test(test_packets_of_open),
		cmocka_unit_test(test_credit_given),
		cmocka_unit_test(test_credit_kept),
		cmocka_unit_test(test_turns_go_round),
		cmocka_unit_test(test_both_sides_finish_sending),
		cmocka_unit_test(test_nothing_after_the_end),
		cmocka_unit_test(test_open_to_guest),
		cmocka_unit_test(test_ephemeral_ports),
		cmocka_unit_test(test_limit),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
