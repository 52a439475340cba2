/* SPDX-License-Identifier: ISC */
/* The FUSE server: what each request does, and what exports allow. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <cmocka.h>

#include <linux/fs.h>

#include "base/util.h"
#include "fuse_client.h"

static struct fc fc;

static int start(void **state)
{
	(void)state;
	fc_start(&fc, NULL, FC_FEATURES);
	return 0;
}

static int stop(void **state)
{
	(void)state;
	fc_stop(&fc);
	return 0;
}

static struct fc_reply call(
	uint32_t opcode, uint64_t node, const void *in, size_t in_len, void *out, size_t out_len)
{
	return fc_call(&fc, opcode, node, &(struct fc_part){in, in_len}, 1, out, out_len);
}

static void test_init(void **state)
{
	static const struct {
		uint32_t major, minor;
		size_t len;
		int error;
		uint32_t want_minor;
	} cases[] = {
		{7, 38, sizeof(struct fuse_init_in), 0, 38},
		{7, 45, sizeof(struct fuse_init_in), 0, 45},
		{7, 99, sizeof(struct fuse_init_in), 0, 45},
		{7, 31, 16, 0, 31},
		{7, 36, 16, 0, 36},
		{7, 30, 16, -EPROTO, 0},
		{7, 0, 16, -EPROTO, 0},
		{6, 99, 16, -EPROTO, 0},
		{8, 0, 16, 0, 45},
		{7, 38, 15, -EPROTO, 0},
		{7, 38, 0, -EPROTO, 0},
	};

	for (size_t i = 0; i < HK_ARRAY_SIZE(cases); i++) {
		struct fuse_init_in in = {.major = cases[i].major,
			.minor = cases[i].minor,
			.flags = ~0u,
			.flags2 = ~0u};
		struct fuse_init_out out = {0};
		struct fc_reply r = call(FUSE_INIT, 0, &in, cases[i].len, &out, sizeof(out));

		assert_int_equal(r.error, cases[i].error);
		if (r.error == 0) {
			assert_int_equal(out.major, 7);
			assert_int_equal(out.minor, cases[i].want_minor);
		}
		if (r.error == 0 && cases[i].major == 7) {
			assert_int_equal(out.max_write, 1 << 20);
			assert_int_equal(out.max_pages, 256);
			/* What server.c says we leave to the guest, or out. */
			assert_int_equal(out.flags &
					(FUSE_POSIX_LOCKS | FUSE_FLOCK_LOCKS | FUSE_POSIX_ACL |
						FUSE_WRITEBACK_CACHE | FUSE_EXPORT_SUPPORT |
						FUSE_SUBMOUNTS),
				0);
			assert_true((out.flags & FUSE_HANDLE_KILLPRIV_V2) != 0);
		}
	}
}

static void test_before_init(void **state)
{
	struct fuse_getattr_in in = {0};
	struct fuse_attr_out out;

	hk_fuse_server_reset(fc.server);
	assert_int_equal(call(FUSE_GETATTR, 1, &in, sizeof(in), &out, sizeof(out)).error, -EIO);
	fc_forget(&fc, 1, 1);
}

/* These must be ENOSYS: the guest's kernel then never asks again, or does it itself. */
static void test_not_implemented(void **state)
{
	static const uint32_t opcodes[] = {0, 7, 19, FUSE_FLUSH, FUSE_ACCESS, FUSE_BMAP, FUSE_POLL,
		FUSE_GETLK, FUSE_SETLK, FUSE_SETLKW, FUSE_INTERRUPT, FUSE_SETUPMAPPING,
		FUSE_REMOVEMAPPING, FUSE_OPENDIR, 52, 99, 4096, UINT32_MAX};
	char body[128] = {0};
	char out[256];

	for (size_t i = 0; i < HK_ARRAY_SIZE(opcodes); i++) {
		assert_int_equal(
			call(opcodes[i], fc.root, body, sizeof(body), out, sizeof(out)).error,
			-ENOSYS);
	}
	assert_int_equal(
		call(FUSE_IOCTL, fc.root, body, sizeof(body), out, sizeof(out)).error, -ENOTTY);
}

static void test_lookup(void **state)
{
	struct fuse_entry_out entry;
	struct fuse_entry_out again;
	struct fuse_attr attr;

	fc_host_file(fc.inside, "a", "hello");
	assert_int_equal(fc_lookup(&fc, fc.root, "a", &entry), 0);
	assert_int_equal(entry.attr.size, 5);
	assert_true(S_ISREG(entry.attr.mode));
	assert_int_equal(entry.entry_valid, 1);
	assert_int_equal(entry.attr_valid, 1);
	assert_int_equal(fc_lookup(&fc, fc.root, "a", &again), 0);
	assert_int_equal(again.nodeid, entry.nodeid);
	assert_int_equal(fc_lookup(&fc, fc.root, "none", &again), -ENOENT);
	assert_int_equal(again.entry_valid, 1); /* a negative entry */

	/* Two lookups, two to forget. */
	fc_forget(&fc, entry.nodeid, 1);
	assert_int_equal(fc_getattr(&fc, entry.nodeid, &attr), 0);
	fc_forget(&fc, entry.nodeid, 1);
	assert_int_equal(fc_getattr(&fc, entry.nodeid, &attr), -ESTALE);
	assert_int_equal(fc_lookup(&fc, fc.root, "a", &again), 0);
	assert_true(again.nodeid != entry.nodeid); /* never the same id for two lives */

	assert_int_equal(fc_lookup(&fc, FUSE_ROOT_ID, "x", &entry), 0);
	assert_int_equal(entry.nodeid, fc.root);
	assert_int_equal(fc_lookup(&fc, FUSE_ROOT_ID, "y", &entry), -ENOENT);
	assert_int_equal(fc_getattr(&fc, FUSE_ROOT_ID, &attr), 0);
	assert_int_equal(attr.mode, S_IFDIR | 0555);
	/* Roots cannot be forgotten. */
	fc_forget(&fc, FUSE_ROOT_ID, UINT64_MAX);
	fc_forget(&fc, fc.root, UINT64_MAX);
	assert_int_equal(fc_getattr(&fc, FUSE_ROOT_ID, &attr), 0);
	assert_int_equal(fc_getattr(&fc, fc.root, &attr), 0);
	assert_int_equal(fc_lookup(&fc, again.nodeid, "x", &entry), -ENOTDIR);
}

static void test_batch_forget(void **state)
{
	struct fuse_batch_forget_in head = {.count = 3};
	struct fuse_forget_one list[3] = {{0}};
	struct fc_part parts[] = {{&head, sizeof(head)}, {list, sizeof(list)}};
	struct fuse_attr attr;

	fc_host_file(fc.inside, "a", "");
	fc_host_file(fc.inside, "b", "");
	list[0] = (struct fuse_forget_one){fc_node(&fc, fc.root, "a"), 1};
	list[1] = (struct fuse_forget_one){UINT64_C(0x1234567890), 7}; /* made up */
	list[2] =
		(struct fuse_forget_one){fc_node(&fc, fc.root, "b"), 99}; /* more than there are */
	fc_call(&fc, FUSE_BATCH_FORGET, 0, parts, 2, NULL, 0);
	assert_int_equal(fc_getattr(&fc, list[0].nodeid, &attr), -ESTALE);
	assert_int_equal(fc_getattr(&fc, list[2].nodeid, &attr), -ESTALE);
	head.count = UINT32_MAX; /* a lie */
	fc_call(&fc, FUSE_BATCH_FORGET, 0, parts, 2, NULL, 0);
}

