/* SPDX-License-Identifier: ISC */
/*
 * The vsock protocol core.
 *
 * Theory: a connection is known by (guest port, host port). What has to be said about it is kept as
 * bits (conn->pending), never as queued packets, so what a guest can make us remember is bounded by
 * the table. Connections with something to send stand in a ring, the round; each turn sends one
 * packet, or one run of data, and moves on. Packets that belong to no connection are answered from
 * a small ring of RSTs.
 *
 * Credit: the guest may have buf_alloc bytes under way to us; more is a breach. We tell how much
 * has left our buffer with every packet, and with CREDIT_UPDATE once half of the buffer went by
 * untold: so a guest that has run out of credit is always told, and one that streams never waits.
 * The other way round we ask with CREDIT_REQUEST once each time credit runs out.
 *
 * Ending: when the guest will neither send nor receive any more, or when neither side will send,
 * the connection is RESETTING: a RST is due, and bytes that the owner still buffers are its affair
 * alone. So the guest's 8 s of patience after close() never cut the output that a slow reader has
 * yet to take.
 */
#include "virtio/vsock_core.h"

#include <endian.h>
#include <string.h>

#include "base/util.h"
#include "virtio/vsock.h"

void hk_vsock_hdr_decode(const uint8_t bytes[HK_VSOCK_HDR_SIZE], struct hk_vsock_hdr *hdr)
{
	struct hk_vsock_wire wire;

	memcpy(&wire, bytes, sizeof(wire));
	*hdr = (struct hk_vsock_hdr){
		.src_cid = le64toh(wire.src_cid),
		.dst_cid = le64toh(wire.dst_cid),
		.src_port = le32toh(wire.src_port),
		.dst_port = le32toh(wire.dst_port),
		.len = le32toh(wire.len),
		.type = le16toh(wire.type),
		.op = le16toh(wire.op),
		.flags = le32toh(wire.flags),
		.buf_alloc = le32toh(wire.buf_alloc),
		.fwd_cnt = le32toh(wire.fwd_cnt),
	};
}

void hk_vsock_hdr_encode(const struct hk_vsock_hdr *hdr, uint8_t bytes[HK_VSOCK_HDR_SIZE])
{
	struct hk_vsock_wire wire = {
		.src_cid = htole64(hdr->src_cid),
		.dst_cid = htole64(hdr->dst_cid),
		.src_port = htole32(hdr->src_port),
		.dst_port = htole32(hdr->dst_port),
		.len = htole32(hdr->len),
		.type = htole16(hdr->type),
		.op = htole16(hdr->op),
		.flags = htole32(hdr->flags),
		.buf_alloc = htole32(hdr->buf_alloc),
		.fwd_cnt = htole32(hdr->fwd_cnt),
	};

	memcpy(bytes, &wire, sizeof(wire));
}

/* The table */

static struct hk_vsock_conn **bucket_of(
	struct hk_vsock_core *core, uint32_t guest_port, uint32_t host_port)
{
	/* Fibonacci hashing: neighbouring ports spread. */
	uint32_t hash = (guest_port ^ host_port * 31) * UINT32_C(2654435769);

	return &core->buckets[hash >> 24 & (HK_VSOCK_BUCKETS - 1)];
}

static struct hk_vsock_conn *find(
	struct hk_vsock_core *core, uint32_t guest_port, uint32_t host_port)
{
	struct hk_vsock_conn *conn = *bucket_of(core, guest_port, host_port);

	while (conn != NULL && (conn->guest_port != guest_port || conn->host_port != host_port)) {
		conn = conn->bucket_next;
	}
	return conn;
}

static void insert(struct hk_vsock_core *core, struct hk_vsock_conn *conn)
{
	struct hk_vsock_conn **bucket = bucket_of(core, conn->guest_port, conn->host_port);

	conn->bucket_next = *bucket;
	*bucket = conn;
	core->count++;
}

/* The round */

static void enqueue(struct hk_vsock_core *core, struct hk_vsock_conn *conn)
{
	struct hk_vsock_conn *first = core->round;

	if (conn->queued) {
		return;
	}
	conn->queued = true;
	if (first == NULL) {
		conn->next = conn;
		conn->prev = conn;
		core->round = conn;
		return;
	}
	conn->next = first;
	conn->prev = first->prev;
	first->prev->next = conn;
	first->prev = conn;
}

