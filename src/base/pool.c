/* SPDX-License-Identifier: ISC */
/*
 * A worker pool for blocking system calls.
 *
 * Theory: one queue under one lock. hk_pool_submit() starts a thread where no free one is left for
 * the new job. A worker appends its job to the list of finished ones and posts it to the loop under
 * the same lock, so that both are in one order and the loop's thread, when the post runs, finds its
 * job at the head of the list. hk_pool_destroy() lets the workers empty the queue, joins them, and
 * then runs @done of what is left in that list, taking back the posts.
 *
 * Limits: threads end with the pool only. Workers block all signals but SIGSYS.
 *
 * Locks: pool->lock, then the loop's lock of posts. Neither work nor done is called under it.
 */
#include "base/pool.h"

#include <assert.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>

#include "base/alloc.h"
#include "base/fault.h"
#include "base/str.h"
#include "base/util.h"

enum { MAX_THREADS = 64 };

struct job_list {
	struct hk_job *first;
	struct hk_job **tail;
};

struct hk_pool {
	struct hk_loop *loop; /* borrowed */
	char name[16];        /* what pthread_setname_np() takes */
	unsigned max_threads;

	pthread_mutex_t lock;
	pthread_t threads[MAX_THREADS]; /* lock, until stopping */
	unsigned thread_count;          /* lock, until stopping */
	pthread_cond_t changed;         /* lock; a job was queued, or stopping */
	struct job_list queued;         /* lock */
	struct job_list finished;       /* lock; in the order of their posts */
	size_t queued_count;            /* lock */
	size_t busy_count;              /* lock; jobs being worked on */
	bool stopping;                  /* lock */
};

static void push(struct job_list *list, struct hk_job *job)
{
	job->next = NULL;
	*list->tail = job;
	list->tail = &job->next;
}

static struct hk_job *pop(struct job_list *list)
{
	struct hk_job *job = list->first;

	if (job != NULL) {
		list->first = job->next;
		if (list->first == NULL) {
			list->tail = &list->first;
		}
		job->next = NULL;
	}
	return job;
}

/* Loop's thread: a post of a worker's arrived. The pool may be gone after @done. */
static void job_arrived(struct hk_post *post)
{
	struct hk_job *job = hk_container_of(post, struct hk_job, post);
	struct hk_pool *pool = job->pool;
	struct hk_job *first;

	pthread_mutex_lock(&pool->lock);
	first = pop(&pool->finished);
	pthread_mutex_unlock(&pool->lock);
	assert(first == job);
	job->pool = NULL;
	job->done(job);
}

/* The next job, waiting for it; NULL once the pool is stopping and the queue empty. */
static struct hk_job *next_job_locked(struct hk_pool *pool)
{
	struct hk_job *job;

	while ((job = pop(&pool->queued)) == NULL && !pool->stopping) {
		pthread_cond_wait(&pool->changed, &pool->lock);
	}
	if (job != NULL) {
		pool->queued_count--;
		pool->busy_count++;
	}
	return job;
}

static void *worker(void *argument)
{
	struct hk_pool *pool = argument;
	struct hk_job *job;

	/* By itself: another thread's name is set through a file, which may be out of reach. */
	pthread_setname_np(pthread_self(), pool->name);
	pthread_mutex_lock(&pool->lock);
	while ((job = next_job_locked(pool)) != NULL) {
		pthread_mutex_unlock(&pool->lock);
		job->work(job);
		pthread_mutex_lock(&pool->lock);
		pool->busy_count--;
		push(&pool->finished, job);
		hk_loop_post(pool->loop, &job->post);
	}
	pthread_mutex_unlock(&pool->lock);
	return NULL;
}

static int start_thread_locked(struct hk_pool *pool)
{
	pthread_t *thread = &pool->threads[pool->thread_count];
	sigset_t all;
	sigset_t before;
	int r;

	if (hk_fault(HK_FAULT_SYSCALL)) {
		return -EAGAIN;
	}
	sigfillset(&all);
	sigdelset(&all, SIGSYS); /* how a refused system call is reported; blocked, it kills */
	pthread_sigmask(SIG_SETMASK, &all, &before); /* inherited by the new thread */
	r = pthread_create(thread, NULL, worker, pool);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	if (r != 0) {
		return -r;
	}
	pool->thread_count++;
	return 0;
}

int hk_pool_create(struct hk_loop *loop, unsigned threads, const char *name,
	struct hk_pool **ret_pool, struct hk_err *err)
{
	struct hk_pool *pool;

	if (threads < 1 || threads > MAX_THREADS) {
		return hk_fail_msg(err, EINVAL, "thread pool '%s': %u threads, not 1 to %d", name,
			threads, MAX_THREADS);
	}
	if (hk_new(pool) == NULL) {
		return hk_fail(err, ENOMEM, "thread pool '%s'", name);
	}
	pool->loop = loop;
	pool->max_threads = threads;
	pool->queued.tail = &pool->queued.first;
	pool->finished.tail = &pool->finished.first;
	hk_fmt(pool->name, sizeof(pool->name), "%s", name); /* cut where too long */
	pthread_mutex_init(&pool->lock, NULL);
	pthread_cond_init(&pool->changed, NULL);
	*ret_pool = pool;
	return 0;
}

int hk_pool_submit(struct hk_pool *pool, struct hk_job *job)
{
	int r = 0;

	assert(job->work != NULL && job->done != NULL);
	pthread_mutex_lock(&pool->lock);
	if (pool->stopping) {
		pthread_mutex_unlock(&pool->lock);
		return -ESHUTDOWN;
	}
	/* Counting jobs, not waiting workers: those on their way to wait are free as well. */
	if (pool->queued_count + pool->busy_count >= pool->thread_count &&
		pool->thread_count < pool->max_threads) {
		r = start_thread_locked(pool);
	}
	if (r < 0 && pool->thread_count == 0) {
		pthread_mutex_unlock(&pool->lock);
		return -EAGAIN;
	}
	/* Where only this thread could not be started, the job waits for one that is busy. */
	job->pool = pool;
	job->post = (struct hk_post){.run = job_arrived};
	push(&pool->queued, job);
	pool->queued_count++;
	pthread_cond_signal(&pool->changed);
	pthread_mutex_unlock(&pool->lock);
	return 0;
}

void hk_pool_destroy(struct hk_pool *pool)
{
	struct hk_job *job;

	if (pool == NULL) {
		return;
	}
	pthread_mutex_lock(&pool->lock);
	pool->stopping = true;
	pthread_cond_broadcast(&pool->changed);
	pthread_mutex_unlock(&pool->lock);
	for (unsigned i = 0; i < pool->thread_count; i++) {
		pthread_join(pool->threads[i], NULL);
	}
	/* Nobody else is here any more but @done, which may submit (and is refused). */
	while ((job = pop(&pool->finished)) != NULL) {
		hk_loop_cancel_post(pool->loop, &job->post);
		job->pool = NULL;
		job->done(job);
	}
	pthread_cond_destroy(&pool->changed);
	pthread_mutex_destroy(&pool->lock);
	free(pool);
}
