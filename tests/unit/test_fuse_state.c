/* SPDX-License-Identifier: ISC */
/* Save and restore of the FUSE server: what the guest holds goes on to work, what is gone says so.
 */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/state.h"
#include "fuse_client.h"

static struct fc fc;

static int start(void **state)
{
	fc_start(&fc, NULL, FC_FEATURES & ~FUSE_NO_OPENDIR_SUPPORT);
	return 0;
}

static int stop(void **state)
{
	fc_stop(&fc);
	return 0;
}

/* What a guest holds. */
struct held {
	uint64_t a, b, deep, file, gone, moved, tmp;
	uint64_t file_fh, log_fh, log, gone_fh, tmp_fh, dir_fh;
	uint64_t dir_offset;
};

static void make(struct held *h)
{
	struct fuse_entry_out entry;
	struct fuse_open_in in = {.flags = O_RDONLY};
	struct fuse_open_out open;
	char buf[100];

	must(fc_mkdir(&fc, fc.root, "a", &entry) == 0);
	h->a = entry.nodeid;
	must(fc_mkdir(&fc, h->a, "b", &entry) == 0);
	h->b = entry.nodeid;
	must(fc_mkdir(&fc, h->b, "deep", &entry) == 0);
	h->deep = entry.nodeid;
	must(fc_create(&fc, h->deep, "file", O_RDWR, 0644, &h->file, &h->file_fh) == 0);
	must(fc_write(&fc, h->file, h->file_fh, 0, "hello", 5) == 5);
	must(fc_create(&fc, fc.root, "log", O_WRONLY | O_APPEND, 0644, &h->log, &h->log_fh) == 0);
	must(fc_create(&fc, fc.root, "gone", O_RDWR, 0644, &h->gone, &h->gone_fh) == 0);
	must(fc_create(&fc, fc.root, "moved", O_RDWR, 0644, &h->moved, &h->tmp_fh) == 0);
	must(fc_release(&fc, h->moved, h->tmp_fh) == 0);
	/* A place made after its child: the parent has the higher number. */
	must(fc_mkdir(&fc, fc.root, "later", &entry) == 0);
	must(fc_rename(&fc, fc.root, "a", entry.nodeid, "a", 0) == 0);
	must(fc_call(&fc, FUSE_OPENDIR, fc.root, &(struct fc_part){&in, sizeof(in)}, 1, &open,
		     sizeof(open))
			.error == 0);
	h->dir_fh = open.fh;
	must(fc_readdir(&fc, fc.root, h->dir_fh, 0, false, buf, sizeof(buf)) > 0);
	h->dir_offset = ((struct fuse_dirent *)buf)->off;
}

static void check(struct fc *to, const struct held *h)
{
	struct fuse_attr attr;
	char buf[4096];

	assert_int_equal(fc_getattr(to, h->deep, &attr), 0);
	assert_int_equal(fc_read(to, h->file, h->file_fh, 0, buf, 10), 5);
	assert_memory_equal(buf, "hello", 5);
	assert_int_equal(fc_write(to, h->file, h->file_fh, 5, "!", 1), 1);
	to->file_flags = O_WRONLY | O_APPEND;
	assert_int_equal(fc_write(to, h->log, h->log_fh, 0, "1", 1), 1);
	assert_int_equal(fc_write(to, h->log, h->log_fh, 0, "2", 1), 1);
	to->file_flags = 0;
	assert_true(fc_host_has(fc.inside, "log", "12"));
	assert_int_equal(fc_read(to, h->log, h->log_fh, 0, buf, 1), -EBADF);
	assert_int_equal(fc_node(to, h->b, "deep"), h->deep);
	assert_true(fc_readdir(to, fc.root, h->dir_fh, h->dir_offset, false, buf, sizeof(buf)) > 0);
	assert_int_equal(fc_release(to, fc.root, h->dir_fh), 0);
	/* New numbers are none that are held. */
	{
		struct fuse_entry_out entry;

		assert_int_equal(fc_mkdir(to, to->root, "new", &entry), 0);
		assert_true(
			entry.nodeid != h->a && entry.nodeid != h->deep && entry.nodeid != h->gone);
	}
	/* The counts came along. */
	fc_forget(to, h->file, 1);
	assert_int_equal(fc_read(to, h->file, h->file_fh, 0, buf, 10), 6); /* still open */
	assert_int_equal(fc_release(to, h->file, h->file_fh), 0);
	assert_int_equal(fc_getattr(to, h->file, &attr), -ESTALE);
}

