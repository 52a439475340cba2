/* SPDX-License-Identifier: ISC */
/*
 * Making and removing names on the host: see host_linux.c.
 *
 * Theory: a monitor run by root creates as the caller of the guest: the thread takes on the
 * caller's ids for file system matters (setfsuid(2) and setfsgid(2) change one thread), so that
 * owner, group, set-group-id directories and quota come out as the host's kernel makes them. The
 * guest's kernel has checked the caller's permissions with all its groups; the host sees only one,
 * and may say no. Then root creates and hands over. A monitor run by anyone else creates as itself.
 *
 * What is created gets its whole mode where the thread's umask is 0 (hk_fuse_thread_start()); else
 * what the umask took off is put back, on the inode made, not on the name.
 *
 * Limits: in the moment between creation and handing over, the entry belongs to root.
 */
#include <stdio.h>
#include <linux/fs.h>
#include <sys/fsuid.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "fuse/host_impl_linux.h"
#include "fuse/setid_linux.h"

/* What to create, and how. */
struct creation {
	enum { CREATE_FILE, CREATE_TMPFILE, CREATE_NODE, CREATE_DIR, CREATE_SYMLINK } kind;
	int dir;
	const char *name;
	int flags;
	mode_t mode;
	dev_t rdev;
	const char *target;
};

/* Return: for files a descriptor, else 0; or -errno. */
static int create_once(const struct creation *c)
{
	switch (c->kind) {
	case CREATE_FILE:
		return hk_host_open_name(
			c->dir, c->name, c->flags | O_CREAT | O_EXCL, c->mode & 07777);
	case CREATE_TMPFILE:
		return HK_HOST_CALL(
			openat(c->dir, ".", c->flags | O_TMPFILE | O_CLOEXEC, c->mode & 07777));
	case CREATE_NODE:
		/* seccomp write: mknodat */
		return HK_HOST_CALL(mknodat(c->dir, c->name, c->mode, c->rdev));
	case CREATE_DIR:
		/* seccomp write: mkdirat */
		return HK_HOST_CALL(mkdirat(c->dir, c->name, c->mode));
	case CREATE_SYMLINK:
		/* seccomp write: symlinkat */
		return HK_HOST_CALL(symlinkat(c->target, c->dir, c->name));
	}
	return -EINVAL;
}

/* Gives what root has created to @cred. The group of a set-group-id directory stays. */
static int hand_over(
	struct hk_host *host, int obj, int dir, const struct hk_cred *cred, mode_t mode)
{
	struct stat dir_st;
	gid_t gid = cred->gid;
	/* seccomp write: fstat newfstatat */
	int r = HK_HOST_CALL(fstat(dir, &dir_st));

	if (r == 0) {
		if ((dir_st.st_mode & S_ISGID) != 0) {
			gid = (gid_t)-1;
		}
		r = hk_host_chown(&host->base, obj, cred->uid, gid);
	}
	if (r == 0 && (mode & (S_ISUID | S_ISGID)) != 0 && S_ISREG(mode)) {
		r = hk_host_chmod(&host->base, obj, mode & 07777);
	}
	return r;
}

/* Puts right what creating could not: the owner, and what the umask took off. */
static int finish(
	struct hk_host *host, const struct creation *c, int obj, const struct hk_cred *give_to)
{
	mode_t mode = c->mode;
	struct stat st;
	int r = 0;

	if (c->kind == CREATE_FILE || c->kind == CREATE_TMPFILE) {
		mode |= S_IFREG;
	}
	if (give_to != NULL) {
		r = hand_over(host, obj, c->dir, give_to, mode);
	}
	if (r == 0 && c->kind != CREATE_SYMLINK && (mode & hk_host_umask()) != 0) {
		r = HK_HOST_CALL(fstat(obj, &st));
		if (r == 0) {
			r = hk_host_chmod(&host->base, obj, (st.st_mode | (mode & 0777)) & 07777);
		}
	}
	return r;
}

/*
 * As @cred, or, where the directory does not let him, as ourselves: then @ret_give says that it is
 * to be given to him. Return: as create_once()
 */
static int create_as(
	struct hk_host *host, const struct creation *c, const struct hk_cred *cred, bool *ret_give)
{
	int fd;

