/* SPDX-License-Identifier: ISC */
/*
 * Arithmetic and logic of one and two operands, and the flags by themselves. What is computed
 * stands in alu.h; here is where operands come from and results go.
 */
#include "engine/soft/exec/handlers.h"
#include "engine/soft/exec/rmw.h"

HK_ALWAYS_INLINE const struct hk_insn *binary(
	struct hk_cpu *cpu, const struct hk_insn *insn, hk_alu_fn *op)
{
	unsigned size = hk_insn_size(insn);
	uint64_t b;

	if (hk_insn_form(insn) == HK_FORM_REG_RM) {
		if (!hk_rm_get(cpu, insn, size, &b)) {
			return hk_give_up(cpu, insn);
		}
		hk_reg_set(
			cpu, insn->reg, size, op(cpu, size, hk_reg_get(cpu, insn->reg, size), b));
	} else if (!hk_rmw(cpu, insn, size, op, hk_source(cpu, insn, size))) {
		return hk_give_up(cpu, insn);
	}
	return HK_NEXT(cpu, insn);
}

/* Those that only leave flags. */
HK_ALWAYS_INLINE const struct hk_insn *compare(
	struct hk_cpu *cpu, const struct hk_insn *insn, hk_alu_fn *op)
{
	unsigned size = hk_insn_size(insn);
	uint64_t rm;

	if (!hk_rm_get(cpu, insn, size, &rm)) {
		return hk_give_up(cpu, insn);
	}
	if (hk_insn_form(insn) == HK_FORM_REG_RM) {
		op(cpu, size, hk_reg_get(cpu, insn->reg, size), rm);
	} else {
		op(cpu, size, rm, hk_source(cpu, insn, size));
	}
	return HK_NEXT(cpu, insn);
}

HK_ALWAYS_INLINE const struct hk_insn *unary(
	struct hk_cpu *cpu, const struct hk_insn *insn, hk_alu_fn *op)
{
	if (!hk_rmw(cpu, insn, hk_insn_size(insn), op, 0)) {
		return hk_give_up(cpu, insn);
	}
	return HK_NEXT(cpu, insn);
}

HK_EXEC(add)
{
	return binary(cpu, insn, hk_alu_add);
}

HK_EXEC(adc)
{
	return binary(cpu, insn, hk_alu_adc);
}

HK_EXEC(sub)
{
	return binary(cpu, insn, hk_alu_sub);
}

HK_EXEC(sbb)
{
	return binary(cpu, insn, hk_alu_sbb);
}

HK_EXEC(and)
{
	return binary(cpu, insn, hk_alu_and);
}

HK_EXEC(or)
{
	return binary(cpu, insn, hk_alu_or);
}

HK_EXEC(xor)
{
	return binary(cpu, insn, hk_alu_xor);
}

HK_EXEC(cmp)
{
	return compare(cpu, insn, hk_alu_sub);
}

HK_EXEC(test)
{
	return compare(cpu, insn, hk_alu_and);
}

HK_EXEC(inc)
{
	return unary(cpu, insn, hk_alu_inc);
}

HK_EXEC(dec)
{
	return unary(cpu, insn, hk_alu_dec);
}

HK_EXEC(neg)
{
	return unary(cpu, insn, hk_alu_neg);
}

HK_EXEC(not )
{
	return unary(cpu, insn, hk_alu_not);
}

/*
 * ADCX and ADOX add with CF or OF as carry and change only that flag, so that two chains of
 * additions can run at once.
 */
HK_EXEC(adcx)
{
	unsigned size = hk_insn_size(insn);
	uint64_t a = hk_reg_get(cpu, insn->reg, size);
	uint64_t b, res;
	bool carry;

	if (!hk_rm_get(cpu, insn, size, &b)) {
		return hk_give_up(cpu, insn);
	}
	carry = hk_cc_cf(cpu);
	res = (a + b + carry) & hk_mask(size);
	hk_reg_set(cpu, insn->reg, size, res);
	hk_cc_set_cf(cpu, carry ? res <= a : res < a);
	return HK_NEXT(cpu, insn);
}

HK_EXEC(adox)
{
	unsigned size = hk_insn_size(insn);
	uint64_t a = hk_reg_get(cpu, insn->reg, size);
	uint64_t b, res;
	bool carry;

	if (!hk_rm_get(cpu, insn, size, &b)) {
		return hk_give_up(cpu, insn);
	}
	carry = hk_cond(cpu, HK_COND_O);
	res = (a + b + carry) & hk_mask(size);
	hk_reg_set(cpu, insn->reg, size, res);
	hk_cc_set_cf_of(cpu, hk_cc_cf(cpu), carry ? res <= a : res < a);
	return HK_NEXT(cpu, insn);
}

HK_EXEC(clc)
{
	hk_cc_set_cf(cpu, false);
	return HK_NEXT(cpu, insn);
}

HK_EXEC(stc)
{
	hk_cc_set_cf(cpu, true);
	return HK_NEXT(cpu, insn);
}

HK_EXEC(cmc)
{
	hk_cc_set_cf(cpu, !hk_cc_cf(cpu));
	return HK_NEXT(cpu, insn);
}

HK_EXEC(cld)
{
	cpu->rflags &= ~(uint32_t)HK_FLAG_DF;
	return HK_NEXT(cpu, insn);
}

HK_EXEC(std)
{
	cpu->rflags |= HK_FLAG_DF;
	return HK_NEXT(cpu, insn);
}

enum { AH = HK_RAX * 8 + 1 }; /* as hk_gpr8() counts */

HK_EXEC(lahf)
{
	*hk_gpr8(cpu, AH) = (uint8_t)(hk_cc_get(cpu) | HK_FLAG_FIXED);
	return HK_NEXT(cpu, insn);
}

HK_EXEC(sahf)
{
	hk_cc_set_raw(cpu, (hk_cc_get(cpu) & HK_FLAG_OF) | *hk_gpr8(cpu, AH));
	return HK_NEXT(cpu, insn);
}
