/* SPDX-License-Identifier: ISC */
/* Pumps: a command's pipe or pty on one side, a stream to the host on the other. */
#ifndef HK_GUEST_STREAMS_H
#define HK_GUEST_STREAMS_H

#include <poll.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "control/control.h"

enum { HK_PUMP_BYTES = 64 << 10 };

/**
 * struct hk_pump - copies one way, from one descriptor to another; both non-blocking
 *
 * Zeroed it is one that has ended. An end of data is passed on behind the last byte; where the
 * reader is gone the writer is closed, so that it sees what it would see on a pipe of its own.
 */
struct hk_pump {
	bool running;
	bool to_host;
	bool tty;            /* @from or @to is the master side of a pty */
	int from;            /* owned */
	int to;              /* owned */
	uint64_t taken;      /* bytes of data read from @from */
	uint8_t *buf;        /* owned, HK_PUMP_BYTES */
	size_t start;        /* of what was read and is still to be written */
	size_t end;          /* of it */
	bool preamble_first; /* host to guest: say on @from which stream this is */
	bool at_end;         /* of @from's data */
	bool end_if_empty;   /* @from ends where it has nothing to read */
	struct hk_stream_preamble preamble;
};

/**
 * hk_pump_from_guest() - start copying @local to the stream @stream, behind the preamble
 * hk_pump_from_host() - start copying the stream @stream to @local
 * @local, @stream: owned from now on, also on failure
 * @preamble: NULL if another pump of the same stream sends it
 *
 * Return: 0 or -ENOMEM.
 */
int hk_pump_from_guest(struct hk_pump *pump, int local, int stream, bool tty,
	const struct hk_stream_preamble *preamble);
int hk_pump_from_host(struct hk_pump *pump, int local, int stream, bool tty,
	const struct hk_stream_preamble *preamble);

/** hk_pump_stop() - close both ends now; what was not written is lost */
void hk_pump_stop(struct hk_pump *pump);

/**
 * hk_pump_end_if_empty() - take what @from has now for all there is
 *
 * For a pty whose command has ended: others may hold it open, and would keep it from ending.
 */
void hk_pump_end_if_empty(struct hk_pump *pump);

/** hk_pump_prepare() - fill @fds, for from and to, with what the pump waits for */
void hk_pump_prepare(const struct hk_pump *pump, struct pollfd fds[2]);

/** hk_pump_run() - do what @fds says is possible, once in each direction */
void hk_pump_run(struct hk_pump *pump, const struct pollfd fds[2]);

/** hk_pump_written() - bytes that were written to @from so far: read, or still in the pipe */
uint64_t hk_pump_written(const struct hk_pump *pump);

#endif
