/* SPDX-License-Identifier: ISC */
/* The control protocol: every message both ways, and every rule of hako-control(7) broken. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "control/control.h"

#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))

/* ---- Round trips --------------------------------------------------------------------------- */

static struct hk_control_builder argv_of_tests;
static struct hk_control_builder env_of_tests;
static struct hk_control_builder upper_of_tests;
static struct hk_control_builder steps_of_tests;

static const struct hk_step upper_steps[] = {
	{.type = HK_STEP_FILE,
		.path = "/passwd",
		.mode = 0644,
		.content = (const uint8_t *)"a\0b",
		.content_len = 3},
	{.type = HK_STEP_DIR, .path = "/ssl", .mode = 0755},
	{.type = HK_STEP_SYMLINK, .path = "/mtab", .source = "../proc/mounts"},
	{.type = HK_STEP_HIDE, .path = "/shadow"},
};

static const struct hk_step plain_steps[] = {
	{.type = HK_STEP_FS, .path = "/usr", .source = "usr", .flags = HK_STEP_RO},
	{.type = HK_STEP_TMPFS,
		.path = "/home/u",
		.mode = 0700,
		.uid = 1000,
		.gid = 100,
		.size_bytes = UINT64_C(1) << 40},
	{.type = HK_STEP_DIR, .path = "/", .mode = 07777, .uid = UINT32_MAX - 1},
	{.type = HK_STEP_SYMLINK, .path = "/bin", .source = "usr/bin"},
	{.type = HK_STEP_FILE, .path = "/empty", .mode = 0},
};

static int make_lists(void **state)
{
	const struct hk_step etc = {.type = HK_STEP_OVERLAY, .path = "/etc", .source = "etc"};
	struct hk_step step = etc;

	(void)state;
	hk_control_add_string(&argv_of_tests, "sh");
	hk_control_add_string(&argv_of_tests, "");
	hk_control_add_string(&argv_of_tests, "\xff\n");
	hk_control_add_string(&env_of_tests, "PATH=/bin");
	for (size_t i = 0; i < ARRAY_SIZE(upper_steps); i++) {
		hk_control_add_step(&upper_of_tests, &upper_steps[i]);
	}
	step.upper = hk_control_built(&upper_of_tests);
	hk_control_add_step(&steps_of_tests, &step);
	for (size_t i = 0; i < ARRAY_SIZE(plain_steps); i++) {
		hk_control_add_step(&steps_of_tests, &plain_steps[i]);
	}
	return argv_of_tests.error | env_of_tests.error | upper_of_tests.error |
		steps_of_tests.error;
}

static int free_lists(void **state)
{
	(void)state;
	hk_control_builder_finish(&argv_of_tests);
	hk_control_builder_finish(&env_of_tests);
	hk_control_builder_finish(&upper_of_tests);
	hk_control_builder_finish(&steps_of_tests);
	return 0;
}

/* One of each type; the lists are set by samples(). */
static const struct sample {
	enum hk_control_dir dir;
	struct hk_control_msg msg;
} fixed_samples[] = {
	{HK_CONTROL_FROM_GUEST,
		{.type = HK_MSG_HELLO,
			.hello = {.version = 1,
				.boottime_ns = UINT64_MAX,
				.agent_version = "0.1.0",
				.kernel_release = "6.1.0-28-cloud-amd64"}}},
	{HK_CONTROL_FROM_GUEST, {.type = HK_MSG_DONE, .done = {.id = 7}}},
	{HK_CONTROL_FROM_GUEST,
		{.type = HK_MSG_FAILED, .failed = {.id = 7, .error = ENOENT, .text = "FS 'a'"}}},
	{HK_CONTROL_FROM_GUEST, {.type = HK_MSG_STARTED, .started = {.id = 1, .pid = 2}}},
	{HK_CONTROL_FROM_GUEST,
		{.type = HK_MSG_EXEC_FAILED,
			.exec_failed = {.id = 1, .error = EACCES, .stage = HK_EXEC_STAGE_EXEC}}},
	{HK_CONTROL_FROM_GUEST,
		{.type = HK_MSG_EXITED,
			.exited = {.id = 1,
				.code = 255,
				.oom_kills = 3,
				.stdout_bytes = 1,
				.stderr_bytes = HK_CONTROL_UNTIL_END}}},
	{HK_CONTROL_FROM_GUEST,
		{.type = HK_MSG_EXITED,
			.exited = {.id = 1, .code = 11, .signaled = true, .core = true}}},
	{HK_CONTROL_FROM_GUEST, {.type = HK_MSG_PONG, .pong = {.cookie = UINT64_MAX}}},
	{HK_CONTROL_FROM_HOST,
		{.type = HK_MSG_SETUP,
			.setup = {.id = 9,
				.wall_time_ns = 1,
				.entropy = {1, 2, 3},
				.hostname = "box"}}},
	{HK_CONTROL_FROM_HOST,
		{.type = HK_MSG_EXEC,
			.exec = {.id = UINT32_MAX,
				.flags = HK_EXEC_PTY,
				.uid = 1000,
				.gid = 100,
				.rows = 24,
				.cols = 80,
				.cwd = "/"}}},
	{HK_CONTROL_FROM_HOST,
		{.type = HK_MSG_EXEC,
			.exec = {.flags = HK_EXEC_STDIN | HK_EXEC_STDOUT | HK_EXEC_MERGE,
				.cwd = "/tmp"}}},
	{HK_CONTROL_FROM_HOST, {.type = HK_MSG_SIGNAL, .signal = {.id = 1, .signo = 64}}},
	{HK_CONTROL_FROM_HOST,
		{.type = HK_MSG_WINSIZE, .winsize = {.id = 1, .rows = 9, .cols = 8}}},
	{HK_CONTROL_FROM_HOST, {.type = HK_MSG_SHUTDOWN}},
	{HK_CONTROL_FROM_HOST, {.type = HK_MSG_PING, .ping = {.cookie = 5}}},
};

