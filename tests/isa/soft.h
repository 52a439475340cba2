/* SPDX-License-Identifier: ISC */
/* Running test cases on our CPU. Standard C only, like the CPU itself. */
#ifndef HK_TESTS_ISA_SOFT_H
#define HK_TESTS_ISA_SOFT_H

#include "case.h"

struct isa_soft;

/* How to run a case. */
enum isa_way {
	ISA_RUN,   /* hk_cpu_run(): decoded, cached, linked */
	ISA_AGAIN, /* the same with what the last case left in the cache: it must be the same code */
	ISA_STEP,  /* hk_cpu_step(): every instruction from its bytes */
	ISA_WAY_COUNT,
};

/** isa_soft_create() - @features: bits 1 << enum hk_feature. Return: NULL without memory. */
struct isa_soft *isa_soft_create(uint32_t features);
void isa_soft_destroy(struct isa_soft *soft);

/** isa_soft_case() - run one case; never fails but as @ret_result->end tells */
void isa_soft_case(struct isa_soft *soft, const struct isa_case *c, enum isa_way way,
	struct isa_result *ret_result);

/**
 * isa_soft_kick() - called now and then, also by a signal handler: ends cases that go on for ever
 */
void isa_soft_kick(struct isa_soft *soft);

#endif
