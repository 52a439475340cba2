/* SPDX-License-Identifier: ISC */
/* The control session: scripts of what a guest sends, and what must come of it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/util.h"
#include "box/session.h"

static const struct hk_control_msg hello = {
	.type = HK_MSG_HELLO,
	.hello = {.version = HK_CONTROL_VERSION,
		.boottime_ns = 5000000,
		.agent_version = "1",
		.kernel_release = "6.1\033[2J"},
};
static const struct hk_control_msg done = {.type = HK_MSG_DONE, .done = {.id = 1}};
static const struct hk_control_msg failed = {.type = HK_MSG_FAILED,
	.failed = {.id = 1, .error = EROFS, .text = "FS 'v0' on '/a/b': create\n"}};
static const struct hk_control_msg started = {
	.type = HK_MSG_STARTED, .started = {.id = HK_SESSION_COMMAND, .pid = 7}};
static const struct hk_control_msg exec_failed = {.type = HK_MSG_EXEC_FAILED,
	.exec_failed = {.id = HK_SESSION_COMMAND, .error = ENOENT, .stage = HK_EXEC_STAGE_EXEC}};
static const struct hk_control_msg exited = {.type = HK_MSG_EXITED,
	.exited = {.id = HK_SESSION_COMMAND, .code = 37, .stdout_bytes = 10, .oom_kills = 2}};
static const struct hk_control_msg other_started = {
	.type = HK_MSG_STARTED, .started = {.id = 99, .pid = 7}};
static const struct hk_control_msg other_done = {.type = HK_MSG_DONE, .done = {.id = 99}};
static const struct hk_control_msg pong = {.type = HK_MSG_PONG, .pong = {.cookie = 1}};
static const struct hk_control_msg old_hello = {
	.type = HK_MSG_HELLO, .hello = {.version = 99, .agent_version = "", .kernel_release = ""}};

/* What box.c does on an event. */
static void answer(struct hk_session *session, int event)
{
	struct hk_err err = HK_ERR_INIT;

	if (event == HK_SESSION_HELLO) {
		struct hk_msg_setup setup = {.hostname = "box"};

		assert_int_equal(hk_session_setup(session, &setup, &err), 0);
	} else if (event == HK_SESSION_DONE) {
		struct hk_control_builder argv = {0};
		struct hk_msg_exec exec = {.cwd = "/"};

		hk_control_add_string(&argv, "true");
		exec.argv = hk_control_built(&argv);
		assert_int_equal(hk_session_exec(session, &exec, &err), 0);
		hk_control_builder_finish(&argv);
	}
}

/* Feeds one message, in pieces of @piece bytes. Return: the event it makes. */
static int feed(struct hk_session *session, const struct hk_control_msg *msg, size_t piece,
	struct hk_err *err)
{
	struct hk_control_buf buf = {0};
	int event = HK_SESSION_NOTHING;

	assert_int_equal(hk_control_put(&buf, msg), 0);
	for (size_t at = 0; at < buf.len && event == HK_SESSION_NOTHING;) {
		const uint8_t *bytes = buf.data + at;
		size_t len = HK_MIN(piece, buf.len - at);

		at += len;
		event = hk_session_feed(session, &bytes, &len, err);
	}
	hk_control_buf_finish(&buf);
	return event;
}

static unsigned sent(struct hk_session *session, enum hk_msg_type types[], unsigned capacity)
{
	struct hk_control_decoder decoder;
	const uint8_t *bytes = session->out.data;
	size_t len = session->out.len;
	struct hk_control_msg msg;
	unsigned count = 0;

	hk_control_decoder_init(&decoder, HK_CONTROL_FROM_HOST);
	while (hk_control_feed(&decoder, &bytes, &len, &msg) == 1) {
		assert_true(count < capacity);
		types[count++] = msg.type;
	}
	assert_int_equal(len, 0);
	hk_control_decoder_finish(&decoder);
	return count;
}

struct script {
	const char *name;
	const struct hk_control_msg *msgs[8];
	int events[8]; /* of each; the last may be an error */
	enum hk_session_state state;
};

