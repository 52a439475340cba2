/* SPDX-License-Identifier: ISC */
/*
 * The decoder.
 *
 * Theory: the rows of the instruction table (isa.h) are boiled down once to "shapes": small
 * records that say by number what the row says by letter. Each opcode of each map has a list
 * of its shapes, best first. What distinguishes the rows of one opcode (mandatory prefix, mode, ModRM.reg,
 * memory or register, VEX.W, ...) makes up a key with one bit set in each category; a shape allows some
 * bits of each. So choosing a row is one AND for each candidate, and there is mostly one.
 *
 * An instruction goes through four steps: prefixes, opcode, row, operands.
 *
 * Limits: VEX forms decode in real mode, too (hardware: #UD); nobody asks for them there.
 *
 * Source: Intel SDM vol. 2, chapter 2 and appendices A and B.
 */
#include "engine/soft/decode.h"

#include <assert.h>
#include <stdatomic.h>
#include <string.h>

#include "base/util.h"
#include "engine/vcpu_state.h"

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

struct shape {
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

struct opcode {
	uint16_t first; /* in candidates */
	uint8_t count;  /* 0: no such instruction */
	bool modrm;
};

/* Built once, by whoever comes first; constant then. */
static struct {
	_Atomic int state; /* enum tables_state */
	struct shape shapes[ROWS];
	struct opcode opcodes[HK_MAP_COUNT][256];
	uint16_t candidates[MAX_CANDIDATES];
} tables;

enum tables_state { TABLES_NONE, TABLES_IN_WORK, TABLES_READY };

/* ---- Building the tables ---- */

static unsigned row_span(const struct hk_isa_row *row)
{
	struct hk_operand operands[HK_MAX_OPERANDS];
	unsigned count = hk_isa_operands(row, operands);

	if ((row->flags & HK_ROW_CC) != 0) {
		return 16;
	}
	for (unsigned i = 0; i < count; i++) {
		if (operands[i].place == 'Z') {
			return 8;
		}
	}
	return 1;
}

static bool is_one_of(char c, const char *set)
{
	return c != 0 && strchr(set, c) != NULL;
}

static bool row_has_modrm(const struct hk_isa_row *row)
{
	struct hk_operand operands[HK_MAX_OPERANDS];
	unsigned count = hk_isa_operands(row, operands);

	if (row->ext != EXT_ANY || row->map == HK_MAP_0F38 || row->map == HK_MAP_0F3A) {
		return true;
	}
	for (unsigned i = 0; i < count; i++) {
		if (operands[i].what != HK_OPERAND_FIXED &&
			is_one_of(operands[i].place, "EGRMSCDVWUPQNT")) {
			return true;
		}
	}
	return false;
}

static uint32_t key_bits(unsigned category, uint32_t bits)
{
	return bits << category;
}

static uint32_t row_allow(const struct hk_isa_row *row, bool memory, bool reg)
{
	static const uint8_t pp[] = {
		[HK_PP_ANY] = 15,
		[HK_PP_NP] = 1,
		[HK_PP_66] = 2,
		[HK_PP_F3] = 4,
		[HK_PP_F2] = 8,
	};
	unsigned modes = (row->flags & HK_ROW_I64) != 0 ? 1 << HK_CODE_16 | 1 << HK_CODE_32
		: (row->flags & HK_ROW_O64) != 0        ? 1 << HK_CODE_64
							: (1 << HK_CODE_MODE_COUNT) - 1;
	unsigned w = (row->flags & HK_ROW_W0) != 0 ? 1 : (row->flags & HK_ROW_W1) != 0 ? 2 : 3;
	unsigned mod = (memory ? 1 : 0) | (reg ? 2 : 0);
	unsigned n = (row->ext & EXT_HAS_BYTE) != 0 ? 1u << (row->ext >> 11 & 7)
		: (row->ext & EXT_HAS_N) != 0       ? 1u << (row->ext & 7)
						    : 255;

	return key_bits(KEY_PP, pp[row->pp]) | key_bits(KEY_MODE, modes) | key_bits(KEY_W, w) |
		key_bits(KEY_B, (row->flags & HK_ROW_B0) != 0 ? 1 : 3) |
		key_bits(KEY_L, (row->flags & HK_ROW_L0) != 0 ? 1 : 3) | key_bits(KEY_MOD, mod) |
		key_bits(KEY_REG, n);
}

/* SIZE_* or the size for a size letter; -1: it says nothing. */
static int letter_size(char letter)
{
	switch (letter) {
	case 'b':
		return 0;
	case 'w':
		return 1;
	case 'd':
		return 2;
	case 'q':
		return 3;
	case 'v':
		return SIZE_V;
	case 'z':
		return SIZE_Z;
	case 'y':
		return SIZE_Y;
	default:
		return -1;
	}
}

/* As isa.h says of HK_INSN_SIZE. */
static uint8_t row_size(const struct hk_operand *operands, unsigned count)
{
	static const char *const ranks[] = {"EMR", "GZBOXYr"};

	for (unsigned i = 0; i < count; i++) {
		if (operands[i].size == 'v' && operands[i].what != HK_OPERAND_IMM) {
			return SIZE_V;
		}
	}
	for (unsigned rank = 0; rank < HK_ARRAY_SIZE(ranks); rank++) {
		for (unsigned i = 0; i < count; i++) {
			const struct hk_operand *o = &operands[i];
			/* The port of IN and OUT */
			bool dx = o->what == HK_OPERAND_FIXED && o->fixed == HK_RDX;
			int size = letter_size(o->size);

			if (is_one_of(o->place, ranks[rank]) && !dx && size >= 0) {
				return (uint8_t)size;
			}
		}
	}
	return SIZE_V;
}

/* Notes where operand @o is found. Return: 'm' rm, 'r' reg, 'i' immediate, '-' elsewhere. */
static char shape_operand(struct shape *s, const struct hk_operand *o, bool first)
{
	switch (o->place) {
	case 'E':
	case 'M':
	case 'R':
		s->rm = o->size == 'b' ? RM_GPR8 : RM_GPR;
		return 'm';
	case 'W':
	case 'U':
		s->rm = RM_XMM;
		return 'm';
	case 'Q':
	case 'N':
	case 'T':
		s->rm = RM_LOW3;
		return 'm';
	case 'Z':
		s->rm = o->size == 'b' ? RM_OPCODE8 : RM_OPCODE;
		return 'm';
	case 'O':
		s->rm = RM_MOFFS;
		return 'm';
	case 'G':
		s->reg = o->size == 'b' ? REG_GPR8 : REG_GPR;
		return 'r';
	case 'V':
		s->reg = REG_XMM;
		return 'r';
	case 'P':
		s->reg = REG_LOW3;
		return 'r';
	case 'S':
		s->reg = first ? REG_SREG_LOAD : REG_SREG;
		return 'r';
	case 'C':
		s->reg = REG_CR;
		s->mod_ignored = true;
		return 'r';
	case 'D':
		s->reg = REG_DR;
		s->mod_ignored = true;
		return 'r';
	case 's':
		s->reg = REG_FIXED;
		s->reg_fixed = o->fixed;
		return 'r';
	case 'B':
		s->vvvv = true;
		return '-';
	case 'I':
		s->imm = o->sign_extended ? IMM_B_SIGNED
			: o->size == 'b'  ? IMM_B
			: o->size == 'w'  ? IMM_W
			: o->size == 'z'  ? IMM_Z
					  : IMM_V;
		return 'i';
	case '1':
		s->imm = IMM_ONE;
		return 'i';
	case 'J':
		s->imm = o->size == 'b' ? IMM_REL_B : IMM_REL_Z;
		return '-';
	case 'A':
		s->imm = IMM_FAR;
		return '-';
	default:
		return '-';
	}
}

/* The accumulator, CL: they take whichever place the other operands leave. DX is no operand but a port. */
static char shape_fixed_gpr(struct shape *s, const struct hk_operand *o)
{
	uint8_t number = o->size == 'b' ? (uint8_t)(o->fixed * 8) : o->fixed;

	if (o->fixed == HK_RDX) {
		return '-';
	}
	if (s->rm == RM_NONE) {
		s->rm = RM_FIXED;
		s->rm_fixed = number;
		return 'm';
	}
	if (s->reg == REG_NONE) {
		s->reg = REG_FIXED;
		s->reg_fixed = number;
		return 'r';
	}
	return '-';
}

/* LES, LSS and so on: which segment register. */
static uint8_t far_segment(const char *name)
{
	static const char letters[] = {
		[HK_ES] = 'e', [HK_SS] = 's', [HK_DS] = 'd', [HK_FS] = 'f', [HK_GS] = 'g'};

	for (unsigned seg = 0; seg < HK_ARRAY_SIZE(letters); seg++) {
		if (letters[seg] == name[1]) {
			return (uint8_t)seg;
		}
	}
	return 0;
}

/* The better a row says what it means, the earlier it is asked. */
static uint8_t row_rank(const struct hk_isa_row *row)
{
	return (uint8_t)((row->pp == HK_PP_ANY ? 16 : 0) + (row_span(row) > 1 ? 8 : 0) +
		((row->ext & EXT_HAS_BYTE) != 0               ? 0
				: (row->ext & EXT_HAS_N) != 0 ? 1
							      : 2));
}

static void build_shape(unsigned row_index)
{
	const struct hk_isa_row *row = &hk_isa[row_index];
	struct shape *s = &tables.shapes[row_index];
	struct hk_operand operands[HK_MAX_OPERANDS];
	unsigned count = hk_isa_operands(row, operands);
	char roles[HK_MAX_OPERANDS + 1] = "";
	bool memory = (row->ext & EXT_REG) == 0, reg = (row->ext & EXT_MEM) == 0;
	enum hk_form form = HK_FORM_RM;

	assert(count <= HK_MAX_OPERANDS);
	*s = (struct shape){
		.row = (uint16_t)row_index,
		.row_flags = row->flags,
		.byte = (row->ext & EXT_HAS_BYTE) != 0 ? row->ext >> 8 : ANY_BYTE,
		.feature = row->feature,
		.rank = row_rank(row),
		.size = row_size(operands, count),
		.size_class = (row->flags & HK_ROW_F64) != 0 ? 2
			: (row->flags & HK_ROW_D64) != 0     ? 1
							     : 0,
	};
	for (unsigned i = 0; i < count; i++) {
		roles[i] = shape_operand(s, &operands[i], i == 0);
		if (is_one_of(operands[i].place, "RUNT") && operands[i].what != HK_OPERAND_FIXED) {
			memory = false;
		} else if (operands[i].place == 'M') {
			reg = false;
		}
		if (operands[i].place == 'M' && operands[i].size == 'p') {
			s->far_seg = far_segment(row->name);
		}
	}
	for (unsigned i = 0; i < count; i++) {
		if (operands[i].place == 'r') {
			roles[i] = shape_fixed_gpr(s, &operands[i]);
		}
	}
	if ((row->flags & HK_ROW_IMM8_2) != 0) {
		s->imm = IMM_ENTER;
	}
	if (roles[0] == 'm' && roles[1] == 'r') {
		form = HK_FORM_RM_REG;
	} else if (roles[0] == 'r' && strchr(roles, 'm') != NULL) {
		form = HK_FORM_REG_RM;
	} else if (roles[0] == 'm' && roles[1] == 'i') {
		form = HK_FORM_RM_IMM;
	}
	s->form = (uint16_t)(form << HK_INSN_FORM_SHIFT);
	s->allow = row_allow(row, memory || s->mod_ignored, reg || s->mod_ignored);
}

/* Rows of an opcode stand together in candidates: first count them, then put them in order. */
static void build_tables(void)
{
	unsigned total = 0;

	for (unsigned i = 0; i < ROWS; i++) {
		const struct hk_isa_row *row = &hk_isa[i];
		bool modrm = row_has_modrm(row);

		build_shape(i);
		for (unsigned n = 0; n < row_span(row); n++) {
			struct opcode *o = &tables.opcodes[row->map][(row->op + n) & 255];

			o->count++;
			o->modrm = o->modrm || modrm;
		}
	}
	for (unsigned i = 0; i < HK_MAP_COUNT * 256; i++) {
		struct opcode *o = &tables.opcodes[i / 256][i % 256];

		o->first = (uint16_t)total;
		total += o->count;
		o->count = 0;
	}
	assert(total <= MAX_CANDIDATES);
	for (unsigned i = 0; i < ROWS; i++) {
		const struct hk_isa_row *row = &hk_isa[i];

		for (unsigned n = 0; n < row_span(row); n++) {
			struct opcode *o = &tables.opcodes[row->map][(row->op + n) & 255];
			uint16_t *list = tables.candidates + o->first;
			unsigned at = o->count++;

			while (at > 0 && tables.shapes[list[at - 1]].rank > tables.shapes[i].rank) {
				list[at] = list[at - 1];
				at--;
			}
			list[at] = (uint16_t)i;
		}
	}
}

void hk_decode_init(void)
{
	int state = TABLES_NONE;

	if (atomic_compare_exchange_strong(&tables.state, &state, TABLES_IN_WORK)) {
		build_tables();
		atomic_store_explicit(&tables.state, TABLES_READY, memory_order_release);
		return;
	}
	/* Another thread builds them: a fraction of a millisecond. */
	while (atomic_load_explicit(&tables.state, memory_order_acquire) != TABLES_READY) {
	}
}

/* ---- Decoding ---- */

/* Reading the bytes of one instruction: at most 15, fewer where the caller has fewer. */
struct reader {
	const uint8_t *bytes;
	unsigned pos;
	unsigned end;
};

/* What the prefixes say. */
struct prefixes {
	uint8_t pp;  /* 0 none, 1 66, 2 F3, 3 F2: the effective one, of VEX too */
	uint8_t rep; /* enum hk_rep: the last of F3 and F2 */
	uint8_t seg; /* enum hk_seg or NO_SEG */
	bool size;   /* 66 */
	bool addr;   /* 67 */
	bool lock;
	bool has_rex; /* REX, or VEX's bits */
	bool w, r, x, b;
	bool vex_l;
	uint8_t vvvv; /* as written: inverted */
};

enum { NO_SEG = 8 };

static inline bool have(const struct reader *in, unsigned n)
{
	return in->end - in->pos >= n;
}

static inline uint16_t take16(struct reader *in)
{
	uint16_t v;

	memcpy(&v, in->bytes + in->pos, sizeof(v));
	in->pos += sizeof(v);
	return v;
}

static inline uint32_t take32(struct reader *in)
{
	uint32_t v;

	memcpy(&v, in->bytes + in->pos, sizeof(v));
	in->pos += sizeof(v);
	return v;
}

static inline uint64_t take64(struct reader *in)
{
	uint64_t v;

	memcpy(&v, in->bytes + in->pos, sizeof(v));
	in->pos += sizeof(v);
	return v;
}

/* Bytes that may be prefixes; those of REX only in 64-bit mode. */
static const uint8_t prefix_bytes[256] = {
	[0x26] = 1,
	[0x2e] = 1,
	[0x36] = 1,
	[0x3e] = 1,
	[0x64] = 1,
	[0x65] = 1,
	[0x66] = 1,
	[0x67] = 1,
	[0xf0] = 1,
	[0xf2] = 1,
	[0xf3] = 1,
	[0x40 ... 0x4f] = 2,
};

/* All prefixes before the opcode or VEX. Return: false where the bytes end. */
static bool take_prefixes(struct reader *in, enum hk_code_mode mode, struct prefixes *p)
{
	uint8_t rex = 0;

	for (; in->pos < in->end; in->pos++) {
		uint8_t byte = in->bytes[in->pos];
		uint8_t kind = prefix_bytes[byte];

		if (kind == 0 || (kind == 2 && mode != HK_CODE_64)) {
			break;
		}
		if (kind == 2) {
			rex = byte;
			continue;
		}
		rex = 0; /* REX counts only right before the opcode */
		switch (byte) {
		case 0x26:
		case 0x2e:
		case 0x36:
		case 0x3e:
			/* In 64-bit mode these are no override, and undo none either. */
			if (mode != HK_CODE_64) {
				p->seg = byte >> 3 & 3;
			}
			break;
		case 0x64:
			p->seg = HK_FS;
			break;
		case 0x65:
			p->seg = HK_GS;
			break;
		case 0x66:
			p->size = true;
			break;
		case 0x67:
			p->addr = true;
			break;
		case 0xf0:
			p->lock = true;
			break;
		case 0xf2:
			p->rep = HK_REP_F2;
			break;
		default:
			p->rep = HK_REP_F3;
			break;
		}
	}
	p->has_rex = rex != 0;
	p->w = (rex & 8) != 0;
	p->r = (rex & 4) != 0;
	p->x = (rex & 2) != 0;
	p->b = (rex & 1) != 0;
	p->pp = p->rep == HK_REP_F3 ? 2 : p->rep == HK_REP_F2 ? 3 : p->size ? 1 : 0;
	return in->pos < in->end;
}

/* C4 or C5 has been read and is VEX; what follows it but the opcode. */
static enum hk_decode take_vex(struct reader *in, enum hk_code_mode mode, bool three,
	struct prefixes *p, enum hk_map *ret_map)
{
	uint8_t first, last;
	unsigned map = 1;

