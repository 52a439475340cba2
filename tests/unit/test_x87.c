/* SPDX-License-Identifier: ISC */
/*
 * The x87 unit against the one of the CPU this runs on: the same state, the same instruction, and
 * everything that can be seen afterwards is compared: registers, tags, status, memory, RFLAGS.
 *
 * Every row of isa/x87.def takes part, with boundary values and random ones (fixed seed), all
 * roundings and precisions, masked and unmasked exceptions, full and empty stacks. Transcendental
 * functions may differ by one unit in the last place; how many do not is printed.
 *
 * The details that the manual leaves open were taken from an Intel CPU, so on others exceptions
 * stay masked here.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "base/util.h"
#include "engine/mem.h"
#include "engine/soft/exec/handlers.h"
#include "engine/soft/fpu/x87.h"
#include "engine/soft/fpu/xsave.h"
#include "engine/soft/isa.h"
#include "engine/soft/run.h"

enum {
	RAM_BYTES = 32 << 20,
	OPERAND_GPA = 0x1000, /* where the guest's memory operand is */
	AREA_SIZE = 1024,
	CODE_SIZE = 4096,
	ROUNDS = 6000, /* per row */
};

/* What an instruction can see and change. Tags as FNSTENV stores them. */
struct state {
	uint16_t fcw, fsw, tags;
	struct hk_f80 st[8];
	uint32_t rflags;
	uint64_t rax;
	/* For rows that save and load them; elsewhere they are of no interest. */
	uint32_t fip, fdp;
	uint16_t fop;
	uint8_t memory[AREA_SIZE];
};

struct row {
	const char *name;
	const char *operands;
	hk_exec_fn *exec;
	uint16_t ext;
	uint8_t map, op;
};

static const struct row rows[] = {
#define ROW(map_, pp_, op_, ext_, name_, operands_, handler, feature, flags) \
	{ \
		.name = (name_), \
		.operands = (operands_), \
		.exec = hk_x_##handler, \
		.ext = (ext_), \
		.map = HK_MAP_##map_, \
		.op = (op_), \
	},
#include "engine/soft/isa/x87.def"
#undef ROW
};

static struct hk_mem ram;
static struct hk_soft_mem soft_ram;
static struct hk_cpu *cpu;
static uint8_t *code;
static uint64_t seed = 88172645463325252;

static uint64_t random64(void)
{
	seed ^= seed << 13;
	seed ^= seed >> 7;
	seed ^= seed << 17;
	return seed * UINT64_C(0x2545f4914f6cdd1d);
}

static unsigned below(unsigned limit)
{
	return (unsigned)(random64() >> 33) % limit;
}

/* The real CPU */

/* FXRSTOR loads them from the image. */
#define ALL_XMM \
	"xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10", \
		"xmm11", "xmm12", "xmm13", "xmm14", "xmm15"

static void native_run(const uint8_t *insn, unsigned len, struct state *s)
{
	static const uint8_t before[] = {0xdd, 0x27, 0x41, 0x50, 0x9d}; /* frstor, push r8, popf */
	/* pushf, pop r9, fnsave, ret */
	static const uint8_t after[] = {0x9c, 0x41, 0x59, 0xdd, 0x36, 0xc3};
	static uint8_t in[108], out[108];
	static _Alignas(64) uint8_t memory[AREA_SIZE];
	uint64_t rax = s->rax;
	uint64_t rflags = s->rflags | 0x202;

	memcpy(code, before, sizeof(before));
	memcpy(code + sizeof(before), insn, len);
	memcpy(code + sizeof(before) + len, after, sizeof(after));
	memset(in, 0, sizeof(in));
	memcpy(in, &s->fcw, 2);
	memcpy(in + 4, &s->fsw, 2);
	memcpy(in + 8, &s->tags, 2);
	memcpy(in + 12, &s->fip, 4);
	memcpy(in + 18, &s->fop, 2);
	memcpy(in + 20, &s->fdp, 4);
	for (unsigned i = 0; i < 8; i++) {
		memcpy(in + 28 + 10 * i, &s->st[i].frac, 8);
		memcpy(in + 36 + 10 * i, &s->st[i].sign_exp, 2);
	}
	memcpy(memory, s->memory, sizeof(memory));
	/* The code has its flags in R8 and R9. Below RSP may be what the compiler keeps there. */
	__asm__ volatile("mov %[rflags], %%r8\n\t"
			 "sub $128, %%rsp\n\t"
			 "call *%[code]\n\t"
			 "add $128, %%rsp\n\t"
			 "fninit\n\t"
			 "mov %%r9, %[rflags]\n\t"
			 : "+a"(rax), [rflags] "+b"(rflags)
			 : [code] "c"(code), "D"(in), "S"(out), "d"(memory)
			 : "r8", "r9", "memory", "cc", ALL_XMM);
	s->rflags = (uint32_t)rflags & HK_FLAGS_ARITH;
	s->rax = rax;
	memcpy(s->memory, memory, sizeof(memory));
	memcpy(&s->fcw, out, 2);
	memcpy(&s->fsw, out + 4, 2);
	memcpy(&s->tags, out + 8, 2);
	memcpy(&s->fip, out + 12, 4);
	memcpy(&s->fop, out + 18, 2);
	memcpy(&s->fdp, out + 20, 4);
	for (unsigned i = 0; i < 8; i++) {
		memcpy(&s->st[i].frac, out + 28 + 10 * i, 8);
		memcpy(&s->st[i].sign_exp, out + 36 + 10 * i, 2);
	}
}

