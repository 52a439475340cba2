/* SPDX-License-Identifier: ISC */
/*
 * Making and removing names in a copy-on-write tree: see overlay_impl.h.
 *
 * Theory: what is new is made in the upper directory itself, as on the host, so that it gets the
 * group and the default ACL it should. Where a whiteout is in its way, a file is made without a
 * name, gets one in the work directory, and is renamed over the whiteout; anything else is made
 * when the whiteout has been moved to the work directory, and that comes back if making fails. A
 * name that stands below, too, is removed by a whiteout.
 *
 * Limits: whoever is killed between moving a whiteout away and making what is no file leaves a
 * layer in which the old one shows again.
 */
#include <linux/fs.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "fuse/overlay_impl.h"

/* What to make. */
struct making {
	enum { MAKE_FILE, MAKE_NODE, MAKE_DIR, MAKE_SYMLINK, MAKE_LINK } kind;
	int flags;
	mode_t mode;
	uint64_t rdev;
	const char *target;
	const struct hk_cred *cred;
	struct hk_ov_inode *inode; /* to link */
};

/* Return: for files a descriptor, else 0; or -errno. */
static int make_at(struct hk_overlay *ov, int dir, const char *name, const struct making *m)
{
	switch (m->kind) {
	case MAKE_FILE:
		return hk_host_create(ov->host, dir, name, m->flags, m->mode, m->cred);
	case MAKE_NODE:
		return hk_host_mknod(ov->host, dir, name, m->mode, m->rdev, m->cred);
	case MAKE_DIR:
		return hk_host_mkdir(ov->host, dir, name, m->mode, m->cred);
	case MAKE_SYMLINK:
		return hk_host_symlink(ov->host, dir, name, m->target, m->cred);
	case MAKE_LINK:
		return hk_host_link(
			ov->host, m->inode->is_cow ? m->inode->upper : m->inode->lower, dir, name);
	}
	return -EINVAL;
}

/*
 * A file, in one step. Return: a descriptor; -EOPNOTSUPP or the like where it cannot be done so;
 * -errno.
 */
static int make_file_over_whiteout(
	struct hk_overlay *ov, struct hk_ov_inode *dir, const char *name, const struct making *m)
{
	struct hk_ov_temp temp = hk_ov_temp(ov);
	int fd = hk_host_tmpfile(ov->host, dir->upper, m->flags, m->mode, m->cred);
	int r = fd < 0 ? fd : hk_host_link(ov->host, fd, ov->work, temp.text);

	if (r == 0) {
		r = HK_HOST_CALL(renameat(ov->work, temp.text, dir->upper, name));
		if (r < 0) {
			unlinkat(ov->work, temp.text, 0);
		}
	}
	if (r < 0) {
		hk_close(&fd);
	}
	return r < 0 ? r : fd;
}

/* The upper directory has a whiteout at the name, most likely. */
static int make_over_whiteout(
	struct hk_overlay *ov, struct hk_ov_inode *dir, const char *name, const struct making *m)
{
	struct hk_ov_temp temp;
	int made = -EOPNOTSUPP;
	int r;

	if (m->kind == MAKE_FILE && (m->flags & O_ACCMODE) != O_RDONLY) {
		made = make_file_over_whiteout(ov, dir, name, m);
	}
	if (made != -EOPNOTSUPP && made != -EISDIR && made != -ENOENT && made != -EINVAL) {
		return made;
	}
	temp = hk_ov_temp(ov);
	r = HK_HOST_CALL(renameat(dir->upper, name, ov->work, temp.text));
	if (r < 0) {
		return r;
	}
	made = make_at(ov, dir->upper, name, m);
	if (made < 0) {
		r = HK_HOST_CALL(renameat(ov->work, temp.text, dir->upper, name));
		return r < 0 ? r : made;
	}
	unlinkat(ov->work, temp.text, 0);
	return made;
}

/* Without it, what is below would show in a new directory. */
static int make_opaque(struct hk_overlay *ov, struct hk_ov_inode *dir, const char *name)
{
	int r = dir->lower >= 0 ? hk_ov_set_mark(ov, dir->upper, name, HK_OV_OPAQUE, "y") : 0;

	if (r < 0) {
		hk_host_unlink(ov->host, dir->upper, name, true);
		if (hk_ov_lower_has(ov, dir, name) != 0) {
			hk_ov_make_whiteout(ov, dir, name);
		}
	}
	return r;
}

static int make_upper(
	struct hk_overlay *ov, struct hk_ov_inode *dir, const char *name, const struct making *m)
{
	struct hk_ov_found found;
	int made;
	int r;

