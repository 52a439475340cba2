/* SPDX-License-Identifier: ISC */
/*
 * x87 loads, stores, constants, conditional moves and the stack itself.
 *
 * A store to memory is done before anything else changes, because it can fault. It is left out
 * where an exception other than "inexact" is not masked; then nothing is popped.
 */
#include "engine/soft/exec/handlers.h"
#include "engine/soft/fpu/x87.h"

/* What an integer or BCD store gives for what it cannot hold. */
#define BCD_INDEFINITE_LOW  UINT64_C(0xc000000000000000)
#define BCD_INDEFINITE_HIGH UINT16_C(0xffff)
#define BCD_MAX             INT64_C(999999999999999999) /* 18 digits */

/* The end of a load: @value goes on the stack, unless it came from an invalid one. (A denormal
 * one is loaded also where that exception is not masked.) */
static inline void push_value(struct hk_cpu *cpu, const struct hk_insn *insn, struct hk_f80 value,
	const struct hk_fp_env *env)
{
	struct hk_x87 *x87 = &cpu->x87;

	if (hk_unlikely(hk_x87_full(x87))) {
		if (hk_x87_stack_fault(cpu, insn, true)) {
			hk_x87_push(x87, HK_F80_DEFAULT_NAN);
		}
		return;
	}
	hk_x87_point(cpu, insn);
	if ((hk_x87_signal(cpu, insn, env->flags, false) & HK_FP_IE) == 0) {
		hk_x87_push(x87, value);
	}
}

HK_EXEC(fld_m32)
{
	struct hk_fp_env env = hk_fp_env_x87(cpu->x87.fcw);
	uint32_t value;

	if (!hk_x87_ready(cpu) || !hk_x87_load32(cpu, insn, &value)) {
		return hk_give_up(cpu, insn);
	}
	push_value(cpu, insn, hk_f80_from_f32(value, &env), &env);
	return HK_NEXT(cpu, insn);
}

HK_EXEC(fld_m64)
{
	struct hk_fp_env env = hk_fp_env_x87(cpu->x87.fcw);
	uint64_t value;

	if (!hk_x87_ready(cpu) || !hk_x87_load64(cpu, insn, &value)) {
		return hk_give_up(cpu, insn);
	}
	push_value(cpu, insn, hk_f80_from_f64(value, &env), &env);
	return HK_NEXT(cpu, insn);
}

static inline bool load_80(
	struct hk_cpu *cpu, const struct hk_insn *insn, uint64_t *ret_low, uint16_t *ret_high)
{
	uint64_t va;

	return hk_mem_va(cpu, insn, 10, HK_ACCESS_READ, &va) && hk_load64(cpu, va, ret_low) &&
		hk_load16(cpu, va + 8, ret_high);
}

/* No exceptions: an f80 is loaded as it is. */
HK_EXEC(fld_m80)
{
	struct hk_fp_env env = {0};
	struct hk_f80 value;

	if (!hk_x87_ready(cpu) || !load_80(cpu, insn, &value.frac, &value.sign_exp)) {
		return hk_give_up(cpu, insn);
	}
	push_value(cpu, insn, value, &env);
	return HK_NEXT(cpu, insn);
}

HK_EXEC(fld_st)
{
	struct hk_x87 *x87 = &cpu->x87;
	struct hk_fp_env env = {0};

	if (!hk_x87_ready(cpu)) {
		return hk_give_up(cpu, insn);
	}
	if (hk_unlikely(hk_x87_empty(x87, insn->base))) {
		if (hk_x87_stack_fault(cpu, insn, false)) {
			hk_x87_push(x87, HK_F80_DEFAULT_NAN);
		}
		return HK_NEXT(cpu, insn);
	}
	push_value(cpu, insn, *hk_x87_st(x87, insn->base), &env);
	return HK_NEXT(cpu, insn);
}

HK_EXEC(fild_16)
{
	struct hk_fp_env env = {0};
	uint16_t value;

	if (!hk_x87_ready(cpu) || !hk_x87_load16(cpu, insn, &value)) {
		return hk_give_up(cpu, insn);
	}
	push_value(cpu, insn, hk_f80_from_int64((int16_t)value), &env);
	return HK_NEXT(cpu, insn);
}

