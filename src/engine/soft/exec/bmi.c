/* SPDX-License-Identifier: ISC */
/*
 * BMI1 and BMI2: bit fields, lowest bits, shifts that leave the flags alone. MULX is in muldiv.c,
 * TZCNT in bits.c.
 *
 * Operands are 32 or 64 bits. AF and PF are undefined where flags are set; Sapphire Rapids clears
 * them.
 */
#include "engine/soft/exec/handlers.h"
#include "engine/soft/operand.h"

static void set_flags(struct hk_cpu *cpu, unsigned size, uint64_t res, bool cf)
{
	uint32_t flags = cf ? HK_FLAG_CF : 0;

	if ((res & hk_mask(size)) == 0) {
		flags |= HK_FLAG_ZF;
	} else if ((int64_t)hk_sign_extend(res, size) < 0) {
		flags |= HK_FLAG_SF;
	}
	hk_cc_set_raw(cpu, flags);
}

HK_EXEC(andn)
{
	unsigned size = hk_insn_size(insn);
	uint64_t value;

	if (!hk_rm_get(cpu, insn, size, &value)) {
		return hk_give_up(cpu, insn);
	}
	value &= ~hk_reg_get(cpu, insn->aux, size);
	hk_reg_set(cpu, insn->reg, size, value);
	set_flags(cpu, size, value, false);
	return HK_NEXT(cpu, insn);
}

/*
 * Those on the lowest set bit: destination in VEX.vvvv. CF tells of a zero source, for BLSI the
 * contrary.
 */
HK_EXEC(blsr)
{
	unsigned size = hk_insn_size(insn);
	uint64_t value, res;

	if (!hk_rm_get(cpu, insn, size, &value)) {
		return hk_give_up(cpu, insn);
	}
	res = value & (value - 1);
	hk_reg_set(cpu, insn->aux, size, res);
	set_flags(cpu, size, res, value == 0);
	return HK_NEXT(cpu, insn);
}

HK_EXEC(blsmsk)
{
	unsigned size = hk_insn_size(insn);
	uint64_t value, res;

	if (!hk_rm_get(cpu, insn, size, &value)) {
		return hk_give_up(cpu, insn);
	}
	res = value ^ (value - 1);
	hk_reg_set(cpu, insn->aux, size, res);
	set_flags(cpu, size, res, value == 0);
	return HK_NEXT(cpu, insn);
}

HK_EXEC(blsi)
{
	unsigned size = hk_insn_size(insn);
	uint64_t value, res;

	if (!hk_rm_get(cpu, insn, size, &value)) {
		return hk_give_up(cpu, insn);
	}
	res = value & (0 - value);
	hk_reg_set(cpu, insn->aux, size, res);
	set_flags(cpu, size, res, value != 0);
	return HK_NEXT(cpu, insn);
}

/* The field: first bit in bits 0 to 7, length in bits 8 to 15 of VEX.vvvv. */
HK_EXEC(bextr)
{
	unsigned size = hk_insn_size(insn);
	unsigned start = (uint8_t)cpu->gpr[insn->aux];
	unsigned len = (uint8_t)(cpu->gpr[insn->aux] >> 8);
	uint64_t value;

	if (!hk_rm_get(cpu, insn, size, &value)) {
		return hk_give_up(cpu, insn);
	}
	value = start < 64 ? value >> start : 0;
	if (len < 64) {
		value &= (UINT64_C(1) << len) - 1;
	}
	hk_reg_set(cpu, insn->reg, size, value);
	set_flags(cpu, size, value, false);
	return HK_NEXT(cpu, insn);
}

HK_EXEC(bzhi)
{
	unsigned size = hk_insn_size(insn);
	unsigned keep = (uint8_t)cpu->gpr[insn->aux];
	bool all = keep >= 8u << size;
	uint64_t value;

	if (!hk_rm_get(cpu, insn, size, &value)) {
		return hk_give_up(cpu, insn);
	}
	if (!all) {
		value &= (UINT64_C(1) << keep) - 1;
	}
	hk_reg_set(cpu, insn->reg, size, value);
	set_flags(cpu, size, value, all);
	return HK_NEXT(cpu, insn);
}

/* The lowest bits of VEX.vvvv to where the mask has ones. */
HK_EXEC(pdep)
{
	unsigned size = hk_insn_size(insn);
	uint64_t from = hk_reg_get(cpu, insn->aux, size);
	uint64_t res = 0;
	uint64_t mask;

	if (!hk_rm_get(cpu, insn, size, &mask)) {
		return hk_give_up(cpu, insn);
	}
	for (; mask != 0; mask &= mask - 1) {
		if ((from & 1) != 0) {
			res |= mask & (0 - mask);
		}
		from >>= 1;
	}
	hk_reg_set(cpu, insn->reg, size, res);
	return HK_NEXT(cpu, insn);
}

/* And back. */
HK_EXEC(pext)
{
	unsigned size = hk_insn_size(insn);
	uint64_t from = hk_reg_get(cpu, insn->aux, size);
	uint64_t res = 0;
	uint64_t mask;

	if (!hk_rm_get(cpu, insn, size, &mask)) {
		return hk_give_up(cpu, insn);
	}
	for (unsigned to = 0; mask != 0; mask &= mask - 1) {
		if ((from & mask & (0 - mask)) != 0) {
			res |= UINT64_C(1) << to;
		}
		to++;
	}
	hk_reg_set(cpu, insn->reg, size, res);
	return HK_NEXT(cpu, insn);
}

HK_EXEC(rorx)
{
	unsigned size = hk_insn_size(insn);
	unsigned bits = 8u << size;
	unsigned turn = insn->imm & (bits - 1);
	uint64_t value;

	if (!hk_rm_get(cpu, insn, size, &value)) {
		return hk_give_up(cpu, insn);
	}
	if (turn != 0) {
		value = value >> turn | value << (bits - turn);
	}
	hk_reg_set(cpu, insn->reg, size, value);
	return HK_NEXT(cpu, insn);
}

static inline unsigned shift_count(const struct hk_cpu *cpu, const struct hk_insn *insn)
{
	return (unsigned)cpu->gpr[insn->aux] & ((8u << hk_insn_size(insn)) - 1);
}

HK_EXEC(shlx)
{
	unsigned size = hk_insn_size(insn);
	uint64_t value;

	if (!hk_rm_get(cpu, insn, size, &value)) {
		return hk_give_up(cpu, insn);
	}
	hk_reg_set(cpu, insn->reg, size, value << shift_count(cpu, insn));
	return HK_NEXT(cpu, insn);
}

HK_EXEC(shrx)
{
	unsigned size = hk_insn_size(insn);
	uint64_t value;

	if (!hk_rm_get(cpu, insn, size, &value)) {
		return hk_give_up(cpu, insn);
	}
	hk_reg_set(cpu, insn->reg, size, value >> shift_count(cpu, insn));
	return HK_NEXT(cpu, insn);
}

HK_EXEC(sarx)
{
	unsigned size = hk_insn_size(insn);
	int64_t wide;
	uint64_t value;

	if (!hk_rm_get(cpu, insn, size, &value)) {
		return hk_give_up(cpu, insn);
	}
	wide = (int64_t)hk_sign_extend(value, size);
	hk_reg_set(cpu, insn->reg, size, (uint64_t)(wide >> shift_count(cpu, insn)));
	return HK_NEXT(cpu, insn);
}
