/* SPDX-License-Identifier: ISC */
/*
 * Rules and audit inside the server.
 *
 * Theory: a handler makes a case of what it is about to do (which operation, on which node or
 * name), has it judged before it touches the backend, and tells the result afterwards. Where an
 * export has neither rules nor an audit both are a look at two pointers.
 *
 * Rules are about paths: place.c says how a node knows its own.
 *
 * A file with several names has one node for all of them if the rules say the same of each, and
 * else one for each kind of ruling (struct hk_stat, @ruling): the kernel asks by node, and no name
 * must lend its rights to another.
 *
 * Limits: two names of a file that are ruled differently are two inodes to the kernel, with the
 * same st_ino: they do not share locks, nor mapped pages.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <time.h>

#include "base/str.h"
#include "base/util.h"
#include "fuse/audit.h"
#include "fuse/dax.h"
#include "fuse/server_impl.h"

/* Looking up */

static bool is_hidden(const struct hk_rules *rules, hk_place place)
{
	if (place == HK_PLACE_NOWHERE) {
		return hk_rules_any(rules, HK_VERDICT_HIDE);
	}
	return hk_rules_at(rules, place, HK_CLASS_READ).verdict == HK_VERDICT_HIDE ||
		hk_rules_at(rules, place, HK_CLASS_LIST).verdict == HK_VERDICT_HIDE;
}

bool hk_judge_hides(struct hk_fuse_server *server, const struct hk_ref *dir, const char *name)
{
	struct hk_rules *rules = dir->node->export->rules;
	hk_place place;

	return rules != NULL && hk_rules_any(rules, HK_VERDICT_HIDE) &&
		hk_judge_place(server, dir->node, &place) &&
		(hk_rules_may_hide(rules, place) || place == HK_PLACE_NOWHERE) &&
		is_hidden(rules, hk_rules_step(rules, place, name));
}

/*
 * Of exports within each other, the innermost shows what is at @path. Return: where it does,
 * "usr/lib"; NULL: none.
 */
static const char *find_export(
	struct hk_fuse_server *server, const char *path, struct hk_export **ret_export)
{
	const char *found = NULL;

	for (unsigned i = 0; i < server->export_count; i++) {
		const char *rest = hk_path_within(path, server->exports[i].root);

		if (rest != NULL && (found == NULL || rest > found)) {
			found = rest;
			*ret_export = &server->exports[i];
		}
	}
	return found != NULL && found[0] == '/' ? found + 1 : found;
}

/* Is it one redirect that decides for all classes? Of a file, no part can be elsewhere. */
static bool is_redirected(
	const struct hk_rules *rules, hk_place place, const struct hk_ruling *ruling)
{
	bool is_whole = ruling->verdict == HK_VERDICT_REDIRECT;

	for (unsigned class = 0; class < HK_CLASS_COUNT && is_whole; class ++) {
		is_whole = hk_rules_at(rules, place, (enum hk_class) class).rule == ruling->rule;
	}
	return is_whole;
}

/* What stands in for what is at @place, if a rule says so. */
static const char *redirect(struct hk_fuse_server *server, const struct hk_rules *rules,
	hk_place place, struct hk_export **ret_export)
{
	struct hk_ruling ruling = hk_rules_at(rules, place, HK_CLASS_READ);
	const char *target;

	if (!is_redirected(rules, place, &ruling)) {
		return NULL;
	}
	/*
	 * What is in no export cannot be shown: the name itself is. So it is for a directory that
	 * has its place already as an export: a second one the guest's kernel would not give it.
	 */
	target = hk_rules_target(rules, ruling.rule);
	target = target == NULL ? NULL : find_export(server, target, ret_export);
	if (target != NULL && target[0] == '\0' && S_ISDIR((*ret_export)->node->mode)) {
		return NULL;
	}
	return target;
}

/* As struct hk_stat has it: all verdicts as one number. */
static uint32_t ruling_at(const struct hk_rules *rules, hk_place place)
{
	uint32_t ruling = 0;

	for (unsigned class = 0; class < HK_CLASS_COUNT; class ++) {
		ruling = ruling * HK_VERDICT_COUNT +
			hk_rules_at(rules, place, (enum hk_class) class).verdict;
	}
	return ruling;
}

void hk_judge_entry(struct hk_fuse_server *server, const struct hk_ref *dir, const char *name,
	struct hk_entry_rules *ret_entry)
{
	struct hk_rules *rules = dir->node->export->rules;
	hk_place place;

	*ret_entry = (struct hk_entry_rules){0};
	if (rules == NULL || !hk_judge_place(server, dir->node, &place)) {
		return;
	}
	place = hk_rules_step(rules, place, name);
	ret_entry->is_hidden = is_hidden(rules, place);
	ret_entry->target = redirect(server, rules, place, &ret_entry->export);
	ret_entry->ruling = ruling_at(rules, place);
}

