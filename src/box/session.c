/* SPDX-License-Identifier: ISC */
/*
 * The control session of one box: see session.h.
 *
 * Theory: the decoder checks each message by itself; this file checks that it may come now, and
 * for our command. One table says which state expects which message; all else breaks the
 * protocol, and a guest that breaks it is not listened to any more.
 *
 * Limits: one command, with the id HK_SESSION_COMMAND. More of them (`hako exec`) will make the
 * part from SET_UP on a struct of its own.
 */
#include "box/session.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/str.h"
#include "base/util.h"

enum { SETUP_REQUEST = 1, STATE_VERSION = 1 };

void hk_session_init(struct hk_session *session)
{
	*session = (struct hk_session){.state = HK_SESSION_BOOTING};
	hk_control_decoder_init(&session->decoder, HK_CONTROL_FROM_GUEST);
}

void hk_session_finish(struct hk_session *session)
{
	hk_control_decoder_finish(&session->decoder);
	hk_control_buf_finish(&session->out);
}

/* Sending */

static int put(struct hk_session *session, const struct hk_control_msg *msg)
{
	return hk_control_put(&session->out, msg);
}

int hk_session_setup(struct hk_session *session, struct hk_msg_setup *setup, struct hk_err *err)
{
	struct hk_control_msg msg = {.type = HK_MSG_SETUP};
	int r;

	setup->id = SETUP_REQUEST;
	msg.setup = *setup;
	r = put(session, &msg);
	if (r < 0) {
		return hk_fail(err, -r, "the box's file tree does not fit into a message");
	}
	session->state = HK_SESSION_SETTING_UP;
	return 0;
}

int hk_session_exec(struct hk_session *session, struct hk_msg_exec *exec, struct hk_err *err)
{
	struct hk_control_msg msg = {.type = HK_MSG_EXEC};
	int r;

	exec->id = HK_SESSION_COMMAND;
	msg.exec = *exec;
	r = put(session, &msg);
	if (r < 0) {
		return hk_fail(
			err, -r, "the command and its environment do not fit into a message");
	}
	session->state = HK_SESSION_STARTING;
	return 0;
}

static int send_signal(struct hk_session *session, int signo)
{
	return put(session,
		&(struct hk_control_msg){.type = HK_MSG_SIGNAL,
			.signal = {.id = HK_SESSION_COMMAND, .signo = (uint32_t)signo}});
}

static int send_winsize(struct hk_session *session, uint16_t rows, uint16_t cols)
{
	return put(session,
		&(struct hk_control_msg){.type = HK_MSG_WINSIZE,
			.winsize = {.id = HK_SESSION_COMMAND, .rows = rows, .cols = cols}});
}

int hk_session_signal(struct hk_session *session, int signo)
{
	if (session->state == HK_SESSION_RUNNING) {
		return send_signal(session, signo);
	}
	if (session->state < HK_SESSION_RUNNING &&
		session->held_count < HK_ARRAY_SIZE(session->held_signals)) {
		session->held_signals[session->held_count++] = (uint8_t)signo;
	}
	return 0;
}

int hk_session_winsize(struct hk_session *session, uint16_t rows, uint16_t cols)
{
	if (session->state == HK_SESSION_RUNNING) {
		return send_winsize(session, rows, cols);
	}
	session->held_size = true;
	session->rows = rows;
	session->cols = cols;
	return 0;
}

int hk_session_ping(struct hk_session *session)
{
	int r = put(session,
		&(struct hk_control_msg){
			.type = HK_MSG_PING, .ping = {.cookie = session->pings + 1}});

	if (r == 0) {
		session->pings++;
	}
	return r;
}

int hk_session_shutdown(struct hk_session *session)
{
	return put(session, &(struct hk_control_msg){.type = HK_MSG_SHUTDOWN});
}

static int send_held(struct hk_session *session)
{
	int r = 0;

	if (session->held_size) {
		r = send_winsize(session, session->rows, session->cols);
	}
	for (unsigned i = 0; r == 0 && i < session->held_count; i++) {
		r = send_signal(session, session->held_signals[i]);
	}
	session->held_size = false;
	session->held_count = 0;
	return r;
}

/* Receiving */

static int broke(struct hk_err *err, const char *how)
{
	return hk_fail_msg(err, EPROTO, "the guest broke the control protocol: %s", how);
}

