/* SPDX-License-Identifier: ISC */
/*
 * The local APIC against the tables of Intel SDM vol. 3A, chapter 10: registers, priorities,
 * destinations, timer, mode changes, and state in KVM's layout.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <string.h>

#include "base/bytes.h"
#include "base/util.h"
#include "engine/soft/apic/lapic.h"

enum { CPUS = 4, MSR = 0x800 };

#define BASE      UINT64_C(0xfee00000)
#define VECTOR(n) ((struct hk_ipi){.mode = HK_IPI_FIXED, .vector = (n)})

static struct hk_lapic apics[CPUS];
static struct hk_lapic *lapics[CPUS];
static struct hk_lapic *apic = &apics[0];
static struct hk_lapic_time now;
static struct hk_lapic_effect effect;

static void write_reg(enum hk_lapic_reg reg, uint32_t value)
{
	hk_lapic_mmio_write(apic, reg * 16, value, &now, &effect);
}

static uint32_t read_reg(enum hk_lapic_reg reg)
{
	return hk_lapic_mmio_read(apic, reg * 16, &now);
}

static bool write_msr(enum hk_lapic_reg reg, uint64_t value)
{
	return hk_lapic_msr_write(apic, MSR + reg, value, &now, &effect);
}

static uint64_t read_msr(enum hk_lapic_reg reg)
{
	uint64_t value = 0;

	assert_true(hk_lapic_msr_read(apic, MSR + reg, &now, &value));
	return value;
}

static bool can_read_msr(unsigned reg)
{
	uint64_t value;

	return hk_lapic_msr_read(apic, MSR + reg, &now, &value);
}

static void enter_x2apic(struct hk_lapic *lapic)
{
	assert_true(hk_lapic_set_base(lapic, lapic->base | HK_APIC_BASE_X2APIC));
}

/* All on, software-enabled, at time 1000. */
static int setup(void **state)
{
	for (unsigned i = 0; i < CPUS; i++) {
		lapics[i] = &apics[i];
		hk_lapic_reset(&apics[i], i, i == 0);
		apics[i].reg[HK_LAPIC_SPURIOUS] |= HK_LAPIC_SOFTWARE_ENABLE;
	}
	now = (struct hk_lapic_time){.ns = 1000, .tsc = 5000, .tsc_khz = 2000000};
	effect = (struct hk_lapic_effect){0};
	return 0;
}

/* --- registers ------------------------------------------------------------ */

static void power_on_values(void **state)
{
	hk_lapic_reset(apic, 3, false);
	assert_int_equal(apic->base, BASE | HK_APIC_BASE_ENABLE);
	assert_int_equal(read_reg(HK_LAPIC_ID), 3u << 24);
	assert_int_equal(read_reg(HK_LAPIC_VERSION), 0x50014);
	assert_int_equal(read_reg(HK_LAPIC_TPR), 0);
	assert_int_equal(read_reg(HK_LAPIC_LDR), 0);
	assert_int_equal(read_reg(HK_LAPIC_DFR), UINT32_MAX);
	assert_int_equal(read_reg(HK_LAPIC_SPURIOUS), 0xff);
	for (unsigned reg = HK_LAPIC_LVT_TIMER; reg <= HK_LAPIC_LVT_ERROR; reg++) {
		assert_int_equal(read_reg(reg), HK_LAPIC_LVT_MASKED);
	}
	hk_lapic_reset(apic, 0, true);
	assert_int_equal(apic->base, BASE | HK_APIC_BASE_ENABLE | HK_APIC_BASE_BSP);
}

static void init_keeps_base_and_number(void **state)
{
	apic = &apics[2];
	enter_x2apic(apic);
	write_msr(HK_LAPIC_TPR, 0x40);
	hk_lapic_accept(apic, &VECTOR(0x80));
	hk_lapic_init(apic);
	assert_true(hk_lapic_x2apic(apic));
	assert_int_equal(read_msr(HK_LAPIC_ID), 2);
	assert_int_equal(read_msr(HK_LAPIC_LDR), 4);
	assert_int_equal(read_msr(HK_LAPIC_TPR), 0);
	assert_int_equal(hk_lapic_highest(apic, HK_LAPIC_IRR), -1);
	apic = &apics[0];
}