static void test_files(void **state)
{
	struct fuse_open_out open;
	uint64_t node;
	uint64_t other;
	uint64_t fh;
	char buf[32];

	assert_int_equal(fc_create(&fc, fc.root, "f", O_RDWR | O_EXCL, 0640, &node, &fh), 0);
	assert_int_equal(fc_create(&fc, fc.root, "f", O_RDWR | O_EXCL, 0640, &other, &fh), -EEXIST);
	assert_int_equal(fc_write(&fc, node, fh, 0, "hello", 5), 5);
	assert_int_equal(fc_write(&fc, node, fh, 7, "!", 1), 1);
	assert_int_equal(fc_read(&fc, node, fh, 0, buf, sizeof(buf)), 8);
	assert_memory_equal(buf, "hello\0\0!", 8);
	assert_int_equal(fc_read(&fc, node, fh, 8, buf, sizeof(buf)), 0);
	assert_int_equal(fc_read(&fc, node, fh, UINT64_C(1) << 63, buf, sizeof(buf)), -EINVAL);
	assert_int_equal(fc_read(&fc, node, fh, 0, buf, 0), 0);
	assert_int_equal(fc_write(&fc, node, fh, UINT64_MAX, "x", 1), -EINVAL);

	/* The handle belongs to its node. */
	assert_int_equal(fc_read(&fc, fc.root, fh, 0, buf, 1), -EBADF);
	assert_int_equal(fc_release(&fc, fc.root, fh), -EBADF);
	assert_int_equal(fc_release(&fc, node, fh), 0);
	assert_int_equal(fc_release(&fc, node, fh), -EBADF);
	assert_int_equal(fc_read(&fc, node, fh, 0, buf, 1), -EBADF);
	assert_int_equal(fc_write(&fc, node, fh, 0, buf, 1), -EBADF);

	assert_int_equal(fc_open(&fc, node, O_RDONLY, &open), 0);
	assert_true(open.fh != fh);
	assert_int_equal(fc_write(&fc, node, open.fh, 0, "x", 1), -EBADF);
	fc_release(&fc, node, open.fh);
	assert_int_equal(fc_open(&fc, node, O_WRONLY | O_TRUNC, &open), 0);
	assert_int_equal(fc_read(&fc, node, open.fh, 0, buf, 1), -EBADF);
	fc_release(&fc, node, open.fh);
	assert_true(fc_host_has(fc.inside, "f", ""));

	/* CREATE of what is there already, without O_EXCL, as a race would have it. */
	fc_host_file(fc.inside, "there", "content");
	assert_int_equal(fc_create(&fc, fc.root, "there", O_RDONLY, 0644, &node, &fh), 0);
	assert_int_equal(fc_read(&fc, node, fh, 0, buf, sizeof(buf)), 7);
	fc_release(&fc, node, fh);
}

static void test_append(void **state)
{
	struct fuse_write_in in = {
		.size = 1, .write_flags = FUSE_WRITE_CACHE, .flags = O_RDWR | O_APPEND};
	struct fc_part parts[] = {{&in, sizeof(in)}, {"X", 1}};
	struct fuse_write_out out;
	uint64_t node;

	fc.file_flags = O_RDWR | O_APPEND;
	assert_int_equal(fc_create(&fc, fc.root, "log", O_RDWR | O_APPEND, 0644, &node, &in.fh), 0);
	assert_int_equal(fc_write(&fc, node, in.fh, 0, "one", 3), 3);
	assert_int_equal(fc_write(&fc, node, in.fh, 0, "two", 3), 3);
	assert_true(fc_host_has(fc.inside, "log", "onetwo"));
	/* A page of a mapping goes where it belongs. */
	assert_int_equal(fc_call(&fc, FUSE_WRITE, node, parts, 2, &out, sizeof(out)).error, 0);
	assert_true(fc_host_has(fc.inside, "log", "Xnetwo"));
}

static void test_never_opens_special_files(void **state)
{
	struct fuse_open_out open;
	uint64_t node;
	uint64_t fh;
	struct fuse_entry_out entry;

	assert_int_equal(mkfifoat(fc.inside_fd, "fifo", 0666), 0);
	assert_int_equal(symlinkat("/etc/passwd", fc.inside_fd, "link"), 0);
	assert_int_equal(mkdirat(fc.inside_fd, "dir", 0755), 0);
	/* These would block, if they were opened. */
	assert_int_equal(fc_open(&fc, fc_node(&fc, fc.root, "fifo"), O_RDONLY, &open), -ENXIO);
	assert_int_equal(fc_open(&fc, fc_node(&fc, fc.root, "fifo"), O_WRONLY, &open), -ENXIO);
	assert_int_equal(fc_create(&fc, fc.root, "fifo", O_RDONLY, 0644, &node, &fh), -ENXIO);
	assert_int_equal(fc_open(&fc, fc_node(&fc, fc.root, "link"), O_RDONLY, &open), -ELOOP);
	assert_int_equal(fc_create(&fc, fc.root, "link", O_RDONLY, 0644, &node, &fh), -ELOOP);
	assert_int_equal(fc_open(&fc, fc_node(&fc, fc.root, "dir"), O_RDONLY, &open), -EISDIR);
	assert_int_equal(fc_open(&fc, FUSE_ROOT_ID, O_RDONLY, &open), -EISDIR);
	if (getuid() == 0 && mknodat(fc.inside_fd, "null", S_IFCHR | 0666, makedev(1, 3)) == 0) {
		assert_int_equal(fc_lookup(&fc, fc.root, "null", &entry), 0);
		assert_int_equal(entry.attr.rdev, (1 << 8) | 3);
		assert_int_equal(fc_open(&fc, entry.nodeid, O_RDONLY, &open), -ENXIO);
	}
}

static void test_make_and_remove(void **state)
{
	struct fuse_mknod_in in = {.mode = S_IFIFO | 0600};
	struct fc_part parts[] = {{&in, sizeof(in)}, {"p", 2}};
	struct fuse_entry_out entry;
	struct fuse_entry_out dir;
	struct fuse_attr attr;
	char target[64];
	struct fc_reply r;

	assert_int_equal(fc_mkdir(&fc, fc.root, "d", &dir), 0);
	assert_int_equal(fc_mkdir(&fc, fc.root, "d", &entry), -EEXIST);
	assert_int_equal(fc_mkdir(&fc, dir.nodeid, "e", &entry), 0);
	assert_int_equal(fc_name_op(&fc, FUSE_RMDIR, fc.root, "d"), -ENOTEMPTY);
	assert_int_equal(fc_name_op(&fc, FUSE_UNLINK, fc.root, "d"), -EISDIR);
	assert_int_equal(fc_name_op(&fc, FUSE_RMDIR, dir.nodeid, "e"), 0);
	assert_int_equal(
		fc_getattr(&fc, entry.nodeid, &attr), 0); /* still somebody's current directory */
	assert_int_equal(attr.nlink, 0);
	assert_int_equal(fc_name_op(&fc, FUSE_RMDIR, fc.root, "d"), 0);
	assert_int_equal(fc_name_op(&fc, FUSE_RMDIR, fc.root, "d"), -ENOENT);

	assert_int_equal(
		fc_call(&fc, FUSE_MKNOD, fc.root, parts, 2, &entry, sizeof(entry)).error, 0);
	assert_true(S_ISFIFO(entry.attr.mode));
	in.mode = S_IFDIR | 0755;
	assert_int_equal(
		fc_call(&fc, FUSE_MKNOD, fc.root, parts, 2, &entry, sizeof(entry)).error, -EINVAL);

	assert_int_equal(fc_symlink(&fc, fc.root, "s", "/else/where"), 0);
	r = call(FUSE_READLINK, fc_node(&fc, fc.root, "s"), NULL, 0, target, sizeof(target));
	assert_int_equal(r.error, 0);
	assert_int_equal(r.len, 11);
	assert_memory_equal(target, "/else/where", 11);
	assert_int_equal(
		call(FUSE_READLINK, fc.root, NULL, 0, target, sizeof(target)).error, -EINVAL);

	fc_host_file(fc.inside, "f", "f");
	assert_int_equal(fc_link(&fc, fc_node(&fc, fc.root, "f"), fc.root, "g"), 0);
	assert_int_equal(fc_link(&fc, fc_node(&fc, fc.root, "f"), fc.root, "g"), -EEXIST);
	assert_int_equal(fc_node(&fc, fc.root, "f"), fc_node(&fc, fc.root, "g"));
	assert_int_equal(fc_name_op(&fc, FUSE_UNLINK, fc.root, "f"), 0);
	assert_int_equal(fc_getattr(&fc, fc_node(&fc, fc.root, "g"), &attr), 0);
	assert_int_equal(attr.nlink, 1);
}

