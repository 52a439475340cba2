/* SPDX-License-Identifier: ISC */
/*
 * Windows, as the monitor touches them: see mem_impl.h.
 *
 * Theory: pages of a window come and go, and belong to files that others cut short. Where the
 * kernel reads or writes them for us, a page that is not there is EFAULT. Where we do it ourselves
 * (a header that the guest put there) it is a signal, whose handler puts an empty page in the
 * place, so that the access succeeds the second time. What is lost is the guest's: an honest one
 * has no page there.
 *
 * The table is read by a signal handler, so it has no lock: an entry's length says that it is one.
 *
 * Limits: as many windows in a process as the table has entries. Threads that touch them do not
 * block SIGBUS or SIGSEGV.
 */
#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <sys/mman.h>

#include "base/util.h"
#include "engine/mem_impl.h"

enum { MAX_WINDOWS = 32 };

struct window {
	_Atomic uintptr_t start;
	_Atomic uint64_t len;
};

static struct window windows[MAX_WINDOWS];
static pthread_mutex_t windows_lock = PTHREAD_MUTEX_INITIALIZER; /* over entries made and taken */
static struct sigaction before_bus, before_segv;

static bool is_in_window(uintptr_t at)
{
	for (unsigned i = 0; i < MAX_WINDOWS; i++) {
		uint64_t len = atomic_load_explicit(&windows[i].len, memory_order_acquire);

		if (len != 0 && at - atomic_load(&windows[i].start) < len) {
			return true;
		}
	}
	return false;
}

static void on_fault(int signo, siginfo_t *info, void *context)
{
	const struct sigaction *before = signo == SIGBUS ? &before_bus : &before_segv;
	uintptr_t page = (uintptr_t)info->si_addr & ~(uintptr_t)(HK_PAGE_SIZE - 1);
	int saved = errno;

	if (is_in_window(page) &&
		mmap((void *)page, HK_PAGE_SIZE, PROT_READ | PROT_WRITE,
			MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1,
			0) != MAP_FAILED) {
		errno = saved;
		return;
	}
	if ((before->sa_flags & SA_SIGINFO) != 0) {
		before->sa_sigaction(signo, info, context);
		return;
	}
	/* The access fails again, and this time as if we had never been. */
	sigaction(signo, before, NULL);
}

static void install_handlers(void)
{
	struct sigaction action = {.sa_sigaction = on_fault, .sa_flags = SA_SIGINFO | SA_ONSTACK};

	sigemptyset(&action.sa_mask);
	sigaction(SIGBUS, &action, &before_bus);
	sigaction(SIGSEGV, &action, &before_segv);
}

int hk_window_guard(const void *start, uint64_t len_bytes)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;
	int r = -ENOSPC;

	pthread_once(&once, install_handlers);
	pthread_mutex_lock(&windows_lock);
	for (unsigned i = 0; r < 0 && i < MAX_WINDOWS; i++) {
		if (atomic_load(&windows[i].len) == 0) {
			atomic_store(&windows[i].start, (uintptr_t)start);
			/* Pairs with the acquire in is_in_window(). */
			atomic_store_explicit(&windows[i].len, len_bytes, memory_order_release);
			r = 0;
		}
	}
	pthread_mutex_unlock(&windows_lock);
	return r;
}

void hk_window_unguard(const void *start)
{
	pthread_mutex_lock(&windows_lock);
	for (unsigned i = 0; i < MAX_WINDOWS; i++) {
		if (atomic_load(&windows[i].len) != 0 &&
			atomic_load(&windows[i].start) == (uintptr_t)start) {
			atomic_store(&windows[i].len, 0);
		}
	}
	pthread_mutex_unlock(&windows_lock);
}
