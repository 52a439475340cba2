/* SPDX-License-Identifier: ISC */
/*
 * The monitor's side of the control channel (hako-control(7)) as a state machine for one command.
 *
 * A protocol core: bytes of the guest in, events out; requests in, bytes for the guest out. It
 * holds no descriptor and calls no clock. The guest is hostile: whatever it sends, in whatever
 * order, ends at worst in an error, after which the session takes nothing more.
 */
#ifndef HK_BOX_SESSION_H
#define HK_BOX_SESSION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/state.h"
#include "control/control.h"

/** enum hk_session_state - what comes next */
enum hk_session_state {
	HK_SESSION_BOOTING,    /* HELLO */
	HK_SESSION_READY,      /* hk_session_setup() */
	HK_SESSION_SETTING_UP, /* DONE or FAILED */
	HK_SESSION_SET_UP,     /* hk_session_exec() */
	HK_SESSION_STARTING,   /* STARTED or EXEC_FAILED */
	HK_SESSION_RUNNING,    /* EXITED */
	HK_SESSION_OVER,       /* nothing but PONGs */
	HK_SESSION_FAILED,     /* nothing */
	HK_SESSION_STATE_COUNT,
};

enum hk_session_event {
	HK_SESSION_NOTHING,     /* all bytes are taken */
	HK_SESSION_HELLO,       /* state READY; hello_ns is set */
	HK_SESSION_DONE,        /* state SET_UP */
	HK_SESSION_STARTED,     /* state RUNNING */
	HK_SESSION_NOT_STARTED, /* state OVER; exec_failed is set */
	HK_SESSION_EXITED,      /* state OVER; exited is set */
	HK_SESSION_PONG,        /* the agent lives */
};

enum { HK_SESSION_COMMAND = 1, HK_SESSION_MAX_HELD_SIGNALS = 8 };

/**
 * struct hk_session - zero-initialize, then hk_session_init()
 * @out: bytes for the guest; the owner sends them and calls hk_control_buf_consume()
 * @hello_ns: the guest's clock since its boot at HELLO
 * @kernel_release: the guest's words, escaped
 */
struct hk_session {
	enum hk_session_state state;
	struct hk_control_decoder decoder;
	struct hk_control_buf out;
	uint64_t hello_ns;
	char kernel_release[128];
	struct hk_msg_exec_failed exec_failed;
	struct hk_msg_exited exited;
	/* Signals and a window size that came before the command runs. */
	uint8_t held_signals[HK_SESSION_MAX_HELD_SIGNALS];
	unsigned held_count;
	bool held_size;
	uint16_t rows, cols;
	uint64_t pings, pongs; /* sent; answered */
};

void hk_session_init(struct hk_session *session);
void hk_session_finish(struct hk_session *session);

/**
 * hk_session_feed() - take bytes until something happens
 * @bytes, @len: advanced past what was taken
 *
 * Return: an event; or -EPROTO (the guest broke the protocol), -ENOTSUP (another version of it),
 * -ECANCELED (the set-up failed), -ENOMEM, with an explanation in @err; after that the state is
 * HK_SESSION_FAILED.
 */
int hk_session_feed(
	struct hk_session *session, const uint8_t **bytes, size_t *len, struct hk_err *err);

/** hk_session_setup() - in state READY. @setup's id is set here. */
int hk_session_setup(struct hk_session *session, struct hk_msg_setup *setup, struct hk_err *err);

/** hk_session_exec() - in state SET_UP. @exec's id is set here. Return: 0, -E2BIG, -ENOMEM. */
int hk_session_exec(struct hk_session *session, struct hk_msg_exec *exec, struct hk_err *err);

/* What cannot be sent yet is held back until the command runs; after its end, dropped. */
int hk_session_signal(struct hk_session *session, int signo);
int hk_session_winsize(struct hk_session *session, uint16_t rows, uint16_t cols);

int hk_session_ping(struct hk_session *session);
int hk_session_shutdown(struct hk_session *session);

void hk_session_save(const struct hk_session *session, struct hk_writer *w);
/** hk_session_restore() - into an initialized one; checks everything */
void hk_session_restore(struct hk_session *session, struct hk_reader *r);

#endif
