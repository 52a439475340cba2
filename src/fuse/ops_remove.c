/* SPDX-License-Identifier: ISC */
/*
 * Names that go: UNLINK, RMDIR, RENAME.
 *
 * Theory: as in ops_name.c. A rename updates where nodes were seen last under the rename lock
 * (node_obj.c says why). Before a name goes away whose inode may live on (further hard links, a
 * directory that is somebody's current one), the object of a known node is opened, so that the node
 * stays good. Directories know whether they have had files with further names, so that removing
 * most files takes no look at them.
 *
 * Renames stay within one export: what is read-only in one must not become writable through
 * another.
 *
 * Limits: a file that the guest removes by the only name it knows, while the host has given it
 * another since, is gone for the guest (but for who has it open) until it looks that one up.
 */
#include <errno.h>
#include <linux/fs.h>

#include "base/util.h"
#include "fuse/server_impl.h"

/* The node of what stands at @name, pinned, if the guest knows it. */
static struct hk_node *find(struct hk_fuse_server *server, const struct hk_ref *dir,
	const char *name, struct hk_stat *st)
{
	hk_judge_key(server, dir, name, st);
	return hk_nodes_find(&server->nodes, dir->node->export, dir->node, name, st);
}

/*
 * The name is about to go. Return: the node that stands there, pinned and with its object open, if
 * the guest knows it and it may outlive the name; else NULL.
 */
static struct hk_node *hold_removed(
	struct hk_fuse_server *server, const struct hk_ref *dir, const char *name)
{
	struct hk_backend *backend = hk_ref_backend(dir);
	struct hk_handle *handle = NULL;
	struct hk_node *node;
	struct hk_stat st;

	if (backend->ops->lookup(backend, dir->obj, name, &st) < 0) {
		return NULL;
	}
	if (!S_ISDIR(st.mode) && st.nlink <= 1) {
		return NULL; /* open files have their handles */
	}
	node = find(server, dir, name, &st);
	if (node != NULL) {
		/* By the name that is still there: where it is at present known, it may have been
		 * removed. */
		if (hk_node_moved(&server->nodes, node, dir->node, name) == 0) {
			hk_node_obj(&server->nodes, node, &handle);
			hk_handle_put(&server->handles, handle);
		}
	}
	return node;
}

static int remove_entry(struct hk_fuse_server *server, struct hk_req *req, bool is_dir)
{
	struct hk_case c = {
		.op = is_dir ? HK_EVENT_RMDIR : HK_EVENT_UNLINK, .class = HK_CLASS_DELETE};
	struct hk_node *held = NULL;
	struct hk_ref dir = {0};
	hk_name name;
	int r = hk_req_take_name(req, name);

	if (r < 0) {
		return r;
	}
	r = hk_ref_get_real(server, req->head.nodeid, &dir);
	if (r == 0) {
		c.node = dir.node;
		c.name = name;
		r = hk_judge(server, req, &c);
	}
	if (r == 0) {
		r = hk_judge_change(server, &c, is_dir ? "remove directory" : "remove");
	}
	if (r == 0) {
		/* Without links, what goes has no other name. */
		if (is_dir || hk_node_has_links(&server->nodes, dir.node)) {
			held = hold_removed(server, &dir, name);
		}
		r = hk_judged(server, &c,
			hk_ref_backend(&dir)->ops->unlink(
				hk_ref_backend(&dir), dir.obj, name, is_dir));
	}
	hk_node_put(&server->nodes, held);
	hk_ref_put(server, &dir);
	return r;
}

int hk_op_unlink(struct hk_fuse_server *server, struct hk_req *req)
{
	return remove_entry(server, req, false);
}

int hk_op_rmdir(struct hk_fuse_server *server, struct hk_req *req)
{
	return remove_entry(server, req, true);
}

/*
 * Tells the node of what stands at @name now that it does, if there is one. It was at @old_name in
 * @old_dir.
 */
static void note_moved(struct hk_fuse_server *server, const struct hk_ref *old_dir,
	const char *old_name, const struct hk_ref *dir, const char *name)
{
	struct hk_backend *backend = hk_ref_backend(dir);
	struct hk_node *node;
	struct hk_stat st;

	if (backend->ops->lookup(backend, dir->obj, name, &st) < 0) {
		return;
	}
	hk_judge_key(server, dir, name, &st);
	node = hk_nodes_find(&server->nodes, dir->node->export, old_dir->node, old_name, &st);
	if (node != NULL) {
		hk_node_moved(&server->nodes, node, dir->node, name);
		if (st.nlink > 1) {
			hk_node_linked(&server->nodes, node);
		}
		if (node->ruling != st.ruling) {
			hk_node_ruled(&server->nodes, node, st.ruling);
		}
		hk_node_put(&server->nodes, node);
	}
}

