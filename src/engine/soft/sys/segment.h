/* SPDX-License-Identifier: ISC */
/*
 * Segments, descriptors and stack frames, as the files of this directory share them.
 *
 * A descriptor is kept as the 8 bytes of memory. Of those of 16 bytes (long mode's gates, TSS and
 * LDT) the upper half is only ever half an address.
 *
 *	 63      56 55  52 51   48 47      40 39             16 15              0
 *	+----------+------+-------+----------+-----------------+----------------+
 *	| base     | G DL | limit | P DPL S  | base 23:0       | limit 15:0     |
 *	| 31:24    |  A   | 19:16 | type     |                 |                |
 *	+----------+------+-------+----------+-----------------+----------------+
 *	| offset 31:16            | P DPL 0  | count | selector| offset 15:0    |  gates
 *	|                         | type     | /IST  |         |                |
 *	+-------------------------+----------+-------+---------+----------------+
 *
 * CPL is the DPL of SS, always: where SS is a null selector in 64-bit mode, its attributes still
 * hold it. VMX keeps it there, too, so states move between engines.
 *
 * Source: Intel SDM vol. 3, 3.4.5, 5.8.3, 6.11, 6.14.1, 7.2.
 */
#ifndef HK_ENGINE_SOFT_SYS_SEGMENT_H
#define HK_ENGINE_SOFT_SYS_SEGMENT_H

#include "engine/soft/interp.h"
#include "engine/soft/sys.h"

/* hk_segment.attr: bits 40-55 of the descriptor */
enum {
	HK_ATTR_ACCESSED = 1 << 0,
	HK_ATTR_WRITABLE = 1 << 1, /* of data; of code: readable */
	HK_ATTR_DOWN = 1 << 2,     /* of data: expands down; of code: conforming */
	HK_ATTR_CODE = 1 << 3,
	HK_ATTR_TYPE = 15 << 0,
	HK_ATTR_S = 1 << 4, /* code or data, no system segment */
	HK_ATTR_DPL_SHIFT = 5,
	HK_ATTR_P = 1 << 7,
	HK_ATTR_L = 1 << 13,
	HK_ATTR_DB = 1 << 14,
	HK_ATTR_G = 1 << 15,
};

/* Types of system descriptors; bit 3 of gates and TSS: 32 bits (in long mode 64) */
enum {
	HK_TYPE_TSS_16 = 1,
	HK_TYPE_LDT = 2,
	HK_TYPE_TSS_16_BUSY = 3,
	HK_TYPE_CALL_16 = 4,
	HK_TYPE_TASK_GATE = 5,
	HK_TYPE_INTERRUPT_16 = 6,
	HK_TYPE_TRAP_16 = 7,
	HK_TYPE_TSS = 9,
	HK_TYPE_TSS_BUSY = 11,
	HK_TYPE_CALL = 12,
	HK_TYPE_INTERRUPT = 14,
	HK_TYPE_TRAP = 15,
	HK_TYPE_BUSY = 2,
	HK_TYPE_WIDE = 8,
};

/* What SYSCALL and its kin load without a look at the descriptors */
enum {
	HK_ATTR_FLAT_CODE_64 = 0xa09b,
	HK_ATTR_FLAT_CODE_32 = 0xc09b,
	HK_ATTR_FLAT_DATA = 0xc093,
};

static inline bool hk_canonical(uint64_t va)
{
	return (uint64_t)((int64_t)(va << 16) >> 16) == va;
}

static inline bool hk_protected(const struct hk_cpu *cpu)
{
	return (cpu->cr0 & HK_CR0_PE) != 0;
}

static inline bool hk_long_mode(const struct hk_cpu *cpu)
{
	return (cpu->efer & HK_EFER_LMA) != 0;
}

static inline bool hk_selector_null(uint16_t selector)
{
	return (selector & 0xfffc) == 0;
}

static inline unsigned hk_selector_rpl(uint16_t selector)
{
	return selector & 3;
}

/** hk_selector_fault() - @vector with @selector as its error code. Return: false. */
static inline bool hk_selector_fault(struct hk_cpu *cpu, enum hk_vector vector, uint16_t selector)
{
	return hk_fault_code(cpu, vector, selector & 0xfffc);
}

/** hk_privileged() - #GP(0) unless CPL is 0. Return: false with the fault noted. */
static inline bool hk_privileged(struct hk_cpu *cpu)
{
	return cpu->cpl == 0 || hk_fault_code(cpu, HK_VECTOR_GP, 0);
}

static inline uint16_t hk_descriptor_attr(uint64_t descriptor)
{
	return descriptor >> 40 & 0xf0ff;
}

static inline unsigned hk_attr_dpl(uint16_t attr)
{
	return attr >> HK_ATTR_DPL_SHIFT & 3;
}

static inline bool hk_attr_is_code(uint16_t attr)
{
	return (attr & (HK_ATTR_S | HK_ATTR_CODE)) == (HK_ATTR_S | HK_ATTR_CODE);
}

static inline bool hk_attr_is_conforming(uint16_t attr)
{
	return hk_attr_is_code(attr) && (attr & HK_ATTR_DOWN) != 0;
}

