/* SPDX-License-Identifier: ISC */
/*
 * Rules: what may be done to which path. The language of hako-policy(5), compiled; no I/O.
 *
 * A rule is a verdict, classes of operations and a glob for paths: "hide * $HOME/.ssh" and the
 * like.
 *
 * The last rule that matches a path and an operation decides. A double star is any number of names,
 * none included: the pattern $PWD with one behind it is $PWD itself and all below. A path is walked
 * component by component, as file systems do: each step leads from one *place* to the next, where a
 * place stands for all that is still to be matched. Places are made when they are first reached and
 * are remembered, so a step costs one look into a hash table, whatever the number of rules; and a
 * place knows the verdict of every operation. (It is the lazily built automaton of the globs, over
 * components.)
 *
 * All functions but the parser: any thread.
 */
#ifndef HK_FUSE_RULES_H
#define HK_FUSE_RULES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/str.h"

enum hk_verdict {
	HK_VERDICT_ALLOW,
	HK_VERDICT_DENY,     /* EACCES, or EPERM where the kernel would say so */
	HK_VERDICT_HIDE,     /* ENOENT, and no entry in listings */
	HK_VERDICT_COW,      /* allowed, but changes go to the upper layer */
	HK_VERDICT_ASK,      /* the owner decides, once for each path and class */
	HK_VERDICT_REDIRECT, /* another path stands in */
	HK_VERDICT_COUNT,
};

/** enum hk_class - classes of operations, as rules name them */
enum hk_class {
	HK_CLASS_READ,   /* open for reading, read, readlink, getxattr of user.* */
	HK_CLASS_WRITE,  /* open for writing, truncate, fallocate */
	HK_CLASS_CREATE, /* a new name: create, mkdir, mknod, symlink, the target of a rename */
	HK_CLASS_DELETE, /* a name goes: unlink, rmdir, the source of a rename, what a rename replaces */
	HK_CLASS_EXEC,     /* open to run it */
	HK_CLASS_METADATA, /* chmod, chown, utimes, setxattr */
	HK_CLASS_LINK,     /* a further name for the inode: of what is linked */
	HK_CLASS_LIST,     /* readdir */
	HK_CLASS_COUNT,
};

/* Sets of classes, a bit for each. */
enum {
	HK_CLASSES_ALL = (1 << HK_CLASS_COUNT) - 1,
	HK_CLASSES_CHANGING = 1 << HK_CLASS_WRITE | 1 << HK_CLASS_CREATE | 1 << HK_CLASS_DELETE |
		1 << HK_CLASS_METADATA | 1 << HK_CLASS_LINK,
};

const char *hk_verdict_name(enum hk_verdict verdict); /* "deny" */
const char *hk_class_name(enum hk_class class);       /* "write" */

struct hk_rules;

/** A place: an index, good as long as its rules. */
typedef uint32_t hk_place;

/*
 * A place that denies everything, and so does all below it: where memory runs out, or nobody can
 * tell the path.
 */
enum { HK_PLACE_NOWHERE = 0 };

/**
 * struct hk_ruling - what the rules say of one class at one place
 * @rule: number of the rule that decides, from 1; 0: none matches, it is allowed
 */
struct hk_ruling {
	enum hk_verdict verdict;
	uint32_t rule;
};

/**
 * struct hk_rules_env - what the parser may ask for
 * @variable: its value, or NULL for an unknown one; valid until the next call
 * @include: the text of a file named by `include`, seen from file @from; *@ret_name (malloc'd,
 * becomes the parser's) names it in messages and tells it apart from others. Return: malloc'd,
 * NUL-terminated text; NULL with @err
 * @resolve: optional; where an absolute path leads behind symbolic links, as far as it exists.
 * Return: malloc'd; NULL: unknown
 */
struct hk_rules_env {
	const char *(*variable)(struct hk_rules_env *env, const char *name);
	char *(*include)(struct hk_rules_env *env, const char *from, const char *path,
		char **ret_name, struct hk_err *err);
	char *(*resolve)(struct hk_rules_env *env, const char *path);
};

