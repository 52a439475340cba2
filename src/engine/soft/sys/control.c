/* SPDX-License-Identifier: ISC */
/*
 * Control and debug registers, EFER, and what flushes the TLB.
 *
 * The TLB is not tagged with process-context ids: it holds translations of the present one only, so
 * every load of CR3 drops all that are not global, also where software asks to keep them (bit 63).
 * INVPCID of other contexts then has nothing to do.
 *
 * Limit: 32-bit PAE does not check the reserved bits of its four top entries at the load of CR3;
 * the walk does.
 *
 * Source: Intel SDM vol. 3, 2.2.1, 2.5, 4.10.4, 17.2; vol. 2 MOV (control registers), INVPCID.
 */
#include "engine/soft/exec/handlers.h"
#include "engine/soft/operand.h"
#include "engine/soft/sys/segment.h"

#define CR3_KEEP_TLB (UINT64_C(1) << 63) /* with PCIDE: do not flush. Never stored. */

static bool gp(struct hk_cpu *cpu)
{
	return hk_fault_code(cpu, HK_VECTOR_GP, 0);
}

bool hk_cpu_set_cr0(struct hk_cpu *cpu, uint64_t value)
{
	const uint64_t known = HK_CR0_PE | HK_CR0_MP | HK_CR0_EM | HK_CR0_TS | HK_CR0_NE |
		HK_CR0_WP | HK_CR0_AM | HK_CR0_NW | HK_CR0_CD | HK_CR0_PG;
	uint64_t cr0 = (value & known) | HK_CR0_ET;
	uint64_t changed = cr0 ^ cpu->cr0;
	uint64_t efer = cpu->efer;

	if (value > UINT32_MAX || ((cr0 & HK_CR0_PG) != 0 && (cr0 & HK_CR0_PE) == 0) ||
		((cr0 & HK_CR0_NW) != 0 && (cr0 & HK_CR0_CD) == 0)) {
		return gp(cpu);
	}
	if ((changed & cr0 & HK_CR0_PG) != 0 && (efer & HK_EFER_LME) != 0) {
		if ((cpu->cr4 & HK_CR4_PAE) == 0 || (cpu->seg[HK_CS].attr & HK_ATTR_L) != 0) {
			return gp(cpu);
		}
		efer |= HK_EFER_LMA;
	}
	if ((changed & ~cr0 & HK_CR0_PG) != 0) {
		if (cpu->mode == HK_CODE_64 || (cpu->cr4 & HK_CR4_PCIDE) != 0) {
			return gp(cpu);
		}
		efer &= ~HK_EFER_LMA;
	}
	cpu->cr0 = cr0;
	cpu->efer = efer;
	if ((changed & (HK_CR0_PG | HK_CR0_PE | HK_CR0_WP)) != 0) {
		hk_tlb_flush(cpu, true);
		hk_cpu_mode_changed(cpu);
	}
	return true;
}

/* Bits of physical addresses, as CPUID has it. */
static unsigned physical_bits(const struct hk_cpu *cpu)
{
	const struct hk_cpuid_leaf *leaf = hk_cpuid_find(cpu->cpuid, 0x80000008, 0);

	return leaf != NULL ? leaf->eax & 0xff : 36;
}

bool hk_cpu_set_cr3(struct hk_cpu *cpu, uint64_t value)
{
	if ((cpu->cr4 & HK_CR4_PCIDE) != 0) {
		value &= ~CR3_KEEP_TLB;
	}
	if (value >> 36 != 0 && value >> physical_bits(cpu) != 0) {
		return gp(cpu);
	}
	cpu->cr3 = value;
	hk_tlb_flush(cpu, false);
	return true;
}

uint64_t hk_cpu_cr4_known(const struct hk_cpu *cpu)
{
	static const struct {
		enum hk_feature feature;
		uint64_t bit;
	} optional[] = {
		{HK_FEAT_UMIP, HK_CR4_UMIP},
		{HK_FEAT_FSGSBASE, HK_CR4_FSGSBASE},
		{HK_FEAT_PCID, HK_CR4_PCIDE},
		{HK_FEAT_SMEP, HK_CR4_SMEP},
		{HK_FEAT_SMAP, HK_CR4_SMAP},
	};
	uint64_t known = HK_CR4_TSD | HK_CR4_DE | HK_CR4_PSE | HK_CR4_PAE | HK_CR4_MCE |
		HK_CR4_PGE | HK_CR4_PCE | HK_CR4_OSFXSR | HK_CR4_OSXMMEXCPT | HK_CR4_OSXSAVE;

	for (unsigned i = 0; i < sizeof(optional) / sizeof(optional[0]); i++) {
		if (hk_cpu_has(cpu, optional[i].feature)) {
			known |= optional[i].bit;
		}
	}
	return known;
}

