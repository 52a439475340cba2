/* SPDX-License-Identifier: ISC */
/* The IOAPIC against the 82093AA data sheet, and its state in KVM's form. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <string.h>

#include "engine/soft/apic/ioapic.h"

enum { SELECT = 0, WINDOW = 0x10, PIN = 5, VECTOR = 0x45 };

static struct hk_ioapic io;
static struct hk_ipi ipi;

static int setup(void **state)
{
	hk_ioapic_reset(&io);
	ipi = (struct hk_ipi){0};
	return 0;
}

static int write_reg(uint32_t reg, uint32_t value)
{
	assert_int_equal(hk_ioapic_write(&io, SELECT, reg), -1);
	return hk_ioapic_write(&io, WINDOW, value);
}

static uint32_t read_reg(uint32_t reg)
{
	hk_ioapic_write(&io, SELECT, reg);
	return hk_ioapic_read(&io, WINDOW);
}

static int route(unsigned pin, uint32_t low, uint8_t dest)
{
	write_reg(0x10 + 2 * pin + 1, (uint32_t)dest << 24);
	return write_reg(0x10 + 2 * pin, low);
}

/* The pin goes to @level. Return: did a message come of it? */
static bool set(bool level)
{
	return hk_ioapic_set(&io, PIN, level) && hk_ioapic_service(&io, PIN, &ipi);
}

static void registers(void **state)
{
	assert_int_equal(read_reg(0), 0);
	assert_int_equal(read_reg(1), 0x170011); /* 24 entries */
	write_reg(0, 0x0f000000);
	assert_int_equal(read_reg(0), 0x0f000000);
	assert_int_equal(read_reg(2), 0x0f000000);
	write_reg(1, 0);
	assert_int_equal(read_reg(1), 0x170011);
	for (unsigned pin = 0; pin < HK_IOAPIC_PINS; pin++) {
		assert_int_equal(read_reg(0x10 + 2 * pin), 0x10000);
		assert_int_equal(read_reg(0x10 + 2 * pin + 1), 0);
	}
	write_reg(0x10, UINT32_MAX);
	write_reg(0x11, UINT32_MAX);
	assert_int_equal(read_reg(0x10), 0x1afff); /* status and remote IRR are read-only */
	assert_int_equal(read_reg(0x11), 0xff000000);
	assert_int_equal(read_reg(0x40), UINT32_MAX); /* beyond the last entry */
	assert_int_equal(write_reg(0x40, 0), -1);
	assert_int_equal(hk_ioapic_read(&io, SELECT), 0x40);
	assert_int_equal(hk_ioapic_read(&io, 0x20), 0);
}

static void an_edge_is_one_message(void **state)
{
	route(PIN, VECTOR, 3);
	assert_true(set(true));
	assert_int_equal(ipi.vector, VECTOR);
	assert_int_equal(ipi.dest, 3);
	assert_int_equal(ipi.mode, HK_IPI_FIXED);
	assert_false(ipi.logical || ipi.level || ipi.wide);
	assert_false(set(true)); /* still high */
	assert_false(set(false));
	assert_true(set(true));
	assert_int_equal(hk_ioapic_eoi(&io, VECTOR), 0);
	assert_int_equal(io.redirection[PIN] & HK_IOAPIC_REMOTE_IRR, 0);
}

static void modes_and_destinations(void **state)
{
	route(PIN, VECTOR | 1 << 8 | 1 << 11, 0x0f);
	assert_true(set(true));
	assert_int_equal(ipi.mode, HK_IPI_LOWEST);
	assert_true(ipi.logical);
	assert_int_equal(ipi.dest, 0x0f);
	set(false);
	route(PIN, 4 << 8, 0);
	assert_true(set(true));
	assert_int_equal(ipi.mode, HK_IPI_NMI);
}

static void masked_edges_are_lost(void **state)
{
	route(PIN, VECTOR | HK_IOAPIC_MASKED, 0);
	assert_false(set(true));
	assert_false(set(false));
	assert_int_equal(route(PIN, VECTOR, 0), -1);
	assert_true(set(true));
}

static void a_level_repeats_after_eoi(void **state)
{
	route(PIN, VECTOR | HK_IOAPIC_LEVEL, 0);
	assert_true(set(true));
	assert_true(ipi.level);
	assert_int_not_equal(read_reg(0x10 + 2 * PIN) & HK_IOAPIC_REMOTE_IRR, 0);
	assert_false(set(true)); /* not before the EOI */
	assert_int_equal(hk_ioapic_eoi(&io, VECTOR + 1), 0);
	assert_int_equal(hk_ioapic_eoi(&io, VECTOR), 1u << PIN);
	assert_true(hk_ioapic_service(&io, PIN, &ipi));
	assert_false(set(false));
	assert_int_equal(hk_ioapic_eoi(&io, VECTOR), 0);
	assert_int_equal(read_reg(0x10 + 2 * PIN) & HK_IOAPIC_REMOTE_IRR, 0);
	assert_true(set(true));
}

