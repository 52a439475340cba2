/* SPDX-License-Identifier: ISC */
/*
 * The virtio-blk device: requests of the guest become operations of a backend.
 *
 * Theory: each queue has as many request objects as entries, and one to pop into, so nothing is
 * allocated on the way. The chain's own segments, trimmed of header and status, are what the
 * backend reads and writes: data is not copied here. A kick takes all requests there are, starts
 * them as one batch, and raises at most one interrupt for each queue; so does a wave of
 * completions.
 *
 *	read, write   | header 16 | data ...     | status 1 |
 *	discard etc.  | header 16 | ranges 16 ...| status 1 |
 *
 * A request that makes no sense gets an error status. Only one without room for header or status,
 * which cannot be answered, costs the device a reset.
 *
 * A driver that did not take VIRTIO_BLK_F_FLUSH relies on writes being stable when they complete:
 * then each is followed by a flush.
 *
 * Threads: the loop's, with the device's lock; a reset drains on the vCPU's, with the lock too.
 *
 * Limits: no SCSI, no secure erase, no switch for the write cache, no zoned storage.
 */
#include "virtio/blk.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>

#include "base/alloc.h"
#include "base/bytes.h"
#include "base/util.h"

/* VIRTIO 1.2, 5.2.3: feature bits. */
#define F_SEG_MAX      (UINT64_C(1) << 2)
#define F_RO           (UINT64_C(1) << 5)
#define F_BLK_SIZE     (UINT64_C(1) << 6)
#define F_FLUSH        (UINT64_C(1) << 9)
#define F_TOPOLOGY     (UINT64_C(1) << 10)
#define F_MQ           (UINT64_C(1) << 12)
#define F_DISCARD      (UINT64_C(1) << 13)
#define F_WRITE_ZEROES (UINT64_C(1) << 14)

/* 5.2.6: device operation. */
enum request_type {
	T_IN = 0,
	T_OUT = 1,
	T_FLUSH = 4,
	T_GET_ID = 8,
	T_DISCARD = 11,
	T_WRITE_ZEROES = 13,
};

enum { S_OK = 0, S_IOERR = 1, S_UNSUPP = 2 };
enum { HEADER_SIZE = 16, STATUS_SIZE = 1, RANGE_SIZE = 16 };
enum { RANGE_F_UNMAP = 1u << 0 };

enum {
	QUEUE_SIZE = 256,
	REQUESTS = QUEUE_SIZE + 1, /* the virtqueue gives no more chains; and one to pop into */
	SEG_MAX = QUEUE_SIZE - 2,  /* the other two are header and status */
	MAX_RANGES = 16,
	MAX_RANGE_SECTORS = 1 << 21, /* 1 GiB: one of them does not hold up a drain for long */
	STATE_VERSION = 1,
};

/* 5.2.4: device configuration layout; offsets. */
enum {
	CONFIG_CAPACITY = 0,
	CONFIG_SEG_MAX = 12,
	CONFIG_BLK_SIZE = 20,
	CONFIG_PHYSICAL_BLOCK_EXP = 24,
	CONFIG_MIN_IO_SIZE = 26,
	CONFIG_NUM_QUEUES = 34,
	CONFIG_MAX_DISCARD_SECTORS = 36,
	CONFIG_MAX_DISCARD_SEG = 40,
	CONFIG_DISCARD_ALIGNMENT = 44,
	CONFIG_MAX_ZEROES_SECTORS = 48,
	CONFIG_MAX_ZEROES_SEG = 52,
	CONFIG_ZEROES_MAY_UNMAP = 56,
	CONFIG_LEN = 60,
};

struct range {
	uint64_t sector;
	uint32_t sector_count;
	bool unmap;
};

/* What the guest asks for, copied out of its memory. */
struct header {
	uint32_t type;
	uint64_t sector;
};

struct queue;

/**
 * struct request - one of a queue's; in use from its chain's pop to its push
 * @data_bytes: between header and status
 * @status: in guest memory, the end of iov[@status_segment], off which it is cut meanwhile
 * @ranges: [range_next, range_count) are still to be begun
 */
