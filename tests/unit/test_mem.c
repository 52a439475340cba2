/* SPDX-License-Identifier: ISC */
/* Guest memory: the layout, and that no address outside RAM is ever translated. */
#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/util.h"
#include "engine/mem.h"

static void small_guest_has_one_region(void **state)
{
	struct hk_mem mem;

	assert_int_equal(hk_mem_create(&mem, 64 * HK_MIB, NULL), 0);
	assert_int_equal(mem.region_count, 1);
	assert_int_equal(mem.regions[0].gpa, 0);
	assert_int_equal(mem.regions[0].len_bytes, 64 * HK_MIB);
	hk_mem_finish(&mem);
}

static void large_guest_leaves_the_hole(void **state)
{
	struct hk_mem mem;

	assert_int_equal(hk_mem_create(&mem, 5 * HK_GIB, NULL), 0);
	assert_int_equal(mem.region_count, 2);
	assert_int_equal(mem.regions[0].len_bytes, HK_MMIO_HOLE_START);
	assert_int_equal(mem.regions[1].gpa, HK_MMIO_HOLE_END);
	assert_int_equal(mem.regions[1].len_bytes, 2 * HK_GIB);
	assert_int_equal(mem.regions[1].offset, 3 * HK_GIB);
	/* Contiguous in the host: the same byte through the region and through the file offset. */
	assert_ptr_equal(hk_mem_at(&mem, HK_MMIO_HOLE_END, 1), mem.ram + 3 * HK_GIB);
	/* And back. */
	assert_int_equal(hk_mem_gpa(&mem, mem.ram), 0);
	assert_int_equal(hk_mem_gpa(&mem, mem.ram + 3 * HK_GIB - 1), HK_MMIO_HOLE_START - 1);
	assert_int_equal(hk_mem_gpa(&mem, mem.ram + 3 * HK_GIB), HK_MMIO_HOLE_END);
	assert_int_equal(
		hk_mem_gpa(&mem, mem.ram + 5 * HK_GIB - 1), HK_MMIO_HOLE_END + 2 * HK_GIB - 1);
	hk_mem_finish(&mem);
}

static void sizes_that_cannot_be(void **state)
{
	static const uint64_t sizes[] = {0, 4096, 31 * HK_MIB, 64 * HK_MIB + 1, 64 * HK_MIB + 512};

	for (size_t i = 0; i < HK_ARRAY_SIZE(sizes); i++) {
		struct hk_err err = HK_ERR_INIT;
		struct hk_mem mem;

		assert_int_equal(hk_mem_create(&mem, sizes[i], &err), -EINVAL);
		assert_non_null(strstr(hk_err_text(&err), "at least 32 MiB"));
		hk_mem_finish(&mem);
	}
}

static void translation(void **state)
{
	static const struct {
		hk_gpa gpa;
		uint64_t len;
		bool ok;
	} table[] = {
		{0, 1, true},
		{0, 0, true},
		{0, 3 * HK_GIB, true},
		{0, 3 * HK_GIB + 1, false},
		{HK_MMIO_HOLE_START - 1, 1, true},
		{HK_MMIO_HOLE_START - 1, 2, false}, /* crosses into the hole */
		{HK_MMIO_HOLE_START, 1, false},
		{HK_MMIO_HOLE_END - 1, 1, false},
		{HK_MMIO_HOLE_END - 1, 2, false},
		{HK_MMIO_HOLE_END, HK_GIB, true},
		{HK_MMIO_HOLE_END, HK_GIB + 1, false},
		{HK_MMIO_HOLE_END + HK_GIB - 1, 1, true},
		{HK_MMIO_HOLE_END + HK_GIB, 1, false},
		{UINT64_MAX, 1, false},
		{UINT64_MAX, UINT64_MAX, false},
		{UINT64_MAX - 4095, 4096, false},
		{1, UINT64_MAX, false}, /* wraps */
		{HK_MMIO_HOLE_END, UINT64_MAX - HK_MMIO_HOLE_END + 2, false},
	};
	struct hk_mem mem;

	assert_int_equal(hk_mem_create(&mem, 4 * HK_GIB, NULL), 0);
	for (size_t i = 0; i < HK_ARRAY_SIZE(table); i++) {
		bool ok = hk_mem_at(&mem, table[i].gpa, table[i].len) != NULL;

		if (ok != table[i].ok) {
			fail_msg("row %zu", i);
		}
	}
	hk_mem_finish(&mem);
}

static void copies(void **state)
{
	struct hk_mem mem;
	char text[6] = "";

	assert_int_equal(hk_mem_create(&mem, 32 * HK_MIB, NULL), 0);
	assert_int_equal(hk_mem_write(&mem, 4094, "hello", 6), 0);
	assert_int_equal(hk_mem_read(&mem, 4094, text, 6), 0);
	assert_string_equal(text, "hello");
	assert_int_equal(hk_mem_write(&mem, 32 * HK_MIB - 5, "hello", 6), -EFAULT);
	assert_int_equal(hk_mem_read(&mem, 32 * HK_MIB - 5, text, 6), -EFAULT);
	hk_mem_finish(&mem);
}

