/* SPDX-License-Identifier: ISC */
/*
 * SSE moves, of whatever element type: the type does not matter to a move.
 *
 * Loads of less than 16 bytes from memory clear the rest of the register; between registers MOVSS,
 * MOVSD and the half-register moves leave it. Non-temporal stores are plain ones.
 *
 * Memory operands of 16 bytes must be aligned, but for MOVUPS, MOVUPD, MOVDQU and LDDQU: #GP(0),
 * which comes before any page fault.
 */
#define HK_TAIL_CALLER
#include "engine/soft/exec/simd.h"

#include <assert.h>

/* Operands from and to memory, for all SSE handlers */

static bool aligned(struct hk_cpu *cpu, uint64_t va)
{
	return (va & 15) == 0 || hk_fault_code(cpu, HK_VECTOR_GP, 0);
}

bool hk_xmm_load(
	struct hk_cpu *cpu, const struct hk_insn *insn, unsigned len, bool align, void *buf)
{
	uint64_t va;

	if (!hk_mem_va(cpu, insn, len, HK_ACCESS_READ, &va) || (align && !aligned(cpu, va))) {
		return false;
	}
	switch (len) {
	case 4:
		return hk_load32(cpu, va, buf);
	case 8:
		return hk_load64(cpu, va, buf);
	default:
		assert(len == 16);
		return hk_load128(cpu, va, buf);
	}
}

/*
 * Only selected bytes are written, but all of them must be writable, as on Sapphire Rapids, even if
 * none is selected; of 16 bytes the upper half faults first.
 */
bool hk_mask_store(struct hk_cpu *cpu, const struct hk_insn *insn, const void *data, unsigned mask,
	unsigned len)
{
	const uint8_t *bytes = data;
	uint64_t offset = cpu->gpr[HK_RDI];
	uint64_t va;

	switch (hk_insn_addr_size(insn)) {
	case 1:
		offset = (uint16_t)offset;
		break;
	case 2:
		offset = (uint32_t)offset;
		break;
	default:
		break;
	}
	if (!hk_linear(cpu, hk_insn_seg(insn), offset, len, HK_ACCESS_WRITE, &va) ||
		!hk_probe(cpu, va + len - 8, 8, HK_ACCESS_WRITE) ||
		!hk_probe(cpu, va, 8, HK_ACCESS_WRITE)) {
		return false;
	}
	for (unsigned i = 0; i < len; i++) {
		if ((mask >> i & 1) != 0 && !hk_store8(cpu, va + i, bytes[i])) {
			return false; /* not after the probes */
		}
	}
	return true;
}

/* The address of a memory operand of the plain kind. Return: false if it is not that. */
HK_INLINE bool plain_va(const struct hk_cpu *cpu, const struct hk_insn *insn, uint64_t *ret_va)
{
	*ret_va = cpu->gpr[insn->base] + (cpu->gpr[insn->index] << hk_insn_scale(insn)) +
		(uint64_t)(int64_t)insn->disp;
	return (insn->flags & HK_INSN_PLAIN) != 0;
}

/* Whole registers */

HK_INLINE bool load(struct hk_cpu *cpu, const struct hk_insn *insn, bool align)
{
	union hk_xmm value;
	uint64_t va;

	if (!hk_sse_ok(cpu)) {
		return false;
	}
	if (!hk_insn_mem(insn)) {
		cpu->xmm[insn->reg] = cpu->xmm[insn->base];
		return true;
	}
	if (!hk_mem_va(cpu, insn, 16, HK_ACCESS_READ, &va) || (align && !aligned(cpu, va)) ||
		!hk_load128(cpu, va, &value)) {
		return false;
	}
	cpu->xmm[insn->reg] = value;
	return true;
}

HK_INLINE bool load_hot(struct hk_cpu *cpu, const struct hk_insn *insn, bool align)
{
	uint64_t va;

	if (!hk_sse_usable(cpu)) {
		return false;
	}
	if (!hk_insn_mem(insn)) {
		cpu->xmm[insn->reg] = cpu->xmm[insn->base];
		return true;
	}
	return plain_va(cpu, insn, &va) && (!align || (va & 15) == 0) &&
		hk_tlb_read(cpu, va, 16) != NULL && hk_load128(cpu, va, &cpu->xmm[insn->reg]);
}