static void dequeue(struct hk_vsock_core *core, struct hk_vsock_conn *conn)
{
	if (!conn->queued) {
		return;
	}
	conn->queued = false;
	if (conn->next == conn) {
		core->round = NULL;
	} else {
		conn->prev->next = conn->next;
		conn->next->prev = conn->prev;
		if (core->round == conn) {
			core->round = conn->next;
		}
	}
	conn->next = NULL;
	conn->prev = NULL;
}

static uint32_t credit(const struct hk_vsock_conn *conn)
{
	uint32_t under_way = conn->tx_cnt - conn->peer_fwd_cnt;

	/* A guest that shrinks its buffer, or lies, has less than none. */
	return under_way >= conn->peer_buf_alloc ? 0 : conn->peer_buf_alloc - under_way;
}

static bool wants_data(const struct hk_vsock_conn *conn)
{
	return conn->state == HK_VSOCK_OPEN && conn->readable &&
		(conn->peer_shutdown & HK_VSOCK_SHUT_RCV) == 0 &&
		(conn->our_shutdown & HK_VSOCK_SHUT_SEND) == 0;
}

/* To be called after every change of what conn has to say. */
static void update(struct hk_vsock_core *core, struct hk_vsock_conn *conn)
{
	bool has_credit = credit(conn) > 0;

	if (has_credit) {
		conn->credit_asked = false;
	} else if (wants_data(conn) && !conn->credit_asked) {
		conn->credit_asked = true;
		conn->pending |= 1u << HK_VSOCK_OP_CREDIT_REQUEST;
	}
	if (conn->pending != 0 || (has_credit && wants_data(conn))) {
		enqueue(core, conn);
	} else {
		dequeue(core, conn);
	}
}

static void pend(struct hk_vsock_core *core, struct hk_vsock_conn *conn, enum hk_vsock_op op)
{
	conn->pending |= 1u << op;
	update(core, conn);
}

void hk_vsock_forget(struct hk_vsock_core *core, struct hk_vsock_conn *conn)
{
	struct hk_vsock_conn **at = bucket_of(core, conn->guest_port, conn->host_port);

	if (conn->state == HK_VSOCK_UNUSED) {
		return;
	}
	while (*at != conn) {
		at = &(*at)->bucket_next;
	}
	*at = conn->bucket_next;
	core->count--;
	conn->pending = 0;
	dequeue(core, conn);
	conn->state = HK_VSOCK_UNUSED;
}

void hk_vsock_clear(struct hk_vsock_core *core)
{
	core->orphan_first = 0;
	core->orphan_count = 0;
}

/* Ends of connections */

static void begin_reset(struct hk_vsock_core *core, struct hk_vsock_conn *conn)
{
	conn->state = HK_VSOCK_RESETTING;
	/* A SHUTDOWN that is due goes first: it tells the guest that the stream ended in good
	 * order. */
	conn->pending &= 1u << HK_VSOCK_OP_SHUTDOWN;
	pend(core, conn, HK_VSOCK_OP_RST);
}

void hk_vsock_abort(struct hk_vsock_core *core, struct hk_vsock_conn *conn)
{
	if (conn->state != HK_VSOCK_UNUSED) {
		conn->state = HK_VSOCK_RESETTING;
		conn->pending = 0;
		pend(core, conn, HK_VSOCK_OP_RST);
	}
}

/* Is there nothing left to be said in either direction? */
static bool is_over(const struct hk_vsock_conn *conn)
{
	return conn->peer_shutdown == HK_VSOCK_SHUT_BOTH ||
		(conn->peer_shutdown & conn->our_shutdown & HK_VSOCK_SHUT_SEND) != 0;
}

