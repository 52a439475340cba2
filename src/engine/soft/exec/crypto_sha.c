/* SPDX-License-Identifier: ISC */
/*
 * SHA-1 and SHA-256 in hardware: steps of the rounds and of the message schedules.
 *
 * SHA-1's words stand in a register from the high end: A is element 3, D element 0. In
 * SHA-256 one register holds A, B, E, F, another C, D, G, H, also from the high end.
 *
 * Source: FIPS 180-4; Intel SDM vol. 2, SHA1RNDS4 and its like.
 */
#include "engine/soft/exec/simd.h"

static inline uint32_t rotate_left(uint32_t v, unsigned by)
{
	return v << by | v >> (32 - by);
}

static inline uint32_t rotate_right(uint32_t v, unsigned by)
{
	return v >> by | v << (32 - by);
}

/* Choose y where x, else z. */
static inline uint32_t choose(uint32_t x, uint32_t y, uint32_t z)
{
	return (x & y) ^ (~x & z);
}

static inline uint32_t majority(uint32_t x, uint32_t y, uint32_t z)
{
	return (x & y) ^ (x & z) ^ (y & z);
}

/* SHA-1 */

static inline uint32_t sha1_mix(unsigned stage, uint32_t x, uint32_t y, uint32_t z)
{
	switch (stage) {
	case 0:
		return choose(x, y, z);
	case 2:
		return majority(x, y, z);
	default:
		return x ^ y ^ z;
	}
}

/* Four rounds; E is in the first message word already, and is 0 here. */
HK_INLINE void sha1rnds4(union hk_xmm *d, const union hk_xmm *s, unsigned imm, unsigned bytes)
{
	static const uint32_t constants[4] = {0x5a827999, 0x6ed9eba1, 0x8f1bbcdc, 0xca62c1d6};
	const unsigned stage = imm & 3;
	uint32_t va = d->u32[3], vb = d->u32[2], vc = d->u32[1], vd = d->u32[0], ve = 0;

	for (int i = 3; i >= 0; i--) {
		const uint32_t next = sha1_mix(stage, vb, vc, vd) + rotate_left(va, 5) + s->u32[i] +
			ve + constants[stage];

		ve = vd;
		vd = vc;
		vc = rotate_left(vb, 30);
		vb = va;
		va = next;
	}
	*d = (union hk_xmm){.u32 = {vd, vc, vb, va}};
}

HK_INLINE void sha1nexte(union hk_xmm *d, const union hk_xmm *s, unsigned bytes)
{
	const uint32_t e = rotate_left(d->u32[3], 30);

	*d = *s;
	d->u32[3] += e;
}

HK_INLINE void sha1msg1(union hk_xmm *d, const union hk_xmm *s, unsigned bytes)
{
	const uint64_t low = d->u64[0];

	d->u64[0] ^= s->u64[1];
	d->u64[1] ^= low;
}

HK_INLINE void sha1msg2(union hk_xmm *d, const union hk_xmm *s, unsigned bytes)
{
	for (unsigned i = 3; i > 0; i--) {
		d->u32[i] = rotate_left(d->u32[i] ^ s->u32[i - 1], 1);
	}
	d->u32[0] = rotate_left(d->u32[0] ^ d->u32[3], 1);
}

/* SHA-256 */

/* Two rounds; XMM0 has the message words with the round constants added. */
HK_INLINE bool sha256rnds2(struct hk_cpu *cpu, const struct hk_insn *insn)
{
	union hk_xmm *d = &cpu->xmm[insn->reg];
	const uint64_t words = cpu->xmm[0].u64[0];
	union hk_xmm s;

	if (!hk_sse_ok(cpu) || !hk_sse_rm(cpu, insn, &s)) {
		return false;
	}
	uint32_t va = s.u32[3], vb = s.u32[2], ve = s.u32[1], vf = s.u32[0];
	uint32_t vc = d->u32[3], vd = d->u32[2], vg = d->u32[1], vh = d->u32[0];

	for (unsigned i = 0; i < 2; i++) {
		const uint32_t t1 = vh + choose(ve, vf, vg) + (uint32_t)(words >> 32 * i) +
			(rotate_right(ve, 6) ^ rotate_right(ve, 11) ^ rotate_right(ve, 25));
		const uint32_t t2 = majority(va, vb, vc) +
			(rotate_right(va, 2) ^ rotate_right(va, 13) ^ rotate_right(va, 22));

		vh = vg;
		vg = vf;
		vf = ve;
		ve = vd + t1;
		vd = vc;
		vc = vb;
		vb = va;
		va = t1 + t2;
	}
	*d = (union hk_xmm){.u32 = {vf, ve, vb, va}};
	return true;
}

HK_INLINE void sha256msg1(union hk_xmm *d, const union hk_xmm *s, unsigned bytes)
{
	for (unsigned i = 0; i < 4; i++) {
		const uint32_t w = i < 3 ? d->u32[i + 1] : s->u32[0];

		d->u32[i] += rotate_right(w, 7) ^ rotate_right(w, 18) ^ w >> 3;
	}
}

HK_INLINE void sha256msg2(union hk_xmm *d, const union hk_xmm *s, unsigned bytes)
{
	for (unsigned i = 0; i < 4; i++) {
		const uint32_t w = i < 2 ? s->u32[2 + i] : d->u32[i - 2];

		d->u32[i] += rotate_right(w, 17) ^ rotate_right(w, 19) ^ w >> 10;
	}
}

HK_EXEC_BY(sha1rnds4, hk_sse_binary_imm(cpu, insn, sha1rnds4))
HK_EXEC_BY(sha1nexte, hk_sse_binary(cpu, insn, sha1nexte))
HK_EXEC_BY(sha1msg1, hk_sse_binary(cpu, insn, sha1msg1))
HK_EXEC_BY(sha1msg2, hk_sse_binary(cpu, insn, sha1msg2))
HK_EXEC_BY(sha256rnds2, sha256rnds2(cpu, insn))
HK_EXEC_BY(sha256msg1, hk_sse_binary(cpu, insn, sha256msg1))
HK_EXEC_BY(sha256msg2, hk_sse_binary(cpu, insn, sha256msg2))