static inline bool hk_attr_is_writable_data(uint16_t attr)
{
	return (attr & (HK_ATTR_S | HK_ATTR_CODE | HK_ATTR_WRITABLE)) ==
		(HK_ATTR_S | HK_ATTR_WRITABLE);
}

/* Data, or code that can be read */
static inline bool hk_attr_is_readable(uint16_t attr)
{
	return (attr & HK_ATTR_S) != 0 &&
		(attr & (HK_ATTR_CODE | HK_ATTR_WRITABLE)) != HK_ATTR_CODE;
}

/* For DPL checks: the level of whoever asks is that of CPL and RPL with fewer rights. */
static inline unsigned hk_selector_level(const struct hk_cpu *cpu, uint16_t selector)
{
	return hk_selector_rpl(selector) > cpu->cpl ? hk_selector_rpl(selector) : cpu->cpl;
}

/** hk_descriptor_segment() - the hidden part that @descriptor makes */
struct hk_segment hk_descriptor_segment(uint64_t descriptor, uint16_t selector);

/**
 * hk_descriptor_find() - where the @bytes (8, 16) of @selector's descriptor stand, if they do. No
 * faults.
 */
bool hk_descriptor_find(
	const struct hk_cpu *cpu, uint16_t selector, unsigned bytes, uint64_t *ret_va);

/**
 * hk_descriptor_load() - the descriptor of @selector
 *
 * Return: false with @vector(@selector) noted where it is outside its table (@vector(0) for a
 * null selector), or with the fault of the memory access.
 */
bool hk_descriptor_load(
	struct hk_cpu *cpu, uint16_t selector, enum hk_vector vector, uint64_t *ret_descriptor);

/**
 * hk_descriptor_load_high() - the second half of a 16-byte one, cut to what is an address: bits
 * 63:32 of it. #GP(@selector) where the half does not end the table or has a type.
 */
bool hk_descriptor_load_high(struct hk_cpu *cpu, uint16_t selector, uint64_t *ret_high);

/** hk_descriptor_mark() - set type bits @bits of @descriptor (accessed, busy) in memory, too */
bool hk_descriptor_mark(struct hk_cpu *cpu, uint16_t selector, unsigned bits, uint64_t *descriptor);

/** hk_segment_reaches() - are @len bytes at @offset within the limit? */
bool hk_segment_reaches(const struct hk_segment *seg, uint64_t offset, unsigned len);

/**
 * hk_stack_segment_load() - a stack segment for privilege level @cpl, which is not CPL yet
 *
 * Return: false with @vector(selector) noted (#SS where it is not present).
 */
bool hk_stack_segment_load(struct hk_cpu *cpu, uint16_t selector, unsigned cpl,
	enum hk_vector vector, struct hk_segment *ret_ss);

/** hk_segments_changed() - work out seg_base, stack_size and flat again; mode.c */
void hk_segments_changed(struct hk_cpu *cpu);

/** hk_kind_changed() - work out which TLB serves: after a change of RFLAGS.AC alone; mode.c */
void hk_kind_changed(struct hk_cpu *cpu);

/** hk_set_null() - a null selector into data segment register @seg */
void hk_set_null(struct hk_cpu *cpu, enum hk_seg seg, uint16_t selector);

/** hk_null_stack() - the null stack segment of 64-bit mode at @cpl */
struct hk_segment hk_null_stack(unsigned cpl);

/* ---- Frames: frame.c ---- */

/**
 * struct hk_stack - a stack to push a frame to, the present one or an inner one
 * @ss: its segment; ignored where @is_64
 * @fault_code: of #SS where it does not reach
 */
struct hk_stack {
	struct hk_segment ss;
	uint64_t sp;
	uint32_t fault_code;
	uint8_t cpl; /* whose accesses */
	bool is_64;
};

/** hk_stack_present() - SS:rSP as they are */
struct hk_stack hk_stack_present(const struct hk_cpu *cpu);

/**
 * hk_stack_inner() - the stack that the TSS has for @cpl, outside long mode
 *
 * Return: false with #TS or #SS noted.
 */
bool hk_stack_inner(struct hk_cpu *cpu, unsigned cpl, struct hk_stack *ret_stack);

/** hk_stack_inner_64() - the 8 bytes at @offset of the 64-bit TSS: RSP0-2 or an IST */
bool hk_stack_inner_64(
	struct hk_cpu *cpu, unsigned cpl, unsigned offset, struct hk_stack *ret_stack);

/**
 * hk_stack_push() - @words of 1 << @size bytes, the first at the lowest address. Moves stack->sp.
 */
bool hk_stack_push(struct hk_cpu *cpu, struct hk_stack *stack, unsigned size, const uint64_t *words,
	unsigned count);

/** hk_stack_peek() - read words of the present stack, from @skip bytes above its top */
bool hk_stack_peek(
	struct hk_cpu *cpu, unsigned skip, unsigned size, uint64_t *ret_words, unsigned count);

/** hk_stack_pointer_set() - rSP, as wide as stacks are now */
void hk_stack_pointer_set(struct hk_cpu *cpu, uint64_t sp);

/**
 * hk_gate_code() - the code segment that a gate leads to, checked and marked accessed
 * @ret_cpl: privilege level there
 */
bool hk_gate_code(
	struct hk_cpu *cpu, uint16_t selector, struct hk_segment *ret_cs, unsigned *ret_cpl);

#endif
