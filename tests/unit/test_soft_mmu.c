/* SPDX-License-Identifier: ISC */
/*
 * The software CPU's view of memory: page tables of all kinds, what they allow to whom, accessed
 * and dirty bits, what the TLB may remember and what it must forget; accesses over two pages and
 * outside RAM; breakpoints.
 *
 * Source: Intel SDM vol. 3, chapter 4 and 17.2.
 */
#include "soft_vm.h"

#include "engine/soft/code.h"

enum {
	P = 1 << 0,
	W = 1 << 1,
	U = 1 << 2,
	A = 1 << 5,
	D = 1 << 6,
	LARGE = 1 << 7,
	G = 1 << 8,
};
#define NX (UINT64_C(1) << 63)

enum {
	PF_PRESENT = 1 << 0,
	PF_WRITE = 1 << 1,
	PF_USER = 1 << 2,
	PF_RESERVED = 1 << 3,
	PF_FETCH = 1 << 4,
};

/* Tables of the second GiB, in which tests map what they like; page VA + n is in PT entry n. */
enum { PD_TEST = 0x60000, PT_TEST = 0x61000, FRAME = 0x200000, FRAME_2 = 0x201000 };
#define VA UINT64_C(0x40000000)

static void map(unsigned page, uint64_t entry)
{
	vm_poke(PT_TEST + 8 * page, entry, 8);
}

/* In long mode, with one page of what @entry allows at VA. */
static void start(unsigned code, uint64_t entry)
{
	vm_start_long(code);
	vm_poke(PDPT + 8, PD_TEST | P | W | U, 8);
	vm_poke(PD_TEST, PT_TEST | P | W | U, 8);
	map(0, entry);
}

static bool load(uint64_t va)
{
	uint8_t byte;

	vm.cpu.event = (struct hk_cpu_event){0};
	return hk_load(&vm.cpu, va, &byte, 1);
}

static bool store(uint64_t va)
{
	uint8_t byte = 0x5a;

	vm.cpu.event = (struct hk_cpu_event){0};
	return hk_store(&vm.cpu, va, &byte, 1);
}

static bool fetch(uint64_t va)
{
	uint8_t byte;

	vm.cpu.event = (struct hk_cpu_event){0};
	return hk_fetch_bytes(&vm.cpu, va, &byte, 1) == 1;
}

static void assert_page_fault(uint64_t va, uint32_t code)
{
	assert_true(vm.cpu.event.pending);
	assert_int_equal(vm.cpu.event.vector, HK_VECTOR_PF);
	assert_int_equal(vm.cpu.event.code, code);
	assert_int_equal(vm.cpu.event.cr2, va);
	vm.cpu.event.pending = false;
}

/* ---- What is allowed ---- */

/* All of it, against the rules of the manual written down once more (4.6.1). */
static void every_combination_of_rights(void **state)
{
	(void)state;
	for (unsigned n = 0; n < 1 << 12; n++) {
		bool user = (n & 1) != 0, wp = (n & 2) != 0, smep = (n & 4) != 0,
		     smap = (n & 8) != 0;
		bool ac = (n & 16) != 0, nxe = (n & 32) != 0, pd_w = (n & 64) != 0;
		bool pd_u = (n & 128) != 0;
		uint64_t leaf = FRAME | P | ((n & 256) != 0 ? W : 0) | ((n & 512) != 0 ? U : 0) |
			((n & 1024) != 0 && nxe ? NX : 0);
		bool pd_nx = (n & 2048) != 0 && nxe;

		start(user ? USER_CODE : KERNEL_CODE, leaf);
		vm_poke(PD_TEST, PT_TEST | P | (pd_w ? W : 0) | (pd_u ? U : 0) | (pd_nx ? NX : 0),
			8);
		vm.cpu.cr0 = (vm.cpu.cr0 & ~HK_CR0_WP) | (wp ? HK_CR0_WP : 0);
		vm.cpu.cr4 |= (smep ? HK_CR4_SMEP : 0) | (smap ? HK_CR4_SMAP : 0);
		vm.cpu.efer &= nxe ? UINT64_MAX : ~HK_EFER_NXE;
		hk_rflags_set(&vm.cpu, HK_FLAG_FIXED | (ac ? HK_FLAG_AC : 0));
		hk_cpu_flushed(&vm.cpu);

		bool is_user = (leaf & U) != 0 && pd_u;
		bool writable = (leaf & W) != 0 && pd_w;
		bool nx = (leaf & NX) != 0 || pd_nx;
		bool reaches = user ? is_user : !is_user || !smap || ac;
		bool may_fetch = !nx && (user ? is_user : !is_user || !smep);
		uint32_t code = PF_PRESENT | (user ? PF_USER : 0);

		/* Twice: from the tables, and from the TLB. */
		for (unsigned again = 0; again < 2; again++) {
			assert_int_equal(load(VA), reaches);
			if (!reaches) {
				assert_page_fault(VA, code);
			}
			assert_int_equal(store(VA), reaches && (writable || (!user && !wp)));
			if (vm.cpu.event.pending) {
				assert_page_fault(VA, code | PF_WRITE);
			}
			assert_int_equal(fetch(VA), may_fetch);
			if (!may_fetch) {
				assert_page_fault(VA, code | (smep || nxe ? PF_FETCH : 0));
			}
		}
	}
}

