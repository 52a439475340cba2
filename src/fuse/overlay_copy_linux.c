/* SPDX-License-Identifier: ISC */
/*
 * Copy-up: what is about to change comes into the upper layer. See overlay_impl.h.
 *
 * Theory: the copy is made in the work directory with all it has, then renamed to its place, so at
 * no moment is half of it there, whoever is killed. Directories come without what is in them,
 * ancestors first. An inode with several names goes to the index, and from there to the name it is
 * known by; the others lead to it (overlay_inode_linux.c) until they get upper names themselves.
 *
 * Data of more than 1 MiB is copied without the tree's lock where the caller needs nothing else to
 * stay as it is. The inode is marked, and whoever wants it copied too waits.
 *
 * Limits: data is not synced before the rename: a crash of the host (not of ours) may leave an
 * empty file in the layer. A tree is copied up as a whole to a depth of OWNED_DEPTH, for each level
 * costs stack and two descriptors.
 */
#include <linux/limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/cleanup.h"
#include "fuse/overlay_impl.h"
#include "fuse/transfer.h"

enum { TRIES = 3, LARGE = 1 << 20, OWNED_DEPTH = 256 };

/* A copy in the making: in the work directory. */
struct copy {
	struct hk_ov_temp temp;
	int fd; /* owned; O_PATH, or open for regular files */
	struct hk_stat st;
	struct hk_transfer_left left;
};

static void wait_for_copy(struct hk_overlay *ov)
{
	pthread_mutex_lock(&ov->copy_lock);
	pthread_rwlock_unlock(&ov->tree);
	pthread_cond_wait(&ov->copied, &ov->copy_lock);
	pthread_mutex_unlock(&ov->copy_lock);
	pthread_rwlock_wrlock(&ov->tree);
	ov->wait_count++;
}

static void end_copy(struct hk_overlay *ov, struct hk_ov_inode *inode)
{
	inode->is_copying = false;
	pthread_mutex_lock(&ov->copy_lock);
	pthread_cond_broadcast(&ov->copied);
	pthread_mutex_unlock(&ov->copy_lock);
}

/* --- making the copy --- */

static bool is_same_data(const struct hk_stat *a, const struct hk_stat *b)
{
	return a->size == b->size && hk_timespec_ns(a->ctime) == hk_timespec_ns(b->ctime);
}

static int copy_regular(
	struct hk_overlay *ov, struct hk_ov_inode *inode, struct copy *copy, unsigned how)
{
	autoclose int from = -1;

	copy->fd = hk_host_open_name(ov->work, copy->temp.text, O_CREAT | O_EXCL | O_RDWR, 0600);
	if (copy->fd < 0 || (how & HK_OV_EMPTY) != 0) {
		return copy->fd < 0 ? copy->fd : 0;
	}
	from = hk_host_open_file(ov->host, inode->lower, O_RDONLY | O_NOATIME);
	if (from < 0) {
		return from;
	}
	/* Again, if it is written to below meanwhile. */
	for (unsigned i = 0; i < TRIES; i++) {
		struct hk_stat after;
		int r = hk_transfer_data(from, copy->fd, copy->st.size);

		if (r == 0) {
			r = ov->host->ops->stat(ov->host, inode->lower, &after);
		}
		if (r < 0 || is_same_data(&after, &copy->st)) {
			return r;
		}
		copy->st = after;
		r = HK_HOST_CALL(ftruncate(copy->fd, 0));
		if (r < 0) {
			return r;
		}
	}
	return -EBUSY;
}

static int make_special(struct hk_overlay *ov, struct hk_ov_inode *inode, struct copy *copy)
{
	char target[PATH_MAX];
	struct stat st;
	ssize_t n;

	if (S_ISDIR(inode->type)) {
		/* seccomp write: mkdirat */
		return HK_HOST_CALL(mkdirat(ov->work, copy->temp.text, 0700));
	}
	if (S_ISLNK(inode->type)) {
		n = HK_HOST_CALL(readlinkat(inode->lower, "", target, sizeof(target) - 1));
		if (n < 0) {
			return (int)n;
		}
		target[n] = '\0';
		return HK_HOST_CALL(symlinkat(target, ov->work, copy->temp.text));
	}
	/* seccomp write: fstat newfstatat */
	if (fstat(inode->lower, &st) < 0) {
		return -errno;
	}
	return HK_HOST_CALL(mknodat(ov->work, copy->temp.text, inode->type | 0600, st.st_rdev));
}

