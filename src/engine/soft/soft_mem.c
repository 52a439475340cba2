/* SPDX-License-Identifier: ISC */
/*
 * Guest memory as the software CPUs find it: host addresses of RAM, and a mark for each of its
 * pages.
 */
#include "engine/soft/soft_mem.h"

#include <errno.h>
#include <stdlib.h>

int hk_soft_mem_init(struct hk_soft_mem *mem, const struct hk_mem *of, struct hk_err *err)
{
	mem->mem = of;
	mem->marks = calloc(of->ram_bytes / HK_PAGE_SIZE, sizeof(*mem->marks));
	return mem->marks != NULL ? 0 : hk_fail(err, ENOMEM, "guest memory: marks of pages");
}

void hk_soft_mem_finish(struct hk_soft_mem *mem)
{
	free(mem->marks);
	mem->marks = NULL;
}

/* RAM is one host mapping with the MMIO hole left out. Return: its offset, or UINT64_MAX. */
static uint64_t ram_offset(const struct hk_mem *mem, hk_gpa gpa)
{
	uint64_t offset = gpa;

	if (gpa >= HK_MMIO_HOLE_START) {
		if (gpa < HK_MMIO_HOLE_END) {
			return UINT64_MAX;
		}
		offset = gpa - (HK_MMIO_HOLE_END - HK_MMIO_HOLE_START);
	}
	return offset < mem->ram_bytes ? offset : UINT64_MAX;
}

_Atomic uint32_t *hk_soft_mem_mark(struct hk_soft_mem *mem, hk_gpa page)
{
	uint64_t offset = ram_offset(mem->mem, page);

	return offset != UINT64_MAX ? &mem->marks[offset / HK_PAGE_SIZE] : NULL;
}

void *hk_soft_mem_page(const struct hk_soft_mem *mem, hk_gpa page)
{
	uint64_t offset = ram_offset(mem->mem, page);

	return offset != UINT64_MAX ? mem->mem->ram + offset : NULL;
}

uint32_t hk_soft_mem_code_cpus(const struct hk_soft_mem *mem, hk_gpa gpa, uint64_t len)
{
	uint32_t cpus = 0;

	if (len == 0) {
		return 0;
	}
	for (hk_gpa page = gpa & HK_PAGE_MASK; page <= gpa + len - 1; page += HK_PAGE_SIZE) {
		uint64_t offset = ram_offset(mem->mem, page);

		if (offset != UINT64_MAX) {
			cpus |= atomic_load_explicit(
					&mem->marks[offset / HK_PAGE_SIZE], memory_order_seq_cst) &
				HK_MARK_CODE;
		}
	}
	return cpus;
}
