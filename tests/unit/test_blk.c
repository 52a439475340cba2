/* SPDX-License-Identifier: ISC */
/* The blk device and its backends: the same requests against memory, io_uring and the pool. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/cleanup.h"
#include "base/fault.h"
#include "base/loop.h"
#include "base/util.h"
#include "virtio/blk.h"
#include "virtio/blk_file.h"
#include "virtq_driver.h"

enum {
	SECTOR = 512,
	DISK_SECTORS = 4096, /* 2 MiB */
	DISK_BYTES = DISK_SECTORS * SECTOR,
	HEADER = 16,
	QUEUE_SIZE = 256,
	SEG_MAX = 254,
};

enum { T_IN = 0, T_OUT = 1, T_FLUSH = 4, T_GET_ID = 8, T_DISCARD = 11, T_WRITE_ZEROES = 13 };
enum { S_OK = 0, S_IOERR = 1, S_UNSUPP = 2, S_NONE = 0xaa };

#define F_RO           (UINT64_C(1) << 5)
#define F_FLUSH        (UINT64_C(1) << 9)
#define F_DISCARD      (UINT64_C(1) << 13)
#define F_WRITE_ZEROES (UINT64_C(1) << 14)

static const uint64_t usual_features =
	F_FLUSH | F_DISCARD | F_WRITE_ZEROES | HK_VIRTIO_F_EVENT_IDX | HK_VIRTIO_F_INDIRECT_DESC;

enum kind { MEMORY, URING, POOL, KINDS };
static const char *const kind_names[KINDS] = {"memory", "io_uring", "pool"};

struct fixture {
	struct hk_loop *loop;
	struct hk_virtio *dev;
	struct vqh h;
	int fd; /* of the image, borrowed from the backend; -1 with memory */
	hk_gpa header, data, status;
};

/* An image; on tmpfs (which cannot zero ranges) or in a directory. */
static int make_image(bool tmpfs)
{
	char path[] = "/var/tmp/hako-blk-XXXXXX";
	int fd = tmpfs ? memfd_create("hako-blk", MFD_CLOEXEC) : mkostemp(path, O_CLOEXEC);

	assert_true(fd >= 0);
	if (!tmpfs) {
		unlink(path);
	}
	assert_int_equal(ftruncate(fd, DISK_BYTES), 0);
	return fd;
}

static struct hk_blk_backend *make_backend(struct fixture *f, enum kind kind)
{
	struct hk_blk_backend *backend = NULL;

	f->fd = -1;
	if (kind == MEMORY) {
		assert_int_equal(hk_blk_open_memory(DISK_BYTES, &backend, NULL), 0);
		return backend;
	}
	f->fd = make_image(kind == POOL);
	if (kind == URING && hk_blk_open_uring(f->loop, f->fd, &backend) < 0) {
		print_message("no io_uring here: the pool twice\n");
	}
	if (backend == NULL) {
		assert_int_equal(hk_blk_open_pool(f->loop, f->fd, &backend, NULL), 0);
	}
	backend->size_bytes = DISK_BYTES;
	backend->can_discard = true;
	return backend;
}

static void begin_loop(struct fixture *f)
{
	memset(f, 0, sizeof(*f));
	assert_int_equal(hk_loop_create(&f->loop, NULL), 0);
}

static struct hk_virtio *make_device(
	struct hk_blk_backend *backend, bool read_only, unsigned queue_count)
{
	struct hk_blk_config config = {
		.backend = backend,
		.read_only = read_only,
		.serial = "hako-disk-0123456789",
		.queue_count = queue_count,
	};
	struct hk_virtio *dev;

	assert_int_equal(hk_blk_create(&config, &dev, NULL), 0);
	return dev;
}

static void begin_device(struct fixture *f, struct hk_blk_backend *backend, bool read_only,
	unsigned queue_count, uint64_t features)
{
	f->dev = make_device(backend, read_only, queue_count);
	vqh_start(&f->h, f->dev, f->loop, features);
	f->header = vqh_alloc(&f->h, HEADER);
	f->data = vqh_alloc(&f->h, DISK_BYTES);
	f->status = vqh_alloc(&f->h, 1);
}

static void begin(struct fixture *f, enum kind kind)
{
	begin_loop(f);
	begin_device(f, make_backend(f, kind), false, 1, usual_features);
}

static void finish(struct fixture *f)
{
	vqh_finish(&f->h);
	hk_virtio_destroy(f->dev);
	hk_loop_destroy(f->loop);
}

static void write_header(struct fixture *f, hk_gpa at, uint32_t type, uint64_t sector)
{
	uint8_t *header = vqh_at(&f->h, at, HEADER);

	hk_store_le32(header, type);
	hk_store_le32(header + 4, 0);
	hk_store_le64(header + 8, sector);
}

static struct vqd_used wait_used(struct fixture *f, unsigned queue)
{
	struct vqd_used used;

	for (unsigned i = 0; i < 1000; i++) {
		if (vqd_take(&f->h.queues[queue], &used)) {
			return used;
		}
		assert_int_equal(hk_loop_run_once(f->loop, 100), 0);
	}
	fail_msg("a request was never answered");
	return used;
}

/* One request with data in one piece, at f->data. Return: its status. */
static uint8_t request(struct fixture *f, uint32_t type, uint64_t sector, uint32_t len)
{
	bool to_guest = type == T_IN || type == T_GET_ID;
	struct vqd_buf bufs[3] = {{f->header, HEADER, false}};
	unsigned count = 1;
	uint8_t *status = vqh_at(&f->h, f->status, 1);
	struct vqd_used used;

	write_header(f, f->header, type, sector);
	*status = S_NONE;
	if (len > 0) {
		bufs[count++] = (struct vqd_buf){f->data, len, to_guest};
	}
	bufs[count++] = (struct vqd_buf){f->status, 1, true};
	assert_true(vqd_add(&f->h.queues[0], bufs, count, 0) >= 0);
	vqh_kick(&f->h, 0);
	used = wait_used(f, 0);
	if (*status == S_OK && to_guest) {
		assert_int_equal(used.len, (type == T_IN ? len : HK_MIN(len, 20)) + 1);
	} else {
		assert_int_equal(used.len, to_guest && len > 0 ? 0 : 1);
	}
	return *status;
}

static uint8_t *data_at(struct fixture *f)
{
	return vqh_at(&f->h, f->data, DISK_BYTES);
}

