/* SPDX-License-Identifier: ISC */
/*
 * Packed integer arithmetic on 8 bytes (MMX) or 16 (SSE): what is the same for both.
 *
 * Each operation is a function of destination, source and width, named after the instruction. They
 * are plain loops of a constant count, which compilers turn into vector instructions of the host.
 * The two operands never overlap. Signed shifts right are arithmetic, as gcc and clang define them.
 *
 * At the end stand lists of them, from which mmx.c and sse_int.c make the handlers.
 *
 * Source: Intel SDM vol. 2, "Operation" of each instruction.
 */
#ifndef HK_ENGINE_SOFT_EXEC_PACKED_H
#define HK_ENGINE_SOFT_EXEC_PACKED_H

#include "engine/soft/exec/simd.h"

static inline int hk_clamp(int v, int low, int high)
{
	return v < low ? low : v > high ? high : v;
}

static inline int8_t hk_sat_s8(int v)
{
	return (int8_t)hk_clamp(v, INT8_MIN, INT8_MAX);
}

static inline uint8_t hk_sat_u8(int v)
{
	return (uint8_t)hk_clamp(v, 0, UINT8_MAX);
}

static inline int16_t hk_sat_s16(int v)
{
	return (int16_t)hk_clamp(v, INT16_MIN, INT16_MAX);
}

static inline uint16_t hk_sat_u16(int v)
{
	return (uint16_t)hk_clamp(v, 0, UINT16_MAX);
}

#define HK_LANES(bytes, type) ((bytes) / sizeof((union hk_xmm){.u64 = {0, 0}}.type[0]))

/* Element by element: x of the destination, y of the source. */
#define HK_LANEWISE(name, type, expr) \
	HK_INLINE void hk_simd_##name(union hk_xmm *d, const union hk_xmm *s, unsigned bytes) \
	{ \
		for (unsigned i = 0; i < HK_LANES(bytes, type); i++) { \
			const __typeof__(d->type[0]) x = d->type[i], y = s->type[i]; \
\
			(void)x; \
			d->type[i] = (__typeof__(d->type[0]))(expr); \
		} \
	}

/* Pairs (x, y) of neighbours of the destination, then of the source. */
#define HK_HORIZONTAL(name, type, expr) \
	HK_INLINE void hk_simd_##name(union hk_xmm *d, const union hk_xmm *s, unsigned bytes) \
	{ \
		const unsigned half = HK_LANES(bytes, type) / 2; \
		union hk_xmm r; \
\
		for (unsigned i = 0; i < 2 * half; i++) { \
			const union hk_xmm *from = i < half ? d : s; \
			const unsigned at = 2 * (i < half ? i : i - half); \
			const __typeof__(d->type[0]) x = from->type[at], y = from->type[at + 1]; \
\
			r.type[i] = (__typeof__(d->type[0]))(expr); \
		} \
		__builtin_memcpy(d, &r, bytes); \
	}

/* Narrow the destination's elements, then the source's. */
#define HK_PACK(name, from, to, narrow) \
	HK_INLINE void hk_simd_##name(union hk_xmm *d, const union hk_xmm *s, unsigned bytes) \
	{ \
		const unsigned half = HK_LANES(bytes, from); \
		union hk_xmm r; \
\
		for (unsigned i = 0; i < half; i++) { \
			r.to[i] = narrow(d->from[i]); \
		} \
		for (unsigned i = 0; i < half; i++) { \
			r.to[half + i] = narrow(s->from[i]); \
		} \
		__builtin_memcpy(d, &r, bytes); \
	}

/* Interleave the low or the high halves. */
#define HK_UNPACK(name, type, high) \
	HK_INLINE void hk_simd_##name(union hk_xmm *d, const union hk_xmm *s, unsigned bytes) \
	{ \
		const unsigned half = HK_LANES(bytes, type) / 2; \
		union hk_xmm r; \
\
		for (unsigned i = 0; i < half; i++) { \
			r.type[2 * i] = d->type[i + ((high) ? half : 0)]; \
			r.type[2 * i + 1] = s->type[i + ((high) ? half : 0)]; \
		} \
		__builtin_memcpy(d, &r, bytes); \
	}

/* Shift each element by the same count; from @bits on nothing or just the sign is left. */
#define HK_SHIFT(name, type, bits, operator) \
	HK_INLINE void hk_simd_##name(union hk_xmm *d, uint64_t count, unsigned bytes) \
	{ \
		if (count >= (bits)) { \
			__builtin_memset(d, 0, bytes); \
			return; \
		} \
		for (unsigned i = 0; i < HK_LANES(bytes, type); i++) { \
			d->type[i] = (__typeof__(d->type[0]))(d->type[i] operator(int) count); \
		} \
	}

