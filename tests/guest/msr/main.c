/* SPDX-License-Identifier: ISC */
/*
 * Model-specific registers: those that the model fixes, the power-on values of the others, that
 * they keep what is written, and that unknown ones fault.
 */
#include "guest.h"

static volatile bool faulted;
static uint64_t resume_at;

HANDLER static void on_protection(struct frame *frame, uint64_t code)
{
	faulted = true;
	frame->rip = resume_at;
}

static uint64_t try_read(uint32_t index)
{
	uint32_t low = 0, high = 0;

	faulted = false;
	__asm__ volatile("leaq 1f(%%rip), %%r15; movq %%r15, %2; rdmsr; 1:"
			 : "+a"(low), "+d"(high), "+m"(resume_at)
			 : "c"(index)
			 : "r15", "memory");
	return (uint64_t)high << 32 | low;
}

static void try_write(uint32_t index, uint64_t value)
{
	faulted = false;
	__asm__ volatile("leaq 1f(%%rip), %%r15; movq %%r15, %0; wrmsr; 1:"
			 : "+m"(resume_at)
			 : "c"(index), "a"((uint32_t)value), "d"((uint32_t)(value >> 32))
			 : "r15", "memory");
}

static void show(const char *name, uint32_t index)
{
	uint64_t value = try_read(index);

	if (faulted) {
		say("%s: refused\n", name);
	} else {
		say("%s: %x\n", name, value);
	}
}

/* Writes @value, reads it back, and puts the old one back. */
static void keeps(const char *name, uint32_t index, uint64_t value)
{
	uint64_t old = try_read(index);

	try_write(index, value);

	bool good = !faulted && try_read(index) == value;

	try_write(index, old);
	check(good && !faulted, name);
}

void guest_main(void)
{
	guest_idt_set(13, on_protection);
	guest_idt_load();

	show("microcode revision", 0x8b);
	show("platform info", 0xce);
	show("MTRR capabilities", 0xfe);
	show("architectural capabilities", 0x10a);
	show("machine check capabilities", 0x179);
	show("miscellaneous enables", 0x1a0);
	show("PAT", 0x277);
	show("MTRR default type", 0x2ff);
	show("APIC base", 0x1b);
	show("EFER", 0xc0000080);
	show("deadline", 0x6e0);

	keeps("SYSENTER_CS", 0x174, 0x10);
	keeps("SYSENTER_ESP", 0x175, 0xffff800012345678);
	keeps("SYSENTER_EIP", 0x176, 0xffff800087654321);
	keeps("STAR", 0xc0000081, 0x0023001000000000);
	keeps("LSTAR", 0xc0000082, 0xffff8000aaaabbbb);
	keeps("CSTAR", 0xc0000083, 0xffff8000ccccdddd);
	keeps("SYSCALL_MASK", 0xc0000084, 0x47700);
	keeps("FS_BASE", 0xc0000100, 0x00007fff12345000);
	keeps("GS_BASE", 0xc0000101, 0xffff888000000000);
	keeps("KERNEL_GS_BASE", 0xc0000102, 0xffff888011110000);
	keeps("TSC_AUX", 0xc0000103, 0x3007);
	keeps("PAT", 0x277, 0x0407050600070106);
	keeps("variable MTRR", 0x200, 0x80000006);
	keeps("fixed MTRR", 0x250, 0x0606060606060606);
	keeps("machine check bank 0", 0x400, 0);

	uint64_t tsc = rdmsr(0x10);

	check(rdtsc() >= tsc, "TSC can be read as an MSR");
	try_read(0x12345678);
	check(faulted, "an unknown MSR cannot be read");
	try_write(0x12345678, 0);
	check(faulted, "nor written");
	try_read(0x404);
	check(faulted, "there is one machine check bank");
	try_write(0x140, 1);
	check(faulted, "CPUID faulting cannot be switched on");
}
