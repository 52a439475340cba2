/* SPDX-License-Identifier: ISC */
/* The FUSE server against a guest that lies, and one that wants out. */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include <linux/fs.h>

#include "base/loop.h"
#include "base/util.h"
#include "fuse_client.h"

static struct fc fc;

static int start(void **state)
{
	fc_start(&fc, NULL, FC_FEATURES);
	fc_host_file(fc.inside, "f", "inside");
	fc_host_file(fc.outside, "secret", "OUTSIDE");
	return 0;
}

static int stop(void **state)
{
	fc_stop(&fc);
	return 0;
}

/* A request as raw bytes. Return: what hk_fuse_handle() gives; *@error from the reply. */
static ssize_t raw(const void *bytes, size_t len, void *reply, size_t reply_size, int *error)
{
	struct iovec in = {(void *)bytes, len};
	struct iovec out = {reply, reply_size};
	ssize_t n = hk_fuse_handle(fc.server, &in, 1, &out, 1);

	*error = 0;
	if (n >= (ssize_t)sizeof(struct fuse_out_header)) {
		*error = ((struct fuse_out_header *)reply)->error;
	}
	return n;
}

static void test_broken_headers(void **state)
{
	static const struct {
		size_t sent;
		uint32_t len;
		size_t room;
		ssize_t want;
	} cases[] = {
		{0, 0, 4096, -EPROTO},
		{1, 1, 4096, -EPROTO},
		{39, 40, 4096, -EPROTO},
		{40, 39, 4096, -EPROTO},
		{40, 0, 4096, -EPROTO},
		{40, 41, 4096, -EPROTO},
		{40, UINT32_MAX, 4096, -EPROTO},
		{48, 49, 4096, -EPROTO},
		{56, 56, 15, -EPROTO},
		{56, 56, 0, -EPROTO},
		{56, 56, 16, 16},       /* an error has room */
		{56, 56, 16 + 103, 16}, /* one byte short of the attributes */
		{56, 56, 16 + 104, 16 + 104},
	};
	char request[64];
	char reply[4096];
	int error;

	for (size_t i = 0; i < HK_ARRAY_SIZE(cases); i++) {
		struct fuse_in_header head = {
			.len = cases[i].len, .opcode = FUSE_GETATTR, .nodeid = FUSE_ROOT_ID};

		memset(request, 0, sizeof(request));
		memcpy(request, &head, sizeof(head));
		assert_int_equal(
			raw(request, cases[i].sent, reply, cases[i].room, &error), cases[i].want);
		if (cases[i].want == 16) {
			assert_int_equal(error, -ERANGE);
		}
	}
	/* A FORGET needs no room. */
	{
		struct fuse_in_header head = {.len = 48, .opcode = FUSE_FORGET, .nodeid = 1};
		struct iovec in = {request, 48};

		memcpy(request, &head, sizeof(head));
		assert_int_equal(hk_fuse_handle(fc.server, &in, 1, NULL, 0), 0);
		head.len = 40;
		memcpy(request, &head, sizeof(head));
		in.iov_len = 40;
		assert_int_equal(hk_fuse_handle(fc.server, &in, 1, NULL, 0), 0);
	}
}

/* Every opcode with every length of arguments, of zeros, of ones, and of what looks like the real
 * thing. */
static void test_all_lengths(void **state)
{
	static char reply[70000];
	char request[40 + 200];
	int error;

	for (uint32_t opcode = 0; opcode < 64; opcode++) {
		for (unsigned fill = 0; fill < 3; fill++) {
			for (size_t body = 0; body <= 200; body++) {
				struct fuse_in_header head = {
					.len = (uint32_t)(40 + body),
					.opcode = opcode,
					.nodeid = fill == 1 ? UINT64_MAX : fc.root,
				};
				ssize_t n;

				if (opcode == FUSE_DESTROY || opcode == FUSE_INIT ||
					opcode == FUSE_SYNCFS) {
					continue;
				}
				memset(request,
					fill == 0           ? 0
						: fill == 1 ? 0xff
							    : 'a',
					sizeof(request));
				memcpy(request, &head, sizeof(head));
				n = raw(request, 40 + body, reply, sizeof(reply), &error);
				assert_true(n == 0 || n >= 16);
				assert_true(error <= 0 && error > -4096);
			}
		}
	}
	assert_true(fc_host_has(fc.inside, "f", "inside"));
}

