/* SPDX-License-Identifier: ISC */
/* Files whose data the kernel moves by itself (pass.c). All functions: any thread. */
#ifndef HK_FUSE_PASS_H
#define HK_FUSE_PASS_H

#include "fuse/server_impl.h"

/**
 * hk_pass_open() - settle whose data it is: the kernel's own business, or ours to be asked for
 * @file: open, of a pinned node
 * @st: of now
 * @flags: of open(2)
 * @by: becomes the handle's, or is given to hk_pass_close() where there will be none
 * @ret_backing_id: for the reply; set where @by->passthrough comes out true, and then the only
 * other flag of the reply may be FOPEN_NOFLUSH
 */
void hk_pass_open(struct hk_fuse_server *server, struct hk_node *node, int file,
	const struct hk_stat *st, uint32_t flags, struct hk_opener *by, int32_t *ret_backing_id);

/** hk_pass_close() - an open file is closed */
void hk_pass_close(struct hk_nodes *nodes, struct hk_node *node, const struct hk_opener *by);

/**
 * hk_pass_drop() - the node's object goes: keep no file open in the kernel either. Node's stripe
 * held, unless nothing else runs.
 */
void hk_pass_drop(struct hk_nodes *nodes, struct hk_node *node);

#endif
