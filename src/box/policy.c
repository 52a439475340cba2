/* SPDX-License-Identifier: ISC */
/*
 * Rules and audit of a box: see policy.h.
 *
 * Theory: an export's root is called for the rules what it is called in the box, so whatever
 * directory of the host is behind it, a path means one thing. Rules of our own stand behind the
 * policy, where nothing overrules them: the log, the report and layers of copy-on-write are hidden
 * where a share shows them, for the command could else rewrite them; the policy's own files can be
 * read only.
 *
 * Rules of copy-on-write need a layer for each directory that may be changed; the owner says where.
 * What is not theirs goes to the directory itself.
 *
 * Limits: a policy restricts what the shares give and never gives more: a read-only share stays so.
 */
#include "box/policy.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/str.h"
#include "fuse/overlay.h"
#include "fuse/rules_file_linux.h"

/* The export that shows the box's @path, the innermost one; NULL: none does. */
static const struct hk_fuse_export *find_export(const struct hk_layout *layout, const char *path)
{
	const struct hk_fuse_export *found = NULL;

	for (unsigned i = 0; i < layout->export_count; i++) {
		const struct hk_fuse_export *export = &layout->exports[i];

		if (hk_path_within(path, export->root) != NULL &&
			(found == NULL || strlen(export->root) > strlen(found->root))) {
			found = export;
		}
	}
	return found;
}

