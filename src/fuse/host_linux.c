/* SPDX-License-Identifier: ISC */
/*
 * A host directory (or one file) as a backend: objects are O_PATH descriptors, files are open ones.
 *
 * Theory: the guest names one component in one directory it got from us, and nothing else is ever
 * resolved: openat2(2) with RESOLVE_BENEATH and RESOLVE_NO_SYMLINKS, or calls that take a name and
 * do not follow. So symbolic links, magic links,
 * "..", and whatever is renamed meanwhile, here or by the host, cannot lead out. Mounts of the host
 * below the export are part of it; the mount id keeps their inodes apart. What no *at() call can do
 * with a descriptor goes through /proc/self/fd, which names that very inode.
 *
 * Limits: Linux 5.6 for openat2, 5.8 for mount ids; without them openat(2) with O_NOFOLLOW does the
 * same for one component.
 */
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/sysmacros.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <linux/mount.h>
#include <linux/openat2.h>

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/sys.h"
#include "base/util.h"
#include "fuse/host_impl_linux.h"
#include "fuse/server.h"

enum { STAT_MASK = STATX_BASIC_STATS | STATX_BTIME | STATX_MNT_ID };

static _Thread_local bool thread_is_ours;
static atomic_uint process_umask;
static atomic_bool no_openat2;

struct hk_host *hk_host_of(struct hk_backend *backend)
{
	return hk_container_of(backend, struct hk_host, base);
}

void hk_fuse_thread_start(void)
{
	/* Fails only where the kernel forbids even this; then a chmod follows each creation. */
	/* seccomp: unshare:CLONE_FS umask */
	if (!thread_is_ours && unshare(CLONE_FS) == 0) {
		umask(0);
		thread_is_ours = true;
	}
}

bool hk_host_thread_is_ours(void)
{
	return thread_is_ours;
}

bool hk_host_mask(mode_t mask)
{
	static _Thread_local mode_t current;

	if (thread_is_ours && current != mask) {
		umask(mask);
		current = mask;
	}
	return thread_is_ours;
}

mode_t hk_host_umask(void)
{
	return thread_is_ours ? 0 : atomic_load_explicit(&process_umask, memory_order_relaxed);
}

/* umask(2) cannot be asked without being changed, for all threads. */
static void read_process_umask(void)
{
	void *text = NULL;
	size_t len;
	const char *line;

	if (hk_read_file("/proc/self/status", 65536, &text, &len, NULL) == 0) {
		line = strstr(text, "\nUmask:");
		if (line != NULL) {
			atomic_store(&process_umask, (unsigned)strtoul(line + 7, NULL, 8) & 0777);
		}
	}
	free(text);
}

void hk_host_prepare(void)
{
	struct sigaction action;

	if (sigaction(SIGXFSZ, NULL, &action) == 0 && (action.sa_flags & SA_SIGINFO) == 0 &&
		action.sa_handler == SIG_DFL) {
		action = (struct sigaction){.sa_handler = SIG_IGN};
		sigaction(SIGXFSZ, &action, NULL);
	}
	read_process_umask();
}

unsigned hk_host_fd_limit(void)
{
	struct rlimit limit = {.rlim_cur = 1024};
	unsigned n;

	getrlimit(RLIMIT_NOFILE, &limit);
	n = (unsigned)HK_MIN(limit.rlim_cur, (rlim_t)(1 << 20));
	/* The rest of the monitor has descriptors, too. */
	n -= HK_MIN(n / 4, 256u);
	return HK_MAX(n, 16u);
}

int64_t hk_host_now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_REALTIME_COARSE, &now);
	return hk_timespec_ns(now);
}

/* By hand: printf would take a good part of the time of an open. */
struct hk_fd_name hk_fd_name(int fd)
{
	char digits[10];
	unsigned count = 0;
	unsigned left = (unsigned)fd;
	struct hk_fd_name name;
	unsigned at = 0;

	do {
		digits[count++] = (char)('0' + left % 10);
		left /= 10;
	} while (left > 0);
	while (count > 0) {
		name.text[at++] = digits[--count];
	}
	name.text[at] = '\0';
	return name;
}

