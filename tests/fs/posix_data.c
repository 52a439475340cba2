/* SPDX-License-Identifier: ISC */
/* posix: data, mappings, locks and listings. See posix.h. */
#include "posix.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { MIB = 1 << 20 };

void posix_space(void)
{
	struct stat st;
	char buf[8192];
	int fd;

	check(fd = open("f", O_RDWR | O_CREAT, 0644), 0);
	if (fallocate(fd, 0, 0, 65536) < 0 && errno == EOPNOTSUPP) {
		posix_skip("no fallocate");
	} else {
		check(fstat(fd, &st), 0);
		ok(st.st_size == 65536 && st.st_blocks >= 128);
		check(fallocate(fd, FALLOC_FL_KEEP_SIZE, 65536, 65536), 0);
		check(fstat(fd, &st), 0);
		ok(st.st_size == 65536);
		memset(buf, 'x', sizeof(buf));
		check(pwrite(fd, buf, sizeof(buf), 0), 0);
		check(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 4096), 0);
		check(pread(fd, buf, sizeof(buf), 0), 0);
		ok(buf[0] == 0 && buf[4095] == 0 && buf[4096] == 'x');
		check(fallocate(fd, FALLOC_FL_PUNCH_HOLE, 0, 4096), EOPNOTSUPP);
	}
	check(fallocate(fd, 0, 0, 0), EINVAL);
	check(fallocate(fd, 0, -1, 10), EINVAL);
	close(fd);

	check(fd = open("sparse", O_RDWR | O_CREAT, 0644), 0);
	check(pwrite(fd, "data", 4, MIB), 0);
	check(ftruncate(fd, 2 * MIB), 0);
	ok(lseek(fd, 0, SEEK_DATA) == MIB);
	ok(lseek(fd, 0, SEEK_HOLE) == 0);
	ok(lseek(fd, MIB, SEEK_HOLE) > MIB);
	ok(lseek(fd, MIB, SEEK_HOLE) < 2 * MIB);
	check(lseek(fd, 2 * MIB, SEEK_DATA), ENXIO);
	check(lseek(fd, 2 * MIB - 1, SEEK_DATA), ENXIO);
	check(lseek(fd, 3 * MIB, SEEK_HOLE), ENXIO);
	check(lseek(fd, 0, 99), EINVAL);
	close(fd);
}

void posix_copy(void)
{
	loff_t in = 2;
	loff_t out = 1;
	int from;
	int to;

	check(posix_create("from", "0123456789"), 0);
	check(from = open("from", O_RDWR), 0);
	check(to = open("to", O_RDWR | O_CREAT, 0644), 0);
	ok(copy_file_range(from, &in, to, &out, 5, 0) == 5);
	ok(in == 7 && out == 6);
	check(pwrite(to, "_", 1, 0), 0);
	ok(posix_has("to", "_23456"));
	in = 8;
	ok(copy_file_range(from, &in, to, &out, 100, 0) == 2);
	ok(copy_file_range(from, &in, to, &out, 100, 0) == 0);
	ok(posix_has("to", "_2345689"));
	in = 0;
	out = 2;
	check(copy_file_range(from, &in, from, &out, 5, 0), EINVAL); /* overlap */
	check(copy_file_range(from, &in, to, &out, 5, 1), EINVAL);
	out = 100;
	ok(copy_file_range(from, &in, from, &out, 5, 0) == 5);
	close(to);
	check(to = open("to", O_RDONLY), 0);
	check(copy_file_range(from, NULL, to, NULL, 5, 0), EBADF);
	close(to);
	close(from);
}

static uint32_t next_random(uint32_t *state)
{
	*state = *state * 1664525 + 1013904223;
	return *state >> 8;
}

