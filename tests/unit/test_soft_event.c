/* SPDX-License-Identifier: ISC */
/* Exceptions and interrupts into the guest: every kind of gate, ring change and error. */
#include "soft_vm.h"

/* ---- Delivery in long mode ---- */

static void long_exception_in_ring_0(void **state)
{
	(void)state;
	vm_start_long(KERNEL_CODE);
	vm.cpu.gpr[HK_RSP] = STACK_NOW - 4; /* to be aligned */
	hk_rflags_set(&vm.cpu,
		HK_FLAG_FIXED | HK_FLAG_IF | HK_FLAG_TF | HK_FLAG_NT | HK_FLAG_CF | HK_FLAG_AC);
	vm_raise(HK_VECTOR_GP, 0x123);
	vm_assert_entered(HK_VECTOR_GP);
	assert_int_equal(vm.cpu.gpr[HK_RSP], STACK_NOW - 16 - 48);
	assert_int_equal(vm_stack_word(0, 8), 0x123);
	assert_int_equal(vm_stack_word(1, 8), CODE);
	assert_int_equal(vm_stack_word(2, 8), KERNEL_CODE);
	assert_int_equal(vm_stack_word(3, 8),
		HK_FLAG_FIXED | HK_FLAG_IF | HK_FLAG_TF | HK_FLAG_NT | HK_FLAG_CF | HK_FLAG_AC |
			HK_FLAG_RF);
	assert_int_equal(vm_stack_word(4, 8), STACK_NOW - 4);
	assert_int_equal(vm_stack_word(5, 8), KERNEL_DATA);
	assert_int_equal(hk_rflags_get(&vm.cpu), HK_FLAG_FIXED | HK_FLAG_CF | HK_FLAG_AC);
	assert_int_equal(vm.cpu.seg[HK_SS].selector, KERNEL_DATA);
}

static void trap_gates_keep_if(void **state)
{
	(void)state;
	vm_start_long(KERNEL_CODE);
	vm_set_gate(HK_VECTOR_DE, KERNEL_CODE, HANDLERS, 0x8f, 0);
	vm.cpu.rflags |= HK_FLAG_IF;
	hk_fault(&vm.cpu, HK_VECTOR_DE);
	hk_deliver_event(&vm.cpu);
	vm_assert_entered(HK_VECTOR_DE);
	assert_int_equal(vm.cpu.gpr[HK_RSP], STACK_NOW - 40);
	assert_true((vm.cpu.rflags & HK_FLAG_IF) != 0);
}

static void long_exception_from_ring_3(void **state)
{
	(void)state;
	vm_start_long(USER_CODE);
	hk_fault_page(&vm.cpu, 0xdead000, 4);
	hk_deliver_event(&vm.cpu);
	vm_assert_entered(HK_VECTOR_PF);
	assert_int_equal(vm.cpu.cr2, 0xdead000);
	assert_int_equal(vm.cpu.cpl, 0);
	assert_int_equal(vm.cpu.tlb_kind, HK_TLB_KERNEL);
	assert_int_equal(vm.cpu.seg[HK_CS].selector, KERNEL_CODE);
	assert_int_equal(vm.cpu.seg[HK_SS].selector, 0);
	assert_true(vm.cpu.seg[HK_SS].unusable);
	assert_int_equal(vm.cpu.gpr[HK_RSP], STACK0 - 48);
	assert_int_equal(vm_stack_word(0, 8), 4);
	assert_int_equal(vm_stack_word(4, 8), STACK_NOW);
	assert_int_equal(vm_stack_word(5, 8), USER_DATA);
	/* And back */
	vm.cpu.gpr[HK_RSP] += 8;
	RUN(0x48, 0xcf);
	vm_assert_ran();
	assert_int_equal(vm.cpu.cpl, 3);
	assert_int_equal(vm.cpu.rip, CODE);
	assert_int_equal(vm.cpu.gpr[HK_RSP], STACK_NOW);
	assert_int_equal(vm.cpu.seg[HK_SS].selector, USER_DATA);
	/* RF has nothing to hold back: it is not kept. */
	assert_int_equal(hk_rflags_get(&vm.cpu), HK_FLAG_FIXED);
}

