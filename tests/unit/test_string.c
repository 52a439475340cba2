/* SPDX-License-Identifier: ISC */
/*
 * String instructions against a byte-by-byte model: every size, both directions, overlapping
 * ranges, pages in the TLB and not, page crossings, faults in the middle, interruptions between
 * elements.
 *
 * Memory is a double: a few pages, of which some can be accessed at once (in the TLB), some by the
 * slow path only, some not at all. Two linear pages are the same memory, so that ranges overlap
 * where addresses do not tell.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "base/util.h"
#include "engine/soft/exec/handlers.h"
#include "engine/soft/operand.h"
#include "engine/soft/sys.h"

enum {
	PAGES = 6, /* linear pages; page 5 shows the memory of page 0 again */
	FRAMES = 5,
	BASE = 0x10000,
};

static struct hk_cpu cpu;
static struct hk_tlb_entry tlb[HK_TLB_ENTRIES];
static uint8_t memory[FRAMES * HK_PAGE_SIZE];
static uint8_t model[FRAMES * HK_PAGE_SIZE];
static bool may_read[PAGES], may_write[PAGES];
static uint8_t port_log[64];
static unsigned port_count;
static uint64_t seed = 1;

static uint64_t any(void)
{
	seed ^= seed << 13;
	seed ^= seed >> 7;
	seed ^= seed << 17;
	return seed;
}

static uint64_t below(uint64_t bound)
{
	return any() % bound;
}

/* Index into memory, or -1 */
static int place(uint64_t va, bool write)
{
	uint64_t page = (va - BASE) / HK_PAGE_SIZE;

	if (va < BASE || page >= PAGES || !(write ? may_write[page] : may_read[page])) {
		return -1;
	}
	return (int)(page % FRAMES * HK_PAGE_SIZE + va % HK_PAGE_SIZE);
}

/* The doubles of mmu.c and its neighbours. */

bool hk_load(struct hk_cpu *c, uint64_t va, void *buf, unsigned len)
{
	for (unsigned i = 0; i < len; i++) {
		int at = place(va + i, false);

		if (at < 0) {
			return hk_fault_page(c, va + i, 0);
		}
		((uint8_t *)buf)[i] = memory[at];
	}
	return true;
}

bool hk_probe(struct hk_cpu *c, uint64_t va, unsigned len, enum hk_access access)
{
	for (unsigned i = 0; i < len; i++) {
		if (place(va + i, access == HK_ACCESS_WRITE) < 0) {
			return hk_fault_page(c, va + i, 2);
		}
	}
	return true;
}

bool hk_store(struct hk_cpu *c, uint64_t va, const void *buf, unsigned len)
{
	if (!hk_probe(c, va, len, HK_ACCESS_WRITE)) {
		return false;
	}
	for (unsigned i = 0; i < len; i++) {
		memory[place(va + i, true)] = ((const uint8_t *)buf)[i];
	}
	return true;
}

bool hk_linear_slow(struct hk_cpu *c, unsigned seg, uint64_t offset, unsigned len,
	enum hk_access access, uint64_t *ret_va)
{
	(void)len;
	(void)access;
	*ret_va = c->seg_base[seg] + offset;
	return true;
}

const struct hk_insn *hk_give_up(struct hk_cpu *c, const struct hk_insn *insn)
{
	return hk_leave_to(c, hk_insn_rip(c, insn));
}

bool hk_io_allowed(struct hk_cpu *c, uint16_t port, unsigned len)
{
	(void)c;
	(void)len;
	assert_int_equal(port, 0x80);
	return true;
}

static void port(struct hk_cpu *c, uint16_t number, void *data, unsigned len, bool write)
{
	uint8_t *bytes = data;

	(void)c;
	(void)number;
	for (unsigned i = 0; i < len; i++) {
		assert_true(port_count < sizeof(port_log));
		if (write) {
			port_log[port_count++] = bytes[i];
		} else {
			bytes[i] = port_log[port_count++];
		}
	}
}