/* Both names, and what stands at the new one, are touched. */
static int judge_rename(struct hk_fuse_server *server, const struct hk_req *req, struct hk_case *c,
	const struct hk_ref *old_dir, const char *old_name, const struct hk_ref *new_dir,
	const char *new_name, unsigned flags)
{
	struct hk_stat st;
	int r;

	c->node = old_dir->node;
	c->name = old_name;
	c->other = new_dir->node;
	c->other_name = new_name;
	r = hk_judge(server, req, c);
	if (r == 0) {
		r = hk_judge_also(server, c, new_dir->node, new_name, HK_CLASS_CREATE);
	}
	if (r == 0 && (flags & RENAME_EXCHANGE) != 0) {
		r = hk_judge_also(server, c, old_dir->node, old_name, HK_CLASS_CREATE);
	}
	if (r == 0 && new_dir->node->export->rules != NULL && (flags & RENAME_NOREPLACE) == 0 &&
		hk_ref_backend(new_dir)->ops->lookup(
			hk_ref_backend(new_dir), new_dir->obj, new_name, &st) == 0) {
		r = hk_judge_also(server, c, new_dir->node, new_name, HK_CLASS_DELETE);
	}
	return r;
}

static int rename_entry(struct hk_fuse_server *server, const struct hk_ref *old_dir,
	const char *old_name, const struct hk_ref *new_dir, const char *new_name, unsigned flags)
{
	struct hk_backend *backend = hk_ref_backend(old_dir);
	struct hk_node *held = NULL;
	int r;

	if ((flags & RENAME_EXCHANGE) == 0) {
		held = hold_removed(server, new_dir, new_name);
	}
	hk_nodes_rename_begin(&server->nodes);
	r = backend->ops->rename(backend, old_dir->obj, old_name, new_dir->obj, new_name, flags);
	if (r == 0) {
		note_moved(server, old_dir, old_name, new_dir, new_name);
	}
	if (r == 0 && (flags & RENAME_EXCHANGE) != 0) {
		note_moved(server, new_dir, new_name, old_dir, old_name);
	}
	hk_nodes_rename_end(&server->nodes);
	hk_node_put(&server->nodes, held);
	return r;
}

static int rename_request(
	struct hk_fuse_server *server, struct hk_req *req, uint64_t newdir, unsigned flags)
{
	struct hk_case c = {.op = HK_EVENT_RENAME, .class = HK_CLASS_DELETE, .flags = flags};
	struct hk_ref old_dir = {0};
	struct hk_ref new_dir = {0};
	hk_name old_name;
	hk_name new_name;
	int r = hk_req_take_name(req, old_name);

	if (r == 0) {
		r = hk_req_take_name(req, new_name);
	}
	if (r < 0) {
		return r;
	}
	if ((flags & ~(RENAME_NOREPLACE | RENAME_EXCHANGE | RENAME_WHITEOUT)) != 0) {
		return -EINVAL;
	}
	r = hk_ref_get_real(server, req->head.nodeid, &old_dir);
	if (r == 0) {
		r = hk_ref_get_real(server, newdir, &new_dir);
	}
	if (r == 0 && old_dir.node->export != new_dir.node->export) {
		r = -EXDEV;
	}
	if (r == 0) {
		r = judge_rename(server, req, &c, &old_dir, old_name, &new_dir, new_name, flags);
	}
	if (r == 0) {
		r = hk_judge_change(server, &c, "rename");
	}
	if (r == 0) {
		r = hk_policy_move(server, &old_dir, old_name, &new_dir, new_name, flags);
		if (r == 0) {
			r = rename_entry(server, &old_dir, old_name, &new_dir, new_name, flags);
		}
		r = hk_judged(server, &c, r);
	}
	hk_ref_put(server, &new_dir);
	hk_ref_put(server, &old_dir);
	return r;
}

int hk_op_rename(struct hk_fuse_server *server, struct hk_req *req)
{
	struct fuse_rename_in in;
	int r = hk_req_take(req, &in, sizeof(in));

	return r < 0 ? r : rename_request(server, req, in.newdir, 0);
}

int hk_op_rename2(struct hk_fuse_server *server, struct hk_req *req)
{
	struct fuse_rename2_in in;
	int r = hk_req_take(req, &in, sizeof(in));

	return r < 0 ? r : rename_request(server, req, in.newdir, in.flags);
}
