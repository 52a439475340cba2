/* SPDX-License-Identifier: ISC */
/*
 * An IOAPIC.
 *
 * A level-triggered pin that became a message has its remote IRR set until the CPU's EOI; if
 * the line is still high then, it becomes one again. An edge is a message or, while the entry is
 * masked, lost.
 *
 * What is saved is what KVM saves: lines that are high, less edges that have been delivered.
 *
 * Limits: no EOI register (version 0x11), delivery status never shows pending.
 */
#include "engine/soft/apic/ioapic.h"

#include <assert.h>
#include <string.h>

enum {
	REG_ID = 0,
	REG_VERSION = 1,
	REG_ARBITRATION = 2,
	REG_REDIRECTION = 0x10,
	OFFSET_SELECT = 0,
	OFFSET_WINDOW = 0x10,
	VERSION = 0x11 | (HK_IOAPIC_PINS - 1) << 16,
};

#define READ_ONLY     (HK_IOAPIC_REMOTE_IRR | HK_IOAPIC_STATUS)
#define WRITABLE_LOW  (UINT64_C(0x1ffff) & ~READ_ONLY)
#define WRITABLE_HIGH UINT64_C(0xff00000000000000)

void hk_ioapic_reset(struct hk_ioapic *ioapic)
{
	*ioapic = (struct hk_ioapic){0};
	for (unsigned i = 0; i < HK_IOAPIC_PINS; i++) {
		ioapic->redirection[i] = HK_IOAPIC_MASKED;
	}
}

static uint32_t read_window(const struct hk_ioapic *ioapic)
{
	unsigned entry = (ioapic->select - REG_REDIRECTION) / 2;

	switch (ioapic->select) {
	case REG_ID:
	case REG_ARBITRATION:
		return (ioapic->id & 0xf) << 24;
	case REG_VERSION:
		return VERSION;
	default:
		if (ioapic->select < REG_REDIRECTION || entry >= HK_IOAPIC_PINS) {
			return UINT32_MAX;
		}
		return (uint32_t)(ioapic->redirection[entry] >> (ioapic->select & 1) * 32);
	}
}

uint32_t hk_ioapic_read(const struct hk_ioapic *ioapic, unsigned offset)
{
	switch (offset) {
	case OFFSET_SELECT:
		return ioapic->select;
	case OFFSET_WINDOW:
		return read_window(ioapic);
	default:
		return 0;
	}
}

/* Is the line high, and not waiting for an EOI already? */
static bool wants_service(const struct hk_ioapic *ioapic, unsigned pin)
{
	return (ioapic->redirection[pin] &
		       (HK_IOAPIC_LEVEL | HK_IOAPIC_MASKED | HK_IOAPIC_REMOTE_IRR)) ==
		HK_IOAPIC_LEVEL &&
		(ioapic->lines >> pin & 1) != 0;
}

static int write_window(struct hk_ioapic *ioapic, uint32_t value)
{
	unsigned pin = (ioapic->select - REG_REDIRECTION) / 2;

	if (ioapic->select == REG_ID) {
		ioapic->id = value >> 24 & 0xf;
		return -1;
	}
	if (ioapic->select < REG_REDIRECTION || pin >= HK_IOAPIC_PINS) {
		return -1;
	}

	uint64_t *entry = &ioapic->redirection[pin];

	if ((ioapic->select & 1) != 0) {
		*entry = (*entry & UINT32_MAX) | ((uint64_t)value << 32 & WRITABLE_HIGH);
	} else {
		*entry = (*entry & (WRITABLE_HIGH | READ_ONLY)) | (value & WRITABLE_LOW);
		/* Linux counts on this: to edge and back is how it ends what was left open. */
		if ((*entry & HK_IOAPIC_LEVEL) == 0) {
			*entry &= ~HK_IOAPIC_REMOTE_IRR;
		}
	}
	return wants_service(ioapic, pin) ? (int)pin : -1;
}

int hk_ioapic_write(struct hk_ioapic *ioapic, unsigned offset, uint32_t value)
{
	switch (offset) {
	case OFFSET_SELECT:
		ioapic->select = value & 0xff;
		return -1;
	case OFFSET_WINDOW:
		return write_window(ioapic, value);
	default:
		return -1;
	}
}

bool hk_ioapic_set(struct hk_ioapic *ioapic, unsigned pin, bool level)
{
	uint32_t bit = 1u << pin;
	bool was = (ioapic->lines & bit) != 0;

	assert(pin < HK_IOAPIC_PINS);
	if (!level) {
		ioapic->lines &= ~bit;
		return false;
	}
	ioapic->lines |= bit;
	if ((ioapic->redirection[pin] & HK_IOAPIC_LEVEL) != 0) {
		return wants_service(ioapic, pin);
	}
	ioapic->delivered &= ~bit;
	return !was && (ioapic->redirection[pin] & HK_IOAPIC_MASKED) == 0;
}

uint32_t hk_ioapic_eoi(struct hk_ioapic *ioapic, uint8_t vector)
{
	uint32_t pins = 0;

	for (unsigned pin = 0; pin < HK_IOAPIC_PINS; pin++) {
		uint64_t *entry = &ioapic->redirection[pin];

		if ((uint8_t)*entry == vector && (*entry & HK_IOAPIC_LEVEL) != 0) {
			*entry &= ~HK_IOAPIC_REMOTE_IRR;
			pins |= wants_service(ioapic, pin) ? 1u << pin : 0;
		}
	}
	return pins;
}

bool hk_ioapic_service(struct hk_ioapic *ioapic, unsigned pin, struct hk_ipi *ret_ipi)
{
	uint64_t *entry = &ioapic->redirection[pin];
	bool level = (*entry & HK_IOAPIC_LEVEL) != 0;

	if ((*entry & HK_IOAPIC_MASKED) != 0 || (level && (*entry & HK_IOAPIC_REMOTE_IRR) != 0)) {
		return false;
	}
	*ret_ipi = (struct hk_ipi){
		.dest = (uint32_t)(*entry >> 56),
		.vector = (uint8_t)*entry,
		.mode = *entry >> 8 & 7,
		.shorthand = HK_IPI_DEST,
		.logical = (*entry & HK_IOAPIC_LOGICAL) != 0,
		.level = level,
		.assert = true,
	};
	if (level) {
		*entry |= HK_IOAPIC_REMOTE_IRR;
	} else {
		ioapic->delivered |= 1u << pin;
	}
	return true;
}

void hk_ioapic_save(const struct hk_ioapic *ioapic, struct hk_irqchip_state *state)
{
	*state = (struct hk_irqchip_state){
		.id = ioapic->id,
		.ioregsel = ioapic->select,
		.irr = ioapic->lines & ~ioapic->delivered,
	};
	memcpy(state->redirection, ioapic->redirection, sizeof(state->redirection));
}

uint32_t hk_ioapic_load(struct hk_ioapic *ioapic, const struct hk_irqchip_state *state)
{
	uint32_t pins = 0;

	static_assert(sizeof(state->redirection) == sizeof(ioapic->redirection), "the same pins");
	*ioapic = (struct hk_ioapic){.id = state->id & 0xf, .select = state->ioregsel & 0xff};
	memcpy(ioapic->redirection, state->redirection, sizeof(ioapic->redirection));
	for (unsigned pin = 0; pin < HK_IOAPIC_PINS; pin++) {
		if ((state->irr >> pin & 1) != 0 && hk_ioapic_set(ioapic, pin, true)) {
			pins |= 1u << pin;
		}
	}
	return pins;
}
