/* SPDX-License-Identifier: ISC */
/* Edge-triggered interrupts through the IOAPIC, from the serial port's empty transmitter. */
#include "guest.h"

enum {
	VECTOR = 0x42,
	BYTES = 40,
	IER = SERIAL_PORT + 1,
	IIR = SERIAL_PORT + 2,
	MCR = SERIAL_PORT + 4,
	IER_EMPTY = 2,
	MCR_OUT2 = 8,
	IIR_EMPTY = 2,
	IIR_NONE = 1,
};

static const char text[BYTES + 1] = "this text is sent by interrupt, 40 bytes";
static volatile unsigned sent;
static volatile unsigned taken;
static volatile bool wrong;

HANDLER static void on_serial(struct frame *frame)
{
	taken++;
	wrong |= inb(IIR) != IIR_EMPTY;
	if (sent < BYTES) {
		outb(SERIAL_PORT, (uint8_t)text[sent++]);
	} else {
		outb(IER, 0);
	}
	guest_eoi(frame);
}

void guest_main(void)
{
	guest_idt_set(VECTOR, on_serial);
	guest_idt_load();
	guest_x2apic_on();
	guest_ioapic_route(SERIAL_GSI, VECTOR, true);
	outb(MCR, MCR_OUT2);
	irq_on();
	outb(IER, IER_EMPTY);
	outb(IER, 0);
	irq_off();
	bool kept_quiet = taken == 0;

	guest_ioapic_route(SERIAL_GSI, VECTOR, false);
	outb(IER, IER_EMPTY); /* the first interrupt; each byte brings the next */
	while ((inb(IER) & IER_EMPTY) != 0) {
		irq_wait();
	}
	say("\n");
	check(kept_quiet, "a masked pin is quiet");
	check(taken == BYTES + 1 && sent == BYTES, "one interrupt for each byte");
	check(!wrong && inb(IIR) == IIR_NONE, "IIR says why");
}
