/* SPDX-License-Identifier: ISC */
/*
 * Standard streams: see stdio_linux.h.
 *
 * Theory: the user's descriptors may be files, pipes, terminals or anything else, must not be made
 * non-blocking (others share them), and may block for ever (a pager). So each direction has a
 * thread that blocks: in reading one end, or in writing the other. Back-pressure comes for free:
 * a full socketpair stops the device, which stops the credit, which stops the command.
 *
 * A stream arrives on the loop, which reads its preamble and then hands the socket to its pump.
 *
 * The end: EXITED tells how many bytes the command has written. A pump publishes what it has
 * moved, then looks at the limit; the loop's thread publishes the limit, then looks at what was
 * moved: so one of the two sees that it is enough, whatever the order.
 *
 * A pump can be ended from outside in its blocking calls only: elsewhere cancellation is off, so
 * nothing is left half-done.
 *
 * Limits: standard input is read ahead of what the command takes, up to the buffers on the way.
 */
#include "box/stdio_linux.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/kcmp.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/log.h"
#include "base/util.h"

HK_LOG_CHANNEL("stdio");

/* What the user's descriptors are */

static bool is_null(int fd)
{
	struct stat st;

	return fd < 0 || fstat(fd, &st) < 0 || (S_ISCHR(st.st_mode) && st.st_rdev == makedev(1, 3));
}

/* Do both lead to the same place, so that the order of what is written to them shows? */
static bool is_same(int a, int b)
{
	struct stat x;
	struct stat y;
	pid_t self = getpid();

	if (fstat(a, &x) < 0 || fstat(b, &y) < 0 || x.st_dev != y.st_dev || x.st_ino != y.st_ino) {
		return false;
	}
	/* A file opened twice has two positions, and only `> file 2>&1` means one. */
	return !S_ISREG(x.st_mode) || syscall(SYS_kcmp, self, self, KCMP_FILE, a, b) == 0;
}

uint32_t hk_stdio_exec_flags(const struct hk_stdio *stdio)
{
	uint32_t flags = 0;

	if (stdio->tty) {
		return HK_EXEC_PTY;
	}
	if (stdio->pumps[HK_PUMP_IN].user_fd >= 0) {
		flags |= HK_EXEC_STDIN;
	}
	if (stdio->pumps[HK_PUMP_OUT].user_fd >= 0) {
		flags |= HK_EXEC_STDOUT;
	}
	if (stdio->merged) {
		flags |= HK_EXEC_MERGE;
	} else if (stdio->pumps[HK_PUMP_ERR].user_fd >= 0) {
		flags |= HK_EXEC_STDERR;
	}
	return flags;
}

/* Pumps */

static bool is_again(ssize_t n)
{
	return n < 0 && (errno == EINTR || errno == EAGAIN);
}

/* Somebody has made the user's descriptor non-blocking: wait ourselves. */
static void wait_until(int fd, short events)
{
	struct pollfd pfd = {.fd = fd, .events = events};

	poll(&pfd, 1, -1);
}

/* Input to be had, or -1 as soon as there is nobody to give it to: it is not ours to swallow. */
static int wait_for_input(const struct hk_pump *pump)
{
	struct pollfd pfds[] = {
		{.fd = pump->user_fd, .events = POLLIN}, {.fd = pump->socket, .events = 0}};
	int n;

	do {
		n = poll(pfds, HK_ARRAY_SIZE(pfds), -1);
	} while (n < 0 && errno == EINTR);
	return n < 0 || (pfds[1].revents & (POLLHUP | POLLERR)) != 0 ? -1 : 0;
}

static ssize_t pump_read(struct hk_pump *pump)
{
	int from = pump->role == HK_PUMP_IN ? pump->user_fd : pump->socket;
	int before;
	ssize_t n;

	pthread_setcancelstate(PTHREAD_CANCEL_ENABLE, &before);
	if (pump->role == HK_PUMP_IN && wait_for_input(pump) < 0) {
		n = 0;
	} else {
		while (n = read(from, pump->buf, sizeof(pump->buf)), is_again(n)) {
			wait_until(from, POLLIN);
		}
	}
	pthread_setcancelstate(before, NULL);
	return n;
}

/* Nobody reads any more: a pipe without a reader, a connection reset, a terminal hung up. */
static bool is_reader_gone(const struct hk_pump *pump, int error)
{
	return error == EPIPE || error == ECONNRESET || (error == EIO && isatty(pump->user_fd));
}

static int pump_write(struct hk_pump *pump, size_t len)
{
	int to = pump->role == HK_PUMP_IN ? pump->socket : pump->user_fd;
	size_t done = 0;
	int error = 0;
	int before;

	pthread_setcancelstate(PTHREAD_CANCEL_ENABLE, &before);
	while (error == 0 && done < len) {
		ssize_t n = write(to, pump->buf + done, len - done);

		if (n >= 0) {
			done += (size_t)n;
		} else if (is_again(n)) {
			wait_until(to, POLLOUT);
		} else {
			error = errno;
		}
	}
	pthread_setcancelstate(before, NULL);
	if (error != 0 && pump->role != HK_PUMP_IN && !is_reader_gone(pump, error)) {
		atomic_store(&pump->error, error);
	}
	return -error;
}

