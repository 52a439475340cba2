/* SPDX-License-Identifier: ISC */
/*
 * The event loop over epoll.
 *
 * Theory: everything a loop waits for is a struct hk_source in one epoll set. The loop has two of
 * its own: a timerfd set to the head of the sorted timer list, and an eventfd that wakes it for
 * posts and for stopping. Events and signals are in loop_event_linux.c.
 *
 * Removal during dispatch: epoll_wait() fills a batch on the stack of dispatch_once(); batches
 * of nested runs are linked. Removing a source strikes it from the rest of every batch, so a source
 * may be removed and freed by any handler. Due timers and posts are moved to a list in the loop
 * before the first of them runs, and are taken from its head one by one: what a handler arms or
 * posts waits for the next round (no starvation), and what it disarms is found in either list.
 *
 * Stopping: the flag is consumed by the hk_loop_run() that returns because of it, so a stop that
 * comes before the run is not lost. What had been fetched but not dispatched stays pending:
 * level-triggered sources report again, edge-triggered ones are re-armed, timers go back, posts
 * stay.
 *
 * Limits: arming a timer is linear in the number of armed ones (a box has tens). A descriptor must
 * be removed before it is closed.
 *
 * Locks: post_lock protects the list of posts, and nothing is called under it.
 */
#include "base/loop.h"

#include <assert.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/timerfd.h>
#include <time.h>

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/loop_impl_linux.h"
#include "base/timespec.h"
#include "base/util.h"

enum { BATCH_SIZE = 64, OWN_SOURCES = 2 };

struct batch {
	struct epoll_event events[BATCH_SIZE]; /* data.ptr NULL: removed meanwhile */
	int count;
	int next;
	const atomic_bool *stop; /* looked at after each handler; borrowed */
	struct batch *outer;     /* of the run that called this one from a handler, or NULL */
};

struct hk_loop {
	int epoll_fd;
	struct hk_source timer_source; /* a timerfd, owned */
	struct hk_source wake_source;  /* an eventfd, owned */
	size_t source_count;           /* OWN_SOURCES among them */
	struct batch *batch;           /* the innermost being dispatched, borrowed, or NULL */
	struct hk_timer *timers;       /* sorted by deadline, borrowed */
	struct hk_timer *due;          /* taken from @timers to be fired in this round, borrowed */
	uint64_t timer_set_ns;         /* what the timerfd is set to; 0: not set */
	struct hk_post *current;       /* posts of this round not yet run, borrowed */
	atomic_bool stop;

	pthread_mutex_t post_lock;
	struct hk_post *posted; /* post_lock; borrowed, in order of posting */
	struct hk_post **tail;  /* post_lock; where the next one goes */
};

uint64_t hk_now_ns(void)
{
	struct timespec now;

	/* seccomp: clock_gettime */
	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)hk_timespec_ns(now);
}

/* Sources */

static int control(struct hk_loop *loop, int op, struct hk_source *source)
{
	struct epoll_event event = {.events = source->events, .data.ptr = source};

	/* seccomp: epoll_ctl */
	return hk_loop_faulted() || epoll_ctl(loop->epoll_fd, op, source->fd, &event) < 0 ? -errno
											  : 0;
}

int hk_source_add(struct hk_loop *loop, struct hk_source *source, struct hk_err *err)
{
	int r;

	assert(source->loop == NULL && source->ready != NULL);
	r = control(loop, EPOLL_CTL_ADD, source);
	if (r < 0) {
		return hk_fail(err, -r, "event loop: watch descriptor %d", source->fd);
	}
	source->loop = loop;
	loop->source_count++;
	return 0;
}

int hk_source_set_events(struct hk_source *source, uint32_t events)
{
	uint32_t before = source->events;
	int r;

	source->events = events;
	if (source->loop == NULL) {
		return 0;
	}
	r = control(source->loop, EPOLL_CTL_MOD, source);
	if (r < 0) {
		source->events = before;
	}
	return r;
}

void hk_source_remove(struct hk_source *source)
{
	struct hk_loop *loop = source->loop;

	if (loop == NULL) {
		return;
	}
	epoll_ctl(loop->epoll_fd, EPOLL_CTL_DEL, source->fd, NULL);
	for (struct batch *b = loop->batch; b != NULL; b = b->outer) {
		for (int i = b->next; i < b->count; i++) {
			if (b->events[i].data.ptr == source) {
				b->events[i].data.ptr = NULL;
			}
		}
	}
	source->loop = NULL;
	loop->source_count--;
}

/* Shall the run that dispatches now end? Called from handlers of the loop's own sources. */
static bool stopped(const struct hk_loop *loop)
{
	return atomic_load(loop->batch->stop);
}

/* Timers */

