/* SPDX-License-Identifier: ISC */
/*
 * Rules and audit in the server: what requests are refused, by which of a file's names, and what is
 * told.
 */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/util.h"
#include "fuse_judged.h"

/* Is there a line with all of these words? */
static bool logged(const char *a, const char *b, const char *c)
{
	char line[8192];

	for (const char *at = log_text; *at != '\0';) {
		size_t len = strcspn(at, "\n");

		assert_true(len < sizeof(line));
		memcpy(line, at, len);
		line[len] = '\0';
		if (strstr(line, a) != NULL && strstr(line, b) != NULL && strstr(line, c) != NULL) {
			return true;
		}
		at += len + (at[len] == '\n');
	}
	return false;
}

static void classes(void **state)
{
	uint64_t node, fh;
	struct fuse_setattr_in chmod_in = {.valid = FATTR_MODE, .mode = 0600};
	struct fuse_setattr_in size_in = {.valid = FATTR_SIZE};

	(void)state;
	start("deny read /x/secret\n"
	      "deny write /x/fixed\n"
	      "deny create /x/no*\n"
	      "deny delete /x/stays\n"
	      "deny metadata /x/as-it-is\n"
	      "deny link /x/alone\n");
	for (unsigned i = 0; i < 5; i++) {
		static const char *const names[] = {
			"secret", "fixed", "stays", "as-it-is", "alone"};

		fc_host_file(fc.inside, names[i], "text");
	}
	assert_int_equal(open_of("secret", O_RDONLY), -EACCES);
	assert_int_equal(open_of("secret", O_WRONLY), 0);
	assert_int_equal(open_of("secret", O_RDWR), -EACCES);
	assert_int_equal(open_of("fixed", O_RDONLY), 0);
	assert_int_equal(open_of("fixed", O_WRONLY), -EACCES);
	assert_int_equal(open_of("fixed", O_RDWR), -EACCES);
	assert_int_equal(open_of("fixed", O_RDONLY | O_TRUNC), -EACCES);
	assert_int_equal(fc_setattr(&fc, fc_node(&fc, fc.root, "fixed"), &size_in), -EACCES);
	assert_int_equal(
		fc_create(&fc, fc.root, "not", O_WRONLY | O_CREAT, 0644, &node, &fh), -EACCES);
	assert_int_equal(fc_symlink(&fc, fc.root, "not", "target"), -EACCES);
	assert_int_equal(fc_create(&fc, fc.root, "yes", O_WRONLY | O_CREAT, 0644, &node, &fh), 0);
	fc_release(&fc, node, fh);
	assert_int_equal(fc_name_op(&fc, FUSE_UNLINK, fc.root, "stays"), -EACCES);
	assert_int_equal(fc_name_op(&fc, FUSE_UNLINK, fc.root, "yes"), 0);
	assert_int_equal(fc_rename(&fc, fc.root, "stays", fc.root, "goes", 0), -EACCES);
	assert_int_equal(fc_rename(&fc, fc.root, "fixed", fc.root, "stays", 0), -EACCES);
	assert_int_equal(fc_rename(&fc, fc.root, "fixed", fc.root, "nowhere", 0), -EACCES);
	assert_int_equal(fc_setattr(&fc, fc_node(&fc, fc.root, "as-it-is"), &chmod_in), -EPERM);
	assert_int_equal(fc_link(&fc, fc_node(&fc, fc.root, "alone"), fc.root, "two"), -EACCES);
	assert_int_equal(fc_link(&fc, fc_node(&fc, fc.root, "fixed"), fc.root, "two"), -EACCES);
	assert_true(fc_host_has(fc.inside, "fixed", "text"));
	assert_true(fc_host_has(fc.inside, "stays", "text"));
	read_log();
	assert_true(logged("\"/x/secret\"", "\"deny\"", "open"));
	assert_true(logged("\"/x/not\"", "\"deny\"", "symlink"));
	assert_true(logged("\"/x/yes\"", "\"allow\"", "unlink"));
	assert_int_equal(hk_audit_violations(audit), fc.denials);
	stop();
}

