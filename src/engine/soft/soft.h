/* SPDX-License-Identifier: ISC */
/*
 * Private to the soft engine: what stands around the CPU core of run.h.
 *
 * Threads: each vCPU's own, in hk_vcpu_run(); one more for the timers of CPUs that are running
 * (timer.c); devices' threads come in through hk_engine_irq() and hk_engine_written().
 *
 * Locks, none taken while another is held:
 *	chip_lock	APICs, IOAPIC, timers, and what wakes a halted CPU
 *	rest_lock	who runs guest code, and what running CPUs are asked to do (rest.c)
 *	bell_lock	doorbells
 * The client (the machine's devices) is called with none of them.
 */
#ifndef HK_ENGINE_SOFT_SOFT_H
#define HK_ENGINE_SOFT_SOFT_H

#include <pthread.h>
#include <stdatomic.h>

#include "base/util.h"
#include "engine/engine_impl.h"
#include "engine/soft/apic/ioapic.h"
#include "engine/soft/apic/lapic.h"
#include "engine/soft/apic/pvclock.h"
#include "engine/soft/cpu.h"
#include "engine/soft/mmu.h"

struct hk_soft;

enum {
	HK_SOFT_MAX_DROPS = 64, /* beyond these a CPU drops all its decoded code */
	HK_SOFT_MAX_BELLS = 320,
};

/* A CPU's requests to start anew; bits of hk_soft_vcpu.startup. */
enum {
	HK_SOFT_INIT = 1 << 8,
	HK_SOFT_SIPI = 1 << 9, /* the vector is in bits 0 to 7 */
};

/** struct hk_soft_drop - bytes from which decoded code is to be forgotten */
struct hk_soft_drop {
	hk_gpa gpa;
	uint64_t len;
};

/**
 * struct hk_soft_vcpu - one vCPU
 * @kicked: hk_vcpu_kick() was called
 */
struct hk_soft_vcpu {
	struct hk_vcpu base;
	struct hk_soft *soft;
	struct hk_cpu cpu;
	struct hk_cpuid cpuid;
	atomic_bool kicked;

	/* The vCPU's thread alone. */
	uint64_t tsc_adjust;
	uint64_t system_time; /* MSR, and the page it names */
	uint8_t random[256];
	unsigned random_left;

	/* chip_lock; but what only its own thread changes it may read without */
	struct hk_lapic lapic;
	uint64_t tsc_delta; /* of its TSC to the engine's; changed by its own thread */
	uint64_t timer_ns;  /* when the APIC's timer is due, UINT64_MAX: never */
	bool attached;      /* is in hk_vcpu_run(): else its timer does not fire */
	bool idle;          /* waits for `wake`, and looks after its timer itself */
	pthread_cond_t wake;
	uint32_t startup;  /* HK_SOFT_INIT, HK_SOFT_SIPI */
	bool unhalted;     /* another CPU woke it by hypercall */
	int injected;      /* interrupt that was taken before the state was saved, or -1 */
	bool nmi_injected; /* the same of an NMI; good until the vCPU runs */
	uint64_t pv_eoi;   /* MSR */
	uint8_t *pv_eoi_byte;
	bool pv_eoi_set; /* the byte was set; the guest may have cleared it instead of an EOI */

	/* rest_lock */
	bool running; /* guest code; else others may touch its TLB */
	uint32_t protect_from;
	hk_gpa protect[HK_MAX_VCPUS]; /* page that CPU n wants protected, where bit n is set */
	unsigned protect_waits;       /* for so many others */
	struct hk_soft_drop drops[HK_SOFT_MAX_DROPS];
	unsigned drop_count;
	bool drop_all;
};

struct hk_soft_bell {
	hk_gpa gpa;
	uint32_t value;
	int fd; /* borrowed */
};

struct hk_soft {
	struct hk_engine base;
	struct hk_soft_mem mem;
	unsigned vcpu_count; /* created so far */
	struct hk_soft_vcpu *vcpus[HK_MAX_VCPUS];
	struct hk_lapic *lapics[HK_MAX_VCPUS]; /* the vCPUs' */

	/* Written while no vCPU runs. */
	struct hk_pvclock clock;
	bool tsc_is_set;             /* since the clock was */
	_Atomic uint64_t wall_clock; /* MSR */

	pthread_mutex_t chip_lock;
	struct hk_ioapic ioapic;
	unsigned turn; /* of lowest-priority messages */
	pthread_t timer_thread;
	bool timer_started;
	bool timer_ends;
	pthread_cond_t timer_changed;
	uint64_t timer_until; /* when the thread looks next */

	pthread_mutex_t rest_lock;
	pthread_cond_t rest_changed;
	int exclusive; /* the vCPU that runs alone, or -1 */

	pthread_mutex_t bell_lock;
	struct hk_soft_bell bells[HK_SOFT_MAX_BELLS];
	unsigned bell_count;
};

struct hk_soft *hk_soft_of(struct hk_engine *engine);
struct hk_soft_vcpu *hk_soft_vcpu_of(struct hk_vcpu *vcpu);

static inline struct hk_soft_vcpu *hk_soft_vcpu_of_cpu(struct hk_cpu *cpu)
{
	return hk_container_of(cpu, struct hk_soft_vcpu, cpu);
}

/* vcpu.c */
int hk_soft_vcpu_create(
	struct hk_soft *soft, unsigned index, const struct hk_cpuid *host, struct hk_err *err);
