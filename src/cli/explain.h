/* SPDX-License-Identifier: ISC */
/* What to say about a box that has ended: nothing, if all went well. */
#ifndef HK_CLI_EXPLAIN_H
#define HK_CLI_EXPLAIN_H

#include "box/box.h"

/** hk_explain() - print what there is to say. Return: the exit status. */
int hk_explain(struct hk_box *box, const struct hk_box_config *config);

#endif
