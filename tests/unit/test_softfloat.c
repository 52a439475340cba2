/* SPDX-License-Identifier: ISC */
/*
 * The software floating point against the CPU that this runs on: every operation on pairs of
 * boundary values and on random ones, in every rounding mode, with exceptions masked and not;
 * results, exception flags and the x87 condition codes must be the same bits.
 *
 * An operation is there twice, as a function that runs the instruction and one that computes it;
 * both fill a struct outcome, and those are compared. Unmasked SSE exceptions come as SIGFPE, which
 * reads MXCSR from the signal's frame; the x87 unit only notes them, and they are cleared in time.
 *
 * Checked on an Intel Sapphire Rapids. What another CPU does differently would show here first.
 */
#include <inttypes.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <ucontext.h>

#include <cmocka.h>

#include "base/util.h"
#include "engine/soft/fpu/softfloat.h"

enum { FCW_DEFAULT = 0x37f, MAX_REPORTS = 3, RANDOM_PAIRS = 1500 };

enum { C0 = 1 << 8, C1 = 1 << 9, C2 = 1 << 10, C3 = 1 << 14, CODES = C0 | C1 | C2 | C3 };

/* What goes in: a and b of either kind; MXCSR or the x87 control word. */
struct input {
	uint64_t a, b;
	struct hk_f80 fa, fb;
	uint32_t control;
};

/* What comes out; all 0 but the flags where an unmasked exception leaves no result. */
struct outcome {
	uint64_t value;
	uint64_t value2;
	uint16_t sign_exp;
	uint16_t sign_exp2;
	uint16_t codes;
	uint8_t flags;
};

typedef void run_fn(const struct input *in, struct outcome *out);

struct operation {
	const char *name;
	run_fn *hard, *soft;
	bool binary;
};

static unsigned failures;
static const struct operation *reported; /* the last one, so that others have their say, too */
static unsigned reports;

static void check(const struct operation *op, const struct input *in)
{
	struct outcome hard = {0}, soft = {0};

	op->hard(in, &hard);
	op->soft(in, &soft);
	if (hard.value == soft.value && hard.value2 == soft.value2 &&
		hard.sign_exp == soft.sign_exp && hard.sign_exp2 == soft.sign_exp2 &&
		hard.codes == soft.codes && hard.flags == soft.flags) {
		return;
	}
	failures++;
	if (op != reported) {
		reported = op;
		reports = 0;
	}
	if (reports++ < MAX_REPORTS) {
		print_error("%s control %04x: %016" PRIx64 " %016" PRIx64 " | %04x.%016" PRIx64
			    " %04x.%016" PRIx64 "\n",
			op->name, in->control, in->a, in->b, in->fa.sign_exp, in->fa.frac,
			in->fb.sign_exp, in->fb.frac);
		print_error("  hard %04x.%016" PRIx64 " %04x.%016" PRIx64
			    " codes %04x flags %02x\n",
			hard.sign_exp, hard.value, hard.sign_exp2, hard.value2, hard.codes,
			hard.flags);
		print_error("  soft %04x.%016" PRIx64 " %04x.%016" PRIx64
			    " codes %04x flags %02x\n",
			soft.sign_exp, soft.value, soft.sign_exp2, soft.value2, soft.codes,
			soft.flags);
	}
}

static uint64_t random_state = 0x9e3779b97f4a7c15;

static uint64_t random64(void) /* xorshift64* */
{
	random_state ^= random_state >> 12;
	random_state ^= random_state << 25;
	random_state ^= random_state >> 27;
	return random_state * 0x2545f4914f6cdd1d;
}

/* Significands with long runs of equal bits find wrong roundings sooner. */
static uint64_t random_bits(void)
{
	uint64_t bits = random64();

	switch (random64() & 3) {
	case 0:
		return bits;
	case 1:
		return bits << (random64() & 63);
	case 2:
		return ~(bits << (random64() & 63));
	default:
		return UINT64_C(1) << (bits & 63) | UINT64_C(1) << (bits >> 6 & 63);
	}
}

/* SSE */

static sigjmp_buf trap_return;
static volatile uint32_t trap_mxcsr;

static void on_trap(int sig, siginfo_t *info, void *context)
{
	(void)sig;
	(void)info;
	trap_mxcsr = ((ucontext_t *)context)->uc_mcontext.fpregs->mxcsr;
	siglongjmp(trap_return, 1);
}

static void catch_traps(void)
{
	struct sigaction action = {.sa_sigaction = on_trap, .sa_flags = SA_SIGINFO | SA_NODEFER};

	assert_int_equal(sigaction(SIGFPE, &action, NULL), 0);
}

/*
 * Where exceptions may come unmasked. Return: true: one came, @out is done. The signal mask is kept
 * as well: TSan blocks signals in their handlers, whatever was asked for.
 */
#define TRAPPED(in, out) \
	(((in)->control & HK_MXCSR_MASKS) != HK_MXCSR_MASKS && sigsetjmp(trap_return, 1) != 0 && \
		trap_outcome(out))

static bool trap_outcome(struct outcome *out)
{
	uint32_t reset = HK_MXCSR_RESET;

	__asm__ volatile("ldmxcsr %0" : : "m"(reset));
	*out = (struct outcome){.flags = trap_mxcsr & HK_FP_ALL};
	return true;
}

