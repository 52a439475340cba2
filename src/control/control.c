/* SPDX-License-Identifier: ISC */
/*
 * Messages and the decoder of the control protocol. Specification: hako-control(7).
 *
 * Theory: a row of the table below is a message: its type, who sends it, and two functions that
 * list its fields. hk_control_put() writes header and body, then reads the body back with the
 * peer's eyes, so what one side sends the other accepts. The decoder gathers the header, checks its
 * length before it keeps a byte of the body, gathers the body, and reads it in place.
 *
 * Limits: see the HK_CONTROL_MAX_ constants. Not thread-safe; a decoder belongs to its channel.
 */
#include "control/wire.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { FIRST_CAP = 512 };

static const size_t max_bytes[HK_CONTROL_DIR_COUNT] = {
	[HK_CONTROL_FROM_GUEST] = HK_CONTROL_MAX_FROM_GUEST,
	[HK_CONTROL_FROM_HOST] = HK_CONTROL_MAX_FROM_HOST,
};

static void put_hello(struct hk_wire_out *out, const struct hk_control_msg *msg)
{
	hk_wire_put_u32(out, msg->hello.version);
	hk_wire_put_u64(out, msg->hello.boottime_ns);
	hk_wire_put_string(out, msg->hello.agent_version);
	hk_wire_put_string(out, msg->hello.kernel_release);
}

static void get_hello(struct hk_wire_in *in, struct hk_control_msg *msg)
{
	msg->hello.version = hk_wire_get_u32(in);
	if (!in->bad && msg->hello.version != HK_CONTROL_VERSION) {
		/* All that is known of other versions is that they begin with their number. */
		msg->hello.agent_version = "";
		msg->hello.kernel_release = "";
		in->left = 0;
		return;
	}
	msg->hello.boottime_ns = hk_wire_get_u64(in);
	msg->hello.agent_version = hk_wire_get_string(in, HK_CONTROL_MAX_TEXT);
	msg->hello.kernel_release = hk_wire_get_string(in, HK_CONTROL_MAX_TEXT);
}

static void put_done(struct hk_wire_out *out, const struct hk_control_msg *msg)
{
	hk_wire_put_u32(out, msg->done.id);
}

static void get_done(struct hk_wire_in *in, struct hk_control_msg *msg)
{
	msg->done.id = hk_wire_get_u32(in);
}

static void put_failed(struct hk_wire_out *out, const struct hk_control_msg *msg)
{
	hk_wire_put_u32(out, msg->failed.id);
	hk_wire_put_u32(out, msg->failed.error);
	hk_wire_put_string(out, msg->failed.text);
}

/* Linux errnos are below 4096 (MAX_ERRNO), and 0 is none. */
static void require_errno(struct hk_wire_in *in, uint32_t error)
{
	hk_wire_require(in, error > 0 && error < 4096);
}

static void get_failed(struct hk_wire_in *in, struct hk_control_msg *msg)
{
	msg->failed.id = hk_wire_get_u32(in);
	msg->failed.error = hk_wire_get_u32(in);
	msg->failed.text = hk_wire_get_string(in, HK_CONTROL_MAX_TEXT);
	require_errno(in, msg->failed.error);
}

static void put_started(struct hk_wire_out *out, const struct hk_control_msg *msg)
{
	hk_wire_put_u32(out, msg->started.id);
	hk_wire_put_u32(out, msg->started.pid);
}

static void get_started(struct hk_wire_in *in, struct hk_control_msg *msg)
{
	msg->started.id = hk_wire_get_u32(in);
	msg->started.pid = hk_wire_get_u32(in);
	hk_wire_require(in, msg->started.pid > 0 && msg->started.pid <= INT32_MAX);
}

static void put_exec_failed(struct hk_wire_out *out, const struct hk_control_msg *msg)
{
	hk_wire_put_u32(out, msg->exec_failed.id);
	hk_wire_put_u32(out, msg->exec_failed.error);
	hk_wire_put_u32(out, msg->exec_failed.stage);
}

