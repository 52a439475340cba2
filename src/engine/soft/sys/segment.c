/* SPDX-License-Identifier: ISC */
/*
 * Segmentation: descriptors, loads of data and stack segments, checks of accesses.
 *
 * In 64-bit mode segments have a base (FS and GS) and nothing else. There is no virtual-8086
 * mode, so a segment register has either a descriptor's contents or those of real mode.
 *
 * Source: Intel SDM vol. 3, chapters 3 and 5; vol. 2 MOV, LDS, LAR, LSL, VERR, LLDT, LTR.
 */
#include "engine/soft/exec/handlers.h"
#include "engine/soft/operand.h"
#include "engine/soft/sys/segment.h"

struct hk_segment hk_descriptor_segment(uint64_t descriptor, uint16_t selector)
{
	uint32_t limit = (uint32_t)((descriptor & 0xffff) | (descriptor >> 32 & 0xf0000));
	struct hk_segment seg = {
		.base = (descriptor >> 16 & 0xffffff) | (descriptor >> 32 & 0xff000000),
		.limit = limit,
		.selector = selector,
		.attr = hk_descriptor_attr(descriptor),
	};

	if ((seg.attr & HK_ATTR_G) != 0) {
		seg.limit = limit << 12 | 0xfff;
	}
	return seg;
}

bool hk_descriptor_find(
	const struct hk_cpu *cpu, uint16_t selector, unsigned bytes, uint64_t *ret_va)
{
	unsigned offset = selector & 0xfff8;
	uint64_t base = cpu->gdt.base;
	uint32_t limit = cpu->gdt.limit;

	if (hk_selector_null(selector)) {
		return false;
	}
	if ((selector & 4) != 0) {
		if (cpu->seg[HK_LDTR].unusable) {
			return false;
		}
		base = cpu->seg[HK_LDTR].base;
		limit = cpu->seg[HK_LDTR].limit;
	}
	if (offset + bytes - 1 > limit) {
		return false;
	}
	*ret_va = base + offset;
	return true;
}

bool hk_descriptor_load(
	struct hk_cpu *cpu, uint16_t selector, enum hk_vector vector, uint64_t *ret_descriptor)
{
	uint64_t va;

	if (!hk_descriptor_find(cpu, selector, 8, &va)) {
		return hk_selector_fault(cpu, vector, selector);
	}
	return hk_sys_load(cpu, va, ret_descriptor, 8);
}

bool hk_descriptor_load_high(struct hk_cpu *cpu, uint16_t selector, uint64_t *ret_high)
{
	uint64_t va, high;

	if (!hk_descriptor_find(cpu, selector, 16, &va)) {
		return hk_selector_fault(cpu, HK_VECTOR_GP, selector);
	}
	if (!hk_sys_load(cpu, va + 8, &high, 8)) {
		return false;
	}
	if ((high >> 40 & 0x1f) != 0) {
		return hk_selector_fault(cpu, HK_VECTOR_GP, selector);
	}
	*ret_high = high << 32;
	return true;
}

bool hk_descriptor_mark(struct hk_cpu *cpu, uint16_t selector, unsigned bits, uint64_t *descriptor)
{
	uint64_t marked = *descriptor | (uint64_t)bits << 40;
	uint8_t byte = (uint8_t)(marked >> 40);
	uint64_t va;

	if (marked == *descriptor) {
		return true;
	}
	if (!hk_descriptor_find(cpu, selector, 8, &va)) {
		return hk_selector_fault(cpu, HK_VECTOR_GP, selector);
	}
	if (!hk_sys_store(cpu, va + 5, &byte, 1)) {
		return false;
	}
	*descriptor = marked;
	return true;
}

bool hk_segment_reaches(const struct hk_segment *seg, uint64_t offset, unsigned len)
{
	uint64_t last = offset + len - 1;

	if ((seg->attr & (HK_ATTR_S | HK_ATTR_CODE | HK_ATTR_DOWN)) == (HK_ATTR_S | HK_ATTR_DOWN)) {
		uint32_t top = (seg->attr & HK_ATTR_DB) != 0 ? UINT32_MAX : UINT16_MAX;

		return offset > seg->limit && last <= top;
	}
	/* Behind 4 GiB it goes on at 0: the manual leaves it open, CPUs do. */
	return last <= seg->limit || seg->limit == UINT32_MAX;
}

static bool access_fault(struct hk_cpu *cpu, unsigned seg)
{
	return hk_fault_code(cpu, seg == HK_SS ? HK_VECTOR_SS : HK_VECTOR_GP, 0);
}

