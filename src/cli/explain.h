/* SPDX-License-Identifier: ISC */
/* What to say about a box that has ended: nothing, if all went well. */
#ifndef HK_CLI_EXPLAIN_H
#define HK_CLI_EXPLAIN_H

#include "box/box.h"

/**
 * struct hk_hints - files of the host that the command names and the box does not have
 * @program: the command itself; owned; NULL: none
 * @word: in one of its arguments; owned; NULL: none
 */
struct hk_hints {
	char *program;
	char *word;
};

/** hk_hints_find() - before the box is started: afterwards the host's files are out of sight */
void hk_hints_find(struct hk_hints *hints, const struct hk_box_config *config);
void hk_hints_finish(struct hk_hints *hints);

/** hk_explain() - print what there is to say. Return: the exit status. */
int hk_explain(
	struct hk_box *box, const struct hk_box_config *config, const struct hk_hints *hints);

#endif
