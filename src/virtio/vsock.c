/* SPDX-License-Identifier: ISC */
/*
 * The virtio-vsock device: three queues on one side, streams of the host on the other.
 *
 * Theory: packets of the tx queue are handled as they come; their payload goes from guest memory
 * straight into the host's descriptor, and only what that does not take is held, within the credit
 * the guest was given. So the tx queue never waits for a reader. The other way, pump() gives the
 * guest's rx buffers to whoever has something to send, in turns; a turn of data is one readv()
 * straight into as many buffers as credit allows. What ends a turn early leaves a note of what must
 * happen for the next: an edge of the descriptor, a credit update, or a kick of the rx queue.
 *
 * A connection lives in the core's table until the guest knows that it is over, and has its stream
 * until the host's reader has taken the guest's last bytes; when neither is left it is freed.
 *
 * Threads: connections, streams, core and listeners belong to the loop's thread. A vCPU thread may
 * reset or activate the device: it touches the flags only (under the device's lock) and leaves a
 * post; the loop's thread then ends the connections of the driver's former life before it looks at
 * anything else.
 *
 * Limits: 1024 connections; streams only, no sequenced packets.
 */
#include "virtio/vsock.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/bytes.h"
#include "base/log.h"
#include "base/util.h"
#include "virtio/vsock_core.h"
#include "virtio/vsock_stream.h"

HK_LOG_CHANNEL("vsock");

enum {
	RX_QUEUE,
	TX_QUEUE,
	EVENT_QUEUE,
	QUEUE_COUNT,

	QUEUE_SIZE = 128,
	EVENT_QUEUE_SIZE = 16,

	RX_BATCH = 16, /* buffers filled by one read; Linux gives 4 KiB ones */
	RX_SEGMENTS = 64,
	PACKETS_PER_TURN = 256, /* of the loop, for each direction */

	/* What we buffer for a connection; less where there are many, as a hostile guest can have
	   it all filled. */
	LARGE_BUFFER = 256 * 1024,
	SMALL_BUFFER = 64 * 1024,
	LARGE_CONNS = 64,

	EVENT_TRANSPORT_RESET = 0,
	EVENT_SIZE = 4,
	STATE_VERSION = 1,
};

/* struct virtio_vsock_config: 5.10.4 */
enum { CONFIG_LEN = 8 };

struct conn {
	struct hk_vsock_conn core; /* first */
	struct hk_vsock_stream stream;
	struct hk_vsock *vsock;           /* borrowed */
	struct hk_vsock_connect *connect; /* borrowed; NULL once told */
	unsigned life;                    /* hk_vsock.life when it was made */
	bool reader_gone;                 /* the host takes no more */
	bool send_shut;                   /* the host's reader knows that no more will come */
	struct conn *next, *prev;
};

struct hk_vsock {
	struct hk_virtio virtio;             /* first */
	struct hk_loop *loop;                /* borrowed */
	struct hk_vsock_listener *listeners; /* borrowed */
	struct hk_vsock_core core;
	struct conn *conns; /* owned */
	unsigned conn_count;

	atomic_bool active; /* written under the lock */
	bool paused;        /* lock */
	bool event_due;     /* lock; the guest is to be told that its connections are gone */
	atomic_uint life;   /* resets so far; any thread */
	unsigned swept;     /* the life to which sweep() has seen; loop's thread */

	atomic_bool posted;
	struct hk_post work;

	/* Scratch of pump() and serve_tx(). */
	struct hk_chain rx[RX_BATCH];
	struct iovec rx_iov[RX_BATCH][QUEUE_SIZE];
	struct iovec tx_iov[QUEUE_SIZE];
};

static struct hk_vsock *vsock_of(struct hk_virtio *dev);

static struct conn *conn_of(struct hk_vsock_conn *core)
{
	return hk_container_of(core, struct conn, core);
}

static struct hk_virtq *queue(struct hk_vsock *vsock, unsigned index)
{
	return &vsock->virtio.queues[index].vq;
}