/* Random writes, cuts and reads, compared with a copy in memory. */
static bool random_work(int fd, unsigned rounds)
{
	enum { SIZE = 3 * MIB };
	static char shadow[SIZE];
	static char buf[SIZE];
	uint32_t seed = 1;
	size_t size = 0;

	memset(shadow, 0, sizeof(shadow));
	for (unsigned i = 0; i < rounds; i++) {
		size_t at = next_random(&seed) % SIZE;
		size_t len = next_random(&seed) % (i % 8 == 0 ? SIZE : 20000);
		uint32_t what = next_random(&seed) % 16;

		len = len > SIZE - at ? SIZE - at : len;
		if (what == 0) {
			if (ftruncate(fd, (off_t)at) < 0) {
				return false;
			}
			if (at < size) {
				memset(shadow + at, 0, size - at);
			}
			size = at;
		} else if (what < 8) {
			memset(buf, (int)(i & 255), len);
			if (pwrite(fd, buf, len, (off_t)at) != (ssize_t)len) {
				return false;
			}
			memset(shadow + at, (int)(i & 255), len);
			size = len > 0 && at + len > size ? at + len : size;
		} else {
			size_t want = at >= size ? 0 : size - at < len ? size - at : len;

			if (pread(fd, buf, len, (off_t)at) != (ssize_t)want ||
				memcmp(buf, shadow + at, want) != 0) {
				return false;
			}
		}
	}
	return true;
}

static int exceed_limit(void)
{
	struct rlimit limit = {100, 100};
	int fd = open("limited", O_WRONLY | O_CREAT, 0644);
	char buf[200] = {0};

	signal(SIGXFSZ, SIG_IGN);
	if (fd < 0 || setrlimit(RLIMIT_FSIZE, &limit) < 0) {
		return 1;
	}
	if (write(fd, buf, 200) != 100) {
		return 2;
	}
	return write(fd, buf, 1) < 0 && errno == EFBIG ? 0 : 3;
}

void posix_data(void)
{
	char parts[3][4];
	struct iovec iov[3] = {{parts[0], 4}, {parts[1], 4}, {parts[2], 4}};
	char buf[16];
	int fd;
	int other;

	check(fd = open("random", O_RDWR | O_CREAT, 0644), 0);
	ok(random_work(fd, 2000));
	close(fd);
	check(fd = open("sync", O_RDWR | O_CREAT | O_SYNC, 0644), 0);
	ok(random_work(fd, 30));
	check(fsync(fd), 0);
	check(fdatasync(fd), 0);
	close(fd);
	fd = open("direct", O_RDWR | O_CREAT | O_DIRECT, 0644);
	if (fd < 0) {
		posix_skip("no O_DIRECT");
	} else {
		char *aligned = aligned_alloc(4096, 65536);

		memset(aligned, 'd', 65536);
		ok(pwrite(fd, aligned, 65536, 0) == 65536);
		memset(aligned, 0, 65536);
		ok(pread(fd, aligned, 65536, 0) == 65536 && aligned[65535] == 'd');
		free(aligned);
		close(fd);
	}
	check(posix_create("v", "aaaabbbbcc"), 0);
	check(fd = open("v", O_RDWR), 0);
	ok(readv(fd, iov, 3) == 10 && memcmp(parts[2], "cc", 2) == 0);
	check(lseek(fd, 0, SEEK_SET), 0);
	check(writev(fd, iov, 2), 0);
	check(other = open("v", O_RDONLY), 0);
	ok(pread(other, buf, 16, 8) == 2);
	ok(pread(other, buf, 16, 10) == 0);
	ok(pread(other, buf, 16, 1000) == 0);
	check(pread(other, buf, 1, -1), EINVAL);
	check(pwrite(fd, "x", 1, 1000), 0);
	ok(pread(other, buf, 3, 998) == 3 && buf[0] == 0 && buf[2] == 'x');
	check(pwrite(fd, "far", 3, INT64_C(5) << 30), 0);
	ok(pread(other, buf, 16, INT64_C(5) << 30) == 3);
	close(fd);
	close(other);
	ok(posix_child(exceed_limit) == 0);
}

static int write_mapped(void)
{
	int fd = open("m", O_RDWR);
	char *map = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

	if (map == MAP_FAILED || map[0] != 'p') {
		return 1;
	}
	map[1] = 'c';
	return msync(map, 8192, MS_SYNC) == 0 ? 0 : 2;
}

