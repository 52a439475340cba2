/* SPDX-License-Identifier: ISC */
/*
 * The arithmetic behind softfloat.h, the same for every format. For softfloat*.c only.
 *
 * Operands come unpacked, with a significand of 64 bits whose top bit is set. An operation gives
 * its exact result, or enough of it: 128 bits, the lowest of which also stands for all that were
 * lost below it ("sticky"). One rounding to the format's precision follows. 128 bits are enough
 * because no operation here loses bits unless at least 62 more than the 64 of the widest format are
 * there.
 */
#ifndef HK_ENGINE_SOFT_FPU_SOFTFLOAT_CORE_H
#define HK_ENGINE_SOFT_FPU_SOFTFLOAT_CORE_H

#include "engine/soft/fpu/softfloat.h"

__extension__ typedef unsigned __int128 hk_u128;

#define HK_FP_TOP (UINT64_C(1) << 63)

/* Exponents of infinities and zeros, so that magnitudes compare as (exp, sig). */
enum { HK_FP_EXP_INF = 1 << 20, HK_FP_EXP_ZERO = -(1 << 20) };

/* Which NaN comes out of two. */
enum hk_fp_rules { HK_FP_SSE, HK_FP_X87 };

/**
 * struct hk_fp_exact - a result before rounding: (hi + lo / 2^64) / 2^63 * 2^exp
 * @class: ZERO, FINITE, INF or QNAN
 * @hi: finite: bit 63 is set. NaN: as in an f80
 * @lo: bit 0 is sticky
 */
struct hk_fp_exact {
	uint8_t class;
	bool sign;
	int32_t exp;
	uint64_t hi, lo;
};

/**
 * struct hk_fp_format - where numbers are rounded to
 * @precision: bits of significand, the leading one included
 * @emin, @emax: least and greatest exponent of a normal number
 * @rebias: what unmasked overflow and underflow take off or add to the exponent; 0: no such result
 */
struct hk_fp_format {
	unsigned precision;
	int32_t emin, emax;
	int32_t rebias;
};

#define HK_FP_FORMAT_F32 ((struct hk_fp_format){24, -126, 127, 0})
#define HK_FP_FORMAT_F64 ((struct hk_fp_format){53, -1022, 1023, 0})

/**
 * struct hk_fp_rounded - a result that fits its format
 * @exp: biased: 0 for zeros and denormals, emax - emin + 2 for infinities and NaNs
 * @sig: bit 63 is the leading bit
 */
struct hk_fp_rounded {
	int32_t exp;
	uint64_t sig;
};

static inline bool hk_fp_parts_nan(const struct hk_fp_parts *a)
{
	return a->class >= HK_FP_CLASS_QNAN;
}

static inline struct hk_fp_exact hk_fp_exact_zero(bool sign)
{
	return (struct hk_fp_exact){.class = HK_FP_CLASS_ZERO, .sign = sign};
}

static inline struct hk_fp_exact hk_fp_exact_inf(bool sign)
{
	return (struct hk_fp_exact){.class = HK_FP_CLASS_INF, .sign = sign, .hi = HK_FP_TOP};
}

static inline struct hk_fp_exact hk_fp_exact_of(const struct hk_fp_parts *a)
{
	return (struct hk_fp_exact){
		.class = a->class,
		.sign = a->sign,
		.exp = a->exp,
		.hi = a->sig,
	};
}

/* The default NaN is negative. */
static inline struct hk_fp_exact hk_fp_exact_invalid(struct hk_fp_env *env)
{
	env->flags |= HK_FP_IE;
	return (struct hk_fp_exact){
		.class = HK_FP_CLASS_QNAN,
		.sign = true,
		.hi = UINT64_C(3) << 62,
	};
}

static inline struct hk_fp_exact hk_fp_exact_nan(const struct hk_fp_parts *a)
{
	return (struct hk_fp_exact){
		.class = HK_FP_CLASS_QNAN,
		.sign = a->sign,
		.hi = a->sig | HK_FP_TOP >> 1,
	};
}

/** hk_fp_nan1() - result of an operation on NaN @a */
static inline struct hk_fp_exact hk_fp_nan1(const struct hk_fp_parts *a, struct hk_fp_env *env)
{
	if (a->class == HK_FP_CLASS_UNSUPPORTED) {
		return hk_fp_exact_invalid(env);
	}
	if (a->class == HK_FP_CLASS_SNAN) {
		env->flags |= HK_FP_IE;
	}
	return hk_fp_exact_nan(a);
}

