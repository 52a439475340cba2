/* SPDX-License-Identifier: ISC */
/* Control registers, MSRs, CPUID, ports; power-on and the start of other CPUs. */
#include "soft_vm.h"

/* ---- Control registers ---- */

static void control_register_checks(void **state)
{
	static const struct {
		unsigned cr;
		uint64_t set, clear; /* from the value it has */
		bool ok;
	} cases[] = {
		{0, HK_CR0_TS | HK_CR0_MP, 0, true},
		{0, UINT64_C(1) << 32, 0, false},
		{0, 0, HK_CR0_PE, false}, /* PG without PE */
		{0, HK_CR0_NW, 0, false}, /* NW without CD */
		{0, 0, HK_CR0_PG, false}, /* in 64-bit mode */
		{0, 1 << 6, 0, true},     /* reserved, ignored */
		{2, ~UINT64_C(0), 0, true},
		{3, UINT64_C(1) << 39, 0, false},
		{3, UINT64_C(1) << 63, 0, false}, /* without PCIDE */
		{4, 0, HK_CR4_PAE, false},
		{4, HK_CR4_VME, 0, false},        /* CPUID has none */
		{4, UINT64_C(1) << 12, 0, false}, /* 5-level paging */
		{4, UINT64_C(1) << 32, 0, false},
		{4, HK_CR4_PGE | HK_CR4_OSXSAVE | HK_CR4_TSD, 0, true},
		{4, HK_CR4_PCIDE, 0, true},
		{8, 15, 0, true},
		{8, 16, 0, false},
	};

	(void)state;
	for (unsigned i = 0; i < HK_ARRAY_SIZE(cases); i++) {
		vm_start_long(KERNEL_CODE);

		unsigned cr = cases[i].cr;
		uint64_t old = cr == 0 ? vm.cpu.cr0
			: cr == 3      ? vm.cpu.cr3
			: cr == 4      ? vm.cpu.cr4
				       : 0;
		uint64_t value = (old | cases[i].set) & ~cases[i].clear;

		vm.cpu.gpr[HK_RAX] = value;
		RUN((uint8_t)(cr == 8 ? 0x44 : 0x40), 0x0f, 0x22, (uint8_t)(0xc0 | (cr & 7) << 3));
		if (!cases[i].ok) {
			vm_assert_fault(HK_VECTOR_GP, 0);
			continue;
		}
		vm_assert_ran();
		RUN((uint8_t)(cr == 8 ? 0x45 : 0x41), 0x0f, 0x20, (uint8_t)(0xc3 | (cr & 7) << 3));
		vm_assert_ran();
		assert_true(vm.cpu.gpr[HK_R11] == (cr == 0 ? value & ~UINT64_C(0x40) : value));
	}
	vm_start_long(USER_CODE);
	RUN(0x0f, 0x20, 0xc0);
	vm_assert_fault(HK_VECTOR_GP, 0);
	RUN(0x0f, 0x22, 0xc8); /* CR1 */
	vm_assert_fault(HK_VECTOR_UD, 0);
	/* Without the feature the bit is reserved. */
	vm_start_long(KERNEL_CODE);
	assert_true(hk_cpu_set_cr4(&vm.cpu, vm.cpu.cr4 | HK_CR4_SMEP | HK_CR4_SMAP));
	assert_true(hk_cpu_set_cr4(&vm.cpu, vm.cpu.cr4 & ~(HK_CR4_SMEP | HK_CR4_SMAP)));
	vm.cpu.features &= ~(1u << HK_FEAT_SMEP);
	assert_false(hk_cpu_set_cr4(&vm.cpu, vm.cpu.cr4 | HK_CR4_SMEP));
	assert_true(hk_cpu_set_cr3(&vm.cpu, UINT64_C(1) << 38));
	assert_true(hk_cpu_set_cr3(&vm.cpu, PML4));
	/* Contexts: bit 63 is no part of the value; a CR3 with low bits cannot become one. */
	assert_true(hk_cpu_set_cr4(&vm.cpu, vm.cpu.cr4 | HK_CR4_PCIDE));
	assert_true(hk_cpu_set_cr3(&vm.cpu, PML4 | 5 | UINT64_C(1) << 63));
	assert_int_equal(vm.cpu.cr3, PML4 | 5);
	assert_true(hk_cpu_set_cr4(&vm.cpu, vm.cpu.cr4 & ~HK_CR4_PCIDE));
	assert_false(hk_cpu_set_cr4(&vm.cpu, vm.cpu.cr4 | HK_CR4_PCIDE));
}

