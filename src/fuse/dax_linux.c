/* SPDX-License-Identifier: ISC */
/*
 * The window's memory: see dax.h.
 *
 * Theory: the window is reserved once and never given back while the server lives; what it shows is
 * replaced in place (MAP_FIXED), which is atomic to whoever looks. KVM hears of it through the
 * kernel's own notifier.
 *
 * Limits: pages are mapped for data only. The guest may execute what it sees there all the same:
 * that is its page tables' business.
 */
#include <errno.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "fuse/dax.h"

static int map(uint8_t *at, size_t len, int prot, int flags, int fd, uint64_t offset)
{
	return mmap(at, len, prot, flags | MAP_FIXED, fd, (off_t)offset) == MAP_FAILED ? -errno : 0;
}

int hk_dax_map(uint8_t *at, size_t len, int fd, uint64_t offset, bool writable)
{
	return map(at, len, writable ? PROT_READ | PROT_WRITE : PROT_READ, MAP_SHARED, fd, offset);
}

int hk_dax_unmap(uint8_t *at, size_t len)
{
	return map(at, len, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
}

int hk_dax_stand_in(uint8_t *at, size_t len)
{
	return map(at, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1,
		0);
}

bool hk_dax_can_read(const uint8_t *at)
{
	/*
	 * The kernel reads the mask for us before it finds that there is no such thing to do with
	 * it: EFAULT where it could not, and no signal. Seven bytes more than asked for are in the
	 * same page.
	 */
	enum { NOTHING_TO_DO = 1000, MASK_BYTES = 8 };

	/* seccomp: rt_sigprocmask */
	return syscall(SYS_rt_sigprocmask, NOTHING_TO_DO, at, NULL, MASK_BYTES) < 0 &&
		errno == EINVAL;
}
