/* SPDX-License-Identifier: ISC */
/*
 * Names that come: LOOKUP and FORGET, making of entries, LINK, READLINK. Those that go are in
 * ops_remove.c.
 *
 * Theory: a handler pins the directory, asks the export's rules, lets the backend do it by one name
 * in one directory, and looks the name up again where the reply is an entry. Nodes remember where
 * they were seen last.
 *
 * Links stay within one export: what is read-only in one must not become writable through another.
 *
 * Limits: the synthetic root has its entries and takes no others (EROFS).
 */
#include <errno.h>
#include <linux/limits.h>
#include <string.h>

#include "base/util.h"
#include "fuse/server_impl.h"

/* The root of an export. */
static int enter_root(
	struct hk_fuse_server *server, struct hk_export *export, struct fuse_entry_out *entry)
{
	struct hk_backend *backend = export->backend;
	struct hk_stat st;
	int r = backend->ops->stat(backend, backend->root, &st);

	if (r < 0) {
		return r;
	}
	hk_node_lock(&server->nodes, export->node);
	export->node->lookups++;
	hk_node_unlock(&server->nodes, export->node);
	hk_entry_fill(server, export->node, &st, entry);
	return 0;
}

int hk_root_lookup(struct hk_fuse_server *server, const char *name, struct fuse_entry_out *entry)
{
	for (unsigned i = 0; i < server->export_count; i++) {
		if (strcmp(server->exports[i].name, name) == 0) {
			return enter_root(server, &server->exports[i], entry);
		}
	}
	return -ENOENT;
}

/* Enters what is at @name now. Return: -EAGAIN as hk_nodes_enter(). */
static int enter_once(struct hk_fuse_server *server, const struct hk_ref *dir, const char *name,
	uint32_t ruling, struct fuse_entry_out *entry)
{
	struct hk_backend *backend = hk_ref_backend(dir);
	uint64_t renames = hk_nodes_renames(&server->nodes);
	struct hk_node *node;
	struct hk_stat st;
	int r = backend->ops->lookup(backend, dir->obj, name, &st);

	if (r < 0) {
		return r;
	}
	st.ruling = S_ISDIR(st.mode) ? 0 : ruling;
	r = hk_nodes_enter(
		&server->nodes, dir->node->export, dir->node, name, &st, 1, renames, &node);
	if (r == 0) {
		hk_entry_fill(server, node, &st, entry);
		hk_node_put(&server->nodes, node);
	}
	return r;
}

/* Looks @name up and enters it, as what the rules make of it. */
static int enter_ruled(struct hk_fuse_server *server, const struct hk_ref *dir, const char *name,
	uint32_t ruling, struct fuse_entry_out *entry)
{
	int r = enter_once(server, dir, name, ruling, entry);

	if (r == -EAGAIN) {
		pthread_rwlock_rdlock(&server->nodes.rename_lock);
		r = enter_once(server, dir, name, ruling, entry);
		pthread_rwlock_unlock(&server->nodes.rename_lock);
	}
	return r;
}

/*
 * Enters what is at @path, from the root of @export on; no component but the last may be a symbolic
 * link.
 */
static int enter_path(struct hk_fuse_server *server, struct hk_export *export, const char *path,
	struct fuse_entry_out *entry)
{
	struct hk_entry_rules rules;
	struct hk_ref dir;
	hk_name name;
	int r;

	if (*path == '\0') {
		return enter_root(server, export, entry);
	}
	r = hk_ref_get(server, hk_node_id(export->node), &dir);
	while (r == 0) {
		size_t len = strcspn(path, "/");
		struct hk_ref next = {0};

		if (len >= sizeof(name)) {
			r = -ENAMETOOLONG;
			break;
		}
		memcpy(name, path, len);
		name[len] = '\0';
		/* Its own rules are not asked whether it is there: it stands in. */
		hk_judge_entry(server, &dir, name, &rules);
		r = enter_ruled(server, &dir, name, rules.ruling, entry);
		path += len + strspn(path + len, "/");
		if (r < 0 || *path == '\0') {
			break;
		}
		/* Of the directories on the way the guest learns nothing. */
		r = hk_ref_get(server, entry->nodeid, &next);
		hk_nodes_forget(&server->nodes, entry->nodeid, 1);
		hk_ref_put(server, &dir);
		dir = next;
	}
	hk_ref_put(server, &dir);
	return r;
}

int hk_lookup_enter(struct hk_fuse_server *server, const struct hk_ref *dir, const char *name,
	struct fuse_entry_out *entry)
{
	struct hk_entry_rules rules;

	hk_judge_entry(server, dir, name, &rules);
	if (rules.is_hidden) {
		return -ENOENT;
	}
	return rules.target != NULL ? enter_path(server, rules.export, rules.target, entry)
				    : enter_ruled(server, dir, name, rules.ruling, entry);
}

