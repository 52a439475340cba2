/* SPDX-License-Identifier: ISC */
/* Shared by dev_*_linux.c only. */
#ifndef HK_FUSE_DEV_IMPL_LINUX_H
#define HK_FUSE_DEV_IMPL_LINUX_H

#include <stdatomic.h>

#include "fuse/server.h"

/**
 * struct hk_fuse_tell - a way to tell the kernel things (dev_tell_linux.c); any thread
 * @fd: of the mount; borrowed
 * @no_backing: the kernel does not let us pass files through
 */
struct hk_fuse_tell {
	struct hk_fuse_transport transport;
	int fd;
	atomic_bool no_backing;
};

void hk_fuse_tell_init(struct hk_fuse_tell *tell, int fd);

#endif