static void hidden(void **state)
{
	struct fuse_entry_out entry;
	char buf[4096];
	int len;
	uint64_t node, fh;

	(void)state;
	start("hide * /x/ghost\nhide * /x/ghost/**\nhide list /x/unlisted\n");
	fc_host_file(fc.inside, "ghost", "boo");
	fc_host_file(fc.inside, "real", "here");
	fc_host_file(fc.inside, "unlisted", "here, too");
	assert_int_equal(fc_node(&fc, fc.root, "ghost"), 0);
	assert_int_equal(fc_node(&fc, fc.root, "unlisted"), 0);
	assert_true(fc_node(&fc, fc.root, "real") != 0);
	for (unsigned plus = 0; plus < 2; plus++) {
		len = fc_readdir(&fc, fc.root, 0, 0, plus != 0, buf, sizeof(buf));
		assert_true(len > 0);
		assert_null(memmem(buf, (size_t)len, "ghost", 5));
		assert_null(memmem(buf, (size_t)len, "unlisted", 8));
		assert_non_null(memmem(buf, (size_t)len, "real", 4));
	}
	assert_int_equal(fc_mkdir(&fc, fc.root, "ghost", &entry), -ENOENT);
	assert_int_equal(
		fc_create(&fc, fc.root, "ghost", O_RDWR | O_CREAT, 0644, &node, &fh), -ENOENT);
	assert_int_equal(fc_name_op(&fc, FUSE_UNLINK, fc.root, "ghost"), -ENOENT);
	assert_true(fc_host_has(fc.inside, "ghost", "boo"));
	read_log();
	assert_true(logged("\"lookup\"", "\"/x/ghost\"", "\"hide\""));
	stop();
}

/* Refused, and nobody's business. */
static void quiet(void **state)
{
	struct hk_rules *made = hk_rules_new();

	(void)state;
	assert_non_null(made);
	assert_int_equal(
		hk_rules_add(made, HK_VERDICT_DENY, 1 << HK_CLASS_WRITE, "/x/file", false), 0);
	hk_rules_make_quiet(made);
	start_with(made, true, false);
	fc_host_file(fc.inside, "file", "text");
	assert_int_equal(open_of("file", O_WRONLY), -EACCES);
	read_log();
	assert_int_equal(hk_audit_violations(audit), 0);
	assert_int_equal(fc.denials, 0);
	stop();
}

/* A name does not lend its rights to another, whichever the guest has looked up last. */
static void names_of_one_file(void **state)
{
	struct fuse_open_out out;
	struct fuse_attr attr_a, attr_b;
	uint64_t open_node, shut_node, same_node;

	(void)state;
	start("deny read,write /x/shut\n");
	fc_host_file(fc.inside, "open", "text");
	assert_int_equal(linkat(fc.inside_fd, "open", fc.inside_fd, "shut", 0), 0);
	assert_int_equal(linkat(fc.inside_fd, "open", fc.inside_fd, "same", 0), 0);
	open_node = fc_node(&fc, fc.root, "open");
	shut_node = fc_node(&fc, fc.root, "shut");
	same_node = fc_node(&fc, fc.root, "same");
	assert_int_equal(open_node, same_node);
	assert_true(open_node != shut_node);
	for (unsigned i = 0; i < 2; i++) {
		assert_int_equal(fc_open(&fc, shut_node, O_RDONLY, &out), -EACCES);
		assert_int_equal(fc_open(&fc, open_node, O_RDONLY, &out), 0);
		fc_release(&fc, open_node, out.fh);
	}
	assert_int_equal(fc_getattr(&fc, open_node, &attr_a), 0);
	assert_int_equal(fc_getattr(&fc, shut_node, &attr_b), 0);
	assert_int_equal(attr_a.ino, attr_b.ino);
	/* Nor does a new one. */
	assert_int_equal(fc_link(&fc, shut_node, fc.root, "third"), -EACCES);
	stop();
}