void hk_judge_key(struct hk_fuse_server *server, const struct hk_ref *dir, const char *name,
	struct hk_stat *st)
{
	struct hk_rules *rules = dir->node->export->rules;
	hk_place place;

	st->ruling = 0;
	if (rules != NULL && !S_ISDIR(st->mode) && hk_judge_place(server, dir->node, &place)) {
		st->ruling = ruling_at(rules, hk_rules_step(rules, place, name));
	}
}

/* Telling */

static void tell(struct hk_fuse_server *server, const struct hk_case *c, int error)
{
	struct hk_export *export = c->node->export;
	char path[HK_PATH_BYTES];
	char other[HK_PATH_BYTES];
	struct timespec now;

	if (export->audit == NULL) {
		return;
	}
	clock_gettime(CLOCK_REALTIME, &now);
	hk_audit_event(export->audit,
		&(struct hk_audit_event){
			.op = c->op,
			.class = c->class,
			.time_ns = (uint64_t)hk_timespec_ns(now),
			.pid = c->pid,
			.uid = c->uid,
			.path = hk_path_of(server, c->node, c->name, path, sizeof(path)),
			.other = c->other != NULL
				? hk_path_of(server, c->other, c->other_name, other, sizeof(other))
				: NULL,
			.flags = c->flags,
			.verdict = c->verdict,
			.rule = c->rule,
			.error = error,
			.bytes_read = c->bytes_read,
			.bytes_written = c->bytes_written,
			.exact = !c->is_bound,
		});
}

static bool is_quiet(const struct hk_case *c)
{
	const struct hk_rules *rules = c->node->export->rules;

	return rules != NULL && hk_rules_is_quiet(rules, c->rule);
}

/* Judging */

enum strictness { ALLOWED, ASKED, REFUSED };

static int rules_error(enum hk_verdict verdict, enum hk_class class)
{
	if (verdict == HK_VERDICT_HIDE) {
		return ENOENT;
	}
	return class == HK_CLASS_METADATA ? EPERM : EACCES;
}

/* The rules, or who was asked, say no. */
static int refuse(struct hk_fuse_server *server, struct hk_case *c, struct hk_node *node,
	const char *name, enum hk_class class, int error)
{
	c->class = class;
	c->told = true;
	tell(server, c, error);
	if (!is_quiet(c)) {
		hk_deny(server, node, name, hk_class_name(class), error, true);
	}
	return -error;
}

/* What the rules allow may still not please the owner. */
static int judge_by_owner(struct hk_fuse_server *server, struct hk_case *c, struct hk_node *node,
	const char *name, enum hk_class class)
{
	struct hk_fuse_owner *owner = server->owner;
	struct hk_fuse_question question = {
		.op = c->op, .class = class, .flags = c->flags, .pid = c->pid};
	char path[HK_PATH_BYTES];
	int error;

	if (owner == NULL || owner->judge == NULL) {
		return 0;
	}
	question.path = hk_path_of(server, node, name, path, sizeof(path));
	error = owner->judge(owner, &question);
	if (error == 0) {
		return 0;
	}
	c->verdict = HK_VERDICT_DENY;
	c->rule = 0;
	return refuse(server, c, node, name, class, error);
}

static bool ask(struct hk_fuse_server *server, const struct hk_case *c, struct hk_node *node,
	const char *name, enum hk_class class)
{
	char buf[HK_PATH_BYTES];

	return hk_ask_owner(
		server, hk_path_of(server, node, name, buf, sizeof(buf)), class, c->pid);
}

static enum strictness strictness(enum hk_verdict verdict)
{
	switch (verdict) {
	case HK_VERDICT_REDIRECT:
		/*
		 * The target is judged where it is. What really has the name is nobody's, and stays
		 * as it is.
		 */
	case HK_VERDICT_DENY:
	case HK_VERDICT_HIDE:
		return REFUSED;
	case HK_VERDICT_ASK:
		return ASKED;
	default:
		return ALLOWED;
	}
}

static bool is_allowed(struct hk_fuse_server *server, const struct hk_case *c, struct hk_node *node,
	const char *name, enum hk_class class, enum hk_verdict verdict)
{
	enum strictness how = strictness(verdict);

	return how == ALLOWED || (how == ASKED && ask(server, c, node, name, class));
}

