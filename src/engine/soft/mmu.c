/* SPDX-License-Identifier: ISC */
/*
 * The slow side of memory: filling the TLB, accesses that cross pages or hit no RAM, stores to
 * pages whose code is decoded.
 *
 * A TLB entry's write tag is set only where a store needs no further look: the page is writable,
 * dirty already, and no CPU has decoded code from it (soft_mem.h).
 *
 * Limits: windows (shared-memory regions) are not reachable yet.
 */
#include "engine/soft/mmu.h"

#include <assert.h>

#include "engine/soft/code.h"
#include "engine/soft/fault.h"
#include "engine/soft/sys.h"
#include "engine/soft/walk.h"

/* The TLB */

/* Is any enabled data breakpoint in this page? Such pages never get into the TLB. */
static bool page_is_watched(const struct hk_cpu *cpu, uint64_t va)
{
	if (hk_likely((cpu->dr7 & 0xff) == 0)) {
		return false;
	}
	for (unsigned i = 0; i < 4; i++) {
		if ((cpu->dr7 >> (2 * i) & 3) != 0 && ((cpu->dr[i] ^ va) & HK_PAGE_MASK) == 0) {
			return true;
		}
	}
	return false;
}

static void fill(
	struct hk_cpu *cpu, uint64_t va, const struct hk_walk *found, void *host, bool code)
{
	unsigned slot = va >> 12 & (HK_TLB_ENTRIES - 1);
	struct hk_tlb_entry *e = &cpu->tlb[slot];
	uint64_t page = va & HK_PAGE_MASK;

	if (page_is_watched(cpu, va) || cpu->tlb_kind == HK_TLB_USER_AC) {
		return;
	}
	e->read = page;
	e->write = found->writable && found->dirty && !code ? page : HK_TLB_NONE;
	e->addend = (uintptr_t)host - (uintptr_t)page;
	e->page = found->page | found->large_shift;
	if (found->large_shift != 0) {
		hk_range_widen(&cpu->large[cpu->tlb_kind], page);
	}
	if (!found->global) {
		unsigned *count = &cpu->tlb_log[cpu->tlb_kind].count;

		if (*count < HK_TLB_LOG_SLOTS) {
			cpu->tlb_log[cpu->tlb_kind].slot[(*count)++] = (uint16_t)slot;
		} else {
			*count = HK_TLB_LOG_SLOTS + 1; /* too many */
		}
	}
}

static bool span_at(
	struct hk_cpu *cpu, uint64_t va, unsigned len, enum hk_access access, struct hk_span *ret)
{
	struct hk_walk_request request = {
		.va = va,
		.access = access,
		.user = cpu->tlb_kind == HK_TLB_USER || cpu->tlb_kind == HK_TLB_USER_AC,
		.smap_off = cpu->tlb_kind == HK_TLB_KERNEL_AC,
	};
	struct hk_walk found;

	if (!hk_walk(cpu, &request, &found)) {
		return false;
	}

	uint8_t *host = hk_soft_mem_page(cpu->mem, found.page);

	*ret = (struct hk_span){.gpa = found.page | (va & ~HK_PAGE_MASK), .len = len};
	if (host == NULL) {
		return true;
	}
	ret->host = host + (va & ~HK_PAGE_MASK);

	_Atomic uint32_t *mark = hk_soft_mem_mark(cpu->mem, found.page);
	uint32_t seen = atomic_load_explicit(mark, memory_order_relaxed);

	if (found.writable && found.dirty) {
		uint32_t writer = 1u << (HK_MARK_WRITER_SHIFT + cpu->index);

		if ((seen & writer) == 0) {
			/* Pairs with the decoder's fetch_or in code.c. */
			seen = atomic_fetch_or_explicit(mark, writer, memory_order_seq_cst);
		}
	}
	ret->code = (seen & HK_MARK_CODE) != 0;
	fill(cpu, va, &found, host, ret->code);
	return true;
}