bool hk_linear_slow(struct hk_cpu *cpu, unsigned seg, uint64_t offset, unsigned len,
	enum hk_access access, uint64_t *ret_va)
{
	const struct hk_segment *s = &cpu->seg[seg];
	uint64_t va = cpu->seg_base[seg] + offset;

	if (hk_seg_is_flat(cpu, seg)) {
		*ret_va = (uint32_t)va;
		return true;
	}
	if (cpu->mode == HK_CODE_64) {
		if (seg == HK_SS && (!hk_canonical(va) || !hk_canonical(va + len - 1))) {
			return access_fault(cpu, seg);
		}
		*ret_va = va;
		return true;
	}
	if (hk_protected(cpu)) {
		bool allowed = access == HK_ACCESS_WRITE ? hk_attr_is_writable_data(s->attr)
			: access == HK_ACCESS_READ       ? hk_attr_is_readable(s->attr)
							 : true;

		if (s->unusable || !allowed) {
			return access_fault(cpu, seg);
		}
	}
	if (!hk_segment_reaches(s, offset, len)) {
		return access_fault(cpu, seg);
	}
	*ret_va = (uint32_t)va;
	return true;
}

bool hk_branch_ok(struct hk_cpu *cpu, uint64_t rip)
{
	bool ok = cpu->mode == HK_CODE_64 ? hk_canonical(rip) : rip <= cpu->seg[HK_CS].limit;

	return ok || hk_fault_code(cpu, HK_VECTOR_GP, 0);
}

void hk_set_null(struct hk_cpu *cpu, enum hk_seg seg, uint16_t selector)
{
	cpu->seg[seg] = (struct hk_segment){.selector = selector, .unusable = true};
}

struct hk_segment hk_null_stack(unsigned cpl)
{
	return (struct hk_segment){
		.selector = (uint16_t)cpl,
		.attr = (uint16_t)(cpl << HK_ATTR_DPL_SHIFT),
		.unusable = true,
	};
}

bool hk_stack_segment_load(struct hk_cpu *cpu, uint16_t selector, unsigned cpl,
	enum hk_vector vector, struct hk_segment *ret_ss)
{
	uint64_t descriptor;

	if (!hk_descriptor_load(cpu, selector, vector, &descriptor)) {
		return false;
	}

	uint16_t attr = hk_descriptor_attr(descriptor);

	if (hk_selector_rpl(selector) != cpl || hk_attr_dpl(attr) != cpl ||
		!hk_attr_is_writable_data(attr)) {
		return hk_selector_fault(cpu, vector, selector);
	}
	if ((attr & HK_ATTR_P) == 0) {
		return hk_selector_fault(cpu, HK_VECTOR_SS, selector);
	}
	if (!hk_descriptor_mark(cpu, selector, HK_ATTR_ACCESSED, &descriptor)) {
		return false;
	}
	*ret_ss = hk_descriptor_segment(descriptor, selector);
	return true;
}

static bool load_stack(struct hk_cpu *cpu, uint16_t selector)
{
	if (!hk_selector_null(selector)) {
		return hk_stack_segment_load(
			cpu, selector, cpu->cpl, HK_VECTOR_GP, &cpu->seg[HK_SS]);
	}
	if (cpu->mode != HK_CODE_64 || cpu->cpl == 3 || hk_selector_rpl(selector) != cpu->cpl) {
		return hk_fault_code(cpu, HK_VECTOR_GP, 0);
	}
	cpu->seg[HK_SS] = hk_null_stack(cpu->cpl);
	return true;
}

static bool load_data(struct hk_cpu *cpu, enum hk_seg seg, uint16_t selector)
{
	uint64_t descriptor;

	if (hk_selector_null(selector)) {
		hk_set_null(cpu, seg, selector);
		return true;
	}
	if (!hk_descriptor_load(cpu, selector, HK_VECTOR_GP, &descriptor)) {
		return false;
	}

	uint16_t attr = hk_descriptor_attr(descriptor);

	if (!hk_attr_is_readable(attr) ||
		(!hk_attr_is_conforming(attr) &&
			hk_selector_level(cpu, selector) > hk_attr_dpl(attr))) {
		return hk_selector_fault(cpu, HK_VECTOR_GP, selector);
	}
	if ((attr & HK_ATTR_P) == 0) {
		return hk_selector_fault(cpu, HK_VECTOR_NP, selector);
	}
	if (!hk_descriptor_mark(cpu, selector, HK_ATTR_ACCESSED, &descriptor)) {
		return false;
	}
	cpu->seg[seg] = hk_descriptor_segment(descriptor, selector);
	return true;
}

