/* SPDX-License-Identifier: ISC */
/* What the verbs about layers share: hako diff, apply, discard, layers. */
#ifndef HK_CLI_LAYER_H
#define HK_CLI_LAYER_H

#include <stddef.h>

#include "base/err.h"

struct hk_layer;

/**
 * hk_cli_find_layer() - the directory of the one called @name. @ret_path: free(). Return: 0;
 * -ENOENT
 */
int hk_cli_find_layer(const char *name, char **ret_path, struct hk_err *err);

/** hk_cli_open_layer() - by its name. @ret_lower: what it was made over; the caller's */
int hk_cli_open_layer(
	const char *name, struct hk_layer **ret_layer, char **ret_lower, struct hk_err *err);

/**
 * hk_cli_layer_paths() - paths of the command line as a layer has them
 * @words: NULL-terminated; absolute ones (within @lower), or from @lower
 * @ret_paths: NULL-terminated, for hk_cli_free_paths(); NULL where there are no words
 *
 * Return: 0; -EINVAL for a path elsewhere, or one with "..".
 */
int hk_cli_layer_paths(
	char *const *words, const char *lower, char ***ret_paths, struct hk_err *err);
void hk_cli_free_paths(char **paths); /* NULL is fine */

/** hk_cli_path_is_among() - is @path one of @paths, or within one? NULL: yes */
int hk_cli_path_is_among(char *const *paths, const char *path);

#endif
