/* SPDX-License-Identifier: ISC */
/*
 * The guest's time: its TSC, and the paravirtual clock that KVM's guests read.
 *
 * Both are straight lines over the host's monotonic clock, so neither drifts from it nor from the
 * other:
 *
 *	guest_ns = base_guest_ns + (host_ns - base_ns)
 *	tsc      = base_tsc + (host_ns - base_ns) * tsc_khz / 10^6
 *
 * All CPUs' clock pages are made from the same base, so that time never goes back from one CPU to
 * the next. No I/O and no clock here.
 *
 * Source: Linux Documentation/virt/kvm/x86/msr.rst.
 */
#ifndef HK_ENGINE_SOFT_APIC_PVCLOCK_H
#define HK_ENGINE_SOFT_APIC_PVCLOCK_H

#include <stdbool.h>
#include <stdint.h>

/* TSC ticks are nanoseconds unless the guest comes from elsewhere. */
enum { HK_PVCLOCK_DEFAULT_KHZ = 1000000 };

/**
 * struct hk_pvclock - see above
 * @tsc_mul: TSC ticks in a nanosecond, times 2^32
 * @to_ns_mul, @to_ns_shift: as in the guest's page: ns = (ticks << shift) * mul >> 32
 */
struct hk_pvclock {
	uint32_t tsc_khz;
	uint64_t base_ns;
	uint64_t base_tsc;
	uint64_t base_guest_ns;
	unsigned __int128 tsc_mul;
	uint32_t to_ns_mul;
	int8_t to_ns_shift;
};

/** hk_pvclock_set() - from @host_ns on the guest's clock is @guest_ns and its TSC @tsc at @tsc_khz
 * (not 0) */
void hk_pvclock_set(struct hk_pvclock *clock, uint64_t host_ns, uint64_t guest_ns, uint64_t tsc,
	uint32_t tsc_khz);

uint64_t hk_pvclock_guest_ns(const struct hk_pvclock *clock, uint64_t host_ns);
uint64_t hk_pvclock_tsc(const struct hk_pvclock *clock, uint64_t host_ns);

/** struct hk_pvclock_page - pvclock_vcpu_time_info, as the guest reads it */
struct hk_pvclock_page {
	uint32_t version; /* odd while it is written */
	uint32_t pad0;
	uint64_t tsc_timestamp;
	uint64_t system_time;
	uint32_t tsc_to_system_mul;
	int8_t tsc_shift;
	uint8_t flags;
	uint8_t pad[2];
};

enum { HK_PVCLOCK_TSC_STABLE = 1 << 0 };

/** struct hk_pvclock_wall - pvclock_wall_clock: the date at which the guest's clock was 0 */
struct hk_pvclock_wall {
	uint32_t version;
	uint32_t sec;
	uint32_t nsec;
};

/** hk_pvclock_fill() - the page of a CPU whose TSC is @tsc_delta ahead. The version is the
 * caller's. */
void hk_pvclock_fill(
	const struct hk_pvclock *clock, uint64_t tsc_delta, struct hk_pvclock_page *ret_page);

/** hk_pvclock_fill_wall() - @date_ns: of the host, since 1970, at @host_ns */
void hk_pvclock_fill_wall(const struct hk_pvclock *clock, uint64_t date_ns, uint64_t host_ns,
	struct hk_pvclock_wall *ret_wall);

#endif
