/* SPDX-License-Identifier: ISC */
/*
 * What the command sees: the mirror as root; /proc, /sys and /dev in it.
 *
 * Theory: what is shown of the host besides the mirror is cloned first (open_tree(2): mounts that
 * hang nowhere), then the mirror is attached, its export becomes the root (pivot_root(2)), and the
 * clones and fresh file systems are put in place by paths of the mirror, relative to the working
 * directory, so the server is asked for nothing but the mount points. When the old root is
 * unmounted, there is no name left for anything of the host.
 *
 *	/proc		of the new process ids. For root, all in it that is no process's and can be written is read-only:
 *			the kernel lets root change it by owning it, no capability needed (core_pattern, sysrq-trigger)
 *	/sys		the host's, read-only; its debugging parts empty for root
 *	/dev		a directory in memory with devices that lead to no file and no hardware; with terminals (pts) and
 *			shared memory (shm) of its own. If not minimal, also those for graphics, sound and virtual machines.
 *			No further device can be made in it: a node in memory is dead. Of the host's nodes and directories
 *			modes, owners and entries stay as they are: mounted read-only, devices can be written to all the same
 *
 * Limits: Linux 5.12 (mount_setattr). Terminals and shared memory of the host cannot be reached,
 * the caller's terminal apart, which is /dev/console. A terminal that is inherited open is the
 * host's own: who owns it may change its mode.
 */
#include <dirent.h>
#include <fcntl.h>
#include <linux/mount.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/str.h"
#include "base/util.h"
#include "trace/sandbox_impl_linux.h"

/* Where the mirror is attached for a moment. Any directory does: nobody sees it. */
static const char stage[] = "/proc";

/* Entries of /dev that come from the host. */
static const struct device {
	const char *name;
	bool minimal; /* also in a minimal /dev, and needed */
} devices[] = {
	{"null", true},
	{"zero", true},
	{"full", true},
	{"random", true},
	{"urandom", true},
	{"tty", true},
	{"kvm", false},
	{"dri", false},
	{"snd", false},
};

static const struct {
	const char *name, *target;
} links[] = {
	{"fd", "/proc/self/fd"},
	{"stdin", "/proc/self/fd/0"},
	{"stdout", "/proc/self/fd/1"},
	{"stderr", "/proc/self/fd/2"},
	{"ptmx", "pts/ptmx"},
	{"core", "/proc/kcore"},
};

/* Mounts that hang nowhere yet: a /proc of ours, clones of the host's. -1: there is none. */
struct clones {
	int proc;
	int sys;
	int console;
	int devices[HK_ARRAY_SIZE(devices)];
};

static int clone_mount(const char *path, bool with_all_below)
{
	return (int)syscall(SYS_open_tree, AT_FDCWD, path,
		OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | (with_all_below ? AT_RECURSIVE : 0));
}

static int restrict_mount(int tree, uint64_t attributes, bool with_all_below)
{
	struct mount_attr attr = {.attr_set = attributes};

	return (int)syscall(SYS_mount_setattr, tree, "",
		AT_EMPTY_PATH | (with_all_below ? AT_RECURSIVE : 0), &attr, sizeof(attr));
}

static int attach(int tree, const char *path)
{
	return (int)syscall(SYS_move_mount, tree, "", AT_FDCWD, path, MOVE_MOUNT_F_EMPTY_PATH);
}

/* The caller's terminal, if it has one. */
static int clone_terminal(void)
{
	for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++) {
		const char *name = isatty(fd) == 1 ? ttyname(fd) : NULL;

		if (name != NULL) {
			return clone_mount(name, false);
		}
	}
	return -1;
}

/*
 * Made while the host's is still in sight: the kernel lets users have their own only where they see
 * a whole one.
 */
static int make_proc(struct hk_err *err)
{
	autoclose int context = (int)syscall(SYS_fsopen, "proc", FSOPEN_CLOEXEC);
	int tree;

	if (context < 0 || syscall(SYS_fsconfig, context, FSCONFIG_CMD_CREATE, NULL, NULL, 0) < 0) {
		return hk_fail(err, errno, "/proc");
	}
	tree = (int)syscall(SYS_fsmount, context, FSMOUNT_CLOEXEC,
		MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC);
	if (tree < 0) {
		hk_fail(err, errno, "/proc");
		return errno != EPERM
			? -errno
			: hk_err_hint(err,
				  "in a container whose /proc is partly covered, users "
				  "cannot mount one: run hako as root there");
	}
	return tree;
}