struct request {
	struct hk_blk_io io;
	struct queue *queue; /* borrowed; set at the first use */
	struct request *next_free;
	uint8_t *status;
	unsigned status_segment;
	struct hk_chain chain;
	struct header header;
	uint32_t data_bytes;
	unsigned range_next, range_count;
	struct range ranges[MAX_RANGES];
	struct iovec iov[QUEUE_SIZE];
};

/**
 * struct queue - one of the device's queues
 * @free: used before @fresh, because it is warm
 * @fresh: requests from here on were never touched; so a queue that is never deep costs few pages
 * @pushed: chains went back since the last interrupt
 */
struct queue {
	struct blk *blk; /* borrowed */
	unsigned index;
	struct request *requests; /* REQUESTS elements, owned */
	struct request *free;
	unsigned fresh;
	bool pushed;
};

struct blk {
	struct hk_virtio virtio;        /* first */
	struct hk_blk_backend *backend; /* owned */
	struct hk_source completions;
	bool read_only;
	bool running; /* between activate or resume, and quiesce or reset */
	char serial[HK_BLK_SERIAL_SIZE];
	uint64_t capacity_sectors;
	struct queue queues[HK_BLK_MAX_QUEUES];
};

static struct blk *blk_of(struct hk_virtio *dev);

static struct hk_virtq *virtq_of(const struct queue *queue)
{
	return &queue->blk->virtio.queues[queue->index].vq;
}

static struct request *get_request(struct queue *queue)
{
	struct request *req = queue->free;

	if (req != NULL) {
		queue->free = req->next_free;
		return req;
	}
	assert(queue->fresh < REQUESTS);
	req = &queue->requests[queue->fresh++];
	req->queue = queue;
	return req;
}

static void put_request(struct request *req)
{
	req->next_free = req->queue->free;
	req->queue->free = req;
}

static void raise_interrupts(struct blk *blk)
{
	for (unsigned i = 0; i < blk->virtio.queue_count; i++) {
		if (blk->queues[i].pushed) {
			blk->queues[i].pushed = false;
			hk_virtio_interrupt(&blk->virtio, i);
		}
	}
}

/* Takes the status byte off the end of the chain's writable part, which then is all data. */
static void cut_status(struct request *req)
{
	struct hk_chain *chain = &req->chain;
	struct iovec *last;

	req->status_segment = chain->readable_count + chain->writable_count - 1;
	last = &req->iov[req->status_segment];
	last->iov_len -= STATUS_SIZE;
	req->status = (uint8_t *)last->iov_base + last->iov_len;
	chain->writable_bytes -= STATUS_SIZE;
	if (last->iov_len == 0) {
		chain->writable_count--;
	}
}

static void put_status_back(struct request *req)
{
	struct hk_chain *chain = &req->chain;

	req->iov[req->status_segment].iov_len += STATUS_SIZE;
	chain->writable_bytes += STATUS_SIZE;
	chain->writable_count = req->status_segment + 1 - chain->readable_count;
}

/* Ends of requests */

static void complete(struct request *req, uint8_t status)
{
	struct queue *queue = req->queue;
	bool gives_data = req->header.type == T_IN || req->header.type == T_GET_ID;
	uint32_t written = STATUS_SIZE;

	/* The count is of bytes from the start of the writable part, all of which must be valid. */
	if (gives_data && req->data_bytes > 0) {
		written = status == S_OK ? req->data_bytes + STATUS_SIZE : 0;
	}
	hk_store_once(req->status, status);
	put_status_back(req);
	hk_virtq_push(virtq_of(queue), &req->chain, written);
	queue->pushed = true;
	put_request(req);
}

static void submit(struct request *req)
{
	struct hk_blk_backend *backend = req->queue->blk->backend;

	backend->ops->submit(backend, &req->io);
}

static bool is_writethrough(const struct blk *blk)
{
	return !hk_virtio_has(&blk->virtio, F_FLUSH);
}

