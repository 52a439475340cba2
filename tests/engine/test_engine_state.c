/* SPDX-License-Identifier: ISC */
/*
 * The state of vCPUs on KVM: what is read and written back changes nothing, whatever the guest
 * was doing.
 */
#include "engine_test.h"

#include <stdlib.h>
#include <string.h>

#include "engine/msr.h"

static struct vm vm;

/* MSRs that go on by themselves. */
static bool is_a_clock(uint32_t msr)
{
	return msr == HK_MSR_TSC;
}

static void assert_msrs_equal(const struct hk_vcpu_state *a, const struct hk_vcpu_state *b)
{
	assert_int_equal(a->msr_count, b->msr_count);
	for (unsigned i = 0; i < a->msr_count; i++) {
		assert_int_equal(a->msrs[i].index, b->msrs[i].index);
		if (!is_a_clock(a->msrs[i].index) && a->msrs[i].value != b->msrs[i].value) {
			fail_msg("MSR 0x%x: 0x%llx became 0x%llx", a->msrs[i].index,
				(unsigned long long)a->msrs[i].value,
				(unsigned long long)b->msrs[i].value);
		}
	}
}

static void assert_same(const struct hk_vcpu_state *a, const struct hk_vcpu_state *b)
{
	assert_memory_equal(a->gpr, b->gpr, sizeof(a->gpr));
	assert_int_equal(a->rip, b->rip);
	assert_int_equal(a->rflags, b->rflags);
	for (unsigned i = 0; i < HK_SEG_COUNT; i++) {
		assert_int_equal(a->seg[i].base, b->seg[i].base);
		assert_int_equal(a->seg[i].limit, b->seg[i].limit);
		assert_int_equal(a->seg[i].selector, b->seg[i].selector);
		assert_int_equal(a->seg[i].attr, b->seg[i].attr);
		assert_int_equal(a->seg[i].unusable, b->seg[i].unusable);
	}
	assert_int_equal(a->gdt.base, b->gdt.base);
	assert_int_equal(a->gdt.limit, b->gdt.limit);
	assert_int_equal(a->idt.base, b->idt.base);
	assert_int_equal(a->idt.limit, b->idt.limit);
	assert_int_equal(a->cr0, b->cr0);
	assert_int_equal(a->cr2, b->cr2);
	assert_int_equal(a->cr3, b->cr3);
	assert_int_equal(a->cr4, b->cr4);
	assert_int_equal(a->cr8, b->cr8);
	assert_int_equal(a->efer, b->efer);
	assert_int_equal(a->apic_base, b->apic_base);
	assert_memory_equal(a->dr, b->dr, sizeof(a->dr));
	assert_int_equal(a->dr6, b->dr6);
	assert_int_equal(a->dr7, b->dr7);
	assert_int_equal(a->xcr0, b->xcr0);
	assert_memory_equal(a->xsave, b->xsave, sizeof(a->xsave));
	assert_memory_equal(a->lapic, b->lapic, sizeof(a->lapic));
	assert_msrs_equal(a, b);
	assert_memory_equal(&a->pending, &b->pending, sizeof(a->pending));
	assert_int_equal(a->mp_state, b->mp_state);
}

static uint64_t msr_of(const struct hk_vcpu_state *state, uint32_t index)
{
	for (unsigned i = 0; i < state->msr_count; i++) {
		if (state->msrs[i].index == index) {
			return state->msrs[i].value;
		}
	}
	fail_msg("MSR 0x%x is not part of the state", index);
	return 0;
}

/* Gets, sets, and gets again, each vCPU of the paused machine. @first: state of vCPU 0. */
static void assert_identity(struct hk_vcpu_state *first)
{
	static struct hk_vcpu_state a, b;
	struct hk_err err = HK_ERR_INIT;

	for (unsigned i = vm.config.cpus; i-- > 0;) {
		struct hk_vcpu *vcpu = hk_engine_vcpu(hk_machine_engine(vm.machine), i);

		assert_ok(hk_vcpu_get_state(vcpu, &a, &err), &err);
		assert_ok(hk_vcpu_set_state(vcpu, &a, &err), &err);
		assert_ok(hk_vcpu_get_state(vcpu, &b, &err), &err);
		assert_same(&a, &b);
	}
	*first = a;
}

