/* SPDX-License-Identifier: ISC */
/*
 * Opening a kept layer, and ways through it: see layer.h and layer_impl.h. What is in it is found
 * by layer_scan_linux.c.
 *
 * Theory: nobody knows how deep a tree is that a program has made. So what is further up is closed,
 * and opened again on the way back by "..", if that is the directory that it was; else by its path
 * from the top.
 *
 * Limits: both trees at once are walked to a depth of HK_LAYER_MAX_DEPTH, for there a level costs
 * stack.
 */
#include <linux/limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/str.h"
#include "base/sys.h"
#include "fuse/layer_impl.h"

enum { OPEN_DEPTH = 64 }; /* in both trees, so twice as many descriptors */

int hk_layer_open(
	const char *layer_path, const char *lower, struct hk_layer **ret_layer, struct hk_err *err)
{
	struct hk_overlay_options options = {.layer = layer_path, .lower = lower};
	struct hk_layer *layer;
	int r;

	if (hk_new(layer) == NULL) {
		return hk_fail(err, ENOMEM, "layer '%s'", layer_path);
	}
	r = hk_overlay_open(&options, &layer->backend, err);
	if (r < 0) {
		free(layer);
		return r;
	}
	layer->ov = hk_overlay_of(layer->backend);
	layer->lower = hk_strdup(strcmp(lower, "/") == 0 ? "" : lower);
	if (layer->lower == NULL) {
		hk_layer_close(layer);
		return hk_fail(err, ENOMEM, "layer '%s'", layer_path);
	}
	*ret_layer = layer;
	return 0;
}

int hk_layer_lower(const char *path, char **ret_lower, struct hk_err *err)
{
	struct hk_str file = {0};
	void *text = NULL;
	size_t len;
	int r;

	hk_str_addf(&file, "%s/lower", path);
	r = file.failed ? hk_fail(err, ENOMEM, "layer '%s'", path)
			: hk_read_file(file.data, PATH_MAX, &text, &len, err);
	hk_str_finish(&file);
	if (r < 0) {
		hk_err_hint(err, "this is no layer, or making it was interrupted");
		return r;
	}
	*ret_lower = text;
	return 0;
}

int hk_layer_open_upper(struct hk_overlay *ov, int obj)
{
	int fd = hk_host_open_file(ov->host, obj, O_RDONLY);
	struct hk_ov_lent lent;

	if (fd != -EACCES || hk_ov_lend(ov, obj, S_IRUSR, &lent) < 0 || !lent.is_lent) {
		return fd;
	}
	fd = hk_host_open_file(ov->host, obj, O_RDONLY);
	hk_ov_take_back(ov, &lent);
	return fd;
}

int hk_layer_fail(struct hk_err *err, int r, const char *path, const char *doing)
{
	char shown[256];

	hk_str_escape(shown, sizeof(shown), path, strlen(path));
	return hk_fail(
		err, -r, "'%s'%s%s", shown, doing != NULL ? ": " : "", doing != NULL ? doing : "");
}

void hk_layer_close(struct hk_layer *layer)
{
	if (layer != NULL) {
		layer->backend->ops->destroy(layer->backend);
		free(layer->lower);
		free(layer);
	}
}

/* --- names --- */

static int add_name(struct hk_layer_names *names, const char *name)
{
	if (names->count == names->cap) {
		size_t cap = names->cap == 0 ? 32 : names->cap * 2;
		char **list = hk_realloc_array(names->list, cap, sizeof(*list));

		if (list == NULL) {
			return -ENOMEM;
		}
		names->list = list;
		names->cap = cap;
	}
	names->list[names->count] = hk_strdup(name);
	return names->list[names->count] == NULL ? -ENOMEM : (int)(names->count++ & 0);
}

int hk_layer_names_add(struct hk_layer_names *names, int dir)
{
	_Alignas(struct hk_dirent) char buf[8192];
	autoclose int fd = -1;
	ssize_t n;

	if (dir < 0) {
		return 0;
	}
	fd = hk_host_open_dir(NULL, dir);
	n = fd;
	while (n >= 0 && (n = hk_host_read_dir(NULL, fd, buf, sizeof(buf))) > 0) {
		for (ssize_t at = 0; at < n;) {
			const struct hk_dirent *entry = (const struct hk_dirent *)(buf + at);

			at += entry->record_len;
			if (strcmp(entry->name, ".") != 0 && strcmp(entry->name, "..") != 0 &&
				add_name(names, entry->name) < 0) {
				return -ENOMEM;
			}
		}
	}
	return (int)n;
}

