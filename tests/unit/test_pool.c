/* SPDX-License-Identifier: ISC */
/* The worker pool: which thread runs what, how many there are, and how a pool ends. */
#include <dirent.h>
#include <pthread.h>
#include <semaphore.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/fault.h"
#include "base/pool.h"
#include "base/util.h"

enum { JOBS = 200 };

struct test_job {
	struct hk_job job;
	pthread_t worked_by;
	char name[16];
	bool all_blocked;
	int result; /* written by work, read by done: not atomic, the pool orders them */
	unsigned order;
	int submit_result;
};

static struct hk_loop *loop;
static struct hk_pool *pool;
static pthread_t loop_thread;
static unsigned done_count;
static sem_t gate;
static atomic_int inside;
static atomic_int inside_max;

static int set_up(void **state)
{
	loop_thread = pthread_self();
	done_count = 0;
	pool = NULL;
	atomic_store(&inside, 0);
	atomic_store(&inside_max, 0);
	sem_init(&gate, 0, 0);
	return hk_loop_create(&loop, NULL);
}

static int tear_down(void **state)
{
	hk_fault_arm(0, 0);
	hk_pool_destroy(pool);
	hk_loop_destroy(loop);
	sem_destroy(&gate);
	return 0;
}

static unsigned thread_count(void)
{
	DIR *dir = opendir("/proc/self/task");
	struct dirent *entry;
	unsigned count = 0;

	assert_non_null(dir);
	while ((entry = readdir(dir)) != NULL) {
		count += entry->d_name[0] != '.';
	}
	closedir(dir);
	return count;
}

static void work(struct hk_job *job)
{
	struct test_job *t = hk_container_of(job, struct test_job, job);
	sigset_t mask;

	t->worked_by = pthread_self();
	pthread_getname_np(pthread_self(), t->name, sizeof(t->name));
	pthread_sigmask(SIG_SETMASK, NULL, &mask);
	t->all_blocked = sigismember(&mask, SIGINT) && sigismember(&mask, SIGUSR1) &&
		sigismember(&mask, SIGTERM) && sigismember(&mask, SIGCHLD) &&
		sigismember(&mask, SIGALRM);
	t->result++;
}

static void wait_at_gate(struct hk_job *job)
{
	int now = atomic_fetch_add(&inside, 1) + 1;
	int max = atomic_load(&inside_max);

	while (now > max && !atomic_compare_exchange_weak(&inside_max, &max, now)) {
	}
	while (sem_wait(&gate) < 0) {
	}
	atomic_fetch_sub(&inside, 1);
	work(job);
}

static void done(struct hk_job *job)
{
	struct test_job *t = hk_container_of(job, struct test_job, job);

	assert_true(pthread_equal(pthread_self(), loop_thread));
	t->result += 10;
	t->order = done_count++;
}

static void run_until_done(unsigned count)
{
	for (int i = 0; i < 5000 && done_count < count; i++) {
		assert_int_equal(hk_loop_run_once(loop, 1000), 0);
	}
	assert_int_equal(done_count, count);
}

static void test_a_job(void **state)
{
	struct test_job t = {.job = {.work = work, .done = done}};
	sigset_t before;
	sigset_t after;

	pthread_sigmask(SIG_SETMASK, NULL, &before);
	assert_int_equal(hk_pool_create(loop, 2, "a long pool name", &pool, NULL), 0);
	assert_int_equal(hk_pool_submit(pool, &t.job), 0);
	pthread_sigmask(SIG_SETMASK, NULL, &after);
	for (int signo = 1; signo < SIGRTMAX; signo++) {
		assert_int_equal(sigismember(&before, signo), sigismember(&after, signo));
	}
	run_until_done(1);
	assert_int_equal(t.result, 11);
	assert_false(pthread_equal(t.worked_by, loop_thread));
	assert_string_equal(t.name, "a long pool nam");
	assert_true(t.all_blocked);
}