/* What Linux's trampoline does: SIPI, real mode, protected mode, long mode. */
static void start_of_an_application_processor(void **state)
{
	(void)state;
	vm_start_long(KERNEL_CODE);
	vm.cpu.index = 1;
	vm.cpu.mtrr_def_type = HK_MTRR_DEF_TYPE_ENABLED_WB;
	hk_cpu_init_signal(&vm.cpu);
	assert_int_equal(vm.cpu.activity, HK_CPU_WAIT_SIPI);
	assert_int_equal(vm.cpu.mtrr_def_type, HK_MTRR_DEF_TYPE_ENABLED_WB);
	hk_cpu_startup(&vm.cpu, 0x10);
	vm.cpu.index = 0;
	assert_int_equal(vm.cpu.activity, HK_CPU_RUNNING);
	assert_int_equal(vm.cpu.mode, HK_CODE_16);
	assert_int_equal(vm.cpu.seg_base[HK_CS], CODE);
	assert_int_equal(vm.cpu.rip, 0);

	RUN(0x8c, 0xc8); /* mov ax, cs */
	assert_int_equal(vm.cpu.gpr[HK_RAX], CODE >> 4);
	RUN(0x8e, 0xd8); /* mov ds, ax */
	assert_int_equal(vm.cpu.seg_base[HK_DS], CODE);
	RUN(0x8e, 0xd0); /* mov ss, ax */
	vm_poke(CODE + 0x100, GDT_LIMIT | (uint64_t)GDT << 16, 6);
	RUN(0x66, 0x0f, 0x01, 0x16, 0x00, 0x01); /* lgdtl [0x100] */
	vm_assert_ran();
	assert_int_equal(vm.cpu.gdt.base, GDT);
	vm.cpu.gpr[HK_RAX] = 1;
	RUN(0x0f, 0x01, 0xf0); /* lmsw ax */
	vm_assert_ran();
	assert_int_equal(vm.cpu.mode, HK_CODE_16);
	RUN(0x66, 0xea, 0x00, 0x02, 0x01, 0x00, KERNEL_CODE_32, 0); /* ljmpl */
	vm_assert_ran();
	assert_int_equal(vm.cpu.mode, HK_CODE_32);
	assert_int_equal(vm.cpu.rip, CODE + 0x200);
	assert_int_equal(vm.cpu.seg_base[HK_CS], 0);

	/* LME without PAE must not page. */
	assert_true(hk_cpu_msr_write(&vm.cpu, 0xc0000080, HK_EFER_LME | HK_EFER_NXE));
	assert_true(hk_cpu_set_cr3(&vm.cpu, PML4));
	vm.cpu.gpr[HK_RAX] = vm.cpu.cr0 | HK_CR0_PG;
	RUN(0x0f, 0x22, 0xc0);
	vm_assert_fault(HK_VECTOR_GP, 0);
	assert_true(hk_cpu_set_cr4(&vm.cpu, HK_CR4_PAE));
	RUN(0x0f, 0x22, 0xc0);
	vm_assert_ran();
	assert_true((vm.cpu.efer & HK_EFER_LMA) != 0);
	assert_int_equal(vm.cpu.mode, HK_CODE_32);
	RUN(0xea, 0x00, 0x03, 0x01, 0x00, KERNEL_CODE, 0);
	vm_assert_ran();
	assert_int_equal(vm.cpu.mode, HK_CODE_64);
	/* LME is fixed now; LMA is the CPU's. */
	assert_false(hk_cpu_msr_write(&vm.cpu, 0xc0000080, HK_EFER_NXE));
	assert_true(hk_cpu_msr_write(&vm.cpu, 0xc0000080, HK_EFER_LME));
	assert_int_equal(vm.cpu.efer, HK_EFER_LME | HK_EFER_LMA);
}

static void power_on(void **state)
{
	(void)state;
	hk_cpu_reset(&vm.cpu);
	assert_int_equal(vm.cpu.rip, 0xfff0);
	assert_int_equal(vm.cpu.seg_base[HK_CS], 0xffff0000);
	assert_int_equal(hk_rflags_get(&vm.cpu), 2);
	assert_int_equal(vm.cpu.cr0, 0x60000010);
	assert_int_equal(vm.cpu.gpr[HK_RDX], 0x206a7);
	assert_int_equal(vm.cpu.dr6, 0xffff0ff0);
	assert_int_equal(vm.cpu.mxcsr, 0x1f80);
	assert_int_equal(vm.cpu.mode, HK_CODE_16);
	assert_int_equal(vm.cpu.activity, HK_CPU_RUNNING);
}

