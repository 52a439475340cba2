/* SPDX-License-Identifier: ISC */
/*
 * Which files the kernel is given to move their data by itself, and for how long: a transport that
 * only counts.
 */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/util.h"
#include "fuse/server_impl.h"
#include "fuse_client.h"

static struct fc fc;

static unsigned opened, closed; /* backing files */
static int refusal;             /* what registering one gives; 0: an id */

static int backing_open(struct hk_fuse_transport *transport, int fd)
{
	(void)transport;
	assert_true(fcntl(fd, F_GETFD) >= 0);
	return refusal != 0 ? refusal : (int)++opened;
}

static void backing_close(struct hk_fuse_transport *transport, int id)
{
	(void)transport;
	assert_true(id > 0 && (unsigned)id <= opened);
	closed++;
}

static struct hk_fuse_transport transport = {
	.backing_open = backing_open, .backing_close = backing_close};

/* The mount is made once more, with a transport that passes files through. */
static void start(const struct hk_fuse_export *export)
{
	struct fuse_init_in in = {.major = FUSE_KERNEL_VERSION, .minor = 40};
	uint64_t features = FC_FEATURES | FUSE_INIT_EXT | FUSE_PASSTHROUGH;
	struct fuse_init_out out;

	opened = 0;
	closed = 0;
	refusal = 0;
	fc_start(&fc, export, FC_FEATURES);
	hk_fuse_server_set_transport(fc.server, &transport);
	in.flags = (uint32_t)features;
	in.flags2 = (uint32_t)(features >> 32);
	assert_int_equal(
		fc_call(&fc, FUSE_INIT, 0, &(struct fc_part){&in, sizeof(in)}, 1, &out, sizeof(out))
			.error,
		0);
	assert_true((out.flags2 & FUSE_PASSTHROUGH >> 32) != 0);
	fc.root = fc_node(&fc, FUSE_ROOT_ID, "x");
	assert_true(fc.root != 0);
}

/* A file that has long been as it is. */
static uint64_t settled_file(const char *name, off_t size)
{
	const struct timespec long_ago[2] = {{.tv_sec = 1000000000}, {.tv_sec = 1000000000}};

	int fd = openat(fc.inside_fd, name, O_WRONLY | O_CREAT | O_CLOEXEC, 0644);

	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, size), 0);
	assert_int_equal(futimens(fd, long_ago), 0);
	close(fd);
	return fc_node(&fc, fc.root, name);
}

static struct fuse_open_out open_node(uint64_t node, int flags)
{
	struct fuse_open_out out;

	assert_int_equal(fc_open(&fc, node, flags, &out), 0);
	return out;
}

static bool is_passed(const struct fuse_open_out *out)
{
	return (out->open_flags & FOPEN_PASSTHROUGH) != 0;
}

/* Opens the node, and closes it: was it passed through? */
static bool passes(uint64_t node, int flags)
{
	struct fuse_open_out out = open_node(node, flags);

	assert_int_equal(fc_release(&fc, node, out.fh), 0);
	return is_passed(&out);
}

/* Registered once, for all who open it, and let go with the node. */
static void test_kept_with_the_node(void **state)
{
	uint64_t node;

	(void)state;
	start(NULL);
	node = settled_file("f", 5);
	assert_true(passes(node, O_RDWR));
	assert_true(passes(node, O_RDWR));
	assert_int_equal(opened, 1);
	assert_int_equal(closed, 0);
	fc_forget(&fc, node, 1);
	assert_int_equal(closed, 1);
	fc_stop(&fc);
}

/*
 * The node's object is closed where descriptors are short; not so what the kernel still reads and
 * writes.
 */
static void test_open_ones_outlive_the_object(void **state)
{
	struct hk_fds *fds;
	struct fuse_open_out out;
	struct fuse_attr attr;
	uint64_t node, other;

	(void)state;
	start(NULL);
	node = settled_file("f", 5);
	other = settled_file("other", 5);
	out = open_node(node, O_RDWR);
	assert_true(is_passed(&out));
	fds = fc.server->nodes.fds;
	fds->limit = atomic_load(&fds->used);
	assert_int_equal(fc_getattr(&fc, other, &attr), 0);
	assert_true(hk_nodes_at(&fc.server->nodes, (uint32_t)node)->obj < 0);
	assert_int_equal(closed, 0);
	assert_int_equal(fc_release(&fc, node, out.fh), 0);
	assert_int_equal(closed, 1);
	fc_stop(&fc);
}

/* What is read again and again is better cached: not what is to be cut, nor what is too large. */
static void test_cached_instead(void **state)
{
	uint64_t node;

	(void)state;
	start(NULL);
	node = settled_file("f", 5);
	assert_true(passes(node, O_RDONLY));
	assert_false(passes(node, O_RDONLY));
	assert_true(passes(node, O_RDONLY | O_TRUNC));
	node = settled_file("large", (8 << 20) + 1);
	for (unsigned i = 0; i < 200; i++) {
		assert_true(passes(node, O_RDONLY));
	}
	fc_stop(&fc);
}

static void test_not_passed(void **state)
{
	static const struct hk_fuse_export mapped = {.map_ids = true};
	struct fuse_open_out first, second;
	uint64_t node;

	(void)state;
	/* Of files whose set-id bits go with each write we must see the writes. */
	start(&mapped);
	node = settled_file("f", 5);
	assert_false(passes(node, O_RDWR));
	assert_int_equal(opened, 0);
	fc_stop(&fc);
	/* Where the kernel does not want it; then all who have it open at once are asked for. */
	start(NULL);
	node = settled_file("f", 5);
	refusal = -ENOSPC;
	first = open_node(node, O_RDWR);
	assert_false(is_passed(&first));
	refusal = 0;
	second = open_node(node, O_RDWR);
	assert_false(is_passed(&second));
	assert_int_equal(fc_release(&fc, node, first.fh), 0);
	assert_int_equal(fc_release(&fc, node, second.fh), 0);
	assert_true(passes(node, O_RDWR));
	fc_stop(&fc);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_kept_with_the_node),
		cmocka_unit_test(test_open_ones_outlive_the_object),
		cmocka_unit_test(test_cached_instead),
		cmocka_unit_test(test_not_passed),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
