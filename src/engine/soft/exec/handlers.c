/* SPDX-License-Identifier: ISC */
/* Which handler runs which row of the instruction table. */
#include "engine/soft/exec/handlers.h"

#include <assert.h>

#include "base/util.h"
#include "engine/soft/isa.h"

#define ROW(map, pp, op, ext, name, operands, handler, feature, flags) hk_x_##handler,
static hk_exec_fn *const handlers[] = {
#include "engine/soft/isa/all.def"
};
#undef ROW

hk_exec_fn *hk_isa_exec(unsigned row)
{
	assert(row < HK_ARRAY_SIZE(handlers));
	return handlers[row];
}
