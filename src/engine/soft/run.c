/* SPDX-License-Identifier: ISC */
/*
 * The run loop: between any two stretches of code it looks at what happened meanwhile (exceptions,
 * interrupts, requests of others), then lets the code run that stands at RIP.
 *
 * Code runs from the cache (code.c) but for what has to run alone: instructions that cross a page,
 * single-stepping, debug registers in use, the one instruction in an interrupt shadow if one waits.
 * An instruction that runs alone is decoded from freshly fetched bytes, with gpr[HK_REG_PAGE] at
 * its end, so that its RIP-relative and branch displacements are what the bytes say.
 *
 * Interrupts that come at a bad time (IF clear, in a shadow) are remembered in irq_waits, and their
 * attention bit is cleared, so that code does not stop at every branch. Whatever sets IF ends with
 * hk_leave(), so the loop sees it.
 */
#include "engine/soft/run.h"

#include <stdlib.h>
#include <string.h>

#include "engine/soft/code.h"
#include "engine/soft/decode.h"
#include "engine/soft/interp.h"
#include "engine/soft/mmu.h"
#include "engine/soft/sys.h"

/* DR6 and DR7. Source: Intel SDM vol. 3, 17.2. */
enum {
	DR6_STEP = 1 << 14,
	DR7_ENABLES = 0xff,
};

int hk_cpu_init(struct hk_cpu *cpu, unsigned index, const struct hk_cpuid *cpuid, uint32_t features,
	struct hk_soft_mem *mem, const struct hk_cpu_bus_ops *bus)
{
	memset(cpu, 0, sizeof(*cpu));
	cpu->index = index;
	cpu->cpuid = cpuid;
	cpu->features = features | 1u << HK_FEAT_BASE;
	cpu->mem = mem;
	cpu->bus = bus;
	cpu->code = hk_code_create();
	if (cpu->code == NULL) {
		return -ENOMEM;
	}
	hk_cpu_reset(cpu);
	hk_cpu_flushed(cpu);
	return 0;
}

void hk_cpu_finish(struct hk_cpu *cpu)
{
	hk_code_destroy(cpu->code);
	cpu->code = NULL;
}

void hk_cpu_flushed(struct hk_cpu *cpu)
{
	cpu->gpr[HK_REG_ZERO] = 0;
	cpu->dr7_seen = cpu->dr7;
	hk_tlb_flush(cpu, true);
	hk_code_drop_all(cpu);
	hk_cpu_mode_changed(cpu);
}

static void run(struct hk_cpu *cpu, const struct hk_insn *insn)
{
	while (insn != NULL) {
		insn = insn->exec(cpu, insn);
	}
}

/* How many bytes of an instruction at @rip CS's limit allows. */
static unsigned bytes_within_limit(const struct hk_cpu *cpu, uint64_t rip)
{
	if (cpu->mode == HK_CODE_64) {
		return HK_MAX_INSN_LEN;
	}
	if (rip > cpu->seg[HK_CS].limit) {
		return 0;
	}

	uint64_t left = cpu->seg[HK_CS].limit - rip + 1;

	return left < HK_MAX_INSN_LEN ? (unsigned)left : HK_MAX_INSN_LEN;
}

