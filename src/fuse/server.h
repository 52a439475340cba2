/* SPDX-License-Identifier: ISC */
/*
 * The FUSE protocol server: requests in, replies out; no transport, no thread of its own.
 *
 * A server has a tree of exports. The root (nodeid 1) is synthetic and holds one directory for each
 * export; each export is a backend (backend.h), first of all a host directory that cannot be left.
 * Transports (virtio-fs, /dev/fuse) call hk_fuse_handle() from as many threads as they like.
 *
 *	virtio/fs.c, dev_linux.c ──▶ hk_fuse_handle() ──▶ handler ──▶ judge, policy ──▶ backend ──▶ openat2, preadv
 *
 * Before it touches the backend, which may be a directory of the host or an overlay over one, a
 * handler has what it is about to do judged by the export's rules (judge.c) and flags (policy.c);
 * afterwards it tells the audit what came of it.
 *
 * Source: linux/fuse.h, protocol 7.45, negotiated down to what the guest's kernel speaks, 7.31 at
 * least.
 */
#ifndef HK_FUSE_SERVER_H
#define HK_FUSE_SERVER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/uio.h>

#include "base/err.h"
#include "base/state.h"
#include "fuse/rules.h"

enum { HK_FUSE_MAX_SEGMENTS = 1024, HK_FUSE_MAX_EXPORTS = 64 };

/* Requests that wait for somebody's answer, at most: see hk_fuse_server_waiting(). */
enum { HK_FUSE_WAITING_MAX = 128 };

struct hk_audit;
struct hk_backend;
struct hk_fuse_server;
struct hk_rules;

/*
 * How long the guest may keep names, attributes and data without asking again.
 *
 * AUTO gives LONG to system directories (read-only and public-only) and SHORT to all others, so
 * that what the user edits on the host shows in the box a second later. A box that knows a tree
 * does not change asks for LONG.
 */
enum hk_fuse_cache {
	HK_FUSE_CACHE_AUTO,
	HK_FUSE_CACHE_SHORT, /* 1 s; data is checked at each open */
	HK_FUSE_CACHE_LONG,  /* 1 day, also that a name does not exist */
	HK_FUSE_CACHE_COUNT,
};

/**
 * struct hk_fuse_export - one host directory, or one regular file, shown to the guest
 * @name: its entry in the synthetic root
 * @path: host path, resolved once, now; symlinks allowed here
 * @read_only: every change gives EROFS
 * @public_only: show only what every user of the host may read (mode bits for others); for system
 * directories, so that a monitor run by root reveals no more than one run by nobody
 * @map_ids: swap @host_uid/@host_gid with @guest_uid/@guest_gid in attributes, in chown and for
 * what is created; files then get no set-id bits or capabilities: chmod and creation leave the bits
 * out, writes take them away
 * @acls: POSIX ACLs are the host's, and the asking kernel checks them: for a kernel that has the
 * host's ids. Only where all exports have it
 * @lone_user: the guest's kernel knows no ids but @guest_uid and @guest_gid, and writes to nothing
 * whose owners it does not know, without asking us. So what is theirs in part, or may be written by
 * others, or is in a directory of which they may remove it, shows as theirs; whether they may, the
 * host's kernel says
 * @groups: @group_count further groups that the lone user is in, whose files are theirs in part,
 *	too; borrowed
 * @dax: the guest maps its files into the window (hk_fuse_server_set_window()), where there is one.
 * The backend is one with real_fd()
 * @cache: what the guest's kernel may remember
 * @backend: stands in for @path (which then only names it in messages); becomes the server's, also
 *	on failure
 * @rules: what may be done to which path (rules.h), besides the above; NULL: everything. Borrowed
 * @audit: is told of each decision; NULL: nobody is. Borrowed
 * @root: absolute path of the export's root for rules and audit: "/" for a mirror of all; NULL: "/"
 */
