/* SPDX-License-Identifier: ISC */
/*
 * Transfers to another code segment: far JMP, CALL and RET, call gates, IRET, SYSCALL, SYSENTER and
 * the ways back.
 *
 * Each works out the new CS, SS, RIP and RSP first, then sets them at once.
 *
 * Limits: hardware task switching is not built. JMP or CALL to a task gate or TSS is #GP with the
 * selector, IRET with NT set is #GP(0). An IRET to virtual-8086 mode is #GP(0).
 *
 * Source: Intel SDM vol. 2, the instructions; vol. 3, 5.8.
 */
#include "engine/soft/exec/handlers.h"
#include "engine/soft/operand.h"
#include "engine/soft/sys/segment.h"

/* Where a transfer ends. */
struct target {
	struct hk_segment cs;
	uint64_t rip;
};

static uint64_t cut(uint64_t value, unsigned size)
{
	return value & hk_mask(size);
}

static bool cs_is_64(const struct hk_cpu *cpu, const struct hk_segment *cs)
{
	return hk_long_mode(cpu) && (cs->attr & HK_ATTR_L) != 0;
}

/*
 * May RIP be *@rip in @cs? It is cut to 32 bits outside 64-bit code. Return: false with #GP(0)
 * noted.
 */
static bool rip_ok(struct hk_cpu *cpu, const struct hk_segment *cs, uint64_t *rip)
{
	bool ok;

	if (cs_is_64(cpu, cs)) {
		ok = hk_canonical(*rip);
	} else {
		*rip = (uint32_t)*rip;
		ok = *rip <= cs->limit;
	}
	return ok || hk_fault_code(cpu, HK_VECTOR_GP, 0);
}

/* All checks are done: go there. */
static const struct hk_insn *arrive(struct hk_cpu *cpu, const struct target *target)
{
	cpu->seg[HK_CS] = target->cs;
	hk_cpu_mode_changed(cpu);
	return hk_leave_to(cpu, target->rip);
}

/* A far pointer in real mode. Attributes and limit of CS stay. */
static bool real_target(
	struct hk_cpu *cpu, uint16_t selector, uint64_t offset, struct target *ret_target)
{
	struct hk_segment cs = cpu->seg[HK_CS];

	cs.selector = selector;
	cs.base = (uint32_t)selector << 4;
	if (!rip_ok(cpu, &cs, &offset)) {
		return false;
	}
	*ret_target = (struct target){.cs = cs, .rip = offset};
	return true;
}

/* ---- JMP and CALL ---- */

/* Long mode has no code segments that are both 64-bit and 32-bit. */
static bool code_width_ok(const struct hk_cpu *cpu, uint16_t attr)
{
	enum { BOTH = HK_ATTR_L | HK_ATTR_DB };

	return !hk_long_mode(cpu) || (attr & BOTH) != BOTH;
}

/* JMP or CALL straight to a code segment; CPL stays. */
static bool code_target(struct hk_cpu *cpu, uint16_t selector, uint64_t descriptor, uint64_t offset,
	struct target *ret_target)
{
	uint16_t attr = hk_descriptor_attr(descriptor);
	unsigned dpl = hk_attr_dpl(attr);
	bool allowed = hk_attr_is_conforming(attr)
		? dpl <= cpu->cpl
		: dpl == cpu->cpl && hk_selector_rpl(selector) <= cpu->cpl;

	if (!allowed || !code_width_ok(cpu, attr)) {
		return hk_selector_fault(cpu, HK_VECTOR_GP, selector);
	}
	if ((attr & HK_ATTR_P) == 0) {
		return hk_selector_fault(cpu, HK_VECTOR_NP, selector);
	}

	struct hk_segment cs = hk_descriptor_segment(descriptor, selector);

	if (!rip_ok(cpu, &cs, &offset) ||
		!hk_descriptor_mark(cpu, selector, HK_ATTR_ACCESSED, &descriptor)) {
		return false;
	}
	cs.attr |= HK_ATTR_ACCESSED;
	cs.selector = (uint16_t)((selector & ~3u) | cpu->cpl);
	*ret_target = (struct target){.cs = cs, .rip = offset};
	return true;
}

