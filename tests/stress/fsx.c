/* SPDX-License-Identifier: ISC */
/*
 * fsx: one file, changed in all ways there are, against a model of it in memory.
 *
 *	fsx [--seed N] [--ops N] DIR
 *
 * Reads and writes by descriptor, past the page cache and through mappings, shared and private;
 * truncates, allocates, punches and copies ranges, appends, and opens the file anew; after each
 * operation its size must be the model's, and whatever is read its content. A second descriptor is
 * open all the time: what one writes, the other reads.
 *
 * Prints size and hash of the file in the end, so that two runs of one seed can be compared: what a
 * file system cannot do (EOPNOTSUPP) is left out, and shows there; but where O_DIRECT is not, the
 * same goes through the page cache. Exit status: 0; 1 with the last operations where something
 * differs.
 *
 * In the manner of the program of that name, which A. Tevanian wrote at NeXT; nothing of it is in
 * here.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <stdbool.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "stress.h"

enum { MAX_SIZE = 256 << 10, MAX_IO = 48 << 10, BLOCK = 4096, HISTORY = 24 };

static struct {
	unsigned char model[MAX_SIZE];
	size_t size;
	int fd, other_fd, direct_fd;
	uint64_t random;
	unsigned long op;
	struct {
		unsigned long op;
		const char *name;
		size_t offset, len;
	} history[HISTORY];
} x;

static unsigned char scratch[MAX_SIZE] __attribute__((aligned(BLOCK)));
static unsigned char aligned[MAX_IO + BLOCK] __attribute__((aligned(BLOCK)));

static void give_up(const char *what, size_t at)
{
	fprintf(stderr, "fsx: operation %lu: %s at %zu: %s\n", x.op, what, at,
		errno == 0 ? "wrong" : strerror(errno));
	for (unsigned i = 0; i < HISTORY; i++) {
		unsigned long n = (x.op + 1 + i) % HISTORY;

		if (x.history[n].name != NULL) {
			fprintf(stderr, "  %lu: %s %zu+%zu\n", x.history[n].op, x.history[n].name,
				x.history[n].offset, x.history[n].len);
		}
	}
	exit(1);
}

static void note(const char *name, size_t offset, size_t len)
{
	unsigned long n = x.op % HISTORY;

	x.history[n].op = x.op;
	x.history[n].name = name;
	x.history[n].offset = offset;
	x.history[n].len = len;
	errno = 0;
}

static void compare(const unsigned char *got, size_t offset, size_t len)
{
	for (size_t i = 0; i < len; i++) {
		if (got[i] != x.model[offset + i]) {
			errno = 0;
			fprintf(stderr, "fsx: got %02x, not %02x\n", got[i], x.model[offset + i]);
			give_up("content", offset + i);
		}
	}
}

static void check_size(int fd)
{
	struct stat st;

	if (fstat(fd, &st) < 0 || (size_t)st.st_size != x.size) {
		give_up("size", (size_t)st.st_size);
	}
}

/* A range within @limit; @len is 1 or more where @limit is. */
static void pick(size_t limit, size_t *offset, size_t *len)
{
	*offset = limit == 0 ? 0 : random_below(&x.random, (unsigned)limit);
	*len = 1 + random_below(&x.random, MAX_IO);
	if (*len > limit - *offset) {
		*len = limit - *offset;
	}
}

static void fill(unsigned char *data, size_t len)
{
	unsigned char seed = (unsigned char)random_next(&x.random);

	for (size_t i = 0; i < len; i++) {
		data[i] = (unsigned char)(seed + i * 7 + (i >> 8));
	}
}

/* The model grows with zeros; what is beyond its end is always zero. */
static void set_model(size_t offset, const unsigned char *data, size_t len)
{
	memcpy(x.model + offset, data, len);
	if (offset + len > x.size) {
		x.size = offset + len;
	}
}

static void set_size(size_t size)
{
	if (size < x.size) {
		memset(x.model + size, 0, x.size - size);
	}
	x.size = size;
}

static int any_fd(void)
{
	return random_below(&x.random, 3) == 0 ? x.other_fd : x.fd;
}

