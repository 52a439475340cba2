/* SPDX-License-Identifier: ISC */
/*
 * Never ends: for tests of stopping and pausing. "halt=1": asleep with interrupts off, the other
 * CPUs still waiting to be started.
 */
#include "guest.h"

void guest_ap_main(unsigned index)
{
	for (volatile uint64_t spin = 0;; spin++) {
	}
}

void guest_main(void)
{
	guest_x2apic_on();
	say("stuck\n");
	if (guest_option("halt") == 1) {
		__asm__ volatile("cli; hlt");
	}
	guest_cpus_start((unsigned)guest_option("cpus") - 1);
	guest_ap_main(0);
}
