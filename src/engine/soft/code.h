/* SPDX-License-Identifier: ISC */
/*
 * The cache of decoded code: for each guest physical page and code mode that was executed, its
 * instructions in runs of straight-line code, and a table from offset to instruction.
 *
 * Each CPU has its own, so running takes no lock. A page is dropped when bytes that were decoded
 * are written: by this CPU (mmu.c's slow path), by another (bus->drop_code), by a device. A dropped
 * page may be running: its instructions all turn into "resync", which leaves to the run loop with
 * the right RIP; the memory is freed when nothing runs.
 */
#ifndef HK_ENGINE_SOFT_CODE_H
#define HK_ENGINE_SOFT_CODE_H

#include "engine/soft/cpu.h"

enum {
	HK_CODE_CHUNK = 128,      /* instructions */
	HK_CODE_MAX_CHUNKS = 160, /* a page that needs more runs from bytes */
};

/**
 * struct hk_code_page - the decoded instructions of one guest page in one mode
 * @index: by offset: 1 + number of the instruction that starts there, or of the first to be run
 *	from there on;
 *	0: not decoded
 * @chunks: instruction n is chunks[n / HK_CODE_CHUNK][n % HK_CODE_CHUNK]
 * @lines: bit n: some of the bytes 64 n to 64 n + 63 were decoded
 * @va: linear address that it is found at for now; only there it is among the fetch entries
 * @link_gens: the last generation in which links were made that lead into it or out of it
 */
struct hk_code_page {
	hk_gpa page;
	uint64_t va;
	uint32_t link_gens[HK_TLB_KIND_COUNT];
	uint8_t mode;
	bool dropped;
	uint64_t lines;
	struct hk_code_page *next; /* of its hash bucket, or of the dropped */
	unsigned used;             /* instructions, of all chunks */
	uint16_t index[HK_PAGE_SIZE];
	struct hk_insn *chunks[HK_CODE_MAX_CHUNKS];
};

struct hk_code_cache *hk_code_create(void);
void hk_code_destroy(struct hk_code_cache *cache);

static inline struct hk_insn *hk_code_insn(const struct hk_code_page *code, unsigned index)
{
	unsigned number = index - 1;

	return &code->chunks[number / HK_CODE_CHUNK][number % HK_CODE_CHUNK];
}

/**
 * hk_code_lookup() - the decoded instruction at @rip, decoded now where it is new
 *
 * Sets gpr[HK_REG_PAGE] when it succeeds.
 *
 * Return: NULL with the fault noted; or without one: the instruction crosses into another page, it
 * must run alone (run.c).
 */
const struct hk_insn *hk_code_lookup(struct hk_cpu *cpu, uint64_t rip);

/**
 * hk_code_crossing() - the instruction at @rip, which crosses into the next page, kept decoded
 *
 * Return: NULL where it has to be run from its bytes.
 */
const struct hk_insn *hk_code_crossing(struct hk_cpu *cpu, uint64_t rip);

/**
 * hk_code_find() - where a taken branch to @rip goes on, found fast if it has been before
 *
 * Return: NULL to leave to the run loop (cpu->rip is @rip), which looks further: attention is
 * wanted, or it cannot be fetched, or has to run alone.
 */
const struct hk_insn *hk_code_find_slow(struct hk_cpu *cpu, uint64_t rip);

static inline const struct hk_insn *hk_code_find(struct hk_cpu *cpu, uint64_t rip)
{
	uint64_t va = rip + cpu->seg_base[HK_CS];

	if (hk_unlikely(cpu->mode != HK_CODE_64)) {
		va = (uint32_t)va;
	}

	const struct hk_fetch_entry *e = &cpu->fetch[va >> 12 & (HK_FETCH_ENTRIES - 1)];
	unsigned offset = va & (HK_PAGE_SIZE - 1);

	if (hk_likely(e->page == va - offset && e->code->index[offset] != 0 &&
		    atomic_load_explicit(&cpu->attention, memory_order_relaxed) == 0)) {
		cpu->gpr[HK_REG_PAGE] = rip - offset;
		return hk_code_insn(e->code, e->code->index[offset]);
	}
	return hk_code_find_slow(cpu, rip);
}

/**
 * hk_code_link() - hk_code_lookup() for a branch that leads out of its page; links it to what is
 * returned, where that is good for as long as cpu->code_gen stays
 */
const struct hk_insn *hk_code_link(struct hk_cpu *cpu, struct hk_insn *insn, uint64_t rip);

/**
 * hk_code_in_page() - the instruction at @offset of the page that @insn stands in; NULL as with
 * lookup
 */
const struct hk_insn *hk_code_in_page(
	struct hk_cpu *cpu, const struct hk_insn *insn, unsigned offset);

/**
 * hk_code_drop() - forget what was decoded from these bytes. The CPU's thread, or any while it
 * rests.
 */
void hk_code_drop(struct hk_cpu *cpu, hk_gpa gpa, uint64_t len);
void hk_code_drop_all(struct hk_cpu *cpu);

/**
 * hk_code_forget() - this CPU wrote these bytes of RAM: all that decoded code from them forget it
 */
void hk_code_forget(struct hk_cpu *cpu, hk_gpa gpa, unsigned len);

/** hk_code_flush_fetches() - linear addresses may lead elsewhere now: after a TLB flush */
void hk_code_flush_fetches(struct hk_cpu *cpu, bool global);
void hk_code_flush_fetch_page(struct hk_cpu *cpu, uint64_t va);

/**
 * hk_code_reclaim() - free dropped pages; drop all if there is too much. Only while nothing runs.
 */
void hk_code_reclaim(struct hk_cpu *cpu);

/** hk_code_bytes() - host memory that decoded code takes, but for the cache itself */
size_t hk_code_bytes(const struct hk_cpu *cpu);

/**
 * hk_link() - the handler that runs a relative branch fast, in place of its generic one (link.c)
 *
 * Return: @insn->exec where there is none.
 */
hk_exec_fn *hk_link(struct hk_insn *insn, enum hk_code_mode mode);

/** hk_link_is_near_jcc() - did hk_link() make it a conditional branch within its page? */
bool hk_link_is_near_jcc(const struct hk_insn *insn);

/* Leaves to the run loop with RIP at the instruction; what dropped instructions become. */
const struct hk_insn *hk_resync(struct hk_cpu *cpu, const struct hk_insn *insn);

#endif