/* As many verdicts, of other classes, are other rulings. */
static void names_ruled_by_other_classes(void **state)
{
	uint64_t unread, unwritten;
	struct fuse_open_out out;

	(void)state;
	start("deny read /x/unread\ndeny write /x/unwritten\n");
	fc_host_file(fc.inside, "unread", "text");
	assert_int_equal(linkat(fc.inside_fd, "unread", fc.inside_fd, "unwritten", 0), 0);
	unread = fc_node(&fc, fc.root, "unread");
	unwritten = fc_node(&fc, fc.root, "unwritten");
	assert_true(unread != unwritten);
	assert_int_equal(fc_open(&fc, unread, O_RDONLY, &out), -EACCES);
	assert_int_equal(fc_open(&fc, unwritten, O_WRONLY, &out), -EACCES);
	stop();
}

static void renames_change_what_holds(void **state)
{
	struct fuse_entry_out entry;
	struct fuse_open_out out;
	uint64_t dir, file, below;

	(void)state;
	start("deny write /x/shut\ndeny write /x/shut/**\n");
	/* A file */
	fc_host_file(fc.inside, "file", "text");
	file = fc_node(&fc, fc.root, "file");
	assert_int_equal(fc_open(&fc, file, O_WRONLY, &out), 0);
	fc_release(&fc, file, out.fh);
	assert_int_equal(fc_rename(&fc, fc.root, "file", fc.root, "shut", 0), 0);
	assert_int_equal(fc_open(&fc, file, O_WRONLY, &out), -EACCES);
	assert_int_equal(fc_rename(&fc, fc.root, "shut", fc.root, "file", 0), 0);
	assert_int_equal(fc_open(&fc, file, O_WRONLY, &out), 0);
	fc_release(&fc, file, out.fh);
	/* What is deep in a directory */
	assert_int_equal(fc_mkdir(&fc, fc.root, "dir", &entry), 0);
	dir = entry.nodeid;
	assert_int_equal(fc_mkdir(&fc, dir, "sub", &entry), 0);
	assert_int_equal(
		fc_create(&fc, entry.nodeid, "deep", O_RDWR | O_CREAT, 0644, &below, &out.fh), 0);
	fc_release(&fc, below, out.fh);
	assert_int_equal(fc_rename(&fc, fc.root, "dir", fc.root, "shut", 0), 0);
	assert_int_equal(fc_node(&fc, fc.root, "shut"), dir); /* it is no other directory */
	assert_int_equal(fc_open(&fc, below, O_WRONLY, &out), -EACCES);
	assert_int_equal(fc_open(&fc, below, O_RDONLY, &out), 0);
	fc_release(&fc, below, out.fh);
	assert_int_equal(fc_rename(&fc, fc.root, "shut", fc.root, "dir", 0), 0);
	assert_int_equal(fc_open(&fc, below, O_WRONLY, &out), 0);
	fc_release(&fc, below, out.fh);
	read_log();
	assert_true(logged("\"/x/shut/sub/deep\"", "\"deny\"", "open"));
	assert_true(logged("\"/x/dir/sub/deep\"", "\"allow\"", "open"));
	stop();
}