	*ret_give = false;
	if (!host->is_root || (cred->uid == host->uid && cred->gid == host->gid)) {
		return create_once(c);
	}
	/* seccomp write: setfsgid setfsuid */
	setfsgid(cred->gid);
	setfsuid(cred->uid);
	fd = create_once(c);
	setfsuid(host->uid);
	setfsgid(host->gid);
	if (cred->uid != host->uid) {
		hk_setid_is_up();
	}
	if (fd == -EACCES || fd == -EPERM) {
		fd = create_once(c);
		*ret_give = true;
	}
	return fd;
}

/* Is what creating has made of it not all yet? */
static bool is_to_finish(const struct creation *c, bool give)
{
	return give || (c->kind != CREATE_SYMLINK && (c->mode & hk_host_umask()) != 0);
}

static int create(
	struct hk_backend *backend, const struct creation *wanted, const struct hk_cred *cred)
{
	struct creation c = *wanted;
	struct hk_host *host = hk_host_of(backend);
	bool give;
	int fd;
	int obj;
	int r;

	/*
	 * Only the file system knows whether there is a default ACL, in whose favour it forgets the
	 * umask.
	 */
	if (!hk_host_mask(cred->umask)) {
		c.mode &= ~cred->umask;
	}
	hk_setid_take_up_for(c.mode);
	fd = create_as(host, &c, cred, &give);
	if (fd < 0 || !is_to_finish(&c, give)) {
		return fd;
	}
	obj = fd;
	if (c.kind != CREATE_FILE && c.kind != CREATE_TMPFILE) {
		obj = hk_host_open_name(c.dir, c.name, O_PATH, 0);
		if (obj < 0) {
			return obj;
		}
	}
	r = finish(host, &c, obj, give ? cred : NULL);
	if (r < 0 || obj != fd) {
		close(obj);
	}
	return r < 0 ? r : fd;
}

int hk_host_create(struct hk_backend *backend, int dir, const char *name, int flags, mode_t mode,
	const struct hk_cred *cred)
{
	return create(backend,
		&(struct creation){.kind = CREATE_FILE,
			.dir = dir,
			.name = name,
			.flags = flags,
			.mode = mode},
		cred);
}

int hk_host_tmpfile(
	struct hk_backend *backend, int dir, int flags, mode_t mode, const struct hk_cred *cred)
{
	return create(backend,
		&(struct creation){
			.kind = CREATE_TMPFILE, .dir = dir, .flags = flags, .mode = mode},
		cred);
}

/* As the guest's kernel packs it: new_decode_dev(). */
static dev_t unpack_rdev(uint64_t rdev)
{
	return makedev((rdev & 0xfff00) >> 8, (rdev & 0xff) | ((rdev >> 12) & 0xfff00));
}

int hk_host_mknod(struct hk_backend *backend, int dir, const char *name, mode_t mode, uint64_t rdev,
	const struct hk_cred *cred)
{
	return create(backend,
		&(struct creation){.kind = CREATE_NODE,
			.dir = dir,
			.name = name,
			.mode = mode,
			.rdev = unpack_rdev(rdev)},
		cred);
}

int hk_host_mkdir(struct hk_backend *backend, int dir, const char *name, mode_t mode,
	const struct hk_cred *cred)
{
	return create(backend,
		&(struct creation){.kind = CREATE_DIR, .dir = dir, .name = name, .mode = mode},
		cred);
}

int hk_host_symlink(struct hk_backend *backend, int dir, const char *name, const char *target,
	const struct hk_cred *cred)
{
	return create(backend,
		&(struct creation){
			.kind = CREATE_SYMLINK, .dir = dir, .name = name, .target = target},
		cred);
}

int hk_host_link(struct hk_backend *backend, int obj, int dir, const char *name)
{
	/* seccomp write: linkat */
	return HK_HOST_CALL(linkat(
		hk_host_of(backend)->proc_fd, hk_fd_name(obj).text, dir, name, AT_SYMLINK_FOLLOW));
}

int hk_host_unlink(struct hk_backend *backend, int dir, const char *name, bool is_dir)
{
	/* seccomp write: unlinkat */
	return HK_HOST_CALL(unlinkat(dir, name, is_dir ? AT_REMOVEDIR : 0));
}

int hk_host_rename(struct hk_backend *backend, int old_dir, const char *old_name, int new_dir,
	const char *new_name, unsigned flags)
{
	/* seccomp write: renameat2 */
	return (int)HK_HOST_CALL(
		syscall(SYS_renameat2, old_dir, old_name, new_dir, new_name, flags));
}
