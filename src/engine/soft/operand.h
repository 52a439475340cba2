/* SPDX-License-Identifier: ISC */
/*
 * Operands of instructions: effective addresses, registers of any size, rm operands.
 *
 * Register writes follow the architecture: 32-bit results clear the upper half, 8- and 16-bit
 * ones leave the rest.
 */
#ifndef HK_ENGINE_SOFT_OPERAND_H
#define HK_ENGINE_SOFT_OPERAND_H

#include "engine/soft/interp.h"
#include "engine/soft/mmu.h"

/** hk_ea() - offset of the memory operand within its segment, cut to the address size */
static inline uint64_t hk_ea(const struct hk_cpu *cpu, const struct hk_insn *insn)
{
	uint64_t ea = cpu->gpr[insn->base] + (cpu->gpr[insn->index] << hk_insn_scale(insn)) +
		(uint64_t)(int64_t)insn->disp;

	switch (hk_insn_addr_size(insn)) {
	case 1:
		return (uint16_t)ea;
	case 2:
		return (uint32_t)ea;
	default:
		return ea;
	}
}

/**
 * hk_seg_is_flat() - outside 64-bit mode: do all 4 GiB behind @seg read and write? (Some others
 * may, too.)
 */
static inline bool hk_seg_is_flat(const struct hk_cpu *cpu, unsigned seg)
{
	return cpu->flat && (1u << seg & (1 << HK_ES | 1 << HK_SS | 1 << HK_DS)) != 0;
}

/**
 * hk_linear() - linear address of @len bytes at @offset in segment @seg
 *
 * Checks the segment outside 64-bit mode (usable, type, limit): #GP(0), or #SS(0) for SS. In 64-bit
 * mode the access itself finds addresses that are not canonical; those through SS or based on
 * RSP/RBP fault with #SS, which the MMU cannot know: see hk_linear_slow().
 *
 * Return: false with the fault noted.
 */
bool hk_linear_slow(struct hk_cpu *cpu, unsigned seg, uint64_t offset, unsigned len,
	enum hk_access access, uint64_t *ret_va);

static inline bool hk_linear(struct hk_cpu *cpu, unsigned seg, uint64_t offset, unsigned len,
	enum hk_access access, uint64_t *ret_va)
{
	if (hk_likely(cpu->mode == HK_CODE_64 && seg != HK_SS)) {
		*ret_va = cpu->seg_base[seg] + offset;
		return true;
	}
	return hk_linear_slow(cpu, seg, offset, len, access, ret_va);
}

/** hk_mem_va() - linear address of the memory operand. Return: false with the fault noted. */
static inline bool hk_mem_va(struct hk_cpu *cpu, const struct hk_insn *insn, unsigned len,
	enum hk_access access, uint64_t *ret_va)
{
	if (hk_likely((insn->flags & HK_INSN_PLAIN) != 0)) {
		*ret_va = cpu->gpr[insn->base] + (cpu->gpr[insn->index] << hk_insn_scale(insn)) +
			(uint64_t)(int64_t)insn->disp;
		return true;
	}
	return hk_linear(cpu, hk_insn_seg(insn), hk_ea(cpu, insn), len, access, ret_va);
}

/** hk_reg_get() - general register operand @reg of @size (log2 bytes), zero-extended */
static inline uint64_t hk_reg_get(struct hk_cpu *cpu, unsigned reg, unsigned size)
{
	switch (size) {
	case 0:
		return *hk_gpr8(cpu, reg);
	case 1:
		return (uint16_t)cpu->gpr[reg];
	case 2:
		return (uint32_t)cpu->gpr[reg];
	default:
		return cpu->gpr[reg];
	}
}

static inline void hk_reg_set(struct hk_cpu *cpu, unsigned reg, unsigned size, uint64_t value)
{
	switch (size) {
	case 0:
		*hk_gpr8(cpu, reg) = (uint8_t)value;
		break;
	case 1:
		cpu->gpr[reg] = (cpu->gpr[reg] & ~UINT64_C(0xffff)) | (uint16_t)value;
		break;
	case 2:
		cpu->gpr[reg] = (uint32_t)value;
		break;
	default:
		cpu->gpr[reg] = value;
		break;
	}
}

