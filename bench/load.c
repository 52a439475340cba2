/* SPDX-License-Identifier: ISC */
/*
 * load: what the guests of both sides do while bench/in-rig looks at the clock.
 *
 *	load blk DEVICE MS [DEVICE...]	sequential and random, read and write, without the page
 *cache load fs DIRECTORY MS		the same on a file, then names and attributes load sleep
 *says "ready" and sleeps
 *
 * Writes one line a number: "NAME VALUE". Each throughput test runs for MS milliseconds and counts
 * what was finished in that time; each test of names does a fixed amount of work.
 *
 * Why not fio: it is linked with 85 shared libraries, and reading these through the share takes an
 * emulated guest longer than all that is measured. This is one static program. Requests are made
 * as fio's psync (depth 1) and libaio (depth 32) engines make them.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/aio_abi.h>
#include <linux/fs.h>
#include <spawn.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum {
	SMALL = 4096,
	LARGE = 1 << 20,
	DEPTH = 32,
	FILE_BYTES = 64 << 20,
	STAT_FILES = 2000,
	STAT_DIRS = 20,
	CREATE_FILES = 1000,
};

extern char **environ;

__attribute__((noreturn)) static void fail(const char *what)
{
	fprintf(stderr, "load: %s: %s\n", what, strerror(errno));
	exit(1);
}

static void check(bool good, const char *what)
{
	if (!good) {
		fail(what);
	}
}

static double now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

static void say(const char *prefix, const char *name, double value)
{
	printf("%s%s %.3f\n", prefix, name, value);
	fflush(stdout);
}

/* xorshift: the same places on both sides */
static uint64_t next_random(void)
{
	static uint64_t x = 88172645463325252u;

	x ^= x << 13;
	x ^= x >> 7;
	x ^= x << 17;
	return x;
}

/* Requests of @size bytes, one at a time. Return: a second. */
static double one_by_one(int fd, bool writes, bool random, size_t size, off_t bytes, double seconds)
{
	void *buf = aligned_alloc(SMALL, size);
	double start = now();
	double end = start;
	uint64_t count = 0;
	off_t at = 0;

	check(buf != NULL, "memory");
	memset(buf, 0x5a, size);
	do {
		ssize_t n;

		if (random) {
			at = (off_t)(next_random() % (uint64_t)(bytes / (off_t)size)) * (off_t)size;
		}
		n = writes ? pwrite(fd, buf, size, at) : pread(fd, buf, size, at);
		check(n == (ssize_t)size, writes ? "write" : "read");
		at = at + 2 * (off_t)size <= bytes ? at + (off_t)size : 0;
		count++;
		end = now();
	} while (end - start < seconds);
	free(buf);
	return (double)count / (end - start);
}

/* Random requests of SMALL bytes, DEPTH of them at any time. Return: a second. */
static double many_at_once(int fd, bool writes, off_t bytes, double seconds)
{
	struct iocb requests[DEPTH];
	struct iocb *pending[DEPTH];
	struct io_event events[DEPTH];
	aio_context_t context = 0;
	uint8_t *buf = aligned_alloc(SMALL, (size_t)DEPTH * SMALL);
	unsigned flying = 0;
	unsigned free_count = DEPTH;
	uint64_t count = 0;
	double start;
	double end;

	check(buf != NULL && syscall(SYS_io_setup, DEPTH, &context) == 0, "io_setup");
	memset(buf, 0xa5, (size_t)DEPTH * SMALL);
	for (unsigned i = 0; i < DEPTH; i++) {
		requests[i] = (struct iocb){
			.aio_lio_opcode = writes ? IOCB_CMD_PWRITE : IOCB_CMD_PREAD,
			.aio_fildes = (uint32_t)fd,
			.aio_buf = (uintptr_t)(buf + (size_t)i * SMALL),
			.aio_nbytes = SMALL,
		};
		pending[i] = &requests[i];
	}
	start = now();
	for (end = start; end - start < seconds || flying > 0; end = now()) {
		long n;

		if (end - start >= seconds) {
			free_count = 0;
		}
		for (unsigned i = 0; i < free_count; i++) {
			pending[i]->aio_offset =
				(int64_t)(next_random() % (uint64_t)(bytes / SMALL)) * SMALL;
		}
		if (free_count > 0) {
			n = syscall(SYS_io_submit, context, (long)free_count, pending);
			check(n == (long)free_count, "io_submit");
			flying += free_count;
		}
		n = syscall(SYS_io_getevents, context, 1L, (long)DEPTH, events, NULL);
		check(n > 0, "io_getevents");
		for (long i = 0; i < n; i++) {
			errno = (int)-events[i].res;
			check(events[i].res == SMALL, writes ? "write" : "read");
			pending[i] = (struct iocb *)(uintptr_t)events[i].obj;
		}
		flying -= (unsigned)n;
		free_count = (unsigned)n;
		count += (uint64_t)n;
	}
	syscall(SYS_io_destroy, context);
	free(buf);
	return (double)count / (end - start);
}

static void throughput(int fd, const char *prefix, off_t bytes, double seconds)
{
	/* Writes first: pages that were never written are not read from the file. */
	say(prefix, "seq-write", one_by_one(fd, true, false, LARGE, bytes, seconds));
	say(prefix, "seq-read", one_by_one(fd, false, false, LARGE, bytes, seconds));
	say(prefix, "rand-write-1", one_by_one(fd, true, true, SMALL, bytes, seconds));
	say(prefix, "rand-read-1", one_by_one(fd, false, true, SMALL, bytes, seconds));
	say(prefix, "rand-write-32", many_at_once(fd, true, bytes, seconds));
	say(prefix, "rand-read-32", many_at_once(fd, false, bytes, seconds));
}

