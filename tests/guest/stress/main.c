/* SPDX-License-Identifier: ISC */
/*
 * All CPUs at once, with timer interrupts all the time: locked accesses, locks whose waiters sleep,
 * code and page tables that change under running CPUs, and the order in which others see what a CPU
 * writes.
 *
 * The orders are tested without a barrier between rounds: a CPU counts up in one variable and then
 * in another, so each pair of values that the reader sees must fit (litmus tests MP, SB and LB).
 * Source: Intel SDM vol. 3, 8.2.3.
 */
#include "guest.h"

enum {
	TIMER_VECTOR = 0x50,
	WAKE_VECTOR = 0x51,
	SERIALIZE_VECTOR = 0x52,
	FLUSH_VECTOR = 0x53,
	PAGE_FAULT = 14,

	PAGE = 4096,
	LINE = 64,
	WORDS = PAGE / 8,
	FRAMES = 4,
	LITMUS_ROUNDS = 50000,
	POISON = 0x6b6b6b6b,

	PTE_PRESENT = 1 << 0,
	PTE_WRITE = 1 << 1,
	PTE_DIRTY = 1 << 6,
};

/* Linear addresses of our own: the second entry of the top table. */
#define WINDOW (UINT64_C(1) << 39)

static unsigned cpus;
static unsigned arrived;
static unsigned ticks[MAX_CPUS];
static uint64_t tick_period;
static unsigned acknowledged;
static unsigned
	phase_done; /* how many CPUs have done their part of a phase that one of them ends */
static bool bad;    /* of the present phase */

static unsigned self(void)
{
	return (unsigned)rdmsr(APIC_ID) % MAX_CPUS;
}

static unsigned load32(const unsigned *at)
{
	return __atomic_load_n(at, __ATOMIC_ACQUIRE);
}

static void fail(void)
{
	__atomic_store_n(&bad, true, __ATOMIC_RELEASE);
}

/* All CPUs meet here. */
static void barrier(void)
{
	unsigned target = (__atomic_fetch_add(&arrived, 1, __ATOMIC_ACQ_REL) / cpus + 1) * cpus;

	while (load32(&arrived) < target) {
		cpu_relax();
	}
}

/* Between two phases; the first CPU says how the last one went. */
static void phase_ends(const char *what)
{
	barrier();
	if (self() == 0) {
		check(!bad, what);
		bad = false;
		phase_done = 0;
	}
	barrier();
}

/* Interrupts */

HANDLER static void on_timer(struct frame *frame)
{
	ticks[self()]++;
	wrmsr(MSR_TSC_DEADLINE, rdtsc() + tick_period);
	guest_eoi(frame);
}

HANDLER static void on_wake(struct frame *frame)
{
	guest_eoi(frame);
}

HANDLER static void on_serialize(struct frame *frame)
{
	cpuid(0, 0);
	__atomic_add_fetch(&acknowledged, 1, __ATOMIC_ACQ_REL);
	guest_eoi(frame);
}

static void invlpg(uint64_t va)
{
	__asm__ volatile("invlpg (%0)" : : "r"(va) : "memory");
}

HANDLER static void on_flush(struct frame *frame)
{
	for (unsigned i = 0; i < FRAMES; i++) {
		invlpg(WINDOW + (uint64_t)i * PAGE);
	}
	__atomic_add_fetch(&acknowledged, 1, __ATOMIC_ACQ_REL);
	guest_eoi(frame);
}

/* To all others; returns when they have done it. */
static void tell_others(unsigned vector)
{
	__atomic_store_n(&acknowledged, 0, __ATOMIC_RELEASE);
	for (unsigned i = 0; i < cpus; i++) {
		if (i != self()) {
			guest_ipi(i, vector);
		}
	}
	while (load32(&acknowledged) < cpus - 1) {
		cpu_relax();
	}
}

/* Locked accesses */

static uint8_t counters[2 * PAGE] __attribute__((aligned(PAGE)));

#define LOCKED_ADD(at) \
	__asm__ volatile("lock addq $1, %0" : "+m"(*(uint64_t *)(at)) : : "cc", "memory")

static uint64_t count_at(unsigned offset)
{
	uint64_t value;

	__builtin_memcpy(&value, counters + offset, sizeof(value));
	return value;
}