	if (!have(in, three ? 2 : 1)) {
		return HK_DECODE_SHORT;
	}
	if (p->has_rex || p->lock || p->rep != HK_REP_NONE || p->size) {
		return HK_DECODE_UD;
	}
	first = last = in->bytes[in->pos++];
	p->r = (first & 0x80) == 0;
	if (three) {
		last = in->bytes[in->pos++];
		p->x = (first & 0x40) == 0;
		p->b = (first & 0x20) == 0;
		p->w = (last & 0x80) != 0;
		map = first & 31;
	}
	p->vvvv = last >> 3 & 15;
	if (mode != HK_CODE_64) {
		/* Eight registers, and no 64-bit operands. */
		p->r = p->x = p->b = p->w = false;
		p->vvvv |= 8;
	}
	p->has_rex = true;
	p->vex_l = (last & 4) != 0;
	p->pp = last & 3;
	if (map < 1 || map > 3) {
		return HK_DECODE_UD;
	}
	*ret_map = HK_MAP_V1 + map - 1;
	return HK_DECODE_OK;
}

/* The opcode, and the map it is in. */
static enum hk_decode take_opcode(struct reader *in, enum hk_code_mode mode, struct prefixes *p,
	enum hk_map *ret_map, uint8_t *ret_op)
{
	uint8_t byte = in->bytes[in->pos++];
	enum hk_map map = HK_MAP_L;