/** hk_fp_nan2() - result of an operation on @a and @b, of which at least one is a NaN */
static inline struct hk_fp_exact hk_fp_nan2(const struct hk_fp_parts *a,
	const struct hk_fp_parts *b, enum hk_fp_rules rules, struct hk_fp_env *env)
{
	if (a->class == HK_FP_CLASS_UNSUPPORTED || b->class == HK_FP_CLASS_UNSUPPORTED) {
		return hk_fp_exact_invalid(env);
	}
	if (a->class == HK_FP_CLASS_SNAN || b->class == HK_FP_CLASS_SNAN) {
		env->flags |= HK_FP_IE;
	}
	if (!hk_fp_parts_nan(b)) {
		return hk_fp_exact_nan(a);
	}
	if (!hk_fp_parts_nan(a)) {
		return hk_fp_exact_nan(b);
	}
	if (rules == HK_FP_SSE) {
		return hk_fp_exact_nan(a);
	}
	if (a->class != b->class) {
		return hk_fp_exact_nan(a->class == HK_FP_CLASS_QNAN ? a : b);
	}
	if (a->sig != b->sig) {
		return hk_fp_exact_nan(a->sig > b->sig ? a : b);
	}
	return hk_fp_exact_nan(a->sign ? b : a);
}

/** hk_fp_denormal() - note a denormal operand. Return: true where that stops the operation. */
static inline bool hk_fp_denormal(bool denormal, struct hk_fp_env *env)
{
	if (__builtin_expect(!denormal, 1)) {
		return false;
	}
	env->flags |= HK_FP_DE;
	return (env->masked & HK_FP_DE) == 0;
}

/** hk_fp_normal() - a finite result from a significand that may have leading zeros, or be 0 */
static inline struct hk_fp_exact hk_fp_normal(bool sign, int32_t exp, uint64_t hi, uint64_t lo)
{
	if (hi == 0) {
		if (lo == 0) {
			return hk_fp_exact_zero(sign);
		}
		hi = lo;
		lo = 0;
		exp -= 64;
	}

	unsigned shift = (unsigned)__builtin_clzll(hi);

	if (shift != 0) {
		hi = hi << shift | lo >> (64 - shift);
		lo <<= shift;
	}
	return (struct hk_fp_exact){
		.class = HK_FP_CLASS_FINITE,
		.sign = sign,
		.exp = exp - (int32_t)shift,
		.hi = hi,
		.lo = lo,
	};
}

static inline hk_u128 hk_fp_shift_right_sticky(hk_u128 value, uint32_t shift)
{
	if (shift == 0) {
		return value;
	}
	if (shift > 127) {
		return value != 0;
	}
	return value >> shift | ((value << (128 - shift)) != 0);
}

/**
 * hk_fp_round_up() - does the magnitude grow? @tail: what is cut off, as a fraction of the last
 * place
 */
static inline bool hk_fp_round_up(unsigned rounding, bool sign, bool odd, uint64_t tail)
{
	switch (rounding) {
	case HK_FP_NEAREST:
		return tail > HK_FP_TOP || (tail == HK_FP_TOP && odd);
	case HK_FP_DOWN:
		return sign && tail != 0;
	case HK_FP_UP:
		return !sign && tail != 0;
	default:
		return false;
	}
}

/* The bits of hi:lo below the last place, as a fraction of it. @drop: bits of hi that are cut. */
static inline uint64_t hk_fp_tail(uint64_t hi, uint64_t lo, unsigned drop)
{
	return drop == 0 ? lo : hi << (64 - drop) | (lo != 0);
}

static inline struct hk_fp_rounded hk_fp_overflow(
	const struct hk_fp_exact *x, struct hk_fp_format format, struct hk_fp_env *env)
{
	/* Unmasked: so far off that the other bias does not help. */
	bool to_inf = env->rounding == HK_FP_NEAREST || (env->masked & HK_FP_OE) == 0 ||
		env->rounding == (x->sign ? HK_FP_DOWN : HK_FP_UP);

	env->flags |= HK_FP_OE | HK_FP_PE;
	env->rounded_up = to_inf;
	if (to_inf) {
		return (struct hk_fp_rounded){format.emax - format.emin + 2, HK_FP_TOP};
	}
	return (struct hk_fp_rounded){
		format.emax - format.emin + 1,
		UINT64_MAX << (64 - format.precision),
	};
}

