/* SPDX-License-Identifier: ISC */
/*
 * Multiplication and division.
 *
 * The one-operand forms work on a pair of registers: AX for bytes, else rDX:rAX. Division
 * leaves the flags alone, as Sapphire Rapids does.
 */
#include "engine/soft/exec/alu.h"
#include "engine/soft/exec/handlers.h"
#include "engine/soft/operand.h"

typedef unsigned __int128 wide;
typedef __int128 signed_wide;

static void set_pair(struct hk_cpu *cpu, unsigned size, uint64_t high, uint64_t low)
{
	if (size == 0) {
		hk_reg_set(cpu, HK_RAX, 1, (high & 0xff) << 8 | (low & 0xff));
	} else {
		hk_reg_set(cpu, HK_RAX, size, low);
		hk_reg_set(cpu, HK_RDX, size, high);
	}
}

HK_EXEC(mul)
{
	unsigned size = hk_insn_size(insn);
	uint64_t b, high, low;

	if (!hk_rm_get(cpu, insn, size, &b)) {
		return hk_give_up(cpu, insn);
	}
	if (size == 3) {
		wide product = (wide)cpu->gpr[HK_RAX] * b;

		low = (uint64_t)product;
		high = (uint64_t)(product >> 64);
	} else {
		low = hk_reg_get(cpu, HK_RAX, size) * b;
		high = low >> (8u << size);
	}
	set_pair(cpu, size, high, low);
	hk_cc_set_mul(cpu, size, low, high != 0);
	return HK_NEXT(cpu, insn);
}

HK_EXEC(imul1)
{
	unsigned size = hk_insn_size(insn);
	uint64_t a = hk_sign_extend(cpu->gpr[HK_RAX], size);
	uint64_t b, low;
	signed_wide product;

	if (!hk_rm_get(cpu, insn, size, &b)) {
		return hk_give_up(cpu, insn);
	}
	product = (signed_wide)(int64_t)a * (int64_t)hk_sign_extend(b, size);
	low = (uint64_t)product;
	set_pair(cpu, size, (uint64_t)((wide)product >> (8u << size)), low);
	hk_cc_set_mul(cpu, size, low, product != (int64_t)hk_sign_extend(low, size));
	return HK_NEXT(cpu, insn);
}

HK_EXEC(imul2)
{
	unsigned size = hk_insn_size(insn);
	uint64_t b;

	if (!hk_rm_get(cpu, insn, size, &b)) {
		return hk_give_up(cpu, insn);
	}
	hk_reg_set(
		cpu, insn->reg, size, hk_alu_imul(cpu, size, hk_reg_get(cpu, insn->reg, size), b));
	return HK_NEXT(cpu, insn);
}

HK_EXEC(imul3)
{
	unsigned size = hk_insn_size(insn);
	uint64_t a;

	if (!hk_rm_get(cpu, insn, size, &a)) {
		return hk_give_up(cpu, insn);
	}
	hk_reg_set(cpu, insn->reg, size, hk_alu_imul(cpu, size, a, insn->imm));
	return HK_NEXT(cpu, insn);
}

static wide get_dividend(struct hk_cpu *cpu, unsigned size)
{
	if (size == 0) {
		return (uint16_t)cpu->gpr[HK_RAX];
	}
	return (wide)hk_reg_get(cpu, HK_RDX, size) << (8u << size) | hk_reg_get(cpu, HK_RAX, size);
}

/* Narrow divisions are a tenth of the work of wide ones on most hosts. */
static void divide(wide a, uint64_t b, wide *ret_quotient, uint64_t *ret_rest)
{
	if (a >> 64 == 0) {
		*ret_quotient = (uint64_t)a / b;
		*ret_rest = (uint64_t)a % b;
	} else {
		*ret_quotient = a / b;
		*ret_rest = (uint64_t)(a % b);
	}
}

HK_EXEC(div)
{
	unsigned size = hk_insn_size(insn);
	wide a, quotient;
	uint64_t b, rest;

	if (!hk_rm_get(cpu, insn, size, &b)) {
		return hk_give_up(cpu, insn);
	}
	a = get_dividend(cpu, size);
	if (a >> (8u << size) >= b) { /* also where b is 0: the quotient does not fit */
		return hk_raise(cpu, insn, HK_VECTOR_DE);
	}
	divide(a, b, &quotient, &rest);
	set_pair(cpu, size, rest, (uint64_t)quotient);
	return HK_NEXT(cpu, insn);
}

/* Divides the magnitudes, then gives quotient and rest their signs: the rest has the dividend's. */
HK_EXEC(idiv)
{
	unsigned size = hk_insn_size(insn);
	unsigned bits = 8u << size;
	wide sign = (wide)1 << (2 * bits - 1);
	wide a, quotient, limit;
	uint64_t b, rest;
	bool a_negative, b_negative;

	if (!hk_rm_get(cpu, insn, size, &b)) {
		return hk_give_up(cpu, insn);
	}
	a = get_dividend(cpu, size);
	a_negative = (a & sign) != 0;
	if (a_negative) {
		a = (~a + 1) & (sign | (sign - 1));
	}
	b = hk_sign_extend(b, size);
	b_negative = (int64_t)b < 0;
	if (b_negative) {
		b = 0 - b;
	}
	if (b == 0) {
		return hk_raise(cpu, insn, HK_VECTOR_DE);
	}
	divide(a, b, &quotient, &rest);
	limit = (wide)1 << (bits - 1); /* the most that a negative quotient can be */
	if (quotient > limit || (quotient == limit && a_negative == b_negative)) {
		return hk_raise(cpu, insn, HK_VECTOR_DE);
	}
	set_pair(cpu, size, a_negative ? 0 - rest : rest,
		a_negative != b_negative ? 0 - (uint64_t)quotient : (uint64_t)quotient);
	return HK_NEXT(cpu, insn);
}

/* BMI2: the product without flags; where both destinations are one, the high half stays. */
HK_EXEC(mulx)
{
	unsigned size = hk_insn_size(insn);
	uint64_t b;
	wide product;

	if (!hk_rm_get(cpu, insn, size, &b)) {
		return hk_give_up(cpu, insn);
	}
	product = (wide)hk_reg_get(cpu, HK_RDX, size) * b;
	hk_reg_set(cpu, insn->aux, size, (uint64_t)product);
	hk_reg_set(cpu, insn->reg, size, (uint64_t)(product >> (8u << size)));
	return HK_NEXT(cpu, insn);
}
