/* SPDX-License-Identifier: ISC */
/*
 * The transcendental functions of the x87 unit, without a libm.
 *
 * All is computed with 128 bits: struct wide is a floating-point number of that many. Each function
 * reduces its argument to where a short power series, evaluated in fixed point, converges. The
 * relative error is below 2^-120 (measured: 2^-123), so the result, rounded once to 64 bits, is the
 * correctly rounded one but for about one argument in 2^55.
 *
 * Hardware promises less (within one unit in the last place) and keeps it, so results differ from a
 * given CPU's now and then in the last bit: its microcode is not public. What share agrees is
 * measured by tests/unit/test_x87.c. Known habits of hardware are imitated: it reduces angles by a
 * pi of 66 bits, so large arguments give the sine of another angle than a mathematician's; and it
 * calls every computed result inexact, even where it is not.
 *
 * Source: Intel SDM vol. 1, 8.3.8 to 8.3.10; vol. 2, tables of special operands at each
 * instruction; beyond their domains, what an Intel Xeon does.
 */
#include "engine/soft/fpu/transcendental.h"

#include "base/util.h"
#include "engine/soft/fpu/softfloat_core.h"

/**
 * struct wide - sig / 2^127 * 2^exp
 * @sig: bit 127 is set, or 0 for zero
 */
struct wide {
	bool sign;
	int32_t exp;
	hk_u128 sig;
};

#define U128(hi, lo) ((hk_u128)UINT64_C(hi) << 64 | UINT64_C(lo))
#define U128_TOP     ((hk_u128)1 << 127)

static const struct wide wide_one = {.exp = 0, .sig = U128_TOP};
static const struct wide wide_two = {.exp = 1, .sig = U128_TOP};
static const struct wide wide_ln2 = {
	.exp = -1, .sig = U128(0xb17217f7d1cf79ab, 0xc9e3b39803f2f6af)};
static const struct wide wide_log2e = {
	.exp = 0, .sig = U128(0xb8aa3b295c17f0bb, 0xbe87fed0691d3e89)};
static const struct wide wide_pi = {.exp = 1, .sig = U128(0xc90fdaa22168c234, 0xc4c6628b80dc1cd1)};

/* Half of the pi that angles are reduced by, times 2^67 */
#define REDUCTION_HALF_PI U128(0xc, 0x90fdaa22168c234c)

/* atan(n / 8) */
static const struct wide atan_eighths[] = {
	{.sig = 0},
	{.exp = -4, .sig = U128(0xfeadd4d5617b6e32, 0xc897989f3e888ef8)},
	{.exp = -3, .sig = U128(0xfadbafc96406eb15, 0x6dc79ef5f7a217e6)},
	{.exp = -2, .sig = U128(0xb7b0ca0f26f78473, 0x8aa32122dcfe4483)},
	{.exp = -2, .sig = U128(0xed63382b0dda7b45, 0x6fe445ecbc3a8d03)},
	{.exp = -1, .sig = U128(0x8f005d5ef7f59f9b, 0x5c835e1665c43748)},
	{.exp = -1, .sig = U128(0xa4bc7d1934f70924, 0x19a87f2a457dac9f)},
	{.exp = -1, .sig = U128(0xb8053e2bc2319e73, 0xcb2da55210a4443d)},
	{.exp = -1, .sig = U128(0xc90fdaa22168c234, 0xc4c6628b80dc1cd1)},
};

/* Coefficients of the power series, times 2^127 */

enum { ATAN_TERMS = 16 }; /* of inverse_odd, for arguments up to 1/16 */