static void expect_disk(struct fixture *f, uint64_t sector, uint32_t len, uint8_t byte)
{
	uint8_t *data = data_at(f);

	memset(data, ~byte, len);
	assert_int_equal(request(f, T_IN, sector, len), S_OK);
	for (uint32_t i = 0; i < len; i++) {
		assert_int_equal(data[i], byte);
	}
}

static void fill_disk(struct fixture *f, uint64_t sector, uint32_t len, uint8_t byte)
{
	memset(data_at(f), byte, len);
	assert_int_equal(request(f, T_OUT, sector, len), S_OK);
}

static void test_read_write(void **state)
{
	static const struct {
		uint64_t sector;
		uint32_t len;
	} cases[] = {
		{0, SECTOR},
		{1, 4096},
		{DISK_SECTORS - 1, SECTOR},
		{7, 64 * 1024},
		{0, DISK_BYTES},
	};

	for (enum kind kind = 0; kind < KINDS; kind++) {
		struct fixture f;

		print_message("%s\n", kind_names[kind]);
		begin(&f, kind);
		expect_disk(&f, 0, DISK_BYTES, 0);
		for (unsigned i = 0; i < HK_ARRAY_SIZE(cases); i++) {
			fill_disk(&f, cases[i].sector, cases[i].len, (uint8_t)(i + 1));
			assert_int_equal(request(&f, T_FLUSH, 0, 0), S_OK);
			expect_disk(&f, cases[i].sector, cases[i].len, (uint8_t)(i + 1));
		}
		assert_true(f.h.interrupts > 0);
		assert_false(vqh_needs_reset(&f.h));
		finish(&f);
	}
}

/* What does not make sense gets a status, and changes nothing. */
static void test_bad_requests(void **state)
{
	static const struct {
		const char *what;
		uint32_t type;
		uint64_t sector;
		uint32_t len;
		uint8_t status;
	} cases[] = {
		{"read beyond the end", T_IN, DISK_SECTORS, SECTOR, S_IOERR},
		{"read across the end", T_IN, DISK_SECTORS - 1, 2 * SECTOR, S_IOERR},
		{"write across the end", T_OUT, DISK_SECTORS - 1, 2 * SECTOR, S_IOERR},
		{"sector that wraps", T_OUT, UINT64_MAX, SECTOR, S_IOERR},
		{"byte offset that wraps", T_OUT, UINT64_C(1) << 55, SECTOR, S_IOERR},
		{"part of a sector", T_IN, 0, 100, S_IOERR},
		{"more than a sector", T_OUT, 0, SECTOR + 1, S_IOERR},
		{"no data to read", T_IN, 0, 0, S_OK},
		{"no data to write", T_OUT, 0, 0, S_OK},
		{"no data at the end", T_IN, DISK_SECTORS, 0, S_OK},
		{"no data beyond the end", T_IN, DISK_SECTORS + 1, 0, S_IOERR},
		{"SCSI", 2, 0, SECTOR, S_UNSUPP},
		{"secure erase", 14, 0, 16, S_UNSUPP},
		{"no such type", UINT32_MAX, 0, 0, S_UNSUPP},
		{"flush with data", T_FLUSH, 0, SECTOR, S_OK},
		{"discard of nothing", T_DISCARD, 0, 0, S_IOERR},
		{"part of a range", T_DISCARD, 0, 15, S_IOERR},
		{"too many ranges", T_WRITE_ZEROES, 0, 17 * 16, S_IOERR},
	};

	for (enum kind kind = 0; kind < KINDS; kind++) {
		struct fixture f;

		begin(&f, kind);
		fill_disk(&f, 0, DISK_BYTES, 0x5a);
		for (unsigned i = 0; i < HK_ARRAY_SIZE(cases); i++) {
			print_message("%s: %s\n", kind_names[kind], cases[i].what);
			memset(data_at(&f), 0xee, 64 * 1024);
			assert_int_equal(request(&f, cases[i].type, cases[i].sector, cases[i].len),
				cases[i].status);
		}
		expect_disk(&f, 0, DISK_BYTES, 0x5a);
		assert_false(vqh_needs_reset(&f.h));
		finish(&f);
	}
}

struct test_range {
	uint64_t sector;
	uint32_t count;
	uint32_t flags;
};

static uint8_t range_request(
	struct fixture *f, uint32_t type, const struct test_range *ranges, unsigned count)
{
	for (unsigned i = 0; i < count; i++) {
		uint8_t *raw = data_at(f) + i * 16;

		hk_store_le64(raw, ranges[i].sector);
		hk_store_le32(raw + 8, ranges[i].count);
		hk_store_le32(raw + 12, ranges[i].flags);
	}
	return request(f, type, 0, count * 16);
}

static void test_ranges(void **state)
{
	static const struct {
		const char *what;
		uint32_t type;
		struct test_range ranges[3];
		unsigned count;
		uint8_t status;
	} cases[] = {
		{"zeros", T_WRITE_ZEROES, {{8, 8, 0}}, 1, S_OK},
		{"zeros that may unmap", T_WRITE_ZEROES, {{8, 8, 1}}, 1, S_OK},
		{"discard", T_DISCARD, {{8, 8, 0}}, 1, S_OK},
		{"several", T_WRITE_ZEROES, {{8, 8, 0}, {64, 1, 1}, {100, 300, 0}}, 3, S_OK},
		{"all", T_WRITE_ZEROES, {{0, DISK_SECTORS, 0}}, 1, S_OK},
		{"an odd tail", T_WRITE_ZEROES, {{3, 2049 + 5, 0}}, 1, S_OK},
		{"none", T_WRITE_ZEROES, {{8, 0, 0}}, 1, S_OK},
		{"none between others", T_DISCARD, {{8, 8, 0}, {9, 0, 0}, {32, 8, 0}}, 3, S_OK},
		{"beyond the end", T_WRITE_ZEROES, {{DISK_SECTORS, 1, 0}}, 1, S_IOERR},
		{"the last is bad", T_DISCARD, {{8, 8, 0}, {DISK_SECTORS - 1, 2, 0}}, 2, S_IOERR},
		{"wraps", T_WRITE_ZEROES, {{UINT64_MAX, 2, 0}}, 1, S_IOERR},
		{"too long", T_WRITE_ZEROES, {{0, UINT32_MAX, 0}}, 1, S_IOERR},
		{"discard with unmap", T_DISCARD, {{8, 8, 1}}, 1, S_UNSUPP},
		{"unknown flags", T_WRITE_ZEROES, {{8, 8, 2}}, 1, S_UNSUPP},
	};
	static uint8_t expected[DISK_BYTES];

	for (enum kind kind = 0; kind < KINDS; kind++) {
		struct fixture f;

		begin(&f, kind);
		for (unsigned i = 0; i < HK_ARRAY_SIZE(cases); i++) {
			print_message("%s: %s\n", kind_names[kind], cases[i].what);
			fill_disk(&f, 0, DISK_BYTES, 0x5a);
			assert_int_equal(
				range_request(&f, cases[i].type, cases[i].ranges, cases[i].count),
				cases[i].status);
			memset(expected, 0x5a, sizeof(expected));
			for (unsigned k = 0; cases[i].status == S_OK && k < cases[i].count; k++) {
				memset(expected + cases[i].ranges[k].sector * SECTOR, 0,
					(size_t)cases[i].ranges[k].count * SECTOR);
			}
			/* All our backends give zeros after a discard too. */
			assert_int_equal(request(&f, T_IN, 0, DISK_BYTES), S_OK);
			assert_memory_equal(data_at(&f), expected, sizeof(expected));
		}
		if (f.fd >= 0) {
			struct stat st;

			fstat(f.fd, &st);
			assert_int_equal(st.st_size, DISK_BYTES);
		}
		finish(&f);
	}
}

