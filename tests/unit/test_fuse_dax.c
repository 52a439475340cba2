/* SPDX-License-Identifier: ISC */
/*
 * Files mapped into the guest's memory: what is shared, who may, what cannot be, and what others do
 * to them meanwhile.
 */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/util.h"
#include "fuse/audit.h"
#include "fuse/rules.h"
#include "fuse_client.h"

enum {
	READ = FUSE_SETUPMAPPING_FLAG_READ,
	WRITE = FUSE_SETUPMAPPING_FLAG_WRITE,
	SLOT = FC_SLOT_BYTES,
	PAGE = 4096,
};

#define ANY_HANDLE   UINT64_MAX
#define DAX_FEATURES (FC_FEATURES | FUSE_MAP_ALIGNMENT | FUSE_HAS_INODE_DAX)

static struct fc fc;
static const struct hk_fuse_export shared = {.dax = true};

static void start(const struct hk_fuse_export *export)
{
	fc_start(&fc, export, DAX_FEATURES);
	fc_host_file(fc.inside, "f", "hello");
}

static int set_up_fh(struct fc *to, uint64_t node, uint64_t fh, uint64_t offset, uint64_t len,
	uint64_t flags, uint64_t at)
{
	struct fuse_setupmapping_in in = {
		.fh = fh, .foffset = offset, .len = len, .flags = flags, .moffset = at};

	return fc_call(to, FUSE_SETUPMAPPING, node, &(struct fc_part){&in, sizeof(in)}, 1, NULL, 0)
		.error;
}

/* As Linux asks: a slot, without naming a handle. */
static int set_up(uint64_t node, unsigned index, uint64_t flags, unsigned slot)
{
	return set_up_fh(
		&fc, node, ANY_HANDLE, (uint64_t)index * SLOT, SLOT, flags, (uint64_t)slot * SLOT);
}

static int take_down(uint64_t node, uint32_t count, uint64_t at, uint64_t len)
{
	struct fuse_removemapping_in in = {.count = count};
	struct fuse_removemapping_one one = {.moffset = at, .len = len};
	struct fc_part parts[] = {{&in, sizeof(in)}, {&one, sizeof(one)}};

	return fc_call(&fc, FUSE_REMOVEMAPPING, node, parts, 2, NULL, 0).error;
}

/* Is the window's byte there? As the kernel sees it, without a signal. */
static bool can_read(const struct fc *of, size_t at)
{
	int fds[2];
	bool is_there;

	assert_int_equal(pipe(fds), 0);
	is_there = write(fds[1], of->window + at, 1) == 1;
	close(fds[0]);
	close(fds[1]);
	return is_there;
}

static bool can_write(size_t at)
{
	char byte = 'w';
	int fds[2];
	bool is_there;

	assert_int_equal(pipe(fds), 0);
	assert_int_equal(write(fds[1], &byte, 1), 1);
	is_there = read(fds[0], fc.window + at, 1) == 1;
	close(fds[0]);
	close(fds[1]);
	return is_there;
}

static int host_open(const char *name)
{
	int fd = openat(fc.inside_fd, name, O_RDWR | O_CREAT | O_CLOEXEC, 0644);

	assert_true(fd >= 0);
	return fd;
}

static uint64_t open_node(const char *name, int flags, uint64_t *ret_node)
{
	struct fuse_open_out out;

	*ret_node = fc_node(&fc, fc.root, name);
	assert_int_not_equal(*ret_node, 0);
	assert_int_equal(fc_open(&fc, *ret_node, flags, &out), 0);
	return out.fh;
}

static uint32_t attr_flags(const char *name)
{
	struct fuse_entry_out entry;

	assert_int_equal(fc_lookup(&fc, fc.root, name, &entry), 0);
	return entry.attr.flags;
}

