/* SPDX-License-Identifier: ISC */
/*
 * Floating point of the guest on that of the host.
 *
 * Softfloat is exact but slow, so the usual case goes another way. With all exceptions masked and
 * rounding to nearest, operands that are normal numbers or zeros, and a result well inside the
 * normal range, IEEE leaves the host no choice but to compute what the guest's CPU would; the only
 * exception there can be is "inexact", and once MXCSR says so, not even that matters. While it does
 * not, a check that is exact itself finds out. All else is softfloat's.
 *
 * The host computes with round-to-nearest and without flushing, as C programs start. The compiler
 * must not fuse or reorder: -ffp-contract=off, no -ffast-math (meson.build), no excess precision
 * (below).
 *
 * Functions with `host` in their name return false where the case is not the usual one.
 */
#ifndef HK_ENGINE_SOFT_EXEC_SSE_FP_H
#define HK_ENGINE_SOFT_EXEC_SSE_FP_H

#include <float.h>
#include <string.h>

#include "engine/soft/fpu/softfloat.h"
#include "engine/soft/operand.h"

#if FLT_EVAL_METHOD != 0
#error "float and double must be computed as such"
#endif

#define HK_HOST_FP  static inline __attribute__((always_inline))

#define HK_F32_SIGN UINT32_C(0x80000000)
#define HK_F64_SIGN (UINT64_C(1) << 63)

HK_HOST_FP float hk_f32_value(uint32_t bits)
{
	float value;

	memcpy(&value, &bits, sizeof(value));
	return value;
}

HK_HOST_FP uint32_t hk_f32_bits(float value)
{
	uint32_t bits;

	memcpy(&bits, &value, sizeof(bits));
	return bits;
}

HK_HOST_FP double hk_f64_value(uint64_t bits)
{
	double value;

	memcpy(&value, &bits, sizeof(value));
	return value;
}

HK_HOST_FP uint64_t hk_f64_bits(double value)
{
	uint64_t bits;

	memcpy(&bits, &value, sizeof(bits));
	return bits;
}

/** hk_fp_host_ok() - all masked, round to nearest */
HK_HOST_FP bool hk_fp_host_ok(const struct hk_cpu *cpu)
{
	return hk_likely((cpu->mxcsr & (HK_MXCSR_MASKS | HK_MXCSR_RC)) == HK_MXCSR_MASKS);
}

HK_HOST_FP bool hk_f32_zero(uint32_t a)
{
	return a << 1 == 0;
}

HK_HOST_FP bool hk_f64_zero(uint64_t a)
{
	return a << 1 == 0;
}

/** hk_f32_plain() - normal or zero */
HK_HOST_FP bool hk_f32_plain(uint32_t a)
{
	return hk_likely((((a >> 23) + 1) & 0xff) > 1) || hk_f32_zero(a);
}

HK_HOST_FP bool hk_f64_plain(uint64_t a)
{
	return hk_likely((((a >> 52) + 1) & 0x7ff) > 1) || hk_f64_zero(a);
}

/** hk_f32_ordered() - normal, zero or infinite: it compares without an exception */
HK_HOST_FP bool hk_f32_ordered(uint32_t a)
{
	return hk_likely((a << 1) - (1u << 24) <= 0xfe000000) || hk_f32_zero(a);
}

HK_HOST_FP bool hk_f64_ordered(uint64_t a)
{
	return hk_likely((a << 1) - (UINT64_C(1) << 53) <= UINT64_C(0xffc0000000000000)) ||
		hk_f64_zero(a);
}

/* Neither overflown nor tiny. The least normal exponent is left out: the number may have been
 * less before it was rounded. */
HK_HOST_FP bool hk_f32_safe(uint32_t a)
{
	return hk_likely((a >> 23 & 0xff) - 2 <= 0xfc);
}

HK_HOST_FP bool hk_f64_safe(uint64_t a)
{
	return hk_likely((a >> 52 & 0x7ff) - 2 <= 0x7fc);
}

/** hk_f32_product_is() - is a * b just p? All normal, and it is rounded at most. */
HK_HOST_FP bool hk_f32_product_is(uint32_t a, uint32_t b, uint32_t p)
{
	return (double)hk_f32_value(a) * (double)hk_f32_value(b) == (double)hk_f32_value(p);
}

HK_HOST_FP bool hk_f64_product_is(uint64_t a, uint64_t b, uint64_t p)
{
	const uint64_t one = UINT64_C(1) << 52;
	__extension__ typedef unsigned __int128 u128;
	u128 product = (u128)((a & (one - 1)) | one) * ((b & (one - 1)) | one);
	u128 expected = (u128)((p & (one - 1)) | one) << 52;

	return product == expected || product == expected << 1;
}

