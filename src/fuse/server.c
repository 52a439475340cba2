/* SPDX-License-Identifier: ISC */
/*
 * The FUSE server: exports, INIT and dispatch. server.h is its contract.
 *
 * Theory: a request is parsed (proto.c), found in a table by its opcode, and given to its handler,
 * which takes its arguments, pins the nodes it names (node.c), asks the rules of the export
 * (policy.c), and calls the backend. Handlers run in the caller's thread, several at a time, and
 * hold no lock while the backend works.
 *
 * What INIT asks for, and why:
 * - PARALLEL_DIROPS, ASYNC_READ, ASYNC_DIO, MAX_PAGES (1 MiB requests), ATOMIC_O_TRUNC,
 * DO_READDIRPLUS with _AUTO, CACHE_SYMLINKS: fewer requests, or several at a time.
 * - HANDLE_KILLPRIV_V2: else every write(2) asks for security.capability first.
 * - AUTO_INVAL_DATA: the guest drops cached data when it sees another mtime. Together with
 * attributes that hold a second, and FOPEN_KEEP_CACHE only if the file is what the guest was told
 * last, an edit on the host is seen at the next open.
 * - NO_OPENDIR_SUPPORT, and ENOSYS to OPENDIR: listings are cached and need no OPENDIR and
 * RELEASEDIR. FLUSH and ACCESS get ENOSYS, too: data is written through, and the guest's kernel
 * checks modes.
 * - PASSTHROUGH where the transport has it (pass.c): data of files goes past us.
 * - No WRITEBACK_CACHE: it excludes passthrough; and with it a guest never takes over size and
 * mtime of a file it knows, so what the host appends would stay invisible. It could be offered to
 * boxes whose tree nobody else writes to.
 * - No POSIX_LOCKS, no FLOCK_LOCKS: then the guest's kernel keeps all locks itself, complete with
 * waiting, deadlock detection and signals, at no cost. Sent to us, a wait would hold up a queue,
 * and as virtio-fs passes no INTERRUPT, a process that waits could not even be killed. The price:
 * processes of the host do not see them.
 * - POSIX_ACL only if asked for: a guest would enforce host ACLs with the wrong ids. No
 * EXPORT_SUPPORT: "." and ".." are never looked up. No SUBMOUNTS: dentries that mount on access
 * cannot be lower layers of an overlay; inode numbers of different devices are kept apart instead
 * (policy.c).
 *
 * Limits: 64 exports; 4 million nodes; open files by RLIMIT_NOFILE (hk_host_fd_limit()).
 */
#include "fuse/server.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/log.h"
#include "base/util.h"
#include "fuse/dax.h"
#include "fuse/server_impl.h"

HK_LOG_CHANNEL("fuse");

#define FEATURES_WANTED \
	(FUSE_ASYNC_READ | FUSE_ATOMIC_O_TRUNC | FUSE_BIG_WRITES | FUSE_AUTO_INVAL_DATA | \
		FUSE_DO_READDIRPLUS | FUSE_READDIRPLUS_AUTO | FUSE_ASYNC_DIO | \
		FUSE_PARALLEL_DIROPS | FUSE_MAX_PAGES | FUSE_CACHE_SYMLINKS | \
		FUSE_NO_OPENDIR_SUPPORT | FUSE_HANDLE_KILLPRIV_V2 | FUSE_INIT_EXT)

/* The umask comes with each creation, because a default ACL takes its place. */
#define FEATURES_OF_ACLS (FUSE_POSIX_ACL | FUSE_DONT_MASK | FUSE_SETXATTR_EXT)

/* Files may be passed through to an overlayfs (depth 1), too, as the root of a container is. */
enum { STACK_DEPTH = 2 };

static void set_fd_limit(struct hk_fuse_server *server, unsigned limit)
{
	server->fds.limit = limit;
	server->fds.handle_limit = limit - limit / 4;
}

int hk_fuse_server_create(
	struct hk_fuse_owner *owner, struct hk_fuse_server **ret_server, struct hk_err *err)
{
	struct hk_fuse_server *server;
	struct hk_node *root;
	struct hk_stat st;
	unsigned limit = hk_host_fd_limit();

