/* SPDX-License-Identifier: ISC */
/* Standard streams, with this test as the guest's end of them. */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "base/sys.h"
#include "base/util.h"
#include "box/stdio_linux.h"

enum { COMMAND = 1, BIG = 3 * 1024 * 1024 };

struct fixture {
	struct hk_stdio_owner owner;
	unsigned progressed;
	struct hk_loop *loop;
	struct hk_stdio *stdio;
	int in[2], out[2], err[2]; /* pipes; [0] reads */
};

static void progressed(struct hk_stdio_owner *owner)
{
	hk_container_of(owner, struct fixture, owner)->progressed++;
}

static void make(struct fixture *f, bool tty)
{
	struct hk_err err = HK_ERR_INIT;

	*f = (struct fixture){.owner.progressed = progressed};
	assert_int_equal(pipe2(f->in, O_CLOEXEC), 0);
	assert_int_equal(pipe2(f->out, O_CLOEXEC), 0);
	assert_int_equal(pipe2(f->err, O_CLOEXEC), 0);
	assert_int_equal(hk_loop_create(&f->loop, &err), 0);
	assert_int_equal(hk_stdio_create(f->loop, &f->owner, COMMAND, tty, f->in[0], f->out[1],
				 f->err[1], &f->stdio, &err),
		0);
}

static void unmake(struct fixture *f)
{
	hk_stdio_destroy(f->stdio);
	hk_loop_destroy(f->loop);
	for (int i = 0; i < 2; i++) {
		hk_close(&f->in[i]);
		hk_close(&f->out[i]);
		hk_close(&f->err[i]);
	}
}

/* The guest opens a stream. Return: its end, blocking. */
static int open_stream(struct fixture *f, uint32_t command, enum hk_stream_kind kind)
{
	uint8_t preamble[HK_STREAM_PREAMBLE_BYTES];
	int fd = hk_stdio_accept(f->stdio);

	assert_true(fd >= 0);
	fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) & ~O_NONBLOCK);
	hk_stream_preamble_put(
		preamble, (struct hk_stream_preamble){.command_id = command, .kind = kind});
	/* In two pieces, as it may come. */
	assert_int_equal(hk_write_full(fd, preamble, 3), 0);
	assert_int_equal(hk_loop_run_once(f->loop, 1000), 0);
	assert_int_equal(hk_write_full(fd, preamble + 3, sizeof(preamble) - 3), 0);
	assert_int_equal(hk_loop_run_once(f->loop, 1000), 0);
	return fd;
}

static void wait_drained(struct fixture *f)
{
	for (int i = 0; i < 1000 && !hk_stdio_drained(f->stdio); i++) {
		assert_int_equal(hk_loop_run_once(f->loop, 10), 0);
	}
	assert_true(hk_stdio_drained(f->stdio));
}

static void test_flags(void **state)
{
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);
	int zero = open("/dev/zero", O_RDWR | O_CLOEXEC);
	int file = open("/tmp", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
	int twin = dup(file);
	struct {
		bool tty;
		int in, out, err;
		uint32_t flags;
	} rows[] = {
		{false, zero, zero, file, HK_EXEC_STDIN | HK_EXEC_STDOUT | HK_EXEC_STDERR},
		{false, null, zero, null, HK_EXEC_STDOUT},
		{false, -1, -1, -1, 0},
		{false, null, null, file, HK_EXEC_STDERR},
		{false, null, zero, zero, HK_EXEC_STDOUT | HK_EXEC_MERGE},
		{false, null, file, twin, HK_EXEC_STDOUT | HK_EXEC_MERGE},
		{true, null, null, null, HK_EXEC_PTY},
	};
	struct hk_stdio_owner owner = {.progressed = progressed};
	struct hk_loop *loop;

	assert_int_equal(hk_loop_create(&loop, NULL), 0);
	for (size_t i = 0; i < HK_ARRAY_SIZE(rows); i++) {
		struct hk_stdio *stdio;

		assert_int_equal(hk_stdio_create(loop, &owner, COMMAND, rows[i].tty, rows[i].in,
					 rows[i].out, rows[i].err, &stdio, NULL),
			0);
		assert_int_equal(hk_stdio_exec_flags(stdio), rows[i].flags);
		hk_stdio_destroy(stdio);
	}
	hk_loop_destroy(loop);
	close(null);
	close(zero);
	close(file);
	close(twin);
}

