/* SPDX-License-Identifier: ISC */
/* The ACPI tables of a Hako machine: hardware-reduced, RSDP to DSDT. */
#ifndef HK_MACHINE_ACPI_H
#define HK_MACHINE_ACPI_H

#include "engine/mem.h"
#include "machine/machine.h"

/**
 * hk_acpi_build() - write all tables into guest memory at HK_ACPI_GPA
 * @slots: the virtio devices to show, @slot_count of them
 * @ret_rsdp: where the kernel finds the RSDP
 *
 * Return: 0, or -ENOSPC where they do not fit (our mistake).
 */
int hk_acpi_build(struct hk_mem *mem, unsigned vcpu_count, const struct hk_slot *slots,
	unsigned slot_count, hk_gpa *ret_rsdp, struct hk_err *err);

#endif
