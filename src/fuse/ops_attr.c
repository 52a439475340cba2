/* SPDX-License-Identifier: ISC */
/*
 * Attributes: GETATTR, SETATTR, STATFS, and how they go into every reply.
 *
 * Theory: with each attribute told, a node notes the mtime and size the guest then knows: data in
 * its cache is at least as new. An open that finds the same values lets the guest keep the cache.
 * Time stamps of a file are as coarse as the host's clock tick, so one that changed a moment ago
 * may change again without showing it; such a stamp is not noted.
 *
 * Directories have the same trouble: a listing the guest caches is good until the mtime changes. If
 * it was listed while it was changing, the mtime shown later is a nanosecond more than the real
 * one, once: so the guest lists it again.
 *
 * Limits: a FATTR_CTIME is ignored (it comes with the writeback cache only).
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>

#include "base/util.h"
#include "fuse/dax.h"
#include "fuse/server_impl.h"

#define SHORT_CACHE_S 1
#define LONG_CACHE_S  86400
/* Longer than the tick of any host's clock (10 ms at 100 Hz). */
#define HOT_NS (20 * (int64_t)HK_NS_PER_MS)

/* May the file change once more without its mtime showing it? */
static bool is_hot(int64_t mtime_ns)
{
	int64_t age = hk_host_now_ns() - mtime_ns;

	return age > -HOT_NS && age < HOT_NS;
}

static uint64_t cache_seconds(const struct hk_node *node)
{
	if (node->export == NULL) {
		return LONG_CACHE_S;
	}
	return node->export->long_cache ? LONG_CACHE_S : SHORT_CACHE_S;
}

/*
 * What is written to a mapped file is no request: neither we nor the guest's kernel know that its
 * attributes change.
 */
static uint64_t attr_seconds(
	struct hk_fuse_server *server, struct hk_node *node, const struct hk_stat *st)
{
	bool is_mapped = node->export != NULL && !node->export->read_only &&
		hk_dax_offers(server, node, st->mode);

	return is_mapped ? 0 : cache_seconds(node);
}

static bool is_in_free_dir(struct hk_fuse_server *server, struct hk_node *node)
{
	bool is_free;

	if (!node->export->lone_user) {
		return false;
	}
	hk_node_lock(&server->nodes, node);
	is_free = node->parent != NULL &&
		atomic_load_explicit(&node->parent->is_free, memory_order_relaxed);
	hk_node_unlock(&server->nodes, node);
	return is_free;
}

void hk_attr_fill(struct hk_fuse_server *server, struct hk_node *node, const struct hk_stat *st,
	struct fuse_attr *attr)
{
	const struct hk_export *export = node->export;
	int64_t mtime_ns = hk_timespec_ns(st->mtime);
	bool hot;

	*attr = (struct fuse_attr){
		.ino = st->ino,
		.size = st->size,
		.blocks = st->blocks,
		.atime = (uint64_t)st->atime.tv_sec,
		.mtime = (uint64_t)st->mtime.tv_sec,
		.ctime = (uint64_t)st->ctime.tv_sec,
		.atimensec = (uint32_t)st->atime.tv_nsec,
		.mtimensec = (uint32_t)st->mtime.tv_nsec,
		.ctimensec = (uint32_t)st->ctime.tv_nsec,
		.mode = st->mode,
		.nlink = st->nlink,
		.uid = st->uid,
		.gid = st->gid,
		.rdev = (uint32_t)st->rdev,
		.blksize = st->blksize,
	};
	if (export == NULL) {
		return;
	}
	attr->ino = hk_guest_ino(server, st->dev, st->ino) ^ node->twin_bits;
	hk_show_owner(export, st, is_in_free_dir(server, node), &attr->uid, &attr->gid);
	attr->flags = hk_dax_offers(server, node, st->mode) ? FUSE_ATTR_DAX : 0;
	hot = !export->long_cache && is_hot(mtime_ns);
	hk_node_lock(&server->nodes, node);
	node->mode = st->mode;
	atomic_store_explicit(&node->is_free, hk_is_free_dir(export, st), memory_order_relaxed);
	node->seen_mtime_ns = hot ? 0 : mtime_ns;
	node->seen_size = st->size;
	if (node->listed_hot_ns != 0 && node->listed_hot_ns == mtime_ns && !hot) {
		attr->mtimensec += attr->mtimensec < HK_NS_PER_SEC - 1 ? 1 : -1;
	}
	hk_node_unlock(&server->nodes, node);
	if (st->nlink > 1 && !S_ISDIR(st->mode)) {
		hk_node_linked(&server->nodes, node);
	}
}