static void test_rename(void **state)
{
	uint64_t a;
	uint64_t d;

	fc_host_file(fc.inside, "a", "a");
	fc_host_file(fc.inside, "b", "b");
	assert_int_equal(mkdirat(fc.inside_fd, "d", 0755), 0);
	a = fc_node(&fc, fc.root, "a");
	d = fc_node(&fc, fc.root, "d");
	assert_int_equal(fc_rename(&fc, fc.root, "a", fc.root, "b", RENAME_NOREPLACE), -EEXIST);
	assert_int_equal(fc_rename(&fc, fc.root, "a", fc.root, "b", RENAME_EXCHANGE), 0);
	assert_int_equal(fc_node(&fc, fc.root, "b"), a);
	assert_int_equal(fc_rename(&fc, fc.root, "b", d, "c", 0), 0);
	assert_int_equal(fc_node(&fc, d, "c"), a);
	assert_int_equal(fc_getattr(&fc, a, NULL), 0);
	assert_int_equal(fc_rename(&fc, fc.root, "none", d, "c", 0), -ENOENT);
	assert_int_equal(fc_rename(&fc, fc.root, "a", d, "c", 1u << 30), -EINVAL);
	assert_int_equal(fc_rename(&fc, FUSE_ROOT_ID, "x", d, "c", 0), -EROFS);
	assert_int_equal(fc_rename(&fc, fc.root, "a", FUSE_ROOT_ID, "c", 0), -EROFS);
	assert_int_equal(fc_rename(&fc, fc.root, "a", 424242, "c", 0), -ESTALE);
}

static void test_setattr(void **state)
{
	struct fuse_setattr_in in = {.valid = FATTR_MODE, .mode = 0601};
	struct fuse_attr attr;
	uint64_t node;
	uint64_t fh;

	assert_int_equal(fc_create(&fc, fc.root, "f", O_RDWR, 0644, &node, &fh), 0);
	assert_int_equal(fc_setattr(&fc, node, &in), 0);
	assert_int_equal(fc_getattr(&fc, node, &attr), 0);
	assert_int_equal(attr.mode & 07777, 0601);
	in = (struct fuse_setattr_in){.valid = FATTR_SIZE, .size = 100};
	assert_int_equal(fc_setattr(&fc, node, &in), 0);
	in = (struct fuse_setattr_in){.valid = FATTR_SIZE | FATTR_FH, .size = 7, .fh = fh};
	assert_int_equal(fc_setattr(&fc, node, &in), 0);
	assert_int_equal(fc_getattr(&fc, node, &attr), 0);
	assert_int_equal(attr.size, 7);
	in.fh++;
	assert_int_equal(fc_setattr(&fc, node, &in), -EBADF);
	in = (struct fuse_setattr_in){.valid = FATTR_SIZE, .size = UINT64_MAX};
	assert_int_equal(fc_setattr(&fc, node, &in), -EFBIG);
	in = (struct fuse_setattr_in){
		.valid = FATTR_MTIME | FATTR_ATIME_NOW, .mtime = 5, .mtimensec = 6};
	assert_int_equal(fc_setattr(&fc, node, &in), 0);
	assert_int_equal(fc_getattr(&fc, node, &attr), 0);
	assert_int_equal(attr.mtime, 5);
	assert_int_equal(attr.mtimensec, 6);
	assert_true(attr.atime > 1000000);
	/* Numbers that mean something to utimensat() are not the guest's to use. */
	in = (struct fuse_setattr_in){.valid = FATTR_MTIME, .mtimensec = UTIME_NOW};
	assert_int_equal(fc_setattr(&fc, node, &in), -EINVAL);
	in = (struct fuse_setattr_in){.valid = FATTR_ATIME, .atimensec = UTIME_OMIT};
	assert_int_equal(fc_setattr(&fc, node, &in), -EINVAL);
	in = (struct fuse_setattr_in){.valid = FATTR_MODE, .mode = 0777};
	assert_int_equal(fc_setattr(&fc, FUSE_ROOT_ID, &in), -EROFS);
}

static int set_xattr(uint64_t node, const char *name, const char *value)
{
	struct fuse_setxattr_in in = {.size = (uint32_t)strlen(value)};
	struct fc_part parts[] = {{&in, FUSE_COMPAT_SETXATTR_IN_SIZE}, {name, strlen(name) + 1},
		{value, strlen(value)}};

	return fc_call(&fc, FUSE_SETXATTR, node, parts, 3, NULL, 0).error;
}

static int get_xattr(uint64_t node, const char *name, void *buf, uint32_t size)
{
	struct fuse_getxattr_in in = {.size = size};
	struct fc_part parts[] = {{&in, sizeof(in)}, {name, strlen(name) + 1}};
	struct fc_reply r = fc_call(&fc, FUSE_GETXATTR, node, parts, 2, buf, size == 0 ? 8 : size);

	return r.error < 0 ? r.error : (int)r.len;
}

static void test_xattrs(void **state)
{
	struct fuse_getxattr_in in = {.size = 100};
	struct fuse_getxattr_out out;
	char buf[100];
	uint64_t node;

	fc_host_file(fc.inside, "f", "");
	node = fc_node(&fc, fc.root, "f");
	if (set_xattr(node, "user.a", "value") == -EOPNOTSUPP) {
		skip();
	}
	assert_int_equal(get_xattr(node, "user.a", buf, sizeof(buf)), 5);
	assert_memory_equal(buf, "value", 5);
	assert_int_equal(get_xattr(node, "user.a", &out, 0), sizeof(out));
	assert_int_equal(out.size, 5);
	assert_int_equal(get_xattr(node, "user.a", buf, 2), -ERANGE);
	assert_int_equal(get_xattr(node, "user.b", buf, 2), -ENODATA);
	assert_int_equal(get_xattr(node, "system.posix_acl_access", buf, 2), -EOPNOTSUPP);
	assert_int_equal(set_xattr(node, "system.posix_acl_access", "x"), -EOPNOTSUPP);
	assert_int_equal(set_xattr(node, "security.selinux", "x"), -EOPNOTSUPP);
	assert_int_equal(get_xattr(node, "security.capability", buf, sizeof(buf)), -ENODATA);
	assert_int_equal(get_xattr(FUSE_ROOT_ID, "user.a", buf, sizeof(buf)), -ENODATA);
	assert_int_equal(call(FUSE_LISTXATTR, node, &in, sizeof(in), buf, sizeof(buf)).len, 7);
	assert_memory_equal(buf, "user.a", 7);
	in.size = 3;
	assert_int_equal(
		call(FUSE_LISTXATTR, node, &in, sizeof(in), buf, sizeof(buf)).error, -ERANGE);
	assert_int_equal(fc_name_op(&fc, FUSE_REMOVEXATTR, node, "user.a"), 0);
	assert_int_equal(fc_name_op(&fc, FUSE_REMOVEXATTR, node, "user.a"), -ENODATA);
	in.size = 100;
	assert_int_equal(call(FUSE_LISTXATTR, node, &in, sizeof(in), buf, sizeof(buf)).len, 0);
}

