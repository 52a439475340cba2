/* SPDX-License-Identifier: ISC */
/*
 * Flags of the software CPU: every operation, size and boundary value, first against plain
 * formulas, then (on x86) against the CPU this runs on. Flags that the architecture leaves
 * undefined are compared only on the family of CPUs whose behaviour is imitated.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "base/util.h"
#include "engine/soft/exec/alu.h"

#if defined(__x86_64__)
#include <cpuid.h>
#endif

static struct hk_cpu cpu;

static const uint64_t values[] = {0, 1, 2, 7, 8, 9, 15, 16, 0x7e, 0x7f, 0x80, 0x81, 0xfe, 0xff,
	0x100, 0x7fff, 0x8000, 0x8001, 0xfffe, 0xffff, 0x10000, 0x12345678, 0x7fffffff, 0x80000000,
	0x80000001, 0xfffffffe, 0xffffffff, 0x100000000, 0x123456789abcdef0, 0x7fffffffffffffff,
	0x8000000000000000, 0x8000000000000001, 0xfffffffffffffffe, 0xffffffffffffffff,
	0xa5a5a5a5a5a5a5a5, 0x5a5a5a5a5a5a5a5a, 0x4040404040404040, 0xc0c0c0c0c0c0c0c0};

/* The six flags in all combinations. */
static uint32_t flag_pattern(unsigned i)
{
	return (i & 1 ? HK_FLAG_CF : 0) | (i & 2 ? HK_FLAG_PF : 0) | (i & 4 ? HK_FLAG_AF : 0) |
		(i & 8 ? HK_FLAG_ZF : 0) | (i & 16 ? HK_FLAG_SF : 0) | (i & 32 ? HK_FLAG_OF : 0);
}

static bool cond_of(uint32_t flags, unsigned cond)
{
	bool cf = flags & HK_FLAG_CF;
	bool pf = flags & HK_FLAG_PF;
	bool zf = flags & HK_FLAG_ZF;
	bool sf = flags & HK_FLAG_SF;
	bool of = flags & HK_FLAG_OF;
	const bool holds[] = {of, cf, zf, cf || zf, sf, pf, sf != of, zf || sf != of};

	return holds[cond >> 1] != (cond & 1);
}

/* All ways to ask, and changes of single flags, agree with @want. */
static void check(uint32_t want, const char *what, unsigned size, uint64_t a, uint64_t b)
{
	uint64_t res = cpu.cc_res;
	uint64_t src = cpu.cc_src;
	uint32_t kind = cpu.cc_kind;

	if (hk_cc_get(&cpu) != want) {
		fail_msg("%s size %u, %llx, %llx: flags %x, not %x", what, size,
			(unsigned long long)a, (unsigned long long)b, hk_cc_get(&cpu), want);
	}
	assert_int_equal(hk_cc_cf(&cpu), (want & HK_FLAG_CF) != 0);
	assert_int_equal(hk_cc_zf(&cpu), (want & HK_FLAG_ZF) != 0);
	assert_int_equal(hk_cc_sf(&cpu), (want & HK_FLAG_SF) != 0);
	for (unsigned cond = 0; cond < 16; cond++) {
		assert_int_equal(hk_cond(&cpu, cond), cond_of(want, cond));
		assert_int_equal(hk_cond_slow(&cpu, cond), cond_of(want, cond));
	}
	for (unsigned i = 0; i < 4; i++) {
		uint32_t cf = i & 1 ? HK_FLAG_CF : 0;
		uint32_t of = i & 2 ? HK_FLAG_OF : 0;

		hk_cc_set_cf(&cpu, cf != 0);
		assert_int_equal(hk_cc_get(&cpu), (want & ~(uint32_t)HK_FLAG_CF) | cf);
		hk_cc_set_cf_of(&cpu, cf != 0, of != 0);
		assert_int_equal(
			hk_cc_get(&cpu), (want & ~(uint32_t)(HK_FLAG_CF | HK_FLAG_OF)) | cf | of);
		cpu.cc_res = res;
		cpu.cc_src = src;
		cpu.cc_kind = kind;
	}
}

