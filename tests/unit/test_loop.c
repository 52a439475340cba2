/* SPDX-License-Identifier: ISC */
/*
 * The event loop: what is dispatched and what not, and that a handler may remove and free anything.
 * Owners are heap blocks where the point is that nobody touches them afterwards: ASan sees it.
 */
#include <dirent.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/fault.h"
#include "base/loop.h"
#include "base/util.h"

static struct hk_loop *loop;
static char trace[256]; /* what ran, in order */

static void note(char c)
{
	size_t len = strlen(trace);

	assert_true(len + 1 < sizeof(trace));
	trace[len] = c;
}

static int set_up(void **state)
{
	memset(trace, 0, sizeof(trace));
	return hk_loop_create(&loop, NULL);
}

static int tear_down(void **state)
{
	hk_fault_arm(0, 0);
	hk_loop_destroy(loop);
	return 0;
}

static void run_once(void)
{
	assert_int_equal(hk_loop_run_once(loop, 0), 0);
}

/* Sources */

/* A pipe whose read end is watched; @action is what its handler does. */
struct pipe_source {
	struct hk_source source;
	int write_fd;
	char name;
	void (*action)(struct pipe_source *self);
	struct pipe_source *other;
};

static void pipe_ready(struct hk_source *source, uint32_t events)
{
	struct pipe_source *p = hk_container_of(source, struct pipe_source, source);

	assert_true((events & (EPOLLIN | EPOLLHUP)) != 0);
	note(p->name);
	if (p->action != NULL) {
		p->action(p);
	}
}

/* Ready to be read from the start. */
static struct pipe_source *new_pipe(
	char name, void (*action)(struct pipe_source *self), uint32_t flags)
{
	struct pipe_source *p = calloc(1, sizeof(*p));
	int fds[2];

	assert_non_null(p);
	assert_int_equal(pipe2(fds, O_CLOEXEC | O_NONBLOCK), 0);
	p->source =
		(struct hk_source){.fd = fds[0], .events = EPOLLIN | flags, .ready = pipe_ready};
	p->write_fd = fds[1];
	p->name = name;
	p->action = action;
	assert_int_equal(write(fds[1], "x", 1), 1);
	assert_int_equal(hk_source_add(loop, &p->source, NULL), 0);
	return p;
}

static void free_pipe(struct pipe_source *p)
{
	hk_source_remove(&p->source);
	close(p->source.fd);
	close(p->write_fd);
	free(p);
}

static void drain(struct pipe_source *p)
{
	char c;

	assert_int_equal(read(p->source.fd, &c, 1), 1);
}

static void test_sources(void **state)
{
	struct pipe_source *a = new_pipe('a', NULL, 0);

	run_once();
	run_once(); /* level-triggered: still there */
	assert_string_equal(trace, "aa");
	drain(a);
	run_once();
	assert_string_equal(trace, "aa");
	assert_int_equal(write(a->write_fd, "x", 1), 1);
	assert_int_equal(hk_source_set_events(&a->source, 0), 0);
	run_once();
	assert_string_equal(trace, "aa");
	assert_int_equal(hk_source_set_events(&a->source, EPOLLIN), 0);
	run_once();
	assert_string_equal(trace, "aaa");
	hk_source_remove(&a->source);
	hk_source_remove(&a->source);
	run_once();
	assert_string_equal(trace, "aaa");
	assert_int_equal(hk_source_set_events(&a->source, EPOLLIN | EPOLLET), 0); /* for later */
	assert_int_equal(hk_source_add(loop, &a->source, NULL), 0);
	run_once();
	run_once(); /* edge-triggered: told once */
	assert_string_equal(trace, "aaaa");
	free_pipe(a);
}

static void test_source_errors(void **state)
{
	struct hk_err err = HK_ERR_INIT;
	struct hk_source s = {.fd = -1, .events = EPOLLIN, .ready = pipe_ready};

	assert_int_equal(hk_source_add(loop, &s, &err), -EBADF);
	assert_null(s.loop);
	assert_int_equal(err.code, EBADF);
	hk_source_remove(&s);
	s.fd = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
	assert_int_equal(hk_source_add(loop, &s, &err), -EPERM); /* epoll takes no files */
	close(s.fd);
}