static void test_wrong_numbers_of_threads(void **state)
{
	struct hk_err err = HK_ERR_INIT;

	assert_int_equal(hk_pool_create(loop, 0, "x", &pool, &err), -EINVAL);
	assert_non_null(strstr(hk_err_text(&err), "'x'"));
	assert_int_equal(hk_pool_create(loop, 65, "x", &pool, NULL), -EINVAL);
	assert_null(pool);
	hk_pool_destroy(NULL);
	assert_int_equal(hk_pool_create(loop, 64, "x", &pool, NULL), 0);
}

static void test_threads_start_as_needed(void **state)
{
	static struct test_job jobs[10];
	unsigned before = thread_count();

	memset(jobs, 0, sizeof(jobs));
	assert_int_equal(hk_pool_create(loop, 3, "test", &pool, NULL), 0);
	assert_int_equal(thread_count(), before);
	/* One after the other: one thread is enough, since it is free when done() runs. */
	for (unsigned i = 0; i < 50; i++) {
		jobs[0].job = (struct hk_job){.work = work, .done = done};
		assert_int_equal(hk_pool_submit(pool, &jobs[0].job), 0);
		run_until_done(i + 1);
		assert_int_equal(thread_count(), before + 1);
	}
	done_count = 0;
	for (unsigned i = 0; i < 10; i++) {
		jobs[i].job = (struct hk_job){.work = wait_at_gate, .done = done};
		assert_int_equal(hk_pool_submit(pool, &jobs[i].job), 0);
		assert_int_equal(thread_count(), before + HK_MIN(i + 1, 3));
	}
	/* All three really are in work() at once, or this would wait for ever. */
	while (atomic_load(&inside) < 3) {
		usleep(100);
	}
	for (unsigned i = 0; i < 10; i++) {
		sem_post(&gate);
	}
	run_until_done(10);
	assert_int_equal(atomic_load(&inside_max), 3);
}

static void test_one_thread_keeps_order(void **state)
{
	static struct test_job jobs[JOBS];

	memset(jobs, 0, sizeof(jobs));
	assert_int_equal(hk_pool_create(loop, 1, "test", &pool, NULL), 0);
	for (unsigned i = 0; i < JOBS; i++) {
		jobs[i].job = (struct hk_job){.work = work, .done = done};
		assert_int_equal(hk_pool_submit(pool, &jobs[i].job), 0);
	}
	run_until_done(JOBS);
	for (unsigned i = 0; i < JOBS; i++) {
		assert_int_equal(jobs[i].result, 11);
		assert_int_equal(jobs[i].order, i);
	}
}

static void test_destroy_runs_what_is_queued(void **state)
{
	static struct test_job jobs[JOBS];
	unsigned before = thread_count();

	memset(jobs, 0, sizeof(jobs));
	assert_int_equal(hk_pool_create(loop, 2, "test", &pool, NULL), 0);
	for (unsigned i = 0; i < JOBS; i++) {
		jobs[i].job = (struct hk_job){.work = wait_at_gate, .done = done};
		assert_int_equal(hk_pool_submit(pool, &jobs[i].job), 0);
	}
	/* Some are worked on by now, and their posts wait at the loop. */
	for (unsigned i = 0; i < JOBS; i++) {
		sem_post(&gate);
	}
	usleep(2000);
	assert_int_equal(done_count, 0);
	hk_pool_destroy(pool);
	pool = NULL;
	assert_int_equal(done_count, JOBS);
	for (unsigned i = 0; i < JOBS; i++) {
		assert_int_equal(jobs[i].result, 11);
	}
	assert_int_equal(thread_count(), before);
	/* No post is left at the loop. */
	memset(jobs, 0xee, sizeof(jobs));
	assert_int_equal(hk_loop_run_once(loop, 0), 0);
	assert_int_equal(done_count, JOBS);
}

static void done_submits(struct hk_job *job)
{
	struct test_job *t = hk_container_of(job, struct test_job, job);

	done(job);
	job->work = wait_at_gate;
	t->submit_result = hk_pool_submit(pool, job);
}

