/* SPDX-License-Identifier: ISC */
/*
 * The table of nodes: see node.h.
 *
 * Theory: nodes stand in chunks that are never freed while the server lives, so an index always
 * leads to memory that is a node, and a nodeid (generation << 32 | index) is checked with one
 * comparison. A second way in is the hash by inode. Both are cut into 64 stripes with a lock each,
 * so that threads rarely meet.
 *
 * A node dies when lookups, pins and refs are all zero. Whoever brings the last one down sees that
 * under the node's stripe, lets go, and takes key stripe and node stripe in order; if the node is
 * still dead then, it is unhashed and its slot freed. That ends its reference to the parent, which
 * may die in turn: a loop, not a recursion.
 *
 * Inode numbers are reused. While we hold an object its inode cannot be; else the time of birth
 * tells: a new inode under an old number makes the old node stale and gets a node of its own.
 *
 * A copy in a layer goes on under the number of the file it was made of, which nothing holds. Once
 * that is gone another file may get it, and both are there for good: *twins*. Of a backend that has
 * them the time of birth is part of the key, and whoever comes second is shown with another number,
 * so that cp(1) and its like do not take the two for one.
 *
 * Limits: 4 million nodes, then ENOMEM. On file systems without times of birth, and where both were
 * born within one tick of the kernel's clock, a file may be taken for another of its type that had
 * its number before.
 */
#include "fuse/node.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/util.h"
#include "fuse/handle.h"
#include "fuse/node_impl.h"
#include "fuse/server_impl.h"

enum { FIRST_BUCKETS = 16, STRIPE_SHIFT = 64 - 6 };

static_assert(HK_NODE_STRIPES == 1 << 6, "a key's stripe is six bits of its hash");

int hk_nodes_init(struct hk_nodes *nodes, struct hk_fds *fds)
{
	nodes->fds = fds;
	nodes->next_fresh = HK_NODE_ROOT;
	pthread_mutex_init(&nodes->alloc_lock, NULL);
	pthread_mutex_init(&nodes->fd_lock, NULL);
	pthread_rwlock_init(&nodes->rename_lock, NULL);
	pthread_mutex_init(&nodes->parent_lock, NULL);
	for (unsigned i = 0; i < HK_NODE_STRIPES; i++) {
		pthread_mutex_init(&nodes->stripes[i], NULL);
		pthread_mutex_init(&nodes->keys[i].lock, NULL);
	}
	for (unsigned i = 0; i < HK_NODE_STRIPES; i++) {
		struct hk_key_stripe *stripe = &nodes->keys[i];

		stripe->buckets = hk_calloc(FIRST_BUCKETS, sizeof(*stripe->buckets));
		if (stripe->buckets == NULL) {
			hk_nodes_finish(nodes);
			return -ENOMEM;
		}
		stripe->bucket_count = FIRST_BUCKETS;
	}
	return 0;
}

void hk_nodes_finish(struct hk_nodes *nodes)
{
	for (uint32_t i = HK_NODE_ROOT; i < nodes->end; i++) {
		struct hk_node *node = hk_nodes_at(nodes, i);

		if (node != NULL && node->used) {
			hk_node_drop_obj(nodes, node);
			free(node->name);
			free(node->path);
		}
	}
	for (unsigned i = 0; i < HK_NODE_CHUNKS; i++) {
		free(atomic_load(&nodes->chunks[i]));
	}
	for (unsigned i = 0; i < HK_NODE_STRIPES; i++) {
		free(nodes->keys[i].buckets);
		pthread_mutex_destroy(&nodes->keys[i].lock);
		pthread_mutex_destroy(&nodes->stripes[i]);
	}
	pthread_mutex_destroy(&nodes->parent_lock);
	pthread_rwlock_destroy(&nodes->rename_lock);
	pthread_mutex_destroy(&nodes->fd_lock);
	pthread_mutex_destroy(&nodes->alloc_lock);
}

struct hk_node *hk_nodes_at(struct hk_nodes *nodes, uint32_t index)
{
	struct hk_node *chunk;

