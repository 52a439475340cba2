/* SPDX-License-Identifier: ISC */
/*
 * /dev/fuse and its mount, and what is wrong where there is none.
 *
 * Theory: the device is opened and the file system made in the namespaces of the sandbox, but by a
 * process that has the host's process ids, so that requests carry those: the audit looks up who it
 * was. The mount belongs to nobody yet; it is attached by process 1. No set-id program and no
 * device works through it.
 *
 * Limits: Linux 5.2 for the new mount calls.
 */
#include <fcntl.h>
#include <linux/mount.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/str.h"
#include "base/sys.h"
#include "trace/sandbox_impl_linux.h"

static const char device_path[] = "/dev/fuse";

/* Is the file system part of the running kernel? */
static bool kernel_has_fuse(void)
{
	void *text = NULL;
	size_t len;
	bool has;

	if (hk_read_file("/proc/filesystems", 1 << 20, &text, &len, NULL) < 0) {
		return true; /* nobody knows */
	}
	has = strstr(text, "\tfuse\n") != NULL;
	free(text);
	return has;
}

static int explain_device(int code, struct hk_err *err)
{
	if (!kernel_has_fuse()) {
		hk_fail_msg(err, code, "the kernel's module 'fuse' is not loaded");
		hk_err_hint(err, "load it as root: modprobe fuse");
		return -code;
	}
	hk_fail(err, code, "%s", device_path);
	if (code == ENOENT) {
		hk_err_hint(err,
			"make it as root: mknod -m 666 %s c 10 229 "
			"(in a container: run that with --device %s)",
			device_path, device_path);
	} else if (code == EACCES) {
		hk_err_hint(
			err, "let users open it, as distributions do: chmod 666 %s", device_path);
	} else if (code == EPERM || code == ENXIO) {
		hk_err_hint(err, "the container forbids the device: run that with --device %s",
			device_path);
	} else if (code == ENODEV) {
		hk_err_hint(err, "load the module as root: modprobe fuse");
	}
	return -code;
}

int hk_fuse_device_open(struct hk_err *err)
{
	int fd = hk_open(AT_FDCWD, device_path, O_RDWR, 0);

	return fd < 0 ? explain_device(-fd, err) : fd;
}

static int configure(int context, unsigned command, const char *key, const char *value)
{
	return (int)syscall(SYS_fsconfig, context, command, key, value, 0);
}

static int set_number(int context, const char *key, unsigned value)
{
	char text[16];

	hk_fmt(text, sizeof(text), strcmp(key, "rootmode") == 0 ? "%o" : "%u", value);
	return configure(context, FSCONFIG_SET_STRING, key, text);
}

/* What the kernel has to say of an attempt that failed, if anything: "e ...". */
static int mount_failed(int context, int code, struct hk_err *err)
{
	char said[160];
	ssize_t n = context < 0 ? -1 : read(context, said, sizeof(said) - 1);

	if (code == ENODEV) {
		return explain_device(code, err);
	}
	if (n > 2 && said[0] == 'e') {
		said[n] = '\0';
		return hk_fail(err, code, "FUSE mount: %s", said + 2);
	}
	hk_fail(err, code, "FUSE mount");
	if (code == EPERM || code == EACCES) {
		hk_err_hint(err,
			"a security module or a container forbids to mount here; see "
			"/proc/sys/kernel/apparmor_restrict_unprivileged_userns");
	}
	return -code;
}

int hk_fuse_mount(int device, struct hk_err *err)
{
	autoclose int context = (int)syscall(SYS_fsopen, "fuse", FSOPEN_CLOEXEC);
	int mount;

	if (context < 0) {
		return mount_failed(-1, errno, err);
	}
	if (configure(context, FSCONFIG_SET_STRING, "source", "hako") < 0 ||
		set_number(context, "fd", (unsigned)device) < 0 ||
		set_number(context, "rootmode", S_IFDIR) < 0 ||
		set_number(context, "user_id", geteuid()) < 0 ||
		set_number(context, "group_id", getegid()) < 0 ||
		configure(context, FSCONFIG_SET_FLAG, "allow_other", NULL) < 0 ||
		configure(context, FSCONFIG_SET_FLAG, "default_permissions", NULL) < 0 ||
		configure(context, FSCONFIG_CMD_CREATE, NULL, NULL) < 0) {
		return mount_failed(context, errno, err);
	}
	mount = (int)syscall(
		SYS_fsmount, context, FSMOUNT_CLOEXEC, MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV);
	return mount < 0 ? mount_failed(context, errno, err) : mount;
}

int hk_sandbox_probe(struct hk_err *err)
{
	autoclose int device = hk_fuse_device_open(err);

	if (device < 0) {
		return device;
	}
	return hk_rights_are_full() ? 0 : hk_ids_probe(err);
}
