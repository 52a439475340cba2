/* SPDX-License-Identifier: ISC */
/* The page walk: from a linear address to a page of guest memory. */
#ifndef HK_ENGINE_SOFT_WALK_H
#define HK_ENGINE_SOFT_WALK_H

#include "engine/soft/mmu.h"

struct hk_walk_request {
	uint64_t va;
	enum hk_access access;
	bool user;     /* an access of CPL 3 */
	bool smap_off; /* EFLAGS.AC excuses a supervisor's access to user pages */
};

/** struct hk_walk - what a walk found */
struct hk_walk {
	hk_gpa page; /* of the 4 KiB page, whatever the size of the mapping */
	bool writable;
	bool dirty;
	bool global;
	uint8_t large_shift; /* log2 of the mapping's size where that is more than a page, else 0 */
};

/**
 * hk_walk() - translate and check; sets accessed and dirty bits. Return: false: it faults (fault.h)
 */
bool hk_walk(struct hk_cpu *cpu, const struct hk_walk_request *request, struct hk_walk *ret);

#endif