static void blk(const char *prefix, const char *path, double seconds)
{
	int fd = open(path, O_RDWR | O_DIRECT | O_CLOEXEC);
	uint64_t bytes = 0;

	check(fd >= 0 && ioctl(fd, BLKGETSIZE64, &bytes) == 0, path);
	throughput(fd, prefix, (off_t)bytes, seconds);
	close(fd);
}

static void forget_caches(void)
{
	int fd = open("/proc/sys/vm/drop_caches", O_WRONLY | O_CLOEXEC);

	sync();
	check(fd >= 0 && write(fd, "3", 1) == 1, "/proc/sys/vm/drop_caches");
	close(fd);
}

static int open_file(const char *name, int flags)
{
	int fd = open(name, flags | O_CLOEXEC, 0644);

	check(fd >= 0, name);
	return fd;
}

/* Through the page cache, 128 KiB at a time: what cp and cat do. Return: MiB a second. */
static double read_through_cache(const char *name)
{
	enum { STEP = 128 << 10 };
	char *buf = malloc(STEP);
	int fd = open_file(name, O_RDONLY);
	double start = now();
	double bytes = 0;
	ssize_t n;

	check(buf != NULL, "memory");
	while ((n = read(fd, buf, STEP)) > 0) {
		bytes += (double)n;
	}
	check(n == 0 && bytes == FILE_BYTES, name);
	close(fd);
	free(buf);
	return bytes / LARGE / (now() - start);
}

static void stat_file(unsigned i)
{
	char name[64];
	struct stat st;

	snprintf(name, sizeof(name), "tree/d%02u/f%04u", i % STAT_DIRS, i);
	check(stat(name, &st) == 0, name);
}

/* Return: files a second */
static double stat_all(void)
{
	double start = now();

	for (unsigned i = 0; i < STAT_FILES; i++) {
		stat_file(i);
	}
	return STAT_FILES / (now() - start);
}

/* Return: files a second, each made with a few bytes in it and removed */
static double create_all(void)
{
	double start = now();
	char name[64];

	for (unsigned i = 0; i < CREATE_FILES; i++) {
		snprintf(name, sizeof(name), "new/f%04u", i);
		int fd = open_file(name, O_CREAT | O_EXCL | O_WRONLY);

		check(write(fd, "some bytes\n", 11) == 11, name);
		close(fd);
	}
	for (unsigned i = 0; i < CREATE_FILES; i++) {
		snprintf(name, sizeof(name), "new/f%04u", i);
		check(unlink(name) == 0, name);
	}
	return CREATE_FILES / (now() - start);
}

/* Return: milliseconds */
static double run(char *const *argv)
{
	posix_spawn_file_actions_t actions;
	double start = now();
	int status;
	pid_t pid;

	posix_spawn_file_actions_init(&actions);
	posix_spawn_file_actions_addopen(&actions, 1, "/dev/null", O_WRONLY, 0);
	errno = posix_spawn(&pid, argv[0], &actions, NULL, argv, environ);
	check(errno == 0, argv[0]);
	check(waitpid(pid, &status, 0) == pid, "wait");
	posix_spawn_file_actions_destroy(&actions);
	errno = ECHILD;
	check(status == 0, argv[1]);
	return (now() - start) * 1000;
}

/* The directory is made by bench/in-rig: "file", "tree/", "new/", "tree.tar". */
static void fs(const char *dir, double seconds)
{
	char *const true_argv[] = {"./busybox", "true", NULL};
	char *const find_argv[] = {"./busybox", "find", "tree", "-type", "f", NULL};
	char *const tar_argv[] = {"./busybox", "tar", "xf", "tree.tar", "-C", "new", NULL};
	double start;
	double warm = 0;
	unsigned rounds = 0;
	int fd;

	check(chdir(dir) == 0, dir);
	fd = open_file("file", O_RDWR | O_DIRECT);
	throughput(fd, "", FILE_BYTES, seconds);
	close(fd);

	forget_caches();
	say("", "cold-read", read_through_cache("file"));

	forget_caches();
	run(true_argv);
	say("", "stat-cold", stat_all());
	start = now();
	do {
		warm += stat_all();
		rounds++;
	} while (now() - start < seconds);
	say("", "stat-warm", warm / rounds);
	say("", "create", create_all());

	forget_caches();
	run(true_argv);
	say("", "find", run(find_argv));
	say("", "tar", run(tar_argv));
}

int main(int argc, char **argv)
{
	if (argc == 2 && strcmp(argv[1], "sleep") == 0) {
		puts("ready");
		fflush(stdout);
		for (;;) {
			pause();
		}
	}
	if (argc >= 4 && strcmp(argv[1], "blk") == 0) {
		double seconds = strtod(argv[3], NULL) / 1000;

		blk("", argv[2], seconds);
		if (argc > 4) {
			blk("second-", argv[4], seconds);
		}
		return 0;
	}
	if (argc == 4 && strcmp(argv[1], "fs") == 0) {
		fs(argv[2], strtod(argv[3], NULL) / 1000);
		return 0;
	}
	fprintf(stderr, "usage: load blk DEVICE MS [DEVICE] | load fs DIRECTORY MS | load sleep\n");
	return 2;
}