static int got_hello(
	struct hk_session *session, const struct hk_msg_hello *hello, struct hk_err *err)
{
	if (hello->version != HK_CONTROL_VERSION) {
		hk_fail_msg(err, ENOTSUP,
			"the guest speaks version %" PRIu32 " of the control protocol, not %d",
			hello->version, HK_CONTROL_VERSION);
		hk_err_hint(err,
			"the kernel's initramfs is of another hako: remove the kernel with "
			"'hako kernel remove' and fetch it again");
		return -ENOTSUP;
	}
	hk_str_escape(session->kernel_release, sizeof(session->kernel_release),
		hello->kernel_release, strlen(hello->kernel_release));
	session->hello_ns = hello->boottime_ns;
	session->state = HK_SESSION_READY;
	return HK_SESSION_HELLO;
}

static int got_done(struct hk_session *session, uint32_t id, struct hk_err *err)
{
	if (id != SETUP_REQUEST) {
		return broke(err, "an answer to no request");
	}
	session->state = HK_SESSION_SET_UP;
	return HK_SESSION_DONE;
}

static int got_failed(const struct hk_msg_failed *failed, struct hk_err *err)
{
	char text[256];

	if (failed->id != SETUP_REQUEST) {
		return broke(err, "an answer to no request");
	}
	hk_str_escape(text, sizeof(text), failed->text, strlen(failed->text));
	hk_fail(err, failed->error > 0 && failed->error < 4096 ? (int)failed->error : EIO,
		"setting up the box: %s", text);
	return -ECANCELED;
}

static int got_started(struct hk_session *session, struct hk_err *err)
{
	session->state = HK_SESSION_RUNNING;
	if (send_held(session) < 0) {
		return hk_fail(err, ENOMEM, "control channel");
	}
	return HK_SESSION_STARTED;
}

static int got_exited(
	struct hk_session *session, const struct hk_msg_exited *exited, struct hk_err *err)
{
	/* The decoder has checked code's range against signaled. */
	session->exited = *exited;
	session->state = HK_SESSION_OVER;
	return HK_SESSION_EXITED;
}

static int got_exec_failed(
	struct hk_session *session, const struct hk_msg_exec_failed *failed, struct hk_err *err)
{
	session->exec_failed = *failed;
	session->state = HK_SESSION_OVER;
	return HK_SESSION_NOT_STARTED;
}

static int got_pong(struct hk_session *session, uint64_t cookie, struct hk_err *err)
{
	if (cookie <= session->pongs || cookie > session->pings) {
		return broke(err, "a PONG for no PING");
	}
	session->pongs = cookie;
	return HK_SESSION_PONG;
}

/* The state in which a message may come; HK_SESSION_STATE_COUNT: in any. */
static enum hk_session_state expected_in(enum hk_msg_type type)
{
	switch (type) {
	case HK_MSG_HELLO:
		return HK_SESSION_BOOTING;
	case HK_MSG_DONE:
	case HK_MSG_FAILED:
		return HK_SESSION_SETTING_UP;
	case HK_MSG_STARTED:
	case HK_MSG_EXEC_FAILED:
		return HK_SESSION_STARTING;
	case HK_MSG_EXITED:
		return HK_SESSION_RUNNING;
	default:
		return HK_SESSION_STATE_COUNT;
	}
}

static bool is_for_another(const struct hk_control_msg *msg)
{
	switch (msg->type) {
	case HK_MSG_STARTED:
		return msg->started.id != HK_SESSION_COMMAND;
	case HK_MSG_EXEC_FAILED:
		return msg->exec_failed.id != HK_SESSION_COMMAND;
	case HK_MSG_EXITED:
		return msg->exited.id != HK_SESSION_COMMAND;
	default:
		return false;
	}
}

static int got(struct hk_session *session, const struct hk_control_msg *msg, struct hk_err *err)
{
	enum hk_session_state expected = expected_in(msg->type);

	if (expected != HK_SESSION_STATE_COUNT && expected != session->state) {
		return broke(err, "a message out of turn");
	}
	if (is_for_another(msg)) {
		return broke(err, "word of a command that nobody asked for");
	}
	switch (msg->type) {
	case HK_MSG_HELLO:
		return got_hello(session, &msg->hello, err);
	case HK_MSG_DONE:
		return got_done(session, msg->done.id, err);
	case HK_MSG_FAILED:
		return got_failed(&msg->failed, err);
	case HK_MSG_STARTED:
		return got_started(session, err);
	case HK_MSG_EXEC_FAILED:
		return got_exec_failed(session, &msg->exec_failed, err);
	case HK_MSG_EXITED:
		return got_exited(session, &msg->exited, err);
	case HK_MSG_PONG:
		return got_pong(session, msg->pong.cookie, err);
	default:
		return broke(err, "a message of the host's");
	}
}

int hk_session_feed(
	struct hk_session *session, const uint8_t **bytes, size_t *len, struct hk_err *err)
{
	struct hk_control_msg msg;
	int r;

