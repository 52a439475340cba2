/* SPDX-License-Identifier: ISC */
/*
 * Bringing renames of directories below: see layer.h and layer_impl.h.
 *
 * Theory: a rename is one rename(2) below, too, as soon as it can be: the directory it goes to is
 * there, and what stands at its new name may go, for nothing in it is to be renamed itself. One
 * makes way for another; new directories are made when they are needed. What then is left (circles,
 * other file systems) is copied into the layer with all that is in it, and becomes an added
 * directory and a deleted one.
 *
 * After each rename the layer says no more that there is one, and what it says of others' old names
 * is made true.
 *
 * Limits: whoever is killed just between the two leaves a layer in which directories that moved out
 * of the renamed one miss what they had below; the renamed one itself is recognised
 * (overlay_inode_linux.c).
 */
#include <linux/fs.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/cleanup.h"
#include "fuse/layer_impl.h"

static bool is_blocked(const struct hk_apply *apply, size_t i)
{
	return apply->failed[i] < 0 || hk_apply_is_kept_back(apply, &apply->changes.differ.list[i]);
}

/* A rename that can be done, or else copied. */
static bool is_pending(const struct hk_apply *apply, size_t i)
{
	const struct hk_change *list = apply->changes.differ.list;

	if (list[i].kind != HK_CHANGE_RENAMED || !apply->is_selected[i] || apply->is_done[i] ||
		is_blocked(apply, i)) {
		return false;
	}
	/* Nor is anything done within what is left out. */
	for (size_t j = 0; j < i; j++) {
		if (is_blocked(apply, j) && !apply->is_done[j] &&
			hk_path_within(list[i].path, list[j].path) != NULL) {
			return false;
		}
	}
	return true;
}

bool hk_apply_holds_source(const struct hk_apply *apply, const char *path)
{
	for (size_t n = 0; n < apply->rename_count; n++) {
		size_t i = apply->renames[n];

		if (!apply->is_done[i] &&
			hk_path_within(apply->changes.differ.list[i].old_path, path) != NULL) {
			return true;
		}
	}
	return false;
}

/* The directories around a change that come with it. */
static void select_around(struct hk_apply *apply, size_t i)
{
	const struct hk_change *list = apply->changes.differ.list;

	apply->is_selected[i] = true;
	for (size_t j = 0; j < i; j++) {
		if (list[j].kind != HK_CHANGE_METADATA &&
			hk_path_within(list[i].path, list[j].path) != NULL) {
			apply->is_selected[j] = true;
		}
	}
}

/* Would doing @first destroy what @second, a rename, is to move? */
static bool is_in_the_way(const struct hk_change *first, const struct hk_change *second)
{
	return first->kind != HK_CHANGE_METADATA &&
		(hk_path_within(second->old_path, first->path) != NULL ||
			(first->kind != HK_CHANGE_RENAMED &&
				hk_path_within(second->old_path, first->old_path) != NULL));
}

void hk_apply_select(struct hk_apply *apply)
{
	const struct hk_change *list = apply->changes.differ.list;
	bool is_more = true;

	while (is_more) {
		is_more = false;
		for (size_t i = 0; i < apply->changes.differ.count; i++) {
			for (size_t n = 0; n < apply->rename_count; n++) {
				size_t j = apply->renames[n];

				if (apply->is_selected[i] && !apply->is_selected[j] &&
					is_in_the_way(&list[i], &list[j])) {
					select_around(apply, j);
					is_more = true;
				}
			}
		}
	}
}

/* --- one rename --- */

/* Where it goes to and where it is, below. */
struct ends {
	int from, to;
	const char *old_name, *new_name;
};

static void close_ends(struct ends *ends)
{
	hk_close(&ends->from);
	hk_close(&ends->to);
}

/* Return: 1, 0 where it cannot be done yet. */
static int open_ends(struct hk_apply *apply, const struct hk_change *change, struct ends *ends)
{
	struct hk_overlay *ov = apply->ov;
	struct hk_stat st;

	ends->to = hk_layer_walk(ov->host->root, change->path, &ends->new_name);
	ends->from = hk_layer_walk(ov->host->root, change->old_path, &ends->old_name);
	return ends->to >= 0 && ends->from >= 0 &&
		ov->host->ops->lookup(ov->host, ends->from, ends->old_name, &st) == 0 &&
		st.ino == change->lower.st_ino && S_ISDIR(st.mode);
}