/* Ours */

static const struct hk_insn *stop(struct hk_cpu *c, const struct hk_insn *insn)
{
	(void)c;
	(void)insn;
	return NULL;
}

/* One instruction of @row. @modrm is its last byte. */
static struct hk_insn make_insn(const struct row *row, uint8_t modrm, unsigned len)
{
	struct hk_insn insn = {
		.exec = row->exec,
		.reg = modrm >> 3 & 7,
		.base = modrm & 7,
		.index = HK_REG_ZERO,
		.len = (uint8_t)len,
		.flags = 2 | 3 << HK_INSN_ADDR_SHIFT | HK_DS << HK_INSN_SEG_SHIFT,
	};

	if (modrm < 0xc0) {
		insn.base = HK_RDX;
		insn.flags |= HK_INSN_MEM | HK_INSN_PLAIN;
	}
	return insn;
}

static void soft_load(const struct state *s)
{
	struct hk_x87 *x87 = &cpu->x87;

	memset(x87, 0, sizeof(*x87));
	x87->fcw = s->fcw;
	x87->fsw = s->fsw;
	x87->fip = s->fip;
	x87->fdp = s->fdp;
	x87->fop = s->fop;
	hk_x87_set_tags(x87, s->tags);
	for (unsigned i = 0; i < 8; i++) {
		*hk_x87_st(x87, i) = s->st[i];
	}
	cpu->gpr[HK_RDX] = OPERAND_GPA;
	cpu->gpr[HK_RAX] = s->rax;
	cpu->event.pending = false;
	hk_rflags_set(cpu, s->rflags);
	hk_mem_write(&ram, OPERAND_GPA, s->memory, sizeof(s->memory));
}

static void soft_run(const struct hk_insn *insn, struct state *s)
{
	struct hk_insn pair[2] = {*insn, {.exec = stop}};

	soft_load(s);
	insn->exec(cpu, pair);
	s->fcw = cpu->x87.fcw;
	s->fsw = cpu->x87.fsw;
	s->tags = hk_x87_tags(&cpu->x87);
	s->fip = (uint32_t)cpu->x87.fip;
	s->fdp = (uint32_t)cpu->x87.fdp;
	s->fop = cpu->x87.fop;
	for (unsigned i = 0; i < 8; i++) {
		s->st[i] = *hk_x87_st(&cpu->x87, i);
	}
	s->rflags = (uint32_t)hk_rflags_get(cpu) & HK_FLAGS_ARITH;
	s->rax = cpu->gpr[HK_RAX];
	hk_mem_read(&ram, OPERAND_GPA, s->memory, sizeof(s->memory));
}

/* Values */

static const struct hk_f80 boundary[] = {
	{0, 0}, {0, 0x8000}, {1, 0},            /* least denormal */
	{UINT64_C(0x7fffffffffffffff), 0x8000}, /* greatest */
	{UINT64_C(0x8000000000000000), 0},      /* pseudo-denormal */
	{UINT64_C(0x8000000000000000), 1},      /* least normal */
	{UINT64_C(0xffffffffffffffff), 0x7ffe}, /* greatest */
	{UINT64_C(0x8000000000000000), 0x3fff}, /* 1 */
	{UINT64_C(0x8000000000000000), 0xbfff}, /* -1 */
	{UINT64_C(0x8000000000000001), 0x3fff}, /* just above 1 */
	{UINT64_C(0xffffffffffffffff), 0x3ffe}, /* just below 1 */
	{UINT64_C(0xffffffffffffffff), 0xbffe}, /* just above -1 */
	{UINT64_C(0x8000000000000000), 0x3ffe}, /* 1/2 */
	{UINT64_C(0xc000000000000000), 0x3fff}, /* 3/2 */
	{UINT64_C(0xa000000000000000), 0xc000}, /* -5/2 */
	{UINT64_C(0x8000000000000000), 0x4000}, /* 2 */
	{UINT64_C(0xc90fdaa22168c235), 0x4000}, /* pi */
	{UINT64_C(0xc90fdaa22168c235), 0x3ffe}, /* pi/4 */
	{UINT64_C(0xfffe000000000000), 0x400d}, /* 32767 */
	{UINT64_C(0xffff000000000000), 0x400d}, /* 32767.5 */
	{UINT64_C(0x8000000000000000), 0xc00e}, /* -32768 */
	{UINT64_C(0xffffffff00000000), 0x401d}, /* 2^31 - 1/2 */
	{UINT64_C(0x8000000000000000), 0xc01e}, /* -2^31 */
	{UINT64_C(0xfffffffffffffffe), 0x403d}, /* 2^63 - 1 */
	{UINT64_C(0x8000000000000000), 0x403e}, /* 2^63 */
	{UINT64_C(0x8000000000000000), 0xc03e}, /* -2^63 */
	{UINT64_C(0xde0b6b3a763ffff0), 0x403a}, /* 10^18 - 1 */
	{UINT64_C(0xde0b6b3a76400000), 0x403a}, /* 10^18 */
	{UINT64_C(0x8000000000000000), 0x7fff}, /* infinity */
	{UINT64_C(0x8000000000000000), 0xffff},
	{UINT64_C(0x8000000000000001), 0x7fff}, /* signalling NaN */
	{UINT64_C(0xa000000000000000), 0xffff},
	{UINT64_C(0xc000000000000000), 0xffff}, /* default NaN */
	{UINT64_C(0xffffffffffffffff), 0x7fff}, /* quiet NaN */
	{UINT64_C(0x4000000000000000), 0x3fff}, /* unnormal */
	{UINT64_C(0), 0x7fff},                  /* pseudo-infinity */
	{UINT64_C(0x4000000000000000), 0xffff}, /* pseudo-NaN */
	{UINT64_C(0xffffffffffffffff), 0x407e}, /* overflows f32 */
	{UINT64_C(0x8000000000000000), 0x3f80}, /* f32 denormal */
	{UINT64_C(0xffffffffffffffff), 0x43fe}, /* overflows f64 by rounding */
	{UINT64_C(0xfffffffffffff800), 0x3c00}, /* at f64's least normal */
	{UINT64_C(0xffffffffffffffff), 0x3c00},
	{UINT64_C(0x8000000000000000), 0x3bcd}, /* f64's least denormal */
};