bool hk_load_segment(struct hk_cpu *cpu, enum hk_seg seg, uint16_t selector)
{
	if (!hk_protected(cpu)) {
		/* Limit and attributes stay, as hardware has it ("unreal mode"). */
		cpu->seg[seg].selector = selector;
		cpu->seg[seg].base = (uint32_t)selector << 4;
		cpu->seg[seg].unusable = false;
	} else if (!(seg == HK_SS ? load_stack(cpu, selector) : load_data(cpu, seg, selector))) {
		return false;
	}
	hk_segments_changed(cpu);
	return true;
}

/* ---- Instructions ---- */

HK_EXEC(mov_from_sreg)
{
	/* To memory always 16 bits */
	unsigned size = hk_insn_mem(insn) ? 1 : hk_insn_size(insn);

	if (!hk_rm_set(cpu, insn, size, cpu->seg[insn->reg & 7].selector)) {
		return hk_give_up(cpu, insn);
	}
	return HK_NEXT(cpu, insn);
}

HK_EXEC(mov_to_sreg)
{
	enum hk_seg seg = (enum hk_seg)insn->reg;
	uint64_t selector;

	if (seg == HK_CS || seg > HK_GS) {
		return hk_raise(cpu, insn, HK_VECTOR_UD);
	}
	if (!hk_rm_get(cpu, insn, 1, &selector) || !hk_load_segment(cpu, seg, (uint16_t)selector)) {
		return hk_give_up(cpu, insn);
	}
	if (seg == HK_SS) {
		cpu->shadow |= HK_SHADOW_MOV_SS;
		return hk_leave(cpu, insn);
	}
	return HK_NEXT(cpu, insn);
}

/* LDS, LES, LFS, LGS, LSS: the segment register is in insn->cond. */
HK_EXEC(load_far)
{
	enum hk_seg seg = (enum hk_seg)insn->cond;
	unsigned bytes = hk_insn_bytes(insn);
	uint64_t va, offset;
	uint16_t selector;

	if (!hk_mem_va(cpu, insn, bytes + 2, HK_ACCESS_READ, &va) ||
		!hk_va_load(cpu, va, hk_insn_size(insn), &offset) ||
		!hk_load16(cpu, va + bytes, &selector) || !hk_load_segment(cpu, seg, selector)) {
		return hk_give_up(cpu, insn);
	}
	hk_reg_set(cpu, insn->reg, hk_insn_size(insn), offset);
	return HK_NEXT(cpu, insn);
}

static void set_zf(struct hk_cpu *cpu, bool zf)
{
	hk_cc_set_raw(cpu, (hk_cc_get(cpu) & ~(uint32_t)HK_FLAG_ZF) | (zf ? HK_FLAG_ZF : 0));
}

/* Bits of system types that LAR and LSL know; long mode has fewer. */
enum {
	LAR_TYPES = 1 << HK_TYPE_TSS_16 | 1 << HK_TYPE_LDT | 1 << HK_TYPE_TSS_16_BUSY |
		1 << HK_TYPE_CALL_16 | 1 << HK_TYPE_TASK_GATE | 1 << HK_TYPE_TSS |
		1 << HK_TYPE_TSS_BUSY | 1 << HK_TYPE_CALL,
	LAR_TYPES_LONG =
		1 << HK_TYPE_LDT | 1 << HK_TYPE_TSS | 1 << HK_TYPE_TSS_BUSY | 1 << HK_TYPE_CALL,
	LSL_NOT_TYPES = 1 << HK_TYPE_CALL_16 | 1 << HK_TYPE_TASK_GATE | 1 << HK_TYPE_CALL,
};

/*
 * The descriptor that LAR, LSL, VERR or VERW ask about; @types: system types that count.
 * *ret_visible: it is there and may be seen. Return: false with a fault of memory noted.
 */
static bool look_at(struct hk_cpu *cpu, uint16_t selector, unsigned types, uint64_t *ret_descriptor,
	bool *ret_visible)
{
	uint64_t va;

	*ret_visible = false;
	if (!hk_descriptor_find(cpu, selector, 8, &va)) {
		return true;
	}
	if (!hk_sys_load(cpu, va, ret_descriptor, 8)) {
		return false;
	}

	uint16_t attr = hk_descriptor_attr(*ret_descriptor);

	if ((attr & HK_ATTR_S) == 0 && (types >> (attr & HK_ATTR_TYPE) & 1) == 0) {
		return true;
	}
	*ret_visible = hk_attr_is_conforming(attr) ||
		hk_selector_level(cpu, selector) <= hk_attr_dpl(attr);
	return true;
}

