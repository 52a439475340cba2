/* SPDX-License-Identifier: ISC */
/*
 * Directories: READDIR and READDIRPLUS, with or without OPENDIR; FSYNCDIR.
 *
 * Theory: a guest that can do without OPENDIR (dir.h) is told so once. Each request then names a
 * directory and a position. READDIRPLUS gives with each name what LOOKUP would have given, for one
 * stat each, and nothing is opened. The entries of the synthetic root are the exports; their
 * positions are 1, 2, ...
 *
 * Limits: d_ino of "..", and of a directory on which the host has mounted something, are those of
 * the host's getdents.
 */
#include <dirent.h>
#include <errno.h>
#include <string.h>

#include "base/util.h"
#include "fuse/server_impl.h"

/* One entry to be given. */
struct item {
	const char *name;
	size_t name_len;
	uint64_t ino;
	uint64_t next;
	uint32_t type;
	bool is_dot; /* "." or "..": not looked up */
};

static bool is_dot(const char *name)
{
	return name[0] == '.' && (name[1] == '\0' || (name[1] == '.' && name[2] == '\0'));
}

static bool fits(const struct hk_req *req, size_t limit, size_t len)
{
	return req->payload_len + len <= limit && len <= hk_req_room(req);
}

static size_t padding(size_t len)
{
	return (size_t)hk_align_up(len, sizeof(uint64_t)) - len;
}

/* The fuse_dirent and its name, padded. There is room. */
static void put_dirent(struct hk_req *req, const struct item *item, uint64_t ino)
{
	static const char zeros[sizeof(uint64_t)];
	struct fuse_dirent dirent = {
		.ino = ino,
		.off = item->next,
		.namelen = (uint32_t)item->name_len,
		.type = item->type,
	};

	hk_req_put(req, &dirent, FUSE_NAME_OFFSET);
	hk_req_put(req, item->name, item->name_len);
	hk_req_put(req, zeros, padding(FUSE_NAME_OFFSET + item->name_len));
}

/*
 * Looks up what goes with an entry. One that cannot be looked up (gone meanwhile, or not permitted)
 * is given without: the guest asks again if it wants to know.
 */
static void fill_entry(struct hk_fuse_server *server, const struct hk_ref *dir,
	const struct item *item, struct fuse_entry_out *entry)
{
	int r = -ENOENT;

	memset(entry, 0, sizeof(*entry));
	if (item->is_dot) {
		return;
	}
	if (dir->obj < 0) {
		r = hk_root_lookup(server, item->name, entry);
	} else {
		r = hk_lookup_enter(server, dir, item->name, entry);
	}
	if (r < 0) {
		memset(entry, 0, sizeof(*entry));
	}
}

/* Return: true if it had room. */
static bool put_item(struct hk_fuse_server *server, struct hk_req *req, const struct hk_ref *dir,
	const struct item *item, bool plus, size_t limit)
{
	size_t len = FUSE_NAME_OFFSET + item->name_len;
	struct fuse_entry_out entry;

	len += padding(len);
	if (!fits(req, limit, len + (plus ? sizeof(entry) : 0))) {
		return false;
	}
	if (plus) {
		fill_entry(server, dir, item, &entry);
		hk_req_put(req, &entry, sizeof(entry));
	}
	put_dirent(req, item, plus && entry.nodeid != 0 ? entry.attr.ino : item->ino);
	return true;
}

static int list_root(struct hk_fuse_server *server, struct hk_req *req, const struct hk_ref *dir,
	uint64_t position, bool plus, size_t limit)
{
	for (uint64_t i = position; i < (uint64_t)server->export_count + 2; i++) {
		const struct hk_export *export = i < 2 ? NULL : &server->exports[i - 2];
		struct item item = {
			.next = i + 1, .ino = FUSE_ROOT_ID, .type = DT_DIR, .is_dot = true};

		if (export == NULL) {
			item.name = i == 0 ? "." : "..";
		} else {
			item.name = export->name;
			item.is_dot = false;
			item.ino = hk_guest_ino(server, export->node->dev, export->node->ino);
			item.type = (export->node->mode & S_IFMT) >> 12;
		}
		item.name_len = strlen(item.name);
		if (!put_item(server, req, dir, &item, plus, limit)) {
			break;
		}
	}
	return 0;
}