/* The one or two pages of an access of up to a page. Both are checked before either is touched. */
static bool spans_at(struct hk_cpu *cpu, uint64_t va, unsigned len, enum hk_access access,
	struct hk_span spans[2])
{
	unsigned first = HK_PAGE_SIZE - (unsigned)(va & ~HK_PAGE_MASK);

	spans[1] = (struct hk_span){.len = 0};
	if (len <= first) {
		return span_at(cpu, va, len, access, &spans[0]);
	}

	uint64_t next = va + first;

	if ((cpu->efer & HK_EFER_LMA) == 0) {
		next = (uint32_t)next;
	}
	return span_at(cpu, va, first, access, &spans[0]) &&
		span_at(cpu, next, len - first, access, &spans[1]);
}

static bool aligned(const void *p, unsigned len)
{
	return ((uintptr_t)p & (len - 1)) == 0;
}

static HK_GUEST_RACES void ram_load(const void *host, void *buf, unsigned len)
{
	if (len == 8 && aligned(host, 8)) {
		uint64_t v = __atomic_load_n((const uint64_t *)host, __ATOMIC_ACQUIRE);

		memcpy(buf, &v, 8);
	} else if (len == 4 && aligned(host, 4)) {
		uint32_t v = __atomic_load_n((const uint32_t *)host, __ATOMIC_ACQUIRE);

		memcpy(buf, &v, 4);
	} else if (len == 2 && aligned(host, 2)) {
		uint16_t v = __atomic_load_n((const uint16_t *)host, __ATOMIC_ACQUIRE);

		memcpy(buf, &v, 2);
	} else {
		memcpy(buf, host, len);
		HK_GUEST_ACQUIRE();
	}
}

static HK_GUEST_RACES void ram_store(void *host, const void *buf, unsigned len)
{
	if (len == 8 && aligned(host, 8)) {
		uint64_t v;

		memcpy(&v, buf, 8);
		__atomic_store_n((uint64_t *)host, v, __ATOMIC_RELEASE);
	} else if (len == 4 && aligned(host, 4)) {
		uint32_t v;

		memcpy(&v, buf, 4);
		__atomic_store_n((uint32_t *)host, v, __ATOMIC_RELEASE);
	} else if (len == 2 && aligned(host, 2)) {
		uint16_t v;

		memcpy(&v, buf, 2);
		__atomic_store_n((uint16_t *)host, v, __ATOMIC_RELEASE);
	} else {
		HK_GUEST_RELEASE();
		memcpy(host, buf, len);
	}
}

/* Devices see what falls into one page as one access, of up to 8 bytes: as KVM does it. */
static void mmio(struct hk_cpu *cpu, hk_gpa gpa, uint8_t *data, unsigned len, bool write)
{
	while (len > 0) {
		unsigned step = len < 8 ? len : 8;

		cpu->bus->mmio(cpu, gpa, data, step, write);
		gpa += step;
		data += step;
		len -= step;
	}
}

static void span_load(struct hk_cpu *cpu, const struct hk_span *span, void *buf)
{
	if (span->host != NULL) {
		ram_load(span->host, buf, span->len);
	} else {
		mmio(cpu, span->gpa, buf, span->len, false);
	}
}

static void span_store(struct hk_cpu *cpu, const struct hk_span *span, const void *buf)
{
	uint8_t copy[16];

	if (span->host == NULL) {
		for (unsigned at = 0; at < span->len; at += sizeof(copy)) {
			unsigned len = span->len - at < sizeof(copy) ? span->len - at
								     : (unsigned)sizeof(copy);

			memcpy(copy, (const uint8_t *)buf + at, len);
			mmio(cpu, span->gpa + at, copy, len, true);
		}
		return;
	}
	ram_store(span->host, buf, span->len);
	if (span->code) {
		hk_code_forget(cpu, span->gpa, span->len);
	}
}

