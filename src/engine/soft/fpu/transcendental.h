/* SPDX-License-Identifier: ISC */
/*
 * The transcendental functions of the x87 unit, on softfloat's terms: results rounded as the
 * environment says, exceptions noted in it.
 */
#ifndef HK_ENGINE_SOFT_FPU_TRANSCENDENTAL_H
#define HK_ENGINE_SOFT_FPU_TRANSCENDENTAL_H

#include "engine/soft/fpu/softfloat.h"

/** hk_f80_exp2m1() - F2XM1: 2^@x - 1 for |x| <= 1; beyond that @x, as hardware does */
struct hk_f80 hk_f80_exp2m1(struct hk_f80 x, struct hk_fp_env *env);

/** hk_f80_ylog2() - FYL2X: @y * log2(@x) */
struct hk_f80 hk_f80_ylog2(struct hk_f80 y, struct hk_f80 x, struct hk_fp_env *env);

/** hk_f80_ylog2p1() - FYL2XP1: @y * log2(@x + 1) */
struct hk_f80 hk_f80_ylog2p1(struct hk_f80 y, struct hk_f80 x, struct hk_fp_env *env);

/** hk_f80_atan2() - FPATAN: the angle of the point (@x, @y) */
struct hk_f80 hk_f80_atan2(struct hk_f80 y, struct hk_f80 x, struct hk_fp_env *env);

/**
 * hk_f80_sin() and the like - FSIN, FCOS, FPTAN
 * @ret: set where the result is true
 *
 * Return: false where |x| >= 2^63, which the instructions leave alone (C2).
 */
bool hk_f80_sin(struct hk_f80 x, struct hk_f80 *ret, struct hk_fp_env *env);
bool hk_f80_cos(struct hk_f80 x, struct hk_f80 *ret, struct hk_fp_env *env);
bool hk_f80_tan(struct hk_f80 x, struct hk_f80 *ret, struct hk_fp_env *env);

#endif
