/* SPDX-License-Identifier: ISC */
/* PUSH, POP and what is built on them: flags, segment registers, frames. */
#include "engine/soft/exec/stack.h"

#include "engine/soft/exec/handlers.h"
#include "engine/soft/sys.h"

HK_EXEC(push)
{
	unsigned size = hk_insn_size(insn);

	if (!hk_push(cpu, size, hk_reg_get(cpu, insn->base, size))) {
		return hk_give_up(cpu, insn);
	}
	return HK_NEXT(cpu, insn);
}

HK_EXEC(push_rm)
{
	unsigned size = hk_insn_size(insn);
	uint64_t value;

	if (!hk_rm_get(cpu, insn, size, &value) || !hk_push(cpu, size, value)) {
		return hk_give_up(cpu, insn);
	}
	return HK_NEXT(cpu, insn);
}

HK_EXEC(push_imm)
{
	if (!hk_push(cpu, hk_insn_size(insn), insn->imm)) {
		return hk_give_up(cpu, insn);
	}
	return HK_NEXT(cpu, insn);
}

HK_EXEC(pop)
{
	unsigned size = hk_insn_size(insn);
	uint64_t value;

	if (!hk_pop(cpu, size, &value)) {
		return hk_give_up(cpu, insn);
	}
	hk_reg_set(cpu, insn->base, size, value);
	return HK_NEXT(cpu, insn);
}

/* An address made with rSP is made with rSP as it is after the pop. */
HK_EXEC(pop_rm)
{
	unsigned size = hk_insn_size(insn);
	uint64_t rsp = cpu->gpr[HK_RSP];
	uint64_t value;

	if (!hk_pop(cpu, size, &value)) {
		return hk_give_up(cpu, insn);
	}
	if (!hk_rm_set(cpu, insn, size, value)) {
		cpu->gpr[HK_RSP] = rsp;
		return hk_give_up(cpu, insn);
	}
	return HK_NEXT(cpu, insn);
}

/* A push of 32 bits makes room for them but writes 16, on Sapphire Rapids; one of 64 writes all. */
HK_EXEC(push_sreg)
{
	unsigned size = hk_insn_size(insn);
	uint64_t sp = hk_sp(cpu, -(int64_t)hk_insn_bytes(insn));

	if (!hk_stack_store(cpu, sp, size == 2 ? 1 : size, cpu->seg[insn->reg].selector)) {
		return hk_give_up(cpu, insn);
	}
	hk_sp_set(cpu, sp);
	return HK_NEXT(cpu, insn);
}

HK_EXEC(pop_sreg)
{
	/* rSP moves as wide as the stack is before SS changes. */
	unsigned stack_size = cpu->stack_size;
	uint64_t sp = hk_sp(cpu, (int64_t)hk_insn_bytes(insn));
	uint64_t value;

	if (!hk_stack_load(cpu, hk_sp(cpu, 0), hk_insn_size(insn), &value) ||
		!hk_load_segment(cpu, insn->reg, (uint16_t)value)) {
		return hk_give_up(cpu, insn);
	}
	hk_reg_set(cpu, HK_RSP, stack_size, sp);
	if (insn->reg == HK_SS) {
		cpu->shadow |= HK_SHADOW_MOV_SS;
	}
	return hk_leave(cpu, insn);
}

/*
 * Where it faults it may have written some of its words: as on hardware, they lie below the stack.
 */
HK_EXEC(pusha)
{
	unsigned size = hk_insn_size(insn);
	uint64_t sp = hk_sp(cpu, 0);

	for (unsigned reg = HK_RAX; reg <= HK_RDI; reg++) {
		sp = hk_sp(cpu, -(int64_t)((reg + 1) << size));
		if (!hk_stack_store(cpu, sp, size, hk_reg_get(cpu, reg, size))) {
			return hk_give_up(cpu, insn);
		}
	}
	hk_sp_set(cpu, sp);
	return HK_NEXT(cpu, insn);
}

HK_EXEC(popa)
{
	unsigned size = hk_insn_size(insn);
	uint64_t values[8];

	for (unsigned i = 0; i < 8; i++) {
		if (!hk_stack_load(cpu, hk_sp(cpu, (int64_t)(i << size)), size, &values[i])) {
			return hk_give_up(cpu, insn);
		}
	}
	hk_sp_set(cpu, hk_sp(cpu, (int64_t)(8u << size)));
	for (unsigned i = 0; i < 8; i++) {
		unsigned reg = HK_RDI - i;

		if (reg != HK_RSP) {
			hk_reg_set(cpu, reg, size, values[i]);
		}
	}
	return HK_NEXT(cpu, insn);
}