static void test_submit_while_destroyed(void **state)
{
	struct test_job t = {.job = {.work = work, .done = done_submits}};

	assert_int_equal(hk_pool_create(loop, 2, "test", &pool, NULL), 0);
	assert_int_equal(hk_pool_submit(pool, &t.job), 0);
	hk_pool_destroy(pool);
	pool = NULL;
	assert_int_equal(t.submit_result, -ESHUTDOWN);
	assert_int_equal(t.result, 11);
}

static void done_again(struct hk_job *job)
{
	struct test_job *t = hk_container_of(job, struct test_job, job);

	done(job);
	if (t->result < 55) {
		assert_int_equal(hk_pool_submit(pool, job), 0);
	}
}

static void test_submit_from_done(void **state)
{
	struct test_job t = {.job = {.work = work, .done = done_again}};

	assert_int_equal(hk_pool_create(loop, 2, "test", &pool, NULL), 0);
	assert_int_equal(hk_pool_submit(pool, &t.job), 0);
	run_until_done(5);
	assert_int_equal(t.result, 55);
}

static void done_frees(struct hk_job *job)
{
	done(job);
	free(hk_container_of(job, struct test_job, job));
}

static void submit_allocated(void (*done_fn)(struct hk_job *job))
{
	struct test_job *t = calloc(1, sizeof(*t));

	assert_non_null(t);
	t->job.work = work;
	t->job.done = done_fn;
	assert_int_equal(hk_pool_submit(pool, &t->job), 0);
}

static void test_done_frees_the_job(void **state)
{
	assert_int_equal(hk_pool_create(loop, 3, "test", &pool, NULL), 0);
	for (int i = 0; i < 100; i++) {
		submit_allocated(done_frees);
	}
	run_until_done(100);
	for (int i = 0; i < 100; i++) {
		submit_allocated(done_frees);
	}
	hk_pool_destroy(pool);
	pool = NULL;
	assert_int_equal(done_count, 200);
}

static void done_destroys(struct hk_job *job)
{
	struct hk_pool *dying = pool;

	pool = NULL;
	done_frees(job);
	hk_pool_destroy(dying);
}

static void test_done_destroys_the_pool(void **state)
{
	assert_int_equal(hk_pool_create(loop, 1, "test", &pool, NULL), 0);
	submit_allocated(done_destroys);
	for (int i = 0; i < 20; i++) {
		submit_allocated(done_frees);
	}
	run_until_done(21);
	assert_null(pool);
	assert_int_equal(hk_loop_run_once(loop, 0), 0);
}

static void done_stops(struct hk_job *job)
{
	done(job);
	hk_loop_stop(loop);
}

/* Stopped after each: posts go back to the loop and stay in the pool's order. */
static void test_stops_in_between(void **state)
{
	static struct test_job jobs[20];

	memset(jobs, 0, sizeof(jobs));
	assert_int_equal(hk_pool_create(loop, 2, "test", &pool, NULL), 0);
	for (unsigned i = 0; i < 20; i++) {
		jobs[i].job = (struct hk_job){.work = work, .done = done_stops};
		assert_int_equal(hk_pool_submit(pool, &jobs[i].job), 0);
	}
	for (unsigned i = 0; i < 10; i++) {
		assert_int_equal(hk_loop_run(loop), 0);
		assert_int_equal(done_count, i + 1);
	}
	hk_pool_destroy(pool);
	pool = NULL;
	assert_int_equal(done_count, 20);
}

static void *submit_many(void *arg)
{
	struct test_job *jobs = arg;

	for (unsigned i = 0; i < JOBS; i++) {
		if (hk_pool_submit(pool, &jobs[i].job) != 0) {
			return arg;
		}
	}
	return NULL;
}

static void test_submit_from_threads(void **state)
{
	static struct test_job jobs[4][JOBS];
	pthread_t threads[4];
	void *failed = NULL;

	memset(jobs, 0, sizeof(jobs));
	assert_int_equal(hk_pool_create(loop, 4, "test", &pool, NULL), 0);
	for (unsigned i = 0; i < 4; i++) {
		for (unsigned k = 0; k < JOBS; k++) {
			jobs[i][k].job = (struct hk_job){.work = work, .done = done};
		}
		assert_int_equal(pthread_create(&threads[i], NULL, submit_many, jobs[i]), 0);
	}
	run_until_done(4 * JOBS);
	for (unsigned i = 0; i < 4; i++) {
		pthread_join(threads[i], &failed);
		assert_null(failed);
		for (unsigned k = 0; k < JOBS; k++) {
			assert_int_equal(jobs[i][k].result, 11);
		}
	}
}

