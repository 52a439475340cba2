/* SPDX-License-Identifier: ISC */
/*
 * The instruction table: one row for each form of each instruction that this CPU has.
 *
 * The rows stand in isa/ *.def, one file a family; every user includes them with its own ROW():
 *
 *	ROW(map, pp, op, ext, name, operands, handler, feature, flags)
 *
 * map		L (one byte), 0F, 0F38, 0F3A; V1, V2, V3: VEX-encoded 0F, 0F38, 0F3A
 * pp		ANY: 66 is an operand size, F2 and F3 are REP; NP, 66, F3, F2: part of the opcode (NP: none of
 *		them). Rows with a named prefix win over ANY.
 * op		opcode byte; with operand Z (register in the opcode) or flag CC (condition) the first of 8 or 16
 * ext		EXT_ANY; EXT(n): ModRM.reg is n; EXT_MEM, EXT_REG: mod is not or is 3; EXT_MEM_N(n),
 *		EXT_REG_N(n): both; EXT_BYTE(b): the whole ModRM byte
 * name		mnemonic in lower case, as disassembled (a condition is appended). "a|b|c": by operand size
 *		16, 32, 64 (JCXZ: by address size)
 * operands	destination first, comma-separated, letters as in Intel SDM vol. 2, appendix A:
 *		E ModRM.rm general register or memory, G ModRM.reg, R rm register only, M memory only,
 *		I immediate, J relative branch, A far pointer, O moffs, S segment register (reg), C/D control/debug
 *		register (reg), Z register in the opcode, B VEX.vvvv general register, X/Y string operands,
 *		V xmm (reg), W xmm (rm) or memory, U xmm (rm) register only, P mmx (reg), Q mmx (rm) or
 *		memory, N mmx (rm) register only, T ST(rm); sizes
 *		b 1, w 2, d 4, q 8, x 16 bytes, v operand size, z operand size but at most 4, y 4 or 8 bytes (by REX.W),
 *		p far pointer, s descriptor-table register, t 10 bytes, other structures none;
 *		Ibs is a sign-extended byte; fixed registers by name (al, cl, ax, dx, es, st, xmm0; eAX at most 4
 *		bytes, rAX operand size), or the number 1. M implies EXT_MEM; R, U, N and T imply EXT_REG
 *		(but with C or D ModRM.mod does not matter). A register operand of size b is a byte
 *		register (AH!): where it is the low byte of a wider one, say d in a row for registers
 * handler	hk_x_<handler>
 * feature	HK_FEAT_<feature>: the row exists where the CPU has it
 * flags	HK_ROW_* or'ed, or 0
 *
 * From the operands follows the normal form of the decoded instruction (enum hk_form): E,G is
 * RM_REG; G,E is REG_RM; E,I is RM_IMM; so al,Ib is RM_IMM with rm = AL, and Zv,Iv is RM_IMM with
 * rm = that register. Shifts by CL are RM_REG with reg = CL, shifts by one RM_IMM with imm = 1.
 * G,E,I is REG_RM with imm. XCHG rAX,Zv is RM_REG. Z alone (PUSH, POP, INC, BSWAP) is RM. I alone
 * is in imm. Three-operand VEX forms keep vvvv in aux. IN/OUT: size from the operand, port in imm,
 * or DX where flag DX stands. Fixed segment registers are numbers in reg (PUSH ES); of LES and its
 * like in cond.
 *
 * HK_INSN_SIZE is the operand size where an operand is v; else the size of the general register or
 * memory operand in rm (E, M, R), of the next best of that kind (G, Z, B, O, X, Y, al, ...); else
 * the operand size again. Where that is more than 8 bytes: the operand size. HK_INSN_REP is set
 * only in rows with flag REP. 66 with pp 66 still makes v two bytes.
 */
#ifndef HK_ENGINE_SOFT_ISA_H
#define HK_ENGINE_SOFT_ISA_H

#include "engine/soft/insn.h"

enum hk_map {
	HK_MAP_L,
	HK_MAP_0F,
	HK_MAP_0F38,
	HK_MAP_0F3A,
	HK_MAP_V1,
	HK_MAP_V2,
	HK_MAP_V3,
	HK_MAP_COUNT,
};

enum hk_pp { HK_PP_ANY, HK_PP_NP, HK_PP_66, HK_PP_F3, HK_PP_F2 };

/* hk_isa_row.ext */
enum {
	EXT_ANY = 0,
	EXT_MEM = 1 << 4,
	EXT_REG = 2 << 4,
	EXT_HAS_N = 1 << 3,
	EXT_HAS_BYTE = 1 << 6,
};
#define EXT(n)       (EXT_HAS_N | (n))
#define EXT_MEM_N(n) (EXT_MEM | EXT_HAS_N | (n))
#define EXT_REG_N(n) (EXT_REG | EXT_HAS_N | (n))
#define EXT_BYTE(b)  (EXT_HAS_BYTE | (b) << 8)

