/* SPDX-License-Identifier: ISC */
/* Hints, fences, random numbers, and what fits nowhere else. */
#include "engine/soft/exec/handlers.h"
#include "engine/soft/operand.h"

HK_EXEC(nop)
{
	(void)cpu;
	return HK_NEXT(cpu, insn);
}

/*
 * Now and then the host's CPU is offered to others: who spins that long waits for one that may not
 * have any.
 */
HK_EXEC(pause)
{
	enum { PAUSES_PER_YIELD = 32 };

	if (++cpu->pauses % PAUSES_PER_YIELD == 0) {
		cpu->bus->yield(cpu);
	}
	return HK_NEXT(cpu, insn);
}

HK_EXEC(fence)
{
	(void)cpu;
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	return HK_NEXT(cpu, insn);
}

/* There are no caches to write back, but the address is checked as a load's. */
HK_EXEC(clflush)
{
	uint64_t va;

	if (!hk_mem_va(cpu, insn, 1, HK_ACCESS_READ, &va) ||
		!hk_probe(cpu, va, 1, HK_ACCESS_READ)) {
		return hk_give_up(cpu, insn);
	}
	return HK_NEXT(cpu, insn);
}

/* CF says that there was enough randomness, which is always. */
static const struct hk_insn *random_number(struct hk_cpu *cpu, const struct hk_insn *insn)
{
	uint64_t value = 0;

	cpu->bus->random(cpu, &value, sizeof(value));
	hk_reg_set(cpu, insn->base, hk_insn_size(insn), value);
	hk_cc_set_raw(cpu, HK_FLAG_CF);
	return HK_NEXT(cpu, insn);
}

HK_EXEC(rdrand)
{
	return random_number(cpu, insn);
}

HK_EXEC(rdseed)
{
	return random_number(cpu, insn);
}

/* Raise a selector's privilege level to that of another; ZF says whether it was needed. */
HK_EXEC(arpl)
{
	unsigned level = cpu->gpr[insn->reg] & 3;
	uint32_t flags = hk_cc_get(cpu) & ~(uint32_t)HK_FLAG_ZF;
	uint64_t selector;

	if ((cpu->cr0 & HK_CR0_PE) == 0 || (cpu->rflags & HK_FLAG_VM) != 0) {
		return hk_raise(cpu, insn, HK_VECTOR_UD);
	}
	if (!hk_rm_get(cpu, insn, 1, &selector)) {
		return hk_give_up(cpu, insn);
	}
	if ((selector & 3) < level) {
		selector = (selector & ~UINT64_C(3)) | level;
		if (!hk_rm_set(cpu, insn, 1, selector)) {
			return hk_give_up(cpu, insn);
		}
		flags |= HK_FLAG_ZF;
	}
	hk_cc_set_raw(cpu, flags);
	return HK_NEXT(cpu, insn);
}