static void test_two_pools_on_a_loop(void **state)
{
	static struct test_job jobs[2][JOBS];
	struct hk_pool *other = NULL;

	memset(jobs, 0, sizeof(jobs));
	assert_int_equal(hk_pool_create(loop, 2, "one", &pool, NULL), 0);
	assert_int_equal(hk_pool_create(loop, 2, "two", &other, NULL), 0);
	for (unsigned i = 0; i < JOBS; i++) {
		jobs[0][i].job = (struct hk_job){.work = work, .done = done};
		jobs[1][i].job = (struct hk_job){.work = work, .done = done};
		assert_int_equal(hk_pool_submit(pool, &jobs[0][i].job), 0);
		assert_int_equal(hk_pool_submit(other, &jobs[1][i].job), 0);
	}
	/* Takes back its own posts only. */
	hk_pool_destroy(other);
	assert_in_range(done_count, JOBS, 2 * JOBS);
	run_until_done(2 * JOBS);
	assert_string_equal(jobs[0][0].name, "one");
	assert_string_equal(jobs[1][0].name, "two");
}

#ifdef HK_WITH_FAULT

static void test_no_memory(void **state)
{
	struct hk_err err = HK_ERR_INIT;

	hk_fault_arm(HK_FAULT_ALLOC, 1);
	assert_int_equal(hk_pool_create(loop, 1, "x", &pool, &err), -ENOMEM);
	assert_int_equal(err.code, ENOMEM);
	assert_null(pool);
}

static void test_no_thread_can_start(void **state)
{
	struct test_job t = {.job = {.work = work, .done = done}};

	assert_int_equal(hk_pool_create(loop, 2, "test", &pool, NULL), 0);
	hk_fault_arm(HK_FAULT_SYSCALL, 1);
	assert_int_equal(hk_pool_submit(pool, &t.job), -EAGAIN);
	/* It was not kept: nothing runs it later. */
	hk_pool_destroy(pool);
	assert_int_equal(t.result, 0);
	assert_int_equal(done_count, 0);
	assert_int_equal(hk_pool_create(loop, 2, "test", &pool, NULL), 0);
	assert_int_equal(hk_pool_submit(pool, &t.job), 0);
	run_until_done(1);
}

static void test_no_second_thread_can_start(void **state)
{
	struct test_job t[2] = {{.job = {.work = wait_at_gate, .done = done}},
		{.job = {.work = work, .done = done}}};
	unsigned before = thread_count();

	assert_int_equal(hk_pool_create(loop, 2, "test", &pool, NULL), 0);
	assert_int_equal(hk_pool_submit(pool, &t[0].job), 0);
	hk_fault_arm(HK_FAULT_SYSCALL, 1);
	assert_int_equal(hk_pool_submit(pool, &t[1].job), 0); /* waits for the first */
	assert_true(hk_fault_fired());
	assert_int_equal(thread_count(), before + 1);
	sem_post(&gate);
	run_until_done(2);
	assert_true(pthread_equal(t[0].worked_by, t[1].worked_by));
}

#endif

#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_a_job),
		TEST(test_wrong_numbers_of_threads),
		TEST(test_threads_start_as_needed),
		TEST(test_one_thread_keeps_order),
		TEST(test_destroy_runs_what_is_queued),
		TEST(test_submit_while_destroyed),
		TEST(test_submit_from_done),
		TEST(test_done_frees_the_job),
		TEST(test_done_destroys_the_pool),
		TEST(test_stops_in_between),
		TEST(test_submit_from_threads),
		TEST(test_two_pools_on_a_loop),
#ifdef HK_WITH_FAULT
		TEST(test_no_memory),
		TEST(test_no_thread_can_start),
		TEST(test_no_second_thread_can_start),
#endif
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
