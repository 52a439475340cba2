/* SPDX-License-Identifier: ISC */
/* A fault without an IDT, twice: the CPU gives up. run_guest must see a crash. */
#include "guest.h"

void guest_main(void)
{
	static const struct __attribute__((packed)) {
		uint16_t limit;
		uint64_t base;
	} none = {0, 0};

	say("and now\n");
	__asm__ volatile("lidt %0; ud2" : : "m"(none));
	say("not ok still here\n");
}
