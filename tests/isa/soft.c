/* SPDX-License-Identifier: ISC */
/*
 * Test cases on our CPU: a machine of one CPU and a few pages.
 *
 * Each case runs at CPL 3 in the address space that case.h describes. Exceptions go through an IDT
 * to handlers that are a HLT each, on a stack of their own; what the frame there holds is the
 * result. So delivery is tested, too. Selectors are those of Linux, so that LAR and the like see
 * the same.
 */
#include "soft.h"

#include <stdlib.h>
#include <string.h>

#include "base/util.h"
#include "engine/soft/code.h"
#include "engine/soft/flags.h"
#include "engine/soft/interp.h"
#include "engine/soft/mmu.h"
#include "engine/soft/run.h"
#include "engine/soft/sys.h"

/* Guest physical pages. */
enum {
	PAGE_PML4 = 1,
	PAGE_PDPT,
	PAGE_PD,
	PAGE_PT_CODE,
	PAGE_PT_DATA,
	PAGE_KERNEL_PDPT,
	PAGE_KERNEL_PD,
	PAGE_KERNEL_PT,
	PAGE_GDT, /* and the TSS, in its second half */
	PAGE_IDT,
	PAGE_HANDLERS,
	PAGE_STACK,
	PAGE_CODE,                 /* two */
	PAGE_DATA = PAGE_CODE + 2, /* two, and the constant one */
	PAGE_COUNT = PAGE_DATA + 3,
	RAM_PAGES = 32,
};

enum {
	MAX_STEPS = 1000,
	MAX_KICKS = 2,
	HANDLER_BYTES = 8,
	TSS_AT = 0x800,
	SEL_KERNEL_CODE = 0x10,
	SEL_TSS = 0x40,
};

/* The same pages of the system, as the CPU sees them. */
#define KERNEL          UINT64_C(0xffffffff80000000)
#define KERNEL_VA(page) (KERNEL + (uint64_t)(page)*HK_PAGE_SIZE)

/* Page-table entries. */
enum { PTE_P = 1, PTE_W = 2, PTE_U = 4, PTE_A = 0x20, PTE_D = 0x40 };
#define PTE_NX (UINT64_C(1) << 63)

struct isa_soft {
	uint8_t *ram;
	struct hk_mem mem;
	struct hk_soft_mem soft_mem;
	struct hk_cpuid cpuid;
	struct hk_cpu cpu;
};

/* Linux's descriptors, by selector / 8; accessed already. */
static const uint64_t descriptors[16] = {
	[1] = 0x00cf9b000000ffff, /* kernel, 32-bit code */
	[2] = 0x00af9b000000ffff,
	[3] = 0x00cf93000000ffff,
	[4] = 0x00cffb000000ffff, /* user, 32-bit code */
	[5] = 0x00cff3000000ffff,
	[6] = 0x00affb000000ffff,
};

static uint8_t *page_at(struct isa_soft *soft, unsigned page)
{
	return soft->ram + (size_t)page * HK_PAGE_SIZE;
}

static void put64(uint8_t *p, uint64_t v)
{
	memcpy(p, &v, 8);
}

static uint64_t get64(const uint8_t *p)
{
	uint64_t v;

	memcpy(&v, p, 8);
	return v;
}

static void set_pte(
	struct isa_soft *soft, unsigned table, unsigned index, unsigned page, uint64_t bits)
{
	put64(page_at(soft, table) + 8 * (size_t)index,
		(uint64_t)page * HK_PAGE_SIZE | PTE_P | bits);
}

static void build_page_tables(struct isa_soft *soft)
{
	const uint64_t table = PTE_W | PTE_U | PTE_A;
	const uint64_t used = PTE_A | PTE_D;

	set_pte(soft, PAGE_PML4, 0, PAGE_PDPT, table);
	set_pte(soft, PAGE_PDPT, 0, PAGE_PD, table);
	set_pte(soft, PAGE_PD, ISA_CODE >> 21 & 511, PAGE_PT_CODE, table);
	set_pte(soft, PAGE_PD, ISA_DATA >> 21 & 511, PAGE_PT_DATA, table);
	for (unsigned i = 0; i < 2; i++) {
		set_pte(soft, PAGE_PT_CODE, (ISA_CODE >> 12 & 511) + i, PAGE_CODE + i,
			PTE_U | used);
		set_pte(soft, PAGE_PT_DATA, (ISA_DATA >> 12 & 511) + i, PAGE_DATA + i,
			PTE_U | PTE_W | PTE_NX | used);
	}
	set_pte(soft, PAGE_PT_DATA, ISA_CONST >> 12 & 511, PAGE_DATA + 2, PTE_U | PTE_NX | used);

	set_pte(soft, PAGE_PML4, KERNEL >> 39 & 511, PAGE_KERNEL_PDPT, table);
	set_pte(soft, PAGE_KERNEL_PDPT, KERNEL >> 30 & 511, PAGE_KERNEL_PD, table);
	set_pte(soft, PAGE_KERNEL_PD, KERNEL >> 21 & 511, PAGE_KERNEL_PT, table);
	for (unsigned page = PAGE_GDT; page <= PAGE_STACK; page++) {
		set_pte(soft, PAGE_KERNEL_PT, page, page, PTE_W | used);
	}
}

