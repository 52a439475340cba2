/* SPDX-License-Identifier: ISC */
/*
 * Comparison of results. Everything counts but what the manual leaves undefined:
 *
 *  - flags, by instruction (undefined.h)
 *  - the x87 unit's pointers and opcode: CPUs differ in when they keep them
 *  - which part of a long operand (FXSAVE, FNSTENV) faults first, and the pieces stored before
 *  - in 32-bit code: upper halves and R8 to R15
 *  - bit 0 of the error code where a page fault was at a kernel address: Linux always sets it, so that
 *    user code cannot learn what is mapped there
 */
#include "compare.h"

#include <math.h>
#include <string.h>

#include "engine/soft/cpu.h"

enum {
	FSW_C1 = 1 << 9,
	FSW_TOP = 7 << 11,
	FSW_PE = 1 << 5,
};
#define USER_END UINT64_C(0x7ffffffff000)

struct isa_mask isa_mask_of(const struct isa_case *c, const struct isa_result *expected)
{
	uint64_t off = expected->state.rip - c->start.rip;
	uint32_t undefined = 0;
	struct isa_mask mask = {.lax = 0};

	for (unsigned i = 0; i < c->insn_count; i++) {
		if (c->insns[i].off == off) { /* it stopped at this one */
			mask.lax |= c->insns[i].fault_lax;
			break;
		}
		undefined = c->insns[i].undefined;
		mask.lax |= c->insns[i].lax;
	}
	mask.rflags = ~(uint64_t)undefined;
	return mask;
}

struct look {
	FILE *out;
	bool same;
};

static void differ(struct look *look, const char *what, uint64_t expected, uint64_t got)
{
	look->same = false;
	if (look->out != NULL) {
		fprintf(look->out, "    %-8s real %#018llx  soft %#018llx  differ in %#llx\n", what,
			(unsigned long long)expected, (unsigned long long)got,
			(unsigned long long)(expected ^ got));
	}
}

static void check(struct look *look, const char *what, uint64_t expected, uint64_t got)
{
	if (expected != got) {
		differ(look, what, expected, got);
	}
}

static uint64_t get64(const uint8_t *p)
{
	uint64_t v;

	memcpy(&v, p, 8);
	return v;
}

/* Bytes, eight at a time so that much can be seen. */
static void check_bytes(struct look *look, const char *what, unsigned number, const uint8_t *a,
	const uint8_t *b, unsigned len)
{
	char name[32];
	unsigned shown = 0;

	if (memcmp(a, b, len) == 0) {
		return;
	}
	for (unsigned i = 0; i < len; i += 8) {
		unsigned n = len - i < 8 ? len - i : 8;
		uint64_t x = 0, y = 0;

		memcpy(&x, a + i, n);
		memcpy(&y, b + i, n);
		if (x != y && shown++ < 8) {
			snprintf(name, sizeof(name), "%s%x+%u", what, number + (len > 16 ? i : 0),
				len > 16 ? 0 : i);
			differ(look, name, x, y);
		}
	}
}

/* Are two x87 registers the same, or next to each other? */
static bool next_to(const uint8_t *a, const uint8_t *b)
{
	uint64_t x = get64(a), y = get64(b);
	uint16_t ex = isa_get16(a + 8), ey = isa_get16(b + 8);

	/* Denormals have the exponent of the smallest normal numbers. */
	ex += (ex & 0x7fff) == 0;
	ey += (ey & 0x7fff) == 0;
	if (ex == ey) {
		return x - y + 1 <= 2;
	}
	/* One is the greatest of its exponent, the other the smallest of the next. */
	return (ex == ey + 1 && x == UINT64_C(1) << 63 && y == UINT64_MAX) ||
		(ey == ex + 1 && y == UINT64_C(1) << 63 && x == UINT64_MAX);
}

/* Are two singles as close as RCPPS has to be to the truth, twice? */
static bool close_to(const uint8_t *a, const uint8_t *b)
{
	float x, y;

	memcpy(&x, a, 4);
	memcpy(&y, b, 4);
	return isfinite(x) && isfinite(y) && fabsf(x - y) <= fabsf(x) * (3.0f / 4096);
}

static void check_x87(
	struct look *look, const uint8_t *a, const uint8_t *b, uint8_t lax, bool *inexact)
{
	bool any_top = (lax & ISA_LAX_TOP) != 0;
	unsigned top_a = any_top ? isa_get16(a + ISA_FX_FSW) >> 11 & 7 : 0;
	unsigned top_b = any_top ? isa_get16(b + ISA_FX_FSW) >> 11 & 7 : 0;
	uint16_t ignore = any_top ? FSW_TOP : 0;