	if (index / HK_NODE_CHUNK >= HK_NODE_CHUNKS) {
		return NULL;
	}
	/* Pairs with the release in node_alloc_chunk(). */
	chunk = atomic_load_explicit(&nodes->chunks[index / HK_NODE_CHUNK], memory_order_acquire);
	return chunk == NULL ? NULL : &chunk[index % HK_NODE_CHUNK];
}

uint32_t hk_nodes_end(struct hk_nodes *nodes)
{
	uint32_t end;

	pthread_mutex_lock(&nodes->alloc_lock);
	end = nodes->end;
	pthread_mutex_unlock(&nodes->alloc_lock);
	return end;
}

void hk_node_lock(struct hk_nodes *nodes, const struct hk_node *node)
{
	pthread_mutex_lock(&nodes->stripes[node->index % HK_NODE_STRIPES]);
}

void hk_node_unlock(struct hk_nodes *nodes, const struct hk_node *node)
{
	pthread_mutex_unlock(&nodes->stripes[node->index % HK_NODE_STRIPES]);
}

/* Memory for slot @index; alloc_lock held. */
static struct hk_node *node_alloc_chunk(struct hk_nodes *nodes, uint32_t index)
{
	struct hk_node *node = hk_nodes_at(nodes, index);
	struct hk_node *chunk;
	uint32_t first = index - index % HK_NODE_CHUNK;

	if (node != NULL || index / HK_NODE_CHUNK >= HK_NODE_CHUNKS) {
		return node;
	}
	chunk = hk_calloc(HK_NODE_CHUNK, sizeof(*chunk));
	if (chunk == NULL) {
		return NULL;
	}
	for (uint32_t i = 0; i < HK_NODE_CHUNK; i++) {
		chunk[i].index = first + i;
		chunk[i].obj = -1;
	}
	/* Pairs with the acquire in hk_nodes_at(). */
	atomic_store_explicit(&nodes->chunks[index / HK_NODE_CHUNK], chunk, memory_order_release);
	return &chunk[index - first];
}

static struct hk_node *node_alloc(struct hk_nodes *nodes)
{
	struct hk_node *node;

	pthread_mutex_lock(&nodes->alloc_lock);
	if (nodes->free_first != 0) {
		node = hk_nodes_at(nodes, nodes->free_first);
		nodes->free_first = node->hash_next;
	} else {
		/* A chunk that was made for restored nodes; its other slots have been on the free
		 * list. */
		while (nodes->next_fresh % HK_NODE_CHUNK == 0 &&
			hk_nodes_at(nodes, nodes->next_fresh) != NULL) {
			nodes->next_fresh += HK_NODE_CHUNK;
		}
		node = node_alloc_chunk(nodes, nodes->next_fresh);
		nodes->next_fresh += node != NULL;
		nodes->end = HK_MAX(nodes->end, nodes->next_fresh);
	}
	pthread_mutex_unlock(&nodes->alloc_lock);
	return node;
}

static void node_free(struct hk_nodes *nodes, struct hk_node *node)
{
	pthread_mutex_lock(&nodes->alloc_lock);
	node->hash_next = nodes->free_first;
	nodes->free_first = node->index;
	pthread_mutex_unlock(&nodes->alloc_lock);
}

static uint64_t key_hash(const struct hk_export *export, const struct hk_stat *st)
{
	uint64_t h = st->ino * UINT64_C(0x9e3779b97f4a7c15);

	h ^= (st->dev + (st->mount << 20) + ((uint64_t) export->index << 50)) *
		UINT64_C(0xc2b2ae3d27d4eb4f);
	h ^= h >> 32;
	return h * UINT64_C(0x9e3779b97f4a7c15);
}

static uint64_t node_hash(const struct hk_node *node)
{
	struct hk_stat st = {.dev = node->dev, .ino = node->ino, .mount = node->mount};

	return key_hash(node->export, &st);
}

static struct hk_key_stripe *key_stripe(struct hk_nodes *nodes, uint64_t hash)
{
	return &nodes->keys[hash >> STRIPE_SHIFT];
}

