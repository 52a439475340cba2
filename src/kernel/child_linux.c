/* SPDX-License-Identifier: ISC */
/*
 * Running a program to its end.
 *
 * Theory: three pipes, read in one poll loop until all are closed, so that none can fill up and
 * block the program. The pipes get descriptors from 10 on: those below are put in place for the
 * program one after the other and must not lie over each other.
 *
 * Limits: the environment is the caller's, but for LC_ALL=C. Output beyond 1 MiB is dropped. If
 * the caller is killed the program goes on until it is done.
 */
#include "kernel/child.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/util.h"

enum { STDOUT, STDERR, STATUS, PIPE_COUNT };

enum { KEPT_BYTES = 1 << 20, FIRST_FD = 10 };

extern char **environ;

static int open_pipe(int *ret_read, int *ret_write)
{
	int fds[2];

	if (pipe2(fds, O_CLOEXEC) < 0) {
		return -errno;
	}
	*ret_read = fds[0];
	*ret_write = fcntl(fds[1], F_DUPFD_CLOEXEC, FIRST_FD);
	hk_close(&fds[1]);
	return *ret_write < 0 ? -errno : 0;
}

/* Our environment with LC_ALL=C; the array is owned by the caller, the strings are not. */
static char **untranslated(void)
{
	static char lc_all[] = "LC_ALL=C";
	size_t count = 0;
	size_t n = 0;
	char **env;

	while (environ[count] != NULL) {
		count++;
	}
	env = hk_calloc(count + 2, sizeof(*env));
	if (env == NULL) {
		return NULL;
	}
	for (size_t i = 0; i < count; i++) {
		if (strncmp(environ[i], "LC_ALL=", 7) != 0) {
			env[n++] = environ[i];
		}
	}
	env[n] = lc_all;
	return env;
}

static int start_with(const struct hk_child *child, const int write_fds[PIPE_COUNT],
	posix_spawn_file_actions_t *actions, posix_spawnattr_t *attr, pid_t *ret_pid)
{
	autofree char **env = untranslated();
	sigset_t none;
	sigset_t defaults;

	if (env == NULL) {
		return -ENOMEM;
	}
	sigemptyset(&none);
	sigemptyset(&defaults);
	sigaddset(&defaults, SIGPIPE);
	posix_spawnattr_setflags(attr, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
	posix_spawnattr_setsigmask(attr, &none);
	posix_spawnattr_setsigdefault(attr, &defaults);
	/* These fail for want of memory only. */
	if (posix_spawn_file_actions_addopen(actions, 0, "/dev/null", O_RDONLY, 0) != 0 ||
		posix_spawn_file_actions_adddup2(actions, write_fds[STDOUT], 1) != 0 ||
		posix_spawn_file_actions_adddup2(actions, write_fds[STDERR], 2) != 0 ||
		posix_spawn_file_actions_adddup2(actions, write_fds[STATUS], 3) != 0 ||
		(child->dir != NULL &&
			posix_spawn_file_actions_addchdir_np(actions, child->dir) != 0)) {
		return -ENOMEM;
	}
	return -posix_spawnp(
		ret_pid, child->argv[0], actions, attr, (char *const *)child->argv, env);
}

static int start(const struct hk_child *child, const int write_fds[PIPE_COUNT], pid_t *ret_pid)
{
	posix_spawn_file_actions_t actions;
	posix_spawnattr_t attr;
	int r;

	posix_spawn_file_actions_init(&actions);
	posix_spawnattr_init(&attr);
	r = start_with(child, write_fds, &actions, &attr, ret_pid);
	posix_spawnattr_destroy(&attr);
	posix_spawn_file_actions_destroy(&actions);
	return r;
}

static void take_status(struct hk_child *child, const char *bytes, size_t len)
{
	for (size_t i = 0; i < len; i++) {
		if (bytes[i] != '\n') {
			if (child->line.len < 4096) {
				hk_str_add_bytes(&child->line, &bytes[i], 1);
			}
			continue;
		}
		child->status(child, hk_str_text(&child->line));
		hk_str_finish(&child->line);
	}
}

static void keep(struct hk_str *text, const char *bytes, size_t len)
{
	hk_str_add_bytes(text, bytes, HK_MIN(len, KEPT_BYTES - HK_MIN(text->len, KEPT_BYTES)));
}

/* Reads what is there from one pipe. Return: false at its end. */
static bool take(struct hk_child *child, unsigned which, int fd)
{
	char bytes[4096];
	ssize_t n = read(fd, bytes, sizeof(bytes));

	if (n <= 0) {
		return n < 0 && errno == EINTR;
	}
	if (which == STDOUT) {
		keep(&child->out, bytes, (size_t)n);
	} else if (which == STDERR) {
		keep(&child->complaints, bytes, (size_t)n);
	} else if (child->status != NULL) {
		take_status(child, bytes, (size_t)n);
	}
	return true;
}

static void take_all(struct hk_child *child, const int read_fds[PIPE_COUNT])
{
	struct pollfd polls[PIPE_COUNT];
	unsigned open_count = PIPE_COUNT;

	for (unsigned i = 0; i < PIPE_COUNT; i++) {
		polls[i] = (struct pollfd){.fd = read_fds[i], .events = POLLIN};
	}
	while (open_count > 0) {
		if (poll(polls, PIPE_COUNT, -1) < 0) {
			continue; /* EINTR */
		}
		for (unsigned i = 0; i < PIPE_COUNT; i++) {
			if (polls[i].revents != 0 && !take(child, i, polls[i].fd)) {
				polls[i].fd = -1;
				open_count--;
			}
		}
	}
}

static int wait_for(pid_t pid)
{
	int status;

	while (waitpid(pid, &status, 0) < 0) {
		if (errno != EINTR) {
			return 127; /* somebody else has reaped it */
		}
	}
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

int hk_child_run(struct hk_child *child, struct hk_err *err)
{
	int read_fds[PIPE_COUNT] = {-1, -1, -1};
	int write_fds[PIPE_COUNT] = {-1, -1, -1};
	pid_t pid;
	int r = 0;

	for (unsigned i = 0; i < PIPE_COUNT && r == 0; i++) {
		r = open_pipe(&read_fds[i], &write_fds[i]);
	}
	if (r == 0) {
		r = start(child, write_fds, &pid);
	}
	for (unsigned i = 0; i < PIPE_COUNT; i++) {
		hk_close(&write_fds[i]);
	}
	if (r == 0) {
		take_all(child, read_fds);
		child->exit_status = wait_for(pid);
		if (child->out.failed || child->complaints.failed) {
			r = -ENOMEM;
		}
	}
	for (unsigned i = 0; i < PIPE_COUNT; i++) {
		hk_close(&read_fds[i]);
	}
	return r < 0 ? hk_fail(err, -r, "run '%s'", child->argv[0]) : 0;
}

void hk_child_finish(struct hk_child *child)
{
	hk_str_finish(&child->out);
	hk_str_finish(&child->complaints);
	hk_str_finish(&child->line);
}
