/* SPDX-License-Identifier: ISC */
/*
 * The vsock protocol, host's side, as a core without I/O: headers, the table of connections,
 * credit, half-closes, and the choice of the packet to send next. Streams and queues are vsock.c's.
 *
 * Loop's thread only. Source: VIRTIO 1.2, section 5.10.6 (device operation).
 */
#ifndef HK_VIRTIO_VSOCK_CORE_H
#define HK_VIRTIO_VSOCK_CORE_H

#include <assert.h>
#include <stdbool.h>
#include <stdint.h>

enum {
	HK_VSOCK_MAX_CONNS = 1024,
	HK_VSOCK_MAX_ORPHANS = 256,
	HK_VSOCK_BUCKETS = 256,           /* a power of two */
	HK_VSOCK_EPHEMERAL_MIN = 1 << 30, /* host ports of connections that we open */
};

/* Packet types and operations: 5.10.6. */
enum hk_vsock_type { HK_VSOCK_STREAM = 1, HK_VSOCK_SEQPACKET = 2 };

enum hk_vsock_op {
	HK_VSOCK_OP_INVALID = 0,
	HK_VSOCK_OP_REQUEST = 1,
	HK_VSOCK_OP_RESPONSE = 2,
	HK_VSOCK_OP_RST = 3,
	HK_VSOCK_OP_SHUTDOWN = 4,
	HK_VSOCK_OP_RW = 5,
	HK_VSOCK_OP_CREDIT_UPDATE = 6,
	HK_VSOCK_OP_CREDIT_REQUEST = 7,
	HK_VSOCK_OP_COUNT,
};

/* Flags of SHUTDOWN: what the sender will do no more. */
enum hk_vsock_shutdown {
	HK_VSOCK_SHUT_RCV = 1u << 0,
	HK_VSOCK_SHUT_SEND = 1u << 1,
	HK_VSOCK_SHUT_BOTH = HK_VSOCK_SHUT_RCV | HK_VSOCK_SHUT_SEND,
};

/*
 * The header of every packet, little-endian:
 *
 *	 0       8       16       20       24    28     30   32      36          40        44
 *	+-------+-------+--------+--------+-----+------+----+-------+-----------+---------+
 *	|src_cid|dst_cid|src_port|dst_port| len | type | op | flags | buf_alloc | fwd_cnt |
 *	+-------+-------+--------+--------+-----+------+----+-------+-----------+---------+
 */
struct hk_vsock_wire {
	uint64_t src_cid;
	uint64_t dst_cid;
	uint32_t src_port;
	uint32_t dst_port;
	uint32_t len;
	uint16_t type;
	uint16_t op;
	uint32_t flags;
	uint32_t buf_alloc;
	uint32_t fwd_cnt;
} __attribute__((packed));

enum { HK_VSOCK_HDR_SIZE = 44 };
static_assert(sizeof(struct hk_vsock_wire) == HK_VSOCK_HDR_SIZE, "VIRTIO 1.2, 5.10.6");

/** struct hk_vsock_hdr - the same in host byte order */
struct hk_vsock_hdr {
	uint64_t src_cid, dst_cid;
	uint32_t src_port, dst_port;
	uint32_t len;
	uint16_t type, op;
	uint32_t flags;
	uint32_t buf_alloc, fwd_cnt;
};

void hk_vsock_hdr_decode(const uint8_t bytes[HK_VSOCK_HDR_SIZE], struct hk_vsock_hdr *hdr);
void hk_vsock_hdr_encode(const struct hk_vsock_hdr *hdr, uint8_t bytes[HK_VSOCK_HDR_SIZE]);

enum hk_vsock_state {
	HK_VSOCK_UNUSED,     /* not in the table */
	HK_VSOCK_CONNECTING, /* we asked, the guest has not answered */
	HK_VSOCK_OPEN,
	HK_VSOCK_RESETTING, /* over, but the guest has not been told yet */
	HK_VSOCK_STATE_COUNT,
};

/**
 * struct hk_vsock_conn - one connection; embedded in its owner, zeroed before its first use
 * @pending: packets to send, 1u << op
 * @readable: the host end may have bytes for the guest
 * @buf_alloc: bytes the owner buffers for this connection; constant
 * @rx_cnt: bytes that came from the guest; like all counts modulo 2^32
 * @fwd_cnt: of these, bytes that have left the owner's buffer
 * @fwd_told: @fwd_cnt in the last packet sent
 * @tx_cnt: bytes sent to the guest
 * @peer_buf_alloc, @peer_fwd_cnt: the guest's buffer, as it said last
 * @peer_shutdown, @our_shutdown: HK_VSOCK_SHUT_*, as received and as told or to be told
 * @credit_asked: CREDIT_REQUEST was sent since the credit ran out
 */
struct hk_vsock_conn {
	uint32_t guest_port, host_port;
	enum hk_vsock_state state;
	unsigned pending;
	bool readable;
	uint32_t buf_alloc, rx_cnt, fwd_cnt, fwd_told;
	uint32_t tx_cnt, peer_buf_alloc, peer_fwd_cnt;
	unsigned peer_shutdown, our_shutdown;
	bool credit_asked;
	/* The core's own. */
	struct hk_vsock_conn *bucket_next;
	struct hk_vsock_conn *next, *prev; /* in the round of those with something to send */
	bool queued;
};