static uint32_t result_flags(unsigned size, uint64_t res)
{
	uint32_t flags = 0;

	res &= hk_mask(size);
	flags |= res == 0 ? HK_FLAG_ZF : 0;
	flags |= res >> ((8u << size) - 1) != 0 ? HK_FLAG_SF : 0;
	flags |= __builtin_popcount((unsigned)res & 0xff) % 2 == 0 ? HK_FLAG_PF : 0;
	return flags;
}

static uint32_t add_flags(unsigned size, uint64_t a, uint64_t b, unsigned carry)
{
	unsigned __int128 sum = (unsigned __int128)a + b + carry;
	__int128 s = (__int128)(int64_t)hk_sign_extend(a, size) + (int64_t)hk_sign_extend(b, size) +
		carry;
	uint32_t flags = result_flags(size, (uint64_t)sum);

	flags |= sum > hk_mask(size) ? HK_FLAG_CF : 0;
	flags |= s != (int64_t)hk_sign_extend((uint64_t)s, size) ? HK_FLAG_OF : 0;
	flags |= (a & 15) + (b & 15) + carry > 15 ? HK_FLAG_AF : 0;
	return flags;
}

static uint32_t sub_flags(unsigned size, uint64_t a, uint64_t b, unsigned borrow)
{
	__int128 s = (__int128)(int64_t)hk_sign_extend(a, size) - (int64_t)hk_sign_extend(b, size) -
		borrow;
	uint32_t flags = result_flags(size, a - b - borrow);

	flags |= (unsigned __int128)b + borrow > a ? HK_FLAG_CF : 0;
	flags |= s != (int64_t)hk_sign_extend((uint64_t)s, size) ? HK_FLAG_OF : 0;
	flags |= (b & 15) + borrow > (a & 15) ? HK_FLAG_AF : 0;
	return flags;
}

static void test_formulas(void **state)
{
	(void)state;
	for (unsigned n = 0; n < 4 * HK_ARRAY_SIZE(values) * HK_ARRAY_SIZE(values) * 2; n++) {
		unsigned size = n & 3;
		unsigned carry = n >> 2 & 1;
		uint64_t a = values[n / 8 % HK_ARRAY_SIZE(values)] & hk_mask(size);
		uint64_t b = values[n / 8 / HK_ARRAY_SIZE(values)] & hk_mask(size);
		uint32_t before = carry ? HK_FLAGS_ARITH : 0;

		hk_cc_set_raw(&cpu, before);
		hk_alu_add(&cpu, size, a, b);
		check(add_flags(size, a, b, 0), "add", size, a, b);
		hk_cc_set_raw(&cpu, before);
		hk_alu_adc(&cpu, size, a, b);
		check(add_flags(size, a, b, carry), "adc", size, a, b);
		hk_cc_set_raw(&cpu, before);
		hk_alu_sub(&cpu, size, a, b);
		check(sub_flags(size, a, b, 0), "sub", size, a, b);
		hk_cc_set_raw(&cpu, before);
		hk_alu_sbb(&cpu, size, a, b);
		check(sub_flags(size, a, b, carry), "sbb", size, a, b);
		hk_alu_and(&cpu, size, a, b);
		check(result_flags(size, a & b), "and", size, a, b);
		hk_alu_or(&cpu, size, a, b);
		check(result_flags(size, a | b), "or", size, a, b);
		hk_alu_xor(&cpu, size, a, b);
		check(result_flags(size, a ^ b), "xor", size, a, b);
		hk_cc_set_raw(&cpu, before);
		hk_alu_inc(&cpu, size, a, 0);
		check((add_flags(size, a, 1, 0) & ~(uint32_t)HK_FLAG_CF) | carry, "inc", size, a,
			0);
		hk_cc_set_raw(&cpu, before);
		hk_alu_dec(&cpu, size, a, 0);
		check((sub_flags(size, a, 1, 0) & ~(uint32_t)HK_FLAG_CF) | carry, "dec", size, a,
			0);
		hk_alu_neg(&cpu, size, a, 0);
		check(sub_flags(size, 0, a, 0), "neg", size, a, 0);
	}
}