HK_EXEC(fild_32)
{
	struct hk_fp_env env = {0};
	uint32_t value;

	if (!hk_x87_ready(cpu) || !hk_x87_load32(cpu, insn, &value)) {
		return hk_give_up(cpu, insn);
	}
	push_value(cpu, insn, hk_f80_from_int64((int32_t)value), &env);
	return HK_NEXT(cpu, insn);
}

HK_EXEC(fild_64)
{
	struct hk_fp_env env = {0};
	uint64_t value;

	if (!hk_x87_ready(cpu) || !hk_x87_load64(cpu, insn, &value)) {
		return hk_give_up(cpu, insn);
	}
	push_value(cpu, insn, hk_f80_from_int64((int64_t)value), &env);
	return HK_NEXT(cpu, insn);
}

/* Digits above 9 are undefined; hardware takes them as they are, and so do we. */
HK_EXEC(fbld)
{
	struct hk_fp_env env = {0};
	struct hk_f80 value;
	uint64_t low, sum;
	uint16_t high;

	if (!hk_x87_ready(cpu) || !load_80(cpu, insn, &low, &high)) {
		return hk_give_up(cpu, insn);
	}
	sum = (high >> 4 & 15) * 10u + (high & 15);
	for (int shift = 60; shift >= 0; shift -= 4) {
		sum = sum * 10 + (low >> shift & 15);
	}
	value = hk_f80_from_int64((int64_t)sum);
	value.sign_exp |= high & 0x8000;
	push_value(cpu, insn, value, &env);
	return HK_NEXT(cpu, insn);
}

/* A constant between two neighbouring f80: which of them it is depends on the rounding. */
static inline const struct hk_insn *push_constant(struct hk_cpu *cpu, const struct hk_insn *insn,
	uint16_t sign_exp, uint64_t frac_down, uint64_t frac_nearest)
{
	struct hk_fp_env env = hk_fp_env_x87(cpu->x87.fcw);
	uint64_t frac = frac_down;

	if (!hk_x87_ready(cpu)) {
		return hk_give_up(cpu, insn);
	}
	if (env.rounding == HK_FP_NEAREST) {
		frac = frac_nearest;
	} else if (env.rounding == HK_FP_UP) {
		frac = frac_down + 1;
	}
	push_value(cpu, insn, (struct hk_f80){.frac = frac, .sign_exp = sign_exp}, &env);
	return HK_NEXT(cpu, insn);
}

static inline const struct hk_insn *push_exact(
	struct hk_cpu *cpu, const struct hk_insn *insn, struct hk_f80 value)
{
	struct hk_fp_env env = {0};

	if (!hk_x87_ready(cpu)) {
		return hk_give_up(cpu, insn);
	}
	push_value(cpu, insn, value, &env);
	return HK_NEXT(cpu, insn);
}

HK_EXEC(fld1)
{
	return push_exact(
		cpu, insn, (struct hk_f80){.frac = UINT64_C(1) << 63, .sign_exp = 0x3fff});
}

HK_EXEC(fldz)
{
	return push_exact(cpu, insn, (struct hk_f80){0});
}

#define CONSTANT(name, sign_exp, down, nearest) \
	HK_EXEC(name) \
	{ \
		return push_constant(cpu, insn, sign_exp, UINT64_C(down), UINT64_C(nearest)); \
	}

CONSTANT(fldl2t, 0x4000, 0xd49a784bcd1b8afe, 0xd49a784bcd1b8afe)
CONSTANT(fldl2e, 0x3fff, 0xb8aa3b295c17f0bb, 0xb8aa3b295c17f0bc)
CONSTANT(fldpi, 0x4000, 0xc90fdaa22168c234, 0xc90fdaa22168c235)
CONSTANT(fldlg2, 0x3ffd, 0x9a209a84fbcff798, 0x9a209a84fbcff799)
CONSTANT(fldln2, 0x3ffe, 0xb17217f7d1cf79ab, 0xb17217f7d1cf79ac)

/**
 * struct store - what goes to memory
 * @high: the last two of 10 bytes
 * @flags: exceptions on the way there
 */
struct store {
	uint64_t low;
	uint16_t high;
	unsigned flags;
	bool rounded_up;
};

