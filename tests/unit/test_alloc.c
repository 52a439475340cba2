/* SPDX-License-Identifier: ISC */
/* Allocation: zero sizes, overflow, and that each function asks the fault hook. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/alloc.h"
#include "base/fault.h"

/* Hides constants from the compiler, which would warn of what we do on purpose. */
static size_t opaque(size_t v)
{
	volatile size_t hidden = v;

	return hidden;
}

static void test_zero_sizes_are_blocks(void **state)
{
	void *a = hk_malloc(opaque(0));
	void *b = hk_calloc(opaque(0), 8);
	void *c = hk_calloc(8, opaque(0));
	char *d = hk_malloc(4);

	assert_non_null(a);
	assert_non_null(b);
	assert_non_null(c);
	/* To nothing: must not free d and say NULL. */
	d = hk_realloc_array(d, opaque(0), 8);
	assert_non_null(d);
	free(a);
	free(b);
	free(c);
	free(d);
}

static void test_calloc_zeroes(void **state)
{
	static const char zeros[300];
	char *p = hk_calloc(100, 3);

	assert_memory_equal(p, zeros, sizeof(zeros));
	free(p);
}

static void test_realloc_overflow_keeps_the_block(void **state)
{
	char *p = hk_strdup("kept");

	errno = 0;
	assert_null(hk_realloc_array(p, opaque(SIZE_MAX / 2 + 1), 2));
	assert_int_equal(errno, ENOMEM);
	errno = 0;
	assert_null(hk_realloc_array(p, opaque(SIZE_MAX / 3), 2)); /* over PTRDIFF_MAX */
	assert_int_equal(errno, ENOMEM);
	assert_string_equal(p, "kept");
	p = hk_realloc_array(p, 1000, 8);
	assert_non_null(p);
	assert_string_equal(p, "kept");
	free(p);
}

static void test_new(void **state)
{
	struct {
		uint64_t a;
		char b[9];
	} * object;

	assert_non_null(hk_new(object));
	assert_int_equal(object->a, 0);
	assert_int_equal(object->b[8], 0);
	free(object);
}

static void test_faults(void **state)
{
#ifdef HK_WITH_FAULT
	char *p = hk_strdup("kept");
	void *q;

	for (int function = 0; function < 4; function++) {
		hk_fault_arm(HK_FAULT_ALLOC, 1);
		errno = 0;
		switch (function) {
		case 0:
			q = hk_malloc(1);
			break;
		case 1:
			q = hk_calloc(1, 1);
			break;
		case 2:
			q = hk_realloc_array(p, 10, 10);
			break;
		default:
			q = hk_strdup("x");
		}
		assert_null(q);
		assert_int_equal(errno, ENOMEM);
		assert_true(hk_fault_fired());
	}
	hk_fault_arm(0, 0);
	assert_string_equal(p, "kept");
	free(p);
#else
	skip();
#endif
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_zero_sizes_are_blocks),
		cmocka_unit_test(test_calloc_zeroes),
		cmocka_unit_test(test_realloc_overflow_keeps_the_block),
		cmocka_unit_test(test_new),
		cmocka_unit_test(test_faults),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