/* A call gate, checked but for the code segment it leads to. */
struct call_gate {
	uint16_t selector;
	uint64_t offset;
	unsigned params; /* words to copy to an inner stack */
	unsigned size;   /* of the words, log2 of bytes */
};

static bool call_gate_load(
	struct hk_cpu *cpu, uint16_t selector, uint64_t descriptor, struct call_gate *ret_gate)
{
	uint16_t attr = hk_descriptor_attr(descriptor);
	unsigned type = attr & HK_ATTR_TYPE;
	bool narrow = type == HK_TYPE_CALL_16 && !hk_long_mode(cpu);
	uint64_t high = 0;

	if ((type != HK_TYPE_CALL && !narrow) ||
		hk_attr_dpl(attr) < hk_selector_level(cpu, selector)) {
		return hk_selector_fault(cpu, HK_VECTOR_GP, selector);
	}
	if ((attr & HK_ATTR_P) == 0) {
		return hk_selector_fault(cpu, HK_VECTOR_NP, selector);
	}
	if (hk_long_mode(cpu) && !hk_descriptor_load_high(cpu, selector, &high)) {
		return false;
	}
	*ret_gate = (struct call_gate){
		.selector = (uint16_t)(descriptor >> 16),
		.offset = (descriptor & 0xffff) | (descriptor >> 32 & 0xffff0000) | high,
		.params = hk_long_mode(cpu) ? 0 : descriptor >> 32 & 31,
		.size = hk_long_mode(cpu) ? 3
			: narrow          ? 1
					  : 2,
	};
	if (narrow) {
		ret_gate->offset &= 0xffff;
	}
	return true;
}

static const struct hk_insn *jump_far(
	struct hk_cpu *cpu, const struct hk_insn *insn, uint16_t selector, uint64_t offset)
{
	struct target target;
	uint64_t descriptor;

	if (!hk_protected(cpu)) {
		return real_target(cpu, selector, offset, &target) ? arrive(cpu, &target)
								   : hk_give_up(cpu, insn);
	}
	if (!hk_descriptor_load(cpu, selector, HK_VECTOR_GP, &descriptor)) {
		return hk_give_up(cpu, insn);
	}

	uint16_t attr = hk_descriptor_attr(descriptor);

	if (hk_attr_is_code(attr)) {
		return code_target(cpu, selector, descriptor, offset, &target)
			? arrive(cpu, &target)
			: hk_give_up(cpu, insn);
	}
	if ((attr & HK_ATTR_S) != 0) {
		return hk_raise_code(cpu, insn, HK_VECTOR_GP, selector & 0xfffc);
	}

	struct call_gate gate;
	unsigned cpl;

	if (!call_gate_load(cpu, selector, descriptor, &gate) ||
		!hk_gate_code(cpu, gate.selector, &target.cs, &cpl)) {
		return hk_give_up(cpu, insn);
	}
	if (cpl != cpu->cpl) {
		return hk_raise_code(cpu, insn, HK_VECTOR_GP, gate.selector & 0xfffc);
	}
	if (!rip_ok(cpu, &target.cs, &gate.offset)) {
		return hk_give_up(cpu, insn);
	}
	target.rip = gate.offset;
	return arrive(cpu, &target);
}

/* Pushes the return address in words of @size; then goes to @target at the same CPL. */
static const struct hk_insn *call_same(struct hk_cpu *cpu, const struct hk_insn *insn,
	unsigned size, struct hk_stack stack, const struct target *target)
{
	uint64_t words[2] = {hk_insn_next_rip(cpu, insn), cpu->seg[HK_CS].selector};

	if (!hk_stack_push(cpu, &stack, size, words, 2)) {
		return hk_give_up(cpu, insn);
	}
	cpu->gpr[HK_RSP] = stack.sp;
	return arrive(cpu, target);
}