static void test_offered(void **state)
{
	struct fuse_entry_out entry;
	uint64_t node;

	start(&shared);
	assert_int_equal(fc.init.map_alignment, 21);
	assert_int_equal(fc_lookup(&fc, fc.root, "f", &entry), 0);
	assert_int_equal(entry.attr.flags, FUSE_ATTR_DAX);
	assert_int_equal(entry.attr_valid, 0); /* they change without a request */
	assert_true(entry.entry_valid > 0);
	assert_int_equal(fc_mkdir(&fc, fc.root, "dir", &entry), 0);
	assert_int_equal(entry.attr.flags, 0);
	fc_stop(&fc);

	start(NULL);
	assert_int_equal(fc.init.map_alignment, 0);
	assert_int_equal(fc.init.flags & FUSE_MAP_ALIGNMENT, 0);
	assert_int_equal(attr_flags("f"), 0);
	open_node("f", O_RDWR, &node);
	assert_int_equal(set_up(node, 0, READ, 0), -ENOSYS);
	assert_int_equal(take_down(node, 1, 0, SLOT), -ENOSYS);
	assert_false(hk_fuse_server_mend(fc.server));
	fc_stop(&fc);

	/* A guest without it. */
	fc_start(&fc, &shared, FC_FEATURES);
	fc_host_file(fc.inside, "f", "hello");
	assert_int_equal(attr_flags("f"), 0);
	fc_stop(&fc);
}

/* What one side writes the other has, in each slot and both ways. */
static void test_shared(void **state)
{
	struct fuse_open_out out;
	uint64_t node;
	char byte;
	int fd;

	start(&shared);
	fd = host_open("big");
	assert_int_equal(ftruncate(fd, 2 * SLOT), 0);
	open_node("big", O_RDWR, &node);
	assert_int_equal(set_up(node, 0, READ | WRITE, 2), 0);
	assert_int_equal(set_up(node, 1, READ | WRITE, 0), 0);
	for (unsigned i = 0; i < 2; i++) {
		uint8_t *at = fc.window + (i == 0 ? 2 * SLOT : 0) + 5000;
		off_t offset = (off_t)i * SLOT + 5000;

		*at = (uint8_t)('a' + i);
		assert_int_equal(pread(fd, &byte, 1, offset), 1);
		assert_int_equal(byte, 'a' + i);
		assert_int_equal(pwrite(fd, "z", 1, offset), 1);
		assert_int_equal(*at, 'z');
	}
	/* The file may be closed, and its slot given to another. */
	assert_int_equal(fc_open(&fc, node, O_RDONLY, &out), 0);
	assert_int_equal(out.open_flags & FOPEN_KEEP_CACHE, FOPEN_KEEP_CACHE);
	open_node("f", O_RDONLY, &node);
	assert_int_equal(set_up(node, 0, READ, 2), 0);
	assert_memory_equal(fc.window + 2 * SLOT, "hello", 5);
	/* One of many slots, and one that shows less than its slot. */
	open_node("big", O_RDWR, &node);
	assert_int_equal(set_up_fh(&fc, node, ANY_HANDLE, 0, 2 * SLOT, READ | WRITE, 0), 0);
	assert_int_equal(fc.window[SLOT + 5000], 'z');
	assert_int_equal(set_up_fh(&fc, node, ANY_HANDLE, 0, 100, READ, 0), 0);
	assert_true(can_read(&fc, 4095));
	assert_false(can_read(&fc, 4096));
	close(fd);
	fc_stop(&fc);
}