int hk_op_lookup(struct hk_fuse_server *server, struct hk_req *req)
{
	struct fuse_entry_out entry = {0};
	struct hk_ref dir = {0};
	hk_name name;
	bool long_cache = true;
	int r = hk_req_take_name(req, name);

	if (r < 0) {
		return r;
	}
	r = hk_ref_get(server, req->head.nodeid, &dir);
	if (r == 0 && dir.obj < 0) {
		r = hk_root_lookup(server, name, &entry);
	} else if (r == 0) {
		long_cache = dir.node->export->long_cache;
		r = hk_policy_search(server, &dir, name);
		if (r == 0) {
			r = hk_lookup_enter(server, &dir, name, &entry);
		}
		if (r == -ENOENT) {
			hk_judge_missing(server, req, &dir, name);
		}
	}
	hk_ref_put(server, &dir);
	if (r == -ENOENT) {
		/* Nodeid 0 with a time is a negative entry, which the guest may remember. */
		entry = (struct fuse_entry_out){.entry_valid = long_cache ? 86400 : 1};
		r = 0;
	}
	return r < 0 ? r : hk_req_put(req, &entry, sizeof(entry));
}

int hk_op_forget(struct hk_fuse_server *server, struct hk_req *req)
{
	struct fuse_forget_in in;

	if (hk_req_take(req, &in, sizeof(in)) == 0) {
		hk_nodes_forget(&server->nodes, req->head.nodeid, in.nlookup);
	}
	return HK_REQ_NO_REPLY;
}

int hk_op_batch_forget(struct hk_fuse_server *server, struct hk_req *req)
{
	struct fuse_batch_forget_in in;
	struct fuse_forget_one one;

	if (hk_req_take(req, &in, sizeof(in)) < 0) {
		return HK_REQ_NO_REPLY;
	}
	for (uint32_t i = 0; i < in.count && hk_req_take(req, &one, sizeof(one)) == 0; i++) {
		hk_nodes_forget(&server->nodes, one.nodeid, one.nlookup);
	}
	return HK_REQ_NO_REPLY;
}

/* What mknod, mkdir and symlink have in common. */
struct make {
	enum { MAKE_NODE, MAKE_DIR, MAKE_SYMLINK } kind;
	mode_t mode;
	mode_t umask;
	uint64_t rdev;
	const char *target;
	const char *operation;
	enum hk_event_op event;
};

static int make_entry(const struct hk_ref *dir, const char *name, const struct make *make,
	const struct hk_cred *cred)
{
	struct hk_backend *backend = hk_ref_backend(dir);

	switch (make->kind) {
	case MAKE_NODE:
		return backend->ops->mknod(backend, dir->obj, name,
			hk_policy_mode(dir->node->export, make->mode, false), make->rdev, cred);
	case MAKE_DIR:
		return backend->ops->mkdir(backend, dir->obj, name, make->mode, cred);
	case MAKE_SYMLINK:
		return backend->ops->symlink(backend, dir->obj, name, make->target, cred);
	}
	return -EINVAL;
}

static int make(struct hk_fuse_server *server, struct hk_req *req, const char *name,
	const struct make *make)
{
	struct fuse_entry_out entry;
	struct hk_case c = {0};
	struct hk_ref dir;
	int r = hk_ref_get_real(server, req->head.nodeid, &dir);

	if (r == 0) {
		c = (struct hk_case){.op = make->event,
			.class = HK_CLASS_CREATE,
			.node = dir.node,
			.name = name,
			.flags = make->mode};
		r = hk_judge(server, req, &c);
	}
	if (r == 0) {
		r = hk_judge_change(server, &c, make->operation);
	}
	if (r == 0) {
		struct hk_cred cred = hk_req_cred(dir.node->export, req);

		cred.umask = hk_fuse_has(server, FUSE_DONT_MASK) ? make->umask & 0777 : 0;
		r = hk_judged(server, &c, make_entry(&dir, name, make, &cred));
	}
	if (r == 0) {
		r = hk_lookup_enter(server, &dir, name, &entry);
	}
	hk_ref_put(server, &dir);
	return r < 0 ? r : hk_req_put(req, &entry, sizeof(entry));
}

int hk_op_mknod(struct hk_fuse_server *server, struct hk_req *req)
{
	struct fuse_mknod_in in;
	hk_name name;
	int r = hk_req_take(req, &in, sizeof(in));

	if (r == 0) {
		r = hk_req_take_name(req, name);
	}
	if (r < 0) {
		return r;
	}
	if (S_ISDIR(in.mode) || S_ISLNK(in.mode)) {
		return -EINVAL;
	}
	return make(server, req, name,
		&(struct make){.kind = MAKE_NODE,
			.mode = in.mode,
			.umask = in.umask,
			.rdev = in.rdev,
			.operation = "create",
			.event = HK_EVENT_MKNOD});
}

