/* SPDX-License-Identifier: ISC */
/*
 * The numbers by which the server holds objects and files of a copy-on-write tree: see
 * overlay_impl.h.
 *
 * Theory: slots stand in chunks that never move, so finding one takes no lock; the server uses a
 * number only between getting and closing it. Free slots are in a list under slots_lock.
 */
#include <stdlib.h>

#include "base/alloc.h"
#include "base/cleanup.h"
#include "fuse/overlay_impl.h"

struct hk_ov_slot *hk_ov_slot(struct hk_overlay *ov, int id)
{
	struct hk_ov_slot *chunk =
		atomic_load_explicit(&ov->chunks[(unsigned)id / HK_OV_CHUNK], memory_order_acquire);

	return &chunk[(unsigned)id % HK_OV_CHUNK];
}

/* slots_lock held. Return: -ENOMEM where there is no memory, -ENFILE where there are 4 million. */
static int alloc_locked(struct hk_overlay *ov)
{
	struct hk_ov_slot *chunk;
	int id;

	if (ov->free_first != 0) {
		id = (int)ov->free_first - 1;
		ov->free_first = hk_ov_slot(ov, id)->next_free;
		return id;
	}
	if (ov->slot_count == HK_OV_CHUNK * HK_OV_CHUNKS) {
		return -ENFILE;
	}
	if (ov->slot_count % HK_OV_CHUNK == 0) {
		chunk = hk_calloc(HK_OV_CHUNK, sizeof(*chunk));
		if (chunk == NULL) {
			return -ENOMEM;
		}
		atomic_store_explicit(
			&ov->chunks[ov->slot_count / HK_OV_CHUNK], chunk, memory_order_release);
	}
	return (int)ov->slot_count++;
}

int hk_ov_slot_new(struct hk_overlay *ov, struct hk_ov_inode *inode, int fd, int flags)
{
	struct hk_ov_slot *slot;
	int id;

	pthread_mutex_lock(&ov->slots_lock);
	id = alloc_locked(ov);
	pthread_mutex_unlock(&ov->slots_lock);
	if (id < 0) {
		hk_close(&fd);
		hk_ov_unref(ov, inode);
		return id;
	}
	slot = hk_ov_slot(ov, id);
	slot->inode = inode;
	atomic_store(&slot->fd, fd);
	slot->old_fd = -1;
	slot->flags = flags;
	atomic_store(&slot->is_below, false);
	slot->listing = NULL;
	return id;
}

static void finish(struct hk_overlay *ov, struct hk_ov_slot *slot)
{
	int fd = atomic_load(&slot->fd);

	hk_close(&fd);
	hk_close(&slot->old_fd);
	if (slot->listing != NULL) {
		hk_ov_list_finish(slot->listing);
		free(slot->listing);
	}
	hk_ov_unref(ov, slot->inode);
	slot->inode = NULL;
}

void hk_ov_close(struct hk_backend *backend, int id)
{
	struct hk_overlay *ov = hk_overlay_of(backend);
	struct hk_ov_slot *slot = hk_ov_slot(ov, id);

	finish(ov, slot);
	pthread_mutex_lock(&ov->slots_lock);
	slot->next_free = ov->free_first;
	ov->free_first = (uint32_t)id + 1;
	pthread_mutex_unlock(&ov->slots_lock);
}

void hk_ov_slots_finish(struct hk_overlay *ov)
{
	for (uint32_t i = 0; i < ov->slot_count; i++) {
		struct hk_ov_slot *slot = hk_ov_slot(ov, (int)i);

		if (slot->inode != NULL) {
			finish(ov, slot);
		}
	}
	for (uint32_t i = 0; i < HK_OV_CHUNKS; i++) {
		free(atomic_load(&ov->chunks[i]));
	}
}
