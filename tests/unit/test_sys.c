/* SPDX-License-Identifier: ISC */
/* System call wrappers: whole reads and writes, files that are replaced whole or not at all. */
#include <dirent.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/fault.h"
#include "base/str.h"
#include "base/sys.h"

static char directory[64];

static int set_up(void **state)
{
	hk_fmt(directory, sizeof(directory), "/tmp/hako-test-sys-XXXXXX");
	umask(022);
	return mkdtemp(directory) != NULL && chdir(directory) == 0 ? 0 : -1;
}

static int tear_down(void **state)
{
	char command[128];

	hk_fault_arm(0, 0);
	hk_fmt(command, sizeof(command), "rm -rf %s", directory);
	return chdir("/") == 0 && system(command) == 0 ? 0 : -1;
}

/* Entries of the test's directory, or open descriptors of the process. */
static unsigned count_entries(const char *path)
{
	DIR *dir = opendir(path);
	struct dirent *entry;
	unsigned count = 0;

	assert_non_null(dir);
	while ((entry = readdir(dir)) != NULL) {
		count += entry->d_name[0] != '.' || strlen(entry->d_name) > 2;
	}
	closedir(dir);
	return count;
}

static void write_text(const char *path, const char *text)
{
	FILE *file = fopen(path, "we");

	assert_non_null(file);
	assert_true(fputs(text, file) >= 0);
	assert_int_equal(fclose(file), 0);
}

static void assert_content(const char *path, const char *text)
{
	void *data = NULL;
	size_t len = 0;

	assert_int_equal(hk_read_file(path, 1 << 20, &data, &len, NULL), 0);
	assert_int_equal(len, strlen(text));
	assert_string_equal(data, text);
	free(data);
}

