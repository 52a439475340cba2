/* SPDX-License-Identifier: ISC */
/*
 * Shuffles, blends, widening moves and single elements of XMM registers.
 *
 * Source: Intel SDM vol. 2, "Operation" of each instruction.
 */
#define HK_TAIL_CALLER
#include "engine/soft/exec/packed.h"

#define BINARY(op)     HK_SSE_BINARY(op, op)
#define BINARY_IMM(op) HK_SSE_BINARY_IMM(op, op)

/* Shuffles */

HK_INLINE void punpcklqdq(union hk_xmm *d, const union hk_xmm *s, unsigned bytes)
{
	d->u64[1] = s->u64[0];
}

HK_INLINE void punpckhqdq(union hk_xmm *d, const union hk_xmm *s, unsigned bytes)
{
	d->u64[0] = d->u64[1];
	d->u64[1] = s->u64[1];
}

BINARY(punpcklqdq)
BINARY(punpckhqdq)

HK_INLINE void pshufd(union hk_xmm *d, const union hk_xmm *s, unsigned imm, unsigned bytes)
{
	for (unsigned i = 0; i < 4; i++) {
		d->u32[i] = s->u32[imm >> 2 * i & 3];
	}
}

HK_INLINE void pshuflw(union hk_xmm *d, const union hk_xmm *s, unsigned imm, unsigned bytes)
{
	for (unsigned i = 0; i < 4; i++) {
		d->u16[i] = s->u16[imm >> 2 * i & 3];
	}
	d->u64[1] = s->u64[1];
}

HK_INLINE void pshufhw(union hk_xmm *d, const union hk_xmm *s, unsigned imm, unsigned bytes)
{
	for (unsigned i = 0; i < 4; i++) {
		d->u16[4 + i] = s->u16[4 + (imm >> 2 * i & 3)];
	}
	d->u64[0] = s->u64[0];
}

BINARY_IMM(pshufd)
BINARY_IMM(pshuflw)
BINARY_IMM(pshufhw)

/* The low half comes from the destination, the high one from the source. */
HK_INLINE void shufps(union hk_xmm *d, const union hk_xmm *s, unsigned imm, unsigned bytes)
{
	*d = (union hk_xmm){.u32 = {d->u32[imm & 3], d->u32[imm >> 2 & 3], s->u32[imm >> 4 & 3],
				    s->u32[imm >> 6]}};
}

HK_INLINE void shufpd(union hk_xmm *d, const union hk_xmm *s, unsigned imm, unsigned bytes)
{
	*d = (union hk_xmm){.u64 = {d->u64[imm & 1], s->u64[imm >> 1 & 1]}};
}

BINARY_IMM(shufps)
BINARY_IMM(shufpd)

/* Blends: the source's element where its bit is set */

#define BLEND_IMM(name, type) \
	HK_INLINE void name(union hk_xmm *d, const union hk_xmm *s, unsigned imm, unsigned bytes) \
	{ \
		for (unsigned i = 0; i < HK_LANES(bytes, type); i++) { \
			d->type[i] = (imm >> i & 1) != 0 ? s->type[i] : d->type[i]; \
		} \
	} \
	BINARY_IMM(name)

BLEND_IMM(blendps, u32)
BLEND_IMM(blendpd, u64)
BLEND_IMM(pblendw, u16)

/* The bit is the sign of the element in XMM0. */
#define BLEND_XMM0(name, type) \
	HK_INLINE bool name(struct hk_cpu *cpu, const struct hk_insn *insn) \
	{ \
		const union hk_xmm mask = cpu->xmm[0]; \
		union hk_xmm *d = &cpu->xmm[insn->reg]; \
		union hk_xmm s; \
\
		if (!hk_sse_ok(cpu) || !hk_sse_rm(cpu, insn, &s)) { \
			return false; \
		} \
		for (unsigned i = 0; i < HK_LANES(16, type); i++) { \
			d->type[i] = mask.type[i] < 0 ? s.type[i] : d->type[i]; \
		} \
		return true; \
	} \
	HK_EXEC_BY(name, name(cpu, insn))

BLEND_XMM0(pblendvb, s8)
BLEND_XMM0(blendvps, s32)
BLEND_XMM0(blendvpd, s64)

/* Widening: just as many bytes are read as there are elements to widen */

#define WIDEN(name, from, to, len) \
	HK_INLINE bool name(struct hk_cpu *cpu, const struct hk_insn *insn) \
	{ \
		union hk_xmm s, r; \
\
		if (!hk_sse_ok(cpu) || !low_rm(cpu, insn, len, &s)) { \
			return false; \
		} \
		for (unsigned i = 0; i < HK_LANES(16, to); i++) { \
			r.to[i] = s.from[i]; \
		} \
		cpu->xmm[insn->reg] = r; \
		return true; \
	} \
	HK_EXEC_BY(name, name(cpu, insn))

