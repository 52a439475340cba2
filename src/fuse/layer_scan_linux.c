/* SPDX-License-Identifier: ISC */
/*
 * What is in a kept layer: see layer.h.
 *
 * Theory: both trees are walked together, the upper one leading. What was copied up and is as it
 * was, is no change; only where attributes are alike is data compared. Below has changed if what a
 * copy's record says of its original is no longer so; or, where there is no record (a whiteout, a
 * file that replaced another), if what is below, or anything in it, is not what the layer's notes
 * say it hid there (overlay_hidden_linux.c). A layer without notes, of an older Hako or the
 * kernel's overlayfs, has only times: then, if it is not older.
 *
 * A renamed directory is compared with what it was below, and its old name counts as free
 * (layer_moves_linux.c).
 *
 * Limits: the time of a directory alone is no change.
 */
#include <linux/limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/str.h"
#include "base/sys.h"
#include "base/util.h"
#include "fuse/layer_impl.h"

enum { BLOCK = 65536 };

/* --- comparing --- */

/* One name, in both trees. */
struct pair {
	int upper, lower; /* O_PATH; -1: not there */
	struct hk_stat upper_st, lower_st;
	int64_t born_ns; /* of @upper; 0: not known */
	bool is_whiteout;
	bool has_record;
	struct hk_ov_record record;
	char mark;
	char *from;        /* owned; a renamed directory: the path of @lower, "/a/b" */
	bool is_lost;      /* renamed, but what it was below is gone */
	int64_t hidden_ns; /* since when what was below at this name is hidden; 0: not known */
	int64_t newest_ns; /* the latest change in it */
	bool is_unseen;    /* it, or something in it, is not what was hidden */
};

/* Return: 1 same, 0 not, -errno. */
static int same_data(struct hk_overlay *ov, const struct pair *p)
{
	autoclose int upper = hk_layer_open_upper(ov, p->upper);
	autoclose int lower = hk_host_open_file(ov->host, p->lower, O_RDONLY | O_NOATIME);
	autofree char *buf = hk_malloc(2 * BLOCK);
	uint64_t at = 0;

	if (upper < 0 || lower < 0 || buf == NULL) {
		return upper < 0 ? upper : lower < 0 ? lower : -ENOMEM;
	}
	for (;;) {
		ssize_t n = hk_pread_full(upper, buf, BLOCK, at);
		ssize_t m = hk_pread_full(lower, buf + BLOCK, BLOCK, at);

		if (n < 0 || m < 0) {
			return (int)(n < 0 ? n : m);
		}
		if (n != m || memcmp(buf, buf + BLOCK, (size_t)n) != 0) {
			return 0;
		}
		if (n == 0) {
			return 1;
		}
		at += (uint64_t)n;
	}
}

static int same_content(struct hk_overlay *ov, const struct pair *p)
{
	char upper[PATH_MAX];
	char lower[PATH_MAX];
	ssize_t n;
	ssize_t m;

	switch (p->upper_st.mode & S_IFMT) {
	case S_IFREG:
		return p->upper_st.size != p->lower_st.size ? 0 : same_data(ov, p);
	case S_IFLNK:
		n = readlinkat(p->upper, "", upper, sizeof(upper));
		m = readlinkat(p->lower, "", lower, sizeof(lower));
		return n > 0 && n == m && memcmp(upper, lower, (size_t)n) == 0;
	case S_IFCHR:
	case S_IFBLK:
		return p->upper_st.rdev == p->lower_st.rdev;
	default:
		return 1;
	}
}

