/* SPDX-License-Identifier: ISC */
/*
 * The state of one software CPU: all that an instruction can read or change but memory.
 *
 * One plain struct, hot fields first, so that translated code can reach them by offset. It is
 * owned by the thread that runs the vCPU; only the fields marked atomic are touched by others.
 *
 * What is not in the CPU comes through struct hk_cpu_bus: ports, MMIO, time, interrupts.
 * So this directory's core has no threads, no clock and no system call, and runs as it is
 * under Linux, in tests and in WebAssembly.
 */
#ifndef HK_ENGINE_SOFT_CPU_H
#define HK_ENGINE_SOFT_CPU_H

#include <stdalign.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "engine/cpuid.h"
#include "engine/mem.h"
#include "engine/soft/insn.h"
#include "engine/vcpu_state.h"

struct hk_code_cache;
struct hk_soft_mem;

/* RFLAGS. Source: Intel SDM vol. 1, 3.4.3. */
enum {
	HK_FLAG_CF = 1 << 0,
	HK_FLAG_FIXED = 1 << 1, /* always 1 */
	HK_FLAG_PF = 1 << 2,
	HK_FLAG_AF = 1 << 4,
	HK_FLAG_ZF = 1 << 6,
	HK_FLAG_SF = 1 << 7,
	HK_FLAG_TF = 1 << 8,
	HK_FLAG_IF = 1 << 9,
	HK_FLAG_DF = 1 << 10,
	HK_FLAG_OF = 1 << 11,
	HK_FLAG_IOPL = 3 << 12,
	HK_FLAG_NT = 1 << 14,
	HK_FLAG_RF = 1 << 16,
	HK_FLAG_VM = 1 << 17,
	HK_FLAG_AC = 1 << 18,
	HK_FLAG_VIF = 1 << 19,
	HK_FLAG_VIP = 1 << 20,
	HK_FLAG_ID = 1 << 21,
	HK_FLAGS_ARITH =
		HK_FLAG_CF | HK_FLAG_PF | HK_FLAG_AF | HK_FLAG_ZF | HK_FLAG_SF | HK_FLAG_OF,
};

/* Control registers. Source: Intel SDM vol. 3, 2.5. */
#define HK_CR0_PE         (UINT64_C(1) << 0)
#define HK_CR0_MP         (UINT64_C(1) << 1)
#define HK_CR0_EM         (UINT64_C(1) << 2)
#define HK_CR0_TS         (UINT64_C(1) << 3)
#define HK_CR0_ET         (UINT64_C(1) << 4)
#define HK_CR0_NE         (UINT64_C(1) << 5)
#define HK_CR0_WP         (UINT64_C(1) << 16)
#define HK_CR0_AM         (UINT64_C(1) << 18)
#define HK_CR0_NW         (UINT64_C(1) << 29)
#define HK_CR0_CD         (UINT64_C(1) << 30)
#define HK_CR0_PG         (UINT64_C(1) << 31)
#define HK_CR4_VME        (UINT64_C(1) << 0)
#define HK_CR4_PVI        (UINT64_C(1) << 1)
#define HK_CR4_TSD        (UINT64_C(1) << 2)
#define HK_CR4_DE         (UINT64_C(1) << 3)
#define HK_CR4_PSE        (UINT64_C(1) << 4)
#define HK_CR4_PAE        (UINT64_C(1) << 5)
#define HK_CR4_MCE        (UINT64_C(1) << 6)
#define HK_CR4_PGE        (UINT64_C(1) << 7)
#define HK_CR4_PCE        (UINT64_C(1) << 8)
#define HK_CR4_OSFXSR     (UINT64_C(1) << 9)
#define HK_CR4_OSXMMEXCPT (UINT64_C(1) << 10)
#define HK_CR4_UMIP       (UINT64_C(1) << 11)
#define HK_CR4_FSGSBASE   (UINT64_C(1) << 16)
#define HK_CR4_PCIDE      (UINT64_C(1) << 17)
#define HK_CR4_OSXSAVE    (UINT64_C(1) << 18)
#define HK_CR4_SMEP       (UINT64_C(1) << 20)
#define HK_CR4_SMAP       (UINT64_C(1) << 21)
#define HK_EFER_SCE       (UINT64_C(1) << 0)
#define HK_EFER_LME       (UINT64_C(1) << 8)
#define HK_EFER_LMA       (UINT64_C(1) << 10)
#define HK_EFER_NXE       (UINT64_C(1) << 11)