static void locked_adds(void)
{
	enum { ALIGNED = 0, MISALIGNED = 67, ACROSS_LINES = 3 * LINE - 3, ACROSS_PAGES = PAGE - 5 };
	enum { ROUNDS = 10000, SLOW_TOTAL = 480 };
	unsigned slow = SLOW_TOTAL / cpus;

	for (unsigned i = 0; i < ROUNDS; i++) {
		LOCKED_ADD(counters + ALIGNED);
	}
	/* The host may have to stop all CPUs for these. */
	for (unsigned i = 0; i < slow; i++) {
		LOCKED_ADD(counters + MISALIGNED);
		LOCKED_ADD(counters + ACROSS_LINES);
		LOCKED_ADD(counters + ACROSS_PAGES);
		LOCKED_ADD(counters + ALIGNED);
	}
	barrier();
	if (count_at(ALIGNED) != (uint64_t)cpus * (ROUNDS + slow) ||
		count_at(MISALIGNED) != (uint64_t)cpus * slow ||
		count_at(ACROSS_LINES) != (uint64_t)cpus * slow ||
		count_at(ACROSS_PAGES) != (uint64_t)cpus * slow) {
		fail();
	}
	phase_ends("no locked addition is lost: aligned, misaligned, across lines and pages");
}

static struct pair {
	uint64_t count, inverse;
} pair __attribute__((aligned(16))) = {0, ~UINT64_C(0)};

static bool swap_pair(struct pair *expected, const struct pair *want)
{
	bool done;

	__asm__ volatile("lock cmpxchg16b %1"
			 : "=@ccz"(done), "+m"(pair), "+a"(expected->count), "+d"(expected->inverse)
			 : "b"(want->count), "c"(want->inverse)
			 : "memory");
	return done;
}

static void pairs(void)
{
	enum { ROUNDS = 4000 };

	for (unsigned i = 0; i < ROUNDS; i++) {
		struct pair seen = {0, 0};
		struct pair want;

		do {
			want = (struct pair){seen.count + 1, ~(seen.count + 1)};
			if (seen.inverse != ~seen.count && (seen.count | seen.inverse) != 0) {
				fail();
			}
		} while (!swap_pair(&seen, &want));
	}
	barrier();
	if (pair.count != (uint64_t)cpus * ROUNDS || pair.inverse != ~pair.count) {
		fail();
	}
	phase_ends("16 bytes are swapped as one");
}

/* A lock whose waiters sleep until they are woken. */

static unsigned lock;
static unsigned waiters; /* bit n: CPU n sleeps or is about to */
static uint64_t guarded;

static bool try_lock(void)
{
	return __atomic_exchange_n(&lock, 1, __ATOMIC_SEQ_CST) == 0;
}

static void take_lock(void)
{
	unsigned bit = 1u << self();

	while (!try_lock()) {
		irq_off();
		__atomic_or_fetch(&waiters, bit, __ATOMIC_SEQ_CST);
		if (load32(&lock) != 0) {
			irq_wait();
		}
		__atomic_and_fetch(&waiters, ~bit, __ATOMIC_SEQ_CST);
		irq_on();
	}
}

static void drop_lock(void)
{
	__atomic_exchange_n(&lock, 0, __ATOMIC_SEQ_CST);

	unsigned asleep = __atomic_load_n(&waiters, __ATOMIC_SEQ_CST);

	if (asleep != 0) {
		guest_ipi((unsigned)__builtin_ctz(asleep), WAKE_VECTOR);
	}
}

static void locks(void)
{
	enum { ROUNDS = 500 };

	for (unsigned i = 0; i < ROUNDS; i++) {
		take_lock();
		guarded++; /* not locked by itself */
		drop_lock();
	}
	barrier();
	if (guarded != (uint64_t)cpus * ROUNDS) {
		fail();
	}
	phase_ends("a lock keeps others out, and wakes who waits");
}

/* Code that another CPU changes; by the rules: an interrupt and a serializing instruction. */

static uint8_t code[PAGE] __attribute__((aligned(PAGE)));
static uint32_t code_value;

