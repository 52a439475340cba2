/* SPDX-License-Identifier: ISC */
/*
 * A local APIC.
 *
 * Registers are kept as KVM keeps them, one word for each 16 bytes of the page, so that state moves
 * between engines as it is. What can be worked out (PPR, the timer's current count) is, when it is
 * read.
 *
 * The timer counts nanoseconds: leaf 0x40000010 tells the guest of a bus of 1 GHz.
 *
 * Limits: no SMI, no external interrupt (there is no PIC), LINT pins are tied to nothing, no
 * CMCI. EOI broadcasts cannot be suppressed. The physical address of the page can be changed,
 * but RAM wins where they overlap.
 *
 * Source: Intel SDM vol. 3A, chapter 10.
 */
#include "engine/soft/apic/lapic.h"

#include <string.h>

#include "base/bytes.h"
#include "engine/engine.h"

enum {
	VERSION = 0x14 | 5 << 16, /* integrated, six LVT entries */
	VECTOR = 0xff,
	FIRST_VECTOR = 16, /* those below are exceptions, and illegal here */

	LVT_COMMON = HK_LAPIC_LVT_MASKED | VECTOR,
	LVT_MODE = 7 << 8,
	LVT_POLARITY = 1 << 13,
	LVT_LEVEL = 1 << 15,

	SPURIOUS_BITS = HK_LAPIC_SOFTWARE_ENABLE | 1 << 9 | VECTOR,
	DFR_FLAT = 0xf,
	X2APIC_MSR_FIRST = 0x800,

	ICR_LOGICAL = 1 << 11,
	ICR_BUSY = 1 << 12,
	ICR_ASSERT = 1 << 14,
	ICR_LEVEL = 1 << 15,
	ICR_BITS = VECTOR | 7 << 8 | ICR_LOGICAL | ICR_ASSERT | ICR_LEVEL | 3 << 18,
};

/* A guest that asks for a shorter period than this would have the host do nothing else. */
static const uint64_t min_period_ns = 100000;

static uint32_t priority_class(uint32_t vector)
{
	return vector & 0xf0;
}

static uint32_t id_of(const struct hk_lapic *lapic)
{
	return lapic->reg[HK_LAPIC_ID] >> 24;
}

static uint32_t x2apic_ldr(uint32_t id)
{
	return (id >> 4) << 16 | 1u << (id & 0xf);
}

static bool software_enabled(const struct hk_lapic *lapic)
{
	return (lapic->reg[HK_LAPIC_SPURIOUS] & HK_LAPIC_SOFTWARE_ENABLE) != 0;
}

/* The 256-bit registers: vector v is bit v % 32 of register first + v / 32. */

static void bit_set(struct hk_lapic *lapic, enum hk_lapic_reg first, unsigned vector)
{
	lapic->reg[first + vector / 32] |= 1u << vector % 32;
}

static void bit_clear(struct hk_lapic *lapic, enum hk_lapic_reg first, unsigned vector)
{
	lapic->reg[first + vector / 32] &= ~(1u << vector % 32);
}

static bool bit_test(const struct hk_lapic *lapic, enum hk_lapic_reg first, unsigned vector)
{
	return (lapic->reg[first + vector / 32] >> vector % 32 & 1) != 0;
}

int hk_lapic_highest(const struct hk_lapic *lapic, enum hk_lapic_reg first)
{
	for (int i = 7; i >= 0; i--) {
		uint32_t bits = lapic->reg[(int)first + i];

		if (bits != 0) {
			return i * 32 + 31 - __builtin_clz(bits);
		}
	}
	return -1;
}

/* Reset */

static bool is_lvt(unsigned reg)
{
	return reg >= HK_LAPIC_LVT_TIMER && reg <= HK_LAPIC_LVT_ERROR;
}

