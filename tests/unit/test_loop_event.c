/* SPDX-License-Identifier: ISC */
/* What comes to a loop from elsewhere: events and posts of other threads, signals. */
#include <dirent.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/fault.h"
#include "base/loop.h"
#include "base/util.h"

static struct hk_loop *loop;

static int set_up(void **state)
{
	return hk_loop_create(&loop, NULL);
}

static int tear_down(void **state)
{
	hk_fault_arm(0, 0);
	hk_loop_destroy(loop);
	return 0;
}

static unsigned open_fds(void)
{
	DIR *dir = opendir("/proc/self/fd");
	unsigned count = 0;

	assert_non_null(dir);
	while (readdir(dir) != NULL) {
		count++;
	}
	closedir(dir);
	return count;
}

static void run_once(void)
{
	assert_int_equal(hk_loop_run_once(loop, 0), 0);
}

/* Events */

struct test_event {
	struct hk_event event;
	unsigned raised;
	bool removes;
};

static void event_raised(struct hk_event *event)
{
	struct test_event *e = hk_container_of(event, struct test_event, event);

	e->raised++;
	if (e->removes) {
		hk_event_remove(event);
	}
}

static void test_events(void **state)
{
	struct test_event e = {.event.raised = event_raised};
	unsigned before = open_fds();

	hk_event_remove(&e.event);
	assert_int_equal(hk_event_add(loop, &e.event, NULL), 0);
	run_once();
	assert_int_equal(e.raised, 0);
	for (int i = 0; i < 1000; i++) {
		hk_event_signal(&e.event);
	}
	run_once();
	run_once();
	assert_int_equal(e.raised, 1);
	hk_event_signal(&e.event);
	hk_event_remove(&e.event);
	run_once();
	assert_int_equal(e.raised, 1);
	assert_int_equal(hk_event_add(loop, &e.event, NULL), 0); /* again */
	e.removes = true;
	hk_event_signal(&e.event);
	run_once();
	assert_int_equal(e.raised, 2);
	assert_int_equal(e.event.source.fd, -1);
	assert_int_equal(open_fds(), before);
}

/* Its descriptor says 0, which is somebody else's. */
static void test_event_that_was_not_added(void **state)
{
	struct test_event e = {.event.raised = event_raised};
	int saved = dup(0);
	int fds[2];
	char c;

	assert_int_equal(pipe(fds), 0);
	assert_int_equal(dup2(fds[1], 0), 0);
	close(fds[1]);
	hk_event_signal(&e.event);
	hk_event_remove(&e.event);
	assert_int_equal(close(0), 0);
	assert_int_equal(read(fds[0], &c, 1), 0);
	close(fds[0]);
	if (saved >= 0) {
		dup2(saved, 0);
		close(saved);
	}
}

static void *signal_event(void *arg)
{
	for (int i = 0; i < 1000; i++) {
		hk_event_signal(arg);
	}
	return NULL;
}

static void test_events_from_threads(void **state)
{
	struct test_event e = {.event.raised = event_raised};
	pthread_t threads[4];

	assert_int_equal(hk_event_add(loop, &e.event, NULL), 0);
	for (int i = 0; i < 4; i++) {
		assert_int_equal(pthread_create(&threads[i], NULL, signal_event, &e.event), 0);
	}
	assert_int_equal(hk_loop_run_once(loop, 10000), 0);
	assert_int_equal(e.raised, 1);
	for (int i = 0; i < 4; i++) {
		pthread_join(threads[i], NULL);
	}
	run_once();
	run_once();
	assert_in_range(e.raised, 1, 3);
	hk_event_remove(&e.event);
}

/* Signals */

struct test_signal {
	struct hk_signal signal;
	unsigned caught;
	pid_t from;
	bool removes;
};

static void signal_caught(struct hk_signal *signal, const struct signalfd_siginfo *info)
{
	struct test_signal *s = hk_container_of(signal, struct test_signal, signal);

	assert_int_equal(info->ssi_signo, signal->signo);
	s->caught++;
	s->from = (pid_t)info->ssi_pid;
	if (s->removes) {
		hk_signal_remove(signal);
	}
}

