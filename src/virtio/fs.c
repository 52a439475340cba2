/* SPDX-License-Identifier: ISC */
/*
 * virtio-fs: queues, threads, and the FUSE server behind them.
 *
 * Theory: a thread that finds a request answers it itself, on its own core: a wake-up costs more
 * than most requests. So a queue starts with one thread, and at any time at most one waits for the
 * driver's kick; kicks are off while somebody works. A second thread is called in where the first
 * would keep others waiting: when more requests are there already, or before one that is known to
 * be slow (fsync and its like). It takes the rest of the queue, or waits in the first one's place.
 * Up to `threads` of them are started, when they are needed, and sleep in between. Where rules have
 * a person asked, any request may take long, so there is always one that waits; and one more for
 * each that waits for an answer.
 *
 * A queue's mutex covers its rings and these roles; it is not held while the server works, so
 * requests end in any order. Nothing here takes the device's lock, which is held by those who start
 * and stop us.
 *
 * Stopping sets a flag, wakes who sleeps (condition) or waits (eventfd), and joins: requests under
 * way end first, and as the server waits for no lock, that is as long as the host's storage takes.
 *
 * Files that the server maps show in shared-memory region 0. It tells the guest where; what is
 * there is the server's.
 *
 * Limits: no notification queue.
 *
 * Source: VIRTIO 1.2, section 5.11; linux/virtio_fs.h.
 */
#include "virtio/fs.h"

#include <assert.h>
#include <linux/fuse.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/bytes.h"
#include "base/cleanup.h"
#include "base/log.h"
#include "base/util.h"

HK_LOG_CHANNEL("virtio");

enum {
	TAG_LEN = 36,
	CONFIG_LEN = TAG_LEN + 4,
	MAX_REQUEST_QUEUES = 16,
	MAX_THREADS = 16,
	DEFAULT_THREADS = 4,
	HIPRIO_QUEUE_SIZE = 128,
	REQUEST_QUEUE_SIZE = HK_VIRTQ_MAX_SIZE, /* a request of 1 MiB has up to 260 segments */
	STACK_BYTES = 512 * 1024,
	STATE_VERSION = 1,
	CACHE_SHM_ID = 0,
};

static_assert((int)HK_FUSE_MAX_SEGMENTS >= (int)HK_VIRTQ_MAX_SIZE, "any chain is a request");

struct fs;

/**
 * struct fs_queue - a queue's threads
 * @lock: over the queue's rings and all below
 * @call: a sleeping thread is wanted
 * @someone_waits: for a kick, with @lock released
 */
struct fs_queue {
	struct fs *fs;
	unsigned index;
	unsigned max_threads;
	pthread_mutex_t lock;
	pthread_cond_t call;
	pthread_t threads[MAX_THREADS + HK_FUSE_WAITING_MAX];
	unsigned thread_count;
	unsigned sleeping;
	bool someone_waits;
	bool stop;
};

struct fs {
	struct hk_virtio dev;
	struct hk_fuse_server *server; /* borrowed */
	uint8_t config[CONFIG_LEN];
	int stop_fd; /* eventfd, readable while threads shall end */
	struct fs_queue queues[1 + MAX_REQUEST_QUEUES];
};

static struct fs *fs_of(struct hk_virtio *dev)
{
	return hk_container_of(dev, struct fs, dev);
}

static void *worker(void *arg);

/* Starts another thread. Return: false where there is none to be had. */
static bool spawn_locked(struct fs_queue *q)
{
	pthread_attr_t attr;
	int r;

	if (q->thread_count >= q->max_threads + hk_fuse_server_waiting(q->fs->server) ||
		q->thread_count == HK_ARRAY_SIZE(q->threads)) {
		return false;
	}
	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, STACK_BYTES);
	r = pthread_create(&q->threads[q->thread_count], &attr, worker, q);
	pthread_attr_destroy(&attr);
	if (r != 0) {
		hk_log_debug("fs: queue %u: thread %u: %s", q->index, q->thread_count, strerror(r));
		return false;
	}
	q->thread_count++;
	return true;
}

static bool more_is_there_locked(struct fs_queue *q)
{
	struct hk_virtq *vq = &q->fs->dev.queues[q->index].vq;

	/* A look ahead only: pop reads the index again and checks it. */
	return le16toh(hk_load_once((uint16_t *)(vq->avail + 2))) != vq->next_avail;
}

