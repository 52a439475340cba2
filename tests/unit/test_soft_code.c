/* SPDX-License-Identifier: ISC */
/*
 * The cache of decoded code: whatever becomes of the bytes, the mappings and the modes, the CPU
 * runs what a CPU without a cache would. Programs end with HLT.
 */
#include "soft_vm.h"

#include <stdlib.h>

#include "engine/soft/code.h"

enum {
	OTHER = 0x12000, /* another page of code, a gap away from CODE */
	PD_TEST = 0x60000,
	PT_TEST = 0x61000,
	FRAME = 0x200000,
	FRAME_2 = 0x201000,
	ALL = 7,
	LIMIT_BYTES = 128 << 20,
	SLACK_BYTES = 1 << 20,
	HLT = 0xf4,
};
/* 4 KiB pages, which the tests map */
#define VA UINT64_C(0x40000000)

#define PUT(at, ...) \
	put((at), (const uint8_t[]){__VA_ARGS__}, sizeof((const uint8_t[]){__VA_ARGS__}))

static uint64_t put(uint64_t at, const uint8_t *bytes, unsigned len)
{
	assert_int_equal(hk_mem_write(&vm.mem, at, bytes, len), 0);
	return at + len;
}

/* A near jump or call (E9, E8) at linear address @rip, whose bytes stand at @at. */
static uint64_t put_branch(uint64_t at, uint64_t rip, uint8_t opcode, uint64_t to)
{
	int32_t rel = (int32_t)(to - (rip + 5));

	vm_poke(at, opcode, 1);
	vm_poke(at + 1, (uint32_t)rel, 4);
	return at + 5;
}

static void map(unsigned page, uint64_t frame)
{
	vm_poke(PT_TEST + 8 * page, frame | ALL, 8);
}

static void start(unsigned code)
{
	vm_start_long(code);
	vm_poke(PDPT + 8, PD_TEST | ALL, 8);
	vm_poke(PD_TEST, PT_TEST | ALL, 8);
	for (unsigned i = 0; i < 256; i++) {
		vm_poke(HANDLERS + i, HLT, 1);
	}
}

static void run(uint64_t rip)
{
	vm.cpu.rip = rip;
	vm.cpu.activity = HK_CPU_RUNNING;
	assert_int_equal(hk_cpu_run(&vm.cpu), HK_CPU_IDLE);
}

/* ... to the HLT before @end */
static void run_to(uint64_t rip, uint64_t end)
{
	run(rip);
	assert_int_equal(vm.cpu.rip, end);
}

static uint8_t al(void)
{
	return (uint8_t)vm.cpu.gpr[HK_RAX];
}

/* A device writes a byte. */
static void device_writes(uint64_t gpa, uint8_t byte)
{
	vm_poke(gpa, byte, 1);
	if (hk_soft_mem_code_cpus(&vm.soft, gpa, 1) != 0) {
		hk_code_drop(&vm.cpu, gpa, 1);
	}
}

/* ---- Code that changes ---- */

static void the_next_instruction(void **state)
{
	(void)state;
	start(KERNEL_CODE);
	/* mov [rbx], cl; mov al, 1; hlt */
	uint64_t end = PUT(CODE, 0x88, 0x0b, 0xb0, 0x01, HLT);

	vm.cpu.gpr[HK_RBX] = CODE + 3;
	for (unsigned i = 2; i < 10; i++) {
		vm.cpu.gpr[HK_RCX] = i;
		run_to(CODE, end);
		assert_int_equal(al(), i);
	}
}

static void a_loop_that_changes_itself(void **state)
{
	(void)state;
	start(KERNEL_CODE);
	/* mov al, 0; inc byte [rbx]; cmp al, 100; jne back; hlt */
	uint64_t end = PUT(CODE, 0xb0, 0x00, 0xfe, 0x03, 0x3c, 0x64, 0x75, 0xf8, HLT);

	vm.cpu.gpr[HK_RBX] = CODE + 1;
	run_to(CODE, end);
	assert_int_equal(al(), 100);
	assert_int_equal(vm_peek(CODE + 1, 1), 101);
}

/* One instruction becomes several, which become one again. */
static void lengths_change(void **state)
{
	uint64_t end;

	(void)state;
	start(KERNEL_CODE);
	end = PUT(CODE, 0x48, 0xb8, 0xb1, 0x05, 0xb2, 0x06, 0xb3, 0x07, 0x90, 0x90, HLT);
	for (unsigned i = 0; i < 4; i++) {
		vm.cpu.gpr[HK_RCX] = vm.cpu.gpr[HK_RDX] = vm.cpu.gpr[HK_RBX] = 0;
		run_to(CODE, end); /* mov rax, imm64 */
		assert_int_equal(vm.cpu.gpr[HK_RAX], UINT64_C(0x909007b306b205b1));
		assert_int_equal(vm.cpu.gpr[HK_RCX], 0);
		device_writes(CODE + 1, 0x90);
		run_to(CODE, end); /* nop; mov cl, 5; mov dl, 6; mov bl, 7 */
		assert_int_equal(vm.cpu.gpr[HK_RCX], 5);
		assert_int_equal(vm.cpu.gpr[HK_RDX], 6);
		assert_int_equal(vm.cpu.gpr[HK_RBX], 7);
		device_writes(CODE + 1, 0xb8);
	}
}