/*
 * The common part of the four: *ret_selector and its descriptor. Return: false with a fault noted.
 */
static bool look_at_operand(struct hk_cpu *cpu, const struct hk_insn *insn, unsigned types,
	uint64_t *ret_descriptor, bool *ret_visible)
{
	uint64_t selector;

	if (!hk_protected(cpu)) {
		return hk_fault(cpu, HK_VECTOR_UD);
	}
	return hk_rm_get(cpu, insn, 1, &selector) &&
		look_at(cpu, (uint16_t)selector, types, ret_descriptor, ret_visible);
}

HK_EXEC(lar)
{
	uint64_t descriptor;
	bool visible;

	if (!look_at_operand(cpu, insn, hk_long_mode(cpu) ? LAR_TYPES_LONG : LAR_TYPES, &descriptor,
		    &visible)) {
		return hk_give_up(cpu, insn);
	}
	if (visible) {
		hk_reg_set(cpu, insn->reg, hk_insn_size(insn), descriptor >> 32 & 0xffff00);
	}
	set_zf(cpu, visible);
	return HK_NEXT(cpu, insn);
}

HK_EXEC(lsl)
{
	unsigned types =
		(hk_long_mode(cpu) ? LAR_TYPES_LONG : LAR_TYPES) & ~(unsigned)LSL_NOT_TYPES;
	uint64_t descriptor;
	bool visible;

	if (!look_at_operand(cpu, insn, types, &descriptor, &visible)) {
		return hk_give_up(cpu, insn);
	}
	if (visible) {
		hk_reg_set(cpu, insn->reg, hk_insn_size(insn),
			hk_descriptor_segment(descriptor, 0).limit);
	}
	set_zf(cpu, visible);
	return HK_NEXT(cpu, insn);
}

HK_EXEC(verr)
{
	uint64_t descriptor = 0;
	bool visible;

	if (!look_at_operand(cpu, insn, 0, &descriptor, &visible)) {
		return hk_give_up(cpu, insn);
	}
	set_zf(cpu, visible && hk_attr_is_readable(hk_descriptor_attr(descriptor)));
	return HK_NEXT(cpu, insn);
}

HK_EXEC(verw)
{
	uint64_t descriptor = 0;
	bool visible;

	if (!look_at_operand(cpu, insn, 0, &descriptor, &visible)) {
		return hk_give_up(cpu, insn);
	}
	set_zf(cpu, visible && hk_attr_is_writable_data(hk_descriptor_attr(descriptor)));
	return HK_NEXT(cpu, insn);
}

/*
 * LDTR or TR from its descriptor in the GDT, which has type @type (or in 16 bits @type_16).
 * @mark: type bits that are set in memory.
 */
static bool load_system(struct hk_cpu *cpu, enum hk_seg seg, uint16_t selector, unsigned type,
	unsigned type_16, unsigned mark)
{
	uint64_t descriptor;
	uint64_t high = 0;

	if ((selector & 4) != 0) {
		return hk_selector_fault(cpu, HK_VECTOR_GP, selector);
	}
	if (!hk_descriptor_load(cpu, selector, HK_VECTOR_GP, &descriptor)) {
		return false;
	}

	uint16_t attr = hk_descriptor_attr(descriptor);
	unsigned found = attr & (HK_ATTR_S | HK_ATTR_TYPE);

	if (found != type && (hk_long_mode(cpu) || found != type_16)) {
		return hk_selector_fault(cpu, HK_VECTOR_GP, selector);
	}
	if ((attr & HK_ATTR_P) == 0) {
		return hk_selector_fault(cpu, HK_VECTOR_NP, selector);
	}
	if (hk_long_mode(cpu)) {
		if (!hk_descriptor_load_high(cpu, selector, &high)) {
			return false;
		}
		if (!hk_canonical(high)) {
			return hk_selector_fault(cpu, HK_VECTOR_GP, selector);
		}
	}
	if (!hk_descriptor_mark(cpu, selector, mark, &descriptor)) {
		return false;
	}
	cpu->seg[seg] = hk_descriptor_segment(descriptor, selector);
	cpu->seg[seg].base |= high;
	cpu->seg_base[seg] = cpu->seg[seg].base;
	return true;
}

