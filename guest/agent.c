/* SPDX-License-Identifier: ISC */
/*
 * The agent.
 *
 * Theory: one poll() loop over the control channel, SIGCHLD, and the status pipe and pumps of each
 * command. A message is answered where it is handled: answers gather in a buffer that the loop
 * sends off. A command's slot is free again when it has ended and its streams have.
 *
 * Order: EXITED is sent when the process is reaped, and says how many bytes it had written; the
 * pumps bring them on their own time.
 *
 * Limits: MAX_COMMANDS at a time. SETUP blocks the loop.
 */
#include "agent.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "command.h"
#include "say.h"
#include "setup.h"

enum {
	MAX_COMMANDS = 64,
	FDS_PER_COMMAND = 1 + 2 * HK_COMMAND_PUMPS,
	FIXED_FDS = 2,
	READ_BYTES = 16 << 10,
};

enum stage { STAGE_HELLO, STAGE_BOX, STAGE_FAILED };

struct hk_agent {
	int control_fd; /* owned */
	int signal_fd;  /* owned; readable when a child has ended */
	enum stage stage;
	bool over;
	enum hk_agent_end end;
	uint64_t hello_ns; /* when HELLO was sent, on the clock of now_ns() */
	struct hk_control_decoder in;
	struct hk_control_buf out;
	struct hk_command *commands[MAX_COMMANDS]; /* owned; NULL: free */
};

static uint64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_BOOTTIME, &now);
	return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

struct hk_agent *hk_agent_create(int control_fd)
{
	struct hk_agent *agent = calloc(1, sizeof(*agent));
	sigset_t child;

	sigemptyset(&child);
	sigaddset(&child, SIGCHLD);
	sigprocmask(SIG_BLOCK, &child, NULL);
	signal(SIGPIPE, SIG_IGN);
	if (!agent) {
		close(control_fd);
		return NULL;
	}
	agent->control_fd = control_fd;
	agent->signal_fd = signalfd(-1, &child, SFD_NONBLOCK | SFD_CLOEXEC);
	hk_control_decoder_init(&agent->in, HK_CONTROL_FROM_HOST);
	if (agent->signal_fd < 0) {
		hk_agent_destroy(agent);
		return NULL;
	}
	return agent;
}

static void free_command(struct hk_command **slot)
{
	hk_command_finish(*slot);
	free(*slot);
	*slot = NULL;
}

void hk_agent_destroy(struct hk_agent *agent)
{
	if (!agent) {
		return;
	}
	for (int i = 0; i < MAX_COMMANDS; i++) {
		if (agent->commands[i]) {
			free_command(&agent->commands[i]);
		}
	}
	hk_control_decoder_finish(&agent->in);
	hk_control_buf_finish(&agent->out);
	close(agent->control_fd);
	if (agent->signal_fd >= 0) {
		close(agent->signal_fd);
	}
	free(agent);
}

static void stop(struct hk_agent *agent, enum hk_agent_end end)
{
	agent->over = true;
	agent->end = end;
}

static void channel_gone(struct hk_agent *agent)
{
	stop(agent, agent->stage == STAGE_HELLO ? HK_AGENT_CLOSED : HK_AGENT_LOST);
}

static void answer(struct hk_agent *agent, const struct hk_control_msg *msg)
{
	int r = hk_control_put(&agent->out, msg);

	if (r < 0) {
		hk_say("message %d to the host: %s", (int)msg->type, strerror(-r));
		stop(agent, HK_AGENT_BROKEN);
	}
}

/* Return: 0 when all is sent or the rest has to wait, -errno */
static int send_out(struct hk_agent *agent)
{
	while (agent->out.len) {
		ssize_t n = write(agent->control_fd, agent->out.data, agent->out.len);

		if (n < 0) {
			return errno == EAGAIN || errno == EINTR ? 0 : -errno;
		}
		hk_control_buf_consume(&agent->out, (size_t)n);
	}
	return 0;
}

int hk_agent_hello(struct hk_agent *agent, const struct hk_msg_hello *hello)
{
	struct pollfd fd = {.fd = agent->control_fd, .events = POLLOUT};

	answer(agent, &(struct hk_control_msg){.type = HK_MSG_HELLO, .hello = *hello});
	while (agent->out.len) {
		int r = poll(&fd, 1, -1) < 0 ? -errno : 0;

		agent->hello_ns = now_ns();
		if (r == 0) {
			r = send_out(agent);
		}
		if (r < 0 && r != -EINTR) {
			return r;
		}
	}
	return 0;
}

/* ---- Requests ------------------------------------------------------------------------------ */