static void test_round_trip(void **state)
{
	struct hk_writer w = {0};
	struct hk_writer second = {0};
	struct hk_err err = HK_ERR_INIT;
	struct hk_reader r;
	struct held held;
	struct fc again;
	struct fuse_attr attr;
	char buf[8];

	make(&held);
	hk_fuse_server_save(fc.server, &w);
	assert_int_equal(w.error, 0);
	/* Meanwhile, on the host. */
	assert_int_equal(unlinkat(fc.inside_fd, "gone", 0), 0);
	assert_int_equal(renameat(fc.inside_fd, "moved", fc.inside_fd, "elsewhere"), 0);
	fc_host_file(fc.inside, "moved", "somebody else");

	fc_again(&again, &fc, NULL);
	hk_reader_init(&r, w.data, w.len);
	hk_fuse_server_restore(again.server, &r);
	assert_int_equal(hk_reader_status(&r, &err), 0);
	hk_fuse_server_save(again.server, &second);
	assert_true(second.len > 0);
	check(&again, &held);
	assert_int_equal(fc_getattr(&again, held.gone, &attr), -ESTALE);
	assert_int_equal(fc_read(&again, held.gone, held.gone_fh, 0, buf, 1), -ESTALE);
	assert_int_equal(fc_release(&again, held.gone, held.gone_fh), 0);
	assert_int_equal(fc_getattr(&again, held.moved, &attr), -ESTALE);
	assert_int_equal(fc_node(&again, again.root, "gone"), 0);
	fc_drop(&again);
	hk_writer_finish(&w);
	hk_writer_finish(&second);
}

/* Saved and restored with nothing in between: the same bytes. */
static void test_stable(void **state)
{
	struct hk_writer w = {0};
	struct hk_writer second = {0};
	struct hk_reader r;
	struct held held;
	struct fc again;

	make(&held);
	hk_fuse_server_save(fc.server, &w);
	fc_again(&again, &fc, NULL);
	hk_reader_init(&r, w.data, w.len);
	hk_fuse_server_restore(again.server, &r);
	hk_fuse_server_save(again.server, &second);
	assert_int_equal(w.len, second.len);
	assert_memory_equal(w.data, second.data, w.len);
	fc_drop(&again);
	hk_writer_finish(&w);
	hk_writer_finish(&second);
}

static int restore_bytes(struct fc *to, const uint8_t *data, size_t len)
{
	struct hk_reader r;

	hk_reader_init(&r, data, len);
	hk_fuse_server_restore(to->server, &r);
	return hk_reader_status(&r, NULL);
}

/* A stream may come from anywhere. */
static void test_damaged(void **state)
{
	struct hk_writer w = {0};
	struct fuse_attr attr;
	struct held held;
	struct fc again;

	make(&held);
	hk_fuse_server_save(fc.server, &w);
	fc_again(&again, &fc, NULL);
	for (size_t len = 0; len < w.len; len++) {
		assert_true(restore_bytes(&again, w.data, len) < 0);
		assert_int_equal(fc_getattr(&again, held.a, &attr), -EIO); /* as after power-on */
	}
	for (size_t at = 0; at < w.len; at++) {
		for (unsigned bit = 0; bit < 8; bit += 3) {
			w.data[at] ^= (uint8_t)(1u << bit);
			if (restore_bytes(&again, w.data, w.len) == 0) {
				fc_getattr(&again, held.file, &attr);
				fc_read(&again, held.file, held.file_fh, 0, &attr, 4);
			}
			w.data[at] ^= (uint8_t)(1u << bit);
		}
	}
	assert_int_equal(restore_bytes(&again, w.data, w.len), 0);
	check(&again, &held);
	fc_drop(&again);
	/* Other exports than then: refused. Read-only now: no handle that writes. */
	fc_again(&again, &fc, &(struct hk_fuse_export){.read_only = true});
	assert_true(restore_bytes(&again, w.data, w.len) < 0);
	fc_drop(&again);
	hk_writer_finish(&w);
}

static void test_empty(void **state)
{
	struct hk_writer w = {0};
	struct fc again;
	struct fuse_attr attr;

	hk_fuse_server_reset(fc.server);
	hk_fuse_server_save(fc.server, &w);
	fc_again(&again, &fc, NULL);
	assert_int_equal(restore_bytes(&again, w.data, w.len), 0);
	assert_int_equal(fc_getattr(&again, again.root, &attr), -EIO); /* before INIT */
	fc_drop(&again);
	hk_writer_finish(&w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_round_trip, start, stop),
		cmocka_unit_test_setup_teardown(test_stable, start, stop),
		cmocka_unit_test_setup_teardown(test_damaged, start, stop),
		cmocka_unit_test_setup_teardown(test_empty, start, stop),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
