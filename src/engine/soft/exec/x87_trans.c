/* SPDX-License-Identifier: ISC */
/*
 * x87 transcendental instructions. The functions are fpu/transcendental.c's; here is what they do
 * to the stack.
 */
#include "engine/soft/exec/handlers.h"
#include "engine/soft/fpu/transcendental.h"
#include "engine/soft/fpu/x87.h"

HK_EXEC(f2xm1)
{
	struct hk_x87 *x87 = &cpu->x87;
	struct hk_fp_env env = hk_fp_env_x87(x87->fcw);
	struct hk_f80 value;

	if (!hk_x87_ready(cpu)) {
		return hk_give_up(cpu, insn);
	}
	if (hk_unlikely(hk_x87_empty(x87, 0))) {
		if (hk_x87_stack_fault(cpu, insn, false)) {
			hk_x87_set(x87, 0, HK_F80_DEFAULT_NAN);
		}
		return HK_NEXT(cpu, insn);
	}
	value = hk_f80_exp2m1(*hk_x87_st(x87, 0), &env);
	hk_x87_point(cpu, insn);
	if ((hk_x87_signal(cpu, insn, env.flags, env.rounded_up) & HK_FP_BEFORE) == 0) {
		hk_x87_set(x87, 0, value);
	}
	return HK_NEXT(cpu, insn);
}

/* ST(1) = fn(ST(1), ST), pop */
static inline const struct hk_insn *binary_pop(struct hk_cpu *cpu, const struct hk_insn *insn,
	struct hk_f80 (*fn)(struct hk_f80 y, struct hk_f80 x, struct hk_fp_env *env))
{
	struct hk_x87 *x87 = &cpu->x87;
	struct hk_fp_env env = hk_fp_env_x87(x87->fcw);
	struct hk_f80 value = HK_F80_DEFAULT_NAN;
	bool goes;

	if (!hk_x87_ready(cpu)) {
		return hk_give_up(cpu, insn);
	}
	if (hk_unlikely(hk_x87_empty(x87, 0) || hk_x87_empty(x87, 1))) {
		goes = hk_x87_stack_fault(cpu, insn, false);
	} else {
		value = fn(*hk_x87_st(x87, 1), *hk_x87_st(x87, 0), &env);
		hk_x87_point(cpu, insn);
		goes = (hk_x87_signal(cpu, insn, env.flags, env.rounded_up) & HK_FP_BEFORE) == 0;
	}
	if (goes) {
		hk_x87_set(x87, 1, value);
		hk_x87_pop(x87);
	}
	return HK_NEXT(cpu, insn);
}

HK_EXEC(fyl2x)
{
	return binary_pop(cpu, insn, hk_f80_ylog2);
}

HK_EXEC(fyl2xp1)
{
	return binary_pop(cpu, insn, hk_f80_ylog2p1);
}

HK_EXEC(fpatan)
{
	return binary_pop(cpu, insn, hk_f80_atan2);
}

/* The functions of an angle */
enum angle_function { ANGLE_SIN, ANGLE_COS, ANGLE_SINCOS, ANGLE_TAN };

/* ST becomes @st, and where @two values come out, @pushed goes on top of it. */
static bool compute(enum angle_function function, struct hk_f80 x, struct hk_f80 *ret_st,
	struct hk_f80 *ret_pushed, struct hk_fp_env *env)
{
	switch (function) {
	case ANGLE_SIN:
		return hk_f80_sin(x, ret_st, env);
	case ANGLE_COS:
		return hk_f80_cos(x, ret_st, env);
	case ANGLE_SINCOS:
		return hk_f80_sin(x, ret_st, env) && hk_f80_cos(x, ret_pushed, env);
	default:
		assert(function == ANGLE_TAN);
		if (!hk_f80_tan(x, ret_st, env)) {
			return false;
		}
		*ret_pushed = hk_f80_is_nan(*ret_st)
			? *ret_st
			: (struct hk_f80){.frac = UINT64_C(1) << 63, .sign_exp = 0x3fff};
		return true;
	}
}

/* C2 tells that the angle was too large and nothing was done. */
static inline const struct hk_insn *of_angle(
	struct hk_cpu *cpu, const struct hk_insn *insn, enum angle_function function)
{
	bool two = function == ANGLE_SINCOS || function == ANGLE_TAN;
	struct hk_x87 *x87 = &cpu->x87;
	struct hk_fp_env env = hk_fp_env_x87(x87->fcw);
	struct hk_f80 st = HK_F80_DEFAULT_NAN, pushed = HK_F80_DEFAULT_NAN;
	bool goes;

	if (!hk_x87_ready(cpu)) {
		return hk_give_up(cpu, insn);
	}
	hk_x87_set_codes(x87, HK_FSW_C2, 0);
	if (hk_unlikely(hk_x87_empty(x87, 0) || (two && hk_x87_full(x87)))) {
		goes = hk_x87_stack_fault(cpu, insn, !hk_x87_empty(x87, 0));
	} else if (!compute(function, *hk_x87_st(x87, 0), &st, &pushed, &env)) {
		hk_x87_point(cpu, insn);
		hk_x87_set_codes(x87, HK_FSW_C1 | HK_FSW_C2, HK_FSW_C2);
		return HK_NEXT(cpu, insn);
	} else {
		hk_x87_point(cpu, insn);
		goes = (hk_x87_signal(cpu, insn, env.flags, env.rounded_up) & HK_FP_BEFORE) == 0;
	}
	if (goes) {
		hk_x87_set(x87, 0, st);
		if (two) {
			hk_x87_push(x87, pushed);
		}
	}
	return HK_NEXT(cpu, insn);
}

HK_EXEC(fsin)
{
	return of_angle(cpu, insn, ANGLE_SIN);
}

HK_EXEC(fcos)
{
	return of_angle(cpu, insn, ANGLE_COS);
}

HK_EXEC(fsincos)
{
	return of_angle(cpu, insn, ANGLE_SINCOS);
}

HK_EXEC(fptan)
{
	return of_angle(cpu, insn, ANGLE_TAN);
}
