/* SPDX-License-Identifier: ISC */
/*
 * ACPI tables. The stock kernels find virtio-mmio devices through ACPI only, and believe
 * what is not there: a hardware-reduced machine without PIC, PIT, RTC, keyboard controller
 * or VGA is spared their probing.
 *
 *	RSDP -> XSDT -> FADT -> DSDT
 *	            \-> MADT
 *
 * Source: ACPI 6.4, section 5.2; virtio's _HID "LNRO0005" is Linux drivers/virtio/virtio_mmio.c's.
 */
#include "machine/acpi.h"

#include <assert.h>
#include <string.h>

#include "base/bytes.h"
#include "base/str.h"
#include "base/util.h"
#include "machine/aml.h"
#include "machine/layout.h"
#include "machine/power.h"
#include "machine/serial.h"

enum {
	HEADER_BYTES = 36,
	HEADER_LENGTH_AT = 4,
	HEADER_CHECKSUM_AT = 9,
	RSDP_BYTES = 36,
	FADT_BYTES = 276,
	TABLES_MAX_BYTES = 16384,
};

/* Tables are laid one after another, 16-byte aligned, from HK_ACPI_GPA on. */
struct builder {
	uint8_t bytes[TABLES_MAX_BYTES];
	size_t len;
	bool overflow;
};

static hk_gpa gpa_of(size_t offset)
{
	return HK_ACPI_GPA + offset;
}

static uint8_t checksum(const uint8_t *bytes, size_t len)
{
	uint8_t sum = 0;

	for (size_t i = 0; i < len; i++) {
		sum = (uint8_t)(sum + bytes[i]);
	}
	return (uint8_t)-sum;
}

/* Reserves @len zeroed bytes. Return: their offset; 0 with overflow set where there is no room. */
static size_t reserve(struct builder *b, size_t len)
{
	size_t at = hk_align_up(b->len, 16);

	if (!hk_range_within(at, len, sizeof(b->bytes))) {
		b->overflow = true;
		return 0;
	}
	b->len = at + len;
	return at;
}

static void finish_table(
	struct builder *b, size_t at, size_t len, const char *signature, uint8_t revision)
{
	uint8_t *t = b->bytes + at;

	if (b->overflow) {
		return;
	}
	memcpy(t, signature, 4);
	hk_store_le32(t + HEADER_LENGTH_AT, (uint32_t)len);
	t[8] = revision;
	memcpy(t + 10, "HAKO  ", 6);
	memcpy(t + 16, "HAKOVM  ", 8);
	hk_store_le32(t + 24, 1);
	memcpy(t + 28, "HAKO", 4);
	hk_store_le32(t + 32, 1);
	t[HEADER_CHECKSUM_AT] = checksum(t, len);
}

static void add_virtio(struct hk_aml *aml, unsigned index, const struct hk_slot *slot)
{
	char name[5];

	hk_fmt(name, sizeof(name), "VR%02u", index);

	size_t device = hk_aml_device(aml, name);

	hk_aml_name(aml, "_HID");
	hk_aml_string(aml, "LNRO0005");
	hk_aml_name(aml, "_UID");
	hk_aml_integer(aml, index);
	hk_aml_name(aml, "_CCA"); /* DMA is coherent */
	hk_aml_integer(aml, 1);

	size_t crs = hk_aml_crs(aml);

	hk_aml_memory32(aml, (uint32_t)slot->gpa, (uint32_t)slot->len_bytes);
	hk_aml_interrupt_edge(aml, slot->gsi);
	hk_aml_crs_end(aml, crs);
	hk_aml_end(aml, device);
}

static void add_serial(struct hk_aml *aml)
{
	size_t device = hk_aml_device(aml, "COM1");

	hk_aml_name(aml, "_HID");
	hk_aml_integer(aml, 0x0105d041); /* EISAID("PNP0501") */
	hk_aml_name(aml, "_UID");
	hk_aml_integer(aml, 0);

	size_t crs = hk_aml_crs(aml);

	hk_aml_io(aml, HK_SERIAL_PORT, 8);
	hk_aml_interrupt_edge(aml, HK_SERIAL_GSI);
	hk_aml_crs_end(aml, crs);
	hk_aml_end(aml, device);
}

