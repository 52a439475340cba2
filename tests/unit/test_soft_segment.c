/* SPDX-License-Identifier: ISC */
/*
 * Segment loads, and what a kernel's entry and exit paths are made of: far transfers, IRET,
 * SYSCALL, SYSENTER.
 */
#include "soft_vm.h"

/* ---- Segments ---- */

static void segment_loads(void **state)
{
	static const struct {
		unsigned start; /* CS, protected mode */
		enum hk_seg seg;
		unsigned selector;
		int vector; /* -1: works */
		uint32_t code;
	} cases[] = {
		{KERNEL_CODE_32, HK_DS, KERNEL_DATA, -1, 0},
		{KERNEL_CODE_32, HK_DS, USER_DATA, -1, 0},
		{KERNEL_CODE_32, HK_DS, READ_ONLY, -1, 0},
		{KERNEL_CODE_32, HK_DS, KERNEL_CODE_32, -1, 0}, /* readable code */
		{KERNEL_CODE_32, HK_DS, 3, -1, 0},              /* null, with any RPL */
		{KERNEL_CODE_32, HK_DS, IN_LDT, -1, 0},
		{KERNEL_CODE_32, HK_DS, 0x10 | 4, HK_VECTOR_GP, 0x10 | 4}, /* beyond the LDT */
		{KERNEL_CODE_32, HK_DS, EXECUTE_ONLY, HK_VECTOR_GP, EXECUTE_ONLY},
		{KERNEL_CODE_32, HK_DS, TASK, HK_VECTOR_GP, TASK},
		{KERNEL_CODE_32, HK_DS, BEYOND, HK_VECTOR_GP, BEYOND},
		{KERNEL_CODE_32, HK_DS, ABSENT_DATA, HK_VECTOR_NP, ABSENT_DATA},
		{KERNEL_CODE_32, HK_DS, KERNEL_DATA | 3, HK_VECTOR_GP, KERNEL_DATA},
		{USER_CODE_32, HK_DS, KERNEL_DATA, HK_VECTOR_GP, KERNEL_DATA},
		{USER_CODE_32, HK_DS, CONFORMING, -1, 0},
		{USER_CODE_32, HK_DS, USER_ABSENT, HK_VECTOR_NP, USER_ABSENT & ~3},
		{KERNEL_CODE_32, HK_SS, KERNEL_DATA, -1, 0},
		{KERNEL_CODE_32, HK_SS, 0, HK_VECTOR_GP, 0},
		{KERNEL_CODE_32, HK_SS, USER_DATA, HK_VECTOR_GP, USER_DATA & ~3},
		{KERNEL_CODE_32, HK_SS, KERNEL_DATA | 3, HK_VECTOR_GP, KERNEL_DATA},
		{KERNEL_CODE_32, HK_SS, READ_ONLY, HK_VECTOR_GP, READ_ONLY},
		{KERNEL_CODE_32, HK_SS, ABSENT_DATA, HK_VECTOR_SS, ABSENT_DATA},
		{USER_CODE_32, HK_SS, USER_ABSENT, HK_VECTOR_SS, USER_ABSENT & ~3},
		{USER_CODE_32, HK_SS, USER_DATA, -1, 0},
	};

	(void)state;
	for (unsigned i = 0; i < HK_ARRAY_SIZE(cases); i++) {
		enum hk_seg seg = cases[i].seg;

		vm_start_protected(cases[i].start);
		vm.cpu.seg[HK_LDTR] = (struct hk_segment){.base = LDT, .limit = 0xf};
		vm.cpu.gpr[HK_RAX] = cases[i].selector;
		RUN(0x8e, (uint8_t)(0xc0 | seg << 3));
		if (cases[i].vector >= 0) {
			vm_assert_fault((unsigned)cases[i].vector, cases[i].code);
			assert_int_equal(vm.cpu.rip, CODE);
			continue;
		}
		vm_assert_ran();
		assert_int_equal(vm.cpu.seg[seg].selector, cases[i].selector);
		assert_int_equal(vm.cpu.shadow, seg == HK_SS ? 2 : 0);
		if (cases[i].selector > 4 && (cases[i].selector & 4) == 0) {
			/* The accessed bit is set, here and in memory. */
			assert_true((vm.cpu.seg[seg].attr & 1) != 0);
			assert_true((vm_peek(GDT + (cases[i].selector & ~7u) + 5, 1) & 1) != 0);
		}
	}
	vm_start_protected(KERNEL_CODE_32);
	RUN(0x8e, 0xc8); /* MOV CS */
	vm_assert_fault(HK_VECTOR_UD, 0);
	RUN(0x8e, 0xf0);
	vm_assert_fault(HK_VECTOR_UD, 0);
}

