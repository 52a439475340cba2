/* SPDX-License-Identifier: ISC */
#ifndef HK_ENGINE_SOFT_EXEC_FAST_H
#define HK_ENGINE_SOFT_EXEC_FAST_H

#include "engine/soft/insn.h"

/** hk_fast() - a handler for just this form of @insn, or its generic one. Return: never NULL. */
hk_exec_fn *hk_fast(const struct hk_insn *insn, enum hk_code_mode mode);

#endif
