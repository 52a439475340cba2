/* SPDX-License-Identifier: ISC */
/*
 * Direct boot of an ELF vmlinux: no firmware, no decompressor, no real mode.
 * Sources: Linux Documentation/x86/boot.rst (64-bit boot protocol) and zero-page.rst; Xen
 * docs/misc/pvh.pandoc and include/public/arch-x86/hvm/start_info.h (PVH).
 */
#ifndef HK_MACHINE_BOOT_H
#define HK_MACHINE_BOOT_H

#include "engine/engine.h"
#include "machine/machine.h"

/**
 * hk_boot_load() - put kernel, initramfs, command line and hand-over structures in memory
 * @rsdp: address of the ACPI tables' root
 * @state: the first vCPU's power-on state; set to the entry point's requirements
 *
 * Return: 0; -ENOEXEC for what is no x86-64 ELF or has no such entry; -ENOMEM where RAM is too
 * small; -E2BIG for the command line.
 */
int hk_boot_load(struct hk_mem *mem, const struct hk_boot *boot, hk_gpa rsdp,
	struct hk_vcpu_state *state, struct hk_err *err);

#endif
