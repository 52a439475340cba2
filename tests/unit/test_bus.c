/* SPDX-License-Identifier: ISC */
/* The bus: who answers at which address. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <string.h>

#include "base/util.h"
#include "machine/bus.h"

/* A device that remembers the last access and answers with a pattern. */
struct probe {
	struct hk_region region;
	uint64_t offset;
	unsigned len;
	uint64_t written;
	unsigned accesses;
};

static uint64_t probe_read(struct hk_region *region, uint64_t offset, unsigned len)
{
	struct probe *p = hk_container_of(region, struct probe, region);

	p->offset = offset;
	p->len = len;
	p->accesses++;
	return 0x8877665544332211;
}

static void probe_write(struct hk_region *region, uint64_t offset, unsigned len, uint64_t value)
{
	struct probe *p = hk_container_of(region, struct probe, region);

	p->offset = offset;
	p->len = len;
	p->written = value;
	p->accesses++;
}

static const struct hk_region_ops probe_ops = {"probe", probe_read, probe_write};

static struct probe probe_at(uint64_t base, uint64_t size)
{
	return (struct probe){
		.region =
			{
				.ops = &probe_ops,
				.space = HK_SPACE_MMIO,
				.base = base,
				.size = size,
			},
	};
}

static void dispatch(void **state)
{
	struct hk_bus bus;
	struct probe low = probe_at(0x1000, 0x1000);
	struct probe high = probe_at(0x3000, 0x100);
	uint8_t data[8];

	hk_bus_init(&bus);
	assert_int_equal(hk_bus_add(&bus, &high.region, NULL), 0);
	assert_int_equal(hk_bus_add(&bus, &low.region, NULL), 0);

	hk_bus_access(&bus, HK_SPACE_MMIO, 0x1ffc, data, 4, false);
	assert_int_equal(low.offset, 0xffc);
	assert_memory_equal(data, "\x11\x22\x33\x44", 4);

	memcpy(data, "\x01\x02\x03\x04\x05\x06\x07\x08", 8);
	hk_bus_access(&bus, HK_SPACE_MMIO, 0x3008, data, 8, true);
	assert_int_equal(high.offset, 8);
	assert_int_equal(high.written, 0x0807060504030201);

	/* A short write leaves no rest of the buffer in the value. */
	hk_bus_access(&bus, HK_SPACE_MMIO, 0x3000, data, 1, true);
	assert_int_equal(high.written, 0x01);
}

static void nothing_there_reads_as_ones(void **state)
{
	static const struct {
		uint64_t addr;
		unsigned len;
	} table[] = {
		{0, 4},
		{0xfff, 1},
		{0x1ffe, 4}, /* runs over the end */
		{0x2000, 1},
		{UINT64_MAX, 1},
		{UINT64_MAX - 7, 8},
	};
	struct hk_bus bus;
	struct probe p = probe_at(0x1000, 0x1000);

	hk_bus_init(&bus);
	assert_int_equal(hk_bus_add(&bus, &p.region, NULL), 0);
	for (size_t i = 0; i < HK_ARRAY_SIZE(table); i++) {
		uint8_t data[8] = {0};

		hk_bus_access(&bus, HK_SPACE_MMIO, table[i].addr, data, table[i].len, false);
		for (unsigned b = 0; b < table[i].len; b++) {
			assert_int_equal(data[b], 0xff);
		}
		hk_bus_access(&bus, HK_SPACE_MMIO, table[i].addr, data, table[i].len, true);
	}
	assert_int_equal(p.accesses, 0);
	assert_int_equal(bus.stray, 2 * HK_ARRAY_SIZE(table));

	/* Ports and memory are different spaces. */
	uint8_t byte = 0;

	hk_bus_access(&bus, HK_SPACE_PORT, 0x1000, &byte, 1, false);
	assert_int_equal(byte, 0xff);
}

static void overlaps_are_refused(void **state)
{
	static const struct {
		uint64_t base, size;
		int result;
	} table[] = {
		{0x1000, 1, -EEXIST},
		{0x0fff, 2, -EEXIST},
		{0x1fff, 1, -EEXIST},
		{0x0800, 0x4000, -EEXIST},
		{0x0fff, 1, 0},
		{0x2000, 1, 0},
	};
	struct probe taken = probe_at(0x1000, 0x1000);

	for (size_t i = 0; i < HK_ARRAY_SIZE(table); i++) {
		struct hk_bus bus;
		struct probe p = probe_at(table[i].base, table[i].size);

		hk_bus_init(&bus);
		assert_int_equal(hk_bus_add(&bus, &taken.region, NULL), 0);
		assert_int_equal(hk_bus_add(&bus, &p.region, NULL), table[i].result);
	}
}

static void full_bus(void **state)
{
	struct probe devices[HK_BUS_MAX_REGIONS + 1];
	struct hk_err err = HK_ERR_INIT;
	struct hk_bus bus;

	hk_bus_init(&bus);
	for (unsigned i = 0; i < HK_BUS_MAX_REGIONS; i++) {
		devices[i] = probe_at(0x1000 * (uint64_t)(HK_BUS_MAX_REGIONS - i), 0x1000);
		assert_int_equal(hk_bus_add(&bus, &devices[i].region, NULL), 0);
	}
	devices[HK_BUS_MAX_REGIONS] = probe_at(0x1000000, 1);
	assert_int_equal(hk_bus_add(&bus, &devices[HK_BUS_MAX_REGIONS].region, &err), -ENOSPC);
	for (unsigned i = 0; i < HK_BUS_MAX_REGIONS; i++) {
		uint8_t byte;

		hk_bus_access(&bus, HK_SPACE_MMIO, devices[i].region.base, &byte, 1, false);
		assert_int_equal(devices[i].accesses, 1);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(dispatch),
		cmocka_unit_test(nothing_there_reads_as_ones),
		cmocka_unit_test(overlaps_are_refused),
		cmocka_unit_test(full_bus),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
