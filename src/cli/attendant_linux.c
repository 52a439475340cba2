/* SPDX-License-Identifier: ISC */
/*
 * The attendant of a box: see attendant_linux.h.
 *
 * Theory: a fork of ours, with our standard streams and one end of a socket pair, and nothing else
 * of ours that is open. A question is one message, its answer one byte. A message of one byte ends
 * the question at hand, and all later ones. All signals stay blocked in it: what ends us shows as
 * the socket's end.
 */
#include "cli/attendant_linux.h"

#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/str.h"
#include "cli/ask.h"
#include "cli/layers.h"
#include "cli/report.h"

enum { SOCKET = 3, PATH_BYTES = 8192, CLASS_BYTES = 16 };

/* A longer path is not asked about, and so refused. */
struct question {
	int32_t pid;
	char class_name[CLASS_BYTES];
	char path[PATH_BYTES];
};

/* In the attendant: questions come from a process that may not be ours any more. */
static void answer(const char *program)
{
	struct question question;
	bool is_over = false;
	ssize_t n;

	while ((n = recv(SOCKET, &question, sizeof(question), 0)) > 0) {
		char yes;

		is_over |= n == 1;
		if (n != (ssize_t)sizeof(question)) {
			continue;
		}
		question.class_name[CLASS_BYTES - 1] = '\0';
		question.path[PATH_BYTES - 1] = '\0';
		yes = !is_over &&
			hk_ask("run", program, question.path, question.class_name, question.pid,
				SOCKET);
		if (send(SOCKET, &yes, 1, MSG_NOSIGNAL) != 1) {
			break;
		}
	}
}

_Noreturn static void attend(
	int socket, const char *program, const char *const *layers, unsigned layer_count)
{
	sigset_t all;

	sigfillset(&all);
	sigprocmask(SIG_SETMASK, &all, NULL);
	if (socket != SOCKET && dup3(socket, SOCKET, O_CLOEXEC) < 0) {
		_exit(1);
	}
	close_range(SOCKET + 1, ~0u, 0);
	answer(program);
	for (unsigned i = 0; i < layer_count; i++) {
		struct hk_err err = HK_ERR_INIT;

		if (hk_layers_remove(layers[i], &err) < 0) {
			hk_report_err("run", &err, 0);
		}
	}
	_exit(0);
}

int hk_attendant_start(struct hk_attendant *attendant, const char *program,
	const char *const *layers, unsigned layer_count, struct hk_err *err)
{
	int ends[2];

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) < 0) {
		return hk_fail(err, errno, "attendant: socket pair");
	}
	attendant->pid = fork();
	if (attendant->pid == 0) {
		close(ends[0]);
		attend(ends[1], program, layers, layer_count);
	}
	close(ends[1]);
	attendant->fd = ends[0];
	if (attendant->pid < 0) {
		int code = errno;

		hk_close(&attendant->fd);
		return hk_fail(err, code, "attendant: fork");
	}
	return 0;
}

bool hk_attendant_ask(
	struct hk_attendant *attendant, const char *path, const char *class_name, pid_t pid)
{
	struct question question = {.pid = pid};
	char yes = 0;
	ssize_t n;

	if (attendant->fd < 0 || strlen(path) >= sizeof(question.path)) {
		return false;
	}
	hk_fmt(question.path, sizeof(question.path), "%s", path);
	hk_fmt(question.class_name, sizeof(question.class_name), "%s", class_name);
	/* seccomp: sendto */
	if (send(attendant->fd, &question, sizeof(question), MSG_NOSIGNAL) !=
		(ssize_t)sizeof(question)) {
		return false;
	}
	do {
		/* seccomp: read */
		n = read(attendant->fd, &yes, 1);
	} while (n < 0 && errno == EINTR);
	return n == 1 && yes == 1;
}

void hk_attendant_stop(struct hk_attendant *attendant)
{
	if (attendant->fd >= 0) {
		/* seccomp: sendto */
		(void)send(attendant->fd, "", 1, MSG_NOSIGNAL | MSG_DONTWAIT);
	}
}

void hk_attendant_finish(struct hk_attendant *attendant)
{
	if (attendant->fd < 0) {
		return;
	}
	hk_close(&attendant->fd);
	/* seccomp: wait4 */
	while (waitpid(attendant->pid, NULL, 0) < 0 && errno == EINTR) {
	}
}