static void a_level_waits_behind_its_mask(void **state)
{
	route(PIN, VECTOR | HK_IOAPIC_LEVEL | HK_IOAPIC_MASKED, 0);
	assert_false(set(true));
	assert_int_equal(route(PIN, VECTOR | HK_IOAPIC_LEVEL, 0), PIN);
	assert_true(hk_ioapic_service(&io, PIN, &ipi));
	assert_int_equal(route(PIN, VECTOR | HK_IOAPIC_LEVEL | HK_IOAPIC_MASKED, 0), -1);
	assert_int_equal(hk_ioapic_eoi(&io, VECTOR), 0); /* masked: kept for later */
	assert_int_equal(route(PIN, VECTOR | HK_IOAPIC_LEVEL, 0), PIN);
}

/* How Linux ends an interrupt whose EOI got lost: to edge, and back. */
static void edge_and_back_clears_remote_irr(void **state)
{
	route(PIN, VECTOR | HK_IOAPIC_LEVEL, 0);
	assert_true(set(true));
	assert_int_equal(write_reg(0x10 + 2 * PIN, VECTOR | HK_IOAPIC_MASKED), -1);
	assert_int_equal(write_reg(0x10 + 2 * PIN, VECTOR | HK_IOAPIC_LEVEL), PIN);
}

static void one_vector_of_two_pins(void **state)
{
	route(1, VECTOR | HK_IOAPIC_LEVEL, 0);
	route(2, VECTOR | HK_IOAPIC_LEVEL, 0);
	assert_true(hk_ioapic_set(&io, 1, true) && hk_ioapic_service(&io, 1, &ipi));
	assert_true(hk_ioapic_set(&io, 2, true) && hk_ioapic_service(&io, 2, &ipi));
	assert_int_equal(hk_ioapic_eoi(&io, VECTOR), 1u << 1 | 1u << 2);
}

/* KVM saves lines that are high, less edges that were delivered. */
static void state_as_kvms(void **state)
{
	struct hk_irqchip_state saved, again;

	route(1, 0x31, 0);
	route(2, 0x32 | HK_IOAPIC_LEVEL, 1);
	route(3, 0x33 | HK_IOAPIC_MASKED, 0);
	route(4, 0x34 | HK_IOAPIC_LEVEL | HK_IOAPIC_MASKED, 0);
	for (unsigned pin = 1; pin <= 4; pin++) {
		if (hk_ioapic_set(&io, pin, true)) {
			hk_ioapic_service(&io, pin, &ipi);
		}
	}
	write_reg(0, 0x02000000);
	hk_ioapic_save(&io, &saved);
	assert_int_equal(saved.id, 2);
	assert_int_equal(saved.ioregsel, 0);
	assert_int_equal(saved.irr, 1u << 2 | 1u << 3 | 1u << 4);
	assert_int_equal(saved.redirection[1], 0x31);
	assert_int_equal(saved.redirection[2],
		UINT64_C(1) << 56 | 0x32 | HK_IOAPIC_LEVEL | HK_IOAPIC_REMOTE_IRR);
	assert_int_equal(saved.redirection[3], 0x33 | HK_IOAPIC_MASKED);

	hk_ioapic_reset(&io);
	assert_int_equal(hk_ioapic_load(&io, &saved), 0); /* pin 2 waits for its EOI */
	hk_ioapic_save(&io, &again);
	assert_memory_equal(&saved, &again, sizeof(saved));
	assert_int_equal(hk_ioapic_eoi(&io, 0x32), 1u << 2);
	assert_int_equal(route(4, 0x34 | HK_IOAPIC_LEVEL, 0), 4);
}

/* A machine may be saved between an edge and its message's delivery elsewhere: it comes again. */
static void saved_edges_are_delivered(void **state)
{
	struct hk_irqchip_state saved = {.irr = 1u << PIN};

	saved.redirection[PIN] = VECTOR;
	assert_int_equal(hk_ioapic_load(&io, &saved), 1u << PIN);
	assert_true(hk_ioapic_service(&io, PIN, &ipi));
	hk_ioapic_save(&io, &saved);
	assert_int_equal(saved.irr, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(registers, setup),
		cmocka_unit_test_setup(an_edge_is_one_message, setup),
		cmocka_unit_test_setup(modes_and_destinations, setup),
		cmocka_unit_test_setup(masked_edges_are_lost, setup),
		cmocka_unit_test_setup(a_level_repeats_after_eoi, setup),
		cmocka_unit_test_setup(a_level_waits_behind_its_mask, setup),
		cmocka_unit_test_setup(edge_and_back_clears_remote_irr, setup),
		cmocka_unit_test_setup(one_vector_of_two_pins, setup),
		cmocka_unit_test_setup(state_as_kvms, setup),
		cmocka_unit_test_setup(saved_edges_are_delivered, setup),
	};

	return cmocka_run_group_tests_name("ioapic", tests, NULL, NULL);
}