#define WITH_MXCSR(insn) "ldmxcsr %[control]\n\t" insn "\n\tstmxcsr %[status]\n\tldmxcsr %[reset]"

/* @x and @y in xmm registers */
#define HARD_SSE(fn, insn) \
	static void fn(const struct input *in, struct outcome *out) \
	{ \
		uint32_t status = 0, reset = HK_MXCSR_RESET; \
		double x, y; \
\
		memcpy(&x, &in->a, sizeof x); \
		memcpy(&y, &in->b, sizeof y); \
		if (TRAPPED(in, out)) { \
			return; \
		} \
		__asm__ volatile(WITH_MXCSR(insn) \
				 : [x] "+x"(x), [status] "=m"(status) \
				 : [y] "x"(y), [control] "m"(in->control), [reset] "m"(reset)); \
		memcpy(&out->value, &x, sizeof x); \
		out->flags = status & HK_FP_ALL; \
	}

#define HARD_SSE_INT(fn, insn) \
	static void fn(const struct input *in, struct outcome *out) \
	{ \
		uint32_t status = 0, reset = HK_MXCSR_RESET; \
		uint64_t r = 0; \
		double x; \
\
		memcpy(&x, &in->a, sizeof x); \
		if (TRAPPED(in, out)) { \
			return; \
		} \
		__asm__ volatile(WITH_MXCSR(insn) \
				 : [r] "+r"(r), [status] "=m"(status) \
				 : [x] "x"(x), [control] "m"(in->control), [reset] "m"(reset)); \
		out->value = r; \
		out->flags = status & HK_FP_ALL; \
	}

#define HARD_SSE_FROM_INT(fn, insn) \
	static void fn(const struct input *in, struct outcome *out) \
	{ \
		uint32_t status = 0, reset = HK_MXCSR_RESET; \
		double x = 0; \
\
		if (TRAPPED(in, out)) { \
			return; \
		} \
		__asm__ volatile( \
			WITH_MXCSR(insn) \
			: [x] "+x"(x), [status] "=m"(status) \
			: [r] "r"(in->a), [control] "m"(in->control), [reset] "m"(reset)); \
		memcpy(&out->value, &x, sizeof x); \
		out->flags = status & HK_FP_ALL; \
	}

#define HARD_SSE_COMPARE(fn, insn) \
	static void fn(const struct input *in, struct outcome *out) \
	{ \
		uint32_t status = 0, reset = HK_MXCSR_RESET; \
		uint64_t flags = 0; \
		double x, y; \
\
		memcpy(&x, &in->a, sizeof x); \
		memcpy(&y, &in->b, sizeof y); \
		if (TRAPPED(in, out)) { \
			return; \
		} \
		__asm__ volatile( \
			WITH_MXCSR(insn "\n\tpushfq\n\tpop %[flags]") \
			: [flags] "=&r"(flags), [status] "=m"(status) \
			: [x] "x"(x), [y] "x"(y), [control] "m"(in->control), [reset] "m"(reset) \
			: "cc"); \
		out->value = (flags & HK_FLAG_PF) != 0 ? HK_FP_UNORDERED \
			: (flags & HK_FLAG_ZF) != 0    ? HK_FP_EQUAL \
			: (flags & HK_FLAG_CF) != 0    ? HK_FP_LESS \
						       : HK_FP_GREATER; \
		out->flags = status & HK_FP_ALL; \
	}

/* The soft twin: @expression computes from in->a, in->b and env. */
#define SOFT_SSE(fn, expression) \
	static void fn(const struct input *in, struct outcome *out) \
	{ \
		struct hk_fp_env e = hk_fp_env_sse(in->control); \
		struct hk_fp_env *env = &e; \
		uint64_t value = (uint64_t)(expression); \
\
		out->flags = e.flags; \
		if ((e.flags & ~e.masked) == 0) { \
			out->value = value; \
		} \
	}

