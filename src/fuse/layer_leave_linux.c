/* SPDX-License-Identifier: ISC */
/*
 * What was applied leaves the layer: see layer_impl.h.
 *
 * Theory: first all is brought to storage. A change that is done then goes, after it the
 * directories that nothing is left in any more, and what the index keeps for no name's sake.
 * Directories of the layer that stay are as they were, with their times and modes.
 */
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "fuse/layer_impl.h"

/* What a directory just made below hides is what was applied: nothing, from now on. */
static void show_below(struct hk_apply *apply, int upper, const char *name)
{
	autoclose int dir = hk_host_open_name(upper, name, O_PATH | O_DIRECTORY, 0);

	if (dir >= 0) {
		hk_ov_remove_mark(apply->ov, dir, HK_OV_OPAQUE);
	}
}

/* A name out of a directory of the layer, which stays as it was besides. */
static int remove_upper(struct hk_overlay *ov, int dir, const char *name, int flags)
{
	struct hk_ov_lent lent;
	int r = hk_ov_lend(ov, dir, 0300, &lent);

	if (r == 0) {
		r = HK_HOST_CALL(unlinkat(dir, name, flags));
		hk_ov_leave_as_was(ov, &lent);
	}
	return r;
}

static int drop_change(struct hk_apply *apply, const struct hk_change *change)
{
	const char *name;
	autoclose int dir = hk_layer_walk(apply->ov->upper, change->path, &name);
	int r = 0;

	if (dir < 0) {
		return dir == -ENOENT ? 0 : dir;
	}
	if (!S_ISDIR(change->upper.st_mode)) {
		r = remove_upper(apply->ov, dir, name, 0);
	} else if (change->kind != HK_CHANGE_METADATA && change->kind != HK_CHANGE_RENAMED) {
		show_below(apply, dir, name); /* it goes when nothing is in it any more */
	}
	return r == -ENOENT ? 0 : r;
}

/* A whiteout where nothing is below: of what was renamed. */
static void prune_whiteout(struct hk_overlay *ov, int upper, int lower, const char *name)
{
	struct hk_stat st;

	if (ov->host->ops->lookup(ov->host, upper, name, &st) == 0 &&
		hk_ov_is_whiteout(ov, upper, name, &st, true) &&
		ov->host->ops->lookup(ov->host, lower, name, &st) == -ENOENT) {
		remove_upper(ov, upper, name, 0);
	}
}

static int prune(struct hk_apply *apply, struct hk_layer_dirs *dirs);

static int prune_name(struct hk_apply *apply, struct hk_layer_dirs *dirs, const char *name)
{
	struct hk_overlay *ov = apply->ov;
	autoclose int above = hk_host_open_name(dirs->upper, name, O_PATH | O_DIRECTORY, 0);
	autoclose int below = hk_host_open_name(dirs->lower, name, O_PATH | O_DIRECTORY, 0);
	char mark = above < 0 ? '\0' : hk_ov_get_mark(ov, above, NULL, HK_OV_OPAQUE);
	struct hk_layer_dirs sub;
	int r;

	if (above < 0 && apply->has_renamed) {
		prune_whiteout(ov, dirs->upper, dirs->lower, name);
	}
	if (above < 0 || below < 0 || hk_ov_is_moved(mark)) {
		return 0;
	}
	r = hk_layer_dirs_leave(dirs);
	if (r < 0) {
		return r;
	}
	sub = (struct hk_layer_dirs){
		.upper = take_fd(&above), .lower = take_fd(&below), .depth = dirs->depth + 1};
	r = prune(apply, &sub);
	above = sub.upper;
	below = sub.lower;
	r = r < 0 ? r : hk_layer_dirs_return(ov, dirs, &sub, NULL, NULL);
	if (r == 0 && mark != 'y' && hk_layer_is_same_meta(ov, above, below)) {
		remove_upper(ov, dirs->upper, name, AT_REMOVEDIR); /* if it is empty */
	}
	return r;
}

/*
 * Directories of the layer in which nothing is left, and which are below, too. Others stay; so they
 * do after an error.
 */
static int prune(struct hk_apply *apply, struct hk_layer_dirs *dirs)
{
	struct hk_layer_names names = {0};
	int r = 0;

	hk_layer_names_add(&names, dirs->upper);
	for (size_t i = 0; r == 0 && i < names.count; i++) {
		r = prune_name(apply, dirs, names.list[i]);
	}
	hk_layer_names_finish(&names);
	return r;
}

/* What is in the index for no name's sake. */
static void sweep_index(struct hk_overlay *ov)
{
	struct hk_layer_names names = {0};
	struct hk_stat st;

	hk_layer_names_add(&names, ov->index);
	for (size_t i = 0; i < names.count; i++) {
		if (ov->host->ops->lookup(ov->host, ov->index, names.list[i], &st) == 0 &&
			st.nlink == 1) {
			unlinkat(ov->index, names.list[i], 0);
		}
	}
	hk_layer_names_finish(&names);
}

/* A directory's time, which what was done in it has changed. */
static void give_times(struct hk_apply *apply, const struct hk_change *change)
{
	struct timespec times[2] = {change->upper.st_atim, change->upper.st_mtim};
	const char *name;
	autoclose int dir = hk_layer_walk(apply->ov->host->root, change->path, &name);
	autoclose int lower = dir < 0 ? dir : hk_host_open_name(dir, name, O_PATH, 0);

	if (lower >= 0) {
		hk_host_utimes(apply->ov->host, lower, times);
	}
}

int hk_apply_leave_all(struct hk_apply *apply, bool whole, struct hk_err *err)
{
	struct hk_overlay *ov = apply->ov;
	struct hk_layer_dirs top = {.upper = ov->upper, .lower = ov->host->root};

	/* More file systems than one may have been written to. */
	sync();
	for (size_t i = 0; i < apply->changes.differ.count; i++) {
		const struct hk_change *change = &apply->changes.differ.list[i];
		int r = apply->is_done[i] ? drop_change(apply, change) : 0;

		if (r < 0) {
			return hk_layer_fail(err, r, change->path, "leave the layer");
		}
		if (apply->is_done[i] && S_ISDIR(change->upper.st_mode)) {
			give_times(apply, change);
		}
	}
	for (size_t i = 0; whole && i < apply->changes.same.count; i++) {
		int r = drop_change(apply, &apply->changes.same.list[i]);

		if (r < 0) {
			return hk_layer_fail(
				err, r, apply->changes.same.list[i].path, "leave the layer");
		}
	}
	prune(apply, &top);
	sweep_index(ov);
	return 0;
}
