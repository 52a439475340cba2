/* SPDX-License-Identifier: ISC */
/* Working out the arithmetic flags; the table is in flags.h. */
#include "engine/soft/flags.h"

static bool overflow(const struct hk_cpu *cpu)
{
	unsigned size = cpu->cc_kind & 3;
	uint64_t res = cpu->cc_res;
	uint64_t src = hk_sign_extend(cpu->cc_src, size);
	uint64_t a;

	switch (cpu->cc_kind & ~3u) {
	case HK_CC_RAW:
		return (cpu->cc_src & HK_FLAG_OF) != 0;
	case HK_CC_ADD:
		a = hk_sign_extend(res - src, size);
		return (int64_t)((a ^ res) & (src ^ res)) < 0;
	case HK_CC_ADC:
		a = hk_sign_extend(res - src - 1, size);
		return (int64_t)((a ^ res) & (src ^ res)) < 0;
	case HK_CC_SUB:
		a = hk_sign_extend(res + src, size);
		return (int64_t)((a ^ src) & (a ^ res)) < 0;
	case HK_CC_SBB:
		a = hk_sign_extend(res + src + 1, size);
		return (int64_t)((a ^ src) & (a ^ res)) < 0;
	case HK_CC_INC:
		return (res & hk_mask(size)) == (hk_mask(size) >> 1) + 1;
	case HK_CC_DEC:
		return (res & hk_mask(size)) == hk_mask(size) >> 1;
	case HK_CC_SHIFT:
		return (cpu->cc_src & HK_CC_BIT_OF) != 0;
	case HK_CC_MUL:
		return cpu->cc_src != 0;
	default:
		return false;
	}
}

static bool parity(uint64_t res)
{
	unsigned low = (unsigned)res & 0xff;

	low ^= low >> 4;
	return (0x9669 >> (low & 15) & 1) != 0;
}

/* Carry out of bit 3: where the operands' bits and the result's differ. */
static bool adjust(const struct hk_cpu *cpu)
{
	uint64_t res = cpu->cc_res;
	uint64_t src = cpu->cc_src;

	switch (cpu->cc_kind & ~3u) {
	case HK_CC_ADD:
		return ((res ^ src ^ (res - src)) & 0x10) != 0;
	case HK_CC_ADC:
		return ((res ^ src ^ (res - src - 1)) & 0x10) != 0;
	case HK_CC_SUB:
		return ((res ^ src ^ (res + src)) & 0x10) != 0;
	case HK_CC_SBB:
		return ((res ^ src ^ (res + src + 1)) & 0x10) != 0;
	case HK_CC_INC:
		return (res & 15) == 0;
	case HK_CC_DEC:
		return (res & 15) == 15;
	case HK_CC_SHIFT:
		return (src & HK_CC_BIT_AF) != 0;
	default:
		return false;
	}
}

static void set_bits(struct hk_cpu *cpu, bool cf, bool of)
{
	cpu->cc_src = (cf ? HK_CC_BIT_CF : 0) | (of ? HK_CC_BIT_OF : 0) |
		(adjust(cpu) ? HK_CC_BIT_AF : 0);
	cpu->cc_kind = HK_CC_SHIFT;
}

void hk_cc_set_cf(struct hk_cpu *cpu, bool cf)
{
	if (cpu->cc_kind < HK_CC_ADD) {
		cpu->cc_src = (cpu->cc_src & ~(uint64_t)HK_FLAG_CF) | cf;
	} else {
		set_bits(cpu, cf, overflow(cpu));
	}
}

void hk_cc_set_cf_of(struct hk_cpu *cpu, bool cf, bool of)
{
	if (cpu->cc_kind < HK_CC_ADD) {
		cpu->cc_src = (cpu->cc_src & ~(uint64_t)(HK_FLAG_CF | HK_FLAG_OF)) | cf |
			(of ? HK_FLAG_OF : 0);
	} else {
		set_bits(cpu, cf, of);
	}
}

uint32_t hk_cc_get(const struct hk_cpu *cpu)
{
	if (cpu->cc_kind < HK_CC_ADD) {
		return (uint32_t)cpu->cc_src;
	}

	uint32_t flags = 0;

	flags |= hk_cc_cf(cpu) ? HK_FLAG_CF : 0;
	flags |= parity(cpu->cc_res) ? HK_FLAG_PF : 0;
	flags |= adjust(cpu) ? HK_FLAG_AF : 0;
	flags |= cpu->cc_res == 0 ? HK_FLAG_ZF : 0;
	flags |= (int64_t)cpu->cc_res < 0 ? HK_FLAG_SF : 0;
	flags |= overflow(cpu) ? HK_FLAG_OF : 0;
	return flags;
}

bool hk_cond_slow(const struct hk_cpu *cpu, unsigned cond)
{
	bool holds;

	switch (cond >> 1) {
	case HK_COND_O >> 1:
		holds = overflow(cpu);
		break;
	case HK_COND_B >> 1:
		holds = hk_cc_cf(cpu);
		break;
	case HK_COND_E >> 1:
		holds = hk_cc_zf(cpu);
		break;
	case HK_COND_BE >> 1:
		holds = hk_cc_zf(cpu) || hk_cc_cf(cpu);
		break;
	case HK_COND_S >> 1:
		holds = hk_cc_sf(cpu);
		break;
	case HK_COND_P >> 1:
		holds = (hk_cc_get(cpu) & HK_FLAG_PF) != 0;
		break;
	case HK_COND_L >> 1:
		holds = hk_cc_sf(cpu) != overflow(cpu);
		break;
	default: /* LE */
		holds = hk_cc_zf(cpu) || hk_cc_sf(cpu) != overflow(cpu);
		break;
	}
	return holds != (cond & 1);
}
