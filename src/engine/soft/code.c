/* SPDX-License-Identifier: ISC */
/*
 * The cache of decoded code; code.h says what it is.
 *
 * A run of straight-line code ends after a branch, where an instruction crosses into the next page
 * (that one is run alone, from bytes fetched each time: what it is depends on two pages; code that
 * runs often is kept all the same, see hk_code_crossing()), where it meets code decoded before, or
 * after RUN_LENGTH instructions. Each end that is no branch has a pseudo-instruction: goto (to code
 * decoded before), more (decode on, then become goto), resync (leave to the run loop).
 *
 * Before bytes are read for decoding, this CPU's bit is set in the page's mark, and CPUs that may
 * write to the page without a look are made to look: from then on no write is missed (soft_mem.h).
 */
#include "engine/soft/code.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "engine/soft/decode.h"
#include "engine/soft/interp.h"
#include "engine/soft/mmu.h"
#include "engine/soft/run.h"
#include "engine/soft/select.h"

enum {
	BUCKETS = 4096,
	RUN_LENGTH = 48,
	CROSSINGS = 64,
	LINE_BITS = 6,
	MAX_BYTES = 128 << 20, /* an ordinary page is some 30 KiB, but guests can make it 600 */
	CHUNK_BYTES = HK_CODE_CHUNK * sizeof(struct hk_insn),
};

/*
 * Generations above it are for the way back to the run loop, where they start anew: no two links of
 * different times may ever have the same.
 */
#define LAST_GEN (UINT32_MAX - (1u << 20))

/*
 * An instruction that crosses into another page, followed by the end of its run. Good while @gen is
 * cpu->code_gen.
 */
struct crossing {
	uint64_t rip;
	uint32_t gen;
	struct hk_insn insns[2];
};

struct hk_code_cache {
	struct hk_code_page *buckets[BUCKETS];
	struct crossing crossings[CROSSINGS];
	struct hk_code_page *dropped;
	size_t bytes; /* of all pages, dropped ones too */
};

struct hk_code_cache *hk_code_create(void)
{
	return calloc(1, sizeof(struct hk_code_cache));
}

size_t hk_code_bytes(const struct hk_cpu *cpu)
{
	return cpu->code->bytes;
}

/* Too much is noted here, and dealt with when nothing runs: hk_code_reclaim(). */
static void add_bytes(struct hk_cpu *cpu, size_t bytes)
{
	cpu->code->bytes += bytes;
	if (cpu->code->bytes > MAX_BYTES) {
		hk_cpu_attend(cpu, HK_ATT_RECLAIM);
	}
}

static void free_page(struct hk_code_cache *cache, struct hk_code_page *code)
{
	for (unsigned i = 0; i < HK_CODE_MAX_CHUNKS && code->chunks[i] != NULL; i++) {
		free(code->chunks[i]);
		cache->bytes -= CHUNK_BYTES;
	}
	free(code);
	cache->bytes -= sizeof(*code);
}

void hk_code_destroy(struct hk_code_cache *cache)
{
	if (cache == NULL) {
		return;
	}
	for (unsigned i = 0; i <= BUCKETS; i++) {
		struct hk_code_page *code = i < BUCKETS ? cache->buckets[i] : cache->dropped;

		while (code != NULL) {
			struct hk_code_page *next = code->next;

			free_page(cache, code);
			code = next;
		}
	}
	free(cache);
}

static unsigned bucket_of(hk_gpa page, unsigned mode)
{
	return (unsigned)((page >> 12) * 3 + mode) % BUCKETS;
}

static struct hk_code_page *find_page(struct hk_code_cache *cache, hk_gpa page, unsigned mode)
{
	struct hk_code_page *code = cache->buckets[bucket_of(page, mode)];

	while (code != NULL && (code->page != page || code->mode != mode)) {
		code = code->next;
	}
	return code;
}

/* From here on every write to the page is seen; see the top of soft_mem.h. */
static void announce(struct hk_cpu *cpu, hk_gpa page)
{
	_Atomic uint32_t *mark = hk_soft_mem_mark(cpu->mem, page);
	uint32_t self = 1u << cpu->index;

	uint32_t seen = atomic_fetch_or_explicit(mark, self, memory_order_seq_cst);
	uint32_t writers = seen >> HK_MARK_WRITER_SHIFT;

	if ((writers & self) != 0) {
		hk_tlb_protect(cpu, page);
	}
	if ((writers & ~self) != 0) {
		cpu->bus->protect_page(cpu, page, writers & ~self);
	}
}

