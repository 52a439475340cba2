/* SPDX-License-Identifier: ISC */
/*
 * The policy of Gentoo's sandbox: decisions, names, configuration files and records, from tables.
 */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/alloc.h"
#include "base/util.h"
#include "fuse/audit.h"
#include "fuse/server.h"
#include "trace/gentoo.h"

/* /link is a symlink to /real; all else is what it is called, but that /gone is not there. */
static char *real_path(struct hk_gentoo_env *env, const char *path)
{
	if (strcmp(path, "/gone") == 0) {
		return NULL;
	}
	return hk_strdup(strcmp(path, "/link") == 0 ? "/real" : path);
}

static struct hk_gentoo_env env = {.real = real_path};

static void test_decisions(void **state)
{
	static const char *const values[HK_GENTOO_VARS] = {
		[HK_GENTOO_DENY] = "/secret:/work/secret",
		[HK_GENTOO_READ] = "/",
		[HK_GENTOO_WRITE] = "::/work:/dir/:/link:/gone:/var/log/sandbox/x:",
		[HK_GENTOO_PREDICT] = "/home:/work",
		[HK_GENTOO_ON] = "1",
	};
	static const struct {
		unsigned op;
		uint32_t flags;
		const char *path;
		enum hk_gentoo_verdict verdict;
	} rows[] = {
		{HK_EVENT_CREATE, O_WRONLY, "/work/a", HK_GENTOO_ALLOWED},
		{HK_EVENT_CREATE, O_WRONLY, "/work", HK_GENTOO_ALLOWED},
		{HK_EVENT_CREATE, O_WRONLY, "/workshop", HK_GENTOO_DENIED},
		{HK_EVENT_CREATE, O_WRONLY, "/dir/a", HK_GENTOO_ALLOWED},
		{HK_EVENT_CREATE, O_WRONLY, "/dir", HK_GENTOO_DENIED},
		{HK_EVENT_CREATE, O_WRONLY, "/real/a", HK_GENTOO_ALLOWED},
		{HK_EVENT_CREATE, O_WRONLY, "/link/a", HK_GENTOO_ALLOWED},
		{HK_EVENT_CREATE, O_WRONLY, "/gone/a", HK_GENTOO_ALLOWED},
		{HK_EVENT_CREATE, O_WRONLY, "/", HK_GENTOO_DENIED},
		{HK_EVENT_CREATE, O_RDONLY, "/else", HK_GENTOO_DENIED},
		{HK_EVENT_CREATE, O_WRONLY, "/home/a", HK_GENTOO_PREDICTED},
		{HK_EVENT_CREATE, O_WRONLY, "/var/log/sandbox/x", HK_GENTOO_DENIED},
		{HK_EVENT_OPEN, O_RDONLY, "/var/log/sandbox/x", HK_GENTOO_ALLOWED},
		{HK_EVENT_OPEN, O_RDONLY, "/else", HK_GENTOO_ALLOWED},
		{HK_EVENT_OPEN, O_RDWR, "/else", HK_GENTOO_DENIED},
		{HK_EVENT_OPEN, O_RDONLY | O_TRUNC, "/else", HK_GENTOO_DENIED},
		{HK_EVENT_OPEN, O_RDONLY, "/secret/a", HK_GENTOO_DENIED},
		{HK_EVENT_OPEN, O_WRONLY, "/work/secret", HK_GENTOO_DENIED},
		{HK_EVENT_EXEC, 0, "/else", HK_GENTOO_ALLOWED},
		{HK_EVENT_EXEC, 0, "/secret", HK_GENTOO_DENIED},
		{HK_EVENT_LIST, 0, "/secret", HK_GENTOO_DENIED},
		{HK_EVENT_LIST, 0, "/else", HK_GENTOO_ALLOWED},
		{HK_EVENT_LINK, 0, "/else", HK_GENTOO_DENIED},
		{HK_EVENT_UNLINK, 0, "/else", HK_GENTOO_DENIED},
		{HK_EVENT_CHMOD, 0600, "/else", HK_GENTOO_DENIED},
		{HK_EVENT_SETXATTR, 0, "/else", HK_GENTOO_DENIED},
		/* Only the end of it is known. */
		{HK_EVENT_UNLINK, 0, "\xe2\x80\xa6/work/a", HK_GENTOO_DENIED},
		{HK_EVENT_OPEN, O_RDONLY, "\xe2\x80\xa6/work/a", HK_GENTOO_DENIED},
		/* Never looked at. */
		{HK_EVENT_LOOKUP, 0, "/secret", HK_GENTOO_ALLOWED},
		{HK_EVENT_READLINK, 0, "/secret", HK_GENTOO_ALLOWED},
		{HK_EVENT_CLOSE, O_WRONLY, "/secret", HK_GENTOO_ALLOWED},
		{HK_EVENT_COUNT + 5, 0, "/secret", HK_GENTOO_ALLOWED},
	};
	struct hk_gentoo_policy policy = {0};

	for (unsigned var = 0; var < HK_GENTOO_VARS; var++) {
		assert_int_equal(
			hk_gentoo_set(&policy, (enum hk_gentoo_var)var, values[var], &env), 0);
	}
	for (size_t i = 0; i < HK_ARRAY_SIZE(rows); i++) {
		struct hk_fuse_question question = {
			.op = rows[i].op, .flags = rows[i].flags, .path = rows[i].path};

		if (hk_gentoo_judge(&policy, &question) != rows[i].verdict) {
			fail_msg("row %zu: %u on %s", i, rows[i].op, rows[i].path);
		}
	}
	hk_gentoo_finish(&policy);
}