static int clone_host(
	const struct hk_sandbox_options *options, struct clones *clones, struct hk_err *err)
{
	for (size_t i = 0; i < HK_ARRAY_SIZE(devices); i++) {
		char path[32];

		if (!devices[i].minimal && options->minimal_dev) {
			continue;
		}
		hk_fmt(path, sizeof(path), "/dev/%s", devices[i].name);
		clones->devices[i] = clone_mount(path, false);
		if (clones->devices[i] < 0 && devices[i].minimal) {
			return hk_fail(err, errno, "%s", path);
		}
		/*
		 * That means modes, owners and a directory's entries; devices are written to as
		 * ever.
		 */
		if (clones->devices[i] >= 0 &&
			restrict_mount(clones->devices[i], MOUNT_ATTR_RDONLY, false) < 0) {
			return hk_fail(err, errno, "%s: read-only", path);
		}
	}
	clones->proc = make_proc(err);
	if (clones->proc < 0) {
		return clones->proc;
	}
	clones->console = clone_terminal();
	if (clones->console >= 0 && restrict_mount(clones->console, MOUNT_ATTR_RDONLY, false) < 0) {
		return hk_fail(err, errno, "/dev/console: read-only");
	}
	clones->sys = clone_mount("/sys", true);
	if (clones->sys >= 0 &&
		restrict_mount(clones->sys,
			MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV |
				MOUNT_ATTR_NOEXEC,
			true) < 0) {
		return hk_fail(err, errno, "/sys: read-only");
	}
	return 0;
}

static void finish_clones(struct clones *clones)
{
	for (size_t i = 0; i < HK_ARRAY_SIZE(devices); i++) {
		hk_close(&clones->devices[i]);
	}
	hk_close(&clones->proc);
	hk_close(&clones->console);
	hk_close(&clones->sys);
}

static int fresh(const char *type, const char *path, unsigned long flags, const char *data,
	struct hk_err *err)
{
	return mount(type, path, type, flags, data) < 0 ? hk_fail(err, errno, "/%s", path) : 0;
}

/* The export of the mirror becomes the root; the host's tree is gone. */
static int change_root(const struct hk_sandbox_setup *setup, struct hk_err *err)
{
	char root[512];

	if (hk_fmt(root, sizeof(root), "%s/%s", stage, setup->options->export_name) < 0) {
		return hk_fail(err, ENAMETOOLONG, "mirror");
	}
	/*
	 * With both names ".", the old root ends up on top of the new one, and is taken off: see
	 * pivot_root(2).
	 */
	if (attach(setup->mount, stage) < 0 || mount(root, root, NULL, MS_BIND, NULL) < 0 ||
		chdir(root) < 0 || syscall(SYS_pivot_root, ".", ".") < 0 ||
		umount2(".", MNT_DETACH) < 0 || chdir("/") < 0) {
		return hk_fail(err, errno, "mirror");
	}
	return 0;
}

static int seal_proc_entry(const char *name)
{
	char path[300];
	autoclose int tree = -1;

	hk_fmt(path, sizeof(path), "proc/%s", name);
	tree = clone_mount(path, false);
	if (tree < 0) {
		return -errno;
	}
	return restrict_mount(tree, MOUNT_ATTR_RDONLY, false) < 0 || attach(tree, path) < 0 ? -errno
											    : 0;
}

