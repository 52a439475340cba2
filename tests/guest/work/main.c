/* SPDX-License-Identifier: ISC */
/*
 * Work whose result depends on nothing but every step being done once: integers, SSE and x87 in
 * registers, timer interrupts that each CPU sleeps for, all CPUs at once. A machine that is paused,
 * saved, and restored elsewhere in the midst of it must say the same as one left alone.
 * "rounds=N" on the command line says how much.
 */
#include "guest.h"

enum { VECTOR = 0x44, STEPS = 2000, SLEEP_EVERY = 4, MSR_KVM_SYSTEM_TIME = 0x4b564d01 };

struct result {
	uint64_t integer;
	uint64_t sse; /* bits of a double */
	uint64_t x87;
	uint64_t ticks;
	uint64_t rounds;
	bool clock_went_back;
};

struct clock_page {
	volatile uint32_t version;
	uint32_t pad0;
	volatile uint64_t tsc_timestamp;
	volatile uint64_t system_time;
	volatile uint32_t tsc_to_system_mul;
	volatile int8_t tsc_shift;
	uint8_t pad[3];
} __attribute__((aligned(64)));

static struct result results[MAX_CPUS];
static struct clock_page clocks[MAX_CPUS];
static unsigned done;

static unsigned apic_id(void)
{
	return (unsigned)rdmsr(APIC_ID) % MAX_CPUS;
}

HANDLER static void on_timer(struct frame *frame)
{
	__atomic_add_fetch(&results[apic_id()].ticks, 1, __ATOMIC_RELEASE);
	guest_eoi(frame);
}

static uint64_t clock_ns(struct clock_page *clock)
{
	uint32_t version;
	uint64_t ns;

	do {
		version = clock->version & ~1u;
		__asm__ volatile("lfence" : : : "memory");

		uint64_t delta = rdtsc() - clock->tsc_timestamp;

		delta = clock->tsc_shift >= 0 ? delta << clock->tsc_shift
					      : delta >> -clock->tsc_shift;
		ns = clock->system_time +
			(uint64_t)((unsigned __int128)delta * clock->tsc_to_system_mul >> 32);
		__asm__ volatile("lfence" : : : "memory");
	} while (clock->version != version);
	return ns;
}

static void arm(uint64_t ticks_per_ms)
{
	wrmsr(MSR_TSC_DEADLINE, rdtsc() + ticks_per_ms);
}

static void wait_for_tick(struct result *r, uint64_t before)
{
	irq_off();
	while (__atomic_load_n(&r->ticks, __ATOMIC_ACQUIRE) == before) {
		irq_wait();
	}
	irq_on();
}

/*
 * One round: the state of three units goes through STEPS steps in registers. @seed differs from
 * round to round.
 */
static void compute(struct result *r, uint64_t seed)
{
	uint64_t x = r->integer ^ seed;
	uint64_t steps = STEPS;
	static const double factor_bits[] = {1.0000001, 0.9999};

	__asm__ volatile(
		"movq %[sse], %%xmm9; movsd (%[factors]), %%xmm10; movsd 8(%[factors]), %%xmm11;"
		"fldl %[x87]; fldl (%[factors]);"
		"1:"
		"imulq %[multiplier], %[x]; addq $12345, %[x]; rolq $7, %[x];"
		"mulsd %%xmm10, %%xmm9; addsd %%xmm11, %%xmm9;"
		"fmul %%st(0), %%st(1); fxch %%st(1); fld1; faddp %%st(0), %%st(1); fxch %%st(1);"
		"decq %[steps]; jnz 1b;"
		"fstp %%st(0); fstpl %[x87]; movq %%xmm9, %[sse]"
		: [x] "+r"(x), [steps] "+r"(steps), [sse] "+r"(r->sse), [x87] "+m"(r->x87)
		: [multiplier] "r"(UINT64_C(6364136223846793005)), [factors] "r"(factor_bits)
		: "cc", "memory");
	r->integer = x;
}

static void work(void)
{
	unsigned id = apic_id();
	struct result *r = &results[id];
	uint64_t rounds = guest_option("rounds");
	uint64_t ticks_per_ms = cpuid(0x40000010, 0).eax;
	uint64_t last = 0;

	r->sse = 0x3ff0000000000000;
	r->x87 = 0x3ff0000000000000;
	r->integer = id + 1;
	wrmsr(MSR_KVM_SYSTEM_TIME, (uint64_t)&clocks[id] | 1);
	wrmsr(APIC_TIMER, APIC_TIMER_DEADLINE_MODE | VECTOR);
	irq_on();
	for (uint64_t i = 0; i < rounds; i++) {
		uint64_t ticks = r->ticks;
		bool tick = i % SLEEP_EVERY == 0;

		if (tick) {
			arm(ticks_per_ms);
		}
		compute(r, i); /* the interrupt may come in the midst of it */
		if (tick) {
			wait_for_tick(r, ticks);
		}

		uint64_t now = clock_ns(&clocks[id]);

		r->clock_went_back |= now < last;
		last = now;
		r->rounds++;
		if (id == 0 && i % 16 == 15) {
			say("round %u\n", i + 1);
		}
	}
	irq_off();
	__atomic_add_fetch(&done, 1, __ATOMIC_RELEASE);
}

void guest_ap_main(unsigned index)
{
	guest_idt_load();
	work();
}

void guest_main(void)
{
	unsigned cpus = (unsigned)guest_option("cpus");

	guest_idt_set(VECTOR, on_timer);
	guest_idt_load();
	guest_x2apic_on();
	guest_cpus_start(cpus - 1);
	work();
	while (__atomic_load_n(&done, __ATOMIC_ACQUIRE) < cpus) {
		cpu_relax();
	}
	for (unsigned i = 0; i < cpus; i++) {
		struct result *r = &results[i];

		say("cpu %u: %u rounds, %u ticks, %x %x %x, clock %s\n", (uint64_t)i, r->rounds,
			r->ticks, r->integer, r->sse, r->x87,
			r->clock_went_back ? "WENT BACK" : "ok");
	}
}