#define SSE_BINARY(op) \
	HARD_SSE(hard_##op##ss, #op "ss %[y], %[x]") \
	SOFT_SSE(soft_##op##ss, hk_f32_##op((uint32_t)in->a, (uint32_t)in->b, env)) \
	HARD_SSE(hard_##op##sd, #op "sd %[y], %[x]") \
	SOFT_SSE(soft_##op##sd, hk_f64_##op(in->a, in->b, env))

SSE_BINARY(add)
SSE_BINARY(sub)
SSE_BINARY(mul)
SSE_BINARY(div)
SSE_BINARY(min)
SSE_BINARY(max)

HARD_SSE(hard_sqrtss, "sqrtss %[x], %[x]")
SOFT_SSE(soft_sqrtss, hk_f32_sqrt((uint32_t)in->a, env))
HARD_SSE(hard_sqrtsd, "sqrtsd %[x], %[x]")
SOFT_SSE(soft_sqrtsd, hk_f64_sqrt(in->a, env))
HARD_SSE(hard_roundss, "roundss $4, %[x], %[x]")
SOFT_SSE(soft_roundss, hk_f32_rint((uint32_t)in->a, env))
HARD_SSE(hard_roundsd, "roundsd $4, %[x], %[x]")
SOFT_SSE(soft_roundsd, hk_f64_rint(in->a, env))
HARD_SSE(hard_cvtss2sd, "cvtss2sd %[x], %[x]")
SOFT_SSE(soft_cvtss2sd, hk_f32_to_f64((uint32_t)in->a, env))
HARD_SSE(hard_cvtsd2ss, "cvtsd2ss %[x], %[x]")
SOFT_SSE(soft_cvtsd2ss, hk_f64_to_f32(in->a, env) | (in->a & UINT64_C(0xffffffff00000000)))
HARD_SSE_COMPARE(hard_ucomiss, "ucomiss %[y], %[x]")
SOFT_SSE(soft_ucomiss, hk_f32_compare((uint32_t)in->a, (uint32_t)in->b, true, env))
HARD_SSE_COMPARE(hard_comiss, "comiss %[y], %[x]")
SOFT_SSE(soft_comiss, hk_f32_compare((uint32_t)in->a, (uint32_t)in->b, false, env))
HARD_SSE_COMPARE(hard_ucomisd, "ucomisd %[y], %[x]")
SOFT_SSE(soft_ucomisd, hk_f64_compare(in->a, in->b, true, env))
HARD_SSE_COMPARE(hard_comisd, "comisd %[y], %[x]")
SOFT_SSE(soft_comisd, hk_f64_compare(in->a, in->b, false, env))
HARD_SSE_INT(hard_cvtss2si, "cvtss2si %[x], %k[r]")
SOFT_SSE(soft_cvtss2si, (uint32_t)hk_f32_to_int32((uint32_t)in->a, e.rounding, env))
HARD_SSE_INT(hard_cvtss2siq, "cvtss2si %[x], %[r]")
SOFT_SSE(soft_cvtss2siq, hk_f32_to_int64((uint32_t)in->a, e.rounding, env))
HARD_SSE_INT(hard_cvtsd2si, "cvtsd2si %[x], %k[r]")
SOFT_SSE(soft_cvtsd2si, (uint32_t)hk_f64_to_int32(in->a, e.rounding, env))
HARD_SSE_INT(hard_cvtsd2siq, "cvtsd2si %[x], %[r]")
SOFT_SSE(soft_cvtsd2siq, hk_f64_to_int64(in->a, e.rounding, env))
HARD_SSE_INT(hard_cvttsd2siq, "cvttsd2si %[x], %[r]")
SOFT_SSE(soft_cvttsd2siq, hk_f64_to_int64(in->a, HK_FP_ZERO, env))
HARD_SSE_FROM_INT(hard_cvtsi2ss, "cvtsi2ssq %[r], %[x]")
SOFT_SSE(soft_cvtsi2ss, hk_f32_from_int64((int64_t)in->a, env))
HARD_SSE_FROM_INT(hard_cvtsi2sd, "cvtsi2sdq %[r], %[x]")
SOFT_SSE(soft_cvtsi2sd, hk_f64_from_int64((int64_t)in->a, env))

#define OPERATION(name, binary) \
	{ \
#name, hard_##name, soft_##name, binary \
	}

static const struct operation f32_operations[] = {
	OPERATION(addss, true),
	OPERATION(subss, true),
	OPERATION(mulss, true),
	OPERATION(divss, true),
	OPERATION(minss, true),
	OPERATION(maxss, true),
	OPERATION(ucomiss, true),
	OPERATION(comiss, true),
	OPERATION(sqrtss, false),
	OPERATION(roundss, false),
	OPERATION(cvtss2sd, false),
	OPERATION(cvtss2si, false),
	OPERATION(cvtss2siq, false),
};

static const struct operation f64_operations[] = {
	OPERATION(addsd, true),
	OPERATION(subsd, true),
	OPERATION(mulsd, true),
	OPERATION(divsd, true),
	OPERATION(minsd, true),
	OPERATION(maxsd, true),
	OPERATION(ucomisd, true),
	OPERATION(comisd, true),
	OPERATION(sqrtsd, false),
	OPERATION(roundsd, false),
	OPERATION(cvtsd2ss, false),
	OPERATION(cvtsd2si, false),
	OPERATION(cvtsd2siq, false),
	OPERATION(cvttsd2siq, false),
	OPERATION(cvtsi2ss, false),
	OPERATION(cvtsi2sd, false),
};

/* Magnitudes where something changes; each also with the sign set. */
static const uint32_t f32_values[] = {
	0,
	1,
	2,
	0x400000,
	0x7ffffe,
	0x7fffff,
	0x800000, /* least normal */
	0x800001,
	0xffffff,
	0x1000000,
	0x1ffffff,
	0x20000000, /* its square is about the least denormal */
	0x33800000,
	0x33800001,
	0x34000000,
	0x3effffff,
	0x3f000000, /* 0.5 */
	0x3f000001,
	0x3f7fffff,
	0x3f800000, /* 1 */
	0x3f800001,
	0x3fc00000,
	0x40000000,
	0x40200000,
	0x40490fdb,
	0x4affffff,
	0x4b000000, /* 2^23 */
	0x4b7fffff,
	0x4effffff,
	0x4f000000, /* 2^31 */
	0x5effffff,
	0x5f000000, /* 2^63 */
	0x5f800000,
	0x7e800000,
	0x7effffff,
	0x7f000000,
	0x7f7fffff,
	0x7f800000, /* infinity */
	0x7f800001,
	0x7fa12345,
	0x7fbfffff,
	0x7fc00000, /* quiet from here */
	0x7fc54321,
	0x7fffffff,
};

static const uint64_t f64_values[] = {
	0,
	1,
	2,
	0x8000000000000,
	0xfffffffffffff,
	0x10000000000000, /* least normal */
	0x10000000000001,
	0x1fffffffffffff,
	0x20000000000000,
	0x1e60000000000000,
	0x3690000000000000, /* 2^-150: half of f32's least denormal */
	0x36a0000000000000,
	0x380fffffe0000000,
	0x380ffffff0000000, /* rounds up to f32's least normal */
	0x3810000000000000,
	0x3ca0000000000000,
	0x3cb0000000000000,
	0x3cb0000000000001,
	0x3fdfffffffffffff,
	0x3fe0000000000000,
	0x3fe0000000000001,
	0x3fefffffffffffff,
	0x3ff0000000000000, /* 1 */
	0x3ff0000000000001,
	0x3ff8000000000000,
	0x4000000000000000,
	0x4004000000000000,
	0x400921fb54442d18,
	0x41dfffffff800000,
	0x41dfffffffc00000, /* 2^31 - 1 */
	0x41dfffffffe00000,
	0x41e0000000000000,
	0x41e0000000100000,
	0x41e0000000200000,
	0x432fffffffffffff,
	0x4330000000000000,
	0x433fffffffffffff,
	0x43dfffffffffffff,
	0x43e0000000000000, /* 2^63 */
	0x43f0000000000000,
	0x47efffffe0000000, /* greatest f32 */
	0x47efffffefffffff,
	0x47effffff0000000,
	0x47f0000000000000,
	0x7fd0000000000000,
	0x7fe0000000000000,
	0x7fefffffffffffff,
	0x7ff0000000000000, /* infinity */
	0x7ff0000000000001,
	0x7ff4123456789abc,
	0x7ff7ffffffffffff,
	0x7ff8000000000000, /* quiet from here */
	0x7ff8fedcba987654,
	0x7fffffffffffffff,
};

enum { F32_COUNT = 2 * HK_ARRAY_SIZE(f32_values), F64_COUNT = 2 * HK_ARRAY_SIZE(f64_values) };

static uint64_t f32_value(unsigned i)
{
	return f32_values[i / 2] | (i & 1) << 31;
}

static uint64_t f64_value(unsigned i)
{
	return f64_values[i / 2] | (uint64_t)(i & 1) << 63;
}

static uint64_t random_f32(void)
{
	uint64_t r = random64();
	uint32_t exp = (r & 3) == 0 ? (uint32_t)(r >> 8) & 0xff
		: (r & 3) == 1      ? 127 + (uint32_t)(r >> 8 & 63) - 32
		: (r & 3) == 2      ? (uint32_t)(r >> 8 & 15)
				    : 63 + (uint32_t)(r >> 8 & 3);

	return (uint32_t)(r >> 32 & 0x80000000) | exp << 23 | (uint32_t)(random_bits() >> 41);
}

static uint64_t random_f64(void)
{
	uint64_t r = random64();
	uint64_t exp = (r & 3) == 0 ? r >> 8 & 0x7ff
		: (r & 3) == 1      ? 1023 + (r >> 8 & 127) - 64
		: (r & 3) == 2      ? r >> 8 & 31
				    : 511 + (r >> 8 & 3);

	return (r & HK_F80_DEFAULT_NAN.frac & UINT64_C(1) << 63) | exp << 52 | random_bits() >> 12;
}

static void sweep_sse(const struct operation *ops, unsigned op_count, unsigned value_count,
	uint64_t (*value)(unsigned), uint64_t (*random)(void), uint32_t control, unsigned stride)
{
	struct input in = {.control = control};

	for (unsigned o = 0; o < op_count; o++) {
		for (unsigned i = 0; i < value_count; i++) {
			in.a = value(i);
			in.b = 0;
			if (!ops[o].binary) {
				check(&ops[o], &in);
				continue;
			}
			for (unsigned j = i % stride; j < value_count; j += stride) {
				in.b = value(j);
				check(&ops[o], &in);
			}
		}
		for (unsigned i = 0; i < RANDOM_PAIRS / stride; i++) {
			in.a = random();
			in.b = random();
			check(&ops[o], &in);
		}
	}
}

static void test_sse_masked(void **state)
{
	failures = 0;
	for (unsigned mode = 0; mode < 16; mode++) {
		uint32_t control = HK_MXCSR_MASKS | (mode & 3) << HK_MXCSR_RC_SHIFT |
			((mode & 4) != 0 ? HK_MXCSR_DAZ : 0) | ((mode & 8) != 0 ? HK_MXCSR_FTZ : 0);

		sweep_sse(f32_operations, HK_ARRAY_SIZE(f32_operations), F32_COUNT, f32_value,
			random_f32, control, 1);
		sweep_sse(f64_operations, HK_ARRAY_SIZE(f64_operations), F64_COUNT, f64_value,
			random_f64, control, 1);
	}
	assert_int_equal(failures, 0);
}

static void test_sse_unmasked(void **state)
{
	catch_traps();
	failures = 0;
	for (unsigned bit = 0; bit <= 6; bit++) { /* one unmasked, then all */
		for (unsigned mode = 0; mode < 16; mode += 3) {
			uint32_t unmasked = bit < 6 ? 1u << bit : HK_FP_ALL;
			uint32_t control = (HK_FP_ALL & ~unmasked) << HK_MXCSR_MASK_SHIFT |
				(mode & 3) << HK_MXCSR_RC_SHIFT |
				((mode & 4) != 0 ? HK_MXCSR_DAZ : 0) |
				((mode & 8) != 0 ? HK_MXCSR_FTZ : 0);

			sweep_sse(f32_operations, HK_ARRAY_SIZE(f32_operations), F32_COUNT,
				f32_value, random_f32, control, 5);
			sweep_sse(f64_operations, HK_ARRAY_SIZE(f64_operations), F64_COUNT,
				f64_value, random_f64, control, 5);
		}
	}
	signal(SIGFPE, SIG_DFL);
	assert_int_equal(failures, 0);
}

/* x87 */

static void hard_finish(const struct input *in, struct outcome *out, uint16_t fsw, uint16_t codes,
	uint8_t no_result)
{
	out->flags = fsw & HK_FP_ALL;
	out->codes = fsw & codes;
	if ((out->flags & ~in->control & no_result) != 0) {
		*out = (struct outcome){.flags = out->flags};
	}
}

static void soft_finish(const struct input *in, struct outcome *out, const struct hk_fp_env *env,
	uint16_t codes, uint8_t no_result)
{
	out->flags = env->flags;
	out->codes = codes;
	if ((env->flags & ~env->masked & no_result) != 0) {
		*out = (struct outcome){.flags = env->flags};
	}
	(void)in;
}

/* ST(0) is a, ST(1) b; the result in ST(0), and @pops registers are left. */
#define HARD_X87(fn, insn, pops, codes, no_result) \
	static void fn(const struct input *in, struct outcome *out) \
	{ \
		uint16_t fcw = FCW_DEFAULT, fsw; \
		struct hk_f80 r = {0}, r2 = {0}; \
\
		__asm__ volatile( \
			"fninit\n\tfldcw %[control]\n\tfldt %[b]\n\tfldt %[a]\n\t" insn \
			"\n\tfnstsw %[fsw]\n\tfnclex\n\tfldcw %[fcw]\n\tfstpt %[r]\n\t" pops \
			: [r] "=m"(r), [r2] "+m"(r2), [fsw] "=m"(fsw) \
			: [a] "m"(in->fa), [b] "m"(in->fb), [control] "m"(in->control), \
			[fcw] "m"(fcw), [m] "m"(in->b)); \
		out->value = r.frac; \
		out->sign_exp = r.sign_exp; \
		out->value2 = r2.frac; \
		out->sign_exp2 = r2.sign_exp; \
		hard_finish(in, out, fsw, codes, no_result); \
	}

#define SOFT_X87(fn, expression, codes, no_result) \
	static void fn(const struct input *in, struct outcome *out) \
	{ \
		struct hk_fp_env e = hk_fp_env_x87((uint16_t)in->control); \
		struct hk_fp_env *env = &e; \
		struct hk_f80 r = expression; \
\
		out->value = r.frac; \
		out->sign_exp = r.sign_exp; \
		soft_finish(in, out, env, codes, no_result); \
	}

#define UP_CODE (e.rounded_up ? C1 : 0)

#define X87_BINARY(op) \
	HARD_X87(hard_f##op, "f" #op " %%st(1), %%st", "fstp %%st(0)", C1, HK_FP_BEFORE) \
	SOFT_X87(soft_f##op, hk_f80_##op(in->fa, in->fb, env), UP_CODE, HK_FP_BEFORE) \
	HARD_X87(hard_f##op##_m32, "f" #op "s %[m]", "fstp %%st(0)", C1, HK_FP_BEFORE) \
	SOFT_X87(soft_f##op##_m32, hk_f80_##op(in->fa, hk_f80_widen32((uint32_t)in->b, env), env), \
		UP_CODE, HK_FP_BEFORE) \
	HARD_X87(hard_f##op##_m64, "f" #op "l %[m]", "fstp %%st(0)", C1, HK_FP_BEFORE) \
	SOFT_X87(soft_f##op##_m64, hk_f80_##op(in->fa, hk_f80_widen64(in->b, env), env), UP_CODE, \
		HK_FP_BEFORE)

X87_BINARY(add)
X87_BINARY(sub)
X87_BINARY(mul)
X87_BINARY(div)

HARD_X87(hard_fsqrt, "fsqrt", "fstp %%st(0)", C1, HK_FP_BEFORE)
SOFT_X87(soft_fsqrt, hk_f80_sqrt(in->fa, env), UP_CODE, HK_FP_BEFORE)
HARD_X87(hard_frndint, "frndint", "fstp %%st(0)", C1, HK_FP_BEFORE)
SOFT_X87(soft_frndint, hk_f80_rint(in->fa, env), UP_CODE, HK_FP_BEFORE)
HARD_X87(hard_fscale, "fscale", "fstp %%st(0)", C1, HK_FP_BEFORE)
SOFT_X87(soft_fscale, hk_f80_scale(in->fa, in->fb, env), UP_CODE, HK_FP_BEFORE)
HARD_X87(hard_flds, "flds %[m]", "fstp %%st(0)\n\tfstp %%st(0)", 0, HK_FP_BEFORE)
SOFT_X87(soft_flds, hk_f80_from_f32((uint32_t)in->b, env), 0, HK_FP_BEFORE)
HARD_X87(hard_fldl, "fldl %[m]", "fstp %%st(0)\n\tfstp %%st(0)", 0, HK_FP_BEFORE)
SOFT_X87(soft_fldl, hk_f80_from_f64(in->b, env), 0, HK_FP_BEFORE)
HARD_X87(hard_fildll, "fildll %[m]", "fstp %%st(0)\n\tfstp %%st(0)", 0, HK_FP_BEFORE)
SOFT_X87(soft_fildll, hk_f80_from_int64((int64_t)in->b), 0, HK_FP_BEFORE)
HARD_X87(hard_fprem, "fprem", "fstp %%st(0)", CODES, HK_FP_BEFORE)
HARD_X87(hard_fprem1, "fprem1", "fstp %%st(0)", CODES, HK_FP_BEFORE)

static void soft_rem(const struct input *in, struct outcome *out, bool nearest)
{
	struct hk_fp_env env = hk_fp_env_x87((uint16_t)in->control);
	unsigned quotient;
	bool partial;
	struct hk_f80 r = hk_f80_rem(in->fa, in->fb, nearest, &quotient, &partial, &env);

	out->value = r.frac;
	out->sign_exp = r.sign_exp;
	soft_finish(in, out, &env,
		(uint16_t)((quotient & 1 ? C1 : 0) | (quotient & 2 ? C3 : 0) |
			(quotient & 4 ? C0 : 0) | (partial ? C2 : 0)),
		HK_FP_BEFORE);
}

static void soft_fprem(const struct input *in, struct outcome *out)
{
	soft_rem(in, out, false);
}

static void soft_fprem1(const struct input *in, struct outcome *out)
{
	soft_rem(in, out, true);
}

/* Leaves the significand in ST(0), the exponent in ST(1); an unmasked zero-divide does not push. */
static void hard_fxtract(const struct input *in, struct outcome *out)
{
	uint16_t fsw;
	struct hk_f80 r = {0}, r2 = {0};

	__asm__ volatile("fninit\n\tfldcw %[control]\n\tfldt %[a]\n\tfxtract\n\tfnstsw %[fsw]\n\t"
			 "fninit\n\t"
			 : [fsw] "=m"(fsw)
			 : [a] "m"(in->fa), [control] "m"(in->control));
	if ((fsw & ~in->control & HK_FP_BEFORE) == 0) {
		__asm__ volatile("fldt %[a]\n\tfxtract\n\tfstpt %[r]\n\tfstpt %[r2]\n\tfnclex"
				 : [r] "=m"(r), [r2] "=m"(r2)
				 : [a] "m"(in->fa));
	}
	out->value = r.frac;
	out->sign_exp = r.sign_exp;
	out->value2 = r2.frac;
	out->sign_exp2 = r2.sign_exp;
	hard_finish(in, out, fsw, 0, HK_FP_BEFORE);
}

static void soft_fxtract(const struct input *in, struct outcome *out)
{
	struct hk_fp_env env = hk_fp_env_x87((uint16_t)in->control);
	struct hk_f80 r, r2;

	hk_f80_extract(in->fa, &r2, &r, &env);
	out->value = r.frac;
	out->sign_exp = r.sign_exp;
	out->value2 = r2.frac;
	out->sign_exp2 = r2.sign_exp;
	soft_finish(in, out, &env, 0, HK_FP_BEFORE);
}

/* Stores: nothing is stored with any unmasked exception but precision. */
enum { STORE_FAILS = HK_FP_ALL & ~HK_FP_PE };

#define HARD_STORE(fn, insn) \
	static void fn(const struct input *in, struct outcome *out) \
	{ \
		uint16_t fsw; \
		uint64_t m = 0; \
\
		__asm__ volatile("fninit\n\tfldcw %[control]\n\tfldt %[a]\n\t" insn \
				 "\n\tfnstsw %[fsw]\n\tfninit" \
				 : [m] "+m"(m), [fsw] "=m"(fsw) \
				 : [a] "m"(in->fa), [control] "m"(in->control)); \
		out->value = m; \
		hard_finish(in, out, fsw, C1, STORE_FAILS); \
	}

#define SOFT_STORE(fn, expression) \
	static void fn(const struct input *in, struct outcome *out) \
	{ \
		struct hk_fp_env e = hk_fp_env_x87((uint16_t)in->control); \
		struct hk_fp_env *env = &e; \
\
		out->value = (uint64_t)(expression); \
		soft_finish(in, out, env, UP_CODE, STORE_FAILS); \
	}

HARD_STORE(hard_fsts, "fstps %[m]")
SOFT_STORE(soft_fsts, hk_f80_to_f32(in->fa, env))
HARD_STORE(hard_fstl, "fstpl %[m]")
SOFT_STORE(soft_fstl, hk_f80_to_f64(in->fa, env))
HARD_STORE(hard_fists, "fistps %[m]")
SOFT_STORE(soft_fists, (uint16_t)hk_f80_to_int(in->fa, 16, env->rounding, env))
HARD_STORE(hard_fistl, "fistpl %[m]")
SOFT_STORE(soft_fistl, (uint32_t)hk_f80_to_int(in->fa, 32, env->rounding, env))
HARD_STORE(hard_fistll, "fistpll %[m]")
SOFT_STORE(soft_fistll, hk_f80_to_int(in->fa, 64, env->rounding, env))
HARD_STORE(hard_fisttpll, "fisttpll %[m]")
SOFT_STORE(soft_fisttpll, hk_f80_to_int(in->fa, 64, HK_FP_ZERO, env))

HARD_X87(hard_fcom, "fcom %%st(1)", "fstp %%st(0)", C0 | C2 | C3, 0)
HARD_X87(hard_fucom, "fucom %%st(1)", "fstp %%st(0)", C0 | C2 | C3, 0)

static void soft_relation(const struct input *in, struct outcome *out, bool quiet)
{
	static const uint16_t codes[] = {
		[HK_FP_LESS] = C0,
		[HK_FP_EQUAL] = C3,
		[HK_FP_GREATER] = 0,
		[HK_FP_UNORDERED] = C0 | C2 | C3,
	};
	struct hk_fp_env env = hk_fp_env_x87((uint16_t)in->control);
	enum hk_fp_relation relation = hk_f80_compare(in->fa, in->fb, quiet, &env);

	out->value = in->fa.frac;
	out->sign_exp = in->fa.sign_exp;
	soft_finish(in, out, &env, codes[relation], 0);
}

static void soft_fcom(const struct input *in, struct outcome *out)
{
	soft_relation(in, out, false);
}

static void soft_fucom(const struct input *in, struct outcome *out)
{
	soft_relation(in, out, true);
}

static const struct operation f80_operations[] = {
	OPERATION(fadd, true),
	OPERATION(fsub, true),
	OPERATION(fmul, true),
	OPERATION(fdiv, true),
	OPERATION(fscale, true),
	OPERATION(fprem, true),
	OPERATION(fprem1, true),
	OPERATION(fcom, true),
	OPERATION(fucom, true),
	OPERATION(fsqrt, false),
	OPERATION(frndint, false),
	OPERATION(fxtract, false),
	OPERATION(fsts, false),
	OPERATION(fstl, false),
	OPERATION(fists, false),
	OPERATION(fistl, false),
	OPERATION(fistll, false),
	OPERATION(fisttpll, false),
};

static const struct operation f80_m32_operations[] = {
	OPERATION(fadd_m32, true),
	OPERATION(fsub_m32, true),
	OPERATION(fmul_m32, true),
	OPERATION(fdiv_m32, true),
	OPERATION(flds, true),
};

static const struct operation f80_m64_operations[] = {
	OPERATION(fadd_m64, true),
	OPERATION(fsub_m64, true),
	OPERATION(fmul_m64, true),
	OPERATION(fdiv_m64, true),
	OPERATION(fldl, true),
	OPERATION(fildll, true),
};

static const struct hk_f80 f80_values[] = {
	{0, 0},
	{1, 0},
	{2, 0},
	{0x4000000000000000, 0},
	{0x7fffffffffffffff, 0},
	{0x8000000000000000, 0}, /* pseudo-denormal */
	{0xc000000000000001, 0},
	{0x8000000000000000, 1}, /* least normal */
	{0x8000000000000001, 1},
	{0xffffffffffffffff, 1},
	{0x8000000000000000, 2},
	{0x8000000000000000, 0x1fe0},
	{0x8000000000000001, 0x2000},
	{0xfffffffffffff800, 0x3c00},
	{0xfffffffffffffc00, 0x3c00}, /* rounds up to f64's least normal */
	{0x8000000000000000, 0x3bcc},
	{0xffffff8000000000, 0x3f80}, /* the same for f32 */
	{0x8000000000000000, 0x3fbe}, /* 2^-65 */
	{0x8000000000000000, 0x3fbf},
	{0x8000000000000000, 0x3ffd},
	{0xffffffffffffffff, 0x3ffd},
	{0x8000000000000000, 0x3ffe}, /* 0.5 */
	{0xffffffffffffffff, 0x3ffe},
	{0x8000000000000000, 0x3fff}, /* 1 */
	{0x8000000000000001, 0x3fff},
	{0x8000000000000400, 0x3fff},
	{0x8000000000000401, 0x3fff},
	{0x8000008000000000, 0x3fff},
	{0x8000008000000001, 0x3fff},
	{0xc000000000000000, 0x3fff},
	{0xfffffffffffffc00, 0x3fff},
	{0x8000000000000000, 0x4000},
	{0xa000000000000000, 0x4000},
	{0xc90fdaa22168c235, 0x4000},
	{0xffff000000000000, 0x400d},
	{0x8000000000000000, 0x400e}, /* 2^15 */
	{0xfffe8000000000ff, 0x400d},
	{0xfff0000000000000, 0x400c},
	{0xffffffff00000000, 0x401d},
	{0x8000000000000000, 0x401e}, /* 2^31 */
	{0x8000000000000000, 0x403d},
	{0xffffffffffffffff, 0x403d},
	{0x8000000000000000, 0x403e}, /* 2^63 */
	{0xffffffffffffffff, 0x403e},
	{0x8000000000000000, 0x403f},
	{0x8000000000000000, 0x4041},
	{0xdeadbeefdeadbeef, 0x4077},
	{0xffffff7fffffffff, 0x407e}, /* around the greatest f32 */
	{0xffffff8000000000, 0x407e},
	{0xfffffffffffffbff, 0x43fe}, /* around the greatest f64 */
	{0xfffffffffffffc00, 0x43fe},
	{0x8000000000000000, 0x5fff},
	{0x8000000000000000, 0x7ffd},
	{0x8000000000000000, 0x7ffe},
	{0xffffff0000000000, 0x7ffe},
	{0xffffffffffffffff, 0x7ffe}, /* greatest */
	{0x8000000000000000, 0x7fff}, /* infinity */
	{0x8000000000000001, 0x7fff},
	{0xa123456789abcdef, 0x7fff},
	{0xbfffffffffffffff, 0x7fff},
	{0xc000000000000000, 0x7fff}, /* quiet from here */
	{0xc123456789abcdef, 0x7fff},
	{0xffffffffffffffff, 0x7fff},
	{0, 0x7fff}, /* unsupported from here */
	{0x4000000000000000, 0x7fff},
	{0x7fffffffffffffff, 0x7fff},
	{0, 1},
	{0x7fffffffffffffff, 0x3fff},
};

enum { F80_COUNT = 2 * HK_ARRAY_SIZE(f80_values) };

static struct hk_f80 f80_value(unsigned i)
{
	struct hk_f80 v = f80_values[i / 2];

	v.sign_exp |= (uint16_t)((i & 1) << 15);
	return v;
}

static struct hk_f80 random_f80(void)
{
	uint64_t r = random64();
	unsigned exp = (r & 3) == 0 ? (unsigned)(r >> 8) & 0x7fff
		: (r & 3) == 1      ? 0x3fff + (unsigned)(r >> 8 & 127) - 64
		: (r & 3) == 2      ? (unsigned)(r >> 8 & 63)
				    : 0x1fff + (unsigned)(r >> 8 & 3);

	return (struct hk_f80){
		.frac = random_bits() | (exp != 0 ? UINT64_C(1) << 63 : 0),
		.sign_exp = (uint16_t)((r >> 48 & 0x8000) | exp),
	};
}

static void sweep_f80(uint32_t control, unsigned stride)
{
	struct input in = {.control = control};

	for (unsigned o = 0; o < HK_ARRAY_SIZE(f80_operations); o++) {
		const struct operation *op = &f80_operations[o];

		for (unsigned i = 0; i < F80_COUNT; i++) {
			in.fa = f80_value(i);
			for (unsigned j = op->binary ? i % stride : 0; j < F80_COUNT; j += stride) {
				in.fb = f80_value(j);
				check(op, &in);
				if (!op->binary) {
					break;
				}
			}
		}
		for (unsigned i = 0; i < RANDOM_PAIRS / stride; i++) {
			in.fa = random_f80();
			in.fb = random_f80();
			check(op, &in);
		}
	}
}

static void sweep_f80_memory(const struct operation *ops, unsigned op_count, unsigned value_count,
	uint64_t (*value)(unsigned), uint32_t control)
{
	struct input in = {.control = control};

	for (unsigned o = 0; o < op_count; o++) {
		for (unsigned i = 0; i < F80_COUNT; i++) {
			in.fa = f80_value(i);
			for (unsigned j = 0; j < value_count; j++) {
				in.b = value(j);
				check(&ops[o], &in);
			}
		}
	}
}

static void test_f80_masked(void **state)
{
	static const uint8_t precisions[] = {HK_FP_PC_64, HK_FP_PC_53, HK_FP_PC_24};

	failures = 0;
	for (unsigned p = 0; p < HK_ARRAY_SIZE(precisions); p++) {
		for (uint32_t rounding = 0; rounding < 4; rounding++) {
			sweep_f80(HK_FP_ALL | (uint32_t)precisions[p] << 8 | rounding << 10, 1);
		}
	}
	assert_int_equal(failures, 0);
}

static void test_f80_unmasked(void **state)
{
	failures = 0;
	for (unsigned bit = 0; bit <= 6; bit++) {
		for (unsigned mode = 0; mode < 4; mode++) {
			uint32_t unmasked = bit < 6 ? 1u << bit : HK_FP_ALL;

			for (uint32_t precision = 0; precision < 4; precision++) {
				if (precision != 1) {
					sweep_f80((HK_FP_ALL & ~unmasked) | precision << 8 |
							mode << 10,
						3);
				}
			}
		}
	}
	assert_int_equal(failures, 0);
}

static void test_f80_memory(void **state)
{
	static const uint32_t controls[] = {0x33f, 0x73f, 0x23f, 0x03f, 0x33d, 0x32f, 0x300, 0xe37};

	failures = 0;
	for (unsigned c = 0; c < HK_ARRAY_SIZE(controls); c++) {
		sweep_f80_memory(f80_m32_operations, HK_ARRAY_SIZE(f80_m32_operations), F32_COUNT,
			f32_value, controls[c]);
		sweep_f80_memory(f80_m64_operations, HK_ARRAY_SIZE(f80_m64_operations), F64_COUNT,
			f64_value, controls[c]);
	}
	assert_int_equal(failures, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_sse_masked),
		cmocka_unit_test(test_sse_unmasked),
		cmocka_unit_test(test_f80_masked),
		cmocka_unit_test(test_f80_unmasked),
		cmocka_unit_test(test_f80_memory),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