static void the_cpus_own_accesses_are_a_supervisors(void **state)
{
	uint64_t value;

	(void)state;
	start(USER_CODE, FRAME | P | W);
	assert_false(load(VA));
	assert_true(hk_sys_load(&vm.cpu, VA, &value, 8));
	assert_true(hk_sys_store(&vm.cpu, VA, &value, 8));
	assert_false(load(VA));
	/* Not even AC lets them touch user pages under SMAP. */
	start(KERNEL_CODE, FRAME | P | W | U);
	vm.cpu.cr4 |= HK_CR4_SMAP;
	hk_rflags_set(&vm.cpu, HK_FLAG_FIXED | HK_FLAG_AC);
	hk_cpu_flushed(&vm.cpu);
	assert_true(load(VA));
	assert_false(hk_sys_load(&vm.cpu, VA, &value, 8));
	assert_page_fault(VA, PF_PRESENT);
}

static void not_present_at_any_level(void **state)
{
	static const hk_gpa entries[] = {PML4, PDPT + 8, PD_TEST, PT_TEST};

	(void)state;
	for (unsigned i = 0; i < HK_ARRAY_SIZE(entries); i++) {
		start(USER_CODE, FRAME | P | W | U);
		vm_poke(entries[i], ~(uint64_t)P, 8); /* nothing else counts then */
		assert_false(load(VA + 5));
		assert_page_fault(VA + 5, PF_USER);
		assert_false(store(VA + 5));
		assert_page_fault(VA + 5, PF_USER | PF_WRITE);
		assert_false(fetch(VA + 5));
		assert_page_fault(VA + 5, PF_USER | PF_FETCH);
	}
}

static void assert_reserved(hk_gpa entry, uint64_t bits)
{
	uint64_t was = vm_peek(entry, 8);

	vm_poke(entry, was | bits, 8);
	hk_tlb_flush(&vm.cpu, true);
	assert_false(load(VA));
	assert_page_fault(VA, PF_PRESENT | PF_RESERVED);
	vm_poke(entry, was, 8);
	hk_tlb_flush(&vm.cpu, true);
	assert_true(load(VA));
}

static void reserved_bits(void **state)
{
	static const hk_gpa entries[] = {PML4, PDPT + 8, PD_TEST, PT_TEST};

	(void)state;
	start(KERNEL_CODE, FRAME | P | W);
	for (unsigned i = 0; i < HK_ARRAY_SIZE(entries); i++) {
		for (unsigned bit = 39; bit < 52; bit++) {
			assert_reserved(entries[i], UINT64_C(1) << bit);
		}
		vm_poke(entries[i], vm_peek(entries[i], 8) | UINT64_C(0x7ff0000000000e00), 8);
		hk_tlb_flush(&vm.cpu, true);
		assert_true(load(VA)); /* these are software's */
	}
	assert_reserved(PML4, LARGE);
	vm.cpu.efer &= ~HK_EFER_NXE;
	for (unsigned i = 0; i < HK_ARRAY_SIZE(entries); i++) {
		assert_reserved(entries[i], NX);
	}
	/* Large pages: the bits below their size, but for PAT. */
	vm_poke(PD_TEST, 0x200000 | P | W | LARGE | 1 << 12, 8);
	hk_tlb_flush(&vm.cpu, true);
	for (unsigned bit = 13; bit < 21; bit++) {
		assert_reserved(PD_TEST, UINT64_C(1) << bit);
	}
	vm_poke(PDPT + 8, P | W | LARGE | 1 << 12, 8);
	hk_tlb_flush(&vm.cpu, true);
	for (unsigned bit = 13; bit < 30; bit++) {
		assert_reserved(PDPT + 8, UINT64_C(1) << bit);
	}
}

static void addresses_that_are_not_canonical(void **state)
{
	(void)state;
	start(KERNEL_CODE, FRAME | P | W);
	assert_false(load(NOT_CANONICAL));
	vm_assert_fault(HK_VECTOR_GP, 0);
	assert_false(store(UINT64_C(0xffff7fffffffffff)));
	vm_assert_fault(HK_VECTOR_GP, 0);
	/* Through the stack segment it is #SS. */
	vm.cpu.gpr[HK_RSP] = NOT_CANONICAL + 8;
	RUN(0x50);
	vm_assert_fault(HK_VECTOR_SS, 0);
	vm.cpu.gpr[HK_RBX] = NOT_CANONICAL;
	RUN(0x8b, 0x03);
	vm_assert_fault(HK_VECTOR_GP, 0);
}

