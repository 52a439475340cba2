/* SPDX-License-Identifier: ISC */
/*
 * Where layers are kept, and paths of the command line as a layer has them: cli/layers.h,
 * cli/layer.h.
 */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/str.h"
#include "base/util.h"
#include "cli/layer.h"
#include "cli/layers.h"

static char top[64];

static int set_up(void **state)
{
	const char *tmp = getenv("TMPDIR");

	(void)state;
	hk_fmt(top, sizeof(top), "%s/hako-layers-XXXXXX", tmp != NULL ? tmp : "/tmp");
	if (mkdtemp(top) == NULL) {
		return -1;
	}
	return setenv("HOME", top, 1) < 0 || unsetenv("XDG_DATA_HOME") < 0;
}

static int tear_down(void **state)
{
	struct hk_err err = HK_ERR_INIT;

	(void)state;
	return hk_layers_remove(top, &err);
}

/* The directory of layers; free() it. */
static char *layers_dir(void)
{
	struct hk_err err = HK_ERR_INIT;
	char *dir = NULL;

	assert_int_equal(hk_layers_dir(&dir, &err), 0);
	return dir;
}

static void check_dir(const char *data, const char *home, const char *expected)
{
	char path[128];
	char *real;
	char *dir;

	data != NULL ? setenv("XDG_DATA_HOME", data, 1) : unsetenv("XDG_DATA_HOME");
	setenv("HOME", home, 1);
	hk_fmt(path, sizeof(path), "%s/%s", top, expected);
	dir = layers_dir();
	real = realpath(path, NULL);
	assert_non_null(real);
	assert_string_equal(dir, real);
	free(real);
	free(dir);
}