/* Fills the reply from @listing. Return: 0 or -errno. */
static int list(struct hk_fuse_server *server, struct hk_req *req, const struct hk_ref *dir,
	struct hk_dir *listing, bool plus, size_t limit)
{
	const struct hk_dirent *entry;
	int r;

	while ((r = hk_dir_peek(listing, &entry)) > 0) {
		struct item item = {
			.name = entry->name,
			.name_len = strlen(entry->name),
			.ino = hk_guest_ino(server, dir->node->dev, entry->ino),
			.next = entry->next,
			.type = entry->type,
			.is_dot = is_dot(entry->name),
		};

		if (!item.is_dot && hk_judge_hides(server, dir, item.name)) {
			hk_dir_step(listing);
			continue;
		}
		if (!put_item(server, req, dir, &item, plus, limit)) {
			return 0;
		}
		hk_dir_step(listing);
	}
	/* An error after some entries comes again with the next request. */
	return r < 0 && req->payload_len > 0 ? 0 : r;
}

/* May this directory be listed? The case is told by the caller, once for each listing. */
static int check_listable(struct hk_fuse_server *server, const struct hk_req *req,
	const struct hk_ref *dir, bool plus, struct hk_case *c)
{
	struct hk_stat st;
	int r;

	*c = (struct hk_case){.op = HK_EVENT_LIST, .class = HK_CLASS_LIST, .node = dir->node};
	r = hk_judge(server, req, c);
	if (r < 0 || !dir->node->export->public_only) {
		return r;
	}
	r = hk_ref_backend(dir)->ops->stat(hk_ref_backend(dir), dir->obj, &st);
	if (r == 0) {
		r = hk_policy_read(server, dir, st.mode, "list");
	}
	return r < 0 || !plus ? r : hk_policy_search(server, dir, NULL);
}

static int open_listing(
	struct hk_fuse_server *server, const struct hk_ref *dir, struct hk_dir **ret_listing)
{
	int r = hk_dir_open(
		&server->nodes, hk_ref_backend(dir), dir->obj, hk_node_id(dir->node), ret_listing);

	if (r == -ENFILE) {
		hk_dirs_drop_all(&server->dirs);
		r = hk_dir_open(&server->nodes, hk_ref_backend(dir), dir->obj,
			hk_node_id(dir->node), ret_listing);
	}
	return r;
}

/*
 * A listing nobody opened: one that is kept, or a new one. Where it goes on is the guest's word,
 * and any program's that seeks: so each request is judged. Told of is where it begins, and what
 * gives names from somewhere on that no kept one has come to.
 */
static int list_unopened(struct hk_fuse_server *server, struct hk_req *req,
	const struct hk_ref *dir, uint64_t position, bool plus, size_t limit)
{
	struct hk_dir *listing = NULL;
	struct hk_case c;
	bool goes_on = false;
	int r = check_listable(server, req, dir, plus, &c);

	if (r < 0) {
		return hk_judged(server, &c, r);
	}
	if (position != 0) {
		listing = hk_dirs_take(&server->dirs, hk_node_id(dir->node), position);
		goes_on = listing != NULL;
	} else {
		hk_attr_note_listed(server, dir);
	}
	if (listing == NULL) {
		r = open_listing(server, dir, &listing);
		if (r == 0) {
			r = hk_dir_seek(listing, position);
		}
	}
	if (r == 0) {
		r = list(server, req, dir, listing, plus, limit);
	}
	if (position == 0 || (!goes_on && (r < 0 || req->payload_len > 0))) {
		hk_judged(server, &c, r);
	}
	if (listing != NULL && (r < 0 || req->payload_len == 0)) {
		hk_dir_close(&server->nodes, listing);
	} else if (listing != NULL) {
		hk_dirs_keep(&server->dirs, listing);
	}
	return r;
}