static const struct {
	const char *name;
	size_t len; /* bytes sent; 0: with its NUL */
	int error;
} bad_names[] = {
	{"", 0, -EINVAL},
	{".", 0, -EINVAL},
	{"..", 0, -EINVAL},
	{"/", 0, -EINVAL},
	{"/etc/passwd", 0, -EINVAL},
	{"../out/secret", 0, -EINVAL},
	{"a/b", 0, -EINVAL},
	{"a/", 0, -EINVAL},
	{"/a", 0, -EINVAL},
	{"no NUL", 6, -EINVAL},
};

static void test_names(void **state)
{
	static const uint32_t opcodes[] = {FUSE_LOOKUP, FUSE_UNLINK, FUSE_RMDIR};
	char reply[256];
	char name[600];

	for (size_t i = 0; i < HK_ARRAY_SIZE(bad_names); i++) {
		size_t len =
			bad_names[i].len != 0 ? bad_names[i].len : strlen(bad_names[i].name) + 1;
		struct fc_part part = {bad_names[i].name, len};
		struct fuse_rename2_in rename2 = {.newdir = fc.root};
		struct fuse_create_in create = {.flags = O_RDWR, .mode = S_IFREG | 0644};
		struct fuse_mkdir_in mkdir = {.mode = 0755};
		struct fuse_link_in link = {.oldnodeid = fc_node(&fc, fc.root, "f")};

		for (size_t op = 0; op < HK_ARRAY_SIZE(opcodes); op++) {
			assert_int_equal(
				fc_call(&fc, opcodes[op], fc.root, &part, 1, reply, sizeof(reply))
					.error,
				bad_names[i].error);
		}
#define CALL(opcode, ...) \
	fc_call(&fc, opcode, fc.root, (struct fc_part[]){__VA_ARGS__}, \
		HK_ARRAY_SIZE(((struct fc_part[]){__VA_ARGS__})), reply, sizeof(reply)) \
		.error
		assert_int_equal(CALL(FUSE_RENAME2, {&rename2, sizeof(rename2)}, {"f", 2}, part),
			bad_names[i].error);
		assert_int_equal(
			CALL(FUSE_CREATE, {&create, sizeof(create)}, part), bad_names[i].error);
		assert_int_equal(
			CALL(FUSE_MKDIR, {&mkdir, sizeof(mkdir)}, part), bad_names[i].error);
		assert_int_equal(CALL(FUSE_LINK, {&link, sizeof(link)}, part), bad_names[i].error);
		if (bad_names[i].len == 0) {
			assert_int_equal(CALL(FUSE_SYMLINK, part, {"t", 2}), bad_names[i].error);
			assert_int_equal(
				CALL(FUSE_RENAME2, {&rename2, sizeof(rename2)}, part, {"g", 2}),
				bad_names[i].error);
		}
	}
	memset(name, 'n', sizeof(name));
	name[599] = '\0';
	assert_int_equal(fc_name_op(&fc, FUSE_UNLINK, fc.root, name), -ENAMETOOLONG);
	name[256] = '\0';
	assert_int_equal(fc_name_op(&fc, FUSE_UNLINK, fc.root, name), -ENAMETOOLONG);
	name[255] = '\0';
	assert_int_equal(fc_name_op(&fc, FUSE_UNLINK, fc.root, name), -ENOENT);
	assert_true(fc_host_has(fc.inside, "f", "inside"));
	assert_true(fc_host_has(fc.outside, "secret", "OUTSIDE"));
}