static void do_write(void)
{
	size_t offset, len;

	pick(MAX_SIZE, &offset, &len);
	fill(scratch, len);
	note("write", offset, len);
	if (pwrite(any_fd(), scratch, len, (off_t)offset) != (ssize_t)len) {
		give_up("write", offset);
	}
	set_model(offset, scratch, len);
}

static void do_append(void)
{
	size_t len = 1 + random_below(&x.random, 2000);
	int flags = fcntl(x.fd, F_GETFL);

	if (len > MAX_SIZE - x.size) {
		return;
	}
	fill(scratch, len);
	note("append", x.size, len);
	if (fcntl(x.fd, F_SETFL, flags | O_APPEND) < 0 ||
		write(x.fd, scratch, len) != (ssize_t)len || fcntl(x.fd, F_SETFL, flags) < 0) {
		give_up("append", x.size);
	}
	set_model(x.size, scratch, len);
}

static void do_read(void)
{
	size_t offset, len;
	ssize_t n;

	pick(x.size, &offset, &len);
	note("read", offset, len);
	/* A little more than there is: it must end there. */
	n = pread(any_fd(), scratch, x.size - offset == len ? len + 100 : len, (off_t)offset);
	if (n != (ssize_t)len) {
		give_up("read", offset);
	}
	compare(scratch, offset, len);
}

static void do_direct(void)
{
	bool writes = random_below(&x.random, 2) == 0;
	size_t offset = random_below(&x.random, MAX_SIZE / BLOCK) * BLOCK;
	size_t len = (1 + random_below(&x.random, MAX_IO / BLOCK)) * BLOCK;
	ssize_t n;

	if (offset + len > MAX_SIZE) {
		return;
	}
	note(writes ? "direct write" : "direct read", offset, len);
	if (writes) {
		fill(aligned, len);
		if (pwrite(x.direct_fd, aligned, len, (off_t)offset) != (ssize_t)len) {
			give_up("direct write", offset);
		}
		set_model(offset, aligned, len);
		return;
	}
	n = pread(x.direct_fd, aligned, len, (off_t)offset);
	if (offset >= x.size ? n != 0
			     : n != (ssize_t)(len < x.size - offset ? len : x.size - offset)) {
		give_up("direct read", offset);
	}
	compare(aligned, offset, n > 0 ? (size_t)n : 0);
}

static void do_map(void)
{
	bool writes = random_below(&x.random, 2) == 0;
	bool is_private = !writes && random_below(&x.random, 2) == 0;
	size_t offset, len, start;
	unsigned char *map;

	pick(x.size, &offset, &len);
	if (len == 0) {
		return;
	}
	start = offset % BLOCK;
	note(writes ? "mapped write" : "mapped read", offset, len);
	map = mmap(NULL, start + len, PROT_READ | PROT_WRITE, is_private ? MAP_PRIVATE : MAP_SHARED,
		any_fd(), (off_t)(offset - start));
	if (map == MAP_FAILED) {
		give_up("mmap", offset);
	}
	compare(map + start, offset, len);
	if (is_private) {
		memset(map + start, 0xee, len);
	}
	if (writes) {
		fill(scratch, len);
		memcpy(map + start, scratch, len);
		set_model(offset, scratch, len);
		if (random_below(&x.random, 4) == 0 && msync(map, start + len, MS_SYNC) < 0) {
			give_up("msync", offset);
		}
	}
	munmap(map, start + len);
}

static void do_truncate(void)
{
	size_t size = random_below(&x.random, MAX_SIZE);

	note("truncate", size, 0);
	if (ftruncate(any_fd(), (off_t)size) < 0) {
		give_up("truncate", size);
	}
	set_size(size);
}

