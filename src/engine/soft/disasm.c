/* SPDX-License-Identifier: ISC */
/*
 * The disassembler: a decoded instruction as text, Intel syntax.
 *
 * It reads the same rows as the decoder and takes all else from the decoded instruction, so what it
 * shows is what will be run. Two deviations from common assemblers: RIP-relative operands are shown
 * as "[rel 0x401000]", and string instructions show their size in the name and no operands.
 *
 * Prefixes without a meaning are not shown.
 */
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/util.h"
#include "engine/soft/decode.h"
#include "engine/vcpu_state.h"

/* The text so far; what does not fit is cut off. */
struct text {
	char *buf;
	unsigned len;
};

static void put(struct text *t, const char *format, ...) __attribute__((format(printf, 2, 3)));

static void put(struct text *t, const char *format, ...)
{
	va_list args;
	int n;

	va_start(args, format);
	n = vsnprintf(t->buf + t->len, HK_DISASM_MAX - t->len, format, args);
	va_end(args);
	if (n > 0) {
		t->len = HK_MIN(t->len + (unsigned)n, (unsigned)HK_DISASM_MAX - 1);
	}
}

/* ---- Registers ---- */

static const char *const conditions[16] = {
	"o", "no", "b", "ae", "e", "ne", "be", "a", "s", "ns", "p", "np", "l", "ge", "le", "g"};

static const char *const segments[] = {"es", "cs", "ss", "ds", "fs", "gs", "?", "?"};

/* @size: log2 of bytes */
static void put_gpr(struct text *t, unsigned number, unsigned size)
{
	static const char *const low[8] = {"ax", "cx", "dx", "bx", "sp", "bp", "si", "di"};
	static const char *const bytes[8] = {"al", "cl", "dl", "bl", "spl", "bpl", "sil", "dil"};
	static const char *const high_bytes[4] = {"ah", "ch", "dh", "bh"};
	static const char *const suffixes[4] = {"b", "w", "d", ""};

	if (size == 0) {
		/* A byte's offset in the register file */
		if ((number & 7) == 1 && number < 32) {
			put(t, "%s", high_bytes[number / 8]);
			return;
		}
		number /= 8;
	}
	if (number >= 8) {
		put(t, "r%u%s", number, suffixes[size]);
	} else if (size == 0) {
		put(t, "%s", bytes[number]);
	} else {
		put(t, "%s%s", size == 3 ? "r" : size == 2 ? "e" : "", low[number]);
	}
}

/* The size of a general register or immediate with this letter */
static unsigned gpr_size(const struct hk_insn *insn, char letter, enum hk_code_mode mode)
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
	case 'z':
		return HK_MIN(hk_insn_size(insn), 2u);
	case 0:
		return mode == HK_CODE_64 ? 3 : 2;
	default:
		return hk_insn_size(insn);
	}
}

/* ---- Memory ---- */

/* How wide a memory operand is */
static const char *memory_size(const struct hk_insn *insn, char letter)
{
	static const char *const names[4] = {"byte", "word", "dword", "qword"};

	switch (letter) {
	case 'b':
		return names[0];
	case 'w':
		return names[1];
	case 'd':
		return names[2];
	case 'q':
		return names[3];
	case 'v':
	case 'y':
		return names[hk_insn_size(insn)];
	case 'z':
		return names[HK_MIN(hk_insn_size(insn), 2u)];
	case 't':
		return "tbyte";
	case 'x':
		return "xmmword";
	case 'p':
		return "far";
	default:
		return NULL;
	}
}

static uint64_t cut_address(const struct hk_insn *insn, uint64_t address)
{
	return address & UINT64_MAX >> (64 - (8u << hk_insn_addr_size(insn)));
}

static void put_displacement(struct text *t, const struct hk_insn *insn, bool alone)
{
	int64_t disp = insn->disp;

	if (alone) {
		put(t, "0x%" PRIx64, cut_address(insn, (uint64_t)disp));
	} else if (disp != 0) {
		put(t, "%c0x%" PRIx64, disp < 0 ? '-' : '+', (uint64_t)(disp < 0 ? -disp : disp));
	}
}

