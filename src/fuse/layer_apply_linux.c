/* SPDX-License-Identifier: ISC */
/*
 * Bringing changes of a layer below: see layer.h.
 *
 * Theory: in three steps. First every change is made below: what is new is written, synced, and
 * only then put at its name, so at each moment a name has the old or the new. Files are written
 * without a name where the file system can: who is killed leaves nothing beside its place, but in
 * the moment between two system calls. Then all of it is brought to storage. Only then does it
 * leave the layer (layer_leave_linux.c), so a crash loses nothing: what was applied is a change no
 * more, and is dropped by the next apply. What cannot be made is told, and stays.
 *
 * Renames come before all else (layer_rename_linux.c), so that nothing is removed with what is to
 * move out of it.
 */
#include <linux/fs.h>
#include <linux/limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/str.h"
#include "fuse/layer_impl.h"
#include "fuse/transfer.h"

/* --- one change --- */

/* Where a change is: directories of both trees, and the name in them. */
struct place {
	int upper, lower;
	const char *name;
};

static struct hk_ov_temp new_temp(struct hk_apply *apply)
{
	struct hk_ov_temp temp;

	hk_fmt(temp.text, sizeof(temp.text), ".hk%x-%x", (unsigned)getpid() & 0xffffff,
		apply->temp_count++ & 0xffff);
	return temp;
}

/* A directory and something else change places, for they cannot replace each other. */
static int put_at(struct hk_apply *apply, const struct place *at, const char *temp)
{
	struct hk_backend *host = apply->ov->host;
	int r = hk_host_rename(host, at->lower, temp, at->lower, at->name, 0);

	if (r == -EISDIR || r == -ENOTDIR || r == -ENOTEMPTY || r == -EEXIST) {
		r = hk_host_rename(host, at->lower, temp, at->lower, at->name, RENAME_EXCHANGE);
		if (r < 0) {
			return r;
		}
		r = hk_apply_remove_at(at->lower, temp);
		if (r < 0) {
			hk_host_rename(host, at->lower, temp, at->lower, at->name, RENAME_EXCHANGE);
		}
	}
	return r;
}

/* Return: a descriptor; of a file without a name where there can be, else of @temp. */
static int create_file(const struct place *at, const char *temp, bool *ret_has_name)
{
	int fd = HK_HOST_CALL(openat(at->lower, ".", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600));

	*ret_has_name = fd < 0;
	return fd >= 0 ? fd : hk_host_open_name(at->lower, temp, O_CREAT | O_EXCL | O_RDWR, 0600);
}

/* Puts a file without a name at its place. */
static int give_name(struct hk_apply *apply, const struct place *at, int fd, const char *temp)
{
	struct hk_backend *host = apply->ov->host;
	int r = hk_host_link(host, fd, at->lower, at->name);

	if (r == -EEXIST) {
		r = hk_host_link(host, fd, at->lower, temp);
		r = r < 0 ? r : put_at(apply, at, temp);
	}
	return r;
}

/*
 * Makes @temp below what @upper (O_PATH) is.
 *
 * Return: a descriptor, or -errno. Not @ret_has_name: it is a file, and has none yet.
 */
static int make_temp(struct hk_apply *apply, const struct place *at, int upper,
	const struct hk_stat *st, const char *temp, bool *ret_has_name)
{
	char target[PATH_MAX];
	struct stat raw;
	ssize_t n;
	int r;

	switch (st->mode & S_IFMT) {
	case S_IFREG: {
		autoclose int from = hk_layer_open_upper(apply->ov, upper);
		int to = from < 0 ? from : create_file(at, temp, ret_has_name);

		if (to < 0) {
			return to;
		}
		r = hk_transfer_data(from, to, st->size);
		if (r < 0) {
			close(to);
			return r;
		}
		return to;
	}
	case S_IFDIR:
		r = HK_HOST_CALL(mkdirat(at->lower, temp, 0700));
		break;
	case S_IFLNK:
		n = HK_HOST_CALL(readlinkat(upper, "", target, sizeof(target) - 1));
		if (n < 0) {
			return (int)n;
		}
		target[n] = '\0';
		r = HK_HOST_CALL(symlinkat(target, at->lower, temp));
		break;
	default:
		r = fstat(upper, &raw) < 0 ? -errno
					   : HK_HOST_CALL(mknodat(at->lower, temp,
						     (st->mode & S_IFMT) | 0600, raw.st_rdev));
		break;
	}
	return r < 0 ? r : hk_host_open_name(at->lower, temp, O_PATH, 0);
}

