/* SPDX-License-Identifier: ISC */
/*
 * Fault injection: the counter behind the hook.
 *
 * Theory: one armed fault for the process. hk_fault() counts down on operations of the armed
 * kinds and answers true for the one that takes the counter from 1 to 0; exactly one thread sees
 * that. Further operations wrap the counter round to huge values and never meet 1 again.
 *
 * Limits: arming while other threads are inside operations is safe but the count is then
 * approximate. Without -Dfault=true arming does nothing and no fault ever fires.
 */
#include "base/fault.h"

#include <stdatomic.h>

static _Atomic unsigned armed_kinds;
static _Atomic uint64_t remaining;
static atomic_bool fired;

void hk_fault_arm(unsigned kinds, uint64_t nth)
{
	atomic_store(&armed_kinds, 0);
	atomic_store(&fired, false);
	atomic_store(&remaining, nth);
	if (nth != 0) {
		atomic_store(&armed_kinds, kinds);
	}
}

bool hk_fault_fired(void)
{
	return atomic_load(&fired);
}

#ifdef HK_WITH_FAULT
bool hk_fault(enum hk_fault_kind kind)
{
	if ((atomic_load_explicit(&armed_kinds, memory_order_relaxed) & kind) == 0) {
		return false;
	}
	if (atomic_fetch_sub(&remaining, 1) != 1) {
		return false;
	}
	atomic_store(&armed_kinds, 0);
	atomic_store(&fired, true);
	return true;
}
#endif
