/* SPDX-License-Identifier: ISC */
/*
 * The state of a vCPU, the interrupt controllers and the clock, in the form in which it
 * leaves one engine and enters another. Field meanings are those of the Intel SDM vol. 3 and of
 * KVM's structures of the same names; the encoding on disk is vcpu_state.c's.
 */
#ifndef HK_ENGINE_VCPU_STATE_H
#define HK_ENGINE_VCPU_STATE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/state.h"

enum hk_gpr {
	HK_RAX,
	HK_RCX,
	HK_RDX,
	HK_RBX,
	HK_RSP,
	HK_RBP,
	HK_RSI,
	HK_RDI,
	HK_R8,
	HK_R9,
	HK_R10,
	HK_R11,
	HK_R12,
	HK_R13,
	HK_R14,
	HK_R15,
	HK_GPR_COUNT,
};

enum hk_seg { HK_ES, HK_CS, HK_SS, HK_DS, HK_FS, HK_GS, HK_LDTR, HK_TR, HK_SEG_COUNT };

/** struct hk_segment - a segment register with its hidden part; @attr as in descriptor bits 40-55
 */
struct hk_segment {
	uint64_t base;
	uint32_t limit; /* in bytes, granularity applied */
	uint16_t selector;
	uint16_t attr; /* type 0-3, S 4, DPL 5-6, P 7, AVL 12, L 13, D/B 14, G 15 */
	bool unusable;
};

struct hk_table_reg {
	uint64_t base;
	uint16_t limit;
};

struct hk_msr {
	uint32_t index;
	uint64_t value;
};

enum {
	HK_MAX_MSRS = 96,
	HK_XSAVE_SIZE = 4096,
	HK_LAPIC_SIZE = 1024,
	HK_MAX_XCRS = 1,
};

/* What a vCPU is doing between instructions. */
enum hk_mp_state {
	HK_MP_RUNNING,
	HK_MP_HALTED,
	HK_MP_WAIT_SIPI, /* an application processor before INIT-SIPI */
	HK_MP_STATE_COUNT,
};

/** struct hk_pending - events accepted but not yet delivered */
struct hk_pending {
	bool exception;
	uint8_t exception_vector;
	bool exception_has_code;
	uint32_t exception_code;
	uint64_t exception_payload; /* CR2 or DR6 to be */
	bool interrupt;
	uint8_t interrupt_vector;
	bool nmi;          /* waits until NMIs are not masked */
	bool nmi_injected; /* being delivered; NMIs are masked already */
	bool nmi_masked;
	uint8_t interrupt_shadow; /* bit 0: STI, bit 1: MOV SS */
};

/**
 * struct hk_vcpu_state - one vCPU
 * @xsave: standard (not compacted) XSAVE image; the model decides how much of it is valid
 * @msrs: all MSRs of the model, TSC among them
 * @lapic: register page as in memory, KVM's layout: register n at offset n*16
 */
struct hk_vcpu_state {
	uint64_t gpr[HK_GPR_COUNT];
	uint64_t rip;
	uint64_t rflags;
	struct hk_segment seg[HK_SEG_COUNT];
	struct hk_table_reg gdt;
	struct hk_table_reg idt;
	uint64_t cr0, cr2, cr3, cr4, cr8, efer;
	uint64_t apic_base;
	uint64_t dr[4], dr6, dr7;
	uint64_t xcr0;
	uint8_t xsave[HK_XSAVE_SIZE];
	uint8_t lapic[HK_LAPIC_SIZE];
	struct hk_msr msrs[HK_MAX_MSRS];
	unsigned msr_count;
	struct hk_pending pending;
	enum hk_mp_state mp_state;
};

/**
 * struct hk_irqchip_state - the IOAPIC
 * @redirection: table entries as the guest reads them
 * @irr: pins with a level asserted or an edge latched
 */
struct hk_irqchip_state {
	uint32_t id;
	uint32_t ioregsel;
	uint32_t irr;
	uint64_t redirection[24];
};

/**
 * struct hk_clock_state - the paravirtual clock
 * @guest_ns: nanoseconds since the guest's boot
 * @tsc_khz: rate of the TSC that the guest knows
 */
struct hk_clock_state {
	uint64_t guest_ns;
	uint32_t tsc_khz;
};

void hk_vcpu_state_save(const struct hk_vcpu_state *state, struct hk_writer *w);
void hk_vcpu_state_restore(struct hk_vcpu_state *state, struct hk_reader *r);
void hk_irqchip_state_save(const struct hk_irqchip_state *state, struct hk_writer *w);
void hk_irqchip_state_restore(struct hk_irqchip_state *state, struct hk_reader *r);
void hk_clock_state_save(const struct hk_clock_state *state, struct hk_writer *w);
void hk_clock_state_restore(struct hk_clock_state *state, struct hk_reader *r);

#endif
