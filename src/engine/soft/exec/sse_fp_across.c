/* SPDX-License-Identifier: ISC */
/*
 * SSE floating point that works across elements or by table: horizontal and alternating sums, dot products,
 * approximate reciprocals. All through softfloat: programs use these little.
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
	r.u32[0] = hk_f32_##op(a.u32[0], a.u32[1], env); \
	r.u32[1] = hk_f32_##op(a.u32[2], a.u32[3], env); \
	r.u32[2] = hk_f32_##op(b.u32[0], b.u32[1], env); \
	r.u32[3] = hk_f32_##op(b.u32[2], b.u32[3], env)
#define ACROSS_PD(op) \
	r.u64[0] = hk_f64_##op(a.u64[0], a.u64[1], env); \
	r.u64[1] = hk_f64_##op(b.u64[0], b.u64[1], env)

DEFINE_ACROSS(haddps, ACROSS_PS(add))
DEFINE_ACROSS(haddpd, ACROSS_PD(add))
DEFINE_ACROSS(hsubps, ACROSS_PS(sub))
DEFINE_ACROSS(hsubpd, ACROSS_PD(sub))

DEFINE_ACROSS(addsubps, r.u32[0] = hk_f32_sub(a.u32[0], b.u32[0], env);
	      r.u32[1] = hk_f32_add(a.u32[1], b.u32[1], env);
	      r.u32[2] = hk_f32_sub(a.u32[2], b.u32[2], env);
	      r.u32[3] = hk_f32_add(a.u32[3], b.u32[3], env))
DEFINE_ACROSS(addsubpd, r.u64[0] = hk_f64_sub(a.u64[0], b.u64[0], env);
	      r.u64[1] = hk_f64_add(a.u64[1], b.u64[1], env))

/*
 * DPPS, DPPD: products where bits 4-7 of the immediate say so, else +0; their sum, by pairs; to where bits
 * 0-3 say so, else +0. Each step has its exceptions: an unmasked one ends it there.
 */
static bool stopped(const struct hk_fp_env *env)
{
	return (env->flags & ~env->masked) != 0;
}

static uint32_t dot_ps(
	const union hk_xmm *a, const union hk_xmm *b, unsigned which, struct hk_fp_env *env)
{
	uint32_t product[4] = {0, 0, 0, 0};
	uint32_t low, high;

	for (unsigned i = 0; i < 4; i++) {
		if ((which >> i & 1) != 0) {
			product[i] = hk_f32_mul(a->u32[i], b->u32[i], env);
		}
	}
	if (stopped(env)) {
		return 0;
	}
	low = hk_f32_add(product[0], product[1], env);
	high = hk_f32_add(product[2], product[3], env);
	return stopped(env) ? 0 : hk_f32_add(low, high, env);
}

static uint64_t dot_pd(
	const union hk_xmm *a, const union hk_xmm *b, unsigned which, struct hk_fp_env *env)
{
	uint64_t product[2] = {0, 0};

	for (unsigned i = 0; i < 2; i++) {
		if ((which >> i & 1) != 0) {
			product[i] = hk_f64_mul(a->u64[i], b->u64[i], env);
		}
	}
	return stopped(env) ? 0 : hk_f64_add(product[0], product[1], env);
}

DEFINE_ACROSS(
	dpps, uint32_t sum = dot_ps(&a, &b, insn->imm >> 4 & 15, env);
	for (unsigned i = 0; i < 4; i++) { r.u32[i] = insn->imm >> i & 1 ? sum : 0; })
DEFINE_ACROSS(
	dppd, uint64_t sum = dot_pd(&a, &b, insn->imm >> 4 & 3, env);
	for (unsigned i = 0; i < 2; i++) { r.u64[i] = insn->imm >> i & 1 ? sum : 0; })

/*
 * RCPPS, RSQRTPS: 12 bits right at most, no exceptions, MXCSR has no say. The architecture leaves the bits to
 * the CPU, within a relative error of 1.5 * 2^-12. These are AMD's (checked on a Zen 4 for all numbers):
 * the function's value in the middle of the interval of numbers with the same leading bits, rounded to 12 bits.
 * Intel's differ.
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

	exp = (3 * F32_BIAS - exp - odd) / 2 - 1;
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
