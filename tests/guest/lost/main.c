/* SPDX-License-Identifier: ISC */
/*
 * Runs off to where no memory is: KVM cannot execute that and says so, soft lets the guest crash.
 */
#include "guest.h"

void guest_main(void)
{
	say("off\n");
	__asm__ volatile("jmp *%0" : : "r"(ECHO + 0x100000));
}