/* LLDT, LTR: the selector. Return: false with the fault noted. */
static bool system_selector(struct hk_cpu *cpu, const struct hk_insn *insn, uint64_t *ret_selector)
{
	if (!hk_protected(cpu)) {
		return hk_fault(cpu, HK_VECTOR_UD);
	}
	return hk_privileged(cpu) && hk_rm_get(cpu, insn, 1, ret_selector);
}

HK_EXEC(lldt)
{
	uint64_t selector;

	if (!system_selector(cpu, insn, &selector)) {
		return hk_give_up(cpu, insn);
	}
	if (hk_selector_null((uint16_t)selector)) {
		hk_set_null(cpu, HK_LDTR, (uint16_t)selector);
	} else if (!load_system(cpu, HK_LDTR, (uint16_t)selector, HK_TYPE_LDT, HK_TYPE_LDT, 0)) {
		return hk_give_up(cpu, insn);
	}
	return HK_NEXT(cpu, insn);
}

HK_EXEC(ltr)
{
	uint64_t selector;

	if (!system_selector(cpu, insn, &selector) ||
		!load_system(cpu, HK_TR, (uint16_t)selector, HK_TYPE_TSS, HK_TYPE_TSS_16,
			HK_TYPE_BUSY)) {
		return hk_give_up(cpu, insn);
	}
	return HK_NEXT(cpu, insn);
}

/* UMIP: user code does not see where the kernel's tables are. */
static bool umip_ok(struct hk_cpu *cpu)
{
	return cpu->cpl == 0 || (cpu->cr4 & HK_CR4_UMIP) == 0 ||
		hk_fault_code(cpu, HK_VECTOR_GP, 0);
}

static const struct hk_insn *store_selector(
	struct hk_cpu *cpu, const struct hk_insn *insn, enum hk_seg seg)
{
	unsigned size = hk_insn_mem(insn) ? 1 : hk_insn_size(insn);

	if (!hk_protected(cpu)) {
		return hk_raise(cpu, insn, HK_VECTOR_UD);
	}
	if (!umip_ok(cpu) || !hk_rm_set(cpu, insn, size, cpu->seg[seg].selector)) {
		return hk_give_up(cpu, insn);
	}
	return HK_NEXT(cpu, insn);
}

HK_EXEC(sldt)
{
	return store_selector(cpu, insn, HK_LDTR);
}

HK_EXEC(str)
{
	return store_selector(cpu, insn, HK_TR);
}

/* The operand of LGDT and its kin: a 16-bit limit, then a base as wide as the mode's addresses */
static unsigned table_bytes(const struct hk_cpu *cpu)
{
	return cpu->mode == HK_CODE_64 ? 10 : 6;
}

static const struct hk_insn *load_table(
	struct hk_cpu *cpu, const struct hk_insn *insn, struct hk_table_reg *table)
{
	uint8_t operand[10] = {0};
	uint64_t va, base = 0;
	uint16_t limit;

	if (!hk_privileged(cpu) || !hk_mem_va(cpu, insn, table_bytes(cpu), HK_ACCESS_READ, &va) ||
		!hk_load(cpu, va, operand, table_bytes(cpu))) {
		return hk_give_up(cpu, insn);
	}
	memcpy(&limit, operand, sizeof(limit));
	memcpy(&base, operand + 2, sizeof(base));
	if (cpu->mode != HK_CODE_64 && hk_insn_size(insn) == 1) {
		base &= 0xffffff;
	}
	if (!hk_canonical(base)) {
		return hk_raise_code(cpu, insn, HK_VECTOR_GP, 0);
	}
	*table = (struct hk_table_reg){.base = base, .limit = limit};
	return HK_NEXT(cpu, insn);
}

static const struct hk_insn *store_table(
	struct hk_cpu *cpu, const struct hk_insn *insn, const struct hk_table_reg *table)
{
	uint8_t operand[10];
	uint64_t va;

	memcpy(operand, &table->limit, 2);
	memcpy(operand + 2, &table->base, 8);
	if (!umip_ok(cpu) || !hk_mem_va(cpu, insn, table_bytes(cpu), HK_ACCESS_WRITE, &va) ||
		!hk_store(cpu, va, operand, table_bytes(cpu))) {
		return hk_give_up(cpu, insn);
	}
	return HK_NEXT(cpu, insn);
}

HK_EXEC(lgdt)
{
	return load_table(cpu, insn, &cpu->gdt);
}

HK_EXEC(lidt)
{
	return load_table(cpu, insn, &cpu->idt);
}

HK_EXEC(sgdt)
{
	return store_table(cpu, insn, &cpu->gdt);
}

HK_EXEC(sidt)
{
	return store_table(cpu, insn, &cpu->idt);
}
