/* SPDX-License-Identifier: ISC */
/* What the parts of the generator share: rows.c, setup.c, operands.c, gen.c. */
#ifndef HK_TESTS_ISA_GEN_IMPL_H
#define HK_TESTS_ISA_GEN_IMPL_H

#include <string.h>

#include "encode.h"
#include "gen.h"
#include "undefined.h"

/* What has to be prepared for, or what decides about flags. */
enum special {
	PLAIN,
	STRING,
	DIVIDE,
	SHIFT,
	ROTATE,
	ROTATE_CARRY,
	SHIFT_DOUBLE,
	BRANCH_RM,
	RETURN,
	RETURN_FAR,
	RETURN_INT,
	FAR_IMM,
	FAR_MEM,
	POP_FLAGS,
	SELECTOR, /* Ew is a selector */
	POP_SELECTOR,
	PUSH_SELECTOR,
	LOAD_FAR,
	INTERRUPT,
	ENTER,
	NO_COMPARE, /* last of its case, and results are not compared */
	NO_OPSIZE,
	RCP,
	INEXACT,
	SMALL_ARGUMENT, /* INEXACT, and ST(0) must be small */
	ANY_NAN,
	LONG,        /* a fault of its operand is at any part of it */
	MASKED_MOVE, /* bytes that are not stored may fault or not */
	MMX_MODE,    /* converts from MMX registers or memory */
	FRESH_X87,   /* stores what x87 instructions before it left: pointers, opcode */
	XSAVE,
};

/* A case sticks to one family half of the time, so that its instructions meet. */
enum family { INTEGER, MMX, SSE, X87, FAMILY_COUNT };

struct row {
	const char *excuse;
	enum special special;
	enum family family;
	struct isa_flags_rule flags;
	bool has_modrm;
	unsigned operand_count;
	struct hk_operand operands[HK_MAX_OPERANDS];
};

struct pool {
	uint16_t *rows;
	unsigned count;
};

struct isa_gen {
	struct isa_gen_options options;
	struct row *rows;
	struct pool pools[2][FAMILY_COUNT + 1]; /* by mode and family, the last one all */
	uint64_t surprises;
	/* Of the case that is being made */
	struct isa_random random;
	struct isa_case *c;
	uint16_t pointers; /* registers that hold addresses of data, as far as known */
	uint16_t small;    /* registers for indices */
	uint32_t undefined;
	bool branched;
	bool x87_used;
	bool over; /* nothing can come after the last instruction */
	struct fixup {
		uint16_t at;   /* in the code */
		uint16_t next; /* relative: to here */
		uint8_t insn;  /* the one after that which jumps */
		uint8_t len;
		bool relative, self;
	} fixups[2 * ISA_MAX_INSNS];
	unsigned fixup_count;
};

/* Is @name the first of the names of the row ("cbw|cwde|cdqe")? */
static inline bool isa_gen_is_called(const struct hk_isa_row *row, const char *name)
{
	size_t len = strlen(name);

	return strncmp(row->name, name, len) == 0 &&
		(row->name[len] == '\0' || row->name[len] == '|');
}

static inline bool gen_chance(struct isa_gen *gen, unsigned percent)
{
	return isa_chance(&gen->random, percent);
}

static inline unsigned gen_below(struct isa_gen *gen, unsigned n)
{
	return isa_below(&gen->random, n);
}

/* Setup: addresses, registers, instructions that prepare. setup.c */

/** isa_gen_aim() - an address to aim an operand of @size bytes at */
uint32_t isa_gen_aim(struct isa_gen *gen, unsigned size);

/** isa_gen_gpr() - a general register, mostly none that holds an address */
uint8_t isa_gen_gpr(struct isa_gen *gen);

/** isa_gen_reg_of() - a register of the set @of, or ISA_NO_REG */
uint8_t isa_gen_reg_of(struct isa_gen *gen, uint16_t of);

bool isa_gen_has_room(const struct isa_gen *gen, unsigned insns);

/** isa_gen_add() - add the bytes of one instruction. Return: where they stand in the code. */
unsigned isa_gen_add(
	struct isa_gen *gen, const uint8_t *bytes, unsigned len, unsigned row, bool setup);

/**
 * isa_gen_fix_later() - the number at @at of the code is to become the address of a later
 * instruction
 */
void isa_gen_fix_later(struct isa_gen *gen, unsigned at, unsigned len, bool relative);
void isa_gen_fix_all(struct isa_gen *gen);

/** isa_gen_uses_x87() - does it use x87 or MMX registers? */
bool isa_gen_uses_x87(const struct row *row);

/**
 * isa_gen_prepare() - add what has to come before an instruction of the row. Return: an address
 * that its memory operand is to have, or 0.
 */
uint32_t isa_gen_prepare(struct isa_gen *gen, unsigned index, struct isa_encoding *e);

/* Operands. operands.c */

/** isa_gen_form() - prefixes and registers. @ret_size: bytes of the memory operand, about. */
void isa_gen_form(struct isa_gen *gen, unsigned index, struct isa_encoding *e, unsigned *ret_size);
void isa_gen_immediate(struct isa_gen *gen, unsigned index, struct isa_encoding *e);

/** isa_gen_memory() - the memory operand: at @target, or at what is aimed at where that is 0 */
void isa_gen_memory(struct isa_gen *gen, struct isa_encoding *e, unsigned size, uint32_t target);

#endif
