/* SPDX-License-Identifier: ISC */
/*
 * The handlers of SSE floating point against the CPU that this runs on, between registers: results,
 * MXCSR, RFLAGS and whether #XM comes, for vectors of numbers near the borders of what the short
 * ways of
 * exec/sse_fp.c take, in all modes of MXCSR, with the sticky flags set and clear.
 *
 * Memory operands are tests/isa's.
 */
#include <inttypes.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <ucontext.h>

#include <cmocka.h>

#include "base/util.h"
#include "engine/soft/exec/handlers.h"
#include "engine/soft/fpu/softfloat.h"

enum { MAX_REPORTS = 3, ROUNDS = 1000, REG = 1, RM = 2 };

/* An instruction's operands and what it leaves. */
struct machine {
	union hk_xmm reg, rm;
	uint64_t gpr; /* destination or source among the general registers */
	uint64_t mmx;
	uint32_t mxcsr;
	uint32_t flags;
	bool trapped;
};

struct operation {
	const char *name;
	hk_exec_fn *soft;
	void (*hard)(struct machine *m);
	uint8_t imm;
	uint8_t size; /* log2 bytes of the general register */
	bool compares;
	bool approximate;                      /* each CPU maker's bits are different */
	bool gpr_reg, gpr_rm, mmx_reg, mmx_rm; /* which operand is no xmm register */
};

static sigjmp_buf trap_return;
static volatile uint32_t trap_mxcsr;
static const uint32_t mxcsr_reset = HK_MXCSR_RESET;

static void on_trap(int sig, siginfo_t *info, void *context)
{
	(void)sig;
	(void)info;
	trap_mxcsr = ((ucontext_t *)context)->uc_mcontext.fpregs->mxcsr;
	siglongjmp(trap_return, 1);
}

static void run_hard(const struct operation *op, struct machine *m)
{
	struct machine before = *m;

	/* With the signal mask: TSan blocks signals in their handlers, whatever was asked for. */
	if (sigsetjmp(trap_return, 1) != 0) {
		__asm__ volatile("ldmxcsr %0\n\temms" : : "m"(mxcsr_reset));
		*m = before;
		m->mxcsr = trap_mxcsr;
		m->trapped = true;
		return;
	}
	op->hard(m);
}

#define HARD(fn, insn) \
	static void fn(struct machine *m) \
	{ \
		uint64_t flags; \
\
		__asm__ volatile( \
			"movaps %[reg], %%xmm1\n\tmovaps %[rm], %%xmm2\n\t" \
			"mov %[gpr], %%rax\n\tmovq %[mmx], %%mm0\n\tldmxcsr %[mxcsr]\n\t" insn \
			"\n\tpushfq\n\tpop %[flags]\n\tstmxcsr %[mxcsr]\n\tldmxcsr %[reset]\n\t" \
			"movaps %%xmm1, %[reg]\n\tmov %%rax, %[gpr]\n\tmovq %%mm0, %[mmx]\n\t" \
			"emms" \
			: [reg] "+m"(m->reg), [gpr] "+m"(m->gpr), [mmx] "+m"(m->mmx), \
			[mxcsr] "+m"(m->mxcsr), [flags] "=&r"(flags) \
			: [rm] "m"(m->rm), [reset] "m"(mxcsr_reset) \
			: "rax", "xmm1", "xmm2", "cc", "memory"); \
		m->flags = (uint32_t)flags & HK_FLAGS_ARITH; \
	}

