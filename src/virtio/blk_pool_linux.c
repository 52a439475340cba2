/* SPDX-License-Identifier: ISC */
/*
 * Raw files by a worker pool, for hosts without io_uring.
 *
 * Theory: operations stand in one queue; kick() sends as many runners to the pool as there is work
 * for, and each takes operations until the queue is empty. What has ended is put in a list, and an
 * eventfd tells of the first one there. Runners, not operations, are the pool's jobs: so nothing is
 * allocated for an operation.
 *
 * Draining does not wait for the loop (whose thread may well be waiting for the caller's lock): the
 * caller runs what is queued itself, and waits only for what is being run.
 *
 * Locks: pool->lock, under the device's; the base pool's under both. done() is called with neither
 * but the device's.
 */
#include "virtio/blk_file.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/fault.h"
#include "base/pool.h"
#include "base/util.h"

enum { RUNNERS = 8 };

struct io_list {
	struct hk_blk_io *first;
	struct hk_blk_io **tail;
};

struct runner {
	struct hk_job job;
	struct file_pool *pool; /* borrowed */
	bool sent;              /* lock; from its submission to its done */
};

struct file_pool {
	struct hk_blk_backend base; /* first */
	struct hk_pool *workers;    /* owned */
	int fd;                     /* owned */

	pthread_mutex_t lock;
	pthread_cond_t ran;    /* lock; @running went down */
	struct io_list queued; /* lock */
	struct io_list ended;  /* lock */
	unsigned queued_count; /* lock */
	unsigned running;      /* lock; operations */
	struct runner runners[RUNNERS];
};

static const struct hk_blk_backend_ops pool_ops;

static struct file_pool *pool_of(struct hk_blk_backend *backend)
{
	assert(backend->ops == &pool_ops);
	return hk_container_of(backend, struct file_pool, base);
}

static void push(struct io_list *list, struct hk_blk_io *io)
{
	io->next = NULL;
	*list->tail = io;
	list->tail = &io->next;
}

static void empty(struct io_list *list)
{
	list->first = NULL;
	list->tail = &list->first;
}

/* Runs what is queued until nothing is. Any thread. */
static void run_queued(struct file_pool *pool)
{
	struct hk_blk_io *io;

	pthread_mutex_lock(&pool->lock);
	while ((io = pool->queued.first) != NULL) {
		pool->queued.first = io->next;
		if (io->next == NULL) {
			pool->queued.tail = &pool->queued.first;
		}
		pool->queued_count--;
		pool->running++;
		pthread_mutex_unlock(&pool->lock);

		io->result = hk_blk_file_run(pool->fd, io);

		pthread_mutex_lock(&pool->lock);
		if (pool->ended.first == NULL) {
			(void)eventfd_write(pool->base.event_fd, 1);
		}
		push(&pool->ended, io);
		pool->running--;
		pthread_cond_broadcast(&pool->ran);
	}
	pthread_mutex_unlock(&pool->lock);
}

static void runner_work(struct hk_job *job)
{
	run_queued(hk_container_of(job, struct runner, job)->pool);
}

/* Return: could a runner be sent? */
static bool send_runner(struct file_pool *pool, struct runner *runner)
{
	bool ok = hk_pool_submit(pool->workers, &runner->job) == 0;

	runner->sent = ok;
	return ok;
}

static void pool_kick(struct hk_blk_backend *backend)
{
	struct file_pool *pool = pool_of(backend);
	unsigned wanted, sent = 0;

	pthread_mutex_lock(&pool->lock);
	wanted = pool->queued_count;
	for (unsigned i = 0; i < RUNNERS && wanted > 0; i++) {
		struct runner *runner = &pool->runners[i];

		if (runner->sent) {
			sent++;
		} else if (send_runner(pool, runner)) {
			sent++;
			wanted--;
		}
	}
	pthread_mutex_unlock(&pool->lock);
	if (sent == 0) {
		run_queued(pool); /* there is no thread to be had */
	}
}

