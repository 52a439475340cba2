/* SPDX-License-Identifier: ISC */
/*
 * MMX and SSE: known answers of the ciphers and hashes, corner cases of the string compares, and
 * which operands fault how. That each instruction computes what a real CPU does, tests/isa tells.
 *
 * Memory is a double: two pages, the first of which can be in the TLB; the second cannot be
 * accessed.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "base/util.h"
#include "engine/soft/exec/handlers.h"
#include "engine/soft/operand.h"

enum { BASE = 0x10000, END = BASE + HK_PAGE_SIZE };

static struct hk_cpu cpu;
static alignas(HK_PAGE_SIZE) uint8_t memory[HK_PAGE_SIZE];

/* The doubles of mmu.c and its neighbours. */

bool hk_probe(struct hk_cpu *c, uint64_t va, unsigned len, enum hk_access access)
{
	for (unsigned i = 0; i < len; i++) {
		if (va + i < BASE || va + i >= END) {
			return hk_fault_page(c, va + i, access == HK_ACCESS_WRITE ? 2 : 0);
		}
	}
	return true;
}

bool hk_load(struct hk_cpu *c, uint64_t va, void *buf, unsigned len)
{
	if (!hk_probe(c, va, len, HK_ACCESS_READ)) {
		return false;
	}
	memcpy(buf, &memory[va - BASE], len);
	return true;
}

bool hk_store(struct hk_cpu *c, uint64_t va, const void *buf, unsigned len)
{
	if (!hk_probe(c, va, len, HK_ACCESS_WRITE)) {
		return false;
	}
	memcpy(&memory[va - BASE], buf, len);
	return true;
}

bool hk_linear_slow(struct hk_cpu *c, unsigned seg, uint64_t offset, unsigned len,
	enum hk_access access, uint64_t *ret_va)
{
	*ret_va = c->seg_base[seg] + offset;
	return true;
}

bool hk_x87_ok(struct hk_cpu *c, bool wait)
{
	return true;
}

static bool mmx_usable;

bool hk_mmx_ok(struct hk_cpu *c)
{
	return mmx_usable || hk_fault(c, HK_VECTOR_MF);
}

static bool gave_up;

const struct hk_insn *hk_give_up(struct hk_cpu *c, const struct hk_insn *insn)
{
	gave_up = true;
	return NULL;
}

static const struct hk_insn *stop(struct hk_cpu *c, const struct hk_insn *insn)
{
	return NULL;
}

/* Run one instruction. Return: the vector it raised, or -1. */
static int run(hk_exec_fn *exec, struct hk_insn insn)
{
	struct hk_insn code[2] = {insn, {.exec = stop}};

	code[0].exec = exec;
	code[0].len = 4;
	code[0].flags |= 3 << HK_INSN_ADDR_SHIFT | HK_DS << HK_INSN_SEG_SHIFT;
	gave_up = false;
	cpu.event = (struct hk_cpu_event){.pending = false};
	exec(&cpu, code);
	assert_int_equal(gave_up, cpu.event.pending);
	return gave_up ? cpu.event.vector : -1;
}

/* xmm@reg op= xmm@rm */
static void run_regs(hk_exec_fn *exec, unsigned reg, unsigned rm, unsigned imm)
{
	assert_int_equal(
		run(exec, (struct hk_insn){.reg = (uint8_t)reg, .base = (uint8_t)rm, .imm = imm}),
		-1);
}

/* The memory operand is at RBX. */
static int run_mem(hk_exec_fn *exec, unsigned reg, uint64_t va)
{
	cpu.gpr[HK_RBX] = va;
	return run(exec,
		(struct hk_insn){
			.reg = (uint8_t)reg,
			.base = HK_RBX,
			.index = HK_REG_ZERO,
			.flags = HK_INSN_MEM | HK_INSN_PLAIN,
		});
}

static int reset(void **state)
{
	memset(&cpu, 0, sizeof(cpu));
	cpu.tlb = cpu.tlbs[HK_TLB_KERNEL];
	for (unsigned i = 0; i < HK_TLB_ENTRIES; i++) {
		cpu.tlb[i].read = HK_TLB_NONE;
		cpu.tlb[i].write = HK_TLB_NONE;
	}
	cpu.mode = HK_CODE_64;
	cpu.cr4 = HK_CR4_OSFXSR;
	mmx_usable = true;
	for (unsigned i = 0; i < HK_PAGE_SIZE; i++) {
		memory[i] = (uint8_t)(i * 7);
	}
	return 0;
}

