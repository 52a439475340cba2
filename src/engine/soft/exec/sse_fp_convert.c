/* SPDX-License-Identifier: ISC */
/*
 * SSE conversions: between single, double, integers in general registers, and integers in xmm and
 * MMX registers.
 *
 * The host converts where it cannot differ, as in sse_fp.c. Those with MMX registers always go
 * through softfloat.
 */
#define HK_TAIL_CALLER
#include "engine/soft/exec/sse_fp.h"

#include "engine/soft/exec/handlers.h"

#define SLOW static __attribute__((noinline)) const struct hk_insn *

/* By the host, one element each. Return: false where softfloat has to. */

/* @a needs no more than @bits bits: exact. */
HK_HOST_FP bool fits(int64_t a, unsigned bits)
{
	return (uint64_t)a + (UINT64_C(1) << bits) <= UINT64_C(2) << bits;
}

HK_HOST_FP bool host_int32_to_f32(struct hk_cpu *cpu, int32_t a, uint32_t *ret)
{
	*ret = hk_f32_bits((float)a);
	if (hk_likely(fits(a, 24))) {
		return true;
	}
	return hk_fp_host_ok(cpu) && (cpu->mxcsr & HK_FP_PE) != 0;
}

HK_HOST_FP bool host_f32_to_f64(uint32_t a, uint64_t *ret)
{
	*ret = hk_f64_bits((double)hk_f32_value(a));
	return hk_f32_plain(a);
}

HK_HOST_FP bool host_f64_to_f32(struct hk_cpu *cpu, uint64_t a, uint32_t *ret)
{
	static const double limit = 170141183460469231731687303715884105728.0; /* 2^127 */
	double x = hk_f64_value(a);

	if (!hk_f64_plain(a) || !hk_fp_host_ok(cpu) || x >= limit || x <= -limit) {
		return false;
	}
	*ret = hk_f32_bits((float)x);
	if (!hk_f32_safe(*ret)) {
		return hk_f64_zero(a);
	}
	if ((double)hk_f32_value(*ret) != x) {
		cpu->mxcsr |= HK_FP_PE;
	}
	return true;
}

/*
 * @x is no denormal; @limit is at most half of the integer's range, so that all roundings fit. @cut
 * or to nearest even.
 */
HK_HOST_FP bool host_to_int(struct hk_cpu *cpu, double x, double limit, bool cut, int64_t *ret)
{
	if (!(x < limit && x > -limit) || !hk_fp_host_ok(cpu)) {
		return false;
	}

	int64_t r = (int64_t)x;
	double rest = x - (double)r;

	if (rest != 0) {
		cpu->mxcsr |= HK_FP_PE;
		if (!cut) {
			r += rest > 0.5 || (rest == 0.5 && (r & 1) != 0);
			r -= rest < -0.5 || (rest == -0.5 && (r & 1) != 0);
		}
	}
	*ret = r;
	return true;
}

/* CVTSI2SS, CVTSI2SD: 32 or 64 bits by REX.W. */

SLOW slow_from_int(struct hk_cpu *cpu, const struct hk_insn *insn, bool to_double)
{
	struct hk_fp_env env = hk_fp_env_sse(cpu->mxcsr);
	unsigned size = hk_insn_size(insn) == 3 ? 3 : 2;
	union hk_xmm r = cpu->xmm[insn->reg];
	uint64_t raw;
	int64_t a;

	if (!hk_sse_ok(cpu) || !hk_rm_get(cpu, insn, size, &raw)) {
		return hk_give_up(cpu, insn);
	}
	a = size == 3 ? (int64_t)raw : (int32_t)raw;
	if (!to_double) {
		r.u32[0] = hk_f32_from_int64(a, &env);
	} else if (fits(a, 53)) {
		r.u64[0] = hk_f64_bits((double)a);
	} else {
		r.u64[0] = hk_f64_from_int64(a, &env);
	}
	if (!hk_sse_flags(cpu, env.flags)) {
		return hk_give_up(cpu, insn);
	}
	cpu->xmm[insn->reg] = r;
	return insn + 1;
}