static void renames_are_no_way_around(void **state)
{
	struct fuse_entry_out entry;
	uint64_t top, secret, pub;

	(void)state;
	start("deny read,list /x/top/secret/**\ndeny create /x/pub/**/locked\n");
	assert_int_equal(fc_mkdir(&fc, fc.root, "top", &entry), 0);
	top = entry.nodeid;
	assert_int_equal(fc_mkdir(&fc, top, "secret", &entry), 0);
	secret = entry.nodeid;
	assert_int_equal(fc_mkdir(&fc, secret, "dir", &entry), 0);
	assert_int_equal(fc_mkdir(&fc, fc.root, "pub", &entry), 0);
	pub = entry.nodeid;
	assert_int_equal(fc_mkdir(&fc, pub, "a", &entry), 0);
	assert_int_equal(fc_mkdir(&fc, pub, "b", &entry), 0);
	assert_int_equal(fc_mkdir(&fc, fc.root, "free", &entry), 0);
	/* What has denied names below it, and what is denied itself */
	assert_int_equal(fc_rename(&fc, fc.root, "top", fc.root, "other", 0), -EXDEV);
	assert_int_equal(fc_rename(&fc, top, "secret", fc.root, "other", 0), -EXDEV);
	assert_int_equal(fc_rename(&fc, secret, "dir", fc.root, "other", 0), -EXDEV);
	assert_int_equal(fc_rename(&fc, fc.root, "free", secret, "dir", RENAME_EXCHANGE), -EXDEV);
	fc_host_file(fc.inside, "file", "text");
	assert_int_equal(fc_rename(&fc, fc.root, "file", fc.root, "top", RENAME_EXCHANGE), -EXDEV);
	/* Into where rules look deeper than names that are there now */
	assert_int_equal(fc_rename(&fc, fc.root, "free", pub, "free", 0), -EXDEV);
	/* Within one of these, and where nobody looks */
	assert_int_equal(fc_rename(&fc, pub, "a", pub, "c", 0), 0);
	assert_int_equal(fc_rename(&fc, pub, "b", pub, "c", RENAME_EXCHANGE), 0);
	assert_int_equal(fc_rename(&fc, secret, "dir", secret, "dir2", 0), 0);
	assert_int_equal(fc_rename(&fc, fc.root, "free", secret, "free", 0), 0);
	read_log();
	assert_true(logged("\"/x/top\"", "\"EXDEV\"", "rename"));
	stop();
}

static void redirected(void **state)
{
	struct fuse_open_out out;
	uint64_t node, fh;
	char buf[8];

	(void)state;
	start("redirect * /x/name => /x/dir/target\ndeny write /x/dir/target\nredirect * /x/lost "
	      "=> /x/not/there\n");
	assert_int_equal(mkdirat(fc.inside_fd, "dir", 0755), 0);
	fc_host_file(fc.inside, "name", "wrong");
	fc_host_file(fc.inside, "lost", "wrong");
	fc_host_file(fc.inside, "dir/target", "right");
	node = fc_node(&fc, fc.root, "name");
	assert_int_equal(fc_open(&fc, node, O_RDONLY, &out), 0);
	assert_int_equal(fc_read(&fc, node, out.fh, 0, buf, sizeof(buf)), 5);
	assert_memory_equal(buf, "right", 5);
	fc_release(&fc, node, out.fh);
	/* The target's own rules hold. */
	assert_int_equal(fc_open(&fc, node, O_WRONLY, &out), -EACCES);
	assert_int_equal(fc_name_op(&fc, FUSE_UNLINK, fc.root, "name"), -EACCES);
	assert_int_equal(fc_node(&fc, fc.root, "lost"), 0);
	assert_int_equal(
		fc_create(&fc, fc.root, "lost", O_RDWR | O_CREAT, 0644, &node, &fh), -EACCES);
	assert_true(fc_host_has(fc.inside, "name", "wrong"));
	stop();
}

/*
 * Of exports within each other it is the inner one that shows a path; and none shows at a second
 * place.
 */
static void redirected_to_exports(void **state)
{
	struct hk_fuse_export inner = {.name = "y", .root = "/x/inner"};
	struct hk_err err = HK_ERR_INIT;
	struct fuse_open_out out;
	struct fuse_attr attr;
	struct stat st;
	uint64_t node;
	char buf[8];

	(void)state;
	start("redirect * /x/name => /x/inner/target\nredirect * /x/dir => /x/inner\n");
	inner.path = fc.outside;
	inner.rules = rules;
	assert_int_equal(hk_fuse_server_export(fc.server, &inner, &err), 0);
	assert_int_equal(mkdirat(fc.inside_fd, "inner", 0755), 0);
	assert_int_equal(mkdirat(fc.inside_fd, "dir", 0755), 0);
	fc_host_file(fc.inside, "inner/target", "wrong");
	fc_host_file(fc.outside, "target", "right");
	node = fc_node(&fc, fc.root, "name");
	assert_int_equal(fc_open(&fc, node, O_RDONLY, &out), 0);
	assert_int_equal(fc_read(&fc, node, out.fh, 0, buf, sizeof(buf)), 5);
	assert_memory_equal(buf, "right", 5);
	fc_release(&fc, node, out.fh);
	assert_int_equal(fstatat(fc.inside_fd, "dir", &st, 0), 0);
	assert_int_equal(fc_getattr(&fc, fc_node(&fc, fc.root, "dir"), &attr), 0);
	assert_int_equal(attr.ino, st.st_ino);
	stop();
}

