/* SPDX-License-Identifier: ISC */
/*
 * SETUPMAPPING and REMOVEMAPPING: see dax.h.
 *
 * Theory: a mapping is a right that outlives the request, so it is given only where an open file
 * has it. Linux names no handle (it asks for a range of an inode, for whoever has it open), so one
 * is looked for among those the node has: any for reading; for writing one that was opened to be
 * written to. Each was judged and told to the audit when it was opened. As with a mapping of the
 * host's own, closing the file takes nothing back.
 *
 * Memory of the guest's that is not there is nothing KVM can go on with. That happens to an honest
 * guest where somebody else cuts a file short: the guest still believes in the pages behind its new
 * end. If the guest has interrupts off, KVM_RUN fails with EFAULT; else KVM believes that the page
 * is on its way, and has the CPU try again, for ever (asynchronous page faults, Linux 6.1 to 6.18).
 * So whoever runs the guest asks us to mend the window after the one, and every second because of
 * the other: of each file, the pages that are gone and that the guest believes in get memory of
 * their own, zeroes, until the file is opened again. Pages behind what the guest knows as the end
 * stay the file's, for it may grow into them. What the guest itself must not do (write to what it
 * has for reading, touch what it has not mapped) is not mended.
 *
 * Bounds: a slot is one mapping of the host, three if it was mended.
 *
 * Limits: who writes into a hole of a file on a full disk waits until there is room. A file's mtime
 * is that of the first write to each 2 MiB of it, or later where the host's file system notes
 * writes to mappings (tmpfs does not); set-id bits that it gets while it is mapped to be written
 * survive a write.
 */
#include "fuse/dax.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/alloc.h"
#include "base/log.h"
#include "base/str.h"
#include "base/util.h"

HK_LOG_CHANNEL("fuse");

enum { PAGE = 4096, SLOT_BYTES = 1 << HK_DAX_SLOT_SHIFT, PATH_BYTES = 512 };

/**
 * struct slot - what a slot shows
 * @nodeid: 0: nothing. It may be that of a node forgotten meanwhile
 * @offset: in the file
 * @len: bytes from the slot's start on, whole pages
 * @mended: a part of it is not the file's
 * @suspect: the file was shorter than the guest believes, when it was last looked at
 */
struct slot {
	uint64_t nodeid;
	uint64_t offset;
	uint32_t len;
	bool writable;
	bool mended;
	bool suspect;
};

/**
 * struct hk_dax - the window
 * @lock: over all but @window, and taken before a node's
 * @mended: slots that are
 */
struct hk_dax {
	uint8_t *window;
	pthread_mutex_t lock;
	unsigned slot_count;
	atomic_uint mended;
	bool told; /* the user, that something was mended */
	struct slot slots[];
};

int hk_fuse_server_set_window(
	struct hk_fuse_server *server, void *host, uint64_t len_bytes, struct hk_err *err)
{
	uint64_t count = len_bytes / SLOT_BYTES;
	struct hk_dax *dax;

	assert(server->dax == NULL && (uintptr_t)host % PAGE == 0 && len_bytes % SLOT_BYTES == 0);
	dax = hk_calloc(1, sizeof(*dax) + count * sizeof(dax->slots[0]));
	if (dax == NULL) {
		return hk_fail(err, ENOMEM, "window for files");
	}
	pthread_mutex_init(&dax->lock, NULL);
	dax->window = host;
	dax->slot_count = (unsigned)count;
	server->dax = dax;
	return 0;
}

static uint8_t *memory_of(const struct hk_dax *dax, const struct slot *slot)
{
	return dax->window + (size_t)(slot - dax->slots) * SLOT_BYTES;
}

/* Return: 0, or -errno where the kernel has no memory for it: then all stays. */
static int empty_slot_locked(struct hk_dax *dax, struct slot *slot)
{
	int r = slot->nodeid == 0 ? 0 : hk_dax_unmap(memory_of(dax, slot), SLOT_BYTES);

	if (r == 0) {
		dax->mended -= slot->mended;
		*slot = (struct slot){0};
	}
	return r;
}

