/* SPDX-License-Identifier: ISC */
/*
 * Writing instruction handlers.
 *
 *	HK_EXEC(cmc)
 *	{
 *		hk_cc_set_raw(cpu, hk_cc_get(cpu) ^ HK_FLAG_CF);
 *		return HK_NEXT(cpu, insn);
 *	}
 *
 * A handler ends in one of these ways:
 *
 *	HK_NEXT(cpu, insn)		the instruction after it (fast: no return to the loop)
 *	hk_jump(cpu, insn, rip)		a taken branch to anywhere (fast where the target is decoded)
 *	hk_leave(cpu, insn)		the next instruction, by way of the run loop: after whatever may have
 *					changed how code is fetched, decoded or interrupted
 *	hk_leave_to(cpu, rip)		the same, elsewhere; mode and segments are as they are now
 *	hk_give_up(cpu, insn)		it failed: fault.h
 *
 * The run loop (run.c) delivers events, takes interrupts, and goes on at cpu->rip. Straight-line
 * code never runs through a taken branch without a look at cpu->attention, so interrupts wait
 * for a page of instructions at most.
 *
 * A handler gives the next instruction back, and the run loop goes there. The files that hold the
 * hottest ones (exec/fast.c, link.c) define HK_TAIL_CALLER: their handlers call the next as their
 * last act, which the compiler turns into a jump. It can only do that where no pointer to a local
 * variable has been given away, so those handlers pass the rare cases on to the generic ones;
 * tools/check-tail-calls looks at the machine code. Sanitizers, -O0 and WebAssembly have no such
 * jumps.
 */
#ifndef HK_ENGINE_SOFT_INTERP_H
#define HK_ENGINE_SOFT_INTERP_H

#include "engine/soft/fault.h"
#include "engine/soft/flags.h"

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define HK_SANITIZED
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define HK_SANITIZED
#endif
#endif
#if defined(HK_TAIL_CALLER) && defined(__OPTIMIZE__) && !defined(__wasm__) && !defined(HK_SANITIZED)
#define HK_GO(cpu, to) ((to)->exec((cpu), (to)))
#else
#define HK_GO(cpu, to) (to)
#endif
#define HK_NEXT(cpu, insn) HK_GO(cpu, (insn) + 1)

#define HK_EXEC(name) \
	const struct hk_insn *hk_x_##name(struct hk_cpu *cpu, const struct hk_insn *insn)

static inline const struct hk_insn *hk_leave_to(struct hk_cpu *cpu, uint64_t rip)
{
	cpu->rip = rip;
	return NULL;
}

static inline const struct hk_insn *hk_leave(struct hk_cpu *cpu, const struct hk_insn *insn)
{
	return hk_leave_to(cpu, hk_insn_next_rip(cpu, insn));
}

/**
 * hk_jump() - go on at @rip, which is already cut to the operand size and checked
 * (canonical, within CS's limit)
 *
 * Everything about the branching instruction itself must be done. code.c
 */
const struct hk_insn *hk_jump(struct hk_cpu *cpu, const struct hk_insn *insn, uint64_t rip);

/**
 * hk_branch_ok() - may RIP become @rip? Canonical in 64-bit mode, else within CS's limit.
 *
 * Return: false with #GP(0) noted.
 */
bool hk_branch_ok(struct hk_cpu *cpu, uint64_t rip);

/**
 * hk_cpu_mode_changed() - after any change of CS, SS, CPL, EFER, CR0, CR4, RFLAGS.AC or VM
 *
 * Works out mode, flat, stack_size, tlb_kind and the pointers that follow from them. The handler
 * has to end with hk_leave() or hk_leave_to(). Does not flush. sys/mode.c
 */
void hk_cpu_mode_changed(struct hk_cpu *cpu);

#endif
