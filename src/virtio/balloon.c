/* SPDX-License-Identifier: ISC */
/*
 * virtio-balloon: memory that the guest does not use goes back to the host.
 *
 * Theory of operation. There are three ways to it.
 *
 *  - Inflation: we set a target; the driver takes pages from its kernel and sends their numbers.
 *    They are the device's until it deflates, or until the guest runs out of memory.
 *  - Reporting: the driver sends blocks that its kernel has free, and waits for each chain to come
 *    back before it lets them be used.
 *  - Hinting: we change the command id in the configuration space; the driver answers with that id,
 *    sends the blocks that it could take, then "stop". It keeps them until we say "done".
 *
 * Hints have a trap. Linux puts a hinted block on a list from which a shrinker may take it back
 * before we have seen the hint; dropping it then would destroy live memory. But it notifies us
 * before the block gets on that list. So the hint queue is synchronous: the block is gone before
 * the notification returns.
 *
 * Where the driver said that free pages hold a pattern (PAGE_POISON) other than zeros, free pages
 * are not dropped, as zeros would come back.
 *
 * Statistics: the driver leaves a buffer with us. Giving it back asks for a fresh one.
 *
 * Queues. Linux gives the optional queues the next free index, so if it declines a feature, those
 * after it move down. We do the same; with all features taken it is the numbering of the
 * specification.
 *
 * Limits: pages are 4 KiB, whatever the host has below them. Page numbers of 32 bits reach 16 TiB.
 */
#include "virtio/balloon.h"

#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/bytes.h"
#include "base/util.h"

enum role {
	ROLE_INFLATE,
	ROLE_DEFLATE,
	ROLE_STATS,
	ROLE_HINT,
	ROLE_REPORT,
	ROLE_COUNT,
};

enum {
	QUEUE_SIZE = 128,
	/* Linux sends 256 page numbers at a time, and ten statistics. */
	MAX_PFNS = 256, /* Linux's VIRTIO_BALLOON_ARRAY_PFNS_MAX; bounds one turn of the loop */
	MAX_STATS = 64,
	STAT_SIZE = 10,

	CMD_ID_STOP = 0,
	CMD_ID_DONE = 1,
	CMD_ID_FIRST = 2,

	STATE_VERSION = 1,
};

#define BALLOON_F_STATS_VQ       (UINT64_C(1) << 1)
#define BALLOON_F_DEFLATE_ON_OOM (UINT64_C(1) << 2)
#define BALLOON_F_FREE_PAGE_HINT (UINT64_C(1) << 3)
#define BALLOON_F_PAGE_POISON    (UINT64_C(1) << 4)
#define BALLOON_F_REPORTING      (UINT64_C(1) << 5)

/* VIRTIO 1.2, 5.5.4: four little-endian words. */
enum config_offset {
	CONFIG_NUM_PAGES = 0,
	CONFIG_ACTUAL = 4,
	CONFIG_CMD_ID = 8,
	CONFIG_POISON = 12,
	CONFIG_SIZE = 16,
};

/* VIRTIO 1.2, 5.5.6.4. */
enum stat_tag {
	STAT_MAJOR_FAULTS = 2,
	STAT_MINOR_FAULTS = 3,
	STAT_FREE = 4,
	STAT_TOTAL = 5,
	STAT_AVAILABLE = 6,
	STAT_CACHES = 7,
};

/**
 * struct balloon - the device
 * @num_pages, @actual, @cmd_id, @poison: the configuration space
 * @next_cmd_id: of the next round of hints
 * @hints_open: the driver has answered the round's id, so what follows belongs to it
 * @stats_held: a chain of the statistics queue is with us; its head is @stats_head
 * @stats_valid: @stats were reported since the reset
 */
struct balloon {
	struct hk_virtio dev;
	struct hk_balloon_host *host; /* borrowed */
	uint32_t num_pages;
	uint32_t actual;
	uint32_t cmd_id;
	uint32_t poison;
	uint32_t next_cmd_id;
	bool hints_open;
	bool stats_held;
	bool stats_valid;
	uint16_t stats_head;
	struct hk_balloon_stats stats;
	uint64_t released_bytes;
};

/* A range under construction, so that neighbours are released together. */
struct run {
	hk_gpa gpa;
	uint64_t len;
};

static struct balloon *from_dev(struct hk_virtio *dev)
{
	return hk_container_of(dev, struct balloon, dev);
}

static const uint64_t role_feature[ROLE_COUNT] = {
	[ROLE_STATS] = BALLOON_F_STATS_VQ,
	[ROLE_HINT] = BALLOON_F_FREE_PAGE_HINT,
	[ROLE_REPORT] = BALLOON_F_REPORTING,
};

