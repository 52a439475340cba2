/* SPDX-License-Identifier: ISC */
/*
 * A taken branch to a target in the same page: shared by the branches (link.c) and what is fused
 * with them (exec/fuse.c).
 */
#ifndef HK_ENGINE_SOFT_LINK_H
#define HK_ENGINE_SOFT_LINK_H

#include "engine/soft/code.h"
#include "engine/soft/interp.h"

/**
 * hk_link_near() - look up and note the target of a branch within its page, and go there. link.c
 */
const struct hk_insn *hk_link_near(struct hk_cpu *cpu, const struct hk_insn *insn);

static inline bool hk_link_wanted(struct hk_cpu *cpu)
{
	return hk_unlikely(atomic_load_explicit(&cpu->attention, memory_order_relaxed) != 0);
}

static inline uint64_t hk_link_rip(const struct hk_cpu *cpu, const struct hk_insn *insn)
{
	uint64_t rip = cpu->gpr[HK_REG_PAGE] + (uint64_t)(int64_t)insn->disp;

	return cpu->mode == HK_CODE_64 ? rip : (uint32_t)rip;
}

static inline const struct hk_insn *hk_link_go(struct hk_cpu *cpu, const struct hk_insn *insn)
{
	if (hk_link_wanted(cpu)) {
		return hk_leave_to(cpu, hk_link_rip(cpu, insn));
	}
	if (hk_unlikely(insn->target == NULL)) {
		return hk_link_near(cpu, insn);
	}
	return HK_GO(cpu, insn->target);
}

#endif
