/* SPDX-License-Identifier: ISC */
/*
 * A decoded instruction: what the decoder gives, the code cache keeps and the interpreter runs.
 *
 * Straight-line code stands as an array of these; the one after insn is insn + 1. Everything an
 * instruction handler needs is here, so that no handler looks at the bytes again (x87 apart,
 * which notes its last opcode).
 *
 * Positions are relative: `off` counts from the first byte of the page of code the
 * instruction stands in, whose RIP is in cpu->gpr[HK_REG_PAGE] while it runs. So a page that is
 * mapped at several addresses is decoded once.
 */
#ifndef HK_ENGINE_SOFT_INSN_H
#define HK_ENGINE_SOFT_INSN_H

#include <assert.h>
#include <stdbool.h>
#include <stdint.h>

struct hk_cpu;
struct hk_insn;

/* A handler runs @insn and what follows. Return: NULL to leave to the run loop (see interp.h). */
typedef const struct hk_insn *hk_exec_fn(struct hk_cpu *cpu, const struct hk_insn *insn);

/* For the fast paths only. */
#define hk_likely(x)   __builtin_expect(!!(x), 1)
#define hk_unlikely(x) __builtin_expect(!!(x), 0)

enum { HK_MAX_INSN_LEN = 15 };

/* Register numbers beyond the 16 of the architecture, for addresses without base or index. */
enum {
	HK_REG_ZERO = 16, /* always 0 */
	HK_REG_PAGE = 17, /* RIP of the first byte of the page of code: base of RIP-relative */
	HK_REG_SLOTS = 20,
};

/* How code is decoded; from CS and EFER. */
enum hk_code_mode { HK_CODE_16, HK_CODE_32, HK_CODE_64, HK_CODE_MODE_COUNT };

/* Where the operands are. "rm" is the ModRM.rm operand: a register or, with HK_INSN_MEM, memory. */
enum hk_form {
	HK_FORM_RM_REG, /* destination rm, source reg (or CL, ...: what the row says) */
	HK_FORM_REG_RM, /* destination reg, source rm */
	HK_FORM_RM_IMM, /* destination rm, source imm */
	HK_FORM_RM,     /* rm alone, or no operand */
};

enum hk_rep { HK_REP_NONE, HK_REP_F3, HK_REP_F2 };

/* Bit fields of hk_insn.flags. */
enum {
	HK_INSN_SIZE = 3 << 0, /* log2 of the operand size in bytes: 0 to 3 */
	HK_INSN_ADDR = 3 << 2, /* log2 of the address size in bytes: 1 to 3 */
	HK_INSN_ADDR_SHIFT = 2,
	HK_INSN_SEG = 7 << 4, /* enum hk_seg of the memory operand, override applied */
	HK_INSN_SEG_SHIFT = 4,
	HK_INSN_SCALE = 3 << 7, /* index is shifted left by this */
	HK_INSN_SCALE_SHIFT = 7,
	HK_INSN_MEM = 1 << 9, /* rm is memory */
	HK_INSN_LOCK = 1 << 10,
	HK_INSN_REP = 3 << 11, /* enum hk_rep, where the prefix is no part of the opcode */
	HK_INSN_REP_SHIFT = 11,
	HK_INSN_FORM = 3 << 13, /* enum hk_form */
	HK_INSN_FORM_SHIFT = 13,
	HK_INSN_PLAIN = 1 << 15, /* memory operand at gpr[base] + (gpr[index] << scale) + disp,
	                               no segment base, 64-bit addressing */
};

/**
 * struct hk_insn - one instruction, 32 bytes
 * @exec: the handler
 * @imm: immediate, sign-extended where the instruction does that; the 64-bit address of a moffs
 *	operand; ENTER: size | level << 16; a far pointer: offset | selector << 32
 * @target: branches, once resolved: the decoded instruction they lead to; see code.h
 * @disp: displacement of the memory operand (RIP-relative: `off + len` is added already);
 *	of a relative branch the target's RIP minus gpr[HK_REG_PAGE]
 * @row: index of the row in the instruction table (isa.h)
 * @off: first byte, from the start of the page of code (can be negative: run.c, one-off)
 * @len: in bytes, prefixes included
 * @reg: ModRM.reg or the register in the opcode; the number 0 to 15, but of 8-bit general
 *	registers the byte's offset in cpu->gpr (AL 0, CL 8, AH 1, ...), see hk_gpr8()
 * @base: memory: register number of the base or HK_REG_ZERO or HK_REG_PAGE. Register operand:
 *	number of rm, as with @reg
 * @index: register number or HK_REG_ZERO
 * @aux: VEX.vvvv
 * @cond: condition code of Jcc, SETcc, CMOVcc: 0 to 15
 * @link_gen: branches out of their page: @target is good while this is cpu->code_gen
 */
struct hk_insn {
	hk_exec_fn *exec;
	union {
		uint64_t imm;
		const struct hk_insn *target;
	};
	int32_t disp;
	uint16_t row;
	int16_t off;
	union {
		struct {
			uint8_t reg;
			uint8_t base;
			uint8_t index;
			uint8_t aux;
		};
		uint32_t link_gen; /* relative branches have no registers */
	};
	uint16_t flags;
	uint8_t len;
	uint8_t cond;
};

static inline unsigned hk_insn_size(const struct hk_insn *insn) /* log2 of bytes */
{
	return insn->flags & HK_INSN_SIZE;
}

static inline unsigned hk_insn_bytes(const struct hk_insn *insn)
{
	return 1u << (insn->flags & HK_INSN_SIZE);
}

static inline unsigned hk_insn_addr_size(const struct hk_insn *insn) /* log2 of bytes */
{
	return (insn->flags & HK_INSN_ADDR) >> HK_INSN_ADDR_SHIFT;
}

static inline unsigned hk_insn_seg(const struct hk_insn *insn)
{
	return (insn->flags & HK_INSN_SEG) >> HK_INSN_SEG_SHIFT;
}

static inline unsigned hk_insn_scale(const struct hk_insn *insn)
{
	return (insn->flags & HK_INSN_SCALE) >> HK_INSN_SCALE_SHIFT;
}

static inline enum hk_rep hk_insn_rep(const struct hk_insn *insn)
{
	return (enum hk_rep)((insn->flags & HK_INSN_REP) >> HK_INSN_REP_SHIFT);
}

static inline enum hk_form hk_insn_form(const struct hk_insn *insn)
{
	return (enum hk_form)((insn->flags & HK_INSN_FORM) >> HK_INSN_FORM_SHIFT);
}

static inline bool hk_insn_mem(const struct hk_insn *insn)
{
	return (insn->flags & HK_INSN_MEM) != 0;
}

#endif
