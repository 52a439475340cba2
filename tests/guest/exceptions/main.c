/* SPDX-License-Identifier: ISC */
/* Exceptions: vector, error code and CR2 of what a guest can do wrong, and going on after each. */
#include "guest.h"

static volatile unsigned vector;
static volatile uint64_t code;
static uint64_t resume_at; /* where a fault goes on */

#define FAULT(name, number) \
	HANDLER static void name(struct frame *frame) \
	{ \
		vector = number; \
		code = 0; \
		frame->rip = resume_at; \
	}
#define FAULT_CODE(name, number) \
	HANDLER static void name(struct frame *frame, uint64_t error_code) \
	{ \
		vector = number; \
		code = error_code; \
		frame->rip = resume_at; \
	}
/* A trap's return address is right already. */
#define TRAP(name, number) \
	HANDLER static void name(struct frame *frame) \
	{ \
		vector = number; \
		code = 0; \
	}

FAULT(on_divide, 0)
TRAP(on_debug, 1)
TRAP(on_breakpoint, 3)
FAULT(on_undefined, 6)
FAULT(on_no_fpu, 7)
FAULT_CODE(on_not_present, 11)
FAULT_CODE(on_protection, 13)
FAULT_CODE(on_page, 14)

/* Runs the instructions and says what became of them. */
#define TRY(what, ...) \
	do { \
		vector = 255; \
		code = 0; \
		__asm__ volatile("leaq 1f(%%rip), %%r15\n movq %%r15, %0\n" __VA_ARGS__ "\n1:\n" \
				 : "+m"(resume_at) \
				 : \
				 : "rax", "rbx", "rcx", "rdx", "r14", "r15", "memory", "cc"); \
		say("%s: vector %u code %x\n", what, (uint64_t)vector, code); \
	} while (0)

static uint64_t cr2(void)
{
	uint64_t value;

	__asm__ volatile("movq %%cr2, %0" : "=r"(value));
	return value;
}

void guest_main(void)
{
	guest_idt_set(0, on_divide);
	guest_idt_set(1, on_debug);
	guest_idt_set(3, on_breakpoint);
	guest_idt_set(6, on_undefined);
	guest_idt_set(7, on_no_fpu);
	guest_idt_set(11, on_not_present);
	guest_idt_set(13, on_protection);
	guest_idt_set(14, on_page);
	guest_idt_load();

	TRY("nothing wrong", "nop");
	TRY("division by zero", "xorl %%ecx, %%ecx; movl $1, %%eax; cltd; idivl %%ecx");
	TRY("division overflow", "movl $1, %%ecx; movl $1, %%edx; xorl %%eax, %%eax; divl %%ecx");
	TRY("single step",
		"pushfq; orl $0x100, (%%rsp); popfq; nop; pushfq; andl $~0x100, (%%rsp); popfq");
	TRY("breakpoint", "int3");
	TRY("undefined instruction", "ud2");
	TRY("unknown MSR, read", "movl $0x12345678, %%ecx; rdmsr");
	TRY("unknown MSR, write",
		"movl $0x12345678, %%ecx; xorl %%eax, %%eax; xorl %%edx, %%edx; wrmsr");
	TRY("CR4.SMEP, which the model lacks",
		"movq %%cr4, %%rax; btsq $20, %%rax; movq %%rax, %%cr4");
	TRY("non-canonical address", "movabsq $0x8000000000000000, %%rax; movq (%%rax), %%rax");
	TRY("selector behind the GDT", "movl $0x1000, %%eax; movl %%eax, %%fs");
	TRY("page not present, read", "movabsq $0x10000001234, %%rax; movb (%%rax), %%al");
	say("  at %x\n", cr2());
	TRY("page not present, write", "movabsq $0x10000005678, %%rax; movb %%al, (%%rax)");
	say("  at %x\n", cr2());
	TRY("page not present, execute", "movabsq $0x10000009abc, %%rax; jmp *%%rax");
	say("  at %x\n", cr2());
	TRY("FPU switched off",
		"movq %%cr0, %%rbx; movq %%rbx, %%rax; orl $8, %%eax; movq %%rax, %%cr0; fnop");
	__asm__ volatile("clts");
	check(true, "still here");
}
