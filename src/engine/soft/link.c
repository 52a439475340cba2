/* SPDX-License-Identifier: ISC */
/*
 * Relative branches, linked: the first time one is taken, its target is looked up and noted in the
 * instruction; from then on it goes there directly.
 *
 * A target in the same page is good as long as the page is: both are dropped together. A target in
 * another page hangs on address translation, and on the linear address of its own: it is good while
 * cpu->code_gen is what it was.
 *
 * Every taken branch looks at cpu->attention, so no loop runs past an interrupt.
 *
 * These stand in for the generic branches (exec/flow.c) in 64-bit and 32-bit code with the mode's
 * own operand size.
 */
#define HK_TAIL_CALLER
#include "engine/soft/code.h"
#include "engine/soft/exec/handlers.h"
#include "engine/soft/link.h"
#include "engine/soft/mmu.h"

/* Not linked yet, or not any more. */
const struct hk_insn *hk_link_near(struct hk_cpu *cpu, const struct hk_insn *insn)
{
	const struct hk_insn *next = hk_code_in_page(cpu, insn, (unsigned)insn->disp);

	if (next == NULL) {
		return hk_leave_to(cpu, hk_link_rip(cpu, insn));
	}
	((struct hk_insn *)insn)->target = next;
	return HK_GO(cpu, next);
}

static const struct hk_insn *link_far(struct hk_cpu *cpu, const struct hk_insn *insn)
{
	uint64_t rip = hk_link_rip(cpu, insn);

	/* Of a call it has been checked before the push. */
	if (!hk_branch_ok(cpu, rip)) {
		return hk_give_up(cpu, insn);
	}

	/* What cannot be fetched faults at the target. */
	const struct hk_insn *next = hk_code_link(cpu, (struct hk_insn *)insn, rip);

	if (next == NULL) {
		return hk_leave_to(cpu, rip);
	}
	return HK_GO(cpu, next);
}

static inline const struct hk_insn *go_far(struct hk_cpu *cpu, const struct hk_insn *insn)
{
	if (hk_link_wanted(cpu)) {
		return hk_leave_to(cpu, hk_link_rip(cpu, insn));
	}
	if (hk_unlikely(insn->link_gen != cpu->code_gen)) {
		return link_far(cpu, insn);
	}
	cpu->gpr[HK_REG_PAGE] += (uint64_t)(int64_t)(insn->disp & ~0xfff);
	if (cpu->mode != HK_CODE_64) {
		cpu->gpr[HK_REG_PAGE] = (uint32_t)cpu->gpr[HK_REG_PAGE];
	}
	return HK_GO(cpu, insn->target);
}

static const struct hk_insn *jmp_near(struct hk_cpu *cpu, const struct hk_insn *insn)
{
	return hk_link_go(cpu, insn);
}

static const struct hk_insn *jmp_far(struct hk_cpu *cpu, const struct hk_insn *insn)
{
	return go_far(cpu, insn);
}

static HK_GUEST_RACES void guest_put(void *at, uint64_t value)
{
	__builtin_memcpy(at, &value, sizeof(value));
}

/*
 * The rare cases of a call are the generic handler's: a stack that is not in the TLB, other modes.
 */
static inline bool push_return(struct hk_cpu *cpu, const struct hk_insn *insn)
{
	uint64_t rsp = cpu->gpr[HK_RSP] - 8;
	uint64_t rip = cpu->gpr[HK_REG_PAGE] + (uint64_t)(int64_t)(insn->off + insn->len);
	void *at = hk_tlb_write(cpu, rsp, sizeof(rip));

	if (hk_unlikely(at == NULL)) {
		return false;
	}
	HK_GUEST_RELEASE();
	guest_put(at, rip);
	cpu->gpr[HK_RSP] = rsp;
	return true;
}

static const struct hk_insn *call_near(struct hk_cpu *cpu, const struct hk_insn *insn)
{
	return hk_likely(push_return(cpu, insn)) ? hk_link_go(cpu, insn) : hk_x_call(cpu, insn);
}

static const struct hk_insn *call_far(struct hk_cpu *cpu, const struct hk_insn *insn)
{
	/* The target is checked before anything is pushed; in a linked call it has been. */
	if (hk_unlikely(insn->link_gen != cpu->code_gen) &&
		!hk_branch_ok(cpu, hk_link_rip(cpu, insn))) {
		return hk_give_up(cpu, insn);
	}
	return hk_likely(push_return(cpu, insn)) ? go_far(cpu, insn) : hk_x_call(cpu, insn);
}

#define DEFINE_JCC(name, number) \
	static const struct hk_insn *jcc_near_##name( \
		struct hk_cpu *cpu, const struct hk_insn *insn) \
	{ \
		return hk_cond(cpu, number) ? hk_link_go(cpu, insn) : HK_NEXT(cpu, insn); \
	} \
	static const struct hk_insn *jcc_far_##name( \
		struct hk_cpu *cpu, const struct hk_insn *insn) \
	{ \
		return hk_cond(cpu, number) ? go_far(cpu, insn) : HK_NEXT(cpu, insn); \
	}

#define FOR_EACH_CONDITION(X) \
	X(o, HK_COND_O) \
	X(no, HK_COND_NO) \
	X(b, HK_COND_B) \
	X(ae, HK_COND_AE) \
	X(e, HK_COND_E) \
	X(ne, HK_COND_NE) \
	X(be, HK_COND_BE) \
	X(a, HK_COND_A) \
	X(s, HK_COND_S) \
	X(ns, HK_COND_NS) \
	X(p, HK_COND_P) \
	X(np, HK_COND_NP) \
	X(l, HK_COND_L) \
	X(ge, HK_COND_GE) \
	X(le, HK_COND_LE) \
	X(g, HK_COND_G)

FOR_EACH_CONDITION(DEFINE_JCC)

#define NEAR(name, number) [number] = jcc_near_##name,
#define FAR(name, number)  [number] = jcc_far_##name,
static hk_exec_fn *const jcc_nears[16] = {FOR_EACH_CONDITION(NEAR)};
static hk_exec_fn *const jcc_fars[16] = {FOR_EACH_CONDITION(FAR)};

bool hk_link_is_near_jcc(const struct hk_insn *insn)
{
	return insn->exec == jcc_nears[insn->cond & 15];
}

hk_exec_fn *hk_link(struct hk_insn *insn, enum hk_code_mode mode)
{
	bool near = insn->disp >= 0 && insn->disp < HK_PAGE_SIZE;
	unsigned native = mode == HK_CODE_64 ? 3 : 2;

	if (mode == HK_CODE_16 || hk_insn_size(insn) != native) {
		return insn->exec;
	}

	hk_exec_fn *linked = insn->exec;

	if (insn->exec == hk_x_jmp) {
		linked = near ? jmp_near : jmp_far;
	} else if (insn->exec == hk_x_call && mode == HK_CODE_64) {
		linked = near ? call_near : call_far;
	} else if (insn->exec == hk_x_jcc) {
		linked = near ? jcc_nears[insn->cond] : jcc_fars[insn->cond];
	}
	if (linked != insn->exec) {
		insn->target = NULL;
		insn->link_gen = 0;
	}
	return linked;
}