void hk_lapic_init(struct hk_lapic *lapic)
{
	uint32_t id = id_of(lapic);

	*lapic = (struct hk_lapic){.base = lapic->base};
	lapic->reg[HK_LAPIC_ID] = id << 24;
	lapic->reg[HK_LAPIC_VERSION] = VERSION;
	lapic->reg[HK_LAPIC_LDR] = hk_lapic_x2apic(lapic) ? x2apic_ldr(id) : 0;
	lapic->reg[HK_LAPIC_DFR] = UINT32_MAX;
	lapic->reg[HK_LAPIC_SPURIOUS] = VECTOR;
	for (unsigned reg = HK_LAPIC_LVT_TIMER; reg <= HK_LAPIC_LVT_ERROR; reg++) {
		lapic->reg[reg] = HK_LAPIC_LVT_MASKED;
	}
}

void hk_lapic_reset(struct hk_lapic *lapic, unsigned id, bool bsp)
{
	lapic->base = HK_LAPIC_GPA | HK_APIC_BASE_ENABLE | (bsp ? HK_APIC_BASE_BSP : 0);
	lapic->reg[HK_LAPIC_ID] = id << 24;
	hk_lapic_init(lapic);
}

/*
 * Modes change along disabled -> xAPIC -> x2APIC -> disabled, and xAPIC -> disabled.
 * Source: Intel SDM vol. 3A, 10.12.5.
 */
bool hk_lapic_set_base(struct hk_lapic *lapic, uint64_t value)
{
	const uint64_t mode = HK_APIC_BASE_ENABLE | HK_APIC_BASE_X2APIC;
	uint64_t from = lapic->base & mode;
	uint64_t to = value & mode;

	if ((value & ~(HK_APIC_BASE_ADDR | HK_APIC_BASE_BSP | mode)) != 0 ||
		to == HK_APIC_BASE_X2APIC || (from == 0 && to == mode) ||
		(from == mode && to == HK_APIC_BASE_ENABLE)) {
		return false;
	}
	lapic->base = value;
	if (to == 0 && from != 0) {
		hk_lapic_init(lapic);
	}
	if (to == mode && from != mode) {
		lapic->reg[HK_LAPIC_LDR] = x2apic_ldr(id_of(lapic));
	}
	return true;
}

/* Priorities */

static uint32_t ppr(const struct hk_lapic *lapic)
{
	uint32_t tpr = lapic->reg[HK_LAPIC_TPR];
	int in_service = hk_lapic_highest(lapic, HK_LAPIC_ISR);
	uint32_t isr = in_service < 0 ? 0 : (uint32_t)in_service;

	return priority_class(tpr) >= priority_class(isr) ? tpr : priority_class(isr);
}

int hk_lapic_pending(const struct hk_lapic *lapic)
{
	int vector = hk_lapic_highest(lapic, HK_LAPIC_IRR);

	return hk_lapic_enabled(lapic) && vector >= 0 &&
			priority_class((uint32_t)vector) > priority_class(ppr(lapic))
		? vector
		: -1;
}

int hk_lapic_ack(struct hk_lapic *lapic)
{
	int vector = hk_lapic_pending(lapic);

	if (vector >= 0) {
		bit_clear(lapic, HK_LAPIC_IRR, (unsigned)vector);
		bit_set(lapic, HK_LAPIC_ISR, (unsigned)vector);
	}
	return vector;
}

void hk_lapic_eoi(struct hk_lapic *lapic, struct hk_lapic_effect *ret_effect)
{
	int vector = hk_lapic_highest(lapic, HK_LAPIC_ISR);

	if (vector < 0) {
		return;
	}
	bit_clear(lapic, HK_LAPIC_ISR, (unsigned)vector);
	if (bit_test(lapic, HK_LAPIC_TMR, (unsigned)vector)) {
		ret_effect->eoi = true;
		ret_effect->eoi_vector = (uint8_t)vector;
	}
}

void hk_lapic_set_tpr(struct hk_lapic *lapic, uint8_t tpr)
{
	lapic->reg[HK_LAPIC_TPR] = tpr;
}

/* Errors */

static void request(struct hk_lapic *lapic, unsigned vector, bool level)
{
	if (level) {
		bit_set(lapic, HK_LAPIC_TMR, vector);
	} else {
		bit_clear(lapic, HK_LAPIC_TMR, vector);
	}
	bit_set(lapic, HK_LAPIC_IRR, vector);
}

