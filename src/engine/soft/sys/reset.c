/* SPDX-License-Identifier: ISC */
/*
 * The state of a CPU after power-on, INIT and SIPI.
 *
 * Source: Intel SDM vol. 3, table 9-1 and 8.4.
 */
#include "engine/msr.h"
#include "engine/soft/flags.h"
#include "engine/soft/mmu.h"
#include "engine/soft/run.h"
#include "engine/soft/sys/segment.h"

enum {
	REAL_DATA = 0x93,
	REAL_CODE = 0x9b,
	REAL_LDT = 0x82,
	REAL_TSS = 0x8b,
};

/* What an INIT sets, too */
static void reset_core(struct hk_cpu *cpu)
{
	const struct hk_cpuid_leaf *identity = hk_cpuid_find(cpu->cpuid, 1, 0);
	const struct hk_segment data = {.limit = 0xffff, .attr = REAL_DATA};

	for (unsigned i = 0; i < HK_REG_SLOTS; i++) {
		cpu->gpr[i] = 0;
	}
	cpu->gpr[HK_RDX] = identity != NULL ? identity->eax : 0;
	cpu->rip = 0xfff0;
	hk_rflags_set(cpu, HK_FLAG_FIXED);

	for (unsigned i = 0; i < HK_SEG_COUNT; i++) {
		cpu->seg[i] = data;
	}
	cpu->seg[HK_CS] = (struct hk_segment){
		.base = 0xffff0000,
		.limit = 0xffff,
		.selector = 0xf000,
		.attr = REAL_CODE,
	};
	cpu->seg[HK_LDTR].attr = REAL_LDT;
	cpu->seg[HK_TR].attr = REAL_TSS;
	cpu->gdt = (struct hk_table_reg){.limit = 0xffff};
	cpu->idt = (struct hk_table_reg){.limit = 0xffff};

	cpu->cr0 = (cpu->cr0 & (HK_CR0_CD | HK_CR0_NW)) | HK_CR0_ET;
	cpu->cr2 = cpu->cr3 = cpu->cr4 = 0;
	cpu->efer = 0;
	memset(cpu->dr, 0, sizeof(cpu->dr));
	cpu->dr6 = 0xffff0ff0;
	cpu->dr7 = 0x400;

	cpu->shadow = 0;
	cpu->nmi_masked = false;
	cpu->nmi_waits = false;
	cpu->activity = cpu->index == 0 ? HK_CPU_RUNNING : HK_CPU_WAIT_SIPI;
	cpu->event = (struct hk_cpu_event){0};
	cpu->failed = false;
	hk_tlb_flush(cpu, true);
	hk_cpu_mode_changed(cpu);
}

void hk_cpu_reset(struct hk_cpu *cpu)
{
	cpu->cr0 = HK_CR0_CD | HK_CR0_NW;
	cpu->xcr0 = 1;
	cpu->star = cpu->lstar = cpu->cstar = cpu->syscall_mask = 0;
	cpu->kernel_gs_base = 0;
	cpu->sysenter_cs = cpu->sysenter_esp = cpu->sysenter_eip = 0;
	cpu->pat = UINT64_C(0x0007040600070406);
	cpu->misc_enable = HK_MISC_ENABLE_FAST_STRINGS;
	cpu->mtrr_def_type = 0;
	memset(cpu->mtrr_phys, 0, sizeof(cpu->mtrr_phys));
	memset(cpu->mtrr_fixed, 0, sizeof(cpu->mtrr_fixed));
	cpu->mcg_status = 0;
	memset(cpu->mc0, 0, sizeof(cpu->mc0));
	cpu->tsc_aux = 0;

	memset(cpu->xmm, 0, sizeof(cpu->xmm));
	cpu->mxcsr = 0x1f80;
	cpu->x87 = (struct hk_x87){.fcw = 0x40};
	reset_core(cpu);
}

void hk_cpu_init_signal(struct hk_cpu *cpu)
{
	reset_core(cpu);
}

void hk_cpu_startup(struct hk_cpu *cpu, uint8_t vector)
{
	cpu->seg[HK_CS].selector = (uint16_t)(vector << 8);
	cpu->seg[HK_CS].base = (uint32_t)vector << 12;
	cpu->rip = 0;
	cpu->activity = HK_CPU_RUNNING;
	hk_cpu_mode_changed(cpu);
}
