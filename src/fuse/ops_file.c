/* SPDX-License-Identifier: ISC */
/*
 * Files: OPEN, CREATE, TMPFILE, RELEASE. What works on an open one is in ops_data.c.
 *
 * Theory: only regular files are ever opened: an object is looked at first and then opened as
 * itself, so that no FIFO can block us and no device of the host is touched, whatever stands at the
 * name meanwhile. The guest's kernel opens special files by their numbers itself. O_APPEND is kept
 * out of the open file and applied write by write, as each asks for: pages written back from a
 * mapping go where they belong, and F_SETFL changes it. O_DIRECT stays in the guest: our reads come
 * from the host's page cache, and guest memory has any alignment.
 *
 * An open that costs little is what counts most: programs open far more files than they make. So
 * who only reads shares a descriptor (share.c), and the kernel moves or keeps the data (pass.c).
 */
#include <errno.h>
#include <fcntl.h>

#include "base/util.h"
#include "fuse/dax.h"
#include "fuse/pass.h"
#include "fuse/share.h"

enum {
	OPEN_FLAGS = O_ACCMODE | O_TRUNC | O_SYNC | O_DSYNC | O_NOATIME,
	CREATE_FLAGS = O_ACCMODE | O_SYNC | O_DSYNC,
	HANDLE_FLAGS = O_ACCMODE | O_APPEND | O_SYNC | O_DSYNC | O_NOATIME,
	OPEN_TO_EXECUTE =
		1 << 5, /* the kernel's FMODE_EXEC, which comes with the flags of an execve */
};

static int check_is_regular(uint32_t mode)
{
	switch (mode & S_IFMT) {
	case S_IFREG:
		return 0;
	case S_IFDIR:
		return -EISDIR;
	case S_IFLNK:
		return -ELOOP;
	default:
		return -ENXIO;
	}
}

static bool is_write(uint32_t flags)
{
	return (flags & O_ACCMODE) != O_RDONLY || (flags & O_TRUNC) != 0;
}

static struct hk_opener opener_of(const struct hk_req *req, const struct hk_stat *st)
{
	return (struct hk_opener){
		.pid = (pid_t)req->head.pid,
		.uid = req->head.uid,
		.ctime_ns = hk_timespec_ns(st->ctime),
		.size = st->size,
	};
}

/*
 * What may be run can be read by who says that he runs it: the kernel asks for both with the same
 * request. Written to it cannot be: no kernel asks for both, and who does is judged as one that
 * reads and writes.
 */
static int judge_open(
	struct hk_fuse_server *server, const struct hk_req *req, struct hk_case *c, uint32_t flags)
{
	bool runs = (flags & OPEN_TO_EXECUTE) != 0 && !is_write(flags);
	bool reads = (flags & O_ACCMODE) != O_WRONLY;
	int r;

	c->op = runs ? HK_EVENT_EXEC : HK_EVENT_OPEN;
	c->class = runs ? HK_CLASS_EXEC : reads ? HK_CLASS_READ : HK_CLASS_WRITE;
	c->flags = flags;
	r = hk_judge(server, req, c);
	return r == 0 && reads && is_write(flags)
		? hk_judge_also(server, c, c->node, NULL, HK_CLASS_WRITE)
		: r;
}

/*
 * With more rights than the guest asked for, where a mapping takes them and the monitor has them.
 * Only to be read: the file that others read, too; it may become the object of @ref.
 */
static int open_file(struct hk_fuse_server *server, struct hk_ref *ref, const struct hk_stat *st,
	uint32_t flags, struct hk_opener *by)
{
	struct hk_backend *backend = hk_ref_backend(ref);
	uint32_t wanted = hk_dax_open_flags(server, ref->node, st->mode, flags);
	bool may_share = (wanted & OPEN_FLAGS) == O_RDONLY;
	int file = may_share ? hk_share_open(&server->nodes, ref->node, st) : -1;

	if (file >= 0) {
		by->shared = true;
		return file;
	}
	if ((flags & O_TRUNC) != 0) {
		hk_dax_shrinks(server, ref->node, 0);
	}
	file = backend->ops->open(backend, ref->obj, (int)(wanted & OPEN_FLAGS));
	if (file == -EACCES && wanted != flags) {
		file = backend->ops->open(backend, ref->obj, (int)(flags & OPEN_FLAGS));
	} else if (file >= 0 && may_share) {
		by->shared = hk_share_offer(&server->nodes, ref->node, st, file);
		ref->obj = by->shared ? file : ref->obj;
	}
	return file;
}

