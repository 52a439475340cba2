/* SPDX-License-Identifier: ISC */
/*
 * What follows from the system registers: code mode, CPL, stack width, segment bases and the TLB
 * that serves. Instructions only look at the results, so every change of the
 * former has to come by here.
 */
#include "engine/soft/code.h"
#include "engine/soft/sys/segment.h"

void hk_kind_changed(struct hk_cpu *cpu)
{
	bool ac = (cpu->rflags & HK_FLAG_AC) != 0;

	if (cpu->cpl == 3) {
		cpu->tlb_kind = ac && (cpu->cr0 & HK_CR0_AM) != 0 ? HK_TLB_USER_AC : HK_TLB_USER;
	} else if ((cpu->cr4 & HK_CR4_SMAP) != 0 && ac) {
		cpu->tlb_kind = HK_TLB_KERNEL_AC;
	} else {
		cpu->tlb_kind = HK_TLB_KERNEL;
	}
	cpu->tlb = cpu->tlbs[cpu->tlb_kind];
	cpu->fetch = cpu->fetches[cpu->tlb_kind];
	cpu->code_gen = cpu->code_gens[cpu->tlb_kind];
}

/* Can all 4 GiB behind it be read and written? */
static bool segment_is_flat(const struct hk_segment *seg)
{
	return !seg->unusable && hk_attr_is_writable_data(seg->attr) &&
		(seg->attr & HK_ATTR_DOWN) == 0 && seg->limit == UINT32_MAX;
}

void hk_segments_changed(struct hk_cpu *cpu)
{
	for (unsigned i = 0; i < HK_SEG_COUNT; i++) {
		cpu->seg_base[i] = cpu->seg[i].base;
	}
	if (cpu->mode == HK_CODE_64) {
		cpu->seg_base[HK_ES] = 0;
		cpu->seg_base[HK_CS] = 0;
		cpu->seg_base[HK_SS] = 0;
		cpu->seg_base[HK_DS] = 0;
		cpu->stack_size = 3;
		cpu->flat = false;
		return;
	}
	cpu->stack_size = (cpu->seg[HK_SS].attr & HK_ATTR_DB) != 0 ? 2 : 1;
	cpu->flat = segment_is_flat(&cpu->seg[HK_ES]) && segment_is_flat(&cpu->seg[HK_SS]) &&
		segment_is_flat(&cpu->seg[HK_DS]);
}

/*
 * Code that was looked up under another mode or CS base must not be found by its address alone.
 * Rare: user and kernel have their own tables, so only a change between 32- and 64-bit processes,
 * or a start-up, comes here.
 */
static void check_fetches(struct hk_cpu *cpu)
{
	unsigned kind = cpu->tlb_kind;
	uint64_t base = cpu->seg_base[HK_CS];

	if (hk_likely(cpu->fetch_under[kind].mode == cpu->mode &&
		    cpu->fetch_under[kind].cs_base == base)) {
		return;
	}
	cpu->fetch_under[kind].mode = cpu->mode;
	cpu->fetch_under[kind].cs_base = base;
	hk_code_flush_fetches(cpu, true);
}

void hk_cpu_mode_changed(struct hk_cpu *cpu)
{
	uint16_t cs = cpu->seg[HK_CS].attr;

	cpu->cpl = hk_protected(cpu) ? (uint8_t)hk_attr_dpl(cpu->seg[HK_SS].attr) : 0;
	if (hk_long_mode(cpu) && (cs & HK_ATTR_L) != 0) {
		cpu->mode = HK_CODE_64;
	} else {
		cpu->mode = (cs & HK_ATTR_DB) != 0 ? HK_CODE_32 : HK_CODE_16;
	}
	hk_segments_changed(cpu);
	hk_kind_changed(cpu);
	check_fetches(cpu);
}
