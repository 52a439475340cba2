/* SPDX-License-Identifier: ISC */
/*
 * The arithmetic flags, worked out only when somebody asks.
 *
 * An instruction leaves its result, one operand and what kind of operation it was; from these all
 * six flags follow. cc_res is sign-extended from the operand size (so ZF and SF are
 * those of the 64-bit value); cc_src is zero-extended.
 *
 *	kind	cc_res		cc_src			CF			OF
 *	RAW	-		the six flags as in RFLAGS
 *	ADD	a + b		b			res < b			signs
 *	ADC	a + b + 1	b			res <= b		signs
 *	SUB	a - b		b			a < b, a = res + b	signs
 *	SBB	a - b - 1	b			a <= b, a = res + b + 1	signs
 *	LOGIC	result		-			0			0
 *	INC	a + 1		old CF			cc_src			res == MIN
 *	DEC	a - 1		old CF			cc_src			res == MAX
 *	SHIFT	result		enum hk_cc_bits		cc_src & 1		cc_src >> 1 & 1
 *	MUL	low half	overflowed: 1		cc_src			cc_src
 *
 * ADC and SBB are for a carry that was set; with a clear one they are ADD and SUB. SHIFT also
 * serves instructions that change CF and OF only (rotates, bit tests): ZF, SF and PF stay those
 * of cc_res, AF has its own bit.
 *
 * Flags that an instruction leaves undefined come out as Intel's Sapphire Rapids gives them: after
 * logic, shifts and multiplication AF is 0, after multiplication ZF is 0, too (hk_cc_set_mul()).
 */
#ifndef HK_ENGINE_SOFT_FLAGS_H
#define HK_ENGINE_SOFT_FLAGS_H

#include "engine/soft/cpu.h"

/* In steps of 4: the low two bits of a kind are log2 of the operand size in bytes. */
enum hk_cc {
	HK_CC_RAW = 0,
	HK_CC_ADD = 4,
	HK_CC_ADC = 8,
	HK_CC_SUB = 12,
	HK_CC_SBB = 16,
	HK_CC_LOGIC = 20,
	HK_CC_INC = 24,
	HK_CC_DEC = 28,
	HK_CC_SHIFT = 32,
	HK_CC_MUL = 36,
};

/* cc_src of HK_CC_SHIFT. CF is bit 0 as in RFLAGS, so that hk_cc_cf() need not tell. */
enum hk_cc_bits {
	HK_CC_BIT_CF = 1 << 0,
	HK_CC_BIT_OF = 1 << 1,
	HK_CC_BIT_AF = 1 << 2,
};

/* Condition codes of Jcc in encoding order; the odd ones are negations. */
enum hk_cond {
	HK_COND_O,
	HK_COND_NO,
	HK_COND_B,
	HK_COND_AE,
	HK_COND_E,
	HK_COND_NE,
	HK_COND_BE,
	HK_COND_A,
	HK_COND_S,
	HK_COND_NS,
	HK_COND_P,
	HK_COND_NP,
	HK_COND_L,
	HK_COND_GE,
	HK_COND_LE,
	HK_COND_G,
};

/* @size everywhere: log2 of the operand size in bytes, 0 to 3. */

static inline uint64_t hk_mask(unsigned size)
{
	return UINT64_MAX >> (64 - (8u << size));
}

static inline uint64_t hk_sign_extend(uint64_t value, unsigned size)
{
	switch (size) {
	case 0:
		return (uint64_t)(int64_t)(int8_t)value;
	case 1:
		return (uint64_t)(int64_t)(int16_t)value;
	case 2:
		return (uint64_t)(int64_t)(int32_t)value;
	default:
		return value;
	}
}

/** hk_cc_set() - @res sign-extended here; @src must be zero-extended */
static inline void hk_cc_set(
	struct hk_cpu *cpu, enum hk_cc kind, unsigned size, uint64_t res, uint64_t src)
{
	cpu->cc_res = hk_sign_extend(res, size);
	cpu->cc_src = src;
	cpu->cc_kind = kind | size;
}

