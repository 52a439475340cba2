/* SPDX-License-Identifier: ISC */
/*
 * replay_isa: vectors of a real CPU, on ours.
 *
 *	replay_isa FILE|- [N]
 *
 * No processes, no signals, no threads: it runs wherever the CPU core does, WebAssembly among that.
 * FILE is what test_isa --record wrote. Prints what differs, of the first N vectors that do (10).
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "compare.h"
#include "soft.h"
#include "vector.h"

static int replay(FILE *file, unsigned long show)
{
	static struct isa_result expected, got;
	static struct isa_case c;
	unsigned long vectors = 0, failed = 0;
	struct isa_soft *soft;
	struct isa_mask mask;
	uint32_t features;
	int more;

	if (isa_vector_open(file, &features) != 0) {
		fprintf(stderr, "replay_isa: no file of vectors\n");
		return 1;
	}
	soft = isa_soft_create(features);
	if (soft == NULL) {
		fprintf(stderr, "replay_isa: out of memory\n");
		return 1;
	}
	while ((more = isa_vector_read(file, &c, &expected, &mask)) > 0) {
		enum isa_way way = vectors % 4 == 0 ? ISA_STEP : ISA_RUN;

		isa_soft_case(soft, &c, way, &got);
		if (!isa_same(&expected, &got, mask, c.code32, NULL, NULL) && failed++ < show) {
			printf("not ok: vector %lu:", vectors);
			for (unsigned i = 0; i < c.len; i++) {
				printf(" %02x", c.code[i]);
			}
			printf("\n");
			isa_same(&expected, &got, mask, c.code32, stdout, NULL);
		}
		vectors++;
	}
	isa_soft_destroy(soft);
	if (more < 0) {
		fprintf(stderr, "replay_isa: broken file after vector %lu\n", vectors);
		return 1;
	}
	printf("%lu vectors, %lu failed\n", vectors, failed);
	return failed == 0 && vectors > 0 ? 0 : 1;
}

int main(int argc, char **argv)
{
	unsigned long show = argc > 2 ? strtoul(argv[2], NULL, 0) : 10;
	FILE *file;
	int status;

	if (argc < 2) {
		fprintf(stderr, "usage: replay_isa FILE|- [N]\n");
		return 2;
	}
	file = strcmp(argv[1], "-") == 0 ? stdin : fopen(argv[1], "rb");
	if (file == NULL) {
		perror(argv[1]);
		return 1;
	}
	status = replay(file, show);
	if (file != stdin) {
		fclose(file);
	}
	return status;
}
