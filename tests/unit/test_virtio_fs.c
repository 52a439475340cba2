/* SPDX-License-Identifier: ISC */
/* The fs device: FUSE requests through queues, with its threads, through stops, resets and moves.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/fuse.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/util.h"
#include "virtio/fs.h"
#include "virtq_driver.h"

enum { QUEUES = 2, REQUEST = 1 /* the first request queue */, PAGES = 256 };

struct box {
	struct hk_fuse_server *server;
	struct hk_virtio *dev;
	struct vqh h;
	char dir[64];
	uint64_t root;
	hk_gpa in, out;
};

static struct box box;

static struct hk_virtio *make_device(struct hk_fuse_server **ret_server)
{
	struct hk_fuse_export export = {.name = "x", .path = box.dir};
	struct hk_fs_config config = {.tag = "hako", .request_queues = QUEUES};
	struct hk_err err = HK_ERR_INIT;
	struct hk_virtio *dev;

	assert_int_equal(hk_fuse_server_create(NULL, ret_server, &err), 0);
	assert_int_equal(hk_fuse_server_export(*ret_server, &export, &err), 0);
	config.server = *ret_server;
	assert_int_equal(hk_fs_create(&config, &dev, &err), 0);
	for (unsigned i = 0; i < dev->queue_count; i++) {
		dev->queues[i].kick_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	}
	return dev;
}

static void drop_device(struct hk_virtio *dev, struct hk_fuse_server *server)
{
	for (unsigned i = 0; i < dev->queue_count; i++) {
		close(dev->queues[i].kick_fd);
	}
	hk_virtio_destroy(dev);
	hk_fuse_server_destroy(server);
}

static void kick(unsigned queue)
{
	uint64_t one = 1;

	if (vqd_wants_kick(&box.h.queues[queue])) {
		assert_int_equal(
			write(box.dev->queues[queue].kick_fd, &one, sizeof(one)), sizeof(one));
	}
}

/* The next used chain; waits for it, not for ever. */
static bool take(unsigned queue, struct vqd_used *used)
{
	for (unsigned i = 0; i < 20000; i++) {
		if (vqd_take(&box.h.queues[queue], used)) {
			return true;
		}
		usleep(100);
	}
	return false;
}

/* Puts a request of header and @body at @in. Return: its length. */
static uint32_t write_request(
	hk_gpa in, uint32_t opcode, uint64_t nodeid, const void *body, uint32_t len)
{
	struct fuse_in_header head = {.len = (uint32_t)sizeof(head) + len,
		.opcode = opcode,
		.unique = opcode + 1,
		.nodeid = nodeid};

	memcpy(vqh_at(&box.h, in, sizeof(head)), &head, sizeof(head));
	if (len > 0) {
		memcpy(vqh_at(&box.h, in + sizeof(head), len), body, len);
	}
	return head.len;
}

/* One request, waited for. Return: 0 or -errno; *@payload is valid until the next one. */
static int call(
	uint32_t opcode, uint64_t nodeid, const void *body, uint32_t len, const void **payload)
{
	uint32_t total = write_request(box.in, opcode, nodeid, body, len);
	struct fuse_out_header *head = vqh_at(&box.h, box.out, 4096);
	struct vqd_buf bufs[] = {{box.in, total, false}, {box.out, 4096, true}};
	struct vqd_used used;

	assert_true(vqd_add(&box.h.queues[REQUEST], bufs, 2, opcode) >= 0);
	kick(REQUEST);
	assert_true(take(REQUEST, &used));
	assert_int_equal(used.token, opcode);
	assert_int_equal(used.len, head->len);
	assert_int_equal(head->unique, opcode + 1);
	*payload = head + 1;
	return head->error;
}

static uint64_t lookup(uint64_t dir, const char *name)
{
	const void *payload;
	int r = call(FUSE_LOOKUP, dir, name, (uint32_t)strlen(name) + 1, &payload);

	return r < 0 ? 0 : ((const struct fuse_entry_out *)payload)->nodeid;
}

