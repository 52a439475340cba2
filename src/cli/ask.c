/* SPDX-License-Identifier: ISC */
/*
 * Answers to `ask`: see ask.h.
 *
 * Limits: on the terminal the question stands among what the command prints, and a command that
 * reads there at the same moment may get the answer. Where the command has the terminal for itself
 * (a shell with job control), nobody can be asked there: no.
 */
#include "cli/ask.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/str.h"
#include "base/sys.h"
#include "base/util.h"
#include "cli/report.h"

enum { MAX_DEPTH = 32 };

static bool wait_for(int fd, int over)
{
	struct pollfd fds[] = {{.fd = fd, .events = POLLIN}, {.fd = over, .events = POLLIN}};
	int r;

	do {
		r = poll(fds, HK_ARRAY_SIZE(fds), HK_ASK_SECONDS * 1000);
	} while (r < 0 && errno == EINTR);
	return r > 0 && fds[1].revents == 0;
}

/*
 * A process and all below it; none of them can start another meanwhile. (It has no process group of
 * its own: it would not have the terminal.)
 */
static void kill_tree(pid_t pid, unsigned depth)
{
	char path[64];
	char children[4096];

	kill(pid, SIGSTOP);
	hk_fmt(path, sizeof(path), "/proc/%d/task/%d/children", (int)pid, (int)pid);
	(void)hk_read_text(AT_FDCWD, path, children, sizeof(children));
	for (char *at = children, *end; depth < MAX_DEPTH; at = end) {
		long child = strtol(at, &end, 10);

		if (end == at || child <= 1) {
			break;
		}
		kill_tree((pid_t)child, depth + 1);
	}
	kill(pid, SIGKILL);
}

/* It finds signals as programs do: of ours, some are blocked or ignored. */
static int start(const char *program, char **argv, pid_t *ret_child)
{
	posix_spawnattr_t attributes;
	sigset_t set;
	int r;

	posix_spawnattr_init(&attributes);
	sigemptyset(&set);
	posix_spawnattr_setsigmask(&attributes, &set);
	sigfillset(&set);
	posix_spawnattr_setsigdefault(&attributes, &set);
	posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
	r = posix_spawnp(ret_child, program, NULL, &attributes, argv, environ);
	posix_spawnattr_destroy(&attributes);
	return -r;
}

static bool ask_program(const char *verb, const char *program, const char *path,
	const char *class_name, pid_t pid, int over)
{
	char pid_text[16];
	char *argv[] = {(char *)program, (char *)path, (char *)class_name, pid_text, NULL};
	autoclose int pidfd = -1;
	int status = -1;
	pid_t child;
	int r;

	hk_fmt(pid_text, sizeof(pid_text), "%d", (int)pid);
	r = start(program, argv, &child);
	if (r < 0) {
		hk_report(verb, "--ask '%s': %s; so the answer is no", program, strerror(-r));
		return false;
	}
	pidfd = (int)syscall(SYS_pidfd_open, child, 0);
	if (pidfd < 0 || !wait_for(pidfd, over)) {
		kill_tree(child, 0);
	}
	return waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

static bool ask_terminal(
	const char *verb, const char *path, const char *class_name, pid_t pid, int over)
{
	autoclose int fd = hk_open(AT_FDCWD, "/dev/tty", O_RDWR | O_NOCTTY, 0);
	char shown[1024];
	char line[1200];
	char answer[64];
	ssize_t n;

	if (fd < 0 || tcgetpgrp(fd) != getpgrp()) {
		return false;
	}
	hk_str_escape(shown, sizeof(shown), path, strlen(path));
	hk_fmt(line, sizeof(line), "hako %s: process %d: %s %s? [y/N] ", verb, (int)pid, class_name,
		shown);
	tcflush(fd, TCIFLUSH); /* what was typed before is no answer */
	if (hk_write_full(fd, line, strlen(line)) < 0 || !wait_for(fd, over)) {
		return false;
	}
	n = read(fd, answer, sizeof(answer));
	return n > 0 && (answer[0] == 'y' || answer[0] == 'Y');
}

bool hk_ask(const char *verb, const char *program, const char *path, const char *class_name,
	pid_t pid, int over)
{
	return program != NULL ? ask_program(verb, program, path, class_name, pid, over)
			       : ask_terminal(verb, path, class_name, pid, over);
}