static void submit_range(struct request *req)
{
	const struct range *range = &req->ranges[req->range_next++];

	req->io.offset_bytes = range->sector * HK_BLK_SECTOR_SIZE;
	req->io.len_bytes = (uint64_t)range->sector_count * HK_BLK_SECTOR_SIZE;
	req->io.may_unmap = range->unmap;
	submit(req);
}

static void io_done(struct hk_blk_io *io, int result)
{
	struct request *req = hk_container_of(io, struct request, io);

	if (result < 0) {
		complete(req, result == -EOPNOTSUPP ? S_UNSUPP : S_IOERR);
		return;
	}
	if (req->range_next < req->range_count) {
		submit_range(req);
		return;
	}
	if (io->op != HK_BLK_READ && io->op != HK_BLK_FLUSH && is_writethrough(req->queue->blk)) {
		io->op = HK_BLK_FLUSH;
		submit(req);
		return;
	}
	complete(req, S_OK);
}

/* Starts of requests. Each function starts an operation or returns a status. */

enum { STARTED = -1 };

/* Drops @bytes at the front of @iov. Return: elements dropped. */
static unsigned drop_front(struct iovec *iov, size_t bytes)
{
	unsigned dropped = 0;

	while (bytes > 0 && bytes >= iov[dropped].iov_len) {
		bytes -= iov[dropped].iov_len;
		dropped++;
	}
	if (bytes > 0) {
		iov[dropped].iov_base = (uint8_t *)iov[dropped].iov_base + bytes;
		iov[dropped].iov_len -= bytes;
	}
	return dropped;
}

static int start_transfer(struct blk *blk, struct request *req)
{
	bool is_write = req->header.type == T_OUT;
	uint32_t len = req->data_bytes;
	unsigned dropped;

	if ((is_write && blk->read_only) || len % HK_BLK_SECTOR_SIZE != 0 ||
		!hk_range_within(
			req->header.sector, len / HK_BLK_SECTOR_SIZE, blk->capacity_sectors)) {
		return S_IOERR;
	}
	if (len == 0) {
		return S_OK;
	}
	if (is_write) {
		dropped = drop_front(req->iov, HEADER_SIZE);
		req->io.iov = req->iov + dropped;
		req->io.iov_count = req->chain.readable_count - dropped;
	} else {
		/* The status byte is cut off already. */
		req->io.iov = req->iov + req->chain.readable_count;
		req->io.iov_count = req->chain.writable_count;
	}
	req->io.op = is_write ? HK_BLK_WRITE : HK_BLK_READ;
	req->io.offset_bytes = req->header.sector * HK_BLK_SECTOR_SIZE;
	req->io.len_bytes = len;
	submit(req);
	return STARTED;
}

static int start_flush(struct request *req)
{
	req->io.op = HK_BLK_FLUSH;
	req->io.offset_bytes = 0;
	req->io.len_bytes = 0;
	submit(req);
	return STARTED;
}

static int check_range(
	const struct blk *blk, enum request_type type, const struct range *range, uint32_t flags)
{
	uint32_t allowed = type == T_WRITE_ZEROES ? RANGE_F_UNMAP : 0;

	if ((flags & ~allowed) != 0) {
		return S_UNSUPP;
	}
	if (range->sector_count > MAX_RANGE_SECTORS ||
		!hk_range_within(range->sector, range->sector_count, blk->capacity_sectors)) {
		return S_IOERR;
	}
	return S_OK;
}

