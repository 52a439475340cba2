/* SPDX-License-Identifier: ISC */
/*
 * All RAM of the memory map can be written and read, none of it twice; where there is none, reads
 * give ones and writes go nowhere. "step=BYTES" on the command line says how far apart to look.
 */
#include "guest.h"

#define GUEST_END UINT64_C(0x400000) /* the guest itself and what was handed over are below */

static uint64_t step;

/* Calls @visit for words of all RAM: one every `step` bytes, and the last of each range. */
static uint64_t for_each_word(bool (*visit)(volatile uint64_t *word))
{
	struct map_entry entry;
	uint64_t bad = 0;

	for (unsigned i = 0; guest_map(i, &entry); i++) {
		uint64_t end = entry.gpa + entry.len;
		uint64_t at = entry.gpa < GUEST_END ? GUEST_END : entry.gpa;

		if (entry.type != 1 || end <= at) {
			continue;
		}
		for (; at < end; at += step) {
			bad += !visit((volatile uint64_t *)at);
		}
		bad += !visit((volatile uint64_t *)(end - 8));
	}
	return bad;
}

static bool is_fresh(volatile uint64_t *word)
{
	return *word == 0;
}

static bool write_own(volatile uint64_t *word)
{
	*word = ~(uint64_t)word;
	return true;
}

static bool has_own(volatile uint64_t *word)
{
	return *word == ~(uint64_t)word;
}

static bool reads_ones(uint64_t gpa)
{
	volatile uint64_t *word = (volatile uint64_t *)gpa;

	*word = 0;
	return *word == UINT64_MAX && *(volatile uint8_t *)(gpa + 3) == 0xff;
}

void guest_main(void)
{
	uint64_t ram = guest_option("memory") << 20;
	uint64_t sum = 0;
	struct map_entry entry;

	step = guest_option("step");
	for (unsigned i = 0; guest_map(i, &entry); i++) {
		sum += entry.type == 1 ? entry.len : 0;
	}
	/* The hole of the PC between 640 KiB and 1 MiB, and what is reserved there. */
	check(sum == ram - 0x100000 + 0x9fc00, "the map has all of RAM");
	check(for_each_word(is_fresh) == 0, "RAM is zero");
	for_each_word(write_own);
	check(for_each_word(has_own) == 0, "RAM keeps what is written");

	check(reads_ones(0xc0000000) && reads_ones(0xdffffff8) && reads_ones(0xffffff00),
		"the MMIO hole reads as ones");
	check(reads_ones(ram < 0xc0000000 ? ram : ram + 0x40000000), "so does what is behind RAM");
	check(reads_ones(ECHO + 0x10000 - 3), "and an access across two pages");
}
