/* SPDX-License-Identifier: ISC */
/* Options and their values, from tables. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/util.h"
#include "cli/opts.h"
#include "cli/parse.h"

static void test_shares(void **state)
{
	static const struct {
		const char *text;
		int r;
		const char *host, *guest;
		bool writable;
		bool cow;
		bool dax;
		const char *says; /* in the message */
	} rows[] = {
		{"/a", 0, "/a", NULL, false},
		{".", 0, ".", NULL, false},
		{"a/b:ro", 0, "a/b", NULL, false},
		{"a:rw", 0, "a", NULL, true},
		{"/a:/b", 0, "/a", "/b", false},
		{"/a:/b:rw", 0, "/a", "/b", true},
		{"/a:/b:ro", 0, "/a", "/b", false},
		{"ro", 0, "ro", NULL, false},
		{"/a:ro:rw", 0, "/a", "ro", true}, /* the box's check refuses the relative path */
		{"", -EINVAL, .says = "empty"},
		{":/b", -EINVAL, .says = "empty"},
		{":ro", -EINVAL, .says = "empty"},
		{"/a:", -EINVAL, .says = "empty"},
		{"/a::ro", -EINVAL, .says = "empty"},
		{"/a:/b:xx", -EINVAL, .says = "none of ro, rw and cow"},
		{"/a:/b:/c", -EINVAL, .says = "too many"},
		{".:cow", 0, ".", NULL, .cow = true},
		{"/a:/b:cow", 0, "/a", "/b", .cow = true},
		{"/a:dax", 0, "/a", NULL, .dax = true},
		{"/a:/b:dax", 0, "/a", "/b", .dax = true},
		{"/a:ro,dax", 0, "/a", NULL, .dax = true},
		{"/a:/b:rw,dax", 0, "/a", "/b", true, .dax = true},
		{"/a,dax", 0, "/a,dax", NULL},
		{"/a:cow,dax", -EINVAL, .says = "shared memory"},
		{"/a:/b:dax,rw", -EINVAL, .says = "none of ro, rw and cow"},
	};

	for (size_t i = 0; i < HK_ARRAY_SIZE(rows); i++) {
		struct hk_share_spec spec = {0};
		struct hk_err err = HK_ERR_INIT;

		assert_int_equal(hk_share_spec_parse(rows[i].text, &spec, &err), rows[i].r);
		if (rows[i].r < 0) {
			assert_non_null(strstr(hk_err_text(&err), rows[i].says));
			assert_string_not_equal(err.hint, "");
			continue;
		}
		assert_string_equal(spec.host, rows[i].host);
		assert_int_equal(spec.guest == NULL, rows[i].guest == NULL);
		if (spec.guest != NULL) {
			assert_string_equal(spec.guest, rows[i].guest);
		}
		assert_int_equal(spec.writable, rows[i].writable);
		assert_int_equal(spec.cow, rows[i].cow);
		assert_int_equal(spec.dax, rows[i].dax);
		hk_share_spec_finish(&spec);
	}
}

static void test_disks(void **state)
{
	static const struct {
		const char *text;
		const char *path; /* NULL: refused */
		bool read_only;
	} rows[] = {
		{"a.img", "a.img", false},
		{"a.img:ro", "a.img", true},
		{"a.img:rw", "a.img", false},
		{"", NULL},
		{":ro", NULL},
		{"a.img:cow", NULL},
		{"a.img:rw,dax", NULL},
	};

	for (size_t i = 0; i < HK_ARRAY_SIZE(rows); i++) {
		struct hk_err err = HK_ERR_INIT;
		char *path = NULL;
		bool read_only;
		int r = hk_disk_spec_parse(rows[i].text, &path, &read_only, &err);

		assert_int_equal(r, rows[i].path == NULL ? -EINVAL : 0);
		if (r == 0) {
			assert_string_equal(path, rows[i].path);
			assert_int_equal(read_only, rows[i].read_only);
		}
		free(path);
	}
}

static void test_durations(void **state)
{
	static const struct {
		const char *text;
		uint64_t ns; /* 0: refused */
	} rows[] = {
		{"30", 30 * HK_NS_PER_SEC},
		{"30s", 30 * HK_NS_PER_SEC},
		{"1500ms", 1500 * HK_NS_PER_MS},
		{"5m", 300 * HK_NS_PER_SEC},
		{"2h", 7200 * HK_NS_PER_SEC},
		{"", 0},
		{"0", 0},
		{"-1", 0},
		{"s", 0},
		{"5 s", 0},
		{"5d", 0},
		{"1e3", 0},
		{"99999999999999999999", 0},
		{"10000000h", 0},
	};

	for (size_t i = 0; i < HK_ARRAY_SIZE(rows); i++) {
		uint64_t ns = 0;

		assert_int_equal(
			hk_duration_parse(rows[i].text, &ns), rows[i].ns == 0 ? -EINVAL : 0);
		assert_int_equal(ns, rows[i].ns);
	}
}

