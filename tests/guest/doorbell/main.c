/* SPDX-License-Identifier: ISC */
/*
 * Doorbells and interrupts without the monitor's help. run_guest's echo device registers the
 * doorbells 0 to 3, and answers each with an irqfd; other values reach its register handler.
 */
#include "guest.h"

enum { VECTOR = 0x43, ROUNDS = 32, WRITES_SEEN = 0, BELLS_HEARD = 4 };

static unsigned answers;

HANDLER static void on_echo(struct frame *frame)
{
	__atomic_add_fetch(&answers, 1, __ATOMIC_RELEASE);
	guest_eoi(frame);
}

void guest_main(void)
{
	guest_idt_set(VECTOR, on_echo);
	guest_idt_load();
	guest_x2apic_on();
	guest_ioapic_route(ECHO_GSI, VECTOR, false);
	for (unsigned i = 0; i < ROUNDS; i++) {
		mmio_write(ECHO + QUEUE_KICK, i % 4);
		while (__atomic_load_n(&answers, __ATOMIC_ACQUIRE) == i) {
			irq_wait();
		}
	}
	check(answers == ROUNDS, "each doorbell is answered by one interrupt");
	check(mmio_read(ECHO + BELLS_HEARD) == ROUNDS, "the device heard them all");
	check(mmio_read(ECHO + WRITES_SEEN) == 0, "none came as a register write");
	mmio_write(ECHO + QUEUE_KICK, 7);
	check(mmio_read(ECHO + WRITES_SEEN) == 1, "a value that is no doorbell does");
	/* Three bytes of this are the device's, five nobody's; neither is a register. */
	check(*(volatile uint64_t *)(ECHO + 0xffd) == UINT64_MAX,
		"an access of odd length hits nothing");
}
