/* SPDX-License-Identifier: ISC */
/* Logging: levels, what a line is made of, the default sink, many threads. */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/log.h"
#include "base/str.h"

HK_LOG_CHANNEL("test");

static struct {
	unsigned count;
	enum hk_log_level level;
	char channel[64];
	char text[2048];
} last;

static void remember(enum hk_log_level level, const char *channel, const char *text)
{
	last.count++;
	last.level = level;
	hk_fmt(last.channel, sizeof(last.channel), "%s", channel);
	hk_fmt(last.text, sizeof(last.text), "%s", text);
}

static int set_up(void **state)
{
	memset(&last, 0, sizeof(last));
	hk_log_set_sink(remember);
	return hk_log_configure("warn", NULL);
}

static int tear_down(void **state)
{
	hk_log_set_sink(NULL);
	return 0;
}

/* Runs first: nothing has been configured yet. */
static void test_default_level_is_warn(void **state)
{
	assert_true(hk_log_enabled(HK_LOG_ERROR, "any"));
	assert_true(hk_log_enabled(HK_LOG_WARN, "any"));
	assert_false(hk_log_enabled(HK_LOG_INFO, "any"));
	assert_false(hk_log_enabled(HK_LOG_TRACE, "any"));
}

static void test_macros(void **state)
{
	hk_log_info("not shown");
	assert_int_equal(last.count, 0);
	hk_log_warn("queue %u: %s", 3, "broken");
	assert_int_equal(last.count, 1);
	assert_int_equal(last.level, HK_LOG_WARN);
	assert_string_equal(last.channel, "test");
	assert_string_equal(last.text, "queue 3: broken");
	assert_int_equal(hk_log_configure("trace", NULL), 0);
	hk_log_error("%s", "e");
	hk_log_info("%s", "i");
	hk_log_debug("%s", "d");
	hk_log_trace("%s", "t");
	assert_int_equal(last.count, 5);
	assert_int_equal(last.level, HK_LOG_TRACE);
}

static void test_channels(void **state)
{
	assert_int_equal(hk_log_configure("info,a:debug,b:error", NULL), 0);
	assert_true(hk_log_enabled(HK_LOG_DEBUG, "a"));
	assert_false(hk_log_enabled(HK_LOG_TRACE, "a"));
	assert_true(hk_log_enabled(HK_LOG_ERROR, "b"));
	assert_false(hk_log_enabled(HK_LOG_WARN, "b"));
	assert_true(hk_log_enabled(HK_LOG_INFO, "c"));
	assert_false(hk_log_enabled(HK_LOG_DEBUG, "c"));
	assert_true(hk_log_enabled(HK_LOG_INFO, "ab"));
	assert_false(hk_log_enabled(HK_LOG_DEBUG, "ab"));
	/* Again, the default afterwards: the channels keep theirs. */
	assert_int_equal(hk_log_configure("b:trace,warn", NULL), 0);
	assert_true(hk_log_enabled(HK_LOG_TRACE, "b"));
	assert_true(hk_log_enabled(HK_LOG_DEBUG, "a"));
	assert_false(hk_log_enabled(HK_LOG_INFO, "c"));
	/* The highest level sinks again. */
	assert_int_equal(hk_log_configure("error,a:error,b:error", NULL), 0);
	assert_false(hk_log_enabled(HK_LOG_WARN, "b"));
}

static void test_wrong_specs_change_nothing(void **state)
{
	static const struct {
		const char *spec;
		const char *named;
	} cases[] = {
		{"", "''"},
		{"loud", "'loud'"},
		{"WARN", "'WARN'"},
		{"warning", "'warning'"},
		{"war", "'war'"},
		{"trace,", "''"},
		{",trace", "''"},
		{"trace,x:", "'x:'"},
		{"trace,:trace", "':trace'"},
		{"trace,x:y:trace", "'y:trace'"},
		{"trace, x:debug,q:loud", "' x:debug'"},
		{"trace,q:2", "'2'"},
		{"trace,a_name_of_a_channel_that_is_too_long:trace", "a_name_of_a_channel"},
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct hk_err err = HK_ERR_INIT;
		int r = hk_log_configure(cases[i].spec, &err);

		if (i == 10) {
			/* A blank is part of the channel's name; the last word is wrong. */
			assert_non_null(strstr(hk_err_text(&err), "'loud'"));
		} else if (strstr(hk_err_text(&err), cases[i].named) == NULL) {
			fail_msg("'%s' gave: %s", cases[i].spec, hk_err_text(&err));
		}
		assert_int_equal(r, -EINVAL);
		assert_false(hk_log_enabled(HK_LOG_INFO, "test"));
		assert_int_equal(hk_log_configure(cases[i].spec, NULL), -EINVAL);
	}
}