static void far_pointers_into_segments(void **state)
{
	(void)state;
	vm_start_protected(KERNEL_CODE_32);
	vm.cpu.gpr[HK_RDI] = DATA;
	vm_poke(DATA, 0x1234567 | (uint64_t)READ_ONLY << 32, 6);
	RUN(0x0f, 0xb4, 0x07); /* lfs eax, [edi] */
	vm_assert_ran();
	assert_int_equal(vm.cpu.gpr[HK_RAX], 0x1234567);
	assert_int_equal(vm.cpu.seg[HK_FS].selector, READ_ONLY);
	RUN(0xc4, 0x0f); /* les ecx, [edi] */
	vm_assert_ran();
	assert_int_equal(vm.cpu.seg[HK_ES].selector, READ_ONLY);
	assert_false(vm.cpu.flat);
	vm.cpu.gpr[HK_RDX] = 7;
	RUN(0x0f, 0xb2, 0x17); /* lss edx, [edi]: refused, and nothing has changed */
	vm_assert_fault(HK_VECTOR_GP, READ_ONLY);
	assert_int_equal(vm.cpu.gpr[HK_RDX], 7);
	vm_poke(DATA + 4, KERNEL_DATA, 2);
	RUN(0x0f, 0xb2, 0x27); /* lss esp, [edi] */
	vm_assert_ran();
	assert_int_equal(vm.cpu.gpr[HK_RSP], 0x1234567);
	assert_int_equal(vm.cpu.shadow, 0);
}

static void null_stack_segment_of_64_bit_mode(void **state)
{
	(void)state;
	vm_start_long(KERNEL_CODE);
	vm.cpu.gpr[HK_RAX] = 0;
	RUN(0x8e, 0xd0);
	vm_assert_ran();
	assert_true(vm.cpu.seg[HK_SS].unusable);
	assert_int_equal(vm.cpu.cpl, 0);
	vm_start_long(USER_CODE);
	vm.cpu.gpr[HK_RAX] = 3;
	RUN(0x8e, 0xd0);
	vm_assert_fault(HK_VECTOR_GP, 0);
}

static void limits_and_types_of_accesses(void **state)
{
	static const struct {
		enum hk_seg seg;
		uint64_t offset;
		unsigned len;
		enum hk_access access;
		bool ok;
	} cases[] = {
		{HK_DS, 0, 4, HK_ACCESS_WRITE, true},
		{HK_DS, 0xfffffffc, 4, HK_ACCESS_WRITE, true},
		{HK_DS, 0xfffffffd, 4, HK_ACCESS_WRITE, true}, /* goes on at 0 */
		{HK_CS, 0, 4, HK_ACCESS_READ, true},
		{HK_CS, 0, 4, HK_ACCESS_WRITE, false},
		{HK_ES, 0, 1, HK_ACCESS_READ, false}, /* null */
		{HK_FS, 0xfff, 1, HK_ACCESS_READ, false},
		{HK_FS, 0x1000, 1, HK_ACCESS_READ, true},
		{HK_FS, 0xffffffff, 1, HK_ACCESS_WRITE, true},
		{HK_GS, 0xff, 1, HK_ACCESS_READ, true},
		{HK_GS, 0xff, 2, HK_ACCESS_READ, false},
		{HK_GS, 0, 1, HK_ACCESS_WRITE, false},
		{HK_SS, 0xffffffff, 2, HK_ACCESS_READ, true},
		{HK_FS, 0xffffffff, 2, HK_ACCESS_WRITE, false},
		{HK_SS, 0x8000, 1, HK_ACCESS_READ, true},
	};

	(void)state;
	vm_start_protected(KERNEL_CODE_32);
	vm_set_descriptor(ABSENT_DATA, 0xff | UINT64_C(0x90) << 40 | UINT64_C(0x1234) << 16);
	assert_true(hk_load_segment(&vm.cpu, HK_ES, 0));
	assert_true(hk_load_segment(&vm.cpu, HK_FS, DOWN));
	assert_true(hk_load_segment(&vm.cpu, HK_GS, ABSENT_DATA));
	for (unsigned i = 0; i < HK_ARRAY_SIZE(cases); i++) {
		uint64_t va = 0;
		bool ok = hk_linear_slow(
			&vm.cpu, cases[i].seg, cases[i].offset, cases[i].len, cases[i].access, &va);

		assert_int_equal(ok, cases[i].ok);
		if (!ok) {
			vm_assert_fault(cases[i].seg == HK_SS ? HK_VECTOR_SS : HK_VECTOR_GP, 0);
		} else {
			assert_int_equal(
				va, cases[i].offset + (cases[i].seg == HK_GS ? 0x1234 : 0));
		}
	}
}

