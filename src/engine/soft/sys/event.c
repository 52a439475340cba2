/* SPDX-License-Identifier: ISC */
/*
 * Exceptions and interrupts on their way into the guest's handlers.
 *
 * A delivery reads the gate, checks it, writes the frame with one store and only then changes
 * registers. Where something fails, the fault is the next to be delivered; what follows from two of
 * them in a row is a table of the manual (double faults). A fault on the way of a double fault
 * shuts down.
 *
 * Limits: hardware task switching is not built; task gates are #GP with their selector as error
 * code, as a gate of unknown type would be. No virtual-8086 mode.
 *
 * Source: Intel SDM vol. 3, chapter 6, 17.2.3, 17.3.1.1, 20.1.4.
 */
#include "engine/soft/sys/segment.h"

#include "engine/soft/mmu.h"

/* Error codes: what the selector in it is about */
enum {
	ERROR_EXTERNAL = 1 << 0, /* no instruction asked for the event */
	ERROR_IDT = 1 << 1,
};

/* DR6 and DR7 */
enum {
	DR6_HITS = 0xf, /* B0 to B3 */
	DR6_BD = 1 << 13,
	DR7_GD = 1 << 13,
};

enum fault_class { BENIGN, CONTRIBUTORY, PAGE_FAULT, DOUBLE_FAULT };

/* struct hk_cpu_event has no room for where it came from; deliveries carry it along. */
struct delivery {
	struct hk_cpu_event event;
	bool interrupt; /* from outside: an interrupt or NMI */
};

static enum fault_class class_of(const struct delivery *d)
{
	if (d->interrupt || d->event.soft) {
		return BENIGN;
	}
	switch (d->event.vector) {
	case HK_VECTOR_DE:
	case HK_VECTOR_TS:
	case HK_VECTOR_NP:
	case HK_VECTOR_SS:
	case HK_VECTOR_GP:
		return CONTRIBUTORY;
	case HK_VECTOR_PF:
		return PAGE_FAULT;
	case HK_VECTOR_DF:
		return DOUBLE_FAULT;
	default:
		return BENIGN;
	}
}

/*
 * Is the instruction to be run again afterwards? Its RF is set then, so that a breakpoint on it
 * does not come twice.
 */
static bool is_fault(const struct delivery *d)
{
	enum {
		FAULTS = 1 << HK_VECTOR_DE | 1 << HK_VECTOR_BR | 1 << HK_VECTOR_UD |
			1 << HK_VECTOR_NM | 1 << HK_VECTOR_TS | 1 << HK_VECTOR_NP |
			1 << HK_VECTOR_SS | 1 << HK_VECTOR_GP | 1 << HK_VECTOR_PF |
			1 << HK_VECTOR_MF | 1 << HK_VECTOR_AC | 1 << HK_VECTOR_XM,
	};

	if (d->interrupt || d->event.soft || d->event.vector > 31) {
		return false;
	}
	if (d->event.vector == HK_VECTOR_DB) {
		return (d->event.dr6 & DR6_BD) != 0;
	}
	return ((uint32_t)FAULTS >> d->event.vector & 1) != 0;
}

static uint64_t pushed_flags(const struct hk_cpu *cpu, const struct delivery *d)
{
	return hk_rflags_get(cpu) | (is_fault(d) ? HK_FLAG_RF : 0);
}

/* The gate in the IDT, decoded. */
struct gate {
	uint16_t selector;
	uint64_t offset;
	unsigned type;
	unsigned ist;
};

/* Return: false with a fault noted, which has no EXT bit yet. */
static bool gate_load(struct hk_cpu *cpu, const struct delivery *d, struct gate *ret_gate)
{
	unsigned bytes = hk_long_mode(cpu) ? 16 : 8;
	unsigned offset = d->event.vector * bytes;
	uint32_t error = d->event.vector * 8u | ERROR_IDT;
	uint64_t low;
	uint64_t high = 0;

	if (offset + bytes - 1 > cpu->idt.limit) {
		return hk_fault_code(cpu, HK_VECTOR_GP, error);
	}
	if (!hk_sys_load(cpu, cpu->idt.base + offset, &low, 8) ||
		(bytes == 16 && !hk_sys_load(cpu, cpu->idt.base + offset + 8, &high, 8))) {
		return false;
	}

	uint16_t attr = hk_descriptor_attr(low);
	unsigned type = attr & (HK_ATTR_S | HK_ATTR_TYPE);
	bool wide = type == HK_TYPE_INTERRUPT || type == HK_TYPE_TRAP;
	bool narrow = type == HK_TYPE_INTERRUPT_16 || type == HK_TYPE_TRAP_16;

	if (!wide && (hk_long_mode(cpu) || !narrow)) {
		return hk_fault_code(cpu, HK_VECTOR_GP, error);
	}
	if (d->event.soft && hk_attr_dpl(attr) < cpu->cpl) {
		return hk_fault_code(cpu, HK_VECTOR_GP, error);
	}
	if ((attr & HK_ATTR_P) == 0) {
		return hk_fault_code(cpu, HK_VECTOR_NP, error);
	}
	*ret_gate = (struct gate){
		.selector = (uint16_t)(low >> 16),
		.offset = (low & 0xffff) | (low >> 32 & 0xffff0000) | high << 32,
		.type = type,
		.ist = hk_long_mode(cpu) ? low >> 32 & 7 : 0,
	};
	if (narrow) {
		ret_gate->offset &= 0xffff;
	}
	return true;
}

