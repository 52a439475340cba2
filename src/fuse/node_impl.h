/* SPDX-License-Identifier: ISC */
/* Shared by node.c, node_obj.c and handle.c only. */
#ifndef HK_FUSE_NODE_IMPL_H
#define HK_FUSE_NODE_IMPL_H

#include "fuse/node.h"

/* One of `refs` less. */
void hk_node_unref(struct hk_nodes *nodes, struct hk_node *node);

/* Closes the object, if there is one. Node's stripe held, unless nothing else runs. */
void hk_node_drop_obj(struct hk_nodes *nodes, struct hk_node *node);

struct hk_handle;

/* Gives a handle back where only the nodes are at hand; NULL is fine. */
void hk_handle_put_of(struct hk_nodes *nodes, struct hk_handle *handle);

#endif