static uint32_t *key_bucket(struct hk_key_stripe *stripe, uint64_t hash)
{
	return &stripe->buckets[hash & (stripe->bucket_count - 1)];
}

/* Doubles the buckets; without memory chains just get longer. Key stripe held. */
static void grow_buckets(struct hk_nodes *nodes, struct hk_key_stripe *stripe)
{
	uint32_t old_count = stripe->bucket_count;
	uint32_t *old = stripe->buckets;
	uint32_t *buckets = hk_calloc((size_t)old_count * 2, sizeof(*buckets));

	if (buckets == NULL) {
		return;
	}
	stripe->buckets = buckets;
	stripe->bucket_count = old_count * 2;
	for (uint32_t i = 0; i < old_count; i++) {
		for (uint32_t at = old[i]; at != 0;) {
			struct hk_node *node = hk_nodes_at(nodes, at);
			uint32_t *bucket = key_bucket(stripe, node_hash(node));

			at = node->hash_next;
			node->hash_next = *bucket;
			*bucket = node->index;
		}
	}
	free(old);
}

static bool is_number_of(
	const struct hk_node *node, const struct hk_export *export, const struct hk_stat *st)
{
	return node->ino == st->ino && node->dev == st->dev && node->mount == st->mount &&
		node->export == export;
}

static bool may_be_born(const struct hk_node *node, const struct hk_stat *st)
{
	return node->born_ns == 0 || st->born_ns == 0 || node->born_ns == st->born_ns;
}

/* But for the ruling, which the hash leaves out, as it does the birth. */
static bool is_key_of(
	const struct hk_node *node, const struct hk_export *export, const struct hk_stat *st)
{
	return is_number_of(node, export, st) &&
		(!export->backend->has_twins || may_be_born(node, st));
}

/* Key stripe held. */
static struct hk_node *find_hashed(struct hk_nodes *nodes, struct hk_key_stripe *stripe,
	uint64_t hash, const struct hk_export *export, const struct hk_stat *st)
{
	for (uint32_t at = *key_bucket(stripe, hash); at != 0;) {
		struct hk_node *node = hk_nodes_at(nodes, at);

		if (is_key_of(node, export, st) && node->ruling == st->ruling) {
			return node;
		}
		at = node->hash_next;
	}
	return NULL;
}

/* What tells its number from that of a twin which is there already; 0: none is. Key stripe held. */
static uint64_t twin_bits(struct hk_nodes *nodes, struct hk_key_stripe *stripe, uint64_t hash,
	const struct hk_export *export, const struct hk_stat *st)
{
	uint64_t mixed = (uint64_t)st->born_ns * UINT64_C(0x9e3779b97f4a7c15);
	bool is_twin = false;
	uint64_t bits = 0;

	if (!export->backend->has_twins) {
		return 0;
	}
	for (uint32_t at = *key_bucket(stripe, hash); at != 0;) {
		const struct hk_node *node = hk_nodes_at(nodes, at);

		if (is_number_of(node, export, st)) {
			if (may_be_born(node, st)) {
				return node->twin_bits; /* itself, under other rules */
			}
			is_twin = true;
		}
		at = node->hash_next;
	}
	if (is_twin) {
		bits = (mixed >> 49 | 1) << 33; /* above most numbers, and below hk_guest_ino()'s */
	}
	return bits;
}

/* Both stripes held. */
static void hash_insert(
	struct hk_nodes *nodes, struct hk_key_stripe *stripe, uint64_t hash, struct hk_node *node)
{
	uint32_t *bucket;

	if (stripe->node_count >= stripe->bucket_count) {
		grow_buckets(nodes, stripe);
	}
	bucket = key_bucket(stripe, hash);
	node->hash_next = *bucket;
	*bucket = node->index;
	node->hashed = true;
	stripe->node_count++;
}

/* Both stripes held. */
static void hash_remove(
	struct hk_nodes *nodes, struct hk_key_stripe *stripe, uint64_t hash, struct hk_node *node)
{
	uint32_t *at = key_bucket(stripe, hash);