int hk_host_open_name(int dir, const char *name, int flags, mode_t mode)
{
	/* O_PATH takes no other flags, says openat2. */
	flags |= O_NOFOLLOW | O_CLOEXEC | ((flags & O_PATH) != 0 ? 0 : O_NOCTTY);
	if (!atomic_load_explicit(&no_openat2, memory_order_relaxed)) {
		struct open_how how = {
			.flags = (uint64_t)flags,
			.mode = (flags & O_CREAT) != 0 ? mode : 0,
			.resolve = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS | RESOLVE_NO_SYMLINKS,
		};
		/* seccomp: openat2 */
		int fd = (int)HK_HOST_CALL(syscall(SYS_openat2, dir, name, &how, sizeof(how)));

		/* EPERM is what some containers' filters say to a call they do not know. */
		if (fd != -ENOSYS && fd != -EPERM) {
			return fd;
		}
		if (fd == -ENOSYS) {
			atomic_store(&no_openat2, true);
		}
	}
	/* seccomp: openat */
	return HK_HOST_CALL(openat(dir, name, flags, mode));
}

static struct timespec from_statx(struct statx_timestamp t)
{
	return (struct timespec){.tv_sec = t.tv_sec, .tv_nsec = t.tv_nsec};
}

static int stat_at(int dir, const char *name, int flags, struct hk_stat *st)
{
	struct statx stx;
	int r = HK_HOST_CALL(
		/* seccomp: statx */
		statx(dir, name, flags | AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT, STAT_MASK, &stx));

	if (r < 0) {
		return r;
	}
	*st = (struct hk_stat){
		.dev = (uint64_t)stx.stx_dev_major << 32 | stx.stx_dev_minor,
		.ino = stx.stx_ino,
		.mode = stx.stx_mode,
		.nlink = stx.stx_nlink,
		.uid = stx.stx_uid,
		.gid = stx.stx_gid,
		/* As the guest's kernel packs it: new_encode_dev(). */
		.rdev = (stx.stx_rdev_minor & 0xff) | stx.stx_rdev_major << 8 |
			(uint64_t)(stx.stx_rdev_minor & ~0xffu) << 12,
		.size = stx.stx_size,
		.blocks = stx.stx_blocks,
		.blksize = stx.stx_blksize,
		.atime = from_statx(stx.stx_atime),
		.mtime = from_statx(stx.stx_mtime),
		.ctime = from_statx(stx.stx_ctime),
	};
	if ((stx.stx_mask & STATX_MNT_ID) != 0) {
		st->mount = stx.stx_mnt_id;
	}
	if ((stx.stx_mask & STATX_BTIME) != 0) {
		st->born_ns = hk_timespec_ns(from_statx(stx.stx_btime));
	}
	return 0;
}

static int host_lookup(struct hk_backend *backend, int dir, const char *name, struct hk_stat *st)
{
	return stat_at(dir, name, 0, st);
}

static int host_stat(struct hk_backend *backend, int obj, struct hk_stat *st)
{
	return stat_at(obj, "", AT_EMPTY_PATH, st);
}

static int host_reach(struct hk_backend *backend, int dir, const char *name)
{
	return hk_host_open_name(dir, name, O_PATH, 0);
}

static void host_close(struct hk_backend *backend, int fd)
{
	/* seccomp: close */
	close(fd);
}

static ssize_t host_readlink(struct hk_backend *backend, int obj, char *buf, size_t size)
{
	/* seccomp: readlinkat */
	ssize_t n = HK_HOST_CALL(readlinkat(obj, "", buf, size));

	return n == -ENOENT ? -EINVAL : n; /* what the call says to other types */
}

static int host_statfs(struct hk_backend *backend, int obj, struct statvfs *st)
{
	/* seccomp: fstatfs */
	return HK_HOST_CALL(fstatvfs(obj, st));
}

static int host_real_fd(struct hk_backend *backend, int file)
{
	return file;
}