/** struct hk_vsock_orphan - a RST for packets of no connection */
struct hk_vsock_orphan {
	uint64_t src_cid, dst_cid;
	uint32_t src_port, dst_port;
	uint16_t type;
};

/**
 * struct hk_vsock_core - all connections of one device; zero-initialize
 * @count: connections in the table
 * @orphans: a ring; where it is full, further ones are dropped (and @dropped counts them)
 */
struct hk_vsock_core {
	struct hk_vsock_conn *buckets[HK_VSOCK_BUCKETS]; /* borrowed */
	unsigned count;
	struct hk_vsock_conn *round; /* the one whose turn is next, or NULL; borrowed */
	struct hk_vsock_orphan orphans[HK_VSOCK_MAX_ORPHANS];
	unsigned orphan_first, orphan_count;
	uint64_t dropped;
	uint32_t last_ephemeral;
};

/* What a packet from the guest means to the owner of its connection. */
enum hk_vsock_event {
	HK_VSOCK_NOTHING,
	HK_VSOCK_REQUESTED, /* a new connection: hk_vsock_accept() or hk_vsock_refuse() it */
	HK_VSOCK_CONNECTED, /* ours was accepted */
	HK_VSOCK_DATA,      /* hdr->len bytes of payload, which fit the buffer */
	HK_VSOCK_SHUTDOWN,  /* conn->peer_shutdown has changed */
	HK_VSOCK_ENDED,     /* over; it has left the table, or will once its RST is sent */
	HK_VSOCK_EVENT_COUNT,
};

/**
 * hk_vsock_receive() - a packet from the guest
 * @payload_bytes: what follows the header in its buffer
 * @ret_conn: the connection; NULL with HK_VSOCK_NOTHING and HK_VSOCK_REQUESTED
 *
 * Breaches of protocol end the connection and are answered with RST.
 */
enum hk_vsock_event hk_vsock_receive(struct hk_vsock_core *core, const struct hk_vsock_hdr *hdr,
	uint64_t payload_bytes, struct hk_vsock_conn **ret_conn);

/** hk_vsock_accept() - answer REQUEST @hdr; @conn goes into the table */
void hk_vsock_accept(struct hk_vsock_core *core, struct hk_vsock_conn *conn,
	const struct hk_vsock_hdr *hdr, uint32_t buf_alloc);
void hk_vsock_refuse(struct hk_vsock_core *core, const struct hk_vsock_hdr *hdr);

/** hk_vsock_open() - ask the guest for a connection to @guest_port; @conn goes into the table */
void hk_vsock_open(struct hk_vsock_core *core, struct hk_vsock_conn *conn, uint32_t guest_port,
	uint32_t buf_alloc);

/** hk_vsock_set_readable() - the host end has bytes for the guest, or has none */
void hk_vsock_set_readable(struct hk_vsock_core *core, struct hk_vsock_conn *conn, bool readable);

/** hk_vsock_consumed() - @len_bytes from the guest have left the owner's buffer */
void hk_vsock_consumed(struct hk_vsock_core *core, struct hk_vsock_conn *conn, uint32_t len_bytes);

/** hk_vsock_shut() - the host end will not send (SEND), or not take (RCV), any more; not while
 * CONNECTING */
void hk_vsock_shut(struct hk_vsock_core *core, struct hk_vsock_conn *conn, unsigned flags);

/** hk_vsock_abort() - end it with RST */
void hk_vsock_abort(struct hk_vsock_core *core, struct hk_vsock_conn *conn);

/** hk_vsock_forget() - take it from the table without a word; fine if it is not there */
void hk_vsock_forget(struct hk_vsock_core *core, struct hk_vsock_conn *conn);

/** hk_vsock_clear() - drop the orphans (after a reset of the device); connections are their owners'
 * to forget */
void hk_vsock_clear(struct hk_vsock_core *core);

enum hk_vsock_turn_kind {
	HK_VSOCK_TURN_NONE,
	HK_VSOCK_TURN_PACKET, /* send the header as it is */
	HK_VSOCK_TURN_DATA,   /* read up to max_bytes from the host end, then hk_vsock_sent() */
};

/**
 * struct hk_vsock_turn - the next thing to send
 * @conn: NULL for orphans. Its state is HK_VSOCK_UNUSED if it left the table with this packet: then
 *        its owner may free it
 * @max_bytes: credit
 */
struct hk_vsock_turn {
	enum hk_vsock_turn_kind kind;
	struct hk_vsock_hdr hdr;
	struct hk_vsock_conn *conn;
	uint32_t max_bytes;
};

/** hk_vsock_has_turn() - is there anything to send? */
bool hk_vsock_has_turn(const struct hk_vsock_core *core);

/**
 * hk_vsock_next() - take the next turn, round-robin over connections
 *
 * A packet counts as sent. A data turn changes nothing yet but the order.
 */
struct hk_vsock_turn hk_vsock_next(struct hk_vsock_core *core);

/** hk_vsock_sent() - account for @len_bytes of payload and give the header that goes before them */
void hk_vsock_sent(struct hk_vsock_core *core, struct hk_vsock_conn *conn, uint32_t len_bytes,
	struct hk_vsock_hdr *ret_hdr);

#endif