int hk_judge_also(struct hk_fuse_server *server, struct hk_case *c, struct hk_node *node,
	const char *name, enum hk_class class)
{
	struct hk_rules *rules = node->export->rules;
	struct hk_ruling ruling;
	hk_place place;

	if (rules == NULL || !hk_judge_place(server, node, &place)) {
		return 0;
	}
	if (name != NULL) {
		place = hk_rules_step(rules, place, name);
	}
	ruling = hk_rules_at(rules, place, class);
	if (!is_allowed(server, c, node, name, class, ruling.verdict)) {
		c->verdict = ruling.verdict;
		c->rule = ruling.rule;
		return refuse(server, c, node, name, class, rules_error(ruling.verdict, class));
	}
	if (c->rule == 0) {
		c->verdict = ruling.verdict;
		c->rule = ruling.rule;
	}
	return judge_by_owner(server, c, node, name, class);
}

bool hk_judge_allows(struct hk_fuse_server *server, struct hk_node *node, enum hk_class class)
{
	struct hk_rules *rules = node->export->rules;
	hk_place place;

	return rules == NULL || !hk_judge_place(server, node, &place) ||
		strictness(hk_rules_at(rules, place, class).verdict) == ALLOWED;
}

bool hk_judge_lends(struct hk_fuse_server *server, const struct hk_ref *dir, const char *name,
	struct hk_node *node, enum hk_class class)
{
	struct hk_rules *rules = node->export->rules;
	hk_place from, to;

	if (rules == NULL || !hk_judge_place(server, node, &from) ||
		!hk_judge_place(server, dir->node, &to)) {
		return false;
	}
	to = hk_rules_step(rules, to, name);
	return strictness(hk_rules_at(rules, to, class).verdict) <
		strictness(hk_rules_at(rules, from, class).verdict);
}

int hk_judge(struct hk_fuse_server *server, const struct hk_req *req, struct hk_case *c)
{
	struct hk_export *export = c->node->export;

	if (export == NULL || (export->rules == NULL && export->audit == NULL)) {
		c->told = true;
		return 0;
	}
	c->pid = (pid_t)req->head.pid;
	c->uid = req->head.uid;
	return hk_judge_also(server, c, c->node, c->name, c->class);
}

int hk_judged(struct hk_fuse_server *server, struct hk_case *c, int result)
{
	if (!c->told && c->node != NULL) {
		tell(server, c, result < 0 ? -result : 0);
	}
	c->told = true;
	return result;
}

int hk_judge_change(struct hk_fuse_server *server, struct hk_case *c, const char *operation)
{
	int r = hk_policy_change(server, c->node, c->name, operation);

	return r < 0 ? hk_judged(server, c, r) : 0;
}

void hk_judge_missing(struct hk_fuse_server *server, const struct hk_req *req,
	const struct hk_ref *dir, const char *name)
{
	struct hk_case c = {
		.op = HK_EVENT_LOOKUP,
		.class = HK_CLASS_READ,
		.node = dir->node,
		.name = name,
		.pid = (pid_t)req->head.pid,
		.uid = req->head.uid,
	};

	if (dir->node->export->audit == NULL) {
		return;
	}
	if (hk_judge_hides(server, dir, name)) {
		c.verdict = HK_VERDICT_HIDE;
	}
	tell(server, &c, ENOENT);
}

void hk_judge_closed(struct hk_fuse_server *server, const struct hk_handle *h)
{
	struct hk_case c = {
		.op = HK_EVENT_CLOSE,
		.class = (h->flags & O_ACCMODE) == O_RDONLY ? HK_CLASS_READ : HK_CLASS_WRITE,
		.node = h->node,
		.flags = h->flags,
		.pid = h->by.pid,
		.uid = h->by.uid,
		.bytes_read = atomic_load_explicit(&h->bytes_read, memory_order_relaxed),
		.bytes_written = atomic_load_explicit(&h->bytes_written, memory_order_relaxed),
	};

	if (c.class == HK_CLASS_READ) {
		/* Without us: taken to be once what it holds, or what was read before. */
		uint64_t unseen =
			h->by.passthrough || h->by.mapped ? h->by.size : h->by.cached_bytes;

		c.is_bound = unseen > 0;
		c.bytes_read = HK_MAX(c.bytes_read, HK_MIN(c.bytes_read + unseen, h->by.size));
	} else if (h->by.passthrough || h->by.mapped) {
		struct hk_backend *backend = h->node->export->backend;
		struct hk_stat st;

		/* Without us: taken to be once what it holds now, if it changed or may have. */
		c.is_bound = true;
		if (backend->ops->stat(backend, h->file, &st) == 0) {
			/* Who writes may set the time of modification back, but not this one. */
			bool changed = hk_timespec_ns(st.ctime) != h->by.ctime_ns ||
				st.size != h->by.size ||
				(h->by.mapped && hk_dax_writes(server, h->node));

			c.bytes_read = (h->flags & O_ACCMODE) != O_WRONLY ? st.size : 0;
			c.bytes_written = changed ? st.size : 0;
			c.is_bound = changed || c.bytes_read != 0;
		}
	}
	tell(server, &c, 0);
}