	if (session->state == HK_SESSION_FAILED) {
		return broke(err, "already");
	}
	r = hk_control_feed(&session->decoder, bytes, len, &msg);
	if (r == 0) {
		return HK_SESSION_NOTHING;
	}
	if (r == -ENOMEM) {
		r = hk_fail(err, ENOMEM, "control channel");
	} else if (r < 0) {
		r = broke(err, "bytes that are no message");
	} else {
		r = got(session, &msg, err);
	}
	if (r < 0) {
		session->state = HK_SESSION_FAILED;
	}
	return r;
}

/* State */

void hk_session_save(const struct hk_session *session, struct hk_writer *w)
{
	size_t mark = hk_writer_begin(w, "session", STATE_VERSION);
	size_t pending_len;
	const uint8_t *pending = hk_control_pending(&session->decoder, &pending_len);

	hk_write_u8(w, (uint8_t)session->state);
	hk_write_u64(w, session->hello_ns);
	hk_write_u8(w, session->exited.signaled);
	hk_write_u8(w, session->exited.core);
	hk_write_u32(w, session->exited.code);
	hk_write_u32(w, session->exited.oom_kills);
	hk_write_u64(w, session->exited.stdout_bytes);
	hk_write_u64(w, session->exited.stderr_bytes);
	hk_write_u32(w, session->exec_failed.error);
	hk_write_u8(w, (uint8_t)session->exec_failed.stage);
	hk_write_u8(w, (uint8_t)session->held_count);
	hk_write_bytes(w, session->held_signals, sizeof(session->held_signals));
	hk_write_u8(w, session->held_size);
	hk_write_u16(w, session->rows);
	hk_write_u16(w, session->cols);
	hk_write_u64(w, session->pings);
	hk_write_u64(w, session->pongs);
	hk_write_blob(w, pending, pending_len);
	hk_write_blob(w, session->out.data, session->out.len);
	hk_writer_end(w, mark);
}

/* Bytes of an unfinished message, so that no message may come of them. */
static void restore_pending(struct hk_session *session, struct hk_reader *r)
{
	struct hk_control_msg msg;
	size_t len;
	const uint8_t *bytes = hk_read_blob(r, &len);

	if (bytes != NULL && hk_control_feed(&session->decoder, &bytes, &len, &msg) != 0) {
		hk_reader_fail(r);
	}
}

static void restore_out(struct hk_session *session, struct hk_reader *r)
{
	size_t len;
	const void *bytes = hk_read_blob(r, &len);

	if (bytes == NULL || len == 0) {
		return;
	}
	session->out.data = malloc(len);
	if (session->out.data == NULL) {
		hk_reader_fail(r);
		return;
	}
	memcpy(session->out.data, bytes, len);
	session->out.len = len;
	session->out.cap = len;
}

static bool is_possible(const struct hk_session *session)
{
	return session->state < HK_SESSION_FAILED &&
		session->held_count <= HK_ARRAY_SIZE(session->held_signals) &&
		session->pongs <= session->pings &&
		session->exec_failed.stage < HK_EXEC_STAGE_COUNT && session->exited.code <= 255;
}

void hk_session_restore(struct hk_session *session, struct hk_reader *r)
{
	struct hk_section section = hk_reader_begin(r, "session", STATE_VERSION);

	session->state = (enum hk_session_state)hk_read_u8(r);
	session->hello_ns = hk_read_u64(r);
	session->exited.id = HK_SESSION_COMMAND;
	session->exited.signaled = hk_read_u8(r) != 0;
	session->exited.core = hk_read_u8(r) != 0;
	session->exited.code = hk_read_u32(r);
	session->exited.oom_kills = hk_read_u32(r);
	session->exited.stdout_bytes = hk_read_u64(r);
	session->exited.stderr_bytes = hk_read_u64(r);
	session->exec_failed.id = HK_SESSION_COMMAND;
	session->exec_failed.error = hk_read_u32(r);
	session->exec_failed.stage = (enum hk_exec_stage)hk_read_u8(r);
	session->held_count = hk_read_u8(r);
	hk_read_bytes(r, session->held_signals, sizeof(session->held_signals));
	session->held_size = hk_read_u8(r) != 0;
	session->rows = hk_read_u16(r);
	session->cols = hk_read_u16(r);
	session->pings = hk_read_u64(r);
	session->pongs = hk_read_u64(r);
	restore_pending(session, r);
	restore_out(session, r);
	hk_reader_end(r, section);
	if (!is_possible(session)) {
		hk_reader_fail(r);
	}
	if (hk_reader_status(r, NULL) < 0) {
		session->state = HK_SESSION_FAILED;
	}
}