/* 1 / (2n + 1) */
static const hk_u128 inverse_odd[] = {
	U128(0x8000000000000000, 0x0000000000000000),
	U128(0x2aaaaaaaaaaaaaaa, 0xaaaaaaaaaaaaaaab),
	U128(0x1999999999999999, 0x999999999999999a),
	U128(0x1249249249249249, 0x2492492492492492),
	U128(0x0e38e38e38e38e38, 0xe38e38e38e38e38e),
	U128(0x0ba2e8ba2e8ba2e8, 0xba2e8ba2e8ba2e8c),
	U128(0x09d89d89d89d89d8, 0x9d89d89d89d89d8a),
	U128(0x0888888888888888, 0x8888888888888889),
	U128(0x0787878787878787, 0x8787878787878788),
	U128(0x06bca1af286bca1a, 0xf286bca1af286bca),
	U128(0x0618618618618618, 0x6186186186186186),
	U128(0x0590b21642c8590b, 0x21642c8590b21643),
	U128(0x051eb851eb851eb8, 0x51eb851eb851eb85),
	U128(0x04bda12f684bda12, 0xf684bda12f684bda),
	U128(0x0469ee58469ee584, 0x69ee58469ee5846a),
	U128(0x0421084210842108, 0x4210842108421084),
	U128(0x03e0f83e0f83e0f8, 0x3e0f83e0f83e0f84),
	U128(0x03a83a83a83a83a8, 0x3a83a83a83a83a84),
	U128(0x03759f22983759f2, 0x2983759f2298375a),
	U128(0x0348348348348348, 0x3483483483483483),
	U128(0x031f3831f3831f38, 0x31f3831f3831f383),
	U128(0x02fa0be82fa0be82, 0xfa0be82fa0be82fa),
	U128(0x02d82d82d82d82d8, 0x2d82d82d82d82d83),
	U128(0x02b9310572620ae4, 0xc415c9882b931057),
};

/* 1 / (2n + 1)! */
static const hk_u128 sin_terms[] = {
	U128(0x8000000000000000, 0x0000000000000000),
	U128(0x1555555555555555, 0x5555555555555555),
	U128(0x0111111111111111, 0x1111111111111111),
	U128(0x0006806806806806, 0x8068068068068068),
	U128(0x0000171de3a556c7, 0x338faac1c88e5001),
	U128(0x00000035cc8acfea, 0x89c71fce8fc97070),
	U128(0x000000005849184e, 0xa1b425f28e0cc749),
	U128(0x00000000006b9fcf, 0x9ccee07c476195ac),
	U128(0x000000000000654b, 0x1dc0c2b529ac9814),
	U128(0x000000000000004b, 0xd26d1a05055c9328),
	U128(0x0000000000000000, 0x2e371dedb9eae318),
	U128(0x0000000000000000, 0x001761b41316381a),
	U128(0x0000000000000000, 0x000009f9e66e8b30),
	U128(0x0000000000000000, 0x00000003a356385c),
	U128(0x0000000000000000, 0x0000000001259f99),
	U128(0x0000000000000000, 0x00000000000050d3),
	U128(0x0000000000000000, 0x0000000000000014),
};

/* 1 / (2n)! */
static const hk_u128 cos_terms[] = {
	U128(0x8000000000000000, 0x0000000000000000),
	U128(0x4000000000000000, 0x0000000000000000),
	U128(0x0555555555555555, 0x5555555555555555),
	U128(0x002d82d82d82d82d, 0x82d82d82d82d82d8),
	U128(0x0000d00d00d00d00, 0xd00d00d00d00d00d),
	U128(0x0000024fc9f6ef13, 0xeb8e5de02da7d4cd),
	U128(0x000000047bb63bfe, 0x3625ed5136a61eb4),
	U128(0x00000000064e5d2a, 0x301f27482eb7c517),
	U128(0x000000000006b9fc, 0xf9ccee07c476195b),
	U128(0x00000000000005a0, 0x9e18ee5f65deec01),
	U128(0x0000000000000003, 0xca8574804044a0f5),
	U128(0x0000000000000000, 0x0219c72db6ff0a53),
	U128(0x0000000000000000, 0x0000f96780cb97ac),
	U128(0x0000000000000000, 0x000000623a17f1a9),
	U128(0x0000000000000000, 0x000000002143144c),
	U128(0x0000000000000000, 0x000000000009c996),
	U128(0x0000000000000000, 0x0000000000000287),
};