static void *pump_run(void *arg)
{
	struct hk_pump *pump = arg;
	sigset_t pipe_set;
	ssize_t n;

	pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, NULL);
	sigemptyset(&pipe_set);
	sigaddset(&pipe_set, SIGPIPE);
	pthread_sigmask(SIG_BLOCK, &pipe_set, NULL); /* EPIPE says it, too */
	while ((n = pump_read(pump)) > 0 && pump_write(pump, (size_t)n) == 0) {
		uint64_t moved = atomic_fetch_add(&pump->moved, (uint64_t)n) + (uint64_t)n;

		if (moved >= atomic_load(&pump->limit)) {
			hk_event_signal(&pump->stdio->event);
		}
	}
	/* Input: the end of it, for the command. Output that cannot be written: SIGPIPE for it. */
	shutdown(pump->socket, pump->role == HK_PUMP_IN ? SHUT_WR : SHUT_RD);
	atomic_store(&pump->ended, true);
	hk_event_signal(&pump->stdio->event);
	return NULL;
}

/* Takes @socket over in any case. */
static void start_pump(struct hk_stdio *stdio, enum hk_pump_role role, int socket)
{
	struct hk_pump *pump = &stdio->pumps[role];

	if (pump->socket >= 0 || pump->user_fd < 0) {
		hk_log_debug("the guest opened a stream that it was not asked for");
		hk_close(&socket);
		return;
	}
	pump->socket = socket;
	pump->running = pthread_create(&pump->thread, NULL, pump_run, pump) == 0;
	if (!pump->running) {
		/* As if the user's end had been closed. */
		shutdown(pump->socket, SHUT_RDWR);
		atomic_store(&pump->ended, true);
	}
}

static void stop_pump(struct hk_pump *pump)
{
	if (pump->running) {
		pthread_cancel(pump->thread);
		pthread_join(pump->thread, NULL);
	}
	hk_close(&pump->socket);
}

/* Arrivals */

static void release_arrival(struct hk_arrival *arrival)
{
	hk_source_remove(&arrival->source);
	hk_close(&arrival->source.fd);
}

static void hand_over(struct hk_stdio *stdio, enum hk_stream_kind kind, int socket)
{
	int flags = fcntl(socket, F_GETFL);

	fcntl(socket, F_SETFL, flags & ~O_NONBLOCK);
	switch (kind) {
	case HK_STREAM_STDIN:
		start_pump(stdio, HK_PUMP_IN, socket);
		break;
	case HK_STREAM_STDOUT:
		start_pump(stdio, HK_PUMP_OUT, socket);
		break;
	case HK_STREAM_STDERR:
		start_pump(stdio, HK_PUMP_ERR, socket);
		break;
	case HK_STREAM_TTY: {
		/* seccomp: fcntl:F_DUPFD_CLOEXEC */
		int in = fcntl(socket, F_DUPFD_CLOEXEC, 0);

		start_pump(stdio, HK_PUMP_OUT, socket);
		if (in >= 0) {
			start_pump(stdio, HK_PUMP_IN, in);
		}
		break;
	}
	case HK_STREAM_KIND_COUNT:
		hk_close(&socket);
		break;
	}
}

static void arrival_ready(struct hk_source *source, uint32_t events)
{
	struct hk_arrival *arrival = hk_container_of(source, struct hk_arrival, source);
	struct hk_stdio *stdio = arrival->stdio;
	struct hk_stream_preamble preamble;
	ssize_t n = read(source->fd, arrival->preamble + arrival->len,
		sizeof(arrival->preamble) - arrival->len);

	if (is_again(n)) {
		return;
	}
	if (n <= 0) {
		release_arrival(arrival);
		return;
	}
	arrival->len += (size_t)n;
	if (arrival->len < sizeof(arrival->preamble)) {
		return;
	}
	if (hk_stream_preamble_get(arrival->preamble, &preamble) == 0 &&
		preamble.command_id == stdio->command_id &&
		(preamble.kind == HK_STREAM_TTY) == stdio->tty) {
		int socket = source->fd;

		hk_source_remove(source);
		source->fd = -1;
		hand_over(stdio, preamble.kind, socket);
		stdio->owner->progressed(stdio->owner);
	} else {
		release_arrival(arrival);
	}
}