static void debug_registers(void **state)
{
	(void)state;
	vm_start_long(KERNEL_CODE);
	vm.cpu.gpr[HK_RAX] = 0xffffffff;
	RUN(0x0f, 0x23, 0xf0); /* DR6 */
	vm_assert_ran();
	assert_int_equal(vm.cpu.dr6, 0xffffeff0 | 0xf);
	RUN(0x0f, 0x23, 0xe8); /* DR5 is DR7 */
	vm_assert_ran();
	assert_int_equal(vm.cpu.dr7, 0xffff2fff);
	vm.cpu.dr7 = 0x400;
	vm.cpu.gpr[HK_RAX] = UINT64_C(1) << 32;
	RUN(0x0f, 0x23, 0xf8);
	vm_assert_fault(HK_VECTOR_GP, 0);
	vm.cpu.cr4 |= HK_CR4_DE;
	RUN(0x0f, 0x21, 0xe0);
	vm_assert_fault(HK_VECTOR_UD, 0);
	vm.cpu.dr7 |= 1 << 13;
	RUN(0x0f, 0x21, 0xf8);
	assert_int_equal(vm.cpu.event.dr6, 1 << 13);
	vm_assert_fault(HK_VECTOR_DB, 0);
	vm.cpu.dr7 = 0x400;
	vm_start_long(USER_CODE);
	RUN(0x0f, 0x21, 0xf8);
	vm_assert_fault(HK_VECTOR_GP, 0);
}

static void invalidations(void **state)
{
	(void)state;
	vm_start_long(KERNEL_CODE);
	vm.cpu.gpr[HK_RDI] = NOT_CANONICAL;
	RUN(0x0f, 0x01, 0x3f); /* INVLPG never faults for its address */
	vm_assert_ran();
	vm.cpu.gpr[HK_RDI] = DATA;
	for (unsigned type = 0; type < 5; type++) {
		vm.cpu.gpr[HK_RAX] = type;
		vm_poke(DATA, 0, 8);
		vm_poke(DATA + 8, CODE, 8);
		RUN(0x66, 0x0f, 0x38, 0x82, 0x07);
		if (type < 4) {
			vm_assert_ran();
		} else {
			vm_assert_fault(HK_VECTOR_GP, 0);
		}
	}
	vm.cpu.gpr[HK_RAX] = 0;
	vm_poke(DATA, 1, 8); /* no contexts without PCIDE */
	RUN(0x66, 0x0f, 0x38, 0x82, 0x07);
	vm_assert_fault(HK_VECTOR_GP, 0);
	vm_poke(DATA, 0, 8);
	vm_poke(DATA + 8, NOT_CANONICAL, 8);
	RUN(0x66, 0x0f, 0x38, 0x82, 0x07);
	vm_assert_fault(HK_VECTOR_GP, 0);
	vm_start_long(USER_CODE);
	RUN(0x0f, 0x01, 0x3f);
	vm_assert_fault(HK_VECTOR_GP, 0);
}

/* ---- MSRs and the rest ---- */

static void state_msrs_read_and_write(void **state)
{
	unsigned count;
	const uint32_t *list = hk_state_msrs(&count);

	(void)state;
	vm_start_long(KERNEL_CODE);
	for (unsigned i = 0; i < count; i++) {
		uint64_t value;

		if (list[i] >= HK_MSR_KVM_WALL_CLOCK && list[i] <= HK_MSR_KVM_PV_EOI) {
			continue; /* the bus's */
		}
		if (list[i] == HK_MSR_TSC || list[i] == HK_MSR_TSC_ADJUST ||
			list[i] == HK_MSR_TSC_DEADLINE) {
			continue;
		}
		assert_true(hk_cpu_msr_read(&vm.cpu, list[i], &value));
		assert_true(hk_cpu_msr_write(&vm.cpu, list[i], value));

		bool mask = list[i] > HK_MSR_MTRR_PHYS_FIRST && list[i] <= HK_MSR_MTRR_PHYS_LAST &&
			list[i] % 2 != 0;
		uint64_t other = mask ? 0x800 : 6; /* a memory type, or anything */

		assert_true(hk_cpu_msr_write(&vm.cpu, list[i], other));
		assert_true(hk_cpu_msr_read(&vm.cpu, list[i], &value));
		assert_int_equal(value, other);
	}
}