static void test_ranges_not_negotiated(void **state)
{
	static const struct test_range range = {8, 8, 0};
	struct fixture f;

	begin_loop(&f);
	begin_device(&f, make_backend(&f, MEMORY), false, 1, F_FLUSH);
	assert_int_equal(range_request(&f, T_DISCARD, &range, 1), S_UNSUPP);
	assert_int_equal(range_request(&f, T_WRITE_ZEROES, &range, 1), S_UNSUPP);
	finish(&f);
}

static void test_read_only(void **state)
{
	static const struct test_range range = {8, 8, 0};
	struct fixture f;

	begin_loop(&f);
	f.dev = make_device(make_backend(&f, MEMORY), true, 1);
	assert_true((f.dev->offered & F_RO) != 0);
	assert_true((f.dev->offered & (F_DISCARD | F_WRITE_ZEROES)) == 0);
	vqh_start(&f.h, f.dev, f.loop, F_RO | F_FLUSH);
	f.header = vqh_alloc(&f.h, HEADER);
	f.data = vqh_alloc(&f.h, DISK_BYTES);
	f.status = vqh_alloc(&f.h, 1);
	assert_int_equal(request(&f, T_OUT, 0, SECTOR), S_IOERR);
	assert_int_equal(range_request(&f, T_DISCARD, &range, 1), S_IOERR);
	assert_int_equal(range_request(&f, T_WRITE_ZEROES, &range, 1), S_IOERR);
	assert_int_equal(request(&f, T_FLUSH, 0, 0), S_OK);
	expect_disk(&f, 0, DISK_BYTES, 0);
	finish(&f);
}

static void test_get_id(void **state)
{
	static const uint32_t lengths[] = {20, 10, 64, 0};
	struct fixture f;

	begin(&f, MEMORY);
	for (unsigned i = 0; i < HK_ARRAY_SIZE(lengths); i++) {
		memset(data_at(&f), 0xee, 100);
		assert_int_equal(request(&f, T_GET_ID, 0, lengths[i]), S_OK);
		assert_memory_equal(data_at(&f), "hako-disk-0123456789", HK_MIN(lengths[i], 20));
		assert_int_equal(data_at(&f)[HK_MIN(lengths[i], 20)], 0xee);
	}
	finish(&f);
}

static void test_config(void **state)
{
	struct fixture f;

	begin_loop(&f);
	begin_device(&f, make_backend(&f, MEMORY), false, 3, usual_features);
	assert_int_equal(vqh_config(&f.h, 0, 4), DISK_SECTORS);
	assert_int_equal(vqh_config(&f.h, 4, 4), 0);
	assert_int_equal(vqh_config(&f.h, 12, 4), SEG_MAX);
	assert_int_equal(vqh_config(&f.h, 20, 4), SECTOR);
	assert_int_equal(vqh_config(&f.h, 24, 1), 3);
	assert_int_equal(vqh_config(&f.h, 34, 2), 3);
	assert_int_equal(vqh_config(&f.h, 40, 4), 16);
	assert_int_equal(vqh_config(&f.h, 52, 4), 16);
	assert_int_equal(vqh_config(&f.h, 56, 1), 1);
	finish(&f);
}

/* The same read and write, however the driver cuts it into segments. */
static void test_segments(void **state)
{
	static const struct {
		const char *what;
		unsigned header[3];  /* lengths that sum to 16, or with the data behind; 0 ends */
		unsigned segments;   /* of the data */
		bool status_in_data; /* the status byte follows the last segment */
	} cases[] = {
		{"plain", {16}, 1, false},
		{"header in two", {7, 9}, 1, false},
		{"header in three", {1, 14, 1}, 2, false},
		{"status in the data's segment", {16}, 1, true},
		{"64 segments", {16}, 62, false},
		{"the most segments", {16}, SEG_MAX, false},
	};

	for (enum kind kind = 0; kind < KINDS; kind++) {
		struct fixture f;

		begin(&f, kind);
		for (unsigned i = 0; i < HK_ARRAY_SIZE(cases) * 2; i++) {
			bool is_read = i % 2 != 0;
			unsigned segments = cases[i / 2].segments, count = 0;
			struct vqd_buf bufs[QUEUE_SIZE];
			uint8_t *data = data_at(&f);
			uint8_t *status;
			hk_gpa at = f.header;

			print_message("%s: %s\n", kind_names[kind], cases[i / 2].what);
			write_header(&f, f.header, is_read ? T_IN : T_OUT, 5);
			for (unsigned k = 0; k < 3 && cases[i / 2].header[k] > 0; k++) {
				bufs[count++] = (struct vqd_buf){at, cases[i / 2].header[k], false};
				at += cases[i / 2].header[k];
			}
			for (unsigned k = 0; k < segments; k++) {
				/* Not contiguous, and in the other order. */
				bufs[count++] = (struct vqd_buf){
					f.data + (segments - 1 - k) * 2048, SECTOR, is_read};
				for (unsigned b = 0; b < SECTOR; b++) {
					data[(segments - 1 - k) * 2048 + b] =
						is_read ? 0 : (uint8_t)(k * 3 + b);
				}
			}
			status = vqh_at(&f.h, f.status, 1);
			if (cases[i / 2].status_in_data && is_read) {
				bufs[count - 1].len++;
				status = data + SECTOR;
			} else {
				bufs[count++] = (struct vqd_buf){f.status, 1, true};
			}
			*status = S_NONE;
			assert_true(vqd_add(&f.h.queues[0], bufs, count, 0) >= 0);
			vqh_kick(&f.h, 0);
			wait_used(&f, 0);
			assert_int_equal(*status, S_OK);
			for (unsigned k = 0; is_read && k < segments; k++) {
				for (unsigned b = 0; b < SECTOR; b++) {
					assert_int_equal(data[(segments - 1 - k) * 2048 + b],
						(uint8_t)(k * 3 + b));
				}
			}
		}
		finish(&f);
	}
}