static void do_allocate(void)
{
	static const struct {
		const char *name;
		int mode;
		bool zeroes, grows;
	} modes[] = {
		{"allocate", 0, false, true},
		{"allocate beyond", FALLOC_FL_KEEP_SIZE, false, false},
		{"punch", FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, true, false},
		{"zero", FALLOC_FL_ZERO_RANGE, true, true},
		{"zero within", FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE, true, false},
	};
	unsigned m = random_below(&x.random, sizeof(modes) / sizeof(modes[0]));
	size_t offset, len;

	pick(MAX_SIZE, &offset, &len);
	note(modes[m].name, offset, len);
	if (fallocate(any_fd(), modes[m].mode, (off_t)offset, (off_t)len) < 0) {
		if (errno != EOPNOTSUPP) {
			give_up(modes[m].name, offset);
		}
		return;
	}
	if (modes[m].grows && offset + len > x.size) {
		x.size = offset + len;
	}
	if (modes[m].zeroes) {
		memset(x.model + offset, 0, len);
	}
}

static void do_copy(void)
{
	size_t from, len, to;
	off_t in, out;

	pick(x.size, &from, &len);
	to = random_below(&x.random, MAX_SIZE);
	if (len > MAX_SIZE - to) {
		len = MAX_SIZE - to;
	}
	if (len == 0 || (to < from + len && from < to + len)) {
		return;
	}
	note("copy range", from, len);
	in = (off_t)from;
	out = (off_t)to;
	/* It may copy less at a time. */
	for (size_t done = 0; done < len;) {
		ssize_t n = copy_file_range(x.fd, &in, x.other_fd, &out, len - done, 0);

		if (n <= 0) {
			give_up("copy range", to);
		}
		done += (size_t)n;
	}
	memmove(x.model + to, x.model + from, len);
	if (to + len > x.size) {
		x.size = to + len;
	}
}

static void do_sync(void)
{
	note("sync", 0, 0);
	if ((random_below(&x.random, 2) == 0 ? fsync(x.fd) : fdatasync(x.other_fd)) < 0) {
		give_up("sync", 0);
	}
	/* What is clean may go: the next read comes from below. */
	posix_fadvise(x.fd, 0, 0, POSIX_FADV_DONTNEED);
}

static int open_file(int flags)
{
	return open("fsx", flags | O_RDWR | O_CLOEXEC, 0600);
}

static void do_reopen(void)
{
	int *fd = random_below(&x.random, 2) == 0 ? &x.fd : &x.other_fd;
	bool truncates = random_below(&x.random, 8) == 0;

	note(truncates ? "open, empty" : "open", 0, 0);
	close(*fd);
	*fd = open_file(truncates ? O_TRUNC : 0);
	if (*fd < 0) {
		give_up("open", 0);
	}
	if (truncates) {
		set_size(0);
	}
}

static void check_all(void)
{
	for (int i = 0; i < 2; i++) {
		int fd = i == 0 ? x.fd : x.other_fd;

		check_size(fd);
		if (pread(fd, scratch, sizeof(scratch), 0) != (ssize_t)x.size) {
			give_up("read all", x.size);
		}
		compare(scratch, 0, x.size);
	}
}

int main(int argc, char **argv)
{
	static void (*const operations[])(void) = {do_write, do_write, do_write, do_append, do_read,
		do_read, do_read, do_direct, do_map, do_map, do_map, do_truncate, do_allocate,
		do_copy, do_sync, do_reopen};
	struct options options = {.seed = 1, .ops = 3000};
	unsigned count = sizeof(operations) / sizeof(operations[0]);

	parse_options(argc, argv, &options);
	x.random = random_start(options.seed);
	if (chdir(options.dir) < 0) {
		perror(options.dir);
		return 2;
	}
	x.fd = open_file(O_CREAT | O_EXCL);
	x.other_fd = open_file(0);
	x.direct_fd = open_file(O_DIRECT);
	if (x.direct_fd < 0) {
		x.direct_fd = open_file(0); /* not everywhere */
	}
	if (x.fd < 0 || x.other_fd < 0 || x.direct_fd < 0) {
		give_up("open", 0);
	}
	for (x.op = 1; x.op <= options.ops; x.op++) {
		operations[random_below(&x.random, count)]();
		check_size(x.fd);
		if (x.op % 64 == 0) {
			check_all();
		}
	}
	check_all();
	printf("fsx: %lu operations, seed %llu: %zu bytes, %016llx\n", options.ops,
		(unsigned long long)options.seed, x.size,
		(unsigned long long)hash_add(hash_start, x.model, x.size));
	return unlink("fsx") < 0;
}
