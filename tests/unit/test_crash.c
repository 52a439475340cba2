/* SPDX-License-Identifier: ISC */
/* The words for a CPU that gave up: RIP, its bytes through each kind of page tables, the dump. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>
#include <string.h>

#include "base/util.h"
#include "engine/engine_impl.h"
#include "machine/crash.h"

#define RAM_BYTES   (32 * HK_MIB)
#define PAGING      (UINT64_C(1) << 31)
#define PAE         (UINT64_C(1) << 5)
#define LA57        (UINT64_C(1) << 12)
#define LONG_ACTIVE (UINT64_C(1) << 10)
#define NO_EXEC     (UINT64_C(1) << 63)

enum {
	TABLE = 0x10000, /* tables follow each other from here, the top one first */
	CODE_PAGE = 0x200000,
	OTHER_PAGE = 0x203000,
	CODE_64 = 0xa09b, /* attributes of code segments */
	CODE_32 = 0xc09b,
	CODE_16 = 0x009b,
	PRESENT = 3,
	LARGE = 0x80,
};

/* An engine of one CPU that is only looked at. */
static struct hk_vcpu_state cpu;
static int state_result;
static struct hk_mem mem;

static int get_state(struct hk_vcpu *vcpu, struct hk_vcpu_state *state, struct hk_err *err)
{
	*state = cpu;
	return state_result;
}

static const struct hk_engine_ops ops = {.name = "still", .get_state = get_state};
static struct hk_engine engine = {.ops = &ops};
static struct hk_vcpu vcpu = {.engine = &engine, .index = 2};

static int setup(void **state)
{
	cpu = (struct hk_vcpu_state){.rip = CODE_PAGE, .cr3 = TABLE};
	cpu.seg[HK_CS].attr = CODE_32;
	state_result = 0;
	return hk_mem_create(&mem, RAM_BYTES, NULL);
}

static int teardown(void **state)
{
	hk_mem_finish(&mem);
	return 0;
}

static void poke(hk_gpa gpa, const void *bytes, size_t len)
{
	assert_int_equal(hk_mem_write(&mem, gpa, bytes, len), 0);
}

static void set_entry(unsigned table, unsigned index, uint64_t entry)
{
	poke(TABLE + 0x1000 * table + 8 * index, &entry, sizeof(entry));
}

static void set_short_entry(unsigned table, unsigned index, uint32_t entry)
{
	poke(TABLE + 0x1000 * table + 4 * index, &entry, sizeof(entry));
}

static void assert_line(const char *expected)
{
	struct hk_crash crash;
	char line[HK_CRASH_LINE];

	hk_crash_note(&crash, &vcpu, &mem);
	hk_crash_line(&crash, line);
	assert_string_equal(line, expected);
}

static const uint8_t ud2[16] = {0x0f, 0x0b, 0x90};
#define UD2_TEXT "0f 0b 90 00 00 00 00 00 00 00 00 00 00 00 00 00"

static void no_paging(void **state)
{
	poke(CODE_PAGE, ud2, sizeof(ud2));
	assert_line("at RIP 0x200000: " UD2_TEXT);
	cpu.seg[HK_CS].base = CODE_PAGE - 0x1000;
	cpu.rip = 0x1000;
	assert_line("at RIP 0x1000: " UD2_TEXT);
	/* Addresses of 32 bits wrap around. */
	cpu.seg[HK_CS].base = 0xfffff000;
	cpu.rip = CODE_PAGE + 0x1000;
	assert_line("at RIP 0x201000: " UD2_TEXT);
}

static void end_of_memory(void **state)
{
	cpu.rip = RAM_BYTES - 3;
	poke(cpu.rip, ud2, 3);
	assert_line("at RIP 0x1fffffd: 0f 0b 90");
	cpu.rip = RAM_BYTES;
	assert_line("at RIP 0x2000000, where no memory is mapped");
}

