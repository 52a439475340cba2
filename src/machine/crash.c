/* SPDX-License-Identifier: ISC */
/*
 * A crash, put into words. Works on the engine-independent state, so it is the same on every
 * engine.
 *
 * The bytes at RIP are looked for in the guest's own page tables as they are now; a guest that
 * destroyed those gets no bytes, which says something, too. Source: Intel SDM vol. 3, 4.5.
 */
#include "machine/crash.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "engine/soft/decode.h"

#define CR0_PAGING   (UINT64_C(1) << 31)
#define CR4_PAE      (UINT64_C(1) << 5)
#define CR4_LA57     (UINT64_C(1) << 12)
#define EFER_LMA     (UINT64_C(1) << 10)
#define PTE_PRESENT  UINT64_C(1)
#define PTE_LARGE    (UINT64_C(1) << 7)
#define PTE_ADDRESS  UINT64_C(0x000ffffffffff000)
#define PAGE_OFFSETS UINT64_C(0xfff)

enum { ATTR_LONG = 1 << 13, ATTR_BIG = 1 << 14 };

/* Page tables: how many levels, and log2 of the entries that a page of them holds. */
struct paging {
	unsigned levels;
	unsigned index_bits;
};

static struct paging paging_of(const struct hk_vcpu_state *state)
{
	if ((state->efer & EFER_LMA) != 0) {
		return (struct paging){(state->cr4 & CR4_LA57) != 0 ? 5 : 4, 9};
	}
	if ((state->cr4 & CR4_PAE) != 0) {
		return (struct paging){3, 9};
	}
	return (struct paging){2, 10};
}

/* Return: false where @va is not mapped. */
static bool translate(
	const struct hk_vcpu_state *state, const struct hk_mem *mem, uint64_t va, hk_gpa *ret_gpa)
{
	struct paging paging = paging_of(state);
	uint64_t index_mask = (UINT64_C(1) << paging.index_bits) - 1;
	unsigned entry_bytes = (unsigned)HK_PAGE_SIZE >> paging.index_bits;
	/* Three levels start with four entries, which need not begin a page. */
	hk_gpa table = state->cr3 & (paging.levels == 3 ? ~UINT64_C(31) & UINT32_MAX : PTE_ADDRESS);

	if ((state->cr0 & CR0_PAGING) == 0) {
		*ret_gpa = va;
		return true;
	}
	for (unsigned level = paging.levels; level-- > 0;) {
		unsigned shift = 12 + paging.index_bits * level;
		uint64_t within = (UINT64_C(1) << shift) - 1;
		uint64_t entry = 0;

		if (hk_mem_read(mem, table + (va >> shift & index_mask) * entry_bytes, &entry,
			    entry_bytes) < 0 ||
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

	if ((state->seg[HK_CS].attr & ATTR_LONG) == 0) {
		va = (uint32_t)va;
	}
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

/* Once more, in the reader's language. */
static void add_insn(char *line, const struct hk_crash *crash)
{
	const struct hk_vcpu_state *s = &crash->state;
	uint16_t attr = s->seg[HK_CS].attr;
	enum hk_code_mode mode = HK_CODE_16;
	enum hk_decode result;
	struct hk_insn insn;
	char text[HK_DISASM_MAX];

	if ((s->efer & EFER_LMA) != 0 && (attr & ATTR_LONG) != 0) {
		mode = HK_CODE_64;
	} else if ((attr & ATTR_BIG) != 0) {
		mode = HK_CODE_32;
	}
	result = hk_decode(crash->code, crash->code_len, mode, UINT32_MAX, 0, &insn);
	if (result == HK_DECODE_FAR) {
		result = hk_decode(
			crash->code, crash->code_len, mode, UINT32_MAX, -(int)insn.len, &insn);
	}
	if (result == HK_DECODE_OK) {
		hk_disasm(&insn, mode, s->rip, text);
		add(line, " %s", text);
	} else {
		add(line, " (no instruction)");
	}
}

bool hk_crash_dump(const struct hk_crash *crash, unsigned number, char ret_line[HK_CRASH_LINE])
{
	static const char *const names[HK_GPR_COUNT] = {"rax", "rcx", "rdx", "rbx", "rsp", "rbp",
		"rsi", "rdi", "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15"};
	static const char *const seg_names[HK_SEG_COUNT] = {
		"es", "cs", "ss", "ds", "fs", "gs", "ldtr", "tr"};
	enum { INSN = 1, GPRS, CONTROL = GPRS + HK_GPR_COUNT / 4, TABLES, SEGMENTS };

	const struct hk_vcpu_state *s = &crash->state;

	ret_line[0] = '\0';
	if (!crash->known || number >= SEGMENTS + HK_SEG_COUNT) {
		return false;
	}
	if (number == 0) {
		add(ret_line, "CPU %u: rip %016" PRIx64 " rflags %08" PRIx64 " efer %" PRIx64,
			crash->vcpu, s->rip, s->rflags, s->efer);
	} else if (number == INSN) {
		add(ret_line, "at rip:");
		add_insn(ret_line, crash);
	} else if (number < CONTROL) {
		for (unsigned i = 4 * (number - GPRS); i < 4 * (number - GPRS + 1); i++) {
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
