/* SPDX-License-Identifier: ISC */
/* The inside of kept layers, shared by layer_*_linux.c. */
#ifndef HK_FUSE_LAYER_IMPL_H
#define HK_FUSE_LAYER_IMPL_H

#include "fuse/layer.h"
#include "fuse/overlay_impl.h"

/** struct hk_layer - an overlay that nobody is served from */
struct hk_layer {
	struct hk_backend *backend; /* owned */
	struct hk_overlay *ov;      /* the same */
};

/** struct hk_change_list - owned, with the paths; sorted */
struct hk_change_list {
	struct hk_change *list;
	size_t count, cap;
};

/**
 * struct hk_changes - what is in a layer
 * @differ: what hk_layer_each() tells
 * @same: copies that are as what they are copies of; no directories
 */
struct hk_changes {
	struct hk_change_list differ, same;
};

int hk_changes_collect(struct hk_layer *layer, struct hk_changes *changes, struct hk_err *err);
void hk_changes_finish(struct hk_changes *changes);

/** hk_layer_find_links() - give names in the layer to what it has by number only: hard links of what was changed */
int hk_layer_find_links(struct hk_layer *layer);

/** struct hk_layer_names - what is in a directory, sorted, without "." and ".." */
struct hk_layer_names {
	char **list; /* owned */
	size_t count, cap;
};

/** hk_layer_names_add() - those of @dir (O_PATH; -1: none). Return: 0 or -errno */
int hk_layer_names_add(struct hk_layer_names *names, int dir);
/** hk_layer_names_sort() - and leave each once */
void hk_layer_names_sort(struct hk_layer_names *names);
void hk_layer_names_finish(struct hk_layer_names *names);

/** hk_layer_walk() - the directory that @path is in, from @root; *@ret_name points into @path. Return: O_PATH
 * descriptor or -errno */
int hk_layer_walk(int root, const char *path, const char **ret_name);

#endif
