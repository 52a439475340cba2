/* SPDX-License-Identifier: ISC */
/*
 * Choosing the handler that runs one decoded instruction best.
 *
 * Every row has a generic handler, good for all its forms, sizes and modes. For the forms
 * that programs mostly consist of there are handlers that do just one thing; select.c has
 * the table of them.
 */
#ifndef HK_ENGINE_SOFT_SELECT_H
#define HK_ENGINE_SOFT_SELECT_H

#include "engine/soft/insn.h"

/** hk_select() - the best handler for @insn, whose exec is the generic one; may prepare its union fields */
hk_exec_fn *hk_select(struct hk_insn *insn, enum hk_code_mode mode);

#endif
