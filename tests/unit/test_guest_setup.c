/* SPDX-License-Identifier: ISC */
/*
 * Building the box, in a user, mount and pid namespace: a tmpfs stands for the initramfs, a
 * directory in it for the exports, plain tmpfs for /dev and /sys. Each case runs in a process of
 * its own, which looks at the new root from the inside.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
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
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "control/control.h"
#include "mount.h"
#include "platform.h"
#include "setup.h"

#define TEXT(s) .content = (const uint8_t *)(s), .content_len = sizeof(s) - 1

/* A check in the process that is in the box. */
#define check(condition) \
	do { \
		if (!(condition)) { \
			dprintf(2, "%s:%d: %s (%s)\n", __FILE__, __LINE__, #condition, \
				strerror(errno)); \
			_exit(1); \
		} \
	} while (0)

/* ---- What set-up is linked with ------------------------------------------------------------- */

static int identity_calls;

int hk_platform_mount_shares(void)
{
	return hk_mount_clone(AT_FDCWD, "/exports");
}

int hk_platform_mount_dev(void)
{
	return hk_mount_new("tmpfs", NULL, HK_MOUNT_NOSUID);
}

int hk_platform_mount_sys(void)
{
	return hk_mount_new("tmpfs", NULL, HK_MOUNT_NOSUID);
}

int hk_platform_set_clock(uint64_t wall_time_ns)
{
	identity_calls += wall_time_ns == 12345;
	return 0;
}

int hk_platform_add_entropy(const uint8_t *bytes, uint32_t len)
{
	identity_calls += len == HK_CONTROL_ENTROPY_BYTES && bytes[0] == 9;
	return 0;
}

int hk_platform_set_hostname(const char *name)
{
	identity_calls += strcmp(name, "box") == 0;
	return strcmp(name, "refused") == 0 ? -EPERM : 0;
}

int hk_platform_raise_loopback(void)
{
	identity_calls++;
	return 0;
}

/* ---- The initramfs ------------------------------------------------------------------------- */

static void put_file(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0644);

	check(fd >= 0);
	check(write(fd, text, strlen(text)) == (ssize_t)strlen(text));
	close(fd);
}

/* Return: whether the file @path holds @text */
static bool holds(const char *path, const char *text)
{
	char buf[256];
	int fd = open(path, O_RDONLY);
	ssize_t n = fd < 0 ? -1 : read(fd, buf, sizeof(buf));

	if (fd >= 0) {
		close(fd);
	}
	return n == (ssize_t)strlen(text) && memcmp(buf, text, (size_t)n) == 0;
}

static mode_t mode_of(const char *path)
{
	struct stat st;

	return lstat(path, &st) < 0 ? 0 : st.st_mode;
}

static void put_id_map(const char *path, unsigned id)
{
	char text[32];

	snprintf(text, sizeof(text), "0 %u 1", id);
	put_file(path, text);
}

/* Return: 0, or -errno where namespaces are not to be had */
static int enter_namespaces(void)
{
	unsigned uid = getuid();
	unsigned gid = getgid();

	if (unshare(CLONE_NEWUSER | CLONE_NEWNS | CLONE_NEWPID) < 0) {
		return -errno;
	}
	put_file("/proc/self/setgroups", "deny");
	put_id_map("/proc/self/uid_map", uid);
	put_id_map("/proc/self/gid_map", gid);
	return 0;
}

static int make_initramfs(void)
{
	static const char *const dirs[] = {"proc", "exports", "exports/src", "exports/etc",
		"exports/etc/ssl", "exports/rootfs", "exports/rootfs/usr", "exports/rootfs/var",
		"exports/rootfs/etc", "exports/rootfs/exports"};

	check(mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0);
	check(mount("none", "/tmp", "tmpfs", 0, NULL) == 0);
	check(chdir("/tmp") == 0);
	for (size_t i = 0; i < sizeof(dirs) / sizeof(dirs[0]); i++) {
		check(mkdir(dirs[i], 0755) == 0);
	}
	if (mount("proc", "proc", "proc", 0, NULL) < 0) {
		return -errno; /* a container that hides parts of its own */
	}
	put_file("exports/src/main.c", "int x;");
	put_file("exports/file", "one file");
	put_file("exports/etc/passwd", "the host's");
	put_file("exports/etc/shadow", "secret");
	put_file("exports/etc/ssl/cert", "cert");
	put_file("exports/rootfs/usr/prog", "prog");
	put_file("exports/rootfs/etc/hostname", "image");
	check(symlink("/run", "exports/rootfs/var/run") == 0);
	check(symlink("../../../../exports", "exports/rootfs/up") == 0);
	check(symlink("/nowhere/at/all", "exports/rootfs/dangling") == 0);
	check(chroot(".") == 0);
	return 0;
}