/* The frame is written: on to the handler. */
static void enter_handler(struct hk_cpu *cpu, const struct gate *gate, const struct hk_segment *cs)
{
	uint32_t clear = HK_FLAG_TF | HK_FLAG_NT | HK_FLAG_RF | HK_FLAG_VM;

	if (gate->type == HK_TYPE_INTERRUPT || gate->type == HK_TYPE_INTERRUPT_16) {
		clear |= HK_FLAG_IF;
	}
	cpu->rflags &= ~clear;
	cpu->seg[HK_CS] = *cs;
	cpu->rip = gate->offset;
	hk_cpu_mode_changed(cpu);
}

static bool deliver_long(struct hk_cpu *cpu, const struct delivery *d)
{
	enum { TSS_RSP0 = 4, TSS_IST1 = 36 };

	struct hk_segment cs;
	struct hk_stack stack;
	struct gate gate;
	unsigned cpl;

	if (!gate_load(cpu, d, &gate) || !hk_gate_code(cpu, gate.selector, &cs, &cpl)) {
		return false;
	}

	bool inner = cpl < cpu->cpl;

	if (gate.ist != 0 || inner) {
		unsigned offset =
			gate.ist != 0 ? TSS_IST1 + 8 * (gate.ist - 1) : TSS_RSP0 + 8 * cpl;

		if (!hk_stack_inner_64(cpu, cpl, offset, &stack)) {
			return false;
		}
	} else {
		stack = hk_stack_present(cpu);
		stack.is_64 = true;
	}
	if (!inner) {
		stack.ss = cpu->seg[HK_SS];
	}
	stack.sp &= ~UINT64_C(15);

	uint64_t words[6];
	unsigned count = 0;

	if (d->event.has_code) {
		words[count++] = d->event.code;
	}
	words[count++] = cpu->rip;
	words[count++] = cpu->seg[HK_CS].selector;
	words[count++] = pushed_flags(cpu, d);
	words[count++] = cpu->gpr[HK_RSP];
	words[count++] = cpu->seg[HK_SS].selector;
	if (!hk_canonical(gate.offset)) {
		return hk_fault_code(cpu, HK_VECTOR_GP, 0);
	}
	if (!hk_stack_push(cpu, &stack, 3, words, count)) {
		return false;
	}
	cpu->seg[HK_SS] = stack.ss;
	cpu->gpr[HK_RSP] = stack.sp;
	enter_handler(cpu, &gate, &cs);
	return true;
}

static bool deliver_protected(struct hk_cpu *cpu, const struct delivery *d)
{
	struct hk_segment cs;
	struct hk_stack stack;
	struct gate gate;
	unsigned cpl;

	if (!gate_load(cpu, d, &gate) || !hk_gate_code(cpu, gate.selector, &cs, &cpl)) {
		return false;
	}

	unsigned size = (gate.type & HK_TYPE_WIDE) != 0 ? 2 : 1;
	uint64_t words[6];
	unsigned count = 0;

	if (d->event.has_code) {
		words[count++] = d->event.code;
	}
	words[count++] = cpu->rip;
	words[count++] = cpu->seg[HK_CS].selector;
	words[count++] = pushed_flags(cpu, d);
	if (cpl < cpu->cpl) {
		words[count++] = cpu->gpr[HK_RSP];
		words[count++] = cpu->seg[HK_SS].selector;
		if (!hk_stack_inner(cpu, cpl, &stack)) {
			return false;
		}
	} else {
		stack = hk_stack_present(cpu);
	}
	if (gate.offset > cs.limit) {
		return hk_fault_code(cpu, HK_VECTOR_GP, 0);
	}
	if (!hk_stack_push(cpu, &stack, size, words, count)) {
		return false;
	}
	cpu->seg[HK_SS] = stack.ss;
	cpu->gpr[HK_RSP] = stack.sp;
	enter_handler(cpu, &gate, &cs);
	return true;
}