static struct hk_code_page *add_page(struct hk_cpu *cpu, hk_gpa page, unsigned mode)
{
	struct hk_code_cache *cache = cpu->code;
	struct hk_code_page *code = calloc(1, sizeof(*code));

	if (code == NULL) {
		return NULL;
	}
	announce(cpu, page);
	code->page = page;
	code->mode = (uint8_t)mode;
	code->va = HK_TLB_NONE;

	unsigned bucket = bucket_of(page, mode);

	code->next = cache->buckets[bucket];
	cache->buckets[bucket] = code;
	add_bytes(cpu, sizeof(*code));
	return code;
}

/* Pseudo-instructions */

const struct hk_insn *hk_resync(struct hk_cpu *cpu, const struct hk_insn *insn)
{
	return hk_give_up(cpu, insn);
}

static const struct hk_insn *go_on(struct hk_cpu *cpu, const struct hk_insn *insn)
{
	return HK_GO(cpu, insn->target);
}

/* The first time it is reached: decode what follows, then lead there. */
static const struct hk_insn *more(struct hk_cpu *cpu, const struct hk_insn *insn)
{
	const struct hk_insn *next = hk_code_in_page(cpu, insn, (unsigned)insn->off);

	if (next == NULL || insn->exec != more) {
		return hk_give_up(cpu, insn);
	}

	struct hk_insn *self = (struct hk_insn *)insn;

	self->target = next;
	self->exec = go_on;
	return HK_GO(cpu, next);
}

/* Straight on into the next page. */
static const struct hk_insn *go_over(struct hk_cpu *cpu, const struct hk_insn *insn)
{
	return hk_code_find(cpu, hk_insn_rip(cpu, insn));
}

static const struct hk_insn *undefined(struct hk_cpu *cpu, const struct hk_insn *insn)
{
	return hk_raise(cpu, insn, HK_VECTOR_UD);
}

/* Decoding */

static bool is_last(const struct hk_insn *insn)
{
	return (hk_isa[insn->row].flags & (HK_ROW_BRANCH | HK_ROW_LAST)) != 0;
}

/* Room for @count instructions in a row. Return: false without memory. */
static bool make_room(struct hk_cpu *cpu, struct hk_code_page *code, unsigned count)
{
	unsigned left = (HK_CODE_CHUNK - code->used % HK_CODE_CHUNK) % HK_CODE_CHUNK;

	if (left < count) {
		code->used += left;
	}

	unsigned chunk = code->used / HK_CODE_CHUNK;

	if (chunk >= HK_CODE_MAX_CHUNKS) {
		return false;
	}
	if (code->chunks[chunk] == NULL) {
		code->chunks[chunk] = malloc(CHUNK_BYTES);
		if (code->chunks[chunk] == NULL) {
			return false;
		}
		add_bytes(cpu, CHUNK_BYTES);
	}
	return true;
}

static struct hk_insn *append(struct hk_code_page *code)
{
	return hk_code_insn(code, ++code->used);
}

static void note_lines(struct hk_code_page *code, unsigned off, unsigned len)
{
	unsigned end = off + len - 1 < HK_PAGE_SIZE ? off + len - 1 : HK_PAGE_SIZE - 1;

	code->lines |= UINT64_C(1) << (off >> LINE_BITS);
	code->lines |= UINT64_C(1) << (end >> LINE_BITS);
}

/* The end of a run that is no branch of the guest's. It is not indexed. */
static void append_end(struct hk_code_page *code, unsigned off, bool is_long)
{
	struct hk_insn end = {.exec = hk_resync, .off = (int16_t)off};

	if (off >= HK_PAGE_SIZE) {
		end.exec = go_over;
	} else if (code->index[off] != 0) {
		end.exec = go_on;
		end.target = hk_code_insn(code, code->index[off]);
	} else if (is_long) {
		end.exec = more;
	}
	*append(code) = end;
}

/* Another CPU may write these bytes meanwhile: the decoder must not see two versions of one. */
static HK_GUEST_RACES unsigned read_once(
	uint8_t buf[HK_MAX_INSN_LEN], const uint8_t *bytes, unsigned left)
{
	if (left >= HK_MAX_INSN_LEN) {
		__builtin_memcpy(buf, bytes, HK_MAX_INSN_LEN);
		return HK_MAX_INSN_LEN;
	}
	for (unsigned i = 0; i < left; i++) {
		buf[i] = *(const volatile uint8_t *)&bytes[i];
	}
	return left;
}

