/* SPDX-License-Identifier: ISC */
/*
 * Fuzz target: the decoder and the disassembler; the input is code.
 *
 * In each mode, at each offset, with all features and with none: whatever comes out keeps what
 * decode.h and
 * insn.h promise, so that no handler can be led outside the register file by what it is told.
 */
#undef NDEBUG
#include <assert.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "base/util.h"
#include "engine/soft/decode.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { MAX_BYTES = 256, RIP = 0x1000 };

static void check_insn(const struct hk_insn *insn, enum hk_code_mode mode)
{
	const struct hk_isa_row *row = &hk_isa[insn->row];
	char text[HK_DISASM_MAX + 1];
	bool memory = hk_insn_mem(insn);

	assert(insn->row < hk_isa_count);
	assert(insn->len >= 1 && insn->len <= HK_MAX_INSN_LEN);
	assert(insn->exec == NULL);
	assert(insn->base < HK_REG_SLOTS || !memory);
	assert(insn->index < HK_REG_SLOTS);
	assert(insn->aux < 16);
	assert(insn->cond < 16);
	/* Byte registers are offsets in 16 registers of 8 bytes. */
	assert(insn->reg < 128 && (memory || insn->base < 128));
	assert(hk_insn_addr_size(insn) >= 1);
	assert(hk_insn_seg(insn) < 6);
	assert((insn->flags & HK_INSN_LOCK) == 0 || (memory && (row->flags & HK_ROW_LOCK) != 0));
	assert(hk_insn_rep(insn) == HK_REP_NONE || (row->flags & HK_ROW_REP) != 0);
	assert((row->flags & HK_ROW_I64) == 0 || mode != HK_CODE_64);
	assert((row->flags & HK_ROW_O64) == 0 || mode == HK_CODE_64);
	if ((insn->flags & HK_INSN_PLAIN) != 0) {
		assert(memory && mode == HK_CODE_64 && hk_insn_addr_size(insn) == 3);
		assert(hk_insn_seg(insn) < 4);
	}

	text[HK_DISASM_MAX] = 0x55;
	memset(text, 0xff, HK_DISASM_MAX);
	hk_disasm(insn, mode, RIP, text);
	assert(text[HK_DISASM_MAX] == 0x55);
	assert(memchr(text, '\0', HK_DISASM_MAX) != NULL && text[0] != '\0');
	assert(strchr(text, '?') == NULL);
}

static void check(
	const uint8_t *bytes, unsigned len_bytes, enum hk_code_mode mode, uint32_t features)
{
	uint8_t exact[HK_MAX_INSN_LEN];
	struct hk_insn insn, again;
	enum hk_decode result = hk_decode(bytes, len_bytes, mode, features, 0, &insn);

	assert(insn.len <= HK_MAX_INSN_LEN && insn.len <= len_bytes);
	if (result == HK_DECODE_LONG) {
		assert(len_bytes >= HK_MAX_INSN_LEN);
	} else if (result == HK_DECODE_SHORT) {
		assert(len_bytes < HK_MAX_INSN_LEN);
	} else if (result == HK_DECODE_FAR) {
		assert(hk_decode(bytes, insn.len, mode, features, -insn.len, &again) ==
			HK_DECODE_OK);
		check_insn(&again, mode);
	} else if (result == HK_DECODE_OK) {
		check_insn(&insn, mode);
	}
	if (result != HK_DECODE_OK && result != HK_DECODE_FAR) {
		return;
	}
	/* It depends on its own bytes only, and on each of them. */
	memcpy(exact, bytes, insn.len);
	memset(exact + insn.len, 0xa5, sizeof(exact) - insn.len);
	assert(hk_decode(exact, HK_MAX_INSN_LEN, mode, features, 0, &again) == result);
	assert(memcmp(&insn, &again, sizeof(insn)) == 0);
	for (unsigned n = 0; n < insn.len; n++) {
		assert(hk_decode(bytes, n, mode, features, 0, &again) == HK_DECODE_SHORT);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	unsigned len = (unsigned)HK_MIN(size, (size_t)MAX_BYTES);

	for (unsigned at = 0; at < len; at++) {
		for (unsigned mode = 0; mode < HK_CODE_MODE_COUNT; mode++) {
			check(data + at, len - at, (enum hk_code_mode)mode, UINT32_MAX);
			check(data + at, len - at, (enum hk_code_mode)mode, 1u << HK_FEAT_BASE);
		}
	}
	return 0;
}
