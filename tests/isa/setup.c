/* SPDX-License-Identifier: ISC */
/* Instructions that prepare for others, so that these do something: see gen.c. */
#include "gen_impl.h"

#include "base/util.h"
#include "engine/soft/decode.h"

/* An address to aim an operand of @size bytes at. */
uint32_t isa_gen_aim(struct isa_gen *gen, unsigned size)
{
	unsigned kind = gen_below(gen, 100);

	if (kind < 55) { /* 64 bytes are a cache line; what is aligned to them suits XSAVE, too */
		return (uint32_t)ISA_DATA +
			(gen_below(gen, ISA_DATA_BYTES - 1024) &
				(gen_chance(gen, 50) ? ~63u : ~15u));
	}
	if (kind < 75) {
		return (uint32_t)ISA_DATA + gen_below(gen, ISA_DATA_BYTES - 1024);
	}
	if (kind < 82) { /* across two pages */
		return (uint32_t)ISA_DATA + ISA_PAGE - gen_below(gen, size + 1);
	}
	if (kind < 88) {
		return (uint32_t)ISA_CONST + (gen_below(gen, ISA_PAGE - 1024) & ~15u);
	}
	if (kind < 93) {
		return (uint32_t)ISA_CONST - gen_below(gen, size + 1);
	}
	if (kind < 98) {
		return (uint32_t)ISA_DATA_END - gen_below(gen, size + 1);
	}
	return (uint32_t)ISA_DATA - gen_below(gen, size + 1);
}

/* A general register, mostly none that holds an address. */
uint8_t isa_gen_gpr(struct isa_gen *gen)
{
	unsigned count = gen->c->code32 ? 8 : 16;
	unsigned reg = gen_below(gen, count);

	for (unsigned tries = 0; tries < 3 && (gen->pointers >> reg & 1) != 0; tries++) {
		reg = gen_below(gen, count);
	}
	if (reg == HK_RSP && !gen_chance(gen, 10)) {
		reg = gen_below(gen, count);
	}
	return (uint8_t)reg;
}

/* A register of the set @of, or ISA_NO_REG. */
uint8_t isa_gen_reg_of(struct isa_gen *gen, uint16_t of)
{
	unsigned start = gen_below(gen, 16);

	for (unsigned i = 0; i < 16; i++) {
		unsigned reg = (start + i) % 16;

		if ((of >> reg & 1) != 0) {
			return (uint8_t)reg;
		}
	}
	return ISA_NO_REG;
}

/* ---- Adding instructions ---- */

bool isa_gen_has_room(const struct isa_gen *gen, unsigned insns)
{
	return gen->c->insn_count + insns <= ISA_MAX_INSNS;
}