static struct hk_ov_record record_of(
	struct hk_overlay *ov, const struct hk_ov_inode *inode, const struct copy *copy)
{
	return (struct hk_ov_record){
		.id = inode->id,
		.ctime_ns = hk_timespec_ns(copy->st.ctime),
		.mtime_ns = hk_timespec_ns(copy->st.mtime),
		.size = copy->st.size,
		.uid = copy->left.uid ? (int64_t)copy->st.uid : -1,
		.gid = copy->left.gid ? (int64_t)copy->st.gid : -1,
		.path_hash = hk_ov_path_hash(ov, inode->parent, inode->name),
	};
}

static void drop_copy(struct hk_overlay *ov, struct copy *copy, bool is_dir)
{
	hk_close(&copy->fd);
	unlinkat(ov->work, copy->temp.text, is_dir ? AT_REMOVEDIR : 0);
}

/* The inode's copy with all but its record. */
static int make_copy(
	struct hk_overlay *ov, struct hk_ov_inode *inode, struct copy *copy, unsigned how)
{
	int r = ov->host->ops->stat(ov->host, inode->lower, &copy->st);

	copy->temp = hk_ov_temp(ov);
	copy->fd = -1;
	copy->left = (struct hk_transfer_left){0};
	if (r < 0) {
		return r;
	}
	if (S_ISREG(inode->type)) {
		r = copy_regular(ov, inode, copy, how);
	} else {
		r = make_special(ov, inode, copy);
		if (r == 0) {
			copy->fd = hk_host_open_name(ov->work, copy->temp.text, O_PATH, 0);
			r = copy->fd < 0 ? copy->fd : 0;
		}
	}
	if (r == 0) {
		r = hk_transfer_meta(ov->host, inode->lower, copy->fd, &copy->st,
			hk_ov_is_our_xattr, &copy->left);
	}
	if (r < 0) {
		drop_copy(ov, copy, S_ISDIR(inode->type));
	}
	return r;
}

/* --- bringing it to its place --- */

int hk_ov_note_impure(struct hk_overlay *ov, struct hk_ov_inode *dir)
{
	int r = dir->is_impure ? 0 : hk_ov_set_mark(ov, dir->upper, NULL, HK_OV_IMPURE, "y");

	dir->is_impure |= r == 0;
	return r;
}

/* From the work directory, or the index, to the inode's place. */
static int put_in_place(struct hk_overlay *ov, struct hk_ov_inode *dir, const char *name,
	int from_dir, const char *from, bool by_link)
{
	/* Its "..", too, is written, which takes the right to write in it. */
	autoclose int moved = by_link || ov->is_root
		? -1
		: hk_host_open_name(from_dir, from, O_PATH | O_DIRECTORY, 0);
	struct hk_ov_lent around;
	struct hk_ov_lent itself;
	int r = hk_ov_lend(ov, dir->upper, 0300, &around);

	if (r < 0) {
		return r;
	}
	r = hk_ov_note_impure(ov, dir);
	if (r == 0) {
		r = hk_ov_lend(ov, moved, 0300, &itself);
	}
	if (r == 0) {
		/* seccomp write: linkat renameat */
		r = HK_HOST_CALL(by_link ? linkat(from_dir, from, dir->upper, name, 0)
					 : renameat(from_dir, from, dir->upper, name));
		hk_ov_take_back(ov, &itself);
	}
	/* What we do in a directory does not change its times. */
	hk_ov_leave_as_was(ov, &around);
	return r;
}

static int install_indexed(struct hk_overlay *ov, struct hk_ov_inode *inode, struct copy *copy,
	struct hk_ov_record *record, unsigned how)
{
	struct hk_ov_index_name name = hk_ov_index_name(&inode->id);
	bool has_name = inode->parent != NULL && (how & HK_OV_NAMELESS) == 0;
	int r;

	record->is_indexed = true;
	record->links = copy->st.nlink - (has_name ? 1 : 0);
	r = hk_ov_set_record(ov, ov->work, copy->temp.text, record);
	if (r == 0) {
		r = HK_HOST_CALL(renameat(ov->work, copy->temp.text, ov->index, name.text));
	}
	if (r < 0) {
		return r;
	}
	atomic_store(&ov->has_index, true);
	if (has_name) {
		r = put_in_place(ov, inode->parent, inode->name, ov->index, name.text, true);
		if (r < 0) {
			unlinkat(ov->index, name.text, 0);
		}
	}
	return r;
}

