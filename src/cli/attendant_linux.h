/* SPDX-License-Identifier: ISC */
/*
 * A process that keeps for a box what its monitor gives up (box/confine.h): it asks the user, and
 * takes temporary layers away at the end, also if the monitor is killed. What to remove it was told
 * at its start, and all it takes later is questions, so a monitor that a guest has taken over gains
 * nothing by it but to ask.
 */
#ifndef HK_CLI_ATTENDANT_LINUX_H
#define HK_CLI_ATTENDANT_LINUX_H

#include <stdbool.h>
#include <sys/types.h>

#include "base/err.h"

/** struct hk_attendant - {.fd = -1}: there is none */
struct hk_attendant {
	int fd;
	pid_t pid;
};

/**
 * hk_attendant_start() - before there are threads
 * @program: who answers, see hk_ask()
 * @layers: @layer_count of them, removed when the attendant is finished or we are gone
 *
 * Return: 0 or -errno.
 */
int hk_attendant_start(struct hk_attendant *attendant, const char *program,
	const char *const *layers, unsigned layer_count, struct hk_err *err);

/** hk_attendant_ask() - may it be done? Any thread, one at a time. Without an attendant: no */
bool hk_attendant_ask(
	struct hk_attendant *attendant, const char *path, const char *class_name, pid_t pid);

/** hk_attendant_stop() - from now on the answer is no, also to who waits for one */
void hk_attendant_stop(struct hk_attendant *attendant);

void hk_attendant_finish(struct hk_attendant *attendant); /* waits for its end */

#endif
