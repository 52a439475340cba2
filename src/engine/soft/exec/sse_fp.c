/* SPDX-License-Identifier: ISC */
/*
 * SSE arithmetic: add, subtract, multiply, divide, square root, minimum and maximum, comparisons,
 * rounding to integral values.
 *
 * Each handler tries the host's arithmetic (sse_fp.h) and calls the next one; whatever is not the
 * usual case passes on to a slow function, which does it all from the start: checks, memory,
 * softfloat, flags, #XM. The handlers keep their tail calls because they give no address of a local
 * variable away.
 */
#define HK_TAIL_CALLER
#include "engine/soft/exec/sse_fp.h"

#include "engine/soft/exec/handlers.h"

bool hk_sse_raise(struct hk_cpu *cpu, uint8_t flags)
{
	cpu->mxcsr |= flags;
	if (hk_likely((flags & ~(cpu->mxcsr >> HK_MXCSR_MASK_SHIFT)) == 0)) {
		return true;
	}
	return hk_fault(cpu, (cpu->cr4 & HK_CR4_OSXMMEXCPT) != 0 ? HK_VECTOR_XM : HK_VECTOR_UD);
}

#define SLOW static __attribute__((noinline)) const struct hk_insn *

/*
 * The slow ways, for scalar and packed. They return the next instruction instead of calling it,
 * since addresses of their variables are about.
 */
#define DEFINE_SLOW(f, uint, member, len) \
	SLOW slow_scalar_##f(struct hk_cpu *cpu, const struct hk_insn *insn, hk_##f##_fn *fn) \
	{ \
		struct hk_fp_env env = hk_fp_env_sse(cpu->mxcsr); \
		union hk_xmm b; \
		uint r; \
\
		if (!hk_sse_ok(cpu) || !hk_xmm_rm(cpu, insn, len, false, &b)) { \
			return hk_give_up(cpu, insn); \
		} \
		r = fn(cpu->xmm[insn->reg].member[0], b.member[0], &env); \
		if (!hk_sse_flags(cpu, env.flags)) { \
			return hk_give_up(cpu, insn); \
		} \
		cpu->xmm[insn->reg].member[0] = r; \
		return insn + 1; \
	} \
	SLOW slow_packed_##f(struct hk_cpu *cpu, const struct hk_insn *insn, hk_##f##_fn *fn) \
	{ \
		struct hk_fp_env env = hk_fp_env_sse(cpu->mxcsr); \
		union hk_xmm b, r; \
\
		if (!hk_sse_ok(cpu) || !hk_xmm_rm(cpu, insn, 16, true, &b)) { \
			return hk_give_up(cpu, insn); \
		} \
		for (unsigned i = 0; i < 16 / (len); i++) { \
			r.member[i] = fn(cpu->xmm[insn->reg].member[i], b.member[i], &env); \
		} \
		if (!hk_sse_flags(cpu, env.flags)) { \
			return hk_give_up(cpu, insn); \
		} \
		cpu->xmm[insn->reg] = r; \
		return insn + 1; \
	}

DEFINE_SLOW(f32, uint32_t, u32, 4)
DEFINE_SLOW(f64, uint64_t, u64, 8)

