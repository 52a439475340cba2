/* SPDX-License-Identifier: ISC */
/* Allocation through the fault hook. Results are freed with free(). */
#ifndef HK_BASE_ALLOC_H
#define HK_BASE_ALLOC_H

#include <stddef.h>

void *hk_malloc(size_t size) __attribute__((malloc, alloc_size(1)));
void *hk_calloc(size_t count, size_t size) __attribute__((malloc, alloc_size(1, 2)));
/** hk_realloc_array() - realloc(p, count * size); NULL on overflow too, and @p stays valid then */
void *hk_realloc_array(void *p, size_t count, size_t size) __attribute__((alloc_size(2, 3)));
char *hk_strdup(const char *text) __attribute__((malloc));

/* A zeroed object of *@pointer's type. */
#define hk_new(pointer) ((pointer) = hk_calloc(1, sizeof(*(pointer))))

#endif
