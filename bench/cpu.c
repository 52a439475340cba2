/* SPDX-License-Identifier: ISC */
/*
 * cpu: programs for a CPU in software: integers, memory, floating point, the ways into the kernel.
 *
 *	cpu [SCALE]	runs each, prints "NAME NANOSECONDS CHECKSUM" for each, then "done"
 *
 * As PID 1 it powers off in the end: so it is the whole system of a peer's guest. SCALE divides the
 * work (default 1). Each program is one that a compiler cannot see through, and prints a checksum
 * that is the same everywhere.
 */
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static unsigned scale = 1;

/* Integers: hashing, a sieve, SHA-256's rounds, a recursion, list of words sorted. */

static uint64_t hash(void)
{
	uint64_t h = 1469598103934665603u;

	for (uint64_t i = 0; i < 20000000 / scale; i++) {
		h = (h ^ i) * 1099511628211u;
		h ^= h >> 29;
	}
	return h;
}

static uint64_t sieve(void)
{
	enum { SIZE = 200000 };
	static uint8_t composite[SIZE];
	uint64_t sum = 0;

	for (unsigned round = 0; round < 10 / scale + 1; round++) {
		memset(composite, 0, sizeof(composite));
		for (unsigned i = 2; i < SIZE; i++) {
			if (composite[i]) {
				continue;
			}
			sum += i;
			for (unsigned k = 2 * i; k < SIZE; k += i) {
				composite[k] = 1;
			}
		}
	}
	return sum;
}

static uint32_t ror(uint32_t x, unsigned n)
{
	return x >> n | x << (32 - n);
}

static uint64_t sha(void)
{
	uint32_t w[64], s[8] = {1, 2, 3, 4, 5, 6, 7, 8};

	for (unsigned block = 0; block < 20000 / scale; block++) {
		for (unsigned i = 0; i < 16; i++) {
			w[i] = i * block + s[i & 7];
		}
		for (unsigned i = 16; i < 64; i++) {
			uint32_t a = ror(w[i - 15], 7) ^ ror(w[i - 15], 18) ^ w[i - 15] >> 3;
			uint32_t b = ror(w[i - 2], 17) ^ ror(w[i - 2], 19) ^ w[i - 2] >> 10;

			w[i] = w[i - 16] + a + w[i - 7] + b;
		}
		for (unsigned i = 0; i < 64; i++) {
			uint32_t e = s[4], a = s[0];
			uint32_t t1 = s[7] + (ror(e, 6) ^ ror(e, 11) ^ ror(e, 25)) +
				((e & s[5]) ^ (~e & s[6])) + i * 0x9e3779b9 + w[i];
			uint32_t t2 = (ror(a, 2) ^ ror(a, 13) ^ ror(a, 22)) +
				((a & s[1]) ^ (a & s[2]) ^ (s[1] & s[2]));

			memmove(s + 1, s, 7 * sizeof(*s));
			s[4] += t1;
			s[0] = t1 + t2;
		}
	}
	return s[0];
}

static __attribute__((noinline, optimize("O1"))) uint64_t fib(unsigned n)
{
	return n < 2 ? n : fib(n - 1) + fib(n - 2);
}

static uint64_t recursion(void)
{
	return fib(scale == 1 ? 29 : 24);
}

static int compare(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

	return x < y ? -1 : x > y;
}

static uint64_t sort(void)
{
	enum { COUNT = 100000 };
	static uint32_t words[COUNT];
	uint32_t seed = 1, count = COUNT / scale;

	for (unsigned i = 0; i < count; i++) {
		seed = seed * 1664525 + 1013904223;
		words[i] = seed >> 8;
	}
	qsort(words, count, sizeof(*words), compare);
	return words[count / 2];
}

/* Memory: copies, and a chase through more than a TLB holds. */

static uint64_t copy(void)
{
	enum { SIZE = 1 << 20 };
	static uint8_t from[SIZE], to[SIZE];

	for (unsigned i = 0; i < 400 / scale; i++) {
		from[i] = (uint8_t)i;
		memcpy(to, from, SIZE);
		memset(from + i, i, SIZE - i);
	}
	return to[100];
}

static uint64_t chase(void)
{
	enum { SIZE = 1 << 20 };
	static uint32_t next[SIZE];
	uint32_t at = 0;

	for (uint32_t i = 0; i < SIZE; i++) {
		next[i] = (i * 5 + 12345) % SIZE; /* one cycle: a full-period generator */
	}
	for (unsigned i = 0; i < 4000000 / scale; i++) {
		at = next[at];
	}
	return at;
}

/* Floating point, in SSE registers. */