struct hk_fuse_export {
	const char *name;
	const char *path;
	struct hk_backend *backend;
	struct hk_rules *rules;
	struct hk_audit *audit;
	const char *root;
	bool read_only;
	bool public_only;
	bool map_ids;
	bool lone_user;
	bool acls;
	bool dax;
	uid_t host_uid, guest_uid;
	gid_t host_gid, guest_gid;
	const gid_t *groups;
	unsigned group_count;
	enum hk_fuse_cache cache;
};

/** struct hk_fuse_denial - one refused access, told to the owner so that the user hears of it */
struct hk_fuse_denial {
	const char *export_name;
	const char *path;      /* within the export, best known; escaped by whoever prints it */
	const char *operation; /* "write", "read", ... */
	int error;             /* positive errno the guest got */
	bool by_rules;         /* the export's rules said so, or who was asked */
};

/**
 * struct hk_fuse_question - what is about to be done, for an owner that judges by himself
 * @op: enum hk_event_op, of audit.h; @class: the one in question, as one operation can be of
 *	several
 * @flags: see struct hk_audit_event
 * @path: absolute, by the names last seen; valid during the call. It begins with no slash where it
 * is too long, or not known: to be refused
 * @pid: the thread that asks, as the server sees it
 */
struct hk_fuse_question {
	unsigned op;
	enum hk_class class;
	uint32_t flags;
	const char *path;
	pid_t pid;
};

/* Hooks of whoever owns a server. Any transport thread. All optional. */
struct hk_fuse_owner {
	/*
	 * For policies that change, or depend on who asks: about all that the rules allow. Return:
	 * 0, or the positive errno that it gets.
	 */
	int (*judge)(struct hk_fuse_owner *owner, const struct hk_fuse_question *question);
	void (*denied)(struct hk_fuse_owner *owner, const struct hk_fuse_denial *denial);
	/*
	 * A rule says `ask`. May take its time; the server remembers the answer, and asks one
	 * question at a time. Return: is it allowed? Without it: no.
	 */
	bool (*ask)(
		struct hk_fuse_owner *owner, const char *path, const char *class_name, pid_t pid);
};

/**
 * struct hk_fuse_transport - what a transport can do for the server beyond requests; all optional
 *
 * backing_open() lets the kernel read and write file @fd by itself (FUSE_PASSTHROUGH). Return: an
 * id for the reply to OPEN, to be given to backing_close() after the last RELEASE; or -errno.
 *
 * forget_entry() and forget_data() have the kernel ask again for a name, or for data. Not from
 * within a handler: the kernel may hold, for the request at work, the very lock it takes to forget.
 */
struct hk_fuse_transport {
	int (*backing_open)(struct hk_fuse_transport *transport, int fd);
	void (*backing_close)(struct hk_fuse_transport *transport, int id);
	void (*forget_entry)(
		struct hk_fuse_transport *transport, uint64_t parent_nodeid, const char *name);
	void (*forget_data)(struct hk_fuse_transport *transport, uint64_t nodeid);
};

/**
 * hk_fuse_server_create() - a server with an empty root
 * @owner: borrowed; may be NULL
 *
 * Descriptors are budgeted from the soft RLIMIT_NOFILE of this moment: raise it first. Sets SIGXFSZ
 * to be ignored, if nobody handles it, so that RLIMIT_FSIZE is an EFBIG of the guest's and not the
 * end of the monitor.
 *
 * Return: 0, -ENOMEM, or what opening /proc/self/fd gave.
 */
int hk_fuse_server_create(
	struct hk_fuse_owner *owner, struct hk_fuse_server **ret_server, struct hk_err *err);
/** hk_fuse_server_set_transport() - before the first request; borrowed; NULL: it goes */
void hk_fuse_server_set_transport(
	struct hk_fuse_server *server, struct hk_fuse_transport *transport);
/**
 * hk_fuse_server_leave_out() - features (FUSE_* of INIT) to do without; for tests; before the first
 * request
 */
void hk_fuse_server_leave_out(struct hk_fuse_server *server, uint64_t features);