static void test_open(void **state)
{
	int fd = hk_open(AT_FDCWD, "file", O_RDWR | O_CREAT | O_EXCL, 0600);
	struct stat st;

	assert_true(fd >= 0);
	assert_int_equal(fcntl(fd, F_GETFD), FD_CLOEXEC);
	assert_int_equal(fstat(fd, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0600);
	close(fd);
	assert_int_equal(hk_open(AT_FDCWD, "file", O_RDWR | O_CREAT | O_EXCL, 0600), -EEXIST);
	assert_int_equal(hk_open(AT_FDCWD, "none", O_RDONLY, 0), -ENOENT);
	assert_int_equal(hk_open(1 << 20, "none", O_RDONLY, 0), -EBADF);
}

static void pause_ms(long ms)
{
	struct timespec t = {.tv_nsec = ms * 1000000};

	while (nanosleep(&t, &t) < 0) {
	}
}

static void *write_in_pieces(void *arg)
{
	const int *fd = arg;

	for (int i = 0; i < 5 && write(*fd, "abc", 3) == 3; i++) {
		pause_ms(2);
	}
	close(*fd);
	return NULL;
}

static void test_read_full_of_pieces(void **state)
{
	pthread_t thread;
	char buf[32] = "";
	int fds[2];

	assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
	assert_int_equal(pthread_create(&thread, NULL, write_in_pieces, &fds[1]), 0);
	assert_int_equal(hk_read_full(fds[0], buf, 10), 10);
	assert_memory_equal(buf, "abcabcabca", 10);
	assert_int_equal(hk_read_full(fds[0], buf, sizeof(buf)), 5); /* to the end */
	assert_memory_equal(buf, "bcabc", 5);
	assert_int_equal(hk_read_full(fds[0], buf, sizeof(buf)), 0);
	pthread_join(thread, NULL);
	close(fds[0]);
	assert_int_equal(hk_read_full(-1, buf, 1), -EBADF);
	assert_int_equal(hk_read_full(-1, buf, 0), 0);
}

static void test_read_full_of_nonblocking(void **state)
{
	char buf[8];
	int fds[2];

	assert_int_equal(pipe2(fds, O_CLOEXEC | O_NONBLOCK), 0);
	assert_int_equal(hk_read_full(fds[0], buf, 1), -EAGAIN);
	close(fds[0]);
	close(fds[1]);
}

static volatile sig_atomic_t alarms;

static void on_alarm(int signo)
{
	alarms++;
}

/* Signals without SA_RESTART come all the time: nobody sees EINTR. */
static void test_interrupted_calls_go_on(void **state)
{
	const struct itimerval often = {{0, 500}, {0, 500}};
	const struct itimerval never = {0};
	struct sigaction action = {.sa_handler = on_alarm};
	struct sigaction before;
	pthread_t thread;
	sigset_t set;
	sigset_t mask;
	char buf[15];
	int fds[2];

	assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
	sigemptyset(&set);
	sigaddset(&set, SIGALRM);
	pthread_sigmask(SIG_BLOCK, &set, &mask); /* in the thread: we get them all */
	assert_int_equal(pthread_create(&thread, NULL, write_in_pieces, &fds[1]), 0);
	pthread_sigmask(SIG_SETMASK, &mask, NULL);
	sigaction(SIGALRM, &action, &before);
	setitimer(ITIMER_REAL, &often, NULL);
	assert_int_equal(hk_read_full(fds[0], buf, sizeof(buf)), sizeof(buf));
	while (alarms == 0) {
	}
	setitimer(ITIMER_REAL, &never, NULL);
	sigaction(SIGALRM, &before, NULL);
	pthread_join(thread, NULL);
	close(fds[0]);
}

static void test_pread_full(void **state)
{
	char buf[16] = "";
	int fd;

	write_text("file", "0123456789");
	fd = hk_open(AT_FDCWD, "file", O_RDONLY, 0);
	assert_true(fd >= 0);
	assert_int_equal(hk_pread_full(fd, buf, 4, 3), 4);
	assert_memory_equal(buf, "3456", 4);
	assert_int_equal(hk_pread_full(fd, buf, 4, 8), 2);
	assert_int_equal(hk_pread_full(fd, buf, 4, 1000), 0);
	assert_int_equal(hk_pread_full(fd, buf, 4, UINT64_MAX), -EINVAL);
	assert_int_equal(hk_pread_full(fd, buf, 4, INT64_MAX - 3), -EINVAL);
	assert_int_equal(hk_pread_full(fd, buf, 4, (uint64_t)INT64_MAX + 1), -EINVAL);
	assert_int_equal(lseek(fd, 0, SEEK_CUR), 0);
	close(fd);
}

enum { PLENTY = 1 << 20 };

static void *read_plenty(void *arg)
{
	const int *fd = arg;
	char *buf = malloc(PLENTY);
	intptr_t sum = 0;

	/* No assertions here: they jump, and this is another thread. */
	if (buf != NULL && hk_read_full(*fd, buf, PLENTY) == PLENTY) {
		for (int i = 0; i < PLENTY; i++) {
			sum += buf[i];
		}
	}
	free(buf);
	return (void *)sum;
}

static void test_write_full(void **state)
{
	char *buf = malloc(PLENTY);
	pthread_t thread;
	void *sum = NULL;
	int fds[2];

	assert_non_null(buf);
	memset(buf, 3, PLENTY);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
	assert_int_equal(pthread_create(&thread, NULL, read_plenty, &fds[0]), 0);
	assert_int_equal(hk_write_full(fds[1], buf, PLENTY), 0);
	pthread_join(thread, &sum);
	assert_int_equal((intptr_t)sum, 3 * PLENTY);
	signal(SIGPIPE, SIG_IGN);
	close(fds[0]);
	assert_int_equal(hk_write_full(fds[1], buf, 1), -EPIPE);
	assert_int_equal(hk_write_full(fds[1], buf, 0), 0);
	close(fds[1]);
	fds[0] = hk_open(AT_FDCWD, "/dev/full", O_WRONLY, 0);
	assert_int_equal(hk_write_full(fds[0], buf, 1), -ENOSPC);
	close(fds[0]);
	free(buf);
}

static void test_read_file(void **state)
{
	void *data = NULL;
	size_t len = 77;

	write_text("file", "0123456789");
	assert_int_equal(hk_read_file("file", 100, &data, &len, NULL), 0);
	assert_int_equal(len, 10);
	assert_string_equal(data, "0123456789");
	free(data);
	assert_int_equal(hk_read_file("file", 10, &data, &len, NULL), 0);
	assert_int_equal(len, 10);
	free(data);

	write_text("empty", "");
	assert_int_equal(hk_read_file("empty", 0, &data, &len, NULL), 0);
	assert_int_equal(len, 0);
	assert_string_equal(data, "");
	free(data);
	/* No size told, and more than the first guess. */
	assert_int_equal(hk_read_file("/proc/kallsyms", SIZE_MAX, &data, &len, NULL), 0);
	assert_true(len > 4096);
	assert_int_equal(strlen(data), len);
	free(data);
}

static void test_read_file_fails(void **state)
{
	static const struct {
		const char *path;
		size_t limit;
		int code;
	} cases[] = {
		{"file", 9, EFBIG},
		{"file", 0, EFBIG},
		{"/proc/self/status", 100, EFBIG},
		{"/dev/zero", 100000, EFBIG},
		{"missing", 100, ENOENT},
		{".", 100, EISDIR},
		{"file/x", 100, ENOTDIR},
		{"", 100, ENOENT},
	};

	write_text("file", "0123456789");
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct hk_err err = HK_ERR_INIT;
		char named[64];
		void *data = &err;
		size_t len = 77;

		assert_int_equal(hk_read_file(cases[i].path, cases[i].limit, &data, &len, &err),
			-cases[i].code);
		assert_int_equal(err.code, cases[i].code);
		hk_fmt(named, sizeof(named), "'%s': ", cases[i].path);
		assert_memory_equal(hk_err_text(&err), named, strlen(named));
		assert_ptr_equal(data, &err);
		assert_int_equal(len, 77);
	}
}

