/* SPDX-License-Identifier: ISC */
/* The fault hook: which operation fails, that it fails once, also between threads. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/fault.h"

#ifdef HK_WITH_FAULT

static int disarm(void **state)
{
	hk_fault_arm(0, 0);
	return 0;
}

static void test_nth_fails_once(void **state)
{
	for (uint64_t nth = 1; nth < 5; nth++) {
		hk_fault_arm(HK_FAULT_ALLOC, nth);
		for (uint64_t i = 1; i < 10; i++) {
			assert_int_equal(hk_fault(HK_FAULT_ALLOC), i == nth);
			assert_int_equal(hk_fault_fired(), i >= nth);
		}
	}
}

static void test_other_kinds_do_not_count(void **state)
{
	hk_fault_arm(HK_FAULT_SYSCALL, 2);
	assert_false(hk_fault(HK_FAULT_ALLOC));
	assert_false(hk_fault(HK_FAULT_SYSCALL));
	assert_false(hk_fault(HK_FAULT_ALLOC));
	assert_true(hk_fault(HK_FAULT_SYSCALL));
}

static void test_kinds_count_together(void **state)
{
	hk_fault_arm(HK_FAULT_SYSCALL | HK_FAULT_ALLOC, 3);
	assert_false(hk_fault(HK_FAULT_ALLOC));
	assert_false(hk_fault(HK_FAULT_SYSCALL));
	assert_true(hk_fault(HK_FAULT_ALLOC));
	assert_false(hk_fault(HK_FAULT_SYSCALL));
}

static void test_arming_again_restarts(void **state)
{
	hk_fault_arm(HK_FAULT_ALLOC, 1);
	assert_true(hk_fault(HK_FAULT_ALLOC));
	hk_fault_arm(HK_FAULT_ALLOC, 2);
	assert_false(hk_fault_fired());
	assert_false(hk_fault(HK_FAULT_ALLOC));
	hk_fault_arm(HK_FAULT_ALLOC, 2);
	assert_false(hk_fault(HK_FAULT_ALLOC));
	assert_true(hk_fault(HK_FAULT_ALLOC));
}

static void test_zero_disarms(void **state)
{
	hk_fault_arm(HK_FAULT_ALLOC, 1);
	hk_fault_arm(HK_FAULT_ALLOC, 0);
	for (int i = 0; i < 10; i++) {
		assert_false(hk_fault(HK_FAULT_ALLOC));
	}
	assert_false(hk_fault_fired());
}

static void *count_faults(void *arg)
{
	unsigned *count = arg;

	for (int i = 0; i < 1000; i++) {
		*count += hk_fault(HK_FAULT_SYSCALL) ? 1 : 0;
	}
	return NULL;
}

static void test_one_thread_sees_it(void **state)
{
	for (uint64_t nth = 1; nth <= 4001; nth += 500) {
		pthread_t threads[4];
		unsigned counts[4] = {0};
		unsigned sum = 0;

		hk_fault_arm(HK_FAULT_SYSCALL, nth);
		for (int i = 0; i < 4; i++) {
			assert_int_equal(
				pthread_create(&threads[i], NULL, count_faults, &counts[i]), 0);
		}
		for (int i = 0; i < 4; i++) {
			pthread_join(threads[i], NULL);
			sum += counts[i];
		}
		assert_int_equal(sum, nth <= 4000);
		assert_int_equal(hk_fault_fired(), nth <= 4000);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_teardown(test_nth_fails_once, disarm),
		cmocka_unit_test_teardown(test_other_kinds_do_not_count, disarm),
		cmocka_unit_test_teardown(test_kinds_count_together, disarm),
		cmocka_unit_test_teardown(test_arming_again_restarts, disarm),
		cmocka_unit_test_teardown(test_zero_disarms, disarm),
		cmocka_unit_test_teardown(test_one_thread_sees_it, disarm),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

#else

static void test_nothing_fires(void **state)
{
	hk_fault_arm(HK_FAULT_ALLOC, 1);
	assert_false(hk_fault(HK_FAULT_ALLOC));
	assert_false(hk_fault_fired());
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(test_nothing_fires)};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

#endif