static void insert_timer(struct hk_loop *loop, struct hk_timer *timer)
{
	struct hk_timer **at = &loop->timers;

	while (*at != NULL && (*at)->deadline_ns <= timer->deadline_ns) {
		at = &(*at)->next;
	}
	timer->next = *at;
	*at = timer;
}

static bool unlink_timer(struct hk_timer **list, struct hk_timer *timer)
{
	for (struct hk_timer **at = list; *at != NULL; at = &(*at)->next) {
		if (*at == timer) {
			*at = timer->next;
			timer->next = NULL;
			return true;
		}
	}
	return false;
}

void hk_timer_arm(struct hk_loop *loop, struct hk_timer *timer, uint64_t deadline_ns)
{
	assert(timer->fire != NULL);
	hk_timer_disarm(timer);
	timer->deadline_ns = deadline_ns;
	timer->loop = loop;
	insert_timer(loop, timer);
}

void hk_timer_disarm(struct hk_timer *timer)
{
	struct hk_loop *loop = timer->loop;

	if (loop == NULL) {
		return;
	}
	if (!unlink_timer(&loop->timers, timer)) {
		unlink_timer(&loop->due, timer);
	}
	timer->loop = NULL;
}

/* Sets the timerfd to the first deadline, where it is not already. */
static int set_timerfd(struct hk_loop *loop)
{
	/* 0 would mean "not set"; the past is as good as 1 ns. */
	uint64_t at_ns = loop->timers == NULL ? 0 : HK_MAX(loop->timers->deadline_ns, 1);
	struct itimerspec spec = {.it_value = hk_timespec_of(at_ns)};

	if (at_ns == loop->timer_set_ns) {
		return 0;
	}
	/* seccomp: timerfd_settime */
	if (timerfd_settime(loop->timer_source.fd, TFD_TIMER_ABSTIME, &spec, NULL) < 0) {
		return -errno;
	}
	loop->timer_set_ns = at_ns;
	return 0;
}

static void move_due_timers(struct hk_loop *loop)
{
	uint64_t now_ns = hk_now_ns();
	struct hk_timer **tail = &loop->due;

	while (*tail != NULL) {
		tail = &(*tail)->next;
	}
	while (loop->timers != NULL && loop->timers->deadline_ns <= now_ns) {
		struct hk_timer *timer = loop->timers;

		loop->timers = timer->next;
		timer->next = NULL;
		*tail = timer;
		tail = &timer->next;
	}
}

static void timers_ready(struct hk_source *source, uint32_t events)
{
	struct hk_loop *loop = hk_container_of(source, struct hk_loop, timer_source);
	struct hk_timer *timer;

	hk_loop_clear_counter(source->fd);
	loop->timer_set_ns = 0; /* it has expired */
	move_due_timers(loop);
	while ((timer = loop->due) != NULL) {
		loop->due = timer->next;
		timer->next = NULL;
		if (stopped(loop)) {
			insert_timer(loop, timer);
			continue;
		}
		timer->loop = NULL;
		timer->fire(timer);
	}
}

/* Posts */

static void append_posts(struct hk_post **at, struct hk_post *posts)
{
	while (*at != NULL) {
		at = &(*at)->next;
	}
	*at = posts;
}

static void take_posts(struct hk_loop *loop)
{
	struct hk_post *posts;

	hk_loop_clear_counter(loop->wake_source.fd);
	pthread_mutex_lock(&loop->post_lock);
	posts = loop->posted;
	loop->posted = NULL;
	loop->tail = &loop->posted;
	pthread_mutex_unlock(&loop->post_lock);
	append_posts(&loop->current, posts);
}

static void posts_ready(struct hk_source *source, uint32_t events)
{
	struct hk_loop *loop = hk_container_of(source, struct hk_loop, wake_source);
	struct hk_post *post;

	take_posts(loop);
	while ((post = loop->current) != NULL && !stopped(loop)) {
		loop->current = post->next;
		post->next = NULL;
		post->run(post);
	}
	if (loop->current != NULL) {
		/* Stopped: they stay, ahead of what comes meanwhile, and the next run is told. */
		hk_loop_raise_eventfd(source->fd);
	}
}

void hk_loop_post(struct hk_loop *loop, struct hk_post *post)
{
	bool first;

	assert(post->run != NULL);
	post->next = NULL;
	pthread_mutex_lock(&loop->post_lock);
	first = loop->posted == NULL;
	*loop->tail = post;
	loop->tail = &post->next;
	if (first) {
		/* Under the lock: once the post has run, its poster may destroy the loop. */
		hk_loop_raise_eventfd(loop->wake_source.fd);
	}
	pthread_mutex_unlock(&loop->post_lock);
}

