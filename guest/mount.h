/* SPDX-License-Identifier: ISC */
/*
 * Mounts as descriptors: a mount is made detached, changed, then attached where a descriptor
 * points. So no path is looked up twice, and none from the wrong root.
 *
 * All return a descriptor (close-on-exec) or 0, or -errno. Needs Linux 5.12.
 */
#ifndef HK_GUEST_MOUNT_H
#define HK_GUEST_MOUNT_H

#include <stdbool.h>

struct hk_mount_option {
	const char *key;
	const char *value;
};

enum {
	HK_MOUNT_RO = 1 << 0,
	HK_MOUNT_NOSUID = 1 << 1,
	HK_MOUNT_NODEV = 1 << 2,
	HK_MOUNT_NOEXEC = 1 << 3,
};

/**
 * hk_mount_new() - a new file system, detached
 * @options: end with a NULL key, or NULL; "source" comes first, and is @type by default
 */
int hk_mount_new(const char *type, const struct hk_mount_option *options, unsigned flags);

/** hk_mount_clone() - what is at @name in @dir_fd, detached; @name may not be a symbolic link */
int hk_mount_clone(int dir_fd, const char *name);

/** hk_mount_set() - add @flags to a mount */
int hk_mount_set(int mount_fd, unsigned flags);

/** hk_mount_attach() - put a detached mount on what @target_fd refers to */
int hk_mount_attach(int mount_fd, int target_fd);

/** hk_mount_open() - openat2() with @root_fd as the root that nothing leads out of */
int hk_mount_open(int root_fd, const char *path, int flags);

#endif