static void test_rights(void **state)
{
	static const struct hk_fuse_export read_only = {.dax = true, .read_only = true};
	uint64_t node, other, fh;

	start(&shared);
	fc_host_file(fc.inside, "other", "other");
	node = fc_node(&fc, fc.root, "f");
	/* Not open. */
	assert_int_equal(set_up(node, 0, READ, 0), -EACCES);
	/* Open to be read. */
	fh = open_node("f", O_RDONLY, &node);
	assert_int_equal(set_up(node, 0, READ | WRITE, 0), -EACCES);
	assert_int_equal(set_up(node, 0, WRITE, 0), -EACCES);
	assert_int_equal(set_up_fh(&fc, node, fh, 0, SLOT, WRITE, 0), -EACCES);
	assert_int_equal(set_up_fh(&fc, node, fh, 0, SLOT, READ, 0), 0);
	assert_true(can_read(&fc, 0));
	assert_false(can_write(0));
	/* By another's handle, or none. */
	open_node("other", O_RDWR, &other);
	assert_int_equal(set_up_fh(&fc, other, fh, 0, SLOT, READ, 0), -EACCES);
	assert_int_equal(set_up_fh(&fc, node, fh + 1, 0, SLOT, READ, 0), -EACCES);
	assert_int_equal(set_up(fc.root, 0, READ, 1), -EACCES);
	assert_int_equal(set_up(FUSE_ROOT_ID, 0, READ, 1), -EACCES);
	assert_int_equal(set_up(12345, 0, READ, 1), -ESTALE);
	assert_false(can_read(&fc, SLOT));
	/* Closed again: who had it keeps it, nobody gets it anew. */
	assert_int_equal(fc_release(&fc, node, fh), 0);
	assert_true(can_read(&fc, 0));
	assert_int_equal(set_up(node, 0, READ, 1), -EACCES);
	/* Open to be written: what is mapped is read, too. */
	open_node("f", O_WRONLY, &node);
	assert_int_equal(set_up(node, 0, READ | WRITE, 1), 0);
	assert_true(can_write(SLOT));
	assert_true(fc_host_has(fc.inside, "f", "wello"));
	fc_stop(&fc);

	start(&read_only);
	open_node("f", O_RDONLY, &node);
	assert_int_equal(set_up(node, 0, READ | WRITE, 0), -EROFS);
	assert_string_equal(fc.denied_path, "f");
	assert_int_equal(set_up(node, 0, READ, 0), 0);
	assert_false(can_write(0));
	fc_stop(&fc);
}

/* Whoever may only write, by the rules, must not get to read. */
static void test_rules(void **state)
{
	struct hk_fuse_export export = {.dax = true};
	struct hk_err err = HK_ERR_INIT;
	struct hk_rules_env none = {0};
	struct hk_rules *rules;
	uint64_t node;

	assert_int_equal(hk_rules_parse("test", "deny read /drop\n", &none, &rules, &err), 0);
	export.rules = rules;
	start(&export);
	fc_host_file(fc.inside, "drop", "secret");
	assert_int_equal(attr_flags("f"), FUSE_ATTR_DAX);
	assert_int_equal(attr_flags("drop"), 0);
	open_node("drop", O_WRONLY, &node);
	assert_int_equal(set_up(node, 0, READ | WRITE, 0), -EACCES);
	assert_int_equal(set_up(node, 0, READ, 0), -EACCES);
	assert_int_equal(set_up(node, 0, WRITE, 0), -EACCES);
	fc_stop(&fc);
	hk_rules_free(rules);
}

static void test_set_id(void **state)
{
	struct hk_fuse_export export = {.dax = true, .map_ids = true};
	struct stat st;
	uint64_t node;

	export.host_uid = export.guest_uid = getuid();
	export.host_gid = export.guest_gid = getgid();
	start(&export);
	assert_int_equal(fchmodat(fc.inside_fd, "f", 04755, 0), 0);
	open_node("f", O_RDWR, &node);
	assert_int_equal(set_up(node, 0, READ, 0), 0);
	assert_int_equal(fstatat(fc.inside_fd, "f", &st, 0), 0);
	assert_int_equal(st.st_mode & 07777, 04755);
	assert_int_equal(set_up(node, 0, READ | WRITE, 0), 0);
	assert_int_equal(fstatat(fc.inside_fd, "f", &st, 0), 0);
	assert_int_equal(st.st_mode & 07777, 0755);
	fc_stop(&fc);

	/*
	 * Where ids are the host's, root's own writes leave them; nobody's mapping leaves the time
	 * of modification.
	 */
	for (uint32_t uid = 0; uid < 2; uid++) {
		static const struct timespec old[2] = {{.tv_sec = 1000}, {.tv_sec = 1000}};

		start(&shared);
		fc.uid = uid;
		assert_int_equal(fchmodat(fc.inside_fd, "f", 04755, 0), 0);
		assert_int_equal(utimensat(fc.inside_fd, "f", old, 0), 0);
		open_node("f", O_RDWR, &node);
		assert_int_equal(set_up(node, 0, READ | WRITE, 0), 0);
		assert_int_equal(fstatat(fc.inside_fd, "f", &st, 0), 0);
		assert_int_equal(st.st_mode & 07777, uid == 0 ? 04755 : 0755);
		assert_true(st.st_mtim.tv_sec > 1000);
		fc_stop(&fc);
	}
}