/* Segments of any shape carry the same request. */
static void test_segments(void **state)
{
	struct fuse_create_in create = {.flags = O_RDWR, .mode = S_IFREG | 0644};
	char request[256];
	char reply[512];

	for (unsigned size = 1; size < 50; size += 7) {
		struct iovec in[HK_FUSE_MAX_SEGMENTS];
		struct iovec out[HK_FUSE_MAX_SEGMENTS];
		struct fuse_in_header head = {
			.opcode = FUSE_CREATE, .nodeid = fc.root, .uid = fc.uid, .gid = fc.gid};
		unsigned in_count = 0;
		unsigned out_count = 0;
		char name[32];
		int name_len = snprintf(name, sizeof(name), "created-%u", size) + 1;

		head.len = (uint32_t)(sizeof(head) + sizeof(create)) + (uint32_t)name_len;
		memcpy(request, &head, sizeof(head));
		memcpy(request + sizeof(head), &create, sizeof(create));
		memcpy(request + sizeof(head) + sizeof(create), name, (size_t)name_len);
		for (size_t at = 0; at < head.len; at += size) {
			in[in_count++] = (struct iovec){request + at, HK_MIN(size, head.len - at)};
			in[in_count++] = (struct iovec){NULL, 0};
		}
		for (size_t at = 0; at < 400; at += size) {
			out[out_count++] = (struct iovec){reply + at, HK_MIN(size, 400 - at)};
		}
		assert_int_equal(hk_fuse_handle(fc.server, in, in_count, out, out_count),
			16 + sizeof(struct fuse_entry_out) + sizeof(struct fuse_open_out));
		assert_int_equal(((struct fuse_out_header *)reply)->error, 0);
		assert_true(fc_host_has(fc.inside, name, ""));
	}
	{
		struct iovec many[HK_FUSE_MAX_SEGMENTS + 1] = {{0}};

		assert_int_equal(hk_fuse_handle(fc.server, many, HK_FUSE_MAX_SEGMENTS + 1, many, 1),
			-EPROTO);
		assert_int_equal(hk_fuse_handle(fc.server, many, 1, many, HK_FUSE_MAX_SEGMENTS + 1),
			-EPROTO);
		assert_int_equal(hk_fuse_handle(fc.server, NULL, 0, NULL, 0), -EPROTO);
	}
}

/* Data in many segments, in and out. */
static void test_data_segments(void **state)
{
	static char data[1 << 20];
	static char back[(1 << 20) + 16];
	struct iovec in[300];
	struct iovec out[300];
	uint64_t node;
	uint64_t fh;
	char reply[64];
	struct {
		struct fuse_in_header head;
		struct fuse_write_in write;
	} request;

	assert_int_equal(fc_create(&fc, fc.root, "big", O_RDWR, 0644, &node, &fh), 0);
	for (size_t i = 0; i < sizeof(data); i++) {
		data[i] = (char)(i * 7 + i / 4096);
	}
	memset(&request, 0, sizeof(request));
	request.head = (struct fuse_in_header){
		.len = sizeof(request) + sizeof(data), .opcode = FUSE_WRITE, .nodeid = node};
	request.write = (struct fuse_write_in){.fh = fh, .size = sizeof(data)};
	in[0] = (struct iovec){&request, sizeof(request)};
	for (unsigned i = 0; i < 256; i++) {
		in[i + 1] = (struct iovec){data + i * 4096, 4096};
	}
	out[0] = (struct iovec){reply, sizeof(reply)};
	assert_int_equal(
		hk_fuse_handle(fc.server, in, 257, out, 1), 16 + sizeof(struct fuse_write_out));
	assert_int_equal(((struct fuse_write_out *)(reply + 16))->size, sizeof(data));

	request.head.len = sizeof(struct fuse_in_header) + sizeof(struct fuse_read_in);
	request.head.opcode = FUSE_READ;
	in[0].iov_len = request.head.len;
	out[0] = (struct iovec){back, 16};
	for (unsigned i = 0; i < 256; i++) {
		out[i + 1] = (struct iovec){back + 16 + i * 4096, 4096};
	}
	assert_int_equal(hk_fuse_handle(fc.server, in, 1, out, 257), 16 + sizeof(data));
	assert_memory_equal(back + 16, data, sizeof(data));

	/* A size the request does not have. */
	request.head.opcode = FUSE_WRITE;
	request.write.size = 5000;
	request.head.len = sizeof(request) + 4096;
	in[0].iov_len = sizeof(request);
	assert_int_equal(hk_fuse_handle(fc.server, in, 2, out, 2), 16);
	assert_int_equal(((struct fuse_out_header *)back)->error, -EINVAL);
	request.write.size = UINT32_MAX;
	assert_int_equal(hk_fuse_handle(fc.server, in, 2, out, 2), 16);
	assert_int_equal(((struct fuse_out_header *)back)->error, -EINVAL);
}