/* What a node stands for lives on under another name, whoever gave it that. */
static void test_removed_with_further_names(void **state)
{
	struct fuse_entry_out sub;
	struct fuse_attr attr;
	uint64_t node, fh;

	assert_int_equal(fc_mkdir(&fc, fc.root, "sub", &sub), 0);
	/* The host's, in two directories, of which the guest has seen one. */
	fc_host_file(fc.inside, "f", "");
	assert_int_equal(linkat(fc.inside_fd, "f", fc.inside_fd, "sub/f", 0), 0);
	node = fc_node(&fc, fc.root, "f");
	assert_int_equal(fc_name_op(&fc, FUSE_UNLINK, fc.root, "f"), 0);
	assert_int_equal(fc_getattr(&fc, node, &attr), 0);
	assert_int_equal(attr.nlink, 1);
	/* Known with one name; the host gives it another, and the guest sees that there are two. */
	fc_host_file(fc.inside, "g", "");
	node = fc_node(&fc, fc.root, "g");
	assert_int_equal(linkat(fc.inside_fd, "g", fc.inside_fd, "sub/g", 0), 0);
	assert_int_equal(fc_getattr(&fc, node, &attr), 0);
	assert_int_equal(fc_name_op(&fc, FUSE_UNLINK, fc.root, "g"), 0);
	assert_int_equal(fc_getattr(&fc, node, &attr), 0);
	/* The guest's own, whichever goes first, and after a move. */
	for (unsigned first = 0; first < 3; first++) {
		assert_int_equal(
			fc_create(&fc, fc.root, "h", O_WRONLY | O_CREAT, 0644, &node, &fh), 0);
		fc_release(&fc, node, fh);
		assert_int_equal(fc_link(&fc, node, sub.nodeid, "h"), 0);
		if (first == 2) {
			assert_int_equal(fc_rename(&fc, sub.nodeid, "h", fc.root, "i", 0), 0);
			assert_int_equal(fc_name_op(&fc, FUSE_UNLINK, fc.root, "i"), 0);
		} else {
			assert_int_equal(fc_name_op(&fc, FUSE_UNLINK,
						 first == 0 ? fc.root : sub.nodeid, "h"),
				0);
		}
		assert_int_equal(fc_getattr(&fc, node, &attr), 0);
		assert_int_equal(
			fc_name_op(&fc, FUSE_UNLINK, first == 0 ? sub.nodeid : fc.root, "h"), 0);
	}
}

static void set_host_xattr(const char *name, const char *value)
{
	int fd = openat(fc.inside_fd, name, O_RDONLY | O_CLOEXEC);

	assert_true(fd >= 0);
	if (fsetxattr(fd, "user.a", value, strlen(value), 0) < 0) {
		close(fd);
		skip();
	}
	close(fd);
}

/* Of what was never opened attributes are told by its name: but its own only. */
static void test_xattrs_by_name(void **state)
{
	struct fuse_entry_out link;
	char buf[100];
	uint64_t node;

	fc_host_file(fc.inside, "f", "");
	fc_host_file(fc.inside, "g", "");
	set_host_xattr("f", "value");
	set_host_xattr("g", "other");
	assert_int_equal(symlinkat("f", fc.inside_fd, "link"), 0);
	node = fc_node(&fc, fc.root, "f");
	assert_int_equal(get_xattr(node, "user.a", buf, sizeof(buf)), 5);
	assert_memory_equal(buf, "value", 5);
	assert_int_equal(fc_lookup(&fc, fc.root, "link", &link), 0);
	assert_int_equal(get_xattr(link.nodeid, "user.a", buf, sizeof(buf)), -ENODATA);
	/* Another file has the name now. */
	assert_int_equal(renameat(fc.inside_fd, "g", fc.inside_fd, "f"), 0);
	assert_int_equal(get_xattr(node, "user.a", buf, sizeof(buf)), -ESTALE);
	assert_int_equal(get_xattr(fc_node(&fc, fc.root, "f"), "user.a", buf, sizeof(buf)), 5);
	assert_memory_equal(buf, "other", 5);
}

static void test_space_and_copy(void **state)
{
	struct fuse_fallocate_in allocate = {.length = 8192};
	struct fuse_lseek_in seek = {.whence = SEEK_DATA};
	struct fuse_copy_file_range_in copy = {.len = UINT64_MAX};
	struct fuse_fsync_in sync = {0};
	struct fuse_syncfs_in syncfs = {0};
	struct fuse_write_out written;
	struct fuse_lseek_out at;
	struct fuse_attr attr;
	uint64_t from;
	uint64_t to;

	assert_int_equal(fc_create(&fc, fc.root, "from", O_RDWR, 0644, &from, &copy.fh_in), 0);
	assert_int_equal(fc_create(&fc, fc.root, "to", O_RDWR, 0644, &to, &copy.fh_out), 0);
	assert_int_equal(fc_write(&fc, from, copy.fh_in, 0, "0123456789", 10), 10);
	copy.nodeid_out = to;
	copy.off_in = 5;
	assert_int_equal(
		call(FUSE_COPY_FILE_RANGE, from, &copy, sizeof(copy), &written, sizeof(written))
			.error,
		0);
	assert_int_equal(written.size, 5);
	assert_true(fc_host_has(fc.inside, "to", "56789"));
	copy.fh_out++;
	assert_int_equal(
		call(FUSE_COPY_FILE_RANGE, from, &copy, sizeof(copy), &written, sizeof(written))
			.error,
		-EBADF);

	allocate.fh = copy.fh_in;
	assert_int_equal(call(FUSE_FALLOCATE, from, &allocate, sizeof(allocate), NULL, 0).error, 0);
	assert_int_equal(fc_getattr(&fc, from, &attr), 0);
	assert_int_equal(attr.size, 8192);
	seek.fh = copy.fh_in;
	assert_int_equal(call(FUSE_LSEEK, from, &seek, sizeof(seek), &at, sizeof(at)).error, 0);
	assert_int_equal(at.offset, 0);
	seek.offset = 100000;
	assert_int_equal(
		call(FUSE_LSEEK, from, &seek, sizeof(seek), &at, sizeof(at)).error, -ENXIO);
	seek.whence = SEEK_SET;
	assert_int_equal(
		call(FUSE_LSEEK, from, &seek, sizeof(seek), &at, sizeof(at)).error, -EINVAL);
	sync.fh = copy.fh_in;
	assert_int_equal(call(FUSE_FSYNC, from, &sync, sizeof(sync), NULL, 0).error, 0);
	assert_int_equal(
		call(FUSE_FSYNCDIR, fc.root, &(struct fuse_fsync_in){0}, sizeof(sync), NULL, 0)
			.error,
		0);
	assert_int_equal(
		call(FUSE_FSYNCDIR, from, &(struct fuse_fsync_in){0}, sizeof(sync), NULL, 0).error,
		-ENOTDIR);
	assert_int_equal(
		call(FUSE_SYNCFS, FUSE_ROOT_ID, &syncfs, sizeof(syncfs), NULL, 0).error, 0);
}

