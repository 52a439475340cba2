/* SPDX-License-Identifier: ISC */
/* The engines of this build, in order of preference. */
#include "engine/engines.h"

const struct hk_engine_ops *const hk_engines[] = {
	&hk_engine_kvm,
	&hk_engine_soft,
	NULL,
};
