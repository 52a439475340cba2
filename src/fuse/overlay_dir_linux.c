/* SPDX-License-Identifier: ISC */
/*
 * Listings of copy-on-write directories: see overlay_impl.h.
 *
 * Theory: the first read takes in both layers. Entries are sorted by a hash of the name, so that
 * equal names meet, the upper one first; and the hash is the position: whoever comes back with one
 * goes on where he was, also in a new listing and after names came and went.
 *
 * Limits: of two names with one hash (62 bits) one is left out, if a listing is taken up anew just
 * between them. What is below under a name that a listing has seen already is not looked at again.
 */
#include <dirent.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/util.h"
#include "fuse/overlay_impl.h"

enum { NAMES = 32768, FIRST_POSITION = 16, DT_WHITEOUT = 255 };

struct hk_ov_names {
	struct hk_ov_names *next;
	_Alignas(struct hk_dirent) char data[NAMES];
};

static uint64_t position_of(const char *name)
{
	uint64_t hash = hk_ov_hash(name);

	hash = (hash ^ hash >> 32) >> 2;
	return hash < FIRST_POSITION ? hash + FIRST_POSITION : hash;
}

static int compare(const void *a, const void *b)
{
	const struct hk_ov_entry *x = a;
	const struct hk_ov_entry *y = b;
	int order;

	if (x->position != y->position) {
		return x->position < y->position ? -1 : 1;
	}
	order = strcmp(x->name, y->name);
	return order != 0 ? order : (int)y->is_upper - (int)x->is_upper;
}

static int add(struct hk_ov_listing *listing, const struct hk_ov_entry *entry)
{
	if (listing->count == listing->cap) {
		size_t cap = listing->cap == 0 ? 64 : listing->cap * 2;
		struct hk_ov_entry *entries =
			hk_realloc_array(listing->entries, cap, sizeof(*entries));

		if (entries == NULL) {
			return -ENOMEM;
		}
		listing->entries = entries;
		listing->cap = cap;
	}
	listing->entries[listing->count++] = *entry;
	return 0;
}

/* --- one layer --- */

/* An entry of the upper directory: whose is it, is it a whiteout, which number does it show? */
static int look_at_upper(
	struct hk_overlay *ov, struct hk_ov_inode *dir, bool is_impure, struct hk_ov_entry *entry)
{
	bool may_be_whiteout = entry->type == DT_CHR || entry->type == DT_UNKNOWN ||
		(dir->xattr_whiteouts && entry->type == DT_REG);
	struct hk_ov_record record;
	struct hk_stat st;
	int r;

	if (!may_be_whiteout && !is_impure) {
		return 0;
	}
	r = ov->host->ops->lookup(ov->host, dir->upper, entry->name, &st);
	if (r < 0) {
		return r;
	}
	entry->type = (uint8_t)((st.mode & S_IFMT) >> 12);
	if (hk_ov_is_whiteout(ov, dir->upper, entry->name, &st, dir->xattr_whiteouts)) {
		entry->type = DT_WHITEOUT;
	} else if (is_impure && hk_ov_get_record(ov, dir->upper, entry->name, &st, &record) != 0) {
		entry->ino = record.id.ino;
	}
	return 0;
}

static bool is_layer(
	struct hk_overlay *ov, struct hk_ov_inode *dir, const struct hk_ov_entry *entry)
{
	struct hk_stat st;

	return entry->ino == ov->layer_ino &&
		ov->host->ops->lookup(ov->host, dir->lower, entry->name, &st) == 0 &&
		st.dev == ov->layer_dev && st.ino == ov->layer_ino;
}

static int add_entry(struct hk_overlay *ov, struct hk_ov_inode *dir, bool is_upper, bool is_impure,
	const struct hk_dirent *dirent, struct hk_ov_listing *listing)
{
	struct hk_ov_entry entry = {
		.position = position_of(dirent->name),
		.ino = dirent->ino,
		.name = dirent->name,
		.type = dirent->type,
		.is_upper = is_upper,
	};
	int r = 0;

	if (strcmp(entry.name, ".") == 0 || strcmp(entry.name, "..") == 0) {
		return 0;
	}
	if (is_upper) {
		if (!hk_ov_is_cow(ov, dir, entry.name)) {
			return 0; /* a place for what is in it, no more */
		}
		r = look_at_upper(ov, dir, is_impure, &entry);
	} else if (is_layer(ov, dir, &entry)) {
		return 0;
	}
	return r == -ENOENT ? 0 : r < 0 ? r : add(listing, &entry);
}

