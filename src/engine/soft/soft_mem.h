/* SPDX-License-Identifier: ISC */
/*
 * Guest memory, with what all CPUs of a machine know of its pages.
 *
 * Two CPUs keep each other honest through the page's mark: whoever is to write sets its writer bit,
 * then looks for code bits; whoever decodes sets its code bit, then looks for writer bits and takes
 * their write tags away (bus->protect_page). Both are sequentially consistent, so one of the two
 * sees the other.
 */
#ifndef HK_ENGINE_SOFT_SOFT_MEM_H
#define HK_ENGINE_SOFT_SOFT_MEM_H

#include <stdatomic.h>

#include "base/err.h"
#include "engine/mem.h"

#define HK_PAGE_MASK UINT64_C(0xfffffffffffff000)

/*
 * A mark: bits 0-15 CPUs that decoded code from the page, bits 16-31 CPUs whose TLB may hold it
 * writable.
 */
enum { HK_MARK_CODE = 0xffff, HK_MARK_WRITER_SHIFT = 16 };

/** struct hk_soft_mem - guest memory with a mark for each page of RAM */
struct hk_soft_mem {
	const struct hk_mem *mem; /* borrowed */
	_Atomic uint32_t *marks;  /* owned, ram_bytes / HK_PAGE_SIZE words */
};

int hk_soft_mem_init(struct hk_soft_mem *mem, const struct hk_mem *of, struct hk_err *err);
void hk_soft_mem_finish(struct hk_soft_mem *mem);

/** hk_soft_mem_page() - host address of a RAM page, or NULL */
void *hk_soft_mem_page(const struct hk_soft_mem *mem, hk_gpa page);

/** hk_soft_mem_mark() - its mark, or NULL where it is no RAM */
_Atomic uint32_t *hk_soft_mem_mark(struct hk_soft_mem *mem, hk_gpa page);

/**
 * hk_soft_mem_code_cpus() - which CPUs decoded code from the pages of these bytes
 *
 * Whoever writes guest memory other than through a CPU (a device) asks this after the write and
 * has those CPUs drop the code. Any thread.
 */
uint32_t hk_soft_mem_code_cpus(const struct hk_soft_mem *mem, hk_gpa gpa, uint64_t len);

#endif