#define HK_SHIFT_ARITHMETIC(name, type, bits) \
	HK_INLINE void hk_simd_##name(union hk_xmm *d, uint64_t count, unsigned bytes) \
	{ \
		const int by = count < (bits) ? (int)count : (bits)-1; \
\
		for (unsigned i = 0; i < HK_LANES(bytes, type); i++) { \
			d->type[i] = (__typeof__(d->type[0]))(d->type[i] >> by); \
		} \
	}

HK_LANEWISE(pand, u64, x &y)
HK_LANEWISE(pandn, u64, ~x &y)
HK_LANEWISE(por, u64, x | y)
HK_LANEWISE(pxor, u64, x ^ y)

HK_LANEWISE(paddb, u8, x + y)
HK_LANEWISE(paddw, u16, x + y)
HK_LANEWISE(paddd, u32, x + y)
HK_LANEWISE(paddq, u64, x + y)
HK_LANEWISE(paddsb, s8, hk_sat_s8(x + y))
HK_LANEWISE(paddsw, s16, hk_sat_s16(x + y))
HK_LANEWISE(paddusb, u8, hk_sat_u8(x + y))
HK_LANEWISE(paddusw, u16, hk_sat_u16(x + y))
HK_LANEWISE(psubb, u8, x - y)
HK_LANEWISE(psubw, u16, x - y)
HK_LANEWISE(psubd, u32, x - y)
HK_LANEWISE(psubq, u64, x - y)
HK_LANEWISE(psubsb, s8, hk_sat_s8(x - y))
HK_LANEWISE(psubsw, s16, hk_sat_s16(x - y))
HK_LANEWISE(psubusb, u8, x > y ? x - y : 0)
HK_LANEWISE(psubusw, u16, x > y ? x - y : 0)

HK_LANEWISE(pmullw, s16, x *y)
HK_LANEWISE(pmulhw, s16, (x * y) >> 16)
HK_LANEWISE(pmulhuw, u16, ((uint32_t)x * y) >> 16)
HK_LANEWISE(pmulhrsw, s16, (((x * y) >> 14) + 1) >> 1)
HK_LANEWISE(pmuludq, u64, (uint64_t)(uint32_t)x *(uint32_t)y)

HK_LANEWISE(pavgb, u8, (x + y + 1) >> 1)
HK_LANEWISE(pavgw, u16, (x + y + 1) >> 1)
HK_LANEWISE(pminub, u8, x < y ? x : y)
HK_LANEWISE(pmaxub, u8, x > y ? x : y)
HK_LANEWISE(pminsw, s16, x < y ? x : y)
HK_LANEWISE(pmaxsw, s16, x > y ? x : y)

HK_LANEWISE(pcmpeqb, u8, x == y ? -1 : 0)
HK_LANEWISE(pcmpeqw, u16, x == y ? -1 : 0)
HK_LANEWISE(pcmpeqd, u32, x == y ? -1 : 0)
HK_LANEWISE(pcmpgtb, s8, x > y ? -1 : 0)
HK_LANEWISE(pcmpgtw, s16, x > y ? -1 : 0)
HK_LANEWISE(pcmpgtd, s32, x > y ? -1 : 0)

HK_LANEWISE(psignb, s8, y < 0 ? -x : y == 0 ? 0 : x)
HK_LANEWISE(psignw, s16, y < 0 ? -x : y == 0 ? 0 : x)
HK_LANEWISE(psignd, s32, y < 0 ? 0 - (uint32_t)x : y == 0 ? 0 : (uint32_t)x)
HK_LANEWISE(pabsb, s8, y < 0 ? -y : y)
HK_LANEWISE(pabsw, s16, y < 0 ? -y : y)
HK_LANEWISE(pabsd, s32, y < 0 ? 0 - (uint32_t)y : (uint32_t)y)

HK_HORIZONTAL(phaddw, u16, x + y)
HK_HORIZONTAL(phaddd, u32, x + y)
HK_HORIZONTAL(phaddsw, s16, hk_sat_s16(x + y))
HK_HORIZONTAL(phsubw, u16, x - y)
HK_HORIZONTAL(phsubd, u32, x - y)
HK_HORIZONTAL(phsubsw, s16, hk_sat_s16(x - y))

HK_PACK(packsswb, s16, s8, hk_sat_s8)
HK_PACK(packuswb, s16, u8, hk_sat_u8)
HK_PACK(packssdw, s32, s16, hk_sat_s16)

HK_UNPACK(punpcklbw, u8, false)
HK_UNPACK(punpcklwd, u16, false)
HK_UNPACK(punpckldq, u32, false)
HK_UNPACK(punpckhbw, u8, true)
HK_UNPACK(punpckhwd, u16, true)
HK_UNPACK(punpckhdq, u32, true)

HK_SHIFT(psllw, u16, 16, <<)
HK_SHIFT(pslld, u32, 32, <<)
HK_SHIFT(psllq, u64, 64, <<)
HK_SHIFT(psrlw, u16, 16, >>)
HK_SHIFT(psrld, u32, 32, >>)
HK_SHIFT(psrlq, u64, 64, >>)
HK_SHIFT_ARITHMETIC(psraw, s16, 16)
HK_SHIFT_ARITHMETIC(psrad, s32, 32)