	if (!node->hashed) {
		return;
	}
	while (*at != node->index) {
		assert(*at != 0);
		at = &hk_nodes_at(nodes, *at)->hash_next;
	}
	*at = node->hash_next;
	node->hashed = false;
	stripe->node_count--;
}

bool hk_node_is_same(const struct hk_node *node, const struct hk_stat *st)
{
	return node->ino == st->ino && node->dev == st->dev && node->mount == st->mount &&
		(node->mode & S_IFMT) == (st->mode & S_IFMT) && may_be_born(node, st);
}

/* Node's stripe held. */
static bool is_dead(const struct hk_node *node)
{
	return node->used && node->lookups == 0 && node->pins == 0 && node->refs == 0;
}

/*
 * Frees @node if it is dead still and of @generation. Return: its parent, whose reference the
 * caller drops, or NULL.
 */
static struct hk_node *reap_one(
	struct hk_nodes *nodes, struct hk_node *node, uint32_t generation, uint64_t hash)
{
	struct hk_key_stripe *stripe = key_stripe(nodes, hash);
	struct hk_node *parent;
	char *name;
	char *path;

	pthread_mutex_lock(&stripe->lock);
	hk_node_lock(nodes, node);
	if (!is_dead(node) || node->generation != generation) {
		hk_node_unlock(nodes, node);
		pthread_mutex_unlock(&stripe->lock);
		return NULL;
	}
	hash_remove(nodes, stripe, hash, node);
	parent = node->parent;
	name = node->name;
	path = node->path;
	node->parent = NULL;
	node->name = NULL;
	node->path = NULL;
	node->used = false;
	node->generation++;
	hk_node_drop_obj(nodes, node);
	hk_node_unlock(nodes, node);
	pthread_mutex_unlock(&stripe->lock);
	free(name);
	free(path);
	node_free(nodes, node);
	return parent;
}

enum count { LOOKUPS, PINS, REFS };

/* Takes @n off one of the node's counts, and frees what that leaves dead, up the tree. */
static void node_drop(struct hk_nodes *nodes, struct hk_node *node, enum count what, uint64_t n)
{
	while (node != NULL) {
		uint32_t generation;
		uint64_t hash;
		bool dead;

		hk_node_lock(nodes, node);
		if (what == LOOKUPS) {
			node->lookups -= HK_MIN(n, node->lookups);
		} else if (what == PINS) {
			assert(node->pins > 0);
			node->pins--;
		} else {
			assert(node->refs > 0);
			node->refs--;
		}
		dead = is_dead(node);
		generation = node->generation;
		hash = dead ? node_hash(node) : 0;
		hk_node_unlock(nodes, node);
		if (!dead) {
			break;
		}
		node = reap_one(nodes, node, generation, hash);
		what = REFS;
	}
}

struct hk_node *hk_nodes_get(struct hk_nodes *nodes, uint64_t nodeid)
{
	struct hk_node *node = hk_nodes_at(nodes, (uint32_t)nodeid);

	if (node == NULL) {
		return NULL;
	}
	hk_node_lock(nodes, node);
	if (!node->used || node->generation != nodeid >> 32 || node->pins == UINT32_MAX) {
		hk_node_unlock(nodes, node);
		return NULL;
	}
	node->pins++;
	hk_node_unlock(nodes, node);
	return node;
}

void hk_node_put(struct hk_nodes *nodes, struct hk_node *node)
{
	node_drop(nodes, node, PINS, 1);
}

void hk_node_unref(struct hk_nodes *nodes, struct hk_node *node)
{
	node_drop(nodes, node, REFS, 1);
}

void hk_nodes_forget(struct hk_nodes *nodes, uint64_t nodeid, uint64_t lookups)
{
	struct hk_node *node = hk_nodes_get(nodes, nodeid);

	if (node != NULL) {
		node_drop(nodes, node, LOOKUPS, lookups);
		hk_node_put(nodes, node);
	}
}

void hk_nodes_forget_all(struct hk_nodes *nodes)
{
	uint32_t end = hk_nodes_end(nodes);

	for (uint32_t i = HK_NODE_ROOT; i < end; i++) {
		node_drop(nodes, hk_nodes_at(nodes, i), LOOKUPS, UINT64_MAX); /* NULL is fine */
	}
}