static void writable_bits(void **state)
{
	static const struct {
		unsigned reg;
		uint32_t reads;
	} rows[] = {
		{HK_LAPIC_ID, 0xff000000},
		{HK_LAPIC_VERSION, 0x50014},
		{HK_LAPIC_TPR, 0xff},
		{HK_LAPIC_LDR, 0xff000000},
		{HK_LAPIC_DFR, UINT32_MAX},
		{HK_LAPIC_SPURIOUS, 0x3ff},
		{HK_LAPIC_ICR_HIGH, 0xff000000},
		{HK_LAPIC_LVT_THERMAL, 0x107ff},
		{HK_LAPIC_LVT_COUNTER, 0x107ff},
		{HK_LAPIC_LVT_LINT0, 0x1a7ff},
		{HK_LAPIC_LVT_LINT1, 0x1a7ff},
		{HK_LAPIC_LVT_ERROR, 0x100ff},
		{HK_LAPIC_TIMER_DIVIDE, 0xb},
	};

	for (size_t i = 0; i < HK_ARRAY_SIZE(rows); i++) {
		write_reg(rows[i].reg, UINT32_MAX);
		assert_int_equal(read_reg(rows[i].reg), rows[i].reads);
	}
	write_reg(HK_LAPIC_LVT_TIMER, UINT32_MAX);
	assert_int_equal(read_reg(HK_LAPIC_LVT_TIMER), 0x700ff);
}

static void software_disable_masks_all_entries(void **state)
{
	write_reg(HK_LAPIC_LVT_TIMER, 0x40);
	assert_int_equal(read_reg(HK_LAPIC_LVT_TIMER), 0x40);
	write_reg(HK_LAPIC_SPURIOUS, 0xff);
	assert_int_equal(read_reg(HK_LAPIC_LVT_TIMER), HK_LAPIC_LVT_MASKED | 0x40);
	write_reg(HK_LAPIC_LVT_TIMER, 0x41);
	assert_int_equal(read_reg(HK_LAPIC_LVT_TIMER), HK_LAPIC_LVT_MASKED | 0x41);
	assert_int_equal(hk_lapic_accept(apic, &VECTOR(0x50)), 0);
	assert_int_equal(hk_lapic_pending(apic), -1);

	/* NMI, INIT and SIPI arrive all the same. */
	assert_int_equal(
		hk_lapic_accept(apic, &(struct hk_ipi){.mode = HK_IPI_NMI}), HK_LAPIC_WANT_NMI);
	assert_int_equal(
		hk_lapic_accept(apic, &(struct hk_ipi){.mode = HK_IPI_INIT}), HK_LAPIC_WANT_INIT);
	assert_int_equal(hk_lapic_accept(apic, &(struct hk_ipi){.mode = HK_IPI_STARTUP}),
		HK_LAPIC_WANT_STARTUP);
}

static void errors_are_shown_by_a_write(void **state)
{
	write_reg(HK_LAPIC_LVT_ERROR, 0x60);
	assert_int_equal(hk_lapic_mmio_read(apic, 0x10, &now), 0);
	assert_int_equal(read_reg(HK_LAPIC_ESR), 0);
	assert_int_equal(hk_lapic_ack(apic), 0x60);
	write_reg(HK_LAPIC_EOI, 0);
	write_reg(HK_LAPIC_ICR, 0x0f); /* to vector 15 */
	assert_false(effect.send);
	hk_lapic_accept(apic, &VECTOR(3));
	write_reg(HK_LAPIC_ESR, 0);
	assert_int_equal(read_reg(HK_LAPIC_ESR),
		HK_LAPIC_ERROR_REGISTER | HK_LAPIC_ERROR_SEND_VECTOR |
			HK_LAPIC_ERROR_RECEIVE_VECTOR);
	write_reg(HK_LAPIC_ESR, 0);
	assert_int_equal(read_reg(HK_LAPIC_ESR), 0);
}

/* --- modes ------------------------------------------------------------------ */

/* Table 10-5 and figure 10-27: which mode can follow which. */
static void mode_changes(void **state)
{
	const uint64_t modes[] = {
		0, HK_APIC_BASE_ENABLE, HK_APIC_BASE_ENABLE | HK_APIC_BASE_X2APIC};
	static const bool allowed[3][3] = {
		{true, true, false}, {true, true, true}, {true, false, true}};

	for (unsigned from = 0; from < 3; from++) {
		for (unsigned to = 0; to < 3; to++) {
			apic->base = BASE | modes[from];
			assert_int_equal(
				hk_lapic_set_base(apic, BASE | modes[to]), allowed[from][to]);
			assert_int_equal(
				apic->base, BASE | (allowed[from][to] ? modes[to] : modes[from]));
		}
		apic->base = BASE | modes[from];
		assert_false(hk_lapic_set_base(apic, BASE | HK_APIC_BASE_X2APIC));
		assert_false(hk_lapic_set_base(apic, BASE | modes[from] | 1));
		assert_false(hk_lapic_set_base(apic, BASE | modes[from] | UINT64_C(1) << 52));
	}
}

