/* SPDX-License-Identifier: ISC */
/*
 * Renaming in a copy-on-write tree: see overlay_impl.h.
 *
 * Theory: what moves is first brought into the upper tree, a directory without what is in it, but
 * with a note where that is below (overlay_moved_linux.c); then it is one rename there, which
 * leaves a whiteout where something stands below. So rename(2) of a directory works always, and
 * costs the same for any.
 *
 * Limits: across the border of what is copy-on-write: EXDEV.
 */
#include <linux/fs.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "fuse/overlay_impl.h"

/* One of the two ends. */
struct end {
	struct hk_ov_inode *dir;
	const char *name;
	bool exists;
	struct hk_ov_found found;
	struct hk_stat st;
	struct hk_ov_inode *inode; /* a reference; NULL until it is needed */
};

static bool is_dir(const struct end *end)
{
	return end->exists && S_ISDIR(end->st.mode);
}

static int find_end(struct hk_overlay *ov, struct end *end)
{
	int r = hk_ov_find(ov, end->dir, end->name, false, &end->found);

	end->exists = r == 0;
	if (r == 0) {
		hk_ov_found_stat(&end->found, &end->st);
	}
	return r == -ENOENT ? 0 : r;
}

static int reach_end(struct hk_overlay *ov, struct end *end)
{
	return end->inode != NULL ? 0 : hk_ov_reach(ov, end->dir, end->name, &end->inode);
}

/* Brings it into the upper tree, with a name. */
static int own_end(struct hk_overlay *ov, struct end *end)
{
	int r = reach_end(ov, end);

	if (r < 0) {
		return r;
	}
	if (is_dir(end)) {
		return hk_ov_make_movable(ov, end->inode);
	}
	return end->found.by_index ? hk_ov_give_name(ov, end->dir, end->name, end->inode)
				   : hk_ov_copy_up(ov, end->inode, 0);
}

/* May the target be replaced? */
static int check_target(struct hk_overlay *ov, const struct end *from, struct end *to)
{
	int r;

	if (!to->exists || is_dir(from) != is_dir(to)) {
		return !to->exists ? 0 : is_dir(from) ? -ENOTDIR : -EISDIR;
	}
	if (!is_dir(to)) {
		return 0;
	}
	r = reach_end(ov, to);
	return r < 0 ? r : hk_ov_check_empty(ov, to->inode);
}

static int rename_below(
	const struct hk_overlay *ov, struct end *from, struct end *to, unsigned flags)
{
	/* A directory around something that is copy-on-write stays where it is. */
	if ((is_dir(from) && from->found.has_upper) || (is_dir(to) && to->found.has_upper)) {
		return -EXDEV;
	}
	if (from->dir->lower < 0 || to->dir->lower < 0) {
		return -ENOENT;
	}
	return hk_host_rename(
		ov->host, from->dir->lower, from->name, to->dir->lower, to->name, flags);
}

/* One rename in the upper tree, with a whiteout left behind if there is something below. */
static int rename_leaving(
	struct hk_overlay *ov, const struct end *from, const struct end *to, bool whiteout)
{
	int r = hk_host_rename(ov->host, from->dir->upper, from->name, to->dir->upper, to->name,
		whiteout ? RENAME_WHITEOUT : 0);

	if (whiteout && (r == -EINVAL || r == -EPERM)) {
		r = hk_host_rename(
			ov->host, from->dir->upper, from->name, to->dir->upper, to->name, 0);
		r = r == 0 ? hk_ov_make_whiteout(ov, from->dir, from->name) : r;
	}
	return r;
}

static int rename_dir(
	struct hk_overlay *ov, const struct end *from, const struct end *to, bool whiteout)
{
	int r;

	if (to->found.is_whiteout) {
		/* A directory cannot replace it, but changes places with it. */
		r = hk_host_rename(ov->host, from->dir->upper, from->name, to->dir->upper, to->name,
			RENAME_EXCHANGE);
		if (r == 0 && !whiteout) {
			r = hk_host_unlink(ov->host, from->dir->upper, from->name, false);
		}
		return r;
	}
	if (to->inode != NULL && to->inode->upper >= 0) {
		/* It shows nothing; whiteouts may be in it. */
		r = hk_ov_set_mark(ov, to->inode->upper, NULL, HK_OV_OPAQUE, "y");
		if (r == 0) {
			r = hk_ov_clear_whiteouts(ov, to->inode);
		}
		if (r < 0) {
			return r;
		}
	}
	return rename_leaving(ov, from, to, whiteout);
}

/* The target is a file with further names: they must know that this one goes. */
static int note_replaced(struct hk_overlay *ov, struct end *to)
{
	bool is_indexed = to->found.has_upper ? to->found.has_record && to->found.record.is_indexed
					      : to->found.lower.nlink > 1;
	int r;

	if (!to->exists || is_dir(to) || !is_indexed) {
		return 0;
	}
	r = reach_end(ov, to);
	return r < 0 ? r : hk_ov_copy_up(ov, to->inode, HK_OV_NAMELESS);
}