/* Does the rest of the work soon, on the loop's thread. Any thread. */
static void schedule(struct hk_vsock *vsock)
{
	if (!atomic_exchange(&vsock->posted, true)) {
		hk_loop_post(vsock->loop, &vsock->work);
	}
}

static bool is_running(const struct hk_vsock *vsock)
{
	return atomic_load(&vsock->active) && !vsock->paused;
}

/* The guest broke the rules of the queues: nothing moves until it resets the device. */
static void fail(struct hk_vsock *vsock, const char *why)
{
	atomic_store(&vsock->active, false);
	hk_virtio_fail(&vsock->virtio, why);
}

/* Connections */

static void stream_changed(struct hk_vsock_stream *stream);

/* Return: NULL where it cannot be; @fd is closed then. */
static struct conn *new_conn(struct hk_vsock *vsock, int fd)
{
	uint32_t cap = vsock->conn_count < LARGE_CONNS ? LARGE_BUFFER : SMALL_BUFFER;
	struct conn *conn;

	if (hk_new(conn) == NULL) {
		close(fd);
		return NULL;
	}
	conn->vsock = vsock;
	conn->life = atomic_load(&vsock->life);
	conn->stream.changed = stream_changed;
	if (hk_vsock_stream_open(&conn->stream, vsock->loop, fd, cap) < 0) {
		free(conn);
		return NULL;
	}
	conn->next = vsock->conns;
	if (conn->next != NULL) {
		conn->next->prev = conn;
	}
	vsock->conns = conn;
	vsock->conn_count++;
	return conn;
}

static void free_conn(struct conn *conn)
{
	struct hk_vsock *vsock = conn->vsock;

	if (conn->next != NULL) {
		conn->next->prev = conn->prev;
	}
	if (conn->prev != NULL) {
		conn->prev->next = conn->next;
	} else {
		vsock->conns = conn->next;
	}
	vsock->conn_count--;
	hk_vsock_forget(&vsock->core, &conn->core);
	hk_vsock_stream_close(&conn->stream);
	free(conn);
}

static void tell_connect(struct conn *conn, int error)
{
	struct hk_vsock_connect *connect = conn->connect;

	if (connect != NULL) {
		conn->connect = NULL;
		connect->conn = NULL;
		connect->done(connect, error);
	}
}

/* Is the guest done with it, whether it knows already or not? */
static bool is_over(const struct conn *conn)
{
	return conn->core.state == HK_VSOCK_UNUSED || conn->core.state == HK_VSOCK_RESETTING;
}

/* Does to the host end what follows from the state of the connection; may free it. */
static void settle(struct conn *conn)
{
	struct hk_vsock_stream *stream = &conn->stream;
	bool held = stream->len > 0;

	if (is_over(conn)) {
		if (!held) {
			hk_vsock_stream_close(stream);
		}
		if (conn->core.state == HK_VSOCK_UNUSED && !hk_vsock_stream_is_open(stream)) {
			free_conn(conn);
		}
		return;
	}
	if ((conn->core.peer_shutdown & HK_VSOCK_SHUT_SEND) != 0 && !held && !conn->send_shut) {
		conn->send_shut = true;
		hk_vsock_stream_shut_send(stream);
	}
}

/* The guest will not read any more; the host's writer learns of it even while bytes for its reader
 * are held. */
static void end(struct conn *conn)
{
	if (hk_vsock_stream_is_open(&conn->stream)) {
		hk_vsock_stream_shut_receive(&conn->stream);
	}
	settle(conn);
}

/* The outcome of a write to the host end: bytes that went out, or an error. */
static void account(struct conn *conn, ssize_t written)
{
	struct hk_vsock_core *core = &conn->vsock->core;

	if (written >= 0) {
		hk_vsock_consumed(core, &conn->core, (uint32_t)written);
		return;
	}
	conn->reader_gone = true;
	hk_vsock_consumed(core, &conn->core, conn->core.rx_cnt - conn->core.fwd_cnt);
	if (written == -EPIPE || written == -ECONNRESET) {
		hk_vsock_shut(core, &conn->core, HK_VSOCK_SHUT_RCV);
	} else {
		hk_vsock_abort(core, &conn->core); /* bytes were lost: not a clean end */
	}
}