enum op { MOVS, STOS, LODS, CMPS, SCAS, OP_COUNT };

/* The state that a string instruction works on, in the model. */
struct state {
	uint64_t si, di, cx, ax;
	uint32_t flags;
	bool fault;
};

static uint64_t model_load(uint64_t va, unsigned len, bool *fault)
{
	uint64_t value = 0;

	for (unsigned i = 0; i < len; i++) {
		int at = place(va + i, false);

		if (at < 0) {
			*fault = true;
			return 0;
		}
		value |= (uint64_t)model[at] << 8 * i;
	}
	return value;
}

static void model_store(uint64_t va, unsigned len, uint64_t value, bool *fault)
{
	for (unsigned i = 0; i < len; i++) {
		if (place(va + i, true) < 0) {
			*fault = true;
			return;
		}
	}
	for (unsigned i = 0; i < len; i++) {
		model[place(va + i, true)] = (uint8_t)(value >> 8 * i);
	}
}

/* One element. Return: false: it faults, nothing has changed. */
static bool model_one(struct state *s, enum op op, unsigned size, bool down)
{
	unsigned len = 1u << size;
	uint64_t mask = hk_mask(size);
	uint64_t step = down ? 0 - (uint64_t)len : len;
	bool uses_si = op == MOVS || op == LODS || op == CMPS;
	bool uses_di = op != LODS;
	bool fault = false;
	uint64_t a = s->ax & mask;
	uint64_t b;

	if (uses_si) {
		a = model_load(s->si, len, &fault);
	}
	if (fault) {
		return false;
	}
	if (op == MOVS || op == STOS) {
		model_store(s->di, len, a, &fault);
	} else if (op == LODS) {
		s->ax = size == 2 ? a : (s->ax & ~mask) | a;
	} else {
		b = model_load(s->di, len, &fault);
		if (!fault) {
			uint64_t res = cpu.cc_res;
			uint64_t src = cpu.cc_src;
			uint32_t kind = cpu.cc_kind;

			hk_cc_set(&cpu, HK_CC_SUB, size, a - b, b);
			s->flags = hk_cc_get(&cpu);
			cpu.cc_res = res;
			cpu.cc_src = src;
			cpu.cc_kind = kind;
		}
	}
	if (fault) {
		return false;
	}
	s->si += uses_si ? step : 0;
	s->di += uses_di ? step : 0;
	return true;
}

static void model_run(struct state *s, enum op op, unsigned size, bool down, enum hk_rep rep)
{
	if (rep == HK_REP_NONE) {
		s->fault = !model_one(s, op, size, down);
		return;
	}

	uint32_t flags = s->flags;

	while (s->cx != 0) {
		if (!model_one(s, op, size, down)) {
			s->fault = true;
			s->flags = flags; /* as if nothing had been compared */
			return;
		}
		s->cx--;
		if ((op == CMPS || op == SCAS) &&
			((s->flags & HK_FLAG_ZF) != 0) != (rep == HK_REP_F3)) {
			return;
		}
	}
}

static void fill_tlb(void)
{
	for (unsigned i = 0; i < HK_TLB_ENTRIES; i++) {
		tlb[i] = (struct hk_tlb_entry){.read = HK_TLB_NONE, .write = HK_TLB_NONE};
	}
	for (unsigned page = 0; page < PAGES; page++) {
		uint64_t va = BASE + page * HK_PAGE_SIZE;
		struct hk_tlb_entry *e = &tlb[va >> 12 & (HK_TLB_ENTRIES - 1)];
		unsigned kind = (unsigned)below(8);

		may_read[page] = kind != 0;
		may_write[page] = kind > 1;
		e->addend = (uintptr_t)memory + page % FRAMES * HK_PAGE_SIZE - va;
		e->read = may_read[page] && below(4) != 0 ? va : HK_TLB_NONE;
		e->write = may_write[page] && below(4) != 0 ? va : HK_TLB_NONE;
	}
}