/* The low @len (2, 4 or 8) bytes of the rm operand, without a need for alignment. */
HK_INLINE bool low_rm(
	struct hk_cpu *cpu, const struct hk_insn *insn, unsigned len, union hk_xmm *ret)
{
	uint64_t va;

	if (!hk_insn_mem(insn)) {
		*ret = cpu->xmm[insn->base];
		return true;
	}
	return hk_mem_va(cpu, insn, len, HK_ACCESS_READ, &va) &&
		hk_va_load(cpu, va,
			len == 2           ? 1
				: len == 4 ? 2
					   : 3,
			&ret->u64[0]);
}

WIDEN(pmovsxbw, s8, s16, 8)
WIDEN(pmovsxbd, s8, s32, 4)
WIDEN(pmovsxbq, s8, s64, 2)
WIDEN(pmovsxwd, s16, s32, 8)
WIDEN(pmovsxwq, s16, s64, 4)
WIDEN(pmovsxdq, s32, s64, 8)
WIDEN(pmovzxbw, u8, u16, 8)
WIDEN(pmovzxbd, u8, u32, 4)
WIDEN(pmovzxbq, u8, u64, 2)
WIDEN(pmovzxwd, u16, u32, 8)
WIDEN(pmovzxwq, u16, u64, 4)
WIDEN(pmovzxdq, u32, u64, 8)

/* Single elements: @size is log2 of bytes; the index is the low bits of the immediate */

#define INSERT(name, type, size) \
	HK_INLINE bool name(struct hk_cpu *cpu, const struct hk_insn *insn) \
	{ \
		uint64_t value; \
\
		/* A register's byte is its low one, never AH. */ \
		if (!hk_sse_ok(cpu) || \
			!hk_rm_get(cpu, insn, hk_insn_mem(insn) || (size) > 2 ? (size) : 2, \
				&value)) { \
			return false; \
		} \
		cpu->xmm[insn->reg].type[insn->imm & (HK_LANES(16, type) - 1)] = \
			(__typeof__(cpu->xmm[0].type[0]))value; \
		return true; \
	} \
	HK_EXEC_BY(name, name(cpu, insn))

INSERT(pinsrb, u8, 0)
INSERT(pinsrw, u16, 1)
INSERT(pinsrd, u32, 2)
INSERT(pinsrq, u64, 3)

/* To rm; a register gets at least 4 bytes, zero-extended. */
#define EXTRACT(name, type, size) \
	HK_INLINE bool name(struct hk_cpu *cpu, const struct hk_insn *insn) \
	{ \
		return hk_sse_ok(cpu) && \
			hk_rm_set(cpu, insn, hk_insn_mem(insn) || (size) > 2 ? (size) : 2, \
				cpu->xmm[insn->reg].type[insn->imm & (HK_LANES(16, type) - 1)]); \
	} \
	HK_EXEC_BY(name, name(cpu, insn))

EXTRACT(pextrb_rm, u8, 0)
EXTRACT(pextrw_rm, u16, 1)
EXTRACT(pextrd, u32, 2) /* EXTRACTPS, too */
EXTRACT(pextrq, u64, 3)

/* The older PEXTRW: a register to a register. */
HK_INLINE bool pextrw(struct hk_cpu *cpu, const struct hk_insn *insn)
{
	if (!hk_sse_ok(cpu)) {
		return false;
	}
	cpu->gpr[insn->reg] = cpu->xmm[insn->base].u16[insn->imm & 7];
	return true;
}

HK_EXEC_BY(pextrw, pextrw(cpu, insn))

/*
 * Immediate: source element (of a register) in bits 7-6, destination element in 5-4, elements to
 * clear in 3-0.
 */
HK_INLINE bool insertps(struct hk_cpu *cpu, const struct hk_insn *insn)
{
	const unsigned imm = (uint8_t)insn->imm;
	union hk_xmm *d = &cpu->xmm[insn->reg];
	union hk_xmm s;

	if (!hk_sse_ok(cpu) || !low_rm(cpu, insn, 4, &s)) {
		return false;
	}
	d->u32[imm >> 4 & 3] = s.u32[hk_insn_mem(insn) ? 0 : imm >> 6];
	for (unsigned i = 0; i < 4; i++) {
		d->u32[i] = (imm >> i & 1) != 0 ? 0 : d->u32[i];
	}
	return true;
}

HK_EXEC_BY(insertps, insertps(cpu, insn))
