/* SPDX-License-Identifier: ISC */
/* virtio-balloon: which memory goes back to the host, when, and never any other. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "base/bytes.h"
#include "base/util.h"
#include "virtio/balloon.h"
#include "virtq_driver.h"

enum { INFLATE, DEFLATE, STATS, HINT, REPORT, MAX_RANGES = 64 };

#define F_STATS     (UINT64_C(1) << 1)
#define F_OOM       (UINT64_C(1) << 2)
#define F_HINT      (UINT64_C(1) << 3)
#define F_POISON    (UINT64_C(1) << 4)
#define F_REPORTING (UINT64_C(1) << 5)
#define F_ALL       (F_STATS | F_OOM | F_HINT | F_POISON | F_REPORTING)

#define PAGE        ((uint64_t)HK_PAGE_SIZE)

struct range {
	hk_gpa gpa;
	uint64_t len;
};

struct fixture {
	struct hk_balloon_host host;
	struct vqh h;
	struct hk_virtio *dev;
	hk_gpa list; /* where page numbers, commands and statistics are written */
	hk_gpa pool; /* pages to give away */
	struct range ranges[MAX_RANGES];
	unsigned count;
};

static void record(struct hk_balloon_host *host, const struct hk_mem *mem, hk_gpa gpa, uint64_t len)
{
	struct fixture *f = hk_container_of(host, struct fixture, host);

	assert_true(f->count < MAX_RANGES);
	assert_true(len > 0);
	assert_int_equal(gpa % PAGE, 0);
	assert_int_equal(len % PAGE, 0);
	assert_non_null(hk_mem_at(mem, gpa, len));
	f->ranges[f->count++] = (struct range){gpa, len};
}

static void start(struct fixture *f, struct hk_balloon_host *host, uint64_t features)
{
	assert_int_equal(hk_balloon_create(host, &f->dev, NULL), 0);
	vqh_start(&f->h, f->dev, NULL, features | HK_VIRTIO_F_EVENT_IDX);
	f->list = vqh_alloc(&f->h, 64 * 1024);
	f->pool = vqh_alloc(&f->h, 8 * HK_MIB);
}

static void stop(struct fixture *f)
{
	vqh_finish(&f->h);
	hk_virtio_destroy(f->dev);
}

static int setup(void **state)
{
	struct fixture *f = test_calloc(1, sizeof(*f));

	f->host.release = record;
	start(f, &f->host, F_ALL);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	stop(f);
	test_free(f);
	return 0;
}

/* Sends @count page numbers, relative to the pool. */
static void send_pages(struct fixture *f, unsigned queue, const uint32_t *pages, unsigned count)
{
	for (unsigned i = 0; i < count; i++) {
		hk_store_le32(
			vqh_at(&f->h, f->list + i * 4, 4), (uint32_t)(f->pool / PAGE) + pages[i]);
	}
	vqd_add(&f->h.queues[queue], (struct vqd_buf[]){{f->list, count * 4, false}}, 1, 0);
	vqh_kick(&f->h, queue);
}

static void assert_range(struct fixture *f, unsigned i, uint64_t page, uint64_t pages)
{
	assert_true(i < f->count);
	assert_int_equal(f->ranges[i].gpa, f->pool + page * PAGE);
	assert_int_equal(f->ranges[i].len, pages * PAGE);
}

static void test_target(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(vqh_config(&f->h, 0, 8), 0);
	hk_balloon_set_target(f->dev, 10 * HK_MIB + 1);
	assert_int_equal(vqh_config(&f->h, 0, 4), 2560);
	assert_int_equal(f->h.config_changes, 1);
	vqh_write_config(&f->h, 4, 4, 17);
	assert_int_equal(hk_balloon_actual(f->dev), 17 * PAGE);
	/* Not the driver's to write, or not as a whole. */
	vqh_write_config(&f->h, 0, 4, 99);
	vqh_write_config(&f->h, 8, 4, 99);
	vqh_write_config(&f->h, 4, 8, 99);
	vqh_write_config(&f->h, 5, 1, 99);
	assert_int_equal(vqh_config(&f->h, 0, 4), 2560);
	assert_int_equal(vqh_config(&f->h, 8, 4), 0);
	assert_int_equal(hk_balloon_actual(f->dev), 17 * PAGE);
	hk_balloon_set_target(f->dev, UINT64_MAX);
	assert_int_equal(vqh_config(&f->h, 0, 4), UINT32_MAX);
	vqh_write(&f->h, HK_MMIO_STATUS, 0);
	assert_int_equal(hk_balloon_actual(f->dev), 0);
	assert_int_equal(vqh_config(&f->h, 0, 4), UINT32_MAX); /* the target stays */
}

