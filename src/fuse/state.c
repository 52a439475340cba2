/* SPDX-License-Identifier: ISC */
/*
 * Save and restore of the FUSE server.
 *
 * Theory: what the guest holds are numbers: nodeids with their lookup counts, and handles. Saved is
 * what leads to them again: for a node its export, parent and name, with device, inode and time of
 * birth; for a handle its node and flags. Parents come before their children, so a stream cannot
 * describe a loop. On restore each node is looked for where it was and must be the same inode; else
 * it is stale, and the guest gets ESTALE. Device numbers change when a host restarts: they are
 * compared by what they are relative to the root of the export.
 *
 * Limits: a listing goes on at its position in a newly opened directory. Files that were open and
 * have no name any more (O_TMPFILE, unlinked) are lost. What was open and may not be opened now, as
 * the rules see it, is lost, too: it was moved meanwhile, or somebody was asked, who is not asked
 * again.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/log.h"
#include "base/str.h"
#include "fuse/dax.h"
#include "fuse/server_impl.h"

HK_LOG_CHANNEL("fuse");

enum { STATE_VERSION = 2, MAPPINGS_SINCE = 2 };

/* Written once for each handle that is a listing. */
enum { HANDLE_IS_DIR = 1u << 31 };

static uint64_t id_of(const struct hk_node *node)
{
	return node == NULL ? 0 : hk_node_id(node);
}

static void save_node(struct hk_writer *w, const struct hk_node *node)
{
	hk_write_u8(w, 1);
	hk_write_u64(w, hk_node_id(node));
	hk_write_u64(w, node->lookups);
	hk_write_u32(w, node->export->index);
	hk_write_u64(w, id_of(node->parent));
	hk_write_blob(w, node->name, node->name == NULL ? 0 : strlen(node->name));
	hk_write_u64(w, node->dev);
	hk_write_u64(w, node->ino);
	hk_write_u64(w, (uint64_t)node->born_ns);
	hk_write_u32(w, node->mode);
	hk_write_u8(w, node->stale);
}

static bool is_fixed(const struct hk_node *node)
{
	return node->export == NULL || node == node->export->node;
}

/* Writes @node after its ancestors that are not written yet. @path has room for all nodes. */
static void save_with_parents(struct hk_writer *w, const struct hk_node *node, uint8_t *written,
	const struct hk_node **path)
{
	size_t count = 0;

	for (; node != NULL && !written[node->index]; node = node->parent) {
		written[node->index] = 1;
		path[count++] = node;
	}
	while (count > 0) {
		save_node(w, path[--count]);
	}
}

static void save_nodes(struct hk_fuse_server *server, struct hk_writer *w)
{
	uint32_t end = hk_nodes_end(&server->nodes);
	autofree uint8_t *written = hk_calloc(end, 1);
	autofree const struct hk_node **path = hk_calloc(end, sizeof(struct hk_node *));

	if (written == NULL || path == NULL) {
		w->error = -ENOMEM;
		return;
	}
	for (uint32_t i = HK_NODE_ROOT; i < end; i++) {
		struct hk_node *node = hk_nodes_at(&server->nodes, i);

		if (node != NULL && is_fixed(node)) {
			written[i] = 1;
		}
	}
	for (uint32_t i = HK_NODE_ROOT; i < end; i++) {
		struct hk_node *node = hk_nodes_at(&server->nodes, i);

		if (node != NULL && node->used) {
			save_with_parents(w, node, written, path);
		}
	}
	hk_write_u8(w, 0);
}

static void save_handles(struct hk_fuse_server *server, struct hk_writer *w)
{
	uint32_t cursor = 0;
	struct hk_handle *h;

	while ((h = hk_handles_each(&server->handles, &cursor)) != NULL) {
		hk_write_u8(w, 1);
		hk_write_u64(w, hk_handle_fh(h));
		hk_write_u64(w, h->nodeid);
		hk_write_u32(w, (h->flags & ~HANDLE_IS_DIR) | (h->dir != NULL ? HANDLE_IS_DIR : 0));
		hk_write_u64(w, h->dir != NULL ? h->dir->position : 0);
	}
	hk_write_u8(w, 0);
}