/* Discard and write-zeroes: all ranges are checked before the first is begun. */
static int start_ranges(struct blk *blk, struct request *req)
{
	enum request_type type = req->header.type;
	uint64_t feature = type == T_DISCARD ? F_DISCARD : F_WRITE_ZEROES;
	unsigned given = req->data_bytes / RANGE_SIZE, count = 0;

	if (blk->read_only) {
		return S_IOERR;
	}
	if (!hk_virtio_has(&blk->virtio, feature)) {
		return S_UNSUPP;
	}
	if (given == 0 || given > MAX_RANGES || req->data_bytes % RANGE_SIZE != 0) {
		return S_IOERR;
	}
	for (unsigned i = 0; i < given; i++) {
		struct range *range = &req->ranges[count];
		uint8_t raw[RANGE_SIZE];
		uint32_t flags;
		int status;

		hk_chain_read(&req->chain, HEADER_SIZE + i * RANGE_SIZE, raw, sizeof(raw));
		range->sector = hk_load_le64(raw);
		range->sector_count = hk_load_le32(raw + 8);
		flags = hk_load_le32(raw + 12);
		range->unmap = (flags & RANGE_F_UNMAP) != 0;
		status = check_range(blk, type, range, flags);
		if (status != S_OK) {
			return status;
		}
		count += range->sector_count > 0;
	}
	if (count == 0) {
		return S_OK;
	}
	req->range_count = count;
	req->io.op = type == T_DISCARD ? HK_BLK_DISCARD : HK_BLK_WRITE_ZEROES;
	submit_range(req);
	return STARTED;
}

static int give_id(struct blk *blk, struct request *req)
{
	req->data_bytes = HK_MIN(req->data_bytes, HK_BLK_SERIAL_SIZE);
	hk_chain_write(&req->chain, 0, blk->serial, req->data_bytes);
	return S_OK;
}

static int start_by_type(struct blk *blk, struct request *req)
{
	switch (req->header.type) {
	case T_IN:
	case T_OUT:
		return start_transfer(blk, req);
	case T_FLUSH:
		return start_flush(req);
	case T_GET_ID:
		return give_id(blk, req);
	case T_DISCARD:
	case T_WRITE_ZEROES:
		return start_ranges(blk, req);
	default:
		return S_UNSUPP;
	}
}

/* Return: false where the chain cannot even be answered. */
static bool start(struct blk *blk, struct request *req)
{
	uint8_t raw[HEADER_SIZE];
	int status;

	if (req->chain.writable_bytes < STATUS_SIZE ||
		hk_chain_read(&req->chain, 0, raw, sizeof(raw)) < sizeof(raw)) {
		return false;
	}
	cut_status(req);
	req->header.type = hk_load_le32(raw); /* then ioprio, which is of no account */
	req->header.sector = hk_load_le64(raw + 8);
	req->data_bytes = req->header.type == T_IN || req->header.type == T_GET_ID
		? req->chain.writable_bytes
		: req->chain.readable_bytes - HEADER_SIZE;
	req->range_next = 0;
	req->range_count = 0;
	req->io.done = io_done;
	status = start_by_type(blk, req);
	if (status != STARTED) {
		complete(req, (uint8_t)status);
	}
	return true;
}

static void kick_backend(struct blk *blk)
{
	if (blk->backend->ops->kick != NULL) {
		blk->backend->ops->kick(blk->backend);
	}
}

/* Return: requests started, or -EPROTO. */
static int start_available(struct queue *queue, int limit)
{
	struct blk *blk = queue->blk;
	struct hk_virtq *vq = virtq_of(queue);
	int started = 0;

	while (started < limit) {
		struct request *req = get_request(queue);
		int r;

		req->chain.iov = req->iov;
		req->chain.capacity = QUEUE_SIZE;
		r = hk_virtq_pop(vq, &req->chain);
		if (r <= 0) {
			put_request(req);
			return r < 0 ? r : started;
		}
		if (!start(blk, req)) {
			put_request(req);
			return -EPROTO;
		}
		started++;
	}
	return started;
}

static void serve(struct queue *queue)
{
	struct blk *blk = queue->blk;
	struct hk_virtq *vq = virtq_of(queue);
	int left = QUEUE_SIZE;
	int r;

	hk_virtq_want_kicks(vq, false);
	do {
		r = start_available(queue, left);
		left -= HK_MAX(r, 0);
	} while (r >= 0 && left > 0 && hk_virtq_want_kicks(vq, true));
	if (left == 0) {
		/* Enough for one turn of the loop: others wait too. */
		(void)eventfd_write(blk->virtio.queues[queue->index].kick_fd, 1);
	}
	kick_backend(blk);
	raise_interrupts(blk);
	if (r < 0) {
		hk_virtio_fail(
			&blk->virtio, vq->broken ? vq->why : "request without header or status");
	}
}