/* ---- Where pages lead ---- */

static void large_pages_lead_to_their_parts(void **state)
{
	(void)state;
	start(KERNEL_CODE, 0);
	vm_poke(PD_TEST + 8, 0x400000 | P | W | LARGE, 8);
	vm_poke(0x412345, 0xaa, 1);
	vm_poke(0x5fffff, 0xbb, 1);

	uint8_t byte;

	assert_true(hk_load(&vm.cpu, VA + 0x212345, &byte, 1));
	assert_int_equal(byte, 0xaa);
	assert_true(hk_load(&vm.cpu, VA + 0x3fffff, &byte, 1));
	assert_int_equal(byte, 0xbb);
	assert_int_equal(vm_peek(PD_TEST + 8, 1) & (A | D), A);
	assert_true(store(VA + 0x3fffff));
	assert_int_equal(vm_peek(PD_TEST + 8, 1) & (A | D), A | D);
	assert_int_equal(vm_peek(0x5fffff, 1), 0x5a);
}

static void start_protected(uint64_t cr4)
{
	vm_start_protected(KERNEL_CODE_32);
	vm.cpu.cr4 = cr4;
	vm.cpu.cr0 |= HK_CR0_PG | HK_CR0_WP;
}

static void two_levels(void **state)
{
	(void)state;
	start_protected(HK_CR4_PSE);
	vm.cpu.cr3 = PD_TEST;
	vm_poke(PD_TEST + 4 * 0x200, PT_TEST | P | W | U, 4);
	vm_poke(PT_TEST + 4 * 0x123, FRAME | P, 4);
	vm_poke(PD_TEST + 4 * 0x201, 0x400000 | P | W | LARGE, 4);
	hk_cpu_flushed(&vm.cpu);
	vm_poke(FRAME + 0x456, 0x77, 1);

	uint8_t byte;

	assert_true(hk_load(&vm.cpu, 0x80123456, &byte, 1));
	assert_int_equal(byte, 0x77);
	assert_false(store(0x80123456));
	assert_page_fault(0x80123456, PF_PRESENT | PF_WRITE);
	assert_true(store(0x80400000 + 0x3f0007));
	assert_int_equal(vm_peek(0x400000 + 0x3f0007, 1), 0x5a);
	assert_int_equal(vm_peek(PD_TEST + 4 * 0x201, 4), 0x400000 | P | W | LARGE | A | D);
	assert_int_equal(vm_peek(PD_TEST + 4 * 0x200, 4) & (A | D), A);
	assert_int_equal(vm_peek(PT_TEST + 4 * 0x123, 4) & (A | D), A);
	/* Bit 21 of a large page is reserved; without PSE, bit 7 means nothing. */
	vm_poke(PD_TEST + 4 * 0x201, 0x600000 | P | W | LARGE, 4);
	hk_tlb_flush(&vm.cpu, true);
	assert_false(load(0x80400000));
	assert_page_fault(0x80400000, PF_PRESENT | PF_RESERVED);
	assert_true(hk_cpu_set_cr4(&vm.cpu, 0));
	vm_poke(PD_TEST + 4 * 0x201, PT_TEST | P | W | LARGE, 4);
	assert_true(load(0x80400000 + 0x123456));
	/* Neither NX nor SMEP: a fetch is like a read. */
	assert_false(fetch(0x90000000));
	assert_page_fault(0x90000000, 0);
}

static void three_levels(void **state)
{
	enum { PDPT_TEST = 0x63020 }; /* aligned to 32 bytes only */

	(void)state;
	start_protected(HK_CR4_PAE);
	vm.cpu.efer = HK_EFER_NXE;
	vm.cpu.cr3 = PDPT_TEST;
	vm_poke(PDPT_TEST + 8 * 3, PD_TEST | P, 8);
	vm_poke(PD_TEST + 8 * 2, PT_TEST | P | W | U, 8);
	vm_poke(PD_TEST + 8 * 3, 0x600000 | P | W | LARGE | NX, 8);
	vm_poke(PT_TEST + 8 * 5, FRAME | P | W | NX, 8);
	hk_cpu_flushed(&vm.cpu);

	uint64_t va = UINT64_C(0xc0405000);

	assert_true(store(va + 7));
	assert_int_equal(vm_peek(FRAME + 7, 1), 0x5a);
	assert_false(fetch(va));
	assert_page_fault(va, PF_PRESENT | PF_FETCH);
	assert_true(store(UINT64_C(0xc0600000) + 0x1ffff0));
	assert_int_equal(vm_peek(0x7ffff0, 1), 0x5a);
	assert_false(load(0x40000000));
	assert_page_fault(0x40000000, 0);
	/* The top entries have neither rights nor an accessed bit. */
	assert_int_equal(vm_peek(PDPT_TEST + 8 * 3, 8), PD_TEST | P);
	vm_poke(PDPT_TEST + 8 * 3, PD_TEST | P | W, 8);
	hk_tlb_flush(&vm.cpu, true);
	assert_false(load(va));
	assert_page_fault(va, PF_PRESENT | PF_RESERVED);
}