	if (hk_new(server) == NULL) {
		return hk_fail(err, ENOMEM, "file server");
	}
	server->owner = owner;
	server->answers = hk_answers_new();
	if (server->answers == NULL) {
		free(server);
		return hk_fail(err, ENOMEM, "file server");
	}
	set_fd_limit(server, limit);
	clock_gettime(CLOCK_REALTIME, &server->started);
	if (hk_nodes_init(&server->nodes, &server->fds) < 0) {
		hk_answers_free(server->answers);
		free(server);
		return hk_fail(err, ENOMEM, "file server");
	}
	hk_handles_init(&server->handles, &server->nodes);
	hk_dirs_init(&server->dirs, &server->nodes, HK_MIN((unsigned)HK_DIRS_KEPT, limit / 8));
	pthread_mutex_init(&server->devices_lock, NULL);
	hk_root_stat(server, &st);
	if (hk_nodes_add_root(&server->nodes, NULL, &st, &root) < 0) {
		hk_fuse_server_destroy(server);
		return hk_fail(err, ENOMEM, "file server");
	}
	assert(hk_node_id(root) == FUSE_ROOT_ID);
	hk_host_prepare();
	*ret_server = server;
	return 0;
}

void hk_fuse_server_set_transport(
	struct hk_fuse_server *server, struct hk_fuse_transport *transport)
{
	server->transport = transport;
	server->nodes.transport = transport;
}

/*
 * Files that nobody has closed: when a mount goes, the kernel drops what it had yet to say. No
 * request runs.
 */
static void tell_of_open_files(struct hk_fuse_server *server)
{
	struct hk_handle *h;
	uint32_t cursor = 1;

	while ((h = hk_handles_each(&server->handles, &cursor)) != NULL) {
		if (h->dir == NULL && h->file >= 0 && h->node->export->audit != NULL) {
			hk_judge_closed(server, h);
		}
	}
}

void hk_fuse_server_destroy(struct hk_fuse_server *server)
{
	if (server == NULL) {
		return;
	}
	tell_of_open_files(server);
	hk_dirs_finish(&server->dirs);
	hk_handles_release_all(&server->handles);
	hk_handles_finish(&server->handles);
	hk_nodes_finish(&server->nodes);
	for (unsigned i = 0; i < server->export_count; i++) {
		struct hk_export *export = &server->exports[i];

		export->backend->ops->destroy(export->backend);
		free(export->root);
		free(export->name);
	}
	hk_dax_free(server->dax);
	hk_answers_free(server->answers);
	pthread_mutex_destroy(&server->devices_lock);
	free(server);
}

static bool wants_long_cache(const struct hk_fuse_export *config)
{
	if (config->cache == HK_FUSE_CACHE_AUTO) {
		return config->read_only && config->public_only;
	}
	return config->cache == HK_FUSE_CACHE_LONG;
}

/* Where the export's root is for rules and audit: "/usr/" and "/usr" are "/usr", "/" is "". */
static int set_root(struct hk_export *export, const char *path)
{
	size_t len = strlen(path);
	hk_name part;

	while (len > 0 && path[len - 1] == '/') {
		len--;
	}
	export->root = hk_calloc(1, len + 1);
	if (export->root == NULL) {
		return -ENOMEM;
	}
	memcpy(export->root, path, len);
	if (export->rules == NULL) {
		return 0;
	}
	export->root_place = hk_rules_root(export->rules);
	for (const char *at = export->root; *at == '/'; at += strcspn(at, "/")) {
		size_t part_len = strcspn(++at, "/");

		if (part_len >= sizeof(part)) {
			return -ENAMETOOLONG;
		}
		memcpy(part, at, part_len);
		part[part_len] = '\0';
		export->root_place = hk_rules_step(export->rules, export->root_place, part);
	}
	return 0;
}

static int check_export(
	struct hk_fuse_server *server, const struct hk_fuse_export *config, struct hk_err *err)
{
	if (hk_name_check(config->name) < 0) {
		return hk_fail_msg(err, EINVAL, "export '%s': not a file name", config->name);
	}
	for (unsigned i = 0; i < server->export_count; i++) {
		if (strcmp(server->exports[i].name, config->name) == 0) {
			return hk_fail(err, EEXIST, "export '%s'", config->name);
		}
	}
	if (server->export_count == HK_FUSE_MAX_EXPORTS) {
		return hk_fail_msg(err, ENOSPC, "export '%s': there are %u already", config->name,
			(unsigned)HK_FUSE_MAX_EXPORTS);
	}
	return 0;
}

static struct hk_export export_of(const struct hk_fuse_export *config, unsigned index)
{
	return (struct hk_export){
		.index = index,
		.backend = config->backend,
		.read_only = config->read_only,
		.public_only = config->public_only,
		.map_ids = config->map_ids,
		.lone_user = config->lone_user,
		.acls = config->acls,
		.dax = config->dax,
		.long_cache = wants_long_cache(config),
		.host_uid = config->host_uid,
		.guest_uid = config->guest_uid,
		.host_gid = config->host_gid,
		.guest_gid = config->guest_gid,
		.groups = config->groups,
		.group_count = config->group_count,
		.rules = config->rules,
		.audit = config->audit,
		.place_epoch = 1,
	};
}