/* What becomes of a file that did not become a handle. */
static void close_file(
	struct hk_fuse_server *server, struct hk_node *node, int file, const struct hk_opener *by)
{
	hk_pass_close(&server->nodes, node, by);
	if (by->shared) {
		hk_share_close(&server->nodes, node);
	} else {
		node->export->backend->ops->close(node->export->backend, file);
	}
}

/* Is what the guest has cached of the file that of now? */
static bool keeps_cache(struct hk_fuse_server *server, struct hk_node *node,
	const struct hk_stat *st, uint32_t flags, struct hk_opener *by)
{
	bool keep =
		(flags & O_TRUNC) == 0 && (hk_attr_cached_is_good(server, node, st) || by->mapped);

	if (node->export->audit != NULL) {
		hk_node_lock(&server->nodes, node);
		node->cached_bytes = keep ? node->cached_bytes : 0;
		by->cached_bytes = node->cached_bytes;
		hk_node_unlock(&server->nodes, node);
	}
	return keep;
}

/* Tells the audit what went through a file that the guest closes. */
static void tell_of_close(struct hk_fuse_server *server, struct hk_handle *h)
{
	uint64_t bytes = atomic_load_explicit(&h->bytes_read, memory_order_relaxed);

	if (bytes > 0) {
		hk_node_lock(&server->nodes, h->node);
		h->node->cached_bytes += bytes;
		hk_node_unlock(&server->nodes, h->node);
	}
	hk_judge_closed(server, h);
}

/*
 * What nobody will see written is told from the time of change. To open may have been one: a copy
 * above, a truncation.
 */
static void note_change(
	const struct hk_ref *ref, int file, const struct hk_stat *st, struct hk_opener *by)
{
	struct hk_backend *backend = hk_ref_backend(ref);
	struct hk_stat opened = *st;

	if ((by->passthrough || by->mapped) && ref->node->export->audit != NULL &&
		backend->ops->stat(backend, file, &opened) == 0) {
		by->ctime_ns = hk_timespec_ns(opened.ctime);
	}
}

/* What the rules say, and the export's flags. */
static int may_open(struct hk_fuse_server *server, const struct hk_req *req,
	const struct hk_ref *ref, const struct hk_stat *st, uint32_t flags, struct hk_case *c)
{
	int r = check_is_regular(st->mode);

	if (r == 0) {
		r = judge_open(server, req, c, flags);
	}
	if (r == 0 && is_write(flags)) {
		r = hk_policy_change(server, ref->node, NULL, "write");
	}
	if (r == 0 && (flags & O_ACCMODE) != O_WRONLY) {
		r = hk_policy_read(server, ref, st->mode, "read");
	}
	return r;
}

/* Opens the object, and makes it a handle. The descriptor is reserved. */
static int open_handle(struct hk_fuse_server *server, const struct hk_req *req, struct hk_ref *ref,
	const struct hk_stat *st, uint32_t flags, struct fuse_open_out *out)
{
	struct hk_opener by = opener_of(req, st);
	int32_t backing_id = 0;
	int file = open_file(server, ref, st, flags, &by);
	int r;

	if (file < 0) {
		return file;
	}
	by.mapped = hk_dax_offers(server, ref->node, st->mode);
	hk_dax_opened(server, ref->node, file);
	hk_pass_open(server, ref->node, file, st, flags, &by, &backing_id);
	if (is_write(flags)) {
		note_change(ref, file, st, &by);
	} else {
		out->open_flags |= FOPEN_NOFLUSH;
	}
	if (by.passthrough) {
		out->open_flags |= FOPEN_PASSTHROUGH;
		hk_fuse_put_u32(out, HK_FUSE_OPEN_OUT_BACKING_ID, (uint32_t)backing_id);
	} else if (keeps_cache(server, ref->node, st, flags, &by)) {
		out->open_flags |= FOPEN_KEEP_CACHE;
	}
	r = hk_handles_add(
		&server->handles, ref->node, file, NULL, flags & HANDLE_FLAGS, &by, &out->fh);
	if (r < 0) {
		close_file(server, ref->node, file, &by);
		/* Told of no file, the guest keeps what it has of the old one. */
		hk_node_lock(&server->nodes, ref->node);
		ref->node->seen_mtime_ns = 0;
		hk_node_unlock(&server->nodes, ref->node);
	}
	return r;
}