/* All 64 combinations go in and come out, and serve every condition. */
static void test_raw(void **state)
{
	(void)state;
	for (unsigned i = 0; i < 64; i++) {
		hk_rflags_set(&cpu, flag_pattern(i) | HK_FLAG_IF | HK_FLAG_DF);
		assert_int_equal(hk_rflags_get(&cpu),
			flag_pattern(i) | HK_FLAG_IF | HK_FLAG_DF | HK_FLAG_FIXED);
		check(flag_pattern(i), "raw", 0, i, 0);
	}
}

static void test_shift_kind(void **state)
{
	(void)state;
	for (unsigned n = 0; n < 8 * 4 * HK_ARRAY_SIZE(values); n++) {
		unsigned bits = n & 7;
		unsigned size = n >> 3 & 3;
		uint64_t res = values[n / 32];

		hk_cc_set(&cpu, HK_CC_SHIFT, size, res, bits);
		check(result_flags(size, res) | (bits & HK_CC_BIT_CF ? HK_FLAG_CF : 0) |
				(bits & HK_CC_BIT_OF ? HK_FLAG_OF : 0) |
				(bits & HK_CC_BIT_AF ? HK_FLAG_AF : 0),
			"shift", size, res, bits);
	}
}

/* Sapphire Rapids never sets ZF after a multiplication. */
static void test_mul_kind(void **state)
{
	(void)state;
	for (unsigned n = 0; n < 2 * 4 * HK_ARRAY_SIZE(values); n++) {
		bool over = (n & 1) != 0;
		unsigned size = n >> 1 & 3;
		uint64_t res = values[n / 8];

		hk_cc_set_mul(&cpu, size, res, over);
		check((result_flags(size, res) & ~(uint32_t)HK_FLAG_ZF) |
				(over ? HK_FLAG_CF | HK_FLAG_OF : 0),
			"mul", size, res, over);
	}
}

#if defined(__x86_64__)

/*
 * What the host makes of it: a in rAX, the second operand in R8, the count in CL, flags in and out.
 */
typedef uint64_t native_fn(uint64_t a, uint64_t b, uint64_t count, uint64_t *flags);

#define NATIVE(name, text) \
	static uint64_t native_##name(uint64_t a, uint64_t b, uint64_t count, uint64_t *flags) \
	{ \
		register uint64_t r8 __asm__("r8") = b; \
		uint64_t f = *flags; \
\
		/* Below the red zone */ \
		__asm__ volatile("lea -128(%%rsp), %%rsp; push %1; popf; " text \
				 "; pushf; pop %1; lea 128(%%rsp), %%rsp" \
				 : "+a"(a), "+r"(f) \
				 : "r"(r8), "c"(count) \
				 : "cc", "memory"); \
		*flags = f & HK_FLAGS_ARITH; \
		return a; \
	}
