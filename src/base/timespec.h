/* SPDX-License-Identifier: ISC */
/* Times as one number of nanoseconds, and as the kernel has them. */
#ifndef HK_BASE_TIMESPEC_H
#define HK_BASE_TIMESPEC_H

#include <stdint.h>
#include <time.h>

#include "base/util.h"

/** hk_timespec_ns() - before 1970 it is below zero */
static inline int64_t hk_timespec_ns(struct timespec t)
{
	/* Without overflow: files have times that anybody may set. */
	return (int64_t)((uint64_t)t.tv_sec * HK_NS_PER_SEC + (uint64_t)t.tv_nsec);
}

static inline struct timespec hk_timespec_of(uint64_t ns)
{
	return (struct timespec){
		.tv_sec = (time_t)(ns / HK_NS_PER_SEC), .tv_nsec = (long)(ns % HK_NS_PER_SEC)};
}

#endif