static void test_statfs(void **state)
{
	struct fuse_statfs_out out;

	assert_int_equal(call(FUSE_STATFS, fc.root, NULL, 0, &out, sizeof(out)).error, 0);
	assert_int_equal(out.st.namelen, 255);
	assert_true(out.st.blocks > 0);
	assert_int_equal(call(FUSE_STATFS, FUSE_ROOT_ID, NULL, 0, &out, sizeof(out)).error, 0);
}

static void test_tmpfile(void **state)
{
	struct fuse_create_in in = {.flags = O_RDWR, .mode = S_IFREG | 0600};
	struct fc_part parts[] = {{&in, sizeof(in)}, {"/", 2}}; /* as Linux sends it */
	struct {
		struct fuse_entry_out entry;
		struct fuse_open_out open;
	} out;
	struct fuse_attr attr;
	struct fc_reply r = fc_call(&fc, FUSE_TMPFILE, fc.root, parts, 2, &out, sizeof(out));

	if (r.error == -EOPNOTSUPP) {
		skip();
	}
	assert_int_equal(r.error, 0);
	assert_int_equal(fc_write(&fc, out.entry.nodeid, out.open.fh, 0, "tmp", 3), 3);
	assert_int_equal(fc_getattr(&fc, out.entry.nodeid, &attr), 0);
	assert_int_equal(attr.nlink, 0);
	assert_int_equal(fc_link(&fc, out.entry.nodeid, fc.root, "kept"), 0);
	assert_true(fc_host_has(fc.inside, "kept", "tmp"));
	fc_release(&fc, out.entry.nodeid, out.open.fh);
	assert_int_equal(fc_getattr(&fc, out.entry.nodeid, &attr), 0);
}

/* The guest may keep its cache if and only if the file is what it was told. */
static void test_keep_cache(void **state)
{
	struct fuse_open_out open;
	struct fuse_entry_out entry;

	fc_host_file(fc.inside, "f", "old");
	usleep(30000); /* a fresh mtime proves nothing */
	assert_int_equal(fc_lookup(&fc, fc.root, "f", &entry), 0);
	assert_int_equal(fc_open(&fc, entry.nodeid, O_RDONLY, &open), 0);
	assert_true((open.open_flags & FOPEN_KEEP_CACHE) != 0);
	fc_host_file(fc.inside, "f", "new");
	usleep(30000);
	assert_int_equal(fc_open(&fc, entry.nodeid, O_RDONLY, &open), 0);
	assert_int_equal(open.open_flags & FOPEN_KEEP_CACHE, 0);
	assert_int_equal(fc_open(&fc, entry.nodeid, O_RDONLY, &open), 0);
	assert_true((open.open_flags & FOPEN_KEEP_CACHE) != 0);
	fc_host_file(fc.inside, "f", "hot");
	assert_int_equal(fc_getattr(&fc, entry.nodeid, NULL), 0);
	assert_int_equal(fc_open(&fc, entry.nodeid, O_RDONLY, &open), 0);
	assert_int_equal(open.open_flags & FOPEN_KEEP_CACHE, 0); /* could change again unseen */
}

/* A directory that was listed while it changed shows another mtime afterwards, so that the guest
 * lists it again. */
static void test_hot_listing(void **state)
{
	struct fuse_attr before;
	struct fuse_attr after;
	struct fuse_entry_out dir;
	struct stat st;
	char buf[4096];

	assert_int_equal(fc_mkdir(&fc, fc.root, "d", &dir), 0);
	assert_true(fc_readdir(&fc, dir.nodeid, 0, 0, false, buf, sizeof(buf)) > 0);
	assert_int_equal(fc_getattr(&fc, dir.nodeid, &before), 0);
	usleep(50000);
	assert_int_equal(fc_getattr(&fc, dir.nodeid, &after), 0);
	assert_int_equal(fstatat(fc.inside_fd, "d", &st, 0), 0);
	assert_true(after.mtimensec != (uint32_t)st.st_mtim.tv_nsec);
	assert_true(fc_readdir(&fc, dir.nodeid, 0, 0, false, buf, sizeof(buf)) > 0);
	assert_int_equal(fc_getattr(&fc, dir.nodeid, &after), 0);
	assert_int_equal(after.mtimensec, st.st_mtim.tv_nsec);
}

struct change {
	const char *what;
	int (*run)(uint64_t file, uint64_t dir);
};

static int change_setattr(uint64_t file, uint64_t dir)
{
	return fc_setattr(&fc, file, &(struct fuse_setattr_in){.valid = FATTR_MODE, .mode = 0600});
}

static int change_create(uint64_t file, uint64_t dir)
{
	uint64_t node;
	uint64_t fh;

	return fc_create(&fc, dir, "new", O_RDWR, 0644, &node, &fh);
}

static int change_open_write(uint64_t file, uint64_t dir)
{
	return fc_open(&fc, file, O_WRONLY, &(struct fuse_open_out){0});
}

static int change_open_truncate(uint64_t file, uint64_t dir)
{
	return fc_open(&fc, file, O_RDONLY | O_TRUNC, &(struct fuse_open_out){0});
}

static int change_mkdir(uint64_t file, uint64_t dir)
{
	return fc_mkdir(&fc, dir, "new", &(struct fuse_entry_out){0});
}

static int change_unlink(uint64_t file, uint64_t dir)
{
	return fc_name_op(&fc, FUSE_UNLINK, dir, "f");
}

static int change_rmdir(uint64_t file, uint64_t dir)
{
	return fc_name_op(&fc, FUSE_RMDIR, dir, "sub");
}

static int change_rename(uint64_t file, uint64_t dir)
{
	return fc_rename(&fc, dir, "f", dir, "g", 0);
}

static int change_link(uint64_t file, uint64_t dir)
{
	return fc_link(&fc, file, dir, "g");
}

static int change_symlink(uint64_t file, uint64_t dir)
{
	return fc_symlink(&fc, dir, "g", "x");
}

static int change_mknod(uint64_t file, uint64_t dir)
{
	struct fuse_mknod_in in = {.mode = S_IFIFO | 0600};
	struct fc_part parts[] = {{&in, sizeof(in)}, {"p", 2}};
	struct fuse_entry_out out;

	return fc_call(&fc, FUSE_MKNOD, dir, parts, 2, &out, sizeof(out)).error;
}

static int change_tmpfile(uint64_t file, uint64_t dir)
{
	struct fuse_create_in in = {.flags = O_RDWR, .mode = S_IFREG | 0600};
	struct fc_part parts[] = {{&in, sizeof(in)}, {"/", 2}};
	char out[512];

	return fc_call(&fc, FUSE_TMPFILE, dir, parts, 2, out, sizeof(out)).error;
}

static int change_setxattr(uint64_t file, uint64_t dir)
{
	return set_xattr(file, "user.x", "x");
}

