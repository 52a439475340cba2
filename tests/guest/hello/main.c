/* SPDX-License-Identifier: ISC */
/* Serial output by single bytes and by a string instruction. */
#include "guest.h"

void guest_main(void)
{
	static const char text[] = "and all at once\n";
	const char *from = text;
	uint64_t count = sizeof(text) - 1;

	say("hello from a %s\n", "tiny guest");
	__asm__ volatile("rep outsb"
			 : "+S"(from), "+c"(count)
			 : "d"((uint16_t)SERIAL_PORT)
			 : "memory");
	check(count == 0 && from == text + sizeof(text) - 1,
		"string output leaves its registers right");
}
