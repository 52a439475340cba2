/* SPDX-License-Identifier: ISC */
/*
 * The user's terminal: raw while a command in the box has it, and as it was on every way out, also
 * if we are killed: a process of its own waits for that.
 */
#ifndef HK_CLI_TERMINAL_LINUX_H
#define HK_CLI_TERMINAL_LINUX_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include <termios.h>

#include "base/err.h"

/** struct hk_terminal - zero-initialize; fine to close if it was never opened */
struct hk_terminal {
	bool open;
	bool raw;
	int fd; /* borrowed */
	struct termios saved;
	pid_t guardian;
	int guardian_fd; /* owned */
};

/** hk_terminal_open() - remember how it is and start the guardian; before threads are started */
int hk_terminal_open(struct hk_terminal *terminal, int fd, struct hk_err *err);

/** hk_terminal_make_raw() - also to make it raw again after a stop; errors leave it as it is */
void hk_terminal_make_raw(struct hk_terminal *terminal);
void hk_terminal_restore(struct hk_terminal *terminal);

/** hk_terminal_restore_now() - without waiting for what is still to be shown; from any thread */
void hk_terminal_restore_now(const struct hk_terminal *terminal);

/** hk_terminal_close() - restore it and end the guardian */
void hk_terminal_close(struct hk_terminal *terminal);

/** hk_terminal_size() - of the terminal at @fd. Return: false if it has none. */
bool hk_terminal_size(int fd, uint16_t *ret_rows, uint16_t *ret_cols);

#endif
