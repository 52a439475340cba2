/* SPDX-License-Identifier: ISC */
/* Landlock's system calls: see landlock_linux.h. */
#include "base/landlock_linux.h"

#include <sys/syscall.h>
#include <unistd.h>

#ifndef SYS_landlock_create_ruleset
#define SYS_landlock_create_ruleset 444
#define SYS_landlock_restrict_self  446
#endif

enum { CREATE_RULESET_VERSION = 1 };

int hk_landlock_abi(void)
{
	long abi = syscall(SYS_landlock_create_ruleset, NULL, 0, CREATE_RULESET_VERSION);

	return abi < 0 ? 0 : (int)abi;
}

int hk_landlock_create(int abi, const struct hk_landlock_attr *attr, struct hk_err *err)
{
	/* A kernel takes no bytes that it does not know, unless they are zero. */
	size_t size = abi >= HK_LANDLOCK_SCOPED ? 24 : abi >= 4 ? 16 : 8;
	int fd = (int)syscall(SYS_landlock_create_ruleset, attr, size, 0);

	return fd < 0 ? hk_fail(err, errno, "Landlock") : fd;
}

int hk_landlock_restrict(int ruleset_fd, struct hk_err *err)
{
	return syscall(SYS_landlock_restrict_self, ruleset_fd, 0) < 0
		? hk_fail(err, errno, "Landlock")
		: 0;
}