static void tables_outside_ram_hold_nothing(void **state)
{
	(void)state;
	start(KERNEL_CODE, FRAME | P | W);
	vm_poke(PD_TEST, HK_MMIO_HOLE_START | P | W | U, 8);
	assert_false(load(VA));
	assert_page_fault(VA, 0);
	vm_poke(PD_TEST, (vm.mem.ram_bytes) | P | W | U, 8);
	assert_false(load(VA));
	vm.cpu.cr3 = UINT64_C(0x7ffffff000);
	hk_tlb_flush(&vm.cpu, true);
	assert_false(load(VA));
}

/* ---- Accessed and dirty bits ---- */

static void accessed_and_dirty_bits(void **state)
{
	(void)state;
	start(KERNEL_CODE, FRAME | P | W);
	assert_true(load(VA));
	assert_int_equal(vm_peek(PML4, 8) & A, A);
	assert_int_equal(vm_peek(PDPT + 8, 8) & A, A);
	assert_int_equal(vm_peek(PD_TEST, 8) & (A | D), A);
	assert_int_equal(vm_peek(PT_TEST, 8), FRAME | P | W | A);
	assert_true(store(VA)); /* the TLB has it, but not for writing */
	assert_int_equal(vm_peek(PT_TEST, 8), FRAME | P | W | A | D);
	/* A fault sets none in the entry that forbids it. */
	map(1, FRAME_2 | P);
	assert_false(store(VA + 4096));
	assert_int_equal(vm_peek(PT_TEST + 8, 8), FRAME_2 | P);
	/* Those of an entry that is cleared come back when the TLB has forgotten. */
	vm_poke(PT_TEST, FRAME | P | W, 8);
	hk_tlb_flush_page(&vm.cpu, VA);
	assert_true(store(VA));
	assert_int_equal(vm_peek(PT_TEST, 8), FRAME | P | W | A | D);
	/* Supervisors write read-only pages without WP: dirty, too. */
	vm.cpu.cr0 &= ~HK_CR0_WP;
	assert_true(store(VA + 4096));
	assert_int_equal(vm_peek(PT_TEST + 8, 8), FRAME_2 | P | A | D);
}

/* ---- The TLB ---- */

static void assert_reads(uint64_t va, unsigned value)
{
	uint8_t byte = 0;

	assert_true(hk_load8(&vm.cpu, va, &byte));
	assert_int_equal(byte, value);
}

static void run_at_kernel(const uint8_t *bytes, unsigned len)
{
	vm_run_bytes(bytes, len);
	vm_assert_ran();
}

#define KERNEL_RUNS(...) \
	run_at_kernel((const uint8_t[]){__VA_ARGS__}, sizeof((const uint8_t[]){__VA_ARGS__}))

static void invlpg_forgets_one_page(void **state)
{
	(void)state;
	start(KERNEL_CODE, FRAME | P | W | G);
	vm.cpu.cr4 |= HK_CR4_PGE;
	map(1, FRAME_2 | P | W);
	vm_poke(FRAME, 0x11, 1);
	vm_poke(FRAME_2, 0x22, 1);
	assert_reads(VA, 0x11);
	assert_reads(VA + 4096, 0x22);
	map(0, FRAME_2 | P | W | G);
	vm.cpu.gpr[HK_RAX] = VA + 77;
	KERNEL_RUNS(0x0f, 0x01, 0x38); /* invlpg [rax] */
	assert_reads(VA, 0x22);
	map(0, 0);
	KERNEL_RUNS(0x0f, 0x01, 0x38);
	assert_false(load(VA));
}