void hk_dax_drop_all(struct hk_fuse_server *server)
{
	struct hk_dax *dax = server->dax;

	if (dax == NULL) {
		return;
	}
	pthread_mutex_lock(&dax->lock);
	/* At once: one mapping in place of many always works. */
	hk_dax_unmap(dax->window, (size_t)dax->slot_count * SLOT_BYTES);
	memset(dax->slots, 0, dax->slot_count * sizeof(dax->slots[0]));
	dax->mended = 0;
	pthread_mutex_unlock(&dax->lock);
}

void hk_dax_free(struct hk_dax *dax)
{
	if (dax != NULL) {
		hk_dax_unmap(dax->window, (size_t)dax->slot_count * SLOT_BYTES);
		pthread_mutex_destroy(&dax->lock);
	}
	free(dax);
}

/* Rights */

/* Whoever may write through the window reads, too. */
static bool may_read(struct hk_fuse_server *server, struct hk_node *node)
{
	struct hk_rules *rules = node->export->rules;
	hk_place place;

	return rules == NULL || !hk_judge_place(server, node, &place) ||
		hk_rules_at(rules, place, HK_CLASS_READ).verdict == HK_VERDICT_ALLOW;
}

bool hk_dax_offers(struct hk_fuse_server *server, struct hk_node *node, uint32_t mode)
{
	return server->dax != NULL && node->export->dax && S_ISREG(mode) &&
		hk_fuse_has(server, FUSE_HAS_INODE_DAX) && may_read(server, node);
}

uint32_t hk_dax_open_flags(
	struct hk_fuse_server *server, struct hk_node *node, uint32_t mode, uint32_t flags)
{
	if ((flags & O_ACCMODE) == O_WRONLY && hk_dax_offers(server, node, mode)) {
		return (flags & ~(uint32_t)O_ACCMODE) | O_RDWR;
	}
	return flags;
}

static bool is_enough(const struct hk_handle *h, bool writable)
{
	return h->dir == NULL && h->file >= 0 && (!writable || (h->flags & O_ACCMODE) != O_RDONLY);
}

/* An open file that may be mapped so; to be put. Return: NULL where there is none. */
static struct hk_handle *find_handle(
	struct hk_fuse_server *server, struct hk_node *node, uint64_t fh, bool writable)
{
	struct hk_handle *h;

	if (fh != UINT64_MAX) {
		h = hk_handles_get(&server->handles, fh, hk_node_id(node));
		if (h != NULL && !is_enough(h, writable)) {
			hk_handle_put(&server->handles, h);
			h = NULL;
		}
		return h;
	}
	hk_node_lock(&server->nodes, node);
	for (h = node->handles; h != NULL; h = h->next) {
		if (is_enough(h, writable) && hk_handle_try_ref(h)) {
			break;
		}
	}
	hk_node_unlock(&server->nodes, node);
	return h;
}

/* SETUPMAPPING */

static int check_range(const struct hk_dax *dax, const struct fuse_setupmapping_in *in)
{
	const uint64_t known = FUSE_SETUPMAPPING_FLAG_WRITE | FUSE_SETUPMAPPING_FLAG_READ;

	if ((in->flags & known) == 0 || (in->flags & ~known) != 0 || in->len == 0 ||
		in->foffset % SLOT_BYTES != 0 || in->moffset % SLOT_BYTES != 0 ||
		!hk_range_within(in->moffset, in->len, (uint64_t)dax->slot_count * SLOT_BYTES) ||
		!hk_range_within(in->foffset, in->len, INT64_MAX - SLOT_BYTES)) {
		return -EINVAL;
	}
	return 0;
}

static int fill_slot_locked(struct hk_dax *dax, struct slot *slot, const struct slot *with, int fd)
{
	int r = 0;

	/* What the new mapping does not cover is not to show the old one. */
	if (with->len < slot->len) {
		r = empty_slot_locked(dax, slot);
	}
	if (r == 0) {
		r = hk_dax_map(memory_of(dax, slot), with->len, fd, with->offset, with->writable);
	}
	if (r == 0) {
		dax->mended -= slot->mended;
		*slot = *with;
	}
	return r;
}

/* All of it or nothing. */
static int set_up(
	struct hk_dax *dax, const struct fuse_setupmapping_in *in, uint64_t nodeid, int fd)
{
	struct slot *first = &dax->slots[in->moffset / SLOT_BYTES];
	unsigned count = (unsigned)((in->len + SLOT_BYTES - 1) / SLOT_BYTES);
	unsigned i;
	int r = 0;