/* To an inner ring: its stack gets the old one's address, the parameters and the return address. */
static const struct hk_insn *call_inner(struct hk_cpu *cpu, const struct hk_insn *insn,
	const struct call_gate *gate, const struct target *target, unsigned cpl)
{
	enum { TSS_RSP0 = 4, MAX_WORDS = 31 + 4 };

	struct hk_stack stack;
	uint64_t words[MAX_WORDS] = {hk_insn_next_rip(cpu, insn), cpu->seg[HK_CS].selector};
	unsigned count = 2;

	if (hk_long_mode(cpu) ? !hk_stack_inner_64(cpu, cpl, TSS_RSP0 + 8 * cpl, &stack)
			      : !hk_stack_inner(cpu, cpl, &stack)) {
		return hk_give_up(cpu, insn);
	}
	if (gate->params != 0 && !hk_stack_peek(cpu, 0, gate->size, words + 2, gate->params)) {
		return hk_give_up(cpu, insn);
	}
	count += gate->params;
	words[count++] = cpu->gpr[HK_RSP];
	words[count++] = cpu->seg[HK_SS].selector;
	if (!hk_stack_push(cpu, &stack, gate->size, words, count)) {
		return hk_give_up(cpu, insn);
	}
	cpu->seg[HK_SS] = stack.ss;
	cpu->gpr[HK_RSP] = stack.sp;
	return arrive(cpu, target);
}

static const struct hk_insn *call_far(
	struct hk_cpu *cpu, const struct hk_insn *insn, uint16_t selector, uint64_t offset)
{
	unsigned size = hk_insn_size(insn);
	struct target target;
	uint64_t descriptor;

	if (!hk_protected(cpu)) {
		return real_target(cpu, selector, offset, &target)
			? call_same(cpu, insn, size, hk_stack_present(cpu), &target)
			: hk_give_up(cpu, insn);
	}
	if (!hk_descriptor_load(cpu, selector, HK_VECTOR_GP, &descriptor)) {
		return hk_give_up(cpu, insn);
	}

	uint16_t attr = hk_descriptor_attr(descriptor);

	if (hk_attr_is_code(attr)) {
		return code_target(cpu, selector, descriptor, offset, &target)
			? call_same(cpu, insn, size, hk_stack_present(cpu), &target)
			: hk_give_up(cpu, insn);
	}
	if ((attr & HK_ATTR_S) != 0) {
		return hk_raise_code(cpu, insn, HK_VECTOR_GP, selector & 0xfffc);
	}

	struct call_gate gate;
	unsigned cpl;

	if (!call_gate_load(cpu, selector, descriptor, &gate) ||
		!hk_gate_code(cpu, gate.selector, &target.cs, &cpl) ||
		!rip_ok(cpu, &target.cs, &gate.offset)) {
		return hk_give_up(cpu, insn);
	}
	target.rip = gate.offset;
	if (cpl < cpu->cpl) {
		return call_inner(cpu, insn, &gate, &target, cpl);
	}

	struct hk_stack stack = hk_stack_present(cpu);

	stack.is_64 = hk_long_mode(cpu); /* the gate leads to 64-bit code */
	return call_same(cpu, insn, gate.size, stack, &target);
}

/* The immediate far pointer: offset, then selector above it */
static uint16_t immediate_selector(const struct hk_insn *insn)
{
	return (uint16_t)(insn->imm >> 32);
}

static uint64_t immediate_offset(const struct hk_insn *insn)
{
	return cut((uint32_t)insn->imm, hk_insn_size(insn));
}

static bool load_pointer(struct hk_cpu *cpu, const struct hk_insn *insn, uint16_t *ret_selector,
	uint64_t *ret_offset)
{
	unsigned bytes = hk_insn_bytes(insn);
	uint64_t va;

	return hk_mem_va(cpu, insn, bytes + 2, HK_ACCESS_READ, &va) &&
		hk_va_load(cpu, va, hk_insn_size(insn), ret_offset) &&
		hk_load16(cpu, va + bytes, ret_selector);
}

HK_EXEC(jmp_far)
{
	return jump_far(cpu, insn, immediate_selector(insn), immediate_offset(insn));
}

HK_EXEC(jmp_far_mem)
{
	uint16_t selector;
	uint64_t offset;

	if (!load_pointer(cpu, insn, &selector, &offset)) {
		return hk_give_up(cpu, insn);
	}
	return jump_far(cpu, insn, selector, offset);
}

HK_EXEC(call_far)
{
	return call_far(cpu, insn, immediate_selector(insn), immediate_offset(insn));
}

HK_EXEC(call_far_mem)
{
	uint16_t selector;
	uint64_t offset;

	if (!load_pointer(cpu, insn, &selector, &offset)) {
		return hk_give_up(cpu, insn);
	}
	return call_far(cpu, insn, selector, offset);
}