/* @store_at: linear address of the byte that the code at OTHER returns */
static void call_store_call(uint64_t store_at)
{
	/* call other; mov dl, al; mov [rbx], cl; call other; hlt */
	uint64_t at = put_branch(CODE, CODE, 0xe8, OTHER);

	at = PUT(at, 0x88, 0xc2, 0x88, 0x0b);
	at = put_branch(at, at, 0xe8, OTHER);
	at = PUT(at, HLT);
	PUT(OTHER, 0xb0, 0x00, 0xc3); /* mov al, 0; ret */
	vm.cpu.gpr[HK_RBX] = store_at;
	for (unsigned i = 1; i < 10; i++) {
		vm.cpu.gpr[HK_RCX] = i;
		run_to(CODE, at);
		assert_int_equal(vm.cpu.gpr[HK_RDX] & 0xff, i - 1);
		assert_int_equal(al(), i);
	}
}

static void another_page(void **state)
{
	(void)state;
	start(KERNEL_CODE);
	call_store_call(OTHER + 1);
}

static void through_another_address(void **state)
{
	(void)state;
	start(KERNEL_CODE);
	map(7, OTHER);
	call_store_call(VA + 7 * 4096 + 1);
}

/* Both halves of stores over a page boundary */
static void by_a_store_over_two_pages(void **state)
{
	(void)state;
	start(KERNEL_CODE);
	/* mov [rbx], ecx; call rsi; hlt */
	uint64_t end = PUT(CODE, 0x89, 0x0b, 0xff, 0xd6, HLT);

	PUT(OTHER - 4, 0xb0, 0x00, 0x04, 0x00, 0x04, 0x00, 0xc3); /* mov al, 0; add al, 0 twice */
	vm.cpu.gpr[HK_RBX] = OTHER - 3;
	vm.cpu.gpr[HK_RSI] = OTHER - 4;
	for (unsigned i = 0; i < 8; i++) {
		vm.cpu.gpr[HK_RCX] = (i & 1) | 0x0400 | (uint32_t)(i & 2) << 16 | 0x04000000;
		vm_poke(OTHER + 1, i & 4, 1);
		hk_code_drop(&vm.cpu, OTHER + 1, 1);
		run_to(CODE, end);
		assert_int_equal(al(), i);
	}
}

static void by_string_and_locked_stores(void **state)
{
	(void)state;
	start(KERNEL_CODE);
	PUT(OTHER, 0xb0, 0x00, 0xc3);
	/* mov rdi, rbx; mov eax, edx; mov ecx, 1; rep stosb; call rsi; hlt */
	uint64_t end = PUT(
		CODE, 0x48, 0x89, 0xdf, 0x89, 0xd0, 0xb9, 1, 0, 0, 0, 0xf3, 0xaa, 0xff, 0xd6, HLT);

	vm.cpu.gpr[HK_RBX] = OTHER + 1;
	vm.cpu.gpr[HK_RSI] = OTHER;
	for (unsigned i = 1; i < 5; i++) {
		vm.cpu.gpr[HK_RDX] = i;
		run_to(CODE, end);
		assert_int_equal(al(), i);
	}
	/* lock inc byte [rbx]; call rsi; hlt */
	end = PUT(CODE + 0x100, 0xf0, 0xfe, 0x03, 0xff, 0xd6, HLT);
	for (unsigned i = 5; i < 10; i++) {
		run_to(CODE + 0x100, end);
		assert_int_equal(al(), i);
	}
	/* push: the stack is in the page, next to the code */
	end = PUT(CODE + 0x200, 0x54, 0xff, 0xd6, HLT);
	vm.cpu.gpr[HK_RSI] = OTHER + 0x100;
	for (unsigned i = 0; i < 3; i++) {
		PUT(OTHER + 0x100, 0xb0, 0x77, 0xc3);
		hk_code_drop(&vm.cpu, OTHER + 0x100, 3);
		vm.cpu.gpr[HK_RSP] = OTHER + 0x120;
		run_to(CODE + 0x200, end);
		assert_int_equal(al(), 0x77);
	}
}

static void by_a_device(void **state)
{
	(void)state;
	start(KERNEL_CODE);
	uint64_t at = put_branch(CODE, CODE, 0xe8, OTHER);

	PUT(at, HLT);
	PUT(OTHER, 0xb0, 0x00, 0xc3);
	for (unsigned i = 0; i < 10; i++) {
		device_writes(OTHER + 1, (uint8_t)i);
		run_to(CODE, at + 1);
		assert_int_equal(al(), i);
	}
}