	if (byte == 0x0f) {
		if (!have(in, 1)) {
			return HK_DECODE_SHORT;
		}
		byte = in->bytes[in->pos++];
		map = HK_MAP_0F;
		if (byte == 0x38 || byte == 0x3a) {
			map = byte == 0x38 ? HK_MAP_0F38 : HK_MAP_0F3A;
			if (!have(in, 1)) {
				return HK_DECODE_SHORT;
			}
			byte = in->bytes[in->pos++];
		}
	} else if (byte == 0xc4 || byte == 0xc5) {
		if (!have(in, 1)) {
			return HK_DECODE_SHORT;
		}
		/* Outside 64-bit mode LES and LDS where they have a memory operand. */
		if (mode == HK_CODE_64 || in->bytes[in->pos] >= 0xc0) {
			enum hk_decode r = take_vex(in, mode, byte == 0xc4, p, &map);

			if (r != HK_DECODE_OK) {
				return r;
			}
			if (!have(in, 1)) {
				return HK_DECODE_SHORT;
			}
			byte = in->bytes[in->pos++];
		}
	}
	*ret_map = map;
	*ret_op = byte;
	return HK_DECODE_OK;
}

/* The row for this opcode. @modrm is that byte where the opcode has one. Return: NULL: none. */
static const struct shape *choose_shape(const struct opcode *o, enum hk_code_mode mode,
	uint32_t features, const struct prefixes *p, uint8_t modrm)
{
	uint32_t key = 1u << (KEY_PP + p->pp) | 1u << (KEY_MODE + mode) | 1u << (KEY_W + p->w) |
		1u << (KEY_B + p->b) | 1u << (KEY_L + p->vex_l);
	const uint16_t *candidate = tables.candidates + o->first;

	if (o->modrm) {
		key |= 1u << (KEY_MOD + (modrm >= 0xc0)) | 1u << (KEY_REG + (modrm >> 3 & 7));
	}
	for (unsigned i = 0; i < o->count; i++) {
		const struct shape *s = &tables.shapes[candidate[i]];

		if ((key & ~s->allow) == 0 && (s->byte == ANY_BYTE || s->byte == modrm) &&
			(features >> s->feature & 1) != 0) {
			return s;
		}
	}
	return NULL;
}

/* log2 of the operand size in bytes: by mode, class (none, D64, F64), REX.W, 66 */
static const uint8_t operand_sizes[HK_CODE_MODE_COUNT][3][2][2] = {
	[HK_CODE_16] = {{{1, 2}, {1, 2}}, {{1, 2}, {1, 2}}, {{1, 2}, {1, 2}}},
	[HK_CODE_32] = {{{2, 1}, {2, 1}}, {{2, 1}, {2, 1}}, {{2, 1}, {2, 1}}},
	[HK_CODE_64] = {{{2, 1}, {3, 3}}, {{3, 1}, {3, 3}}, {{3, 3}, {3, 3}}},
};

/* log2 of the address size in bytes: by mode, 67 */
static const uint8_t address_sizes[HK_CODE_MODE_COUNT][2] = {
	[HK_CODE_16] = {1, 2},
	[HK_CODE_32] = {2, 1},
	[HK_CODE_64] = {3, 2},
};

/* @number 0 to 7, or to 15 with REX: the byte's offset in cpu->gpr */
static inline uint8_t gpr8(unsigned number, bool has_rex)
{
	return (uint8_t)(number >= 4 && !has_rex ? (number - 4) * 8 + 1 : number * 8);
}

/* Base, index and displacement with 16-bit addresses. */
static bool take_memory_16(struct reader *in, uint8_t modrm, struct hk_insn *insn)
{
	static const uint8_t bases[8] = {
		HK_RBX, HK_RBX, HK_RBP, HK_RBP, HK_RSI, HK_RDI, HK_RBP, HK_RBX};
	static const uint8_t indexes[8] = {
		HK_RSI, HK_RDI, HK_RSI, HK_RDI, HK_REG_ZERO, HK_REG_ZERO, HK_REG_ZERO, HK_REG_ZERO};
	unsigned mod = modrm >> 6, rm = modrm & 7;

	insn->base = bases[rm];
	insn->index = indexes[rm];
	if (mod == 0 && rm == 6) {
		insn->base = HK_REG_ZERO;
		mod = 2;
	}
	if (!have(in, mod)) {
		return false;
	}
	if (mod == 1) {
		insn->disp = (int8_t)in->bytes[in->pos++];
	} else if (mod == 2) {
		insn->disp = (int16_t)take16(in);
	}
	return true;
}

/* The same with 32- and 64-bit addresses. RIP-relative: what the instruction says, for now. */
static bool take_memory_32(struct reader *in, enum hk_code_mode mode, const struct prefixes *p,
	uint8_t modrm, struct hk_insn *insn)
{
	unsigned mod = modrm >> 6, rm = modrm & 7;
	unsigned disp_bytes = mod == 1 ? 1 : mod == 2 ? 4 : 0;

	insn->base = (uint8_t)(rm | p->b << 3);
	insn->index = HK_REG_ZERO;
	if (rm == 4) {
		uint8_t sib, index;

		if (!have(in, 1)) {
			return false;
		}
		sib = in->bytes[in->pos++];
		rm = sib & 7;
		index = (uint8_t)((sib >> 3 & 7) | p->x << 3);
		insn->base = (uint8_t)(rm | p->b << 3);
		if (index != HK_RSP) {
			insn->index = index;
			insn->flags |= (uint16_t)((sib >> 6) << HK_INSN_SCALE_SHIFT);
		}
		if (mod == 0 && rm == 5) {
			insn->base = HK_REG_ZERO;
			disp_bytes = 4;
		}
	} else if (mod == 0 && rm == 5) {
		insn->base = mode == HK_CODE_64 ? HK_REG_PAGE : HK_REG_ZERO;
		disp_bytes = 4;
	}
	if (!have(in, disp_bytes)) {
		return false;
	}
	if (disp_bytes == 1) {
		insn->disp = (int8_t)in->bytes[in->pos++];
	} else if (disp_bytes == 4) {
		insn->disp = (int32_t)take32(in);
	}
	return true;
}

/* Segment of the memory operand, and whether its address is as simple as can be. */
static inline void set_segment(
	struct hk_insn *insn, enum hk_code_mode mode, const struct prefixes *p, bool memory)
{
	unsigned seg = p->seg;