bool hk_attr_cached_is_good(
	struct hk_fuse_server *server, struct hk_node *node, const struct hk_stat *st)
{
	int64_t mtime_ns = hk_timespec_ns(st->mtime);
	bool good;

	if (node->export->long_cache) {
		return true;
	}
	hk_node_lock(&server->nodes, node);
	good = node->seen_mtime_ns != 0 && node->seen_mtime_ns == mtime_ns &&
		node->seen_size == st->size;
	hk_node_unlock(&server->nodes, node);
	if (!good) {
		/* The guest drops what it has, so from now on its cache is of this. */
		bool hot = is_hot(mtime_ns);

		hk_node_lock(&server->nodes, node);
		node->seen_mtime_ns = hot ? 0 : mtime_ns;
		node->seen_size = st->size;
		hk_node_unlock(&server->nodes, node);
	}
	return good;
}

void hk_attr_note_listed(struct hk_fuse_server *server, const struct hk_ref *ref)
{
	struct hk_backend *backend = hk_ref_backend(ref);
	struct hk_stat st;

	if (ref->node->export->long_cache || backend->ops->stat(backend, ref->obj, &st) < 0) {
		return;
	}
	hk_node_lock(&server->nodes, ref->node);
	ref->node->listed_hot_ns = is_hot(hk_timespec_ns(st.mtime)) ? hk_timespec_ns(st.mtime) : 0;
	hk_node_unlock(&server->nodes, ref->node);
}

void hk_entry_fill(struct hk_fuse_server *server, struct hk_node *node, const struct hk_stat *st,
	struct fuse_entry_out *entry)
{
	*entry = (struct fuse_entry_out){
		.nodeid = hk_node_id(node),
		.entry_valid = cache_seconds(node),
		.attr_valid = attr_seconds(server, node, st),
	};
	hk_attr_fill(server, node, st, &entry->attr);
}

void hk_root_stat(struct hk_fuse_server *server, struct hk_stat *st)
{
	*st = (struct hk_stat){
		.ino = FUSE_ROOT_ID,
		.mode = S_IFDIR | 0555,
		.nlink = 2 + server->export_count,
		.blksize = 4096,
		.atime = server->started,
		.mtime = server->started,
		.ctime = server->started,
	};
}

static int put_attr(struct hk_fuse_server *server, struct hk_req *req, struct hk_node *node,
	const struct hk_stat *st)
{
	struct fuse_attr_out out = {.attr_valid = attr_seconds(server, node, st)};

	hk_attr_fill(server, node, st, &out.attr);
	return hk_req_put(req, &out, sizeof(out));
}

int hk_op_getattr(struct hk_fuse_server *server, struct hk_req *req)
{
	struct hk_ref ref;
	struct hk_stat st;
	int r = hk_ref_get(server, req->head.nodeid, &ref);

	/* The handle the guest may name is of no use: the node leads to it where nothing else does.
	 */
	if (r == 0 && ref.obj < 0) {
		hk_root_stat(server, &st);
	} else if (r == 0) {
		r = hk_ref_backend(&ref)->ops->stat(hk_ref_backend(&ref), ref.obj, &st);
	}
	if (r == 0) {
		r = put_attr(server, req, ref.node, &st);
	}
	hk_ref_put(server, &ref);
	return r;
}

void hk_attr_kill_setid(struct hk_fuse_server *server, struct hk_node *node, int obj)
{
	struct hk_backend *backend = node->export->backend;
	struct hk_stat st;
	uint32_t mode;

	hk_node_lock(&server->nodes, node);
	mode = node->mode;
	hk_node_unlock(&server->nodes, node);
	if ((mode & (S_ISUID | S_ISGID)) == 0 || backend->ops->stat(backend, obj, &st) < 0) {
		return;
	}
	mode = st.mode & ~S_ISUID;
	if ((mode & S_IXGRP) != 0) {
		mode &= ~S_ISGID;
	}
	if (mode != st.mode && backend->ops->chmod(backend, obj, mode & 07777) == 0) {
		hk_node_lock(&server->nodes, node);
		node->mode = mode;
		hk_node_unlock(&server->nodes, node);
	}
}

