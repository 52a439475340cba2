/* SPDX-License-Identifier: ISC */
/*
 * String instructions.
 *
 * Under REP they go on until rCX (of the address size) is 0, one element at a time as far as the
 * guest can tell: where an access faults, or something wants this CPU's attention, rSI, rDI and rCX
 * stand at the first element not done, and RIP at the instruction itself.
 *
 * MOVS and STOS, upwards, are done for as much at once as lies in one page of source and
 * destination, on the host's memory, with the result that byte by byte would have; single elements
 * take over where a page is not in the TLB (which they bring in), or an element crosses pages.
 */
#include "engine/soft/exec/handlers.h"
#include "engine/soft/operand.h"
#include "engine/soft/sys.h"

static inline uint64_t count_left(struct hk_cpu *cpu, const struct hk_insn *insn)
{
	return hk_reg_get(cpu, HK_RCX, hk_insn_addr_size(insn));
}

static inline void count_down(struct hk_cpu *cpu, const struct hk_insn *insn, uint64_t done)
{
	hk_reg_set(cpu, HK_RCX, hk_insn_addr_size(insn), cpu->gpr[HK_RCX] - done);
}

/* Move rSI or rDI by @count elements. */
static inline void advance(
	struct hk_cpu *cpu, const struct hk_insn *insn, enum hk_gpr reg, uint64_t count)
{
	uint64_t bytes = count << hk_insn_size(insn);

	if ((cpu->rflags & HK_FLAG_DF) != 0) {
		bytes = 0 - bytes;
	}
	hk_reg_set(cpu, reg, hk_insn_addr_size(insn), cpu->gpr[reg] + bytes);
}

static inline bool repeats(const struct hk_insn *insn)
{
	return hk_insn_rep(insn) != HK_REP_NONE;
}

/* Between elements: single-stepping stops after each. */
static inline bool must_pause(const struct hk_cpu *cpu)
{
	uint32_t attention = atomic_load_explicit(&cpu->attention, memory_order_relaxed);

	return hk_unlikely(
		(attention & ~(uint32_t)HK_ATT_STEP) != 0 || (cpu->rflags & HK_FLAG_TF) != 0);
}

typedef bool element_fn(struct hk_cpu *cpu, const struct hk_insn *insn);
typedef uint64_t bulk_fn(struct hk_cpu *cpu, const struct hk_insn *insn, uint64_t count);

static uint64_t no_bulk(struct hk_cpu *cpu, const struct hk_insn *insn, uint64_t count)
{
	(void)cpu;
	(void)insn;
	(void)count;
	return 0;
}

/*
 * Sapphire Rapids writes rCX of a REP that counts nothing, and the pointers of MOVS and STOS, too:
 * as all writes of 32-bit registers this clears the upper half.
 *
 * An instruction whose REP only counts. @one does one element and moves the pointers; it returns
 * false with the fault noted. @bulk does up to @count and moves the pointers; it returns how many,
 * 0 where it cannot; with a @count of 0 it writes the pointers as they are.
 */
static inline const struct hk_insn *run(
	struct hk_cpu *cpu, const struct hk_insn *insn, element_fn *one, bulk_fn *bulk)
{
	uint64_t left;

	if (!repeats(insn)) {
		return one(cpu, insn) ? HK_NEXT(cpu, insn) : hk_give_up(cpu, insn);
	}
	while ((left = count_left(cpu, insn)) != 0) {
		uint64_t done =
			(cpu->rflags & (HK_FLAG_DF | HK_FLAG_TF)) == 0 ? bulk(cpu, insn, left) : 0;

		if (done == 0) {
			if (!one(cpu, insn)) {
				return hk_give_up(cpu, insn);
			}
			done = 1;
		}
		count_down(cpu, insn, done);
		if (must_pause(cpu) && done != left) {
			return hk_leave_to(cpu, hk_insn_rip(cpu, insn));
		}
	}
	return HK_NEXT(cpu, insn);
}

/* Linear address of the element that rSI or rDI points at. rDI's segment is always ES. */
static inline bool element_va(struct hk_cpu *cpu, const struct hk_insn *insn, enum hk_gpr reg,
	enum hk_access access, uint64_t *ret_va)
{
	unsigned seg = reg == HK_RDI ? HK_ES : hk_insn_seg(insn);
	uint64_t offset = hk_reg_get(cpu, reg, hk_insn_addr_size(insn));

