/* SPDX-License-Identifier: ISC */
/*
 * Listings in progress.
 *
 * Guests that can list a directory without opening it (FUSE_NO_OPENDIR_SUPPORT) save two round
 * trips for each. They send a position only; the open file that is there waits in a small cache.
 * That matters: on some file systems a position means nothing to a newly opened file once entries
 * have been removed.
 */
#ifndef HK_FUSE_DIR_H
#define HK_FUSE_DIR_H

#include <pthread.h>
#include <stdint.h>

#include "fuse/backend.h"

struct hk_node;
struct hk_nodes;

enum { HK_DIR_BUFFER_SIZE = 32 * 1024, HK_DIRS_KEPT = 32 /* at most */ };

/**
 * struct hk_dir - an open directory and the entries read from it but not yet given
 * @position: of the next entry to give; for the synthetic root, an export's index
 * @lock: for those that hang on a handle; a listing out of the cache belongs to one request
 */
struct hk_dir {
	pthread_mutex_t lock;
	struct hk_backend *backend; /* borrowed; NULL: synthetic root */
	uint64_t nodeid;
	int file;
	uint64_t position;
	size_t buffer_len;
	size_t buffer_next;
	struct hk_dir *next; /* in the cache, latest used first */
	_Alignas(8) char buffer[HK_DIR_BUFFER_SIZE];
};

struct hk_dirs {
	struct hk_nodes *nodes; /* borrowed */
	pthread_mutex_t lock;
	struct hk_dir *first;
	unsigned count;
	unsigned limit;
};

int hk_dirs_init(struct hk_dirs *dirs, struct hk_nodes *nodes, unsigned limit);
void hk_dirs_finish(struct hk_dirs *dirs);
void hk_dirs_drop_all(struct hk_dirs *dirs);

/** hk_dir_open() - start a listing of a directory object; the descriptor is reserved. Return: 0 or
 * -errno. */
int hk_dir_open(struct hk_nodes *nodes, struct hk_backend *backend, int obj, uint64_t nodeid,
	struct hk_dir **ret_dir);
void hk_dir_close(struct hk_nodes *nodes, struct hk_dir *dir); /* NULL is fine */

/** hk_dirs_take() - a kept listing of @nodeid that is at @position, now the caller's, or NULL */
struct hk_dir *hk_dirs_take(struct hk_dirs *dirs, uint64_t nodeid, uint64_t position);
/** hk_dirs_keep() - keep it for the next request; drops the one unused longest where there are too
 * many */
void hk_dirs_keep(struct hk_dirs *dirs, struct hk_dir *dir);

/** hk_dir_seek() - go to @position, if not there. Return: 0 or -errno. */
int hk_dir_seek(struct hk_dir *dir, uint64_t position);

/**
 * hk_dir_peek() - the next entry, or NULL at the end
 *
 * Return: 1 with *@ret_entry, 0 at the end, or -errno.
 */
int hk_dir_peek(struct hk_dir *dir, const struct hk_dirent **ret_entry);
void hk_dir_step(struct hk_dir *dir); /* past what hk_dir_peek() gave */

#endif
