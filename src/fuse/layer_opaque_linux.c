/* SPDX-License-Identifier: ISC */
/*
 * Opaque directories of a layer that is applied: see layer_impl.h.
 *
 * Theory: an opaque directory hides all that is below. Before anything in it is applied, it gets a
 * whiteout for each name instead, so that each entry can leave the layer by itself, and so that
 * nothing is hidden that is renamed into it. The whiteouts are as old as the directory: they still
 * tell what is newer below.
 */
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/cleanup.h"
#include "fuse/layer_impl.h"

/* As old as what it takes the place of, so that it still tells what is newer below. */
static int whiteout_of(struct hk_overlay *ov, struct hk_ov_inode *dir, const char *name,
	const struct timespec *hidden_at)
{
	struct timespec times[2] = {*hidden_at, *hidden_at};
	int r = hk_ov_make_whiteout(ov, dir, name);

	return r < 0 ? r : HK_HOST_CALL(utimensat(dir->upper, name, times, AT_SYMLINK_NOFOLLOW));
}

static int unfold_name(struct hk_overlay *ov, struct hk_ov_inode *dir, const char *name,
	const struct timespec *hidden_at)
{
	autoclose int below = hk_host_open_name(dir->lower, name, O_PATH | O_DIRECTORY, 0);
	struct hk_stat st;
	int r = ov->host->ops->lookup(ov->host, dir->upper, name, &st);

	if (r == -ENOENT) {
		return whiteout_of(ov, dir, name, hidden_at);
	}
	if (r == 0 && S_ISDIR(st.mode) && below >= 0 &&
		!hk_ov_is_moved(hk_ov_get_mark(ov, dir->upper, name, HK_OV_OPAQUE))) {
		r = hk_ov_set_mark(ov, dir->upper, name, HK_OV_OPAQUE, "y");
	}
	return r;
}

/* Gives an opaque directory whiteouts. */
static int unfold(struct hk_overlay *ov, int upper, int lower)
{
	struct hk_ov_inode dir = {.upper = upper, .lower = lower};
	struct hk_layer_names names = {0};
	struct hk_ov_lent lent;
	struct timespec hidden_at;
	struct hk_stat st;
	int r = ov->host->ops->stat(ov->host, upper, &st);

	hidden_at = (struct timespec){
		.tv_sec = st.born_ns / 1000000000, .tv_nsec = st.born_ns % 1000000000};
	if (r == 0 && st.born_ns == 0) {
		hidden_at = st.mtime;
	}
	if (r == 0) {
		r = hk_layer_names_add(&names, lower);
	}
	hk_layer_names_sort(&names);
	r = r < 0 ? r : hk_ov_lend(ov, upper, 0300, &lent);
	if (r == 0) {
		for (size_t i = 0; r == 0 && i < names.count; i++) {
			r = unfold_name(ov, &dir, names.list[i], &hidden_at);
		}
		if (r == 0 && !dir.xattr_whiteouts) {
			r = hk_ov_remove_mark(ov, upper, HK_OV_OPAQUE);
		}
		hk_ov_leave_as_was(ov, &lent);
	}
	hk_layer_names_finish(&names);
	return r;
}

int hk_apply_unfold_around(struct hk_overlay *ov, const char *path)
{
	size_t len = strcspn(path, "/");
	int r = 0;

	while (r == 0 && path[len] == '/') {
		autofree char *dir = hk_strdup(path);
		autoclose int upper = -1;
		autoclose int lower = -1;

		if (dir == NULL) {
			return -ENOMEM;
		}
		dir[len] = '\0';
		upper = hk_ov_walk(ov->upper, dir);
		lower = hk_ov_walk(ov->host->root, dir);
		if (upper < 0 || lower < 0) {
			return upper < 0 ? upper : lower;
		}
		if (hk_ov_get_mark(ov, upper, NULL, HK_OV_OPAQUE) == 'y') {
			r = unfold(ov, upper, lower);
		}
		len += 1 + strcspn(path + len + 1, "/");
	}
	return r;
}

static int unfold_name_in(struct hk_overlay *ov, struct hk_layer_dirs *dirs, const char *name)
{
	struct hk_layer_dirs sub = {.depth = dirs->depth + 1};
	int r = 0;

	sub.upper = hk_host_open_name(dirs->upper, name, O_PATH | O_DIRECTORY, 0);
	sub.lower = hk_host_open_name(dirs->lower, name, O_PATH | O_DIRECTORY, 0);
	if (sub.upper >= 0 && sub.lower >= 0) {
		r = hk_layer_dirs_leave(dirs);
		r = r < 0 ? r : hk_apply_unfold_tree(ov, &sub);
		r = r < 0 ? r : hk_layer_dirs_return(ov, dirs, &sub, NULL, NULL);
	}
	hk_close(&sub.upper);
	hk_close(&sub.lower);
	return r;
}

int hk_apply_unfold_tree(struct hk_overlay *ov, struct hk_layer_dirs *dirs)
{
	struct hk_layer_names names = {0};
	char mark = hk_ov_get_mark(ov, dirs->upper, NULL, HK_OV_OPAQUE);
	int r = mark == 'y' ? unfold(ov, dirs->upper, dirs->lower) : 0;

	if (hk_ov_is_moved(mark)) {
		return 0; /* left as it is, with what is in it */
	}
	if (r == 0) {
		r = hk_layer_names_add(&names, dirs->upper);
	}
	for (size_t i = 0; r == 0 && i < names.count; i++) {
		r = unfold_name_in(ov, dirs, names.list[i]);
	}
	hk_layer_names_finish(&names);
	return r;
}
