/* SPDX-License-Identifier: ISC */
/*
 * The decoder.
 *
 * An instruction goes through four steps: prefixes, opcode, row, operands. How a row is found is
 * told in decode_tables.h. All bytes are read before anything is refused for what it says, as
 * hardware does: an instruction that runs into a page that is not there, or over 15 bytes, faults
 * for that first.
 *
 * Limits: of an opcode that does not exist the length is not known. VEX forms decode in real mode,
 * too (hardware: #UD); nobody asks for them there.
 *
 * Source: Intel SDM vol. 2, chapter 2 and appendices A and B.
 */
#include "engine/soft/decode.h"

#include <string.h>

#include "base/util.h"
#include "engine/soft/decode_tables.h"
#include "engine/vcpu_state.h"

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
static const struct hk_shape *choose_shape(const struct hk_opcode *o, enum hk_code_mode mode,
	uint32_t features, const struct prefixes *p, uint8_t modrm)
{
	uint32_t key = 1u << (KEY_PP + p->pp) | 1u << (KEY_MODE + mode) | 1u << (KEY_W + p->w) |
		1u << (KEY_B + p->b) | 1u << (KEY_L + p->vex_l);
	const uint16_t *candidate = hk_decode_tables.candidates + o->first;

	if (o->modrm) {
		key |= 1u << (KEY_MOD + (modrm >= 0xc0)) | 1u << (KEY_REG + (modrm >> 3 & 7));
	}
	for (unsigned i = 0; i < o->count; i++) {
		const struct hk_shape *s = &hk_decode_tables.shapes[candidate[i]];

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

/*
 * Segment of the memory operand, and whether its address is as simple as can be. @memory: it is
 * given by ModRM; the segment goes for moffs and strings, too.
 */
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

/* ModRM.reg, or the register that the opcode implies in its place */
static inline void set_reg(
	const struct hk_shape *s, const struct prefixes *p, uint8_t modrm, struct hk_insn *insn)
{
	unsigned low = modrm >> 3 & 7;
	unsigned number = low | (unsigned)p->r << 3;

	switch ((enum reg_kind)s->reg) {
	case REG_NONE:
		break;
	case REG_GPR:
	case REG_XMM:
	case REG_CR:
	case REG_DR:
		insn->reg = (uint8_t)number;
		break;
	case REG_GPR8:
		insn->reg = gpr8(number, p->has_rex);
		break;
	case REG_LOW3:
	case REG_SREG:
	case REG_SREG_LOAD:
		insn->reg = (uint8_t)low;
		break;
	case REG_FIXED:
		insn->reg = s->reg_fixed;
		break;
	}
}

/* The rm operand where it is no memory. @op: the last opcode byte. */
static inline void set_rm(const struct hk_shape *s, const struct prefixes *p, uint8_t op,
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
static bool take_moffs(struct reader *in, struct hk_insn *insn)
{
	unsigned bytes = 1u << hk_insn_addr_size(insn);

	if (!have(in, bytes)) {
		return false;
	}
	insn->imm = bytes == 2 ? take16(in) : bytes == 4 ? take32(in) : take64(in);
	insn->disp = (int32_t)insn->imm;
	insn->base = HK_REG_ZERO;
	insn->index = HK_REG_ZERO;
	return true;
}

/* The immediate. Of branches the distance, for now. @size: the operand size */
static inline bool take_imm(
	const struct hk_shape *s, struct reader *in, unsigned size, struct hk_insn *insn)
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

/* The sizes, the form and what the row fixes. Return: log2 of the operand size in bytes, also where
 * HK_INSN_SIZE is something else. */
static inline unsigned set_row(const struct hk_shape *s, enum hk_code_mode mode,
	const struct prefixes *p, struct hk_insn *insn)
{
	unsigned operand_size = operand_sizes[mode][s->size_class][p->w][p->size];
	unsigned size = s->size;

	switch (size) {
	case SIZE_V:
		size = operand_size;
		break;
	case SIZE_Z:
		size = HK_MIN(operand_size, 2u);
		break;
	case SIZE_Y:
		size = p->w || (s->size_class == 2 && mode == HK_CODE_64) ? 3 : 2;
		break;
	}
	insn->row = s->row;
	insn->flags =
		(uint16_t)(s->form | size | address_sizes[mode][p->addr] << HK_INSN_ADDR_SHIFT);
	if ((s->row_flags & HK_ROW_REP) != 0) {
		insn->flags |= (uint16_t)(p->rep << HK_INSN_REP_SHIFT);
	}
	return operand_size;
}

/* What makes no instruction though there is a row for it. */
static inline bool is_valid(
	const struct hk_shape *s, const struct prefixes *p, const struct hk_insn *insn)
{
	if (p->lock && ((s->row_flags & HK_ROW_LOCK) == 0 || !hk_insn_mem(insn))) {
		return false;
	}
	if (p->vvvv != 15 && !s->vvvv) {
		return false;
	}
	switch ((enum reg_kind)s->reg) {
	case REG_SREG:
		return insn->reg <= HK_GS;
	case REG_SREG_LOAD:
		return insn->reg <= HK_GS && insn->reg != HK_CS;
	case REG_CR:
		return insn->reg == 0 || (insn->reg >= 2 && insn->reg <= 4) || insn->reg == 8;
	case REG_DR:
		return insn->reg < 8;
	default:
		return true;
	}
}

static enum hk_decode decode(
	struct reader *in, enum hk_code_mode mode, uint32_t features, struct hk_insn *insn)
{
	struct prefixes p = {.seg = NO_SEG, .vvvv = 15};
	const struct hk_opcode *o;
	const struct hk_shape *s;
	enum hk_decode result;
	enum hk_map map;
	unsigned operand_size;
	uint8_t op, modrm = 0;
	bool memory;

	if (!take_prefixes(in, mode, &p)) {
		return HK_DECODE_SHORT;
	}
	result = take_opcode(in, mode, &p, &map, &op);
	if (result != HK_DECODE_OK) {
		return result;
	}
	o = &hk_decode_tables.opcodes[map][op];
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

	operand_size = set_row(s, mode, &p, insn);
	memory = o->modrm && modrm < 0xc0 && !s->mod_ignored;
	if (memory) {
		if (hk_insn_addr_size(insn) == 1 ? !take_memory_16(in, modrm, insn)
						 : !take_memory_32(in, mode, &p, modrm, insn)) {
			return HK_DECODE_SHORT;
		}
		insn->flags |= HK_INSN_MEM;
	} else if (s->rm == RM_MOFFS) {
		if (!take_moffs(in, insn)) {
			return HK_DECODE_SHORT;
		}
		insn->flags |= HK_INSN_MEM;
	} else {
		set_rm(s, &p, op, modrm, insn);
	}
	set_segment(insn, mode, &p, memory);
	set_reg(s, &p, modrm, insn);
	if (s->vvvv) {
		insn->aux = p.vvvv ^ 15;
	}
	insn->cond = (s->row_flags & HK_ROW_CC) != 0 ? op & 15 : s->far_seg;
	if (!take_imm(s, in, operand_size, insn)) {
		return HK_DECODE_SHORT;
	}

	insn->len = (uint8_t)in->pos;
	if (!is_valid(s, &p, insn)) {
		return HK_DECODE_UD;
	}
	if (p.lock) {
		insn->flags |= HK_INSN_LOCK;
	}
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

	if (__builtin_expect(atomic_load_explicit(&hk_decode_tables.state, memory_order_acquire) !=
			    TABLES_READY,
		    0)) {
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