/* 1 / (n + 1)! */
static const hk_u128 expm1_terms[] = {
	U128(0x8000000000000000, 0x0000000000000000),
	U128(0x4000000000000000, 0x0000000000000000),
	U128(0x1555555555555555, 0x5555555555555555),
	U128(0x0555555555555555, 0x5555555555555555),
	U128(0x0111111111111111, 0x1111111111111111),
	U128(0x002d82d82d82d82d, 0x82d82d82d82d82d8),
	U128(0x0006806806806806, 0x8068068068068068),
	U128(0x0000d00d00d00d00, 0xd00d00d00d00d00d),
	U128(0x0000171de3a556c7, 0x338faac1c88e5001),
	U128(0x0000024fc9f6ef13, 0xeb8e5de02da7d4cd),
	U128(0x00000035cc8acfea, 0x89c71fce8fc97070),
	U128(0x000000047bb63bfe, 0x3625ed5136a61eb4),
	U128(0x000000005849184e, 0xa1b425f28e0cc749),
	U128(0x00000000064e5d2a, 0x301f27482eb7c517),
	U128(0x00000000006b9fcf, 0x9ccee07c476195ac),
	U128(0x000000000006b9fc, 0xf9ccee07c476195b),
	U128(0x000000000000654b, 0x1dc0c2b529ac9814),
	U128(0x00000000000005a0, 0x9e18ee5f65deec01),
	U128(0x000000000000004b, 0xd26d1a05055c9328),
};

/* The high half of the product */
static hk_u128 multiply_high(hk_u128 a, hk_u128 b)
{
	uint64_t a1 = (uint64_t)(a >> 64), a0 = (uint64_t)a;
	uint64_t b1 = (uint64_t)(b >> 64), b0 = (uint64_t)b;
	hk_u128 low = (hk_u128)a0 * b0;
	hk_u128 mid1 = (hk_u128)a1 * b0 + (uint64_t)(low >> 64);
	hk_u128 mid2 = (hk_u128)a0 * b1 + (uint64_t)mid1;

	return (hk_u128)a1 * b1 + (uint64_t)(mid1 >> 64) + (uint64_t)(mid2 >> 64);
}

static unsigned leading_zeros(hk_u128 a)
{
	uint64_t high = (uint64_t)(a >> 64);

	return (unsigned)(high != 0 ? __builtin_clzll(high) : 64 + __builtin_clzll((uint64_t)a));
}

static struct wide normalise(bool sign, int32_t exp, hk_u128 sig)
{
	unsigned shift;

	if (sig == 0) {
		return (struct wide){.sign = sign};
	}
	shift = leading_zeros(sig);
	return (struct wide){.sign = sign, .exp = exp - (int32_t)shift, .sig = sig << shift};
}

static struct wide wide_of(const struct hk_fp_parts *a)
{
	return (struct wide){.sign = a->sign, .exp = a->exp, .sig = (hk_u128)a->sig << 64};
}

static struct wide wide_of_int(int32_t a)
{
	return normalise(a < 0, 127, (hk_u128)(a < 0 ? -(uint32_t)a : (uint32_t)a));
}

static struct wide negate(struct wide a)
{
	a.sign = !a.sign;
	return a;
}

static struct wide multiply(struct wide a, struct wide b)
{
	return normalise(a.sign != b.sign, a.exp + b.exp + 1, multiply_high(a.sig, b.sig));
}

/* @b is not zero. */
static struct wide divide(struct wide a, struct wide b)
{
	hk_u128 quotient = 0, rest = a.sig;
	int32_t exp = a.exp - b.exp;

