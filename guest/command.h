/* SPDX-License-Identifier: ISC */
/* One command: its process and its streams. */
#ifndef HK_GUEST_COMMAND_H
#define HK_GUEST_COMMAND_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "control/control.h"
#include "streams.h"

/** enum hk_command_state - where a command is in its life */
enum hk_command_state {
	HK_COMMAND_STARTING, /* forked; it is not known yet whether execve() worked */
	HK_COMMAND_RUNNING,
	HK_COMMAND_ENDED, /* reaped and reported; streams may still have data or writers */
	HK_COMMAND_STATE_COUNT,
};

/* Of stdin, stdout, stderr; of a tty: the way in, the way out, unused. */
enum { HK_COMMAND_PUMPS = 3 };

struct hk_command {
	uint32_t id;
	enum hk_command_state state;
	bool pty;
	pid_t pid;          /* leads its process group */
	int status_fd;      /* owned; closed by a successful execve() in the child */
	int master_fd;      /* owned; the pty until it is hung up, or -1 */
	uint64_t oom_kills; /* what the kernel had counted at the start */
	struct hk_pump pumps[HK_COMMAND_PUMPS];
};

/**
 * hk_command_start() - make streams and fork
 * @command: zeroed; on failure nothing is left of it
 *
 * Return: 0; or -errno with @ret_stage. Later failures come through status_fd.
 */
int hk_command_start(
	struct hk_command *command, const struct hk_msg_exec *exec, enum hk_exec_stage *ret_stage);

/**
 * hk_command_poll_exec() - learn from status_fd how execve() went; does not block
 *
 * Return: 0 it worked (the state is HK_COMMAND_RUNNING), -EAGAIN not known yet, another -errno
 * with @ret_stage: the child is ending without having been the command.
 */
int hk_command_poll_exec(struct hk_command *command, enum hk_exec_stage *ret_stage);

/** hk_command_signal() - send @signo to the command's process group */
void hk_command_signal(const struct hk_command *command, int signo);

void hk_command_resize(const struct hk_command *command, uint16_t rows, uint16_t cols);

/** hk_command_end() - @command was reaped with the wait status @status. Return: what to report */
struct hk_msg_exited hk_command_end(struct hk_command *command, int status);

/** hk_command_run_pumps() - act on the poll results of all pumps, two for each of them */
void hk_command_run_pumps(struct hk_command *command, const struct pollfd *fds);

/** hk_command_streaming() - whether a pump is still running */
bool hk_command_streaming(const struct hk_command *command);

/** hk_command_finish() - close everything; does not kill */
void hk_command_finish(struct hk_command *command);

#endif
