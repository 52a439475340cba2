/* SPDX-License-Identifier: ISC */
/*
 * Objects of nodes, a bounded cache: see node.h.
 *
 * Theory: looking up a name costs one stat and opens nothing. The object of a node is opened by
 * name from its parent's when something needs it, and compared with the node. An open file of the
 * node serves as well, and goes on serving after the last name is gone. All descriptors count
 * against one limit; where it is reached, objects of nodes that no request uses are closed, those
 * unused since the hand came by last first.
 *
 * A rename of the guest's moves nodes: the names change on the host first and in the table a moment
 * later. Whoever does not find what it looks for in between takes the rename lock, which waits for
 * that moment, and looks once more.
 *
 * Where parents have lost their objects too, they are found again from the nearest ancestor that
 * has one, at most 64 at a time, so that deep trees cost no stack.
 *
 * Limits: that goes 16384 directories up, more than any program makes; what is deeper and has lost
 * its object is ESTALE, for each 64 levels cost a climb of their own. A file that the host moves
 * while the guest knows it only by name is ESTALE to the guest, whose kernel then looks the path up
 * again.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "fuse/handle.h"
#include "fuse/node.h"
#include "fuse/node_impl.h"
#include "fuse/pass.h"
#include "fuse/server_impl.h"

HK_LOG_CHANNEL("fuse");

enum {
	CLIMB_RING = 64,
	MAX_CLIMB = 16384,
	/* Other threads may drop what one pass has opened: so more than it takes. */
	MAX_REACH_PASSES = 4 * MAX_CLIMB / CLIMB_RING,
};

/* fd_lock held. */
static void list_remove(struct hk_nodes *nodes, struct hk_node *node)
{
	if (node->fd_prev != 0) {
		hk_nodes_at(nodes, node->fd_prev)->fd_next = node->fd_next;
	} else {
		nodes->fd_first = node->fd_next;
	}
	if (node->fd_next != 0) {
		hk_nodes_at(nodes, node->fd_next)->fd_prev = node->fd_prev;
	} else {
		nodes->fd_last = node->fd_prev;
	}
	node->fd_prev = 0;
	node->fd_next = 0;
}

/* fd_lock held. */
static void list_append(struct hk_nodes *nodes, struct hk_node *node)
{
	node->fd_prev = nodes->fd_last;
	node->fd_next = 0;
	if (nodes->fd_last != 0) {
		hk_nodes_at(nodes, nodes->fd_last)->fd_next = node->index;
	} else {
		nodes->fd_first = node->index;
	}
	nodes->fd_last = node->index;
}

void hk_node_drop_obj(struct hk_nodes *nodes, struct hk_node *node)
{
	hk_pass_drop(nodes, node);
	if (node->obj < 0) {
		return;
	}
	pthread_mutex_lock(&nodes->fd_lock);
	list_remove(nodes, node);
	pthread_mutex_unlock(&nodes->fd_lock);
	node->export->backend->ops->close(node->export->backend, node->obj);
	node->obj = -1;
	node->shared_ctime_ns = 0;
	hk_fds_release(nodes, false);
}

/*
 * Closes the object of one idle node. Here the fd list is locked before a stripe, against the
 * order: so the stripe is only tried, and a node that is busy counts as used.
 */
static bool evict_one(struct hk_nodes *nodes)
{
	struct hk_backend *backend = NULL;
	int obj = -1;

	pthread_mutex_lock(&nodes->fd_lock);
	/* Twice round at most: the first may find all warm. */
	for (unsigned tries = 2 * nodes->fds->limit; tries > 0 && nodes->fd_first != 0; tries--) {
		struct hk_node *node = hk_nodes_at(nodes, nodes->fd_first);
		pthread_mutex_t *stripe = &nodes->stripes[node->index % HK_NODE_STRIPES];

		list_remove(nodes, node);
		if (pthread_mutex_trylock(stripe) != 0) {
			list_append(nodes, node);
			continue;
		}
		if (node->pins == 0 && node->sharers == 0 && !node->warm) {
			hk_pass_drop(nodes, node);
			backend = node->export->backend;
			obj = node->obj;
			node->obj = -1;
			node->shared_ctime_ns = 0;
		} else {
			node->warm = false;
			list_append(nodes, node);
		}
		pthread_mutex_unlock(stripe);
		if (obj >= 0) {
			break;
		}
	}
	pthread_mutex_unlock(&nodes->fd_lock);
	if (obj < 0) {
		return false;
	}
	backend->ops->close(backend, obj);
	hk_fds_release(nodes, false);
	return true;
}

