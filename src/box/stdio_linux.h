/* SPDX-License-Identifier: ISC */
/*
 * The command's standard streams: between the user's descriptors and the vsock streams that the
 * agent opens for the command.
 *
 *	user's fd ◀── pump (thread) ──▶ socketpair ◀── virtio-vsock ──▶ agent ──▶ command
 *
 * Binary-clean; the three are separate. The flags of the user's descriptors stay as they are: they
 * are shared with other processes. All functions: the loop's thread.
 */
#ifndef HK_BOX_STDIO_LINUX_H
#define HK_BOX_STDIO_LINUX_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/loop.h"
#include "control/control.h"

enum hk_pump_role { HK_PUMP_IN, HK_PUMP_OUT, HK_PUMP_ERR, HK_PUMP_COUNT };

enum { HK_STDIO_MAX_ARRIVALS = 4, HK_PUMP_BUF_SIZE = 65536 };

struct hk_stdio;

/* One direction of one stream: a thread that copies. */
struct hk_pump {
	struct hk_stdio *stdio;
	enum hk_pump_role role;
	int user_fd; /* borrowed; -1: the command has /dev/null */
	int socket;  /* owned; -1 until the agent has opened the stream */
	pthread_t thread;
	bool running; /* to be joined */
	atomic_bool ended;
	atomic_int error; /* errno of output that was lost; a reader that left loses nothing */
	atomic_uint_fast64_t moved; /* bytes that have reached the user */
	atomic_uint_fast64_t limit; /* as many are the command's */
	uint8_t buf[HK_PUMP_BUF_SIZE];
};

/* A stream that has not said yet what it is. */
struct hk_arrival {
	struct hk_source source; /* fd owned; loop NULL while the place is free */
	struct hk_stdio *stdio;
	uint8_t preamble[HK_STREAM_PREAMBLE_BYTES];
	size_t len;
};

struct hk_stdio_owner {
	/* hk_stdio_drained() may have become true. Loop's thread. Required. */
	void (*progressed)(struct hk_stdio_owner *owner);
};

struct hk_stdio {
	struct hk_loop *loop;         /* borrowed */
	struct hk_stdio_owner *owner; /* borrowed */
	uint32_t command_id;
	bool tty;
	bool merged;
	struct hk_event event; /* raised by pumps */
	struct hk_arrival arrivals[HK_STDIO_MAX_ARRIVALS];
	struct hk_pump pumps[HK_PUMP_COUNT];
};

/**
 * hk_stdio_create() - @stdin_fd, @stdout_fd, @stderr_fd are borrowed; -1 is /dev/null
 * @tty: one stream for all; it goes to @stdout_fd
 */
int hk_stdio_create(struct hk_loop *loop, struct hk_stdio_owner *owner, uint32_t command_id,
	bool tty, int stdin_fd, int stdout_fd, int stderr_fd, struct hk_stdio **ret_stdio,
	struct hk_err *err);

/** hk_stdio_destroy() - ends the pumps wherever they are; NULL is fine */
void hk_stdio_destroy(struct hk_stdio *stdio);

/** hk_stdio_exec_flags() - HK_EXEC_*: which streams the agent shall open */
uint32_t hk_stdio_exec_flags(const struct hk_stdio *stdio);

/** hk_stdio_accept() - the agent opens a stream. Return: its end for the device, or -errno. */
int hk_stdio_accept(struct hk_stdio *stdio);

/** hk_stdio_expect() - the command has ended and had written so much */
void hk_stdio_expect(struct hk_stdio *stdio, uint64_t stdout_bytes, uint64_t stderr_bytes);

/** hk_stdio_drained() - has all that hk_stdio_expect() told of reached the user (or can it not)? */
bool hk_stdio_drained(const struct hk_stdio *stdio);

/**
 * hk_stdio_error() - has output been lost, for want of space and the like?
 * @ret_name: "stdout" or "stderr"
 *
 * A reader that has left (EPIPE) is no error: the command is told by SIGPIPE.
 *
 * Return: 0, or -errno.
 */
int hk_stdio_error(const struct hk_stdio *stdio, const char **ret_name);

/** hk_stdio_missing() - is there a stream that should have been opened and was not? */
bool hk_stdio_missing(const struct hk_stdio *stdio);

#endif
