/* SPDX-License-Identifier: ISC */
/*
 * The other names of hard-linked files in a layer: see layer_impl.h.
 *
 * Theory: a run that changes a file with several names has seen one of them, and leads the others
 * to the copy by its number. A layer that is shown or applied must have them all by name. So those
 * that still stand below are looked for: the lower tree is listed, which costs no stat for what has
 * another number, until all of them are found.
 *
 * Limits: /proc and /sys are left out.
 */
#include <dirent.h>
#include <linux/magic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statfs.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/str.h"
#include "fuse/layer_impl.h"

struct wanted {
	uint64_t dev, ino;
	uint32_t links; /* to be found yet */
};

struct search {
	struct hk_layer_tour tour; /* first member */
	struct hk_overlay *ov;
	struct wanted *wanted; /* owned */
	size_t count, cap;
	uint64_t left; /* of all */
	const struct hk_layer_moves *moves;
};

static int want(struct search *search, const struct hk_ov_record *record)
{
	if (search->count == search->cap) {
		size_t cap = search->cap == 0 ? 16 : search->cap * 2;
		struct wanted *list = hk_realloc_array(search->wanted, cap, sizeof(*list));

		if (list == NULL) {
			return -ENOMEM;
		}
		search->wanted = list;
		search->cap = cap;
	}
	search->wanted[search->count++] = (struct wanted){
		.dev = record->id.dev, .ino = record->id.ino, .links = record->links};
	search->left += record->links;
	return 0;
}

static int read_index(struct search *search)
{
	struct hk_overlay *ov = search->ov;
	struct hk_layer_names names = {0};
	int r = hk_layer_names_add(&names, ov->index);

	for (size_t i = 0; r == 0 && i < names.count; i++) {
		struct hk_ov_record record;
		struct hk_stat st;

		r = ov->host->ops->lookup(ov->host, ov->index, names.list[i], &st);
		if (r == 0 && hk_ov_get_record(ov, ov->index, names.list[i], &st, &record) != 0 &&
			record.links > 0) {
			r = want(search, &record);
		}
	}
	hk_layer_names_finish(&names);
	return r;
}

/* The name stands below; in the layer it may be gone, or another. */
static int give_name(struct search *search, struct wanted *wanted)
{
	struct hk_overlay *ov = search->ov;
	struct hk_ov_inode *dir = NULL;
	struct hk_ov_inode *inode = NULL;
	struct hk_ov_found found;
	struct hk_str path = {0};
	const char *name;
	char *slash;
	int r = hk_layer_moves_map(search->moves, hk_str_text(&search->tour.path), &path);

	if (r < 0) {
		hk_str_finish(&path);
		return r;
	}
	slash = strrchr(path.data, '/');
	name = slash != NULL ? slash + 1 : path.data;
	if (slash != NULL) {
		*slash = '\0';
	}
	r = hk_layer_reach(ov, slash != NULL ? path.data : "", &dir);
	if (r == 0) {
		r = hk_ov_find(ov, dir, name, false, &found);
	}
	if (r == 0 && found.by_index) {
		r = hk_ov_reach(ov, dir, name, &inode);
		if (r == 0) {
			r = hk_ov_give_name(ov, dir, name, inode);
		}
		if (r == 0) {
			wanted->links--;
			search->left--;
		}
		hk_ov_unref(ov, inode);
	}
	hk_ov_unref(ov, dir);
	hk_str_finish(&path);
	return r == -ENOENT || r == -ENOTDIR ? 0 : r;
}

static int look_at(struct search *search, int dir, const struct hk_dirent *entry)
{
	for (size_t i = 0; i < search->count; i++) {
		struct wanted *wanted = &search->wanted[i];
		struct hk_stat st;

		if (wanted->ino != entry->ino || wanted->links == 0 ||
			search->ov->host->ops->lookup(search->ov->host, dir, entry->name, &st) <
				0 ||
			st.ino != wanted->ino || st.dev != wanted->dev) {
			continue;
		}
		return give_name(search, wanted);
	}
	return 0;
}

static bool is_for_files(int dir)
{
	struct statfs st;

	return fstatfs(dir, &st) == 0 && st.f_type != PROC_SUPER_MAGIC && st.f_type != SYSFS_MAGIC;
}

static int search_entry(struct hk_layer_tour *tour, int dir, const struct hk_dirent *entry)
{
	struct search *search = (struct search *)tour;
	autoclose int sub = -1;
	int r;

	if (entry->type == DT_DIR || entry->type == DT_UNKNOWN) {
		sub = hk_host_open_name(dir, entry->name, O_RDONLY | O_DIRECTORY, 0);
		if (sub != -ENOTDIR) {
			return sub >= 0 && is_for_files(sub);
		}
	}
	r = look_at(search, dir, entry);
	return r == 0 && search->left == 0 ? -ECANCELED : r;
}

int hk_layer_find_links(
	struct hk_layer *layer, const struct hk_layer_moves *moves, struct hk_err *err)
{
	struct search search = {.tour = {.entry = search_entry, .skips_closed = true},
		.ov = layer->ov,
		.moves = moves};
	int r = read_index(&search);

	if (r == 0 && search.left > 0) {
		pthread_rwlock_wrlock(&layer->ov->tree);
		r = hk_layer_tour(&search.tour, layer->ov->host->root);
		pthread_rwlock_unlock(&layer->ov->tree);
	}
	r = r == -ECANCELED ? 0 : r; /* all are found */
	if (r < 0) {
		hk_layer_fail(err, r, hk_str_text(&search.tour.path), "below the layer");
	}
	hk_str_finish(&search.tour.path);
	free(search.wanted);
	return r;
}