/* One instruction, from its bytes. What it raises is in cpu->event afterwards. */
static void run_alone(struct hk_cpu *cpu)
{
	uint8_t bytes[HK_MAX_INSN_LEN];
	struct hk_insn insns[2];
	uint64_t rip = cpu->rip;
	unsigned most = bytes_within_limit(cpu, rip);

	if (most == 0) {
		hk_fault_code(cpu, HK_VECTOR_GP, 0);
		return;
	}

	unsigned have = hk_fetch_bytes(cpu, rip + cpu->seg_base[HK_CS], bytes, most);

	if (have == 0) {
		return;
	}

	enum hk_decode result =
		hk_decode(bytes, have, (enum hk_code_mode)cpu->mode, cpu->features, 0, &insns[0]);

	if (result == HK_DECODE_OK || result == HK_DECODE_FAR) {
		unsigned len = insns[0].len;

		result = hk_decode(bytes, have, (enum hk_code_mode)cpu->mode, cpu->features,
			-(int)len, &insns[0]);
	}
	switch (result) {
	case HK_DECODE_OK:
		break;
	case HK_DECODE_SHORT:
		if (have < most) {
			/* The rest is in a page that cannot be fetched from: that fault is due. */
			uint64_t va = rip + cpu->seg_base[HK_CS] + have;
			struct hk_translation ignored;

			if (cpu->mode != HK_CODE_64) {
				va = (uint32_t)va;
			}
			hk_translate(cpu, va, HK_ACCESS_FETCH, cpu->cpl == 3, &ignored);
			return;
		}
		hk_fault_code(cpu, HK_VECTOR_GP, 0);
		return;
	case HK_DECODE_LONG:
		hk_fault_code(cpu, HK_VECTOR_GP, 0);
		return;
	default:
		hk_fault(cpu, HK_VECTOR_UD);
		return;
	}
	insns[0].exec = hk_isa_exec(insns[0].row);
	insns[1] = (struct hk_insn){.exec = hk_resync};
	cpu->gpr[HK_REG_PAGE] = rip + insns[0].len;
	if (cpu->mode != HK_CODE_64) {
		cpu->gpr[HK_REG_PAGE] = (uint32_t)cpu->gpr[HK_REG_PAGE];
	}
	atomic_fetch_or_explicit(&cpu->attention, HK_ATT_STEP, memory_order_relaxed);
	run(cpu, insns);
	atomic_fetch_and_explicit(&cpu->attention, ~(uint32_t)HK_ATT_STEP, memory_order_relaxed);
}

/* Code breakpoints: faults, before the instruction. Return: is one due? */
static bool breakpoint_here(struct hk_cpu *cpu)
{
	uint64_t va = cpu->rip + cpu->seg_base[HK_CS];
	uint32_t hits = 0;

	if ((cpu->rflags & HK_FLAG_RF) != 0) {
		return false;
	}
	va = cpu->mode == HK_CODE_64 ? va : (uint32_t)va;
	for (unsigned i = 0; i < 4; i++) {
		if ((cpu->dr7 >> (2 * i) & 3) != 0 && (cpu->dr7 >> (16 + 4 * i) & 3) == 0 &&
			cpu->dr[i] == va) {
			hits |= 1u << i;
		}
	}
	if (hits == 0) {
		return false;
	}
	hk_fault(cpu, HK_VECTOR_DB);
	cpu->event.dr6 = hits;
	return true;
}

/*
 * The instruction at RIP alone, with the traps that may follow it: none after MOV SS, whose data
 * breakpoints come with those of the next instruction.
 */
static void step(struct hk_cpu *cpu)
{
	bool traced = (cpu->rflags & HK_FLAG_TF) != 0;
	bool after_mov_ss = (cpu->shadow & HK_SHADOW_MOV_SS) != 0;

	cpu->shadow = 0;
	if ((cpu->dr7 & DR7_ENABLES) != 0 && !after_mov_ss && breakpoint_here(cpu)) {
		return;
	}
	cpu->rflags &= ~(uint32_t)HK_FLAG_RF;
	run_alone(cpu);
	if ((cpu->shadow & HK_SHADOW_SYSCALL) != 0) {
		traced = (cpu->rflags & HK_FLAG_TF) != 0;
	}
	if (!cpu->event.pending && (cpu->shadow & HK_SHADOW_MOV_SS) != 0) {
		return;
	}
	if (!cpu->event.pending && (traced || cpu->watch_hit != 0)) {
		hk_fault(cpu, HK_VECTOR_DB);
		cpu->event.dr6 = (traced ? DR6_STEP : 0) | cpu->watch_hit;
		if (cpu->activity == HK_CPU_HALTED) {
			cpu->activity = HK_CPU_RUNNING;
		}
	}
	cpu->watch_hit = 0;
}