static void get_exec_failed(struct hk_wire_in *in, struct hk_control_msg *msg)
{
	uint32_t stage;

	msg->exec_failed.id = hk_wire_get_u32(in);
	msg->exec_failed.error = hk_wire_get_u32(in);
	stage = hk_wire_get_u32(in);
	require_errno(in, msg->exec_failed.error);
	hk_wire_require(in, stage > 0 && stage < HK_EXEC_STAGE_COUNT);
	msg->exec_failed.stage = (enum hk_exec_stage)stage;
}

enum { EXITED_SIGNALED = 1 << 0, EXITED_CORE = 1 << 1 };

static void put_exited(struct hk_wire_out *out, const struct hk_control_msg *msg)
{
	const struct hk_msg_exited *exited = &msg->exited;

	hk_wire_put_u32(out, exited->id);
	hk_wire_put_u32(
		out, (exited->signaled ? EXITED_SIGNALED : 0) | (exited->core ? EXITED_CORE : 0));
	hk_wire_put_u32(out, exited->code);
	hk_wire_put_u32(out, exited->oom_kills);
	hk_wire_put_u64(out, exited->stdout_bytes);
	hk_wire_put_u64(out, exited->stderr_bytes);
}

static void get_exited(struct hk_wire_in *in, struct hk_control_msg *msg)
{
	struct hk_msg_exited *exited = &msg->exited;
	uint32_t flags;

	exited->id = hk_wire_get_u32(in);
	flags = hk_wire_get_u32(in);
	exited->code = hk_wire_get_u32(in);
	exited->oom_kills = hk_wire_get_u32(in);
	exited->stdout_bytes = hk_wire_get_u64(in);
	exited->stderr_bytes = hk_wire_get_u64(in);
	exited->signaled = flags & EXITED_SIGNALED;
	exited->core = flags & EXITED_CORE;
	hk_wire_require(in, (flags & ~(uint32_t)(EXITED_SIGNALED | EXITED_CORE)) == 0);
	if (exited->signaled) {
		hk_wire_require(in, exited->code >= 1 && exited->code <= 64);
	} else {
		hk_wire_require(in, exited->code <= 255 && !exited->core);
	}
}

static void put_ping(struct hk_wire_out *out, const struct hk_control_msg *msg)
{
	hk_wire_put_u64(out, msg->ping.cookie);
}

static void get_ping(struct hk_wire_in *in, struct hk_control_msg *msg)
{
	msg->ping.cookie = hk_wire_get_u64(in);
}

static void put_setup(struct hk_wire_out *out, const struct hk_control_msg *msg)
{
	hk_wire_put_u32(out, msg->setup.id);
	hk_wire_put_u64(out, msg->setup.wall_time_ns);
	hk_wire_put_raw(out, msg->setup.entropy, sizeof(msg->setup.entropy));
	hk_wire_put_string(out, msg->setup.hostname);
	hk_wire_put_list(out, &msg->setup.steps);
}

static void get_setup(struct hk_wire_in *in, struct hk_control_msg *msg)
{
	struct hk_msg_setup *setup = &msg->setup;

	setup->id = hk_wire_get_u32(in);
	setup->wall_time_ns = hk_wire_get_u64(in);
	hk_wire_get_raw(in, setup->entropy, sizeof(setup->entropy));
	setup->hostname = hk_wire_get_string(in, HK_CONTROL_MAX_HOSTNAME);
	hk_wire_require(in, setup->hostname[0] != 0);
	setup->steps = hk_wire_get_list(in);
	hk_wire_check_steps(in, setup->steps);
}

static void put_exec(struct hk_wire_out *out, const struct hk_control_msg *msg)
{
	const struct hk_msg_exec *exec = &msg->exec;

	hk_wire_put_u32(out, exec->id);
	hk_wire_put_u32(out, exec->flags);
	hk_wire_put_u32(out, exec->uid);
	hk_wire_put_u32(out, exec->gid);
	hk_wire_put_u16(out, exec->rows);
	hk_wire_put_u16(out, exec->cols);
	hk_wire_put_string(out, exec->cwd);
	hk_wire_put_list(out, &exec->argv);
	hk_wire_put_list(out, &exec->env);
}