static void disabling_forgets(void **state)
{
	hk_lapic_accept(apic, &VECTOR(0x50));
	assert_true(hk_lapic_set_base(apic, BASE));
	assert_int_equal(hk_lapic_pending(apic), -1);
	assert_true(hk_lapic_set_base(apic, BASE | HK_APIC_BASE_ENABLE));
	assert_int_equal(read_reg(HK_LAPIC_SPURIOUS), 0xff);
	assert_int_equal(hk_lapic_pending(apic), -1);
}

/* Table 10-6: which registers x2APIC has, and what faults. */
static void x2apic_registers(void **state)
{
	assert_false(can_read_msr(HK_LAPIC_ID)); /* not in xAPIC mode */
	assert_false(write_msr(HK_LAPIC_TPR, 0));
	enter_x2apic(apic);
	for (unsigned reg = 0; reg < 0x100; reg++) {
		bool readable = reg == 2 || reg == 3 || reg == 8 || reg == 0xa || reg == 0xd ||
			reg == 0xf || (reg >= 0x10 && reg <= 0x28) || reg == 0x30 ||
			(reg >= 0x32 && reg <= 0x39) || reg == 0x3e;
		bool writable = reg == 8 || reg == 0xb || reg == 0xf || reg == 0x28 ||
			reg == 0x30 || (reg >= 0x32 && reg <= 0x38) || reg == 0x3e || reg == 0x3f;

		assert_int_equal(can_read_msr(reg), readable);
		assert_int_equal(write_msr(reg, 0), writable);
	}
}

static void x2apic_reserved_bits(void **state)
{
	enter_x2apic(apic);
	assert_false(write_msr(HK_LAPIC_EOI, 1));
	assert_false(write_msr(HK_LAPIC_ESR, 1));
	assert_false(write_msr(HK_LAPIC_TPR, 0x100));
	assert_false(write_msr(HK_LAPIC_SELF_IPI, 0x100));
	assert_false(write_msr(HK_LAPIC_SPURIOUS, 1 << 12));
	assert_false(write_msr(HK_LAPIC_LVT_TIMER, 1 << 8));
	assert_false(write_msr(HK_LAPIC_TIMER_DIVIDE, 4));
	assert_false(write_msr(HK_LAPIC_TIMER_INITIAL, UINT64_C(1) << 32));
	assert_false(write_msr(HK_LAPIC_ICR, 1 << 20));
	assert_true(write_msr(HK_LAPIC_ICR, UINT64_C(0xffffffff000c40fd)));
	assert_int_equal(read_msr(HK_LAPIC_ICR), UINT64_C(0xffffffff000c40fd));
}

/* --- priorities ---------------------------------------------------------- */

static void higher_goes_first(void **state)
{
	hk_lapic_accept(apic, &VECTOR(0x31));
	hk_lapic_accept(apic, &VECTOR(0xf2));
	hk_lapic_accept(apic, &VECTOR(0x75));
	assert_int_equal(hk_lapic_ack(apic), 0xf2);
	assert_int_equal(read_reg(HK_LAPIC_PPR), 0xf0);
	assert_int_equal(hk_lapic_ack(apic), -1); /* until that has ended */
	write_reg(HK_LAPIC_EOI, 0);
	assert_false(effect.eoi);
	assert_int_equal(hk_lapic_ack(apic), 0x75);
	write_reg(HK_LAPIC_EOI, 0);
	assert_int_equal(hk_lapic_ack(apic), 0x31);
	write_reg(HK_LAPIC_EOI, 0);
	assert_int_equal(hk_lapic_ack(apic), -1);
}

static void same_class_waits(void **state)
{
	hk_lapic_accept(apic, &VECTOR(0x41));
	assert_int_equal(hk_lapic_ack(apic), 0x41);
	hk_lapic_accept(apic, &VECTOR(0x4f));
	assert_int_equal(hk_lapic_pending(apic), -1);
	hk_lapic_accept(apic, &VECTOR(0x50));
	assert_int_equal(hk_lapic_ack(apic), 0x50); /* nests */
	write_reg(HK_LAPIC_EOI, 0);
	assert_int_equal(hk_lapic_highest(apic, HK_LAPIC_ISR), 0x41);
	write_reg(HK_LAPIC_EOI, 0);
	assert_int_equal(hk_lapic_ack(apic), 0x4f);
}