static void test_ranges(void **state)
{
	static const struct {
		uint64_t offset, len, flags, at;
	} bad[] = {
		{0, 0, READ, 0},
		{0, SLOT, 0, 0},
		{0, SLOT, READ | 4, 0},
		{0, SLOT, UINT64_MAX, 0},
		{PAGE, SLOT, READ, 0},
		{0, SLOT, READ, PAGE},
		{0, SLOT, READ, FC_WINDOW_BYTES},
		{0, SLOT + 1, READ, FC_WINDOW_BYTES - SLOT},
		{0, FC_WINDOW_BYTES + 1, READ, 0},
		{0, UINT64_MAX, READ, 0},
		{0, UINT64_MAX, READ, SLOT},
		{0, SLOT, READ, UINT64_MAX - SLOT + 1},
		{UINT64_MAX - SLOT + 1, SLOT, READ, 0},
		{INT64_MAX - SLOT + 1, SLOT, READ, 0},
		{UINT64_C(1) << 63, SLOT, READ, 0},
	};
	static const struct {
		uint64_t at, len;
	} bad_removals[] = {
		{PAGE, SLOT},
		{0, 0},
		{FC_WINDOW_BYTES, 1},
		{0, FC_WINDOW_BYTES + 1},
		{SLOT, UINT64_MAX},
		{UINT64_MAX - SLOT + 1, SLOT},
	};
	uint64_t node;

	start(&shared);
	open_node("f", O_RDWR, &node);
	assert_int_equal(set_up(node, 0, READ, 3), 0);
	for (size_t i = 0; i < HK_ARRAY_SIZE(bad); i++) {
		assert_int_equal(set_up_fh(&fc, node, ANY_HANDLE, bad[i].offset, bad[i].len,
					 bad[i].flags, bad[i].at),
			-EINVAL);
	}
	for (size_t i = 0; i < HK_ARRAY_SIZE(bad_removals); i++) {
		assert_int_equal(
			take_down(node, 1, bad_removals[i].at, bad_removals[i].len), -EINVAL);
	}
	/* More are said than come. */
	assert_int_equal(take_down(node, 2, 0, SLOT), -EINVAL);
	assert_int_equal(take_down(node, UINT32_MAX, 0, SLOT), -EINVAL);
	assert_memory_equal(fc.window + 3 * SLOT, "hello", 5);
	assert_false(can_read(&fc, 0));
	/* What is there goes, what is not is no error; which node is named means nothing. */
	assert_int_equal(take_down(node, 1, 0, FC_WINDOW_BYTES), 0);
	assert_false(can_read(&fc, 3 * SLOT));
	assert_int_equal(take_down(9, 1, 0, FC_WINDOW_BYTES), 0);
	assert_int_equal(take_down(node, 0, 0, 0), 0);
	fc_stop(&fc);
}

