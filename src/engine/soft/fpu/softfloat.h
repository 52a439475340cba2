/* SPDX-License-Identifier: ISC */
/*
 * Floating point as x86 does it, in integers: exact IEEE 754 results, rounding, exception flags and
 * NaNs.
 *
 * f32 and f64 are bit patterns in uint32_t and uint64_t, with the rules of SSE; f80 is struct
 * hk_f80, with the rules of the x87 unit. An operation gets a struct hk_fp_env, which says how to
 * round and takes the exception flags; the caller makes one from MXCSR or the x87 control word,
 * calls, and looks at @flags.
 *
 * Unmasked exceptions: with an unmasked invalid, denormal or zero-divide exception nothing was
 * computed and the result means nothing. With an unmasked overflow or underflow f80 arithmetic
 * gives the result with the exponent off by 24576, as the x87 unit does; any other result means
 * nothing. That is all the environment's @masked does; who raises #MF or #XM is the caller.
 *
 * Source: Intel SDM vol. 1, 4.8, 4.9, 8.5, 11.5; IEEE 754-2008. Where these leave a choice, an
 * Intel Sapphire Rapids gave the answer (tests/unit/test_softfloat.c compares with the CPU it runs
 * on).
 */
#ifndef HK_ENGINE_SOFT_FPU_SOFTFLOAT_H
#define HK_ENGINE_SOFT_FPU_SOFTFLOAT_H

#include <stdbool.h>
#include <stdint.h>

#include "engine/soft/cpu.h"

/* Exceptions, in place as in MXCSR and the x87 status word. */
enum {
	HK_FP_IE = 1 << 0, /* invalid operation */
	HK_FP_DE = 1 << 1, /* denormal operand */
	HK_FP_ZE = 1 << 2, /* division by zero */
	HK_FP_OE = 1 << 3, /* overflow */
	HK_FP_UE = 1 << 4, /* underflow: tiny after rounding, and inexact or unmasked */
	HK_FP_PE = 1 << 5, /* precision: inexact */
	HK_FP_ALL = 0x3f,
	HK_FP_BEFORE = HK_FP_IE | HK_FP_DE | HK_FP_ZE, /* found before the computation */
	HK_FP_AFTER = HK_FP_OE | HK_FP_UE | HK_FP_PE,
};

/* As MXCSR.RC, the x87 control word's RC and the immediate of ROUNDPS encode it. */
enum hk_fp_round { HK_FP_NEAREST, HK_FP_DOWN, HK_FP_UP, HK_FP_ZERO };

/* What the x87 control word's PC encodes: bits of significand of add, sub, mul, div, sqrt. */
enum hk_fp_precision { HK_FP_PC_24 = 0, HK_FP_PC_53 = 2, HK_FP_PC_64 = 3 };

/* MXCSR. Source: Intel SDM vol. 1, 10.2.3. */
enum {
	HK_MXCSR_FLAGS = HK_FP_ALL,
	HK_MXCSR_DAZ = 1 << 6,
	HK_MXCSR_MASK_SHIFT = 7,
	HK_MXCSR_MASKS = HK_FP_ALL << HK_MXCSR_MASK_SHIFT,
	HK_MXCSR_RC_SHIFT = 13,
	HK_MXCSR_RC = 3 << HK_MXCSR_RC_SHIFT,
	HK_MXCSR_FTZ = 1 << 15,
	HK_MXCSR_VALID = 0xffff, /* bits that may be set, as FXSAVE's MXCSR_MASK tells */
	HK_MXCSR_RESET = HK_MXCSR_MASKS,
};

/**
 * struct hk_fp_env - how to compute, and what happened
 * @rounding: enum hk_fp_round
 * @precision: enum hk_fp_precision; f80 only
 * @masked: HK_FP_* exceptions that are masked
 * @daz: denormal operands count as zero; f32 and f64 only
 * @ftz: tiny results become zero where underflow is masked; f32 and f64 only
 * @flags: HK_FP_* exceptions; operations add to it
 * @rounded_up: the last result's magnitude was rounded up (C1 of the x87 status word)
 * @denormal_operand: hk_f80_widen32/64() set it: an operand of the next f80 operation was
 *	denormal as it stood in memory; that operation clears it
 */
struct hk_fp_env {
	uint8_t rounding;
	uint8_t precision;
	uint8_t masked;
	bool daz;
	bool ftz;
	uint8_t flags;
	bool rounded_up;
	bool denormal_operand;
};

static inline struct hk_fp_env hk_fp_env_sse(uint32_t mxcsr)
{
	return (struct hk_fp_env){
		.rounding = mxcsr >> HK_MXCSR_RC_SHIFT & 3,
		.precision = HK_FP_PC_64,
		.masked = mxcsr >> HK_MXCSR_MASK_SHIFT & HK_FP_ALL,
		.daz = (mxcsr & HK_MXCSR_DAZ) != 0,
		.ftz = (mxcsr & HK_MXCSR_FTZ) != 0,
	};
}

