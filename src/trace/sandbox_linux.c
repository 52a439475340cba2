/* SPDX-License-Identifier: ISC */
/*
 * The sandbox, as its caller sees it: see sandbox_linux.h, and sandbox_impl_linux.h for who does
 * what.
 *
 * Theory: the caller forks before it has threads and before it changes anything of its process, so
 * that the command finds signals, limits and descriptors as they were given to us. The child makes
 * the namespaces and the mount, sends the descriptor of /dev/fuse, and waits: from here on names
 * are looked up in the mirror, and somebody must serve it. Then it forks process 1 as the caller's
 * child, and ends.
 *
 * No copy of the descriptor stays behind: when the caller dies, the kernel ends the connection, and
 * whoever waits for the mirror gets ECONNABORTED, and ENOTCONN from then on.
 *
 * Limits: one command for each sandbox. Whatever it leaves running ends with it.
 */
#include "trace/sandbox_linux.h"

#include <net/if.h>
#include <poll.h>
#include <sched.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/str.h"
#include "base/sys.h"
#include "trace/sandbox_impl_linux.h"

struct hk_sandbox {
	int socket;  /* owned */
	int pidfd;   /* owned; of process 1 */
	pid_t setup; /* 0: reaped, or never there */
	pid_t init;
	atomic_int command_fd; /* owned; a pidfd, -1: it does not run yet */
	atomic_bool told_to_end;
	bool all_ids;
	bool ended; /* the command has; with @status */
	int status;
};

/* Messages */

int hk_sandbox_send(
	int socket, enum hk_sandbox_word word, int value, const struct hk_err *err, int pass_fd)
{
	struct hk_sandbox_message message = {.word = word, .value = value};
	struct iovec iov = {&message, sizeof(message)};
	union {
		struct cmsghdr head;
		char room[CMSG_SPACE(sizeof(int))];
	} control = {0};
	struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};

	if (err != NULL) {
		message.err = *err;
	}
	if (pass_fd >= 0) {
		control.head = (struct cmsghdr){CMSG_LEN(sizeof(int)), SOL_SOCKET, SCM_RIGHTS};
		memcpy(CMSG_DATA(&control.head), &pass_fd, sizeof(pass_fd));
		msg.msg_control = &control;
		msg.msg_controllen = sizeof(control);
	}
	return sendmsg(socket, &msg, MSG_NOSIGNAL) < 0 ? -errno : 0;
}

static bool message_is_sound(const struct hk_sandbox_message *message, size_t len)
{
	return len == sizeof(*message) && message->word < HK_WORD_COUNT &&
		(message->word != HK_WORD_FAILED ||
			(message->err.code > 0 && message->err.start < HK_ERR_TEXT_SIZE &&
				message->err.text[HK_ERR_TEXT_SIZE - 1] == '\0' &&
				memchr(message->err.hint, '\0', HK_ERR_HINT_SIZE) != NULL));
}

int hk_sandbox_receive(int socket, bool wait, struct hk_sandbox_message *message, int *ret_fd)
{
	struct iovec iov = {message, sizeof(*message)};
	union {
		struct cmsghdr head;
		char room[CMSG_SPACE(sizeof(int))];
	} control = {0};
	struct msghdr msg = {.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = &control,
		.msg_controllen = sizeof(control)};
	autoclose int fd = -1;
	ssize_t n;

	do {
		n = recvmsg(socket, &msg, MSG_CMSG_CLOEXEC | (wait ? 0 : MSG_DONTWAIT));
	} while (n < 0 && errno == EINTR);
	if (n <= 0) {
		return n == 0 || errno == ECONNRESET ? -EPIPE : -errno;
	}
	if (CMSG_FIRSTHDR(&msg) != NULL && control.head.cmsg_type == SCM_RIGHTS) {
		memcpy(&fd, CMSG_DATA(&control.head), sizeof(fd));
	}
	if (!message_is_sound(message, (size_t)n)) {
		return -EPROTO;
	}
	if (ret_fd != NULL) {
		*ret_fd = take_fd(&fd);
	}
	return 0;
}

/* The process that sets up */

static int raise_loopback(struct hk_err *err)
{
	autoclose int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	struct ifreq request = {.ifr_name = "lo", .ifr_flags = IFF_UP | IFF_RUNNING};

	/* A kernel without IPv4 has no loopback either. */
	if (fd >= 0 && ioctl(fd, SIOCSIFFLAGS, &request) < 0) {
		return hk_fail(err, errno, "loopback network");
	}
	return 0;
}