/*
 * The directories that are to be around it: new ones are made. Return: 1, 0 where one cannot be
 * yet, -errno.
 */
static int make_around(struct hk_apply *apply, size_t i)
{
	struct hk_overlay *ov = apply->ov;
	const struct hk_change *list = apply->changes.differ.list;

	for (size_t j = 0; j < i; j++) {
		struct hk_stat st;
		const char *name;
		autoclose int dir = -1;
		int r;

		if (list[j].kind == HK_CHANGE_METADATA || apply->is_done[j] ||
			hk_path_within(list[i].path, list[j].path) == NULL) {
			continue;
		}
		dir = hk_layer_walk(ov->host->root, list[j].path, &name);
		if (list[j].kind != HK_CHANGE_ADDED || dir < 0 ||
			ov->host->ops->lookup(ov->host, dir, name, &st) != -ENOENT) {
			return 0;
		}
		r = hk_apply_change(apply, &list[j]);
		if (r < 0) {
			return r;
		}
		apply->is_done[j] = true;
	}
	return 1;
}

/*
 * What an opaque directory hides is told by name from now on: else it would hide what comes into
 * it.
 */
static int unfold_around(struct hk_apply *apply, size_t i)
{
	int r = hk_apply_unfold_around(apply->ov, apply->changes.differ.list[i].path);

	return r == -ENOENT || r == -ENOTDIR ? 0 : r < 0 ? r : 1;
}

/* In the layer it is a directory like any other now. */
static int settle(struct hk_apply *apply, const struct hk_change *change)
{
	struct hk_overlay *ov = apply->ov;
	autoclose int fd = hk_ov_walk(ov->upper, change->path);
	int r = fd;

	if (fd >= 0) {
		r = hk_ov_get_mark(ov, fd, NULL, HK_OV_OPAQUE) == 'R'
			? hk_ov_set_mark(ov, fd, NULL, HK_OV_OPAQUE, "x")
			: hk_ov_remove_mark(ov, fd, HK_OV_OPAQUE);
	}
	return r < 0 ? r : hk_ov_remove_mark(ov, fd, HK_OV_REDIRECT);
}

/* A change in what was renamed, or one that comes from there, has another old name now. */
static int rename_old(
	struct hk_apply *apply, const char *from, const char *to, struct hk_change *change)
{
	struct hk_overlay *ov = apply->ov;
	struct hk_str path = {0};
	char *text = NULL;
	int r;

	hk_str_addf(&path, "/%s%s", to, change->old_path + strlen(from));
	r = hk_str_take(&path, &text);
	hk_str_finish(&path);
	if (r == 0 && change->kind == HK_CHANGE_RENAMED) {
		autoclose int fd = hk_ov_walk(ov->upper, change->path);

		r = fd < 0 ? fd : hk_ov_set_mark(ov, fd, NULL, HK_OV_REDIRECT, text);
	}
	if (r == 0) {
		free((char *)(uintptr_t)change->old_path);
		memmove(text, text + 1, strlen(text));
		change->old_path = text;
		text = NULL;
	}
	free(text);
	return r;
}

static int note_renamed(struct hk_apply *apply, size_t done)
{
	struct hk_change *list = apply->changes.differ.list;
	autofree char *from = hk_strdup(list[done].old_path);
	int r = from == NULL ? -ENOMEM : settle(apply, &list[done]);

	apply->is_done[done] = true;
	apply->has_renamed = true;
	for (size_t i = 0; r == 0 && i < apply->changes.differ.count; i++) {
		bool is_past = list[i].kind == HK_CHANGE_RENAMED && apply->is_done[i];

		if (!is_past && hk_path_within(list[i].old_path, from) != NULL) {
			r = rename_old(apply, from, list[done].path, &list[i]);
		}
	}
	return r;
}

