/* SPDX-License-Identifier: ISC */
/* Choosing prefixes, registers, memory operands and immediates. */
#include "gen_impl.h"

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
	e->base = (uint8_t)gen_below(gen, 8);
	e->index = ISA_NO_REG;
	e->disp_len = (uint8_t)gen_below(gen, 3);
	e->disp = (uint32_t)isa_random(&gen->random);
}

/* The memory operand: at @target, or at what is aimed at where that is 0. */
void isa_gen_memory(struct isa_gen *gen, struct isa_encoding *e, unsigned size, uint32_t target)
{
	const uint64_t *gpr = gen->c->start.gpr;
	bool aimed = target != 0;
	/*
	 * Locked accesses across cache lines are slow, or not allowed: take no chances with the
	 * address.
	 */
	bool locked = e->lock || strcmp(e->row->name, "xchg") == 0;
	uint64_t rest;

	e->base = e->index = ISA_NO_REG;
	if (!aimed) {
		target = isa_gen_aim(gen, size);
		if (locked) {
			/* BTS and the like go on from there, by whole operands */
			bool whole = e->row->name[0] == 'b' || gen_chance(gen, 60);

			target = (target & ~63u) +
				(whole ? gen_below(gen, 3) * 16 : gen_below(gen, 48));
		}
	}
	if (!e->code64 && !aimed && !locked && gen_chance(gen, 2)) {
		choose_memory16(gen, e);
		return;
	}
	if (!aimed && !locked && e->code64 && gen->options.fsgsbase && gen_chance(gen, 4)) {
		bool gs = gen_chance(gen, 50);

		e->segment = gs ? 0x65 : 0x64;
		target -= (uint32_t)(gs ? gen->c->start.gs_base : gen->c->start.fs_base);
	} else if (gen_chance(gen, 3)) {
		static const uint8_t prefixes[] = {0x26, 0x2e, 0x36, 0x3e};

		e->segment = prefixes[gen_below(gen, 4)];
	}
	if (e->code64 && gen_chance(gen, 6)) {
		e->addrsize = true;
	}
	if (gen_chance(gen, 15) && e->code64) {
		e->rip = true;
		e->disp = target;
		return;
	}
	e->disp = target;
	e->disp_len = 4;
	if (aimed || gen_chance(gen, 4)) {
		return; /* no registers at all */
	}
	e->base = isa_gen_reg_of(gen, locked ? gen->pointers & ~(1u << HK_RSP) : gen->pointers);
	if (locked) {
		e->disp = e->base == ISA_NO_REG ? target : target - (uint32_t)gpr[e->base];
		return;
	}
	if (e->base == ISA_NO_REG || gen_chance(gen, 5)) {
		e->base = gen_chance(gen, 20) ? ISA_NO_REG
					      : (uint8_t)gen_below(gen, e->code64 ? 16 : 8);
	}
	if (gen_chance(gen, 35)) {
		e->index = gen_chance(gen, 80) ? isa_gen_reg_of(gen, gen->small)
					       : (uint8_t)gen_below(gen, e->code64 ? 16 : 8);
		if (e->index == HK_RSP) {
			e->index = ISA_NO_REG;
		}
		e->scale = (uint8_t)gen_below(gen, 4);
	}
	if (e->base == ISA_NO_REG) {
		rest = target - (e->index != ISA_NO_REG ? gpr[e->index] << e->scale : 0);
		e->disp = (uint32_t)rest;
		return;
	}
	rest = target - gpr[e->base] - (e->index != ISA_NO_REG ? gpr[e->index] << e->scale : 0);
	e->disp = (uint32_t)rest;
	if (gen_chance(gen, 30)) { /* where the registers lead, or near it */
		e->disp_len = gen_chance(gen, 50) ? 0 : 1;
		e->disp = e->disp_len == 0
			? 0
			: gen_below(gen, 256) & (gen_chance(gen, 50) ? 0xf0 : 0xff);
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
		*ret_reg = isa_gen_gpr(gen);
		break;
	case HK_OPERAND_XMM:
	case HK_OPERAND_XMM_RM:
		*ret_reg = (uint8_t)gen_below(gen, gen->c->code32 ? 8 : 16);
		break;
	default:
		*ret_reg = (uint8_t)gen_below(gen, 8);
		break;
	}
}

