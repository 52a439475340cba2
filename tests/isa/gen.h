/* SPDX-License-Identifier: ISC */
/* Making test cases from the instruction table. */
#ifndef HK_TESTS_ISA_GEN_H
#define HK_TESTS_ISA_GEN_H

#include "case.h"
#include "engine/soft/isa.h"

/**
 * struct isa_gen_options - what cases may hold
 * @features: instructions to use; also those of the CPU that is tested
 * @only: mnemonic, or NULL for all
 * @code32, @fsgsbase: what the host can do
 */
struct isa_gen_options {
	uint32_t features;
	const char *only;
	bool code32, fsgsbase;
};

struct isa_gen;

/** isa_gen_create() - NULL where no row fits @options->only */
struct isa_gen *isa_gen_create(const struct isa_gen_options *options);
void isa_gen_destroy(struct isa_gen *gen);

/** isa_gen_case() - case number @number of @seed; always the same for the same options */
void isa_gen_case(struct isa_gen *gen, uint64_t seed, uint64_t number, struct isa_case *ret_case);

/** isa_gen_excuse() - why a row is not tested; NULL: it is */
const char *isa_gen_excuse(const struct isa_gen *gen, unsigned row);

/** isa_gen_surprises() - how many generated instructions the decoder took for something else */
uint64_t isa_gen_surprises(const struct isa_gen *gen);

/* splitmix64, good enough and the same everywhere. */
struct isa_random {
	uint64_t state;
};

static inline uint64_t isa_random(struct isa_random *r)
{
	uint64_t z = r->state += UINT64_C(0x9e3779b97f4a7c15);

	z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
	return z ^ z >> 31;
}

/** isa_below() - 0 to @n - 1 */
static inline unsigned isa_below(struct isa_random *r, unsigned n)
{
	return (unsigned)((isa_random(r) >> 32) * n >> 32);
}

/** isa_chance() - true @percent times of a hundred */
static inline bool isa_chance(struct isa_random *r, unsigned percent)
{
	return isa_below(r, 100) < percent;
}

/** isa_gen_values() - initial registers but RSP, RIP and selectors. values.c */
void isa_gen_values(struct isa_random *r, struct isa_state *state);

/** isa_boundary() - a number of @bytes bytes that is likely to be special. values.c */
uint64_t isa_boundary(struct isa_random *r, unsigned bytes);

#endif
