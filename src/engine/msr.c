/* SPDX-License-Identifier: ISC */
/* Which MSRs make up the state of a vCPU: one list for every engine. */
#include "engine/msr.h"

#include "base/util.h"

/* clang-format off */
static const uint32_t state_msrs[] = {
	HK_MSR_TSC_ADJUST, /* before TSC: writing it moves the TSC */
	HK_MSR_TSC, HK_MSR_TSC_AUX,
	HK_MSR_SYSENTER_CS, HK_MSR_SYSENTER_ESP, HK_MSR_SYSENTER_EIP,
	HK_MSR_STAR, HK_MSR_LSTAR, HK_MSR_CSTAR, HK_MSR_SYSCALL_MASK,
	HK_MSR_KERNEL_GS_BASE,
	HK_MSR_PAT, HK_MSR_MISC_ENABLE, HK_MSR_MCG_STATUS,
	HK_MSR_MC0_CTL, HK_MSR_MC0_STATUS, HK_MSR_MC0_ADDR, HK_MSR_MC0_MISC,
	HK_MSR_MTRR_DEF_TYPE,
	/* MTRR base and mask pairs */
	0x200, 0x201, 0x202, 0x203, 0x204, 0x205, 0x206, 0x207,
	0x208, 0x209, 0x20a, 0x20b, 0x20c, 0x20d, 0x20e, 0x20f,
	/* fixed-range MTRRs */
	0x250, 0x258, 0x259, 0x268, 0x269, 0x26a, 0x26b, 0x26c, 0x26d, 0x26e, 0x26f,
	HK_MSR_KVM_WALL_CLOCK, HK_MSR_KVM_SYSTEM_TIME, HK_MSR_KVM_PV_EOI,
	HK_MSR_TSC_DEADLINE, /* after TSC, and after the local APIC */
};
/* clang-format on */

const uint32_t *hk_state_msrs(unsigned *ret_count)
{
	*ret_count = HK_ARRAY_SIZE(state_msrs);
	return state_msrs;
}
