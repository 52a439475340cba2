/* SPDX-License-Identifier: ISC */
/*
 * Two programs that share memory, one of them in a box: see dax.bats.
 *
 *	dax turns FILE SIDE ROUNDS	add one to a counter when it is this side's turn (0 or 1); says what it came to
 *	dax write FILE BYTES		fill it through a mapping, from the end to the start
 *	dax check FILE BYTES		is that what is there, through a mapping and read(2)?
 *	dax hold FILE BYTES		map it, touch all, say so; when FILE.cut is there, add up the bytes
 *	dax into FILE FROM BYTES	read(2), past the cache, from FROM into a mapping of FILE; compare
 *	dax speed FILE BYTES ROUNDS	seconds of writing to and reading from a mapping, touched before
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

enum { PAGE = 4096, PATIENCE_S = 110 };

static void fail(const char *what)
{
	fprintf(stderr, "dax: %s: %s\n", what, strerror(errno));
	exit(1);
}

static uint8_t *map(const char *path, size_t len, int flags, int *ret_fd)
{
	int fd = open(path, flags, 0666);
	uint8_t *at;

	if (fd < 0 || ((flags & O_CREAT) != 0 && ftruncate(fd, (off_t)len) < 0)) {
		fail(path);
	}
	at = mmap(NULL, len, (flags & O_ACCMODE) == O_RDONLY ? PROT_READ : PROT_READ | PROT_WRITE,
		MAP_SHARED, fd, 0);
	if (at == MAP_FAILED) {
		fail("mmap");
	}
	*ret_fd = fd;
	return at;
}

static int turns(const char *path, unsigned side, unsigned rounds)
{
	int fd;
	_Atomic unsigned *counter = (_Atomic unsigned *)map(path, PAGE, O_RDWR | O_CREAT, &fd);
	time_t end = time(NULL) + PATIENCE_S;

	for (unsigned i = 0; i < rounds; i++) {
		while (atomic_load(counter) % 2 != side) {
			if (time(NULL) > end) {
				fprintf(stderr, "dax: side %u: nobody answers at %u\n", side,
					atomic_load(counter));
				return 1;
			}
			usleep(200);
		}
		atomic_fetch_add(counter, 1);
	}
	while (atomic_load(counter) < 2 * rounds && time(NULL) <= end) {
		usleep(200);
	}
	printf("%u\n", atomic_load(counter));
	return 0;
}

static uint8_t byte_at(size_t i)
{
	return (uint8_t)(i * 7 + i / PAGE * 13 + 1);
}

static int fill(const char *path, size_t len)
{
	int fd;
	uint8_t *at = map(path, len, O_RDWR | O_CREAT, &fd);

	for (size_t i = len; i-- > 0;) {
		at[i] = byte_at(i);
	}
	return fsync(fd) == 0 ? 0 : 1;
}

static int check(const char *path, size_t len)
{
	int fd;
	uint8_t *at = map(path, len, O_RDONLY, &fd);
	static uint8_t buf[PAGE];

	for (size_t i = 0; i < len; i += PAGE) {
		size_t n = len - i < PAGE ? len - i : PAGE;

		if (pread(fd, buf, n, (off_t)i) != (ssize_t)n || memcmp(buf, at + i, n) != 0) {
			printf("read(2) and the mapping differ at %zu\n", i);
			return 1;
		}
		for (size_t k = 0; k < n; k++) {
			if (buf[k] != byte_at(i + k)) {
				printf("wrong at %zu\n", i + k);
				return 1;
			}
		}
	}
	puts("right");
	return 0;
}

static int hold(const char *path, size_t len)
{
	int fd;
	volatile uint8_t *at = map(path, len, O_RDWR, &fd);
	time_t end = time(NULL) + PATIENCE_S;
	char cut[4096];
	size_t sum = 0;

	for (size_t i = 0; i < len; i += PAGE) {
		sum += at[i];
	}
	snprintf(cut, sizeof(cut), "%s.held", path);
	close(open(cut, O_WRONLY | O_CREAT, 0666));
	snprintf(cut, sizeof(cut), "%s.cut", path);
	while (access(cut, F_OK) < 0) {
		if (time(NULL) > end) {
			return 1;
		}
		usleep(20000);
	}
	sum = 0;
	for (size_t i = 0; i < len; i += PAGE) {
		sum += at[i];
		at[i] = 1;
	}
	printf("%zu\n", sum);
	return 0;
}

static int into(const char *path, const char *from, size_t len)
{
	int fd;
	uint8_t *at = map(path, len, O_RDWR | O_CREAT, &fd);
	int in = open(from, O_RDONLY | O_DIRECT);
	uint8_t *want = aligned_alloc(PAGE, len);

	if (in < 0 || read(in, at, len) != (ssize_t)len) {
		fail("read into a mapping");
	}
	if (want == NULL || pread(in, want, len, 0) != (ssize_t)len || memcmp(want, at, len) != 0) {
		fail("compare");
	}
	puts("right");
	return 0;
}

static double now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

static int speed(const char *path, size_t len, unsigned rounds)
{
	int fd;
	uint8_t *at = map(path, len, O_RDWR | O_CREAT, &fd);
	volatile uint64_t sum = 0;
	double start = now();
	double first, written, read;

	for (size_t i = 0; i < len; i += PAGE) {
		at[i] = 1;
	}
	first = now() - start;
	start = now();
	for (unsigned r = 0; r < rounds; r++) {
		memset(at, (int)r, len);
	}
	written = now() - start;
	start = now();
	for (unsigned r = 0; r < rounds; r++) {
		for (size_t i = 0; i < len; i += sizeof(uint64_t)) {
			sum += *(uint64_t *)(at + i);
		}
	}
	read = now() - start;
	printf("first touch %.4f s, write %.4f s, read %.4f s\n", first, written, read);
	return 0;
}

int main(int argc, char **argv)
{
	size_t len = argc > 3 ? strtoul(argv[argc > 4 ? 3 : argc - 1], NULL, 10) : 0;

	if (argc == 5 && strcmp(argv[1], "turns") == 0) {
		return turns(argv[2], (unsigned)len, (unsigned)strtoul(argv[4], NULL, 10));
	}
	if (argc == 4 && strcmp(argv[1], "write") == 0) {
		return fill(argv[2], len);
	}
	if (argc == 4 && strcmp(argv[1], "check") == 0) {
		return check(argv[2], len);
	}
	if (argc == 4 && strcmp(argv[1], "hold") == 0) {
		return hold(argv[2], len);
	}
	if (argc == 5 && strcmp(argv[1], "into") == 0) {
		return into(argv[2], argv[3], strtoul(argv[4], NULL, 10));
	}
	if (argc == 5 && strcmp(argv[1], "speed") == 0) {
		return speed(argv[2], len, (unsigned)strtoul(argv[4], NULL, 10));
	}
	fputs("usage: see dax.c\n", stderr);
	return 2;
}