/* The walk's own stores count as well: here of accessed bits. */
static void by_the_page_walk(void **state)
{
	enum { PT_CODE = 0x62000, ENTRY = PT_CODE + 8 * 6 };

	(void)state;
	start(KERNEL_CODE);
	/* The entry for page 6, read as code: mov al, imm... */
	vm_poke(PD_TEST + 8, PT_CODE | ALL, 8);
	vm_poke(ENTRY, UINT64_C(0x20f407b0) & ~UINT64_C(0xfff), 8);
	vm_poke(ENTRY, 0x07, 1);
	vm_poke(ENTRY + 1, 0x40, 1); /* 07: what code made of this is #UD */
	vm.cpu.rip = ENTRY;
	run(ENTRY);
	assert_int_equal(vm.cpu.rip, HANDLERS + HK_VECTOR_UD + 1);

	uint8_t byte;

	/* With the accessed bit 27 it is #UD still, with the dirty bit 67 is a prefix, and REX */
	hk_load(&vm.cpu, VA + (2 << 20) + 6 * 4096, &byte, 1);
	assert_int_equal(vm_peek(ENTRY, 1), 0x27);
	assert_int_equal(hk_soft_mem_code_cpus(&vm.soft, ENTRY, 1), 0);
}

/* ---- Two CPUs ---- */

static struct hk_cpu second;

/* The one that is asked does not run, so it is done at once. */
static void protect_page(struct hk_cpu *cpu, hk_gpa page, uint32_t cpu_mask)
{
	(void)cpu;
	for (unsigned i = 0; i < 2; i++) {
		if ((cpu_mask >> i & 1) != 0) {
			hk_tlb_protect(i == 0 ? &vm.cpu : &second, page);
		}
	}
}

static void drop_code(struct hk_cpu *cpu, hk_gpa gpa, unsigned len, uint32_t cpu_mask)
{
	(void)cpu;
	for (unsigned i = 0; i < 2; i++) {
		if ((cpu_mask >> i & 1) != 0) {
			hk_code_drop(i == 0 ? &vm.cpu : &second, gpa, len);
		}
	}
}

static void by_another_cpu(void **state)
{
	static struct hk_cpu_bus_ops bus;
	uint64_t at;

	(void)state;
	bus = *vm.cpu.bus;
	bus.protect_page = protect_page;
	bus.drop_code = drop_code;
	vm.cpu.bus = &bus;
	start(KERNEL_CODE);
	assert_int_equal(hk_cpu_init(&second, 1, &vm.cpuid, UINT32_MAX, &vm.soft, &bus), 0);
	memcpy(second.seg, vm.cpu.seg, sizeof(second.seg));
	second.cr0 = vm.cpu.cr0;
	second.cr3 = vm.cpu.cr3;
	second.cr4 = vm.cpu.cr4;
	second.efer = vm.cpu.efer;
	second.gpr[HK_RSP] = STACK3;
	second.gpr[HK_RBX] = OTHER + 1;
	hk_cpu_flushed(&second);

	at = put_branch(CODE, CODE, 0xe8, OTHER);
	PUT(at, HLT);
	PUT(OTHER, 0xb0, 0x00, 0xc3);
	PUT(CODE + 0x1000, 0x88, 0x0b, HLT); /* mov [rbx], cl; hlt */
	for (unsigned i = 1; i < 10; i++) {
		second.gpr[HK_RCX] = i;
		second.rip = CODE + 0x1000;
		second.activity = HK_CPU_RUNNING;
		assert_int_equal(hk_cpu_run(&second), HK_CPU_IDLE);
		run_to(CODE, at + 1);
		assert_int_equal(al(), i);
	}
	hk_cpu_finish(&second);
}

/* ---- Mappings that change ---- */

/* call VA; mov dl, al; mov [rsi], rdi; (what @flush is); call VA; hlt */
static void remap(const uint8_t *flush, unsigned len)
{
	uint64_t at = put_branch(CODE, CODE, 0xe8, VA);

	at = PUT(at, 0x88, 0xc2, 0x48, 0x89, 0x3e);
	at = put(at, flush, len);
	at = put_branch(at, at, 0xe8, VA);
	PUT(at, HLT);
	PUT(FRAME, 0xb0, 0x01, 0xc3);
	PUT(FRAME_2, 0xb0, 0x02, 0xc3);
	map(0, FRAME);
	vm.cpu.gpr[HK_RSI] = PT_TEST;
	vm.cpu.gpr[HK_RCX] = VA;
	vm.cpu.gpr[HK_RBX] = PML4;
	for (unsigned i = 0; i < 6; i++) {
		vm.cpu.gpr[HK_RDI] = ((i & 1) == 0 ? FRAME_2 : FRAME) | ALL;
		run_to(CODE, at + 1);
		assert_int_equal(vm.cpu.gpr[HK_RDX] & 0xff, (i & 1) == 0 ? 1 : 2);
		assert_int_equal(al(), (i & 1) == 0 ? 2 : 1);
	}
}

static void another_frame(void **state)
{
	static const uint8_t invlpg[] = {0x0f, 0x01, 0x39};
	static const uint8_t cr3[] = {0x0f, 0x22, 0xdb};

	(void)state;
	start(KERNEL_CODE);
	remap(invlpg, sizeof(invlpg));
	remap(cr3, sizeof(cr3));
}