#define DEFINE_FROM_INT(name, f, bits, real, precision, to_double) \
	HK_EXEC(name) \
	{ \
		int64_t a = (int64_t)cpu->gpr[insn->base]; \
\
		if (hk_insn_mem(insn) || !hk_sse_on(cpu)) { \
			return slow_from_int(cpu, insn, to_double); \
		} \
		if (hk_insn_size(insn) != 3) { \
			a = (int32_t)a; \
		} \
		if (hk_unlikely(!fits(a, precision))) { \
			return slow_from_int(cpu, insn, to_double); \
		} \
		cpu->xmm[insn->reg].u##bits[0] = hk_##f##_bits((real)a); \
		return HK_NEXT(cpu, insn); \
	}

DEFINE_FROM_INT(cvtsi2ss, f32, 32, float, 24, false)
DEFINE_FROM_INT(cvtsi2sd, f64, 64, double, 53, true)

/* CVTSD2SI, CVTTSD2SI and from single. */

#define DEFINE_TO_INT(name, f, bits, slow_rounding, cut) \
	SLOW slow_##name(struct hk_cpu *cpu, const struct hk_insn *insn) \
	{ \
		struct hk_fp_env env = hk_fp_env_sse(cpu->mxcsr); \
		union hk_xmm b; \
		uint64_t r; \
\
		if (!hk_sse_ok(cpu) || !hk_xmm_rm(cpu, insn, (bits) / 8, false, &b)) { \
			return hk_give_up(cpu, insn); \
		} \
		if (hk_insn_size(insn) == 3) { \
			r = (uint64_t)hk_##f##_to_int64(b.u##bits[0], slow_rounding, &env); \
		} else { \
			r = (uint32_t)hk_##f##_to_int32(b.u##bits[0], slow_rounding, &env); \
		} \
		if (!hk_sse_flags(cpu, env.flags)) { \
			return hk_give_up(cpu, insn); \
		} \
		cpu->gpr[insn->reg] = r; \
		return insn + 1; \
	} \
	HK_EXEC(name) \
	{ \
		HK_SSE_SOURCE(bits, b, slow_##name(cpu, insn)) \
		bool wide = hk_insn_size(insn) == 3; \
		int64_t r; \
\
		if (!hk_##f##_plain(b) || \
			!host_to_int(cpu, (double)hk_##f##_value(b), wide ? 0x1p62 : 0x1p30, cut, \
				&r)) { \
			return slow_##name(cpu, insn); \
		} \
		cpu->gpr[insn->reg] = wide ? (uint64_t)r : (uint32_t)r; \
		return HK_NEXT(cpu, insn); \
	}

DEFINE_TO_INT(cvtss2si, f32, 32, env.rounding, false)
DEFINE_TO_INT(cvtsd2si, f64, 64, env.rounding, false)
DEFINE_TO_INT(cvttss2si, f32, 32, HK_FP_ZERO, true)
DEFINE_TO_INT(cvttsd2si, f64, 64, HK_FP_ZERO, true)

/* CVTSS2SD, CVTSD2SS */

SLOW slow_cvtss2sd(struct hk_cpu *cpu, const struct hk_insn *insn)
{
	struct hk_fp_env env = hk_fp_env_sse(cpu->mxcsr);
	union hk_xmm b;
	uint64_t r;

	if (!hk_sse_ok(cpu) || !hk_xmm_rm(cpu, insn, 4, false, &b)) {
		return hk_give_up(cpu, insn);
	}
	r = hk_f32_to_f64(b.u32[0], &env);
	if (!hk_sse_flags(cpu, env.flags)) {
		return hk_give_up(cpu, insn);
	}
	cpu->xmm[insn->reg].u64[0] = r;
	return insn + 1;
}

HK_EXEC(cvtss2sd)
{
	HK_SSE_SOURCE(32, b, slow_cvtss2sd(cpu, insn))
	uint64_t r;

	if (!host_f32_to_f64(b, &r)) {
		return slow_cvtss2sd(cpu, insn);
	}
	cpu->xmm[insn->reg].u64[0] = r;
	return HK_NEXT(cpu, insn);
}

SLOW slow_cvtsd2ss(struct hk_cpu *cpu, const struct hk_insn *insn)
{
	struct hk_fp_env env = hk_fp_env_sse(cpu->mxcsr);
	union hk_xmm b;
	uint32_t r;

	if (!hk_sse_ok(cpu) || !hk_xmm_rm(cpu, insn, 8, false, &b)) {
		return hk_give_up(cpu, insn);
	}
	r = hk_f64_to_f32(b.u64[0], &env);
	if (!hk_sse_flags(cpu, env.flags)) {
		return hk_give_up(cpu, insn);
	}
	cpu->xmm[insn->reg].u32[0] = r;
	return insn + 1;
}

HK_EXEC(cvtsd2ss)
{
	HK_SSE_SOURCE(64, b, slow_cvtsd2ss(cpu, insn))
	uint32_t r;

	if (!host_f64_to_f32(cpu, b, &r)) {
		return slow_cvtsd2ss(cpu, insn);
	}
	cpu->xmm[insn->reg].u32[0] = r;
	return HK_NEXT(cpu, insn);
}

/* Packed, between xmm registers. Each element tries the host, then softfloat. */

static inline uint32_t element_int32_to_f32(struct hk_cpu *cpu, int32_t a, struct hk_fp_env *env)
{
	uint32_t r;

	return host_int32_to_f32(cpu, a, &r) ? r : hk_f32_from_int64(a, env);
}

static inline uint64_t element_f32_to_f64(uint32_t a, struct hk_fp_env *env)
{
	uint64_t r;

	return host_f32_to_f64(a, &r) ? r : hk_f32_to_f64(a, env);
}

static inline uint32_t element_f64_to_f32(struct hk_cpu *cpu, uint64_t a, struct hk_fp_env *env)
{
	uint32_t r;

	return host_f64_to_f32(cpu, a, &r) ? r : hk_f64_to_f32(a, env);
}

static inline int32_t element_f32_to_int32(
	struct hk_cpu *cpu, uint32_t a, bool cut, struct hk_fp_env *env)
{
	int64_t r;

	if (hk_f32_plain(a) && host_to_int(cpu, (double)hk_f32_value(a), 0x1p30, cut, &r)) {
		return (int32_t)r;
	}
	return hk_f32_to_int32(a, cut ? HK_FP_ZERO : env->rounding, env);
}

static inline int32_t element_f64_to_int32(
	struct hk_cpu *cpu, uint64_t a, bool cut, struct hk_fp_env *env)
{
	int64_t r;

	if (hk_f64_plain(a) && host_to_int(cpu, hk_f64_value(a), 0x1p30, cut, &r)) {
		return (int32_t)r;
	}
	return hk_f64_to_int32(a, cut ? HK_FP_ZERO : env->rounding, env);
}

/* @len bytes of source; the upper half of a short result is 0. */
#define DEFINE_PACKED(name, len, align, count, result) \
	HK_EXEC(name) \
	{ \
		struct hk_fp_env env = hk_fp_env_sse(cpu->mxcsr); \
		union hk_xmm b, r = {.u64 = {0, 0}}; \
\
		if (!hk_sse_ok(cpu) || !hk_xmm_rm(cpu, insn, len, align, &b)) { \
			return hk_give_up(cpu, insn); \
		} \
		for (unsigned i = 0; i < (count); i++) { \
			result; \
		} \
		if (!hk_sse_flags(cpu, env.flags)) { \
			return hk_give_up(cpu, insn); \
		} \
		cpu->xmm[insn->reg] = r; \
		return insn + 1; \
	}

DEFINE_PACKED(cvtps2pd, 8, false, 2, r.u64[i] = element_f32_to_f64(b.u32[i], &env))
DEFINE_PACKED(cvtpd2ps, 16, true, 2, r.u32[i] = element_f64_to_f32(cpu, b.u64[i], &env))
DEFINE_PACKED(cvtdq2ps, 16, true, 4, r.u32[i] = element_int32_to_f32(cpu, b.s32[i], &env))
DEFINE_PACKED(cvtdq2pd, 8, false, 2, r.u64[i] = hk_f64_bits((double)b.s32[i]))
DEFINE_PACKED(cvtps2dq, 16, true, 4, r.s32[i] = element_f32_to_int32(cpu, b.u32[i], false, &env))
DEFINE_PACKED(cvttps2dq, 16, true, 4, r.s32[i] = element_f32_to_int32(cpu, b.u32[i], true, &env))
DEFINE_PACKED(cvtpd2dq, 16, true, 2, r.s32[i] = element_f64_to_int32(cpu, b.u64[i], false, &env))
DEFINE_PACKED(cvttpd2dq, 16, true, 2, r.s32[i] = element_f64_to_int32(cpu, b.u64[i], true, &env))

/* Packed, with MMX registers. */

static bool mmx_source(struct hk_cpu *cpu, const struct hk_insn *insn, uint64_t *ret)
{
	uint64_t va;

	if (!hk_insn_mem(insn)) {
		*ret = *hk_mmx(cpu, insn->base);
		return true;
	}
	return hk_mem_va(cpu, insn, 8, HK_ACCESS_READ, &va) && hk_load64(cpu, va, ret);
}

/*
 * With a memory operand these two leave the x87 unit alone. Source: Intel SDM vol. 2, CVTPI2PD; of
 * CVTPI2PS it does not say so, but CPUs do the same.
 */
HK_EXEC(cvtpi2ps)
{
	struct hk_fp_env env = hk_fp_env_sse(cpu->mxcsr);
	uint64_t b;
	uint32_t low, high;

	if (!hk_sse_ok(cpu) || (!hk_insn_mem(insn) && !hk_mmx_ok(cpu)) ||
		!mmx_source(cpu, insn, &b)) {
		return hk_give_up(cpu, insn);
	}
	low = hk_f32_from_int64((int32_t)b, &env);
	high = hk_f32_from_int64((int32_t)(b >> 32), &env);
	if (!hk_sse_flags(cpu, env.flags)) {
		return hk_give_up(cpu, insn);
	}
	if (!hk_insn_mem(insn)) {
		hk_mmx_enter(cpu);
	}
	cpu->xmm[insn->reg].u32[0] = low;
	cpu->xmm[insn->reg].u32[1] = high;
	return insn + 1;
}

HK_EXEC(cvtpi2pd)
{
	uint64_t b;

	if (!hk_sse_ok(cpu) || (!hk_insn_mem(insn) && !hk_mmx_ok(cpu)) ||
		!mmx_source(cpu, insn, &b)) {
		return hk_give_up(cpu, insn);
	}
	if (!hk_insn_mem(insn)) {
		hk_mmx_enter(cpu);
	}
	cpu->xmm[insn->reg].u64[0] = hk_f64_bits((double)(int32_t)b);
	cpu->xmm[insn->reg].u64[1] = hk_f64_bits((double)(int32_t)(b >> 32));
	return insn + 1;
}

#define DEFINE_TO_MMX(name, len, align, convert, member, rounding) \
	HK_EXEC(name) \
	{ \
		struct hk_fp_env env = hk_fp_env_sse(cpu->mxcsr); \
		union hk_xmm b; \
		uint32_t low, high; \
\
		if (!hk_sse_ok(cpu) || !hk_mmx_ok(cpu) || !hk_xmm_rm(cpu, insn, len, align, &b)) { \
			return hk_give_up(cpu, insn); \
		} \
		low = (uint32_t)convert(b.member[0], rounding, &env); \
		high = (uint32_t)convert(b.member[1], rounding, &env); \
		if (!hk_sse_flags(cpu, env.flags)) { \
			return hk_give_up(cpu, insn); \
		} \
		hk_mmx_enter(cpu); \
		hk_mmx_set(cpu, insn->reg, (uint64_t)high << 32 | low); \
		return insn + 1; \
	}

DEFINE_TO_MMX(cvtps2pi, 8, false, hk_f32_to_int32, u32, env.rounding)
DEFINE_TO_MMX(cvttps2pi, 8, false, hk_f32_to_int32, u32, HK_FP_ZERO)
DEFINE_TO_MMX(cvtpd2pi, 16, true, hk_f64_to_int32, u64, env.rounding)
DEFINE_TO_MMX(cvttpd2pi, 16, true, hk_f64_to_int32, u64, HK_FP_ZERO)