	for (unsigned i = 0; i < 8; i++) {
		const uint8_t *x = a + ISA_FX_ST + 16 * ((i - top_a) & 7);
		const uint8_t *y = b + ISA_FX_ST + 16 * ((i - top_b) & 7);

		if (memcmp(x, y, 10) != 0) {
			if ((lax & ISA_LAX_ULP) != 0 && next_to(x, y)) {
				ignore |= FSW_PE;
				*inexact = true;
				continue;
			}
			check_bytes(look, "ST", i, x, y, 10);
		}
	}
	if ((lax & ISA_LAX_ULP) != 0) {
		ignore |= FSW_C1;
	}
	check(look, "FCW", isa_get16(a + ISA_FX_FCW), isa_get16(b + ISA_FX_FCW));
	check(look, "FSW", isa_get16(a + ISA_FX_FSW) & ~ignore,
		isa_get16(b + ISA_FX_FSW) & ~ignore);
	if (!any_top) {
		check(look, "FTW", a[ISA_FX_FTW], b[ISA_FX_FTW]);
	}
}

/* Is it a NaN, as a single? (A double's is one in its upper half or close enough.) */
static bool is_nan(const uint8_t *p)
{
	float x;

	memcpy(&x, p, 4);
	return isnan(x);
}

static bool lane_is_fine(const uint8_t *x, const uint8_t *y, uint8_t lax)
{
	return memcmp(x, y, 4) == 0 || ((lax & ISA_LAX_RCP) != 0 && close_to(x, y)) ||
		((lax & ISA_LAX_NAN) != 0 && is_nan(x) && is_nan(y));
}

static void check_xmm(
	struct look *look, const uint8_t *a, const uint8_t *b, uint8_t lax, bool *inexact)
{
	check(look, "MXCSR", isa_get16(a + ISA_FX_MXCSR), isa_get16(b + ISA_FX_MXCSR));
	for (unsigned i = 0; i < 16; i++) {
		const uint8_t *x = a + ISA_FX_XMM + 16 * i, *y = b + ISA_FX_XMM + 16 * i;
		bool same = memcmp(x, y, 16) == 0;

		if (!same && (lax & (ISA_LAX_RCP | ISA_LAX_NAN)) != 0) {
			same = *inexact = true;
			for (unsigned k = 0; k < 16; k += 4) {
				same = same && lane_is_fine(x + k, y + k, lax);
			}
		}
		if (!same) {
			check_bytes(look, "XMM", i, x, y, 16);
		}
	}
}

static void check_registers(struct look *look, const struct isa_state *a, const struct isa_state *b,
	struct isa_mask mask, bool code32)
{
	static const char *const names[HK_GPR_COUNT] = {"RAX", "RCX", "RDX", "RBX", "RSP", "RBP",
		"RSI", "RDI", "R8", "R9", "R10", "R11", "R12", "R13", "R14", "R15"};
	static const char *const segments[] = {"ES", "CS", "SS", "DS", "FS", "GS"};
	uint64_t width = code32 ? UINT32_MAX : UINT64_MAX;

	for (unsigned i = 0; i < (code32 ? 8 : HK_GPR_COUNT); i++) {
		check(look, names[i], a->gpr[i] & width, b->gpr[i] & width);
	}
	check(look, "RFLAGS", a->rflags & mask.rflags, b->rflags & mask.rflags);
	for (unsigned i = 0; i < 6; i++) {
		/*
		 * A null selector has lost its RPL by the time the kernel has returned to user
		 * code.
		 */
		bool null = a->sel[i] < 4 && b->sel[i] < 4;

		check(look, segments[i], null ? 0 : a->sel[i], null ? 0 : b->sel[i]);
	}
	check(look, "FS.base", a->fs_base, b->fs_base);
	check(look, "GS.base", a->gs_base, b->gs_base);
}

bool isa_same(const struct isa_result *expected, const struct isa_result *got, struct isa_mask mask,
	bool code32, FILE *out, bool *ret_inexact)
{
	struct look look = {.out = out, .same = true};
	bool inexact = false;
	bool kernel = expected->vector == HK_VECTOR_PF && expected->cr2 >= USER_END;
	uint32_t ignore = kernel || (mask.lax & ISA_LAX_WHERE) != 0 ? 1 : 0;

	check(&look, "end", expected->end, got->end);
	if (expected->end != ISA_TRAP || got->end != ISA_TRAP) {
		return look.same;
	}
	check(&look, "vector", expected->vector, got->vector);
	check(&look, "error", expected->code & ~ignore, got->code & ~ignore);
	check(&look, "RIP", expected->state.rip, got->state.rip);
	if ((mask.lax & ISA_LAX_WHERE) == 0) {
		check(&look, "CR2", expected->cr2, got->cr2);
	}
	if ((mask.lax & ISA_LAX_RUN) == 0) {
		check_registers(&look, &expected->state, &got->state, mask, code32);
		check_x87(&look, expected->state.fx, got->state.fx, mask.lax, &inexact);
		check_xmm(&look, expected->state.fx, got->state.fx, mask.lax, &inexact);
	}
	if ((mask.lax & (ISA_LAX_RUN | ISA_LAX_WHERE)) == 0) {
		check_bytes(&look, "memory ", (unsigned)ISA_DATA, expected->data, got->data,
			ISA_DATA_BYTES);
	}
	if (ret_inexact != NULL) {
		*ret_inexact = inexact;
	}
	return look.same;
}