static int make_namespaces(struct hk_sandbox_setup *setup, struct hk_err *err)
{
	int flags = CLONE_NEWNS | CLONE_NEWIPC | CLONE_NEWUTS | CLONE_NEWPID;
	int r;

	setup->privileged = hk_rights_are_full();
	setup->all_ids = setup->privileged && hk_ids_all_known();
	r = setup->privileged ? 0 : hk_ids_enter(setup, err);
	if (r < 0) {
		return r;
	}
	if (unshare(flags | (setup->options->net ? 0 : CLONE_NEWNET)) < 0) {
		return hk_fail(err, errno, "namespaces");
	}
	if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0) {
		hk_fail(err, errno, "private mounts");
		return errno != EINVAL
			? -errno
			: hk_err_hint(err,
				  "the root directory is no mount point, as in a chroot: make it "
				  "one before (mount --bind DIR DIR; chroot DIR)");
	}
	return setup->options->net ? 0 : raise_loopback(err);
}

/* The mirror; the caller gets its other end. */
static int make_mirror(struct hk_sandbox_setup *setup, struct hk_err *err)
{
	autoclose int device = hk_fuse_device_open(err);
	int r;

	if (device < 0) {
		return device;
	}
	setup->mount = r = hk_fuse_mount(device, err);
	if (r < 0) {
		return r;
	}
	r = hk_sandbox_send(setup->socket, HK_WORD_FUSE, 0, NULL, device);
	return r < 0 ? hk_fail(err, -r, "mirror") : 0;
}

static void set_up(const struct hk_sandbox_options *options, int socket, pid_t caller)
{
	struct hk_sandbox_setup setup = {.options = options, .socket = socket, .mount = -1};
	struct hk_sandbox_message message = {0};
	struct hk_err err = HK_ERR_INIT;
	int r = make_namespaces(&setup, &err);

	/* Not before: a change of credentials takes it back. */
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != caller) {
		return;
	}
	if (r == 0) {
		r = make_mirror(&setup, &err);
	}
	if (r < 0) {
		hk_sandbox_send(socket, HK_WORD_FAILED, 0, &err, -1);
		return;
	}
	r = hk_sandbox_receive(socket, true, &message, NULL);
	if (r < 0 || message.word != HK_WORD_GO) {
		return; /* the caller is gone, or has given up */
	}
	r = (int)syscall(SYS_clone, (unsigned long)(CLONE_PARENT | SIGCHLD), NULL, NULL, NULL, 0UL);
	if (r == 0) {
		hk_init_run(&setup);
	}
	if (r < 0) {
		hk_fail(&err, errno, "process 1");
		hk_sandbox_send(socket, HK_WORD_FAILED, 0, &err, -1);
		return;
	}
	hk_sandbox_send(socket, HK_WORD_INIT, r, NULL, -1);
}

/* The caller's side */

/* Receives until @wanted comes; what else is due on the way is done. */
static int expect(struct hk_sandbox *sandbox, enum hk_sandbox_word wanted,
	struct hk_sandbox_message *message, int *ret_fd, struct hk_err *err)
{
	for (;;) {
		int r = hk_sandbox_receive(sandbox->socket, true, message, ret_fd);

		if (r < 0) {
			return hk_fail_msg(
				err, -r, "sandbox: its first process ended unexpectedly");
		}
		if (message->word == wanted) {
			return 0;
		}
		if (message->word == HK_WORD_FAILED) {
			*err = message->err;
			return -err->code;
		}
		if (message->word == HK_WORD_MAP) {
			sandbox->all_ids = hk_ids_map(sandbox->setup) == 1;
			hk_sandbox_send(sandbox->socket, HK_WORD_MAP, sandbox->all_ids, NULL, -1);
		} else if (message->word == HK_WORD_INIT && sandbox->init == 0) {
			sandbox->init = message->value;
		} else {
			return hk_fail_msg(
				err, EPROTO, "sandbox: its first process is out of step");
		}
	}
}

int hk_sandbox_create(const struct hk_sandbox_options *options, struct hk_sandbox **ret_sandbox,
	int *ret_fuse_fd, struct hk_err *err)
{
	struct hk_sandbox_message message = {0};
	struct hk_sandbox *sandbox;
	pid_t self = getpid();
	int ends[2];
	int r;

	if (hk_new(sandbox) == NULL) {
		return hk_fail(err, ENOMEM, "sandbox");
	}
	sandbox->socket = -1;
	sandbox->pidfd = -1;
	sandbox->command_fd = -1;
	sandbox->all_ids = hk_ids_all_known();
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) < 0) {
		r = hk_fail(err, errno, "sandbox");
		hk_sandbox_destroy(sandbox);
		return r;
	}
	sandbox->socket = ends[0];
	sandbox->setup = fork();
	if (sandbox->setup == 0) {
		close(ends[0]);
		set_up(options, ends[1], self);
		_exit(1);
	}
	close(ends[1]);
	if (sandbox->setup < 0) {
		sandbox->setup = 0;
		r = hk_fail(err, errno, "fork");
	} else {
		r = expect(sandbox, HK_WORD_FUSE, &message, ret_fuse_fd, err);
	}
	if (r < 0) {
		hk_sandbox_destroy(sandbox);
		return r;
	}
	*ret_sandbox = sandbox;
	return 0;
}

