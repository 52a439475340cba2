/* SPDX-License-Identifier: ISC */
/*
 * Memory as instructions see it: linear addresses, through the software TLB.
 *
 * The fast path is one probe: the entry's tag is compared with the page of the access's *last*
 * byte, the entry is chosen by its first, so an access that crosses a page never matches.
 * Everything else (miss, crossing, MMIO, a page whose code is decoded, a watched page) is mmu.c's
 * slow path.
 *
 * Accesses return false where they fault: the event is noted (fault.h), nothing has been
 * written. Those that cross pages check both before they write. A plain access that is naturally
 * aligned is done at once, as other CPUs see it.
 *
 * Memory order: guests expect TSO. On x86 hosts plain accesses give just that; elsewhere
 * loads acquire and stores release.
 *
 * Guest memory is shared with other CPUs and with devices: it is copied, never pointed at, but for
 * locked accesses (hk_lock_begin()).
 */
#ifndef HK_ENGINE_SOFT_MMU_H
#define HK_ENGINE_SOFT_MMU_H

#include <string.h>

#include "engine/soft/cpu.h"
#include "engine/soft/soft_mem.h"

#define HK_LARGEST_PAGE (UINT64_C(1) << 30)

/* Why memory is touched; what page tables must allow. */
enum hk_access { HK_ACCESS_READ, HK_ACCESS_WRITE, HK_ACCESS_FETCH };

/** hk_load() / hk_store() - @len bytes, any number up to 4096, at a linear address */
bool hk_load(struct hk_cpu *cpu, uint64_t va, void *buf, unsigned len);
bool hk_store(struct hk_cpu *cpu, uint64_t va, const void *buf, unsigned len);

/* The host address of @len bytes (a power of two up to 16) at @va, or NULL: take the slow path. */
static inline void *hk_tlb_read(const struct hk_cpu *cpu, uint64_t va, unsigned len)
{
	const struct hk_tlb_entry *e = &cpu->tlb[va >> 12 & (HK_TLB_ENTRIES - 1)];

	return __builtin_expect(e->read == ((va + len - 1) & HK_PAGE_MASK), 1)
		? (void *)(uintptr_t)(va + e->addend)
		: NULL;
}

static inline void *hk_tlb_write(const struct hk_cpu *cpu, uint64_t va, unsigned len)
{
	const struct hk_tlb_entry *e = &cpu->tlb[va >> 12 & (HK_TLB_ENTRIES - 1)];

	return __builtin_expect(e->write == ((va + len - 1) & HK_PAGE_MASK), 1)
		? (void *)(uintptr_t)(va + e->addend)
		: NULL;
}

#if defined(__x86_64__) || defined(__i386__)
#define HK_GUEST_ACQUIRE() __atomic_signal_fence(__ATOMIC_ACQUIRE)
#define HK_GUEST_RELEASE() __atomic_signal_fence(__ATOMIC_RELEASE)
#else
#define HK_GUEST_ACQUIRE() __atomic_thread_fence(__ATOMIC_ACQUIRE)
#define HK_GUEST_RELEASE() __atomic_thread_fence(__ATOMIC_RELEASE)
#endif

/*
 * memcpy of a constant power of two is one access of the host, aligned or not. TSan cannot know
 * that guests race by themselves.
 */
#if defined(__SANITIZE_THREAD__)
#define HK_GUEST_RACES __attribute__((no_sanitize("thread"), noinline, unused))
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define HK_GUEST_RACES __attribute__((no_sanitize("thread"), noinline, unused))
#endif
#endif
#ifndef HK_GUEST_RACES
#define HK_GUEST_RACES inline
#endif

#define HK_DEFINE_ACCESS(bits) \
	static HK_GUEST_RACES bool hk_load##bits( \
		struct hk_cpu *cpu, uint64_t va, uint##bits##_t *ret_value) \
	{ \
		const void *p = hk_tlb_read(cpu, va, bits / 8); \
\
		if (__builtin_expect(p == NULL, 0)) { \
			return hk_load(cpu, va, ret_value, bits / 8); \
		} \
		__builtin_memcpy(ret_value, p, bits / 8); \
		HK_GUEST_ACQUIRE(); \
		return true; \
	} \
	static HK_GUEST_RACES bool hk_store##bits( \
		struct hk_cpu *cpu, uint64_t va, uint##bits##_t value) \
	{ \
		void *p = hk_tlb_write(cpu, va, bits / 8); \
\
		if (__builtin_expect(p == NULL, 0)) { \
			return hk_store(cpu, va, &value, bits / 8); \
		} \
		HK_GUEST_RELEASE(); \
		__builtin_memcpy(p, &value, bits / 8); \
		return true; \
	}

