/* SPDX-License-Identifier: ISC */
/*
 * The kernel store when things go wrong around it: many processes at once, processes killed in the
 * middle, a full disk, every allocation and system call failing in turn.
 */
#include <dirent.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/fault.h"
#include "base/loop.h"
#include "base/sys.h"
#include "kernel/kernel.h"
#include "kernel/store_impl.h"
#include "test_kernel_fixture.h"

enum { SKIPPED = 77 };

static char dir[64];
static char store_dir[80];
static char image[80];
static char modules[80];

static int set_up(void **state)
{
	struct fx_bytes vmlinux = fx_vmlinux(FX_RELEASE, true, "", 300000);

	fx_make_dir(dir);
	snprintf(store_dir, sizeof(store_dir), "%s/store", dir);
	snprintf(image, sizeof(image), "%s/vmlinuz", dir);
	snprintf(modules, sizeof(modules), "%s/modules", dir);
	fx_write_bytes(dir, "vmlinuz", fx_bzimage(FX_RELEASE, HK_PACK_GZIP, vmlinux));
	fx_modules(modules, FX_RELEASE, true);
	free(vmlinux.data);
	return 0;
}

static int tear_down(void **state)
{
	hk_fault_arm(0, 0);
	fx_remove(dir);
	return 0;
}

/* The whole way: open, import, prepare. */
static int do_all(struct hk_err *err)
{
	struct hk_kernel_store *store;
	struct hk_kernel_info info;
	struct hk_kernel kernel;
	int r = hk_kernel_store_open(store_dir, &store, err);

	if (r < 0) {
		return r;
	}
	r = hk_kernel_import_file(store, image, modules, NULL, &info, err);
	if (r == 0) {
		r = hk_kernel_prepare(store, info.id, "agent", 5, &kernel, err);
	}
	if (r == 0) {
		hk_kernel_finish(&kernel);
	}
	hk_kernel_store_close(store);
	return r;
}

/* Counts what stands in a directory of the store; dot files too. */
static unsigned count_in(const char *below, const char *prefix)
{
	char path[160];
	struct dirent *entry;
	unsigned count = 0;
	DIR *stream;

	snprintf(path, sizeof(path), "%s/%s", store_dir, below);
	stream = opendir(path);
	if (stream == NULL) {
		return 0;
	}
	while ((entry = readdir(stream)) != NULL) {
		count += strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0 &&
			strncmp(entry->d_name, prefix, strlen(prefix)) == 0;
	}
	closedir(stream);
	return count;
}

/* One whole entry, and nothing that was left behind. */
static void assert_clean(void)
{
	struct hk_kernel_store *store;
	struct hk_kernel_info *infos;
	size_t count;

	assert_int_equal(hk_kernel_store_open(store_dir, &store, NULL), 0);
	assert_int_equal(hk_kernel_list(store, &infos, &count, NULL), 0);
	assert_int_equal(count, 1);
	assert_int_equal(count_in("", ""), 2); /* it and the lock */
	assert_int_equal(count_in(infos[0].id, ""), 4);
	assert_int_equal(count_in(infos[0].id, "initramfs-"), 1);
	free(infos);
	hk_kernel_store_close(store);
}

static void test_many_at_once(void **state)
{
	enum { PROCESSES = 6, ROUNDS = 5 };

	for (unsigned round = 0; round < ROUNDS; round++) {
		pid_t children[PROCESSES];

		for (unsigned i = 0; i < PROCESSES; i++) {
			children[i] = fork();
			if (children[i] == 0) {
				struct hk_err err = HK_ERR_INIT;
				int r = do_all(&err);

				if (r < 0) {
					fprintf(stderr, "%s\n", hk_err_text(&err));
				}
				_exit(r < 0);
			}
		}
		for (unsigned i = 0; i < PROCESSES; i++) {
			int status;

			assert_int_equal(waitpid(children[i], &status, 0), children[i]);
			assert_int_equal(status, 0);
		}
		assert_clean();
		fx_remove(store_dir);
	}
}

/* Readers come and go while one entry is made and removed over and over. */
static void test_removed_meanwhile(void **state)
{
	pid_t child = fork();
	int status;

	if (child == 0) {
		for (unsigned i = 0; i < 30; i++) {
			struct hk_kernel_store *store;
			struct hk_kernel_info info;

			if (hk_kernel_store_open(store_dir, &store, NULL) < 0 ||
				hk_kernel_import_file(store, image, modules, NULL, &info, NULL) <
					0 ||
				hk_kernel_remove(store, info.id, NULL) < 0) {
				_exit(1);
			}
			hk_kernel_store_close(store);
		}
		_exit(0);
	}
	while (waitpid(child, &status, WNOHANG) == 0) {
		struct hk_kernel_store *store;
		struct hk_kernel_info info;
		struct hk_kernel kernel;

		assert_int_equal(hk_kernel_store_open(store_dir, &store, NULL), 0);
		if (hk_kernel_find(store, NULL, &info, NULL) == 0) {
			int r = hk_kernel_prepare(store, info.id, "agent", 5, &kernel, NULL);

			assert_true(r == 0 || r == -ENOENT);
			if (r == 0) {
				hk_kernel_finish(&kernel);
			}
		}
		hk_kernel_store_close(store);
	}
	assert_int_equal(status, 0);
	assert_int_equal(count_in("", "tmp-"), 0);
}

