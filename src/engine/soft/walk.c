/* SPDX-License-Identifier: ISC */
/*
 * The page walk: 4-level, PAE and 32-bit tables, as they stand in guest memory. Accessed and dirty
 * bits are set as the CPU sets them: by a locked exchange, that is tried anew where the entry
 * changed meanwhile. So another CPU's change of an entry is either seen or comes after.
 *
 * Limits: 32-bit PAE reads its four top entries at each walk instead of at the load of CR3.
 *
 * Source: Intel SDM vol. 3, chapter 4.
 */
#include "engine/soft/walk.h"

#include <assert.h>

#include "engine/soft/code.h"
#include "engine/soft/fault.h"

enum { PHYSICAL_BITS = 39 }; /* as leaf 0x80000008 says */

/* Page-table entry bits. */
#define PTE_P        (UINT64_C(1) << 0)
#define PTE_W        (UINT64_C(1) << 1)
#define PTE_U        (UINT64_C(1) << 2)
#define PTE_A        (UINT64_C(1) << 5)
#define PTE_D        (UINT64_C(1) << 6)
#define PTE_PS       (UINT64_C(1) << 7)
#define PTE_G        (UINT64_C(1) << 8)
#define PTE_NX       (UINT64_C(1) << 63)
#define PTE_ADDR     UINT64_C(0x000ffffffffff000)
#define PTE_RESERVED (PTE_ADDR & ~((UINT64_C(1) << PHYSICAL_BITS) - 1))

/* Page-fault error code. */
enum {
	PF_PRESENT = 1 << 0,
	PF_WRITE = 1 << 1,
	PF_USER = 1 << 2,
	PF_RESERVED = 1 << 3,
	PF_FETCH = 1 << 4,
};
static bool walk_fault(struct hk_cpu *cpu, const struct hk_walk_request *request, uint32_t code)
{
	bool fetch_bit = (cpu->cr4 & HK_CR4_SMEP) != 0 ||
		((cpu->cr4 & HK_CR4_PAE) != 0 && (cpu->efer & HK_EFER_NXE) != 0);

	code |= request->access == HK_ACCESS_WRITE ? PF_WRITE : 0;
	code |= request->user ? PF_USER : 0;
	code |= request->access == HK_ACCESS_FETCH && fetch_bit ? PF_FETCH : 0;
	return hk_fault_page(cpu, request->va, code);
}