static void another_large_frame(void **state)
{
	/* call VA + 5000; mov dl, al; mov [rsi], rdi; invlpg [rcx]; call VA + 5000; hlt */
	uint64_t at = put_branch(CODE, CODE, 0xe8, VA + 0x5000);

	(void)state;
	start(KERNEL_CODE);
	at = PUT(at, 0x88, 0xc2, 0x48, 0x89, 0x3e, 0x0f, 0x01, 0x39);
	at = put_branch(at, at, 0xe8, VA + 0x5000);
	PUT(at, HLT);
	PUT(0x205000, 0xb0, 0x01, 0xc3);
	PUT(0x405000, 0xb0, 0x02, 0xc3);
	vm_poke(PD_TEST, 0x200000 | 0x87, 8);
	vm.cpu.gpr[HK_RSI] = PD_TEST;
	vm.cpu.gpr[HK_RDI] = 0x400000 | 0x87;
	vm.cpu.gpr[HK_RCX] = VA;
	run_to(CODE, at + 1);
	assert_int_equal(vm.cpu.gpr[HK_RDX] & 0xff, 1);
	assert_int_equal(al(), 2);
}

/*
 * A guest that changes a page table and flushes nothing may go on with the old page or the new one.
 * But no instruction of one page may come to point into the other, which can be dropped apart from
 * it.
 */
static void another_frame_without_a_flush(void **state)
{
	(void)state;
	start(KERNEL_CODE);
	/*
	 * VA + 100 in both frames: test cl, cl; jz VA + 180; jmp CODE + 100. VA + 180: mov al,
	 * frame; jmp CODE + 100
	 */
	for (unsigned i = 0; i < 2; i++) {
		uint64_t frame = i == 0 ? FRAME : FRAME_2;
		uint64_t at = PUT(frame + 0x100, 0x84, 0xc9, 0x74, 0x7c);

		put_branch(at, VA + 0x104, 0xe9, CODE + 0x100);
		at = PUT(frame + 0x180, 0xb0, (uint8_t)(i + 1));
		put_branch(at, VA + 0x182, 0xe9, CODE + 0x100);
	}
	map(0, FRAME);

	/*
	 * CODE: jmp VA + 100. CODE + 100: dec cl; js out; jnz again; mov [rsi], rdi; call rbx;
	 * again: jmp CODE; out: hlt. So before the last round VA goes to another frame, and code
	 * runs that drives it out of the fetch entries.
	 */
	put_branch(CODE, CODE, 0xe9, VA + 0x100);

	uint64_t at =
		PUT(CODE + 0x100, 0xfe, 0xc9, 0x78, 0x0c, 0x75, 0x05, 0x48, 0x89, 0x3e, 0xff, 0xd3);

	at = put_branch(at, at, 0xe9, CODE);
	PUT(at, HLT);
	PUT(FRAME + 0x1f0, 0xc3);
	assert_int_equal((VA ^ FRAME) >> 12 & (HK_FETCH_ENTRIES - 1), 0);
	vm.cpu.gpr[HK_RBX] = FRAME + 0x1f0;
	vm.cpu.gpr[HK_RSI] = PT_TEST;
	vm.cpu.gpr[HK_RDI] = FRAME_2 | ALL;
	vm.cpu.gpr[HK_RCX] = 3;
	run_to(CODE, at + 1);
	assert_in_range(al(), 1, 2); /* without a flush either is right */

	/* The second frame goes; whoever pointed at it must not. */
	hk_code_drop(&vm.cpu, FRAME_2, 4096);
	hk_code_reclaim(&vm.cpu);
	map(0, FRAME);
	hk_tlb_flush(&vm.cpu, true);
	vm.cpu.gpr[HK_RDI] = FRAME | ALL;
	vm.cpu.gpr[HK_RCX] = 3;
	run_to(CODE, at + 1);
	assert_int_equal(al(), 1);
}

/*
 * One frame at two addresses, whose neighbours differ: who jumps out of it, and back in, is where
 * RIP says.
 */
static void a_frame_at_two_addresses(void **state)
{
	(void)state;
	start(KERNEL_CODE);
	/* 0 and 2: the frame; 1 and 3: mov al, 1 or 2; jmp back to the frame, + 100: hlt */
	map(0, FRAME);
	map(1, FRAME_2);
	map(2, FRAME);
	map(3, FRAME_2 + 4096);
	put_branch(FRAME, VA, 0xe9, VA + 4096);
	PUT(FRAME + 0x100, HLT);
	for (unsigned i = 0; i < 2; i++) {
		uint64_t neighbour = VA + (1 + 2 * i) * 4096;
		uint64_t at = PUT(FRAME_2 + i * 4096, 0xb0, (uint8_t)(i + 1));

		put_branch(at, neighbour + 2, 0xe9, neighbour - 4096 + 0x100);
	}
	for (unsigned i = 0; i < 6; i++) {
		unsigned at = (i ^ i >> 1) & 1; /* 0 1 1 0 0 1: by changes and in a row */

		vm.cpu.gpr[HK_RAX] = 0;
		run_to(VA + 8192 * at, VA + 8192 * at + 0x101);
		assert_int_equal(al(), at + 1);
	}
}