/* Loop's thread. What was queued after the runner's last look has nobody else. */
static void runner_done(struct hk_job *job)
{
	struct runner *runner = hk_container_of(job, struct runner, job);
	struct file_pool *pool = runner->pool;
	bool alone;

	pthread_mutex_lock(&pool->lock);
	runner->sent = false;
	alone = pool->queued_count > 0 && !send_runner(pool, runner);
	pthread_mutex_unlock(&pool->lock);
	if (alone) {
		run_queued(pool);
	}
}

static void pool_submit(struct hk_blk_backend *backend, struct hk_blk_io *io)
{
	struct file_pool *pool = pool_of(backend);

	pthread_mutex_lock(&pool->lock);
	push(&pool->queued, io);
	pool->queued_count++;
	pthread_mutex_unlock(&pool->lock);
}

static void pool_reap(struct hk_blk_backend *backend)
{
	struct file_pool *pool = pool_of(backend);
	struct hk_blk_io *io, *next;
	eventfd_t count;

	/* In this order, so that what ends in between is told of again. */
	(void)eventfd_read(backend->event_fd, &count);
	pthread_mutex_lock(&pool->lock);
	io = pool->ended.first;
	empty(&pool->ended);
	pthread_mutex_unlock(&pool->lock);
	for (; io != NULL; io = next) {
		next = io->next;
		io->done(io, io->result);
	}
}

static void pool_drain(struct hk_blk_backend *backend)
{
	struct file_pool *pool = pool_of(backend);
	bool more;

	do {
		run_queued(pool);
		pthread_mutex_lock(&pool->lock);
		while (pool->running > 0) {
			pthread_cond_wait(&pool->ran, &pool->lock);
		}
		pthread_mutex_unlock(&pool->lock);
		pool_reap(backend);
		/* done() may have submitted. */
		pthread_mutex_lock(&pool->lock);
		more = pool->queued_count > 0 || pool->running > 0 || pool->ended.first != NULL;
		pthread_mutex_unlock(&pool->lock);
	} while (more);
}

static void pool_destroy(struct hk_blk_backend *backend)
{
	struct file_pool *pool = pool_of(backend);

	hk_pool_destroy(pool->workers);
	pthread_cond_destroy(&pool->ran);
	pthread_mutex_destroy(&pool->lock);
	close(pool->base.event_fd);
	close(pool->fd);
	free(pool);
}

static const struct hk_blk_backend_ops pool_ops = {
	.name = "pool",
	.submit = pool_submit,
	.kick = pool_kick,
	.reap = pool_reap,
	.drain = pool_drain,
	.destroy = pool_destroy,
};

int hk_blk_open_pool(
	struct hk_loop *loop, int fd, struct hk_blk_backend **ret_backend, struct hk_err *err)
{
	struct file_pool *pool;
	int r;

	if (hk_new(pool) == NULL) {
		return hk_fail(err, ENOMEM, "disk");
	}
	pool->base = (struct hk_blk_backend){
		.ops = &pool_ops,
		.loop = loop,
		.event_fd = hk_fault(HK_FAULT_SYSCALL) ? (errno = EMFILE, -1)
						       : eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK),
	};
	if (pool->base.event_fd < 0) {
		r = hk_fail(err, errno, "eventfd of the disk");
		free(pool);
		return r;
	}
	r = hk_pool_create(loop, RUNNERS, "blk", &pool->workers, err);
	if (r < 0) {
		close(pool->base.event_fd);
		free(pool);
		return r;
	}
	pool->fd = fd;
	pthread_mutex_init(&pool->lock, NULL);
	pthread_cond_init(&pool->ran, NULL);
	empty(&pool->queued);
	empty(&pool->ended);
	for (unsigned i = 0; i < RUNNERS; i++) {
		pool->runners[i].pool = pool;
		pool->runners[i].job.work = runner_work;
		pool->runners[i].job.done = runner_done;
	}
	*ret_backend = &pool->base;
	return 0;
}