static struct hk_f80 random_f80(void)
{
	static const uint64_t masks[] = {
		UINT64_MAX, UINT64_MAX << 40, UINT64_MAX << 11, UINT64_MAX << 10, UINT64_MAX << 60};
	uint64_t frac = random64();
	unsigned sign = below(2) << 15;

	switch (below(8)) {
	case 0:
	case 1:
	case 2:
		return boundary[below(HK_ARRAY_SIZE(boundary))];
	case 3:
		return (struct hk_f80){frac, (uint16_t)random64()};
	case 4:
		frac &= masks[below(HK_ARRAY_SIZE(masks))];
		return (struct hk_f80){
			frac | UINT64_C(1) << 63, (uint16_t)(sign | (0x3fff - 2 + below(5)))};
	case 5:
		return (struct hk_f80){
			frac | UINT64_C(1) << 63, (uint16_t)(sign | (0x3fff - 70 + below(140)))};
	case 6: /* near the ends of the range */
		return (struct hk_f80){frac | UINT64_C(1) << 63,
			(uint16_t)(sign | (below(2) != 0 ? 1 + below(80) : 0x7ffe - below(80)))};
	default:
		return (struct hk_f80){
			frac | UINT64_C(1) << 63, (uint16_t)(sign | (0x3fff - 16 + below(24)))};
	}
}

static uint64_t random_operand(void)
{
	static const uint64_t values[] = {0, 1, UINT64_C(0x8000000000000000),
		UINT64_C(0x7ff0000000000000), UINT64_C(0xfff0000000000000),
		UINT64_C(0x7ff8000000000000), UINT64_C(0x7ff0000000000001),
		UINT64_C(0x3ff0000000000000), UINT64_C(0xfffffffffffff), 0x7f800000, 0xff800000,
		0x7fc00001, 0x7f800001, 0x3f800000, 0x7fffff, 0x80000001, 0x8000, 0x7fff, 0xffff,
		UINT64_C(0x0010000000000000), UINT64_C(0x123456789098765), 0x00800000};

	switch (below(4)) {
	case 0:
		return values[below(HK_ARRAY_SIZE(values))];
	case 1: /* an f64 near 1 */
		return (random64() & UINT64_C(0x800fffffffffffff)) |
			(uint64_t)(1013 + below(20)) << 52;
	case 2: /* an f32 near 1 */
		return (random64() & UINT64_C(0xffffffff807fffff)) |
			(uint64_t)(117 + below(20)) << 23;
	default:
		return random64();
	}
}

static bool host_is_intel(void)
{
	__builtin_cpu_init();
	return __builtin_cpu_is("intel") != 0;
}

static void random_state(struct state *s, bool unmasked)
{
	uint64_t operand = random_operand();
	unsigned flags;

	memset(s, 0, sizeof(*s));
	s->fcw = (uint16_t)(0x7f | (random64() & 0x1f00));
	if (unmasked) {
		s->fcw &= (uint16_t) ~(random64() & random64() & 0x3f);
	}
	flags = (unsigned)(random64() & random64() & 0x7f & (s->fcw | HK_FSW_SF));
	s->fsw = (uint16_t)((random64() & 0x7f00) | flags);
	for (unsigned i = 0; i < 8; i++) {
		s->st[i] = random_f80();
	}
	if (below(4) == 0) { /* equal or nearly equal magnitudes */
		s->st[below(8)] = s->st[0];
	}
	if (below(4) == 0) {
		s->st[1].sign_exp = (uint16_t)(s->st[0].sign_exp + below(5) - 2);
	}
	switch (below(4)) {
	case 0:
		s->tags = (uint16_t)(random64() & random64());
		break;
	case 1:
		s->tags = (uint16_t)(3u << 2 * below(8));
		break;
	default: /* all there but the one a push needs */
		s->tags = (uint16_t)(3u << 2 * (((s->fsw >> 11 & 7) + 7) & 7));
		break;
	}
	s->rflags = (uint32_t)random64() & HK_FLAGS_ARITH;
	s->rax = random64();
	memcpy(s->memory, &operand, 8);
	operand = random64();
	memcpy(s->memory + 8, &operand, 8);
}