	if (seg == NO_SEG) {
		seg = memory && (insn->base == HK_RSP || insn->base == HK_RBP) ? HK_SS : HK_DS;
	}
	insn->flags |= (uint16_t)(seg << HK_INSN_SEG_SHIFT);
	if (memory && mode == HK_CODE_64 && seg < HK_FS && !p->addr) {
		insn->flags |= HK_INSN_PLAIN;
	}
}

/* ModRM.reg. Return: false: no such register. */
static inline bool set_reg(
	const struct shape *s, const struct prefixes *p, uint8_t modrm, struct hk_insn *insn)
{
	unsigned low = modrm >> 3 & 7;
	unsigned number = low | (unsigned)p->r << 3;

	switch ((enum reg_kind)s->reg) {
	case REG_NONE:
		break;
	case REG_GPR:
	case REG_XMM:
		insn->reg = (uint8_t)number;
		break;
	case REG_GPR8:
		insn->reg = gpr8(number, p->has_rex);
		break;
	case REG_LOW3:
		insn->reg = (uint8_t)low;
		break;
	case REG_SREG:
	case REG_SREG_LOAD:
		insn->reg = (uint8_t)low;
		return low <= HK_GS && (s->reg == REG_SREG || low != HK_CS);
	case REG_CR:
		insn->reg = (uint8_t)number;
		return number == 0 || (number >= 2 && number <= 4) || number == 8;
	case REG_DR:
		insn->reg = (uint8_t)number;
		return number < 8;
	case REG_FIXED:
		insn->reg = s->reg_fixed;
		break;
	}
	return true;
}

/* The rm operand where it is no memory. @op: the last opcode byte. */
static inline void set_rm(const struct shape *s, const struct prefixes *p, uint8_t op,
	uint8_t modrm, struct hk_insn *insn)
{
	unsigned high = (unsigned)p->b << 3;

	switch ((enum rm_kind)s->rm) {
	case RM_NONE:
	case RM_MOFFS:
		break;
	case RM_GPR:
	case RM_XMM:
		insn->base = (uint8_t)((modrm & 7) | high);
		break;
	case RM_GPR8:
		insn->base = gpr8((modrm & 7) | high, p->has_rex);
		break;
	case RM_LOW3:
		insn->base = modrm & 7;
		break;
	case RM_OPCODE:
		insn->base = (uint8_t)((op & 7) | high);
		break;
	case RM_OPCODE8:
		insn->base = gpr8((op & 7) | high, p->has_rex);
		break;
	case RM_FIXED:
		insn->base = s->rm_fixed;
		break;
	}
}

/* A moffs operand: the address itself. Up to 32 bits it is a displacement, too. */
static bool take_moffs(
	struct reader *in, enum hk_code_mode mode, const struct prefixes *p, struct hk_insn *insn)
{
	unsigned bytes = 1u << hk_insn_addr_size(insn);