static void frees_both(struct pipe_source *self)
{
	free_pipe(self->other);
	free_pipe(self);
}

static void frees_other(struct pipe_source *self)
{
	if (self->other != NULL) {
		free_pipe(self->other);
		self->other = NULL;
	}
}

/* Both are in one batch; whichever comes first takes the other one away. */
static void test_handler_frees_sources(void **state)
{
	struct pipe_source *a = new_pipe('x', frees_both, 0);
	struct pipe_source *b = new_pipe('x', frees_both, 0);

	a->other = b;
	b->other = a;
	run_once();
	assert_string_equal(trace, "x");

	a = new_pipe('y', NULL, 0);
	b = new_pipe('y', NULL, 0);
	a->other = b;
	b->other = a;
	a->action = frees_other;
	b->action = frees_other;
	/* epoll reports in order of readiness: a first */
	run_once();
	assert_string_equal(trace, "xy");
	free_pipe(a);
}

static void disables_other(struct pipe_source *self)
{
	assert_int_equal(hk_source_set_events(&self->other->source, 0), 0);
}

static void test_handler_disables_a_fetched_source(void **state)
{
	struct pipe_source *a = new_pipe('x', disables_other, 0);
	struct pipe_source *b = new_pipe('x', disables_other, 0);

	a->other = b;
	b->other = a;
	run_once();
	assert_string_equal(trace, "x");
	free_pipe(a);
	free_pipe(b);
}

static struct pipe_source *replacement;

static void replaces_other(struct pipe_source *self)
{
	if (replacement == NULL) {
		free_pipe(self->other);
		/* Likely with the same descriptors, perhaps at the same address. */
		replacement = new_pipe('r', NULL, 0);
	}
}

static void test_event_of_a_removed_source_is_not_its_successors(void **state)
{
	struct pipe_source *a = new_pipe('a', replaces_other, 0);

	replacement = NULL;
	a->other = new_pipe('b', NULL, 0);
	run_once();
	assert_string_equal(trace, "a");
	run_once();
	assert_int_equal(strlen(trace), 3);
	assert_non_null(strchr(trace, 'r'));
	free_pipe(a);
	free_pipe(replacement);
}

/* More than fit into one batch, all there at once. */
static void test_many_sources(void **state)
{
	static struct pipe_source *pipes[200];

	for (size_t i = 0; i < HK_ARRAY_SIZE(pipes); i++) {
		pipes[i] = new_pipe('.', drain, 0);
	}
	for (int i = 0; i < 4; i++) {
		run_once();
	}
	assert_int_equal(strlen(trace), HK_ARRAY_SIZE(pipes));
	for (size_t i = 0; i < HK_ARRAY_SIZE(pipes); i++) {
		free_pipe(pipes[i]);
	}
}

static void runs_nested(struct pipe_source *self)
{
	hk_source_remove(&self->source);
	run_once(); /* dispatches b and frees it, though the outer batch has it too */
	note(')');
}

static void frees_itself(struct pipe_source *self)
{
	free_pipe(self);
}

static void test_nested_run_frees_what_the_outer_one_fetched(void **state)
{
	struct pipe_source *a = new_pipe('(', runs_nested, 0);

	new_pipe('b', frees_itself, 0);
	run_once();
	assert_string_equal(trace, "(b)");
	free_pipe(a);
}

/* Stopping */

static void stops(struct pipe_source *self)
{
	hk_loop_stop(loop);
}

static void test_stop_before_run(void **state)
{
	struct pipe_source *a = new_pipe('a', stops, 0);

	hk_loop_stop(loop);
	hk_loop_stop(loop); /* twice is once */
	assert_int_equal(hk_loop_run(loop), 0);
	assert_string_equal(trace, "");
	assert_int_equal(hk_loop_run(loop), 0);
	assert_string_equal(trace, "a");
	free_pipe(a);
}

