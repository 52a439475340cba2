/* SPDX-License-Identifier: ISC */
/*
 * Decimal arithmetic, which only 16- and 32-bit code has, and SALC of the same age.
 *
 * Undefined flags are as Sapphire Rapids has them (measured for all of AX and the flags that
 * matter).
 */
#include "engine/soft/exec/alu.h"
#include "engine/soft/exec/handlers.h"
#include "engine/soft/operand.h"

/* SF, ZF and PF of @al; CF and AF as told; OF is clear. */
static void set_flags(struct hk_cpu *cpu, uint64_t al, bool cf, bool af)
{
	hk_cc_set(cpu, HK_CC_SHIFT, 0, al, (cf ? HK_CC_BIT_CF : 0) | (af ? HK_CC_BIT_AF : 0));
}

static bool get_af(const struct hk_cpu *cpu)
{
	return (hk_cc_get(cpu) & HK_FLAG_AF) != 0;
}

/* After an addition or subtraction of two packed digits: bring both back to 0 to 9. */
HK_EXEC(daa)
{
	uint64_t al = (uint8_t)cpu->gpr[HK_RAX];
	bool low = (al & 15) > 9 || get_af(cpu);
	bool high = al > 0x99 || hk_cc_cf(cpu);

	al += (low ? 6 : 0) + (high ? 0x60 : 0);
	hk_reg_set(cpu, HK_RAX, 0, al);
	set_flags(cpu, al, high, low);
	return HK_NEXT(cpu, insn);
}

HK_EXEC(das)
{
	uint64_t al = (uint8_t)cpu->gpr[HK_RAX];
	bool low = (al & 15) > 9 || get_af(cpu);
	bool high = al > 0x99 || hk_cc_cf(cpu);
	bool borrow = high || (low && al < 6);

	al -= (low ? 6 : 0) + (high ? 0x60 : 0);
	hk_reg_set(cpu, HK_RAX, 0, al);
	set_flags(cpu, al, borrow, low);
	return HK_NEXT(cpu, insn);
}

/* The same with one digit in AL; the carry goes to AH. */
static const struct hk_insn *adjust_one(struct hk_cpu *cpu, const struct hk_insn *insn, uint64_t by)
{
	uint64_t ax = (uint16_t)cpu->gpr[HK_RAX];
	bool carry = (ax & 15) > 9 || get_af(cpu);

	if (carry) {
		ax += by;
	}
	ax &= 0xff0f;
	hk_reg_set(cpu, HK_RAX, 1, ax);
	set_flags(cpu, ax, carry, carry);
	return HK_NEXT(cpu, insn);
}

HK_EXEC(aaa)
{
	return adjust_one(cpu, insn, 0x106);
}

HK_EXEC(aas)
{
	return adjust_one(cpu, insn, 0 - UINT64_C(0x106));
}

/* AL to two digits in AH and AL, of any base. */
HK_EXEC(aam)
{
	unsigned base = (uint8_t)insn->imm;
	unsigned al = (uint8_t)cpu->gpr[HK_RAX];

	if (base == 0) {
		return hk_raise(cpu, insn, HK_VECTOR_DE);
	}
	hk_reg_set(cpu, HK_RAX, 1, al / base << 8 | al % base);
	set_flags(cpu, al % base, false, false);
	return HK_NEXT(cpu, insn);
}

/* And back: all flags are those of the addition. */
HK_EXEC(aad)
{
	uint64_t al = (uint8_t)cpu->gpr[HK_RAX];
	uint64_t tens = (uint8_t)((cpu->gpr[HK_RAX] >> 8 & 0xff) * insn->imm);

	hk_reg_set(cpu, HK_RAX, 1, (uint8_t)hk_alu_add(cpu, 0, al, tens));
	return HK_NEXT(cpu, insn);
}

HK_EXEC(salc)
{
	hk_reg_set(cpu, HK_RAX, 0, hk_cc_cf(cpu) ? 0xff : 0);
	return HK_NEXT(cpu, insn);
}