/*
 * The attributes of @upper for @to; those it has besides go. @left: the owner that it could not be
 * given
 */
static int give_meta(struct hk_apply *apply, int upper, const struct hk_stat *st, int to,
	struct hk_transfer_left *left)
{
	struct hk_backend *host = apply->ov->host;
	autofree char *names = hk_malloc(XATTR_LIST_MAX);
	ssize_t len;

	if (names == NULL) {
		return -ENOMEM;
	}
	len = hk_host_listxattr(host, to, names, XATTR_LIST_MAX);
	for (ssize_t at = 0; at < len; at += (ssize_t)strlen(names + at) + 1) {
		if (!hk_ov_is_our_xattr(names + at) &&
			hk_host_getxattr(host, upper, names + at, NULL, 0) == -ENODATA) {
			hk_host_removexattr(host, to, names + at);
		}
	}
	return hk_transfer_meta(host, upper, to, st, hk_ov_is_our_xattr, left);
}

static int stat_upper(struct hk_apply *apply, int upper, struct hk_stat *st)
{
	struct hk_ov_record record;
	int r = apply->ov->host->ops->stat(apply->ov->host, upper, st);

	if (r == 0 && hk_ov_get_record(apply->ov, upper, NULL, st, &record) != 0) {
		st->uid = record.uid >= 0 ? (uint32_t)record.uid : st->uid;
		st->gid = record.gid >= 0 ? (uint32_t)record.gid : st->gid;
	}
	return r;
}

static const struct hk_layer_made *find_made(
	const struct hk_apply *apply, const struct hk_change *change)
{
	for (size_t i = 0; i < apply->made_count; i++) {
		if (apply->made[i].ino == change->upper.st_ino &&
			apply->made[i].dev == change->upper.st_dev) {
			return &apply->made[i];
		}
	}
	return NULL;
}

static int note_made(struct hk_apply *apply, const struct hk_change *change, ino_t lower)
{
	struct hk_layer_made *made;

	if (change->upper.st_nlink < 2 || S_ISDIR(change->upper.st_mode) ||
		find_made(apply, change) != NULL) {
		return 0;
	}
	made = hk_realloc_array(apply->made, apply->made_count + 1, sizeof(*made));
	if (made == NULL) {
		return -ENOMEM;
	}
	apply->made = made;
	apply->made[apply->made_count++] = (struct hk_layer_made){.dev = change->upper.st_dev,
		.ino = change->upper.st_ino,
		.lower = lower,
		.path = change->path};
	return 0;
}

/*
 * May it be changed where it is? Not if that would show under other names, which may be other files
 * by now.
 */
static bool is_kept(const struct hk_change *change)
{
	return change->kind == HK_CHANGE_METADATA &&
		(change->lower.st_nlink < 2 || S_ISDIR(change->lower.st_mode));
}

/* It could not be changed as it is in the layer: nothing becomes a link to it. */
static void forget_made(struct hk_apply *apply, const struct hk_change *change)
{
	for (size_t i = 0; i < apply->made_count; i++) {
		if (apply->made[i].path == change->path) {
			apply->made[i] = apply->made[--apply->made_count];
			return;
		}
	}
}

/* Names that keep their inode below: what else is that inode in the layer becomes a link to it. */
static int note_kept(struct hk_apply *apply)
{
	const struct hk_change_list *same = &apply->changes.same;
	const struct hk_change_list *differ = &apply->changes.differ;
	int r = 0;

	for (size_t i = 0; r == 0 && i < same->count; i++) {
		r = note_made(apply, &same->list[i], same->list[i].lower.st_ino);
	}
	for (size_t i = 0; r == 0 && i < differ->count; i++) {
		if (is_kept(&differ->list[i]) && apply->is_selected[i] &&
			!hk_apply_is_kept_back(apply, &differ->list[i])) {
			r = note_made(apply, &differ->list[i], differ->list[i].lower.st_ino);
		}
	}
	return r;
}

