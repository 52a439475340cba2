/* SPDX-License-Identifier: ISC */
/*
 * Listings in progress: see dir.h.
 *
 * Theory: a listing reads a buffer of entries at a time and gives them one by one, as many as a
 * reply takes; the rest waits in the buffer. The cache is a short list under one lock. A request
 * takes its listing out, so that no two threads ever use one, and puts it back with the position
 * the guest will ask for next; at the end it is closed.
 *
 * Limits: 32 listings are kept. One that was dropped is opened anew and sent to its position, which
 * is as good as the file system's positions are.
 */
#include "fuse/dir.h"

#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "fuse/node.h"

static_assert(offsetof(struct hk_dirent, name) == offsetof(struct dirent64, d_name) &&
		offsetof(struct hk_dirent, type) == offsetof(struct dirent64, d_type),
	"hk_dirent has the layout of linux_dirent64");

int hk_dirs_init(struct hk_dirs *dirs, struct hk_nodes *nodes, unsigned limit)
{
	dirs->nodes = nodes;
	dirs->limit = limit;
	return -pthread_mutex_init(&dirs->lock, NULL);
}

void hk_dirs_finish(struct hk_dirs *dirs)
{
	hk_dirs_drop_all(dirs);
	pthread_mutex_destroy(&dirs->lock);
}

void hk_dirs_drop_all(struct hk_dirs *dirs)
{
	struct hk_dir *dir;

	pthread_mutex_lock(&dirs->lock);
	dir = dirs->first;
	dirs->first = NULL;
	dirs->count = 0;
	pthread_mutex_unlock(&dirs->lock);
	while (dir != NULL) {
		struct hk_dir *next = dir->next;

		hk_dir_close(dirs->nodes, dir);
		dir = next;
	}
}

int hk_dir_open(struct hk_nodes *nodes, struct hk_backend *backend, int obj, uint64_t nodeid,
	struct hk_dir **ret_dir)
{
	struct hk_dir *dir = hk_malloc(sizeof(*dir)); /* not zeroed: the buffer is large */
	int r;

	if (dir == NULL) {
		return -ENOMEM;
	}
	memset(dir, 0, offsetof(struct hk_dir, buffer));
	dir->backend = backend;
	dir->nodeid = nodeid;
	dir->file = -1;
	r = hk_fds_reserve(nodes, true);
	if (r < 0) {
		free(dir);
		return r;
	}
	if (backend != NULL) {
		dir->file = backend->ops->open_dir(backend, obj);
		if (dir->file < 0) {
			r = dir->file;
			hk_fds_release(nodes, true);
			free(dir);
			return r;
		}
	}
	pthread_mutex_init(&dir->lock, NULL);
	*ret_dir = dir;
	return 0;
}

void hk_dir_close(struct hk_nodes *nodes, struct hk_dir *dir)
{
	if (dir == NULL) {
		return;
	}
	if (dir->file >= 0) {
		dir->backend->ops->close(dir->backend, dir->file);
	}
	hk_fds_release(nodes, true);
	pthread_mutex_destroy(&dir->lock);
	free(dir);
}

struct hk_dir *hk_dirs_take(struct hk_dirs *dirs, uint64_t nodeid, uint64_t position)
{
	struct hk_dir *found = NULL;

	pthread_mutex_lock(&dirs->lock);
	for (struct hk_dir **at = &dirs->first; *at != NULL; at = &(*at)->next) {
		if ((*at)->nodeid == nodeid && (*at)->position == position) {
			found = *at;
			*at = found->next;
			found->next = NULL;
			dirs->count--;
			break;
		}
	}
	pthread_mutex_unlock(&dirs->lock);
	return found;
}

void hk_dirs_keep(struct hk_dirs *dirs, struct hk_dir *dir)
{
	struct hk_dir *dropped = NULL;

	pthread_mutex_lock(&dirs->lock);
	dir->next = dirs->first;
	dirs->first = dir;
	if (++dirs->count > dirs->limit) {
		struct hk_dir **at = &dirs->first;

		while ((*at)->next != NULL) {
			at = &(*at)->next;
		}
		dropped = *at;
		*at = NULL;
		dirs->count--;
	}
	pthread_mutex_unlock(&dirs->lock);
	hk_dir_close(dirs->nodes, dropped);
}

int hk_dir_seek(struct hk_dir *dir, uint64_t position)
{
	int r;

	if (dir->position == position) {
		return 0;
	}
	dir->buffer_len = 0;
	dir->buffer_next = 0;
	r = dir->backend->ops->seek_dir(dir->backend, dir->file, position);
	if (r == 0) {
		dir->position = position;
	}
	return r;
}

int hk_dir_peek(struct hk_dir *dir, const struct hk_dirent **ret_entry)
{
	if (dir->buffer_next >= dir->buffer_len) {
		ssize_t n = dir->backend->ops->read_dir(
			dir->backend, dir->file, dir->buffer, sizeof(dir->buffer));

		dir->buffer_next = 0;
		dir->buffer_len = n > 0 ? (size_t)n : 0;
		if (n <= 0) {
			return (int)n;
		}
	}
	*ret_entry = (const struct hk_dirent *)(dir->buffer + dir->buffer_next);
	return 1;
}

void hk_dir_step(struct hk_dir *dir)
{
	const struct hk_dirent *entry = (const struct hk_dirent *)(dir->buffer + dir->buffer_next);

	assert(dir->buffer_next < dir->buffer_len);
	dir->position = entry->next;
	dir->buffer_next += entry->record_len;
}
