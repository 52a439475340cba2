/* SPDX-License-Identifier: ISC */
/*
 * A kept layer of copy-on-write: what is in it, and how it gets below. The format is in overlay.h
 * and hako-layer(5).
 */
#ifndef HK_FUSE_LAYER_H
#define HK_FUSE_LAYER_H

#include <stdbool.h>
#include <stdio.h>
#include <sys/stat.h>

#include "base/err.h"

enum hk_change_kind {
	HK_CHANGE_ADDED,
	HK_CHANGE_CHANGED,
	HK_CHANGE_DELETED,
	HK_CHANGE_METADATA,
	HK_CHANGE_RENAMED, /* a directory; what has changed in it follows */
};

/**
 * struct hk_change - one path that differs
 * @path: from the lower directory, "usr/bin/hello"
 * @old_path: where it is below: what was renamed, and what is in it, has another than @path
 * @replaces: renamed to where something else is below, which goes
 * @conflict: below has changed since it was copied up
 * @sets_time: a directory whose time was set to an earlier one
 * @loses_owner: replaces what has an owner or a group that whoever applies it cannot give
 */
struct hk_change {
	enum hk_change_kind kind;
	const char *path, *old_path;
	struct stat lower, upper; /* of what exists */
	bool replaces;
	bool conflict;
	bool sets_time;
	bool loses_owner;
};

struct hk_layer;

/** hk_layer_lower() - what the layer at @path was made over. @ret_lower: free() */
int hk_layer_lower(const char *path, char **ret_lower, struct hk_err *err);

/**
 * hk_layer_open() - @layer as in struct hk_overlay_options; @lower: what it was made over. Return:
 * as hk_overlay_open()
 */
int hk_layer_open(
	const char *layer, const char *lower, struct hk_layer **ret_layer, struct hk_err *err);
void hk_layer_close(struct hk_layer *layer); /* NULL is fine */

/**
 * hk_layer_each() - all changes, sorted by path, directories before what is in them. @each returns
 * != 0 to stop. Return: what @each gave, or -errno
 */
int hk_layer_each(struct hk_layer *layer, int (*each)(void *arg, const struct hk_change *change),
	void *arg, struct hk_err *err);

/**
 * hk_layer_diff() - write a unified diff of one changed text file, or a line that says what is
 * different; before it, a line of modes, owners and attributes that applying it makes, where they
 * are unusual or others than below
 */
int hk_layer_diff(
	struct hk_layer *layer, const struct hk_change *change, FILE *to, struct hk_err *err);

/**
 * hk_layer_apply() - bring changes below: each file by a temporary one, fsync and rename
 * @paths: only these and what is in them, with what has to come first; NULL: all
 * @force: also where below has changed meanwhile, or an owner is lost; else these are left and
 *	counted
 * @left: told of each change that is left, and why, as words: those, and what could not be made
 *
 * What has been applied leaves the layer. Return: number of conflicts; -ENOENT where a path has no
 * change, then nothing was done; -errno: what was done stays done. Where a change cannot be made,
 * the others are; but a full disk, and the like, ends it at once.
 */
int hk_layer_apply(struct hk_layer *layer, const char *const *paths, bool force,
	void (*left)(void *arg, const struct hk_change *change, const char *why), void *arg,
	struct hk_err *err);

/** hk_layer_empty() - remove all that is in directory @dir, however deep. Return: 0 or -errno */
int hk_layer_empty(int dir);

#endif
