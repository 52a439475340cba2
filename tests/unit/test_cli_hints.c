/* SPDX-License-Identifier: ISC */
/* Files of the host that a command names, and the box does not have. */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/str.h"
#include "base/util.h"
#include "cli/explain.h"

static char dir[] = "/tmp/hako-hints-XXXXXX";

static int make_file(void **state)
{
	char path[64];
	int fd;

	if (mkdtemp(dir) == NULL) {
		return -1;
	}
	hk_fmt(path, sizeof(path), "%s/file", dir);
	fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0700);
	return fd < 0 ? -1 : close(fd);
}

static int remove_file(void **state)
{
	char path[64];

	hk_fmt(path, sizeof(path), "%s/file", dir);
	unlink(path);
	return rmdir(dir);
}

static void test_words(void **state)
{
	/* @word: %s is the directory. @found: "file" in it. */
	static const struct {
		const char *word;
		bool shared, found;
	} rows[] = {
		{"%s/file", false, true},
		{"file", false, true},
		{"./file", false, true},
		{"%s/file", true, false},
		{"cat %s/file", false, true},
		{"wc <%s/file; true", false, true},
		{"--in=%s/file", false, true},
		{"cat \"%s/file\"", false, true},
		{"cat /none %s/file", false, true},
		{"cat %s/file", true, false},
		{"cat %s/none", false, false},
		{"x%s/file", false, false},
		{"/", false, false},
		{"ls / /usr /etc/passwd", false, false},
		{"", false, false},
	};

	for (size_t i = 0; i < HK_ARRAY_SIZE(rows); i++) {
		char word[128];
		char *argv[] = {(char *)"sh", word, NULL};
		struct hk_share share = {.host = dir, .guest = dir};
		struct hk_box_config config = {.argv = argv,
			.caller_dir = dir,
			.shares = &share,
			.share_count = rows[i].shared};
		struct hk_hints hints = {0};
		const char *percent = strstr(rows[i].word, "%s");

		if (percent == NULL) {
			hk_fmt(word, sizeof(word), "%s", rows[i].word);
		} else {
			hk_fmt(word, sizeof(word), "%.*s%s%s", (int)(percent - rows[i].word),
				rows[i].word, dir, percent + 2);
		}
		hk_hints_find(&hints, &config);
		if ((hints.word != NULL) != rows[i].found) {
			fail_msg("'%s': %s", word, hints.word == NULL ? "nothing" : hints.word);
		}
		if (hints.word != NULL) {
			assert_memory_equal(hints.word, dir, strlen(dir));
			assert_string_equal(hints.word + strlen(dir), "/file");
		}
		hk_hints_finish(&hints);
	}
}

/* The system's files that are not for everybody. */
static void test_private(void **state)
{
	char *argv[] = {(char *)"cat", (char *)"/etc/shadow", NULL};
	struct hk_box_config config = {.argv = argv, .caller_dir = "/"};
	struct hk_share share = {.host = "/etc/shadow", .guest = "/x"};
	struct hk_hints hints = {0};
	struct stat st;

	if (access(argv[1], R_OK) < 0 || stat(argv[1], &st) < 0 || (st.st_mode & S_IROTH) != 0) {
		skip(); /* not root */
	}
	hk_hints_find(&hints, &config);
	assert_non_null(hints.word);
	assert_string_equal(hints.word, "/etc/shadow");
	hk_hints_finish(&hints);
	config.shares = &share;
	config.share_count = 1;
	hk_hints_find(&hints, &config);
	assert_null(hints.word);
	hk_hints_finish(&hints);
}

static void test_program(void **state)
{
	char *argv[] = {(char *)"./file", NULL};
	struct hk_box_config config = {.argv = argv, .caller_dir = dir};
	struct hk_hints hints = {0};

	hk_hints_find(&hints, &config);
	assert_non_null(hints.program);
	assert_null(hints.word);
	hk_hints_finish(&hints);
	argv[0] = (char *)"sh";
	hk_hints_find(&hints, &config);
	assert_null(hints.program);
	hk_hints_finish(&hints);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_words),
		cmocka_unit_test(test_private),
		cmocka_unit_test(test_program),
	};

	return cmocka_run_group_tests(tests, make_file, remove_file);
}