static void put_memory(struct text *t, const struct hk_insn *insn, uint64_t rip, char letter)
{
	const char *size = memory_size(insn, letter);
	bool base = insn->base < HK_GPR_COUNT, index = insn->index < HK_GPR_COUNT;
	unsigned seg = hk_insn_seg(insn);
	unsigned usual = insn->base == HK_RSP || insn->base == HK_RBP ? HK_SS : HK_DS;
	unsigned addr_size = hk_insn_addr_size(insn);

	if (size != NULL) {
		put(t, "%s ptr ", size);
	}
	if (seg != usual) {
		put(t, "%s:", segments[seg]);
	}
	put(t, "[");
	if (insn->base == HK_REG_PAGE) {
		/* disp counts from the page of code */
		put(t, "rel 0x%" PRIx64,
			cut_address(insn, rip - (uint64_t)insn->off + (uint64_t)insn->disp));
	} else {
		if (base) {
			put_gpr(t, insn->base, addr_size);
		}
		if (index) {
			put(t, "%s", base ? "+" : "");
			put_gpr(t, insn->index, addr_size);
			if (addr_size > 1) {
				put(t, "*%u", 1u << hk_insn_scale(insn));
			}
		}
		put_displacement(t, insn, !base && !index);
	}
	put(t, "]");
}

/* ---- Operands ---- */

static void put_imm(struct text *t, const struct hk_insn *insn, const struct hk_operand *o,
	enum hk_code_mode mode)
{
	unsigned size = o->sign_extended ? hk_insn_size(insn) : gpr_size(insn, o->size, mode);
	uint64_t imm = insn->imm;

	if (o->size == 'z') {
		size = hk_insn_size(insn); /* extended to it */
	}
	put(t, "0x%" PRIx64, imm & UINT64_MAX >> (64 - (8u << size)));
}

/* Where a relative branch leads */
static void put_target(
	struct text *t, const struct hk_insn *insn, enum hk_code_mode mode, uint64_t rip)
{
	uint64_t target = rip - (uint64_t)insn->off + (uint64_t)insn->disp;

	if (mode != HK_CODE_64) {
		target = hk_insn_size(insn) == 1 ? (uint16_t)target : (uint32_t)target;
	}
	put(t, "0x%" PRIx64, target);
}

static void put_fixed(struct text *t, const struct hk_insn *insn, const struct hk_operand *o,
	enum hk_code_mode mode)
{
	switch (o->place) {
	case 'r':
		put_gpr(t, o->size == 'b' ? o->fixed * 8u : o->fixed,
			gpr_size(insn, o->size, mode));
		break;
	case 's':
		put(t, "%s", segments[o->fixed & 7]);
		break;
	case 'x':
		put(t, "xmm%u", o->fixed);
		break;
	case 't':
		put(t, "st");
		break;
	default:
		put(t, "%u", o->fixed);
		break;
	}
}

/* Is the operand in ModRM.rm (or the opcode), so that its register is in base? */
static bool in_rm(const struct hk_operand *o)
{
	return strchr("EMRZWUQNT", o->place) != NULL;
}

static void put_operand(struct text *t, const struct hk_insn *insn, const struct hk_operand *o,
	enum hk_code_mode mode, uint64_t rip)
{
	unsigned reg = o->place == 'B' ? insn->aux : in_rm(o) ? insn->base : insn->reg;