/* The queue's index, or -1 where the driver did not take the feature. */
static int queue_of(const struct balloon *balloon, enum role role)
{
	int index = 0;

	for (int i = 0; i < ROLE_COUNT; i++) {
		bool present =
			role_feature[i] == 0 || hk_virtio_has(&balloon->dev, role_feature[i]);

		if (i == (int)role) {
			return present ? index : -1;
		}
		index += present;
	}
	return -1;
}

static void run_flush(struct balloon *balloon, struct run *run)
{
	if (run->len > 0) {
		balloon->host->release(balloon->host, balloon->dev.mem, run->gpa, run->len);
		hk_mem_written(balloon->dev.mem, run->gpa, run->len); /* they read as zeros now */
		balloon->released_bytes += run->len;
		run->len = 0;
	}
}

/* Kernels hand out pages in either direction. */
static void run_add(struct balloon *balloon, struct run *run, hk_gpa gpa, uint64_t len)
{
	if (run->len > 0 && gpa == run->gpa + run->len) {
		run->len += len;
	} else if (run->len > 0 && gpa + len == run->gpa) {
		run->gpa = gpa;
		run->len += len;
	} else {
		run_flush(balloon, run);
		*run = (struct run){.gpa = gpa, .len = len};
	}
}

static uint32_t inflate(struct hk_virtio *dev, unsigned index, const struct hk_chain *chain)
{
	struct balloon *balloon = from_dev(dev);
	uint32_t count = chain->readable_bytes / sizeof(uint32_t);
	struct run run = {0};

	(void)index;
	if (count > MAX_PFNS || chain->readable_bytes % sizeof(uint32_t) != 0) {
		hk_virtio_fail(dev, "broken list of page numbers");
		return 0;
	}
	for (uint32_t i = 0; i < count; i++) {
		uint8_t raw[sizeof(uint32_t)];
		hk_gpa gpa;

		(void)hk_chain_read(chain, i * sizeof(raw), raw, sizeof(raw));
		gpa = (hk_gpa)hk_load_le32(raw) * HK_PAGE_SIZE;
		if (hk_mem_at(dev->mem, gpa, HK_PAGE_SIZE) == NULL) {
			hk_virtio_fail(dev, "page outside RAM");
			break;
		}
		run_add(balloon, &run, gpa, HK_PAGE_SIZE);
	}
	run_flush(balloon, &run);
	return 0;
}

/* The pages come back by being touched. */
static uint32_t deflate(struct hk_virtio *dev, unsigned index, const struct hk_chain *chain)
{
	(void)dev;
	(void)index;
	(void)chain;
	return 0;
}

/* A chain's writable segments are the free memory; whole pages of it go. */
static void release_segments(struct balloon *balloon, const struct hk_chain *chain)
{
	struct run run = {0};

	/* Zero where PAGE_POISON was not negotiated: the driver does not write it then. */
	if (balloon->poison != 0) {
		return;
	}
	for (unsigned i = 0; i < chain->writable_count; i++) {
		const struct iovec *segment = &chain->iov[chain->readable_count + i];
		hk_gpa start = hk_mem_gpa(balloon->dev.mem, segment->iov_base);
		hk_gpa end = hk_align_down(start + segment->iov_len, HK_PAGE_SIZE);

		start = hk_align_up(start, HK_PAGE_SIZE);
		/* Not what is in a window, which is no page of its own. */
		if (start < end && hk_mem_at(balloon->dev.mem, start, end - start) != NULL) {
			run_add(balloon, &run, start, end - start);
		}
	}
	run_flush(balloon, &run);
}

static uint32_t report(struct hk_virtio *dev, unsigned index, const struct hk_chain *chain)
{
	(void)index;
	release_segments(from_dev(dev), chain);
	return 0;
}

static void hint_command(struct balloon *balloon, const struct hk_chain *chain)
{
	uint8_t raw[sizeof(uint32_t)];
	uint32_t id;

	if (hk_chain_read(chain, 0, raw, sizeof(raw)) != sizeof(raw)) {
		hk_virtio_fail(&balloon->dev, "broken hint command");
		return;
	}
	id = hk_load_le32(raw);
	if (id == CMD_ID_STOP && balloon->hints_open) {
		balloon->hints_open = false;
		balloon->cmd_id = CMD_ID_DONE;
		hk_virtio_config_changed(&balloon->dev);
	} else {
		/* Another id is of a round that we have ended meanwhile. */
		balloon->hints_open = id >= CMD_ID_FIRST && id == balloon->cmd_id;
	}
}