static void build_tables(struct isa_soft *soft)
{
	uint8_t *gdt = page_at(soft, PAGE_GDT);
	uint8_t *idt = page_at(soft, PAGE_IDT);
	uint64_t tss = KERNEL_VA(PAGE_GDT) + TSS_AT;
	uint64_t stack = KERNEL_VA(PAGE_STACK) + HK_PAGE_SIZE;

	memcpy(gdt, descriptors, sizeof(descriptors));
	put64(gdt + SEL_TSS,
		0x67 | (tss & 0xffffff) << 16 | UINT64_C(0x8b) << 40 | (tss >> 24 & 0xff) << 56);
	put64(gdt + SEL_TSS + 8, tss >> 32);
	put64(gdt + TSS_AT + 4, stack);       /* RSP0 */
	put64(gdt + TSS_AT + 0x24, stack);    /* IST1 */
	isa_put16(gdt + TSS_AT + 0x66, 0x68); /* no I/O permission bitmap */
	for (unsigned vector = 0; vector < 256; vector++) {
		uint64_t handler = KERNEL_VA(PAGE_HANDLERS) + (uint64_t)vector * HANDLER_BYTES;
		uint64_t dpl = vector == HK_VECTOR_BP || vector == HK_VECTOR_OF ? 3 : 0;

		put64(idt + 16 * vector,
			(handler & 0xffff) | SEL_KERNEL_CODE << 16 | UINT64_C(1) << 32 |
				(UINT64_C(0x8e) | dpl << 5) << 40 | (handler >> 16 & 0xffff) << 48);
		put64(idt + 16 * vector + 8, handler >> 32);
		page_at(soft, PAGE_HANDLERS)[vector * HANDLER_BYTES] = 0xf4; /* HLT */
	}
	memset(page_at(soft, PAGE_CODE), ISA_INT3, ISA_CODE_BYTES);
}

/* ---- The world outside the CPU, of which there is none ---- */

static void no_port(struct hk_cpu *cpu, uint16_t port, void *data, unsigned len, bool write)
{
	if (!write) {
		memset(data, 0xff, len);
	}
}

static void no_mmio(struct hk_cpu *cpu, hk_gpa gpa, void *data, unsigned len, bool write)
{
	if (!write) {
		memset(data, 0xff, len);
	}
}

static uint64_t no_tsc(struct hk_cpu *cpu)
{
	return 0;
}

static bool no_rdmsr(struct hk_cpu *cpu, uint32_t index, uint64_t *ret_value)
{
	return false;
}

static bool no_wrmsr(struct hk_cpu *cpu, uint32_t index, uint64_t value)
{
	return false;
}

static uint8_t no_get_cr8(struct hk_cpu *cpu)
{
	return 0;
}

static void no_set_cr8(struct hk_cpu *cpu, uint8_t value)
{
}

static int no_interrupt(struct hk_cpu *cpu)
{
	return -1;
}

static void no_random(struct hk_cpu *cpu, void *buf, size_t len_bytes)
{
	memset(buf, 0, len_bytes);
}

static void nothing(struct hk_cpu *cpu)
{
}

static void no_others(struct hk_cpu *cpu, hk_gpa page, uint32_t cpu_mask)
{
}

static void no_drop(struct hk_cpu *cpu, hk_gpa gpa, unsigned len, uint32_t cpu_mask)
{
}

static const struct hk_cpu_bus_ops no_bus = {
	.port = no_port,
	.mmio = no_mmio,
	.tsc = no_tsc,
	.rdmsr = no_rdmsr,
	.wrmsr = no_wrmsr,
	.get_cr8 = no_get_cr8,
	.set_cr8 = no_set_cr8,
	.interrupt = no_interrupt,
	.random = no_random,
	.hypercall = nothing,
	.yield = nothing,
	.work = nothing,
	.exclusive_begin = nothing,
	.exclusive_end = nothing,
	.protect_page = no_others,
	.drop_code = no_drop,
};

/* ---- Registers in and out ---- */

static struct hk_segment segment_of(uint16_t selector)
{
	uint64_t d = selector / 8 < HK_ARRAY_SIZE(descriptors) ? descriptors[selector / 8] : 0;