/* However many parts of it the TLB has, and whichever INVLPG names. */
static void invlpg_forgets_large_pages(void **state)
{
	static const struct {
		hk_gpa entry;
		uint64_t from, to, offset;
	} cases[] = {
		{PD_TEST, 0x200000, 0x400000, 0},
		{PDPT + 8, 0, HK_MMIO_HOLE_START, 0x200000},
	};

	(void)state;
	for (unsigned i = 0; i < HK_ARRAY_SIZE(cases); i++) {
		start(KERNEL_CODE, 0);
		vm_poke(cases[i].entry, cases[i].from | P | W | LARGE | G, 8);
		vm.cpu.cr4 |= HK_CR4_PGE;
		uint64_t one = VA + cases[i].offset + 0x5000;
		uint64_t other = VA + cases[i].offset + 0x1ff000;

		vm_poke(0x205000, 0x11, 1);
		vm_poke(0x3ff000, 0x12, 1);
		assert_reads(one, 0x11);
		assert_reads(other, 0x12);
		vm_poke(cases[i].entry, cases[i].to | P | W | LARGE | G, 8);
		vm_poke(0x405000, 0x33, 1);
		vm_poke(0x5ff000, 0x34, 1);
		vm.cpu.gpr[HK_RAX] = VA + 0x9000;
		KERNEL_RUNS(0x0f, 0x01, 0x38);
		assert_reads(one, i == 0 ? 0x33 : 0xff);
		assert_reads(other, i == 0 ? 0x34 : 0xff);
		vm_teardown(NULL);
		vm_setup(NULL);
	}
}

static void loads_of_cr3_keep_global_pages(void **state)
{
	(void)state;
	start(KERNEL_CODE, FRAME | P | W | G);
	map(1, FRAME | P | W);
	vm.cpu.cr4 |= HK_CR4_PGE;
	vm_poke(FRAME, 0x11, 1);
	vm_poke(FRAME_2, 0x22, 1);
	assert_reads(VA, 0x11);
	assert_reads(VA + 4096, 0x11);
	map(0, FRAME_2 | P | W | G);
	map(1, FRAME_2 | P | W);
	vm.cpu.gpr[HK_RAX] = PML4;
	KERNEL_RUNS(0x0f, 0x22, 0xd8); /* mov cr3, rax */
	assert_reads(VA, 0x11);
	assert_reads(VA + 4096, 0x22);
	/* A change of CR4.PGE is for all. */
	vm.cpu.gpr[HK_RAX] = vm.cpu.cr4 & ~HK_CR4_PGE;
	KERNEL_RUNS(0x0f, 0x22, 0xe0);
	assert_reads(VA, 0x22);
	/* Without PGE nothing is global. */
	map(0, FRAME | P | W | G);
	vm.cpu.gpr[HK_RAX] = PML4;
	KERNEL_RUNS(0x0f, 0x22, 0xd8);
	assert_reads(VA, 0x11);
}

/* More pages than the log of those that are not global holds. */
static void loads_of_cr3_forget_many_pages(void **state)
{
	enum { PAGES = 512 };

	(void)state;
	start(KERNEL_CODE, FRAME | P | W);
	for (unsigned pages = 1; pages <= PAGES; pages *= 8) {
		vm_poke(FRAME, 0x11, 1);
		vm_poke(FRAME_2, 0x22, 1);
		for (unsigned i = 0; i < pages; i++) {
			map(i, FRAME | P | W);
		}
		assert_true(hk_cpu_set_cr3(&vm.cpu, PML4));
		for (unsigned i = 0; i < pages; i++) {
			assert_reads(VA + i * 4096, 0x11);
			map(i, FRAME_2 | P | W);
		}
		assert_true(hk_cpu_set_cr3(&vm.cpu, PML4));
		for (unsigned i = 0; i < pages; i++) {
			assert_reads(VA + i * 4096, 0x22);
		}
	}
}

static void contexts(void **state)
{
	(void)state;
	start(KERNEL_CODE, FRAME | P | W);
	vm.cpu.gpr[HK_RAX] = vm.cpu.cr4 | HK_CR4_PCIDE;
	KERNEL_RUNS(0x0f, 0x22, 0xe0);
	vm_poke(FRAME, 0x11, 1);
	vm_poke(FRAME_2, 0x22, 1);
	assert_reads(VA, 0x11);
	map(0, FRAME_2 | P | W);
	/* Another context has no translations of this one. */
	vm.cpu.gpr[HK_RAX] = PML4 | 5;
	KERNEL_RUNS(0x0f, 0x22, 0xd8);
	assert_int_equal(vm.cpu.cr3, PML4 | 5);
	assert_reads(VA, 0x22);
	/* INVPCID of one address of this context */
	map(0, FRAME | P | W);
	vm_poke(DATA, 5, 8);
	vm_poke(DATA + 8, VA, 8);
	vm.cpu.gpr[HK_RAX] = 0;
	vm.cpu.gpr[HK_RBX] = DATA;
	KERNEL_RUNS(0x66, 0x0f, 0x38, 0x82, 0x03);
	assert_reads(VA, 0x11);
}

/* Entries of one ring serve no other. */
static void rings_have_their_own_entries(void **state)
{
	(void)state;
	start(KERNEL_CODE, FRAME | P | W);
	assert_true(store(VA));
	vm.cpu.seg[HK_SS].attr |= 0x60;
	hk_cpu_mode_changed(&vm.cpu);
	assert_int_equal(vm.cpu.cpl, 3);
	assert_false(load(VA));
	assert_page_fault(VA, PF_PRESENT | PF_USER);
}