/* A later rule for some of the classes: what is read is not what is written. So neither is. */
static void redirected_in_part(void **state)
{
	struct fuse_open_out out;
	uint64_t node;

	(void)state;
	start("redirect * /x/name => /x/target\nallow delete /x/name\n"
	      "redirect * /x/dir => /x/other\ndeny write /x/dir\n");
	fc_host_file(fc.inside, "name", "real");
	fc_host_file(fc.inside, "target", "other");
	assert_int_equal(mkdirat(fc.inside_fd, "dir", 0755), 0);
	node = fc_node(&fc, fc.root, "name");
	assert_int_equal(fc_open(&fc, node, O_RDONLY, &out), -EACCES);
	assert_int_equal(fc_open(&fc, node, O_WRONLY, &out), -EACCES);
	assert_true(fc_host_has(fc.inside, "name", "real"));
	assert_true(fc_host_has(fc.inside, "target", "other"));
	assert_int_equal(fc_name_op(&fc, FUSE_RMDIR, fc.root, "dir"), -EACCES);
	stop();
}

/* Neither the name nor what it stands for goes, by whatever name of the operation. */
static void redirected_removed(void **state)
{
	struct fuse_entry_out entry;

	(void)state;
	start("redirect * /x/name => /x/target\nredirect * /x/dir => /x/other\n");
	fc_host_file(fc.inside, "name", "real");
	fc_host_file(fc.inside, "target", "other");
	assert_int_equal(mkdirat(fc.inside_fd, "dir", 0755), 0);
	assert_int_equal(mkdirat(fc.inside_fd, "other", 0755), 0);
	assert_int_equal(fc_mkdir(&fc, fc.root, "dir", &entry), -EACCES);
	assert_int_equal(fc_name_op(&fc, FUSE_UNLINK, fc.root, "name"), -EACCES);
	assert_int_equal(fc_name_op(&fc, FUSE_RMDIR, fc.root, "dir"), -EACCES);
	assert_int_equal(fc_rename(&fc, fc.root, "name", fc.root, "new", 0), -EACCES);
	assert_int_equal(fc_rename(&fc, fc.root, "target", fc.root, "name", 0), -EACCES);
	assert_true(fc_host_has(fc.inside, "name", "real"));
	assert_true(fc_host_has(fc.inside, "target", "other"));
	stop();
}

/* Attributes that hold data are data; a list of them is not. */
static void attributes(void **state)
{
	struct fuse_getxattr_in in = {.size = 64};
	struct fc_part value[] = {{&in, sizeof(in)}, {"user.a", sizeof("user.a")}};
	struct fc_part list[] = {{&in, sizeof(in)}};
	char buf[64];
	uint64_t node;

	start("deny read /x/secret\n");
	for (const char *const *name = (const char *const[]){"open", "secret", NULL}; *name != NULL;
		name++) {
		int fd;

		fc_host_file(fc.inside, *name, "");
		fd = openat(fc.inside_fd, *name, O_RDONLY | O_CLOEXEC);
		assert_true(fd >= 0);
		if (fsetxattr(fd, "user.a", "data", 4, 0) < 0) {
			close(fd);
			stop();
			skip();
		}
		close(fd);
	}
	node = fc_node(&fc, fc.root, "open");
	assert_int_equal(fc_call(&fc, FUSE_GETXATTR, node, value, 2, buf, sizeof(buf)).len, 4);
	node = fc_node(&fc, fc.root, "secret");
	assert_int_equal(
		fc_call(&fc, FUSE_GETXATTR, node, value, 2, buf, sizeof(buf)).error, -ENODATA);
	assert_int_equal(fc_call(&fc, FUSE_LISTXATTR, node, list, 1, buf, sizeof(buf)).len,
		sizeof("user.a"));
	stop();
}