	return hk_linear(cpu, seg, offset, hk_insn_bytes(insn), access, ret_va);
}

static inline bool load_element(
	struct hk_cpu *cpu, const struct hk_insn *insn, enum hk_gpr reg, uint64_t *ret_value)
{
	uint64_t va;

	return element_va(cpu, insn, reg, HK_ACCESS_READ, &va) &&
		hk_va_load(cpu, va, hk_insn_size(insn), ret_value);
}

static inline bool store_element(struct hk_cpu *cpu, const struct hk_insn *insn, uint64_t value)
{
	uint64_t va;

	return element_va(cpu, insn, HK_RDI, HK_ACCESS_WRITE, &va) &&
		hk_va_store(cpu, va, hk_insn_size(insn), value);
}

/*
 * For bulk work: linear address that rSI or rDI points at. *@count is cut to the elements that
 * follow in the same page without the offset wrapping. Return: false: do single elements.
 */
static bool bulk_va(struct hk_cpu *cpu, const struct hk_insn *insn, enum hk_gpr reg,
	uint64_t *count, uint64_t *ret_va)
{
	unsigned size = hk_insn_size(insn);
	unsigned seg = reg == HK_RDI ? HK_ES : hk_insn_seg(insn);
	uint64_t offset = hk_reg_get(cpu, reg, hk_insn_addr_size(insn));
	uint64_t left = hk_mask(hk_insn_addr_size(insn)) - offset; /* and one byte */
	uint64_t va = cpu->seg_base[seg] + offset;
	uint64_t room;

	if (cpu->mode != HK_CODE_64) {
		if (!hk_seg_is_flat(cpu, seg)) {
			return false;
		}
		va = (uint32_t)va;
	} else if (seg == HK_SS) {
		return false; /* faults of its own: leave them to hk_linear() */
	}
	room = HK_PAGE_SIZE - (va & (HK_PAGE_SIZE - 1));
	room = left < room ? left : room;
	room >>= size;
	*count = room < *count ? room : *count;
	*ret_va = va;
	return *count != 0;
}

/*
 * Guests race by themselves, but TSan looks into the C library's functions wherever they are called
 * from. So with it these are loops.
 */
#ifdef HK_SANITIZED
static HK_GUEST_RACES void guest_copy(uint8_t *to, const uint8_t *from, size_t len)
{
	bool down = (uintptr_t)to - (uintptr_t)from < len; /* as memmove() */
	bool wide = (((uintptr_t)to | (uintptr_t)from | len) & 7) == 0;
	size_t step = wide ? 8 : 1;

	for (size_t i = 0; i < len; i += step) {
		size_t at = down ? len - step - i : i;

		if (wide) {
			*(volatile uint64_t *)&to[at] = *(const volatile uint64_t *)&from[at];
		} else {
			*(volatile uint8_t *)&to[at] = *(const volatile uint8_t *)&from[at];
		}
	}
}

static HK_GUEST_RACES void guest_fill(uint8_t *to, uint8_t byte, size_t len)
{
	size_t i = 0;

	while (i < len && ((uintptr_t)&to[i] & 7) != 0) {
		*(volatile uint8_t *)&to[i++] = byte;
	}
	for (; len - i >= 8; i += 8) {
		*(volatile uint64_t *)&to[i] = byte * UINT64_C(0x0101010101010101);
	}
	for (; i < len; i++) {
		*(volatile uint8_t *)&to[i] = byte;
	}
}
#else
#define guest_copy memmove
#define guest_fill memset
#endif

/* As copying byte by byte, lowest first, does: a destination just above its source repeats it. */
static void copy_up(uint8_t *to, const uint8_t *from, size_t len)
{
	uintptr_t gap = (uintptr_t)to - (uintptr_t)from;

	if (gap == 0 || gap >= len) { /* below the source, too: gap is huge then */
		guest_copy(to, from, len);
		return;
	}
	while (len != 0) {
		size_t n = gap < len ? gap : len;

		guest_copy(to, from, n);
		to += n;
		len -= n;
		gap += n; /* what follows the source is whole periods of it now */
	}
}

