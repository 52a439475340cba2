/* SPDX-License-Identifier: ISC */
/* The FUSE server with more files than descriptors, with inodes that come and go, with threads, and
 * with failures. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include <linux/fs.h>

#include "base/fault.h"
#include "base/loop.h"
#include "base/state.h"
#include "base/util.h"
#include "fuse/server_impl.h"
#include "fuse_client.h"

static struct fc fc;

static int start(void **state)
{
	fc_start(&fc, NULL, FC_FEATURES);
	return 0;
}

static int stop(void **state)
{
	fc_stop(&fc);
	return 0;
}

static struct rlimit old_limit;

static int start_with_few(void **state)
{
	struct rlimit limit;

	getrlimit(RLIMIT_NOFILE, &old_limit);
	limit = (struct rlimit){64, old_limit.rlim_max};
	setrlimit(RLIMIT_NOFILE, &limit);
	return start(state);
}

static int stop_with_few(void **state)
{
	setrlimit(RLIMIT_NOFILE, &old_limit);
	return stop(state);
}

static unsigned open_descriptors(void)
{
	DIR *dir = opendir("/proc/self/fd");
	unsigned count = 0;

	while (readdir(dir) != NULL) {
		count++;
	}
	closedir(dir);
	return count;
}

static bool reads(uint64_t node, const char *text)
{
	struct fuse_open_out open;
	char buf[64];
	int n;

	if (fc_open(&fc, node, O_RDONLY, &open) < 0) {
		return false;
	}
	n = fc_read(&fc, node, open.fh, 0, buf, sizeof(buf));
	must(fc_release(&fc, node, open.fh) == 0);
	return n == (int)strlen(text) && memcmp(buf, text, (size_t)n) == 0;
}

enum { WALK_DIRS = 40, WALK_FILES = 50 };

static void test_more_files_than_descriptors(void **state)
{
	static uint64_t nodes[WALK_DIRS][WALK_FILES];
	char name[64];

	for (unsigned d = 0; d < WALK_DIRS; d++) {
		snprintf(name, sizeof(name), "d%u", d);
		assert_int_equal(mkdirat(fc.inside_fd, name, 0755), 0);
		for (unsigned f = 0; f < WALK_FILES; f++) {
			snprintf(name, sizeof(name), "d%u/f%u", d, f);
			fc_host_file(fc.inside, name, name);
		}
	}
	for (unsigned d = 0; d < WALK_DIRS; d++) {
		uint64_t dir;

		snprintf(name, sizeof(name), "d%u", d);
		dir = fc_node(&fc, fc.root, name);
		assert_true(dir != 0);
		for (unsigned f = 0; f < WALK_FILES; f++) {
			snprintf(name, sizeof(name), "f%u", f);
			nodes[d][f] = fc_node(&fc, dir, name);
			assert_true(nodes[d][f] != 0);
			assert_int_equal(fc_getattr(&fc, nodes[d][f], NULL), 0);
		}
		/* The guest may forget a directory before what is in it. */
		fc_forget(&fc, dir, 1);
	}
	for (unsigned turn = 0; turn < 2; turn++) {
		for (unsigned f = 0; f < WALK_FILES; f++) {
			for (unsigned d = 0; d < WALK_DIRS; d++) {
				snprintf(name, sizeof(name), "d%u/f%u", d, f);
				assert_true(reads(nodes[d][f], name));
			}
		}
	}
	assert_true(open_descriptors() < 64);
	for (unsigned d = 0; d < WALK_DIRS; d++) {
		for (unsigned f = 0; f < WALK_FILES; f++) {
			fc_forget(&fc, nodes[d][f], 1);
		}
	}
	assert_true(open_descriptors() < 25); /* with the nodes go the objects */
}