/* In the highest page that tables of @levels map, over the end of which nothing is mapped */
static void map_high(unsigned levels)
{
	unsigned level = 0;

	for (; level < levels - 1; level++) {
		set_entry(level, level == 0 && levels == 3 ? 3 : 511,
			(TABLE + 0x1000u * (level + 1)) |
				(levels == 3 && level == 0 ? 1 : PRESENT));
	}
	set_entry(level, 510, CODE_PAGE | PRESENT | NO_EXEC);
	set_entry(level, 511, OTHER_PAGE | PRESENT);
	cpu.cr0 = PAGING;
	poke(CODE_PAGE + 0xffe, ud2, 2);
	poke(OTHER_PAGE, ud2, sizeof(ud2));
}

static void four_levels(void **state)
{
	map_high(4);
	cpu.efer = LONG_ACTIVE;
	cpu.cr4 = PAE;
	cpu.seg[HK_CS].attr = CODE_64;
	cpu.rip = 0xffffffffffffeffe;
	assert_line("at RIP 0xffffffffffffeffe: "
		    "0f 0b 0f 0b 90 00 00 00 00 00 00 00 00 00 00 00");
	/* What is mapped no further ends there. */
	set_entry(3, 511, 0);
	assert_line("at RIP 0xffffffffffffeffe: 0f 0b");
	cpu.rip = 0xfffffffffffff000;
	assert_line("at RIP 0xfffffffffffff000, where no memory is mapped");
	/* Tables that are outside of memory */
	set_entry(1, 511, UINT64_C(0xffffffff000) | PRESENT);
	cpu.rip = 0xffffffffffffeffe;
	assert_line("at RIP 0xffffffffffffeffe, where no memory is mapped");
}

static void five_levels(void **state)
{
	map_high(5);
	cpu.efer = LONG_ACTIVE;
	cpu.cr4 = PAE | LA57;
	cpu.seg[HK_CS].attr = CODE_64;
	cpu.rip = 0xfffffffffffff000;
	assert_line("at RIP 0xfffffffffffff000: " UD2_TEXT);
}

static void large_pages(void **state)
{
	cpu.cr0 = PAGING;
	cpu.efer = LONG_ACTIVE;
	cpu.cr4 = PAE;
	cpu.seg[HK_CS].attr = CODE_64;
	set_entry(0, 0, (TABLE + 0x1000) | PRESENT);
	set_entry(1, 0, (TABLE + 0x2000) | PRESENT);
	set_entry(1, 1, PRESENT | LARGE); /* 1 GiB */
	set_entry(2, 3, CODE_PAGE | PRESENT | LARGE | NO_EXEC);
	poke(CODE_PAGE + 0x5678, ud2, sizeof(ud2));
	cpu.rip = 0x600000 + 0x5678;
	assert_line("at RIP 0x605678: " UD2_TEXT);
	cpu.rip = 0x40000000 + CODE_PAGE + 0x5678;
	assert_line("at RIP 0x40205678: " UD2_TEXT);
}

static void tables_of_32_bits(void **state)
{
	cpu.cr0 = PAGING;
	set_short_entry(0, 1023, (TABLE + 0x1000) | PRESENT);
	set_short_entry(1, 1023, CODE_PAGE | PRESENT);
	set_short_entry(0, 1, PRESENT | LARGE); /* 4 MiB */
	poke(CODE_PAGE + 0x10, ud2, sizeof(ud2));
	cpu.rip = 0xfffff010;
	assert_line("at RIP 0xfffff010: " UD2_TEXT);
	cpu.rip = 0x400000 + CODE_PAGE + 0x10;
	assert_line("at RIP 0x600010: " UD2_TEXT);
	cpu.rip = 0x800000;
	assert_line("at RIP 0x800000, where no memory is mapped");

	map_high(3);
	cpu.cr4 = PAE;
	cpu.rip = 0xffffeffe;
	assert_line("at RIP 0xffffeffe: 0f 0b 0f 0b 90 00 00 00 00 00 00 00 00 00 00 00");
}

static void nothing_known(void **state)
{
	struct hk_crash crash;
	char line[HK_CRASH_LINE];

	state_result = -EIO;
	assert_line("");
	hk_crash_note(&crash, &vcpu, &mem);
	assert_false(hk_crash_dump(&crash, 0, line));
}

static void assert_dump(unsigned number, const char *expected)
{
	struct hk_crash crash;
	char line[HK_CRASH_LINE];

	hk_crash_note(&crash, &vcpu, &mem);
	assert_true(hk_crash_dump(&crash, number, line));
	assert_string_equal(line, expected);
}