void hk_soft_vcpu_destroy(struct hk_soft_vcpu *vcpu); /* NULL is fine */
enum hk_run hk_soft_run(struct hk_vcpu *vcpu, struct hk_err *err);
void hk_soft_kick(struct hk_vcpu *vcpu);
/** hk_soft_start_anew() - take in INIT and SIPI; the vCPU does not run */
void hk_soft_start_anew(struct hk_soft_vcpu *vcpu);
int hk_soft_doorbell(struct hk_engine *engine, hk_gpa gpa, uint32_t value, int event_fd, bool add);

/* chip.c: interrupt controllers. The `_locked` ones want chip_lock. */
int hk_soft_irq(struct hk_engine *engine, unsigned gsi, bool level);
/** hk_soft_attend_locked() - bits of HK_ATT_; wakes the CPU if it is halted */
void hk_soft_attend_locked(struct hk_soft_vcpu *vcpu, uint32_t bits);
/** hk_soft_service_locked() - IOAPIC pins whose messages are due */
void hk_soft_service_locked(struct hk_soft *soft, uint32_t pins);
/** hk_soft_irq_check_locked() - after a change of the APIC: may there be an interrupt to take? */
void hk_soft_irq_check_locked(struct hk_soft_vcpu *vcpu);
/** hk_soft_pv_eoi_sync_locked() - see whether the guest has ended an interrupt in memory */
void hk_soft_pv_eoi_sync_locked(struct hk_soft_vcpu *vcpu);
bool hk_soft_set_pv_eoi(struct hk_soft_vcpu *vcpu, uint64_t value);
/** hk_soft_chip_mmio() - Return: was it an access to an APIC? */
bool hk_soft_chip_mmio(struct hk_soft_vcpu *vcpu, hk_gpa gpa, void *data, unsigned len, bool write);
bool hk_soft_apic_rdmsr(struct hk_soft_vcpu *vcpu, uint32_t index, uint64_t *ret_value);
bool hk_soft_apic_wrmsr(struct hk_soft_vcpu *vcpu, uint32_t index, uint64_t value);
uint8_t hk_soft_get_cr8(struct hk_cpu *cpu);
void hk_soft_set_cr8(struct hk_cpu *cpu, uint8_t value);
int hk_soft_interrupt(struct hk_cpu *cpu);

/* timer.c */
int hk_soft_timer_start(struct hk_soft *soft, struct hk_err *err);
void hk_soft_timer_stop(struct hk_soft *soft);
/** hk_soft_timer_attach() - from now on the timer fires, or it does not: then it waits, as all else
 * of the vCPU's state does */
void hk_soft_timer_attach(struct hk_soft_vcpu *vcpu, bool attached);
/** hk_soft_timer_update_locked() - the APIC's timer was set, or the TSC moved */
void hk_soft_timer_update_locked(struct hk_soft_vcpu *vcpu);
/** hk_soft_idle() - wait until the halted CPU has something to do */
void hk_soft_idle(struct hk_soft_vcpu *vcpu);

/* clock.c */
uint64_t hk_soft_host_ns(void); /* CLOCK_MONOTONIC */
struct hk_lapic_time hk_soft_now(const struct hk_soft_vcpu *vcpu);
uint64_t hk_soft_tsc(struct hk_cpu *cpu);
/**
 * hk_soft_msr_read() / hk_soft_msr_write() - the MSRs that are no part of the CPU core. @restore:
 * as state, without what a guest's write causes. Return: false: none of ours, or a bad value.
 */
bool hk_soft_msr_read(struct hk_soft_vcpu *vcpu, uint32_t index, uint64_t *ret_value);
bool hk_soft_msr_write(struct hk_soft_vcpu *vcpu, uint32_t index, uint64_t value, bool restore);
int hk_soft_get_clock(struct hk_engine *engine, struct hk_clock_state *state, struct hk_err *err);
int hk_soft_set_clock(
	struct hk_engine *engine, const struct hk_clock_state *state, struct hk_err *err);

/* rest.c */
/**
 * hk_soft_begin() / hk_soft_end() - around hk_cpu_run(). Begin waits while another CPU runs alone.
 */
void hk_soft_begin(struct hk_soft_vcpu *vcpu);
void hk_soft_end(struct hk_soft_vcpu *vcpu);
void hk_soft_yield(struct hk_cpu *cpu);
void hk_soft_work(struct hk_cpu *cpu);
void hk_soft_exclusive_begin(struct hk_cpu *cpu);
void hk_soft_exclusive_end(struct hk_cpu *cpu);
void hk_soft_protect_page(struct hk_cpu *cpu, hk_gpa page, uint32_t cpu_mask);
void hk_soft_drop_code(struct hk_cpu *cpu, hk_gpa gpa, unsigned len, uint32_t cpu_mask);
/** hk_soft_written() - somebody other than a CPU wrote guest memory. Any thread. */
void hk_soft_written(struct hk_engine *engine, hk_gpa gpa, uint64_t len);
/** hk_soft_store() - write guest memory on the guest's behalf. Return: 0 or -EFAULT. */
int hk_soft_store(struct hk_soft *soft, hk_gpa gpa, const void *bytes, uint64_t len);

/* state.c */
int hk_soft_get_state(struct hk_vcpu *vcpu, struct hk_vcpu_state *state, struct hk_err *err);
int hk_soft_set_state(struct hk_vcpu *vcpu, const struct hk_vcpu_state *state, struct hk_err *err);
int hk_soft_get_irqchip(
	struct hk_engine *engine, struct hk_irqchip_state *state, struct hk_err *err);
int hk_soft_set_irqchip(
	struct hk_engine *engine, const struct hk_irqchip_state *state, struct hk_err *err);

#endif