static void init(void)
{
	struct fuse_init_in in = {.major = 7, .minor = 38};
	const void *payload;

	assert_int_equal(call(FUSE_INIT, 0, &in, sizeof(in), &payload), 0);
	box.root = lookup(FUSE_ROOT_ID, "x");
	assert_true(box.root != 0);
}

static int start(void **state)
{
	char path[80];
	int fd;

	memset(&box, 0, sizeof(box));
	snprintf(box.dir, sizeof(box.dir), "/tmp/hako-fs-XXXXXX");
	assert_non_null(mkdtemp(box.dir));
	snprintf(path, sizeof(path), "%s/f", box.dir);
	fd = open(path, O_WRONLY | O_CREAT, 0644);
	assert_int_equal(write(fd, "hello", 5), 5);
	close(fd);
	box.dev = make_device(&box.server);
	vqh_start(&box.h, box.dev, NULL, HK_VIRTIO_F_EVENT_IDX | HK_VIRTIO_F_INDIRECT_DESC);
	box.in = vqh_alloc(&box.h, 4096);
	box.out = vqh_alloc(&box.h, 4096);
	init();
	return 0;
}

static int stop(void **state)
{
	char command[100];

	vqh_finish(&box.h);
	drop_device(box.dev, box.server);
	snprintf(command, sizeof(command), "rm -rf '%s'", box.dir);
	return system(command);
}

static void test_config(void **state)
{
	struct hk_fs_config bad[] = {
		{.tag = "", .request_queues = 1},
		{.tag = "0123456789012345678901234567890123456", .request_queues = 1},
		{.tag = "t", .request_queues = 0},
		{.tag = "t", .request_queues = 17},
		{.tag = "t", .request_queues = 1, .threads = 17},
	};
	struct hk_virtio *dev;

	assert_int_equal(vqh_config(&box.h, 0, 4), 0x6f6b6168); /* "hako" */
	assert_int_equal(vqh_config(&box.h, 4, 4), 0);
	assert_int_equal(vqh_config(&box.h, 36, 4), QUEUES);
	for (size_t i = 0; i < HK_ARRAY_SIZE(bad); i++) {
		struct hk_err err = HK_ERR_INIT;

		assert_int_equal(hk_fs_create(&bad[i], &dev, &err), -EINVAL);
		assert_true(hk_err_text(&err)[0] != '\0');
	}
}

static void test_requests(void **state)
{
	struct fuse_open_in in = {.flags = O_RDONLY};
	struct fuse_read_in read = {.size = 100};
	const void *payload;
	uint64_t node = lookup(box.root, "f");

	assert_true(node != 0);
	assert_int_equal(lookup(box.root, "none"), 0);
	assert_int_equal(call(FUSE_OPEN, node, &in, sizeof(in), &payload), 0);
	read.fh = ((const struct fuse_open_out *)payload)->fh;
	assert_int_equal(call(FUSE_READ, node, &read, sizeof(read), &payload), 0);
	assert_memory_equal(payload, "hello", 5);
	assert_int_equal(call(99, node, &read, sizeof(read), &payload), -ENOSYS);
	assert_true(box.h.interrupts > 0);
}

/* FORGET on the hiprio queue: no room for a reply, and none comes. */
static void test_forget(void **state)
{
	struct fuse_forget_in in = {.nlookup = 1};
	struct fuse_getattr_in getattr = {0};
	struct vqd_used used;
	const void *payload;
	uint64_t node = lookup(box.root, "f");
	hk_gpa gpa = vqh_alloc(&box.h, 4096);
	uint32_t len = write_request(gpa, FUSE_FORGET, node, &in, sizeof(in));

	assert_true(vqd_add(&box.h.queues[0], &(struct vqd_buf){gpa, len, false}, 1, 1) >= 0);
	kick(0);
	assert_true(take(0, &used));
	assert_int_equal(used.len, 0);
	assert_int_equal(call(FUSE_GETATTR, node, &getattr, sizeof(getattr), &payload), -ESTALE);
}

