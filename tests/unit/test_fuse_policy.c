/* SPDX-License-Identifier: ISC */
/*
 * Whose files show as whose, which inode numbers they have, and what sync(2) of a guest is worth.
 */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "base/util.h"
#include "fuse/server_impl.h"
#include "fuse_client.h"

enum { ME = 1000, MY_GROUP = 1000, ALSO_MINE = 2000, OTHER = 7 };

static gid_t groups[] = {ALSO_MINE};
static const struct hk_export lone = {.lone_user = true,
	.guest_uid = ME,
	.guest_gid = MY_GROUP,
	.groups = groups,
	.group_count = HK_ARRAY_SIZE(groups)};
static const struct hk_export usual = {.guest_uid = ME, .guest_gid = MY_GROUP};

/*
 * From which directories may he remove what is others'? From those he may write to, without the
 * sticky bit.
 */
static void test_free_dirs(void **state)
{
	static const struct {
		uint32_t mode, uid, gid;
		bool is_free;
	} cases[] = {
		{S_IFDIR | 0755, ME, OTHER, true},
		{S_IFDIR | 0555, ME, OTHER, false},
		{S_IFDIR | 01755, ME, OTHER, true}, /* his own: the bit does not hold him */
		{S_IFDIR | 0777, OTHER, OTHER, true},
		{S_IFDIR | 01777, OTHER, OTHER, false},
		{S_IFDIR | 0775, OTHER, ALSO_MINE, true},
		{S_IFDIR | 01775, OTHER, ALSO_MINE, false},
		{S_IFDIR | 0775, OTHER, OTHER, false},
		{S_IFDIR | 0755, OTHER, ALSO_MINE, false},
		{S_IFREG | 0666, ME, MY_GROUP, false},
	};

	(void)state;
	for (size_t i = 0; i < HK_ARRAY_SIZE(cases); i++) {
		struct hk_stat st = {
			.mode = cases[i].mode, .uid = cases[i].uid, .gid = cases[i].gid};

		assert_int_equal(hk_is_free_dir(&lone, &st), cases[i].is_free);
		assert_false(hk_is_free_dir(&usual, &st));
	}
}

/* What he may have a right to shows as his, for his kernel to ask us. */
static void test_owners_shown(void **state)
{
	static const struct {
		uint32_t mode, uid, gid;
		bool in_free_dir, is_his;
	} cases[] = {
		{S_IFREG | 0644, ME, OTHER, false, true},
		{S_IFREG | 0644, OTHER, OTHER, false, false},
		{S_IFREG | 0644, OTHER, OTHER, true, true},
		{S_IFREG | 0664, OTHER, OTHER, false, true},
		{S_IFREG | 0646, OTHER, OTHER, false, true},
		{S_IFREG | 0640, OTHER, ALSO_MINE, false, true},
		{S_IFLNK | 0777, OTHER, OTHER, false, false},
		{S_IFLNK | 0777, OTHER, OTHER, true, true},
	};

	(void)state;
	for (size_t i = 0; i < HK_ARRAY_SIZE(cases); i++) {
		struct hk_stat st = {
			.mode = cases[i].mode, .uid = cases[i].uid, .gid = cases[i].gid};
		uint32_t uid, gid;

		hk_show_owner(&lone, &st, cases[i].in_free_dir, &uid, &gid);
		assert_int_equal(uid, cases[i].is_his ? ME : cases[i].uid);
		assert_int_equal(gid, cases[i].is_his ? MY_GROUP : cases[i].gid);
		hk_show_owner(&usual, &st, cases[i].in_free_dir, &uid, &gid);
		assert_int_equal(uid, cases[i].uid);
		assert_int_equal(gid, cases[i].gid);
	}
}

/* One number on two devices is two files, and each keeps its own. */
static void test_inode_numbers(void **state)
{
	struct fc fc;
	uint64_t first, second;

	(void)state;
	fc_start(&fc, NULL, FC_FEATURES);
	first = hk_guest_ino(fc.server, 1 << 20, 12345);
	second = hk_guest_ino(fc.server, 1 << 21, 12345);
	assert_true(first != second);
	assert_true(hk_guest_ino(fc.server, 1 << 20, 12345) == first);
	assert_true(hk_guest_ino(fc.server, 1 << 21, 12345) == second);
	fc_stop(&fc);
}

static unsigned syncs;
static int sync_result;

static int count_sync(struct hk_backend *backend)
{
	(void)backend;
	syncs++;
	return sync_result;
}

static int syncfs(struct fc *fc)
{
	struct fuse_syncfs_in in = {0};

	return fc_call(
		fc, FUSE_SYNCFS, FUSE_ROOT_ID, &(struct fc_part){&in, sizeof(in)}, 1, NULL, 0)
		.error;
}

/* A guest's sync(2) reaches the host for each kind of change, once; and again where it failed. */
static void test_sync(void **state)
{
	struct fuse_setattr_in chmod_in = {.valid = FATTR_MODE, .mode = 0600};
	struct fuse_entry_out entry;
	struct fuse_open_out out;
	struct hk_backend *backend;
	struct hk_backend_ops ops;
	const struct hk_backend_ops *real;
	struct fc fc;
	uint64_t node;

	(void)state;
	fc_start(&fc, NULL, FC_FEATURES);
	backend = fc.server->exports[0].backend;
	real = backend->ops;
	ops = *real;
	ops.sync = count_sync;
	backend->ops = &ops;
	fc_host_file(fc.inside, "f", "text");
	node = fc_node(&fc, fc.root, "f");
	syncs = 0;
	sync_result = 0;
	assert_int_equal(syncfs(&fc), 0);
	assert_int_equal(syncs, 0); /* nothing was changed */
	assert_int_equal(fc_mkdir(&fc, fc.root, "d", &entry), 0);
	assert_int_equal(syncfs(&fc), 0);
	assert_int_equal(syncs, 1);
	assert_int_equal(fc_setattr(&fc, node, &chmod_in), 0);
	assert_int_equal(syncfs(&fc), 0);
	assert_int_equal(syncs, 2);
	assert_int_equal(syncfs(&fc), 0);
	assert_int_equal(syncs, 2);
	assert_int_equal(fc_open(&fc, node, O_WRONLY, &out), 0);
	assert_int_equal(syncfs(&fc), 0);
	syncs = 0;
	assert_int_equal(fc_write(&fc, node, out.fh, 0, "x", 1), 1);
	sync_result = -EIO;
	assert_int_equal(syncfs(&fc), -EIO);
	sync_result = 0;
	assert_int_equal(syncfs(&fc), 0);
	assert_int_equal(syncs, 2);
	assert_int_equal(syncfs(&fc), 0);
	assert_int_equal(syncs, 2);
	assert_int_equal(fc_release(&fc, node, out.fh), 0);
	backend->ops = real;
	fc_stop(&fc);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_free_dirs),
		cmocka_unit_test(test_owners_shown),
		cmocka_unit_test(test_inode_numbers),
		cmocka_unit_test(test_sync),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
