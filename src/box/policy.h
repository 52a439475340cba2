/* SPDX-License-Identifier: ISC */
/*
 * What a box may do to which files, and the record of what it does: one set of rules and one audit
 * for all its exports.
 *
 * Rules and record speak of paths as the command in the box sees them. What the box keeps in its
 * own memory (/tmp, the home directory, what is written to a --rootfs) is nobody's business here:
 * it does not come to the file server.
 */
#ifndef HK_BOX_POLICY_H
#define HK_BOX_POLICY_H

#include "box/layout.h"
#include "fuse/audit.h"
#include "fuse/rules.h"

/** struct hk_box_cow - which paths of an export go to its layer */
struct hk_box_cow {
	struct hk_rules *rules; /* borrowed; NULL: all do */
	const char *root;       /* borrowed; the export's, in the box */
};

/**
 * struct hk_box_policy - zero-initialize, then hk_box_policy_make(); hk_box_policy_finish() in any
 * case
 */
struct hk_box_policy {
	struct hk_rules *rules; /* owned; NULL: there are none */
	struct hk_audit *audit; /* owned; NULL: there is none */
	struct hk_audit_root roots[HK_LAYOUT_MAX_EXPORTS];
	struct hk_box_cow cows[HK_LAYOUT_MAX_EXPORTS];
	char home[HK_CONTROL_MAX_PATH + 1];
};

/**
 * hk_box_policy_make() - read the policy, open the audit, and give both to the exports of @layout
 *
 * Return: 0; -EINVAL for a policy with an error, or with rules that cannot hold in this box; what
 * reading gave.
 */
int hk_box_policy_make(struct hk_box_policy *policy, struct hk_layout *layout, struct hk_err *err);

/**
 * hk_box_policy_start() - the audit's thread; before those of the file server. Return: 0 or -errno
 */
int hk_box_policy_start(struct hk_box_policy *policy, struct hk_err *err);

/**
 * hk_box_policy_open() - the backend of export number @index, where it has a layer; else leaves
 * @ret_backend alone
 */
int hk_box_policy_open(struct hk_box_policy *policy, const struct hk_layout *layout, unsigned index,
	struct hk_backend **ret_backend, struct hk_err *err);

void hk_box_policy_finish(struct hk_box_policy *policy); /* no file server uses it any more */

#endif
