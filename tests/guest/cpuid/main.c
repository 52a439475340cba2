/* SPDX-License-Identifier: ISC */
/*
 * Every leaf of hako-v2. The text must be the same on each engine and host: this model is a
 * promise to saved boxes. Only the TSC's rate is left out.
 */
#include "guest.h"

static void show(uint32_t function, uint32_t index)
{
	struct cpuid c = cpuid(function, index);

	say("%8x.%u %8x %8x %8x %8x\n", (uint64_t)function, (uint64_t)index, (uint64_t)c.eax,
		(uint64_t)c.ebx, (uint64_t)c.ecx, (uint64_t)c.edx);
}

void guest_main(void)
{
	uint32_t last = cpuid(0, 0).eax;
	uint32_t last_extended = cpuid(0x80000000, 0).eax;

	for (uint32_t function = 0; function <= last; function++) {
		unsigned indexes = function == 4 || function == 0xb || function == 0xd ? 4 : 1;

		for (unsigned index = 0; index < indexes; index++) {
			show(function, index);
		}
	}
	show(0x40000000, 0);
	show(0x40000001, 0);
	say("timing %8x %8x %8x\n", (uint64_t)cpuid(0x40000010, 0).ebx,
		(uint64_t)cpuid(0x40000010, 0).ecx, (uint64_t)cpuid(0x40000010, 0).edx);
	for (uint32_t function = 0x80000000; function <= last_extended; function++) {
		show(function, 0);
	}
}
