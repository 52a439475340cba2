/* SPDX-License-Identifier: ISC */
/*
 * The agent with its commands and pumps, in a process of its own. The test is the host: it listens
 * on unix sockets that stand for the vsock ports. SETUP is a fake here; test_guest_setup.c has the
 * real one.
 */
#include <errno.h>
#include <fcntl.h>
#include <dirent.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "agent.h"
#include "command.h"
#include "control/control.h"
#include "platform.h"
#include "setup.h"

enum { TIMEOUT_MS = 20000 };

/* ---- What the agent is linked with --------------------------------------------------------- */

static void address_of(uint32_t port, struct sockaddr_un *ret_address, socklen_t *ret_len)
{
	/* Abstract, and of this test process: the agent is its child. */
	static pid_t owner;
	int n;

	if (!owner) {
		owner = getpid();
	}
	*ret_address = (struct sockaddr_un){.sun_family = AF_UNIX};
	n = snprintf(ret_address->sun_path + 1, sizeof(ret_address->sun_path) - 1,
		"hako-test-%d-%u", (int)owner, port);
	*ret_len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + (size_t)n);
}

int hk_platform_dial(uint32_t port)
{
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	struct sockaddr_un address;
	socklen_t len;

	address_of(port, &address, &len);
	if (connect(fd, (struct sockaddr *)&address, len) < 0) {
		int r = -errno;

		close(fd);
		return r;
	}
	return fd;
}

int hk_platform_become_user(uint32_t uid, uint32_t gid)
{
	/* The test's user stays what it is; an id of its own makes the failing case. */
	return uid == 4242 && gid == 4242 ? -EPERM : 0;
}

int hk_setup_run(const struct hk_msg_setup *setup, struct hk_setup_failure *ret_failure)
{
	if (strcmp(setup->hostname, "clock") == 0) {
		ret_failure->error = ETIME;
		snprintf(ret_failure->text, sizeof(ret_failure->text), "%llu",
			(unsigned long long)setup->wall_time_ns);
		return -1;
	}
	if (strcmp(setup->hostname, "bad") == 0) {
		ret_failure->error = ENOENT;
		snprintf(ret_failure->text, sizeof(ret_failure->text), "share 'x' on '/x': find");
		return -1;
	}
	return 0;
}

/* ---- The host ------------------------------------------------------------------------------ */

struct host {
	pid_t agent;
	uint64_t before_ns; /* the agent's start, on the clock of now_ns() */
	int control_listener;
	int stream_listener;
	int control;
	struct hk_control_decoder in;
	uint8_t buf[4096];
	const uint8_t *bytes;
	size_t len;
};

static int listen_on(uint32_t port)
{
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	struct sockaddr_un address;
	socklen_t len;

	address_of(port, &address, &len);
	assert_int_equal(bind(fd, (struct sockaddr *)&address, len), 0);
	assert_int_equal(listen(fd, 100), 0);
	return fd;
}

static void wait_for(int fd)
{
	struct pollfd poll_fd = {.fd = fd, .events = POLLIN};

	if (poll(&poll_fd, 1, TIMEOUT_MS) != 1) {
		fail_msg("nothing came from the agent");
	}
}

static struct hk_control_msg receive(struct host *host, enum hk_msg_type want)
{
	struct hk_control_msg msg;
	int r;

	while ((r = hk_control_feed(&host->in, &host->bytes, &host->len, &msg)) == 0) {
		ssize_t n;

		wait_for(host->control);
		n = read(host->control, host->buf, sizeof(host->buf));
		if (n <= 0) {
			fail_msg("the agent closed the channel");
		}
		host->bytes = host->buf;
		host->len = (size_t)n;
	}
	assert_int_equal(r, 1);
	if (msg.type != want) {
		fail_msg("message %d, not %d", msg.type, want);
	}
	return msg;
}

static void send_msg(struct host *host, const struct hk_control_msg *msg)
{
	struct hk_control_buf buf = {0};

	assert_int_equal(hk_control_put(&buf, msg), 0);
	assert_int_equal(write(host->control, buf.data, buf.len), buf.len);
	hk_control_buf_finish(&buf);
}

static void send_setup(struct host *host, const char *hostname)
{
	send_msg(host,
		&(struct hk_control_msg){
			.type = HK_MSG_SETUP, .setup = {.id = 5, .hostname = hostname}});
}