static struct hk_command **find_command(struct hk_agent *agent, uint32_t id)
{
	for (int i = 0; i < MAX_COMMANDS; i++) {
		if (agent->commands[i] && agent->commands[i]->id == id) {
			return &agent->commands[i];
		}
	}
	return NULL;
}

static void answer_failed(struct hk_agent *agent, uint32_t id, int error, const char *text)
{
	answer(agent,
		&(struct hk_control_msg){
			.type = HK_MSG_FAILED,
			.failed = {.id = id, .error = (uint32_t)error, .text = text},
		});
}

/*
 * The host told the time as soon as it had HELLO; since then the rest of the modules was loaded.
 * And the kernel's own clock is slow by what no tick counted while it booted. A box whose time is
 * behind its host's would take files that the host makes for ones of the future.
 */
static uint64_t wall_time_now(const struct hk_agent *agent, const struct hk_msg_setup *setup)
{
	return setup->wall_time_ns + (now_ns() - agent->hello_ns);
}

static void handle_setup(struct hk_agent *agent, const struct hk_msg_setup *setup)
{
	struct hk_setup_failure failure = {0};
	struct hk_msg_setup timely = *setup;

	if (agent->stage != STAGE_HELLO) {
		answer_failed(agent, setup->id, EALREADY, "SETUP: a box is set up once");
		return;
	}
	timely.wall_time_ns = wall_time_now(agent, setup);
	if (hk_setup_run(&timely, &failure) < 0) {
		agent->stage = STAGE_FAILED;
		answer_failed(agent, setup->id, failure.error, failure.text);
		return;
	}
	agent->stage = STAGE_BOX;
	answer(agent, &(struct hk_control_msg){.type = HK_MSG_DONE, .done = {.id = setup->id}});
}

static void answer_exec_failed(
	struct hk_agent *agent, uint32_t id, int error, enum hk_exec_stage stage)
{
	answer(agent,
		&(struct hk_control_msg){
			.type = HK_MSG_EXEC_FAILED,
			.exec_failed = {.id = id, .error = (uint32_t)error, .stage = stage},
		});
}

static struct hk_command **free_slot(struct hk_agent *agent)
{
	for (int i = 0; i < MAX_COMMANDS; i++) {
		if (!agent->commands[i]) {
			return &agent->commands[i];
		}
	}
	return NULL;
}

static void handle_exec(struct hk_agent *agent, const struct hk_msg_exec *exec)
{
	struct hk_command **slot = free_slot(agent);
	enum hk_exec_stage stage = HK_EXEC_STAGE_SPAWN;
	int r = 0;

	if (agent->stage != STAGE_BOX) {
		r = -EPERM;
	} else if (find_command(agent, exec->id)) {
		r = -EEXIST;
	} else if (!slot) {
		r = -EAGAIN;
	}
	if (r == 0) {
		*slot = calloc(1, sizeof(**slot));
		r = *slot ? hk_command_start(*slot, exec, &stage) : -ENOMEM;
		if (r < 0) {
			free(*slot);
			*slot = NULL;
		}
	}
	if (r < 0) {
		answer_exec_failed(agent, exec->id, -r, stage);
	}
}

static void handle(struct hk_agent *agent, const struct hk_control_msg *msg)
{
	struct hk_command **slot;

	switch (msg->type) {
	case HK_MSG_SETUP:
		handle_setup(agent, &msg->setup);
		break;
	case HK_MSG_EXEC:
		handle_exec(agent, &msg->exec);
		break;
	case HK_MSG_SIGNAL:
		slot = find_command(agent, msg->signal.id);
		if (slot) {
			hk_command_signal(*slot, (int)msg->signal.signo);
		}
		break;
	case HK_MSG_WINSIZE:
		slot = find_command(agent, msg->winsize.id);
		if (slot) {
			hk_command_resize(*slot, msg->winsize.rows, msg->winsize.cols);
		}
		break;
	case HK_MSG_PING:
		answer(agent, &(struct hk_control_msg){.type = HK_MSG_PONG, .pong = msg->ping});
		break;
	case HK_MSG_SHUTDOWN:
		stop(agent, HK_AGENT_SHUTDOWN);
		break;
	default:
		/* The decoder lets nothing else through. */
		break;
	}
}

