/* SPDX-License-Identifier: ISC */
/*
 * The sandbox without a VM: a process tree in namespaces of its own, whose root is a FUSE mount served by the caller.
 *
 *	caller ──socketpair── setup (new user, mount, pid, ipc, uts, net namespaces; mounts; pivot_root)
 *	   │                    └─ init (pid 1: reaps, passes signals on, ends when the caller does)
 *	   │                         └─ the command
 *	   └─ serves /dev/fuse
 *
 * The command can reach: the mirror, /proc of its own pid namespace, /sys read-only, /dev (the host's, or a minimal one).
 * It cannot reach: the host's mount tree, processes, System V IPC, and where `net` is off the network, abstract sockets
 * included. No new privileges; capabilities as struct hk_sandbox_options says; seccomp forbids what would lead around the
 * mirror (open_by_handle_at, mounting, new user namespaces, kernel modules, bpf, perf, ...).
 */
#ifndef HK_TRACE_SANDBOX_LINUX_H
#define HK_TRACE_SANDBOX_LINUX_H

#include <stdbool.h>
#include <sys/types.h>

#include "base/err.h"

/**
 * struct hk_sandbox_options
 * @argv: the command; @env: its environment; @cwd: where it starts, as it is called in the mirror
 * @export_name: the export of the FUSE server that is shown as "/"
 * @net: keep the host's network
 * @minimal_dev: null, zero, full, random, urandom, tty, pts, shm and fd links only, instead of the host's /dev
 * @keep_terminal: the command stays in the foreground of the caller's terminal (job control as natively)
 */
struct hk_sandbox_options {
	const char *const *argv;
	const char *const *env;
	const char *cwd;
	const char *export_name;
	bool net;
	bool minimal_dev;
	bool keep_terminal;
};

struct hk_sandbox;

/**
 * hk_sandbox_create() - namespaces and the FUSE mount
 * @ret_fuse_fd: of /dev/fuse, mounted; the caller's, to serve at once: what follows goes through it
 *
 * Return: 0; -EPERM, -ENOENT, -ENODEV with what is missing: module, device, sysctl, and what to do.
 */
int hk_sandbox_create(const struct hk_sandbox_options *options, struct hk_sandbox **ret_sandbox,
	int *ret_fuse_fd, struct hk_err *err);

/** hk_sandbox_start() - mounts, pivot_root, and the command runs. The mount is served meanwhile by other threads.
 * Return: 0; -ENOENT, -EACCES of the command (what execve gave); what a mount gave. */
int hk_sandbox_start(struct hk_sandbox *sandbox, struct hk_err *err);

/** hk_sandbox_pidfd() - readable when all is over */
int hk_sandbox_pidfd(const struct hk_sandbox *sandbox);
/** hk_sandbox_signal() - to the command, or to its process group where it is the terminal's */
int hk_sandbox_signal(struct hk_sandbox *sandbox, int signo);
/** hk_sandbox_wait() - Return: wait status of the command, as waitpid() gives it; -ECHILD where it was lost */
int hk_sandbox_wait(struct hk_sandbox *sandbox);
void hk_sandbox_destroy(struct hk_sandbox *sandbox); /* kills what is left; NULL is fine */

#endif
