/* SPDX-License-Identifier: ISC */
/* What /etc of a box says about the box, in place of what the host's says about the host. */
#ifndef HK_BOX_ETC_H
#define HK_BOX_ETC_H

#include "base/err.h"
#include "box/layout.h"
#include "control/control.h"

/**
 * hk_etc_add() - steps for the layer above the host's /etc
 * @upper: where they go; errors stick to it
 * @dir: what stands before each path: "" where the overlay's root is /etc
 * @name: of the box, or NULL
 * @host_root: "" for the host's own root
 *
 * Return: 0, or -errno.
 */
int hk_etc_add(struct hk_control_builder *upper, const char *dir, const char *name,
	const struct hk_box_user *user, const char *host_root, const char *machine_id,
	struct hk_err *err);

/** hk_etc_add_names() - only hostname, hosts, resolv.conf and machine-id; for other systems' /etc
 */
void hk_etc_add_names(struct hk_control_builder *upper, const char *dir, const char *name,
	const char *machine_id);

/** hk_box_hostname() - the box's name, or "hako" */
const char *hk_box_hostname(const char *name);

#endif