/* name, handler, then whatever else of the operation is not 0 */
#define FOR_OPERATIONS(X) \
	X(addss, addss) \
	X(addsd, addsd) \
	X(addps, addps) \
	X(addpd, addpd) \
	X(subss, subss) \
	X(subsd, subsd) \
	X(subps, subps) \
	X(subpd, subpd) \
	X(mulss, mulss) \
	X(mulsd, mulsd) \
	X(mulps, mulps) \
	X(mulpd, mulpd) \
	X(divss, divss) \
	X(divsd, divsd) \
	X(divps, divps) \
	X(divpd, divpd) \
	X(sqrtss, sqrtss) \
	X(sqrtsd, sqrtsd) \
	X(sqrtps, sqrtps) \
	X(sqrtpd, sqrtpd) \
	X(minss, minss) \
	X(minsd, minsd) \
	X(minps, minps) \
	X(minpd, minpd) \
	X(maxss, maxss) \
	X(maxsd, maxsd) \
	X(maxps, maxps) \
	X(maxpd, maxpd) \
	X(rcpss, rcpss, .approximate = true) \
	X(rcpps, rcpps, .approximate = true) \
	X(rsqrtss, rsqrtss, .approximate = true) \
	X(rsqrtps, rsqrtps, .approximate = true) \
	X(haddps, haddps) \
	X(haddpd, haddpd) \
	X(hsubps, hsubps) \
	X(hsubpd, hsubpd) \
	X(addsubps, addsubps) \
	X(addsubpd, addsubpd) \
	X(cvtps2pd, cvtps2pd) \
	X(cvtpd2ps, cvtpd2ps) \
	X(cvtss2sd, cvtss2sd) \
	X(cvtsd2ss, cvtsd2ss) \
	X(cvtdq2ps, cvtdq2ps) \
	X(cvtdq2pd, cvtdq2pd) \
	X(cvtps2dq, cvtps2dq) \
	X(cvttps2dq, cvttps2dq) \
	X(cvtpd2dq, cvtpd2dq) \
	X(cvttpd2dq, cvttpd2dq) \
	X(ucomiss, ucomiss, .compares = true) \
	X(ucomisd, ucomisd, .compares = true) \
	X(comiss, comiss, .compares = true) \
	X(comisd, comisd, .compares = true)

#define FOR_IMM_OPERATIONS(X) \
	X(cmpps, sse_cmpps, 0) \
	X(cmpps, sse_cmpps, 1) \
	X(cmpps, sse_cmpps, 2) \
	X(cmpps, sse_cmpps, 3) \
	X(cmpps, sse_cmpps, 4) \
	X(cmpps, sse_cmpps, 5) \
	X(cmpps, sse_cmpps, 6) \
	X(cmpps, sse_cmpps, 7) \
	X(cmpps, sse_cmpps, 9) \
	X(cmppd, sse_cmppd, 1) \
	X(cmppd, sse_cmppd, 7) \
	X(cmpss, sse_cmpss, 2) \
	X(cmpss, sse_cmpss, 4) \
	X(cmpsd, sse_cmpsd, 0) \
	X(cmpsd, sse_cmpsd, 6) \
	X(roundps, roundps, 0) \
	X(roundps, roundps, 1) \
	X(roundps, roundps, 2) \
	X(roundps, roundps, 3) \
	X(roundps, roundps, 4) \
	X(roundps, roundps, 12) \
	X(roundpd, roundpd, 0) \
	X(roundpd, roundpd, 9) \
	X(roundpd, roundpd, 4) \
	X(roundss, roundss, 0) \
	X(roundss, roundss, 2) \
	X(roundsd, roundsd, 0) \
	X(roundsd, roundsd, 1) \
	X(roundsd, roundsd, 2) \
	X(roundsd, roundsd, 3) \
	X(roundsd, roundsd, 10) \
	X(dpps, dpps, 0xff) \
	X(dpps, dpps, 0x71) \
	X(dpps, dpps, 0xda) \
	X(dppd, dppd, 0x33) \
	X(dppd, dppd, 0x12)

