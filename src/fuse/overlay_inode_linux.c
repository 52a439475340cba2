/* SPDX-License-Identifier: ISC */
/*
 * Which inode a name of a copy-on-write tree stands for, and the inodes that are in use: see
 * overlay_impl.h.
 *
 * Theory: a name is looked for in the upper directory, then, unless a whiteout or an opaque
 * directory is in the way, in the lower one. What was copied up has a record of what it was, and
 * goes on under that identity. A file with several names is copied up once: the index, a directory
 * of the layer, has it under the number it has below, so that every other name, though it stands
 * below, leads to the copy. What is below an upper directory is at the same name, or where its
 * redirection says (overlay_moved_linux.c).
 *
 * A name that is not for the upper layer (is_cow() says no) is looked for below only. The directory
 * around one that is may have an upper twin nevertheless, as a place for it: only names are taken
 * from that.
 *
 * Limits: the layer itself is hidden where it lies within what it is over.
 */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/hash.h"
#include "base/str.h"
#include "fuse/overlay_impl.h"

enum { MAX_PATH_DEPTH = 4096 };

struct hk_ov_id hk_ov_id_of(const struct hk_stat *st)
{
	return (struct hk_ov_id){
		.dev = st->dev, .ino = st->ino, .mount = st->mount, .born_ns = st->born_ns};
}

/* --- whose layer a name is --- */

/*
 * The path of @name in @dir, or (@below) in its lower directory. live_lock held. Return: false
 * where it is nowhere, or too deep.
 */
static bool path_of(struct hk_overlay *ov, struct hk_ov_inode *dir, const char *name, bool below,
	struct hk_str *path)
{
	const struct hk_ov_inode *top = dir;
	const char **parts;
	unsigned depth = 0;
	bool is_known = true;

	while (top != ov->root && is_known && !(below && top->redirect != NULL)) {
		is_known = top->parent != NULL && ++depth < MAX_PATH_DEPTH;
		top = top->parent;
	}
	parts = is_known ? hk_calloc(depth + 1, sizeof(*parts)) : NULL;
	if (parts == NULL) {
		return false;
	}
	depth = 0;
	for (const struct hk_ov_inode *at = dir; at != top; at = at->parent) {
		parts[depth++] = at->name;
	}
	hk_str_add(path, below && top->redirect != NULL ? top->redirect : "");
	while (depth > 0) {
		hk_str_add(path, "/");
		hk_str_add(path, parts[--depth]);
	}
	hk_str_add(path, "/");
	hk_str_add(path, name);
	free(parts);
	return !path->failed;
}

bool hk_ov_is_cow(struct hk_overlay *ov, struct hk_ov_inode *dir, const char *name)
{
	struct hk_str path = {0};
	bool is_known;
	bool is_cow;

	if (ov->is_cow == NULL) {
		return true;
	}
	pthread_mutex_lock(&ov->live_lock);
	is_known = path_of(ov, dir, name, false, &path);
	pthread_mutex_unlock(&ov->live_lock);
	/* What is nowhere goes with the directory it was in; nothing is made there any more. */
	is_cow = is_known ? ov->is_cow(ov->arg, hk_str_text(&path)) : dir->is_cow;
	hk_str_finish(&path);
	return is_cow;
}

uint64_t hk_ov_hash(const char *text)
{
	return hk_hash_bytes(HK_HASH_START, text, strlen(text));
}

int hk_ov_lower_path(
	struct hk_overlay *ov, struct hk_ov_inode *dir, const char *name, char **ret_path)
{
	struct hk_str path = {0};
	bool is_known;
	int r;

	pthread_mutex_lock(&ov->live_lock);
	is_known = dir != NULL && path_of(ov, dir, name, true, &path);
	pthread_mutex_unlock(&ov->live_lock);
	r = is_known ? hk_str_take(&path, ret_path) : -ENOENT;
	hk_str_finish(&path);
	return r;
}

uint64_t hk_ov_path_hash(struct hk_overlay *ov, struct hk_ov_inode *dir, const char *name)
{
	autofree char *path = NULL;

	return hk_ov_lower_path(ov, dir, name, &path) < 0 ? 0 : hk_ov_hash(path + 1);
}

