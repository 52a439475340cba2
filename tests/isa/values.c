/* SPDX-License-Identifier: ISC */
/*
 * Values to start from: those at which something changes (signs, carries, exponents, NaNs), and
 * random ones between.
 */
#include <string.h>

#include "gen.h"

#include "base/util.h"
#include "engine/soft/cpu.h"

static const uint64_t integers[] = {
	0,
	1,
	2,
	3,
	7,
	8,
	15,
	16,
	31,
	32,
	33,
	63,
	64,
	65,
	0x7f,
	0x80,
	0x81,
	0xff,
	0x100,
	0x7fff,
	0x8000,
	0x8001,
	0xffff,
	0x10000,
	0x7fffffff,
	0x80000000,
	0x80000001,
	0xffffffff,
	0x100000000,
	0x7fffffffffffffff,
	0x8000000000000000,
	0x8000000000000001,
	0xffffffffffffff80,
	0xffffffffffff8000,
	0xffffffff80000000,
	0xfffffffffffffffe,
	0xffffffffffffffff,
	0x0101010101010101,
	0x8080808080808080,
	0x5555555555555555,
	0xaaaaaaaaaaaaaaaa,
	0x0f0f0f0f,
	0x9999,
	0x99,
	0x0a0f,
};

static const uint32_t singles[] = {
	0, 0x80000000,                                  /* zeros */
	1, 0x80000001,                                  /* smallest denormals */
	0x007fffff, 0x807fffff,                         /* greatest denormals */
	0x00400000, 0x00800000, 0x80800000, 0x00800001, /* smallest normals */
	0x3f800000, 0xbf800000, 0x3f800001, 0x3f7fffff, /* 1, -1 and next to it */
	0x3f000000, 0x3effffff, 0x3f000001, 0x3fc00000, 0x40200000, 0x40000000, 0x40490fdb,
	0x4effffff, 0x4f000000, 0xcf000000, 0xcf000001, /* about 2^31 */
	0x5effffff, 0x5f000000, 0xdf000000, 0xdf000001, /* about 2^63 */
	0x4b000000, 0x4b000001, 0x4affffff, 0x46fffe00, 0x47000000, 0x437f0000, 0x7f7fffff,
	0xff7fffff, 0x7f800000, 0xff800000,             /* greatest, infinities */
	0x7fc00000, 0xffc00000, 0x7fc12345, 0xffffffff, /* quiet NaNs */
	0x7f800001, 0xff800001, 0x7fa00000, 0xffbfffff, /* signalling NaNs */
};

static const uint64_t doubles[] = {
	0,
	0x8000000000000000,
	1,
	0x8000000000000001,
	0x000fffffffffffff,
	0x800fffffffffffff,
	0x0008000000000000,
	0x0010000000000000,
	0x8010000000000000,
	0x0010000000000001,
	0x3ff0000000000000,
	0xbff0000000000000,
	0x3ff0000000000001,
	0x3fefffffffffffff,
	0x3fe0000000000000,
	0x3fdfffffffffffff,
	0x3fe0000000000001,
	0x3ff8000000000000,
	0x4004000000000000,
	0x4000000000000000,
	0x400921fb54442d18,
	0x41dfffffffc00000,
	0x41e0000000000000,
	0xc1e0000000000000,
	0xc1e0000000200000,
	0x41dfffffffe00000,
	0x43dfffffffffffff,
	0x43e0000000000000,
	0xc3e0000000000000,
	0xc3e0000000000001,
	0x4330000000000000,
	0x4330000000000001,
	0x432fffffffffffff,
	0x36a0000000000000,
	0x3690000000000000,
	0x36b0000000000000,
	0x380fffffe0000000,
	0x3810000000000000,
	0x47efffffe0000000,
	0x47effffff0000000,
	0x47f0000000000000,
	0x7fefffffffffffff,
	0xffefffffffffffff,
	0x7ff0000000000000,
	0xfff0000000000000,
	0x7ff8000000000000,
	0xfff8000000000000,
	0x7ff8000012345678,
	0xffffffffffffffff,
	0x7ff0000000000001,
	0xfff0000000000001,
	0x7ff4000000000000,
	0xfff7ffffffffffff,
};