	if (a.sig == 0) {
		return a;
	}
	if (rest < b.sig) {
		/* the first bit would be 0 */
		exp--;
	} else {
		rest -= b.sig;
		quotient = 1;
	}
	/* rest is less than b.sig here, so a bit that is shifted out of it means "not less". */
	for (unsigned bits = quotient == 0 ? 128 : 127; bits > 0; bits--) {
		bool carry = (rest & U128_TOP) != 0;

		rest <<= 1;
		quotient <<= 1;
		if (carry || rest >= b.sig) {
			rest -= b.sig;
			quotient |= 1;
		}
	}
	return (struct wide){.sign = a.sign != b.sign, .exp = exp, .sig = quotient};
}

static struct wide add(struct wide a, struct wide b)
{
	struct wide swap;
	uint32_t shift;
	hk_u128 sum;

	if (a.sig == 0 || (b.sig != 0 && (b.exp > a.exp || (b.exp == a.exp && b.sig > a.sig)))) {
		swap = a;
		a = b;
		b = swap;
	}
	/* |a| >= |b| */
	shift = (uint32_t)(a.exp - b.exp);
	b.sig = b.sig == 0 || shift > 127 ? 0 : b.sig >> shift;
	if (a.sign != b.sign) {
		return normalise(a.sign, a.exp, a.sig - b.sig);
	}
	sum = a.sig + b.sig;
	if (sum < a.sig) {
		return (struct wide){
			.sign = a.sign,
			.exp = a.exp + 1,
			.sig = sum >> 1 | U128_TOP,
		};
	}
	a.sig = sum;
	return a;
}

static struct wide subtract(struct wide a, struct wide b)
{
	return add(a, negate(b));
}

static struct wide scale(struct wide a, int32_t by)
{
	a.exp += by;
	return a;
}

/* |@a| < 1 in units of 2^-128 */
static hk_u128 fraction(struct wide a)
{
	return a.sig == 0 || a.exp < -128 ? 0 : a.sig >> (-1 - a.exp);
}

/*
 * term[0] + term[1] t + term[2] t^2 ..., with every other sign negative where @alternating. The
 * result is between 1/2 and 2. An alternating series is never 1, however small t is, so that
 * rounding sees on which side of it the sum is.
 */
static struct wide series(const hk_u128 *term, unsigned count, hk_u128 t, bool alternating)
{
	hk_u128 sum = term[count - 1];

	for (unsigned i = count - 1; i > 0; i--) {
		hk_u128 product = multiply_high(sum, t);

		sum = alternating ? term[i - 1] - product : term[i - 1] + product;
	}
	if (alternating && sum == U128_TOP) {
		sum--;
	}
	return normalise(false, 0, sum);
}

/* A result that is never exact */
static struct hk_f80 round_inexact(struct wide a, struct hk_fp_env *env)
{
	return hk_f80_round(
		a.sign, a.exp, (uint64_t)(a.sig >> 64), (uint64_t)a.sig | 1, HK_FP_PC_64, env);
}

static struct hk_f80 infinity(bool sign)
{
	return (struct hk_f80){
		.frac = UINT64_C(1) << 63,
		.sign_exp = sign ? 0xffff : 0x7fff,
	};
}

static struct hk_f80 zero(bool sign)
{
	return (struct hk_f80){.sign_exp = sign ? 0x8000 : 0};
}

static struct hk_f80 invalid(struct hk_fp_env *env)
{
	env->flags |= HK_FP_IE;
	return HK_F80_DEFAULT_NAN;
}

static bool is_finite(const struct hk_fp_parts *a)
{
	return a->class == HK_FP_CLASS_FINITE;
}

/* Return: whether a denormal operand stops the instruction. */
static bool note_denormal(const struct hk_fp_parts *a, struct hk_fp_env *env)
{
	if (!is_finite(a) || !a->denormal) {
		return false;
	}
	env->flags |= HK_FP_DE;
	return (env->masked & HK_FP_DE) == 0;
}