static void test_deeper_than_descriptors(void **state)
{
	enum { DEPTH = 300 };
	static uint64_t chain[DEPTH + 1];
	struct fuse_entry_out entry;
	uint64_t fh;
	uint64_t bottom;

	chain[0] = fc.root;
	for (unsigned i = 0; i < DEPTH; i++) {
		assert_int_equal(fc_mkdir(&fc, chain[i], "down", &entry), 0);
		chain[i + 1] = entry.nodeid;
	}
	assert_int_equal(fc_create(&fc, chain[DEPTH], "bottom", O_RDWR, 0644, &bottom, &fh), 0);
	assert_int_equal(fc_write(&fc, bottom, fh, 0, "deep", 4), 4);
	fc_release(&fc, bottom, fh);
	/* Push everything out, then go straight to the bottom. */
	for (unsigned i = 0; i < 100; i++) {
		char name[16];

		snprintf(name, sizeof(name), "f%u", i);
		fc_host_file(fc.inside, name, name);
		assert_true(reads(fc_node(&fc, fc.root, name), name));
	}
	assert_true(reads(bottom, "deep"));
	/* The whole chain moves, and is found in its new place. */
	assert_int_equal(fc_rename(&fc, fc.root, "down", fc.root, "elsewhere", 0), 0);
	for (unsigned i = 0; i < 100; i++) {
		char name[16];

		snprintf(name, sizeof(name), "f%u", i);
		assert_true(reads(fc_node(&fc, fc.root, name), name));
	}
	assert_true(reads(bottom, "deep"));
	for (unsigned i = DEPTH; i > 0; i--) {
		if (i == DEPTH) {
			assert_int_equal(fc_name_op(&fc, FUSE_UNLINK, chain[i], "bottom"), 0);
		}
		assert_int_equal(
			fc_name_op(&fc, FUSE_RMDIR, chain[i - 1], i == 1 ? "elsewhere" : "down"),
			0);
	}
}

static void test_too_many_open(void **state)
{
	struct fuse_open_out open[100];
	struct fuse_attr attr;
	unsigned count = 0;
	uint64_t node;
	uint64_t extra;
	uint64_t fh;
	char buf[4096];

	fc_host_file(fc.inside, "f", "f");
	node = fc_node(&fc, fc.root, "f");
	while (count < 100 && fc_open(&fc, node, O_RDONLY, &open[count]) == 0) {
		count++;
	}
	assert_in_range(count, 20, 60);
	assert_int_equal(fc_open(&fc, node, O_RDONLY, &open[99]), -ENFILE);
	assert_int_equal(fc_create(&fc, fc.root, "g", O_RDWR, 0644, &extra, &fh), -ENFILE);
	assert_int_equal(fc_readdir(&fc, fc.root, 0, 0, false, buf, sizeof(buf)), -ENFILE);
	/* All else goes on. */
	assert_int_equal(fc_getattr(&fc, node, &attr), 0);
	assert_int_equal(mkdirat(fc.inside_fd, "d", 0755), 0);
	fc_host_file(fc.inside, "d/x", "x");
	assert_true(fc_node(&fc, fc_node(&fc, fc.root, "d"), "x") != 0);
	for (unsigned i = 0; i < count; i++) {
		assert_int_equal(fc_read(&fc, node, open[i].fh, 0, buf, 1), 1);
		assert_int_equal(fc_release(&fc, node, open[i].fh), 0);
	}
	assert_int_equal(fc_open(&fc, node, O_RDONLY, &open[0]), 0);
	/* Nobody releases: reset does. */
	hk_fuse_server_reset(fc.server);
	assert_true(open_descriptors() < 25);
}

/* A node goes by its inode, not by its name. */
/*
 * Who only reads uses the file that is open already; who writes, or comes after a change, gets
 * another.
 */
