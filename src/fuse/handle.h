/* SPDX-License-Identifier: ISC */
/*
 * Handles: files the guest has open, by the 64-bit number it gives back with each request (fh).
 *
 * The number is (generation, slot), checked against a table whose memory stays as long as the
 * server: a number the guest made up, or one of a file it has closed, finds nothing. A handle is
 * closed when the guest has released it and no request uses it. All functions: any thread.
 */
#ifndef HK_FUSE_HANDLE_H
#define HK_FUSE_HANDLE_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "fuse/node.h"

enum {
	HK_HANDLE_CHUNK = 256,
	HK_HANDLE_CHUNKS = 4096,
};

struct hk_dir;

/* How an open file is counted at its node: see pass.c. */
enum hk_io { HK_IO_UNKNOWN, HK_IO_ASKED, HK_IO_PASSED };

/**
 * struct hk_opener - of a file: who opened it, and what it was then
 * @passthrough: the kernel moves its data by itself
 * @cached_bytes: or has so many of them still, and reads these without us
 * @shared: the file is the node's (share.c), not the handle's own
 * @mapped: the guest does, in the window (dax.h)
 */
struct hk_opener {
	pid_t pid;
	uid_t uid;
	int64_t ctime_ns;
	uint64_t size;
	uint64_t cached_bytes;
	bool passthrough, mapped, shared;
	enum hk_io io;
};

/**
 * struct hk_handle - an open file or directory
 * @state: generation << 32 | references; no references: a free slot
 * @open: the guest has not released it yet
 * @flags: open(2) flags the guest gave, O_ACCMODE and O_APPEND among them
 * @file: of the backend; -1: lost in a restore (ESTALE)
 */
struct hk_handle {
	_Atomic uint64_t state;
	atomic_bool open;
	uint32_t index;
	uint32_t flags;
	uint64_t nodeid;
	struct hk_node *node; /* counted in its refs */
	int file;
	struct hk_dir *dir; /* owned; a listing in progress, for directories only */
	/* For the audit: who opened it, what it was then, what went through it. */
	struct hk_opener by;
	_Atomic uint64_t bytes_read, bytes_written;
	struct hk_handle *prev; /* of the same node; under its stripe */
	struct hk_handle *next;
	uint32_t free_next; /* under the table's lock */
};

struct hk_handles {
	struct hk_nodes *nodes; /* borrowed */
	_Atomic(struct hk_handle *) chunks[HK_HANDLE_CHUNKS];
	pthread_mutex_t lock;
	uint32_t free_first;
	uint32_t next_fresh; /* as in struct hk_nodes */
	uint32_t end;
};

int hk_handles_init(struct hk_handles *handles, struct hk_nodes *nodes);
void hk_handles_finish(struct hk_handles *handles); /* after hk_handles_release_all() */

/**
 * hk_handles_add() - a new handle; @node is pinned; @file and @dir become the handle's on success
 *
 * @by: NULL: for directories. Its descriptor has been reserved with hk_fds_reserve(); the handle
 * releases it. The guest may do so before this returns: the caller uses neither @file nor @dir any
 * more.
 * Return: 0 or -ENOMEM.
 */
int hk_handles_add(struct hk_handles *handles, struct hk_node *node, int file, struct hk_dir *dir,
	uint32_t flags, const struct hk_opener *by, uint64_t *ret_fh);
/** hk_handles_restore() - the same under the number it had. Return: also -EEXIST. */
int hk_handles_restore(struct hk_handles *handles, struct hk_node *node, int file,
	struct hk_dir *dir, uint32_t flags, uint64_t fh);
void hk_handles_restored(struct hk_handles *handles);

/** hk_handles_get() - Return: the handle, referenced, or NULL where @fh is not one of @nodeid's */
struct hk_handle *hk_handles_get(struct hk_handles *handles, uint64_t fh, uint64_t nodeid);
/** hk_handle_try_ref() - a further reference. Return: false if the last one is just going. */
bool hk_handle_try_ref(struct hk_handle *handle);
void hk_handle_put(struct hk_handles *handles, struct hk_handle *handle); /* NULL is fine */

/**
 * hk_handle_release() - the guest closes the file; the caller's own reference goes, too
 * @handle: from hk_handles_get()
 *
 * Return: 0 or -EBADF: it had done so before.
 */
int hk_handle_release(struct hk_handles *handles, struct hk_handle *handle);
void hk_handles_release_all(struct hk_handles *handles);

static inline uint64_t hk_handle_fh(const struct hk_handle *h)
{
	return (atomic_load_explicit(&h->state, memory_order_relaxed) & ~UINT64_C(0xffffffff)) |
		h->index;
}

/** hk_handles_each() - the next open handle from slot *@cursor on; for save, nothing else running
 */
struct hk_handle *hk_handles_each(struct hk_handles *handles, uint32_t *cursor);

#endif