static void show(const char *who, const struct state *s)
{
	print_error("%s: fcw %04x fsw %04x tags %04x rflags %03x memory %016llx %02x%02x\n", who,
		s->fcw, s->fsw, s->tags, s->rflags,
		(unsigned long long)*(const uint64_t *)s->memory, s->memory[9], s->memory[8]);
	for (unsigned i = 0; i < 3; i++) {
		print_error("   st%u %04x:%016llx\n", i, s->st[i].sign_exp,
			(unsigned long long)s->st[i].frac);
	}
}

static bool same_f80(struct hk_f80 a, struct hk_f80 b)
{
	return a.frac == b.frac && a.sign_exp == b.sign_exp;
}

static bool same_registers(const struct state *a, const struct state *b)
{
	for (unsigned i = 0; i < 8; i++) {
		if (!same_f80(a->st[i], b->st[i])) {
			return false;
		}
	}
	return true;
}

static bool same_pointers(const struct state *a, const struct state *b)
{
	return a->fip == b->fip && a->fdp == b->fdp && a->fop == b->fop;
}

static bool same_state(const struct state *a, const struct state *b)
{
	return a->fcw == b->fcw && a->fsw == b->fsw && a->tags == b->tags &&
		a->rflags == b->rflags && a->rax == b->rax && same_registers(a, b) &&
		memcmp(a->memory, b->memory, sizeof(a->memory)) == 0;
}

/* The distance of two numbers of one sign, in units of the last place */
static uint64_t distance(struct hk_f80 a, struct hk_f80 b)
{
	uint64_t d = a.frac - b.frac;

	if (a.sign_exp == b.sign_exp) {
		return d < -d ? d : -d;
	}
	if (a.sign_exp > b.sign_exp) {
		return distance(b, a);
	}
	/* Across a power of two the significand starts anew at its top bit. */
	if (b.sign_exp != a.sign_exp + 1 || b.frac >> 63 == 0) {
		return UINT64_MAX;
	}
	return (a.sign_exp & 0x7fff) == 0 ? b.frac - a.frac
					  : -a.frac + (b.frac - (UINT64_C(1) << 63));
}

static bool is_transcendental(const struct row *row)
{
	static const char *const names[] = {
		"f2xm1", "fyl2x", "fyl2xp1", "fpatan", "fptan", "fsin", "fcos", "fsincos"};

	for (unsigned i = 0; i < HK_ARRAY_SIZE(names); i++) {
		if (strcmp(row->name, names[i]) == 0) {
			return true;
		}
	}
	return false;
}

/* Registers and memory of the environment have their own test. */
static bool is_image(const struct row *row)
{
	return strcmp(row->operands, "M") == 0;
}

static uint8_t pick_modrm(const struct row *row)
{
	unsigned n = row->ext & 7;

	if ((row->ext & EXT_HAS_BYTE) != 0) {
		return (uint8_t)(row->ext >> 8);
	}
	if ((row->ext & EXT_MEM) != 0) {
		return (uint8_t)(n << 3 | 2); /* [rdx] */
	}
	return (uint8_t)(0xc0 | n << 3 | below(8));
}

/**
 * struct tally - how the rounds of one row went
 * @same, @differ: transcendental results that are the CPU's bits, and that are not
 */
struct tally {
	unsigned wrong, same, differ;
};

/* Of a transcendental function: everything must agree but the last bit, and what follows from
 * it. */
static bool nearly_same(const struct state *native, const struct state *soft, struct tally *tally)
{
	struct state s = *soft;

	for (unsigned i = 0; i < 2; i++) {
		if (distance(native->st[i], soft->st[i]) > 1) {
			return false;
		}
		s.st[i] = native->st[i];
	}
	if (same_registers(native, soft)) {
		tally->same++;
	} else {
		tally->differ++;
		s.tags = native->tags;
	}
	s.fsw = (uint16_t)((s.fsw & ~HK_FSW_C1) | (native->fsw & HK_FSW_C1));
	return same_state(native, &s);
}

/* The SSE state in an image is this process's own. */
static void forget_sse(struct state *s)
{
	memset(s->memory + HK_XSAVE_MXCSR, 0, 8);
	memset(s->memory + HK_XSAVE_XMM, 0, HK_XSAVE_LEGACY_USED - HK_XSAVE_XMM);
}

/* One instruction on both. @prefix: 0x66, 0x48, or 0 for none */
static bool check_one(
	const struct row *row, uint8_t prefix, const struct state *start, struct tally *tally)
{
	uint8_t modrm = pick_modrm(row);
	uint8_t bytes[4] = {prefix};
	unsigned len = prefix != 0;
	struct state native = *start, soft = *start;
	struct hk_insn insn;
	bool good;

	if (row->map == HK_MAP_0F) {
		bytes[len++] = 0x0f;
	}
	bytes[len++] = row->op;
	bytes[len++] = modrm;
	insn = make_insn(row, modrm, len);
	if (prefix != 0) {
		insn.flags = (uint16_t)((insn.flags & ~HK_INSN_SIZE) | (prefix == 0x66 ? 1 : 3));
	}
	native_run(bytes, len, &native);
	soft_run(&insn, &soft);
	if (row->map == HK_MAP_0F) {
		forget_sse(&native);
		forget_sse(&soft);
	}
	if (is_transcendental(row)) {
		good = nearly_same(&native, &soft, tally);
	} else {
		good = same_state(&native, &soft) &&
			(!is_image(row) || same_pointers(&native, &soft));
	}
	if (!good && tally->wrong++ == 0) {
		print_error("%s %02x %02x\n", row->name, row->op, modrm);
		show("start", start);
		show("CPU", &native);
		show("soft", &soft);
	}
	return good;
}