/* MOVAPS, MOVAPD, MOVDQA, MOVNTDQA */
HK_EXEC_HOT_BY(sse_load, load_hot(cpu, insn, true), load(cpu, insn, true))
/* MOVUPS, MOVUPD, MOVDQU, LDDQU */
HK_EXEC_HOT_BY(sse_load_any, load_hot(cpu, insn, false), load(cpu, insn, false))

HK_INLINE bool store(struct hk_cpu *cpu, const struct hk_insn *insn, bool align)
{
	uint64_t va;

	if (!hk_sse_ok(cpu)) {
		return false;
	}
	if (!hk_insn_mem(insn)) {
		cpu->xmm[insn->base] = cpu->xmm[insn->reg];
		return true;
	}
	return hk_mem_va(cpu, insn, 16, HK_ACCESS_WRITE, &va) && (!align || aligned(cpu, va)) &&
		hk_store128(cpu, va, &cpu->xmm[insn->reg]);
}

HK_INLINE bool store_hot(struct hk_cpu *cpu, const struct hk_insn *insn, bool align)
{
	uint64_t va;

	if (!hk_sse_usable(cpu)) {
		return false;
	}
	if (!hk_insn_mem(insn)) {
		cpu->xmm[insn->base] = cpu->xmm[insn->reg];
		return true;
	}
	return plain_va(cpu, insn, &va) && (!align || (va & 15) == 0) &&
		hk_tlb_write(cpu, va, 16) != NULL && hk_store128(cpu, va, &cpu->xmm[insn->reg]);
}

/* MOVAPS, MOVAPD, MOVDQA, MOVNTPS, MOVNTPD, MOVNTDQ */
HK_EXEC_HOT_BY(sse_store, store_hot(cpu, insn, true), store(cpu, insn, true))
/* MOVUPS, MOVUPD, MOVDQU */
HK_EXEC_HOT_BY(sse_store_any, store_hot(cpu, insn, false), store(cpu, insn, false))

/* Parts, from and to memory */

HK_INLINE bool mem_load(
	struct hk_cpu *cpu, const struct hk_insn *insn, unsigned size, uint64_t *ret_value)
{
	uint64_t va;

	return hk_sse_ok(cpu) && hk_mem_va(cpu, insn, 1u << size, HK_ACCESS_READ, &va) &&
		hk_va_load(cpu, va, size, ret_value);
}

HK_INLINE bool mem_store(
	struct hk_cpu *cpu, const struct hk_insn *insn, unsigned size, uint64_t value)
{
	uint64_t va;

	return hk_sse_ok(cpu) && hk_mem_va(cpu, insn, 1u << size, HK_ACCESS_WRITE, &va) &&
		hk_va_store(cpu, va, size, value);
}

static HK_GUEST_RACES uint64_t load_at(const void *p, unsigned size)
{
	uint64_t value = 0;

	__builtin_memcpy(&value, p, size == 2 ? 4 : 8);
	HK_GUEST_ACQUIRE();
	return value;
}

HK_INLINE bool mem_load_hot(
	struct hk_cpu *cpu, const struct hk_insn *insn, unsigned size, uint64_t *ret_value)
{
	const void *p;
	uint64_t va;

	if (!hk_sse_usable(cpu) || !plain_va(cpu, insn, &va) ||
		(p = hk_tlb_read(cpu, va, 1u << size)) == NULL) {
		return false;
	}
	*ret_value = load_at(p, size);
	return true;
}

static HK_GUEST_RACES void store_at(void *p, unsigned size, uint64_t value)
{
	HK_GUEST_RELEASE();
	__builtin_memcpy(p, &value, size == 2 ? 4 : 8);
}

HK_INLINE bool mem_store_hot(
	struct hk_cpu *cpu, const struct hk_insn *insn, unsigned size, uint64_t value)
{
	uint64_t va;
	void *p;

	if (!hk_sse_usable(cpu) || !plain_va(cpu, insn, &va) ||
		(p = hk_tlb_write(cpu, va, 1u << size)) == NULL) {
		return false;
	}
	store_at(p, size, value);
	return true;
}