#define FOR_OTHER_OPERATIONS(X) \
	X(cvtsi2ssl, cvtsi2ss, "cvtsi2ssl %%eax, %%xmm1", .size = 2, .gpr_rm = true) \
	X(cvtsi2ssq, cvtsi2ss, "cvtsi2ssq %%rax, %%xmm1", .size = 3, .gpr_rm = true) \
	X(cvtsi2sdl, cvtsi2sd, "cvtsi2sdl %%eax, %%xmm1", .size = 2, .gpr_rm = true) \
	X(cvtsi2sdq, cvtsi2sd, "cvtsi2sdq %%rax, %%xmm1", .size = 3, .gpr_rm = true) \
	X(cvtss2sil, cvtss2si, "cvtss2si %%xmm2, %%eax", .size = 2, .gpr_reg = true) \
	X(cvtss2siq, cvtss2si, "cvtss2si %%xmm2, %%rax", .size = 3, .gpr_reg = true) \
	X(cvtsd2sil, cvtsd2si, "cvtsd2si %%xmm2, %%eax", .size = 2, .gpr_reg = true) \
	X(cvtsd2siq, cvtsd2si, "cvtsd2si %%xmm2, %%rax", .size = 3, .gpr_reg = true) \
	X(cvttss2sil, cvttss2si, "cvttss2si %%xmm2, %%eax", .size = 2, .gpr_reg = true) \
	X(cvttss2siq, cvttss2si, "cvttss2si %%xmm2, %%rax", .size = 3, .gpr_reg = true) \
	X(cvttsd2sil, cvttsd2si, "cvttsd2si %%xmm2, %%eax", .size = 2, .gpr_reg = true) \
	X(cvttsd2siq, cvttsd2si, "cvttsd2si %%xmm2, %%rax", .size = 3, .gpr_reg = true) \
	X(cvtpi2ps, cvtpi2ps, "cvtpi2ps %%mm0, %%xmm1", .mmx_rm = true) \
	X(cvtpi2pd, cvtpi2pd, "cvtpi2pd %%mm0, %%xmm1", .mmx_rm = true) \
	X(cvtps2pi, cvtps2pi, "cvtps2pi %%xmm2, %%mm0", .mmx_reg = true) \
	X(cvttps2pi, cvttps2pi, "cvttps2pi %%xmm2, %%mm0", .mmx_reg = true) \
	X(cvtpd2pi, cvtpd2pi, "cvtpd2pi %%xmm2, %%mm0", .mmx_reg = true) \
	X(cvttpd2pi, cvttpd2pi, "cvttpd2pi %%xmm2, %%mm0", .mmx_reg = true)

