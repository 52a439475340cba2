/* SPDX-License-Identifier: ISC */
/*
 * x87 and SSE state in memory, as FXSAVE and XSAVE lay it out.
 *
 *	0	x87: control, status, tags, opcode, pointers		24 bytes
 *	24	MXCSR, and which of its bits may be set			8
 *	32	ST(0) to ST(7), 16 bytes each				128
 *	160	XMM0 to XMM15						256
 *	416	not touched						96
 *	512	header: XSTATE_BV, XCOMP_BV (0: not compacted), zeros	64
 *
 * Source: Intel SDM vol. 1, 10.5.1, 13.4.
 */
#ifndef HK_ENGINE_SOFT_FPU_XSAVE_H
#define HK_ENGINE_SOFT_FPU_XSAVE_H

#include <stdbool.h>
#include <stdint.h>

#include "engine/soft/cpu.h"

enum {
	HK_XSAVE_MXCSR = 24,
	HK_XSAVE_ST = 32,
	HK_XSAVE_XMM = 160,
	HK_XSAVE_LEGACY_USED = 416, /* of the legacy area */
	HK_XSAVE_HEADER = 512,
	HK_XSAVE_BASE_SIZE = 576, /* legacy area and header */
};

/* State components; bits of XCR0 and XSTATE_BV. */
#define HK_XSTATE_X87 (UINT64_C(1) << 0)
#define HK_XSTATE_SSE (UINT64_C(1) << 1)

/**
 * hk_x87_to_image() / hk_x87_from_image() - bytes 0 to 23 and 32 to 159
 * @wide: FIP and FDP have 64 bits (REX.W), else 32 and a selector each
 */
void hk_x87_to_image(const struct hk_x87 *x87, bool wide, uint8_t image[HK_XSAVE_XMM]);
void hk_x87_from_image(struct hk_x87 *x87, bool wide, const uint8_t image[HK_XSAVE_XMM]);

/** hk_fpu_to_xsave() - all of the x87 and SSE state, standard format, 64-bit pointers */
void hk_fpu_to_xsave(const struct hk_cpu *cpu, uint8_t ret_image[HK_XSAVE_BASE_SIZE]);

/**
 * hk_fpu_from_xsave() - the way back; components that XSTATE_BV does not name get their reset state
 *
 * Return: false where the image is none (compacted, components we do not have, reserved bits of
 * MXCSR or of the header set); nothing has changed then.
 */
bool hk_fpu_from_xsave(struct hk_cpu *cpu, const uint8_t image[HK_XSAVE_BASE_SIZE]);

/**
 * hk_xsave_header_ok() - may XRSTOR use this header?
 * @xcr0: components that are switched on
 */
bool hk_xsave_header_ok(const uint8_t header[64], uint64_t xcr0);

#endif