	if (in_rm(o) && o->place != 'Z' && hk_insn_mem(insn)) {
		put_memory(t, insn, rip, o->size);
		return;
	}
	switch ((enum hk_operand_what)o->what) {
	case HK_OPERAND_GPR:
	case HK_OPERAND_RM:
		put_gpr(t, reg, gpr_size(insn, o->size, mode));
		break;
	case HK_OPERAND_IMM:
		put_imm(t, insn, o, mode);
		break;
	case HK_OPERAND_REL:
		put_target(t, insn, mode, rip);
		break;
	case HK_OPERAND_FAR:
		put(t, "0x%x:0x%x", (unsigned)(insn->imm >> 32), (unsigned)insn->imm);
		break;
	case HK_OPERAND_MOFFS:
		put(t, "%s:[0x%" PRIx64 "]", segments[hk_insn_seg(insn)], insn->imm);
		break;
	case HK_OPERAND_SREG:
		put(t, "%s", segments[reg & 7]);
		break;
	case HK_OPERAND_CR:
		put(t, "cr%u", reg);
		break;
	case HK_OPERAND_DR:
		put(t, "dr%u", reg);
		break;
	case HK_OPERAND_XMM:
	case HK_OPERAND_XMM_RM:
		put(t, "xmm%u", reg);
		break;
	case HK_OPERAND_MMX:
	case HK_OPERAND_MMX_RM:
		put(t, "mm%u", reg);
		break;
	case HK_OPERAND_ST:
		put(t, "st(%u)", reg);
		break;
	case HK_OPERAND_FIXED:
		put_fixed(t, insn, o, mode);
		break;
	case HK_OPERAND_NONE:
	case HK_OPERAND_MEM:
	case HK_OPERAND_STRING:
		break;
	}
}

/* ---- The whole ---- */

/* The part of "a|b|c" that @size (log2 of bytes) asks for; the last where there are fewer. */
static void put_name(struct text *t, const char *name, unsigned size)
{
	while (size > 1 && strchr(name, '|') != NULL) {
		name = strchr(name, '|') + 1;
		size--;
	}
	put(t, "%.*s", (int)strcspn(name, "|"), name);
}

/* Prefixes that change what the instruction does but are seen in no operand. */
static void put_prefixes(struct text *t, const struct hk_insn *insn, enum hk_code_mode mode,
	const struct hk_isa_row *row, bool string, bool source)
{
	static const uint8_t usual_addr_size[] = {
		[HK_CODE_16] = 1, [HK_CODE_32] = 2, [HK_CODE_64] = 3};
	bool compares = strncmp(row->name, "cmps", 4) == 0 || strncmp(row->name, "scas", 4) == 0;

	if ((insn->flags & HK_INSN_LOCK) != 0) {
		put(t, "lock ");
	}
	if (hk_insn_rep(insn) == HK_REP_F2) {
		put(t, "repne ");
	} else if (hk_insn_rep(insn) == HK_REP_F3) {
		put(t, compares ? "repe " : "rep ");
	}
	if (string && hk_insn_addr_size(insn) != usual_addr_size[mode]) {
		put(t, "a%u ", 8u << hk_insn_addr_size(insn));
	}
	if (source && hk_insn_seg(insn) != HK_DS) {
		put(t, "%s ", segments[hk_insn_seg(insn)]);
	}
}

void hk_disasm(const struct hk_insn *insn, enum hk_code_mode mode, uint64_t rip,
	char ret_text[HK_DISASM_MAX])
{
	const struct hk_isa_row *row = &hk_isa[insn->row];
	struct hk_operand operands[HK_MAX_OPERANDS];
	unsigned count = hk_isa_operands(row, operands);
	struct text t = {.buf = ret_text};
	bool xlat = strcmp(row->name, "xlat") == 0;
	bool string = xlat, source = xlat;
	bool by_address = count > 0 && operands[0].place == 'J'; /* JRCXZ */
	const char *separator = " ";

	ret_text[0] = '\0';
	for (unsigned i = 0; i < count; i++) {
		string = string || operands[i].what == HK_OPERAND_STRING;
		source = source || operands[i].place == 'X';
	}
	put_prefixes(&t, insn, mode, row, string || strncmp(row->name, "loop", 4) == 0, source);
	put_name(&t, row->name, by_address ? hk_insn_addr_size(insn) : hk_insn_size(insn));
	if ((row->flags & HK_ROW_CC) != 0) {
		put(&t, "%s", conditions[insn->cond & 15]);
	}
	if (string) {
		return;
	}
	if ((row->flags & HK_ROW_IMM8_2) != 0) {
		put(&t, " 0x%x, 0x%x", (unsigned)insn->imm & 0xffff, (unsigned)(insn->imm >> 16));
		return;
	}
	for (unsigned i = 0; i < count; i++) {
		put(&t, "%s", separator);
		put_operand(&t, insn, &operands[i], mode, rip);
		separator = ", ";
	}
}
