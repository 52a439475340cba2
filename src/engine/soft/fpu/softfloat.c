/* SPDX-License-Identifier: ISC */
/*
 * f32 and f64 with the rules of SSE: take apart, compute (softfloat_core.h), round, put together.
 *
 * These are the slow and exact way. The instruction handlers come here only where the host's own
 * arithmetic cannot tell the flags or does not round as the guest asks (exec/sse_fp.h).
 */
#include "engine/soft/fpu/softfloat.h"

#include "engine/soft/fpu/softfloat_core.h"

uint32_t hk_f32_add(uint32_t a, uint32_t b, struct hk_fp_env *env)
{
	struct hk_fp_parts x = hk_f32_unpack(a, env->daz);
	struct hk_fp_parts y = hk_f32_unpack(b, env->daz);

	return hk_f32_pack(hk_fp_add(&x, &y, false, HK_FP_SSE, env), env);
}

uint32_t hk_f32_sub(uint32_t a, uint32_t b, struct hk_fp_env *env)
{
	struct hk_fp_parts x = hk_f32_unpack(a, env->daz);
	struct hk_fp_parts y = hk_f32_unpack(b, env->daz);

	return hk_f32_pack(hk_fp_add(&x, &y, true, HK_FP_SSE, env), env);
}

uint32_t hk_f32_mul(uint32_t a, uint32_t b, struct hk_fp_env *env)
{
	struct hk_fp_parts x = hk_f32_unpack(a, env->daz);
	struct hk_fp_parts y = hk_f32_unpack(b, env->daz);

	return hk_f32_pack(hk_fp_mul(&x, &y, HK_FP_SSE, env), env);
}

uint32_t hk_f32_div(uint32_t a, uint32_t b, struct hk_fp_env *env)
{
	struct hk_fp_parts x = hk_f32_unpack(a, env->daz);
	struct hk_fp_parts y = hk_f32_unpack(b, env->daz);

	return hk_f32_pack(hk_fp_div(&x, &y, HK_FP_SSE, env), env);
}

uint32_t hk_f32_sqrt(uint32_t a, struct hk_fp_env *env)
{
	struct hk_fp_parts x = hk_f32_unpack(a, env->daz);

	return hk_f32_pack(hk_fp_sqrt(&x, env), env);
}

uint64_t hk_f64_add(uint64_t a, uint64_t b, struct hk_fp_env *env)
{
	struct hk_fp_parts x = hk_f64_unpack(a, env->daz);
	struct hk_fp_parts y = hk_f64_unpack(b, env->daz);

	return hk_f64_pack(hk_fp_add(&x, &y, false, HK_FP_SSE, env), env);
}

uint64_t hk_f64_sub(uint64_t a, uint64_t b, struct hk_fp_env *env)
{
	struct hk_fp_parts x = hk_f64_unpack(a, env->daz);
	struct hk_fp_parts y = hk_f64_unpack(b, env->daz);

	return hk_f64_pack(hk_fp_add(&x, &y, true, HK_FP_SSE, env), env);
}

uint64_t hk_f64_mul(uint64_t a, uint64_t b, struct hk_fp_env *env)
{
	struct hk_fp_parts x = hk_f64_unpack(a, env->daz);
	struct hk_fp_parts y = hk_f64_unpack(b, env->daz);

	return hk_f64_pack(hk_fp_mul(&x, &y, HK_FP_SSE, env), env);
}

uint64_t hk_f64_div(uint64_t a, uint64_t b, struct hk_fp_env *env)
{
	struct hk_fp_parts x = hk_f64_unpack(a, env->daz);
	struct hk_fp_parts y = hk_f64_unpack(b, env->daz);

	return hk_f64_pack(hk_fp_div(&x, &y, HK_FP_SSE, env), env);
}

uint64_t hk_f64_sqrt(uint64_t a, struct hk_fp_env *env)
{
	struct hk_fp_parts x = hk_f64_unpack(a, env->daz);

	return hk_f64_pack(hk_fp_sqrt(&x, env), env);
}

enum hk_fp_relation hk_f32_compare(uint32_t a, uint32_t b, bool quiet, struct hk_fp_env *env)
{
	struct hk_fp_parts x = hk_f32_unpack(a, env->daz);
	struct hk_fp_parts y = hk_f32_unpack(b, env->daz);

	return hk_fp_compare(&x, &y, quiet, env);
}

enum hk_fp_relation hk_f64_compare(uint64_t a, uint64_t b, bool quiet, struct hk_fp_env *env)
{
	struct hk_fp_parts x = hk_f64_unpack(a, env->daz);
	struct hk_fp_parts y = hk_f64_unpack(b, env->daz);