/* The generation id, and the Generic Event Device whose interrupt says that it changed. */
static void add_generation_id(struct hk_aml *aml)
{
	enum { NOTIFY_CHANGED = 0x80 };
	size_t device = hk_aml_device(aml, "VGEN");

	hk_aml_name(aml, "_HID");
	hk_aml_string(aml, "HAKO0001");
	hk_aml_name(aml, "_CID");
	hk_aml_string(aml, "VM_Gen_Counter");
	hk_aml_name(aml, "_DDN");
	hk_aml_string(aml, "VM_Gen_Counter");
	hk_aml_name(aml, "ADDR");

	size_t package = hk_aml_package(aml, 2);

	hk_aml_integer(aml, HK_GENERATION_GPA);
	hk_aml_integer(aml, 0);
	hk_aml_end(aml, package);
	hk_aml_end(aml, device);

	device = hk_aml_device(aml, "GED_");
	hk_aml_name(aml, "_HID");
	hk_aml_string(aml, "ACPI0013");
	hk_aml_name(aml, "_UID");
	hk_aml_integer(aml, 0);

	size_t crs = hk_aml_crs(aml);

	hk_aml_interrupt_edge(aml, HK_GENERATION_GSI);
	hk_aml_crs_end(aml, crs);

	size_t method = hk_aml_method(aml, "_EVT", 1, true);

	hk_aml_notify(aml, "\\_SB_.VGEN", NOTIFY_CHANGED);
	hk_aml_end(aml, method);
	hk_aml_end(aml, device);
}

static size_t add_dsdt(struct builder *b, const struct hk_slot *slots, unsigned slot_count)
{
	size_t at = reserve(b, HEADER_BYTES);
	struct hk_aml aml = {.data = b->bytes + b->len, .size = sizeof(b->bytes) - b->len};
	size_t scope = hk_aml_scope(&aml, "\\_SB_");

	for (unsigned i = 0; i < slot_count; i++) {
		add_virtio(&aml, i, &slots[i]);
	}
	add_serial(&aml);
	add_generation_id(&aml);
	hk_aml_end(&aml, scope);

	hk_aml_name(&aml, "_S5_");

	size_t package = hk_aml_package(&aml, 2);

	hk_aml_integer(&aml, HK_POWER_S5_TYPE);
	hk_aml_integer(&aml, 0);
	hk_aml_end(&aml, package);

	b->overflow |= aml.overflow;
	b->len += aml.len;
	finish_table(b, at, b->len - at, "DSDT", 2);
	return at;
}

/* Generic address structure of a one-byte port. */
static void set_port(uint8_t *gas, uint16_t port)
{
	gas[0] = 1; /* system I/O */
	gas[1] = 8; /* bits wide */
	gas[3] = 1; /* byte access */
	hk_store_le64(gas + 4, port);
}

static size_t add_fadt(struct builder *b, size_t dsdt)
{
	enum { /* flags */
		WBINVD = 1 << 0,
		POWER_BUTTON_NOT_FIXED = 1 << 4,
		SLEEP_BUTTON_NOT_FIXED = 1 << 5,
		RESET_REGISTER = 1 << 10,
		HW_REDUCED = 1 << 20,
	};
	enum { /* IA-PC boot architecture: nothing legacy is there */
		NO_VGA = 1 << 2,
		NO_CMOS_RTC = 1 << 5,
	};
	size_t at = reserve(b, FADT_BYTES);
	uint8_t *t = b->bytes + at;

	hk_store_le32(t + 40, (uint32_t)gpa_of(dsdt));
	hk_store_le16(t + 109, NO_VGA | NO_CMOS_RTC);
	hk_store_le32(t + 112,
		WBINVD | POWER_BUTTON_NOT_FIXED | SLEEP_BUTTON_NOT_FIXED | RESET_REGISTER |
			HW_REDUCED);
	set_port(t + 116, HK_POWER_PORT + HK_POWER_RESET);
	t[128] = HK_POWER_RESET_VALUE;
	t[131] = 4; /* minor version: 6.4 */
	hk_store_le64(t + 140, gpa_of(dsdt));
	set_port(t + 244, HK_POWER_PORT + HK_POWER_SLEEP_CONTROL);
	set_port(t + 256, HK_POWER_PORT + HK_POWER_SLEEP_STATUS);
	finish_table(b, at, FADT_BYTES, "FACP", 6);
	return at;
}