/*
 * Its name, and its root in the table of nodes. What was made of it is the caller's, also on
 * failure.
 */
static int enter_export(struct hk_fuse_server *server, struct hk_export *export,
	const struct hk_fuse_export *config)
{
	struct hk_stat st;
	int r = export->backend->ops->stat(export->backend, export->backend->root, &st);

	if (r == 0) {
		export->name = hk_strdup(config->name);
		r = export->name == NULL ? -ENOMEM : 0;
	}
	if (r == 0) {
		r = set_root(export, config->root != NULL ? config->root : "/");
	}
	if (r == 0) {
		r = hk_nodes_add_root(&server->nodes, export, &st, &export->node);
	}
	if (r == 0) {
		/* So that the first exports' numbers are the host's. */
		hk_guest_ino(server, st.dev, st.ino);
	}
	return r;
}

int hk_fuse_server_export(
	struct hk_fuse_server *server, const struct hk_fuse_export *config, struct hk_err *err)
{
	struct hk_export *export;
	int r = check_export(server, config, err);

	if (r < 0) {
		if (config->backend != NULL) {
			config->backend->ops->destroy(config->backend);
		}
		return r;
	}
	export = &server->exports[server->export_count];
	*export = export_of(config, server->export_count);
	if (export->backend == NULL) {
		r = hk_host_open(config->path, &export->backend, err);
		if (r < 0) {
			return r;
		}
	}
	if (export->backend->fds_each > 1) {
		/* One for the other: as if all exports were of this kind. */
		set_fd_limit(server,
			HK_MIN(server->fds.limit, hk_host_fd_limit() / export->backend->fds_each));
	}
	r = enter_export(server, export, config);
	if (r < 0) {
		free(export->root);
		free(export->name);
		export->backend->ops->destroy(export->backend);
		return hk_fail(err, -r, "'%s'", config->path);
	}
	server->export_count++;
	return 0;
}

/* No request runs, or (DESTROY) those that do keep what they have pinned. */
static void forget_everything(struct hk_fuse_server *server)
{
	hk_dax_drop_all(server);
	hk_dirs_drop_all(&server->dirs);
	hk_handles_release_all(&server->handles);
	hk_nodes_forget_all(&server->nodes);
}

void hk_fuse_server_reset(struct hk_fuse_server *server)
{
	tell_of_open_files(server);
	forget_everything(server);
	atomic_store(&server->minor, 0);
	atomic_store(&server->features, 0);
}

int hk_ref_get(struct hk_fuse_server *server, uint64_t nodeid, struct hk_ref *ref)
{
	*ref = (struct hk_ref){.node = hk_nodes_get(&server->nodes, nodeid), .obj = -1};
	if (ref->node == NULL) {
		return -ESTALE;
	}
	if (ref->node->export == NULL) {
		return 0;
	}
	ref->obj = hk_node_obj(&server->nodes, ref->node, &ref->handle);
	return ref->obj < 0 ? ref->obj : 0;
}

int hk_ref_get_real(struct hk_fuse_server *server, uint64_t nodeid, struct hk_ref *ref)
{
	int r = hk_ref_get(server, nodeid, ref);

	return r == 0 && ref->node->export == NULL ? -EROFS : r;
}

void hk_ref_put(struct hk_fuse_server *server, struct hk_ref *ref)
{
	hk_handle_put(&server->handles, ref->handle);
	hk_node_put(&server->nodes, ref->node);
}

static uint64_t features_wanted(const struct hk_fuse_server *server)
{
	uint64_t wanted = FEATURES_WANTED | FEATURES_OF_ACLS;

	for (unsigned i = 0; i < server->export_count; i++) {
		if (!server->exports[i].acls) {
			wanted &= ~(uint64_t)FEATURES_OF_ACLS;
		}
	}
	if (server->transport != NULL && server->transport->backing_open != NULL) {
		wanted |= FUSE_PASSTHROUGH;
	}
	if (server->dax != NULL) {
		wanted |= FUSE_MAP_ALIGNMENT | FUSE_HAS_INODE_DAX;
	}
	return wanted & ~server->left_out;
}

void hk_fuse_server_leave_out(struct hk_fuse_server *server, uint64_t features)
{
	server->left_out = features;
}