static inline struct hk_fp_env hk_fp_env_x87(uint16_t fcw)
{
	return (struct hk_fp_env){
		.rounding = fcw >> 10 & 3,
		.precision = fcw >> 8 & 3,
		.masked = fcw & HK_FP_ALL,
	};
}

/* What a comparison finds. */
enum hk_fp_relation { HK_FP_LESS, HK_FP_EQUAL, HK_FP_GREATER, HK_FP_UNORDERED };

/* SSE. Of two NaNs the first operand is the result, quieted; else the one that is a NaN. */

uint32_t hk_f32_add(uint32_t a, uint32_t b, struct hk_fp_env *env);
uint32_t hk_f32_sub(uint32_t a, uint32_t b, struct hk_fp_env *env);
uint32_t hk_f32_mul(uint32_t a, uint32_t b, struct hk_fp_env *env);
uint32_t hk_f32_div(uint32_t a, uint32_t b, struct hk_fp_env *env);
uint32_t hk_f32_sqrt(uint32_t a, struct hk_fp_env *env);
uint64_t hk_f64_add(uint64_t a, uint64_t b, struct hk_fp_env *env);
uint64_t hk_f64_sub(uint64_t a, uint64_t b, struct hk_fp_env *env);
uint64_t hk_f64_mul(uint64_t a, uint64_t b, struct hk_fp_env *env);
uint64_t hk_f64_div(uint64_t a, uint64_t b, struct hk_fp_env *env);
uint64_t hk_f64_sqrt(uint64_t a, struct hk_fp_env *env);

/** hk_f32_min() and the like - as MINSS, MAXSS: b unless a is less (greater); IE for any NaN */
uint32_t hk_f32_min(uint32_t a, uint32_t b, struct hk_fp_env *env);
uint32_t hk_f32_max(uint32_t a, uint32_t b, struct hk_fp_env *env);
uint64_t hk_f64_min(uint64_t a, uint64_t b, struct hk_fp_env *env);
uint64_t hk_f64_max(uint64_t a, uint64_t b, struct hk_fp_env *env);

/** hk_f32_compare(), hk_f64_compare() - @quiet: a quiet NaN is no invalid operand (UCOMISS) */
enum hk_fp_relation hk_f32_compare(uint32_t a, uint32_t b, bool quiet, struct hk_fp_env *env);
enum hk_fp_relation hk_f64_compare(uint64_t a, uint64_t b, bool quiet, struct hk_fp_env *env);

/**
 * hk_f32_rint(), hk_f64_rint() - to an integral value, as env->rounding says (ROUNDSS). PE where
 * that changed it.
 */
uint32_t hk_f32_rint(uint32_t a, struct hk_fp_env *env);
uint64_t hk_f64_rint(uint64_t a, struct hk_fp_env *env);

uint64_t hk_f32_to_f64(uint32_t a, struct hk_fp_env *env);
uint32_t hk_f64_to_f32(uint64_t a, struct hk_fp_env *env);

/*
 * To integers: out of range or NaN gives the smallest integer and IE. @rounding instead of env's.
 */
int32_t hk_f32_to_int32(uint32_t a, enum hk_fp_round rounding, struct hk_fp_env *env);
int64_t hk_f32_to_int64(uint32_t a, enum hk_fp_round rounding, struct hk_fp_env *env);
int32_t hk_f64_to_int32(uint64_t a, enum hk_fp_round rounding, struct hk_fp_env *env);
int64_t hk_f64_to_int64(uint64_t a, enum hk_fp_round rounding, struct hk_fp_env *env);
uint32_t hk_f32_from_int64(int64_t a, struct hk_fp_env *env);
uint64_t hk_f64_from_int64(int64_t a, struct hk_fp_env *env);

/*
 * x87. Of two NaNs the quiet one is the result, else that with the larger significand, quieted.
 * Encodings that the 387 no longer supports (unnormals, pseudo-NaNs, pseudo-infinities) are
 * invalid; pseudo-denormals are denormals.
 */

#define HK_F80_DEFAULT_NAN ((struct hk_f80){.frac = UINT64_C(3) << 62, .sign_exp = 0xffff})

struct hk_f80 hk_f80_add(struct hk_f80 a, struct hk_f80 b, struct hk_fp_env *env);
struct hk_f80 hk_f80_sub(struct hk_f80 a, struct hk_f80 b, struct hk_fp_env *env);
struct hk_f80 hk_f80_mul(struct hk_f80 a, struct hk_f80 b, struct hk_fp_env *env);
struct hk_f80 hk_f80_div(struct hk_f80 a, struct hk_f80 b, struct hk_fp_env *env);
struct hk_f80 hk_f80_sqrt(struct hk_f80 a, struct hk_fp_env *env);