static int install(
	struct hk_overlay *ov, struct hk_ov_inode *inode, struct copy *copy, unsigned how)
{
	struct hk_ov_record record = record_of(ov, inode, copy);
	struct hk_ov_inode *parent = inode->parent;
	int fd = -1;
	int r = parent != NULL ? hk_ov_wake(ov, parent) : 0;

	if (r < 0) {
		drop_copy(ov, copy, S_ISDIR(inode->type));
		return r;
	}
	if (S_ISREG(inode->type)) {
		fd = hk_host_open_name(ov->work, copy->temp.text, O_PATH, 0);
		r = fd < 0 ? fd : 0;
	} else {
		fd = take_fd(&copy->fd);
	}
	if (r == 0 && parent != NULL) {
		r = hk_ov_upper_dir(ov, parent);
	}
	if (r == 0 && !S_ISDIR(inode->type) && copy->st.nlink > 1) {
		r = install_indexed(ov, inode, copy, &record, how);
	} else if (r == 0) {
		r = hk_ov_set_record(ov, ov->work, copy->temp.text, &record);
		if (r == 0 && parent != NULL) {
			r = put_in_place(ov, parent, inode->name, ov->work, copy->temp.text, false);
		} else if (r == 0) {
			unlinkat(ov->work, copy->temp.text, 0); /* open, without a name */
		}
	}
	if (r < 0) {
		hk_ov_unref(ov, parent);
		hk_close(&fd);
		drop_copy(ov, copy, S_ISDIR(inode->type));
		return r;
	}
	hk_close(&copy->fd);
	inode->upper = fd;
	inode->record = record;
	inode->has_record = true;
	if (!S_ISDIR(inode->type)) {
		hk_close(&inode->lower);
		if (parent != NULL && (how & HK_OV_NAMELESS) == 0) {
			hk_ov_note_hidden(ov, hk_ov_record_digest(&record));
		}
	}
	hk_ov_unref(ov, parent);
	atomic_store_explicit(&inode->is_copied, inode->is_cow, memory_order_release);
	return 0;
}

static int copy_dir(struct hk_overlay *ov, struct hk_ov_inode *dir)
{
	struct copy copy;
	int r = make_copy(ov, dir, &copy, 0);

	return r < 0 ? r : install(ov, dir, &copy, 0);
}

/* How many from @dir upwards are below only, or parked, so that nobody knows. 0: it is nowhere. */
static size_t count_below(struct hk_overlay *ov, const struct hk_ov_inode *dir)
{
	size_t count = 0;

	pthread_mutex_lock(&ov->live_lock);
	for (; dir != NULL && dir->upper < 0; dir = dir->parent) {
		count++;
	}
	pthread_mutex_unlock(&ov->live_lock);
	return dir == NULL ? 0 : count;
}

/* From above, by a list: how deep it is, the guest says. */
int hk_ov_upper_dir(struct hk_overlay *ov, struct hk_ov_inode *dir)
{
	autofree struct hk_ov_inode **way = NULL;
	struct hk_ov_inode *above = NULL;
	struct hk_ov_inode *at = dir;
	size_t count;
	int r = 0;

	if (dir->upper >= 0) {
		return 0;
	}
	count = count_below(ov, dir);
	if (count == 0) {
		return -ENOENT; /* removed */
	}
	way = hk_calloc(count, sizeof(struct hk_ov_inode *));
	if (way == NULL) {
		return -ENOMEM;
	}
	for (size_t i = 0; i < count; i++, at = at->parent) {
		way[i] = at;
	}
	/*
	 * Each wakes, and is copied, while the one above is held: else that would be looked for
	 * from the top.
	 */
	while (r == 0 && count-- > 0) {
		r = hk_ov_wake(ov, way[count]);
		if (r < 0) {
			break;
		}
		r = way[count]->upper >= 0 ? 0 : copy_dir(ov, way[count]);
		hk_ov_unref(ov, above);
		above = way[count];
	}
	hk_ov_unref(ov, above);
	return r;
}

