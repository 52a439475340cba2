/* SPDX-License-Identifier: ISC */
/*
 * Copy-on-write: a backend (backend.h) that shows a directory of the host with an upper layer on
 * top. Changes go to the upper layer, a plain directory that stays when the run is over; hako diff
 * and apply read it (layer.h).
 *
 * The layer's format is overlayfs's with `userxattr`, so that no privilege is needed and the
 * kernel's tools know it: a removed name is a whiteout, a file of size 0 with xattr
 * user.overlay.whiteout (or a 0:0 character device where it may be made, both are read); a
 * directory with user.overlay.opaque "y" hides what is below; user.overlay.origin notes the
 * identity of what was copied up. (Overlayfs of Linux 6.7 reads whiteouts by xattr where the
 * directory has user.overlay.opaque "x".) A renamed directory is not copied: user.overlay.redirect
 * says where the lower one is (overlay_moved_linux.c). What overlayfs has not: hako.layer/version
 * in the layer's top directory beside `upper`, see hako-layer(5).
 *
 * An inode keeps its identity (st_dev, st_ino of the lower one) when it is copied up, hard links
 * are copied up as one, and a file open for reading sees what is written through another
 * descriptor.
 */
#ifndef HK_FUSE_OVERLAY_H
#define HK_FUSE_OVERLAY_H

#include "fuse/backend.h"

/**
 * struct hk_overlay_options
 * @lower: host path of the directory shown; resolved now, symbolic links allowed
 * @layer: host path of the layer's directory, which exists; `upper`, `work` and `version` in it are
 *	made
 * @is_cow: does this path (absolute, within @lower: "/etc/passwd") go to the upper layer? NULL:
 *	everything does. What does not is changed below. Asked when an object is reached
 */
struct hk_overlay_options {
	const char *lower;
	const char *layer;
	bool (*is_cow)(void *arg, const char *path);
	void *arg;
};

/**
 * hk_overlay_open() - Return: 0; -EBUSY where another run uses the layer; -EINVAL where it is none,
 * or of another version; what opening gave.
 */
int hk_overlay_open(const struct hk_overlay_options *options, struct hk_backend **ret_backend,
	struct hk_err *err);

#endif
