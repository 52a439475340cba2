/* SPDX-License-Identifier: ISC */
/*
 * Opening a kept layer, and ways through it: see layer.h and layer_impl.h. What is in it is found by layer_scan_linux.c.
 */
#include <linux/limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/str.h"
#include "base/sys.h"
#include "fuse/layer_impl.h"

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
	struct hk_stat st;

	if (fd != -EACCES || ov->is_root || ov->host->ops->stat(ov->host, obj, &st) < 0 ||
		hk_host_chmod(ov->host, obj, (st.mode & 07777) | S_IRUSR) < 0) {
		return fd;
	}
	fd = hk_host_open_file(ov->host, obj, O_RDONLY);
	hk_host_chmod(ov->host, obj, st.mode & 07777);
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

bool hk_path_is_within(const char *dir, const char *path)
{
	size_t len = strlen(dir);

	return strncmp(dir, path, len) == 0 && (len == 0 || path[len] == '/' || path[len] == '\0');
}