static void test_inflate(void **state)
{
	struct fixture *f = *state;
	static const uint32_t pages[] = {3, 4, 5, 10, 9, 8, 20, 22, 21, 20};
	static const uint32_t one[] = {7};
	struct vqd_used used;

	send_pages(f, INFLATE, pages, HK_ARRAY_SIZE(pages));
	assert_int_equal(f->count, 4);
	assert_range(f, 0, 3, 3);  /* up */
	assert_range(f, 1, 8, 3);  /* down */
	assert_range(f, 2, 20, 1); /* 22 is no neighbour of 20 */
	assert_range(f, 3, 20, 3); /* twice is the guest's affair */
	assert_true(vqd_take(&f->h.queues[INFLATE], &used));
	assert_int_equal(used.len, 0);
	send_pages(f, INFLATE, one, 1);
	assert_range(f, f->count - 1, 7, 1);
}

static void test_deflate_releases_nothing(void **state)
{
	struct fixture *f = *state;
	static const uint32_t pages[] = {1, 2, 3};
	struct vqd_used used;

	send_pages(f, DEFLATE, pages, HK_ARRAY_SIZE(pages));
	assert_int_equal(f->count, 0);
	assert_true(vqd_take(&f->h.queues[DEFLATE], &used));
	assert_false(vqh_needs_reset(&f->h));
}

static void test_hostile_pages(void **state)
{
	struct fixture *f = *state;
	static const uint32_t numbers[] = {
		64 * 256, /* the first page after 64 MiB of RAM */
		0xc0000,  /* the MMIO hole */
		0xfec00,
		0x100000, /* above the hole, where no RAM is */
		UINT32_MAX,
	};

	for (size_t i = 0; i < HK_ARRAY_SIZE(numbers); i++) {
		stop(f);
		start(f, &f->host, F_ALL);
		f->count = 0;
		hk_store_le32(vqh_at(&f->h, f->list, 4), (uint32_t)(f->pool / PAGE));
		hk_store_le32(vqh_at(&f->h, f->list + 4, 4), numbers[i]);
		vqd_add(&f->h.queues[INFLATE], (struct vqd_buf[]){{f->list, 8, false}}, 1, 0);
		vqh_kick(&f->h, INFLATE);
		assert_true(vqh_needs_reset(&f->h));
		assert_int_equal(f->count, 1); /* the good one, at most */
		assert_range(f, 0, 0, 1);
	}
}

static void test_hostile_lists(void **state)
{
	struct fixture *f = *state;
	static const uint32_t lens[] = {1, 3, 6, 4097 * 4};

	for (size_t i = 0; i < HK_ARRAY_SIZE(lens); i++) {
		stop(f);
		start(f, &f->host, F_ALL);
		vqd_add(&f->h.queues[INFLATE], (struct vqd_buf[]){{f->list, lens[i], false}}, 1, 0);
		vqh_kick(&f->h, INFLATE);
		assert_true(vqh_needs_reset(&f->h));
		assert_int_equal(f->count, 0);
	}
}

static void report_blocks(struct fixture *f, unsigned queue, const struct range *blocks, unsigned n)
{
	struct vqd_buf bufs[8];

	for (unsigned i = 0; i < n; i++) {
		bufs[i] = (struct vqd_buf){blocks[i].gpa, (uint32_t)blocks[i].len, true};
	}
	vqd_add(&f->h.queues[queue], bufs, n, 0);
	vqh_kick(&f->h, queue);
}