static bool note_denormals(
	const struct hk_fp_parts *a, const struct hk_fp_parts *b, struct hk_fp_env *env)
{
	bool stop = note_denormal(a, env);

	return note_denormal(b, env) || stop;
}

/* Hardware calls results inexact that it did not have to round, too. */
static struct hk_f80 call_inexact(struct hk_f80 a, struct hk_fp_env *env)
{
	env->flags |= (a.sign_exp & 0x7fff) == 0 && a.frac != 0 ? HK_FP_PE | HK_FP_UE : HK_FP_PE;
	return a;
}

static bool is_one(struct wide a)
{
	return a.exp == 0 && a.sig == U128_TOP;
}

/* e^a - 1, |a| < 1 */
static struct wide exp_minus_1(struct wide a)
{
	/* With E = e^a - 1, e^2a - 1 = E (E + 2). */
	int32_t halvings = a.exp > -5 ? a.exp + 5 : 0;
	struct wide result;

	a.exp -= halvings;
	result = multiply(a, series(expm1_terms, HK_ARRAY_SIZE(expm1_terms), fraction(a), a.sign));
	for (; halvings > 0; halvings--) {
		result = multiply(result, add(result, wide_two));
	}
	return result;
}

struct hk_f80 hk_f80_exp2m1(struct hk_f80 x, struct hk_fp_env *env)
{
	static const struct hk_f80 minus_one = {.frac = UINT64_C(1) << 63, .sign_exp = 0xbfff};
	static const struct hk_f80 minus_half = {.frac = UINT64_C(1) << 63, .sign_exp = 0xbffe};
	struct hk_fp_parts parts = hk_f80_unpack(x);

	if (parts.class >= HK_FP_CLASS_QNAN) {
		return hk_f80_nan1(x, env);
	}
	if (parts.class == HK_FP_CLASS_ZERO) {
		return x;
	}
	if (parts.class == HK_FP_CLASS_INF) {
		return parts.sign ? minus_one : x;
	}
	if (parts.exp >= 0) {
		env->flags |= HK_FP_PE;
		return parts.sign && is_one(wide_of(&parts)) ? minus_half : x;
	}
	if (note_denormal(&parts, env)) {
		return x;
	}
	return round_inexact(exp_minus_1(multiply(wide_of(&parts), wide_ln2)), env);
}

/* log2((1 + s) / (1 - s)), |s| < 0.18 */
static struct wide log2_of_ratio(struct wide s)
{
	struct wide sum =
		series(inverse_odd, HK_ARRAY_SIZE(inverse_odd), fraction(multiply(s, s)), false);

	return scale(multiply(multiply(s, sum), wide_log2e), 1);
}

/* @a is positive. Exact for powers of two. */
static struct wide log2_of(struct wide a)
{
	static const hk_u128 sqrt2 = U128(0xb504f333f9de6484, 0x597d89b3754abe9f);
	int32_t exp = a.exp;
	struct wide above;

	a.exp = 0;
	if (a.sig > sqrt2) {
		a.exp--;
		exp++;
	}
	above = subtract(a, wide_one);
	if (above.sig == 0) {
		return wide_of_int(exp);
	}
	return add(wide_of_int(exp), log2_of_ratio(divide(above, add(above, wide_two))));
}

/* @y * @log, which is not 0; @integer: it is that of a power of two, and exact */
static struct hk_f80 multiply_log(
	const struct hk_fp_parts *y, struct wide log, bool integer, struct hk_fp_env *env)
{
	struct wide result;

	if (y->class == HK_FP_CLASS_INF) {
		return infinity(y->sign != log.sign);
	}
	if (y->class == HK_FP_CLASS_ZERO) {
		return zero(y->sign != log.sign);
	}
	result = multiply(wide_of(y), log);
	if (!integer) {
		return round_inexact(result, env);
	}
	/* Hardware calls these inexact all the same, and has the negative ones a little too
	 * close to zero. */
	if (log.sign) {
		result.sig--;
		return round_inexact(normalise(result.sign, result.exp, result.sig), env);
	}
	return call_inexact(hk_f80_round(result.sign, result.exp, (uint64_t)(result.sig >> 64),
				    (uint64_t)result.sig, HK_FP_PC_64, env),
		env);
}