static int read_layer(struct hk_overlay *ov, struct hk_ov_inode *dir, bool is_upper,
	struct hk_ov_listing *listing)
{
	bool is_impure = is_upper && dir->is_impure;
	autoclose int fd = hk_host_open_dir(ov->host, is_upper ? dir->upper : dir->lower);
	ssize_t n = fd < 0 ? fd : 1;

	while (n > 0) {
		struct hk_ov_names *names = hk_malloc(sizeof(*names));

		if (names == NULL) {
			return -ENOMEM;
		}
		names->next = listing->names;
		listing->names = names;
		n = hk_host_read_dir(ov->host, fd, names->data, NAMES);
		for (ssize_t at = 0; at < n;) {
			const struct hk_dirent *dirent =
				(const struct hk_dirent *)(names->data + at);
			int r = add_entry(ov, dir, is_upper, is_impure, dirent, listing);

			if (r < 0) {
				return r;
			}
			at += dirent->record_len;
		}
	}
	return n == -ENOENT ? 0 : (int)n; /* a directory that was removed is empty */
}

/* Of equal names the first stays; whiteouts go. */
static void merge(struct hk_ov_listing *listing)
{
	const char *last = NULL;
	size_t kept = 0;

	if (listing->count > 0) {
		qsort(listing->entries, listing->count, sizeof(listing->entries[0]), compare);
	}
	for (size_t i = 0; i < listing->count; i++) {
		const struct hk_ov_entry *entry = &listing->entries[i];

		if (last == NULL || strcmp(last, entry->name) != 0) {
			last = entry->name;
			if (entry->type != DT_WHITEOUT) {
				listing->entries[kept++] = *entry;
			}
		}
	}
	listing->count = kept;
}

int hk_ov_list(struct hk_overlay *ov, struct hk_ov_inode *dir, struct hk_ov_listing *listing)
{
	int r = 0;

	if (dir->upper >= 0) {
		r = read_layer(ov, dir, true, listing);
	}
	if (r == 0 && dir->lower >= 0) {
		r = read_layer(ov, dir, false, listing);
	}
	merge(listing);
	return r;
}

void hk_ov_list_finish(struct hk_ov_listing *listing)
{
	while (listing->names != NULL) {
		struct hk_ov_names *next = listing->names->next;

		free(listing->names);
		listing->names = next;
	}
	free(listing->entries);
	*listing = (struct hk_ov_listing){0};
}

int hk_ov_check_empty(struct hk_overlay *ov, struct hk_ov_inode *dir)
{
	struct hk_ov_listing listing = {0};
	int r = hk_ov_list(ov, dir, &listing);

	if (r == 0 && listing.count > 0) {
		r = -ENOTEMPTY;
	}
	hk_ov_list_finish(&listing);
	return r;
}

int hk_ov_clear_whiteouts(struct hk_overlay *ov, struct hk_ov_inode *dir)
{
	_Alignas(struct hk_dirent) char buf[4096];
	autoclose int fd = hk_host_open_dir(ov->host, dir->upper);
	ssize_t n = fd;

	while (n >= 0 && (n = hk_host_read_dir(ov->host, fd, buf, sizeof(buf))) > 0) {
		for (ssize_t at = 0; at < n;) {
			const struct hk_dirent *entry = (const struct hk_dirent *)(buf + at);
			struct hk_stat st;

			at += entry->record_len;
			if (ov->host->ops->lookup(ov->host, dir->upper, entry->name, &st) == 0 &&
				hk_ov_is_whiteout(ov, dir->upper, entry->name, &st, true)) {
				int r = hk_host_unlink(ov->host, dir->upper, entry->name, false);

				if (r < 0) {
					return r;
				}
			}
		}
	}
	return (int)n;
}

/* --- operations --- */

