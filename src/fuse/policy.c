/* SPDX-License-Identifier: ISC */
/*
 * What an export lets the guest do, and whose ids are whose.
 *
 * Theory: the guest's kernel checks modes itself (virtiofs mounts with default_permissions) and the
 * host checks what the monitor may do. In between stand the export's own rules, asked by every
 * handler before it touches the backend: read-only (EROFS for each change) and public-only (only
 * what any user of the host may read, EACCES for the rest, by the mode as it is now). What is
 * refused here is told to the owner, with the path put together from the names the nodes were last
 * seen under: good enough for a message, used for nothing else.
 *
 * Where ids are mapped, no set-id program comes to be: chmod and creation succeed without the bits,
 * as on a server of NFS that squashes ids, each write takes those away that are there, and
 * capabilities of files cannot be set.
 *
 * Limits: public-only looks at the mode bits of others; an ACL that gives others less is not seen.
 */
#include <errno.h>
#include <string.h>

#include "base/util.h"
#include "fuse/server_impl.h"

enum { PATH_SHOWN = 1024 };

int hk_deny(struct hk_fuse_server *server, struct hk_node *node, const char *name,
	const char *operation, int error, bool by_rules)
{
	struct hk_fuse_owner *owner = server->owner;
	struct hk_fuse_denial denial = {
		.operation = operation, .error = error, .by_rules = by_rules};
	char buf[PATH_SHOWN];

	if (owner != NULL && owner->denied != NULL) {
		denial.export_name = node->export->name;
		denial.path = hk_path_in_export(server, node, name, buf, sizeof(buf));
		owner->denied(owner, &denial);
	}
	return -error;
}

int hk_policy_change(struct hk_fuse_server *server, struct hk_node *node, const char *name,
	const char *operation)
{
	if (node->export->read_only) {
		return hk_deny(server, node, name, operation, EROFS, false);
	}
	hk_export_dirty(node->export);
	return 0;
}

static bool is_dir(const struct hk_ref *dir, const char *name)
{
	struct hk_backend *backend = hk_ref_backend(dir);
	struct hk_stat st;

	return backend->ops->lookup(backend, dir->obj, name, &st) == 0 && S_ISDIR(st.mode);
}

static bool is_unread(const struct hk_rules *rules, hk_place place)
{
	enum hk_verdict verdict = hk_rules_at(rules, place, HK_CLASS_READ).verdict;

	return verdict == HK_VERDICT_DENY || verdict == HK_VERDICT_HIDE;
}

/* Would what may not be read be read by another name? */
static bool reveals(struct hk_rules *rules, hk_place from, hk_place to)
{
	return (is_unread(rules, from) && !is_unread(rules, to)) ||
		(is_unread(rules, hk_rules_step(rules, from, "_")) &&
			!is_unread(rules, hk_rules_step(rules, to, "_")));
}

int hk_policy_move(struct hk_fuse_server *server, const struct hk_ref *old_dir,
	const char *old_name, const struct hk_ref *new_dir, const char *new_name, unsigned flags)
{
	struct hk_rules *rules = old_dir->node->export->rules;
	hk_place from;
	hk_place to;

	if (rules == NULL || !hk_judge_place(server, old_dir->node, &from) ||
		!hk_judge_place(server, new_dir->node, &to)) {
		return 0;
	}
	from = hk_rules_step(rules, from, old_name);
	to = hk_rules_step(rules, to, new_name);
	if (from == to) {
		return 0;
	}
	if (reveals(rules, from, to) ||
		((flags & RENAME_EXCHANGE) != 0 && reveals(rules, to, from))) {
		return -EXDEV;
	}
	if (!hk_rules_limits_below(rules, from) && !hk_rules_limits_below(rules, to)) {
		return 0;
	}
	return is_dir(old_dir, old_name) ||
			((flags & RENAME_EXCHANGE) != 0 && is_dir(new_dir, new_name))
		? -EXDEV
		: 0;
}

