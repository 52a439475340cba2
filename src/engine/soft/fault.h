/* SPDX-License-Identifier: ISC */
/*
 * How an instruction gives up, precisely.
 *
 * A handler first checks and reads everything that can fail, then changes registers. Where
 * something fails, the exception is noted in cpu->event by one of these (or by the memory access,
 * which then returned false), nothing has changed, and the handler ends with
 *
 *	return hk_give_up(cpu, insn);
 *
 * which leaves to the run loop with RIP at the instruction; the run loop delivers the event.
 */
#ifndef HK_ENGINE_SOFT_FAULT_H
#define HK_ENGINE_SOFT_FAULT_H

#include "engine/soft/cpu.h"

/** hk_fault() - an exception without error code. Return: false, so that callers can return it. */
static inline bool hk_fault(struct hk_cpu *cpu, enum hk_vector vector)
{
	cpu->event = (struct hk_cpu_event){.pending = true, .vector = vector};
	return false;
}

/** hk_fault_code() - an exception with an error code. Return: false. */
static inline bool hk_fault_code(struct hk_cpu *cpu, enum hk_vector vector, uint32_t code)
{
	cpu->event = (struct hk_cpu_event){
		.pending = true,
		.vector = vector,
		.has_code = true,
		.code = code,
	};
	return false;
}

/** hk_fault_page() - a page fault at @va; @code as in Intel SDM vol. 3, 4.7. Return: false. */
static inline bool hk_fault_page(struct hk_cpu *cpu, uint64_t va, uint32_t code)
{
	cpu->event = (struct hk_cpu_event){
		.pending = true,
		.vector = HK_VECTOR_PF,
		.has_code = true,
		.code = code,
		.cr2 = va,
	};
	return false;
}

/** hk_give_up() - end of a handler whose instruction failed. sys/event.c */
const struct hk_insn *hk_give_up(struct hk_cpu *cpu, const struct hk_insn *insn);

/* The usual ones, as a handler's last statement. */
static inline const struct hk_insn *hk_raise(
	struct hk_cpu *cpu, const struct hk_insn *insn, enum hk_vector vector)
{
	hk_fault(cpu, vector);
	return hk_give_up(cpu, insn);
}

static inline const struct hk_insn *hk_raise_code(
	struct hk_cpu *cpu, const struct hk_insn *insn, enum hk_vector vector, uint32_t code)
{
	hk_fault_code(cpu, vector, code);
	return hk_give_up(cpu, insn);
}

#endif
