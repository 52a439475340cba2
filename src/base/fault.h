/* SPDX-License-Identifier: ISC */
/*
 * Fault injection: fail the Nth allocation or system call that passes through
 * this hook. Tests loop over N until a run passes with no fault fired, and so
 * visit every error path. In a release build (-Dfault=false) the hook is a constant.
 *
 * Code under test calls hk_malloc() and friends (alloc.h), which ask the hook, and puts
 * `if (hk_fault(HK_FAULT_SYSCALL)) { errno = EIO; ... }` inside its system call wrappers (sys.h).
 */
#ifndef HK_BASE_FAULT_H
#define HK_BASE_FAULT_H

#include <stdbool.h>
#include <stdint.h>

enum hk_fault_kind {
	HK_FAULT_ALLOC = 1u << 0,
	HK_FAULT_SYSCALL = 1u << 1,
};

/** hk_fault_arm() - let the @nth (from 1) operation of @kinds fail, once; @nth 0 disarms */
void hk_fault_arm(unsigned kinds, uint64_t nth);

/** hk_fault_fired() - did the armed fault happen? */
bool hk_fault_fired(void);

/** hk_fault() - shall this operation fail? Any thread. */
#ifdef HK_WITH_FAULT
bool hk_fault(enum hk_fault_kind kind);
#else
static inline bool hk_fault(enum hk_fault_kind kind)
{
	(void)kind;
	return false;
}
#endif

#endif
