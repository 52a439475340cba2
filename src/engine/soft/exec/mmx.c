/* SPDX-License-Identifier: ISC */
/*
 * MMX, with what SSE, SSE2 and SSSE3 added to it.
 *
 * The registers are the significands of the x87 registers. Every MMX instruction marks all of
 * these as valid and sets TOP to 0 (hk_mmx_enter()), but only when nothing can fail any more; one
 * that writes a register also makes its exponent all ones (hk_mmx_result()).
 * REX.R and REX.B do not reach: hk_mmx() drops them.
 *
 * Source: Intel SDM vol. 1, chapter 9; vol. 3, chapter 13.
 */
#include "engine/soft/exec/packed.h"

/* Arithmetic */

#define BINARY(op)     HK_EXEC_BY(mmx_##op, hk_mmx_binary(cpu, insn, 8, hk_simd_##op))
#define UNPACK_LOW(op) HK_EXEC_BY(mmx_##op, hk_mmx_binary(cpu, insn, 4, hk_simd_##op))
HK_PACKED_LIST(BINARY)
HK_PACKED_UNPACK_LOW_LIST(UNPACK_LOW)

HK_INLINE bool shift(struct hk_cpu *cpu, const struct hk_insn *insn, hk_simd_shift_fn *op)
{
	union hk_xmm dst;
	uint64_t count;

	if (!hk_mmx_ok(cpu) || !hk_mmx_rm(cpu, insn, 8, &count)) {
		return false;
	}
	dst.u64[0] = *hk_mmx(cpu, insn->reg);
	op(&dst, count, 8);
	hk_mmx_result(cpu, insn->reg, dst.u64[0]);
	return true;
}

HK_INLINE bool shift_imm(struct hk_cpu *cpu, const struct hk_insn *insn, hk_simd_shift_fn *op)
{
	union hk_xmm dst;

	if (!hk_mmx_ok(cpu)) {
		return false;
	}
	dst.u64[0] = *hk_mmx(cpu, insn->base);
	op(&dst, (uint8_t)insn->imm, 8);
	hk_mmx_result(cpu, insn->base, dst.u64[0]);
	return true;
}

