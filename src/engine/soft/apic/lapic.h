/* SPDX-License-Identifier: ISC */
/*
 * A local APIC by itself: registers, priorities, timer, messages in and out.
 *
 * No I/O, no clock, no lock: time comes as an argument, what a write causes elsewhere comes back
 * as a struct hk_lapic_effect. Whoever owns a machine's APICs (engine/soft/chip.c) carries messages
 * between them.
 *
 * Source: Intel SDM vol. 3A, chapter 10.
 */
#ifndef HK_ENGINE_SOFT_APIC_LAPIC_H
#define HK_ENGINE_SOFT_APIC_LAPIC_H

#include <stdbool.h>
#include <stdint.h>

#include "engine/vcpu_state.h"

/* Registers: number n stands at offset n * 16 of the page, and is x2APIC MSR 0x800 + n. */
enum hk_lapic_reg {
	HK_LAPIC_ID = 0x02,
	HK_LAPIC_VERSION = 0x03,
	HK_LAPIC_TPR = 0x08,
	HK_LAPIC_APR = 0x09,
	HK_LAPIC_PPR = 0x0a,
	HK_LAPIC_EOI = 0x0b,
	HK_LAPIC_RRD = 0x0c,
	HK_LAPIC_LDR = 0x0d,
	HK_LAPIC_DFR = 0x0e,
	HK_LAPIC_SPURIOUS = 0x0f,
	HK_LAPIC_ISR = 0x10, /* eight of each */
	HK_LAPIC_TMR = 0x18,
	HK_LAPIC_IRR = 0x20,
	HK_LAPIC_ESR = 0x28,
	HK_LAPIC_ICR = 0x30,
	HK_LAPIC_ICR_HIGH = 0x31,
	HK_LAPIC_LVT_TIMER = 0x32,
	HK_LAPIC_LVT_THERMAL = 0x33,
	HK_LAPIC_LVT_COUNTER = 0x34,
	HK_LAPIC_LVT_LINT0 = 0x35,
	HK_LAPIC_LVT_LINT1 = 0x36,
	HK_LAPIC_LVT_ERROR = 0x37,
	HK_LAPIC_TIMER_INITIAL = 0x38,
	HK_LAPIC_TIMER_CURRENT = 0x39,
	HK_LAPIC_TIMER_DIVIDE = 0x3e,
	HK_LAPIC_SELF_IPI = 0x3f,
	HK_LAPIC_REG_COUNT = HK_LAPIC_SIZE / 16,
};

/* Bits of the registers. */
enum {
	HK_LAPIC_SOFTWARE_ENABLE = 1 << 8, /* SPURIOUS */
	HK_LAPIC_LVT_MASKED = 1 << 16,
	HK_LAPIC_TIMER_ONE_SHOT = 0 << 17,
	HK_LAPIC_TIMER_PERIODIC = 1 << 17,
	HK_LAPIC_TIMER_DEADLINE = 2 << 17,
	HK_LAPIC_TIMER_MODE = 3 << 17,
	HK_LAPIC_ERROR_SEND_VECTOR = 1 << 5, /* ESR */
	HK_LAPIC_ERROR_RECEIVE_VECTOR = 1 << 6,
	HK_LAPIC_ERROR_REGISTER = 1 << 7,
};

/* IA32_APIC_BASE */
#define HK_APIC_BASE_BSP    (UINT64_C(1) << 8)
#define HK_APIC_BASE_X2APIC (UINT64_C(1) << 10)
#define HK_APIC_BASE_ENABLE (UINT64_C(1) << 11)
#define HK_APIC_BASE_ADDR   UINT64_C(0x0000007ffffff000)

/** struct hk_lapic_time - now: of the host's monotonic clock, and of this CPU's TSC */
struct hk_lapic_time {
	uint64_t ns;
	uint64_t tsc;
	uint32_t tsc_khz;
};

/**
 * struct hk_lapic - one CPU's
 * @reg: as in KVM's page. ID has the xAPIC's form (number in bits 24-31) in x2APIC mode, too.
 * @base: IA32_APIC_BASE
 * @deadline: IA32_TSC_DEADLINE, 0: none
 * @expiry_ns: when the timer's count gets to zero, 0: it does not count
 * @errors: seen, but not yet shown in ESR
 */
struct hk_lapic {
	uint32_t reg[HK_LAPIC_REG_COUNT];
	uint64_t base;
	uint64_t deadline;
	uint64_t expiry_ns;
	uint32_t errors;
};

/* Delivery modes, as encoded in ICR and redirection entries. */
enum hk_ipi_mode {
	HK_IPI_FIXED,
	HK_IPI_LOWEST,
	HK_IPI_SMI,
	HK_IPI_RESERVED,
	HK_IPI_NMI,
	HK_IPI_INIT,
	HK_IPI_STARTUP,
	HK_IPI_EXTERNAL,
};

enum hk_ipi_shorthand { HK_IPI_DEST, HK_IPI_SELF, HK_IPI_ALL, HK_IPI_OTHERS };

/** struct hk_ipi - an interrupt message on its way to local APICs */
struct hk_ipi {
	uint32_t dest;
	uint8_t vector;
	uint8_t mode;      /* enum hk_ipi_mode */
	uint8_t shorthand; /* enum hk_ipi_shorthand; of IPIs only */
	bool logical;
	bool level;  /* level-triggered */
	bool assert; /* matters for INIT only */
	bool wide;   /* @dest has 32 bits, as in x2APIC mode; else 8 */
};