static void check_rows(bool unmasked)
{
	unsigned wrong = 0;

	for (unsigned i = 0; i < HK_ARRAY_SIZE(rows); i++) {
		struct tally tally = {0};

		if (rows[i].map != HK_MAP_L || rows[i].op < 0xd8 || is_image(&rows[i])) {
			continue;
		}
		for (unsigned n = 0; n < ROUNDS; n++) {
			struct state start;

			random_state(&start, unmasked);
			check_one(&rows[i], 0, &start, &tally);
		}
		if (is_transcendental(&rows[i])) {
			print_message("%s: %u of %u bit-identical to this CPU\n", rows[i].name,
				tally.same, tally.same + tally.differ);
		}
		if (tally.wrong != 0) {
			print_error("%s (%02x): %u of %u wrong\n", rows[i].name, rows[i].op,
				tally.wrong, ROUNDS);
			wrong++;
		}
	}
	assert_int_equal(wrong, 0);
}

static void test_rows_masked(void **state)
{
	(void)state;
	check_rows(false);
}

static void test_rows_unmasked(void **state)
{
	(void)state;
	if (!host_is_intel()) {
		skip();
	}
	check_rows(true);
}

/* Ordinary arguments, rounded to nearest: what programs compute */
static void test_transcendental_share(void **state)
{
	(void)state;
	for (unsigned i = 0; i < HK_ARRAY_SIZE(rows); i++) {
		struct tally tally = {0};

		if (!is_transcendental(&rows[i])) {
			continue;
		}
		for (unsigned n = 0; n < ROUNDS; n++) {
			struct state start;

			random_state(&start, false);
			start.fcw = HK_FCW_RESET;
			start.fsw = 0;
			start.tags = 3 << 14;
			for (unsigned k = 0; k < 2; k++) {
				unsigned exp = 0x3fff - 9 +
					below(rows[i].ext == EXT_BYTE(0xf0) ||
								rows[i].ext == EXT_BYTE(0xf9)
							? 8
							: 14);

				start.st[k].frac = random64() | UINT64_C(1) << 63;
				start.st[k].sign_exp = (uint16_t)exp;
			}
			assert_true(check_one(&rows[i], 0, &start, &tally));
		}
		print_message("%s: %u of %u ordinary results bit-identical to this CPU\n",
			rows[i].name, tally.same, tally.same + tally.differ);
	}
}

static void random_memory(struct state *s, unsigned len)
{
	for (unsigned i = 0; i < len; i++) {
		s->memory[i] = (uint8_t)random64();
	}
}

/* FNSTENV, FLDENV, FNSAVE, FRSTOR in 16 and 32 bits */
static void test_environment(void **state)
{
	struct tally tally = {0};

	(void)state;
	for (unsigned i = 0; i < HK_ARRAY_SIZE(rows); i++) {
		if (rows[i].map != HK_MAP_L || !is_image(&rows[i])) {
			continue;
		}
		for (unsigned n = 0; n < ROUNDS; n++) {
			struct state start;

			random_state(&start, true);
			random_memory(&start, 108);
			start.fip = (uint32_t)random64();
			start.fdp = (uint32_t)random64();
			start.fop = (uint16_t)(random64() & 0x7ff);
			if (rows[i].name[1] == 'l' || rows[i].name[1] == 'r') {
				/* This CPU may have no FCS and FDS any more. */
				memset(start.memory + (n % 2 != 0 ? 8 : 16), 0, 2);
			}
			if (!check_one(&rows[i], n % 2 != 0 ? 0x66 : 0, &start, &tally)) {
				break;
			}
		}
	}
	assert_int_equal(tally.wrong, 0);
}

/* FXSAVE64 and XSAVE64, as far as the x87 unit goes */
static void test_fxsave(void **state)
{
	(void)state;
	if (!host_is_intel()) {
		skip(); /* AMD stores pointers only with a pending exception */
	}
	for (unsigned i = 0; i < HK_ARRAY_SIZE(rows); i++) {
		struct tally tally = {0};
		bool load = strstr(rows[i].name, "rstor64") != NULL;
		bool save = strstr(rows[i].name, "save64") != NULL;

		for (unsigned n = 0; n < ROUNDS && (load || save); n++) {
			static const uint32_t mxcsr = HK_MXCSR_RESET, mask = HK_MXCSR_VALID;
			struct state start;

			random_state(&start, false);
			start.rax = HK_XSTATE_X87;
			start.rflags = 0;
			if (load) {
				random_memory(&start, HK_XSAVE_XMM);
				memset(start.memory + 14, 0, 2); /* FIP and FDP are canonical */
				memset(start.memory + 22, 0, 2);
				memset(start.memory + HK_XSAVE_HEADER, 0, 64);
				start.memory[HK_XSAVE_HEADER] = (uint8_t)below(4);
			} else {
				start.memory[HK_XSAVE_HEADER] = HK_XSTATE_X87;
			}
			/* Of the SSE state only what the two have in common is to be seen. */
			memcpy(start.memory + HK_XSAVE_MXCSR, &mxcsr, 4);
			memcpy(start.memory + HK_XSAVE_MXCSR + 4, &mask, 4);
			check_one(&rows[i], 0x48, &start, &tally);
		}
		if (tally.wrong != 0) {
			fail_msg("%s: %u of %u wrong", rows[i].name, tally.wrong, ROUNDS);
		}
	}
}