static struct sample sample_at(size_t i)
{
	struct sample sample = fixed_samples[i];

	if (sample.msg.type == HK_MSG_SETUP) {
		sample.msg.setup.steps = hk_control_built(&steps_of_tests);
	} else if (sample.msg.type == HK_MSG_EXEC) {
		sample.msg.exec.argv = hk_control_built(&argv_of_tests);
		sample.msg.exec.env = hk_control_built(&env_of_tests);
	}
	return sample;
}

static void assert_same_list(struct hk_control_list a, struct hk_control_list b)
{
	assert_int_equal(a.count, b.count);
	assert_int_equal(a.len_bytes, b.len_bytes);
	if (a.len_bytes) {
		assert_memory_equal(a.data, b.data, a.len_bytes);
	}
}

static void assert_same_msg(const struct hk_control_msg *a, const struct hk_control_msg *b)
{
	assert_int_equal(a->type, b->type);
	switch (a->type) {
	case HK_MSG_HELLO:
		assert_int_equal(a->hello.version, b->hello.version);
		assert_true(a->hello.boottime_ns == b->hello.boottime_ns);
		assert_string_equal(a->hello.agent_version, b->hello.agent_version);
		assert_string_equal(a->hello.kernel_release, b->hello.kernel_release);
		break;
	case HK_MSG_DONE:
		assert_int_equal(a->done.id, b->done.id);
		break;
	case HK_MSG_FAILED:
		assert_int_equal(a->failed.id, b->failed.id);
		assert_int_equal(a->failed.error, b->failed.error);
		assert_string_equal(a->failed.text, b->failed.text);
		break;
	case HK_MSG_STARTED:
		assert_int_equal(a->started.id, b->started.id);
		assert_int_equal(a->started.pid, b->started.pid);
		break;
	case HK_MSG_EXEC_FAILED:
		assert_int_equal(a->exec_failed.id, b->exec_failed.id);
		assert_int_equal(a->exec_failed.error, b->exec_failed.error);
		assert_int_equal(a->exec_failed.stage, b->exec_failed.stage);
		break;
	case HK_MSG_EXITED:
		assert_int_equal(a->exited.id, b->exited.id);
		assert_int_equal(a->exited.signaled, b->exited.signaled);
		assert_int_equal(a->exited.core, b->exited.core);
		assert_int_equal(a->exited.code, b->exited.code);
		assert_int_equal(a->exited.oom_kills, b->exited.oom_kills);
		assert_true(a->exited.stdout_bytes == b->exited.stdout_bytes);
		assert_true(a->exited.stderr_bytes == b->exited.stderr_bytes);
		break;
	case HK_MSG_SETUP:
		assert_int_equal(a->setup.id, b->setup.id);
		assert_true(a->setup.wall_time_ns == b->setup.wall_time_ns);
		assert_memory_equal(a->setup.entropy, b->setup.entropy, HK_CONTROL_ENTROPY_BYTES);
		assert_string_equal(a->setup.hostname, b->setup.hostname);
		assert_same_list(a->setup.steps, b->setup.steps);
		break;
	case HK_MSG_EXEC:
		assert_int_equal(a->exec.id, b->exec.id);
		assert_int_equal(a->exec.flags, b->exec.flags);
		assert_int_equal(a->exec.uid, b->exec.uid);
		assert_int_equal(a->exec.gid, b->exec.gid);
		assert_int_equal(a->exec.rows, b->exec.rows);
		assert_int_equal(a->exec.cols, b->exec.cols);
		assert_string_equal(a->exec.cwd, b->exec.cwd);
		assert_same_list(a->exec.argv, b->exec.argv);
		assert_same_list(a->exec.env, b->exec.env);
		break;
	case HK_MSG_SIGNAL:
		assert_int_equal(a->signal.id, b->signal.id);
		assert_int_equal(a->signal.signo, b->signal.signo);
		break;
	case HK_MSG_WINSIZE:
		assert_int_equal(a->winsize.id, b->winsize.id);
		assert_int_equal(a->winsize.rows, b->winsize.rows);
		assert_int_equal(a->winsize.cols, b->winsize.cols);
		break;
	case HK_MSG_PING:
	case HK_MSG_PONG:
		assert_true(a->ping.cookie == b->ping.cookie);
		break;
	case HK_MSG_SHUTDOWN:
		break;
	}
}

