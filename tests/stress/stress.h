/* SPDX-License-Identifier: ISC */
/*
 * What the stress programs share: a generator of numbers that a seed repeats, and their command
 * line.
 */
#ifndef HK_TESTS_STRESS_H
#define HK_TESTS_STRESS_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct options {
	const char *dir;
	uint64_t seed;
	unsigned long ops, processes;
};

/* xorshift64*, see https://prng.di.unimi.it */
static inline uint64_t random_next(uint64_t *state)
{
	*state ^= *state >> 12;
	*state ^= *state << 25;
	*state ^= *state >> 27;
	return *state * UINT64_C(2685821657736338717);
}

static inline uint64_t random_start(uint64_t seed)
{
	uint64_t state = (seed + 1) * UINT64_C(0x9e3779b97f4a7c15);

	random_next(&state);
	return state;
}

/* 0 to @limit - 1 */
static inline unsigned random_below(uint64_t *state, unsigned limit)
{
	return (unsigned)((random_next(state) >> 32) * limit >> 32);
}

/* FNV-1a */
static inline uint64_t hash_add(uint64_t hash, const void *data, size_t size)
{
	const unsigned char *bytes = data;

	for (size_t i = 0; i < size; i++) {
		hash = (hash ^ bytes[i]) * UINT64_C(0x100000001b3);
	}
	return hash;
}

static const uint64_t hash_start = UINT64_C(0xcbf29ce484222325);

/*
 * [--seed N] [--ops N] [--processes N] DIR; the rest of @options is the default. Ends the program
 * if it is wrong.
 */
static inline void parse_options(int argc, char **argv, struct options *options)
{
	int i = 1;

	while (i + 1 < argc && strncmp(argv[i], "--", 2) == 0) {
		uint64_t number = strtoull(argv[i + 1], NULL, 10);

		if (strcmp(argv[i], "--seed") == 0) {
			options->seed = number;
		} else if (strcmp(argv[i], "--ops") == 0) {
			options->ops = number;
		} else if (strcmp(argv[i], "--processes") == 0) {
			options->processes = number;
		} else {
			break;
		}
		i += 2;
	}
	if (i + 1 != argc) {
		fprintf(stderr, "usage: %s [--seed N] [--ops N] [--processes N] DIR\n", argv[0]);
		exit(2);
	}
	options->dir = argv[i];
}

#endif