static int change_removexattr(uint64_t file, uint64_t dir)
{
	return fc_name_op(&fc, FUSE_REMOVEXATTR, file, "user.x");
}

static const struct change changes[] = {
	{"change attributes", change_setattr},
	{"create", change_create},
	{"write", change_open_write},
	{"write", change_open_truncate},
	{"create directory", change_mkdir},
	{"remove", change_unlink},
	{"remove directory", change_rmdir},
	{"rename", change_rename},
	{"link", change_link},
	{"create link", change_symlink},
	{"create", change_mknod},
	{"create", change_tmpfile},
	{"set extended attribute", change_setxattr},
	{"remove extended attribute", change_removexattr},
};

static void test_read_only(void **state)
{
	uint64_t dir;
	uint64_t file;
	struct fuse_open_out open;
	struct fuse_entry_out entry;
	char buf[8];

	fc_start(&fc, &(struct hk_fuse_export){.read_only = true, .cache = HK_FUSE_CACHE_LONG},
		FC_FEATURES);
	assert_int_equal(mkdirat(fc.inside_fd, "d", 0755), 0);
	assert_int_equal(mkdirat(fc.inside_fd, "d/sub", 0755), 0);
	fc_host_file(fc.inside, "d/f", "read me");
	dir = fc_node(&fc, fc.root, "d");
	file = fc_node(&fc, dir, "f");
	for (size_t i = 0; i < HK_ARRAY_SIZE(changes); i++) {
		unsigned before = fc.denials;

		assert_int_equal(changes[i].run(file, dir), -EROFS);
		assert_int_equal(fc.denials, before + 1);
		assert_string_equal(fc.denied_operation, changes[i].what);
		assert_int_equal(fc.denied_error, EROFS);
		assert_memory_equal(fc.denied_path, "d", 1);
	}
	assert_int_equal(change_create(file, dir), -EROFS);
	assert_string_equal(fc.denied_path, "d/new");
	assert_int_equal(fc_open(&fc, file, O_RDONLY, &open), 0);
	assert_true((open.open_flags & FOPEN_KEEP_CACHE) != 0);
	assert_int_equal(fc_read(&fc, file, open.fh, 0, buf, sizeof(buf)), 7);
	assert_int_equal(fc_write(&fc, file, open.fh, 0, buf, 1), -EBADF);
	assert_true(fc_host_has(fc.inside, "d/f", "read me"));
	assert_int_equal(fc_lookup(&fc, dir, "f", &entry), 0);
	assert_int_equal(entry.entry_valid, 86400);
	assert_int_equal(entry.attr_valid, 86400);
	assert_int_equal(fc_lookup(&fc, dir, "none", &entry), -ENOENT);
	assert_int_equal(entry.entry_valid, 86400);
	fc_stop(&fc);
}

static void test_public_only(void **state)
{
	struct fuse_entry_out entry;
	struct fuse_open_out open;
	char buf[4096];
	uint64_t node;

	fc_start(
		&fc, &(struct hk_fuse_export){.read_only = true, .public_only = true}, FC_FEATURES);
	fc_host_file(fc.inside, "public", "p");
	fc_host_file(fc.inside, "secret", "s");
	assert_int_equal(fchmodat(fc.inside_fd, "secret", 0640, 0), 0);
	assert_int_equal(mkdirat(fc.inside_fd, "closed", 0755), 0);
	fc_host_file(fc.inside, "closed/f", "f");
	assert_int_equal(fchmodat(fc.inside_fd, "closed", 0750, 0), 0);
	assert_int_equal(mkdirat(fc.inside_fd, "dropbox", 0755), 0);
	fc_host_file(fc.inside, "dropbox/f", "f");
	assert_int_equal(fchmodat(fc.inside_fd, "dropbox", 0711, 0), 0);
	assert_int_equal(symlinkat("secret", fc.inside_fd, "link"), 0);

	assert_int_equal(fc_open(&fc, fc_node(&fc, fc.root, "public"), O_RDONLY, &open), 0);
	assert_int_equal(fc_lookup(&fc, fc.root, "secret", &entry), 0); /* stat is fine */
	assert_int_equal(fc_open(&fc, entry.nodeid, O_RDONLY, &open), -EACCES);
	assert_string_equal(fc.denied_path, "secret");
	assert_string_equal(fc.denied_operation, "read");
	assert_int_equal(get_xattr(entry.nodeid, "user.a", buf, 10), -ENODATA);
	node = fc_node(&fc, fc.root, "closed");
	assert_true(node != 0);
	assert_int_equal(fc_lookup(&fc, node, "f", &entry), -EACCES);
	assert_string_equal(fc.denied_path, "closed/f");
	assert_int_equal(fc_readdir(&fc, node, 0, 0, false, buf, sizeof(buf)), -EACCES);
	assert_int_equal(fc_readdir(&fc, node, 0, 0, true, buf, sizeof(buf)), -EACCES);
	node = fc_node(&fc, fc.root, "dropbox");
	assert_int_equal(fc_readdir(&fc, node, 0, 0, false, buf, sizeof(buf)), -EACCES);
	assert_int_equal(fc_lookup(&fc, node, "f", &entry), 0);
	assert_int_equal(fc_open(&fc, entry.nodeid, O_RDONLY, &open), 0);
	assert_int_equal(
		call(FUSE_READLINK, fc_node(&fc, fc.root, "link"), NULL, 0, buf, sizeof(buf)).len,
		6);
	/* By the mode as it is now. */
	assert_int_equal(fchmodat(fc.inside_fd, "dropbox", 0700, 0), 0);
	assert_int_equal(fc_lookup(&fc, node, "f", &entry), -EACCES);
	fc_stop(&fc);
}

static void test_map_ids(void **state)
{
	struct hk_fuse_export export = {
		.map_ids = true,
		.host_uid = getuid(),
		.guest_uid = 1000,
		.host_gid = getgid(),
		.guest_gid = 2000,
	};
	struct fuse_setattr_in in = {.valid = FATTR_UID | FATTR_GID, .uid = 1000, .gid = 2000};
	struct fuse_attr attr;
	uint64_t node;
	uint64_t fh;
	struct stat st;

	fc_start(&fc, &export, FC_FEATURES);
	fc.uid = 1000;
	fc.gid = 2000;
	assert_int_equal(fc_create(&fc, fc.root, "f", O_RDWR, 0644, &node, &fh), 0);
	assert_int_equal(fstatat(fc.inside_fd, "f", &st, 0), 0);
	assert_int_equal(st.st_uid, getuid());
	assert_int_equal(st.st_gid, getgid());
	assert_int_equal(fc_getattr(&fc, node, &attr), 0);
	assert_int_equal(attr.uid, 1000);
	assert_int_equal(attr.gid, 2000);
	assert_int_equal(fc_setattr(&fc, node, &in), 0);
	assert_int_equal(fstatat(fc.inside_fd, "f", &st, 0), 0);
	assert_int_equal(st.st_uid, getuid());
	if (getuid() == 0) {
		in.uid = 0; /* is the host's 1000 */
		assert_int_equal(fc_setattr(&fc, node, &in), 0);
		assert_int_equal(fstatat(fc.inside_fd, "f", &st, 0), 0);
		assert_int_equal(st.st_uid, 1000);
		assert_int_equal(fc_getattr(&fc, node, &attr), 0);
		assert_int_equal(attr.uid, 0);
	}
	fc_stop(&fc);
}