/* Data breakpoints: note what was hit; the run loop raises #DB after the instruction. */
static void watch(struct hk_cpu *cpu, uint64_t va, unsigned len, bool write)
{
	enum { ON_WRITE = 1, ON_ACCESS = 3 };
	static const uint8_t lengths[4] = {1, 2, 8, 4};

	if (hk_likely((cpu->dr7 & 0xff) == 0)) {
		return;
	}
	for (unsigned i = 0; i < 4; i++) {
		unsigned kind = cpu->dr7 >> (16 + 4 * i) & 3;
		unsigned size = lengths[cpu->dr7 >> (18 + 4 * i) & 3];
		uint64_t start = cpu->dr[i] & ~(uint64_t)(size - 1);

		if ((cpu->dr7 >> (2 * i) & 3) != 0 && va < start + size && start < va + len &&
			(kind == ON_ACCESS || (kind == ON_WRITE && write))) {
			cpu->watch_hit |= 1u << i;
		}
	}
}

/*
 * Alignment checks of user programs that ask for them. Of longer operands no instruction is checked
 * here.
 */
static bool alignment_ok(struct hk_cpu *cpu, uint64_t va, unsigned len)
{
	if (hk_likely(cpu->tlb_kind != HK_TLB_USER_AC) || len > 8 || (len & (len - 1)) != 0 ||
		(va & (len - 1)) == 0) {
		return true;
	}
	return hk_fault_code(cpu, HK_VECTOR_AC, 0);
}

bool hk_load(struct hk_cpu *cpu, uint64_t va, void *buf, unsigned len)
{
	struct hk_span spans[2];

	assert(len <= HK_PAGE_SIZE);
	if (len == 0) {
		return true;
	}
	if (!spans_at(cpu, va, len, HK_ACCESS_READ, spans) || !alignment_ok(cpu, va, len)) {
		return false;
	}
	span_load(cpu, &spans[0], buf);
	if (spans[1].len > 0) {
		span_load(cpu, &spans[1], (uint8_t *)buf + spans[0].len);
	}
	watch(cpu, va, len, false);
	return true;
}

/* @len bytes of @held at most, from @from on; none where that is behind it. */
static struct hk_span part_of(const struct hk_span *held, uint64_t from, unsigned len)
{
	if (from >= held->len) {
		return (struct hk_span){.len = 0};
	}
	return (struct hk_span){
		.host = held->host != NULL ? held->host + from : NULL,
		.gpa = held->gpa + from,
		.len = len < held->len - from ? len : held->len - (unsigned)from,
		.code = true, /* it may be by now: look */
	};
}

/* Where a store goes that has been probed. Return: false: it has not been. */
static bool held_spans(struct hk_cpu *cpu, uint64_t va, unsigned len, struct hk_span spans[2])
{
	const struct hk_held *held = &cpu->held;
	uint64_t from = va - held->va;

	if (from >= held->len || len > held->len - from || held->kind != cpu->tlb_kind) {
		return false;
	}
	spans[0] = part_of(&held->spans[0], from, len);
	if (spans[0].len == 0) {
		spans[0] = part_of(&held->spans[1], from - held->spans[0].len, len);
		spans[1] = (struct hk_span){.len = 0};
	} else {
		spans[1] = part_of(&held->spans[1], 0, len - spans[0].len);
	}
	return true;
}

bool hk_store(struct hk_cpu *cpu, uint64_t va, const void *buf, unsigned len)
{
	struct hk_span spans[2];

	assert(len <= HK_PAGE_SIZE);
	if (len == 0) {
		return true;
	}
	if ((!held_spans(cpu, va, len, spans) && !spans_at(cpu, va, len, HK_ACCESS_WRITE, spans)) ||
		!alignment_ok(cpu, va, len)) {
		return false;
	}
	span_store(cpu, &spans[0], buf);
	if (spans[1].len > 0) {
		span_store(cpu, &spans[1], (const uint8_t *)buf + spans[0].len);
	}
	watch(cpu, va, len, true);
	return true;
}

bool hk_probe(struct hk_cpu *cpu, uint64_t va, unsigned len, enum hk_access access)
{
	struct hk_held *held = &cpu->held;

	if (len == 0) {
		return true;
	}
	held->len = 0;
	if (!spans_at(cpu, va, len, access, held->spans)) {
		return false;
	}
	if (access == HK_ACCESS_WRITE) {
		held->va = va;
		held->len = len;
		held->kind = cpu->tlb_kind;
	}
	return true;
}

