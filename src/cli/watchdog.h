/* SPDX-License-Identifier: ISC */
/*
 * The last resort: a thread that ends the program when something hangs that nothing can end, such
 * as a call into a file system that does not answer.
 */
#ifndef HK_CLI_WATCHDOG_H
#define HK_CLI_WATCHDOG_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "cli/terminal_linux.h"

/** struct hk_watchdog - hk_watchdog_init() first; the fields are the functions' */
struct hk_watchdog {
	struct hk_terminal *terminal; /* borrowed; restored before the end */
	pthread_mutex_t lock;
	pthread_cond_t changed;
	pthread_t thread;
	bool running;
	bool over;
	uint64_t due_ns; /* UINT64_MAX: never */
	int status;      /* of the program, when it is due */
};

void hk_watchdog_init(struct hk_watchdog *dog, struct hk_terminal *terminal);

/**
 * hk_watchdog_set() - in @ns, end the program with @status; UINT64_MAX: do not
 *
 * May be called before hk_watchdog_start().
 */
void hk_watchdog_set(struct hk_watchdog *dog, uint64_t ns, int status);

/** hk_watchdog_start() - the thread, with the caller's confinement and signal mask */
int hk_watchdog_start(struct hk_watchdog *dog, struct hk_err *err);

/** hk_watchdog_finish() - ends it; fine also if it was never started */
void hk_watchdog_finish(struct hk_watchdog *dog);

#endif