/* What becomes of a loaded value: the low part with zeros above, or a half. */
#define LOAD_PART(name, size, statement) \
	HK_INLINE bool name(struct hk_cpu *cpu, const struct hk_insn *insn, bool hot) \
	{ \
		union hk_xmm *d = &cpu->xmm[insn->reg]; \
		uint64_t value; \
\
		if (!(hot ? mem_load_hot(cpu, insn, size, &value) \
			  : mem_load(cpu, insn, size, &value))) { \
			return false; \
		} \
		statement; \
		return true; \
	} \
	HK_EXEC_HOT_BY(name, name(cpu, insn, true), name(cpu, insn, false))

LOAD_PART(sse_load4, 2, *d = (union hk_xmm){.u64 = {value}}) /* MOVSS */
LOAD_PART(sse_load8, 3, *d = (union hk_xmm){.u64 = {value}}) /* MOVSD, MOVQ */
LOAD_PART(sse_load_low, 3, d->u64[0] = value)                /* MOVLPS, MOVLPD */
LOAD_PART(sse_load_high, 3, d->u64[1] = value)               /* MOVHPS, MOVHPD */

#define STORE_PART(name, size, value) \
	HK_EXEC_HOT_BY(name, mem_store_hot(cpu, insn, size, cpu->xmm[insn->reg].value), \
		mem_store(cpu, insn, size, cpu->xmm[insn->reg].value))

STORE_PART(sse_store4, 2, u32[0])     /* MOVSS */
STORE_PART(sse_store8, 3, u64[0])     /* MOVSD, MOVQ, MOVLPS, MOVLPD */
STORE_PART(sse_store_high, 3, u64[1]) /* MOVHPS, MOVHPD */

/* From and to general registers, or memory of the same size */

HK_INLINE bool from_general(struct hk_cpu *cpu, const struct hk_insn *insn, unsigned size)
{
	uint64_t value;

	if (!hk_sse_ok(cpu) || !hk_rm_get(cpu, insn, size, &value)) {
		return false;
	}
	cpu->xmm[insn->reg] = (union hk_xmm){.u64 = {value, 0}};
	return true;
}

HK_INLINE bool from_general_hot(struct hk_cpu *cpu, const struct hk_insn *insn, unsigned size)
{
	if (!hk_sse_usable(cpu) || hk_insn_mem(insn)) {
		return false;
	}
	cpu->xmm[insn->reg] = (union hk_xmm){.u64 = {hk_reg_get(cpu, insn->base, size), 0}};
	return true;
}

/* MOVD, MOVQ */
HK_EXEC_HOT_BY(sse_from_r32, from_general_hot(cpu, insn, 2), from_general(cpu, insn, 2))
HK_EXEC_HOT_BY(sse_from_r64, from_general_hot(cpu, insn, 3), from_general(cpu, insn, 3))

HK_INLINE bool to_general(struct hk_cpu *cpu, const struct hk_insn *insn, unsigned size)
{
	return hk_sse_ok(cpu) && hk_rm_set(cpu, insn, size, cpu->xmm[insn->reg].u64[0]);
}

HK_INLINE bool to_general_hot(struct hk_cpu *cpu, const struct hk_insn *insn, unsigned size)
{
	if (!hk_sse_usable(cpu) || hk_insn_mem(insn)) {
		return false;
	}
	hk_reg_set(cpu, insn->base, size, cpu->xmm[insn->reg].u64[0]);
	return true;
}

/* MOVD, MOVQ */
HK_EXEC_HOT_BY(sse_to_r32, to_general_hot(cpu, insn, 2), to_general(cpu, insn, 2))
HK_EXEC_HOT_BY(sse_to_r64, to_general_hot(cpu, insn, 3), to_general(cpu, insn, 3))

/* Between registers: some elements of @s become some of @d, by a statement */

#define REG_MOVE(name, to, from, statement) \
	HK_INLINE bool name(struct hk_cpu *cpu, const struct hk_insn *insn) \
	{ \
		union hk_xmm *d = &cpu->xmm[insn->to]; \
		const union hk_xmm *s = &cpu->xmm[insn->from]; \
\
		if (!hk_sse_usable(cpu)) { \
			return false; \
		} \
		statement; \
		return true; \
	} \
	HK_EXEC_HOT_BY(name, name(cpu, insn), hk_sse_ok(cpu))