HK_INLINE void hk_simd_pmaddwd(union hk_xmm *d, const union hk_xmm *s, unsigned bytes)
{
	for (unsigned i = 0; i < bytes / 4; i++) {
		const uint32_t low = (uint32_t)(d->s16[2 * i] * s->s16[2 * i]);
		const uint32_t high = (uint32_t)(d->s16[2 * i + 1] * s->s16[2 * i + 1]);

		d->u32[i] = low + high;
	}
}

/* Unsigned bytes of the destination times signed ones of the source. */
HK_INLINE void hk_simd_pmaddubsw(union hk_xmm *d, const union hk_xmm *s, unsigned bytes)
{
	for (unsigned i = 0; i < bytes / 2; i++) {
		d->s16[i] = hk_sat_s16(
			d->u8[2 * i] * s->s8[2 * i] + d->u8[2 * i + 1] * s->s8[2 * i + 1]);
	}
}

HK_INLINE void hk_simd_psadbw(union hk_xmm *d, const union hk_xmm *s, unsigned bytes)
{
	for (unsigned i = 0; i < bytes / 8; i++) {
		unsigned sum = 0;

		for (unsigned j = 8 * i; j < 8 * i + 8; j++) {
			sum += d->u8[j] > s->u8[j] ? d->u8[j] - s->u8[j] : s->u8[j] - d->u8[j];
		}
		d->u64[i] = sum;
	}
}

HK_INLINE void hk_simd_pshufb(union hk_xmm *d, const union hk_xmm *s, unsigned bytes)
{
	union hk_xmm r;

	for (unsigned i = 0; i < bytes; i++) {
		const uint8_t value = d->u8[s->u8[i] & (bytes - 1)];

		r.u8[i] = s->s8[i] < 0 ? 0 : value;
	}
	__builtin_memcpy(d, &r, bytes);
}

static inline unsigned __int128 hk_u128(const union hk_xmm *v)
{
	return (unsigned __int128)v->u64[1] << 64 | v->u64[0];
}

static inline union hk_xmm hk_xmm_of(unsigned __int128 v)
{
	return (union hk_xmm){.u64 = {(uint64_t)v, (uint64_t)(v >> 64)}};
}

/* Destination above source, shifted right by @imm bytes. */
HK_INLINE void hk_simd_palignr(union hk_xmm *d, const union hk_xmm *s, unsigned imm, unsigned bytes)
{
	if (bytes == 8) {
		const unsigned __int128 both = (unsigned __int128)d->u64[0] << 64 | s->u64[0];

		d->u64[0] = imm < 16 ? (uint64_t)(both >> 8 * imm) : 0;
	} else if (imm == 0) {
		*d = *s;
	} else if (imm < 16) {
		*d = hk_xmm_of(hk_u128(s) >> 8 * imm | hk_u128(d) << (128 - 8 * imm));
	} else {
		*d = hk_xmm_of(imm < 32 ? hk_u128(d) >> 8 * (imm - 16) : 0);
	}
}

/* clang-format off */

/* Those with a full-width source in both register files. */
#define HK_PACKED_LIST(F) \
	F(pand) F(pandn) F(por) F(pxor) \
	F(paddb) F(paddw) F(paddd) F(paddq) F(paddsb) F(paddsw) F(paddusb) F(paddusw) \
	F(psubb) F(psubw) F(psubd) F(psubq) F(psubsb) F(psubsw) F(psubusb) F(psubusw) \
	F(pmullw) F(pmulhw) F(pmulhuw) F(pmulhrsw) F(pmuludq) F(pmaddwd) F(pmaddubsw) F(psadbw) \
	F(pavgb) F(pavgw) F(pminub) F(pmaxub) F(pminsw) F(pmaxsw) \
	F(pcmpeqb) F(pcmpeqw) F(pcmpeqd) F(pcmpgtb) F(pcmpgtw) F(pcmpgtd) \
	F(psignb) F(psignw) F(psignd) F(pabsb) F(pabsw) F(pabsd) \
	F(phaddw) F(phaddd) F(phaddsw) F(phsubw) F(phsubd) F(phsubsw) \
	F(packsswb) F(packuswb) F(packssdw) F(punpckhbw) F(punpckhwd) F(punpckhdq) F(pshufb)

/* MMX reads just 4 bytes of memory for these. */
#define HK_PACKED_UNPACK_LOW_LIST(F) F(punpcklbw) F(punpcklwd) F(punpckldq)

#define HK_PACKED_SHIFT_LIST(F) \
	F(psllw) F(pslld) F(psllq) F(psrlw) F(psrld) F(psrlq) F(psraw) F(psrad)

/* clang-format on */

#endif