int hk_stdio_accept(struct hk_stdio *stdio)
{
	struct hk_arrival *arrival = NULL;
	autoclose int device_end = -1;
	int pair[2];

	for (size_t i = 0; arrival == NULL && i < HK_ARRAY_SIZE(stdio->arrivals); i++) {
		if (stdio->arrivals[i].source.loop == NULL) {
			arrival = &stdio->arrivals[i];
		}
	}
	if (arrival == NULL) {
		return -ECONNREFUSED;
	}
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) < 0) {
		return -errno;
	}
	device_end = pair[0];
	*arrival = (struct hk_arrival){
		.stdio = stdio,
		.source = {.fd = pair[1], .events = EPOLLIN, .ready = arrival_ready},
	};
	if (hk_source_add(stdio->loop, &arrival->source, NULL) < 0) {
		hk_close(&arrival->source.fd);
		return -ENOMEM;
	}
	return take_fd(&device_end);
}

/* The end */

void hk_stdio_expect(struct hk_stdio *stdio, uint64_t stdout_bytes, uint64_t stderr_bytes)
{
	atomic_store(&stdio->pumps[HK_PUMP_OUT].limit, stdout_bytes);
	atomic_store(&stdio->pumps[HK_PUMP_ERR].limit, stderr_bytes);
}

static bool is_drained(const struct hk_pump *pump)
{
	return pump->user_fd < 0 || atomic_load(&pump->ended) ||
		atomic_load(&pump->moved) >= atomic_load(&pump->limit);
}

bool hk_stdio_drained(const struct hk_stdio *stdio)
{
	return is_drained(&stdio->pumps[HK_PUMP_OUT]) && is_drained(&stdio->pumps[HK_PUMP_ERR]);
}

int hk_stdio_error(const struct hk_stdio *stdio, const char **ret_name)
{
	static const char *const names[HK_PUMP_COUNT] = {
		[HK_PUMP_OUT] = "stdout", [HK_PUMP_ERR] = "stderr"};

	for (unsigned role = HK_PUMP_OUT; role < HK_PUMP_COUNT; role++) {
		int error = atomic_load(&stdio->pumps[role].error);

		if (error != 0) {
			*ret_name = names[role];
			return -error;
		}
	}
	return 0;
}

bool hk_stdio_missing(const struct hk_stdio *stdio)
{
	for (unsigned role = HK_PUMP_OUT; role < HK_PUMP_COUNT; role++) {
		const struct hk_pump *pump = &stdio->pumps[role];

		if (pump->socket < 0 && !is_drained(pump)) {
			return true;
		}
	}
	return false;
}

static void raised(struct hk_event *event)
{
	struct hk_stdio *stdio = hk_container_of(event, struct hk_stdio, event);

	stdio->owner->progressed(stdio->owner);
}

static void init_pump(struct hk_stdio *stdio, enum hk_pump_role role, int user_fd)
{
	struct hk_pump *pump = &stdio->pumps[role];

	pump->stdio = stdio;
	pump->role = role;
	pump->user_fd = user_fd;
	pump->socket = -1;
	atomic_init(&pump->limit, UINT64_MAX);
}

int hk_stdio_create(struct hk_loop *loop, struct hk_stdio_owner *owner, uint32_t command_id,
	bool tty, int stdin_fd, int stdout_fd, int stderr_fd, struct hk_stdio **ret_stdio,
	struct hk_err *err)
{
	struct hk_stdio *stdio;
	int r;

	if (hk_new(stdio) == NULL) {
		return hk_fail(err, ENOMEM, "standard streams");
	}
	stdio->loop = loop;
	stdio->owner = owner;
	stdio->command_id = command_id;
	stdio->tty = tty;
	stdio->event.raised = raised;
	/* A terminal's streams are there also if they lead to /dev/null. */
	init_pump(stdio, HK_PUMP_IN, tty || !is_null(stdin_fd) ? stdin_fd : -1);
	init_pump(stdio, HK_PUMP_OUT, tty || !is_null(stdout_fd) ? stdout_fd : -1);
	stdio->merged = !tty && stdio->pumps[HK_PUMP_OUT].user_fd >= 0 && !is_null(stderr_fd) &&
		is_same(stdout_fd, stderr_fd);
	init_pump(stdio, HK_PUMP_ERR, tty || stdio->merged || is_null(stderr_fd) ? -1 : stderr_fd);
	r = hk_event_add(loop, &stdio->event, err);
	if (r < 0) {
		free(stdio);
		return r;
	}
	*ret_stdio = stdio;
	return 0;
}

void hk_stdio_destroy(struct hk_stdio *stdio)
{
	if (stdio == NULL) {
		return;
	}
	for (unsigned role = 0; role < HK_PUMP_COUNT; role++) {
		stop_pump(&stdio->pumps[role]);
	}
	for (size_t i = 0; i < HK_ARRAY_SIZE(stdio->arrivals); i++) {
		if (stdio->arrivals[i].source.loop != NULL) {
			release_arrival(&stdio->arrivals[i]);
		}
	}
	hk_event_remove(&stdio->event);
	free(stdio);
}