static int by_name(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

void hk_layer_names_sort(struct hk_layer_names *names)
{
	size_t kept = 0;

	if (names->count > 0) {
		qsort(names->list, names->count, sizeof(names->list[0]), by_name);
	}
	for (size_t i = 0; i < names->count; i++) {
		if (kept > 0 && strcmp(names->list[kept - 1], names->list[i]) == 0) {
			free(names->list[i]);
		} else {
			names->list[kept++] = names->list[i];
		}
	}
	names->count = kept;
}

void hk_layer_names_finish(struct hk_layer_names *names)
{
	for (size_t i = 0; i < names->count; i++) {
		free(names->list[i]);
	}
	free(names->list);
	*names = (struct hk_layer_names){0};
}

/* --- through trees of any depth --- */

/* A directory on the way of a tour. */
struct level {
	struct hk_layer_names subs; /* to go into */
	size_t next;                /* of them */
	size_t path_len;
	dev_t dev;
	ino_t ino;
};

/* Shows all of a directory to the tour, and notes where it wants to go. */
static int visit(struct hk_layer_tour *tour, int dir, struct hk_layer_names *subs)
{
	_Alignas(struct hk_dirent) char buf[8192];
	size_t len = tour->path.len;
	ssize_t n;

	while ((n = hk_host_read_dir(NULL, dir, buf, sizeof(buf))) > 0) {
		for (ssize_t at = 0; at < n;) {
			const struct hk_dirent *entry = (const struct hk_dirent *)(buf + at);
			int r;

			at += entry->record_len;
			if (strcmp(entry->name, ".") == 0 || strcmp(entry->name, "..") == 0) {
				continue;
			}
			hk_path_enter(&tour->path, entry->name);
			r = tour->path.failed ? -ENOMEM : tour->entry(tour, dir, entry);
			if (r > 0) {
				r = add_name(subs, entry->name);
			}
			if (r < 0) {
				return r;
			}
			hk_path_leave(&tour->path, len);
		}
	}
	return n == -ENOENT ? 0 : (int)n; /* removed meanwhile */
}

/* @dir if it is the one that @level was; else it is closed. */
static int same_as(int dir, dev_t dev, ino_t ino)
{
	struct stat st;

	if (dir >= 0 && (fstat(dir, &st) < 0 || st.st_dev != dev || st.st_ino != ino)) {
		close(dir);
		return -ESTALE;
	}
	return dir;
}

/*
 * From @sub back to the directory it is in: by the short way, or from @root. @path NULL: not known.
 * Return: O_PATH descriptor; -ESTALE; -errno
 */
static int reopen(int sub, int root, const char *path, dev_t dev, ino_t ino)
{
	int fd = sub < 0 ? -ESTALE
			 : HK_HOST_CALL(openat(sub, "..", O_PATH | O_DIRECTORY | O_CLOEXEC));

	fd = same_as(fd, dev, ino);
	if (fd < 0 && path != NULL) {
		fd = same_as(hk_ov_walk(root, path), dev, ino);
	}
	return fd;
}

/* Was it removed, or moved, while we were in it? */
static bool is_gone(int r)
{
	return r == -ESTALE || r == -ENOENT || r == -ENOTDIR || r == -ELOOP;
}

/*
 * @fd: in, a directory in it, or -1; out, @level itself, or -1 where that is gone: then no more is
 * to be seen in it.
 */
static int go_up(struct hk_layer_tour *tour, int top, struct level *level, int *fd)
{
	autoclose int from = take_fd(fd);
	autoclose int dir = -1;
	int r;

	hk_path_leave(&tour->path, level->path_len);
	dir = reopen(from, top, hk_str_text(&tour->path), level->dev, level->ino);
	r = dir < 0 ? dir : hk_host_open_dir(NULL, dir);
	if (r >= 0) {
		*fd = r;
		return 0;
	}
	level->next = level->subs.count;
	return is_gone(r) || (r == -EACCES && tour->skips_closed) ? 0 : r;
}

/*
 * The directory @dir, whose path is the tour's: if it has any in it to go into, they become
 * @level's.
 */
static int begin_level(struct hk_layer_tour *tour, int dir, struct level *level)
{
	struct stat st;
	int r = fstat(dir, &st) < 0 ? -errno : 0;

	*level = (struct level){.path_len = tour->path.len, .dev = st.st_dev, .ino = st.st_ino};
	return r < 0 ? r : visit(tour, dir, &level->subs);
}

static int grow(struct level **levels, size_t count, size_t *cap)
{
	size_t wanted = *cap == 0 ? 16 : *cap * 2;
	struct level *list;

	if (count < *cap) {
		return 0;
	}
	list = hk_realloc_array(*levels, wanted, sizeof(*list));
	if (list == NULL) {
		return -ENOMEM;
	}
	*levels = list;
	*cap = wanted;
	return 0;
}

/* Into the next of @level's. Return: a descriptor; -ENOENT where it is left out; -errno. */
static int open_next(struct hk_layer_tour *tour, int dir, struct level *level)
{
	const char *name = level->subs.list[level->next++];
	int fd = hk_host_open_name(dir, name, O_RDONLY | O_DIRECTORY, 0);

	hk_path_enter(&tour->path, name);
	if (tour->path.failed) {
		hk_close(&fd);
		return -ENOMEM;
	}
	return fd == -EACCES && tour->skips_closed ? -ENOENT : fd;
}

int hk_layer_tour(struct hk_layer_tour *tour, int top)
{
	struct level *levels = NULL; /* those around, the innermost last: at @fd */
	size_t count = 0;
	size_t cap = 0;
	autoclose int fd = hk_host_open_dir(NULL, top);
	int r = fd;

	if (r == -EACCES && tour->skips_closed) {
		return 0;
	}
	if (r >= 0) {
		r = grow(&levels, count, &cap);
		r = r < 0 ? r : begin_level(tour, fd, &levels[count++]);
	}
	while (r == 0 && count > 0) {
		struct level *level = &levels[count - 1];
		autoclose int sub = -1;

		if (level->next == level->subs.count) {
			hk_layer_names_finish(&level->subs);
			if (--count > 0) {
				r = go_up(tour, top, &levels[count - 1], &fd);
			}
			continue;
		}
		sub = open_next(tour, fd, level);
		if (is_gone(sub)) {
			hk_path_leave(&tour->path, level->path_len);
			continue;
		}
		r = sub < 0 ? sub : grow(&levels, count, &cap);
		r = r < 0 ? r : begin_level(tour, sub, &levels[count++]);
		if (r == 0 && levels[count - 1].subs.count == 0) {
			/* Mostly there are none: then the way back is short. */
			count--;
			hk_path_leave(&tour->path, levels[count - 1].path_len);
		} else if (r == 0) {
			hk_close(&fd);
			fd = take_fd(&sub);
		}
	}
	while (count > 0) {
		hk_layer_names_finish(&levels[--count].subs);
	}
	free(levels);
	return r;
}

int hk_layer_dirs_leave(struct hk_layer_dirs *dirs)
{
	int *fds[2] = {&dirs->upper, &dirs->lower};

	dirs->is_left = dirs->depth >= OPEN_DEPTH;
	if (dirs->depth >= HK_LAYER_MAX_DEPTH) {
		return -ENAMETOOLONG;
	}
	for (unsigned i = 0; dirs->is_left && i < 2; i++) {
		struct stat st;

		if (*fds[i] >= 0 && fstat(*fds[i], &st) < 0) {
			return -errno;
		}
		dirs->ino[i] = *fds[i] >= 0 ? st.st_ino : 0;
		dirs->dev[i] = *fds[i] >= 0 ? st.st_dev : 0;
		hk_close(fds[i]);
	}
	return 0;
}

int hk_layer_dirs_return(struct hk_overlay *ov, struct hk_layer_dirs *dirs,
	const struct hk_layer_dirs *sub, const char *upper_path, const char *lower_path)
{
	if (!dirs->is_left) {
		return 0;
	}
	dirs->is_left = false;
	if (dirs->ino[0] != 0) {
		dirs->upper = reopen(sub->upper, ov->upper, upper_path, dirs->dev[0], dirs->ino[0]);
	}
	if (dirs->ino[1] != 0) {
		dirs->lower =
			reopen(sub->lower, ov->host->root, lower_path, dirs->dev[1], dirs->ino[1]);
	}
	return dirs->ino[0] != 0 && dirs->upper < 0    ? dirs->upper
		: dirs->ino[1] != 0 && dirs->lower < 0 ? dirs->lower
						       : 0;
}

int hk_layer_walk(int root, const char *path, const char **ret_name)
{
	const char *slash = strrchr(path, '/');
	autofree char *dir = hk_strdup(path);

	if (dir == NULL) {
		return -ENOMEM;
	}
	dir[slash != NULL ? slash - path : 0] = '\0';
	*ret_name = slash != NULL ? slash + 1 : path;
	return hk_ov_walk(root, dir);
}

void hk_path_enter(struct hk_str *path, const char *name)
{
	hk_str_add(path, path->len > 0 ? "/" : "");
	hk_str_add(path, name);
}

void hk_path_leave(struct hk_str *path, size_t len)
{
	if (!path->failed && path->len > len) {
		path->len = len;
		path->data[len] = '\0';
	}
}
