/* SPDX-License-Identifier: ISC */
/*
 * What tiny guests share: output, interrupts, APICs, other CPUs, the hand-over structures.
 *
 * A guest is guest_main() in DIRECTORY/main.c. It says what it finds on the serial port and
 * returns, which switches the machine off. Its output must be the same on every engine and host;
 * what cannot be (a time, a frequency) it checks itself and says "ok" about.
 */
#ifndef HK_TESTS_GUEST_H
#define HK_TESTS_GUEST_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
	SERIAL_PORT = 0x3f8,
	SERIAL_GSI = 4,
	POWER_PORT = 0x600,
	RESET_PORT = 0x602,
	ECHO_GSI = 6, /* of the first slot, where run_guest has its echo device */
	MAX_CPUS = 16,
};
#define IOAPIC     UINT64_C(0xfec00000)
#define ECHO       UINT64_C(0xd0000000)
#define QUEUE_KICK 0x50 /* QueueNotify of virtio-mmio */

/* A guest's own part. */
void guest_main(void);
/* On each other CPU, number @index of those that came; needed by guests that start them. */
void guest_ap_main(unsigned index);

/* --- start.c -------------------------------------------------------------- */

extern uint32_t guest_is_pvh;
extern const uint8_t *guest_info; /* the zero page, or the PVH start info */

const char *guest_cmdline(void);
/** guest_option() - value of "NAME=number" on the command line; 0 where it is not there */
uint64_t guest_option(const char *name);
uint64_t guest_rsdp(void);

struct map_entry {
	uint64_t gpa;
	uint64_t len;
	uint32_t type; /* 1: RAM */
};
/** guest_map() - entry @index of the memory map. Return: false behind the last one */
bool guest_map(unsigned index, struct map_entry *entry);

/** guest_acpi_find() - a table that the XSDT names, checksums checked; NULL where there is none */
const uint8_t *guest_acpi_find(const char *signature);
bool guest_checksum_ok(const uint8_t *bytes, size_t len);
/** guest_cpu_count() - enabled local APICs in the MADT */
unsigned guest_cpu_count(void);

__attribute__((noreturn)) void guest_power_off(void);

/* --- say.c ---------------------------------------------------------------- */

/** say() - %s, %u and %x (both 64 bits wide; a width pads with zeros), %c */
void say(const char *fmt, ...);
/** check() - "ok WHAT" or "not ok WHAT" */
void check(bool good, const char *what);

/* --- irq.c ---------------------------------------------------------------- */

/*
 * What the CPU pushes and IRET takes back; volatile, or clang drops what a handler writes there at
 * its end.
 */
struct frame {
	volatile uint64_t rip, cs, rflags, rsp, ss;
};
/* Compilers' interrupt handlers, which save what they use. */
#define HANDLER __attribute__((interrupt, target("general-regs-only")))

void guest_idt_set(unsigned vector, const void *handler);
void guest_idt_load(void);
/** guest_x2apic_on() - switch this CPU's local APIC on, in x2APIC mode */
void guest_x2apic_on(void);
/**
 * guest_eoi() - the end of each interrupt handler
 *
 * Where the interrupt came between the STI and the HLT of irq_wait(), the HLT is skipped: it would
 * sleep through what it waits for. A CPU never lets that happen, but the SVM that QEMU 7.2
 * emulates forgets the shadow of STI when a VM is entered again.
 */
void guest_eoi(struct frame *frame);
/** guest_ioapic_route() - edge-triggered pin @gsi to @vector of CPU 0 */
void guest_ioapic_route(unsigned gsi, unsigned vector, bool masked);
/** guest_cpus_start() - INIT and SIPI to all others; waits until @count of them run */
void guest_cpus_start(unsigned count);
void guest_ipi(unsigned apic_id, unsigned vector);

enum {
	APIC_ID = 0x802,
	APIC_EOI = 0x80b,
	APIC_SPURIOUS = 0x80f,
	APIC_ICR = 0x830,
	APIC_TIMER = 0x832,
	APIC_TIMER_DEADLINE_MODE = 2 << 17,
	MSR_APIC_BASE = 0x1b,
	MSR_TSC_DEADLINE = 0x6e0,
};

/* --- instructions ------------------------------------------------------------ */

static inline void outb(uint16_t port, uint8_t value)
{
	__asm__ volatile("outb %0, %1" : : "a"(value), "Nd"(port) : "memory");
}

static inline uint8_t inb(uint16_t port)
{
	uint8_t value;

	__asm__ volatile("inb %1, %0" : "=a"(value) : "Nd"(port) : "memory");
	return value;
}

static inline uint32_t mmio_read(uint64_t address)
{
	uint32_t value;

	__asm__ volatile("movl (%1), %0" : "=r"(value) : "r"(address) : "memory");
	return value;
}

static inline void mmio_write(uint64_t address, uint32_t value)
{
	__asm__ volatile("movl %0, (%1)" : : "r"(value), "r"(address) : "memory");
}

static inline uint64_t rdmsr(uint32_t index)
{
	uint32_t low, high;

	__asm__ volatile("rdmsr" : "=a"(low), "=d"(high) : "c"(index) : "memory");
	return (uint64_t)high << 32 | low;
}

static inline void wrmsr(uint32_t index, uint64_t value)
{
	__asm__ volatile("wrmsr"
			 :
			 : "c"(index), "a"((uint32_t)value), "d"((uint32_t)(value >> 32))
			 : "memory");
}

static inline uint64_t rdtsc(void)
{
	uint32_t low, high;

	__asm__ volatile("lfence; rdtsc" : "=a"(low), "=d"(high) : : "memory");
	return (uint64_t)high << 32 | low;
}

struct cpuid {
	uint32_t eax, ebx, ecx, edx;
};

static inline struct cpuid cpuid(uint32_t function, uint32_t index)
{
	struct cpuid c;

	__asm__ volatile("cpuid"
			 : "=a"(c.eax), "=b"(c.ebx), "=c"(c.ecx), "=d"(c.edx)
			 : "a"(function), "c"(index));
	return c;
}

static inline void cpu_relax(void)
{
	__asm__ volatile("pause" : : : "memory");
}

static inline void irq_on(void)
{
	__asm__ volatile("sti" : : : "memory");
}

static inline void irq_off(void)
{
	__asm__ volatile("cli" : : : "memory");
}

/* Sleep until an interrupt, which is then taken before the next instruction; leaves them off. */
static inline void irq_wait(void)
{
	__asm__ volatile("sti; hlt; cli" : : : "memory");
}

#endif