static void save_mappings(struct hk_fuse_server *server, struct hk_writer *w)
{
	struct hk_dax_mapping mapping;
	uint32_t cursor = 0;

	while (hk_dax_next(server, &cursor, &mapping)) {
		hk_write_u8(w, 1);
		hk_write_u32(w, mapping.slot);
		hk_write_u32(w, mapping.len);
		hk_write_u64(w, mapping.nodeid);
		hk_write_u64(w, mapping.offset);
		hk_write_u8(w, mapping.writable);
	}
	hk_write_u8(w, 0);
}

void hk_fuse_server_save(struct hk_fuse_server *server, struct hk_writer *w)
{
	size_t mark = hk_writer_begin(w, "fuse", STATE_VERSION);

	hk_write_u32(w, atomic_load(&server->minor));
	hk_write_u64(w, atomic_load(&server->features));
	hk_write_u32(w, server->export_count);
	for (unsigned i = 0; i < server->export_count; i++) {
		const struct hk_export *export = &server->exports[i];

		hk_write_blob(w, export->name, strlen(export->name));
		hk_write_u64(w, hk_node_id(export->node));
		hk_write_u64(w, export->node->lookups);
		hk_write_u64(w, export->node->dev);
	}
	save_nodes(server, w);
	save_handles(server, w);
	save_mappings(server, w);
	hk_writer_end(w, mark);
}

/* A saved name. Return: 0, or -EPROTO. */
static int read_name(struct hk_reader *r, hk_name name)
{
	size_t len;
	const char *text = hk_read_blob(r, &len);

	if (len >= sizeof(hk_name)) {
		return -EPROTO;
	}
	if (len > 0) {
		memcpy(name, text, len);
	}
	name[len] = '\0';
	return strlen(name) == len ? 0 : -EPROTO;
}

/* The exports must be those of then, in the same order. @devices gets the device each root had. */
static void restore_exports(struct hk_fuse_server *server, struct hk_reader *r, uint64_t *devices)
{
	if (hk_read_u32(r) != server->export_count) {
		hk_reader_fail(r);
		return;
	}
	for (unsigned i = 0; i < server->export_count; i++) {
		struct hk_export *export = &server->exports[i];
		hk_name name;

		if (read_name(r, name) < 0 || strcmp(name, export->name) != 0 ||
			hk_read_u64(r) != hk_node_id(export->node)) {
			hk_reader_fail(r);
			return;
		}
		export->node->lookups = hk_read_u64(r);
		devices[i] = hk_read_u64(r);
	}
}

struct saved_node {
	uint64_t id, lookups, parent, dev, ino;
	int64_t born_ns;
	uint32_t export, mode;
	bool stale;
	hk_name name;
};

/* Looks for it where it was. Return: 0 with *@st, or -errno. */
static int find_saved(struct hk_fuse_server *server, const struct saved_node *saved,
	struct hk_node *parent, const uint64_t *devices, struct hk_stat *st)
{
	const struct hk_ref dir = {.node = parent};
	struct hk_export *export = &server->exports[saved->export];
	struct hk_handle *handle = NULL;
	uint64_t dev = saved->dev == devices[saved->export] ? export->node->dev : saved->dev;
	int obj;
	int r;

	if (saved->stale || parent == NULL) {
		return -ESTALE;
	}
	obj = hk_node_obj(&server->nodes, parent, &handle);
	r = obj < 0 ? obj : export->backend->ops->lookup(export->backend, obj, saved->name, st);
	hk_handle_put(&server->handles, handle);
	if (r < 0) {
		return r;
	}
	if (st->ino != saved->ino || st->dev != dev ||
		(st->mode & S_IFMT) != (saved->mode & S_IFMT) ||
		(st->born_ns != 0 && saved->born_ns != 0 && st->born_ns != saved->born_ns)) {
		return -ESTALE;
	}
	hk_judge_key(server, &dir, saved->name, st);
	return 0;
}

/* Return: 0, or -errno where the stream makes no sense. */
static int restore_node(
	struct hk_fuse_server *server, const struct saved_node *saved, const uint64_t *devices)
{
	struct hk_node *parent = NULL;
	struct hk_stat st;
	int found;
	int r;

