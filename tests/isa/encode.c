/* SPDX-License-Identifier: ISC */
/*
 * The encoder of the instruction tester.
 *
 * It is written from the manual (Intel SDM vol. 2, chapter 2), not from the decoder that it tests.
 */
#include "encode.h"

#include <string.h>

struct out {
	uint8_t bytes[32];
	unsigned len;
};

static void put(struct out *o, unsigned byte)
{
	if (o->len < sizeof(o->bytes)) {
		o->bytes[o->len++] = (uint8_t)byte;
	}
}

static void put_number(struct out *o, uint64_t value, unsigned len)
{
	for (unsigned i = 0; i < len; i++) {
		put(o, (uint8_t)(value >> 8 * i));
	}
}

/* Bit 3 of a register number, for REX and VEX; 0 where there is no register. */
static unsigned high(uint8_t reg)
{
	return reg != ISA_NO_REG && reg >= 8;
}

static bool is_vex(const struct isa_encoding *e)
{
	return e->row->map >= HK_MAP_V1;
}

static unsigned rex_bits(const struct isa_encoding *e)
{
	unsigned b = high(e->opcode_reg);
	unsigned x = 0;

	if (e->has_modrm) {
		b = e->mem ? high(e->base) : high(e->rm);
		x = e->mem ? high(e->index) : 0;
	}
	return (unsigned)e->rexw << 3 | (e->has_modrm ? high(e->reg) : 0) << 2 | x << 1 | b;
}

static void put_vex(struct out *o, const struct isa_encoding *e)
{
	static const uint8_t pp[] = {
		[HK_PP_ANY] = 0, [HK_PP_NP] = 0, [HK_PP_66] = 1, [HK_PP_F3] = 2, [HK_PP_F2] = 3};
	unsigned bits = rex_bits(e);
	unsigned map = e->row->map - HK_MAP_V1 + 1;
	unsigned tail = (~e->vvvv & 15u) << 3 | pp[e->row->pp];

	if (map == 1 && (bits & 11) == 0 && !e->rex) {
		put(o, 0xc5);
		put(o, (~bits & 4) << 5 | tail);
	} else {
		put(o, 0xc4);
		put(o, (~bits & 7) << 5 | map);
		put(o, (bits & 8) << 4 | tail);
	}
}

static void put_legacy(struct out *o, const struct isa_encoding *e)
{
	static const uint8_t pp[] = {[HK_PP_ANY] = 0,
		[HK_PP_NP] = 0,
		[HK_PP_66] = 0x66,
		[HK_PP_F3] = 0xf3,
		[HK_PP_F2] = 0xf2};

	if (pp[e->row->pp] != 0) {
		put(o, pp[e->row->pp]);
	}
	if (e->code64 && (rex_bits(e) != 0 || e->rex)) {
		put(o, 0x40 | rex_bits(e));
	}
	if (e->row->map != HK_MAP_L) {
		put(o, 0x0f);
	}
	if (e->row->map == HK_MAP_0F38) {
		put(o, 0x38);
	} else if (e->row->map == HK_MAP_0F3A) {
		put(o, 0x3a);
	}
}

/* 16-bit addresses have forms, not registers; @base is the form's number. */
static void put_memory16(struct out *o, const struct isa_encoding *e)
{
	unsigned mod = e->disp_len == 0 ? 0 : e->disp_len == 1 ? 1 : 2;
	unsigned form = e->base & 7;

	if (form == 6 && mod == 0) {
		mod = 2;
	}
	put(o, mod << 6 | (e->reg & 7u) << 3 | form);
	put_number(o, e->disp, mod);
}

/* Return: offset of a RIP-relative displacement, or 0. */
static unsigned put_memory(struct out *o, const struct isa_encoding *e)
{
	unsigned reg = (e->reg & 7u) << 3;
	unsigned mod = e->disp_len == 0 ? 0 : e->disp_len == 1 ? 1 : 2;
	unsigned disp_len = e->disp_len;

	if (!e->code64 && e->addrsize) {
		put_memory16(o, e);
		return 0;
	}
	if (e->rip) {
		put(o, reg | 5);
		put_number(o, 0, 4);
		return o->len - 4;
	}
	if (e->base == ISA_NO_REG) {
		mod = 0;
		disp_len = 4;
		if (e->index == ISA_NO_REG && !e->code64) {
			put(o, reg | 5);
			put_number(o, e->disp, 4);
			return 0;
		}
	} else if ((e->base & 7) == 5 && mod == 0) {
		mod = 1; /* no form without displacement */
		disp_len = 1;
	}
	if (e->base == ISA_NO_REG || e->index != ISA_NO_REG || (e->base & 7) == 4) {
		put(o, mod << 6 | reg | 4);
		put(o,
			(unsigned)e->scale << 6 |
				(e->index == ISA_NO_REG ? 4 : e->index & 7u) << 3 |
				(e->base == ISA_NO_REG ? 5 : e->base & 7u));
	} else {
		put(o, mod << 6 | reg | (e->base & 7u));
	}
	put_number(o, e->disp, disp_len);
	return 0;
}

unsigned isa_encode(
	const struct isa_encoding *e, uint64_t address, uint8_t ret_bytes[16], unsigned *ret_imm_at)
{
	struct out o = {.len = 0};
	unsigned opcode = e->row->op;
	unsigned rip_at = 0;

	if (e->segment != 0) {
		put(&o, e->segment);
	}
	if (e->addrsize) {
		put(&o, 0x67);
	}
	if (e->rep != 0) {
		put(&o, e->rep);
	}
	if (e->opsize) {
		put(&o, 0x66);
	}
	if (e->lock) {
		put(&o, 0xf0);
	}
	if (is_vex(e)) {
		put_vex(&o, e);
	} else {
		put_legacy(&o, e);
	}
	if ((e->row->flags & HK_ROW_CC) != 0) {
		opcode += e->cond;
	}
	if (!e->has_modrm) {
		opcode += e->opcode_reg & 7u;
	}
	put(&o, opcode);
	if (e->has_modrm) {
		if (e->mem) {
			rip_at = put_memory(&o, e);
		} else {
			put(&o, 0xc0 | (e->reg & 7u) << 3 | (e->rm & 7u));
		}
	}
	*ret_imm_at = o.len;
	put_number(&o, e->imm, e->imm_len);
	if (o.len > HK_MAX_INSN_LEN) {
		return 0;
	}
	if (rip_at != 0) {
		uint32_t disp = e->disp - (uint32_t)(address + o.len);

		memcpy(o.bytes + rip_at, &disp, 4);
	}
	memcpy(ret_bytes, o.bytes, o.len);
	return o.len;
}