/* What has no counterpart in user mode */

static const struct row *find_row(const char *name)
{
	for (unsigned i = 0; i < HK_ARRAY_SIZE(rows); i++) {
		if (strcmp(rows[i].name, name) == 0) {
			return &rows[i];
		}
	}
	fail_msg("no row %s", name);
	return NULL;
}

/* Run @name (a memory form by its first row) on @s. Return: the exception's vector, or -1. */
static int run(const char *name, struct state *s)
{
	const struct row *row = find_row(name);
	struct hk_insn insn = make_insn(row, row->ext == EXT_ANY ? 0xc0 : pick_modrm(row), 2);

	if (strstr(name, "64") != NULL) {
		insn.flags |= 3;
	}
	soft_run(&insn, s);
	return cpu->event.pending ? cpu->event.vector : -1;
}

static struct state plain_state(void)
{
	return (struct state){.fcw = HK_FCW_RESET, .tags = 0xffff, .rflags = 0};
}

static void test_availability(void **state)
{
	struct state s = plain_state(), before;

	(void)state;
	cpu->cr0 |= HK_CR0_TS;
	assert_int_equal(run("fld1", &s), HK_VECTOR_NM);
	assert_int_equal(run("fninit", &s), HK_VECTOR_NM);
	assert_int_equal(run("emms", &s), HK_VECTOR_NM);
	assert_int_equal(run("fxsave", &s), HK_VECTOR_NM);
	assert_int_equal(run("xsave", &s), HK_VECTOR_NM);
	assert_int_equal(run("ldmxcsr", &s), HK_VECTOR_NM);
	assert_int_equal(run("fwait", &s), -1);
	cpu->cr0 |= HK_CR0_MP;
	assert_int_equal(run("fwait", &s), HK_VECTOR_NM);
	cpu->cr0 &= ~(HK_CR0_TS | HK_CR0_MP);
	cpu->cr0 |= HK_CR0_EM;
	assert_int_equal(run("fld1", &s), HK_VECTOR_NM);
	assert_int_equal(run("emms", &s), HK_VECTOR_UD);
	assert_int_equal(run("ldmxcsr", &s), HK_VECTOR_UD);
	cpu->cr0 &= ~HK_CR0_EM;
	cpu->cr4 &= ~HK_CR4_OSXSAVE;
	assert_int_equal(run("xsave", &s), HK_VECTOR_UD);
	assert_int_equal(run("xrstor", &s), HK_VECTOR_UD);
	cpu->cr4 |= HK_CR4_OSXSAVE;

	/* A pending exception stops what waits. */
	s.fcw = HK_FCW_RESET & ~HK_FP_ZE;
	s.fsw = HK_FP_ZE | HK_FSW_ES | HK_FSW_B;
	before = s;
	assert_int_equal(run("fld1", &s), HK_VECTOR_MF);
	assert_int_equal(run("fwait", &s), HK_VECTOR_MF);
	assert_int_equal(run("emms", &s), HK_VECTOR_MF);
	assert_int_equal(run("fldcw", &s), HK_VECTOR_MF);
	assert_true(same_state(&s, &before));
	assert_int_equal(run("fnstsw", &s), -1);
	assert_int_equal(run("fxsave", &s), -1);
	assert_int_equal(run("fnclex", &s), -1);
	assert_int_equal(run("fld1", &s), -1);
}

/* A store that faults has changed nothing. */
static void test_store_faults_first(void **state)
{
	static const char *const names[] = {
		"fst", "fstp", "fistp", "fisttp", "fbstp", "fnsave", "fnstenv", "fnstcw"};

	(void)state;
	cpu->mode = HK_CODE_32;
	cpu->seg[HK_DS].unusable = true;
	for (unsigned i = 0; i < HK_ARRAY_SIZE(names); i++) {
		const struct row *row = find_row(names[i]);
		struct hk_insn insn = make_insn(row, pick_modrm(row), 2);
		struct state s, before;

		random_state(&s, false);
		before = s;
		insn.flags &= (uint16_t)~HK_INSN_PLAIN;
		soft_run(&insn, &s);
		assert_true(cpu->event.pending);
		assert_int_equal(cpu->event.vector, HK_VECTOR_GP);
		before.tags = s.tags; /* as stored, with zero and special told apart */
		assert_true(same_state(&s, &before));
	}
	cpu->mode = HK_CODE_64;
	cpu->seg[HK_DS].unusable = false;
}

