/* SPDX-License-Identifier: ISC */
/*
 * Copy-on-write (overlay.h) against a plain directory.
 *
 * Both get the same operations, thousands of random ones too, through the same interface; each
 * result and then the trees must be equal. What is below must be as it was.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/filter.h>
#include <linux/fs.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <signal.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/str.h"
#include "base/util.h"
#include "fuse/backend.h"
#include "fuse/layer.h"
#include "fuse/overlay.h"
#include "stack.h"

enum { SMALL = 64 };

static char top[64];
static bool with_links = true; /* compare how many */
static struct hk_cred me;

/* --- helpers --- */

static const char *in_top(const char *name)
{
	static char path[4][256];
	static unsigned next;
	char *at = path[next++ % 4];

	assert_true(hk_fmt(at, sizeof(path[0]), "%s/%s", top, name) > 0);
	return at;
}

/* Each command of the line must succeed. */
__attribute__((format(printf, 1, 2))) static void shell(const char *format, ...)
{
	char command[1024] = "set -e; ";
	size_t len = strlen(command);
	va_list args;

	va_start(args, format);
	assert_true(vsnprintf(command + len, sizeof(command) - len, format, args) <
		(int)(sizeof(command) - len));
	va_end(args);
	assert_int_equal(system(command), 0);
}

static struct hk_backend *open_overlay_with(bool (*is_cow)(void *, const char *))
{
	struct hk_err err = HK_ERR_INIT;
	struct hk_backend *b = NULL;
	char lower[256];
	char layer[256];
	struct hk_overlay_options options = {.lower = lower, .layer = layer, .is_cow = is_cow};

	hk_fmt(lower, sizeof(lower), "%s/lower", top);
	hk_fmt(layer, sizeof(layer), "%s/layer", top);
	if (hk_overlay_open(&options, &b, &err) < 0) {
		print_error("%s\n", hk_err_text(&err));
	}
	assert_non_null(b);
	return b;
}

static struct hk_backend *open_overlay(void)
{
	return open_overlay_with(NULL);
}

static struct hk_backend *open_host(const char *name)
{
	struct hk_err err = HK_ERR_INIT;
	struct hk_backend *b = NULL;

	assert_int_equal(hk_host_open(in_top(name), &b, &err), 0);
	return b;
}

/* An object for a path such as "a/b"; "" is the root. To be closed if it is not the root. */
static int walk(struct hk_backend *b, const char *path)
{
	int at = b->root;

	while (*path != '\0') {
		size_t len = strcspn(path, "/");
		char name[256];
		int next;

		memcpy(name, path, len);
		name[len] = '\0';
		path += len + (path[len] == '/');
		next = b->ops->reach(b, at, name);
		if (at != b->root) {
			b->ops->close(b, at);
		}
		if (next < 0) {
			return next;
		}
		at = next;
	}
	return at;
}

static void put(struct hk_backend *b, int obj)
{
	if (obj >= 0 && obj != b->root) {
		b->ops->close(b, obj);
	}
}

/* The directory of a path, and its last name. */
static int walk_dir(struct hk_backend *b, const char *path, const char **ret_name)
{
	const char *slash = strrchr(path, '/');
	char dir[256];
	struct hk_stat st;
	int obj;

	*ret_name = slash == NULL ? path : slash + 1;
	hk_fmt(dir, sizeof(dir), "%.*s", slash == NULL ? 0 : (int)(slash - path), path);
	obj = walk(b, dir);
	if (obj >= 0 && b->ops->stat(b, obj, &st) == 0 && !S_ISDIR(st.mode)) {
		put(b, obj);
		return -ENOTDIR;
	}
	return obj;
}

static int stat_of(struct hk_backend *b, const char *path, struct hk_stat *st)
{
	int obj = walk(b, path);
	int r = obj < 0 ? obj : b->ops->stat(b, obj, st);

	put(b, obj);
	return r;
}

static ssize_t read_of(struct hk_backend *b, int file, void *buf, size_t size, uint64_t offset)
{
	struct iovec iov = {buf, size};

	return b->ops->read(b, file, &iov, 1, offset);
}

static int write_at(struct hk_backend *b, const char *path, const char *text, uint64_t offset)
{
	struct iovec iov = {(void *)(uintptr_t)text, strlen(text)};
	struct hk_stat st;
	int obj = walk(b, path);
	int file;
	ssize_t n;

	if (obj < 0) {
		return obj;
	}
	if (b->ops->stat(b, obj, &st) < 0 || !S_ISREG(st.mode)) {
		put(b, obj);
		return -EINVAL;
	}
	file = b->ops->open(b, obj, O_WRONLY);
	put(b, obj);
	if (file < 0) {
		return file;
	}
	n = b->ops->write(b, file, &iov, 1, offset, false);
	b->ops->close(b, file);
	return n < 0 ? (int)n : 0;
}

static char *content_of(struct hk_backend *b, const char *path, size_t *ret_len)
{
	static char bufs[2][65536];
	static unsigned next;
	char *buf = bufs[next++ % 2];
	int obj = walk(b, path);
	int file;
	ssize_t n;

	assert_true(obj >= 0);
	file = b->ops->open(b, obj, O_RDONLY);
	assert_true(file >= 0);
	n = read_of(b, file, buf, sizeof(bufs[0]) - 1, 0);
	assert_true(n >= 0);
	buf[n] = '\0';
	b->ops->close(b, file);
	put(b, obj);
	if (ret_len != NULL) {
		*ret_len = (size_t)n;
	}
	return buf;
}

/* --- comparing trees --- */

struct names {
	char name[SMALL][64];
	uint64_t ino[SMALL];
	unsigned count;
};

static int by_name(const void *a, const void *b)
{
	return strcmp(a, b);
}

static void list(struct hk_backend *b, const char *path, struct names *names)
{
	_Alignas(struct hk_dirent) char buf[512];
	int obj = walk(b, path);
	int file = b->ops->open_dir(b, obj);
	ssize_t n;

	assert_true(file >= 0);
	names->count = 0;
	while ((n = b->ops->read_dir(b, file, buf, sizeof(buf))) > 0) {
		for (ssize_t at = 0; at < n;) {
			const struct hk_dirent *entry = (const struct hk_dirent *)(buf + at);

			at += entry->record_len;
			if (strcmp(entry->name, ".") != 0 && strcmp(entry->name, "..") != 0) {
				assert_true(names->count < SMALL);
				hk_fmt(names->name[names->count++], 64, "%s", entry->name);
			}
		}
	}
	assert_int_equal(n, 0);
	qsort(names->name, names->count, sizeof(names->name[0]), by_name);
	b->ops->close(b, file);
	put(b, obj);
}

static ssize_t xattr_of(struct hk_backend *b, const char *path, char *value, size_t size)
{
	int obj = walk(b, path);
	ssize_t n = b->ops->getxattr(b, obj, "user.x", value, size);

	put(b, obj);
	return n;
}

static void compare_one(struct hk_backend *a, struct hk_backend *b, const char *path, bool times)
{
	struct hk_stat x;
	struct hk_stat y;
	char vx[64];
	char vy[64];
	ssize_t nx;

	assert_int_equal(stat_of(a, path, &x), 0);
	assert_int_equal(stat_of(b, path, &y), 0);
	if (x.mode != y.mode || x.uid != y.uid || x.gid != y.gid ||
		(!S_ISDIR(x.mode) && ((with_links && x.nlink != y.nlink) || x.size != y.size)) ||
		(times && hk_timespec_ns(x.mtime) != hk_timespec_ns(y.mtime))) {
		fail_msg("'%s': mode %o %o, owner %u:%u %u:%u, links %u %u, size %llu %llu", path,
			x.mode, y.mode, x.uid, x.gid, y.uid, y.gid, x.nlink, y.nlink,
			(unsigned long long)x.size, (unsigned long long)y.size);
	}
	if (S_ISREG(x.mode)) {
		size_t len;
		size_t len_y;
		const char *cx = content_of(a, path, &len);
		const char *cy = content_of(b, path, &len_y);

		assert_int_equal(len, len_y);
		assert_memory_equal(cx, cy, len);
	} else if (S_ISLNK(x.mode)) {
		int ox = walk(a, path);
		int oy = walk(b, path);

		nx = a->ops->readlink(a, ox, vx, sizeof(vx));
		assert_int_equal(nx, b->ops->readlink(b, oy, vy, sizeof(vy)));
		assert_memory_equal(vx, vy, (size_t)nx);
		put(a, ox);
		put(b, oy);
	}
	nx = xattr_of(a, path, vx, sizeof(vx));
	assert_int_equal(nx, xattr_of(b, path, vy, sizeof(vy)));
	if (nx > 0) {
		assert_memory_equal(vx, vy, (size_t)nx);
	}
}

static void compare(struct hk_backend *a, struct hk_backend *b, const char *path, bool times)
{
	struct hk_stat st;
	struct names x;
	struct names y;

	compare_one(a, b, path, times);
	assert_int_equal(stat_of(a, path, &st), 0);
	if (!S_ISDIR(st.mode)) {
		return;
	}
	list(a, path, &x);
	list(b, path, &y);
	if (x.count != y.count) {
		print_error("'%s':", path);
		for (unsigned i = 0; i < x.count; i++) {
			print_error(" %s", x.name[i]);
		}
		print_error(" /");
		for (unsigned i = 0; i < y.count; i++) {
			print_error(" %s", y.name[i]);
		}
		fail_msg(" differ");
	}
	for (unsigned i = 0; i < x.count; i++) {
		char sub[256];

		assert_string_equal(x.name[i], y.name[i]);
		hk_fmt(sub, sizeof(sub), "%s%s%s", path, *path != '\0' ? "/" : "", x.name[i]);
		compare(a, b, sub, times);
	}
}

