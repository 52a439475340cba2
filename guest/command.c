/* SPDX-License-Identifier: ISC */
/*
 * Commands.
 *
 * Theory: the parent connects the streams and makes pipes or a pty, then forks. The child becomes
 * the user and calls execve(); if it cannot, it says why through a pipe that a successful execve()
 * closes. The connections to the host complete while the child is at work: nothing waits for them
 * but the pumps.
 *
 * A command with pipes leads a process group of the agent's session, so that it cannot take a
 * terminal by opening one. One with a pty leads a session of its own.
 *
 * Limits: init's children have no shell above them, so the kernel drops the SIGTSTP of a Ctrl-Z for
 * them; SIGSTOP works. OOM kills are counted for the whole guest, while the command runs.
 */
#include "command.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

#include "platform.h"

enum {
	SOFT_FILES = 1024, /* programs that use select() cannot take more */
	HARD_FILES = 524288,
};

/* As execvp() of the C libraries has it. */
static const char default_path[] = "/usr/local/bin:/bin:/usr/bin";

struct status {
	uint32_t stage;
	int32_t error;
};

/* What the child needs; all made before the fork. */
struct plan {
	const struct hk_msg_exec *exec;
	char **argv; /* owned; strings borrowed */
	char **env;
	int stdio[3]; /* owned; the child's ends */
	int status_fd;
};

static char **array_of(struct hk_control_list list)
{
	char **array = calloc((size_t)list.count + 1, sizeof(*array));
	const char *s;

	for (size_t i = 0; array && hk_control_next_string(&list, &s); i++) {
		array[i] = (char *)(uintptr_t)s;
	}
	return array;
}

static void close_fd(int *fd)
{
	if (*fd >= 0) {
		close(*fd);
		*fd = -1;
	}
}

/* ---- In the child -------------------------------------------------------------------------- */

__attribute__((noreturn)) static void give_up(
	const struct plan *plan, enum hk_exec_stage stage, int error)
{
	const struct status status = {.stage = stage, .error = error};

	/* Smaller than PIPE_BUF: written whole. If the agent is gone, so is everything. */
	if (write(plan->status_fd, &status, sizeof(status)) < 0) {
		_exit(126);
	}
	_exit(127);
}

enum { KERNEL_SIGSET_BYTES = 8 };

static void reset_signals(void)
{
	/*
	 * The kernel's struct sigaction, all default: libc keeps some signals to itself, which may
	 * be ignored, too.
	 */
	static const unsigned long action[4];
	sigset_t none;

	for (int signo = 1; signo < NSIG; signo++) {
		syscall(SYS_rt_sigaction, signo, action, NULL, KERNEL_SIGSET_BYTES);
	}
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
}

/* The agent is spared by the OOM killer; what it runs is not. */
static void allow_oom_kill(void)
{
	int fd = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);

	if (fd >= 0) {
		/* A box without a /proc of its own keeps the agent's score. */
		if (write(fd, "0", 1) < 0) {
			errno = 0;
		}
		close(fd);
	}
}

static const char *path_of(char **env)
{
	for (; *env; env++) {
		if (strncmp(*env, "PATH=", 5) == 0) {
			return *env + 5;
		}
	}
	return default_path;
}

/* As execvp() with the command's PATH, but never by way of a shell. Return: -errno */
static int exec_path(const struct plan *plan)
{
	const char *file = plan->argv[0];
	const char *path = path_of(plan->env);
	char name[HK_CONTROL_MAX_PATH + 1];
	int error = ENOENT;

	if (strchr(file, '/') || !file[0]) {
		execve(file, plan->argv, plan->env);
		return -errno;
	}
	for (;;) {
		size_t len = strcspn(path, ":");
		int n = snprintf(
			name, sizeof(name), "%.*s%s%s", (int)len, path, len ? "/" : "", file);

		if (n > 0 && (size_t)n < sizeof(name)) {
			execve(name, plan->argv, plan->env);
			if (errno == EACCES) {
				error = EACCES;
			} else if (errno != ENOENT && errno != ENOTDIR) {
				return -errno;
			}
		}
		if (!path[len]) {
			return -error;
		}
		path += len + 1;
	}
}

