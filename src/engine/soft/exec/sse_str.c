/* SPDX-License-Identifier: ISC */
/*
 * PCMPESTRI, PCMPESTRM, PCMPISTRI, PCMPISTRM: strings of up to 16 bytes or 8 words compared in
 * one of four ways.
 *
 * The first operand is a set, ranges, or a string; the second is the string that is looked at, each
 * of whose elements gets a bit of the result. Elements are widened first, so that one loop serves
 * all four types. Memory operands need no alignment.
 *
 * Source: Intel SDM vol. 2, 4.1 "Imm8 control byte operation".
 */
#include "engine/soft/exec/simd.h"

enum {
	CONTROL_WORDS = 1 << 0,
	CONTROL_SIGNED = 1 << 1,
	CONTROL_HOW_SHIFT = 2,
	CONTROL_NEGATE = 1 << 4,
	CONTROL_ONLY_VALID = 1 << 5, /* negate just the bits of valid elements */
	CONTROL_LAST = 1 << 6,       /* index: of the last bit; mask: an element a bit */
};

enum how { HOW_ANY, HOW_RANGES, HOW_EACH, HOW_ORDERED };

/* One operand: its elements, of which the first @valid are part of the string. */
struct string {
	int32_t at[16];
	unsigned valid;
};

static void widen(struct string *ret, const union hk_xmm *from, unsigned control)
{
	switch (control & (CONTROL_WORDS | CONTROL_SIGNED)) {
	case 0:
		for (unsigned i = 0; i < 16; i++) {
			ret->at[i] = from->u8[i];
		}
		break;
	case CONTROL_WORDS:
		for (unsigned i = 0; i < 8; i++) {
			ret->at[i] = from->u16[i];
		}
		break;
	case CONTROL_SIGNED:
		for (unsigned i = 0; i < 16; i++) {
			ret->at[i] = from->s8[i];
		}
		break;
	default:
		for (unsigned i = 0; i < 8; i++) {
			ret->at[i] = from->s16[i];
		}
		break;
	}
}

/* Implicit length: up to the first zero. */
static unsigned length_to_zero(const struct string *s, unsigned count)
{
	unsigned i = 0;

	while (i < count && s->at[i] != 0) {
		i++;
	}
	return i;
}

/* Explicit length: the amount of a signed number, at most all. */
static unsigned length_of(int64_t value, unsigned count)
{
	const uint64_t amount = value < 0 ? 0 - (uint64_t)value : (uint64_t)value;

	return amount < count ? (unsigned)amount : count;
}

static bool any_equal(const struct string *set, int32_t value)
{
	for (unsigned i = 0; i < set->valid; i++) {
		if (set->at[i] == value) {
			return true;
		}
	}
	return false;
}

static bool in_ranges(const struct string *ranges, int32_t value)
{
	for (unsigned i = 0; i + 1 < ranges->valid; i += 2) {
		if (ranges->at[i] <= value && value <= ranges->at[i + 1]) {
			return true;
		}
	}
	return false;
}

/* Does @needle, or what of it fits in, stand in @hay at @from? */
static bool stands_at(
	const struct string *needle, const struct string *hay, unsigned from, unsigned count)
{
	for (unsigned i = 0; i < needle->valid && from + i < count; i++) {
		if (from + i >= hay->valid || needle->at[i] != hay->at[from + i]) {
			return false;
		}
	}
	return true;
}

/* Return: one bit for each of the @count elements of @b. */
static unsigned compare(
	const struct string *a, const struct string *b, unsigned count, unsigned control)
{
	unsigned bits = 0;

	switch ((enum how)(control >> CONTROL_HOW_SHIFT & 3)) {
	case HOW_ANY:
		for (unsigned i = 0; i < b->valid; i++) {
			bits |= (unsigned)any_equal(a, b->at[i]) << i;
		}
		break;
	case HOW_RANGES:
		for (unsigned i = 0; i < b->valid; i++) {
			bits |= (unsigned)in_ranges(a, b->at[i]) << i;
		}
		break;
	case HOW_EACH: /* beyond the end of both all are equal */
		for (unsigned i = 0; i < count; i++) {
			const bool equal = i < a->valid && i < b->valid
				? a->at[i] == b->at[i]
				: i >= a->valid && i >= b->valid;

			bits |= (unsigned)equal << i;
		}
		break;
	case HOW_ORDERED:
		for (unsigned i = 0; i < count; i++) {
			bits |= (unsigned)stands_at(a, b, i, count) << i;
		}
		break;
	}
	if ((control & CONTROL_NEGATE) != 0) {
		bits ^= (control & CONTROL_ONLY_VALID) != 0 ? (1u << b->valid) - 1
							    : (1u << count) - 1;
	}
	return bits;
}