/* A listing the guest has opened. Another thread may be reading it too, if the guest is odd. */
static int list_opened(struct hk_fuse_server *server, struct hk_req *req, const struct hk_ref *dir,
	const struct fuse_read_in *in, bool plus, size_t limit)
{
	struct hk_handle *h = hk_handles_get(&server->handles, in->fh, req->head.nodeid);
	int r = -EBADF;

	if (h != NULL && h->dir == NULL) {
		r = h->file < 0 ? -ESTALE : -ENOTDIR;
	} else if (h != NULL) {
		pthread_mutex_lock(&h->dir->lock);
		r = hk_dir_seek(h->dir, in->offset);
		if (r == 0) {
			r = list(server, req, dir, h->dir, plus, limit);
		}
		pthread_mutex_unlock(&h->dir->lock);
	}
	hk_handle_put(&server->handles, h);
	return r;
}

static int read_dir(struct hk_fuse_server *server, struct hk_req *req, bool plus)
{
	struct fuse_read_in in;
	struct hk_ref dir = {0};
	int r = hk_req_take(req, &in, sizeof(in));

	if (r < 0) {
		return r;
	}
	r = hk_ref_get(server, req->head.nodeid, &dir);
	if (r == 0 && dir.obj < 0) {
		r = list_root(server, req, &dir, in.offset, plus, in.size);
	} else if (r == 0 && in.fh != 0) {
		r = list_opened(server, req, &dir, &in, plus, in.size);
	} else if (r == 0) {
		r = list_unopened(server, req, &dir, in.offset, plus, in.size);
	}
	hk_ref_put(server, &dir);
	return r;
}

int hk_op_readdir(struct hk_fuse_server *server, struct hk_req *req)
{
	return read_dir(server, req, false);
}

int hk_op_readdirplus(struct hk_fuse_server *server, struct hk_req *req)
{
	return read_dir(server, req, true);
}

int hk_op_opendir(struct hk_fuse_server *server, struct hk_req *req)
{
	struct fuse_open_out out = {0};
	struct fuse_open_in in;
	struct hk_dir *listing = NULL;
	struct hk_ref dir = {0};
	struct hk_case c;
	int r = hk_req_take(req, &in, sizeof(in));

	if (r < 0) {
		return r;
	}
	if (hk_fuse_has(server, FUSE_NO_OPENDIR_SUPPORT)) {
		return -ENOSYS;
	}
	r = hk_ref_get(server, req->head.nodeid, &dir);
	if (r == 0 && dir.obj >= 0) {
		r = check_listable(server, req, &dir, false, &c);
		if (r == 0) {
			r = open_listing(server, &dir, &listing);
		}
		hk_judged(server, &c, r);
		if (r == 0) {
			r = hk_handles_add(&server->handles, dir.node, listing->file, listing,
				in.flags, NULL, &out.fh);
		}
		if (r < 0) {
			hk_dir_close(&server->nodes, listing);
		}
	}
	/* The synthetic root needs no handle: 0. */
	hk_ref_put(server, &dir);
	return r < 0 ? r : hk_req_put(req, &out, sizeof(out));
}

int hk_op_fsyncdir(struct hk_fuse_server *server, struct hk_req *req)
{
	struct fuse_fsync_in in;
	struct hk_ref dir = {0};
	int r = hk_req_take(req, &in, sizeof(in));

	if (r < 0) {
		return r;
	}
	r = hk_ref_get(server, req->head.nodeid, &dir);
	if (r == 0 && dir.obj >= 0) {
		struct hk_backend *backend = hk_ref_backend(&dir);
		struct hk_dir *listing;

		r = open_listing(server, &dir, &listing);
		if (r == 0) {
			r = backend->ops->fsync(backend, listing->file,
				(in.fsync_flags & FUSE_FSYNC_FDATASYNC) != 0);
			hk_dir_close(&server->nodes, listing);
		}
	}
	hk_ref_put(server, &dir);
	return r;
}