int hk_ov_open_dir(struct hk_backend *backend, int obj)
{
	struct hk_overlay *ov = hk_overlay_of(backend);
	struct hk_ov_inode *inode = hk_ov_slot(ov, obj)->inode;
	struct hk_ov_listing *listing;
	int file;
	int fd;

	if (!S_ISDIR(inode->type)) {
		return -ENOTDIR;
	}
	if (hk_new(listing) == NULL) {
		return -ENOMEM;
	}
	pthread_rwlock_rdlock(&ov->tree);
	/* What fsync is done on. */
	fd = hk_host_open_dir(ov->host, inode->upper >= 0 ? inode->upper : inode->lower);
	pthread_mutex_lock(&ov->live_lock);
	inode->refs++;
	pthread_mutex_unlock(&ov->live_lock);
	pthread_rwlock_unlock(&ov->tree);
	if (fd < 0) {
		hk_ov_unref(ov, inode);
		free(listing);
		return fd;
	}
	file = hk_ov_slot_new(ov, inode, fd, O_RDONLY);
	if (file < 0) {
		free(listing);
	} else {
		hk_ov_slot(ov, file)->listing = listing;
	}
	return file;
}

static int read_anew(struct hk_overlay *ov, struct hk_ov_slot *slot)
{
	struct hk_ov_listing *listing = slot->listing;
	int r;

	hk_ov_list_finish(listing);
	pthread_rwlock_rdlock(&ov->tree);
	r = hk_ov_list(ov, slot->inode, listing);
	pthread_rwlock_unlock(&ov->tree);
	listing->is_read = r == 0;
	return r;
}

/* Entry @index of a listing, with "." and "..". Return: false at the end. */
static bool entry_at(struct hk_overlay *ov, const struct hk_ov_slot *slot, size_t index,
	struct hk_ov_entry *entry)
{
	const struct hk_ov_listing *listing = slot->listing;

	if (index >= listing->count + 2) {
		return false;
	}
	if (index >= 2) {
		*entry = listing->entries[index - 2];
		return true;
	}
	*entry = (struct hk_ov_entry){.position = index + 1,
		.name = index == 0 ? "." : "..",
		.ino = slot->inode->id.ino,
		.type = DT_DIR};
	if (index == 1) {
		pthread_mutex_lock(&ov->live_lock);
		if (slot->inode->parent != NULL) {
			entry->ino = slot->inode->parent->id.ino;
		}
		pthread_mutex_unlock(&ov->live_lock);
	}
	return true;
}

ssize_t hk_ov_read_dir(struct hk_backend *backend, int file, void *buf, size_t size)
{
	struct hk_overlay *ov = hk_overlay_of(backend);
	struct hk_ov_slot *slot = hk_ov_slot(ov, file);
	struct hk_ov_listing *listing = slot->listing;
	struct hk_ov_entry entry;
	size_t used = 0;

	if (listing == NULL) {
		return -ENOTDIR;
	}
	if (!listing->is_read) {
		int r = read_anew(ov, slot);

		if (r < 0) {
			return r;
		}
	}
	while (entry_at(ov, slot, listing->next, &entry)) {
		size_t name_len = strlen(entry.name) + 1;
		size_t len = (size_t)hk_align_up(
			offsetof(struct hk_dirent, name) + name_len, sizeof(uint64_t));
		struct hk_dirent *out = (struct hk_dirent *)((char *)buf + used);

		if (len > size - used) {
			return used > 0 ? (ssize_t)used : -EINVAL;
		}
		out->ino = entry.ino;
		out->next = entry.position;
		out->record_len = (uint16_t)len;
		out->type = entry.type;
		memcpy(out->name, entry.name, name_len);
		used += len;
		listing->next++;
	}
	return (ssize_t)used;
}

int hk_ov_seek_dir(struct hk_backend *backend, int file, uint64_t position)
{
	struct hk_overlay *ov = hk_overlay_of(backend);
	struct hk_ov_slot *slot = hk_ov_slot(ov, file);
	struct hk_ov_listing *listing = slot->listing;
	size_t low = 0;
	size_t high;

	if (listing == NULL) {
		return -ENOTDIR;
	}
	if (position == 0 || !listing->is_read) {
		int r = read_anew(ov, slot);

		if (r < 0) {
			return r;
		}
	}
	/* The first entry beyond. */
	high = listing->count;
	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (listing->entries[middle].position <= position) {
			low = middle + 1;
		} else {
			high = middle;
		}
	}
	listing->next = position < FIRST_POSITION ? (size_t)HK_MIN(position, UINT64_C(2)) : low + 2;
	return 0;
}