static void lar_lsl_verr_verw(void **state)
{
	static const struct {
		unsigned start;
		unsigned selector;
		bool lar, lsl, verr, verw;
	} cases[] = {
		{KERNEL_CODE, KERNEL_DATA, true, true, true, true},
		{KERNEL_CODE, KERNEL_CODE, true, true, true, false},
		{KERNEL_CODE, EXECUTE_ONLY, true, true, false, false},
		{KERNEL_CODE, READ_ONLY, true, true, true, false},
		{KERNEL_CODE, ABSENT_DATA, true, true, true, true},
		{KERNEL_CODE, TASK, true, true, false, false},
		{KERNEL_CODE, GATE, true, false, false, false},
		{KERNEL_CODE, 0, false, false, false, false},
		{KERNEL_CODE, BEYOND, false, false, false, false},
		{KERNEL_CODE, KERNEL_DATA | 3, false, false, false, false},
		{USER_CODE, KERNEL_DATA, false, false, false, false},
		{USER_CODE, USER_DATA, true, true, true, true},
		{USER_CODE, CONFORMING, true, true, true, false},
	};

	(void)state;
	for (unsigned i = 0; i < HK_ARRAY_SIZE(cases); i++) {
		vm_start_long(cases[i].start);
		vm_set_descriptor(GATE, UINT64_C(0x8c) << 40 | KERNEL_CODE << 16);
		vm.cpu.gpr[HK_RAX] = cases[i].selector;
		vm.cpu.gpr[HK_RDX] = 77;
		RUN(0x0f, 0x02, 0xd0);
		vm_assert_ran();
		assert_int_equal(hk_cc_zf(&vm.cpu), cases[i].lar);
		assert_int_equal(vm.cpu.gpr[HK_RDX] != 77, cases[i].lar);
		RUN(0x0f, 0x03, 0xd0);
		vm_assert_ran();
		assert_int_equal(hk_cc_zf(&vm.cpu), cases[i].lsl);
		RUN(0x0f, 0x00, 0xe0);
		assert_int_equal(hk_cc_zf(&vm.cpu), cases[i].verr);
		RUN(0x0f, 0x00, 0xe8);
		assert_int_equal(hk_cc_zf(&vm.cpu), cases[i].verw);
	}
	vm_start_long(USER_CODE);
	vm.cpu.gpr[HK_RAX] = USER_DATA;
	RUN(0x0f, 0x02, 0xd0);
	assert_int_equal(vm.cpu.gpr[HK_RDX], 0xcff200);
	RUN(0x0f, 0x03, 0xd0);
	assert_int_equal(vm.cpu.gpr[HK_RDX], 0xffffffff);
}