int hk_fds_reserve(struct hk_nodes *nodes, bool for_handle)
{
	struct hk_fds *fds = nodes->fds;

	if (for_handle && atomic_fetch_add(&fds->handles, 1) >= fds->handle_limit) {
		atomic_fetch_sub(&fds->handles, 1);
		return -ENFILE;
	}
	if (atomic_fetch_add(&fds->used, 1) >= fds->limit && !evict_one(nodes)) {
		hk_fds_release(nodes, for_handle);
		return -ENFILE;
	}
	return 0;
}

void hk_fds_release(struct hk_nodes *nodes, bool for_handle)
{
	atomic_fetch_sub(&nodes->fds->used, 1);
	if (for_handle) {
		atomic_fetch_sub(&nodes->fds->handles, 1);
	}
}

int hk_node_obj_at_hand(struct hk_nodes *nodes, struct hk_node *node, struct hk_handle **ret_handle)
{
	int obj = -EAGAIN;

	*ret_handle = NULL;
	if (node == node->export->node) {
		return node->stale ? -ESTALE : node->export->backend->root;
	}
	hk_node_lock(nodes, node);
	node->warm = true;
	if (node->obj >= 0) {
		obj = node->obj;
	} else {
		for (struct hk_handle *h = node->handles; h != NULL && obj < 0; h = h->next) {
			if (h->file >= 0 && hk_handle_try_ref(h)) {
				*ret_handle = h;
				obj = h->file;
			}
		}
		if (obj < 0 && (node->stale || node->parent == NULL)) {
			obj = -ESTALE;
		}
	}
	hk_node_unlock(nodes, node);
	return obj;
}

/* Makes @obj the node's; closes it where another thread was faster. */
static void store_obj(struct hk_nodes *nodes, struct hk_node *node, int obj)
{
	hk_node_lock(nodes, node);
	if (node->obj < 0) {
		node->obj = obj;
		pthread_mutex_lock(&nodes->fd_lock);
		list_append(nodes, node);
		pthread_mutex_unlock(&nodes->fd_lock);
		obj = -1;
	}
	hk_node_unlock(nodes, node);
	if (obj >= 0) {
		node->export->backend->ops->close(node->export->backend, obj);
		hk_fds_release(nodes, false);
	}
}

/* Opens @name in @dir and compares. Return: an object, or -errno; -ESTALE where it is another
 * inode. */
static int open_checked(struct hk_nodes *nodes, struct hk_node *node, int dir, const char *name)
{
	struct hk_backend *backend = node->export->backend;
	struct hk_stat st;
	int obj;
	int r = hk_fds_reserve(nodes, false);

	if (r < 0) {
		return r;
	}
	obj = backend->ops->reach(backend, dir, name);
	while ((obj == -EMFILE || obj == -ENFILE) && evict_one(nodes)) {
		obj = backend->ops->reach(backend, dir, name);
	}
	if (obj < 0) {
		hk_fds_release(nodes, false);
		return obj == -ENOENT || obj == -ENOTDIR ? -ESTALE : obj;
	}
	r = backend->ops->stat(backend, obj, &st);
	if (r == 0) {
		hk_node_lock(nodes, node);
		r = hk_node_is_same(node, &st) ? 0 : -ESTALE;
		hk_node_unlock(nodes, node);
	}
	if (r < 0) {
		backend->ops->close(backend, obj);
		hk_fds_release(nodes, false);
		return r;
	}
	return obj;
}

/*
 * Opens the object of @node, whose parent should have one.
 * Return: 0; -EAGAIN where the parent has none; -ESTALE; others.
 */
static int open_from_parent(struct hk_nodes *nodes, struct hk_node *node)
{
	struct hk_handle *handle;
	struct hk_node *parent;
	uint64_t parent_id;
	hk_name name;
	bool is_open;
	int obj;

	hk_node_lock(nodes, node);
	is_open = node->obj >= 0;
	hk_node_unlock(nodes, node);
	if (is_open) {
		return 0;
	}
	parent_id = hk_node_seen_at(nodes, node, name);
	if (parent_id == 0) {
		return -ESTALE;
	}
	parent = hk_nodes_get(nodes, parent_id);
	if (parent == NULL) {
		return -EAGAIN;
	}
	obj = hk_node_obj_at_hand(nodes, parent, &handle);
	if (obj >= 0) {
		obj = open_checked(nodes, node, obj, name);
	}
	hk_handle_put_of(nodes, handle);
	hk_node_put(nodes, parent);
	if (obj >= 0) {
		store_obj(nodes, node, obj);
		return 0;
	}
	return obj;
}