/* Numbers the guest makes up lead nowhere. */
static void test_guessed_numbers(void **state)
{
	struct fuse_open_out open;
	struct fuse_attr attr;
	char buf[16];
	uint64_t node = fc_node(&fc, fc.root, "f");

	assert_int_equal(fc_open(&fc, node, O_RDONLY, &open), 0);
	for (uint64_t i = 0; i < 3000; i++) {
		uint64_t id = i < 1500 ? i : UINT64_MAX - i;

		if (id != FUSE_ROOT_ID && id != fc.root && id != node) {
			assert_int_equal(fc_getattr(&fc, id, &attr), -ESTALE);
		}
		if (id != open.fh) {
			assert_int_equal(fc_read(&fc, node, id, 0, buf, sizeof(buf)), -EBADF);
		}
		assert_int_equal(
			fc_getattr(&fc, node + (i + 1) * (UINT64_C(1) << 32), &attr), -ESTALE);
		assert_int_equal(
			fc_read(&fc, node, open.fh + (i + 1) * (UINT64_C(1) << 32), 0, buf, 1),
			-EBADF);
	}
	assert_int_equal(fc_read(&fc, node, open.fh, 0, buf, sizeof(buf)), 6);
}

static bool reads(uint64_t node, const char *text)
{
	struct fuse_open_out open;
	char buf[64];
	int n;

	if (fc_open(&fc, node, O_RDONLY, &open) < 0) {
		return false;
	}
	n = fc_read(&fc, node, open.fh, 0, buf, sizeof(buf));
	fc_release(&fc, node, open.fh);
	return n == (int)strlen(text) && memcmp(buf, text, (size_t)n) == 0;
}

static void test_symlinks_are_not_followed(void **state)
{
	struct fuse_entry_out entry;
	struct fuse_attr attr;
	uint64_t dir;

	assert_int_equal(fc_symlink(&fc, fc.root, "etc", "/etc"), 0);
	assert_int_equal(fc_symlink(&fc, fc.root, "out", "../out"), 0);
	assert_int_equal(fc_symlink(&fc, fc.root, "proc", "/proc/self/root"), 0);
	dir = fc_node(&fc, fc.root, "etc");
	assert_int_equal(fc_getattr(&fc, dir, &attr), 0);
	assert_true(S_ISLNK(attr.mode));
	assert_int_equal(fc_lookup(&fc, dir, "passwd", &entry), -ENOTDIR);
	assert_int_equal(fc_lookup(&fc, fc_node(&fc, fc.root, "out"), "secret", &entry), -ENOTDIR);
	assert_int_equal(fc_lookup(&fc, fc_node(&fc, fc.root, "proc"), "etc", &entry), -ENOTDIR);
	/* What is done to the link is done to the link. */
	assert_int_equal(
		fc_setattr(&fc, dir, &(struct fuse_setattr_in){.valid = FATTR_MTIME, .mtime = 1}),
		0);
	assert_int_equal(fc_getattr(&fc, dir, &attr), 0);
	assert_int_equal(attr.mtime, 1);
	assert_true(fc_setattr(&fc, dir,
			    &(struct fuse_setattr_in){.valid = FATTR_MODE, .mode = 0}) < 0);
	assert_true(fc_setattr(&fc, dir, &(struct fuse_setattr_in){.valid = FATTR_SIZE}) < 0);
	assert_int_equal(access("/etc/passwd", R_OK), 0);
	/* A hard link to a symbolic link links the link. */
	assert_int_equal(fc_link(&fc, dir, fc.root, "etc2"), 0);
	assert_int_equal(fc_node(&fc, fc.root, "etc2"), dir);
}

/* The host moves a directory out of the export. What the guest knew it keeps; it gets nothing
 * beyond. */
