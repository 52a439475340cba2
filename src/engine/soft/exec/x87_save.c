/* SPDX-License-Identifier: ISC */
/*
 * FXSAVE, FXRSTOR, XSAVE, XRSTOR, LDMXCSR, STMXCSR.
 *
 * The model has no XSAVEOPT, XSAVEC or XSAVES, so images are in the standard format, with x87 and
 * SSE state. Outside 64-bit mode there are eight XMM registers, and the other eight neither move
 * nor change.
 *
 * Source: Intel SDM vol. 1, chapter 13; vol. 2, the instructions' pages.
 */
#include "engine/soft/exec/handlers.h"
#include "engine/soft/fpu/x87.h"
#include "engine/soft/fpu/xsave.h"
#include "engine/soft/sys/segment.h"

static unsigned xmm_bytes(const struct hk_cpu *cpu)
{
	return cpu->mode == HK_CODE_64 ? 16 * 16 : 8 * 16;
}

static bool wide_pointers(const struct hk_insn *insn)
{
	return hk_insn_size(insn) == 3;
}

/* Address of an area of @len bytes. Return: false with the fault noted. */
static bool area(struct hk_cpu *cpu, const struct hk_insn *insn, unsigned len, unsigned align,
	enum hk_access access, uint64_t *ret_va)
{
	if (!hk_mem_va(cpu, insn, len, access, ret_va)) {
		return false;
	}
	if ((*ret_va & (align - 1)) != 0 && hk_canonical(*ret_va)) {
		return hk_fault_code(cpu, HK_VECTOR_GP, 0); /* not canonical comes first: #SS */
	}
	return hk_probe(cpu, *ret_va, len, access);
}

static void mxcsr_to_image(const struct hk_cpu *cpu, uint8_t *image)
{
	static const uint32_t mask = HK_MXCSR_VALID;

	memcpy(image + HK_XSAVE_MXCSR, &cpu->mxcsr, 4);
	memcpy(image + HK_XSAVE_MXCSR + 4, &mask, 4);
}

static bool mxcsr_ok(struct hk_cpu *cpu, uint32_t mxcsr)
{
	return (mxcsr & ~(uint32_t)HK_MXCSR_VALID) == 0 || hk_fault_code(cpu, HK_VECTOR_GP, 0);
}

static uint32_t image_mxcsr(const uint8_t *image)
{
	uint32_t mxcsr;

	memcpy(&mxcsr, image + HK_XSAVE_MXCSR, 4);
	return mxcsr;
}

HK_EXEC(fxsave)
{
	uint8_t image[HK_XSAVE_LEGACY_USED];
	unsigned xmm = xmm_bytes(cpu);
	uint64_t va;

	if (!hk_x87_ok(cpu, false) || !area(cpu, insn, 512, 16, HK_ACCESS_WRITE, &va)) {
		return hk_give_up(cpu, insn);
	}
	hk_x87_to_image(&cpu->x87, wide_pointers(insn), image);
	mxcsr_to_image(cpu, image);
	memcpy(image + HK_XSAVE_XMM, cpu->xmm, xmm);
	if (!hk_store(cpu, va, image, HK_XSAVE_XMM + xmm)) {
		return hk_give_up(cpu, insn);
	}
	return HK_NEXT(cpu, insn);
}

HK_EXEC(fxrstor)
{
	uint8_t image[HK_XSAVE_LEGACY_USED];
	unsigned xmm = xmm_bytes(cpu);
	uint64_t va;

	if (!hk_x87_ok(cpu, false) || !area(cpu, insn, 512, 16, HK_ACCESS_READ, &va) ||
		!hk_load(cpu, va, image, HK_XSAVE_XMM + xmm) ||
		!mxcsr_ok(cpu, image_mxcsr(image))) {
		return hk_give_up(cpu, insn);
	}
	hk_x87_from_image(&cpu->x87, wide_pointers(insn), image);
	cpu->mxcsr = image_mxcsr(image);
	memcpy(cpu->xmm, image + HK_XSAVE_XMM, xmm);
	return HK_NEXT(cpu, insn);
}

static bool xsave_ok(struct hk_cpu *cpu)
{
	if ((cpu->cr4 & HK_CR4_OSXSAVE) == 0) {
		return hk_fault(cpu, HK_VECTOR_UD);
	}
	return (cpu->cr0 & HK_CR0_TS) == 0 || hk_fault(cpu, HK_VECTOR_NM);
}