	pthread_mutex_lock(&dax->lock);
	for (i = 0; r == 0 && i < count; i++) {
		uint64_t at = (uint64_t)i * SLOT_BYTES;
		struct slot with = {
			.nodeid = nodeid,
			.offset = in->foffset + at,
			.len = (uint32_t)hk_align_up(
				HK_MIN(in->len - at, (uint64_t)SLOT_BYTES), (uint64_t)PAGE),
			.writable = (in->flags & FUSE_SETUPMAPPING_FLAG_WRITE) != 0,
		};

		r = fill_slot_locked(dax, &first[i], &with, fd);
	}
	while (r < 0 && i-- > 0) {
		empty_slot_locked(dax, &first[i]);
	}
	pthread_mutex_unlock(&dax->lock);
	return r;
}

/*
 * The guest is about to write. Its kernel leaves set-id bits to us, and the time of modification to
 * nobody; what it writes later is no request, so this is the one time when both can be seen to.
 */
static void note_write(
	struct hk_fuse_server *server, const struct hk_req *req, struct hk_node *node, int file)
{
	const struct timespec now[2] = {{.tv_nsec = UTIME_OMIT}, {.tv_nsec = UTIME_NOW}};
	struct hk_backend *backend = node->export->backend;

	if (req->head.uid != 0 || !hk_policy_keeps_setid(node->export)) {
		hk_attr_kill_setid(server, node, file);
	}
	/* Refused for somebody else's file: it stays as it is. */
	(void)backend->ops->utimes(backend, file, now);
}

static int map_file(struct hk_fuse_server *server, const struct hk_req *req, struct hk_node *node,
	const struct fuse_setupmapping_in *in)
{
	bool writable = (in->flags & FUSE_SETUPMAPPING_FLAG_WRITE) != 0;
	struct hk_backend *backend;
	struct hk_handle *h;
	int fd;
	int r;

	if (node->export == NULL || !node->export->dax ||
		node->export->backend->ops->real_fd == NULL) {
		return -EACCES; /* it was not offered */
	}
	r = writable ? hk_policy_change(server, node, NULL, "write") : 0;
	if (r < 0) {
		return r;
	}
	h = find_handle(server, node, in->fh, writable);
	if (h == NULL) {
		return -EACCES;
	}
	backend = node->export->backend;
	fd = backend->ops->real_fd(backend, h->file);
	r = fd < 0 ? -EACCES : set_up(server->dax, in, hk_node_id(node), fd);
	if (r == 0 && writable) {
		note_write(server, req, node, h->file);
	}
	hk_handle_put(&server->handles, h);
	return r;
}

int hk_op_setupmapping(struct hk_fuse_server *server, struct hk_req *req)
{
	struct fuse_setupmapping_in in;
	struct hk_node *node;
	int r = hk_req_take(req, &in, sizeof(in));

	if (server->dax == NULL) {
		return -ENOSYS;
	}
	if (r == 0) {
		r = check_range(server->dax, &in);
	}
	if (r < 0) {
		return r;
	}
	node = hk_nodes_get(&server->nodes, req->head.nodeid);
	r = node == NULL ? -ESTALE : map_file(server, req, node, &in);
	hk_node_put(&server->nodes, node);
	return r;
}

/* REMOVEMAPPING */

static int remove_range(struct hk_dax *dax, const struct fuse_removemapping_one *one)
{
	unsigned first = (unsigned)(one->moffset / SLOT_BYTES);
	unsigned count = (unsigned)((one->len + SLOT_BYTES - 1) / SLOT_BYTES);
	int r = 0;

	pthread_mutex_lock(&dax->lock);
	for (unsigned i = 0; r == 0 && i < count; i++) {
		r = empty_slot_locked(dax, &dax->slots[first + i]);
	}
	pthread_mutex_unlock(&dax->lock);
	return r;
}