/* Every operation: scalar and packed, single and double. @host tries, @soft can. */
#define DEFINE_SCALAR(name, f, bits, host, soft) \
	HK_EXEC(name) \
	{ \
		HK_SSE_SOURCE(bits, b, slow_scalar_##f(cpu, insn, soft)) \
		uint##bits##_t r; \
\
		if (!host(cpu, cpu->xmm[insn->reg].u##bits[0], b, &r)) { \
			return slow_scalar_##f(cpu, insn, soft); \
		} \
		cpu->xmm[insn->reg].u##bits[0] = r; \
		return HK_NEXT(cpu, insn); \
	}

#define DEFINE_PACKED(name, f, bits, host, soft) \
	HK_EXEC(name) \
	{ \
		HK_SSE_SOURCE_X(b, slow_packed_##f(cpu, insn, soft)) \
		uint##bits##_t r[128 / (bits)]; \
\
		HK_EACH_ELEMENT(i, 128 / (bits)) \
		{ \
			if (!host(cpu, cpu->xmm[insn->reg].u##bits[i], b.u##bits[i], &r[i])) { \
				return slow_packed_##f(cpu, insn, soft); \
			} \
		} \
		hk_##f##_put(&cpu->xmm[insn->reg], r); \
		return HK_NEXT(cpu, insn); \
	}

/* hk_f32_host_X() where the host may round for the guest */
#define DEFINE_ROUNDED(op, f, uint) \
	HK_HOST_FP bool try_##op##_##f(struct hk_cpu *cpu, uint a, uint b, uint *ret) \
	{ \
		return hk_fp_host_ok(cpu) && hk_##f##_host_##op(cpu, a, b, ret); \
	}

#define DEFINE_ARITHMETIC(op, soft32, soft64) \
	DEFINE_ROUNDED(op, f32, uint32_t) \
	DEFINE_ROUNDED(op, f64, uint64_t) \
	DEFINE_SCALAR(op##ss, f32, 32, try_##op##_f32, soft32) \
	DEFINE_SCALAR(op##sd, f64, 64, try_##op##_f64, soft64) \
	DEFINE_PACKED(op##ps, f32, 32, try_##op##_f32, soft32) \
	DEFINE_PACKED(op##pd, f64, 64, try_##op##_f64, soft64)

static uint32_t soft_sqrt32(uint32_t a, uint32_t b, struct hk_fp_env *env)
{
	(void)a;
	return hk_f32_sqrt(b, env);
}

static uint64_t soft_sqrt64(uint64_t a, uint64_t b, struct hk_fp_env *env)
{
	(void)a;
	return hk_f64_sqrt(b, env);
}

DEFINE_ARITHMETIC(add, hk_f32_add, hk_f64_add)
DEFINE_ARITHMETIC(sub, hk_f32_sub, hk_f64_sub)
DEFINE_ARITHMETIC(mul, hk_f32_mul, hk_f64_mul)
DEFINE_ARITHMETIC(div, hk_f32_div, hk_f64_div)
DEFINE_ARITHMETIC(sqrt, soft_sqrt32, soft_sqrt64)

#define DEFINE_SELECT(op) \
	DEFINE_SCALAR(op##ss, f32, 32, hk_f32_host_##op, hk_f32_##op) \
	DEFINE_SCALAR(op##sd, f64, 64, hk_f64_host_##op, hk_f64_##op) \
	DEFINE_PACKED(op##ps, f32, 32, hk_f32_host_##op, hk_f32_##op) \
	DEFINE_PACKED(op##pd, f64, 64, hk_f64_host_##op, hk_f64_##op)

DEFINE_SELECT(min)
DEFINE_SELECT(max)

/* COMISS and UCOMISS */

static uint32_t relation_flags(enum hk_fp_relation relation)
{
	static const uint8_t flags[] = {
		[HK_FP_LESS] = HK_FLAG_CF,
		[HK_FP_EQUAL] = HK_FLAG_ZF,
		[HK_FP_GREATER] = 0,
		[HK_FP_UNORDERED] = HK_FLAG_ZF | HK_FLAG_PF | HK_FLAG_CF,
	};

	return flags[relation];
}

#define DEFINE_COMPARE(name, f, bits, quiet) \
	SLOW slow_##name(struct hk_cpu *cpu, const struct hk_insn *insn) \
	{ \
		struct hk_fp_env env = hk_fp_env_sse(cpu->mxcsr); \
		union hk_xmm b; \
		enum hk_fp_relation relation; \
\
		if (!hk_sse_ok(cpu) || !hk_xmm_rm(cpu, insn, (bits) / 8, false, &b)) { \
			return hk_give_up(cpu, insn); \
		} \
		relation = hk_##f##_compare( \
			cpu->xmm[insn->reg].u##bits[0], b.u##bits[0], quiet, &env); \
		if (!hk_sse_flags(cpu, env.flags)) { \
			return hk_give_up(cpu, insn); \
		} \
		hk_cc_set_raw(cpu, relation_flags(relation)); \
		return insn + 1; \
	} \
	HK_EXEC(name) \
	{ \
		HK_SSE_SOURCE(bits, b, slow_##name(cpu, insn)) \
		uint##bits##_t a = cpu->xmm[insn->reg].u##bits[0]; \
\
		if (!hk_##f##_ordered(a) || !hk_##f##_ordered(b)) { \
			return slow_##name(cpu, insn); \
		} \
		hk_cc_set_raw(cpu, \
			(hk_##f##_value(a) < hk_##f##_value(b) ? HK_FLAG_CF : 0) | \
				(hk_##f##_value(a) == hk_##f##_value(b) ? HK_FLAG_ZF : 0)); \
		return HK_NEXT(cpu, insn); \
	}

DEFINE_COMPARE(ucomiss, f32, 32, true)
DEFINE_COMPARE(ucomisd, f64, 64, true)
DEFINE_COMPARE(comiss, f32, 32, false)
DEFINE_COMPARE(comisd, f64, 64, false)

/* CMPPS and its kind. Predicates: 0 EQ, 1 LT, 2 LE, 3 UNORD; + 4 not. */

enum { PREDICATE_EQ, PREDICATE_LT, PREDICATE_LE, PREDICATE_UNORD, PREDICATE_NOT };

static inline bool predicate_holds(unsigned predicate, enum hk_fp_relation relation)
{
	/* For each predicate, the relations it holds for as a bit set. */
	static const uint8_t holds[] = {
		[PREDICATE_EQ] = 1 << HK_FP_EQUAL,
		[PREDICATE_LT] = 1 << HK_FP_LESS,
		[PREDICATE_LE] = 1 << HK_FP_LESS | 1 << HK_FP_EQUAL,
		[PREDICATE_UNORD] = 1 << HK_FP_UNORDERED,
	};

	return (holds[predicate & 3] >> relation & 1) != (predicate >> 2 & 1);
}

static inline bool predicate_quiet(unsigned predicate)
{
	return (predicate & 3) == PREDICATE_EQ || (predicate & 3) == PREDICATE_UNORD;
}

#define DEFINE_CMP(scalar, packed, f, bits) \
	SLOW slow_cmp_##f(struct hk_cpu *cpu, const struct hk_insn *insn, unsigned count) \
	{ \
		struct hk_fp_env env = hk_fp_env_sse(cpu->mxcsr); \
		unsigned predicate = insn->imm & 7; \
		union hk_xmm b, r = cpu->xmm[insn->reg]; \
\
		if (!hk_sse_ok(cpu) || \
			!hk_xmm_rm(cpu, insn, count * (bits) / 8, count != 1, &b)) { \
			return hk_give_up(cpu, insn); \
		} \
		for (unsigned i = 0; i < count; i++) { \
			enum hk_fp_relation relation = hk_##f##_compare( \
				r.u##bits[i], b.u##bits[i], predicate_quiet(predicate), &env); \
\
			r.s##bits[i] = -(int)predicate_holds(predicate, relation); \
		} \
		if (!hk_sse_flags(cpu, env.flags)) { \
			return hk_give_up(cpu, insn); \
		} \
		cpu->xmm[insn->reg] = r; \
		return insn + 1; \
	} \
	HK_HOST_FP bool host_cmp_##f( \
		unsigned predicate, uint##bits##_t a, uint##bits##_t b, uint##bits##_t *ret) \
	{ \
		enum hk_fp_relation relation = hk_##f##_value(a) < hk_##f##_value(b) ? HK_FP_LESS \
			: hk_##f##_value(a) == hk_##f##_value(b)                     ? HK_FP_EQUAL \
								 : HK_FP_GREATER; \
\
		*ret = -(uint##bits##_t)predicate_holds(predicate, relation); \
		return hk_##f##_ordered(a) && hk_##f##_ordered(b); \
	} \
	HK_EXEC(scalar) \
	{ \
		HK_SSE_SOURCE(bits, b, slow_cmp_##f(cpu, insn, 1)) \
		uint##bits##_t r; \
\
		if (!host_cmp_##f(insn->imm & 7, cpu->xmm[insn->reg].u##bits[0], b, &r)) { \
			return slow_cmp_##f(cpu, insn, 1); \
		} \
		cpu->xmm[insn->reg].u##bits[0] = r; \
		return HK_NEXT(cpu, insn); \
	} \
	HK_EXEC(packed) \
	{ \
		HK_SSE_SOURCE_X(b, slow_cmp_##f(cpu, insn, 128 / (bits))) \
		uint##bits##_t r[128 / (bits)]; \
\
		HK_EACH_ELEMENT(i, 128 / (bits)) \
		{ \
			if (!host_cmp_##f(insn->imm & 7, cpu->xmm[insn->reg].u##bits[i], \
				    b.u##bits[i], &r[i])) { \
				return slow_cmp_##f(cpu, insn, 128 / (bits)); \
			} \
		} \
		hk_##f##_put(&cpu->xmm[insn->reg], r); \
		return HK_NEXT(cpu, insn); \
	}

DEFINE_CMP(sse_cmpss, sse_cmpps, f32, 32)
DEFINE_CMP(sse_cmpsd, sse_cmppd, f64, 64)

/* ROUNDSS and its kind. Immediate: bits 0-1 the mode; bit 2: MXCSR's instead; bit 3: no PE. */

enum { ROUND_MXCSR = 1 << 2, ROUND_QUIET = 1 << 3 };

static inline unsigned round_mode(const struct hk_cpu *cpu, const struct hk_insn *insn)
{
	return (insn->imm & ROUND_MXCSR) != 0 ? cpu->mxcsr >> HK_MXCSR_RC_SHIFT & 3
					      : (unsigned)insn->imm & 3;
}

/* @whole: from here on every number is integral. The sign stays, also that of a zero. */
#define DEFINE_ROUND(scalar, packed, f, bits, real, whole, sign) \
	SLOW slow_round_##f(struct hk_cpu *cpu, const struct hk_insn *insn, unsigned count) \
	{ \
		struct hk_fp_env env = hk_fp_env_sse(cpu->mxcsr); \
		union hk_xmm b, r = cpu->xmm[insn->reg]; \
\
		if (!hk_sse_ok(cpu) || \
			!hk_xmm_rm(cpu, insn, count * (bits) / 8, count != 1, &b)) { \
			return hk_give_up(cpu, insn); \
		} \
		env.rounding = (uint8_t)round_mode(cpu, insn); \
		for (unsigned i = 0; i < count; i++) { \
			r.u##bits[i] = hk_##f##_rint(b.u##bits[i], &env); \
		} \
		if ((insn->imm & ROUND_QUIET) != 0) { \
			env.flags &= ~HK_FP_PE; \
		} \
		if (!hk_sse_flags(cpu, env.flags)) { \
			return hk_give_up(cpu, insn); \
		} \
		cpu->xmm[insn->reg] = r; \
		return insn + 1; \
	} \
	HK_HOST_FP bool host_round_##f(struct hk_cpu *cpu, const struct hk_insn *insn, \
		uint##bits##_t b, uint##bits##_t *ret) \
	{ \
		real x = hk_##f##_value(b); \
\
		if (!hk_##f##_plain(b)) { \
			return false; \
		} \
		if (x >= (whole) || x <= -(whole)) { \
			*ret = b; \
			return true; \
		} \
\
		int64_t integer = (int64_t)x; \
		real r = (real)integer; \
		real rest = x - r; \
\
		if (rest != 0) { \
			if ((insn->imm & ROUND_QUIET) == 0) { \
				if ((cpu->mxcsr & HK_MXCSR_MASKS) != HK_MXCSR_MASKS) { \
					return false; \
				} \
				cpu->mxcsr |= HK_FP_PE; \
			} \
			switch (round_mode(cpu, insn)) { \
			case HK_FP_NEAREST: \
				r += rest > (real)0.5 || \
					(rest == (real)0.5 && (integer & 1) != 0); \
				r -= rest < (real)-0.5 || \
					(rest == (real)-0.5 && (integer & 1) != 0); \
				break; \
			case HK_FP_DOWN: \
				r -= rest < 0; \
				break; \
			case HK_FP_UP: \
				r += rest > 0; \
				break; \
			default: \
				break; \
			} \
		} \
		*ret = hk_##f##_bits(r) | (b & (sign)); \
		return true; \
	} \
	HK_EXEC(scalar) \
	{ \
		HK_SSE_SOURCE(bits, b, slow_round_##f(cpu, insn, 1)) \
		uint##bits##_t r; \
\
		if (!host_round_##f(cpu, insn, b, &r)) { \
			return slow_round_##f(cpu, insn, 1); \
		} \
		cpu->xmm[insn->reg].u##bits[0] = r; \
		return HK_NEXT(cpu, insn); \
	} \
	HK_EXEC(packed) \
	{ \
		HK_SSE_SOURCE_X(b, slow_round_##f(cpu, insn, 128 / (bits))) \
		uint##bits##_t r[128 / (bits)]; \
\
		HK_EACH_ELEMENT(i, 128 / (bits)) \
		{ \
			if (!host_round_##f(cpu, insn, b.u##bits[i], &r[i])) { \
				return slow_round_##f(cpu, insn, 128 / (bits)); \
			} \
		} \
		hk_##f##_put(&cpu->xmm[insn->reg], r); \
		return HK_NEXT(cpu, insn); \
	}

DEFINE_ROUND(roundss, roundps, f32, 32, float, 0x1p23f, HK_F32_SIGN)
DEFINE_ROUND(roundsd, roundpd, f64, 64, double, 0x1p52, HK_F64_SIGN)