/* ---- RET and IRET ---- */

/* The code segment to return to. Its CPL is the selector's RPL. */
static bool return_target(
	struct hk_cpu *cpu, uint16_t selector, uint64_t rip, struct target *ret_target)
{
	uint64_t descriptor;

	if (!hk_descriptor_load(cpu, selector, HK_VECTOR_GP, &descriptor)) {
		return false;
	}

	uint16_t attr = hk_descriptor_attr(descriptor);
	unsigned rpl = hk_selector_rpl(selector);
	unsigned dpl = hk_attr_dpl(attr);

	if (!hk_attr_is_code(attr) || rpl < cpu->cpl ||
		(hk_attr_is_conforming(attr) ? dpl > rpl : dpl != rpl) ||
		!code_width_ok(cpu, attr)) {
		return hk_selector_fault(cpu, HK_VECTOR_GP, selector);
	}
	if ((attr & HK_ATTR_P) == 0) {
		return hk_selector_fault(cpu, HK_VECTOR_NP, selector);
	}

	struct hk_segment cs = hk_descriptor_segment(descriptor, selector);

	if (!rip_ok(cpu, &cs, &rip) ||
		!hk_descriptor_mark(cpu, selector, HK_ATTR_ACCESSED, &descriptor)) {
		return false;
	}
	cs.attr |= HK_ATTR_ACCESSED;
	*ret_target = (struct target){.cs = cs, .rip = rip};
	return true;
}

/* The stack segment to return to, at privilege level @cpl and with @cs. */
static bool return_stack(struct hk_cpu *cpu, uint16_t selector, unsigned cpl,
	const struct hk_segment *cs, struct hk_segment *ret_ss)
{
	if (!hk_selector_null(selector)) {
		return hk_stack_segment_load(cpu, selector, cpl, HK_VECTOR_GP, ret_ss);
	}
	if (!cs_is_64(cpu, cs) || cpl == 3 || hk_selector_rpl(selector) != cpl) {
		return hk_fault_code(cpu, HK_VECTOR_GP, 0);
	}
	*ret_ss = hk_null_stack(cpl);
	return true;
}

/* An outer ring must not keep data segments that it could not load itself. */
static void drop_inner_segments(struct hk_cpu *cpu, unsigned cpl)
{
	static const enum hk_seg data[] = {HK_ES, HK_DS, HK_FS, HK_GS};

	for (unsigned i = 0; i < 4; i++) {
		struct hk_segment *seg = &cpu->seg[data[i]];

		if (!seg->unusable && !hk_attr_is_conforming(seg->attr) &&
			hk_attr_dpl(seg->attr) < cpl) {
			/* The base stays: in 64-bit mode FS and GS have one without a segment. */
			seg->selector = 0;
			seg->unusable = true;
		}
	}
}

HK_EXEC(ret_far)
{
	unsigned size = hk_insn_size(insn);
	unsigned bytes = 1u << size;
	unsigned release = (uint16_t)insn->imm;
	struct hk_stack stack = hk_stack_present(cpu);
	struct target target;
	struct hk_segment ss;
	uint64_t words[2];

	if (!hk_stack_peek(cpu, 0, size, words, 2)) {
		return hk_give_up(cpu, insn);
	}

	uint16_t selector = (uint16_t)words[1];

	if (!hk_protected(cpu)) {
		if (!real_target(cpu, selector, words[0], &target)) {
			return hk_give_up(cpu, insn);
		}
		hk_stack_pointer_set(cpu, stack.sp + 2 * bytes + release);
		return arrive(cpu, &target);
	}
	if (!return_target(cpu, selector, words[0], &target)) {
		return hk_give_up(cpu, insn);
	}

	unsigned cpl = hk_selector_rpl(selector);

	if (cpl == cpu->cpl) {
		hk_stack_pointer_set(cpu, stack.sp + 2 * bytes + release);
		return arrive(cpu, &target);
	}
	if (!hk_stack_peek(cpu, 2 * bytes + release, size, words, 2) ||
		!return_stack(cpu, (uint16_t)words[1], cpl, &target.cs, &ss)) {
		return hk_give_up(cpu, insn);
	}
	cpu->seg[HK_SS] = ss;
	cpu->seg[HK_CS] = target.cs;
	drop_inner_segments(cpu, cpl);
	hk_cpu_mode_changed(cpu);
	hk_stack_pointer_set(cpu, words[0] + release);
	return hk_leave_to(cpu, target.rip);
}

