/* SPDX-License-Identifier: ISC */
/*
 * Nodes: what the guest knows by a nodeid.
 *
 * A node stands for one inode of one export, keyed by (export, device, inode, mount). It remembers
 * where it was seen last (parent node and name), so that its object (backend.h) is only a cache:
 * made on first use, dropped when descriptors run short, found again from the parent and then
 * checked to be the same inode.
 *
 * A node lives while the guest holds lookups on it, or children or open files refer to it, or a
 * request uses it.
 *
 * All functions: any thread. Locks, in this order:
 *
 *	rename_lock	for writing around a rename on the host and hk_node_moved() for what it
 *			moved; for reading around a second look for an object not found, or for a name
 *			that may have been another's when it was looked up
 *	parent_lock	while a directory gets another parent; and to read a path that has kept moving
 *	key stripe	of the hash by inode
 *	node stripe	never two at once
 *	fd_lock		list of objects. Eviction comes from this side, so it only tries the stripe
 *
 * Apart from these, alloc_lock is held for moments within all of them, and takes no other; so are
 * the lock of the handles and that of the rules. No lock but rename_lock is held while the backend
 * works, close apart.
 */
#ifndef HK_FUSE_NODE_H
#define HK_FUSE_NODE_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "fuse/backend.h"
#include "fuse/proto.h"
#include "fuse/rules.h"

struct hk_handle;
struct hk_export;

enum {
	HK_NODE_CHUNK = 1024,
	HK_NODE_CHUNKS = 4096, /* 4 million nodes, then ENOMEM: about 900 MiB */
	HK_NODE_STRIPES = 64,
	HK_NODE_ROOT = 1, /* index and nodeid of the synthetic root */
};

struct hk_node {
	/* Under the node's stripe (the one of its index). @hashed is under its key's, too. */
	uint32_t index;
	uint32_t generation;
	bool used;
	bool stale;     /* its inode is gone or replaced: ESTALE */
	bool hashed;    /* found by its key */
	bool warm;      /* object used since the eviction hand came by */
	bool has_links; /* of a directory: a file with further names was seen in it */
	bool may_have_capability;
	uint32_t pins; /* requests at work: neither freed nor its object dropped */
	uint32_t refs; /* children and handles, and one for ever in roots */
	uint64_t lookups;
	int obj;                   /* -1: none */
	int backing_id;            /* of the transport, for passthrough; 0: none */
	int32_t io;                /* open files: > 0 whose data comes to us, < 0 passed through */
	uint32_t passed_reads;     /* how often it was passed through to be read (pass.c) */
	bool may_be_mapped;        /* so that what is written to it shows nowhere else */
	uint32_t sharers;          /* open files that are the object: it is not dropped (share.c) */
	int64_t shared_ctime_ns;   /* of when the object was opened for reading; 0: it is not */
	struct hk_node *parent;    /* NULL: none (roots, temporary files); counted in its refs */
	char *name;                /* owned */
	struct hk_handle *handles; /* open files of this inode */
	uint32_t mode;             /* as last seen */
	atomic_bool is_free;       /* others' files can be removed from it: hk_is_free_dir() */
	/* Attributes the guest's cached data belongs to; see hk_attr_fill(). */
	int64_t seen_mtime_ns;
	uint64_t seen_size;
	uint64_t cached_bytes; /* at most, as far as they were read by files that are closed */
	int64_t listed_hot_ns; /* mtime of a directory listed while it was changing */
	hk_place place;        /* good while @place_epoch is the export's */
	uint64_t place_epoch;
	char *path; /* owned; of a directory, from the export's root on: path.c; NULL: not kept */
	uint64_t path_epoch;
	uint32_t ruling; /* as struct hk_stat's; under the key's stripe, too */
	/* It has no security.capability, as far as the guest may know: see ops_xattr.c. */
	int64_t no_capability_until_ns;

	/* Constant while the node is used; walked under the key stripe. */
	struct hk_export *export;
	uint64_t dev, ino, mount;
	int64_t born_ns;
	uint64_t
		twin_bits; /* for the number that is shown: another file has it, too; 0: none has */
	uint32_t hash_next;

	/* Under the fd list's lock. */
	uint32_t fd_prev, fd_next;
};