/* Does @a have no attribute that @b has not, or has with another value? Counts them. */
static bool has_xattrs_of(struct hk_overlay *ov, int a, int b, unsigned *count)
{
	autofree char *names = hk_malloc(XATTR_LIST_MAX);
	autofree char *values = hk_malloc(2 * XATTR_SIZE_MAX);
	ssize_t len;

	if (names == NULL || values == NULL) {
		return false;
	}
	len = hk_host_listxattr(ov->host, a, names, XATTR_LIST_MAX);
	for (ssize_t at = 0; at < len; at += (ssize_t)strlen(names + at) + 1) {
		ssize_t n;
		ssize_t m;

		if (hk_ov_is_our_xattr(names + at)) {
			continue;
		}
		n = hk_host_getxattr(ov->host, a, names + at, values, XATTR_SIZE_MAX);
		m = hk_host_getxattr(
			ov->host, b, names + at, values + XATTR_SIZE_MAX, XATTR_SIZE_MAX);
		if (n != m || (n > 0 && memcmp(values, values + XATTR_SIZE_MAX, (size_t)n) != 0)) {
			return false;
		}
		(*count)++;
	}
	return true;
}

/*
 * Was a directory's time set, rather than changed by what was done in it? That is never older than
 * the copy, which had the time of the lower one.
 */
static bool sets_time(const struct pair *p)
{
	int64_t upper_ns = hk_timespec_ns(p->upper_st.mtime);

	return S_ISDIR(p->upper_st.mode) && p->has_record && upper_ns < p->born_ns &&
		upper_ns != p->record.mtime_ns && upper_ns != hk_timespec_ns(p->lower_st.mtime);
}

static bool same_meta(struct hk_overlay *ov, const struct pair *p)
{
	const struct hk_stat *u = &p->upper_st;
	const struct hk_stat *l = &p->lower_st;
	unsigned upper_count = 0;
	unsigned lower_count = 0;

	if (u->mode != l->mode || u->uid != l->uid || u->gid != l->gid ||
		(!S_ISDIR(u->mode) && hk_timespec_ns(u->mtime) != hk_timespec_ns(l->mtime)) ||
		sets_time(p)) {
		return false;
	}
	return has_xattrs_of(ov, p->upper, p->lower, &upper_count) &&
		has_xattrs_of(ov, p->lower, p->upper, &lower_count) && upper_count == lower_count;
}

struct scan {
	struct hk_overlay *ov;
	struct hk_changes *changes;
	struct hk_str path;  /* of the directory at hand */
	struct hk_str below; /* and of what it is compared with */
};

struct newest {
	struct hk_layer_tour tour; /* first member */
	struct scan *scan;
	int64_t ns;
	bool is_unseen;
};

static void look_at_hidden(struct newest *newest, const struct hk_stat *st)
{
	newest->ns = HK_MAX(newest->ns, hk_timespec_ns(st->ctime));
	newest->is_unseen |= !hk_ov_hidden_has(&newest->scan->changes->hidden, hk_ov_digest(st));
}

static int look_for_newer(struct hk_layer_tour *tour, int dir, const struct hk_dirent *entry)
{
	struct newest *newest = (struct newest *)tour;
	struct hk_stat st;
	struct hk_backend *host = newest->scan->ov->host;
	int r = host->ops->lookup(host, dir, entry->name, &st);

	if (r < 0) {
		return r == -ENOENT || r == -EACCES ? 0 : r;
	}
	look_at_hidden(newest, &st);
	return S_ISDIR(st.mode);
}

/* What is hidden by @p: when it was changed last, and is it what it was? Return: 0 or -errno. */
static int find_newest(struct scan *scan, struct pair *p)
{
	struct newest newest = {
		.tour = {.entry = look_for_newer, .skips_closed = true}, .scan = scan};
	int r;

	look_at_hidden(&newest, &p->lower_st);
	r = S_ISDIR(p->lower_st.mode) ? hk_layer_tour(&newest.tour, p->lower) : 0;
	hk_str_finish(&newest.tour.path);
	p->newest_ns = newest.ns;
	/* Without notes, within one tick of the clock nobody knows. */
	p->is_unseen =
		scan->changes->hidden.is_known ? newest.is_unseen : newest.ns >= p->hidden_ns;
	return r;
}

