/* SPDX-License-Identifier: ISC */
/*
 * Which flags an instruction reads, always writes, and leaves undefined.
 *
 * Flags left undefined are not compared until they are written again, and no instruction that reads
 * one of them is generated meanwhile. Shifts and rotations depend on their count: gen.c knows.
 * Source: Intel SDM vol. 2, "Flags affected"; vol. 1, appendix A.
 */
#ifndef HK_TESTS_ISA_UNDEFINED_H
#define HK_TESTS_ISA_UNDEFINED_H

#include "engine/soft/cpu.h"

/* Short here, so that the table can be read. */
#define C   HK_FLAG_CF
#define P   HK_FLAG_PF
#define A   HK_FLAG_AF
#define Z   HK_FLAG_ZF
#define S   HK_FLAG_SF
#define O   HK_FLAG_OF
#define ALL HK_FLAGS_ARITH

/** struct isa_flags_rule - of instructions called @name; without a rule: reads and writes none */
struct isa_flags_rule {
	const char *name;
	uint16_t reads, writes, undefined;
};

static const struct isa_flags_rule isa_flags_rules[] = {
	/* clang-format off */
	{"aaa", A, A | C, O | S | Z | P},
	{"aas", A, A | C, O | S | Z | P},
	{"aad", 0, S | Z | P, O | A | C},
	{"aam", 0, S | Z | P, O | A | C},
	{"adc", C, ALL, 0},
	{"adcx", C, C, 0},
	{"add", 0, ALL, 0},
	{"adox", O, O, 0},
	{"and", 0, ALL, A},
	{"andn", 0, ALL, A | P},
	{"arpl", 0, Z, 0},
	{"bextr", 0, ALL, A | S | P},
	{"blsi", 0, ALL, A | P},
	{"blsmsk", 0, ALL, A | P},
	{"blsr", 0, ALL, A | P},
	{"bsf", 0, ALL, C | O | S | A | P},
	{"bsr", 0, ALL, C | O | S | A | P},
	{"bt", 0, C, O | S | A | P},
	{"btc", 0, C, O | S | A | P},
	{"btr", 0, C, O | S | A | P},
	{"bts", 0, C, O | S | A | P},
	{"bzhi", 0, ALL, A | P},
	{"clc", 0, C, 0},
	{"cmc", C, C, 0},
	{"cmov", ALL, 0, 0},
	{"cmp", 0, ALL, 0},
	{"cmpsb", 0, 0, 0}, /* none with REP and a count of 0 */
	{"cmpsw", 0, 0, 0},
	{"cmpxchg", 0, ALL, 0},
	{"cmpxchg8b", 0, Z, 0},
	{"comisd", 0, ALL, 0},
	{"comiss", 0, ALL, 0},
	{"daa", A | C, ALL, O},
	{"das", A | C, ALL, O},
	{"dec", 0, ALL & ~C, 0},
	{"div", 0, 0, ALL},
	{"fcmovb", C, 0, 0},
	{"fcmovbe", C | Z, 0, 0},
	{"fcmove", Z, 0, 0},
	{"fcmovnb", C, 0, 0},
	{"fcmovnbe", C | Z, 0, 0},
	{"fcmovne", Z, 0, 0},
	{"fcmovnu", P, 0, 0},
	{"fcmovu", P, 0, 0},
	{"idiv", 0, 0, ALL},
	{"imul", 0, ALL, S | Z | A | P},
	{"inc", 0, ALL & ~C, 0},
	{"into", O, 0, 0},
	{"iretw", 0, ALL, 0},
	{"j", ALL, 0, 0},
	{"lahf", ALL & ~O, 0, 0},
	{"lar", 0, Z, 0},
	{"loope", Z, 0, 0},
	{"loopne", Z, 0, 0},
	{"lsl", 0, Z, 0},
	{"lzcnt", 0, ALL, O | S | A | P},
	{"mul", 0, ALL, S | Z | A | P},
	{"neg", 0, ALL, 0},
	{"or", 0, ALL, A},
	{"pcmpestri", 0, ALL, 0},
	{"pcmpestrm", 0, ALL, 0},
	{"pcmpistri", 0, ALL, 0},
	{"pcmpistrm", 0, ALL, 0},
	{"popcnt", 0, ALL, 0},
	{"popfw", 0, ALL, 0},
	{"ptest", 0, ALL, 0},
	{"pushfw", ALL, 0, 0},
	{"rdrand", 0, ALL, 0},
	{"rdseed", 0, ALL, 0},
	{"sahf", 0, ALL & ~O, 0},
	{"salc", C, 0, 0},
	{"sbb", C, ALL, 0},
	{"set", ALL, 0, 0},
	{"stc", 0, C, 0},
	{"sub", 0, ALL, 0},
	{"test", 0, ALL, A},
	{"tzcnt", 0, ALL, O | S | A | P},
	{"ucomisd", 0, ALL, 0},
	{"ucomiss", 0, ALL, 0},
	{"verr", 0, Z, 0},
	{"verw", 0, Z, 0},
	{"xadd", 0, ALL, 0},
	{"xor", 0, ALL, A},
	/* clang-format on */
};

#undef C
#undef P
#undef A
#undef Z
#undef S
#undef O
#undef ALL

#endif
