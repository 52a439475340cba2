/* SPDX-License-Identifier: ISC */
/*
 * Where nodes are: parents and names; see node.h.
 *
 * Theory: a node remembers where it was seen last, and holds a reference to its parent.
 *
 * The guest's own renames are counted, before and after. A lookup that finds a name, and enters it
 * while a rename has begun since, may enter it where it was: rules would judge by a path that is no
 * longer so. It fails, and is made again while no rename runs. The count is looked at under the
 * node's stripe (of a directory, under parent_lock): a rename that begins after that comes to the
 * node later, and has the last word.
 *
 * Parents never make a circle, though the host may move directories about and the guest's requests
 * then tell of one place before, of the other after: hk_node_moved() sees to it. So climbing ends
 * at a root, and what nobody knows any more is freed.
 */
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "fuse/node_impl.h"
#include "fuse/server_impl.h"

static struct hk_node *parent_of(struct hk_nodes *nodes, struct hk_node *node)
{
	struct hk_node *parent;

	hk_node_lock(nodes, node);
	parent = node->parent;
	hk_node_unlock(nodes, node);
	return parent;
}

/*
 * Makes sure that @parent is not below @node. Both are pinned and parent_lock is held, so all the
 * ancestors stay. Return: 0, or -ESTALE where both are one.
 */
static int cut_circle(struct hk_nodes *nodes, struct hk_node *node, struct hk_node *parent)
{
	struct hk_node *below = NULL;
	struct hk_node *step = parent;
	bool has_any_below;
	char *name;

	hk_node_lock(nodes, node);
	has_any_below = node->refs > 0;
	hk_node_unlock(nodes, node);
	if (!has_any_below && node != parent) {
		return 0; /* as every directory seen for the first time */
	}
	while (step != NULL && step != node) {
		below = step;
		step = parent_of(nodes, step);
	}
	if (step == NULL) {
		return 0;
	}
	if (below == NULL) {
		return -ESTALE;
	}
	hk_node_lock(nodes, below);
	name = below->name;
	below->parent = NULL;
	below->name = NULL;
	atomic_fetch_add(&below->export->place_epoch, 1);
	hk_node_unlock(nodes, below);
	free(name);
	hk_node_unref(nodes, node);
	return 0;
}

/*
 * Has a rename begun, or does one run, since @renames was told? NULL: it is the rename itself that
 * asks.
 */
static bool is_outdated(const struct hk_nodes *nodes, const uint64_t *renames)
{
	return renames != NULL && (*renames % 2 != 0 || atomic_load(&nodes->renames) != *renames);
}

/*
 * Gives @node its new parent and @name, which it owns then.
 * Return: 0 with the old parent, or NULL, in *@ret_old; -EAGAIN as hk_node_found().
 */
static int set_parent(struct hk_nodes *nodes, struct hk_node *node, struct hk_node *parent,
	char *name, const uint64_t *renames, struct hk_node **ret_old)
{
	struct hk_node *old_parent;
	char *old_name;

	hk_node_lock(nodes, parent);
	parent->refs++;
	hk_node_unlock(nodes, parent);

	hk_node_lock(nodes, node);
	if (is_outdated(nodes, renames)) {
		hk_node_unlock(nodes, node);
		hk_node_unref(nodes, parent);
		return -EAGAIN;
	}
	old_parent = node->parent;
	old_name = node->name;
	node->parent = parent;
	node->name = name;
	node->place_epoch = 0;
	if (old_parent != NULL && S_ISDIR(node->mode)) {
		atomic_fetch_add(&node->export->place_epoch, 1); /* all below it has moved, too */
	}
	hk_node_unlock(nodes, node);
	free(old_name);
	*ret_old = old_parent;
	return 0;
}

static int move(struct hk_nodes *nodes, struct hk_node *node, struct hk_node *parent,
	const char *name, const uint64_t *renames)
{
	struct hk_node *old_parent = NULL;
	char *copy;
	bool known;
	bool is_dir;
	int r = 0;

	hk_node_lock(nodes, node);
	known = node->parent == parent && node->name != NULL && strcmp(node->name, name) == 0;
	is_dir = S_ISDIR(node->mode);
	hk_node_unlock(nodes, node);
	/* The root of an export needs no parent, wherever the host may have put it. */
	if (known || node == node->export->node) {
		return 0;
	}

	copy = hk_strdup(name);
	if (copy == NULL) {
		return -ENOMEM;
	}
	/* Only directories are above anything. */
	if (is_dir) {
		pthread_mutex_lock(&nodes->parent_lock);
		r = is_outdated(nodes, renames) ? -EAGAIN : cut_circle(nodes, node, parent);
		renames = NULL;
	}
	if (r == 0) {
		r = set_parent(nodes, node, parent, copy, renames, &old_parent);
	}
	if (is_dir) {
		pthread_mutex_unlock(&nodes->parent_lock);
	}
	if (r < 0) {
		free(copy);
	}
	if (old_parent != NULL) {
		hk_node_unref(nodes, old_parent);
	}
	return r;
}

int hk_node_moved(
	struct hk_nodes *nodes, struct hk_node *node, struct hk_node *parent, const char *name)
{
	return move(nodes, node, parent, name, NULL);
}

int hk_node_found(struct hk_nodes *nodes, struct hk_node *node, struct hk_node *parent,
	const char *name, uint64_t renames)
{
	return move(nodes, node, parent, name, &renames);
}

void hk_nodes_rename_begin(struct hk_nodes *nodes)
{
	pthread_rwlock_wrlock(&nodes->rename_lock);
	atomic_fetch_add(&nodes->renames, 1);
}

void hk_nodes_rename_end(struct hk_nodes *nodes)
{
	atomic_fetch_add(&nodes->renames, 1);
	pthread_rwlock_unlock(&nodes->rename_lock);
}

void hk_node_linked(struct hk_nodes *nodes, struct hk_node *node)
{
	struct hk_node *parent;
	uint64_t parent_id;

	hk_node_lock(nodes, node);
	parent_id = node->parent != NULL ? hk_node_id(node->parent) : 0;
	hk_node_unlock(nodes, node);
	parent = parent_id != 0 ? hk_nodes_get(nodes, parent_id) : NULL;
	if (parent != NULL) {
		hk_node_lock(nodes, parent);
		parent->has_links = true;
		hk_node_unlock(nodes, parent);
		hk_node_put(nodes, parent);
	}
}

bool hk_node_has_links(struct hk_nodes *nodes, struct hk_node *dir)
{
	bool has_links;

	hk_node_lock(nodes, dir);
	has_links = dir->has_links;
	hk_node_unlock(nodes, dir);
	return has_links;
}

uint64_t hk_node_seen_at(struct hk_nodes *nodes, struct hk_node *node, hk_name name)
{
	uint64_t parent_id = 0;

	hk_node_lock(nodes, node);
	if (!node->stale && node->parent != NULL) {
		/*
		 * The parent lives as long as it is the node's; without the stripe it may be
		 * another one by now: so the id, not the node.
		 */
		parent_id = hk_node_id(node->parent);
		memcpy(name, node->name, strlen(node->name) + 1);
	}
	hk_node_unlock(nodes, node);
	return parent_id;
}