int hk_ov_copy_up(struct hk_overlay *ov, struct hk_ov_inode *inode, unsigned how)
{
	struct hk_stat st;
	struct copy copy;
	int r;

	if (!inode->is_cow) {
		return 0;
	}
	if (S_ISDIR(inode->type)) {
		return hk_ov_upper_dir(ov, inode);
	}
	while (inode->is_copying) {
		wait_for_copy(ov);
	}
	if (inode->upper >= 0) {
		return 0;
	}
	r = ov->host->ops->stat(ov->host, inode->lower, &st);
	if (r < 0) {
		return r;
	}
	if (S_ISCHR(st.mode) && st.rdev == 0) {
		return -EPERM; /* a whiteout of another's: as ours it would say that there is nothing */
	}
	if ((how & HK_OV_ALONE) == 0 || st.size < LARGE || (how & HK_OV_EMPTY) != 0) {
		r = make_copy(ov, inode, &copy, how);
		return r < 0 ? r : install(ov, inode, &copy, how);
	}
	inode->is_copying = true;
	pthread_rwlock_unlock(&ov->tree);
	r = make_copy(ov, inode, &copy, how);
	pthread_rwlock_wrlock(&ov->tree);
	r = r < 0 ? r : install(ov, inode, &copy, how);
	end_copy(ov, inode);
	return r;
}

/* --- names of what is in the index; records --- */

int hk_ov_save_record(struct hk_overlay *ov, struct hk_ov_inode *inode)
{
	return hk_ov_set_record(ov, inode->upper, NULL, &inode->record);
}

int hk_ov_give_name(
	struct hk_overlay *ov, struct hk_ov_inode *dir, const char *name, struct hk_ov_inode *inode)
{
	struct hk_ov_index_name index = hk_ov_index_name(&inode->id);
	int r = hk_ov_upper_dir(ov, dir);

	if (r == 0) {
		r = put_in_place(ov, dir, name, ov->index, index.text, true);
	}
	if (r == 0) {
		hk_ov_note_hidden(ov, hk_ov_record_digest(&inode->record));
	}
	if (r == 0 && inode->record.links > 0) {
		inode->record.links--;
		r = hk_ov_save_record(ov, inode);
	}
	return r;
}

void hk_ov_name_gone(struct hk_overlay *ov, struct hk_ov_inode *inode, bool was_below)
{
	struct hk_ov_index_name name = hk_ov_index_name(&inode->id);
	struct hk_stat st;

	if (!inode->has_record || !inode->record.is_indexed) {
		return;
	}
	if (was_below && inode->record.links > 0) {
		inode->record.links--;
		hk_ov_save_record(ov, inode); /* if not, a link too many is shown */
	}
	if (inode->record.links == 0 && ov->host->ops->stat(ov->host, inode->upper, &st) == 0 &&
		st.nlink == 1) {
		unlinkat(ov->index, name.text, 0);
	}
}

/* --- whole trees --- */

static int own_tree(struct hk_overlay *ov, struct hk_ov_inode *dir, unsigned depth);

static int own_entry(struct hk_overlay *ov, struct hk_ov_inode *dir,
	const struct hk_ov_entry *entry, unsigned depth)
{
	struct hk_ov_inode *inode;
	bool was_copied;
	int r = hk_ov_reach(ov, dir, entry->name, &inode);

	if (r < 0) {
		return r == -ENOENT ? 0 : r;
	}
	was_copied = inode->upper >= 0;
	if (!inode->is_cow || depth == OWNED_DEPTH) {
		r = -EXDEV; /* who would rename has to copy */
	} else if (S_ISDIR(inode->type)) {
		r = own_tree(ov, inode, depth + 1);
	} else if (!entry->is_upper && was_copied) {
		r = hk_ov_give_name(ov, dir, entry->name, inode);
	} else {
		r = hk_ov_copy_up(ov, inode, 0);
	}
	hk_ov_unref(ov, inode);
	return r;
}

static int own_tree(struct hk_overlay *ov, struct hk_ov_inode *dir, unsigned depth)
{
	struct hk_ov_listing listing = {0};
	int r = hk_ov_upper_dir(ov, dir);

	if (r < 0 || dir->lower < 0) {
		return r;
	}
	r = hk_ov_list(ov, dir, &listing);
	for (size_t i = 0; r == 0 && i < listing.count; i++) {
		r = own_entry(ov, dir, &listing.entries[i], depth);
	}
	hk_ov_list_finish(&listing);
	if (r == 0) {
		r = hk_ov_set_mark(ov, dir->upper, NULL, HK_OV_OPAQUE, "y");
	}
	if (r == 0) {
		r = dir->xattr_whiteouts ? hk_ov_clear_whiteouts(ov, dir) : 0;
		dir->xattr_whiteouts = false;
		hk_ov_note_dir_hidden(ov, dir);
		free(dir->redirect);
		dir->redirect = NULL;
		hk_close(&dir->lower);
	}
	return r;
}

int hk_ov_own_tree(struct hk_overlay *ov, struct hk_ov_inode *dir)
{
	return own_tree(ov, dir, 0);
}