/* 10.8.3.1: PPR is the higher class of TPR and ISR; TPR's low bits show only if TPR wins. */
static void task_priority(void **state)
{
	hk_lapic_set_tpr(apic, 0x45);
	assert_int_equal(read_reg(HK_LAPIC_PPR), 0x45);
	hk_lapic_accept(apic, &VECTOR(0x4f));
	assert_int_equal(hk_lapic_pending(apic), -1);
	hk_lapic_accept(apic, &VECTOR(0x50));
	assert_int_equal(hk_lapic_ack(apic), 0x50);
	assert_int_equal(read_reg(HK_LAPIC_PPR), 0x50);
	write_reg(HK_LAPIC_EOI, 0);
	write_reg(HK_LAPIC_TPR, 0x3f);
	assert_int_equal(hk_lapic_pending(apic), 0x4f);
}

static void level_triggered_ends_at_the_ioapic(void **state)
{
	struct hk_ipi level = {.mode = HK_IPI_FIXED, .vector = 0x33, .level = true};

	hk_lapic_accept(apic, &level);
	assert_int_equal(hk_lapic_ack(apic), 0x33);
	write_reg(HK_LAPIC_EOI, 0);
	assert_true(effect.eoi);
	assert_int_equal(effect.eoi_vector, 0x33);
	hk_lapic_accept(apic, &VECTOR(0x33)); /* the same vector as an edge now */
	assert_int_equal(hk_lapic_ack(apic), 0x33);
	write_reg(HK_LAPIC_EOI, 0);
	assert_false(effect.eoi);
}

static void requested_again_while_in_service(void **state)
{
	hk_lapic_accept(apic, &VECTOR(0x33));
	assert_int_equal(hk_lapic_ack(apic), 0x33);
	hk_lapic_accept(apic, &VECTOR(0x33));
	hk_lapic_accept(apic, &VECTOR(0x33));
	write_reg(HK_LAPIC_EOI, 0);
	assert_int_equal(hk_lapic_ack(apic), 0x33);
	write_reg(HK_LAPIC_EOI, 0);
	assert_int_equal(hk_lapic_ack(apic), -1);
}

/* --- messages -------------------------------------------------------------- */

static uint32_t targets_of(struct hk_ipi ipi)
{
	unsigned turn = 0;

	return hk_lapic_targets(lapics, CPUS, &ipi, 1, &turn);
}

static void what_icr_sends(void **state)
{
	write_reg(HK_LAPIC_ICR_HIGH, 0x02000000);
	write_reg(HK_LAPIC_ICR, 0x000040fd);
	assert_true(effect.send);
	assert_int_equal(effect.ipi.dest, 2);
	assert_int_equal(effect.ipi.vector, 0xfd);
	assert_int_equal(effect.ipi.mode, HK_IPI_FIXED);
	assert_int_equal(effect.ipi.shorthand, HK_IPI_DEST);
	assert_false(effect.ipi.logical || effect.ipi.wide);
	write_reg(HK_LAPIC_ICR, 0x000c0d01); /* all but self, logical, INIT */
	assert_int_equal(effect.ipi.mode, HK_IPI_INIT);
	assert_int_equal(effect.ipi.shorthand, HK_IPI_OTHERS);
	assert_true(effect.ipi.logical);
	enter_x2apic(apic);
	assert_true(write_msr(HK_LAPIC_SELF_IPI, 0x99));
	assert_true(effect.send);
	assert_int_equal(effect.ipi.shorthand, HK_IPI_SELF);
	assert_int_equal(effect.ipi.vector, 0x99);
	assert_true(write_msr(HK_LAPIC_ICR, UINT64_C(0x00000003000000fd)));
	assert_int_equal(effect.ipi.dest, 3);
	assert_true(effect.ipi.wide);
}

static void shorthands(void **state)
{
	assert_int_equal(targets_of((struct hk_ipi){.shorthand = HK_IPI_SELF}), 0x2);
	assert_int_equal(targets_of((struct hk_ipi){.shorthand = HK_IPI_ALL}), 0xf);
	assert_int_equal(targets_of((struct hk_ipi){.shorthand = HK_IPI_OTHERS}), 0xd);
}

