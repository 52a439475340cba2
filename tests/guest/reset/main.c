/* SPDX-License-Identifier: ISC */
/* The reset register of the FADT. Values it does not name must do nothing. */
#include "guest.h"

void guest_main(void)
{
	outb(RESET_PORT, 0);
	outb(RESET_PORT, 6);
	outb(POWER_PORT, 5 << 2);          /* soft off, but not enabled */
	outb(POWER_PORT, 1 << 5 | 3 << 2); /* enabled, but another sleeping state */
	check(inb(POWER_PORT) == 0 && inb(POWER_PORT + 1) == 0, "still on");
	outb(RESET_PORT, 1);
	say("not ok still here\n");
}