static void test_moved_out(void **state)
{
	struct fuse_entry_out entry;
	char from[200];
	char to[200];
	uint64_t a;
	uint64_t b;

	assert_int_equal(fc_mkdir(&fc, fc.root, "a", &entry), 0);
	a = entry.nodeid;
	assert_int_equal(fc_mkdir(&fc, a, "b", &entry), 0);
	b = entry.nodeid;
	assert_int_equal(fc_lookup(&fc, b, "x", &entry), -ENOENT);
	snprintf(from, sizeof(from), "%s/a", fc.inside);
	snprintf(to, sizeof(to), "%s/a", fc.outside);
	assert_int_equal(rename(from, to), 0);
	assert_int_equal(fc_lookup(&fc, a, "..", &entry), -EINVAL);
	assert_int_equal(fc_lookup(&fc, a, "secret", &entry), -ENOENT);
	assert_int_equal(fc_lookup(&fc, fc.root, "a", &entry), -ENOENT);
	assert_int_equal(fc_rename(&fc, b, "..", fc.root, "c", 0), -EINVAL);
	/* Another directory in its place is not it. */
	assert_int_equal(fc_mkdir(&fc, fc.root, "a", &entry), 0);
	assert_true(entry.nodeid != a);
}

struct swapper {
	atomic_bool stop;
	int dir_fd;
};

/* The host's worst: a directory and a symbolic link to the outside change places without end. */
static void *swap_names(void *arg)
{
	struct swapper *s = arg;

	while (!s->stop) {
		syscall(SYS_renameat2, s->dir_fd, "d", s->dir_fd, "l", RENAME_EXCHANGE);
	}
	return NULL;
}

/* A busy host may run the swapper late, so the turns alone do not promise to meet all outcomes. */
static bool another_turn(unsigned turns, bool all_seen, uint64_t since_ns)
{
	const uint64_t patience_ns = UINT64_C(20000000000);

	return turns < 3000 || (!all_seen && hk_now_ns() - since_ns < patience_ns);
}

static void test_swapped_under_us(void **state)
{
	struct swapper s = {.dir_fd = fc.inside_fd};
	uint64_t since_ns = hk_now_ns();
	unsigned entered = 0;
	unsigned refused = 0;
	pthread_t thread;

	assert_int_equal(mkdirat(fc.inside_fd, "d", 0755), 0);
	fc_host_file(fc.inside, "d/secret", "decoy");
	assert_int_equal(symlinkat(fc.outside, fc.inside_fd, "l"), 0);
	assert_int_equal(pthread_create(&thread, NULL, swap_names, &s), 0);
	for (unsigned i = 0; another_turn(i, entered > 0 && refused > 0, since_ns); i++) {
		struct fuse_entry_out entry;
		uint64_t d = fc_node(&fc, fc.root, "d");
		int r;

		if (d == 0) {
			continue;
		}
		r = fc_lookup(&fc, d, "secret", &entry);
		if (r == 0) {
			struct fuse_open_out open;
			char buf[16];

			r = fc_open(&fc, entry.nodeid, O_RDWR, &open);
			if (r == 0) {
				assert_int_equal(
					fc_read(&fc, entry.nodeid, open.fh, 0, buf, sizeof(buf)),
					5);
				assert_memory_equal(buf, "decoy", 5);
				fc_release(&fc, entry.nodeid, open.fh);
				entered++;
			}
			fc_forget(&fc, entry.nodeid, 1);
		}
		refused += r < 0;
		fc_forget(&fc, d, 1);
	}
	s.stop = true;
	pthread_join(thread, NULL);
	assert_true(entered > 0);
	assert_true(refused > 0);
	assert_true(fc_host_has(fc.outside, "secret", "OUTSIDE"));
}

