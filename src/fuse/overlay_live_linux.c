/* SPDX-License-Identifier: ISC */
/*
 * The inodes of a copy-on-write tree that are in use: see overlay_impl.h.
 *
 * Theory: a table by identity. An inode is in it for as long as something refers to it: slots,
 * calls at work, and children, which need its name. Who is left with children only gives its
 * descriptors back, so there are no more of them than the server's objects account for, however
 * deep the tree; they are opened again when a copy goes there.
 *
 * Limits: where the host moves directories about, what is above may have led to a directory within
 * itself: a place that would close a circle is refused (ESTALE), and the next look finds it anew.
 */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/cleanup.h"
#include "fuse/overlay_impl.h"

static bool is_same_id(const struct hk_ov_id *a, const struct hk_ov_id *b)
{
	return a->ino == b->ino && a->dev == b->dev && a->mount == b->mount &&
		a->born_ns == b->born_ns;
}

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
	free(inode->redirect);
	free(inode->name);
	free(inode);
}

void hk_ov_unref(struct hk_overlay *ov, struct hk_ov_inode *inode)
{
	struct hk_ov_inode *dead = NULL;
	int upper = -1;
	int lower = -1;

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
		if (parent != NULL) {
			parent->children--;
		}
	}
	if (inode != NULL && inode->refs == inode->children && inode != ov->root) {
		inode->is_parked = true;
		upper = take_fd(&inode->upper);
		lower = take_fd(&inode->lower);
	}
	pthread_mutex_unlock(&ov->live_lock);
	hk_close(&upper);
	hk_close(&lower);
	while (dead != NULL) {
		struct hk_ov_inode *next = dead->hash_next;

		free_inode(dead);
		dead = next;
	}
}

/* live_lock held. */
static bool is_within(const struct hk_ov_inode *outer, const struct hk_ov_inode *inner)
{
	while (inner != NULL && inner != outer) {
		inner = inner->parent;
	}
	return inner != NULL;
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
	if (S_ISDIR(inode->type) && is_within(inode, dir)) {
		pthread_mutex_unlock(&ov->live_lock);
		return -ESTALE;
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
		dir->children++;
	}
	if (old_parent != NULL) {
		old_parent->children--;
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

/* live_lock held. @found: the same one, found again */
static void unpark(struct hk_ov_inode *inode, struct hk_ov_inode *found)
{
	inode->upper = take_fd(&found->upper);
	inode->lower = take_fd(&found->lower);
	inode->is_parked = false;
}

struct hk_ov_inode *hk_ov_enter(struct hk_overlay *ov, struct hk_ov_inode *inode)
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
	} else if (live->is_parked) {
		unpark(live, inode);
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

/*
 * The parked ones from @inode upwards, @inode first, into @way (NULL: only count). live_lock held.
 */
static size_t parked_from(
	struct hk_ov_inode *inode, struct hk_ov_inode **way, struct hk_ov_inode **ret_awake)
{
	size_t count = 0;

	for (; inode != NULL && inode->is_parked; inode = inode->parent) {
		if (way != NULL) {
			way[count] = inode;
		}
		count++;
	}
	*ret_awake = inode;
	return count;
}

/*
 * From above, each by the one before it: so two are open at a time, and nothing recurses where a
 * guest says how deep.
 */
static int wake_down(struct hk_overlay *ov, struct hk_ov_inode *inode, size_t count)
{
	autofree struct hk_ov_inode **way = hk_calloc(count, sizeof(struct hk_ov_inode *));
	struct hk_ov_inode *at;
	int r = 0;

	if (way == NULL) {
		return -ENOMEM;
	}
	pthread_mutex_lock(&ov->live_lock);
	/* While the tree is ours, those that are parked stay so; more may have become it. */
	if (parked_from(inode, NULL, &at) != count) {
		at = NULL;
		r = -EAGAIN;
	} else {
		parked_from(inode, way, &at);
		r = at == NULL ? -ESTALE : 0;
	}
	if (at != NULL) {
		at->refs++;
	}
	pthread_mutex_unlock(&ov->live_lock);
	while (r == 0 && count-- > 0) {
		struct hk_ov_inode *found = NULL;

		/* Finds the one itself, which is in the table. */
		r = hk_ov_reach(ov, at, way[count]->name, &found);
		if (r == 0 && found != way[count]) {
			r = -ESTALE;
		}
		hk_ov_unref(ov, at);
		at = found;
	}
	hk_ov_unref(ov, at);
	return r;
}

int hk_ov_wake(struct hk_overlay *ov, struct hk_ov_inode *inode)
{
	struct hk_ov_inode *awake;
	size_t count;
	int r;

	pthread_mutex_lock(&ov->live_lock);
	inode->refs++;
	pthread_mutex_unlock(&ov->live_lock);
	do {
		pthread_mutex_lock(&ov->live_lock);
		count = parked_from(inode, NULL, &awake);
		pthread_mutex_unlock(&ov->live_lock);
		r = count == 0 ? 0 : wake_down(ov, inode, count);
	} while (r == -EAGAIN);
	if (r < 0) {
		hk_ov_unref(ov, inode);
	}
	return r == -ENOENT ? -ESTALE : r;
}