/* Exception vectors. Source: Intel SDM vol. 3, 6.3.1. */
enum hk_vector {
	HK_VECTOR_DE = 0,
	HK_VECTOR_DB = 1,
	HK_VECTOR_NMI = 2,
	HK_VECTOR_BP = 3,
	HK_VECTOR_OF = 4,
	HK_VECTOR_BR = 5,
	HK_VECTOR_UD = 6,
	HK_VECTOR_NM = 7,
	HK_VECTOR_DF = 8,
	HK_VECTOR_TS = 10,
	HK_VECTOR_NP = 11,
	HK_VECTOR_SS = 12,
	HK_VECTOR_GP = 13,
	HK_VECTOR_PF = 14,
	HK_VECTOR_MF = 16,
	HK_VECTOR_AC = 17,
	HK_VECTOR_XM = 19,
};

/* Why the CPU must look up from running code; bits of hk_cpu.attention. */
enum {
	HK_ATT_IRQ = 1 << 0, /* bus->interrupt may have a vector */
	HK_ATT_NMI = 1 << 1,
	HK_ATT_KICK = 1 << 2,    /* return to the caller of hk_cpu_run() */
	HK_ATT_WORK = 1 << 3,    /* call bus->work: other CPUs want something of this one */
	HK_ATT_STEP = 1 << 4,    /* set by the run loop while it runs one instruction */
	HK_ATT_RECLAIM = 1 << 5, /* hk_code_reclaim() has something to do */
};

/** struct hk_tlb_entry - one translation; see mmu.h */
struct hk_tlb_entry {
	uint64_t read;    /* linear page address, or HK_TLB_NONE */
	uint64_t write;   /* the same, where stores need no further look */
	uintptr_t addend; /* host address minus linear address */
	hk_gpa page; /* guest physical page address; bits 0-11: log2 of a large page's size, or 0 */
};

/** struct hk_span - what of an access falls into one page */
struct hk_span {
	uint8_t *host; /* of the first byte, or NULL: not RAM */
	hk_gpa gpa;
	unsigned len;
	bool code; /* somebody decoded code from the page */
};

/**
 * struct hk_held - what the last hk_probe() for writing found
 *
 * So that the stores after it cannot fail, even if another CPU changes the page tables meanwhile.
 * It is good for as long as an entry of the TLB is.
 */
struct hk_held {
	uint64_t va;
	unsigned len; /* 0: nothing is held */
	uint8_t kind; /* enum hk_tlb_kind */
	struct hk_span spans[2];
};

/*
 * No interrupt before the next instruction, after MOV SS no debug exception either; SYSCALL: its
 * new TF decides on a trap. The first two bits are struct hk_vcpu_state's.
 */
enum hk_shadow {
	HK_SHADOW_STI = 1 << 0,
	HK_SHADOW_MOV_SS = 1 << 1,
	HK_SHADOW_SYSCALL = 1 << 2,
};

/** struct hk_range - linear addresses from @first to @last; none where first is beyond last */
struct hk_range {
	uint64_t first, last;
};

enum { HK_TLB_BITS = 10, HK_TLB_ENTRIES = 1 << HK_TLB_BITS, HK_TLB_LOG_SLOTS = 256 };
#define HK_TLB_NONE UINT64_MAX

/* Which accesses a TLB serves: they differ in what page tables allow. */
enum hk_tlb_kind {
	HK_TLB_KERNEL,    /* CPL 0 to 2 */
	HK_TLB_USER,      /* CPL 3 */
	HK_TLB_KERNEL_AC, /* CPL 0 to 2 with EFLAGS.AC, where SMAP is on */
	HK_TLB_USER_AC, /* CPL 3 with EFLAGS.AC and CR0.AM: stays empty, so that all alignment is looked at */
	HK_TLB_KIND_COUNT,
};

/* Code pages by linear page: what the fetch of a jump's target looks up. */
struct hk_fetch_entry {
	uint64_t page; /* linear page address, or HK_TLB_NONE */
	struct hk_code_page *code;
};

enum { HK_FETCH_BITS = 9, HK_FETCH_ENTRIES = 1 << HK_FETCH_BITS };

/** union hk_xmm - an SSE register; elements from the low end */
union hk_xmm {
	alignas(16) uint8_t u8[16];
	uint16_t u16[8];
	uint32_t u32[4];
	uint64_t u64[2];
	int8_t s8[16];
	int16_t s16[8];
	int32_t s32[4];
	int64_t s64[2];
};

/** struct hk_f80 - an x87 register: explicit-integer-bit significand, sign and exponent */
struct hk_f80 {
	uint64_t frac;
	uint16_t sign_exp;
};

/**
 * struct hk_x87 - the x87 unit; its registers' significands are the MMX registers
 * @r: physical registers; ST(i) is r[(top + i) & 7] with top in bits 11-13 of @fsw
 * @tag_empty: bit n set: physical register n is empty
 */