static void dump(void **state)
{
	static const char *const lines[] = {
		"CPU 2: rip 0000000000200000 rflags 00000246 efer 0",
		"at rip: ud2",
		"rax 0000000000000000 rcx 0000000000000001 rdx 0000000000000002 rbx "
		"0000000000000003",
		"rsp 0000000000000004 rbp 0000000000000005 rsi 0000000000000006 rdi "
		"0000000000000007",
		"r8  0000000000000008 r9  0000000000000009 r10 000000000000000a r11 "
		"000000000000000b",
		"r12 000000000000000c r13 000000000000000d r14 000000000000000e r15 "
		"000000000000000f",
		"cr0 00000010 cr2 ffffffffdeadbeef cr3 0000010000 cr4 000020",
		"gdt 0000000000001000 007f idt fffffe0000000000 0fff",
		"es   0000 base 0000000000000000 limit 00000000 attr 0000",
		"cs   0010 base 0000000000000000 limit ffffffff attr c09b",
	};
	struct hk_crash crash;
	char line[HK_CRASH_LINE];
	unsigned count = 0;

	poke(CODE_PAGE, ud2, sizeof(ud2));
	for (unsigned i = 0; i < HK_GPR_COUNT; i++) {
		cpu.gpr[i] = i;
	}
	cpu.rflags = 0x246;
	cpu.cr0 = 0x10;
	cpu.cr2 = 0xffffffffdeadbeef;
	cpu.cr4 = PAE;
	cpu.gdt = (struct hk_table_reg){0x1000, 0x7f};
	cpu.idt = (struct hk_table_reg){0xfffffe0000000000, 0xfff};
	cpu.seg[HK_CS].selector = 0x10;
	cpu.seg[HK_CS].limit = UINT32_MAX;
	for (unsigned i = 0; i < HK_ARRAY_SIZE(lines); i++) {
		assert_dump(i, lines[i]);
	}
	hk_crash_note(&crash, &vcpu, &mem);
	while (hk_crash_dump(&crash, count, line)) {
		count++;
	}
	assert_int_equal(count, HK_ARRAY_SIZE(lines) + HK_SEG_COUNT - 2);
}

/* The same bytes in each mode, bytes that are no instruction, and none at all */
static void dump_instruction(void **state)
{
	static const uint8_t code[16] = {0x48, 0x8b, 0x05, 0x00, 0x10, 0x00, 0x00};
	static const uint8_t far_code[16] = {0x48, 0x8b, 0x05, 0xff, 0xff, 0xff, 0x7f};
	static const uint8_t none[16] = {0x0f, 0x04};

	poke(CODE_PAGE, code, sizeof(code));
	assert_dump(1, "at rip: dec eax");
	cpu.seg[HK_CS].attr = CODE_16;
	assert_dump(1, "at rip: dec ax");
	cpu.efer = LONG_ACTIVE;
	cpu.seg[HK_CS].attr = CODE_64;
	assert_dump(1, "at rip: mov rax, qword ptr [rel 0x201007]");
	poke(CODE_PAGE, far_code, sizeof(far_code));
	assert_dump(1, "at rip: mov rax, qword ptr [rel 0x80200006]");
	poke(CODE_PAGE, none, sizeof(none));
	assert_dump(1, "at rip: (no instruction)");
	cpu.rip = RAM_BYTES;
	assert_dump(1, "at rip: (no instruction)");
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(no_paging, setup, teardown),
		cmocka_unit_test_setup_teardown(end_of_memory, setup, teardown),
		cmocka_unit_test_setup_teardown(four_levels, setup, teardown),
		cmocka_unit_test_setup_teardown(five_levels, setup, teardown),
		cmocka_unit_test_setup_teardown(large_pages, setup, teardown),
		cmocka_unit_test_setup_teardown(tables_of_32_bits, setup, teardown),
		cmocka_unit_test_setup_teardown(nothing_known, setup, teardown),
		cmocka_unit_test_setup_teardown(dump, setup, teardown),
		cmocka_unit_test_setup_teardown(dump_instruction, setup, teardown),
	};

	return cmocka_run_group_tests_name("crash", tests, NULL, NULL);
}
