/* SPDX-License-Identifier: ISC */
/*
 * A test case of the instruction tester: code, the state it starts from, the state it ends in.
 *
 * The address space is the same on the real CPU and on ours. All of it lies below 2 GiB, so that
 * every address fits 32-bit code, a sign-extended displacement and a PUSH imm32:
 *
 *	ISA_CODE    two pages, executable, read-only
 *	ISA_DATA    two pages, read-write; every case starts with isa_memory_fill() in them
 *	ISA_CONST   one page after them, read-only
 *	the rest    not mapped
 *
 * Code runs at CPL 3 until it traps. What is behind the case's last byte is INT3.
 */
#ifndef HK_TESTS_ISA_CASE_H
#define HK_TESTS_ISA_CASE_H

#include <stdalign.h>
#include <stdbool.h>
#include <stdint.h>

#include "engine/vcpu_state.h"

#define ISA_CODE UINT64_C(0x10000000)
#define ISA_DATA UINT64_C(0x20001000)
enum {
	ISA_PAGE = 4096,
	ISA_CODE_BYTES = 2 * ISA_PAGE,
	ISA_DATA_BYTES = 2 * ISA_PAGE,
	ISA_CONST_BYTES = ISA_PAGE,
};
#define ISA_CONST    (ISA_DATA + ISA_DATA_BYTES)
#define ISA_DATA_END (ISA_CONST + ISA_CONST_BYTES)
#define ISA_INT3     0xcc

/* Selectors of user code and data, at Linux's places. */
enum { ISA_SEL_CODE32 = 0x23, ISA_SEL_DATA = 0x2b, ISA_SEL_CODE64 = 0x33 };

/* Fields of the FXSAVE image. Source: Intel SDM vol. 1, 10.5.1. */
enum {
	ISA_FX_FCW = 0,
	ISA_FX_FSW = 2,
	ISA_FX_FTW = 4,
	ISA_FX_FOP = 6,
	ISA_FX_FIP = 8,
	ISA_FX_FDP = 16,
	ISA_FX_MXCSR = 24,
	ISA_FX_ST = 32,
	ISA_FX_XMM = 160,
	ISA_FX_BYTES = 416, /* what is defined of the 512 */
};

/** struct isa_state - registers; @sel in the order of enum hk_seg, HK_ES to HK_GS */
struct isa_state {
	uint64_t gpr[HK_GPR_COUNT];
	uint64_t rip;
	uint64_t rflags;
	uint64_t fs_base, gs_base;
	uint16_t sel[6];
	alignas(16) uint8_t fx[512];
};

enum { ISA_MAX_INSNS = 12, ISA_MAX_CODE = 15 * ISA_MAX_INSNS };

/* How results are compared; bits of isa_insn.lax and fault_lax. */
enum {
	ISA_LAX_ULP =
		1 << 0, /* x87 registers may differ by one unit in the last place, C1 anyhow */
	ISA_LAX_RCP = 1 << 1, /* RCPPS, RSQRTPS: relative error below 1.5 * 2^-12 on either side */
	ISA_LAX_RUN = 1 << 2, /* only faults are compared: RDTSC, RDRAND and the like */
	ISA_LAX_NAN = 1 << 3, /* singles and doubles: one NaN is as good as another */
	ISA_LAX_WHERE =
		1 << 4, /* a long operand: which of its bytes faults first, and what was stored */
	ISA_LAX_TOP = 1 << 5, /* whether the x87 unit is in MMX mode: TOP, tags */
};

/**
 * struct isa_insn - one instruction of a case
 * @off: from the start of the case's code
 * @row: of the instruction table
 * @undefined: flags that are undefined once it has run, those of the ones before it included
 * @lax: how the result is compared once it has run
 * @fault_lax: the same, where it faults
 */
struct isa_insn {
	uint16_t off;
	uint16_t row;
	uint32_t undefined;
	uint8_t lax, fault_lax;
	bool setup; /* only prepares for the next one */
};

/**
 * struct isa_case - code and its initial state
 * @start.rip: first byte of the code
 * @memory: seed of the contents of data and constant pages
 */
struct isa_case {
	struct isa_state start;
	uint64_t memory;
	uint8_t code[ISA_MAX_CODE];
	uint16_t len;
	bool code32;
	uint8_t insn_count;
	struct isa_insn insns[ISA_MAX_INSNS];
};

/* What became of a case. */
enum isa_end {
	ISA_TRAP, /* it ended in an exception, as it should */
	ISA_LOST, /* the process died or hung; the CPU shut down or went on for too long */
};

/** struct isa_result - where a case ended */
struct isa_result {
	enum isa_end end;
	uint8_t vector;
	uint32_t code; /* error code, 0 where there is none */
	uint64_t cr2;  /* of a page fault, else 0 */
	struct isa_state state;
	alignas(64) uint8_t data[ISA_DATA_BYTES];
};

/** isa_memory_fill() - what data (and constant) pages hold at first; @len up to three pages */
void isa_memory_fill(uint64_t seed, uint8_t *ret_bytes, unsigned len);

static inline uint16_t isa_get16(const uint8_t *p)
{
	return (uint16_t)(p[0] | p[1] << 8);
}

static inline void isa_put16(uint8_t *p, uint16_t v)
{
	p[0] = (uint8_t)v;
	p[1] = (uint8_t)(v >> 8);
}

#endif
