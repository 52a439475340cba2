/* SPDX-License-Identifier: ISC */
/*
 * A box as users know it: one command in a microVM of its own.
 *
 *	hk_box_create()	checks the configuration, and reads the policy: may wait for who writes it to a pipe
 *	hk_box_build()	makes machine, devices and file tree
 *	hk_box_start()	starts the vCPUs; from here on all happens on the loop:
 *
 *	  booting ──HELLO──▶ setting up ──DONE──▶ starting ──STARTED──▶ running
 *	                                                                   │ EXITED
 *	  ended ◀──machine stopped── shutting down ◀──all output written── draining
 *
 *	owner->ended()	once; hk_box_result() says how; hk_box_destroy() frees all
 *
 * All functions belong to the loop's thread. Signals and the terminal's modes are the owner's:
 * see hk_box_signal(), hk_box_resize() and hk_box_owner.started.
 */
#ifndef HK_BOX_BOX_H
#define HK_BOX_BOX_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/err.h"
#include "base/loop.h"
#include "control/control.h"
#include "engine/cpuid.h"

struct hk_audit;
struct hk_box;

enum {
	HK_BOX_MAX_SHARES = 64,
	HK_BOX_MAX_HIDDEN = 8,
	HK_BOX_MAX_DISKS = 8,
	HK_BOX_MAX_NAME = 63,                         /* bytes: it is the hostname, too */
	HK_BOX_MAX_WORDS = HK_CONTROL_MAX_COUNT - 16, /* arguments; variables */
	/* All of them: one message, with room for what the box adds. */
	HK_BOX_MAX_COMMAND_BYTES = HK_CONTROL_MAX_FROM_HOST - (16 << 10),
};

/* With much less the stock kernel does not get as far as the agent. */
#define HK_BOX_MIN_MEMORY_BYTES (UINT64_C(128) << 20)

enum hk_share_dax {
	HK_SHARE_DAX_NO,
	HK_SHARE_DAX_IF_POSSIBLE, /* where the engine can */
	HK_SHARE_DAX_YES,
	HK_SHARE_DAX_COUNT,
};

/**
 * struct hk_share - a directory or regular file of the host shown in the box
 * @host: absolute, without symbolic links
 * @guest: absolute, without ".", ".." and superfluous slashes
 * @writable: changes are the host's
 * @dax: its files are mapped into the box, not copied: host and box share their memory
 * @layer: instead, changes go there: a directory of the host, for copy-on-write (fuse/overlay.h);
 *	NULL: they do not
 */
struct hk_share {
	const char *host;
	const char *guest;
	bool writable;
	enum hk_share_dax dax;
	const char *layer;
};

/** struct hk_box_disk - a raw disk image, shown as /dev/vda, /dev/vdb, ... in order */
struct hk_box_disk {
	const char *path;
	bool read_only;
};

/* Whoever owns a box; called on the loop's thread. All optional. */
struct hk_box_owner {
	/* The command runs: from now on what is typed is its own. */
	void (*started)(struct hk_box_owner *owner);
	/* The box has ended; the result is final. Once. hk_box_destroy() is for later. */
	void (*ended)(struct hk_box_owner *owner);
	/*
	 * Within @ns the box gets on, or it hangs in something that it cannot leave (a file system
	 * that does not answer); UINT64_MAX: no such limit any more. Each call replaces the last.
	 */
	void (*limit)(struct hk_box_owner *owner, uint64_t ns);
	/* A step was done: @what, @since_start_ns after hk_box_start(). */
	void (*progress)(struct hk_box_owner *owner, const char *what, uint64_t since_start_ns);
	/* One line of the guest's console, escaped, without a newline. */
	void (*console)(struct hk_box_owner *owner, const char *line);
	/*
	 * The policy keeps some changes of @share apart: where? In hk_box_create(). Return: 0 with
	 * a directory that lasts as long as the box, borrowed; -errno. Without it such a policy is
	 * an error.
	 */
	int (*layer)(struct hk_box_owner *owner, const struct hk_share *share,
		const char **ret_path, struct hk_err *err);
	/* The policy says `ask`; see struct hk_fuse_owner. Any thread. Without it: no. */
	bool (*ask)(
		struct hk_box_owner *owner, const char *path, const char *class_name, pid_t pid);
	/* The policy has denied something. Any thread. */
	void (*violated)(struct hk_box_owner *owner);
};

