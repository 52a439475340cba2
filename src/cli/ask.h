/* SPDX-License-Identifier: ISC */
/* Who answers when a rule says `ask`: a program of the user's, or the user, on the terminal. */
#ifndef HK_CLI_ASK_H
#define HK_CLI_ASK_H

#include <stdbool.h>
#include <sys/types.h>

enum { HK_ASK_SECONDS = 60 };

/**
 * hk_ask() - may it be done?
 * @verb: of hako
 * @program: called with PATH CLASS PID: yes is exit status 0; NULL: the terminal is asked
 *
 * @over: a descriptor that can be read once nobody waits for the answer any more; -1: there is none
 *
 * Any thread, one at a time. No answer in time is no. A program that did not answer is killed, with
 * all that it started.
 */
bool hk_ask(const char *verb, const char *program, const char *path, const char *class_name,
	pid_t pid, int over);

#endif