/* Every message, fed in pieces of every size from one byte up. */
static void test_round_trip(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(fixed_samples); i++) {
		struct sample sample = sample_at(i);
		struct hk_control_buf buf = {0};

		assert_int_equal(hk_control_put(&buf, &sample.msg), 0);
		for (size_t piece = 1; piece <= buf.len; piece++) {
			struct hk_control_decoder dec;
			struct hk_control_msg msg;
			size_t given = 0;
			int r = 0;

			hk_control_decoder_init(&dec, sample.dir);
			while (r == 0 && given < buf.len) {
				const uint8_t *bytes = buf.data + given;
				size_t len = piece < buf.len - given ? piece : buf.len - given;

				given += len;
				r = hk_control_feed(&dec, &bytes, &len, &msg);
				assert_int_equal(len, 0);
			}
			assert_int_equal(r, 1);
			assert_int_equal(given, buf.len);
			assert_same_msg(&sample.msg, &msg);
			hk_control_decoder_finish(&dec);
		}
		hk_control_buf_finish(&buf);
	}
}

/* Several messages in one piece come out one by one, and the decoder stops behind the last. */
static void test_several_at_once(void **state)
{
	struct hk_control_buf buf = {0};
	struct hk_control_decoder dec;
	struct hk_control_msg msg;
	const uint8_t *bytes;
	uint64_t cookie = 0;
	size_t len;

	(void)state;
	for (uint64_t i = 0; i < 100; i++) {
		msg = (struct hk_control_msg){.type = HK_MSG_PING, .ping = {.cookie = i}};
		assert_int_equal(hk_control_put(&buf, &msg), 0);
	}
	hk_control_decoder_init(&dec, HK_CONTROL_FROM_HOST);
	bytes = buf.data;
	len = buf.len;
	while (hk_control_feed(&dec, &bytes, &len, &msg) == 1) {
		assert_true(msg.ping.cookie == cookie);
		cookie++;
	}
	assert_true(cookie == 100);
	assert_int_equal(dec.error, 0);
	hk_control_decoder_finish(&dec);
	hk_control_buf_finish(&buf);
}

/* A decoder saved in mid-message and restored into a new one goes on. */
static void test_save_restore(void **state)
{
	struct sample sample = sample_at(0);
	struct hk_control_buf buf = {0};

	(void)state;
	assert_int_equal(hk_control_put(&buf, &sample.msg), 0);
	for (size_t cut = 0; cut < buf.len; cut++) {
		struct hk_control_decoder old;
		struct hk_control_decoder new;
		struct hk_control_msg msg;
		const uint8_t *bytes = buf.data;
		const uint8_t *saved;
		size_t len = cut;

		hk_control_decoder_init(&old, sample.dir);
		hk_control_decoder_init(&new, sample.dir);
		assert_int_equal(hk_control_feed(&old, &bytes, &len, &msg), 0);
		saved = hk_control_pending(&old, &len);
		assert_int_equal(len, cut);
		assert_int_equal(hk_control_feed(&new, &saved, &len, &msg), 0);
		len = buf.len - cut;
		assert_int_equal(hk_control_feed(&new, &bytes, &len, &msg), 1);
		assert_same_msg(&sample.msg, &msg);
		hk_control_pending(&new, &len);
		assert_int_equal(len, 0);
		hk_control_decoder_finish(&old);
		hk_control_decoder_finish(&new);
	}
	hk_control_buf_finish(&buf);
}

