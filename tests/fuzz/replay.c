/* SPDX-License-Identifier: ISC */
/*
 * main() for a fuzz target in an ordinary build: runs the target over inputs that are known.
 *
 *	fuzz_X FILE|DIRECTORY...	each file, and each file below each directory
 *	fuzz_X				4000 pseudo-random inputs, the same ones every time
 *
 * A finding is a crash of the target; there is no other failure than a file that cannot be read.
 */
#include <errno.h>
#include <ftw.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { RANDOM_INPUTS = 4000, RANDOM_MAX_BYTES = 4096, FILE_MAX_BYTES = 16 << 20 };

static int run_file(const char *path, const struct stat *st, int kind, struct FTW *ftw)
{
	uint8_t *data;
	FILE *file;
	size_t len;

	(void)ftw;
	if (kind != FTW_F) {
		return 0;
	}
	if (st->st_size > FILE_MAX_BYTES) {
		fprintf(stderr, "%s: larger than %d bytes\n", path, FILE_MAX_BYTES);
		return 1;
	}
	file = fopen(path, "rb");
	if (!file) {
		fprintf(stderr, "%s: %s\n", path, strerror(errno));
		return 1;
	}
	/* One byte at least, so that malloc(0) does not hide an overflow of the empty input. */
	data = malloc((size_t)st->st_size + (st->st_size == 0));
	len = data ? fread(data, 1, (size_t)st->st_size, file) : 0;
	fclose(file);
	if (!data || len != (size_t)st->st_size) {
		fprintf(stderr, "%s: cannot be read\n", path);
		free(data);
		return 1;
	}
	LLVMFuzzerTestOneInput(data, len);
	free(data);
	return 0;
}

/* splitmix64, by Sebastiano Vigna: public domain. */
static uint64_t next_random(uint64_t *state)
{
	uint64_t z = *state += UINT64_C(0x9e3779b97f4a7c15);

	z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
	return z ^ (z >> 31);
}

static int run_random(void)
{
	uint64_t state = 1;

	for (int i = 0; i < RANDOM_INPUTS; i++) {
		/* Short inputs more often than long ones; small values more often than large. */
		size_t len = (size_t)(next_random(&state) % RANDOM_MAX_BYTES >> (i % 12));
		uint8_t mask = (uint8_t)(0xff >> (i % 5 * 2 % 8));
		/* Its own block of just that size: the sanitizers then see every step outside. */
		uint8_t *data = malloc(len + (len == 0));

		if (!data) {
			fprintf(stderr, "out of memory\n");
			return 1;
		}
		for (size_t j = 0; j < len; j++) {
			data[j] = (uint8_t)next_random(&state) & mask;
		}
		LLVMFuzzerTestOneInput(data, len);
		free(data);
	}
	return 0;
}

int main(int argc, char **argv)
{
	if (argc < 2) {
		return run_random();
	}
	for (int i = 1; i < argc; i++) {
		struct stat st;

		if (stat(argv[i], &st) != 0) {
			fprintf(stderr, "%s: %s\n", argv[i], strerror(errno));
			return 1;
		}
		if (nftw(argv[i], run_file, 16, FTW_PHYS) != 0) {
			return 1;
		}
	}
	return 0;
}