/* --- finding --- */

/* One name in one layer. */
static int look(struct hk_overlay *ov, int dir, const char *name, bool want_fd, int *ret_fd,
	struct hk_stat *st)
{
	int fd;
	int r;

	if (!want_fd) {
		return ov->host->ops->lookup(ov->host, dir, name, st);
	}
	fd = ov->host->ops->reach(ov->host, dir, name);
	if (fd < 0) {
		return fd;
	}
	r = ov->host->ops->stat(ov->host, fd, st);
	if (r < 0) {
		close(fd);
		return r;
	}
	*ret_fd = fd;
	return 0;
}

void hk_ov_found_finish(struct hk_ov_found *found)
{
	hk_close(&found->upper_fd);
	hk_close(&found->lower_fd);
	free(found->redirect);
	found->redirect = NULL;
}

static void drop_upper(struct hk_ov_found *found)
{
	hk_close(&found->upper_fd);
	found->has_upper = false;
}

static void drop_lower(struct hk_ov_found *found)
{
	hk_close(&found->lower_fd);
	found->has_lower = false;
}

static int find_upper(struct hk_overlay *ov, struct hk_ov_inode *dir, const char *name,
	bool want_fds, struct hk_ov_found *found)
{
	int r = look(ov, dir->upper, name, want_fds, &found->upper_fd, &found->upper);

	if (r < 0) {
		return r;
	}
	found->has_upper = true;
	if (hk_ov_is_whiteout(ov, dir->upper, name, &found->upper, dir->xattr_whiteouts)) {
		drop_upper(found);
		found->is_whiteout = true;
		return -ENOENT;
	}
	if (!found->is_cow && !S_ISDIR(found->upper.mode)) {
		drop_upper(found); /* not from here any more */
		return -ENOENT;
	}
	found->has_record = dir->is_impure &&
		hk_ov_get_record(ov, dir->upper, name, &found->upper, &found->record) != 0;
	return 0;
}

struct hk_ov_index_name hk_ov_index_name(const struct hk_ov_id *id)
{
	struct hk_ov_index_name name;

	hk_fmt(name.text, sizeof(name.text), "%llx-%llx", (unsigned long long)id->dev,
		(unsigned long long)id->ino);
	return name;
}

/* Was the inode below copied up by another of its names? */
static void find_index(struct hk_overlay *ov, bool want_fds, struct hk_ov_found *found)
{
	struct hk_ov_id id = hk_ov_id_of(&found->lower);
	struct hk_ov_index_name name;

	if (!atomic_load_explicit(&ov->has_index, memory_order_relaxed)) {
		return;
	}
	name = hk_ov_index_name(&id);
	if (look(ov, ov->index, name.text, want_fds, &found->upper_fd, &found->upper) < 0) {
		return;
	}
	if (hk_ov_get_record(ov, ov->index, name.text, &found->upper, &found->record) == 0 ||
		found->record.id.born_ns != found->lower.born_ns) {
		hk_close(&found->upper_fd); /* the number belongs to another file by now */
		return;
	}
	found->has_upper = true;
	found->has_record = true;
	found->by_index = true;
	drop_lower(found);
}

static int find_lower(struct hk_overlay *ov, struct hk_ov_inode *dir, const char *name,
	bool want_fds, struct hk_ov_found *found)
{
	int r = look(ov, dir->lower, name, want_fds, &found->lower_fd, &found->lower);

	if (r < 0) {
		return r;
	}
	found->has_lower = true;
	if (found->lower.ino == ov->layer_ino && found->lower.dev == ov->layer_dev) {
		drop_lower(found);
		return -ENOENT;
	}
	if (found->has_upper && !S_ISDIR(found->lower.mode)) {
		drop_lower(found);
	} else if (found->is_cow && !S_ISDIR(found->lower.mode) && found->lower.nlink > 1) {
		find_index(ov, want_fds, found);
	}
	return 0;
}