static void test_write_file_atomic(void **state)
{
	struct stat st;

	assert_int_equal(hk_write_file_atomic("file", "one", 3, 0640, NULL), 0);
	assert_content("file", "one");
	assert_int_equal(stat("file", &st), 0);
	assert_int_equal(st.st_mode & 07777, 0640);
	umask(077);
	assert_int_equal(hk_write_file_atomic("./file", "twotwo", 6, 0644, NULL), 0);
	assert_content("file", "twotwo");
	assert_int_equal(stat("file", &st), 0);
	assert_int_equal(st.st_mode & 07777, 0600);
	assert_int_equal(hk_write_file_atomic("file", NULL, 0, 0600, NULL), 0);
	assert_content("file", "");
	assert_int_equal(count_entries("."), 1);
}

static void test_write_file_atomic_elsewhere(void **state)
{
	char path[128];

	assert_int_equal(mkdir("d", 0700), 0);
	assert_int_equal(mkdir("d/e", 0700), 0);
	assert_int_equal(hk_write_file_atomic("d/e/f", "x", 1, 0600, NULL), 0);
	assert_content("d/e/f", "x");
	hk_fmt(path, sizeof(path), "%s/d/g", directory);
	assert_int_equal(hk_write_file_atomic(path, "y", 1, 0600, NULL), 0);
	assert_content("d/g", "y");
}

static void test_write_file_atomic_in_the_root(void **state)
{
	char path[300];

	/* A name no file system takes: the directory is found, and nothing stays there. */
	memset(path, 'x', sizeof(path));
	path[0] = '/';
	path[sizeof(path) - 1] = '\0';
	assert_int_not_equal(hk_write_file_atomic(path, "x", 1, 0600, NULL), -ENOENT);
}

static void test_write_file_atomic_replaces_links(void **state)
{
	struct stat st;

	write_text("target", "old");
	assert_int_equal(symlink("target", "link"), 0);
	assert_int_equal(hk_write_file_atomic("link", "new", 3, 0600, NULL), 0);
	assert_content("target", "old");
	assert_content("link", "new");
	assert_int_equal(lstat("link", &st), 0);
	assert_true(S_ISREG(st.st_mode));
}

static void test_write_file_atomic_fails(void **state)
{
	static const struct {
		const char *path;
		int code;
	} cases[] = {
		{"missing/file", ENOENT},
		{"file/x", ENOTDIR},
		{"dir/", EISDIR},
		{"dir", EISDIR},
		{"", ENOENT},
	};

	write_text("file", "old");
	assert_int_equal(mkdir("dir", 0700), 0);
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct hk_err err = HK_ERR_INIT;

		assert_int_equal(
			hk_write_file_atomic(cases[i].path, "new", 3, 0600, &err), -cases[i].code);
		assert_int_equal(hk_err_text(&err)[0], '\'');
		assert_int_equal(count_entries("."), 2);
	}
	assert_content("file", "old");
}

static void test_mkdir_p(void **state)
{
	struct stat st;
	char path[128];

	assert_int_equal(hk_mkdir_p("a/b/c", 0755, NULL), 0);
	assert_int_equal(hk_mkdir_p("a/b/c", 0755, NULL), 0);
	assert_int_equal(hk_mkdir_p("a//x///y//", 0755, NULL), 0);
	assert_int_equal(stat("a/x/y", &st), 0);
	assert_true(S_ISDIR(st.st_mode));
	hk_fmt(path, sizeof(path), "%s/p/q", directory);
	assert_int_equal(hk_mkdir_p(path, 0755, NULL), 0);
	assert_int_equal(stat("p/q", &st), 0);
	assert_int_equal(hk_mkdir_p("/", 0755, NULL), 0);
	assert_int_equal(hk_mkdir_p(".", 0755, NULL), 0);
	/* Parents let their owner in, the last is as asked for. */
	assert_int_equal(hk_mkdir_p("r/s", 0500, NULL), 0);
	assert_int_equal(stat("r", &st), 0);
	assert_int_equal(st.st_mode & 07777, 0700);
	assert_int_equal(stat("r/s", &st), 0);
	assert_int_equal(st.st_mode & 07777, 0500);
	assert_int_equal(symlink("a", "link"), 0);
	assert_int_equal(hk_mkdir_p("link/z/w", 0755, NULL), 0);
	assert_int_equal(stat("a/z/w", &st), 0);
}