	if (!have(in, bytes)) {
		return false;
	}
	insn->imm = bytes == 2 ? take16(in) : bytes == 4 ? take32(in) : take64(in);
	insn->disp = (int32_t)insn->imm;
	insn->base = HK_REG_ZERO;
	insn->index = HK_REG_ZERO;
	insn->flags |= HK_INSN_MEM;
	set_segment(insn, mode, p, true);
	if (insn->imm != (uint64_t)(int64_t)insn->disp) {
		insn->flags &= (uint16_t)~HK_INSN_PLAIN;
	}
	return true;
}

/* The immediate. Of branches the distance, for now. @size: the operand size */
static inline bool take_imm(
	const struct shape *s, struct reader *in, unsigned size, struct hk_insn *insn)
{
	unsigned imm = s->imm;

	if (imm == IMM_V && size < 3) {
		imm = IMM_Z;
	}
	if (imm == IMM_Z && size == 1) {
		/* Sign-extended like its wider brothers, unlike a count. */
		if (!have(in, 2)) {
			return false;
		}
		insn->imm = (uint64_t)(int64_t)(int16_t)take16(in);
		return true;
	}
	switch ((enum imm_kind)imm) {
	case IMM_NONE:
		return true;
	case IMM_ONE:
		insn->imm = 1;
		return true;
	case IMM_B:
	case IMM_B_SIGNED:
	case IMM_REL_B:
		if (!have(in, 1)) {
			return false;
		}
		insn->imm = in->bytes[in->pos++];
		if (imm == IMM_REL_B) {
			insn->disp = (int8_t)insn->imm;
			insn->imm = 0;
		} else if (imm == IMM_B_SIGNED) {
			insn->imm = (uint64_t)(int64_t)(int8_t)insn->imm;
		}
		return true;
	case IMM_W:
		if (!have(in, 2)) {
			return false;
		}
		insn->imm = take16(in);
		return true;
	case IMM_Z:
		if (!have(in, 4)) {
			return false;
		}
		insn->imm = (uint64_t)(int64_t)(int32_t)take32(in);
		return true;
	case IMM_V:
		if (!have(in, 8)) {
			return false;
		}
		insn->imm = take64(in);
		return true;
	case IMM_ENTER:
		if (!have(in, 3)) {
			return false;
		}
		insn->imm = take16(in);
		insn->imm |= (uint64_t)in->bytes[in->pos++] << 16;
		return true;
	case IMM_REL_Z:
		if (!have(in, size == 1 ? 2 : 4)) {
			return false;
		}
		insn->disp = size == 1 ? (int16_t)take16(in) : (int32_t)take32(in);
		return true;
	case IMM_FAR:
		if (!have(in, size == 1 ? 4 : 6)) {
			return false;
		}
		insn->imm = size == 1 ? take16(in) : take32(in);
		insn->imm |= (uint64_t)take16(in) << 32;
		return true;
	}
	return true;
}

/* Distances count from the end of the instruction; make them count from the page. */
static enum hk_decode make_page_relative(struct hk_insn *insn, enum hk_code_mode mode)
{
	int64_t disp = (int64_t)insn->disp + insn->off + insn->len;

