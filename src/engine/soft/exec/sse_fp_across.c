/* SPDX-License-Identifier: ISC */
/*
 * SSE floating point that works across elements or by table: horizontal and alternating sums, dot
 * products, approximate reciprocals.
 */
#include "engine/soft/exec/sse_fp.h"

#include "engine/soft/exec/handlers.h"

/* @body fills r from a (the destination) and b. */
#define DEFINE_ACROSS(name, body) \
	HK_EXEC(name) \
	{ \
		struct hk_fp_env e = hk_fp_env_sse(cpu->mxcsr); \
		struct hk_fp_env *env = &e; \
		const union hk_xmm a = cpu->xmm[insn->reg]; \
		union hk_xmm b, r; \
\
		if (!hk_sse_ok(cpu) || !hk_xmm_rm(cpu, insn, 16, true, &b)) { \
			return hk_give_up(cpu, insn); \
		} \
		body; \
		if (!hk_sse_flags(cpu, e.flags)) { \
			return hk_give_up(cpu, insn); \
		} \
		cpu->xmm[insn->reg] = r; \
		return HK_NEXT(cpu, insn); \
	}

#define ACROSS_PS(op) \
	r.u32[0] = hk_f32_step_##op(cpu, a.u32[0], a.u32[1], env); \
	r.u32[1] = hk_f32_step_##op(cpu, a.u32[2], a.u32[3], env); \
	r.u32[2] = hk_f32_step_##op(cpu, b.u32[0], b.u32[1], env); \
	r.u32[3] = hk_f32_step_##op(cpu, b.u32[2], b.u32[3], env)
#define ACROSS_PD(op) \
	r.u64[0] = hk_f64_step_##op(cpu, a.u64[0], a.u64[1], env); \
	r.u64[1] = hk_f64_step_##op(cpu, b.u64[0], b.u64[1], env)

DEFINE_ACROSS(haddps, ACROSS_PS(add))
DEFINE_ACROSS(haddpd, ACROSS_PD(add))
DEFINE_ACROSS(hsubps, ACROSS_PS(sub))
DEFINE_ACROSS(hsubpd, ACROSS_PD(sub))

DEFINE_ACROSS(addsubps, r.u32[0] = hk_f32_step_sub(cpu, a.u32[0], b.u32[0], env);
	      r.u32[1] = hk_f32_step_add(cpu, a.u32[1], b.u32[1], env);
	      r.u32[2] = hk_f32_step_sub(cpu, a.u32[2], b.u32[2], env);
	      r.u32[3] = hk_f32_step_add(cpu, a.u32[3], b.u32[3], env))
DEFINE_ACROSS(addsubpd, r.u64[0] = hk_f64_step_sub(cpu, a.u64[0], b.u64[0], env);
	      r.u64[1] = hk_f64_step_add(cpu, a.u64[1], b.u64[1], env))

/*
 * DPPS, DPPD: products where bits 4-7 of the immediate say so, else +0; their sum, by pairs; to
 * where bits 0-3 say so, else +0. Multiplication and each addition are steps with exceptions of
 * their own: what came in the steps before an unmasked one stays. Every element adds up in its own
 * order, which shows where there is more than one NaN.
 */

/* The end of a step. Return: false: an unmasked exception ends the instruction. */
static bool step_done(struct hk_fp_env *env, uint8_t *total)
{
	uint8_t flags = hk_sse_visible(env->flags, env->masked);

	*total |= flags;
	env->flags = 0;
	return (flags & ~env->masked) == 0;
}

static uint8_t dot_ps(struct hk_cpu *cpu, const union hk_xmm *a, const union hk_xmm *b,
	unsigned imm, union hk_xmm *ret, struct hk_fp_env *env)
{
	uint32_t product[4] = {0, 0, 0, 0};
	uint32_t pair[4];
	uint8_t flags = 0;

	for (unsigned i = 0; i < 4; i++) {
		if ((imm >> (4 + i) & 1) != 0) {
			product[i] = hk_f32_step_mul(cpu, a->u32[i], b->u32[i], env);
		}
	}
	if (!step_done(env, &flags)) {
		return flags;
	}
	for (unsigned i = 0; i < 4; i++) {
		pair[i] = hk_f32_step_add(cpu, product[i ^ 1], product[i], env);
	}
	if (!step_done(env, &flags)) {
		return flags;
	}
	for (unsigned i = 0; i < 4; i++) {
		uint32_t sum = hk_f32_step_add(cpu, pair[i], pair[i ^ 2], env);

		ret->u32[i] = (imm >> i & 1) != 0 ? sum : 0;
	}
	step_done(env, &flags);
	return flags;
}

