/* SPDX-License-Identifier: ISC */
/* One open file for all who only read a node (share.c). All functions: any thread. */
#ifndef HK_FUSE_SHARE_H
#define HK_FUSE_SHARE_H

#include "fuse/node.h"

/**
 * hk_share_open() - the file that others have opened for reading already
 * @node: pinned
 * @st: of now
 *
 * Return: a file, to be given back with hk_share_close(); -1: there is none, or it is not of now.
 */
int hk_share_open(struct hk_nodes *nodes, struct hk_node *node, const struct hk_stat *st);

/**
 * hk_share_offer() - let others use @file, which was just opened for reading, and for nothing else
 * @node: pinned by the caller, whose object must be the node's own
 *
 * Return: is it shared now? Then @file is the node's object, and the caller gives it back with
 * hk_share_close(); what was the object is closed.
 */
bool hk_share_offer(
	struct hk_nodes *nodes, struct hk_node *node, const struct hk_stat *st, int file);

/** hk_share_close() - one user less; the node is there still */
void hk_share_close(struct hk_nodes *nodes, struct hk_node *node);

#endif
