/* SPDX-License-Identifier: ISC */
/* Packages: what apt says, what it leaves undone, and what is in a .deb. apt is a script of ours.
 */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/sys.h"
#include "base/util.h"
#include "kernel/apt.h"
#include "kernel/child.h"
#include "kernel/deb.h"
#include "test_kernel_fixture.h"

static char dir[64];
static char *saved_path;

static int set_up(void **state)
{
	char path[256];

	fx_make_dir(dir);
	saved_path = strdup(getenv("PATH"));
	snprintf(path, sizeof(path), "%s/bin:/usr/bin:/bin", dir);
	setenv("PATH", path, 1);
	return 0;
}

static int tear_down(void **state)
{
	setenv("PATH", saved_path, 1);
	free(saved_path);
	fx_remove(dir);
	return 0;
}

/* Puts a shell script in the PATH. */
static void script(const char *name, const char *text)
{
	char below[64];
	char path[160];

	snprintf(below, sizeof(below), "bin/%s", name);
	snprintf(path, sizeof(path), "%s/%s", dir, below);
	fx_write_text(dir, below, text);
	assert_int_equal(chmod(path, 0755), 0);
}

static void test_parse_depends(void **state)
{
	static const struct {
		const char *text;
		const char *name; /* NULL: refused */
		const char *version;
	} cases[] = {
		{"Package: linux-image-cloud-amd64\nDepends: linux-image-6.1.0-56-cloud-amd64 (= "
		 "6.1.192-2)\nDescription: x\n",
			"linux-image-6.1.0-56-cloud-amd64", "6.1.192-2"},
		{"Depends: kmod, linux-base (>= 4.3~), linux-image-6.1+x (= 1:6.1~bpo+1)",
			"linux-image-6.1+x", "1:6.1~bpo+1"},
		{"Depends: linux-image-6.1 (>= 3)\nDepends: linux-image-6.2 (= 1)\n", NULL, NULL},
		{"", NULL, NULL},
		{"Pre-Depends: linux-image-6.1 (= 1)\n", NULL, NULL},
		{"Depends:", NULL, NULL},
		{"Depends: ", NULL, NULL},
		{"Depends: ,,, ,\n", NULL, NULL},
		{"Depends: linux-image-6.1\n", NULL, NULL},
		{"Depends: linux-image-6.1 (= \n", NULL, NULL},
		{"Depends: linux-image-6.1 (= 1\n", NULL, NULL},
		{"Depends: linux-image-6.1 (= 1 2)\n", NULL, NULL},
		{"Depends: foo\nX: linux-image-6.1 (= 1)\n", NULL, NULL},
	};

	for (size_t i = 0; i < HK_ARRAY_SIZE(cases); i++) {
		struct hk_apt_package package;
		int r = hk_apt_parse_depends(cases[i].text, &package);

		assert_int_equal(r, cases[i].name != NULL ? 0 : -EBADMSG);
		if (r == 0) {
			assert_string_equal(package.name, cases[i].name);
			assert_string_equal(package.version, cases[i].version);
		}
	}
}

static void test_resolve(void **state)
{
	struct hk_apt_package package;
	struct hk_err err = HK_ERR_INIT;

	setenv("PATH", "/nonexistent", 1);
	assert_int_equal(hk_apt_resolve("meta", &package, &err), -ENOENT);
	assert_string_equal(hk_err_text(&err), "run 'apt-cache': No such file or directory");
	assert_non_null(strstr(err.hint, "--from-host"));
}