struct hk_f80 hk_f80_ylog2(struct hk_f80 y, struct hk_f80 x, struct hk_fp_env *env)
{
	struct hk_fp_parts px = hk_f80_unpack(x), py = hk_f80_unpack(y);
	struct wide wx = wide_of(&px);

	if (px.class >= HK_FP_CLASS_QNAN || py.class >= HK_FP_CLASS_QNAN) {
		return hk_f80_nan2(x, y, env);
	}
	if (px.class == HK_FP_CLASS_ZERO) {
		switch (py.class) {
		case HK_FP_CLASS_ZERO:
			return invalid(env);
		case HK_FP_CLASS_FINITE:
			env->flags |= HK_FP_ZE;
			break;
		}
		return infinity(!py.sign);
	}
	if (px.sign) {
		return invalid(env);
	}
	if (px.class == HK_FP_CLASS_INF) {
		if (py.class == HK_FP_CLASS_ZERO) {
			return invalid(env);
		}
		note_denormal(&py, env);
		return infinity(py.sign);
	}
	if (is_one(wx)) {
		if (py.class == HK_FP_CLASS_INF) {
			return invalid(env);
		}
		note_denormal(&py, env);
		return zero(py.sign);
	}
	if (note_denormals(&px, &py, env)) {
		return y;
	}
	return multiply_log(&py, log2_of(wx), wx.sig == U128_TOP, env);
}

/* FYL2XP1 of @x <= -1, which the manual leaves undefined, as hardware has it */
static struct hk_f80 no_logarithm(
	struct hk_f80 x, const struct hk_fp_parts *y, struct hk_fp_env *env)
{
	if (y->class == HK_FP_CLASS_INF) {
		return infinity(!y->sign);
	}
	if (y->class == HK_FP_CLASS_ZERO) {
		return zero(!y->sign);
	}
	env->flags |= HK_FP_PE;
	return x;
}

struct hk_f80 hk_f80_ylog2p1(struct hk_f80 y, struct hk_f80 x, struct hk_fp_env *env)
{
	struct hk_fp_parts px = hk_f80_unpack(x), py = hk_f80_unpack(y);
	struct wide wx = wide_of(&px), sum;

	if (px.class >= HK_FP_CLASS_QNAN || py.class >= HK_FP_CLASS_QNAN) {
		return hk_f80_nan2(x, y, env);
	}
	if (px.class == HK_FP_CLASS_ZERO) {
		if (py.class == HK_FP_CLASS_INF) {
			return invalid(env);
		}
		note_denormal(&py, env);
		return zero(py.sign != px.sign);
	}
	if (px.class == HK_FP_CLASS_INF) {
		if (px.sign || py.class == HK_FP_CLASS_ZERO) {
			return invalid(env);
		}
		note_denormal(&py, env);
		return infinity(py.sign);
	}
	if (note_denormals(&px, &py, env)) {
		return y;
	}
	if (px.sign && px.exp >= 0) {
		return no_logarithm(x, &py, env);
	}
	if (px.exp >= -2) {
		sum = add(wx, wide_one);
		return multiply_log(&py, log2_of(sum), sum.sig == U128_TOP, env);
	}
	/* Close to 1, the sum would lose digits; the ratio does not. */
	return multiply_log(&py, log2_of_ratio(divide(wx, add(wx, wide_two))), false, env);
}

/* atan(@a / @b), 0 < a <= b */
static struct wide atan_of_ratio(struct wide a, struct wide b)
{
	struct wide numerator = a, denominator = b, t, result;
	unsigned eighths = 0;

