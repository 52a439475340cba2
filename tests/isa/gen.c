/* SPDX-License-Identifier: ISC */
/*
 * The generator of test cases.
 *
 * Purpose: sequences of instructions over every row of the instruction table and every form of its
 * operands, most of which do something: a random program would fault at its first memory operand.
 *
 * Theory: some registers hold addresses within the data pages from the start and are rarely
 * destroyed ("pointers"), so memory operands can be aimed: at aligned and unaligned places, across
 * pages, at the read-only page and beyond it. Instructions that need more (a jump's target, a
 * divisor that does not overflow, a selector) get a few instructions before them that prepare it
 * ("setup"), which are tested like all others. Branches lead forward, so nearly every case ends.
 *
 * Everything follows from the seed and the number of the case.
 *
 * Limits: what user code may not do or what no two CPUs do alike is listed in rows.c, with the
 * reason.
 */
#include "gen_impl.h"

#include <stdio.h>

#include "base/util.h"
#include "engine/soft/decode.h"

enum { SHOW_SURPRISES = 20 };

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
			!isa_gen_is_called(&hk_isa[index], "sar")) {
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
 * Puts prefixes before the instruction that should not matter, or may. Return: the new length; 0:
 * better not.
 */
static unsigned add_prefixes(struct isa_gen *gen, uint8_t *bytes, unsigned len, bool mem)
{
	static const uint8_t prefixes[] = {
		0x26, 0x2e, 0x36, 0x3e, 0x66, 0x66, 0x67, 0xf2, 0xf3, 0xf3, 0x64, 0x65};
	unsigned usable = gen->options.fsgsbase ? sizeof(prefixes) : sizeof(prefixes) - 2;
	unsigned count =
		gen_chance(gen, 90) ? 1 + gen_below(gen, 3) : gen_below(gen, HK_MAX_INSN_LEN);

	memmove(bytes + count, bytes, len);
	for (unsigned i = 0; i < count; i++) {
		bytes[i] = prefixes[gen_below(gen, usable)];
		if (!gen->c->code32 && gen_chance(gen, 15)) {
			bytes[i] = (uint8_t)(0x40 + gen_below(gen, 16));
		} else if (!mem && gen_chance(gen, 3)) {
			bytes[i] = 0xf0;
		}
	}
	return gen->c->len + len + count <= ISA_MAX_CODE ? len + count : 0;
}

/*
 * Not branches, whose fix-ups would move; not XCHG, which locks the bus, and is PAUSE with F3 90.
 */
static bool may_mutate(
	const struct hk_isa_row *isa, const struct row *row, const struct isa_encoding *e)
{
	return row->special == PLAIN && !e->lock && strchr(isa->operands, 'J') == NULL &&
		strcmp(isa->name, "xchg") != 0;
}

/*
 * The instruction with prefixes that nobody asked for. Return: false where that makes it another
 * one.
 */
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
	gen->x87_used |= isa_gen_uses_x87(&gen->rows[index]);
	isa_gen_add(gen, bytes, len, index, false);
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

	if (!can_follow(gen, index) || !isa_gen_has_room(gen, 6)) {
		return false;
	}
	isa_gen_form(gen, index, &e, &size);
	isa_gen_immediate(gen, index, &e);
	target = isa_gen_prepare(gen, index, &e);
	if (e.mem) {
		isa_gen_memory(gen, &e, size, target);
	}
	len = isa_encode(&e, gen->c->start.rip + gen->c->len, bytes, &imm_at);
	if (len == 0) {
		return false;
	}
	if (may_mutate(isa, row, &e) && gen_chance(gen, 4)) {
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
	off = isa_gen_add(gen, bytes, len, index, false);
	for (unsigned i = 0; i < row->operand_count; i++) {
		if (row->operands[i].what == HK_OPERAND_REL) {
			isa_gen_fix_later(gen, off + imm_at, e.imm_len, true);
			if (isa->op == 0xe2 && isa->map == HK_MAP_L && gen->c->insn_count == 1 &&
				gen_chance(gen, 30)) { /* LOOP to itself */
				gen->c->start.gpr[HK_RCX] = 1 + gen_below(gen, 100);
				gen->fixups[gen->fixup_count - 1].self = true;
			}
		} else if (row->operands[i].what == HK_OPERAND_FAR) {
			isa_gen_fix_later(gen, off + imm_at, 4, false);
		}
	}
	while (fixups < gen->fixup_count) {
		gen->fixups[fixups++].insn = gen->c->insn_count;
	}
	gen->x87_used |= isa_gen_uses_x87(row);
	set_laxness(gen, index, &e);
	return true;
}

static void choose_start(struct isa_gen *gen)
{
	struct isa_random *r = &gen->random;
	struct isa_state *start = &gen->c->start;
	unsigned off;

	isa_gen_values(r, start);
	gen->pointers = gen->small = 0;
	for (unsigned i = 0; i < HK_GPR_COUNT; i++) {
		unsigned kind = gen_below(gen, 100);

		if (i == HK_RSP) {
			start->gpr[i] = ISA_DATA + 0x400 + (gen_below(gen, 0x1800) & ~7u);
			if (kind < 5) { /* near either end */
				start->gpr[i] = ISA_DATA + gen_below(gen, 64) +
					(kind < 2 ? 0 : ISA_DATA_BYTES - 32);
			} else if (kind < 9) {
				start->gpr[i] += gen_below(gen, 8);
			}
			gen->pointers |= 1u << i;
		} else if (kind < 30) {
			start->gpr[i] = isa_gen_aim(gen, 16);
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
	if (gen_chance(gen, 8)) {
		start->rflags |= HK_FLAG_DF;
	}
	start->fs_base = start->gs_base = 0;
	if (gen->options.fsgsbase) {
		start->fs_base = gen_chance(gen, 50) ? 0 : isa_gen_aim(gen, 16);
		start->gs_base = gen_chance(gen, 50) ? 0 : isa_boundary(r, 4) & 0x7fffffff;
	}
	memset(start->sel, 0, sizeof(start->sel));
	start->sel[HK_ES] = start->sel[HK_SS] = start->sel[HK_DS] = ISA_SEL_DATA;
	start->sel[HK_CS] = gen->c->code32 ? ISA_SEL_CODE32 : ISA_SEL_CODE64;
	off = gen_below(gen, ISA_PAGE - ISA_MAX_CODE - 1);
	if (gen_chance(gen, 5)) {
		off = ISA_PAGE - 1 - gen_below(gen, 60); /* into the next page */
	} else if (gen_chance(gen, 2)) {
		off = ISA_CODE_BYTES - 1 - gen_below(gen, 60); /* out of what is mapped */
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
	ret_case->code32 = gen->options.code32 && gen_chance(gen, 20);
	if (gen->pools[ret_case->code32][FAMILY_COUNT].count == 0) {
		ret_case->code32 = !ret_case->code32;
	}
	ret_case->memory = gen_below(gen, 256);
	choose_start(gen);

	family = gen_chance(gen, 50) ? gen_below(gen, FAMILY_COUNT) : FAMILY_COUNT;
	if (gen->pools[ret_case->code32][family].count == 0) {
		family = FAMILY_COUNT;
	}
	pool = &gen->pools[ret_case->code32][family];
	wanted = 1 + (gen_chance(gen, 30) ? 0 : gen_below(gen, 8));
	while (wanted > 0 && !gen->over && tries++ < 30) {
		if (add_insn(gen, pool->rows[gen_below(gen, pool->count)])) {
			wanted--;
		}
	}
	isa_gen_fix_all(gen);
	/* What would stand behind the code pages is not there. */
	limit = (unsigned)(ISA_CODE + ISA_CODE_BYTES - ret_case->start.rip);
	if (ret_case->len > limit) {
		ret_case->len = (uint16_t)limit;
	}
}