/* A directory that was renamed: what is below is elsewhere. */
static int find_moved(struct hk_overlay *ov, struct hk_ov_inode *dir, const char *name,
	bool want_fds, struct hk_ov_found *found)
{
	autofree char *path = NULL;
	autoclose int fd = -1;
	int r = 0;

	fd = hk_ov_open_moved(ov, dir->upper, name, &found->record, &found->lower, &path);
	if (fd == -ENOENT && dir->lower >= 0) {
		/* An interrupted hako apply may have renamed it there, too. */
		r = look(ov, dir->lower, name, true, &fd, &found->lower);
		if (r < 0 && r != -ENOENT) {
			return r;
		}
		if (r == 0 && !hk_ov_is_original(&found->record, &found->lower)) {
			hk_close(&fd);
			fd = -ENOENT;
		}
	}
	if (fd == -ENOENT) {
		/* It may be elsewhere by now, as another's. */
		found->record.id = hk_ov_id_of(&found->upper);
		return 0;
	}
	if (fd < 0) {
		return fd;
	}
	found->has_lower = true;
	if (want_fds) {
		found->lower_fd = take_fd(&fd);
		found->redirect = take_ptr(path);
	}
	return 0;
}

int hk_ov_find(struct hk_overlay *ov, struct hk_ov_inode *dir, const char *name, bool want_fds,
	struct hk_ov_found *found)
{
	bool may_be_below = dir->lower >= 0;
	int r = -ENOENT;

	*found = (struct hk_ov_found){
		.is_cow = hk_ov_is_cow(ov, dir, name), .upper_fd = -1, .lower_fd = -1};
	if (dir->upper >= 0) {
		r = find_upper(ov, dir, name, want_fds, found);
		if (r < 0 && (r != -ENOENT || (found->is_whiteout && found->is_cow))) {
			return r;
		}
		if (found->has_upper && S_ISDIR(found->upper.mode) &&
			(may_be_below || found->has_record)) {
			found->mark = hk_ov_get_mark(ov, dir->upper, name, HK_OV_OPAQUE);
		}
		if (found->has_upper && found->is_cow) {
			may_be_below &= S_ISDIR(found->upper.mode) && found->mark != 'y' &&
				!hk_ov_is_moved(found->mark);
		}
		if (found->is_cow && hk_ov_is_moved(found->mark)) {
			r = find_moved(ov, dir, name, want_fds, found);
			if (r < 0) {
				return r;
			}
		}
	}
	if (may_be_below) {
		r = find_lower(ov, dir, name, want_fds, found);
	}
	if (!found->is_cow && !found->has_lower) {
		drop_upper(found);
	}
	if (found->has_upper || found->has_lower) {
		return 0;
	}
	return r < 0 ? r : -ENOENT;
}

void hk_ov_stat_with(const struct hk_ov_record *record, struct hk_stat *st)
{
	st->dev = record->id.dev;
	st->ino = record->id.ino;
	st->mount = record->id.mount;
	st->born_ns = record->id.born_ns;
	if (record->uid >= 0) {
		st->uid = (uint32_t)record->uid;
	}
	if (record->gid >= 0) {
		st->gid = (uint32_t)record->gid;
	}
	if (record->is_indexed && st->nlink > 0) {
		st->nlink += record->links - 1;
	}
}

static void found_stat(const struct hk_stat *upper, const struct hk_stat *lower, bool is_cow,
	const struct hk_ov_record *record, struct hk_stat *st)
{
	assert(upper != NULL || lower != NULL);
	if (upper == NULL || !is_cow) {
		*st = *lower;
		return;
	}
	*st = *upper;
	if (record != NULL) {
		hk_ov_stat_with(record, st);
	}
	if (lower != NULL) {
		st->nlink = 1; /* a directory in both: nobody has counted */
	}
}

void hk_ov_found_stat(const struct hk_ov_found *found, struct hk_stat *st)
{
	found_stat(found->has_upper ? &found->upper : NULL, found->has_lower ? &found->lower : NULL,
		found->is_cow, found->has_record ? &found->record : NULL, st);
}