static void physical_destinations(void **state)
{
	assert_int_equal(targets_of((struct hk_ipi){.dest = 3}), 0x8);
	assert_int_equal(targets_of((struct hk_ipi){.dest = 9}), 0);
	assert_int_equal(targets_of((struct hk_ipi){.dest = 0xff}), 0xf);
	assert_int_equal(targets_of((struct hk_ipi){.dest = 0xff, .wide = true}), 0);
	assert_int_equal(targets_of((struct hk_ipi){.dest = UINT32_MAX, .wide = true}), 0xf);
	assert_true(hk_lapic_set_base(&apics[3], BASE)); /* an APIC that is off hears nothing */
	assert_int_equal(targets_of((struct hk_ipi){.dest = 0xff}), 0x7);
	assert_int_equal(targets_of((struct hk_ipi){.dest = 3}), 0);
}

static void flat_destinations(void **state)
{
	for (unsigned i = 0; i < CPUS; i++) {
		apics[i].reg[HK_LAPIC_LDR] = 1u << (24 + i);
	}
	assert_int_equal(targets_of((struct hk_ipi){.dest = 0x5, .logical = true}), 0x5);
	assert_int_equal(targets_of((struct hk_ipi){.dest = 0x10, .logical = true}), 0);
	assert_int_equal(targets_of((struct hk_ipi){.dest = 0xff, .logical = true}), 0xf);
}

static void cluster_destinations(void **state)
{
	for (unsigned i = 0; i < CPUS; i++) {
		apics[i].reg[HK_LAPIC_DFR] = 0x0fffffff;
		apics[i].reg[HK_LAPIC_LDR] = (i / 2) << 28 | 1u << (24 + i % 2);
	}
	assert_int_equal(targets_of((struct hk_ipi){.dest = 0x03, .logical = true}), 0x3);
	assert_int_equal(targets_of((struct hk_ipi){.dest = 0x12, .logical = true}), 0x8);
	assert_int_equal(targets_of((struct hk_ipi){.dest = 0x2f, .logical = true}), 0);
	assert_int_equal(targets_of((struct hk_ipi){.dest = 0xff, .logical = true}), 0xf);
}

static void x2apic_destinations(void **state)
{
	for (unsigned i = 0; i < CPUS; i++) {
		enter_x2apic(&apics[i]);
		assert_int_equal(apics[i].reg[HK_LAPIC_LDR], 1u << i);
	}
	assert_int_equal(
		targets_of((struct hk_ipi){.dest = 0xa, .logical = true, .wide = true}), 0xa);
	assert_int_equal(
		targets_of((struct hk_ipi){.dest = 0x1000f, .logical = true, .wide = true}), 0);
	/* from the IOAPIC: eight bits */
	assert_int_equal(targets_of((struct hk_ipi){.dest = 0x6, .logical = true}), 0x6);
	assert_int_equal(targets_of((struct hk_ipi){.dest = 0xff, .logical = true}), 0xf);
	assert_int_equal(targets_of((struct hk_ipi){.dest = 2}), 0x4);
}

static void lowest_priority_finds_one(void **state)
{
	struct hk_ipi ipi = {.dest = 0xff, .mode = HK_IPI_LOWEST, .vector = 0x40};
	unsigned turn = 0;
	uint32_t seen = 0;

	for (unsigned i = 0; i < CPUS; i++) {
		uint32_t one = hk_lapic_targets(lapics, CPUS, &ipi, 0, &turn);

		assert_int_equal(__builtin_popcount(one), 1);
		seen |= one;
	}
	assert_int_equal(seen, 0xf); /* in turn */
	for (unsigned i = 0; i < CPUS; i++) {
		hk_lapic_set_tpr(&apics[i], i == 2 ? 0x10 : 0x20);
	}
	assert_int_equal(hk_lapic_targets(lapics, CPUS, &ipi, 0, &turn), 0x4);
	apics[2].reg[HK_LAPIC_SPURIOUS] = 0xff; /* one that is off takes none */
	assert_int_not_equal(hk_lapic_targets(lapics, CPUS, &ipi, 0, &turn), 0x4);
	for (unsigned i = 0; i < CPUS; i++) {
		apics[i].reg[HK_LAPIC_SPURIOUS] = 0xff;
	}
	assert_int_equal(hk_lapic_targets(lapics, CPUS, &ipi, 0, &turn), 0);
}

static void init_deassert_does_nothing(void **state)
{
	struct hk_ipi ipi = {.mode = HK_IPI_INIT, .level = true, .assert = false};

	assert_int_equal(hk_lapic_accept(apic, &ipi), 0);
	ipi.assert = true;
	assert_int_equal(hk_lapic_accept(apic, &ipi), HK_LAPIC_WANT_INIT);
}