/* Adds the bytes of one instruction. Return: where they stand in the code. */
unsigned isa_gen_add(
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
	return isa_gen_add(gen, bytes, len, insn.row, true);
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
void isa_gen_fix_later(struct isa_gen *gen, unsigned at, unsigned len, bool relative)
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

void isa_gen_fix_all(struct isa_gen *gen)
{
	struct isa_case *c = gen->c;

	for (unsigned i = 0; i < gen->fixup_count; i++) {
		const struct fixup *f = &gen->fixups[i];
		unsigned insn = f->insn + gen_below(gen, 3);

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
		if (f->len == 4 && !f->self && gen_chance(gen, 2)) {
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

	if (gen_chance(gen, 10)) {
		keep |= HK_FLAG_NT;
	}
	if (gen_chance(gen, 10)) {
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
bool isa_gen_uses_x87(const struct row *row)
{
	return row->family == X87 || row->family == MMX || row->special == FRESH_X87 ||
		row->special == XSAVE || row->special == MMX_MODE;
}

/* Prepares what the special ones need. Return: an address the memory operand is to have, or 0. */
uint32_t isa_gen_prepare(struct isa_gen *gen, unsigned index, struct isa_encoding *e)
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
	uint32_t selector = selectors[gen_below(gen, HK_ARRAY_SIZE(selectors))];
	bool first = gen->c->insn_count == 0;
	uint32_t target = 0;
	unsigned off;

	switch (row->special) {
	case STRING:
		/* With 32-bit addresses makers differ in when upper halves are cleared. */
		if (e->rep != 0 && (e->addrsize || !gen_chance(gen, 5))) {
			uint32_t count = gen_below(gen, gen_chance(gen, 80) ? 9 : 40);

			if (first) {
				gen->c->start.gpr[HK_RCX] = count;
			} else {
				setup_mov(gen, HK_RCX, count);
			}
		}
		for (unsigned reg = HK_RSI; reg <= HK_RDI; reg++) {
			if (first) {
				gen->c->start.gpr[reg] = isa_gen_aim(gen, 16);
			} else if (e->addrsize || gen_chance(gen, 80)) {
				setup_mov(gen, reg, isa_gen_aim(gen, 16));
			}
		}
		break;
	case DIVIDE:
		if (gen_chance(gen, 70)) {
			if (hk_isa[index].op == 0xf6) {
				setup_mov(gen, HK_RAX, gen_below(gen, 0x200));
			} else {
				setup_mov(gen, HK_RDX, 0);
			}
		}
		break;
	case SHIFT_DOUBLE:
		if (e->opsize && row->operands[2].place != 'I') {
			setup_mov(gen, HK_RCX,
				gen_below(gen, 17)); /* beyond 16 the result is undefined */
		}
		break;
	case BRANCH_RM:
		if (e->mem) {
			target = (uint32_t)ISA_DATA + (gen_below(gen, ISA_DATA_BYTES - 8) & ~7u);
			setup_store(gen, target + 4, 0);
			off = setup_store(gen, target, 0);
			isa_gen_fix_later(gen, gen->c->len - 4, 4, false);
		} else {
			off = setup_mov(gen, e->rm & 7, 0);
			e->rm &= 7;
			isa_gen_fix_later(gen, off + 1, 4, false);
		}
		break;
	case RETURN:
		off = setup_push(gen, 0);
		isa_gen_fix_later(gen, off + 1, 4, false);
		break;
	case RETURN_FAR:
	case FAR_MEM:
		if (code64 && row->special == RETURN_FAR) {
			e->rexw = true;
		}
		if (row->special == RETURN_FAR) {
			setup_push(gen, gen_chance(gen, 90) ? cs : selector);
			off = setup_push(gen, 0);
			isa_gen_fix_later(gen, off + 1, 4, false);
		} else {
			target = (uint32_t)ISA_DATA + (gen_below(gen, ISA_DATA_BYTES - 8) & ~7u);
			setup_store(gen, target + 4, gen_chance(gen, 90) ? cs : selector);
			setup_store(gen, target, 0);
			isa_gen_fix_later(gen, gen->c->len - 4, 4, false);
		}
		break;
	case RETURN_INT:
		e->rexw = code64;
		if (code64) {
			setup_push(gen, gen_chance(gen, 90) ? ISA_SEL_DATA : selector);
			setup_push(gen, (uint32_t)ISA_DATA + 0x800 + gen_below(gen, 0x1000));
		}
		setup_push(gen, choose_flags(gen));
		setup_push(gen, gen_chance(gen, 90) ? cs : selector);
		off = setup_push(gen, 0);
		isa_gen_fix_later(gen, off + 1, 4, false);
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
			target = (uint32_t)ISA_DATA + (gen_below(gen, ISA_DATA_BYTES - 8) & ~3u);
			setup_store(gen, target, selector);
		} else {
			e->rm &= 7;
			setup_mov(gen, e->rm, selector);
		}
		break;
	case LOAD_FAR:
		target = (uint32_t)ISA_DATA + (gen_below(gen, ISA_DATA_BYTES - 8) & ~7u);
		if (!e->opsize) {
			setup_store(gen, target + 4, selector);
		} else {
			setup_store(gen, target, selector << 16 | 0x1234);
		}
		break;
	case MASKED_MOVE:
		setup_mov(gen, HK_RDI, (uint32_t)ISA_DATA + gen_below(gen, ISA_DATA_BYTES - 16));
		break;
	case SMALL_ARGUMENT:
		make_small(gen->c->start.fx + ISA_FX_ST);
		break;
	case XSAVE:
		setup_mov(gen, HK_RAX, gen_below(gen, 4));
		setup_mov(gen, HK_RDX, 0);
		break;
	case NO_COMPARE:
		if (isa_gen_is_called(&hk_isa[index], "xgetbv")) {
			setup_mov(gen, HK_RCX, 0);
		}
		break;
	default:
		break;
	}
	return target;
}