/* The same text for both formats. @cpu for MXCSR's PE. */
#define HK_DEFINE_HOST_FP(f, uint, real) \
	/* Møller, Knuth: the error of a sum is a number that simple sums find. */ \
	HK_HOST_FP bool hk_##f##_sum_inexact(real x, real y, real sum) \
	{ \
		real y_part = sum - x; \
		real x_part = sum - y_part; \
\
		return (x - x_part) + (y - y_part) != 0; \
	} \
	HK_HOST_FP bool hk_##f##_host_sum(struct hk_cpu *cpu, real x, real y, real sum, uint *ret) \
	{ \
		uint r = hk_##f##_bits(sum); \
\
		if (!hk_##f##_safe(r) && !hk_##f##_zero(r)) { \
			return false; \
		} \
		if (hk_unlikely((cpu->mxcsr & HK_FP_PE) == 0) && \
			hk_##f##_sum_inexact(x, y, sum)) { \
			cpu->mxcsr |= HK_FP_PE; \
		} \
		*ret = r; \
		return true; \
	} \
	HK_HOST_FP bool hk_##f##_host_add(struct hk_cpu *cpu, uint a, uint b, uint *ret) \
	{ \
		real x = hk_##f##_value(a), y = hk_##f##_value(b); \
\
		return hk_##f##_plain(a) && hk_##f##_plain(b) && \
			hk_##f##_host_sum(cpu, x, y, x + y, ret); \
	} \
	HK_HOST_FP bool hk_##f##_host_sub(struct hk_cpu *cpu, uint a, uint b, uint *ret) \
	{ \
		real x = hk_##f##_value(a), y = hk_##f##_value(b); \
\
		return hk_##f##_plain(a) && hk_##f##_plain(b) && \
			hk_##f##_host_sum(cpu, x, -y, x - y, ret); \
	} \
	HK_HOST_FP bool hk_##f##_host_mul(struct hk_cpu *cpu, uint a, uint b, uint *ret) \
	{ \
		uint r = hk_##f##_bits(hk_##f##_value(a) * hk_##f##_value(b)); \
\
		if (!hk_##f##_plain(a) || !hk_##f##_plain(b)) { \
			return false; \
		} \
		if (!hk_##f##_safe(r)) { \
			*ret = r; \
			return hk_##f##_zero(a) || hk_##f##_zero(b); \
		} \
		if (hk_unlikely((cpu->mxcsr & HK_FP_PE) == 0) && !hk_##f##_product_is(a, b, r)) { \
			cpu->mxcsr |= HK_FP_PE; \
		} \
		*ret = r; \
		return true; \
	} \
	HK_HOST_FP bool hk_##f##_host_div(struct hk_cpu *cpu, uint a, uint b, uint *ret) \
	{ \
		uint r = hk_##f##_bits(hk_##f##_value(a) / hk_##f##_value(b)); \
\
		if (!hk_##f##_plain(a) || !hk_##f##_plain(b) || hk_##f##_zero(b)) { \
			return false; \
		} \
		if (!hk_##f##_safe(r)) { \
			*ret = r; \
			return hk_##f##_zero(a); \
		} \
		if (hk_unlikely((cpu->mxcsr & HK_FP_PE) == 0) && !hk_##f##_product_is(r, b, a)) { \
			cpu->mxcsr |= HK_FP_PE; \
		} \
		*ret = r; \
		return true; \
	} \
	/* Comparisons raise nothing here, so they do not care for MXCSR. */ \
	HK_HOST_FP bool hk_##f##_host_min(struct hk_cpu *cpu, uint a, uint b, uint *ret) \
	{ \
		*ret = hk_##f##_value(a) < hk_##f##_value(b) ? a : b; \
		return hk_##f##_ordered(a) && hk_##f##_ordered(b); \
	} \
	HK_HOST_FP bool hk_##f##_host_max(struct hk_cpu *cpu, uint a, uint b, uint *ret) \
	{ \
		*ret = hk_##f##_value(a) > hk_##f##_value(b) ? a : b; \
		return hk_##f##_ordered(a) && hk_##f##_ordered(b); \
	} \
	HK_HOST_FP bool hk_##f##_host_sqrt(struct hk_cpu *cpu, uint a, uint b, uint *ret) \
	{ \
		(void)a; \
		if (!hk_##f##_plain(b) || hk_##f##_zero(b) || b >> (sizeof(b) * 8 - 1) != 0) { \
			*ret = b; \
			return hk_##f##_zero(b); \
		} \
\
		uint r = hk_##f##_bits(hk_##f##_root(hk_##f##_value(b))); \
\
		if (hk_unlikely((cpu->mxcsr & HK_FP_PE) == 0) && !hk_##f##_product_is(r, r, b)) { \
			cpu->mxcsr |= HK_FP_PE; \
		} \
		*ret = r; \
		return true; \
	}

#define hk_f32_root(x) __builtin_sqrtf(x)
#define hk_f64_root(x) __builtin_sqrt(x)
HK_DEFINE_HOST_FP(f32, uint32_t, float)
HK_DEFINE_HOST_FP(f64, uint64_t, double)

/*
 * Packed results are put together in a register and stored at once: were they stored one by one,
 * the next instruction's load of all 16 bytes would have to wait for them.
 */
typedef uint32_t hk_u32x4 __attribute__((vector_size(16)));
typedef uint64_t hk_u64x2 __attribute__((vector_size(16)));

