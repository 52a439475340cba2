/* SPDX-License-Identifier: ISC */
/*
 * The forms that programs mostly consist of, each with a handler that does just that: register and
 * size known, memory operands of the plain kind (64-bit addressing, no segment base) or relative to
 * FS or GS. The generic handlers of the same instructions are the reference: tests run both.
 *
 * Where a memory operand is not in the TLB, a handler passes on to the generic one, which does the
 * same by the slow path. That also keeps these small, and their calls of the next handler jumps.
 *
 * A name says what it is: alu operation, operand size in bits, destination and source: r register,
 * m plain memory, s memory by FS or GS, i immediate.
 */
#define HK_TAIL_CALLER
#include "engine/soft/exec/fast.h"

#include <assert.h>
#include <stdatomic.h>

#include "base/util.h"
#include "engine/soft/code.h"
#include "engine/soft/exec/alu.h"
#include "engine/soft/exec/handlers.h"
#include "engine/soft/operand.h"

/* Registers by size. 8-bit ones are named by their byte's offset. */
#define GET8(r)     (*hk_gpr8(cpu, r))
#define GET16(r)    ((uint16_t)cpu->gpr[r])
#define GET32(r)    ((uint32_t)cpu->gpr[r])
#define GET64(r)    (cpu->gpr[r])
#define SET8(r, v)  (*hk_gpr8(cpu, r) = (uint8_t)(v))
#define SET16(r, v) (cpu->gpr[r] = (cpu->gpr[r] & ~UINT64_C(0xffff)) | (uint16_t)(v))
#define SET32(r, v) (cpu->gpr[r] = (uint32_t)(v))
#define SET64(r, v) (cpu->gpr[r] = (v))

enum { LOG8 = 0, LOG16 = 1, LOG32 = 2, LOG64 = 3 };

static inline uint64_t plain_va(const struct hk_cpu *cpu, const struct hk_insn *insn)
{
	return cpu->gpr[insn->base] + (cpu->gpr[insn->index] << hk_insn_scale(insn)) +
		(uint64_t)(int64_t)insn->disp;
}

static inline uint64_t seg_va(const struct hk_cpu *cpu, const struct hk_insn *insn)
{
	return plain_va(cpu, insn) + cpu->seg_base[hk_insn_seg(insn)];
}

/* Guests race by themselves: TSan is not to look here. */
#define DEFINE_GUEST(bits) \
	static HK_GUEST_RACES uint##bits##_t guest_get##bits(const void *at) \
	{ \
		uint##bits##_t value; \
\
		__builtin_memcpy(&value, at, sizeof(value)); \
		return value; \
	} \
	static HK_GUEST_RACES void guest_put##bits(void *at, uint##bits##_t value) \
	{ \
		__builtin_memcpy(at, &value, sizeof(value)); \
	}
DEFINE_GUEST(8)
DEFINE_GUEST(16)
DEFINE_GUEST(32)
DEFINE_GUEST(64)

/* Memory at @va into a new variable, or from a value; the rare cases are the generic handler's. */
#define LOAD(bits, name, va, generic) \
	const void *name##_at = hk_tlb_read(cpu, va, (bits) / 8); \
	uint##bits##_t name; \