/* The end of a store of @len bytes. */
static inline const struct hk_insn *store_value(struct hk_cpu *cpu, const struct hk_insn *insn,
	unsigned len, const struct store *store, bool pop)
{
	bool goes = (store->flags & ~cpu->x87.fcw & (HK_FP_ALL & ~HK_FP_PE)) == 0;

	if (goes && len == 10) {
		uint8_t buf[10];

		memcpy(buf, &store->low, 8);
		memcpy(buf + 8, &store->high, 2);
		if (!hk_x87_store(cpu, insn, buf, 10)) {
			return hk_give_up(cpu, insn);
		}
	} else if (goes) {
		unsigned size = len == 8 ? 3 : len == 4 ? 2 : 1;

		if (!hk_x87_store_int(cpu, insn, size, store->low)) {
			return hk_give_up(cpu, insn);
		}
	}
	hk_x87_point(cpu, insn);
	hk_x87_signal(cpu, insn, store->flags, goes && store->rounded_up);
	if (goes && pop) {
		hk_x87_pop(&cpu->x87);
	}
	return HK_NEXT(cpu, insn);
}

/* From an empty register: the default NaN or indefinite */
static inline struct store store_of_empty(uint64_t low)
{
	return (struct store){.low = low, .high = 0xffff, .flags = HK_FP_IE | HK_FSW_SF};
}

static inline const struct hk_insn *store_f32(
	struct hk_cpu *cpu, const struct hk_insn *insn, bool pop)
{
	struct hk_fp_env env = hk_fp_env_x87(cpu->x87.fcw);
	struct store store = store_of_empty(0xffc00000);

	if (!hk_x87_ready(cpu)) {
		return hk_give_up(cpu, insn);
	}
	if (hk_likely(!hk_x87_empty(&cpu->x87, 0))) {
		store.low = hk_f80_to_f32(*hk_x87_st(&cpu->x87, 0), &env);
		store.flags = env.flags;
		store.rounded_up = env.rounded_up;
	}
	return store_value(cpu, insn, 4, &store, pop);
}

static inline const struct hk_insn *store_f64(
	struct hk_cpu *cpu, const struct hk_insn *insn, bool pop)
{
	struct hk_fp_env env = hk_fp_env_x87(cpu->x87.fcw);
	struct store store = store_of_empty(UINT64_C(0xfff8000000000000));

	if (!hk_x87_ready(cpu)) {
		return hk_give_up(cpu, insn);
	}
	if (hk_likely(!hk_x87_empty(&cpu->x87, 0))) {
		store.low = hk_f80_to_f64(*hk_x87_st(&cpu->x87, 0), &env);
		store.flags = env.flags;
		store.rounded_up = env.rounded_up;
	}
	return store_value(cpu, insn, 8, &store, pop);
}

HK_EXEC(fst_m32)
{
	return store_f32(cpu, insn, false);
}

HK_EXEC(fstp_m32)
{
	return store_f32(cpu, insn, true);
}

HK_EXEC(fst_m64)
{
	return store_f64(cpu, insn, false);
}

HK_EXEC(fstp_m64)
{
	return store_f64(cpu, insn, true);
}

HK_EXEC(fstp_m80)
{
	struct store store = store_of_empty(HK_F80_DEFAULT_NAN.frac);

	if (!hk_x87_ready(cpu)) {
		return hk_give_up(cpu, insn);
	}
	if (hk_likely(!hk_x87_empty(&cpu->x87, 0))) {
		struct hk_f80 st = *hk_x87_st(&cpu->x87, 0);

		store = (struct store){.low = st.frac, .high = st.sign_exp};
	}
	return store_value(cpu, insn, 10, &store, true);
}

/* @rounding: enum hk_fp_round, or -1: the control word's */
static inline const struct hk_insn *store_int(
	struct hk_cpu *cpu, const struct hk_insn *insn, unsigned bits, int rounding, bool pop)
{
	struct hk_fp_env env = hk_fp_env_x87(cpu->x87.fcw);
	struct store store = store_of_empty(UINT64_C(1) << (bits - 1));

	if (!hk_x87_ready(cpu)) {
		return hk_give_up(cpu, insn);
	}
	if (hk_likely(!hk_x87_empty(&cpu->x87, 0))) {
		store.low = (uint64_t)hk_f80_to_int(*hk_x87_st(&cpu->x87, 0), bits,
			rounding < 0 ? env.rounding : (enum hk_fp_round)rounding, &env);
		store.flags = env.flags;
		store.rounded_up = env.rounded_up;
	}
	return store_value(cpu, insn, bits / 8, &store, pop);
}