void posix_mmap(void)
{
	char buf[8];
	char *map;
	char *again;
	int fd;
	int append;

	check(fd = open("m", O_RDWR | O_CREAT, 0644), 0);
	check(ftruncate(fd, 8192), 0);
	map = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	ok(map != MAP_FAILED);
	map[0] = 'p';
	ok(pread(fd, buf, 1, 0) == 1 && buf[0] == 'p');
	check(pwrite(fd, "w", 1, 4096), 0);
	ok(map[4096] == 'w');
	ok(posix_child(write_mapped) == 0);
	ok(map[1] == 'c');
	again = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
	ok(again != MAP_FAILED);
	again[0] = 'x';
	ok(map[0] == 'p');
	check(msync(map, 8192, MS_SYNC), 0);
	munmap(again, 8192);
	close(fd);
	map[2] = 'z'; /* the mapping outlives the descriptor */
	munmap(map, 8192);
	check(fd = open("m", O_RDONLY), 0);
	ok(pread(fd, buf, 3, 0) == 3 && memcmp(buf, "pcz", 3) == 0);
	close(fd);

	/* Pages written back through a descriptor that appends go where they belong. */
	check(posix_create("app", "0123456789"), 0);
	check(append = open("app", O_RDWR | O_APPEND), 0);
	map = mmap(NULL, 10, PROT_READ | PROT_WRITE, MAP_SHARED, append, 0);
	ok(map != MAP_FAILED);
	map[0] = 'X';
	check(msync(map, 10, MS_SYNC), 0);
	check(write(append, "+", 1), 0);
	munmap(map, 10);
	close(append);
	ok(posix_has("app", "X123456789+"));

	check(fd = open("gone", O_RDWR | O_CREAT, 0644), 0);
	check(ftruncate(fd, 4096), 0);
	map = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	check(unlink("gone"), 0);
	map[0] = 'u';
	ok(pread(fd, buf, 1, 0) == 1 && buf[0] == 'u');
	munmap(map, 4096);
	close(fd);

	ok(system("cp /bin/true ./prog && ./prog") == 0);
	check(unlink("prog"), 0);
}

static int lock(int fd, int command, short type, off_t start, off_t len)
{
	struct flock fl = {.l_type = type, .l_whence = SEEK_SET, .l_start = start, .l_len = len};

	return fcntl(fd, command, &fl);
}

/* Holds a lock on bytes 0 to 9 until its pipe closes; tells when it has it. */
static pid_t hold(int command, short type, int ready[2], int until[2])
{
	char byte = 0;
	pid_t pid;

	if (pipe(ready) < 0 || pipe(until) < 0) {
		return -1;
	}
	fflush(stdout);
	pid = fork();
	if (pid == 0) {
		int fd = open("l", O_RDWR);

		close(until[1]);
		if (command == 0 ? flock(fd, type) < 0 : lock(fd, command, type, 0, 10) < 0) {
			_exit(1);
		}
		(void)!write(ready[1], &byte, 1);
		(void)!read(until[0], &byte, 1);
		_exit(0);
	}
	(void)!read(ready[0], &byte, 1);
	return pid;
}

static void let_go(pid_t pid, int ready[2], int until[2])
{
	close(until[1]);
	waitpid(pid, NULL, 0);
	close(until[0]);
	close(ready[0]);
	close(ready[1]);
}

/* Lets go of the lock a little later, from another process. */
static pid_t let_go_later(int until[2])
{
	pid_t pid;

	fflush(stdout);
	pid = fork();
	if (pid == 0) {
		nanosleep(&(struct timespec){.tv_nsec = 100000000}, NULL);
		_exit(0); /* closes the last copy of until[1] */
	}
	close(until[1]);
	until[1] = -1;
	return pid;
}