static void msr_checks(void **state)
{
	static const struct {
		uint32_t index;
		uint64_t value;
		bool ok;
	} cases[] = {
		{HK_MSR_LSTAR, UINT64_C(0xffff800000000000), true},
		{HK_MSR_LSTAR, NOT_CANONICAL, false},
		{HK_MSR_KERNEL_GS_BASE, NOT_CANONICAL, false},
		{0xc0000100, NOT_CANONICAL, false},
		{HK_MSR_SYSENTER_EIP, NOT_CANONICAL, false},
		{HK_MSR_PAT, UINT64_C(0x0407050600070106), true},
		{HK_MSR_PAT, 2, false},
		{HK_MSR_MTRR_DEF_TYPE, 0xc06, true},
		{HK_MSR_MTRR_DEF_TYPE, 0xc02, false},
		{HK_MSR_MTRR_DEF_TYPE, 0x1006, false},
		{0x200, 0x80000006, true},
		{0x200, 7, false},
		{0x201, 0x7fc0000800, true},
		{0x201, 1, false},
		{0x250, UINT64_C(0x0606060606060606), true},
		{0x26f, UINT64_C(0x0306060606060606), false},
		{0x251, 0, false},
		{HK_MSR_TSC_AUX, UINT64_C(1) << 32, false},
		{HK_MSR_MICROCODE_REVISION, 0, true},
		{HK_MSR_ARCH_CAPABILITIES, 0, false},
		{0x179, 0, false},
		{0x17b, 0, false}, /* no MCG_CTL */
		{0xc0000080, HK_EFER_LME | HK_EFER_SCE, true},
		{0xc0000080, HK_EFER_LME | 1 << 12, false},
		{HK_MSR_TSC, 0, true}, /* the bus's */
		{0x12345, 0, false},
	};
	uint64_t value;

	(void)state;
	vm_start_long(KERNEL_CODE);
	for (unsigned i = 0; i < HK_ARRAY_SIZE(cases); i++) {
		vm.cpu.gpr[HK_RCX] = cases[i].index;
		vm.cpu.gpr[HK_RAX] = (uint32_t)cases[i].value;
		vm.cpu.gpr[HK_RDX] = cases[i].value >> 32;
		RUN(0x0f, 0x30);
		if (cases[i].ok) {
			vm_assert_ran();
		} else {
			vm_assert_fault(HK_VECTOR_GP, 0);
		}
	}
	assert_true(hk_cpu_msr_read(&vm.cpu, HK_MSR_ARCH_CAPABILITIES, &value));
	assert_true(value != 0);
	assert_true(hk_cpu_msr_write(&vm.cpu, HK_MSR_ARCH_CAPABILITIES, value));
	assert_true(hk_cpu_msr_write(&vm.cpu, 0xc0000101, 0x1234000));
	assert_int_equal(vm.cpu.seg_base[HK_GS], 0x1234000);
	vm.cpu.gpr[HK_RCX] = HK_MSR_TSC;
	vm.cpu.gpr[HK_RAX] = vm.cpu.gpr[HK_RDX] = UINT64_MAX;
	RUN(0x0f, 0x32);
	vm_assert_ran();
	assert_int_equal(vm.cpu.gpr[HK_RAX], HK_MSR_TSC);
	assert_int_equal(vm.cpu.gpr[HK_RDX], 0);
	vm_start_long(USER_CODE);
	RUN(0x0f, 0x32);
	vm_assert_fault(HK_VECTOR_GP, 0);
}