/* Makes a free slot a node; its stripe is held, and its key's where it will be hashed. */
static void node_fill(struct hk_node *node, struct hk_export *export, const struct hk_stat *st)
{
	node->used = true;
	node->stale = false;
	node->warm = false;
	node->lookups = 0;
	node->pins = 0;
	node->refs = 0;
	node->mode = st->mode;
	node->passed_reads = 0;
	node->may_be_mapped = false;
	node->seen_mtime_ns = 0;
	node->seen_size = 0;
	node->cached_bytes = 0;
	node->listed_hot_ns = 0;
	node->place_epoch = 0;
	node->path_epoch = 0;
	node->has_links = false;
	node->ruling = st->ruling;
	node->no_capability_until_ns = 0;
	node->may_have_capability = false;
	node->export = export;
	node->dev = st->dev;
	node->ino = st->ino;
	node->mount = st->mount;
	node->born_ns = st->born_ns;
	node->twin_bits = 0;
}

int hk_nodes_enter(struct hk_nodes *nodes, struct hk_export *export, struct hk_node *parent,
	const char *name, const struct hk_stat *st, uint64_t lookups, uint64_t renames,
	struct hk_node **ret_node)
{
	uint64_t hash = key_hash(export, st);
	struct hk_key_stripe *stripe = key_stripe(nodes, hash);
	struct hk_node *node;
	int r = 0;

	pthread_mutex_lock(&stripe->lock);
	node = find_hashed(nodes, stripe, hash, export, st);
	if (node != NULL) {
		hk_node_lock(nodes, node);
		if (node->obj < 0 && node->handles == NULL && !hk_node_is_same(node, st)) {
			node->stale = true;
			hash_remove(nodes, stripe, hash, node);
			hk_node_unlock(nodes, node);
			node = NULL;
		}
	}
	if (node == NULL) {
		node = node_alloc(nodes);
		if (node == NULL) {
			pthread_mutex_unlock(&stripe->lock);
			return -ENOMEM;
		}
		hk_node_lock(nodes, node);
		node_fill(node, export, st);
		node->twin_bits = twin_bits(nodes, stripe, hash, export, st);
		hash_insert(nodes, stripe, hash, node);
	}
	node->lookups += lookups;
	node->pins++;
	node->mode = st->mode;
	hk_node_unlock(nodes, node);
	pthread_mutex_unlock(&stripe->lock);

	if (parent != NULL) {
		r = hk_node_found(nodes, node, parent, name, renames);
	}
	if (r < 0) {
		node_drop(nodes, node, LOOKUPS, lookups);
		hk_node_put(nodes, node);
		return r;
	}
	*ret_node = node;
	return 0;
}

struct hk_node *hk_nodes_find(struct hk_nodes *nodes, struct hk_export *export,
	const struct hk_node *parent, const char *name, const struct hk_stat *st)
{
	uint64_t hash = key_hash(export, st);
	struct hk_key_stripe *stripe = key_stripe(nodes, hash);
	struct hk_node *found = NULL;

	pthread_mutex_lock(&stripe->lock);
	for (uint32_t at = *key_bucket(stripe, hash); at != 0;) {
		struct hk_node *node = hk_nodes_at(nodes, at);
		bool is_it = false;

		at = node->hash_next;
		if (!is_key_of(node, export, st)) {
			continue;
		}
		hk_node_lock(nodes, node);
		is_it = node->parent == parent && node->name != NULL &&
			strcmp(node->name, name) == 0;
		hk_node_unlock(nodes, node);
		if (is_it || found == NULL || node->ruling == st->ruling) {
			found = node;
		}
		if (is_it) {
			break;
		}
	}
	if (found != NULL) {
		hk_node_lock(nodes, found);
		found->pins++;
		hk_node_unlock(nodes, found);
	}
	pthread_mutex_unlock(&stripe->lock);
	return found;
}