static bool good_exec_flags(uint32_t flags)
{
	const uint32_t pipes = HK_EXEC_STDIN | HK_EXEC_STDOUT | HK_EXEC_STDERR;

	if (flags & HK_EXEC_PTY) {
		return flags == HK_EXEC_PTY;
	}
	if (flags & HK_EXEC_MERGE) {
		return (flags & ~(uint32_t)HK_EXEC_STDIN) == (HK_EXEC_MERGE | HK_EXEC_STDOUT);
	}
	return (flags & ~pipes) == 0;
}

static void get_exec(struct hk_wire_in *in, struct hk_control_msg *msg)
{
	struct hk_msg_exec *exec = &msg->exec;

	exec->id = hk_wire_get_u32(in);
	exec->flags = hk_wire_get_u32(in);
	exec->uid = hk_wire_get_u32(in);
	exec->gid = hk_wire_get_u32(in);
	exec->rows = hk_wire_get_u16(in);
	exec->cols = hk_wire_get_u16(in);
	exec->cwd = hk_wire_get_string(in, HK_CONTROL_MAX_PATH);
	exec->argv = hk_wire_get_list(in);
	exec->env = hk_wire_get_list(in);
	hk_wire_require(in, good_exec_flags(exec->flags));
	/* UINT32_MAX is (uid_t)-1, which the kernel takes for "leave it as it is": root. */
	hk_wire_require(in, exec->uid != UINT32_MAX && exec->gid != UINT32_MAX);
	hk_wire_require(in, (exec->flags & HK_EXEC_PTY) || (exec->rows == 0 && exec->cols == 0));
	hk_wire_require(in, exec->cwd[0] == '/' && exec->argv.count > 0);
	hk_wire_check_strings(in, exec->argv);
	hk_wire_check_strings(in, exec->env);
}

static void put_signal(struct hk_wire_out *out, const struct hk_control_msg *msg)
{
	hk_wire_put_u32(out, msg->signal.id);
	hk_wire_put_u32(out, msg->signal.signo);
}

static void get_signal(struct hk_wire_in *in, struct hk_control_msg *msg)
{
	msg->signal.id = hk_wire_get_u32(in);
	msg->signal.signo = hk_wire_get_u32(in);
	hk_wire_require(in, msg->signal.signo >= 1 && msg->signal.signo <= 64);
}

static void put_winsize(struct hk_wire_out *out, const struct hk_control_msg *msg)
{
	hk_wire_put_u32(out, msg->winsize.id);
	hk_wire_put_u16(out, msg->winsize.rows);
	hk_wire_put_u16(out, msg->winsize.cols);
}

static void get_winsize(struct hk_wire_in *in, struct hk_control_msg *msg)
{
	msg->winsize.id = hk_wire_get_u32(in);
	msg->winsize.rows = hk_wire_get_u16(in);
	msg->winsize.cols = hk_wire_get_u16(in);
}

static void put_nothing(struct hk_wire_out *out, const struct hk_control_msg *msg)
{
	(void)out;
	(void)msg;
}

static void get_nothing(struct hk_wire_in *in, struct hk_control_msg *msg)
{
	(void)in;
	(void)msg;
}

struct shape {
	enum hk_msg_type type;
	enum hk_control_dir dir;
	void (*put)(struct hk_wire_out *out, const struct hk_control_msg *msg);
	void (*get)(struct hk_wire_in *in, struct hk_control_msg *msg);
};