static void task_and_local_table_registers(void **state)
{
	(void)state;
	vm_start_long(KERNEL_CODE);
	vm_set_descriptor(TASK + 8, 0xffff8000);
	vm.cpu.gpr[HK_RAX] = TASK;
	RUN(0x0f, 0x00, 0xd8);
	vm_assert_ran();
	assert_true(vm.cpu.seg[HK_TR].base == (UINT64_C(0xffff800000000000) | TSS));
	assert_int_equal(vm.cpu.seg[HK_TR].attr, 0x8b);
	assert_int_equal(vm_peek(GDT + TASK + 5, 1), 0x8b);
	RUN(0x0f, 0x00, 0xd8); /* busy now */
	vm_assert_fault(HK_VECTOR_GP, TASK);
	vm.cpu.gpr[HK_RAX] = 0;
	RUN(0x0f, 0x00, 0xd8);
	vm_assert_fault(HK_VECTOR_GP, 0);
	RUN(0x0f, 0x00, 0xd0); /* LLDT of null is fine */
	vm_assert_ran();
	assert_true(vm.cpu.seg[HK_LDTR].unusable);
	vm.cpu.gpr[HK_RAX] = TABLE;
	RUN(0x0f, 0x00, 0xd0);
	vm_assert_ran();
	assert_int_equal(vm.cpu.seg[HK_LDTR].base, LDT);
	vm.cpu.gpr[HK_RAX] = KERNEL_DATA;
	RUN(0x0f, 0x00, 0xd0);
	vm_assert_fault(HK_VECTOR_GP, KERNEL_DATA);
	vm.cpu.gpr[HK_RAX] = TABLE | 4;
	RUN(0x0f, 0x00, 0xd0);
	vm_assert_fault(HK_VECTOR_GP, TABLE | 4);
	vm_set_descriptor(TABLE + 8, 0x8000); /* not canonical */
	vm.cpu.gpr[HK_RAX] = TABLE;
	RUN(0x0f, 0x00, 0xd0);
	vm_assert_fault(HK_VECTOR_GP, TABLE);
	vm_start_long(USER_CODE);
	RUN(0x0f, 0x00, 0xd0);
	vm_assert_fault(HK_VECTOR_GP, 0);
}

static void tables_and_umip(void **state)
{
	(void)state;
	vm_start_long(KERNEL_CODE);
	vm.cpu.gpr[HK_RDI] = DATA;
	vm.cpu.gdt = (struct hk_table_reg){.base = UINT64_C(0xffff800000001000), .limit = 0x7f};
	RUN(0x0f, 0x01, 0x07); /* SGDT */
	vm_assert_ran();
	assert_int_equal(vm_peek(DATA, 2), 0x7f);
	assert_true(vm_peek(DATA + 2, 8) == UINT64_C(0xffff800000001000));
	vm_poke(DATA + 2, 0x5678, 8);
	RUN(0x0f, 0x01, 0x1f); /* LIDT */
	vm_assert_ran();
	assert_int_equal(vm.cpu.idt.base, 0x5678);
	vm_poke(DATA + 2, NOT_CANONICAL, 8);
	RUN(0x0f, 0x01, 0x1f);
	vm_assert_fault(HK_VECTOR_GP, 0);
	vm_start_long(USER_CODE);
	vm.cpu.gpr[HK_RDI] = DATA;
	RUN(0x0f, 0x01, 0x0f); /* SIDT */
	vm_assert_ran();
	vm.cpu.cr4 |= HK_CR4_UMIP;
	static const uint8_t hidden[][3] = {
		{0x0f, 0x01, 0x07}, /* SGDT, SIDT, SMSW, SLDT, STR */
		{0x0f, 0x01, 0x0f},
		{0x0f, 0x01, 0xe0},
		{0x0f, 0x00, 0xc0},
		{0x0f, 0x00, 0xc8},
	};

	for (unsigned i = 0; i < HK_ARRAY_SIZE(hidden); i++) {
		vm_run_bytes(hidden[i], 3);
		vm_assert_fault(HK_VECTOR_GP, 0);
	}
}

/* ---- Far transfers ---- */