static void completions_ready(struct hk_source *source, uint32_t events)
{
	struct blk *blk = hk_container_of(source, struct blk, completions);

	(void)events;
	pthread_mutex_lock(&blk->virtio.lock);
	blk->backend->ops->reap(blk->backend);
	kick_backend(blk); /* for what followed from completions */
	raise_interrupts(blk);
	pthread_mutex_unlock(&blk->virtio.lock);
}

/* The device's ops */

static void blk_read_config(struct hk_virtio *dev, unsigned offset, void *buf, unsigned len)
{
	struct blk *blk = blk_of(dev);
	uint8_t config[CONFIG_LEN] = {0};

	hk_store_le64(config + CONFIG_CAPACITY, blk->capacity_sectors);
	hk_store_le32(config + CONFIG_SEG_MAX, SEG_MAX);
	hk_store_le32(config + CONFIG_BLK_SIZE, HK_BLK_SECTOR_SIZE);
	config[CONFIG_PHYSICAL_BLOCK_EXP] = 3; /* 4 KiB: what the host's page cache works in */
	hk_store_le16(config + CONFIG_MIN_IO_SIZE, 8);
	hk_store_le16(config + CONFIG_NUM_QUEUES, (uint16_t)dev->queue_count);
	hk_store_le32(config + CONFIG_MAX_DISCARD_SECTORS, MAX_RANGE_SECTORS);
	hk_store_le32(config + CONFIG_MAX_DISCARD_SEG, MAX_RANGES);
	hk_store_le32(config + CONFIG_DISCARD_ALIGNMENT, 8);
	hk_store_le32(config + CONFIG_MAX_ZEROES_SECTORS, MAX_RANGE_SECTORS);
	hk_store_le32(config + CONFIG_MAX_ZEROES_SEG, MAX_RANGES);
	config[CONFIG_ZEROES_MAY_UNMAP] = 1;
	memcpy(buf, config + offset, len);
}

static int blk_activate(struct hk_virtio *dev)
{
	blk_of(dev)->running = true;
	return 0;
}

static void blk_kick(struct hk_virtio *dev, unsigned index)
{
	struct blk *blk = blk_of(dev);

	if (blk->running) {
		serve(&blk->queues[index]);
	}
}

static void blk_quiesce(struct hk_virtio *dev)
{
	struct blk *blk = blk_of(dev);

	blk->running = false;
	blk->backend->ops->drain(blk->backend);
	raise_interrupts(blk);
}

static void blk_reset(struct hk_virtio *dev)
{
	struct blk *blk = blk_of(dev);

	blk->running = false;
	blk->backend->ops->drain(blk->backend);
	for (unsigned i = 0; i < dev->queue_count; i++) {
		blk->queues[i].pushed = false; /* the driver waits for nothing any more */
	}
}

/* Notifications of all queues follow. */
static void blk_resume(struct hk_virtio *dev)
{
	blk_of(dev)->running = true;
}

static void blk_save(struct hk_virtio *dev, struct hk_writer *w)
{
	struct blk *blk = blk_of(dev);
	size_t mark = hk_writer_begin(w, "blk", STATE_VERSION);

	/* Nothing is in flight; what is left is what the guest takes for granted. */
	hk_write_u64(w, blk->capacity_sectors);
	hk_write_u8(w, blk->read_only);
	hk_write_bytes(w, blk->serial, sizeof(blk->serial));
	hk_writer_end(w, mark);
}

