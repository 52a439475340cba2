/* SPDX-License-Identifier: ISC */
/*
 * A small writer of ACPI Machine Language: just the terms that our DSDT needs.
 * Source: ACPI 6.4, chapter 20 (AML), section 6.4 (resource descriptors).
 */
#ifndef HK_MACHINE_AML_H
#define HK_MACHINE_AML_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/** struct hk_aml - bytes written so far into a buffer of the caller's; `overflow` is sticky */
struct hk_aml {
	uint8_t *data;
	size_t size;
	size_t len;
	bool overflow;
};

void hk_aml_bytes(struct hk_aml *aml, const void *bytes, size_t len);
void hk_aml_byte(struct hk_aml *aml, uint8_t byte);
void hk_aml_integer(struct hk_aml *aml, uint64_t value);
void hk_aml_string(struct hk_aml *aml, const char *text);
void hk_aml_name(struct hk_aml *aml, const char *four); /* "_HID": Name(four, what comes next) */
void hk_aml_path(struct hk_aml *aml, const char *path); /* "\\_SB_.VGEN", segments of four */

/*
 * Blocks whose length is written when they end. Each begin returns a mark for hk_aml_end().
 */
size_t hk_aml_scope(struct hk_aml *aml, const char *path);
size_t hk_aml_device(struct hk_aml *aml, const char *four);
size_t hk_aml_method(struct hk_aml *aml, const char *four, unsigned arg_count, bool serialized);
size_t hk_aml_package(struct hk_aml *aml, unsigned element_count);
void hk_aml_end(struct hk_aml *aml, size_t mark);

/* Notify(path, value) */
void hk_aml_notify(struct hk_aml *aml, const char *path, uint64_t value);

/* Name(_CRS, ResourceTemplate() { ... }): between begin and end, only the resources below. */
size_t hk_aml_crs(struct hk_aml *aml);
void hk_aml_crs_end(struct hk_aml *aml, size_t mark);
void hk_aml_memory32(struct hk_aml *aml, uint32_t base, uint32_t len);
void hk_aml_io(struct hk_aml *aml, uint16_t base, uint8_t len);
void hk_aml_interrupt_edge(struct hk_aml *aml, uint32_t gsi); /* active high, exclusive */

#endif
