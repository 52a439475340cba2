/* SPDX-License-Identifier: ISC */
/*
 * Process 1 of the sandbox.
 *
 * Theory: it is made by the process that sets up, as a child of the caller (CLONE_PARENT), with new
 * process ids. It takes its place (mounts, capabilities, system calls), starts the command, reaps
 * whatever ends, and tells the caller what becomes of the command. When it ends, the kernel ends
 * all others: so it ends with the command, and with the caller, whose death the kernel tells by
 * SIGKILL.
 *
 * The command stays in the caller's session and process group: what the terminal sends to the group
 * reaches both, and the shell outside sees one job. Process 1 is in it, too, and blocks all
 * signals.
 *
 * It cannot be traced nor looked into by what runs beside it (PR_SET_DUMPABLE). If it could, no
 * more than this run would be lost: it has the command's rights.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/sys.h"
#include "trace/sandbox_impl_linux.h"

struct init {
	const struct hk_sandbox_setup *setup;
	sigset_t signals;           /* of the command */
	struct sigaction child_end; /* likewise: what SIGCHLD does */
	int child_fd;               /* a signalfd */
	pid_t command;
};

__attribute__((noreturn)) static void fail(
	const struct init *init, bool at_command, const struct hk_err *err)
{
	hk_sandbox_send(init->setup->socket, HK_WORD_FAILED, at_command, err, -1);
	_exit(1);
}

/* Never returns: the command, or its error in the pipe. */
__attribute__((noreturn)) static void become_command(const struct init *init, int pipe_fd)
{
	const struct hk_sandbox_options *options = init->setup->options;
	int code;

	const char *slash = strrchr(options->argv[0], '/');

	/* For the audit: who looks for the command is the command. */
	prctl(PR_SET_NAME, slash == NULL ? options->argv[0] : slash + 1);
	environ = (char **)options->env;
	sigaction(SIGCHLD, &init->child_end, NULL);
	sigprocmask(SIG_SETMASK, &init->signals, NULL);
	execvp(options->argv[0], (char *const *)options->argv);
	code = errno;
	(void)hk_write_full(pipe_fd, &code, sizeof(code));
	_exit(127);
}

/* Return: 0 when the command is executed, or -errno; *@ret_at_command: of that. */
static int start_command(struct init *init, bool *ret_at_command, struct hk_err *err)
{
	autoclose int read_end = -1;
	autoclose int write_end = -1;
	int ends[2];
	int code;

	*ret_at_command = false;
	if (pipe2(ends, O_CLOEXEC) < 0) {
		return hk_fail(err, errno, "pipe");
	}
	read_end = ends[0];
	write_end = ends[1];
	init->command = fork();
	if (init->command < 0) {
		return hk_fail(err, errno, "fork");
	}
	if (init->command == 0) {
		become_command(init, write_end);
	}
	hk_close(&write_end);
	if (hk_read_full(read_end, &code, sizeof(code)) != sizeof(code)) {
		return 0;
	}
	*ret_at_command = true;
	return hk_fail(err, code, "'%s'", init->setup->options->argv[0]);
}

static void reap(const struct init *init)
{
	struct signalfd_siginfo drained;
	int status;
	pid_t pid;

	while (read(init->child_fd, &drained, sizeof(drained)) == sizeof(drained)) {
	}
	while ((pid = waitpid(-1, &status, WNOHANG | WUNTRACED)) > 0) {
		if (pid != init->command) {
			continue;
		}
		if (WIFSTOPPED(status)) {
			hk_sandbox_send(
				init->setup->socket, HK_WORD_STOPPED, WSTOPSIG(status), NULL, -1);
			continue;
		}
		hk_sandbox_send(init->setup->socket, HK_WORD_ENDED, status, NULL, -1);
		_exit(0);
	}
}

/*
 * Was this signal sent to the whole process group, and is the command in it still? Then it is
 * waiting here, too, as we block all, and the command has it. (Who sent it does not tell: the
 * process id that comes with it is one of the sender's namespace.) It may be on its way from the
 * caller to us.
 */
static bool group_has(const struct init *init, int signo)
{
	const struct timespec moment = {.tv_nsec = 2000000};
	sigset_t set;

	if (getpgid(init->command) != getpgrp()) {
		return false;
	}
	sigemptyset(&set);
	sigaddset(&set, signo);
	return sigtimedwait(&set, NULL, &moment) == signo;
}

static void obey(const struct init *init)
{
	struct hk_sandbox_message message = {0};
	int r = hk_sandbox_receive(init->setup->socket, false, &message, NULL);

	if (r == 0 && message.word == HK_WORD_SIGNAL && !group_has(init, message.value)) {
		kill(init->command, message.value);
	} else if (r < 0 && r != -EAGAIN) {
		_exit(1); /* the caller is gone */
	}
}

static int take_place(struct init *init, struct hk_err *err)
{
	/* An ignored SIGCHLD would have the kernel reap the command, and not us. */
	const struct sigaction seen = {.sa_handler = SIG_DFL};
	const struct hk_sandbox_setup *setup = init->setup;
	sigset_t children;
	sigset_t all;
	int r;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	sigfillset(&all);
	sigprocmask(SIG_SETMASK, &all, &init->signals);
	sigaction(SIGCHLD, &seen, &init->child_end);
	if (setup->options->signals != NULL) {
		init->signals = *setup->options->signals;
	}
	sigemptyset(&children);
	sigaddset(&children, SIGCHLD);
	init->child_fd = signalfd(-1, &children, SFD_CLOEXEC | SFD_NONBLOCK);
	if (init->child_fd < 0) {
		return hk_fail(err, errno, "signalfd");
	}
	if (!setup->options->keep_terminal) {
		setsid();
	}
	r = hk_mounts_enter(setup, err);
	if (r == 0) {
		r = hk_rights_drop(setup, err);
	}
	if (r == 0) {
		r = hk_rights_scope(err);
	}
	if (r == 0) {
		r = hk_seccomp_sandbox(setup->options->net, err);
	}
	prctl(PR_SET_DUMPABLE, 0);
	return r;
}

static void tell_it_runs(const struct init *init)
{
	autoclose int pidfd = (int)syscall(SYS_pidfd_open, init->command, 0);

	hk_sandbox_send(init->setup->socket, HK_WORD_RUNS, 0, NULL, pidfd);
}

void hk_init_run(const struct hk_sandbox_setup *setup)
{
	struct init init = {.setup = setup};
	struct hk_err err = HK_ERR_INIT;
	bool at_command = false;

	if (take_place(&init, &err) < 0 || start_command(&init, &at_command, &err) < 0) {
		fail(&init, at_command, &err);
	}
	tell_it_runs(&init);
	for (;;) {
		struct pollfd fds[] = {
			{.fd = init.child_fd, .events = POLLIN},
			{.fd = setup->socket, .events = POLLIN},
		};

		if (poll(fds, 2, -1) < 0 && errno != EINTR) {
			_exit(1);
		}
		reap(&init);
		obey(&init);
	}
}