static void iret_checks(void **state)
{
	static const struct {
		uint64_t rip, cs, rsp, ss;
		int vector;
		uint32_t code;
	} cases[] = {
		{CODE, KERNEL_CODE, 0x1234, KERNEL_DATA, -1, 0},
		{CODE, KERNEL_CODE, 0x1234, 0, -1, 0},
		{CODE, USER_CODE, 0x1234, USER_DATA, -1, 0},
		{CODE, USER_CODE_32, 0x1234, USER_DATA, -1, 0},
		{CODE, 0, 0, 0, HK_VECTOR_GP, 0},
		{CODE, BEYOND, 0, 0, HK_VECTOR_GP, BEYOND},
		{CODE, KERNEL_DATA, 0, KERNEL_DATA, HK_VECTOR_GP, KERNEL_DATA},
		{CODE, USER_CODE & ~3, 0, USER_DATA, HK_VECTOR_GP, USER_CODE & ~3},
		{CODE, KERNEL_CODE | 3, 0, USER_DATA, HK_VECTOR_GP, KERNEL_CODE},
		{CODE, ABSENT_CODE, 0, KERNEL_DATA, HK_VECTOR_NP, ABSENT_CODE},
		{NOT_CANONICAL, USER_CODE, 0, USER_DATA, HK_VECTOR_GP, 0},
		{UINT64_C(0x100000000) | CODE, USER_CODE_32, 0x1234, USER_DATA, -1,
			0}, /* RIP is cut */
		{CODE, USER_CODE, 0, 3, HK_VECTOR_GP, 0},
		{CODE, USER_CODE, 0, KERNEL_DATA, HK_VECTOR_GP, KERNEL_DATA},
		{CODE, USER_CODE, 0, KERNEL_DATA | 3, HK_VECTOR_GP, KERNEL_DATA},
		{CODE, USER_CODE, 0, READ_ONLY | 3, HK_VECTOR_GP, READ_ONLY},
		{CODE, USER_CODE, 0, USER_ABSENT, HK_VECTOR_SS, USER_ABSENT & ~3},
		{CODE, KERNEL_CODE_32, 0, 0, HK_VECTOR_GP, 0},
	};

	(void)state;
	for (unsigned i = 0; i < HK_ARRAY_SIZE(cases); i++) {
		uint64_t words[5] = {
			cases[i].rip,
			cases[i].cs,
			HK_FLAG_FIXED | HK_FLAG_IF | HK_FLAG_IOPL | HK_FLAG_ID | HK_FLAG_AC,
			cases[i].rsp,
			cases[i].ss,
		};

		vm_start_long(KERNEL_CODE);
		vm.cpu.nmi_masked = true;
		vm_push_words(8, words, 5);
		RUN(0x48, 0xcf);
		assert_false(vm.cpu.nmi_masked);
		if (cases[i].vector >= 0) {
			vm_assert_fault((unsigned)cases[i].vector, cases[i].code);
			assert_int_equal(vm.cpu.gpr[HK_RSP], STACK_NOW - 40);
			assert_int_equal(hk_rflags_get(&vm.cpu), HK_FLAG_FIXED);
			continue;
		}
		vm_assert_ran();
		assert_int_equal(vm.cpu.rip, (uint32_t)cases[i].rip);
		assert_int_equal(vm.cpu.cpl, cases[i].cs & 3);
		assert_int_equal(vm.cpu.gpr[HK_RSP], cases[i].rsp);
		assert_int_equal(vm.cpu.seg[HK_SS].selector, cases[i].ss);
		assert_int_equal(hk_rflags_get(&vm.cpu), words[2]);
	}
	vm_start_long(KERNEL_CODE);
	vm.cpu.rflags |= HK_FLAG_NT;
	RUN(0x48, 0xcf);
	vm_assert_fault(HK_VECTOR_GP, 0);
}

static void iret_of_user_code_keeps_what_is_not_its_own(void **state)
{
	const uint64_t words[5] = {
		CODE, USER_CODE, HK_FLAG_IF | HK_FLAG_IOPL | HK_FLAG_CF, STACK3, USER_DATA};

	(void)state;
	vm_start_long(USER_CODE);
	vm_push_words(8, words, 5);
	RUN(0x48, 0xcf);
	vm_assert_ran();
	assert_int_equal(hk_rflags_get(&vm.cpu), HK_FLAG_FIXED | HK_FLAG_CF);
	/* IRETD in 64-bit mode has five words, too. */
	vm_push_words(4, words, 5);
	RUN(0xcf);
	vm_assert_ran();
	assert_int_equal(vm.cpu.gpr[HK_RSP], STACK3);
}

static void iret_outside_long_mode(void **state)
{
	const uint64_t flat[3] = {CODE, KERNEL_CODE_32, HK_FLAG_IF};
	const uint64_t virtual_8086[3] = {CODE, KERNEL_CODE_32, HK_FLAG_VM};

	(void)state;
	vm_start_protected(KERNEL_CODE_32);
	vm_push_words(4, flat, 3);
	RUN(0xcf);
	vm_assert_ran();
	assert_int_equal(vm.cpu.gpr[HK_RSP], STACK_NOW);
	vm_push_words(4, virtual_8086, 3);
	RUN(0xcf);
	vm_assert_fault(HK_VECTOR_GP, 0);
}

