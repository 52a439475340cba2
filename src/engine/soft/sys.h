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
 * cpu->rip is what the frame gets (of the instruction; after it where event.soft). A second fault on the way
 * becomes #DF, a third shuts down (cpu->failed). Clears the event.
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

/** hk_cpu_set_cr0(), ...: with all checks, flushes and mode changes. Return: false with the fault noted. */
bool hk_cpu_set_cr0(struct hk_cpu *cpu, uint64_t value);
bool hk_cpu_set_cr3(struct hk_cpu *cpu, uint64_t value);
bool hk_cpu_set_cr4(struct hk_cpu *cpu, uint64_t value);
bool hk_cpu_set_efer(struct hk_cpu *cpu, uint64_t value);

/** hk_cpu_startup() - a SIPI's start: real mode at @vector << 12 */
void hk_cpu_startup(struct hk_cpu *cpu, uint8_t vector);

#endif
