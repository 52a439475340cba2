/* SPDX-License-Identifier: ISC */
/* Making, resetting and running a CPU core. */
#ifndef HK_ENGINE_SOFT_RUN_H
#define HK_ENGINE_SOFT_RUN_H

#include <errno.h>

#include "engine/soft/cpu.h"

enum hk_cpu_stop {
	HK_CPU_KICKED, /* HK_ATT_KICK was set (and is clear now) */
	HK_CPU_IDLE,   /* halted or waiting for SIPI, with nothing to take: wait for attention */
	HK_CPU_DEAD,   /* triple fault */
};

/** hk_cpu_init() - power-on state. @cpuid, @mem, @bus borrowed. Return: 0 or -ENOMEM. */
int hk_cpu_init(struct hk_cpu *cpu, unsigned index, const struct hk_cpuid *cpuid, uint32_t features,
	struct hk_soft_mem *mem, const struct hk_cpu_bus_ops *bus);
void hk_cpu_finish(struct hk_cpu *cpu);

/** hk_cpu_reset() - registers as after RESET or INIT; memory and TLB contents forgotten */
void hk_cpu_reset(struct hk_cpu *cpu);

/** hk_cpu_run() - run until there is a reason to stop */
enum hk_cpu_stop hk_cpu_run(struct hk_cpu *cpu);

/**
 * hk_cpu_step() - one instruction, with what it raises delivered. For tests and single-stepping.
 */
void hk_cpu_step(struct hk_cpu *cpu);

/**
 * hk_cpu_step_raw() - the same, but what it raises stays in cpu->event, with RIP where it is due
 */
void hk_cpu_step_raw(struct hk_cpu *cpu);

/** hk_cpu_attend() - set bits of cpu->attention. Any thread. */
static inline void hk_cpu_attend(struct hk_cpu *cpu, uint32_t bits)
{
	atomic_fetch_or_explicit(&cpu->attention, bits, memory_order_seq_cst);
}

/** hk_cpu_flushed() - state was written from outside (restored): forget what was derived from it */
void hk_cpu_flushed(struct hk_cpu *cpu);

#endif
