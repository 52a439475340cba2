/* SPDX-License-Identifier: ISC */
/* From a box's end to an exit status, as shells and timeout(1) do it. */
#include <errno.h>

#include "box/box.h"

enum {
	STATUS_TIMED_OUT = 124,
	STATUS_OWN_FAILURE = 125,
	STATUS_NOT_EXECUTABLE = 126,
	STATUS_NOT_FOUND = 127,
	STATUS_SIGNAL = 128,
};

int hk_box_status(const struct hk_box_result *result)
{
	switch (result->end) {
	case HK_BOX_EXITED:
		return result->code & 0xff;
	case HK_BOX_SIGNALED:
	case HK_BOX_STOPPED:
		return STATUS_SIGNAL + (result->code & 0x7f);
	case HK_BOX_NOT_STARTED:
		if (result->stage != HK_EXEC_STAGE_EXEC) {
			return STATUS_OWN_FAILURE;
		}
		return result->code == ENOENT ? STATUS_NOT_FOUND : STATUS_NOT_EXECUTABLE;
	case HK_BOX_TIMED_OUT:
		return STATUS_TIMED_OUT;
	case HK_BOX_RUNS_STILL:
	case HK_BOX_FAILED:
	case HK_BOX_END_COUNT:
		break;
	}
	return STATUS_OWN_FAILURE;
}