static int move(struct hk_overlay *ov, struct end *from, struct end *to, bool exchange)
{
	int below;
	int r;

	if (exchange) {
		return hk_host_rename(ov->host, from->dir->upper, from->name, to->dir->upper,
			to->name, RENAME_EXCHANGE);
	}
	below = hk_ov_lower_has(ov, from->dir, from->name);
	if (below < 0) {
		return below;
	}
	r = is_dir(from) ? rename_dir(ov, from, to, below != 0)
			 : rename_leaving(ov, from, to, below != 0);
	if (r < 0 || !to->exists) {
		return r;
	}
	if (!is_dir(to)) {
		hk_ov_note_found_hidden(ov, &to->found);
	} else if (to->inode != NULL) {
		hk_ov_note_dir_hidden(ov, to->inode);
	}
	if (to->inode != NULL && is_dir(to) && to->inode->upper >= 0) {
		hk_close(&to->inode->lower);
	} else if (to->inode != NULL && !is_dir(to)) {
		hk_ov_name_gone(ov, to->inode, to->found.by_index || !to->found.has_upper);
	}
	if (to->found.has_record && to->found.upper.nlink == 1) {
		hk_ov_drop_side_record(ov, &to->found.upper);
	}
	return 0;
}

static int rename_cow(struct hk_overlay *ov, struct end *from, struct end *to, bool exchange)
{
	unsigned waits = ov->wait_count;
	int r = own_end(ov, from);

	if (r == 0) {
		r = exchange ? own_end(ov, to) : note_replaced(ov, to);
	}
	if (r == 0) {
		r = hk_ov_upper_dir(ov, to->dir);
	}
	if (r == 0 && from->inode->has_record) {
		r = hk_ov_note_impure(ov, to->dir);
	}
	if (r == 0 && exchange && to->inode->has_record) {
		r = hk_ov_note_impure(ov, from->dir);
	}
	if (r == 0 && waits != ov->wait_count) {
		r = -EAGAIN; /* much may have happened: from the start */
	}
	return r < 0 ? r : move(ov, from, to, exchange);
}

/* Tells the inodes in use where they are now. */
static int place(struct hk_overlay *ov, struct end *from, struct end *to, bool exchange)
{
	struct hk_ov_id to_id = hk_ov_id_of(&to->st);
	struct hk_ov_id from_id = hk_ov_id_of(&from->st);
	struct hk_ov_inode *inode;
	int r = 0;

	if (to->exists && !exchange) {
		hk_ov_unplace(ov, &to_id, to->dir, to->name);
	}
	inode = hk_ov_live(ov, &from_id);
	if (inode != NULL) {
		r = hk_ov_place(ov, inode, to->dir, to->name);
		hk_ov_unref(ov, inode);
	}
	inode = exchange ? hk_ov_live(ov, &to_id) : NULL;
	if (r == 0 && inode != NULL) {
		r = hk_ov_place(ov, inode, from->dir, from->name);
	}
	hk_ov_unref(ov, inode);
	return r;
}

static int rename_once(struct hk_overlay *ov, struct end *from, struct end *to, unsigned flags)
{
	bool exchange = (flags & RENAME_EXCHANGE) != 0;
	int r = find_end(ov, from);

	if (r == 0) {
		r = find_end(ov, to);
	}
	if (r < 0) {
		return r;
	}
	if (!from->exists || (exchange && !to->exists)) {
		return -ENOENT;
	}
	if (to->exists && (flags & RENAME_NOREPLACE) != 0) {
		return -EEXIST;
	}
	if (from->found.is_cow != to->found.is_cow) {
		return -EXDEV;
	}
	if (to->exists && from->st.ino == to->st.ino && from->st.dev == to->st.dev &&
		from->st.mount == to->st.mount) {
		return 0; /* two names of one file, says POSIX */
	}
	r = exchange ? 0 : check_target(ov, from, to);
	if (r == 0) {
		r = from->found.is_cow ? rename_cow(ov, from, to, exchange)
				       : rename_below(ov, from, to, flags);
	}
	return r < 0 ? r : place(ov, from, to, exchange);
}

int hk_ov_rename(struct hk_backend *backend, int old_dir, const char *old_name, int new_dir,
	const char *new_name, unsigned flags)
{
	struct hk_overlay *ov = hk_overlay_of(backend);
	unsigned waits;
	int r;

	if ((flags & ~(unsigned)(RENAME_NOREPLACE | RENAME_EXCHANGE)) != 0) {
		return -EINVAL;
	}
	pthread_rwlock_wrlock(&ov->tree);
	do {
		struct end from = {.dir = hk_ov_slot(ov, old_dir)->inode, .name = old_name};
		struct end to = {.dir = hk_ov_slot(ov, new_dir)->inode, .name = new_name};

		waits = ov->wait_count;
		r = rename_once(ov, &from, &to, flags);
		hk_ov_unref(ov, from.inode);
		hk_ov_unref(ov, to.inode);
	} while (r == -EAGAIN && waits != ov->wait_count);
	pthread_rwlock_unlock(&ov->tree);
	return r;
}