/* Prefixes and registers. */
void isa_gen_form(struct isa_gen *gen, unsigned index, struct isa_encoding *e, unsigned *ret_size)
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
	e->mem = only_mem || (can_mem && gen_chance(gen, 45));
	/*
	 * 66: with a prefix in the opcode only where the operand has any size. Near branches with
	 * 66 differ between makers.
	 */
	if (!branch && row->special != BRANCH_RM && row->special != RETURN &&
		row->special != NO_OPSIZE && row->special != FAR_IMM && row->special != FAR_MEM &&
		row->special != RETURN_FAR && row->special != RETURN_INT) {
		bool any = isa->pp == HK_PP_ANY && isa->map < HK_MAP_V1;
		bool also = (isa->pp == HK_PP_F3 || isa->pp == HK_PP_F2) && sized;

		e->opsize = (any || also) && gen_chance(gen, 20);
	}
	if ((isa->flags & HK_ROW_W1) != 0) {
		e->rexw = true;
	} else if ((isa->flags & HK_ROW_W0) == 0 && row->special != FAR_MEM &&
		row->special != LOAD_FAR) {
		/* VEX.W of 32-bit code is ignored, or undefined */
		e->rexw = e->code64 && gen_chance(gen, 35);
	}
	e->rex = e->code64 && gen_chance(gen, 20);
	if ((isa->flags & HK_ROW_LOCK) != 0 && e->mem) {
		e->lock = gen_chance(gen, 25);
	} else if (isa->map < HK_MAP_V1) {
		e->lock = gen_chance(gen, 1) && gen_below(gen, 4) == 0; /* #UD */
	}
	if (row->special == STRING) {
		e->rep = gen_chance(gen, 50) ? 0 : gen_chance(gen, 70) ? 0xf3 : 0xf2;
		e->addrsize = e->code64 && gen_chance(gen, 8);
	}
	if (isa->map == HK_MAP_L && isa->op >= 0xe0 && isa->op <= 0xe3) {
		e->addrsize = gen_chance(gen, 15); /* LOOP and JCXZ count in ECX then, or CX */
	}
	e->cond = (uint8_t)gen_below(gen, 16);
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

void isa_gen_immediate(struct isa_gen *gen, unsigned index, struct isa_encoding *e)
{
	const struct row *row = &gen->rows[index];

	for (unsigned i = 0; i < row->operand_count; i++) {
		const struct hk_operand *o = &row->operands[i];

		switch (o->what) {
		case HK_OPERAND_IMM:
			if (e->imm_len != 0) { /* ENTER's second one */
				e->imm = (e->imm & 0xffff) | (uint64_t)gen_below(gen, 5) << 16;
				e->imm_len = 3;
				break;
			}
			e->imm_len = (uint8_t)immediate_bytes(o->size, e);
			e->imm = isa_boundary(&gen->random, e->imm_len);
			break;
		case HK_OPERAND_MOFFS:
			e->addrsize = gen_chance(gen, 10) && e->code64;
			e->imm_len = e->code64 && !e->addrsize ? 8 : 4;
			e->imm = isa_gen_aim(gen, 8);
			break;
		case HK_OPERAND_REL:
			e->imm_len = o->size == 'b' ? 1 : 4;
			break;
		case HK_OPERAND_FAR:
			e->imm_len = 6;
			e->imm = (uint64_t)(gen_chance(gen, 90)
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
		e->imm = gen_below(gen, 256);
		if (e->imm == 0x80) {
			e->imm = 0x81; /* that would be a system call */
		}
		break;
	case ENTER:
		e->imm = (e->imm & 0xff0000) | (gen_below(gen, 0x100));
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
