/* SPDX-License-Identifier: ISC */
/*
 * From the entry to guest_main(), and what was handed over there: zero page or PVH start info,
 * command line, memory map, ACPI tables.
 */
#include "guest.h"

const uint8_t *guest_info;

void guest_start(const uint8_t *info); /* from start.S */

/* Compilers call these on their own. */
void *memset(void *to, int byte, size_t len);
void *memcpy(void *to, const void *from, size_t len);

void *memset(void *to, int byte, size_t len)
{
	void *at = to;

	__asm__ volatile("rep stosb" : "+D"(at), "+c"(len) : "a"(byte) : "memory");
	return to;
}

void *memcpy(void *to, const void *from, size_t len)
{
	void *at = to;

	__asm__ volatile("rep movsb" : "+D"(at), "+S"(from), "+c"(len) : : "memory");
	return to;
}

static uint64_t load(const uint8_t *at, unsigned bytes)
{
	uint64_t value = 0;

	memcpy(&value, at, bytes);
	return value;
}

void guest_power_off(void)
{
	for (;;) {
		outb(POWER_PORT, 1 << 5 | 5 << 2);
	}
}

void guest_start(const uint8_t *info)
{
	guest_info = info;
	guest_main();
	guest_power_off();
}

const char *guest_cmdline(void)
{
	uint64_t gpa = guest_is_pvh ? load(guest_info + 24, 8) : load(guest_info + 0x228, 4);

	return (const char *)gpa;
}

/* The text behind @name if @text starts with it. */
static const char *behind(const char *text, const char *name)
{
	while (*name != '\0') {
		if (*text++ != *name++) {
			return NULL;
		}
	}
	return text;
}

uint64_t guest_option(const char *name)
{
	uint64_t value = 0;

	for (const char *word = guest_cmdline(); *word != '\0'; word++) {
		const char *at = behind(word, name);

		if (at == NULL || *at++ != '=') {
			while (*word != ' ' && word[1] != '\0') {
				word++;
			}
			continue;
		}
		for (; *at >= '0' && *at <= '9'; at++) {
			value = value * 10 + (uint64_t)(*at - '0');
		}
		break;
	}
	return value;
}

bool guest_map(unsigned index, struct map_entry *entry)
{
	unsigned count = (unsigned)(guest_is_pvh ? load(guest_info + 48, 4) : guest_info[0x1e8]);
	const uint8_t *at = guest_is_pvh ? (const uint8_t *)load(guest_info + 40, 8) + 24 * index
					 : guest_info + 0x2d0 + 20 * index;

	if (index >= count) {
		return false;
	}
	*entry = (struct map_entry){load(at, 8), load(at + 8, 8), (uint32_t)load(at + 16, 4)};
	return true;
}

/* --- ACPI: section 5.2 of the specification ---------------------------------- */

uint64_t guest_rsdp(void)
{
	return guest_is_pvh ? load(guest_info + 32, 8) : load(guest_info + 0x70, 8);
}

bool guest_checksum_ok(const uint8_t *bytes, size_t len)
{
	uint8_t sum = 0;

	while (len > 0) {
		sum = (uint8_t)(sum + bytes[--len]);
	}
	return sum == 0;
}

static bool table_ok(const uint8_t *table, const char *signature)
{
	return behind((const char *)table, signature) != NULL &&
		guest_checksum_ok(table, load(table + 4, 4));
}

const uint8_t *guest_acpi_find(const char *signature)
{
	const uint8_t *rsdp = (const uint8_t *)guest_rsdp();

	if (behind((const char *)rsdp, "RSD PTR ") == NULL || !guest_checksum_ok(rsdp, 20) ||
		!guest_checksum_ok(rsdp, load(rsdp + 20, 4))) {
		return NULL;
	}

	const uint8_t *xsdt = (const uint8_t *)load(rsdp + 24, 8);

	if (!table_ok(xsdt, "XSDT")) {
		return NULL;
	}
	for (uint64_t at = 36; at < load(xsdt + 4, 4); at += 8) {
		const uint8_t *table = (const uint8_t *)load(xsdt + at, 8);

		if (table_ok(table, signature)) {
			return table;
		}
	}
	return NULL;
}

unsigned guest_cpu_count(void)
{
	enum { LOCAL_APIC = 0, ENABLED = 1 };
	const uint8_t *madt = guest_acpi_find("APIC");
	unsigned count = 0;

	if (madt == NULL) {
		return 0;
	}
	for (const uint8_t *at = madt + 44; at < madt + load(madt + 4, 4); at += at[1]) {
		count += at[0] == LOCAL_APIC && (at[4] & ENABLED) != 0;
	}
	return count;
}