static int op_init(struct hk_fuse_server *server, struct hk_req *req)
{
	/* The fields of 7.31, which all that we speak to have; the rest is read if it is there. */
	enum { OLD_SIZE = offsetof(struct fuse_init_in, flags2) };
	struct fuse_init_in in = {0};
	struct fuse_init_out out = {.major = FUSE_KERNEL_VERSION};
	uint64_t offered;
	uint64_t features;

	if (hk_req_take(req, &in, OLD_SIZE) < 0) {
		return -EPROTO;
	}
	if (in.major > FUSE_KERNEL_VERSION) {
		out.minor = HK_FUSE_MINOR; /* it comes again with our major */
		return hk_req_put(req, &out, sizeof(out));
	}
	if (in.major < FUSE_KERNEL_VERSION || in.minor < HK_FUSE_MIN_MINOR) {
		hk_log_debug("guest speaks protocol %u.%u, too old", in.major, in.minor);
		return -EPROTO;
	}
	offered = in.flags;
	if ((in.flags & FUSE_INIT_EXT) != 0 &&
		hk_req_take(req, &in.flags2, sizeof(in.flags2)) == 0) {
		offered |= (uint64_t)in.flags2 << 32;
	}
	features = offered & features_wanted(server);
	forget_everything(server); /* of an earlier mount */
	out.minor = HK_MIN(in.minor, (uint32_t)HK_FUSE_MINOR);
	out.max_readahead = in.max_readahead;
	out.flags = (uint32_t)features;
	out.flags2 = (uint32_t)(features >> 32);
	out.max_background = 256;
	out.congestion_threshold = 192;
	out.max_write = HK_FUSE_MAX_WRITE;
	out.max_pages = HK_FUSE_MAX_PAGES;
	out.time_gran = 1;
	if ((features & FUSE_PASSTHROUGH) != 0) {
		hk_fuse_put_u32(&out, HK_FUSE_INIT_OUT_STACK_DEPTH, STACK_DEPTH);
	}
	if ((features & FUSE_MAP_ALIGNMENT) != 0) {
		out.map_alignment = HK_DAX_SLOT_SHIFT;
	}
	atomic_store(&server->features, features);
	atomic_store(&server->minor, out.minor);
	return hk_req_put(req, &out, sizeof(out));
}

static int op_destroy(struct hk_fuse_server *server, struct hk_req *req)
{
	forget_everything(server);
	return 0;
}

static int op_ioctl(struct hk_fuse_server *server, struct hk_req *req)
{
	return -ENOTTY;
}

/**
 * struct op - one opcode
 * @payload: bytes the reply must have room for; so nothing is done whose result could not be told
 */
struct op {
	const char *name;
	hk_handler_fn *handle;
	size_t payload;
};

/* What is not here gets ENOSYS, which the guest's kernel remembers: FLUSH, ACCESS, BMAP, POLL,
 * locks, INTERRUPT. */
