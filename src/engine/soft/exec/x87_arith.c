/* SPDX-License-Identifier: ISC */
/*
 * x87 arithmetic and comparison.
 *
 * A result goes to its register unless an exception found before the computation (invalid,
 * denormal, zero divide) is not masked; then nothing is popped either. Unmasked overflow and
 * underflow do give a result, with the exponent wrapped, which softfloat does.
 *
 * What hardware does and the manual does not tell: comparisons set the condition codes also when
 * their exception is not masked (they just do not pop); FCOMI leaves C1 alone but for a stack
 * fault.
 */
#include "engine/soft/exec/handlers.h"
#include "engine/soft/fpu/x87.h"

typedef struct hk_f80 binary_fn(struct hk_f80 a, struct hk_f80 b, struct hk_fp_env *env);

static struct hk_f80 sub_reversed(struct hk_f80 a, struct hk_f80 b, struct hk_fp_env *env)
{
	return hk_f80_sub(b, a, env);
}

static struct hk_f80 div_reversed(struct hk_f80 a, struct hk_f80 b, struct hk_fp_env *env)
{
	return hk_f80_div(b, a, env);
}

/* The end of an instruction that computed @value for ST(@i). Return: whether it was written. */
static inline bool write_result(struct hk_cpu *cpu, const struct hk_insn *insn, unsigned i,
	struct hk_f80 value, const struct hk_fp_env *env)
{
	hk_x87_point(cpu, insn);
	if ((hk_x87_signal(cpu, insn, env->flags, env->rounded_up) & HK_FP_BEFORE) != 0) {
		return false;
	}
	hk_x87_set(&cpu->x87, i, value);
	return true;
}

/* ST(@to) = ST(@to) op ST(@from). Return: whether it was written. */
static inline bool between_registers(
	struct hk_cpu *cpu, const struct hk_insn *insn, binary_fn *fn, unsigned to, unsigned from)
{
	struct hk_x87 *x87 = &cpu->x87;
	struct hk_fp_env env = hk_fp_env_x87(x87->fcw);
	struct hk_f80 value;

	if (hk_unlikely(hk_x87_empty(x87, to) || hk_x87_empty(x87, from))) {
		if (!hk_x87_stack_fault(cpu, insn, false)) {
			return false;
		}
		hk_x87_set(x87, to, HK_F80_DEFAULT_NAN);
		return true;
	}
	value = fn(*hk_x87_st(x87, to), *hk_x87_st(x87, from), &env);
	return write_result(cpu, insn, to, value, &env);
}

/* ST = ST op @b, which came from memory */
static inline void with_memory(struct hk_cpu *cpu, const struct hk_insn *insn, binary_fn *fn,
	struct hk_f80 b, struct hk_fp_env *env)
{
	struct hk_x87 *x87 = &cpu->x87;

	if (hk_unlikely(hk_x87_empty(x87, 0))) {
		if (hk_x87_stack_fault(cpu, insn, false)) {
			hk_x87_set(x87, 0, HK_F80_DEFAULT_NAN);
		}
		return;
	}
	write_result(cpu, insn, 0, fn(*hk_x87_st(x87, 0), b, env), env);
}

/* A memory operand as an f80: @size log2 of bytes, @integer or not. */
static inline bool load_operand(struct hk_cpu *cpu, const struct hk_insn *insn, unsigned size,
	bool integer, struct hk_fp_env *env, struct hk_f80 *ret)
{
	uint16_t v16;
	uint32_t v32;
	uint64_t v64;

	*env = hk_fp_env_x87(cpu->x87.fcw);
	switch (size) {
	case 1:
		if (!hk_x87_load16(cpu, insn, &v16)) {
			return false;
		}
		*ret = hk_f80_from_int64((int16_t)v16);
		return true;
	case 2:
		if (!hk_x87_load32(cpu, insn, &v32)) {
			return false;
		}
		*ret = integer ? hk_f80_from_int64((int32_t)v32) : hk_f80_widen32(v32, env);
		return true;
	default:
		if (!hk_x87_load64(cpu, insn, &v64)) {
			return false;
		}
		*ret = hk_f80_widen64(v64, env);
		return true;
	}
}

static inline const struct hk_insn *arith_memory(
	struct hk_cpu *cpu, const struct hk_insn *insn, binary_fn *fn, unsigned size, bool integer)
{
	struct hk_fp_env env;
	struct hk_f80 b;

	if (!hk_x87_ready(cpu) || !load_operand(cpu, insn, size, integer, &env, &b)) {
		return hk_give_up(cpu, insn);
	}
	with_memory(cpu, insn, fn, b, &env);
	return HK_NEXT(cpu, insn);
}