static void test_stop_is_kept_by_run_once(void **state)
{
	struct pipe_source *a = new_pipe('a', stops, 0);

	run_once();
	run_once();
	assert_string_equal(trace, "aa");
	assert_int_equal(hk_loop_run(loop), 0);
	assert_string_equal(trace, "aa");
	free_pipe(a);
}

static void test_edge_triggered_is_not_lost_by_stop(void **state)
{
	struct pipe_source *pipes[3];

	for (int i = 0; i < 3; i++) {
		pipes[i] = new_pipe((char)('a' + i), stops, EPOLLET);
	}
	for (size_t i = 1; i <= 3; i++) {
		assert_int_equal(hk_loop_run(loop), 0);
		assert_int_equal(strlen(trace), i);
	}
	assert_non_null(strchr(trace, 'a'));
	assert_non_null(strchr(trace, 'b'));
	assert_non_null(strchr(trace, 'c'));
	run_once();
	assert_int_equal(strlen(trace), 3);
	for (int i = 0; i < 3; i++) {
		free_pipe(pipes[i]);
	}
}

static void *stop_soon(void *arg)
{
	usleep(2000);
	hk_loop_stop(loop);
	return NULL;
}

static void test_stop_from_a_thread(void **state)
{
	pthread_t thread;

	for (int i = 0; i < 10; i++) {
		assert_int_equal(pthread_create(&thread, NULL, stop_soon, NULL), 0);
		assert_int_equal(hk_loop_run(loop), 0);
		pthread_join(thread, NULL);
	}
}

/* Life */

static void test_no_loop(void **state)
{
	hk_loop_destroy(NULL);
}

#ifdef HK_WITH_FAULT

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

static void test_every_operation_of_create_fails(void **state)
{
	unsigned before = open_fds();

	for (uint64_t n = 1;; n++) {
		struct hk_loop *other = NULL;
		struct hk_err err = HK_ERR_INIT;
		int r;

		hk_fault_arm(HK_FAULT_ALLOC | HK_FAULT_SYSCALL, n);
		r = hk_loop_create(&other, &err);
		if (!hk_fault_fired()) {
			assert_int_equal(r, 0);
			assert_int_equal(n, 7); /* memory, three descriptors, two of them watched */
			hk_loop_destroy(other);
			break;
		}
		assert_int_equal(r, n == 1 ? -ENOMEM : -EIO);
		assert_int_equal(err.code, -r);
		assert_null(other);
		assert_int_equal(open_fds(), before);
	}
	assert_int_equal(open_fds(), before);
}

static void test_source_control_fails(void **state)
{
	struct pipe_source *a = new_pipe('a', NULL, 0);
	struct hk_err err = HK_ERR_INIT;

	hk_fault_arm(HK_FAULT_SYSCALL, 1);
	assert_int_equal(hk_source_set_events(&a->source, 0), -EIO);
	assert_int_equal(a->source.events, EPOLLIN);
	hk_source_remove(&a->source);
	hk_fault_arm(HK_FAULT_SYSCALL, 1);
	assert_int_equal(hk_source_add(loop, &a->source, &err), -EIO);
	assert_null(a->source.loop);
	free_pipe(a);
}

#endif

#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_sources),
		TEST(test_source_errors),
		TEST(test_handler_frees_sources),
		TEST(test_handler_disables_a_fetched_source),
		TEST(test_event_of_a_removed_source_is_not_its_successors),
		TEST(test_many_sources),
		TEST(test_nested_run_frees_what_the_outer_one_fetched),
		TEST(test_stop_before_run),
		TEST(test_stop_is_kept_by_run_once),
		TEST(test_edge_triggered_is_not_lost_by_stop),
		TEST(test_stop_from_a_thread),
		TEST(test_no_loop),
#ifdef HK_WITH_FAULT
		TEST(test_every_operation_of_create_fails),
		TEST(test_source_control_fails),
#endif
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