static bool needs_sweep(const struct hk_vsock *vsock)
{
	return vsock->swept != atomic_load(&vsock->life);
}

static struct conn *find_of_former_life(const struct hk_vsock *vsock, unsigned life)
{
	struct conn *conn = vsock->conns;

	while (conn != NULL && conn->life == life) {
		conn = conn->next;
	}
	return conn;
}

/* Ends the connections of before a reset. Lock held, so that none comes meanwhile. */
static void sweep(struct hk_vsock *vsock)
{
	unsigned life = atomic_load(&vsock->life);
	struct conn *conn;

	if (!needs_sweep(vsock)) {
		return;
	}
	vsock->swept = life;
	hk_vsock_clear(&vsock->core);
	/* done() may make and cancel any others, so each look starts anew. */
	while ((conn = find_of_former_life(vsock, life)) != NULL) {
		conn->life = life;
		hk_vsock_forget(&vsock->core, &conn->core);
		tell_connect(conn, -ECONNRESET);
		account(conn, hk_vsock_stream_flush(&conn->stream));
		end(conn);
	}
}

/* To the guest: rx queue */

static void push_header(
	struct hk_vsock *vsock, const struct hk_chain *chain, const struct hk_vsock_hdr *hdr)
{
	uint8_t bytes[HK_VSOCK_HDR_SIZE];

	hk_vsock_hdr_encode(hdr, bytes);
	hk_chain_write(chain, 0, bytes, sizeof(bytes));
	hk_virtq_push(queue(vsock, RX_QUEUE), chain, HK_VSOCK_HDR_SIZE + hdr->len);
}

/* Pops one buffer into slot @index. Return: as hk_virtq_pop(). */
static int pop_rx(struct hk_vsock *vsock, unsigned index)
{
	struct hk_chain *chain = &vsock->rx[index];
	int r;

	chain->iov = vsock->rx_iov[index];
	chain->capacity = QUEUE_SIZE;
	r = hk_virtq_pop(queue(vsock, RX_QUEUE), chain);
	if (r < 0) {
		fail(vsock, "rx queue is broken");
		return r;
	}
	if (r > 0 && chain->writable_bytes <= HK_VSOCK_HDR_SIZE) {
		fail(vsock, "rx buffer has no room for a packet");
		return -EPROTO;
	}
	return r;
}

static uint32_t payload_room(const struct hk_chain *chain)
{
	return chain->writable_bytes - HK_VSOCK_HDR_SIZE;
}

/* Reads up to @max_bytes into the payloads of @count buffers. */
static ssize_t read_into(
	struct hk_vsock *vsock, struct conn *conn, unsigned count, uint32_t max_bytes)
{
	struct iovec iov[RX_SEGMENTS];
	unsigned segments = 0;

	for (unsigned i = 0; i < count && max_bytes > 0; i++) {
		uint32_t len = HK_MIN(payload_room(&vsock->rx[i]), max_bytes);

		segments += hk_chain_slice(&vsock->rx[i], true, HK_VSOCK_HDR_SIZE, len,
			iov + segments, RX_SEGMENTS - segments);
		max_bytes -= len;
	}
	return hk_vsock_stream_read(&conn->stream, iov, (int)segments);
}

/*
 * A turn of data, with one buffer popped already; all that are not used go back. Return: buffers
 * used.
 */