enum { NO_NAMESPACES = 77 };

/* Run @body in a box that is still to be made. Return: its exit status, NO_NAMESPACES */
static int in_initramfs(void (*body)(const void *arg), const void *arg)
{
	int status;
	pid_t pid = fork();

	assert_true(pid >= 0);
	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (enter_namespaces() < 0) {
			_exit(NO_NAMESPACES);
		}
		/* Only a child is in the new pid namespace, which /proc needs. */
		pid = fork();
		if (pid == 0) {
			if (make_initramfs() < 0) {
				_exit(NO_NAMESPACES);
			}
			body(arg);
			_exit(0);
		}
		waitpid(pid, &status, 0);
		_exit(WIFEXITED(status) ? WEXITSTATUS(status) : 1);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	return WEXITSTATUS(status);
}

/* Carry out @count steps, coming over the wire. Return: as hk_setup_run() */
static int set_up(const struct hk_step *steps, size_t count, struct hk_setup_failure *ret_failure)
{
	struct hk_control_msg msg = {.type = HK_MSG_SETUP,
		.setup = {.wall_time_ns = 12345, .entropy = {9}, .hostname = "box"}};
	struct hk_control_builder builder = {0};
	struct hk_control_decoder dec;
	struct hk_control_buf buf = {0};
	struct hk_control_msg back;
	const uint8_t *bytes;
	size_t len;

	for (size_t i = 0; i < count; i++) {
		check(hk_control_add_step(&builder, &steps[i]) == 0);
	}
	msg.setup.steps = hk_control_built(&builder);
	check(hk_control_put(&buf, &msg) == 0);
	hk_control_decoder_init(&dec, HK_CONTROL_FROM_HOST);
	bytes = buf.data;
	len = buf.len;
	check(hk_control_feed(&dec, &bytes, &len, &back) == 1);
	return hk_setup_run(&back.setup, ret_failure);
}

#define SET_UP(...) \
	do { \
		const struct hk_step steps_[] = {__VA_ARGS__}; \
		struct hk_setup_failure failure_ = {0}; \
		if (set_up(steps_, sizeof(steps_) / sizeof(steps_[0]), &failure_) < 0) { \
			dprintf(2, "set-up: %s: %s\n", failure_.text, strerror(failure_.error)); \
			_exit(1); \
		} \
	} while (0)

/* ---- Cases --------------------------------------------------------------------------------- */

static void see_plain_box(const void *arg)
{
	static const char *const standard[] = {
		"/proc", "/sys", "/dev", "/dev/pts", "/dev/shm", "/run", "/tmp"};
	unsigned entries = 0;
	struct dirent *entry;
	struct stat st;
	char buf[64];
	DIR *dir;

	(void)arg;
	SET_UP({.type = HK_STEP_FS, .path = "/usr/src", .source = "src", .flags = HK_STEP_RO},
		{.type = HK_STEP_FS, .path = "/work", .source = "src"},
		{.type = HK_STEP_FS, .path = "/some/where/file", .source = "file"},
		{.type = HK_STEP_TMPFS, .path = "/home/u", .mode = 0700, .size_bytes = 1 << 20},
		{.type = HK_STEP_DIR, .path = "/home/u/d", .mode = 03751},
		{.type = HK_STEP_DIR, .path = "/home", .mode = 0711},
		{.type = HK_STEP_SYMLINK, .path = "/bin", .source = "usr/bin"},
		{.type = HK_STEP_FILE, .path = "/home/u/.profile", .mode = 0640, TEXT("a\nb")},
		{.type = HK_STEP_FILE, .path = "/home/u/.profile", .mode = 04755, TEXT("again")},
		{.type = HK_STEP_FS, .path = "/tmp/share/", .source = "src"},
		{.type = HK_STEP_DIR, .path = "/a/../b//c/", .mode = 0755});
	check(identity_calls == 4);

	check(holds("/usr/src/main.c", "int x;"));
	check(open("/usr/src/main.c", O_WRONLY) < 0 && errno == EROFS);
	check(mkdir("/usr/src/d", 0755) < 0 && errno == EROFS);
	put_file("/work/new", "new");
	check(holds("/usr/src/new", "new"));
	check(holds("/some/where/file", "one file"));
	put_file("/some/where/file", "changed");
	check(holds("/tmp/share/new", "new"));
	check(mode_of("/home/u") == (S_IFDIR | 0700));
	check(mode_of("/home/u/d") == (S_IFDIR | 03751));
	check(mode_of("/home") == (S_IFDIR | 0711));
	check(mode_of("/some/where") == (S_IFDIR | 0755));
	check(holds("/home/u/.profile", "again"));
	check(mode_of("/home/u/.profile") == (S_IFREG | 04755));
	check(readlink("/bin", buf, sizeof(buf)) == 7 && memcmp(buf, "usr/bin", 7) == 0);
	check(S_ISDIR(mode_of("/b/c")));

	check(mode_of("/tmp") == (S_IFDIR | 01777));
	check(mode_of("/dev/shm") == (S_IFDIR | 01777));
	check(mode_of("/run") == (S_IFDIR | 0755));
	check(mode_of("/") == (S_IFDIR | 0755));
	for (size_t i = 0; i < sizeof(standard) / sizeof(standard[0]); i++) {
		struct stat parent;
		char path[64];

		snprintf(path, sizeof(path), "%s/..", standard[i]);
		check(stat(standard[i], &st) == 0 && stat(path, &parent) == 0);
		check(st.st_dev != parent.st_dev);
	}
	check(access("/proc/self/stat", R_OK) == 0);

	/* That is all there is; of what was before, nothing. */
	dir = opendir("/");
	check(dir);
	while ((entry = readdir(dir))) {
		entries++;
	}
	check(entries == 2 + 5 + 7); /* . .. proc sys dev run tmp usr work some home bin a b */
	check(chdir("/..") == 0 && access("exports", F_OK) < 0 && access("shares", F_OK) < 0);
}