static void test_place(void **state)
{
	struct hk_err err = HK_ERR_INIT;
	char data[80];
	char *dir = NULL;
	struct stat st;

	(void)state;
	hk_fmt(data, sizeof(data), "%s/data", top);
	check_dir(data, "/nowhere", "data/hako/layers");
	assert_int_equal(stat(data, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0700);
	/* A relative one does not count. */
	check_dir("data", top, ".local/share/hako/layers");
	check_dir(NULL, top, ".local/share/hako/layers");

	unsetenv("HOME");
	assert_int_equal(hk_layers_dir(&dir, &err), -ENOENT);
	assert_non_null(strstr(hk_err_text(&err), "XDG_DATA_HOME"));
	assert_null(dir);
	setenv("HOME", "/dev/null", 1);
	err = (struct hk_err)HK_ERR_INIT;
	assert_true(hk_layers_dir(&dir, &err) < 0);
	assert_null(dir);
	setenv("HOME", top, 1);
}

static void test_names(void **state)
{
	static const char *const bad[] = {"", ".", "..", ".hidden", "a/b", "/", "tmp.x"};
	char long_name[300];
	char *path = NULL;

	(void)state;
	memset(long_name, 'x', sizeof(long_name));
	long_name[sizeof(long_name) - 1] = '\0';
	for (unsigned i = 0; i <= HK_ARRAY_SIZE(bad); i++) {
		struct hk_err err = HK_ERR_INIT;
		const char *name = i < HK_ARRAY_SIZE(bad) ? bad[i] : long_name;

		assert_int_equal(hk_layers_named("/d", name, &path, &err), -EINVAL);
		assert_non_null(strstr(hk_err_text(&err), "cannot name a layer"));
		assert_null(path);
	}
	assert_int_equal(hk_layers_named("/d", "a b", &path, NULL), 0);
	assert_string_equal(path, "/d/a b");
	free(path);
}

static void make_old(const char *path)
{
	const struct timespec times[2] = {{.tv_sec = 1}, {.tv_sec = 1}};

	assert_int_equal(utimensat(AT_FDCWD, path, times, 0), 0);
}

static void test_temporary_ones_go_with_their_run(void **state)
{
	struct hk_err err = HK_ERR_INIT;
	char *dir = layers_dir();
	char *named = NULL;
	char *held = NULL;
	char *left = NULL;
	char *next = NULL;
	char sub[200];
	int fd;

	(void)state;
	assert_int_equal(hk_layers_make(dir, "kept", &named, &err), 0);
	assert_int_equal(hk_layers_make(dir, NULL, &held, &err), 0);
	fd = open(held, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_int_equal(flock(fd, LOCK_EX | LOCK_NB), 0);
	assert_int_equal(hk_layers_make(dir, NULL, &left, &err), 0);
	/* What nobody can look into goes, too. */
	hk_fmt(sub, sizeof(sub), "%s/closed", left);
	assert_int_equal(mkdir(sub, 0), 0);

	/* One just made may be a run's that is about to lock it. */
	assert_int_equal(hk_layers_make(dir, NULL, &next, &err), 0);
	assert_int_equal(access(left, F_OK), 0);
	assert_int_equal(hk_layers_remove(next, &err), 0);
	free(next);

	make_old(left);
	make_old(held);
	make_old(named);
	assert_int_equal(hk_layers_make(dir, NULL, &next, &err), 0);
	assert_int_equal(access(left, F_OK), -1);
	assert_int_equal(access(held, F_OK), 0);
	assert_int_equal(access(next, F_OK), 0);
	assert_int_equal(access(named, F_OK), 0);
	close(fd);
	assert_int_equal(hk_layers_remove(held, &err), 0);
	assert_int_equal(hk_layers_remove(next, &err), 0);
	free(next);
	free(left);
	free(held);
	free(named);
	free(dir);
}

static void test_removing(void **state)
{
	struct hk_err err = HK_ERR_INIT;
	char path[160];
	char outside[160];
	char link[200];

	(void)state;
	hk_fmt(path, sizeof(path), "%s/layer", top);
	hk_fmt(outside, sizeof(outside), "%s/outside", top);
	hk_fmt(link, sizeof(link), "%s/layer/link", top);
	assert_int_equal(mkdir(path, 0700), 0);
	assert_int_equal(mkdir(outside, 0700), 0);
	/* Links are not followed. */
	assert_int_equal(symlink(outside, link), 0);
	assert_int_equal(hk_layers_remove(path, &err), 0);
	assert_int_equal(access(outside, F_OK), 0);
	assert_int_equal(hk_layers_remove(path, &err), -ENOENT);
	assert_non_null(strstr(hk_err_text(&err), path));
}

/* Programs make trees that no path and no stack is long enough for. */
static void test_removing_what_is_deep(void **state)
{
	static const char name[] = "a-directory-with-a-name-of-some-length";
	struct hk_err err = HK_ERR_INIT;
	char path[160];
	int fd;

	(void)state;
	hk_fmt(path, sizeof(path), "%s/deep", top);
	assert_int_equal(mkdir(path, 0700), 0);
	fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	for (unsigned i = 0; i < 3000; i++) {
		int next;

		assert_int_equal(mkdirat(fd, name, 0700), 0);
		assert_int_equal(mkdirat(fd, "beside", 0700), 0);
		next = openat(fd, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		assert_true(next >= 0);
		/* Every tenth is locked. */
		assert_int_equal(fchmod(fd, i % 10 == 5 ? 0 : 0700), 0);
		close(fd);
		fd = next;
	}
	close(fd);
	assert_int_equal(hk_layers_remove(path, &err), 0);
	assert_int_equal(access(path, F_OK), -1);
}

static void test_paths(void **state)
{
	static const struct {
		const char *word, *lower, *expected;
	} cases[] = {
		{"/usr/bin/x", "/", "usr/bin/x"},
		{"usr//bin/./x/", "/", "usr/bin/x"},
		{"/", "/", ""},
		{".", "/home", ""},
		{"/home/u", "/home", "u"},
		{"/home", "/home", ""},
		{"...", "/", "..."},
		{"..a/b..", "/", "..a/b.."},
		{"/homely", "/home", NULL},
		{"/etc", "/home", NULL},
		{"..", "/", NULL},
		{"a/../b", "/", NULL},
		{"/home/..", "/home", NULL},
	};

	(void)state;
	for (unsigned i = 0; i < HK_ARRAY_SIZE(cases); i++) {
		struct hk_err err = HK_ERR_INIT;
		char *words[] = {(char *)"first", (char *)(uintptr_t)cases[i].word, NULL};
		char **paths = NULL;
		int r = hk_cli_layer_paths(words, cases[i].lower, &paths, &err);

		if (cases[i].expected == NULL) {
			assert_int_equal(r, -EINVAL);
			continue;
		}
		assert_int_equal(r, 0);
		assert_string_equal(paths[0], "first");
		assert_string_equal(paths[1], cases[i].expected);
		assert_null(paths[2]);
		hk_cli_free_paths(paths);
	}
}

static void test_path_is_among(void **state)
{
	char *some[] = {(char *)"a/b", (char *)"c", NULL};
	char *all[] = {(char *)"", NULL};

	(void)state;
	assert_true(hk_cli_path_is_among(NULL, "x"));
	assert_true(hk_cli_path_is_among(all, "x"));
	assert_true(hk_cli_path_is_among(some, "a/b"));
	assert_true(hk_cli_path_is_among(some, "a/b/c"));
	assert_true(hk_cli_path_is_among(some, "c"));
	assert_false(hk_cli_path_is_among(some, "a"));
	assert_false(hk_cli_path_is_among(some, "a/bc"));
	assert_false(hk_cli_path_is_among(some, "cc"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_place),
		cmocka_unit_test(test_names),
		cmocka_unit_test(test_temporary_ones_go_with_their_run),
		cmocka_unit_test(test_removing),
		cmocka_unit_test(test_removing_what_is_deep),
		cmocka_unit_test(test_paths),
		cmocka_unit_test(test_path_is_among),
	};

	return cmocka_run_group_tests(tests, set_up, tear_down);
}