struct hk_x87 {
	struct hk_f80 r[8];
	uint16_t fcw;
	uint16_t fsw;
	uint8_t tag_empty;
	uint16_t fop;
	uint64_t fip, fdp;
	uint16_t fcs, fds;
};

/** struct hk_cpu_event - an exception on its way to the guest */
struct hk_cpu_event {
	bool pending;
	uint8_t vector;
	bool has_code;
	bool non_canonical; /* #GP that is #SS where the operand is in the stack segment */
	bool soft;          /* INT n, INT3, INTO: RIP is after the instruction, DPL is checked */
	uint8_t soft_len;   /* bytes of that instruction: faults of its delivery point at it */
	uint32_t code;
	uint64_t cr2; /* of a page fault */
	uint64_t dr6; /* bits to set, of a debug exception */
};

/**
 * struct hk_cpu_bus_ops - the world outside the CPU core
 *
 * Called on the vCPU's thread. All required.
 */
struct hk_cpu_bus_ops {
	/* 1, 2 or 4 bytes */
	void (*port)(struct hk_cpu *cpu, uint16_t port, void *data, unsigned len, bool write);
	/* 1 to 8 bytes outside RAM, local APIC and IOAPIC pages among them */
	void (*mmio)(struct hk_cpu *cpu, hk_gpa gpa, void *data, unsigned len, bool write);
	/* The guest's time stamp counter */
	uint64_t (*tsc)(struct hk_cpu *cpu);
	/* MSRs that are no part of the core: TSC, APIC, clock. false: there is none such, or a bad
	 * value */
	bool (*rdmsr)(struct hk_cpu *cpu, uint32_t index, uint64_t *ret_value);
	bool (*wrmsr)(struct hk_cpu *cpu, uint32_t index, uint64_t value);
	/* Task priority, bits 4-7 of the APIC's TPR */
	uint8_t (*get_cr8)(struct hk_cpu *cpu);
	void (*set_cr8)(struct hk_cpu *cpu, uint8_t value);
	/* The interrupt to take now, acknowledged; -1: none. The CPU has checked that it may. */
	int (*interrupt)(struct hk_cpu *cpu);
	void (*random)(struct hk_cpu *cpu, void *buf, size_t len_bytes);
	/* A hypercall (VMCALL): number in RAX, arguments in RBX, RCX, RDX, RSI; result to RAX. */
	void (*hypercall)(struct hk_cpu *cpu);
	/* The guest spins, that is it waits for another CPU: the host's may be of use to that. */
	void (*yield)(struct hk_cpu *cpu);
	/* What others asked of this CPU (HK_ATT_WORK): TLB shoot-downs, code drops, a rest. */
	void (*work)(struct hk_cpu *cpu);
	/* Between these no other CPU runs: for locked accesses that the host cannot make atomic. */
	void (*exclusive_begin)(struct hk_cpu *cpu);
	void (*exclusive_end)(struct hk_cpu *cpu);
	/*
	 * Make the CPUs of @cpu_mask forget that they may write to the page without a look; when
	 * this returns, none will.
	 */
	void (*protect_page)(struct hk_cpu *cpu, hk_gpa page, uint32_t cpu_mask);
	/*
	 * Make the CPUs of @cpu_mask drop code decoded from these bytes, before their next branch.
	 */
	void (*drop_code)(struct hk_cpu *cpu, hk_gpa gpa, unsigned len, uint32_t cpu_mask);
};

enum hk_cpu_activity { HK_CPU_RUNNING, HK_CPU_HALTED, HK_CPU_WAIT_SIPI };

struct hk_cpu {
	/* Registers that nearly every instruction touches. */
	uint64_t gpr[HK_REG_SLOTS]; /* enum hk_gpr, then HK_REG_ZERO and HK_REG_PAGE */
	/* Arithmetic flags, not yet worked out: flags.h */
	uint64_t cc_res;
	uint32_t cc_kind;
	uint32_t rflags; /* all other flags; the arithmetic ones read 0 here */
	uint64_t cc_src; /* apart from cc_res: compilers would join their stores, which is slower */
	_Atomic uint32_t attention;
	uint32_t code_gen; /* changes whenever links between pages of code may have become wrong */
	struct hk_tlb_entry *tlb; /* of the present kind, into tlbs */
	struct hk_fetch_entry *fetch;
	uint64_t seg_base
		[HK_SEG_COUNT]; /* as an address is made with: 0 for ES, CS, SS, DS in 64-bit */
	uint64_t rip;           /* good only outside running code; see hk_insn_rip() */
	uint8_t mode;           /* enum hk_code_mode */
	uint8_t cpl;
	uint8_t stack_size; /* log2 of bytes: 3 in 64-bit mode, else from SS.B */
	bool flat; /* outside 64-bit mode: ES, SS and DS are writable, base any, limit 4 GiB */
	uint8_t tlb_kind;
	uint8_t shadow; /* enum hk_shadow: what the instruction just run holds back */
	bool nmi_masked;
	uint8_t activity; /* enum hk_cpu_activity */

