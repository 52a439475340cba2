/* SPDX-License-Identifier: ISC */
/*
 * Timers of the loop: order, time, and what their handlers may do to each other.
 * Where a handler frees, the timers are heap blocks: ASan sees who touches them afterwards.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

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
	hk_loop_destroy(loop);
	return 0;
}

static void run_once(void)
{
	assert_int_equal(hk_loop_run_once(loop, 0), 0);
}

struct test_timer {
	struct hk_timer timer;
	char name;
	void (*action)(struct test_timer *self);
	struct test_timer *other;
	uint64_t fired_ns;
};

static void timer_fired(struct hk_timer *timer)
{
	struct test_timer *t = hk_container_of(timer, struct test_timer, timer);

	t->fired_ns = hk_now_ns();
	note(t->name);
	assert_null(timer->loop);
	if (t->action != NULL) {
		t->action(t);
	}
}

static struct test_timer *new_timer(
	char name, void (*action)(struct test_timer *self), uint64_t deadline_ns)
{
	struct test_timer *t = calloc(1, sizeof(*t));

	assert_non_null(t);
	t->timer.fire = timer_fired;
	t->name = name;
	t->action = action;
	hk_timer_arm(loop, &t->timer, deadline_ns);
	return t;
}

static void free_timer(struct test_timer *t)
{
	hk_timer_disarm(&t->timer);
	free(t);
}

static void test_timers_fire_in_order(void **state)
{
	/* In the past, some alike: by deadline, then in order of arming. */
	static const char names[] = "dAbBaCcDD";
	static const uint64_t deadlines[] = {40, 0, 20, 0, 10, 0, 30, 40, 40};
	struct test_timer *t[9];

	for (int i = 0; i < 9; i++) {
		t[i] = new_timer(names[i], NULL, deadlines[i]);
	}
	run_once();
	assert_string_equal(trace, "ABCabcdDD");
	run_once();
	assert_int_equal(strlen(trace), 9);
	for (int i = 0; i < 9; i++) {
		free_timer(t[i]);
	}
}

static void test_timer_is_not_early(void **state)
{
	uint64_t start_ns = hk_now_ns();
	struct test_timer *t = new_timer('t', NULL, start_ns + 20 * HK_NS_PER_MS);
	struct test_timer *far = new_timer('f', NULL, UINT64_MAX);
	struct test_timer *hour = new_timer('h', NULL, start_ns + 3600 * HK_NS_PER_SEC);

	while (trace[0] == '\0') {
		assert_int_equal(hk_loop_run_once(loop, 10000), 0);
	}
	assert_true(t->fired_ns >= start_ns + 20 * HK_NS_PER_MS);
	assert_true(t->fired_ns < start_ns + 9 * HK_NS_PER_SEC); /* not by the time-out */
	assert_string_equal(trace, "t");
	free_timer(t);
	free_timer(far);
	free_timer(hour);
	free_timer(new_timer('n', NULL, 0));
	run_once();
	assert_string_equal(trace, "t");
}

static void test_nothing_spins_after_a_timer(void **state)
{
	struct test_timer *t = new_timer('t', NULL, 0);
	uint64_t start_ns;

	run_once();
	assert_string_equal(trace, "t");
	start_ns = hk_now_ns();
	assert_int_equal(hk_loop_run_once(loop, 20), 0);
	assert_true(hk_now_ns() >= start_ns + 15 * HK_NS_PER_MS);
	free_timer(t);
}

static void test_arming_again_moves_a_timer(void **state)
{
	struct test_timer *a = new_timer('a', NULL, hk_now_ns() + 3600 * HK_NS_PER_SEC);
	struct test_timer *b = new_timer('b', NULL, 5);

	hk_timer_arm(loop, &a->timer, 3);
	run_once();
	assert_string_equal(trace, "ab");
	/* Later instead of now, and now instead of later, with the kernel's timer already set. */
	hk_timer_arm(loop, &a->timer, hk_now_ns() + HK_NS_PER_MS);
	hk_timer_arm(loop, &b->timer, hk_now_ns() + 3600 * HK_NS_PER_SEC);
	run_once();
	hk_timer_arm(loop, &a->timer, hk_now_ns() + 3600 * HK_NS_PER_SEC);
	usleep(2000);
	run_once();
	assert_string_equal(trace, "ab");
	hk_timer_arm(loop, &b->timer, 0);
	run_once();
	assert_string_equal(trace, "abb");
	free_timer(a);
	free_timer(b);
}

static void rearms(struct test_timer *self)
{
	hk_timer_arm(loop, &self->timer, 0);
}

static void post_run(struct hk_post *post)
{
	note('p');
}

static void test_rearming_in_the_past_starves_nobody(void **state)
{
	struct test_timer *t = new_timer('t', rearms, 0);
	struct hk_post post = {.run = post_run};

	hk_loop_post(loop, &post);
	for (int i = 0; i < 5; i++) {
		run_once(); /* comes back */
	}
	assert_int_equal(strlen(trace), 6);
	assert_non_null(strchr(trace, 'p'));
	free_timer(t);
}

static void frees_timers(struct test_timer *self)
{
	if (self->other != NULL) {
		free_timer(self->other);
	}
	free_timer(self);
}

static void test_timer_frees_itself_and_a_due_one(void **state)
{
	struct test_timer *a = new_timer('a', frees_timers, 1);
	struct test_timer *b = new_timer('b', NULL, 2);

	a->other = b;
	new_timer('c', frees_timers, 3);
	a = new_timer('d', frees_timers, 4);
	a->other = new_timer('e', NULL, 5); /* the last of the list */
	run_once();
	assert_string_equal(trace, "acd");
}

static void rearms_due_other(struct test_timer *self)
{
	hk_timer_arm(loop, &self->other->timer, 9);
}

static void test_timer_rearms_a_due_one(void **state)
{
	struct test_timer *a = new_timer('a', rearms_due_other, 1);

	a->other = new_timer('b', NULL, 2);
	run_once();
	assert_string_equal(trace, "a");
	run_once();
	assert_string_equal(trace, "ab");
	free_timer(a->other);
	free_timer(a);
}

static void timer_stops(struct test_timer *self)
{
	hk_loop_stop(loop);
}

static void timer_runs_nested(struct test_timer *self)
{
	run_once();
	note(')');
}

static void test_stop_and_nesting_among_due_timers(void **state)
{
	struct test_timer *t[5];

	for (int i = 0; i < 3; i++) {
		t[i] = new_timer((char)('a' + i), timer_stops, 7);
	}
	for (int i = 0; i < 3; i++) {
		assert_int_equal(hk_loop_run(loop), 0);
		assert_int_equal(strlen(trace), i + 1);
	}
	assert_string_equal(trace, "abc");
	t[3] = new_timer('(', timer_runs_nested, 8);
	t[4] = new_timer('d', NULL, 9);
	hk_timer_arm(loop, &t[0]->timer, 10);
	run_once(); /* the inner run has nothing: the outer one holds what is due */
	assert_non_null(strstr(trace, "abc("));
	assert_int_equal(strlen(trace), 7);
	for (int i = 0; i < 5; i++) {
		free_timer(t[i]);
	}
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_timers_fire_in_order),
		TEST(test_timer_is_not_early),
		TEST(test_nothing_spins_after_a_timer),
		TEST(test_arming_again_moves_a_timer),
		TEST(test_rearming_in_the_past_starves_nobody),
		TEST(test_timer_frees_itself_and_a_due_one),
		TEST(test_timer_rearms_a_due_one),
		TEST(test_stop_and_nesting_among_due_timers),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