static void see_overlay(const void *arg)
{
	static const struct hk_step upper[] = {
		{.type = HK_STEP_FILE, .path = "/passwd", .mode = 0644, TEXT("the box's")},
		{.type = HK_STEP_HIDE, .path = "/shadow"},
		{.type = HK_STEP_FILE, .path = "/ssl/own", .mode = 0600, TEXT("own")},
		{.type = HK_STEP_SYMLINK, .path = "/mtab", .source = "../proc/mounts"},
	};
	struct hk_control_builder builder = {0};
	struct hk_control_list list;

	(void)arg;
	for (size_t i = 0; i < sizeof(upper) / sizeof(upper[0]); i++) {
		check(hk_control_add_step(&builder, &upper[i]) == 0);
	}
	list = hk_control_built(&builder);
	SET_UP({.type = HK_STEP_OVERLAY,
		       .path = "/etc",
		       .source = "etc",
		       .flags = HK_STEP_RO,
		       .upper = list},
		{.type = HK_STEP_OVERLAY, .path = "/etc2", .source = "etc"},
		{.type = HK_STEP_FILE, .path = "/etc2/passwd", .mode = 0644, TEXT("later")},
		{.type = HK_STEP_FS, .path = "/below", .source = "etc"});
	check(holds("/etc/passwd", "the box's"));
	check(access("/etc/shadow", F_OK) < 0 && errno == ENOENT);
	check(holds("/etc/ssl/cert", "cert"));
	check(holds("/etc/ssl/own", "own"));
	check(mode_of("/etc/ssl/own") == (S_IFREG | 0600));
	check(open("/etc/passwd", O_WRONLY) < 0 && errno == EROFS);
	check(holds("/etc2/passwd", "later"));
	check(holds("/etc2/shadow", "secret"));
	check(unlink("/etc2/ssl/cert") == 0);
	/* Nothing of it went to the export. */
	check(holds("/below/passwd", "the host's"));
	check(holds("/below/ssl/cert", "cert"));
	check(access("/below/ssl/own", F_OK) < 0);
}

static void see_rootfs(const void *arg)
{
	(void)arg;
	SET_UP({.type = HK_STEP_OVERLAY, .path = "/", .source = "rootfs"},
		{.type = HK_STEP_FILE, .path = "/etc/hostname", .mode = 0644, TEXT("box")},
		{.type = HK_STEP_FS, .path = "/var/run/src", .source = "src"},
		{.type = HK_STEP_FILE, .path = "/up/escaped", .mode = 0644, TEXT("x")},
		{.type = HK_STEP_FS, .path = "/image", .source = "rootfs"});
	check(holds("/usr/prog", "prog"));
	check(holds("/etc/hostname", "box"));
	check(holds("/image/etc/hostname", "image"));
	/* Links lead where they lead in the box: /var/run to /run, and up no further than /. */
	check(holds("/run/src/main.c", "int x;"));
	check(holds("/exports/escaped", "x"));
	check(access("/exports/src", F_OK) < 0);
	put_file("/usr/prog", "changed");
	check(holds("/image/usr/prog", "prog"));
}

