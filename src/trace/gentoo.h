/* SPDX-License-Identifier: ISC */
/*
 * The policy of Gentoo's sandbox: what its variables and its configuration say of a path, with no
 * I/O.
 *
 *	gentoo.c		variables, prefixes, the order of decisions, configuration files
 *	gentoo_run_linux.c	a run: who has which policy, the log, what is said on stderr
 *	gentoo_path_linux.c	the path as a program wrote it, for the log
 *	gentoo_look_linux.c	what is looked up of a process, and how long that may take
 *	gentoo_hook.c		what bash reads at its start, so that it tells of changed variables
 *
 * The variables hold lists of paths with colons between. A path stands for itself and all below;
 * one that ends in a slash for what is below alone. Reading takes READ, all else WRITE; DENY is
 * before both, and what PREDICT names is refused without a word.
 *
 * Source: what Gentoo's sandbox of June 2025 does; no code of it is used.
 */
#ifndef HK_TRACE_GENTOO_H
#define HK_TRACE_GENTOO_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "base/err.h"
#include "base/str.h"

struct hk_fuse_question;

enum hk_gentoo_var {
	HK_GENTOO_DENY,
	HK_GENTOO_READ,
	HK_GENTOO_WRITE,
	HK_GENTOO_PREDICT,
	HK_GENTOO_LISTS, /* the above are lists of paths, the others switches */
	HK_GENTOO_ON = HK_GENTOO_LISTS,
	HK_GENTOO_VERBOSE,
	HK_GENTOO_DEBUG,
	HK_GENTOO_VARS,
};

enum hk_gentoo_verdict {
	HK_GENTOO_ALLOWED,
	HK_GENTOO_DENIED,
	HK_GENTOO_PREDICTED, /* refused, and nobody is told */
};

const char *hk_gentoo_var_name(enum hk_gentoo_var var); /* "SANDBOX_DENY" */

/**
 * hk_gentoo_var_find() - the variable called so, of @len bytes. Return: HK_GENTOO_VARS for others
 */
enum hk_gentoo_var hk_gentoo_var_find(const char *name, size_t len);

/** struct hk_gentoo_env - what the policy may ask of the system
 * @real: malloc'd, the path with no symlinks left in it; NULL where it has none */
struct hk_gentoo_env {
	char *(*real)(struct hk_gentoo_env *env, const char *path);
};

struct hk_gentoo_prefix {
	char *path; /* owned */
	size_t len;
};

/**
 * struct hk_gentoo_policy - zero-initialize: everything is refused, but that it is not on
 * @text: the variables; owned; NULL: not set
 */
struct hk_gentoo_policy {
	char *text[HK_GENTOO_VARS];
	struct hk_gentoo_prefix *prefixes[HK_GENTOO_LISTS];
	size_t counts[HK_GENTOO_LISTS];
	bool on;
	bool verbose;
	bool debug;
};

/**
 * hk_gentoo_set() - a variable has this value now; NULL: none. Return: 0, or -ENOMEM (then it is as
 * it was)
 */
int hk_gentoo_set(struct hk_gentoo_policy *policy, enum hk_gentoo_var var, const char *value,
	struct hk_gentoo_env *env);
void hk_gentoo_finish(struct hk_gentoo_policy *policy);

/** hk_gentoo_judge() - what the policy says of one operation */
enum hk_gentoo_verdict hk_gentoo_judge(
	const struct hk_gentoo_policy *policy, const struct hk_fuse_question *question);

/**
 * hk_gentoo_function() - what the log calls it: "open_wr_creat"; NULL for what is never looked at
 */
const char *hk_gentoo_function(const struct hk_fuse_question *question);

/** hk_gentoo_is_on() - yes, true, on, 1; @value may be NULL */
bool hk_gentoo_is_on(const char *value);

/**
 * hk_gentoo_config() - append what a configuration file assigns to @name
 * @is_list: all assignments, with colons between, and each ${VARIABLE} replaced; else the last one
 *	is the value
 * @variable: the value of one, or NULL
 *
 * Return: was it assigned at all?
 */
