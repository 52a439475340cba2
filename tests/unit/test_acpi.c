/* SPDX-License-Identifier: ISC */
/*
 * ACPI tables: found and checksummed as an operating system does it; and, where iasl is
 * there, taken apart by it and compared with the text we mean.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/sys.h"
#include "base/util.h"
#include "machine/acpi.h"
#include "machine/aml.h"
#include "machine/layout.h"

static const struct hk_slot slots[] = {
	{.gpa = HK_SLOTS_GPA, .len_bytes = 0x1000, .gsi = 6},
	{.gpa = HK_SLOTS_GPA + 0x1000, .len_bytes = 0x1000, .gsi = 7},
};

static uint8_t sum(const uint8_t *bytes, size_t len)
{
	uint8_t s = 0;

	while (len-- > 0) {
		s = (uint8_t)(s + *bytes++);
	}
	return s;
}

static const uint8_t *table_at(const struct hk_mem *mem, hk_gpa gpa, const char *signature)
{
	const uint8_t *t = hk_mem_at(mem, gpa, 36);

	assert_non_null(t);
	assert_memory_equal(t, signature, 4);
	assert_non_null(hk_mem_at(mem, gpa, hk_load_le32(t + 4)));
	assert_int_equal(sum(t, hk_load_le32(t + 4)), 0);
	assert_true(gpa + hk_load_le32(t + 4) <= HK_ACPI_GPA + HK_ACPI_SIZE);
	return t;
}

static const uint8_t *find_tables(const struct hk_mem *mem, hk_gpa rsdp_gpa,
	const uint8_t **ret_fadt, const uint8_t **ret_madt)
{
	const uint8_t *rsdp = hk_mem_at(mem, rsdp_gpa, 36);

	assert_memory_equal(rsdp, "RSD PTR ", 8);
	assert_int_equal(sum(rsdp, 20), 0);
	assert_int_equal(sum(rsdp, 36), 0);

	const uint8_t *xsdt = table_at(mem, hk_load_le64(rsdp + 24), "XSDT");

	assert_int_equal(hk_load_le32(xsdt + 4), 36 + 16);
	*ret_fadt = table_at(mem, hk_load_le64(xsdt + 36), "FACP");
	*ret_madt = table_at(mem, hk_load_le64(xsdt + 44), "APIC");
	return table_at(mem, hk_load_le64(*ret_fadt + 140), "DSDT");
}

static void tables_hang_together(void **state)
{
	const uint8_t *fadt, *madt;
	struct hk_mem mem;
	hk_gpa rsdp;

	assert_int_equal(hk_mem_create(&mem, 32 * HK_MIB, NULL), 0);
	assert_int_equal(hk_acpi_build(&mem, 16, slots, 2, &rsdp, NULL), 0);
	find_tables(&mem, rsdp, &fadt, &madt);

	assert_true((hk_load_le32(fadt + 112) & 1u << 20) != 0); /* hardware-reduced */
	assert_int_equal(hk_load_le64(fadt + 248), 0x600);       /* sleep control */
	assert_int_equal(hk_load_le32(madt + 4), 36 + 8 + 16 * 8 + 12);
	for (unsigned i = 0; i < 16; i++) {
		assert_int_equal(madt[44 + 8 * i], 0);
		assert_int_equal(madt[44 + 8 * i + 3], i);
	}
	hk_mem_finish(&mem);
}

static void all_slots_fit(void **state)
{
	struct hk_slot all[HK_MAX_SLOTS];
	struct hk_mem mem;
	hk_gpa rsdp;

	for (unsigned i = 0; i < HK_MAX_SLOTS; i++) {
		all[i] = (struct hk_slot){HK_SLOTS_GPA + i * 0x1000, 0x1000, HK_FIRST_SLOT_GSI + i};
	}
	assert_int_equal(hk_mem_create(&mem, 32 * HK_MIB, NULL), 0);
	assert_int_equal(hk_acpi_build(&mem, HK_MAX_VCPUS, all, HK_MAX_SLOTS, &rsdp, NULL), 0);
	hk_mem_finish(&mem);
}

