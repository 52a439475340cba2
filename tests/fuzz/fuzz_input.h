/* SPDX-License-Identifier: ISC */
/*
 * An input read as a script: each take says what happens next, or with what. At its end all is
 * zero.
 */
#ifndef HK_TESTS_FUZZ_INPUT_H
#define HK_TESTS_FUZZ_INPUT_H

#include <stddef.h>
#include <stdint.h>

struct fuzz_input {
	const uint8_t *data;
	size_t size;
};

static inline uint8_t take8(struct fuzz_input *in)
{
	if (in->size == 0) {
		return 0;
	}
	in->size--;
	return *in->data++;
}

static inline uint32_t take32(struct fuzz_input *in)
{
	uint32_t v = 0;

	for (unsigned i = 0; i < 4; i++) {
		v = v << 8 | take8(in);
	}
	return v;
}

static inline uint64_t take64(struct fuzz_input *in)
{
	uint64_t high = take32(in);

	return high << 32 | take32(in);
}

/* A number: small, one of @notable (a limit of what is tried), or any. */
static inline uint32_t take_number(
	struct fuzz_input *in, const uint32_t *notable, unsigned notable_count)
{
	uint8_t how = take8(in);

	if (how < 128) {
		return how;
	}
	return how < 224 ? notable[how % notable_count] : take32(in);
}

#endif