static void test_killed(void **state)
{
	enum { TIMES = 60 };
	struct hk_err err = HK_ERR_INIT;
	uint64_t start_ns = hk_now_ns();
	unsigned left_behind = 0;
	unsigned whole_us;

	assert_int_equal(do_all(&err), 0);
	whole_us = (unsigned)((hk_now_ns() - start_ns) / 1000);
	fx_remove(store_dir);
	for (unsigned i = 0; i < TIMES; i++) {
		pid_t child = fork();

		if (child == 0) {
			_exit(do_all(NULL) < 0);
		}
		usleep(whole_us * i / TIMES);
		kill(child, SIGKILL);
		waitpid(child, NULL, 0);
		left_behind += count_in("", "tmp-");
		/* What can be seen is whole; half-made things are gone after the next change. */
		assert_int_equal(do_all(&err), 0);
		assert_clean();
		fx_remove(store_dir);
	}
	print_message("killed %d times, something was left %u times\n", TIMES, left_behind);
}

/* A leftover of each kind, for certain. */
static void test_leftovers(void **state)
{
	struct hk_kernel_store *store;
	struct hk_kernel_info info;
	char name[100];

	assert_int_equal(do_all(NULL), 0);
	assert_int_equal(hk_kernel_store_open(store_dir, &store, NULL), 0);
	assert_int_equal(hk_kernel_find(store, NULL, &info, NULL), 0);
	fx_write_text(store_dir, "tmp-0123456789abcdef/modules/a/b/c.ko", "x");
	fx_write_text(store_dir, "tmp-file", "x");
	snprintf(name, sizeof(name), "%s/tmp-link", store_dir);
	assert_int_equal(symlink("/", name), 0);
	snprintf(name, sizeof(name), "%s/.hako-0123456789abcdef.tmp", info.id);
	fx_write_text(store_dir, name, "x");
	assert_int_equal(hk_kernel_remove(store, "0123456789abcdef", NULL), -ENOENT);
	hk_kernel_store_close(store);
	assert_clean();
}

/* Runs in a child with a file system of @kib on the store's directory. */
static int with_small_disk(unsigned kib)
{
	struct hk_err err = HK_ERR_INIT;
	char options[32];
	int r;

	if (unshare(CLONE_NEWNS | (geteuid() != 0 ? CLONE_NEWUSER : 0)) < 0 ||
		mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0) {
		return SKIPPED;
	}
	snprintf(options, sizeof(options), "size=%uk", kib);
	if (mkdir(store_dir, 0755) < 0 || mount("tmpfs", store_dir, "tmpfs", 0, options) < 0) {
		return SKIPPED;
	}
	r = do_all(&err);
	if (r == 0) {
		assert_clean();
		return 0;
	}
	if (r != -ENOSPC || strstr(hk_err_text(&err), "No space left on device") == NULL) {
		return 2;
	}
	if (count_in("", "tmp-") > 0) {
		return 3;
	}
	umount(store_dir);
	rmdir(store_dir);
	return 1;
}

static void test_full_disk(void **state)
{
	unsigned full = 0;
	unsigned fine = 0;

	for (unsigned kib = 4; kib <= 512; kib += kib < 64 ? 12 : 44) {
		pid_t child = fork();
		int status;

		if (child == 0) {
			_exit(with_small_disk(kib));
		}
		assert_int_equal(waitpid(child, &status, 0), child);
		rmdir(store_dir);
		assert_true(WIFEXITED(status));
		if (WEXITSTATUS(status) == SKIPPED) {
			skip();
		}
		assert_true(WEXITSTATUS(status) <= 1);
		full += WEXITSTATUS(status) == 1;
		fine += WEXITSTATUS(status) == 0;
	}
	assert_true(full > 3 && fine > 0);
}

/* Each operation that passes the hook fails once; then it must go well with no fault. */
static void fail_each(unsigned kind)
{
	for (uint64_t nth = 1;; nth++) {
		struct hk_err err = HK_ERR_INIT;
		int r;

		hk_fault_arm(kind, nth);
		r = do_all(&err);
		if (!hk_fault_fired()) {
			assert_int_equal(r, 0);
			assert_true(nth > 20);
			break;
		}
		hk_fault_arm(0, 0);
		if (r < 0) { /* some failures do no harm */
			assert_int_equal(err.code, -r);
			assert_true(hk_err_text(&err)[0] != '\0');
		}
		assert_int_equal(do_all(&err), 0);
		assert_clean();
		fx_remove(store_dir);
	}
}

static void test_no_memory(void **state)
{
	fail_each(HK_FAULT_ALLOC);
}

static void test_failing_calls(void **state)
{
	fail_each(HK_FAULT_SYSCALL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_many_at_once, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_removed_meanwhile, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_killed, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_leftovers, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_full_disk, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_no_memory, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_failing_calls, set_up, tear_down),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
