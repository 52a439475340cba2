/* SPDX-License-Identifier: ISC */
/* INIT and SIPI bring all CPUs of the MADT; they count together and answer interrupts. */
#include "guest.h"

enum { ROUNDS = 1000, IPI_VECTOR = 0x40 };

static uint64_t counter;
static unsigned seen[MAX_CPUS]; /* how often each APIC id came */
static unsigned answered[MAX_CPUS];
static unsigned done;
static bool halt;

static unsigned apic_id(void)
{
	return (unsigned)rdmsr(APIC_ID);
}

HANDLER static void on_ipi(struct frame *frame)
{
	__atomic_add_fetch(&answered[apic_id() % MAX_CPUS], 1, __ATOMIC_ACQ_REL);
	guest_eoi(frame);
}

static void work(void)
{
	unsigned id = apic_id();

	if (id < MAX_CPUS && id == cpuid(1, 0).ebx >> 24 && id == cpuid(0xb, 0).edx) {
		__atomic_add_fetch(&seen[id], 1, __ATOMIC_ACQ_REL);
	}
	for (unsigned i = 0; i < ROUNDS; i++) {
		__atomic_add_fetch(&counter, 1, __ATOMIC_ACQ_REL);
	}
	__atomic_add_fetch(&done, 1, __ATOMIC_ACQ_REL);
}

void guest_ap_main(unsigned index)
{
	guest_idt_load();
	work();
	while (!__atomic_load_n(&halt, __ATOMIC_ACQUIRE)) {
		irq_wait(); /* halted: only an interrupt wakes it */
	}
}

static bool all(const unsigned *counts, unsigned cpus)
{
	for (unsigned i = 0; i < MAX_CPUS; i++) {
		if (__atomic_load_n(&counts[i], __ATOMIC_ACQUIRE) != (i < cpus ? 1 : 0)) {
			return false;
		}
	}
	return true;
}

void guest_main(void)
{
	unsigned cpus = (unsigned)guest_option("cpus");

	check(guest_cpu_count() == cpus, "as many CPUs as asked for");
	guest_idt_set(IPI_VECTOR, on_ipi);
	guest_idt_load();
	guest_x2apic_on();
	check(apic_id() == 0, "the first CPU is number 0");

	guest_cpus_start(cpus - 1);
	work();
	while (__atomic_load_n(&done, __ATOMIC_ACQUIRE) < cpus) {
		cpu_relax();
	}
	check(all(seen, cpus), "each APIC id came once");
	check(counter == (uint64_t)cpus * ROUNDS, "no increment was lost");

	irq_on();
	for (unsigned i = 0; i < cpus; i++) {
		guest_ipi(i, IPI_VECTOR);
	}
	while (!all(answered, cpus)) {
		cpu_relax();
	}
	irq_off();
	check(true, "each CPU answered one interrupt");
}