	return hk_fp_compare(&x, &y, quiet, env);
}

/* With DAZ a denormal operand that is the result is a zero, too. */
static uint32_t daz32(uint32_t a, const struct hk_fp_env *env)
{
	return env->daz && (a & 0x7f800000) == 0 ? a & 0x80000000 : a;
}

static uint64_t daz64(uint64_t a, const struct hk_fp_env *env)
{
	return env->daz && (a & UINT64_C(0x7ff) << 52) == 0 ? a & UINT64_C(1) << 63 : a;
}

uint32_t hk_f32_min(uint32_t a, uint32_t b, struct hk_fp_env *env)
{
	return daz32(hk_f32_compare(a, b, false, env) == HK_FP_LESS ? a : b, env);
}

uint32_t hk_f32_max(uint32_t a, uint32_t b, struct hk_fp_env *env)
{
	return daz32(hk_f32_compare(a, b, false, env) == HK_FP_GREATER ? a : b, env);
}

uint64_t hk_f64_min(uint64_t a, uint64_t b, struct hk_fp_env *env)
{
	return daz64(hk_f64_compare(a, b, false, env) == HK_FP_LESS ? a : b, env);
}

uint64_t hk_f64_max(uint64_t a, uint64_t b, struct hk_fp_env *env)
{
	return daz64(hk_f64_compare(a, b, false, env) == HK_FP_GREATER ? a : b, env);
}

/* An integral value fits the format as it is: nothing is rounded twice. */
uint32_t hk_f32_rint(uint32_t a, struct hk_fp_env *env)
{
	struct hk_fp_parts x = hk_f32_unpack(a, env->daz);
	bool up;

	return x.class == HK_FP_CLASS_FINITE && x.exp >= 23
		? a
		: hk_f32_pack(hk_fp_rint(&x, 24, env, &up), env);
}

uint64_t hk_f64_rint(uint64_t a, struct hk_fp_env *env)
{
	struct hk_fp_parts x = hk_f64_unpack(a, env->daz);
	bool up;

	return x.class == HK_FP_CLASS_FINITE && x.exp >= 52
		? a
		: hk_f64_pack(hk_fp_rint(&x, 53, env, &up), env);
}

uint64_t hk_f32_to_f64(uint32_t a, struct hk_fp_env *env)
{
	struct hk_fp_parts x = hk_f32_unpack(a, env->daz);

	if (hk_fp_parts_nan(&x)) {
		return hk_f64_pack(hk_fp_nan1(&x, env), env);
	}
	hk_fp_denormal(x.denormal, env);
	return hk_f64_pack(hk_fp_exact_of(&x), env);
}

uint32_t hk_f64_to_f32(uint64_t a, struct hk_fp_env *env)
{
	struct hk_fp_parts x = hk_f64_unpack(a, env->daz);

	if (hk_fp_parts_nan(&x)) {
		return hk_f32_pack(hk_fp_nan1(&x, env), env);
	}
	if (hk_fp_denormal(x.denormal, env)) {
		return 0;
	}
	return hk_f32_pack(hk_fp_exact_of(&x), env);
}

int32_t hk_f32_to_int32(uint32_t a, enum hk_fp_round rounding, struct hk_fp_env *env)
{
	struct hk_fp_parts x = hk_f32_unpack(a, env->daz);

	return (int32_t)hk_fp_to_int(&x, 32, rounding, env);
}

int64_t hk_f32_to_int64(uint32_t a, enum hk_fp_round rounding, struct hk_fp_env *env)
{
	struct hk_fp_parts x = hk_f32_unpack(a, env->daz);

	return hk_fp_to_int(&x, 64, rounding, env);
}

int32_t hk_f64_to_int32(uint64_t a, enum hk_fp_round rounding, struct hk_fp_env *env)
{
	struct hk_fp_parts x = hk_f64_unpack(a, env->daz);

	return (int32_t)hk_fp_to_int(&x, 32, rounding, env);
}

int64_t hk_f64_to_int64(uint64_t a, enum hk_fp_round rounding, struct hk_fp_env *env)
{
	struct hk_fp_parts x = hk_f64_unpack(a, env->daz);

	return hk_fp_to_int(&x, 64, rounding, env);
}

uint32_t hk_f32_from_int64(int64_t a, struct hk_fp_env *env)
{
	return hk_f32_pack(hk_fp_from_int64(a), env);
}

uint64_t hk_f64_from_int64(int64_t a, struct hk_fp_env *env)
{
	return hk_f64_pack(hk_fp_from_int64(a), env);
}