static void test_resolve_lists(void **state)
{
	struct hk_apt_package package;
	struct hk_err err = HK_ERR_INIT;

	script("apt-cache", "#!/bin/sh\necho 'E: No packages found' >&2; exit 100\n");
	assert_int_equal(hk_apt_resolve("meta", &package, &err), -ENOENT);
	assert_string_equal(hk_err_text(&err), "apt's lists have no package 'meta'");
	assert_non_null(strstr(err.hint, "apt-get update"));

	err = HK_ERR_INIT;
	script("apt-cache", "#!/bin/sh\necho 'Package: meta'\n");
	assert_int_equal(hk_apt_resolve("meta", &package, &err), -EBADMSG);
	assert_string_equal(
		hk_err_text(&err), "cannot tell which kernel the package 'meta' stands for");

	/* The language of messages and fields is fixed, the arguments are as apt wants them. */
	script("apt-cache",
		"#!/bin/sh\n[ \"$LC_ALL $*\" = 'C show --no-all-versions meta' ] "
		"&& echo 'Depends: linux-image-1 (= 2)'\n");
	setenv("LC_ALL", "xx_XX", 1);
	assert_int_equal(hk_apt_resolve("meta", &package, &err), 0);
	unsetenv("LC_ALL");
	assert_string_equal(package.name, "linux-image-1");
	assert_string_equal(package.version, "2");
}

struct seen {
	struct hk_kernel_progress progress;
	int percents[16];
	unsigned count;
};

static void see(struct hk_kernel_progress *progress, const char *what, int percent)
{
	struct seen *seen = hk_container_of(progress, struct seen, progress);

	assert_string_equal(what, "downloading linux-image-1");
	assert_true(seen->count < HK_ARRAY_SIZE(seen->percents));
	seen->percents[seen->count++] = percent;
}

static void test_download(void **state)
{
	static const struct hk_apt_package package = {"linux-image-1", "2:3"};
	struct seen seen = {.progress = {.step = see}};
	struct hk_err err = HK_ERR_INIT;
	char expected[160];
	char *path;

	script("apt-get",
		"#!/bin/sh\n"
		"echo 'W: Download is performed unsandboxed' >&2\n"
		"[ \"$7\" = linux-image-1=2:3 ] || exit 1\n"
		"printf 'dlstatus:1:7.5:Ret' >&3; echo rieving >&3\n"
		"printf 'dlstatus:1:7.9:x\\npmstatus:1:50:x\\nnonsense\\ndlstatus:\\n' >&3\n"
		"printf 'dlstatus:1:x:x\\ndlstatus:1:1000:x\\ndlstatus:1:100:' >&3\n"
		"printf 'x\\nno end' >&3\n"
		"touch linux-image-1_2%3a3_amd64.deb\n");
	assert_int_equal(hk_apt_download(&package, dir, &seen.progress, &path, &err), 0);
	snprintf(expected, sizeof(expected), "%s/linux-image-1_2%%3a3_amd64.deb", dir);
	assert_string_equal(path, expected);
	free(path);
	assert_int_equal(seen.count, 3);
	assert_int_equal(seen.percents[0], 0);
	assert_int_equal(seen.percents[1], 7);
	assert_int_equal(seen.percents[2], 100);
}

static void test_download_fails(void **state)
{
	static const struct hk_apt_package package = {"linux-image-1", "2"};
	static const struct {
		const char *script;
		int result;
		const char *text;
	} cases[] = {
		{"echo 'E: one' >&2; printf 'E: 404 \\033[31m Not Found\\nW: x\\n' >&2; exit 100",
			-EIO, "downloading linux-image-1: apt: 404 \\x1b[31m Not Found"},
		{"exit 7", -EIO, "downloading linux-image-1: 'apt-get' failed with exit status 7"},
		{"kill -9 $$", -EIO,
			"downloading linux-image-1: 'apt-get' failed with exit status 137"},
		{"printf 'E: ' >&2; exit 1", -EIO, "downloading linux-image-1: apt: "},
		{"exit 0", -ENOENT,
			"downloading linux-image-1: the package: No such file or directory"},
		/* More words than are kept, on both streams at once, must not block it. */
		{"head -c 3000000 /dev/zero; head -c 3000000 /dev/zero >&2; exit 3", -EIO,
			"downloading linux-image-1: 'apt-get' failed with exit status 3"},
	};

	for (size_t i = 0; i < HK_ARRAY_SIZE(cases); i++) {
		struct hk_err err = HK_ERR_INIT;
		char text[256];
		char *path;

		snprintf(text, sizeof(text), "#!/bin/sh\n%s\n", cases[i].script);
		script("apt-get", text);
		assert_int_equal(
			hk_apt_download(&package, dir, NULL, &path, &err), cases[i].result);
		assert_string_equal(hk_err_text(&err), cases[i].text);
	}
}