static void test_lists(void **state)
{
	static const char *const words[] = {"sh", "", "\xff\n"};
	struct hk_control_list list = hk_control_built(&argv_of_tests);
	struct hk_step step;
	const char *s;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(words); i++) {
		assert_true(hk_control_next_string(&list, &s));
		assert_string_equal(s, words[i]);
	}
	assert_false(hk_control_next_string(&list, &s));

	list = hk_control_built(&steps_of_tests);
	assert_true(hk_control_next_step(&list, &step));
	assert_int_equal(step.type, HK_STEP_OVERLAY);
	assert_same_list(step.upper, hk_control_built(&upper_of_tests));
	for (size_t i = 0; i < ARRAY_SIZE(plain_steps); i++) {
		const struct hk_step *want = &plain_steps[i];

		assert_true(hk_control_next_step(&list, &step));
		assert_int_equal(step.type, want->type);
		assert_int_equal(step.flags, want->flags);
		assert_int_equal(step.mode, want->mode);
		assert_int_equal(step.uid, want->uid);
		assert_int_equal(step.gid, want->gid);
		assert_true(step.size_bytes == want->size_bytes);
		assert_string_equal(step.path, want->path);
		assert_string_equal(step.source, want->source ? want->source : "");
		assert_int_equal(step.content_len, want->content_len);
	}
	assert_false(hk_control_next_step(&list, &step));

	list = hk_control_built(&upper_of_tests);
	assert_true(hk_control_next_step(&list, &step));
	assert_int_equal(step.content_len, 3);
	assert_memory_equal(step.content, "a\0b", 3);
}

/* ---- Writers refuse what readers would ------------------------------------------------------ */

static char long_text[HK_CONTROL_MAX_STRING + 2];

/* @len letters, the first of them a slash; good until the next call. */
static const char *text_of(size_t len)
{
	memset(long_text, 'a', len);
	long_text[0] = '/';
	long_text[len] = 0;
	return long_text;
}

static void test_bad_steps(void **state)
{
	static const struct {
		struct hk_step step;
		size_t path_len; /* if not 0: of a path that long */
		int want;
	} table[] = {
		{{.type = HK_STEP_DIR, .path = "/a"}, 0, 0},
		{{.type = HK_STEP_DIR}, HK_CONTROL_MAX_PATH, 0},
		{{.type = HK_STEP_DIR}, HK_CONTROL_MAX_PATH + 1, -EINVAL},
		{{.type = HK_STEP_DIR, .path = "a"}, 0, -EINVAL},
		{{.type = HK_STEP_DIR, .path = ""}, 0, -EINVAL},
		{{.type = HK_STEP_DIR}, 0, -EINVAL},
		{{.type = HK_STEP_DIR, .path = "/a", .mode = 010000}, 0, -EINVAL},
		{{.type = HK_STEP_DIR, .path = "/a", .uid = UINT32_MAX}, 0, -EINVAL},
		{{.type = HK_STEP_DIR, .path = "/a", .gid = UINT32_MAX}, 0, -EINVAL},
		{{.type = HK_STEP_DIR, .path = "/a", .source = "x"}, 0, -EINVAL},
		{{.type = HK_STEP_DIR, .path = "/a", .content_len = 1}, 0, -EINVAL},
		{{.type = HK_STEP_DIR, .path = "/a", .size_bytes = 1}, 0, -EINVAL},
		{{.type = HK_STEP_DIR, .path = "/a", .upper = {.count = 1}}, 0, -EINVAL},
		{{.type = HK_STEP_TMPFS, .path = "/a", .flags = HK_STEP_RO}, 0, -EINVAL},
		{{.type = HK_STEP_FS, .path = "/a", .source = "x"}, 0, 0},
		{{.type = HK_STEP_FS, .path = "/a", .source = "x", .flags = 2}, 0, -EINVAL},
		{{.type = HK_STEP_FS, .path = "/a", .source = "x", .mode = 1}, 0, -EINVAL},
		{{.type = HK_STEP_FS, .path = "/a"}, 0, -EINVAL},
		{{.type = HK_STEP_FS, .path = "/a", .source = ""}, 0, -EINVAL},
		{{.type = HK_STEP_FS, .path = "/a", .source = "."}, 0, -EINVAL},
		{{.type = HK_STEP_FS, .path = "/a", .source = ".."}, 0, -EINVAL},
		{{.type = HK_STEP_FS, .path = "/a", .source = "x/y"}, 0, -EINVAL},
		{{.type = HK_STEP_SYMLINK, .path = "/a", .source = ""}, 0, -EINVAL},
		{{.type = (enum hk_step_type)0, .path = "/a"}, 0, -EINVAL},
		{{.type = HK_STEP_TYPE_COUNT, .path = "/a"}, 0, -EINVAL},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
		struct hk_control_builder builder = {0};
		struct hk_step step = table[i].step;
		int r;

		if (table[i].path_len) {
			step.path = text_of(table[i].path_len);
		}
		r = hk_control_add_step(&builder, &step);
		if (r != table[i].want) {
			fail_msg("row %zu: %d, not %d", i, r, table[i].want);
		}
		assert_int_equal(builder.count, r == 0);
		assert_int_equal(builder.buf.len != 0, r == 0);
		/* The error stays, and comes back from the message that the list would be in. */
		assert_int_equal(hk_control_add_string(&builder, "x"), r);
		assert_int_equal(hk_control_built(&builder).error, r);
		hk_control_builder_finish(&builder);
	}
}