/* ---- Two pages, and no RAM ---- */

static void both_pages_or_none(void **state)
{
	(void)state;
	start(KERNEL_CODE, FRAME | P | W);
	vm_poke(FRAME + 4088, UINT64_C(0x1111111111111111), 8);
	for (unsigned len = 2; len <= 16; len *= 2) {
		for (unsigned first = 1; first < len; first++) {
			uint8_t bytes[16] = {0};

			assert_false(hk_store(&vm.cpu, VA + 4096 - first, bytes, len));
			assert_page_fault(VA + 4096, PF_WRITE);
			assert_int_equal(vm_peek(FRAME + 4088, 8), UINT64_C(0x1111111111111111));
		}
	}
	/* The first one faults first. */
	map(0, 0);
	hk_tlb_flush(&vm.cpu, true);
	assert_false(store(VA + 4095));
	vm.cpu.gpr[HK_RBX] = VA + 4094;
	RUN(0x48, 0x89, 0x03);
	assert_page_fault(VA + 4094, PF_WRITE);
	/* Two frames that do not stand side by side */
	map(0, FRAME_2 | P | W);
	map(1, FRAME | P | W);
	vm.cpu.gpr[HK_RAX] = UINT64_C(0x8877665544332211);
	RUN(0x48, 0x89, 0x03);
	vm_assert_ran();
	assert_int_equal(vm_peek(FRAME_2 + 4094, 2), 0x2211);
	assert_int_equal(vm_peek(FRAME, 6), UINT64_C(0x887766554433));
	RUN(0x48, 0x8b, 0x0b);
	vm_assert_ran();
	assert_int_equal(vm.cpu.gpr[HK_RCX], UINT64_C(0x8877665544332211));
	/* A locked one */
	RUN(0xf0, 0x48, 0xff, 0x03);
	vm_assert_ran();
	assert_int_equal(vm_peek(FRAME_2 + 4094, 2), 0x2212);
	/* ... whose second page is read-only changes nothing. */
	map(1, FRAME | P);
	hk_tlb_flush(&vm.cpu, true);
	RUN(0xf0, 0x48, 0xff, 0x03);
	assert_page_fault(VA + 4096, PF_PRESENT | PF_WRITE);
	assert_int_equal(vm_peek(FRAME_2 + 4094, 2), 0x2212);
}

static void the_address_space_wraps(void **state)
{
	uint8_t bytes[4] = {1, 2, 3, 4};

	(void)state;
	start_protected(0);
	vm.cpu.cr0 &= ~HK_CR0_PG;
	hk_cpu_flushed(&vm.cpu);
	assert_true(hk_store(&vm.cpu, 0xfffffffe, bytes, 4));
	assert_int_equal(vm_peek(0, 2), 0x0403);
}

static void what_is_no_ram_is_a_devices(void **state)
{
	(void)state;
	start(KERNEL_CODE, UINT64_C(0xd0000000) | P | W);
	map(1, FRAME | P | W);
	vm_poke(FRAME, 0x22, 1);
	assert_reads(VA, 0xff);
	assert_true(store(VA));
	vm.cpu.gpr[HK_RBX] = VA + 4095;
	RUN(0x66, 0x8b, 0x03); /* mov ax, [rbx] */
	vm_assert_ran();
	assert_int_equal(vm.cpu.gpr[HK_RAX] & 0xffff, 0x22ff);
	RUN(0xf0, 0x48, 0xff, 0x03); /* lock inc qword [rbx] */
	vm_assert_ran();
	assert_int_equal(vm_peek(FRAME, 1), 0x23);
	/* No code there */
	vm.cpu.rip = VA;
	vm.cpu.event = (struct hk_cpu_event){0};
	hk_cpu_step_raw(&vm.cpu);
	vm_assert_fault(HK_VECTOR_UD, 0);
}

/* ---- Breakpoints ---- */

enum { ON_CODE = 0, ON_WRITE = 1, ON_ACCESS = 3 };

static void set_breakpoint(unsigned n, uint64_t va, unsigned kind, unsigned len_field)
{
	vm.cpu.dr[n] = va;
	vm.cpu.dr7 = 0x400 | 2u << (2 * n) | kind << (16 + 4 * n) | len_field << (18 + 4 * n);
	hk_tlb_flush(&vm.cpu, true);
}

/* #DB came after the instruction, with these bits of DR6. */
static void assert_debug(uint64_t dr6)
{
	assert_true(vm.cpu.event.pending);
	assert_int_equal(vm.cpu.event.vector, HK_VECTOR_DB);
	assert_int_equal(vm.cpu.event.dr6, dr6);
	vm.cpu.event.pending = false;
}