static void test_reporting(void **state)
{
	struct fixture *f = *state;
	const struct range blocks[] = {
		{f->pool, 2 * HK_MIB}, {f->pool + 2 * HK_MIB, 4 * PAGE}, /* beside the first */
		{f->pool + 4 * HK_MIB + 100, 3 * PAGE},   /* two whole pages within */
		{f->pool + 5 * HK_MIB + 1, 2 * PAGE - 2}, /* none */
		{f->pool + 6 * HK_MIB - 1, 2 * PAGE + 1}, /* two */
	};
	struct vqd_used used;

	report_blocks(f, REPORT, blocks, HK_ARRAY_SIZE(blocks));
	assert_int_equal(f->count, 3);
	assert_range(f, 0, 0, 512 + 4);
	assert_range(f, 1, 1024 + 1, 2);
	assert_range(f, 2, 1536, 2);
	assert_int_equal(hk_balloon_released(f->dev), (516 + 2 + 2) * PAGE);
	assert_true(vqd_take(&f->h.queues[REPORT], &used));
	assert_int_equal(f->h.interrupts, 1);
}

/* Free pages that must keep a pattern are not dropped, since zeros would come back. */
static void test_poison(void **state)
{
	struct fixture *f = *state;
	const struct range block = {f->pool, 2 * HK_MIB};

	vqh_write_config(&f->h, 12, 4, 0xaaaaaaaa);
	assert_int_equal(vqh_config(&f->h, 12, 4), 0xaaaaaaaa);
	report_blocks(f, REPORT, &block, 1);
	assert_int_equal(f->count, 0);
	vqh_write_config(&f->h, 12, 4, 0);
	report_blocks(f, REPORT, &block, 1);
	assert_int_equal(f->count, 1);

	stop(f);
	start(f, &f->host, F_ALL & ~F_POISON);
	vqh_write_config(&f->h, 12, 4, 0xaaaaaaaa); /* not negotiated: not there */
	report_blocks(f, REPORT, &block, 1);
	assert_int_equal(f->count, 2);
}

static void send_command(struct fixture *f, uint32_t id)
{
	hk_store_le32(vqh_at(&f->h, f->list, 4), id);
	vqd_add(&f->h.queues[HINT], (struct vqd_buf[]){{f->list, 4, false}}, 1, 0);
	vqh_kick(&f->h, HINT);
}

static uint32_t command_id(struct fixture *f)
{
	return (uint32_t)vqh_config(&f->h, 8, 4);
}

static void test_hinting(void **state)
{
	struct fixture *f = *state;
	const struct range block = {f->pool, 4 * HK_MIB};
	uint32_t id;

	assert_true(f->dev->queues[HINT].synchronous);
	assert_int_equal(command_id(f), 0);
	report_blocks(f, HINT, &block, 1); /* nobody asked */
	assert_int_equal(f->count, 0);

	assert_int_equal(hk_balloon_hint_start(f->dev), 0);
	assert_int_equal(f->h.config_changes, 1);
	assert_int_equal(hk_balloon_hint_start(f->dev), -EALREADY);
	id = command_id(f);
	assert_true(id >= 2);
	assert_true(hk_balloon_hinting(f->dev));
	report_blocks(f, HINT, &block, 1); /* before its command */
	send_command(f, id + 1);           /* of no round that we know */
	report_blocks(f, HINT, &block, 1);
	assert_int_equal(f->count, 0);
	send_command(f, 0); /* the end of what did not begin */
	assert_int_equal(command_id(f), id);

	send_command(f, id);
	report_blocks(f, HINT, &block, 1);
	assert_int_equal(f->count, 1);
	assert_range(f, 0, 0, 1024);
	send_command(f, 0);
	assert_int_equal(command_id(f), 1);
	assert_false(hk_balloon_hinting(f->dev));
	assert_int_equal(f->h.config_changes, 2);
	report_blocks(f, HINT, &block, 1); /* after the end */
	send_command(f, id);               /* an old one, again */
	report_blocks(f, HINT, &block, 1);
	send_command(f, 1);
	report_blocks(f, HINT, &block, 1);
	assert_int_equal(f->count, 1);

	assert_int_equal(hk_balloon_hint_start(f->dev), 0);
	assert_int_not_equal(command_id(f), id);
	assert_false(vqh_needs_reset(&f->h));
	vqd_add(&f->h.queues[HINT], (struct vqd_buf[]){{f->list, 3, false}}, 1, 0);
	vqh_kick(&f->h, HINT);
	assert_true(vqh_needs_reset(&f->h));
}

