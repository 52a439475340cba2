/* SPDX-License-Identifier: ISC */
/*
 * load: what the guests of all sides do while bench/in-rig looks at the clock.
 *
 *	load blk MS DEVICE...		throughput of disks, without the page cache
 *	load fs MS DIRECTORY FILES	the same of a file, and names and attributes
 *	load map MS FILE		memory that is a file, all of it touched before
 *	load sleep			nothing
 *
 * Says "ready". Then each line of the input names a test, which is run and answered by a line
 * "NAME VALUE"; so that sides can take turns test by test. A throughput test goes on for MS
 * milliseconds; a test of names does a fixed amount of work, in milliseconds or files a second.
 * Tests of the second device have "second-" before their names.
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
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum {
	SMALL = 4096,
	LARGE = 1 << 20,
	DEPTH = 32,
	FILE_BYTES = 32 << 20,
	TREE_DIRS = 20,
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

/* What a test works on. */
struct load {
	int fd;
	off_t bytes;
	double seconds;
	unsigned files;
	uint64_t *words; /* the file, mapped */
};

static double seq_write(const struct load *load)
{
	return one_by_one(load->fd, true, false, LARGE, load->bytes, load->seconds);
}

static double seq_read(const struct load *load)
{
	return one_by_one(load->fd, false, false, LARGE, load->bytes, load->seconds);
}

static double rand_write(const struct load *load)
{
	return one_by_one(load->fd, true, true, SMALL, load->bytes, load->seconds);
}

static double rand_read(const struct load *load)
{
	return one_by_one(load->fd, false, true, SMALL, load->bytes, load->seconds);
}

static double rand_write_many(const struct load *load)
{
	return many_at_once(load->fd, true, load->bytes, load->seconds);
}

