/* SPDX-License-Identifier: ISC */
/*
 * The engines of this build. "Backends never include each other, an explicit array
 * names them" [STYLE 1, 16]: engines.c fills it; tests may link another.
 */
#ifndef HK_ENGINE_ENGINES_H
#define HK_ENGINE_ENGINES_H

#include "engine/engine_impl.h"

/* In order of preference, NULL-terminated. */
extern const struct hk_engine_ops *const hk_engines[];

extern const struct hk_engine_ops hk_engine_kvm;
extern const struct hk_engine_ops hk_engine_soft;

#endif
