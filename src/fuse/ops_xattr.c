/* SPDX-License-Identifier: ISC */
/*
 * Extended attributes.
 *
 * Theory: names of the classes user and trusted, and security.capability, go to the backend as they
 * are; the host decides what the monitor may do. All others do not exist for the guest: labels of
 * the host's security modules mean nothing to it, and ACLs (system.posix_acl_*) would be enforced
 * with the wrong ids, unless the exports say that they are the right ones.
 *
 * Rules: user and trusted attributes are data, so who may not read a file sees none. The others,
 * and the list of names, are told like what stat(2) tells.
 *
 * Limits: as the kernel's: 64 KiB for a value and for a list.
 */
#include <errno.h>
#include <linux/limits.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/util.h"
#include "fuse/server_impl.h"

typedef char xattr_name[XATTR_NAME_MAX + 1];

/* What fits here needs no allocation: capabilities and most of what users store. */
enum { SMALL_VALUE = 1024 };

#define NO_CAPABILITY_NS (HK_NS_PER_SEC)

static bool is_acl(const char *name)
{
	return strcmp(name, "system.posix_acl_access") == 0 ||
		strcmp(name, "system.posix_acl_default") == 0;
}

static bool is_shown(struct hk_fuse_server *server, const char *name)
{
	return strncmp(name, "user.", 5) == 0 || strncmp(name, "trusted.", 8) == 0 ||
		strcmp(name, "security.capability") == 0 ||
		(is_acl(name) && hk_fuse_has(server, FUSE_POSIX_ACL));
}

static int take_xattr_name(struct hk_fuse_server *server, struct hk_req *req, xattr_name name)
{
	int r = hk_req_take_string(req, name, sizeof(xattr_name));

	if (r < 0) {
		return r == -ENAMETOOLONG ? -ERANGE : r;
	}
	if (name[0] == '\0') {
		return -ERANGE;
	}
	return is_shown(server, name) ? 0 : -EOPNOTSUPP;
}

/*
 * Is it the user's, as data is, and may be read by who may read the file? All else is like what
 * stat(2) tells.
 */
static bool is_data(const char *name)
{
	return strncmp(name, "user.", 5) == 0 || strncmp(name, "trusted.", 8) == 0;
}

/*
 * Do rules keep its data from everybody? Then it has no such attributes, and nobody is told: `cp
 * -a` asks for them.
 */
static bool is_unreadable(struct hk_fuse_server *server, struct hk_node *node)
{
	struct hk_rules *rules = node->export->rules;
	enum hk_verdict verdict;
	hk_place place;

	if (rules == NULL || !hk_judge_place(server, node, &place)) {
		return false;
	}
	verdict = hk_rules_at(rules, place, HK_CLASS_READ).verdict;
	return verdict == HK_VERDICT_DENY || verdict == HK_VERDICT_HIDE;
}

/* Where programs look for attributes: a node that is open, or the entry @name of @dir. */
struct target {
	struct hk_ref ref;
	struct hk_ref dir; /* with an object: this one's entry is meant */
	hk_name name;
};

static void put_target(struct hk_fuse_server *server, struct target *target)
{
	hk_ref_put(server, &target->dir);
	hk_ref_put(server, &target->ref);
}

static bool is_by_name(const struct target *target)
{
	return target->dir.node != NULL;
}

/*
 * Is the node still where it was seen last? Then an object of its own, which `ls -l` would have us
 * open for each file, is not needed.
 */
static bool find_by_name(struct hk_fuse_server *server, struct target *target)
{
	struct hk_backend *backend = hk_ref_backend(&target->ref);
	struct hk_node *node = target->ref.node;
	struct hk_stat st;
	uint64_t dir = backend->ops->getxattr_at != NULL
		? hk_node_seen_at(&server->nodes, node, target->name)
		: 0;
	bool found;

	if (dir == 0) {
		return false;
	}
	found = hk_ref_get(server, dir, &target->dir) == 0 && target->dir.obj >= 0 &&
		backend->ops->lookup(backend, target->dir.obj, target->name, &st) == 0;
	if (found) {
		hk_node_lock(&server->nodes, node);
		found = hk_node_is_same(node, &st);
		hk_node_unlock(&server->nodes, node);
	}
	if (!found) {
		hk_ref_put(server, &target->dir);
		target->dir = (struct hk_ref){0};
	}
	return found;
}

/* Release with put_target() in any case. */
static int find_target(struct hk_fuse_server *server, uint64_t nodeid, struct target *target)
{
	struct hk_ref *ref = &target->ref;

	*target = (struct target){.ref = {.node = hk_nodes_get(&server->nodes, nodeid), .obj = -1}};
	if (ref->node == NULL) {
		return -ESTALE;
	}
	if (ref->node->export == NULL) {
		return -ENODATA;
	}
	ref->obj = hk_node_obj_at_hand(&server->nodes, ref->node, &ref->handle);
	if (ref->obj == -EAGAIN) {
		if (find_by_name(server, target)) {
			return 0;
		}
		ref->obj = hk_node_obj(&server->nodes, ref->node, &ref->handle);
	}
	return ref->obj < 0 ? ref->obj : 0;
}