/* The components asked for in EDX:EAX that are switched on */
static uint64_t requested(const struct hk_cpu *cpu)
{
	return (cpu->gpr[HK_RDX] << 32 | (uint32_t)cpu->gpr[HK_RAX]) & cpu->xcr0;
}

/* Parts of the image that belong to components not asked for are not touched. */
static bool xsave_store(struct hk_cpu *cpu, const struct hk_insn *insn, uint64_t va)
{
	uint8_t image[HK_XSAVE_XMM];
	uint64_t mask = requested(cpu), xstate_bv;

	hk_x87_to_image(&cpu->x87, wide_pointers(insn), image);
	mxcsr_to_image(cpu, image);
	if ((mask & HK_XSTATE_X87) != 0 &&
		(!hk_store(cpu, va, image, HK_XSAVE_MXCSR) ||
			!hk_store(cpu, va + HK_XSAVE_ST, image + HK_XSAVE_ST, 8 * 16))) {
		return false;
	}
	if ((mask & HK_XSTATE_SSE) != 0 &&
		(!hk_store(cpu, va + HK_XSAVE_MXCSR, image + HK_XSAVE_MXCSR, 8) ||
			!hk_store(cpu, va + HK_XSAVE_XMM, cpu->xmm, xmm_bytes(cpu)))) {
		return false;
	}
	if (!hk_load64(cpu, va + HK_XSAVE_HEADER, &xstate_bv)) {
		return false;
	}
	/* Bits outside the request stay, whatever they are. */
	return hk_store64(cpu, va + HK_XSAVE_HEADER, xstate_bv | mask);
}

HK_EXEC(xsave)
{
	uint64_t va;

	if (!xsave_ok(cpu) || !area(cpu, insn, HK_XSAVE_BASE_SIZE, 64, HK_ACCESS_WRITE, &va) ||
		!xsave_store(cpu, insn, va)) {
		return hk_give_up(cpu, insn);
	}
	return HK_NEXT(cpu, insn);
}

HK_EXEC(xrstor)
{
	uint8_t image[HK_XSAVE_BASE_SIZE];
	uint64_t mask = requested(cpu), xstate_bv, va;
	unsigned xmm = xmm_bytes(cpu);

	if (!xsave_ok(cpu) || !area(cpu, insn, sizeof(image), 64, HK_ACCESS_READ, &va) ||
		!hk_load(cpu, va, image, sizeof(image))) {
		return hk_give_up(cpu, insn);
	}
	if (!hk_xsave_header_ok(image + HK_XSAVE_HEADER, cpu->xcr0)) {
		return hk_raise_code(cpu, insn, HK_VECTOR_GP, 0);
	}
	if ((mask & HK_XSTATE_SSE) != 0 && !mxcsr_ok(cpu, image_mxcsr(image))) {
		return hk_give_up(cpu, insn);
	}
	memcpy(&xstate_bv, image + HK_XSAVE_HEADER, 8);
	if ((mask & xstate_bv & HK_XSTATE_X87) != 0) {
		hk_x87_from_image(&cpu->x87, wide_pointers(insn), image);
	} else if ((mask & HK_XSTATE_X87) != 0) {
		memset(&cpu->x87, 0, sizeof(cpu->x87));
		hk_x87_init(&cpu->x87);
	}
	if ((mask & HK_XSTATE_SSE) != 0) {
		/* MXCSR comes from memory even where the registers are reset. */
		cpu->mxcsr = image_mxcsr(image);
		memset(cpu->xmm, 0, xmm);
		if ((xstate_bv & HK_XSTATE_SSE) != 0) {
			memcpy(cpu->xmm, image + HK_XSAVE_XMM, xmm);
		}
	}
	return HK_NEXT(cpu, insn);
}

HK_EXEC(ldmxcsr)
{
	uint32_t value;

	if (!hk_sse_ok(cpu) || !hk_x87_load32(cpu, insn, &value) || !mxcsr_ok(cpu, value)) {
		return hk_give_up(cpu, insn);
	}
	cpu->mxcsr = value;
	return HK_NEXT(cpu, insn);
}

HK_EXEC(stmxcsr)
{
	if (!hk_sse_ok(cpu) || !hk_x87_store_int(cpu, insn, 2, cpu->mxcsr)) {
		return hk_give_up(cpu, insn);
	}
	return HK_NEXT(cpu, insn);
}