/*
 * Decodes the run that starts at @start. Return: false where not even its first instruction could
 * be: it has to run alone.
 */
static bool decode_run(
	struct hk_cpu *cpu, struct hk_code_page *code, const uint8_t *bytes, unsigned start)
{
	struct hk_choice choices[RUN_LENGTH] = {{0}};
	unsigned off = start;
	unsigned count = 0;
	bool ended = false;

	if (!make_room(cpu, code, RUN_LENGTH + 1)) {
		return false;
	}

	unsigned first = code->used + 1;

	while (!ended && count < RUN_LENGTH && off < HK_PAGE_SIZE && code->index[off] == 0) {
		uint8_t buf[HK_MAX_INSN_LEN];
		unsigned len = read_once(buf, bytes + off, HK_PAGE_SIZE - off);
		struct hk_insn insn;

		switch (hk_decode(
			buf, len, (enum hk_code_mode)code->mode, cpu->features, (int)off, &insn)) {
		case HK_DECODE_OK:
			insn.exec = hk_isa_exec(insn.row);
			ended = is_last(&insn);
			choices[count] = hk_select(&insn, (enum hk_code_mode)code->mode);
			insn.exec = choices[count].exec;
			note_lines(code, off, insn.len);
			if (insn.exec == NULL) { /* nothing to do: goes on with what follows */
				code->index[off] = (uint16_t)(code->used + 1);
				off += insn.len;
				continue;
			}
			break;
		case HK_DECODE_UD:
			insn = (struct hk_insn){.exec = undefined, .off = (int16_t)off, .len = 1};
			choices[count] = (struct hk_choice){.exec = undefined};
			ended = true;
			note_lines(code, off, HK_MAX_INSN_LEN); /* as far as it may have looked */
			break;
		default: /* crosses into the next page, or is too long */
			if (off == start) {
				return false;
			}
			hk_select_run(hk_code_insn(code, first), choices, count);
			append_end(code, off, false);
			return true;
		}
		*append(code) = insn;
		code->index[off] = (uint16_t)code->used;
		count++;
		off += insn.len;
	}
	hk_select_run(hk_code_insn(code, first), choices, count);
	if (!ended) {
		append_end(code, off, count == RUN_LENGTH);
	}
	return true;
}

static const struct hk_insn *insn_at(
	struct hk_cpu *cpu, struct hk_code_page *code, const uint8_t *bytes, unsigned offset)
{
	if (code->index[offset] == 0 && !decode_run(cpu, code, bytes, offset)) {
		return NULL;
	}
	return hk_code_insn(code, code->index[offset]);
}

static void new_gen(struct hk_cpu *cpu, unsigned kind)
{
	cpu->code_gens[kind] = ++cpu->last_gen;
	if (cpu->last_gen > LAST_GEN) {
		hk_cpu_attend(cpu, HK_ATT_RECLAIM);
	}
	if (kind == cpu->tlb_kind) {
		cpu->code_gen = cpu->code_gens[kind];
	}
}

/*
 * A page is found at @va, perhaps after another address. Links that lead out of it are right for
 * one address only, and so are those into it, which tell it where it is: where there may be any,
 * they end here. Mostly there are none: the other address was in another address space.
 */
static void move_page(struct hk_cpu *cpu, struct hk_code_page *code, uint64_t va)
{
	bool linked = false;

	if (code->va == va) {
		return;
	}
	for (unsigned kind = 0; kind < HK_TLB_KIND_COUNT; kind++) {
		struct hk_fetch_entry *e =
			&cpu->fetches[kind][code->va >> 12 & (HK_FETCH_ENTRIES - 1)];

		linked |= code->link_gens[kind] == cpu->code_gens[kind];
		if (e->page == code->va) {
			e->page = HK_TLB_NONE;
		}
	}
	for (unsigned kind = 0; linked && kind < HK_TLB_KIND_COUNT; kind++) {
		new_gen(cpu, kind);
	}
	code->va = va;
}

static struct hk_code_page *page_at(struct hk_cpu *cpu, uint64_t va)
{
	struct hk_fetch_entry *e = &cpu->fetch[va >> 12 & (HK_FETCH_ENTRIES - 1)];