/* Where steps may stand. */
static void test_step_places(void **state)
{
	const struct hk_step dir = {.type = HK_STEP_DIR, .path = "/d"};
	const struct hk_step hide = {.type = HK_STEP_HIDE, .path = "/h"};
	const struct hk_step overlay = {.type = HK_STEP_OVERLAY, .path = "/", .source = "root"};
	const struct hk_step tmpfs = {.type = HK_STEP_TMPFS, .path = "/t"};
	const struct {
		const struct hk_step *first, *second;
		bool in_upper;
		int want;
	} table[] = {
		{&dir, &dir, false, 0},
		{&overlay, &dir, false, 0},
		{&dir, &overlay, false, -EINVAL},
		{&overlay, &overlay, false, -EINVAL},
		{&hide, &dir, false, -EINVAL},
		{&hide, &dir, true, 0},
		{&tmpfs, &dir, true, -EINVAL},
		{&dir, &overlay, true, -EINVAL},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
		struct hk_control_msg msg = {.type = HK_MSG_SETUP, .setup = {.hostname = "h"}};
		struct hk_control_builder inner = {0};
		struct hk_control_builder outer = {0};
		struct hk_control_buf buf = {0};
		struct hk_step step = overlay;
		int r;

		hk_control_add_step(&inner, table[i].first);
		assert_int_equal(hk_control_add_step(&inner, table[i].second), 0);
		step.upper = hk_control_built(&inner);
		hk_control_add_step(&outer, &step);
		msg.setup.steps = hk_control_built(table[i].in_upper ? &outer : &inner);
		r = hk_control_put(&buf, &msg);
		if (r != table[i].want) {
			fail_msg("row %zu: %d, not %d", i, r, table[i].want);
		}
		hk_control_buf_finish(&buf);
		hk_control_builder_finish(&inner);
		hk_control_builder_finish(&outer);
	}
}

static void test_bad_messages(void **state)
{
	static const struct hk_control_msg table[] = {
		{.type = (enum hk_msg_type)0}, {.type = (enum hk_msg_type)8},
		{.type = HK_MSG_FAILED, .failed = {.error = 0}},
		{.type = HK_MSG_FAILED, .failed = {.error = 4096}},
		{.type = HK_MSG_FAILED, .failed = {.error = 1, .text = long_text}},
		{.type = HK_MSG_STARTED, .started = {.pid = 0}},
		{.type = HK_MSG_STARTED, .started = {.pid = UINT32_MAX}},
		{.type = HK_MSG_EXEC_FAILED, .exec_failed = {.error = 1}},
		{.type = HK_MSG_EXEC_FAILED,
			.exec_failed = {.error = 1, .stage = HK_EXEC_STAGE_COUNT}},
		{.type = HK_MSG_EXITED, .exited = {.code = 256}},
		{.type = HK_MSG_EXITED, .exited = {.code = 0, .signaled = true}},
		{.type = HK_MSG_EXITED, .exited = {.code = 65, .signaled = true}},
		{.type = HK_MSG_EXITED, .exited = {.code = 1, .core = true}},
		{.type = HK_MSG_SIGNAL, .signal = {.signo = 0}},
		{.type = HK_MSG_SIGNAL, .signal = {.signo = 65}},
		{.type = HK_MSG_SETUP, .setup = {.hostname = ""}},
		{.type = HK_MSG_SETUP, .setup = {.hostname = long_text}},
		{.type = HK_MSG_EXEC, .exec = {.cwd = "/"}}, /* no argv */
	};
	static const struct hk_msg_exec execs[] = {
		{.cwd = "x"},
		{.cwd = ""},
		{.cwd = "/", .flags = 1 << 5},
		{.cwd = "/", .flags = HK_EXEC_PTY | HK_EXEC_STDIN},
		{.cwd = "/", .flags = HK_EXEC_PTY | HK_EXEC_MERGE},
		{.cwd = "/", .flags = HK_EXEC_MERGE},
		{.cwd = "/", .flags = HK_EXEC_MERGE | HK_EXEC_STDOUT | HK_EXEC_STDERR},
		{.cwd = "/", .flags = HK_EXEC_STDOUT, .rows = 1},
		{.cwd = "/", .cols = 1},
		{.cwd = "/", .uid = UINT32_MAX},
		{.cwd = "/", .gid = UINT32_MAX},
	};
	struct hk_control_buf buf = {0};

	(void)state;
	text_of(HK_CONTROL_MAX_TEXT + 1);
	for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
		int r = hk_control_put(&buf, &table[i]);

		if (r != -EINVAL) {
			fail_msg("row %zu: %d", i, r);
		}
		assert_int_equal(buf.len, 0);
	}
	for (size_t i = 0; i < ARRAY_SIZE(execs); i++) {
		struct hk_control_msg msg = {.type = HK_MSG_EXEC, .exec = execs[i]};
		int r;

		msg.exec.argv = hk_control_built(&argv_of_tests);
		r = hk_control_put(&buf, &msg);
		if (r != -EINVAL) {
			fail_msg("exec row %zu: %d", i, r);
		}
	}
	assert_int_equal(buf.len, 0);
	hk_control_buf_finish(&buf);
}