static void test_readers_share_a_file(void **state)
{
	struct fuse_open_out open[5];
	unsigned before;
	uint64_t node;
	char buf[8];

	fc_host_file(fc.inside, "f", "old");
	node = fc_node(&fc, fc.root, "f");
	assert_int_equal(fc_open(&fc, node, O_RDONLY, &open[0]), 0);
	before = open_descriptors();
	assert_int_equal(fc_open(&fc, node, O_RDONLY, &open[1]), 0);
	assert_int_equal(open_descriptors(), before);
	assert_int_equal(fc_release(&fc, node, open[0].fh), 0);
	assert_int_equal(fc_read(&fc, node, open[0].fh, 0, buf, sizeof(buf)), -EBADF);
	assert_int_equal(fc_read(&fc, node, open[1].fh, 0, buf, sizeof(buf)), 3);
	assert_int_equal(fc_write(&fc, node, open[1].fh, 0, "no", 2), -EBADF);
	assert_int_equal(fc_open(&fc, node, O_RDONLY | O_NOATIME, &open[0]), 0);
	assert_int_equal(open_descriptors(), before + 1);
	assert_int_equal(fc_open(&fc, node, O_RDWR, &open[2]), 0);
	assert_int_equal(open_descriptors(), before + 2);
	usleep(20 * 1000); /* longer than a tick of the clock that ctime is taken from */
	assert_int_equal(fc_write(&fc, node, open[2].fh, 0, "new", 3), 3);
	assert_int_equal(fc_open(&fc, node, O_RDONLY, &open[3]), 0);
	assert_int_equal(open_descriptors(), before + 3);
	for (unsigned i = 0; i < 4; i++) {
		assert_int_equal(fc_read(&fc, node, open[i].fh, 0, buf, sizeof(buf)), 3);
		assert_memory_equal(buf, "new", 3);
		assert_int_equal(fc_release(&fc, node, open[i].fh), 0);
	}
	assert_int_equal(open_descriptors(), before);
	/* What was shared is out of date by now, so it is replaced. */
	assert_int_equal(fc_open(&fc, node, O_RDONLY, &open[0]), 0);
	assert_int_equal(fc_open(&fc, node, O_RDONLY, &open[1]), 0);
	assert_int_equal(open_descriptors(), before);
	assert_int_equal(fc_name_op(&fc, FUSE_UNLINK, fc.root, "f"), 0);
	assert_int_equal(fc_release(&fc, node, open[0].fh), 0);
	assert_int_equal(fc_read(&fc, node, open[1].fh, 0, buf, sizeof(buf)), 3);
	fc_forget(&fc, node, 1);
	assert_int_equal(fc_release(&fc, node, open[1].fh), 0);
	assert_int_equal(open_descriptors(), before - 1);
}

static void test_replaced_on_the_host(void **state)
{
	struct fuse_entry_out entry;
	struct fuse_attr attr;
	uint64_t old;
	uint64_t dir;

	fc_host_file(fc.inside, "f", "old");
	old = fc_node(&fc, fc.root, "f");
	assert_int_equal(unlinkat(fc.inside_fd, "f", 0), 0);
	fc_host_file(fc.inside, "f", "new!");
	assert_int_equal(fc_getattr(&fc, old, &attr), -ESTALE);
	assert_int_equal(fc_lookup(&fc, fc.root, "f", &entry), 0);
	assert_true(entry.nodeid != old);
	assert_true(reads(entry.nodeid, "new!"));
	assert_int_equal(fc_getattr(&fc, old, &attr), -ESTALE);

	/* A directory removed and made again is another, with another inode or an old one reused.
	 */
	assert_int_equal(mkdirat(fc.inside_fd, "d", 0755), 0);
	dir = fc_node(&fc, fc.root, "d");
	assert_int_equal(unlinkat(fc.inside_fd, "d", AT_REMOVEDIR), 0);
	assert_int_equal(mkdirat(fc.inside_fd, "d", 0755), 0);
	assert_true(fc_node(&fc, fc.root, "d") != dir);

	/* Moved by the host: lost until it is looked up again, under any name. */
	fc_host_file(fc.inside, "m", "moved");
	old = fc_node(&fc, fc.root, "m");
	assert_int_equal(renameat(fc.inside_fd, "m", fc.inside_fd, "n"), 0);
	assert_int_equal(fc_getattr(&fc, old, &attr), -ESTALE);
	assert_int_equal(fc_node(&fc, fc.root, "n"), old);
	assert_true(reads(old, "moved"));
}