static void bases_of_fs_and_gs(void **state)
{
	(void)state;
	vm_start_long(KERNEL_CODE);
	vm.cpu.kernel_gs_base = 0x5000;
	vm.cpu.seg[HK_GS].base = vm.cpu.seg_base[HK_GS] = 0x6000;
	RUN(0x0f, 0x01, 0xf8);
	vm_assert_ran();
	assert_int_equal(vm.cpu.seg_base[HK_GS], 0x5000);
	assert_int_equal(vm.cpu.kernel_gs_base, 0x6000);
	RUN(0xf3, 0x48, 0x0f, 0xae, 0xc0);
	vm_assert_fault(HK_VECTOR_UD, 0); /* CR4 says no */
	vm.cpu.cr4 |= HK_CR4_FSGSBASE;
	vm.cpu.gpr[HK_RAX] = UINT64_C(0xffff800000001234);
	RUN(0xf3, 0x48, 0x0f, 0xae, 0xd0); /* wrfsbase rax */
	vm_assert_ran();
	RUN(0xf3, 0x0f, 0xae, 0xc1); /* rdfsbase ecx */
	assert_int_equal(vm.cpu.gpr[HK_RCX], 0x1234);
	assert_true(vm.cpu.seg_base[HK_FS] == UINT64_C(0xffff800000001234));
	vm.cpu.gpr[HK_RAX] = NOT_CANONICAL;
	RUN(0xf3, 0x48, 0x0f, 0xae, 0xd8); /* wrgsbase rax */
	vm_assert_fault(HK_VECTOR_GP, 0);
	vm_start_long(USER_CODE);
	RUN(0x0f, 0x01, 0xf8);
	vm_assert_fault(HK_VECTOR_GP, 0);
}

static void cpuid_answers(void **state)
{
	static const struct {
		uint32_t function, index;
		uint32_t eax, edx;
	} cases[] = {
		{0, 0, 0xd, 0x49656e69}, {2, 0, 0, 0}, /* in range, not there */
		{0x10, 0, 3, 0},                       /* beyond: as the highest, 0xd */
		{0x80000009, 0, 3, 0}, {0x80000005, 0, 0, 0}, {0x40000001, 0, 8, 0},
		{0x40000005, 0, 3, 0}, {0xb, 5, 0, 7}, /* the APIC id at every level */
	};

	(void)state;
	vm_start_long(USER_CODE);
	for (unsigned i = 0; i < HK_ARRAY_SIZE(cases); i++) {
		vm.cpu.gpr[HK_RAX] = cases[i].function;
		vm.cpu.gpr[HK_RCX] = cases[i].index;
		RUN(0x0f, 0xa2);
		vm_assert_ran();
		assert_int_equal(vm.cpu.gpr[HK_RAX], cases[i].eax);
		assert_int_equal(vm.cpu.gpr[HK_RDX], cases[i].edx);
	}
	vm.cpu.gpr[HK_RAX] = 1;
	RUN(0x0f, 0xa2);
	assert_int_equal(vm.cpu.gpr[HK_RCX], 1 << 26);
	vm.cpu.cr4 |= HK_CR4_OSXSAVE;
	vm.cpu.gpr[HK_RAX] = 1;
	RUN(0x0f, 0xa2);
	assert_int_equal(vm.cpu.gpr[HK_RCX], 3 << 26);
}

static void counters_and_xcr0(void **state)
{
	(void)state;
	vm_start_long(USER_CODE);
	RUN(0x0f, 0x31);
	vm_assert_ran();
	assert_int_equal(vm.cpu.gpr[HK_RAX], 0x55667788);
	assert_int_equal(vm.cpu.gpr[HK_RDX], 0x11223344);
	vm.cpu.tsc_aux = 9;
	RUN(0x0f, 0x01, 0xf9);
	assert_int_equal(vm.cpu.gpr[HK_RCX], 9);
	vm.cpu.cr4 |= HK_CR4_TSD;
	RUN(0x0f, 0x31);
	vm_assert_fault(HK_VECTOR_GP, 0);
	RUN(0x0f, 0x33);
	vm_assert_fault(HK_VECTOR_GP, 0);
	RUN(0x0f, 0x01, 0xd0);
	vm_assert_fault(HK_VECTOR_UD, 0);

	static const struct {
		uint32_t ecx, eax;
		bool ok;
	} cases[] = {{0, 3, true}, {0, 1, true}, {0, 2, false}, {0, 7, false}, {1, 3, false}};

	vm_start_long(KERNEL_CODE);
	vm.cpu.cr4 |= HK_CR4_OSXSAVE;
	for (unsigned i = 0; i < HK_ARRAY_SIZE(cases); i++) {
		vm.cpu.gpr[HK_RCX] = cases[i].ecx;
		vm.cpu.gpr[HK_RAX] = cases[i].eax;
		vm.cpu.gpr[HK_RDX] = 0;
		RUN(0x0f, 0x01, 0xd1);
		if (cases[i].ok) {
			vm_assert_ran();
			assert_int_equal(vm.cpu.xcr0, cases[i].eax);
		} else {
			vm_assert_fault(HK_VECTOR_GP, 0);
		}
	}
}