static void run_agent(void)
{
	const struct hk_msg_hello hello = {
		.version = HK_CONTROL_VERSION, .agent_version = "test", .kernel_release = "k"};
	struct hk_agent *agent;
	enum hk_agent_end end;

	/* As init has it: orphans are the agent's. And a failed test does not leave it behind. */
	prctl(PR_SET_CHILD_SUBREAPER, 1);
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	agent = hk_agent_create(hk_platform_dial(HK_CONTROL_PORT));
	if (!agent || hk_agent_hello(agent, &hello) < 0) {
		_exit(100);
	}
	end = hk_agent_run(agent);
	hk_agent_destroy(agent);
	_exit((int)end);
}

static uint64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_BOOTTIME, &now);
	return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

static int start_agent(void **state)
{
	struct host *host = calloc(1, sizeof(*host));
	struct hk_control_msg msg;

	assert_non_null(host);
	host->control_listener = listen_on(HK_CONTROL_PORT);
	host->stream_listener = listen_on(HK_STREAM_PORT);
	host->before_ns = now_ns();
	host->agent = fork();
	assert_true(host->agent >= 0);
	if (host->agent == 0) {
		close(host->control_listener);
		close(host->stream_listener);
		run_agent();
	}
	wait_for(host->control_listener);
	host->control = accept4(host->control_listener, NULL, NULL, SOCK_CLOEXEC);
	assert_true(host->control >= 0);
	hk_control_decoder_init(&host->in, HK_CONTROL_FROM_GUEST);
	msg = receive(host, HK_MSG_HELLO);
	assert_int_equal(msg.hello.version, HK_CONTROL_VERSION);
	assert_string_equal(msg.hello.agent_version, "test");
	*state = host;
	return 0;
}

static int start_box(void **state)
{
	struct host *host;

	start_agent(state);
	host = *state;
	send_setup(host, "box");
	assert_int_equal(receive(host, HK_MSG_DONE).done.id, 5);
	return 0;
}

/* Return: how the agent ended, as its exit status */
static int agent_end(struct host *host)
{
	int status;

	assert_int_equal(waitpid(host->agent, &status, 0), host->agent);
	host->agent = 0;
	assert_true(WIFEXITED(status));
	return WEXITSTATUS(status);
}

static int stop_agent(void **state)
{
	struct host *host = *state;

	if (host->agent) {
		kill(host->agent, SIGKILL);
		waitpid(host->agent, NULL, 0);
	}
	hk_control_decoder_finish(&host->in);
	close(host->control);
	close(host->control_listener);
	close(host->stream_listener);
	free(host);
	return 0;
}

/* ---- Commands ------------------------------------------------------------------------------ */

static const char *const path_env[] = {"PATH=/usr/bin:/bin", NULL};

/* EXEC as @exec, with @argv and @env, which end with NULL. */
static void exec_words(
	struct host *host, struct hk_msg_exec exec, const char *const *argv, const char *const *env)
{
	struct hk_control_builder words = {0};
	struct hk_control_builder variables = {0};
	struct hk_control_msg msg = {.type = HK_MSG_EXEC, .exec = exec};

	for (; *argv; argv++) {
		hk_control_add_string(&words, *argv);
	}
	for (; env && *env; env++) {
		hk_control_add_string(&variables, *env);
	}
	msg.exec.argv = hk_control_built(&words);
	msg.exec.env = hk_control_built(&variables);
	if (!msg.exec.cwd) {
		msg.exec.cwd = "/";
	}
	send_msg(host, &msg);
	hk_control_builder_finish(&words);
	hk_control_builder_finish(&variables);
}

static void exec_sh(struct host *host, uint32_t flags, const char *script)
{
	exec_words(host, (struct hk_msg_exec){.id = 1, .flags = flags, .uid = getuid()},
		(const char *const[]){"sh", "-c", script, NULL}, path_env);
}

/* The streams come in any order: the next one is put into @fds by its kind. */
static void accept_stream(struct host *host, int fds[HK_STREAM_KIND_COUNT])
{
	uint8_t bytes[HK_STREAM_PREAMBLE_BYTES];
	struct hk_stream_preamble preamble;
	int fd;

	wait_for(host->stream_listener);
	fd = accept4(host->stream_listener, NULL, NULL, SOCK_CLOEXEC);
	assert_true(fd >= 0);
	wait_for(fd);
	assert_int_equal(recv(fd, bytes, sizeof(bytes), MSG_WAITALL), sizeof(bytes));
	assert_int_equal(hk_stream_preamble_get(bytes, &preamble), 0);
	fds[preamble.kind] = fd;
}

