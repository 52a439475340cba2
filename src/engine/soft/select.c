/* SPDX-License-Identifier: ISC */
/* Choosing handlers; select.h says why. */
#include "engine/soft/select.h"

#include <stddef.h>

#include "engine/soft/code.h"
#include "engine/soft/exec/fast.h"
#include "engine/soft/exec/fuse.h"
#include "engine/soft/exec/handlers.h"

struct hk_choice hk_select(struct hk_insn *insn, enum hk_code_mode mode)
{
	if (insn->exec == hk_x_nop) {
		return (struct hk_choice){.effect = HK_EFFECT_NONE};
	}

	struct hk_choice choice = hk_fast(insn, mode);

	if (choice.exec == insn->exec) {
		choice.exec = hk_link(insn, mode);
	}
	return choice;
}

/*
 * From the end to the beginning: the flags are dead before an instruction that writes all of them,
 * and stay so before those that only work on registers. Anything else may show them.
 */
void hk_select_run(struct hk_insn *insns, const struct hk_choice *choices, unsigned count)
{
	bool dead = false;

	for (unsigned i = count; i-- > 0;) {
		const struct hk_choice *choice = &choices[i];

		insns[i].exec = dead && choice->quiet != NULL ? choice->quiet : choice->exec;
		if (i + 1 < count && hk_link_is_near_jcc(&insns[i + 1])) {
			insns[i].exec = hk_fuse(&insns[i], &insns[i + 1]);
		}
		if (choice->effect == HK_EFFECT_WRITES_ALL) {
			dead = true;
		} else if (choice->effect == HK_EFFECT_ANY) {
			dead = false;
		}
	}
}
