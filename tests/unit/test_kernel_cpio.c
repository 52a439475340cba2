/* SPDX-License-Identifier: ISC */
/* cpio archives, read back by libarchive; and byte for byte where the format fixes it. */
#include <archive.h>
#include <archive_entry.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include <cmocka.h>

#include "base/fault.h"
#include "base/util.h"
#include "kernel/cpio.h"

static int make(void **ret_data, size_t *ret_len)
{
	struct hk_cpio cpio = {0};
	char name[16];
	int r;

	hk_cpio_add_dir(&cpio, "dev", 0755);
	hk_cpio_add_char_device(&cpio, "dev/console", 0600, 5, 1);
	hk_cpio_add_file(&cpio, "init", 0755, "#!/bin/sh\n", 10);
	/* Names and contents of each length modulo 4. */
	for (size_t len = 0; len < 9; len++) {
		snprintf(name, sizeof(name), "f%.*s", (int)len, "aaaaaaaaa");
		hk_cpio_add_file(&cpio, name, 0644, "12345678", len);
	}
	r = hk_cpio_end(&cpio, ret_data, ret_len);
	hk_cpio_finish(&cpio);
	return r;
}

static void test_read_back(void **state)
{
	struct archive *archive = archive_read_new();
	struct archive_entry *entry;
	unsigned count = 0;
	void *data;
	size_t len;

	assert_int_equal(make(&data, &len), 0);
	assert_int_equal(len % 4, 0);
	archive_read_support_format_cpio(archive);
	assert_int_equal(archive_read_open_memory(archive, data, len), ARCHIVE_OK);
	while (archive_read_next_header(archive, &entry) == ARCHIVE_OK) {
		const char *name = archive_entry_pathname(entry);
		char content[16] = "";
		la_ssize_t n = archive_read_data(archive, content, sizeof(content));

		assert_int_equal(archive_entry_uid(entry), 0);
		assert_int_equal(archive_entry_gid(entry), 0);
		assert_int_equal(archive_entry_mtime(entry), 0);
		assert_int_equal(archive_entry_ino(entry), count + 1);
		switch (count) {
		case 0:
			assert_string_equal(name, "dev");
			assert_int_equal(archive_entry_mode(entry), S_IFDIR | 0755);
			break;
		case 1:
			assert_string_equal(name, "dev/console");
			assert_int_equal(archive_entry_mode(entry), S_IFCHR | 0600);
			assert_int_equal(archive_entry_rdev(entry), makedev(5, 1));
			break;
		case 2:
			assert_string_equal(name, "init");
			assert_int_equal(archive_entry_mode(entry), S_IFREG | 0755);
			assert_string_equal(content, "#!/bin/sh\n");
			break;
		default:
			assert_int_equal(archive_entry_mode(entry), S_IFREG | 0644);
			assert_int_equal(strlen(name), 1 + (count - 3));
			assert_int_equal(n, count - 3);
			assert_memory_equal(content, "12345678", (size_t)n);
			break;
		}
		count++;
	}
	assert_int_equal(count, 12);
	archive_read_free(archive);
	free(data);
}

static void test_bytes(void **state)
{
	static const char expected[] = "070701"
				       "00000001000081a400000000000000000000000100000000"
				       "0000000500000000000000000000000000000000"
				       "0000000200000000"
				       "a\0hello\0\0\0"
				       "070701"
				       "00000000000000000000000000000000000000010000000000000000"
				       "00000000000000000000000000000000"
				       "0000000b00000000"
				       "TRAILER!!!\0\0\0";
	struct hk_cpio cpio = {0};
	void *data;
	size_t len;

	hk_cpio_add_file(&cpio, "a", 0644, "hello", 5);
	assert_int_equal(hk_cpio_end(&cpio, &data, &len), 0);
	assert_int_equal(len, sizeof(expected));
	assert_memory_equal(data, expected, len);
	free(data);
}

static void test_reproducible(void **state)
{
	void *a;
	void *b;
	size_t a_len;
	size_t b_len;

	assert_int_equal(make(&a, &a_len), 0);
	assert_int_equal(make(&b, &b_len), 0);
	assert_int_equal(a_len, b_len);
	assert_memory_equal(a, b, a_len);
	free(a);
	free(b);
}

static void test_no_memory(void **state)
{
	for (uint64_t nth = 1;; nth++) {
		void *data = NULL;
		size_t len;
		int r;

		hk_fault_arm(HK_FAULT_ALLOC, nth);
		r = make(&data, &len);
		free(data);
		if (!hk_fault_fired()) {
			assert_int_equal(r, 0);
			assert_true(nth > 1);
			break;
		}
		assert_int_equal(r, -ENOMEM);
	}
	hk_fault_arm(0, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_read_back),
		cmocka_unit_test(test_bytes),
		cmocka_unit_test(test_reproducible),
		cmocka_unit_test(test_no_memory),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