/* Somebody on the host cuts a file short that the guest has mapped. */
static void test_cut_short(void **state)
{
	struct fuse_open_out out;
	uint64_t node, small;
	int fd, small_fd;

	start(&shared);
	fd = host_open("big");
	small_fd = host_open("small");
	assert_int_equal(ftruncate(fd, SLOT + 10 * PAGE), 0);
	assert_int_equal(ftruncate(small_fd, PAGE), 0);
	open_node("big", O_RDWR, &node);
	open_node("small", O_RDWR, &small);
	assert_int_equal(set_up(node, 0, READ | WRITE, 0), 0);
	assert_int_equal(set_up(node, 1, READ | WRITE, 1), 0);
	assert_int_equal(set_up(small, 0, READ | WRITE, 2), 0);
	fc.window[0] = 'b';
	fc.window[2 * PAGE] = 'b';
	assert_false(hk_fuse_server_mend(fc.server));

	assert_int_equal(ftruncate(fd, 2 * PAGE + 1), 0);
	assert_false(can_read(&fc, 3 * PAGE));
	assert_false(can_read(&fc, SLOT));
	/* At the first look it might still be the guest that changes its size. */
	assert_true(hk_fuse_server_mend(fc.server));
	assert_false(can_read(&fc, 3 * PAGE));
	assert_true(hk_fuse_server_mend(fc.server));
	assert_false(hk_fuse_server_mend(fc.server));
	/* Its end is still the file's, the rest zeroes of our own. */
	assert_int_equal(fc.window[0], 'b');
	assert_int_equal(fc.window[2 * PAGE], 'b');
	assert_int_equal(fc.window[3 * PAGE], 0);
	assert_int_equal(fc.window[SLOT - 1], 0);
	assert_int_equal(fc.window[SLOT + 10 * PAGE - 1], 0);
	/* Not what the guest cannot believe in: a file may grow into it. */
	assert_false(can_read(&fc, SLOT + 10 * PAGE));
	assert_false(can_read(&fc, 2 * SLOT + PAGE));
	assert_int_equal(ftruncate(small_fd, 2 * PAGE), 0);
	assert_int_equal(pwrite(small_fd, "s", 1, PAGE), 1);
	assert_int_equal(fc.window[2 * SLOT + PAGE], 's');

	/*
	 * The file is longer again: seen when it is opened anew, by somebody who may write as the
	 * mapping does.
	 */
	assert_int_equal(ftruncate(fd, SLOT), 0);
	assert_int_equal(pwrite(fd, "g", 1, 3 * PAGE), 1);
	assert_int_equal(fc.window[3 * PAGE], 0);
	assert_int_equal(fc_open(&fc, node, O_RDONLY, &out), 0);
	assert_int_equal(fc.window[3 * PAGE], 0);
	assert_int_equal(fc_open(&fc, node, O_RDWR, &out), 0);
	assert_int_equal(fc.window[3 * PAGE], 'g');
	close(fd);
	close(small_fd);
	fc_stop(&fc);
}

static void test_dropped(void **state)
{
	uint64_t node;

	start(&shared);
	open_node("f", O_RDWR, &node);
	assert_int_equal(set_up(node, 0, READ | WRITE, 1), 0);
	hk_fuse_server_reset(fc.server);
	assert_false(can_read(&fc, SLOT));
	fc_stop(&fc);

	start(&shared);
	open_node("f", O_RDWR, &node);
	assert_int_equal(set_up(node, 0, READ | WRITE, 1), 0);
	assert_int_equal(fc_call(&fc, FUSE_DESTROY, 0, NULL, 0, NULL, 0).error, 0);
	assert_false(can_read(&fc, SLOT));
	fc_stop(&fc);
}

static int restore(struct fc *to, const struct hk_writer *w)
{
	struct hk_reader r;

	hk_reader_init(&r, w->data, w->len);
	hk_fuse_server_restore(to->server, &r);
	return hk_reader_status(&r, NULL);
}

static void test_moved(void **state)
{
	struct hk_writer w = {0};
	struct hk_writer mapped_only = {0}; /* nothing is open any more */
	struct hk_writer none = {0};
	struct fc again;
	uint64_t node, gone, fh;

	start(&shared);
	fc_host_file(fc.inside, "gone", "gone");
	hk_fuse_server_save(fc.server, &none);
	fh = open_node("f", O_RDWR, &node);
	open_node("gone", O_RDONLY, &gone);
	assert_int_equal(set_up(node, 0, READ | WRITE, 2), 0);
	assert_int_equal(set_up(gone, 0, READ, 0), 0);
	hk_fuse_server_save(fc.server, &w);
	assert_int_equal(fc_release(&fc, node, fh), 0);
	hk_fuse_server_save(fc.server, &mapped_only);
	assert_int_equal(unlinkat(fc.inside_fd, "gone", 0), 0);

	fc_again(&again, &fc, &shared);
	assert_int_equal(restore(&again, &w), 0);
	again.window[2 * SLOT] = 'j';
	assert_true(fc_host_has(fc.inside, "f", "jello"));
	assert_int_equal(again.window[0], 0); /* what is lost shows as zeroes */
	assert_false(can_read(&again, SLOT));
	/* And all of it goes with another restore. */
	assert_int_equal(restore(&again, &none), 0);
	assert_false(can_read(&again, 0));
	assert_false(can_read(&again, 2 * SLOT));
	fc_drop(&again);

	/* Where there is no window, and where it would be a right nobody has. */
	fc_again(&again, &fc, NULL);
	assert_true(restore(&again, &w) < 0);
	assert_int_equal(restore(&again, &none), 0);
	fc_drop(&again);
	fc_again(&again, &fc, &(struct hk_fuse_export){.dax = true, .read_only = true});
	assert_true(restore(&again, &w) < 0); /* open to be written */
	assert_int_equal(restore(&again, &mapped_only), 0);
	assert_int_equal(again.window[2 * SLOT], 0); /* nor mapped so */
	fc_drop(&again);
	assert_true(fc_host_has(fc.inside, "f", "jello"));
	hk_writer_finish(&mapped_only);
	hk_writer_finish(&w);
	hk_writer_finish(&none);
	fc_stop(&fc);
}