static void blk_restore(struct hk_virtio *dev, struct hk_reader *r)
{
	struct blk *blk = blk_of(dev);
	struct hk_section section = hk_reader_begin(r, "blk", STATE_VERSION);
	uint64_t capacity_sectors = hk_read_u64(r);
	uint8_t read_only = hk_read_u8(r);
	char serial[HK_BLK_SERIAL_SIZE];

	hk_read_bytes(r, serial, sizeof(serial));
	hk_reader_end(r, section);
	if (capacity_sectors != blk->capacity_sectors || read_only != blk->read_only ||
		memcmp(serial, blk->serial, sizeof(serial)) != 0) {
		hk_reader_fail(r);
	}
}

static void blk_destroy(struct hk_virtio *dev)
{
	struct blk *blk = blk_of(dev);

	hk_source_remove(&blk->completions);
	hk_blk_backend_destroy(blk->backend);
	for (unsigned i = 0; i < HK_BLK_MAX_QUEUES; i++) {
		free(blk->queues[i].requests);
	}
	free(blk);
}

static const struct hk_virtio_ops blk_ops = {
	.name = "blk",
	.type = HK_VIRTIO_BLK,
	.read_config = blk_read_config,
	.activate = blk_activate,
	.kick = blk_kick,
	.reset = blk_reset,
	.quiesce = blk_quiesce,
	.resume = blk_resume,
	.save = blk_save,
	.restore = blk_restore,
	.destroy = blk_destroy,
};

static struct blk *blk_of(struct hk_virtio *dev)
{
	assert(dev->ops == &blk_ops);
	return hk_container_of(dev, struct blk, virtio);
}

static uint64_t offered_features(const struct hk_blk_config *config)
{
	uint64_t features = F_SEG_MAX | F_BLK_SIZE | F_FLUSH | F_TOPOLOGY;

	if (config->queue_count > 1) {
		features |= F_MQ;
	}
	if (config->read_only) {
		return features | F_RO;
	}
	return features | F_WRITE_ZEROES | (config->backend->can_discard ? F_DISCARD : 0);
}

/* What can fail; the device is destroyed then. */
static int set_up(struct blk *blk, struct hk_err *err)
{
	for (unsigned i = 0; i < blk->virtio.queue_count; i++) {
		struct queue *queue = &blk->queues[i];

		queue->blk = blk;
		queue->index = i;
		queue->requests = hk_calloc(REQUESTS, sizeof(*queue->requests));
		if (queue->requests == NULL) {
			return hk_fail(err, ENOMEM, "disk");
		}
	}
	if (blk->backend->event_fd < 0) {
		return 0;
	}
	blk->completions = (struct hk_source){
		.fd = blk->backend->event_fd,
		.events = EPOLLIN,
		.ready = completions_ready,
	};
	return hk_source_add(blk->backend->loop, &blk->completions, err);
}

int hk_blk_create(
	const struct hk_blk_config *config, struct hk_virtio **ret_dev, struct hk_err *err)
{
	uint16_t sizes[HK_BLK_MAX_QUEUES];
	struct blk *blk;
	int r;

	if (config->queue_count < 1 || config->queue_count > HK_BLK_MAX_QUEUES) {
		hk_blk_backend_destroy(config->backend);
		return hk_fail_msg(err, EINVAL, "disk: %u queues: 1 to %d are possible",
			config->queue_count, HK_BLK_MAX_QUEUES);
	}
	if (hk_new(blk) == NULL) {
		hk_blk_backend_destroy(config->backend);
		return hk_fail(err, ENOMEM, "disk");
	}
	for (unsigned i = 0; i < config->queue_count; i++) {
		sizes[i] = QUEUE_SIZE;
	}
	hk_virtio_init(&blk->virtio, &blk_ops, config->queue_count, sizes);
	blk->virtio.config_len = CONFIG_LEN;
	blk->virtio.offered = offered_features(config);
	blk->backend = config->backend;
	blk->read_only = config->read_only;
	blk->capacity_sectors = config->backend->size_bytes / HK_BLK_SECTOR_SIZE;
	memcpy(blk->serial, config->serial, sizeof(blk->serial));
	r = set_up(blk, err);
	if (r < 0) {
		hk_virtio_destroy(&blk->virtio);
		return r;
	}
	*ret_dev = &blk->virtio;
	return 0;
}
