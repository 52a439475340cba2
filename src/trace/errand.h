/* SPDX-License-Identifier: ISC */
/*
 * Errands: work that may never come back, done by a thread of its own that nobody has to wait for.
 *
 * A file server that looks a process up may have to wait for that process, which may wait for the
 * server. So it waits a moment, and goes on without.
 */
#ifndef HK_TRACE_ERRAND_H
#define HK_TRACE_ERRAND_H

#include <pthread.h>
#include <stdbool.h>

enum { HK_ERRANDS_MAX = 64 }; /* at work at the same time, with those nobody waits for any more */

/**
 * struct hk_errand - embed it in what the work needs and gives: on the heap, zero-initialized
 * @work: does it; touches nothing but the errand
 * @free: frees it, and what it owns
 */
struct hk_errand {
	void (*work)(struct hk_errand *errand);
	void (*free)(struct hk_errand *errand);
	pthread_mutex_t lock; /* of all below */
	pthread_cond_t changed;
	bool is_done;
	bool is_left; /* its thread frees it */
};

/**
 * hk_errand_run() - have @errand done, within @timeout_ms
 *
 * Return: true: it is done, and the caller's, to be freed by its @free; false: it is not, and must
 * not be touched any more.
 */
bool hk_errand_run(struct hk_errand *errand, unsigned timeout_ms);

#endif