/* Read @fd to its end. Return: how much came; the first @cap - 1 bytes, with a NUL, are in @buf */
static size_t read_to_end(int fd, char *buf, size_t cap)
{
	char rest[65536];
	size_t total = 0;
	size_t kept = 0;

	for (;;) {
		ssize_t n;

		wait_for(fd);
		n = read(fd, rest, sizeof(rest));
		if (n <= 0) {
			break;
		}
		total += (size_t)n;
		if (kept < cap - 1) {
			size_t take = (size_t)n < cap - 1 - kept ? (size_t)n : cap - 1 - kept;

			memcpy(buf + kept, rest, take);
			kept += take;
		}
	}
	buf[kept] = '\0';
	close(fd);
	return total;
}

/* Read until @want has come, which has to be at the end of what came. */
static void expect(int fd, const char *want)
{
	char buf[4096];
	size_t len = 0;

	do {
		ssize_t n;

		wait_for(fd);
		n = read(fd, buf + len, sizeof(buf) - 1 - len);
		if (n <= 0) {
			fail_msg("end of stream instead of '%s' (%s)", want, buf);
		}
		len += (size_t)n;
		buf[len] = '\0';
	} while (!strstr(buf, want));
}

static void expect_exit(struct host *host, bool signaled, uint32_t code)
{
	struct hk_msg_exited exited = receive(host, HK_MSG_EXITED).exited;

	assert_int_equal(exited.id, 1);
	assert_int_equal(exited.signaled, signaled);
	assert_int_equal(exited.code, code);
}

static void send_signal(struct host *host, uint32_t signo)
{
	send_msg(host,
		&(struct hk_control_msg){
			.type = HK_MSG_SIGNAL, .signal = {.id = 1, .signo = signo}});
}

static void test_output_and_status(void **state)
{
	struct host *host = *state;
	int fds[HK_STREAM_KIND_COUNT];
	struct hk_msg_exited exited;
	char buf[64];

	exec_sh(host, HK_EXEC_STDOUT | HK_EXEC_STDERR, "printf 'a\\0b'; printf err! >&2; exit 37");
	accept_stream(host, fds);
	accept_stream(host, fds);
	assert_true(receive(host, HK_MSG_STARTED).started.pid > 0);
	exited = receive(host, HK_MSG_EXITED).exited;
	assert_false(exited.signaled);
	assert_int_equal(exited.code, 37);
	assert_int_equal(exited.stdout_bytes, 3);
	assert_int_equal(exited.stderr_bytes, 4);
	assert_int_equal(exited.oom_kills, 0);
	assert_int_equal(read_to_end(fds[HK_STREAM_STDOUT], buf, sizeof(buf)), 3);
	assert_memory_equal(buf, "a\0b", 3);
	assert_int_equal(read_to_end(fds[HK_STREAM_STDERR], buf, sizeof(buf)), 4);
	assert_string_equal(buf, "err!");
}

/* Binary-clean both ways, in amounts that no buffer holds; the end of input is passed on. */
static void test_stdin(void **state)
{
	enum { TOTAL = 3 << 20 };
	struct host *host = *state;
	int fds[HK_STREAM_KIND_COUNT];
	uint64_t sum_in = 0;
	uint64_t sum_out = 0;
	size_t sent = 0;
	size_t got = 0;
	bool open = true;

	exec_words(host, (struct hk_msg_exec){.id = 1, .flags = HK_EXEC_STDIN | HK_EXEC_STDOUT},
		(const char *const[]){"cat", NULL}, path_env);
	accept_stream(host, fds);
	accept_stream(host, fds);
	receive(host, HK_MSG_STARTED);
	assert_int_equal(fcntl(fds[0], F_SETFL, O_NONBLOCK), 0);
	while (open) {
		struct pollfd poll_fds[2] = {
			{.fd = sent < TOTAL ? fds[0] : -1, .events = POLLOUT},
			{.fd = fds[1], .events = POLLIN},
		};
		uint8_t buf[7919];
		ssize_t n;

		assert_true(poll(poll_fds, 2, TIMEOUT_MS) > 0);
		if (poll_fds[0].revents) {
			size_t len = TOTAL - sent < sizeof(buf) ? TOTAL - sent : sizeof(buf);

			for (size_t i = 0; i < len; i++) {
				buf[i] = (uint8_t)((sent + i) * 2654435761u >> 7);
			}
			n = write(fds[0], buf, len);
			for (ssize_t i = 0; i < n; i++) {
				sum_in = sum_in * 31 + buf[i];
			}
			sent += n > 0 ? (size_t)n : 0;
			if (sent == TOTAL) {
				assert_int_equal(shutdown(fds[0], SHUT_WR), 0);
			}
		}
		if (poll_fds[1].revents) {
			n = read(fds[1], buf, sizeof(buf));
			assert_true(n >= 0);
			for (ssize_t i = 0; i < n; i++) {
				sum_out = sum_out * 31 + buf[i];
			}
			got += (size_t)n;
			open = n > 0;
		}
	}
	assert_int_equal(got, TOTAL);
	assert_true(sum_in == sum_out);
	assert_int_equal(receive(host, HK_MSG_EXITED).exited.stdout_bytes, TOTAL);
	close(fds[0]);
	close(fds[1]);
}