static bool exchange_entry(void *entry, bool wide, uint64_t old, uint64_t now)
{
	uint32_t old32 = (uint32_t)old;

	if (wide) {
		return __atomic_compare_exchange_n(
			(uint64_t *)entry, &old, now, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
	}
	return __atomic_compare_exchange_n((uint32_t *)entry, &old32, (uint32_t)now, false,
		__ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
}

/* Sets bits of the entry at @gpa that is still @old. Return: false where it changed meanwhile. */
static bool update_entry(
	struct hk_cpu *cpu, hk_gpa gpa, void *entry, bool wide, uint64_t old, uint64_t bits)
{
	if ((old & bits) == bits) {
		return true;
	}
	if (!exchange_entry(entry, wide, old, old | bits)) {
		return false;
	}
	hk_code_forget(cpu, gpa, wide ? 8 : 4);
	return true;
}

/* How page tables are laid out in the three paging modes. */
struct layout {
	unsigned levels;
	unsigned index_bits; /* per level */
	bool wide;           /* 8-byte entries */
};

static struct layout layout_of(const struct hk_cpu *cpu)
{
	if ((cpu->efer & HK_EFER_LMA) != 0) {
		return (struct layout){.levels = 4, .index_bits = 9, .wide = true};
	}
	if ((cpu->cr4 & HK_CR4_PAE) != 0) {
		return (struct layout){.levels = 3, .index_bits = 9, .wide = true};
	}
	return (struct layout){.levels = 2, .index_bits = 10, .wide = false};
}

/* Bits that must be zero in an entry of @level (0: page table). */
static uint64_t reserved_bits(
	const struct hk_cpu *cpu, const struct layout *layout, unsigned level, bool large)
{
	uint64_t reserved = 0;

	if (!layout->wide) {
		return large ? UINT64_C(1) << 21 : 0; /* PSE-36: bits 13-20 are address */
	}
	reserved = PTE_RESERVED | ((cpu->efer & HK_EFER_NXE) == 0 ? PTE_NX : 0);
	if (large) {
		reserved |= ((UINT64_C(1) << (12 + 9 * level)) - 1) & ~UINT64_C(0x1fff);
	}
	if (level == 3 || (level == 2 && layout->levels == 3)) {
		reserved |= PTE_PS;
	}
	if (level == 2 && layout->levels == 3) {
		reserved |= PTE_W | PTE_U | PTE_NX;
	}
	return reserved;
}

enum walk_result { WALK_OK, WALK_FAULT, WALK_AGAIN };

static enum walk_result walk_once(
	struct hk_cpu *cpu, const struct hk_walk_request *request, struct hk_walk *ret)
{
	struct layout layout = layout_of(cpu);
	uint64_t va = request->va;
	hk_gpa table = cpu->cr3 & (layout.levels == 3 ? ~UINT64_C(0x1f) : HK_PAGE_MASK) &
		(layout.levels == 4 ? PTE_ADDR : UINT32_MAX);
	uint64_t rights = PTE_W | PTE_U; /* what all levels allow */
	bool nx = false;

	for (unsigned level = layout.levels; level-- > 0;) {
		unsigned shift = 12 + layout.index_bits * level;
		unsigned index = (unsigned)(va >> shift) & ((1u << layout.index_bits) - 1);
		bool pdpt_pae = layout.levels == 3 && level == 2;

		if (pdpt_pae) {
			index &= 3;
		}

		hk_gpa at = table + (uint64_t)index * (layout.wide ? 8 : 4);
		uint8_t *page = hk_soft_mem_page(cpu->mem, at & HK_PAGE_MASK);
		/* Tables outside RAM read as nothing present, as an empty bus would not. */
		uint64_t entry = 0;
		void *host = NULL;

		if (page != NULL) {
			host = page + (at & ~HK_PAGE_MASK);
			entry = layout.wide ? __atomic_load_n((uint64_t *)host, __ATOMIC_ACQUIRE)
					    : __atomic_load_n((uint32_t *)host, __ATOMIC_ACQUIRE);
		}
		if ((entry & PTE_P) == 0) {
			walk_fault(cpu, request, 0);
			return WALK_FAULT;
		}

		bool may_be_large = level > 0 && !pdpt_pae && level < 3 &&
			(layout.wide || (cpu->cr4 & HK_CR4_PSE) != 0);
		bool large = may_be_large && (entry & PTE_PS) != 0;

		if ((entry & reserved_bits(cpu, &layout, level, large)) != 0) {
			walk_fault(cpu, request, PF_PRESENT | PF_RESERVED);
			return WALK_FAULT;
		}
		if (!pdpt_pae) {
			rights &= entry;
			nx |= layout.wide && (entry & PTE_NX) != 0;
		}
		if (level > 0 && !large) {
			if (!pdpt_pae && !update_entry(cpu, at, host, layout.wide, entry, PTE_A)) {
				return WALK_AGAIN;
			}
			table = entry & (layout.wide ? PTE_ADDR : UINT64_C(0xfffff000));
			continue;
		}

		bool write = request->access == HK_ACCESS_WRITE;
		bool is_user = (rights & PTE_U) != 0;
		bool writable =
			(rights & PTE_W) != 0 || (!request->user && (cpu->cr0 & HK_CR0_WP) == 0);
		bool allowed = (!write || writable) && (!request->user || is_user);

		if (request->access == HK_ACCESS_FETCH) {
			allowed &= !nx;
			allowed &= request->user || !is_user || (cpu->cr4 & HK_CR4_SMEP) == 0;
		} else if (!request->user && is_user && (cpu->cr4 & HK_CR4_SMAP) != 0) {
			allowed &= request->smap_off;
		}
		if (!allowed) {
			walk_fault(cpu, request, PF_PRESENT);
			return WALK_FAULT;
		}
		if (!update_entry(cpu, at, host, layout.wide, entry, PTE_A | (write ? PTE_D : 0))) {
			return WALK_AGAIN;
		}

		uint64_t base = entry & (layout.wide ? PTE_ADDR : UINT64_C(0xfffff000));
		uint64_t within = (UINT64_C(1) << shift) - 1;

		if (!layout.wide && large) {
			base = (entry & 0xffc00000) | (entry >> 13 & 0xff) << 32;
		}
		*ret = (struct hk_walk){
			.page = ((base & ~within) | (va & within)) & HK_PAGE_MASK,
			.writable = writable,
			.dirty = write || (entry & PTE_D) != 0,
			.global = (entry & PTE_G) != 0 && (cpu->cr4 & HK_CR4_PGE) != 0,
			.large_shift = (uint8_t)(level > 0 ? shift : 0),
		};
		return WALK_OK;
	}
	assert(false);
	return WALK_FAULT;
}

static bool canonical(uint64_t va)
{
	return (uint64_t)((int64_t)(va << 16) >> 16) == va;
}

bool hk_walk(struct hk_cpu *cpu, const struct hk_walk_request *request, struct hk_walk *ret)
{
	if ((cpu->cr0 & HK_CR0_PG) == 0) {
		*ret = (struct hk_walk){
			.page = request->va & 0xfffff000,
			.writable = true,
			.dirty = true,
			.global = false,
		};
		return true;
	}
	if ((cpu->efer & HK_EFER_LMA) != 0 && !canonical(request->va)) {
		hk_fault_code(cpu, HK_VECTOR_GP, 0);
		cpu->event.non_canonical = true;
		return false;
	}

	enum walk_result result;

	do {
		result = walk_once(cpu, request, ret);
	} while (result == WALK_AGAIN);
	return result == WALK_OK;
}
