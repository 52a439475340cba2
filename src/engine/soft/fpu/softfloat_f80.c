/* SPDX-License-Identifier: ISC */
/*
 * f80 with the rules of the x87 unit; the arithmetic is softfloat_core.h's.
 *
 * Only add, sub, mul, div and sqrt round to the precision that the control word asks for; all
 * others give 64 bits. Reduced precision leaves the range of exponents as it is, so denormals lose
 * bits at the low end twice: the last place kept is the same one in the stored significand.
 */
#include "engine/soft/fpu/softfloat.h"

#include "engine/soft/fpu/softfloat_core.h"

enum { EXP_MAX = 0x7fff, EXP_MIN_NORMAL = -16382 };

static struct hk_fp_format format_f80(unsigned precision)
{
	static const uint8_t bits[4] = {24, 64, 53, 64}; /* 1 is reserved */

	return (struct hk_fp_format){bits[precision & 3], EXP_MIN_NORMAL, 16383, 24576};
}

static struct hk_f80 pack(struct hk_fp_exact x, unsigned precision, struct hk_fp_env *env)
{
	struct hk_fp_rounded r = hk_fp_round(&x, format_f80(precision), env);

	return (struct hk_f80){
		.frac = r.sig,
		.sign_exp = (uint16_t)((unsigned)x.sign << 15 | (unsigned)r.exp),
	};
}

/* What needs no rounding. */
static struct hk_f80 pack_exact(struct hk_fp_exact x, struct hk_fp_env *env)
{
	return pack(x, HK_FP_PC_64, env);
}

/* An operand that is the result is no underflow, even a denormal one with underflow unmasked. */
static struct hk_f80 unchanged(const struct hk_fp_parts *x, struct hk_fp_env *env)
{
	struct hk_fp_env quiet = {.masked = HK_FP_ALL};

	env->rounded_up = false;
	return pack_exact(hk_fp_exact_of(x), &quiet);
}

struct hk_fp_parts hk_f80_unpack(struct hk_f80 a)
{
	struct hk_fp_parts x = {.class = HK_FP_CLASS_FINITE, .sign = a.sign_exp >> 15 != 0};
	unsigned exp = a.sign_exp & EXP_MAX;

	if (exp == 0) {
		if (a.frac == 0) {
			x.class = HK_FP_CLASS_ZERO;
			x.exp = HK_FP_EXP_ZERO;
			return x;
		}

		unsigned shift = (unsigned)__builtin_clzll(a.frac);

		x.denormal = true;
		x.exp = EXP_MIN_NORMAL - (int32_t)shift;
		x.sig = a.frac << shift;
		return x;
	}
	x.exp = (int32_t)exp - 16383;
	x.sig = a.frac;
	if ((a.frac & HK_FP_TOP) == 0) {
		x.class = HK_FP_CLASS_UNSUPPORTED;
	} else if (exp == EXP_MAX) {
		x.class = a.frac == HK_FP_TOP            ? HK_FP_CLASS_INF
			: (a.frac & HK_FP_TOP >> 1) != 0 ? HK_FP_CLASS_QNAN
							 : HK_FP_CLASS_SNAN;
		x.exp = HK_FP_EXP_INF;
	}
	return x;
}

/* An operand that came denormal from memory counts as one (hk_f80_widen64()). */
static struct hk_fp_parts unpack_operand(struct hk_f80 a, struct hk_fp_env *env)
{
	struct hk_fp_parts x = hk_f80_unpack(a);

	x.denormal |= env->denormal_operand;
	env->denormal_operand = false;
	return x;
}

struct hk_f80 hk_f80_round(bool sign, int32_t exp, uint64_t hi, uint64_t lo,
	enum hk_fp_precision precision, struct hk_fp_env *env)
{
	return pack(hk_fp_normal(sign, exp, hi, lo), precision, env);
}

struct hk_f80 hk_f80_nan1(struct hk_f80 a, struct hk_fp_env *env)
{
	struct hk_fp_parts x = unpack_operand(a, env);

	return pack_exact(hk_fp_nan1(&x, env), env);
}

struct hk_f80 hk_f80_nan2(struct hk_f80 a, struct hk_f80 b, struct hk_fp_env *env)
{
	struct hk_fp_parts x = unpack_operand(a, env);
	struct hk_fp_parts y = hk_f80_unpack(b);

	return pack_exact(hk_fp_nan2(&x, &y, HK_FP_X87, env), env);
}

struct hk_f80 hk_f80_add(struct hk_f80 a, struct hk_f80 b, struct hk_fp_env *env)
{
	struct hk_fp_parts x = unpack_operand(a, env);
	struct hk_fp_parts y = hk_f80_unpack(b);

	return pack(hk_fp_add(&x, &y, false, HK_FP_X87, env), env->precision, env);
}

struct hk_f80 hk_f80_sub(struct hk_f80 a, struct hk_f80 b, struct hk_fp_env *env)
{
	struct hk_fp_parts x = unpack_operand(a, env);
	struct hk_fp_parts y = hk_f80_unpack(b);

