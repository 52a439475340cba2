/* SPDX-License-Identifier: ISC */
/*
 * Errands: see errand.h.
 *
 * Theory: who waits and who works meet at the errand, under its lock. Whoever comes second frees
 * it: the one who waits if the work was done in time, else its thread.
 *
 * Limits: an errand is a thread: for what is rare. Where HK_ERRANDS_MAX have not come back, none is
 * begun.
 */
#include "trace/errand.h"

#include <errno.h>
#include <stdatomic.h>

#include "base/loop.h"
#include "base/timespec.h"

static atomic_uint at_work;

static void finish(struct hk_errand *errand)
{
	pthread_cond_destroy(&errand->changed);
	pthread_mutex_destroy(&errand->lock);
}

static void *go(void *arg)
{
	struct hk_errand *errand = arg;
	bool is_left;

	errand->work(errand);
	pthread_mutex_lock(&errand->lock);
	errand->is_done = true;
	is_left = errand->is_left;
	pthread_cond_signal(&errand->changed);
	pthread_mutex_unlock(&errand->lock);
	if (is_left) {
		finish(errand);
		errand->free(errand);
	}
	atomic_fetch_sub(&at_work, 1);
	return NULL;
}

static bool start(struct hk_errand *errand)
{
	pthread_attr_t attr;
	pthread_t thread;
	int r;

	if (atomic_fetch_add(&at_work, 1) >= HK_ERRANDS_MAX) {
		atomic_fetch_sub(&at_work, 1);
		return false;
	}
	pthread_attr_init(&attr);
	pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
	r = pthread_create(&thread, &attr, go, errand);
	pthread_attr_destroy(&attr);
	if (r != 0) {
		atomic_fetch_sub(&at_work, 1);
	}
	return r == 0;
}

bool hk_errand_run(struct hk_errand *errand, unsigned timeout_ms)
{
	struct timespec until = hk_timespec_of(hk_now_ns() + timeout_ms * HK_NS_PER_MS);
	pthread_condattr_t monotonic;
	bool is_done;
	int r = 0;

	pthread_mutex_init(&errand->lock, NULL);
	pthread_condattr_init(&monotonic);
	pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
	pthread_cond_init(&errand->changed, &monotonic);
	pthread_condattr_destroy(&monotonic);
	if (!start(errand)) {
		finish(errand);
		errand->free(errand);
		return false;
	}
	pthread_mutex_lock(&errand->lock);
	while (!errand->is_done && r == 0) {
		r = pthread_cond_timedwait(&errand->changed, &errand->lock, &until);
	}
	is_done = errand->is_done;
	errand->is_left = !is_done;
	pthread_mutex_unlock(&errand->lock);
	if (is_done) {
		finish(errand);
	}
	return is_done;
}
