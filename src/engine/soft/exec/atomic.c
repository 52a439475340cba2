/* SPDX-License-Identifier: ISC */
/*
 * Locked changes of memory, and the instructions made for them: XCHG, XADD, CMPXCHG.
 *
 * A locked change is a loop around the host's compare-and-swap on guest memory itself
 * (hk_lock_begin()). Where the host has none for 16 bytes, all other CPUs rest meanwhile.
 */
#include "engine/soft/exec/handlers.h"
#include "engine/soft/exec/rmw.h"

/* *@host = @want where it is *@expected; else *@expected becomes what it is. */
static bool compare_swap(void *host, unsigned size, uint64_t *expected, uint64_t want)
{
	uint8_t e8 = (uint8_t)*expected;
	uint16_t e16 = (uint16_t)*expected;
	uint32_t e32 = (uint32_t)*expected;
	bool done;

	switch (size) {
	case 0:
		done = __atomic_compare_exchange_n((uint8_t *)host, &e8, (uint8_t)want, false,
			__ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
		*expected = e8;
		return done;
	case 1:
		done = __atomic_compare_exchange_n((uint16_t *)host, &e16, (uint16_t)want, false,
			__ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
		*expected = e16;
		return done;
	case 2:
		done = __atomic_compare_exchange_n((uint32_t *)host, &e32, (uint32_t)want, false,
			__ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
		*expected = e32;
		return done;
	default:
		return __atomic_compare_exchange_n((uint64_t *)host, expected, want, false,
			__ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
	}
}

static uint64_t peek(const void *host, unsigned size)
{
	switch (size) {
	case 0:
		return __atomic_load_n((const uint8_t *)host, __ATOMIC_RELAXED);
	case 1:
		return __atomic_load_n((const uint16_t *)host, __ATOMIC_RELAXED);
	case 2:
		return __atomic_load_n((const uint32_t *)host, __ATOMIC_RELAXED);
	default:
		return __atomic_load_n((const uint64_t *)host, __ATOMIC_RELAXED);
	}
}

/* As hk_rmw_locked(), and tell what was there. */
static bool exchange(struct hk_cpu *cpu, uint64_t va, unsigned size, hk_alu_fn *op, uint64_t b,
	uint64_t *ret_old)
{
	uint64_t cc_res = cpu->cc_res;
	uint64_t cc_src = cpu->cc_src;
	uint32_t cc_kind = cpu->cc_kind;
	struct hk_lock lock;
	uint64_t old;

	if (!hk_lock_begin(cpu, va, 1u << size, &lock)) {
		return false;
	}
	old = peek(lock.host, size);
	while (!compare_swap(lock.host, size, &old, op(cpu, size, old, b))) {
		/* Operations that read flags must find them as they were. */
		cpu->cc_res = cc_res;
		cpu->cc_src = cc_src;
		cpu->cc_kind = cc_kind;
	}
	hk_lock_end(cpu, &lock);
	*ret_old = old;
	return true;
}

bool hk_rmw_locked(struct hk_cpu *cpu, uint64_t va, unsigned size, hk_alu_fn *op, uint64_t b)
{
	uint64_t old;

	return exchange(cpu, va, size, op, b, &old);
}

static uint64_t replace(struct hk_cpu *cpu, unsigned size, uint64_t a, uint64_t b)
{
	(void)cpu;
	(void)size;
	(void)a;
	return b;
}

/* With memory XCHG is locked, prefix or not. */
HK_EXEC(xchg)
{
	unsigned size = hk_insn_size(insn);
	uint64_t reg = hk_reg_get(cpu, insn->reg, size);
	uint64_t va, old;

	if (!hk_insn_mem(insn)) {
		old = hk_reg_get(cpu, insn->base, size);
		hk_reg_set(cpu, insn->base, size, reg);
	} else if (!hk_mem_va(cpu, insn, 1u << size, HK_ACCESS_WRITE, &va) ||
		!exchange(cpu, va, size, replace, reg, &old)) {
		return hk_give_up(cpu, insn);
	}
	hk_reg_set(cpu, insn->reg, size, old);
	return HK_NEXT(cpu, insn);
}

HK_EXEC(xadd)
{
	unsigned size = hk_insn_size(insn);
	uint64_t reg = hk_reg_get(cpu, insn->reg, size);
	uint64_t va = 0;
	uint64_t old, sum;

	if ((insn->flags & HK_INSN_LOCK) != 0) {
		if (!hk_mem_va(cpu, insn, 1u << size, HK_ACCESS_WRITE, &va) ||
			!exchange(cpu, va, size, hk_alu_add, reg, &old)) {
			return hk_give_up(cpu, insn);
		}
		hk_reg_set(cpu, insn->reg, size, old);
		return HK_NEXT(cpu, insn);
	}
	if (!hk_rm_begin(cpu, insn, size, &va, &old)) {
		return hk_give_up(cpu, insn);
	}
	sum = hk_alu_add(cpu, size, old, reg);
	hk_reg_set(cpu, insn->reg, size, old); /* first: where both are one, the sum stays */
	hk_rm_end(cpu, insn, size, va, sum);
	return HK_NEXT(cpu, insn);
}

/*
 * CMPXCHG: what does not match goes to the accumulator. Memory must be writable in any case; a
 * 32-bit register keeps its upper half then (so has Sapphire Rapids).
 */
HK_EXEC(cmpxchg)
{
	unsigned size = hk_insn_size(insn);
	uint64_t want = hk_reg_get(cpu, insn->reg, size);
	uint64_t expected = hk_reg_get(cpu, HK_RAX, size);
	uint64_t old = expected;
	uint64_t va = 0;

	if ((insn->flags & HK_INSN_LOCK) != 0) {
		struct hk_lock lock;

		if (!hk_mem_va(cpu, insn, 1u << size, HK_ACCESS_WRITE, &va) ||
			!hk_lock_begin(cpu, va, 1u << size, &lock)) {
			return hk_give_up(cpu, insn);
		}
		compare_swap(lock.host, size, &old, want);
		hk_lock_end(cpu, &lock);
	} else {
		if (!hk_rm_begin(cpu, insn, size, &va, &old)) {
			return hk_give_up(cpu, insn);
		}
		if (old == expected) {
			hk_rm_end(cpu, insn, size, va, want);
		}
	}
	if (old != expected) {
		hk_reg_set(cpu, HK_RAX, size, old);
	}
	hk_alu_sub(cpu, size, expected, old);
	return HK_NEXT(cpu, insn);
}

typedef unsigned __int128 wide;

static wide compare_swap_16(struct hk_cpu *cpu, struct hk_lock *lock, wide expected, wide want)
{
	wide old;

#ifdef __GCC_HAVE_SYNC_COMPARE_AND_SWAP_16
	(void)cpu;
	old = __sync_val_compare_and_swap((wide *)lock->host, expected, want);
#else
	if (!lock->exclusive) {
		cpu->bus->exclusive_begin(cpu);
	}
	memcpy(&old, lock->host, sizeof(old));
	if (old == expected) {
		memcpy(lock->host, &want, sizeof(want));
	}
	if (!lock->exclusive) {
		cpu->bus->exclusive_end(cpu);
	}
#endif
	return old;
}

/* CMPXCHG8B and, with a 64-bit operand size, CMPXCHG16B. Of the flags only ZF changes. */
HK_EXEC(cmpxchg8b)
{
	unsigned half = hk_insn_size(insn) == 3 ? 3 : 2; /* log2 of bytes */
	unsigned bits = 8u << half;
	unsigned len = 2u << half;
	wide expected = (wide)hk_reg_get(cpu, HK_RDX, half) << bits | hk_reg_get(cpu, HK_RAX, half);
	wide want = (wide)hk_reg_get(cpu, HK_RCX, half) << bits | hk_reg_get(cpu, HK_RBX, half);
	wide old = 0;
	uint32_t flags;
	uint64_t va;

	if (!hk_mem_va(cpu, insn, len, HK_ACCESS_WRITE, &va)) {
		return hk_give_up(cpu, insn);
	}
	if (half == 3 && (va & 15) != 0) {
		return hk_raise_code(cpu, insn, HK_VECTOR_GP, 0);
	}
	if ((insn->flags & HK_INSN_LOCK) != 0) {
		struct hk_lock lock;

		if (!hk_lock_begin(cpu, va, len, &lock)) {
			return hk_give_up(cpu, insn);
		}
		if (half == 3) {
			old = compare_swap_16(cpu, &lock, expected, want);
		} else {
			uint64_t old8 = (uint64_t)expected;

			compare_swap(lock.host, 3, &old8, (uint64_t)want);
			old = old8;
		}
		hk_lock_end(cpu, &lock);
	} else {
		if (!hk_load_rmw(cpu, va, &old, len)) {
			return hk_give_up(cpu, insn);
		}
		if (old == expected) {
			(void)hk_store(cpu, va, &want, len);
		}
	}
	flags = hk_cc_get(cpu) & ~(uint32_t)HK_FLAG_ZF;
	if (old == expected) {
		flags |= HK_FLAG_ZF;
	} else {
		hk_reg_set(cpu, HK_RAX, half, (uint64_t)old);
		hk_reg_set(cpu, HK_RDX, half, (uint64_t)(old >> bits));
	}
	hk_cc_set_raw(cpu, flags);
	return HK_NEXT(cpu, insn);
}