static void write_stat(struct fixture *f, unsigned i, uint16_t tag, uint64_t value)
{
	uint8_t *raw = vqh_at(&f->h, f->list + i * 10, 10);

	hk_store_le16(raw, tag);
	hk_store_le64(raw + 2, value);
}

static void test_stats(void **state)
{
	struct fixture *f = *state;
	struct vqd *queue = &f->h.queues[STATS];
	struct hk_balloon_stats stats;
	struct vqd_used used;

	assert_int_equal(hk_balloon_stats(f->dev, &stats), -EAGAIN);
	for (uint16_t tag = 0; tag < 10; tag++) {
		write_stat(f, tag, tag, 1000u + tag);
	}
	write_stat(f, 10, 77, 5);
	vqd_add(queue, (struct vqd_buf[]){{f->list, 11 * 10 + 3, false}}, 1, 1);
	vqh_kick(&f->h, STATS);
	assert_false(vqd_take(queue, &used)); /* kept, to ask with */
	assert_int_equal(hk_balloon_stats(f->dev, &stats), 0);
	assert_int_equal(stats.major_faults, 1002);
	assert_int_equal(stats.minor_faults, 1003);
	assert_int_equal(stats.free_bytes, 1004);
	assert_int_equal(stats.total_bytes, 1005);
	assert_int_equal(stats.available_bytes, 1006);
	assert_int_equal(stats.cached_bytes, 1007);
	assert_true(vqd_take(queue, &used)); /* that asked */
	assert_int_equal(used.token, 1);
	assert_int_equal(f->h.interrupts, 1);

	write_stat(f, 0, 4, 4242);
	vqd_add(queue, (struct vqd_buf[]){{f->list, 10, false}}, 1, 2);
	vqh_kick(&f->h, STATS);
	assert_int_equal(hk_balloon_stats(f->dev, &stats), 0);
	assert_int_equal(stats.free_bytes, 4242);
	assert_int_equal(stats.total_bytes, 0);
	assert_true(vqd_take(queue, &used));

	/* Two at a time: the older goes back. */
	vqd_add(queue, (struct vqd_buf[]){{f->list, 10, false}}, 1, 3);
	vqd_add(queue, (struct vqd_buf[]){{f->list, 10, false}}, 1, 4);
	vqh_kick(&f->h, STATS);
	assert_true(vqd_take(queue, &used));
	assert_int_equal(used.token, 3);
	assert_false(vqd_take(queue, &used));

	vqh_write(&f->h, HK_MMIO_STATUS, 0);
	assert_int_equal(hk_balloon_stats(f->dev, &stats), -EAGAIN);
}

/* Optional queues that are not negotiated leave no hole, as in Linux. */
static void test_queue_numbers(void **state)
{
	struct fixture *f = *state;
	const struct range block = {f->pool, 2 * HK_MIB};

	stop(f);
	start(f, &f->host, F_REPORTING);
	report_blocks(f, 2, &block, 1);
	assert_int_equal(f->count, 1);
	report_blocks(f, 4, &block, 1); /* that is no queue of anybody's */
	assert_int_equal(f->count, 1);
	assert_int_equal(hk_balloon_hint_start(f->dev), -ENOTSUP);

	stop(f);
	start(f, &f->host, F_HINT | F_REPORTING);
	assert_true(f->dev->queues[2].synchronous);
	report_blocks(f, 3, &block, 1);
	assert_int_equal(f->count, 2);
}

static void move(struct fixture *f)
{
	struct hk_virtio *fresh;

	assert_int_equal(hk_balloon_create(&f->host, &fresh, NULL), 0);
	assert_true(vqh_move(&f->h, fresh));
	hk_virtio_destroy(f->dev);
	f->dev = fresh;
}

