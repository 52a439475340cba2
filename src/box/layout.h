/* SPDX-License-Identifier: ISC */
/*
 * What the file tree of a box looks like: which directories of the host the file server exports,
 * and the steps by which the guest's agent puts them, and all that is the box's own, in place.
 *
 * Looks at the host's files (which of /bin, /lib64, ... are links, what is in /etc), changes none.
 */
#ifndef HK_BOX_LAYOUT_H
#define HK_BOX_LAYOUT_H

#include <stdbool.h>

#include "base/err.h"
#include "box/box.h"
#include "control/control.h"
#include "fuse/server.h"

enum {
	HK_LAYOUT_MAX_EXPORTS = HK_BOX_MAX_SHARES + 16,
	HK_EXPORT_NAME_SIZE = 16,
	HK_USER_NAME_SIZE = 33,
};

/** struct hk_box_user - who the command runs as, in the box */
struct hk_box_user {
	uid_t uid;
	gid_t gid;
	char name[HK_USER_NAME_SIZE];
	char home[HK_USER_NAME_SIZE + 8];
};

/** struct hk_layout - zero-initialize, then hk_layout_make(); hk_layout_finish() in any case */
struct hk_layout {
	const struct hk_box_config *config; /* borrowed */
	struct hk_box_user user;
	struct hk_fuse_export
		exports[HK_LAYOUT_MAX_EXPORTS]; /* name and path point into names, paths */
	char names[HK_LAYOUT_MAX_EXPORTS][HK_EXPORT_NAME_SIZE];
	char *paths[HK_LAYOUT_MAX_EXPORTS];        /* owned */
	const char *layers[HK_LAYOUT_MAX_EXPORTS]; /* borrowed; where changes go instead, or NULL */
	unsigned export_count;
	struct hk_control_builder steps;
	char workdir[HK_CONTROL_MAX_PATH + 1];
};

/**
 * hk_box_user_init() - the caller; root only with as_root: otherwise the host's root is uid 1000
 */
void hk_box_user_init(struct hk_box_user *user, const struct hk_box_config *config);

/**
 * hk_layout_make() - work out exports and steps
 * @host_root: "" for the host's own root; in tests the path of a made-up one
 * @machine_id: 32 hexadecimal digits for /etc/machine-id
 */
int hk_layout_make(struct hk_layout *layout, const struct hk_box_config *config,
	const char *host_root, const char *machine_id, struct hk_err *err);
void hk_layout_finish(struct hk_layout *layout);

/** hk_export_is_share() - is it one of the user's, as opposed to the system? */
bool hk_export_is_share(const char *export_name);

/** hk_layout_share() - the share behind an export; NULL if it is none */
const struct hk_share *hk_layout_share(const struct hk_layout *layout, const char *export_name);

/**
 * hk_layout_map() - the host's @path, absolute or NULL, as the box sees it. Return: false if no
 * share shows it
 */
bool hk_layout_map(
	const struct hk_box_config *config, const char *path, char *ret_path, size_t size);

/** hk_layout_workdir() - where the command starts; borrowed from config or layout */
const char *hk_layout_workdir(struct hk_layout *layout);

#endif
