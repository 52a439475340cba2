/* SPDX-License-Identifier: ISC */
/*
 * The table of handles: see handle.h.
 *
 * Theory: one atomic word holds a slot's generation and the number of references to it. The guest's
 * own is one of them, until it releases the handle; requests at work hold others. Taking one is a
 * compare-and-swap that demands the generation of the guest's number and at least one reference, so
 * a slot that is free, or free again and used anew, is never taken for what it was. Whoever drops
 * the last one closes the file.
 *
 * Limits: as many as hk_fds_reserve() allows, which callers ask first.
 */
#include "fuse/handle.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#include "base/alloc.h"
#include "base/util.h"
#include "fuse/dir.h"
#include "fuse/node_impl.h"
#include "fuse/pass.h"
#include "fuse/server_impl.h"
#include "fuse/share.h"

static uint32_t references(uint64_t state)
{
	return (uint32_t)state;
}

static uint64_t generation(uint64_t state)
{
	return state >> 32;
}

int hk_handles_init(struct hk_handles *handles, struct hk_nodes *nodes)
{
	handles->nodes = nodes;
	nodes->handles = handles;
	handles->next_fresh = 1;
	return -pthread_mutex_init(&handles->lock, NULL);
}

void hk_handles_finish(struct hk_handles *handles)
{
	for (unsigned i = 0; i < HK_HANDLE_CHUNKS; i++) {
		free(atomic_load(&handles->chunks[i]));
	}
	pthread_mutex_destroy(&handles->lock);
}

static struct hk_handle *handle_at(struct hk_handles *handles, uint32_t index)
{
	struct hk_handle *chunk;

	if (index / HK_HANDLE_CHUNK >= HK_HANDLE_CHUNKS) {
		return NULL;
	}
	/* Pairs with the release in slot_at_locked(). */
	chunk = atomic_load_explicit(
		&handles->chunks[index / HK_HANDLE_CHUNK], memory_order_acquire);
	return chunk == NULL ? NULL : &chunk[index % HK_HANDLE_CHUNK];
}

/* The slot of @index, made if need be. */
static struct hk_handle *slot_at_locked(struct hk_handles *handles, uint32_t index)
{
	struct hk_handle *handle = handle_at(handles, index);
	uint32_t first = index - index % HK_HANDLE_CHUNK;
	struct hk_handle *chunk;

	if (handle != NULL || index / HK_HANDLE_CHUNK >= HK_HANDLE_CHUNKS) {
		return handle;
	}
	chunk = hk_calloc(HK_HANDLE_CHUNK, sizeof(*chunk));
	if (chunk == NULL) {
		return NULL;
	}
	for (uint32_t i = 0; i < HK_HANDLE_CHUNK; i++) {
		chunk[i].index = first + i;
		chunk[i].file = -1;
	}
	/* Pairs with the acquire in handle_at(). */
	atomic_store_explicit(
		&handles->chunks[index / HK_HANDLE_CHUNK], chunk, memory_order_release);
	return &chunk[index - first];
}

static void fill(struct hk_handles *handles, struct hk_handle *h, uint64_t gen,
	struct hk_node *node, int file, struct hk_dir *dir, uint32_t flags,
	const struct hk_opener *by)
{
	h->by = by != NULL ? *by : (struct hk_opener){0};
	atomic_store_explicit(&h->bytes_read, 0, memory_order_relaxed);
	atomic_store_explicit(&h->bytes_written, 0, memory_order_relaxed);
	h->flags = flags;
	h->nodeid = hk_node_id(node);
	h->node = node;
	h->file = file;
	h->dir = dir;
	atomic_store_explicit(&h->open, true, memory_order_relaxed);
	hk_node_attach(handles->nodes, node, h);
	/*
	 * Last, for the guest can guess the number and release it from another thread at once.
	 * Pairs with the acquire in hk_handle_try_ref(): who sees a reference sees all of the
	 * above.
	 */
	atomic_store_explicit(&h->state, gen << 32 | 1, memory_order_release);
}

int hk_handles_add(struct hk_handles *handles, struct hk_node *node, int file, struct hk_dir *dir,
	uint32_t flags, const struct hk_opener *by, uint64_t *ret_fh)
{
	struct hk_handle *h;
	uint64_t gen;

	pthread_mutex_lock(&handles->lock);
	if (handles->free_first != 0) {
		h = handle_at(handles, handles->free_first);
		handles->free_first = h->free_next;
	} else {
		/* A chunk that was made for restored handles is on the free list, or used. */
		while (handles->next_fresh % HK_HANDLE_CHUNK == 0 &&
			handle_at(handles, handles->next_fresh) != NULL) {
			handles->next_fresh += HK_HANDLE_CHUNK;
		}
		h = slot_at_locked(handles, handles->next_fresh);
		handles->next_fresh += h != NULL;
		handles->end = HK_MAX(handles->end, handles->next_fresh);
	}
	pthread_mutex_unlock(&handles->lock);
	if (h == NULL) {
		return -ENOMEM;
	}
	gen = generation(atomic_load(&h->state));
	*ret_fh = gen << 32 | h->index;
	fill(handles, h, gen, node, file, dir, flags, by);
	return 0;
}

int hk_handles_restore(struct hk_handles *handles, struct hk_node *node, int file,
	struct hk_dir *dir, uint32_t flags, uint64_t fh)
{
	uint32_t index = (uint32_t)fh;
	struct hk_handle *h;

