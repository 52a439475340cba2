/* SPDX-License-Identifier: ISC */
/* Building the box: identity, file tree, new root. */
#ifndef HK_GUEST_SETUP_H
#define HK_GUEST_SETUP_H

#include "control/control.h"

/** struct hk_setup_failure - why hk_setup_run() failed, as FAILED carries it */
struct hk_setup_failure {
	int error;      /* a positive errno */
	char text[512]; /* which step, on which object, doing what */
};

/**
 * hk_setup_run() - carry out @setup and make its tree the root directory
 *
 * The process has to be single-threaded, with the initramfs (or what stands for it) as its root.
 *
 * Return: 0, or -1 with @ret_failure; there is then no way back: the box can only end.
 */
int hk_setup_run(const struct hk_msg_setup *setup, struct hk_setup_failure *ret_failure);

#endif