/* Chains that cannot be answered. */
static void test_hostile_chains(void **state)
{
	static const struct {
		const char *what;
		struct vqd_buf bufs[2];
		unsigned count;
	} cases[] = {
		{"no status", {{0, HEADER, false}}, 1},
		{"no header", {{0, 100, true}}, 1},
		{"short header", {{0, HEADER - 1, false}, {64, 1, true}}, 2},
	};

	for (unsigned i = 0; i < HK_ARRAY_SIZE(cases); i++) {
		struct vqd_buf bufs[2];
		struct fixture f;

		print_message("%s\n", cases[i].what);
		begin(&f, MEMORY);
		for (unsigned k = 0; k < cases[i].count; k++) {
			bufs[k] = cases[i].bufs[k];
			bufs[k].gpa += f.data;
		}
		assert_true(vqd_add(&f.h.queues[0], bufs, cases[i].count, 0) >= 0);
		vqh_kick(&f.h, 0);
		assert_true(vqh_needs_reset(&f.h));
		finish(&f);
	}
}

/* The ring claims more than it holds while all requests are in use. */
static void test_index_jump(void **state)
{
	struct fixture f;

	begin(&f, MEMORY);
	vqd_raw_avail_idx(&f.h.queues[0], QUEUE_SIZE + 1);
	vqh_kick(&f.h, 0);
	assert_true(vqh_needs_reset(&f.h));
	finish(&f);
}

static void test_many_in_flight(void **state)
{
	enum { QUEUES = 3, DEEP = QUEUE_SIZE };

	for (enum kind kind = 0; kind < KINDS; kind++) {
		struct fixture f;
		hk_gpa headers, statuses;
		unsigned taken = 0;

		begin_loop(&f);
		begin_device(&f, make_backend(&f, kind), false, QUEUES, usual_features);
		headers = vqh_alloc(&f.h, QUEUES * DEEP * HEADER);
		statuses = vqh_alloc(&f.h, QUEUES * DEEP);
		for (unsigned i = 0; i < QUEUES * DEEP; i++) {
			struct vqd_buf bufs[] = {
				{headers + i * HEADER, HEADER, false},
				{f.data + i * SECTOR, SECTOR, false},
				{statuses + i, 1, true},
			};

			memset(data_at(&f) + (size_t)i * SECTOR, (int)(i * 7), SECTOR);
			write_header(&f, headers + i * HEADER, T_OUT, i);
			*(uint8_t *)vqh_at(&f.h, statuses + i, 1) = S_NONE;
			assert_true(vqd_add(&f.h.queues[i % QUEUES], bufs, 3, i) >= 0);
		}
		for (unsigned q = 0; q < QUEUES; q++) {
			vqh_kick(&f.h, q);
		}
		for (unsigned q = 0; q < QUEUES; q++) {
			for (unsigned i = 0; i < DEEP; i++) {
				struct vqd_used used = wait_used(&f, q);

				assert_int_equal(
					*(uint8_t *)vqh_at(&f.h, statuses + used.token, 1), S_OK);
				taken++;
			}
		}
		assert_int_equal(taken, QUEUES * DEEP);
		/* Batches, not one interrupt for each. */
		assert_true(f.h.interrupts < QUEUES * DEEP);
		memset(data_at(&f), 0, DISK_BYTES);
		assert_int_equal(request(&f, T_IN, 0, QUEUES * DEEP * SECTOR), S_OK);
		for (unsigned i = 0; i < QUEUES * DEEP; i++) {
			assert_int_equal(data_at(&f)[i * SECTOR], (uint8_t)(i * 7));
		}
		finish(&f);
	}
}

/* Each operation in turn fails, and only that one. */
static void test_backend_fails(void **state)
{
	static const struct {
		enum hk_blk_op op;
		uint32_t type;
		uint32_t len;
	} cases[] = {
		{HK_BLK_READ, T_IN, SECTOR},
		{HK_BLK_WRITE, T_OUT, SECTOR},
		{HK_BLK_FLUSH, T_FLUSH, 0},
		{HK_BLK_DISCARD, T_DISCARD, 16},
		{HK_BLK_WRITE_ZEROES, T_WRITE_ZEROES, 16},
	};

	for (unsigned i = 0; i < HK_ARRAY_SIZE(cases); i++) {
		for (uint64_t nth = 1; nth <= 3; nth++) {
			struct hk_blk_backend *backend;
			struct fixture f;

			begin_loop(&f);
			assert_int_equal(hk_blk_open_fault(make_backend(&f, POOL), cases[i].op, nth,
						 nth == 2 ? EOPNOTSUPP : EIO, &backend, NULL),
				0);
			begin_device(&f, backend, false, 1, usual_features);
			for (uint64_t k = 1; k <= 4; k++) {
				uint8_t expected = k != nth ? S_OK : k == 2 ? S_UNSUPP : S_IOERR;

				memset(data_at(&f), 0, 16);
				hk_store_le32(data_at(&f) + 8, 1);
				assert_int_equal(
					request(&f, cases[i].type, 0, cases[i].len), expected);
			}
			assert_false(vqh_needs_reset(&f.h));
			finish(&f);
		}
	}
}