/* Through the vector table of real mode: no error codes there. */
static bool deliver_real(struct hk_cpu *cpu, const struct delivery *d)
{
	struct hk_stack stack = hk_stack_present(cpu);
	unsigned offset = d->event.vector * 4u;
	uint16_t vector[2];
	uint64_t words[3] = {
		cpu->rip,
		cpu->seg[HK_CS].selector,
		pushed_flags(cpu, d),
	};

	if (offset + 3 > cpu->idt.limit) {
		return hk_fault_code(cpu, HK_VECTOR_GP, d->event.vector * 8u | ERROR_IDT);
	}
	if (!hk_sys_load(cpu, cpu->idt.base + offset, vector, sizeof(vector)) ||
		!hk_stack_push(cpu, &stack, 1, words, 3)) {
		return false;
	}
	cpu->gpr[HK_RSP] = stack.sp;
	cpu->rflags &= ~(uint32_t)(HK_FLAG_IF | HK_FLAG_TF | HK_FLAG_RF | HK_FLAG_AC);
	cpu->seg[HK_CS].selector = vector[1];
	cpu->seg[HK_CS].base = (uint32_t)vector[1] << 4;
	cpu->rip = vector[0];
	hk_cpu_mode_changed(cpu);
	return true;
}

/* What an exception leaves in registers, whether its handler is reached or not. */
static void note_cause(struct hk_cpu *cpu, const struct delivery *d)
{
	if (d->interrupt || d->event.soft) {
		return;
	}
	if (d->event.vector == HK_VECTOR_PF) {
		cpu->cr2 = d->event.cr2;
	} else if (d->event.vector == HK_VECTOR_DB) {
		if (d->event.dr6 != 0) {
			cpu->dr6 = (cpu->dr6 & ~(uint64_t)DR6_HITS) | d->event.dr6;
		}
		cpu->dr7 &= ~(uint64_t)DR7_GD;
	}
}

static bool deliver_once(struct hk_cpu *cpu, const struct delivery *d)
{
	note_cause(cpu, d);
	if (!hk_protected(cpu)) {
		return deliver_real(cpu, d);
	}
	return hk_long_mode(cpu) ? deliver_long(cpu, d) : deliver_protected(cpu, d);
}

/* @second came up while @first was delivered. Return: false: shut down. */
static bool escalate(const struct delivery *first, struct delivery *second)
{
	enum fault_class was = class_of(first);
	enum fault_class is = class_of(second);

	if (was == DOUBLE_FAULT) {
		return is == BENIGN;
	}
	if ((was == CONTRIBUTORY && is == CONTRIBUTORY) || (was == PAGE_FAULT && is != BENIGN)) {
		second->event = (struct hk_cpu_event){
			.pending = true,
			.vector = HK_VECTOR_DF,
			.has_code = true,
		};
	}
	return true;
}

/* At most four rounds: a benign event, a fault, another, a double fault. */
static void deliver(struct hk_cpu *cpu, struct delivery d)
{
	cpu->shadow = 0;
	for (;;) {
		cpu->event.pending = false;
		if (deliver_once(cpu, &d)) {
			return;
		}

		struct delivery next = {.event = cpu->event};

		switch (next.event.vector) {
		case HK_VECTOR_TS:
		case HK_VECTOR_NP:
		case HK_VECTOR_SS:
		case HK_VECTOR_GP:
			next.event.code |= d.event.soft ? 0 : ERROR_EXTERNAL;
			break;
		default:
			break;
		}
		if (d.event.soft) {
			cpu->rip -= d.event.soft_len;
		}
		if (!escalate(&d, &next)) {
			cpu->event.pending = false;
			cpu->failed = true;
			return;
		}
		d = next;
	}
}

void hk_deliver_event(struct hk_cpu *cpu)
{
	deliver(cpu, (struct delivery){.event = cpu->event});
}

void hk_deliver_interrupt(struct hk_cpu *cpu, unsigned vector, bool nmi)
{
	struct delivery d = {.event = {.vector = (uint8_t)vector}, .interrupt = true};

	if (nmi) {
		cpu->nmi_masked = true;
	}
	deliver(cpu, d);
}

const struct hk_insn *hk_give_up(struct hk_cpu *cpu, const struct hk_insn *insn)
{
	if (cpu->event.non_canonical && hk_insn_mem(insn) && hk_insn_seg(insn) == HK_SS) {
		cpu->event.vector = HK_VECTOR_SS;
	}
	return hk_leave_to(cpu, hk_insn_rip(cpu, insn));
}

const struct hk_insn *hk_raise_soft(struct hk_cpu *cpu, const struct hk_insn *insn, unsigned vector)
{
	cpu->event = (struct hk_cpu_event){
		.pending = true,
		.vector = (uint8_t)vector,
		.soft = true,
		.soft_len = insn->len,
	};
	return hk_leave(cpu, insn);
}
