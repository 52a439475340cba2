/* SPDX-License-Identifier: ISC */
/*
 * What the MMX and SSE handlers share: how operands come and go.
 *
 * A handler here is an inlined function that does the work and returns false where it failed;
 * HK_EXEC_BY() makes the handler of it. Hot ones have a second such function, which does just the
 * common forms, without giving a local variable's address away, and returns false where it has done
 * nothing: HK_EXEC_HOT_BY(). From these, files with HK_TAIL_CALLER (interp.h) jump to the next
 * handler.
 */
#ifndef HK_ENGINE_SOFT_EXEC_SIMD_H
#define HK_ENGINE_SOFT_EXEC_SIMD_H

#include "engine/soft/exec/handlers.h"
#include "engine/soft/operand.h"

#define HK_INLINE static inline __attribute__((always_inline))

/*
 * The handler hk_x_<name>: @work is an expression of cpu and insn, false where the instruction
 * failed.
 */
#define HK_EXEC_BY(name, work) \
	HK_EXEC(name) \
	{ \
		return (work) ? insn + 1 : hk_give_up(cpu, insn); \
	}

/*
 * The same; @hot is tried first, and false where it has done nothing. Where it is all there is,
 * @work is hk_sse_ok(cpu), which tells why.
 */
#define HK_EXEC_HOT_BY(name, hot, work) \
	static __attribute__((noinline)) HK_EXEC_BY(name##_rest, work) HK_EXEC(name) \
	{ \
		if (hk_likely(hot)) { \
			return HK_NEXT(cpu, insn); \
		} \
		return hk_x_##name##_rest(cpu, insn); \
	}

/*
 * An operation on @bytes (8 or 16, a constant where it is inlined) of @d with @s as second operand.
 */
typedef void hk_simd_fn(union hk_xmm *d, const union hk_xmm *s, unsigned bytes);
/* The same with an immediate byte. */
typedef void hk_simd_imm_fn(union hk_xmm *d, const union hk_xmm *s, unsigned imm, unsigned bytes);
/* A shift of all elements of @d. */
typedef void hk_simd_shift_fn(union hk_xmm *d, uint64_t count, unsigned bytes);

/* The 16-byte accesses, inline for the moves; see HK_DEFINE_ACCESS(). */
static HK_GUEST_RACES bool hk_load128(struct hk_cpu *cpu, uint64_t va, union hk_xmm *ret)
{
	const void *p = hk_tlb_read(cpu, va, 16);

	if (hk_unlikely(p == NULL)) {
		return hk_load(cpu, va, ret, 16);
	}
	__builtin_memcpy(ret, p, 16);
	HK_GUEST_ACQUIRE();
	return true;
}

static HK_GUEST_RACES bool hk_store128(struct hk_cpu *cpu, uint64_t va, const union hk_xmm *value)
{
	void *p = hk_tlb_write(cpu, va, 16);

	if (hk_unlikely(p == NULL)) {
		return hk_store(cpu, va, value, 16);
	}
	HK_GUEST_RELEASE();
	__builtin_memcpy(p, value, 16);
	return true;
}

/* All 16 bytes of an rm operand; memory must be aligned. */
HK_INLINE bool hk_sse_rm(struct hk_cpu *cpu, const struct hk_insn *insn, union hk_xmm *ret)
{
	if (!hk_insn_mem(insn)) {
		*ret = cpu->xmm[insn->base];
		return true;
	}
	return hk_xmm_load(cpu, insn, 16, true, ret);
}

/* May SSE be used now? As hk_sse_ok(), but notes no fault. */
HK_INLINE bool hk_sse_usable(const struct hk_cpu *cpu)
{
	return hk_likely(
		(cpu->cr0 & (HK_CR0_EM | HK_CR0_TS)) == 0 && (cpu->cr4 & HK_CR4_OSFXSR) != 0);
}

/* reg = reg op rm */
HK_INLINE bool hk_sse_binary(struct hk_cpu *cpu, const struct hk_insn *insn, hk_simd_fn *op)
{
	union hk_xmm src;

	if (!hk_sse_ok(cpu) || !hk_sse_rm(cpu, insn, &src)) {
		return false;
	}
	op(&cpu->xmm[insn->reg], &src, 16);
	return true;
}

/* The same between registers: for HK_EXEC_HOT_BY(). */
HK_INLINE bool hk_sse_binary_regs(struct hk_cpu *cpu, const struct hk_insn *insn, hk_simd_fn *op)
{
	if (!hk_sse_usable(cpu) || hk_insn_mem(insn)) {
		return false;
	}
	const union hk_xmm src = cpu->xmm[insn->base];

	op(&cpu->xmm[insn->reg], &src, 16);
	return true;
}

#define HK_SSE_BINARY(name, op) \
	HK_EXEC_HOT_BY(name, hk_sse_binary_regs(cpu, insn, op), hk_sse_binary(cpu, insn, op))

/* reg = reg op rm, with an immediate */
HK_INLINE bool hk_sse_binary_imm(struct hk_cpu *cpu, const struct hk_insn *insn, hk_simd_imm_fn *op)
{
	union hk_xmm src;

	if (!hk_sse_ok(cpu) || !hk_sse_rm(cpu, insn, &src)) {
		return false;
	}
	op(&cpu->xmm[insn->reg], &src, (uint8_t)insn->imm, 16);
	return true;
}

HK_INLINE bool hk_sse_binary_imm_regs(
	struct hk_cpu *cpu, const struct hk_insn *insn, hk_simd_imm_fn *op)
{
	if (!hk_sse_usable(cpu) || hk_insn_mem(insn)) {
		return false;
	}
	const union hk_xmm src = cpu->xmm[insn->base];

	op(&cpu->xmm[insn->reg], &src, (uint8_t)insn->imm, 16);
	return true;
}

#define HK_SSE_BINARY_IMM(name, op) \
	HK_EXEC_HOT_BY( \
		name, hk_sse_binary_imm_regs(cpu, insn, op), hk_sse_binary_imm(cpu, insn, op))

/* An MMX instruction that writes register @n goes through. */
HK_INLINE void hk_mmx_result(struct hk_cpu *cpu, unsigned n, uint64_t value)
{
	hk_mmx_enter(cpu);
	hk_mmx_set(cpu, n, value);
}

/* The low @len (4 or 8) bytes of an rm operand. */
HK_INLINE bool hk_mmx_rm(
	struct hk_cpu *cpu, const struct hk_insn *insn, unsigned len, uint64_t *ret_value)
{
	uint64_t va;

	if (!hk_insn_mem(insn)) {
		*ret_value = *hk_mmx(cpu, insn->base);
		return true;
	}
	return hk_mem_va(cpu, insn, len, HK_ACCESS_READ, &va) &&
		hk_va_load(cpu, va, len == 4 ? 2 : 3, ret_value);
}

HK_INLINE bool hk_mmx_binary(
	struct hk_cpu *cpu, const struct hk_insn *insn, unsigned len, hk_simd_fn *op)
{
	union hk_xmm src, dst;

	if (!hk_mmx_ok(cpu) || !hk_mmx_rm(cpu, insn, len, &src.u64[0])) {
		return false;
	}
	dst.u64[0] = *hk_mmx(cpu, insn->reg);
	op(&dst, &src, 8);
	hk_mmx_result(cpu, insn->reg, dst.u64[0]);
	return true;
}

HK_INLINE bool hk_mmx_binary_imm(struct hk_cpu *cpu, const struct hk_insn *insn, hk_simd_imm_fn *op)
{
	union hk_xmm src, dst;

	if (!hk_mmx_ok(cpu) || !hk_mmx_rm(cpu, insn, 8, &src.u64[0])) {
		return false;
	}
	dst.u64[0] = *hk_mmx(cpu, insn->reg);
	op(&dst, &src, (uint8_t)insn->imm, 8);
	hk_mmx_result(cpu, insn->reg, dst.u64[0]);
	return true;
}

/* The sign bits of 8 bytes, as a mask: each of the products moves one of them to the top byte. */
HK_INLINE unsigned hk_sign_bits8(uint64_t bytes)
{
	return (unsigned)((bytes >> 7 & UINT64_C(0x0101010101010101)) *
			UINT64_C(0x0102040810204080) >>
		56);
}

/**
 * hk_mask_store() - MASKMOVQ, MASKMOVDQU: store those of the @len (8, 16) bytes of @data whose bit
 * in
 * @mask is set at the segment's rDI. sse_move.c
 *
 * Return: false with the fault noted; nothing is written then.
 */
bool hk_mask_store(struct hk_cpu *cpu, const struct hk_insn *insn, const void *data, unsigned mask,
	unsigned len);

#endif