static size_t add_madt(struct builder *b, unsigned vcpu_count)
{
	enum { LAPIC_ENTRY = 8, IOAPIC_ENTRY = 12, ENABLED = 1 };
	size_t len = HEADER_BYTES + 8 + LAPIC_ENTRY * vcpu_count + IOAPIC_ENTRY;
	size_t at = reserve(b, len);
	uint8_t *p = b->bytes + at + HEADER_BYTES;

	if (b->overflow) {
		return 0;
	}
	hk_store_le32(p, (uint32_t)HK_LAPIC_GPA);
	p += 8; /* flags 0: no dual 8259 */
	for (unsigned i = 0; i < vcpu_count; i++, p += LAPIC_ENTRY) {
		p[0] = 0;
		p[1] = LAPIC_ENTRY;
		p[2] = (uint8_t)i; /* processor UID */
		p[3] = (uint8_t)i; /* APIC id */
		hk_store_le32(p + 4, ENABLED);
	}
	p[0] = 1;
	p[1] = IOAPIC_ENTRY;
	p[2] = 0; /* IOAPIC id */
	hk_store_le32(p + 4, (uint32_t)HK_IOAPIC_GPA);
	hk_store_le32(p + 8, 0); /* its first GSI */
	finish_table(b, at, len, "APIC", 5);
	return at;
}

static size_t add_xsdt(struct builder *b, size_t fadt, size_t madt)
{
	size_t len = HEADER_BYTES + 2 * 8;
	size_t at = reserve(b, len);

	hk_store_le64(b->bytes + at + HEADER_BYTES, gpa_of(fadt));
	hk_store_le64(b->bytes + at + HEADER_BYTES + 8, gpa_of(madt));
	finish_table(b, at, len, "XSDT", 1);
	return at;
}

static void fill_rsdp(struct builder *b, size_t at, size_t xsdt)
{
	enum { CHECKSUM_AT = 8, OLD_BYTES = 20, EXTENDED_CHECKSUM_AT = 32 };
	uint8_t *t = b->bytes + at;

	memcpy(t, "RSD PTR ", 8);
	memcpy(t + 9, "HAKO  ", 6);
	t[15] = 2; /* revision: with an XSDT */
	hk_store_le32(t + 20, RSDP_BYTES);
	hk_store_le64(t + 24, gpa_of(xsdt));
	t[CHECKSUM_AT] = checksum(t, OLD_BYTES);
	t[EXTENDED_CHECKSUM_AT] = checksum(t, RSDP_BYTES);
}

int hk_acpi_build(struct hk_mem *mem, unsigned vcpu_count, const struct hk_slot *slots,
	unsigned slot_count, hk_gpa *ret_rsdp, struct hk_err *err)
{
	struct builder b = {.len = 0};
	size_t rsdp = reserve(&b, RSDP_BYTES);
	size_t dsdt = add_dsdt(&b, slots, slot_count);
	size_t fadt = add_fadt(&b, dsdt);
	size_t madt = add_madt(&b, vcpu_count);
	size_t xsdt = add_xsdt(&b, fadt, madt);

	static_assert(TABLES_MAX_BYTES <= HK_ACPI_SIZE, "room for the tables");
	fill_rsdp(&b, rsdp, xsdt);
	if (b.overflow || hk_mem_write(mem, HK_ACPI_GPA, b.bytes, b.len) < 0) {
		return hk_fail_msg(err, ENOSPC, "ACPI tables: no room");
	}
	*ret_rsdp = gpa_of(rsdp);
	return 0;
}
