/* SPDX-License-Identifier: ISC */
/*
 * TSC and paravirtual clock, and the MSRs of what stands around the CPU core.
 *
 * A vCPU's TSC is the engine's (apic/pvclock.h) plus a difference, which is 0 unless the guest
 * writes its TSC. State comes in one vCPU after the other, each with a TSC read a little later:
 * what is within a second of the engine's TSC is meant to be the same, as KVM takes it, too.
 */
#include <errno.h>
#include <string.h>
#include <time.h>

#include "base/timespec.h"
#include "base/util.h"
#include "engine/msr.h"
#include "engine/soft/soft.h"

enum { X2APIC_FIRST = 0x800, X2APIC_LAST = 0x8ff, SYSTEM_TIME_ENABLE = 1 };

uint64_t hk_soft_host_ns(void)
{
	struct timespec now;

	/* seccomp: clock_gettime */
	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)hk_timespec_ns(now);
}

uint64_t hk_soft_tsc(struct hk_cpu *cpu)
{
	const struct hk_soft_vcpu *vcpu = hk_soft_vcpu_of_cpu(cpu);

	return hk_pvclock_tsc(&vcpu->soft->clock, hk_soft_host_ns()) + vcpu->tsc_delta;
}

struct hk_lapic_time hk_soft_now(const struct hk_soft_vcpu *vcpu)
{
	const struct hk_pvclock *clock = &vcpu->soft->clock;
	uint64_t ns = hk_soft_host_ns();

	return (struct hk_lapic_time){
		.ns = ns,
		.tsc = hk_pvclock_tsc(clock, ns) + vcpu->tsc_delta,
		.tsc_khz = clock->tsc_khz,
	};
}

/*
 * Clock pages. The version is odd while the rest is written, and never the same twice. The fences
 * pair with the guest's read barriers.
 */

/* @page begins with its version, which is odd. */
static void write_page(struct hk_soft *soft, hk_gpa gpa, const void *page, size_t len)
{
	uint32_t version;

	memcpy(&version, page, sizeof(version));
	if (hk_soft_store(soft, gpa, &version, sizeof(version)) < 0) {
		return;
	}
	atomic_thread_fence(memory_order_seq_cst);
	if (hk_soft_store(soft, gpa, page, len) < 0) {
		return;
	}
	atomic_thread_fence(memory_order_seq_cst);
	version++;
	(void)hk_soft_store(soft, gpa, &version, sizeof(version));
}

static void write_system_time(struct hk_soft_vcpu *vcpu)
{
	struct hk_soft *soft = vcpu->soft;
	hk_gpa gpa = vcpu->system_time & ~(uint64_t)SYSTEM_TIME_ENABLE;
	struct hk_pvclock_page page;
	uint32_t version;

	if ((vcpu->system_time & SYSTEM_TIME_ENABLE) == 0 ||
		hk_mem_read(soft->mem.mem, gpa, &version, sizeof(version)) < 0) {
		return;
	}
	version = (version | 1) + 2;
	hk_pvclock_fill(&soft->clock, vcpu->tsc_delta, &page);
	page.version = version;
	write_page(soft, gpa, &page, sizeof(page));
}

static void write_wall_clock(struct hk_soft *soft, hk_gpa gpa)
{
	struct hk_pvclock_wall wall;
	struct timespec date;
	uint32_t version;

	if (gpa == 0 || hk_mem_read(soft->mem.mem, gpa, &version, sizeof(version)) < 0) {
		return;
	}
	version = (version | 1) + 2;
	clock_gettime(CLOCK_REALTIME, &date);
	hk_pvclock_fill_wall(
		&soft->clock, (uint64_t)hk_timespec_ns(date), hk_soft_host_ns(), &wall);
	wall.version = version;
	write_page(soft, gpa, &wall, sizeof(wall));
}

/* The TSC jumps by @change: so do deadlines and the clock's page, which are measured by it. */
static void move_tsc(struct hk_soft_vcpu *vcpu, uint64_t change)
{
	pthread_mutex_lock(&vcpu->soft->chip_lock);
	vcpu->tsc_delta += change;
	hk_soft_timer_update_locked(vcpu);
	pthread_mutex_unlock(&vcpu->soft->chip_lock);
	write_system_time(vcpu);
}

static void write_tsc(struct hk_soft_vcpu *vcpu, uint64_t value)
{
	uint64_t change = value - hk_soft_tsc(&vcpu->cpu);

	vcpu->tsc_adjust += change;
	move_tsc(vcpu, change);
}

static void write_tsc_adjust(struct hk_soft_vcpu *vcpu, uint64_t value)
{
	uint64_t change = value - vcpu->tsc_adjust;

	vcpu->tsc_adjust = value;
	move_tsc(vcpu, change);
}

static bool is_near(uint64_t a, uint64_t b, uint64_t distance)
{
	return a - b + distance <= 2 * distance;
}

static void set_clock(
	struct hk_soft *soft, uint64_t host_ns, uint64_t guest_ns, uint64_t tsc, uint32_t tsc_khz)
{
	/* No vCPU runs, but the timer thread may look. */
	pthread_mutex_lock(&soft->chip_lock);
	hk_pvclock_set(&soft->clock, host_ns, guest_ns, tsc, tsc_khz);
	pthread_mutex_unlock(&soft->chip_lock);
}