static void map(bool writable)
{
	struct hk_tlb_entry *e = &cpu.tlb[BASE >> 12 & (HK_TLB_ENTRIES - 1)];

	e->read = BASE;
	e->write = writable ? BASE : HK_TLB_NONE;
	e->addend = (uintptr_t)memory - BASE;
}

static void set_bytes(unsigned xmm, const uint8_t bytes[16])
{
	memcpy(&cpu.xmm[xmm], bytes, 16);
}

/* FIPS 197, appendix B and C.1: one block with a 128-bit key, which is expanded as programs do. */
static void aes_128(void **state)
{
	static const uint8_t key[16] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 0xa, 0xb, 0xc, 0xd, 0xe, 0xf};
	static const uint8_t plain[16] = {0x00, 0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77, 0x88,
		0x99, 0xaa, 0xbb, 0xcc, 0xdd, 0xee, 0xff};
	static const uint8_t cipher[16] = {0x69, 0xc4, 0xe0, 0xd8, 0x6a, 0x7b, 0x04, 0x30, 0xd8,
		0xcd, 0xb7, 0x80, 0x70, 0xb4, 0xc5, 0x5a};
	static const uint8_t rcon[10] = {1, 2, 4, 8, 0x10, 0x20, 0x40, 0x80, 0x1b, 0x36};
	union hk_xmm keys[11];

	memcpy(&keys[0], key, 16);
	for (unsigned i = 0; i < 10; i++) {
		uint32_t word = 0;

		cpu.xmm[9] = keys[i];
		run_regs(hk_x_aeskeygenassist, 2, 9, rcon[i]);
		word = cpu.xmm[2].u32[3];
		for (unsigned j = 0; j < 4; j++) {
			word ^= keys[i].u32[j];
			keys[i + 1].u32[j] = word;
		}
	}

	set_bytes(1, plain);
	cpu.xmm[2] = keys[0];
	run_regs(hk_x_pxor, 1, 2, 0);
	for (unsigned i = 1; i <= 10; i++) {
		cpu.xmm[2] = keys[i];
		run_regs(i < 10 ? hk_x_aesenc : hk_x_aesenclast, 1, 2, 0);
	}
	assert_memory_equal(&cpu.xmm[1], cipher, 16);

	/* Back: the equivalent inverse cipher, whose inner keys go through InvMixColumns. */
	cpu.xmm[2] = keys[10];
	run_regs(hk_x_pxor, 1, 2, 0);
	for (unsigned i = 9; i > 0; i--) {
		cpu.xmm[3] = keys[i];
		run_regs(hk_x_aesimc, 2, 3, 0);
		run_regs(hk_x_aesdec, 1, 2, 0);
	}
	cpu.xmm[2] = keys[0];
	run_regs(hk_x_aesdeclast, 1, 2, 0);
	assert_memory_equal(&cpu.xmm[1], plain, 16);
}

/* The operands of Intel's white paper on carry-less multiplication. */
static void carry_less_multiplication(void **state)
{
	static const struct {
		unsigned imm;
		uint64_t high, low;
	} table[] = {
		{0x00, UINT64_C(0x1d4d84c85c3440c0), UINT64_C(0x929633d5d36f0451)},
		{0x10, UINT64_C(0x1bd17c8d556ab5a1), UINT64_C(0x7fa540ac2a281315)},
		{0x01, UINT64_C(0x1a2bf6db3a30862f), UINT64_C(0xbabf262df4b7d5c9)},
		{0x11, UINT64_C(0x1d1e1f2c592e7c45), UINT64_C(0xd66ee03e410fd4ed)},
	};

	for (size_t i = 0; i < HK_ARRAY_SIZE(table); i++) {
		cpu.xmm[1] = (union hk_xmm){
			.u64 = {UINT64_C(0x63746f725d53475d), UINT64_C(0x7b5b546573745665)}};
		cpu.xmm[2] = (union hk_xmm){
			.u64 = {UINT64_C(0x5b477565726f6e5d), UINT64_C(0x4869285368617929)}};
		run_regs(hk_x_pclmulqdq, 1, 2, table[i].imm);
		assert_int_equal(cpu.xmm[1].u64[1], table[i].high);
		assert_int_equal(cpu.xmm[1].u64[0], table[i].low);
	}
}