static void add_orphan(struct hk_vsock_core *core, const struct hk_vsock_hdr *hdr)
{
	unsigned slot = (core->orphan_first + core->orphan_count) % HK_VSOCK_MAX_ORPHANS;

	/* RST is never answered, or two sides that both forgot would never come to rest. */
	if (hdr->op == HK_VSOCK_OP_RST) {
		return;
	}
	if (core->orphan_count == HK_VSOCK_MAX_ORPHANS) {
		core->dropped++;
		return;
	}
	core->orphans[slot] = (struct hk_vsock_orphan){
		.src_cid = hdr->dst_cid,
		.dst_cid = hdr->src_cid,
		.src_port = hdr->dst_port,
		.dst_port = hdr->src_port,
		.type = hdr->type,
	};
	core->orphan_count++;
}

/* Packets from the guest */

static enum hk_vsock_event breach(struct hk_vsock_core *core, struct hk_vsock_conn *conn)
{
	hk_vsock_abort(core, conn);
	return HK_VSOCK_ENDED;
}

static enum hk_vsock_event receive_shutdown(
	struct hk_vsock_core *core, struct hk_vsock_conn *conn, unsigned flags)
{
	conn->peer_shutdown |= flags & HK_VSOCK_SHUT_BOTH;
	if (is_over(conn)) {
		begin_reset(core, conn);
		return HK_VSOCK_ENDED;
	}
	update(core, conn);
	return HK_VSOCK_SHUTDOWN;
}

static enum hk_vsock_event receive_data(
	struct hk_vsock_core *core, struct hk_vsock_conn *conn, uint32_t len)
{
	uint32_t held = conn->rx_cnt - conn->fwd_cnt;

	if ((conn->peer_shutdown & HK_VSOCK_SHUT_SEND) != 0 || len > conn->buf_alloc - held) {
		return breach(core, conn);
	}
	conn->rx_cnt += len;
	update(core, conn);
	return HK_VSOCK_DATA;
}

static enum hk_vsock_event receive_open(struct hk_vsock_core *core, struct hk_vsock_conn *conn,
	const struct hk_vsock_hdr *hdr, uint64_t payload_bytes)
{
	conn->peer_buf_alloc = hdr->buf_alloc;
	conn->peer_fwd_cnt = hdr->fwd_cnt;
	switch (hdr->op) {
	case HK_VSOCK_OP_RW:
		if (hdr->len > payload_bytes) {
			return breach(core, conn);
		}
		return receive_data(core, conn, hdr->len);
	case HK_VSOCK_OP_SHUTDOWN:
		return receive_shutdown(core, conn, hdr->flags);
	case HK_VSOCK_OP_CREDIT_UPDATE:
		update(core, conn);
		return HK_VSOCK_NOTHING;
	case HK_VSOCK_OP_CREDIT_REQUEST:
		pend(core, conn, HK_VSOCK_OP_CREDIT_UPDATE);
		return HK_VSOCK_NOTHING;
	default:
		return breach(core, conn);
	}
}

static enum hk_vsock_event receive_connecting(
	struct hk_vsock_core *core, struct hk_vsock_conn *conn, const struct hk_vsock_hdr *hdr)
{
	/* An answer to what was not asked yet is as wrong as any other packet. */
	if (hdr->op != HK_VSOCK_OP_RESPONSE || (conn->pending & (1u << HK_VSOCK_OP_REQUEST)) != 0) {
		return breach(core, conn);
	}
	conn->state = HK_VSOCK_OPEN;
	conn->peer_buf_alloc = hdr->buf_alloc;
	conn->peer_fwd_cnt = hdr->fwd_cnt;
	update(core, conn);
	return HK_VSOCK_CONNECTED;
}