bool hk_lock_begin(struct hk_cpu *cpu, uint64_t va, unsigned len, struct hk_lock *lock)
{
	void *host = hk_tlb_write(cpu, va, len);

	*lock = (struct hk_lock){.host = host, .va = va, .len = len};
	if (hk_likely(host != NULL && aligned(host, len))) {
		return true;
	}
	if (!hk_probe(cpu, va, len, HK_ACCESS_WRITE)) {
		return false;
	}
	host = hk_tlb_write(cpu, va, len); /* the probe may have filled it in */
	if (host != NULL && aligned(host, len)) {
		lock->host = host;
		return true;
	}
	lock->exclusive = true;
	lock->host = lock->bounce;
	cpu->bus->exclusive_begin(cpu);
	if (!hk_load(cpu, va, lock->bounce, len) || !hk_probe(cpu, va, len, HK_ACCESS_WRITE)) {
		cpu->bus->exclusive_end(cpu);
		return false;
	}
	return true;
}

void hk_lock_end(struct hk_cpu *cpu, struct hk_lock *lock)
{
	if (lock->exclusive) {
		bool stored = hk_store(cpu, lock->va, lock->bounce, lock->len);

		assert(stored); /* it has been probed */
		(void)stored;
		cpu->bus->exclusive_end(cpu);
	}
}

/* With the supervisor's view, whatever CPL is. */
static void enter_supervisor(struct hk_cpu *cpu, uint8_t *ret_kind)
{
	*ret_kind = cpu->tlb_kind;
	cpu->tlb_kind = HK_TLB_KERNEL;
	cpu->tlb = cpu->tlbs[HK_TLB_KERNEL];
}

static void leave_supervisor(struct hk_cpu *cpu, uint8_t kind)
{
	cpu->tlb_kind = kind;
	cpu->tlb = cpu->tlbs[kind];
	cpu->code_gen = cpu->code_gens[kind]; /* a store may have dropped code */
}

bool hk_sys_load(struct hk_cpu *cpu, uint64_t va, void *buf, unsigned len)
{
	uint8_t kind;

	enter_supervisor(cpu, &kind);

	const void *host = len <= 16 && (len & (len - 1)) == 0 ? hk_tlb_read(cpu, va, len) : NULL;
	bool ok = true;

	if (host != NULL) {
		ram_load(host, buf, len);
	} else {
		ok = hk_load(cpu, va, buf, len);
	}
	leave_supervisor(cpu, kind);
	return ok;
}

bool hk_sys_store(struct hk_cpu *cpu, uint64_t va, const void *buf, unsigned len)
{
	uint8_t kind;

	enter_supervisor(cpu, &kind);

	void *host = len <= 16 && (len & (len - 1)) == 0 ? hk_tlb_write(cpu, va, len) : NULL;
	bool ok = true;

	if (host != NULL) {
		ram_store(host, buf, len);
	} else {
		ok = hk_store(cpu, va, buf, len);
	}
	leave_supervisor(cpu, kind);
	return ok;
}

bool hk_translate(struct hk_cpu *cpu, uint64_t va, enum hk_access access, bool user,
	struct hk_translation *ret)
{
	struct hk_walk_request request = {
		.va = va,
		.access = access,
		.user = user,
		.smap_off = cpu->tlb_kind == HK_TLB_KERNEL_AC,
	};
	struct hk_walk found;

	if (!hk_walk(cpu, &request, &found)) {
		return false;
	}
	*ret = (struct hk_translation){
		.gpa = found.page | (va & ~HK_PAGE_MASK),
		.global = found.global,
		.large = found.large_shift != 0,
	};
	return true;
}

