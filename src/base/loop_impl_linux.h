/* SPDX-License-Identifier: ISC */
/* What the files of the loop share: eventfds, timerfds and the fault hook. Not for others. */
#ifndef HK_BASE_LOOP_IMPL_LINUX_H
#define HK_BASE_LOOP_IMPL_LINUX_H

#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <unistd.h>

#include "base/fault.h"

/* Does the fault hook want this system call to fail? It stands for EIO then. */
static inline bool hk_loop_faulted(void)
{
	if (hk_fault(HK_FAULT_SYSCALL)) {
		errno = EIO;
		return true;
	}
	return false;
}

/* Makes an eventfd readable; keeps errno, for signal handlers. A full counter is readable too. */
static inline void hk_loop_raise_eventfd(int fd)
{
	const uint64_t one = 1;
	int saved_errno = errno;
	ssize_t n;

	do {
		n = write(fd, &one, sizeof(one));
	} while (n < 0 && errno == EINTR);
	errno = saved_errno;
}

/* Empties an eventfd or a timerfd; not an error if it was empty. */
static inline void hk_loop_clear_counter(int fd)
{
	uint64_t count;
	ssize_t n;

	do {
		n = read(fd, &count, sizeof(count));
	} while (n < 0 && errno == EINTR);
}

#endif