/**
 * hk_fuse_server_set_window() - memory that the guest sees, into which files of exports with @dax
 * are mapped
 * @host: reserved address space, PROT_NONE; the server maps there until it is destroyed; borrowed
 * @len_bytes: a multiple of 2 MiB
 *
 * Before the first request. The files' pages come and go, also by what others do to them: only the
 * guest touches them.
 *
 * Return: 0 or -ENOMEM.
 */
int hk_fuse_server_set_window(
	struct hk_fuse_server *server, void *host, uint64_t len_bytes, struct hk_err *err);

/**
 * hk_fuse_server_mend() - look for memory in the window that the guest may touch and that is not
 * there
 *
 * Where files became shorter behind its back, there are zeroes from now on. To be called when
 * KVM_RUN says EFAULT, and every second or so, for mostly the guest just waits (dax.c). Any thread.
 *
 * Return: was anything mended, so that the guest may try again?
 */
bool hk_fuse_server_mend(struct hk_fuse_server *server);

/**
 * hk_fuse_server_waiting() - how many requests wait for somebody to answer a question
 *
 * At most HK_FUSE_WAITING_MAX. Each holds its thread for as long as a person thinks: a transport
 * that has no more threads than it needs for its work starts as many more. Any thread.
 */
unsigned hk_fuse_server_waiting(const struct hk_fuse_server *server);

/** hk_fuse_server_asks() - may a request wait so? Constant after the first one. */
bool hk_fuse_server_asks(const struct hk_fuse_server *server);

/** hk_fuse_op_name() - of a request: "LOOKUP"; NULL for one the server does not know */
const char *hk_fuse_op_name(uint32_t opcode);
void hk_fuse_server_destroy(struct hk_fuse_server *server); /* transports gone; NULL is fine */

/**
 * hk_fuse_server_export() - add an export; before the first request only
 *
 * Return: 0; -ENOENT, -ENOTDIR, -EACCES of @path; -EINVAL where it is neither directory nor regular
 * file, or @name is no file name; -EEXIST for a name taken; -ENOSPC for too many.
 */
int hk_fuse_server_export(
	struct hk_fuse_server *server, const struct hk_fuse_export *export, struct hk_err *err);

/**
 * hk_fuse_thread_start() - prepare a thread that will do nothing but serve
 *
 * Gives the calling thread a umask (0) and a current directory of its own, and blocks nothing. A
 * thread that does not call it can serve too, at the price of a chmod for each file created with
 * bits of the process's umask.
 */
void hk_fuse_thread_start(void);

/**
 * hk_fuse_handle() - answer one request
 * @in: the request, header first; guest memory that may change at any time
 * @in_count, @out_count: at most HK_FUSE_MAX_SEGMENTS
 * @out: room for the reply, header first; what it points to is not written beyond what is returned,
 * but for data of a READ that then failed
 *
 * Blocks for as long as the host's file system does, never for a lock: locks are the guest kernel's
 * own (server.c says why). Any thread.
 *
 * Return: bytes of reply, 0 for requests that have none (FORGET); -EPROTO where the request is no
 * FUSE message or @out has no room for a header: the transport then goes to needs-reset.
 */
ssize_t hk_fuse_handle(struct hk_fuse_server *server, const struct iovec *in, unsigned in_count,
	struct iovec *out, unsigned out_count);

/** hk_fuse_server_reset() - the guest is gone or starts anew: forget all nodes and handles. No
 * request runs. */
void hk_fuse_server_reset(struct hk_fuse_server *server);

/*
 * Nodes, handles and negotiated features, so that a restored guest goes on with the nodeids it
 * holds. A file that cannot be found again on restore gives ESTALE to the guest, and is named in
 * the debug log.
 */
void hk_fuse_server_save(struct hk_fuse_server *server, struct hk_writer *w);
void hk_fuse_server_restore(struct hk_fuse_server *server, struct hk_reader *r);

#endif
