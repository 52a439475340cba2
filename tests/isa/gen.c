/* SPDX-License-Identifier: ISC */
/*
 * The generator of test cases.
 *
 * Purpose: sequences of instructions over every row of the instruction table and every form of its
 * operands, most of which do something: a random program would fault at its first memory operand.
 *
 * Theory: some registers hold addresses within the data pages from the start and are rarely
 * destroyed ("pointers"), so memory operands can be aimed: at aligned and unaligned places, across pages, at
 * the read-only page and beyond it. Instructions that need more (a jump's target, a divisor that does not
 * overflow, a selector) get a few instructions before them that prepare it ("setup"), which are tested like
 * all others. Branches lead forward, so nearly every case ends.
 *
 * Everything follows from the seed and the number of the case.
 *
 * Limits: what user code may not do or what no two CPUs do alike is listed in excuses[], with the reason.
 */
#include "gen.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/util.h"
#include "encode.h"
#include "engine/soft/decode.h"
#include "undefined.h"

enum { SHOW_SURPRISES = 20 };

/* Rows that are not run, by mnemonic. */
static const struct excuse {
	const char *name, *reason;
} excuses[] = {
	{"cpuid", "each CPU has its own answers"},
	{"rdpmc", "whether user code may is the kernel's choice"},
	{"sgdt", "UMIP: kernels emulate it"},
	{"sidt", "UMIP: kernels emulate it"},
	{"sldt", "UMIP: kernels emulate it"},
	{"str", "UMIP: kernels emulate it"},
	{"smsw", "UMIP: kernels emulate it"},
	{"syscall", "would be a system call"},
	{"sysenter", "would be a system call"},
	{"vmcall", "would be a hypercall"},
	{"vmmcall", "would be a hypercall"},
	{"monitor", "differs between makers in user mode"},
	{"mwait", "differs between makers in user mode"},
};

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

