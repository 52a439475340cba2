/* SPDX-License-Identifier: ISC */
/*
 * Which inode a name of a copy-on-write tree stands for, and the inodes that are in use: see overlay_impl.h.
 *
 * Theory: a name is looked for in the upper directory, then, unless a whiteout or an opaque directory is in the way, in
 * the lower one. What was copied up has a record of what it was, and goes on under that identity. A file with several
 * names is copied up once: the index, a directory of the layer, has it under the number it has below, so that every
 * other name, though it stands below, leads to the copy.
 *
 * A name that is not for the upper layer (is_cow() says no) is looked for below only. The directory around one that is
 * may have an upper twin nevertheless, as a place for it: only names are taken from that.
 *
 * Limits: the layer itself is hidden where it lies within what it is over.
 */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/str.h"
#include "fuse/overlay_impl.h"

enum { MAX_PATH_DEPTH = 4096 };

struct hk_ov_id hk_ov_id_of(const struct hk_stat *st)
{
	return (struct hk_ov_id){
		.dev = st->dev, .ino = st->ino, .mount = st->mount, .born_ns = st->born_ns};
}

static bool is_same_id(const struct hk_ov_id *a, const struct hk_ov_id *b)
{
	return a->ino == b->ino && a->dev == b->dev && a->mount == b->mount &&
		a->born_ns == b->born_ns;
}

/* --- whose layer a name is --- */

/* The path of @name in @dir. live_lock held. Return: false where it is nowhere, or too deep. */
static bool path_of(
	struct hk_overlay *ov, struct hk_ov_inode *dir, const char *name, struct hk_str *path)
{
	const char **parts;
	unsigned depth = 0;
	bool is_known = true;

	for (struct hk_ov_inode *at = dir; at != ov->root && is_known; at = at->parent) {
		is_known = at->parent != NULL && ++depth < MAX_PATH_DEPTH;
	}
	parts = is_known ? hk_calloc(depth + 1, sizeof(*parts)) : NULL;
	if (parts == NULL) {
		return false;
	}
	depth = 0;
	for (struct hk_ov_inode *at = dir; at != ov->root; at = at->parent) {
		parts[depth++] = at->name;
	}
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
	is_known = path_of(ov, dir, name, &path);
	pthread_mutex_unlock(&ov->live_lock);
	/* What is nowhere goes with the directory it was in; nothing is made there any more. */
	is_cow = is_known ? ov->is_cow(ov->arg, hk_str_text(&path)) : dir->is_cow;
	hk_str_finish(&path);
	return is_cow;
}

uint64_t hk_ov_hash(const char *text)
{
	uint64_t hash = UINT64_C(14695981039346656037);

	for (; *text != '\0'; text++) {
		hash = (hash ^ (unsigned char)*text) * UINT64_C(1099511628211);
	}
	return hash;
}