HK_EXEC(fist_16)
{
	return store_int(cpu, insn, 16, -1, false);
}

HK_EXEC(fist_32)
{
	return store_int(cpu, insn, 32, -1, false);
}

HK_EXEC(fistp_16)
{
	return store_int(cpu, insn, 16, -1, true);
}

HK_EXEC(fistp_32)
{
	return store_int(cpu, insn, 32, -1, true);
}

HK_EXEC(fistp_64)
{
	return store_int(cpu, insn, 64, -1, true);
}

HK_EXEC(fisttp_16)
{
	return store_int(cpu, insn, 16, HK_FP_ZERO, true);
}

HK_EXEC(fisttp_32)
{
	return store_int(cpu, insn, 32, HK_FP_ZERO, true);
}

HK_EXEC(fisttp_64)
{
	return store_int(cpu, insn, 64, HK_FP_ZERO, true);
}

/* @st as 18 decimal digits; the indefinite with IE where it has more */
static struct store to_bcd(struct hk_f80 st, struct hk_fp_env *env)
{
	int64_t value = hk_f80_to_int(st, 64, env->rounding, env);
	uint64_t left = value < 0 ? -(uint64_t)value : (uint64_t)value;
	struct store store = {0};

	if ((env->flags & HK_FP_IE) != 0 || left > BCD_MAX) {
		return (struct store){
			.low = BCD_INDEFINITE_LOW,
			.high = BCD_INDEFINITE_HIGH,
			.flags = HK_FP_IE,
		};
	}
	for (unsigned shift = 0; shift < 64; shift += 4) {
		store.low |= left % 10 << shift;
		left /= 10;
	}
	store.high = (uint16_t)(left % 10 | left / 10 << 4 | (st.sign_exp & 0x8000));
	store.flags = env->flags;
	store.rounded_up = env->rounded_up;
	return store;
}

HK_EXEC(fbstp)
{
	struct hk_fp_env env = hk_fp_env_x87(cpu->x87.fcw);
	struct store store = store_of_empty(BCD_INDEFINITE_LOW);

	if (!hk_x87_ready(cpu)) {
		return hk_give_up(cpu, insn);
	}
	if (hk_likely(!hk_x87_empty(&cpu->x87, 0))) {
		store = to_bcd(*hk_x87_st(&cpu->x87, 0), &env);
	}
	return store_value(cpu, insn, 10, &store, true);
}

static inline const struct hk_insn *store_register(
	struct hk_cpu *cpu, const struct hk_insn *insn, bool pop)
{
	struct hk_x87 *x87 = &cpu->x87;
	struct hk_f80 value = HK_F80_DEFAULT_NAN;

	if (!hk_x87_ready(cpu)) {
		return hk_give_up(cpu, insn);
	}
	if (hk_likely(!hk_x87_empty(x87, 0))) {
		value = *hk_x87_st(x87, 0);
		hk_x87_point(cpu, insn);
		hk_x87_set_codes(x87, HK_FSW_C1, 0);
	} else if (!hk_x87_stack_fault(cpu, insn, false)) {
		return HK_NEXT(cpu, insn);
	}
	hk_x87_set(x87, insn->base, value);
	if (pop) {
		hk_x87_pop(x87);
	}
	return HK_NEXT(cpu, insn);
}

HK_EXEC(fst_st)
{
	return store_register(cpu, insn, false);
}

HK_EXEC(fstp_st)
{
	return store_register(cpu, insn, true);
}

/* FSTP1 (D9 D8): an empty register is no fault; it is popped, and nothing is stored. */
HK_EXEC(fstpnce)
{
	struct hk_x87 *x87 = &cpu->x87;

	if (!hk_x87_ready(cpu)) {
		return hk_give_up(cpu, insn);
	}
	hk_x87_point(cpu, insn);
	hk_x87_set_codes(x87, HK_FSW_C1, 0);
	if (!hk_x87_empty(x87, 0)) {
		hk_x87_set(x87, insn->base, *hk_x87_st(x87, 0));
	}
	hk_x87_pop(x87);
	return HK_NEXT(cpu, insn);
}