static void test_signals(void **state)
{
	struct host *host = *state;
	int fds[HK_STREAM_KIND_COUNT];

	exec_sh(host, 0, "kill -9 $$");
	receive(host, HK_MSG_STARTED);
	expect_exit(host, true, SIGKILL);

	/* To the whole group: sh waits for sleep, and would not end before it. */
	exec_sh(host, HK_EXEC_STDOUT, "echo up; sleep 100; echo not reached");
	accept_stream(host, fds);
	receive(host, HK_MSG_STARTED);
	expect(fds[1], "up\n");
	send_signal(host, SIGTERM);
	expect_exit(host, true, SIGTERM);
	close(fds[1]);

	/* A stopped command goes on when told to. */
	exec_sh(host, HK_EXEC_STDOUT, "trap 'exit 3' TERM; echo up; while :; do sleep 0.02; done");
	accept_stream(host, fds);
	receive(host, HK_MSG_STARTED);
	expect(fds[1], "up\n");
	send_signal(host, SIGSTOP);
	send_signal(host, SIGTERM);
	send_signal(host, SIGCONT);
	expect_exit(host, false, 3);
	close(fds[1]);

	/* Signals to what is gone, or never was, are nothing. */
	send_signal(host, SIGTERM);
	send_msg(host, &(struct hk_control_msg){.type = HK_MSG_PING, .ping = {.cookie = 77}});
	assert_int_equal(receive(host, HK_MSG_PONG).pong.cookie, 77);
}

static void test_exec_failures(void **state)
{
	static const struct {
		const char *file;
		const char *cwd;
		const char *env;
		uint32_t id;
		enum hk_exec_stage stage;
		int error; /* 0: it starts */
	} table[] = {
		{"nosuchcommand", "/", "PATH=/usr/bin:/bin", 0, HK_EXEC_STAGE_EXEC, ENOENT},
		{"/nosuchfile", "/", NULL, 0, HK_EXEC_STAGE_EXEC, ENOENT},
		{"", "/", NULL, 0, HK_EXEC_STAGE_EXEC, ENOENT},
		{"/", "/", NULL, 0, HK_EXEC_STAGE_EXEC, EACCES},
		{"/etc/passwd", "/", NULL, 0, HK_EXEC_STAGE_EXEC, EACCES},
		{"passwd", "/", "PATH=/nosuchdir:/etc", 0, HK_EXEC_STAGE_EXEC, EACCES},
		{"true", "/", "PATH=/etc/passwd:/nosuchdir", 0, HK_EXEC_STAGE_EXEC, ENOENT},
		{"true", "/", "PATH=/nosuchdir:/usr/bin:/bin", 0, HK_EXEC_STAGE_EXEC, 0},
		{"true", "/usr/bin", "PATH=", 0, HK_EXEC_STAGE_EXEC, 0},
		{"true", "/", NULL, 0, HK_EXEC_STAGE_EXEC, 0},
		{"true", "/nosuchdir", NULL, 0, HK_EXEC_STAGE_CWD, ENOENT},
		{"true", "/etc/passwd", NULL, 0, HK_EXEC_STAGE_CWD, ENOTDIR},
		{"true", "/", NULL, 4242, HK_EXEC_STAGE_USER, EPERM},
	};
	struct host *host = *state;

	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		const char *const argv[] = {table[i].file, NULL};
		const char *const env[] = {table[i].env, NULL};
		struct hk_msg_exec_failed failed;

		exec_words(host,
			(struct hk_msg_exec){.id = 1,
				.cwd = table[i].cwd,
				.uid = table[i].id,
				.gid = table[i].id},
			argv, env);
		if (!table[i].error) {
			receive(host, HK_MSG_STARTED);
			expect_exit(host, false, 0);
			continue;
		}
		failed = receive(host, HK_MSG_EXEC_FAILED).exec_failed;
		if ((int)failed.error != table[i].error || failed.stage != table[i].stage) {
			fail_msg("row %zu: %s in stage %d", i, strerror((int)failed.error),
				failed.stage);
		}
	}
}