enum hk_vsock_event hk_vsock_receive(struct hk_vsock_core *core, const struct hk_vsock_hdr *hdr,
	uint64_t payload_bytes, struct hk_vsock_conn **ret_conn)
{
	struct hk_vsock_conn *conn;

	*ret_conn = NULL;
	if (hdr->src_cid != HK_VSOCK_GUEST_CID || hdr->dst_cid != HK_VSOCK_HOST_CID ||
		hdr->type != HK_VSOCK_STREAM) {
		add_orphan(core, hdr);
		return HK_VSOCK_NOTHING;
	}
	conn = find(core, hdr->src_port, hdr->dst_port);
	if (conn == NULL) {
		if (hdr->op == HK_VSOCK_OP_REQUEST && core->count < HK_VSOCK_MAX_CONNS) {
			return HK_VSOCK_REQUESTED;
		}
		add_orphan(core, hdr);
		return HK_VSOCK_NOTHING;
	}
	if (hdr->op == HK_VSOCK_OP_RST) {
		hk_vsock_forget(core, conn);
		*ret_conn = conn;
		return HK_VSOCK_ENDED;
	}
	switch (conn->state) {
	case HK_VSOCK_CONNECTING:
		*ret_conn = conn;
		return receive_connecting(core, conn, hdr);
	case HK_VSOCK_OPEN: {
		enum hk_vsock_event event = receive_open(core, conn, hdr, payload_bytes);

		*ret_conn = event == HK_VSOCK_NOTHING ? NULL : conn;
		return event;
	}
	default:
		/* RESETTING: the guest learns of it when its RST is sent. */
		return HK_VSOCK_NOTHING;
	}
}

/* What the owner asks for */

void hk_vsock_accept(struct hk_vsock_core *core, struct hk_vsock_conn *conn,
	const struct hk_vsock_hdr *hdr, uint32_t buf_alloc)
{
	assert(conn->state == HK_VSOCK_UNUSED && find(core, hdr->src_port, hdr->dst_port) == NULL);
	*conn = (struct hk_vsock_conn){
		.guest_port = hdr->src_port,
		.host_port = hdr->dst_port,
		.state = HK_VSOCK_OPEN,
		.buf_alloc = buf_alloc,
		.peer_buf_alloc = hdr->buf_alloc,
		.peer_fwd_cnt = hdr->fwd_cnt,
	};
	insert(core, conn);
	pend(core, conn, HK_VSOCK_OP_RESPONSE);
}

void hk_vsock_refuse(struct hk_vsock_core *core, const struct hk_vsock_hdr *hdr)
{
	add_orphan(core, hdr);
}

void hk_vsock_open(struct hk_vsock_core *core, struct hk_vsock_conn *conn, uint32_t guest_port,
	uint32_t buf_alloc)
{
	uint32_t port = core->last_ephemeral;

	assert(conn->state == HK_VSOCK_UNUSED);
	/* Ends: there are more ephemeral ports than connections. */
	do {
		port = HK_MAX(port + 1, HK_VSOCK_EPHEMERAL_MIN);
		if (port == UINT32_MAX) { /* VMADDR_PORT_ANY */
			port = HK_VSOCK_EPHEMERAL_MIN;
		}
	} while (find(core, guest_port, port) != NULL);
	core->last_ephemeral = port;
	*conn = (struct hk_vsock_conn){
		.guest_port = guest_port,
		.host_port = port,
		.state = HK_VSOCK_CONNECTING,
		.buf_alloc = buf_alloc,
	};
	insert(core, conn);
	pend(core, conn, HK_VSOCK_OP_REQUEST);
}

void hk_vsock_set_readable(struct hk_vsock_core *core, struct hk_vsock_conn *conn, bool readable)
{
	conn->readable = readable;
	if (conn->state != HK_VSOCK_UNUSED) {
		update(core, conn);
	}
}

void hk_vsock_consumed(struct hk_vsock_core *core, struct hk_vsock_conn *conn, uint32_t len_bytes)
{
	assert(len_bytes <= conn->rx_cnt - conn->fwd_cnt);
	conn->fwd_cnt += len_bytes;
	if (conn->state == HK_VSOCK_OPEN && (conn->peer_shutdown & HK_VSOCK_SHUT_SEND) == 0 &&
		conn->fwd_cnt - conn->fwd_told >= conn->buf_alloc / 2) {
		pend(core, conn, HK_VSOCK_OP_CREDIT_UPDATE);
	}
}

void hk_vsock_shut(struct hk_vsock_core *core, struct hk_vsock_conn *conn, unsigned flags)
{
	assert(conn->state != HK_VSOCK_CONNECTING);
	if (conn->state != HK_VSOCK_OPEN || (flags & ~conn->our_shutdown) == 0) {
		return;
	}
	conn->our_shutdown |= flags;
	conn->pending |= 1u << HK_VSOCK_OP_SHUTDOWN;
	if (is_over(conn)) {
		begin_reset(core, conn);
	} else {
		update(core, conn);
	}
}

