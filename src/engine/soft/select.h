/* SPDX-License-Identifier: ISC */
/*
 * Choosing the handler that runs one decoded instruction best.
 *
 * Every row has a generic handler, good for all its forms, sizes and modes. For the forms that
 * programs mostly consist of there are handlers that do just one thing (exec/fast.c), and branches
 * that know their target (link.c). Then instructions are looked at in their neighbourhood: a
 * compare and the branch after it become one (exec/fuse.c), and flags that nobody will see are not
 * noted.
 */
#ifndef HK_ENGINE_SOFT_SELECT_H
#define HK_ENGINE_SOFT_SELECT_H

#include "engine/soft/insn.h"

/**
 * enum hk_effect - what a handler has to do with the arithmetic flags, as far as others can see
 * them
 */
enum hk_effect {
	HK_EFFECT_ANY,  /* may read them, or touch memory or branch, so that others see them */
	HK_EFFECT_NONE, /* registers only */
	HK_EFFECT_WRITES_SOME, /* registers, and some of the flags */
	HK_EFFECT_WRITES_ALL,  /* registers, and all of the flags */
};

/**
 * struct hk_choice - how an instruction is to be run
 * @exec: NULL: there is nothing to do
 * @quiet: the same without the flags; NULL where there is none
 */
struct hk_choice {
	hk_exec_fn *exec;
	hk_exec_fn *quiet;
	uint8_t effect; /* enum hk_effect */
};

/**
 * hk_select() - the best handler for @insn, whose exec is the generic one. Branches are made ready
 * to be linked.
 */
struct hk_choice hk_select(struct hk_insn *insn, enum hk_code_mode mode);

/**
 * hk_select_run() - set the handlers of straight-line code
 * @insns: @count instructions; one more stands behind them
 * @choices: of hk_select(), for each
 */
void hk_select_run(struct hk_insn *insns, const struct hk_choice *choices, unsigned count);

#endif