static void test_names_of_one_file(void **state)
{
	struct fuse_attr attr;
	uint64_t node;
	uint64_t fh;

	/*
	 * Known by one name, which goes; the other was never looked up, but the guest knows that
	 * there is one.
	 */
	assert_int_equal(fc_create(&fc, fc.root, "a", O_RDWR, 0644, &node, &fh), 0);
	assert_int_equal(fc_write(&fc, node, fh, 0, "text", 4), 4);
	fc_release(&fc, node, fh);
	assert_int_equal(linkat(fc.inside_fd, "a", fc.inside_fd, "b", 0), 0);
	assert_int_equal(fc_getattr(&fc, node, &attr), 0);
	assert_int_equal(fc_name_op(&fc, FUSE_UNLINK, fc.root, "a"), 0);
	assert_int_equal(fc_getattr(&fc, node, &attr), 0);
	assert_int_equal(attr.nlink, 1);
	/* The same by a rename over it. */
	assert_int_equal(linkat(fc.inside_fd, "b", fc.inside_fd, "c", 0), 0);
	assert_int_equal(fc_node(&fc, fc.root, "c"), node);
	fc_host_file(fc.inside, "other", "other");
	assert_int_equal(fc_rename(&fc, fc.root, "other", fc.root, "c", 0), 0);
	assert_true(reads(node, "text"));
	/* Open, and its last name goes. */
	{
		struct fuse_open_out open;

		assert_int_equal(fc_open(&fc, node, O_RDWR, &open), 0);
		assert_int_equal(fc_name_op(&fc, FUSE_UNLINK, fc.root, "b"), 0);
		assert_int_equal(fc_getattr(&fc, node, &attr), 0);
		assert_int_equal(attr.nlink, 0);
		assert_int_equal(fc_setattr(&fc, node,
					 &(struct fuse_setattr_in){.valid = FATTR_SIZE, .size = 2}),
			0);
		assert_int_equal(fc_getattr(&fc, node, &attr), 0);
		assert_int_equal(attr.size, 2);
		fc_release(&fc, node, open.fh);
	}
}

static void test_reset(void **state)
{
	struct fuse_attr attr;
	uint64_t node;
	uint64_t fh;
	unsigned before = open_descriptors();

	assert_int_equal(fc_create(&fc, fc.root, "f", O_RDWR, 0644, &node, &fh), 0);
	hk_fuse_server_reset(fc.server);
	assert_true(open_descriptors() <= before);
	assert_int_equal(fc_getattr(&fc, node, &attr), -EIO);
	fc_call(&fc, FUSE_INIT, 0,
		&(struct fc_part){&(struct fuse_init_in){7, 38, 0, 0, 0, {0}}, 64}, 1, &fc.init,
		sizeof(fc.init));
	assert_int_equal(fc_getattr(&fc, node, &attr), -ESTALE);
	fc.root = fc_node(&fc, FUSE_ROOT_ID, "x");
	assert_true(fc_node(&fc, fc.root, "f") != 0);
	assert_int_equal(fc_call(&fc, FUSE_DESTROY, 0, NULL, 0, NULL, 0).error, 0);
}

/* A round of all kinds of work below @dir, which others work in, too. Errors are fine;
 * contradictions are not. */
static void work(uint64_t dir, unsigned seed, unsigned rounds)
{
	char buf[8192];
	char name[16];
	char other[16];

	for (unsigned i = 0; i < rounds; i++) {
		struct fuse_entry_out entry;
		struct fuse_open_out open;
		uint64_t node;
		uint64_t fh;
		uint64_t offset = 0;
		int n;

		seed = seed * 1664525 + 1013904223;
		snprintf(name, sizeof(name), "n%u", (seed >> 8) % 8);
		snprintf(other, sizeof(other), "n%u", (seed >> 12) % 8);
		switch ((seed >> 20) % 10) {
		case 0:
			if (fc_create(&fc, dir, name, O_RDWR, 0644, &node, &fh) == 0) {
				n = fc_write(&fc, node, fh, 0, name, 2);
				must(n == 2);
				n = fc_read(&fc, node, fh, 0, buf, 2);
				must(n >= 0 && n <= 2);
				must(fc_release(&fc, node, fh) == 0);
				fc_forget(&fc, node, 1);
			}
			break;
		case 1:
			fc_name_op(&fc, FUSE_UNLINK, dir, name);
			break;
		case 2:
			fc_rename(&fc, dir, name, dir, other, (seed >> 24) % 3);
			break;
		case 3:
			if (fc_mkdir(&fc, dir, name, &entry) == 0) {
				if (fc_create(&fc, entry.nodeid, "in", O_RDWR, 0644, &node, &fh) ==
					0) {
					fc_release(&fc, node, fh);
					fc_name_op(&fc, FUSE_UNLINK, entry.nodeid, "in");
					fc_forget(&fc, node, 1);
				}
				fc_forget(&fc, entry.nodeid, 1);
			}
			break;
		case 4:
			fc_name_op(&fc, FUSE_RMDIR, dir, name);
			break;
		case 5:
			while ((n = fc_readdir(&fc, dir, 0, offset, false, buf, 200)) > 0) {
				struct fuse_dirent *d;

				for (int at = 0; at < n; at += (int)FUSE_DIRENT_SIZE(d)) {
					d = (struct fuse_dirent *)(buf + at);
					offset = d->off;
				}
			}
			must(n == 0);
			break;
		case 6:
			node = fc_node(&fc, dir, name);
			if (node != 0) {
				fc_link(&fc, node, dir, other);
				fc_forget(&fc, node, UINT64_MAX); /* also what LINK added */
			}
			break;
		default:
			node = fc_node(&fc, dir, name);
			if (node != 0 && fc_open(&fc, node, O_RDONLY, &open) == 0) {
				n = fc_read(&fc, node, open.fh, 0, buf, 10);
				must(n >= 0 && n <= 2);
				fc_release(&fc, node, open.fh);
			}
			if (node != 0) {
				fc_getattr(&fc, node, NULL);
				fc_forget(&fc, node, 1);
			}
			break;
		}
	}
}

