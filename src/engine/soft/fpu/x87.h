/* SPDX-License-Identifier: ISC */
/*
 * The x87 unit's stack and its exceptions, for the handlers of its instructions.
 *
 * Every handler goes the same way: may the unit be used (hk_x87_ready()); read memory; are the
 * registers there (else hk_x87_stack_fault()); compute with a struct hk_fp_env; note where the
 * instruction stands (hk_x87_point()) and what exceptions came up (hk_x87_signal()); write
 * registers, unless an unmasked exception forbids it. Stores to memory come before all of these
 * changes, because they can fault.
 *
 * Pointers, as CPUID of the model tells: FIP, FCS, FDP and FDS follow every instruction that is not
 * for control. FOP is written with an unmasked exception only, as Intel CPUs since the Pentium 4
 * do.
 *
 * Source: Intel SDM vol. 1, chapter 8; where it leaves a choice, what an Intel Xeon with AMX does
 * (tests/unit/test_x87.c).
 */
#ifndef HK_ENGINE_SOFT_FPU_X87_H
#define HK_ENGINE_SOFT_FPU_X87_H

#include "engine/soft/fpu/softfloat.h"
#include "engine/soft/operand.h"

/* Status word. The low six bits are HK_FP_*. Source: Intel SDM vol. 1, 8.1.3. */
enum {
	HK_FSW_SF = 1 << 6, /* stack fault */
	HK_FSW_ES = 1 << 7, /* an unmasked exception is pending */
	HK_FSW_C0 = 1 << 8,
	HK_FSW_C1 = 1 << 9,
	HK_FSW_C2 = 1 << 10,
	HK_FSW_TOP_SHIFT = 11,
	HK_FSW_TOP = 7 << HK_FSW_TOP_SHIFT,
	HK_FSW_C3 = 1 << 14,
	HK_FSW_B = 1 << 15, /* copy of ES */
	HK_FSW_CODES = HK_FSW_C0 | HK_FSW_C2 | HK_FSW_C3,
};

/* Control word. Source: Intel SDM vol. 1, 8.1.5. */
enum {
	HK_FCW_ONE = 1 << 6, /* reads 1 */
	HK_FCW_VALID =
		0x1f3f, /* bits that can be changed, the infinity control of the 8087 among them */
	HK_FCW_RESET = 0x037f,
};

static inline unsigned hk_x87_top(const struct hk_x87 *x87)
{
	return x87->fsw >> HK_FSW_TOP_SHIFT & 7;
}

static inline void hk_x87_set_top(struct hk_x87 *x87, unsigned top)
{
	x87->fsw = (uint16_t)((x87->fsw & ~HK_FSW_TOP) | (top & 7) << HK_FSW_TOP_SHIFT);
}

/** hk_x87_st() - register ST(@i) */
static inline struct hk_f80 *hk_x87_st(struct hk_x87 *x87, unsigned i)
{
	return &x87->r[(hk_x87_top(x87) + i) & 7];
}

static inline bool hk_x87_empty(const struct hk_x87 *x87, unsigned i)
{
	return (x87->tag_empty >> ((hk_x87_top(x87) + i) & 7) & 1) != 0;
}

/** hk_x87_full() - is there no room for a push? */
static inline bool hk_x87_full(const struct hk_x87 *x87)
{
	return !hk_x87_empty(x87, 7);
}

/** hk_x87_set() - write ST(@i), which is not empty from then on */
static inline void hk_x87_set(struct hk_x87 *x87, unsigned i, struct hk_f80 value)
{
	unsigned n = (hk_x87_top(x87) + i) & 7;

	x87->r[n] = value;
	x87->tag_empty &= (uint8_t) ~(1u << n);
}

static inline void hk_x87_free(struct hk_x87 *x87, unsigned i)
{
	x87->tag_empty |= (uint8_t)(1u << ((hk_x87_top(x87) + i) & 7));
}

static inline void hk_x87_pop(struct hk_x87 *x87)
{
	hk_x87_free(x87, 0);
	hk_x87_set_top(x87, hk_x87_top(x87) + 1);
}

static inline void hk_x87_push(struct hk_x87 *x87, struct hk_f80 value)
{
	hk_x87_set_top(x87, hk_x87_top(x87) - 1);
	hk_x87_set(x87, 0, value);
}

/** hk_x87_set_codes() - the condition codes of @mask become those of @codes */
static inline void hk_x87_set_codes(struct hk_x87 *x87, unsigned mask, unsigned codes)
{
	x87->fsw = (uint16_t)((x87->fsw & ~mask) | codes);
}

/** hk_x87_update_es() - ES and B follow from flags and masks. fpu.c */
void hk_x87_update_es(struct hk_x87 *x87);