/* ---- Instructions over two pages ---- */

static void an_instruction_over_two_pages(void **state)
{
	(void)state;
	start(KERNEL_CODE);
	map(0, FRAME);
	map(1, FRAME_2);
	/* mov eax, imm32, with 1 to 4 bytes in the first page; ret */
	for (unsigned split = 1; split < 5; split++) {
		uint64_t rip = VA + 4096 - split;
		uint64_t at = put_branch(CODE, CODE, 0xe8, rip);

		PUT(at, HLT);
		hk_code_drop_all(&vm.cpu);
		PUT(FRAME + 4096 - split, 0xb8, 0x11, 0x22, 0x33);
		PUT(FRAME_2, 0x11, 0x22, 0x33, 0x44);
		/* The rest in the second page: as much of 11 22 33 44 as is missing, then ret */
		for (unsigned i = 0; i < 5 - split; i++) {
			vm_poke(FRAME_2 + i, 0x50 + i, 1);
		}
		vm_poke(FRAME_2 + 5 - split, 0xc3, 1);
		for (unsigned i = 0; i < 3; i++) {
			run_to(CODE, at + 1);
			assert_int_equal(vm.cpu.gpr[HK_RAX] >> 24, 0x50 + 4 - split);
		}
		/* The second half changes, */
		device_writes(FRAME_2 + 4 - split, 0x99);
		run_to(CODE, at + 1);
		assert_int_equal(vm.cpu.gpr[HK_RAX] >> 24, 0x99);
		/* the first half, */
		device_writes(FRAME + 4096 - split, 0xb9);
		run_to(CODE, at + 1);
		assert_int_equal(vm.cpu.gpr[HK_RCX] >> 24, 0x99);
		device_writes(FRAME + 4096 - split, 0xb8);
		/* and the second page becomes another. */
		for (unsigned i = 0; i < 5 - split; i++) {
			vm_poke(FRAME_2 + 4096 + i, 0x60 + i, 1);
		}
		vm_poke(FRAME_2 + 4096 + 5 - split, 0xc3, 1);
		map(1, FRAME_2 + 4096);
		hk_tlb_flush_page(&vm.cpu, VA + 4096);
		run_to(CODE, at + 1);
		assert_int_equal(vm.cpu.gpr[HK_RAX] >> 24, 0x60 + 4 - split);
		/* It goes: the fault is the second page's. */
		vm_poke(PT_TEST + 8, 0, 8);
		hk_tlb_flush_page(&vm.cpu, VA + 4096);
		run(CODE);
		assert_int_equal(vm.cpu.rip, HANDLERS + HK_VECTOR_PF + 1);
		assert_int_equal(vm.cpu.cr2, VA + 4096);
		assert_int_equal(vm_stack_word(1, 8), rip);
		map(1, FRAME_2);
		vm.cpu.gpr[HK_RSP] = STACK_NOW;
		hk_tlb_flush(&vm.cpu, true);
	}
}

/* ---- Modes ---- */

static void set_code_segment(unsigned selector, uint16_t attr)
{
	vm.cpu.seg[HK_CS].selector = (uint16_t)selector;
	vm.cpu.seg[HK_CS].attr = attr;
	hk_cpu_mode_changed(&vm.cpu);
}

/* dec eax in 32-bit mode, a prefix in 64-bit mode; within a page, and over the end of one */
static void modes_share_a_page(void **state)
{
	static const uint64_t places[] = {CODE, OTHER - 1};

	(void)state;
	start(KERNEL_CODE);
	for (unsigned i = 0; i < HK_ARRAY_SIZE(places); i++) {
		PUT(places[i], 0x48, 0xff, 0xc0, HLT); /* inc rax; or dec eax, inc eax */
		for (unsigned n = 0; n < 4; n++) {
			vm.cpu.gpr[HK_RAX] = UINT32_MAX;
			set_code_segment(KERNEL_CODE, 0xa09b);
			run_to(places[i], places[i] + 4);
			assert_int_equal(vm.cpu.gpr[HK_RAX], UINT64_C(0x100000000));
			vm.cpu.gpr[HK_RAX] = UINT32_MAX;
			set_code_segment(KERNEL_CODE_32, 0xc09b);
			run_to(places[i], places[i] + 4);
			assert_int_equal(vm.cpu.gpr[HK_RAX], UINT32_MAX);
		}
	}
}

/* ---- Runs ---- */