static double seconds(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

void posix_fcntl_locks(void)
{
	struct flock fl = {.l_type = F_WRLCK, .l_len = 1};
	int ready[2];
	int until[2];
	double start;
	pid_t later;
	pid_t pid;
	int fd;
	int second;

	check(posix_create("l", "0123456789abcdef"), 0);
	check(fd = open("l", O_RDWR), 0);
	pid = hold(F_SETLK, F_WRLCK, ready, until);
	ok(pid > 0);
	check(lock(fd, F_SETLK, F_WRLCK, 0, 1), EAGAIN);
	check(lock(fd, F_SETLK, F_RDLCK, 9, 1), EAGAIN);
	check(lock(fd, F_SETLK, F_WRLCK, 10, 5), 0);
	check(fcntl(fd, F_GETLK, &fl), 0);
	ok(fl.l_type == F_WRLCK && fl.l_pid == pid && fl.l_start == 0 && fl.l_len == 10);
	start = seconds();
	later = let_go_later(until);
	check(lock(fd, F_SETLKW, F_WRLCK, 0, 10), 0);
	ok(seconds() - start > 0.05);
	let_go(pid, ready, until);
	waitpid(later, NULL, 0);
	check(second = open("l", O_RDWR), 0);
	check(lock(second, F_SETLK, F_WRLCK, 0, 10), 0); /* one process: one owner */
	close(second);                                   /* and any close lets go */
	pid = hold(F_SETLK, F_WRLCK, ready, until);
	ok(pid > 0);
	let_go(pid, ready, until);
	pid = hold(F_SETLK, F_RDLCK, ready, until);
	check(lock(fd, F_SETLK, F_RDLCK, 0, 10), 0);
	check(lock(fd, F_SETLK, F_WRLCK, 0, 10), EAGAIN);
	let_go(pid, ready, until);
	close(fd);
	check(fd = open("l", O_RDONLY), 0);
	check(lock(fd, F_SETLK, F_WRLCK, 0, 1), EBADF);
	close(fd);
}

void posix_flock(void)
{
	int ready[2];
	int until[2];
	pid_t later;
	pid_t pid;
	int fd;
	int second;

	check(posix_create("l", ""), 0);
	check(fd = open("l", O_RDWR), 0);
	check(second = open("l", O_RDWR), 0);
	check(flock(fd, LOCK_EX), 0);
	check(flock(second, LOCK_EX | LOCK_NB), EWOULDBLOCK);
	check(flock(second, LOCK_SH | LOCK_NB), EWOULDBLOCK);
	check(flock(fd, LOCK_SH), 0);
	check(flock(second, LOCK_SH | LOCK_NB), 0);
	check(flock(fd, LOCK_UN), 0);
	check(flock(second, LOCK_EX | LOCK_NB), 0);
	close(second);
	check(flock(fd, LOCK_EX | LOCK_NB), 0);
	check(flock(fd, LOCK_UN), 0);
	pid = hold(0, LOCK_EX, ready, until);
	ok(pid > 0);
	check(flock(fd, LOCK_EX | LOCK_NB), EWOULDBLOCK);
	later = let_go_later(until);
	check(flock(fd, LOCK_EX), 0);
	let_go(pid, ready, until);
	waitpid(later, NULL, 0);
	close(fd);
}

void posix_ofd_locks(void)
{
	int fd;
	int second;
	int copy;

	check(posix_create("l", "0123456789"), 0);
	check(fd = open("l", O_RDWR), 0);
	check(second = open("l", O_RDWR), 0);
	check(lock(fd, F_OFD_SETLK, F_WRLCK, 0, 5), 0);
	check(lock(second, F_OFD_SETLK, F_WRLCK, 0, 5), EAGAIN);
	check(lock(second, F_SETLK, F_WRLCK, 0, 5), EAGAIN);
	check(lock(second, F_OFD_SETLK, F_WRLCK, 5, 5), 0);
	check(copy = dup(fd), 0);
	close(copy);
	check(lock(second, F_OFD_SETLK, F_WRLCK, 0, 5), EAGAIN);
	close(fd);
	check(lock(second, F_OFD_SETLK, F_WRLCK, 0, 5), 0);
	close(second);
}

enum { MANY = 3000 };

/* Which of f0 ... are listed, and how often anything else is. Return: entries but dots, or -1. */
static int list_many(DIR *dir, unsigned char seen[MANY])
{
	struct dirent *entry;
	int count = 0;

	memset(seen, 0, MANY);
	while ((entry = readdir(dir)) != NULL) {
		unsigned n;

		if (entry->d_name[0] == '.') {
			continue;
		}
		if (sscanf(entry->d_name, "f%u", &n) != 1 || n >= MANY || seen[n]++ != 0) {
			return -1;
		}
		count++;
	}
	return count;
}

static int make_many(const char *dir)
{
	char path[64];

	for (unsigned i = 0; i < MANY; i++) {
		int fd;

		snprintf(path, sizeof(path), "%s/f%u", dir, i);
		fd = open(path, O_CREAT | O_WRONLY, 0644);
		if (fd < 0) {
			return -1;
		}
		close(fd);
	}
	return 0;
}

/* Removes each entry as it is listed; some file systems need a second turn, none a tenth. */
static bool remove_while_listing(const char *name)
{
	char path[512];

	for (unsigned turn = 0; turn < 10; turn++) {
		DIR *dir = opendir(name);
		struct dirent *entry;
		unsigned removed = 0;

		while (dir != NULL && (entry = readdir(dir)) != NULL) {
			snprintf(path, sizeof(path), "%s/%s", name, entry->d_name);
			removed += entry->d_name[0] != '.' && unlink(path) == 0;
		}
		closedir(dir);
		if (removed == 0) {
			return turn == 1;
		}
	}
	return false;
}

void posix_readdir(void)
{
	static unsigned char seen[MANY];
	struct dirent *entry;
	struct stat st;
	long place = 0;
	char after[256] = "";
	bool dots[2] = {false, false};
	unsigned n = 0;
	DIR *dir;

	check(mkdir("many", 0755), 0);
	check(make_many("many"), 0);
	dir = opendir("many");
	ok(dir != NULL);
	ok(list_many(dir, seen) == MANY);
	rewinddir(dir);
	ok(list_many(dir, seen) == MANY);
	check(unlink("many/f7"), 0);
	check(posix_create("many/f7", ""), 0);
	check(unlink("many/f8"), 0);
	rewinddir(dir);
	ok(list_many(dir, seen) == MANY - 1);
	ok(seen[7] == 1 && seen[8] == 0);
	rewinddir(dir);
	while ((entry = readdir(dir)) != NULL) {
		if (n == 1000) {
			snprintf(after, sizeof(after), "%s", entry->d_name);
		}
		if (++n == 1000) {
			place = telldir(dir);
		}
	}
	seekdir(dir, place);
	entry = readdir(dir);
	ok(entry != NULL && strcmp(entry->d_name, after) == 0);
	closedir(dir);

	dir = opendir("many");
	ok(remove_while_listing("many"));
	rewinddir(dir);
	ok(list_many(dir, seen) == 0);
	check(rmdir("many"), 0);
	rewinddir(dir);
	ok(readdir(dir) == NULL);
	closedir(dir);

	check(mkdir("types", 0755), 0);
	check(posix_create("types/file", ""), 0);
	check(symlink("x", "types/link"), 0);
	check(mkdir("types/dir", 0755), 0);
	check(mkfifo("types/fifo", 0644), 0);
	dir = opendir("types");
	while ((entry = readdir(dir)) != NULL) {
		char path[512];

		snprintf(path, sizeof(path), "types/%s", entry->d_name);
		dots[0] = dots[0] || strcmp(entry->d_name, ".") == 0;
		dots[1] = dots[1] || strcmp(entry->d_name, "..") == 0;
		if (lstat(path, &st) < 0 || entry->d_ino != st.st_ino ||
			(entry->d_type != DT_UNKNOWN &&
				(mode_t)DTTOIF(entry->d_type) != (st.st_mode & S_IFMT))) {
			posix_ok(false, "entry of %s", path);
		}
	}
	closedir(dir);
	ok(dots[0] && dots[1]);
	check(open("types/file", O_RDONLY | O_DIRECTORY), ENOTDIR);
	ok(opendir("types/none") == NULL && errno == ENOENT);
}

void posix_deep(void)
{
	enum { DEPTH = 400 };
	bool made = true;
	bool removed = true;

	for (unsigned i = 0; i < DEPTH && made; i++) {
		made = mkdir("a-directory-in-a-directory", 0755) == 0 &&
			chdir("a-directory-in-a-directory") == 0;
	}
	ok(made);
	check(posix_create("bottom", "deep"), 0);
	ok(posix_has("bottom", "deep"));
	check(unlink("bottom"), 0);
	for (unsigned i = 0; i < DEPTH && removed; i++) {
		removed = chdir("..") == 0 && rmdir("a-directory-in-a-directory") == 0;
	}
	ok(removed);
}