static const struct {
	const char *name;
	enum special special;
} specials[] = {
	{"movsb", STRING},
	{"movsw", STRING},
	{"cmpsb", STRING},
	{"cmpsw", STRING},
	{"stosb", STRING},
	{"stosw", STRING},
	{"lodsb", STRING},
	{"lodsw", STRING},
	{"scasb", STRING},
	{"scasw", STRING},
	{"div", DIVIDE},
	{"idiv", DIVIDE},
	{"shl", SHIFT},
	{"shr", SHIFT},
	{"sar", SHIFT},
	{"rol", ROTATE},
	{"ror", ROTATE},
	{"rcl", ROTATE_CARRY},
	{"rcr", ROTATE_CARRY},
	{"shld", SHIFT_DOUBLE},
	{"shrd", SHIFT_DOUBLE},
	{"ret", RETURN},
	{"retf", RETURN_FAR},
	{"iretw", RETURN_INT},
	{"popfw", POP_FLAGS},
	{"lar", SELECTOR},
	{"lsl", SELECTOR},
	{"verr", SELECTOR},
	{"verw", SELECTOR},
	{"les", LOAD_FAR},
	{"lds", LOAD_FAR},
	{"lss", LOAD_FAR},
	{"lfs", LOAD_FAR},
	{"lgs", LOAD_FAR},
	{"int", INTERRUPT},
	{"enter", ENTER},
	{"rdtsc", NO_COMPARE},
	{"rdtscp", NO_COMPARE},
	{"rdpid", NO_COMPARE},
	{"rdrand", NO_COMPARE},
	{"rdseed", NO_COMPARE},
	{"xgetbv", NO_COMPARE},
	{"bswap", NO_OPSIZE},
	{"rcpps", RCP},
	{"rcpss", RCP},
	{"rsqrtps", RCP},
	{"rsqrtss", RCP},
	{"f2xm1", SMALL_ARGUMENT},
	{"fcos", INEXACT},
	{"fpatan", INEXACT},
	{"fptan", INEXACT},
	{"fsin", INEXACT},
	{"fsincos", INEXACT},
	{"fyl2x", INEXACT},
	{"fyl2xp1", SMALL_ARGUMENT},
	{"dpps", ANY_NAN},
	{"dppd", ANY_NAN},
	{"maskmovq", MASKED_MOVE},
	{"maskmovdqu", MASKED_MOVE},
	{"fbstp", LONG},
	{"cvtpi2ps", MMX_MODE},
	{"cvtpi2pd", MMX_MODE},
	{"fldenv", FRESH_X87},
	{"fnstenv", FRESH_X87},
	{"fnsave", FRESH_X87},
	{"frstor", FRESH_X87},
	{"fxsave", FRESH_X87},
	{"fxsave64", FRESH_X87},
	{"fxrstor", FRESH_X87},
	{"fxrstor64", FRESH_X87},
	{"xsave", XSAVE},
	{"xsave64", XSAVE},
	{"xsaveopt", XSAVE},
	{"xsaveopt64", XSAVE},
	{"xrstor", XSAVE},
	{"xrstor64", XSAVE},
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

/* ---- Rows ---- */

/* Is @name the first of the names of the row ("cbw|cwde|cdqe")? */
static bool is_called(const struct hk_isa_row *row, const char *name)
{
	size_t len = strlen(name);

	return strncmp(row->name, name, len) == 0 &&
		(row->name[len] == '\0' || row->name[len] == '|');
}

static const char *find_excuse(const struct isa_gen *gen, const struct hk_isa_row *row)
{
	for (unsigned i = 0; i < HK_ARRAY_SIZE(excuses); i++) {
		if (is_called(row, excuses[i].name)) {
			return excuses[i].reason;
		}
	}
	if ((gen->options.features >> row->feature & 1) == 0) {
		return row->feature == HK_FEAT_SMAP || row->feature == HK_FEAT_INVPCID
			? "of the system"
			: "this host does not have it";
	}
	if ((row->flags & HK_ROW_I64) != 0 && !gen->options.code32) {
		return "this host does not run 32-bit code";
	}
	if (!gen->options.fsgsbase && strpbrk(row->operands, "S") != NULL) {
		return "without FSGSBASE, FS is the C library's";
	}
	if (!gen->options.fsgsbase &&
		(strcmp(row->operands, "fs") == 0 || strcmp(row->operands, "gs") == 0 ||
			is_called(row, "lfs") || is_called(row, "lgs"))) {
		return "without FSGSBASE, FS is the C library's";
	}
	return NULL;
}

static enum special find_special(const struct hk_isa_row *row)
{
	for (unsigned i = 0; i < HK_ARRAY_SIZE(specials); i++) {
		if (is_called(row, specials[i].name)) {
			return specials[i].special;
		}
	}
	if (row->map == HK_MAP_L && row->op == 0xff) {
		unsigned ext = row->ext & 7;

		return ext == 2 || ext == 4 ? BRANCH_RM : ext == 3 || ext == 5 ? FAR_MEM : PLAIN;
	}
	if (strcmp(row->operands, "Ap") == 0) {
		return FAR_IMM;
	}
	if (strcmp(row->operands, "Sw,Ew") == 0) {
		return SELECTOR;
	}
	if (strcmp(row->operands, "Mt") == 0) {
		return LONG;
	}
	if (strcmp(row->name, "pop") == 0 && strlen(row->operands) == 2 &&
		row->operands[1] == 's') {
		return POP_SELECTOR;
	}
	return PLAIN;
}

static void describe(struct isa_gen *gen, unsigned index)
{
	const struct hk_isa_row *isa = &hk_isa[index];
	struct row *row = &gen->rows[index];

	row->operand_count = hk_isa_operands(isa, row->operands);
	row->excuse = row->operand_count > HK_MAX_OPERANDS ? "its operands cannot be read"
							   : find_excuse(gen, isa);
	row->special = find_special(isa);
	row->has_modrm = isa->ext != EXT_ANY;
	row->family = isa->map == HK_MAP_L && isa->op >= 0xd8 && isa->op <= 0xdf ? X87 : INTEGER;
	for (unsigned i = 0; i < row->operand_count && i < HK_MAX_OPERANDS; i++) {
		char place = row->operands[i].place;

		if (strchr("EGRMSCDVWUPQNT", place) != NULL) {
			row->has_modrm = true;
		}
		if (strchr("PQN", place) != NULL) {
			row->family = MMX;
		} else if (strchr("VWU", place) != NULL && row->family != MMX) {
			row->family = SSE;
		}
	}
	for (unsigned i = 0; i < HK_ARRAY_SIZE(isa_flags_rules); i++) {
		if (is_called(isa, isa_flags_rules[i].name)) {
			row->flags = isa_flags_rules[i];
		}
	}
}

static bool fits_mode(const struct hk_isa_row *row, bool code64)
{
	return (row->flags & (code64 ? HK_ROW_I64 : HK_ROW_O64)) == 0 &&
		(code64 || row->map == HK_MAP_L || row->map >= HK_MAP_V1 ||
			(row->flags & HK_ROW_W1) == 0);
}

static bool fill_pools(struct isa_gen *gen)
{
	const char *only = gen->options.only;

	for (unsigned mode = 0; mode < 2; mode++) {
		for (unsigned family = 0; family <= FAMILY_COUNT; family++) {
			struct pool *pool = &gen->pools[mode][family];

			pool->rows = calloc(hk_isa_count + 1, sizeof(*pool->rows));
			if (pool->rows == NULL) {
				return false;
			}
			for (unsigned i = 0; i < hk_isa_count; i++) {
				const struct row *row = &gen->rows[i];

				if (row->excuse == NULL && fits_mode(&hk_isa[i], mode == 0) &&
					(family == FAMILY_COUNT || row->family == family) &&
					(only == NULL || is_called(&hk_isa[i], only))) {
					pool->rows[pool->count++] = (uint16_t)i;
				}
			}
		}
	}
	return gen->pools[0][FAMILY_COUNT].count + gen->pools[1][FAMILY_COUNT].count > 0;
}

struct isa_gen *isa_gen_create(const struct isa_gen_options *options)
{
	struct isa_gen *gen = calloc(1, sizeof(*gen));

	if (gen == NULL) {
		return NULL;
	}
	gen->options = *options;
	gen->rows = calloc(hk_isa_count, sizeof(*gen->rows));
	for (unsigned i = 0; gen->rows != NULL && i < hk_isa_count; i++) {
		describe(gen, i);
	}
	if (gen->rows == NULL || !fill_pools(gen)) {
		isa_gen_destroy(gen);
		return NULL;
	}
	return gen;
}

void isa_gen_destroy(struct isa_gen *gen)
{
	if (gen == NULL) {
		return;
	}
	for (unsigned mode = 0; mode < 2; mode++) {
		for (unsigned family = 0; family <= FAMILY_COUNT; family++) {
			free(gen->pools[mode][family].rows);
		}
	}
	free(gen->rows);
	free(gen);
}

const char *isa_gen_excuse(const struct isa_gen *gen, unsigned row)
{
	return gen->rows[row].excuse;
}

uint64_t isa_gen_surprises(const struct isa_gen *gen)
{
	return gen->surprises;
}

/* ---- Chance ---- */

static bool chance(struct isa_gen *gen, unsigned percent)
{
	return isa_chance(&gen->random, percent);
}

static unsigned below(struct isa_gen *gen, unsigned n)
{
	return isa_below(&gen->random, n);
}

/* An address to aim an operand of @size bytes at. */
static uint32_t aim(struct isa_gen *gen, unsigned size)
{
	unsigned kind = below(gen, 100);

	if (kind < 55) { /* 64 bytes are a cache line; what is aligned to them suits XSAVE, too */
		return (uint32_t)ISA_DATA +
			(below(gen, ISA_DATA_BYTES - 1024) & (chance(gen, 50) ? ~63u : ~15u));
	}
	if (kind < 75) {
		return (uint32_t)ISA_DATA + below(gen, ISA_DATA_BYTES - 1024);
	}
	if (kind < 82) { /* across two pages */
		return (uint32_t)ISA_DATA + ISA_PAGE - below(gen, size + 1);
	}
	if (kind < 88) {
		return (uint32_t)ISA_CONST + (below(gen, ISA_PAGE - 1024) & ~15u);
	}
	if (kind < 93) {
		return (uint32_t)ISA_CONST - below(gen, size + 1);
	}
	if (kind < 98) {
		return (uint32_t)ISA_DATA_END - below(gen, size + 1);
	}
	return (uint32_t)ISA_DATA - below(gen, size + 1);
}

/* A general register, mostly none that holds an address. */
static uint8_t pick_gpr(struct isa_gen *gen)
{
	unsigned count = gen->c->code32 ? 8 : 16;
	unsigned reg = below(gen, count);

	for (unsigned tries = 0; tries < 3 && (gen->pointers >> reg & 1) != 0; tries++) {
		reg = below(gen, count);
	}
	if (reg == HK_RSP && !chance(gen, 10)) {
		reg = below(gen, count);
	}
	return (uint8_t)reg;
}

/* A register of the set @of, or ISA_NO_REG. */
static uint8_t pick_of(struct isa_gen *gen, uint16_t of)
{
	unsigned start = below(gen, 16);

	for (unsigned i = 0; i < 16; i++) {
		unsigned reg = (start + i) % 16;

		if ((of >> reg & 1) != 0) {
			return (uint8_t)reg;
		}
	}
	return ISA_NO_REG;
}

/* ---- Adding instructions ---- */

static bool has_room(const struct isa_gen *gen, unsigned insns)
{
	return gen->c->insn_count + insns <= ISA_MAX_INSNS;
}

/* Adds the bytes of one instruction. Return: where they stand in the code. */
static unsigned add_bytes(
	struct isa_gen *gen, const uint8_t *bytes, unsigned len, unsigned row, bool setup)
{
	struct isa_case *c = gen->c;
	unsigned off = c->len;

	memcpy(c->code + off, bytes, len);
	c->insns[c->insn_count++] = (struct isa_insn){.off = (uint16_t)off,
		.row = (uint16_t)row,
		.undefined = gen->undefined,
		.setup = setup};
	c->len = (uint16_t)(off + len);
	return off;
}

/* Setup is made of bytes; the decoder finds its row. */
static unsigned add_setup(struct isa_gen *gen, const uint8_t *bytes, unsigned len)
{
	struct hk_insn insn = {.row = 0};

	if (hk_decode(bytes, len, gen->c->code32 ? HK_CODE_32 : HK_CODE_64, gen->options.features,
		    0, &insn) != HK_DECODE_OK ||
		insn.len != len) {
		gen->surprises++;
	}
	return add_bytes(gen, bytes, len, insn.row, true);
}

static void put32(uint8_t *p, uint32_t v)
{
	memcpy(p, &v, 4);
}

static unsigned setup_mov(struct isa_gen *gen, unsigned reg, uint32_t value)
{
	uint8_t bytes[5] = {(uint8_t)(0xb8 + (reg & 7))};

	put32(bytes + 1, value);
	gen->pointers &= (uint16_t) ~(1u << reg);
	return add_setup(gen, bytes, 5);
}

static unsigned setup_push(struct isa_gen *gen, uint32_t value)
{
	uint8_t bytes[5] = {0x68};

	put32(bytes + 1, value);
	return add_setup(gen, bytes, 5);
}

/* MOV dword [address], value */
static unsigned setup_store(struct isa_gen *gen, uint32_t address, uint32_t value)
{
	uint8_t bytes[11] = {0xc7, 0x04, 0x25};

	if (gen->c->code32) {
		bytes[1] = 0x05;
		put32(bytes + 2, address);
		put32(bytes + 6, value);
		return add_setup(gen, bytes, 10);
	}
	put32(bytes + 3, address);
	put32(bytes + 7, value);
	return add_setup(gen, bytes, 11);
}

/* The number at @at of the code is to become the address of one of the next instructions. */
static void fix_later(struct isa_gen *gen, unsigned at, unsigned len, bool relative)
{
	if (gen->fixup_count < HK_ARRAY_SIZE(gen->fixups)) {
		gen->fixups[gen->fixup_count++] = (struct fixup){
			.at = (uint16_t)at,
			.next = gen->c->len,
			.len = (uint8_t)len,
			.relative = relative,
		};
	}
}

static void fix_all(struct isa_gen *gen)
{
	struct isa_case *c = gen->c;

	for (unsigned i = 0; i < gen->fixup_count; i++) {
		const struct fixup *f = &gen->fixups[i];
		unsigned insn = f->insn + below(gen, 3);

		/* Not between an instruction and its setup */
		while (insn < c->insn_count && c->insns[insn - 1].setup) {
			insn++;
		}

		unsigned target = insn < c->insn_count ? c->insns[insn].off : c->len;
		uint32_t value;

		if (f->self) {
			target = c->insns[f->insn - 1].off;
		}
		value = f->relative ? target - f->next : (uint32_t)c->start.rip + target;
		if (f->len == 4 && !f->self && chance(gen, 2)) {
			value = (uint32_t)isa_boundary(&gen->random, 4);
		}
		if (f->len == 1 && (int32_t)value > 127) {
			value = 0;
		}
		memcpy(c->code + f->at, &value, f->len);
	}
}

/* To be popped: rarely with TF or NT, never with AC, which we do not have. */
static uint32_t choose_flags(struct isa_gen *gen)
{
	uint32_t keep = HK_FLAGS_ARITH | HK_FLAG_FIXED | HK_FLAG_IF | HK_FLAG_DF | HK_FLAG_IOPL |
		HK_FLAG_ID;

	if (chance(gen, 10)) {
		keep |= HK_FLAG_NT;
	}
	if (chance(gen, 10)) {
		keep |= HK_FLAG_TF;
	}
	return (uint32_t)isa_random(&gen->random) & keep;
}

/* Within -1/4 and 1/4, if it is a number. */
static void make_small(uint8_t *st)
{
	uint16_t sign_exp = isa_get16(st + 8);
	unsigned exp = sign_exp & 0x7fff;

	if (exp > 0x3ffc && exp < 0x7fff) {
		isa_put16(st + 8, (uint16_t)((sign_exp & 0x8000) | (0x3fbd + (exp & 63))));
	}
}

/* MMX instructions change TOP, and MM registers are x87 registers: none may come before. */
static bool uses_x87(const struct row *row)
{
	return row->family == X87 || row->family == MMX || row->special == FRESH_X87 ||
		row->special == XSAVE || row->special == MMX_MODE;
}

/* Prepares what the special ones need. Return: an address the memory operand is to have, or 0. */
static uint32_t prepare(struct isa_gen *gen, unsigned index, struct isa_encoding *e)
{
	static const uint16_t selectors[] = {0, 1, 3, ISA_SEL_DATA, ISA_SEL_DATA, ISA_SEL_DATA,
		ISA_SEL_CODE32, ISA_SEL_CODE64, 0x2a, 0x28, 0x20, 0x08, 0x10, 0x18, 0x13, 0x40,
		0x80, 0x83, 0x100, 0xfff8, 0x4, 0x1007, 0xffff};
	static const uint8_t pop_nothing[2][5] = {
		{0x8d, 0x64, 0x24, 0x04},       /* LEA ESP, [ESP + 4] */
		{0x48, 0x8d, 0x64, 0x24, 0x08}, /* LEA RSP, [RSP + 8] */
	};
	const struct row *row = &gen->rows[index];
	bool code64 = !gen->c->code32;
	uint32_t cs = code64 ? ISA_SEL_CODE64 : ISA_SEL_CODE32;
	uint32_t selector = selectors[below(gen, HK_ARRAY_SIZE(selectors))];
	bool first = gen->c->insn_count == 0;
	uint32_t target = 0;
	unsigned off;

	switch (row->special) {
	case STRING:
		/* With 32-bit addresses makers differ in when upper halves are cleared. */
		if (e->rep != 0 && (e->addrsize || !chance(gen, 5))) {
			uint32_t count = below(gen, chance(gen, 80) ? 9 : 40);

			if (first) {
				gen->c->start.gpr[HK_RCX] = count;
			} else {
				setup_mov(gen, HK_RCX, count);
			}
		}
		for (unsigned reg = HK_RSI; reg <= HK_RDI; reg++) {
			if (first) {
				gen->c->start.gpr[reg] = aim(gen, 16);
			} else if (e->addrsize || chance(gen, 80)) {
				setup_mov(gen, reg, aim(gen, 16));
			}
		}
		break;
	case DIVIDE:
		if (chance(gen, 70)) {
			if (hk_isa[index].op == 0xf6) {
				setup_mov(gen, HK_RAX, below(gen, 0x200));
			} else {
				setup_mov(gen, HK_RDX, 0);
			}
		}
		break;
	case SHIFT_DOUBLE:
		if (e->opsize && row->operands[2].place != 'I') {
			setup_mov(gen, HK_RCX,
				below(gen, 17)); /* beyond 16 the result is undefined */
		}
		break;
	case BRANCH_RM:
		if (e->mem) {
			target = (uint32_t)ISA_DATA + (below(gen, ISA_DATA_BYTES - 8) & ~7u);
			setup_store(gen, target + 4, 0);
			off = setup_store(gen, target, 0);
			fix_later(gen, gen->c->len - 4, 4, false);
		} else {
			off = setup_mov(gen, e->rm & 7, 0);
			e->rm &= 7;
			fix_later(gen, off + 1, 4, false);
		}
		break;
	case RETURN:
		off = setup_push(gen, 0);
		fix_later(gen, off + 1, 4, false);
		break;
	case RETURN_FAR:
	case FAR_MEM:
		if (code64 && row->special == RETURN_FAR) {
			e->rexw = true;
		}
		if (row->special == RETURN_FAR) {
			setup_push(gen, chance(gen, 90) ? cs : selector);
			off = setup_push(gen, 0);
			fix_later(gen, off + 1, 4, false);
		} else {
			target = (uint32_t)ISA_DATA + (below(gen, ISA_DATA_BYTES - 8) & ~7u);
			setup_store(gen, target + 4, chance(gen, 90) ? cs : selector);
			setup_store(gen, target, 0);
			fix_later(gen, gen->c->len - 4, 4, false);
		}
		break;
	case RETURN_INT:
		e->rexw = code64;
		if (code64) {
			setup_push(gen, chance(gen, 90) ? ISA_SEL_DATA : selector);
			setup_push(gen, (uint32_t)ISA_DATA + 0x800 + below(gen, 0x1000));
		}
		setup_push(gen, choose_flags(gen));
		setup_push(gen, chance(gen, 90) ? cs : selector);
		off = setup_push(gen, 0);
		fix_later(gen, off + 1, 4, false);
		break;
	case POP_FLAGS:
		setup_push(gen, choose_flags(gen));
		break;
	case POP_SELECTOR:
		setup_push(gen, selector);
		break;
	case PUSH_SELECTOR: /* makers differ in whether the rest of the slot is written: it is 0 before */
		setup_push(gen, 0);
		add_setup(gen, pop_nothing[code64], code64 ? 5 : 4);
		break;
	case SELECTOR:
		if (e->mem) {
			target = (uint32_t)ISA_DATA + (below(gen, ISA_DATA_BYTES - 8) & ~3u);
			setup_store(gen, target, selector);
		} else {
			e->rm &= 7;
			setup_mov(gen, e->rm, selector);
		}
		break;
	case LOAD_FAR:
		target = (uint32_t)ISA_DATA + (below(gen, ISA_DATA_BYTES - 8) & ~7u);
		if (!e->opsize) {
			setup_store(gen, target + 4, selector);
		} else {
			setup_store(gen, target, selector << 16 | 0x1234);
		}
		break;
	case MASKED_MOVE:
		setup_mov(gen, HK_RDI, (uint32_t)ISA_DATA + below(gen, ISA_DATA_BYTES - 16));
		break;
	case SMALL_ARGUMENT:
		make_small(gen->c->start.fx + ISA_FX_ST);
		break;
	case XSAVE:
		setup_mov(gen, HK_RAX, below(gen, 4));
		setup_mov(gen, HK_RDX, 0);
		break;
	case NO_COMPARE:
		if (is_called(&hk_isa[index], "xgetbv")) {
			setup_mov(gen, HK_RCX, 0);
		}
		break;
	default:
		break;
	}
	return target;
}

/* How many bytes an operand of size @size has, about. */
static unsigned access_bytes(const struct hk_operand *operand, const struct isa_encoding *e)
{
	switch (operand->size) {
	case 'b':
		return 1;
	case 'w':
		return 2;
	case 'd':
		return 4;
	case 'q':
		return 8;
	case 'x':
		return 16;
	case 't':
		return 10;
	case 'v':
	case 'z':
	case 'y':
		return e->opsize ? 2 : e->rexw ? 8 : 4;
	default:
		return 16;
	}
}

static void choose_memory16(struct isa_gen *gen, struct isa_encoding *e)
{
	e->addrsize = true;
	e->base = (uint8_t)below(gen, 8);
	e->index = ISA_NO_REG;
	e->disp_len = (uint8_t)below(gen, 3);
	e->disp = (uint32_t)isa_random(&gen->random);
}

/* The memory operand: at @target, or at what is aimed at where that is 0. */
static void choose_memory(
	struct isa_gen *gen, struct isa_encoding *e, unsigned size, uint32_t target)
{
	const uint64_t *gpr = gen->c->start.gpr;
	bool aimed = target != 0;
	/* Locked accesses across cache lines are slow, or not allowed: take no chances with the address. */
	bool locked = e->lock || strcmp(e->row->name, "xchg") == 0;
	uint64_t rest;

	e->base = e->index = ISA_NO_REG;
	if (!aimed) {
		target = aim(gen, size);
		if (locked) {
			/* BTS and the like go on from there, by whole operands */
			bool whole = e->row->name[0] == 'b' || chance(gen, 60);

			target = (target & ~63u) + (whole ? below(gen, 3) * 16 : below(gen, 48));
		}
	}
	if (!e->code64 && !aimed && !locked && chance(gen, 2)) {
		choose_memory16(gen, e);
		return;
	}
	if (!aimed && !locked && e->code64 && gen->options.fsgsbase && chance(gen, 4)) {
		bool gs = chance(gen, 50);

		e->segment = gs ? 0x65 : 0x64;
		target -= (uint32_t)(gs ? gen->c->start.gs_base : gen->c->start.fs_base);
	} else if (chance(gen, 3)) {
		static const uint8_t prefixes[] = {0x26, 0x2e, 0x36, 0x3e};

		e->segment = prefixes[below(gen, 4)];
	}
	if (e->code64 && chance(gen, 6)) {
		e->addrsize = true;
	}
	if (chance(gen, 15) && e->code64) {
		e->rip = true;
		e->disp = target;
		return;
	}
	e->disp = target;
	e->disp_len = 4;
	if (aimed || chance(gen, 4)) {
		return; /* no registers at all */
	}
	e->base = pick_of(gen, locked ? gen->pointers & ~(1u << HK_RSP) : gen->pointers);
	if (locked) {
		e->disp = e->base == ISA_NO_REG ? target : target - (uint32_t)gpr[e->base];
		return;
	}
	if (e->base == ISA_NO_REG || chance(gen, 5)) {
		e->base = chance(gen, 20) ? ISA_NO_REG : (uint8_t)below(gen, e->code64 ? 16 : 8);
	}
	if (chance(gen, 35)) {
		e->index = chance(gen, 80) ? pick_of(gen, gen->small)
					   : (uint8_t)below(gen, e->code64 ? 16 : 8);
		if (e->index == HK_RSP) {
			e->index = ISA_NO_REG;
		}
		e->scale = (uint8_t)below(gen, 4);
	}
	if (e->base == ISA_NO_REG) {
		rest = target - (e->index != ISA_NO_REG ? gpr[e->index] << e->scale : 0);
		e->disp = (uint32_t)rest;
		return;
	}
	rest = target - gpr[e->base] - (e->index != ISA_NO_REG ? gpr[e->index] << e->scale : 0);
	e->disp = (uint32_t)rest;
	if (chance(gen, 30)) { /* where the registers lead, or near it */
		e->disp_len = chance(gen, 50) ? 0 : 1;
		e->disp = e->disp_len == 0 ? 0 : below(gen, 256) & (chance(gen, 50) ? 0xf0 : 0xff);
	} else if ((int64_t)rest == (int8_t)rest) {
		e->disp_len = 1;
	}
}

static unsigned immediate_bytes(char size, const struct isa_encoding *e)
{
	switch (size) {
	case 'b':
		return 1;
	case 'w':
		return 2;
	case 'z':
		return e->opsize && !e->rexw ? 2 : 4;
	case 'v':
		return e->rexw ? 8 : e->opsize ? 2 : 4;
	case 'q':
		return 8;
	default:
		return 4;
	}
}

static void choose_register(struct isa_gen *gen, const struct hk_operand *operand, uint8_t *ret_reg)
{
	switch (operand->what) {
	case HK_OPERAND_GPR:
	case HK_OPERAND_RM:
		*ret_reg = pick_gpr(gen);
		break;
	case HK_OPERAND_XMM:
	case HK_OPERAND_XMM_RM:
		*ret_reg = (uint8_t)below(gen, gen->c->code32 ? 8 : 16);
		break;
	default:
		*ret_reg = (uint8_t)below(gen, 8);
		break;
	}
}

/* Prefixes and registers. */
static void choose_form(
	struct isa_gen *gen, unsigned index, struct isa_encoding *e, unsigned *ret_size)
{
	const struct hk_isa_row *isa = &hk_isa[index];
	const struct row *row = &gen->rows[index];
	bool branch = false, sized = false, can_mem = false, only_mem = false;

	*ret_size = 8;
	e->has_modrm = row->has_modrm;
	for (unsigned i = 0; i < row->operand_count; i++) {
		const struct hk_operand *o = &row->operands[i];

		branch |= o->what == HK_OPERAND_REL;
		sized |= o->size == 'v';
		only_mem |= o->what == HK_OPERAND_MEM;
		can_mem |= o->what == HK_OPERAND_RM || o->what == HK_OPERAND_XMM_RM ||
			o->what == HK_OPERAND_MMX_RM;
	}
	if ((isa->ext & EXT_HAS_BYTE) != 0) {
		can_mem = only_mem = false;
	} else if (row->has_modrm && (isa->ext & EXT_MEM) != 0) {
		only_mem = true;
	} else if (row->has_modrm && (isa->ext & EXT_REG) != 0) {
		can_mem = only_mem = false;
	}
	e->mem = only_mem || (can_mem && chance(gen, 45));
	/* 66: with a prefix in the opcode only where the operand has any size. Near branches with 66 differ
	 * between makers. */
	if (!branch && row->special != BRANCH_RM && row->special != RETURN &&
		row->special != NO_OPSIZE && row->special != FAR_IMM && row->special != FAR_MEM &&
		row->special != RETURN_FAR && row->special != RETURN_INT) {
		bool any = isa->pp == HK_PP_ANY && isa->map < HK_MAP_V1;
		bool also = (isa->pp == HK_PP_F3 || isa->pp == HK_PP_F2) && sized;

		e->opsize = (any || also) && chance(gen, 20);
	}
	if ((isa->flags & HK_ROW_W1) != 0) {
		e->rexw = true;
	} else if ((isa->flags & HK_ROW_W0) == 0 && row->special != FAR_MEM &&
		row->special != LOAD_FAR) {
		/* VEX.W of 32-bit code is ignored, or undefined */
		e->rexw = e->code64 && chance(gen, 35);
	}
	e->rex = e->code64 && chance(gen, 20);
	if ((isa->flags & HK_ROW_LOCK) != 0 && e->mem) {
		e->lock = chance(gen, 25);
	} else if (isa->map < HK_MAP_V1) {
		e->lock = chance(gen, 1) && below(gen, 4) == 0; /* #UD */
	}
	if (row->special == STRING) {
		e->rep = chance(gen, 50) ? 0 : chance(gen, 70) ? 0xf3 : 0xf2;
		e->addrsize = e->code64 && chance(gen, 8);
	}
	if (isa->map == HK_MAP_L && isa->op >= 0xe0 && isa->op <= 0xe3) {
		e->addrsize = chance(gen, 15); /* LOOP and JCXZ count in ECX then, or CX */
	}
	e->cond = (uint8_t)below(gen, 16);
	e->opcode_reg = 0;
	for (unsigned i = 0; i < row->operand_count; i++) {
		const struct hk_operand *o = &row->operands[i];

		if (strchr("GVPSCD", o->place) != NULL) {
			choose_register(gen, o, &e->reg);
		} else if (strchr("EWQRUNMT", o->place) != NULL) {
			choose_register(gen, o, &e->rm);
			*ret_size = access_bytes(o, e);
		} else if (o->place == 'Z') {
			choose_register(gen, o, &e->opcode_reg);
		} else if (o->place == 'B') {
			choose_register(gen, o, &e->vvvv);
		}
	}
	if ((isa->ext & EXT_HAS_BYTE) != 0) {
		e->reg = isa->ext >> 11 & 7;
		e->rm = isa->ext >> 8 & 7;
	} else if ((isa->ext & EXT_HAS_N) != 0) {
		e->reg = isa->ext & 7;
	}
	if ((isa->flags & HK_ROW_B0) != 0) {
		e->opcode_reg = 0;
	}
}

static void choose_immediate(struct isa_gen *gen, unsigned index, struct isa_encoding *e)
{
	const struct row *row = &gen->rows[index];

	for (unsigned i = 0; i < row->operand_count; i++) {
		const struct hk_operand *o = &row->operands[i];

		switch (o->what) {
		case HK_OPERAND_IMM:
			if (e->imm_len != 0) { /* ENTER's second one */
				e->imm = (e->imm & 0xffff) | (uint64_t)below(gen, 5) << 16;
				e->imm_len = 3;
				break;
			}
			e->imm_len = (uint8_t)immediate_bytes(o->size, e);
			e->imm = isa_boundary(&gen->random, e->imm_len);
			break;
		case HK_OPERAND_MOFFS:
			e->addrsize = chance(gen, 10) && e->code64;
			e->imm_len = e->code64 && !e->addrsize ? 8 : 4;
			e->imm = aim(gen, 8);
			break;
		case HK_OPERAND_REL:
			e->imm_len = o->size == 'b' ? 1 : 4;
			break;
		case HK_OPERAND_FAR:
			e->imm_len = 6;
			e->imm = (uint64_t)(chance(gen, 90)
						 ? ISA_SEL_CODE32
						 : (unsigned)isa_boundary(&gen->random, 2))
				<< 32;
			break;
		default:
			break;
		}
	}
	switch (row->special) {
	case INTERRUPT:
		e->imm = below(gen, 256);
		if (e->imm == 0x80) {
			e->imm = 0x81; /* that would be a system call */
		}
		break;
	case ENTER:
		e->imm = (e->imm & 0xff0000) | (below(gen, 0x100));
		break;
	case RETURN:
	case RETURN_FAR:
		e->imm &= 0x3f;
		break;
	case SHIFT_DOUBLE:
		if (e->opsize && e->imm > 16) {
			e->imm &= 15;
		}
		break;
	default:
		break;
	}
}

/* The flags that are undefined after the instruction, of those that were not before. */
static void follow_flags(struct isa_gen *gen, unsigned index, const struct isa_encoding *e)
{
	const struct row *row = &gen->rows[index];
	unsigned bits = hk_isa[index].map == HK_MAP_L && (hk_isa[index].op & 1) == 0 ? 8
		: e->rexw                                                            ? 64
		: e->opsize                                                          ? 16
										     : 32;
	unsigned count = UINT32_MAX; /* not known */
	uint32_t writes = row->flags.writes, undefined = row->flags.undefined;

	if (e->imm_len != 0) {
		count = (unsigned)e->imm & (bits == 64 ? 63 : 31);
	} else if ((hk_isa[index].op & 0xfe) == 0xd0 && hk_isa[index].map == HK_MAP_L) {
		count = 1;
	}
	switch (row->special) {
	case SHIFT:
	case SHIFT_DOUBLE:
		if (count == 0) {
			return;
		}
		writes = count != UINT32_MAX ? HK_FLAGS_ARITH : 0;
		undefined = HK_FLAG_AF | (count != 1 ? HK_FLAG_OF : 0);
		if ((count == UINT32_MAX ? bits < 32 : count >= bits) &&
			!is_called(&hk_isa[index], "sar")) {
			undefined |= HK_FLAG_CF;
		}
		break;
	case ROTATE:
	case ROTATE_CARRY:
		undefined = count > 1 ? HK_FLAG_OF : 0;
		break;
	case STRING:
		if (e->rep == 0 && (hk_isa[index].op & 0xf6) == 0xa6) {
			writes = HK_FLAGS_ARITH; /* CMPS, SCAS */
		}
		break;
	default:
		break;
	}
	if (!gen->branched) {
		gen->undefined &= ~writes;
	}
	gen->undefined |= undefined;
}

static bool can_follow(const struct isa_gen *gen, unsigned index)
{
	const struct row *row = &gen->rows[index];

	if ((row->flags.reads & gen->undefined) != 0 ||
		(row->special == ROTATE_CARRY && (gen->undefined & HK_FLAG_CF) != 0)) {
		return false;
	}
	return !gen->x87_used ||
		(row->special != FRESH_X87 && row->special != XSAVE &&
			row->special != SMALL_ARGUMENT);
}

/* Registers that the instruction may have changed hold addresses no longer. */
static void forget_pointers(struct isa_gen *gen, unsigned index, const struct isa_encoding *e)
{
	const struct row *row = &gen->rows[index];
	uint16_t changed = 0;

	for (unsigned i = 0; i < row->operand_count; i++) {
		switch (row->operands[i].place) {
		case 'G':
			changed |= (uint16_t)(1u << e->reg);
			break;
		case 'E':
		case 'R':
			changed |= (uint16_t)(e->mem ? 0 : 1u << e->rm);
			break;
		case 'Z':
			changed |= (uint16_t)(1u << e->opcode_reg);
			break;
		case 'B':
			changed |= (uint16_t)(1u << e->vvvv);
			break;
		case 'r': /* implied by the opcode */
			changed |= (uint16_t)(1u << row->operands[i].fixed);
			break;
		case 'J': /* LOOP, or what may have been skipped */
			changed |= 1u << HK_RCX;
			break;
		default:
			break;
		}
	}
	if (row->operand_count < 2) {
		changed |= 1u << HK_RAX | 1u << HK_RDX;
	}
	if (row->special == STRING) {
		changed |= 1u << HK_RSI | 1u << HK_RDI | 1u << HK_RCX;
	}
	gen->pointers &= (uint16_t)~changed;
	gen->small &= (uint16_t)~changed;
}

/* What two CPUs may do differently about the instruction just added. */
static void set_laxness(struct isa_gen *gen, unsigned index, const struct isa_encoding *e)
{
	const struct row *row = &gen->rows[index];
	struct isa_insn *insn = &gen->c->insns[gen->c->insn_count - 1];

	switch (row->special) {
	case NO_COMPARE:
		insn->lax = ISA_LAX_RUN;
		break;
	case RCP:
		insn->lax = ISA_LAX_RCP;
		break;
	case INEXACT:
	case SMALL_ARGUMENT:
		insn->lax = ISA_LAX_ULP;
		break;
	case ANY_NAN:
		insn->lax = ISA_LAX_NAN;
		break;
	case FRESH_X87:
	case XSAVE:
	case LONG:
	case FAR_IMM:
	case FAR_MEM:
		insn->fault_lax = ISA_LAX_WHERE;
		break;
	case MMX_MODE:
		insn->lax = e->mem ? ISA_LAX_TOP : 0;
		break;
	default:
		break;
	}
	if (row->family == MMX) {
		insn->fault_lax |= ISA_LAX_TOP;
	}
	gen->over |= insn->lax != 0;
}

/* The decoder does not agree with the encoder: one of them is wrong. */
static void tell_surprise(struct isa_gen *gen, const struct hk_isa_row *row, const uint8_t *bytes,
	unsigned len, enum hk_decode verdict)
{
	if (gen->surprises++ >= SHOW_SURPRISES) {
		return;
	}
	printf("not ok: %s %s, %u bits, is decoded as something else (%d):", row->name,
		row->operands, gen->c->code32 ? 32 : 64, (int)verdict);
	for (unsigned i = 0; i < len; i++) {
		printf(" %02x", bytes[i]);
	}
	printf("\n");
}

/*
 * Puts prefixes before the instruction that should not matter, or may. Return: the new length; 0: better not.
 */
static unsigned add_prefixes(struct isa_gen *gen, uint8_t *bytes, unsigned len, bool mem)
{
	static const uint8_t prefixes[] = {
		0x26, 0x2e, 0x36, 0x3e, 0x66, 0x66, 0x67, 0xf2, 0xf3, 0xf3, 0x64, 0x65};
	unsigned usable = gen->options.fsgsbase ? sizeof(prefixes) : sizeof(prefixes) - 2;
	unsigned count = chance(gen, 90) ? 1 + below(gen, 3) : below(gen, HK_MAX_INSN_LEN);

	memmove(bytes + count, bytes, len);
	for (unsigned i = 0; i < count; i++) {
		bytes[i] = prefixes[below(gen, usable)];
		if (!gen->c->code32 && chance(gen, 15)) {
			bytes[i] = (uint8_t)(0x40 + below(gen, 16));
		} else if (!mem && chance(gen, 3)) {
			bytes[i] = 0xf0;
		}
	}
	return gen->c->len + len + count <= ISA_MAX_CODE ? len + count : 0;
}

/* Not branches, whose fix-ups would move; not XCHG, which locks the bus, and is PAUSE with F3 90. */
static bool may_mutate(
	const struct hk_isa_row *isa, const struct row *row, const struct isa_encoding *e)
{
	return row->special == PLAIN && !e->lock && strchr(isa->operands, 'J') == NULL &&
		strcmp(isa->name, "xchg") != 0;
}

/* The instruction with prefixes that nobody asked for. Return: false where that makes it another one. */
static bool add_mutant(
	struct isa_gen *gen, const struct isa_encoding *e, const uint8_t *from, unsigned len)
{
	struct isa_encoding changed = *e;
	struct hk_insn decoded = {.row = 0};
	unsigned index = (unsigned)(e->row - hk_isa);
	uint8_t bytes[2 * HK_MAX_INSN_LEN];
	enum hk_decode verdict;

	memcpy(bytes, from, len);
	len = add_prefixes(gen, bytes, len, e->mem);
	if (len == 0) {
		return false;
	}
	verdict = hk_decode(bytes, len, gen->c->code32 ? HK_CODE_32 : HK_CODE_64,
		gen->options.features, 0, &decoded);
	if (verdict == HK_DECODE_OK) {
		index = decoded.row;
		if (decoded.len != len || gen->rows[index].special != PLAIN ||
			gen->rows[index].excuse != NULL || !can_follow(gen, index) ||
			strcmp(hk_isa[index].name, "xchg") == 0) {
			return false;
		}
	} else if (verdict != HK_DECODE_LONG ||
		gen->c->start.rip + gen->c->len + len + 16 > ISA_CODE + ISA_CODE_BYTES) {
		return false; /* where a page ends soon, its end faults first */
	}
	changed.opsize = hk_insn_size(&decoded) == 1;
	changed.rexw = hk_insn_size(&decoded) == 3;
	follow_flags(gen, index, &changed);
	gen->pointers = 0;
	gen->x87_used |= uses_x87(&gen->rows[index]);
	add_bytes(gen, bytes, len, index, false);
	set_laxness(gen, index, &changed);
	return true;
}

/* Adds an instruction of the row. Return: false where it cannot come here. */
static bool add_insn(struct isa_gen *gen, unsigned index)
{
	const struct hk_isa_row *isa = &hk_isa[index];
	const struct row *row = &gen->rows[index];
	struct isa_encoding e = {.row = isa, .code64 = !gen->c->code32};
	struct hk_insn decoded = {.row = 0};
	unsigned size, len, off, imm_at, fixups = gen->fixup_count;
	enum hk_decode verdict;
	uint8_t bytes[16];
	uint32_t target;

	if (!can_follow(gen, index) || !has_room(gen, 6)) {
		return false;
	}
	choose_form(gen, index, &e, &size);
	choose_immediate(gen, index, &e);
	target = prepare(gen, index, &e);
	if (e.mem) {
		choose_memory(gen, &e, size, target);
	}
	len = isa_encode(&e, gen->c->start.rip + gen->c->len, bytes, &imm_at);
	if (len == 0) {
		return false;
	}
	if (may_mutate(isa, row, &e) && chance(gen, 4)) {
		return add_mutant(gen, &e, bytes, len);
	}
	verdict = hk_decode(bytes, len, gen->c->code32 ? HK_CODE_32 : HK_CODE_64,
		gen->options.features, 0, &decoded);
	if (verdict == HK_DECODE_OK ? decoded.len != len
				    : !e.lock && strpbrk(isa->operands, "SCD") == NULL) {
		tell_surprise(gen, isa, bytes, len, verdict);
	}
	if (verdict == HK_DECODE_OK) {
		index = decoded.row; /* perhaps another with the same bytes */
		if (gen->rows[index].excuse != NULL) {
			return false;
		}
	}
	if ((isa->flags & (HK_ROW_BRANCH | HK_ROW_F64)) != 0) {
		gen->branched |= row->operand_count != 0 && row->operands[0].what == HK_OPERAND_REL;
	}
	if ((isa->flags & (HK_ROW_BRANCH | HK_ROW_LAST)) != 0) {
		gen->branched = true;
	}
	follow_flags(gen, (unsigned)(isa - hk_isa), &e);
	forget_pointers(gen, (unsigned)(isa - hk_isa), &e);
	off = add_bytes(gen, bytes, len, index, false);
	for (unsigned i = 0; i < row->operand_count; i++) {
		if (row->operands[i].what == HK_OPERAND_REL) {
			fix_later(gen, off + imm_at, e.imm_len, true);
			if (isa->op == 0xe2 && isa->map == HK_MAP_L && gen->c->insn_count == 1 &&
				chance(gen, 30)) { /* LOOP to itself */
				gen->c->start.gpr[HK_RCX] = 1 + below(gen, 100);
				gen->fixups[gen->fixup_count - 1].self = true;
			}
		} else if (row->operands[i].what == HK_OPERAND_FAR) {
			fix_later(gen, off + imm_at, 4, false);
		}
	}
	while (fixups < gen->fixup_count) {
		gen->fixups[fixups++].insn = gen->c->insn_count;
	}
	gen->x87_used |= uses_x87(row);
	set_laxness(gen, index, &e);
	return true;
}

/* ---- Cases ---- */

static void choose_start(struct isa_gen *gen)
{
	struct isa_random *r = &gen->random;
	struct isa_state *start = &gen->c->start;
	unsigned off;

	isa_gen_values(r, start);
	gen->pointers = gen->small = 0;
	for (unsigned i = 0; i < HK_GPR_COUNT; i++) {
		unsigned kind = below(gen, 100);

		if (i == HK_RSP) {
			start->gpr[i] = ISA_DATA + 0x400 + (below(gen, 0x1800) & ~7u);
			if (kind < 5) { /* near either end */
				start->gpr[i] = ISA_DATA + below(gen, 64) +
					(kind < 2 ? 0 : ISA_DATA_BYTES - 32);
			} else if (kind < 9) {
				start->gpr[i] += below(gen, 8);
			}
			gen->pointers |= 1u << i;
		} else if (kind < 30) {
			start->gpr[i] = aim(gen, 16);
			gen->pointers |= (uint16_t)(1u << i);
		} else if (kind < 50) {
			start->gpr[i] = (uint64_t)(int64_t)(int8_t)isa_random(r);
			gen->small |= (uint16_t)(1u << i);
		}
		if (gen->c->code32) {
			start->gpr[i] = i < 8 ? (uint32_t)start->gpr[i] : 0;
		}
	}
	if (gen->c->code32) {
		gen->pointers &= 0xff;
		gen->small &= 0xff;
	}
	start->rflags = HK_FLAG_FIXED | HK_FLAG_IF | (isa_random(r) & HK_FLAGS_ARITH);
	if (chance(gen, 8)) {
		start->rflags |= HK_FLAG_DF;
	}
	start->fs_base = start->gs_base = 0;
	if (gen->options.fsgsbase) {
		start->fs_base = chance(gen, 50) ? 0 : aim(gen, 16);
		start->gs_base = chance(gen, 50) ? 0 : isa_boundary(r, 4) & 0x7fffffff;
	}
	memset(start->sel, 0, sizeof(start->sel));
	start->sel[HK_ES] = start->sel[HK_SS] = start->sel[HK_DS] = ISA_SEL_DATA;
	start->sel[HK_CS] = gen->c->code32 ? ISA_SEL_CODE32 : ISA_SEL_CODE64;
	off = below(gen, ISA_PAGE - ISA_MAX_CODE - 1);
	if (chance(gen, 5)) {
		off = ISA_PAGE - 1 - below(gen, 60); /* into the next page */
	} else if (chance(gen, 2)) {
		off = ISA_CODE_BYTES - 1 - below(gen, 60); /* out of what is mapped */
	}
	start->rip = ISA_CODE + off;
}

void isa_gen_case(struct isa_gen *gen, uint64_t seed, uint64_t number, struct isa_case *ret_case)
{
	unsigned wanted, family, tries = 0;
	const struct pool *pool;
	unsigned limit;

	memset(ret_case, 0, sizeof(*ret_case));
	gen->random = (struct isa_random){.state = seed};
	gen->random.state = isa_random(&gen->random) ^ number * UINT64_C(0xd1342543de82ef95);
	gen->c = ret_case;
	gen->fixup_count = 0;
	gen->undefined = 0;
	gen->branched = gen->over = gen->x87_used = false;
	ret_case->code32 = gen->options.code32 && chance(gen, 20);
	if (gen->pools[ret_case->code32][FAMILY_COUNT].count == 0) {
		ret_case->code32 = !ret_case->code32;
	}
	ret_case->memory = below(gen, 256);
	choose_start(gen);

	family = chance(gen, 50) ? below(gen, FAMILY_COUNT) : FAMILY_COUNT;
	if (gen->pools[ret_case->code32][family].count == 0) {
		family = FAMILY_COUNT;
	}
	pool = &gen->pools[ret_case->code32][family];
	wanted = 1 + (chance(gen, 30) ? 0 : below(gen, 8));
	while (wanted > 0 && !gen->over && tries++ < 30) {
		if (add_insn(gen, pool->rows[below(gen, pool->count)])) {
			wanted--;
		}
	}
	fix_all(gen);
	/* What would stand behind the code pages is not there. */
	limit = (unsigned)(ISA_CODE + ISA_CODE_BYTES - ret_case->start.rip);
	if (ret_case->len > limit) {
		ret_case->len = (uint16_t)limit;
	}
}