static void data_breakpoints(void **state)
{
	static const unsigned lengths[4] = {1, 2, 8, 4};

	(void)state;
	for (unsigned field = 0; field < 4; field++) {
		for (unsigned at = 0; at < 32; at++) {
			start(KERNEL_CODE, FRAME | P | W);
			set_breakpoint(field, VA + 16, ON_WRITE, field);
			vm.cpu.gpr[HK_RBX] = VA + at;

			bool hit = at < 16 + lengths[field] && at + 4 > 16;

			RUN(0x8b, 0x03); /* mov eax, [rbx] */
			vm_assert_ran();
			RUN(0x89, 0x03); /* mov [rbx], eax */
			assert_int_equal(vm.cpu.event.pending, hit);
			if (hit) {
				assert_debug(1u << field);
			}
			set_breakpoint(field, VA + 16, ON_ACCESS, field);
			RUN(0x8b, 0x03);
			assert_int_equal(vm.cpu.event.pending, hit);
			assert_int_equal(vm.cpu.rip, CODE + 6);
		}
	}
}

static void breakpoints_move(void **state)
{
	(void)state;
	start(KERNEL_CODE, FRAME | P | W);
	map(1, FRAME_2 | P | W);
	assert_true(store(VA));
	set_breakpoint(0, VA + 4096, ON_WRITE, 0);
	assert_true(store(VA));
	vm.cpu.gpr[HK_RAX] = VA;
	RUN(0x0f, 0x23, 0xc0); /* mov dr0, rax: the TLB has its page */
	vm_assert_ran();
	RUN(0x88, 0x00); /* mov [rax], al */
	assert_debug(1);
	/* One that faults hits nothing. */
	map(0, FRAME | P);
	hk_tlb_flush(&vm.cpu, true);
	RUN(0x88, 0x00);
	assert_page_fault(VA, PF_PRESENT | PF_WRITE);
}

static void code_breakpoints(void **state)
{
	(void)state;
	start(KERNEL_CODE, FRAME | P | W);
	set_breakpoint(2, CODE, ON_CODE, 0);
	RUN(0x90);
	assert_debug(1 << 2);
	assert_int_equal(vm.cpu.rip, CODE);
	hk_rflags_set(&vm.cpu, HK_FLAG_FIXED | HK_FLAG_RF);
	RUN(0x90);
	vm_assert_ran();
	assert_int_equal(vm.cpu.rip, CODE + 1);
	assert_int_equal(hk_rflags_get(&vm.cpu) & HK_FLAG_RF, 0);
	/* The frame has RF set, no: a code breakpoint's handler decides. DR6 has its bit. */
	vm.cpu.rip = CODE;
	hk_cpu_step(&vm.cpu);
	vm_assert_entered(HK_VECTOR_DB);
	assert_int_equal(vm.cpu.dr6 & 0xf, 1 << 2);
	assert_int_equal(vm_stack_word(0, 8), CODE);
}

static void single_steps(void **state)
{
	(void)state;
	start(KERNEL_CODE, FRAME | P | W);
	hk_rflags_set(&vm.cpu, HK_FLAG_FIXED | HK_FLAG_TF);
	RUN(0x90);
	assert_debug(1 << 14);
	assert_int_equal(vm.cpu.rip, CODE + 1);
	/* REP stops after each element. */
	vm.cpu.gpr[HK_RCX] = 3;
	vm.cpu.gpr[HK_RDI] = VA;
	for (unsigned left = 3; left-- > 0;) {
		vm.cpu.rip = CODE;
		RUN(0xf3, 0xaa);
		assert_debug(1 << 14);
		assert_int_equal(vm.cpu.gpr[HK_RCX], left);
		assert_int_equal(vm.cpu.rip, left > 0 ? CODE : CODE + 2);
	}
	/* A fault comes alone; POPF that sets TF is not traced itself. */
	RUN(0x0f, 0x0b);
	vm_assert_fault(HK_VECTOR_UD, 0);
	hk_rflags_set(&vm.cpu, HK_FLAG_FIXED);
	vm.cpu.gpr[HK_RSP] = STACK_NOW;
	vm_poke(STACK_NOW, HK_FLAG_FIXED | HK_FLAG_TF, 8);
	RUN(0x9d);
	vm_assert_ran();
	RUN(0x90);
	assert_debug(1 << 14);
}