/** hk_fp_round() - the rounding that ends every operation */
static inline struct hk_fp_rounded hk_fp_round(
	const struct hk_fp_exact *x, struct hk_fp_format format, struct hk_fp_env *env)
{
	const unsigned drop = 64 - format.precision;
	uint64_t hi = x->hi;
	uint64_t lo = x->lo;
	int32_t exp = x->exp;
	bool tiny = false;

	env->rounded_up = false;
	if (__builtin_expect(x->class != HK_FP_CLASS_FINITE, 0)) {
		return (struct hk_fp_rounded){
			x->class == HK_FP_CLASS_ZERO ? 0 : format.emax - format.emin + 2,
			hi,
		};
	}
	if (__builtin_expect(exp < format.emin, 0)) {
		/*
		 * Tiny after rounding as if exponents had no bounds: all but what rounds up to
		 * emin.
		 */
		tiny = exp < format.emin - 1 ||
			(hi | (drop != 0 ? UINT64_MAX >> (64 - drop) : 0)) != UINT64_MAX ||
			!hk_fp_round_up(env->rounding, x->sign, true, hk_fp_tail(hi, lo, drop));
		if (tiny && (env->masked & HK_FP_UE) == 0) {
			env->flags |= HK_FP_UE;
			exp += format.rebias;
			if (format.rebias != 0 && exp < format.emin) { /* FSCALE only */
				env->flags |= HK_FP_PE;
				return (struct hk_fp_rounded){0, 0};
			}
			tiny = false;
		} else if (tiny && env->ftz) {
			env->flags |= HK_FP_UE | HK_FP_PE;
			return (struct hk_fp_rounded){0, 0};
		} else {
			hk_u128 sig = hk_fp_shift_right_sticky(
				(hk_u128)hi << 64 | lo, (uint32_t)(format.emin - exp));

			hi = (uint64_t)(sig >> 64);
			lo = (uint64_t)sig;
			exp = format.emin;
		}
	}

	uint64_t tail = hk_fp_tail(hi, lo, drop);
	bool up = hk_fp_round_up(env->rounding, x->sign, (hi >> drop & 1) != 0, tail);

	hi = hi >> drop << drop;
	if (up) {
		hi += UINT64_C(1) << drop;
		if (hi == 0) {
			hi = HK_FP_TOP;
			exp++;
		}
	}
	if (__builtin_expect(exp > format.emax, 0)) {
		exp -= format.rebias;
		if ((env->masked & HK_FP_OE) != 0 || (format.rebias != 0 && exp > format.emax)) {
			return hk_fp_overflow(x, format, env);
		}
		env->flags |= HK_FP_OE;
	}
	env->rounded_up = up;
	if (tail != 0) {
		env->flags |= tiny ? HK_FP_UE | HK_FP_PE : HK_FP_PE;
	}
	return (struct hk_fp_rounded){
		(hi & HK_FP_TOP) != 0 ? exp - format.emin + 1 : 0,
		hi,
	};
}

/* Operations. Those of two operands: NaNs first, then other invalid ones, then denormals. */

static inline struct hk_fp_exact hk_fp_add(const struct hk_fp_parts *a, const struct hk_fp_parts *b,
	bool subtract, enum hk_fp_rules rules, struct hk_fp_env *env)
{
	bool b_sign = b->sign != subtract;

	if (hk_fp_parts_nan(a) || hk_fp_parts_nan(b)) {
		return hk_fp_nan2(a, b, rules, env);
	}
	if (a->class == HK_FP_CLASS_INF && b->class == HK_FP_CLASS_INF && a->sign != b_sign) {
		return hk_fp_exact_invalid(env);
	}
	if (hk_fp_denormal(a->denormal || b->denormal, env)) {
		return hk_fp_exact_zero(false);
	}
	if (a->class == HK_FP_CLASS_ZERO && b->class == HK_FP_CLASS_ZERO) {
		return hk_fp_exact_zero(a->sign == b_sign ? b_sign : env->rounding == HK_FP_DOWN);
	}
	if (a->class == HK_FP_CLASS_INF || b->class == HK_FP_CLASS_ZERO) {
		return hk_fp_exact_of(a);
	}
	if (b->class == HK_FP_CLASS_INF || a->class == HK_FP_CLASS_ZERO) {
		struct hk_fp_exact x = hk_fp_exact_of(b);

		x.sign = b_sign;
		return x;
	}

	bool swap = b->exp > a->exp || (b->exp == a->exp && b->sig > a->sig);
	const struct hk_fp_parts *big = swap ? b : a;
	const struct hk_fp_parts *small = swap ? a : b;
	bool sign = swap ? b_sign : a->sign;
	/* One bit of room above for the carry. */
	hk_u128 sum = (hk_u128)big->sig << 63;
	hk_u128 addend = hk_fp_shift_right_sticky(
		(hk_u128)small->sig << 63, (uint32_t)(big->exp - small->exp));

	if (a->sign == b_sign) {
		sum += addend;
	} else {
		sum -= addend;
		if (sum == 0) {
			return hk_fp_exact_zero(env->rounding == HK_FP_DOWN);
		}
	}
	return hk_fp_normal(sign, big->exp + 1, (uint64_t)(sum >> 64), (uint64_t)sum);
}