/* --- timer ------------------------------------------------------------------- */

/* Figure 10-10. */
static void divide_values(void **state)
{
	static const struct {
		uint32_t code;
		unsigned divide;
	} rows[] = {{0x0, 2}, {0x1, 4}, {0x2, 8}, {0x3, 16}, {0x8, 32}, {0x9, 64}, {0xa, 128},
		{0xb, 1}};

	for (size_t i = 0; i < HK_ARRAY_SIZE(rows); i++) {
		write_reg(HK_LAPIC_TIMER_DIVIDE, rows[i].code);
		write_reg(HK_LAPIC_TIMER_INITIAL, 1000);
		assert_true(effect.timer);
		assert_int_equal(hk_lapic_deadline_ns(apic, &now), now.ns + 1000 * rows[i].divide);
	}
}

static void one_shot(void **state)
{
	write_reg(HK_LAPIC_TIMER_DIVIDE, 0xb);
	write_reg(HK_LAPIC_LVT_TIMER, HK_LAPIC_TIMER_ONE_SHOT | 0x40);
	assert_int_equal(hk_lapic_deadline_ns(apic, &now), UINT64_MAX);
	write_reg(HK_LAPIC_TIMER_INITIAL, 500);
	now.ns += 200;
	assert_int_equal(read_reg(HK_LAPIC_TIMER_CURRENT), 300);
	assert_int_equal(hk_lapic_tick(apic, &now), 0);
	now.ns += 300;
	assert_int_equal(hk_lapic_tick(apic, &now), HK_LAPIC_WANT_IRQ);
	assert_int_equal(hk_lapic_ack(apic), 0x40);
	assert_int_equal(read_reg(HK_LAPIC_TIMER_CURRENT), 0);
	assert_int_equal(hk_lapic_deadline_ns(apic, &now), UINT64_MAX);
	now.ns += 5000;
	assert_int_equal(hk_lapic_tick(apic, &now), 0);
	write_reg(HK_LAPIC_TIMER_INITIAL, 500);
	write_reg(HK_LAPIC_TIMER_INITIAL, 0); /* stops it */
	assert_int_equal(hk_lapic_deadline_ns(apic, &now), UINT64_MAX);
}

static void periodic(void **state)
{
	write_reg(HK_LAPIC_TIMER_DIVIDE, 0xb);
	write_reg(HK_LAPIC_LVT_TIMER, HK_LAPIC_TIMER_PERIODIC | 0x40);
	write_reg(HK_LAPIC_TIMER_INITIAL, 1000000);

	uint64_t start = now.ns;

	for (unsigned i = 1; i <= 5; i++) {
		assert_int_equal(hk_lapic_deadline_ns(apic, &now), start + i * 1000000);
		now.ns = start + i * 1000000 + 17;
		assert_int_equal(hk_lapic_tick(apic, &now), HK_LAPIC_WANT_IRQ);
		assert_int_equal(read_reg(HK_LAPIC_TIMER_CURRENT), 1000000 - 17);
	}
	now.ns = start + 9500000; /* missed beats are gone, the beat stays */
	assert_int_equal(hk_lapic_tick(apic, &now), HK_LAPIC_WANT_IRQ);
	assert_int_equal(hk_lapic_deadline_ns(apic, &now), start + 10000000);
	write_reg(HK_LAPIC_LVT_TIMER, HK_LAPIC_LVT_MASKED | HK_LAPIC_TIMER_PERIODIC | 0x40);
	now.ns = start + 10000000;
	assert_int_equal(hk_lapic_tick(apic, &now), 0);
	assert_int_equal(hk_lapic_deadline_ns(apic, &now), start + 11000000);
}

static void shortest_period(void **state)
{
	write_reg(HK_LAPIC_TIMER_DIVIDE, 0xb);
	write_reg(HK_LAPIC_LVT_TIMER, HK_LAPIC_TIMER_PERIODIC | 0x40);
	write_reg(HK_LAPIC_TIMER_INITIAL, 1);
	now.ns += 1;
	assert_int_equal(hk_lapic_tick(apic, &now), HK_LAPIC_WANT_IRQ);
	assert_true(hk_lapic_deadline_ns(apic, &now) >= now.ns + 50000);
	assert_true(read_reg(HK_LAPIC_TIMER_CURRENT) <= 1);
}

