/* SPDX-License-Identifier: ISC */
/* The watchdog, in children that hang or do not. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/loop.h"
#include "base/sys.h"
#include "base/util.h"
#include "cli/watchdog.h"

enum { TIMES = 3, HUNG = 99 };

/* Each time in turn is set; then the child hangs for @hang_ms, or to the end, which is status 0. */
static const struct row {
	uint64_t ns[TIMES];
	unsigned hang_ms;
	int status;
	const char *says;
} rows[] = {
	{{UINT64_MAX, 50 * HK_NS_PER_MS}, 5000, HUNG, "hako run: the box did not end in time"},
	{{0}, 5000, HUNG, "its threads were abandoned"},
	{{UINT64_MAX}, 100, 0, ""},
	{{20 * HK_NS_PER_MS, UINT64_MAX, UINT64_MAX}, 100, 0, ""},
	{{50 * HK_NS_PER_MS}, 0, 0, ""},
};

_Noreturn static void be_child(const struct row *row, int stderr_fd)
{
	struct hk_terminal terminal = {0};
	struct hk_watchdog dog;

	dup2(stderr_fd, STDERR_FILENO);
	hk_watchdog_init(&dog, &terminal);
	for (size_t i = 0; i < TIMES && (i == 0 || row->ns[i] != 0); i++) {
		hk_watchdog_set(&dog, row->ns[i], HUNG);
	}
	if (hk_watchdog_start(&dog, NULL) < 0) {
		_exit(1);
	}
	usleep(row->hang_ms * 1000);
	hk_watchdog_finish(&dog);
	_exit(0);
}

static void test_rows(void **state)
{
	for (size_t i = 0; i < HK_ARRAY_SIZE(rows); i++) {
		char text[256] = "";
		int fds[2];
		int status;
		pid_t child;

		assert_int_equal(pipe(fds), 0);
		child = fork();
		if (child == 0) {
			be_child(&rows[i], fds[1]);
		}
		assert_true(child > 0);
		close(fds[1]);
		assert_true(hk_read_full(fds[0], text, sizeof(text) - 1) >= 0);
		close(fds[0]);
		assert_int_equal(waitpid(child, &status, 0), child);
		assert_true(WIFEXITED(status));
		assert_int_equal(WEXITSTATUS(status), rows[i].status);
		assert_non_null(strstr(text, rows[i].says));
		assert_int_equal(text[0] == '\0', rows[i].status == 0);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(test_rows)};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