static inline struct hk_fp_exact hk_fp_mul(const struct hk_fp_parts *a, const struct hk_fp_parts *b,
	enum hk_fp_rules rules, struct hk_fp_env *env)
{
	bool sign = a->sign != b->sign;

	if (hk_fp_parts_nan(a) || hk_fp_parts_nan(b)) {
		return hk_fp_nan2(a, b, rules, env);
	}
	if ((a->class == HK_FP_CLASS_INF && b->class == HK_FP_CLASS_ZERO) ||
		(a->class == HK_FP_CLASS_ZERO && b->class == HK_FP_CLASS_INF)) {
		return hk_fp_exact_invalid(env);
	}
	if (hk_fp_denormal(a->denormal || b->denormal, env)) {
		return hk_fp_exact_zero(false);
	}
	if (a->class == HK_FP_CLASS_INF || b->class == HK_FP_CLASS_INF) {
		return hk_fp_exact_inf(sign);
	}
	if (a->class == HK_FP_CLASS_ZERO || b->class == HK_FP_CLASS_ZERO) {
		return hk_fp_exact_zero(sign);
	}

	hk_u128 product = (hk_u128)a->sig * b->sig;

	return hk_fp_normal(
		sign, a->exp + b->exp + 1, (uint64_t)(product >> 64), (uint64_t)product);
}

static inline struct hk_fp_exact hk_fp_div(const struct hk_fp_parts *a, const struct hk_fp_parts *b,
	enum hk_fp_rules rules, struct hk_fp_env *env)
{
	bool sign = a->sign != b->sign;

	if (hk_fp_parts_nan(a) || hk_fp_parts_nan(b)) {
		return hk_fp_nan2(a, b, rules, env);
	}
	if (a->class == b->class && a->class != HK_FP_CLASS_FINITE) { /* 0 / 0, inf / inf */
		return hk_fp_exact_invalid(env);
	}
	if (b->class == HK_FP_CLASS_ZERO && a->class == HK_FP_CLASS_FINITE) {
		env->flags |= HK_FP_ZE;
		return hk_fp_exact_inf(sign);
	}
	if (hk_fp_denormal(a->denormal || b->denormal, env)) {
		return hk_fp_exact_zero(false);
	}
	if (a->class == HK_FP_CLASS_INF) {
		return hk_fp_exact_inf(sign);
	}
	if (a->class == HK_FP_CLASS_ZERO || b->class == HK_FP_CLASS_INF) {
		return hk_fp_exact_zero(sign);
	}

	/* 64 bits of quotient from the division, the next and the sticky one from its remainder. */
	bool less = a->sig < b->sig;
	hk_u128 dividend = (hk_u128)a->sig << (less ? 64 : 63);
	uint64_t quotient = (uint64_t)(dividend / b->sig);
	uint64_t rest = (uint64_t)dividend - quotient * b->sig;
	bool half = rest >= b->sig - rest;
	uint64_t below = half ? rest - (b->sig - rest) : rest;

	return (struct hk_fp_exact){
		.class = HK_FP_CLASS_FINITE,
		.sign = sign,
		.exp = a->exp - b->exp - less,
		.hi = quotient,
		.lo = (half ? HK_FP_TOP : 0) | (below != 0),
	};
}

/* Floor of the square root of a number with one of its two top bits set; *ret_rest what its square
 * leaves, at most twice the root. Zimmermann, "Karatsuba square root", INRIA RR-3805. */