static void *worker(void *arg)
{
	hk_fuse_thread_start();
	work(fc.root, (unsigned)(uintptr_t)arg, 1500);
	return NULL;
}

static void run_threads(void)
{
	pthread_t threads[4];

	for (uintptr_t i = 0; i < 4; i++) {
		assert_int_equal(pthread_create(&threads[i], NULL, worker, (void *)(i + 1)), 0);
	}
	for (unsigned i = 0; i < 4; i++) {
		pthread_join(threads[i], NULL);
	}
}

static void test_threads(void **state)
{
	unsigned before = open_descriptors();

	run_threads();
	hk_fuse_server_reset(fc.server);
	assert_true(open_descriptors() <= before);
}

static struct {
	uint64_t node;
	atomic_ullong next_fh;
	atomic_bool stop;
	atomic_uint stolen;
} guess;

static void *release_guessed(void *arg)
{
	while (!atomic_load(&guess.stop)) {
		if (fc_release(&fc, guess.node, atomic_load(&guess.next_fh)) == 0) {
			atomic_fetch_add(&guess.stolen, 1);
		}
	}
	return NULL;
}

static void *look_at_node(void *arg)
{
	while (!atomic_load(&guess.stop)) {
		must(fc_getattr(&fc, guess.node, NULL) == 0);
	}
	return NULL;
}

/* The number of the next handle is easily told, and may be released while it is being made. */
static void test_released_while_opened(void **state)
{
	static void *(*const others[])(void *) = {release_guessed, release_guessed, look_at_node};
	uint64_t start_ns = hk_now_ns();
	unsigned before = open_descriptors();
	pthread_t threads[HK_ARRAY_SIZE(others)];
	struct fuse_open_out open;

	fc_host_file(fc.inside, "f", "text");
	guess.node = fc_node(&fc, fc.root, "f");
	atomic_store(&guess.stop, false);
	atomic_store(&guess.stolen, 0);
	assert_int_equal(fc_open(&fc, guess.node, O_RDONLY, &open), 0);
	assert_int_equal(fc_release(&fc, guess.node, open.fh), 0);
	for (unsigned i = 0; i < HK_ARRAY_SIZE(others); i++) {
		assert_int_equal(pthread_create(&threads[i], NULL, others[i], NULL), 0);
	}
	/* A second of it, or, where the others seldom get to run, until one was quick enough. */
	while (hk_now_ns() - start_ns < HK_NS_PER_SEC ||
		(atomic_load(&guess.stolen) == 0 && hk_now_ns() - start_ns < 60 * HK_NS_PER_SEC)) {
		/* Slots are used again at once, each time as the next generation. */
		atomic_store(&guess.next_fh, open.fh + (UINT64_C(1) << 32));
		must(fc_open(&fc, guess.node, O_RDONLY, &open) == 0);
		atomic_store(&guess.next_fh, open.fh);
		fc_release(&fc, guess.node, open.fh); /* one of us did */
	}
	atomic_store(&guess.stop, true);
	for (unsigned i = 0; i < HK_ARRAY_SIZE(others); i++) {
		pthread_join(threads[i], NULL);
	}
	assert_true(atomic_load(&guess.stolen) > 0); /* else this test tests nothing */
	assert_true(reads(guess.node, "text"));
	hk_fuse_server_reset(fc.server);
	assert_true(open_descriptors() <= before);
}