/* Each test starts with `lower`, the same as `before`, and no layer. */
static void begin(const char *script)
{
	shell("chmod -R u+rwX %s; rm -rf %s/*; mkdir %s/lower %s/layer; cd %s/lower; umask 022; %s",
		top, top, top, top, top, script);
	shell("cd %s; cp -a lower before; cp -a lower twin", top);
}

static void check_lower(void)
{
	struct hk_backend *lower = open_host("lower");
	struct hk_backend *before = open_host("before");

	compare(lower, before, "", true);
	lower->ops->destroy(lower);
	before->ops->destroy(before);
}

/* --- single operations --- */

static void test_copy_up_keeps_identity(void **state)
{
	struct hk_backend *b;
	struct hk_stat before;
	struct hk_stat after;
	char buf[16];
	int obj;
	int reader;

	(void)state;
	begin("mkdir d; echo hello >d/f; setfattr -n user.x -v y d/f; touch -d @1000000000.5 d/f; "
	      "ln -s f d/l;"
	      " mkfifo d/p");
	b = open_overlay();
	obj = walk(b, "d/f");
	assert_int_equal(b->ops->stat(b, obj, &before), 0);
	reader = b->ops->open(b, obj, O_RDONLY);
	assert_int_equal(read_of(b, reader, buf, 5, 0), 5);

	assert_int_equal(write_at(b, "d/f", "HE", 0), 0);
	assert_int_equal(b->ops->stat(b, obj, &after), 0);
	assert_int_equal(after.ino, before.ino);
	assert_int_equal(after.dev, before.dev);
	assert_int_equal(after.mount, before.mount);
	assert_int_equal(after.born_ns, before.born_ns);
	/* A file opened before sees what was written. */
	assert_int_equal(read_of(b, reader, buf, 5, 0), 5);
	assert_memory_equal(buf, "HEllo", 5);
	/* So does one that was below, when asked for its attributes. */
	assert_int_equal(b->ops->stat(b, reader, &after), 0);
	assert_int_equal(after.ino, before.ino);
	b->ops->close(b, reader);
	put(b, obj);

	/* Also what can have no attributes, and after another run. */
	for (unsigned i = 0; i < 2; i++) {
		const char *path = i == 0 ? "d/l" : "d/p";
		struct timespec times[2] = {{.tv_sec = 1}, {.tv_sec = 2}};

		assert_int_equal(stat_of(b, path, &before), 0);
		obj = walk(b, path);
		assert_int_equal(b->ops->utimes(b, obj, times), 0);
		put(b, obj);
		assert_int_equal(stat_of(b, path, &after), 0);
		assert_int_equal(after.mtime.tv_sec, 2);
		assert_int_equal(after.ino, before.ino);
		b->ops->destroy(b);
		b = open_overlay();
		assert_int_equal(stat_of(b, path, &after), 0);
		assert_int_equal(after.mtime.tv_sec, 2);
		assert_int_equal(after.ino, before.ino);
	}
	b->ops->destroy(b);
	check_lower();
}

static void test_copy_up_takes_all(void **state)
{
	struct hk_backend *b;
	struct hk_stat before;
	struct hk_stat after;
	int obj;

	(void)state;
	begin("truncate -s 1G sparse; echo end >>sparse; chmod 4751 sparse; setfattr -n user.x -v "
	      "v sparse;"
	      " touch -d @1000000000.123456789 sparse; echo x >e; chmod 600 e");
	b = open_overlay();
	assert_int_equal(stat_of(b, "sparse", &before), 0);
	obj = walk(b, "sparse");
	assert_int_equal(b->ops->setxattr(b, obj, "user.y", "w", 1, 0), 0);
	put(b, obj);
	assert_int_equal(stat_of(b, "sparse", &after), 0);
	assert_int_equal(after.mode, before.mode);
	assert_int_equal(after.size, before.size);
	assert_true(after.blocks < 100);
	assert_int_equal(hk_timespec_ns(after.mtime), hk_timespec_ns(before.mtime));
	compare_one(b, b, "e", true);
	/* Our marks are ours. */
	obj = walk(b, "sparse");
	assert_int_equal(b->ops->getxattr(b, obj, "user.hako.origin", NULL, 0), -ENODATA);
	assert_int_equal(b->ops->listxattr(b, obj, NULL, 0), 14);
	assert_int_equal(b->ops->setxattr(b, obj, "user.overlay.opaque", "y", 1, 0), -EPERM);
	put(b, obj);
	b->ops->destroy(b);
	check_lower();
}

static void test_hard_links_stay_one(void **state)
{
	struct hk_backend *b;
	struct hk_stat st;
	struct hk_stat other;
	int dir;

	(void)state;
	begin("mkdir d e; echo one >d/a; ln d/a d/b; ln d/a e/c");
	b = open_overlay();
	assert_int_equal(write_at(b, "d/a", "ONE", 0), 0);
	assert_string_equal(content_of(b, "e/c", NULL), "ONE\n");
	assert_int_equal(stat_of(b, "d/b", &st), 0);
	assert_int_equal(stat_of(b, "d/a", &other), 0);
	assert_int_equal(st.nlink, 3);
	assert_int_equal(st.ino, other.ino);
	dir = walk(b, "d");
	assert_int_equal(b->ops->unlink(b, dir, "b", false), 0);
	assert_int_equal(stat_of(b, "e/c", &st), 0);
	assert_int_equal(st.nlink, 2);
	assert_int_equal(b->ops->unlink(b, dir, "a", false), 0);
	b->ops->destroy(b);
	b = open_overlay();
	assert_int_equal(stat_of(b, "e/c", &st), 0);
	assert_int_equal(st.nlink, 1);
	assert_int_equal(write_at(b, "e/c", "two", 0), 0);
	assert_string_equal(content_of(b, "e/c", NULL), "two\n");
	/* Nothing is kept for no name's sake. */
	dir = walk(b, "e");
	assert_int_equal(b->ops->unlink(b, dir, "c", false), 0);
	put(b, dir);
	shell("test -z \"$(ls %s/layer/index)\"", top);
	b->ops->destroy(b);
	check_lower();
}

/* A name that another file takes is a link less. */
static void test_link_that_is_replaced(void **state)
{
	struct hk_backend *b;
	struct hk_stat st;

	(void)state;
	begin("echo one >a; ln a b; ln a c; echo two >d");
	b = open_overlay();
	assert_int_equal(b->ops->rename(b, b->root, "d", b->root, "a", 0), 0);
	assert_int_equal(stat_of(b, "b", &st), 0);
	assert_int_equal(st.nlink, 2);
	assert_int_equal(b->ops->rename(b, b->root, "a", b->root, "b", 0), 0);
	assert_int_equal(stat_of(b, "c", &st), 0);
	assert_int_equal(st.nlink, 1);
	b->ops->destroy(b);
	check_lower();
}

/*
 * What is copied into a directory changes neither its times nor, for whoever may not write to it,
 * its mode.
 */
static void test_copy_up_leaves_the_directory(void **state)
{
	struct hk_backend *b;
	struct hk_stat st;

	(void)state;
	begin("mkdir d; echo x >d/f; chmod 555 d; touch -d @1000000000 d");
	b = open_overlay();
	assert_int_equal(write_at(b, "d/f", "X", 0), 0);
	assert_int_equal(stat_of(b, "d", &st), 0);
	assert_int_equal(st.mode & 07777, 0555);
	assert_int_equal(st.mtime.tv_sec, 1000000000);
	b->ops->destroy(b);
	shell("chmod -R u+w %s", top);
}

/*
 * A directory that its owner may not write to is his nevertheless: to be changed, and to be
 * removed.
 */
static void test_closed_directory_is_its_owners(void **state)
{
	const struct timespec times[2] = {{.tv_sec = 1}, {.tv_sec = 1}};
	struct hk_backend *b;
	struct hk_stat st;
	int obj;

	(void)state;
	begin("mkdir -m 555 d e; mkdir f; echo x >f/f");
	b = open_overlay();
	obj = walk(b, "d");
	assert_int_equal(b->ops->chmod(b, obj, 0755), 0);
	put(b, obj);
	assert_int_equal(stat_of(b, "d", &st), 0);
	assert_int_equal(st.mode & 07777, 0755);
	obj = walk(b, "e");
	assert_int_equal(b->ops->utimes(b, obj, times), 0);
	put(b, obj);
	assert_int_equal(b->ops->unlink(b, b->root, "e", true), 0);
	obj = walk(b, "f");
	assert_int_equal(b->ops->unlink(b, obj, "f", false), 0);
	assert_int_equal(b->ops->chmod(b, obj, 0555), 0);
	put(b, obj);
	assert_int_equal(b->ops->unlink(b, b->root, "f", true), 0);
	assert_int_equal(stat_of(b, "e", &st), -ENOENT);
	assert_int_equal(stat_of(b, "f", &st), -ENOENT);
	b->ops->destroy(b);
	check_lower();
}

