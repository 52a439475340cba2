/* SPDX-License-Identifier: ISC */
/*
 * The arithmetic of the general-purpose instructions: result and flags of one operation on
 * operands that are already fetched. The generic handlers and the fast ones share it.
 *
 * All have the signature hk_alu_fn: operands come zero-extended from @size (log2 of bytes), the
 * result goes out with whatever stands above it: hk_reg_set() and hk_va_store() cut it. An
 * operation without second operand ignores @b; of shifts it is the count, not yet masked.
 *
 * Undefined flags and counts out of range are as Intel's Sapphire Rapids has them (measured).
 */
#ifndef HK_ENGINE_SOFT_EXEC_ALU_H
#define HK_ENGINE_SOFT_EXEC_ALU_H

#include "engine/soft/flags.h"

/* For helpers that take a hk_alu_fn: only inlined into their caller it is known at build time. */
#define HK_ALWAYS_INLINE static inline __attribute__((always_inline))

typedef uint64_t hk_alu_fn(struct hk_cpu *cpu, unsigned size, uint64_t a, uint64_t b);

static inline uint64_t hk_alu_add(struct hk_cpu *cpu, unsigned size, uint64_t a, uint64_t b)
{
	uint64_t res = a + b;

	hk_cc_set(cpu, HK_CC_ADD, size, res, b);
	return res;
}

static inline uint64_t hk_alu_adc(struct hk_cpu *cpu, unsigned size, uint64_t a, uint64_t b)
{
	bool carry = hk_cc_cf(cpu);
	uint64_t res = a + b + carry;

	hk_cc_set(cpu, carry ? HK_CC_ADC : HK_CC_ADD, size, res, b);
	return res;
}

static inline uint64_t hk_alu_sub(struct hk_cpu *cpu, unsigned size, uint64_t a, uint64_t b)
{
	uint64_t res = a - b;

	hk_cc_set(cpu, HK_CC_SUB, size, res, b);
	return res;
}

static inline uint64_t hk_alu_sbb(struct hk_cpu *cpu, unsigned size, uint64_t a, uint64_t b)
{
	bool borrow = hk_cc_cf(cpu);
	uint64_t res = a - b - borrow;

	hk_cc_set(cpu, borrow ? HK_CC_SBB : HK_CC_SUB, size, res, b);
	return res;
}

static inline uint64_t hk_alu_and(struct hk_cpu *cpu, unsigned size, uint64_t a, uint64_t b)
{
	hk_cc_set(cpu, HK_CC_LOGIC, size, a & b, 0);
	return a & b;
}

static inline uint64_t hk_alu_or(struct hk_cpu *cpu, unsigned size, uint64_t a, uint64_t b)
{
	hk_cc_set(cpu, HK_CC_LOGIC, size, a | b, 0);
	return a | b;
}

static inline uint64_t hk_alu_xor(struct hk_cpu *cpu, unsigned size, uint64_t a, uint64_t b)
{
	hk_cc_set(cpu, HK_CC_LOGIC, size, a ^ b, 0);
	return a ^ b;
}

static inline uint64_t hk_alu_inc(struct hk_cpu *cpu, unsigned size, uint64_t a, uint64_t b)
{
	bool carry = hk_cc_cf(cpu);

	(void)b;
	hk_cc_set(cpu, HK_CC_INC, size, a + 1, carry);
	return a + 1;
}

static inline uint64_t hk_alu_dec(struct hk_cpu *cpu, unsigned size, uint64_t a, uint64_t b)
{
	bool carry = hk_cc_cf(cpu);

	(void)b;
	hk_cc_set(cpu, HK_CC_DEC, size, a - 1, carry);
	return a - 1;
}

static inline uint64_t hk_alu_neg(struct hk_cpu *cpu, unsigned size, uint64_t a, uint64_t b)
{
	(void)b;
	return hk_alu_sub(cpu, size, 0, a);
}

static inline uint64_t hk_alu_not(struct hk_cpu *cpu, unsigned size, uint64_t a, uint64_t b)
{
	(void)cpu;
	(void)size;
	(void)b;
	return ~a;
}

