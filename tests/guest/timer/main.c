/* SPDX-License-Identifier: ISC */
/* Time: deadlines of the local APIC's timer, the paravirtual clock, the wall clock. */
#include "guest.h"

enum {
	VECTOR = 0x41,
	ROUNDS = 50,
	MSR_KVM_WALL_CLOCK = 0x4b564d00,
	MSR_KVM_SYSTEM_TIME = 0x4b564d01,
};

/* Source: Linux Documentation/virt/kvm/x86/msr.rst. */
struct clock_page {
	volatile uint32_t version;
	uint32_t pad0;
	volatile uint64_t tsc_timestamp;
	volatile uint64_t system_time;
	volatile uint32_t tsc_to_system_mul;
	volatile int8_t tsc_shift;
	volatile uint8_t flags;
	uint8_t pad[2];
};

struct wall_page {
	volatile uint32_t version, sec, nsec;
};

static struct clock_page clock __attribute__((aligned(64)));
static struct wall_page wall __attribute__((aligned(64)));
static unsigned fired;
static uint64_t fired_at;

HANDLER static void on_timer(struct frame *frame)
{
	fired_at = rdtsc();
	__atomic_add_fetch(&fired, 1, __ATOMIC_RELEASE);
	guest_eoi(frame);
}

static uint64_t clock_ns(void)
{
	uint32_t version;
	uint64_t ns;

	do {
		version = clock.version & ~1u;
		__asm__ volatile("lfence" : : : "memory");

		uint64_t delta = rdtsc() - clock.tsc_timestamp;

		delta = clock.tsc_shift >= 0 ? delta << clock.tsc_shift : delta >> -clock.tsc_shift;
		ns = clock.system_time +
			(uint64_t)((unsigned __int128)delta * clock.tsc_to_system_mul >> 32);
		__asm__ volatile("lfence" : : : "memory");
	} while (clock.version != version);
	return ns;
}

static void check_deadlines(uint64_t ticks_per_ms)
{
	bool early = false;
	bool cleared = true;

	wrmsr(APIC_TIMER, APIC_TIMER_DEADLINE_MODE | VECTOR);
	for (unsigned i = 0; i < ROUNDS; i++) {
		uint64_t deadline = rdtsc() + ticks_per_ms / 4;

		wrmsr(MSR_TSC_DEADLINE, deadline);
		while (__atomic_load_n(&fired, __ATOMIC_ACQUIRE) == i) {
			irq_wait();
		}
		early |= fired_at < deadline;
		cleared &= rdmsr(MSR_TSC_DEADLINE) == 0;
	}
	check(fired == ROUNDS, "each deadline gives one interrupt");
	check(!early, "none is early");
	check(cleared, "the deadline is disarmed then");

	wrmsr(MSR_TSC_DEADLINE, 1);
	while (__atomic_load_n(&fired, __ATOMIC_ACQUIRE) == ROUNDS) {
		irq_wait();
	}
	check(true, "a deadline in the past fires at once");
}

static void check_clock(uint64_t khz)
{
	uint64_t last = 0;
	bool back = false;

	wrmsr(MSR_KVM_SYSTEM_TIME, (uint64_t)&clock | 1);
	for (unsigned i = 0; i < 20000; i++) {
		uint64_t now = clock_ns();

		back |= now < last;
		last = now;
	}
	check(!back, "kvmclock never goes back");

	uint64_t tsc = rdtsc();

	last = clock_ns();
	while (clock_ns() - last < 2000000) {
		cpu_relax();
	}
	tsc = rdtsc() - tsc;
	/* 2 ms; the host may take the CPU away meanwhile, which both clocks see. */
	check(tsc >= khz * 2 * 9 / 10, "and goes as fast as the TSC");
}

static void check_wall_clock(void)
{
	wrmsr(MSR_KVM_WALL_CLOCK, (uint64_t)&wall);

	uint64_t now = wall.sec + clock_ns() / 1000000000;
	uint64_t expected = guest_option("now");

	check(wall.version % 2 == 0 && now + 60 >= expected && now <= expected + 600,
		"wall clock plus kvmclock is the time of day");
}

void guest_main(void)
{
	uint64_t khz = cpuid(0x40000010, 0).eax;

	guest_idt_set(VECTOR, on_timer);
	guest_idt_load();
	guest_x2apic_on();
	check(khz > 100000, "the TSC's rate is known");
	check_deadlines(khz);
	check_clock(khz);
	check_wall_clock();
}
