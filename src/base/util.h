/* SPDX-License-Identifier: ISC */
/* Small helpers that every part may use. Nothing here holds state or does I/O. */
#ifndef HK_BASE_UTIL_H
#define HK_BASE_UTIL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define HK_ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))

/* The object of type @type whose member @member is at @ptr. */
#define hk_container_of(ptr, type, member) \
	((type *)((char *)(1 ? (ptr) : &((type *)0)->member) - offsetof(type, member)))

#define HK_MIN(a, b)  ((a) < (b) ? (a) : (b))
#define HK_MAX(a, b)  ((a) > (b) ? (a) : (b))

#define HK_KIB        UINT64_C(1024)
#define HK_MIB        (UINT64_C(1024) * HK_KIB)
#define HK_GIB        (UINT64_C(1024) * HK_MIB)

#define HK_NS_PER_SEC UINT64_C(1000000000)
#define HK_NS_PER_MS  UINT64_C(1000000)

/* @alignment is a power of two. */
static inline uint64_t hk_align_up(uint64_t value, uint64_t alignment)
{
	return (value + alignment - 1) & ~(alignment - 1);
}

static inline uint64_t hk_align_down(uint64_t value, uint64_t alignment)
{
	return value & ~(alignment - 1);
}

/* Is [start, start+len) within [0, limit)? Safe against wrap-around. */
static inline bool hk_range_within(uint64_t start, uint64_t len, uint64_t limit)
{
	return start <= limit && len <= limit - start;
}

#endif