	if (e->page == (va & HK_PAGE_MASK)) {
		return e->code;
	}

	struct hk_translation found;

	if (!hk_translate(cpu, va, HK_ACCESS_FETCH, cpu->cpl == 3, &found)) {
		return NULL;
	}

	hk_gpa page = found.gpa & HK_PAGE_MASK;

	if (hk_soft_mem_page(cpu->mem, page) == NULL) {
		return NULL; /* not RAM: alone, where it is #UD */
	}

	struct hk_code_page *code = find_page(cpu->code, page, cpu->mode);

	if (code == NULL) {
		code = add_page(cpu, page, cpu->mode);
	}
	if (code != NULL) {
		move_page(cpu, code, va & HK_PAGE_MASK);
		*e = (struct hk_fetch_entry){.page = va & HK_PAGE_MASK, .code = code};
		cpu->local_fetches[cpu->tlb_kind] |= !found.global;
		if (found.large) {
			hk_range_widen(&cpu->large_fetches[cpu->tlb_kind], va);
		}
	}
	return code;
}

static uint64_t linear(const struct hk_cpu *cpu, uint64_t rip)
{
	uint64_t va = rip + cpu->seg_base[HK_CS];

	return cpu->mode == HK_CODE_64 ? va : (uint32_t)va;
}

/*
 * May all of the page at @rip be run? Of one that CS's limit ends within, each instruction is
 * looked at.
 */
static bool within_limit(const struct hk_cpu *cpu, uint64_t rip, uint64_t va)
{
	return cpu->mode == HK_CODE_64 || rip + (~va & ~HK_PAGE_MASK) <= cpu->seg[HK_CS].limit;
}

const struct hk_insn *hk_code_lookup(struct hk_cpu *cpu, uint64_t rip)
{
	uint64_t va = linear(cpu, rip);
	struct hk_code_page *code = within_limit(cpu, rip, va) ? page_at(cpu, va) : NULL;

	if (code == NULL) {
		return NULL;
	}

	unsigned offset = va & ~HK_PAGE_MASK;
	const struct hk_insn *insn =
		insn_at(cpu, code, hk_soft_mem_page(cpu->mem, code->page), offset);

	if (insn != NULL) {
		cpu->gpr[HK_REG_PAGE] = rip - offset;
	}
	return insn;
}

/*
 * Both pages get an entry in the cache and are noted as decoded from: so a write to either, as well
 * as a change of translation, changes the generation.
 */
const struct hk_insn *hk_code_crossing(struct hk_cpu *cpu, uint64_t rip)
{
	struct crossing *c = &cpu->code->crossings[(rip >> 12) % CROSSINGS];
	uint64_t va = rip + cpu->seg_base[HK_CS];
	unsigned offset = va & ~HK_PAGE_MASK;
	uint8_t bytes[HK_MAX_INSN_LEN];
	enum hk_code_mode mode = (enum hk_code_mode)cpu->mode;

	if (c->rip == rip && c->gen == cpu->code_gen) {
		cpu->gpr[HK_REG_PAGE] = rip + c->insns[0].len;
		return c->insns;
	}
	if (mode != HK_CODE_64 || offset + HK_MAX_INSN_LEN <= HK_PAGE_SIZE) {
		return NULL;
	}

	struct hk_code_page *first = page_at(cpu, va);
	struct hk_code_page *second = first != NULL ? page_at(cpu, va + HK_MAX_INSN_LEN) : NULL;

	/* The fetch faults, or not even needs the second page: run.c sorts it out. */
	if (second == NULL || first->dropped) {
		cpu->event.pending = false;
		return NULL;
	}
	note_lines(first, offset, HK_PAGE_SIZE - offset);
	note_lines(second, 0, HK_MAX_INSN_LEN);

	uint32_t gen = cpu->code_gen;
	struct hk_insn insns[2];

	if (hk_fetch_bytes(cpu, va, bytes, sizeof(bytes)) != sizeof(bytes) ||
		hk_decode(bytes, sizeof(bytes), mode, cpu->features, 0, &insns[0]) !=
			HK_DECODE_OK ||
		hk_decode(bytes, sizeof(bytes), mode, cpu->features, -(int)insns[0].len,
			&insns[0]) != HK_DECODE_OK) {
		cpu->event.pending = false;
		return NULL;
	}
	insns[0].exec = hk_isa_exec(insns[0].row);
	insns[1] = (struct hk_insn){.exec = go_over};
	*c = (struct crossing){.rip = rip, .gen = gen, .insns = {insns[0], insns[1]}};
	cpu->gpr[HK_REG_PAGE] = rip + insns[0].len;
	return c->insns;
}