/* Virtual-8086 mode below IOPL 3: a monitor in the guest would have to do it. */
static bool flags_ok(struct hk_cpu *cpu)
{
	if ((cpu->rflags & HK_FLAG_VM) != 0 && (cpu->rflags & HK_FLAG_IOPL) != HK_FLAG_IOPL) {
		return hk_fault_code(cpu, HK_VECTOR_GP, 0);
	}
	return true;
}

HK_EXEC(pushf)
{
	uint64_t flags = hk_rflags_get(cpu) & ~(uint64_t)(HK_FLAG_VM | HK_FLAG_RF);

	if (!flags_ok(cpu) || !hk_push(cpu, hk_insn_size(insn), flags)) {
		return hk_give_up(cpu, insn);
	}
	return HK_NEXT(cpu, insn);
}

/*
 * IOPL can be changed at CPL 0, IF where CPL is not above IOPL; elsewhere they silently stay. VM,
 * VIF and VIP always stay, RF is cleared.
 */
HK_EXEC(popf)
{
	unsigned size = hk_insn_size(insn);
	uint32_t may =
		HK_FLAGS_ARITH | HK_FLAG_TF | HK_FLAG_DF | HK_FLAG_NT | HK_FLAG_AC | HK_FLAG_ID;
	unsigned iopl = (cpu->rflags & HK_FLAG_IOPL) / (HK_FLAG_IOPL / 3);
	uint32_t old, flags;
	uint64_t value;

	if (!flags_ok(cpu) || !hk_pop(cpu, size, &value)) {
		return hk_give_up(cpu, insn);
	}
	if (cpu->cpl == 0) {
		may |= HK_FLAG_IOPL;
	}
	if (cpu->cpl <= iopl) {
		may |= HK_FLAG_IF;
	}
	if (size == 1) {
		may &= 0xffff;
	}
	old = (uint32_t)hk_rflags_get(cpu);
	flags = (old & ~may & ~(uint32_t)HK_FLAG_RF) | ((uint32_t)value & may);
	hk_rflags_set(cpu, flags);
	if (((old ^ flags) & HK_FLAG_AC) != 0) {
		hk_cpu_mode_changed(cpu);
	}
	if (((old ^ flags) & (HK_FLAG_TF | HK_FLAG_AC)) != 0 ||
		((flags & HK_FLAG_IF) != 0 && cpu->irq_waits)) {
		return hk_leave(cpu, insn);
	}
	return HK_NEXT(cpu, insn);
}

/*
 * ENTER: pushes rBP, then pointers to the frames of the enclosing procedures (copied from the
 * frame of the caller), then makes room. The room must be writable at its end.
 */
HK_EXEC(enter)
{
	unsigned size = hk_insn_size(insn);
	int64_t bytes = (int64_t)hk_insn_bytes(insn);
	unsigned room = insn->imm & 0xffff;
	unsigned level = insn->imm >> 16 & 31;
	int64_t down = bytes;
	uint64_t frame = hk_sp(cpu, -down);
	uint64_t va, value;

	if (!hk_stack_store(cpu, frame, size, hk_reg_get(cpu, HK_RBP, size))) {
		return hk_give_up(cpu, insn);
	}
	for (unsigned i = 1; i <= level; i++) {
		uint64_t outer = cpu->gpr[HK_RBP] - (uint64_t)(i * bytes);

		value = frame;
		if (i < level &&
			!hk_stack_load(cpu, outer & hk_mask(cpu->stack_size), size, &value)) {
			return hk_give_up(cpu, insn);
		}
		down += bytes;
		if (!hk_stack_store(cpu, hk_sp(cpu, -down), size, value)) {
			return hk_give_up(cpu, insn);
		}
	}

	uint64_t sp = hk_sp(cpu, -down - room);

	if (!hk_linear(cpu, HK_SS, sp, (unsigned)bytes, HK_ACCESS_WRITE, &va) ||
		!hk_probe(cpu, va, (unsigned)bytes, HK_ACCESS_WRITE)) {
		return hk_give_up(cpu, insn);
	}
	hk_reg_set(cpu, HK_RBP, size, frame);
	hk_sp_set(cpu, sp);
	return HK_NEXT(cpu, insn);
}

HK_EXEC(leave)
{
	unsigned size = hk_insn_size(insn);
	uint64_t frame = cpu->gpr[HK_RBP] & hk_mask(cpu->stack_size);
	uint64_t value;

	if (!hk_stack_load(cpu, frame, size, &value)) {
		return hk_give_up(cpu, insn);
	}
	hk_sp_set(cpu, frame + hk_insn_bytes(insn));
	hk_reg_set(cpu, HK_RBP, size, value);
	return HK_NEXT(cpu, insn);
}