	if (d == 0) {
		return (struct hk_segment){.selector = selector, .unusable = true};
	}
	return (struct hk_segment){
		.selector = selector, .limit = UINT32_MAX, .attr = (uint16_t)(d >> 40) & 0xf0ff};
}

static void load_x87(struct hk_x87 *x87, const uint8_t *fx)
{
	unsigned top;

	memset(x87, 0, sizeof(*x87));
	x87->fcw = isa_get16(fx + ISA_FX_FCW);
	x87->fsw = isa_get16(fx + ISA_FX_FSW);
	x87->tag_empty = (uint8_t)~fx[ISA_FX_FTW];
	top = x87->fsw >> 11 & 7;
	for (unsigned i = 0; i < 8; i++) {
		struct hk_f80 *r = &x87->r[(top + i) & 7];

		r->frac = get64(fx + ISA_FX_ST + 16 * i);
		r->sign_exp = isa_get16(fx + ISA_FX_ST + 16 * i + 8);
	}
}

static void store_x87(const struct hk_x87 *x87, uint8_t *fx)
{
	unsigned top = x87->fsw >> 11 & 7;

	isa_put16(fx + ISA_FX_FCW, x87->fcw);
	isa_put16(fx + ISA_FX_FSW, x87->fsw);
	fx[ISA_FX_FTW] = (uint8_t)~x87->tag_empty;
	for (unsigned i = 0; i < 8; i++) {
		const struct hk_f80 *r = &x87->r[(top + i) & 7];

		put64(fx + ISA_FX_ST + 16 * i, r->frac);
		isa_put16(fx + ISA_FX_ST + 16 * i + 8, r->sign_exp);
	}
}

static void load_registers(struct hk_cpu *cpu, const struct isa_state *s)
{
	memcpy(cpu->gpr, s->gpr, sizeof(s->gpr));
	cpu->rip = s->rip;
	hk_rflags_set(cpu, s->rflags);
	for (unsigned i = 0; i < HK_ARRAY_SIZE(s->sel); i++) {
		cpu->seg[i] = segment_of(s->sel[i]);
	}
	cpu->seg[HK_FS].base = s->fs_base;
	cpu->seg[HK_GS].base = s->gs_base;
	cpu->cpl = 3;
	load_x87(&cpu->x87, s->fx);
	cpu->mxcsr = isa_get16(s->fx + ISA_FX_MXCSR);
	memcpy(cpu->xmm, s->fx + ISA_FX_XMM, sizeof(cpu->xmm));
	cpu->cr2 = 0;
	cpu->dr6 = 0xffff0ff0;
	cpu->failed = false;
	cpu->shadow = 0;
	cpu->activity = HK_CPU_RUNNING;
	cpu->event.pending = false;
	hk_cpu_mode_changed(cpu);
}

/* The CPU is in the handler of an exception. */
static void take_result(struct isa_soft *soft, struct isa_result *r)
{
	const struct hk_cpu *cpu = &soft->cpu;
	uint64_t offset = cpu->rip - KERNEL_VA(PAGE_HANDLERS);
	uint64_t frame = cpu->gpr[HK_RSP] - KERNEL_VA(PAGE_STACK);
	const uint8_t *p;

	if (cpu->cpl != 0 || offset >= HK_PAGE_SIZE || frame > HK_PAGE_SIZE - 40) {
		r->end = ISA_LOST;
		return;
	}
	r->end = ISA_TRAP;
	r->vector = (uint8_t)(offset / HANDLER_BYTES);
	p = page_at(soft, PAGE_STACK) + frame;
	r->code = 0;
	if (frame == HK_PAGE_SIZE - 48) { /* the stack is aligned: so there is an error code */
		r->code = (uint32_t)get64(p);
		p += 8;
	}
	r->cr2 = r->vector == HK_VECTOR_PF ? cpu->cr2 : 0;
	memcpy(r->state.gpr, cpu->gpr, sizeof(r->state.gpr));
	r->state.rip = get64(p);
	r->state.rflags = get64(p + 16);
	r->state.gpr[HK_RSP] = get64(p + 24);
	for (unsigned i = 0; i < HK_ARRAY_SIZE(r->state.sel); i++) {
		r->state.sel[i] = cpu->seg[i].selector;
	}
	r->state.sel[HK_CS] = (uint16_t)get64(p + 8);
	r->state.sel[HK_SS] = (uint16_t)get64(p + 32);
	r->state.fs_base = cpu->seg[HK_FS].base;
	r->state.gs_base = cpu->seg[HK_GS].base;
	memset(r->state.fx, 0, sizeof(r->state.fx));
	store_x87(&cpu->x87, r->state.fx);
	isa_put16(r->state.fx + ISA_FX_MXCSR, (uint16_t)cpu->mxcsr);
	memcpy(r->state.fx + ISA_FX_XMM, cpu->xmm, sizeof(cpu->xmm));
}