/* @is_taken: what is at the new name goes. Return: 1 done, 0 it cannot be done so, -errno. */
static int rename_between(struct hk_apply *apply, const struct ends *ends, bool is_taken)
{
	int r = hk_host_rename(apply->ov->host, ends->from, ends->old_name, ends->to,
		ends->new_name, is_taken ? RENAME_EXCHANGE : RENAME_NOREPLACE);

	if (r < 0) {
		return r == -EACCES || r == -EPERM || r == -EROFS ? r : 0;
	}
	r = is_taken ? hk_apply_remove_at(ends->from, ends->old_name) : 0;
	if (r < 0) {
		hk_host_rename(apply->ov->host, ends->from, ends->old_name, ends->to,
			ends->new_name, RENAME_EXCHANGE);
	}
	return r < 0 ? r : 1;
}

/* The same, with the rights to write in both directories, and in the renamed one for its "..". */
static int rename_ends(struct hk_apply *apply, const struct ends *ends, bool is_taken)
{
	autoclose int itself =
		hk_host_open_name(ends->from, ends->old_name, O_PATH | O_DIRECTORY, 0);
	const int dirs[3] = {ends->from, ends->to, itself};
	struct hk_ov_lent lent[3];
	int count = 0;
	int r = 0;

	for (; r == 0 && count < 3; count++) {
		r = hk_ov_lend(apply->ov, dirs[count], 0300, &lent[count]);
	}
	if (r == 0) {
		r = rename_between(apply, ends, is_taken);
	}
	/* Both may be one: the first knows what it was like. */
	while (count-- > 0) {
		hk_ov_take_back(apply->ov, &lent[count]);
	}
	return r;
}

/* Return: 1 done, 0 not yet, -errno. */
static int try_rename(struct hk_apply *apply, size_t i)
{
	const struct hk_change *change = &apply->changes.differ.list[i];
	struct hk_backend *host = apply->ov->host;
	struct ends ends = {.from = -1, .to = -1};
	struct hk_stat st;
	bool is_taken = false;
	int r = make_around(apply, i);

	if (r > 0) {
		r = unfold_around(apply, i);
	}
	if (r > 0) {
		r = open_ends(apply, change, &ends);
	}
	if (r > 0) {
		is_taken = host->ops->lookup(host, ends.to, ends.new_name, &st) == 0;
		r = !is_taken || !hk_apply_holds_source(apply, change->path);
	}
	if (r > 0) {
		r = rename_ends(apply, &ends, is_taken);
	}
	close_ends(&ends);
	if (r > 0) {
		r = note_renamed(apply, i);
		r = r < 0 ? r : 1;
	}
	return r;
}

/* Into the layer, with all that is in it. */
static int own(struct hk_apply *apply, const struct hk_change *change)
{
	struct hk_overlay *ov = apply->ov;
	struct hk_ov_inode *inode = NULL;
	int r;

	pthread_rwlock_wrlock(&ov->tree);
	r = hk_layer_reach(ov, change->path, &inode);
	if (r == 0) {
		r = hk_ov_own_tree(ov, inode);
	}
	hk_ov_unref(ov, inode);
	pthread_rwlock_unlock(&ov->tree);
	return r;
}

int hk_apply_renames(struct hk_apply *apply, bool *ret_again, struct hk_err *err)
{
	const struct hk_change *list = apply->changes.differ.list;
	bool is_more = true;

	while (is_more) {
		is_more = false;
		for (size_t n = 0; n < apply->rename_count; n++) {
			size_t i = apply->renames[n];
			int r = is_pending(apply, i) ? try_rename(apply, i) : 0;

			if (hk_apply_ends_with(r)) {
				return hk_layer_fail(err, r, list[i].path, "rename");
			}
			apply->failed[i] = r < 0 ? r : apply->failed[i];
			is_more |= r > 0;
		}
	}
	*ret_again = false;
	for (size_t n = 0; n < apply->rename_count; n++) {
		size_t i = apply->renames[n];
		int r = is_pending(apply, i) ? own(apply, &list[i]) : 0;

		if (r == -EXDEV || hk_apply_ends_with(r)) {
			return hk_layer_fail(err, r, list[i].path,
				r == -EXDEV ? "cannot be renamed, and is too deep to be copied"
					    : "copy");
		}
		apply->failed[i] = r < 0 ? r : apply->failed[i];
		*ret_again |= is_pending(apply, i);
	}
	return 0;
}
