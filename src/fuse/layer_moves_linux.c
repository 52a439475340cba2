/* SPDX-License-Identifier: ISC */
/*
 * Renamed directories of a layer: see layer_impl.h and overlay_moved_linux.c.
 *
 * Theory: a directory of the upper tree says where it was below; nothing below says where it went.
 * So before anything else is compared, the upper tree is walked for all of them.
 */
#include <dirent.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/cleanup.h"
#include "fuse/layer_impl.h"

struct search {
	struct hk_layer_tour tour; /* first member */
	struct hk_overlay *ov;
	struct hk_layer_moves *moves;
};

static int add(struct hk_layer_moves *moves, const char *from, const char *to)
{
	struct hk_layer_move move = {.from = hk_strdup(from), .to = hk_strdup(to)};

	if (moves->count == moves->cap) {
		size_t cap = moves->cap == 0 ? 16 : moves->cap * 2;
		struct hk_layer_move *list = hk_realloc_array(moves->list, cap, sizeof(*list));

		moves->list = list != NULL ? list : moves->list;
		moves->cap = list != NULL ? cap : moves->cap;
	}
	if (move.from == NULL || move.to == NULL || moves->count == moves->cap) {
		free(move.from);
		free(move.to);
		return -ENOMEM;
	}
	moves->list[moves->count++] = move;
	return 0;
}

static int note(struct search *search, int fd)
{
	struct hk_ov_record record;
	autofree char *from = NULL;
	struct hk_stat st;
	struct hk_stat lower;
	int below;
	int r = search->ov->host->ops->stat(search->ov->host, fd, &st);

	if (r < 0 || !hk_ov_get_record(search->ov, fd, NULL, &st, &record)) {
		return r;
	}
	below = hk_ov_open_moved(search->ov, fd, NULL, &record, &lower, &from);
	if (below < 0) {
		return below == -ENOENT ? 0 : below;
	}
	close(below);
	return add(search->moves, from + 1, hk_str_text(&search->tour.path));
}

static int look_at(struct hk_layer_tour *tour, int dir, const struct hk_dirent *entry)
{
	struct search *search = (struct search *)tour;
	autoclose int fd = -1;
	int r = 0;

	if (entry->type != DT_DIR && entry->type != DT_UNKNOWN) {
		return 0;
	}
	fd = hk_host_open_name(dir, entry->name, O_PATH | O_DIRECTORY, 0);
	if (fd < 0) {
		return fd == -ENOTDIR || fd == -ENOENT || fd == -ELOOP ? 0 : fd;
	}
	if (hk_ov_is_moved(hk_ov_get_mark(search->ov, fd, NULL, HK_OV_OPAQUE))) {
		r = note(search, fd);
	}
	return r < 0 ? r : 1;
}

static int by_from(const void *a, const void *b)
{
	return strcmp(
		((const struct hk_layer_move *)a)->from, ((const struct hk_layer_move *)b)->from);
}

int hk_layer_moves_find(struct hk_layer *layer, struct hk_layer_moves *moves, struct hk_err *err)
{
	struct search search = {.tour = {.entry = look_at}, .ov = layer->ov, .moves = moves};
	int r = hk_layer_tour(&search.tour, layer->ov->upper);

	if (r < 0) {
		hk_layer_fail(err, r, hk_str_text(&search.tour.path), "in the layer");
	}
	if (r == -EACCES) {
		hk_err_hint(err,
			"its mode keeps its owner out, too: chmod u+rwx it in the layer's "
			"'upper' (see hako-layer(5)), or in another run");
	}
	hk_str_finish(&search.tour.path);
	if (moves->count > 0) {
		qsort(moves->list, moves->count, sizeof(moves->list[0]), by_from);
	}
	return r;
}

void hk_layer_moves_finish(struct hk_layer_moves *moves)
{
	for (size_t i = 0; i < moves->count; i++) {
		free(moves->list[i].from);
		free(moves->list[i].to);
	}
	free(moves->list);
	*moves = (struct hk_layer_moves){0};
}

bool hk_layer_moves_has(const struct hk_layer_moves *moves, const char *from)
{
	struct hk_layer_move key = {.from = (char *)(uintptr_t)from};

	return moves->count > 0 &&
		bsearch(&key, moves->list, moves->count, sizeof(key), by_from) != NULL;
}

int hk_layer_moves_map(
	const struct hk_layer_moves *moves, const char *path, struct hk_str *ret_path)
{
	const struct hk_layer_move *best = NULL;

	/* Of directories within each other the inner one comes later. */
	for (size_t i = 0; i < moves->count; i++) {
		if (hk_path_within(path, moves->list[i].from) != NULL) {
			best = &moves->list[i];
		}
	}
	if (best != NULL) {
		hk_str_add(ret_path, best->to);
	}
	hk_str_add(ret_path, best != NULL ? path + strlen(best->from) : path);
	return ret_path->failed ? -ENOMEM : 0;
}

int hk_layer_reach(struct hk_overlay *ov, const char *path, struct hk_ov_inode **ret_inode)
{
	struct hk_ov_inode *at = hk_ov_live(ov, &ov->root->id);
	int r = 0;

	while (r == 0 && *path != '\0') {
		size_t len = strcspn(path, "/");
		char name[NAME_MAX + 1];
		struct hk_ov_inode *next = NULL;

		r = hk_fmt(name, sizeof(name), "%.*s", (int)len, path);
		r = r < 0 ? r : hk_ov_reach(ov, at, name, &next);
		hk_ov_unref(ov, at);
		at = next;
		path += len + (path[len] == '/');
	}
	if (r == 0) {
		*ret_inode = at;
	}
	return r;
}
