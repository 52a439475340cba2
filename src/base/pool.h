/* SPDX-License-Identifier: ISC */
/*
 * A worker pool for blocking system calls. Jobs are embedded in their owners;
 * the pool runs @work on a worker thread, then @done on the loop's thread.
 */
#ifndef HK_BASE_POOL_H
#define HK_BASE_POOL_H

#include "base/err.h"
#include "base/loop.h"

struct hk_pool;

/**
 * struct hk_job - one piece of blocking work
 * @work: runs on a worker; must not touch what the loop's thread owns
 * @done: runs on the loop's thread afterwards; may free the job
 */
struct hk_job {
	void (*work)(struct hk_job *job);
	void (*done)(struct hk_job *job);
	struct hk_job *next;  /* the pool's own */
	struct hk_pool *pool; /* the pool's own */
	struct hk_post post;  /* the pool's own */
};

/**
 * hk_pool_create() - a pool without threads yet: they are started as jobs arrive
 * @loop: where @done runs; borrowed
 * @threads: at most so many, 1 to 64
 * @name: of the threads, cut after 15 bytes
 *
 * Return: 0, -EINVAL or -ENOMEM.
 */
int hk_pool_create(struct hk_loop *loop, unsigned threads, const char *name,
	struct hk_pool **ret_pool, struct hk_err *err);

/**
 * hk_pool_destroy() - wait for all jobs, drop none: queued ones are run first; NULL is fine
 *
 * Runs @done of each job whose turn on the loop had not come. Loop's thread only; not from @work.
 */
void hk_pool_destroy(struct hk_pool *pool);

/**
 * hk_pool_submit() - queue a job. Any thread, while the pool lives.
 *
 * Return: 0, -EAGAIN if no thread could be started at all, or -ESHUTDOWN once hk_pool_destroy() has
 * begun (a @done that it runs may come here). Unless it is 0, neither @work nor @done will be
 * called.
 */
int hk_pool_submit(struct hk_pool *pool, struct hk_job *job);

#endif