/* What an export does not allow anybody is in the audit like the rest. */
static void read_only_export(void **state)
{
	struct fuse_open_out out;
	uint64_t node, fh;

	(void)state;
	start_with(parse("deny delete /x/ruled\n"), true, true);
	fc_host_file(fc.inside, "file", "text");
	fc_host_file(fc.inside, "ruled", "text");
	node = fc_node(&fc, fc.root, "file");
	assert_int_equal(fc_open(&fc, node, O_WRONLY, &out), -EROFS);
	assert_int_equal(
		fc_create(&fc, fc.root, "new", O_RDWR | O_CREAT, 0644, &node, &fh), -EROFS);
	assert_int_equal(fc_name_op(&fc, FUSE_UNLINK, fc.root, "file"), -EROFS);
	assert_int_equal(fc_name_op(&fc, FUSE_UNLINK, fc.root, "ruled"), -EACCES);
	read_log();
	assert_true(logged("\"/x/file\"", "\"EROFS\"", "open"));
	assert_true(logged("\"/x/new\"", "\"EROFS\"", "create"));
	assert_true(logged("\"/x/file\"", "\"EROFS\"", "unlink"));
	assert_true(logged("\"/x/ruled\"", "\"deny\"", "unlink"));
	assert_int_equal(hk_audit_violations(audit), 1);
	stop();
}

static unsigned asked;

static bool answer(struct hk_fuse_owner *owner, const char *path, const char *class_name, pid_t pid)
{
	(void)owner;
	(void)class_name;
	(void)pid;
	asked++;
	return strcmp(path, "/x/please") == 0;
}

static void questions(void **state)
{
	(void)state;
	start("ask write /x/**\n");
	fc_host_file(fc.inside, "please", "text");
	fc_host_file(fc.inside, "never", "text");
	/* Nobody to ask */
	assert_int_equal(open_of("never", O_WRONLY), -EACCES);
	fc.owner.ask = answer;
	asked = 0;
	for (unsigned i = 0; i < 3; i++) {
		assert_int_equal(open_of("please", O_WRONLY), 0);
		assert_int_equal(open_of("please", O_RDONLY), 0);
	}
	assert_int_equal(asked, 1);
	assert_int_equal(open_of("never", O_WRONLY), -EACCES);
	assert_int_equal(open_of("never", O_WRONLY), -EACCES);
	assert_int_equal(asked, 2);
	stop();
}

static void bytes_at_close(void **state)
{
	struct fuse_open_out open;
	uint64_t node, fh;
	char buf[100] = {0};

	(void)state;
	start("");
	assert_int_equal(fc_create(&fc, fc.root, "file", O_RDWR | O_CREAT, 0644, &node, &fh), 0);
	assert_int_equal(fc_write(&fc, node, fh, 0, buf, 100), 100);
	assert_int_equal(fc_write(&fc, node, fh, 100, buf, 50), 50);
	assert_int_equal(fc_read(&fc, node, fh, 90, buf, 100), 60);
	assert_int_equal(fc_release(&fc, node, fh), 0);
	assert_int_equal(fc_node(&fc, fc.root, "missing"), 0);
	/* What was read once may be read again, without us. */
	fc_host_file(fc.inside, "old", "0123456789");
	usleep(30000); /* a fresh mtime proves nothing */
	node = fc_node(&fc, fc.root, "old");
	for (unsigned i = 0; i < 2; i++) {
		assert_int_equal(fc_open(&fc, node, O_RDONLY, &open), 0);
		assert_true((open.open_flags & FOPEN_KEEP_CACHE) != 0);
		if (i == 0) {
			assert_int_equal(fc_read(&fc, node, open.fh, 2, buf, 7), 7);
		}
		assert_int_equal(fc_release(&fc, node, open.fh), 0);
	}
	/* A file that nobody closes is told of when the guest goes. */
	assert_int_equal(fc_create(&fc, fc.root, "left", O_WRONLY | O_CREAT, 0644, &node, &fh), 0);
	assert_int_equal(fc_write(&fc, node, fh, 0, buf, 5), 5);
	hk_fuse_server_reset(fc.server);
	read_log();
	assert_true(logged("close", "\"/x/old\"", "\"bytes_read\":7,\"bytes_written\":0}"));
	assert_true(logged("close", "\"/x/left\"", "\"bytes_written\":5"));
	assert_true(logged(
		"close", "\"/x/old\"", "\"bytes_read\":7,\"bytes_written\":0,\"exact\":false}"));
	assert_true(logged("close", "\"/x/file\"", "150"));
	assert_true(logged("close", "\"/x/file\"", "60"));
	assert_true(logged("lookup", "\"/x/missing\"", "ENOENT"));
	stop();
}