	if (dir->lower < 0 && dir->upper >= 0 && m->kind == MAKE_FILE) {
		/* Nothing is below, so the host says all there is to say; of a whiteout, too. */
		made = make_at(ov, dir->upper, name, m);
		if (made != -EEXIST) {
			return made;
		}
	}
	r = hk_ov_find(ov, dir, name, false, &found);
	if (r != -ENOENT) {
		return r < 0 ? r : -EEXIST;
	}
	if (m->kind == MAKE_NODE && S_ISCHR(m->mode) && m->rdev == 0) {
		return -EPERM; /* would be a whiteout */
	}
	r = hk_ov_upper_dir(ov, dir);
	if (r < 0) {
		return r;
	}
	made = found.is_whiteout ? make_over_whiteout(ov, dir, name, m)
				 : make_at(ov, dir->upper, name, m);
	if (made < 0 || m->kind != MAKE_DIR) {
		return made;
	}
	return make_opaque(ov, dir, name);
}

/* The tree is locked for writing. Return: as make_at(). */
static int make(
	struct hk_overlay *ov, struct hk_ov_inode *dir, const char *name, const struct making *m)
{
	if (hk_ov_is_cow(ov, dir, name)) {
		return make_upper(ov, dir, name, m);
	}
	return dir->lower < 0 ? -ENOENT : make_at(ov, dir->lower, name, m);
}

static int make_locked(
	struct hk_backend *backend, int dir_obj, const char *name, const struct making *m)
{
	struct hk_overlay *ov = hk_overlay_of(backend);
	struct hk_ov_inode *dir = hk_ov_slot(ov, dir_obj)->inode;
	int r;

	pthread_rwlock_wrlock(&ov->tree);
	r = make(ov, dir, name, m);
	pthread_rwlock_unlock(&ov->tree);
	return r;
}

int hk_ov_mknod(struct hk_backend *backend, int dir, const char *name, mode_t mode, uint64_t rdev,
	const struct hk_cred *cred)
{
	return make_locked(backend, dir, name,
		&(struct making){.kind = MAKE_NODE, .mode = mode, .rdev = rdev, .cred = cred});
}

int hk_ov_mkdir(struct hk_backend *backend, int dir, const char *name, mode_t mode,
	const struct hk_cred *cred)
{
	return make_locked(
		backend, dir, name, &(struct making){.kind = MAKE_DIR, .mode = mode, .cred = cred});
}

int hk_ov_symlink(struct hk_backend *backend, int dir, const char *name, const char *target,
	const struct hk_cred *cred)
{
	return make_locked(backend, dir, name,
		&(struct making){.kind = MAKE_SYMLINK, .target = target, .cred = cred});
}

/* Makes an object of the file just created, and the file the server's. Takes @fd. */
static int enter_file(struct hk_overlay *ov, struct hk_ov_inode *dir, const char *name, int fd,
	bool is_cow, int flags)
{
	struct hk_ov_inode *inode;
	/* Of its own: the file may be closed first. */
	int obj = HK_HOST_CALL(
		openat(hk_host_of(ov->host)->proc_fd, hk_fd_name(fd).text, O_PATH | O_CLOEXEC));
	int r = obj < 0 ? obj : hk_ov_inode_new(ov, dir, name, obj, is_cow, &inode);

	if (r < 0) {
		close(fd);
		return r;
	}
	return hk_ov_slot_new(ov, inode, fd, flags);
}

int hk_ov_create(struct hk_backend *backend, int dir_obj, const char *name, int flags, mode_t mode,
	const struct hk_cred *cred)
{
	struct hk_overlay *ov = hk_overlay_of(backend);
	struct hk_ov_inode *dir = hk_ov_slot(ov, dir_obj)->inode;
	struct making m = {.kind = MAKE_FILE, .flags = flags, .mode = mode, .cred = cred};
	int r;

	pthread_rwlock_wrlock(&ov->tree);
	r = make(ov, dir, name, &m);
	if (r >= 0) {
		r = enter_file(ov, dir, name, r, hk_ov_is_cow(ov, dir, name), flags);
	}
	pthread_rwlock_unlock(&ov->tree);
	return r;
}

int hk_ov_tmpfile(
	struct hk_backend *backend, int dir_obj, int flags, mode_t mode, const struct hk_cred *cred)
{
	struct hk_overlay *ov = hk_overlay_of(backend);
	struct hk_ov_inode *dir = hk_ov_slot(ov, dir_obj)->inode;
	/* Any name: whose layer would a file in here be? */
	bool is_cow = hk_ov_is_cow(ov, dir, "#tmpfile");
	int at;
	int r = 0;