/* movl $value, %eax; ret, behind a few more instructions */
static void write_code(uint32_t value)
{
	static const uint8_t head[] = {0x31, 0xc0, 0xff, 0xc0, 0x90, 0xb8};
	enum { RET = 0xc3 };

	for (unsigned i = 0; i < sizeof(head); i++) {
		code[i] = head[i];
	}
	__builtin_memcpy(code + sizeof(head), &value, sizeof(value));
	code[sizeof(head) + sizeof(value)] = RET;
}

static uint32_t call_code(void)
{
	uint32_t value;

	__asm__ volatile("call *%1" : "=a"(value) : "r"(code) : "cc", "memory");
	return value;
}

static void changing_code(void)
{
	enum { ROUNDS = 100 };

	if (self() == 0) {
		write_code(0);
	}
	barrier();
	for (uint32_t i = 1; i <= ROUNDS; i++) {
		(void)call_code(); /* so that it is decoded everywhere */
		barrier();
		if (self() == 0) {
			write_code(i);
			tell_others(SERIALIZE_VECTOR);
			__atomic_store_n(&code_value, i, __ATOMIC_RELEASE);
		}
		while (__atomic_load_n(&code_value, __ATOMIC_ACQUIRE) != i) {
			cpu_relax();
		}
		if (call_code() != i) {
			fail();
		}
		barrier();
	}
	phase_ends("after an interrupt and CPUID all CPUs run the new code");
}

/* Page tables */

static uint64_t window_pdpt[WORDS] __attribute__((aligned(PAGE)));
static uint64_t window_pd[WORDS] __attribute__((aligned(PAGE)));
static uint64_t window_pt[WORDS] __attribute__((aligned(PAGE)));
static uint64_t frames[FRAMES][WORDS] __attribute__((aligned(PAGE)));

/* So that pages are protected from us, too. */
static void write_protect_on(void)
{
	const uint64_t wp = 1 << 16;
	uint64_t cr0;

	__asm__ volatile("mov %%cr0, %0" : "=r"(cr0));
	__asm__ volatile("mov %0, %%cr0" : : "r"(cr0 | wp) : "memory");
}

static void map(unsigned page, const void *frame, uint64_t bits)
{
	__atomic_store_n(&window_pt[page], (uint64_t)frame | bits, __ATOMIC_SEQ_CST);
}

static void window_init(void)
{
	uint64_t cr3;

	__asm__ volatile("mov %%cr3, %0" : "=r"(cr3));

	uint64_t *top = (uint64_t *)(cr3 & ~(uint64_t)(PAGE - 1));

	window_pd[0] = (uint64_t)window_pt | PTE_PRESENT | PTE_WRITE;
	window_pdpt[0] = (uint64_t)window_pd | PTE_PRESENT | PTE_WRITE;
	top[WINDOW >> 39] = (uint64_t)window_pdpt | PTE_PRESENT | PTE_WRITE;
}

/* A page fault: wait until whoever took the page away gives it back, then try again. */
HANDLER static void on_page_fault(struct frame *frame, uint64_t error)
{
	const uint64_t wanted = PTE_PRESENT | PTE_WRITE;
	uint64_t va;

	(void)frame;
	(void)error;
	__asm__ volatile("mov %%cr2, %0" : "=r"(va));
	if (va - WINDOW >= (uint64_t)FRAMES * PAGE) {
		say("not ok page fault at 0x%x\n", va);
		guest_power_off();
	}

	const uint64_t *entry = &window_pt[(va - WINDOW) / PAGE];

	/* Others may want a flush of this CPU meanwhile. */
	irq_on();
	while ((__atomic_load_n(entry, __ATOMIC_ACQUIRE) & wanted) != wanted) {
		cpu_relax();
	}
	irq_off();
}

/*
 * The first CPU moves a page to and fro; when the others have flushed, nobody may read or write
 * where it was.
 */