static void runs_of_all_lengths(void **state)
{
	(void)state;
	start(KERNEL_CODE);
	for (unsigned count = 1; count < 300; count += count < 100 ? 1 : 37) {
		uint64_t at = OTHER - 64; /* they go over into the next page */

		hk_code_drop_all(&vm.cpu);
		for (unsigned i = 0; i < count; i++) {
			at = PUT(at, 0xff, 0xc0); /* inc eax */
		}
		at = PUT(at, HLT);
		/* From the end to the beginning, so that runs meet others. */
		for (unsigned from = count; from-- > 0;) {
			vm.cpu.gpr[HK_RAX] = 0;
			run_to(OTHER - 64 + 2 * from, at);
			assert_int_equal(vm.cpu.gpr[HK_RAX], count - from);
			from -= from > 5 && from % 7 != 0 ? 5 : 0;
		}
	}
}

/* ---- Limits ---- */

static size_t most_bytes;

/* Programs say OUT now and then. */
static void look_at_size(struct hk_cpu *cpu, uint16_t port, void *data, unsigned len, bool write)
{
	size_t bytes = hk_code_bytes(cpu);

	(void)port;
	(void)data;
	(void)len;
	(void)write;
	most_bytes = bytes > most_bytes ? bytes : most_bytes;
}

static void watch_size(void)
{
	static struct hk_cpu_bus_ops bus;

	bus = *vm.cpu.bus;
	bus.port = look_at_size;
	vm.cpu.bus = &bus;
	most_bytes = 0;
}

/* Code in every page of RAM, that never comes back to the run loop by itself. */
static void much_code(void **state)
{
	enum { FIRST = 0x300000, LAST = (32 << 20) - 4096, JUMPS = 200 };

	(void)state;
	watch_size();
	start(KERNEL_CODE);
	for (uint64_t page = FIRST; page < LAST; page += 4096) {
		uint64_t at = PUT(page, 0xe6, 0x80); /* out 80, al */

		for (unsigned i = 0; i < JUMPS; i++) {
			at = PUT(at, 0xeb, 0x00);
		}
		put_branch(at, at, 0xe9, page + 4096);
	}
	PUT(LAST, HLT);
	for (unsigned i = 0; i < 2; i++) {
		run_to(FIRST, LAST + 1);
		assert_in_range(most_bytes, LIMIT_BYTES / 2, LIMIT_BYTES + SLACK_BYTES);
	}
}

/* Code that is written and called again and again, by code that stays. */
static void much_dropped_code(void **state)
{
	(void)state;
	watch_size();
	start(KERNEL_CODE);
	PUT(OTHER, 0xb0, 0x00, 0xc3);
	/* mov [rbx], cl; call other; out 80, al; dec ecx; jnz back; hlt */
	uint64_t at = PUT(CODE, 0x88, 0x0b);

	at = put_branch(at, at, 0xe8, OTHER);
	at = PUT(at, 0xe6, 0x80, 0xff, 0xc9, 0x75, 0xf3, HLT);
	vm.cpu.gpr[HK_RBX] = OTHER + 1;
	vm.cpu.gpr[HK_RCX] = 20000;
	run_to(CODE, at);
	assert_int_equal(al(), 1);
	assert_in_range(most_bytes, 1, LIMIT_BYTES + SLACK_BYTES);
}

/* Numbers of generations run out: links of the first round must not be good in the second. */
static void generations_start_anew(void **state)
{
	(void)state;
	start(KERNEL_CODE);
	PUT(OTHER, 0x48, 0xff, 0xc0, 0xc3); /* inc rax; ret */
	/* call other; invlpg [rbx]; dec ecx; jnz back; hlt */
	uint64_t at = put_branch(CODE, CODE, 0xe8, OTHER);

	at = PUT(at, 0x0f, 0x01, 0x3b, 0xff, 0xc9, 0x75, 0xf4, HLT);
	vm.cpu.last_gen = UINT32_MAX - (1 << 20) - 100;
	for (unsigned i = 0; i < 2; i++) {
		vm.cpu.gpr[HK_RAX] = 0;
		vm.cpu.gpr[HK_RCX] = 100;
		vm.cpu.gpr[HK_RBX] = VA;
		run_to(CODE, at);
		assert_int_equal(vm.cpu.gpr[HK_RAX], 100);
	}
	assert_in_range(vm.cpu.last_gen, 1, 1000);
}

/* ---- The same as one by one ---- */

static uint64_t seed;

/* splitmix64, by Sebastiano Vigna: public domain. */
static unsigned any(unsigned below)
{
	uint64_t z = seed += UINT64_C(0x9e3779b97f4a7c15);

	z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
	return (unsigned)((z ^ (z >> 31)) % below);
}

/*
 * Opcodes with a ModRM byte, and how many bytes of immediate follow; 4 is 2 after an operand-size
 * prefix.
 */