static void limit_files(void)
{
	struct rlimit files = {.rlim_cur = SOFT_FILES, .rlim_max = HARD_FILES};

	if (setrlimit(RLIMIT_NOFILE, &files) < 0 && getrlimit(RLIMIT_NOFILE, &files) == 0) {
		/* The hard limit may not be raised. */
		files.rlim_cur = SOFT_FILES < files.rlim_max ? SOFT_FILES : files.rlim_max;
		setrlimit(RLIMIT_NOFILE, &files);
	}
}

__attribute__((noreturn)) static void run_child(const struct plan *plan)
{
	const struct hk_msg_exec *exec = plan->exec;
	int r;

	reset_signals();
	allow_oom_kill();
	limit_files();
	umask(022);
	if (exec->flags & HK_EXEC_PTY) {
		setsid();
		if (ioctl(plan->stdio[0], TIOCSCTTY, 0) < 0) {
			give_up(plan, HK_EXEC_STAGE_SPAWN, errno);
		}
	} else {
		setpgid(0, 0);
	}
	for (int fd = 0; fd < 3; fd++) {
		if (dup2(plan->stdio[fd], fd) < 0) {
			give_up(plan, HK_EXEC_STAGE_SPAWN, errno);
		}
	}
	r = hk_platform_become_user(exec->uid, exec->gid);
	if (r < 0) {
		give_up(plan, HK_EXEC_STAGE_USER, -r);
	}
	/* A box has one user: su and sudo have nothing to give, and could only be fooled. */
	if (exec->uid != 0 && prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0) {
		give_up(plan, HK_EXEC_STAGE_USER, errno);
	}
	/* As the user: who may not go there, does not start there. */
	if (chdir(exec->cwd) < 0) {
		give_up(plan, HK_EXEC_STAGE_CWD, errno);
	}
	r = exec_path(plan);
	give_up(plan, HK_EXEC_STAGE_EXEC, -r);
}

/* ---- In the agent -------------------------------------------------------------------------- */

static int set_nonblocking(int fd)
{
	int flags = fcntl(fd, F_GETFL);

	return flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0 ? -errno : 0;
}

/* A pipe whose end for the agent does not block. Return: 0 or -errno */
static int make_pipe(int *ret_child, int *ret_agent, bool child_reads)
{
	int fds[2];
	int r;

	if (pipe2(fds, O_CLOEXEC) < 0) {
		return -errno;
	}
	*ret_child = fds[child_reads ? 0 : 1];
	*ret_agent = fds[child_reads ? 1 : 0];
	r = set_nonblocking(*ret_agent);
	if (r < 0) {
		close_fd(ret_child);
		close_fd(ret_agent);
	}
	return r;
}

static int open_null(int *ret_fd)
{
	*ret_fd = open("/dev/null", O_RDWR | O_CLOEXEC);
	return *ret_fd < 0 ? -errno : 0;
}

/* Standard stream @fd of the child, with a pump between it and a stream to the host. */
static int make_stream(struct hk_command *command, struct plan *plan, int fd)
{
	const struct hk_stream_preamble preamble = {
		.command_id = command->id, .kind = (enum hk_stream_kind)fd};
	int stream;
	int local;
	int r = make_pipe(&plan->stdio[fd], &local, fd == 0);

	if (r < 0) {
		return r;
	}
	stream = hk_platform_dial(HK_STREAM_PORT);
	if (stream < 0) {
		close(local);
		return stream;
	}
	return fd == 0 ? hk_pump_from_host(&command->pumps[fd], local, stream, false, &preamble)
		       : hk_pump_from_guest(&command->pumps[fd], local, stream, false, &preamble);
}

static int make_pipes(struct hk_command *command, struct plan *plan)
{
	static const uint32_t flag_of[3] = {HK_EXEC_STDIN, HK_EXEC_STDOUT, HK_EXEC_STDERR};
	uint32_t flags = plan->exec->flags;
	int r = 0;

	for (int fd = 0; fd < 3 && r >= 0; fd++) {
		if (flags & flag_of[fd]) {
			r = make_stream(command, plan, fd);
		} else if (fd == 2 && (flags & HK_EXEC_MERGE)) {
			plan->stdio[fd] = fcntl(plan->stdio[1], F_DUPFD_CLOEXEC, 3);
			r = plan->stdio[fd] < 0 ? -errno : 0;
		} else {
			r = open_null(&plan->stdio[fd]);
		}
	}
	return r;
}