/* A script without "#!" is no program: there is no shell in between that would take it. */
static void test_not_a_program(void **state)
{
	char name[] = "/tmp/hako-test-XXXXXX";
	struct hk_msg_exec_failed failed;
	struct host *host = *state;
	int fd = mkstemp(name);

	assert_int_equal(write(fd, "echo hi\n", 8), 8);
	fchmod(fd, 0755);
	close(fd);
	exec_words(host, (struct hk_msg_exec){.id = 1}, (const char *const[]){name, NULL}, NULL);
	failed = receive(host, HK_MSG_EXEC_FAILED).exec_failed;
	unlink(name);
	assert_int_equal(failed.error, ENOEXEC);
	assert_int_equal(failed.stage, HK_EXEC_STAGE_EXEC);
}

static void test_surroundings(void **state)
{
	static const struct {
		uint32_t flags;
		const char *script;
		const char *want;
	} table[] = {
		{HK_EXEC_STDOUT, "pwd", "/usr\n"},
		/* What is not open is /dev/null, and reads as empty. */
		{HK_EXEC_STDOUT, "cat; readlink /proc/self/fd/0 /proc/self/fd/2",
			"/dev/null\n/dev/null\n"},
		/* The order of what is written to one pipe stays. */
		{HK_EXEC_STDOUT | HK_EXEC_MERGE, "echo 1; echo 2 >&2; echo 3", "1\n2\n3\n"},
		/* Nothing of the agent's: three standard descriptors and ls's own. */
		{HK_EXEC_STDOUT, "ls /proc/self/fd | wc -l", "4\n"},
		{HK_EXEC_STDOUT, "umask; ulimit -Sn", "0022\n1024\n"},
		{HK_EXEC_STDOUT, "env | sort", "A=1 2\nPATH=/usr/bin:/bin\nPWD=/usr\n"},
		/* Signals that the agent ignores or blocks are not so in commands. */
		{HK_EXEC_STDOUT, "grep -E '^Sig(Blk|Ign)' /proc/self/status | tr -d '\\n\\t'",
			"SigBlk:0000000000000000SigIgn:0000000000000000"},
	};
	static const char *const env[] = {"PATH=/usr/bin:/bin", "A=1 2", NULL};
	struct host *host = *state;

	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		int fds[HK_STREAM_KIND_COUNT];
		char buf[256];

		exec_words(host,
			(struct hk_msg_exec){.id = 1, .flags = table[i].flags, .cwd = "/usr"},
			(const char *const[]){"sh", "-c", table[i].script, NULL}, env);
		accept_stream(host, fds);
		receive(host, HK_MSG_STARTED);
		read_to_end(fds[1], buf, sizeof(buf));
		if (strcmp(buf, table[i].want) != 0) {
			fail_msg("row %zu: '%s'", i, buf);
		}
		expect_exit(host, false, 0);
	}
}

/* A process in the background holds stdout: EXITED comes, and tells what there is to wait for. */
static void test_background(void **state)
{
	struct host *host = *state;
	int fds[HK_STREAM_KIND_COUNT];
	struct hk_msg_exited exited;
	char buf[16];

	exec_sh(host, HK_EXEC_STDOUT, "sleep 100 & echo hi");
	accept_stream(host, fds);
	receive(host, HK_MSG_STARTED);
	exited = receive(host, HK_MSG_EXITED).exited;
	assert_int_equal(exited.stdout_bytes, 3);
	wait_for(fds[1]);
	assert_int_equal(read(fds[1], buf, sizeof(buf)), 3);
	assert_int_equal(recv(fds[1], buf, sizeof(buf), MSG_DONTWAIT), -1);
	assert_int_equal(errno, EAGAIN);
	close(fds[1]);
}