	union hk_xmm xmm[16];
	uint32_t mxcsr;
	struct hk_x87 x87;

	/* System registers */
	struct hk_segment seg[HK_SEG_COUNT];
	struct hk_table_reg gdt, idt;
	uint64_t cr0, cr2, cr3, cr4, efer;
	uint64_t dr[4], dr6, dr7;
	uint64_t xcr0;
	uint64_t star, lstar, cstar, syscall_mask;
	uint64_t kernel_gs_base;
	uint64_t sysenter_cs, sysenter_esp, sysenter_eip;
	uint64_t pat, misc_enable;
	uint64_t mtrr_def_type, mtrr_phys[16], mtrr_fixed[11];
	uint64_t mcg_status, mc0[4];
	uint64_t tsc_aux;

	struct hk_cpu_event event;
	bool failed;    /* triple fault: shut down */
	bool irq_waits; /* bus->interrupt may have one, but it was not the time for it */
	bool nmi_waits;
	uint8_t watch_hit; /* data breakpoints that the instruction hit */
	uint64_t dr7_seen; /* what the TLB was filled under */
	struct hk_held held;

	/* What surrounds it */
	const struct hk_cpu_bus_ops *bus; /* borrowed */
	struct hk_soft_mem *mem;          /* borrowed, shared by all CPUs of the machine */
	struct hk_code_cache *code;       /* owned */
	const struct hk_cpuid
		*cpuid; /* borrowed: what CPUID shows; features are checked against it */
	unsigned index;
	unsigned pauses;   /* PAUSE instructions, for bus->yield */
	uint32_t features; /* enum hk_soft_feature: optional instructions switched on */

	/* Non-global entries of each TLB since its last flush, to undo just those. */
	struct {
		uint16_t slot[HK_TLB_LOG_SLOTS];
		unsigned count; /* beyond the array: all of it is to be flushed */
	} tlb_log[HK_TLB_KIND_COUNT];
	/* code_gen is code_gens[tlb_kind]; the values are never used twice */
	uint32_t code_gens[HK_TLB_KIND_COUNT];
	uint32_t last_gen;
	bool local_fetches[HK_TLB_KIND_COUNT]; /* some entry is of a page that is not global */
	/*
	 * Where parts of large pages may be in tlbs, and in fetches: INVLPG is for all of such a
	 * page.
	 */
	struct hk_range large[HK_TLB_KIND_COUNT];
	struct hk_range large_fetches[HK_TLB_KIND_COUNT];
	/* Under what each kind's fetches were looked up: they know only linear addresses. */
	struct {
		uint64_t cs_base;
		uint8_t mode;
	} fetch_under[HK_TLB_KIND_COUNT];
	struct hk_fetch_entry fetches[HK_TLB_KIND_COUNT][HK_FETCH_ENTRIES];
	struct hk_tlb_entry tlbs[HK_TLB_KIND_COUNT][HK_TLB_ENTRIES];
};

static inline uint64_t hk_insn_rip(const struct hk_cpu *cpu, const struct hk_insn *insn)
{
	uint64_t rip = cpu->gpr[HK_REG_PAGE] + (uint64_t)(int64_t)insn->off;

	return cpu->mode == HK_CODE_64 ? rip : (uint32_t)rip;
}

/** hk_insn_next_rip() - RIP of the instruction after @insn */
static inline uint64_t hk_insn_next_rip(const struct hk_cpu *cpu, const struct hk_insn *insn)
{
	uint64_t rip = cpu->gpr[HK_REG_PAGE] + (uint64_t)(int64_t)(insn->off + insn->len);

	return cpu->mode == HK_CODE_64 ? rip : (uint32_t)rip;
}

/** hk_gpr8() - an 8-bit register operand; @reg is its byte's offset in gpr (little-endian hosts) */
static inline uint8_t *hk_gpr8(struct hk_cpu *cpu, unsigned reg)
{
	return (uint8_t *)cpu->gpr + reg;
}

/** hk_mmx() - MMX register @n: the significand of physical x87 register n */
static inline uint64_t *hk_mmx(struct hk_cpu *cpu, unsigned n)
{
	return &cpu->x87.r[n & 7].frac;
}

#endif
