/* SPDX-License-Identifier: ISC */
/*
 * Events from other threads, and signals, as sources of a loop.
 *
 * Theory: an event is a source over an eventfd, a signal one over a signalfd. Both are built from
 * the public functions of loop.h and know nothing of the loop's insides.
 *
 * Limits: one struct hk_signal for a signal number at a time. The signal is blocked in the thread
 * that adds it and in those started afterwards; a thread that does not block it may get it instead.
 */
#include "base/loop.h"

#include <assert.h>
#include <pthread.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>

#include "base/cleanup.h"
#include "base/loop_impl_linux.h"
#include "base/util.h"

/* Events */

static void event_ready(struct hk_source *source, uint32_t events)
{
	struct hk_event *event = hk_container_of(source, struct hk_event, source);

	hk_loop_clear_counter(source->fd);
	event->raised(event);
}

int hk_event_add(struct hk_loop *loop, struct hk_event *event, struct hk_err *err)
{
	int fd;
	int r;

	assert(event->raised != NULL && event->source.loop == NULL);
	fd = hk_loop_faulted() ? -1 : eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (fd < 0) {
		return hk_fail(err, errno, "eventfd");
	}
	event->source = (struct hk_source){.fd = fd, .events = EPOLLIN, .ready = event_ready};
	r = hk_source_add(loop, &event->source, err);
	if (r < 0) {
		hk_close(&event->source.fd);
	}
	return r;
}

void hk_event_signal(struct hk_event *event)
{
	if (event->source.loop != NULL) {
		hk_loop_raise_eventfd(event->source.fd);
	}
}

void hk_event_remove(struct hk_event *event)
{
	if (event->source.loop != NULL) {
		hk_source_remove(&event->source);
		hk_close(&event->source.fd);
	}
}

/* Signals */

static ssize_t read_siginfo(int fd, struct signalfd_siginfo *info)
{
	ssize_t n;

	do {
		/* seccomp: read */
		n = read(fd, info, sizeof(*info));
	} while (n < 0 && errno == EINTR);
	return n;
}

static void signal_ready(struct hk_source *source, uint32_t events)
{
	struct hk_signal *signal = hk_container_of(source, struct hk_signal, source);
	struct signalfd_siginfo info;

	/* One at a time, since the handler may remove the source; epoll tells of the next. */
	if (read_siginfo(source->fd, &info) == sizeof(info)) {
		signal->caught(signal, &info);
	}
}

bool hk_signal_is_ignored(int signo)
{
	struct sigaction action;

	return sigaction(signo, NULL, &action) == 0 && action.sa_handler == SIG_IGN;
}

int hk_signal_add(struct hk_loop *loop, struct hk_signal *signal, int signo, struct hk_err *err)
{
	sigset_t set;
	sigset_t before;
	int fd;
	int r;

	assert(signal->caught != NULL && signal->source.loop == NULL);
	sigemptyset(&set);
	if (sigaddset(&set, signo) < 0) {
		return hk_fail(err, EINVAL, "signal %d", signo);
	}
	fd = hk_loop_faulted() ? -1 : signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	if (fd < 0) {
		return hk_fail(err, errno, "signalfd for signal %d", signo);
	}
	signal->source = (struct hk_source){.fd = fd, .events = EPOLLIN, .ready = signal_ready};
	signal->signo = signo;
	r = hk_source_add(loop, &signal->source, err);
	if (r < 0) {
		hk_close(&signal->source.fd);
		return r;
	}
	pthread_sigmask(SIG_BLOCK, &set, &before);
	signal->was_blocked = sigismember(&before, signo) == 1;
	return 0;
}

void hk_signal_remove(struct hk_signal *signal)
{
	struct signalfd_siginfo info;
	sigset_t set;

	if (signal->source.loop == NULL) {
		return;
	}
	hk_source_remove(&signal->source);
	if (!signal->was_blocked) {
		/* What is still pending would take its default action, for instance kill us. */
		while (read_siginfo(signal->source.fd, &info) == sizeof(info)) {
		}
		sigemptyset(&set);
		sigaddset(&set, signal->signo);
		/* seccomp: rt_sigprocmask */
		pthread_sigmask(SIG_UNBLOCK, &set, NULL);
	}
	hk_close(&signal->source.fd);
}