bool hk_loop_cancel_post(struct hk_loop *loop, struct hk_post *post)
{
	bool found = false;

	for (struct hk_post **at = &loop->current; *at != NULL; at = &(*at)->next) {
		if (*at == post) {
			*at = post->next;
			post->next = NULL;
			return true;
		}
	}
	pthread_mutex_lock(&loop->post_lock);
	for (struct hk_post **at = &loop->posted; *at != NULL; at = &(*at)->next) {
		if (*at == post) {
			*at = post->next;
			if (loop->tail == &post->next) {
				loop->tail = at;
			}
			post->next = NULL;
			found = true;
			break;
		}
	}
	pthread_mutex_unlock(&loop->post_lock);
	return found;
}

/* Running */

/* Edge-triggered sources would not tell a second time: ask the kernel to look again. */
static void leave_pending(struct hk_loop *loop, struct batch *b)
{
	for (; b->next < b->count; b->next++) {
		struct hk_source *source = b->events[b->next].data.ptr;

		if (source != NULL && (source->events & (EPOLLET | EPOLLONESHOT)) != 0) {
			control(loop, EPOLL_CTL_MOD, source);
		}
	}
}

static void dispatch(const struct epoll_event *event)
{
	struct hk_source *source = event->data.ptr;
	uint32_t events;

	if (source == NULL) {
		return;
	}
	/* An earlier handler of this batch may have lost interest in what was fetched. */
	events = event->events & (source->events | EPOLLERR | EPOLLHUP);
	if (events != 0) {
		source->ready(source, events);
	}
}

static int dispatch_once(struct hk_loop *loop, int timeout_ms, const atomic_bool *stop)
{
	struct batch b;
	int r = set_timerfd(loop);

	if (r < 0) {
		return r;
	}
	/* seccomp: epoll_wait epoll_pwait */
	b.count = epoll_wait(loop->epoll_fd, b.events, BATCH_SIZE, timeout_ms);
	if (b.count < 0) {
		return errno == EINTR ? 0 : -errno;
	}
	b.next = 0;
	b.stop = stop;
	b.outer = loop->batch;
	loop->batch = &b;
	while (b.next < b.count && !atomic_load(stop)) {
		dispatch(&b.events[b.next++]);
	}
	leave_pending(loop, &b);
	loop->batch = b.outer;
	return 0;
}

int hk_loop_run(struct hk_loop *loop)
{
	while (!atomic_exchange(&loop->stop, false)) {
		int r = dispatch_once(loop, -1, &loop->stop);

		if (r < 0) {
			return r;
		}
	}
	return 0;
}

int hk_loop_run_once(struct hk_loop *loop, int timeout_ms)
{
	static const atomic_bool never;

	return dispatch_once(loop, timeout_ms, &never);
}

void hk_loop_stop(struct hk_loop *loop)
{
	atomic_store(&loop->stop, true);
	hk_loop_raise_eventfd(loop->wake_source.fd);
}

/* Life */

static int add_own_source(struct hk_loop *loop, struct hk_source *source, int fd,
	void (*ready)(struct hk_source *source, uint32_t events), struct hk_err *err)
{
	*source = (struct hk_source){.fd = fd, .events = EPOLLIN, .ready = ready};
	if (fd < 0) {
		return hk_fail(err, errno, "event loop");
	}
	return hk_source_add(loop, source, err);
}

static void free_loop(struct hk_loop *loop)
{
	hk_source_remove(&loop->timer_source);
	hk_source_remove(&loop->wake_source);
	hk_close(&loop->timer_source.fd);
	hk_close(&loop->wake_source.fd);
	hk_close(&loop->epoll_fd);
	pthread_mutex_destroy(&loop->post_lock);
	free(loop);
}

int hk_loop_create(struct hk_loop **ret_loop, struct hk_err *err)
{
	struct hk_loop *loop;
	int r;

	if (hk_new(loop) == NULL) {
		return hk_fail(err, ENOMEM, "event loop");
	}
	loop->timer_source.fd = -1;
	loop->wake_source.fd = -1;
	loop->tail = &loop->posted;
	pthread_mutex_init(&loop->post_lock, NULL);
	loop->epoll_fd = hk_loop_faulted() ? -1 : epoll_create1(EPOLL_CLOEXEC);
	if (loop->epoll_fd < 0) {
		r = hk_fail(err, errno, "event loop: epoll");
		goto failed;
	}
	r = add_own_source(loop, &loop->timer_source,
		hk_loop_faulted() ? -1
				  : timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK),
		timers_ready, err);
	if (r < 0) {
		goto failed;
	}
	r = add_own_source(loop, &loop->wake_source,
		hk_loop_faulted() ? -1 : eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK), posts_ready, err);
	if (r < 0) {
		goto failed;
	}
	*ret_loop = loop;
	return 0;
failed:
	free_loop(loop);
	return r;
}

void hk_loop_destroy(struct hk_loop *loop)
{
	if (loop == NULL) {
		return;
	}
	assert(loop->source_count == OWN_SOURCES && loop->batch == NULL);
	assert(loop->timers == NULL && loop->due == NULL);
	free_loop(loop);
}
