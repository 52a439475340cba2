/* SPDX-License-Identifier: ISC */
/* The environment of a box's command. */
#ifndef HK_BOX_ENV_H
#define HK_BOX_ENV_H

#include "box/layout.h"

/**
 * hk_env_make() - what the box sets, and over it what the configuration does
 * @env: the strings, in no order; errors stick to it
 *
 * PATH, HOME, USER, LOGNAME, SHELL, XDG_RUNTIME_DIR, PWD; TERM only with a terminal and from
 * the configuration.
 */
void hk_env_make(struct hk_control_builder *env, const struct hk_box_config *config,
	const struct hk_box_user *user, const char *workdir);

#endif