/* RFLAGS from an IRET at the present CPL, in words of @size */
static void return_flags(struct hk_cpu *cpu, uint64_t flags, unsigned size)
{
	uint32_t change = HK_FLAGS_ARITH | HK_FLAG_TF | HK_FLAG_DF | HK_FLAG_NT;

	if (size > 1) {
		change |= HK_FLAG_RF | HK_FLAG_AC | HK_FLAG_ID;
	}
	if (cpu->cpl <= (cpu->rflags & HK_FLAG_IOPL) >> 12) {
		change |= HK_FLAG_IF;
	}
	if (cpu->cpl == 0) {
		change |= HK_FLAG_IOPL;
		change |= size > 1 ? HK_FLAG_VIF | HK_FLAG_VIP : 0;
	}
	hk_rflags_set(cpu, (hk_rflags_get(cpu) & ~(uint64_t)change) | (flags & change));
	if ((cpu->dr7 & 0xff) == 0) {
		/* RF only holds back code breakpoints of one instruction; without them the run loop
		 * need not run that one alone. */
		cpu->rflags &= ~(uint32_t)HK_FLAG_RF;
	}
}

static const struct hk_insn *iret_real(struct hk_cpu *cpu, const struct hk_insn *insn)
{
	unsigned size = hk_insn_size(insn);
	struct target target;
	uint64_t words[3];

	if (!hk_stack_peek(cpu, 0, size, words, 3) ||
		!real_target(cpu, (uint16_t)words[1], words[0], &target)) {
		return hk_give_up(cpu, insn);
	}
	hk_stack_pointer_set(cpu, cpu->gpr[HK_RSP] + (3u << size));
	return_flags(cpu, words[2], size);
	return arrive(cpu, &target);
}

HK_EXEC(iret)
{
	unsigned size = hk_insn_size(insn);
	bool whole = cpu->mode == HK_CODE_64; /* the frame always has SS:RSP */
	struct hk_segment ss = cpu->seg[HK_SS];
	struct target target;
	uint64_t words[5];

	cpu->nmi_masked = false; /* even if it fails */
	if (!hk_protected(cpu)) {
		return iret_real(cpu, insn);
	}
	if ((cpu->rflags & HK_FLAG_NT) != 0) {
		return hk_raise_code(cpu, insn, HK_VECTOR_GP, 0);
	}
	if (!hk_stack_peek(cpu, 0, size, words, whole ? 5 : 3)) {
		return hk_give_up(cpu, insn);
	}
	if (!hk_long_mode(cpu) && size == 2 && cpu->cpl == 0 && (words[2] & HK_FLAG_VM) != 0) {
		return hk_raise_code(cpu, insn, HK_VECTOR_GP, 0);
	}
	if (!return_target(cpu, (uint16_t)words[1], words[0], &target)) {
		return hk_give_up(cpu, insn);
	}

	unsigned cpl = hk_selector_rpl((uint16_t)words[1]);
	bool outer = cpl > cpu->cpl;

	if (outer && !whole && !hk_stack_peek(cpu, 3u << size, size, words + 3, 2)) {
		return hk_give_up(cpu, insn);
	}
	if ((outer || whole) && !return_stack(cpu, (uint16_t)words[4], cpl, &target.cs, &ss)) {
		return hk_give_up(cpu, insn);
	}
	return_flags(cpu, words[2], size);
	if (!outer && !whole) {
		hk_stack_pointer_set(cpu, cpu->gpr[HK_RSP] + (3u << size));
		return arrive(cpu, &target);
	}
	cpu->seg[HK_SS] = ss;
	cpu->seg[HK_CS] = target.cs;
	if (outer) {
		drop_inner_segments(cpu, cpl);
	}
	hk_cpu_mode_changed(cpu);
	hk_stack_pointer_set(cpu, words[3]);
	return hk_leave_to(cpu, target.rip);
}

/* ---- SYSCALL and SYSENTER: flat segments without a look at descriptors ---- */