static int set_size(struct hk_fuse_server *server, struct hk_req *req, const struct hk_ref *ref,
	const struct fuse_setattr_in *in)
{
	struct hk_backend *backend = hk_ref_backend(ref);
	struct hk_handle *handle = NULL;
	int r = -EBADF;

	if (in->size > INT64_MAX) {
		return -EFBIG;
	}
	hk_dax_shrinks(server, ref->node, in->size);
	if ((in->valid & FATTR_FH) != 0) {
		handle = hk_handles_get(&server->handles, in->fh, req->head.nodeid);
		if (handle != NULL && handle->file >= 0 &&
			(handle->flags & O_ACCMODE) != O_RDONLY) {
			r = backend->ops->resize(backend, handle->file, in->size);
			hk_dax_opened(server, ref->node, handle->file);
		}
		hk_handle_put(&server->handles, handle);
	} else {
		r = backend->ops->truncate(backend, ref->obj, in->size);
	}
	if (r == 0 &&
		((in->valid & FATTR_KILL_SUIDGID) != 0 ||
			!hk_policy_keeps_setid(ref->node->export))) {
		hk_attr_kill_setid(server, ref->node, ref->obj);
	}
	return r;
}

static int set_times(const struct hk_ref *ref, const struct fuse_setattr_in *in)
{
	struct timespec times[2] = {{.tv_nsec = UTIME_OMIT}, {.tv_nsec = UTIME_OMIT}};

	if ((in->valid & FATTR_ATIME_NOW) != 0) {
		times[0].tv_nsec = UTIME_NOW;
	} else if ((in->valid & FATTR_ATIME) != 0) {
		times[0] = (struct timespec){(time_t)in->atime, in->atimensec};
	}
	if ((in->valid & FATTR_MTIME_NOW) != 0) {
		times[1].tv_nsec = UTIME_NOW;
	} else if ((in->valid & FATTR_MTIME) != 0) {
		times[1] = (struct timespec){(time_t)in->mtime, in->mtimensec};
	}
	/* Only the flags may ask for "now" and "leave": a number that means them is a lie. */
	if (((in->valid & FATTR_ATIME_NOW) == 0 && (in->valid & FATTR_ATIME) != 0 &&
		    in->atimensec >= HK_NS_PER_SEC) ||
		((in->valid & FATTR_MTIME_NOW) == 0 && (in->valid & FATTR_MTIME) != 0 &&
			in->mtimensec >= HK_NS_PER_SEC)) {
		return -EINVAL;
	}
	return hk_ref_backend(ref)->ops->utimes(hk_ref_backend(ref), ref->obj, times);
}

static int set_owner(const struct hk_ref *ref, const struct fuse_setattr_in *in)
{
	const struct hk_export *export = ref->node->export;
	uid_t uid = (uid_t)-1;
	gid_t gid = (gid_t)-1;

	if ((in->valid & FATTR_UID) != 0) {
		uid = hk_map_uid(export, in->uid);
	}
	if ((in->valid & FATTR_GID) != 0) {
		gid = hk_map_gid(export, in->gid);
	}
	return export->backend->ops->chown(export->backend, ref->obj, uid, gid);
}

static int set_mode(struct hk_fuse_server *server, const struct hk_ref *ref, mode_t mode)
{
	struct hk_backend *backend = hk_ref_backend(ref);
	bool is_dir;

	/* What an inode is never changes. */
	hk_node_lock(&server->nodes, ref->node);
	is_dir = S_ISDIR(ref->node->mode);
	hk_node_unlock(&server->nodes, ref->node);
	return backend->ops->chmod(
		backend, ref->obj, hk_policy_mode(ref->node->export, mode, is_dir));
}

/* Owner before mode, because a change of owner takes set-id bits away; times last, because all else
 * moves them. */
static int set_attributes(struct hk_fuse_server *server, struct hk_req *req,
	const struct hk_ref *ref, const struct fuse_setattr_in *in)
{
	int r = 0;

	if ((in->valid & (FATTR_UID | FATTR_GID)) != 0) {
		r = set_owner(ref, in);
	}
	if (r == 0 && (in->valid & FATTR_MODE) != 0) {
		r = set_mode(server, ref, in->mode & 07777);
	}
	if (r == 0 && (in->valid & FATTR_SIZE) != 0) {
		r = set_size(server, req, ref, in);
	}
	if (r == 0 && (in->valid & (FATTR_ATIME | FATTR_MTIME)) != 0) {
		r = set_times(ref, in);
	}
	return r;
}

/* What a SETATTR can be at once: each is a case of its own. */
enum { CHANGES_MAX = 4 };

struct changes {
	struct hk_case cases[CHANGES_MAX];
	unsigned count;
};

/* Judges one of the changes. Return: 0, or -errno: told already. */
static int judge_one(struct hk_fuse_server *server, const struct hk_req *req,
	struct changes *changes, struct hk_case c)
{
	struct hk_case *added = &changes->cases[changes->count++];

	*added = c;
	return hk_judge(server, req, added);
}