/* Integers take the shortest form; package lengths count themselves. */
static void aml_encoding(void **state)
{
	uint8_t bytes[64];
	struct hk_aml aml = {.data = bytes, .size = sizeof(bytes)};

	hk_aml_integer(&aml, 0);
	hk_aml_integer(&aml, 0xff);
	hk_aml_integer(&aml, 0x1234);
	hk_aml_integer(&aml, 0xd0000000);
	assert_memory_equal(bytes, "\x00\x0a\xff\x0b\x34\x12\x0c\x00\x00\x00\xd0", 11);

	aml.len = 0;
	hk_aml_end(&aml, hk_aml_device(&aml, "VR00"));
	assert_int_equal(aml.len, 9);
	assert_memory_equal(bytes, "\x5b\x82\x87\x00\x00VR00", 9);

	aml.len = 0;
	hk_aml_path(&aml, "\\_SB_.VGEN");
	assert_memory_equal(bytes, "\\\x2e_SB_VGEN", 10);
}

static void aml_overflow_is_sticky_and_harmless(void **state)
{
	uint8_t bytes[16];

	for (size_t size = 0; size < sizeof(bytes); size++) {
		struct hk_aml aml = {.data = bytes, .size = size};
		size_t mark = hk_aml_device(&aml, "VR00");
		size_t crs = hk_aml_crs(&aml);

		hk_aml_memory32(&aml, 0, 0);
		hk_aml_crs_end(&aml, crs);
		hk_aml_end(&aml, mark);
		assert_true(aml.overflow);
		assert_true(aml.len <= size);
	}
}

/* Text that iasl must find in our DSDT. */
static const char *const expected[] = {
	"Device (VR00)",
	"Name (_HID, \"LNRO0005\")",
	"0xD0000000,         // Address Base",
	"0xD0001000,         // Address Base",
	"Interrupt (ResourceConsumer, Edge, ActiveHigh, Exclusive",
	"0x00000006,",
	"Name (_HID, EisaId (\"PNP0501\")",
	"Name (_CID, \"VM_Gen_Counter\")",
	"Name (_HID, \"ACPI0013\"",
	"Method (_EVT, 1, Serialized)",
	"Notify (\\_SB.VGEN, 0x80)",
	"Name (_S5, Package (0x02)",
};

static void iasl_agrees(void **state)
{
	const uint8_t *fadt, *madt, *dsdt;
	char dir[] = "/tmp/hako-acpi-XXXXXX";
	char command[128];
	struct hk_mem mem;
	hk_gpa rsdp;
	void *text;
	size_t len;

	if (system("command -v iasl >/dev/null 2>&1") != 0) {
		skip();
	}
	assert_int_equal(hk_mem_create(&mem, 32 * HK_MIB, NULL), 0);
	assert_int_equal(hk_acpi_build(&mem, 2, slots, 2, &rsdp, NULL), 0);
	dsdt = find_tables(&mem, rsdp, &fadt, &madt);
	assert_non_null(mkdtemp(dir));
	assert_int_equal(chdir(dir), 0);
	assert_int_equal(
		hk_write_file_atomic("dsdt.aml", dsdt, hk_load_le32(dsdt + 4), 0600, NULL), 0);
	assert_int_equal(system("iasl -d dsdt.aml >iasl.log 2>&1"), 0);
	assert_int_equal(hk_read_file("dsdt.dsl", 1 << 20, &text, &len, NULL), 0);
	for (size_t i = 0; i < HK_ARRAY_SIZE(expected); i++) {
		if (strstr(text, expected[i]) == NULL) {
			fail_msg("not in the disassembly: %s\n%s", expected[i], (char *)text);
		}
	}
	free(text);
	snprintf(command, sizeof(command), "rm -rf %s", dir);
	assert_int_equal(system(command), 0);
	hk_mem_finish(&mem);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(tables_hang_together),
		cmocka_unit_test(all_slots_fit),
		cmocka_unit_test(aml_encoding),
		cmocka_unit_test(aml_overflow_is_sticky_and_harmless),
		cmocka_unit_test(iasl_agrees),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