/* Sign and exponent, significand. */
static const struct hk_f80 extended[] = {
	{.sign_exp = 0, .frac = 0},
	{.sign_exp = 0x8000, .frac = 0},
	{.sign_exp = 0, .frac = 1}, /* denormals */
	{.sign_exp = 0x8000, .frac = 0x7fffffffffffffff},
	{.sign_exp = 0, .frac = 0x8000000000000000}, /* pseudo-denormals */
	{.sign_exp = 0x8000, .frac = 0xffffffffffffffff},
	{.sign_exp = 1, .frac = 0x8000000000000000},      /* smallest normal */
	{.sign_exp = 0x3fff, .frac = 0x8000000000000000}, /* 1 */
	{.sign_exp = 0xbfff, .frac = 0x8000000000000000},
	{.sign_exp = 0x3fff, .frac = 0x8000000000000001},
	{.sign_exp = 0x3ffe, .frac = 0xffffffffffffffff},
	{.sign_exp = 0x3ffe, .frac = 0x8000000000000000}, /* 0.5 */
	{.sign_exp = 0x3fff, .frac = 0xc000000000000000}, /* 1.5 */
	{.sign_exp = 0x4000, .frac = 0xc90fdaa22168c235}, /* pi */
	{.sign_exp = 0x3ffe, .frac = 0xc90fdaa22168c235}, /* pi / 4 */
	{.sign_exp = 0x3ffd, .frac = 0x95f619980c4336f7}, /* sqrt(2) - 1 - something */
	{.sign_exp = 0x400d, .frac = 0xfffe000000000000}, /* 32767 */
	{.sign_exp = 0x400e, .frac = 0x8000000000000000}, /* 32768 */
	{.sign_exp = 0x401d, .frac = 0xfffffffe00000000}, /* 2^31 - 1 */
	{.sign_exp = 0xc01e, .frac = 0x8000000000000000}, /* -2^31 */
	{.sign_exp = 0x403d, .frac = 0xffffffffffffffff}, /* 2^63 - 1/2 */
	{.sign_exp = 0xc03e, .frac = 0x8000000000000000}, /* -2^63 */
	{.sign_exp = 0x403a, .frac = 0xde0b6b3a763fffff}, /* 10^18 - 1, about */
	{.sign_exp = 0x403a, .frac = 0xde0b6b3a76400000},
	{.sign_exp = 0x3f81, .frac = 0x8000000000000000}, /* smallest normal single */
	{.sign_exp = 0x407e, .frac = 0xffffff8000000000}, /* beyond the greatest single */
	{.sign_exp = 0x3c01, .frac = 0x8000000000000000}, /* smallest normal double */
	{.sign_exp = 0x43fe, .frac = 0xfffffffffffffc00}, /* beyond the greatest double */
	{.sign_exp = 0x7ffe, .frac = 0xffffffffffffffff}, /* greatest */
	{.sign_exp = 0x7fff, .frac = 0x8000000000000000}, /* infinities */
	{.sign_exp = 0xffff, .frac = 0x8000000000000000},
	{.sign_exp = 0x7fff, .frac = 0xc000000000000000}, /* quiet NaNs */
	{.sign_exp = 0xffff, .frac = 0xc000000000000000},
	{.sign_exp = 0x7fff, .frac = 0xc000000012345678},
	{.sign_exp = 0x7fff, .frac = 0xa000000000000000}, /* signalling NaNs */
	{.sign_exp = 0xffff, .frac = 0x8000000000000001},
	{.sign_exp = 0x7fff, .frac = 0}, /* pseudo-infinity, pseudo-NaN */
	{.sign_exp = 0x7fff, .frac = 0x4000000000000000},
	{.sign_exp = 0x4000, .frac = 0}, /* unnormals */
	{.sign_exp = 0xbfff, .frac = 0x4000000000000000},
};

uint64_t isa_boundary(struct isa_random *r, unsigned bytes)
{
	uint64_t value;

	switch (isa_below(r, 4)) {
	case 0:
		value = isa_random(r);
		break;
	case 1: /* a random number of a random length */
		value = isa_random(r) >> isa_below(r, 64);
		break;
	default:
		value = integers[isa_below(r, HK_ARRAY_SIZE(integers))];
		break;
	}
	return bytes >= 8 ? value : value & ((UINT64_C(1) << 8 * bytes) - 1);
}

static uint32_t any_single(struct isa_random *r)
{
	uint32_t value = (uint32_t)isa_random(r);

	switch (isa_below(r, 4)) {
	case 0:
		return value;
	case 1: /* near 1, so that sums and products are inexact but no more */
		return (value & 0x80ffffff) + 0x3f000000;
	default:
		return singles[isa_below(r, HK_ARRAY_SIZE(singles))];
	}
}

static uint64_t any_double(struct isa_random *r)
{
	uint64_t value = isa_random(r);

	switch (isa_below(r, 4)) {
	case 0:
		return value;
	case 1:
		return (value & 0x801fffffffffffff) + 0x3fe0000000000000;
	default:
		return doubles[isa_below(r, HK_ARRAY_SIZE(doubles))];
	}
}