/* What is in /proc and is no process: whatever can be written there belongs to the machine. */
static int seal_proc(struct hk_err *err)
{
	DIR *dir = opendir("proc");
	const struct dirent *entry;
	struct stat st;
	int r = dir == NULL ? -errno : 0;

	while (r == 0 && (entry = readdir(dir)) != NULL) {
		if (entry->d_name[0] == '.' ||
			(entry->d_name[0] >= '1' && entry->d_name[0] <= '9')) {
			continue;
		}
		if (fstatat(dirfd(dir), entry->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0 ||
			(!S_ISDIR(st.st_mode) &&
				(!S_ISREG(st.st_mode) || (st.st_mode & 0222) == 0))) {
			continue;
		}
		r = seal_proc_entry(entry->d_name);
	}
	if (dir != NULL) {
		closedir(dir);
	}
	return r < 0 ? hk_fail(err, -r, "/proc: read-only") : 0;
}

/* For root, who may read there what belongs to the whole kernel. */
static void empty_debugging(void)
{
	static const char *const places[] = {
		"sys/kernel/debug", "sys/kernel/tracing", "sys/firmware"};

	for (size_t i = 0; i < HK_ARRAY_SIZE(places); i++) {
		if (access(places[i], F_OK) == 0) {
			(void)mount("tmpfs", places[i], "tmpfs", MS_RDONLY, "mode=555,size=4k");
		}
	}
}

/* A file or directory to put a device on. */
static int make_place(const char *path, int tree)
{
	struct stat st;
	int fd;

	if (fstat(tree, &st) < 0) {
		return -errno;
	}
	if (S_ISDIR(st.st_mode)) {
		return mkdir(path, 0755) < 0 ? -errno : 0;
	}
	fd = open(path, O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0666);
	if (fd < 0) {
		return -errno;
	}
	close(fd);
	return 0;
}

static int put_device(const char *name, int tree, struct hk_err *err)
{
	char path[32];
	int r;

	if (tree < 0) {
		return 0;
	}
	hk_fmt(path, sizeof(path), "dev/%s", name);
	r = make_place(path, tree);
	if (r == 0 && attach(tree, path) < 0) {
		r = -errno;
	}
	return r < 0 ? hk_fail(err, -r, "/%s", path) : 0;
}

static int make_dev(
	const struct hk_sandbox_setup *setup, const struct clones *clones, struct hk_err *err)
{
	int r = fresh("tmpfs", "dev", MS_NOSUID | MS_NOEXEC | MS_NODEV, "mode=755,size=1m", err);

	for (size_t i = 0; r == 0 && i < HK_ARRAY_SIZE(devices); i++) {
		r = put_device(devices[i].name, clones->devices[i], err);
	}
	if (r == 0) {
		r = put_device("console", clones->console, err);
	}
	for (size_t i = 0; r == 0 && i < HK_ARRAY_SIZE(links); i++) {
		char path[32];

		hk_fmt(path, sizeof(path), "dev/%s", links[i].name);
		r = symlink(links[i].target, path) < 0 ? hk_fail(err, errno, "/%s", path) : 0;
	}
	if (r == 0 && (mkdir("dev/pts", 0755) < 0 || mkdir("dev/shm", 01777) < 0)) {
		r = hk_fail(err, errno, "/dev");
	}
	if (r == 0) {
		/* 5 is the group tty wherever there is one. */
		r = fresh("devpts", "dev/pts", MS_NOSUID | MS_NOEXEC,
			setup->all_ids ? "newinstance,ptmxmode=0666,mode=0620,gid=5"
				       : "newinstance,ptmxmode=0666,mode=0620",
			err);
	}
	return r == 0 ? fresh("tmpfs", "dev/shm", MS_NOSUID | MS_NODEV, "mode=1777", err) : r;
}

static int make_rest(
	const struct hk_sandbox_setup *setup, const struct clones *clones, struct hk_err *err)
{
	int r = attach(clones->proc, "proc") < 0 ? hk_fail(err, errno, "/proc") : 0;

	if (r == 0 && setup->privileged) {
		r = seal_proc(err);
	}
	if (r == 0 && clones->sys >= 0 && attach(clones->sys, "sys") < 0) {
		r = hk_fail(err, errno, "/sys");
	}
	if (r == 0 && setup->privileged) {
		empty_debugging();
	}
	return r == 0 ? make_dev(setup, clones, err) : r;
}

int hk_mounts_enter(const struct hk_sandbox_setup *setup, struct hk_err *err)
{
	struct clones clones = {.proc = -1, .sys = -1, .console = -1};
	struct hk_inherited *inherited = NULL;
	mode_t mask = umask(0);
	int r;

	for (size_t i = 0; i < HK_ARRAY_SIZE(devices); i++) {
		clones.devices[i] = -1;
	}
	r = clone_host(setup->options, &clones, err);
	if (r == 0) {
		r = hk_inherited_find(&inherited, err);
	}
	if (r == 0) {
		r = change_root(setup, err);
	}
	if (r == 0) {
		r = make_rest(setup, &clones, err);
	}
	if (r == 0) {
		hk_inherited_reopen(inherited);
	}
	hk_inherited_free(inherited);
	finish_clones(&clones);
	umask(mask);
	if (r == 0 && chdir(setup->options->cwd) < 0) {
		return hk_fail(err, errno, "'%s': change directory", setup->options->cwd);
	}
	return r;
}
