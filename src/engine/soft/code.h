/* SPDX-License-Identifier: ISC */
/*
 * The cache of decoded code: for each guest physical page and code mode that was executed, its
 * instructions in runs of straight-line code, and a table from offset to instruction.
 *
 * Each CPU has its own, so running takes no lock. A page is dropped when its bytes are written: by this CPU
 * (mmu.c's slow path), by another (bus->drop_code), by a device. A dropped page may still be running:
 * its instructions all turn into "resync", which leaves to the run loop with the right RIP; the
 * memory is freed when nothing runs.
 */
#ifndef HK_ENGINE_SOFT_CODE_H
#define HK_ENGINE_SOFT_CODE_H

#include "engine/soft/cpu.h"

struct hk_code_cache *hk_code_create(void);
void hk_code_destroy(struct hk_code_cache *cache);

/** hk_code_lookup() - the decoded instruction at linear @va, decoding it where that is new; also sets
 * gpr[HK_REG_PAGE]. Return: NULL with the fault noted, or where the instruction must run alone
 * (*ret_alone). */
const struct hk_insn *hk_code_lookup(struct hk_cpu *cpu, uint64_t rip, bool *ret_alone);

/** hk_code_drop() - forget what was decoded from these bytes. The CPU's thread, or any while it rests. */
void hk_code_drop(struct hk_cpu *cpu, hk_gpa gpa, unsigned len);

/** hk_code_flush_fetches() - linear addresses may lead elsewhere now: after a TLB flush */
void hk_code_flush_fetches(struct hk_cpu *cpu, bool global);
void hk_code_flush_fetch_page(struct hk_cpu *cpu, uint64_t va);

/** hk_code_reclaim() - free dropped pages; all if there are too many. Only while nothing runs. */
void hk_code_reclaim(struct hk_cpu *cpu);

#endif