static void test_too_much(void **state)
{
	struct hk_control_msg msg = {.type = HK_MSG_EXEC, .exec = {.cwd = "/"}};
	struct hk_control_builder builder = {0};
	struct hk_control_buf buf = {0};
	uint8_t *content;
	struct hk_step file = {.type = HK_STEP_FILE, .path = "/f"};

	(void)state;
	/* A string of the greatest length is fine, one more byte is not. */
	assert_int_equal(hk_control_add_string(&builder, text_of(HK_CONTROL_MAX_STRING)), 0);
	msg.exec.argv = hk_control_built(&builder);
	assert_int_equal(hk_control_put(&buf, &msg), 0);
	assert_int_equal(
		hk_control_add_string(&builder, text_of(HK_CONTROL_MAX_STRING + 1)), -E2BIG);
	msg.exec.argv = hk_control_built(&builder);
	buf.len = 0;
	assert_int_equal(hk_control_put(&buf, &msg), -E2BIG);
	hk_control_builder_finish(&builder);

	/* Too many elements. */
	for (unsigned i = 0; i < HK_CONTROL_MAX_COUNT; i++) {
		assert_int_equal(hk_control_add_string(&builder, ""), 0);
	}
	msg.exec.argv = hk_control_built(&builder);
	assert_int_equal(hk_control_put(&buf, &msg), 0);
	assert_int_equal(hk_control_add_string(&builder, ""), -E2BIG);
	hk_control_builder_finish(&builder);

	/* A message that is longer than one may be. */
	content = calloc(1, HK_CONTROL_MAX_FROM_HOST);
	assert_non_null(content);
	file.content = content;
	file.content_len = HK_CONTROL_MAX_FROM_HOST;
	assert_int_equal(hk_control_add_step(&builder, &file), 0);
	msg = (struct hk_control_msg){.type = HK_MSG_SETUP, .setup = {.hostname = "h"}};
	msg.setup.steps = hk_control_built(&builder);
	buf.len = 0;
	assert_int_equal(hk_control_put(&buf, &msg), -E2BIG);
	hk_control_builder_finish(&builder);
	file.content_len = UINT32_MAX;
	assert_int_equal(hk_control_add_step(&builder, &file), -E2BIG);
	hk_control_builder_finish(&builder);
	free(content);
	hk_control_buf_finish(&buf);
}

/* ---- Readers refuse -------------------------------------------------------------------- */

#define HEADER(len, type, flags) \
	(len) & 0xff, (len) >> 8 & 0xff, (len) >> 16 & 0xff, (len) >> 24 & 0xff, (type), 0, \
		(flags), 0