/* A driver without F_FLUSH: a write is done when it is stable. */
static void test_writethrough(void **state)
{
	static const struct test_range ranges[] = {{8, 8, 0}, {32, 8, 0}};
	static const uint64_t features[] = {
		F_DISCARD | F_WRITE_ZEROES,
		F_DISCARD | F_WRITE_ZEROES | F_FLUSH,
	};

	for (unsigned i = 0; i < HK_ARRAY_SIZE(features); i++) {
		uint8_t expected = (features[i] & F_FLUSH) != 0 ? S_OK : S_IOERR;

		for (uint64_t nth = 1; nth <= 2; nth++) {
			struct hk_blk_backend *backend;
			struct fixture f;

			begin_loop(&f);
			assert_int_equal(hk_blk_open_fault(make_backend(&f, POOL), HK_BLK_FLUSH,
						 nth, EIO, &backend, NULL),
				0);
			begin_device(&f, backend, false, 1, features[i]);
			assert_int_equal(request(&f, T_IN, 0, SECTOR), S_OK);
			if (nth == 2) {
				assert_int_equal(request(&f, T_OUT, 0, SECTOR), S_OK);
			}
			assert_int_equal(range_request(&f, T_WRITE_ZEROES, ranges, 2), expected);
			finish(&f);
		}
	}
}

/* What the engine is told of in f->data and after, byte by byte. */
static struct {
	struct hk_mem_watcher watcher;
	const struct fixture *f;
	uint32_t data_bytes;
	bool status;
} told;

static void note_written(struct hk_mem_watcher *watcher, hk_gpa gpa, uint64_t len)
{
	(void)watcher;
	if (gpa == told.f->status) {
		assert_int_equal(len, 1);
		assert_int_not_equal(*(uint8_t *)hk_mem_at(&told.f->h.mem, gpa, 1), S_NONE);
		told.status = true;
	} else {
		assert_int_equal(gpa, told.f->data + told.data_bytes);
		told.data_bytes += (uint32_t)len;
	}
}

/* Of data and status; of what a transfer that then failed has written, too. */
static void test_engine_is_told(void **state)
{
	static const struct {
		uint32_t type;
		uint64_t sector;
		uint32_t len;
		uint8_t status;
		uint32_t told_bytes;
	} cases[] = {
		{T_IN, 0, 8 * SECTOR, S_OK, 8 * SECTOR},
		{T_OUT, 0, 8 * SECTOR, S_OK, 0},
		{T_FLUSH, 0, 0, S_OK, 0},
		{T_GET_ID, 0, 20, S_OK, 20},
		{T_IN, DISK_SECTORS, SECTOR, S_IOERR, SECTOR},
		{T_IN, DISK_SECTORS / 2 - 1, 2 * SECTOR, S_IOERR, 2 * SECTOR},
	};

	for (enum kind kind = URING; kind < KINDS; kind++) {
		struct fixture f;

		begin(&f, kind);
		told.watcher.written = note_written;
		told.f = &f;
		f.h.mem.watcher = &told.watcher;
		/* The last case comes back short, and then fails. */
		assert_int_equal(ftruncate(f.fd, DISK_BYTES / 2 + 100), 0);
		for (unsigned i = 0; i < HK_ARRAY_SIZE(cases); i++) {
			told.data_bytes = 0;
			told.status = false;
			assert_int_equal(request(&f, cases[i].type, cases[i].sector, cases[i].len),
				cases[i].status);
			assert_true(told.status);
			assert_int_equal(told.data_bytes, cases[i].told_bytes);
		}
		finish(&f);
	}
}

static void test_truncated_while_running(void **state)
{
	for (enum kind kind = URING; kind < KINDS; kind++) {
		struct fixture f;

		begin(&f, kind);
		fill_disk(&f, 0, DISK_BYTES, 0x77);
		assert_int_equal(ftruncate(f.fd, DISK_BYTES / 2 + 100), 0);
		assert_int_equal(request(&f, T_IN, DISK_SECTORS - 8, 8 * SECTOR), S_IOERR);
		/* Across the new end, and what is left of it. */
		assert_int_equal(request(&f, T_IN, DISK_SECTORS / 2 - 1, 2 * SECTOR), S_IOERR);
		expect_disk(&f, 0, DISK_BYTES / 2, 0x77);
		assert_false(vqh_needs_reset(&f.h));
		finish(&f);
	}
}

/* Short transfers are gone on with; tables of what the system call said. */
static void test_steps(void **state)
{
	struct iovec iov[3] = {
		{(void *)0x1000, 512}, /* never looked at */
		{(void *)0x2000, 1024},
		{(void *)0x3000, 512},
	};
	struct hk_blk_io io = {
		.op = HK_BLK_READ,
		.iov = iov,
		.iov_count = 3,
		.offset_bytes = 4096,
		.len_bytes = 2048,
	};
	struct hk_blk_step step;

	hk_blk_file_begin(&io);
	assert_int_equal(hk_blk_file_stepped(&io, -EINTR), 1);
	assert_int_equal(hk_blk_file_stepped(&io, 100), 1);
	hk_blk_file_step(&io, &step);
	assert_int_equal(step.call, HK_BLK_CALL_READV);
	assert_int_equal(step.offset_bytes, 4196);
	assert_int_equal(step.iov_count, 3);
	assert_ptr_equal(step.iov[0].iov_base, (void *)0x1064);
	assert_int_equal(step.iov[0].iov_len, 412);
	assert_int_equal(hk_blk_file_stepped(&io, 412 + 1024), 1);
	hk_blk_file_step(&io, &step);
	assert_int_equal(step.iov_count, 1);
	assert_ptr_equal(step.iov[0].iov_base, (void *)0x3000);
	assert_int_equal(step.offset_bytes, 4096 + 1536);
	assert_int_equal(hk_blk_file_stepped(&io, -EIO), -EIO);
	assert_int_equal(hk_blk_file_stepped(&io, 0), -EIO);
	assert_int_equal(hk_blk_file_stepped(&io, 512), 0);
	assert_ptr_equal(iov[0].iov_base, (void *)0x1000);
	assert_int_equal(iov[0].iov_len, 512);

	/* The segments are their owner's again, however it ends. */
	io = (struct hk_blk_io){.op = HK_BLK_READ, .iov = iov, .iov_count = 3, .len_bytes = 2048};
	hk_blk_file_begin(&io);
	assert_int_equal(hk_blk_file_stepped(&io, 512 + 100), 1);
	assert_int_equal(hk_blk_file_stepped(&io, 100), 1);
	assert_ptr_equal(iov[1].iov_base, (void *)(0x2000 + 200));
	assert_int_equal(iov[1].iov_len, 1024 - 200);
	assert_int_equal(hk_blk_file_stepped(&io, -EIO), -EIO);
	assert_ptr_equal(iov[1].iov_base, (void *)0x2000);
	assert_int_equal(iov[1].iov_len, 1024);

	io = (struct hk_blk_io){.op = HK_BLK_WRITE_ZEROES, .len_bytes = 17 * 64 * 1024 + 1024};
	hk_blk_file_begin(&io);
	hk_blk_file_step(&io, &step);
	assert_int_equal(step.call, HK_BLK_CALL_FALLOCATE);
	assert_int_equal(hk_blk_file_stepped(&io, -EIO), -EIO);
	assert_int_equal(hk_blk_file_stepped(&io, -EOPNOTSUPP), 1);
	hk_blk_file_step(&io, &step);
	assert_int_equal(step.call, HK_BLK_CALL_WRITEV);
	assert_int_equal(step.iov_count, 16);
	assert_int_equal(hk_blk_file_stepped(&io, 1024 * 1024 - 512), 1);
	hk_blk_file_step(&io, &step);
	assert_int_equal(step.iov_count, 1);
	assert_int_equal(step.offset_bytes, 1024 * 1024 - 512);
	assert_int_equal(hk_blk_file_stepped(&io, 64 * 1024), 1);
	hk_blk_file_step(&io, &step);
	assert_ptr_equal(step.iov, &step.one);
	assert_int_equal(step.one.iov_len, 1536);
	assert_int_equal(hk_blk_file_stepped(&io, 1536), 0);
	assert_int_equal(hk_blk_file_stepped(&io, -EOPNOTSUPP), -EOPNOTSUPP);

	io = (struct hk_blk_io){.op = HK_BLK_DISCARD, .len_bytes = 4096};
	assert_int_equal(hk_blk_file_stepped(&io, -EOPNOTSUPP), 0);
	assert_int_equal(hk_blk_file_stepped(&io, -ENOSPC), -ENOSPC);
	io.op = HK_BLK_FLUSH;
	assert_int_equal(hk_blk_file_stepped(&io, -EIO), -EIO);
	assert_int_equal(hk_blk_file_stepped(&io, 0), 0);
}

