/* SPDX-License-Identifier: ISC */
/*
 * From the rows of the instruction table to the tables that the decoder looks up: decode_tables.h.
 *
 * They are built once, by whoever comes first; that takes a fraction of a millisecond.
 */
#include "engine/soft/decode_tables.h"

#include <assert.h>
#include <string.h>

#include "base/util.h"
#include "engine/soft/decode.h"
#include "engine/vcpu_state.h"

struct hk_decode_tables hk_decode_tables;

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
static char shape_operand(struct hk_shape *s, const struct hk_operand *o, bool first)
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

/*
 * The accumulator, CL: they take whichever place the other operands leave. DX is no operand but a
 * port.
 */
static char shape_fixed_gpr(struct hk_shape *s, const struct hk_operand *o)
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
	struct hk_shape *s = &hk_decode_tables.shapes[row_index];
	struct hk_operand operands[HK_MAX_OPERANDS];
	unsigned count = hk_isa_operands(row, operands);
	char roles[HK_MAX_OPERANDS + 1] = "";
	bool memory = (row->ext & EXT_REG) == 0, reg = (row->ext & EXT_MEM) == 0;
	enum hk_form form = HK_FORM_RM;

	assert(count <= HK_MAX_OPERANDS);
	*s = (struct hk_shape){
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
			struct hk_opcode *o =
				&hk_decode_tables.opcodes[row->map][(row->op + n) & 255];

			o->count++;
			o->modrm = o->modrm || modrm;
		}
	}
	for (unsigned i = 0; i < HK_MAP_COUNT * 256; i++) {
		struct hk_opcode *o = &hk_decode_tables.opcodes[i / 256][i % 256];

		o->first = (uint16_t)total;
		total += o->count;
		o->count = 0;
	}
	assert(total <= MAX_CANDIDATES);
	for (unsigned i = 0; i < ROWS; i++) {
		const struct hk_isa_row *row = &hk_isa[i];

		for (unsigned n = 0; n < row_span(row); n++) {
			struct hk_opcode *o =
				&hk_decode_tables.opcodes[row->map][(row->op + n) & 255];
			uint16_t *list = hk_decode_tables.candidates + o->first;
			unsigned at = o->count++;

			while (at > 0 &&
				hk_decode_tables.shapes[list[at - 1]].rank >
					hk_decode_tables.shapes[i].rank) {
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

	if (atomic_compare_exchange_strong(&hk_decode_tables.state, &state, TABLES_IN_WORK)) {
		build_tables();
		atomic_store_explicit(&hk_decode_tables.state, TABLES_READY, memory_order_release);
		return;
	}
	/* Another thread builds them: a fraction of a millisecond. */
	while (atomic_load_explicit(&hk_decode_tables.state, memory_order_acquire) !=
		TABLES_READY) {
	}
}