	if (b.exp - a.exp < 5) {
		/* the nearest to 8 a / b */
		uint64_t ratio = ((uint64_t)(a.sig >> 96) << 20 >> (b.exp - a.exp)) /
			(uint64_t)(b.sig >> 96);

		eighths = (unsigned)((ratio * 8 + (1u << 19)) >> 20);
	}
	if (eighths > 0) {
		/* atan(a / b) = atan(c) + atan((a - c b) / (b + c a)), c = eighths / 8 */
		struct wide c = scale(wide_of_int((int32_t)eighths), -3);

		numerator = subtract(a, multiply(c, b));
		denominator = add(b, multiply(c, a));
	}
	t = divide(numerator, denominator);
	if (t.sig == 0) {
		return atan_eighths[eighths];
	}
	result = multiply(t, series(inverse_odd, ATAN_TERMS, fraction(multiply(t, t)), true));
	return add(atan_eighths[eighths], result);
}

/* Hardware takes the quotient itself for the angle where it is smaller. */
enum { RATIO_EXP_MIN = -40 };

struct hk_f80 hk_f80_atan2(struct hk_f80 y, struct hk_f80 x, struct hk_fp_env *env)
{
	struct hk_fp_parts px = hk_f80_unpack(x), py = hk_f80_unpack(y);
	struct wide wx = wide_of(&px), wy = wide_of(&py), result;

	if (px.class >= HK_FP_CLASS_QNAN || py.class >= HK_FP_CLASS_QNAN) {
		return hk_f80_nan2(x, y, env);
	}
	if (note_denormals(&px, &py, env)) {
		return y;
	}
	wx.sign = false;
	wy.sign = false;
	if (py.class == HK_FP_CLASS_ZERO ||
		(px.class == HK_FP_CLASS_INF && py.class != HK_FP_CLASS_INF)) {
		if (!px.sign) {
			return zero(py.sign);
		}
		result = wide_pi;
	} else if (px.class == HK_FP_CLASS_INF) {
		result = scale(wide_pi, -2);
		result = px.sign ? subtract(wide_pi, result) : result;
	} else if (px.class == HK_FP_CLASS_ZERO || py.class == HK_FP_CLASS_INF) {
		result = scale(wide_pi, -1);
	} else if (!px.sign && wy.exp - wx.exp < RATIO_EXP_MIN) {
		env->precision = HK_FP_PC_64;
		return call_inexact(hk_f80_div(y, x, env), env);
	} else if (wy.exp < wx.exp || (wy.exp == wx.exp && wy.sig <= wx.sig)) {
		result = atan_of_ratio(wy, wx);
		result = px.sign ? subtract(wide_pi, result) : result;
	} else {
		result = atan_of_ratio(wx, wy);
		result = px.sign ? add(scale(wide_pi, -1), result)
				 : subtract(scale(wide_pi, -1), result);
	}
	result.sign = py.sign;
	return round_inexact(result, env);
}

/**
 * struct angle - an argument of sine, cosine, tangent, reduced
 * @rest: within pi/4 of zero
 * @quadrant: the argument is @rest plus this many right angles (modulo 4)
 */
struct angle {
	struct wide rest;
	unsigned quadrant;
};

static struct angle reduce(const struct hk_fp_parts *x)
{
	hk_u128 rest = x->sig;
	unsigned quotient = 0;
	bool sign = false;
	struct wide wide;

	if (x->exp < -1) {
		return (struct angle){.rest = wide_of(x)};
	}
	/* |x| * 2^67 is x->sig * 2^(exp + 4); its remainder, bit by bit */
	for (int32_t i = 0; i < x->exp + 4; i++) {
		rest <<= 1;
		quotient <<= 1;
		if (rest >= REDUCTION_HALF_PI) {
			rest -= REDUCTION_HALF_PI;
			quotient |= 1;
		}
	}
	if (rest > REDUCTION_HALF_PI / 2) {
		rest = REDUCTION_HALF_PI - rest;
		sign = true;
		quotient++;
	}
	wide = normalise(sign != x->sign, 60, rest);
	return (struct angle){.rest = wide, .quadrant = (x->sign ? -quotient : quotient) & 3};
}