uint64_t hk_ov_path_hash(struct hk_overlay *ov, struct hk_ov_inode *dir, const char *name)
{
	struct hk_str path = {0};
	uint64_t hash = 0;

	pthread_mutex_lock(&ov->live_lock);
	if (dir != NULL && path_of(ov, dir, name, &path)) {
		hash = hk_ov_hash(hk_str_text(&path) + 1);
	}
	pthread_mutex_unlock(&ov->live_lock);
	hk_str_finish(&path);
	return hash;
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
	found->has_record =
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
		if (found->has_upper && may_be_below && found->is_cow) {
			may_be_below = S_ISDIR(found->upper.mode) &&
				hk_ov_get_mark(ov, dir->upper, name, HK_OV_OPAQUE) != 'y';
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

/* --- inodes in use --- */

static struct hk_ov_inode **bucket_of(struct hk_overlay *ov, const struct hk_ov_id *id)
{
	uint64_t hash = (id->ino ^ id->dev << 17 ^ id->mount << 40) * UINT64_C(0x9e3779b97f4a7c15);

	return &ov->buckets[hash >> 52];
}

static_assert(HK_OV_BUCKETS == 1 << 12, "bucket_of() takes the upper 12 bits");

/* live_lock held. */
static struct hk_ov_inode *live_locked(struct hk_overlay *ov, const struct hk_ov_id *id)
{
	for (struct hk_ov_inode *i = *bucket_of(ov, id); i != NULL; i = i->hash_next) {
		if (is_same_id(&i->id, id)) {
			i->refs++;
			return i;
		}
	}
	return NULL;
}

struct hk_ov_inode *hk_ov_live(struct hk_overlay *ov, const struct hk_ov_id *id)
{
	struct hk_ov_inode *inode;

	pthread_mutex_lock(&ov->live_lock);
	inode = live_locked(ov, id);
	pthread_mutex_unlock(&ov->live_lock);
	return inode;
}

static void free_inode(struct hk_ov_inode *inode)
{
	hk_close(&inode->upper);
	hk_close(&inode->lower);
	free(inode->name);
	free(inode);
}

void hk_ov_unref(struct hk_overlay *ov, struct hk_ov_inode *inode)
{
	struct hk_ov_inode *dead = NULL;

	if (inode == NULL) {
		return;
	}
	pthread_mutex_lock(&ov->live_lock);
	/* The last reference to a child is one less to its parent. */
	while (inode != NULL && --inode->refs == 0) {
		struct hk_ov_inode **at = bucket_of(ov, &inode->id);
		struct hk_ov_inode *parent = inode->parent;

		while (*at != inode) {
			at = &(*at)->hash_next;
		}
		*at = inode->hash_next;
		inode->hash_next = dead;
		dead = inode;
		inode = parent;
	}
	pthread_mutex_unlock(&ov->live_lock);
	while (dead != NULL) {
		struct hk_ov_inode *next = dead->hash_next;

		free_inode(dead);
		dead = next;
	}
}

int hk_ov_place(
	struct hk_overlay *ov, struct hk_ov_inode *inode, struct hk_ov_inode *dir, const char *name)
{
	struct hk_ov_inode *old_parent = NULL;
	char *copy;

	if (inode == ov->root) {
		return 0;
	}
	pthread_mutex_lock(&ov->live_lock);
	if (inode->parent == dir && (dir == NULL || strcmp(inode->name, name) == 0)) {
		pthread_mutex_unlock(&ov->live_lock);
		return 0;
	}
	copy = dir != NULL ? hk_strdup(name) : NULL;
	if (dir != NULL && copy == NULL) {
		pthread_mutex_unlock(&ov->live_lock);
		return -ENOMEM;
	}
	old_parent = inode->parent;
	free(inode->name);
	inode->name = copy;
	inode->parent = dir;
	if (dir != NULL) {
		dir->refs++;
	}
	pthread_mutex_unlock(&ov->live_lock);
	hk_ov_unref(ov, old_parent);
	return 0;
}

void hk_ov_unplace(
	struct hk_overlay *ov, const struct hk_ov_id *id, struct hk_ov_inode *dir, const char *name)
{
	struct hk_ov_inode *inode = hk_ov_live(ov, id);
	bool is_there;

	if (inode == NULL) {
		return;
	}
	pthread_mutex_lock(&ov->live_lock);
	is_there = inode->parent == dir && strcmp(inode->name, name) == 0;
	pthread_mutex_unlock(&ov->live_lock);
	if (is_there) {
		hk_ov_place(ov, inode, NULL, NULL);
	}
	hk_ov_unref(ov, inode);
}

/* Enters @inode, which has no references yet, or finds the one that is there and frees it. */
static struct hk_ov_inode *enter(struct hk_overlay *ov, struct hk_ov_inode *inode)
{
	struct hk_ov_inode *live;
	struct hk_ov_inode **bucket;

	pthread_mutex_lock(&ov->live_lock);
	live = live_locked(ov, &inode->id);
	if (live == NULL) {
		bucket = bucket_of(ov, &inode->id);
		inode->hash_next = *bucket;
		inode->refs = 1;
		*bucket = inode;
	}
	pthread_mutex_unlock(&ov->live_lock);
	if (live == NULL) {
		return inode;
	}
	free_inode(inode);
	return live;
}

void hk_ov_enter_root(struct hk_overlay *ov)
{
	struct hk_ov_inode **bucket = bucket_of(ov, &ov->root->id);

	ov->root->hash_next = *bucket;
	*bucket = ov->root;
}

static void load_marks(struct hk_overlay *ov, struct hk_ov_inode *inode)
{
	char opaque;

	if (S_ISDIR(inode->type) && inode->upper >= 0) {
		opaque = hk_ov_get_mark(ov, inode->upper, NULL, HK_OV_OPAQUE);
		inode->xattr_whiteouts = opaque == 'x';
		if (opaque == 'y' && inode->is_cow) {
			hk_close(&inode->lower);
		}
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
	atomic_init(&inode->is_copied, inode->is_cow && inode->upper >= 0);
	load_marks(ov, inode);
	inode = enter(ov, inode);
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