static bool is_directory(const char *path)
{
	struct stat st;

	return stat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

/*
 * A target that the box has not got, or has a place of its own for already, cannot stand in for
 * anything.
 */
static int check_redirects(
	const struct hk_rules *rules, const struct hk_layout *layout, struct hk_err *err)
{
	const char *text;

	for (uint32_t i = 1; (text = hk_rules_text(rules, i)) != NULL; i++) {
		const char *target = hk_rules_target(rules, i);
		const struct hk_fuse_export *export;

		if (target == NULL) {
			continue;
		}
		export = find_export(layout, target);
		if (export == NULL) {
			hk_fail_msg(
				err, EINVAL, "%s: '%s' is in no share of the box", text, target);
			hk_err_hint(err, "share it, or what it is in, with -v");
			return -EINVAL;
		}
		if (strcmp(target, export->root) == 0 && is_directory(export->path)) {
			hk_fail_msg(err, EINVAL, "%s: '%s' is a share itself", text, target);
			hk_err_hint(err, "share it with -v where it is wanted");
			return -EINVAL;
		}
	}
	return 0;
}

/*
 * A rule for the host's @path, wherever exports show it; but not for an export itself, which the
 * user asked for.
 */
static int add_shown(struct hk_rules *rules, const struct hk_layout *layout, const char *path,
	int (*add)(struct hk_rules *rules, const char *path))
{
	int r = 0;

	for (unsigned i = 0; r == 0 && i < layout->export_count; i++) {
		const struct hk_fuse_export *export = &layout->exports[i];
		const char *rest = hk_path_within(path, export->path);
		struct hk_str shown = {0};

		if (rest != NULL && rest[0] != '\0') {
			hk_str_addf(&shown, "%s%s",
				strcmp(export->root, "/") == 0 ? "" : export->root, rest);
			r = shown.failed ? -ENOMEM : add(rules, shown.data);
		}
		hk_str_finish(&shown);
	}
	return r;
}

static bool shows_hidden(const struct hk_layout *layout)
{
	const struct hk_box_config *config = layout->config;

	for (unsigned i = 0; i < config->hidden_count; i++) {
		for (unsigned j = 0; j < layout->export_count; j++) {
			if (hk_path_within(config->hidden[i], layout->exports[j].path) != NULL) {
				return true;
			}
		}
	}
	return false;
}

/* $HOME is the caller's, where the box shows it; else the box's own, of which we hear nothing. */
static const char *find_home(struct hk_box_policy *policy, const struct hk_layout *layout)
{
	const struct hk_box_config *config = layout->config;

	return hk_layout_map(config, config->caller_home, policy->home, sizeof(policy->home))
		? policy->home
		: layout->user.home;
}

static int add_own_rules(struct hk_rules *rules, const struct hk_layout *layout,
	const struct hk_rules_files *files, struct hk_err *err)
{
	const struct hk_box_config *config = layout->config;
	int r = 0;

	for (size_t i = 0; r == 0 && i < files->count; i++) {
		r = add_shown(rules, layout, files->paths[i], hk_rules_keep);
	}
	for (unsigned i = 0; r == 0 && i < config->hidden_count; i++) {
		r = add_shown(rules, layout, config->hidden[i], hk_rules_hide);
	}
	return r < 0 ? hk_fail(err, -r, "policy") : 0;
}

static int read_rules(struct hk_box_policy *policy, struct hk_layout *layout, struct hk_err *err)
{
	const struct hk_box_config *config = layout->config;
	struct hk_rules_user user = {
		.home = find_home(policy, layout),
		.pwd = hk_layout_workdir(layout),
		.uid = layout->user.uid,
		.elsewhere = true,
	};
	struct hk_rules_files files = {0};
	int r = hk_rules_load(config->policy, &user, &files, &policy->rules, err);

	if (r == 0) {
		r = check_redirects(policy->rules, layout, err);
	}
	if (r == 0) {
		r = add_own_rules(policy->rules, layout, &files, err);
	}
	hk_rules_files_finish(&files);
	return r;
}

static int open_audit(struct hk_box_policy *policy, struct hk_layout *layout, struct hk_err *err)
{
	for (unsigned i = 0; i < layout->export_count; i++) {
		policy->roots[i] = (struct hk_audit_root){
			.path = layout->exports[i].root, .host = layout->exports[i].path};
	}
	return hk_audit_create(
		&(struct hk_audit_options){
			.log_fd = layout->config->log_fd,
			.rules = policy->rules,
			.home = find_home(policy, layout),
			.cwd = hk_layout_workdir(layout),
			.proc = "",
			.roots = policy->roots,
			.root_count = layout->export_count,
			.start_later = true,
		},
		&policy->audit, err);
}

static bool has_writable(const struct hk_layout *layout)
{
	for (unsigned i = 0; i < layout->export_count; i++) {
		if (!layout->exports[i].read_only &&
			hk_layout_share(layout, layout->exports[i].name) != NULL) {
			return true;
		}
	}
	return false;
}

/* Where the rules' changes of the export go that are not to be made in the directory. */
static int find_layer(
	struct hk_box_policy *policy, struct hk_layout *layout, unsigned index, struct hk_err *err)
{
	const struct hk_fuse_export *export = &layout->exports[index];
	const struct hk_share *share = hk_layout_share(layout, export->name);
	struct hk_box_owner *owner = layout->config->owner;

	if (share != NULL && export->read_only && !has_writable(layout) &&
		hk_rules_is_cow(policy->rules, export->root)) {
		hk_fail_msg(err, EINVAL,
			"policy: 'cow' is about '%s', and that is shared read-only: nothing can be "
			"changed there",
			export->root);
		return hk_err_hint(err, "share it with :rw, or with :cow and no such rule");
	}
	if (share == NULL || export->read_only || layout->layers[index] != NULL) {
		return 0;
	}
	if (!is_directory(export->path)) {
		return !hk_rules_is_cow(policy->rules, export->root)
			? 0
			: hk_fail_msg(err, EINVAL,
				  "policy: '%s' is shared as a file: only in a directory can "
				  "changes "
				  "be kept apart (cow)",
				  export->root);
	}
	if (owner == NULL || owner->layer == NULL) {
		return hk_fail_msg(
			err, EINVAL, "policy: there is no place for what 'cow' keeps apart");
	}
	policy->cows[index].rules = policy->rules;
	return owner->layer(owner, share, &layout->layers[index], err);
}

int hk_box_policy_make(struct hk_box_policy *policy, struct hk_layout *layout, struct hk_err *err)
{
	const struct hk_box_config *config = layout->config;
	int r = 0;

	if (config->policy != NULL || config->has_audit || shows_hidden(layout)) {
		r = read_rules(policy, layout, err);
	}
	if (r == 0 && config->has_audit) {
		r = open_audit(policy, layout, err);
	}
	for (unsigned i = 0; r == 0 && i < layout->export_count; i++) {
		struct hk_fuse_export *export = &layout->exports[i];

		export->rules = policy->rules;
		export->audit = policy->audit;
		policy->cows[i].root = export->root;
		if (policy->rules != NULL && hk_rules_any(policy->rules, HK_VERDICT_COW)) {
			r = find_layer(policy, layout, i, err);
		}
	}
	return r;
}

int hk_box_policy_start(struct hk_box_policy *policy, struct hk_err *err)
{
	return policy->audit == NULL ? 0 : hk_audit_start(policy->audit, err);
}

/* @path is within the export: "/" is its root. Any thread. */
static bool is_cow(void *arg, const char *path)
{
	const struct hk_box_cow *cow = arg;
	struct hk_str whole = {0};
	bool yes;

	hk_str_addf(&whole, "%s%s", cow->root, path);
	yes = whole.failed || hk_rules_is_cow(cow->rules, whole.data);
	hk_str_finish(&whole);
	return yes;
}

int hk_box_policy_open(struct hk_box_policy *policy, const struct hk_layout *layout, unsigned index,
	struct hk_backend **ret_backend, struct hk_err *err)
{
	struct hk_overlay_options options = {
		.lower = layout->exports[index].path,
		.layer = layout->layers[index],
		.is_cow = policy->cows[index].rules == NULL ? NULL : is_cow,
		.arg = &policy->cows[index],
	};

	return options.layer == NULL ? 0 : hk_overlay_open(&options, ret_backend, err);
}

void hk_box_policy_finish(struct hk_box_policy *policy)
{
	hk_audit_free(policy->audit);
	hk_rules_free(policy->rules);
	*policy = (struct hk_box_policy){0};
}