static uint32_t hint(struct hk_virtio *dev, unsigned index, const struct hk_chain *chain)
{
	struct balloon *balloon = from_dev(dev);

	(void)index;
	if (chain->readable_bytes > 0) {
		hint_command(balloon, chain);
	}
	if (balloon->hints_open) {
		release_segments(balloon, chain);
	}
	return 0;
}

static void parse_stat(struct hk_balloon_stats *stats, uint16_t tag, uint64_t value)
{
	switch (tag) {
	case STAT_MAJOR_FAULTS:
		stats->major_faults = value;
		break;
	case STAT_MINOR_FAULTS:
		stats->minor_faults = value;
		break;
	case STAT_FREE:
		stats->free_bytes = value;
		break;
	case STAT_TOTAL:
		stats->total_bytes = value;
		break;
	case STAT_AVAILABLE:
		stats->available_bytes = value;
		break;
	case STAT_CACHES:
		stats->cached_bytes = value;
		break;
	default:
		break; /* swap, huge pages, and what newer drivers know */
	}
}

static void parse_stats(struct balloon *balloon, const struct hk_chain *chain)
{
	uint32_t count = HK_MIN(chain->readable_bytes / STAT_SIZE, (uint32_t)MAX_STATS);

	balloon->stats = (struct hk_balloon_stats){0};
	for (uint32_t i = 0; i < count; i++) {
		uint8_t raw[STAT_SIZE];

		(void)hk_chain_read(chain, i * STAT_SIZE, raw, sizeof(raw));
		parse_stat(&balloon->stats, hk_load_le16(raw), hk_load_le64(raw + 2));
	}
	balloon->stats_valid = true;
}

static void return_stats_buffer(struct balloon *balloon, unsigned index)
{
	if (balloon->stats_held) {
		const struct hk_chain chain = {.head = balloon->stats_head}; /* nothing written */

		balloon->stats_held = false;
		hk_virtq_push(&balloon->dev.queues[index].vq, &chain, 0);
	}
}

/* Keeps the newest chain, so that there is one to ask with; a second one frees the first. */
static void kick_stats(struct balloon *balloon, unsigned index)
{
	struct hk_virtq *vq = &balloon->dev.queues[index].vq;
	unsigned budget = vq->size;
	struct iovec iov[QUEUE_SIZE];
	int rc = 0;

	do {
		struct hk_chain chain = {.iov = iov, .capacity = QUEUE_SIZE};

		while (budget > 0 && (rc = hk_virtq_pop(vq, &chain)) == 1) {
			budget--;
			return_stats_buffer(balloon, index);
			parse_stats(balloon, &chain);
			balloon->stats_held = true;
			balloon->stats_head = chain.head;
		}
	} while (budget > 0 && rc == 0 && hk_virtq_want_kicks(vq, true));
	hk_virtio_interrupt(&balloon->dev, index);
	if (rc < 0) {
		hk_virtio_fail(&balloon->dev, vq->why);
	} else if (budget == 0) {
		hk_virtio_notify_self(&balloon->dev, index);
	}
}

static void balloon_kick(struct hk_virtio *dev, unsigned index)
{
	struct balloon *balloon = from_dev(dev);
	int queue = (int)index;

	if (queue == queue_of(balloon, ROLE_INFLATE)) {
		hk_virtio_serve(dev, index, inflate);
	} else if (queue == queue_of(balloon, ROLE_DEFLATE)) {
		hk_virtio_serve(dev, index, deflate);
	} else if (queue == queue_of(balloon, ROLE_STATS)) {
		kick_stats(balloon, index);
	} else if (queue == queue_of(balloon, ROLE_HINT)) {
		hk_virtio_serve(dev, index, hint);
	} else if (queue == queue_of(balloon, ROLE_REPORT)) {
		hk_virtio_serve(dev, index, report);
	}
}

static void balloon_read_config(struct hk_virtio *dev, unsigned offset, void *buf, unsigned len)
{
	struct balloon *balloon = from_dev(dev);
	uint8_t config[CONFIG_SIZE];

	hk_store_le32(config + CONFIG_NUM_PAGES, balloon->num_pages);
	hk_store_le32(config + CONFIG_ACTUAL, balloon->actual);
	hk_store_le32(config + CONFIG_CMD_ID, balloon->cmd_id);
	hk_store_le32(config + CONFIG_POISON, balloon->poison);
	memcpy(buf, config + offset, len);
}

/* Two words are the driver's to write; it writes them whole. */
static void balloon_write_config(
	struct hk_virtio *dev, unsigned offset, const void *buf, unsigned len)
{
	struct balloon *balloon = from_dev(dev);

