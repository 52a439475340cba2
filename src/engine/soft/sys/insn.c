/* SPDX-License-Identifier: ISC */
/*
 * The other system instructions: identification, counters, MSRs, ports, interrupts and halts, bases
 * of FS and GS.
 *
 * Source: Intel SDM vol. 2; vol. 3, 19.5.2 (I/O bitmap); Linux Documentation/virt/kvm/x86/
 * hypercalls.rst.
 */
#include "engine/soft/exec/handlers.h"
#include "engine/soft/operand.h"
#include "engine/soft/sys/segment.h"

enum { LEAF_BASIC = 1, LEAF_TOPOLOGY = 0xb, LEAF_XSAVE = 0xd, ECX_OSXSAVE = 1 << 27 };

/* ---- CPUID ---- */

/* The last leaf of the range that @function is in. 0: there is no such range. */
static uint32_t last_leaf(const struct hk_cpu *cpu, uint32_t function)
{
	uint32_t first = function & 0x80000000u;

	if (function >= 0x40000000 && function < 0x50000000) {
		first = function & 0xffffff00u;
	}

	const struct hk_cpuid_leaf *leaf = hk_cpuid_find(cpu->cpuid, first, 0);

	return leaf != NULL ? leaf->eax : 0;
}

/* A leaf beyond the last of its range answers as the highest basic one (Intel). */
static struct hk_cpuid_leaf cpuid(const struct hk_cpu *cpu, uint32_t function, uint32_t index)
{
	const struct hk_cpuid_leaf *leaf = hk_cpuid_find(cpu->cpuid, function, index);
	struct hk_cpuid_leaf answer = {0};

	if (leaf == NULL && function > last_leaf(cpu, function)) {
		function = last_leaf(cpu, 0);
		leaf = hk_cpuid_find(cpu->cpuid, function, index);
	}
	if (leaf != NULL) {
		answer = *leaf;
	} else if (function == LEAF_TOPOLOGY) {
		/* Levels that are not there still tell level and APIC id. */
		leaf = hk_cpuid_find(cpu->cpuid, function, 0);
		answer.ecx = index & 0xff;
		answer.edx = leaf != NULL ? leaf->edx : 0;
	}
	if (function == LEAF_BASIC && (cpu->cr4 & HK_CR4_OSXSAVE) != 0) {
		answer.ecx |= ECX_OSXSAVE;
	}
	return answer;
}

HK_EXEC(cpuid)
{
	struct hk_cpuid_leaf leaf =
		cpuid(cpu, (uint32_t)cpu->gpr[HK_RAX], (uint32_t)cpu->gpr[HK_RCX]);

	cpu->gpr[HK_RAX] = leaf.eax;
	cpu->gpr[HK_RBX] = leaf.ebx;
	cpu->gpr[HK_RCX] = leaf.ecx;
	cpu->gpr[HK_RDX] = leaf.edx;
	/* It serializes: what other CPUs did to the code counts from here on. */
	return hk_leave(cpu, insn);
}

/* ---- Counters, MSRs, XCR0 ---- */

static void set_edx_eax(struct hk_cpu *cpu, uint64_t value)
{
	cpu->gpr[HK_RAX] = (uint32_t)value;
	cpu->gpr[HK_RDX] = value >> 32;
}

static uint64_t get_edx_eax(const struct hk_cpu *cpu)
{
	return (uint32_t)cpu->gpr[HK_RAX] | cpu->gpr[HK_RDX] << 32;
}

static bool tsc_ok(struct hk_cpu *cpu)
{
	return cpu->cpl == 0 || (cpu->cr4 & HK_CR4_TSD) == 0 || hk_fault_code(cpu, HK_VECTOR_GP, 0);
}

HK_EXEC(rdtsc)
{
	if (!tsc_ok(cpu)) {
		return hk_give_up(cpu, insn);
	}
	set_edx_eax(cpu, cpu->bus->tsc(cpu));
	return HK_NEXT(cpu, insn);
}

HK_EXEC(rdtscp)
{
	if (!tsc_ok(cpu)) {
		return hk_give_up(cpu, insn);
	}
	set_edx_eax(cpu, cpu->bus->tsc(cpu));
	cpu->gpr[HK_RCX] = (uint32_t)cpu->tsc_aux;
	return HK_NEXT(cpu, insn);
}

/* There are no performance counters. */
HK_EXEC(rdpmc)
{
	return hk_raise_code(cpu, insn, HK_VECTOR_GP, 0);
}

HK_EXEC(rdmsr)
{
	uint64_t value;

	if (!hk_privileged(cpu)) {
		return hk_give_up(cpu, insn);
	}
	if (!hk_cpu_msr_read(cpu, (uint32_t)cpu->gpr[HK_RCX], &value)) {
		return hk_raise_code(cpu, insn, HK_VECTOR_GP, 0);
	}
	set_edx_eax(cpu, value);
	return HK_NEXT(cpu, insn);
}