static void test_move(void **state)
{
	struct fixture *f = *state;
	const struct range block = {f->pool, 4 * HK_MIB};
	struct hk_balloon_stats stats;
	struct vqd_used used;
	uint32_t id;

	/* Mid-work: a statistics buffer held, a round of hints open, memory given up. */
	hk_balloon_set_target(f->dev, 16 * HK_MIB);
	vqh_write_config(&f->h, 4, 4, 100);
	write_stat(f, 0, 5, 64 * HK_MIB);
	vqd_add(&f->h.queues[STATS], (struct vqd_buf[]){{f->list, 10, false}}, 1, 8);
	vqh_kick(&f->h, STATS);
	hk_balloon_hint_start(f->dev);
	id = command_id(f);
	send_command(f, id);
	move(f);

	assert_int_equal(vqh_config(&f->h, 0, 4), 4096);
	assert_int_equal(hk_balloon_actual(f->dev), 100 * PAGE);
	assert_int_equal(command_id(f), id);
	report_blocks(f, HINT, &block, 1);
	assert_int_equal(f->count, 1);
	assert_int_equal(hk_balloon_stats(f->dev, &stats), 0);
	assert_int_equal(stats.total_bytes, 64 * HK_MIB);
	assert_true(vqd_take(&f->h.queues[STATS], &used));
	assert_int_equal(used.token, 8);
	send_command(f, 0);
	assert_int_equal(command_id(f), 1);
	move(f);
	hk_balloon_hint_start(f->dev);
	assert_int_equal(command_id(f), id + 1);
}

/* Every byte of a snapshot changed: refused, or a state that can be; and the device goes on living.
 */
static void test_restore_checks(void **state)
{
	struct fixture *f = *state;
	struct hk_writer w = {0};
	unsigned refused = 0;

	write_stat(f, 0, 5, 1);
	vqd_add(&f->h.queues[STATS], (struct vqd_buf[]){{f->list, 10, false}}, 1, 8);
	vqh_kick(&f->h, STATS);
	vqh_save(&f->h, &w);
	assert_int_equal(w.error, 0);
	for (size_t i = 0; i < 2 * w.len; i++) {
		struct hk_virtio *fresh;
		struct hk_balloon_stats stats;
		struct hk_reader r;
		uint8_t saved = w.data[i % w.len];

		w.data[i % w.len] ^= i < w.len ? 0x01 : 0xff;
		assert_int_equal(hk_balloon_create(&f->host, &fresh, NULL), 0);
		hk_reader_init(&r, w.data, w.len);
		refused += !vqh_restore(&f->h, fresh, &r);
		(void)hk_balloon_stats(fresh, &stats);
		w.data[i % w.len] = saved;
		hk_virtio_destroy(f->dev);
		f->dev = fresh;
	}
	assert_true(refused > w.len / 2);
	hk_writer_finish(&w);
}

/* The real thing: pages that were written are gone from the memfd, and read as zeros. */
static void test_linux_release(void **state)
{
	struct fixture *f = *state;
	struct stat before, after;
	uint8_t *pool;
	struct range block;

	stop(f);
	start(f, &hk_balloon_host_linux, F_ALL);
	pool = vqh_at(&f->h, f->pool, 8 * HK_MIB);
	memset(pool, 0x5a, 8 * HK_MIB);
	assert_int_equal(fstat(f->h.mem.fd, &before), 0);
	block = (struct range){f->pool + HK_MIB, 4 * HK_MIB};
	report_blocks(f, REPORT, &block, 1);
	assert_int_equal(fstat(f->h.mem.fd, &after), 0);
	assert_int_equal((before.st_blocks - after.st_blocks) * 512, 4 * HK_MIB);
	assert_int_equal(pool[HK_MIB - 1], 0x5a);
	assert_int_equal(pool[HK_MIB], 0);
	assert_int_equal(pool[5 * HK_MIB - 1], 0);
	assert_int_equal(pool[5 * HK_MIB], 0x5a);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(test_##name, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(target),
		TEST(inflate),
		TEST(deflate_releases_nothing),
		TEST(hostile_pages),
		TEST(hostile_lists),
		TEST(reporting),
		TEST(poison),
		TEST(hinting),
		TEST(stats),
		TEST(queue_numbers),
		TEST(move),
		TEST(restore_checks),
		TEST(linux_release),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
