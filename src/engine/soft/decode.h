/* SPDX-License-Identifier: ISC */
/*
 * The decoder: bytes in, one struct hk_insn out. It holds no state and touches no CPU; the
 * disassembler, the interpreter and later the translators all start from it.
 *
 * Source: Intel SDM vol. 2, chapter 2 and appendix A.
 */
#ifndef HK_ENGINE_SOFT_DECODE_H
#define HK_ENGINE_SOFT_DECODE_H

#include "engine/soft/isa.h"

/**
 * enum hk_decode - what came out
 * @HK_DECODE_OK: @ret_insn is filled in but for exec
 * @HK_DECODE_SHORT: more bytes are needed
 * @HK_DECODE_UD: no such instruction: #UD; ret_insn->len tells how many bytes were looked at
 * @HK_DECODE_LONG: more than 15 bytes: #GP(0)
 * @HK_DECODE_FAR: good, but its RIP-relative displacement does not fit @off: decode it with off =
 *	-len (run.c, one-off)
 */
enum hk_decode {
	HK_DECODE_OK,
	HK_DECODE_SHORT,
	HK_DECODE_UD,
	HK_DECODE_LONG,
	HK_DECODE_FAR,
};

/**
 * hk_decode_init() - build the decoder's tables. hk_decode() does it where nobody has; any thread,
 * any number of times.
 */
void hk_decode_init(void);

/**
 * hk_decode() - decode one instruction
 * @bytes: @len_bytes bytes of code, any number
 * @features: bit n: has feature n of enum hk_feature (bit HK_FEAT_BASE must be set)
 * @off: where it stands, from gpr[HK_REG_PAGE]; see struct hk_insn
 */
enum hk_decode hk_decode(const uint8_t *bytes, unsigned len_bytes, enum hk_code_mode mode,
	uint32_t features, int off, struct hk_insn *ret_insn);

enum { HK_DISASM_MAX = 128 };

/**
 * hk_disasm() - @insn as text, Intel syntax
 * @rip: of the instruction; branch targets and RIP-relative addresses are shown absolute
 */
void hk_disasm(const struct hk_insn *insn, enum hk_code_mode mode, uint64_t rip,
	char ret_text[HK_DISASM_MAX]);

#endif
