/* SPDX-License-Identifier: ISC */
/*
 * One open file for all who only read a node: see share.h.
 *
 * Theory: programs open the same files again and again to read them: headers, libraries,
 * /etc/passwd. A file open for reading is good for everything that a node's object is good for. So
 * the first one takes the object's place, costs no further descriptor, and stays when its handle is
 * closed, for as long as the object would have. Who opens the node to read uses it, too: no system
 * call opens or closes anything.
 *
 * Nothing is lost by it. Reads carry their offset. Locks are the asking kernel's own and never
 * reach us. Permissions are checked before we are asked. Only a description of which everybody
 * expects the same may be shared: opens to write, to truncate, with O_SYNC or O_NOATIME get one of
 * their own.
 *
 * An overlayfs of the host goes over to a copy when a file is written to, and files opened before
 * keep to what is below. So a file is shared only while its ctime is what it was when it was
 * opened; a copy has another. Our own overlay offers files of which it says that they are the
 * host's one and only (hk_backend_ops, real_fd).
 *
 * Limits: as an object does, an idle file keeps its file system from being unmounted, and what is
 * removed behind our back from being freed, until the kernel of the mount forgets the node. On the
 * host, nobody can take a write lease on it.
 */
#include "fuse/share.h"

#include "fuse/server_impl.h"

static int64_t stamp_of(const struct hk_stat *st)
{
	return hk_timespec_ns(st->ctime);
}

int hk_share_open(struct hk_nodes *nodes, struct hk_node *node, const struct hk_stat *st)
{
	int file = -1;

	hk_node_lock(nodes, node);
	if (node->obj >= 0 && node->shared_ctime_ns != 0 && node->shared_ctime_ns == stamp_of(st)) {
		node->sharers++;
		file = node->obj;
	}
	hk_node_unlock(nodes, node);
	return file;
}

bool hk_share_offer(
	struct hk_nodes *nodes, struct hk_node *node, const struct hk_stat *st, int file)
{
	struct hk_backend *backend = node->export->backend;
	int old = -1;

	if (backend->ops->real_fd == NULL || backend->ops->real_fd(backend, file) < 0) {
		return false;
	}
	hk_node_lock(nodes, node);
	/* Other requests, and other sharers, may be using the object. */
	if (node->obj >= 0 && node->pins == 1 && node->sharers == 0) {
		old = node->obj;
		node->obj = file;
		node->shared_ctime_ns = stamp_of(st);
		node->sharers = 1;
	}
	hk_node_unlock(nodes, node);
	if (old >= 0) {
		backend->ops->close(backend, old);
	}
	return old >= 0;
}

void hk_share_close(struct hk_nodes *nodes, struct hk_node *node)
{
	hk_node_lock(nodes, node);
	node->sharers--;
	hk_node_unlock(nodes, node);
}