HK_DEFINE_ACCESS(8)
HK_DEFINE_ACCESS(16)
HK_DEFINE_ACCESS(32)
HK_DEFINE_ACCESS(64)

/**
 * hk_probe() - would @len bytes (up to 4096) at @va be accessible? Faults as the access would.
 * After one for writing, stores to these bytes succeed.
 */
bool hk_probe(struct hk_cpu *cpu, uint64_t va, unsigned len, enum hk_access access);

/**
 * hk_load_rmw() - load @len (1, 2, 4, 8, 16) bytes that will be stored to at once: faults as a
 * write does, so that the hk_store() after it cannot fail
 */
static inline bool hk_load_rmw(struct hk_cpu *cpu, uint64_t va, void *buf, unsigned len)
{
	if (hk_tlb_write(cpu, va, len) == NULL && !hk_probe(cpu, va, len, HK_ACCESS_WRITE)) {
		return false;
	}
	return hk_load(cpu, va, buf, len);
}

/**
 * struct hk_lock - a locked read-modify-write in work
 * @host: @len bytes, aligned to @len, to be changed with __atomic operations
 */
struct hk_lock {
	void *host;
	alignas(16) uint8_t bounce[16];
	uint64_t va;
	unsigned len;
	bool exclusive; /* all others rest; host is bounce */
};

/**
 * hk_lock_begin() - for LOCK-prefixed instructions and XCHG with memory
 *
 * Where the access is aligned RAM, @lock->host is guest memory itself; else the other CPUs are
 * stopped and it is a copy, which hk_lock_end() stores. Faults as a write does. Between the two
 * no other memory may be touched and nothing may fail. len 1, 2, 4, 8 or 16.
 */
bool hk_lock_begin(struct hk_cpu *cpu, uint64_t va, unsigned len, struct hk_lock *lock);
void hk_lock_end(struct hk_cpu *cpu, struct hk_lock *lock);

/*
 * Accesses by the CPU itself (descriptor tables, TSS, interrupt frames to inner rings): as CPL 0.
 */
bool hk_sys_load(struct hk_cpu *cpu, uint64_t va, void *buf, unsigned len);
bool hk_sys_store(struct hk_cpu *cpu, uint64_t va, const void *buf, unsigned len);

/**
 * hk_fetch_bytes() - code at linear @va, up to @len bytes; stops early before a page that cannot be
 * fetched from. Return: how many there are; 0 with the fault noted.
 */
unsigned hk_fetch_bytes(struct hk_cpu *cpu, uint64_t va, uint8_t *buf, unsigned len);

/** struct hk_translation - where a linear address leads */
struct hk_translation {
	hk_gpa gpa;
	bool global; /* stays over a change of CR3 */
	bool large;  /* part of a page of more than 4 KiB */
};

/**
 * hk_translate() - the page tables' answer for @va
 *
 * Sets accessed and dirty bits as @access does. Return: false with the fault noted.
 */
bool hk_translate(struct hk_cpu *cpu, uint64_t va, enum hk_access access, bool user,
	struct hk_translation *ret);

/*
 * struct hk_range holds all addresses that it was widened to, up to the largest page's size around
 * them.
 */
static inline void hk_range_widen(struct hk_range *range, uint64_t va)
{
	uint64_t first = va & ~(HK_LARGEST_PAGE - 1);
	uint64_t last = va | (HK_LARGEST_PAGE - 1);

	range->first = first < range->first ? first : range->first;
	range->last = last > range->last ? last : range->last;
}

static inline void hk_range_clear(struct hk_range *range)
{
	*range = (struct hk_range){.first = UINT64_MAX};
}

static inline bool hk_range_has(const struct hk_range *range, uint64_t va)
{
	return range->first <= va && va <= range->last;
}

/** hk_tlb_flush() - drop all translations; without @global keep those of global pages */
void hk_tlb_flush(struct hk_cpu *cpu, bool global);
/** hk_tlb_flush_page() - drop that of the page at @va, which may be a large one */
void hk_tlb_flush_page(struct hk_cpu *cpu, uint64_t va);

/**
 * hk_tlb_protect() - no entry for the page may be written through without a look (soft_mem.h). The
 * CPU's thread, or any while the CPU rests.
 */
void hk_tlb_protect(struct hk_cpu *cpu, hk_gpa page);

#endif
