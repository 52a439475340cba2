/* SPDX-License-Identifier: ISC */
/* Moves of all kinds, and conversions that are hardly more: LEA, XLAT, CBW, BSWAP. */
#include "engine/soft/exec/handlers.h"
#include "engine/soft/operand.h"

HK_EXEC(mov)
{
	unsigned size = hk_insn_size(insn);
	uint64_t value;
	bool done;

	switch (hk_insn_form(insn)) {
	case HK_FORM_REG_RM:
		done = hk_rm_get(cpu, insn, size, &value);
		if (done) {
			hk_reg_set(cpu, insn->reg, size, value);
		}
		break;
	case HK_FORM_RM_IMM:
		done = hk_rm_set(cpu, insn, size, insn->imm);
		break;
	default:
		done = hk_rm_set(cpu, insn, size, hk_reg_get(cpu, insn->reg, size));
		break;
	}
	return done ? HK_NEXT(cpu, insn) : hk_give_up(cpu, insn);
}

/* The accumulator from or to an address of full width, which stands in imm. */
HK_EXEC(mov_moffs)
{
	unsigned size = hk_insn_size(insn);
	bool load = hk_insn_form(insn) == HK_FORM_REG_RM;
	uint64_t va, value;

	if (!hk_linear(cpu, hk_insn_seg(insn), insn->imm, 1u << size,
		    load ? HK_ACCESS_READ : HK_ACCESS_WRITE, &va)) {
		return hk_give_up(cpu, insn);
	}
	if (load) {
		if (!hk_va_load(cpu, va, size, &value)) {
			return hk_give_up(cpu, insn);
		}
		hk_reg_set(cpu, HK_RAX, size, value);
	} else if (!hk_va_store(cpu, va, size, hk_reg_get(cpu, HK_RAX, size))) {
		return hk_give_up(cpu, insn);
	}
	return HK_NEXT(cpu, insn);
}

static inline const struct hk_insn *extend(
	struct hk_cpu *cpu, const struct hk_insn *insn, unsigned from, bool sign)
{
	uint64_t value;

	if (!hk_rm_get(cpu, insn, from, &value)) {
		return hk_give_up(cpu, insn);
	}
	if (sign) {
		value = hk_sign_extend(value, from);
	}
	hk_reg_set(cpu, insn->reg, hk_insn_size(insn), value);
	return HK_NEXT(cpu, insn);
}

HK_EXEC(movzx8)
{
	return extend(cpu, insn, 0, false);
}

HK_EXEC(movzx16)
{
	return extend(cpu, insn, 1, false);
}

HK_EXEC(movsx8)
{
	return extend(cpu, insn, 0, true);
}

HK_EXEC(movsx16)
{
	return extend(cpu, insn, 1, true);
}

HK_EXEC(movsxd)
{
	return extend(cpu, insn, hk_insn_size(insn) == 1 ? 1 : 2, true);
}

/* A hint to go past the caches, of which we have none. */
HK_EXEC(movnti)
{
	unsigned size = hk_insn_size(insn);

	if (!hk_rm_set(cpu, insn, size, hk_reg_get(cpu, insn->reg, size))) {
		return hk_give_up(cpu, insn);
	}
	return HK_NEXT(cpu, insn);
}

static inline uint64_t swap_bytes(uint64_t value, unsigned size)
{
	return __builtin_bswap64(value) >> (64 - (8u << size));
}

HK_EXEC(movbe)
{
	unsigned size = hk_insn_size(insn);
	uint64_t value;

	if (hk_insn_form(insn) == HK_FORM_REG_RM) {
		if (!hk_rm_get(cpu, insn, size, &value)) {
			return hk_give_up(cpu, insn);
		}
		hk_reg_set(cpu, insn->reg, size, swap_bytes(value, size));
	} else {
		value = swap_bytes(hk_reg_get(cpu, insn->reg, size), size);
		if (!hk_rm_set(cpu, insn, size, value)) {
			return hk_give_up(cpu, insn);
		}
	}
	return HK_NEXT(cpu, insn);
}

/* With 16 bits undefined; Sapphire Rapids gives 0. */
HK_EXEC(bswap)
{
	unsigned size = hk_insn_size(insn);
	uint64_t value = hk_reg_get(cpu, insn->base, size);

	hk_reg_set(cpu, insn->base, size, size == 1 ? 0 : swap_bytes(value, size));
	return HK_NEXT(cpu, insn);
}

HK_EXEC(lea)
{
	hk_reg_set(cpu, insn->reg, hk_insn_size(insn), hk_ea(cpu, insn));
	return HK_NEXT(cpu, insn);
}

HK_EXEC(xlat)
{
	uint64_t offset = cpu->gpr[HK_RBX] + (uint8_t)cpu->gpr[HK_RAX];
	uint64_t va, value;

	offset &= hk_mask(hk_insn_addr_size(insn));
	if (!hk_linear(cpu, hk_insn_seg(insn), offset, 1, HK_ACCESS_READ, &va) ||
		!hk_va_load(cpu, va, 0, &value)) {
		return hk_give_up(cpu, insn);
	}
	hk_reg_set(cpu, HK_RAX, 0, value);
	return HK_NEXT(cpu, insn);
}

/* CBW, CWDE, CDQE: the accumulator's lower half fills all of it. */
HK_EXEC(cbw)
{
	unsigned size = hk_insn_size(insn);

	hk_reg_set(cpu, HK_RAX, size, hk_sign_extend(cpu->gpr[HK_RAX], size - 1));
	return HK_NEXT(cpu, insn);
}

/* CWD, CDQ, CQO: the accumulator's sign fills DX, EDX, RDX. */
HK_EXEC(cwd)
{
	unsigned size = hk_insn_size(insn);
	bool negative = (int64_t)hk_sign_extend(cpu->gpr[HK_RAX], size) < 0;

	hk_reg_set(cpu, HK_RDX, size, negative ? UINT64_MAX : 0);
	return HK_NEXT(cpu, insn);
}

/*
 * The source is read, and a 32-bit destination loses its upper half, even where nothing is moved.
 */
HK_EXEC(cmov)
{
	unsigned size = hk_insn_size(insn);
	uint64_t value;

	if (!hk_rm_get(cpu, insn, size, &value)) {
		return hk_give_up(cpu, insn);
	}
	if (!hk_cond(cpu, insn->cond)) {
		value = hk_reg_get(cpu, insn->reg, size);
	}
	hk_reg_set(cpu, insn->reg, size, value);
	return HK_NEXT(cpu, insn);
}

HK_EXEC(setcc)
{
	if (!hk_rm_set(cpu, insn, 0, hk_cond(cpu, insn->cond))) {
		return hk_give_up(cpu, insn);
	}
	return HK_NEXT(cpu, insn);
}