static uint64_t mandelbrot(void)
{
	uint64_t sum = 0;
	unsigned size = scale == 1 ? 120 : 40;

	for (unsigned y = 0; y < size; y++) {
		for (unsigned x = 0; x < size; x++) {
			double cr = 3.0 * x / size - 2, ci = 2.0 * y / size - 1, r = 0, i = 0;
			unsigned n = 0;

			while (n < 200 && r * r + i * i < 4) {
				double t = r * r - i * i + cr;

				i = 2 * r * i + ci;
				r = t;
				n++;
			}
			sum += n;
		}
	}
	return sum;
}

static uint64_t matrix(void)
{
	enum { N = 96 };
	static double a[N][N], b[N][N], c[N][N];
	double trace = 0;

	for (unsigned i = 0; i < N; i++) {
		for (unsigned k = 0; k < N; k++) {
			a[i][k] = i + k;
			b[i][k] = (double)i - k;
		}
	}
	for (unsigned round = 0; round < 3 / scale + 1; round++) {
		for (unsigned i = 0; i < N; i++) {
			for (unsigned k = 0; k < N; k++) {
				double sum = 0;

				for (unsigned j = 0; j < N; j++) {
					sum += a[i][j] * b[j][k];
				}
				c[i][k] = sum;
			}
		}
		trace += c[7][9];
	}
	return (uint64_t)(int64_t)trace;
}

/* Into the kernel and back. */

static uint64_t system_calls(void)
{
	uint64_t sum = 0;

	for (unsigned i = 0; i < 300000 / scale; i++) {
		sum += (uint64_t)syscall(SYS_getppid) >= 0;
	}
	return sum;
}

static uint64_t page_faults(void)
{
	enum { SIZE = 8 << 20 };
	uint64_t sum = 0;

	for (unsigned round = 0; round < 8 / scale + 1; round++) {
		uint8_t *p = mmap(
			NULL, SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

		if (p == MAP_FAILED) {
			return 0;
		}
		madvise(p, SIZE, MADV_NOHUGEPAGE);
		for (unsigned i = 0; i < SIZE; i += 4096) {
			p[i] = 1;
			sum++;
		}
		munmap(p, SIZE);
	}
	return sum;
}

static uint64_t forks(void)
{
	uint64_t sum = 0;

	for (unsigned i = 0; i < 300 / scale; i++) {
		pid_t pid = fork();

		if (pid == 0) {
			_exit(0);
		}
		sum += waitpid(pid, NULL, 0) == pid;
	}
	return sum;
}

static uint64_t pipes(void)
{
	int there[2], back[2];
	unsigned rounds = 10000 / scale;
	uint64_t sum = 0;
	char byte = 1;

	if (pipe(there) < 0 || pipe(back) < 0) {
		return 0;
	}

	pid_t pid = fork();

	if (pid == 0) {
		while (rounds-- > 0 && read(there[0], &byte, 1) == 1 &&
			write(back[1], &byte, 1) == 1) {
		}
		_exit(0);
	}
	for (unsigned i = 0; i < rounds; i++) {
		sum += write(there[1], &byte, 1) == 1 && read(back[0], &byte, 1) == 1;
	}
	waitpid(pid, NULL, 0);
	for (unsigned i = 0; i < 2; i++) {
		close(there[i]);
		close(back[i]);
	}
	return sum;
}

static const struct {
	const char *name;
	uint64_t (*run)(void);
} programs[] = {
	{"int-hash", hash},
	{"int-sieve", sieve},
	{"int-sha", sha},
	{"int-fib", recursion},
	{"int-sort", sort},
	{"mem-copy", copy},
	{"mem-chase", chase},
	{"fp-mandelbrot", mandelbrot},
	{"fp-matrix", matrix},
	{"syscall", system_calls},
	{"page-fault", page_faults},
	{"fork", forks},
	{"pipe", pipes},
};

static uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

/* PID 1 of an initramfs without device nodes has no console yet. */
static void open_console(void)
{
	mount("dev", "/dev", "devtmpfs", 0, NULL);

	int fd = open("/dev/console", O_RDWR);

	for (int i = 0; i < 3 && fd >= 0; i++) {
		dup2(fd, i);
	}
	if (fd > 2) {
		close(fd);
	}
}

int main(int argc, char **argv)
{
	if (getpid() == 1) {
		open_console();
	}
	if (argc > 1) {
		scale = (unsigned)strtoul(argv[1], NULL, 10);
	}
	setvbuf(stdout, NULL, _IOLBF, 0);
	for (unsigned i = 0; i < sizeof(programs) / sizeof(*programs); i++) {
		uint64_t start = now_ns();
		uint64_t sum = programs[i].run();
		uint64_t took = now_ns() - start;

		printf("%s %llu %llx\n", programs[i].name, (unsigned long long)took,
			(unsigned long long)sum);
	}
	puts("done");
	if (getpid() == 1) {
		reboot(RB_POWER_OFF);
	}
	return 0;
}