static bool is_blocked(int signo)
{
	sigset_t mask;

	pthread_sigmask(SIG_SETMASK, NULL, &mask);
	return sigismember(&mask, signo) == 1;
}

static void test_signals(void **state)
{
	struct test_signal a = {.signal.caught = signal_caught};
	struct test_signal b = {.signal.caught = signal_caught};
	unsigned before = open_fds();

	hk_signal_remove(&a.signal); /* not added */
	assert_int_equal(hk_signal_add(loop, &a.signal, SIGUSR1, NULL), 0);
	assert_int_equal(hk_signal_add(loop, &b.signal, SIGRTMIN, NULL), 0);
	assert_true(is_blocked(SIGUSR1));
	run_once();
	assert_int_equal(a.caught, 0);
	kill(getpid(), SIGUSR1);
	for (int i = 0; i < 3; i++) { /* these are queued */
		assert_int_equal(sigqueue(getpid(), SIGRTMIN, (union sigval){0}), 0);
	}
	for (int i = 0; i < 4; i++) {
		run_once();
	}
	assert_int_equal(a.caught, 1);
	assert_int_equal(a.from, getpid());
	assert_int_equal(b.caught, 3);
	hk_signal_remove(&a.signal);
	hk_signal_remove(&a.signal);
	hk_signal_remove(&b.signal);
	assert_false(is_blocked(SIGUSR1));
	assert_false(is_blocked(SIGRTMIN));
	assert_int_equal(open_fds(), before);
}

static void test_signal_removed_in_its_handler(void **state)
{
	struct test_signal s = {.signal.caught = signal_caught, .removes = true};

	assert_int_equal(hk_signal_add(loop, &s.signal, SIGRTMIN, NULL), 0);
	sigqueue(getpid(), SIGRTMIN, (union sigval){0});
	sigqueue(getpid(), SIGRTMIN, (union sigval){0}); /* would kill us once unblocked */
	run_once();
	run_once();
	assert_int_equal(s.caught, 1);
	assert_false(is_blocked(SIGRTMIN));
}

static void test_pending_signal_is_dropped_by_removal(void **state)
{
	struct test_signal s = {.signal.caught = signal_caught};

	assert_int_equal(hk_signal_add(loop, &s.signal, SIGTERM, NULL), 0);
	kill(getpid(), SIGTERM);
	hk_signal_remove(&s.signal);
	assert_int_equal(s.caught, 0);
}

static void test_signal_that_was_blocked_stays_so(void **state)
{
	struct test_signal s = {.signal.caught = signal_caught};
	sigset_t set;
	sigset_t before;
	sigset_t pending;

	sigemptyset(&set);
	sigaddset(&set, SIGUSR2);
	pthread_sigmask(SIG_BLOCK, &set, &before);
	assert_int_equal(hk_signal_add(loop, &s.signal, SIGUSR2, NULL), 0);
	kill(getpid(), SIGUSR2);
	hk_signal_remove(&s.signal);
	assert_true(is_blocked(SIGUSR2));
	/* And what is pending is somebody else's. */
	sigpending(&pending);
	assert_int_equal(sigismember(&pending, SIGUSR2), 1);
	signal(SIGUSR2, SIG_IGN); /* discards it */
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	signal(SIGUSR2, SIG_DFL);
}

static void test_wrong_signals(void **state)
{
	struct test_signal s = {.signal.caught = signal_caught};
	struct hk_err err = HK_ERR_INIT;

	assert_int_equal(hk_signal_add(loop, &s.signal, 0, &err), -EINVAL);
	assert_int_equal(err.code, EINVAL);
	assert_int_equal(hk_signal_add(loop, &s.signal, 1000, NULL), -EINVAL);
	hk_signal_remove(&s.signal);
}

/* Posts */

enum { POSTERS = 4, POSTS = 5000 };

struct test_post {
	struct hk_post post;
	unsigned poster;
	unsigned number;
};

static unsigned next_number[POSTERS];
static unsigned posts_run;
static unsigned out_of_order;
static pthread_t loop_thread;

