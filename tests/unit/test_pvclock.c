/* SPDX-License-Identifier: ISC */
/* The guest's clock: TSC and clock page say the same, and neither drifts from the host. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <string.h>

#include "base/util.h"
#include "engine/soft/apic/pvclock.h"

static const uint32_t rates[] = {HK_PVCLOCK_DEFAULT_KHZ, 100000, 999999, 1000001, 2399998, 2800000,
	3693060, 5000000, 10000000};

#define START_NS UINT64_C(123456789012345)

/* What Linux does with the page: pvclock_scale_delta() and __pvclock_read_cycles(). */
static uint64_t guest_reads(const struct hk_pvclock_page *page, uint64_t tsc)
{
	uint64_t delta = tsc - page->tsc_timestamp;

	delta = page->tsc_shift >= 0 ? delta << page->tsc_shift : delta >> -page->tsc_shift;
	return page->system_time +
		(uint64_t)((unsigned __int128)delta * page->tsc_to_system_mul >> 32);
}

static uint64_t distance(uint64_t a, uint64_t b)
{
	return a > b ? a - b : b - a;
}

static void page_agrees_with_host(void **state)
{
	static const uint64_t after_ns[] = {0, 1, 999, 1000000, 600 * HK_NS_PER_SEC,
		86400 * HK_NS_PER_SEC, 365 * 86400 * HK_NS_PER_SEC};

	for (size_t i = 0; i < HK_ARRAY_SIZE(rates); i++) {
		struct hk_pvclock clock;
		struct hk_pvclock_page page;

		hk_pvclock_set(&clock, START_NS, 777, 1u << 20, rates[i]);
		hk_pvclock_fill(&clock, 0, &page);
		assert_int_equal(page.flags, HK_PVCLOCK_TSC_STABLE);
		for (size_t j = 0; j < HK_ARRAY_SIZE(after_ns); j++) {
			uint64_t host = START_NS + after_ns[j];
			uint64_t seen = guest_reads(&page, hk_pvclock_tsc(&clock, host));

			assert_int_equal(hk_pvclock_guest_ns(&clock, host), 777 + after_ns[j]);
			/* 2^-31 and the last tick */
			assert_true(distance(seen, 777 + after_ns[j]) <=
				(after_ns[j] >> 31) + 2 + 2000000 / rates[i]);
		}
	}
}

static void default_rate_is_exact(void **state)
{
	struct hk_pvclock clock;
	struct hk_pvclock_page page;

	hk_pvclock_set(&clock, START_NS, 0, 0, HK_PVCLOCK_DEFAULT_KHZ);
	hk_pvclock_fill(&clock, 0, &page);
	for (uint64_t ns = 1; ns < UINT64_C(1) << 62; ns = ns * 3 + 1) {
		assert_int_equal(hk_pvclock_tsc(&clock, START_NS + ns), ns);
		assert_int_equal(guest_reads(&page, ns), ns);
	}
}

/* Ten minutes in steps that are no whole ticks: nothing adds up. */
static void tsc_does_not_drift(void **state)
{
	for (size_t i = 0; i < HK_ARRAY_SIZE(rates); i++) {
		struct hk_pvclock clock;
		uint64_t last = 0;

		hk_pvclock_set(&clock, START_NS, 0, 0, rates[i]);
		for (uint64_t ns = 0; ns <= 600 * HK_NS_PER_SEC; ns += 1000003) {
			uint64_t tsc = hk_pvclock_tsc(&clock, START_NS + ns);
			uint64_t right =
				(uint64_t)((unsigned __int128)ns * rates[i] / HK_NS_PER_MS);

			assert_true(distance(tsc, right) <= 1);
			assert_true(tsc >= last);
			last = tsc;
		}
	}
}

static void a_cpu_whose_tsc_is_ahead(void **state)
{
	struct hk_pvclock clock;
	struct hk_pvclock_page page;
	uint64_t ahead = 5000000;

	hk_pvclock_set(&clock, START_NS, 42, 1000, 2000000);
	hk_pvclock_fill(&clock, ahead, &page);
	assert_int_equal(page.tsc_timestamp, 1000 + ahead);
	assert_true(distance(guest_reads(&page, hk_pvclock_tsc(&clock, START_NS + 100) + ahead),
			    142) <= 1);
}

static void wall_clock_is_when_the_guest_was_zero(void **state)
{
	const uint64_t date = UINT64_C(1800000000) * HK_NS_PER_SEC + 250000000;
	struct hk_pvclock clock;
	struct hk_pvclock_wall wall;

	hk_pvclock_set(&clock, START_NS, 10 * HK_NS_PER_SEC, 0, HK_PVCLOCK_DEFAULT_KHZ);
	hk_pvclock_fill_wall(&clock, date, START_NS + HK_NS_PER_SEC / 2, &wall);
	assert_int_equal(wall.sec, 1800000000 - 11);
	assert_int_equal(wall.nsec, 750000000);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(page_agrees_with_host),
		cmocka_unit_test(default_rate_is_exact),
		cmocka_unit_test(tsc_does_not_drift),
		cmocka_unit_test(a_cpu_whose_tsc_is_ahead),
		cmocka_unit_test(wall_clock_is_when_the_guest_was_zero),
	};

	return cmocka_run_group_tests_name("pvclock", tests, NULL, NULL);
}