static int make_pty(struct hk_command *command, struct plan *plan)
{
	const struct hk_stream_preamble preamble = {
		.command_id = command->id, .kind = HK_STREAM_TTY};
	const struct hk_msg_exec *exec = plan->exec;
	int unlock = 0;
	int fds[4]; /* master and stream, for each of two pumps */
	int r;

	command->master_fd = open("/dev/ptmx", O_RDWR | O_NOCTTY | O_CLOEXEC | O_NONBLOCK);
	if (command->master_fd < 0 || ioctl(command->master_fd, TIOCSPTLCK, &unlock) < 0) {
		return -errno;
	}
	plan->stdio[0] = ioctl(command->master_fd, TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC);
	if (plan->stdio[0] < 0) {
		return -errno;
	}
	/* The user's own terminal, so that programs may open it again by name. */
	if (fchown(plan->stdio[0], exec->uid, (gid_t)-1) < 0) {
		return -errno;
	}
	hk_command_resize(command, exec->rows, exec->cols);
	for (int fd = 1; fd < 3; fd++) {
		plan->stdio[fd] = fcntl(plan->stdio[0], F_DUPFD_CLOEXEC, 3);
		if (plan->stdio[fd] < 0) {
			return -errno;
		}
	}
	fds[1] = hk_platform_dial(HK_STREAM_PORT);
	if (fds[1] < 0) {
		return fds[1];
	}
	fds[0] = fcntl(command->master_fd, F_DUPFD_CLOEXEC, 3);
	fds[2] = fcntl(command->master_fd, F_DUPFD_CLOEXEC, 3);
	fds[3] = fcntl(fds[1], F_DUPFD_CLOEXEC, 3);
	if (fds[0] < 0 || fds[2] < 0 || fds[3] < 0) {
		r = -errno;
		for (int i = 0; i < 4; i++) {
			close_fd(&fds[i]);
		}
		return r;
	}
	r = hk_pump_from_guest(&command->pumps[1], fds[0], fds[1], true, &preamble);
	if (r < 0) {
		close(fds[2]);
		close(fds[3]);
		return r;
	}
	return hk_pump_from_host(&command->pumps[0], fds[2], fds[3], true, NULL);
}

/* How many processes the OOM killer has ended since the guest started. */
static uint64_t count_oom_kills(void)
{
	static const char key[] = "\noom_kill ";
	char text[16384];
	int fd = open("/proc/vmstat", O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);
	const char *at;

	if (fd >= 0) {
		close(fd);
	}
	if (n <= 0) {
		return 0;
	}
	text[n] = '\0';
	at = strstr(text, key);
	return at ? strtoull(at + sizeof(key) - 1, NULL, 10) : 0;
}

static int start(struct hk_command *command, struct plan *plan)
{
	int r = plan->argv && plan->env ? 0 : -ENOMEM;

	if (r == 0) {
		r = plan->exec->flags & HK_EXEC_PTY ? make_pty(command, plan)
						    : make_pipes(command, plan);
	}
	if (r == 0) {
		r = make_pipe(&plan->status_fd, &command->status_fd, false);
	}
	if (r < 0) {
		return r;
	}
	command->oom_kills = count_oom_kills();
	command->pid = fork();
	if (command->pid < 0) {
		return -errno;
	}
	if (command->pid == 0) {
		run_child(plan);
	}
	if (!(plan->exec->flags & HK_EXEC_PTY)) {
		/* Both do it: whoever comes first, a signal right after this finds the group. */
		setpgid(command->pid, command->pid);
	}
	return 0;
}

int hk_command_start(
	struct hk_command *command, const struct hk_msg_exec *exec, enum hk_exec_stage *ret_stage)
{
	struct plan plan = {
		.exec = exec,
		.argv = array_of(exec->argv),
		.env = array_of(exec->env),
		.stdio = {-1, -1, -1},
		.status_fd = -1,
	};
	int r;