/* @path: the lower one. */
static bool is_conflict(const struct pair *p, const char *path)
{
	const struct hk_stat *l = &p->lower_st;
	bool is_copy = p->upper >= 0 && p->has_record && p->record.path_hash == hk_ov_hash(path);

	if (p->from != NULL || p->is_lost) {
		return p->is_lost || p->is_unseen;
	}
	if (p->lower < 0) {
		return is_copy; /* removed below */
	}
	if (p->upper >= 0 && S_ISDIR(p->upper_st.mode) && S_ISDIR(l->mode)) {
		return false;
	}
	if (is_copy && hk_ov_is_original(&p->record, l) && !S_ISDIR(l->mode)) {
		return p->record.ctime_ns != hk_timespec_ns(l->ctime) ||
			p->record.mtime_ns != hk_timespec_ns(l->mtime) || p->record.size != l->size;
	}
	if (is_copy) {
		return true; /* another inode by now */
	}
	return p->is_unseen;
}

/* --- collecting --- */

static struct stat to_stat(const struct hk_stat *st)
{
	return (struct stat){
		.st_dev = makedev((unsigned)(st->dev >> 32), (unsigned)st->dev),
		.st_ino = st->ino,
		.st_mode = st->mode,
		.st_nlink = st->nlink,
		.st_uid = st->uid,
		.st_gid = st->gid,
		.st_rdev = st->rdev,
		.st_size = (off_t)st->size,
		.st_blksize = st->blksize,
		.st_blocks = (blkcnt_t)st->blocks,
		.st_atim = st->atime,
		.st_mtim = st->mtime,
		.st_ctim = st->ctime,
	};
}

/* Is a new inode to take the place of one below, with an owner that only root gives? */
static bool loses_owner(struct hk_overlay *ov, enum hk_change_kind kind, const struct pair *p)
{
	bool is_replaced = p->lower >= 0 && p->upper >= 0 &&
		(kind == HK_CHANGE_CHANGED ||
			(kind == HK_CHANGE_METADATA && !S_ISDIR(p->lower_st.mode) &&
				p->lower_st.nlink > 1));

	return is_replaced && !ov->is_root &&
		(p->upper_st.uid != ov->uid || !hk_ov_is_in_group(ov, p->upper_st.gid));
}

static int add_to(struct scan *scan, struct hk_change_list *to, enum hk_change_kind kind,
	const struct pair *p)
{
	struct hk_change change = {.kind = kind};

	if (to->count == to->cap) {
		size_t cap = to->cap == 0 ? 64 : to->cap * 2;
		struct hk_change *list = hk_realloc_array(to->list, cap, sizeof(*list));

		if (list == NULL) {
			return -ENOMEM;
		}
		to->list = list;
		to->cap = cap;
	}
	change.path = hk_strdup(hk_str_text(&scan->path));
	change.old_path =
		hk_strdup(kind == HK_CHANGE_RENAMED ? p->from + 1 : hk_str_text(&scan->below));
	if (change.path == NULL || change.old_path == NULL) {
		free((char *)(uintptr_t)change.path);
		free((char *)(uintptr_t)change.old_path);
		return -ENOMEM;
	}
	if (p->upper >= 0) {
		change.upper = to_stat(&p->upper_st);
	}
	if (p->lower >= 0) {
		change.lower = to_stat(&p->lower_st);
	}
	change.replaces = kind == HK_CHANGE_RENAMED && p->newest_ns != 0;
	change.conflict = is_conflict(p, hk_str_text(&scan->below));
	change.sets_time = p->lower >= 0 && p->upper >= 0 && sets_time(p);
	change.loses_owner = loses_owner(scan->ov, kind, p);
	to->list[to->count++] = change;
	return 0;
}

static int add_change(struct scan *scan, enum hk_change_kind kind, const struct pair *p)
{
	return add_to(scan, &scan->changes->differ, kind, p);
}

static void finish_pair(struct pair *p)
{
	hk_close(&p->upper);
	hk_close(&p->lower);
	free(p->from);
	p->from = NULL;
}