static const struct op ops[] = {
	[FUSE_LOOKUP] = {"LOOKUP", hk_op_lookup, sizeof(struct fuse_entry_out)},
	[FUSE_FORGET] = {"FORGET", hk_op_forget, 0},
	[FUSE_GETATTR] = {"GETATTR", hk_op_getattr, sizeof(struct fuse_attr_out)},
	[FUSE_SETATTR] = {"SETATTR", hk_op_setattr, sizeof(struct fuse_attr_out)},
	[FUSE_READLINK] = {"READLINK", hk_op_readlink, 0},
	[FUSE_SYMLINK] = {"SYMLINK", hk_op_symlink, sizeof(struct fuse_entry_out)},
	[FUSE_MKNOD] = {"MKNOD", hk_op_mknod, sizeof(struct fuse_entry_out)},
	[FUSE_MKDIR] = {"MKDIR", hk_op_mkdir, sizeof(struct fuse_entry_out)},
	[FUSE_UNLINK] = {"UNLINK", hk_op_unlink, 0},
	[FUSE_RMDIR] = {"RMDIR", hk_op_rmdir, 0},
	[FUSE_RENAME] = {"RENAME", hk_op_rename, 0},
	[FUSE_LINK] = {"LINK", hk_op_link, sizeof(struct fuse_entry_out)},
	[FUSE_OPEN] = {"OPEN", hk_op_open, sizeof(struct fuse_open_out)},
	[FUSE_READ] = {"READ", hk_op_read, 0},
	[FUSE_WRITE] = {"WRITE", hk_op_write, sizeof(struct fuse_write_out)},
	[FUSE_STATFS] = {"STATFS", hk_op_statfs, sizeof(struct fuse_statfs_out)},
	[FUSE_RELEASE] = {"RELEASE", hk_op_release, 0},
	[FUSE_FSYNC] = {"FSYNC", hk_op_fsync, 0},
	[FUSE_SETXATTR] = {"SETXATTR", hk_op_setxattr, 0},
	[FUSE_GETXATTR] = {"GETXATTR", hk_op_getxattr, 0},
	[FUSE_LISTXATTR] = {"LISTXATTR", hk_op_listxattr, 0},
	[FUSE_REMOVEXATTR] = {"REMOVEXATTR", hk_op_removexattr, 0},
	[FUSE_INIT] = {"INIT", op_init, sizeof(struct fuse_init_out)},
	[FUSE_OPENDIR] = {"OPENDIR", hk_op_opendir, sizeof(struct fuse_open_out)},
	[FUSE_READDIR] = {"READDIR", hk_op_readdir, 0},
	[FUSE_RELEASEDIR] = {"RELEASEDIR", hk_op_release, 0},
	[FUSE_FSYNCDIR] = {"FSYNCDIR", hk_op_fsyncdir, 0},
	[FUSE_CREATE] = {"CREATE", hk_op_create,
		sizeof(struct fuse_entry_out) + sizeof(struct fuse_open_out)},
	[FUSE_DESTROY] = {"DESTROY", op_destroy, 0},
	[FUSE_IOCTL] = {"IOCTL", op_ioctl, 0},
	[FUSE_BATCH_FORGET] = {"BATCH_FORGET", hk_op_batch_forget, 0},
	[FUSE_FALLOCATE] = {"FALLOCATE", hk_op_fallocate, 0},
	[FUSE_READDIRPLUS] = {"READDIRPLUS", hk_op_readdirplus, 0},
	[FUSE_RENAME2] = {"RENAME2", hk_op_rename2, 0},
	[FUSE_LSEEK] = {"LSEEK", hk_op_lseek, sizeof(struct fuse_lseek_out)},
	[FUSE_COPY_FILE_RANGE] = {"COPY_FILE_RANGE", hk_op_copy_file_range,
		sizeof(struct fuse_write_out)},
	[FUSE_SYNCFS] = {"SYNCFS", hk_op_syncfs, 0},
	[FUSE_TMPFILE] = {"TMPFILE", hk_op_tmpfile,
		sizeof(struct fuse_entry_out) + sizeof(struct fuse_open_out)},
	[FUSE_SETUPMAPPING] = {"SETUPMAPPING", hk_op_setupmapping, 0},
	[FUSE_REMOVEMAPPING] = {"REMOVEMAPPING", hk_op_removemapping, 0},
};

const char *hk_fuse_op_name(uint32_t opcode)
{
	return opcode < HK_ARRAY_SIZE(ops) ? ops[opcode].name : NULL;
}

static bool has_no_reply(uint32_t opcode)
{
	return opcode == FUSE_FORGET || opcode == FUSE_BATCH_FORGET;
}

static int dispatch(struct hk_fuse_server *server, struct hk_req *req)
{
	uint32_t opcode = req->head.opcode;
	const struct op *op = opcode < HK_ARRAY_SIZE(ops) ? &ops[opcode] : NULL;
	int r;

	if (op == NULL || op->handle == NULL) {
		return -ENOSYS;
	}
	if (atomic_load_explicit(&server->minor, memory_order_relaxed) == 0 &&
		opcode != FUSE_INIT) {
		return has_no_reply(opcode) ? HK_REQ_NO_REPLY : -EIO;
	}
	if (hk_req_room(req) < op->payload) {
		return -ERANGE;
	}
	r = op->handle(server, req);
	hk_log_trace("%s node %#llx: %d", op->name, (unsigned long long)req->head.nodeid, r);
	/* The limit is the monitor's, not that of the process that asked. */
	return r == -EMFILE ? -ENFILE : r;
}

ssize_t hk_fuse_handle(struct hk_fuse_server *server, const struct iovec *in, unsigned in_count,
	struct iovec *out, unsigned out_count)
{
	struct hk_req req;
	int r;

	if (in_count > HK_FUSE_MAX_SEGMENTS || out_count > HK_FUSE_MAX_SEGMENTS) {
		return -EPROTO;
	}
	r = hk_req_parse(&req, in, in_count, out, out_count);
	if (r < 0) {
		return r;
	}
	if (!req.can_reply && !has_no_reply(req.head.opcode)) {
		return -EPROTO;
	}
	return (ssize_t)hk_req_finish(&req, dispatch(server, &req));
}