static void windows_stand_above_ram_and_are_not_translated(void **state)
{
	const struct hk_mem_region *first, *second;
	struct hk_mem mem;

	assert_int_equal(hk_mem_create(&mem, 4 * HK_GIB, NULL), 0);
	assert_int_equal(hk_mem_add_window(&mem, 512 * HK_MIB, &first, NULL), 0);
	assert_int_equal(hk_mem_add_window(&mem, 64 * HK_MIB, &second, NULL), 0);
	assert_int_equal(first->gpa, 5 * HK_GIB);
	assert_int_equal(second->gpa, 6 * HK_GIB);
	assert_null(hk_mem_at(&mem, first->gpa, 1));
	hk_mem_finish(&mem);

	/* Also where all RAM is below the hole, windows stay clear of it. */
	assert_int_equal(hk_mem_create(&mem, 64 * HK_MIB, NULL), 0);
	assert_int_equal(hk_mem_add_window(&mem, HK_MIB, &first, NULL), 0);
	assert_int_equal(first->gpa, 4 * HK_GIB);
	hk_mem_finish(&mem);
}

/*
 * Buffers may lie in a window, whole; what is not there then is no end of the monitor. Return: 0 if
 * so.
 */
static int use_buffers(void)
{
	const struct hk_mem_region *window;
	struct hk_mem mem;
	uint8_t *at;
	int fds[2];
	bool good;

	if (hk_mem_create(&mem, 64 * HK_MIB, NULL) < 0 ||
		hk_mem_add_window(&mem, 4 * HK_MIB, &window, NULL) < 0 || pipe(fds) < 0) {
		return 1;
	}
	at = hk_mem_buffer_at(&mem, window->gpa + 8192, 4096);
	good = (uintptr_t)window->host % (2 * HK_MIB) == 0 && at == window->host + 8192 &&
		hk_mem_buffer_at(&mem, 4096, 1) == mem.ram + 4096 &&
		hk_mem_gpa(&mem, at + 5) == window->gpa + 8197 &&
		hk_mem_buffer_at(&mem, window->gpa + 4 * HK_MIB - 1, 2) == NULL &&
		hk_mem_buffer_at(&mem, window->gpa - 1, 2) == NULL;
	/* The kernel says so, */
	good = good && write(fds[1], at, 1) == -1 && errno == EFAULT;
	/* and we find an empty page. */
	good = good && *(volatile uint8_t *)at == 0;
	*(volatile uint8_t *)at = 1;
	good = good && *(volatile uint8_t *)at == 1;
	hk_mem_finish(&mem);
	return good ? 0 : 2;
}

/* What lies elsewhere goes on to be fatal. */
static int use_nothing(void)
{
	const struct hk_mem_region *window;
	struct hk_mem mem;
	volatile uint8_t *nowhere = mmap(NULL, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	hk_mem_create(&mem, 64 * HK_MIB, NULL);
	hk_mem_add_window(&mem, HK_MIB, &window, NULL);
	return *nowhere;
}

/* In a process whose signals are not cmocka's, nor a sanitizer's. Return: as waitpid() has it. */
static int in_child(int (*run)(void))
{
	struct rlimit none = {0};
	int status;
	pid_t pid = fork();

	if (pid == 0) {
		setrlimit(RLIMIT_CORE, &none);
		signal(SIGSEGV, SIG_DFL);
		signal(SIGBUS, SIG_DFL);
		_exit(run());
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	return status;
}

/* First of all, as handlers are set once in a process. */
static void buffers_in_windows(void **state)
{
	int status = in_child(use_buffers);

	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 0);
	status = in_child(use_nothing);
	assert_true(WIFSIGNALED(status));
	assert_int_equal(WTERMSIG(status), SIGSEGV);
}

static void too_many_windows(void **state)
{
	const struct hk_mem_region *window;
	struct hk_err err = HK_ERR_INIT;
	struct hk_mem mem;
	int r = 0;

	assert_int_equal(hk_mem_create(&mem, 64 * HK_MIB, NULL), 0);
	for (unsigned i = 1; i < HK_MEM_MAX_REGIONS; i++) {
		assert_int_equal(hk_mem_add_window(&mem, HK_MIB, &window, &err), 0);
	}
	r = hk_mem_add_window(&mem, HK_MIB, &window, &err);
	assert_int_equal(r, -ENOSPC);
	hk_mem_finish(&mem);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(buffers_in_windows),
		cmocka_unit_test(small_guest_has_one_region),
		cmocka_unit_test(large_guest_leaves_the_hole),
		cmocka_unit_test(sizes_that_cannot_be),
		cmocka_unit_test(translation),
		cmocka_unit_test(copies),
		cmocka_unit_test(windows_stand_above_ram_and_are_not_translated),
		cmocka_unit_test(too_many_windows),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