/* To cut a file is to change it, though the copy is made without its data. */
static void test_cut_file_is_as_new(void **state)
{
	struct hk_backend *b;
	struct hk_stat st;
	int obj;

	(void)state;
	begin("echo x >f; touch -d @1000000000 f");
	b = open_overlay();
	obj = walk(b, "f");
	assert_int_equal(b->ops->truncate(b, obj, 0), 0);
	put(b, obj);
	assert_int_equal(stat_of(b, "f", &st), 0);
	assert_int_equal(st.size, 0);
	assert_true(st.mtime.tv_sec > 1000000000);
	b->ops->destroy(b);
}

/* What cannot be made where something was removed does not bring that back. */
static void test_failure_over_whiteout(void **state)
{
	struct hk_backend *b;
	struct hk_stat st;

	(void)state;
	begin("echo x >f");
	b = open_overlay();
	assert_int_equal(b->ops->unlink(b, b->root, "f", false), 0);
	assert_true(b->ops->mknod(b, b->root, "f", S_IFDIR | 0755, 0, &me) < 0);
	assert_int_equal(stat_of(b, "f", &st), -ENOENT);
	b->ops->destroy(b);
	check_lower();
}

/* Who has a directory open that is removed sees nothing in it, above or below. */
static void test_removed_directory_is_empty(void **state)
{
	_Alignas(struct hk_dirent) char buf[512];
	struct hk_backend *b;
	ssize_t n;
	int obj;
	int file;

	(void)state;
	begin("mkdir d; echo x >d/f");
	b = open_overlay();
	obj = walk(b, "d");
	assert_int_equal(b->ops->unlink(b, obj, "f", false), 0);
	assert_int_equal(b->ops->unlink(b, b->root, "d", true), 0);
	file = b->ops->open_dir(b, obj);
	assert_true(file >= 0);
	n = b->ops->read_dir(b, file, buf, sizeof(buf));
	for (ssize_t at = 0; at < n;) {
		const struct hk_dirent *entry = (const struct hk_dirent *)(buf + at);

		at += entry->record_len;
		assert_int_equal(entry->name[0], '.');
	}
	b->ops->close(b, file);
	put(b, obj);
	b->ops->destroy(b);
	check_lower();
}

/* Both ends of an exchange keep who they are, for later runs, too. */
static void test_exchanged_keep_identity(void **state)
{
	struct hk_backend *b;
	struct hk_stat before;
	struct hk_stat st;
	int new_dir;
	int old_dir;
	int file;

	(void)state;
	begin("mkdir a; echo x >a/f");
	b = open_overlay();
	assert_int_equal(stat_of(b, "a/f", &before), 0);
	assert_int_equal(b->ops->mkdir(b, b->root, "n", 0755, &me), 0);
	new_dir = walk(b, "n");
	old_dir = walk(b, "a");
	file = b->ops->create(b, new_dir, "g", O_WRONLY, 0644, &me);
	assert_true(file >= 0);
	b->ops->close(b, file);
	assert_int_equal(b->ops->rename(b, new_dir, "g", old_dir, "f", RENAME_EXCHANGE), 0);
	put(b, new_dir);
	put(b, old_dir);
	b->ops->destroy(b);
	b = open_overlay();
	assert_int_equal(stat_of(b, "n/g", &st), 0);
	assert_int_equal(st.ino, before.ino);
	b->ops->destroy(b);
}

/*
 * A file whose attributes its owner may not read is the same in the next run; what noted that goes
 * with it.
 */
static void test_records_beside(void **state)
{
	const struct timespec times[2] = {{.tv_sec = 1}, {.tv_sec = 1}};
	struct hk_backend *b;
	struct hk_stat before;
	struct hk_stat st;
	int obj;

	(void)state;
	begin("echo x >f; ln -s x l; ln -s x m");
	b = open_overlay();
	assert_int_equal(stat_of(b, "f", &before), 0);
	obj = walk(b, "f");
	assert_int_equal(b->ops->chmod(b, obj, 0), 0);
	put(b, obj);
	b->ops->destroy(b);
	b = open_overlay();
	assert_int_equal(stat_of(b, "f", &st), 0);
	assert_int_equal(st.ino, before.ino);
	assert_int_equal(b->ops->unlink(b, b->root, "f", false), 0);
	for (const char *const *name = (const char *const[]){"l", "m", NULL}; *name != NULL;
		name++) {
		obj = walk(b, *name);
		assert_int_equal(b->ops->utimes(b, obj, times), 0);
		put(b, obj);
	}
	assert_int_equal(b->ops->rename(b, b->root, "l", b->root, "m", 0), 0);
	assert_int_equal(b->ops->unlink(b, b->root, "m", false), 0);
	shell("test -z \"$(ls %s/layer/origin)\"", top);
	b->ops->destroy(b);
	check_lower();
}

/* A layer within what it is over is not there. */
static void test_layer_below_is_hidden(void **state)
{
	struct hk_err err = HK_ERR_INIT;
	struct hk_overlay_options options = {.lower = top, .layer = in_top("layer")};
	struct hk_backend *b = NULL;
	struct names names;
	struct hk_stat st;

	(void)state;
	begin("true");
	assert_int_equal(hk_overlay_open(&options, &b, &err), 0);
	assert_int_equal(stat_of(b, "layer", &st), -ENOENT);
	list(b, "", &names);
	for (unsigned i = 0; i < names.count; i++) {
		assert_string_not_equal(names.name[i], "layer");
	}
	assert_int_equal(names.count, 3); /* lower, before, twin */
	b->ops->destroy(b);
}

static void test_unlinked_file_lives_on(void **state)
{
	struct hk_backend *b;
	struct hk_stat st;
	char buf[8];
	int obj;
	int file;

	(void)state;
	begin("echo hello >f");
	b = open_overlay();
	obj = walk(b, "f");
	file = b->ops->open(b, obj, O_RDONLY);
	assert_int_equal(b->ops->unlink(b, b->root, "f", false), 0);
	assert_int_equal(stat_of(b, "f", &st), -ENOENT);
	assert_int_equal(b->ops->stat(b, file, &st), 0);
	assert_int_equal(st.nlink, 0);
	assert_int_equal(read_of(b, file, buf, 5, 0), 5);
	/* It is changed without getting a name again. */
	assert_int_equal(b->ops->chmod(b, obj, 0600), 0);
	assert_int_equal(b->ops->stat(b, file, &st), 0);
	assert_int_equal(st.mode & 07777, 0600);
	assert_int_equal(st.nlink, 0);
	assert_int_equal(read_of(b, file, buf, 5, 0), 5);
	b->ops->close(b, file);
	put(b, obj);
	/* And the name is free. */
	file = b->ops->create(b, b->root, "f", O_RDWR, 0644, &me);
	assert_true(file >= 0);
	b->ops->close(b, file);
	assert_string_equal(content_of(b, "f", NULL), "");
	b->ops->destroy(b);
	b = open_overlay();
	assert_string_equal(content_of(b, "f", NULL), "");
	b->ops->destroy(b);
	check_lower();
}

static void test_directory_made_anew_is_empty(void **state)
{
	struct hk_backend *b;
	struct names names;
	int dir;

	(void)state;
	begin("mkdir -p d/e; echo x >d/f; echo y >d/e/g");
	b = open_overlay();
	assert_int_equal(b->ops->unlink(b, b->root, "d", true), -ENOTEMPTY);
	dir = walk(b, "d/e");
	assert_int_equal(b->ops->unlink(b, dir, "g", false), 0);
	put(b, dir);
	dir = walk(b, "d");
	assert_int_equal(b->ops->unlink(b, dir, "e", true), 0);
	assert_int_equal(b->ops->unlink(b, dir, "f", false), 0);
	put(b, dir);
	assert_int_equal(b->ops->unlink(b, b->root, "d", true), 0);
	assert_int_equal(b->ops->mkdir(b, b->root, "d", 0755, &me), 0);
	for (unsigned i = 0; i < 2; i++) {
		list(b, "d", &names);
		assert_int_equal(names.count, 0);
		b->ops->destroy(b);
		b = open_overlay();
	}
	b->ops->destroy(b);
	check_lower();
}

static void test_renamed_directory(void **state)
{
	struct hk_backend *b;
	struct hk_stat st;
	struct hk_stat moved;
	int dir;

	(void)state;
	begin("mkdir -p d/e t; echo x >d/e/f; ln d/e/f d/g; ln -s x d/l");
	b = open_overlay();
	assert_int_equal(stat_of(b, "d/e/f", &st), 0);
	dir = walk(b, "t");
	assert_int_equal(b->ops->rename(b, b->root, "d", dir, "n", 0), 0);
	put(b, dir);
	assert_int_equal(stat_of(b, "d", &moved), -ENOENT);
	assert_int_equal(stat_of(b, "t/n/e/f", &moved), 0);
	assert_int_equal(moved.ino, st.ino);
	assert_int_equal(moved.nlink, 2);
	assert_int_equal(write_at(b, "t/n/g", "y", 0), 0);
	b->ops->destroy(b);
	b = open_overlay();
	assert_int_equal(stat_of(b, "d", &moved), -ENOENT);
	assert_string_equal(content_of(b, "t/n/e/f", NULL), "y\n");
	/* Over an empty one, and back to where something is below. */
	dir = walk(b, "t");
	assert_int_equal(b->ops->rename(b, dir, "n", b->root, "d", RENAME_NOREPLACE), 0);
	put(b, dir);
	assert_string_equal(content_of(b, "d/e/f", NULL), "y\n");
	assert_int_equal(b->ops->rename(b, b->root, "d", b->root, "t", RENAME_EXCHANGE), 0);
	assert_string_equal(content_of(b, "t/e/f", NULL), "y\n");
	b->ops->destroy(b);
	check_lower();
}