static void note_error(struct hk_lapic *lapic, uint32_t error)
{
	uint32_t lvt = lapic->reg[HK_LAPIC_LVT_ERROR];
	bool is_new = (lapic->errors & error) == 0;

	lapic->errors |= error;
	if (is_new && (lvt & HK_LAPIC_LVT_MASKED) == 0 && (lvt & VECTOR) >= FIRST_VECTOR) {
		request(lapic, lvt & VECTOR, false);
	}
}

/* Messages */

static bool matches(const struct hk_lapic *lapic, const struct hk_ipi *ipi)
{
	uint32_t ldr = lapic->reg[HK_LAPIC_LDR];

	if (!hk_lapic_enabled(lapic)) {
		return false;
	}
	if (ipi->dest == (ipi->wide ? UINT32_MAX : 0xff)) {
		return true;
	}
	if (!ipi->logical) {
		return ipi->dest == id_of(lapic);
	}
	if (hk_lapic_x2apic(lapic)) {
		return ldr >> 16 == ipi->dest >> 16 && (ldr & ipi->dest & 0xffff) != 0;
	}
	if (ipi->dest > 0xff) {
		return false;
	}
	ldr >>= 24;
	if (lapic->reg[HK_LAPIC_DFR] >> 28 == DFR_FLAT) {
		return (ldr & ipi->dest) != 0;
	}
	return ldr >> 4 == ipi->dest >> 4 && (ldr & ipi->dest & 0xf) != 0;
}

/* Of @targets the one that is least busy; in turn where several are. */
static uint32_t pick_lowest(
	struct hk_lapic *const *lapics, unsigned count, uint32_t targets, unsigned *turn)
{
	uint32_t best_ppr = UINT32_MAX;
	unsigned best = 0;

	for (unsigned i = 0; i < count; i++) {
		unsigned cpu = (*turn + i) % count;

		if ((targets >> cpu & 1) != 0 && software_enabled(lapics[cpu]) &&
			priority_class(ppr(lapics[cpu])) < best_ppr) {
			best_ppr = priority_class(ppr(lapics[cpu]));
			best = cpu;
		}
	}
	if (best_ppr == UINT32_MAX) {
		return 0;
	}
	*turn = best + 1;
	return 1u << best;
}

uint32_t hk_lapic_targets(struct hk_lapic *const *lapics, unsigned count, const struct hk_ipi *ipi,
	unsigned source, unsigned *turn)
{
	uint32_t targets = 0;

	switch (ipi->shorthand) {
	case HK_IPI_SELF:
		targets = 1u << source;
		break;
	case HK_IPI_ALL:
		targets = (1u << count) - 1;
		break;
	case HK_IPI_OTHERS:
		targets = ((1u << count) - 1) & ~(1u << source);
		break;
	default:
		for (unsigned i = 0; i < count; i++) {
			targets |= matches(lapics[i], ipi) ? 1u << i : 0;
		}
		break;
	}
	return ipi->mode == HK_IPI_LOWEST ? pick_lowest(lapics, count, targets, turn) : targets;
}

unsigned hk_lapic_accept(struct hk_lapic *lapic, const struct hk_ipi *ipi)
{
	switch (ipi->mode) {
	case HK_IPI_FIXED:
	case HK_IPI_LOWEST:
		if (!hk_lapic_enabled(lapic) || !software_enabled(lapic)) {
			return 0;
		}
		if (ipi->vector < FIRST_VECTOR) {
			note_error(lapic, HK_LAPIC_ERROR_RECEIVE_VECTOR);
		} else {
			request(lapic, ipi->vector, ipi->level);
		}
		return HK_LAPIC_WANT_IRQ;
	case HK_IPI_NMI:
		return HK_LAPIC_WANT_NMI;
	case HK_IPI_INIT:
		/* "INIT level de-assert" is a message of old that does nothing. */
		return !ipi->level || ipi->assert ? HK_LAPIC_WANT_INIT : 0;
	case HK_IPI_STARTUP:
		return HK_LAPIC_WANT_STARTUP;
	default:
		return 0;
	}
}