	*command = (struct hk_command){
		.id = exec->id,
		.pty = exec->flags & HK_EXEC_PTY,
		.status_fd = -1,
		.master_fd = -1,
	};
	r = start(command, &plan);
	free(plan.argv);
	free(plan.env);
	for (int fd = 0; fd < 3; fd++) {
		close_fd(&plan.stdio[fd]);
	}
	close_fd(&plan.status_fd);
	if (r < 0) {
		*ret_stage = HK_EXEC_STAGE_SPAWN;
		hk_command_finish(command);
	}
	return r;
}

int hk_command_poll_exec(struct hk_command *command, enum hk_exec_stage *ret_stage)
{
	struct status status;
	ssize_t n = read(command->status_fd, &status, sizeof(status));

	if (n < 0 && (errno == EAGAIN || errno == EINTR)) {
		return -EAGAIN;
	}
	close_fd(&command->status_fd);
	if (n == (ssize_t)sizeof(status)) {
		*ret_stage = (enum hk_exec_stage)status.stage;
		return -status.error;
	}
	command->state = HK_COMMAND_RUNNING;
	return 0;
}

void hk_command_signal(const struct hk_command *command, int signo)
{
	if (command->state == HK_COMMAND_ENDED) {
		return;
	}
	/* A child that will have a pty leads no group before its setsid(). */
	if (kill(-command->pid, signo) < 0) {
		kill(command->pid, signo);
	}
}

void hk_command_resize(const struct hk_command *command, uint16_t rows, uint16_t cols)
{
	const struct winsize size = {.ws_row = rows, .ws_col = cols};

	if (command->master_fd >= 0) {
		/* The kernel sends SIGWINCH. A terminal that is gone has no size. */
		ioctl(command->master_fd, TIOCSWINSZ, &size);
	}
}

/* Nobody watches the terminal any more: hang up, as when a window is closed. */
static void hang_up_unwatched(struct hk_command *command)
{
	if (command->master_fd >= 0 && !command->pumps[1].running) {
		hk_pump_stop(&command->pumps[0]);
		close_fd(&command->master_fd);
	}
}

struct hk_msg_exited hk_command_end(struct hk_command *command, int status)
{
	uint64_t oom_kills = count_oom_kills() - command->oom_kills;
	struct hk_msg_exited exited = {
		.id = command->id,
		.signaled = WIFSIGNALED(status),
		.core = WIFSIGNALED(status) && WCOREDUMP(status),
		.code = (uint32_t)(WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status)),
		.oom_kills = oom_kills < UINT32_MAX ? (uint32_t)oom_kills : UINT32_MAX,
		.stdout_bytes = HK_CONTROL_UNTIL_END,
		.stderr_bytes = HK_CONTROL_UNTIL_END,
	};

	command->state = HK_COMMAND_ENDED;
	if (command->pty) {
		/* A read from a pty waits for the line discipline: what is not there never was. */
		hk_pump_end_if_empty(&command->pumps[1]);
		hang_up_unwatched(command);
	} else {
		exited.stdout_bytes = hk_pump_written(&command->pumps[1]);
		exited.stderr_bytes = hk_pump_written(&command->pumps[2]);
	}
	return exited;
}

void hk_command_run_pumps(struct hk_command *command, const struct pollfd *fds)
{
	for (int i = 0; i < HK_COMMAND_PUMPS; i++) {
		hk_pump_run(&command->pumps[i], fds + 2 * i);
	}
	hang_up_unwatched(command);
}

bool hk_command_streaming(const struct hk_command *command)
{
	for (int i = 0; i < HK_COMMAND_PUMPS; i++) {
		if (command->pumps[i].running) {
			return true;
		}
	}
	return false;
}

void hk_command_finish(struct hk_command *command)
{
	for (int i = 0; i < HK_COMMAND_PUMPS; i++) {
		hk_pump_stop(&command->pumps[i]);
	}
	close_fd(&command->status_fd);
	close_fd(&command->master_fd);
}