	if (disp != (int32_t)disp && mode == HK_CODE_64) {
		return HK_DECODE_FAR;
	}
	insn->disp = (int32_t)(uint32_t)disp; /* addresses of 32 bits wrap around anyway */
	return HK_DECODE_OK;
}

static enum hk_decode decode(
	struct reader *in, enum hk_code_mode mode, uint32_t features, struct hk_insn *insn)
{
	struct prefixes p = {.seg = NO_SEG, .vvvv = 15};
	const struct opcode *o;
	const struct shape *s;
	enum hk_decode result;
	enum hk_map map;
	unsigned v; /* the operand size, while HK_INSN_SIZE may be fixed */
	uint8_t op, modrm = 0;
	bool memory = false;

	if (!take_prefixes(in, mode, &p)) {
		return HK_DECODE_SHORT;
	}
	result = take_opcode(in, mode, &p, &map, &op);
	if (result != HK_DECODE_OK) {
		return result;
	}
	o = &tables.opcodes[map][op];
	if (o->count == 0) {
		return HK_DECODE_UD;
	}
	if (o->modrm) {
		if (!have(in, 1)) {
			return HK_DECODE_SHORT;
		}
		modrm = in->bytes[in->pos++];
	}
	s = choose_shape(o, mode, features, &p, modrm);
	if (s == NULL) {
		return HK_DECODE_UD;
	}