/* MOV SS holds back the trap after it; SYSCALL is trapped as its new TF says. */
static void steps_that_are_not_trapped(void **state)
{
	(void)state;
	start(KERNEL_CODE, FRAME | P | W);
	vm.cpu.gpr[HK_RAX] = KERNEL_DATA;
	hk_rflags_set(&vm.cpu, HK_FLAG_FIXED | HK_FLAG_TF);
	RUN(0x8e, 0xd0); /* mov ss, eax */
	vm_assert_ran();
	RUN(0x90);
	assert_debug(1 << 14);

	for (unsigned masked = 0; masked < 2; masked++) {
		vm_start_long(USER_CODE);
		vm.cpu.star = (uint64_t)KERNEL_CODE << 32;
		vm.cpu.lstar = CODE + 0x800;
		vm.cpu.syscall_mask = masked != 0 ? HK_FLAG_TF : 0;
		hk_rflags_set(&vm.cpu, HK_FLAG_FIXED | HK_FLAG_TF);
		RUN(0x0f, 0x05);
		assert_int_equal(vm.cpu.rip, CODE + 0x800);
		if (masked != 0) {
			vm_assert_ran();
		} else {
			assert_debug(1 << 14);
		}
	}
}

/* A trap wakes a HLT. */
static void hlt_is_stepped_over(void **state)
{
	static const uint8_t handler[] = {0xb0, 7, 0xf4}; /* mov al, 7; hlt */

	(void)state;
	start(KERNEL_CODE, FRAME | P | W);
	assert_int_equal(hk_mem_write(&vm.mem, HANDLERS + HK_VECTOR_DB, handler, 3), 0);
	vm_poke(CODE, 0xf4, 1);
	vm.cpu.gpr[HK_RAX] = 0;
	vm.cpu.rip = CODE;
	hk_rflags_set(&vm.cpu, HK_FLAG_FIXED | HK_FLAG_TF);
	assert_int_equal(hk_cpu_run(&vm.cpu), HK_CPU_IDLE);
	assert_int_equal(vm.cpu.gpr[HK_RAX], 7);
}

/* However many pages came into the TLB since the last flush. */
static void a_flush_after_many_fills(void **state)
{
	uint8_t byte;

	(void)state;
	start(KERNEL_CODE, FRAME | P | W);
	hk_tlb_flush_page(&vm.cpu, VA);
	vm.cpu.tlb_log[HK_TLB_KERNEL].count = UINT32_MAX;
	assert_true(hk_load8(&vm.cpu, VA, &byte));
	assert_non_null(hk_tlb_read(&vm.cpu, VA, 1));
	hk_tlb_flush(&vm.cpu, false);
	assert_null(hk_tlb_read(&vm.cpu, VA, 1));
}

/* Breakpoints under hk_cpu_run(), with the handler's HLT as the end. */
static void the_run_loop_sees_breakpoints(void **state)
{
	static const uint8_t code[] = {0x90, 0x89, 0x03, 0x90, 0x90, 0xf4};

	(void)state;
	start(KERNEL_CODE, FRAME | P | W);
	vm_poke(HANDLERS + HK_VECTOR_DB, 0xf4, 1);
	assert_true(store(VA));
	vm.cpu.gpr[HK_RBX] = VA;
	vm.cpu.dr[1] = VA;
	vm.cpu.dr7 = 0x400 | 1 << 2 | ON_WRITE << 20;
	assert_int_equal(hk_mem_write(&vm.mem, CODE, code, sizeof(code)), 0);
	assert_int_equal(hk_cpu_run(&vm.cpu), HK_CPU_IDLE);
	assert_int_equal(vm.cpu.rip, HANDLERS + HK_VECTOR_DB + 1);
	assert_int_equal(vm_stack_word(0, 8), CODE + 3);
	assert_int_equal(vm.cpu.dr6 & 0xf, 1 << 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		VM_TEST(every_combination_of_rights),
		VM_TEST(the_cpus_own_accesses_are_a_supervisors),
		VM_TEST(not_present_at_any_level),
		VM_TEST(reserved_bits),
		VM_TEST(addresses_that_are_not_canonical),
		VM_TEST(large_pages_lead_to_their_parts),
		VM_TEST(two_levels),
		VM_TEST(three_levels),
		VM_TEST(tables_outside_ram_hold_nothing),
		VM_TEST(accessed_and_dirty_bits),
		VM_TEST(invlpg_forgets_one_page),
		VM_TEST(invlpg_forgets_large_pages),
		VM_TEST(loads_of_cr3_keep_global_pages),
		VM_TEST(loads_of_cr3_forget_many_pages),
		VM_TEST(contexts),
		VM_TEST(rings_have_their_own_entries),
		VM_TEST(both_pages_or_none),
		VM_TEST(the_address_space_wraps),
		VM_TEST(what_is_no_ram_is_a_devices),
		VM_TEST(data_breakpoints),
		VM_TEST(breakpoints_move),
		VM_TEST(code_breakpoints),
		VM_TEST(single_steps),
		VM_TEST(steps_that_are_not_trapped),
		VM_TEST(hlt_is_stepped_over),
		VM_TEST(a_flush_after_many_fills),
		VM_TEST(the_run_loop_sees_breakpoints),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
