/* SPDX-License-Identifier: ISC */
/*
 * FXSAVE and XSAVE images of the x87 and SSE state. The handlers that move them to and from guest
 * memory are in exec/x87_save.c; the engine's saved state has one, too.
 *
 * Every component always counts as in use, which the architecture allows: XSTATE_BV has all bits
 * that were asked for.
 */
#include "engine/soft/fpu/xsave.h"

#include <string.h>

#include "engine/soft/fpu/x87.h"

/* Offsets of the x87 fields. */
enum {
	IMAGE_FCW = 0,
	IMAGE_FSW = 2,
	IMAGE_TAGS = 4, /* one bit a register: not empty */
	IMAGE_FOP = 6,
	IMAGE_FIP = 8,
	IMAGE_FCS = 12,
	IMAGE_FDP = 16,
	IMAGE_FDS = 20,
	FOP_MASK = 0x7ff,
};

void hk_x87_to_image(const struct hk_x87 *x87, bool wide, uint8_t image[HK_XSAVE_XMM])
{
	memset(image, 0, HK_XSAVE_MXCSR);
	memcpy(image + IMAGE_FCW, &x87->fcw, 2);
	memcpy(image + IMAGE_FSW, &x87->fsw, 2);
	image[IMAGE_TAGS] = (uint8_t)~x87->tag_empty;
	memcpy(image + IMAGE_FOP, &x87->fop, 2);
	memcpy(image + IMAGE_FIP, &x87->fip, wide ? 8 : 4);
	memcpy(image + IMAGE_FDP, &x87->fdp, wide ? 8 : 4);
	if (!wide) {
		memcpy(image + IMAGE_FCS, &x87->fcs, 2);
		memcpy(image + IMAGE_FDS, &x87->fds, 2);
	}
	for (unsigned i = 0; i < 8; i++) {
		const struct hk_f80 *st = &x87->r[(hk_x87_top(x87) + i) & 7];
		uint8_t *to = image + HK_XSAVE_ST + 16 * i;

		memset(to, 0, 16);
		memcpy(to, &st->frac, 8);
		memcpy(to + 8, &st->sign_exp, 2);
	}
}

void hk_x87_from_image(struct hk_x87 *x87, bool wide, const uint8_t image[HK_XSAVE_XMM])
{
	memset(x87, 0, sizeof(*x87));
	memcpy(&x87->fcw, image + IMAGE_FCW, 2);
	x87->fcw = (uint16_t)((x87->fcw & HK_FCW_VALID) | HK_FCW_ONE);
	memcpy(&x87->fsw, image + IMAGE_FSW, 2);
	hk_x87_update_es(x87);
	x87->tag_empty = (uint8_t)~image[IMAGE_TAGS];
	memcpy(&x87->fop, image + IMAGE_FOP, 2);
	x87->fop &= FOP_MASK;
	memcpy(&x87->fip, image + IMAGE_FIP, wide ? 8 : 4);
	memcpy(&x87->fdp, image + IMAGE_FDP, wide ? 8 : 4);
	if (!wide) {
		memcpy(&x87->fcs, image + IMAGE_FCS, 2);
		memcpy(&x87->fds, image + IMAGE_FDS, 2);
	}
	for (unsigned i = 0; i < 8; i++) {
		struct hk_f80 *st = hk_x87_st(x87, i);

		memcpy(&st->frac, image + HK_XSAVE_ST + 16 * i, 8);
		memcpy(&st->sign_exp, image + HK_XSAVE_ST + 16 * i + 8, 2);
	}
}

bool hk_xsave_header_ok(const uint8_t header[64], uint64_t xcr0)
{
	uint64_t xstate_bv, reserved[2]; /* XCOMP_BV and eight bytes that must be zero, too */

	memcpy(&xstate_bv, header, 8);
	memcpy(reserved, header + 8, 16);
	return (xstate_bv & ~xcr0) == 0 && (reserved[0] | reserved[1]) == 0;
}

void hk_fpu_to_xsave(const struct hk_cpu *cpu, uint8_t ret_image[HK_XSAVE_BASE_SIZE])
{
	static const uint32_t mask = HK_MXCSR_VALID;
	uint64_t xstate_bv = HK_XSTATE_X87 | HK_XSTATE_SSE;

	memset(ret_image, 0, HK_XSAVE_BASE_SIZE);
	hk_x87_to_image(&cpu->x87, true, ret_image);
	memcpy(ret_image + HK_XSAVE_MXCSR, &cpu->mxcsr, 4);
	memcpy(ret_image + HK_XSAVE_MXCSR + 4, &mask, 4);
	memcpy(ret_image + HK_XSAVE_XMM, cpu->xmm, sizeof(cpu->xmm));
	memcpy(ret_image + HK_XSAVE_HEADER, &xstate_bv, 8);
}

bool hk_fpu_from_xsave(struct hk_cpu *cpu, const uint8_t image[HK_XSAVE_BASE_SIZE])
{
	uint64_t xstate_bv;
	uint32_t mxcsr;

	memcpy(&xstate_bv, image + HK_XSAVE_HEADER, 8);
	memcpy(&mxcsr, image + HK_XSAVE_MXCSR, 4);
	if (!hk_xsave_header_ok(image + HK_XSAVE_HEADER, HK_XSTATE_X87 | HK_XSTATE_SSE) ||
		(mxcsr & ~(uint32_t)HK_MXCSR_VALID) != 0) {
		return false;
	}
	memset(&cpu->x87, 0, sizeof(cpu->x87));
	hk_x87_init(&cpu->x87);
	if ((xstate_bv & HK_XSTATE_X87) != 0) {
		hk_x87_from_image(&cpu->x87, true, image);
	}
	/* MXCSR counts as soon as it differs from its reset value; so do XRSTOR and KVM. */
	cpu->mxcsr = mxcsr;
	memset(cpu->xmm, 0, sizeof(cpu->xmm));
	if ((xstate_bv & HK_XSTATE_SSE) != 0) {
		memcpy(cpu->xmm, image + HK_XSAVE_XMM, sizeof(cpu->xmm));
	}
	return true;
}