static void test_too_many_channels(void **state)
{
	struct hk_err err = HK_ERR_INIT;
	struct hk_str spec = {0};

	hk_str_add(&spec, "trace");
	for (int i = 0; i < 33; i++) {
		hk_str_addf(&spec, ",many%d:trace", i);
	}
	assert_int_equal(hk_log_configure(hk_str_text(&spec), &err), -EINVAL);
	assert_non_null(strstr(hk_err_text(&err), "channels"));
	assert_false(hk_log_enabled(HK_LOG_INFO, "many0"));
	hk_str_finish(&spec);
}

static void test_long_lines_are_cut(void **state)
{
	hk_log_warn("%01023d", 0);
	assert_int_equal(strlen(last.text), 1023);
	assert_string_equal(last.text + 1020, "000");
	hk_log_warn("%01024d", 0);
	assert_int_equal(strlen(last.text), 1023);
	assert_string_equal(last.text + 1019, "0...");
	hk_log_warn("%0100000d", 0);
	assert_int_equal(strlen(last.text), 1023);
}

static void test_control_bytes_become_blanks(void **state)
{
	hk_log_warn("%s", "a\nb\r\x1b[2J\x7f\tä");
	assert_string_equal(last.text, "a b  [2J  ä");
	hk_log_warn("%s", "");
	assert_string_equal(last.text, "");
}

static void spoil_errno(enum hk_log_level level, const char *channel, const char *text)
{
	errno = EBADF;
}

static void test_errno_is_kept(void **state)
{
	hk_log_set_sink(spoil_errno);
	errno = EXDEV;
	hk_log_error("x");
	assert_int_equal(errno, EXDEV);
}

static void log_from_sink(enum hk_log_level level, const char *channel, const char *text)
{
	last.count++;
	hk_log_error("from the sink");
}

static void test_a_sink_that_logs(void **state)
{
	hk_log_set_sink(log_from_sink);
	hk_log_error("x");
	assert_int_equal(last.count, 1);
	hk_log_error("y");
	assert_int_equal(last.count, 2);
}

/* A pipe in packet mode tells how many write(2) there were. */
static void test_default_sink_writes_once_per_line(void **state)
{
	char got[2048];
	int saved = dup(STDERR_FILENO);
	int fds[2];
	ssize_t n[3];

	assert_true(saved >= 0);
	assert_int_equal(pipe2(fds, O_DIRECT | O_NONBLOCK | O_CLOEXEC), 0);
	hk_log_set_sink(NULL);
	assert_true(dup2(fds[1], STDERR_FILENO) >= 0);
	hk_log_warn("one");
	hk_log_error("%01024d", 0);
	dup2(saved, STDERR_FILENO);
	close(saved);
	close(fds[1]);

	n[0] = read(fds[0], got, sizeof(got));
	got[n[0] < 0 ? 0 : n[0]] = '\0';
	assert_string_equal(got, "hako: warn test: one\n");
	n[1] = read(fds[0], got, sizeof(got));
	assert_int_equal(n[1], strlen("hako: error test: ") + 1023 + 1);
	assert_memory_equal(got + n[1] - 4, "...\n", 4);
	n[2] = read(fds[0], got, sizeof(got));
	assert_int_equal(n[2], 0);
	close(fds[0]);
}

enum { THREADS = 4, LINES = 250 };

static unsigned next_line[THREADS];

static void check_order(enum hk_log_level level, const char *channel, const char *text)
{
	unsigned thread;
	unsigned line;

	/* Not atomic: it is the mutex around the sink that TSan checks here. */
	if (sscanf(text, "%u %u", &thread, &line) == 2 && thread < THREADS &&
		next_line[thread] == line) {
		next_line[thread]++;
		last.count++;
	}
}

static void *log_lines(void *arg)
{
	for (unsigned i = 0; i < LINES; i++) {
		hk_log_warn("%u %u", *(unsigned *)arg, i);
	}
	return NULL;
}

static void test_threads(void **state)
{
	pthread_t threads[THREADS];
	unsigned ids[THREADS];

	hk_log_set_sink(check_order);
	for (unsigned i = 0; i < THREADS; i++) {
		ids[i] = i;
		assert_int_equal(pthread_create(&threads[i], NULL, log_lines, &ids[i]), 0);
	}
	for (unsigned i = 0; i < THREADS; i++) {
		pthread_join(threads[i], NULL);
	}
	assert_int_equal(last.count, THREADS * LINES);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_default_level_is_warn),
		cmocka_unit_test_setup_teardown(test_macros, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_channels, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_wrong_specs_change_nothing, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_too_many_channels, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_long_lines_are_cut, set_up, tear_down),
		cmocka_unit_test_setup_teardown(
			test_control_bytes_become_blanks, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_errno_is_kept, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_a_sink_that_logs, set_up, tear_down),
		cmocka_unit_test_setup_teardown(
			test_default_sink_writes_once_per_line, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_threads, set_up, tear_down),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