int hk_policy_search(struct hk_fuse_server *server, const struct hk_ref *dir, const char *name)
{
	struct hk_backend *backend = hk_ref_backend(dir);
	struct hk_stat st;
	int r;

	if (!dir->node->export->public_only) {
		return 0;
	}
	/* Each time: the guest may remember a directory for a day. */
	r = backend->ops->stat(backend, dir->obj, &st);
	if (r < 0) {
		return r;
	}
	return (st.mode & S_IXOTH) != 0
		? 0
		: hk_deny(server, dir->node, name, "look up", EACCES, false);
}

int hk_policy_read(struct hk_fuse_server *server, const struct hk_ref *ref, uint32_t mode,
	const char *operation)
{
	if (!ref->node->export->public_only || (mode & S_IROTH) != 0) {
		return 0;
	}
	return hk_deny(server, ref->node, NULL, operation, EACCES, false);
}

mode_t hk_policy_mode(const struct hk_export *export, mode_t mode, bool is_dir)
{
	return export->map_ids && !is_dir ? mode & ~(mode_t)(S_ISUID | S_ISGID) : mode;
}

int hk_policy_xattr(const struct hk_export *export, const char *name)
{
	return export->map_ids && strcmp(name, "security.capability") == 0 ? -EPERM : 0;
}

static uint32_t swap(bool wanted, uint32_t id, uint32_t a, uint32_t b)
{
	if (!wanted || (id != a && id != b)) {
		return id;
	}
	return id == a ? b : a;
}

uid_t hk_map_uid(const struct hk_export *export, uid_t uid)
{
	return swap(export->map_ids, uid, export->host_uid, export->guest_uid);
}

gid_t hk_map_gid(const struct hk_export *export, gid_t gid)
{
	return swap(export->map_ids, gid, export->host_gid, export->guest_gid);
}

static bool is_in(const struct hk_export *export, gid_t gid)
{
	for (unsigned i = 0; i < export->group_count; i++) {
		if (export->groups[i] == gid) {
			return true;
		}
	}
	return false;
}

bool hk_is_free_dir(const struct hk_export *export, const struct hk_stat *st)
{
	if (!export->lone_user || !S_ISDIR(st->mode)) {
		return false;
	}
	if (st->uid == export->guest_uid) {
		return (st->mode & S_IWUSR) != 0;
	}
	return (st->mode & S_ISVTX) == 0 &&
		((st->mode & S_IWOTH) != 0 ||
			((st->mode & S_IWGRP) != 0 && is_in(export, st->gid)));
}

void hk_show_owner(const struct hk_export *export, const struct hk_stat *st, bool in_free_dir,
	uint32_t *ret_uid, uint32_t *ret_gid)
{
	/* Modes of symbolic links say nothing. */
	bool is_theirs = st->uid == export->guest_uid || (st->mode & (S_IWGRP | S_IWOTH)) != 0 ||
		is_in(export, st->gid);

	if (export->lone_user && (in_free_dir || (is_theirs && !S_ISLNK(st->mode)))) {
		*ret_uid = export->guest_uid;
		*ret_gid = export->guest_gid;
		return;
	}
	*ret_uid = hk_map_uid(export, st->uid);
	*ret_gid = hk_map_gid(export, st->gid);
}

struct hk_cred hk_req_cred(const struct hk_export *export, const struct hk_req *req)
{
	return (struct hk_cred){
		.uid = hk_map_uid(export, req->head.uid),
		.gid = hk_map_gid(export, req->head.gid),
	};
}

uint64_t hk_guest_ino(struct hk_fuse_server *server, uint64_t dev, uint64_t ino)
{
	unsigned count = atomic_load_explicit(&server->device_count, memory_order_acquire);
	unsigned i = 0;

	while (i < count &&
		atomic_load_explicit(&server->devices[i], memory_order_relaxed) != dev) {
		i++;
	}
	if (i == count) {
		pthread_mutex_lock(&server->devices_lock);
		count = atomic_load(&server->device_count);
		while (i < count && atomic_load(&server->devices[i]) != dev) {
			i++;
		}
		if (i == count && count < HK_FUSE_MAX_DEVICES) {
			atomic_store(&server->devices[i], dev);
			/* Pairs with the acquire above. */
			atomic_store_explicit(
				&server->device_count, count + 1, memory_order_release);
		}
		pthread_mutex_unlock(&server->devices_lock);
	}
	return ino ^ (uint64_t)i << 48;
}