/* A host that does not read stops the command, and nothing else; EXITED counts what is due. */
static void test_slow_reader(void **state)
{
	enum { TOTAL = 5000000 };
	struct host *host = *state;
	int fds[HK_STREAM_KIND_COUNT];
	char buf[16];

	exec_words(host, (struct hk_msg_exec){.id = 1, .flags = HK_EXEC_STDOUT},
		(const char *const[]){"head", "-c", "5000000", "/dev/zero", NULL}, path_env);
	accept_stream(host, fds);
	receive(host, HK_MSG_STARTED);
	send_msg(host, &(struct hk_control_msg){.type = HK_MSG_PING, .ping = {.cookie = 1}});
	receive(host, HK_MSG_PONG);
	assert_int_equal(read_to_end(fds[1], buf, sizeof(buf)), TOTAL);
	assert_int_equal(receive(host, HK_MSG_EXITED).exited.stdout_bytes, TOTAL);
}

/* What is written last is counted while it still sits in the pipe. */
static void test_count_in_pipe(void **state)
{
	struct host *host = *state;
	int fds[HK_STREAM_KIND_COUNT];
	struct hk_msg_exited exited;
	char buf[16];
	uint64_t total;
	int size = 4096;

	exec_sh(host, HK_EXEC_STDOUT, "head -c 300000 /dev/zero & sleep 0.2; kill -9 $$");
	accept_stream(host, fds);
	setsockopt(fds[1], SOL_SOCKET, SO_RCVBUF, &size, sizeof(size));
	receive(host, HK_MSG_STARTED);
	exited = receive(host, HK_MSG_EXITED).exited;
	assert_true(exited.signaled);
	total = read_to_end(fds[1], buf, sizeof(buf));
	assert_int_equal(total, 300000);
	assert_true(exited.stdout_bytes <= total);
}

static void test_reader_gone(void **state)
{
	struct host *host = *state;
	int fds[HK_STREAM_KIND_COUNT];

	exec_words(host, (struct hk_msg_exec){.id = 1, .flags = HK_EXEC_STDOUT},
		(const char *const[]){"yes", NULL}, path_env);
	accept_stream(host, fds);
	receive(host, HK_MSG_STARTED);
	expect(fds[1], "y\n");
	close(fds[1]);
	expect_exit(host, true, SIGPIPE);
}

/* A command that closes its stdin: the host learns that nobody reads. */
static void test_stdin_closed(void **state)
{
	struct host *host = *state;
	int fds[HK_STREAM_KIND_COUNT];
	char byte;

	exec_sh(host, HK_EXEC_STDIN | HK_EXEC_STDOUT, "exec <&-; echo closed; sleep 100");
	accept_stream(host, fds);
	accept_stream(host, fds);
	receive(host, HK_MSG_STARTED);
	expect(fds[1], "closed\n");
	wait_for(fds[0]);
	assert_int_equal(read(fds[0], &byte, 1), 0);
	send_signal(host, SIGKILL);
	expect_exit(host, true, SIGKILL);
	close(fds[0]);
	close(fds[1]);
}

static void test_two_commands(void **state)
{
	struct host *host = *state;
	const char *const sleep_argv[] = {"sleep", "100", NULL};
	struct hk_msg_exec_failed failed;

	for (uint32_t id = 1; id <= 2; id++) {
		exec_words(host, (struct hk_msg_exec){.id = id}, sleep_argv, path_env);
		assert_int_equal(receive(host, HK_MSG_STARTED).started.id, id);
	}
	exec_words(host, (struct hk_msg_exec){.id = 2}, sleep_argv, path_env);
	failed = receive(host, HK_MSG_EXEC_FAILED).exec_failed;
	assert_int_equal(failed.id, 2);
	assert_int_equal(failed.error, EEXIST);
	send_signal(host, SIGINT);
	expect_exit(host, true, SIGINT);
	/* Its number is free again. */
	exec_words(
		host, (struct hk_msg_exec){.id = 1}, (const char *const[]){"true", NULL}, path_env);
	receive(host, HK_MSG_STARTED);
	expect_exit(host, false, 0);
}

static void test_too_many_commands(void **state)
{
	struct host *host = *state;
	const char *const sleep_argv[] = {"sleep", "100", NULL};
	uint32_t id = 1;

	for (; id <= 64; id++) {
		exec_words(host, (struct hk_msg_exec){.id = id}, sleep_argv, path_env);
		receive(host, HK_MSG_STARTED);
	}
	exec_words(host, (struct hk_msg_exec){.id = id}, sleep_argv, path_env);
	assert_int_equal(receive(host, HK_MSG_EXEC_FAILED).exec_failed.error, EAGAIN);
}