static unsigned send_data(struct hk_vsock *vsock, struct conn *conn, uint32_t max_bytes)
{
	struct hk_vsock_core *core = &vsock->core;
	uint32_t room = payload_room(&vsock->rx[0]);
	unsigned count = 1, used = 0;
	ssize_t got;

	while (count < RX_BATCH && room < max_bytes && pop_rx(vsock, count) > 0) {
		room += payload_room(&vsock->rx[count]);
		count++;
	}
	got = read_into(vsock, conn, count, HK_MIN(room, max_bytes));
	for (ssize_t left = got; left > 0; used++) {
		const struct hk_chain *chain = &vsock->rx[used];
		uint32_t len = (uint32_t)HK_MIN((ssize_t)payload_room(chain), left);
		struct hk_vsock_hdr hdr;

		hk_vsock_sent(core, &conn->core, len, &hdr);
		push_header(vsock, chain, &hdr);
		left -= len;
	}
	for (unsigned i = used; i < count; i++) {
		hk_virtq_unpop(queue(vsock, RX_QUEUE));
	}
	hk_vsock_set_readable(core, &conn->core, conn->stream.readable);
	if (got == 0) {
		hk_vsock_shut(core, &conn->core,
			conn->stream.hung_up ? HK_VSOCK_SHUT_BOTH : HK_VSOCK_SHUT_SEND);
	} else if (got < 0 && got != -EAGAIN) {
		hk_vsock_abort(core, &conn->core);
	}
	if (is_over(conn)) {
		end(conn);
	}
	return used;
}

static void send_packet(struct hk_vsock *vsock, const struct hk_vsock_turn *turn)
{
	push_header(vsock, &vsock->rx[0], &turn->hdr);
	if (turn->conn != NULL && is_over(conn_of(turn->conn))) {
		end(conn_of(turn->conn));
	}
}

/* Sends what there is to send, while the guest gives buffers. Lock held. */
static void pump(struct hk_vsock *vsock)
{
	struct hk_virtq *vq = queue(vsock, RX_QUEUE);
	unsigned sent = 0;

	hk_virtq_want_kicks(vq, false);
	while (is_running(vsock) && hk_vsock_has_turn(&vsock->core)) {
		struct hk_vsock_turn turn;
		int r;

		if (sent >= PACKETS_PER_TURN) {
			schedule(vsock);
			break;
		}
		r = pop_rx(vsock, 0);
		if (r == 0 && hk_virtq_want_kicks(vq, true)) {
			continue;
		}
		if (r <= 0) {
			break;
		}
		turn = hk_vsock_next(&vsock->core);
		if (turn.kind == HK_VSOCK_TURN_PACKET) {
			send_packet(vsock, &turn);
			sent++;
		} else {
			sent += send_data(vsock, conn_of(turn.conn), turn.max_bytes);
		}
	}
	hk_virtio_interrupt(&vsock->virtio, RX_QUEUE);
}

/* Both directions are closed, and there will be no read() to find out: the guest reads no more, or
 * knows the end. */
static void look_for_hang_up(struct conn *conn)
{
	struct hk_vsock_conn *core = &conn->core;

	if (conn->stream.hung_up && core->state == HK_VSOCK_OPEN &&
		((core->our_shutdown & HK_VSOCK_SHUT_SEND) != 0 ||
			(core->peer_shutdown & HK_VSOCK_SHUT_RCV) != 0)) {
		hk_vsock_shut(&conn->vsock->core, core, HK_VSOCK_SHUT_BOTH);
	}
}

static void stream_changed(struct hk_vsock_stream *stream)
{
	struct conn *conn = hk_container_of(stream, struct conn, stream);
	struct hk_vsock *vsock = conn->vsock;
	bool swept;

	pthread_mutex_lock(&vsock->virtio.lock);
	/* If it is swept with the others it has been flushed, and may be gone. */
	swept = needs_sweep(vsock) && conn->life != atomic_load(&vsock->life);
	sweep(vsock);
	if (!swept) {
		account(conn, hk_vsock_stream_flush(stream));
		hk_vsock_set_readable(&vsock->core, &conn->core, stream->readable);
		look_for_hang_up(conn);
		settle(conn);
	}
	pump(vsock);
	pthread_mutex_unlock(&vsock->virtio.lock);
}

/* From the guest: tx queue */