int hk_op_mkdir(struct hk_fuse_server *server, struct hk_req *req)
{
	struct fuse_mkdir_in in;
	hk_name name;
	int r = hk_req_take(req, &in, sizeof(in));

	if (r == 0) {
		r = hk_req_take_name(req, name);
	}
	if (r < 0) {
		return r;
	}
	return make(server, req, name,
		&(struct make){.kind = MAKE_DIR,
			.mode = in.mode & 07777,
			.umask = in.umask,
			.operation = "create directory",
			.event = HK_EVENT_MKDIR});
}

int hk_op_symlink(struct hk_fuse_server *server, struct hk_req *req)
{
	char target[PATH_MAX];
	hk_name name;
	int r = hk_req_take_name(req, name);

	if (r == 0) {
		r = hk_req_take_string(req, target, sizeof(target));
	}
	if (r < 0) {
		return r;
	}
	return make(server, req, name,
		&(struct make){.kind = MAKE_SYMLINK,
			.target = target,
			.operation = "create link",
			.event = HK_EVENT_SYMLINK});
}

int hk_op_readlink(struct hk_fuse_server *server, struct hk_req *req)
{
	struct hk_case c = {.op = HK_EVENT_READLINK, .class = HK_CLASS_READ};
	char target[PATH_MAX];
	struct hk_ref ref;
	ssize_t len = hk_ref_get_real(server, req->head.nodeid, &ref);

	if (len == -EROFS) {
		len = -EINVAL;
	}
	if (len == 0) {
		c.node = ref.node;
		len = hk_judge(server, req, &c);
	}
	if (len == 0) {
		len = hk_ref_backend(&ref)->ops->readlink(
			hk_ref_backend(&ref), ref.obj, target, sizeof(target));
		hk_judged(server, &c, len < 0 ? (int)len : 0);
	}
	hk_ref_put(server, &ref);
	return len < 0 ? (int)len : hk_req_put(req, target, (size_t)len);
}

/*
 * A further name must not lend its rights: who may not read or write the file by its old one may
 * not link it; nor who may do anything else by the new one only.
 */
static int judge_link(struct hk_fuse_server *server, const struct hk_req *req, struct hk_case *c,
	const struct hk_ref *dir, const char *name, const struct hk_ref *old)
{
	static const enum hk_class needed[] = {HK_CLASS_LINK, HK_CLASS_READ, HK_CLASS_WRITE};
	static const enum hk_class lent[] = {HK_CLASS_EXEC, HK_CLASS_METADATA};
	int r;

	c->node = dir->node;
	c->name = name;
	c->other = old->node;
	r = hk_judge(server, req, c);
	for (unsigned i = 0; r == 0 && i < HK_ARRAY_SIZE(needed); i++) {
		r = hk_judge_also(server, c, old->node, NULL, needed[i]);
	}
	for (unsigned i = 0; r == 0 && i < HK_ARRAY_SIZE(lent); i++) {
		if (hk_judge_lends(server, dir, name, old->node, lent[i])) {
			r = hk_judge_also(server, c, old->node, NULL, lent[i]);
		}
	}
	return r;
}

int hk_op_link(struct hk_fuse_server *server, struct hk_req *req)
{
	struct fuse_entry_out entry;
	struct fuse_link_in in;
	struct hk_ref dir = {0};
	struct hk_ref old = {0};
	struct hk_case c = {.op = HK_EVENT_LINK, .class = HK_CLASS_CREATE};
	hk_name name;
	int r = hk_req_take(req, &in, sizeof(in));

	if (r == 0) {
		r = hk_req_take_name(req, name);
	}
	if (r < 0) {
		return r;
	}
	r = hk_ref_get_real(server, req->head.nodeid, &dir);
	if (r == 0) {
		r = hk_ref_get_real(server, in.oldnodeid, &old);
	}
	if (r == 0 && old.node->export != dir.node->export) {
		r = -EXDEV;
	}
	if (r == 0) {
		r = judge_link(server, req, &c, &dir, name, &old);
	}
	if (r == 0) {
		r = hk_judge_change(server, &c, "link");
	}
	if (r == 0) {
		r = hk_judged(server, &c,
			hk_ref_backend(&dir)->ops->link(
				hk_ref_backend(&dir), old.obj, dir.obj, name));
	}
	if (r == 0) {
		r = hk_lookup_enter(server, &dir, name, &entry);
	}
	hk_ref_put(server, &old);
	hk_ref_put(server, &dir);
	return r < 0 ? r : hk_req_put(req, &entry, sizeof(entry));
}
