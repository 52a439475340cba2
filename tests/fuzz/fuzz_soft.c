/* SPDX-License-Identifier: ISC */
/*
 * Fuzz target: the software CPU as a whole; the input is code, and says in what surroundings it
 * runs.
 *
 *	byte 0		mode and ring
 *	byte 1		what is hostile besides: enum hostile
 *	bytes 2 to 5	seed of everything that is chosen at random
 *	the rest	code, at CODE; all handlers lead into it, too
 *
 * Page tables, descriptor tables and the code itself are within reach of the code. Devices answer
 * at random, interrupt, and write memory. Whatever happens:
 *
 * - nothing outside guest RAM is touched: there are pages without access on both sides of it;
 * - hk_cpu_run() returns soon after it was asked to: a thread asks after a moment, and waits SOON_S
 * for it;
 * - the TLB leads to RAM only, and lets no store pass by pages whose code is decoded;
 * - decoded code is what the bytes in memory say;
 * - the cache of decoded code stays within its limit.
 */
#undef NDEBUG
#include <assert.h>
#include <fcntl.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "base/util.h"
#include "engine/soft/code.h"
#include "engine/soft/decode.h"
#include "engine/soft/exec/handlers.h"
#include "engine/soft/flags.h"
#include "engine/soft/fpu/xsave.h"
#include "engine/soft/interp.h"
#include "engine/soft/mmu.h"
#include "engine/soft/run.h"
#include "engine/soft/sys.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { HEADER = 6, MAX_CODE = 4096 };

enum mode { LONG_0, LONG_3, COMPAT_3, PROTECTED_0, PROTECTED_3, REAL, ANYTHING, MODE_COUNT };

enum hostile {
	HOSTILE_TABLES = 1 << 0,   /* page tables */
	HOSTILE_SEGMENTS = 1 << 1, /* GDT, IDT, TSS */
	HOSTILE_CONTROL = 1 << 2,  /* control registers */
	HOSTILE_DEBUG = 1 << 3,    /* breakpoints and single steps */
	HOSTILE_INTERRUPTS = 1 << 4,
	HOSTILE_DEVICES = 1 << 5,  /* that write memory */
	HOSTILE_STEPS = 1 << 6,    /* much of it is run with hk_cpu_step() */
	HOSTILE_FEATURES = 1 << 7, /* optional features off */
};

enum {
	RAM_BYTES = 32 << 20,
	GUARD_BYTES = 16 << 20,
	CODE_BYTES_LIMIT = 160 << 20,
	SLICES = 3,
	STEPS = 100,
	BUS_CALLS = 2000, /* in a slice */
	KICK_AFTER_US = 300,
	SOON_S = 30,
};

/*
 * Where things are. Linear addresses are physical ones up to 32 MiB, in the last GiB of the address
 * space, too.
 */
enum {
	GDT = 0x1000,
	IDT = 0x2000,
	TSS = 0x3000,
	PML4 = 0x5000,
	PDPT = 0x6000,
	PD = 0x7000,
	PT = 0x8000,
	PDPT_PAE = 0x9000,
	PD_32 = 0xa000,
	PT_32 = 0xb000,
	CODE = 0x20000,
	STACK = 0x40000,
	DATA = 0x60000,
};

static struct hk_mem mem;
static struct hk_soft_mem soft;
static struct hk_cpuid cpuid;
static struct hk_cpu *cpu;
static uint64_t seed;
static unsigned how;
static unsigned bus_calls;

/* What devices wrote, for bus_work() */
static struct {
	hk_gpa gpa;
	unsigned len;
} written[64];
static unsigned written_count;

/* splitmix64, by Sebastiano Vigna: public domain. */
static uint64_t any(void)
{
	uint64_t z = seed += UINT64_C(0x9e3779b97f4a7c15);

	z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
	return z ^ (z >> 31);
}

static bool one_in(unsigned n)
{
	return any() % n == 0;
}

