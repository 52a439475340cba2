/* SPDX-License-Identifier: ISC */
/*
 * Pumps.
 *
 * Theory: one buffer; read when it is empty, write until it is. So a slow reader stops its writer
 * and nobody else. Data is read and written, not spliced: vsock has no zero-copy of pipe
 * pages, so splice() would send a packet for each page, where a write sends one for 64 KiB.
 *
 * A descriptor is polled only while something would be done about it; else a hung-up pipe whose
 * data cannot go anywhere yet would keep the loop spinning. The end that is written to is always
 * polled for errors, which say that its reader is gone.
 *
 * Limits: a reader that leaves while nothing is written is noticed on sockets when they are closed
 * both ways, on pipes always.
 */
#include "streams.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <termios.h>
#include <unistd.h>

static int start(struct hk_pump *pump, int from, int to)
{
	*pump = (struct hk_pump){.running = true, .from = from, .to = to};
	pump->buf = malloc(HK_PUMP_BYTES);
	if (!pump->buf) {
		hk_pump_stop(pump);
		return -ENOMEM;
	}
	return 0;
}

int hk_pump_from_guest(struct hk_pump *pump, int local, int stream, bool tty,
	const struct hk_stream_preamble *preamble)
{
	int r = start(pump, local, stream);

	if (r < 0) {
		return r;
	}
	pump->to_host = true;
	pump->tty = tty;
	if (preamble) {
		hk_stream_preamble_put(pump->buf, *preamble);
		pump->end = HK_STREAM_PREAMBLE_BYTES;
	}
	return 0;
}

int hk_pump_from_host(struct hk_pump *pump, int local, int stream, bool tty,
	const struct hk_stream_preamble *preamble)
{
	int r = start(pump, stream, local);

	if (r < 0) {
		return r;
	}
	pump->tty = tty;
	if (preamble) {
		pump->preamble_first = true;
		pump->preamble = *preamble;
	}
	return 0;
}

void hk_pump_stop(struct hk_pump *pump)
{
	if (!pump->running) {
		return;
	}
	if (pump->to_host) {
		/* A tty's other pump may still hold the stream open: the end has to be said. */
		shutdown(pump->to, SHUT_WR);
	}
	close(pump->from);
	close(pump->to);
	free(pump->buf);
	pump->buf = NULL;
	pump->running = false;
}

void hk_pump_prepare(const struct hk_pump *pump, struct pollfd fds[2])
{
	bool full = pump->start < pump->end;

	fds[0] = (struct pollfd){.fd = -1};
	fds[1] = (struct pollfd){.fd = -1};
	if (!pump->running) {
		return;
	}
	if (pump->preamble_first) {
		fds[0] = (struct pollfd){.fd = pump->from, .events = POLLOUT};
		return;
	}
	if (!full) {
		fds[0] = (struct pollfd){.fd = pump->from, .events = POLLIN};
	}
	fds[1] = (struct pollfd){.fd = pump->to, .events = full ? POLLOUT : 0};
}

/* The stream is connected, or failed to be. */
static void send_preamble(struct hk_pump *pump)
{
	uint8_t bytes[HK_STREAM_PREAMBLE_BYTES];

	hk_stream_preamble_put(bytes, pump->preamble);
	/* The first bytes of a connection: they fit, or the connection is no good. */
	if (write(pump->from, bytes, sizeof(bytes)) != (ssize_t)sizeof(bytes)) {
		hk_pump_stop(pump);
		return;
	}
	pump->preamble_first = false;
}

/*
 * The user's input ended: a program that reads lines is to see that, as at the end of a file. One
 * that reads keys gets nothing; the byte would be a key to it.
 */
static void type_end_of_file(struct hk_pump *pump)
{
	struct termios settings;

	if (tcgetattr(pump->to, &settings) == 0 && (settings.c_lflag & ICANON)) {
		pump->buf[0] = settings.c_cc[VEOF];
		pump->start = 0;
		pump->end = 1;
	}
}

static void fill(struct hk_pump *pump)
{
	ssize_t n = read(pump->from, pump->buf, HK_PUMP_BYTES);

	if (n > 0) {
		pump->taken += (uint64_t)n;
		pump->start = 0;
		pump->end = (size_t)n;
		return;
	}
	if (n < 0 && (errno == EINTR || (errno == EAGAIN && !pump->end_if_empty))) {
		return;
	}
	/* The end; for a pty's master that is EIO, and any other error ends the data as well. */
	pump->at_end = true;
	if (pump->tty && !pump->to_host) {
		type_end_of_file(pump);
	}
	if (pump->start == pump->end) {
		hk_pump_stop(pump);
	}
}

static void drain(struct hk_pump *pump)
{
	ssize_t n;

	if (!pump->running || pump->start == pump->end) {
		return;
	}
	n = write(pump->to, pump->buf + pump->start, pump->end - pump->start);

	if (n < 0) {
		if (errno != EAGAIN && errno != EINTR) {
			hk_pump_stop(pump);
		}
		return;
	}
	pump->start += (size_t)n;
	if (pump->start == pump->end && pump->at_end) {
		hk_pump_stop(pump);
	}
}

/* Empty the buffer and fill it, until one of them cannot go on. */
static void finish(struct hk_pump *pump)
{
	while (pump->running) {
		if (pump->start == pump->end) {
			fill(pump);
		}
		drain(pump);
		if (pump->running && pump->start < pump->end) {
			return; /* the reader is slow */
		}
	}
}

void hk_pump_end_if_empty(struct hk_pump *pump)
{
	pump->end_if_empty = true;
	finish(pump);
}

void hk_pump_run(struct hk_pump *pump, const struct pollfd fds[2])
{
	if (!pump->running) {
		return;
	}
	if (pump->preamble_first) {
		if (fds[0].revents) {
			send_preamble(pump);
		}
		return;
	}
	if (fds[1].revents && !(fds[1].events & POLLOUT)) {
		/* Nothing was asked for: the reader is gone. */
		hk_pump_stop(pump);
		return;
	}
	if (fds[0].revents) {
		fill(pump);
	}
	if (fds[0].revents || fds[1].revents) {
		/* Most often what was just read can be written at once. */
		drain(pump);
	}
	if (pump->end_if_empty) {
		finish(pump);
	}
}

uint64_t hk_pump_written(const struct hk_pump *pump)
{
	int waiting = 0;

	if (pump->running && !pump->at_end && ioctl(pump->from, FIONREAD, &waiting) < 0) {
		waiting = 0;
	}
	return pump->taken + (uint64_t)waiting;
}
