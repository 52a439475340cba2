/* SPDX-License-Identifier: ISC */
/*
 * Code that changes while it runs: by its own CPU, by another one in the same page and in the same
 * instruction; and locked additions that cross a page.
 */
#include "guest.h"

enum { ROUNDS = 2000, PAGE = 4096, LINE = 64, FUNCTION_BYTES = 6, ADD_EVERY = 8 };

/* Page 0: a function of each CPU. Page 1: one that the first CPU changes and all call. */
static uint8_t code[2 * PAGE] __attribute__((aligned(PAGE)));
static uint8_t *const shared = code + PAGE + 3; /* so that its immediate operand is aligned */
static uint8_t counter[2 * PAGE] __attribute__((aligned(PAGE)));
static uint8_t *const split = counter + PAGE - 3;

static unsigned arrived;
static unsigned done;
static bool stale;
static bool back;

/* mov $value, %eax; ret */
static void write_function(uint8_t *at, uint32_t value)
{
	at[0] = 0xb8;
	__builtin_memcpy(at + 1, &value, sizeof(value));
	at[FUNCTION_BYTES - 1] = 0xc3;
}

static uint32_t call(const uint8_t *function)
{
	uint32_t value;

	__asm__ volatile("call *%1" : "=a"(value) : "r"(function) : "cc", "memory");
	return value;
}

static void work(unsigned cpus)
{
	unsigned id = (unsigned)rdmsr(APIC_ID) % MAX_CPUS;
	uint8_t *own = code + (size_t)LINE * id;
	uint32_t last = 0;

	__atomic_add_fetch(&arrived, 1, __ATOMIC_ACQ_REL);
	while (__atomic_load_n(&arrived, __ATOMIC_ACQUIRE) < cpus) {
		cpu_relax();
	}
	for (uint32_t i = 1; i <= ROUNDS; i++) {
		write_function(own, i * MAX_CPUS + id);
		if (call(own) != i * MAX_CPUS + id) {
			__atomic_store_n(&stale, true, __ATOMIC_RELAXED);
		}
		if (id == 0) {
			__atomic_store_n((uint32_t *)(shared + 1), i, __ATOMIC_RELEASE);
		}

		uint32_t value = call(shared);

		if (value < last) {
			__atomic_store_n(&back, true, __ATOMIC_RELAXED);
		}
		last = value;
		if (i % ADD_EVERY == 0) {
			__asm__ volatile("lock addq $1, %0" : "+m"(*(uint64_t *)split) : : "cc");
		}
	}
	while (call(shared) != ROUNDS) {
		cpu_relax();
	}
	__atomic_add_fetch(&done, 1, __ATOMIC_ACQ_REL);
}

void guest_ap_main(unsigned index)
{
	guest_idt_load();
	work((unsigned)guest_option("cpus"));
	for (;;) {
		irq_wait();
	}
}

void guest_main(void)
{
	unsigned cpus = (unsigned)guest_option("cpus");
	uint64_t sum;

	guest_idt_load();
	guest_x2apic_on();
	write_function(shared, 0);
	guest_cpus_start(cpus - 1);
	work(cpus);
	while (__atomic_load_n(&done, __ATOMIC_ACQUIRE) < cpus) {
		cpu_relax();
	}
	__builtin_memcpy(&sum, split, sizeof(sum));
	check(!stale, "a CPU runs what it wrote");
	check(!back, "what another wrote does not go away again");
	check(true, "and arrives in the end");
	check(sum == (uint64_t)cpus * (ROUNDS / ADD_EVERY), "no addition across pages was lost");
}