static mode_t host_mode(const char *name)
{
	struct stat st;

	assert_int_equal(fstatat(fc.inside_fd, name, &st, AT_SYMLINK_NOFOLLOW), 0);
	return st.st_mode & 07777;
}

/* The guest's user is root's, or somebody's, on the host: he makes no program that runs as him. */
static void test_map_ids_no_setid(void **state)
{
	struct hk_fuse_export export = {
		.map_ids = true,
		.host_uid = getuid(),
		.guest_uid = 1000,
		.host_gid = getgid(),
		.guest_gid = 2000,
	};
	struct fuse_setattr_in in = {.valid = FATTR_MODE, .mode = 06755};
	struct fuse_mknod_in mknod_in = {.mode = S_IFREG | 06755};
	struct fuse_setxattr_in xattr_in = {.size = 4};
	struct fuse_setattr_in size_in = {.valid = FATTR_SIZE, .size = 1};
	struct fuse_entry_out entry;
	uint64_t node;
	uint64_t fh;

	fc_start(&fc, &export, FC_FEATURES);
	fc.uid = 1000;
	fc.gid = 2000;
	assert_int_equal(fc_create(&fc, fc.root, "f", O_RDWR, 06755, &node, &fh), 0);
	assert_int_equal(host_mode("f"), 0755);
	assert_int_equal(fc_setattr(&fc, node, &in), 0);
	assert_int_equal(host_mode("f"), 0755);
	assert_int_equal(fc_call(&fc, FUSE_MKNOD, fc.root,
				 (struct fc_part[]){{&mknod_in, sizeof(mknod_in)}, {"n", 2}}, 2,
				 &entry, sizeof(entry))
				 .error,
		0);
	assert_int_equal(host_mode("n"), 0755);
	assert_int_equal(fc_call(&fc, FUSE_SETXATTR, node,
				 (struct fc_part[]){{&xattr_in, FUSE_COMPAT_SETXATTR_IN_SIZE},
					 {"security.capability", sizeof("security.capability")},
					 {"caps", 4}},
				 3, NULL, 0)
				 .error,
		-EPERM);
	/* What has the bits already loses them with its content, though the guest does not ask. */
	assert_int_equal(fchmodat(fc.inside_fd, "f", 06755, 0), 0);
	assert_int_equal(fc_getattr(&fc, node, NULL), 0);
	assert_int_equal(fc_write(&fc, node, fh, 0, "text", 4), 4);
	assert_int_equal(host_mode("f"), 0755);
	assert_int_equal(fchmodat(fc.inside_fd, "f", 06755, 0), 0);
	assert_int_equal(fc_getattr(&fc, node, NULL), 0);
	assert_int_equal(fc_setattr(&fc, node, &size_in), 0);
	assert_int_equal(host_mode("f"), 0755);
	fc_release(&fc, node, fh);
	/* A directory keeps its own. */
	assert_int_equal(fc_mkdir(&fc, fc.root, "d", &entry), 0);
	in.mode = 02755;
	assert_int_equal(fc_setattr(&fc, entry.nodeid, &in), 0);
	assert_int_equal(host_mode("d"), 02755);
	fc_stop(&fc);

	/* And so does all where nobody is mapped. */
	fc_start(&fc, NULL, FC_FEATURES);
	assert_int_equal(fc_create(&fc, fc.root, "f", O_RDWR, 0755, &node, &fh), 0);
	in.mode = 04755;
	assert_int_equal(fc_setattr(&fc, node, &in), 0);
	assert_int_equal(host_mode("f"), 04755);
	fc_release(&fc, node, fh);
	fc_stop(&fc);
}

/* Names of a listing in @buf, added to @seen (of "fN"); the last offset in *@offset. */
static void take_entries(const char *buf, int len, bool plus, unsigned char *seen, uint64_t *offset)
{
	for (int at = 0; at < len;) {
		const struct fuse_direntplus *p = (const struct fuse_direntplus *)(buf + at);
		const struct fuse_dirent *d =
			plus ? &p->dirent : (const struct fuse_dirent *)(buf + at);

		assert_true(d->namelen > 0 && d->namelen <= 255);
		if (d->name[0] == 'f') {
			seen[strtoul(d->name + 1, NULL, 10)]++;
		}
		if (plus && d->name[0] == 'f') {
			assert_true(p->entry_out.nodeid != 0);
			assert_int_equal(p->entry_out.attr.ino, d->ino);
		}
		*offset = d->off;
		at += plus ? (int)FUSE_DIRENTPLUS_SIZE(p) : (int)FUSE_DIRENT_SIZE(d);
	}
}

enum { FILES = 500 };

static void make_files(void)
{
	char name[16];

	for (unsigned i = 0; i < FILES; i++) {
		snprintf(name, sizeof(name), "f%u", i);
		fc_host_file(fc.inside, name, "");
	}
}

static void list_all(bool plus, uint64_t fh, uint32_t size, bool forget_streams)
{
	unsigned char seen[FILES] = {0};
	uint64_t offset = 0;
	char *buf = malloc(size);
	int n;

	while ((n = fc_readdir(&fc, fc.root, fh, offset, plus, buf, size)) > 0) {
		assert_true(n <= (int)size);
		take_entries(buf, n, plus, seen, &offset);
		if (forget_streams) {
			/* Two hundred other positions: whatever is kept of ours is dropped. */
			for (unsigned i = 0; i < 40; i++) {
				char scrap[64];

				fc_readdir(&fc, fc.root, 0, 0, false, scrap, sizeof(scrap));
			}
		}
	}
	assert_int_equal(n, 0);
	for (unsigned i = 0; i < FILES; i++) {
		assert_int_equal(seen[i], 1);
	}
	free(buf);
}

static void test_readdir(void **state)
{
	char buf[4096];

	make_files();
	list_all(false, 0, 4096, false);
	list_all(false, 0, 100, false);
	list_all(true, 0, 4096, false);
	list_all(true, 0, 65536, false);
	list_all(false, 0, 4096, true);
	/* Room for no entry. */
	assert_int_equal(fc_readdir(&fc, fc.root, 0, 0, true, buf, 16), 0);
	assert_int_equal(
		fc_readdir(&fc, fc_node(&fc, fc.root, "f1"), 0, 0, true, buf, 16), -ENOTDIR);
	/* The synthetic root: ".", "..", "x". */
	assert_int_equal(fc_readdir(&fc, FUSE_ROOT_ID, 0, 0, false, buf, sizeof(buf)), 3 * 32);
	assert_int_equal(fc_readdir(&fc, FUSE_ROOT_ID, 0, 3, false, buf, sizeof(buf)), 0);
	assert_int_equal(fc_readdir(&fc, FUSE_ROOT_ID, 0, UINT64_MAX, false, buf, sizeof(buf)), 0);
	/* A position that was never given. */
	(void)fc_readdir(&fc, fc.root, 0, UINT64_C(0x7fffffffffff1234), false, buf, sizeof(buf));
	(void)fc_readdir(&fc, fc.root, 0, UINT64_MAX, false, buf, sizeof(buf));
}