static void test_open_refuses(void **state)
{
	static const struct {
		const char *what;
		off_t size;
		int flags;
		bool read_only;
		int error;
		const char *says;
	} cases[] = {
		{"empty", 0, O_RDWR, false, EINVAL, "empty"},
		{"odd size", 1000, O_RDWR, false, EINVAL, "no multiple of 512"},
		{"not writable", 4096, O_RDONLY, false, EBADF, "not open for reading and writing"},
		{"write only", 4096, O_WRONLY, false, EBADF, "not open for reading and writing"},
		{"read only", 4096, O_RDONLY, true, 0, ""},
		{"all in order", 4096, O_RDWR, false, 0, ""},
	};
	struct hk_blk_backend *backend;
	struct hk_err err = HK_ERR_INIT;
	struct fixture f;
	int pipes[2];

	begin_loop(&f);
	for (unsigned i = 0; i < HK_ARRAY_SIZE(cases); i++) {
		char path[] = "/tmp/hako-blk-XXXXXX";
		int fd = mkostemp(path, O_CLOEXEC);

		print_message("%s\n", cases[i].what);
		assert_int_equal(ftruncate(fd, cases[i].size), 0);
		close(fd);
		fd = open(path, cases[i].flags | O_CLOEXEC);
		unlink(path);
		err = HK_ERR_INIT;
		assert_int_equal(hk_blk_open_file(f.loop, fd, cases[i].read_only, &backend, &err),
			-cases[i].error);
		if (cases[i].error == 0) {
			hk_blk_backend_destroy(backend);
		}
		assert_non_null(strstr(hk_err_text(&err), cases[i].says));
		assert_int_equal(fcntl(fd, F_GETFD), -1); /* owned, so closed */
	}
	assert_int_equal(pipe2(pipes, O_CLOEXEC), 0);
	assert_int_equal(hk_blk_open_file(f.loop, pipes[0], true, &backend, &err), -EINVAL);
	assert_non_null(strstr(hk_err_text(&err), "neither a regular file nor a block device"));
	close(pipes[1]);
	assert_int_equal(
		hk_blk_open_file(f.loop, open("/tmp", O_RDONLY | O_CLOEXEC), true, &backend, &err),
		-EINVAL);
	assert_int_equal(hk_blk_open_file(f.loop, -1, true, &backend, &err), -EBADF);
	hk_blk_backend_destroy(NULL);
	hk_loop_destroy(f.loop);
}

/* Whatever the file is on, it is opened with something that works there. */
static void test_open_chooses(void **state)
{
	static const bool tmpfs[] = {true, false};

	for (unsigned i = 0; i < HK_ARRAY_SIZE(tmpfs); i++) {
		struct hk_blk_backend *backend;
		struct fixture f;

		begin_loop(&f);
		f.fd = make_image(tmpfs[i]);
		assert_int_equal(hk_blk_open_file(f.loop, f.fd, false, &backend, NULL), 0);
		assert_int_equal(backend->size_bytes, DISK_BYTES);
		assert_true(backend->can_discard);
		begin_device(&f, backend, false, 1, usual_features);
		fill_disk(&f, 3, 4096, 0x11);
		expect_disk(&f, 3, 4096, 0x11);
		finish(&f);
	}
}

static void test_one_writer(void **state)
{
	static const struct {
		bool first_read_only, second_read_only;
		int error;
	} cases[] = {
		{false, false, EBUSY},
		{false, true, EBUSY},
		{true, false, EBUSY},
		{true, true, 0},
	};
	struct fixture f;

	begin_loop(&f);
	for (unsigned i = 0; i < HK_ARRAY_SIZE(cases); i++) {
		char path[] = "/tmp/hako-blk-XXXXXX";
		int fd = mkostemp(path, O_CLOEXEC);
		struct hk_blk_backend *first, *second;
		struct hk_err err = HK_ERR_INIT;

		assert_int_equal(ftruncate(fd, 4096), 0);
		assert_int_equal(
			hk_blk_open_file(f.loop, fd, cases[i].first_read_only, &first, NULL), 0);
		assert_int_equal(hk_blk_open_file(f.loop, open(path, O_RDWR | O_CLOEXEC),
					 cases[i].second_read_only, &second, &err),
			-cases[i].error);
		hk_blk_backend_destroy(first);
		if (cases[i].error == 0) {
			hk_blk_backend_destroy(second);
		} else {
			assert_string_equal(hk_err_text(&err), "is in use by another process");
			assert_string_not_equal(err.hint, "");
			/* The lock ended with its owner. */
			assert_int_equal(hk_blk_open_file(f.loop, open(path, O_RDWR | O_CLOEXEC),
						 cases[i].second_read_only, &second, &err),
				0);
			hk_blk_backend_destroy(second);
		}
		unlink(path);
	}
	hk_loop_destroy(f.loop);
}

