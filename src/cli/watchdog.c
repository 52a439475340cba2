/* SPDX-License-Identifier: ISC */
/*
 * The last resort: see watchdog.h.
 *
 * Theory: the loop's thread may itself be what hangs, in a join of a thread that is in a system
 * call. So the clock is watched by a thread of its own, which touches nothing that others have
 * locks on, and leaves by _exit().
 *
 * Limits: a thread in an uninterruptible call keeps even a dead process; that is the kernel's.
 */
#include "cli/watchdog.h"

#include <poll.h>
#include <time.h>
#include <unistd.h>

#include "base/loop.h"
#include "base/timespec.h"
#include "base/util.h"
#include "cli/report.h"

/* Later than this the whole process was stopped (Ctrl-Z), and did not get its time. */
#define LATE_NS HK_NS_PER_SEC

void hk_watchdog_init(struct hk_watchdog *dog, struct hk_terminal *terminal)
{
	pthread_condattr_t attr;

	*dog = (struct hk_watchdog){.terminal = terminal, .due_ns = UINT64_MAX};
	pthread_mutex_init(&dog->lock, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&dog->changed, &attr);
	pthread_condattr_destroy(&attr);
}

/* Is there room for a line, so that saying it does not hang, too? */
static bool can_report(void)
{
	struct pollfd pfd = {.fd = STDERR_FILENO, .events = POLLOUT};

	return poll(&pfd, 1, 0) == 1 && (pfd.revents & POLLOUT) != 0;
}

_Noreturn static void bite(struct hk_watchdog *dog)
{
	hk_terminal_restore_now(dog->terminal);
	if (can_report()) {
		hk_report("run", "the box did not end in time; its threads were abandoned");
	}
	_exit(dog->status);
}

static void *watch(void *arg)
{
	struct hk_watchdog *dog = arg;

	pthread_mutex_lock(&dog->lock);
	while (!dog->over) {
		uint64_t now_ns = hk_now_ns();

		if (dog->due_ns == UINT64_MAX) {
			pthread_cond_wait(&dog->changed, &dog->lock);
		} else if (now_ns < dog->due_ns) {
			struct timespec due = hk_timespec_of(dog->due_ns);

			pthread_cond_timedwait(&dog->changed, &dog->lock, &due);
		} else if (now_ns - dog->due_ns > LATE_NS) {
			dog->due_ns = now_ns + LATE_NS;
		} else {
			bite(dog);
		}
	}
	pthread_mutex_unlock(&dog->lock);
	return NULL;
}

void hk_watchdog_set(struct hk_watchdog *dog, uint64_t ns, int status)
{
	pthread_mutex_lock(&dog->lock);
	dog->due_ns = ns == UINT64_MAX ? UINT64_MAX : hk_now_ns() + ns;
	dog->status = status;
	pthread_cond_signal(&dog->changed);
	pthread_mutex_unlock(&dog->lock);
}

int hk_watchdog_start(struct hk_watchdog *dog, struct hk_err *err)
{
	int code = pthread_create(&dog->thread, NULL, watch, dog);

	if (code != 0) {
		return hk_fail(err, code, "thread");
	}
	dog->running = true;
	return 0;
}

void hk_watchdog_finish(struct hk_watchdog *dog)
{
	if (dog->running) {
		pthread_mutex_lock(&dog->lock);
		dog->over = true;
		pthread_cond_signal(&dog->changed);
		pthread_mutex_unlock(&dog->lock);
		pthread_join(dog->thread, NULL);
	}
	pthread_cond_destroy(&dog->changed);
	pthread_mutex_destroy(&dog->lock);
}