/* 1 MiB, a page a segment, direct and in a table. */
static void test_large(void **state)
{
	struct fuse_create_in create = {.flags = O_RDWR, .mode = S_IFREG | 0644};
	struct vqd *queue = &box.h.queues[REQUEST];
	static struct vqd_buf bufs[PAGES + 2];
	char body[64] = {0};
	const void *payload;
	struct {
		struct fuse_write_in in;
	} write = {{.size = PAGES * 4096}};
	struct vqd_used used;
	uint64_t node;
	uint64_t fh;
	hk_gpa data = vqh_alloc(&box.h, PAGES * 4096);
	struct fuse_out_header *head;
	uint32_t len;

	memcpy(body, &create, sizeof(create));
	memcpy(body + sizeof(create), "big", 4);
	assert_int_equal(call(FUSE_CREATE, box.root, body, sizeof(create) + 4, &payload), 0);
	node = ((const struct fuse_entry_out *)payload)->nodeid;
	fh = ((const struct fuse_open_out *)((const struct fuse_entry_out *)payload + 1))->fh;
	write.in.fh = fh;
	len = write_request(box.in, FUSE_WRITE, node, &write.in, sizeof(write.in));
	((struct fuse_in_header *)vqh_at(&box.h, box.in, 40))->len += PAGES * 4096;
	memset(vqh_at(&box.h, data, PAGES * 4096), 'd', PAGES * 4096);
	bufs[0] = (struct vqd_buf){box.in, len, false};
	for (unsigned i = 0; i < PAGES; i++) {
		bufs[i + 1] = (struct vqd_buf){data + (PAGES - 1 - i) * 4096, 4096, false};
	}
	bufs[PAGES + 1] = (struct vqd_buf){box.out, 24, true};
	queue->indirect = false; /* the driver's tables are smaller */
	assert_true(vqd_add(queue, bufs, PAGES + 2, 7) >= 0);
	kick(REQUEST);
	assert_true(take(REQUEST, &used));
	head = vqh_at(&box.h, box.out, 24);
	assert_int_equal(used.len, 24);
	assert_int_equal(head->error, 0);
	assert_int_equal(((struct fuse_write_out *)(head + 1))->size, PAGES * 4096);
	/* And back. */
	((char *)vqh_at(&box.h, data, 4096))[0] = 'x';
	len = write_request(box.in, FUSE_READ, node, &write.in, sizeof(struct fuse_read_in));
	bufs[0] = (struct vqd_buf){box.in, len, false};
	bufs[1] = (struct vqd_buf){box.out, 16, true};
	for (unsigned i = 0; i < PAGES; i++) {
		bufs[i + 2] = (struct vqd_buf){data + i * 4096, 4096, true};
	}
	assert_true(vqd_add(queue, bufs, PAGES + 2, 8) >= 0);
	kick(REQUEST);
	assert_true(take(REQUEST, &used));
	assert_int_equal(used.len, 16 + PAGES * 4096);
	assert_int_equal(((char *)vqh_at(&box.h, data, 4096))[0], 'd');
}

/* Many at once, on both queues: all come back, each with its own answer. */
static void test_many(void **state)
{
	enum { MANY = 60 };
	struct fuse_getattr_in in = {0};
	hk_gpa out = vqh_alloc(&box.h, MANY * 4096);
	hk_gpa area = vqh_alloc(&box.h, MANY * 4096);
	uint64_t node = lookup(box.root, "f");

	for (unsigned turn = 0; turn < 30; turn++) {
		bool seen[MANY] = {false};

		for (unsigned i = 0; i < MANY; i++) {
			unsigned queue = REQUEST + i % QUEUES;
			uint32_t len = write_request(area + i * 4096,
				i % 7 == 0 ? FUSE_SYNCFS : FUSE_GETATTR,
				i % 2 == 0 ? node : 1000 + i, &in, sizeof(in));
			struct vqd_buf bufs[] = {
				{area + i * 4096, len, false}, {out + i * 4096, 200, true}};

			assert_true(vqd_add(&box.h.queues[queue], bufs, 2, i) >= 0);
			kick(queue);
		}
		for (unsigned i = 0; i < MANY; i++) {
			struct fuse_out_header *head;
			struct vqd_used used;

			assert_true(take(REQUEST + i % QUEUES, &used));
			assert_true(used.token < MANY && !seen[used.token]);
			seen[used.token] = true;
			head = vqh_at(&box.h, out + used.token * 4096, 200);
			assert_int_equal(head->len, used.len);
			if (used.token % 7 != 0) {
				assert_int_equal(head->error, used.token % 2 == 0 ? 0 : -ESTALE);
			}
		}
	}
	assert_false(vqh_needs_reset(&box.h));
}

