/* SPDX-License-Identifier: ISC */
/*
 * Stack frames of interrupts, gates and far transfers: written and read as a whole, so that one
 * that cannot be written has changed nothing.
 *
 * Limit: a frame that wraps around the end of a 16-bit stack segment is #SS; hardware would
 * split it, word by word.
 *
 * Source: Intel SDM vol. 3, 5.8.5, 6.12.1, 6.14.2 to 6.14.5, 7.2.1, 7.7.
 */
#include "engine/soft/operand.h"
#include "engine/soft/sys/segment.h"

enum { MAX_FRAME_BYTES = 320 }; /* a call gate's: 31 parameters and four words */

struct hk_stack hk_stack_present(const struct hk_cpu *cpu)
{
	return (struct hk_stack){
		.ss = cpu->seg[HK_SS],
		.sp = cpu->gpr[HK_RSP],
		.cpl = cpu->cpl,
		.is_64 = cpu->mode == HK_CODE_64,
	};
}

/* @len bytes at @offset of the TSS. Return: false with #TS or the fault of the access noted. */
static bool tss_load(struct hk_cpu *cpu, unsigned offset, void *buf, unsigned len)
{
	const struct hk_segment *tr = &cpu->seg[HK_TR];

	if (tr->unusable || offset + len - 1 > tr->limit) {
		return hk_selector_fault(cpu, HK_VECTOR_TS, tr->selector);
	}
	return hk_sys_load(cpu, tr->base + offset, buf, len);
}

bool hk_stack_inner(struct hk_cpu *cpu, unsigned cpl, struct hk_stack *ret_stack)
{
	struct hk_stack stack = {.cpl = (uint8_t)cpl};
	uint16_t selector;

	if ((cpu->seg[HK_TR].attr & HK_TYPE_WIDE) != 0) {
		struct {
			uint32_t esp;
			uint16_t ss;
			uint16_t reserved;
		} slot;

		if (!tss_load(cpu, 4 + 8 * cpl, &slot, sizeof(slot))) {
			return false;
		}
		stack.sp = slot.esp;
		selector = slot.ss;
	} else {
		uint16_t slot[2];

		if (!tss_load(cpu, 2 + 4 * cpl, slot, sizeof(slot))) {
			return false;
		}
		stack.sp = slot[0];
		selector = slot[1];
	}
	if (!hk_stack_segment_load(cpu, selector, cpl, HK_VECTOR_TS, &stack.ss)) {
		return false;
	}
	stack.fault_code = selector & 0xfffc;
	*ret_stack = stack;
	return true;
}

bool hk_stack_inner_64(
	struct hk_cpu *cpu, unsigned cpl, unsigned offset, struct hk_stack *ret_stack)
{
	struct hk_stack stack = {.cpl = (uint8_t)cpl, .is_64 = true};

	if (!tss_load(cpu, offset, &stack.sp, sizeof(stack.sp))) {
		return false;
	}
	stack.ss = hk_null_stack(cpl);
	*ret_stack = stack;
	return true;
}

/* rSP moved by @delta, in the width of stacks in @ss */
static uint64_t moved(const struct hk_stack *stack, uint64_t delta)
{
	if (stack->is_64) {
		return stack->sp + delta;
	}
	if ((stack->ss.attr & HK_ATTR_DB) != 0) {
		return (uint32_t)(stack->sp + delta);
	}
	return (stack->sp & ~UINT64_C(0xffff)) | (uint16_t)(stack->sp + delta);
}

/*
 * The usual frame, of aligned 8-byte words in a page that the TLB knows, word by word: what is
 * written so is soon read so, and CPUs pass on what they stored only in the same pieces.
 * Return: false: take the other way. Nothing is noted.
 */
static HK_GUEST_RACES bool store_aligned(
	struct hk_cpu *cpu, uint64_t va, const uint64_t *words, unsigned count, unsigned cpl)
{
	unsigned kind = cpl == 3 ? HK_TLB_USER : HK_TLB_KERNEL;
	const struct hk_tlb_entry *e = &cpu->tlbs[kind][va >> 12 & (HK_TLB_ENTRIES - 1)];

	if ((va & 7) != 0 || e->write != ((va + 8 * count - 1) & HK_PAGE_MASK)) {
		return false;
	}

	uint64_t *host = (uint64_t *)(uintptr_t)(va + e->addend);

	for (unsigned i = 0; i < count; i++) {
		__atomic_store_n(&host[i], words[i], __ATOMIC_RELEASE);
	}
	return true;
}