/* Judges it, opens it, and tells of it. @st is of now. */
static int open_object(struct hk_fuse_server *server, const struct hk_req *req, struct hk_ref *ref,
	const struct hk_stat *st, const struct fuse_open_in *in, struct fuse_open_out *out)
{
	struct hk_case c = {.node = ref->node};
	int r = may_open(server, req, ref, st, in->flags, &c);

	if (r == 0) {
		r = hk_fds_reserve(&server->nodes, true);
	}
	if (r == 0) {
		r = open_handle(server, req, ref, st, in->flags, out);
		if (r < 0) {
			hk_fds_release(&server->nodes, true);
		}
	}
	hk_judged(server, &c, r);
	if (r == 0 && (in->flags & O_TRUNC) != 0 &&
		((in->open_flags & FUSE_OPEN_KILL_SUIDGID) != 0 ||
			!hk_policy_keeps_setid(ref->node->export))) {
		/* Not by the file: the guest may have closed the handle already. */
		hk_attr_kill_setid(server, ref->node, ref->obj);
	}
	return r;
}

int hk_op_open(struct hk_fuse_server *server, struct hk_req *req)
{
	struct fuse_open_out out = {0};
	struct fuse_open_in in;
	struct hk_ref ref = {0};
	struct hk_stat st;
	int r = hk_req_take(req, &in, sizeof(in));

	if (r < 0) {
		return r;
	}
	r = hk_ref_get(server, req->head.nodeid, &ref);
	if (r == 0 && ref.obj < 0) {
		r = -EISDIR;
	}
	if (r == 0) {
		r = hk_ref_backend(&ref)->ops->stat(hk_ref_backend(&ref), ref.obj, &st);
	}
	if (r == 0) {
		hk_node_lock(&server->nodes, ref.node);
		ref.node->mode = st.mode;
		hk_node_unlock(&server->nodes, ref.node);
		r = open_object(server, req, &ref, &st, &in, &out);
	}
	hk_ref_put(server, &ref);
	return r < 0 ? r : hk_req_put(req, &out, sizeof(out));
}

struct created {
	struct fuse_entry_out entry;
	struct fuse_open_out open;
};

/* Makes node and handle of a file just created; @name is NULL for a temporary one. @file is closed
 * on failure. No rename runs. */
static int enter_created(struct hk_fuse_server *server, const struct hk_req *req,
	const struct hk_ref *dir, const char *name, int file, uint32_t flags, struct created *out)
{
	struct hk_backend *backend = hk_ref_backend(dir);
	struct hk_opener by;
	struct hk_node *node;
	struct hk_stat st;
	int32_t backing_id = 0;
	int r = backend->ops->stat(backend, file, &st);

	if (r == 0) {
		by = opener_of(req, &st);
		if (name != NULL) {
			hk_judge_key(server, dir, name, &st);
		}
		r = hk_nodes_enter(&server->nodes, dir->node->export,
			name != NULL ? dir->node : NULL, name, &st, 1,
			hk_nodes_renames(&server->nodes), &node);
	}
	if (r < 0) {
		backend->ops->close(backend, file);
		return r;
	}
	by.mapped = hk_dax_offers(server, node, st.mode);
	hk_pass_open(server, node, file, &st, flags, &by, &backing_id);
	r = hk_handles_add(
		&server->handles, node, file, NULL, flags & HANDLE_FLAGS, &by, &out->open.fh);
	if (r < 0) {
		close_file(server, node, file, &by);
		hk_nodes_forget(&server->nodes, hk_node_id(node), 1);
	} else {
		hk_xattr_note_no_capability(server, node);
		hk_entry_fill(server, node, &st, &out->entry);
		out->open.open_flags = by.passthrough ? FOPEN_PASSTHROUGH : FOPEN_KEEP_CACHE;
		hk_fuse_put_u32(&out->open, HK_FUSE_OPEN_OUT_BACKING_ID, (uint32_t)backing_id);
	}
	hk_node_put(&server->nodes, node);
	return r;
}

/* Somebody else was faster, and the guest did not ask for O_EXCL. */
static int open_existing(struct hk_fuse_server *server, const struct hk_req *req,
	const struct hk_ref *dir, const char *name, const struct fuse_create_in *in,
	struct created *out)
{
	struct fuse_open_in open = {.flags = in->flags, .open_flags = in->open_flags};
	struct hk_ref ref = {0};
	struct hk_stat st;
	int r = hk_lookup_enter(server, dir, name, &out->entry);