/* Each stream that is cut, or has a byte changed, is refused or does no harm. */
static void test_broken_streams(void **state)
{
	struct hk_writer w = {0};
	struct fc again;
	uint64_t node;

	start(&shared);
	open_node("f", O_RDWR, &node);
	assert_int_equal(set_up(node, 0, READ | WRITE, 1), 0);
	hk_fuse_server_save(fc.server, &w);
	fc_again(&again, &fc, &shared);
	for (size_t i = 0; i < w.len; i++) {
		struct hk_writer cut = w;
		uint8_t byte = w.data[i];

		cut.len = i;
		assert_true(restore(&again, &cut) < 0);
		w.data[i] ^= 0xff;
		restore(&again, &w);
		w.data[i] = byte;
	}
	fc_drop(&again);
	hk_writer_finish(&w);
	fc_stop(&fc);
}

/* Writes to a mapping are no requests; what was mapped to be written counts as written. */
static void test_audit(void **state)
{
	struct hk_fuse_export export = {.dax = true};
	struct hk_err err = HK_ERR_INIT;
	struct hk_audit *audit;
	char path[] = "/tmp/hako-dax-XXXXXX";
	char text[8192];
	uint64_t node, fh;
	ssize_t len;
	int log_fd = mkstemp(path);

	assert_true(log_fd >= 0);
	unlink(path);
	assert_int_equal(
		hk_audit_create(&(struct hk_audit_options){.log_fd = log_fd}, &audit, &err), 0);
	export.audit = audit;
	start(&export);
	fh = open_node("f", O_RDWR, &node);
	assert_int_equal(fc_release(&fc, node, fh), 0);
	fh = open_node("f", O_RDWR, &node);
	assert_int_equal(set_up(node, 0, READ | WRITE, 0), 0);
	assert_int_equal(fc_release(&fc, node, fh), 0);
	/* Who opens it for one of both does not do the other. */
	fc_host_file(fc.inside, "read", "sevens.");
	fh = open_node("read", O_RDONLY, &node);
	assert_int_equal(fc_release(&fc, node, fh), 0);
	fc_host_file(fc.inside, "written", "nine nine");
	fh = open_node("written", O_WRONLY, &node);
	assert_int_equal(set_up(node, 0, WRITE, 1), 0);
	assert_int_equal(fc_release(&fc, node, fh), 0);
	assert_int_equal(hk_audit_finish(audit, &err), 0);
	len = pread(log_fd, text, sizeof(text) - 1, 0);
	assert_true(len > 0);
	text[len] = '\0';
	/* The first time nothing was mapped: nothing was written. */
	assert_non_null(strstr(text, "\"bytes_read\":5,\"bytes_written\":0"));
	assert_non_null(strstr(text, "\"bytes_read\":5,\"bytes_written\":5"));
	assert_non_null(strstr(text, "\"bytes_read\":7,\"bytes_written\":0,\"exact\":false"));
	assert_non_null(strstr(text, "\"bytes_read\":0,\"bytes_written\":9,\"exact\":false"));
	fc_stop(&fc);
	hk_audit_free(audit);
	close(log_fd);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_offered),
		cmocka_unit_test(test_shared),
		cmocka_unit_test(test_rights),
		cmocka_unit_test(test_rules),
		cmocka_unit_test(test_set_id),
		cmocka_unit_test(test_ranges),
		cmocka_unit_test(test_cut_short),
		cmocka_unit_test(test_dropped),
		cmocka_unit_test(test_moved),
		cmocka_unit_test(test_broken_streams),
		cmocka_unit_test(test_audit),
	};

	return cmocka_run_group_tests_name("fuse_dax", tests, NULL, NULL);
}
