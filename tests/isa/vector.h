/* SPDX-License-Identifier: ISC */
/*
 * Vectors: cases with what the real CPU made of them, in a file.
 *
 * The file begins with ISA_VECTOR_MAGIC and the features of the CPU (4 bytes), both little-endian.
 * A vector is:
 *
 *	2 bytes		length of the rest
 *	2, 1, 1 bytes	length of the code; 1 for 32-bit code; ISA_LAX_*
 *	8 bytes		flags that count
 *	1 byte		seed of the memory
 *	4, 4, 8 bytes	vector, error code, CR2
 *	the code
 *	three streams: the initial state; the final state xor the initial one; the final memory xor the
 *	initial one. Each is a series of (zeros to skip: 2 bytes, bytes that follow: 1 byte, bytes), ended
 *	by 0, 0.
 *
 * Files are made when tests run and are not kept. Standard C only.
 */
#ifndef HK_TESTS_ISA_VECTOR_H
#define HK_TESTS_ISA_VECTOR_H

#include <stdio.h>

#include "compare.h"

#define ISA_VECTOR_MAGIC UINT32_C(0x31617369) /* "isa1" */

int isa_vector_begin(FILE *file, uint32_t features);

/** isa_vector_write() - Return: 0, or -1 with errno set */
int isa_vector_write(
	FILE *file, const struct isa_case *c, const struct isa_result *r, struct isa_mask mask);

/** isa_vector_open() - Return: 0; -1: not such a file */
int isa_vector_open(FILE *file, uint32_t *ret_features);

/** isa_vector_read() - Return: 1; 0 at the end; -1: broken */
int isa_vector_read(FILE *file, struct isa_case *ret_case, struct isa_result *ret_result,
	struct isa_mask *ret_mask);

#endif