/* All of them before any is made. Of an open file the size was judged when it was opened. */
static int judge_changes(struct hk_fuse_server *server, const struct hk_req *req,
	struct hk_node *node, const struct fuse_setattr_in *in, struct changes *changes)
{
	int r = 0;

	if ((in->valid & FATTR_SIZE) != 0 && (in->valid & FATTR_FH) == 0) {
		r = judge_one(server, req, changes,
			(struct hk_case){
				.op = HK_EVENT_TRUNCATE, .class = HK_CLASS_WRITE, .node = node});
	}
	if (r == 0 && (in->valid & (FATTR_UID | FATTR_GID)) != 0) {
		r = judge_one(server, req, changes,
			(struct hk_case){
				.op = HK_EVENT_CHOWN, .class = HK_CLASS_METADATA, .node = node});
	}
	if (r == 0 && (in->valid & FATTR_MODE) != 0) {
		r = judge_one(server, req, changes,
			(struct hk_case){.op = HK_EVENT_CHMOD,
				.class = HK_CLASS_METADATA,
				.node = node,
				.flags = in->mode & 07777});
	}
	if (r == 0 && (in->valid & (FATTR_ATIME | FATTR_MTIME)) != 0) {
		r = judge_one(server, req, changes,
			(struct hk_case){
				.op = HK_EVENT_UTIMES, .class = HK_CLASS_METADATA, .node = node});
	}
	return r;
}

/* Judges all that is asked for, makes the changes, and tells of each. */
static int judge_and_set(struct hk_fuse_server *server, struct hk_req *req,
	const struct hk_ref *ref, const struct fuse_setattr_in *in)
{
	struct changes changes = {0};
	int r = judge_changes(server, req, ref->node, in, &changes);

	if (r == 0) {
		r = hk_policy_change(server, ref->node, NULL,
			(in->valid & FATTR_SIZE) != 0 ? "truncate" : "change attributes");
	}
	if (r == 0) {
		r = set_attributes(server, req, ref, in);
	}
	for (unsigned i = 0; i < changes.count; i++) {
		hk_judged(server, &changes.cases[i], r);
	}
	return r;
}

int hk_op_setattr(struct hk_fuse_server *server, struct hk_req *req)
{
	struct fuse_setattr_in in;
	struct hk_ref ref = {0};
	struct hk_stat st;
	int r = hk_req_take(req, &in, sizeof(in));

	if (r < 0) {
		return r;
	}
	r = hk_ref_get_real(server, req->head.nodeid, &ref);
	if (r == 0) {
		r = judge_and_set(server, req, &ref, &in);
	}
	if (r == 0) {
		r = hk_ref_backend(&ref)->ops->stat(hk_ref_backend(&ref), ref.obj, &st);
	}
	if (r == 0) {
		r = put_attr(server, req, ref.node, &st);
	}
	hk_ref_put(server, &ref);
	return r;
}

int hk_op_statfs(struct hk_fuse_server *server, struct hk_req *req)
{
	struct fuse_statfs_out out = {.st = {.bsize = 4096, .frsize = 4096, .namelen = NAME_MAX}};
	struct statvfs st;
	struct hk_ref ref;
	int r = hk_ref_get(server, req->head.nodeid, &ref);

	if (r == 0 && ref.obj >= 0) {
		r = hk_ref_backend(&ref)->ops->statfs(hk_ref_backend(&ref), ref.obj, &st);
		if (r == 0) {
			out.st = (struct fuse_kstatfs){
				.blocks = st.f_blocks,
				.bfree = st.f_bfree,
				.bavail = st.f_bavail,
				.files = st.f_files,
				.ffree = st.f_ffree,
				.bsize = (uint32_t)st.f_bsize,
				.namelen = (uint32_t)st.f_namemax,
				.frsize = (uint32_t)st.f_frsize,
			};
		}
	}
	hk_ref_put(server, &ref);
	return r < 0 ? r : hk_req_put(req, &out, sizeof(out));
}

/*
 * The guest's sync(2). Only what it has written to is worth waiting for; what it maps it may have.
 */
int hk_op_syncfs(struct hk_fuse_server *server, struct hk_req *req)
{
	int result = 0;

	for (unsigned i = 0; i < server->export_count; i++) {
		struct hk_export *export = &server->exports[i];

		bool is_mapped = server->dax != NULL && export->dax && !export->read_only;

		if (atomic_exchange(&export->dirty, false) || is_mapped) {
			int r = export->backend->ops->sync(export->backend);

			if (r < 0) {
				atomic_store(&export->dirty, true);
				result = r;
			}
		}
	}
	return result;
}
