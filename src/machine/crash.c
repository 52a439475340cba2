/* SPDX-License-Identifier: ISC */
/*
 * A crash, put into words. Works on the engine-independent state, so it is the same on every engine.
 *
 * The bytes at RIP are looked for in the guest's own page tables as they are now; a guest that
 * destroyed those gets no bytes, which says something, too. Source: Intel SDM vol. 3, 4.5.
 */
#include "machine/crash.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define CR0_PAGING   (UINT64_C(1) << 31)
#define EFER_LMA     (UINT64_C(1) << 10)
#define PTE_PRESENT  UINT64_C(1)
#define PTE_LARGE    (UINT64_C(1) << 7)
#define PTE_ADDRESS  UINT64_C(0x000ffffffffff000)
#define PAGE_OFFSETS UINT64_C(0xfff)

/* Return: false where @va is not mapped, or by tables of another kind than 4-level. */
static bool translate(
	const struct hk_vcpu_state *state, const struct hk_mem *mem, uint64_t va, hk_gpa *ret_gpa)
{
	hk_gpa table = state->cr3 & PTE_ADDRESS;

	if ((state->cr0 & CR0_PAGING) == 0) {
		*ret_gpa = va;
		return true;
	}
	if ((state->efer & EFER_LMA) == 0) {
		return false;
	}
	for (unsigned level = 4; level-- > 0;) {
		unsigned shift = 12 + 9 * level;
		uint64_t within = (UINT64_C(1) << shift) - 1;
		uint64_t entry;

		if (hk_mem_read(mem, table + (va >> shift & 511) * 8, &entry, sizeof(entry)) < 0 ||
			(entry & PTE_PRESENT) == 0) {
			return false;
		}
		if (level == 0 || (level < 3 && (entry & PTE_LARGE) != 0)) {
			*ret_gpa = (entry & PTE_ADDRESS & ~within) | (va & within);
			return true;
		}
		table = entry & PTE_ADDRESS;
	}
	return false;
}

void hk_crash_note(struct hk_crash *crash, struct hk_vcpu *vcpu, const struct hk_mem *mem)
{
	struct hk_vcpu_state *state = &crash->state;

	*crash = (struct hk_crash){.vcpu = hk_vcpu_index(vcpu)};
	if (hk_vcpu_get_state(vcpu, state, NULL) < 0) {
		return;
	}
	crash->known = true;

	uint64_t va = state->rip + state->seg[HK_CS].base;

	while (crash->code_len < sizeof(crash->code)) {
		hk_gpa gpa;
		unsigned len = HK_PAGE_SIZE - (unsigned)(va & PAGE_OFFSETS);

		if (len > sizeof(crash->code) - crash->code_len) {
			len = (unsigned)sizeof(crash->code) - crash->code_len;
		}
		if (!translate(state, mem, va, &gpa) ||
			hk_mem_read(mem, gpa, crash->code + crash->code_len, len) < 0) {
			break;
		}
		crash->code_len += len;
		va += len;
	}
}

/* Appends to a line of HK_CRASH_LINE bytes; what does not fit is cut. */
static void add(char *line, const char *fmt, ...) HK_PRINTF(2, 3);

static void add(char *line, const char *fmt, ...)
{
	size_t len = strlen(line);
	va_list args;

	va_start(args, fmt);
	vsnprintf(line + len, HK_CRASH_LINE - len, fmt, args);
	va_end(args);
}

void hk_crash_line(const struct hk_crash *crash, char ret_line[HK_CRASH_LINE])
{
	ret_line[0] = '\0';
	if (!crash->known) {
		return;
	}
	add(ret_line, "at RIP 0x%" PRIx64, crash->state.rip);
	add(ret_line, crash->code_len == 0 ? ", where no memory is mapped" : ":");
	for (unsigned i = 0; i < crash->code_len; i++) {
		add(ret_line, " %02x", crash->code[i]);
	}
}

bool hk_crash_dump(const struct hk_crash *crash, unsigned number, char ret_line[HK_CRASH_LINE])
{
	static const char *const names[HK_GPR_COUNT] = {"rax", "rcx", "rdx", "rbx", "rsp", "rbp",
		"rsi", "rdi", "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15"};
	static const char *const seg_names[HK_SEG_COUNT] = {
		"es", "cs", "ss", "ds", "fs", "gs", "ldtr", "tr"};
	enum { GPR_LINES = HK_GPR_COUNT / 4, CONTROL = GPR_LINES + 1, TABLES, SEGMENTS };

	const struct hk_vcpu_state *s = &crash->state;

	ret_line[0] = '\0';
	if (!crash->known || number >= SEGMENTS + HK_SEG_COUNT) {
		return false;
	}
	if (number == 0) {
		add(ret_line, "CPU %u: rip %016" PRIx64 " rflags %08" PRIx64 " efer %" PRIx64,
			crash->vcpu, s->rip, s->rflags, s->efer);
	} else if (number <= GPR_LINES) {
		for (unsigned i = 4 * (number - 1); i < 4 * number; i++) {
			add(ret_line, "%s%-3s %016" PRIx64, i % 4 != 0 ? " " : "", names[i],
				s->gpr[i]);
		}
	} else if (number == CONTROL) {
		add(ret_line,
			"cr0 %08" PRIx64 " cr2 %016" PRIx64 " cr3 %010" PRIx64 " cr4 %06" PRIx64,
			s->cr0, s->cr2, s->cr3, s->cr4);
	} else if (number == TABLES) {
		add(ret_line, "gdt %016" PRIx64 " %04x idt %016" PRIx64 " %04x", s->gdt.base,
			s->gdt.limit, s->idt.base, s->idt.limit);
	} else {
		unsigned seg = number - SEGMENTS;

		add(ret_line, "%-4s %04x base %016" PRIx64 " limit %08x attr %04x", seg_names[seg],
			s->seg[seg].selector, s->seg[seg].base, s->seg[seg].limit,
			s->seg[seg].attr);
	}
	return true;
}
