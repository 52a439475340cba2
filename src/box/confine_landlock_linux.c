/* SPDX-License-Identifier: ISC */
/*
 * Landlock: see confine.h.
 *
 * Theory: rules hang on inodes. An access is allowed if the file, or a directory above it on the
 * way to the root of the mount tree it was reached in, has a rule that grants it; so descriptors
 * that were opened before count as well, and so does what is reopened through /proc/self/fd. All
 * rights that the kernel's version knows are taken under control, and what no rule grants is
 * refused: execution of anything, for one.
 *
 * Source: linux/landlock.h; Documentation/userspace-api/landlock.rst.
 */
#include <assert.h>
#include <fcntl.h>
#include <stdint.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/landlock_linux.h"
#include "base/sys.h"
#include "base/util.h"
#include "box/confine_impl_linux.h"

#ifndef SYS_landlock_add_rule
#define SYS_landlock_add_rule 445
#endif

enum { RULE_PATH_BENEATH = 1 };

enum {
	FS_EXECUTE = 1 << 0,
	FS_WRITE_FILE = 1 << 1,
	FS_READ_FILE = 1 << 2,
	FS_READ_DIR = 1 << 3,
	FS_REMOVE_DIR = 1 << 4,
	FS_REMOVE_FILE = 1 << 5,
	FS_MAKE_CHAR = 1 << 6,
	FS_MAKE_DIR = 1 << 7,
	FS_MAKE_REG = 1 << 8,
	FS_MAKE_SOCK = 1 << 9,
	FS_MAKE_FIFO = 1 << 10,
	FS_MAKE_BLOCK = 1 << 11,
	FS_MAKE_SYM = 1 << 12,
	FS_REFER = 1 << 13,     /* version 2 */
	FS_TRUNCATE = 1 << 14,  /* version 3 */
	FS_IOCTL_DEV = 1 << 15, /* version 5 */

	FS_FIRST_VERSION = FS_REFER - 1,
	FS_FOR_READING = FS_READ_FILE | FS_READ_DIR,
	/*
	 * Character devices: overlay file systems use one as a mark. Blocks are for who may make
	 * them.
	 */
	FS_FOR_WRITING = FS_FOR_READING | FS_WRITE_FILE | FS_REMOVE_DIR | FS_REMOVE_FILE |
		FS_MAKE_CHAR | FS_MAKE_DIR | FS_MAKE_REG | FS_MAKE_SOCK | FS_MAKE_FIFO |
		FS_MAKE_SYM | FS_REFER | FS_TRUNCATE,
	/* A rule for something that is no directory may hold no other rights. */
	FS_OF_FILES = FS_EXECUTE | FS_WRITE_FILE | FS_READ_FILE | FS_TRUNCATE | FS_IOCTL_DEV,
};

enum { NET_BIND_TCP = 1 << 0, NET_CONNECT_TCP = 1 << 1 }; /* version 4 */

struct path_beneath_attr {
	uint64_t allowed_access;
	int32_t parent_fd;
} __attribute__((packed));
static_assert(sizeof(struct path_beneath_attr) == 12, "linux/landlock.h: landlock_path_beneath");

static uint64_t known_fs_rights(int abi)
{
	return FS_FIRST_VERSION | (abi >= 2 ? FS_REFER : 0) | (abi >= 3 ? FS_TRUNCATE : 0) |
		(abi >= 5 ? FS_IOCTL_DEV : 0);
}

static int add_tree(int rules_fd, uint64_t known, bool nodev, const struct hk_confine_tree *tree,
	struct hk_err *err)
{
	uint64_t for_writing = FS_FOR_WRITING | (nodev ? FS_MAKE_BLOCK : 0);
	autoclose int fd = hk_open(AT_FDCWD, tree->path, O_PATH, 0);
	struct path_beneath_attr rule = {
		.allowed_access = known & (tree->writable ? for_writing : FS_FOR_READING),
		.parent_fd = fd,
	};
	struct stat st;

	if (fd < 0 || fstat(fd, &st) < 0) {
		return hk_fail(err, fd < 0 ? -fd : errno, "'%s'", tree->path);
	}
	if (!S_ISDIR(st.st_mode)) {
		rule.allowed_access &= FS_OF_FILES;
	}
	if (syscall(SYS_landlock_add_rule, rules_fd, RULE_PATH_BENEATH, &rule, 0) < 0) {
		return hk_fail(err, errno, "'%s': Landlock", tree->path);
	}
	return 0;
}

int hk_landlock_rules(int abi, const struct hk_confine_needs *needs, struct hk_err *err)
{
	struct hk_landlock_attr attr = {
		.handled_access_fs = known_fs_rights(abi),
		.handled_access_net = NET_BIND_TCP | NET_CONNECT_TCP,
		.scoped = HK_LANDLOCK_SCOPE_ABSTRACT_UNIX_SOCKET | HK_LANDLOCK_SCOPE_SIGNAL,
	};
	autoclose int rules_fd = hk_landlock_create(abi, &attr, err);

	if (rules_fd < 0) {
		return rules_fd;
	}
	for (unsigned i = 0; i < needs->tree_count; i++) {
		int r = add_tree(
			rules_fd, attr.handled_access_fs, needs->nodev, &needs->trees[i], err);

		if (r < 0) {
			return r;
		}
	}
	return take_fd(&rules_fd);
}