static void post_run(struct hk_post *post)
{
	struct test_post *p = hk_container_of(post, struct test_post, post);

	if (p->number != next_number[p->poster]++ || !pthread_equal(pthread_self(), loop_thread)) {
		out_of_order++;
	}
	free(p); /* theirs to free from here on */
	if (++posts_run == POSTERS * POSTS) {
		hk_loop_stop(loop);
	}
}

static void *post_many(void *arg)
{
	for (unsigned i = 0; i < POSTS; i++) {
		struct test_post *p = calloc(1, sizeof(*p));

		if (p == NULL) {
			abort();
		}
		*p = (struct test_post){
			.post.run = post_run, .poster = *(unsigned *)arg, .number = i};
		hk_loop_post(loop, &p->post);
	}
	return NULL;
}

static void test_posts_from_threads(void **state)
{
	pthread_t threads[POSTERS];
	unsigned ids[POSTERS];

	posts_run = 0;
	out_of_order = 0;
	memset(next_number, 0, sizeof(next_number));
	loop_thread = pthread_self();
	for (unsigned i = 0; i < POSTERS; i++) {
		ids[i] = i;
		assert_int_equal(pthread_create(&threads[i], NULL, post_many, &ids[i]), 0);
	}
	assert_int_equal(hk_loop_run(loop), 0);
	for (unsigned i = 0; i < POSTERS; i++) {
		pthread_join(threads[i], NULL);
	}
	assert_int_equal(posts_run, POSTERS * POSTS);
	assert_int_equal(out_of_order, 0);
}

/* A post that leaves its name in @ran and then does something. */
struct named_post {
	struct hk_post post;
	char name;
	void (*action)(struct named_post *self);
	struct named_post *other;
};

static char ran[64];

static void named_run(struct hk_post *post)
{
	struct named_post *p = hk_container_of(post, struct named_post, post);
	size_t len = strlen(ran);

	assert_true(len + 1 < sizeof(ran));
	ran[len] = p->name;
	if (p->action != NULL) {
		p->action(p);
	}
}

static void post_all(struct named_post *posts, size_t count)
{
	memset(ran, 0, sizeof(ran));
	for (size_t i = 0; i < count; i++) {
		posts[i].post.run = named_run;
		posts[i].name = (char)('a' + i);
		hk_loop_post(loop, &posts[i].post);
	}
}

static void posts_itself(struct named_post *self)
{
	hk_loop_post(loop, &self->post);
}

static void test_post_that_posts_waits_for_the_next_round(void **state)
{
	struct named_post p[2] = {{.action = posts_itself}};

	post_all(p, 2);
	run_once();
	assert_string_equal(ran, "ab");
	run_once();
	assert_string_equal(ran, "aba");
	assert_true(hk_loop_cancel_post(loop, &p[0].post));
	run_once();
	assert_string_equal(ran, "aba");
}

static void test_cancelled_posts(void **state)
{
	/* Which of a, b, c are taken back: all combinations, so head, middle, last and all. */
	for (unsigned mask = 0; mask < 8; mask++) {
		struct named_post p[3] = {0};
		struct named_post late = {.post.run = named_run, .name = 'z'};
		char expected[8] = "";

		post_all(p, 3);
		for (unsigned i = 0; i < 3; i++) {
			if ((mask & 1u << i) != 0) {
				assert_true(hk_loop_cancel_post(loop, &p[i].post));
				assert_false(hk_loop_cancel_post(loop, &p[i].post));
			} else {
				expected[strlen(expected)] = (char)('a' + i);
			}
		}
		hk_loop_post(loop, &late.post); /* behind whatever is the last now */
		expected[strlen(expected)] = 'z';
		run_once();
		assert_string_equal(ran, expected);
		assert_false(hk_loop_cancel_post(loop, &late.post));
	}
}

static void cancels_other(struct named_post *self)
{
	assert_true(hk_loop_cancel_post(loop, &self->other->post));
}

static void test_post_cancels_one_of_its_round(void **state)
{
	struct named_post p[4] = {
		{.action = cancels_other, .other = &p[2]},
		{.action = NULL},
		{.action = NULL},
		{.action = posts_itself},
	};

	post_all(p, 4);
	run_once();
	assert_string_equal(ran, "abd");
	assert_true(hk_loop_cancel_post(loop, &p[3].post));
}