static void any_xmm(struct isa_random *r, uint8_t *ret)
{
	unsigned kind = isa_below(r, 4);

	for (unsigned i = 0; i < 4; i++) {
		uint32_t single = any_single(r);
		uint64_t value = kind == 0 ? any_double(r) : isa_boundary(r, 8);

		if (kind == 1) {
			memcpy(ret + 4 * i, &single, 4);
		} else if (i % 2 == 0) {
			value = kind == 2 ? isa_random(r) : value;
			memcpy(ret + 4 * i, &value, 8);
		}
	}
}

static void any_extended(struct isa_random *r, uint8_t *ret)
{
	struct hk_f80 value = extended[isa_below(r, HK_ARRAY_SIZE(extended))];

	switch (isa_below(r, 4)) {
	case 0:
		value.frac = isa_random(r);
		value.sign_exp = (uint16_t)isa_random(r);
		break;
	case 1: /* within 2^-32 and 2^32 */
		value.frac = isa_random(r) | UINT64_C(1) << 63;
		value.sign_exp = (uint16_t)(0x3fdf + isa_below(r, 64) + (isa_below(r, 2) << 15));
		break;
	case 2: /* an integer, or something with few bits */
		value.frac = (isa_random(r) << isa_below(r, 64)) | UINT64_C(1) << 63;
		value.sign_exp = (uint16_t)(0x3fff + isa_below(r, 64) + (isa_below(r, 2) << 15));
		break;
	default:
		break;
	}
	memcpy(ret, &value.frac, 8);
	memcpy(ret + 8, &value.sign_exp, 2);
}

void isa_gen_values(struct isa_random *r, struct isa_state *state)
{
	uint8_t *fx = state->fx;
	uint16_t fcw = 0x37f, fsw = (uint16_t)(isa_below(r, 8) << 11);
	uint16_t mxcsr = 0x1f80;

	for (unsigned i = 0; i < HK_GPR_COUNT; i++) {
		state->gpr[i] = isa_boundary(r, 8);
	}
	if (isa_chance(r, 50)) {
		/* Rounding and precision; masks mostly set */
		fcw = (uint16_t)(0x40 | 0x3f | isa_below(r, 4) << 8 | isa_below(r, 4) << 10);
		if (isa_chance(r, 25)) {
			fcw &= (uint16_t)~isa_below(r, 64);
		}
	}
	if (isa_chance(r, 30)) {
		fsw |= (uint16_t)(isa_random(r) & 0x4700); /* condition codes */
		fsw |= (uint16_t)(isa_below(r, 128) & fcw & 0x3f);
	}
	if ((fcw & 0x3f) != 0x3f && isa_chance(r, 20)) { /* an exception waits */
		fsw |= (uint16_t)(isa_below(r, 64) & ~fcw);
		fsw |= (fsw & ~fcw & 0x3f) != 0 ? 0x8080 : 0;
	}
	if (isa_chance(r, 40)) {
		mxcsr = (uint16_t)(isa_random(r) & 0xe07f) | 0x1f80;
		if (isa_chance(r, 25)) {
			mxcsr &= (uint16_t) ~(isa_below(r, 64) << 7);
		}
	}
	memset(fx, 0, sizeof(state->fx));
	isa_put16(fx + ISA_FX_FCW, fcw);
	isa_put16(fx + ISA_FX_FSW, fsw);
	fx[ISA_FX_FTW] = isa_chance(r, 60) ? 0xff : (uint8_t)isa_random(r);
	isa_put16(fx + ISA_FX_MXCSR, mxcsr);
	for (unsigned i = 0; i < 8; i++) {
		any_extended(r, fx + ISA_FX_ST + 16 * i);
	}
	for (unsigned i = 0; i < 16; i++) {
		any_xmm(r, fx + ISA_FX_XMM + 16 * i);
	}
}

void isa_memory_fill(uint64_t seed, uint8_t *ret_bytes, unsigned len)
{
	/* Random with much of what registers hold, in one pass: this runs twice a case. */
	static uint8_t pool[4 * 4096];
	static bool filled;

	if (!filled) {
		struct isa_random r = {.state = 0};

		for (unsigned i = 0; i < sizeof(pool); i += 16) {
			if (isa_chance(&r, 25)) {
				any_extended(&r, pool + i);
				pool[i + 10] = 0;
			} else {
				any_xmm(&r, pool + i);
			}
		}
		filled = true;
	}
	/* A different stretch for every seed; whole 16 bytes, so that numbers stay aligned. */
	memcpy(ret_bytes, pool + (seed % 256) * 16, len);
}