static struct fx_bytes text_bytes(const char *text)
{
	return (struct fx_bytes){(uint8_t *)strdup(text), strlen(text)};
}

static bool has(const char *name, const char *content)
{
	char path[200];
	void *data;
	size_t len;
	bool same;

	snprintf(path, sizeof(path), "%s/out/%s", dir, name);
	if (hk_read_file(path, 1 << 20, &data, &len, NULL) < 0) {
		return false;
	}
	same = len == strlen(content) && memcmp(data, content, len) == 0;
	free(data);
	return same;
}

/* How many files and directories there are below. */
static unsigned count_below(const char *path)
{
	char command[200];
	unsigned count = 0;
	FILE *pipe;

	snprintf(command, sizeof(command), "find '%s' | wc -l", path);
	pipe = popen(command, "r");
	assert_int_equal(fscanf(pipe, "%u", &count), 1);
	pclose(pipe);
	return count;
}

static void test_deb(void **state)
{
	static const enum hk_pack packs[] = {HK_PACK_NONE, HK_PACK_GZIP, HK_PACK_XZ, HK_PACK_ZSTD};

	for (size_t i = 0; i < HK_ARRAY_SIZE(packs); i++) {
		const struct fx_member members[] = {
			{"./", 'd', {NULL, 0}},
			{"./boot/", 'd', {NULL, 0}},
			{"./boot/vmlinuz-" FX_RELEASE, 'f', text_bytes("kernel")},
			{"./boot/config-" FX_RELEASE, 'f', text_bytes("config")},
			{"./lib/modules/" FX_RELEASE "/modules.builtin", 'f', text_bytes("b")},
			{"./lib/modules/" FX_RELEASE "/build", 'l', text_bytes("/usr/src")},
			{"./lib/modules/" FX_RELEASE "/kernel/a/b.ko", 'f', text_bytes("one")},
			{"usr/lib/modules/" FX_RELEASE "/kernel/a/c.ko", 'f', text_bytes("two")},
			{"./usr/share/doc/x", 'f', text_bytes("doc")},
			{NULL},
		};
		struct hk_err err = HK_ERR_INIT;
		char deb[160];
		char out[160];

		snprintf(deb, sizeof(deb), "%s/a.deb", dir);
		snprintf(out, sizeof(out), "%s/out", dir);
		fx_deb(deb, packs[i], members);
		assert_int_equal(mkdir(out, 0755), 0);
		assert_int_equal(hk_deb_unpack(deb, out, NULL, &err), 0);
		assert_true(has("vmlinuz", "kernel"));
		assert_true(has("modules/modules.builtin", "b"));
		assert_true(has("modules/kernel/a/b.ko", "one"));
		assert_true(has("modules/kernel/a/c.ko", "two"));
		assert_int_equal(count_below(out), 8);
		fx_remove(out);
	}
}