static const struct failing {
	struct hk_step steps[2];
	int error;
	const char *text;
} failing[] = {
	{{{.type = HK_STEP_FS, .path = "/x", .source = "nope"}}, ENOENT,
		"share 'nope' on '/x': find the export"},
	{{{.type = HK_STEP_FS, .path = "/ro", .source = "src", .flags = HK_STEP_RO},
		 {.type = HK_STEP_FS, .path = "/ro/sub", .source = "src"}},
		EROFS, "share 'src' on '/ro/sub': mount"},
	{{{.type = HK_STEP_FS, .path = "/f", .source = "file"},
		 {.type = HK_STEP_FILE, .path = "/f/g"}},
		ENOTDIR, "file '/f/g': open the parent directory"},
	{{{.type = HK_STEP_FS, .path = "/f", .source = "file"},
		 {.type = HK_STEP_FS, .path = "/f", .source = "src"}},
		ENOTDIR, "share 'src' on '/f': mount"},
	{{{.type = HK_STEP_FS, .path = "/tmp", .source = "file"}}, EISDIR,
		"share 'file' on '/tmp': mount"},
	{{{.type = HK_STEP_FILE, .path = "/f"}, {.type = HK_STEP_DIR, .path = "/f"}}, ENOTDIR,
		"directory '/f': create"},
	{{{.type = HK_STEP_DIR, .path = "/d"}, {.type = HK_STEP_FILE, .path = "/d"}}, EISDIR,
		"file '/d': remove what is there"},
	{{{.type = HK_STEP_OVERLAY, .path = "/o", .source = "file"}}, ENOTDIR,
		"overlay 'file' on '/o': find the export"},
	{{{.type = HK_STEP_OVERLAY, .path = "/", .source = "nope"}}, ENOENT,
		"overlay 'nope' on '/': find the export"},
	{{{.type = HK_STEP_OVERLAY, .path = "/", .source = "rootfs"},
		 {.type = HK_STEP_DIR, .path = "/dangling/d"}},
		ENOENT, "directory '/dangling/d': open the parent directory"},
	{{{.type = HK_STEP_SYMLINK, .path = "/l", .source = "l"},
		 {.type = HK_STEP_FS, .path = "/l", .source = "src"}},
		ELOOP, "share 'src' on '/l': mount"},
	{{{.type = HK_STEP_TMPFS, .path = "/t", .size_bytes = 4096},
		 {.type = HK_STEP_FILE, .path = "/t/big", .content_len = 20000}},
		ENOSPC, "file '/t/big': create"},
};

static void see_failure(const void *arg)
{
	static const uint8_t zeros[20000];
	const struct failing *row = arg;
	struct hk_setup_failure failure = {0};
	struct hk_step steps[2] = {row->steps[0], row->steps[1]};

	steps[1].content = steps[1].content_len ? zeros : NULL;
	check(set_up(steps, steps[1].type ? 2 : 1, &failure) == -1);
	if (failure.error != row->error || strcmp(failure.text, row->text) != 0) {
		dprintf(2, "%s: %s, not %s: %s\n", failure.text, strerror(failure.error), row->text,
			strerror(row->error));
		_exit(1);
	}
}

static void see_identity_failure(const void *arg)
{
	const struct hk_msg_setup setup = {.wall_time_ns = 1, .hostname = "refused"};
	struct hk_setup_failure failure = {0};

	(void)arg;
	check(hk_setup_run(&setup, &failure) == -1);
	check(failure.error == EPERM);
	check(strcmp(failure.text, "host name 'refused': set") == 0);
}

static void test_plain_box(void **state)
{
	(void)state;
	assert_int_equal(in_initramfs(see_plain_box, NULL), 0);
}

static void test_overlay(void **state)
{
	(void)state;
	assert_int_equal(in_initramfs(see_overlay, NULL), 0);
}

static void test_rootfs(void **state)
{
	(void)state;
	assert_int_equal(in_initramfs(see_rootfs, NULL), 0);
}

static void test_failures(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(failing) / sizeof(failing[0]); i++) {
		if (in_initramfs(see_failure, &failing[i]) != 0) {
			fail_msg("row %zu", i);
		}
	}
	assert_int_equal(in_initramfs(see_identity_failure, NULL), 0);
}

static void see_nothing(const void *arg)
{
	(void)arg;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_plain_box),
		cmocka_unit_test(test_overlay),
		cmocka_unit_test(test_rootfs),
		cmocka_unit_test(test_failures),
	};

	if (in_initramfs(see_nothing, NULL) == NO_NAMESPACES) {
		fprintf(stderr, "skipped: no user namespaces with a /proc of their own here\n");
		return getenv("MUST_WORK") ? 1 : NO_NAMESPACES;
	}
	return cmocka_run_group_tests(tests, NULL, NULL);
}
