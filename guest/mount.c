/* SPDX-License-Identifier: ISC */
/*
 * Mounts as descriptors: thin wrappers of Linux's newer mount calls, for which musl has none.
 *
 * <sys/mount.h> is not included: glibc's and the kernel's headers declare the same names.
 */
#include "mount.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/mount.h>
#include <linux/openat2.h>
#include <stdint.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

static uint64_t attributes(unsigned flags)
{
	return (flags & HK_MOUNT_RO ? MOUNT_ATTR_RDONLY : 0) |
		(flags & HK_MOUNT_NOSUID ? MOUNT_ATTR_NOSUID : 0) |
		(flags & HK_MOUNT_NODEV ? MOUNT_ATTR_NODEV : 0) |
		(flags & HK_MOUNT_NOEXEC ? MOUNT_ATTR_NOEXEC : 0);
}

static int result(long r)
{
	return r < 0 ? -errno : (int)r;
}

int hk_mount_new(const char *type, const struct hk_mount_option *options, unsigned flags)
{
	bool has_source = options && options->key && strcmp(options->key, "source") == 0;
	int context = result(syscall(SYS_fsopen, type, FSOPEN_CLOEXEC));
	int r = 0;

	if (context < 0) {
		return context;
	}
	if (!has_source) {
		/* For df and mount, which would say "none". */
		r = result(syscall(SYS_fsconfig, context, FSCONFIG_SET_STRING, "source", type, 0));
	}
	for (; !r && options && options->key; options++) {
		r = result(syscall(SYS_fsconfig, context, FSCONFIG_SET_STRING, options->key,
			options->value, 0));
	}
	if (!r) {
		r = result(syscall(SYS_fsconfig, context, FSCONFIG_CMD_CREATE, NULL, NULL, 0));
	}
	if (!r) {
		r = result(syscall(SYS_fsmount, context, FSMOUNT_CLOEXEC, attributes(flags)));
	}
	close(context);
	return r;
}

int hk_mount_clone(int dir_fd, const char *name)
{
	return result(syscall(SYS_open_tree, dir_fd, name,
		OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_SYMLINK_NOFOLLOW));
}

int hk_mount_set(int mount_fd, unsigned flags)
{
	struct mount_attr attr = {.attr_set = attributes(flags)};

	return result(syscall(SYS_mount_setattr, mount_fd, "", AT_EMPTY_PATH, &attr, sizeof(attr)));
}

int hk_mount_attach(int mount_fd, int target_fd)
{
	return result(syscall(SYS_move_mount, mount_fd, "", target_fd, "",
		MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH));
}

int hk_mount_open(int root_fd, const char *path, int flags)
{
	struct open_how how = {
		.flags = (uint64_t)(flags | O_CLOEXEC),
		.resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS,
	};

	return result(syscall(SYS_openat2, root_fd, path, &how, sizeof(how)));
}
