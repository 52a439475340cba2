/* SPDX-License-Identifier: ISC */
/*
 * The inside of the FUSE server, shared by its files:
 *
 *	server.c	exports, INIT, dispatch
 *	proto.c		requests and replies
 *	policy.c	what an export lets the guest do; whose ids are whose
 *	judge.c		what rules say; the audit
 *	ask.c		questions, where rules have somebody asked
 *	place.c		where a node is, for rules
 *	path.c		paths of nodes
 *	node.c		nodes; node_obj.c: their objects; node_tree.c: where they are
 *	handle.c	open files; dir.c: listings
 *	ops_name.c	lookup, mkdir, link, ...; ops_remove.c: unlink, rename, ...
 *	ops_attr.c	attributes; ops_xattr.c: extended ones
 *	ops_file.c	open, create, release; ops_data.c: read, write, ...
 *	pass.c		data that the kernel moves itself; share.c: one descriptor for all readers
 *	ops_dir.c	listing of directories
 *	dax.c		files mapped into memory of the guest's
 *	state.c		save and restore
 *	host_*.c	the backend for directories of the host
 *
 * Locks: node.h has their order. In short: key stripe, then node stripe, then the list of
 * descriptors; eviction comes from the list, so it only tries a stripe; the rename lock is around
 * all of them where an object is reached once more.
 */
#ifndef HK_FUSE_SERVER_IMPL_H
#define HK_FUSE_SERVER_IMPL_H

#include "fuse/audit.h"
#include "fuse/backend.h"
#include "fuse/dir.h"
#include "fuse/handle.h"
#include "fuse/node.h"
#include "fuse/proto.h"
#include "fuse/server.h"

enum { HK_FUSE_MAX_DEVICES = 255 };

/* The largest READ or WRITE: 256 pages. */
enum { HK_FUSE_MAX_WRITE = 1 << 20, HK_FUSE_MAX_PAGES = 256 };

/* The least protocol we speak; 7.31 is Linux 5.4. */
enum { HK_FUSE_MIN_MINOR = 31 };

/** struct hk_export - one entry of the synthetic root; constant after the first request but for
 * @dirty */
struct hk_export {
	char *name; /* owned */
	unsigned index;
	struct hk_backend *backend; /* owned */
	struct hk_node *node;       /* its root; lives as long as the server */
	bool read_only, public_only, map_ids, acls, lone_user, dax;
	bool long_cache;
	uid_t host_uid, guest_uid;
	gid_t host_gid, guest_gid;
	const gid_t *groups; /* borrowed; of the lone user */
	unsigned group_count;
	atomic_bool dirty;      /* written to since the last SYNCFS */
	struct hk_rules *rules; /* borrowed; NULL: none */
	struct hk_audit *audit; /* borrowed; NULL: none */
	char *root;             /* owned; path of the export for both, "" for "/" */
	hk_place root_place;
	_Atomic uint64_t place_epoch; /* see place.c; never 0 */
};

struct hk_fuse_server {
	struct hk_fuse_owner *owner;         /* borrowed; may be NULL */
	struct hk_fuse_transport *transport; /* borrowed; may be NULL */
	struct hk_export exports[HK_FUSE_MAX_EXPORTS];
	unsigned export_count;
	struct hk_fds fds;
	struct hk_nodes nodes;
	struct hk_handles handles;
	struct hk_dirs dirs;
	struct hk_answers *answers; /* owned; ask.c */
	struct hk_dax *dax;         /* owned; dax.c; NULL: no window */
	struct timespec started;    /* times of the synthetic root */

	uint64_t left_out; /* of the features; constant after the first request */

	/* What INIT settled; 0 before. */
	atomic_uint minor;
	_Atomic uint64_t features;

	/* Devices seen, for inode numbers: see hk_guest_ino(). Only ever appended to, under the
	 * lock. */
	pthread_mutex_t devices_lock;
	atomic_uint device_count;
	_Atomic uint64_t devices[HK_FUSE_MAX_DEVICES];
};

/* A pinned node with its object; every handler that touches the backend has one. */
struct hk_ref {
	struct hk_node *node;
	struct hk_handle *handle;
	int obj; /* -1: the synthetic root */
};