static void syscall_and_sysret(void **state)
{
	(void)state;
	vm_start_long(USER_CODE);
	/* As Linux sets it: SYSCALL's CS, and 16 below the 64-bit CS of SYSRET */
	vm.cpu.star = (uint64_t)KERNEL_CODE << 32 | (uint64_t)USER_CODE_32 << 48;
	vm.cpu.lstar = HANDLERS;
	vm.cpu.syscall_mask = HK_FLAG_IF | HK_FLAG_DF | HK_FLAG_CF;
	hk_rflags_set(&vm.cpu, HK_FLAG_FIXED | HK_FLAG_IF | HK_FLAG_DF | HK_FLAG_CF | HK_FLAG_ZF);
	RUN(0x0f, 0x05);
	vm_assert_ran();
	assert_int_equal(vm.cpu.rip, HANDLERS);
	assert_int_equal(vm.cpu.cpl, 0);
	assert_int_equal(vm.cpu.gpr[HK_RCX], CODE + 2);
	assert_int_equal(vm.cpu.gpr[HK_R11],
		HK_FLAG_FIXED | HK_FLAG_IF | HK_FLAG_DF | HK_FLAG_CF | HK_FLAG_ZF);
	assert_int_equal(hk_rflags_get(&vm.cpu), HK_FLAG_FIXED | HK_FLAG_ZF);
	assert_int_equal(vm.cpu.seg[HK_CS].selector, KERNEL_CODE);
	assert_int_equal(vm.cpu.seg[HK_SS].selector, KERNEL_CODE + 8);

	vm.cpu.gpr[HK_R11] |= HK_FLAG_RF | HK_FLAG_VM;
	RUN(0x48, 0x0f, 0x07);
	vm_assert_ran();
	assert_int_equal(vm.cpu.rip, CODE + 2);
	assert_int_equal(vm.cpu.cpl, 3);
	assert_int_equal(vm.cpu.mode, HK_CODE_64);
	assert_int_equal(vm.cpu.seg[HK_CS].selector, USER_CODE);
	assert_int_equal(vm.cpu.seg[HK_SS].selector, USER_DATA);
	assert_int_equal(hk_rflags_get(&vm.cpu),
		HK_FLAG_FIXED | HK_FLAG_IF | HK_FLAG_DF | HK_FLAG_CF | HK_FLAG_ZF);
	RUN(0x48, 0x0f, 0x07);
	vm_assert_fault(HK_VECTOR_GP, 0);

	/* SYSRET to compatibility mode, where Intel's SYSCALL is none */
	vm_start_long(KERNEL_CODE);
	vm.cpu.gpr[HK_RCX] = UINT64_C(0x500000000) | CODE;
	vm.cpu.gpr[HK_R11] = 0;
	RUN(0x0f, 0x07);
	vm_assert_ran();
	assert_int_equal(vm.cpu.rip, CODE);
	assert_int_equal(vm.cpu.mode, HK_CODE_32);
	assert_int_equal(vm.cpu.seg[HK_CS].selector, USER_CODE_32);
	RUN(0x0f, 0x05);
	vm_assert_fault(HK_VECTOR_UD, 0);

	vm_start_long(KERNEL_CODE);
	vm.cpu.gpr[HK_RCX] = NOT_CANONICAL;
	RUN(0x48, 0x0f, 0x07);
	vm_assert_fault(HK_VECTOR_GP, 0);
	vm.cpu.efer &= ~HK_EFER_SCE;
	RUN(0x0f, 0x05);
	vm_assert_fault(HK_VECTOR_UD, 0);
}

static void sysenter_and_sysexit(void **state)
{
	(void)state;
	vm_start_long(USER_CODE_32);
	RUN(0x0f, 0x34); /* nobody set it up */
	vm_assert_fault(HK_VECTOR_GP, 0);
	vm.cpu.sysenter_cs = KERNEL_CODE;
	vm.cpu.sysenter_esp = STACK0;
	vm.cpu.sysenter_eip = HANDLERS;
	vm.cpu.rflags |= HK_FLAG_IF;
	RUN(0x0f, 0x34);
	vm_assert_ran();
	assert_int_equal(vm.cpu.rip, HANDLERS);
	assert_int_equal(vm.cpu.gpr[HK_RSP], STACK0);
	assert_int_equal(vm.cpu.cpl, 0);
	assert_int_equal(vm.cpu.mode, HK_CODE_64);
	assert_int_equal(vm.cpu.rflags & HK_FLAG_IF, 0);
	vm.cpu.gpr[HK_RCX] = STACK3;
	vm.cpu.gpr[HK_RDX] = CODE;
	RUN(0x0f, 0x35);
	vm_assert_ran();
	assert_int_equal(vm.cpu.rip, CODE);
	assert_int_equal(vm.cpu.gpr[HK_RSP], STACK3);
	assert_int_equal(vm.cpu.mode, HK_CODE_32);
	assert_int_equal(vm.cpu.seg[HK_CS].selector, KERNEL_CODE + 16 + 3);
	assert_int_equal(vm.cpu.seg[HK_SS].selector, KERNEL_CODE + 24 + 3);
	RUN(0x0f, 0x35);
	vm_assert_fault(HK_VECTOR_GP, 0);
}