	if (saved->export >= server->export_count) {
		return -EPROTO;
	}
	if (saved->parent != 0) {
		parent = hk_nodes_get(&server->nodes, saved->parent);
		if (parent == NULL || parent->export != &server->exports[saved->export] ||
			hk_name_check(saved->name) < 0) {
			hk_node_put(&server->nodes, parent);
			return -EPROTO;
		}
	}
	found = find_saved(server, saved, parent, devices, &st);
	if (found < 0) {
		char shown[80];

		hk_str_escape(shown, sizeof(shown), saved->name, strlen(saved->name));
		hk_log_debug("restore: '%s' of '%s' is not found again: %s", shown,
			server->exports[saved->export].name, strerror(-found));
	}
	r = hk_nodes_restore(&server->nodes, saved->id, &server->exports[saved->export], parent,
		saved->name, found == 0 ? &st : NULL, saved->lookups);
	hk_node_put(&server->nodes, parent);
	return r;
}

static void restore_nodes(
	struct hk_fuse_server *server, struct hk_reader *r, const uint64_t *devices)
{
	while (hk_read_u8(r) == 1) {
		struct saved_node saved;
		int result;

		saved.id = hk_read_u64(r);
		saved.lookups = hk_read_u64(r);
		saved.export = hk_read_u32(r);
		saved.parent = hk_read_u64(r);
		result = read_name(r, saved.name);
		saved.dev = hk_read_u64(r);
		saved.ino = hk_read_u64(r);
		saved.born_ns = (int64_t)hk_read_u64(r);
		saved.mode = hk_read_u32(r);
		saved.stale = hk_read_u8(r) != 0;
		if (r->error != 0 || result < 0 || restore_node(server, &saved, devices) < 0) {
			hk_reader_fail(r);
			return;
		}
	}
}

/* Do the rules let the guest open it so? What may be run may be opened to be read. */
static bool may_reopen(struct hk_fuse_server *server, struct hk_node *node, uint32_t flags)
{
	bool reads = (flags & O_ACCMODE) != O_WRONLY;
	bool writes = (flags & O_ACCMODE) != O_RDONLY;

	if ((flags & HANDLE_IS_DIR) != 0) {
		return hk_judge_allows(server, node, HK_CLASS_LIST);
	}
	if (writes && !hk_judge_allows(server, node, HK_CLASS_WRITE)) {
		return false;
	}
	return !reads || hk_judge_allows(server, node, HK_CLASS_READ) ||
		(!writes && hk_judge_allows(server, node, HK_CLASS_EXEC));
}

/* Opens what a handle had open. Return: a file, or -errno; with *@ret_dir for a listing. */
static int reopen(struct hk_fuse_server *server, struct hk_node *node, uint32_t flags,
	uint64_t position, struct hk_dir **ret_dir)
{
	struct hk_backend *backend = node->export->backend;
	struct hk_handle *handle = NULL;
	struct hk_stat st;
	int file = -EACCES;

	if (may_reopen(server, node, flags)) {
		file = hk_node_obj(&server->nodes, node, &handle);
	}
	if (file >= 0 && (flags & HANDLE_IS_DIR) != 0) {
		file = hk_dir_open(&server->nodes, backend, file, hk_node_id(node), ret_dir);
		if (file == 0) {
			file = hk_dir_seek(*ret_dir, position);
			file = file < 0 ? file : (*ret_dir)->file;
		}
		if (file < 0) {
			hk_dir_close(&server->nodes, *ret_dir);
			*ret_dir = NULL;
		}
	} else if (file >= 0) {
		int obj = file;

		file = backend->ops->stat(backend, obj, &st);
		if (file == 0 && !S_ISREG(st.mode)) {
			file = -ESTALE;
		}
		if (file == 0 && node->export->public_only && (st.mode & S_IROTH) == 0) {
			file = -EACCES;
		}
		if (file == 0) {
			file = hk_fds_reserve(&server->nodes, true);
		}
		if (file == 0) {
			file = backend->ops->open(backend, obj,
				(int)(flags & (O_ACCMODE | O_SYNC | O_DSYNC | O_NOATIME)));
			if (file < 0) {
				hk_fds_release(&server->nodes, true);
			}
		}
	}
	hk_handle_put(&server->handles, handle);
	return file;
}

