/* SPDX-License-Identifier: ISC */
/*
 * From one inode to another: data, extended attributes, owner, mode, times. For copy-up and for
 * hako apply.
 */
#ifndef HK_FUSE_TRANSFER_H
#define HK_FUSE_TRANSFER_H

#include <stdbool.h>

#include "fuse/backend.h"

/**
 * hk_transfer_data() - all data of one open file into another, empty one; holes stay holes
 *
 * Shares blocks where the file system can. Return: 0 or -errno.
 */
int hk_transfer_data(int from, int to, uint64_t size_bytes);

/**
 * struct hk_transfer_left - what could not be transferred: the owner, for a monitor that is not
 * root
 */
struct hk_transfer_left {
	bool uid, gid;
};

/**
 * hk_transfer_meta() - owner, extended attributes, mode, times, in this order
 * @host: a host backend (hk_host_open()); @from, @to: its objects, of one type
 * @st: of @from, as it was when its data was copied
 * @is_ours: attributes that stay behind
 *
 * An owner that may not be given is noted in *@left, and set-id bits then stay behind, but of
 * directories. Attributes that the target cannot hold or the caller may not set (security.*,
 * trusted.*) stay behind, too.
 *
 * Return: 0 or -errno: -ENOSPC, -E2BIG, ...
 */
int hk_transfer_meta(struct hk_backend *host, int from, int to, const struct hk_stat *st,
	bool (*is_ours)(const char *name), struct hk_transfer_left *left);

#endif