static void test_not_fuse(void **state)
{
	static const struct {
		uint32_t len; /* as the header says */
		uint32_t sent;
		uint32_t room;
	} cases[] = {{40, 8, 100}, {1000, 40, 100}, {40, 40, 8}, {0, 40, 100}};

	for (size_t i = 0; i < HK_ARRAY_SIZE(cases); i++) {
		struct vqd_buf bufs[] = {
			{box.in, cases[i].sent, false}, {box.out, cases[i].room, true}};
		unsigned waits = 0;

		write_request(box.in, FUSE_STATFS, 1, NULL, 0);
		((struct fuse_in_header *)vqh_at(&box.h, box.in, 40))->len = cases[i].len;
		assert_true(vqd_add(&box.h.queues[REQUEST], bufs, 2, 1) >= 0);
		kick(REQUEST);
		while (!vqh_needs_reset(&box.h) && waits++ < 20000) {
			usleep(100);
		}
		assert_true(vqh_needs_reset(&box.h));
		/* Reset, and all is well again. */
		vqh_finish(&box.h);
		vqh_start(&box.h, box.dev, NULL, HK_VIRTIO_F_EVENT_IDX);
		box.in = vqh_alloc(&box.h, 4096);
		box.out = vqh_alloc(&box.h, 4096);
		init();
	}
}

/* What is asked while the device rests is answered after. */
static void test_quiesce(void **state)
{
	struct fuse_getattr_in in = {0};
	struct vqd_used used;

	for (unsigned i = 0; i < 20; i++) {
		uint32_t len = write_request(box.in, FUSE_GETATTR, box.root, &in, sizeof(in));
		struct vqd_buf bufs[] = {{box.in, len, false}, {box.out, 200, true}};

		box.dev->ops->quiesce(box.dev);
		assert_true(vqd_add(&box.h.queues[REQUEST], bufs, 2, 1) >= 0);
		usleep(1000);
		assert_false(vqd_take(&box.h.queues[REQUEST], &used));
		box.dev->ops->resume(box.dev);
		assert_true(take(REQUEST, &used));
	}
}

static void test_move(void **state)
{
	struct hk_fuse_server *server;
	struct hk_virtio *fresh = make_device(&server);
	struct hk_virtio *old = box.dev;
	struct fuse_getattr_in in = {0};
	struct fuse_open_in open = {.flags = O_RDONLY};
	struct fuse_read_in read = {.size = 100};
	const void *payload;
	uint64_t node = lookup(box.root, "f");

	assert_int_equal(call(FUSE_OPEN, node, &open, sizeof(open), &payload), 0);
	read.fh = ((const struct fuse_open_out *)payload)->fh;
	assert_true(vqh_move(&box.h, fresh));
	box.dev = fresh;
	assert_int_equal(call(FUSE_GETATTR, node, &in, sizeof(in), &payload), 0);
	assert_int_equal(call(FUSE_READ, node, &read, sizeof(read), &payload), 0);
	assert_memory_equal(payload, "hello", 5);
	drop_device(old, box.server);
	box.server = server;
}

int main(void)
{
#define WITH(test) cmocka_unit_test_setup_teardown(test, start, stop)
	const struct CMUnitTest tests[] = {
		WITH(test_config),
		WITH(test_requests),
		WITH(test_forget),
		WITH(test_large),
		WITH(test_many),
		WITH(test_not_fuse),
		WITH(test_quiesce),
		WITH(test_move),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