	return pack(hk_fp_add(&x, &y, true, HK_FP_X87, env), env->precision, env);
}

struct hk_f80 hk_f80_mul(struct hk_f80 a, struct hk_f80 b, struct hk_fp_env *env)
{
	struct hk_fp_parts x = unpack_operand(a, env);
	struct hk_fp_parts y = hk_f80_unpack(b);

	return pack(hk_fp_mul(&x, &y, HK_FP_X87, env), env->precision, env);
}

struct hk_f80 hk_f80_div(struct hk_f80 a, struct hk_f80 b, struct hk_fp_env *env)
{
	struct hk_fp_parts x = unpack_operand(a, env);
	struct hk_fp_parts y = hk_f80_unpack(b);

	return pack(hk_fp_div(&x, &y, HK_FP_X87, env), env->precision, env);
}

struct hk_f80 hk_f80_sqrt(struct hk_f80 a, struct hk_fp_env *env)
{
	struct hk_fp_parts x = unpack_operand(a, env);

	return pack(hk_fp_sqrt(&x, env), env->precision, env);
}

struct hk_f80 hk_f80_rint(struct hk_f80 a, struct hk_fp_env *env)
{
	struct hk_fp_parts x = unpack_operand(a, env);
	bool up;

	if (!hk_fp_parts_nan(&x) && hk_fp_denormal(x.denormal, env)) {
		return a;
	}
	a = pack_exact(hk_fp_rint(&x, 64, env, &up), env);
	env->rounded_up = up;
	return a;
}

struct hk_f80 hk_f80_scale(struct hk_f80 a, struct hk_f80 b, struct hk_fp_env *env)
{
	enum { FAR = 1 << 17 }; /* more than any exponent can be off */

	struct hk_fp_parts x = unpack_operand(a, env);
	struct hk_fp_parts y = hk_f80_unpack(b);

	if (hk_fp_parts_nan(&x) || hk_fp_parts_nan(&y)) {
		return pack_exact(hk_fp_nan2(&x, &y, HK_FP_X87, env), env);
	}
	if (y.class == HK_FP_CLASS_INF &&
		x.class == (y.sign ? HK_FP_CLASS_INF : HK_FP_CLASS_ZERO)) {
		return pack_exact(hk_fp_exact_invalid(env), env);
	}
	if (hk_fp_denormal(x.denormal || y.denormal, env)) {
		return a;
	}
	if (y.class == HK_FP_CLASS_INF) {
		return pack_exact(y.sign ? hk_fp_exact_zero(x.sign) : hk_fp_exact_inf(x.sign), env);
	}

	if (x.class != HK_FP_CLASS_FINITE || y.class != HK_FP_CLASS_FINITE) {
		return unchanged(&x, env);
	}

	int32_t n = y.exp < 0 ? 0 : y.exp < 17 ? (int32_t)(y.sig >> (63 - y.exp)) : FAR;
	struct hk_fp_exact r = hk_fp_exact_of(&x);

	r.exp += y.sign ? -n : n;
	return pack_exact(r, env);
}

void hk_f80_extract(struct hk_f80 a, struct hk_f80 *ret_exponent, struct hk_f80 *ret_significand,
	struct hk_fp_env *env)
{
	struct hk_fp_parts x = unpack_operand(a, env);
	struct hk_fp_exact exponent, significand;

	if (hk_fp_parts_nan(&x)) {
		exponent = significand = hk_fp_nan1(&x, env);
	} else if (x.class == HK_FP_CLASS_ZERO) {
		env->flags |= HK_FP_ZE;
		exponent = hk_fp_exact_inf(true);
		significand = hk_fp_exact_zero(x.sign);
	} else if (x.class == HK_FP_CLASS_INF) {
		exponent = hk_fp_exact_inf(false);
		significand = hk_fp_exact_inf(x.sign);
	} else {
		hk_fp_denormal(x.denormal, env);
		exponent = hk_fp_from_int64(x.exp);
		significand = hk_fp_exact_of(&x);
		significand.exp = 0;
	}
	*ret_exponent = pack_exact(exponent, env);
	*ret_significand = pack_exact(significand, env);
}

/* FPREM and FPREM1 of finite numbers, b not 0. */
static struct hk_fp_exact remainder_of(const struct hk_fp_parts *a, const struct hk_fp_parts *b,
	bool nearest, unsigned *ret_quotient, bool *ret_partial)
{
	int32_t distance = a->exp - b->exp;
	bool sign = a->sign;

	*ret_quotient = 0;
	*ret_partial = distance >= 64;
	if (distance < -1 || (distance == -1 && !nearest)) {
		return hk_fp_exact_of(a);
	}
	if (distance == -1) {
		/* a is between a quarter of b and b: the quotient is 0 or 1. */
		if (a->sig <= b->sig) {
			return hk_fp_exact_of(a);
		}
		*ret_quotient = 1;

		hk_u128 rest = ((hk_u128)b->sig << 1) - a->sig;

		return hk_fp_normal(!sign, a->exp + 64, (uint64_t)(rest >> 64), (uint64_t)rest);
	}

	/* How far one step gets is the CPU's choice: 32 to 63 bits. */
	unsigned step = *ret_partial ? 32 | ((unsigned)distance & 31) : (unsigned)distance;
	hk_u128 dividend = (hk_u128)a->sig << step;
	hk_u128 quotient = dividend / b->sig;
	uint64_t rest = (uint64_t)(dividend - quotient * b->sig);

	if (*ret_partial) {
		return hk_fp_normal(sign, b->exp + distance - (int32_t)step, rest, 0);
	}
	if (nearest && (rest > b->sig - rest || (rest == b->sig - rest && (quotient & 1) != 0))) {
		rest = b->sig - rest;
		quotient++;
		sign = !sign;
	}
	*ret_quotient = (unsigned)quotient & 7;
	return rest == 0 ? hk_fp_exact_zero(a->sign) : hk_fp_normal(sign, b->exp, rest, 0);
}

