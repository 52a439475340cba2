/* SPDX-License-Identifier: ISC */
/*
 * Passthrough: files whose data the kernel moves by itself, without a request for each read and
 * write.
 *
 * Theory: the kernel lets the open files of one inode be of one kind only: such whose data it
 * caches and asks us for, or such that it passes through, all to the same backing file; anything
 * else gives EIO. So a node counts its open files of the one kind or of the other, and who comes
 * second follows who came first. We hear of a close later than the kernel knows of it, never
 * earlier, so what we count is never less than what it has.
 *
 * The backing file is registered once for a node, and kept after the last close for as long as the
 * node's object is: programs open the same files again and again. It is bounded with the objects,
 * and gone when the guest forgets the node.
 *
 * What is passed through is not cached by the mount: each open costs a look at its attributes later
 * on, as reading changes the atime. Once that has cost as much as to have the file read and cached
 * would have, it is; files that are opened again and again only to be read, headers and libraries,
 * then cost one request each time. So it never costs more than twice as much as to know in advance
 * would. Not so files that have changed in the last minute: what is passed through is never out of
 * date, what is cached may be for a second, and for longer where a program maps it. Nor files that
 * may be mapped to be written to: such a mapping goes past the mount, and outlives the open file
 * that we know of.
 *
 * What else is not passed through: files of exports that take set-id bits away with each write
 * (map_ids); set-id files, whose bits the kernel expects us to clear when it asks for a write
 * (HANDLE_KILLPRIV_V2); what a backend keeps for itself; files opened to append: the backing file
 * keeps the flags of the open (Linux 6.18), also where an F_SETFL takes this one away. Bits a file
 * gets while it is passed through are cleared by its own file system, as are capabilities
 * (dev_linux.c).
 *
 * The node's stripe is held while the kernel registers a file and lets it go: short calls that
 * touch no file system.
 *
 * Limits: a transport that has it, and CAP_SYS_ADMIN in the first user namespace; else all data
 * comes to us. What the host writes through a mapping of a file in memory (tmpfs) changes no mtime
 * after the first write to a page: who opens such a file time and again only to read it may come to
 * read what it was. Who has mapped a file to read it, and closed it, while it was passed through,
 * sees later what others write through a mapping while some have it open and cached.
 */
#include <fcntl.h>
#include <sys/stat.h>

#include "base/util.h"
#include "fuse/pass.h"

enum {
	/*
	 * What can be read and cached in the time that one open costs more where it is passed
	 * through.
	 */
	BYTES_PER_OPEN = 64 << 10,
	CACHED_MAX_BYTES = 8 << 20,
};

/* Longer than what is written through a mapping takes to reach the disk, and the mtime with it. */
#define SETTLED_NS (60 * (int64_t)HK_NS_PER_SEC)

static int real_fd(const struct hk_node *node, int file, const struct hk_stat *st)
{
	struct hk_backend *backend = node->export->backend;

	if (!hk_policy_keeps_setid(node->export) || (st->mode & (S_ISUID | S_ISGID)) != 0 ||
		backend->ops->real_fd == NULL) {
		return -1;
	}
	return backend->ops->real_fd(backend, file);
}

/*
 * Is it better to have it read and cached? To be asked for each open that only reads. Stripe held.
 */
static bool is_better_cached(struct hk_node *node, const struct hk_stat *st)
{
	if (node->may_be_mapped || st->size > CACHED_MAX_BYTES ||
		hk_host_now_ns() - hk_timespec_ns(st->mtime) < SETTLED_NS) {
		return false;
	}
	if ((uint64_t)node->passed_reads * BYTES_PER_OPEN > st->size) {
		return true;
	}
	node->passed_reads++;
	return false;
}

/* Stripe held. */
static void drop_backing(struct hk_nodes *nodes, struct hk_node *node)
{
	if (nodes->transport != NULL) {
		nodes->transport->backing_close(nodes->transport, node->backing_id);
	}
	node->backing_id = 0;
}

void hk_pass_open(struct hk_fuse_server *server, struct hk_node *node, int file,
	const struct hk_stat *st, uint32_t flags, struct hk_opener *by, int32_t *ret_backing_id)
{
	struct hk_fuse_transport *transport = server->transport;
	int fd;

	if (!hk_fuse_has(server, FUSE_PASSTHROUGH)) {
		return;
	}
	fd = real_fd(node, file, st);
	hk_node_lock(&server->nodes, node);
	node->may_be_mapped = node->may_be_mapped || (flags & O_ACCMODE) == O_RDWR;
	if (node->io == 0 && (flags & (O_ACCMODE | O_TRUNC)) == O_RDONLY &&
		is_better_cached(node, st)) {
		fd = -1;
	}
	if (node->io == 0 && (flags & O_APPEND) != 0) {
		fd = -1;
	}
	if (node->io == 0 && node->backing_id == 0 && fd >= 0) {
		int id = transport->backing_open(transport, fd);

		node->backing_id = id > 0 ? id : 0;
	}
	if (node->io < 0 || (node->io == 0 && node->backing_id != 0 && fd >= 0)) {
		node->io--;
		by->io = HK_IO_PASSED;
		*ret_backing_id = node->backing_id;
	} else {
		node->io++;
		by->io = HK_IO_ASKED;
	}
	hk_node_unlock(&server->nodes, node);
	by->passthrough = by->io == HK_IO_PASSED;
}

void hk_pass_close(struct hk_nodes *nodes, struct hk_node *node, const struct hk_opener *by)
{
	if (by->io == HK_IO_UNKNOWN) {
		return;
	}
	hk_node_lock(nodes, node);
	node->io += by->io == HK_IO_PASSED ? 1 : -1;
	if (node->io == 0 && node->backing_id != 0 && node->obj < 0) {
		drop_backing(nodes, node);
	}
	hk_node_unlock(nodes, node);
}

void hk_pass_drop(struct hk_nodes *nodes, struct hk_node *node)
{
	if (node->backing_id != 0 && node->io >= 0) {
		drop_backing(nodes, node);
	}
}
