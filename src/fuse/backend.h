/* SPDX-License-Identifier: ISC */
/*
 * What stands behind an export: a tree of objects that the server names by small integers.
 *
 * An *object* is a reference to one inode that needs no right to its data (on Linux an O_PATH
 * descriptor). It is made from another object and one name, so it can be dropped at any time and
 * made again. A *file* is open for data, or for listing. Both are closed with the op `close`. A
 * host directory uses descriptors for both; another backend may use indices of its own.
 *
 * Names have passed hk_name_check(): one component, never "." or "..". A backend never follows a
 * symbolic link.
 *
 * All ops: any thread, several at a time; they block for as long as the storage does; they return 0
 * (or what the comment says) or -errno, which the guest gets.
 *
 * Implementations: host directory (host_linux.c); one over which a layer is laid (overlay_linux.c).
 */
#ifndef HK_FUSE_BACKEND_H
#define HK_FUSE_BACKEND_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/types.h>
#include <sys/uio.h>

#include "base/err.h"
#include "base/timespec.h"

/**
 * struct hk_stat - attributes of an object
 * @dev, @ino, @mount: identify it within its backend
 * @born_ns: time of birth, so that a reused inode number is noticed; 0 where unknown
 * @ruling: not the backend's: tells names apart that rules treat differently (judge.c)
 */
struct hk_stat {
	uint64_t dev, ino, mount;
	int64_t born_ns;
	uint32_t mode, nlink;
	uint32_t uid, gid;
	uint32_t ruling;
	uint64_t rdev;
	uint64_t size, blocks;
	uint32_t blksize;
	struct timespec atime, mtime, ctime;
};

/**
 * struct hk_dirent - one entry of a directory listing, as read_dir() packs them
 * @next: where the listing goes on after this entry
 * @record_len: bytes to the next one, which is 8-byte aligned
 * @type: DT_*
 *
 * The layout is that of linux_dirent64, so that a host directory need not copy.
 */
struct hk_dirent {
	uint64_t ino;
	uint64_t next;
	uint16_t record_len;
	uint8_t type;
	char name[]; /* NUL-terminated */
};

/**
 * struct hk_cred - who creates something; ids of the backend's side
 * @umask: bits to leave out, unless the directory has a default ACL; 0 where that is done already
 */
struct hk_cred {
	uid_t uid;
	gid_t gid;
	mode_t umask;
};

struct hk_backend;

struct hk_backend_ops {
	const char *name;

	/* Finding. All required. */
	int (*lookup)(struct hk_backend *b, int dir, const char *name, struct hk_stat *ret_stat);
	int (*reach)(struct hk_backend *b, int dir, const char *name);        /* an object */
	int (*stat)(struct hk_backend *b, int obj, struct hk_stat *ret_stat); /* of a file, too */
	void (*close)(struct hk_backend *b, int obj_or_file);
	ssize_t (*readlink)(struct hk_backend *b, int obj, char *buf, size_t size);
	int (*statfs)(struct hk_backend *b, int obj, struct statvfs *ret_statfs);

	/* Attributes. Required. -1 leaves an id; UTIME_OMIT a time. */
	int (*chmod)(struct hk_backend *b, int obj, mode_t mode);
	int (*chown)(struct hk_backend *b, int obj, uid_t uid, gid_t gid);
	int (*utimes)(struct hk_backend *b, int obj, const struct timespec times[2]);
	int (*truncate)(struct hk_backend *b, int obj, uint64_t size_bytes);
	/* @size 0 asks for the length. Return: bytes. */
	ssize_t (*getxattr)(
		struct hk_backend *b, int obj, const char *name, void *value, size_t size);
	/*
	 * The same of an entry of @dir, a symbolic link itself, without an object of its own.
	 * Optional.
	 */
	ssize_t (*getxattr_at)(struct hk_backend *b, int dir, const char *entry, const char *name,
		void *value, size_t size);
	ssize_t (*listxattr)(struct hk_backend *b, int obj, char *names, size_t size);
	int (*setxattr)(struct hk_backend *b, int obj, const char *name, const void *value,
		size_t size, int flags);
	int (*removexattr)(struct hk_backend *b, int obj, const char *name);