enum {
	HK_ROW_I64 = 1 << 0,  /* #UD in 64-bit mode */
	HK_ROW_O64 = 1 << 1,  /* only in 64-bit mode */
	HK_ROW_D64 = 1 << 2,  /* operand size in 64-bit mode: 64, or 16 with 66 */
	HK_ROW_F64 = 1 << 3,  /* operand size in 64-bit mode: always 64 */
	HK_ROW_LOCK = 1 << 4, /* LOCK is allowed (with a memory destination) */
	HK_ROW_CC = 1 << 5,   /* 16 opcodes, the low bits are the condition */
	HK_ROW_BRANCH =
		1 << 6, /* ends straight-line code: never falls through to insn + 1 by HK_NEXT */
	HK_ROW_LAST =
		1 << 7, /* the same for other reasons: always ends with hk_leave() or a fault */
	HK_ROW_REP = 1 << 8,     /* REP, REPE, REPNE mean something */
	HK_ROW_DX = 1 << 9,      /* port in DX */
	HK_ROW_W0 = 1 << 10,     /* REX.W or VEX.W clear */
	HK_ROW_W1 = 1 << 11,     /* REX.W or VEX.W set */
	HK_ROW_PRIV = 1 << 12,   /* #GP(0) unless CPL is 0: checked by the handler; for tests */
	HK_ROW_IMM8_2 = 1 << 13, /* a second immediate byte (ENTER) */
	HK_ROW_L0 = 1 << 14,     /* VEX.L must be 0 */
	HK_ROW_B0 = 1 << 15,     /* REX.B clear: 90 is NOP, 41 90 is XCHG */
};

/* What a CPU can be asked to have or not to have. */
enum hk_feature {
	HK_FEAT_BASE, /* all of hako-v2 */
	HK_FEAT_FSGSBASE,
	HK_FEAT_SMEP,
	HK_FEAT_SMAP,
	HK_FEAT_UMIP,
	HK_FEAT_PCID,
	HK_FEAT_INVPCID,
	HK_FEAT_ERMS,
	HK_FEAT_FSRM,
	HK_FEAT_RDRAND,
	HK_FEAT_RDSEED,
	HK_FEAT_MOVBE,
	HK_FEAT_BMI1,
	HK_FEAT_BMI2,
	HK_FEAT_LZCNT,
	HK_FEAT_ADX,
	HK_FEAT_SHA,
	HK_FEAT_COUNT,
};

/* The kinds of an operand; enum hk_operand.what */
enum hk_operand_what {
	HK_OPERAND_NONE,
	HK_OPERAND_GPR, /* general register */
	HK_OPERAND_RM,  /* general register or memory */
	HK_OPERAND_MEM, /* memory only */
	HK_OPERAND_IMM,
	HK_OPERAND_REL,
	HK_OPERAND_FAR,
	HK_OPERAND_MOFFS,
	HK_OPERAND_SREG,
	HK_OPERAND_CR,
	HK_OPERAND_DR,
	HK_OPERAND_STRING, /* DS:rSI or ES:rDI */
	HK_OPERAND_XMM,
	HK_OPERAND_XMM_RM,
	HK_OPERAND_MMX,
	HK_OPERAND_MMX_RM,
	HK_OPERAND_ST,
	HK_OPERAND_FIXED, /* a register or number that the opcode implies */
};

enum { HK_MAX_OPERANDS = 4 };

/** struct hk_operand - one letter group of a row's operands */
struct hk_operand {
	uint8_t what; /* enum hk_operand_what */
	char place; /* the letter: E, G, Z, B, ...; FIXED: r general, s segment, x xmm, t ST, 1 number */
	char size;          /* the size letter, or 0 */
	uint8_t fixed;      /* FIXED: register number, or the number */
	bool sign_extended; /* IMM: a byte, extended to the operand size */
};

struct hk_isa_row {
	const char *name;
	const char *operands;
	uint8_t map, pp, op;
	uint16_t ext;
	uint8_t feature;
	uint16_t flags;
};

extern const struct hk_isa_row hk_isa[];
extern const unsigned hk_isa_count;

/**
 * hk_isa_operands() - the operands of a row, taken apart. Return: how many; one beyond
 * HK_MAX_OPERANDS where the row is not well written (a unit test looks).
 */
unsigned hk_isa_operands(const struct hk_isa_row *row, struct hk_operand ret[HK_MAX_OPERANDS]);

/** hk_isa_exec() - the handler of a row, exec/handlers.c */
hk_exec_fn *hk_isa_exec(unsigned row);

#endif
