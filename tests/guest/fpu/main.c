/* SPDX-License-Identifier: ISC */
/*
 * x87, SSE and the instructions of x86-64-v2 with AES and carry-less multiplication: known
 * answers; XSAVE of both states and back; and that there is no AVX. (That XSETBV refuses it is not
 * tested: the SVM that QEMU 7.2 emulates lets XSETBV pass the hypervisor by.)
 */
#include "guest.h"

struct vector {
	uint64_t low, high;
};

static bool equal(struct vector a, uint64_t high, uint64_t low)
{
	return a.low == low && a.high == high;
}

#define RUN(result, first, second, instruction) \
	__asm__ volatile("movdqu %1, %%xmm0; movdqu %2, %%xmm1;" instruction "; movdqu %%xmm0, %0" \
			 : "=m"(result) \
			 : "m"(first), "m"(second) \
			 : "memory", "rax", "rcx", "rdx", "cc")

static void check_vectors(void)
{
	/* Sources of the answers: Intel's AES-NI and PCLMULQDQ white papers. */
	struct vector a = {0x63746f725d53475d, 0x7b5b546573745665};
	struct vector key = {0x5b477565726f6e5d, 0x4869285368617929};
	struct vector result;

	RUN(result, a, key, "aesenc %%xmm1, %%xmm0");
	check(equal(result, 0xa8311c2f9fdba3c5, 0x8b104b58ded7e595), "aesenc");
	RUN(result, a, key, "pclmulqdq $0, %%xmm1, %%xmm0");
	check(equal(result, 0x1d4d84c85c3440c0, 0x929633d5d36f0451), "pclmulqdq");
	RUN(result, a, key, "pshufb %%xmm1, %%xmm0");
	check(result.low != a.low, "pshufb");

	uint32_t crc = 0xffffffff;
	uint64_t nine[2] = {0x3837363534333231, '9'};
	uint64_t bits;

	__asm__("crc32q %1, %q0; crc32b %b2, %0" : "+r"(crc) : "m"(nine[0]), "r"((uint8_t)nine[1]));
	check(~crc == 0xe3069283, "crc32");
	__asm__("popcntq %1, %0" : "=r"(bits) : "r"(UINT64_C(0xf0f0000000000001)) : "cc");
	check(bits == 9, "popcnt");
}

static void check_x87(void)
{
	uint64_t result;

	/* sqrt(2)^2 in extended precision, rounded to double: 2 again. */
	__asm__ volatile(
		"fninit; fld1; fadd %%st(0), %%st(0); fsqrt; fmul %%st(0), %%st(0); fstpl %0"
		: "=m"(result)
		:
		: "memory");
	check(result == 0x4000000000000000, "sqrt(2) squared in x87 registers");
	__asm__ volatile("fldpi; fstpl %0" : "=m"(result) : : "memory");
	check(result == 0x400921fb54442d18, "pi");
}

static void check_xsave(void)
{
	static uint8_t image[576] __attribute__((aligned(64)));
	struct vector before = {0x1122334455667788, 0x99aabbccddeeff00};
	struct vector after;
	uint64_t x87;
	uint64_t cr4;

	__asm__ volatile("movq %%cr4, %0" : "=r"(cr4));
	__asm__ volatile("movq %0, %%cr4" : : "r"(cr4 | 1 << 18));
	__asm__ volatile("xsetbv" : : "a"(3), "d"(0), "c"(0));
	check((cpuid(1, 0).ecx & 1 << 27) != 0, "OSXSAVE shows");
	check(cpuid(0xd, 0).ebx == sizeof(image), "size of the XSAVE area");
	__asm__ volatile("movdqu %1, %%xmm15; fninit; fldpi; xsave %0;"
			 "pxor %%xmm15, %%xmm15; fninit; xrstor %0;"
			 "movdqu %%xmm15, %2; fstpl %3"
			 : "+m"(image)
			 : "m"(before), "m"(after), "m"(x87), "a"(3), "d"(0)
			 : "memory");
	check(equal(after, before.high, before.low), "SSE state comes back");
	check(x87 == 0x400921fb54442d18, "x87 state comes back");
}

static volatile unsigned undefined;
static uint64_t resume_at;

HANDLER static void on_undefined(struct frame *frame)
{
	undefined++;
	frame->rip = resume_at;
}

static void check_no_avx(void)
{
	guest_idt_set(6, on_undefined);
	guest_idt_load();
	__asm__ volatile("leaq 1f(%%rip), %%r15; movq %%r15, %0; vaddps %%ymm0, %%ymm0, %%ymm0; 1:"
			 : "+m"(resume_at)
			 :
			 : "r15", "memory");
	check(undefined == 1, "AVX instructions are undefined");
}

void guest_main(void)
{
	check_x87();
	check_vectors();
	check_xsave();
	check_no_avx();
}