static struct hk_vsock_listener *find_listener(struct hk_vsock *vsock, uint32_t port)
{
	struct hk_vsock_listener *listener = vsock->listeners;

	while (listener != NULL && listener->port != port) {
		listener = listener->next;
	}
	return listener;
}

static void accept_request(struct hk_vsock *vsock, const struct hk_vsock_hdr *hdr)
{
	struct hk_vsock_listener *listener = find_listener(vsock, hdr->dst_port);
	struct conn *conn = NULL;
	int fd;

	if (listener != NULL && vsock->conn_count < HK_VSOCK_MAX_CONNS) {
		fd = listener->ops->accept(listener, hdr->src_port);
		conn = fd < 0 ? NULL : new_conn(vsock, fd);
	}
	if (conn == NULL) {
		hk_log_debug("guest's connection to port %u refused", hdr->dst_port);
		hk_vsock_refuse(&vsock->core, hdr);
		return;
	}
	hk_vsock_accept(&vsock->core, &conn->core, hdr, conn->stream.cap);
}

static void take_data(struct conn *conn, const struct hk_chain *chain, uint32_t len)
{
	if (conn->reader_gone) {
		hk_vsock_consumed(&conn->vsock->core, &conn->core, len);
		return;
	}
	account(conn, hk_vsock_stream_write(&conn->stream, chain, HK_VSOCK_HDR_SIZE, len));
	if (is_over(conn)) {
		end(conn);
	}
}

static void take_packet(struct hk_vsock *vsock, const struct hk_chain *chain)
{
	uint8_t bytes[HK_VSOCK_HDR_SIZE];
	struct hk_vsock_conn *core_conn;
	struct hk_vsock_hdr hdr;
	struct conn *conn;
	enum hk_vsock_event event;

	if (hk_chain_read(chain, 0, bytes, sizeof(bytes)) < sizeof(bytes)) {
		return; /* nobody to answer */
	}
	hk_vsock_hdr_decode(bytes, &hdr);
	event = hk_vsock_receive(
		&vsock->core, &hdr, chain->readable_bytes - HK_VSOCK_HDR_SIZE, &core_conn);
	conn = core_conn == NULL ? NULL : conn_of(core_conn);
	switch (event) {
	case HK_VSOCK_REQUESTED:
		accept_request(vsock, &hdr);
		break;
	case HK_VSOCK_CONNECTED:
		hk_vsock_set_readable(&vsock->core, core_conn, conn->stream.readable);
		tell_connect(conn, 0);
		break;
	case HK_VSOCK_DATA:
		take_data(conn, chain, hdr.len);
		break;
	case HK_VSOCK_SHUTDOWN:
		if ((core_conn->peer_shutdown & HK_VSOCK_SHUT_RCV) != 0) {
			hk_vsock_stream_shut_receive(&conn->stream);
		}
		settle(conn);
		break;
	case HK_VSOCK_ENDED:
		tell_connect(conn, -ECONNREFUSED);
		end(conn);
		break;
	default:
		break;
	}
}

/* Lock held. */
static void serve_tx(struct hk_vsock *vsock)
{
	struct hk_virtq *vq = queue(vsock, TX_QUEUE);
	struct hk_chain chain = {.iov = vsock->tx_iov, .capacity = QUEUE_SIZE};
	unsigned taken = 0;
	int r;

	if (!is_running(vsock)) {
		return;
	}
	hk_virtq_want_kicks(vq, false);
	do {
		while ((r = hk_virtq_pop(vq, &chain)) > 0) {
			take_packet(vsock, &chain);
			hk_virtq_push(vq, &chain, 0);
			if (++taken == PACKETS_PER_TURN) {
				schedule(vsock);
				break;
			}
		}
	} while (r == 0 && hk_virtq_want_kicks(vq, true));
	hk_virtio_interrupt(&vsock->virtio, TX_QUEUE);
	if (r < 0) {
		fail(vsock, "tx queue is broken");
	}
}

/* Event queue */

