/* SPDX-License-Identifier: ISC */
/*
 * The inside of the sandbox, shared by its files:
 *
 *	sandbox_linux.c		the caller's side; the process that sets up
 *	ids_linux.c		the user namespace of a caller who is not root
 *	fuse_mount_linux.c	/dev/fuse, its mount, and what may be missing
 *	mounts_linux.c		what the command sees: the mirror, /proc, /sys, /dev
 *	inherit_linux.c		directories that the caller has left open
 *	rights_linux.c		capabilities; seccomp_linux.c: system calls
 *	init_linux.c		process 1
 *
 * The caller, the process that sets up and process 1 talk in messages over one socket pair. The
 * last one runs beside programs that nobody trusts, so what it says is checked.
 */
#ifndef HK_TRACE_SANDBOX_IMPL_LINUX_H
#define HK_TRACE_SANDBOX_IMPL_LINUX_H

#include <stdint.h>

#include "trace/sandbox_linux.h"

enum hk_sandbox_word {
	HK_WORD_MAP,     /* to the caller: give my user namespace its ids; back: done */
	HK_WORD_FUSE,    /* to the caller, with the descriptor: the mirror is mounted */
	HK_WORD_GO,      /* it is served */
	HK_WORD_INIT,    /* to the caller: process 1 is @value */
	HK_WORD_RUNS,    /* to the caller, with a pidfd: the command was executed */
	HK_WORD_STOPPED, /* to the caller: by signal @value */
	HK_WORD_ENDED,   /* to the caller: with wait status @value */
	HK_WORD_FAILED,  /* to the caller: @err says why; @value: at the command itself */
	HK_WORD_SIGNAL,  /* to process 1: send @value to the command */
	HK_WORD_COUNT,
};

struct hk_sandbox_message {
	uint32_t word;
	int32_t value;
	struct hk_err err; /* with HK_WORD_FAILED only */
};

/** hk_sandbox_send() - @pass_fd: goes along, -1: none. Return: 0 or -errno */
int hk_sandbox_send(
	int socket, enum hk_sandbox_word word, int value, const struct hk_err *err, int pass_fd);

/**
 * hk_sandbox_receive() - the next message, checked
 * @wait: else -EAGAIN where there is none
 * @ret_fd: what came along, or -1; may be NULL
 *
 * Return: 0; -EPIPE where the other side is gone; -EPROTO for what is no message.
 */
int hk_sandbox_receive(int socket, bool wait, struct hk_sandbox_message *message, int *ret_fd);

/**
 * struct hk_sandbox_setup - what the process that sets up, and process 1 after it, know
 * @privileged: root with all that takes: no user namespace
 * @all_ids: every id of files is known in the user namespace (or there is none)
 * @mount: of the mirror, not attached yet
 */
struct hk_sandbox_setup {
	const struct hk_sandbox_options *options;
	int socket;
	bool privileged;
	bool all_ids;
	int mount;
};

/* fuse_mount_linux.c */

/** hk_fuse_device_open() - Return: a descriptor, or -errno with what is missing, and what to do */
int hk_fuse_device_open(struct hk_err *err);
/**
 * hk_fuse_mount() - mounts @device, attached nowhere. Return: a descriptor of the mount, or -errno
 */
int hk_fuse_mount(int device, struct hk_err *err);

/* ids_linux.c */

/**
 * hk_ids_enter() - a user namespace in which the caller has the id he has, and no rights outside.
 * In the process that sets up.
 */
int hk_ids_enter(struct hk_sandbox_setup *setup, struct hk_err *err);
/**
 * hk_ids_map() - what the caller does for it. Return: 1 if all ids are mapped; 0 if only his own
 * are
 */
int hk_ids_map(pid_t pid);
/**
 * hk_ids_all_known() - does this process's user namespace know every id that files have? One made
 * by hand may not.
 */
bool hk_ids_all_known(void);
/** hk_ids_probe() - may user namespaces be made? Return: 0, or -errno with the reason */
int hk_ids_probe(struct hk_err *err);

/*
 * inherit_linux.c: in process 1. Directories among the descriptors that the command will inherit,
 * found while the host is in sight, and opened anew in the mirror.
 */
struct hk_inherited;
int hk_inherited_find(struct hk_inherited **ret_list, struct hk_err *err);
void hk_inherited_reopen(const struct hk_inherited *list);
void hk_inherited_free(struct hk_inherited *list);

/* mounts_linux.c: in process 1 */
int hk_mounts_enter(const struct hk_sandbox_setup *setup, struct hk_err *err);

/* rights_linux.c, seccomp_linux.c: in process 1, after the mounts; for good */
bool hk_rights_are_full(void); /* root, and with the capabilities that setting up takes */
int hk_rights_drop(const struct hk_sandbox_setup *setup, struct hk_err *err);
int hk_rights_scope(struct hk_err *err);
int hk_seccomp_sandbox(bool net, struct hk_err *err);

/* init_linux.c: the rest of the life of process 1 */
__attribute__((noreturn)) void hk_init_run(const struct hk_sandbox_setup *setup);

#endif
