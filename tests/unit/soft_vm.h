/* SPDX-License-Identifier: ISC */
/*
 * A software CPU with 32 MiB and flat descriptor tables, for tests of its system side.
 *
 * Each test puts it into a mode, then lets it run single instructions or hands it an event,
 * and looks at registers and stacks:
 *
 *	vm_start_long(USER_CODE);
 *	RUN(0x0f, 0x05);		// SYSCALL
 *	vm_assert_ran();
 *	assert_int_equal(vm.cpu.cpl, 0);
 *
 * Handlers of vector n stand at HANDLERS + n; nothing runs there.
 */
#ifndef HK_TESTS_SOFT_VM_H
#define HK_TESTS_SOFT_VM_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <string.h>

#include "base/util.h"
#include "engine/msr.h"
#include "engine/soft/interp.h"
#include "engine/soft/mmu.h"
#include "engine/soft/operand.h"
#include "engine/soft/run.h"
#include "engine/soft/sys.h"

/* Where things are; all addresses are identity-mapped up to 1 GiB, nothing above. */
enum {
	GDT = 0x1000,
	IDT = 0x2000,
	TSS = 0x3000,
	LDT = 0x4000,
	PML4 = 0x5000,
	PDPT = 0x6000,
	DATA = 0x7000,
	CODE = 0x10000,
	STACK0 = 0x20000, /* of ring 0, in the TSS */
	STACK3 = 0x30000,
	STACK_IST = 0x40000,
	STACK_NOW = 0x50000, /* where each test starts */
	HANDLERS = 0x100000,
};
#define UNMAPPED      UINT64_C(0x40000000)
#define NOT_CANONICAL UINT64_C(0x800000000000)

/* Selectors of the GDT */
enum {
	KERNEL_CODE = 0x08,
	KERNEL_DATA = 0x10,
	USER_CODE_32 = 0x18 | 3,
	USER_DATA = 0x20 | 3,
	USER_CODE = 0x28 | 3,
	TASK = 0x30, /* 16 bytes in long mode */
	TABLE = 0x40,
	KERNEL_CODE_32 = 0x50,
	CONFORMING = 0x58,
	ABSENT_DATA = 0x60,
	READ_ONLY = 0x68,
	EXECUTE_ONLY = 0x70,
	GATE = 0x78, /* 16 bytes in long mode */
	CODE_16 = 0x88,
	DOWN = 0x90, /* expands down: 0x1000 to 4 GiB */
	ABSENT_CODE = 0x98,
	USER_ABSENT = 0xa0 | 3,
	GDT_LIMIT = 0xaf,
	BEYOND = 0xb0,
	IN_LDT = 0x8 | 4, /* kernel data, as the LDT's only entry */
};

/* Descriptors: base 0, limit 4 GiB; the access byte and the flags of the upper limit byte */
#define FLAT(access, flags) \
	(UINT64_C(0xffff) | (uint64_t)(access) << 40 | (uint64_t)(0xf0000 | (flags)) << 32)
#define FLAG_L 0x200000
#define FLAG_D 0x400000
#define FLAG_G 0x800000

struct soft_vm {
	struct hk_mem mem;
	struct hk_soft_mem soft;
	struct hk_cpu cpu;
	struct hk_cpuid cpuid;
	uint16_t port;
	uint32_t port_value;
	unsigned hypercalls;
	uint8_t cr8;
};

extern struct soft_vm vm;

int vm_setup(void **state);
int vm_teardown(void **state);

/* Guest memory, values of up to 8 bytes */
void vm_poke(uint64_t gpa, uint64_t value, unsigned len);
uint64_t vm_peek(uint64_t gpa, unsigned len);

void vm_set_descriptor(unsigned selector, uint64_t descriptor);

/** vm_set_gate() - @access: P, DPL and type; @ist only in long mode */
void vm_set_gate(
	unsigned vector, unsigned selector, uint64_t offset, unsigned access, unsigned ist);

/* The CPU at CODE in the mode and ring of code selector @code, tables as new */
void vm_start_long(unsigned code);
void vm_start_protected(unsigned code);
void vm_start_real(void);

/** vm_run_bytes() - one instruction, @bytes at RIP; what it raises stays in cpu.event */
void vm_run_bytes(const uint8_t *bytes, unsigned len);

#define RUN(...) \
	vm_run_bytes((const uint8_t[]){__VA_ARGS__}, sizeof((const uint8_t[]){__VA_ARGS__}))

/* The instruction raised @vector with @code. */
void vm_assert_fault(unsigned vector, uint32_t code);
/* It raised nothing. */
void vm_assert_ran(void);
/* The handler of @vector was entered. */
void vm_assert_entered(unsigned vector);

/** vm_raise() - deliver an exception with an error code */
void vm_raise(unsigned vector, uint32_t code);

/** vm_push_words() - a frame of @count words just below STACK_NOW, the first on top of the stack */
void vm_push_words(unsigned width, const uint64_t *words, unsigned count);
uint64_t vm_stack_word(unsigned index, unsigned width);

#define VM_TEST(name) cmocka_unit_test_setup_teardown(name, vm_setup, vm_teardown)

#endif
