/* SPDX-License-Identifier: ISC */
/*
 * The sandbox without a VM: a process tree in namespaces of its own, whose root is a FUSE mount
 * served by the caller.
 *
 *	caller ──socketpair── setup (new user, mount, pid, ipc, uts, net namespaces; mounts; pivot_root)
 *	   │                    └─ init (pid 1: reaps, passes signals on, ends when the caller does)
 *	   │                         └─ the command
 *	   └─ serves /dev/fuse
 *
 * The command can reach: the mirror, /proc of its own pid namespace, /sys read-only, /dev (the
 * host's, or a minimal one). It cannot reach: the host's mount tree, processes, System V IPC, and
 * where `net` is off the network, abstract sockets included. No new privileges; capabilities as
 * struct hk_sandbox_options says; seccomp forbids what would lead around the mirror
 * (open_by_handle_at, mounting, new user namespaces, kernel modules, bpf, perf, ...).
 */
#ifndef HK_TRACE_SANDBOX_LINUX_H
#define HK_TRACE_SANDBOX_LINUX_H

#include <signal.h>
#include <stdbool.h>
#include <sys/types.h>

#include "base/err.h"

/**
 * struct hk_sandbox_options
 * @argv: the command; @env: its environment; @cwd: where it starts, as it is called in the mirror
 * @export_name: the export of the FUSE server that is shown as "/"
 * @net: keep the host's network
 * @minimal_dev: null, zero, full, random, urandom, tty, pts, shm and fd links only, instead of the
 *	host's /dev
 * @device_nodes: root may make them. They are the host's, for whoever finds them later; in here
 *	none of them can be opened
 * @keep_terminal: the command stays in the foreground of the caller's terminal (job control as
 *	natively)
 * @signals: blocked in the command; NULL: those that are at present
 *
 * All borrowed, and used only during hk_sandbox_create(), which forks: what it forked knows them,
 * as it does the caller's signal handlers, limits and environment of that moment.
 */
struct hk_sandbox_options {
	const char *const *argv;
	const char *const *env;
	const char *cwd;
	const char *export_name;
	bool net;
	bool minimal_dev;
	bool device_nodes;
	bool keep_terminal;
	const sigset_t *signals;
};

struct hk_sandbox;

/**
 * hk_sandbox_probe() - what hk_sandbox_create() would miss here: the device, its module, leave to
 * make namespaces
 *
 * Return: 0; -errno with what it is, and what to do as the hint.
 */
int hk_sandbox_probe(struct hk_err *err);

/**
 * hk_sandbox_create() - namespaces and the FUSE mount
 * @ret_fuse_fd: of /dev/fuse, mounted; the caller's, to serve at once: what follows goes through it
 *
 * Return: 0; -EPERM, -ENOENT, -ENODEV with what is missing: module, device, sysctl, and what to do.
 */
int hk_sandbox_create(const struct hk_sandbox_options *options, struct hk_sandbox **ret_sandbox,
	int *ret_fuse_fd, struct hk_err *err);

/**
 * hk_sandbox_knows_all_ids() - does its kernel know every owner of files, or only the caller's ids?
 */
bool hk_sandbox_knows_all_ids(const struct hk_sandbox *sandbox);

/**
 * hk_sandbox_start() - mounts, pivot_root, and the command runs. The mount is served meanwhile by
 * other threads. @ret_at_command: it was the command that could not be executed. Return: 0; what
 * execve or a mount gave.
 */
int hk_sandbox_start(struct hk_sandbox *sandbox, bool *ret_at_command, struct hk_err *err);

/** hk_sandbox_pidfd() - readable when all is over */
int hk_sandbox_pidfd(const struct hk_sandbox *sandbox);
/** hk_sandbox_news_fd() - readable when hk_sandbox_news() has something to tell. Borrowed */
int hk_sandbox_news_fd(const struct hk_sandbox *sandbox);
/**
 * hk_sandbox_news() - Return: the signal that has just stopped the command; 0: nothing (more);
 * -EPIPE: it is over
 */
int hk_sandbox_news(struct hk_sandbox *sandbox);
/**
 * hk_sandbox_signal() - the caller got @signo: the command gets it, too, unless both were sent it,
 * as one process group
 */
int hk_sandbox_signal(struct hk_sandbox *sandbox, int signo);
/**
 * hk_sandbox_group() - the process group the command is in now, which a shell may have made; -ESRCH
 */
pid_t hk_sandbox_group(struct hk_sandbox *sandbox);
/**
 * hk_sandbox_end() - the command, if it runs, is sent a SIGTERM, once, and has it when this
 * returns. Any thread
 */
void hk_sandbox_end(struct hk_sandbox *sandbox);
/** hk_sandbox_kill() - the end of all that runs there; hk_sandbox_wait() is next */
void hk_sandbox_kill(struct hk_sandbox *sandbox);
/**
 * hk_sandbox_wait() - until all is over. Return: wait status of the command, as waitpid() gives it;
 * -ECHILD where it was lost
 */
int hk_sandbox_wait(struct hk_sandbox *sandbox);
void hk_sandbox_destroy(struct hk_sandbox *sandbox); /* kills what is left; NULL is fine */

#endif