/* A further name of an inode that is below already. Return: 1 done, 0 not, -errno. */
static int link_made(struct hk_apply *apply, const struct place *at, const struct hk_change *change)
{
	const struct hk_layer_made *made = find_made(apply, change);
	struct hk_ov_temp temp = new_temp(apply);
	autoclose int dir = -1;
	const char *name;
	int r;

	if (made == NULL || strcmp(made->path, change->path) == 0) {
		return 0;
	}
	dir = hk_layer_walk(apply->ov->host->root, made->path, &name);
	r = dir < 0 ? dir : HK_HOST_CALL(linkat(dir, name, at->lower, temp.text, 0));
	if (r == 0) {
		r = put_at(apply, at, temp.text);
		/* rename(2) does nothing where both are one already. */
		unlinkat(at->lower, temp.text, 0);
	}
	return r < 0 ? r : 1;
}

static int make_below(
	struct hk_apply *apply, const struct place *at, const struct hk_change *change)
{
	autoclose int upper = hk_host_open_name(at->upper, at->name, O_PATH, 0);
	struct hk_ov_temp temp = new_temp(apply);
	struct hk_transfer_left left = {0};
	autoclose int to = -1;
	bool has_name = true;
	struct hk_stat st;
	int r = upper < 0 ? upper : stat_upper(apply, upper, &st);

	if (r == 0) {
		r = link_made(apply, at, change);
	}
	if (r != 0) {
		return r < 0 ? r : 0;
	}
	to = make_temp(apply, at, upper, &st, temp.text, &has_name);
	r = to < 0 ? to : give_meta(apply, upper, &st, to, &left);
	if (r == 0 && (left.uid || left.gid) && change->lower.st_mode != 0 && !apply->force) {
		r = -EPERM; /* a root that may not do all: see loses_owner */
	}
	if (r == 0 && S_ISREG(st.mode)) {
		r = HK_HOST_CALL(fsync(to));
	}
	if (r == 0) {
		r = has_name ? put_at(apply, at, temp.text) : give_name(apply, at, to, temp.text);
	}
	if (r < 0) {
		hk_apply_remove_at(at->lower, temp.text);
		return r;
	}
	return note_made(apply, change, 0);
}

static int change_meta(struct hk_apply *apply, const struct place *at)
{
	autoclose int upper = hk_host_open_name(at->upper, at->name, O_PATH, 0);
	autoclose int lower = hk_host_open_name(at->lower, at->name, O_PATH, 0);
	struct hk_stat st;
	struct hk_ov_lent lent = {.obj = -1};
	struct hk_transfer_left left = {0};
	int r = upper < 0 ? upper : lower < 0 ? lower : stat_upper(apply, upper, &st);

	if (r == 0) {
		r = hk_ov_lend(apply->ov, lower, S_IWUSR, &lent); /* for attributes */
	}
	if (r == 0) {
		r = give_meta(apply, upper, &st, lower, &left);
		if (r < 0) {
			hk_ov_take_back(apply->ov, &lent);
		}
	}
	return r;
}

static int open_place(struct hk_apply *apply, const char *path, struct place *at)
{
	at->upper = hk_layer_walk(apply->ov->upper, path, &at->name);
	at->lower = hk_layer_walk(apply->ov->host->root, path, &at->name);
	return at->upper < 0 ? at->upper : at->lower < 0 ? at->lower : 0;
}

static void close_place(struct place *at)
{
	hk_close(&at->upper);
	hk_close(&at->lower);
}