	pthread_rwlock_wrlock(&ov->tree);
	if (is_cow) {
		r = hk_ov_upper_dir(ov, dir);
	}
	at = is_cow ? dir->upper : dir->lower;
	if (r == 0) {
		r = at < 0 ? -ENOENT : hk_host_tmpfile(ov->host, at, flags, mode, cred);
	}
	if (r >= 0) {
		r = enter_file(ov, NULL, NULL, r, is_cow, flags);
	}
	pthread_rwlock_unlock(&ov->tree);
	return r;
}

int hk_ov_link(struct hk_backend *backend, int obj, int dir_obj, const char *name)
{
	struct hk_overlay *ov = hk_overlay_of(backend);
	struct hk_ov_inode *dir = hk_ov_slot(ov, dir_obj)->inode;
	struct hk_ov_inode *inode = hk_ov_slot(ov, obj)->inode;
	int r;

	if (S_ISDIR(inode->type)) {
		return -EPERM;
	}
	pthread_rwlock_wrlock(&ov->tree);
	r = hk_ov_is_cow(ov, dir, name) != inode->is_cow ? -EXDEV : hk_ov_copy_up(ov, inode, 0);
	if (r == 0 && inode->has_record && inode->is_cow) {
		r = hk_ov_upper_dir(ov, dir);
		r = r < 0 ? r : hk_ov_note_impure(ov, dir);
	}
	if (r == 0) {
		r = make(ov, dir, name, &(struct making){.kind = MAKE_LINK, .inode = inode});
	}
	if (r == 0) {
		r = hk_ov_place(ov, inode, dir, name);
	}
	pthread_rwlock_unlock(&ov->tree);
	return r;
}

/* --- removing --- */

/* A directory that is in the upper tree, and shows nothing; whiteouts may be in it. */
static int put_away(
	struct hk_overlay *ov, struct hk_ov_inode *dir, const char *name, bool needs_whiteout)
{
	struct hk_ov_temp temp = hk_ov_temp(ov);
	struct hk_ov_temp whiteout;
	int fd;
	int r;

	if (!needs_whiteout) {
		r = hk_host_unlink(ov->host, dir->upper, name, true);
		if (r != -ENOTEMPTY && r != -EEXIST) {
			return r;
		}
		r = HK_HOST_CALL(renameat(dir->upper, name, ov->work, temp.text));
	} else {
		/* Exchanged, so that what is below does not show for a moment. */
		whiteout = hk_ov_temp(ov);
		r = HK_HOST_CALL(mknodat(ov->work, whiteout.text, S_IFCHR, 0));
		if (r == 0) {
			r = hk_host_rename(ov->host, ov->work, whiteout.text, dir->upper, name,
				RENAME_EXCHANGE);
			temp = whiteout;
		}
		if (r < 0) {
			unlinkat(ov->work, whiteout.text, 0);
			temp = hk_ov_temp(ov);
			r = HK_HOST_CALL(renameat(dir->upper, name, ov->work, temp.text));
			r = r == 0 ? hk_ov_make_whiteout(ov, dir, name) : r;
		}
	}
	if (r < 0) {
		return r;
	}
	/* It is gone; what stays in the work directory goes when the layer is opened next. */
	fd = hk_host_open_name(ov->work, temp.text, O_RDONLY | O_DIRECTORY, 0);
	if (fd >= 0) {
		hk_ov_remove_tree(fd);
		close(fd);
	}
	unlinkat(ov->work, temp.text, AT_REMOVEDIR);
	return 0;
}

static int remove_upper_dir(
	struct hk_overlay *ov, struct hk_ov_inode *dir, const char *name, bool needs_whiteout)
{
	/*
	 * It may have to go to the work directory: its ".." is written, which takes the right to
	 * write in it.
	 */
	autoclose int itself =
		ov->is_root ? -1 : hk_host_open_name(dir->upper, name, O_PATH | O_DIRECTORY, 0);
	struct hk_ov_lent lent;
	int r = hk_ov_lend(ov, itself, 0300, &lent);

	if (r == 0) {
		r = put_away(ov, dir, name, needs_whiteout);
		if (r < 0) {
			hk_ov_take_back(ov, &lent);
		}
	}
	return r;
}