static void test_positions_are_stable(void **state)
{
	_Alignas(struct hk_dirent) char buf[120];
	struct hk_backend *b;
	unsigned seen = 0;
	uint64_t at = 0;
	ssize_t n;

	(void)state;
	begin("for i in $(seq 60); do echo $i >f$i; done");
	b = open_overlay();
	/*
	 * As rm -r does it: what was seen is removed, and each request comes to a listing of its
	 * own.
	 */
	do {
		int file = b->ops->open_dir(b, b->root);

		assert_int_equal(b->ops->seek_dir(b, file, at), 0);
		n = b->ops->read_dir(b, file, buf, sizeof(buf));
		assert_true(n >= 0);
		for (ssize_t i = 0; i < n;) {
			const struct hk_dirent *entry = (const struct hk_dirent *)(buf + i);

			i += entry->record_len;
			at = entry->next;
			if (entry->name[0] == 'f') {
				seen++;
				assert_int_equal(b->ops->unlink(b, b->root, entry->name, false), 0);
			}
		}
		b->ops->close(b, file);
	} while (n > 0);
	assert_int_equal(seen, 60);
	b->ops->destroy(b);
	/* As a listing that goes on in another request: no entry comes twice. */
	begin("for i in $(seq 60); do echo $i >f$i; done");
	b = open_overlay();
	seen = 0;
	at = 0;
	do {
		int file = b->ops->open_dir(b, b->root);

		assert_int_equal(b->ops->seek_dir(b, file, at), 0);
		n = b->ops->read_dir(b, file, buf, sizeof(buf));
		assert_true(n >= 0);
		for (ssize_t i = 0; i < n;) {
			const struct hk_dirent *entry = (const struct hk_dirent *)(buf + i);

			i += entry->record_len;
			at = entry->next;
			seen += entry->name[0] == 'f';
		}
		b->ops->close(b, file);
		assert_true(seen <= 60);
	} while (n > 0);
	assert_int_equal(seen, 60);
	b->ops->destroy(b);
	check_lower();
}

static void test_temporary_file_gets_a_name(void **state)
{
	struct hk_backend *b;
	struct hk_stat st;
	int dir;
	int file;

	(void)state;
	begin("mkdir d; echo x >d/f");
	b = open_overlay();
	dir = walk(b, "d");
	file = b->ops->tmpfile(b, dir, O_RDWR, 0640, &me);
	assert_true(file >= 0);
	assert_int_equal(b->ops->stat(b, file, &st), 0);
	assert_int_equal(st.nlink, 0);
	assert_int_equal(b->ops->link(b, file, dir, "f"), -EEXIST);
	assert_int_equal(b->ops->unlink(b, dir, "f", false), 0);
	assert_int_equal(b->ops->link(b, file, dir, "f"), 0);
	assert_int_equal(stat_of(b, "d/f", &st), 0);
	assert_int_equal(st.nlink, 1);
	b->ops->close(b, file);
	put(b, dir);
	b->ops->destroy(b);
	check_lower();
}

/* A way that leads nowhere else: each of @paths is gone from @b. */
static void check_gone(struct hk_backend *b, const char *const *paths)
{
	struct hk_stat st;

	for (; *paths != NULL; paths++) {
		int r = stat_of(b, *paths, &st);

		if (r != -ENOENT) {
			fail_msg("'%s' is there: %d", *paths, r);
		}
	}
}

static void rename_path(struct hk_backend *b, const char *from, const char *to, int expected)
{
	const char *old_name;
	const char *new_name;
	int old_dir = walk_dir(b, from, &old_name);
	int new_dir = walk_dir(b, to, &new_name);

	assert_true(old_dir >= 0 && new_dir >= 0);
	assert_int_equal(b->ops->rename(b, old_dir, old_name, new_dir, new_name, 0), expected);
	put(b, old_dir);
	put(b, new_dir);
}

static void test_nothing_is_copied_to_rename(void **state)
{
	static const char *const gone[] = {"d", "n/in", "n/e/g", NULL};
	struct hk_backend *b;

	(void)state;
	begin("mkdir -p d/e d/in/deep t; echo x >d/e/f; echo y >d/e/g; echo z >d/in/deep/h");
	b = open_overlay();
	rename_path(b, "d", "n", 0);
	rename_path(b, "n/in", "t/out", 0);
	rename_path(b, "t/out/deep", "t/out/deeper", 0);
	assert_int_equal(write_at(b, "n/e/f", "X", 0), 0);
	rename_path(b, "n/e/g", "t/g", 0);
	for (unsigned i = 0; i < 2; i++) {
		check_gone(b, gone);
		assert_string_equal(content_of(b, "n/e/f", NULL), "X\n");
		assert_string_equal(content_of(b, "t/g", NULL), "y\n");
		assert_string_equal(content_of(b, "t/out/deeper/h", NULL), "z\n");
		b->ops->destroy(b);
		b = open_overlay();
	}
	b->ops->destroy(b);
	shell("cd %s/layer/upper; test $(find . -type f | wc -l) = 2", top);
	check_lower();
}

/* A host that makes circles of what the layer has renamed, or takes it away. */
static void test_renamed_below_meanwhile(void **state)
{
	static const char *const gone[] = {"b/new/f", "b/new/h", NULL};
	struct hk_backend *b;
	struct hk_stat st;

	(void)state;
	begin("mkdir a b; echo x >a/f; echo y >b/g");
	b = open_overlay();
	rename_path(b, "a", "b/new", 0);
	assert_int_equal(write_at(b, "b/new/f", "X", 0), 0);
	b->ops->destroy(b);

	/* Below, b is in a now, which the layer shows in b. */
	shell("mv %s/lower/b %s/lower/a/b", top, top);
	b = open_overlay();
	assert_string_equal(content_of(b, "b/new/f", NULL), "X\n");
	stat_of(b, "b/new/b/new/b", &st);
	stat_of(b, "b/new/b/g", &st);
	write_at(b, "b/new/b/g", "Y", 0);
	b->ops->destroy(b);

	/* Another directory stands where it was. */
	shell("cd %s/lower; rm -rf a; mkdir a b; echo other >a/h", top);
	b = open_overlay();
	check_gone(b, gone + 1);
	assert_string_equal(content_of(b, "b/new/f", NULL), "X\n");
	rename_path(b, "b/new", "newer", 0);
	assert_string_equal(content_of(b, "newer/f", NULL), "X\n");
	b->ops->destroy(b);
}

static void test_copy_up_where_parents_are_closed(void **state)
{
	struct hk_backend *b;
	struct hk_stat st;
	int obj;

	(void)state;
	begin("mkdir -p a/b/c/d; echo x >a/b/c/d/f");
	b = open_overlay();
	/* Of all on the way only this is held. */
	obj = walk(b, "a/b/c/d/f");
	assert_int_equal(b->ops->chmod(b, obj, 0600), 0);
	assert_int_equal(stat_of(b, "a/b/c/d/f", &st), 0);
	assert_int_equal(st.mode & 07777, 0600);
	put(b, obj);
	/* And where the way is another by now. */
	obj = walk(b, "a/b/c/d");
	rename_path(b, "a/b", "n", 0);
	assert_int_equal(b->ops->chmod(b, obj, 0700), 0);
	put(b, obj);
	assert_int_equal(stat_of(b, "n/c/d", &st), 0);
	assert_int_equal(st.mode & 07777, 0700);
	b->ops->destroy(b);
	check_lower();
}

/* --- trees of any depth --- */

enum { DEEP = 1200, FEW_DESCRIPTORS = 256, SMALL_STACK = 128 << 10 };