static void serve_event(struct hk_vsock *vsock)
{
	struct hk_virtq *vq = queue(vsock, EVENT_QUEUE);
	struct iovec iov[EVENT_QUEUE_SIZE];
	struct hk_chain chain = {.iov = iov, .capacity = EVENT_QUEUE_SIZE};
	uint8_t event[EVENT_SIZE];
	int r;

	if (!is_running(vsock) || !vsock->event_due) {
		return;
	}
	r = hk_virtq_pop(vq, &chain);
	if (r < 0 || (r > 0 && chain.writable_bytes < EVENT_SIZE)) {
		fail(vsock, "event queue is broken");
		return;
	}
	if (r == 0) {
		return; /* a kick will come */
	}
	hk_store_le32(event, EVENT_TRANSPORT_RESET);
	hk_chain_write(&chain, 0, event, sizeof(event));
	hk_virtq_push(vq, &chain, EVENT_SIZE);
	hk_virtio_interrupt(&vsock->virtio, EVENT_QUEUE);
	vsock->event_due = false;
}

static void run_work(struct hk_post *post)
{
	struct hk_vsock *vsock = hk_container_of(post, struct hk_vsock, work);

	atomic_store(&vsock->posted, false);
	pthread_mutex_lock(&vsock->virtio.lock);
	sweep(vsock);
	serve_tx(vsock);
	pump(vsock);
	pthread_mutex_unlock(&vsock->virtio.lock);
}

/* The device's ops */

static void vsock_read_config(struct hk_virtio *dev, unsigned offset, void *buf, unsigned len)
{
	uint8_t config[CONFIG_LEN];

	hk_store_le64(config, HK_VSOCK_GUEST_CID);
	memcpy(buf, config + offset, len);
}

static int vsock_activate(struct hk_virtio *dev)
{
	struct hk_vsock *vsock = vsock_of(dev);

	vsock->paused = false;
	vsock->event_due = false;
	atomic_store(&vsock->active, true);
	return 0;
}

static void vsock_kick(struct hk_virtio *dev, unsigned index)
{
	struct hk_vsock *vsock = vsock_of(dev);

	sweep(vsock);
	if (index == EVENT_QUEUE) {
		serve_event(vsock);
		return;
	}
	if (index == TX_QUEUE) {
		serve_tx(vsock);
	}
	pump(vsock);
}

/* Any thread: what belongs to the loop's is left to it. */
static void vsock_reset(struct hk_virtio *dev)
{
	struct hk_vsock *vsock = vsock_of(dev);

	atomic_store(&vsock->active, false);
	vsock->paused = false;
	vsock->event_due = false;
	atomic_fetch_add(&vsock->life, 1);
	schedule(vsock);
}

static void vsock_quiesce(struct hk_virtio *dev)
{
	vsock_of(dev)->paused = true;
}

static void vsock_resume(struct hk_virtio *dev)
{
	struct hk_vsock *vsock = vsock_of(dev);

	vsock->paused = false;
	atomic_store(&vsock->active, !atomic_load(&dev->needs_reset));
	schedule(vsock);
}

static void vsock_save(struct hk_virtio *dev, struct hk_writer *w)
{
	size_t mark = hk_writer_begin(w, "vsock", STATE_VERSION);

	hk_write_u64(w, HK_VSOCK_GUEST_CID);
	/* Not used again at once, so that a late packet of a lost connection finds no new one. */
	hk_write_u32(w, vsock_of(dev)->core.last_ephemeral);
	hk_writer_end(w, mark);
}

static void vsock_restore(struct hk_virtio *dev, struct hk_reader *r)
{
	struct hk_vsock *vsock = vsock_of(dev);
	struct hk_section section = hk_reader_begin(r, "vsock", STATE_VERSION);
	uint64_t cid = hk_read_u64(r);
	uint32_t last_ephemeral = hk_read_u32(r);

	hk_reader_end(r, section);
	if (cid != HK_VSOCK_GUEST_CID ||
		(last_ephemeral != 0 && last_ephemeral < HK_VSOCK_EPHEMERAL_MIN)) {
		hk_reader_fail(r);
	}
	if (r->error == 0) {
		vsock->core.last_ephemeral = last_ephemeral;
		vsock->event_due = true;
	}
}