/* An empty register takes part as the default NaN. */
HK_EXEC(fxch)
{
	struct hk_x87 *x87 = &cpu->x87;
	bool empty0 = hk_x87_empty(x87, 0);
	bool empty1 = hk_x87_empty(x87, insn->base);
	struct hk_f80 st0 = empty0 ? HK_F80_DEFAULT_NAN : *hk_x87_st(x87, 0);
	struct hk_f80 st1 = empty1 ? HK_F80_DEFAULT_NAN : *hk_x87_st(x87, insn->base);

	if (!hk_x87_ready(cpu)) {
		return hk_give_up(cpu, insn);
	}
	if (hk_unlikely(empty0 || empty1)) {
		if (!hk_x87_stack_fault(cpu, insn, false)) {
			return HK_NEXT(cpu, insn);
		}
	} else {
		hk_x87_point(cpu, insn);
		hk_x87_set_codes(x87, HK_FSW_C1, 0);
	}
	hk_x87_set(x87, 0, st1);
	hk_x87_set(x87, insn->base, st0);
	return HK_NEXT(cpu, insn);
}

/* Both registers must be there, whatever the condition. */
static inline const struct hk_insn *move_if(
	struct hk_cpu *cpu, const struct hk_insn *insn, enum hk_cond cond)
{
	struct hk_x87 *x87 = &cpu->x87;

	if (!hk_x87_ready(cpu)) {
		return hk_give_up(cpu, insn);
	}
	if (hk_unlikely(hk_x87_empty(x87, 0) || hk_x87_empty(x87, insn->base))) {
		if (hk_x87_stack_fault(cpu, insn, false)) {
			hk_x87_set(x87, 0, HK_F80_DEFAULT_NAN);
		}
		return HK_NEXT(cpu, insn);
	}
	hk_x87_point(cpu, insn);
	if (hk_cond(cpu, cond)) {
		*hk_x87_st(x87, 0) = *hk_x87_st(x87, insn->base);
	}
	return HK_NEXT(cpu, insn);
}

#define MOVE_IF(name, cond) \
	HK_EXEC(name) \
	{ \
		return move_if(cpu, insn, cond); \
	}

MOVE_IF(fcmovb, HK_COND_B)
MOVE_IF(fcmove, HK_COND_E)
MOVE_IF(fcmovbe, HK_COND_BE)
MOVE_IF(fcmovu, HK_COND_P)
MOVE_IF(fcmovnb, HK_COND_AE)
MOVE_IF(fcmovne, HK_COND_NE)
MOVE_IF(fcmovnbe, HK_COND_A)
MOVE_IF(fcmovnu, HK_COND_NP)

HK_EXEC(fnop)
{
	if (!hk_x87_ready(cpu)) {
		return hk_give_up(cpu, insn);
	}
	hk_x87_point(cpu, insn);
	return HK_NEXT(cpu, insn);
}

static inline const struct hk_insn *turn_stack(
	struct hk_cpu *cpu, const struct hk_insn *insn, unsigned by)
{
	if (!hk_x87_ready(cpu)) {
		return hk_give_up(cpu, insn);
	}
	hk_x87_point(cpu, insn);
	hk_x87_set_codes(&cpu->x87, HK_FSW_C1, 0);
	hk_x87_set_top(&cpu->x87, hk_x87_top(&cpu->x87) + by);
	return HK_NEXT(cpu, insn);
}

HK_EXEC(fincstp)
{
	return turn_stack(cpu, insn, 1);
}

HK_EXEC(fdecstp)
{
	return turn_stack(cpu, insn, 7);
}

static inline const struct hk_insn *free_register(
	struct hk_cpu *cpu, const struct hk_insn *insn, bool pop)
{
	if (!hk_x87_ready(cpu)) {
		return hk_give_up(cpu, insn);
	}
	hk_x87_point(cpu, insn);
	hk_x87_set_codes(&cpu->x87, HK_FSW_C1, 0);
	hk_x87_free(&cpu->x87, insn->base);
	if (pop) {
		hk_x87_pop(&cpu->x87);
	}
	return HK_NEXT(cpu, insn);
}

HK_EXEC(ffree)
{
	return free_register(cpu, insn, false);
}

HK_EXEC(ffreep)
{
	return free_register(cpu, insn, true);
}