static inline struct hk_backend *hk_ref_backend(const struct hk_ref *ref)
{
	return ref->node->export->backend;
}

/**
 * hk_ref_get() - pin a node and reach its object; for the synthetic root there is none
 *
 * Return: 0; -ESTALE for an unknown node, and what hk_node_obj() gives. Release with hk_ref_put()
 * in any case.
 */
int hk_ref_get(struct hk_fuse_server *server, uint64_t nodeid, struct hk_ref *ret_ref);
/** hk_ref_get_real() - the same, but the synthetic root gives -EROFS */
int hk_ref_get_real(struct hk_fuse_server *server, uint64_t nodeid, struct hk_ref *ret_ref);
void hk_ref_put(struct hk_fuse_server *server, struct hk_ref *ref);

static inline bool hk_fuse_has(struct hk_fuse_server *server, uint64_t feature)
{
	return (atomic_load_explicit(&server->features, memory_order_relaxed) & feature) != 0;
}

/**
 * hk_export_dirty() - there is something to be synced. Most threads find it marked, and share the
 * line
 */
static inline void hk_export_dirty(struct hk_export *export)
{
	if (!atomic_load_explicit(&export->dirty, memory_order_relaxed)) {
		atomic_store(&export->dirty, true);
	}
}

/* policy.c: what an export's flags say. @name may be NULL: the node itself. */

/** hk_policy_change() - may the guest change something there? Return: 0 or -EROFS (told to the
 * owner). */
int hk_policy_change(struct hk_fuse_server *server, struct hk_node *node, const char *name,
	const char *operation);
/**
 * hk_policy_move() - may a rename bring a file, and all that is in a directory, under other rules?
 *
 * Not what may not be read to where it may. Nobody judges each path below a directory: so not where
 * a rule that does not allow looks at them, before or after. Else programs copy, and each file is
 * judged.
 *
 * Return: 0 or -EXDEV.
 */
int hk_policy_move(struct hk_fuse_server *server, const struct hk_ref *old_dir,
	const char *old_name, const struct hk_ref *new_dir, const char *new_name, unsigned flags);
/** hk_policy_search() - may names of directory @dir be looked up? Return: 0, -EACCES, or what stat
 * gave. */
int hk_policy_search(struct hk_fuse_server *server, const struct hk_ref *dir, const char *name);
/** hk_policy_read() - may the data of this file, or the list of this directory, be read? */
int hk_policy_read(struct hk_fuse_server *server, const struct hk_ref *ref, uint32_t mode,
	const char *operation);

/**
 * hk_policy_mode() - the mode a file may get: without set-id bits where ids are mapped
 *
 * There the guest's user owns files of somebody else's on the host, of root's most likely, and
 * would make programs that run as him. What the bits mean for a directory does no harm: it keeps
 * them.
 */
mode_t hk_policy_mode(const struct hk_export *export, mode_t mode, bool is_dir);
/** hk_policy_keeps_setid() - may a write leave set-id bits alone, if the guest does not ask? */
static inline bool hk_policy_keeps_setid(const struct hk_export *export)
{
	return !export->map_ids; /* the guest's kernel is not trusted to ask */
}
/** hk_policy_xattr() - may this attribute be set? Return: 0, or -EPERM for what acts as set-id bits
 */
int hk_policy_xattr(const struct hk_export *export, const char *name);

/**
 * hk_deny() - tell the owner of what was refused; @by_rules: see struct hk_fuse_denial. Return:
 * -@error
 */
int hk_deny(struct hk_fuse_server *server, struct hk_node *node, const char *name,
	const char *operation, int error, bool by_rules);
/* path.c */
enum { HK_PATH_BYTES = 16384 }; /* twice what getcwd(3)'s tests in build systems make */
/**
 * hk_path_of() - absolute path of @node, or of @name in it, by the names last seen, for rules and
 * audit; written to the end of @buf
 * @size: HK_PATH_BYTES, or less for what is only shown; at least 512
 *
 * What does not fit is cut off at the front, and so is what is not known. It begins with an
 * ellipsis then, no slash: only what begins with a slash may be judged by.
 *
 * Return: its start in @buf.
 */
const char *hk_path_of(struct hk_fuse_server *server, struct hk_node *node, const char *name,
	char *buf, size_t size);