#define NATIVE_2(op) \
	NATIVE(op##0, #op "b %%r8b, %%al") \
	NATIVE(op##1, #op "w %%r8w, %%ax") \
	NATIVE(op##2, #op "l %%r8d, %%eax") NATIVE(op##3, #op "q %%r8, %%rax")
#define NATIVE_1(op) \
	NATIVE(op##0, #op "b %%al") \
	NATIVE(op##1, #op "w %%ax") NATIVE(op##2, #op "l %%eax") NATIVE(op##3, #op "q %%rax")
#define NATIVE_CL(op) \
	NATIVE(op##0, #op "b %%cl, %%al") \
	NATIVE(op##1, #op "w %%cl, %%ax") \
	NATIVE(op##2, #op "l %%cl, %%eax") NATIVE(op##3, #op "q %%cl, %%rax")
#define NATIVE_WIDE(op) \
	NATIVE(op##1, #op "w %%r8w, %%ax") \
	NATIVE(op##2, #op "l %%r8d, %%eax") NATIVE(op##3, #op "q %%r8, %%rax")
#define NATIVE_DOUBLE(op) \
	NATIVE(op##1, #op "w %%cl, %%r8w, %%ax") \
	NATIVE(op##2, #op "l %%cl, %%r8d, %%eax") NATIVE(op##3, #op "q %%cl, %%r8, %%rax")

NATIVE_2(add)
NATIVE_2(adc)
NATIVE_2(sub)
NATIVE_2(sbb)
NATIVE_2(and)
NATIVE_2(or)
NATIVE_2(xor)
NATIVE_1(inc)
NATIVE_1(dec)
NATIVE_1(neg)
NATIVE_1(not )
NATIVE_CL(shl)
NATIVE_CL(shr)
NATIVE_CL(sar)
NATIVE_CL(rol)
NATIVE_CL(ror)
NATIVE_CL(rcl)
NATIVE_CL(rcr)
NATIVE_WIDE(bt)
NATIVE_WIDE(bts)
NATIVE_WIDE(btr)
NATIVE_WIDE(btc)
NATIVE_WIDE(imul)
NATIVE_DOUBLE(shld)
NATIVE_DOUBLE(shrd)

enum {
	NO_AF = HK_FLAG_AF,
	NO_OF_AF = HK_FLAG_OF | HK_FLAG_AF,
	ONLY_CF = HK_FLAG_OF | HK_FLAG_AF | HK_FLAG_PF | HK_FLAG_SF, /* ZF stays */
	CF_OF = HK_FLAG_AF | HK_FLAG_PF | HK_FLAG_SF | HK_FLAG_ZF,
};

/*
 * @undefined: flags that the architecture does not define (OF of shifts: by other counts than one)
 */
static const struct native_case {
	const char *name;
	hk_alu_fn *ours;
	native_fn *native[4];
	uint32_t undefined;
	bool by_count;
} cases[] = {
#define ALL(op) \
	{ \
		native_##op##0, native_##op##1, native_##op##2, native_##op##3 \
	}
#define WIDE(op) \
	{ \
		NULL, native_##op##1, native_##op##2, native_##op##3 \
	}
	{"add", hk_alu_add, ALL(add), 0, false},
	{"adc", hk_alu_adc, ALL(adc), 0, false},
	{"sub", hk_alu_sub, ALL(sub), 0, false},
	{"sbb", hk_alu_sbb, ALL(sbb), 0, false},
	{"and", hk_alu_and, ALL(and), NO_AF, false},
	{"or", hk_alu_or, ALL(or), NO_AF, false},
	{"xor", hk_alu_xor, ALL(xor), NO_AF, false},
	{"inc", hk_alu_inc, ALL(inc), 0, false},
	{"dec", hk_alu_dec, ALL(dec), 0, false},
	{"neg", hk_alu_neg, ALL(neg), 0, false},
	{"not", hk_alu_not, ALL(not ), 0, false},
	{"bt", hk_alu_bt, WIDE(bt), ONLY_CF, false},
	{"bts", hk_alu_bts, WIDE(bts), ONLY_CF, false},
	{"btr", hk_alu_btr, WIDE(btr), ONLY_CF, false},
	{"btc", hk_alu_btc, WIDE(btc), ONLY_CF, false},
	{"imul", hk_alu_imul, WIDE(imul), CF_OF, false},
	{"shl", hk_alu_shl, ALL(shl), NO_OF_AF, true},
	{"shr", hk_alu_shr, ALL(shr), NO_OF_AF, true},
	{"sar", hk_alu_sar, ALL(sar), NO_OF_AF, true},
	{"rol", hk_alu_rol, ALL(rol), HK_FLAG_OF, true},
	{"ror", hk_alu_ror, ALL(ror), HK_FLAG_OF, true},
	{"rcl", hk_alu_rcl, ALL(rcl), HK_FLAG_OF, true},
	{"rcr", hk_alu_rcr, ALL(rcr), HK_FLAG_OF, true},
#undef ALL
#undef WIDE
};

/* Sapphire Rapids or later: what Intel makes with 16-bit floating point. */
static bool imitated(void)
{
	const unsigned fp16 = 1 << 23;
	unsigned eax, ebx, ecx, edx;

	return __get_cpuid(0, &eax, &ebx, &ecx, &edx) != 0 && ecx == signature_INTEL_ecx &&
		__get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx) != 0 && (edx & fp16) != 0;
}

static void compare(const char *what, unsigned size, uint64_t a, uint64_t b, uint64_t count,
	uint64_t ours, uint64_t theirs, uint32_t theirs_flags, uint32_t undefined)
{
	uint32_t flags = hk_cc_get(&cpu);

	if (((ours ^ theirs) & hk_mask(size)) != 0 || ((flags ^ theirs_flags) & ~undefined) != 0) {
		fail_msg("%s size %u, %llx, %llx by %llu: %llx flags %x, not %llx flags %x", what,
			size, (unsigned long long)a, (unsigned long long)b,
			(unsigned long long)count, (unsigned long long)ours, flags,
			(unsigned long long)theirs, theirs_flags);
	}
	check(flags, what, size, a, b);
}

static void run_case(
	const struct native_case *c, unsigned size, uint64_t a, uint64_t b, uint32_t undefined)
{
	for (unsigned f = 0; f < 64; f += 9) {
		uint64_t flags = flag_pattern(f);
		uint64_t theirs = c->native[size](a, b, b, &flags);
		uint32_t skip = undefined;

		hk_cc_set_raw(&cpu, flag_pattern(f));
		if (c->by_count && hk_alu_count(size, b) <= 1) {
			skip &= ~(uint32_t)HK_FLAG_OF;
		}
		/* CF of SHL and SHR beyond the size is undefined, too. */
		if (c->by_count && undefined != 0 && hk_alu_count(size, b) > 8u << size) {
			skip |= HK_FLAG_CF;
		}

		uint64_t ours = c->ours(&cpu, size, a & hk_mask(size), b & hk_mask(size));

		compare(c->name, size, a, b, b, ours, theirs, (uint32_t)flags, skip);
	}
}

static void test_native(void **state)
{
	bool all = imitated();

	(void)state;
	for (size_t i = 0; i < HK_ARRAY_SIZE(cases); i++) {
		const struct native_case *c = &cases[i];

		for (unsigned size = c->native[0] == NULL ? 1 : 0; size < 4; size++) {
			for (size_t j = 0; j < HK_ARRAY_SIZE(values); j++) {
				uint64_t count = c->by_count ? 256 : HK_ARRAY_SIZE(values);

				for (uint64_t k = 0; k < count; k++) {
					run_case(c, size, values[j], c->by_count ? k : values[k],
						all ? 0 : c->undefined);
				}
			}
		}
	}
}

/* SHLD and SHRD have three operands. With 16 bits, counts beyond 16 are undefined in everything. */
static void test_native_double(void **state)
{
	static native_fn *const lefts[] = {NULL, native_shld1, native_shld2, native_shld3};
	static native_fn *const rights[] = {NULL, native_shrd1, native_shrd2, native_shrd3};
	bool all = imitated();

	(void)state;
	for (unsigned n = 0; n < 64 * HK_ARRAY_SIZE(values) * HK_ARRAY_SIZE(values); n++) {
		uint64_t count = n & 63;
		uint64_t a = values[n / 64 % HK_ARRAY_SIZE(values)];
		uint64_t b = values[n / 64 / HK_ARRAY_SIZE(values)];

		for (unsigned size = 1; size < 4; size++) {
			uint32_t skip = all ? 0 : hk_alu_count(size, count) == 1 ? NO_AF : NO_OF_AF;
			uint64_t mask = hk_mask(size);
			uint64_t flags, theirs, ours;

			if (!all && hk_alu_count(size, count) > 8u << size) {
				continue;
			}
			flags = 0;
			theirs = lefts[size](a, b, count, &flags);
			hk_cc_set_raw(&cpu, 0);
			ours = hk_alu_shld(&cpu, size, a & mask, b & mask, count);
			compare("shld", size, a, b, count, ours, theirs, (uint32_t)flags, skip);
			flags = HK_FLAGS_ARITH;
			theirs = rights[size](a, b, count, &flags);
			hk_cc_set_raw(&cpu, HK_FLAGS_ARITH);
			ours = hk_alu_shrd(&cpu, size, a & mask, b & mask, count);
			compare("shrd", size, a, b, count, ours, theirs, (uint32_t)flags, skip);
		}
	}
}

#endif

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_formulas),
		cmocka_unit_test(test_raw),
		cmocka_unit_test(test_shift_kind),
		cmocka_unit_test(test_mul_kind),
#if defined(__x86_64__)
		cmocka_unit_test(test_native),
		cmocka_unit_test(test_native_double),
#endif
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
