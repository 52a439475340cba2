/* SPDX-License-Identifier: ISC */
/* The 64-bit entry: boot parameters, memory map, command line, and the ACPI tables one by one. */
#include "guest.h"

static uint32_t field32(unsigned at)
{
	return *(const uint32_t *)(guest_info + at);
}

static void check_boot_parameters(void)
{
	const uint8_t *image = (const uint8_t *)(uint64_t)field32(0x218);
	uint32_t len = field32(0x21c);

	check(guest_is_pvh == 0, "entered by the 64-bit entry");
	check(field32(0x202) == 0x53726448 && guest_info[0x1fe] == 0x55 &&
			guest_info[0x1ff] == 0xaa,
		"header");
	check(guest_info[0x210] == 0xff, "type of loader");
	check(len == guest_option("initramfs") && image[0] == 'i' && image[len - 1] == 'I',
		"initramfs");
	check(guest_option("memory") == 64, "command line");
}

static void show_map(void)
{
	struct map_entry entry;

	for (unsigned i = 0; guest_map(i, &entry); i++) {
		say("map %8x +%8x type %u\n", entry.gpa, entry.len, (uint64_t)entry.type);
	}
}

static void check_acpi(void)
{
	enum { HW_REDUCED = 1 << 20, RESET_REGISTER = 1 << 10 };
	const uint8_t *fadt = guest_acpi_find("FACP");
	const uint8_t *dsdt;
	const uint8_t *madt = guest_acpi_find("APIC");

	check(fadt != NULL && madt != NULL, "RSDP, XSDT, FADT and MADT");
	if (fadt == NULL || madt == NULL) {
		return;
	}
	dsdt = *(const uint8_t *const *)(fadt + 140);
	check(*(const uint32_t *)dsdt == 0x54445344 && /* "DSDT" */
			guest_checksum_ok(dsdt, *(const uint32_t *)(dsdt + 4)),
		"DSDT");
	check((*(const uint32_t *)(fadt + 112) & HW_REDUCED) != 0, "hardware-reduced");
	check((*(const uint32_t *)(fadt + 112) & RESET_REGISTER) != 0 &&
			*(const uint64_t *)(fadt + 120) == RESET_PORT && fadt[128] == 1,
		"reset register");
	check(*(const uint64_t *)(fadt + 248) == POWER_PORT, "sleep control register");
	check(*(const uint32_t *)(madt + 36) == 0xfee00000, "address of the local APIC");
	check(guest_cpu_count() == guest_option("cpus"), "CPUs in the MADT");
}

void guest_main(void)
{
	check_boot_parameters();
	show_map();
	check_acpi();
}