/**
 * hk_cc_set_mul() - after a multiplication with the low half @res. Sapphire Rapids leaves ZF clear
 * even where that is 0; a bit above the lowest byte, which is all that PF sees, makes it so.
 */
static inline void hk_cc_set_mul(struct hk_cpu *cpu, unsigned size, uint64_t res, bool overflowed)
{
	cpu->cc_res = hk_sign_extend(res, size);
	cpu->cc_res |= (uint64_t)(cpu->cc_res == 0) << 8;
	cpu->cc_src = overflowed;
	cpu->cc_kind = HK_CC_MUL | size;
}

/** hk_cc_set_cf() / hk_cc_set_cf_of() - change these, keep the others. flags.c */
void hk_cc_set_cf(struct hk_cpu *cpu, bool cf);
void hk_cc_set_cf_of(struct hk_cpu *cpu, bool cf, bool of);

/** hk_cc_get() - the six flags, in place as in RFLAGS. flags.c */
uint32_t hk_cc_get(const struct hk_cpu *cpu);

/** hk_cc_set_raw() - set all six from @flags (other bits ignored) */
static inline void hk_cc_set_raw(struct hk_cpu *cpu, uint32_t flags)
{
	cpu->cc_src = flags & HK_FLAGS_ARITH;
	cpu->cc_kind = HK_CC_RAW;
}

static inline bool hk_cc_zf(const struct hk_cpu *cpu)
{
	return cpu->cc_kind >= HK_CC_ADD ? cpu->cc_res == 0 : (cpu->cc_src & HK_FLAG_ZF) != 0;
}

static inline bool hk_cc_sf(const struct hk_cpu *cpu)
{
	return cpu->cc_kind >= HK_CC_ADD ? (int64_t)cpu->cc_res < 0
					 : (cpu->cc_src & HK_FLAG_SF) != 0;
}

static inline bool hk_cc_cf(const struct hk_cpu *cpu)
{
	uint64_t mask = hk_mask(cpu->cc_kind & 3);

	switch (cpu->cc_kind & ~3u) {
	case HK_CC_ADD:
		return (cpu->cc_res & mask) < cpu->cc_src;
	case HK_CC_ADC:
		return (cpu->cc_res & mask) <= cpu->cc_src;
	case HK_CC_SUB:
		return ((cpu->cc_res + cpu->cc_src) & mask) < cpu->cc_src;
	case HK_CC_SBB:
		return ((cpu->cc_res + cpu->cc_src + 1) & mask) <= cpu->cc_src;
	case HK_CC_LOGIC:
		return false;
	default: /* RAW keeps CF in bit 0, too */
		return (cpu->cc_src & 1) != 0;
	}
}

/** hk_cond() - condition @cond (enum hk_cond) on the present flags. flags.c */
bool hk_cond_slow(const struct hk_cpu *cpu, unsigned cond);

static inline bool hk_cond(const struct hk_cpu *cpu, unsigned cond)
{
	switch (cond) {
	case HK_COND_E:
		return hk_cc_zf(cpu);
	case HK_COND_NE:
		return !hk_cc_zf(cpu);
	case HK_COND_S:
		return hk_cc_sf(cpu);
	case HK_COND_NS:
		return !hk_cc_sf(cpu);
	case HK_COND_B:
		return hk_cc_cf(cpu);
	case HK_COND_AE:
		return !hk_cc_cf(cpu);
	default:
		return hk_cond_slow(cpu, cond);
	}
}

/** hk_rflags_get() - all of RFLAGS; hk_rflags_set() - all of it, no checks (bit 1 is forced) */
static inline uint64_t hk_rflags_get(const struct hk_cpu *cpu)
{
	return cpu->rflags | hk_cc_get(cpu) | HK_FLAG_FIXED;
}

/* After a change of AC, VM or TF call hk_cpu_mode_changed() (fault.h), too. */
static inline void hk_rflags_set(struct hk_cpu *cpu, uint64_t flags)
{
	cpu->rflags = (uint32_t)flags & ~(uint32_t)HK_FLAGS_ARITH;
	hk_cc_set_raw(cpu, (uint32_t)flags);
}

#endif