static char judged_path[256];

/* Whoever owns the server refuses what is called "no". */
static int judge(struct hk_fuse_owner *owner, const struct hk_fuse_question *question)
{
	const char *end = strrchr(question->path, '/');

	(void)owner;
	hk_fmt(judged_path, sizeof(judged_path), "%s", question->path);
	return strcmp(end, "/no") == 0 ? EROFS : 0;
}

/*
 * It is asked about what the rules allow, and about nothing else; its errno is what the guest gets.
 */
static void judged_by_owner(void **state)
{
	(void)state;
	start("deny write /x/ruled\nallow write /x/no\n");
	fc_host_file(fc.inside, "no", "1");
	fc_host_file(fc.inside, "yes", "1");
	fc_host_file(fc.inside, "ruled", "1");
	fc.owner.judge = judge;
	assert_int_equal(open_of("no", O_WRONLY), -EROFS);
	assert_string_equal(judged_path, "/x/no");
	assert_int_equal(open_of("yes", O_WRONLY), 0);
	assert_string_equal(judged_path, "/x/yes");
	assert_int_equal(open_of("ruled", O_WRONLY), -EACCES);
	assert_string_equal(judged_path, "/x/yes");
	read_log();
	assert_true(logged("\"/x/no\"", "\"deny\"", "EROFS"));
	assert_false(logged("\"/x/no\"", "EROFS", "\"rule\"")); /* none says so */
	assert_int_equal(hk_audit_violations(audit), 1);
	stop();
}

/*
 * Of an operation that is several things at once, the line has the first rule that speaks of one of
 * them.
 */
static void rule_that_is_told(void **state)
{
	(void)state;
	start("allow delete /x/a\nallow create /x/b\n");
	fc_host_file(fc.inside, "a", "text");
	assert_int_equal(fc_rename(&fc, fc.root, "a", fc.root, "b", 0), 0);
	fc_host_file(fc.inside, "a", "text");
	assert_int_equal(fc_rename(&fc, fc.root, "a", fc.root, "c", 0), 0);
	read_log();
	assert_true(logged("\"rename\"", "\"/x/b\"", "\"rule\":1,"));
	assert_true(logged("\"rename\"", "\"/x/c\"", "\"rule\":1,"));
	stop();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(classes),
		cmocka_unit_test(hidden),
		cmocka_unit_test(quiet),
		cmocka_unit_test(names_of_one_file),
		cmocka_unit_test(names_ruled_by_other_classes),
		cmocka_unit_test(renames_change_what_holds),
		cmocka_unit_test(renames_are_no_way_around),
		cmocka_unit_test(redirected),
		cmocka_unit_test(redirected_to_exports),
		cmocka_unit_test(redirected_in_part),
		cmocka_unit_test(redirected_removed),
		cmocka_unit_test(attributes),
		cmocka_unit_test(read_only_export),
		cmocka_unit_test(questions),
		cmocka_unit_test(bytes_at_close),
		cmocka_unit_test(judged_by_owner),
		cmocka_unit_test(rule_that_is_told),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