static inline uint32_t hk_fp_isqrt64(uint64_t value, uint64_t *ret_rest)
{
	uint64_t root = 0;
	uint64_t rest = value;

	for (uint64_t bit = UINT64_C(1) << 62; bit != 0; bit >>= 2) {
		if (rest >= root + bit) {
			rest -= root + bit;
			root = (root >> 1) + bit;
		} else {
			root >>= 1;
		}
	}
	*ret_rest = rest;
	return (uint32_t)root;
}

static inline uint64_t hk_fp_isqrt128(hk_u128 value, hk_u128 *ret_rest)
{
	uint64_t low = (uint64_t)value;
	uint64_t high_rest;
	uint64_t high = hk_fp_isqrt64((uint64_t)(value >> 64), &high_rest);
	hk_u128 dividend = (hk_u128)high_rest << 32 | low >> 32;
	hk_u128 quotient = dividend / (2 * high);
	hk_u128 left = dividend - quotient * (2 * high);
	hk_u128 root = ((hk_u128)high << 32) + quotient;
	hk_u128 rest = left << 32 | (uint32_t)low;

	if (rest < quotient * quotient) { /* one too large; once is enough */
		root--;
		rest += 2 * root + 1;
	}
	*ret_rest = rest - quotient * quotient;
	return (uint64_t)root;
}

static inline struct hk_fp_exact hk_fp_sqrt(const struct hk_fp_parts *a, struct hk_fp_env *env)
{
	if (hk_fp_parts_nan(a)) {
		return hk_fp_nan1(a, env);
	}
	if (a->sign && a->class != HK_FP_CLASS_ZERO) {
		return hk_fp_exact_invalid(env);
	}
	if (hk_fp_denormal(a->denormal, env)) {
		return hk_fp_exact_zero(false);
	}
	if (a->class != HK_FP_CLASS_FINITE) {
		return hk_fp_exact_of(a);
	}

	/*
	 * root * root + rest is the significand; the root's next bit is set where rest > root, and
	 * then it cannot be exact.
	 */
	bool odd = (a->exp & 1) != 0;
	hk_u128 rest;
	uint64_t root = hk_fp_isqrt128((hk_u128)a->sig << (odd ? 64 : 63), &rest);

	return (struct hk_fp_exact){
		.class = HK_FP_CLASS_FINITE,
		.exp = (a->exp - odd) / 2,
		.hi = root,
		.lo = (rest > root ? HK_FP_TOP : 0) | (rest != 0),
	};
}

static inline enum hk_fp_relation hk_fp_compare(
	const struct hk_fp_parts *a, const struct hk_fp_parts *b, bool quiet, struct hk_fp_env *env)
{
	if (hk_fp_parts_nan(a) || hk_fp_parts_nan(b)) {
		if (!quiet || a->class > HK_FP_CLASS_QNAN || b->class > HK_FP_CLASS_QNAN) {
			env->flags |= HK_FP_IE;
		}
		return HK_FP_UNORDERED;
	}
	hk_fp_denormal(a->denormal || b->denormal, env);
	if (a->class == HK_FP_CLASS_ZERO && b->class == HK_FP_CLASS_ZERO) {
		return HK_FP_EQUAL;
	}
	if (a->sign != b->sign) {
		return a->sign ? HK_FP_LESS : HK_FP_GREATER;
	}
	if (a->exp == b->exp && a->sig == b->sig) {
		return HK_FP_EQUAL;
	}

	bool less = a->exp != b->exp ? a->exp < b->exp : a->sig < b->sig;

	return less != a->sign ? HK_FP_LESS : HK_FP_GREATER;
}

/* The magnitude of finite @a, less than 2^64, rounded to an integer; *ret_tail what was cut off. */
static inline uint64_t hk_fp_integer(
	const struct hk_fp_parts *a, unsigned rounding, uint64_t *ret_tail, bool *ret_up)
{
	uint64_t value = a->exp < 0 ? 0 : a->sig >> (63 - a->exp);
	uint64_t tail;

	if (a->exp < 0) {
		tail = a->exp == -1 ? a->sig : 1; /* 1: anything under a half */
	} else {
		tail = a->exp == 63 ? 0 : a->sig << (a->exp + 1);
	}
	*ret_tail = tail;
	*ret_up = hk_fp_round_up(rounding, a->sign, (value & 1) != 0, tail);
	return value + *ret_up;
}

