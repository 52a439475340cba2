/* SPDX-License-Identifier: ISC */
/*
 * PCLMULQDQ: multiplication without carries, four bits at a time.
 *
 * Source: Intel SDM vol. 2, PCLMULQDQ.
 */
#include "engine/soft/exec/simd.h"

static void multiply(uint64_t a, uint64_t b, union hk_xmm *ret)
{
	unsigned __int128 times[16]; /* a by every four-bit number */
	unsigned __int128 product = 0;

	times[0] = 0;
	times[1] = a;
	for (unsigned i = 2; i < 16; i += 2) {
		times[i] = times[i / 2] << 1;
		times[i + 1] = times[i] ^ a;
	}
	for (int i = 60; i >= 0; i -= 4) {
		product = product << 4 ^ times[b >> i & 15];
	}
	ret->u64[0] = (uint64_t)product;
	ret->u64[1] = (uint64_t)(product >> 64);
}

/* Bits 0 and 4 of the immediate choose the halves. */
HK_INLINE void pclmulqdq(union hk_xmm *d, const union hk_xmm *s, unsigned imm, unsigned bytes)
{
	multiply(d->u64[imm & 1], s->u64[imm >> 4 & 1], d);
}

HK_EXEC_BY(pclmulqdq, hk_sse_binary_imm(cpu, insn, pclmulqdq))