static bool is_slow(const struct hk_chain *chain)
{
	uint8_t opcode[4];

	if (hk_chain_read(chain, offsetof(struct fuse_in_header, opcode), opcode, sizeof(opcode)) !=
		sizeof(opcode)) {
		return false;
	}
	switch (hk_load_le32(opcode)) {
	case FUSE_FSYNC:
	case FUSE_FSYNCDIR:
	case FUSE_SYNCFS:
	case FUSE_FALLOCATE:
	case FUSE_COPY_FILE_RANGE:
		return true;
	default:
		return false;
	}
}

/* Before @chain is served: are there others who would wait for it? */
static void call_help_locked(struct fs_queue *q, const struct hk_chain *chain)
{
	if (q->max_threads == 1 || q->someone_waits ||
		(!more_is_there_locked(q) && !is_slow(chain) &&
			!hk_fuse_server_asks(q->fs->server))) {
		return;
	}
	if (q->sleeping > 0) {
		pthread_cond_signal(&q->call);
	} else {
		spawn_locked(q);
	}
}

/* Serves one chain; the lock is released meanwhile. Return: false where the queue cannot go on. */
static bool serve_locked(struct fs_queue *q, struct hk_chain *chain)
{
	struct hk_virtio *dev = &q->fs->dev;
	ssize_t written;

	call_help_locked(q, chain);
	pthread_mutex_unlock(&q->lock);
	written = hk_fuse_handle(q->fs->server, chain->iov, chain->readable_count,
		chain->iov + chain->readable_count, chain->writable_count);
	pthread_mutex_lock(&q->lock);
	if (written < 0) {
		hk_virtio_fail(dev, "not a FUSE request");
		return false;
	}
	hk_virtq_push(&dev->queues[q->index].vq, chain, (uint32_t)written);
	hk_virtio_interrupt(dev, q->index);
	return true;
}

/* Waits for the driver, or for the end. */
static void wait_for_kick_locked(struct fs_queue *q)
{
	struct hk_virtio_queue *queue = &q->fs->dev.queues[q->index];
	struct pollfd fds[] = {
		{.fd = queue->kick_fd, .events = POLLIN},
		{.fd = q->fs->stop_fd, .events = POLLIN},
	};
	uint64_t count;

	if (hk_virtq_want_kicks(&queue->vq, true)) {
		return;
	}
	q->someone_waits = true;
	pthread_mutex_unlock(&q->lock);
	/* seccomp: poll ppoll */
	if (poll(fds, HK_ARRAY_SIZE(fds), -1) > 0 && (fds[0].revents & POLLIN) != 0) {
		(void)!read(queue->kick_fd, &count, sizeof(count));
	}
	pthread_mutex_lock(&q->lock);
	q->someone_waits = false;
	hk_virtq_want_kicks(&queue->vq, false);
}

static void *worker(void *arg)
{
	struct fs_queue *q = arg;
	struct hk_virtio *dev = &q->fs->dev;
	struct iovec iov[HK_VIRTQ_MAX_SIZE];

	hk_fuse_thread_start();
	pthread_mutex_lock(&q->lock);
	while (!q->stop && !atomic_load_explicit(&dev->needs_reset, memory_order_relaxed)) {
		struct hk_chain chain = {.iov = iov, .capacity = HK_ARRAY_SIZE(iov)};
		int r = hk_virtq_pop(&dev->queues[q->index].vq, &chain);

		if (r < 0) {
			hk_virtio_fail(dev, "broken queue");
			break;
		}
		if (r > 0) {
			if (!serve_locked(q, &chain)) {
				break;
			}
		} else if (q->someone_waits) {
			q->sleeping++;
			pthread_cond_wait(&q->call, &q->lock);
			q->sleeping--;
		} else {
			wait_for_kick_locked(q);
		}
	}
	pthread_mutex_unlock(&q->lock);
	return NULL;
}

static void stop_threads(struct fs *fs)
{
	uint64_t one = 1;

	(void)!write(fs->stop_fd, &one, sizeof(one));
	for (unsigned i = 0; i < fs->dev.queue_count; i++) {
		struct fs_queue *q = &fs->queues[i];

		pthread_mutex_lock(&q->lock);
		q->stop = true;
		pthread_cond_broadcast(&q->call);
		pthread_mutex_unlock(&q->lock);
		/* With stop set nobody serves, so nobody starts another one. */
		for (unsigned t = 0; t < q->thread_count; t++) {
			pthread_join(q->threads[t], NULL);
		}
		q->thread_count = 0;
	}
	(void)!read(fs->stop_fd, &one, sizeof(one));
}