static void host_destroy(struct hk_backend *backend)
{
	struct hk_host *host = hk_host_of(backend);

	hk_close(&host->base.root);
	hk_close(&host->proc_fd);
	free(host);
}

static const struct hk_backend_ops host_ops = {
	.name = "host",
	.lookup = host_lookup,
	.reach = host_reach,
	.stat = host_stat,
	.close = host_close,
	.readlink = host_readlink,
	.statfs = host_statfs,
	.chmod = hk_host_chmod,
	.chown = hk_host_chown,
	.utimes = hk_host_utimes,
	.truncate = hk_host_truncate,
	.getxattr = hk_host_getxattr,
	.getxattr_at = hk_host_getxattr_at,
	.listxattr = hk_host_listxattr,
	.setxattr = hk_host_setxattr,
	.removexattr = hk_host_removexattr,
	.create = hk_host_create,
	.tmpfile = hk_host_tmpfile,
	.mknod = hk_host_mknod,
	.mkdir = hk_host_mkdir,
	.symlink = hk_host_symlink,
	.link = hk_host_link,
	.unlink = hk_host_unlink,
	.rename = hk_host_rename,
	.open = hk_host_open_file,
	.read = hk_host_read,
	.write = hk_host_write,
	.resize = hk_host_resize,
	.fsync = hk_host_fsync,
	.allocate = hk_host_allocate,
	.seek = hk_host_seek,
	.copy = hk_host_copy,
	.open_dir = hk_host_open_dir,
	.read_dir = hk_host_read_dir,
	.seek_dir = hk_host_seek_dir,
	.real_fd = host_real_fd,
	.sync = hk_host_sync,
	.destroy = host_destroy,
};

/* Takes @fd. */
static int open_root(int fd, const char *path, struct hk_backend **ret_backend, struct hk_err *err)
{
	autoclose int root = fd;
	autoclose int proc_fd = -1;
	struct hk_host *host;
	struct stat st;

	if (root < 0) {
		return hk_fail(err, -root, "'%s'", path);
	}
	if (fstat(root, &st) < 0) {
		return hk_fail(err, errno, "'%s': stat", path);
	}
	if (!S_ISDIR(st.st_mode) && !S_ISREG(st.st_mode)) {
		return hk_fail_msg(
			err, EINVAL, "'%s': neither a directory nor a regular file", path);
	}
	proc_fd = hk_open(AT_FDCWD, "/proc/self/fd", O_PATH | O_DIRECTORY, 0);
	if (proc_fd < 0) {
		return hk_fail(err, -proc_fd, "/proc/self/fd");
	}
	if (hk_new(host) == NULL) {
		return hk_fail(err, ENOMEM, "'%s'", path);
	}
	host->base.ops = &host_ops;
	host->base.root = take_fd(&root);
	host->proc_fd = take_fd(&proc_fd);
	host->uid = geteuid();
	host->gid = getegid();
	host->is_root = host->uid == 0;
	*ret_backend = &host->base;
	return 0;
}

int hk_host_open(const char *path, struct hk_backend **ret_backend, struct hk_err *err)
{
	return open_root(hk_open(AT_FDCWD, path, O_PATH, 0), path, ret_backend, err);
}

/*
 * A mount that hangs nowhere, with copies of those below it. Return: a descriptor of its root, or
 * -errno.
 */
static int clone_nodev(const char *path)
{
	struct mount_attr attr = {.attr_set = MOUNT_ATTR_NODEV};
	autoclose int tree = (int)syscall(
		SYS_open_tree, AT_FDCWD, path, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_RECURSIVE);

	if (tree < 0 ||
		syscall(SYS_mount_setattr, tree, "", AT_EMPTY_PATH | AT_RECURSIVE, &attr,
			sizeof(attr)) < 0) {
		return -errno;
	}
	return take_fd(&tree);
}

int hk_host_open_nodev(const char *path, struct hk_backend **ret_backend, struct hk_err *err)
{
	return open_root(clone_nodev(path), path, ret_backend, err);
}
