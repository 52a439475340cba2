/* SPDX-License-Identifier: ISC */
/*
 * Places of nodes: what the rules say is said of paths.
 *
 * Theory: a node keeps the place (rules.h) of the path it was seen under last, so a ruling is an
 * index into a table. A rename of a directory moves all below it: that starts a new epoch of the
 * export, in which each node works its place out anew when it is next asked for: up to the nearest
 * ancestor that knows its own, and down again, a step a name. Whoever finds on the way that names
 * have moved meanwhile begins again, at last with directories held where they are.
 *
 * A file that never had a name has no place, and is nobody's business but of who opened it. What
 * was removed while it is open keeps its last one. All else whose path cannot be told is nowhere,
 * where everything is denied: a directory that the host has moved to where the guest has not found
 * it yet, and what is in it.
 *
 * Limits: CLIMB_MAX names up. What is deeper, and not known in this epoch, is nowhere.
 */
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/util.h"
#include "fuse/server_impl.h"

enum { CLIMB_MAX = 1 << 16, FEW = 32, TRIES = 4 };

/** struct way - ids of nodes, from the one that is asked for upwards; @ids: @few, or owned */
struct way {
	uint64_t few[FEW];
	uint64_t *ids;
	size_t count;
	size_t room;
};

static bool way_add(struct way *way, uint64_t id)
{
	if (way->count == way->room) {
		uint64_t *more =
			way->room < CLIMB_MAX ? hk_malloc(2 * way->room * sizeof(*more)) : NULL;

		if (more == NULL) {
			return false;
		}
		memcpy(more, way->ids, way->count * sizeof(*more));
		if (way->ids != way->few) {
			free(way->ids);
		}
		way->ids = more;
		way->room *= 2;
	}
	way->ids[way->count++] = id;
	return true;
}

enum sight {
	SIGHT_PLACE,
	SIGHT_PARENT,   /* it depends on where that one is */
	SIGHT_NAMELESS, /* it has no place */
	SIGHT_LOST,     /* it should have one */
	SIGHT_MOVED,    /* look again */
};

/* What does @node know of itself? */
static enum sight look_at(struct hk_fuse_server *server, struct hk_node *node, uint64_t epoch,
	hk_place *ret_place, uint64_t *ret_parent)
{
	enum sight sight = SIGHT_PARENT;

	hk_node_lock(&server->nodes, node);
	if (node == node->export->node) {
		*ret_place = node->export->root_place;
		sight = SIGHT_PLACE;
	} else if (node->place_epoch == epoch) {
		*ret_place = node->place;
		sight = SIGHT_PLACE;
	} else if (node->parent != NULL && node->name != NULL) {
		*ret_parent = hk_node_id(node->parent);
	} else {
		sight = S_ISDIR(node->mode) ? SIGHT_LOST : SIGHT_NAMELESS;
	}
	hk_node_unlock(&server->nodes, node);
	return sight;
}

/* Upwards, to a node that knows its place: the last on the way. */
static enum sight climb(struct hk_fuse_server *server, struct hk_node *node, uint64_t epoch,
	struct way *way, hk_place *ret_place)
{
	uint64_t id = hk_node_id(node);
	enum sight sight;

	do {
		struct hk_node *at = hk_nodes_get(&server->nodes, id);

		if (at == NULL) {
			return SIGHT_MOVED;
		}
		if (!way_add(way, id)) {
			hk_node_put(&server->nodes, at);
			return SIGHT_LOST;
		}
		sight = look_at(server, at, epoch, ret_place, &id);
		hk_node_put(&server->nodes, at);
	} while (sight == SIGHT_PARENT);
	/* Of what is in something, that has a name. */
	return sight == SIGHT_NAMELESS && way->count > 1 ? SIGHT_LOST : sight;
}

/*
 * From the node @above to @id, which is in it still? Rules know nothing of nodes: they may be asked
 * under the stripe.
 */
static bool descend(
	struct hk_fuse_server *server, uint64_t above, uint64_t id, uint64_t epoch, hk_place *place)
{
	struct hk_node *node = hk_nodes_get(&server->nodes, id);
	bool is_there;

	if (node == NULL) {
		return false;
	}
	hk_node_lock(&server->nodes, node);
	is_there = node->parent != NULL && node->name != NULL && hk_node_id(node->parent) == above;
	if (is_there) {
		*place = hk_rules_step(node->export->rules, *place, node->name);
		node->place = *place;
		node->place_epoch = epoch;
	}
	hk_node_unlock(&server->nodes, node);
	hk_node_put(&server->nodes, node);
	return is_there;
}

static enum sight work_out(struct hk_fuse_server *server, struct hk_node *node, hk_place *ret_place)
{
	uint64_t epoch = atomic_load(&node->export->place_epoch);
	struct way way = {.room = FEW};
	enum sight sight;

	way.ids = way.few;
	sight = climb(server, node, epoch, &way, ret_place);
	for (size_t i = way.count; i-- > 1 && sight == SIGHT_PLACE;) {
		if (!descend(server, way.ids[i], way.ids[i - 1], epoch, ret_place)) {
			sight = SIGHT_MOVED;
		}
	}
	if (way.ids != way.few) {
		free(way.ids);
	}
	return atomic_load(&node->export->place_epoch) == epoch ? sight : SIGHT_MOVED;
}

bool hk_judge_place(struct hk_fuse_server *server, struct hk_node *node, hk_place *ret_place)
{
	uint64_t epoch = atomic_load(&node->export->place_epoch);
	uint64_t parent;
	enum sight sight = look_at(server, node, epoch, ret_place, &parent);

	if (sight == SIGHT_PARENT) {
		sight = SIGHT_MOVED;
	}
	for (unsigned i = 0; i < TRIES && sight == SIGHT_MOVED; i++) {
		sight = work_out(server, node, ret_place);
	}
	if (sight == SIGHT_MOVED) {
		pthread_mutex_lock(&server->nodes.parent_lock);
		for (unsigned i = 0; i < TRIES && sight == SIGHT_MOVED; i++) {
			sight = work_out(server, node, ret_place);
		}
		pthread_mutex_unlock(&server->nodes.parent_lock);
	}
	if (sight != SIGHT_PLACE && sight != SIGHT_NAMELESS) {
		*ret_place = HK_PLACE_NOWHERE;
	}
	return sight != SIGHT_NAMELESS;
}