static unsigned count_fds(pid_t pid)
{
	unsigned count = 0;
	char path[64];
	DIR *dir;

	snprintf(path, sizeof(path), "/proc/%d/fd", (int)pid);
	dir = opendir(path);
	assert_non_null(dir);
	while (readdir(dir)) {
		count++;
	}
	closedir(dir);
	return count;
}

static void run_one(struct host *host, uint32_t flags)
{
	int fds[HK_STREAM_KIND_COUNT];
	char buf[16];

	exec_sh(host, flags, "echo x");
	accept_stream(host, fds);
	receive(host, HK_MSG_STARTED);
	read_to_end(fds[flags & HK_EXEC_PTY ? HK_STREAM_TTY : HK_STREAM_STDOUT], buf, sizeof(buf));
	expect_exit(host, false, 0);
	/* What the end of the streams frees is freed before the next message is answered. */
	send_msg(host, &(struct hk_control_msg){.type = HK_MSG_PING});
	receive(host, HK_MSG_PONG);
}

static void test_no_leaks(void **state)
{
	struct host *host = *state;
	unsigned before;

	run_one(host, HK_EXEC_STDOUT);
	before = count_fds(host->agent);
	for (int i = 0; i < 30; i++) {
		run_one(host, i % 2 ? HK_EXEC_PTY : HK_EXEC_STDOUT);
	}
	assert_int_equal(count_fds(host->agent), before);
}

/* ---- Terminals ----------------------------------------------------------------------------- */

static int start_pty(struct host *host, const char *script)
{
	int fds[HK_STREAM_KIND_COUNT];

	exec_words(host,
		(struct hk_msg_exec){
			.id = 1, .flags = HK_EXEC_PTY, .uid = getuid(), .rows = 24, .cols = 80},
		(const char *const[]){"sh", "-c", script, NULL}, path_env);
	accept_stream(host, fds);
	receive(host, HK_MSG_STARTED);
	return fds[HK_STREAM_TTY];
}

static void test_pty(void **state)
{
	struct host *host = *state;
	struct hk_msg_exited exited;
	char buf[256];
	int fd = start_pty(host,
		"stty size; tty | grep -q /dev/pts/ && [ -t 0 ] && [ -t 1 ] && [ -t 2 ] && "
		": < /dev/tty && echo tty; exit 4");

	read_to_end(fd, buf, sizeof(buf));
	assert_string_equal(buf, "24 80\r\ntty\r\n");
	exited = receive(host, HK_MSG_EXITED).exited;
	assert_int_equal(exited.code, 4);
	assert_true(exited.stdout_bytes == HK_CONTROL_UNTIL_END);
}

static void test_pty_winsize(void **state)
{
	struct host *host = *state;
	int fd = start_pty(
		host, "trap 'stty size; exit 0' WINCH; echo up; while :; do sleep 0.02; done");

	expect(fd, "up");
	send_msg(host,
		&(struct hk_control_msg){
			.type = HK_MSG_WINSIZE, .winsize = {.id = 1, .rows = 50, .cols = 132}});
	expect(fd, "50 132");
	expect_exit(host, false, 0);
	close(fd);
}

static void test_pty_keys(void **state)
{
	static const struct {
		const char *script;
		const char *type;
		bool signaled;
		uint32_t code;
	} table[] = {
		{"echo up; exec sleep 100", "\003", true, SIGINT},
		{"echo up; exec sleep 100", "\034", true, SIGQUIT},
		{"echo up; read x; [ \"$x\" = hi ]", "hi\r", false, 0},
		{"echo up; cat", "\004", false, 0},
		{"stty raw; echo up; [ $(head -c 1 | od -An -tx1) = 03 ]", "\003", false, 0},
	};
	struct host *host = *state;

	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		int fd = start_pty(host, table[i].script);

		expect(fd, "up");
		assert_int_equal(
			write(fd, table[i].type, strlen(table[i].type)), strlen(table[i].type));
		expect_exit(host, table[i].signaled, table[i].code);
		close(fd);
	}
}

/* The user's input ends: lines end, keys do not. The stream goes on the other way. */
static void test_pty_end_of_input(void **state)
{
	struct host *host = *state;
	char buf[64];
	int fd = start_pty(host, "echo up; cat; echo done");

	expect(fd, "up");
	shutdown(fd, SHUT_WR);
	read_to_end(fd, buf, sizeof(buf));
	assert_non_null(strstr(buf, "done"));
	expect_exit(host, false, 0);
}

static void test_pty_hang_up(void **state)
{
	struct host *host = *state;
	int fd = start_pty(host, "echo up; exec sleep 100");

	expect(fd, "up");
	close(fd);
	expect_exit(host, true, SIGHUP);
}

