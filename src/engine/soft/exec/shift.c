/* SPDX-License-Identifier: ISC */
/* Shifts and rotates. What is computed stands in alu.h. */
#include "engine/soft/exec/handlers.h"
#include "engine/soft/exec/rmw.h"

/* By CL (form RM_REG) or an immediate. */
HK_ALWAYS_INLINE const struct hk_insn *shift(
	struct hk_cpu *cpu, const struct hk_insn *insn, hk_alu_fn *op)
{
	bool by_cl = hk_insn_form(insn) == HK_FORM_RM_REG;
	uint64_t count = by_cl ? cpu->gpr[HK_RCX] : insn->imm;

	if (!hk_rmw(cpu, insn, hk_insn_size(insn), op, count)) {
		return hk_give_up(cpu, insn);
	}
	return HK_NEXT(cpu, insn);
}

HK_EXEC(rol)
{
	return shift(cpu, insn, hk_alu_rol);
}

HK_EXEC(ror)
{
	return shift(cpu, insn, hk_alu_ror);
}

HK_EXEC(rcl)
{
	return shift(cpu, insn, hk_alu_rcl);
}

HK_EXEC(rcr)
{
	return shift(cpu, insn, hk_alu_rcr);
}

HK_EXEC(shl)
{
	return shift(cpu, insn, hk_alu_shl);
}

HK_EXEC(shr)
{
	return shift(cpu, insn, hk_alu_shr);
}

HK_EXEC(sar)
{
	return shift(cpu, insn, hk_alu_sar);
}

static inline const struct hk_insn *double_shift(
	struct hk_cpu *cpu, const struct hk_insn *insn, bool left, uint64_t count)
{
	unsigned size = hk_insn_size(insn);
	uint64_t b = hk_reg_get(cpu, insn->reg, size);
	uint64_t va = 0;
	uint64_t a, res;

	if (!hk_rm_begin(cpu, insn, size, &va, &a)) {
		return hk_give_up(cpu, insn);
	}
	res = left ? hk_alu_shld(cpu, size, a, b, count) : hk_alu_shrd(cpu, size, a, b, count);
	hk_rm_end(cpu, insn, size, va, res);
	return HK_NEXT(cpu, insn);
}

HK_EXEC(shld)
{
	return double_shift(cpu, insn, true, insn->imm);
}

HK_EXEC(shld_cl)
{
	return double_shift(cpu, insn, true, cpu->gpr[HK_RCX]);
}

HK_EXEC(shrd)
{
	return double_shift(cpu, insn, false, insn->imm);
}

HK_EXEC(shrd_cl)
{
	return double_shift(cpu, insn, false, cpu->gpr[HK_RCX]);
}