static inline const struct hk_insn *arith_registers(struct hk_cpu *cpu, const struct hk_insn *insn,
	binary_fn *fn, unsigned to, unsigned from, bool pop)
{
	if (!hk_x87_ready(cpu)) {
		return hk_give_up(cpu, insn);
	}
	if (between_registers(cpu, insn, fn, to, from) && pop) {
		hk_x87_pop(&cpu->x87);
	}
	return HK_NEXT(cpu, insn);
}

/* The seven forms of each of the six operations. */
#define BINARY(name, fn) \
	HK_EXEC(name##_st) \
	{ \
		return arith_registers(cpu, insn, fn, 0, insn->base, false); \
	} \
	HK_EXEC(name##_to) \
	{ \
		return arith_registers(cpu, insn, fn, insn->base, 0, false); \
	} \
	HK_EXEC(name##_pop) \
	{ \
		return arith_registers(cpu, insn, fn, insn->base, 0, true); \
	} \
	HK_EXEC(name##_m32) \
	{ \
		return arith_memory(cpu, insn, fn, 2, false); \
	} \
	HK_EXEC(name##_m64) \
	{ \
		return arith_memory(cpu, insn, fn, 3, false); \
	} \
	HK_EXEC(name##_i32) \
	{ \
		return arith_memory(cpu, insn, fn, 2, true); \
	} \
	HK_EXEC(name##_i16) \
	{ \
		return arith_memory(cpu, insn, fn, 1, true); \
	}

BINARY(fadd, hk_f80_add)
BINARY(fmul, hk_f80_mul)
BINARY(fsub, hk_f80_sub)
BINARY(fsubr, sub_reversed)
BINARY(fdiv, hk_f80_div)
BINARY(fdivr, div_reversed)

/* C3, C2, C0, which FNSTSW AX and SAHF bring to ZF, PF, CF, where FCOMI puts them at once. */
static const uint16_t codes_of[] = {
	[HK_FP_LESS] = HK_FSW_C0,
	[HK_FP_EQUAL] = HK_FSW_C3,
	[HK_FP_GREATER] = 0,
	[HK_FP_UNORDERED] = HK_FSW_CODES,
};

static const uint8_t rflags_of[] = {
	[HK_FP_LESS] = HK_FLAG_CF,
	[HK_FP_EQUAL] = HK_FLAG_ZF,
	[HK_FP_GREATER] = 0,
	[HK_FP_UNORDERED] = HK_FLAG_ZF | HK_FLAG_PF | HK_FLAG_CF,
};

static inline void pop_times(struct hk_x87 *x87, unsigned pops)
{
	for (unsigned i = 0; i < pops; i++) {
		hk_x87_pop(x87);
	}
}

/* ST against @b; an empty operand counts as unordered. */
static inline void compare(struct hk_cpu *cpu, const struct hk_insn *insn, bool empty,
	struct hk_f80 b, bool quiet, unsigned pops, struct hk_fp_env *env)
{
	struct hk_x87 *x87 = &cpu->x87;
	enum hk_fp_relation relation = HK_FP_UNORDERED;
	bool masked;

	if (hk_unlikely(empty)) {
		masked = hk_x87_stack_fault(cpu, insn, false);
	} else {
		relation = hk_f80_compare(*hk_x87_st(x87, 0), b, quiet, env);
		hk_x87_point(cpu, insn);
		masked = hk_x87_signal(cpu, insn, env->flags, false) == 0;
	}
	hk_x87_set_codes(x87, HK_FSW_CODES, codes_of[relation]);
	if (masked) {
		pop_times(x87, pops);
	}
}

static inline const struct hk_insn *compare_memory(
	struct hk_cpu *cpu, const struct hk_insn *insn, unsigned size, bool integer, unsigned pops)
{
	struct hk_fp_env env;
	struct hk_f80 b;

	if (!hk_x87_ready(cpu) || !load_operand(cpu, insn, size, integer, &env, &b)) {
		return hk_give_up(cpu, insn);
	}
	compare(cpu, insn, hk_x87_empty(&cpu->x87, 0), b, false, pops, &env);
	return HK_NEXT(cpu, insn);
}

static inline const struct hk_insn *compare_registers(
	struct hk_cpu *cpu, const struct hk_insn *insn, unsigned i, bool quiet, unsigned pops)
{
	struct hk_x87 *x87 = &cpu->x87;
	struct hk_fp_env env = hk_fp_env_x87(x87->fcw);
	bool empty;

	if (!hk_x87_ready(cpu)) {
		return hk_give_up(cpu, insn);
	}
	empty = hk_x87_empty(x87, 0) || hk_x87_empty(x87, i);
	compare(cpu, insn, empty, *hk_x87_st(x87, i), quiet, pops, &env);
	return HK_NEXT(cpu, insn);
}

#define COMPARE(name, pops) \
	HK_EXEC(name##_st) \
	{ \
		return compare_registers(cpu, insn, insn->base, false, pops); \
	} \
	HK_EXEC(name##_m32) \
	{ \
		return compare_memory(cpu, insn, 2, false, pops); \
	} \
	HK_EXEC(name##_m64) \
	{ \
		return compare_memory(cpu, insn, 3, false, pops); \
	} \
	HK_EXEC(name##_i32) \
	{ \
		return compare_memory(cpu, insn, 2, true, pops); \
	} \
	HK_EXEC(name##_i16) \
	{ \
		return compare_memory(cpu, insn, 1, true, pops); \
	}

COMPARE(fcom, 0)
COMPARE(fcomp, 1)

HK_EXEC(fcompp)
{
	return compare_registers(cpu, insn, 1, false, 2);
}

HK_EXEC(fucom)
{
	return compare_registers(cpu, insn, insn->base, true, 0);
}

HK_EXEC(fucomp)
{
	return compare_registers(cpu, insn, insn->base, true, 1);
}

HK_EXEC(fucompp)
{
	return compare_registers(cpu, insn, 1, true, 2);
}

HK_EXEC(ftst)
{
	struct hk_fp_env env = hk_fp_env_x87(cpu->x87.fcw);

	if (!hk_x87_ready(cpu)) {
		return hk_give_up(cpu, insn);
	}
	compare(cpu, insn, hk_x87_empty(&cpu->x87, 0), (struct hk_f80){0}, false, 0, &env);
	return HK_NEXT(cpu, insn);
}

/* FCOMI and its kind: the result goes to RFLAGS. */
static inline const struct hk_insn *compare_flags(
	struct hk_cpu *cpu, const struct hk_insn *insn, bool quiet, unsigned pops)
{
	struct hk_x87 *x87 = &cpu->x87;
	struct hk_fp_env env = hk_fp_env_x87(x87->fcw);
	enum hk_fp_relation relation = HK_FP_UNORDERED;
	bool masked;

	if (!hk_x87_ready(cpu)) {
		return hk_give_up(cpu, insn);
	}
	if (hk_unlikely(hk_x87_empty(x87, 0) || hk_x87_empty(x87, insn->base))) {
		masked = hk_x87_stack_fault(cpu, insn, false);
	} else {
		relation = hk_f80_compare(
			*hk_x87_st(x87, 0), *hk_x87_st(x87, insn->base), quiet, &env);
		hk_x87_point(cpu, insn);
		masked = hk_x87_signal(cpu, insn, env.flags, (x87->fsw & HK_FSW_C1) != 0) == 0;
	}
	hk_cc_set_raw(cpu, rflags_of[relation]);
	if (masked) {
		pop_times(x87, pops);
	}
	return HK_NEXT(cpu, insn);
}

HK_EXEC(fcomi)
{
	return compare_flags(cpu, insn, false, 0);
}

HK_EXEC(fcomip)
{
	return compare_flags(cpu, insn, false, 1);
}

HK_EXEC(fucomi)
{
	return compare_flags(cpu, insn, true, 0);
}

HK_EXEC(fucomip)
{
	return compare_flags(cpu, insn, true, 1);
}

HK_EXEC(fxam)
{
	/* Source: Intel SDM vol. 2, FXAM. */
	static const uint16_t codes[] = {
		[HK_FP_CLASS_UNSUPPORTED] = 0,
		[HK_FP_CLASS_QNAN] = HK_FSW_C0,
		[HK_FP_CLASS_SNAN] = HK_FSW_C0,
		[HK_FP_CLASS_FINITE] = HK_FSW_C2,
		[HK_FP_CLASS_INF] = HK_FSW_C2 | HK_FSW_C0,
		[HK_FP_CLASS_ZERO] = HK_FSW_C3,
	};
	struct hk_x87 *x87 = &cpu->x87;
	struct hk_f80 st = *hk_x87_st(x87, 0);
	struct hk_fp_parts parts = hk_f80_unpack(st);
	unsigned code = codes[parts.class];

	if (!hk_x87_ready(cpu)) {
		return hk_give_up(cpu, insn);
	}
	if (hk_x87_empty(x87, 0)) {
		code = HK_FSW_C3 | HK_FSW_C0;
	} else if (parts.class == HK_FP_CLASS_FINITE && parts.denormal) {
		code = HK_FSW_C3 | HK_FSW_C2;
	}
	if (st.sign_exp >> 15 != 0) {
		code |= HK_FSW_C1;
	}
	hk_x87_point(cpu, insn);
	hk_x87_set_codes(x87, HK_FSW_CODES | HK_FSW_C1, code);
	return HK_NEXT(cpu, insn);
}

/* ST = fn(ST) */
static inline const struct hk_insn *unary(struct hk_cpu *cpu, const struct hk_insn *insn,
	struct hk_f80 (*fn)(struct hk_f80 a, struct hk_fp_env *env))
{
	struct hk_x87 *x87 = &cpu->x87;
	struct hk_fp_env env = hk_fp_env_x87(x87->fcw);

	if (!hk_x87_ready(cpu)) {
		return hk_give_up(cpu, insn);
	}
	if (hk_unlikely(hk_x87_empty(x87, 0))) {
		if (hk_x87_stack_fault(cpu, insn, false)) {
			hk_x87_set(x87, 0, HK_F80_DEFAULT_NAN);
		}
	} else {
		write_result(cpu, insn, 0, fn(*hk_x87_st(x87, 0), &env), &env);
	}
	return HK_NEXT(cpu, insn);
}

static struct hk_f80 clear_sign(struct hk_f80 a, struct hk_fp_env *env)
{
	(void)env;
	a.sign_exp &= 0x7fff;
	return a;
}

static struct hk_f80 change_sign(struct hk_f80 a, struct hk_fp_env *env)
{
	(void)env;
	a.sign_exp ^= 0x8000;
	return a;
}

HK_EXEC(fabs)
{
	return unary(cpu, insn, clear_sign);
}

HK_EXEC(fchs)
{
	return unary(cpu, insn, change_sign);
}

HK_EXEC(fsqrt)
{
	return unary(cpu, insn, hk_f80_sqrt);
}

HK_EXEC(frndint)
{
	return unary(cpu, insn, hk_f80_rint);
}

HK_EXEC(fscale)
{
	return arith_registers(cpu, insn, hk_f80_scale, 0, 1, false);
}

HK_EXEC(fxtract)
{
	struct hk_x87 *x87 = &cpu->x87;
	struct hk_fp_env env = hk_fp_env_x87(x87->fcw);
	struct hk_f80 exponent = HK_F80_DEFAULT_NAN;
	struct hk_f80 significand = HK_F80_DEFAULT_NAN;
	bool go_on;

	if (!hk_x87_ready(cpu)) {
		return hk_give_up(cpu, insn);
	}
	if (hk_unlikely(hk_x87_empty(x87, 0) || hk_x87_full(x87))) {
		go_on = hk_x87_stack_fault(cpu, insn, !hk_x87_empty(x87, 0));
	} else {
		hk_f80_extract(*hk_x87_st(x87, 0), &exponent, &significand, &env);
		hk_x87_point(cpu, insn);
		go_on = hk_x87_signal(cpu, insn, env.flags, false) == 0;
	}
	if (go_on) {
		hk_x87_set(x87, 0, exponent);
		hk_x87_push(x87, significand);
	}
	return HK_NEXT(cpu, insn);
}

static inline const struct hk_insn *remainder_step(
	struct hk_cpu *cpu, const struct hk_insn *insn, bool nearest)
{
	struct hk_x87 *x87 = &cpu->x87;
	struct hk_fp_env env = hk_fp_env_x87(x87->fcw);
	unsigned quotient, codes = 0;
	struct hk_f80 value;
	bool partial;

	if (!hk_x87_ready(cpu)) {
		return hk_give_up(cpu, insn);
	}
	hk_x87_set_codes(x87, HK_FSW_C2, 0);
	if (hk_unlikely(hk_x87_empty(x87, 0) || hk_x87_empty(x87, 1))) {
		if (hk_x87_stack_fault(cpu, insn, false)) {
			hk_x87_set(x87, 0, HK_F80_DEFAULT_NAN);
		}
		return HK_NEXT(cpu, insn);
	}
	value = hk_f80_rem(
		*hk_x87_st(x87, 0), *hk_x87_st(x87, 1), nearest, &quotient, &partial, &env);
	if (!write_result(cpu, insn, 0, value, &env) || hk_f80_is_nan(value)) {
		return HK_NEXT(cpu, insn);
	}
	codes |= (quotient & 1) != 0 ? HK_FSW_C1 : 0;
	codes |= (quotient & 2) != 0 ? HK_FSW_C3 : 0;
	codes |= (quotient & 4) != 0 ? HK_FSW_C0 : 0;
	codes |= partial ? HK_FSW_C2 : 0;
	hk_x87_set_codes(x87, HK_FSW_CODES | HK_FSW_C1, codes);
	return HK_NEXT(cpu, insn);
}

HK_EXEC(fprem)
{
	return remainder_step(cpu, insn, false);
}

HK_EXEC(fprem1)
{
	return remainder_step(cpu, insn, true);
}