static uint8_t dot_pd(struct hk_cpu *cpu, const union hk_xmm *a, const union hk_xmm *b,
	unsigned imm, union hk_xmm *ret, struct hk_fp_env *env)
{
	uint64_t product[2] = {0, 0};
	uint8_t flags = 0;

	for (unsigned i = 0; i < 2; i++) {
		if ((imm >> (4 + i) & 1) != 0) {
			product[i] = hk_f64_step_mul(cpu, a->u64[i], b->u64[i], env);
		}
	}
	if (!step_done(env, &flags)) {
		return flags;
	}
	for (unsigned i = 0; i < 2; i++) {
		uint64_t sum = hk_f64_step_add(cpu, product[i], product[i ^ 1], env);

		ret->u64[i] = (imm >> i & 1) != 0 ? sum : 0;
	}
	step_done(env, &flags);
	return flags;
}

#define DEFINE_DOT(name, function) \
	HK_EXEC(name) \
	{ \
		struct hk_fp_env env = hk_fp_env_sse(cpu->mxcsr); \
		union hk_xmm b, r; \
\
		if (!hk_sse_ok(cpu) || !hk_xmm_rm(cpu, insn, 16, true, &b)) { \
			return hk_give_up(cpu, insn); \
		} \
		if (!hk_sse_raise(cpu, \
			    function(cpu, &cpu->xmm[insn->reg], &b, (unsigned)insn->imm & 0xff, \
				    &r, &env))) { \
			return hk_give_up(cpu, insn); \
		} \
		cpu->xmm[insn->reg] = r; \
		return HK_NEXT(cpu, insn); \
	}

DEFINE_DOT(dpps, dot_ps)
DEFINE_DOT(dppd, dot_pd)

/*
 * RCPPS, RSQRTPS: 12 bits right at most, no exceptions, MXCSR has no say. The architecture leaves
 * the bits to the CPU, within a relative error of 1.5 * 2^-12. These are a Sapphire Rapids'
 * (checked for all numbers): the function's value in the middle of the interval of numbers with the
 * same leading bits, rounded to 12 bits.
 */

enum { F32_EXP_MAX = 255, F32_BIAS = 127 };

/* NaNs, zeros, denormals (which count as zeros). Return: false: @a is none of these. */
static bool approximate_special(uint32_t a, uint32_t *ret)
{
	if ((a & ~HK_F32_SIGN) > 0x7f800000) {
		*ret = a | 0x400000;
		return true;
	}
	if ((a >> 23 & 0xff) == 0) {
		*ret = (a & HK_F32_SIGN) | 0x7f800000;
		return true;
	}
	return false;
}

static uint32_t reciprocal(uint32_t a)
{
	uint32_t exp = a >> 23 & 0xff;
	uint32_t r;

	if (approximate_special(a, &r)) {
		return r;
	}
	if (exp >= 2 * F32_BIAS - 1) { /* infinity, or the result would be denormal */
		return a & HK_F32_SIGN;
	}

	/* 2^13 / (1 + (n + 1/2) / 2^11), for the 11 leading bits n of the fraction; 12 bits */
	uint32_t divisor = 4097 + 2 * (a >> 12 & 0x7ff);
	uint32_t sig = ((1u << 26) / divisor + 1) / 2;

	return (a & HK_F32_SIGN) | (2 * F32_BIAS - 1 - exp) << 23 | (sig - 4096) << 11;
}

static uint32_t reciprocal_root(uint32_t a)
{
	uint32_t exp = a >> 23 & 0xff;
	uint32_t r;

	if (approximate_special(a, &r)) {
		return r;
	}
	if ((a & HK_F32_SIGN) != 0) {
		return 0xffc00000;
	}
	if (exp == F32_EXP_MAX) {
		return 0;
	}

	/* x in [1, 4), the middle between two numbers of 10 bits of fraction; 12 bits */
	bool odd = (exp & 1) == 0; /* the bias is odd */
	double x = (1 + ((a >> 13 & 0x3ff) + 0.5) / 1024) * (odd ? 2 : 1);
	uint32_t sig = (uint32_t)(8192 / __builtin_sqrt(x) + 0.5);

	exp = (3 * F32_BIAS - exp + odd) / 2 - 1;
	return exp << 23 | (sig - 4096) << 11;
}

#define DEFINE_APPROXIMATE(scalar, packed, function) \
	HK_EXEC(scalar) \
	{ \
		union hk_xmm b; \
\
		if (!hk_sse_ok(cpu) || !hk_xmm_rm(cpu, insn, 4, false, &b)) { \
			return hk_give_up(cpu, insn); \
		} \
		cpu->xmm[insn->reg].u32[0] = function(b.u32[0]); \
		return HK_NEXT(cpu, insn); \
	} \
	HK_EXEC(packed) \
	{ \
		union hk_xmm b; \
\
		if (!hk_sse_ok(cpu) || !hk_xmm_rm(cpu, insn, 16, true, &b)) { \
			return hk_give_up(cpu, insn); \
		} \
		for (unsigned i = 0; i < 4; i++) { \
			cpu->xmm[insn->reg].u32[i] = function(b.u32[i]); \
		} \
		return HK_NEXT(cpu, insn); \
	}

DEFINE_APPROXIMATE(rcpss, rcpps, reciprocal)
DEFINE_APPROXIMATE(rsqrtss, rsqrtps, reciprocal_root)