static void test_files_swapped_for_special_ones(void **state)
{
	struct swapper s = {.dir_fd = fc.inside_fd};
	uint64_t since_ns = hk_now_ns();
	pthread_t thread;
	unsigned opened = 0;

	fc_host_file(fc.inside, "d", "regular");
	assert_int_equal(mkfifoat(fc.inside_fd, "l", 0666), 0);
	assert_int_equal(pthread_create(&thread, NULL, swap_names, &s), 0);
	/* An open of the FIFO would hang here. */
	for (unsigned i = 0; another_turn(i, opened > 0, since_ns); i++) {
		uint64_t d = fc_node(&fc, fc.root, "d");

		opened += reads(d, "regular");
		fc_forget(&fc, d, 1);
	}
	s.stop = true;
	pthread_join(thread, NULL);
	assert_true(opened > 0);
}

/* In a mount namespace of its own: mounts of the host below the export. */
static int mounts_inside(void)
{
	struct fuse_entry_out first;
	struct fuse_entry_out second;
	char path[200];

	if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0) {
		return 77;
	}
	fc_start(&fc, NULL, FC_FEATURES);
	fc_host_file(fc.outside, "secret", "OUTSIDE");
	must(mkdirat(fc.inside_fd, "m1", 0755) == 0 && mkdirat(fc.inside_fd, "m2", 0755) == 0 &&
		mkdirat(fc.inside_fd, "proc", 0755) == 0);
	snprintf(path, sizeof(path), "%s/m1", fc.inside);
	must(mount(fc.outside, path, NULL, MS_BIND, NULL) == 0);
	snprintf(path, sizeof(path), "%s/m2", fc.inside);
	must(mount(fc.outside, path, NULL, MS_BIND, NULL) == 0);
	snprintf(path, sizeof(path), "%s/proc", fc.inside);
	must(mount("proc", path, "proc", 0, NULL) == 0);

	/* One inode by two mounts: two nodes with one number. */
	must(fc_lookup(&fc, fc_node(&fc, fc.root, "m1"), "secret", &first) == 0);
	must(fc_lookup(&fc, fc_node(&fc, fc.root, "m2"), "secret", &second) == 0);
	must(first.nodeid != second.nodeid);
	must(first.attr.ino == second.attr.ino);
	must(reads(first.nodeid, "OUTSIDE") && reads(second.nodeid, "OUTSIDE"));
	/* The roots of two file systems both have inode 1 or 2: the numbers shown differ. */
	must(fc_lookup(&fc, fc.root, "proc", &second) == 0);
	must(second.attr.ino >> 48 != first.attr.ino >> 48);
	/* Magic links lead nowhere. */
	must(fc_lookup(&fc, second.nodeid, "self", &first) == 0);
	must(fc_lookup(&fc, first.nodeid, "root", &second) == -ENOTDIR);
	must(fc_lookup(&fc, fc.root, "proc", &second) == 0);
	must(fc_lookup(&fc, second.nodeid, "1", &first) == 0);
	must(fc_lookup(&fc, first.nodeid, "root", &second) == 0);
	must(S_ISLNK(second.attr.mode));
	must(fc_lookup(&fc, second.nodeid, "etc", &first) == -ENOTDIR);
	hk_fuse_server_reset(fc.server);
	umount2(path, MNT_DETACH);
	snprintf(path, sizeof(path), "%s/m1", fc.inside);
	umount2(path, MNT_DETACH);
	snprintf(path, sizeof(path), "%s/m2", fc.inside);
	umount2(path, MNT_DETACH);
	fc_stop(&fc);
	return 0;
}

static void test_mounts(void **state)
{
	int status;
	pid_t pid = fork();

	if (pid == 0) {
		_exit(mounts_inside());
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	if (WIFEXITED(status) && WEXITSTATUS(status) == 77) {
		skip();
	}
	assert_int_equal(status, 0);
}

int main(void)
{
#define WITH(test) cmocka_unit_test_setup_teardown(test, start, stop)
	const struct CMUnitTest tests[] = {
		WITH(test_broken_headers),
		WITH(test_all_lengths),
		WITH(test_names),
		WITH(test_segments),
		WITH(test_data_segments),
		WITH(test_guessed_numbers),
		WITH(test_symlinks_are_not_followed),
		WITH(test_moved_out),
		WITH(test_swapped_under_us),
		WITH(test_files_swapped_for_special_ones),
		cmocka_unit_test(test_mounts),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