static void store_index(struct hk_cpu *cpu, unsigned bits, unsigned count, unsigned control)
{
	if (bits == 0) {
		cpu->gpr[HK_RCX] = count;
	} else if ((control & CONTROL_LAST) != 0) {
		cpu->gpr[HK_RCX] = 31 - (unsigned)__builtin_clz(bits);
	} else {
		cpu->gpr[HK_RCX] = (unsigned)__builtin_ctz(bits);
	}
}

static void store_mask(struct hk_cpu *cpu, unsigned bits, unsigned count, unsigned control)
{
	union hk_xmm r = {.u64 = {bits, 0}};

	if ((control & CONTROL_LAST) != 0 && count == 16) {
		for (unsigned i = 0; i < 16; i++) {
			r.u8[i] = (bits >> i & 1) != 0 ? 0xff : 0;
		}
	} else if ((control & CONTROL_LAST) != 0) {
		for (unsigned i = 0; i < 8; i++) {
			r.u16[i] = (bits >> i & 1) != 0 ? 0xffff : 0;
		}
	}
	cpu->xmm[0] = r;
}

enum length { LENGTH_IMPLICIT, LENGTH_32, LENGTH_64 };

static bool compare_strings(
	struct hk_cpu *cpu, const struct hk_insn *insn, enum length length, bool index)
{
	const unsigned control = (uint8_t)insn->imm;
	const unsigned count = (control & CONTROL_WORDS) != 0 ? 8 : 16;
	union hk_xmm operand;
	struct string a, b;

	if (!hk_sse_ok(cpu) || !hk_xmm_rm(cpu, insn, 16, false, &operand)) {
		return false;
	}
	widen(&a, &cpu->xmm[insn->reg], control);
	widen(&b, &operand, control);
	switch (length) {
	case LENGTH_IMPLICIT:
		a.valid = length_to_zero(&a, count);
		b.valid = length_to_zero(&b, count);
		break;
	case LENGTH_32:
		a.valid = length_of((int32_t)cpu->gpr[HK_RAX], count);
		b.valid = length_of((int32_t)cpu->gpr[HK_RDX], count);
		break;
	case LENGTH_64:
		a.valid = length_of((int64_t)cpu->gpr[HK_RAX], count);
		b.valid = length_of((int64_t)cpu->gpr[HK_RDX], count);
		break;
	}
	const unsigned bits = compare(&a, &b, count, control);

	hk_cc_set_raw(cpu,
		(bits != 0 ? HK_FLAG_CF : 0) | (b.valid < count ? HK_FLAG_ZF : 0) |
			(a.valid < count ? HK_FLAG_SF : 0) | ((bits & 1) != 0 ? HK_FLAG_OF : 0));
	if (index) {
		store_index(cpu, bits, count, control);
	} else {
		store_mask(cpu, bits, count, control);
	}
	return true;
}

HK_EXEC_BY(pcmpestri, compare_strings(cpu, insn, LENGTH_32, true))
HK_EXEC_BY(pcmpestri64, compare_strings(cpu, insn, LENGTH_64, true))
HK_EXEC_BY(pcmpestrm, compare_strings(cpu, insn, LENGTH_32, false))
HK_EXEC_BY(pcmpestrm64, compare_strings(cpu, insn, LENGTH_64, false))
HK_EXEC_BY(pcmpistri, compare_strings(cpu, insn, LENGTH_IMPLICIT, true))
HK_EXEC_BY(pcmpistrm, compare_strings(cpu, insn, LENGTH_IMPLICIT, false))
