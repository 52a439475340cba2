/* SPDX-License-Identifier: ISC */
/* The encoding of CPU state: what goes in comes out, and a stream of lies is refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#include "base/util.h"
#include "engine/vcpu_state.h"

/* Every byte of the structure takes part: values that are alike in no two fields. */
static void fill(struct hk_vcpu_state *s)
{
	uint64_t n = 0x0101010101010101;

	memset(s, 0, sizeof(*s));
	for (unsigned i = 0; i < HK_GPR_COUNT; i++) {
		s->gpr[i] = n * (i + 1);
	}
	s->rip = 0xffffffff81000000;
	s->rflags = 0x246;
	for (unsigned i = 0; i < HK_SEG_COUNT; i++) {
		s->seg[i] = (struct hk_segment){
			.base = 0x1000 * i,
			.limit = 0xfffff + i,
			.selector = (uint16_t)(8 * i),
			.attr = (uint16_t)(0xa090 + i),
			.unusable = i % 2,
		};
	}
	s->gdt = (struct hk_table_reg){0xfffffe0000001000, 127};
	s->idt = (struct hk_table_reg){0xfffffe0000000000, 4095};
	s->cr0 = 0x80050033;
	s->cr2 = 0x7fff12345678;
	s->cr3 = 0x1234000;
	s->cr4 = 0x6f0;
	s->cr8 = 5;
	s->efer = 0xd01;
	s->apic_base = 0xfee00d00;
	s->dr[0] = 1;
	s->dr[3] = 4;
	s->dr6 = 0xffff0ff0;
	s->dr7 = 0x400;
	s->xcr0 = 3;
	for (unsigned i = 0; i < sizeof(s->xsave); i++) {
		s->xsave[i] = (uint8_t)(i * 7);
	}
	for (unsigned i = 0; i < sizeof(s->lapic); i++) {
		s->lapic[i] = (uint8_t)(i * 13);
	}
	s->msr_count = HK_MAX_MSRS;
	for (unsigned i = 0; i < HK_MAX_MSRS; i++) {
		s->msrs[i] = (struct hk_msr){.index = 0xc0000000 + i, .value = n * i};
	}
	s->pending =
		(struct hk_pending){true, 14, true, 0x6, 0xdeadbeef, true, 0x31, true, true, 1};
	s->mp_state = HK_MP_HALTED;
}

static void vcpu_round_trip(void **state)
{
	struct hk_vcpu_state *before = malloc(sizeof(*before));
	struct hk_vcpu_state *after = malloc(sizeof(*after));
	struct hk_writer w = {0};
	struct hk_writer again = {0};
	struct hk_reader r;

	fill(before);
	hk_vcpu_state_save(before, &w);
	hk_reader_init(&r, w.data, w.len);
	hk_vcpu_state_restore(after, &r);
	assert_int_equal(hk_reader_status(&r, NULL), 0);

	/* Field by field by way of the encoding: padding may differ in memory. */
	hk_vcpu_state_save(after, &again);
	assert_int_equal(again.len, w.len);
	assert_memory_equal(again.data, w.data, w.len);
	assert_int_equal(after->pending.exception_payload, 0xdeadbeef);
	assert_int_equal(after->mp_state, HK_MP_HALTED);
	hk_writer_finish(&w);
	hk_writer_finish(&again);
	free(before);
	free(after);
}

static void every_truncation_is_noticed(void **state)
{
	struct hk_vcpu_state *s = malloc(sizeof(*s));
	struct hk_writer w = {0};

	fill(s);
	hk_vcpu_state_save(s, &w);
	for (size_t len = 0; len < w.len; len += len < 600 ? 1 : 97) {
		struct hk_reader r;

		hk_reader_init(&r, w.data, len);
		hk_vcpu_state_restore(s, &r);
		assert_int_not_equal(hk_reader_status(&r, NULL), 0);
		assert_true(s->msr_count <= HK_MAX_MSRS);
	}
	hk_writer_finish(&w);
	free(s);
}

/* Any byte may be a lie; the result must be in range or refused. ASan watches. */
static void every_flipped_byte_is_survived(void **state)
{
	struct hk_vcpu_state *s = malloc(sizeof(*s));
	struct hk_writer w = {0};

	fill(s);
	hk_vcpu_state_save(s, &w);
	for (size_t i = 0; i < w.len; i++) {
		struct hk_reader r;

		w.data[i] ^= 0xff;
		hk_reader_init(&r, w.data, w.len);
		hk_vcpu_state_restore(s, &r);
		assert_true(s->msr_count <= HK_MAX_MSRS);
		assert_true(s->mp_state < HK_MP_STATE_COUNT);
		w.data[i] ^= 0xff;
	}
	hk_writer_finish(&w);
	free(s);
}

static void irqchip_and_clock_round_trip(void **state)
{
	struct hk_irqchip_state chip = {.id = 1, .ioregsel = 0x11, .irr = 0x5a5a};
	struct hk_clock_state clock = {.guest_ns = 0x123456789abcdef, .tsc_khz = 2700000};
	struct hk_irqchip_state chip_after;
	struct hk_clock_state clock_after;
	struct hk_writer w = {0};
	struct hk_reader r;

	for (unsigned i = 0; i < HK_ARRAY_SIZE(chip.redirection); i++) {
		chip.redirection[i] = UINT64_C(0x0100000000010000) + i;
	}
	hk_irqchip_state_save(&chip, &w);
	hk_clock_state_save(&clock, &w);
	hk_reader_init(&r, w.data, w.len);
	hk_irqchip_state_restore(&chip_after, &r);
	hk_clock_state_restore(&clock_after, &r);
	assert_int_equal(hk_reader_status(&r, NULL), 0);
	assert_int_equal(chip_after.id, chip.id);
	assert_int_equal(chip_after.ioregsel, chip.ioregsel);
	assert_int_equal(chip_after.irr, chip.irr);
	assert_memory_equal(chip.redirection, chip_after.redirection, sizeof(chip.redirection));
	assert_int_equal(clock_after.guest_ns, clock.guest_ns);
	assert_int_equal(clock_after.tsc_khz, clock.tsc_khz);
	hk_writer_finish(&w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(vcpu_round_trip),
		cmocka_unit_test(every_truncation_is_noticed),
		cmocka_unit_test(every_flipped_byte_is_survived),
		cmocka_unit_test(irqchip_and_clock_round_trip),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