static void test_opendir(void **state)
{
	struct fuse_open_in in = {.flags = O_RDONLY};
	struct fuse_open_out out;
	char buf[100];
	uint64_t file;

	fc_start(&fc, NULL, FC_FEATURES & ~FUSE_NO_OPENDIR_SUPPORT);
	make_files();
	assert_int_equal(call(FUSE_OPENDIR, fc.root, &in, sizeof(in), &out, sizeof(out)).error, 0);
	list_all(false, out.fh, 4096, false);
	list_all(true, out.fh, 1000, false);
	assert_int_equal(fc_read(&fc, fc.root, out.fh, 0, buf, sizeof(buf)), -EISDIR);
	assert_int_equal(fc_release(&fc, fc.root, out.fh), 0);
	assert_int_equal(fc_readdir(&fc, fc.root, out.fh, 0, false, buf, sizeof(buf)), -EBADF);
	file = fc_node(&fc, fc.root, "f1");
	assert_int_equal(
		call(FUSE_OPENDIR, file, &in, sizeof(in), &out, sizeof(out)).error, -ENOTDIR);
	assert_int_equal(fc_open(&fc, file, O_RDONLY, &out), 0);
	assert_int_equal(fc_readdir(&fc, file, out.fh, 0, false, buf, sizeof(buf)), -ENOTDIR);
	assert_int_equal(
		call(FUSE_OPENDIR, FUSE_ROOT_ID, &in, sizeof(in), &out, sizeof(out)).error, 0);
	fc_stop(&fc);
}

/* Set-id bits go when somebody who may not keep them writes. */
static void test_kill_setid(void **state)
{
	struct fuse_write_in in = {.size = 1, .write_flags = FUSE_WRITE_KILL_SUIDGID};
	struct fc_part parts[] = {{&in, sizeof(in)}, {"X", 1}};
	struct fuse_setattr_in mode = {.valid = FATTR_MODE, .mode = 06755};
	struct fuse_write_out out;
	struct fuse_attr attr;
	uint64_t node;

	assert_int_equal(fc_create(&fc, fc.root, "s", O_RDWR, 0755, &node, &in.fh), 0);
	assert_int_equal(fc_setattr(&fc, node, &mode), 0);
	assert_int_equal(fc_getattr(&fc, node, &attr), 0);
	assert_int_equal(attr.mode & 07777, 06755);
	assert_int_equal(fc_call(&fc, FUSE_WRITE, node, parts, 2, &out, sizeof(out)).error, 0);
	assert_int_equal(fc_getattr(&fc, node, &attr), 0);
	assert_int_equal(attr.mode & 07777, 0755);
	mode.mode = 02644; /* without group execute it is no set-group-id program */
	assert_int_equal(fc_setattr(&fc, node, &mode), 0);
	assert_int_equal(fc_call(&fc, FUSE_WRITE, node, parts, 2, &out, sizeof(out)).error, 0);
	assert_int_equal(fc_getattr(&fc, node, &attr), 0);
	assert_int_equal(attr.mode & 07777, 02644);
}

static void test_exports(void **state)
{
	struct hk_fuse_server *server;
	struct hk_err err = HK_ERR_INIT;
	char path[128];
	struct fc two = fc;
	struct fuse_open_out open;
	uint64_t b;
	uint64_t file;
	struct {
		const char *name;
		const char *path;
		int error;
	} cases[] = {
		{"", "/tmp", -EINVAL},
		{".", "/tmp", -EINVAL},
		{"..", "/tmp", -EINVAL},
		{"a/b", "/tmp", -EINVAL},
		{"none", "/nonexistent/x", -ENOENT},
		{"null", "/dev/null", -EINVAL},
		{"notdir", "/etc/passwd/x", -ENOTDIR},
		{"a", fc.inside, 0},
		{"a", fc.inside, -EEXIST},
		{"b", fc.outside, 0},
	};

	snprintf(path, sizeof(path), "%s/fifo", fc.dir);
	assert_int_equal(mkfifo(path, 0600), 0);
	assert_int_equal(hk_fuse_server_create(NULL, &server, &err), 0);
	for (size_t i = 0; i < HK_ARRAY_SIZE(cases); i++) {
		struct hk_fuse_export export = {.name = cases[i].name, .path = cases[i].path};

		assert_int_equal(hk_fuse_server_export(server, &export, &err), cases[i].error);
	}
	assert_int_equal(hk_fuse_server_export(server,
				 &(struct hk_fuse_export){.name = "fifo", .path = path}, &err),
		-EINVAL);
	fc_host_file(fc.dir, "single", "one file");
	snprintf(path, sizeof(path), "%s/single", fc.dir);
	assert_int_equal(
		hk_fuse_server_export(server,
			&(struct hk_fuse_export){.name = "single", .path = path, .read_only = true},
			&err),
		0);

	two.server = server;
	assert_int_equal(fc_call(&two, FUSE_INIT, 0,
				 &(struct fc_part){&(struct fuse_init_in){7, 38, 0, 0, 0, {0}}, 64},
				 1, &two.init, sizeof(two.init))
				 .error,
		0);
	/* A link or a rename from one to the other would carry rights along. */
	fc_host_file(fc.inside, "f", "f");
	two.root = fc_node(&two, FUSE_ROOT_ID, "a");
	b = fc_node(&two, FUSE_ROOT_ID, "b");
	file = fc_node(&two, two.root, "f");
	assert_true(two.root != 0 && b != 0 && file != 0);
	assert_int_equal(fc_link(&two, file, b, "g"), -EXDEV);
	assert_int_equal(fc_rename(&two, two.root, "f", b, "g", 0), -EXDEV);
	/* A single file is its entry. */
	file = fc_node(&two, FUSE_ROOT_ID, "single");
	assert_int_equal(fc_open(&two, file, O_RDONLY, &open), 0);
	assert_int_equal(fc_read(&two, file, open.fh, 0, path, 100), 8);
	assert_int_equal(fc_open(&two, file, O_RDWR, &open), -EROFS);
	assert_int_equal(fc_lookup(&two, file, "f", &(struct fuse_entry_out){0}), -ENOTDIR);
	assert_int_equal(fc_link(&two, file, b, "g"), -EXDEV);
	hk_fuse_server_destroy(server);
	hk_fuse_server_destroy(NULL);
}

/* Devices of the host have numbers of their own; the guest sees one file system. */
static void test_inode_numbers(void **state)
{
	struct fuse_attr a;
	struct stat st;

	assert_int_equal(fc_getattr(&fc, fc.root, &a), 0);
	assert_int_equal(stat(fc.inside, &st), 0);
	assert_int_equal(a.ino, st.st_ino);
}

int main(void)
{
#define WITH(test) cmocka_unit_test_setup_teardown(test, start, stop)
	const struct CMUnitTest tests[] = {
		WITH(test_init),
		WITH(test_before_init),
		WITH(test_not_implemented),
		WITH(test_lookup),
		WITH(test_batch_forget),
		WITH(test_files),
		WITH(test_append),
		WITH(test_never_opens_special_files),
		WITH(test_make_and_remove),
		WITH(test_rename),
		WITH(test_setattr),
		WITH(test_xattrs),
		WITH(test_xattrs_by_name),
		WITH(test_removed_with_further_names),
		WITH(test_space_and_copy),
		WITH(test_statfs),
		WITH(test_tmpfile),
		WITH(test_keep_cache),
		WITH(test_hot_listing),
		WITH(test_readdir),
		WITH(test_kill_setid),
		WITH(test_exports),
		WITH(test_inode_numbers),
		cmocka_unit_test(test_read_only),
		cmocka_unit_test(test_public_only),
		cmocka_unit_test(test_map_ids),
		cmocka_unit_test(test_map_ids_no_setid),
		cmocka_unit_test(test_opendir),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