static int look(struct hk_overlay *ov, int dir, const char *name, int *ret_fd, struct hk_stat *st)
{
	int fd = dir < 0 ? -ENOENT : hk_host_open_name(dir, name, O_PATH, 0);

	if (fd < 0) {
		return fd == -ENOENT ? 0 : fd;
	}
	*ret_fd = fd;
	return ov->host->ops->stat(ov->host, fd, st);
}

/* A renamed directory: what it was below. What is below at its new name is hidden by it. */
static int open_moved(struct scan *scan, int upper, const char *name, struct pair *p)
{
	struct hk_overlay *ov = scan->ov;
	struct hk_stat st;
	int fd = hk_ov_open_moved(ov, upper, name, &p->record, &st, &p->from);
	int r = 0;

	if (fd < 0 && fd != -ENOENT) {
		return fd;
	}
	if (fd < 0 && p->lower >= 0 && hk_ov_is_original(&p->record, &p->lower_st)) {
		return 0; /* an interrupted hako apply */
	}
	p->is_lost = fd < 0;
	if (fd >= 0 && strcmp(p->from + 1, hk_str_text(&scan->below)) == 0) {
		free(p->from); /* it has come back */
		p->from = NULL;
	} else if (p->lower >= 0) {
		r = find_newest(scan, p);
	}
	hk_close(&p->lower);
	p->lower = -1;
	p->lower_st = (struct hk_stat){0};
	if (fd >= 0) {
		p->lower = fd;
		p->lower_st = st;
	}
	return r;
}

/* When did @upper come to hide what is below? */
static int64_t hidden_since(const struct pair *p)
{
	if (p->is_whiteout || p->upper_st.born_ns == 0) {
		return hk_timespec_ns(p->upper_st.mtime);
	}
	return p->upper_st.born_ns;
}

/* @hidden_ns: since when all that is not in @upper is hidden; 0: it is not */
static int open_pair(struct scan *scan, int upper, int lower, const char *name, int64_t hidden_ns,
	struct pair *p)
{
	struct hk_overlay *ov = scan->ov;
	int r;

	*p = (struct pair){.upper = -1, .lower = -1, .hidden_ns = hidden_ns};
	r = look(ov, upper, name, &p->upper, &p->upper_st);
	if (r == 0) {
		r = look(ov, lower, name, &p->lower, &p->lower_st);
	}
	if (r == 0 && p->lower >= 0 &&
		hk_layer_moves_has(&scan->changes->moves, hk_str_text(&scan->below))) {
		hk_close(&p->lower); /* the name is free, once that is renamed */
		p->lower_st = (struct hk_stat){0};
	}
	if (r < 0 || p->upper < 0) {
		return r;
	}
	p->born_ns = p->upper_st.born_ns;
	p->is_whiteout = hk_ov_is_whiteout(ov, upper, name, &p->upper_st, true);
	p->has_record = hk_ov_get_record(ov, p->upper, NULL, &p->upper_st, &p->record) != 0;
	if (p->has_record) {
		uint64_t ino = p->upper_st.ino;

		/* Owners that could not be given; but which inode it is itself. */
		hk_ov_stat_with(&p->record, &p->upper_st);
		p->upper_st.ino = ino;
		p->upper_st.born_ns = p->born_ns;
	}
	p->hidden_ns = hidden_since(p);
	if (p->is_whiteout) {
		hk_close(&p->upper);
	} else if (S_ISDIR(p->upper_st.mode)) {
		p->mark = hk_ov_get_mark(ov, p->upper, NULL, HK_OV_OPAQUE);
	}
	return p->has_record && hk_ov_is_moved(p->mark) ? open_moved(scan, upper, name, p) : 0;
}

bool hk_layer_is_same_meta(struct hk_overlay *ov, int upper, int lower)
{
	struct pair p = {.upper = upper, .lower = lower};

	if (ov->host->ops->stat(ov->host, upper, &p.upper_st) < 0 ||
		ov->host->ops->stat(ov->host, lower, &p.lower_st) < 0) {
		return false;
	}
	p.born_ns = p.upper_st.born_ns;
	p.has_record = hk_ov_get_record(ov, upper, NULL, &p.upper_st, &p.record) != 0;
	if (p.has_record) {
		hk_ov_stat_with(&p.record, &p.upper_st);
	}
	return same_meta(ov, &p);
}