static const struct shape shapes[] = {
	{HK_MSG_HELLO, HK_CONTROL_FROM_GUEST, put_hello, get_hello},
	{HK_MSG_DONE, HK_CONTROL_FROM_GUEST, put_done, get_done},
	{HK_MSG_FAILED, HK_CONTROL_FROM_GUEST, put_failed, get_failed},
	{HK_MSG_STARTED, HK_CONTROL_FROM_GUEST, put_started, get_started},
	{HK_MSG_EXEC_FAILED, HK_CONTROL_FROM_GUEST, put_exec_failed, get_exec_failed},
	{HK_MSG_EXITED, HK_CONTROL_FROM_GUEST, put_exited, get_exited},
	{HK_MSG_PONG, HK_CONTROL_FROM_GUEST, put_ping, get_ping},
	{HK_MSG_SETUP, HK_CONTROL_FROM_HOST, put_setup, get_setup},
	{HK_MSG_EXEC, HK_CONTROL_FROM_HOST, put_exec, get_exec},
	{HK_MSG_SIGNAL, HK_CONTROL_FROM_HOST, put_signal, get_signal},
	{HK_MSG_WINSIZE, HK_CONTROL_FROM_HOST, put_winsize, get_winsize},
	{HK_MSG_SHUTDOWN, HK_CONTROL_FROM_HOST, put_nothing, get_nothing},
	{HK_MSG_PING, HK_CONTROL_FROM_HOST, put_ping, get_ping},
};

static const struct shape *find_shape(unsigned type)
{
	for (size_t i = 0; i < sizeof(shapes) / sizeof(shapes[0]); i++) {
		if ((unsigned)shapes[i].type == type) {
			return &shapes[i];
		}
	}
	return NULL;
}

static bool get_body(
	const struct shape *shape, const uint8_t *body, size_t len, struct hk_control_msg *ret_msg)
{
	struct hk_wire_in in = {.p = body, .left = len};

	*ret_msg = (struct hk_control_msg){.type = shape->type};
	shape->get(&in, ret_msg);
	return !in.bad && in.left == 0;
}

static void store_le32(uint8_t *p, uint32_t v)
{
	for (int i = 0; i < 4; i++) {
		p[i] = (uint8_t)(v >> (8 * i));
	}
}