#define HARD_PLAIN(name, handler, ...) HARD(hard_##name, #name " %%xmm2, %%xmm1")
#define HARD_IMM(name, handler, number) \
	HARD(hard_##name##_##number, #name " $" #number ", %%xmm2, %%xmm1")
#define HARD_OTHER(name, handler, insn, ...) HARD(hard_##name, insn)
FOR_OPERATIONS(HARD_PLAIN)
FOR_IMM_OPERATIONS(HARD_IMM)
FOR_OTHER_OPERATIONS(HARD_OTHER)

#define ROW_PLAIN(op, handler, ...) \
	{.name = #op, .soft = hk_x_##handler, .hard = hard_##op, ##__VA_ARGS__},
#define ROW_IMM(op, handler, number) \
	{.name = #op " " #number, \
		.soft = hk_x_##handler, \
		.hard = hard_##op##_##number, \
		.imm = number},
#define ROW_OTHER(op, handler, insn, ...) \
	{.name = #op, .soft = hk_x_##handler, .hard = hard_##op, __VA_ARGS__},

static const struct operation operations[] = {
	FOR_OPERATIONS(ROW_PLAIN) FOR_IMM_OPERATIONS(ROW_IMM) FOR_OTHER_OPERATIONS(ROW_OTHER)};

/* Where straight-line code ends. */
static const struct hk_insn *stop(struct hk_cpu *cpu, const struct hk_insn *insn)
{
	(void)cpu;
	(void)insn;
	return NULL;
}

static void run_soft(struct hk_cpu *cpu, const struct operation *op, struct machine *m)
{
	const struct hk_insn code[2] = {
		{
			.exec = op->soft,
			.imm = op->imm,
			.reg = op->gpr_reg    ? HK_RAX
				: op->mmx_reg ? 0
					      : REG,
			.base = op->gpr_rm   ? HK_RAX
				: op->mmx_rm ? 0
					     : RM,
			.index = HK_REG_ZERO,
			.flags = op->size,
			.len = 4,
		},
		{.exec = stop},
	};

	cpu->event.pending = false;
	cpu->xmm[REG] = m->reg;
	cpu->xmm[RM] = m->rm;
	cpu->gpr[HK_RAX] = m->gpr;
	*hk_mmx(cpu, 0) = m->mmx;
	cpu->mxcsr = m->mxcsr;
	code[0].exec(cpu, code);
	m->trapped = cpu->event.pending;
	if (m->trapped) {
		assert_int_equal(cpu->event.vector, HK_VECTOR_XM);
	}
	m->reg = cpu->xmm[REG];
	m->gpr = cpu->gpr[HK_RAX];
	m->mmx = *hk_mmx(cpu, 0);
	m->mxcsr = cpu->mxcsr;
	m->flags = hk_cc_get(cpu);
}

static uint64_t random_state = 0x853c49e6748fea9b;

static uint64_t random64(void) /* xorshift64* */
{
	random_state ^= random_state >> 12;
	random_state ^= random_state << 25;
	random_state ^= random_state >> 27;
	return random_state * 0x2545f4914f6cdd1d;
}

/* A number near a border, small integers among them, or any. */
static uint64_t random_number(unsigned exp_bits, unsigned frac_bits)
{
	const uint64_t bias = (1u << (exp_bits - 1)) - 1;
	const uint64_t top = 2 * bias + 1;
	uint64_t r = random64();
	const uint64_t exps[] = {0, 0, 1, 2, 3, bias / 2, bias - 1, bias, bias, bias + 1, bias + 2,
		bias + 30, bias + 31, bias + 62, bias + 63, bias + frac_bits, bias + frac_bits - 1,
		top - bias / 2, top - 2, top - 1, top, r >> 32 & top};
	const uint64_t ones = (UINT64_C(1) << frac_bits) - 1;
	const uint64_t fracs[] = {0, 0, 0, 1, ones, ones - 1, (ones >> 1) + 1, ones >> 1,
		(ones >> 2) + 1, random64() & ones, random64() & ones,
		random64() & ~(ones >> 4) & ones};
	uint64_t exp = exps[(r & 0xff) % HK_ARRAY_SIZE(exps)];
	uint64_t frac = fracs[(r >> 8 & 0xff) % HK_ARRAY_SIZE(fracs)];

	return (r >> 16 & 1) << (exp_bits + frac_bits) | exp << frac_bits | frac;
}

static void random_vector(union hk_xmm *v, bool tame)
{
	if ((random64() & 1) != 0) {
		for (unsigned i = 0; i < 4; i++) {
			v->u32[i] = (uint32_t)random_number(8, 23);
			if (tame) {
				v->u32[i] = (v->u32[i] & 0x81ffffff) | 0x3e000000;
			}
		}
	} else {
		for (unsigned i = 0; i < 2; i++) {
			v->u64[i] = random_number(11, 52);
			if (tame) {
				v->u64[i] = (v->u64[i] & UINT64_C(0x803fffffffffffff)) |
					UINT64_C(0x3fc0000000000000);
			}
		}
	}
}

static unsigned failures;

static void compare(const struct operation *op, const struct machine *in,
	const struct machine *hard, const struct machine *soft)
{
	static const struct operation *last;
	static unsigned reports;

	if (memcmp(&hard->reg, &soft->reg, sizeof(hard->reg)) == 0 && hard->gpr == soft->gpr &&
		hard->mmx == soft->mmx && hard->mxcsr == soft->mxcsr &&
		hard->trapped == soft->trapped &&
		(!op->compares || hard->trapped || hard->flags == soft->flags)) {
		return;
	}
	failures++;
	if (op != last) {
		last = op;
		reports = 0;
	}
	if (reports++ >= MAX_REPORTS) {
		return;
	}
	print_error("%s mxcsr %04x: %016" PRIx64 "%016" PRIx64 " %016" PRIx64 "%016" PRIx64
		    " gpr %016" PRIx64 " mmx %016" PRIx64 "\n",
		op->name, in->mxcsr, in->reg.u64[1], in->reg.u64[0], in->rm.u64[1], in->rm.u64[0],
		in->gpr, in->mmx);
	for (unsigned i = 0; i < 2; i++) {
		const struct machine *m = i == 0 ? hard : soft;

		print_error("  %s %016" PRIx64 "%016" PRIx64 " gpr %016" PRIx64 " mmx %016" PRIx64
			    " mxcsr %04x flags %03x%s\n",
			i == 0 ? "hard" : "soft", m->reg.u64[1], m->reg.u64[0], m->gpr, m->mmx,
			m->mxcsr, m->flags, m->trapped ? " trapped" : "");
	}
}

static void sweep(struct hk_cpu *cpu, uint32_t mxcsr, unsigned rounds)
{
	for (unsigned o = 0; o < HK_ARRAY_SIZE(operations); o++) {
		if (operations[o].approximate && !__builtin_cpu_is("amd")) {
			continue;
		}
		for (unsigned i = 0; i < rounds; i++) {
			struct machine in = {.mxcsr = mxcsr};
			bool tame = (random64() & 3) == 0;

			random_vector(&in.reg, tame);
			random_vector(&in.rm, tame);
			in.gpr = random64() >> (random64() & 63);
			in.gpr = (random64() & 1) != 0 ? -in.gpr : in.gpr;
			in.mmx = random64() >> (random64() & 31);

			struct machine hard = in, soft = in;

			run_hard(&operations[o], &hard);
			run_soft(cpu, &operations[o], &soft);
			compare(&operations[o], &in, &hard, &soft);
		}
	}
}

static void test_handlers(void **state)
{
	struct sigaction action = {.sa_sigaction = on_trap, .sa_flags = SA_SIGINFO | SA_NODEFER};
	struct hk_cpu *cpu = calloc(1, sizeof(*cpu));

	assert_non_null(cpu);
	assert_int_equal(sigaction(SIGFPE, &action, NULL), 0);
	cpu->cr0 = HK_CR0_PE | HK_CR0_NE | HK_CR0_MP;
	cpu->cr4 = HK_CR4_OSFXSR | HK_CR4_OSXMMEXCPT;
	cpu->x87.fcw = 0x37f;
	failures = 0;
	for (uint32_t mode = 0; mode < 32; mode++) {
		uint32_t mxcsr = (mode & 3) << HK_MXCSR_RC_SHIFT |
			((mode & 4) != 0 ? HK_MXCSR_DAZ : 0) |
			((mode & 8) != 0 ? HK_MXCSR_FTZ : 0) | ((mode & 16) != 0 ? HK_FP_PE : 0);

		sweep(cpu, mxcsr | HK_MXCSR_MASKS, (mode & 3) == 0 ? 3 * ROUNDS : ROUNDS);
		for (uint32_t bit = 0; bit <= 6; bit++) {
			uint32_t unmasked = bit < 6 ? 1u << bit : HK_FP_ALL;

			if ((mxcsr & unmasked) == 0) {
				sweep(cpu, mxcsr | (HK_FP_ALL & ~unmasked) << HK_MXCSR_MASK_SHIFT,
					ROUNDS / 30);
			}
		}
	}
	signal(SIGFPE, SIG_DFL);
	free(cpu);
	assert_int_equal(failures, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_handlers),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