HK_HOST_FP void hk_f32_put(union hk_xmm *to, const uint32_t r[4])
{
	hk_u32x4 v = {r[0], r[1], r[2], r[3]};

	memcpy(to, &v, sizeof(v));
}

HK_HOST_FP void hk_f64_put(union hk_xmm *to, const uint64_t r[2])
{
	hk_u64x2 v = {r[0], r[1]};

	memcpy(to, &v, sizeof(v));
}

/* For all elements, written out. */
#define HK_EACH_ELEMENT(i, count) _Pragma("GCC unroll 4") for (unsigned i = 0; i < (count); i++)

/* One step of several: on the host where that goes, else in softfloat with @env. */
#define HK_DEFINE_STEP(f, uint, op) \
	static inline uint hk_##f##_step_##op( \
		struct hk_cpu *cpu, uint a, uint b, struct hk_fp_env *env) \
	{ \
		uint r; \
\
		if (hk_fp_host_ok(cpu) && hk_##f##_host_##op(cpu, a, b, &r)) { \
			return r; \
		} \
		return hk_##f##_##op(a, b, env); \
	}
HK_DEFINE_STEP(f32, uint32_t, add)
HK_DEFINE_STEP(f32, uint32_t, sub)
HK_DEFINE_STEP(f32, uint32_t, mul)
HK_DEFINE_STEP(f64, uint64_t, add)
HK_DEFINE_STEP(f64, uint64_t, sub)
HK_DEFINE_STEP(f64, uint64_t, mul)

/* A scalar or packed operation in softfloat; those of one operand take the second. */
typedef uint32_t hk_f32_fn(uint32_t a, uint32_t b, struct hk_fp_env *env);
typedef uint64_t hk_f64_fn(uint64_t a, uint64_t b, struct hk_fp_env *env);

/**
 * hk_sse_raise() - put @flags into MXCSR. Return: false with #XM (or #UD) noted: one is unmasked.
 */
bool hk_sse_raise(struct hk_cpu *cpu, uint8_t flags);

/**
 * hk_sse_visible() - an unmasked exception that was found before the computation keeps those after
 * it from happening, in all elements
 */
static inline uint8_t hk_sse_visible(uint8_t flags, uint8_t masked)
{
	return (flags & ~masked & HK_FP_BEFORE) != 0 ? flags & HK_FP_BEFORE : flags;
}

/** hk_sse_flags() - the exceptions of all elements of an operation. Return: as hk_sse_raise(). */
static inline bool hk_sse_flags(struct hk_cpu *cpu, uint8_t flags)
{
	uint8_t masked = cpu->mxcsr >> HK_MXCSR_MASK_SHIFT & HK_FP_ALL;

	return hk_sse_raise(cpu, hk_sse_visible(flags, masked));
}

/**
 * HK_SSE_SOURCE() - the low @bits of the rm operand into the new variable @name, by the short way:
 * SSE is on, a register or plain memory in the TLB. Else @slow is evaluated and returned.
 */
#define HK_SSE_SOURCE(bits, name, slow) \
	uint##bits##_t name; \
\
	if (!hk_insn_mem(insn)) { \
		name = cpu->xmm[insn->base].u##bits[0]; \
	} else { \
		const void *name##_at = hk_sse_plain(cpu, insn, (bits) / 8); \
\
		if (hk_unlikely(name##_at == NULL)) { \
			return slow; \
		} \
		memcpy(&name, name##_at, sizeof(name)); \
		HK_GUEST_ACQUIRE(); \
	} \
	if (hk_unlikely(!hk_sse_on(cpu))) { \
		return slow; \
	}

/** HK_SSE_SOURCE_X() - the same for 16 bytes, aligned in memory */
#define HK_SSE_SOURCE_X(name, slow) \
	union hk_xmm name; \
\
	if (!hk_insn_mem(insn)) { \
		name = cpu->xmm[insn->base]; \
	} else { \
		const void *name##_at = hk_sse_plain(cpu, insn, sizeof(name)); \
\
		if (hk_unlikely(name##_at == NULL || ((uintptr_t)name##_at & 15) != 0)) { \
			return slow; \
		} \
		memcpy(&name, name##_at, sizeof(name)); \
		HK_GUEST_ACQUIRE(); \
	} \
	if (hk_unlikely(!hk_sse_on(cpu))) { \
		return slow; \
	}

static inline bool hk_sse_on(const struct hk_cpu *cpu)
{
	return (cpu->cr0 & (HK_CR0_EM | HK_CR0_TS)) == 0 && (cpu->cr4 & HK_CR4_OSFXSR) != 0;
}

static inline const void *hk_sse_plain(
	const struct hk_cpu *cpu, const struct hk_insn *insn, unsigned len)
{
	uint64_t va = cpu->gpr[insn->base] + (cpu->gpr[insn->index] << hk_insn_scale(insn)) +
		(uint64_t)(int64_t)insn->disp;

	return (insn->flags & HK_INSN_PLAIN) != 0 ? hk_tlb_read(cpu, va, len) : NULL;
}

#endif