HK_EXEC(wrmsr)
{
	if (!hk_privileged(cpu)) {
		return hk_give_up(cpu, insn);
	}
	if (!hk_cpu_msr_write(cpu, (uint32_t)cpu->gpr[HK_RCX], get_edx_eax(cpu))) {
		return hk_raise_code(cpu, insn, HK_VECTOR_GP, 0);
	}
	return hk_leave(cpu, insn);
}

HK_EXEC(xgetbv)
{
	if ((cpu->cr4 & HK_CR4_OSXSAVE) == 0) {
		return hk_raise(cpu, insn, HK_VECTOR_UD);
	}
	if ((uint32_t)cpu->gpr[HK_RCX] != 0) {
		return hk_raise_code(cpu, insn, HK_VECTOR_GP, 0);
	}
	set_edx_eax(cpu, cpu->xcr0);
	return HK_NEXT(cpu, insn);
}

HK_EXEC(xsetbv)
{
	enum { X87 = 1 };

	const struct hk_cpuid_leaf *leaf = hk_cpuid_find(cpu->cpuid, LEAF_XSAVE, 0);
	uint64_t known = leaf != NULL ? leaf->eax | (uint64_t)leaf->edx << 32 : X87;
	uint64_t value = get_edx_eax(cpu);

	if ((cpu->cr4 & HK_CR4_OSXSAVE) == 0) {
		return hk_raise(cpu, insn, HK_VECTOR_UD);
	}
	if (cpu->cpl != 0 || (uint32_t)cpu->gpr[HK_RCX] != 0 || (value & X87) == 0 ||
		(value & ~known) != 0) {
		return hk_raise_code(cpu, insn, HK_VECTOR_GP, 0);
	}
	cpu->xcr0 = value;
	return hk_leave(cpu, insn);
}

/* ---- Bases of FS and GS ---- */

static void set_base(struct hk_cpu *cpu, enum hk_seg seg, uint64_t base)
{
	cpu->seg[seg].base = base;
	cpu->seg_base[seg] = base;
}

HK_EXEC(swapgs)
{
	uint64_t base = cpu->kernel_gs_base;

	if (!hk_privileged(cpu)) {
		return hk_give_up(cpu, insn);
	}
	cpu->kernel_gs_base = cpu->seg[HK_GS].base;
	set_base(cpu, HK_GS, base);
	return HK_NEXT(cpu, insn);
}

static const struct hk_insn *read_base(
	struct hk_cpu *cpu, const struct hk_insn *insn, enum hk_seg seg)
{
	if ((cpu->cr4 & HK_CR4_FSGSBASE) == 0) {
		return hk_raise(cpu, insn, HK_VECTOR_UD);
	}
	hk_reg_set(cpu, insn->base, hk_insn_size(insn), cpu->seg[seg].base);
	return HK_NEXT(cpu, insn);
}

static const struct hk_insn *write_base(
	struct hk_cpu *cpu, const struct hk_insn *insn, enum hk_seg seg)
{
	uint64_t base = hk_reg_get(cpu, insn->base, hk_insn_size(insn));

	if ((cpu->cr4 & HK_CR4_FSGSBASE) == 0) {
		return hk_raise(cpu, insn, HK_VECTOR_UD);
	}
	if (!hk_canonical(base)) {
		return hk_raise_code(cpu, insn, HK_VECTOR_GP, 0);
	}
	set_base(cpu, seg, base);
	return HK_NEXT(cpu, insn);
}

HK_EXEC(rdfsbase)
{
	return read_base(cpu, insn, HK_FS);
}

HK_EXEC(rdgsbase)
{
	return read_base(cpu, insn, HK_GS);
}

HK_EXEC(wrfsbase)
{
	return write_base(cpu, insn, HK_FS);
}

HK_EXEC(wrgsbase)
{
	return write_base(cpu, insn, HK_GS);
}

/* ---- Interrupts ---- */

static bool iopl_ok(const struct hk_cpu *cpu)
{
	return cpu->cpl <= (cpu->rflags & HK_FLAG_IOPL) >> 12;
}

HK_EXEC(cli)
{
	if (!iopl_ok(cpu)) {
		return hk_raise_code(cpu, insn, HK_VECTOR_GP, 0);
	}
	cpu->rflags &= ~(uint32_t)HK_FLAG_IF;
	return HK_NEXT(cpu, insn);
}

HK_EXEC(sti)
{
	if (!iopl_ok(cpu)) {
		return hk_raise_code(cpu, insn, HK_VECTOR_GP, 0);
	}
	if ((cpu->rflags & HK_FLAG_IF) == 0) {
		cpu->rflags |= HK_FLAG_IF;
		cpu->shadow |= HK_SHADOW_STI;
	}
	return hk_leave(cpu, insn);
}

HK_EXEC(hlt)
{
	if (!hk_privileged(cpu)) {
		return hk_give_up(cpu, insn);
	}
	cpu->activity = HK_CPU_HALTED;
	return hk_leave(cpu, insn);
}

