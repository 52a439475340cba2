/* SPDX-License-Identifier: ISC */
/*
 * Confinement: what the monitor gives up before the guest runs, so that a guest which broke out of
 * a device's code finds a process that can do almost nothing.
 *
 *	no new privileges   no program gains rights by being executed
 *	empty view          root only: of the host's file tree only open descriptors are left
 *	Landlock            files: below the box's exports only, as is allowed there; as newer
 *	                    kernels have it, no TCP, no signals or abstract sockets of others
 *	capabilities        none, but for those with which root serves files of others
 *	seccomp             the system calls named in comments at their call sites
 *
 * All of it is inherited by threads started later, and nothing can be taken back. None needs root.
 *
 * What it does not do:
 *
 * A user namespace, which the empty view needs in a monitor that is not root's. In one, ids that
 * are not mapped all read as 65534, and a user may map one id only: every file of root's in the
 * box's /usr would belong to nobody, and no file could be given to another of the user's groups. So
 * there, Landlock stands for the view. It does not restrict looking at attributes (stat, readlink,
 * getxattr). Nor changing them: those calls are allowed in boxes with a writable share only, and
 * then they reach what is the user's own. Before Linux 6.2 truncate is one of them.
 *
 * Before Linux 5.19 Landlock refuses every rename from one directory to another, so a box with a
 * writable share goes without it there.
 *
 * Descriptors that are open are not taken away: disks, the standard streams, /dev/kvm, and what
 * hako's caller has let it inherit.
 */
#ifndef HK_BOX_CONFINE_H
#define HK_BOX_CONFINE_H

#include <stdbool.h>
#include <stddef.h>

#include "base/err.h"

enum { HK_CONFINE_TEXT_SIZE = 128 };

/**
 * struct hk_confine_tree - a directory, or one file, that the file server goes on serving
 * @path: of the host; borrowed
 * @writable: the guest may change it
 * @is_public: only what every user of the host may read, so no capability is needed for it
 */
struct hk_confine_tree {
	const char *path;
	bool writable;
	bool is_public;
};

/**
 * struct hk_confine_needs - what the monitor goes on doing
 * @trees: @tree_count of them; borrowed
 * @has_disks: so it does what disks need
 * @nodev: no tree is open but through mounts where device nodes cannot be opened; so those that are
 *	written to may get some
 */
struct hk_confine_needs {
	const struct hk_confine_tree *trees;
	unsigned tree_count;
	bool has_disks;
	bool nodev;
};

/**
 * hk_confine() - give up everything else, for ever
 * @ret_text: HK_CONFINE_TEXT_SIZE bytes: what is active, for the user who wants to know
 *
 * Only thread of the process, when all is open that is named by path. What the kernel does not
 * offer is left out and is not in @ret_text: the box is a machine of its own in any case.
 *
 * Refused system calls give EPERM (ENOSYS where libc has another way); those which only an attacker
 * makes end the process (SIGSYS). With debug lines of channel "confine" each of the former is
 * told.
 *
 * Return: 0; -EBUSY if there are other threads; -ENOMEM; what the kernel said where it offers
 * something and then refuses it.
 */
int hk_confine(const struct hk_confine_needs *needs, char *ret_text, struct hk_err *err);

/**
 * hk_confine_probe() - what hk_confine() would find here, without doing it
 * @text: HK_CONFINE_TEXT_SIZE bytes
 *
 * Return: false where something is missing.
 */
bool hk_confine_probe(char *text);

#endif
