/* SPDX-License-Identifier: ISC */
/*
 * Where things stand in the guest's physical memory when it starts. Low memory (below 1 MiB)
 * holds what is handed over at boot; the kernel takes it over when it has read it.
 *
 *	0x00000500  GDT for the entry point
 *	0x00006000  PVH start info, module list and memory map
 *	0x00007000  zero page (64-bit boot protocol)
 *	0x00009000  page tables: 1 GiB, identity-mapped
 *	0x00020000  command line
 *	0x000e0000  ACPI tables, and the generation id (reserved, stays)
 *	0x00100000  RAM; the kernel goes where its ELF says, the initramfs to the top of what is
 *	            below the MMIO hole
 *	0xd0000000  virtio-mmio slots, one page each
 */
#ifndef HK_MACHINE_LAYOUT_H
#define HK_MACHINE_LAYOUT_H

#include "engine/mem.h"

#define HK_GDT_GPA        UINT64_C(0x500)
#define HK_PVH_GPA        UINT64_C(0x6000)
#define HK_ZERO_PAGE_GPA  UINT64_C(0x7000)
#define HK_PAGE_TABLE_GPA UINT64_C(0x9000)
#define HK_CMDLINE_GPA    UINT64_C(0x20000)
#define HK_LOW_RAM_END    UINT64_C(0x9fc00)
#define HK_ACPI_GPA       UINT64_C(0xe0000)
#define HK_ACPI_SIZE      UINT64_C(0x1f000)
#define HK_GENERATION_GPA UINT64_C(0xff000)
#define HK_HIGH_RAM_GPA   UINT64_C(0x100000)
#define HK_SLOTS_GPA      UINT64_C(0xd0000000)

enum {
	HK_CMDLINE_MAX = 2047, /* of Linux on x86, without the NUL */
	HK_GENERATION_GSI = 5,
	HK_FIRST_SLOT_GSI = 6,
};

#endif