/**
 * struct hk_box_config - all a run needs; everything in it is borrowed until hk_box_destroy()
 * @loop: outlives the box
 * @owner: outlives the box; may be NULL
 * @name: of the box; its hostname, too; NULL: "hako"
 * @engine: as for hk_engine_create(); NULL picks one
 * @cpu: CPU model
 * @kernel: as for hk_kernel_resolve(); NULL: the best one
 * @rootfs: absolute path of a directory that is the box's root, its writes kept in memory; NULL:
 *	the host's own system
 * @vcpu_count: 1 to HK_MAX_VCPUS
 * @memory_bytes: HK_BOX_MIN_MEMORY_BYTES up to what the host has
 * @env: "NAME=VALUE" strings, @env_count; they override what the box sets itself
 * @argv: the command, NULL-terminated
 * @workdir: absolute path in the box; NULL: where @caller_dir is shared, else the home
 * @caller_dir: the caller's current directory, absolute, without symbolic links; may be NULL
 * @caller_home: the caller's home directory, likewise; may be NULL
 * @caller_uid, @caller_gid, @caller_name: whose files the shares are; a caller_name of NULL or one
 *	that would not do in /etc/passwd becomes "user"
 * @as_root: the command runs as the guest's root
 * @tty: the command has a terminal of @rows by @cols (0: unknown); its output goes to @stdout_fd
 * @verbose: kernel messages are shown, too
 * @stdin_fd, @stdout_fd, @stderr_fd: their flags are not changed; -1: /dev/null
 * @policy: a file of rules, hako-policy(5), with paths as the box has them; NULL: none
 * @has_audit: decisions are kept, see hk_box_audit(); @log_fd: and written there, -1: nowhere. No
 *	thread until hk_box_start()
 * @hidden: @hidden_count paths of the host, absolute and real, that no share shows, files or
 *	directories with all in them
 * @timeout_ns: from hk_box_start() on; 0: none; then SIGTERM, and HK_BOX_GRACE_NS later the end
 */
struct hk_box_config {
	struct hk_loop *loop;
	struct hk_box_owner *owner;
	const char *name;
	const char *engine;
	struct hk_cpu_model cpu;
	const char *kernel;
	const char *rootfs;
	unsigned vcpu_count;
	uint64_t memory_bytes;
	const struct hk_share *shares;
	unsigned share_count;
	const struct hk_box_disk *disks;
	unsigned disk_count;
	const char *const *env;
	unsigned env_count;
	char *const *argv;
	const char *workdir;
	const char *caller_dir;
	const char *caller_home;
	uid_t caller_uid;
	gid_t caller_gid;
	const char *caller_name;
	bool as_root;
	bool tty;
	bool verbose;
	uint16_t rows, cols;
	int stdin_fd, stdout_fd, stderr_fd;
	const char *policy;
	bool has_audit;
	int log_fd;
	const char *hidden[HK_BOX_MAX_HIDDEN];
	unsigned hidden_count;
	uint64_t timeout_ns;
};

#define HK_BOX_GRACE_NS UINT64_C(2000000000)
/* What the way out may take at most; and once the user has lost patience. */
#define HK_BOX_LEAVE_NS UINT64_C(5000000000)
#define HK_BOX_HURRY_NS UINT64_C(1000000000)

/** enum hk_box_end - how a box ended */
enum hk_box_end {
	HK_BOX_RUNS_STILL,  /* it has not */
	HK_BOX_EXITED,      /* the command exited with status @code */
	HK_BOX_SIGNALED,    /* the command died of signal @code */
	HK_BOX_NOT_STARTED, /* the command could not be run: errno @code at @stage */
	HK_BOX_TIMED_OUT,   /* @timeout_ns was over */
	HK_BOX_STOPPED,     /* the owner's signal @code ended it */
	HK_BOX_FAILED,      /* all else: @err says what */
	HK_BOX_END_COUNT,
};