/* Near the ends of pages more often than elsewhere, and two addresses often near each other. */
static uint64_t pick_address(uint64_t near)
{
	uint64_t page = BASE + below(PAGES) * HK_PAGE_SIZE;

	switch (below(4)) {
	case 0:
		return near + below(40) - 20;
	case 1:
		return page + HK_PAGE_SIZE - below(40);
	case 2:
		return page + below(40);
	default:
		return page + below(HK_PAGE_SIZE);
	}
}

static void run_one(void)
{
	static hk_exec_fn *const handlers[OP_COUNT] = {
		hk_x_movs, hk_x_stos, hk_x_lods, hk_x_cmps, hk_x_scas};
	static const enum hk_rep reps[] = {HK_REP_NONE, HK_REP_F3, HK_REP_F3, HK_REP_F2};
	enum op op = (enum op)below(OP_COUNT);
	unsigned size = (unsigned)below(4);
	unsigned addr = below(8) == 0 ? 2 : 3;
	enum hk_rep rep = reps[below(HK_ARRAY_SIZE(reps))];
	bool down = below(3) == 0;
	bool interrupted = below(3) == 0;
	struct hk_insn insn[2] = {0};
	const struct hk_insn *next;
	struct state s;

	insn[0].exec = handlers[op];
	insn[0].len = 2;
	insn[0].off = 0x10;
	insn[0].flags = (uint16_t)(size | addr << HK_INSN_ADDR_SHIFT | HK_DS << HK_INSN_SEG_SHIFT |
		(unsigned)rep << HK_INSN_REP_SHIFT);

	fill_tlb();
	for (size_t i = 0; i < sizeof(memory); i++) {
		/* Mostly alike, so that comparisons go on for a while. */
		memory[i] = op >= CMPS ? (below(300) == 0) : (uint8_t)any();
	}
	memcpy(model, memory, sizeof(model));

	s = (struct state){.si = pick_address(BASE), .cx = below(3) == 0 ? below(9000) : below(60)};
	s.di = pick_address(s.si);
	s.ax = below(3) == 0 ? 0 : any();
	s.flags = HK_FLAG_PF;
	memset(cpu.gpr, 0, sizeof(cpu.gpr));
	cpu.gpr[HK_RSI] = s.si;
	cpu.gpr[HK_RDI] = s.di;
	cpu.gpr[HK_RCX] = s.cx;
	cpu.gpr[HK_RAX] = s.ax;
	cpu.gpr[HK_REG_PAGE] = 0x400000;
	cpu.mode = HK_CODE_64;
	cpu.stack_size = 3;
	cpu.tlb = tlb;
	cpu.event.pending = false;
	hk_rflags_set(&cpu, HK_FLAG_PF | (down ? HK_FLAG_DF : 0));
	atomic_store(&cpu.attention, interrupted ? HK_ATT_IRQ : 0);

	unsigned pauses = 0;

	for (;;) {
		next = insn[0].exec(&cpu, insn);
		if (next != NULL || cpu.event.pending) {
			break;
		}
		assert_true(interrupted);
		assert_true(cpu.gpr[HK_RCX] != 0);
		assert_int_equal(cpu.rip, 0x400010);
		assert_true(++pauses < 10000);
	}
	model_run(&s, op, size, down, rep);

	assert_int_equal(cpu.event.pending, s.fault);
	assert_ptr_equal(next, s.fault ? NULL : insn + 1);
	if (s.fault) {
		assert_int_equal(cpu.rip, 0x400010);
	}
	assert_int_equal(cpu.gpr[HK_RSI], s.si);
	assert_int_equal(cpu.gpr[HK_RDI], s.di);
	assert_int_equal(cpu.gpr[HK_RCX], s.cx);
	assert_int_equal(cpu.gpr[HK_RAX], s.ax);
	assert_int_equal(hk_cc_get(&cpu), s.flags);
	assert_memory_equal(memory, model, sizeof(model));
}