static void test_create_refuses(void **state)
{
	static const unsigned counts[] = {0, 17, UINT32_MAX};

	for (unsigned i = 0; i < HK_ARRAY_SIZE(counts); i++) {
		struct hk_blk_config config = {.queue_count = counts[i]};
		struct hk_err err = HK_ERR_INIT;
		struct hk_virtio *dev;

		assert_int_equal(hk_blk_open_memory(4096, &config.backend, NULL), 0);
		assert_int_equal(hk_blk_create(&config, &dev, &err), -EINVAL);
		assert_non_null(strstr(hk_err_text(&err), "1 to 16"));
	}
}

/* Leaves @count writes of one sector in flight, or done. */
static void start_writes(struct fixture *f, hk_gpa headers, hk_gpa statuses, unsigned count)
{
	for (unsigned i = 0; i < count; i++) {
		struct vqd_buf bufs[] = {
			{headers + i * HEADER, HEADER, false},
			{f->data + i * SECTOR, SECTOR, false},
			{statuses + i, 1, true},
		};

		write_header(f, headers + i * HEADER, T_OUT, i);
		assert_true(vqd_add(&f->h.queues[0], bufs, 3, i) >= 0);
	}
	vqh_kick(&f->h, 0);
}

static void test_save_in_flight(void **state)
{
	enum { COUNT = 100 };

	for (enum kind kind = 0; kind < KINDS; kind++) {
		struct fixture f;
		struct hk_blk_backend *backend;
		struct hk_virtio *fresh;
		struct vqd_used used;
		hk_gpa headers, statuses;
		int image = -1;

		begin(&f, kind);
		headers = vqh_alloc(&f.h, COUNT * HEADER);
		statuses = vqh_alloc(&f.h, COUNT);
		memset(data_at(&f), 0x33, COUNT * SECTOR);
		start_writes(&f, headers, statuses, COUNT);
		if (kind == MEMORY) {
			assert_int_equal(hk_blk_open_memory(DISK_BYTES, &backend, NULL), 0);
		} else {
			/* The same file, and with it the same lock. */
			image = dup(f.fd);
			assert_int_equal(hk_blk_open_file(f.loop, image, false, &backend, NULL), 0);
		}
		fresh = make_device(backend, false, 1);
		assert_true(vqh_move(&f.h, fresh));
		hk_virtio_destroy(f.dev);
		f.dev = fresh;
		for (unsigned i = 0; i < COUNT; i++) {
			assert_true(vqd_take(&f.h.queues[0], &used));
			assert_int_equal(*(uint8_t *)vqh_at(&f.h, statuses + used.token, 1), S_OK);
		}
		assert_false(vqd_take(&f.h.queues[0], &used));
		expect_disk(&f, 0, COUNT * SECTOR, kind == MEMORY ? 0 : 0x33);
		finish(&f);
	}
}

static void test_restore_refuses(void **state)
{
	static const struct {
		uint64_t size_bytes;
		bool read_only;
		const char *serial;
		bool good;
	} cases[] = {
		{DISK_BYTES, false, "hako-disk-0123456789", true},
		{DISK_BYTES + SECTOR, false, "hako-disk-0123456789", false},
		{DISK_BYTES, true, "hako-disk-0123456789", false},
		{DISK_BYTES, false, "another-disk-0123456", false},
	};

	for (unsigned i = 0; i < HK_ARRAY_SIZE(cases); i++) {
		struct hk_blk_config config = {
			.read_only = cases[i].read_only,
			.queue_count = 1,
		};
		struct hk_virtio *other;
		struct hk_writer w = {0};
		struct hk_reader r;
		struct fixture f;

		begin(&f, MEMORY);
		memcpy(config.serial, cases[i].serial, sizeof(config.serial));
		assert_int_equal(hk_blk_open_memory(cases[i].size_bytes, &config.backend, NULL), 0);
		assert_int_equal(hk_blk_create(&config, &other, NULL), 0);
		f.dev->ops->save(f.dev, &w);
		hk_reader_init(&r, w.data, w.len);
		other->ops->restore(other, &r);
		assert_int_equal(r.error == 0, cases[i].good);
		hk_reader_init(&r, w.data, w.len - 1);
		other->ops->restore(other, &r);
		assert_int_not_equal(r.error, 0);
		hk_writer_finish(&w);
		hk_virtio_destroy(other);
		finish(&f);
	}
}

static void test_pause(void **state)
{
	struct fixture f;
	struct vqd_used used;
	hk_gpa headers, statuses;

	begin(&f, POOL);
	headers = vqh_alloc(&f.h, HEADER);
	statuses = vqh_alloc(&f.h, 1);
	pthread_mutex_lock(&f.dev->lock);
	f.dev->ops->quiesce(f.dev);
	pthread_mutex_unlock(&f.dev->lock);
	start_writes(&f, headers, statuses, 1);
	for (unsigned i = 0; i < 5; i++) {
		hk_loop_run_once(f.loop, 1);
	}
	assert_false(vqd_take(&f.h.queues[0], &used));
	pthread_mutex_lock(&f.dev->lock);
	f.dev->ops->resume(f.dev);
	pthread_mutex_unlock(&f.dev->lock);
	vqh_kick(&f.h, 0); /* as the transport does */
	wait_used(&f, 0);
	finish(&f);
}

static void *reset(void *argument)
{
	vqh_write(argument, HK_MMIO_STATUS, 0);
	return NULL;
}