static int start_threads(struct fs *fs)
{
	for (unsigned i = 0; i < fs->dev.queue_count; i++) {
		struct fs_queue *q = &fs->queues[i];
		bool started = true;

		if (!fs->dev.queues[i].vq.enabled) {
			continue;
		}
		pthread_mutex_lock(&q->lock);
		q->stop = false;
		started = spawn_locked(q);
		pthread_mutex_unlock(&q->lock);
		if (!started) {
			stop_threads(fs);
			return -EAGAIN;
		}
	}
	return 0;
}

static void fs_read_config(struct hk_virtio *dev, unsigned offset, void *buf, unsigned len)
{
	memcpy(buf, fs_of(dev)->config + offset, len);
}

static int fs_activate(struct hk_virtio *dev)
{
	return start_threads(fs_of(dev));
}

static void fs_quiesce(struct hk_virtio *dev)
{
	stop_threads(fs_of(dev));
}

static void fs_resume(struct hk_virtio *dev)
{
	if (start_threads(fs_of(dev)) < 0) {
		hk_virtio_fail(dev, "no threads");
	}
}

static void fs_reset(struct hk_virtio *dev)
{
	stop_threads(fs_of(dev));
	hk_fuse_server_reset(fs_of(dev)->server);
}

static void fs_save(struct hk_virtio *dev, struct hk_writer *w)
{
	size_t mark = hk_writer_begin(w, "virtio-fs", STATE_VERSION);

	hk_fuse_server_save(fs_of(dev)->server, w);
	hk_writer_end(w, mark);
}

static void fs_restore(struct hk_virtio *dev, struct hk_reader *r)
{
	struct hk_section section = hk_reader_begin(r, "virtio-fs", STATE_VERSION);

	hk_fuse_server_restore(fs_of(dev)->server, r);
	hk_reader_end(r, section);
}

static void fs_destroy(struct hk_virtio *dev)
{
	struct fs *fs = fs_of(dev);

	for (unsigned i = 0; i < HK_ARRAY_SIZE(fs->queues); i++) {
		assert(fs->queues[i].thread_count == 0);
		pthread_cond_destroy(&fs->queues[i].call);
		pthread_mutex_destroy(&fs->queues[i].lock);
	}
	hk_close(&fs->stop_fd);
	free(fs);
}

static const struct hk_virtio_ops fs_ops = {
	.name = "fs",
	.type = HK_VIRTIO_FS,
	.read_config = fs_read_config,
	.activate = fs_activate,
	.reset = fs_reset,
	.quiesce = fs_quiesce,
	.resume = fs_resume,
	.save = fs_save,
	.restore = fs_restore,
	.destroy = fs_destroy,
};

int hk_fs_create(const struct hk_fs_config *config, struct hk_virtio **ret_dev, struct hk_err *err)
{
	uint16_t sizes[1 + MAX_REQUEST_QUEUES];
	size_t tag_len = strlen(config->tag);
	unsigned threads = config->threads != 0 ? config->threads : DEFAULT_THREADS;
	struct fs *fs;

	if (tag_len == 0 || tag_len > TAG_LEN) {
		return hk_fail_msg(
			err, EINVAL, "virtio fs: tag '%s': 1 to %d bytes", config->tag, TAG_LEN);
	}
	if (config->request_queues < 1 || config->request_queues > MAX_REQUEST_QUEUES ||
		threads > MAX_THREADS) {
		return hk_fail_msg(err, EINVAL,
			"virtio fs: %u queues with %u threads: 1 to %d each",
			config->request_queues, threads, MAX_REQUEST_QUEUES);
	}
	if (hk_new(fs) == NULL) {
		return hk_fail(err, ENOMEM, "virtio fs");
	}
	fs->stop_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (fs->stop_fd < 0) {
		int code = errno;

		free(fs);
		return hk_fail(err, code, "virtio fs: eventfd");
	}
	fs->server = config->server;
	memcpy(fs->config, config->tag, tag_len);
	hk_store_le32(fs->config + TAG_LEN, config->request_queues);
	for (unsigned i = 0; i < HK_ARRAY_SIZE(fs->queues); i++) {
		struct fs_queue *q = &fs->queues[i];

		q->fs = fs;
		q->index = i;
		q->max_threads = i == 0 ? 1 : threads;
		pthread_mutex_init(&q->lock, NULL);
		pthread_cond_init(&q->call, NULL);
		sizes[i] = i == 0 ? HIPRIO_QUEUE_SIZE : REQUEST_QUEUE_SIZE;
	}
	hk_virtio_init(&fs->dev, &fs_ops, 1 + config->request_queues, sizes);
	fs->dev.flags = HK_VIRTIO_OWN_THREADS;
	fs->dev.config_len = CONFIG_LEN;
	fs->dev.shm[CACHE_SHM_ID].window = config->window;
	*ret_dev = &fs->dev;
	return 0;
}