static void restore_tsc(struct hk_soft_vcpu *vcpu, uint64_t value)
{
	const struct hk_pvclock *clock = &vcpu->soft->clock;
	uint64_t now_ns = hk_soft_host_ns();
	uint64_t common = hk_pvclock_tsc(clock, now_ns);
	uint64_t second = (uint64_t)clock->tsc_khz * 1000;
	uint64_t delta = vcpu->tsc_delta;

	if (!vcpu->soft->tsc_is_set) {
		set_clock(vcpu->soft, now_ns, hk_pvclock_guest_ns(clock, now_ns), value,
			clock->tsc_khz);
		vcpu->soft->tsc_is_set = true;
		delta = 0;
	} else if (!is_near(value, common + delta, second)) {
		delta = is_near(value, common, second) ? 0 : value - common;
	}
	move_tsc(vcpu, delta - vcpu->tsc_delta);
}

/* MSRs */

static bool has_tsc_adjust(const struct hk_soft_vcpu *vcpu)
{
	enum { TSC_ADJUST = 1 << 1 };
	const struct hk_cpuid_leaf *leaf = hk_cpuid_find(&vcpu->cpuid, 7, 0);

	return leaf != NULL && (leaf->ebx & TSC_ADJUST) != 0;
}

bool hk_soft_msr_read(struct hk_soft_vcpu *vcpu, uint32_t index, uint64_t *ret_value)
{
	if ((index >= X2APIC_FIRST && index <= X2APIC_LAST) || index == HK_MSR_APIC_BASE ||
		index == HK_MSR_TSC_DEADLINE) {
		return hk_soft_apic_rdmsr(vcpu, index, ret_value);
	}
	switch (index) {
	case HK_MSR_TSC:
		*ret_value = hk_soft_tsc(&vcpu->cpu);
		return true;
	case HK_MSR_TSC_ADJUST:
		*ret_value = vcpu->tsc_adjust;
		return true;
	case HK_MSR_KVM_WALL_CLOCK:
		*ret_value = atomic_load(&vcpu->soft->wall_clock);
		return true;
	case HK_MSR_KVM_SYSTEM_TIME:
		*ret_value = vcpu->system_time;
		return true;
	case HK_MSR_KVM_PV_EOI:
		*ret_value = vcpu->pv_eoi;
		return true;
	default:
		return false;
	}
}

bool hk_soft_msr_write(struct hk_soft_vcpu *vcpu, uint32_t index, uint64_t value, bool restore)
{
	if ((index >= X2APIC_FIRST && index <= X2APIC_LAST) || index == HK_MSR_APIC_BASE ||
		index == HK_MSR_TSC_DEADLINE) {
		return hk_soft_apic_wrmsr(vcpu, index, value);
	}
	switch (index) {
	case HK_MSR_TSC:
		if (restore) {
			restore_tsc(vcpu, value);
		} else {
			write_tsc(vcpu, value);
		}
		return true;
	case HK_MSR_TSC_ADJUST:
		if (restore) {
			vcpu->tsc_adjust = value;
		} else if (has_tsc_adjust(vcpu)) {
			write_tsc_adjust(vcpu, value);
		}
		return true;
	case HK_MSR_KVM_WALL_CLOCK:
		atomic_store(&vcpu->soft->wall_clock, value);
		write_wall_clock(vcpu->soft, value);
		return true;
	case HK_MSR_KVM_SYSTEM_TIME:
		vcpu->system_time = value;
		write_system_time(vcpu);
		return true;
	case HK_MSR_KVM_PV_EOI:
		return hk_soft_set_pv_eoi(vcpu, value);
	default:
		return false;
	}
}

/* The engine's clock */

int hk_soft_get_clock(struct hk_engine *engine, struct hk_clock_state *state, struct hk_err *err)
{
	const struct hk_pvclock *clock = &hk_soft_of(engine)->clock;

	*state = (struct hk_clock_state){
		.guest_ns = hk_pvclock_guest_ns(clock, hk_soft_host_ns()),
		.tsc_khz = clock->tsc_khz,
	};
	return 0;
}

/* The guest was told its TSC's rate, and goes on with it. */
static void tell_rate(struct hk_cpuid *cpuid, uint32_t tsc_khz)
{
	const uint32_t timing = 0x40000010;

	for (unsigned i = 0; i < cpuid->count; i++) {
		if (cpuid->leaves[i].function == timing) {
			cpuid->leaves[i].eax = tsc_khz;
		}
	}
}

int hk_soft_set_clock(
	struct hk_engine *engine, const struct hk_clock_state *state, struct hk_err *err)
{
	struct hk_soft *soft = hk_soft_of(engine);
	uint64_t now_ns = hk_soft_host_ns();

	/* 0: its old engine did not know */
	uint32_t tsc_khz = state->tsc_khz != 0 ? state->tsc_khz : soft->clock.tsc_khz;

	set_clock(soft, now_ns, state->guest_ns, hk_pvclock_tsc(&soft->clock, now_ns), tsc_khz);
	soft->tsc_is_set = false; /* the first vCPU's state brings it */
	for (unsigned i = 0; i < soft->vcpu_count; i++) {
		tell_rate(&soft->vcpus[i]->cpuid, tsc_khz);
		move_tsc(soft->vcpus[i], 0);
	}
	return 0;
}