static void compatibility_mode_interrupted(void **state)
{
	(void)state;
	vm_start_long(USER_CODE_32);
	assert_int_equal(vm.cpu.mode, HK_CODE_32);
	vm.cpu.rflags |= HK_FLAG_IF;
	hk_deliver_interrupt(&vm.cpu, 0x80, false);
	vm_assert_entered(0x80);
	assert_int_equal(vm.cpu.mode, HK_CODE_64);
	assert_int_equal(vm.cpu.gpr[HK_RSP], STACK0 - 40);
	assert_int_equal(vm_stack_word(2, 8), HK_FLAG_FIXED | HK_FLAG_IF); /* no RF: no fault */
	RUN(0x48, 0xcf);
	vm_assert_ran();
	assert_int_equal(vm.cpu.mode, HK_CODE_32);
	assert_int_equal(vm.cpu.stack_size, 2);
	assert_int_equal(vm.cpu.seg[HK_CS].selector, USER_CODE_32);
	assert_int_equal(vm.cpu.gpr[HK_RSP], STACK_NOW);
	assert_true(vm.cpu.flat);
}

static void ist_switches_in_any_ring(void **state)
{
	(void)state;
	vm_start_long(KERNEL_CODE);
	vm_set_gate(HK_VECTOR_NMI, KERNEL_CODE, HANDLERS + HK_VECTOR_NMI, 0x8e, 1);
	hk_deliver_interrupt(&vm.cpu, HK_VECTOR_NMI, true);
	vm_assert_entered(HK_VECTOR_NMI);
	assert_true(vm.cpu.nmi_masked);
	assert_int_equal(vm.cpu.gpr[HK_RSP], STACK_IST - 40);
	assert_int_equal(vm.cpu.seg[HK_SS].selector, KERNEL_DATA);
	RUN(0x48, 0xcf);
	vm_assert_ran();
	assert_false(vm.cpu.nmi_masked);
	assert_int_equal(vm.cpu.gpr[HK_RSP], STACK_NOW);
}

static void conforming_handler_stays_in_its_ring(void **state)
{
	(void)state;
	vm_start_long(USER_CODE);
	vm_set_gate(HK_VECTOR_UD, CONFORMING, HANDLERS + HK_VECTOR_UD, 0x8e, 0);
	hk_fault(&vm.cpu, HK_VECTOR_UD);
	hk_deliver_event(&vm.cpu);
	vm_assert_entered(HK_VECTOR_UD);
	assert_int_equal(vm.cpu.cpl, 3);
	assert_int_equal(vm.cpu.seg[HK_CS].selector, CONFORMING | 3);
	assert_int_equal(vm.cpu.gpr[HK_RSP], STACK_NOW - 40);
}

static void software_interrupts(void **state)
{
	(void)state;
	vm_start_long(USER_CODE);
	RUN(0xcd, 0x80);
	assert_int_equal(vm.cpu.rip, CODE + 2);
	hk_deliver_event(&vm.cpu);
	/* The gate is for ring 0: #GP at the instruction, without EXT. */
	vm_assert_entered(HK_VECTOR_GP);
	assert_int_equal(vm_stack_word(0, 8), 0x80 * 8 + 2);
	assert_int_equal(vm_stack_word(1, 8), CODE);

	vm_start_long(USER_CODE);
	vm_set_gate(0x80, KERNEL_CODE, HANDLERS + 0x80, 0xee, 0);
	RUN(0xcd, 0x80);
	hk_deliver_event(&vm.cpu);
	vm_assert_entered(0x80);
	assert_int_equal(vm_stack_word(0, 8), CODE + 2);
	assert_int_equal(vm_stack_word(2, 8), HK_FLAG_FIXED);

	/* INT 14 is no page fault: no code, CR2 stays, no double fault. */
	vm_start_long(USER_CODE);
	vm.cpu.cr2 = 5;
	vm_set_gate(HK_VECTOR_PF, KERNEL_CODE, HANDLERS + HK_VECTOR_PF, 0x8e, 0);
	RUN(0xcd, 0x0e);
	hk_deliver_event(&vm.cpu);
	vm_assert_entered(HK_VECTOR_GP);
	assert_int_equal(vm.cpu.cr2, 5);

	/* INT1 does not care for the DPL. */
	vm_start_long(USER_CODE);
	RUN(0xf1);
	hk_deliver_event(&vm.cpu);
	vm_assert_entered(HK_VECTOR_DB);
	assert_int_equal(vm_stack_word(0, 8), CODE + 1);

	vm_start_long(USER_CODE);
	vm_set_gate(HK_VECTOR_BP, KERNEL_CODE, HANDLERS + HK_VECTOR_BP, 0xee, 0);
	RUN(0xcc);
	hk_deliver_event(&vm.cpu);
	vm_assert_entered(HK_VECTOR_BP);
	assert_int_equal(vm_stack_word(0, 8), CODE + 1);
}

