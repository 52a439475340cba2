/* SPDX-License-Identifier: ISC */
/*
 * A hash for tables, and for what a few bytes are to tell of many. Whoever chooses the bytes can
 * make it collide.
 */
#ifndef HK_BASE_HASH_H
#define HK_BASE_HASH_H

#include <stddef.h>
#include <stdint.h>

#define HK_HASH_START UINT64_C(14695981039346656037)

/**
 * hk_hash_bytes() - go on from @hash, HK_HASH_START at first. Source: FNV-1a, draft-eastlake-fnv,
 * of 64 bits
 */
static inline uint64_t hk_hash_bytes(uint64_t hash, const void *data, size_t len)
{
	const uint8_t *bytes = data;

	for (size_t i = 0; i < len; i++) {
		hash = (hash ^ bytes[i]) * UINT64_C(1099511628211);
	}
	return hash;
}

#endif