static int scan_dir(struct scan *scan, struct hk_layer_dirs *dirs, int64_t hidden_ns);

/* @p's descriptors are others afterwards. */
static int scan_within(struct scan *scan, struct pair *p, unsigned depth, int64_t hidden_ns)
{
	bool has_lower = p->lower >= 0 && S_ISDIR(p->lower_st.mode);
	struct hk_layer_dirs dirs = {.upper = take_fd(&p->upper),
		.lower = has_lower ? take_fd(&p->lower) : -1,
		.depth = depth};
	struct hk_str below = scan->below;
	int r;

	if (p->from == NULL) {
		r = scan_dir(scan, &dirs, hidden_ns);
	} else {
		scan->below = (struct hk_str){0};
		hk_str_add(&scan->below, p->from + 1);
		r = scan->below.failed ? -ENOMEM : scan_dir(scan, &dirs, 0);
		hk_str_finish(&scan->below);
		scan->below = below;
	}
	p->upper = dirs.upper;
	p->lower = has_lower ? dirs.lower : p->lower;
	return r;
}

/* A directory above, whatever is below. */
static int scan_subdir(struct scan *scan, struct pair *p, unsigned depth, int64_t hidden_ns)
{
	int r = 0;

	if (p->lower < 0 || !S_ISDIR(p->lower_st.mode)) {
		r = add_change(scan, p->lower >= 0 ? HK_CHANGE_CHANGED : HK_CHANGE_ADDED, p);
	} else {
		if (p->from != NULL) {
			r = add_change(scan, HK_CHANGE_RENAMED, p);
		}
		if (r == 0 && !same_meta(scan->ov, p)) {
			r = add_change(scan, HK_CHANGE_METADATA, p);
		}
	}
	if (p->mark == 'y') {
		hidden_ns = p->hidden_ns;
	}
	return r < 0 ? r : scan_within(scan, p, depth, hidden_ns);
}

/* @depth: of what may be in it */
static int scan_pair(struct scan *scan, struct pair *p, unsigned depth, int64_t hidden_ns)
{
	bool is_hidden = p->is_whiteout || hidden_ns != 0;
	int r;

	if (p->lower >= 0 && p->from == NULL &&
		(p->upper < 0 ? is_hidden
			      : (p->upper_st.mode & S_IFMT) != (p->lower_st.mode & S_IFMT) ||
					!S_ISDIR(p->upper_st.mode))) {
		r = find_newest(scan, p);
		if (r < 0) {
			return r;
		}
	}
	if (p->upper < 0) {
		/* A whiteout; or nothing, which says the same in an opaque directory. */
		return p->lower >= 0 && is_hidden ? add_change(scan, HK_CHANGE_DELETED, p) : 0;
	}
	if (S_ISDIR(p->upper_st.mode)) {
		return scan_subdir(scan, p, depth, hidden_ns);
	}
	if (p->lower < 0) {
		return add_change(scan, HK_CHANGE_ADDED, p);
	}
	if ((p->upper_st.mode & S_IFMT) != (p->lower_st.mode & S_IFMT)) {
		return add_change(scan, HK_CHANGE_CHANGED, p);
	}
	r = same_content(scan->ov, p);
	if (r < 0) {
		return r;
	}
	if (r == 0) {
		return add_change(scan, HK_CHANGE_CHANGED, p);
	}
	return same_meta(scan->ov, p) ? add_to(scan, &scan->changes->same, HK_CHANGE_METADATA, p)
				      : add_change(scan, HK_CHANGE_METADATA, p);
}

/*
 * One that may have others in it is looked at while @dirs are closed, if there are many open. @len,
 * @below_len: of the paths of @dirs
 */