/**
 * struct hk_box_result - what there is to say about the end
 * @oom_kills: processes that the guest killed for want of memory while the command ran
 * @err: HK_BOX_FAILED only
 * @show_console: the last console lines belong to the explanation
 */
struct hk_box_result {
	enum hk_box_end end;
	int code;
	enum hk_exec_stage stage;
	uint32_t oom_kills;
	bool show_console;
	struct hk_err err;
};

/**
 * hk_box_check_values() - the part of hk_box_check() that does not depend on the host
 *
 * What it refuses is a wrong command line on any host.
 */
int hk_box_check_values(const struct hk_box_config *config, struct hk_err *err);

/**
 * hk_box_check() - is this a configuration that can be?
 * @host_memory_bytes: what the host has; 0: not known
 *
 * Looks at the host's files that @config names. hk_box_create() does this, too.
 *
 * Return: 0, or -errno with the option's object named in @err.
 */
int hk_box_check(
	const struct hk_box_config *config, uint64_t host_memory_bytes, struct hk_err *err);

/** hk_box_host_memory() - physical memory of the host and what is available now. Either may be
 * NULL. */
void hk_box_host_memory(uint64_t *ret_total_bytes, uint64_t *ret_available_bytes);

/** hk_box_default_memory() - 1 GiB, or half of what is available where that is less */
uint64_t hk_box_default_memory(uint64_t available_bytes);

/* Who catches signals blocks them between the first two: there are threads after hk_box_build(). */
int hk_box_create(const struct hk_box_config *config, struct hk_box **ret_box, struct hk_err *err);
int hk_box_build(struct hk_box *box, struct hk_err *err);
int hk_box_start(struct hk_box *box, struct hk_err *err);

/** hk_box_destroy() - ends it first, without ceremony; NULL is fine */
void hk_box_destroy(struct hk_box *box);

/**
 * hk_box_signal() - a signal came for the command
 *
 * It is passed on once the command runs. Before that, one that would end a process ends the box;
 * and so does the third one within HK_BOX_GRACE_NS, since a guest need not listen.
 */
void hk_box_signal(struct hk_box *box, int signo);

/**
 * hk_box_give_up() - the command is to end: SIGTERM, and HK_BOX_GRACE_NS later the box ends in any
 * case
 */
void hk_box_give_up(struct hk_box *box);

/** hk_box_resize() - the terminal has another size now */
void hk_box_resize(struct hk_box *box, uint16_t rows, uint16_t cols);

/** hk_box_result() - borrowed; final after owner->ended() */
const struct hk_box_result *hk_box_result(const struct hk_box *box);

/** hk_box_status() - the exit status that tells of @result: 0-255 as shells and timeout(1) do */
int hk_box_status(const struct hk_box_result *result);

/** hk_box_asks() - does its policy have anybody asked? */
bool hk_box_asks(const struct hk_box *box);

/**
 * hk_box_audit() - borrowed; NULL: it has none. Complete after owner->ended() and hk_audit_finish()
 */
struct hk_audit *hk_box_audit(struct hk_box *box);

/**
 * hk_box_console_line() - the last lines of the guest's console
 * @back: 0 for the last one
 * @line: escaped; @size bytes
 *
 * Return: false if there is no such line.
 */
bool hk_box_console_line(struct hk_box *box, unsigned back, char *line, size_t size);

/**
 * hk_box_denial() - what was refused to the command, each place and operation once
 * @index: from 0
 * @line: one sentence that names the flag, escaped; @size bytes
 *
 * Return: false if there is no such denial.
 */
bool hk_box_denial(struct hk_box *box, unsigned index, char *line, size_t size);

/** hk_box_denial_count() - all of them, also those beyond what is kept */
uint64_t hk_box_denial_count(struct hk_box *box);

/**
 * hk_box_shows() - is the host's @path seen in the box, by a share or as part of the system?
 * @path: absolute, without "." and ".."
 */
bool hk_box_shows(const struct hk_box_config *config, const char *path);

#endif