/* The main command ends while another process has the terminal: it ends all the same. */
static void test_pty_background(void **state)
{
	struct host *host = *state;
	char buf[64];
	int fd = start_pty(host, "trap '' HUP; sleep 100 & echo bye");

	read_to_end(fd, buf, sizeof(buf));
	assert_string_equal(buf, "bye\r\n");
	expect_exit(host, false, 0);
}

/* ---- The channel --------------------------------------------------------------------------- */

static void test_setup_answers(void **state)
{
	struct host *host = *state;
	struct hk_control_msg msg;

	exec_sh(host, 0, "true");
	assert_int_equal(receive(host, HK_MSG_EXEC_FAILED).exec_failed.error, EPERM);
	send_setup(host, "bad");
	msg = receive(host, HK_MSG_FAILED);
	assert_int_equal(msg.failed.id, 5);
	assert_int_equal(msg.failed.error, ENOENT);
	assert_string_equal(msg.failed.text, "share 'x' on '/x': find");
	send_setup(host, "box");
	assert_int_equal(receive(host, HK_MSG_FAILED).failed.error, EALREADY);
}

/* SETUP tells the time at which the host got HELLO, and is read when the agent has time to. */
static void test_setup_clock(void **state)
{
	const uint64_t told_ns = UINT64_C(1000000000000000000);
	struct host *host = *state;
	struct hk_control_msg msg = {
		.type = HK_MSG_SETUP,
		.setup = {.id = 5, .wall_time_ns = told_ns, .hostname = "clock"},
	};
	uint64_t hello_ns = now_ns();
	uint64_t least_ns;
	uint64_t set_ns;

	usleep(20000);
	least_ns = now_ns() - hello_ns;
	send_msg(host, &msg);
	msg = receive(host, HK_MSG_FAILED);
	assert_int_equal(msg.failed.error, ETIME);
	set_ns = strtoull(msg.failed.text, NULL, 10);
	assert_in_range(set_ns, told_ns + least_ns, told_ns + (now_ns() - host->before_ns));
}

static void test_shutdown(void **state)
{
	struct host *host = *state;

	send_msg(host, &(struct hk_control_msg){.type = HK_MSG_SHUTDOWN});
	assert_int_equal(agent_end(host), HK_AGENT_SHUTDOWN);
}

static void test_closed_before_setup(void **state)
{
	struct host *host = *state;

	shutdown(host->control, SHUT_RDWR);
	assert_int_equal(agent_end(host), HK_AGENT_CLOSED);
}

static void test_closed_after_setup(void **state)
{
	struct host *host = *state;

	shutdown(host->control, SHUT_RDWR);
	assert_int_equal(agent_end(host), HK_AGENT_LOST);
}

static void test_garbage(void **state)
{
	struct host *host = *state;

	assert_int_equal(write(host->control, "GET / HTTP/1.0\r\n", 16), 16);
	assert_int_equal(agent_end(host), HK_AGENT_BROKEN);
}

#define box_test(f)   cmocka_unit_test_setup_teardown(f, start_box, stop_agent)
#define agent_test(f) cmocka_unit_test_setup_teardown(f, start_agent, stop_agent)

int main(void)
{
	const struct CMUnitTest tests[] = {
		box_test(test_output_and_status),
		box_test(test_stdin),
		box_test(test_signals),
		box_test(test_exec_failures),
		box_test(test_not_a_program),
		box_test(test_surroundings),
		box_test(test_background),
		box_test(test_slow_reader),
		box_test(test_count_in_pipe),
		box_test(test_reader_gone),
		box_test(test_stdin_closed),
		box_test(test_two_commands),
		box_test(test_too_many_commands),
		box_test(test_no_leaks),
		box_test(test_pty),
		box_test(test_pty_winsize),
		box_test(test_pty_keys),
		box_test(test_pty_end_of_input),
		box_test(test_pty_hang_up),
		box_test(test_pty_background),
		agent_test(test_setup_answers),
		agent_test(test_setup_clock),
		agent_test(test_shutdown),
		agent_test(test_closed_before_setup),
		box_test(test_closed_after_setup),
		agent_test(test_garbage),
	};

	/* What this process was started with is not the agent's to pass on. */
	close_range(3, ~0U, 0);
	/* A write to an agent that has ended is a failed check, not the end of the test. */
	signal(SIGPIPE, SIG_IGN);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
