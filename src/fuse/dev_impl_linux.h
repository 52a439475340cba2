/* SPDX-License-Identifier: ISC */
/* Shared by dev_*_linux.c only. */
#ifndef HK_FUSE_DEV_IMPL_LINUX_H
#define HK_FUSE_DEV_IMPL_LINUX_H

#include <linux/fuse.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

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

/**
 * struct hk_fuse_load - how a thread keeps up with its requests (dev_load_linux.c); its own
 * @rest: how often it will sleep without trying again
 * @backlog: requests in a row that waited already, each of another thread than the one before
 */
struct hk_fuse_load {
	unsigned rest, rest_next;
	unsigned backlog;
	uint32_t last_pid;
};

uint64_t hk_fuse_load_now_ns(void);

/**
 * hk_fuse_load_offer_core() - there is nothing to read: let others run, who may ask
 * @since_ns: of this wait; 0: it begins
 *
 * Return: true: try again; false: sleep.
 */
bool hk_fuse_load_offer_core(struct hk_fuse_load *load, uint64_t *since_ns);
/** hk_fuse_load_got_one() - trying again was worth while */
void hk_fuse_load_got_one(struct hk_fuse_load *load);

/**
 * hk_fuse_load_is_behind() - is there more to do than one thread can? @tries: reads it took; 1: it
 * was there
 */
bool hk_fuse_load_is_behind(
	struct hk_fuse_load *load, const struct fuse_in_header *head, unsigned tries);

/** hk_fuse_load_takes_long() - does such a request, as a rule? */
bool hk_fuse_load_takes_long(uint32_t opcode);

#endif
