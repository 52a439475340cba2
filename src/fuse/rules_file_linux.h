/* SPDX-License-Identifier: ISC */
/* Rules from files, and what traces and boxes do with them alike. */
#ifndef HK_FUSE_RULES_FILE_LINUX_H
#define HK_FUSE_RULES_FILE_LINUX_H

#include <sys/types.h>

#include "fuse/rules.h"

/**
 * struct hk_rules_files - names of the files that were read: real ones, and those of links that led
 * there
 */
struct hk_rules_files {
	char **paths; /* owned, absolute; @count of them */
	size_t count;
};

void hk_rules_files_finish(struct hk_rules_files *files);

/**
 * struct hk_rules_user - what variables in a policy stand for; others are those of the environment
 * @home, @pwd: as the command sees them; borrowed; NULL: the environment's
 * @elsewhere: paths are not those of this system but a box's: no link is followed
 */
struct hk_rules_user {
	const char *home, *pwd;
	uid_t uid;
	bool elsewhere;
};

/**
 * hk_rules_load() - the policy in file @path, with all it includes
 * @path: NULL: rules without any
 * @files: gets the names of all files, also after an error; a pipe has none
 *
 * Return: as hk_rules_parse(); what reading gave.
 */
int hk_rules_load(const char *path, const struct hk_rules_user *user, struct hk_rules_files *files,
	struct hk_rules **ret_rules, struct hk_err *err);

/** hk_rules_load_fusebox() - the same for Fusebox's commands, see hk_rules_parse_fusebox() */
int hk_rules_load_fusebox(const char *path, struct hk_rules_files *files,
	struct hk_rules **ret_rules, struct hk_err *err);

/**
 * hk_rules_keep() - add a rule that nobody changes the file @path, nor what has this name. Return:
 * as hk_rules_add()
 */
int hk_rules_keep(struct hk_rules *rules, const char *path);

/**
 * hk_rules_hide() - add a rule that hides @path and all below; nobody is told, and it is no
 * violation. Return: as hk_rules_add()
 */
int hk_rules_hide(struct hk_rules *rules, const char *path);

/** hk_rules_is_cow() - do changes of @path go to a layer? Any thread */
bool hk_rules_is_cow(struct hk_rules *rules, const char *path);

#endif