/* d/d/d… in a directory of top. */
static void make_deep(const char *name, unsigned depth)
{
	int fd = open(in_top(name), O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	for (unsigned i = 0; i < depth; i++) {
		int next;

		assert_int_equal(mkdirat(fd, "d", 0755), 0);
		next = openat(fd, "d", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		assert_true(next >= 0);
		close(fd);
		fd = next;
	}
	close(fd);
}

/* The directory at the bottom, of which nothing above is held. */
static int walk_deep(struct hk_backend *b, unsigned depth)
{
	int at = b->root;

	for (unsigned i = 0; i < depth && at >= 0; i++) {
		int next = b->ops->reach(b, at, "d");

		put(b, at);
		at = next;
	}
	return at;
}

struct deep_write {
	struct hk_backend *b;
	int r;
};

static void *write_deep(void *arg)
{
	struct deep_write *task = arg;
	struct hk_backend *b = task->b;
	int at = walk_deep(b, DEEP);
	int file = at < 0 ? at : b->ops->create(b, at, "f", O_CREAT | O_RDWR, 0644, &me);

	task->r = file < 0 ? file : b->ops->chmod(b, at, 0700);
	if (file >= 0) {
		b->ops->close(b, file);
	}
	if (at >= 0) {
		put(b, at);
	}
	return NULL;
}

/*
 * What only touches the bottom copies all that is above, with the stack and the descriptors of a
 * server's thread.
 */
static void test_copy_up_far_below(void **state)
{
	struct deep_write task = {0};
	struct rlimit old_limit;

	(void)state;
	begin("true");
	make_deep("lower", DEEP);
	task.b = open_overlay();
	getrlimit(RLIMIT_NOFILE, &old_limit);
	setrlimit(RLIMIT_NOFILE, &(struct rlimit){FEW_DESCRIPTORS, old_limit.rlim_max});
	run_on_stack(SMALL_STACK, write_deep, &task);
	setrlimit(RLIMIT_NOFILE, &old_limit);
	assert_int_equal(task.r, 0);
	task.b->ops->destroy(task.b);
	shell("test $(find %s/layer/upper -name f | wc -l) = 1", top);
	shell("test $(find %s/lower -name f | wc -l) = 0", top);
}

static struct hk_layer *open_layer(void)
{
	struct hk_err err = HK_ERR_INIT;
	struct hk_layer *layer = NULL;
	char lower[256];

	hk_fmt(lower, sizeof(lower), "%s/lower", top);
	assert_int_equal(hk_layer_open(in_top("layer"), lower, &layer, &err), 0);
	return layer;
}

static void no_conflict(void *arg, const struct hk_change *change, const char *why)
{
	print_error("'%s' is left: %s\n", change->path, why);
}

static int note_kind(void *arg, const struct hk_change *change)
{
	unsigned *counts = arg;

	counts[change->kind]++;
	return 0;
}

/*
 * Layers are shown and applied with fewer descriptors than there are directories within each other.
 */
static void test_layer_far_below(void **state)
{
	unsigned counts[HK_CHANGE_RENAMED + 1] = {0};
	struct hk_err err = HK_ERR_INIT;
	struct rlimit old_limit;
	struct hk_layer *layer;
	struct hk_backend *b;
	int file;
	int at;

	(void)state;
	begin("mkdir -p x/y gone; echo 1 >x/y/one; ln x/y/one x/two");
	make_deep("lower", 400);
	make_deep("lower/gone", 400);
	b = open_overlay();
	at = walk_deep(b, 400);
	file = b->ops->create(b, at, "f", O_CREAT | O_RDWR, 0644, &me);
	assert_true(file >= 0);
	b->ops->close(b, file);
	/* All the way down below a name that is another's below. */
	rename_path(b, "d", "n", 0);
	rename_path(b, "x", "d", 0);
	assert_int_equal(write_at(b, "d/two", "2", 0), 0);
	put(b, at);
	rename_path(b, "gone", "d/g", 0);
	b->ops->destroy(b);

	getrlimit(RLIMIT_NOFILE, &old_limit);
	setrlimit(RLIMIT_NOFILE, &(struct rlimit){FEW_DESCRIPTORS, old_limit.rlim_max});
	layer = open_layer();
	if (hk_layer_each(layer, note_kind, counts, &err) < 0 ||
		hk_layer_apply(layer, NULL, false, no_conflict, NULL, &err) != 0) {
		fail_msg("%s", hk_err_text(&err));
	}
	hk_layer_close(layer);
	setrlimit(RLIMIT_NOFILE, &old_limit);
	assert_int_equal(counts[HK_CHANGE_RENAMED], 3);
	assert_int_equal(counts[HK_CHANGE_ADDED], 1);
	assert_int_equal(counts[HK_CHANGE_CHANGED], 2);
	shell("cd %s/lower; test \"$(cat d/two d/y/one)\" = \"$(printf '2\\n2')\"", top);
	shell("cd %s/lower; test $(find n -name f | wc -l) = 1; test $(find d/g | wc -l) = 401",
		top);
	shell("cd %s/layer; test $(find upper -mindepth 1 | wc -l) = 0", top);
}

/* Where it is too deep to be compared, that is said. */
struct too_deep {
	struct hk_layer *layer;
	struct hk_err err;
	int result;
};

static void *list_too_deep(void *arg)
{
	unsigned counts[HK_CHANGE_RENAMED + 1] = {0};
	struct too_deep *t = arg;

	t->result = hk_layer_each(t->layer, note_kind, counts, &t->err);
	return NULL;
}

/* In a thread with a large stack: what is instrumented needs several times as much of it. */
static void test_layer_too_deep(void **state)
{
	struct too_deep t = {.err = HK_ERR_INIT};
	struct hk_backend *b;

	(void)state;
	begin("true");
	b = open_overlay();
	b->ops->destroy(b);
	make_deep("layer/upper", 4100);
	t.layer = open_layer();
	run_on_stack(128 << 20, list_too_deep, &t);
	assert_int_equal(t.result, -ENAMETOOLONG);
	assert_non_null(strstr(hk_err_text(&t.err), "'d/d/d/"));
	assert_non_null(strstr(hk_err_text(&t.err), "4096 directories"));
	hk_layer_close(t.layer);
}

static bool all_is_cow(void *arg, const char *path)
{
	(void)arg;
	(void)path;
	return true;
}

/* Where a renamed directory has to be copied, but is too deep, who renames is told to copy. */
static void test_too_deep_to_be_owned(void **state)
{
	struct hk_backend *b;

	(void)state;
	begin("mkdir d d/x; touch d/x/f");
	make_deep("lower/d", 300);
	b = open_overlay_with(all_is_cow);
	rename_path(b, "d", "n", -EXDEV);
	rename_path(b, "d/x", "x", 0);
	put(b, walk_deep(b, 301));
	b->ops->destroy(b);
}

/* Return: -ENODATA where it has none; the length */
static ssize_t raw_xattr(struct hk_backend *b, const char *path, const char *name, char value[256])
{
	int obj = walk(b, path);
	ssize_t n = b->ops->getxattr(b, obj, name, value, 256);

	put(b, obj);
	return n;
}

/*
 * linux/posix_acl_xattr.h: a version, and entries of tag, permissions and id. linux/capability.h.
 */
#define UID_12_READS_AND_WRITES \
	"0x02000000" \
	"01000600ffffffff" \
	"020006000c000000" \
	"04000400ffffffff" \
	"10000600ffffffff" \
	"20000400ffffffff"
#define GID_12_LOOKS \
	"0x02000000" \
	"01000700ffffffff" \
	"04000500ffffffff" \
	"080005000c000000" \
	"10000500ffffffff" \
	"20000500ffffffff"
#define NET_BIND_SERVICE "0x0100000200040000000000000000000000000000"

static void test_copy_up_takes_acls_and_capabilities(void **state)
{
	static const char *const files[][2] = {{"d/f", "system.posix_acl_access"},
		{"d", "system.posix_acl_default"}, {"cap", "security.capability"}};
	struct hk_backend *b;
	unsigned seen = 0;

	(void)state;
	/* Not every file system has them, nor may everybody set them. */
	begin("mkdir d; echo x >d/f; echo y >cap;"
	      "setfattr -n system.posix_acl_access -v " UID_12_READS_AND_WRITES " d/f || true;"
	      "setfattr -n system.posix_acl_default -v " GID_12_LOOKS " d || true;"
	      "setfattr -n security.capability -v " NET_BIND_SERVICE " cap 2>/dev/null || true");
	b = open_overlay();
	for (unsigned i = 0; i < HK_ARRAY_SIZE(files); i++) {
		char before[256];
		char after[256];
		ssize_t n = raw_xattr(b, files[i][0], files[i][1], before);
		int obj = walk(b, files[i][0]);
		struct timespec times[2] = {{.tv_sec = 1}, {.tv_sec = 2}};

		assert_int_equal(b->ops->utimes(b, obj, times), 0);
		put(b, obj);
		assert_int_equal(raw_xattr(b, files[i][0], files[i][1], after), n);
		if (n > 0) {
			assert_memory_equal(before, after, (size_t)n);
			seen++;
		}
	}
	b->ops->destroy(b);
	check_lower();
	if (seen == 0) {
		skip();
	}
}

/* --- many at once --- */

enum { WRITERS = 8 };

struct writer {
	struct hk_backend *b;
	pthread_barrier_t *start;
	unsigned number;
};

/* Every thread copies up the same files, and writes its byte into each. */
static void *write_all(void *arg)
{
	static const char *const paths[] = {"d/big", "d/small", "linked", "d/other"};
	struct writer *writer = arg;
	char letter[2] = {(char)('A' + writer->number), '\0'};
	char name[8];
	struct hk_stat st;

	hk_fmt(name, sizeof(name), "n%u", writer->number);
	for (unsigned i = 0; i < HK_ARRAY_SIZE(paths); i++) {
		pthread_barrier_wait(writer->start);
		assert_int_equal(write_at(writer->b, paths[i], letter, writer->number), 0);
		assert_int_equal(stat_of(writer->b, paths[i], &st), 0);
	}
	pthread_barrier_wait(writer->start);
	/* One of them renames the directory that all the others change something in. */
	if (writer->number == 0) {
		rename_path(writer->b, "e", "moved", 0);
	} else {
		int r = write_at(writer->b, "e/in/f", letter, writer->number);

		assert_true(r == 0 || r == -ENOENT || r == -ESTALE);
	}
	return NULL;
}

static void test_threads_copy_up_one(void **state)
{
	struct writer writers[WRITERS];
	pthread_t threads[WRITERS];
	pthread_barrier_t start;
	struct hk_backend *b;
	struct hk_stat st;

	(void)state;
	begin("mkdir -p d e/in; head -c 3000000 /dev/zero >d/big; echo 01234567 >d/small;"
	      "echo 01234567 >linked; ln linked d/other; echo 01234567 >e/in/f");
	b = open_overlay();
	pthread_barrier_init(&start, NULL, WRITERS);
	for (unsigned i = 0; i < WRITERS; i++) {
		writers[i] = (struct writer){.b = b, .start = &start, .number = i};
		assert_int_equal(pthread_create(&threads[i], NULL, write_all, &writers[i]), 0);
	}
	for (unsigned i = 0; i < WRITERS; i++) {
		pthread_join(threads[i], NULL);
	}
	pthread_barrier_destroy(&start);
	assert_string_equal(content_of(b, "d/small", NULL), "ABCDEFGH\n");
	assert_string_equal(content_of(b, "linked", NULL), "ABCDEFGH\n");
	assert_string_equal(content_of(b, "d/other", NULL), "ABCDEFGH\n");
	assert_string_equal(content_of(b, "d/big", NULL), "ABCDEFGH");
	assert_int_equal(stat_of(b, "d/big", &st), 0);
	assert_int_equal(st.size, 3000000);
	assert_int_equal(stat_of(b, "linked", &st), 0);
	assert_int_equal(st.nlink, 2);
	assert_int_equal(stat_of(b, "moved/in/f", &st), 0);
	b->ops->destroy(b);
	shell("test -z \"$(ls %s/layer/work)\"", top);
	check_lower();
}

/* --- killed in the middle --- */

enum { KILLED_FILES = 40 };

static void change_until_killed(int to)
{
	struct hk_backend *b = open_overlay();
	char path[32];

	for (unsigned i = 0;; i++) {
		hk_fmt(path, sizeof(path), "d/f%u", i % KILLED_FILES);
		write_at(b, path, "NEW", 0);
		hk_fmt(path, sizeof(path), "e%u", i % 8);
		rename_path(b, path, "moved", 0);
		rename_path(b, "moved", path, 0);
		if (write(to, "x", 1) != 1) {
			_exit(1);
		}
	}
}

static void kill_after(unsigned operations)
{
	int ends[2];
	char byte;
	pid_t pid;

	assert_int_equal(pipe(ends), 0);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		close(ends[0]);
		change_until_killed(ends[1]);
	}
	close(ends[1]);
	for (unsigned i = 0; i < operations; i++) {
		assert_int_equal(read(ends[0], &byte, 1), 1);
	}
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	close(ends[0]);
}

static void test_killed_layer_is_whole(void **state)
{
	struct hk_backend *b;
	struct names names;
	struct hk_stat st;
	char path[32];

	(void)state;
	begin("mkdir d e0 e1 e2 e3 e4 e5 e6 e7; for i in $(seq 0 39); do head -c 100000 /dev/zero "
	      ">d/f$i;"
	      "echo end >>d/f$i; done; for i in 0 1 2 3 4 5 6 7; do echo $i >e$i/f; done; ln d/f0 "
	      "linked");
	for (unsigned round = 0; round < 12; round++) {
		kill_after(round * 3);
		b = open_overlay();
		list(b, "d", &names);
		assert_int_equal(names.count, KILLED_FILES);
		for (unsigned i = 0; i < names.count; i++) {
			const char *text;
			int n;

			/* The old one or the new one, nothing in between. */
			n = hk_fmt(path, sizeof(path), "d/%s", names.name[i]);
			assert_true(n > 0);
			text = content_of(b, path, NULL);
			assert_true(text[0] == '\0' || strncmp(text, "NEW", 3) == 0);
			assert_int_equal(stat_of(b, path, &st), 0);
			assert_int_equal(st.size, 100004);
		}
		for (unsigned i = 0; i < 8; i++) {
			/* Where it is, or where it was about to be. */
			hk_fmt(path, sizeof(path), "e%u/f", i);
			if (stat_of(b, path, &st) < 0) {
				hk_fmt(path, sizeof(path), "e%u", i);
				rename_path(b, "moved", path, 0);
				hk_fmt(path, sizeof(path), "e%u/f", i);
			}
			assert_int_equal(content_of(b, path, NULL)[0], '0' + (int)i);
		}
		b->ops->destroy(b);
		shell("test -z \"$(ls %s/layer/work)\"", top);
	}
	check_lower();
}

static bool is_in_cow(void *arg, const char *path)
{
	return strncmp(path, "/cow/", 5) == 0 || strncmp(path, "/d/cow", 6) == 0;
}

static void test_parts_are_cow(void **state)
{
	struct hk_backend *b;
	struct hk_stat st;
	struct names names;
	int file;
	int dir;
	int below;

	(void)state;
	begin("mkdir cow d; echo x >cow/f; echo y >d/g; mkdir d/cow; echo z >d/cow/h");
	b = open_overlay_with(is_in_cow);
	dir = walk(b, "d");
	file = b->ops->create(b, dir, "new", O_RDWR, 0644, &me);
	assert_true(file >= 0);
	b->ops->close(b, file);
	assert_int_equal(access(in_top("lower/d/new"), F_OK), 0); /* changed below */
	assert_int_equal(write_at(b, "d/g", "Y", 0), 0);
	assert_int_equal(write_at(b, "cow/f", "X", 0), 0);
	assert_int_equal(write_at(b, "d/cow/h", "Z", 0), 0);
	below = walk(b, "cow");
	file = b->ops->create(b, below, "up", O_RDWR, 0644, &me);
	assert_true(file >= 0);
	b->ops->close(b, file);
	/* What is below is changed below, the rest is not. */
	shell("cd %s/lower; test $(cat cow/f d/g d/cow/h | tr -d '\\n') = xYz; ! test -e cow/up",
		top);
	assert_string_equal(content_of(b, "cow/f", NULL), "X\n");
	assert_string_equal(content_of(b, "d/cow/h", NULL), "Z\n");
	list(b, "cow", &names);
	assert_int_equal(names.count, 2);
	list(b, "d", &names);
	assert_int_equal(names.count, 3);
	assert_int_equal(b->ops->rename(b, below, "f", dir, "f", 0), -EXDEV);
	/* Nor does a link lead across; and a directory with a part of it stays where it is. */
	file = walk(b, "cow/f");
	assert_int_equal(b->ops->link(b, file, dir, "link"), -EXDEV);
	put(b, file);
	file = walk(b, "d/g");
	assert_int_equal(b->ops->link(b, file, below, "link"), -EXDEV);
	put(b, file);
	assert_int_equal(b->ops->rename(b, b->root, "d", b->root, "e", 0), -EXDEV);
	assert_int_equal(b->ops->unlink(b, b->root, "cow", true), -ENOTEMPTY);
	assert_int_equal(b->ops->unlink(b, below, "f", false), 0);
	assert_int_equal(stat_of(b, "cow/f", &st), -ENOENT);
	assert_int_equal(access(in_top("lower/cow/f"), F_OK), 0);
	put(b, below);
	put(b, dir);
	b->ops->destroy(b);
	/* What an earlier run kept apart shows no more where a later one does not. */
	begin("mkdir d; echo y >d/g");
	b = open_overlay();
	assert_int_equal(write_at(b, "d/g", "Y", 0), 0);
	b->ops->destroy(b);
	b = open_overlay_with(is_in_cow);
	assert_string_equal(content_of(b, "d/g", NULL), "y\n");
	b->ops->destroy(b);
}

static void test_layer_is_checked(void **state)
{
	struct hk_err err = HK_ERR_INIT;
	struct hk_backend *b;
	struct hk_backend *second = NULL;
	char lower[256];
	char layer[256];
	struct hk_overlay_options options = {.lower = lower, .layer = layer};

	(void)state;
	begin("echo x >f");
	hk_fmt(lower, sizeof(lower), "%s/lower", top);
	hk_fmt(layer, sizeof(layer), "%s/layer", top);
	b = open_overlay();
	assert_int_equal(hk_overlay_open(&options, &second, &err), -EBUSY);
	b->ops->destroy(b);
	hk_fmt(lower, sizeof(lower), "%s/twin", top);
	assert_int_equal(hk_overlay_open(&options, &second, &err), -EINVAL);
	assert_non_null(strstr(hk_err_text(&err), "was made over"));
	hk_fmt(layer, sizeof(layer), "%s/before", top);
	assert_int_equal(hk_overlay_open(&options, &second, &err), -EINVAL);
	shell("echo hako layer 2 >%s/layer/version", top);
	hk_fmt(layer, sizeof(layer), "%s/layer", top);
	assert_int_equal(hk_overlay_open(&options, &second, &err), -EINVAL);
	hk_fmt(layer, sizeof(layer), "%s/none", top);
	assert_int_equal(hk_overlay_open(&options, &second, &err), -ENOENT);
	assert_null(second);
}

/* --- thousands of operations --- */

static uint32_t seed;

static unsigned pick(unsigned count)
{
	seed = seed * 1664525 + 1013904223;
	return (seed >> 8) % count;
}

static void random_path(char path[64])
{
	unsigned depth = 1 + pick(3);
	size_t at = 0;

	for (unsigned i = 0; i < depth; i++) {
		at += (size_t)hk_fmt(path + at, 64 - at, "%s%c", i > 0 ? "/" : "", 'a' + pick(4));
	}
}

struct op {
	unsigned kind;
	char path[64];
	char other[64];
	unsigned number;
};

enum { OPS = 15 };

static int name_op(struct hk_backend *b, const struct op *op, int dir, const char *name)
{
	static const unsigned flags[] = {0, 0, 0, RENAME_NOREPLACE, RENAME_EXCHANGE};
	const char *other_name;
	int other;
	int r;

	switch (op->kind) {
	case 0:
	case 1:
		r = b->ops->create(b, dir, name, O_WRONLY, 0600 | (op->number & 0177), &me);
		if (r >= 0) {
			b->ops->close(b, r);
			r = 0;
		}
		return r;
	case 2:
		return b->ops->mkdir(b, dir, name, 0700 | (op->number & 077), &me);
	case 3:
		return b->ops->symlink(b, dir, name, op->other, &me);
	case 4:
		return b->ops->mknod(b, dir, name, S_IFIFO | 0644, 0, &me);
	case 5:
		return b->ops->unlink(b, dir, name, false);
	case 6:
		return b->ops->unlink(b, dir, name, true);
	default:
		other = walk_dir(b, op->other, &other_name);
		if (other < 0) {
			return other;
		}
		r = b->ops->rename(b, dir, name, other, other_name, flags[op->number % 5]);
		put(b, other);
		return r;
	}
}

static int inode_op(struct hk_backend *b, const struct op *op, int obj)
{
	struct timespec times[2] = {{.tv_sec = op->number}, {.tv_sec = op->number + 1}};
	struct hk_stat st;
	const char *name;
	int dir;
	int r = b->ops->stat(b, obj, &st);

	if (r < 0) {
		return r;
	}
	switch (op->kind) {
	case 9:
		return S_ISLNK(st.mode) ? 0 : b->ops->chmod(b, obj, 0700 | (op->number & 077));
	case 10:
		return S_ISREG(st.mode) ? b->ops->truncate(b, obj, op->number % 9000) : 0;
	case 11:
		return S_ISREG(st.mode) || S_ISDIR(st.mode)
			? b->ops->setxattr(b, obj, "user.x", op->other, strlen(op->other), 0)
			: 0;
	case 12:
		return S_ISREG(st.mode) ? b->ops->removexattr(b, obj, "user.x") : 0;
	case 13:
		return b->ops->utimes(b, obj, times);
	default:
		dir = walk_dir(b, op->other, &name);
		r = dir < 0 ? dir : S_ISDIR(st.mode) ? 0 : b->ops->link(b, obj, dir, name);
		put(b, dir);
		return r;
	}
}

static int apply(struct hk_backend *b, const struct op *op)
{
	const char *name;
	int obj;
	int r;

	if (op->kind == 8) {
		return write_at(b, op->path, op->other, op->number % 5000);
	}
	obj = op->kind < 8 ? walk_dir(b, op->path, &name) : walk(b, op->path);
	if (obj < 0) {
		return obj;
	}
	r = op->kind < 8 ? name_op(b, op, obj, name) : inode_op(b, op, obj);
	put(b, obj);
	return r;
}

static void random_op(struct op *op)
{
	op->kind = pick(OPS);
	op->number = pick(100000);
	random_path(op->path);
	random_path(op->other);
}

/* Is @inner within @outer, or it? The kernel says so before a file system is asked. */
static bool is_within(const char *outer, const char *inner)
{
	size_t len = strlen(outer);

	return strncmp(outer, inner, len) == 0 && (inner[len] == '/' || inner[len] == '\0');
}

/* A file that its owner may not read is compared and applied all the same. */
static void test_unreadable_file_is_applied(void **state)
{
	struct hk_err err = HK_ERR_INIT;
	struct hk_layer *layer;
	struct hk_backend *b;
	int obj;

	(void)state;
	begin("echo x >f");
	b = open_overlay();
	assert_int_equal(write_at(b, "f", "X", 0), 0);
	obj = walk(b, "f");
	assert_int_equal(b->ops->chmod(b, obj, 0), 0);
	put(b, obj);
	b->ops->destroy(b);
	layer = open_layer();
	assert_int_equal(hk_layer_apply(layer, NULL, false, no_conflict, NULL, &err), 0);
	hk_layer_close(layer);
	shell("cd %s/lower; test $(stat -c %%a f) = 0; chmod 600 f; test $(cat f) = X", top);
}

/*
 * Killed in the middle of a file, by the kernel at a limit: nothing is left beside its place, and
 * the next one goes on.
 */
static void test_killed_apply_leaves_nothing(void **state)
{
	struct hk_err err = HK_ERR_INIT;
	struct hk_layer *layer;
	struct hk_backend *b;
	int status;
	pid_t pid;

	(void)state;
	begin("echo old >f");
	b = open_overlay();
	assert_int_equal(write_at(b, "f", "new", 1 << 20), 0);
	b->ops->destroy(b);
	pid = fork();
	if (pid == 0) {
		layer = open_layer();
		signal(SIGXFSZ, SIG_DFL);
		setrlimit(RLIMIT_CORE, &(struct rlimit){0, 0});
		setrlimit(RLIMIT_FSIZE, &(struct rlimit){4096, 4096});
		_exit(hk_layer_apply(layer, NULL, false, no_conflict, NULL, &err) != 0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGXFSZ);
	shell("cd %s/lower; test \"$(ls -A)\" = f; test $(cat f) = old", top);
	layer = open_layer();
	assert_int_equal(hk_layer_apply(layer, NULL, false, no_conflict, NULL, &err), 0);
	hk_layer_close(layer);
	shell("cd %s/lower; test \"$(ls -A)\" = f; tail -c 3 f | grep -qx new", top);
}

static int count_change(void *arg, const struct hk_change *change)
{
	print_error("'%s' is left, kind %d\n", change->path, (int)change->kind);
	++*(unsigned *)arg;
	return 0;
}

/* What a box's server may call, as far as changing modes goes: fchmodat(), not chmod(). */
static void forbid_chmod(void)
{
#ifdef SYS_chmod
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_chmod, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog program = {HK_ARRAY_SIZE(code), code};

	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 ||
		prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) < 0) {
		_exit(2);
	}
#endif
}