/* Packets to the guest */

static void fill_header(struct hk_vsock_conn *conn, enum hk_vsock_op op, uint32_t len_bytes,
	struct hk_vsock_hdr *ret_hdr)
{
	*ret_hdr = (struct hk_vsock_hdr){
		.src_cid = HK_VSOCK_HOST_CID,
		.dst_cid = HK_VSOCK_GUEST_CID,
		.src_port = conn->host_port,
		.dst_port = conn->guest_port,
		.len = len_bytes,
		.type = HK_VSOCK_STREAM,
		.op = (uint16_t)op,
		.flags = op == HK_VSOCK_OP_SHUTDOWN ? conn->our_shutdown : 0,
		.buf_alloc = conn->buf_alloc,
		.fwd_cnt = conn->fwd_cnt,
	};
	conn->fwd_told = conn->fwd_cnt;
	conn->pending &= ~(1u << HK_VSOCK_OP_CREDIT_UPDATE);
}

static struct hk_vsock_turn next_orphan(struct hk_vsock_core *core)
{
	struct hk_vsock_orphan *orphan = &core->orphans[core->orphan_first];

	core->orphan_first = (core->orphan_first + 1) % HK_VSOCK_MAX_ORPHANS;
	core->orphan_count--;
	return (struct hk_vsock_turn){
		.kind = HK_VSOCK_TURN_PACKET,
		.hdr =
			{
				.src_cid = orphan->src_cid,
				.dst_cid = orphan->dst_cid,
				.src_port = orphan->src_port,
				.dst_port = orphan->dst_port,
				.type = orphan->type,
				.op = HK_VSOCK_OP_RST,
			},
	};
}

static enum hk_vsock_op first_pending(const struct hk_vsock_conn *conn)
{
	static const enum hk_vsock_op order[] = {
		HK_VSOCK_OP_REQUEST,
		HK_VSOCK_OP_RESPONSE,
		HK_VSOCK_OP_SHUTDOWN,
		HK_VSOCK_OP_RST,
		HK_VSOCK_OP_CREDIT_REQUEST,
		HK_VSOCK_OP_CREDIT_UPDATE,
	};

	for (unsigned i = 0; i < HK_ARRAY_SIZE(order); i++) {
		if ((conn->pending & (1u << order[i])) != 0) {
			return order[i];
		}
	}
	return HK_VSOCK_OP_INVALID;
}

bool hk_vsock_has_turn(const struct hk_vsock_core *core)
{
	return core->orphan_count > 0 || core->round != NULL;
}

struct hk_vsock_turn hk_vsock_next(struct hk_vsock_core *core)
{
	struct hk_vsock_turn turn = {.kind = HK_VSOCK_TURN_NONE};
	struct hk_vsock_conn *conn = core->round;
	enum hk_vsock_op op;

	if (core->orphan_count > 0) {
		return next_orphan(core);
	}
	if (conn == NULL) {
		return turn;
	}
	turn.conn = conn;
	op = first_pending(conn);
	core->round = conn->next;
	if (op == HK_VSOCK_OP_INVALID) {
		turn.kind = HK_VSOCK_TURN_DATA;
		turn.max_bytes = credit(conn);
		return turn;
	}
	turn.kind = HK_VSOCK_TURN_PACKET;
	conn->pending &= ~(1u << op);
	fill_header(conn, op, 0, &turn.hdr);
	if (op == HK_VSOCK_OP_RST) {
		hk_vsock_forget(core, conn);
	} else {
		update(core, conn);
	}
	return turn;
}

void hk_vsock_sent(struct hk_vsock_core *core, struct hk_vsock_conn *conn, uint32_t len_bytes,
	struct hk_vsock_hdr *ret_hdr)
{
	assert(len_bytes <= credit(conn));
	conn->tx_cnt += len_bytes;
	fill_header(conn, HK_VSOCK_OP_RW, len_bytes, ret_hdr);
	update(core, conn);
}