static void broken_gates_in_long_mode(void **state)
{
	enum { V = 0x30 };
	static const struct {
		unsigned selector;
		uint64_t offset;
		unsigned access;
		unsigned ist;
		unsigned vector;
		uint32_t code;
	} cases[] = {
		{KERNEL_CODE, HANDLERS, 0x0e, 0, HK_VECTOR_NP, V * 8 + 3},
		{KERNEL_CODE, HANDLERS, 0x8c, 0, HK_VECTOR_GP, V * 8 + 3},
		{KERNEL_CODE, HANDLERS, 0x85, 0, HK_VECTOR_GP, V * 8 + 3},
		{KERNEL_CODE, HANDLERS, 0x86, 0, HK_VECTOR_GP, V * 8 + 3}, /* 16 bits */
		{KERNEL_CODE, HANDLERS, 0x9e, 0, HK_VECTOR_GP, V * 8 + 3}, /* S */
		{0, HANDLERS, 0x8e, 0, HK_VECTOR_GP, 1},
		{BEYOND, HANDLERS, 0x8e, 0, HK_VECTOR_GP, BEYOND + 1},
		{KERNEL_DATA, HANDLERS, 0x8e, 0, HK_VECTOR_GP, KERNEL_DATA + 1},
		{KERNEL_CODE_32, HANDLERS, 0x8e, 0, HK_VECTOR_GP, KERNEL_CODE_32 + 1},
		{USER_CODE, HANDLERS, 0x8e, 0, HK_VECTOR_GP, (USER_CODE & ~3) + 1},
		{ABSENT_CODE, HANDLERS, 0x8e, 0, HK_VECTOR_NP, ABSENT_CODE + 1},
		{KERNEL_CODE, NOT_CANONICAL, 0x8e, 0, HK_VECTOR_GP, 1},
		{KERNEL_CODE, HANDLERS, 0x8e, 2, HK_VECTOR_SS, 1},        /* IST2: not canonical */
		{KERNEL_CODE, HANDLERS, 0x8e, 3, HK_VECTOR_PF, 2},        /* IST3: not mapped */
		{KERNEL_CODE, HANDLERS, 0x8e, 7, HK_VECTOR_TS, TASK + 1}, /* TSS too short */
	};

	(void)state;
	for (unsigned i = 0; i < HK_ARRAY_SIZE(cases); i++) {
		vm_start_long(KERNEL_CODE);
		vm_poke(TSS + 44, NOT_CANONICAL + 0x1000, 8);
		vm_poke(TSS + 52, UNMAPPED + 0x1000, 8);
		vm.cpu.seg[HK_TR].limit = 82;
		vm_set_gate(V, cases[i].selector, cases[i].offset, cases[i].access, cases[i].ist);
		hk_deliver_interrupt(&vm.cpu, V, false);
		vm_assert_entered(cases[i].vector);
		assert_int_equal(vm_stack_word(0, 8), cases[i].code);
		assert_int_equal(vm_stack_word(1, 8), CODE);
		assert_true((vm_stack_word(3, 8) & HK_FLAG_RF) != 0);
	}
	vm_start_long(KERNEL_CODE);
	vm.cpu.idt.limit = V * 16 + 14;
	hk_deliver_interrupt(&vm.cpu, V, false);
	vm_assert_entered(HK_VECTOR_GP);
	assert_int_equal(vm_stack_word(0, 8), V * 8 + 3);
}

