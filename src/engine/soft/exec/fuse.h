/* SPDX-License-Identifier: ISC */
#ifndef HK_ENGINE_SOFT_EXEC_FUSE_H
#define HK_ENGINE_SOFT_EXEC_FUSE_H

#include "engine/soft/insn.h"

/**
 * hk_fuse() - the handler of @insn that does the conditional branch after it, too
 * @jcc: insn + 1, linked to a target in the same page (hk_link())
 *
 * Return: @insn's own handler where the two make no pair.
 */
hk_exec_fn *hk_fuse(const struct hk_insn *insn, const struct hk_insn *jcc);

#endif