/* A number that might hurt. */
static uint64_t nasty(void)
{
	static const uint64_t bases[] = {0, GDT, IDT, TSS, PML4, PDPT, PD, PT, PD_32, CODE, CODE,
		STACK, STACK, DATA, RAM_BYTES, HK_MMIO_HOLE_START, UINT32_MAX, 0x7fffffff,
		UINT64_C(0x7fffffffffff), UINT64_C(0xffff800000000000), UINT64_MAX - 0x7fff,
		UINT64_C(1) << 32, INT64_MAX, UINT64_C(0xffffffffc0000000) + CODE};
	uint64_t base = bases[any() % HK_ARRAY_SIZE(bases)];

	switch (any() % 8) {
	case 0:
		return any();
	case 1:
		return any() % 64;
	case 2:
		return base + HK_PAGE_SIZE - any() % 16;
	case 3:
		return base - any() % 16;
	default:
		return base + any() % (2 * HK_PAGE_SIZE);
	}
}

/* ---- The world around ---- */

static void put(hk_gpa gpa, uint64_t value, unsigned len)
{
	memcpy(mem.ram + gpa, &value, len);
}

/* A device writes somewhere near what matters. */
static void device(void)
{
	hk_gpa gpa = nasty() % (RAM_BYTES - 64);
	unsigned len = 1 + (unsigned)(any() % 64);

	for (unsigned i = 0; i < len; i++) {
		mem.ram[gpa + i] = (uint8_t)any();
	}
	if (hk_soft_mem_code_cpus(&soft, gpa, len) != 0) {
		assert(written_count < HK_ARRAY_SIZE(written));
		written[written_count].gpa = gpa;
		written[written_count++].len = len;
		hk_cpu_attend(cpu, HK_ATT_WORK);
	}
}

static void bus_work(struct hk_cpu *self)
{
	for (unsigned i = 0; i < written_count; i++) {
		hk_code_drop(self, written[i].gpa, written[i].len);
	}
	written_count = 0;
}

/* Each call of the bus is an occasion. */
static void happen(void)
{
	if (++bus_calls >= BUS_CALLS) {
		hk_cpu_attend(cpu, HK_ATT_KICK);
	}
	if ((how & HOSTILE_INTERRUPTS) != 0 && one_in(4)) {
		hk_cpu_attend(cpu, one_in(8) ? HK_ATT_NMI : HK_ATT_IRQ);
	}
	if ((how & HOSTILE_DEVICES) != 0 && written_count < HK_ARRAY_SIZE(written) && one_in(4)) {
		device();
	}
}

static void answer(void *data, unsigned len)
{
	uint64_t value = nasty();

	assert(len >= 1 && len <= sizeof(value));
	memcpy(data, &value, len);
}

static void bus_port(struct hk_cpu *self, uint16_t port, void *data, unsigned len, bool write)
{
	(void)self;
	(void)port;
	assert(len == 1 || len == 2 || len == 4);
	happen();
	if (!write) {
		answer(data, len);
	}
}

static void bus_mmio(struct hk_cpu *self, hk_gpa gpa, void *data, unsigned len, bool write)
{
	(void)self;
	assert(hk_soft_mem_page(&soft, gpa & HK_PAGE_MASK) == NULL);
	assert((gpa & 0xfff) + len <= HK_PAGE_SIZE);
	happen();
	if (!write) {
		answer(data, len);
	}
}

static uint64_t bus_tsc(struct hk_cpu *self)
{
	(void)self;
	happen();
	return any();
}

static bool bus_rdmsr(struct hk_cpu *self, uint32_t index, uint64_t *ret_value)
{
	(void)self;
	(void)index;
	happen();
	*ret_value = nasty();
	return one_in(2);
}

static bool bus_wrmsr(struct hk_cpu *self, uint32_t index, uint64_t value)
{
	(void)self;
	(void)index;
	(void)value;
	happen();
	return one_in(2);
}

static uint8_t bus_get_cr8(struct hk_cpu *self)
{
	(void)self;
	return any() % 16;
}

static void bus_set_cr8(struct hk_cpu *self, uint8_t value)
{
	(void)self;
	assert(value <= 15);
	happen();
}

static int bus_interrupt(struct hk_cpu *self)
{
	assert((self->rflags & HK_FLAG_IF) != 0);
	return one_in(2) ? -1 : (int)(any() % 256);
}

static void bus_random(struct hk_cpu *self, void *buf, size_t len_bytes)
{
	(void)self;
	assert(len_bytes <= 8);
	answer(buf, (unsigned)len_bytes);
}

static void bus_hypercall(struct hk_cpu *self)
{
	happen();
	self->gpr[HK_RAX] = nasty();
}

