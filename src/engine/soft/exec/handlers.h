/* SPDX-License-Identifier: ISC */
/* Prototypes of all handlers that the instruction table names. */
#ifndef HK_ENGINE_SOFT_EXEC_HANDLERS_H
#define HK_ENGINE_SOFT_EXEC_HANDLERS_H

#include "engine/soft/interp.h"

#define ROW(map, pp, op, ext, name, operands, handler, feature, flags) HK_EXEC(handler);
#include "engine/soft/isa/all.def"
#undef ROW

#endif
