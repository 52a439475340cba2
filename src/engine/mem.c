/* SPDX-License-Identifier: ISC */
/*
 * Guest memory: one memfd for RAM, seen by the guest in up to two regions around the
 * MMIO hole, and by the host as one contiguous mapping. See mem.h for the layout.
 *
 * The mapping is MAP_NORESERVE: a guest costs the pages that it touches. Windows are
 * PROT_NONE until their device maps pages into them.
 */
#include "engine/mem.h"

#include <assert.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/sys.h"
#include "base/util.h"
#include "engine/mem_impl.h"

static const uint64_t ram_min_bytes = 32 * HK_MIB;
static const uint64_t window_alignment = HK_GIB;
static const uint64_t huge_page_bytes = 2 * HK_MIB;

static struct hk_mem_region *add_region(
	struct hk_mem *mem, enum hk_region_kind kind, hk_gpa gpa, uint64_t len_bytes, uint8_t *host)
{
	assert(mem->region_count < HK_MEM_MAX_REGIONS);

	struct hk_mem_region *region = &mem->regions[mem->region_count++];

	*region = (struct hk_mem_region){
		.kind = kind,
		.gpa = gpa,
		.len_bytes = len_bytes,
		.host = host,
	};
	return region;
}

int hk_mem_create(struct hk_mem *mem, uint64_t ram_bytes, struct hk_err *err)
{
	*mem = (struct hk_mem){.fd = -1};
	if (ram_bytes < ram_min_bytes || ram_bytes % HK_PAGE_SIZE != 0) {
		return hk_fail_msg(err, EINVAL,
			"guest memory of %llu bytes: must be whole pages, at least %llu MiB",
			(unsigned long long)ram_bytes,
			(unsigned long long)(ram_min_bytes / HK_MIB));
	}

	autoclose int fd = hk_memfd("hako-ram", ram_bytes);

	if (fd < 0) {
		return hk_fail(err, -fd, "guest memory of %llu MiB",
			(unsigned long long)(ram_bytes / HK_MIB));
	}

	uint8_t *ram =
		mmap(NULL, ram_bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, fd, 0);

	if (ram == MAP_FAILED) {
		return hk_fail(err, errno, "map guest memory of %llu MiB",
			(unsigned long long)(ram_bytes / HK_MIB));
	}
	/* The RAM of a box in a core dump is of no use and very large. */
	madvise(ram, ram_bytes, MADV_DONTDUMP);

	mem->fd = take_fd(&fd);
	mem->ram = ram;
	mem->ram_bytes = ram_bytes;

	uint64_t low_bytes = HK_MIN(ram_bytes, HK_MMIO_HOLE_START);

	add_region(mem, HK_REGION_RAM, 0, low_bytes, ram);
	if (ram_bytes > low_bytes) {
		add_region(mem, HK_REGION_RAM, HK_MMIO_HOLE_END, ram_bytes - low_bytes,
			ram + low_bytes)
			->offset = low_bytes;
	}
	return 0;
}

void hk_mem_finish(struct hk_mem *mem)
{
	for (unsigned i = 0; i < mem->region_count; i++) {
		if (mem->regions[i].kind == HK_REGION_WINDOW) {
			hk_window_unguard(mem->regions[i].host);
			/* seccomp: munmap */
			munmap(mem->regions[i].host, mem->regions[i].len_bytes);
		}
	}
	if (mem->ram != NULL) {
		munmap(mem->ram, mem->ram_bytes);
		hk_close(&mem->fd);
	}
	*mem = (struct hk_mem){.fd = -1};
}

/*
 * Address space whose start has the alignment of a huge page, as the guest's has. Return: NULL with
 * errno.
 */
static uint8_t *reserve_window(uint64_t len_bytes)
{
	uint64_t spare = huge_page_bytes;
	uint8_t *start = mmap(NULL, len_bytes + spare, PROT_NONE,
		MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (start == MAP_FAILED) {
		return NULL;
	}

	uint64_t before = hk_align_up((uintptr_t)start, huge_page_bytes) - (uintptr_t)start;

	if (before > 0) {
		munmap(start, before);
	}
	munmap(start + before + len_bytes, spare - before);
	return start + before;
}

int hk_mem_add_window(struct hk_mem *mem, uint64_t len_bytes,
	const struct hk_mem_region **ret_region, struct hk_err *err)
{
	const struct hk_mem_region *last = &mem->regions[mem->region_count - 1];
	hk_gpa end = HK_MAX(last->gpa + last->len_bytes, HK_MMIO_HOLE_END);

	assert(len_bytes > 0 && len_bytes % HK_PAGE_SIZE == 0);
	if (mem->region_count == HK_MEM_MAX_REGIONS) {
		return hk_fail_msg(err, ENOSPC, "more than %d memory regions", HK_MEM_MAX_REGIONS);
	}

	uint8_t *host = reserve_window(len_bytes);

	if (host == NULL) {
		return hk_fail(err, errno, "reserve a window of %llu MiB",
			(unsigned long long)(len_bytes / HK_MIB));
	}

	int r = hk_window_guard(host, len_bytes);

	if (r < 0) {
		munmap(host, len_bytes);
		return hk_fail_msg(err, -r, "too many windows in one process");
	}
	*ret_region = add_region(
		mem, HK_REGION_WINDOW, hk_align_up(end, window_alignment), len_bytes, host);
	return 0;
}

static void *find(const struct hk_mem *mem, hk_gpa gpa, uint64_t len, unsigned kinds)
{
	for (unsigned i = 0; i < mem->region_count; i++) {
		const struct hk_mem_region *region = &mem->regions[i];

		if ((kinds & 1u << region->kind) != 0 && gpa >= region->gpa &&
			hk_range_within(gpa - region->gpa, len, region->len_bytes)) {
			return region->host + (gpa - region->gpa);
		}
	}
	return NULL;
}

void *hk_mem_at(const struct hk_mem *mem, hk_gpa gpa, uint64_t len)
{
	return find(mem, gpa, len, 1u << HK_REGION_RAM);
}

void *hk_mem_buffer_at(const struct hk_mem *mem, hk_gpa gpa, uint64_t len)
{
	return find(mem, gpa, len, 1u << HK_REGION_RAM | 1u << HK_REGION_WINDOW);
}

hk_gpa hk_mem_gpa(const struct hk_mem *mem, const void *host)
{
	const uint8_t *at = host;

	for (unsigned i = 0; i < mem->region_count; i++) {
		const struct hk_mem_region *region = &mem->regions[i];

		if (at >= region->host && (uint64_t)(at - region->host) < region->len_bytes) {
			return region->gpa + (uint64_t)(at - region->host);
		}
	}
	assert(!"what hk_mem_at() gave lies in a region");
	return 0;
}

int hk_mem_read(const struct hk_mem *mem, hk_gpa gpa, void *buf, uint64_t len)
{
	const void *host = hk_mem_at(mem, gpa, len);

	if (host == NULL) {
		return -EFAULT;
	}
	memcpy(buf, host, len);
	return 0;
}

int hk_mem_write(const struct hk_mem *mem, hk_gpa gpa, const void *buf, uint64_t len)
{
	void *host = hk_mem_at(mem, gpa, len);

	if (host == NULL) {
		return -EFAULT;
	}
	memcpy(host, buf, len);
	hk_mem_written(mem, gpa, len);
	return 0;
}