HK_EXEC(int)
{
	return hk_raise_soft(cpu, insn, (uint8_t)insn->imm);
}

HK_EXEC(int3)
{
	return hk_raise_soft(cpu, insn, HK_VECTOR_BP);
}

/* A debug exception like one of hardware: no look at the gate's DPL, and DR6 does not tell. */
HK_EXEC(int1)
{
	hk_fault(cpu, HK_VECTOR_DB);
	return hk_leave(cpu, insn);
}

HK_EXEC(ud)
{
	return hk_raise(cpu, insn, HK_VECTOR_UD);
}

/* ---- Ports ---- */

bool hk_io_allowed(struct hk_cpu *cpu, uint16_t port, unsigned len)
{
	enum { BITMAP_OFFSET = 0x66 }; /* field of the TSS */

	const struct hk_segment *tr = &cpu->seg[HK_TR];
	uint16_t bitmap;
	uint16_t bits;

	if (iopl_ok(cpu)) {
		return true;
	}
	if (tr->unusable || (tr->attr & HK_TYPE_WIDE) == 0 || tr->limit < BITMAP_OFFSET + 1) {
		return hk_fault_code(cpu, HK_VECTOR_GP, 0);
	}
	if (!hk_sys_load(cpu, tr->base + BITMAP_OFFSET, &bitmap, 2)) {
		return false;
	}

	/* Always two bytes, for ports that straddle them. */
	uint32_t offset = bitmap + port / 8u;

	if (offset + 1 > tr->limit) {
		return hk_fault_code(cpu, HK_VECTOR_GP, 0);
	}
	if (!hk_sys_load(cpu, tr->base + offset, &bits, 2)) {
		return false;
	}
	if ((bits >> (port & 7) & ((1u << len) - 1)) != 0) {
		return hk_fault_code(cpu, HK_VECTOR_GP, 0);
	}
	return true;
}

static uint16_t port_of(const struct hk_cpu *cpu, const struct hk_insn *insn)
{
	bool dx = (hk_isa[insn->row].flags & HK_ROW_DX) != 0;

	return dx ? (uint16_t)cpu->gpr[HK_RDX] : (uint8_t)insn->imm;
}

/* Bytes of AL, AX, EAX */
static unsigned port_size(const struct hk_insn *insn)
{
	unsigned size = hk_insn_size(insn);

	return size > 2 ? 2 : size;
}

HK_EXEC(in)
{
	unsigned size = port_size(insn);
	uint16_t port = port_of(cpu, insn);
	uint32_t value = 0;

	if (!hk_io_allowed(cpu, port, 1u << size)) {
		return hk_give_up(cpu, insn);
	}
	cpu->bus->port(cpu, port, &value, 1u << size, false);
	hk_reg_set(cpu, HK_RAX, size, value);
	return HK_NEXT(cpu, insn);
}

HK_EXEC(out)
{
	unsigned size = port_size(insn);
	uint16_t port = port_of(cpu, insn);
	uint32_t value = (uint32_t)cpu->gpr[HK_RAX];

	if (!hk_io_allowed(cpu, port, 1u << size)) {
		return hk_give_up(cpu, insn);
	}
	cpu->bus->port(cpu, port, &value, 1u << size, true);
	/* The device may want something of this CPU at once: a reset, a stop. */
	return hk_leave(cpu, insn);
}

/* ---- The rest ---- */

HK_EXEC(vmcall)
{
	enum { EPERM_OF_KVM = 1 };

	if (cpu->cpl == 0) {
		cpu->bus->hypercall(cpu);
	} else {
		uint64_t result = 0 - (uint64_t)EPERM_OF_KVM;

		cpu->gpr[HK_RAX] = cpu->mode == HK_CODE_64 ? result : (uint32_t)result;
	}
	return hk_leave(cpu, insn);
}

/* Caches are not modelled: there is nothing to write back or to forget. */
HK_EXEC(invd)
{
	return hk_privileged(cpu) ? HK_NEXT(cpu, insn) : hk_give_up(cpu, insn);
}

HK_EXEC(wbinvd)
{
	return hk_privileged(cpu) ? HK_NEXT(cpu, insn) : hk_give_up(cpu, insn);
}

static const struct hk_insn *set_ac(struct hk_cpu *cpu, const struct hk_insn *insn, bool ac)
{
	if (cpu->cpl != 0) {
		return hk_raise(cpu, insn, HK_VECTOR_UD);
	}
	cpu->rflags = (cpu->rflags & ~(uint32_t)HK_FLAG_AC) | (ac ? HK_FLAG_AC : 0);
	hk_kind_changed(cpu);
	return hk_leave(cpu, insn);
}

HK_EXEC(stac)
{
	return set_ac(cpu, insn, true);
}

HK_EXEC(clac)
{
	return set_ac(cpu, insn, false);
}