int hk_ov_inode_stat(struct hk_overlay *ov, struct hk_ov_inode *inode, struct hk_stat *st)
{
	struct hk_stat upper;
	struct hk_stat lower;
	bool has_upper = inode->upper >= 0 && inode->is_cow;
	bool has_lower = inode->lower >= 0;
	int r = 0;

	if (has_upper) {
		r = ov->host->ops->stat(ov->host, inode->upper, &upper);
	}
	if (r == 0 && has_lower && !has_upper) {
		r = ov->host->ops->stat(ov->host, inode->lower, &lower);
	}
	if (r < 0) {
		return r;
	}
	if (!has_upper && !has_lower) {
		return -ESTALE;
	}
	found_stat(has_upper ? &upper : NULL, has_lower ? &lower : NULL, inode->is_cow,
		inode->has_record ? &inode->record : NULL, st);
	if (!has_upper && inode->is_cow && !S_ISDIR(inode->type)) {
		/* A whiteout took its only name: it is still there below. */
		pthread_mutex_lock(&ov->live_lock);
		st->nlink = inode->parent == NULL && inode != ov->root ? 0 : st->nlink;
		pthread_mutex_unlock(&ov->live_lock);
	}
	return 0;
}

int hk_ov_lower_has(struct hk_overlay *ov, struct hk_ov_inode *dir, const char *name)
{
	struct hk_stat st;
	int r;

	if (dir->lower < 0) {
		return 0;
	}
	r = ov->host->ops->lookup(ov->host, dir->lower, name, &st);
	return r == 0 ? 1 : r == -ENOENT ? 0 : r;
}

/* --- reaching --- */

static void load_marks(
	struct hk_overlay *ov, struct hk_ov_inode *inode, const struct hk_ov_found *found)
{
	if (S_ISDIR(inode->type) && inode->upper >= 0) {
		inode->xattr_whiteouts = found->mark == 'x' || found->mark == 'R';
		inode->is_impure = hk_ov_get_mark(ov, inode->upper, NULL, HK_OV_IMPURE) != '\0';
	}
}

/* Takes the descriptors of @found. */
static int inode_from(struct hk_overlay *ov, struct hk_ov_found *found, struct hk_ov_inode *dir,
	const char *name, struct hk_ov_inode **ret_inode)
{
	struct hk_ov_inode *inode;
	struct hk_stat st;
	int r;

	hk_ov_found_stat(found, &st);
	if (hk_new(inode) == NULL) {
		hk_ov_found_finish(found);
		return -ENOMEM;
	}
	inode->id = hk_ov_id_of(&st);
	inode->type = st.mode & S_IFMT;
	inode->is_cow = found->is_cow;
	inode->upper = take_fd(&found->upper_fd);
	inode->lower = take_fd(&found->lower_fd);
	inode->has_record = found->has_record;
	inode->record = found->record;
	inode->redirect = take_ptr(found->redirect);
	atomic_init(&inode->is_copied, inode->is_cow && inode->upper >= 0);
	load_marks(ov, inode, found);
	inode = hk_ov_enter(ov, inode);
	r = name != NULL ? hk_ov_place(ov, inode, dir, name) : 0;
	if (r < 0) {
		hk_ov_unref(ov, inode);
		return r;
	}
	*ret_inode = inode;
	return 0;
}

int hk_ov_reach(struct hk_overlay *ov, struct hk_ov_inode *dir, const char *name,
	struct hk_ov_inode **ret_inode)
{
	struct hk_ov_found found;
	int r = hk_ov_find(ov, dir, name, true, &found);

	if (r < 0) {
		hk_ov_found_finish(&found);
		return r;
	}
	return inode_from(ov, &found, dir, name, ret_inode);
}

int hk_ov_inode_new(struct hk_overlay *ov, struct hk_ov_inode *dir, const char *name, int fd,
	bool is_cow, struct hk_ov_inode **ret_inode)
{
	struct hk_ov_found found = {.is_cow = is_cow, .upper_fd = -1, .lower_fd = -1};
	struct hk_stat st;
	int r = ov->host->ops->stat(ov->host, fd, &st);

	if (r < 0) {
		close(fd);
		return r;
	}
	if (is_cow) {
		found.has_upper = true;
		found.upper = st;
		found.upper_fd = fd;
	} else {
		found.has_lower = true;
		found.lower = st;
		found.lower_fd = fd;
	}
	return inode_from(ov, &found, dir, name, ret_inode);
}