/* Off, everything may be done; with nothing set and on, nothing. */
static void test_switch(void **state)
{
	static const struct {
		const char *value;
		bool is_on;
	} rows[] = {{"1", true}, {"yes", true}, {"TRUE", true}, {"on", true}, {"0", false},
		{"", false}, {"off", false}, {"10", false}, {NULL, false}};
	struct hk_fuse_question question = {.op = HK_EVENT_OPEN, .path = "/a"};
	struct hk_gentoo_policy policy = {0};

	for (size_t i = 0; i < HK_ARRAY_SIZE(rows); i++) {
		assert_int_equal(hk_gentoo_set(&policy, HK_GENTOO_ON, rows[i].value, &env), 0);
		assert_int_equal(hk_gentoo_is_on(rows[i].value), rows[i].is_on);
		assert_int_equal(hk_gentoo_judge(&policy, &question),
			rows[i].is_on ? HK_GENTOO_DENIED : HK_GENTOO_ALLOWED);
	}
	hk_gentoo_finish(&policy);
}

/* A variable that changes takes its old paths with it. */
static void test_change(void **state)
{
	struct hk_fuse_question question = {.op = HK_EVENT_MKDIR, .path = "/a/b"};
	struct hk_gentoo_policy policy = {0};

	hk_gentoo_set(&policy, HK_GENTOO_ON, "1", &env);
	hk_gentoo_set(&policy, HK_GENTOO_WRITE, "/a", &env);
	assert_int_equal(hk_gentoo_judge(&policy, &question), HK_GENTOO_ALLOWED);
	hk_gentoo_set(&policy, HK_GENTOO_WRITE, "/b", &env);
	assert_int_equal(hk_gentoo_judge(&policy, &question), HK_GENTOO_DENIED);
	hk_gentoo_set(&policy, HK_GENTOO_WRITE, "/", &env);
	assert_int_equal(hk_gentoo_judge(&policy, &question), HK_GENTOO_ALLOWED);
	hk_gentoo_set(&policy, HK_GENTOO_WRITE, NULL, &env);
	assert_int_equal(hk_gentoo_judge(&policy, &question), HK_GENTOO_DENIED);
	hk_gentoo_finish(&policy);
}

static void test_variables(void **state)
{
	for (unsigned var = 0; var < HK_GENTOO_VARS; var++) {
		const char *name = hk_gentoo_var_name((enum hk_gentoo_var)var);

		assert_int_equal(hk_gentoo_var_find(name, strlen(name)), var);
		assert_int_equal(hk_gentoo_var_find(name, strlen(name) - 1), HK_GENTOO_VARS);
	}
	assert_int_equal(hk_gentoo_var_find("SANDBOX_LOG", 11), HK_GENTOO_VARS);
	assert_int_equal(hk_gentoo_var_find("", 0), HK_GENTOO_VARS);
}

static void test_functions(void **state)
{
	static const struct {
		unsigned op;
		uint32_t flags;
		const char *name;
	} rows[] = {
		{HK_EVENT_OPEN, O_RDONLY, "open_rd"},
		{HK_EVENT_OPEN, O_WRONLY, "open_wr"},
		{HK_EVENT_OPEN, O_RDWR, "open_wr"},
		{HK_EVENT_CREATE, O_WRONLY, "open_wr_creat"},
		{HK_EVENT_CREATE, O_RDONLY, "open_rd_creat"},
		{HK_EVENT_MKNOD, S_IFIFO | 0600, "mkfifo"},
		{HK_EVENT_MKNOD, S_IFREG | 0600, "mknod"},
		{HK_EVENT_RENAME, 0, "rename"},
		{HK_EVENT_LIST, 0, "opendir"},
	};

	for (size_t i = 0; i < HK_ARRAY_SIZE(rows); i++) {
		struct hk_fuse_question question = {.op = rows[i].op, .flags = rows[i].flags};

		assert_string_equal(hk_gentoo_function(&question), rows[i].name);
	}
}

static const char *variable(const char *name)
{
	return strcmp(name, "HOME") == 0 ? "/home/u" : NULL;
}