static uint64_t movs_bulk(struct hk_cpu *cpu, const struct hk_insn *insn, uint64_t count)
{
	unsigned size = hk_insn_size(insn);
	uint64_t from_va, to_va;

	if (count == 0) {
		advance(cpu, insn, HK_RSI, 0);
		advance(cpu, insn, HK_RDI, 0);
		return 0;
	}
	if (!bulk_va(cpu, insn, HK_RSI, &count, &from_va) ||
		!bulk_va(cpu, insn, HK_RDI, &count, &to_va)) {
		return 0;
	}

	unsigned len = (unsigned)(count << size);
	const uint8_t *from = hk_tlb_read(cpu, from_va, len);
	uint8_t *to = hk_tlb_write(cpu, to_va, len);

	if (from == NULL || to == NULL) {
		return 0;
	}
	/* Closer than an element: each reads what it itself is about to overwrite. */
	if ((uintptr_t)to - (uintptr_t)from < 1u << size && to != from) {
		return 0;
	}
	HK_GUEST_RELEASE();
	copy_up(to, from, len);
	HK_GUEST_ACQUIRE();
	advance(cpu, insn, HK_RSI, count);
	advance(cpu, insn, HK_RDI, count);
	return count;
}

static bool movs_one(struct hk_cpu *cpu, const struct hk_insn *insn)
{
	uint64_t value;

	if (!load_element(cpu, insn, HK_RSI, &value) || !store_element(cpu, insn, value)) {
		return false;
	}
	advance(cpu, insn, HK_RSI, 1);
	advance(cpu, insn, HK_RDI, 1);
	return true;
}

HK_EXEC(movs)
{
	return run(cpu, insn, movs_one, movs_bulk);
}

static uint64_t stos_bulk(struct hk_cpu *cpu, const struct hk_insn *insn, uint64_t count)
{
	unsigned size = hk_insn_size(insn);
	uint64_t value = cpu->gpr[HK_RAX];
	uint8_t byte = (uint8_t)value;
	uint64_t va;

	if (count == 0) {
		advance(cpu, insn, HK_RDI, 0);
		return 0;
	}
	if (!bulk_va(cpu, insn, HK_RDI, &count, &va)) {
		return 0;
	}

	size_t len = (size_t)(count << size);
	uint8_t *to = hk_tlb_write(cpu, va, (unsigned)len);

	if (to == NULL) {
		return 0;
	}
	HK_GUEST_RELEASE();
	if (((value ^ byte * UINT64_C(0x0101010101010101)) & hk_mask(size)) == 0) {
		guest_fill(to, byte, len);
	} else {
		size_t filled = (size_t)1 << size;

		guest_copy(to, (const uint8_t *)&value, filled);
		copy_up(to + filled, to, len - filled);
	}
	advance(cpu, insn, HK_RDI, count);
	return count;
}

static bool stos_one(struct hk_cpu *cpu, const struct hk_insn *insn)
{
	if (!store_element(cpu, insn, hk_reg_get(cpu, HK_RAX, hk_insn_size(insn)))) {
		return false;
	}
	advance(cpu, insn, HK_RDI, 1);
	return true;
}

HK_EXEC(stos)
{
	return run(cpu, insn, stos_one, stos_bulk);
}

static bool lods_one(struct hk_cpu *cpu, const struct hk_insn *insn)
{
	uint64_t value;

	if (!load_element(cpu, insn, HK_RSI, &value)) {
		return false;
	}
	hk_reg_set(cpu, HK_RAX, hk_insn_size(insn), value);
	advance(cpu, insn, HK_RSI, 1);
	return true;
}

HK_EXEC(lods)
{
	return run(cpu, insn, lods_one, no_bulk);
}

/* Reads what is to be compared and moves the pointers. Return: false with the fault noted. */
typedef bool pair_fn(
	struct hk_cpu *cpu, const struct hk_insn *insn, uint64_t *ret_a, uint64_t *ret_b);

/*
 * CMPS and SCAS: REPE goes on while equal. Flags come last: an early end leaves them as they were.
 */