static void interrupt_flag(void **state)
{
	(void)state;
	vm_start_long(KERNEL_CODE);
	RUN(0xfb);
	vm_assert_ran();
	assert_true((vm.cpu.rflags & HK_FLAG_IF) != 0);
	assert_int_equal(vm.cpu.shadow, 1);
	RUN(0xfb); /* it was set already: no shadow */
	assert_int_equal(vm.cpu.shadow, 0);
	RUN(0xfa);
	assert_int_equal(vm.cpu.rflags & HK_FLAG_IF, 0);
	RUN(0xf4);
	assert_int_equal(vm.cpu.activity, HK_CPU_HALTED);
	vm.cpu.activity = HK_CPU_RUNNING;
	vm_start_long(USER_CODE);
	RUN(0xfa);
	vm_assert_fault(HK_VECTOR_GP, 0);
	RUN(0xf4);
	vm_assert_fault(HK_VECTOR_GP, 0);
	vm.cpu.rflags |= HK_FLAG_IOPL;
	RUN(0xfb);
	vm_assert_ran();
}

static void ports(void **state)
{
	(void)state;
	vm_start_long(KERNEL_CODE);
	vm.cpu.gpr[HK_RAX] = UINT64_C(0xffffffff11223344);
	vm.cpu.gpr[HK_RDX] = 0x3f8;
	RUN(0xee);
	vm_assert_ran();
	assert_int_equal(vm.port, 0x3f8);
	assert_int_equal(vm.port_value, 0x44);
	RUN(0xe7, 0x80);
	assert_int_equal(vm.port, 0x80);
	assert_int_equal(vm.port_value, 0x11223344);
	RUN(0xed);
	assert_int_equal(vm.cpu.gpr[HK_RAX], 0x11223344);
	/* Ring 3 asks the bitmap: port 0x3ff is allowed, 0x400 not. */
	vm_start_long(USER_CODE);
	vm.cpu.gpr[HK_RDX] = 0x3ff;
	RUN(0xee); /* beyond the TSS */
	vm_assert_fault(HK_VECTOR_GP, 0);
	vm.cpu.seg[HK_TR].limit = 0x68 + 0x81;
	vm_poke(TSS + 0x68 + 0x80, 0xff, 1);
	RUN(0xee);
	vm_assert_ran();
	RUN(0x66, 0xef); /* the second byte's port is not */
	vm_assert_fault(HK_VECTOR_GP, 0);
	vm.cpu.rflags |= HK_FLAG_IOPL;
	RUN(0x66, 0xef);
	vm_assert_ran();
}

static void hypercalls_and_access_control(void **state)
{
	(void)state;
	vm_start_long(KERNEL_CODE);
	RUN(0x0f, 0x01, 0xc1);
	vm_assert_ran();
	assert_int_equal(vm.hypercalls, 1);
	vm.cpu.cr4 |= HK_CR4_SMAP;
	hk_cpu_mode_changed(&vm.cpu);
	RUN(0x0f, 0x01, 0xcb);
	vm_assert_ran();
	assert_int_equal(vm.cpu.tlb_kind, HK_TLB_KERNEL_AC);
	RUN(0x0f, 0x01, 0xca);
	assert_int_equal(vm.cpu.tlb_kind, HK_TLB_KERNEL);
	vm_start_long(USER_CODE);
	RUN(0x0f, 0x01, 0xc1);
	vm_assert_ran();
	assert_true(vm.cpu.gpr[HK_RAX] == UINT64_MAX); /* -KVM_EPERM */
	assert_int_equal(vm.hypercalls, 1);
	RUN(0x0f, 0x01, 0xcb);
	vm_assert_fault(HK_VECTOR_UD, 0);
	RUN(0x0f, 0x0b);
	vm_assert_fault(HK_VECTOR_UD, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		VM_TEST(control_register_checks),
		VM_TEST(start_of_an_application_processor),
		VM_TEST(power_on),
		VM_TEST(debug_registers),
		VM_TEST(invalidations),
		VM_TEST(state_msrs_read_and_write),
		VM_TEST(msr_checks),
		VM_TEST(bases_of_fs_and_gs),
		VM_TEST(cpuid_answers),
		VM_TEST(counters_and_xcr0),
		VM_TEST(interrupt_flag),
		VM_TEST(ports),
		VM_TEST(hypercalls_and_access_control),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
