/* SPDX-License-Identifier: ISC */
/*
 * The system side of the CPU, as the run loop, the handlers and the engine use it.
 */
#ifndef HK_ENGINE_SOFT_SYS_H
#define HK_ENGINE_SOFT_SYS_H

#include "engine/soft/cpu.h"
#include "engine/soft/isa.h"

/**
 * hk_deliver_event() - cpu->event goes to the guest's handler: exception or software interrupt
 *
 * cpu->rip is what the frame gets (of the instruction; after it where event.soft). A second fault
 * on the way becomes #DF, a third shuts down (cpu->failed). Clears the event.
 */
void hk_deliver_event(struct hk_cpu *cpu);

/** hk_deliver_interrupt() - an external interrupt, or NMI (vector 2, @nmi) */
void hk_deliver_interrupt(struct hk_cpu *cpu, unsigned vector, bool nmi);

/**
 * hk_load_segment() - MOV to a data or stack segment register and the like, with all checks
 *
 * Not for CS, LDTR, TR. Return: false with the fault noted.
 */
bool hk_load_segment(struct hk_cpu *cpu, enum hk_seg seg, uint16_t selector);

/** hk_cpu_msr_read() / hk_cpu_msr_write() - RDMSR and WRMSR without their privilege check. Return: false: #GP.
 */
bool hk_cpu_msr_read(struct hk_cpu *cpu, uint32_t index, uint64_t *ret_value);
bool hk_cpu_msr_write(struct hk_cpu *cpu, uint32_t index, uint64_t value);

/** hk_cpu_has() - is the feature switched on? */
static inline bool hk_cpu_has(const struct hk_cpu *cpu, enum hk_feature feature)
{
	return (cpu->features >> feature & 1) != 0;
}

/**
 * hk_cpu_set_cr0(), ...: with all checks, flushes and mode changes. Return: false with the fault
 * noted.
 */
bool hk_cpu_set_cr0(struct hk_cpu *cpu, uint64_t value);
bool hk_cpu_set_cr3(struct hk_cpu *cpu, uint64_t value);
bool hk_cpu_set_cr4(struct hk_cpu *cpu, uint64_t value);
bool hk_cpu_set_efer(struct hk_cpu *cpu, uint64_t value);
/** hk_cpu_cr4_known() - bits of CR4 that this CPU has */
uint64_t hk_cpu_cr4_known(const struct hk_cpu *cpu);

/**
 * hk_cpu_init_signal() - what an INIT does: as hk_cpu_reset() (run.h), but the x87 and SSE
 * registers, MTRRs, PAT and the other MSRs stay
 *
 * Other CPUs than the first wait for a SIPI then.
 */
void hk_cpu_init_signal(struct hk_cpu *cpu);

/** hk_cpu_startup() - a SIPI's start: real mode at @vector << 12. The CPU had an INIT before. */
void hk_cpu_startup(struct hk_cpu *cpu, uint8_t vector);

/**
 * hk_io_allowed() - may IN, OUT, INS, OUTS touch @len bytes at @port? CPL, IOPL, then the TSS's
 * bitmap
 *
 * Return: false with the fault noted.
 */
bool hk_io_allowed(struct hk_cpu *cpu, uint16_t port, unsigned len);

/**
 * hk_raise_soft() - end of INT n, INT3 and INTO: the event is noted, RIP is after the instruction
 */
const struct hk_insn *hk_raise_soft(
	struct hk_cpu *cpu, const struct hk_insn *insn, unsigned vector);

#endif