static const struct script scripts[] = {
	{"a run", {&hello, &done, &started, &exited},
		{HK_SESSION_HELLO, HK_SESSION_DONE, HK_SESSION_STARTED, HK_SESSION_EXITED},
		HK_SESSION_OVER},
	{"no such command", {&hello, &done, &exec_failed},
		{HK_SESSION_HELLO, HK_SESSION_DONE, HK_SESSION_NOT_STARTED}, HK_SESSION_OVER},
	{"set-up refused", {&hello, &failed}, {HK_SESSION_HELLO, -ECANCELED}, HK_SESSION_FAILED},
	{"another version", {&old_hello}, {-ENOTSUP}, HK_SESSION_FAILED},
	{"no hello", {&done}, {-EPROTO}, HK_SESSION_FAILED},
	{"two hellos", {&hello, &hello}, {HK_SESSION_HELLO, -EPROTO}, HK_SESSION_FAILED},
	{"started before set up", {&hello, &started}, {HK_SESSION_HELLO, -EPROTO},
		HK_SESSION_FAILED},
	{"exited before started", {&hello, &done, &exited},
		{HK_SESSION_HELLO, HK_SESSION_DONE, -EPROTO}, HK_SESSION_FAILED},
	{"exited twice", {&hello, &done, &started, &exited, &exited},
		{HK_SESSION_HELLO, HK_SESSION_DONE, HK_SESSION_STARTED, HK_SESSION_EXITED, -EPROTO},
		HK_SESSION_FAILED},
	{"another's command", {&hello, &done, &other_started},
		{HK_SESSION_HELLO, HK_SESSION_DONE, -EPROTO}, HK_SESSION_FAILED},
	{"another's request", {&hello, &other_done}, {HK_SESSION_HELLO, -EPROTO},
		HK_SESSION_FAILED},
	{"unasked pong", {&hello, &pong}, {HK_SESSION_HELLO, -EPROTO}, HK_SESSION_FAILED},
	{"after a failure nothing", {&done, &hello}, {-EPROTO, -EPROTO}, HK_SESSION_FAILED},
};

static void run_script(const struct script *script, size_t piece)
{
	struct hk_session session;
	struct hk_err err = HK_ERR_INIT;

	hk_session_init(&session);
	for (size_t i = 0; i < HK_ARRAY_SIZE(script->msgs) && script->msgs[i] != NULL; i++) {
		int event = feed(&session, script->msgs[i], piece, &err);

		if (event != script->events[i]) {
			fail_msg("%s: message %zu: %d, not %d", script->name, i, event,
				script->events[i]);
		}
		answer(&session, event);
	}
	assert_int_equal(session.state, script->state);
	if (session.state == HK_SESSION_FAILED) {
		assert_string_not_equal(hk_err_text(&err), "");
	}
	hk_session_finish(&session);
}

static void test_scripts(void **state)
{
	for (size_t i = 0; i < HK_ARRAY_SIZE(scripts); i++) {
		run_script(&scripts[i], SIZE_MAX);
		run_script(&scripts[i], 1);
	}
}

static void bring_up(struct hk_session *session, unsigned steps)
{
	static const struct hk_control_msg *const msgs[] = {&hello, &done, &started, &exited};
	struct hk_err err = HK_ERR_INIT;

	hk_session_init(session);
	for (unsigned i = 0; i < steps; i++) {
		answer(session, feed(session, msgs[i], SIZE_MAX, &err));
	}
}

static void test_results(void **state)
{
	struct hk_session session;

	bring_up(&session, 4);
	assert_int_equal(session.hello_ns, 5000000);
	assert_string_equal(session.kernel_release, "6.1\\x1b[2J");
	assert_int_equal(session.exited.code, 37);
	assert_int_equal(session.exited.oom_kills, 2);
	assert_int_equal(session.exited.stdout_bytes, 10);
	hk_session_finish(&session);
}

static void test_guest_text_is_escaped(void **state)
{
	struct hk_session session;
	struct hk_err err = HK_ERR_INIT;

	bring_up(&session, 1);
	assert_int_equal(feed(&session, &failed, SIZE_MAX, &err), -ECANCELED);
	assert_non_null(strstr(hk_err_text(&err), "FS 'v0' on '/a/b': create\\n"));
	assert_null(strchr(hk_err_text(&err), '\n'));
	assert_int_equal(err.code, EROFS);
	hk_session_finish(&session);
}

/* Signals and sizes of before the start are sent after it; those of after the end are dropped. */
static void test_held_signals(void **state)
{
	enum hk_msg_type types[8];
	struct hk_session session;
	struct hk_err err = HK_ERR_INIT;

	bring_up(&session, 2);
	assert_int_equal(hk_session_winsize(&session, 10, 20), 0);
	assert_int_equal(hk_session_winsize(&session, 24, 80), 0);
	for (unsigned i = 0; i < 2 * HK_SESSION_MAX_HELD_SIGNALS; i++) {
		assert_int_equal(hk_session_signal(&session, 10), 0);
	}
	hk_control_buf_consume(&session.out, session.out.len);
	assert_int_equal(feed(&session, &started, SIZE_MAX, &err), HK_SESSION_STARTED);
	enum hk_msg_type held[HK_SESSION_MAX_HELD_SIGNALS + 1];
	assert_int_equal(
		sent(&session, held, HK_ARRAY_SIZE(held)), HK_SESSION_MAX_HELD_SIGNALS + 1);
	assert_int_equal(held[0], HK_MSG_WINSIZE);
	assert_int_equal(held[1], HK_MSG_SIGNAL);

	hk_control_buf_consume(&session.out, session.out.len);
	assert_int_equal(hk_session_signal(&session, 15), 0);
	assert_int_equal(hk_session_ping(&session), 0);
	assert_int_equal(sent(&session, types, HK_ARRAY_SIZE(types)), 2);
	assert_int_equal(types[0], HK_MSG_SIGNAL);
	assert_int_equal(types[1], HK_MSG_PING);
	assert_int_equal(feed(&session, &pong, SIZE_MAX, &err), HK_SESSION_PONG);
	assert_int_equal(feed(&session, &exited, SIZE_MAX, &err), HK_SESSION_EXITED);

	hk_control_buf_consume(&session.out, session.out.len);
	assert_int_equal(hk_session_signal(&session, 15), 0);
	assert_int_equal(hk_session_shutdown(&session), 0);
	assert_int_equal(sent(&session, types, HK_ARRAY_SIZE(types)), 1);
	assert_int_equal(types[0], HK_MSG_SHUTDOWN);
	hk_session_finish(&session);
}