/**
 * hk_path_in_export() - the same from the export's root on, without a slash before it, for messages
 */
const char *hk_path_in_export(struct hk_fuse_server *server, struct hk_node *node, const char *name,
	char *buf, size_t size);

/* judge.c: rules and audit. */

/**
 * struct hk_case - one thing that is about to be done
 * @node, @name: what it is done to: the node, or an entry of it. Borrowed until hk_judged()
 * @other, @other_name: a second path, for the audit; may be NULL
 * @told: the audit knows, or need not
 */
struct hk_case {
	enum hk_event_op op;
	enum hk_class class;
	struct hk_node *node;
	const char *name;
	struct hk_node *other;
	const char *other_name;
	uint32_t flags;
	uint64_t bytes_read, bytes_written;
	bool is_bound; /* the bytes: nobody counted them */
	pid_t pid;
	uid_t uid;
	enum hk_verdict verdict;
	uint32_t rule;
	bool told;
};

/**
 * hk_judge() - what do the rules say? Return: 0, or -errno: told already. hk_judged() may follow in
 * any case.
 */
int hk_judge(struct hk_fuse_server *server, const struct hk_req *req, struct hk_case *c);
/**
 * hk_judge_also() - and of this class, there? As part of the same case, after hk_judge() gave 0.
 */
int hk_judge_also(struct hk_fuse_server *server, struct hk_case *c, struct hk_node *node,
	const char *name, enum hk_class class);
/**
 * hk_judge_change() - and may anything be changed there (hk_policy_change())? Return: 0, or -errno:
 * told already
 */
int hk_judge_change(struct hk_fuse_server *server, struct hk_case *c, const char *operation);
/**
 * hk_judge_allows() - do the rules allow that of a node, without anybody being asked? Told to
 * nobody.
 */
bool hk_judge_allows(struct hk_fuse_server *server, struct hk_node *node, enum hk_class class);
/**
 * hk_judge_lends() - would @node, as @name in @dir, be ruled less strictly than it is now? Told to
 * nobody.
 */
bool hk_judge_lends(struct hk_fuse_server *server, const struct hk_ref *dir, const char *name,
	struct hk_node *node, enum hk_class class);
/** hk_judged() - what came of it: 0 or -errno. Return: @result */
int hk_judged(struct hk_fuse_server *server, struct hk_case *c, int result);

/* place.c */
/**
 * hk_judge_place() - the place of a node's path; HK_PLACE_NOWHERE where that cannot be told.
 * Return: false for a file that never had a name: nobody's business
 */
bool hk_judge_place(struct hk_fuse_server *server, struct hk_node *node, hk_place *ret_place);
/** hk_judge_hides() - is there no such entry, as far as the guest may know? */
bool hk_judge_hides(struct hk_fuse_server *server, const struct hk_ref *dir, const char *name);

/**
 * struct hk_entry_rules - what the rules say of an entry that is looked up
 * @target: what stands in for it: a path, from the root of @export on ("": that itself, a file);
 *	NULL: nothing does
 * @ruling: struct hk_stat's, if it is no directory
 */
struct hk_entry_rules {
	bool is_hidden;
	const char *target;
	struct hk_export *export;
	uint32_t ruling;
};

/** hk_judge_entry() - all that in one step */
void hk_judge_entry(struct hk_fuse_server *server, const struct hk_ref *dir, const char *name,
	struct hk_entry_rules *ret_entry);
/**
 * hk_judge_missing() - tell the audit of a name that was looked for in vain; what is there shows
 * when it is used
 */
void hk_judge_missing(struct hk_fuse_server *server, const struct hk_req *req,
	const struct hk_ref *dir, const char *name);
/** hk_judge_closed() - an open file is closed: tell the audit of its bytes */
void hk_judge_closed(struct hk_fuse_server *server, const struct hk_handle *handle);
/** hk_judge_key() - set @st->ruling for what stands at @name */
void hk_judge_key(struct hk_fuse_server *server, const struct hk_ref *dir, const char *name,
	struct hk_stat *st);

/* ask.c */
struct hk_answers *hk_answers_new(void);
void hk_answers_free(struct hk_answers *answers); /* NULL is fine */
/**
 * hk_ask_owner() - may thread @pid do that? Has somebody asked, unless he was before. Takes as long
 * as he thinks.
 */