int hk_op_removemapping(struct hk_fuse_server *server, struct hk_req *req)
{
	struct hk_dax *dax = server->dax;
	struct fuse_removemapping_one one;
	struct fuse_removemapping_in in;
	int r = hk_req_take(req, &in, sizeof(in));

	if (dax == NULL) {
		return -ENOSYS;
	}
	/* A count that lies ends with the request's bytes. */
	for (uint32_t i = 0; r == 0 && i < in.count; i++) {
		r = hk_req_take(req, &one, sizeof(one));
		if (r == 0 &&
			(one.len == 0 || one.moffset % SLOT_BYTES != 0 ||
				!hk_range_within(one.moffset, one.len,
					(uint64_t)dax->slot_count * SLOT_BYTES))) {
			r = -EINVAL;
		}
		if (r == 0) {
			r = remove_range(dax, &one);
		}
	}
	return r;
}

bool hk_dax_writes(struct hk_fuse_server *server, const struct hk_node *node)
{
	struct hk_dax *dax = server->dax;
	bool found = false;

	if (dax == NULL) {
		return false;
	}
	pthread_mutex_lock(&dax->lock);
	for (unsigned i = 0; !found && i < dax->slot_count; i++) {
		found = dax->slots[i].writable && dax->slots[i].nodeid == hk_node_id(node);
	}
	pthread_mutex_unlock(&dax->lock);
	return found;
}

/* Mending */

/* Bytes of the slot, whole pages, that a file of @size has. */
static uint32_t part_of(const struct slot *slot, uint64_t size)
{
	if (size <= slot->offset) {
		return 0;
	}
	size = HK_MIN(size - slot->offset, (uint64_t)slot->len);
	return (uint32_t)hk_align_up(size, (uint64_t)PAGE);
}

/* The size of a pinned node's file, or 0 where it is nowhere to be found. */
static uint64_t size_now(struct hk_fuse_server *server, struct hk_node *node)
{
	struct hk_backend *backend = node->export->backend;
	struct hk_handle *handle = NULL;
	struct hk_stat st;
	int obj = hk_node_obj(&server->nodes, node, &handle);
	int r = obj < 0 ? obj : backend->ops->stat(backend, obj, &st);

	hk_handle_put(&server->handles, handle);
	return r < 0 ? 0 : st.size;
}

/*
 * What the guest believes to be there, and what the file says; of a file it has forgotten nothing
 * is known.
 */
static void ask_sizes(struct hk_fuse_server *server, const struct slot *slot,
	uint32_t *ret_believed, uint32_t *ret_said)
{
	struct hk_node *node = hk_nodes_get(&server->nodes, slot->nodeid);
	uint64_t size;

	*ret_believed = slot->len;
	*ret_said = 0;
	if (node != NULL) {
		hk_node_lock(&server->nodes, node);
		size = node->seen_size;
		hk_node_unlock(&server->nodes, node);
		*ret_believed = part_of(slot, size);
		*ret_said = part_of(slot, size_now(server, node));
	}
	hk_node_put(&server->nodes, node);
}

/* A file is there up to its end: by halves. Return: bytes, not more than @len. */
static uint32_t readable(const uint8_t *at, uint32_t len)
{
	uint32_t good = 0;
	uint32_t bad = len / PAGE;

	if (bad == 0 || hk_dax_can_read(at + len - PAGE)) {
		return len;
	}
	bad--;
	while (good < bad) {
		uint32_t middle = good + (bad - good) / 2;

		if (hk_dax_can_read(at + (size_t)middle * PAGE)) {
			good = middle + 1;
		} else {
			bad = middle;
		}
	}
	return good * PAGE;
}

static void tell(struct hk_fuse_server *server, uint64_t nodeid)
{
	struct hk_node *node = hk_nodes_get(&server->nodes, nodeid);
	char buf[PATH_BYTES] = "";
	char shown[PATH_BYTES] = "a file";

	if (node != NULL) {
		const char *path = hk_path_of(server, node, NULL, buf, sizeof(buf));

		hk_str_escape(shown, sizeof(shown), path, strlen(path));
	}
	hk_node_put(&server->nodes, node);
	hk_log_warn("%s became shorter while the box has it mapped: until it is opened again, the "
		    "box sees zeroes there",
		shown);
}