/* A user takes all rights away, in a box's server: the mode and the record are both set. */
static void test_closed_by_confined_server(void **state)
{
	pid_t pid;
	int status;

	(void)state;
	if (geteuid() == 0) {
		skip(); /* needs no right to write attributes */
	}
	begin("mkdir d; echo x >d/f");
	pid = fork();
	if (pid == 0) {
		struct hk_backend *b = open_overlay();
		int obj;

		forbid_chmod();
		obj = walk(b, "d");
		_exit(obj < 0 || b->ops->chmod(b, obj, 0) != 0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	shell("chmod 700 %s/layer/upper/d", top);
}

/* A directory that keeps its owner out: the tools of layers say which it is, and what to do. */
static void test_closed_directory_is_named(void **state)
{
	struct hk_err err = HK_ERR_INIT;
	struct hk_layer *layer;
	struct hk_backend *b;
	unsigned count = 0;
	int obj;

	(void)state;
	if (geteuid() == 0) {
		skip(); /* nothing is closed to it */
	}
	begin("mkdir d; echo x >d/f");
	b = open_overlay();
	assert_int_equal(write_at(b, "d/f", "X", 0), 0);
	obj = walk(b, "d");
	assert_int_equal(b->ops->chmod(b, obj, 0), 0);
	put(b, obj);
	b->ops->destroy(b);
	layer = open_layer();
	assert_int_equal(hk_layer_each(layer, count_change, &count, &err), -EACCES);
	assert_non_null(strstr(hk_err_text(&err), "'d'"));
	assert_non_null(strstr(err.hint, "chmod"));
	hk_layer_close(layer);
	shell("chmod 700 %s/layer/upper/d", top);
}

/* What hako apply does; nothing is left then. @in_parts: one path after the other first. */
static void apply_layer(bool in_parts)
{
	struct hk_err err = HK_ERR_INIT;
	struct hk_layer *layer;
	unsigned left = 0;

	layer = open_layer();
	for (unsigned i = 0; in_parts && i < 8; i++) {
		char part[64];
		const char *const parts[] = {part, NULL};
		int r;

		random_path(part);
		/* What one part does to the inodes of another looks as if somebody else had. */
		r = hk_layer_apply(layer, parts, true, no_conflict, NULL, &err);
		if (r != 0 && r != -ENOENT) {
			fail_msg("apply '%s': %d %s", part, r, hk_err_text(&err));
		}
	}
	if (hk_layer_apply(layer, NULL, in_parts, no_conflict, NULL, &err) != 0) {
		fail_msg("apply: %s", hk_err_text(&err));
	}
	assert_int_equal(hk_layer_each(layer, count_change, &left, &err), 0);
	assert_int_equal(left, 0);
	hk_layer_close(layer);
}

static int change_mode(struct hk_backend *b, const char *path, mode_t mode)
{
	int obj = walk(b, path);
	int r = obj < 0 ? obj : b->ops->chmod(b, obj, mode);

	put(b, obj);
	return r;
}

static int remove_of(struct hk_backend *b, const char *path, bool is_dir)
{
	const char *name;
	int dir = walk_dir(b, path, &name);
	int r = dir < 0 ? dir : b->ops->unlink(b, dir, name, is_dir);

	put(b, dir);
	return r;
}

static int make_of(struct hk_backend *b, const char *path, bool is_dir)
{
	const char *name;
	int dir = walk_dir(b, path, &name);
	int r = dir < 0  ? dir
		: is_dir ? b->ops->mkdir(b, dir, name, 0755, &me)
			 : b->ops->create(b, dir, name, O_RDWR, 0644, &me);

	if (r >= 0 && !is_dir) {
		b->ops->close(b, r);
		r = 0;
	}
	put(b, dir);
	return r;
}

static int rename_of(struct hk_backend *b, const char *old_path, const char *new_path)
{
	const char *old_name;
	const char *new_name;
	int from = walk_dir(b, old_path, &old_name);
	int to = walk_dir(b, new_path, &new_name);
	int r = b->ops->rename(b, from, old_name, to, new_name, 0);

	put(b, from);
	put(b, to);
	return r;
}

/* What is in a directory that its owner may not write in comes up, is renamed, and goes. */
static void test_read_only_directory_is_copied(void **state)
{
	struct hk_backend *b;

	(void)state;
	begin("mkdir -p around/ro/in old gone; echo x >around/ro/in/f; echo x >old/f; "
	      "chmod 555 around/ro old gone");
	b = open_overlay();
	assert_int_equal(write_at(b, "around/ro/in/f", "X", 0), 0);
	assert_int_equal(write_at(b, "old/f", "X", 0), 0);
	assert_int_equal(rename_of(b, "old", "new"), 0);
	assert_int_equal(change_mode(b, "gone", 0555), 0);
	assert_int_equal(remove_of(b, "gone", true), 0);
	assert_int_equal(make_of(b, "gone", true), 0);
	assert_int_equal(change_mode(b, "gone", 0555), 0);
	assert_int_equal(remove_of(b, "gone", true), 0);
	assert_string_equal(content_of(b, "around/ro/in/f", NULL), "X\n");
	assert_string_equal(content_of(b, "new/f", NULL), "X\n");
	b->ops->destroy(b);
	/* Nobody kept what was lent. */
	shell("cd %s/layer/upper; test $(stat -c %%a around/ro) = 555; test $(stat -c %%a new) = "
	      "555",
		top);
	check_lower();
	apply_layer(false);
	shell("cd %s/lower; test $(cat around/ro/in/f new/f | tr -d '\\n') = XX; test ! -e gone; "
	      "test $(stat -c %%a around/ro) = 555; test $(stat -c %%a new) = 555",
		top);
}

/*
 * A directory that cannot be written in any more is applied with what is in it, and what was in one
 * goes.
 */
static void test_read_only_directory_is_applied(void **state)
{
	struct hk_backend *b;

	(void)state;
	begin("mkdir -p mod ro/there ro/moves anew; echo x >ro/f; echo x >ro/there/g; echo x "
	      ">anew/f; "
	      "chmod 555 ro/moves ro anew");
	b = open_overlay();
	assert_int_equal(make_of(b, "mod/v1", true), 0);
	assert_int_equal(make_of(b, "mod/v1/a", false), 0);
	assert_int_equal(write_at(b, "mod/v1/a", "a", 0), 0);
	assert_int_equal(change_mode(b, "mod/v1", 0555), 0);
	/* Opened for a moment: no change of its own. */
	assert_int_equal(change_mode(b, "ro", 0755), 0);
	assert_int_equal(change_mode(b, "ro/moves", 0755), 0);
	assert_int_equal(remove_of(b, "ro/f", false), 0);
	assert_int_equal(make_of(b, "ro/h", false), 0);
	assert_int_equal(rename_of(b, "ro/moves", "moved"), 0);
	assert_int_equal(change_mode(b, "moved", 0555), 0);
	assert_int_equal(change_mode(b, "ro", 0555), 0);
	/* Another one under the same name. */
	assert_int_equal(change_mode(b, "anew", 0755), 0);
	assert_int_equal(remove_of(b, "anew/f", false), 0);
	assert_int_equal(remove_of(b, "anew", true), 0);
	assert_int_equal(make_of(b, "anew", true), 0);
	assert_int_equal(make_of(b, "anew/g", false), 0);
	assert_int_equal(change_mode(b, "anew", 0555), 0);
	b->ops->destroy(b);
	check_lower();
	apply_layer(false);
	shell("cd %s/lower; test \"$(find . | sort | tr '\\n' ' ')\" = "
	      "'. ./anew ./anew/g ./mod ./mod/v1 ./mod/v1/a ./moved ./ro ./ro/h ./ro/there "
	      "./ro/there/g '; "
	      "test \"$(stat -c %%a mod/v1 ro moved anew | tr '\\n' ' ')\" = '555 555 555 555 '",
		top);
	shell("cd %s/layer; test $(find upper -mindepth 1 | wc -l) = 0", top);
}

static void test_random_operations(void **state)
{
	(void)state;
	for (unsigned round = 0; round < 18; round++) {
		struct hk_backend *lower;
		struct hk_backend *twin;
		struct hk_backend *b;
		struct op op;

		seed = 4711 + round;
		begin("true");
		lower = open_host("lower");
		for (unsigned i = 0; i < 150; i++) {
			random_op(&op);
			apply(lower, &op);
		}
		lower->ops->destroy(lower);
		shell("cd %s; rm -rf before twin; cp -a lower before; cp -a lower twin", top);
		b = open_overlay();
		twin = open_host("twin");
		compare(b, twin, "", true);
		for (unsigned i = 0; i < 400; i++) {
			int x;
			int y;

			random_op(&op);
			/* Renames of directories are what there is most to say about. */
			op.kind = round % 3 == 0 && pick(4) == 0 ? 7 : op.kind;
			if (op.kind == 7 &&
				(is_within(op.path, op.other) || is_within(op.other, op.path))) {
				continue;
			}
			x = apply(b, &op);
			y = apply(twin, &op);
			if (x != y) {
				fail_msg("round %u, %u: operation %u '%s' '%s' %u: %d, not %d",
					round, i, op.kind, op.path, op.other, op.number, x, y);
			}
			if (i % 20 == 0) {
				compare(b, twin, "", false);
			}
			if (i % 100 == 99) {
				b->ops->destroy(b);
				b = open_overlay();
			}
		}
		compare(b, twin, "", false);
		b->ops->destroy(b);
		check_lower();
		apply_layer(round % 2 == 1);
		lower = open_host("lower");
		/* What is applied in parts is no one file any more. */
		with_links = round % 2 == 0;
		compare(lower, twin, "", false);
		with_links = true;
		lower->ops->destroy(lower);
		twin->ops->destroy(twin);
	}
}

static int set_up(void **state)
{
	const char *tmp = getenv("TMPDIR");

	hk_fmt(top, sizeof(top), "%s/hako-overlay-XXXXXX", tmp != NULL ? tmp : "/tmp");
	me = (struct hk_cred){.uid = geteuid(), .gid = getegid()};
	return mkdtemp(top) == NULL;
}

static int tear_down(void **state)
{
	shell("chmod -R u+rwX %s; rm -rf %s", top, top);
	return 0;
}

/* What a user may not do, root may: with --as-user all of it is tried as nobody in particular. */
static void become_user(void)
{
	if (geteuid() != 0) {
		return;
	}
	/* Dumpable again, for the files of /proc/self to be its own. */
	if (setgroups(0, NULL) < 0 || setresgid(12345, 12345, 12345) < 0 ||
		setresuid(12345, 12345, 12345) < 0 || prctl(PR_SET_DUMPABLE, 1, 0, 0, 0) < 0) {
		perror("--as-user");
		exit(1);
	}
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_copy_up_keeps_identity),
		cmocka_unit_test(test_copy_up_takes_all),
		cmocka_unit_test(test_hard_links_stay_one),
		cmocka_unit_test(test_link_that_is_replaced),
		cmocka_unit_test(test_copy_up_leaves_the_directory),
		cmocka_unit_test(test_closed_directory_is_its_owners),
		cmocka_unit_test(test_cut_file_is_as_new),
		cmocka_unit_test(test_failure_over_whiteout),
		cmocka_unit_test(test_removed_directory_is_empty),
		cmocka_unit_test(test_exchanged_keep_identity),
		cmocka_unit_test(test_records_beside),
		cmocka_unit_test(test_layer_below_is_hidden),
		cmocka_unit_test(test_unlinked_file_lives_on),
		cmocka_unit_test(test_directory_made_anew_is_empty),
		cmocka_unit_test(test_renamed_directory),
		cmocka_unit_test(test_nothing_is_copied_to_rename),
		cmocka_unit_test(test_renamed_below_meanwhile),
		cmocka_unit_test(test_copy_up_where_parents_are_closed),
		cmocka_unit_test(test_copy_up_takes_acls_and_capabilities),
		cmocka_unit_test(test_copy_up_far_below),
		cmocka_unit_test(test_too_deep_to_be_owned),
		cmocka_unit_test(test_layer_far_below),
		cmocka_unit_test(test_layer_too_deep),
		cmocka_unit_test(test_threads_copy_up_one),
		cmocka_unit_test(test_killed_layer_is_whole),
		cmocka_unit_test(test_positions_are_stable),
		cmocka_unit_test(test_temporary_file_gets_a_name),
		cmocka_unit_test(test_parts_are_cow),
		cmocka_unit_test(test_layer_is_checked),
		cmocka_unit_test(test_unreadable_file_is_applied),
		cmocka_unit_test(test_read_only_directory_is_copied),
		cmocka_unit_test(test_read_only_directory_is_applied),
		cmocka_unit_test(test_killed_apply_leaves_nothing),
		cmocka_unit_test(test_closed_directory_is_named),
		cmocka_unit_test(test_closed_by_confined_server),
		cmocka_unit_test(test_random_operations),
	};

	if (argc > 1 && strcmp(argv[1], "--as-user") == 0) {
		become_user();
	}
	return cmocka_run_group_tests(tests, set_up, tear_down);
}