static int stat_target(const struct target *target, struct hk_stat *st)
{
	struct hk_backend *backend = hk_ref_backend(&target->ref);

	return is_by_name(target) ? backend->ops->lookup(backend, target->dir.obj, target->name, st)
				  : backend->ops->stat(backend, target->ref.obj, st);
}

/*
 * May the attribute, or (NULL) the list of all, be read, as the host would have it? Return: 0,
 * -ENODATA, or what stat gave.
 */
static int check_readable(
	struct hk_fuse_server *server, const struct target *target, const char *name)
{
	struct hk_stat st;
	int r;

	if (name != NULL && is_data(name) && is_unreadable(server, target->ref.node)) {
		return -ENODATA;
	}
	if (!target->ref.node->export->public_only) {
		return 0;
	}
	r = stat_target(target, &st);
	if (r < 0) {
		return r;
	}
	/* Asked for each program that starts, readable or not, so it is no denial worth telling. */
	return S_ISLNK(st.mode) || (st.mode & S_IROTH) != 0 ? 0 : -ENODATA;
}

/*
 * Kernels ask for security.capability before they run a file, and before they change its owner,
 * times or data: several times for each file that tar(1) unpacks. Mostly there is none. That is
 * kept for as long as attributes are, and no more once the guest has set one.
 */
static bool is_capability(const char *name)
{
	return strcmp(name, "security.capability") == 0;
}

static bool has_no_capability(struct hk_fuse_server *server, struct hk_node *node)
{
	int64_t until_ns;

	hk_node_lock(&server->nodes, node);
	until_ns = node->no_capability_until_ns;
	hk_node_unlock(&server->nodes, node);
	return until_ns != 0 && hk_host_now_ns() < until_ns;
}

void hk_xattr_note_no_capability(struct hk_fuse_server *server, struct hk_node *node)
{
	int64_t until_ns = hk_host_now_ns() + NO_CAPABILITY_NS;

	hk_node_lock(&server->nodes, node);
	if (!node->may_have_capability) {
		node->no_capability_until_ns = until_ns;
	}
	hk_node_unlock(&server->nodes, node);
}

/* Before it is set: who asks meanwhile must not note afterwards what was true before. */
static void note_capability(struct hk_fuse_server *server, struct hk_node *node)
{
	hk_node_lock(&server->nodes, node);
	node->may_have_capability = true;
	node->no_capability_until_ns = 0;
	hk_node_unlock(&server->nodes, node);
}

/* A length, or the bytes, as GETXATTR and LISTXATTR answer. */
static int put_sized(struct hk_req *req, uint32_t asked, const void *bytes, size_t len)
{
	struct fuse_getxattr_out out = {.size = (uint32_t)len};

	if (asked == 0) {
		return hk_req_put(req, &out, sizeof(out));
	}
	return len > asked ? -ERANGE : hk_req_put(req, bytes, len);
}

static ssize_t get(
	struct hk_fuse_server *server, uint64_t nodeid, const char *name, void *value, size_t size)
{
	struct target target;
	ssize_t len = find_target(server, nodeid, &target);

	if (len == 0 && is_capability(name) && has_no_capability(server, target.ref.node)) {
		len = -ENODATA;
	}
	if (len == 0) {
		len = check_readable(server, &target, name);
	}
	if (len == 0) {
		struct hk_backend *backend = hk_ref_backend(&target.ref);

		len = is_by_name(&target)
			? backend->ops->getxattr_at(
				  backend, target.dir.obj, target.name, name, value, size)
			: backend->ops->getxattr(backend, target.ref.obj, name, value, size);
		if (len == -ENODATA && is_capability(name)) {
			hk_xattr_note_no_capability(server, target.ref.node);
		}
	}
	put_target(server, &target);
	return len;
}

int hk_op_getxattr(struct hk_fuse_server *server, struct hk_req *req)
{
	struct fuse_getxattr_in in;
	xattr_name name;
	char small[SMALL_VALUE];
	autofree char *large = NULL;
	char *value = small;
	ssize_t len;
	int r = hk_req_take(req, &in, sizeof(in));

	if (r == 0) {
		r = take_xattr_name(server, req, name);
	}
	if (r < 0) {
		return r;
	}
	in.size = HK_MIN(in.size, (uint32_t)XATTR_SIZE_MAX);
	if (in.size > sizeof(small)) {
		large = hk_malloc(in.size);
		if (large == NULL) {
			return -ENOMEM;
		}
		value = large;
	}
	len = get(server, req->head.nodeid, name, value, in.size);
	return len < 0 ? (int)len : put_sized(req, in.size, value, (size_t)len);
}