bool hk_ask_owner(struct hk_fuse_server *server, const char *path, enum hk_class class, pid_t pid);

uid_t hk_map_uid(const struct hk_export *export, uid_t uid); /* either way: a swap */
gid_t hk_map_gid(const struct hk_export *export, gid_t gid);
/** hk_show_owner() - the ids that the guest is shown for a file */
void hk_show_owner(const struct hk_export *export, const struct hk_stat *st, bool in_free_dir,
	uint32_t *ret_uid, uint32_t *ret_gid);

/**
 * hk_is_free_dir() - is it a directory from which a lone user may remove what belongs to others?
 *
 * His kernel does not remove, rename or link what belongs to nobody it knows, without asking us. So
 * there all shows as his.
 */
bool hk_is_free_dir(const struct hk_export *export, const struct hk_stat *st);
struct hk_cred hk_req_cred(const struct hk_export *export, const struct hk_req *req);

/**
 * hk_guest_ino() - the inode number the guest sees
 *
 * All exports are one file system to the guest, so devices other than the first get their index in
 * the upper bits.
 */
uint64_t hk_guest_ino(struct hk_fuse_server *server, uint64_t dev, uint64_t ino);

/* ops_attr.c: attributes for replies. These also note what the guest is told. */
void hk_attr_fill(struct hk_fuse_server *server, struct hk_node *node, const struct hk_stat *st,
	struct fuse_attr *attr);
void hk_entry_fill(struct hk_fuse_server *server, struct hk_node *node, const struct hk_stat *st,
	struct fuse_entry_out *entry);
void hk_root_stat(struct hk_fuse_server *server, struct hk_stat *st);
/** hk_attr_cached_is_good() - is data the guest has cached still that of the file? Notes @st if
 * not. */
bool hk_attr_cached_is_good(
	struct hk_fuse_server *server, struct hk_node *node, const struct hk_stat *st);
/** hk_attr_note_listed() - the guest lists this directory from the start, and may cache the list */
void hk_attr_note_listed(struct hk_fuse_server *server, const struct hk_ref *ref);
/** hk_attr_kill_setid() - a write by a user who may not keep set-id bits; cheap where there are
 * none */
void hk_attr_kill_setid(struct hk_fuse_server *server, struct hk_node *node, int obj);

/* ops_xattr.c */
/**
 * hk_xattr_note_no_capability() - a node has none now, as it is new or was looked at: not asked for
 * a while
 */
void hk_xattr_note_no_capability(struct hk_fuse_server *server, struct hk_node *node);

/* ops_name.c */
/** hk_lookup_enter() - look @name up in @dir and enter it; fills in @entry. Return: 0 or -errno. */
int hk_lookup_enter(struct hk_fuse_server *server, const struct hk_ref *dir, const char *name,
	struct fuse_entry_out *entry);
int hk_root_lookup(struct hk_fuse_server *server, const char *name, struct fuse_entry_out *entry);

/* Handlers: fill in the payload and return 0, -errno, or HK_REQ_NO_REPLY. */
typedef int hk_handler_fn(struct hk_fuse_server *server, struct hk_req *req);
hk_handler_fn hk_op_lookup, hk_op_forget, hk_op_batch_forget;
hk_handler_fn hk_op_mknod, hk_op_mkdir, hk_op_symlink, hk_op_link, hk_op_unlink, hk_op_rmdir;
hk_handler_fn hk_op_rename, hk_op_rename2, hk_op_readlink;
hk_handler_fn hk_op_getattr, hk_op_setattr, hk_op_statfs;
hk_handler_fn hk_op_getxattr, hk_op_setxattr, hk_op_listxattr, hk_op_removexattr;
hk_handler_fn hk_op_open, hk_op_create, hk_op_tmpfile, hk_op_release;
hk_handler_fn hk_op_read, hk_op_write, hk_op_fsync, hk_op_fallocate, hk_op_lseek,
	hk_op_copy_file_range;
hk_handler_fn hk_op_opendir, hk_op_readdir, hk_op_readdirplus, hk_op_fsyncdir;
hk_handler_fn hk_op_syncfs;
hk_handler_fn hk_op_setupmapping, hk_op_removemapping;

#endif