/** struct hk_lapic_effect - what a register write wants done elsewhere */
struct hk_lapic_effect {
	bool send; /* @ipi is to be delivered */
	struct hk_ipi ipi;
	bool eoi; /* a level-triggered interrupt has ended: tell the IOAPIC of @eoi_vector */
	uint8_t eoi_vector;
	bool timer; /* hk_lapic_deadline_ns() may have changed */
};

/* What an accepted message wants of the CPU; bits. */
enum {
	HK_LAPIC_WANT_IRQ = 1 << 0,
	HK_LAPIC_WANT_NMI = 1 << 1,
	HK_LAPIC_WANT_INIT = 1 << 2,
	HK_LAPIC_WANT_STARTUP = 1 << 3, /* the vector is the page to start at */
};

/** hk_lapic_reset() - power-on */
void hk_lapic_reset(struct hk_lapic *lapic, unsigned id, bool bsp);
/** hk_lapic_init() - what INIT leaves: the base MSR and the number stay */
void hk_lapic_init(struct hk_lapic *lapic);

static inline bool hk_lapic_enabled(const struct hk_lapic *lapic)
{
	return (lapic->base & HK_APIC_BASE_ENABLE) != 0;
}

static inline bool hk_lapic_x2apic(const struct hk_lapic *lapic)
{
	return (lapic->base & HK_APIC_BASE_X2APIC) != 0;
}

/** hk_lapic_set_base() - a guest's write to IA32_APIC_BASE. Return: false: #GP. */
bool hk_lapic_set_base(struct hk_lapic *lapic, uint64_t value);

/** hk_lapic_mmio_read() / hk_lapic_mmio_write() - xAPIC: @offset into the page, a multiple of 16.
 * Unknown registers read 0 and are noted in ESR. */
uint32_t hk_lapic_mmio_read(
	struct hk_lapic *lapic, unsigned offset, const struct hk_lapic_time *now);
void hk_lapic_mmio_write(struct hk_lapic *lapic, unsigned offset, uint32_t value,
	const struct hk_lapic_time *now, struct hk_lapic_effect *ret_effect);

/** hk_lapic_msr_read() / hk_lapic_msr_write() - x2APIC: MSRs 0x800 to 0x8ff. Return: false: #GP. */
bool hk_lapic_msr_read(const struct hk_lapic *lapic, uint32_t index,
	const struct hk_lapic_time *now, uint64_t *ret_value);
bool hk_lapic_msr_write(struct hk_lapic *lapic, uint32_t index, uint64_t value,
	const struct hk_lapic_time *now, struct hk_lapic_effect *ret_effect);

/** hk_lapic_set_tpr() - CR8 in bits 4 to 7 */
void hk_lapic_set_tpr(struct hk_lapic *lapic, uint8_t tpr);

/** hk_lapic_eoi() - end of the interrupt in service with the highest priority */
void hk_lapic_eoi(struct hk_lapic *lapic, struct hk_lapic_effect *ret_effect);

/** hk_lapic_pending() - the interrupt that may be taken now, or -1 */
int hk_lapic_pending(const struct hk_lapic *lapic);
/** hk_lapic_ack() - the same; it is in service then */
int hk_lapic_ack(struct hk_lapic *lapic);
/** hk_lapic_highest() - the highest vector of the eight registers from @first, or -1 */
int hk_lapic_highest(const struct hk_lapic *lapic, enum hk_lapic_reg first);

/**
 * hk_lapic_targets() - whom a message is for
 * @lapics: @count of them, by CPU number
 * @source: number of the sender (for shorthands)
 * @turn: where lowest-priority messages begin to look next; updated
 *
 * Return: bit n: lapics[n].
 */
uint32_t hk_lapic_targets(struct hk_lapic *const *lapics, unsigned count, const struct hk_ipi *ipi,
	unsigned source, unsigned *turn);

/** hk_lapic_accept() - a message arrives. Return: HK_LAPIC_WANT_ bits. */
unsigned hk_lapic_accept(struct hk_lapic *lapic, const struct hk_ipi *ipi);

/** hk_lapic_deadline_ns() - when hk_lapic_tick() is due next, on @now's clock; UINT64_MAX: never */
uint64_t hk_lapic_deadline_ns(const struct hk_lapic *lapic, const struct hk_lapic_time *now);
/** hk_lapic_tick() - let the timer fire if it is due. Return: HK_LAPIC_WANT_ bits. */
unsigned hk_lapic_tick(struct hk_lapic *lapic, const struct hk_lapic_time *now);

/**
 * hk_lapic_get_deadline() / hk_lapic_set_deadline() - IA32_TSC_DEADLINE; writes are ignored in
 * other modes of the timer
 */
uint64_t hk_lapic_get_deadline(const struct hk_lapic *lapic);
void hk_lapic_set_deadline(struct hk_lapic *lapic, uint64_t tsc);

/* To and from KVM's page; the base MSR and the deadline go by themselves, the first before. */
void hk_lapic_save(
	const struct hk_lapic *lapic, const struct hk_lapic_time *now, uint8_t page[HK_LAPIC_SIZE]);
void hk_lapic_load(
	struct hk_lapic *lapic, const uint8_t page[HK_LAPIC_SIZE], const struct hk_lapic_time *now);

#endif