/** hk_x87_ready() - may a waiting x87 instruction go on? Return: false with the fault noted. */
static inline bool hk_x87_ready(struct hk_cpu *cpu)
{
	if (hk_likely(
		    (cpu->cr0 & (HK_CR0_EM | HK_CR0_TS)) == 0 && (cpu->x87.fsw & HK_FSW_ES) == 0)) {
		return true;
	}
	return hk_x87_ok(cpu, true);
}

/** hk_x87_point() - the unit's instruction and data pointers are those of @insn */
static inline void hk_x87_point(struct hk_cpu *cpu, const struct hk_insn *insn)
{
	cpu->x87.fip = hk_insn_rip(cpu, insn);
	cpu->x87.fcs = cpu->seg[HK_CS].selector;
	if (hk_insn_mem(insn)) {
		cpu->x87.fdp = hk_ea(cpu, insn);
		cpu->x87.fds = cpu->seg[hk_insn_seg(insn)].selector;
	}
}

/** hk_x87_unmasked() - hk_x87_signal() where one of @flags is not masked: ES, B and FOP. fpu.c */
void hk_x87_unmasked(struct hk_cpu *cpu, const struct hk_insn *insn);

/**
 * hk_x87_signal() - an instruction raised @flags (HK_FP_*, HK_FSW_SF with HK_FP_IE); C1 becomes @c1
 *
 * Return: those of HK_FP_* that are not masked.
 */
static inline unsigned hk_x87_signal(
	struct hk_cpu *cpu, const struct hk_insn *insn, unsigned flags, bool c1)
{
	struct hk_x87 *x87 = &cpu->x87;
	unsigned unmasked = flags & ~x87->fcw & HK_FP_ALL;

	x87->fsw = (uint16_t)((x87->fsw & ~HK_FSW_C1) | flags | (c1 ? HK_FSW_C1 : 0));
	if (hk_unlikely(unmasked != 0)) {
		hk_x87_unmasked(cpu, insn);
	}
	return unmasked;
}

/**
 * hk_x87_stack_fault() - an operand is an empty register, or a push finds none (@overflow)
 *
 * Return: true where it is masked: the instruction goes on with the default NaN.
 */
static inline bool hk_x87_stack_fault(struct hk_cpu *cpu, const struct hk_insn *insn, bool overflow)
{
	hk_x87_point(cpu, insn);
	return hk_x87_signal(cpu, insn, HK_FP_IE | HK_FSW_SF, overflow) == 0;
}

/* Memory operands. Return: false with the fault noted. */

static inline bool hk_x87_load16(struct hk_cpu *cpu, const struct hk_insn *insn, uint16_t *ret)
{
	uint64_t va;

	return hk_mem_va(cpu, insn, 2, HK_ACCESS_READ, &va) && hk_load16(cpu, va, ret);
}

static inline bool hk_x87_load32(struct hk_cpu *cpu, const struct hk_insn *insn, uint32_t *ret)
{
	uint64_t va;

	return hk_mem_va(cpu, insn, 4, HK_ACCESS_READ, &va) && hk_load32(cpu, va, ret);
}

static inline bool hk_x87_load64(struct hk_cpu *cpu, const struct hk_insn *insn, uint64_t *ret)
{
	uint64_t va;

	return hk_mem_va(cpu, insn, 8, HK_ACCESS_READ, &va) && hk_load64(cpu, va, ret);
}

/** hk_x87_load() / hk_x87_store() - a memory operand of any length */
static inline bool hk_x87_load(
	struct hk_cpu *cpu, const struct hk_insn *insn, void *buf, unsigned len)
{
	uint64_t va;

	return hk_mem_va(cpu, insn, len, HK_ACCESS_READ, &va) && hk_load(cpu, va, buf, len);
}

static inline bool hk_x87_store(
	struct hk_cpu *cpu, const struct hk_insn *insn, const void *buf, unsigned len)
{
	uint64_t va;

	return hk_mem_va(cpu, insn, len, HK_ACCESS_WRITE, &va) && hk_store(cpu, va, buf, len);
}

static inline bool hk_x87_store_int(
	struct hk_cpu *cpu, const struct hk_insn *insn, unsigned size, uint64_t value)
{
	uint64_t va;

	return hk_mem_va(cpu, insn, 1u << size, HK_ACCESS_WRITE, &va) &&
		hk_va_store(cpu, va, size, value);
}

/** hk_x87_init() - as FNINIT. fpu.c */
void hk_x87_init(struct hk_x87 *x87);

/** hk_x87_tags() - the tag word as FNSTENV stores it: two bits a register. fpu.c */
uint16_t hk_x87_tags(const struct hk_x87 *x87);

/** hk_x87_set_tags() - only "empty" is kept of it. fpu.c */
void hk_x87_set_tags(struct hk_x87 *x87, uint16_t tags);

#endif