static inline const struct hk_insn *search(
	struct hk_cpu *cpu, const struct hk_insn *insn, pair_fn *read_pair)
{
	bool while_equal = hk_insn_rep(insn) == HK_REP_F3;
	uint64_t left = count_left(cpu, insn);
	uint64_t a, b;

	if (!repeats(insn)) {
		if (!read_pair(cpu, insn, &a, &b)) {
			return hk_give_up(cpu, insn);
		}
	} else if (left == 0) {
		count_down(cpu, insn, 0);
		return HK_NEXT(cpu, insn);
	} else {
		for (;;) {
			if (!read_pair(cpu, insn, &a, &b)) {
				return hk_give_up(cpu, insn);
			}
			count_down(cpu, insn, 1);
			if (--left == 0 || (a == b) != while_equal) {
				break;
			}
			if (must_pause(cpu)) {
				return hk_leave_to(cpu, hk_insn_rip(cpu, insn));
			}
		}
	}
	hk_cc_set(cpu, HK_CC_SUB, hk_insn_size(insn), a - b, b);
	return HK_NEXT(cpu, insn);
}

/* Where neither can be read, it is rDI's that faults. */
static bool cmps_pair(
	struct hk_cpu *cpu, const struct hk_insn *insn, uint64_t *ret_a, uint64_t *ret_b)
{
	if (!load_element(cpu, insn, HK_RDI, ret_b) || !load_element(cpu, insn, HK_RSI, ret_a)) {
		return false;
	}
	advance(cpu, insn, HK_RSI, 1);
	advance(cpu, insn, HK_RDI, 1);
	return true;
}

HK_EXEC(cmps)
{
	return search(cpu, insn, cmps_pair);
}

static bool scas_pair(
	struct hk_cpu *cpu, const struct hk_insn *insn, uint64_t *ret_a, uint64_t *ret_b)
{
	if (!load_element(cpu, insn, HK_RDI, ret_b)) {
		return false;
	}
	*ret_a = hk_reg_get(cpu, HK_RAX, hk_insn_size(insn));
	advance(cpu, insn, HK_RDI, 1);
	return true;
}

HK_EXEC(scas)
{
	return search(cpu, insn, scas_pair);
}

/*
 * What comes from the port must have a place before the port is read, for reading can have effects.
 */
static bool ins_one(struct hk_cpu *cpu, const struct hk_insn *insn)
{
	unsigned len = hk_insn_bytes(insn);
	uint16_t port = (uint16_t)cpu->gpr[HK_RDX];
	uint64_t value = 0;
	uint64_t va;

	if (!hk_io_allowed(cpu, port, len) ||
		!element_va(cpu, insn, HK_RDI, HK_ACCESS_WRITE, &va) ||
		!hk_probe(cpu, va, len, HK_ACCESS_WRITE)) {
		return false;
	}
	cpu->bus->port(cpu, port, &value, len, false);
	if (!hk_va_store(cpu, va, hk_insn_size(insn), value)) {
		return false;
	}
	advance(cpu, insn, HK_RDI, 1);
	return true;
}

/* The port is checked even where a REP counts nothing. */
HK_EXEC(ins)
{
	if (!hk_io_allowed(cpu, (uint16_t)cpu->gpr[HK_RDX], hk_insn_bytes(insn))) {
		return hk_give_up(cpu, insn);
	}
	return run(cpu, insn, ins_one, no_bulk);
}

static bool outs_one(struct hk_cpu *cpu, const struct hk_insn *insn)
{
	unsigned len = hk_insn_bytes(insn);
	uint16_t port = (uint16_t)cpu->gpr[HK_RDX];
	uint64_t value;

	if (!hk_io_allowed(cpu, port, len) || !load_element(cpu, insn, HK_RSI, &value)) {
		return false;
	}
	cpu->bus->port(cpu, port, &value, len, true);
	advance(cpu, insn, HK_RSI, 1);
	return true;
}

HK_EXEC(outs)
{
	if (!hk_io_allowed(cpu, (uint16_t)cpu->gpr[HK_RDX], hk_insn_bytes(insn))) {
		return hk_give_up(cpu, insn);
	}
	return run(cpu, insn, outs_one, no_bulk);
}