	if (r < 0) {
		return r;
	}
	r = hk_ref_get(server, out->entry.nodeid, &ref);
	if (r == 0) {
		r = hk_ref_backend(&ref)->ops->stat(hk_ref_backend(&ref), ref.obj, &st);
	}
	if (r == 0) {
		r = open_object(server, req, &ref, &st, &open, &out->open);
	}
	hk_ref_put(server, &ref);
	if (r < 0) {
		hk_nodes_forget(&server->nodes, out->entry.nodeid, 1);
	}
	return r;
}

static int create(struct hk_fuse_server *server, struct hk_req *req, const char *name,
	const struct fuse_create_in *in, struct created *out)
{
	struct hk_case c = {.op = HK_EVENT_CREATE, .class = HK_CLASS_CREATE, .name = name};
	struct hk_cred cred;
	struct hk_ref dir;
	mode_t mode;
	int flags = (int)in->flags;
	int file;
	int r = hk_ref_get_real(server, req->head.nodeid, &dir);

	if (r == 0) {
		c.node = dir.node;
		c.flags = in->flags;
		r = hk_judge(server, req, &c);
	}
	if (r == 0) {
		r = hk_judge_change(server, &c, "create");
	}
	if (r == 0) {
		r = hk_fds_reserve(&server->nodes, true);
	}
	if (r < 0) {
		hk_ref_put(server, &dir);
		return r;
	}
	cred = hk_req_cred(dir.node->export, req);
	cred.umask = hk_fuse_has(server, FUSE_DONT_MASK) ? in->umask & 0777 : 0;
	mode = hk_policy_mode(dir.node->export, in->mode & 07777, false);
	flags = (int)hk_dax_open_flags(server, dir.node, S_IFREG, in->flags);
	/* Until its node is there, a rename would find nothing to move. */
	pthread_rwlock_rdlock(&server->nodes.rename_lock);
	if (name != NULL) {
		file = hk_ref_backend(&dir)->ops->create(
			hk_ref_backend(&dir), dir.obj, name, flags & CREATE_FLAGS, mode, &cred);
	} else {
		file = hk_ref_backend(&dir)->ops->tmpfile(hk_ref_backend(&dir), dir.obj,
			flags & (CREATE_FLAGS | O_EXCL), mode, &cred);
	}
	r = file < 0 ? file : enter_created(server, req, &dir, name, file, in->flags, out);
	pthread_rwlock_unlock(&server->nodes.rename_lock);
	if (r < 0) {
		hk_fds_release(&server->nodes, true);
	}
	if (file == -EEXIST && name != NULL && (flags & O_EXCL) == 0) {
		r = open_existing(server, req, &dir, name, in, out);
	} else {
		hk_judged(server, &c, r);
	}
	hk_ref_put(server, &dir);
	return r;
}

static int put_created(struct hk_req *req, const struct created *out)
{
	int r = hk_req_put(req, &out->entry, sizeof(out->entry));

	return r < 0 ? r : hk_req_put(req, &out->open, sizeof(out->open));
}

int hk_op_create(struct hk_fuse_server *server, struct hk_req *req)
{
	struct created out = {0};
	struct fuse_create_in in;
	hk_name name;
	int r = hk_req_take(req, &in, sizeof(in));

	if (r == 0) {
		r = hk_req_take_name(req, name);
	}
	if (r == 0) {
		r = create(server, req, name, &in, &out);
	}
	return r < 0 ? r : put_created(req, &out);
}

int hk_op_tmpfile(struct hk_fuse_server *server, struct hk_req *req)
{
	struct created out = {0};
	struct fuse_create_in in;
	/* A name follows, which is "/" and means nothing. */
	int r = hk_req_take(req, &in, sizeof(in));

	if (r == 0) {
		r = create(server, req, NULL, &in, &out);
	}
	return r < 0 ? r : put_created(req, &out);
}

int hk_op_release(struct hk_fuse_server *server, struct hk_req *req)
{
	struct fuse_release_in in;
	struct hk_handle *h;
	int r = hk_req_take(req, &in, sizeof(in));

	if (r < 0) {
		return r;
	}
	h = hk_handles_get(&server->handles, in.fh, req->head.nodeid);
	if (h == NULL) {
		return -EBADF;
	}
	if (h->dir == NULL && h->node->export->audit != NULL) {
		tell_of_close(server, h);
	}
	return hk_handle_release(&server->handles, h);
}