static void set_flat(struct hk_cpu *cpu, uint16_t cs, uint16_t ss, unsigned cpl, bool is_64)
{
	uint16_t code = is_64 ? HK_ATTR_FLAT_CODE_64 : HK_ATTR_FLAT_CODE_32;
	uint16_t dpl = (uint16_t)(cpl << HK_ATTR_DPL_SHIFT);

	cpu->seg[HK_CS] = (struct hk_segment){
		.limit = UINT32_MAX,
		.selector = cs,
		.attr = code | dpl,
	};
	cpu->seg[HK_SS] = (struct hk_segment){
		.limit = UINT32_MAX,
		.selector = ss,
		.attr = HK_ATTR_FLAT_DATA | dpl,
	};
	hk_cpu_mode_changed(cpu);
}

HK_EXEC(syscall)
{
	if (cpu->mode != HK_CODE_64 || (cpu->efer & HK_EFER_SCE) == 0) {
		return hk_raise(cpu, insn, HK_VECTOR_UD);
	}

	uint64_t flags = hk_rflags_get(cpu);
	uint16_t cs = (cpu->star >> 32) & 0xfffc;

	cpu->gpr[HK_RCX] = hk_insn_next_rip(cpu, insn);
	cpu->gpr[HK_R11] = flags;
	hk_rflags_set(cpu, flags & ~cpu->syscall_mask & ~(uint64_t)HK_FLAG_RF);
	set_flat(cpu, cs, cs + 8, 0, true);
	cpu->shadow |= HK_SHADOW_SYSCALL;
	return hk_leave_to(cpu, cpu->lstar);
}

HK_EXEC(sysret)
{
	enum { FLAGS = 0x3c7fd7 }; /* all but RF and VM */

	bool is_64 = hk_insn_size(insn) == 3;
	uint64_t rip = is_64 ? cpu->gpr[HK_RCX] : (uint32_t)cpu->gpr[HK_RCX];
	uint16_t base = (uint16_t)(cpu->star >> 48);

	if (cpu->mode != HK_CODE_64 || (cpu->efer & HK_EFER_SCE) == 0) {
		return hk_raise(cpu, insn, HK_VECTOR_UD);
	}
	if (cpu->cpl != 0 || !hk_canonical(rip)) {
		return hk_raise_code(cpu, insn, HK_VECTOR_GP, 0);
	}
	hk_rflags_set(cpu, cpu->gpr[HK_R11] & FLAGS);
	set_flat(cpu, (uint16_t)(base + (is_64 ? 16 : 0)) | 3, (uint16_t)(base + 8) | 3, 3, is_64);
	return hk_leave_to(cpu, rip);
}

HK_EXEC(sysenter)
{
	uint16_t cs = cpu->sysenter_cs & 0xfffc;
	bool is_64 = hk_long_mode(cpu);

	if (!hk_protected(cpu) || cs == 0) {
		return hk_raise_code(cpu, insn, HK_VECTOR_GP, 0);
	}
	cpu->rflags &= ~(uint32_t)(HK_FLAG_VM | HK_FLAG_IF | HK_FLAG_RF);
	set_flat(cpu, cs, cs + 8, 0, is_64);
	cpu->gpr[HK_RSP] = is_64 ? cpu->sysenter_esp : (uint32_t)cpu->sysenter_esp;
	return hk_leave_to(cpu, is_64 ? cpu->sysenter_eip : (uint32_t)cpu->sysenter_eip);
}

HK_EXEC(sysexit)
{
	uint16_t base = cpu->sysenter_cs & 0xfffc;
	bool is_64 = hk_insn_size(insn) == 3;
	uint64_t rip = is_64 ? cpu->gpr[HK_RDX] : (uint32_t)cpu->gpr[HK_RDX];
	uint64_t rsp = is_64 ? cpu->gpr[HK_RCX] : (uint32_t)cpu->gpr[HK_RCX];

	if (!hk_protected(cpu) || base == 0 || cpu->cpl != 0 || !hk_canonical(rip) ||
		!hk_canonical(rsp)) {
		return hk_raise_code(cpu, insn, HK_VECTOR_GP, 0);
	}

	uint16_t cs = (uint16_t)(base + (is_64 ? 32 : 16)) | 3;

	set_flat(cpu, cs, (uint16_t)(cs + 8), 3, is_64);
	cpu->gpr[HK_RSP] = rsp;
	return hk_leave_to(cpu, rip);
}