/* Opens so many others that no idle node keeps its object. */
static void push_out(void)
{
	for (unsigned i = 0; i < 200; i++) {
		char name[16];

		snprintf(name, sizeof(name), "push%u", i % 100);
		if (i < 100) {
			fc_host_file(fc.inside, name, name);
		}
		assert_int_equal(fc_getattr(&fc, fc_node(&fc, fc.root, name), NULL), 0);
	}
}

/* The host turns A/B into B/A: what the guest knew and what it finds now make a circle. */
static void test_parents_in_a_circle(void **state)
{
	struct hk_writer w = {0};
	uint64_t outer;
	uint64_t inner;

	assert_int_equal(mkdirat(fc.inside_fd, "A", 0755), 0);
	assert_int_equal(mkdirat(fc.inside_fd, "A/B", 0755), 0);
	outer = fc_node(&fc, fc.root, "A");
	inner = fc_node(&fc, outer, "B");
	assert_int_equal(fc_getattr(&fc, inner, NULL), 0); /* B has its object: cd A/B */
	assert_int_equal(renameat(fc.inside_fd, "A/B", fc.inside_fd, "B"), 0);
	assert_int_equal(renameat(fc.inside_fd, "A", fc.inside_fd, "B/A"), 0);
	assert_int_equal(fc_node(&fc, inner, "A"), outer);
	push_out();
	/* Where B is now, nobody has told the guest; nor, so, where A is. */
	assert_int_equal(fc_getattr(&fc, inner, NULL), -ESTALE);
	assert_int_equal(fc_getattr(&fc, outer, NULL), -ESTALE);
	/* Saving ends, too. */
	hk_fuse_server_save(fc.server, &w);
	assert_int_equal(w.error, 0);
	hk_writer_finish(&w);
	/* Looked up again, both are good. */
	assert_int_equal(fc_node(&fc, fc.root, "B"), inner);
	assert_int_equal(fc_getattr(&fc, inner, NULL), 0);
	push_out();
	assert_int_equal(fc_getattr(&fc, outer, NULL), 0);
	/* And forgotten, they are gone: they do not keep each other. */
	fc_forget(&fc, outer, UINT64_MAX);
	fc_forget(&fc, inner, UINT64_MAX);
	assert_int_equal(fc_getattr(&fc, outer, NULL), -ESTALE);
	assert_true(fc_node(&fc, fc.root, "B") != inner);
}

/* Whatever fails, and whenever: no crash, no leak, and afterwards everything works. */
static void test_failures(void **state)
{
	static const unsigned kinds[] = {HK_FAULT_ALLOC, HK_FAULT_SYSCALL};
	struct fuse_init_in init = {.major = 7, .minor = 38};
	unsigned before;

	hk_fault_arm(HK_FAULT_ALLOC, 1);
	if (!hk_fault(HK_FAULT_ALLOC)) {
		skip(); /* a build without the hook */
	}
	work(fc.root, 1, 50);
	hk_fuse_server_reset(fc.server);
	before = open_descriptors();
	for (unsigned k = 0; k < HK_ARRAY_SIZE(kinds); k++) {
		bool fired = true;

		for (unsigned nth = 1; fired && nth < 1500; nth++) {
			uint64_t node;
			uint64_t fh;

			must(fc_call(&fc, FUSE_INIT, 0, &(struct fc_part){&init, sizeof(init)}, 1,
				     &fc.init, sizeof(fc.init))
					.error == 0);
			fc.root = fc_node(&fc, FUSE_ROOT_ID, "x");
			hk_fault_arm(kinds[k], nth);
			if (fc_create(&fc, fc.root, "f", O_RDWR, 0644, &node, &fh) == 0) {
				fc_write(&fc, node, fh, 0, "x", 1);
				fc_release(&fc, node, fh);
			}
			fc_link(&fc, fc_node(&fc, fc.root, "f"), fc.root, "g");
			fc_rename(&fc, fc.root, "f", fc.root, "h", 0);
			fc_mkdir(&fc, fc.root, "d", &(struct fuse_entry_out){0});
			fc_create(&fc, fc_node(&fc, fc.root, "d"), "i", O_RDWR, 0644, &node, &fh);
			fc_name_op(&fc, FUSE_UNLINK, fc_node(&fc, fc.root, "d"), "i");
			fc_readdir(&fc, fc.root, 0, 0, true, (char[2048]){0}, 2048);
			fc_name_op(&fc, FUSE_UNLINK, fc.root, "g");
			fc_name_op(&fc, FUSE_RMDIR, fc.root, "d");
			fired = hk_fault_fired();
			hk_fault_arm(0, 0);
			fc_name_op(&fc, FUSE_UNLINK, fc.root, "f");
			fc_name_op(&fc, FUSE_UNLINK, fc.root, "g");
			fc_name_op(&fc, FUSE_UNLINK, fc.root, "h");
			fc_name_op(&fc, FUSE_UNLINK, fc_node(&fc, fc.root, "d"), "i");
			fc_name_op(&fc, FUSE_RMDIR, fc.root, "d");
			assert_int_equal(fc_create(&fc, fc.root, "f", O_RDWR, 0644, &node, &fh), 0);
			assert_int_equal(fc_name_op(&fc, FUSE_UNLINK, fc.root, "f"), 0);
			hk_fuse_server_reset(fc.server);
			assert_int_equal(open_descriptors(), before);
		}
		assert_false(fired);
	}
}