/* Drops the names that are not shown. Return: the new length. */
static size_t filter_names(struct hk_fuse_server *server, char *names, size_t len)
{
	size_t kept = 0;

	for (size_t at = 0; at < len;) {
		size_t n = strnlen(names + at, len - at - 1) + 1;

		if (is_shown(server, names + at)) {
			memmove(names + kept, names + at, n);
			kept += n;
		}
		at += n;
	}
	return kept;
}

int hk_op_listxattr(struct hk_fuse_server *server, struct hk_req *req)
{
	struct fuse_getxattr_in in;
	struct target target = {0};
	autofree char *names = NULL;
	ssize_t len = 0;
	int r = hk_req_take(req, &in, sizeof(in));

	if (r < 0) {
		return r;
	}
	r = hk_ref_get(server, req->head.nodeid, &target.ref);
	if (r == 0) {
		r = target.ref.obj < 0 ? -ENODATA : check_readable(server, &target, NULL);
	}
	if (r == 0) {
		struct hk_backend *backend = hk_ref_backend(&target.ref);
		int obj = target.ref.obj;

		/* Mostly there is none, and then no buffer is needed. */
		len = backend->ops->listxattr(backend, obj, NULL, 0);
		if (len > 0) {
			names = hk_malloc(XATTR_LIST_MAX);
			len = names == NULL
				? -ENOMEM
				: backend->ops->listxattr(backend, obj, names, XATTR_LIST_MAX);
		}
		r = len < 0 ? (int)len : 0;
	}
	put_target(server, &target);
	if (r == -ENODATA) {
		r = 0;
		len = 0;
	}
	if (r < 0) {
		return r;
	}
	return put_sized(
		req, in.size, names, len > 0 ? filter_names(server, names, (size_t)len) : 0);
}

/* An ACL may say more of the mode than who is not in the group may. */
static int drop_setgid(const struct hk_ref *ref)
{
	struct hk_backend *backend = hk_ref_backend(ref);
	struct hk_stat st;
	int r = backend->ops->stat(backend, ref->obj, &st);

	if (r < 0 || (st.mode & S_ISGID) == 0) {
		return r;
	}
	return backend->ops->chmod(backend, ref->obj, st.mode & (07777 & ~S_ISGID));
}

int hk_op_setxattr(struct hk_fuse_server *server, struct hk_req *req)
{
	struct hk_case c = {.op = HK_EVENT_SETXATTR, .class = HK_CLASS_METADATA};
	struct fuse_setxattr_in in = {0};
	struct hk_ref ref = {0};
	xattr_name name;
	autofree char *value = NULL;
	/* Without SETXATTR_EXT, which comes with ACLs only, the rest of the struct is not sent. */
	int r = hk_req_take(req, &in,
		hk_fuse_has(server, FUSE_SETXATTR_EXT) ? sizeof(in) : FUSE_COMPAT_SETXATTR_IN_SIZE);

	if (r == 0) {
		r = take_xattr_name(server, req, name);
	}
	if (r < 0) {
		return r;
	}
	if (in.size > XATTR_SIZE_MAX) {
		return -E2BIG;
	}
	value = hk_malloc(in.size);
	if (value == NULL) {
		return -ENOMEM;
	}
	r = hk_req_take(req, value, in.size);
	if (r < 0) {
		return r;
	}
	r = hk_ref_get_real(server, req->head.nodeid, &ref);
	if (r == 0) {
		c.node = ref.node;
		r = hk_judge(server, req, &c);
	}
	if (r == 0) {
		r = hk_judge_change(server, &c, "set extended attribute");
	}
	if (r == 0) {
		r = hk_policy_xattr(ref.node->export, name);
		r = r < 0 ? hk_judged(server, &c, r) : 0;
	}
	if (r == 0 && is_capability(name)) {
		note_capability(server, ref.node);
	}
	if (r == 0) {
		r = hk_judged(server, &c,
			hk_ref_backend(&ref)->ops->setxattr(hk_ref_backend(&ref), ref.obj, name,
				value, in.size, (int)in.flags));
	}
	if (r == 0 && (in.setxattr_flags & FUSE_SETXATTR_ACL_KILL_SGID) != 0) {
		r = drop_setgid(&ref);
	}
	hk_ref_put(server, &ref);
	return r;
}

int hk_op_removexattr(struct hk_fuse_server *server, struct hk_req *req)
{
	struct hk_case c = {.op = HK_EVENT_REMOVEXATTR, .class = HK_CLASS_METADATA};
	struct hk_ref ref = {0};
	xattr_name name;
	int r = take_xattr_name(server, req, name);

	if (r < 0) {
		return r;
	}
	r = hk_ref_get_real(server, req->head.nodeid, &ref);
	if (r == 0) {
		c.node = ref.node;
		r = hk_judge(server, req, &c);
	}
	if (r == 0) {
		r = hk_judge_change(server, &c, "remove extended attribute");
	}
	if (r == 0) {
		r = hk_judged(server, &c,
			hk_ref_backend(&ref)->ops->removexattr(
				hk_ref_backend(&ref), ref.obj, name));
	}
	hk_ref_put(server, &ref);
	return r;
}