	/* Names. Required. create() fails with -EEXIST if there is such a name; both it and
	 * tmpfile() return a file. @flags: O_ACCMODE, O_SYNC, O_DSYNC; for tmpfile() O_EXCL as
	 * well. @mode has the umask applied. */
	int (*create)(struct hk_backend *b, int dir, const char *name, int flags, mode_t mode,
		const struct hk_cred *cred);
	int (*tmpfile)(
		struct hk_backend *b, int dir, int flags, mode_t mode, const struct hk_cred *cred);
	int (*mknod)(struct hk_backend *b, int dir, const char *name, mode_t mode, uint64_t rdev,
		const struct hk_cred *cred);
	int (*mkdir)(struct hk_backend *b, int dir, const char *name, mode_t mode,
		const struct hk_cred *cred);
	int (*symlink)(struct hk_backend *b, int dir, const char *name, const char *target,
		const struct hk_cred *cred);
	int (*link)(struct hk_backend *b, int obj, int dir, const char *name);
	int (*unlink)(struct hk_backend *b, int dir, const char *name, bool is_dir);
	int (*rename)(struct hk_backend *b, int old_dir, const char *old_name, int new_dir,
		const char *new_name, unsigned flags);

	/* Data. Required. open() gives a file, for regular files only; @flags: O_ACCMODE, O_TRUNC,
	 * O_SYNC, O_DSYNC, O_NOATIME. read() and write() return bytes; @append: at the end,
	 * whatever @offset says. */
	int (*open)(struct hk_backend *b, int obj, int flags);
	ssize_t (*read)(struct hk_backend *b, int file, const struct iovec *iov, unsigned count,
		uint64_t offset);
	ssize_t (*write)(struct hk_backend *b, int file, const struct iovec *iov, unsigned count,
		uint64_t offset, bool append);
	int (*resize)(struct hk_backend *b, int file, uint64_t size_bytes);
	int (*fsync)(struct hk_backend *b, int file, bool data_only);
	int (*allocate)(struct hk_backend *b, int file, int mode, uint64_t offset, uint64_t len);
	int64_t (*seek)(
		struct hk_backend *b, int file, uint64_t offset, int whence); /* an offset */
	ssize_t (*copy)(struct hk_backend *b, int from, uint64_t from_offset, int to,
		uint64_t to_offset, size_t len);

	/* Listing. Required. read_dir() fills @buf with hk_dirents and returns bytes, 0 at the end.
	 */
	int (*open_dir)(struct hk_backend *b, int obj); /* a file */
	ssize_t (*read_dir)(struct hk_backend *b, int file, void *buf, size_t size);
	int (*seek_dir)(struct hk_backend *b, int file, uint64_t position);

	/*
	 * The descriptor behind a file, which the kernel may read and write by itself for as long
	 * as anybody has that inode open: only where all opens of it, whatever the flags, lead to
	 * one and the same file of the host. -1: no. Optional.
	 */
	int (*real_fd)(struct hk_backend *b, int file);

	int (*sync)(struct hk_backend *b);     /* all that was written is on storage; required */
	void (*destroy)(struct hk_backend *b); /* its objects are closed already; required */
};

/**
 * struct hk_backend - first member of implementations
 * @root: the object shown as the export's root; the backend's own
 * @fds_each: how many descriptors of the process an object or file may take; 0: one
 * @has_twins: two files may be there with one @ino for as long as they like; @born_ns tells them
 *	apart
 */
struct hk_backend {
	const struct hk_backend_ops *ops;
	int root;
	unsigned fds_each;
	bool has_twins;
};

/**
 * hk_host_open() - a directory or regular file of the host (host_linux.c)
 * @path: resolved now, symbolic links allowed; not kept
 *
 * Return: 0; -EINVAL where it is something else; what opening it gave.
 */
int hk_host_open(const char *path, struct hk_backend **ret_backend, struct hk_err *err);

/**
 * hk_host_open_nodev() - the same, through mounts of its own on which no device node can be opened
 *
 * So a server that may make such nodes cannot use them. What is mounted below @path later on does
 * not show. Takes CAP_SYS_ADMIN, and Linux 5.12.
 *
 * Return: as hk_host_open(); -EPERM, -ENOSYS where there can be no such mounts.
 */
int hk_host_open_nodev(const char *path, struct hk_backend **ret_backend, struct hk_err *err);

/** hk_host_prepare() - signals of the process, as hk_fuse_server_create() promises */
void hk_host_prepare(void);

/** hk_host_fd_limit() - how many descriptors the server may hold */
unsigned hk_host_fd_limit(void);

/** hk_host_now_ns() - time of day, coarse and cheap: to tell how old an mtime is */
int64_t hk_host_now_ns(void);

#endif