static void test_bad_bytes(void **state)
{
	static const struct {
		const char *what;
		enum hk_control_dir dir;
		int want;
		size_t len;
		uint8_t bytes[64];
	} table[] = {
		{"done", HK_CONTROL_FROM_GUEST, 1, 12, {HEADER(4, HK_MSG_DONE, 0), 1}},
		{"cut short", HK_CONTROL_FROM_GUEST, 0, 11, {HEADER(4, HK_MSG_DONE, 0), 1}},
		{"field missing", HK_CONTROL_FROM_GUEST, -EBADMSG, 11,
			{HEADER(3, HK_MSG_DONE, 0), 1}},
		{"trailing byte", HK_CONTROL_FROM_GUEST, -EBADMSG, 13,
			{HEADER(5, HK_MSG_DONE, 0), 1}},
		{"no body", HK_CONTROL_FROM_GUEST, -EBADMSG, 8, {HEADER(0, HK_MSG_DONE, 0)}},
		{"shutdown", HK_CONTROL_FROM_HOST, 1, 8, {HEADER(0, HK_MSG_SHUTDOWN, 0)}},
		{"shutdown, skippable", HK_CONTROL_FROM_HOST, 1, 8,
			{HEADER(0, HK_MSG_SHUTDOWN, 1)}},
		{"shutdown with a body", HK_CONTROL_FROM_HOST, -EBADMSG, 9,
			{HEADER(1, HK_MSG_SHUTDOWN, 0)}},
		{"wrong direction", HK_CONTROL_FROM_GUEST, -EPROTO, 8,
			{HEADER(0, HK_MSG_SHUTDOWN, 0)}},
		{"wrong direction, skippable", HK_CONTROL_FROM_GUEST, -EPROTO, 8,
			{HEADER(0, HK_MSG_SHUTDOWN, 1)}},
		{"unknown", HK_CONTROL_FROM_GUEST, -EPROTO, 8, {HEADER(0, 99, 0)}},
		{"unknown, skippable", HK_CONTROL_FROM_GUEST, 0, 9, {HEADER(1, 99, 1)}},
		{"one after a skipped", HK_CONTROL_FROM_GUEST, 1, 21,
			{HEADER(1, 99, 1), 0xff, HEADER(4, HK_MSG_DONE, 0)}},
		{"unknown flag", HK_CONTROL_FROM_GUEST, -EBADMSG, 8, {HEADER(4, HK_MSG_DONE, 2)}},
		{"longest from guest", HK_CONTROL_FROM_GUEST, 0, 8,
			{HEADER(HK_CONTROL_MAX_FROM_GUEST - 8, 99, 1)}},
		{"longer from guest", HK_CONTROL_FROM_GUEST, -EMSGSIZE, 8,
			{HEADER(HK_CONTROL_MAX_FROM_GUEST - 7, 99, 1)}},
		{"longest from host", HK_CONTROL_FROM_HOST, 0, 8,
			{HEADER(HK_CONTROL_MAX_FROM_HOST - 8, 99, 1)}},
		{"longer from host", HK_CONTROL_FROM_HOST, -EMSGSIZE, 8,
			{HEADER(HK_CONTROL_MAX_FROM_HOST - 7, 99, 1)}},
		{"greatest length", HK_CONTROL_FROM_HOST, -EMSGSIZE, 8,
			{HEADER(0xffffffffu, 99, 1)}},
		{"hello of a later version", HK_CONTROL_FROM_GUEST, 1, 14,
			{HEADER(6, HK_MSG_HELLO, 0), 2, 0, 0, 0, 0xaa, 0xbb}},
		{"hello without a version", HK_CONTROL_FROM_GUEST, -EBADMSG, 11,
			{HEADER(3, HK_MSG_HELLO, 0), 2, 0, 0}},
		/* FAILED: id, errno, text */
		{"text", HK_CONTROL_FROM_GUEST, 1, 22,
			{HEADER(14, HK_MSG_FAILED, 0), 1, 0, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0, 'x', 0}},
		{"text without NUL", HK_CONTROL_FROM_GUEST, -EBADMSG, 22,
			{HEADER(14, HK_MSG_FAILED, 0), 1, 0, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0, 'x',
				'y'}},
		{"text with a NUL inside", HK_CONTROL_FROM_GUEST, -EBADMSG, 23,
			{HEADER(15, HK_MSG_FAILED, 0), 1, 0, 0, 0, 2, 0, 0, 0, 2, 0, 0, 0, 0, 'y',
				0}},
		{"text beyond the end", HK_CONTROL_FROM_GUEST, -EBADMSG, 22,
			{HEADER(14, HK_MSG_FAILED, 0), 1, 0, 0, 0, 2, 0, 0, 0, 2, 0, 0, 0, 'x', 0}},
		{"text of 4 GiB", HK_CONTROL_FROM_GUEST, -EBADMSG, 22,
			{HEADER(14, HK_MSG_FAILED, 0), 1, 0, 0, 0, 2, 0, 0, 0, 0xff, 0xff, 0xff,
				0xff, 'x', 0}},
		/* EXITED: id, flags, code, oom_kills, 2 x u64 */
		{"exited, unknown flag", HK_CONTROL_FROM_GUEST, -EBADMSG, 40,
			{HEADER(32, HK_MSG_EXITED, 0), 1, 0, 0, 0, 4, 0, 0, 0}},
		/*
		 * EXEC: id, flags, uid, gid, rows, cols, cwd, argv, env; a list: count, length,
		 * elements
		 */
		{"exec", HK_CONTROL_FROM_HOST, 1, 56,
			{HEADER(48, HK_MSG_EXEC, 0), 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
				0, 0, 0, 0, 1, 0, 0, 0, '/', 0, 1, 0, 0, 0, 6, 0, 0, 0, 1, 0, 0, 0,
				'x', 0, 0, 0, 0, 0, 0, 0, 0, 0}},
		{"exec, fewer arguments than counted", HK_CONTROL_FROM_HOST, -EBADMSG, 56,
			{HEADER(48, HK_MSG_EXEC, 0), 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
				0, 0, 0, 0, 1, 0, 0, 0, '/', 0, 2, 0, 0, 0, 6, 0, 0, 0, 1, 0, 0, 0,
				'x', 0, 0, 0, 0, 0, 0, 0, 0, 0}},
		{"exec, bytes behind the arguments", HK_CONTROL_FROM_HOST, -EBADMSG, 57,
			{HEADER(49, HK_MSG_EXEC, 0), 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
				0, 0, 0, 0, 1, 0, 0, 0, '/', 0, 1, 0, 0, 0, 7, 0, 0, 0, 1, 0, 0, 0,
				'x', 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}},
		{"exec, too many arguments", HK_CONTROL_FROM_HOST, -EBADMSG, 56,
			{HEADER(48, HK_MSG_EXEC, 0), 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
				0, 0, 0, 0, 1, 0, 0, 0, '/', 0, 0xff, 0xff, 0xff, 0xff, 6, 0, 0, 0,
				1, 0, 0, 0, 'x', 0, 0, 0, 0, 0, 0, 0, 0, 0}},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
		struct hk_control_decoder dec;
		struct hk_control_msg msg;
		const uint8_t *bytes = table[i].bytes;
		size_t len = table[i].len;
		int r;

		hk_control_decoder_init(&dec, table[i].dir);
		r = hk_control_feed(&dec, &bytes, &len, &msg);
		if (r != table[i].want) {
			fail_msg("%s: %d, not %d", table[i].what, r, table[i].want);
		}
		if (r < 0) {
			/* The error stays, whatever comes. */
			static const uint8_t good[] = {HEADER(4, HK_MSG_DONE, 0), 1, 0, 0, 0};

			bytes = good;
			len = sizeof(good);
			assert_int_equal(hk_control_feed(&dec, &bytes, &len, &msg), r);
			assert_int_equal(len, sizeof(good));
		}
		hk_control_decoder_finish(&dec);
	}
}