static void send(
	struct hk_lapic *lapic, uint32_t icr, uint32_t dest, struct hk_lapic_effect *ret_effect)
{
	struct hk_ipi ipi = {
		.dest = dest,
		.vector = icr & VECTOR,
		.mode = icr >> 8 & 7,
		.shorthand = icr >> 18 & 3,
		.logical = (icr & ICR_LOGICAL) != 0,
		.level = (icr & ICR_LEVEL) != 0,
		.assert = (icr & ICR_ASSERT) != 0,
		.wide = hk_lapic_x2apic(lapic),
	};

	if ((ipi.mode == HK_IPI_FIXED || ipi.mode == HK_IPI_LOWEST)) {
		ipi.level = false; /* an IPI is an edge whatever it says */
		if (ipi.vector < FIRST_VECTOR) {
			note_error(lapic, HK_LAPIC_ERROR_SEND_VECTOR);
			return;
		}
	}
	ret_effect->send = true;
	ret_effect->ipi = ipi;
}

/* The timer */

static uint32_t timer_mode(const struct hk_lapic *lapic)
{
	return lapic->reg[HK_LAPIC_LVT_TIMER] & HK_LAPIC_TIMER_MODE;
}

static uint64_t tick_ns(const struct hk_lapic *lapic)
{
	uint32_t divide = lapic->reg[HK_LAPIC_TIMER_DIVIDE];
	uint32_t code = (divide & 3) | (divide >> 1 & 4);

	return UINT64_C(1) << ((code + 1) & 7);
}

static uint64_t period_ns(const struct hk_lapic *lapic)
{
	return lapic->reg[HK_LAPIC_TIMER_INITIAL] * tick_ns(lapic);
}

static uint32_t current_count(const struct hk_lapic *lapic, const struct hk_lapic_time *now)
{
	if (lapic->expiry_ns <= now->ns) {
		return 0;
	}

	uint64_t left = lapic->expiry_ns - now->ns;
	uint64_t period = period_ns(lapic);

	/* Where the period was stretched the count must not show it. */
	if (left > period && period > 0) {
		left = left % period;
	}
	return (uint32_t)(left / tick_ns(lapic));
}

/* Counting from @left ns; 0 stops it. */
static void start_counting(
	struct hk_lapic *lapic, uint64_t left_ns, const struct hk_lapic_time *now)
{
	lapic->expiry_ns = left_ns == 0 ? 0 : now->ns + left_ns;
}

static void write_lvt_timer(
	struct hk_lapic *lapic, uint32_t value, struct hk_lapic_effect *ret_effect)
{
	bool was_deadline = timer_mode(lapic) == HK_LAPIC_TIMER_DEADLINE;

	lapic->reg[HK_LAPIC_LVT_TIMER] = value;
	if (was_deadline != (timer_mode(lapic) == HK_LAPIC_TIMER_DEADLINE)) {
		lapic->reg[HK_LAPIC_TIMER_INITIAL] = 0;
		lapic->expiry_ns = 0;
		lapic->deadline = 0;
	}
	ret_effect->timer = true;
}

static void write_divide(struct hk_lapic *lapic, uint32_t value, const struct hk_lapic_time *now,
	struct hk_lapic_effect *ret_effect)
{
	uint32_t left = current_count(lapic, now);

	value &= 0xb;
	if (lapic->reg[HK_LAPIC_TIMER_DIVIDE] == value) {
		return;
	}
	lapic->reg[HK_LAPIC_TIMER_DIVIDE] = value;
	if (lapic->expiry_ns != 0) {
		/* In its last tick the count is 0, but the timer not over. */
		start_counting(lapic, left > 0 ? left * tick_ns(lapic) : 1, now);
		ret_effect->timer = true;
	}
}

uint64_t hk_lapic_deadline_ns(const struct hk_lapic *lapic, const struct hk_lapic_time *now)
{
	if (timer_mode(lapic) != HK_LAPIC_TIMER_DEADLINE) {
		return lapic->expiry_ns != 0 ? lapic->expiry_ns : UINT64_MAX;
	}
	if (lapic->deadline == 0) {
		return UINT64_MAX;
	}
	if (lapic->deadline <= now->tsc) {
		return now->ns;
	}

	/* Rounded up: never early. */
	unsigned __int128 left =
		((unsigned __int128)(lapic->deadline - now->tsc) * 1000000 + now->tsc_khz - 1) /
		now->tsc_khz;

	return left > INT64_MAX ? UINT64_MAX : now->ns + (uint64_t)left;
}