static void remapping(void)
{
	enum { TOTAL = 400, WRITES = PTE_PRESENT | PTE_WRITE };
	volatile uint64_t *page = (volatile uint64_t *)WINDOW;
	unsigned id = self();

	if (id == 0) {
		map(0, frames[0], WRITES);
	}
	barrier();
	if (id != 0) {
		while (load32(&phase_done) == 0) {
			if ((uint32_t)page[WORDS - 1] == POISON) {
				fail();
			}
			page[id] = id;
			cpu_relax();
		}
	} else {
		for (unsigned i = 1; i <= TOTAL / cpus; i++) {
			uint64_t *old = frames[(i - 1) % 2];

			frames[i % 2][WORDS - 1] = i;
			map(0, frames[i % 2], WRITES);
			invlpg(WINDOW);
			tell_others(FLUSH_VECTOR);
			for (unsigned k = 0; k < WORDS; k++) {
				old[k] = POISON;
			}
			tell_others(SERIALIZE_VECTOR); /* time for those who are late */
			for (unsigned k = 0; k < WORDS; k++) {
				if (old[k] != POISON) {
					fail();
				}
			}
			if (page[WORDS - 1] != i) {
				fail();
			}
		}
		__atomic_store_n(&phase_done, 1, __ATOMIC_RELEASE);
	}
	phase_ends("after a flush nobody uses the old page");
}

static uint64_t sum_of(const volatile uint64_t *values)
{
	uint64_t sum = 0;

	for (unsigned i = 0; i < cpus; i++) {
		sum += values[i];
	}
	return sum;
}

/*
 * A page of code and counters that cannot be written now and then: each increment happens once, be
 * it in one step or interrupted by a page fault.
 */
static void protecting(void)
{
	enum { ROUNDS = 60, EACH = 10000, RET = 0xc3, READS = PTE_PRESENT };
	unsigned id = self();
	uint8_t *page = (uint8_t *)(WINDOW + PAGE);
	volatile uint64_t *done = (volatile uint64_t *)(page + PAGE / 2);
	volatile uint64_t *counter = &done[id];

	if (id == 0) {
		*(uint8_t *)frames[2] = RET;
		map(1, frames[2], PTE_PRESENT | PTE_WRITE);
	}
	barrier();
	if (id == 0) {
		for (unsigned i = 0; i < ROUNDS || load32(&phase_done) < cpus - 1; i++) {
			map(1, frames[2], READS);
			invlpg(WINDOW + PAGE);
			tell_others(FLUSH_VECTOR);
			map(1, frames[2], PTE_PRESENT | PTE_WRITE);
			invlpg(WINDOW + PAGE);

			/* Somebody gets on each time, however few of us the host lets run. */
			uint64_t before = sum_of(done);

			for (unsigned k = 0; k < 20 ||
				(sum_of(done) == before && load32(&phase_done) < cpus - 1);
				k++) {
				cpu_relax();
			}
		}
	} else {
		for (unsigned i = 0; i < EACH; i++) {
			__asm__ volatile("call *%0" : : "r"(page) : "cc", "memory");
			__asm__ volatile("addq $1, %0" : "+m"(*counter) : : "cc", "memory");
			__asm__ volatile("lock addq $1, %0" : "+m"(*counter) : : "cc", "memory");
		}
		__atomic_add_fetch(&phase_done, 1, __ATOMIC_ACQ_REL);
	}
	barrier();
	if (id != 0 && *counter != 2 * EACH) {
		fail();
	}
	phase_ends("increments of a page that is protected now and then happen once");
}

/* The order of memory accesses. CPUs play in pairs; the last one may be without. */

struct game {
	uint64_t x __attribute__((aligned(LINE)));
	uint64_t y __attribute__((aligned(LINE)));
	unsigned met __attribute__((aligned(LINE)));
	uint32_t seen[2][LITMUS_ROUNDS + 2];
};

static struct game games[MAX_CPUS / 2];

static void meet(struct game *game, unsigned *round)
{
	__atomic_add_fetch(&game->met, 1, __ATOMIC_ACQ_REL);
	*round += 2;
	while (load32(&game->met) < *round) {
		cpu_relax();
	}
}

static uint64_t plain_load(const uint64_t *at)
{
	return *(const volatile uint64_t *)at;
}

static void plain_store(uint64_t *at, uint64_t value)
{
	*(volatile uint64_t *)at = value;
}

static void full_fence(void)
{
	__asm__ volatile("mfence" : : : "memory");
}

static void locked_fence(void)
{
	__asm__ volatile("lock orl $0, (%%rsp)" : : : "cc", "memory");
}

/* MP: who sees the second store sees the first. */
static void message_passing(struct game *game, unsigned side)
{
	for (uint32_t i = 1; i <= LITMUS_ROUNDS; i++) {
		if (side == 0) {
			plain_store(&game->x, i);
			plain_store(&game->y, i);
		} else {
			uint64_t second = plain_load(&game->y);
			uint64_t first = plain_load(&game->x);

			if (first < second) {
				fail();
			}
		}
	}
}

