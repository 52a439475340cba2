/* SPDX-License-Identifier: ISC */
/* Where a box's copy-on-write keeps what is changed: a layer for each share that has it. */
#ifndef HK_CLI_RUN_LAYERS_H
#define HK_CLI_RUN_LAYERS_H

#include "base/err.h"
#include "box/box.h"

/**
 * struct hk_run_layers - zero-initialize
 * @keep: their name, then there is one only; NULL: they are temporary. Borrowed
 */
struct hk_run_layers {
	const char *keep;
	char *dir;                      /* owned; of all layers; NULL while there are none */
	char *paths[HK_BOX_MAX_SHARES]; /* owned */
	unsigned count;
};

/**
 * hk_run_layers_make() - one for each of @share_count shares that @is_cow
 * @is_used_later: a policy may have use for @keep, too
 *
 * Return: 0; -EINVAL for a wrong command line, then nothing was made; -errno.
 */
int hk_run_layers_make(struct hk_run_layers *layers, struct hk_share *shares, const bool *is_cow,
	unsigned share_count, bool is_used_later, struct hk_err *err);

/** hk_run_layers_add() - one more, for @share. @ret_path: borrowed. Return: 0 or -errno */
int hk_run_layers_add(struct hk_run_layers *layers, const struct hk_share *share,
	const char **ret_path, struct hk_err *err);
/**
 * hk_run_layers_undo() - there was no run: temporary ones go, and one with a name if nothing ever
 * came into it
 *
 * What cannot be removed is said.
 */
void hk_run_layers_undo(const struct hk_run_layers *layers);
void hk_run_layers_finish(struct hk_run_layers *layers); /* removes nothing */

#endif