#define SHIFT(op) \
	HK_EXEC_BY(mmx_##op, shift(cpu, insn, hk_simd_##op)) \
	HK_EXEC_BY(mmx_##op##_imm, shift_imm(cpu, insn, hk_simd_##op))
HK_PACKED_SHIFT_LIST(SHIFT)

HK_EXEC_BY(mmx_palignr, hk_mmx_binary_imm(cpu, insn, hk_simd_palignr))

HK_INLINE void pshufw(union hk_xmm *d, const union hk_xmm *s, unsigned imm, unsigned bytes)
{
	for (unsigned i = 0; i < bytes / 2; i++) {
		d->u16[i] = s->u16[imm >> 2 * i & 3];
	}
}

HK_EXEC_BY(mmx_pshufw, hk_mmx_binary_imm(cpu, insn, pshufw))

/* Moves */

HK_INLINE bool load(struct hk_cpu *cpu, const struct hk_insn *insn)
{
	uint64_t value;

	if (!hk_mmx_ok(cpu) || !hk_mmx_rm(cpu, insn, 8, &value)) {
		return false;
	}
	hk_mmx_result(cpu, insn->reg, value);
	return true;
}

HK_EXEC_BY(mmx_load, load(cpu, insn)) /* MOVQ */

HK_INLINE bool store(struct hk_cpu *cpu, const struct hk_insn *insn)
{
	const uint64_t value = *hk_mmx(cpu, insn->reg);
	uint64_t va;

	if (!hk_mmx_ok(cpu)) {
		return false;
	}
	if (!hk_insn_mem(insn)) {
		hk_mmx_result(cpu, insn->base, value);
		return true;
	}
	if (!hk_mem_va(cpu, insn, 8, HK_ACCESS_WRITE, &va) || !hk_store64(cpu, va, value)) {
		return false;
	}
	hk_mmx_enter(cpu);
	return true;
}

HK_EXEC_BY(mmx_store, store(cpu, insn)) /* MOVQ, MOVNTQ */

/* From a general register or memory of @size (log2 bytes). */
HK_INLINE bool from_general(struct hk_cpu *cpu, const struct hk_insn *insn, unsigned size)
{
	uint64_t value;

	if (!hk_mmx_ok(cpu) || !hk_rm_get(cpu, insn, size, &value)) {
		return false;
	}
	hk_mmx_result(cpu, insn->reg, value);
	return true;
}

HK_EXEC_BY(mmx_from_r32, from_general(cpu, insn, 2)) /* MOVD */
HK_EXEC_BY(mmx_from_r64, from_general(cpu, insn, 3)) /* MOVQ */

HK_INLINE bool to_general(struct hk_cpu *cpu, const struct hk_insn *insn, unsigned size)
{
	if (!hk_mmx_ok(cpu) || !hk_rm_set(cpu, insn, size, *hk_mmx(cpu, insn->reg))) {
		return false;
	}
	hk_mmx_enter(cpu);
	return true;
}

HK_EXEC_BY(mmx_to_r32, to_general(cpu, insn, 2)) /* MOVD */
HK_EXEC_BY(mmx_to_r64, to_general(cpu, insn, 3)) /* MOVQ */

HK_INLINE bool pinsrw(struct hk_cpu *cpu, const struct hk_insn *insn)
{
	const unsigned shift_bits = 16 * (insn->imm & 3);
	uint64_t value;

	if (!hk_mmx_ok(cpu) || !hk_rm_get(cpu, insn, 1, &value)) {
		return false;
	}
	hk_mmx_result(cpu, insn->reg,
		(*hk_mmx(cpu, insn->reg) & ~(UINT64_C(0xffff) << shift_bits)) |
			value << shift_bits);
	return true;
}

HK_EXEC_BY(mmx_pinsrw, pinsrw(cpu, insn))

HK_INLINE bool pextrw(struct hk_cpu *cpu, const struct hk_insn *insn)
{
	if (!hk_mmx_ok(cpu)) {
		return false;
	}
	hk_mmx_enter(cpu);
	cpu->gpr[insn->reg] = (uint16_t)(*hk_mmx(cpu, insn->base) >> 16 * (insn->imm & 3));
	return true;
}

HK_EXEC_BY(mmx_pextrw, pextrw(cpu, insn))

HK_INLINE bool pmovmskb(struct hk_cpu *cpu, const struct hk_insn *insn)
{
	if (!hk_mmx_ok(cpu)) {
		return false;
	}
	hk_mmx_enter(cpu);
	cpu->gpr[insn->reg] = hk_sign_bits8(*hk_mmx(cpu, insn->base));
	return true;
}

HK_EXEC_BY(mmx_pmovmskb, pmovmskb(cpu, insn))

HK_INLINE bool maskmovq(struct hk_cpu *cpu, const struct hk_insn *insn)
{
	if (!hk_mmx_ok(cpu) ||
		!hk_mask_store(cpu, insn, hk_mmx(cpu, insn->reg),
			hk_sign_bits8(*hk_mmx(cpu, insn->base)), 8)) {
		return false;
	}
	hk_mmx_enter(cpu);
	return true;
}

HK_EXEC_BY(maskmovq, maskmovq(cpu, insn))

/* Between the register files: both units must be usable */

HK_INLINE bool movq2dq(struct hk_cpu *cpu, const struct hk_insn *insn)
{
	if (!hk_sse_ok(cpu) || !hk_mmx_ok(cpu)) {
		return false;
	}
	hk_mmx_enter(cpu);
	cpu->xmm[insn->reg] = (union hk_xmm){.u64 = {*hk_mmx(cpu, insn->base), 0}};
	return true;
}

HK_EXEC_BY(movq2dq, movq2dq(cpu, insn))

HK_INLINE bool movdq2q(struct hk_cpu *cpu, const struct hk_insn *insn)
{
	if (!hk_sse_ok(cpu) || !hk_mmx_ok(cpu)) {
		return false;
	}
	hk_mmx_result(cpu, insn->reg, cpu->xmm[insn->base].u64[0]);
	return true;
}

HK_EXEC_BY(movdq2q, movdq2q(cpu, insn))
