/* SPDX-License-Identifier: ISC */
/*
 * Packed integer arithmetic in XMM registers: SSE2, SSSE3, SSE4.1 and SSE4.2.
 *
 * What MMX has, too, is in packed.h; the rest stands here in the same manner. Bitwise instructions
 * on floating-point types (ANDPS, ...) are these as well.
 *
 * Source: Intel SDM vol. 2, "Operation" of each instruction.
 */
#define HK_TAIL_CALLER
#include "engine/soft/exec/packed.h"

#define BINARY(op)     HK_SSE_BINARY(op, hk_simd_##op)
#define BINARY_IMM(op) HK_SSE_BINARY_IMM(op, hk_simd_##op)

HK_PACKED_LIST(BINARY)
HK_PACKED_UNPACK_LOW_LIST(BINARY)

/* Shifts */

/* The count is all of the low 8 bytes, but 16 are read. */
HK_INLINE bool shift(struct hk_cpu *cpu, const struct hk_insn *insn, hk_simd_shift_fn *op)
{
	union hk_xmm count;

	if (!hk_sse_ok(cpu) || !hk_sse_rm(cpu, insn, &count)) {
		return false;
	}
	op(&cpu->xmm[insn->reg], count.u64[0], 16);
	return true;
}

HK_INLINE bool shift_imm(struct hk_cpu *cpu, const struct hk_insn *insn, hk_simd_shift_fn *op)
{
	if (!hk_sse_usable(cpu)) {
		return false;
	}
	op(&cpu->xmm[insn->base], (uint8_t)insn->imm, 16);
	return true;
}

#define SHIFT(op) \
	HK_EXEC_BY(op, shift(cpu, insn, hk_simd_##op)) \
	HK_EXEC_HOT_BY(op##_imm, shift_imm(cpu, insn, hk_simd_##op), hk_sse_ok(cpu))
HK_PACKED_SHIFT_LIST(SHIFT)

/* The whole register, by bytes. */
HK_INLINE void psrldq(union hk_xmm *d, uint64_t count, unsigned bytes)
{
	*d = hk_xmm_of(count < bytes ? hk_u128(d) >> 8 * (unsigned)count : 0);
}

HK_INLINE void pslldq(union hk_xmm *d, uint64_t count, unsigned bytes)
{
	*d = hk_xmm_of(count < bytes ? hk_u128(d) << 8 * (unsigned)count : 0);
}

HK_EXEC_HOT_BY(psrldq, shift_imm(cpu, insn, psrldq), hk_sse_ok(cpu))
HK_EXEC_HOT_BY(pslldq, shift_imm(cpu, insn, pslldq), hk_sse_ok(cpu))

BINARY_IMM(palignr)

/* SSE4.1, SSE4.2 */

HK_LANEWISE(pmulld, u32, x *y)
HK_LANEWISE(pmuldq, s64, (int64_t)(int32_t)x *(int32_t)y)
HK_LANEWISE(pminsb, s8, x < y ? x : y)
HK_LANEWISE(pminsd, s32, x < y ? x : y)
HK_LANEWISE(pminuw, u16, x < y ? x : y)
HK_LANEWISE(pminud, u32, x < y ? x : y)
HK_LANEWISE(pmaxsb, s8, x > y ? x : y)
HK_LANEWISE(pmaxsd, s32, x > y ? x : y)
HK_LANEWISE(pmaxuw, u16, x > y ? x : y)
HK_LANEWISE(pmaxud, u32, x > y ? x : y)
HK_LANEWISE(pcmpeqq, u64, x == y ? UINT64_MAX : 0)
HK_LANEWISE(pcmpgtq, s64, x > y ? -1 : 0)
HK_PACK(packusdw, s32, u16, hk_sat_u16)

BINARY(pmulld)
BINARY(pmuldq)
BINARY(pminsb)
BINARY(pminsd)
BINARY(pminuw)
BINARY(pminud)
BINARY(pmaxsb)
BINARY(pmaxsd)
BINARY(pmaxuw)
BINARY(pmaxud)
BINARY(pcmpeqq)
BINARY(pcmpgtq)
BINARY(packusdw)

/* The smallest word, and where it first is. */
HK_INLINE void hk_simd_phminposuw(union hk_xmm *d, const union hk_xmm *s, unsigned bytes)
{
	unsigned at = 0;

	for (unsigned i = 1; i < bytes / 2; i++) {
		at = s->u16[i] < s->u16[at] ? i : at;
	}
	*d = (union hk_xmm){.u64 = {s->u16[at] | at << 16, 0}};
}

BINARY(phminposuw)

/*
 * Sums of absolute differences of 4 bytes of the source to 8 overlapping groups of the destination.
 */
HK_INLINE void hk_simd_mpsadbw(union hk_xmm *d, const union hk_xmm *s, unsigned imm, unsigned bytes)
{
	const uint8_t *group = &d->u8[imm & 4];
	const uint8_t *to = &s->u8[4 * (imm & 3)];
	union hk_xmm r;

	for (unsigned i = 0; i < bytes / 2; i++) {
		int sum = 0;

		for (unsigned j = 0; j < 4; j++) {
			const int diff = group[i + j] - to[j];

			sum += diff < 0 ? -diff : diff;
		}
		r.u16[i] = (uint16_t)sum;
	}
	*d = r;
}

BINARY_IMM(mpsadbw)

HK_INLINE bool ptest(struct hk_cpu *cpu, const struct hk_insn *insn)
{
	const union hk_xmm *d = &cpu->xmm[insn->reg];
	union hk_xmm s;

	if (!hk_sse_ok(cpu) || !hk_sse_rm(cpu, insn, &s)) {
		return false;
	}
	const bool zf = ((s.u64[0] & d->u64[0]) | (s.u64[1] & d->u64[1])) == 0;
	const bool cf = ((s.u64[0] & ~d->u64[0]) | (s.u64[1] & ~d->u64[1])) == 0;

	hk_cc_set_raw(cpu, (zf ? HK_FLAG_ZF : 0) | (cf ? HK_FLAG_CF : 0));
	return true;
}

HK_EXEC_BY(ptest, ptest(cpu, insn))