static void post_stops(struct named_post *self)
{
	if (self->other != NULL) {
		hk_loop_post(loop, &self->other->post);
	}
	hk_loop_stop(loop);
}

static void test_stop_among_posts(void **state)
{
	struct named_post late = {.post.run = named_run, .name = 'z', .action = post_stops};
	struct named_post p[3] = {{.action = post_stops, .other = &late}, {.action = post_stops},
		{.action = post_stops}};
	struct named_post last = {.post.run = named_run, .name = '!', .action = post_stops};

	post_all(p, 3);
	/* b and c were before z, and stay so. */
	assert_int_equal(hk_loop_run(loop), 0);
	assert_string_equal(ran, "a");
	assert_int_equal(hk_loop_run(loop), 0);
	assert_string_equal(ran, "ab");
	hk_loop_post(loop, &last.post);
	for (int i = 0; i < 3; i++) {
		assert_int_equal(hk_loop_run(loop), 0);
	}
	assert_string_equal(ran, "abcz!");
}

/* All posts go back and none has come meanwhile: the next one is put behind the last. */
static void test_post_after_stop(void **state)
{
	struct named_post p[2] = {{.action = post_stops}, {.action = post_stops}};
	struct named_post late = {.post.run = named_run, .name = 'z', .action = post_stops};

	post_all(p, 2);
	assert_int_equal(hk_loop_run(loop), 0);
	hk_loop_post(loop, &late.post);
	assert_int_equal(hk_loop_run(loop), 0);
	assert_int_equal(hk_loop_run(loop), 0);
	assert_string_equal(ran, "abz");
}

static void runs_loop(struct named_post *self)
{
	run_once();
}

static void test_nested_run_goes_on_with_posts(void **state)
{
	struct named_post p[3] = {{.action = runs_loop}};
	struct named_post late = {.post.run = named_run, .name = 'z'};

	post_all(p, 3);
	run_once();
	hk_loop_post(loop, &late.post);
	run_once();
	assert_string_equal(ran, "abcz");
}

static void test_destroy_drops_posts(void **state)
{
	struct named_post p[2] = {0};

	post_all(p, 2);
	hk_loop_destroy(loop);
	loop = NULL;
	assert_string_equal(ran, "");
}

#ifdef HK_WITH_FAULT

static void test_every_operation_of_adding_fails(void **state)
{
	unsigned before = open_fds();

	for (uint64_t n = 1; n <= 2; n++) {
		struct test_event e = {.event.raised = event_raised};
		struct test_signal s = {.signal.caught = signal_caught};
		struct hk_err err = HK_ERR_INIT;

		hk_fault_arm(HK_FAULT_SYSCALL, n);
		assert_int_equal(hk_event_add(loop, &e.event, &err), -EIO);
		assert_int_equal(err.code, EIO);
		hk_event_signal(&e.event);
		hk_event_remove(&e.event);
		hk_fault_arm(HK_FAULT_SYSCALL, n);
		assert_int_equal(hk_signal_add(loop, &s.signal, SIGUSR1, &err), -EIO);
		assert_false(is_blocked(SIGUSR1));
		hk_signal_remove(&s.signal);
		assert_int_equal(open_fds(), before);
	}
}

#endif

#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_events),
		TEST(test_event_that_was_not_added),
		TEST(test_events_from_threads),
		TEST(test_signals),
		TEST(test_signal_removed_in_its_handler),
		TEST(test_pending_signal_is_dropped_by_removal),
		TEST(test_signal_that_was_blocked_stays_so),
		TEST(test_wrong_signals),
		TEST(test_posts_from_threads),
		TEST(test_post_that_posts_waits_for_the_next_round),
		TEST(test_cancelled_posts),
		TEST(test_post_cancels_one_of_its_round),
		TEST(test_stop_among_posts),
		TEST(test_post_after_stop),
		TEST(test_nested_run_goes_on_with_posts),
		TEST(test_destroy_drops_posts),
#ifdef HK_WITH_FAULT
		TEST(test_every_operation_of_adding_fails),
#endif
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