int hk_apply_change(struct hk_apply *apply, const struct hk_change *change)
{
	const struct hk_layer_made *made;
	struct hk_ov_lent lent = {.obj = -1};
	struct place at;
	int r = open_place(apply, change->path, &at);

	if (r == 0) {
		r = hk_ov_lend(apply->ov, at.lower, 0300, &lent);
	}
	if (r == 0) {
		switch (change->kind) {
		case HK_CHANGE_DELETED:
			r = hk_apply_remove_at(at.lower, at.name);
			r = r == -ENOENT ? 0 : r;
			break;
		case HK_CHANGE_METADATA:
			made = find_made(apply, change);
			if (is_kept(change) &&
				(made == NULL || made->lower == change->lower.st_ino)) {
				r = change_meta(apply, &at);
			} else {
				r = make_below(apply, &at, change);
			}
			break;
		default:
			r = make_below(apply, &at, change);
			break;
		}
	}
	hk_ov_take_back(apply->ov, &lent);
	close_place(&at);
	return r;
}

/* --- all of them --- */

/* Does a change to its place stand where others come to? */
static bool is_around(const struct hk_change *change)
{
	return change->kind == HK_CHANGE_RENAMED ||
		(S_ISDIR(change->upper.st_mode) && !S_ISDIR(change->lower.st_mode));
}

/*
 * What is asked for, with the new directories around it. Return: 0; -ENOENT where there is no such
 * change
 */
static int select_paths(struct hk_apply *apply, const char *const *paths, struct hk_err *err)
{
	for (size_t i = 0; i < apply->changes.differ.count; i++) {
		apply->is_selected[i] = paths == NULL;
	}
	for (; paths != NULL && *paths != NULL; paths++) {
		bool found = **paths == '\0';

		for (size_t i = 0; i < apply->changes.differ.count; i++) {
			const struct hk_change *change = &apply->changes.differ.list[i];
			bool is_meant = hk_path_within(change->path, *paths) != NULL ||
				(change->kind == HK_CHANGE_RENAMED &&
					hk_path_within(change->old_path, *paths) != NULL);

			found |= is_meant;
			apply->is_selected[i] |= is_meant ||
				(is_around(change) && hk_path_within(*paths, change->path) != NULL);
		}
		if (!found) {
			hk_fail_msg(err, ENOENT, "the layer has no change at '%.200s/%.200s'",
				apply->layer->lower, *paths);
			hk_err_hint(err, "see hako diff --summary");
			return -ENOENT;
		}
	}
	hk_apply_select(apply);
	return 0;
}

bool hk_apply_ends_with(int r)
{
	return r == -ENOSPC || r == -EDQUOT || r == -EIO || r == -ENOMEM || r == -EMFILE ||
		r == -ENFILE;
}

bool hk_apply_is_kept_back(const struct hk_apply *apply, const struct hk_change *change)
{
	return (change->conflict || change->loses_owner) && !apply->force;
}

/* Why is this change left? NULL: it is not. */
static const char *why_left(
	const struct hk_apply *apply, const struct hk_change *change, char text[80])
{
	if (change->conflict && !apply->force) {
		return "has changed below meanwhile";
	}
	if (change->loses_owner && !apply->force) {
		hk_fmt(text, 80, "has owner %u:%u below, which it would lose", change->upper.st_uid,
			change->upper.st_gid);
		return text;
	}
	if (change->kind == HK_CHANGE_RENAMED) {
		return "cannot be renamed yet";
	}
	return change->kind != HK_CHANGE_METADATA && hk_apply_holds_source(apply, change->path)
		? "holds what is to be renamed"
		: NULL;
}

/* Return: 0; 1: nothing in it is to be done, either; -errno ends it all. */
static int apply_one(struct hk_apply *apply, size_t i, int *conflicts, struct hk_err *err)
{
	const struct hk_change *change = &apply->changes.differ.list[i];
	const char *why;
	char text[80];
	int r = apply->failed[i];

	if (r == 0) {
		why = why_left(apply, change, text);
		if (why != NULL) {
			apply->left(apply->arg, change, why);
			(*conflicts)++;
			return 1;
		}
		r = hk_apply_change(apply, change);
	}
	if (r == 0) {
		apply->is_done[i] = true;
		return 0;
	}
	if (hk_apply_ends_with(r)) {
		return hk_layer_fail(err, r, change->path, NULL);
	}
	forget_made(apply, change);
	hk_fmt(text, sizeof(text), "cannot be changed: %s", strerror(-r));
	apply->left(apply->arg, change, text);
	apply->failure_count++;
	apply->first_failure = apply->first_failure < 0 ? apply->first_failure : r;
	return change->kind != HK_CHANGE_METADATA;
}

