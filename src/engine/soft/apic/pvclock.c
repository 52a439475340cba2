/* SPDX-License-Identifier: ISC */
/*
 * The guest's time. See pvclock.h.
 *
 * The factor from nanoseconds to TSC ticks has 64 bits of fraction: over a year it is off by less
 * than a tick. The factor of the guest's page has 32 significant bits, as KVM's: a rate of 1 GHz is
 * exact, others are off by one in 2^31 at most, which is 0.3 ms a week.
 */
#include "engine/soft/apic/pvclock.h"

#include <assert.h>

#include "base/util.h"

static_assert(sizeof(struct hk_pvclock_page) == 32, "KVM's pvclock_vcpu_time_info");
static_assert(sizeof(struct hk_pvclock_wall) == 12, "KVM's pvclock_wall_clock");

enum { NS_PER_MS = 1000000 };

/* The factor 10^6 / khz as mul * 2^(shift - 32), mul with its top bit set. */
static void find_page_factor(struct hk_pvclock *clock)
{
	unsigned __int128 factor = ((unsigned __int128)NS_PER_MS << 64) / clock->tsc_khz;
	int shift = -32; /* factor is times 2^64 now; mul is to be times 2^32 */

	/* factor / 2^64 = mul / 2^32 * 2^shift */
	while (factor > UINT32_MAX) {
		factor >>= 1;
		shift++;
	}
	clock->to_ns_mul = (uint32_t)factor;
	clock->to_ns_shift = (int8_t)shift;
}

void hk_pvclock_set(struct hk_pvclock *clock, uint64_t host_ns, uint64_t guest_ns, uint64_t tsc,
	uint32_t tsc_khz)
{
	assert(tsc_khz != 0);
	*clock = (struct hk_pvclock){
		.tsc_khz = tsc_khz,
		.base_ns = host_ns,
		.base_tsc = tsc,
		.base_guest_ns = guest_ns,
		.tsc_mul = ((unsigned __int128)tsc_khz << 64) / NS_PER_MS,
	};
	find_page_factor(clock);
}

uint64_t hk_pvclock_guest_ns(const struct hk_pvclock *clock, uint64_t host_ns)
{
	return clock->base_guest_ns + (host_ns - clock->base_ns);
}

uint64_t hk_pvclock_tsc(const struct hk_pvclock *clock, uint64_t host_ns)
{
	uint64_t passed = host_ns - clock->base_ns;

	if (clock->tsc_khz == NS_PER_MS) {
		return clock->base_tsc + passed;
	}

	/* 64 by 96 bits: whole ticks a nanosecond, and the fraction. */
	uint64_t whole = (uint64_t)(clock->tsc_mul >> 64);
	uint64_t fraction = (uint64_t)clock->tsc_mul;

	return clock->base_tsc + passed * whole +
		(uint64_t)((unsigned __int128)passed * fraction >> 64);
}

void hk_pvclock_fill(
	const struct hk_pvclock *clock, uint64_t tsc_delta, struct hk_pvclock_page *ret_page)
{
	*ret_page = (struct hk_pvclock_page){
		.tsc_timestamp = clock->base_tsc + tsc_delta,
		.system_time = clock->base_guest_ns,
		.tsc_to_system_mul = clock->to_ns_mul,
		.tsc_shift = clock->to_ns_shift,
		.flags = HK_PVCLOCK_TSC_STABLE,
	};
}

void hk_pvclock_fill_wall(const struct hk_pvclock *clock, uint64_t date_ns, uint64_t host_ns,
	struct hk_pvclock_wall *ret_wall)
{
	uint64_t zero = date_ns - hk_pvclock_guest_ns(clock, host_ns);

	*ret_wall = (struct hk_pvclock_wall){
		.sec = (uint32_t)(zero / HK_NS_PER_SEC),
		.nsec = (uint32_t)(zero % HK_NS_PER_SEC),
	};
}
