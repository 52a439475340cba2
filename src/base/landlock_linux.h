/* SPDX-License-Identifier: ISC */
/*
 * Landlock, as the kernel has it. Headers may be older than the kernel, so structures and rights
 * stand here.
 *
 * Source: linux/landlock.h; Documentation/userspace-api/landlock.rst.
 */
#ifndef HK_BASE_LANDLOCK_LINUX_H
#define HK_BASE_LANDLOCK_LINUX_H

#include <assert.h>
#include <stdint.h>

#include "base/err.h"

enum { HK_LANDLOCK_SCOPED = 6 }; /* the version that knows of scopes */

/* What is made outside of the domain cannot be reached from inside. */
enum {
	HK_LANDLOCK_SCOPE_ABSTRACT_UNIX_SOCKET = 1 << 0,
	HK_LANDLOCK_SCOPE_SIGNAL = 1 << 1,
};

/** struct hk_landlock_attr - landlock_ruleset_attr: what is refused, but for what rules allow */
struct hk_landlock_attr {
	uint64_t handled_access_fs;
	uint64_t handled_access_net; /* since version 4 */
	uint64_t scoped;             /* since version 6 */
};
static_assert(sizeof(struct hk_landlock_attr) == 24, "linux/landlock.h: landlock_ruleset_attr");

/** hk_landlock_abi() - version of the kernel's Landlock; 0 where there is none */
int hk_landlock_abi(void);

/**
 * hk_landlock_create() - what @abi does not know of @attr is left out. Return: a descriptor of the
 * ruleset, or -errno
 */
int hk_landlock_create(int abi, const struct hk_landlock_attr *attr, struct hk_err *err);

/**
 * hk_landlock_restrict() - the calling thread, and what it starts, for good. Takes no_new_privs.
 * Return: 0 or -errno
 */
int hk_landlock_restrict(int ruleset_fd, struct hk_err *err);

#endif
