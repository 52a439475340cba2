/* SPDX-License-Identifier: ISC */
/* Choosing handlers; select.h says why. */
#include "engine/soft/select.h"

#include "engine/soft/code.h"
#include "engine/soft/exec/fast.h"

hk_exec_fn *hk_select(struct hk_insn *insn, enum hk_code_mode mode)
{
	insn->exec = hk_fast(insn, mode);
	return hk_link(insn, mode);
}