static void bus_exclusive(struct hk_cpu *self)
{
	(void)self;
	happen();
}

static void bus_protect(struct hk_cpu *self, hk_gpa page, uint32_t cpu_mask)
{
	(void)self;
	(void)page;
	(void)cpu_mask;
	assert(false); /* there is no other CPU */
}

static void bus_drop(struct hk_cpu *self, hk_gpa gpa, unsigned len, uint32_t cpu_mask)
{
	(void)len;
	bus_protect(self, gpa, cpu_mask);
}

static const struct hk_cpu_bus_ops bus = {
	.port = bus_port,
	.mmio = bus_mmio,
	.tsc = bus_tsc,
	.rdmsr = bus_rdmsr,
	.wrmsr = bus_wrmsr,
	.get_cr8 = bus_get_cr8,
	.set_cr8 = bus_set_cr8,
	.interrupt = bus_interrupt,
	.random = bus_random,
	.hypercall = bus_hypercall,
	.yield = bus_exclusive,
	.work = bus_work,
	.exclusive_begin = bus_exclusive,
	.exclusive_end = bus_exclusive,
	.protect_page = bus_protect,
	.drop_code = bus_drop,
};

/* ---- Time ---- */

static sem_t slice_begins;
static _Atomic unsigned slice_now, slice_done;

/* Kicks the CPU out of a slice that takes long, and gives up where it does not come. */
static void *watch(void *unused)
{
	const struct timespec pause = {.tv_nsec = KICK_AFTER_US * 1000};
	unsigned slice = 0;

	(void)unused;
	for (;;) {
		while (sem_wait(&slice_begins) != 0) {
		}
		slice++;
		for (uint64_t waited_us = 0; atomic_load(&slice_done) < slice;
			waited_us += KICK_AFTER_US) {
			nanosleep(&pause, NULL);
			if (atomic_load(&slice_done) < slice) {
				hk_cpu_attend(cpu, HK_ATT_KICK);
			}
			if (waited_us > SOON_S * UINT64_C(1000000)) {
				fprintf(stderr, "hk_cpu_run() does not come back\n");
				abort();
			}
		}
	}
	return NULL;
}

static enum hk_cpu_stop run_slice(void)
{
	enum hk_cpu_stop stop;

	bus_calls = 0;
	atomic_fetch_add(&slice_now, 1);
	sem_post(&slice_begins);
	stop = hk_cpu_run(cpu);
	atomic_store(&slice_done, atomic_load(&slice_now));
	return stop;
}

/* ---- The machine ---- */