static bool stands_in(const struct hk_insn *insn, const struct hk_code_page *code)
{
	for (unsigned i = 0; i < HK_CODE_MAX_CHUNKS && code->chunks[i] != NULL; i++) {
		if ((uintptr_t)insn - (uintptr_t)code->chunks[i] < CHUNK_BYTES) {
			return true;
		}
	}
	return false;
}

/*
 * Guests that change page tables and do not flush may find another page at the same address. Links
 * within a page live as long as it does, so they must not lead there.
 */
const struct hk_insn *hk_code_in_page(
	struct hk_cpu *cpu, const struct hk_insn *insn, unsigned offset)
{
	struct hk_code_page *code = page_at(cpu, linear(cpu, cpu->gpr[HK_REG_PAGE] + offset));

	return code != NULL && stands_in(insn, code)
		? insn_at(cpu, code, hk_soft_mem_page(cpu->mem, code->page), offset)
		: NULL;
}

const struct hk_insn *hk_code_link(struct hk_cpu *cpu, struct hk_insn *insn, uint64_t rip)
{
	uint64_t from_va = linear(cpu, cpu->gpr[HK_REG_PAGE]);
	struct hk_code_page *from = page_at(cpu, from_va);

	/* It runs, so whatever became of the page tables is nothing to tell the guest. */
	cpu->event.pending = false;

	const struct hk_insn *next = hk_code_lookup(cpu, rip);

	if (next == NULL || from == NULL) {
		return next;
	}

	struct hk_code_page *to = page_at(cpu, linear(cpu, rip));

	/* Either may be another page than it was, or have moved, or have been dropped meanwhile. */
	if (to != NULL && from->va == from_va && !from->dropped && stands_in(insn, from)) {
		from->link_gens[cpu->tlb_kind] = cpu->code_gen;
		to->link_gens[cpu->tlb_kind] = cpu->code_gen;
		insn->target = next;
		insn->link_gen = cpu->code_gen;
	}
	return next;
}

const struct hk_insn *hk_jump(struct hk_cpu *cpu, const struct hk_insn *insn, uint64_t rip)
{
	(void)insn;
	return hk_code_find(cpu, rip);
}

const struct hk_insn *hk_code_find_slow(struct hk_cpu *cpu, uint64_t rip)
{
	const struct hk_insn *next = NULL;

	if (atomic_load_explicit(&cpu->attention, memory_order_relaxed) == 0) {
		next = hk_code_lookup(cpu, rip);
	}
	return next != NULL ? next : hk_leave_to(cpu, rip);
}

/* Forgetting */

static void flush_kind(struct hk_cpu *cpu, unsigned kind)
{
	for (unsigned i = 0; i < HK_FETCH_ENTRIES; i++) {
		cpu->fetches[kind][i].page = HK_TLB_NONE;
	}
	cpu->local_fetches[kind] = false;
	hk_range_clear(&cpu->large_fetches[kind]);
	new_gen(cpu, kind);
}

void hk_code_flush_fetches(struct hk_cpu *cpu, bool global)
{
	for (unsigned kind = 0; kind < HK_TLB_KIND_COUNT; kind++) {
		if (global || cpu->local_fetches[kind]) {
			flush_kind(cpu, kind);
		}
	}
}

void hk_code_flush_fetch_page(struct hk_cpu *cpu, uint64_t va)
{
	for (unsigned kind = 0; kind < HK_TLB_KIND_COUNT; kind++) {
		if (hk_range_has(&cpu->large_fetches[kind], va)) {
			flush_kind(cpu, kind);
		} else {
			cpu->fetches[kind][va >> 12 & (HK_FETCH_ENTRIES - 1)].page = HK_TLB_NONE;
			new_gen(cpu, kind);
		}
	}
}