/* @first cannot be delivered because of @second. What arrives, or -1: shut down. */
static void double_faults(void **state)
{
	static const struct {
		uint8_t first;
		uint8_t second; /* of NP, GP, PF, TS, SS */
		int vector;
	} cases[] = {
		{HK_VECTOR_DE, HK_VECTOR_NP, HK_VECTOR_DF},
		{HK_VECTOR_TS, HK_VECTOR_GP, HK_VECTOR_DF},
		{HK_VECTOR_GP, HK_VECTOR_NP, HK_VECTOR_DF},
		{HK_VECTOR_NP, HK_VECTOR_PF, HK_VECTOR_PF}, /* one after the other */
		{HK_VECTOR_GP, HK_VECTOR_PF, HK_VECTOR_PF},
		{HK_VECTOR_PF, HK_VECTOR_PF, HK_VECTOR_DF},
		{HK_VECTOR_PF, HK_VECTOR_NP, HK_VECTOR_DF},
		{HK_VECTOR_PF, HK_VECTOR_GP, HK_VECTOR_DF},
		{HK_VECTOR_UD, HK_VECTOR_NP, HK_VECTOR_NP},
		{HK_VECTOR_NM, HK_VECTOR_PF, HK_VECTOR_PF},
		{HK_VECTOR_AC, HK_VECTOR_GP, HK_VECTOR_GP},
		{HK_VECTOR_DF, HK_VECTOR_NP, -1},
		{HK_VECTOR_DF, HK_VECTOR_PF, -1},
	};

	(void)state;
	for (unsigned i = 0; i < HK_ARRAY_SIZE(cases); i++) {
		unsigned first = cases[i].first;

		vm_start_long(KERNEL_CODE);
		switch (cases[i].second) {
		case HK_VECTOR_NP:
			vm_set_gate(first, KERNEL_CODE, HANDLERS, 0x0e, 0);
			break;
		case HK_VECTOR_GP:
			vm_set_gate(first, KERNEL_DATA, HANDLERS, 0x8e, 0);
			break;
		default:
			vm_poke(TSS + 36, UNMAPPED + 0x1000, 8);
			vm_set_gate(first, KERNEL_CODE, HANDLERS, 0x8e, 1);
			break;
		}
		vm_raise(first, 0);
		assert_int_equal(vm.cpu.failed, cases[i].vector < 0);
		if (cases[i].vector >= 0) {
			vm_assert_entered((unsigned)cases[i].vector);
			if (cases[i].vector == HK_VECTOR_DF) {
				assert_int_equal(vm_stack_word(0, 8), 0);
			}
		}
	}
	/* No interrupt table at all: the classic reboot */
	vm_start_long(KERNEL_CODE);
	vm.cpu.idt.limit = 0;
	RUN(0xcc);
	hk_deliver_event(&vm.cpu);
	assert_true(vm.cpu.failed);
}

static void debug_exceptions_tell_why(void **state)
{
	(void)state;
	vm_start_long(KERNEL_CODE);
	vm.cpu.dr6 = 0xffff0ff0 | 3;
	vm.cpu.dr7 = 0x400 | 1 << 13;
	hk_fault(&vm.cpu, HK_VECTOR_DB);
	vm.cpu.event.dr6 = 1 << 14;
	hk_deliver_event(&vm.cpu);
	vm_assert_entered(HK_VECTOR_DB);
	assert_int_equal(vm.cpu.dr6, 0xffff4ff0);
	assert_int_equal(vm.cpu.dr7, 0x400);
	assert_int_equal(vm_stack_word(2, 8), HK_FLAG_FIXED); /* a trap: no RF */
}

/* ---- Delivery outside long mode ---- */

static void protected_gates(void **state)
{
	(void)state;
	/* 32 bits, same ring */
	vm_start_protected(KERNEL_CODE_32);
	vm_raise(HK_VECTOR_GP, 0x55);
	vm_assert_entered(HK_VECTOR_GP);
	assert_int_equal(vm.cpu.gpr[HK_RSP], STACK_NOW - 16);
	assert_int_equal(vm_stack_word(0, 4), 0x55);
	assert_int_equal(vm_stack_word(1, 4), CODE);
	assert_int_equal(vm_stack_word(2, 4), KERNEL_CODE_32);
	assert_int_equal(vm_stack_word(3, 4), HK_FLAG_FIXED | HK_FLAG_RF);

	/* To the inner ring, and back */
	vm_start_protected(USER_CODE_32);
	hk_deliver_interrupt(&vm.cpu, 0x20, false);
	vm_assert_entered(0x20);
	assert_int_equal(vm.cpu.cpl, 0);
	assert_int_equal(vm.cpu.seg[HK_SS].selector, KERNEL_DATA);
	assert_int_equal(vm.cpu.gpr[HK_RSP], STACK0 - 20);
	assert_int_equal(vm_stack_word(3, 4), STACK_NOW);
	assert_int_equal(vm_stack_word(4, 4), USER_DATA);
	vm.cpu.seg[HK_ES].attr &= ~0x60; /* as the kernel's own segment */
	RUN(0xcf);
	vm_assert_ran();
	assert_int_equal(vm.cpu.cpl, 3);
	assert_int_equal(vm.cpu.gpr[HK_RSP], STACK_NOW);
	assert_true(vm.cpu.seg[HK_ES].unusable);
	assert_int_equal(vm.cpu.seg[HK_ES].selector, 0);
	assert_false(vm.cpu.seg[HK_DS].unusable);

	/* A 16-bit gate pushes words. */
	vm_start_protected(KERNEL_CODE_32);
	vm_set_gate(0x20, KERNEL_CODE_32, 0x1234, 0x86, 0);
	hk_deliver_interrupt(&vm.cpu, 0x20, false);
	assert_int_equal(vm.cpu.rip, 0x1234);
	assert_int_equal(vm.cpu.gpr[HK_RSP], STACK_NOW - 6);
	assert_int_equal(vm_stack_word(1, 2), KERNEL_CODE_32);

	/* A TSS of 16 bits: SP0 and SS0 at 2 and 4 */
	vm_start_protected(USER_CODE_32);
	vm.cpu.seg[HK_TR].attr = 0x83;
	vm_poke(TSS + 2, 0x8000, 2);
	vm_poke(TSS + 4, KERNEL_DATA, 2);
	hk_deliver_interrupt(&vm.cpu, 0x20, false);
	vm_assert_entered(0x20);
	assert_int_equal(vm.cpu.gpr[HK_RSP], 0x8000 - 20);

	/* Task switches are not built. */
	vm_start_protected(KERNEL_CODE_32);
	vm_set_gate(0x20, TASK, 0, 0x85, 0);
	hk_deliver_interrupt(&vm.cpu, 0x20, false);
	vm_assert_entered(HK_VECTOR_GP);
	assert_int_equal(vm_stack_word(0, 4), 0x20 * 8 + 3);
}