static struct wide sine(struct wide a)
{
	return multiply(
		a, series(sin_terms, HK_ARRAY_SIZE(sin_terms), fraction(multiply(a, a)), true));
}

static struct wide cosine(struct wide a)
{
	return series(cos_terms, HK_ARRAY_SIZE(cos_terms), fraction(multiply(a, a)), true);
}

/* Hardware does not compute with smaller angles: sine and tangent are the angle, the cosine is
 * 1. */
enum { ANGLE_EXP_MIN = -68 };

/* What sine, cosine and tangent have in common; @of_tiny is the result at and about zero.
 * Return: whether *@ret is set already. */
static bool special_angle(const struct hk_fp_parts *parts, struct hk_f80 x, struct hk_f80 of_tiny,
	struct hk_f80 *ret, struct hk_fp_env *env)
{
	if (parts->class >= HK_FP_CLASS_QNAN) {
		*ret = hk_f80_nan1(x, env);
		return true;
	}
	if (parts->class == HK_FP_CLASS_INF) {
		*ret = invalid(env);
		return true;
	}
	if (parts->class == HK_FP_CLASS_ZERO) {
		*ret = of_tiny;
		return true;
	}
	if (note_denormal(parts, env)) {
		*ret = x;
		return true;
	}
	if (parts->exp < ANGLE_EXP_MIN) {
		struct hk_fp_parts tiny = hk_f80_unpack(of_tiny);

		*ret = call_inexact(
			hk_f80_round(tiny.sign, tiny.exp, tiny.sig, 0, HK_FP_PC_64, env), env);
		return true;
	}
	return false;
}

static bool too_large(const struct hk_fp_parts *parts)
{
	return is_finite(parts) && parts->exp >= 63;
}

bool hk_f80_sin(struct hk_f80 x, struct hk_f80 *ret, struct hk_fp_env *env)
{
	struct hk_fp_parts parts = hk_f80_unpack(x);
	struct angle angle;
	struct wide result;

	if (too_large(&parts)) {
		return false;
	}
	if (special_angle(&parts, x, x, ret, env)) {
		return true;
	}
	angle = reduce(&parts);
	result = (angle.quadrant & 1) != 0 ? cosine(angle.rest) : sine(angle.rest);
	if ((angle.quadrant & 2) != 0) {
		result = negate(result);
	}
	*ret = round_inexact(result, env);
	return true;
}

bool hk_f80_cos(struct hk_f80 x, struct hk_f80 *ret, struct hk_fp_env *env)
{
	struct hk_f80 one = {.frac = UINT64_C(1) << 63, .sign_exp = 0x3fff};
	struct hk_fp_parts parts = hk_f80_unpack(x);
	struct angle angle;
	struct wide result;

	if (too_large(&parts)) {
		return false;
	}
	if (special_angle(&parts, x, one, ret, env)) {
		return true;
	}
	angle = reduce(&parts);
	result = (angle.quadrant & 1) != 0 ? sine(angle.rest) : cosine(angle.rest);
	if (angle.quadrant == 1 || angle.quadrant == 2) {
		result = negate(result);
	}
	*ret = round_inexact(result, env);
	return true;
}

bool hk_f80_tan(struct hk_f80 x, struct hk_f80 *ret, struct hk_fp_env *env)
{
	struct hk_fp_parts parts = hk_f80_unpack(x);
	struct wide sin, cos;
	struct angle angle;

	if (too_large(&parts)) {
		return false;
	}
	if (special_angle(&parts, x, x, ret, env)) {
		return true;
	}
	angle = reduce(&parts);
	sin = sine(angle.rest);
	cos = cosine(angle.rest);
	*ret = round_inexact(
		(angle.quadrant & 1) != 0 ? negate(divide(cos, sin)) : divide(sin, cos), env);
	return true;
}