/* The id of a node's parent if that must be opened first, else 0. @id may be gone. */
static uint64_t next_to_open(struct hk_nodes *nodes, uint64_t id)
{
	struct hk_node *node = hk_nodes_get(nodes, id);
	struct hk_node *parent;
	struct hk_handle *handle = NULL;
	uint64_t parent_id = 0;

	if (node == NULL) {
		return 0;
	}
	hk_node_lock(nodes, node);
	if (node->parent != NULL) {
		parent_id = hk_node_id(node->parent);
	}
	hk_node_unlock(nodes, node);
	hk_node_put(nodes, node);
	parent = parent_id != 0 ? hk_nodes_get(nodes, parent_id) : NULL;
	if (parent == NULL) {
		return 0;
	}
	if (hk_node_obj_at_hand(nodes, parent, &handle) >= 0) {
		parent_id = 0;
	}
	hk_handle_put_of(nodes, handle);
	hk_node_put(nodes, parent);
	return parent_id;
}

/* Opens the upper-most ancestors without an object, as many as the ring holds. Return: 0 or -errno.
 */
static int open_ancestors(struct hk_nodes *nodes, struct hk_node *node)
{
	uint64_t ring[CLIMB_RING];
	unsigned count = 0;
	uint64_t id = next_to_open(nodes, hk_node_id(node));

	while (id != 0) {
		if (count == MAX_CLIMB) {
			return -ESTALE;
		}
		ring[count++ % CLIMB_RING] = id;
		id = next_to_open(nodes, id);
	}
	for (unsigned n = 0; n < CLIMB_RING && count > 0; n++) {
		struct hk_node *at = hk_nodes_get(nodes, ring[--count % CLIMB_RING]);
		int r;

		if (at == NULL) {
			return 0; /* moved meanwhile: look again */
		}
		r = open_from_parent(nodes, at);
		hk_node_put(nodes, at);
		if (r < 0) {
			return r == -EAGAIN ? 0 : r;
		}
	}
	return 0;
}

static int reach(struct hk_nodes *nodes, struct hk_node *node)
{
	int r = open_from_parent(nodes, node);

	for (unsigned pass = 0; r == -EAGAIN && pass < MAX_REACH_PASSES; pass++) {
		r = open_ancestors(nodes, node);
		if (r == 0) {
			r = open_from_parent(nodes, node);
		}
	}
	return r == -EAGAIN ? -ENFILE : r;
}

int hk_node_obj(struct hk_nodes *nodes, struct hk_node *node, struct hk_handle **ret_handle)
{
	int obj = hk_node_obj_at_hand(nodes, node, ret_handle);
	int r;

	if (obj != -EAGAIN) {
		return obj;
	}
	r = reach(nodes, node);
	if (r == -ESTALE) {
		pthread_rwlock_rdlock(&nodes->rename_lock);
		r = reach(nodes, node);
		pthread_rwlock_unlock(&nodes->rename_lock);
	}
	if (r < 0) {
		hk_log_debug("node %#llx: not found again: %s",
			(unsigned long long)hk_node_id(node), strerror(-r));
		return r;
	}
	/* Pinned since before it was opened, so it is there still. */
	return hk_node_obj_at_hand(nodes, node, ret_handle);
}

void hk_node_attach(struct hk_nodes *nodes, struct hk_node *node, struct hk_handle *handle)
{
	hk_node_lock(nodes, node);
	node->refs++;
	handle->prev = NULL;
	handle->next = node->handles;
	if (node->handles != NULL) {
		node->handles->prev = handle;
	}
	node->handles = handle;
	hk_node_unlock(nodes, node);
}

void hk_node_detach(struct hk_nodes *nodes, struct hk_node *node, struct hk_handle *handle)
{
	hk_node_lock(nodes, node);
	if (handle->prev != NULL) {
		handle->prev->next = handle->next;
	} else {
		node->handles = handle->next;
	}
	if (handle->next != NULL) {
		handle->next->prev = handle->prev;
	}
	handle->prev = NULL;
	handle->next = NULL;
	hk_node_unlock(nodes, node);
	hk_node_unref(nodes, node);
}