/*
 * The work guest is stopped at many moments; among them it must have been asleep, waiting for its
 * timer, and in the midst of its SSE and x87 loop.
 */
static void test_identity_in_mid_work(void **arg)
{
	enum { XMM10_AT = 160 + 10 * 16, MOMENTS = 60 };
	static const double factor = 1.0000001; /* what work/main.c keeps in XMM10 */
	static struct hk_vcpu_state state;
	struct vm_config config = guest_config("work", 2, "rounds=1024");
	char *reference = reference_output(&config);
	struct hk_err err = HK_ERR_INIT;
	unsigned halted = 0, armed = 0, computing = 0;

	assert_ok(vm_start(&vm, &config, &err), &err);
	/* On a busy machine it takes more moments until each has been seen. */
	for (unsigned i = 0;
		!vm.stopped && (i < MOMENTS || halted == 0 || armed == 0 || computing == 0); i++) {
		vm_run_for(&vm, random_below(4 * HK_NS_PER_MS));
		if (hk_machine_pause(vm.machine, &err) < 0) {
			break;
		}
		assert_identity(&state);
		halted += state.mp_state == HK_MP_HALTED;
		armed += msr_of(&state, HK_MSR_TSC_DEADLINE) != 0;
		computing += memcmp(state.xsave + XMM10_AT, &factor, sizeof(factor)) == 0;
		assert_ok(hk_machine_resume(vm.machine, &err), &err);
	}
	assert_true(vm_wait(&vm, 30000));
	assert_string_equal(vm.output, reference);
	print_message("moments: %u asleep, %u with the timer armed, %u in the loop\n", halted,
		armed, computing);
	assert_true(halted > 0 && armed > 0 && computing > 0);
	vm_destroy(&vm);
	free(reference);
}

static void test_identity_halted_and_waiting(void **arg)
{
	static struct hk_vcpu_state first, second;
	struct vm_config config = guest_config("stuck", 2, "halt=1");
	struct hk_err err = HK_ERR_INIT;

	assert_ok(vm_start(&vm, &config, &err), &err);
	while (__atomic_load_n(&vm.output_len, __ATOMIC_ACQUIRE) < strlen("stuck\n")) {
		vm_run_for(&vm, HK_NS_PER_MS);
	}
	vm_run_for(&vm, 20 * HK_NS_PER_MS);
	assert_ok(hk_machine_pause(vm.machine, &err), &err);
	assert_identity(&first);
	assert_ok(
		hk_vcpu_get_state(hk_engine_vcpu(hk_machine_engine(vm.machine), 1), &second, &err),
		&err);
	assert_int_equal(first.mp_state, HK_MP_HALTED);
	assert_int_equal(second.mp_state, HK_MP_WAIT_SIPI);
	vm_destroy(&vm);
}

/* Events that are between "accepted" and "delivered" are rare: set them, and they must be there. */
static void test_identity_of_pending_events(void **arg)
{
	static const struct hk_pending table[] = {
		{.exception = true,
			.exception_vector = 13,
			.exception_has_code = true,
			.exception_code = 0x18},
		{.interrupt = true, .interrupt_vector = 0x41},
		{.nmi = true},
		{.nmi = true, .nmi_masked = true},
		{.nmi_injected = true, .nmi_masked = true},
		{.interrupt_shadow = 1},
	};
	static struct hk_vcpu_state state, back;
	struct vm_config config = guest_config("stuck", 1, NULL);
	struct hk_err err = HK_ERR_INIT;

	assert_ok(vm_create(&vm, &config, &err), &err);
	assert_ok(vm_load(&vm, &err), &err);

	struct hk_vcpu *vcpu = hk_engine_vcpu(hk_machine_engine(vm.machine), 0);

	assert_ok(hk_vcpu_get_state(vcpu, &state, &err), &err);
	for (unsigned i = 0; i < HK_ARRAY_SIZE(table); i++) {
		state.pending = table[i];
		assert_ok(hk_vcpu_set_state(vcpu, &state, &err), &err);
		assert_ok(hk_vcpu_get_state(vcpu, &back, &err), &err);
		/* Vectors are meaningless unless their event is there. */
		assert_int_equal(back.pending.exception, table[i].exception);
		if (table[i].exception) {
			assert_int_equal(back.pending.exception_vector, table[i].exception_vector);
			assert_int_equal(back.pending.exception_code, table[i].exception_code);
		}
		assert_int_equal(back.pending.interrupt, table[i].interrupt);
		if (table[i].interrupt) {
			assert_int_equal(back.pending.interrupt_vector, table[i].interrupt_vector);
		}
		assert_int_equal(back.pending.nmi, table[i].nmi);
		assert_int_equal(back.pending.nmi_injected, table[i].nmi_injected);
		assert_int_equal(back.pending.nmi_masked, table[i].nmi_masked);
		/* AMD's processors have one bit for both kinds. */
		assert_int_equal(
			back.pending.interrupt_shadow != 0, table[i].interrupt_shadow != 0);
	}
	vm_destroy(&vm);
}