static void vsock_destroy(struct hk_virtio *dev)
{
	struct hk_vsock *vsock = vsock_of(dev);

	atomic_store(&vsock->active, false);
	while (vsock->conns != NULL) {
		tell_connect(vsock->conns, -ECANCELED);
		free_conn(vsock->conns);
	}
	hk_loop_cancel_post(vsock->loop, &vsock->work);
	free(vsock);
}

static const struct hk_virtio_ops vsock_ops = {
	.name = "vsock",
	.type = HK_VIRTIO_VSOCK,
	.read_config = vsock_read_config,
	.activate = vsock_activate,
	.kick = vsock_kick,
	.reset = vsock_reset,
	.quiesce = vsock_quiesce,
	.resume = vsock_resume,
	.save = vsock_save,
	.restore = vsock_restore,
	.destroy = vsock_destroy,
};

static struct hk_vsock *vsock_of(struct hk_virtio *dev)
{
	assert(dev->ops == &vsock_ops);
	return hk_container_of(dev, struct hk_vsock, virtio);
}

int hk_vsock_create(struct hk_loop *loop, struct hk_vsock **ret_vsock, struct hk_virtio **ret_dev,
	struct hk_err *err)
{
	static const uint16_t sizes[QUEUE_COUNT] = {QUEUE_SIZE, QUEUE_SIZE, EVENT_QUEUE_SIZE};
	struct hk_vsock *vsock;

	if (hk_new(vsock) == NULL) {
		return hk_fail(err, ENOMEM, "vsock device");
	}
	hk_virtio_init(&vsock->virtio, &vsock_ops, QUEUE_COUNT, sizes);
	vsock->virtio.config_len = CONFIG_LEN;
	vsock->loop = loop;
	vsock->work.run = run_work;
	*ret_vsock = vsock;
	*ret_dev = &vsock->virtio;
	return 0;
}

/* What the box asks for */

int hk_vsock_listen(struct hk_vsock *vsock, struct hk_vsock_listener *listener)
{
	if (listener->port >= HK_VSOCK_EPHEMERAL_MIN) {
		return -EINVAL;
	}
	if (find_listener(vsock, listener->port) != NULL) {
		return -EADDRINUSE;
	}
	listener->next = vsock->listeners;
	vsock->listeners = listener;
	return 0;
}

void hk_vsock_unlisten(struct hk_vsock *vsock, struct hk_vsock_listener *listener)
{
	for (struct hk_vsock_listener **at = &vsock->listeners; *at != NULL; at = &(*at)->next) {
		if (*at == listener) {
			*at = listener->next;
			listener->next = NULL;
			return;
		}
	}
}

int hk_vsock_connect(
	struct hk_vsock *vsock, uint32_t guest_port, int fd, struct hk_vsock_connect *connect)
{
	struct conn *conn;

	if (!atomic_load(&vsock->active) || vsock->conn_count >= HK_VSOCK_MAX_CONNS) {
		close(fd);
		return atomic_load(&vsock->active) ? -EMFILE : -ENOTCONN;
	}
	conn = new_conn(vsock, fd);
	if (conn == NULL) {
		return -ENOMEM;
	}
	hk_vsock_open(&vsock->core, &conn->core, guest_port, conn->stream.cap);
	conn->connect = connect;
	connect->conn = conn;
	schedule(vsock);
	return 0;
}

void hk_vsock_cancel(struct hk_vsock *vsock, struct hk_vsock_connect *connect)
{
	struct conn *conn = connect->conn;

	if (conn == NULL) {
		return;
	}
	conn->connect = NULL;
	connect->conn = NULL;
	hk_vsock_abort(&vsock->core, &conn->core);
	end(conn);
	schedule(vsock);
}