/* A vCPU resets the device with requests in flight: afterwards its memory is left alone. */
static void test_reset_in_flight(void **state)
{
	enum { COUNT = 200 };

	for (enum kind kind = URING; kind < KINDS; kind++) {
		struct fixture f;
		hk_gpa headers, statuses;
		uint8_t *status;
		pthread_t thread;

		begin(&f, kind);
		headers = vqh_alloc(&f.h, COUNT * HEADER);
		statuses = vqh_alloc(&f.h, COUNT);
		status = vqh_at(&f.h, statuses, COUNT);
		memset(status, S_NONE, COUNT);
		start_writes(&f, headers, statuses, COUNT);
		assert_int_equal(pthread_create(&thread, NULL, reset, &f.h), 0);
		pthread_join(thread, NULL);
		for (unsigned i = 0; i < COUNT; i++) {
			assert_int_equal(status[i], S_OK);
		}
		memset(status, S_NONE, COUNT);
		for (unsigned i = 0; i < 5; i++) {
			hk_loop_run_once(f.loop, 1);
		}
		for (unsigned i = 0; i < COUNT; i++) {
			assert_int_equal(status[i], S_NONE);
		}
		/* And again from the start. */
		assert_true(vqh_negotiate(&f.h, usual_features));
		vqh_setup_queue(&f.h, 0, QUEUE_SIZE);
		vqh_driver_ok(&f.h);
		fill_disk(&f, 0, SECTOR, 1);
		finish(&f);
	}
}

enum phase { OPENING, USING, PHASES };

/* Three rounds of everything, each of which may fail. */
static void use(struct fixture *f)
{
	static const struct test_range range = {8, 4000, 0};

	for (unsigned i = 0; i < 3; i++) {
		uint8_t statuses[] = {
			request(f, T_OUT, 0, 4096),
			request(f, T_FLUSH, 0, 0),
			range_request(f, T_WRITE_ZEROES, &range, 1),
			request(f, T_IN, 8, 4096),
		};

		for (unsigned k = 0; k < HK_ARRAY_SIZE(statuses); k++) {
			assert_true(statuses[k] == S_OK || statuses[k] == S_IOERR);
		}
	}
}

static int open_device(struct fixture *f, bool pool, struct hk_err *err)
{
	struct hk_blk_config config = {.queue_count = 2};
	struct stat st;
	int r;

	f->fd = make_image(pool);
	if (!pool) {
		r = hk_blk_open_file(f->loop, f->fd, false, &config.backend, err);
	} else {
		r = hk_blk_open_pool(f->loop, f->fd, &config.backend, err);
		if (r == 0) {
			config.backend->size_bytes = DISK_BYTES;
		} else {
			close(f->fd);
		}
	}
	if (r == 0) {
		r = hk_blk_create(&config, &f->dev, err);
	}
	assert_int_equal(fstat(f->fd, &st), r == 0 ? 0 : -1);
	return r;
}

/*
 * Opens, uses and closes a disk while one thing fails in @phase; nothing may crash, hang or leak.
 * Return: did it come to that?
 */
static bool live(uint64_t nth, unsigned fault_kind, enum phase phase, bool pool)
{
	struct hk_err err = HK_ERR_INIT;
	struct fixture f;
	bool fired;
	int r;

	begin_loop(&f);
	hk_fault_arm(phase == OPENING ? fault_kind : 0, phase == OPENING ? nth : 0);
	r = open_device(&f, pool, &err);
	fired = phase == OPENING && hk_fault_fired();
	hk_fault_arm(0, 0);
	if (r < 0) {
		assert_string_not_equal(hk_err_text(&err), "");
		hk_loop_destroy(f.loop);
		return fired;
	}
	vqh_start(&f.h, f.dev, f.loop, F_FLUSH | F_WRITE_ZEROES);
	f.header = vqh_alloc(&f.h, HEADER);
	f.data = vqh_alloc(&f.h, DISK_BYTES);
	f.status = vqh_alloc(&f.h, 1);
	if (phase == USING) {
		hk_fault_arm(fault_kind, nth);
		use(&f);
		fired = hk_fault_fired();
		hk_fault_arm(0, 0);
	}
	fill_disk(&f, 0, SECTOR, 1);
	expect_disk(&f, 0, SECTOR, 1);
	finish(&f);
	return fired;
}

static void test_every_fault(void **state)
{
	static const struct {
		unsigned kind;
		enum phase phase;
		uint64_t at_least; /* that many places to fail */
	} cases[] = {
		{HK_FAULT_ALLOC, OPENING, 4},
		{HK_FAULT_SYSCALL, OPENING, 1},
		{HK_FAULT_ALLOC, USING, 0},
		{HK_FAULT_SYSCALL, USING, 12},
	};

	for (unsigned i = 0; i < HK_ARRAY_SIZE(cases) * 2; i++) {
		uint64_t n = 1;

		while (live(n, cases[i / 2].kind, cases[i / 2].phase, i % 2 != 0)) {
			n++;
			assert_true(n < 200);
		}
		assert_true(n > cases[i / 2].at_least);
	}
	for (uint64_t n = 1; n <= 3; n++) {
		struct hk_blk_backend *inner, *outer;
		int r;

		hk_fault_arm(HK_FAULT_ALLOC, n);
		r = hk_blk_open_memory(4096, &inner, NULL);
		if (r == 0) {
			r = hk_blk_open_fault(inner, HK_BLK_READ, 1, EIO, &outer, NULL);
		}
		hk_fault_arm(0, 0);
		assert_int_equal(r, -ENOMEM);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_read_write),
		cmocka_unit_test(test_bad_requests),
		cmocka_unit_test(test_ranges),
		cmocka_unit_test(test_ranges_not_negotiated),
		cmocka_unit_test(test_read_only),
		cmocka_unit_test(test_get_id),
		cmocka_unit_test(test_config),
		cmocka_unit_test(test_segments),
		cmocka_unit_test(test_hostile_chains),
		cmocka_unit_test(test_index_jump),
		cmocka_unit_test(test_many_in_flight),
		cmocka_unit_test(test_backend_fails),
		cmocka_unit_test(test_writethrough),
		cmocka_unit_test(test_engine_is_told),
		cmocka_unit_test(test_truncated_while_running),
		cmocka_unit_test(test_steps),
		cmocka_unit_test(test_open_refuses),
		cmocka_unit_test(test_open_chooses),
		cmocka_unit_test(test_one_writer),
		cmocka_unit_test(test_create_refuses),
		cmocka_unit_test(test_save_in_flight),
		cmocka_unit_test(test_restore_refuses),
		cmocka_unit_test(test_pause),
		cmocka_unit_test(test_reset_in_flight),
		cmocka_unit_test(test_every_fault),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
