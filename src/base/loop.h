/* SPDX-License-Identifier: ISC */
/*
 * An epoll event loop: file descriptors, timers, signals, events from other threads.
 *
 * Sources are embedded in their owners, which recover themselves with
 * hk_container_of(). A loop belongs to the thread that runs it: every function
 * here is called from that thread (or before it starts), but for
 * hk_event_signal(), hk_loop_stop() and hk_loop_post(), which any thread may call.
 *
 * A handler may remove any source, itself included, and free its owner: events already
 * fetched for a removed source are dropped.
 */
#ifndef HK_BASE_LOOP_H
#define HK_BASE_LOOP_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"

struct hk_loop;
struct signalfd_siginfo;

/**
 * struct hk_source - a file descriptor watched by a loop
 * @fd: borrowed; -1 while not set
 * @events: EPOLLIN, EPOLLOUT, ... (level-triggered unless EPOLLET is given)
 * @ready: called with the events that are there
 */
struct hk_source {
	int fd;
	uint32_t events;
	void (*ready)(struct hk_source *source, uint32_t events);
	struct hk_loop *loop; /* borrowed; NULL while not added; the loop's own */
};

/**
 * struct hk_timer - a one-shot timer; re-arm it in @fire to repeat
 * @fire: called once the deadline has passed
 */
struct hk_timer {
	void (*fire)(struct hk_timer *timer);
	uint64_t deadline_ns;  /* CLOCK_MONOTONIC; the loop's own */
	struct hk_timer *next; /* the loop's own: sorted list */
	struct hk_loop *loop;  /* NULL while not armed; the loop's own */
};

/**
 * struct hk_event - wakes a loop from another thread (an eventfd)
 * @source: the loop's side; fd is owned by the event
 * @raised: called once for any number of hk_event_signal() since the last call
 */
struct hk_event {
	struct hk_source source;
	void (*raised)(struct hk_event *event);
};

/**
 * struct hk_signal - a signal delivered through the loop (blocked in the process while added)
 */
struct hk_signal {
	struct hk_source source;
	int signo; /* the loop's own */
	void (*caught)(struct hk_signal *signal, const struct signalfd_siginfo *info);
	bool was_blocked; /* before it was added; the loop's own */
};

/**
 * struct hk_post - work handed to a loop's thread by any thread; owner keeps it until @run
 */
struct hk_post {
	void (*run)(struct hk_post *post);
	struct hk_post *next; /* the loop's own */
};

int hk_loop_create(struct hk_loop **ret_loop, struct hk_err *err);

/**
 * hk_loop_destroy() - NULL is fine
 *
 * All sources and timers must be gone, and other threads be done with their calls. Posts that were
 * not run are dropped.
 */
void hk_loop_destroy(struct hk_loop *loop);

/** hk_loop_run() - dispatch until hk_loop_stop(). Return: 0, or -errno of epoll. */
int hk_loop_run(struct hk_loop *loop);

/**
 * hk_loop_run_once() - wait at most @timeout_ms (-1: for ever) and dispatch what is there
 *
 * hk_loop_stop() does not concern it: that is kept for hk_loop_run().
 *
 * Return: 0, also if nothing came or a signal interrupted the wait; or -errno of epoll.
 */
int hk_loop_run_once(struct hk_loop *loop, int timeout_ms);

/**
 * hk_loop_stop() - make hk_loop_run() return after the current handler. Any thread.
 *
 * Before hk_loop_run() it makes the next one return at once. What was not dispatched stays pending
 * and is dispatched by the next run. Async-signal-safe.
 */
void hk_loop_stop(struct hk_loop *loop);

/**
 * hk_loop_post() - run @post on the loop's thread, in order of posting. Any thread.
 *
 * Not again before it has been run or cancelled; from its own @run it may be.
 */
void hk_loop_post(struct hk_loop *loop, struct hk_post *post);

/**
 * hk_loop_cancel_post() - take back a post, so that its owner can go. Loop's thread.
 *
 * Return: true if it was waiting, false if it was not posted or has been run.
 */
bool hk_loop_cancel_post(struct hk_loop *loop, struct hk_post *post);

int hk_source_add(struct hk_loop *loop, struct hk_source *source, struct hk_err *err);
/** hk_source_set_events() - in a handler, drops also what was fetched and is not wanted any more */
int hk_source_set_events(struct hk_source *source, uint32_t events);
/** hk_source_remove() - fine if not added. Remove before closing the descriptor. */
void hk_source_remove(struct hk_source *source);

/** hk_timer_arm() - (re)arm for CLOCK_MONOTONIC @deadline_ns; the past fires at once */
void hk_timer_arm(struct hk_loop *loop, struct hk_timer *timer, uint64_t deadline_ns);
void hk_timer_disarm(struct hk_timer *timer); /* fine if not armed */

int hk_event_add(struct hk_loop *loop, struct hk_event *event, struct hk_err *err);
/** hk_event_signal() - any thread; async-signal-safe; not while hk_event_remove() runs */
void hk_event_signal(struct hk_event *event);
void hk_event_remove(struct hk_event *event); /* closes the eventfd; fine if not added */

/** hk_signal_add() - blocks @signo in the calling thread: call it before others are started */
int hk_signal_add(struct hk_loop *loop, struct hk_signal *signal, int signo, struct hk_err *err);
/** hk_signal_is_ignored() - does the process ignore @signo, as nohup(1) has it? */
bool hk_signal_is_ignored(int signo);
/**
 * hk_signal_remove() - restores the mask of the calling thread; fine if not added
 *
 * Instances that wait to be dispatched are dropped: unblocked, they would take their default
 * action.
 */
void hk_signal_remove(struct hk_signal *signal);

/** hk_now_ns() - CLOCK_MONOTONIC in nanoseconds */
uint64_t hk_now_ns(void);

#endif