/* One file opened twice has two positions: that is not one stream. */
static void test_same_file_opened_twice(void **state)
{
	char path[] = "/tmp/hako-stdio-XXXXXX";
	int a = mkostemp(path, O_CLOEXEC);
	int b = open(path, O_WRONLY | O_CLOEXEC);
	struct hk_stdio_owner owner = {.progressed = progressed};
	struct hk_stdio *stdio;
	struct hk_loop *loop;

	assert_int_equal(hk_loop_create(&loop, NULL), 0);
	assert_int_equal(hk_stdio_create(loop, &owner, COMMAND, false, -1, a, b, &stdio, NULL), 0);
	assert_int_equal(hk_stdio_exec_flags(stdio), HK_EXEC_STDOUT | HK_EXEC_STDERR);
	hk_stdio_destroy(stdio);
	hk_loop_destroy(loop);
	unlink(path);
	close(a);
	close(b);
}

static void test_streams(void **state)
{
	static const char bytes[] = {'a', '\0', 'b', '\n', (char)0xff};
	struct fixture f;
	char buf[64];
	int in, out, err;

	make(&f, false);
	out = open_stream(&f, COMMAND, HK_STREAM_STDOUT);
	err = open_stream(&f, COMMAND, HK_STREAM_STDERR);
	in = open_stream(&f, COMMAND, HK_STREAM_STDIN);
	assert_false(hk_stdio_missing(f.stdio));

	assert_int_equal(hk_write_full(f.in[1], bytes, sizeof(bytes)), 0);
	assert_int_equal(hk_read_full(in, buf, sizeof(bytes)), sizeof(bytes));
	assert_memory_equal(buf, bytes, sizeof(bytes));
	hk_close(&f.in[1]);
	assert_int_equal(hk_read_full(in, buf, 1), 0); /* the end of input arrives */

	assert_int_equal(hk_write_full(out, bytes, sizeof(bytes)), 0);
	assert_int_equal(hk_write_full(err, "error", 5), 0);
	assert_int_equal(hk_read_full(f.out[0], buf, sizeof(bytes)), sizeof(bytes));
	assert_memory_equal(buf, bytes, sizeof(bytes));
	assert_int_equal(hk_read_full(f.err[0], buf, 5), 5);
	assert_memory_equal(buf, "error", 5);

	/* A background process keeps the streams open: the command's bytes are enough. */
	assert_false(hk_stdio_drained(f.stdio));
	hk_stdio_expect(f.stdio, sizeof(bytes), 5);
	wait_drained(&f);
	close(in);
	close(out);
	close(err);
	unmake(&f);
}

static void *write_big(void *arg)
{
	int fd = *(int *)arg;
	char *bytes = calloc(1, BIG);

	assert_int_equal(hk_write_full(fd, bytes, BIG), 0);
	free(bytes);
	return NULL;
}

static void test_slow_reader(void **state)
{
	struct fixture f;
	pthread_t writer;
	char *bytes = malloc(BIG);
	int out;

	make(&f, false);
	out = open_stream(&f, COMMAND, HK_STREAM_STDOUT);
	close(open_stream(&f, COMMAND, HK_STREAM_STDERR));
	assert_int_equal(pthread_create(&writer, NULL, write_big, &out), 0);
	hk_stdio_expect(f.stdio, BIG, 0);
	usleep(50000);
	assert_false(hk_stdio_drained(f.stdio));
	assert_int_equal(hk_read_full(f.out[0], bytes, BIG), BIG);
	wait_drained(&f);
	pthread_join(writer, NULL);
	close(out);
	free(bytes);
	unmake(&f);
}

/* `hako run -- yes | head -1`: the command's end of the stream breaks, and nothing is awaited. */
static void test_reader_gone(void **state)
{
	struct fixture f;
	int out;

	make(&f, false);
	out = open_stream(&f, COMMAND, HK_STREAM_STDOUT);
	close(open_stream(&f, COMMAND, HK_STREAM_STDERR));
	hk_close(&f.out[0]);
	assert_int_equal(send(out, "x", 1, MSG_NOSIGNAL), 1);
	wait_drained(&f);
	assert_int_equal(send(out, "x", 1, MSG_NOSIGNAL), -1);
	assert_int_equal(errno, EPIPE);
	assert_int_equal(hk_stdio_error(f.stdio, &(const char *){NULL}), 0);
	close(out);
	unmake(&f);
}