static const struct {
	uint8_t bytes[2];
	uint8_t len;
	uint8_t immediate;
	uint8_t extensions; /* ModRM.reg that may be; 0: any register */
} opcodes[] = {
	{{0x00}, 1, 0, 0},
	{{0x01}, 1, 0, 0},
	{{0x02}, 1, 0, 0},
	{{0x03}, 1, 0, 0},
	{{0x09}, 1, 0, 0},
	{{0x0a}, 1, 0, 0},
	{{0x11}, 1, 0, 0},
	{{0x13}, 1, 0, 0},
	{{0x19}, 1, 0, 0},
	{{0x21}, 1, 0, 0},
	{{0x29}, 1, 0, 0},
	{{0x2a}, 1, 0, 0},
	{{0x31}, 1, 0, 0},
	{{0x33}, 1, 0, 0},
	{{0x38}, 1, 0, 0},
	{{0x39}, 1, 0, 0},
	{{0x3b}, 1, 0, 0},
	{{0x84}, 1, 0, 0},
	{{0x85}, 1, 0, 0},
	{{0x85}, 1, 0, 0},
	{{0x86}, 1, 0, 0},
	{{0x88}, 1, 0, 0},
	{{0x89}, 1, 0, 0},
	{{0x8b}, 1, 0, 0},
	{{0x69}, 1, 4, 0},
	{{0x6b}, 1, 1, 0},
	{{0x63}, 1, 0, 0},
	{{0x8d}, 1, 0, 0},
	{{0x80}, 1, 1, 0xff},
	{{0x81}, 1, 4, 0xff},
	{{0x83}, 1, 1, 0xff},
	{{0x83}, 1, 1, 0xff},
	{{0xc0}, 1, 1, 0xff},
	{{0xc1}, 1, 1, 0xff},
	{{0xd0}, 1, 0, 0xff},
	{{0xd1}, 1, 0, 0xff},
	{{0xd3}, 1, 0, 0xff},
	{{0xf6}, 1, 0, 0xfc},
	{{0xf7}, 1, 0, 0xfc},
	{{0xf6}, 1, 1, 0x01},
	{{0xf7}, 1, 4, 0x01},
	{{0xfe}, 1, 0, 0x03},
	{{0xff}, 1, 0, 0x03},
	{{0xc6}, 1, 1, 0x01},
	{{0xc7}, 1, 4, 0x01},
	{{0x0f, 0xaf}, 2, 0, 0},
	{{0x0f, 0xa3}, 2, 0, 0},
	{{0x0f, 0xab}, 2, 0, 0},
	{{0x0f, 0xba}, 2, 1, 0xf0},
	{{0x0f, 0xbc}, 2, 0, 0},
	{{0x0f, 0xbd}, 2, 0, 0},
	{{0x0f, 0xb6}, 2, 0, 0},
	{{0x0f, 0xb7}, 2, 0, 0},
	{{0x0f, 0xbe}, 2, 0, 0},
	{{0x0f, 0xbf}, 2, 0, 0},
	{{0x0f, 0xc1}, 2, 0, 0},
	{{0x0f, 0xb1}, 2, 0, 0},
	{{0x0f, 0xa4}, 2, 1, 0},
	{{0x0f, 0xad}, 2, 0, 0},
	{{0x0f, 0x40}, 2, 0, 0},
	{{0x0f, 0x90}, 2, 0, 0}, /* and the other conditions */
	{{0x0f, 0x28}, 2, 0, 0},
	{{0x0f, 0xef}, 2, 0, 0},
	{{0x0f, 0x2e}, 2, 0, 0},
};
static const uint8_t plain[] = {0xf5, 0xf8, 0xf9, 0x9f, 0x9e, 0x98, 0x99, 0x90, 0x9c, 0x51, 0x59};

enum { SCRATCH = 0x70000, SCRATCH_BYTES = 64, MAX_INSNS = 120 };

static uint64_t put_any_insn(uint64_t at)
{
	unsigned n = any(HK_ARRAY_SIZE(opcodes));
	bool wide = any(3) == 0;
	bool narrow = !wide && any(6) == 0;
	uint8_t opcode[2] = {opcodes[n].bytes[0], opcodes[n].bytes[1]};
	bool far_bit = opcode[0] == 0x0f && (opcode[1] == 0xa3 || opcode[1] == 0xab);
	bool in_memory = (any(5) == 0 && !far_bit) || opcode[0] == 0x8d;
	unsigned reg = any(8);
	/* Not the stack pointer; the high bytes are welcome. */
	unsigned rm = any(8);
	unsigned immediate = opcodes[n].immediate;

	if (any(12) == 0) {
		return PUT(at, plain[any(HK_ARRAY_SIZE(plain))]);
	}
	if (any(8) == 0) { /* a branch over nothing, or over a byte that is an instruction */
		return any(2) == 0 ? PUT(at, (uint8_t)(0x70 + any(16)), 0)
				   : PUT(at, (uint8_t)(0x70 + any(16)), 1, 0xf5);
	}
	while (opcodes[n].extensions != 0 && (opcodes[n].extensions >> reg & 1) == 0) {
		reg = any(8);
	}
	reg = opcodes[n].extensions == 0 && reg == 4 ? 5 : reg;
	rm = rm == 4 ? 6 : rm;
	if (opcode[0] == 0x0f && (opcode[1] == 0x40 || opcode[1] == 0x90)) {
		opcode[1] = (uint8_t)(opcode[1] + any(16));
	}
	if (narrow) {
		at = PUT(at, 0x66);
		immediate = immediate == 4 ? 2 : immediate;
	}
	if (wide || any(3) == 0) {
		at = PUT(at, (uint8_t)(0x40 | (wide ? 8 : 0) | any(2) * 5));
	}
	at = put(at, opcode, opcodes[n].len);
	if (in_memory) {
		at = PUT(at, (uint8_t)(reg << 3 | 5));
		vm_poke(at, (uint32_t)(SCRATCH + any(SCRATCH_BYTES - 16) - (at + 4 + immediate)),
			4);
		at += 4;
	} else {
		at = PUT(at, (uint8_t)(0xc0 | reg << 3 | rm));
	}
	for (unsigned i = 0; i < immediate; i++) {
		at = PUT(at, (uint8_t)any(i == 0 && any(2) == 0 ? 4 : 256));
	}
	return at;
}