static bool mend_slot_locked(struct hk_fuse_server *server, struct hk_dax *dax, struct slot *slot)
{
	uint8_t *at = memory_of(dax, slot);
	uint32_t want;
	uint32_t said;
	uint32_t have;

	ask_sizes(server, slot, &want, &said);
	/* Pages are tried only if need be: that fetches them. */
	have = said >= want ? want : readable(at, want);
	if (have < want && !slot->suspect) {
		/*
		 * It may be the guest that is just changing its size: what is told to it is not in
		 * order.
		 */
		slot->suspect = true;
		return true;
	}
	slot->suspect = false;
	if (have == want || hk_dax_stand_in(at + have, want - have) < 0) {
		return false;
	}
	dax->mended += !slot->mended;
	slot->mended = true;
	if (!dax->told) {
		dax->told = true; /* once: the guest may be able to bring this about */
		tell(server, slot->nodeid);
	}
	return true;
}

bool hk_fuse_server_mend(struct hk_fuse_server *server)
{
	struct hk_dax *dax = server->dax;
	bool mended = false;

	if (dax == NULL) {
		return false;
	}
	pthread_mutex_lock(&dax->lock);
	for (unsigned i = 0; i < dax->slot_count; i++) {
		if (dax->slots[i].nodeid != 0) {
			mended |= mend_slot_locked(server, dax, &dax->slots[i]);
		}
	}
	pthread_mutex_unlock(&dax->lock);
	return mended;
}

void hk_dax_shrinks(struct hk_fuse_server *server, struct hk_node *node, uint64_t size)
{
	if (server->dax != NULL) {
		hk_node_lock(&server->nodes, node);
		node->seen_size = HK_MIN(node->seen_size, size);
		hk_node_unlock(&server->nodes, node);
	}
}

void hk_dax_opened(struct hk_fuse_server *server, struct hk_node *node, int file)
{
	struct hk_backend *backend = node->export->backend;
	struct hk_dax *dax = server->dax;
	uint64_t nodeid = hk_node_id(node);

	if (dax == NULL || atomic_load_explicit(&dax->mended, memory_order_relaxed) == 0) {
		return;
	}
	pthread_mutex_lock(&dax->lock);
	for (unsigned i = 0; i < dax->slot_count; i++) {
		struct slot *slot = &dax->slots[i];
		struct slot with = *slot;

		with.mended = false;
		if (slot->mended && slot->nodeid == nodeid) {
			/* A file that is open for reading only waits for one that can write. */
			fill_slot_locked(dax, slot, &with, backend->ops->real_fd(backend, file));
		}
	}
	pthread_mutex_unlock(&dax->lock);
}

/* Save and restore */

bool hk_dax_next(
	struct hk_fuse_server *server, uint32_t *cursor, struct hk_dax_mapping *ret_mapping)
{
	struct hk_dax *dax = server->dax;

	for (; dax != NULL && *cursor < dax->slot_count; ++*cursor) {
		const struct slot *slot = &dax->slots[*cursor];

		if (slot->nodeid != 0) {
			*ret_mapping = (struct hk_dax_mapping){
				.slot = (*cursor)++,
				.len = slot->len,
				.nodeid = slot->nodeid,
				.offset = slot->offset,
				.writable = slot->writable,
			};
			return true;
		}
	}
	return false;
}

int hk_dax_put_back(struct hk_fuse_server *server, const struct hk_dax_mapping *mapping,
	struct hk_backend *backend, int file)
{
	struct hk_dax *dax = server->dax;
	struct slot with = {
		.nodeid = mapping->nodeid,
		.offset = mapping->offset,
		.len = mapping->len,
		.writable = mapping->writable,
	};
	struct slot *slot;
	int r;

	if (dax == NULL || mapping->slot >= dax->slot_count || mapping->len == 0 ||
		mapping->len > SLOT_BYTES || mapping->len % PAGE != 0 || mapping->nodeid == 0 ||
		mapping->offset > INT64_MAX - SLOT_BYTES || mapping->offset % SLOT_BYTES != 0) {
		return -EPROTO;
	}
	slot = &dax->slots[mapping->slot];
	pthread_mutex_lock(&dax->lock);
	if (file >= 0) {
		r = fill_slot_locked(dax, slot, &with, backend->ops->real_fd(backend, file));
	} else {
		r = hk_dax_stand_in(memory_of(dax, slot), with.len);
		with.mended = true;
		if (r == 0) {
			dax->mended += !slot->mended;
			*slot = with;
		}
	}
	pthread_mutex_unlock(&dax->lock);
	return r;
}