unsigned hk_lapic_tick(struct hk_lapic *lapic, const struct hk_lapic_time *now)
{
	uint32_t lvt = lapic->reg[HK_LAPIC_LVT_TIMER];

	if (hk_lapic_deadline_ns(lapic, now) > now->ns) {
		return 0;
	}
	switch (timer_mode(lapic)) {
	case HK_LAPIC_TIMER_DEADLINE:
		lapic->deadline = 0;
		break;
	case HK_LAPIC_TIMER_PERIODIC: {
		uint64_t period = period_ns(lapic);

		period = period < min_period_ns ? min_period_ns : period;
		/* Beats that were missed altogether are left out. */
		lapic->expiry_ns += period * ((now->ns - lapic->expiry_ns) / period + 1);
		break;
	}
	default:
		lapic->expiry_ns = 0;
		break;
	}
	if ((lvt & HK_LAPIC_LVT_MASKED) != 0 || !hk_lapic_enabled(lapic)) {
		return 0;
	}
	return hk_lapic_accept(
		lapic, &(struct hk_ipi){.mode = HK_IPI_FIXED, .vector = lvt & VECTOR});
}

uint64_t hk_lapic_get_deadline(const struct hk_lapic *lapic)
{
	return lapic->deadline;
}

void hk_lapic_set_deadline(struct hk_lapic *lapic, uint64_t tsc)
{
	if (hk_lapic_enabled(lapic) && timer_mode(lapic) == HK_LAPIC_TIMER_DEADLINE) {
		lapic->deadline = tsc;
	}
}

/* Registers */

/* Bits of each LVT entry that can be written. */
static uint32_t lvt_bits(unsigned reg)
{
	switch (reg) {
	case HK_LAPIC_LVT_TIMER:
		return LVT_COMMON | HK_LAPIC_TIMER_MODE;
	case HK_LAPIC_LVT_LINT0:
	case HK_LAPIC_LVT_LINT1:
		return LVT_COMMON | LVT_MODE | LVT_POLARITY | LVT_LEVEL;
	case HK_LAPIC_LVT_ERROR:
		return LVT_COMMON;
	default:
		return LVT_COMMON | LVT_MODE;
	}
}

/* Registers that can be read in both modes. */
static bool is_readable(unsigned reg)
{
	switch (reg) {
	case HK_LAPIC_ID:
	case HK_LAPIC_VERSION:
	case HK_LAPIC_TPR:
	case HK_LAPIC_PPR:
	case HK_LAPIC_LDR:
	case HK_LAPIC_SPURIOUS:
	case HK_LAPIC_ESR:
	case HK_LAPIC_ICR:
	case HK_LAPIC_TIMER_INITIAL:
	case HK_LAPIC_TIMER_CURRENT:
	case HK_LAPIC_TIMER_DIVIDE:
		return true;
	default:
		return is_lvt(reg) || (reg >= HK_LAPIC_ISR && reg < HK_LAPIC_ESR);
	}
}

static uint32_t read_reg(
	const struct hk_lapic *lapic, unsigned reg, const struct hk_lapic_time *now)
{
	switch (reg) {
	case HK_LAPIC_PPR:
		return ppr(lapic);
	case HK_LAPIC_TIMER_CURRENT:
		return current_count(lapic, now);
	default:
		return lapic->reg[reg];
	}
}

static void write_spurious(struct hk_lapic *lapic, uint32_t value)
{
	lapic->reg[HK_LAPIC_SPURIOUS] = value & SPURIOUS_BITS;
	if ((value & HK_LAPIC_SOFTWARE_ENABLE) == 0) {
		for (unsigned reg = HK_LAPIC_LVT_TIMER; reg <= HK_LAPIC_LVT_ERROR; reg++) {
			lapic->reg[reg] |= HK_LAPIC_LVT_MASKED;
		}
	}
}