REG_MOVE(sse_merge4, reg, base, d->u32[0] = s->u32[0])    /* MOVSS */
REG_MOVE(sse_merge4_rm, base, reg, d->u32[0] = s->u32[0]) /* the same, to rm */
REG_MOVE(sse_merge8, reg, base, d->u64[0] = s->u64[0])    /* MOVSD */
REG_MOVE(sse_merge8_rm, base, reg, d->u64[0] = s->u64[0]) /* the same, to rm */
REG_MOVE(movhlps, reg, base, d->u64[0] = s->u64[1])
REG_MOVE(movlhps, reg, base, d->u64[1] = s->u64[0])
REG_MOVE(sse_movq, reg, base, d->u64[0] = s->u64[0]; d->u64[1] = 0)    /* MOVQ */
REG_MOVE(sse_movq_rm, base, reg, d->u64[0] = s->u64[0]; d->u64[1] = 0) /* MOVQ, to rm */

HK_INLINE void dup_even(union hk_xmm *d, const union hk_xmm *s, unsigned bytes)
{
	for (unsigned i = 0; i < bytes / 4; i++) {
		d->u32[i] = s->u32[i & ~1u];
	}
}

HK_INLINE void dup_odd(union hk_xmm *d, const union hk_xmm *s, unsigned bytes)
{
	for (unsigned i = 0; i < bytes / 4; i++) {
		d->u32[i] = s->u32[i | 1];
	}
}

HK_SSE_BINARY(movsldup, dup_even)
HK_SSE_BINARY(movshdup, dup_odd)

HK_INLINE bool movddup(struct hk_cpu *cpu, const struct hk_insn *insn)
{
	uint64_t value = cpu->xmm[insn->base & 15].u64[0];

	if (hk_insn_mem(insn) ? !mem_load(cpu, insn, 3, &value) : !hk_sse_ok(cpu)) {
		return false;
	}
	cpu->xmm[insn->reg] = (union hk_xmm){.u64 = {value, value}};
	return true;
}

HK_EXEC_BY(movddup, movddup(cpu, insn))

/* Sign bits to a general register */

HK_INLINE bool movmskps(struct hk_cpu *cpu, const struct hk_insn *insn)
{
	const union hk_xmm *s = &cpu->xmm[insn->base];

	if (!hk_sse_usable(cpu)) {
		return false;
	}
	cpu->gpr[insn->reg] = s->u32[0] >> 31 | s->u32[1] >> 31 << 1 | s->u32[2] >> 31 << 2 |
		s->u32[3] >> 31 << 3;
	return true;
}

HK_INLINE bool movmskpd(struct hk_cpu *cpu, const struct hk_insn *insn)
{
	const union hk_xmm *s = &cpu->xmm[insn->base];

	if (!hk_sse_usable(cpu)) {
		return false;
	}
	cpu->gpr[insn->reg] = s->u64[0] >> 63 | s->u64[1] >> 63 << 1;
	return true;
}

HK_INLINE bool pmovmskb(struct hk_cpu *cpu, const struct hk_insn *insn)
{
	const union hk_xmm *s = &cpu->xmm[insn->base];

	if (!hk_sse_usable(cpu)) {
		return false;
	}
	cpu->gpr[insn->reg] = hk_sign_bits8(s->u64[0]) | hk_sign_bits8(s->u64[1]) << 8;
	return true;
}

HK_EXEC_HOT_BY(movmskps, movmskps(cpu, insn), hk_sse_ok(cpu))
HK_EXEC_HOT_BY(movmskpd, movmskpd(cpu, insn), hk_sse_ok(cpu))
HK_EXEC_HOT_BY(pmovmskb, pmovmskb(cpu, insn), hk_sse_ok(cpu))

HK_INLINE bool maskmovdqu(struct hk_cpu *cpu, const struct hk_insn *insn)
{
	const union hk_xmm *mask = &cpu->xmm[insn->base];

	return hk_sse_ok(cpu) &&
		hk_mask_store(cpu, insn, &cpu->xmm[insn->reg],
			hk_sign_bits8(mask->u64[0]) | hk_sign_bits8(mask->u64[1]) << 8, 16);
}

HK_EXEC_BY(maskmovdqu, maskmovdqu(cpu, insn))