static void make_machine(void)
{
	static const struct hk_cpuid_leaf leaves[] = {
		{0, 0, false, 0xd, 0x756e6547, 0x6c65746e, 0x49656e69},
		{1, 0, false, 0x206a7, 0, 1u << 26, 0},
		{0xd, 0, true, 3, 576, 576, 0},
		{0x80000000, 0, false, 0x80000008, 0, 0, 0},
		{0x80000008, 0, false, 39 | 48 << 8, 0, 0, 0},
	};
	uint8_t *space = mmap(NULL, RAM_BYTES + 2 * GUARD_BYTES, PROT_NONE,
		MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	pthread_t thread;

	memcpy(cpuid.leaves, leaves, sizeof(leaves));
	cpuid.count = HK_ARRAY_SIZE(leaves);
	assert(hk_mem_create(&mem, RAM_BYTES, NULL) == 0 && space != MAP_FAILED);
	munmap(mem.ram, RAM_BYTES);
	mem.ram = mmap(space + GUARD_BYTES, RAM_BYTES, PROT_READ | PROT_WRITE,
		MAP_SHARED | MAP_FIXED, mem.fd, 0);
	assert(mem.ram == space + GUARD_BYTES);
	mem.regions[0].host = mem.ram;
	assert(hk_soft_mem_init(&soft, &mem, NULL) == 0);
	cpu = calloc(1, sizeof(*cpu));
	assert(cpu != NULL);
	assert(hk_cpu_init(cpu, 0, &cpuid, UINT32_MAX, &soft, &bus) == 0);
	sem_init(&slice_begins, 0, 0);
	assert(pthread_create(&thread, NULL, watch, NULL) == 0);
}

static void wipe(void)
{
	assert(fallocate(mem.fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, RAM_BYTES) == 0);
	memset(soft.marks, 0, RAM_BYTES / HK_PAGE_SIZE * sizeof(*soft.marks));
	written_count = 0;
	atomic_store(&cpu->attention, 0);
}

/* Of each kind of paging: small and large pages, all allowed to all. */
static void make_page_tables(void)
{
	enum { ALL = 7, LARGE = 0x80, SMALL_PAGES = 512 };

	for (unsigned i = 0; i < 512; i += 255) { /* 0, 255, 510 */
		put(PML4 + 8 * i, PDPT | ALL, 8);
	}
	put(PML4 + 8 * 511, PDPT | ALL, 8);
	put(PDPT, PD | ALL, 8);
	put(PDPT + 8, ALL | LARGE, 8);
	put(PDPT + 8 * 3, HK_MMIO_HOLE_START | ALL | LARGE, 8);
	put(PDPT + 8 * 511, PD | ALL, 8);
	for (unsigned i = 0; i < 4; i++) {
		put(PDPT_PAE + 8 * i, PD | 1, 8);
	}
	put(PD, PT | ALL, 8);
	put(PD_32, PT_32 | ALL, 4);
	for (unsigned i = 1; i < 32; i++) {
		put(PD + 8 * i, i << 21 | ALL | LARGE | i % 2 << 8, 8);
		put(PD_32 + 4 * i, i << 22 | ALL | LARGE, 4);
	}
	put(PD_32 + 4 * 0x300, (uint64_t)HK_MMIO_HOLE_START | ALL | LARGE, 4);
	for (unsigned i = 0; i < SMALL_PAGES; i++) {
		put(PT + 8 * i, i << 12 | ALL | i % 3 << 8, 8);
		put(PT_32 + 4 * i, i << 12 | ALL, 4);
	}
	for (unsigned n = (how & HOSTILE_TABLES) != 0 ? 1 + any() % 32 : 0; n > 0; n--) {
		hk_gpa at = PML4 + any() % 7 * HK_PAGE_SIZE + any() % 64 * 8;
		uint64_t entry;

		memcpy(&entry, mem.ram + at, 8);
		switch (any() % 4) {
		case 0:
			entry ^= UINT64_C(1) << any() % 64;
			break;
		case 1:
			entry ^= UINT64_C(1) << any() % 9;
			break;
		case 2:
			entry = (entry & 0xfff) | (nasty() & UINT64_C(0x7fffffffff) & HK_PAGE_MASK);
			break;
		default:
			entry = any();
			break;
		}
		put(at, entry, 8);
	}
}

static void make_descriptors(bool wide, unsigned code_len)
{
	static const uint64_t segments[] = {0, 0xaf9b000000ffff, 0xcf93000000ffff, 0xcffb000000ffff,
		0xcff3000000ffff, 0xaffb000000ffff, 0, 0, 0xcf9b000000ffff, 0xcf9a000000ffff,
		0x9b020000ffff, 0x92020000ffff};

	for (unsigned i = 0; i < HK_ARRAY_SIZE(segments); i++) {
		put(GDT + 8 * i, segments[i], 8);
	}
	put(GDT + 8 * 6, 0x67 | (uint64_t)TSS << 16 | UINT64_C(0x89) << 40, 8);
	for (unsigned i = 0; i < 256; i++) {
		uint64_t to = CODE + any() % (code_len + 1);
		uint64_t gate = (to & 0xffff) | (uint64_t)(wide ? 0x08 : 0x40) << 16 |
			(to & 0xffff0000) << 32 | (uint64_t)(one_in(4) ? 0xef : 0xee) << 40 |
			(wide && one_in(4) ? any() % 8 << 32 : 0);

		if ((how & HOSTILE_SEGMENTS) != 0 && one_in(4)) {
			gate ^= UINT64_C(1) << any() % 64;
		}
		put(IDT + i * (wide ? 16 : 8), gate, 8);
	}
	for (unsigned i = 4; i < 0x60; i += 8) {
		put(TSS + i, STACK + any() % 4 * HK_PAGE_SIZE, 8);
	}
	if (!wide) {
		put(TSS + 8, 0x10, 4);
	}
	for (unsigned n = (how & HOSTILE_SEGMENTS) != 0 ? any() % 16 : 0; n > 0; n--) {
		put(GDT + any() % 16 * 8, any() ^ UINT64_C(0x9b) << 40, 8);
		put(TSS + any() % 0x60, nasty(), 8);
	}
}

static void set_segments(unsigned code, unsigned data, uint16_t code_attr, uint16_t data_attr)
{
	for (unsigned i = 0; i <= HK_GS; i++) {
		cpu->seg[i] = (struct hk_segment){
			.limit = UINT32_MAX,
			.selector = (uint16_t)(i == HK_CS ? code : data),
			.attr = i == HK_CS ? code_attr : data_attr,
		};
	}
	cpu->seg[HK_TR] =
		(struct hk_segment){.base = TSS, .limit = 0x67, .selector = 0x30, .attr = 0x8b};
	cpu->seg[HK_LDTR] = (struct hk_segment){.unusable = true};
}

/* What hk_engine_set_state() lets pass. */
static void set_anything(void)
{
	cpu->cr0 = any() & UINT32_MAX;
	cpu->cr0 |= (cpu->cr0 & HK_CR0_PG) != 0 ? HK_CR0_PE : 0;
	cpu->cr3 = nasty() & UINT64_C(0x7fffffffff);
	cpu->cr4 = any() & hk_cpu_cr4_known(cpu);
	cpu->efer = any() & (HK_EFER_SCE | HK_EFER_LME | HK_EFER_NXE);
	if ((cpu->cr0 & HK_CR0_PG) != 0 && (cpu->efer & HK_EFER_LME) != 0) {
		cpu->efer |= HK_EFER_LMA;
		cpu->cr4 |= HK_CR4_PAE;
	}
	if (!one_in(4)) {
		cpu->cr3 = (cpu->efer & HK_EFER_LMA) != 0 ? PML4
			: (cpu->cr4 & HK_CR4_PAE) != 0    ? PDPT_PAE
							  : PD_32;
	}
	for (unsigned i = 0; i < HK_SEG_COUNT; i++) {
		if (one_in(2)) {
			continue;
		}
		cpu->seg[i] = (struct hk_segment){
			.base = nasty(),
			.limit = (uint32_t)nasty(),
			.selector = (uint16_t)any(),
			.attr = (uint16_t)any(),
			.unusable = one_in(4),
		};
	}
	cpu->gdt = (struct hk_table_reg){.base = nasty(), .limit = (uint16_t)nasty()};
	cpu->idt = (struct hk_table_reg){.base = nasty(), .limit = (uint16_t)nasty()};
	cpu->event.pending = one_in(4);
	cpu->event.vector = (uint8_t)any();
	cpu->event.has_code = one_in(2);
	cpu->event.code = (uint32_t)any();
	cpu->shadow = any() % 4;
	cpu->rip = one_in(2) ? nasty() : cpu->rip;
	hk_rflags_set(cpu, (uint32_t)any());
}

static void set_mode(enum mode mode)
{
	bool user = mode == LONG_3 || mode == COMPAT_3 || mode == PROTECTED_3;
	uint16_t dpl = user ? 0x60 : 0;

	cpu->cr0 = HK_CR0_PE | HK_CR0_ET | HK_CR0_NE | HK_CR0_PG | HK_CR0_WP;
	cpu->cr4 = HK_CR4_OSFXSR | HK_CR4_OSXMMEXCPT | HK_CR4_OSXSAVE;
	cpu->efer = 0;
	switch (mode) {
	case PROTECTED_0:
	case PROTECTED_3:
		cpu->cr0 &= one_in(3) ? ~HK_CR0_PG : UINT64_MAX;
		cpu->cr4 |= one_in(2) ? HK_CR4_PAE : HK_CR4_PSE;
		cpu->cr3 = (cpu->cr4 & HK_CR4_PAE) != 0 ? PDPT_PAE : PD_32;
		set_segments(user ? 0x1b : 0x40, user ? 0x23 : 0x10, 0xc09b | dpl, 0xc093 | dpl);
		break;
	case REAL:
		hk_cpu_reset(cpu);
		cpu->seg[HK_CS].base = CODE;
		cpu->seg[HK_CS].selector = CODE >> 4;
		cpu->rip = 0;
		cpu->idt.base = 0;
		for (unsigned i = 0; i < 256; i++) {
			put(4 * i, any() % 256 | CODE >> 4 << 16, 4);
		}
		break;
	default:
		cpu->cr4 |= HK_CR4_PAE | HK_CR4_PGE;
		cpu->cr3 = PML4;
		cpu->efer = HK_EFER_LME | HK_EFER_LMA | HK_EFER_SCE | HK_EFER_NXE;
		set_segments(mode == COMPAT_3 ? 0x1b
				: user        ? 0x2b
					      : 0x08,
			user ? 0x23 : 0x10, (mode == COMPAT_3 ? 0xc09b : 0xa09b) | dpl,
			0xc093 | dpl);
		break;
	}
}

static void set_registers(enum mode mode, size_t code_len)
{
	hk_cpu_reset(cpu);
	cpu->features = (how & HOSTILE_FEATURES) != 0 ? 1u << HK_FEAT_BASE : UINT32_MAX;
	for (unsigned i = 0; i < 16; i++) {
		cpu->gpr[i] = nasty();
		cpu->xmm[i].u64[0] = any();
		cpu->xmm[i].u64[1] = one_in(2) ? any() : nasty();
	}
	for (unsigned i = 0; i < 8; i++) {
		cpu->x87.r[i] = (struct hk_f80){
			.frac = one_in(4) ? nasty() : any(),
			.sign_exp = (uint16_t)(one_in(2) ? any() : 0x3fff + any() % 64),
		};
	}
	cpu->x87.fcw = (uint16_t)(one_in(2) ? 0x37f : any() & 0xf7f);
	cpu->x87.fsw = (uint16_t)any();
	cpu->x87.tag_empty = (uint8_t)any();
	cpu->mxcsr = one_in(2) ? 0x1f80 : any() & 0xffff;
	cpu->xcr0 = 3;
	cpu->rip = CODE + (one_in(4) ? any() % (code_len + 1) : 0);
	cpu->gpr[HK_RSP] = STACK + 0x800;
	cpu->gdt = (struct hk_table_reg){.base = GDT, .limit = 0x7f};
	cpu->idt = (struct hk_table_reg){.base = IDT, .limit = 0xfff};
	cpu->lstar = CODE;
	cpu->cstar = CODE + 0x10;
	cpu->star = UINT64_C(0x1b000800000000);
	cpu->sysenter_cs = 8;
	cpu->sysenter_eip = CODE;
	cpu->kernel_gs_base = nasty();
	hk_rflags_set(cpu, HK_FLAG_FIXED | (any() & 0x240cd5));
	set_mode(mode);
	cpu->activity = HK_CPU_RUNNING;
	if ((how & HOSTILE_CONTROL) != 0) {
		cpu->cr0 ^=
			any() & any() & (HK_CR0_WP | HK_CR0_TS | HK_CR0_EM | HK_CR0_NE | HK_CR0_AM);
		cpu->cr4 ^= any() & any() & hk_cpu_cr4_known(cpu) & ~HK_CR4_PAE;
	}
	if ((how & HOSTILE_DEBUG) != 0) {
		for (unsigned i = 0; i < 4; i++) {
			cpu->dr[i] = nasty();
		}
		cpu->dr7 = one_in(2) ? any() & UINT32_MAX : 0x400;
		cpu->rflags |= one_in(2) ? HK_FLAG_TF : 0;
	}
	if (mode == ANYTHING) {
		set_anything();
	}
}

/* ---- What must hold ---- */

static void check_tlb(void)
{
	for (unsigned kind = 0; kind < HK_TLB_KIND_COUNT; kind++) {
		for (unsigned i = 0; i < HK_TLB_ENTRIES; i++) {
			const struct hk_tlb_entry *e = &cpu->tlbs[kind][i];

			if (e->read == HK_TLB_NONE && e->write == HK_TLB_NONE) {
				continue;
			}

			uint8_t *host = hk_soft_mem_page(&soft, e->page & HK_PAGE_MASK);
			uint32_t mark = *hk_soft_mem_mark(&soft, e->page & HK_PAGE_MASK);

			assert(host != NULL && (e->read & 0xfff) == 0);
			assert((e->read >> 12 & (HK_TLB_ENTRIES - 1)) == i);
			assert(e->read + e->addend == (uintptr_t)host);
			assert(e->write == HK_TLB_NONE || e->write == e->read);
			assert(e->write == HK_TLB_NONE || mark == 1u << 16);
		}
	}
}

/* Is each decoded instruction what the bytes say? */
static void check_code_page(const struct hk_code_page *code)
{
	const uint8_t *bytes = hk_soft_mem_page(&soft, code->page);

	assert(!code->dropped && bytes != NULL);
	assert((*hk_soft_mem_mark(&soft, code->page) & 1) != 0);
	for (unsigned off = 0; off < HK_PAGE_SIZE; off++) {
		const struct hk_insn *have;
		struct hk_insn want;

		if (code->index[off] == 0) {
			continue;
		}
		have = hk_code_insn(code, code->index[off]);
		switch (hk_decode(bytes + off, HK_PAGE_SIZE - off, (enum hk_code_mode)code->mode,
			cpu->features, (int)off, &want)) {
		case HK_DECODE_OK:
			if (hk_isa_exec(want.row) == hk_x_nop) { /* skipped */
				assert(have->off > (int)off);
				continue;
			}
			assert(have->row == want.row && have->len == want.len);
			assert(have->flags == want.flags && have->disp == want.disp);
			break;
		case HK_DECODE_UD:
			assert(have->len == 1 && have->row == 0);
			break;
		default:
			assert(false);
		}
		assert(have->off == (int)off);
	}
}

static void check_code(void)
{
	const struct hk_code_page *last = NULL;

	for (unsigned kind = 0; kind < HK_TLB_KIND_COUNT; kind++) {
		for (unsigned i = 0; i < HK_FETCH_ENTRIES; i++) {
			const struct hk_fetch_entry *e = &cpu->fetches[kind][i];

			if (e->page != HK_TLB_NONE && e->code != last) {
				check_code_page(e->code);
				last = e->code;
			}
		}
	}
}

static void check(void)
{
	bus_work(cpu);
	assert(cpu->gpr[HK_REG_ZERO] == 0);
	assert((cpu->rflags & HK_FLAGS_ARITH) == 0);
	assert(cpu->cpl <= 3 && cpu->mode < HK_CODE_MODE_COUNT);
	assert(cpu->tlb == cpu->tlbs[cpu->tlb_kind] && cpu->fetch == cpu->fetches[cpu->tlb_kind]);
	assert(cpu->code_gen == cpu->code_gens[cpu->tlb_kind]);
	assert(((cpu->efer & HK_EFER_LMA) != 0) ==
		((cpu->cr0 & HK_CR0_PG) != 0 && (cpu->efer & HK_EFER_LME) != 0));
	check_tlb();
	check_code();
	assert(hk_code_bytes(cpu) < CODE_BYTES_LIMIT);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	enum hk_cpu_stop stop = HK_CPU_KICKED;
	enum mode mode;
	size_t code_len;

	if (size < HEADER) {
		return 0;
	}
	if (cpu == NULL) {
		make_machine();
	}
	mode = (enum mode)(data[0] % MODE_COUNT);
	how = data[1];
	seed = (uint64_t)data[2] | (uint64_t)data[3] << 8 | (uint64_t)data[4] << 16 |
		(uint64_t)data[5] << 24;
	code_len = HK_MIN(size - HEADER, (size_t)MAX_CODE);

	wipe();
	set_registers(mode, code_len);
	make_page_tables();
	make_descriptors((cpu->efer & HK_EFER_LMA) != 0, (unsigned)code_len);
	/* Somewhat before the end of a page, so that it goes over. */
	memcpy(mem.ram + CODE, data + HEADER, code_len);
	memcpy(mem.ram + CODE + 0x3000 - HK_MIN(code_len / 2, (size_t)64), data + HEADER, code_len);
	if (one_in(4) && mode != REAL && mode != ANYTHING) {
		cpu->rip = CODE + 0x3000 - HK_MIN(code_len / 2, (size_t)64);
	}
	hk_cpu_flushed(cpu);

	for (unsigned i = 0; i < SLICES && stop != HK_CPU_DEAD; i++) {
		for (unsigned n = (how & HOSTILE_STEPS) != 0 ? STEPS : 0; n > 0 && !cpu->failed;
			n--) {
			hk_cpu_step(cpu);
		}
		atomic_fetch_and(&cpu->attention, ~(uint32_t)HK_ATT_KICK);
		stop = run_slice();
		check();
		if (stop == HK_CPU_IDLE) {
			cpu->activity = HK_CPU_RUNNING; /* somebody woke it */
		}
	}
	return 0;
}