/*
 * FIPS 180-4's example "abc", in the one block of it; words 0 to 15 with the first in the high
 * element.
 */
static const uint32_t abc[16] = {0x61626380, [15] = 24};

static void sha1_abc(void **state)
{
	static const uint32_t first[5] = {
		0x67452301, 0xefcdab89, 0x98badcfe, 0x10325476, 0xc3d2e1f0};
	static const uint32_t digest[5] = {
		0xa9993e36, 0x4706816a, 0xba3e2571, 0x7850c26c, 0x9cd0d89d};
	union hk_xmm words[20];

	for (unsigned i = 0; i < 4; i++) {
		for (unsigned j = 0; j < 4; j++) {
			words[i].u32[3 - j] = abc[4 * i + j];
		}
	}
	for (unsigned i = 4; i < 20; i++) {
		cpu.xmm[1] = words[i - 4];
		cpu.xmm[2] = words[i - 3];
		run_regs(hk_x_sha1msg1, 1, 2, 0);
		cpu.xmm[2] = words[i - 2];
		run_regs(hk_x_pxor, 1, 2, 0);
		cpu.xmm[2] = words[i - 1];
		run_regs(hk_x_sha1msg2, 1, 2, 0);
		words[i] = cpu.xmm[1];
	}

	/* xmm1: A to D; xmm3: the A to D of four rounds ago, from which E follows. */
	cpu.xmm[1] = (union hk_xmm){.u32 = {first[3], first[2], first[1], first[0]}};
	for (unsigned i = 0; i < 20; i++) {
		const union hk_xmm before = cpu.xmm[1];

		cpu.xmm[2] = words[i];
		if (i == 0) {
			cpu.xmm[2].u32[3] += first[4];
		} else {
			run_regs(hk_x_sha1nexte, 3, 2, 0);
			cpu.xmm[2] = cpu.xmm[3];
		}
		run_regs(hk_x_sha1rnds4, 1, 2, i / 5);
		cpu.xmm[3] = before;
	}
	for (unsigned i = 0; i < 4; i++) {
		assert_int_equal(cpu.xmm[1].u32[3 - i] + first[i], digest[i]);
	}
	cpu.xmm[2] = (union hk_xmm){.u32 = {0, 0, 0, first[4]}};
	run_regs(hk_x_sha1nexte, 3, 2, 0);
	assert_int_equal(cpu.xmm[3].u32[3], digest[4]);
}

static void sha256_abc(void **state)
{
	static const uint32_t constants[64] = {0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5,
		0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5, 0xd807aa98, 0x12835b01, 0x243185be,
		0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174, 0xe49b69c1, 0xefbe4786,
		0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da, 0x983e5152,
		0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
		0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e,
		0x92722c85, 0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624,
		0xf40e3585, 0x106aa070, 0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3,
		0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3, 0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208,
		0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2};
	/* F, E, B, A and H, G, D, C */
	static const union hk_xmm first[2] = {
		{.u32 = {0x9b05688c, 0x510e527f, 0xbb67ae85, 0x6a09e667}},
		{.u32 = {0x5be0cd19, 0x1f83d9ab, 0xa54ff53a, 0x3c6ef372}},
	};
	static const union hk_xmm digest[2] = {
		{.u32 = {0x96177a9c, 0xb00361a3, 0x8f01cfea, 0xba7816bf}},
		{.u32 = {0xf20015ad, 0xb410ff61, 0x5dae2223, 0x414140de}},
	};
	union hk_xmm words[16];

	memcpy(words, abc, sizeof(abc));
	for (unsigned i = 4; i < 16; i++) {
		cpu.xmm[1] = words[i - 4];
		cpu.xmm[2] = words[i - 3];
		run_regs(hk_x_sha256msg1, 1, 2, 0);
		cpu.xmm[3] = words[i - 1];
		cpu.xmm[2] = words[i - 2];
		run_regs(hk_x_palignr, 3, 2, 4);
		run_regs(hk_x_paddd, 1, 3, 0);
		cpu.xmm[2] = words[i - 1];
		run_regs(hk_x_sha256msg2, 1, 2, 0);
		words[i] = cpu.xmm[1];
	}

	cpu.xmm[1] = first[0];
	cpu.xmm[2] = first[1];
	for (unsigned i = 0; i < 16; i++) {
		memcpy(&cpu.xmm[0], &constants[4 * i], 16);
		cpu.xmm[3] = words[i];
		run_regs(hk_x_paddd, 0, 3, 0);
		run_regs(hk_x_sha256rnds2, 2, 1, 0);
		run_regs(hk_x_pshufd, 0, 0, 0x0e);
		run_regs(hk_x_sha256rnds2, 1, 2, 0);
	}
	for (unsigned i = 0; i < 4; i++) {
		assert_int_equal(cpu.xmm[1].u32[i] + first[0].u32[i], digest[0].u32[i]);
		assert_int_equal(cpu.xmm[2].u32[i] + first[1].u32[i], digest[1].u32[i]);
	}
}

