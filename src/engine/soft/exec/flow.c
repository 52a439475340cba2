/* SPDX-License-Identifier: ISC */
/*
 * Branches within a code segment, and INTO, which is nearly one.
 *
 * The target is cut to the operand size and checked before anything changes. What can be linked
 * (link.c) comes here only in the odd cases.
 */
#include "engine/soft/exec/handlers.h"
#include "engine/soft/exec/stack.h"
#include "engine/soft/sys.h"

static inline uint64_t relative_target(const struct hk_cpu *cpu, const struct hk_insn *insn)
{
	uint64_t rip = cpu->gpr[HK_REG_PAGE] + (uint64_t)(int64_t)insn->disp;

	return rip & hk_mask(hk_insn_size(insn));
}

static inline const struct hk_insn *branch(
	struct hk_cpu *cpu, const struct hk_insn *insn, uint64_t rip)
{
	if (!hk_branch_ok(cpu, rip)) {
		return hk_give_up(cpu, insn);
	}
	return hk_jump(cpu, insn, rip);
}

static inline const struct hk_insn *call(
	struct hk_cpu *cpu, const struct hk_insn *insn, uint64_t rip)
{
	if (!hk_branch_ok(cpu, rip) ||
		!hk_push(cpu, hk_insn_size(insn), hk_insn_next_rip(cpu, insn))) {
		return hk_give_up(cpu, insn);
	}
	return hk_jump(cpu, insn, rip);
}

HK_EXEC(jcc)
{
	if (!hk_cond(cpu, insn->cond)) {
		return HK_NEXT(cpu, insn);
	}
	return branch(cpu, insn, relative_target(cpu, insn));
}

HK_EXEC(jmp)
{
	return branch(cpu, insn, relative_target(cpu, insn));
}

HK_EXEC(jmp_rm)
{
	uint64_t rip;

	if (!hk_rm_get(cpu, insn, hk_insn_size(insn), &rip)) {
		return hk_give_up(cpu, insn);
	}
	return branch(cpu, insn, rip);
}

HK_EXEC(call)
{
	return call(cpu, insn, relative_target(cpu, insn));
}

HK_EXEC(call_rm)
{
	uint64_t rip;

	if (!hk_rm_get(cpu, insn, hk_insn_size(insn), &rip)) {
		return hk_give_up(cpu, insn);
	}
	return call(cpu, insn, rip);
}

HK_EXEC(ret)
{
	unsigned size = hk_insn_size(insn);
	int64_t drop = (int64_t)hk_insn_bytes(insn) + (uint16_t)insn->imm;
	uint64_t rip;

	if (!hk_stack_load(cpu, hk_sp(cpu, 0), size, &rip) || !hk_branch_ok(cpu, rip)) {
		return hk_give_up(cpu, insn);
	}
	hk_sp_set(cpu, hk_sp(cpu, drop));
	return hk_jump(cpu, insn, rip);
}

/* LOOP, LOOPE, LOOPNE count rCX of the address size down, without touching flags. */
static inline const struct hk_insn *count_down(
	struct hk_cpu *cpu, const struct hk_insn *insn, bool holds)
{
	unsigned size = hk_insn_addr_size(insn);
	uint64_t count = (cpu->gpr[HK_RCX] - 1) & hk_mask(size);
	uint64_t rip = relative_target(cpu, insn);

	if (count == 0 || !holds) {
		hk_reg_set(cpu, HK_RCX, size, count);
		return HK_NEXT(cpu, insn);
	}
	if (!hk_branch_ok(cpu, rip)) {
		return hk_give_up(cpu, insn);
	}
	hk_reg_set(cpu, HK_RCX, size, count);
	return hk_jump(cpu, insn, rip);
}

HK_EXEC(loop)
{
	return count_down(cpu, insn, true);
}

HK_EXEC(loope)
{
	return count_down(cpu, insn, hk_cc_zf(cpu));
}

HK_EXEC(loopne)
{
	return count_down(cpu, insn, !hk_cc_zf(cpu));
}

HK_EXEC(jcxz)
{
	if (hk_reg_get(cpu, HK_RCX, hk_insn_addr_size(insn)) != 0) {
		return HK_NEXT(cpu, insn);
	}
	return branch(cpu, insn, relative_target(cpu, insn));
}

HK_EXEC(into)
{
	if (!hk_cond(cpu, HK_COND_O)) {
		return HK_NEXT(cpu, insn);
	}
	return hk_raise_soft(cpu, insn, HK_VECTOR_OF);
}

/* An array index against a pair of bounds in memory, both signed and inclusive. */
HK_EXEC(bound)
{
	unsigned size = hk_insn_size(insn);
	int64_t index = (int64_t)hk_sign_extend(cpu->gpr[insn->reg], size);
	uint64_t va, low, high;

	/* Below the lower bound, the upper one is not looked at. */
	if (!hk_mem_va(cpu, insn, 2u << size, HK_ACCESS_READ, &va) ||
		!hk_va_load(cpu, va, size, &low)) {
		return hk_give_up(cpu, insn);
	}
	if (index < (int64_t)hk_sign_extend(low, size)) {
		return hk_raise(cpu, insn, HK_VECTOR_BR);
	}
	if (!hk_va_load(cpu, va + hk_insn_bytes(insn), size, &high)) {
		return hk_give_up(cpu, insn);
	}
	if (index > (int64_t)hk_sign_extend(high, size)) {
		return hk_raise(cpu, insn, HK_VECTOR_BR);
	}
	return HK_NEXT(cpu, insn);
}