/* A header that promises much takes no memory; only bytes that came do. */
static void test_memory_follows_bytes(void **state)
{
	static const uint8_t header[] = {HEADER(HK_CONTROL_MAX_FROM_HOST - 8, 99, 1)};
	static uint8_t body[1 << 16];
	struct hk_control_decoder dec;
	struct hk_control_msg msg;
	const uint8_t *bytes = header;
	size_t len = sizeof(header);

	(void)state;
	hk_control_decoder_init(&dec, HK_CONTROL_FROM_HOST);
	assert_int_equal(hk_control_feed(&dec, &bytes, &len, &msg), 0);
	assert_true(dec.cap <= 1024);
	for (size_t got = sizeof(header); got < HK_CONTROL_MAX_FROM_HOST; got += sizeof(body)) {
		bytes = body;
		len = sizeof(body);
		if (len > HK_CONTROL_MAX_FROM_HOST - got) {
			len = HK_CONTROL_MAX_FROM_HOST - got;
		}
		assert_int_equal(hk_control_feed(&dec, &bytes, &len, &msg), 0);
		assert_true(dec.cap <= HK_CONTROL_MAX_FROM_HOST);
	}
	hk_control_pending(&dec, &len);
	assert_int_equal(len, 0);
	hk_control_decoder_finish(&dec);
}

static void test_preamble(void **state)
{
	const struct hk_stream_preamble put = {.command_id = 0x01020304, .kind = HK_STREAM_TTY};
	struct hk_stream_preamble got;
	uint8_t bytes[HK_STREAM_PREAMBLE_BYTES];
	static const struct {
		size_t at;
		uint8_t value;
	} broken[] = {{0, 'h'}, {3, 0}, {4, 2}, {7, 1}, {12, HK_STREAM_KIND_COUNT}, {15, 1}};

	(void)state;
	hk_stream_preamble_put(bytes, put);
	assert_memory_equal(bytes, "HKST\1\0\0\0\4\3\2\1\3\0\0\0", sizeof(bytes));
	assert_int_equal(hk_stream_preamble_get(bytes, &got), 0);
	assert_int_equal(got.command_id, put.command_id);
	assert_int_equal(got.kind, put.kind);
	for (size_t i = 0; i < ARRAY_SIZE(broken); i++) {
		hk_stream_preamble_put(bytes, put);
		bytes[broken[i].at] = broken[i].value;
		assert_int_equal(hk_stream_preamble_get(bytes, &got), -EPROTO);
	}
}

static void test_consume(void **state)
{
	struct hk_control_msg msg = {.type = HK_MSG_SHUTDOWN};
	struct hk_control_buf buf = {0};

	(void)state;
	hk_control_put(&buf, &msg);
	hk_control_put(&buf, &msg);
	hk_control_buf_consume(&buf, 9);
	assert_int_equal(buf.len, 7);
	assert_memory_equal(buf.data, "\0\0\0\x24\0\0\0", 7);
	hk_control_buf_consume(&buf, 7);
	assert_int_equal(buf.len, 0);
	hk_control_buf_finish(&buf);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_round_trip),
		cmocka_unit_test(test_several_at_once),
		cmocka_unit_test(test_save_restore),
		cmocka_unit_test(test_lists),
		cmocka_unit_test(test_bad_steps),
		cmocka_unit_test(test_step_places),
		cmocka_unit_test(test_bad_messages),
		cmocka_unit_test(test_too_much),
		cmocka_unit_test(test_bad_bytes),
		cmocka_unit_test(test_memory_follows_bytes),
		cmocka_unit_test(test_preamble),
		cmocka_unit_test(test_consume),
	};

	return cmocka_run_group_tests(tests, make_lists, free_lists);
}