/* Control bytes: how << 2, 0x10 negate, 0x30 negate valid ones, 0x40 last or mask of elements. */
enum { ANY = 0 << 2, RANGES = 1 << 2, EACH = 2 << 2, ORDERED = 3 << 2 };

static void string_compare(void **state)
{
	enum { C = HK_FLAG_CF, Z = HK_FLAG_ZF, S = HK_FLAG_SF, O = HK_FLAG_OF };
	static const struct {
		const char *a, *b; /* padded with zeros */
		unsigned imm;
		unsigned index;
		uint32_t flags;
	} table[] = {
		{"", "", ANY, 16, Z | S},
		{"", "", EACH, 0, C | Z | S | O},
		{"", "", EACH | 0x40, 15, C | Z | S | O},
		{"", "", EACH | 0x10, 16, Z | S},
		{"aeiou", "strength of a mind", ANY, 3, C | S},
		{"aeiou", "xyz", ANY, 16, Z | S},
		{"aeiou", "xyz", ANY | 0x30, 0, C | Z | S | O},
		{"aeiou", "xyz", ANY | 0x70, 2, C | Z | S | O},
		{"aeiou", "xyz", ANY | 0x50, 15, C | Z | S | O},
		{"09AZ", "hex: BEEF", RANGES, 5, C | Z | S},
		{"09A", "BEEF", RANGES, 16, Z | S}, /* half a range is none */
		{"az", "\x80q", RANGES | 2, 1, C | Z | S},
		{"\x80\x7f", "q", RANGES, 16, Z | S},
		{"\x80\x7f", "q", RANGES | 2, 0, C | Z | S | O},
		{"same", "same", EACH | 0x10, 16, Z | S},
		{"same", "some", EACH | 0x10, 1, C | Z | S},
		{"same", "sam", EACH | 0x10, 3, C | Z | S},
		{"needle", "a needle here", ORDERED, 2, C | Z | S},
		{"needle", "0123456789 needy", ORDERED, 16, S},
		{"needle", "0123456789abneed", ORDERED, 12, C | S}, /* may go on beyond */
		{"needle", "0123456789 need", ORDERED, 16, Z | S},  /* ends before */
		{"", "anything", ORDERED, 0, C | Z | S | O},
		{"sixteen letters!", "sixteen letters!", EACH, 0, C | O},
	};

	for (size_t i = 0; i < HK_ARRAY_SIZE(table); i++) {
		memset(cpu.xmm, 0, sizeof(cpu.xmm));
		memcpy(&cpu.xmm[1], table[i].a, HK_MIN(strlen(table[i].a), (size_t)16));
		memcpy(&cpu.xmm[2], table[i].b, HK_MIN(strlen(table[i].b), (size_t)16));
		cpu.gpr[HK_RCX] = UINT64_MAX;
		run_regs(hk_x_pcmpistri, 1, 2, table[i].imm);
		assert_int_equal(cpu.gpr[HK_RCX], table[i].index);
		assert_int_equal(hk_cc_get(&cpu), table[i].flags);
	}
}