static void test_mxcsr(void **state)
{
	struct state s = plain_state();
	uint32_t value = 0x10000;

	(void)state;
	memcpy(s.memory, &value, 4);
	assert_int_equal(run("ldmxcsr", &s), HK_VECTOR_GP);
	assert_int_equal(cpu->mxcsr, HK_MXCSR_RESET);
	value = 0xffbf;
	memcpy(s.memory, &value, 4);
	assert_int_equal(run("ldmxcsr", &s), -1);
	assert_int_equal(cpu->mxcsr, value);
	memset(s.memory, 0, 4);
	assert_int_equal(run("stmxcsr", &s), -1);
	assert_memory_equal(s.memory, &value, 4);
	/* FXRSTOR and XRSTOR look at it, too. */
	memset(s.memory, 0, sizeof(s.memory));
	s.memory[HK_XSAVE_MXCSR + 2] = 1;
	s.rax = HK_XSTATE_SSE;
	assert_int_equal(run("fxrstor", &s), HK_VECTOR_GP);
	assert_int_equal(run("xrstor", &s), HK_VECTOR_GP);
	s.rax = HK_XSTATE_X87; /* not asked for: not looked at */
	assert_int_equal(run("xrstor", &s), -1);
	cpu->mxcsr = HK_MXCSR_RESET;
}

/* XSAVE and XRSTOR with both components, and headers that are none. */
static void test_xsave(void **state)
{
	struct state s = plain_state(), image;
	union hk_xmm xmm[16];

	(void)state;
	for (unsigned i = 0; i < 16; i++) {
		cpu->xmm[i] = (union hk_xmm){.u64 = {random64(), random64()}};
	}
	memcpy(xmm, cpu->xmm, sizeof(xmm));
	cpu->mxcsr = 0x3fc0;
	s.st[0] = boundary[7];
	s.tags = 0xfffc;
	s.rax = UINT64_MAX;
	assert_int_equal(run("xsave64", &s), -1);
	assert_int_equal(s.memory[HK_XSAVE_HEADER], HK_CPU_HAKO_V2_XCR0);
	assert_memory_equal(s.memory + HK_XSAVE_XMM, xmm, sizeof(xmm));

	/* Back: all of it, none of it, parts of it. */
	image = s;
	memset(cpu->xmm, 0xff, sizeof(cpu->xmm));
	s.tags = 0;
	assert_int_equal(run("xrstor64", &s), -1);
	assert_memory_equal(cpu->xmm, xmm, sizeof(xmm));
	assert_int_equal(cpu->mxcsr, 0x3fc0);
	assert_int_equal(s.tags, 0xfffc);
	s = image;
	s.rax = 0;
	s.fcw = 0x7f;
	memset(cpu->xmm, 0xff, sizeof(cpu->xmm));
	assert_int_equal(run("xrstor64", &s), -1);
	assert_int_equal(s.fcw, 0x7f);
	assert_int_equal(cpu->xmm[3].u8[3], 0xff);
	s = image;
	s.memory[HK_XSAVE_HEADER] = HK_XSTATE_X87;
	cpu->mxcsr = HK_MXCSR_RESET;
	assert_int_equal(run("xrstor64", &s), -1);
	assert_int_equal(cpu->mxcsr, 0x3fc0);
	assert_int_equal(cpu->xmm[3].u64[0] | cpu->xmm[3].u64[1], 0);

	for (unsigned i = 0; i < 24; i++) {
		s = image;
		s.memory[HK_XSAVE_HEADER + i] |= 4; /* AVX state, or what must be zero */
		assert_int_equal(run("xrstor64", &s), HK_VECTOR_GP);
	}
	cpu->mxcsr = HK_MXCSR_RESET;
}

static void test_alignment(void **state)
{
	static const struct {
		const char *name;
		unsigned align;
	} names[] = {{"fxsave", 16}, {"fxrstor", 16}, {"xsave", 64}, {"xrstor", 64}};

	(void)state;
	for (unsigned i = 0; i < HK_ARRAY_SIZE(names); i++) {
		const struct row *row = find_row(names[i].name);
		struct hk_insn insn = make_insn(row, pick_modrm(row), 3);
		struct state s = plain_state();

		s.memory[names[i].align + HK_XSAVE_MXCSR] = 0;
		insn.disp = (int32_t)names[i].align;
		soft_run(&insn, &s);
		assert_false(cpu->event.pending);
		insn.disp = (int32_t)names[i].align / 2;
		soft_run(&insn, &s);
		assert_true(cpu->event.pending);
		assert_int_equal(cpu->event.vector, HK_VECTOR_GP);
	}
	cpu->mxcsr = HK_MXCSR_RESET;
}