static inline unsigned hk_alu_bits(unsigned size)
{
	return 8u << size;
}

/* Shift and rotate counts are taken modulo 32, or 64 for 64-bit operands. */
static inline unsigned hk_alu_count(unsigned size, uint64_t count)
{
	return (unsigned)count & (size == 3 ? 63 : 31);
}

static inline void hk_alu_set_shift(
	struct hk_cpu *cpu, unsigned size, uint64_t res, uint64_t cf, uint64_t of)
{
	hk_cc_set(cpu, HK_CC_SHIFT, size, res, (cf & 1) | (of & 1) << 1);
}

/* OF after any left shift or rotate is what the first step would give: did the sign change? */
static inline uint64_t hk_alu_left_of(unsigned size, uint64_t a)
{
	return (a ^ a << 1) >> (hk_alu_bits(size) - 1);
}

static inline uint64_t hk_alu_shl(struct hk_cpu *cpu, unsigned size, uint64_t a, uint64_t b)
{
	unsigned count = hk_alu_count(size, b);
	uint64_t res = a << count;
	uint64_t cf;

	if (count == 0) {
		return a;
	}
	/* Counts beyond the size push zeros out. */
	cf = size == 3 ? a >> (64 - count) : res >> hk_alu_bits(size);
	hk_alu_set_shift(cpu, size, res, cf, hk_alu_left_of(size, a));
	return res;
}

static inline uint64_t hk_alu_shr(struct hk_cpu *cpu, unsigned size, uint64_t a, uint64_t b)
{
	unsigned count = hk_alu_count(size, b);
	uint64_t res = a >> count;

	if (count == 0) {
		return a;
	}
	hk_alu_set_shift(cpu, size, res, a >> (count - 1), a >> (hk_alu_bits(size) - 1));
	return res;
}

static inline uint64_t hk_alu_sar(struct hk_cpu *cpu, unsigned size, uint64_t a, uint64_t b)
{
	unsigned count = hk_alu_count(size, b);
	int64_t wide = (int64_t)hk_sign_extend(a, size);
	uint64_t res = (uint64_t)(wide >> count);

	if (count == 0) {
		return a;
	}
	hk_alu_set_shift(cpu, size, res, (uint64_t)(wide >> (count - 1)), 0);
	return res;
}

static inline uint64_t hk_alu_rol(struct hk_cpu *cpu, unsigned size, uint64_t a, uint64_t b)
{
	unsigned bits = hk_alu_bits(size);
	unsigned count = hk_alu_count(size, b);
	unsigned turn = count & (bits - 1);
	uint64_t res = turn == 0 ? a : a << turn | a >> (bits - turn);

	if (count == 0) {
		return a;
	}
	hk_cc_set_cf_of(cpu, res & 1, hk_alu_left_of(size, a) & 1);
	return res;
}

static inline uint64_t hk_alu_ror(struct hk_cpu *cpu, unsigned size, uint64_t a, uint64_t b)
{
	unsigned bits = hk_alu_bits(size);
	unsigned count = hk_alu_count(size, b);
	unsigned turn = count & (bits - 1);
	uint64_t res = turn == 0 ? a : a >> turn | a << (bits - turn);

	if (count == 0) {
		return a;
	}
	hk_cc_set_cf_of(cpu, res >> (bits - 1) & 1, (a ^ a >> (bits - 1)) & 1);
	return res;
}

/* RCL and RCR turn through CF: bits + 1 places. */
static inline uint64_t hk_alu_rcl(struct hk_cpu *cpu, unsigned size, uint64_t a, uint64_t b)
{
	unsigned bits = hk_alu_bits(size);
	unsigned count = hk_alu_count(size, b) % (bits + 1);
	uint64_t carry = hk_cc_cf(cpu);
	uint64_t res;

	if (count == 0) {
		return a;
	}
	res = a << count | carry << (count - 1);
	if (count > 1) {
		res |= a >> (bits + 1 - count);
	}
	hk_cc_set_cf_of(cpu, a >> (bits - count) & 1, hk_alu_left_of(size, a) & 1);
	return res;
}

