/* SPDX-License-Identifier: ISC */
/*
 * The instruction table as the decoder wants it; between decode_tables.c, which makes it, and
 * decode.c.
 *
 * A row (isa.h) is boiled down to a "shape": a small record that says by number what the row says
 * by letter. Each opcode of each map has a list of its shapes, best first. What distinguishes the
 * rows of one opcode (mandatory prefix, mode, ModRM.reg, memory or register, VEX.W, ...) makes up a
 * key with one bit set in each category; a shape allows some bits of each. So choosing a row is one
 * AND for each candidate, and there is mostly one.
 */
#ifndef HK_ENGINE_SOFT_DECODE_TABLES_H
#define HK_ENGINE_SOFT_DECODE_TABLES_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "engine/soft/isa.h"

/* The key: one bit set in each category that the opcode has. */
enum {
	KEY_PP = 0,   /* NP, 66, F3, F2 */
	KEY_MODE = 4, /* enum hk_code_mode */
	KEY_W = 7,    /* REX.W or VEX.W */
	KEY_B = 9,    /* REX.B */
	KEY_L = 11,   /* VEX.L */
	KEY_MOD = 13, /* memory, register */
	KEY_REG = 15, /* ModRM.reg */
	KEY_BITS = 23,
};

enum reg_kind {
	REG_NONE,
	REG_GPR,
	REG_GPR8,
	REG_XMM,
	REG_LOW3, /* MMX: REX.R is ignored */
	REG_SREG,
	REG_SREG_LOAD, /* not CS */
	REG_CR,
	REG_DR,
	REG_FIXED,
};

enum rm_kind {
	RM_NONE,
	RM_GPR, /* these may be memory, too */
	RM_GPR8,
	RM_XMM,
	RM_LOW3,   /* MMX, ST(i) */
	RM_OPCODE, /* in the opcode */
	RM_OPCODE8,
	RM_FIXED,
	RM_MOFFS,
};

enum imm_kind {
	IMM_NONE,
	IMM_B,
	IMM_B_SIGNED,
	IMM_W,
	IMM_Z,
	IMM_V,
	IMM_ENTER,
	IMM_REL_B,
	IMM_REL_Z,
	IMM_FAR,
	IMM_ONE,
};

/* How HK_INSN_SIZE comes about; below these: that size. */
enum { SIZE_V = 4, SIZE_Z, SIZE_Y };

struct hk_shape {
	uint32_t allow; /* bits of the key */
	uint16_t row;
	uint16_t row_flags; /* HK_ROW_* */
	uint16_t form;      /* in place for hk_insn.flags */
	uint16_t byte;      /* the whole ModRM byte, or ANY_BYTE */
	uint8_t feature;
	uint8_t size;
	uint8_t size_class; /* 0, D64: 1, F64: 2 */
	uint8_t reg, reg_fixed;
	uint8_t rm, rm_fixed;
	uint8_t imm;
	uint8_t rank;     /* among the candidates of an opcode, best first */
	uint8_t far_seg;  /* LES and its like */
	bool mod_ignored; /* MOV of control registers: always a register */
	bool vvvv;        /* VEX.vvvv is an operand, else it has to be 1111 */
};

enum { ANY_BYTE = 0x100 };

#define ROW(map, pp, op, ext, name, operands, handler, feature, flags) +1
enum {
	ROWS = 0
#include "engine/soft/isa/all.def"
	,
	MAX_CANDIDATES = 4096,
};
#undef ROW

struct hk_opcode {
	uint16_t first; /* in candidates */
	uint8_t count;  /* 0: no such instruction */
	bool modrm;
};

enum { TABLES_NONE, TABLES_IN_WORK, TABLES_READY };

/* Constant once state is TABLES_READY */
struct hk_decode_tables {
	_Atomic int state;
	struct hk_opcode opcodes[HK_MAP_COUNT][256];
	uint16_t candidates[MAX_CANDIDATES]; /* indexes of shapes */
	struct hk_shape shapes[ROWS];
};

extern struct hk_decode_tables hk_decode_tables;

#endif