bool hk_cpu_set_cr4(struct hk_cpu *cpu, uint64_t value)
{
	uint64_t changed = value ^ cpu->cr4;

	if ((value & ~hk_cpu_cr4_known(cpu)) != 0) {
		return gp(cpu);
	}
	if (hk_long_mode(cpu) && (value & HK_CR4_PAE) == 0) {
		return gp(cpu);
	}
	if ((changed & value & HK_CR4_PCIDE) != 0 &&
		(!hk_long_mode(cpu) || (cpu->cr3 & 0xfff) != 0)) {
		return gp(cpu);
	}
	cpu->cr4 = value;
	if ((changed &
		    (HK_CR4_PSE | HK_CR4_PAE | HK_CR4_PGE | HK_CR4_PCIDE | HK_CR4_SMEP |
			    HK_CR4_SMAP)) != 0) {
		hk_tlb_flush(cpu, true);
	}
	hk_cpu_mode_changed(cpu);
	return true;
}

bool hk_cpu_set_efer(struct hk_cpu *cpu, uint64_t value)
{
	const uint64_t known = HK_EFER_SCE | HK_EFER_LME | HK_EFER_LMA | HK_EFER_NXE;
	uint64_t efer = (value & ~HK_EFER_LMA) | (cpu->efer & HK_EFER_LMA);
	uint64_t changed = efer ^ cpu->efer;

	if ((value & ~known) != 0 ||
		((changed & HK_EFER_LME) != 0 && (cpu->cr0 & HK_CR0_PG) != 0)) {
		return gp(cpu);
	}
	cpu->efer = efer;
	if ((changed & HK_EFER_NXE) != 0) {
		hk_tlb_flush(cpu, true);
	}
	hk_cpu_mode_changed(cpu);
	return true;
}

/* ---- Instructions ---- */

/* MOV to and from control and debug registers moves 8 bytes in 64-bit mode, else 4. */
static unsigned move_size(const struct hk_cpu *cpu)
{
	return cpu->mode == HK_CODE_64 ? 3 : 2;
}

/* Is there a control register of that number? CR8 only where REX can name it. */
static bool cr_exists(const struct hk_cpu *cpu, unsigned reg)
{
	return reg == 0 || (reg >= 2 && reg <= 4) || (reg == 8 && cpu->mode == HK_CODE_64);
}

HK_EXEC(mov_from_cr)
{
	uint64_t value = 0;

	if (!cr_exists(cpu, insn->reg)) {
		return hk_raise(cpu, insn, HK_VECTOR_UD);
	}
	if (!hk_privileged(cpu)) {
		return hk_give_up(cpu, insn);
	}
	switch (insn->reg) {
	case 0:
		value = cpu->cr0;
		break;
	case 2:
		value = cpu->cr2;
		break;
	case 3:
		value = cpu->cr3;
		break;
	case 4:
		value = cpu->cr4;
		break;
	default:
		value = cpu->bus->get_cr8(cpu);
		break;
	}
	hk_reg_set(cpu, insn->base, move_size(cpu), value);
	return HK_NEXT(cpu, insn);
}

static bool set_cr(struct hk_cpu *cpu, unsigned reg, uint64_t value)
{
	switch (reg) {
	case 0:
		return hk_cpu_set_cr0(cpu, value);
	case 2:
		cpu->cr2 = value;
		return true;
	case 3:
		return hk_cpu_set_cr3(cpu, value);
	case 4:
		return hk_cpu_set_cr4(cpu, value);
	default:
		if (value > 15) {
			return gp(cpu);
		}
		cpu->bus->set_cr8(cpu, (uint8_t)value);
		return true;
	}
}

HK_EXEC(mov_to_cr)
{
	/* Before the mode changes: where the next instruction is. */
	uint64_t next = hk_insn_next_rip(cpu, insn);
	uint64_t value = hk_reg_get(cpu, insn->base, move_size(cpu));

	if (!cr_exists(cpu, insn->reg)) {
		return hk_raise(cpu, insn, HK_VECTOR_UD);
	}
	if (!hk_privileged(cpu) || !set_cr(cpu, insn->reg, value)) {
		return hk_give_up(cpu, insn);
	}
	return hk_leave_to(cpu, next);
}

HK_EXEC(clts)
{
	if (!hk_privileged(cpu)) {
		return hk_give_up(cpu, insn);
	}
	cpu->cr0 &= ~HK_CR0_TS;
	return HK_NEXT(cpu, insn);
}

HK_EXEC(smsw)
{
	/* To memory always 16 bits */
	unsigned size = hk_insn_mem(insn) ? 1 : hk_insn_size(insn);

	if (cpu->cpl != 0 && (cpu->cr4 & HK_CR4_UMIP) != 0) {
		return hk_raise_code(cpu, insn, HK_VECTOR_GP, 0);
	}
	if (!hk_rm_set(cpu, insn, size, cpu->cr0)) {
		return hk_give_up(cpu, insn);
	}
	return HK_NEXT(cpu, insn);
}

