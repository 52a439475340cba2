/* SPDX-License-Identifier: ISC */
/*
 * An IOAPIC by itself: 24 pins, each with an entry that says which message its interrupt becomes.
 *
 * No I/O, no lock. Messages come back as struct hk_ipi, to be delivered by the caller.
 *
 * Source: Intel 82093AA data sheet.
 */
#ifndef HK_ENGINE_SOFT_APIC_IOAPIC_H
#define HK_ENGINE_SOFT_APIC_IOAPIC_H

#include "engine/soft/apic/lapic.h"

enum { HK_IOAPIC_PINS = 24 };

/* Redirection entries. */
#define HK_IOAPIC_LOGICAL    (UINT64_C(1) << 11)
#define HK_IOAPIC_STATUS     (UINT64_C(1) << 12) /* delivery status: never pending here */
#define HK_IOAPIC_POLARITY   (UINT64_C(1) << 13) /* kept, without meaning: levels are logical */
#define HK_IOAPIC_REMOTE_IRR (UINT64_C(1) << 14)
#define HK_IOAPIC_LEVEL      (UINT64_C(1) << 15)
#define HK_IOAPIC_MASKED     (UINT64_C(1) << 16)

/**
 * struct hk_ioapic - @lines: pins that are high
 * @delivered: of these, edges that have become messages: no part of the saved state
 */
struct hk_ioapic {
	uint64_t redirection[HK_IOAPIC_PINS];
	uint32_t id;
	uint32_t select;
	uint32_t lines;
	uint32_t delivered;
};

void hk_ioapic_reset(struct hk_ioapic *ioapic);

/** hk_ioapic_read() / hk_ioapic_write() - registers at offsets 0 (select) and 0x10 (window)
 *
 * Return: of write: a pin to service, or -1.
 */
uint32_t hk_ioapic_read(const struct hk_ioapic *ioapic, unsigned offset);
int hk_ioapic_write(struct hk_ioapic *ioapic, unsigned offset, uint32_t value);

/** hk_ioapic_set() - pin @pin is at @level now. Return: it is to be serviced. */
bool hk_ioapic_set(struct hk_ioapic *ioapic, unsigned pin, bool level);

/** hk_ioapic_eoi() - @vector has ended. Return: bit n: pin n is to be serviced. */
uint32_t hk_ioapic_eoi(struct hk_ioapic *ioapic, uint8_t vector);

/** hk_ioapic_service() - the message of a pin. Return: false: there is none now. */
bool hk_ioapic_service(struct hk_ioapic *ioapic, unsigned pin, struct hk_ipi *ret_ipi);

void hk_ioapic_save(const struct hk_ioapic *ioapic, struct hk_irqchip_state *state);
/** hk_ioapic_load() - Return: bit n: pin n is to be serviced */
uint32_t hk_ioapic_load(struct hk_ioapic *ioapic, const struct hk_irqchip_state *state);

#endif
