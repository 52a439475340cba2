/* SPDX-License-Identifier: ISC */
/* The PVH entry: the start info, and what it points to. run_guest gives an initramfs of 5000 bytes.
 */
#include "guest.h"

struct start_info {
	uint32_t magic, version, flags, module_count;
	uint64_t modules, cmdline, rsdp, map;
	uint32_t map_entries, reserved;
};

struct module {
	uint64_t gpa, len, cmdline, reserved;
};

void guest_main(void)
{
	const struct start_info *info = (const struct start_info *)guest_info;
	const struct module *module = (const struct module *)info->modules;
	struct map_entry entry;

	check(guest_is_pvh == 1, "entered by the PVH entry");
	check(info->magic == 0x336ec578 && info->version == 1 && info->flags == 0, "start info");
	check(info->module_count == 1 && module->len == guest_option("initramfs"), "one module");
	check(module->gpa % 4096 == 0 && module->cmdline == 0, "its address");
	check(((const uint8_t *)module->gpa)[0] == 'i' &&
			((const uint8_t *)module->gpa)[module->len - 1] == 'I',
		"its bytes");
	check(info->map_entries > 0 && guest_map(0, &entry) && entry.type == 1 && entry.gpa == 0,
		"memory map");
	check(guest_acpi_find("FACP") != NULL, "ACPI tables");
	check(guest_option("memory") == 64, "command line");
}