static void test_irqchip_and_clock(void **arg)
{
	struct vm_config config = guest_config("stuck", 1, NULL);
	struct hk_err err = HK_ERR_INIT;
	struct hk_irqchip_state chip = {.id = 3, .ioregsel = 0x12}, chip_back;
	struct hk_clock_state clock = {.guest_ns = 1000 * HK_NS_PER_SEC}, clock_back;

	assert_ok(vm_create(&vm, &config, &err), &err);
	for (unsigned i = 0; i < HK_GSI_COUNT; i++) {
		chip.redirection[i] = UINT64_C(0x10000) | (0x30 + i); /* masked */
	}
	assert_ok(hk_engine_set_irqchip(hk_machine_engine(vm.machine), &chip, &err), &err);
	assert_ok(hk_engine_get_irqchip(hk_machine_engine(vm.machine), &chip_back, &err), &err);
	assert_memory_equal(&chip, &chip_back, sizeof(chip));

	assert_ok(hk_engine_set_clock(hk_machine_engine(vm.machine), &clock, &err), &err);
	assert_ok(hk_engine_get_clock(hk_machine_engine(vm.machine), &clock_back, &err), &err);
	assert_in_range(clock_back.guest_ns, clock.guest_ns, clock.guest_ns + 5 * HK_NS_PER_SEC);
	assert_true(clock_back.tsc_khz > 100000);
	vm_destroy(&vm);
}

/* What no guest can have come to must be refused, and break nothing. */
static void test_impossible_state(void **arg)
{
	static struct hk_vcpu_state good, bad;
	struct vm_config config = guest_config("stuck", 1, NULL);
	struct hk_err err = HK_ERR_INIT;

	assert_ok(vm_create(&vm, &config, &err), &err);

	struct hk_vcpu *vcpu = hk_engine_vcpu(hk_machine_engine(vm.machine), 0);

	assert_ok(hk_vcpu_get_state(vcpu, &good, &err), &err);

	bad = good;
	bad.cr4 = UINT64_MAX;
	assert_true(hk_vcpu_set_state(vcpu, &bad, &err) < 0);
	assert_non_null(strstr(hk_err_text(&err), "vCPU 0: "));

	bad = good;
	bad.xcr0 = 0;
	err = HK_ERR_INIT;
	assert_true(hk_vcpu_set_state(vcpu, &bad, &err) < 0);

	bad = good;
	bad.msrs[0] = (struct hk_msr){0x12345678, 1};
	err = HK_ERR_INIT;
	assert_true(hk_vcpu_set_state(vcpu, &bad, &err) < 0);
	assert_non_null(strstr(hk_err_text(&err), "refuses MSR 0x12345678 = 0x1"));

	err = HK_ERR_INIT;
	assert_ok(hk_vcpu_set_state(vcpu, &good, &err), &err);
	vm_destroy(&vm);
}

int main(int argc, char **argv)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_identity_in_mid_work),
		cmocka_unit_test(test_identity_halted_and_waiting),
		cmocka_unit_test(test_identity_of_pending_events),
		cmocka_unit_test(test_irqchip_and_clock),
		cmocka_unit_test(test_impossible_state),
	};

	return engine_test_main(argc, argv, tests);
}
