/* SPDX-License-Identifier: ISC */
/*
 * Extended attributes.
 *
 * Theory: names of the classes user and trusted, and security.capability, go to the backend as they
 * are; the host decides what the monitor may do. All others do not exist for the guest: labels of
 * the host's security modules mean nothing to it, and ACLs (system.posix_acl_*) would be enforced
 * with the wrong ids, unless the exports say that they are the right ones.
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

/* Do rules keep its data from everybody? Then it has no attributes, and nobody is told: `ls -l` asks for them. */
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

/* Pins the node, and asks whether its data may be read, as the host would for user attributes. */
static int get_readable(struct hk_fuse_server *server, uint64_t nodeid, struct hk_ref *ref)
{
	struct hk_stat st;
	int r = hk_ref_get(server, nodeid, ref);

	if (r < 0) {
		return r;
	}
	if (ref->obj < 0) {
		return -ENODATA;
	}
	if (is_unreadable(server, ref->node)) {
		return -ENODATA;
	}
	if (!ref->node->export->public_only) {
		return 0;
	}
	r = hk_ref_backend(ref)->ops->stat(hk_ref_backend(ref), ref->obj, &st);
	if (r < 0) {
		return r;
	}
	/* Asked for each program that starts, readable or not, so it is no denial worth telling. */
	return S_ISLNK(st.mode) || (st.mode & S_IROTH) != 0 ? 0 : -ENODATA;
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

int hk_op_getxattr(struct hk_fuse_server *server, struct hk_req *req)
{
	struct fuse_getxattr_in in;
	struct hk_ref ref = {0};
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
	r = get_readable(server, req->head.nodeid, &ref);
	if (r == 0) {
		len = hk_ref_backend(&ref)->ops->getxattr(
			hk_ref_backend(&ref), ref.obj, name, value, in.size);
		r = len < 0 ? (int)len : put_sized(req, in.size, value, (size_t)len);
	}
	hk_ref_put(server, &ref);
	return r;
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
	struct hk_ref ref = {0};
	autofree char *names = NULL;
	ssize_t len = 0;
	int r = hk_req_take(req, &in, sizeof(in));

	if (r < 0) {
		return r;
	}
	r = get_readable(server, req->head.nodeid, &ref);
	if (r == 0) {
		struct hk_backend *backend = hk_ref_backend(&ref);

		/* Mostly there is none, and then no buffer is needed. */
		len = backend->ops->listxattr(backend, ref.obj, NULL, 0);
		if (len > 0) {
			names = hk_malloc(XATTR_LIST_MAX);
			len = names == NULL
				? -ENOMEM
				: backend->ops->listxattr(backend, ref.obj, names, XATTR_LIST_MAX);
		}
		r = len < 0 ? (int)len : 0;
	}
	hk_ref_put(server, &ref);
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