static void test_config(void **state)
{
	static const struct {
		const char *text;
		bool is_list;
		const char *value; /* NULL: not assigned */
	} rows[] = {
		{"", true, NULL},
		{"# V=\"/a\"\n", true, NULL},
		{"VV=/a\nOTHER=/b\n", true, NULL},
		{"V", true, NULL},
		{"V=", true, ""},
		{"V=/a", true, "/a"},
		{"V=\"/a:/b\"\n  V='/c'\nV=/d # all\n", true, "/a:/b:/c:/d"},
		{"V=\"/a b\"\n", true, "/a b"},
		{"V=\"/never closed", true, "/never closed"},
		{"V=\"${HOME}/x:${NONE}:$HOME\"", true, "/home/u/x::$HOME"},
		{"V=\"${HOME\"", true, "${HOME"},
		{"V=\"$\"", true, "$"},
		{"V=yes\nV=no\n", false, "no"},
	};

	for (size_t i = 0; i < HK_ARRAY_SIZE(rows); i++) {
		struct hk_str out = {0};
		bool is_set = hk_gentoo_config(rows[i].text, "V", rows[i].is_list, variable, &out);

		assert_int_equal(is_set, rows[i].value != NULL);
		assert_string_equal(hk_str_text(&out), rows[i].value == NULL ? "" : rows[i].value);
		hk_str_finish(&out);
	}
}

/* A newline in a name must not make a record of its own. */
static void test_record(void **state)
{
	struct hk_gentoo_event event = {.function = "mkdir",
		.passed = "a\nS: allow",
		.absolute = "/link/a\nS: allow",
		.real = "/real/a\nS: allow",
		.command = "mkdir x "};
	struct hk_str out = {0};

	hk_gentoo_record(&out, &event);
	assert_string_equal(hk_str_text(&out),
		"\nF: mkdir\nS: deny\nP: a\\nS: allow\nA: /link/a\\nS: allow\n"
		"R: /real/a\\nS: allow\nC: mkdir x \n");
	hk_str_finish(&out);
	event = (struct hk_gentoo_event){.function = "open_rd",
		.allowed = true,
		.passed = "/a",
		.absolute = "/a",
		.real = "/a"};
	hk_gentoo_record(&out, &event);
	assert_string_equal(
		hk_str_text(&out), "\nF: open_rd\nS: allow\nP: /a\nA: /a\nR: /a\nC: \n");
	hk_str_finish(&out);
}

static void test_absolute(void **state)
{
	static const struct {
		const char *dir, *path, *expected;
	} rows[] = {
		{"/x", "a", "/x/a"},
		{"/x", "/a", "/a"},
		{"/x/y", "../a", "/x/a"},
		{"/x/y", "../../../../a/./b//c/", "/a/b/c"},
		{"/", "..", "/"},
		{"/x", "", "/x"},
		{"/x", "...", "/x/..."},
		{"/x", "a/..b/.c", "/x/a/..b/.c"},
		{"", "/..", "/"},
	};

	for (size_t i = 0; i < HK_ARRAY_SIZE(rows); i++) {
		char *text = hk_gentoo_absolute(rows[i].dir, rows[i].path);

		assert_string_equal(text, rows[i].expected);
		free(text);
	}
}

/* A thread that waits in a system call with a path: opening a FIFO that nobody writes to. */
static void test_passed(void **state)
{
	char dir[] = "/tmp/hako-test-gentoo-XXXXXX";
	char *passed = NULL;
	char *absolute = NULL;
	char real[64];
	pid_t pid;
	bool known = false;

	assert_non_null(mkdtemp(dir));
	assert_int_equal(chdir(dir), 0);
	assert_int_equal(mkfifo("fifo", 0600), 0);
	assert_int_equal(symlink("fifo", "link"), 0);
	pid = fork();
	if (pid == 0) {
		_exit(open("./link", O_RDONLY) < 0);
	}
	hk_fmt(real, sizeof(real), "%s/fifo", dir);
	for (int i = 0; i < 2000 && !known; i++) {
		known = hk_gentoo_passed(pid, real, &passed, &absolute);
		usleep(1000);
	}
	assert_true(known);
	assert_string_equal(passed, "./link");
	hk_fmt(real, sizeof(real), "%s/link", dir);
	assert_string_equal(absolute, real);
	free(passed);
	free(absolute);
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	assert_false(hk_gentoo_passed(pid, real, &passed, &absolute)); /* gone */
	unlink("fifo");
	unlink("link");
	rmdir(dir);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_decisions),
		cmocka_unit_test(test_switch),
		cmocka_unit_test(test_change),
		cmocka_unit_test(test_variables),
		cmocka_unit_test(test_functions),
		cmocka_unit_test(test_config),
		cmocka_unit_test(test_record),
		cmocka_unit_test(test_absolute),
		cmocka_unit_test(test_passed),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
