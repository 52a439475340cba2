/* SPDX-License-Identifier: ISC */
/* From an instruction's parts to its bytes. */
#ifndef HK_TESTS_ISA_ENCODE_H
#define HK_TESTS_ISA_ENCODE_H

#include "case.h"
#include "engine/soft/isa.h"

enum { ISA_NO_REG = 0xff };

/**
 * struct isa_encoding - one instruction, in parts
 * @segment, @rep: prefix bytes, or 0
 * @reg, @rm, @opcode_reg, @vvvv: register numbers, 0 to 15
 * @base, @index: register numbers or ISA_NO_REG
 * @disp_len: 0, 1 or 4 (2 with 16-bit addresses)
 * @rip: the memory operand is at the absolute address @disp, RIP-relative
 */
struct isa_encoding {
	const struct hk_isa_row *row;
	bool code64;
	bool opsize, addrsize, lock, rex, rexw;
	uint8_t segment, rep;
	bool has_modrm, mem, rip;
	uint8_t reg, rm, opcode_reg, vvvv, cond;
	uint8_t base, index, scale, disp_len;
	uint32_t disp;
	uint64_t imm;
	uint8_t imm_len;
};

/**
 * isa_encode() - the bytes
 * @address: where they will stand
 * @ret_imm_at: offset of the immediate
 *
 * Return: length, up to 15; 0 where the parts do not fit together.
 */
unsigned isa_encode(const struct isa_encoding *e, uint64_t address, uint8_t ret_bytes[16],
	unsigned *ret_imm_at);

#endif
