/* SPDX-License-Identifier: ISC */
/*
 * Guest pages back to Linux: MADV_REMOVE punches a hole in the RAM memfd, so that the pages are
 * gone for all who map it, and read as zeros afterwards.
 *
 * Where RAM is not a shared mapping (a snapshot, mapped privately) the call is refused, and
 * rightly: the file behind it is no memory of ours to drop. Pages are then merely not saved,
 * which is no error.
 */
#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#include "base/log.h"
#include "virtio/balloon.h"

HK_LOG_CHANNEL("virtio");

static void release(
	struct hk_balloon_host *host, const struct hk_mem *mem, hk_gpa gpa, uint64_t len)
{
	void *at = hk_mem_at(mem, gpa, len);

	(void)host;
	/* seccomp: madvise:MADV_REMOVE */
	if (at == NULL || madvise(at, len, MADV_REMOVE) == 0) {
		return;
	}
	hk_log_debug("balloon: pages at %#llx stay: %s", (unsigned long long)gpa, strerror(errno));
}

struct hk_balloon_host hk_balloon_host_linux = {.release = release};