static void test_command_too_long(void **state)
{
	struct hk_control_builder argv = {0};
	struct hk_msg_exec exec = {.cwd = "/"};
	struct hk_session session;
	struct hk_err err = HK_ERR_INIT;
	char *word = malloc(100001);

	memset(word, 'x', 100000);
	word[100000] = '\0';
	bring_up(&session, 2);
	for (int i = 0; i < 20; i++) {
		hk_control_add_string(&argv, word);
	}
	exec.argv = hk_control_built(&argv);
	assert_int_equal(hk_session_exec(&session, &exec, &err), -E2BIG);
	hk_control_builder_finish(&argv);
	hk_session_finish(&session);
	free(word);
}

/* Saves in every state, also in the middle of a message, and goes on with what was restored. */
static void test_save_restore(void **state)
{
	struct hk_control_buf half = {0};

	assert_int_equal(hk_control_put(&half, &exited), 0);
	for (unsigned steps = 0; steps <= 4; steps++) {
		struct hk_writer w = {0};
		struct hk_writer again = {0};
		struct hk_session before;
		struct hk_session after;
		struct hk_reader r;
		struct hk_err err = HK_ERR_INIT;
		const uint8_t *bytes = half.data;
		size_t len = 9;

		bring_up(&before, steps);
		hk_session_signal(&before, 12);
		hk_session_ping(&before);
		assert_int_equal(hk_session_feed(&before, &bytes, &len, &err), HK_SESSION_NOTHING);
		hk_session_save(&before, &w);
		hk_session_init(&after);
		hk_reader_init(&r, w.data, w.len);
		hk_session_restore(&after, &r);
		assert_int_equal(hk_reader_status(&r, NULL), 0);
		hk_session_save(&after, &again);
		assert_int_equal(w.len, again.len);
		assert_memory_equal(w.data, again.data, w.len);
		if (steps == 3) {
			bytes = half.data + 9;
			len = half.len - 9;
			assert_int_equal(
				hk_session_feed(&after, &bytes, &len, &err), HK_SESSION_EXITED);
			assert_int_equal(after.exited.code, 37);
		}
		/* Cut short anywhere, it is refused and listens to nothing. */
		for (size_t cut = 0; cut < w.len; cut++) {
			struct hk_session broken;

			hk_session_init(&broken);
			hk_reader_init(&r, w.data, cut);
			hk_session_restore(&broken, &r);
			assert_int_equal(broken.state, HK_SESSION_FAILED);
			hk_session_finish(&broken);
		}
		hk_session_finish(&before);
		hk_session_finish(&after);
		hk_writer_finish(&w);
		hk_writer_finish(&again);
	}
	hk_control_buf_finish(&half);
}

/* Bytes that are no messages. */
static void test_noise(void **state)
{
	uint32_t seed = 1;

	for (int round = 0; round < 2000; round++) {
		uint8_t noise[64];
		const uint8_t *bytes = noise;
		size_t len = sizeof(noise);
		struct hk_session session;
		struct hk_err err = HK_ERR_INIT;

		for (size_t i = 0; i < sizeof(noise); i++) {
			seed = seed * 1664525u + 1013904223u;
			noise[i] = i % 4 == 0 ? (uint8_t)(seed >> 24) : (uint8_t)((seed >> 24) & 3);
		}
		bring_up(&session, (unsigned)round % 5);
		while (hk_session_feed(&session, &bytes, &len, &err) > 0) {
		}
		hk_session_finish(&session);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_scripts),
		cmocka_unit_test(test_results),
		cmocka_unit_test(test_guest_text_is_escaped),
		cmocka_unit_test(test_held_signals),
		cmocka_unit_test(test_command_too_long),
		cmocka_unit_test(test_save_restore),
		cmocka_unit_test(test_noise),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