static double rand_read_many(const struct load *load)
{
	return many_at_once(load->fd, false, load->bytes, load->seconds);
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

/* Nothing cached, but the program that a test runs. */
static void start_cold(void)
{
	char *const argv[] = {"./busybox", "true", NULL};

	forget_caches();
	run(argv);
}

/* Through the page cache, 128 KiB at a time: what cp and cat do. Return: MiB a second. */
static double cold_read(const struct load *load)
{
	enum { STEP = 128 << 10, TOTAL = 16 << 20 };
	char *buf = malloc(STEP);
	int fd = open_file("file", O_RDONLY);
	double start;

	check(buf != NULL, "memory");
	forget_caches();
	start = now();
	for (size_t at = 0; at < TOTAL; at += STEP) {
		check(read(fd, buf, STEP) == STEP, "file");
	}
	close(fd);
	free(buf);
	return (double)TOTAL / LARGE / (now() - start);
}

/* Return: files a second */
static double stat_all(const struct load *load)
{
	double start = now();

	for (unsigned i = 0; i < load->files; i++) {
		char name[64];
		struct stat st;

		snprintf(name, sizeof(name), "tree/d%02u/f%04u", i % TREE_DIRS, i);
		check(stat(name, &st) == 0, name);
	}
	return load->files / (now() - start);
}

static double stat_cold(const struct load *load)
{
	forget_caches();
	return stat_all(load);
}

static double stat_warm(const struct load *load)
{
	double start;
	double sum = 0;
	unsigned rounds = 0;

	stat_all(load);
	start = now();
	do {
		sum += stat_all(load);
		rounds++;
	} while (now() - start < load->seconds);
	return sum / rounds;
}

/* Return: files a second, each made with a few bytes in it and removed */
static double create(const struct load *load)
{
	unsigned count = load->files / 2;
	double start = now();
	char name[64];

	for (unsigned i = 0; i < count; i++) {
		snprintf(name, sizeof(name), "f%04u", i);
		int fd = open_file(name, O_CREAT | O_EXCL | O_WRONLY);

		check(write(fd, "some bytes\n", 11) == 11, name);
		close(fd);
	}
	for (unsigned i = 0; i < count; i++) {
		snprintf(name, sizeof(name), "f%04u", i);
		check(unlink(name) == 0, name);
	}
	return count / (now() - start);
}

static double find(const struct load *load)
{
	char *const argv[] = {"./busybox", "find", "tree", "-type", "f", NULL};

	start_cold();
	return run(argv);
}

static double tar(const struct load *load)
{
	char *const argv[] = {"./busybox", "tar", "xf", "tree.tar", "-C", "new", NULL};
	char *const clean_argv[] = {"./busybox", "rm", "-r", "new", NULL};
	double result;

	check(mkdir("new", 0755) == 0, "new");
	start_cold();
	result = run(argv);
	run(clean_argv);
	return result;
}

/* What is mapped, a word at a time, so that no instruction for strings stands for the memory. */

enum { MAP_BYTES = 64 << 20, MAP_WORDS = MAP_BYTES / sizeof(uint64_t) };

static double map_rate(const struct load *load, uint64_t (*turn)(uint64_t *words))
{
	double start = now();
	double end;
	uint64_t bytes = 0;

	do {
		bytes += turn(load->words);
		end = now();
	} while (end - start < load->seconds);
	return (double)bytes / (1 << 20) / (end - start);
}

/* 1 MiB each, the next one each time. */
static volatile uint64_t *next_stretch(uint64_t *words)
{
	static size_t at;

	at = (at + LARGE / sizeof(uint64_t)) % MAP_WORDS;
	return words + at;
}

static uint64_t read_turn(uint64_t *words)
{
	volatile uint64_t *stretch = next_stretch(words);

	for (size_t i = 0; i < LARGE / sizeof(uint64_t); i++) {
		(void)stretch[i];
	}
	return LARGE;
}

static uint64_t write_turn(uint64_t *words)
{
	volatile uint64_t *stretch = next_stretch(words);

	for (size_t i = 0; i < LARGE / sizeof(uint64_t); i++) {
		stretch[i] = i;
	}
	return LARGE;
}

/* Pages at random, a cache line of each. */
static uint64_t random_turn(uint64_t *words)
{
	volatile uint64_t *all = words;
	enum { LINE = 8, PLACES = 256 };

	for (unsigned i = 0; i < PLACES; i++) {
		size_t at = next_random() % (MAP_WORDS / LINE) * LINE;

		for (unsigned k = 0; k < LINE; k++) {
			all[at + k]++;
		}
	}
	return PLACES * LINE * sizeof(uint64_t);
}

static double map_read(const struct load *load)
{
	return map_rate(load, read_turn);
}

static double map_write(const struct load *load)
{
	return map_rate(load, write_turn);
}

static double map_random(const struct load *load)
{
	return map_rate(load, random_turn);
}

static void map_file(struct load *load, const char *path)
{
	load->fd = open_file(path, O_RDWR | O_CREAT);
	check(ftruncate(load->fd, MAP_BYTES) == 0, path);
	load->words = mmap(NULL, MAP_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, load->fd, 0);
	check(load->words != MAP_FAILED, "mmap");
	for (size_t i = 0; i < MAP_WORDS; i += SMALL / sizeof(uint64_t)) {
		load->words[i] = i;
	}
}

static const struct test {
	const char *name;
	double (*run)(const struct load *load);
} tests[] = {
	{"seq-write", seq_write},
	{"seq-read", seq_read},
	{"rand-write-1", rand_write},
	{"rand-read-1", rand_read},
	{"rand-write-32", rand_write_many},
	{"rand-read-32", rand_read_many},
	{"cold-read", cold_read},
	{"stat-cold", stat_cold},
	{"stat-warm", stat_warm},
	{"create", create},
	{"find", find},
	{"tar", tar},
	{"map-read", map_read},
	{"map-write", map_write},
	{"map-random", map_random},
};

static void answer(const char *word, const struct load *loads)
{
	static const char second[] = "second-";
	const char *name = word;

	if (strncmp(word, second, strlen(second)) == 0) {
		name += strlen(second);
		loads++;
	}
	for (size_t i = 0; i < sizeof(tests) / sizeof(tests[0]); i++) {
		if (strcmp(tests[i].name, name) == 0) {
			printf("%s %.3f\n", word, tests[i].run(loads));
			return;
		}
	}
	errno = EINVAL;
	fail(word);
}

static void open_device(struct load *load, const char *path)
{
	uint64_t bytes = 0;

	load->fd = open(path, O_RDWR | O_DIRECT | O_CLOEXEC);
	check(load->fd >= 0 && ioctl(load->fd, BLKGETSIZE64, &bytes) == 0, path);
	load->bytes = (off_t)bytes;
}

int main(int argc, char **argv)
{
	struct load loads[2] = {{.fd = -1}, {.fd = -1}};
	const char *kind = argc > 1 ? argv[1] : "";
	char line[64];

	for (unsigned i = 0; i < 2 && argc > 2; i++) {
		loads[i].seconds = strtod(argv[2], NULL) / 1000;
	}
	if (strcmp(kind, "blk") == 0 && (argc == 4 || argc == 5)) {
		for (int i = 3; i < argc; i++) {
			open_device(&loads[i - 3], argv[i]);
		}
	} else if (strcmp(kind, "fs") == 0 && argc == 5) {
		/* The directory is made by bench/in-rig: "file", "tree/", "tree.tar", "busybox". */
		check(chdir(argv[3]) == 0, argv[3]);
		loads[0].fd = open_file("file", O_RDWR | O_DIRECT);
		loads[0].bytes = FILE_BYTES;
		loads[0].files = (unsigned)strtoul(argv[4], NULL, 10);
	} else if (strcmp(kind, "map") == 0 && argc == 4) {
		map_file(&loads[0], argv[3]);
	} else if (strcmp(kind, "sleep") != 0) {
		fprintf(stderr,
			"usage: load blk MS DEVICE [DEVICE] | fs MS DIRECTORY FILES | map MS FILE "
			"| "
			"sleep\n");
		return 2;
	}
	setvbuf(stdout, NULL, _IOLBF, BUFSIZ);
	puts("ready");
	while (fgets(line, sizeof(line), stdin) != NULL) {
		line[strcspn(line, "\r\n")] = '\0';
		if (line[0] != '\0') {
			answer(line, loads);
		}
	}
	return 0;
}