static void far_jumps(void **state)
{
	static const struct {
		unsigned start;
		unsigned selector;
		uint32_t offset;
		int vector;
		uint32_t code;
	} cases[] = {
		{USER_CODE_32, USER_CODE, CODE, -1, 0}, /* into 64-bit mode */
		{USER_CODE, USER_CODE_32, CODE, -1, 0}, {KERNEL_CODE, KERNEL_CODE_32, CODE, -1, 0},
		{KERNEL_CODE, CONFORMING, CODE, -1, 0}, {USER_CODE, CONFORMING | 3, CODE, -1, 0},
		{USER_CODE, KERNEL_CODE, CODE, HK_VECTOR_GP, KERNEL_CODE},
		{KERNEL_CODE, USER_CODE, CODE, HK_VECTOR_GP, USER_CODE & ~3},
		{KERNEL_CODE, KERNEL_CODE | 3, CODE, HK_VECTOR_GP, KERNEL_CODE},
		{KERNEL_CODE, KERNEL_DATA, CODE, HK_VECTOR_GP, KERNEL_DATA},
		{KERNEL_CODE, ABSENT_CODE, CODE, HK_VECTOR_NP, ABSENT_CODE},
		{KERNEL_CODE, 0, CODE, HK_VECTOR_GP, 0},
		{KERNEL_CODE, TASK, CODE, HK_VECTOR_GP, TASK},
		{KERNEL_CODE, CODE_16, 0x10000, HK_VECTOR_GP, 0}, /* beyond its limit */
	};

	(void)state;
	for (unsigned i = 0; i < HK_ARRAY_SIZE(cases); i++) {
		vm_start_long(cases[i].start);
		vm.cpu.gpr[HK_RDI] = DATA;
		vm_poke(DATA, cases[i].offset, 4);
		vm_poke(DATA + 4, cases[i].selector, 2);
		RUN(0xff, 0x2f);
		if (cases[i].vector >= 0) {
			vm_assert_fault((unsigned)cases[i].vector, cases[i].code);
			continue;
		}
		vm_assert_ran();
		assert_int_equal(vm.cpu.rip, cases[i].offset);
		assert_int_equal(vm.cpu.seg[HK_CS].selector, cases[i].selector);
		assert_int_equal(vm.cpu.cpl, cases[i].start & 3);
		assert_int_equal(vm.cpu.mode,
			(vm.cpu.seg[HK_CS].attr & 0x2000) != 0 ? HK_CODE_64 : HK_CODE_32);
	}
}