static int scan_name(struct scan *scan, struct hk_layer_dirs *dirs, struct pair *p, size_t len,
	size_t below_len, int64_t hidden_ns)
{
	bool goes_in = p->upper >= 0 && S_ISDIR(p->upper_st.mode);
	struct hk_layer_dirs sub;
	int r = goes_in ? hk_layer_dirs_leave(dirs) : 0;

	if (r == 0) {
		r = scan_pair(scan, p, dirs->depth + 1, hidden_ns);
	}
	if (r < 0) {
		return r; /* the path is for the message */
	}
	hk_path_leave(&scan->path, len);
	hk_path_leave(&scan->below, below_len);
	if (goes_in) {
		sub = (struct hk_layer_dirs){.upper = p->upper, .lower = p->lower};
		r = hk_layer_dirs_return(
			scan->ov, dirs, &sub, hk_str_text(&scan->path), hk_str_text(&scan->below));
	}
	return r;
}

/* @hidden_ns: as for open_pair() */
static int scan_dir(struct scan *scan, struct hk_layer_dirs *dirs, int64_t hidden_ns)
{
	struct hk_layer_names names = {0};
	size_t len = scan->path.len;
	size_t below_len = scan->below.len;
	int r = hk_layer_names_add(&names, dirs->upper);

	if (r == 0 && hidden_ns != 0) {
		r = hk_layer_names_add(&names, dirs->lower);
	}
	hk_layer_names_sort(&names);
	for (size_t i = 0; r == 0 && i < names.count; i++) {
		struct pair p = {.upper = -1, .lower = -1};

		hk_path_enter(&scan->path, names.list[i]);
		hk_path_enter(&scan->below, names.list[i]);
		r = scan->path.failed || scan->below.failed
			? -ENOMEM
			: open_pair(scan, dirs->upper, dirs->lower, names.list[i], hidden_ns, &p);
		if (r == 0) {
			r = scan_name(scan, dirs, &p, len, below_len, hidden_ns);
		}
		finish_pair(&p);
	}
	hk_layer_names_finish(&names);
	return r;
}

int hk_changes_collect(struct hk_layer *layer, struct hk_changes *changes, struct hk_err *err)
{
	struct hk_overlay *ov = layer->ov;
	struct scan scan = {.ov = ov, .changes = changes};
	struct hk_layer_dirs top = {.upper = ov->upper, .lower = ov->host->root};
	int r = hk_layer_moves_find(layer, &changes->moves, err);

	if (r == 0) {
		r = hk_layer_find_links(layer, &changes->moves, err);
	}
	if (r < 0) {
		return r;
	}
	r = hk_ov_hidden_read(ov, &changes->hidden);
	if (r < 0) {
		return hk_fail(err, -r, "layer: hidden");
	}
	r = scan_dir(&scan, &top, 0);
	if (r < 0) {
		hk_layer_fail(err, r, hk_str_text(&scan.path),
			r == -ENAMETOOLONG ? "more than 4096 directories within each other" : NULL);
	}
	hk_str_finish(&scan.path);
	hk_str_finish(&scan.below);
	return r;
}

static void finish_list(struct hk_change_list *changes)
{
	for (size_t i = 0; i < changes->count; i++) {
		free((char *)(uintptr_t)changes->list[i].path);
		free((char *)(uintptr_t)changes->list[i].old_path);
	}
	free(changes->list);
	*changes = (struct hk_change_list){0};
}

void hk_changes_finish(struct hk_changes *changes)
{
	finish_list(&changes->differ);
	finish_list(&changes->same);
	hk_layer_moves_finish(&changes->moves);
	hk_ov_hidden_finish(&changes->hidden);
}

int hk_layer_each(struct hk_layer *layer, int (*each)(void *arg, const struct hk_change *change),
	void *arg, struct hk_err *err)
{
	struct hk_changes changes = {0};
	int r = hk_changes_collect(layer, &changes, err);

	for (size_t i = 0; r == 0 && i < changes.differ.count; i++) {
		r = each(arg, &changes.differ.list[i]);
	}
	hk_changes_finish(&changes);
	return r;
}