struct result {
	uint64_t gpr[16];
	uint64_t rflags, rip;
	uint8_t scratch[SCRATCH_BYTES];
	union hk_xmm xmm[8];
};

static void set_up(uint64_t with)
{
	seed = with;
	start(KERNEL_CODE);
	for (unsigned i = 0; i < 16; i++) {
		uint64_t high = any(2) == 0 ? any(UINT32_MAX) : 0;

		vm.cpu.gpr[i] =
			i == HK_RSP ? STACK_NOW : high << 32 | any(any(2) == 0 ? 256 : UINT32_MAX);
	}
	for (unsigned i = 0; i < SCRATCH_BYTES; i++) {
		vm_poke(SCRATCH + i, any(256), 1);
	}
	for (unsigned i = 0; i < 2 * MAX_INSNS; i++) {
		vm_poke(STACK_NOW + 8 * (uint64_t)i - 8 * MAX_INSNS, i, 8);
	}
	memset(vm.cpu.xmm, 0, sizeof(vm.cpu.xmm));
	hk_rflags_set(&vm.cpu, HK_FLAG_FIXED | (any(4096) & HK_FLAGS_ARITH));
	vm.cpu.cc_src = 0;
	vm.cpu.activity = HK_CPU_RUNNING;
}

static struct result result_now(void)
{
	struct result result;

	memset(&result, 0, sizeof(result));
	memcpy(result.gpr, vm.cpu.gpr, sizeof(result.gpr));
	memcpy(result.xmm, vm.cpu.xmm, sizeof(result.xmm));
	result.rflags = hk_rflags_get(&vm.cpu);
	result.rip = vm.cpu.rip;
	assert_int_equal(hk_mem_read(&vm.mem, SCRATCH, result.scratch, SCRATCH_BYTES), 0);
	return result;
}

/* Program @n, but for all beyond @count instructions. Half of them have been run before. */
static bool is_same(unsigned n, unsigned count, uint64_t *ret_end)
{
	enum { STEPS = 1000 };

	uint64_t end = CODE;

	seed = n * UINT64_C(1000003);
	for (unsigned i = 0; i < count; i++) {
		end = put_any_insn(end);
	}
	PUT(end, HLT);
	set_up(n);
	run(CODE);

	struct result ran = result_now();

	set_up(n);
	vm.cpu.rip = CODE;
	for (unsigned i = 0; vm.cpu.activity == HK_CPU_RUNNING && i < STEPS; i++) {
		hk_cpu_step(&vm.cpu);
	}

	struct result stepped = result_now();

	*ret_end = end;
	return memcmp(&ran, &stepped, sizeof(ran)) == 0;
}

/*
 * What runs are spared (flags that nobody sees, compares apart from their branches) makes no
 * difference.
 */
static void the_same_as_one_by_one(void **state)
{
	enum { PROGRAMS = 3000 };

	(void)state;
	for (unsigned n = 0; n < PROGRAMS; n++) {
		unsigned most = 1 + n % MAX_INSNS;
		unsigned count = 1;
		uint64_t end;

		if (is_same(n, most, &end)) {
			continue;
		}
		while (count < most && is_same(n, count, &end)) {
			count++;
		}
		print_error("program %u:", n);
		for (uint64_t at = CODE; at < end; at++) {
			print_error(" %02x", (unsigned)vm_peek(at, 1));
		}
		print_error("\n");
		fail();
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		VM_TEST(the_next_instruction),
		VM_TEST(a_loop_that_changes_itself),
		VM_TEST(lengths_change),
		VM_TEST(another_page),
		VM_TEST(through_another_address),
		VM_TEST(by_a_store_over_two_pages),
		VM_TEST(by_string_and_locked_stores),
		VM_TEST(by_a_device),
		VM_TEST(by_the_page_walk),
		VM_TEST(by_another_cpu),
		VM_TEST(another_frame),
		VM_TEST(another_large_frame),
		VM_TEST(another_frame_without_a_flush),
		VM_TEST(a_frame_at_two_addresses),
		VM_TEST(an_instruction_over_two_pages),
		VM_TEST(modes_share_a_page),
		VM_TEST(runs_of_all_lengths),
		VM_TEST(much_code),
		VM_TEST(much_dropped_code),
		VM_TEST(generations_start_anew),
		VM_TEST(the_same_as_one_by_one),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
