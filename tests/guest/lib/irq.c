/* SPDX-License-Identifier: ISC */
/*
 * Interrupts of tiny guests: the IDT, the local APIC in x2APIC mode, the IOAPIC, other CPUs.
 * Sources: Intel SDM vol. 3A, chapters 6 and 10; 82093AA (IOAPIC) data sheet.
 */
#include "guest.h"

struct gate {
	uint16_t offset_low;
	uint16_t selector;
	uint16_t attr;
	uint16_t offset_middle;
	uint32_t offset_high;
	uint32_t zero;
};

enum { CODE_SELECTOR = 0x18, INTERRUPT_GATE = 0x8e00 };

static struct gate idt[256];

void guest_idt_set(unsigned vector, const void *handler)
{
	uint64_t at = (uint64_t)handler;

	idt[vector] = (struct gate){
		.offset_low = (uint16_t)at,
		.selector = CODE_SELECTOR,
		.attr = INTERRUPT_GATE,
		.offset_middle = (uint16_t)(at >> 16),
		.offset_high = (uint32_t)(at >> 32),
	};
}

void guest_idt_load(void)
{
	struct __attribute__((packed)) {
		uint16_t limit;
		uint64_t base;
	} pointer = {sizeof(idt) - 1, (uint64_t)idt};

	__asm__ volatile("lidt %0" : : "m"(pointer));
}

void guest_x2apic_on(void)
{
	enum { ENABLE = 1 << 11, X2APIC = 1 << 10, SOFTWARE_ENABLE = 1 << 8, SPURIOUS = 0xff };
	uint64_t base = rdmsr(MSR_APIC_BASE);

	wrmsr(MSR_APIC_BASE, base | ENABLE);
	wrmsr(MSR_APIC_BASE, base | ENABLE | X2APIC);
	wrmsr(APIC_SPURIOUS, SOFTWARE_ENABLE | SPURIOUS);
}

void guest_eoi(struct frame *frame)
{
	enum { HLT = 0xf4 };

	if (*(const uint8_t *)frame->rip == HLT) {
		frame->rip++;
	}
	wrmsr(APIC_EOI, 0);
}

void guest_ioapic_route(unsigned gsi, unsigned vector, bool masked)
{
	enum { REGISTER = 0x00, DATA = 0x10, MASKED = 1 << 16 };

	mmio_write(IOAPIC + REGISTER, 0x10 + 2 * gsi + 1);
	mmio_write(IOAPIC + DATA, 0);
	mmio_write(IOAPIC + REGISTER, 0x10 + 2 * gsi);
	mmio_write(IOAPIC + DATA, vector | (masked ? MASKED : 0));
}

/* --- other CPUs ------------------------------------------------------------- */

extern const uint8_t ap_trampoline[], ap_trampoline_end[];
void guest_ap_start(unsigned index); /* from start.S */

static unsigned ap_count;

void guest_cpus_start(unsigned count)
{
	enum {
		INIT = 5 << 8,
		STARTUP = 6 << 8,
		ASSERT = 1 << 14,
		ALL_OTHERS = 3 << 18,
		TRAMPOLINE = 0x8000,
	};
	volatile uint8_t *to = (volatile uint8_t *)(uint64_t)TRAMPOLINE;

	for (const uint8_t *from = ap_trampoline; from < ap_trampoline_end; from++) {
		*to++ = *from;
	}
	wrmsr(APIC_ICR, INIT | ASSERT | ALL_OTHERS);
	wrmsr(APIC_ICR, STARTUP | ASSERT | ALL_OTHERS | TRAMPOLINE >> 12);
	while (__atomic_load_n(&ap_count, __ATOMIC_ACQUIRE) < count) {
		cpu_relax();
	}
}

void guest_ipi(unsigned apic_id, unsigned vector)
{
	enum { ASSERT = 1 << 14 };

	wrmsr(APIC_ICR, (uint64_t)apic_id << 32 | ASSERT | vector);
}

/* Guests with one CPU need none. */
__attribute__((weak)) void guest_ap_main(unsigned index)
{
	(void)index;
}

void guest_ap_start(unsigned index)
{
	guest_x2apic_on();
	__atomic_add_fetch(&ap_count, 1, __ATOMIC_ACQ_REL);
	guest_ap_main(index);
}