/* A copy in a layer has the number of what it was made of; another file may get that. */
static void test_twins(void **state)
{
	static struct hk_nodes nodes;
	struct hk_fds fds = {.limit = 16, .handle_limit = 16};
	struct hk_backend backend = {.has_twins = true};
	struct hk_export export = {.backend = &backend};
	struct hk_stat copy = {.dev = 1, .ino = 12, .mode = S_IFREG | 0644, .born_ns = 1000};
	struct hk_stat newer = copy;
	struct hk_node *at[4];

	(void)state;
	newer.born_ns = 2000;
	assert_int_equal(hk_nodes_init(&nodes, &fds), 0);
	assert_int_equal(hk_nodes_enter(&nodes, &export, NULL, NULL, &copy, 1, 0, &at[0]), 0);
	at[0]->io = 1; /* whatever it is used for */
	assert_int_equal(hk_nodes_enter(&nodes, &export, NULL, NULL, &newer, 1, 0, &at[1]), 0);
	assert_int_equal(hk_nodes_enter(&nodes, &export, NULL, NULL, &copy, 1, 0, &at[2]), 0);
	assert_int_equal(hk_nodes_enter(&nodes, &export, NULL, NULL, &newer, 1, 0, &at[3]), 0);
	assert_ptr_not_equal(at[0], at[1]);
	assert_ptr_equal(at[0], at[2]);
	assert_ptr_equal(at[1], at[3]);
	assert_false(at[0]->stale);
	assert_false(at[1]->stale);
	assert_int_equal(at[0]->twin_bits, 0);
	assert_int_not_equal(at[1]->twin_bits, 0);
	for (unsigned i = 0; i < HK_ARRAY_SIZE(at); i++) {
		hk_node_put(&nodes, at[i]);
	}
	hk_nodes_forget_all(&nodes);
	hk_nodes_finish(&nodes);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_twins),
		cmocka_unit_test_setup_teardown(
			test_more_files_than_descriptors, start_with_few, stop_with_few),
		cmocka_unit_test_setup_teardown(
			test_deeper_than_descriptors, start_with_few, stop_with_few),
		cmocka_unit_test_setup_teardown(test_too_many_open, start_with_few, stop_with_few),
		cmocka_unit_test_setup_teardown(test_readers_share_a_file, start, stop),
		cmocka_unit_test_setup_teardown(test_replaced_on_the_host, start, stop),
		cmocka_unit_test_setup_teardown(test_names_of_one_file, start, stop),
		cmocka_unit_test_setup_teardown(test_reset, start, stop),
		cmocka_unit_test_setup_teardown(test_threads, start, stop),
		cmocka_unit_test_setup_teardown(test_threads, start_with_few, stop_with_few),
		cmocka_unit_test_setup_teardown(test_released_while_opened, start, stop),
		cmocka_unit_test_setup_teardown(
			test_parents_in_a_circle, start_with_few, stop_with_few),
		cmocka_unit_test_setup_teardown(test_failures, start, stop),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