/* Writes that are alike in both modes. Return: false: there is no such register to write. */
static bool write_reg(struct hk_lapic *lapic, unsigned reg, uint32_t value,
	const struct hk_lapic_time *now, struct hk_lapic_effect *ret_effect)
{
	switch (reg) {
	case HK_LAPIC_TPR:
		lapic->reg[reg] = value & 0xff;
		return true;
	case HK_LAPIC_EOI:
		hk_lapic_eoi(lapic, ret_effect);
		return true;
	case HK_LAPIC_SPURIOUS:
		write_spurious(lapic, value);
		return true;
	case HK_LAPIC_ESR: /* a write shows what has been gathered */
		lapic->reg[reg] = lapic->errors;
		lapic->errors = 0;
		return true;
	case HK_LAPIC_TIMER_INITIAL:
		if (timer_mode(lapic) != HK_LAPIC_TIMER_DEADLINE) {
			lapic->reg[reg] = value;
			start_counting(lapic, period_ns(lapic), now);
			ret_effect->timer = true;
		}
		return true;
	case HK_LAPIC_TIMER_DIVIDE:
		write_divide(lapic, value, now, ret_effect);
		return true;
	default:
		break;
	}
	if (!is_lvt(reg)) {
		return false;
	}
	value &= lvt_bits(reg);
	value |= software_enabled(lapic) ? 0 : HK_LAPIC_LVT_MASKED;
	if (reg == HK_LAPIC_LVT_TIMER) {
		write_lvt_timer(lapic, value, ret_effect);
	} else {
		lapic->reg[reg] = value;
	}
	return true;
}

uint32_t hk_lapic_mmio_read(
	struct hk_lapic *lapic, unsigned offset, const struct hk_lapic_time *now)
{
	unsigned reg = offset / 16;

	if (offset % 16 == 0 && reg < HK_LAPIC_REG_COUNT) {
		if (is_readable(reg) || reg == HK_LAPIC_DFR || reg == HK_LAPIC_ICR_HIGH) {
			return read_reg(lapic, reg, now);
		}
		if (reg == HK_LAPIC_APR || reg == HK_LAPIC_RRD || reg == HK_LAPIC_EOI) {
			return 0;
		}
	}
	note_error(lapic, HK_LAPIC_ERROR_REGISTER);
	return 0;
}

void hk_lapic_mmio_write(struct hk_lapic *lapic, unsigned offset, uint32_t value,
	const struct hk_lapic_time *now, struct hk_lapic_effect *ret_effect)
{
	unsigned reg = offset / 16;

	*ret_effect = (struct hk_lapic_effect){0};
	if (offset % 16 != 0) {
		note_error(lapic, HK_LAPIC_ERROR_REGISTER);
		return;
	}
	switch (reg) {
	case HK_LAPIC_ID:
		lapic->reg[reg] = value & 0xff000000;
		break;
	case HK_LAPIC_LDR:
		lapic->reg[reg] = value & 0xff000000;
		break;
	case HK_LAPIC_DFR:
		lapic->reg[reg] = value | 0x0fffffff;
		break;
	case HK_LAPIC_ICR:
		lapic->reg[reg] = value & ICR_BITS;
		send(lapic, value, lapic->reg[HK_LAPIC_ICR_HIGH] >> 24, ret_effect);
		break;
	case HK_LAPIC_ICR_HIGH:
		lapic->reg[reg] = value & 0xff000000;
		break;
	default:
		if (!write_reg(lapic, reg, value, now, ret_effect)) {
			note_error(lapic, HK_LAPIC_ERROR_REGISTER);
		}
		break;
	}
}

bool hk_lapic_msr_read(const struct hk_lapic *lapic, uint32_t index,
	const struct hk_lapic_time *now, uint64_t *ret_value)
{
	unsigned reg = index - X2APIC_MSR_FIRST;

	if (!hk_lapic_x2apic(lapic) || reg >= HK_LAPIC_REG_COUNT || !is_readable(reg)) {
		return false;
	}
	switch (reg) {
	case HK_LAPIC_ID:
		*ret_value = id_of(lapic);
		break;
	case HK_LAPIC_ICR:
		*ret_value = lapic->reg[reg] | (uint64_t)lapic->reg[HK_LAPIC_ICR_HIGH] << 32;
		break;
	default:
		*ret_value = read_reg(lapic, reg, now);
		break;
	}
	return true;
}