static HK_GUEST_RACES bool load_aligned(
	struct hk_cpu *cpu, uint64_t va, uint64_t *ret_words, unsigned count)
{
	const uint64_t *host = hk_tlb_read(cpu, va, 8 * count);

	if ((va & 7) != 0 || host == NULL) {
		return false;
	}
	for (unsigned i = 0; i < count; i++) {
		ret_words[i] = __atomic_load_n(&host[i], __ATOMIC_ACQUIRE);
	}
	return true;
}

bool hk_stack_push(struct hk_cpu *cpu, struct hk_stack *stack, unsigned size, const uint64_t *words,
	unsigned count)
{
	uint8_t frame[MAX_FRAME_BYTES];
	unsigned width = 1u << size;
	unsigned len = count * width;
	uint64_t sp = moved(stack, 0 - (uint64_t)len);
	uint64_t va = sp;

	assert(len <= sizeof(frame));
	if (stack->is_64) {
		if (!hk_canonical(va) || !hk_canonical(va + len - 1)) {
			return hk_fault_code(cpu, HK_VECTOR_SS, stack->fault_code);
		}
	} else {
		uint32_t offset = (stack->ss.attr & HK_ATTR_DB) != 0 ? (uint32_t)sp : (uint16_t)sp;

		if (stack->ss.unusable || !hk_segment_reaches(&stack->ss, offset, len)) {
			return hk_fault_code(cpu, HK_VECTOR_SS, stack->fault_code);
		}
		va = (uint32_t)(stack->ss.base + offset);
	}
	if (size < 3 || !store_aligned(cpu, va, words, count, stack->cpl)) {
		for (unsigned i = 0; i < count; i++) {
			memcpy(frame + i * width, &words[i], width); /* the low bytes */
		}
		if (stack->cpl == 3 ? !hk_store(cpu, va, frame, len)
				    : !hk_sys_store(cpu, va, frame, len)) {
			return false;
		}
	}
	stack->sp = sp;
	return true;
}

bool hk_stack_peek(
	struct hk_cpu *cpu, unsigned skip, unsigned size, uint64_t *ret_words, unsigned count)
{
	uint8_t frame[MAX_FRAME_BYTES];
	unsigned width = 1u << size;
	unsigned len = count * width;
	struct hk_stack stack = hk_stack_present(cpu);
	uint64_t sp = moved(&stack, skip);
	uint64_t va;

	assert(len <= sizeof(frame));
	if (cpu->stack_size < 3) {
		sp = cpu->stack_size == 2 ? (uint32_t)sp : (uint16_t)sp;
	}
	if (!hk_linear(cpu, HK_SS, sp, len, HK_ACCESS_READ, &va)) {
		return false;
	}
	if (size == 3 && load_aligned(cpu, va, ret_words, count)) {
		return true;
	}
	if (!hk_load(cpu, va, frame, len)) {
		return false;
	}
	for (unsigned i = 0; i < count; i++) {
		ret_words[i] = 0;
		memcpy(&ret_words[i], frame + i * width, width);
	}
	return true;
}

void hk_stack_pointer_set(struct hk_cpu *cpu, uint64_t sp)
{
	hk_reg_set(cpu, HK_RSP, cpu->stack_size, sp);
}

bool hk_gate_code(
	struct hk_cpu *cpu, uint16_t selector, struct hk_segment *ret_cs, unsigned *ret_cpl)
{
	uint64_t descriptor;

	if (hk_selector_null(selector)) {
		return hk_fault_code(cpu, HK_VECTOR_GP, 0);
	}
	if (!hk_descriptor_load(cpu, selector, HK_VECTOR_GP, &descriptor)) {
		return false;
	}

	uint16_t attr = hk_descriptor_attr(descriptor);
	unsigned dpl = hk_attr_dpl(attr);

	if (!hk_attr_is_code(attr) || dpl > cpu->cpl) {
		return hk_selector_fault(cpu, HK_VECTOR_GP, selector);
	}
	if (hk_long_mode(cpu) && (attr & (HK_ATTR_L | HK_ATTR_DB)) != HK_ATTR_L) {
		return hk_selector_fault(cpu, HK_VECTOR_GP, selector);
	}
	if ((attr & HK_ATTR_P) == 0) {
		return hk_selector_fault(cpu, HK_VECTOR_NP, selector);
	}
	if (!hk_descriptor_mark(cpu, selector, HK_ATTR_ACCESSED, &descriptor)) {
		return false;
	}
	*ret_cpl = hk_attr_is_conforming(attr) ? cpu->cpl : dpl;
	*ret_cs = hk_descriptor_segment(descriptor, (uint16_t)((selector & ~3u) | *ret_cpl));
	return true;
}