struct hk_f80 hk_f80_rem(struct hk_f80 a, struct hk_f80 b, bool nearest, unsigned *ret_quotient,
	bool *ret_partial, struct hk_fp_env *env)
{
	struct hk_fp_parts x = unpack_operand(a, env);
	struct hk_fp_parts y = hk_f80_unpack(b);

	*ret_quotient = 0;
	*ret_partial = false;
	if (hk_fp_parts_nan(&x) || hk_fp_parts_nan(&y)) {
		return pack_exact(hk_fp_nan2(&x, &y, HK_FP_X87, env), env);
	}
	if (x.class == HK_FP_CLASS_INF || y.class == HK_FP_CLASS_ZERO) {
		return pack_exact(hk_fp_exact_invalid(env), env);
	}
	if (hk_fp_denormal(x.denormal || y.denormal, env)) {
		return a;
	}
	if (x.class == HK_FP_CLASS_ZERO || y.class == HK_FP_CLASS_INF) {
		return unchanged(&x, env);
	}
	return pack_exact(remainder_of(&x, &y, nearest, ret_quotient, ret_partial), env);
}

enum hk_fp_relation hk_f80_compare(
	struct hk_f80 a, struct hk_f80 b, bool quiet, struct hk_fp_env *env)
{
	struct hk_fp_parts x = unpack_operand(a, env);
	struct hk_fp_parts y = hk_f80_unpack(b);

	return hk_fp_compare(&x, &y, quiet, env);
}

static struct hk_f80 load(struct hk_fp_parts x, struct hk_fp_env *env)
{
	if (hk_fp_parts_nan(&x)) {
		return pack_exact(hk_fp_nan1(&x, env), env);
	}
	hk_fp_denormal(x.denormal, env);
	return pack_exact(hk_fp_exact_of(&x), env);
}

struct hk_f80 hk_f80_from_f32(uint32_t a, struct hk_fp_env *env)
{
	return load(hk_f32_unpack(a, false), env);
}

struct hk_f80 hk_f80_from_f64(uint64_t a, struct hk_fp_env *env)
{
	return load(hk_f64_unpack(a, false), env);
}

static struct hk_f80 widen(struct hk_fp_parts x, struct hk_fp_env *env)
{
	env->denormal_operand = x.denormal;
	return pack_exact(hk_fp_exact_of(&x), env);
}

struct hk_f80 hk_f80_widen32(uint32_t a, struct hk_fp_env *env)
{
	return widen(hk_f32_unpack(a, false), env);
}

struct hk_f80 hk_f80_widen64(uint64_t a, struct hk_fp_env *env)
{
	return widen(hk_f64_unpack(a, false), env);
}

struct hk_f80 hk_f80_from_int64(int64_t a)
{
	struct hk_fp_env env = {0};

	return pack_exact(hk_fp_from_int64(a), &env);
}

/* Stores with an unmasked overflow or underflow store nothing, so they are not inexact either. */
static struct hk_fp_exact store(struct hk_f80 a, struct hk_fp_env *env)
{
	struct hk_fp_parts x = unpack_operand(a, env);

	return hk_fp_parts_nan(&x) ? hk_fp_nan1(&x, env) : hk_fp_exact_of(&x);
}

static void store_flags(struct hk_fp_env *env, uint8_t before)
{
	if ((env->flags & ~env->masked & (HK_FP_OE | HK_FP_UE)) != 0) {
		env->flags &= (uint8_t)(~HK_FP_PE | before);
	}
}

uint32_t hk_f80_to_f32(struct hk_f80 a, struct hk_fp_env *env)
{
	uint8_t before = env->flags;
	uint32_t value = hk_f32_pack(store(a, env), env);

	store_flags(env, before);
	return value;
}

uint64_t hk_f80_to_f64(struct hk_f80 a, struct hk_fp_env *env)
{
	uint8_t before = env->flags;
	uint64_t value = hk_f64_pack(store(a, env), env);

	store_flags(env, before);
	return value;
}

int64_t hk_f80_to_int(
	struct hk_f80 a, unsigned bits, enum hk_fp_round rounding, struct hk_fp_env *env)
{
	struct hk_fp_parts x = unpack_operand(a, env);

	return hk_fp_to_int(&x, bits, rounding, env);
}
