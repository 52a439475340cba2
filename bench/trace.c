/* SPDX-License-Identifier: ISC */
/*
 * trace: what every side of the group "trace" does while bench/trace looks at the clock.
 *
 *	trace MIB		in the current directory, with data of that many MiB
 *
 * Says "ready". Then each line of the input names a test, which is run and answered by a line "NAME
 * VALUE"; so that sides can take turns test by test. stat, open-close, creat and unlink are
 * nanoseconds per call: creat leaves the files that unlink removes. The others are milliseconds.
 * "NAME = COMMAND" runs a command of the shell.
 *
 * Calls are made as often in each run, however fast the side is: so all see the same directory.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <spawn.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum {
	CALLS = 2000,
	SMALL = 4096,
	LARGE = 1 << 20,
};

extern char **environ;

static size_t data_bytes;
static char *block; /* LARGE bytes */

__attribute__((noreturn)) static void fail(const char *what)
{
	fprintf(stderr, "trace: %s: %s\n", what, strerror(errno));
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
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC, &time);
	return (double)time.tv_sec * 1e9 + (double)time.tv_nsec;
}

/* Calls */

static void make(const char *name)
{
	int fd = open(name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);

	check(fd >= 0, name);
	close(fd);
}

/* What programs open again and again was there before them. */
static void make_old(const char *name)
{
	struct timespec times[2] = {{.tv_nsec = UTIME_OMIT}, {.tv_sec = 1000000000}};

	check(utimensat(AT_FDCWD, name, times, 0) == 0, name);
}

static void call_stat(unsigned index)
{
	struct stat st;

	check(stat("call/file", &st) == 0, "stat");
}

static void call_open_close(unsigned index)
{
	int fd = open("call/file", O_RDONLY | O_CLOEXEC);

	check(fd >= 0, "open");
	close(fd);
}

static void call_creat(unsigned index)
{
	char name[32];

	snprintf(name, sizeof(name), "call/%u", index);
	make(name);
}

static void call_unlink(unsigned index)
{
	char name[32];

	snprintf(name, sizeof(name), "call/%u", index);
	check(unlink(name) == 0, "unlink");
}

static double time_calls(void (*call)(unsigned index))
{
	double start = now();

	for (unsigned i = 0; i < CALLS; i++) {
		call(i);
	}
	return (now() - start) / CALLS;
}

/* Data */

static int open_data(int flags)
{
	int fd = open("data", flags | O_CLOEXEC, 0644);

	check(fd >= 0, "data");
	return fd;
}

/* Everywhere once, in no order: an odd factor permutes what is counted by a power of two. */
static off_t small_at(size_t index)
{
	return (off_t)(index * 2654435761U % (data_bytes / SMALL) * SMALL);
}

static void data_write(void)
{
	int fd = open_data(O_WRONLY);

	for (size_t at = 0; at < data_bytes; at += LARGE) {
		check(write(fd, block, LARGE) == LARGE, "write");
	}
	close(fd);
}

static void data_read(void)
{
	int fd = open_data(O_RDONLY);

	for (size_t at = 0; at < data_bytes; at += LARGE) {
		check(read(fd, block, LARGE) == LARGE, "read");
	}
	close(fd);
}

static void data_random_write(void)
{
	int fd = open_data(O_WRONLY);

	for (size_t i = 0; i < data_bytes / SMALL; i++) {
		check(pwrite(fd, block, SMALL, small_at(i)) == SMALL, "pwrite");
	}
	close(fd);
}

static void data_random_read(void)
{
	int fd = open_data(O_RDONLY);

	for (size_t i = 0; i < data_bytes / SMALL; i++) {
		check(pread(fd, block, SMALL, small_at(i)) == SMALL, "pread");
	}
	close(fd);
}

static void data_mmap(void)
{
	int fd = open_data(O_RDWR);
	uint64_t *data = mmap(NULL, data_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

	check(data != MAP_FAILED, "mmap");
	for (size_t i = 0; i < data_bytes / sizeof(*data); i++) {
		data[i]++;
	}
	munmap(data, data_bytes);
	close(fd);
}

static void make_data(void)
{
	int fd = open_data(O_WRONLY | O_CREAT | O_TRUNC);

	check(ftruncate(fd, (off_t)data_bytes) == 0, "ftruncate");
	close(fd);
	data_write();
}

static double time_data(void (*test)(void))
{
	double start = now();

	test();
	return (now() - start) / 1e6;
}

/* Commands */

static double time_command(const char *command)
{
	char *argv[] = {"sh", "-ec", (char *)command, NULL};
	double start = now();
	int status;
	pid_t pid;

	check(posix_spawn(&pid, "/bin/sh", NULL, NULL, argv, environ) == 0, "sh");
	check(waitpid(pid, &status, 0) == pid, "wait");
	if (status != 0) {
		fprintf(stderr, "trace: status %d of %s\n", status, command);
		exit(1);
	}
	return (now() - start) / 1e6;
}

static const struct test {
	const char *name;
	void (*call)(unsigned index); /* or: */
	void (*data)(void);
} tests[] = {
	{"stat", call_stat, NULL},
	{"open-close", call_open_close, NULL},
	{"creat", call_creat, NULL},
	{"unlink", call_unlink, NULL},
	{"data-make", NULL, make_data},
	{"data-write", NULL, data_write},
	{"data-read", NULL, data_read},
	{"data-random-write", NULL, data_random_write},
	{"data-random-read", NULL, data_random_read},
	{"data-mmap", NULL, data_mmap},
};

static double run(char *line)
{
	char *command = strstr(line, " = ");

	if (command != NULL) {
		*command = '\0';
		return time_command(command + 3);
	}
	for (size_t i = 0; i < sizeof(tests) / sizeof(tests[0]); i++) {
		if (strcmp(line, tests[i].name) == 0) {
			return tests[i].call != NULL ? time_calls(tests[i].call)
						     : time_data(tests[i].data);
		}
	}
	fprintf(stderr, "trace: there is no test '%s'\n", line);
	exit(1);
}

int main(int argc, char **argv)
{
	char line[4096];

	data_bytes = argc == 2 ? strtoul(argv[1], NULL, 10) << 20 : 0;
	if (data_bytes == 0 || (data_bytes & (data_bytes - 1)) != 0) {
		fputs("usage: trace MIB\nMIB is a power of two.\n", stderr);
		return 2;
	}
	block = malloc(LARGE);
	check(block != NULL, "memory");
	memset(block, 'x', LARGE);
	check(mkdir("call", 0755) == 0 || errno == EEXIST, "mkdir");
	if (access("call/file", F_OK) < 0) {
		make("call/file");
		make_old("call/file");
	}
	puts("ready");
	fflush(stdout);
	while (fgets(line, sizeof(line), stdin) != NULL) {
		double value;

		line[strcspn(line, "\n")] = '\0';
		value = run(line);
		printf("%s %.3f\n", line, value);
		fflush(stdout);
	}
	return 0;
}