static void drop_page(struct hk_cpu *cpu, struct hk_code_page **link)
{
	struct hk_code_page *code = *link;

	*link = code->next;
	code->next = cpu->code->dropped;
	cpu->code->dropped = code;
	code->dropped = true;
	/*
	 * Whoever runs in it leaves at the next instruction; links into it end with the generation.
	 */
	for (unsigned i = 0; i < HK_CODE_MAX_CHUNKS && code->chunks[i] != NULL; i++) {
		for (unsigned k = 0; k < HK_CODE_CHUNK; k++) {
			code->chunks[i][k].exec = hk_resync;
		}
	}
	for (unsigned kind = 0; kind < HK_TLB_KIND_COUNT; kind++) {
		for (unsigned i = 0; i < HK_FETCH_ENTRIES; i++) {
			if (cpu->fetches[kind][i].code == code) {
				cpu->fetches[kind][i] =
					(struct hk_fetch_entry){.page = HK_TLB_NONE};
			}
		}
		new_gen(cpu, kind);
	}
}

static uint64_t lines_of(hk_gpa page, hk_gpa gpa, uint64_t len)
{
	uint64_t first = gpa > page ? (gpa - page) >> LINE_BITS : 0;
	uint64_t last = gpa + len < page + HK_PAGE_SIZE ? (gpa + len - 1 - page) >> LINE_BITS : 63;

	return (UINT64_MAX << first) & (UINT64_MAX >> (63 - last));
}

static void drop_in_page(struct hk_cpu *cpu, hk_gpa page, uint64_t lines)
{
	bool left = false;

	for (unsigned mode = 0; mode < HK_CODE_MODE_COUNT; mode++) {
		struct hk_code_page **link = &cpu->code->buckets[bucket_of(page, mode)];

		while (*link != NULL && ((*link)->page != page || (*link)->mode != mode)) {
			link = &(*link)->next;
		}
		if (*link == NULL) {
			continue;
		}
		if (((*link)->lines & lines) != 0) {
			drop_page(cpu, link);
		} else {
			left = true;
		}
	}
	if (!left) {
		atomic_fetch_and_explicit(hk_soft_mem_mark(cpu->mem, page), ~(1u << cpu->index),
			memory_order_seq_cst);
	}
}

void hk_code_drop(struct hk_cpu *cpu, hk_gpa gpa, uint64_t len)
{
	if (len == 0) {
		return;
	}
	for (hk_gpa page = gpa & HK_PAGE_MASK; page <= gpa + len - 1; page += HK_PAGE_SIZE) {
		_Atomic uint32_t *mark = hk_soft_mem_mark(cpu->mem, page);

		if (mark != NULL &&
			(atomic_load_explicit(mark, memory_order_relaxed) >> cpu->index & 1) != 0) {
			drop_in_page(cpu, page, lines_of(page, gpa, len));
		}
	}
}

void hk_code_forget(struct hk_cpu *cpu, hk_gpa gpa, unsigned len)
{
	/* First the store, then the look who has to forget. Pairs with the decoder's fetch_or. */
	atomic_thread_fence(memory_order_seq_cst);

	uint32_t cpus = hk_soft_mem_code_cpus(cpu->mem, gpa, len);
	uint32_t self = 1u << cpu->index;

	if ((cpus & self) != 0) {
		hk_code_drop(cpu, gpa, len);
	}
	if ((cpus & ~self) != 0) {
		cpu->bus->drop_code(cpu, gpa, len, cpus & ~self);
	}
}

void hk_code_drop_all(struct hk_cpu *cpu)
{
	for (unsigned i = 0; i < BUCKETS; i++) {
		while (cpu->code->buckets[i] != NULL) {
			hk_gpa page = cpu->code->buckets[i]->page;

			drop_page(cpu, &cpu->code->buckets[i]);
			atomic_fetch_and_explicit(hk_soft_mem_mark(cpu->mem, page),
				~(1u << cpu->index), memory_order_seq_cst);
		}
	}
}

static void free_dropped(struct hk_code_cache *cache)
{
	while (cache->dropped != NULL) {
		struct hk_code_page *code = cache->dropped;

		cache->dropped = code->next;
		free_page(cache, code);
	}
}

static void start_anew(struct hk_cpu *cpu)
{
	hk_code_drop_all(cpu);
	free_dropped(cpu->code);
	memset(cpu->code->crossings, 0, sizeof(cpu->code->crossings));
	cpu->last_gen = 0;
	for (unsigned kind = 0; kind < HK_TLB_KIND_COUNT; kind++) {
		new_gen(cpu, kind);
	}
}

void hk_code_reclaim(struct hk_cpu *cpu)
{
	free_dropped(cpu->code);
	if (cpu->code->bytes > MAX_BYTES || cpu->last_gen > LAST_GEN) {
		start_anew(cpu);
	}
}
