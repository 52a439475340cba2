/* SPDX-License-Identifier: ISC */
/* Comparing what two CPUs made of a case. Standard C only. */
#ifndef HK_TESTS_ISA_COMPARE_H
#define HK_TESTS_ISA_COMPARE_H

#include <stdio.h>

#include "case.h"

/**
 * struct isa_mask - what of a result counts
 * @rflags: bits that are defined
 * @lax: ISA_LAX_*
 */
struct isa_mask {
	uint64_t rflags;
	uint8_t lax;
};

/** isa_mask_of() - what counts of a case that ended as @expected */
struct isa_mask isa_mask_of(const struct isa_case *c, const struct isa_result *expected);

/**
 * isa_same() - are the results the same, as far as @mask goes?
 * @code32: of the case
 * @out: differences are printed here; NULL: not
 * @ret_inexact: there were differences that are allowed; may be NULL
 */
bool isa_same(const struct isa_result *expected, const struct isa_result *got, struct isa_mask mask,
	bool code32, FILE *out, bool *ret_inexact);

#endif
