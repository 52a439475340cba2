/* SPDX-License-Identifier: ISC */
/* Choosing handlers; select.h says why. */
#include "engine/soft/select.h"

#include "engine/soft/code.h"

hk_exec_fn *hk_select(struct hk_insn *insn, enum hk_code_mode mode)
{
	return hk_link(insn, mode);
}