static void reap_setup(struct hk_sandbox *sandbox)
{
	if (sandbox->setup > 0) {
		waitpid(sandbox->setup, NULL, 0);
		sandbox->setup = 0;
	}
}

int hk_sandbox_start(struct hk_sandbox *sandbox, bool *ret_at_command, struct hk_err *err)
{
	struct hk_sandbox_message message = {0};
	int command_fd = -1;
	int r = hk_sandbox_send(sandbox->socket, HK_WORD_GO, 0, NULL, -1);

	*ret_at_command = false;
	if (r < 0) {
		return hk_fail(err, -r, "sandbox");
	}
	/* Two processes speak now, in no order. */
	r = expect(sandbox, HK_WORD_RUNS, &message, &command_fd, err);
	atomic_store(&sandbox->command_fd, command_fd);
	*ret_at_command = r < 0 && message.word == HK_WORD_FAILED && message.value != 0;
	if (r == 0 && sandbox->init == 0) {
		r = expect(sandbox, HK_WORD_INIT, &message, NULL, err);
		sandbox->init = r == 0 ? message.value : 0;
	}
	if (r < 0) {
		return r;
	}
	reap_setup(sandbox);
	sandbox->pidfd = (int)syscall(SYS_pidfd_open, sandbox->init, 0);
	return sandbox->pidfd < 0 ? hk_fail(err, errno, "sandbox: pidfd") : 0;
}

bool hk_sandbox_knows_all_ids(const struct hk_sandbox *sandbox)
{
	return sandbox->all_ids;
}

int hk_sandbox_pidfd(const struct hk_sandbox *sandbox)
{
	return sandbox->pidfd;
}

int hk_sandbox_news_fd(const struct hk_sandbox *sandbox)
{
	return sandbox->socket;
}

int hk_sandbox_news(struct hk_sandbox *sandbox)
{
	struct hk_sandbox_message message = {0};
	int r = hk_sandbox_receive(sandbox->socket, false, &message, NULL);

	if (r < 0) {
		return r == -EAGAIN ? 0 : -EPIPE;
	}
	if (message.word == HK_WORD_ENDED) {
		sandbox->ended = true;
		sandbox->status = message.value;
		return 0;
	}
	return message.word == HK_WORD_STOPPED && message.value > 0 && message.value < NSIG
		? message.value
		: 0;
}

int hk_sandbox_signal(struct hk_sandbox *sandbox, int signo)
{
	return hk_sandbox_send(sandbox->socket, HK_WORD_SIGNAL, signo, NULL, -1);
}

/* A pidfd knows its process by the number that it has for us. */
pid_t hk_sandbox_group(struct hk_sandbox *sandbox)
{
	int command_fd = atomic_load(&sandbox->command_fd);
	char path[48];
	char text[512];
	const char *line;
	pid_t group = -1;

	hk_fmt(path, sizeof(path), "/proc/self/fdinfo/%d", command_fd);
	if (command_fd >= 0 && hk_read_text(AT_FDCWD, path, text, sizeof(text)) > 0) {
		line = strstr(text, "\nPid:\t");
		group = line != NULL ? getpgid((pid_t)strtol(line + 6, NULL, 10)) : -1;
	}
	return group > 0 ? group : -ESRCH;
}

void hk_sandbox_end(struct hk_sandbox *sandbox)
{
	int command_fd = atomic_load(&sandbox->command_fd);

	if (command_fd >= 0 && !atomic_exchange(&sandbox->told_to_end, true)) {
		syscall(SYS_pidfd_send_signal, command_fd, SIGTERM, NULL, 0);
	}
}

void hk_sandbox_kill(struct hk_sandbox *sandbox)
{
	if (sandbox->init > 0) {
		kill(sandbox->init, SIGKILL);
	}
}

int hk_sandbox_wait(struct hk_sandbox *sandbox)
{
	if (sandbox->init > 0) {
		waitpid(sandbox->init, NULL, 0);
		sandbox->init = 0;
	}
	while (!sandbox->ended && hk_sandbox_news(sandbox) >= 0) {
		struct pollfd fd = {.fd = sandbox->socket, .events = POLLIN};

		if (!sandbox->ended && poll(&fd, 1, 0) <= 0) {
			break;
		}
	}
	return sandbox->ended ? sandbox->status : -ECHILD;
}

void hk_sandbox_destroy(struct hk_sandbox *sandbox)
{
	int command_fd;

	if (sandbox == NULL) {
		return;
	}
	hk_close(&sandbox->socket); /* whoever waits for a word from us ends */
	reap_setup(sandbox);
	if (sandbox->init > 0) {
		kill(sandbox->init, SIGKILL);
		waitpid(sandbox->init, NULL, 0);
	}
	hk_close(&sandbox->pidfd);
	command_fd = atomic_load(&sandbox->command_fd);
	hk_close(&command_fd);
	free(sandbox);
}