static int remove_cow_dir(struct hk_overlay *ov, struct hk_ov_inode *dir, const char *name)
{
	struct hk_ov_inode *inode;
	int below;
	int r = hk_ov_reach(ov, dir, name, &inode);

	if (r < 0) {
		return r;
	}
	r = hk_ov_check_empty(ov, inode);
	below = hk_ov_lower_has(ov, dir, name);
	if (r == 0 && below < 0) {
		r = below;
	}
	if (r == 0) {
		r = hk_ov_upper_dir(ov, dir);
	}
	if (r == 0) {
		r = inode->upper >= 0 ? remove_upper_dir(ov, dir, name, below != 0)
				      : hk_ov_make_whiteout(ov, dir, name);
	}
	if (r == 0) {
		hk_ov_note_dir_hidden(ov, inode);
	}
	if (r == 0 && inode->upper >= 0) {
		hk_close(&inode->lower); /* with the whiteouts gone, it would show */
	}
	if (r == 0) {
		hk_ov_place(ov, inode, NULL, NULL);
	}
	hk_ov_unref(ov, inode);
	return r;
}

static int remove_cow_file(struct hk_overlay *ov, struct hk_ov_inode *dir, const char *name,
	const struct hk_ov_found *found)
{
	struct hk_ov_inode *inode = NULL; /* needed where it has more names */
	bool is_indexed = found->has_upper ? found->has_record && found->record.is_indexed
					   : found->lower.nlink > 1;
	bool was_below = found->by_index || !found->has_upper;
	/* Where there is no upper one, it is what is below that was found. */
	int below = found->has_upper ? hk_ov_lower_has(ov, dir, name) : 1;
	unsigned waits = ov->wait_count;
	int r = below < 0 ? below : hk_ov_upper_dir(ov, dir);

	if (r == 0 && is_indexed) {
		r = hk_ov_reach(ov, dir, name, &inode);
		if (r == 0) {
			r = hk_ov_copy_up(ov, inode, HK_OV_NAMELESS);
		}
		if (r == 0 && waits != ov->wait_count) {
			r = -EAGAIN; /* much may have happened: from the start */
		}
	}
	if (r == 0) {
		r = below != 0 ? hk_ov_make_whiteout(ov, dir, name)
			       : hk_host_unlink(ov->host, dir->upper, name, false);
	}
	if (r == 0) {
		hk_ov_note_found_hidden(ov, found);
	}
	if (r == 0 && inode != NULL) {
		hk_ov_name_gone(ov, inode, was_below);
	}
	if (r == 0 && found->has_record && found->upper.nlink == 1) {
		hk_ov_drop_side_record(ov, &found->upper);
	}
	hk_ov_unref(ov, inode);
	return r;
}

static int remove_below(struct hk_overlay *ov, struct hk_ov_inode *dir, const char *name,
	bool is_dir, const struct hk_ov_found *found)
{
	struct hk_ov_inode *inode;
	int r;

	if (!is_dir || !found->has_upper) {
		return hk_host_unlink(ov->host, dir->lower, name, is_dir);
	}
	/* It was a place for what is cow. */
	r = hk_ov_reach(ov, dir, name, &inode);
	if (r < 0) {
		return r;
	}
	r = hk_ov_check_empty(ov, inode);
	hk_ov_unref(ov, inode);
	if (r == 0) {
		r = hk_host_unlink(ov->host, dir->lower, name, true);
	}
	if (r == 0) {
		remove_upper_dir(ov, dir, name, false);
	}
	return r;
}

static int remove_once(
	struct hk_overlay *ov, struct hk_ov_inode *dir, const char *name, bool is_dir)
{
	struct hk_ov_found found;
	struct hk_stat st;
	struct hk_ov_id id;
	int r = hk_ov_find(ov, dir, name, false, &found);

	if (r < 0) {
		return r;
	}
	hk_ov_found_stat(&found, &st);
	if (is_dir != S_ISDIR(st.mode)) {
		return is_dir ? -ENOTDIR : -EISDIR;
	}
	if (!found.is_cow) {
		r = remove_below(ov, dir, name, is_dir, &found);
	} else {
		r = is_dir ? remove_cow_dir(ov, dir, name) : remove_cow_file(ov, dir, name, &found);
	}
	if (r == 0) {
		id = hk_ov_id_of(&st);
		hk_ov_unplace(ov, &id, dir, name);
	}
	return r;
}

int hk_ov_unlink(struct hk_backend *backend, int dir_obj, const char *name, bool is_dir)
{
	struct hk_overlay *ov = hk_overlay_of(backend);
	struct hk_ov_inode *dir = hk_ov_slot(ov, dir_obj)->inode;
	unsigned waits;
	int r;

	pthread_rwlock_wrlock(&ov->tree);
	do {
		waits = ov->wait_count;
		r = remove_once(ov, dir, name, is_dir);
	} while (r == -EAGAIN && waits != ov->wait_count);
	pthread_rwlock_unlock(&ov->tree);
	return r;
}