static void test_paths(void **state)
{
	static const struct {
		const char *dir, *path, *expected;
		bool dotdot;
	} rows[] = {
		{"/w", ".", "/w", false},
		{"/w", "a", "/w/a", false},
		{"/w", "./a//b/", "/w/a/b", false},
		{"/w", "/a/", "/a", false},
		{"/w", "/", "/", false},
		{"/", ".", "/", false},
		{"/w", "../a", "/w/../a", true},
		{"/w", "a..b/..c", "/w/a..b/..c", false},
		{"/w", "a/..", "/w/a/..", true},
	};

	for (size_t i = 0; i < HK_ARRAY_SIZE(rows); i++) {
		char *path = NULL;

		assert_int_equal(hk_path_absolute(rows[i].dir, rows[i].path, &path), 0);
		assert_string_equal(path, rows[i].expected);
		assert_int_equal(hk_path_has_dotdot(rows[i].path), rows[i].dotdot);
		free(path);
	}
}

enum { T_VOLUME, T_TTY, T_IN, T_CPUS, T_HELP, T_COUNT };

static const struct hk_opt table[T_COUNT] = {
	[T_VOLUME] = {"volume", 'v', "DIR", "share"},
	[T_TTY] = {"tty", 't', NULL, "terminal"},
	[T_IN] = {NULL, 'i', NULL, NULL},
	[T_CPUS] = {"cpus", 0, "N", "processors"},
	[T_HELP] = {"help", 'h', NULL, "this"},
};

static void test_options(void **state)
{
	static const struct {
		const char *argv[8];
		struct {
			int index;
			const char *value;
		} found[5];       /* ends with HK_OPTS_END or an error */
		const char *rest; /* the first word that is no option; or the message */
	} rows[] = {
		{{"run"}, {{HK_OPTS_END}}, NULL},
		{{"run", "ls", "-t"}, {{HK_OPTS_END}}, "ls"},
		{{"run", "--", "-t"}, {{HK_OPTS_END}}, "-t"},
		{{"run", "-", "-t"}, {{HK_OPTS_END}}, "-"},
		{{"run", "-t", "ls"}, {{T_TTY}, {HK_OPTS_END}}, "ls"},
		{{"run", "-ti", "ls"}, {{T_TTY}, {T_IN}, {HK_OPTS_END}}, "ls"},
		{{"run", "-tv", "a", "ls"}, {{T_TTY}, {T_VOLUME, "a"}, {HK_OPTS_END}}, "ls"},
		{{"run", "-va", "ls"}, {{T_VOLUME, "a"}, {HK_OPTS_END}}, "ls"},
		{{"run", "-v", "--", "ls"}, {{T_VOLUME, "--"}, {HK_OPTS_END}}, "ls"},
		{{"run", "--volume", "a", "ls"}, {{T_VOLUME, "a"}, {HK_OPTS_END}}, "ls"},
		{{"run", "--volume=a=b", "ls"}, {{T_VOLUME, "a=b"}, {HK_OPTS_END}}, "ls"},
		{{"run", "--volume=", "ls"}, {{T_VOLUME, ""}, {HK_OPTS_END}}, "ls"},
		{{"run", "--cpus", "2"}, {{T_CPUS, "2"}, {HK_OPTS_END}}, NULL},
		{{"run", "--vol", "a"}, {{-EINVAL}}, "unknown option --vol"},
		{{"run", "--nope=x"}, {{-EINVAL}}, "unknown option --nope"},
		{{"run", "-tx"}, {{T_TTY}, {-EINVAL}}, "unknown option -x"},
		{{"run", "-v"}, {{-EINVAL}}, "-v needs a value: DIR"},
		{{"run", "--cpus"}, {{-EINVAL}}, "--cpus needs a value: N"},
		{{"run", "--tty=yes"}, {{-EINVAL}}, "--tty takes no value"},
	};

	for (size_t i = 0; i < HK_ARRAY_SIZE(rows); i++) {
		struct hk_err err = HK_ERR_INIT;
		struct hk_opts opts;
		const char *value;
		int index = 0;

		hk_opts_init(&opts, "run", table, T_COUNT, (char **)rows[i].argv);
		for (size_t j = 0; index >= 0; j++) {
			index = hk_opts_next(&opts, &value, &err);
			assert_int_equal(index, rows[i].found[j].index);
			if (index >= 0 && table[index].value != NULL) {
				assert_string_equal(value, rows[i].found[j].value);
			} else {
				assert_null(value);
			}
		}
		if (index == -EINVAL) {
			assert_string_equal(hk_err_text(&err), rows[i].rest);
			assert_string_equal(err.hint, "see hako run --help");
		} else if (rows[i].rest == NULL) {
			assert_null(opts.argv[opts.next]);
		} else {
			assert_string_equal(opts.argv[opts.next], rows[i].rest);
		}
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_shares),
		cmocka_unit_test(test_disks),
		cmocka_unit_test(test_durations),
		cmocka_unit_test(test_paths),
		cmocka_unit_test(test_options),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