/* ---- The machine ---- */

struct isa_soft *isa_soft_create(uint32_t features)
{
	struct isa_soft *soft = calloc(1, sizeof(*soft));
	struct hk_cpu *cpu;

	if (soft == NULL) {
		return NULL;
	}
	cpu = &soft->cpu;
	soft->ram = aligned_alloc(HK_PAGE_SIZE, (size_t)RAM_PAGES * HK_PAGE_SIZE);
	soft->mem = (struct hk_mem){
		.fd = -1, .ram = soft->ram, .ram_bytes = (uint64_t)RAM_PAGES * HK_PAGE_SIZE};
	if (soft->ram == NULL || hk_soft_mem_init(&soft->soft_mem, &soft->mem, NULL) != 0 ||
		hk_cpu_init(cpu, 0, &soft->cpuid, features, &soft->soft_mem, &no_bus) != 0) {
		isa_soft_destroy(soft);
		return NULL;
	}
	memset(soft->ram, 0, (size_t)RAM_PAGES * HK_PAGE_SIZE);
	build_page_tables(soft);
	build_tables(soft);
	cpu->cr0 =
		HK_CR0_PE | HK_CR0_MP | HK_CR0_ET | HK_CR0_NE | HK_CR0_WP | HK_CR0_AM | HK_CR0_PG;
	cpu->cr3 = (uint64_t)PAGE_PML4 * HK_PAGE_SIZE;
	cpu->cr4 = HK_CR4_PAE | HK_CR4_OSFXSR | HK_CR4_OSXMMEXCPT | HK_CR4_OSXSAVE;
	if ((features >> HK_FEAT_FSGSBASE & 1) != 0) {
		cpu->cr4 |= HK_CR4_FSGSBASE;
	}
	cpu->efer = HK_EFER_SCE | HK_EFER_LME | HK_EFER_LMA | HK_EFER_NXE;
	cpu->xcr0 = 3;
	cpu->dr7 = 0x400;
	cpu->gdt = (struct hk_table_reg){
		.base = KERNEL_VA(PAGE_GDT), .limit = sizeof(descriptors) - 1};
	cpu->idt = (struct hk_table_reg){.base = KERNEL_VA(PAGE_IDT), .limit = HK_PAGE_SIZE - 1};
	cpu->seg[HK_TR] = (struct hk_segment){.base = KERNEL_VA(PAGE_GDT) + TSS_AT,
		.limit = 0x67,
		.selector = SEL_TSS,
		.attr = 0x8b};
	cpu->seg[HK_LDTR] = (struct hk_segment){.unusable = true};
	hk_cpu_flushed(cpu);
	return soft;
}

void isa_soft_destroy(struct isa_soft *soft)
{
	if (soft != NULL) {
		hk_cpu_finish(&soft->cpu);
		hk_soft_mem_finish(&soft->soft_mem);
		free(soft->ram);
		free(soft);
	}
}

void isa_soft_kick(struct isa_soft *soft)
{
	hk_cpu_attend(&soft->cpu, HK_ATT_KICK);
}

static bool run(struct hk_cpu *cpu)
{
	for (unsigned kicks = 0; kicks < MAX_KICKS; kicks++) {
		if (hk_cpu_run(cpu) != HK_CPU_KICKED) {
			return !cpu->failed;
		}
	}
	return false;
}

static bool step(struct hk_cpu *cpu)
{
	for (unsigned steps = 0; steps < MAX_STEPS && !cpu->failed; steps++) {
		hk_cpu_step(cpu);
		if (cpu->cpl == 0) {
			return true;
		}
	}
	return false;
}

void isa_soft_case(struct isa_soft *soft, const struct isa_case *c, enum isa_way way,
	struct isa_result *ret_result)
{
	unsigned off = (unsigned)(c->start.rip - ISA_CODE);
	uint8_t *code = page_at(soft, PAGE_CODE) + off;
	struct hk_cpu *cpu = &soft->cpu;

	memcpy(code, c->code, c->len);
	isa_memory_fill(c->memory, page_at(soft, PAGE_DATA), ISA_DATA_BYTES + ISA_CONST_BYTES);
	if (way == ISA_RUN) {
		hk_code_drop(cpu, (hk_gpa)PAGE_CODE * HK_PAGE_SIZE, ISA_CODE_BYTES);
	}
	load_registers(cpu, &c->start);
	if (way == ISA_STEP ? step(cpu) : run(cpu)) {
		take_result(soft, ret_result);
	} else {
		ret_result->end = ISA_LOST;
	}
	memcpy(ret_result->data, page_at(soft, PAGE_DATA), ISA_DATA_BYTES);
	memset(code, ISA_INT3, c->len);
}
