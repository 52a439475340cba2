/* SPDX-License-Identifier: ISC */
/*
 * The stack, as wide as SS says: 64 bits in 64-bit mode, else 32 or 16.
 *
 * @size is log2 of bytes as everywhere. hk_push() and hk_pop() check first and then commit;
 * whoever has more to check in between uses the parts.
 */
#ifndef HK_ENGINE_SOFT_EXEC_STACK_H
#define HK_ENGINE_SOFT_EXEC_STACK_H

#include "engine/soft/flags.h"
#include "engine/soft/operand.h"

/** hk_sp() - the stack pointer plus @delta, cut to the stack's width */
static inline uint64_t hk_sp(const struct hk_cpu *cpu, int64_t delta)
{
	return (cpu->gpr[HK_RSP] + (uint64_t)delta) & hk_mask(cpu->stack_size);
}

/** hk_sp_set() - a 16-bit stack pointer leaves the rest of RSP alone */
static inline void hk_sp_set(struct hk_cpu *cpu, uint64_t sp)
{
	hk_reg_set(cpu, HK_RSP, cpu->stack_size, sp);
}

/* An address on the stack that is not canonical is #SS, not #GP. */
static inline bool hk_stack_failed(struct hk_cpu *cpu)
{
	if (cpu->event.non_canonical) {
		hk_fault_code(cpu, HK_VECTOR_SS, 0);
	}
	return false;
}

/** hk_stack_load() / hk_stack_store() - at @sp, which is cut already. Return: false with the fault
 * noted. */
static inline bool hk_stack_load(
	struct hk_cpu *cpu, uint64_t sp, unsigned size, uint64_t *ret_value)
{
	uint64_t va = sp;

	if (cpu->mode != HK_CODE_64 &&
		!hk_linear(cpu, HK_SS, sp, 1u << size, HK_ACCESS_READ, &va)) {
		return false;
	}
	return hk_likely(hk_va_load(cpu, va, size, ret_value)) || hk_stack_failed(cpu);
}

static inline bool hk_stack_store(struct hk_cpu *cpu, uint64_t sp, unsigned size, uint64_t value)
{
	uint64_t va = sp;

	if (cpu->mode != HK_CODE_64 &&
		!hk_linear(cpu, HK_SS, sp, 1u << size, HK_ACCESS_WRITE, &va)) {
		return false;
	}
	return hk_likely(hk_va_store(cpu, va, size, value)) || hk_stack_failed(cpu);
}

static inline bool hk_push(struct hk_cpu *cpu, unsigned size, uint64_t value)
{
	uint64_t sp = hk_sp(cpu, -(int64_t)(1u << size));

	if (!hk_stack_store(cpu, sp, size, value)) {
		return false;
	}
	hk_sp_set(cpu, sp);
	return true;
}

static inline bool hk_pop(struct hk_cpu *cpu, unsigned size, uint64_t *ret_value)
{
	if (!hk_stack_load(cpu, hk_sp(cpu, 0), size, ret_value)) {
		return false;
	}
	hk_sp_set(cpu, hk_sp(cpu, (int64_t)(1u << size)));
	return true;
}

#endif
