/* SPDX-License-Identifier: ISC */
/* Runs off to where no memory is: no engine can execute that, and each must say so. */
#include "guest.h"

void guest_main(void)
{
	say("off\n");
	__asm__ volatile("jmp *%0" : : "r"(ECHO + 0x100000));
}