/** hk_va_load() - @size (log2 bytes) at linear @va, zero-extended */
static inline bool hk_va_load(struct hk_cpu *cpu, uint64_t va, unsigned size, uint64_t *ret_value)
{
	uint8_t v8;
	uint16_t v16;
	uint32_t v32;

	switch (size) {
	case 0:
		if (!hk_load8(cpu, va, &v8)) {
			return false;
		}
		*ret_value = v8;
		return true;
	case 1:
		if (!hk_load16(cpu, va, &v16)) {
			return false;
		}
		*ret_value = v16;
		return true;
	case 2:
		if (!hk_load32(cpu, va, &v32)) {
			return false;
		}
		*ret_value = v32;
		return true;
	default:
		return hk_load64(cpu, va, ret_value);
	}
}

static inline bool hk_va_store(struct hk_cpu *cpu, uint64_t va, unsigned size, uint64_t value)
{
	switch (size) {
	case 0:
		return hk_store8(cpu, va, (uint8_t)value);
	case 1:
		return hk_store16(cpu, va, (uint16_t)value);
	case 2:
		return hk_store32(cpu, va, (uint32_t)value);
	default:
		return hk_store64(cpu, va, value);
	}
}

/** hk_rm_get() - the rm operand, register or memory, of @size; zero-extended */
static inline bool hk_rm_get(
	struct hk_cpu *cpu, const struct hk_insn *insn, unsigned size, uint64_t *ret_value)
{
	uint64_t va;

	if (!hk_insn_mem(insn)) {
		*ret_value = hk_reg_get(cpu, insn->base, size);
		return true;
	}
	return hk_mem_va(cpu, insn, 1u << size, HK_ACCESS_READ, &va) &&
		hk_va_load(cpu, va, size, ret_value);
}

static inline bool hk_rm_set(
	struct hk_cpu *cpu, const struct hk_insn *insn, unsigned size, uint64_t value)
{
	uint64_t va;

	if (!hk_insn_mem(insn)) {
		hk_reg_set(cpu, insn->base, size, value);
		return true;
	}
	return hk_mem_va(cpu, insn, 1u << size, HK_ACCESS_WRITE, &va) &&
		hk_va_store(cpu, va, size, value);
}

/**
 * hk_xmm_load() - @len bytes (4, 8, 16) of the memory operand; @align: #GP(0) unless a multiple of
 * 16
 */
bool hk_xmm_load(
	struct hk_cpu *cpu, const struct hk_insn *insn, unsigned len, bool align, void *buf);

/**
 * hk_xmm_rm() - the low @len bytes of the rm operand (xmm register or memory), upper bytes of @ret
 * zero for memory. 16-byte memory operands of legacy SSE must be aligned: @align.
 */
static inline bool hk_xmm_rm(
	struct hk_cpu *cpu, const struct hk_insn *insn, unsigned len, bool align, union hk_xmm *ret)
{
	if (!hk_insn_mem(insn)) {
		*ret = cpu->xmm[insn->base];
		return true;
	}
	*ret = (union hk_xmm){.u64 = {0, 0}};
	return hk_xmm_load(cpu, insn, len, align, ret);
}

/**
 * hk_sse_ok() / hk_mmx_ok() / hk_x87_ok() - may the unit be used now? First call of their handlers.
 *
 * SSE: #UD with CR0.EM or without CR4.OSFXSR; #NM with CR0.TS. MMX: #UD with EM; #NM with TS; #MF
 * with an unmasked x87 exception pending; changes nothing: when nothing can fail any more, the
 * handler calls hk_mmx_enter(). x87: #NM with EM or TS; #MF where @wait. fpu.c
 */
static inline bool hk_sse_ok(struct hk_cpu *cpu)
{
	if (hk_likely(
		    (cpu->cr0 & (HK_CR0_EM | HK_CR0_TS)) == 0 && (cpu->cr4 & HK_CR4_OSFXSR) != 0)) {
		return true;
	}
	return hk_fault(cpu,
		(cpu->cr0 & HK_CR0_EM) != 0 || (cpu->cr4 & HK_CR4_OSFXSR) == 0 ? HK_VECTOR_UD
									       : HK_VECTOR_NM);
}

bool hk_mmx_ok(struct hk_cpu *cpu);

/** hk_mmx_enter() - an MMX instruction goes through: all x87 tags become valid, TOP 0 */
static inline void hk_mmx_enter(struct hk_cpu *cpu)
{
	cpu->x87.tag_empty = 0;
	cpu->x87.fsw &= (uint16_t) ~(7u << 11);
}

/** hk_mmx_set() - write MMX register @n: the exponent of the x87 register becomes all ones */
static inline void hk_mmx_set(struct hk_cpu *cpu, unsigned n, uint64_t value)
{
	cpu->x87.r[n & 7] = (struct hk_f80){.frac = value, .sign_exp = 0xffff};
}

bool hk_x87_ok(struct hk_cpu *cpu, bool wait);

#endif