	if (len != sizeof(uint32_t)) {
		return;
	}
	if (offset == CONFIG_ACTUAL) {
		balloon->actual = hk_load_le32(buf);
	} else if (offset == CONFIG_POISON && hk_virtio_has(dev, BALLOON_F_PAGE_POISON)) {
		balloon->poison = hk_load_le32(buf);
	}
}

static int balloon_activate(struct hk_virtio *dev)
{
	(void)dev;
	return 0;
}

/* The target is ours, and stays. */
static void balloon_reset(struct hk_virtio *dev)
{
	struct balloon *balloon = from_dev(dev);

	balloon->actual = 0;
	balloon->poison = 0;
	balloon->cmd_id = CMD_ID_STOP;
	balloon->hints_open = false;
	balloon->stats_held = false;
	balloon->stats_valid = false;
	balloon->stats = (struct hk_balloon_stats){0};
}

static void balloon_save(struct hk_virtio *dev, struct hk_writer *w)
{
	struct balloon *balloon = from_dev(dev);
	size_t mark = hk_writer_begin(w, "virtio-balloon", STATE_VERSION);

	hk_write_u32(w, balloon->num_pages);
	hk_write_u32(w, balloon->actual);
	hk_write_u32(w, balloon->cmd_id);
	hk_write_u32(w, balloon->poison);
	hk_write_u32(w, balloon->next_cmd_id);
	hk_write_u8(w, balloon->hints_open);
	hk_write_u8(w, balloon->stats_held);
	hk_write_u8(w, balloon->stats_valid);
	hk_write_u16(w, balloon->stats_head);
	hk_write_u64(w, balloon->stats.free_bytes);
	hk_write_u64(w, balloon->stats.available_bytes);
	hk_write_u64(w, balloon->stats.total_bytes);
	hk_write_u64(w, balloon->stats.cached_bytes);
	hk_write_u64(w, balloon->stats.major_faults);
	hk_write_u64(w, balloon->stats.minor_faults);
	hk_writer_end(w, mark);
}

/*
 * Could the queues and what we hold of them have come about? A device that failed keeps the chain
 * it failed on.
 */
static bool is_possible(const struct balloon *balloon)
{
	int stats = queue_of(balloon, ROLE_STATS);
	bool failed = atomic_load_explicit(&balloon->dev.needs_reset, memory_order_relaxed);

	for (int i = 0; i < (int)balloon->dev.queue_count; i++) {
		const struct hk_virtq *vq = &balloon->dev.queues[i].vq;
		uint16_t held = i == stats && balloon->stats_held;
		uint16_t served = (uint16_t)(vq->next_avail - vq->next_used);

		if (vq->enabled && !failed && served != held) {
			return false;
		}
	}
	if (balloon->stats_held &&
		(stats < 0 || !balloon->dev.queues[stats].vq.enabled ||
			balloon->stats_head >= balloon->dev.queues[stats].vq.size)) {
		return false;
	}
	return balloon->next_cmd_id >= CMD_ID_FIRST &&
		(!balloon->hints_open || balloon->cmd_id >= CMD_ID_FIRST);
}

static void balloon_restore(struct hk_virtio *dev, struct hk_reader *r)
{
	struct balloon *balloon = from_dev(dev);
	struct hk_section section = hk_reader_begin(r, "virtio-balloon", STATE_VERSION);

	balloon->num_pages = hk_read_u32(r);
	balloon->actual = hk_read_u32(r);
	balloon->cmd_id = hk_read_u32(r);
	balloon->poison = hk_read_u32(r);
	balloon->next_cmd_id = hk_read_u32(r);
	balloon->hints_open = hk_read_u8(r);
	balloon->stats_held = hk_read_u8(r);
	balloon->stats_valid = hk_read_u8(r);
	balloon->stats_head = hk_read_u16(r);
	balloon->stats.free_bytes = hk_read_u64(r);
	balloon->stats.available_bytes = hk_read_u64(r);
	balloon->stats.total_bytes = hk_read_u64(r);
	balloon->stats.cached_bytes = hk_read_u64(r);
	balloon->stats.major_faults = hk_read_u64(r);
	balloon->stats.minor_faults = hk_read_u64(r);
	hk_reader_end(r, section);
	if (r->error == 0 && !is_possible(balloon)) {
		hk_reader_fail(r);
	}
	if (r->error != 0) {
		/* What balloon_reset() leaves as it is. */
		balloon->num_pages = 0;
		balloon->next_cmd_id = CMD_ID_FIRST;
	}
}

static void balloon_destroy(struct hk_virtio *dev)
{
	free(from_dev(dev));
}