static void tsc_deadline(void **state)
{
	hk_lapic_set_deadline(apic, 9000); /* in another mode: ignored */
	assert_int_equal(hk_lapic_get_deadline(apic), 0);
	write_reg(HK_LAPIC_LVT_TIMER, HK_LAPIC_TIMER_DEADLINE | 0x41);
	write_reg(HK_LAPIC_TIMER_INITIAL, 500); /* ignored in this one */
	assert_int_equal(read_reg(HK_LAPIC_TIMER_INITIAL), 0);
	assert_int_equal(hk_lapic_deadline_ns(apic, &now), UINT64_MAX);
	hk_lapic_set_deadline(apic, now.tsc + 4001); /* at 2 GHz: 2000.5 ns */
	assert_int_equal(hk_lapic_deadline_ns(apic, &now), now.ns + 2001);
	now.ns += 2000;
	now.tsc += 4000;
	assert_int_equal(hk_lapic_tick(apic, &now), 0);
	now.ns += 1;
	now.tsc += 2;
	assert_int_equal(hk_lapic_tick(apic, &now), HK_LAPIC_WANT_IRQ);
	assert_int_equal(hk_lapic_ack(apic), 0x41);
	assert_int_equal(hk_lapic_get_deadline(apic), 0);
	hk_lapic_set_deadline(apic, 1); /* long ago: at once */
	assert_int_equal(hk_lapic_deadline_ns(apic, &now), now.ns);
	hk_lapic_set_deadline(apic, UINT64_MAX); /* in centuries */
	assert_true(hk_lapic_deadline_ns(apic, &now) > UINT64_MAX / 4);
	write_reg(HK_LAPIC_LVT_TIMER, HK_LAPIC_TIMER_ONE_SHOT | 0x41); /* disarms */
	assert_int_equal(hk_lapic_get_deadline(apic), 0);
	assert_int_equal(hk_lapic_deadline_ns(apic, &now), UINT64_MAX);
}

static void timer_of_an_illegal_vector(void **state)
{
	write_reg(HK_LAPIC_LVT_TIMER, HK_LAPIC_TIMER_DEADLINE | 0x05);
	hk_lapic_set_deadline(apic, 1);
	hk_lapic_tick(apic, &now);
	assert_int_equal(hk_lapic_pending(apic), -1);
	write_reg(HK_LAPIC_ESR, 0);
	assert_int_equal(read_reg(HK_LAPIC_ESR), HK_LAPIC_ERROR_RECEIVE_VECTOR);
}

/* --- state --------------------------------------------------------------------- */

/* What KVM has at each offset; Linux: struct kvm_lapic_state, arch/x86/kvm/lapic.c. */
static void state_in_kvms_layout(void **state)
{
	uint8_t page[HK_LAPIC_SIZE];

	apic = &apics[1];
	enter_x2apic(apic);
	write_msr(HK_LAPIC_TPR, 0x20);
	hk_lapic_accept(apic, &VECTOR(0x91));
	hk_lapic_accept(apic, &(struct hk_ipi){.vector = 0x35, .level = true});
	hk_lapic_ack(apic);
	write_msr(HK_LAPIC_TIMER_DIVIDE, 0xb);
	write_msr(HK_LAPIC_LVT_TIMER, HK_LAPIC_TIMER_ONE_SHOT | 0x40);
	write_msr(HK_LAPIC_TIMER_INITIAL, 1000);
	write_msr(HK_LAPIC_ICR, UINT64_C(0x00000003000000fd));
	now.ns += 400;
	hk_lapic_save(apic, &now, page);
	assert_int_equal(hk_load_le32(page + 0x20), 1u << 24); /* xAPIC's form in either mode */
	assert_int_equal(hk_load_le32(page + 0x30), 0x50014);
	assert_int_equal(hk_load_le32(page + 0x80), 0x20);
	assert_int_equal(hk_load_le32(page + 0xa0), 0x90);
	assert_int_equal(hk_load_le32(page + 0xd0), 2);
	assert_int_equal(hk_load_le32(page + 0x140), 1u << 17); /* ISR of 0x91 */
	assert_int_equal(hk_load_le32(page + 0x190), 1u << 21); /* TMR of 0x35 */
	assert_int_equal(hk_load_le32(page + 0x210), 1u << 21); /* IRR of 0x35 */
	assert_int_equal(hk_load_le32(page + 0x300), 0xfd);
	assert_int_equal(hk_load_le32(page + 0x310), 3);
	assert_int_equal(hk_load_le32(page + 0x380), 1000);
	assert_int_equal(hk_load_le32(page + 0x390), 600);

	struct hk_lapic copy = {.base = apic->base};
	uint8_t again[HK_LAPIC_SIZE];

	hk_lapic_load(&copy, page, &now);
	hk_lapic_save(&copy, &now, again);
	assert_memory_equal(page, again, sizeof(page));
	assert_int_equal(hk_lapic_deadline_ns(&copy, &now), now.ns + 600);
	apic = &copy;
	assert_true(write_msr(HK_LAPIC_EOI, 0));
	assert_int_equal(hk_lapic_ack(apic), 0x35);
	assert_true(write_msr(HK_LAPIC_EOI, 0));
	assert_true(effect.eoi);
	apic = &apics[0];
}