	v = operand_sizes[mode][s->size_class][p.w][p.size];
	insn->row = s->row;
	insn->flags = (uint16_t)(s->form | address_sizes[mode][p.addr] << HK_INSN_ADDR_SHIFT);
	if (s->size < SIZE_V) {
		insn->flags |= s->size;
	} else if (s->size == SIZE_V) {
		insn->flags |= (uint16_t)v;
	} else if (s->size == SIZE_Z) {
		insn->flags |= (uint16_t)HK_MIN(v, 2u);
	} else {
		insn->flags |= p.w || (s->size_class == 2 && mode == HK_CODE_64) ? 3 : 2;
	}
	if (o->modrm) {
		memory = modrm < 0xc0 && !s->mod_ignored;
		if (memory &&
			!(hk_insn_addr_size(insn) == 1
					? take_memory_16(in, modrm, insn)
					: take_memory_32(in, mode, &p, modrm, insn))) {
			return HK_DECODE_SHORT;
		}
	}
	if (memory) {
		insn->flags |= HK_INSN_MEM;
	} else {
		set_rm(s, &p, op, modrm, insn);
	}
	set_segment(insn, mode, &p, memory);
	if (!set_reg(s, &p, modrm, insn)) {
		return HK_DECODE_UD;
	}
	if (p.lock) {
		if ((s->row_flags & HK_ROW_LOCK) == 0 || !memory) {
			return HK_DECODE_UD;
		}
		insn->flags |= HK_INSN_LOCK;
	}
	if (s->vvvv) {
		insn->aux = p.vvvv ^ 15;
	} else if (p.vvvv != 15) {
		return HK_DECODE_UD;
	}
	if ((s->row_flags & HK_ROW_REP) != 0) {
		insn->flags |= (uint16_t)(p.rep << HK_INSN_REP_SHIFT);
	}
	insn->cond = (s->row_flags & HK_ROW_CC) != 0 ? op & 15 : s->far_seg;
	if (!(s->rm == RM_MOFFS ? take_moffs(in, mode, &p, insn) : take_imm(s, in, v, insn))) {
		return HK_DECODE_SHORT;
	}
	insn->len = (uint8_t)in->pos;
	if (s->imm == IMM_REL_B || s->imm == IMM_REL_Z || (memory && insn->base == HK_REG_PAGE)) {
		return make_page_relative(insn, mode);
	}
	return HK_DECODE_OK;
}

enum hk_decode hk_decode(const uint8_t *bytes, unsigned len_bytes, enum hk_code_mode mode,
	uint32_t features, int off, struct hk_insn *ret_insn)
{
	struct reader in = {.bytes = bytes, .end = HK_MIN(len_bytes, (unsigned)HK_MAX_INSN_LEN)};
	enum hk_decode result;

	if (__builtin_expect(
		    atomic_load_explicit(&tables.state, memory_order_acquire) != TABLES_READY, 0)) {
		hk_decode_init();
	}
	*ret_insn = (struct hk_insn){.off = (int16_t)off};
	result = decode(&in, mode, features, ret_insn);
	if (result == HK_DECODE_SHORT && len_bytes >= HK_MAX_INSN_LEN) {
		result = HK_DECODE_LONG;
	}
	if (result != HK_DECODE_OK && result != HK_DECODE_FAR) {
		ret_insn->len = (uint8_t)in.pos;
	}
	return result;
}