static void string_lengths(void **state)
{
	static const struct {
		uint64_t rax, rdx;
		uint64_t mask32, mask64; /* equal each, words, of equal operands */
	} table[] = {
		{8, 8, 0xff, 0xff},
		{3, 3, 0xff, 0xff},
		{3, 8, 0x07, 0x07},
		{UINT64_MAX - 2, 8, 0x07, 0x07}, /* -3 */
		{UINT64_C(0x80000000), 1000, 0xff, 0xff},
		{UINT64_C(0x8000000000000000), 8, 0x00, 0xff},
		{UINT64_C(0x100000002), 8, 0x03, 0xff},
	};

	for (size_t i = 0; i < HK_ARRAY_SIZE(table); i++) {
		cpu.gpr[HK_RAX] = table[i].rax;
		cpu.gpr[HK_RDX] = table[i].rdx;
		run_regs(hk_x_pcmpestrm, 1, 2, EACH | 1);
		assert_int_equal(cpu.xmm[0].u64[0], table[i].mask32);
		run_regs(hk_x_pcmpestrm64, 1, 2, EACH | 1);
		assert_int_equal(cpu.xmm[0].u64[0], table[i].mask64);
		assert_int_equal(cpu.xmm[0].u64[1], 0);
	}
	cpu.gpr[HK_RAX] = 3;
	cpu.gpr[HK_RDX] = 8;
	run_regs(hk_x_pcmpestrm, 1, 2, EACH | 1 | 0x40);
	assert_int_equal(cpu.xmm[0].u64[0], UINT64_C(0x0000ffffffffffff));
	assert_int_equal(cpu.xmm[0].u64[1], 0);
}

/* A misaligned operand is #GP(0), before the page is looked at; for some it is fine. */
static void alignment(void **state)
{
	static const struct {
		hk_exec_fn *exec;
		bool any, store;
	} table[] = {
		{hk_x_sse_load, false, false},
		{hk_x_sse_load_any, true, false},
		{hk_x_sse_store, false, true},
		{hk_x_sse_store_any, true, true},
		{hk_x_paddb, false, false},
		{hk_x_psllw, false, false},
		{hk_x_pshufd, false, false},
		{hk_x_pblendvb, false, false},
		{hk_x_ptest, false, false},
		{hk_x_aesenc, false, false},
		{hk_x_pclmulqdq, false, false},
		{hk_x_sha1msg1, false, false},
		{hk_x_sha256rnds2, false, false},
		{hk_x_movsldup, false, false},
		{hk_x_pcmpistri, true, false},
		{hk_x_pcmpestrm, true, false},
	};

	for (unsigned mapped = 0; mapped < 2; mapped++) {
		for (size_t i = 0; i < HK_ARRAY_SIZE(table); i++) {
			reset(state);
			if (mapped) {
				map(true);
			}
			assert_int_equal(run_mem(table[i].exec, 1, BASE + 32), -1);
			if (table[i].any) {
				assert_int_equal(run_mem(table[i].exec, 1, BASE + 33), -1);
				assert_int_equal(run_mem(table[i].exec, 1, END - 15), HK_VECTOR_PF);
				assert_int_equal(cpu.event.cr2, END);
			} else {
				assert_int_equal(
					run_mem(table[i].exec, 1, BASE + 33), HK_VECTOR_GP);
				assert_true(cpu.event.has_code);
				assert_int_equal(cpu.event.code, 0);
				assert_int_equal(run_mem(table[i].exec, 1, END - 8), HK_VECTOR_GP);
			}
			assert_int_equal(run_mem(table[i].exec, 1, END), HK_VECTOR_PF);
			assert_int_equal(cpu.event.code, table[i].store ? 2 : 0);
		}
	}
}