static void receive(struct hk_agent *agent)
{
	uint8_t buf[READ_BYTES];
	const uint8_t *bytes = buf;
	struct hk_control_msg msg;
	ssize_t n = read(agent->control_fd, buf, sizeof(buf));
	size_t len;
	int r = 0;

	if (n < 0 && (errno == EAGAIN || errno == EINTR)) {
		return;
	}
	if (n <= 0) {
		channel_gone(agent);
		return;
	}
	len = (size_t)n;
	while (!agent->over && (r = hk_control_feed(&agent->in, &bytes, &len, &msg)) == 1) {
		handle(agent, &msg);
	}
	if (r < 0) {
		hk_say("message from the host: %s", strerror(-r));
		stop(agent, HK_AGENT_BROKEN);
	}
}

/* ---- Commands ------------------------------------------------------------------------------ */

/* How did execve() go? Frees the command if it failed. */
static void check_exec(struct hk_agent *agent, struct hk_command **slot)
{
	enum hk_exec_stage stage;
	int r = hk_command_poll_exec(*slot, &stage);

	if (r == -EAGAIN) {
		return;
	}
	if (r < 0) {
		answer_exec_failed(agent, (*slot)->id, -r, stage);
		free_command(slot);
		return;
	}
	answer(agent,
		&(struct hk_control_msg){
			.type = HK_MSG_STARTED,
			.started = {.id = (*slot)->id, .pid = (uint32_t)(*slot)->pid},
		});
}

static void command_ended(struct hk_agent *agent, pid_t pid, int status)
{
	for (int i = 0; i < MAX_COMMANDS; i++) {
		struct hk_command **slot = &agent->commands[i];

		if (!*slot || (*slot)->pid != pid || (*slot)->state == HK_COMMAND_ENDED) {
			continue;
		}
		if ((*slot)->state == HK_COMMAND_STARTING) {
			check_exec(agent, slot);
		}
		if (*slot) {
			answer(agent,
				&(struct hk_control_msg){
					.type = HK_MSG_EXITED,
					.exited = hk_command_end(*slot, status),
				});
		}
		return;
	}
}

/* All children: as init the agent also gets those whose parents are gone. */
static void reap(struct hk_agent *agent)
{
	struct signalfd_siginfo info;
	int status;
	pid_t pid;

	/* Signals merge: what counts is that there was one. */
	while (read(agent->signal_fd, &info, sizeof(info)) > 0) {
	}
	while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
		command_ended(agent, pid, status);
	}
}

/* ---- The loop ------------------------------------------------------------------------------ */

static void prepare(const struct hk_command *command, struct pollfd *fds)
{
	fds[0] = (struct pollfd){.fd = command->status_fd, .events = POLLIN};
	for (int i = 0; i < HK_COMMAND_PUMPS; i++) {
		hk_pump_prepare(&command->pumps[i], fds + 1 + 2 * i);
	}
}

static void run_command(struct hk_agent *agent, struct hk_command **slot, const struct pollfd *fds)
{
	hk_command_run_pumps(*slot, fds + 1);
	if (fds[0].revents && (*slot)->status_fd >= 0) {
		check_exec(agent, slot);
	}
	if (*slot && (*slot)->state == HK_COMMAND_ENDED && !hk_command_streaming(*slot)) {
		free_command(slot);
	}
}

static void turn(struct hk_agent *agent)
{
	struct pollfd fds[FIXED_FDS + MAX_COMMANDS * FDS_PER_COMMAND];
	struct hk_command **polled[MAX_COMMANDS];
	nfds_t fd_count = FIXED_FDS;
	int polled_count = 0;
	int r;

	fds[0] = (struct pollfd){.fd = agent->control_fd, .events = POLLIN};
	if (agent->out.len) {
		fds[0].events |= POLLOUT;
	}
	fds[1] = (struct pollfd){.fd = agent->signal_fd, .events = POLLIN};
	for (int i = 0; i < MAX_COMMANDS; i++) {
		if (agent->commands[i]) {
			prepare(agent->commands[i], fds + fd_count);
			fd_count += FDS_PER_COMMAND;
			polled[polled_count++] = &agent->commands[i];
		}
	}
	if (poll(fds, fd_count, -1) < 0) {
		return; /* EINTR; try again */
	}
	for (int i = 0; i < polled_count; i++) {
		run_command(agent, polled[i], fds + FIXED_FDS + i * FDS_PER_COMMAND);
	}
	if (fds[1].revents) {
		reap(agent);
	}
	if (fds[0].revents & ~POLLOUT) {
		receive(agent);
	}
	r = agent->over ? 0 : send_out(agent);
	if (r < 0) {
		channel_gone(agent);
	}
}

enum hk_agent_end hk_agent_run(struct hk_agent *agent)
{
	while (!agent->over) {
		turn(agent);
	}
	return agent->end;
}