/** hk_fp_to_int() - to a signed integer of @bits; the smallest where it does not fit */
static inline int64_t hk_fp_to_int(
	const struct hk_fp_parts *a, unsigned bits, unsigned rounding, struct hk_fp_env *env)
{
	const uint64_t limit = UINT64_C(1) << (bits - 1);

	env->rounded_up = false;
	if (a->class == HK_FP_CLASS_ZERO) {
		return 0;
	}
	if (a->class == HK_FP_CLASS_FINITE && a->exp < 64) {
		uint64_t tail;
		bool up;
		uint64_t value = hk_fp_integer(a, rounding, &tail, &up);

		if (value < limit + a->sign) {
			env->rounded_up = up;
			if (tail != 0) {
				env->flags |= HK_FP_PE;
			}
			return (int64_t)(a->sign ? -value : value);
		}
	}
	env->flags |= HK_FP_IE;
	return (int64_t)-limit;
}

/** hk_fp_rint() - to an integral value of a format with @precision bits */
static inline struct hk_fp_exact hk_fp_rint(
	const struct hk_fp_parts *a, unsigned precision, struct hk_fp_env *env, bool *ret_up)
{
	uint64_t tail;
	uint64_t value;

	*ret_up = false;
	if (hk_fp_parts_nan(a)) {
		return hk_fp_nan1(a, env);
	}
	if (a->class != HK_FP_CLASS_FINITE || a->exp >= (int32_t)precision - 1) {
		return hk_fp_exact_of(a);
	}
	value = hk_fp_integer(a, env->rounding, &tail, ret_up);
	if (tail != 0) {
		env->flags |= HK_FP_PE;
	}
	return hk_fp_normal(a->sign, 63, value, 0);
}

static inline struct hk_fp_exact hk_fp_from_int64(int64_t a)
{
	return hk_fp_normal(a < 0, 63, a < 0 ? -(uint64_t)a : (uint64_t)a, 0);
}

/* Unpacking f32 and f64; signalling NaNs stay such. */
static inline struct hk_fp_parts hk_fp_unpack(
	bool sign, uint32_t exp, uint64_t frac, struct hk_fp_format format, bool daz)
{
	struct hk_fp_parts a = {.class = HK_FP_CLASS_FINITE, .sign = sign};
	uint64_t sig = frac << (64 - format.precision);

	if (exp != 0 && exp != (uint32_t)(format.emax - format.emin + 2)) {
		a.exp = (int32_t)exp + format.emin - 1;
		a.sig = HK_FP_TOP | sig;
	} else if (exp != 0) {
		a.class = sig == 0                    ? HK_FP_CLASS_INF
			: (sig & HK_FP_TOP >> 1) != 0 ? HK_FP_CLASS_QNAN
						      : HK_FP_CLASS_SNAN;
		a.exp = HK_FP_EXP_INF;
		a.sig = HK_FP_TOP | sig;
	} else if (sig == 0 || daz) {
		a.class = HK_FP_CLASS_ZERO;
		a.exp = HK_FP_EXP_ZERO;
	} else {
		unsigned shift = (unsigned)__builtin_clzll(sig);

		a.denormal = true;
		a.exp = format.emin - (int32_t)shift;
		a.sig = sig << shift;
	}
	return a;
}

static inline struct hk_fp_parts hk_f32_unpack(uint32_t a, bool daz)
{
	return hk_fp_unpack(a >> 31 != 0, a >> 23 & 0xff, a & 0x7fffff, HK_FP_FORMAT_F32, daz);
}

static inline struct hk_fp_parts hk_f64_unpack(uint64_t a, bool daz)
{
	return hk_fp_unpack(a >> 63 != 0, (uint32_t)(a >> 52) & 0x7ff,
		a & UINT64_C(0xfffffffffffff), HK_FP_FORMAT_F64, daz);
}

static inline uint32_t hk_f32_pack(struct hk_fp_exact x, struct hk_fp_env *env)
{
	struct hk_fp_rounded r = hk_fp_round(&x, HK_FP_FORMAT_F32, env);

	return (uint32_t)x.sign << 31 | (uint32_t)r.exp << 23 | (uint32_t)(r.sig << 1 >> 41);
}

static inline uint64_t hk_f64_pack(struct hk_fp_exact x, struct hk_fp_env *env)
{
	struct hk_fp_rounded r = hk_fp_round(&x, HK_FP_FORMAT_F64, env);

	return (uint64_t)x.sign << 63 | (uint64_t)r.exp << 52 | r.sig << 1 >> 12;
}

#endif
