/* SPDX-License-Identifier: ISC */
/*
 * The core's own model-specific registers. What belongs to the local APIC, the clock or the
 * hypervisor is the bus's.
 *
 * Writes are checked as hardware does; a state that was saved from real hardware passes all
 * checks. Machine-check banks hold what is written: nothing here ever reports an error.
 *
 * Limit: DEBUGCTL's last-branch and branch-step bits are taken and do nothing, as under KVM.
 *
 * Source: Intel SDM vol. 4, table 2-2; vol. 3, 11.11.2, 11.12.2, 15.3.
 */
#include "engine/msr.h"

#include "engine/soft/sys/segment.h"

/* Not in engine/msr.h, as no engine saves them under these names */
enum {
	MSR_PLATFORM_ID = 0x17,
	MSR_MTRR_CAP = 0xfe,
	MSR_MCG_CAP = 0x179,
	MSR_DEBUGCTL = 0x1d9,
	MSR_MTRR_FIX_64K = 0x250,
	MSR_MTRR_FIX_16K = 0x258,
	MSR_MTRR_FIX_4K = 0x268,
};
#define MSR_EFER    0xc0000080u
#define MSR_FS_BASE 0xc0000100u
#define MSR_GS_BASE 0xc0000101u

enum {
	MTRR_CAP = 8 | 1 << 8 | 1 << 10, /* variable ranges, fixed ranges, write-combining */
	DEBUGCTL_IGNORED = 3,            /* last-branch records, single-step on branches */
};

/* Memory types of MTRRs: UC, WC, WT, WP, WB; the PAT has UC-, too. */
enum {
	MTRR_TYPES = 1 << 0 | 1 << 1 | 1 << 4 | 1 << 5 | 1 << 6,
	PAT_TYPES = MTRR_TYPES | 1 << 7,
};

/* Are all eight bytes of @value among @types? */
static bool types_ok(uint64_t value, unsigned types)
{
	for (unsigned i = 0; i < 8; i++) {
		unsigned type = value >> (8 * i) & 0xff;

		if (type > 7 || (types >> type & 1) == 0) {
			return false;
		}
	}
	return true;
}

static uint64_t *fixed_mtrr(struct hk_cpu *cpu, uint32_t index)
{
	if (index == MSR_MTRR_FIX_64K) {
		return &cpu->mtrr_fixed[0];
	}
	if (index == MSR_MTRR_FIX_16K || index == MSR_MTRR_FIX_16K + 1) {
		return &cpu->mtrr_fixed[1 + (index - MSR_MTRR_FIX_16K)];
	}
	if (index >= MSR_MTRR_FIX_4K && index < MSR_MTRR_FIX_4K + 8) {
		return &cpu->mtrr_fixed[3 + (index - MSR_MTRR_FIX_4K)];
	}
	return NULL;
}

/*
 * The registers that are one field, read as it is. NULL: @index is none of them.
 */
static uint64_t *field_of(struct hk_cpu *cpu, uint32_t index)
{
	switch (index) {
	case HK_MSR_SYSENTER_CS:
		return &cpu->sysenter_cs;
	case HK_MSR_SYSENTER_ESP:
		return &cpu->sysenter_esp;
	case HK_MSR_SYSENTER_EIP:
		return &cpu->sysenter_eip;
	case HK_MSR_STAR:
		return &cpu->star;
	case HK_MSR_LSTAR:
		return &cpu->lstar;
	case HK_MSR_CSTAR:
		return &cpu->cstar;
	case HK_MSR_SYSCALL_MASK:
		return &cpu->syscall_mask;
	case MSR_FS_BASE:
		return &cpu->seg[HK_FS].base;
	case MSR_GS_BASE:
		return &cpu->seg[HK_GS].base;
	case HK_MSR_KERNEL_GS_BASE:
		return &cpu->kernel_gs_base;
	case HK_MSR_TSC_AUX:
		return &cpu->tsc_aux;
	case HK_MSR_PAT:
		return &cpu->pat;
	case HK_MSR_MISC_ENABLE:
		return &cpu->misc_enable;
	case HK_MSR_MTRR_DEF_TYPE:
		return &cpu->mtrr_def_type;
	case HK_MSR_MCG_STATUS:
		return &cpu->mcg_status;
	case HK_MSR_MC0_CTL:
	case HK_MSR_MC0_STATUS:
	case HK_MSR_MC0_ADDR:
	case HK_MSR_MC0_MISC:
		return &cpu->mc0[index - HK_MSR_MC0_CTL];
	default:
		break;
	}
	if (index >= HK_MSR_MTRR_PHYS_FIRST && index <= HK_MSR_MTRR_PHYS_LAST) {
		return &cpu->mtrr_phys[index - HK_MSR_MTRR_PHYS_FIRST];
	}
	return fixed_mtrr(cpu, index);
}