struct hk_key_stripe {
	pthread_mutex_t lock;
	uint32_t *buckets; /* owned; index of the first node, 0: none */
	uint32_t bucket_count;
	uint32_t node_count;
};

/** struct hk_fds - how many descriptors the server holds, of all kinds */
struct hk_fds {
	unsigned limit;
	unsigned handle_limit;
	atomic_uint used;
	atomic_uint handles;
};

struct hk_nodes {
	struct hk_fds *fds;                  /* borrowed */
	struct hk_handles *handles;          /* borrowed; set by hk_handles_init() */
	struct hk_fuse_transport *transport; /* borrowed; NULL: none */
	_Atomic(struct hk_node *) chunks[HK_NODE_CHUNKS];
	pthread_mutex_t stripes[HK_NODE_STRIPES];
	struct hk_key_stripe keys[HK_NODE_STRIPES];

	pthread_mutex_t alloc_lock;
	uint32_t free_first; /* list through hash_next */
	uint32_t next_fresh; /* no slot from here on was used, but in chunks made by a restore */
	uint32_t end;        /* one past the last slot ever used */

	pthread_mutex_t fd_lock; /* nodes with an object, oldest first */
	uint32_t fd_first, fd_last;

	pthread_rwlock_t rename_lock; /* held for writing while names move */
	_Atomic uint64_t renames;     /* begun and ended: odd while names move */
	pthread_mutex_t parent_lock;  /* while a directory gets another parent: no circles */
};

int hk_nodes_init(struct hk_nodes *nodes, struct hk_fds *fds);
void hk_nodes_finish(struct hk_nodes *nodes); /* no request runs, no handles are left */

static inline uint64_t hk_node_id(const struct hk_node *node)
{
	return (uint64_t)node->generation << 32 | node->index;
}

/** hk_nodes_get() - the node of an id, pinned. Return: NULL for an id the guest has made up. */
struct hk_node *hk_nodes_get(struct hk_nodes *nodes, uint64_t nodeid);
void hk_node_put(struct hk_nodes *nodes, struct hk_node *node); /* NULL is fine */

/**
 * hk_nodes_renames() - to be asked before a name is looked up, and told to hk_nodes_enter()
 *
 * What was found may be renamed by another request before it is entered, and must not be entered
 * where it was.
 */
static inline uint64_t hk_nodes_renames(const struct hk_nodes *nodes)
{
	return atomic_load(&nodes->renames);
}

/**
 * hk_nodes_rename_begin() / hk_nodes_rename_end() - around a rename; they take the rename lock, and
 * let go of it
 */
void hk_nodes_rename_begin(struct hk_nodes *nodes);
void hk_nodes_rename_end(struct hk_nodes *nodes);

/**
 * hk_nodes_enter() - the node of an inode just found, new or known; its lookup count rises by
 * @lookups
 * @parent: pinned; with @name where it was found; NULL for a file without a name
 * @renames: hk_nodes_renames() of before it was found
 * @ret_node: pinned
 *
 * Return: 0; -EAGAIN where names have moved since: it is to be looked up again, best with the
 * rename lock held for reading, where this is not returned; and what hk_node_moved() gives.
 */
int hk_nodes_enter(struct hk_nodes *nodes, struct hk_export *export, struct hk_node *parent,
	const char *name, const struct hk_stat *st, uint64_t lookups, uint64_t renames,
	struct hk_node **ret_node);

/** hk_nodes_add_root() - a node that never goes: the synthetic root (@export NULL) or an export's
 * root */
int hk_nodes_add_root(struct hk_nodes *nodes, struct hk_export *export, const struct hk_stat *st,
	struct hk_node **ret_node);

/**
 * hk_nodes_find() - the node of this inode, pinned, if the guest knows it; else NULL
 * @parent, @name: where several nodes stand for it, the one seen last here is meant
 */
struct hk_node *hk_nodes_find(struct hk_nodes *nodes, struct hk_export *export,
	const struct hk_node *parent, const char *name, const struct hk_stat *st);
/** hk_node_ruled() - a pinned node was moved to a name of @ruling */
void hk_node_ruled(struct hk_nodes *nodes, struct hk_node *node, uint32_t ruling);