/** hk_f80_rint() - FRNDINT */
struct hk_f80 hk_f80_rint(struct hk_f80 a, struct hk_fp_env *env);

/** hk_f80_scale() - FSCALE: a * 2^trunc(b) */
struct hk_f80 hk_f80_scale(struct hk_f80 a, struct hk_f80 b, struct hk_fp_env *env);

/** hk_f80_extract() - FXTRACT: @ret_exponent as a number (ST(1) after), @ret_significand (ST(0)) */
void hk_f80_extract(struct hk_f80 a, struct hk_f80 *ret_exponent, struct hk_f80 *ret_significand,
	struct hk_fp_env *env);

/**
 * hk_f80_rem() - FPREM, FPREM1
 * @nearest: FPREM1: the quotient is rounded to nearest even, else cut
 * @ret_quotient: low three bits of the quotient's magnitude; 0 where @ret_partial
 * @ret_partial: (C2) the result is not yet less than @b: do it again
 */
struct hk_f80 hk_f80_rem(struct hk_f80 a, struct hk_f80 b, bool nearest, unsigned *ret_quotient,
	bool *ret_partial, struct hk_fp_env *env);

/** hk_f80_compare() - @quiet: FUCOM, FUCOMI; else FCOM, FCOMI, FTST */
enum hk_fp_relation hk_f80_compare(
	struct hk_f80 a, struct hk_f80 b, bool quiet, struct hk_fp_env *env);

/**
 * hk_f80_from_f32() and the like - as FLD m32, m64: quiets signalling NaNs (IE), DE for denormals
 */
struct hk_f80 hk_f80_from_f32(uint32_t a, struct hk_fp_env *env);
struct hk_f80 hk_f80_from_f64(uint64_t a, struct hk_fp_env *env);

/**
 * hk_f80_widen32() and the like - a memory operand of FADD m32 and its kind: no exception of its
 * own, it comes with the operation (see denormal_operand)
 */
struct hk_f80 hk_f80_widen32(uint32_t a, struct hk_fp_env *env);
struct hk_f80 hk_f80_widen64(uint64_t a, struct hk_fp_env *env);

/** hk_f80_from_int64() - exact. Also for 16 and 32 bits. */
struct hk_f80 hk_f80_from_int64(int64_t a);

/** hk_f80_to_f32(), hk_f80_to_f64() - FST m32, m64 */
uint32_t hk_f80_to_f32(struct hk_f80 a, struct hk_fp_env *env);
uint64_t hk_f80_to_f64(struct hk_f80 a, struct hk_fp_env *env);

/**
 * hk_f80_to_int() - FIST, FISTP, FISTTP; also the first half of FBSTP
 * @bits: 16, 32, 64
 *
 * Return: sign-extended; the smallest of @bits with IE where it does not fit.
 */
int64_t hk_f80_to_int(
	struct hk_f80 a, unsigned bits, enum hk_fp_round rounding, struct hk_fp_env *env);

/* For functions that work on significands themselves (the transcendental ones). */

enum hk_fp_class {
	HK_FP_CLASS_ZERO,
	HK_FP_CLASS_FINITE, /* normal, denormal, pseudo-denormal */
	HK_FP_CLASS_INF,
	HK_FP_CLASS_QNAN,
	HK_FP_CLASS_SNAN,
	HK_FP_CLASS_UNSUPPORTED,
};

/**
 * struct hk_fp_parts - a number taken apart
 * @class: enum hk_fp_class
 * @denormal: it was stored with the smallest exponent
 * @exp: finite: the value is ±sig / 2^63 * 2^exp
 * @sig: finite: bit 63 is set. NaN: as in an f80
 */
struct hk_fp_parts {
	uint8_t class;
	bool sign;
	bool denormal;
	int32_t exp;
	uint64_t sig;
};

struct hk_fp_parts hk_f80_unpack(struct hk_f80 a);

/**
 * hk_f80_round() - a result from its parts: (@hi + @lo / 2^64) / 2^63 * 2^@exp
 * @hi: need not be normalised
 * @lo: fraction below; bit 0 set for "and a little more" makes rounding and PE right
 * @precision: enum hk_fp_precision: HK_FP_PC_64, or env->precision where that applies
 */
struct hk_f80 hk_f80_round(bool sign, int32_t exp, uint64_t hi, uint64_t lo,
	enum hk_fp_precision precision, struct hk_fp_env *env);

/** hk_f80_nan1(), hk_f80_nan2() - the result for operands of which at least one is a NaN or
 * unsupported; IE as due */
struct hk_f80 hk_f80_nan1(struct hk_f80 a, struct hk_fp_env *env);
struct hk_f80 hk_f80_nan2(struct hk_f80 a, struct hk_f80 b, struct hk_fp_env *env);

static inline bool hk_f80_is_nan(struct hk_f80 a)
{
	return (a.sign_exp & 0x7fff) == 0x7fff && (a.frac << 1) != 0;
}

#endif