/* Return: number of conflicts; -errno. */
static int apply_all(struct hk_apply *apply, struct hk_err *err)
{
	const char *left_out = NULL; /* a directory that was not applied: nor is what is in it */
	int conflicts = 0;

	for (size_t i = 0; i < apply->changes.differ.count; i++) {
		const char *path = apply->changes.differ.list[i].path;
		int r;

		if (!apply->is_selected[i] || apply->is_done[i] ||
			(left_out != NULL && hk_path_within(path, left_out) != NULL)) {
			continue;
		}
		r = apply_one(apply, i, &conflicts, err);
		if (r < 0) {
			return r;
		}
		left_out = r > 0 ? path : left_out;
	}
	return conflicts;
}

static void finish_changes(struct hk_apply *apply)
{
	hk_changes_finish(&apply->changes);
	free(apply->is_selected);
	free(apply->is_done);
	free(apply->failed);
	free(apply->renames);
	apply->is_selected = NULL;
	apply->is_done = NULL;
	apply->failed = NULL;
	apply->renames = NULL;
	apply->rename_count = 0;
}

static int collect(struct hk_apply *apply, const char *const *paths, struct hk_err *err)
{
	int r = hk_changes_collect(apply->layer, &apply->changes, err);
	size_t count = apply->changes.differ.count + 1;

	if (r < 0) {
		return r;
	}
	apply->is_selected = hk_calloc(count, sizeof(*apply->is_selected));
	apply->is_done = hk_calloc(count, sizeof(*apply->is_done));
	apply->failed = hk_calloc(count, sizeof(*apply->failed));
	apply->renames = hk_calloc(count, sizeof(*apply->renames));
	if (apply->is_selected == NULL || apply->is_done == NULL || apply->failed == NULL ||
		apply->renames == NULL) {
		return hk_fail(err, ENOMEM, "apply");
	}
	for (size_t i = 0; i < apply->changes.differ.count; i++) {
		if (apply->changes.differ.list[i].kind == HK_CHANGE_RENAMED) {
			apply->renames[apply->rename_count++] = i;
		}
	}
	return select_paths(apply, paths, err);
}

/* All but renames. Return: number of conflicts, or -errno. */
static int apply_rest(struct hk_apply *apply, bool whole, struct hk_err *err)
{
	struct hk_layer_dirs top = {.upper = apply->ov->upper, .lower = apply->ov->host->root};
	int r = hk_apply_unfold_tree(apply->ov, &top);
	int left;

	if (r < 0) {
		return hk_fail(err, -r, "layer: opaque directory");
	}
	r = note_kept(apply) < 0 ? hk_fail(err, ENOMEM, "apply") : apply_all(apply, err);
	whole &= r == 0 && apply->failure_count == 0;
	left = hk_apply_leave_all(apply, whole, r < 0 ? NULL : err);
	return left < 0 && r >= 0 ? left : r;
}

int hk_layer_apply(struct hk_layer *layer, const char *const *paths, bool force,
	void (*left)(void *arg, const struct hk_change *change, const char *why), void *arg,
	struct hk_err *err)
{
	struct hk_apply apply = {
		.layer = layer, .ov = layer->ov, .force = force, .left = left, .arg = arg};
	bool again;
	int r;

	do {
		again = false;
		finish_changes(&apply);
		r = collect(&apply, paths, err);
		if (r == 0) {
			r = hk_apply_renames(&apply, &again, err);
		}
	} while (r == 0 && again);
	if (r == 0) {
		r = apply_rest(&apply, paths == NULL, err);
	}
	if (r >= 0 && apply.failure_count > 0) {
		r = hk_fail_msg(err, -apply.first_failure,
			"%u of the changes cannot be made: left in the layer", apply.failure_count);
	}
	finish_changes(&apply);
	free(apply.made);
	return r;
}