/* May field_of(@index) become @value? */
static bool field_value_ok(uint32_t index, uint64_t value)
{
	enum { MTRR_VALID = 1 << 11, MTRR_FIXED = 1 << 10 };

	switch (index) {
	case HK_MSR_SYSENTER_CS:
	case HK_MSR_SYSCALL_MASK:
	case HK_MSR_TSC_AUX:
		return value <= UINT32_MAX;
	case HK_MSR_SYSENTER_ESP:
	case HK_MSR_SYSENTER_EIP:
	case HK_MSR_LSTAR:
	case HK_MSR_CSTAR:
	case MSR_FS_BASE:
	case MSR_GS_BASE:
	case HK_MSR_KERNEL_GS_BASE:
		return hk_canonical(value);
	case HK_MSR_PAT:
		return types_ok(value, PAT_TYPES);
	case HK_MSR_MTRR_DEF_TYPE:
		return (value & ~(uint64_t)(0xff | MTRR_FIXED | MTRR_VALID)) == 0 &&
			types_ok(value & 0xff, MTRR_TYPES);
	case HK_MSR_STAR:
	case HK_MSR_MISC_ENABLE:
	case HK_MSR_MCG_STATUS:
	case HK_MSR_MC0_CTL:
	case HK_MSR_MC0_STATUS:
	case HK_MSR_MC0_ADDR:
	case HK_MSR_MC0_MISC:
		return true;
	default:
		break;
	}
	if (index > HK_MSR_MTRR_PHYS_LAST) {
		return types_ok(value, MTRR_TYPES);
	}
	if (index % 2 == 0) { /* base and type */
		return (value & 0xf00) == 0 && types_ok(value & 0xff, MTRR_TYPES);
	}
	return (value & (0xfff & ~MTRR_VALID)) == 0; /* mask */
}

/* Read-only registers. Return: is @index one? */
static bool constant(uint32_t index, uint64_t *ret_value)
{
	const struct hk_cpu_model model = {.base = HK_CPU_HAKO_V2};
	unsigned count;
	const struct hk_msr_value *values = hk_cpu_model_msrs(&model, &count);

	for (unsigned i = 0; i < count; i++) {
		if (values[i].index == index) {
			*ret_value = values[i].value;
			return true;
		}
	}
	switch (index) {
	case MSR_MTRR_CAP:
		*ret_value = MTRR_CAP;
		return true;
	case MSR_MCG_CAP:
		*ret_value = HK_MCG_CAP;
		return true;
	case MSR_PLATFORM_ID:
	case MSR_DEBUGCTL:
		*ret_value = 0;
		return true;
	default:
		return false;
	}
}

bool hk_cpu_msr_read(struct hk_cpu *cpu, uint32_t index, uint64_t *ret_value)
{
	const uint64_t *field = field_of(cpu, index);

	if (field != NULL) {
		*ret_value = *field;
		return true;
	}
	if (index == MSR_EFER) {
		*ret_value = cpu->efer;
		return true;
	}
	return constant(index, ret_value) || cpu->bus->rdmsr(cpu, index, ret_value);
}

bool hk_cpu_msr_write(struct hk_cpu *cpu, uint32_t index, uint64_t value)
{
	uint64_t *field = field_of(cpu, index);
	uint64_t current;

	if (field != NULL) {
		if (!field_value_ok(index, value)) {
			return false;
		}
		*field = value;
		cpu->seg_base[HK_FS] = cpu->seg[HK_FS].base;
		cpu->seg_base[HK_GS] = cpu->seg[HK_GS].base;
		return true;
	}
	switch (index) {
	case MSR_EFER:
		if (!hk_cpu_set_efer(cpu, value)) {
			cpu->event.pending = false; /* the caller's to raise */
			return false;
		}
		return true;
	case HK_MSR_MICROCODE_REVISION:
		return true; /* software writes 0 before it asks */
	case MSR_DEBUGCTL:
		return (value & ~(uint64_t)DEBUGCTL_IGNORED) == 0;
	default:
		break;
	}
	/* A constant takes what it is: restored states contain some. */
	if (constant(index, &current)) {
		return value == current;
	}
	return cpu->bus->wrmsr(cpu, index, value);
}
