/* SPDX-License-Identifier: ISC */
/*
 * Makes a file in one of the ways that sandboxes by LD_PRELOAD or ptrace have missed: escapes WAY
 * FILE. Status 0: it was made; else why not is said. `escapes list` names the ways.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/io_uring.h>
#include <linux/openat2.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

static const char *self;

static int by_open(const char *path)
{
	return open(path, O_WRONLY | O_CREAT, 0644);
}

static int by_creat(const char *path)
{
	return creat(path, 0644);
}

static int by_syscall(const char *path)
{
	return (int)syscall(SYS_openat, AT_FDCWD, path, O_WRONLY | O_CREAT, 0644);
}

static int by_inline(const char *path)
{
#ifdef __x86_64__
	register long mode __asm__("r10") = 0644;
	long r;

	__asm__ volatile("syscall"
			 : "=a"(r)
			 : "0"(SYS_openat), "D"((long)AT_FDCWD), "S"(path),
			 "d"((long)(O_WRONLY | O_CREAT)), "r"(mode)
			 : "rcx", "r11", "memory");
	if (r < 0) {
		errno = (int)-r;
		return -1;
	}
	return (int)r;
#else
	return by_syscall(path);
#endif
}

static int by_openat2(const char *path)
{
	struct open_how how = {.flags = O_WRONLY | O_CREAT, .mode = 0644};

	return (int)syscall(SYS_openat2, AT_FDCWD, path, &how, sizeof(how));
}

static int by_freopen(const char *path)
{
	return freopen(path, "w", stdin) == NULL ? -1 : 0;
}

static int by_mknodat(const char *path)
{
	return (int)syscall(SYS_mknodat, AT_FDCWD, path, S_IFREG | 0644, 0);
}

/* What is moved is made where that is allowed. */
static int by_renameat2(const char *path)
{
	char from[] = "renamed-XXXXXX";
	int fd = mkstemp(from);

	return fd < 0 ? -1 : (int)syscall(SYS_renameat2, AT_FDCWD, from, AT_FDCWD, path, 0);
}

static int by_io_uring(const char *path)
{
	struct io_uring_params params = {0};
	int ring = (int)syscall(SYS_io_uring_setup, 1, &params);
	size_t size = params.sq_off.array + params.sq_entries * sizeof(uint32_t);
	struct io_uring_sqe *sqe;
	struct io_uring_cqe *cqe;
	uint8_t *sq;
	uint8_t *cq;

	if (ring < 0) {
		return -1;
	}
	sq = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, ring, IORING_OFF_SQ_RING);
	cq = mmap(NULL, params.cq_off.cqes + params.cq_entries * sizeof(*cqe),
		PROT_READ | PROT_WRITE, MAP_SHARED, ring, IORING_OFF_CQ_RING);
	sqe = mmap(NULL, params.sq_entries * sizeof(*sqe), PROT_READ | PROT_WRITE, MAP_SHARED, ring,
		IORING_OFF_SQES);
	if (sq == MAP_FAILED || cq == MAP_FAILED || sqe == MAP_FAILED) {
		return -1;
	}
	memset(sqe, 0, sizeof(*sqe));
	sqe->opcode = IORING_OP_OPENAT;
	sqe->fd = AT_FDCWD;
	sqe->addr = (uintptr_t)path;
	sqe->open_flags = O_WRONLY | O_CREAT;
	sqe->len = 0644;
	*(uint32_t *)(sq + params.sq_off.array) = 0;
	__atomic_store_n((uint32_t *)(sq + params.sq_off.tail), 1, __ATOMIC_RELEASE);
	if (syscall(SYS_io_uring_enter, ring, 1, 1, IORING_ENTER_GETEVENTS, NULL, 0) < 0) {
		return -1;
	}
	cqe = (struct io_uring_cqe *)(cq + params.cq_off.cqes);
	if (cqe->res < 0) {
		errno = -cqe->res;
		return -1;
	}
	return cqe->res;
}

/* What `env -i` does: no variables, and so no LD_PRELOAD. */
static int by_empty_environment(const char *path)
{
	char *argv[] = {(char *)self, "open", (char *)path, NULL};
	char *env[] = {NULL};

	return execve(self, argv, env);
}

static const struct {
	const char *name;
	int (*make)(const char *path);
} ways[] = {
	{"open", by_open},
	{"creat", by_creat},
	{"syscall", by_syscall},
	{"inline", by_inline},
	{"openat2", by_openat2},
	{"freopen", by_freopen},
	{"mknodat", by_mknodat},
	{"renameat2", by_renameat2},
	{"io_uring", by_io_uring},
	{"env-i", by_empty_environment},
};

int main(int argc, char **argv)
{
	self = argv[0];
	for (size_t i = 0; argc == 2 && i < sizeof(ways) / sizeof(ways[0]); i++) {
		puts(ways[i].name);
	}
	for (size_t i = 0; argc == 3 && i < sizeof(ways) / sizeof(ways[0]); i++) {
		if (strcmp(ways[i].name, argv[1]) == 0) {
			int r = ways[i].make(argv[2]);

			if (r < 0) {
				fprintf(stderr, "%s: %s\n", argv[1], strerror(errno));
			}
			return r < 0 ? 1 : 0;
		}
	}
	return argc == 2 ? 0 : 2;
}