static int restore_handle(struct hk_fuse_server *server, uint64_t fh, uint64_t nodeid,
	uint32_t flags, uint64_t position)
{
	struct hk_node *node = hk_nodes_get(&server->nodes, nodeid);
	struct hk_dir *dir = NULL;
	int file = -1;
	int r = -EPROTO;

	if (node != NULL && node->export != NULL) {
		bool writes = (flags & HANDLE_IS_DIR) == 0 && (flags & O_ACCMODE) != O_RDONLY;

		/* A stream may come from anywhere: it opens no more than the guest could. */
		if (!writes || !node->export->read_only) {
			file = reopen(server, node, flags, position, &dir);
			r = hk_handles_restore(&server->handles, node, file < 0 ? -1 : file, dir,
				flags & ~HANDLE_IS_DIR, fh);
		}
	}
	if (r < 0 && dir != NULL) {
		hk_dir_close(&server->nodes, dir);
	} else if (r < 0 && file >= 0) {
		node->export->backend->ops->close(node->export->backend, file);
		hk_fds_release(&server->nodes, true);
	}
	hk_node_put(&server->nodes, node);
	return r;
}

static void restore_handles(struct hk_fuse_server *server, struct hk_reader *r)
{
	while (hk_read_u8(r) == 1) {
		uint64_t fh = hk_read_u64(r);
		uint64_t nodeid = hk_read_u64(r);
		uint32_t flags = hk_read_u32(r);
		uint64_t position = hk_read_u64(r);

		if (r->error != 0 || restore_handle(server, fh, nodeid, flags, position) < 0) {
			hk_reader_fail(r);
			return;
		}
	}
}

/* The guest goes on using what it has mapped: what is not found again shows as zeroes. */
static int restore_mapping(struct hk_fuse_server *server, const struct hk_dax_mapping *mapping)
{
	struct hk_node *node = hk_nodes_get(&server->nodes, mapping->nodeid);
	struct hk_export *export = node != NULL ? node->export : NULL;
	struct hk_backend *backend = export != NULL ? export->backend : NULL;
	struct hk_dir *dir = NULL;
	int file = -ESTALE;
	int r;

	/* A stream may come from anywhere: it maps no more than the guest could. */
	if (export != NULL && export->dax && (!mapping->writable || !export->read_only)) {
		file = reopen(server, node, mapping->writable ? O_RDWR : O_RDONLY, 0, &dir);
	}
	if (file < 0) {
		hk_log_debug("restore: what is mapped in slot %u is not found again: %s",
			mapping->slot, strerror(-file));
	}
	r = hk_dax_put_back(server, mapping, backend, file);
	if (file >= 0) {
		backend->ops->close(backend, file);
		hk_fds_release(&server->nodes, true);
	}
	hk_node_put(&server->nodes, node);
	return r;
}

static void restore_mappings(struct hk_fuse_server *server, struct hk_reader *r)
{
	while (hk_read_u8(r) == 1) {
		struct hk_dax_mapping mapping = {0};

		mapping.slot = hk_read_u32(r);
		mapping.len = hk_read_u32(r);
		mapping.nodeid = hk_read_u64(r);
		mapping.offset = hk_read_u64(r);
		mapping.writable = hk_read_u8(r) != 0;
		if (r->error != 0 || restore_mapping(server, &mapping) < 0) {
			hk_reader_fail(r);
			return;
		}
	}
}

void hk_fuse_server_restore(struct hk_fuse_server *server, struct hk_reader *r)
{
	struct hk_section section = hk_reader_begin(r, "fuse", STATE_VERSION);
	uint64_t devices[HK_FUSE_MAX_EXPORTS] = {0};
	uint32_t minor = hk_read_u32(r);
	uint64_t features = hk_read_u64(r);

	hk_fuse_server_reset(server);
	if (minor != 0 && (minor < HK_FUSE_MIN_MINOR || minor > HK_FUSE_MINOR)) {
		hk_reader_fail(r);
	}
	if (r->error == 0) {
		restore_exports(server, r, devices);
	}
	if (r->error == 0) {
		restore_nodes(server, r, devices);
	}
	hk_nodes_restored(&server->nodes);
	if (r->error == 0) {
		restore_handles(server, r);
	}
	hk_handles_restored(&server->handles);
	if (r->error == 0 && section.version >= MAPPINGS_SINCE) {
		restore_mappings(server, r);
	}
	if (r->error == 0) {
		atomic_store(&server->minor, minor);
		atomic_store(&server->features, features);
	} else {
		hk_fuse_server_reset(server);
	}
	hk_reader_end(r, section);
}