	if (index == 0 || index / HK_HANDLE_CHUNK >= HK_HANDLE_CHUNKS) {
		return -EEXIST;
	}
	pthread_mutex_lock(&handles->lock);
	h = slot_at_locked(handles, index);
	if (h != NULL) {
		handles->end = HK_MAX(handles->end, index + 1);
	}
	pthread_mutex_unlock(&handles->lock);
	if (h == NULL) {
		return -ENOMEM;
	}
	if (references(atomic_load(&h->state)) != 0) {
		return -EEXIST;
	}
	fill(handles, h, fh >> 32, node, file, dir, flags, NULL);
	return 0;
}

void hk_handles_restored(struct hk_handles *handles)
{
	handles->free_first = 0;
	handles->next_fresh =
		handle_at(handles, 0) == NULL ? 1 : 0; /* slot 0 is none: an fh of 0 is no handle */
	for (uint32_t first = 0; first < handles->end; first += HK_HANDLE_CHUNK) {
		if (handle_at(handles, first) == NULL) {
			continue;
		}
		handles->end = HK_MAX(handles->end, first + HK_HANDLE_CHUNK);
		for (uint32_t i = HK_MAX(first, 1u); i < first + HK_HANDLE_CHUNK; i++) {
			struct hk_handle *h = handle_at(handles, i);

			if (references(atomic_load(&h->state)) == 0) {
				h->free_next = handles->free_first;
				handles->free_first = i;
			}
		}
	}
}

bool hk_handle_try_ref(struct hk_handle *h)
{
	uint64_t state = atomic_load_explicit(&h->state, memory_order_relaxed);

	do {
		if (references(state) == 0 || references(state) == UINT32_MAX) {
			return false;
		}
	} while (!atomic_compare_exchange_weak_explicit(
		&h->state, &state, state + 1, memory_order_acquire, memory_order_relaxed));
	return true;
}

struct hk_handle *hk_handles_get(struct hk_handles *handles, uint64_t fh, uint64_t nodeid)
{
	struct hk_handle *h = handle_at(handles, (uint32_t)fh);
	uint64_t state;

	if (h == NULL) {
		return NULL;
	}
	state = atomic_load_explicit(&h->state, memory_order_relaxed);
	do {
		if (generation(state) != fh >> 32 || references(state) == 0 ||
			references(state) == UINT32_MAX) {
			return NULL;
		}
	} while (!atomic_compare_exchange_weak_explicit(
		&h->state, &state, state + 1, memory_order_acquire, memory_order_relaxed));
	if (h->nodeid != nodeid) {
		hk_handle_put(handles, h);
		return NULL;
	}
	return h;
}

/* The last reference is gone: nobody can get a new one. */
static void close_handle(struct hk_handles *handles, struct hk_handle *h)
{
	struct hk_nodes *nodes = handles->nodes;
	struct hk_export *export = h->node->export;
	uint64_t gen = generation(atomic_load(&h->state));

	hk_pass_close(nodes, h->node, &h->by);
	if (h->by.shared) {
		hk_share_close(nodes, h->node);
	}
	/* First out of the node's list, so that nobody finds a closed file there. */
	hk_node_detach(nodes, h->node, h);
	if (h->dir != NULL) {
		hk_dir_close(nodes, h->dir); /* and its file */
	} else if (h->file >= 0) {
		if (!h->by.shared) {
			export->backend->ops->close(export->backend, h->file);
		}
		hk_fds_release(nodes, true);
	}
	h->node = NULL;
	h->dir = NULL;
	h->file = -1;
	pthread_mutex_lock(&handles->lock);
	atomic_store(&h->state, (gen + 1) << 32);
	h->free_next = handles->free_first;
	handles->free_first = h->index;
	pthread_mutex_unlock(&handles->lock);
}

void hk_handle_put(struct hk_handles *handles, struct hk_handle *h)
{
	uint64_t before;

	if (h == NULL) {
		return;
	}
	before = atomic_fetch_sub_explicit(&h->state, 1, memory_order_acq_rel);
	assert(references(before) > 0);
	if (references(before) == 1) {
		close_handle(handles, h);
	}
}

void hk_handle_put_of(struct hk_nodes *nodes, struct hk_handle *h)
{
	hk_handle_put(nodes->handles, h);
}

int hk_handle_release(struct hk_handles *handles, struct hk_handle *h)
{
	bool was_open = atomic_exchange(&h->open, false);

	if (was_open) {
		hk_handle_put(handles, h);
	}
	hk_handle_put(handles, h);
	return was_open ? 0 : -EBADF;
}

struct hk_handle *hk_handles_each(struct hk_handles *handles, uint32_t *cursor)
{
	while (*cursor < handles->end) {
		struct hk_handle *h = handle_at(handles, *cursor);

		(*cursor)++;
		if (h != NULL && references(atomic_load(&h->state)) != 0) {
			return h;
		}
	}
	return NULL;
}

void hk_handles_release_all(struct hk_handles *handles)
{
	uint32_t end;

	pthread_mutex_lock(&handles->lock);
	end = handles->end;
	pthread_mutex_unlock(&handles->lock);
	for (uint32_t i = 1; i < end; i++) {
		struct hk_handle *h = handle_at(handles, i);

		if (h != NULL && hk_handle_try_ref(h)) {
			if (atomic_exchange(&h->open, false)) {
				hk_handle_put(handles, h);
			}
			hk_handle_put(handles, h);
		}
	}
}