static void expired_timers_stay_expired(void **state)
{
	struct hk_lapic copy = {.base = apic->base};
	uint8_t page[HK_LAPIC_SIZE];

	write_reg(HK_LAPIC_TIMER_INITIAL, 1000);
	now.ns += 1000000;
	hk_lapic_tick(apic, &now);
	hk_lapic_save(apic, &now, page);
	hk_lapic_load(&copy, page, &now);
	assert_int_equal(hk_lapic_deadline_ns(&copy, &now), UINT64_MAX);

	write_reg(HK_LAPIC_LVT_TIMER, HK_LAPIC_TIMER_DEADLINE | 0x40);
	hk_lapic_set_deadline(apic, now.tsc + 1);
	hk_lapic_save(apic, &now, page);
	hk_lapic_load(&copy, page, &now);
	assert_int_equal(hk_lapic_get_deadline(&copy), 0); /* it goes as an MSR */
}

/* In the last tick, too, when the count reads as 0. */
static void another_divisor(void **state)
{
	uint64_t start = now.ns;

	(void)state;
	for (unsigned divide = 0xa; divide <= 0xb; divide++) { /* by 128, as it was; by 1 */
		start = now.ns;
		write_reg(HK_LAPIC_TIMER_DIVIDE, 0xa);
		write_reg(HK_LAPIC_LVT_TIMER, 0x40);
		write_reg(HK_LAPIC_TIMER_INITIAL, 10);
		now.ns = start + 1280 - 100;
		write_reg(HK_LAPIC_TIMER_DIVIDE, divide);
		assert_in_range(hk_lapic_deadline_ns(apic, &now), now.ns, start + 1280);
		now.ns = start + 1280;
		assert_int_equal(hk_lapic_tick(apic, &now), 1);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(power_on_values, setup),
		cmocka_unit_test_setup(init_keeps_base_and_number, setup),
		cmocka_unit_test_setup(writable_bits, setup),
		cmocka_unit_test_setup(software_disable_masks_all_entries, setup),
		cmocka_unit_test_setup(errors_are_shown_by_a_write, setup),
		cmocka_unit_test_setup(mode_changes, setup),
		cmocka_unit_test_setup(disabling_forgets, setup),
		cmocka_unit_test_setup(x2apic_registers, setup),
		cmocka_unit_test_setup(x2apic_reserved_bits, setup),
		cmocka_unit_test_setup(higher_goes_first, setup),
		cmocka_unit_test_setup(same_class_waits, setup),
		cmocka_unit_test_setup(task_priority, setup),
		cmocka_unit_test_setup(level_triggered_ends_at_the_ioapic, setup),
		cmocka_unit_test_setup(requested_again_while_in_service, setup),
		cmocka_unit_test_setup(what_icr_sends, setup),
		cmocka_unit_test_setup(shorthands, setup),
		cmocka_unit_test_setup(physical_destinations, setup),
		cmocka_unit_test_setup(flat_destinations, setup),
		cmocka_unit_test_setup(cluster_destinations, setup),
		cmocka_unit_test_setup(x2apic_destinations, setup),
		cmocka_unit_test_setup(lowest_priority_finds_one, setup),
		cmocka_unit_test_setup(init_deassert_does_nothing, setup),
		cmocka_unit_test_setup(divide_values, setup),
		cmocka_unit_test_setup(one_shot, setup),
		cmocka_unit_test_setup(periodic, setup),
		cmocka_unit_test_setup(shortest_period, setup),
		cmocka_unit_test_setup(another_divisor, setup),
		cmocka_unit_test_setup(tsc_deadline, setup),
		cmocka_unit_test_setup(timer_of_an_illegal_vector, setup),
		cmocka_unit_test_setup(state_in_kvms_layout, setup),
		cmocka_unit_test_setup(expired_timers_stay_expired, setup),
	};

	return cmocka_run_group_tests_name("lapic", tests, NULL, NULL);
}