static inline uint64_t hk_alu_rcr(struct hk_cpu *cpu, unsigned size, uint64_t a, uint64_t b)
{
	unsigned bits = hk_alu_bits(size);
	unsigned count = hk_alu_count(size, b) % (bits + 1);
	uint64_t carry = hk_cc_cf(cpu);
	uint64_t res;

	if (count == 0) {
		return a;
	}
	res = a >> count | carry << (bits - count);
	if (count > 1) {
		res |= a << (bits + 1 - count);
	}
	hk_cc_set_cf_of(cpu, a >> (count - 1) & 1, (carry ^ a >> (bits - 1)) & 1);
	return res;
}

/*
 * SHLD and SHRD: @b comes in at the end of @a. 16-bit operands shifted by more than 16 go on with
 * @a itself behind @b.
 */
static inline uint64_t hk_alu_shld(
	struct hk_cpu *cpu, unsigned size, uint64_t a, uint64_t b, uint64_t by)
{
	unsigned bits = hk_alu_bits(size);
	unsigned count = hk_alu_count(size, by);
	uint64_t res, cf;

	if (count == 0) {
		return a;
	}
	if (size == 1) {
		uint64_t chain = a << 32 | b << 16 | a;

		res = chain << count >> 32;
		cf = chain >> (48 - count);
	} else {
		res = a << count | b >> (bits - count);
		cf = a >> (bits - count);
	}
	hk_alu_set_shift(cpu, size, res, cf, hk_alu_left_of(size, a));
	return res;
}

static inline uint64_t hk_alu_shrd(
	struct hk_cpu *cpu, unsigned size, uint64_t a, uint64_t b, uint64_t by)
{
	unsigned bits = hk_alu_bits(size);
	unsigned count = hk_alu_count(size, by);
	uint64_t res, cf;

	if (count == 0) {
		return a;
	}
	if (size == 1) {
		uint64_t chain = a << 32 | b << 16 | a;

		res = chain >> count;
		cf = chain >> (count - 1);
	} else {
		res = a >> count | b << (bits - count);
		cf = a >> (count - 1);
	}
	hk_alu_set_shift(cpu, size, res, cf, b ^ a >> (bits - 1));
	return res;
}

/* Bit tests: @b counts modulo the operand's size. Only CF changes. */
static inline uint64_t hk_alu_bit(unsigned size, uint64_t b)
{
	return UINT64_C(1) << (b & (hk_alu_bits(size) - 1));
}

static inline uint64_t hk_alu_bt(struct hk_cpu *cpu, unsigned size, uint64_t a, uint64_t b)
{
	hk_cc_set_cf(cpu, (a & hk_alu_bit(size, b)) != 0);
	return a;
}

static inline uint64_t hk_alu_bts(struct hk_cpu *cpu, unsigned size, uint64_t a, uint64_t b)
{
	return hk_alu_bt(cpu, size, a, b) | hk_alu_bit(size, b);
}

static inline uint64_t hk_alu_btr(struct hk_cpu *cpu, unsigned size, uint64_t a, uint64_t b)
{
	return hk_alu_bt(cpu, size, a, b) & ~hk_alu_bit(size, b);
}

static inline uint64_t hk_alu_btc(struct hk_cpu *cpu, unsigned size, uint64_t a, uint64_t b)
{
	return hk_alu_bt(cpu, size, a, b) ^ hk_alu_bit(size, b);
}

/* The low half of a signed product, which is all that the two-operand forms keep. */
static inline uint64_t hk_alu_imul(struct hk_cpu *cpu, unsigned size, uint64_t a, uint64_t b)
{
	int64_t x = (int64_t)hk_sign_extend(a, size);
	int64_t y = (int64_t)hk_sign_extend(b, size);
	int64_t product;
	bool overflowed = __builtin_mul_overflow(x, y, &product);

	overflowed |= (uint64_t)product != hk_sign_extend((uint64_t)product, size);
	hk_cc_set_mul(cpu, size, (uint64_t)product, overflowed);
	return (uint64_t)product;
}

#endif