static void test_mkdir_p_fails(void **state)
{
	struct hk_err err = HK_ERR_INIT;

	write_text("file", "");
	assert_int_equal(hk_mkdir_p("file", 0755, &err), -ENOTDIR);
	assert_string_equal(hk_err_text(&err), "'file': mkdir: Not a directory");
	assert_int_equal(hk_mkdir_p("file/a/b", 0755, &err), -ENOTDIR);
	assert_int_equal(hk_mkdir_p("", 0755, &err), -ENOENT);
	assert_int_equal(hk_mkdir_p("/proc/none/x", 0755, &err), -ENOENT);
	assert_string_equal(hk_err_text(&err), "'/proc/none': mkdir: No such file or directory");
	assert_int_equal(symlink("nowhere", "link"), 0);
	assert_int_equal(hk_mkdir_p("link", 0755, &err), -ENOENT);
}

static void test_memfd(void **state)
{
	struct stat st;
	int fd = hk_memfd("test", 123456789);

	assert_true(fd >= 0);
	assert_int_equal(fstat(fd, &st), 0);
	assert_int_equal(st.st_size, 123456789);
	assert_int_equal(fcntl(fd, F_GETFD), FD_CLOEXEC);
	assert_int_equal(fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK), 0);
	close(fd);
	fd = hk_memfd("test", 0);
	assert_true(fd >= 0);
	close(fd);
	assert_int_equal(hk_memfd("test", UINT64_MAX), -EFBIG);
}

#ifdef HK_WITH_FAULT

static int write_and_read(void)
{
	void *data = NULL;
	size_t len = 0;
	int r = hk_mkdir_p("d/e", 0700, NULL);

	if (r < 0) {
		return r;
	}
	r = hk_write_file_atomic("d/e/file", "new", 3, 0600, NULL);
	if (r < 0) {
		return r;
	}
	r = hk_read_file("d/e/file", 10, &data, &len, NULL);
	if (r < 0) {
		assert_null(data);
		return r;
	}
	free(data);
	r = hk_memfd("x", 1);
	if (r < 0) {
		return r;
	}
	close(r);
	return 0;
}

/* Fails each operation in turn: an error, no descriptor more, no temporary file, old or new. */
static void test_every_operation_fails(void **state)
{
	unsigned fds_before = count_entries("/proc/self/fd");
	uint64_t n;

	for (n = 1;; n++) {
		bool fired;
		bool synced;
		int r;

		hk_fault_arm(0, 0);
		assert_int_equal(system("rm -rf d && mkdir -p d/e && echo -n old >d/e/file"), 0);
		if (n % 2 == 0) {
			assert_int_equal(system("rm -rf d"), 0); /* mkdir_p has something to do */
		}
		hk_fault_arm(HK_FAULT_ALLOC | HK_FAULT_SYSCALL, n);
		r = write_and_read();
		fired = hk_fault_fired();
		hk_fault_arm(0, 0);
		/* Only syncing the directory may fail unseen. */
		synced = r == 0 && fired;
		if (!synced && fired) {
			assert_true(r == -EIO || r == -ENOMEM);
		}
		assert_int_equal(count_entries("/proc/self/fd"), fds_before);
		if (access("d/e/file", F_OK) == 0) {
			void *data = NULL;
			size_t len;

			assert_int_equal(count_entries("d/e"), 1);
			assert_int_equal(hk_read_file("d/e/file", 10, &data, &len, NULL), 0);
			assert_true(
				strcmp(data, "new") == 0 || (r < 0 && strcmp(data, "old") == 0));
			free(data);
		} else {
			assert_true(r < 0);
		}
		if (!fired) {
			break;
		}
	}
	assert_true(n > 12);
}

static void test_memfd_leaves_nothing(void **state)
{
	unsigned before = count_entries("/proc/self/fd");

	hk_fault_arm(HK_FAULT_SYSCALL, 1);
	assert_int_equal(hk_memfd("x", 1), -EIO);
	hk_fault_arm(HK_FAULT_SYSCALL, 2);
	assert_int_equal(hk_memfd("x", 1), -EIO);
	assert_int_equal(count_entries("/proc/self/fd"), before);
}

#endif

#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_open),
		TEST(test_read_full_of_pieces),
		TEST(test_read_full_of_nonblocking),
		TEST(test_interrupted_calls_go_on),
		TEST(test_pread_full),
		TEST(test_write_full),
		TEST(test_read_file),
		TEST(test_read_file_fails),
		TEST(test_write_file_atomic),
		TEST(test_write_file_atomic_elsewhere),
		TEST(test_write_file_atomic_in_the_root),
		TEST(test_write_file_atomic_replaces_links),
		TEST(test_write_file_atomic_fails),
		TEST(test_mkdir_p),
		TEST(test_mkdir_p_fails),
		TEST(test_memfd),
#ifdef HK_WITH_FAULT
		TEST(test_every_operation_fails),
		TEST(test_memfd_leaves_nothing),
#endif
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
