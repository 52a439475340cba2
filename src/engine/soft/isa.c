/* SPDX-License-Identifier: ISC */
/*
 * The instruction table as data, and its operand language (isa.h) taken apart.
 *
 * The rows are the same for all users; the decoder builds its look-up tables from them, the
 * disassembler reads them as they are.
 */
#include "engine/soft/isa.h"

#include <string.h>

#include "base/util.h"
#include "engine/vcpu_state.h"

#define ROW(map, pp, op, ext, name, operands, handler, feature, flags) \
	{name, operands, HK_MAP_##map, HK_PP_##pp, op, ext, HK_FEAT_##feature, flags},
const struct hk_isa_row hk_isa[] = {
#include "engine/soft/isa/all.def"
};
#undef ROW

const unsigned hk_isa_count = HK_ARRAY_SIZE(hk_isa);

/* Operands that the opcode implies. */
static const struct fixed {
	const char *name;
	char place, size;
	uint8_t number;
} fixed_operands[] = {
	{"al", 'r', 'b', HK_RAX},
	{"cl", 'r', 'b', HK_RCX},
	{"ax", 'r', 'w', HK_RAX},
	{"dx", 'r', 'w', HK_RDX},
	{"eAX", 'r', 'z', HK_RAX},
	{"rAX", 'r', 'v', HK_RAX},
	{"es", 's', 'w', HK_ES},
	{"cs", 's', 'w', HK_CS},
	{"ss", 's', 'w', HK_SS},
	{"ds", 's', 'w', HK_DS},
	{"fs", 's', 'w', HK_FS},
	{"gs", 's', 'w', HK_GS},
	{"st", 't', 't', 0},
	{"xmm0", 'x', 'x', 0},
	{"1", '1', 'b', 1},
};

/* What a letter stands for. */
static enum hk_operand_what letter_what(char letter)
{
	switch (letter) {
	case 'G':
	case 'R':
	case 'Z':
	case 'B':
		return HK_OPERAND_GPR;
	case 'E':
		return HK_OPERAND_RM;
	case 'M':
		return HK_OPERAND_MEM;
	case 'I':
		return HK_OPERAND_IMM;
	case 'J':
		return HK_OPERAND_REL;
	case 'A':
		return HK_OPERAND_FAR;
	case 'O':
		return HK_OPERAND_MOFFS;
	case 'S':
		return HK_OPERAND_SREG;
	case 'C':
		return HK_OPERAND_CR;
	case 'D':
		return HK_OPERAND_DR;
	case 'X':
	case 'Y':
		return HK_OPERAND_STRING;
	case 'V':
	case 'U':
		return HK_OPERAND_XMM;
	case 'W':
		return HK_OPERAND_XMM_RM;
	case 'P':
	case 'N':
		return HK_OPERAND_MMX;
	case 'Q':
		return HK_OPERAND_MMX_RM;
	case 'T':
		return HK_OPERAND_ST;
	default:
		return HK_OPERAND_NONE;
	}
}

/* One operand, @len characters. Return: false where it is none. */
static bool parse_operand(const char *text, size_t len, struct hk_operand *ret)
{
	for (size_t i = 0; i < HK_ARRAY_SIZE(fixed_operands); i++) {
		const struct fixed *f = &fixed_operands[i];

		if (strlen(f->name) == len && memcmp(f->name, text, len) == 0) {
			*ret = (struct hk_operand){
				.what = HK_OPERAND_FIXED,
				.place = f->place,
				.size = f->size,
				.fixed = f->number,
			};
			return true;
		}
	}
	if (len < 1 || len > 3 || letter_what(text[0]) == HK_OPERAND_NONE) {
		return false;
	}
	*ret = (struct hk_operand){
		.what = letter_what(text[0]),
		.place = text[0],
		.size = len >= 2 ? text[1] : 0,
		.sign_extended = len == 3,
	};
	return (len < 2 || strchr("bwdqxvzypst", text[1]) != NULL) &&
		(len < 3 || memcmp(text, "Ibs", 3) == 0);
}

unsigned hk_isa_operands(const struct hk_isa_row *row, struct hk_operand ret[HK_MAX_OPERANDS])
{
	const char *text = row->operands;
	unsigned count = 0;

	while (*text != '\0') {
		size_t len = strcspn(text, ",");

		if (count == HK_MAX_OPERANDS || !parse_operand(text, len, &ret[count])) {
			return HK_MAX_OPERANDS + 1;
		}
		count++;
		text += len;
		if (*text == ',') {
			text++;
		}
	}
	return count;
}