bool hk_gentoo_config(const char *text, const char *name, bool is_list,
	const char *(*variable)(const char *name), struct hk_str *out);

/**
 * struct hk_gentoo_event - what a record of the log is about
 * @passed: the path as a program wrote it; @absolute: with its directory, symbolic links left in;
 *	@real: where it leads
 * @command: the command line, a blank behind each word, or NULL
 */
struct hk_gentoo_event {
	const char *function;
	bool allowed;
	const char *passed;
	const char *absolute;
	const char *real;
	const char *command;
};

/**
 * hk_gentoo_record() - append an event as the log has it; a new log starts with hk_gentoo_log_head
 */
void hk_gentoo_record(struct hk_str *out, const struct hk_gentoo_event *event);
extern const char hk_gentoo_log_head[];

/**
 * hk_gentoo_passed() - the path that a thread, which waits in a system call, gave to it
 * @real: what it led to
 *
 * Takes as long as the process likes: see hk_gentoo_words(). Both results are the caller's. Return:
 * false where that cannot be told.
 */
bool hk_gentoo_passed(pid_t tid, const char *real, char **ret_passed, char **ret_absolute);

/**
 * struct hk_gentoo_words - what the log says of a process: its command line, a blank behind each
 * word, and the paths as hk_gentoo_passed() has them; all owned, NULL: not known
 */
struct hk_gentoo_words {
	char *command;
	char *passed;
	char *absolute;
};

/**
 * hk_gentoo_words() - of a thread that waits in a system call; takes a second at most. No lock is
 * held.
 */
void hk_gentoo_words(pid_t tid, const char *real, struct hk_gentoo_words *ret_words);
void hk_gentoo_words_finish(struct hk_gentoo_words *words);

/**
 * hk_gentoo_environ() - the variables that a process was executed with, each ends in NUL; takes a
 * second at most. Return: malloc'd, or NULL
 */
char *hk_gentoo_environ(pid_t pid, size_t *ret_len);

/**
 * hk_gentoo_absolute() - @path from @dir on, without "." and ".."; symbolic links stay. Return:
 * malloc'd, or NULL
 */
char *hk_gentoo_absolute(const char *dir, const char *path);

/* A run. */

struct hk_gentoo_run;

/**
 * struct hk_gentoo_log
 * @path: absolute
 * @dir: its directory, opened before the run, which could else move that and put a link in its
 *	place; -1: there is none
 */
struct hk_gentoo_log {
	const char *path;
	int dir;
};

/**
 * struct hk_gentoo_options - borrowed, as long as the run
 * @control_fd: where the processes of the run tell of changed variables (SO_PASSCRED is set); -1:
 *	nowhere
 * @color: what is said on stderr has colours
 */
struct hk_gentoo_options {
	struct hk_gentoo_log log;
	struct hk_gentoo_log debug_log;
	int control_fd;
	bool color;
};

/**
 * hk_gentoo_run_create() - the policy starts with this process's variables. Return: 0, or -ENOMEM
 */
int hk_gentoo_run_create(const struct hk_gentoo_options *options, struct hk_gentoo_run **ret_run);

/**
 * hk_gentoo_run_judge() - for struct hk_trace_config, @judge; @run is one. Any thread. Return: 0 or
 * EACCES
 */
int hk_gentoo_run_judge(void *run, const struct hk_fuse_question *question);

/**
 * hk_gentoo_log_open() - a log that is a file of one name. @flags: of open(2). Return: a
 * descriptor, or -errno
 */
int hk_gentoo_log_open(const struct hk_gentoo_log *log, int flags);

/** hk_gentoo_run_violated() - was something written to the log? */
bool hk_gentoo_run_violated(const struct hk_gentoo_run *run);
void hk_gentoo_run_destroy(struct hk_gentoo_run *run); /* NULL is fine */

/**
 * hk_gentoo_hook - a bash script: see gentoo_hook.c. It finds the control's number in
 * HAKO_SANDBOX_FD.
 */
extern const char hk_gentoo_hook[];

#endif