unsigned hk_fetch_bytes(struct hk_cpu *cpu, uint64_t va, uint8_t *buf, unsigned len)
{
	unsigned got = 0;

	while (got < len) {
		uint64_t at = va + got;
		unsigned step = HK_PAGE_SIZE - (unsigned)(at & ~HK_PAGE_MASK);
		struct hk_translation found;

		if ((cpu->efer & HK_EFER_LMA) == 0) {
			at = (uint32_t)at;
		}
		if (!hk_translate(cpu, at, HK_ACCESS_FETCH, cpu->cpl == 3, &found)) {
			if (got > 0) {
				cpu->event.pending = false;
			}
			return got;
		}
		step = step < len - got ? step : len - got;

		const uint8_t *host = hk_soft_mem_page(cpu->mem, found.gpa & HK_PAGE_MASK);

		if (host != NULL) {
			ram_load(host + (found.gpa & ~HK_PAGE_MASK), buf + got, step);
		} else {
			memset(buf + got, 0xff, step); /* no code but in RAM: this is #UD */
		}
		got += step;
	}
	return got;
}

/* Forgetting */

static void forget_kind(struct hk_cpu *cpu, unsigned kind, bool global)
{
	struct hk_tlb_entry *tlb = cpu->tlbs[kind];
	unsigned count = cpu->tlb_log[kind].count;

	cpu->tlb_log[kind].count = 0;
	if (global || count > HK_TLB_LOG_SLOTS) {
		for (unsigned i = 0; i < HK_TLB_ENTRIES; i++) {
			tlb[i].read = tlb[i].write = HK_TLB_NONE;
		}
		hk_range_clear(&cpu->large[kind]);
		return;
	}
	for (unsigned i = 0; i < count; i++) {
		struct hk_tlb_entry *e = &tlb[cpu->tlb_log[kind].slot[i]];

		e->read = e->write = HK_TLB_NONE;
	}
}

void hk_tlb_flush(struct hk_cpu *cpu, bool global)
{
	cpu->held.len = 0;
	for (unsigned kind = 0; kind < HK_TLB_KIND_COUNT; kind++) {
		forget_kind(cpu, kind, global);
	}
	hk_code_flush_fetches(cpu, global);
}

/* Pages that are parts of the large page at @va. */
static void forget_large(struct hk_cpu *cpu, unsigned kind, uint64_t va)
{
	for (unsigned i = 0; i < HK_TLB_ENTRIES; i++) {
		struct hk_tlb_entry *e = &cpu->tlbs[kind][i];
		unsigned shift = (unsigned)(e->page & ~HK_PAGE_MASK);

		if (shift != 0 && (e->read ^ va) >> shift == 0) {
			e->read = e->write = HK_TLB_NONE;
		}
	}
}

void hk_tlb_flush_page(struct hk_cpu *cpu, uint64_t va)
{
	unsigned slot = va >> 12 & (HK_TLB_ENTRIES - 1);

	cpu->held.len = 0;
	for (unsigned kind = 0; kind < HK_TLB_KIND_COUNT; kind++) {
		struct hk_tlb_entry *e = &cpu->tlbs[kind][slot];

		/* Its slot is in the log already, if it has to be; a second time does no harm. */
		e->read = e->write = HK_TLB_NONE;
		if (hk_range_has(&cpu->large[kind], va)) {
			forget_large(cpu, kind, va);
		}
	}
	hk_code_flush_fetch_page(cpu, va);
}

void hk_tlb_protect(struct hk_cpu *cpu, hk_gpa page)
{
	_Atomic uint32_t *mark = hk_soft_mem_mark(cpu->mem, page);
	uint32_t writer = 1u << (HK_MARK_WRITER_SHIFT + cpu->index);

	if (mark == NULL || (atomic_load_explicit(mark, memory_order_relaxed) & writer) == 0) {
		return;
	}
	for (unsigned kind = 0; kind < HK_TLB_KIND_COUNT; kind++) {
		for (unsigned i = 0; i < HK_TLB_ENTRIES; i++) {
			if ((cpu->tlbs[kind][i].page & HK_PAGE_MASK) == page) {
				cpu->tlbs[kind][i].write = HK_TLB_NONE;
			}
		}
	}
	atomic_fetch_and_explicit(mark, ~writer, memory_order_seq_cst);
}