/* Bits of an x2APIC register that are reserved: writing them faults. */
static uint64_t reserved_bits(unsigned reg)
{
	switch (reg) {
	case HK_LAPIC_TPR:
	case HK_LAPIC_SELF_IPI:
		return ~(uint64_t)0xff;
	case HK_LAPIC_SPURIOUS:
		return ~(uint64_t)SPURIOUS_BITS;
	case HK_LAPIC_ICR:
		return UINT32_MAX & ~(uint64_t)(ICR_BITS | ICR_BUSY);
	case HK_LAPIC_TIMER_INITIAL:
		return ~(uint64_t)UINT32_MAX;
	case HK_LAPIC_TIMER_DIVIDE:
		return ~(uint64_t)0xb;
	case HK_LAPIC_EOI:
	case HK_LAPIC_ESR:
		return ~(uint64_t)0;
	default: /* LVT entries: read-only bits are let through */
		return ~(uint64_t)(lvt_bits(reg) | 1 << 12 | 1 << 14);
	}
}

bool hk_lapic_msr_write(struct hk_lapic *lapic, uint32_t index, uint64_t value,
	const struct hk_lapic_time *now, struct hk_lapic_effect *ret_effect)
{
	unsigned reg = index - X2APIC_MSR_FIRST;

	*ret_effect = (struct hk_lapic_effect){0};
	if (!hk_lapic_x2apic(lapic) || (value & reserved_bits(reg)) != 0) {
		return false;
	}
	switch (reg) {
	case HK_LAPIC_ICR:
		lapic->reg[HK_LAPIC_ICR] = (uint32_t)value & ICR_BITS;
		lapic->reg[HK_LAPIC_ICR_HIGH] = (uint32_t)(value >> 32);
		send(lapic, (uint32_t)value, (uint32_t)(value >> 32), ret_effect);
		return true;
	case HK_LAPIC_SELF_IPI:
		send(lapic, (uint32_t)value | HK_IPI_SELF << 18, 0, ret_effect);
		return true;
	default:
		return write_reg(lapic, reg, (uint32_t)value, now, ret_effect);
	}
}

/* State */

void hk_lapic_save(
	const struct hk_lapic *lapic, const struct hk_lapic_time *now, uint8_t page[HK_LAPIC_SIZE])
{
	memset(page, 0, HK_LAPIC_SIZE);
	for (unsigned reg = 0; reg < HK_LAPIC_REG_COUNT; reg++) {
		hk_store_le32(page + (size_t)reg * 16, read_reg(lapic, reg, now));
	}
}

void hk_lapic_load(
	struct hk_lapic *lapic, const uint8_t page[HK_LAPIC_SIZE], const struct hk_lapic_time *now)
{
	for (unsigned reg = 0; reg < HK_LAPIC_REG_COUNT; reg++) {
		lapic->reg[reg] = hk_load_le32(page + (size_t)reg * 16);
	}
	lapic->reg[HK_LAPIC_VERSION] = VERSION;
	if (hk_lapic_x2apic(lapic)) {
		lapic->reg[HK_LAPIC_LDR] = x2apic_ldr(id_of(lapic));
	}
	lapic->errors = 0;
	lapic->deadline = 0;
	lapic->expiry_ns = 0;
	if (timer_mode(lapic) == HK_LAPIC_TIMER_DEADLINE ||
		lapic->reg[HK_LAPIC_TIMER_INITIAL] == 0) {
		return;
	}

	uint64_t left = lapic->reg[HK_LAPIC_TIMER_CURRENT] * tick_ns(lapic);

	if (left == 0 && timer_mode(lapic) == HK_LAPIC_TIMER_PERIODIC) {
		left = 1; /* due */
	}
	start_counting(lapic, left, now);
}
