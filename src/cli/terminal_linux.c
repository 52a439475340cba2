/* SPDX-License-Identifier: ISC */
/*
 * The user's terminal: see terminal_linux.h.
 *
 * Theory: the guardian is a fork of ours that holds the terminal and the reading end of a pipe,
 * and nothing else. One byte in the pipe says that all is well. The pipe's end without it means
 * that we are gone without having restored the terminal. It has a session of its own and ignores
 * signals, so that what ends us does not end it.
 */
#include "cli/terminal_linux.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"

enum { GUARD_PIPE = 3, GUARD_TERMINAL = 4 };

/* Nobody else will reset the terminal, so an interrupted call is made again. */
static void set_attributes(int fd, int when, const struct termios *attributes)
{
	/* seccomp: ioctl:TCSETS ioctl:TCSETSW ioctl:TCGETS */
	while (tcsetattr(fd, when, attributes) < 0 && errno == EINTR) {
	}
}

/* In the child; async-signal-safe calls only. */
_Noreturn static void guard(int pipe_fd, int terminal_fd, const struct termios *saved)
{
	ssize_t n;
	char byte;

	for (int signo = 1; signo < NSIG; signo++) {
		signal(signo, SIG_IGN);
	}
	setsid();
	/* Whoever reads our output must not wait for the guardian's end. */
	pipe_fd = fcntl(pipe_fd, F_DUPFD, GUARD_TERMINAL + 1);
	terminal_fd = fcntl(terminal_fd, F_DUPFD, GUARD_TERMINAL + 1);
	dup2(pipe_fd, GUARD_PIPE);
	dup2(terminal_fd, GUARD_TERMINAL);
	close_range(0, GUARD_PIPE - 1, 0);
	close_range(GUARD_TERMINAL + 1, ~0u, 0);
	do {
		n = read(GUARD_PIPE, &byte, 1);
	} while (n < 0 && errno == EINTR);
	if (n == 0) {
		set_attributes(GUARD_TERMINAL, TCSANOW, saved);
	}
	_exit(0);
}

static int start_guardian(struct hk_terminal *terminal, struct hk_err *err)
{
	int fds[2];

	if (pipe2(fds, O_CLOEXEC) < 0) {
		return hk_fail(err, errno, "terminal: pipe");
	}
	terminal->guardian = fork();
	if (terminal->guardian == 0) {
		close(fds[1]);
		guard(fds[0], terminal->fd, &terminal->saved);
	}
	close(fds[0]);
	terminal->guardian_fd = fds[1];
	if (terminal->guardian < 0) {
		int code = errno;

		hk_close(&terminal->guardian_fd);
		return hk_fail(err, code, "terminal: fork");
	}
	return 0;
}

int hk_terminal_open(struct hk_terminal *terminal, int fd, struct hk_err *err)
{
	int r;

	*terminal = (struct hk_terminal){.fd = fd, .guardian_fd = -1};
	if (tcgetattr(fd, &terminal->saved) < 0) {
		return hk_fail(err, errno, "terminal");
	}
	r = start_guardian(terminal, err);
	terminal->open = r == 0;
	return r;
}

void hk_terminal_make_raw(struct hk_terminal *terminal)
{
	struct termios raw = terminal->saved;

	if (!terminal->open) {
		return;
	}
	cfmakeraw(&raw);
	set_attributes(terminal->fd, TCSADRAIN, &raw);
	terminal->raw = true;
}

void hk_terminal_restore(struct hk_terminal *terminal)
{
	if (terminal->raw) {
		set_attributes(terminal->fd, TCSADRAIN, &terminal->saved);
		terminal->raw = false;
	}
}

void hk_terminal_restore_now(const struct hk_terminal *terminal)
{
	if (terminal->open) {
		set_attributes(terminal->fd, TCSANOW, &terminal->saved);
	}
}

void hk_terminal_close(struct hk_terminal *terminal)
{
	if (!terminal->open) {
		return;
	}
	hk_terminal_restore(terminal);
	terminal->open = false;
	while (write(terminal->guardian_fd, "", 1) < 0 && errno == EINTR) {
	}
	hk_close(&terminal->guardian_fd);
	/* seccomp: wait4 */
	while (waitpid(terminal->guardian, NULL, 0) < 0 && errno == EINTR) {
	}
}

bool hk_terminal_size(int fd, uint16_t *ret_rows, uint16_t *ret_cols)
{
	struct winsize size;

	/* seccomp: ioctl:TIOCGWINSZ */
	if (ioctl(fd, TIOCGWINSZ, &size) < 0) {
		return false;
	}
	*ret_rows = size.ws_row;
	*ret_cols = size.ws_col;
	return true;
}