/* An interrupt, if one waits and it is the time. Return: was one delivered? */
static bool take_interrupt(struct hk_cpu *cpu)
{
	if (cpu->nmi_waits && !cpu->nmi_masked) {
		cpu->nmi_waits = false;
		cpu->activity = HK_CPU_RUNNING;
		hk_deliver_interrupt(cpu, HK_VECTOR_NMI, true);
		return true;
	}
	if (cpu->irq_waits && (cpu->rflags & HK_FLAG_IF) != 0) {
		int vector = cpu->bus->interrupt(cpu);

		if (vector >= 0) {
			cpu->activity = HK_CPU_RUNNING;
			hk_deliver_interrupt(cpu, (unsigned)vector, false);
			return true;
		}
		cpu->irq_waits = false;
	}
	return false;
}

/* Takes attention bits. Return: is the caller of hk_cpu_run() to have a word? */
static bool attend(struct hk_cpu *cpu)
{
	uint32_t bits = atomic_exchange_explicit(&cpu->attention, 0, memory_order_seq_cst);

	cpu->irq_waits |= (bits & HK_ATT_IRQ) != 0;
	cpu->nmi_waits |= (bits & HK_ATT_NMI) != 0;
	if ((bits & HK_ATT_WORK) != 0) {
		cpu->bus->work(cpu);
	}
	return (bits & HK_ATT_KICK) != 0;
}

enum hk_cpu_stop hk_cpu_run(struct hk_cpu *cpu)
{
	for (;;) {
		if (cpu->failed) {
			return HK_CPU_DEAD;
		}
		if (cpu->event.pending) {
			hk_deliver_event(cpu);
			continue;
		}
		if (atomic_load_explicit(&cpu->attention, memory_order_relaxed) != 0 &&
			attend(cpu)) {
			return HK_CPU_KICKED;
		}
		hk_code_reclaim(cpu);
		if (cpu->dr7 != cpu->dr7_seen) {
			cpu->dr7_seen = cpu->dr7;
			hk_tlb_flush(cpu, true);
		}
		if (cpu->activity == HK_CPU_WAIT_SIPI) {
			return HK_CPU_IDLE;
		}
		/*
		 * With nothing to hold back it goes on as always: the next look comes after a
		 * branch.
		 */
		if ((cpu->shadow & (HK_SHADOW_STI | HK_SHADOW_MOV_SS)) != 0 &&
			(cpu->irq_waits || cpu->nmi_waits) && cpu->activity == HK_CPU_RUNNING) {
			step(cpu);
			continue;
		}
		if (take_interrupt(cpu)) {
			continue;
		}
		if (cpu->activity != HK_CPU_RUNNING) {
			return HK_CPU_IDLE;
		}
		if ((cpu->rflags & (HK_FLAG_TF | HK_FLAG_RF)) != 0 ||
			(cpu->dr7 & DR7_ENABLES) != 0) {
			step(cpu);
			continue;
		}
		cpu->shadow = 0;

		const struct hk_insn *insn = hk_code_lookup(cpu, cpu->rip);

		if (insn == NULL && !cpu->event.pending) {
			insn = hk_code_crossing(cpu, cpu->rip);
		}
		if (insn != NULL) {
			run(cpu, insn);
		} else if (!cpu->event.pending) {
			run_alone(cpu);
		}
	}
}

void hk_cpu_step_raw(struct hk_cpu *cpu)
{
	hk_code_reclaim(cpu);
	atomic_fetch_and_explicit(&cpu->attention, ~(uint32_t)HK_ATT_RECLAIM, memory_order_relaxed);
	step(cpu);
}

void hk_cpu_step(struct hk_cpu *cpu)
{
	hk_cpu_step_raw(cpu);
	if (cpu->event.pending) {
		hk_deliver_event(cpu);
	}
}
