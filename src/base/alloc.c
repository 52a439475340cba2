/* SPDX-License-Identifier: ISC */
/*
 * Allocation through the fault hook.
 *
 * Theory: thin wrappers, so that tests can fail the Nth allocation (fault.h) and visit every
 * out-of-memory path. Results are ordinary heap blocks: free() releases them.
 *
 * Limits: a request for zero bytes gives a real block of one byte, so that NULL always means
 * failure and a realloc to nothing never frees behind its caller's back.
 */
#include "base/alloc.h"

#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/fault.h"

static bool out_of_memory(void)
{
	if (hk_fault(HK_FAULT_ALLOC)) {
		errno = ENOMEM;
		return true;
	}
	return false;
}

void *hk_malloc(size_t size)
{
	return out_of_memory() ? NULL : malloc(size == 0 ? 1 : size);
}

void *hk_calloc(size_t count, size_t size)
{
	if (count == 0 || size == 0) {
		count = 1;
		size = 1;
	}
	return out_of_memory() ? NULL : calloc(count, size);
}

void *hk_realloc_array(void *p, size_t count, size_t size)
{
	size_t bytes;

	if (__builtin_mul_overflow(count, size, &bytes) || bytes > PTRDIFF_MAX) {
		errno = ENOMEM;
		return NULL;
	}
	return out_of_memory() ? NULL : realloc(p, bytes == 0 ? 1 : bytes);
}

char *hk_strdup(const char *text)
{
	size_t size = strlen(text) + 1;
	char *copy = hk_malloc(size);

	if (copy != NULL) {
		memcpy(copy, text, size);
	}
	return copy;
}
