/* SPDX-License-Identifier: ISC */
/* Single bits: testing and changing them, finding and counting them. */
#include "engine/soft/exec/handlers.h"
#include "engine/soft/exec/rmw.h"

/*
 * The bit's number in a register reaches beyond a memory operand, both ways: in steps of the
 * operand's size it moves the address.
 */
static bool bit_va(struct hk_cpu *cpu, const struct hk_insn *insn, unsigned size, uint64_t number,
	enum hk_access access, uint64_t *ret_va)
{
	int64_t steps = (int64_t)hk_sign_extend(number, size) >> (3 + size);
	uint64_t offset = hk_ea(cpu, insn) + ((uint64_t)steps << size);

	offset &= hk_mask(hk_insn_addr_size(insn));
	return hk_linear(cpu, hk_insn_seg(insn), offset, 1u << size, access, ret_va);
}

HK_ALWAYS_INLINE const struct hk_insn *bit_change(
	struct hk_cpu *cpu, const struct hk_insn *insn, hk_alu_fn *op)
{
	unsigned size = hk_insn_size(insn);
	uint64_t number = hk_source(cpu, insn, size);
	uint64_t va, a;
	bool done;

	if (!hk_insn_mem(insn) || hk_insn_form(insn) == HK_FORM_RM_IMM) {
		done = hk_rmw(cpu, insn, size, op, number);
	} else if (!bit_va(cpu, insn, size, number, HK_ACCESS_WRITE, &va)) {
		done = false;
	} else if ((insn->flags & HK_INSN_LOCK) != 0) {
		done = hk_rmw_locked(cpu, va, size, op, number);
	} else {
		done = hk_va_load_rmw(cpu, va, size, &a) &&
			hk_va_store(cpu, va, size, op(cpu, size, a, number));
	}
	return done ? HK_NEXT(cpu, insn) : hk_give_up(cpu, insn);
}

HK_EXEC(bt)
{
	unsigned size = hk_insn_size(insn);
	uint64_t number = hk_source(cpu, insn, size);
	uint64_t va, a;
	bool done;

	if (!hk_insn_mem(insn) || hk_insn_form(insn) == HK_FORM_RM_IMM) {
		done = hk_rm_get(cpu, insn, size, &a);
	} else {
		done = bit_va(cpu, insn, size, number, HK_ACCESS_READ, &va) &&
			hk_va_load(cpu, va, size, &a);
	}
	if (!done) {
		return hk_give_up(cpu, insn);
	}
	hk_alu_bt(cpu, size, a, number);
	return HK_NEXT(cpu, insn);
}

HK_EXEC(bts)
{
	return bit_change(cpu, insn, hk_alu_bts);
}

HK_EXEC(btr)
{
	return bit_change(cpu, insn, hk_alu_btr);
}

HK_EXEC(btc)
{
	return bit_change(cpu, insn, hk_alu_btc);
}

/* PF: is the number of ones in the lowest byte even? */
static uint32_t parity_flag(uint64_t value)
{
	return __builtin_parity((unsigned)value & 0xff) == 0 ? HK_FLAG_PF : 0;
}

/*
 * BSF and BSR: of zero there is no bit; then the destination stays as it is, all 64 bits of it, and
 * ZF is set. The other flags are undefined; on Sapphire Rapids PF tells of the result, the rest is
 * 0.
 */
static inline const struct hk_insn *bit_scan(
	struct hk_cpu *cpu, const struct hk_insn *insn, bool forward)
{
	unsigned size = hk_insn_size(insn);
	uint64_t value, found;

	if (!hk_rm_get(cpu, insn, size, &value)) {
		return hk_give_up(cpu, insn);
	}
	if (value == 0) {
		hk_cc_set_raw(cpu, HK_FLAG_ZF | HK_FLAG_PF);
	} else {
		found = (uint64_t)(forward ? __builtin_ctzll(value) : 63 - __builtin_clzll(value));
		hk_reg_set(cpu, insn->reg, size, found);
		hk_cc_set_raw(cpu, parity_flag(found));
	}
	return HK_NEXT(cpu, insn);
}

HK_EXEC(bsf)
{
	return bit_scan(cpu, insn, true);
}

HK_EXEC(bsr)
{
	return bit_scan(cpu, insn, false);
}

/*
 * TZCNT and LZCNT: CF tells that there was no bit; flags but CF and ZF are clear on Sapphire
 * Rapids.
 */
static inline const struct hk_insn *bit_count(
	struct hk_cpu *cpu, const struct hk_insn *insn, bool trailing)
{
	unsigned size = hk_insn_size(insn);
	unsigned bits = 8u << size;
	unsigned count = bits;
	uint64_t value;

	if (!hk_rm_get(cpu, insn, size, &value)) {
		return hk_give_up(cpu, insn);
	}
	if (value != 0) {
		count = trailing ? (unsigned)__builtin_ctzll(value)
				 : (unsigned)__builtin_clzll(value) - (64 - bits);
	}
	hk_reg_set(cpu, insn->reg, size, count);
	hk_cc_set_raw(cpu, (value == 0 ? HK_FLAG_CF : 0) | (count == 0 ? HK_FLAG_ZF : 0));
	return HK_NEXT(cpu, insn);
}

HK_EXEC(tzcnt)
{
	return bit_count(cpu, insn, true);
}

HK_EXEC(lzcnt)
{
	return bit_count(cpu, insn, false);
}

HK_EXEC(popcnt)
{
	unsigned size = hk_insn_size(insn);
	uint64_t value;

	if (!hk_rm_get(cpu, insn, size, &value)) {
		return hk_give_up(cpu, insn);
	}
	hk_reg_set(cpu, insn->reg, size, (uint64_t)__builtin_popcountll(value));
	hk_cc_set_raw(cpu, value == 0 ? HK_FLAG_ZF : 0);
	return HK_NEXT(cpu, insn);
}