/* Just the bytes that count are read, and no alignment is asked for. */
static void small_operands(void **state)
{
	static const struct {
		hk_exec_fn *exec;
		unsigned len;
	} table[] = {
		{hk_x_sse_load4, 4},
		{hk_x_sse_load8, 8},
		{hk_x_sse_load_low, 8},
		{hk_x_sse_load_high, 8},
		{hk_x_sse_store4, 4},
		{hk_x_sse_store8, 8},
		{hk_x_sse_store_high, 8},
		{hk_x_sse_from_r32, 4},
		{hk_x_sse_from_r64, 8},
		{hk_x_sse_to_r32, 4},
		{hk_x_sse_to_r64, 8},
		{hk_x_movddup, 8},
		{hk_x_pmovsxbw, 8},
		{hk_x_pmovzxbd, 4},
		{hk_x_pmovsxbq, 2},
		{hk_x_pmovzxwd, 8},
		{hk_x_pmovsxwq, 4},
		{hk_x_pmovzxdq, 8},
		{hk_x_insertps, 4},
		{hk_x_pinsrb, 1},
		{hk_x_pinsrw, 2},
		{hk_x_pinsrd, 4},
		{hk_x_pinsrq, 8},
		{hk_x_pextrb_rm, 1},
		{hk_x_pextrw_rm, 2},
		{hk_x_pextrd, 4},
		{hk_x_pextrq, 8},
		{hk_x_mmx_load, 8},
		{hk_x_mmx_store, 8},
		{hk_x_mmx_from_r32, 4},
		{hk_x_mmx_to_r64, 8},
		{hk_x_mmx_punpcklbw, 4},
		{hk_x_mmx_punpckhbw, 8},
		{hk_x_mmx_paddw, 8},
		{hk_x_mmx_pinsrw, 2},
	};

	for (size_t i = 0; i < HK_ARRAY_SIZE(table); i++) {
		assert_int_equal(run_mem(table[i].exec, 1, END - table[i].len), -1);
		assert_int_equal(run_mem(table[i].exec, 1, END - table[i].len + 1), HK_VECTOR_PF);
		assert_int_equal(cpu.event.cr2, END);
	}
}

/* What faults has changed nothing: no part of memory, no register, no x87 tag. */
static void faults_change_nothing(void **state)
{
	static const struct hk_x87 x87 = {.fsw = 5 << 11, .tag_empty = 0xa5};
	uint8_t before[HK_PAGE_SIZE];

	memcpy(before, memory, sizeof(before));
	cpu.x87 = x87;
	cpu.xmm[1] = (union hk_xmm){.u64 = {1, 2}};
	map(true);
	assert_int_equal(run_mem(hk_x_sse_store_any, 1, END - 8), HK_VECTOR_PF);
	assert_int_equal(run_mem(hk_x_sse_load_any, 1, END - 8), HK_VECTOR_PF);
	assert_int_equal(run_mem(hk_x_paddq, 1, END), HK_VECTOR_PF);
	assert_int_equal(run_mem(hk_x_mmx_store, 1, END - 4), HK_VECTOR_PF);
	assert_int_equal(run_mem(hk_x_mmx_paddb, 1, END - 4), HK_VECTOR_PF);
	assert_int_equal(run_mem(hk_x_mmx_load, 1, END), HK_VECTOR_PF);
	assert_int_equal(cpu.xmm[1].u64[0], 1);
	assert_int_equal(cpu.xmm[1].u64[1], 2);
	assert_memory_equal(memory, before, sizeof(before));
	assert_memory_equal(&cpu.x87, &x87, sizeof(x87));

	/* And what does not fault commits the x87 unit to MMX. */
	assert_int_equal(run_mem(hk_x_mmx_load, 1, BASE), -1);
	assert_int_equal(cpu.x87.tag_empty, 0);
	assert_int_equal(cpu.x87.fsw, 0);
	assert_memory_equal(hk_mmx(&cpu, 1), memory, 8);
	assert_int_equal(cpu.x87.r[1].sign_exp, 0xffff);
	assert_int_equal(cpu.x87.r[2].sign_exp, 0);
}

static void units_that_are_off(void **state)
{
	static const struct {
		uint64_t cr0, cr4;
		int vector;
	} table[] = {
		{HK_CR0_EM, HK_CR4_OSFXSR, HK_VECTOR_UD},
		{HK_CR0_EM | HK_CR0_TS, HK_CR4_OSFXSR, HK_VECTOR_UD},
		{HK_CR0_TS, HK_CR4_OSFXSR, HK_VECTOR_NM},
		{0, 0, HK_VECTOR_UD},
		{HK_CR0_TS, 0, HK_VECTOR_UD},
	};
	static hk_exec_fn *const sse[] = {hk_x_sse_load, hk_x_sse_store4, hk_x_pxor, hk_x_psllw_imm,
		hk_x_pmovmskb, hk_x_pextrw, hk_x_movhlps, hk_x_pblendvb, hk_x_pmovsxbw,
		hk_x_pcmpistri, hk_x_maskmovdqu, hk_x_movq2dq, hk_x_movdq2q};
	static hk_exec_fn *const mmx[] = {hk_x_mmx_load, hk_x_mmx_store, hk_x_mmx_pxor,
		hk_x_mmx_psllw_imm, hk_x_mmx_pmovmskb, hk_x_mmx_pextrw, hk_x_mmx_pinsrw,
		hk_x_mmx_pshufw, hk_x_maskmovq, hk_x_movq2dq, hk_x_movdq2q};

	/* Before the memory operand is looked at: it would fault. */
	for (size_t i = 0; i < HK_ARRAY_SIZE(table); i++) {
		cpu.cr0 = table[i].cr0;
		cpu.cr4 = table[i].cr4;
		for (size_t j = 0; j < HK_ARRAY_SIZE(sse); j++) {
			const bool memory_form = j < 2;

			assert_int_equal(memory_form ? run_mem(sse[j], 1, END + 1)
						     : run(sse[j], (struct hk_insn){.reg = 1}),
				table[i].vector);
		}
	}
	cpu.cr0 = 0;
	cpu.cr4 = HK_CR4_OSFXSR;
	mmx_usable = false;
	for (size_t j = 0; j < HK_ARRAY_SIZE(mmx); j++) {
		const bool memory_form = j < 2;

		assert_int_equal(memory_form ? run_mem(mmx[j], 1, END)
					     : run(mmx[j], (struct hk_insn){.reg = 1}),
			HK_VECTOR_MF);
	}
}