static uint32_t load_le32(const uint8_t *p)
{
	return p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

int hk_control_put(struct hk_control_buf *buf, const struct hk_control_msg *msg)
{
	const struct shape *shape = find_shape(msg->type);
	struct hk_wire_out out = {.buf = buf};
	size_t mark = buf->len;
	struct hk_control_msg back;
	size_t len;

	if (!shape) {
		return -EINVAL;
	}
	hk_wire_put_u32(&out, 0); /* the body's length, when it is known */
	hk_wire_put_u16(&out, (uint16_t)shape->type);
	hk_wire_put_u16(&out, 0);
	shape->put(&out, msg);
	len = buf->len - mark;
	if (!out.error && len > max_bytes[shape->dir]) {
		out.error = -E2BIG;
	}
	if (!out.error &&
		!get_body(shape, buf->data + mark + HK_CONTROL_HEADER_BYTES,
			len - HK_CONTROL_HEADER_BYTES, &back)) {
		out.error = -EINVAL;
	}
	if (out.error) {
		buf->len = mark;
		return out.error;
	}
	store_le32(buf->data + mark, (uint32_t)(len - HK_CONTROL_HEADER_BYTES));
	return 0;
}

void hk_control_decoder_init(struct hk_control_decoder *dec, enum hk_control_dir dir)
{
	*dec = (struct hk_control_decoder){.dir = dir};
}

void hk_control_decoder_finish(struct hk_control_decoder *dec)
{
	free(dec->buf);
	*dec = (struct hk_control_decoder){0};
}

/* Take bytes until @dec holds @want. Return: 1 if it does, 0 if they did not suffice, -ENOMEM */
static int gather(struct hk_control_decoder *dec, size_t want, const uint8_t **bytes, size_t *len)
{
	size_t take = want - dec->len < *len ? want - dec->len : *len;
	size_t cap = dec->cap ? dec->cap : FIRST_CAP;

	while (cap < dec->len + take) {
		cap *= 2;
	}
	if (cap > dec->cap) {
		uint8_t *buf = realloc(dec->buf, cap);

		if (!buf) {
			return -ENOMEM;
		}
		dec->buf = buf;
		dec->cap = cap;
	}
	if (take) {
		memcpy(dec->buf + dec->len, *bytes, take);
		dec->len += take;
		*bytes += take;
		*len -= take;
	}
	return dec->len == want;
}

/* Return: 1 with a message in @ret_msg, 2 if it is to be dropped, 0 if bytes are missing, -errno */
static int next(struct hk_control_decoder *dec, const uint8_t **bytes, size_t *len,
	struct hk_control_msg *ret_msg)
{
	const struct shape *shape;
	uint32_t body_len;
	uint16_t type;
	uint16_t flags;
	int r;

	if (dec->len < HK_CONTROL_HEADER_BYTES) {
		r = gather(dec, HK_CONTROL_HEADER_BYTES, bytes, len);
		if (r <= 0) {
			return r;
		}
	}
	body_len = load_le32(dec->buf);
	type = (uint16_t)(dec->buf[4] | dec->buf[5] << 8);
	flags = (uint16_t)(dec->buf[6] | dec->buf[7] << 8);
	shape = find_shape(type);
	if (body_len > max_bytes[dec->dir] - HK_CONTROL_HEADER_BYTES) {
		return -EMSGSIZE;
	}
	if (flags & ~HK_MSG_SKIPPABLE) {
		return -EBADMSG;
	}
	if (shape ? shape->dir != dec->dir : !(flags & HK_MSG_SKIPPABLE)) {
		return -EPROTO;
	}
	r = gather(dec, HK_CONTROL_HEADER_BYTES + body_len, bytes, len);
	if (r <= 0) {
		return r;
	}
	if (!shape) {
		return 2;
	}
	return get_body(shape, dec->buf + HK_CONTROL_HEADER_BYTES, body_len, ret_msg) ? 1
										      : -EBADMSG;
}

int hk_control_feed(struct hk_control_decoder *dec, const uint8_t **bytes, size_t *len,
	struct hk_control_msg *ret_msg)
{
	struct hk_control_msg msg;
	int r;

	if (dec->error) {
		return dec->error;
	}
	do {
		if (dec->complete) {
			dec->complete = false;
			dec->len = 0;
		}
		r = next(dec, bytes, len, &msg);
		dec->complete = r > 0;
	} while (r == 2);
	if (r == 1) {
		*ret_msg = msg;
	} else if (r < 0) {
		dec->error = r;
	}
	return r;
}

const uint8_t *hk_control_pending(const struct hk_control_decoder *dec, size_t *ret_len)
{
	*ret_len = dec->complete ? 0 : dec->len;
	return dec->buf;
}

static const uint8_t preamble_magic[4] = {'H', 'K', 'S', 'T'};

/*
 *	 0        4         8            12       16
 *	+--------+---------+------------+--------+
 *	| "HKST" | version | command id | stream |
 *	+--------+---------+------------+--------+
 */
void hk_stream_preamble_put(uint8_t bytes[HK_STREAM_PREAMBLE_BYTES], struct hk_stream_preamble p)
{
	memcpy(bytes, preamble_magic, sizeof(preamble_magic));
	store_le32(bytes + 4, HK_CONTROL_VERSION);
	store_le32(bytes + 8, p.command_id);
	store_le32(bytes + 12, p.kind);
}

int hk_stream_preamble_get(
	const uint8_t bytes[HK_STREAM_PREAMBLE_BYTES], struct hk_stream_preamble *ret_p)
{
	uint32_t kind = load_le32(bytes + 12);

	if (memcmp(bytes, preamble_magic, sizeof(preamble_magic)) != 0 ||
		load_le32(bytes + 4) != HK_CONTROL_VERSION || kind >= HK_STREAM_KIND_COUNT) {
		return -EPROTO;
	}
	ret_p->command_id = load_le32(bytes + 8);
	ret_p->kind = (enum hk_stream_kind)kind;
	return 0;
}
