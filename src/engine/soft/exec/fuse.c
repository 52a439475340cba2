/* SPDX-License-Identifier: ISC */
/*
 * CMP or TEST with the conditional branch after it, as one: the pair that loops are made of. The
 * condition is decided on the operands, so no flags are worked out; they are noted all the same,
 * for whoever asks later.
 *
 * The branch stays where it is, for those who jump right to it.
 */
#define HK_TAIL_CALLER
#include "engine/soft/exec/fuse.h"

#include "engine/soft/exec/fast.h"
#include "engine/soft/link.h"
#include "engine/soft/operand.h"

#define GET8(r)  (*hk_gpr8(cpu, r))
#define GET32(r) ((uint32_t)cpu->gpr[r])
#define GET64(r) (cpu->gpr[r])

enum { LOG8 = 0, LOG32 = 2, LOG64 = 3 };

/* What holds after a compare of a with b, by condition. r is the result, signed. */
#define CMP_b(bits)  (a < b)
#define CMP_ae(bits) (a >= b)
#define CMP_e(bits)  (a == b)
#define CMP_ne(bits) (a != b)
#define CMP_be(bits) (a <= b)
#define CMP_a(bits)  (a > b)
#define CMP_s(bits)  (r < 0)
#define CMP_ns(bits) (r >= 0)
#define CMP_l(bits)  ((int##bits##_t)a < (int##bits##_t)b)
#define CMP_ge(bits) ((int##bits##_t)a >= (int##bits##_t)b)
#define CMP_le(bits) ((int##bits##_t)a <= (int##bits##_t)b)
#define CMP_g(bits)  ((int##bits##_t)a > (int##bits##_t)b)

/* After a TEST: CF and OF are clear. */
#define TEST_b(bits)  false
#define TEST_ae(bits) true
#define TEST_e(bits)  (r == 0)
#define TEST_ne(bits) (r != 0)
#define TEST_be(bits) (r == 0)
#define TEST_a(bits)  (r != 0)
#define TEST_s(bits)  (r < 0)
#define TEST_ns(bits) (r >= 0)
#define TEST_l(bits)  (r < 0)
#define TEST_ge(bits) (r >= 0)
#define TEST_le(bits) (r <= 0)
#define TEST_g(bits)  (r > 0)

#define DEFINE_CMP(bits, form, second, cond) \
	static const struct hk_insn *cmp##bits##_##form##_##cond( \
		struct hk_cpu *cpu, const struct hk_insn *insn) \
	{ \
		uint##bits##_t a = GET##bits(insn->base); \
		uint##bits##_t b = (uint##bits##_t)(second); \
		int##bits##_t r = (int##bits##_t)(uint##bits##_t)(a - b); \
\
		cpu->cc_kind = HK_CC_SUB | LOG##bits; \
		cpu->cc_src = b; \
		cpu->cc_res = (uint64_t)(int64_t)r; \
		return CMP_##cond(bits) ? hk_link_go(cpu, insn + 1) : HK_GO(cpu, insn + 2); \
	}

#define DEFINE_TEST(bits, form, second, cond) \
	static const struct hk_insn *test##bits##_##form##_##cond( \
		struct hk_cpu *cpu, const struct hk_insn *insn) \
	{ \
		int##bits##_t r = \
			(int##bits##_t)(GET##bits(insn->base) & (uint##bits##_t)(second)); \
\
		cpu->cc_kind = HK_CC_LOGIC | LOG##bits; \
		cpu->cc_res = (uint64_t)(int64_t)r; \
		return TEST_##cond(bits) ? hk_link_go(cpu, insn + 1) : HK_GO(cpu, insn + 2); \
	}

#define FOR_CONDITIONS(X, bits, form, second) \
	X(bits, form, second, b) \
	X(bits, form, second, ae) \
	X(bits, form, second, e) \
	X(bits, form, second, ne) \
	X(bits, form, second, be) \
	X(bits, form, second, a) \
	X(bits, form, second, s) \
	X(bits, form, second, ns) \
	X(bits, form, second, l) \
	X(bits, form, second, ge) \
	X(bits, form, second, le) \
	X(bits, form, second, g)

#define DEFINE_FORMS(X, bits) \
	FOR_CONDITIONS(X, bits, rr, GET##bits(insn->reg)) \
	FOR_CONDITIONS(X, bits, ri, insn->imm)

DEFINE_FORMS(DEFINE_CMP, 8)
DEFINE_FORMS(DEFINE_CMP, 32)
DEFINE_FORMS(DEFINE_CMP, 64)
DEFINE_FORMS(DEFINE_TEST, 8)
DEFINE_FORMS(DEFINE_TEST, 32)
DEFINE_FORMS(DEFINE_TEST, 64)

#define BY_CONDITION(name) \
	{ \
		[HK_COND_B] = name##_b, [HK_COND_AE] = name##_ae, [HK_COND_E] = name##_e, \
		[HK_COND_NE] = name##_ne, [HK_COND_BE] = name##_be, [HK_COND_A] = name##_a, \
		[HK_COND_S] = name##_s, [HK_COND_NS] = name##_ns, [HK_COND_L] = name##_l, \
		[HK_COND_GE] = name##_ge, [HK_COND_LE] = name##_le, [HK_COND_G] = name##_g, \
	}

/* By operation, form (register, immediate), size and condition; NULL: no such pair. */
static hk_exec_fn *const pairs[HK_FAST_PAIR_COUNT][2][4][16] = {
	[HK_FAST_CMP] =
		{
			{[LOG8] = BY_CONDITION(cmp8_rr),
				[LOG32] = BY_CONDITION(cmp32_rr),
				[LOG64] = BY_CONDITION(cmp64_rr)},
			{[LOG8] = BY_CONDITION(cmp8_ri),
				[LOG32] = BY_CONDITION(cmp32_ri),
				[LOG64] = BY_CONDITION(cmp64_ri)},
		},
	[HK_FAST_TEST] =
		{
			{[LOG8] = BY_CONDITION(test8_rr),
				[LOG32] = BY_CONDITION(test32_rr),
				[LOG64] = BY_CONDITION(test64_rr)},
			{[LOG8] = BY_CONDITION(test8_ri),
				[LOG32] = BY_CONDITION(test32_ri),
				[LOG64] = BY_CONDITION(test64_ri)},
		},
};

hk_exec_fn *hk_fuse(const struct hk_insn *insn, const struct hk_insn *jcc)
{
	enum hk_fast_pair pair = hk_fast_pair(insn);
	bool immediate = hk_insn_form(insn) == HK_FORM_RM_IMM;

	if (pair == HK_FAST_NO_PAIR) {
		return insn->exec;
	}

	hk_exec_fn *exec = pairs[pair][immediate][hk_insn_size(insn)][jcc->cond];

	return exec != NULL ? exec : insn->exec;
}