/* SB: with a fence between, one of the two sees the other's store. */
static void store_buffering(struct game *game, unsigned side, void (*fence)(void))
{
	uint64_t *mine = side == 0 ? &game->x : &game->y;
	const uint64_t *other = side == 0 ? &game->y : &game->x;

	for (uint32_t i = 1; i <= LITMUS_ROUNDS; i++) {
		plain_store(mine, i);
		fence();
		game->seen[side][i] = (uint32_t)plain_load(other);
	}
}

/* Round i of one and j of the other that missed each other: j is the first that i did not see. */
static void check_store_buffering(const struct game *game)
{
	for (uint32_t i = 1; i <= LITMUS_ROUNDS; i++) {
		uint32_t j = game->seen[0][i] + 1;

		if (j <= LITMUS_ROUNDS && game->seen[1][j] < i) {
			fail();
		}
	}
}

/* LB: two loads cannot both see the store that stands behind the other. */
static void load_buffering(struct game *game, unsigned side)
{
	uint64_t *mine = side == 0 ? &game->x : &game->y;
	const uint64_t *other = side == 0 ? &game->y : &game->x;

	for (uint32_t i = 1; i <= LITMUS_ROUNDS; i++) {
		game->seen[side][i] = (uint32_t)plain_load(other);
		plain_store(mine, i);
	}
}

static void check_load_buffering(const struct game *game)
{
	for (uint32_t i = 1; i <= LITMUS_ROUNDS; i++) {
		uint32_t j = game->seen[0][i];

		if (j > 0 && game->seen[1][j] >= i) {
			fail();
		}
	}
}

static void memory_order(void)
{
	unsigned id = self();
	struct game *game = &games[id / 2];
	unsigned side = id % 2;
	unsigned round = 0;
	bool plays = (id | 1) < cpus;

	for (unsigned kind = 0; plays && kind < 4; kind++) {
		meet(game, &round);
		if (side == 0) {
			plain_store(&game->x, 0);
			plain_store(&game->y, 0);
		}
		meet(game, &round);
		switch (kind) {
		case 0:
			message_passing(game, side);
			break;
		case 1:
			store_buffering(game, side, full_fence);
			break;
		case 2:
			store_buffering(game, side, locked_fence);
			break;
		default:
			load_buffering(game, side);
			break;
		}
		meet(game, &round);
		if (side == 0 && (kind == 1 || kind == 2)) {
			check_store_buffering(game);
		} else if (side == 0 && kind == 3) {
			check_load_buffering(game);
		}
	}
	phase_ends("loads and stores keep the order they must");
}

/* All of it */

static void work(void)
{
	write_protect_on();
	wrmsr(APIC_TIMER, APIC_TIMER_DEADLINE_MODE | TIMER_VECTOR);
	wrmsr(MSR_TSC_DEADLINE, rdtsc() + tick_period);
	irq_on();
	barrier();
	locked_adds();
	pairs();
	locks();
	changing_code();
	remapping();
	protecting();
	memory_order();
	while (__atomic_load_n(&ticks[self()], __ATOMIC_ACQUIRE) < 2) {
		cpu_relax();
	}
	phase_ends("timers of all CPUs went on");
	irq_off();
}

void guest_ap_main(unsigned index)
{
	(void)index;
	guest_idt_load();
	work();
	for (;;) {
		__asm__ volatile("hlt");
	}
}

void guest_main(void)
{
	cpus = (unsigned)guest_option("cpus");
	tick_period =
		(uint64_t)cpuid(0x40000010, 0).eax * cpus; /* of each CPU: one a millisecond */
	guest_idt_set(TIMER_VECTOR, on_timer);
	guest_idt_set(WAKE_VECTOR, on_wake);
	guest_idt_set(SERIALIZE_VECTOR, on_serialize);
	guest_idt_set(FLUSH_VECTOR, on_flush);
	guest_idt_set(PAGE_FAULT, on_page_fault);
	guest_idt_load();
	guest_x2apic_on();
	window_init();
	guest_cpus_start(cpus - 1);
	work();
}