/** hk_nodes_forget() - @lookups fewer; more than there are counts as all */
void hk_nodes_forget(struct hk_nodes *nodes, uint64_t nodeid, uint64_t lookups);
/** hk_nodes_forget_all() - as if the guest forgot all it knows */
void hk_nodes_forget_all(struct hk_nodes *nodes);

/**
 * hk_node_moved() - a pinned node is found at @parent (pinned) and @name from now on
 *
 * Where @parent is below @node by what was known, the host has moved directories behind our back:
 * the ancestor of @parent that was in @node then is nowhere, until it is looked up again (place.c).
 *
 * Return: 0; -ENOMEM; -ESTALE where both are one node.
 */
int hk_node_moved(
	struct hk_nodes *nodes, struct hk_node *node, struct hk_node *parent, const char *name);

/** hk_node_found() - the same by a lookup, as hk_nodes_enter() has it. Return: -EAGAIN, too */
int hk_node_found(struct hk_nodes *nodes, struct hk_node *node, struct hk_node *parent,
	const char *name, uint64_t renames);

/**
 * hk_node_linked() - a pinned node has further names: so its directory, where it was seen last,
 * has_links
 */
void hk_node_linked(struct hk_nodes *nodes, struct hk_node *node);
/**
 * hk_node_has_links() - may what is removed from this pinned directory live on under another name?
 */
bool hk_node_has_links(struct hk_nodes *nodes, struct hk_node *dir);

/**
 * hk_node_obj() - the object of a pinned node; valid until the node is put
 * @ret_handle: the handle whose file stands in for the object, to be given to hk_handle_put(); NULL
 * mostly
 *
 * Return: object; -ESTALE where the inode is no longer where it was, or is too deep to be found
 * again (node_obj.c); -ENFILE.
 */
int hk_node_obj(struct hk_nodes *nodes, struct hk_node *node, struct hk_handle **ret_handle);

/**
 * hk_node_obj_at_hand() - the same, but only if there is one: nothing is opened. Return: -EAGAIN
 * where there is none
 */
int hk_node_obj_at_hand(
	struct hk_nodes *nodes, struct hk_node *node, struct hk_handle **ret_handle);

/**
 * hk_node_seen_at() - where a pinned node was seen last. Return: the parent's id, with @name set;
 * 0: nowhere
 */
uint64_t hk_node_seen_at(struct hk_nodes *nodes, struct hk_node *node, hk_name name);

/** hk_node_is_same() - is @st the inode a pinned node stands for? */
bool hk_node_is_same(const struct hk_node *node, const struct hk_stat *st);

/** hk_node_attach() / hk_node_detach() - an open file of a pinned node comes and goes */
void hk_node_attach(struct hk_nodes *nodes, struct hk_node *node, struct hk_handle *handle);
void hk_node_detach(struct hk_nodes *nodes, struct hk_node *node, struct hk_handle *handle);

/** hk_node_lock() - for the fields under the stripe */
void hk_node_lock(struct hk_nodes *nodes, const struct hk_node *node);
void hk_node_unlock(struct hk_nodes *nodes, const struct hk_node *node);

/** hk_nodes_at() - the node in slot @index, used or not, or NULL where there is no memory for it
 * yet */
struct hk_node *hk_nodes_at(struct hk_nodes *nodes, uint32_t index);
uint32_t hk_nodes_end(struct hk_nodes *nodes); /* one past the last slot ever used */

/**
 * hk_nodes_restore() - put a node back under the id it had
 * @st: NULL for one that was not found again: stale
 *
 * Return: 0; -EEXIST for an id taken (or that cannot be), -ENOMEM.
 */
int hk_nodes_restore(struct hk_nodes *nodes, uint64_t nodeid, struct hk_export *export,
	struct hk_node *parent, const char *name, const struct hk_stat *st, uint64_t lookups);
void hk_nodes_restored(struct hk_nodes *nodes); /* after the last one */

/*
 * Descriptors: reserve before opening, release after closing. Reserving drops objects of idle nodes
 * where the limit is reached.
 */
int hk_fds_reserve(struct hk_nodes *nodes, bool for_handle); /* 0 or -ENFILE */
void hk_fds_release(struct hk_nodes *nodes, bool for_handle);

#endif
