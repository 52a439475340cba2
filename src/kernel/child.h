/* SPDX-License-Identifier: ISC */
/* Running a program to its end and keeping what it says. */
#ifndef HK_KERNEL_CHILD_H
#define HK_KERNEL_CHILD_H

#include "base/err.h"
#include "base/str.h"

/** struct hk_child - what to run, and what came of it; hk_child_finish() it */
struct hk_child {
	const char *const *argv; /* ends with NULL; argv[0] is looked for in PATH; borrowed */
	const char *dir;         /* where to run it; NULL for here; borrowed */
	/* A line of what it writes to descriptor 3, without the newline. May be NULL. */
	void (*status)(struct hk_child *child, const char *line);

	struct hk_str out;        /* its stdout, at most 1 MiB of it */
	struct hk_str complaints; /* its stderr, the same */
	int exit_status;          /* as of a shell: 128 + n if signal n ended it */
	struct hk_str line;       /* its own */
};

/**
 * hk_child_run() - run it and wait; its stdin is empty, its messages are not translated
 *
 * Return: 0 if it ran, whatever its exit status; -ENOENT if there is no such program; -errno.
 */
int hk_child_run(struct hk_child *child, struct hk_err *err);
void hk_child_finish(struct hk_child *child);

#endif
