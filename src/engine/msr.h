/* SPDX-License-Identifier: ISC */
/* Model-specific registers by name. Sources: Intel SDM vol. 4; Linux asm/kvm_para.h for KVM's own.
 */
#ifndef HK_ENGINE_MSR_H
#define HK_ENGINE_MSR_H

#include <stdint.h>

enum {
	HK_MSR_TSC = 0x10,
	HK_MSR_APIC_BASE = 0x1b,
	HK_MSR_TSC_ADJUST = 0x3b,
	HK_MSR_MICROCODE_REVISION = 0x8b,
	HK_MSR_PLATFORM_INFO = 0xce,
	HK_MSR_ARCH_CAPABILITIES = 0x10a,
	HK_MSR_SYSENTER_CS = 0x174,
	HK_MSR_SYSENTER_ESP = 0x175,
	HK_MSR_SYSENTER_EIP = 0x176,
	HK_MSR_MCG_STATUS = 0x17a,
	HK_MSR_MISC_ENABLE = 0x1a0,
	HK_MSR_MTRR_PHYS_FIRST = 0x200, /* base and mask in turn */
	HK_MSR_MTRR_PHYS_LAST = 0x20f,
	HK_MSR_PAT = 0x277,
	HK_MSR_MTRR_DEF_TYPE = 0x2ff,
	HK_MSR_MC0_CTL = 0x400,
	HK_MSR_MC0_STATUS = 0x401,
	HK_MSR_MC0_ADDR = 0x402,
	HK_MSR_MC0_MISC = 0x403,
	HK_MSR_TSC_DEADLINE = 0x6e0,
	HK_MSR_KVM_WALL_CLOCK = 0x4b564d00,
	HK_MSR_KVM_SYSTEM_TIME = 0x4b564d01,
	HK_MSR_KVM_PV_EOI = 0x4b564d04,
};
#define HK_MSR_STAR           0xc0000081u
#define HK_MSR_LSTAR          0xc0000082u
#define HK_MSR_CSTAR          0xc0000083u
#define HK_MSR_SYSCALL_MASK   0xc0000084u
#define HK_MSR_KERNEL_GS_BASE 0xc0000102u
#define HK_MSR_TSC_AUX        0xc0000103u

/* IA32_MCG_CAP of every model: one bank, nothing else. */
#define HK_MCG_CAP UINT64_C(1)

/* Values the machine sets before the first instruction. */
#define HK_MTRR_DEF_TYPE_ENABLED_WB UINT64_C(0x806)
#define HK_MISC_ENABLE_FAST_STRINGS UINT64_C(1)

/**
 * hk_state_msrs() - the MSRs that are part of a vCPU's state, in the order in which they are to be
 * set
 *
 * TSC comes before the deadline that is measured in it, the clock's page after the TSC.
 */
const uint32_t *hk_state_msrs(unsigned *ret_count);

#endif