/* The engine's saved state, with the pointers that user mode does not see */
static void test_saved_state(void **state)
{
	uint8_t image[HK_XSAVE_BASE_SIZE], again[HK_XSAVE_BASE_SIZE];
	struct state s;

	(void)state;
	random_state(&s, false);
	soft_load(&s);
	cpu->x87.fip = UINT64_C(0xffffffff81234567);
	cpu->x87.fdp = UINT64_C(0x00007fff12345678);
	cpu->x87.fop = 0x123;
	cpu->mxcsr = 0x1fa0;
	hk_fpu_to_xsave(cpu, image);
	memset(&cpu->x87, 0x55, sizeof(cpu->x87));
	cpu->mxcsr = 0;
	assert_true(hk_fpu_from_xsave(cpu, image));
	assert_int_equal(cpu->x87.fip, UINT64_C(0xffffffff81234567));
	assert_int_equal(cpu->mxcsr, 0x1fa0);
	hk_fpu_to_xsave(cpu, again);
	assert_memory_equal(image, again, sizeof(image));
	image[HK_XSAVE_MXCSR + 3] = 1;
	assert_false(hk_fpu_from_xsave(cpu, image));
	image[HK_XSAVE_MXCSR + 3] = 0;
	image[HK_XSAVE_HEADER + 15] = 0x80; /* compacted */
	assert_false(hk_fpu_from_xsave(cpu, image));
	hk_fpu_to_xsave(cpu, image);
	assert_memory_equal(image, again, sizeof(image));
	memset(image + HK_XSAVE_HEADER, 0, 8); /* all in its reset state */
	assert_true(hk_fpu_from_xsave(cpu, image));
	assert_int_equal(cpu->x87.fcw, HK_FCW_RESET);
	assert_int_equal(cpu->x87.tag_empty, 0xff);
	cpu->mxcsr = HK_MXCSR_RESET;
}

/* Pointers: FIP and FDP always, FOP with an unmasked exception; and how real mode stores them. */
static void test_pointers(void **state)
{
	static const uint8_t bytes[] = {0x66, 0xdc, 0x32}; /* fdiv qword [rdx], a prefix before */
	const struct row *row = find_row("fdiv");
	struct hk_insn insn = make_insn(row, 0x32, sizeof(bytes));
	const uint8_t *env;
	struct state s = plain_state();

	(void)state;
	for (unsigned i = 0; i < HK_ARRAY_SIZE(rows); i++) {
		if (rows[i].op == 0xdc && rows[i].ext == EXT_MEM_N(6)) {
			insn.exec = rows[i].exec;
		}
	}
	hk_mem_write(&ram, 0x5010, bytes, sizeof(bytes));
	cpu->gpr[HK_REG_PAGE] = 0x5000;
	insn.off = 0x10;
	s.st[0] = boundary[7];
	s.tags = 0xfffc;
	soft_run(&insn, &s); /* 1 / 0, masked */
	assert_int_equal(s.fip, 0x5010);
	assert_int_equal(s.fdp, OPERAND_GPA);
	assert_int_equal(s.fop, 0);
	s.fcw &= (uint16_t)~HK_FP_ZE;
	s.fsw = 0;
	s.st[0] = boundary[7];
	soft_run(&insn, &s);
	assert_int_equal(s.fsw, HK_FP_ZE | HK_FSW_ES | HK_FSW_B);
	assert_int_equal(s.fop, 0x432);

	cpu->gpr[HK_REG_PAGE] = 0;
	cpu->cr0 &= ~HK_CR0_PE;
	s.fip = 0x54321;
	s.fdp = 0xedcba;
	env = s.memory;
	assert_int_equal(run("fnstenv", &s), -1);
	assert_int_equal(env[12] | env[13] << 8 | env[16] << 16, 0x4321 | 0x32 << 16);
	assert_int_equal(env[17], 0x54);
	assert_int_equal(env[20] | env[21] << 8 | env[25] << 16, 0xdcba | 0xe0 << 16);
	s.fip = 0;
	s.fdp = 0;
	s.fop = 0;
	assert_int_equal(run("fnclex", &s), -1);
	assert_int_equal(run("fldenv", &s), -1);
	assert_int_equal(s.fip, 0x54321);
	assert_int_equal(s.fdp, 0xedcba);
	assert_int_equal(s.fop, 0x432);
	cpu->cr0 |= HK_CR0_PE;
}

static int setup(void **state)
{
	struct hk_err err = {0};

	(void)state;
	code = mmap(NULL, CODE_SIZE, PROT_READ | PROT_WRITE | PROT_EXEC,
		MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	cpu = calloc(1, sizeof(*cpu));
	if (code == MAP_FAILED || cpu == NULL || hk_mem_create(&ram, RAM_BYTES, &err) < 0 ||
		hk_soft_mem_init(&soft_ram, &ram, &err) < 0) {
		return -1;
	}
	/* 64-bit mode without paging: linear addresses are physical ones. */
	cpu->mem = &soft_ram;
	cpu->mode = HK_CODE_64;
	cpu->cr0 = HK_CR0_PE | HK_CR0_NE | HK_CR0_ET;
	cpu->cr4 = HK_CR4_OSFXSR | HK_CR4_OSXSAVE;
	cpu->xcr0 = HK_CPU_HAKO_V2_XCR0;
	cpu->mxcsr = HK_MXCSR_RESET;
	cpu->tlb = cpu->tlbs[HK_TLB_KERNEL];
	hk_tlb_flush(cpu, true);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	hk_soft_mem_finish(&soft_ram);
	hk_mem_finish(&ram);
	free(cpu);
	munmap(code, CODE_SIZE);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_rows_masked),
		cmocka_unit_test(test_rows_unmasked),
		cmocka_unit_test(test_transcendental_share),
		cmocka_unit_test(test_environment),
		cmocka_unit_test(test_fxsave),
		cmocka_unit_test(test_availability),
		cmocka_unit_test(test_store_faults_first),
		cmocka_unit_test(test_mxcsr),
		cmocka_unit_test(test_xsave),
		cmocka_unit_test(test_alignment),
		cmocka_unit_test(test_saved_state),
		cmocka_unit_test(test_pointers),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