void hk_node_ruled(struct hk_nodes *nodes, struct hk_node *node, uint32_t ruling)
{
	struct hk_stat st = {
		.dev = node->dev,
		.ino = node->ino,
		.mount = node->mount,
		.born_ns = node->born_ns,
		.ruling = ruling,
	};
	uint64_t hash = key_hash(node->export, &st);
	struct hk_key_stripe *stripe = key_stripe(nodes, hash);

	pthread_mutex_lock(&stripe->lock);
	if (find_hashed(nodes, stripe, hash, node->export, &st) == NULL) {
		node->ruling = ruling;
	}
	pthread_mutex_unlock(&stripe->lock);
}

int hk_nodes_add_root(struct hk_nodes *nodes, struct hk_export *export, const struct hk_stat *st,
	struct hk_node **ret_node)
{
	struct hk_node *node;
	int r;

	if (export != NULL) {
		r = hk_nodes_enter(nodes, export, NULL, NULL, st, 0, 0, &node);
		if (r < 0) {
			return r;
		}
	} else {
		node = node_alloc(nodes);
		if (node == NULL) {
			return -ENOMEM;
		}
		node_fill(node, NULL, st);
		node->pins = 1;
	}
	hk_node_lock(nodes, node);
	node->refs++;
	hk_node_unlock(nodes, node);
	hk_node_put(nodes, node);
	*ret_node = node;
	return 0;
}

static struct hk_node *slot_for_restore(struct hk_nodes *nodes, uint32_t index)
{
	struct hk_node *node;

	pthread_mutex_lock(&nodes->alloc_lock);
	node = node_alloc_chunk(nodes, index);
	if (node != NULL) {
		nodes->end = HK_MAX(nodes->end, index + 1);
	}
	pthread_mutex_unlock(&nodes->alloc_lock);
	return node;
}

int hk_nodes_restore(struct hk_nodes *nodes, uint64_t nodeid, struct hk_export *export,
	struct hk_node *parent, const char *name, const struct hk_stat *st, uint64_t lookups)
{
	static const struct hk_stat nothing;
	struct hk_node *node;
	struct hk_key_stripe *stripe;
	uint64_t hash;
	int r;

	if ((uint32_t)nodeid == 0 || (uint32_t)nodeid / HK_NODE_CHUNK >= HK_NODE_CHUNKS) {
		return -EEXIST;
	}
	node = slot_for_restore(nodes, (uint32_t)nodeid);
	if (node == NULL) {
		return -ENOMEM;
	}
	if (node->used) {
		return -EEXIST;
	}
	node_fill(node, export, st != NULL ? st : &nothing);
	node->generation = (uint32_t)(nodeid >> 32);
	node->lookups = lookups;
	node->stale = st == NULL;
	if (st != NULL) {
		hash = key_hash(export, st);
		stripe = key_stripe(nodes, hash);
		if (find_hashed(nodes, stripe, hash, export, st) == NULL) {
			node->twin_bits = twin_bits(nodes, stripe, hash, export, st);
			hash_insert(nodes, stripe, hash, node);
		} else {
			node->stale = true; /* two nodes cannot be one file */
		}
	}
	r = parent == NULL ? 0 : hk_node_moved(nodes, node, parent, name);
	if (r == 0 && st != NULL && st->nlink > 1 && !S_ISDIR(st->mode)) {
		hk_node_linked(nodes, node);
	}
	return r;
}

/* Puts what is unused in the chunks that exist on the free list; chunks that do not are made when
 * needed. */
void hk_nodes_restored(struct hk_nodes *nodes)
{
	nodes->free_first = 0;
	nodes->next_fresh = 0;
	for (uint32_t first = 0; first < nodes->end; first += HK_NODE_CHUNK) {
		if (hk_nodes_at(nodes, first) == NULL) {
			continue;
		}
		nodes->end = HK_MAX(nodes->end, first + HK_NODE_CHUNK);
		for (uint32_t i = HK_MAX(first, (uint32_t)HK_NODE_ROOT); i < first + HK_NODE_CHUNK;
			i++) {
			struct hk_node *node = hk_nodes_at(nodes, i);

			if (!node->used) {
				node->hash_next = nodes->free_first;
				nodes->free_first = i;
			}
		}
	}
}