static const struct hk_virtio_ops balloon_ops = {
	.name = "balloon",
	.type = HK_VIRTIO_BALLOON,
	.read_config = balloon_read_config,
	.write_config = balloon_write_config,
	.activate = balloon_activate,
	.kick = balloon_kick,
	.reset = balloon_reset,
	.save = balloon_save,
	.restore = balloon_restore,
	.destroy = balloon_destroy,
};

int hk_balloon_create(struct hk_balloon_host *host, struct hk_virtio **ret_dev, struct hk_err *err)
{
	static const uint16_t queue_sizes[ROLE_COUNT] = {
		QUEUE_SIZE, QUEUE_SIZE, QUEUE_SIZE, QUEUE_SIZE, QUEUE_SIZE};
	struct balloon *balloon;

	if (!hk_new(balloon)) {
		return hk_fail(err, ENOMEM, "virtio balloon");
	}
	hk_virtio_init(&balloon->dev, &balloon_ops, ROLE_COUNT, queue_sizes);
	balloon->dev.offered = BALLOON_F_STATS_VQ | BALLOON_F_DEFLATE_ON_OOM |
		BALLOON_F_FREE_PAGE_HINT | BALLOON_F_PAGE_POISON | BALLOON_F_REPORTING;
	balloon->dev.config_len = CONFIG_SIZE;
	balloon->host = host;
	balloon->next_cmd_id = CMD_ID_FIRST;
	/* Where the hint queue may be: with all features its own place, one further down without
	 * stats. The stats queue there suffers nothing from it. */
	balloon->dev.queues[ROLE_HINT].synchronous = true;
	balloon->dev.queues[ROLE_STATS].synchronous = true;
	*ret_dev = &balloon->dev;
	return 0;
}

void hk_balloon_set_target(struct hk_virtio *dev, uint64_t bytes)
{
	struct balloon *balloon = from_dev(dev);

	pthread_mutex_lock(&dev->lock);
	balloon->num_pages = (uint32_t)HK_MIN(bytes / HK_PAGE_SIZE, UINT32_MAX);
	hk_virtio_config_changed(dev);
	pthread_mutex_unlock(&dev->lock);
}

uint64_t hk_balloon_actual(struct hk_virtio *dev)
{
	struct balloon *balloon = from_dev(dev);
	uint64_t bytes;

	pthread_mutex_lock(&dev->lock);
	bytes = (uint64_t)balloon->actual * HK_PAGE_SIZE;
	pthread_mutex_unlock(&dev->lock);
	return bytes;
}

uint64_t hk_balloon_released(struct hk_virtio *dev)
{
	struct balloon *balloon = from_dev(dev);
	uint64_t bytes;

	pthread_mutex_lock(&dev->lock);
	bytes = balloon->released_bytes;
	pthread_mutex_unlock(&dev->lock);
	return bytes;
}

int hk_balloon_stats(struct hk_virtio *dev, struct hk_balloon_stats *ret_stats)
{
	struct balloon *balloon = from_dev(dev);
	int index, rc = -EAGAIN;

	pthread_mutex_lock(&dev->lock);
	if (balloon->stats_valid) {
		*ret_stats = balloon->stats;
		rc = 0;
	}
	index = queue_of(balloon, ROLE_STATS);
	if (index >= 0) {
		return_stats_buffer(balloon, (unsigned)index);
		hk_virtio_interrupt(dev, (unsigned)index);
	}
	pthread_mutex_unlock(&dev->lock);
	return rc;
}

static int hint_start_locked(struct balloon *balloon)
{
	if (queue_of(balloon, ROLE_HINT) < 0) {
		return -ENOTSUP;
	}
	if (balloon->cmd_id >= CMD_ID_FIRST) {
		return -EALREADY;
	}
	balloon->cmd_id = balloon->next_cmd_id++;
	if (balloon->next_cmd_id < CMD_ID_FIRST) {
		balloon->next_cmd_id = CMD_ID_FIRST;
	}
	hk_virtio_config_changed(&balloon->dev);
	return 0;
}

int hk_balloon_hint_start(struct hk_virtio *dev)
{
	int rc;

	pthread_mutex_lock(&dev->lock);
	rc = hint_start_locked(from_dev(dev));
	pthread_mutex_unlock(&dev->lock);
	return rc;
}

bool hk_balloon_hinting(struct hk_virtio *dev)
{
	struct balloon *balloon = from_dev(dev);
	bool hinting;

	pthread_mutex_lock(&dev->lock);
	hinting = balloon->cmd_id >= CMD_ID_FIRST;
	pthread_mutex_unlock(&dev->lock);
	return hinting;
}