static void test_against_model(void **state)
{
	(void)state;
	for (unsigned i = 0; i < 3000; i++) {
		run_one();
	}
}

/* With TF set, one element at a time, the last one ends the instruction. */
static void test_single_step(void **state)
{
	struct hk_insn insn[2] = {{.exec = hk_x_stos, .len = 2}};

	(void)state;
	insn[0].flags = 3 << HK_INSN_ADDR_SHIFT | HK_REP_F3 << HK_INSN_REP_SHIFT;
	do {
		fill_tlb();
	} while (!may_write[1]);
	atomic_store(&cpu.attention, HK_ATT_STEP);
	hk_rflags_set(&cpu, HK_FLAG_TF);
	cpu.event.pending = false;
	cpu.gpr[HK_RDI] = BASE + HK_PAGE_SIZE;
	cpu.gpr[HK_RCX] = 3;
	assert_null(insn[0].exec(&cpu, insn));
	assert_int_equal(cpu.gpr[HK_RCX], 2);
	assert_null(insn[0].exec(&cpu, insn));
	assert_int_equal(cpu.gpr[HK_RCX], 1);
	assert_ptr_equal(insn[0].exec(&cpu, insn), insn + 1);
	assert_int_equal(cpu.gpr[HK_RDI], BASE + HK_PAGE_SIZE + 3);
	/* Without TF the step's own attention does not cut it short. */
	hk_rflags_set(&cpu, 0);
	cpu.gpr[HK_RCX] = 3;
	assert_ptr_equal(insn[0].exec(&cpu, insn), insn + 1);
	assert_int_equal(cpu.gpr[HK_RCX], 0);
}

/* A port is not read for a place that cannot be written. */
static void test_ports(void **state)
{
	static const struct hk_cpu_bus_ops bus = {.port = port};
	struct hk_insn insn[2] = {{.exec = hk_x_outs, .len = 2}};

	(void)state;
	for (unsigned page = 0; page < PAGES; page++) {
		may_read[page] = may_write[page] = page != 3;
	}
	for (unsigned i = 0; i < HK_TLB_ENTRIES; i++) {
		tlb[i] = (struct hk_tlb_entry){.read = HK_TLB_NONE, .write = HK_TLB_NONE};
	}
	cpu.bus = &bus;
	cpu.event.pending = false;
	atomic_store(&cpu.attention, 0);
	hk_rflags_set(&cpu, 0);
	memcpy(memory, "hallo!", 6);
	insn[0].flags = 1 | 3 << HK_INSN_ADDR_SHIFT | HK_DS << HK_INSN_SEG_SHIFT |
		HK_REP_F3 << HK_INSN_REP_SHIFT;
	cpu.gpr[HK_RSI] = BASE;
	cpu.gpr[HK_RDX] = 0x80;
	cpu.gpr[HK_RCX] = 3;
	port_count = 0;
	assert_ptr_equal(insn[0].exec(&cpu, insn), insn + 1);
	assert_int_equal(port_count, 6);
	assert_memory_equal(port_log, "hallo!", 6);

	insn[0].exec = hk_x_ins;
	cpu.gpr[HK_RDI] = BASE + 3 * HK_PAGE_SIZE - 4;
	cpu.gpr[HK_RCX] = 3;
	port_count = 0;
	assert_null(insn[0].exec(&cpu, insn));
	assert_true(cpu.event.pending);
	assert_int_equal(port_count, 4);
	assert_int_equal(cpu.gpr[HK_RCX], 1);
	assert_memory_equal(memory + 3 * HK_PAGE_SIZE - 4, "hall", 4);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_against_model),
		cmocka_unit_test(test_single_step),
		cmocka_unit_test(test_ports),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