HK_EXEC(lmsw)
{
	const uint64_t low = HK_CR0_PE | HK_CR0_MP | HK_CR0_EM | HK_CR0_TS;
	uint64_t value;

	if (!hk_privileged(cpu) || !hk_rm_get(cpu, insn, 1, &value)) {
		return hk_give_up(cpu, insn);
	}
	/* It can set PE, but not clear it. */
	value = (cpu->cr0 & ~low) | (value & low) | (cpu->cr0 & HK_CR0_PE);
	if (!hk_cpu_set_cr0(cpu, value)) {
		return hk_give_up(cpu, insn);
	}
	return hk_leave(cpu, insn);
}

HK_EXEC(invlpg)
{
	uint64_t va = cpu->seg_base[hk_insn_seg(insn)] + hk_ea(cpu, insn);

	if (!hk_privileged(cpu)) {
		return hk_give_up(cpu, insn);
	}
	hk_tlb_flush_page(cpu, cpu->mode == HK_CODE_64 ? va : (uint32_t)va);
	return hk_leave(cpu, insn);
}

HK_EXEC(invpcid)
{
	enum { ADDRESS, CONTEXT, ALL, ALL_NOT_GLOBAL, TYPES };

	uint64_t type = hk_reg_get(cpu, insn->reg, move_size(cpu));
	uint64_t va, descriptor[2];

	if (!hk_privileged(cpu)) {
		return hk_give_up(cpu, insn);
	}
	if (type >= TYPES) {
		return hk_raise_code(cpu, insn, HK_VECTOR_GP, 0);
	}
	if (!hk_mem_va(cpu, insn, sizeof(descriptor), HK_ACCESS_READ, &va) ||
		!hk_load(cpu, va, descriptor, sizeof(descriptor))) {
		return hk_give_up(cpu, insn);
	}

	bool pcide = (cpu->cr4 & HK_CR4_PCIDE) != 0;
	bool one = type == ADDRESS || type == CONTEXT;

	if (descriptor[0] > 0xfff || (one && !pcide && descriptor[0] != 0) ||
		(type == ADDRESS && !hk_canonical(descriptor[1]))) {
		return hk_raise_code(cpu, insn, HK_VECTOR_GP, 0);
	}
	if (!one) {
		hk_tlb_flush(cpu, type == ALL);
	} else if (!pcide || descriptor[0] == (cpu->cr3 & 0xfff)) {
		if (type == ADDRESS) {
			hk_tlb_flush_page(cpu, descriptor[1]);
		} else {
			hk_tlb_flush(cpu, false);
		}
	}
	return hk_leave(cpu, insn);
}

/* ---- Debug registers ---- */

#define DR6_KEPT  UINT64_C(0xe00f)     /* B0-B3, BD, BS, BT */
#define DR6_FIXED UINT64_C(0xffff0ff0) /* also bits that tell nothing here: no RTM, no bus lock */
#define DR7_KEPT  UINT64_C(0xffff2bff)
#define DR7_FIXED UINT64_C(0x400)

enum {
	DR6_BD = 1 << 13,
	DR7_GD = 1 << 13,
	DR7_ENABLES = 0xff,
};

/* *reg: 4 and 5 are other names of 6 and 7, if at all. Return: false with the fault noted. */
static bool dr_access(struct hk_cpu *cpu, unsigned *reg)
{
	if (*reg > 7 || ((*reg == 4 || *reg == 5) && (cpu->cr4 & HK_CR4_DE) != 0)) {
		return hk_fault(cpu, HK_VECTOR_UD);
	}
	if (*reg == 4 || *reg == 5) {
		*reg += 2;
	}
	if (!hk_privileged(cpu)) {
		return false;
	}
	if ((cpu->dr7 & DR7_GD) != 0) {
		hk_fault(cpu, HK_VECTOR_DB);
		cpu->event.dr6 = DR6_BD;
		return false;
	}
	return true;
}

HK_EXEC(mov_from_dr)
{
	unsigned reg = insn->reg;

	if (!dr_access(cpu, &reg)) {
		return hk_give_up(cpu, insn);
	}

	uint64_t value = reg == 7 ? cpu->dr7 : reg == 6 ? cpu->dr6 : cpu->dr[reg];

	hk_reg_set(cpu, insn->base, move_size(cpu), value);
	return HK_NEXT(cpu, insn);
}

HK_EXEC(mov_to_dr)
{
	unsigned reg = insn->reg;
	uint64_t value = hk_reg_get(cpu, insn->base, move_size(cpu));

	if (!dr_access(cpu, &reg)) {
		return hk_give_up(cpu, insn);
	}
	if (reg < 4) {
		cpu->dr[reg] = value;
		if ((cpu->dr7 & DR7_ENABLES) != 0) {
			hk_tlb_flush(cpu, true); /* watched pages must not be in it */
		}
		return hk_leave(cpu, insn);
	}
	if (value > UINT32_MAX) {
		return hk_raise_code(cpu, insn, HK_VECTOR_GP, 0);
	}
	if (reg == 6) {
		cpu->dr6 = (value & DR6_KEPT) | DR6_FIXED;
	} else {
		cpu->dr7 = (value & DR7_KEPT) | DR7_FIXED;
	}
	return hk_leave(cpu, insn);
}
