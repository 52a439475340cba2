/* SPDX-License-Identifier: ISC */
#ifndef HK_ENGINE_SOFT_EXEC_FAST_H
#define HK_ENGINE_SOFT_EXEC_FAST_H

#include "engine/soft/select.h"

/** hk_fast() - a handler for just this form of @insn, or its generic one */
struct hk_choice hk_fast(const struct hk_insn *insn, enum hk_code_mode mode);

/** enum hk_fast_pair - what can be fused with a branch after it (fuse.h) */
enum hk_fast_pair { HK_FAST_CMP, HK_FAST_TEST, HK_FAST_PAIR_COUNT, HK_FAST_NO_PAIR };

/**
 * hk_fast_pair() - is @insn a CMP or TEST of rm, a register, with a register or an immediate, by a
 * handler of fast.c?
 */
enum hk_fast_pair hk_fast_pair(const struct hk_insn *insn);

#endif