static void call_gates(void **state)
{
	(void)state;
	/* 64 bits, from ring 3 and back */
	vm_start_long(USER_CODE);
	vm_set_descriptor(GATE,
		(HANDLERS & 0xffff) | KERNEL_CODE << 16 | UINT64_C(0xec) << 40 |
			(uint64_t)(HANDLERS & 0xffff0000) << 32);
	vm_set_descriptor(GATE + 8, 0);
	vm.cpu.gpr[HK_RDI] = DATA;
	vm_poke(DATA + 4, GATE, 2);
	RUN(0xff, 0x1f);
	vm_assert_ran();
	assert_int_equal(vm.cpu.rip, HANDLERS);
	assert_int_equal(vm.cpu.cpl, 0);
	assert_int_equal(vm.cpu.gpr[HK_RSP], STACK0 - 32);
	assert_int_equal(vm_stack_word(0, 8), CODE + 2);
	assert_int_equal(vm_stack_word(1, 8), USER_CODE);
	assert_int_equal(vm_stack_word(2, 8), STACK_NOW);
	assert_int_equal(vm_stack_word(3, 8), USER_DATA);
	RUN(0x48, 0xcb); /* RETF */
	vm_assert_ran();
	assert_int_equal(vm.cpu.rip, CODE + 2);
	assert_int_equal(vm.cpu.cpl, 3);
	assert_int_equal(vm.cpu.gpr[HK_RSP], STACK_NOW);
	/* JMP does not change rings. */
	RUN(0xff, 0x2f);
	vm_assert_fault(HK_VECTOR_GP, KERNEL_CODE);

	/* 32 bits, with two parameters */
	vm_start_protected(USER_CODE_32);
	vm_set_descriptor(GATE,
		(HANDLERS & 0xffff) | KERNEL_CODE_32 << 16 | UINT64_C(2) << 32 |
			UINT64_C(0xec) << 40 | (uint64_t)(HANDLERS & 0xffff0000) << 32);
	vm_push_words(4, (const uint64_t[]){11, 22}, 2);
	RUN(0x9a, 0, 0, 0, 0, GATE, 0);
	vm_assert_ran();
	assert_int_equal(vm.cpu.gpr[HK_RSP], STACK0 - 24);
	assert_int_equal(vm_stack_word(0, 4), CODE + 7);
	assert_int_equal(vm_stack_word(2, 4), 11);
	assert_int_equal(vm_stack_word(3, 4), 22);
	assert_int_equal(vm_stack_word(4, 4), STACK_NOW - 8);
	RUN(0xca, 8, 0); /* RETF 8: both stacks */
	vm_assert_ran();
	assert_int_equal(vm.cpu.rip, CODE + 7);
	assert_int_equal(vm.cpu.gpr[HK_RSP], STACK_NOW);

	/* A gate for ring 0 only */
	vm_set_descriptor(GATE, KERNEL_CODE_32 << 16 | UINT64_C(0x8c) << 40);
	RUN(0x9a, 0, 0, 0, 0, GATE, 0);
	vm_assert_fault(HK_VECTOR_GP, GATE);
}

static void far_call_and_return_in_a_ring(void **state)
{
	(void)state;
	vm_start_protected(KERNEL_CODE_32);
	RUN(0x9a, 0, 0, 0x10, 0, KERNEL_CODE_32, 0);
	vm_assert_ran();
	assert_int_equal(vm.cpu.rip, 0x100000);
	assert_int_equal(vm.cpu.gpr[HK_RSP], STACK_NOW - 8);
	RUN(0xcb);
	vm_assert_ran();
	assert_int_equal(vm.cpu.rip, CODE + 7);
	assert_int_equal(vm.cpu.gpr[HK_RSP], STACK_NOW);
}

/* CS's limit holds for each byte of an instruction. */
static void code_to_the_limit(void **state)
{
	(void)state;
	vm_start_protected(KERNEL_CODE_32);
	vm.cpu.seg[HK_CS].limit = CODE + 2;
	hk_cpu_flushed(&vm.cpu);
	for (unsigned i = 0; i < 5; i++) {
		vm_poke(CODE + i, i == 2 ? 0x40 : 0x90, 1); /* nop; nop; inc eax; nop */
	}
	vm_poke(HANDLERS + HK_VECTOR_GP, 0xf4, 1);
	vm.cpu.gpr[HK_RAX] = 0;
	vm.cpu.rip = CODE;
	assert_int_equal(hk_cpu_run(&vm.cpu), HK_CPU_IDLE);
	assert_int_equal(vm.cpu.gpr[HK_RAX], 1);
	assert_int_equal(vm.cpu.rip, HANDLERS + HK_VECTOR_GP + 1);
	assert_int_equal(vm_stack_word(1, 4), CODE + 3);

	/* One that goes over it */
	vm_start_protected(KERNEL_CODE_32);
	vm.cpu.seg[HK_CS].limit = CODE;
	RUN(0x04, 0x01); /* add al, 1 */
	vm_assert_fault(HK_VECTOR_GP, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		VM_TEST(segment_loads),
		VM_TEST(far_pointers_into_segments),
		VM_TEST(null_stack_segment_of_64_bit_mode),
		VM_TEST(limits_and_types_of_accesses),
		VM_TEST(lar_lsl_verr_verw),
		VM_TEST(task_and_local_table_registers),
		VM_TEST(tables_and_umip),
		VM_TEST(iret_checks),
		VM_TEST(iret_of_user_code_keeps_what_is_not_its_own),
		VM_TEST(iret_outside_long_mode),
		VM_TEST(syscall_and_sysret),
		VM_TEST(sysenter_and_sysexit),
		VM_TEST(far_jumps),
		VM_TEST(call_gates),
		VM_TEST(far_call_and_return_in_a_ring),
		VM_TEST(code_to_the_limit),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
