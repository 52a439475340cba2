/* SPDX-License-Identifier: ISC */
/* Changing the rm operand: register or memory, with or without LOCK. */
#ifndef HK_ENGINE_SOFT_EXEC_RMW_H
#define HK_ENGINE_SOFT_EXEC_RMW_H

#include "engine/soft/exec/alu.h"
#include "engine/soft/operand.h"

/** hk_va_load_rmw() - hk_va_load() of what will be stored to at once: faults as a write does */
static inline bool hk_va_load_rmw(
	struct hk_cpu *cpu, uint64_t va, unsigned size, uint64_t *ret_value)
{
	if (hk_unlikely(hk_tlb_write(cpu, va, 1u << size) == NULL) &&
		!hk_probe(cpu, va, 1u << size, HK_ACCESS_WRITE)) {
		return false;
	}
	return hk_va_load(cpu, va, size, ret_value);
}

/**
 * hk_rm_begin() / hk_rm_end() - read the rm operand, later write it
 * @va: carries the address of a memory operand from one to the other
 *
 * Return: false with the fault noted; what hk_rm_end() does cannot fail then.
 */
static inline bool hk_rm_begin(struct hk_cpu *cpu, const struct hk_insn *insn, unsigned size,
	uint64_t *ret_va, uint64_t *ret_value)
{
	if (!hk_insn_mem(insn)) {
		*ret_value = hk_reg_get(cpu, insn->base, size);
		return true;
	}
	return hk_mem_va(cpu, insn, 1u << size, HK_ACCESS_WRITE, ret_va) &&
		hk_va_load_rmw(cpu, *ret_va, size, ret_value);
}

static inline void hk_rm_end(
	struct hk_cpu *cpu, const struct hk_insn *insn, unsigned size, uint64_t va, uint64_t value)
{
	if (!hk_insn_mem(insn)) {
		hk_reg_set(cpu, insn->base, size, value);
	} else {
		(void)hk_va_store(cpu, va, size, value);
	}
}

/** hk_rmw_locked() - @op on memory at @va, atomically. atomic.c */
bool hk_rmw_locked(struct hk_cpu *cpu, uint64_t va, unsigned size, hk_alu_fn *op, uint64_t b);

/** hk_rmw() - rm = op(rm, @b) with flags. Return: false with the fault noted, nothing changed. */
HK_ALWAYS_INLINE bool hk_rmw(
	struct hk_cpu *cpu, const struct hk_insn *insn, unsigned size, hk_alu_fn *op, uint64_t b)
{
	uint64_t va = 0;
	uint64_t a;

	if (hk_unlikely((insn->flags & HK_INSN_LOCK) != 0)) {
		return hk_mem_va(cpu, insn, 1u << size, HK_ACCESS_WRITE, &va) &&
			hk_rmw_locked(cpu, va, size, op, b);
	}
	if (!hk_rm_begin(cpu, insn, size, &va, &a)) {
		return false;
	}
	hk_rm_end(cpu, insn, size, va, op(cpu, size, a, b));
	return true;
}

/** hk_source() - the second operand of forms RM_REG and RM_IMM, zero-extended from @size */
static inline uint64_t hk_source(struct hk_cpu *cpu, const struct hk_insn *insn, unsigned size)
{
	return hk_insn_form(insn) == HK_FORM_RM_IMM ? insn->imm & hk_mask(size)
						    : hk_reg_get(cpu, insn->reg, size);
}

#endif