static void bad_inner_stacks(void **state)
{
	static const struct {
		unsigned ss;
		uint32_t esp;
		unsigned vector;
		uint32_t code;
	} cases[] = {
		{0, STACK0, HK_VECTOR_TS, 1},
		{KERNEL_DATA | 3, STACK0, HK_VECTOR_TS, KERNEL_DATA + 1},
		{USER_DATA & ~3, STACK0, HK_VECTOR_TS, (USER_DATA & ~3) + 1},
		{KERNEL_CODE_32, STACK0, HK_VECTOR_TS, KERNEL_CODE_32 + 1},
		{BEYOND, STACK0, HK_VECTOR_TS, BEYOND + 1},
		{ABSENT_DATA, STACK0, HK_VECTOR_SS, ABSENT_DATA + 1},
		{DOWN, 0x1008, HK_VECTOR_SS, DOWN + 1},
	};

	(void)state;
	for (unsigned i = 0; i < HK_ARRAY_SIZE(cases); i++) {
		vm_start_protected(USER_CODE_32);
		/* The second fault's handler is conforming, so it needs no inner stack. */
		vm_set_descriptor(CONFORMING, FLAT(0x9e, FLAG_D | FLAG_G));
		vm_set_gate(cases[i].vector, CONFORMING, HANDLERS + cases[i].vector, 0x8e, 0);
		vm_poke(TSS + 4, cases[i].esp, 4);
		vm_poke(TSS + 8, cases[i].ss, 2);
		hk_deliver_interrupt(&vm.cpu, 0x20, false);
		vm_assert_entered(cases[i].vector);
		assert_int_equal(vm_stack_word(0, 4), cases[i].code);
	}
}

static void real_mode_vectors(void **state)
{
	(void)state;
	vm_start_real();
	vm.cpu.gpr[HK_RSP] = 0x1000;
	vm_poke(0x21 * 4, 0x20005678, 4);
	vm.cpu.rflags |= HK_FLAG_IF;
	RUN(0xcd, 0x21);
	hk_deliver_event(&vm.cpu);
	assert_int_equal(vm.cpu.rip, 0x5678);
	assert_int_equal(vm.cpu.seg[HK_CS].selector, 0x2000);
	assert_int_equal(vm.cpu.seg_base[HK_CS], 0x20000);
	assert_int_equal(vm.cpu.gpr[HK_RSP], 0x1000 - 6);
	assert_int_equal(vm_stack_word(0, 2), 2);
	assert_int_equal(vm_stack_word(1, 2), CODE >> 4);
	assert_int_equal(vm_stack_word(2, 2), HK_FLAG_FIXED | HK_FLAG_IF);
	assert_int_equal(hk_rflags_get(&vm.cpu), HK_FLAG_FIXED);
	RUN(0xcf);
	vm_assert_ran();
	assert_int_equal(vm.cpu.rip, 2);
	assert_int_equal(vm.cpu.seg_base[HK_CS], CODE);
	assert_int_equal(hk_rflags_get(&vm.cpu), HK_FLAG_FIXED | HK_FLAG_IF);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		VM_TEST(long_exception_in_ring_0),
		VM_TEST(trap_gates_keep_if),
		VM_TEST(long_exception_from_ring_3),
		VM_TEST(compatibility_mode_interrupted),
		VM_TEST(ist_switches_in_any_ring),
		VM_TEST(conforming_handler_stays_in_its_ring),
		VM_TEST(software_interrupts),
		VM_TEST(broken_gates_in_long_mode),
		VM_TEST(double_faults),
		VM_TEST(debug_exceptions_tell_why),
		VM_TEST(protected_gates),
		VM_TEST(bad_inner_stacks),
		VM_TEST(real_mode_vectors),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