/**
 * hk_rules_parse() - compile a policy
 * @name: of the file, for messages
 * @ret_rules: owned by the caller; see hk_rules_free()
 *
 * Return: 0; -EINVAL with "FILE:LINE:COLUMN: what was found, what was expected"; -ELOOP where files
 * include each other; -ENOMEM; what @env gave.
 */
int hk_rules_parse(const char *name, const char *text, struct hk_rules_env *env,
	struct hk_rules **ret_rules, struct hk_err *err);

/**
 * hk_rules_parse_fusebox() - compile what Fusebox's acl file takes, one command a line
 *
 * `allowread allowwrite denyread denywrite discardwrite addread addwrite adddeny addpredict` and a
 * path, which stands for itself and all below, and `clearall`. See rules_fusebox.c for what they
 * become.
 *
 * Return: as hk_rules_parse().
 */
int hk_rules_parse_fusebox(
	const char *name, const char *text, struct hk_rules **ret_rules, struct hk_err *err);

/**
 * hk_rules_quote() - append a path so that the parser reads it as it is, with no globs and no
 * variables
 */
void hk_rules_quote(struct hk_str *out, const char *path);

/**
 * hk_rules_new() - rules without any; hk_rules_add() - one more at the end, the path as it is, no
 * globs
 *
 * For policies that come from elsewhere (Gentoo's sandbox, Fusebox). Before the first
 * hk_rules_root() only.
 *
 * Return: of hk_rules_add(): 0; -EINVAL for a path that is not absolute, no class, or a redirect;
 * -EBUSY when it is too late; -ENOMEM.
 */
struct hk_rules *hk_rules_new(void);
int hk_rules_add(struct hk_rules *rules, enum hk_verdict verdict, uint32_t class_mask,
	const char *path, bool with_all_below);

/**
 * hk_rules_make_quiet() - what the rule added last denies is no violation, and nobody is told
 * (Gentoo's predict)
 */
void hk_rules_make_quiet(struct hk_rules *rules);
bool hk_rules_is_quiet(const struct hk_rules *rules, uint32_t number);

void hk_rules_free(struct hk_rules *rules); /* NULL is fine */

/** hk_rules_root() - the place of "/" */
hk_place hk_rules_root(struct hk_rules *rules);

/**
 * hk_rules_step() - the place of entry @name of a directory at @place. Where memory runs out:
 * HK_PLACE_NOWHERE.
 */
hk_place hk_rules_step(struct hk_rules *rules, hk_place place, const char *name);

/** hk_rules_at() - the ruling for one class; cheap */
struct hk_ruling hk_rules_at(const struct hk_rules *rules, hk_place place, enum hk_class class);

/**
 * hk_rules_uniform() - do all paths below @place, however deep, get the rulings @place's own
 * entries would get by rules that end in a double star?
 *
 * Then nothing below needs a look of its own. (A place is uniform where no glob is left but such
 * that match everything.)
 */
bool hk_rules_uniform(const struct hk_rules *rules, hk_place place);

/**
 * hk_rules_limits_below() - is there a rule that looks at names below @place, and does anything but
 * allow?
 *
 * Where not, what is below is ruled as its own entries are by rules that end in a double star, or
 * allowed.
 */
bool hk_rules_limits_below(const struct hk_rules *rules, hk_place place);

/** hk_rules_may_hide() - can any entry of @place be hidden? If not, listings need no look. */
bool hk_rules_may_hide(const struct hk_rules *rules, hk_place place);

/** hk_rules_any() - is there a rule with this verdict at all? */
bool hk_rules_any(const struct hk_rules *rules, enum hk_verdict verdict);

/**
 * hk_rules_text() - rule @number as it was written, "FILE:LINE: RULE"; NULL for 0
 *
 * Rulings at HK_PLACE_NOWHERE have the number behind the last rule's, whose text says so.
 */
const char *hk_rules_text(const struct hk_rules *rules, uint32_t number);

/** hk_rules_target() - where rule @number redirects to, an absolute path; NULL for other rules */
const char *hk_rules_target(const struct hk_rules *rules, uint32_t number);

#endif