\
	if (hk_unlikely(name##_at == NULL)) { \
		return generic(cpu, insn); \
	} \
	name = guest_get##bits(name##_at); \
	HK_GUEST_ACQUIRE()
#define STORE(bits, va, value, generic) \
	uint##bits##_t stored = (value); \
	void *stored_at = hk_tlb_write(cpu, va, (bits) / 8); \
\
	if (hk_unlikely(stored_at == NULL)) { \
		return generic(cpu, insn); \
	} \
	HK_GUEST_RELEASE(); \
	guest_put##bits(stored_at, stored)

#define FAST(name) static const struct hk_insn *name(struct hk_cpu *cpu, const struct hk_insn *insn)

/* The flags of each operation: kind, and whether the source has to be kept for them. */
#define CC_add(bits, res, b) \
	(cpu->cc_kind = HK_CC_ADD | LOG##bits, cpu->cc_src = (b), \
		cpu->cc_res = (uint64_t)(int64_t)(int##bits##_t)(res))
#define CC_sub(bits, res, b) \
	(cpu->cc_kind = HK_CC_SUB | LOG##bits, cpu->cc_src = (b), \
		cpu->cc_res = (uint64_t)(int64_t)(int##bits##_t)(res))
#define CC_logic(bits, res, b) \
	(cpu->cc_kind = HK_CC_LOGIC | LOG##bits, \
		cpu->cc_res = (uint64_t)(int64_t)(int##bits##_t)(res))

#define OP_add(a, b)  ((a) + (b))
#define OP_sub(a, b)  ((a) - (b))
#define OP_and(a, b)  ((a) & (b))
#define OP_or(a, b)   ((a) | (b))
#define OP_xor(a, b)  ((a) ^ (b))
#define OP_cmp(a, b)  ((a) - (b))
#define OP_test(a, b) ((a) & (b))
#define CC_and        CC_logic
#define CC_or         CC_logic
#define CC_xor        CC_logic
#define CC_cmp        CC_sub
#define CC_test       CC_logic

/* op a, b where a is a register and the result goes back to it. */
#define DEFINE_ALU_REG(op, bits) \
	FAST(op##bits##_rr) /* rm, reg */ \
	{ \
		uint##bits##_t b = GET##bits(insn->reg); \
		uint##bits##_t res = (uint##bits##_t)OP_##op(GET##bits(insn->base), b); \
\
		SET##bits(insn->base, res); \
		CC_##op(bits, res, b); \
		return HK_NEXT(cpu, insn); \
	} \
	FAST(op##bits##_rr_reversed) /* reg, rm */ \
	{ \
		uint##bits##_t b = GET##bits(insn->base); \
		uint##bits##_t res = (uint##bits##_t)OP_##op(GET##bits(insn->reg), b); \
\
		SET##bits(insn->reg, res); \
		CC_##op(bits, res, b); \
		return HK_NEXT(cpu, insn); \
	} \
	FAST(op##bits##_ri) \
	{ \
		uint##bits##_t b = (uint##bits##_t)insn->imm; \
		uint##bits##_t res = (uint##bits##_t)OP_##op(GET##bits(insn->base), b); \
\
		SET##bits(insn->base, res); \
		CC_##op(bits, res, b); \
		return HK_NEXT(cpu, insn); \
	} \
	FAST(op##bits##_rm) \
	{ \
		LOAD(bits, b, plain_va(cpu, insn), hk_x_##op); \
\
		uint##bits##_t res = (uint##bits##_t)OP_##op(GET##bits(insn->reg), b); \
\
		SET##bits(insn->reg, res); \
		CC_##op(bits, res, b); \
		return HK_NEXT(cpu, insn); \
	}

/* Flags that nobody will see (hk_fast_quiet()) are not noted. */
#define DEFINE_QUIET(op, bits) \
	FAST(op##bits##_rr_quiet) \
	{ \
		SET##bits(insn->base, OP_##op(GET##bits(insn->base), GET##bits(insn->reg))); \
		return HK_NEXT(cpu, insn); \
	} \
	FAST(op##bits##_rr_reversed_quiet) \
	{ \
		SET##bits(insn->reg, OP_##op(GET##bits(insn->reg), GET##bits(insn->base))); \
		return HK_NEXT(cpu, insn); \
	} \
	FAST(op##bits##_ri_quiet) \
	{ \
		SET##bits(insn->base, OP_##op(GET##bits(insn->base), (uint##bits##_t)insn->imm)); \
		return HK_NEXT(cpu, insn); \
	}

/* The same to memory, in place. */
#define DEFINE_ALU_MEM(op, bits, form, source) \
	FAST(op##bits##_##form) \
	{ \
		uint8_t *p = hk_tlb_write(cpu, plain_va(cpu, insn), bits / 8); \
		uint##bits##_t b = (uint##bits##_t)(source); \
\
		if (hk_unlikely(p == NULL)) { \
			return hk_x_##op(cpu, insn); \
		} \
\
		uint##bits##_t res = (uint##bits##_t)OP_##op(guest_get##bits(p), b); \
\
		HK_GUEST_RELEASE(); \
		guest_put##bits(p, res); \
		CC_##op(bits, res, b); \
		return HK_NEXT(cpu, insn); \
	}

#define DEFINE_ALU(op, bits) \
	DEFINE_ALU_REG(op, bits) \
	DEFINE_ALU_MEM(op, bits, mr, GET##bits(insn->reg)) \
	DEFINE_ALU_MEM(op, bits, mi, insn->imm)

/* cmp and test: nothing is written. */
#define DEFINE_COMPARE(op, bits) \
	FAST(op##bits##_rr) \
	{ \
		uint##bits##_t b = GET##bits(insn->reg); \
\
		CC_##op(bits, OP_##op(GET##bits(insn->base), b), b); \
		return HK_NEXT(cpu, insn); \
	} \
	FAST(op##bits##_rr_reversed) \
	{ \
		uint##bits##_t b = GET##bits(insn->base); \
\
		CC_##op(bits, OP_##op(GET##bits(insn->reg), b), b); \
		return HK_NEXT(cpu, insn); \
	} \
	FAST(op##bits##_ri) \
	{ \
		uint##bits##_t b = (uint##bits##_t)insn->imm; \
\
		CC_##op(bits, OP_##op(GET##bits(insn->base), b), b); \
		return HK_NEXT(cpu, insn); \
	} \
	FAST(op##bits##_rm) \
	{ \
		LOAD(bits, b, plain_va(cpu, insn), hk_x_##op); \
		CC_##op(bits, OP_##op(GET##bits(insn->reg), b), b); \
		return HK_NEXT(cpu, insn); \
	} \
	FAST(op##bits##_mr) \
	{ \
		uint##bits##_t b = GET##bits(insn->reg); \
		LOAD(bits, a, plain_va(cpu, insn), hk_x_##op); \
		CC_##op(bits, OP_##op(a, b), b); \
		return HK_NEXT(cpu, insn); \
	} \
	FAST(op##bits##_mi) \
	{ \
		uint##bits##_t b = (uint##bits##_t)insn->imm; \
		LOAD(bits, a, plain_va(cpu, insn), hk_x_##op); \
		CC_##op(bits, OP_##op(a, b), b); \
		return HK_NEXT(cpu, insn); \
	}

#define FOR_ALU(X, bits) \
	X(add, bits) \
	X(sub, bits) \
	X(and, bits) \
	X(or, bits) \
	X(xor, bits)
#define FOR_COMPARE(X, bits) \
	X(cmp, bits) \
	X(test, bits)

FOR_ALU(DEFINE_ALU, 8)
FOR_ALU(DEFINE_ALU, 32)
FOR_ALU(DEFINE_ALU, 64)
FOR_ALU(DEFINE_QUIET, 32)
FOR_ALU(DEFINE_QUIET, 64)
FOR_COMPARE(DEFINE_COMPARE, 8)
FOR_COMPARE(DEFINE_COMPARE, 16)
FOR_COMPARE(DEFINE_COMPARE, 32)
FOR_COMPARE(DEFINE_COMPARE, 64)

/* xor r, r and sub r, r of one register: how zero is loaded. */
#define DEFINE_ZERO(bits) \
	FAST(zero##bits##_quiet) \
	{ \
		SET##bits(insn->base, 0); \
		return HK_NEXT(cpu, insn); \
	} \
	FAST(zero##bits) \
	{ \
		SET##bits(insn->base, 0); \
		CC_logic(bits, 0, 0); \
		return HK_NEXT(cpu, insn); \
	}
DEFINE_ZERO(32)
DEFINE_ZERO(64)

/* Moves */

#define DEFINE_MOV(bits) \
	FAST(mov##bits##_rr) \
	{ \
		SET##bits(insn->base, GET##bits(insn->reg)); \
		return HK_NEXT(cpu, insn); \
	} \
	FAST(mov##bits##_rr_reversed) \
	{ \
		SET##bits(insn->reg, GET##bits(insn->base)); \
		return HK_NEXT(cpu, insn); \
	} \
	FAST(mov##bits##_ri) \
	{ \
		SET##bits(insn->base, (uint##bits##_t)insn->imm); \
		return HK_NEXT(cpu, insn); \
	} \
	FAST(mov##bits##_rm) \
	{ \
		LOAD(bits, v, plain_va(cpu, insn), hk_x_mov); \
		SET##bits(insn->reg, v); \
		return HK_NEXT(cpu, insn); \
	} \
	FAST(mov##bits##_rs) \
	{ \
		LOAD(bits, v, seg_va(cpu, insn), hk_x_mov); \
		SET##bits(insn->reg, v); \
		return HK_NEXT(cpu, insn); \
	} \
	FAST(mov##bits##_mr) \
	{ \
		STORE(bits, plain_va(cpu, insn), GET##bits(insn->reg), hk_x_mov); \
		return HK_NEXT(cpu, insn); \
	} \
	FAST(mov##bits##_sr) \
	{ \
		STORE(bits, seg_va(cpu, insn), GET##bits(insn->reg), hk_x_mov); \
		return HK_NEXT(cpu, insn); \
	} \
	FAST(mov##bits##_mi) \
	{ \
		STORE(bits, plain_va(cpu, insn), (uint##bits##_t)insn->imm, hk_x_mov); \
		return HK_NEXT(cpu, insn); \
	}
DEFINE_MOV(8)
DEFINE_MOV(16)
DEFINE_MOV(32)
DEFINE_MOV(64)

/* MOVZX, MOVSX, MOVSXD: a small source into a register of 32 or 64 bits. */
#define DEFINE_EXTEND(generic, name, from, to, type) \
	FAST(name##_##from##_##to##_r) \
	{ \
		SET##to(insn->reg, \
			(uint##to##_t)(type##to##_t)(type##from##_t)GET##from(insn->base)); \
		return HK_NEXT(cpu, insn); \
	} \
	FAST(name##_##from##_##to##_m) \
	{ \
		LOAD(from, v, plain_va(cpu, insn), hk_x_##generic); \
		SET##to(insn->reg, (uint##to##_t)(type##to##_t)(type##from##_t)v); \
		return HK_NEXT(cpu, insn); \
	}
DEFINE_EXTEND(movzx8, movzx, 8, 32, uint)
DEFINE_EXTEND(movzx8, movzx, 8, 64, uint)
DEFINE_EXTEND(movzx16, movzx, 16, 32, uint)
DEFINE_EXTEND(movzx16, movzx, 16, 64, uint)
DEFINE_EXTEND(movsx8, movsx, 8, 32, int)
DEFINE_EXTEND(movsx8, movsx, 8, 64, int)
DEFINE_EXTEND(movsx16, movsx, 16, 32, int)
DEFINE_EXTEND(movsx16, movsx, 16, 64, int)
DEFINE_EXTEND(movsxd, movsx, 32, 64, int)

FAST(lea64)
{
	cpu->gpr[insn->reg] = plain_va(cpu, insn);
	return HK_NEXT(cpu, insn);
}

FAST(lea32)
{
	cpu->gpr[insn->reg] = (uint32_t)plain_va(cpu, insn);
	return HK_NEXT(cpu, insn);
}

FAST(lea64_base) /* no index */
{
	cpu->gpr[insn->reg] = cpu->gpr[insn->base] + (uint64_t)(int64_t)insn->disp;
	return HK_NEXT(cpu, insn);
}

/* The stack, in 64-bit mode */

FAST(push64_r)
{
	STORE(64, cpu->gpr[HK_RSP] - 8, cpu->gpr[insn->base], hk_x_push);
	cpu->gpr[HK_RSP] -= 8;
	return HK_NEXT(cpu, insn);
}

FAST(pop64_r)
{
	LOAD(64, v, cpu->gpr[HK_RSP], hk_x_pop);
	cpu->gpr[HK_RSP] += 8;
	cpu->gpr[insn->base] = v;
	return HK_NEXT(cpu, insn);
}

FAST(ret64)
{
	LOAD(64, rip, cpu->gpr[HK_RSP], hk_x_ret);
	if (hk_unlikely((uint64_t)((int64_t)(rip << 16) >> 16) != rip)) {
		return hk_x_ret(cpu, insn);
	}
	cpu->gpr[HK_RSP] += 8;

	const struct hk_insn *next = hk_code_find(cpu, rip);

	return hk_likely(next != NULL) ? HK_GO(cpu, next) : NULL;
}

FAST(jmp64_r)
{
	uint64_t rip = cpu->gpr[insn->base];

	if (hk_unlikely((uint64_t)((int64_t)(rip << 16) >> 16) != rip)) {
		return hk_x_jmp_rm(cpu, insn);
	}

	const struct hk_insn *next = hk_code_find(cpu, rip);

	return hk_likely(next != NULL) ? HK_GO(cpu, next) : NULL;
}

FAST(call64_r)
{
	uint64_t rip = cpu->gpr[insn->base];

	if (hk_unlikely((uint64_t)((int64_t)(rip << 16) >> 16) != rip)) {
		return hk_x_call_rm(cpu, insn);
	}
	STORE(64, cpu->gpr[HK_RSP] - 8, hk_insn_next_rip(cpu, insn), hk_x_call_rm);
	cpu->gpr[HK_RSP] -= 8;

	const struct hk_insn *next = hk_code_find(cpu, rip);

	return hk_likely(next != NULL) ? HK_GO(cpu, next) : NULL;
}

FAST(push64_i)
{
	STORE(64, cpu->gpr[HK_RSP] - 8, insn->imm, hk_x_push_imm);
	cpu->gpr[HK_RSP] -= 8;
	return HK_NEXT(cpu, insn);
}

FAST(leave64)
{
	LOAD(64, v, cpu->gpr[HK_RBP], hk_x_leave);
	cpu->gpr[HK_RSP] = cpu->gpr[HK_RBP] + 8;
	cpu->gpr[HK_RBP] = v;
	return HK_NEXT(cpu, insn);
}

/* One operand */

#define DEFINE_UNARY(op, bits) \
	FAST(op##bits##_r) \
	{ \
		SET##bits(insn->base, hk_alu_##op(cpu, LOG##bits, GET##bits(insn->base), 0)); \
		return HK_NEXT(cpu, insn); \
	}
#define DEFINE_UNARY_QUIET(op, bits, expression) \
	FAST(op##bits##_r_quiet) \
	{ \
		uint##bits##_t a = GET##bits(insn->base); \
\
		SET##bits(insn->base, expression); \
		return HK_NEXT(cpu, insn); \
	}
DEFINE_UNARY_QUIET(inc, 32, a + 1)
DEFINE_UNARY_QUIET(inc, 64, a + 1)
DEFINE_UNARY_QUIET(dec, 32, a - 1)
DEFINE_UNARY_QUIET(dec, 64, a - 1)
DEFINE_UNARY_QUIET(neg, 32, 0 - a)
DEFINE_UNARY_QUIET(neg, 64, 0 - a)
#define DEFINE_UNARIES(op) DEFINE_UNARY(op, 32) DEFINE_UNARY(op, 64)
DEFINE_UNARIES(inc)
DEFINE_UNARIES(dec)
DEFINE_UNARIES(neg)
DEFINE_UNARIES(not )

/* Shifts, rotates and bit operations, by a constant or by a register (CL of the shifts) */

#define DEFINE_BITS(op, bits) \
	FAST(op##bits##_ri) \
	{ \
		SET##bits(insn->base, \
			hk_alu_##op(cpu, LOG##bits, GET##bits(insn->base), insn->imm)); \
		return HK_NEXT(cpu, insn); \
	}
#define DEFINE_SHIFTS(op, bits) \
	DEFINE_BITS(op, bits) \
	FAST(op##bits##_rc) \
	{ \
		SET##bits(insn->base, \
			hk_alu_##op( \
				cpu, LOG##bits, GET##bits(insn->base), *hk_gpr8(cpu, insn->reg))); \
		return HK_NEXT(cpu, insn); \
	}
#define DEFINE_SHIFT_QUIET(op, bits, expression) \
	FAST(op##bits##_ri_quiet) \
	{ \
		unsigned count = insn->imm & (bits - 1); \
		unsigned back = (bits - count) & (bits - 1); /* for rotates */ \
		uint##bits##_t a = GET##bits(insn->base); \
\
		(void)back; \
		SET##bits(insn->base, (uint##bits##_t)(expression)); \
		return HK_NEXT(cpu, insn); \
	}
#define DEFINE_SHIFTS_QUIET(bits) \
	DEFINE_SHIFT_QUIET(shl, bits, a << count) \
	DEFINE_SHIFT_QUIET(shr, bits, a >> count) \
	DEFINE_SHIFT_QUIET(sar, bits, (int##bits##_t)a >> count) \
	DEFINE_SHIFT_QUIET(rol, bits, a << count | a >> back) \
	DEFINE_SHIFT_QUIET(ror, bits, a >> count | a << back)
DEFINE_SHIFTS_QUIET(32)
DEFINE_SHIFTS_QUIET(64)

#define DEFINE_BIT_TEST(bits) \
	FAST(bt##bits##_ri) \
	{ \
		hk_alu_bt(cpu, LOG##bits, GET##bits(insn->base), insn->imm); \
		return HK_NEXT(cpu, insn); \
	} \
	FAST(bt##bits##_rr) \
	{ \
		hk_alu_bt(cpu, LOG##bits, GET##bits(insn->base), GET##bits(insn->reg)); \
		return HK_NEXT(cpu, insn); \
	}
DEFINE_SHIFTS(shl, 32)
DEFINE_SHIFTS(shl, 64)
DEFINE_SHIFTS(shr, 32)
DEFINE_SHIFTS(shr, 64)
DEFINE_SHIFTS(sar, 32)
DEFINE_SHIFTS(sar, 64)
DEFINE_SHIFTS(rol, 32)
DEFINE_SHIFTS(rol, 64)
DEFINE_SHIFTS(ror, 32)
DEFINE_SHIFTS(ror, 64)
DEFINE_BIT_TEST(32)
DEFINE_BIT_TEST(64)

#define DEFINE_IMUL(bits) \
	FAST(imul##bits##_rr) \
	{ \
		SET##bits(insn->reg, \
			hk_alu_imul(cpu, LOG##bits, GET##bits(insn->reg), GET##bits(insn->base))); \
		return HK_NEXT(cpu, insn); \
	} \
	FAST(imul##bits##_rri) \
	{ \
		SET##bits(insn->reg, \
			hk_alu_imul(cpu, LOG##bits, GET##bits(insn->base), \
				(uint##bits##_t)insn->imm)); \
		return HK_NEXT(cpu, insn); \
	} \
	FAST(imul##bits##_rr_quiet) \
	{ \
		SET##bits(insn->reg, GET##bits(insn->reg) * GET##bits(insn->base)); \
		return HK_NEXT(cpu, insn); \
	} \
	FAST(imul##bits##_rri_quiet) \
	{ \
		SET##bits(insn->reg, GET##bits(insn->base) * (uint##bits##_t)insn->imm); \
		return HK_NEXT(cpu, insn); \
	}
DEFINE_IMUL(32)
DEFINE_IMUL(64)

/* CMOVcc and SETcc */

#define DEFINE_CARRY(op, bits) \
	FAST(op##bits##_rr) \
	{ \
		SET##bits(insn->base, \
			hk_alu_##op(cpu, LOG##bits, GET##bits(insn->base), GET##bits(insn->reg))); \
		return HK_NEXT(cpu, insn); \
	}
DEFINE_CARRY(adc, 64)
DEFINE_CARRY(sbb, 32)
DEFINE_CARRY(sbb, 64)

#define DEFINE_CMOV(bits) \
	FAST(cmov##bits##_rr) \
	{ \
		SET##bits(insn->reg, \
			hk_cond(cpu, insn->cond) ? GET##bits(insn->base) : GET##bits(insn->reg)); \
		return HK_NEXT(cpu, insn); \
	}
DEFINE_CMOV(32)
DEFINE_CMOV(64)

FAST(setcc_r)
{
	*hk_gpr8(cpu, insn->base) = hk_cond(cpu, insn->cond);
	return HK_NEXT(cpu, insn);
}

/* What may stand in for a generic handler. */

enum { REG, MEM, FS_GS, WHERE_COUNT };

/* clang-format off */
struct fast {
	hk_exec_fn *generic;
	uint8_t form;  /* enum hk_form */
	uint8_t size;  /* log2 of bytes */
	uint8_t where; /* the rm operand */
	bool only_64;
	struct hk_choice choice;
};

/*
 * In registers: with a variant that leaves the flags, without one, and without any interest in
 * them.
 */
#define ALL(exec)     {exec, exec##_quiet, HK_EFFECT_WRITES_ALL}
#define ALL_LOUD(exec) {exec, NULL, HK_EFFECT_WRITES_ALL}
#define SOME(exec)    {exec, exec##_quiet, HK_EFFECT_WRITES_SOME}
#define SOME_LOUD(exec) {exec, NULL, HK_EFFECT_WRITES_SOME}
#define NONE(exec)    {exec, NULL, HK_EFFECT_NONE}
/* May read flags, touch memory or branch. */
#define ANY(exec) {exec, NULL, HK_EFFECT_ANY}

#define ROWS_MEM(op, bits) \
	{hk_x_##op, HK_FORM_REG_RM, LOG##bits, MEM, true, ANY(op##bits##_rm)}, \
	{hk_x_##op, HK_FORM_RM_REG, LOG##bits, MEM, true, ANY(op##bits##_mr)}, \
	{hk_x_##op, HK_FORM_RM_IMM, LOG##bits, MEM, true, ANY(op##bits##_mi)},
#define ROWS_REG(op, bits, EFFECT) \
	{hk_x_##op, HK_FORM_RM_REG, LOG##bits, REG, false, EFFECT(op##bits##_rr)}, \
	{hk_x_##op, HK_FORM_REG_RM, LOG##bits, REG, false, EFFECT(op##bits##_rr_reversed)}, \
	{hk_x_##op, HK_FORM_RM_IMM, LOG##bits, REG, false, EFFECT(op##bits##_ri)},
#define ROWS_ALU(op) \
	ROWS_REG(op, 8, ALL_LOUD) ROWS_MEM(op, 8) \
	ROWS_REG(op, 32, ALL) ROWS_MEM(op, 32) \
	ROWS_REG(op, 64, ALL) ROWS_MEM(op, 64)
#define ROWS_COMPARE(op) \
	ROWS_REG(op, 8, ALL_LOUD) ROWS_MEM(op, 8) \
	ROWS_REG(op, 16, ALL_LOUD) ROWS_MEM(op, 16) \
	ROWS_REG(op, 32, ALL_LOUD) ROWS_MEM(op, 32) \
	ROWS_REG(op, 64, ALL_LOUD) ROWS_MEM(op, 64)
#define ROWS_MOV(bits) \
	ROWS_REG(mov, bits, NONE) ROWS_MEM(mov, bits) \
	{hk_x_mov, HK_FORM_REG_RM, LOG##bits, FS_GS, true, ANY(mov##bits##_rs)}, \
	{hk_x_mov, HK_FORM_RM_REG, LOG##bits, FS_GS, true, ANY(mov##bits##_sr)},
#define ROWS_EXTEND(generic, name, from, to) \
	{generic, HK_FORM_REG_RM, LOG##to, REG, false, NONE(name##_##from##_##to##_r)}, \
	{generic, HK_FORM_REG_RM, LOG##to, MEM, true, ANY(name##_##from##_##to##_m)},
#define ROWS_UNARY(op, EFFECT) \
	{hk_x_##op, HK_FORM_RM, LOG32, REG, false, EFFECT(op##32_r)}, \
	{hk_x_##op, HK_FORM_RM, LOG64, REG, false, EFFECT(op##64_r)},
#define ROWS_SHIFT(op, EFFECT) \
	{hk_x_##op, HK_FORM_RM_IMM, LOG32, REG, false, EFFECT(op##32_ri)}, \
	{hk_x_##op, HK_FORM_RM_IMM, LOG64, REG, false, EFFECT(op##64_ri)}, \
	{hk_x_##op, HK_FORM_RM_REG, LOG32, REG, false, ANY(op##32_rc)}, \
	{hk_x_##op, HK_FORM_RM_REG, LOG64, REG, false, ANY(op##64_rc)},
#define ROWS_BIT_TEST(bits) \
	{hk_x_bt, HK_FORM_RM_IMM, LOG##bits, REG, false, SOME_LOUD(bt##bits##_ri)}, \
	{hk_x_bt, HK_FORM_RM_REG, LOG##bits, REG, false, SOME_LOUD(bt##bits##_rr)},
#define ROWS_IMUL(bits) \
	{hk_x_imul2, HK_FORM_REG_RM, LOG##bits, REG, false, ALL(imul##bits##_rr)},
#define ROWS_IMUL3(bits) \
	{hk_x_imul3, HK_FORM_REG_RM, LOG##bits, REG, false, ALL(imul##bits##_rri)},

/* One handler's forms stand together: find() relies on it. */
static const struct fast fasts[] = {
	ROWS_ALU(add)
	ROWS_ALU(sub)
	ROWS_ALU(and)
	ROWS_ALU(or)
	ROWS_ALU(xor)
	ROWS_COMPARE(cmp)
	ROWS_COMPARE(test)
	ROWS_MOV(8)
	ROWS_MOV(16)
	ROWS_MOV(32)
	ROWS_MOV(64)
	ROWS_EXTEND(hk_x_movzx8, movzx, 8, 32)
	ROWS_EXTEND(hk_x_movzx8, movzx, 8, 64)
	ROWS_EXTEND(hk_x_movzx16, movzx, 16, 32)
	ROWS_EXTEND(hk_x_movzx16, movzx, 16, 64)
	ROWS_EXTEND(hk_x_movsx8, movsx, 8, 32)
	ROWS_EXTEND(hk_x_movsx8, movsx, 8, 64)
	ROWS_EXTEND(hk_x_movsx16, movsx, 16, 32)
	ROWS_EXTEND(hk_x_movsx16, movsx, 16, 64)
	ROWS_EXTEND(hk_x_movsxd, movsx, 32, 64)
	{hk_x_lea, HK_FORM_REG_RM, LOG32, MEM, true, NONE(lea32)},
	{hk_x_lea, HK_FORM_REG_RM, LOG64, MEM, true, NONE(lea64)},
	ROWS_UNARY(inc, SOME)
	ROWS_UNARY(dec, SOME)
	ROWS_UNARY(neg, ALL)
	ROWS_UNARY(not, NONE)
	ROWS_SHIFT(shl, ALL)
	ROWS_SHIFT(shr, ALL)
	ROWS_SHIFT(sar, ALL)
	ROWS_SHIFT(rol, SOME)
	ROWS_SHIFT(ror, SOME)
	ROWS_BIT_TEST(32)
	ROWS_BIT_TEST(64)
	ROWS_IMUL(32)
	ROWS_IMUL(64)
	ROWS_IMUL3(32)
	ROWS_IMUL3(64)
	{hk_x_push, HK_FORM_RM, LOG64, REG, true, ANY(push64_r)},
	{hk_x_pop, HK_FORM_RM, LOG64, REG, true, ANY(pop64_r)},
	{hk_x_adc, HK_FORM_RM_REG, LOG64, REG, false, ANY(adc64_rr)},
	{hk_x_sbb, HK_FORM_RM_REG, LOG32, REG, false, ANY(sbb32_rr)},
	{hk_x_sbb, HK_FORM_RM_REG, LOG64, REG, false, ANY(sbb64_rr)},
	{hk_x_jmp_rm, HK_FORM_RM, LOG64, REG, true, ANY(jmp64_r)},
	{hk_x_call_rm, HK_FORM_RM, LOG64, REG, true, ANY(call64_r)},
	{hk_x_leave, HK_FORM_RM, LOG64, REG, true, ANY(leave64)},
	{hk_x_cmov, HK_FORM_REG_RM, LOG32, REG, false, ANY(cmov32_rr)},
	{hk_x_cmov, HK_FORM_REG_RM, LOG64, REG, false, ANY(cmov64_rr)},
	{hk_x_setcc, HK_FORM_RM, LOG8, REG, false, ANY(setcc_r)},
};
/* clang-format on */

/*
 * Where a handler's forms begin in fasts, plus one, by row; 0: not looked for yet. Every CPU's
 * thread may work one out: they find the same.
 */
enum { MAX_ROWS = 4096, NO_FORMS = UINT16_MAX };
static _Atomic uint16_t first_of[MAX_ROWS];

static unsigned first_form(const struct hk_insn *insn)
{
	unsigned first = atomic_load_explicit(&first_of[insn->row], memory_order_relaxed);

	if (first == 0) {
		first = NO_FORMS;
		for (unsigned i = HK_ARRAY_SIZE(fasts); i-- > 0;) {
			if (fasts[i].generic == insn->exec) {
				first = i + 1;
			}
		}
		atomic_store_explicit(&first_of[insn->row], (uint16_t)first, memory_order_relaxed);
	}
	return first;
}

static const struct fast *find(const struct hk_insn *insn, unsigned where)
{
	unsigned first = first_form(insn);

	for (unsigned i = first - 1; i < HK_ARRAY_SIZE(fasts) && fasts[i].generic == insn->exec;
		i++) {
		const struct fast *f = &fasts[i];

		if (f->form == hk_insn_form(insn) && f->size == hk_insn_size(insn) &&
			f->where == where) {
			return f;
		}
	}
	return NULL;
}

static struct hk_choice choose(const struct hk_insn *insn, enum hk_code_mode mode)
{
	struct hk_choice generic = ANY(insn->exec);
	unsigned where = REG;

	assert(insn->row < MAX_ROWS);
	if ((insn->flags & HK_INSN_LOCK) != 0) {
		return generic;
	}
	if (hk_insn_mem(insn)) {
		bool is_64 = mode == HK_CODE_64 && hk_insn_addr_size(insn) == LOG64;

		if ((insn->flags & HK_INSN_PLAIN) != 0) {
			where = MEM;
		} else if (is_64 && (hk_insn_seg(insn) == HK_FS || hk_insn_seg(insn) == HK_GS)) {
			where = FS_GS;
		} else {
			return generic;
		}
	}

	const struct fast *f = find(insn, where);

	if (f == NULL || (f->only_64 && mode != HK_CODE_64)) {
		return generic;
	}

	/* The few that hang on more. */
	bool is_shift = insn->exec == hk_x_shl || insn->exec == hk_x_shr ||
		insn->exec == hk_x_sar || insn->exec == hk_x_rol || insn->exec == hk_x_ror;
	bool clears = insn->exec == hk_x_xor || insn->exec == hk_x_sub;
	bool same_regs = hk_insn_form(insn) != HK_FORM_RM_IMM && insn->base == insn->reg;

	if (is_shift && hk_insn_form(insn) == HK_FORM_RM_IMM &&
		(insn->imm & ((8u << f->size) - 1)) == 0) {
		return generic; /* leaves the flags alone */
	}
	if (clears && where == REG && same_regs && f->size == LOG32) {
		return (struct hk_choice)ALL(zero32);
	}
	if (clears && where == REG && same_regs && f->size == LOG64) {
		return (struct hk_choice)ALL(zero64);
	}
	if (f->choice.exec == lea64 && insn->index == HK_REG_ZERO) {
		return (struct hk_choice)NONE(lea64_base);
	}
	return f->choice;
}

struct hk_choice hk_fast(const struct hk_insn *insn, enum hk_code_mode mode)
{
	if (mode == HK_CODE_64 && hk_insn_size(insn) == LOG64) {
		if (insn->exec == hk_x_ret && insn->imm == 0) {
			return (struct hk_choice)ANY(ret64);
		}
		if (insn->exec == hk_x_push_imm) {
			return (struct hk_choice)ANY(push64_i);
		}
	}
	return choose(insn, mode);
}

enum hk_fast_pair hk_fast_pair(const struct hk_insn *insn)
{
	static hk_exec_fn *const cmps[] = {
		cmp8_rr, cmp8_ri, cmp32_rr, cmp32_ri, cmp64_rr, cmp64_ri};
	static hk_exec_fn *const tests[] = {
		test8_rr, test8_ri, test32_rr, test32_ri, test64_rr, test64_ri};

	for (size_t i = 0; i < HK_ARRAY_SIZE(cmps); i++) {
		if (insn->exec == cmps[i]) {
			return HK_FAST_CMP;
		}
		if (insn->exec == tests[i]) {
			return HK_FAST_TEST;
		}
	}
	return HK_FAST_NO_PAIR;
}