/* Names that would lead out of the directory are not ours, and links are not followed. */
static void test_deb_hostile(void **state)
{
	const struct fx_member members[] = {
		{"./boot/vmlinuz-1", 'f', text_bytes("kernel")},
		{"./lib/modules/1/../../../../escaped", 'f', text_bytes("x")},
		{"./lib/modules/../escaped", 'f', text_bytes("x")},
		{"./lib/modules/1//escaped", 'f', text_bytes("x")},
		{"./lib/modules/1/./escaped", 'f', text_bytes("x")},
		{"./lib/modules/1/", 'f', text_bytes("x")},
		{"./lib/modules/1", 'f', text_bytes("x")},
		{"/lib/modules/1/absolute", 'f', text_bytes("x")},
		{"./lib/modules/1/link", 'l', text_bytes("/tmp")},
		{"./lib/modules/1/hard", 'h', text_bytes("./boot/vmlinuz-1")},
		{"./boot/vmlinuz-1/x", 'f', text_bytes("x")},
		{"../boot/vmlinuz-1", 'f', text_bytes("x")},
		{NULL},
	};
	struct hk_err err = HK_ERR_INIT;
	char deb[160];
	char out[160];

	snprintf(deb, sizeof(deb), "%s/a.deb", dir);
	snprintf(out, sizeof(out), "%s/out", dir);
	fx_deb(deb, HK_PACK_NONE, members);
	assert_int_equal(mkdir(out, 0755), 0);
	assert_int_equal(hk_deb_unpack(deb, out, NULL, &err), 0);
	assert_int_equal(count_below(out), 2);
	assert_true(has("vmlinuz", "kernel"));
	assert_int_equal(count_below(dir), 4);
}

static void test_deb_twice(void **state)
{
	const struct fx_member members[] = {
		{"./lib/modules/1/link", 'l', text_bytes("/tmp")},
		{"./boot/vmlinuz-1", 'f', text_bytes("kernel")},
		{"./boot/vmlinuz-2", 'f', text_bytes("kernel")},
		{NULL},
	};
	struct hk_err err = HK_ERR_INIT;
	char deb[160];

	snprintf(deb, sizeof(deb), "%s/a.deb", dir);
	fx_deb(deb, HK_PACK_NONE, members);
	assert_int_equal(hk_deb_unpack(deb, dir, NULL, &err), -EEXIST);
}

static void test_deb_corrupt(void **state)
{
	const struct fx_member members[] = {
		{"./boot/vmlinuz-1", 'f', text_bytes("kernel")},
		{NULL},
	};
	const struct fx_member empty[] = {{"./boot/config-1", 'f', text_bytes("c")}, {NULL}};
	struct hk_err err = HK_ERR_INIT;
	char deb[160];
	char out[160];
	char kernel[200];
	void *data;
	size_t len;

	snprintf(kernel, sizeof(kernel), "%s/out/vmlinuz", dir);
	snprintf(deb, sizeof(deb), "%s/a.deb", dir);
	snprintf(out, sizeof(out), "%s/out", dir);
	assert_int_equal(mkdir(out, 0755), 0);
	assert_int_equal(hk_deb_unpack(deb, out, NULL, &err), -ENOENT);

	fx_deb(deb, HK_PACK_XZ, empty);
	assert_int_equal(hk_deb_unpack(deb, out, NULL, &err), -EBADMSG);
	assert_non_null(strstr(hk_err_text(&err), "there is no kernel in this package"));

	fx_deb(deb, HK_PACK_XZ, members);
	assert_int_equal(hk_read_file(deb, 1 << 20, &data, &len, &err), 0);
	for (size_t cut = 0; cut < len; cut += 3) {
		err = HK_ERR_INIT;
		fx_write(dir, "a.deb", data, cut);
		unlink(kernel);
		assert_int_equal(hk_deb_unpack(deb, out, NULL, &err), -EBADMSG);
		assert_true(hk_err_text(&err)[0] == '\'');
		assert_int_equal(strncmp(hk_err_text(&err) + 1, deb, strlen(deb)), 0);
	}
	free(data);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_parse_depends),
		cmocka_unit_test_setup_teardown(test_resolve, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_resolve_lists, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_download, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_download_fails, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_deb, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_deb_hostile, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_deb_twice, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_deb_corrupt, set_up, tear_down),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