/* Only selected bytes are written, but all must be writable. */
static void masked_stores(void **state)
{
	static const struct hk_insn regs = {.reg = 1, .base = 2};
	uint8_t want[HK_PAGE_SIZE];

	for (unsigned i = 0; i < 16; i++) {
		cpu.xmm[1].u8[i] = (uint8_t)(0xc0 + i);
	}
	memcpy(want, memory, sizeof(want));
	cpu.xmm[2] = (union hk_xmm){.u8 = {[2] = 0x80, [5] = 0xff, [6] = 0x7f, [15] = 0x81}};
	cpu.gpr[HK_RDI] = END - 16;
	assert_int_equal(run(hk_x_maskmovdqu, regs), -1);
	want[HK_PAGE_SIZE - 14] = 0xc2;
	want[HK_PAGE_SIZE - 11] = 0xc5;
	want[HK_PAGE_SIZE - 1] = 0xcf;
	assert_memory_equal(memory, want, sizeof(want));

	cpu.gpr[HK_RDI] = END - 15;
	assert_int_equal(run(hk_x_maskmovdqu, regs), HK_VECTOR_PF);
	assert_int_equal(cpu.event.cr2, END);
	assert_memory_equal(memory, want, sizeof(want));

	/* The upper half comes first. */
	cpu.gpr[HK_RDI] = END + 4;
	assert_int_equal(run(hk_x_maskmovdqu, regs), HK_VECTOR_PF);
	assert_int_equal(cpu.event.cr2, END + 12);
	cpu.gpr[HK_RDI] = BASE - 8;
	assert_int_equal(run(hk_x_maskmovdqu, regs), HK_VECTOR_PF);
	assert_int_equal(cpu.event.cr2, BASE - 8);

	/* The segment and the address size count. */
	cpu.seg_base[HK_FS] = 0x100;
	cpu.gpr[HK_RDI] = UINT64_C(0x100000000) + BASE;
	*hk_mmx(&cpu, 1) = 0x77;
	*hk_mmx(&cpu, 2) = 0x80;
	struct hk_insn code[2] = {
		{
			.exec = hk_x_maskmovq,
			.reg = 1,
			.base = 2,
			.flags = 2 << HK_INSN_ADDR_SHIFT | HK_FS << HK_INSN_SEG_SHIFT,
		},
		{.exec = stop},
	};

	hk_x_maskmovq(&cpu, code);
	want[0x100] = 0x77;
	assert_memory_equal(memory, want, sizeof(want));
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(aes_128, reset),
		cmocka_unit_test_setup(carry_less_multiplication, reset),
		cmocka_unit_test_setup(sha1_abc, reset),
		cmocka_unit_test_setup(sha256_abc, reset),
		cmocka_unit_test_setup(string_compare, reset),
		cmocka_unit_test_setup(string_lengths, reset),
		cmocka_unit_test_setup(alignment, reset),
		cmocka_unit_test_setup(small_operands, reset),
		cmocka_unit_test_setup(faults_change_nothing, reset),
		cmocka_unit_test_setup(units_that_are_off, reset),
		cmocka_unit_test_setup(masked_stores, reset),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