/* `hako run -- seq 20000 >/dev/full`: the command is stopped, and somebody hears of it. */
static void test_lost_output(void **state)
{
	int full = open("/dev/full", O_WRONLY | O_CLOEXEC);
	struct fixture f;
	const char *name = NULL;
	int out;

	assert_true(full >= 0);
	make(&f, false);
	assert_int_equal(hk_stdio_error(f.stdio, &name), 0);
	assert_int_equal(dup2(full, f.err[1]), f.err[1]);
	out = open_stream(&f, COMMAND, HK_STREAM_STDERR);
	close(open_stream(&f, COMMAND, HK_STREAM_STDOUT));
	assert_int_equal(send(out, "x", 1, MSG_NOSIGNAL), 1);
	wait_drained(&f);
	assert_int_equal(hk_stdio_error(f.stdio, &name), -ENOSPC);
	assert_string_equal(name, "stderr");
	assert_int_equal(send(out, "x", 1, MSG_NOSIGNAL), -1);
	assert_int_equal(errno, EPIPE);
	close(out);
	close(full);
	unmake(&f);
}

/* A command that is gone must not swallow input of those who come after it. */
static void test_input_is_left(void **state)
{
	struct fixture f;
	char buf[8];

	make(&f, false);
	close(open_stream(&f, COMMAND, HK_STREAM_STDIN));
	usleep(50000);
	assert_int_equal(hk_write_full(f.in[1], "next", 4), 0);
	usleep(50000);
	assert_int_equal(hk_read_full(f.in[0], buf, 4), 4);
	unmake(&f);
}

static void test_tty(void **state)
{
	struct fixture f;
	char buf[8];
	int tty;

	make(&f, true);
	tty = open_stream(&f, COMMAND, HK_STREAM_TTY);
	assert_int_equal(hk_write_full(f.in[1], "\x03", 1), 0);
	assert_int_equal(hk_read_full(tty, buf, 1), 1);
	assert_int_equal(hk_write_full(tty, "$ ", 2), 0);
	assert_int_equal(hk_read_full(f.out[0], buf, 2), 2);
	hk_stdio_expect(f.stdio, HK_CONTROL_UNTIL_END, 0);
	assert_false(hk_stdio_drained(f.stdio));
	close(tty);
	wait_drained(&f);
	unmake(&f);
}

/* What a hostile guest may open. */
static void test_uninvited(void **state)
{
	struct fixture f;
	char buf[8];
	int fd, first, held[HK_STDIO_MAX_ARRIVALS];

	make(&f, false);
	fd = open_stream(&f, 99, HK_STREAM_STDOUT);
	assert_int_equal(hk_read_full(fd, buf, 1), 0); /* hung up on */
	close(fd);
	fd = open_stream(&f, COMMAND, HK_STREAM_TTY);
	assert_int_equal(hk_read_full(fd, buf, 1), 0);
	close(fd);
	first = open_stream(&f, COMMAND, HK_STREAM_STDOUT);
	fd = open_stream(&f, COMMAND, HK_STREAM_STDOUT);
	assert_int_equal(hk_read_full(fd, buf, 1), 0);
	close(fd);
	for (int i = 0; i < HK_STDIO_MAX_ARRIVALS; i++) {
		held[i] = hk_stdio_accept(f.stdio);
		assert_true(held[i] >= 0);
	}
	assert_int_equal(hk_stdio_accept(f.stdio), -ECONNREFUSED);
	close(held[0]);
	assert_int_equal(hk_loop_run_once(f.loop, 1000), 0);
	held[0] = hk_stdio_accept(f.stdio);
	assert_true(held[0] >= 0);
	assert_true(hk_stdio_missing(f.stdio)); /* stderr never came */
	for (int i = 0; i < HK_STDIO_MAX_ARRIVALS; i++) {
		close(held[i]);
	}
	close(first);
	unmake(&f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_flags),
		cmocka_unit_test(test_same_file_opened_twice),
		cmocka_unit_test(test_streams),
		cmocka_unit_test(test_slow_reader),
		cmocka_unit_test(test_reader_gone),
		cmocka_unit_test(test_lost_output),
		cmocka_unit_test(test_input_is_left),
		cmocka_unit_test(test_tty),
		cmocka_unit_test(test_uninvited),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
