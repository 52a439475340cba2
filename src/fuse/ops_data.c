/* SPDX-License-Identifier: ISC */
/*
 * Data of open files: READ, WRITE, FSYNC, FALLOCATE, LSEEK, COPY_FILE_RANGE.
 *
 * Theory: READ and WRITE go straight between the guest's memory and the file; bytes are counted for
 * the audit. Set-id bits go where the guest's kernel says so, and always where an export does not
 * keep them (policy.c).
 *
 * Limits: a copy does at most 1 GiB at a time.
 */
#include <errno.h>
#include <fcntl.h>

#include "base/util.h"
#include "fuse/dax.h"
#include "fuse/server_impl.h"

enum { COPY_MAX = 1 << 30 };

/* The open regular file of @fh; its handle is to be put. Return: 0, -EBADF or -ESTALE. */
static int get_file(
	struct hk_fuse_server *server, uint64_t fh, uint64_t nodeid, struct hk_handle **ret_handle)
{
	struct hk_handle *h = hk_handles_get(&server->handles, fh, nodeid);

	if (h == NULL) {
		return -EBADF;
	}
	if (h->file < 0 || h->dir != NULL) {
		int r = h->dir != NULL ? -EISDIR : -ESTALE;

		hk_handle_put(&server->handles, h);
		return r;
	}
	*ret_handle = h;
	return 0;
}

int hk_op_read(struct hk_fuse_server *server, struct hk_req *req)
{
	struct iovec iov[HK_FUSE_MAX_SEGMENTS];
	struct fuse_read_in in;
	struct hk_handle *h = NULL;
	ssize_t n = 0;
	unsigned count;
	int r = hk_req_take(req, &in, sizeof(in));

	if (r == 0) {
		r = get_file(server, in.fh, req->head.nodeid, &h);
	}
	if (r < 0) {
		return r;
	}
	count = hk_cursor_slice(&req->out, in.size, iov);
	if (count > 0) {
		struct hk_backend *backend = h->node->export->backend;

		n = backend->ops->read(backend, h->file, iov, count, in.offset);
	}
	if (n > 0) {
		atomic_fetch_add_explicit(&h->bytes_read, (uint64_t)n, memory_order_relaxed);
	}
	hk_handle_put(&server->handles, h);
	if (n < 0) {
		return (int)n;
	}
	hk_req_skip_out(req, (size_t)n);
	return 0;
}

int hk_op_write(struct hk_fuse_server *server, struct hk_req *req)
{
	struct iovec iov[HK_FUSE_MAX_SEGMENTS];
	struct fuse_write_out out = {0};
	struct fuse_write_in in;
	struct hk_handle *h = NULL;
	ssize_t n = 0;
	unsigned count;
	int r = hk_req_take(req, &in, sizeof(in));

	/* Offset -1 has a meaning of its own to pwritev2(). */
	if (r == 0 && (in.size > req->in.left || in.offset > INT64_MAX)) {
		r = -EINVAL;
	}
	if (r == 0) {
		r = get_file(server, in.fh, req->head.nodeid, &h);
	}
	if (r < 0) {
		return r;
	}
	count = hk_cursor_slice(&req->in, in.size, iov);
	if (count > 0) {
		struct hk_export *export = h->node->export;
		/* As the file is now: F_SETFL may have changed it since it was opened. */
		bool append =
			(in.flags & O_APPEND) != 0 && (in.write_flags & FUSE_WRITE_CACHE) == 0;

		n = export->backend->ops->write(
			export->backend, h->file, iov, count, in.offset, append);
		hk_dax_opened(server, h->node, h->file);
		hk_export_dirty(export);
		if (n > 0) {
			atomic_fetch_add_explicit(
				&h->bytes_written, (uint64_t)n, memory_order_relaxed);
		}
		if (n > 0 &&
			((in.write_flags & FUSE_WRITE_KILL_SUIDGID) != 0 ||
				!hk_policy_keeps_setid(export))) {
			hk_attr_kill_setid(server, h->node, h->file);
		}
	}
	hk_handle_put(&server->handles, h);
	if (n < 0) {
		return (int)n;
	}
	out.size = (uint32_t)n;
	return hk_req_put(req, &out, sizeof(out));
}

int hk_op_fsync(struct hk_fuse_server *server, struct hk_req *req)
{
	struct fuse_fsync_in in;
	struct hk_handle *h = NULL;
	int r = hk_req_take(req, &in, sizeof(in));

	if (r == 0) {
		r = get_file(server, in.fh, req->head.nodeid, &h);
	}
	if (r == 0) {
		struct hk_backend *backend = h->node->export->backend;

		r = backend->ops->fsync(
			backend, h->file, (in.fsync_flags & FUSE_FSYNC_FDATASYNC) != 0);
		hk_handle_put(&server->handles, h);
	}
	return r;
}

int hk_op_fallocate(struct hk_fuse_server *server, struct hk_req *req)
{
	struct fuse_fallocate_in in;
	struct hk_handle *h = NULL;
	int r = hk_req_take(req, &in, sizeof(in));

	if (r == 0) {
		r = get_file(server, in.fh, req->head.nodeid, &h);
	}
	if (r == 0) {
		struct hk_export *export = h->node->export;

		r = export->backend->ops->allocate(
			export->backend, h->file, (int)in.mode, in.offset, in.length);
		hk_dax_opened(server, h->node, h->file);
		hk_export_dirty(export);
		/* This request has no flag for it: whoever is not root cannot keep the bits. */
		if (r == 0 && (req->head.uid != 0 || !hk_policy_keeps_setid(export))) {
			hk_attr_kill_setid(server, h->node, h->file);
		}
		hk_handle_put(&server->handles, h);
	}
	return r;
}

int hk_op_lseek(struct hk_fuse_server *server, struct hk_req *req)
{
	struct fuse_lseek_out out;
	struct fuse_lseek_in in;
	struct hk_handle *h = NULL;
	int64_t offset = 0;
	int r = hk_req_take(req, &in, sizeof(in));

	if (r == 0 && in.whence != SEEK_DATA && in.whence != SEEK_HOLE) {
		r = -EINVAL; /* the guest's kernel knows the others itself */
	}
	if (r == 0) {
		r = get_file(server, in.fh, req->head.nodeid, &h);
	}
	if (r == 0) {
		struct hk_backend *backend = h->node->export->backend;

		offset = backend->ops->seek(backend, h->file, in.offset, (int)in.whence);
		hk_handle_put(&server->handles, h);
		r = offset < 0 ? (int)offset : 0;
	}
	if (r < 0) {
		return r;
	}
	out.offset = (uint64_t)offset;
	return hk_req_put(req, &out, sizeof(out));
}

int hk_op_copy_file_range(struct hk_fuse_server *server, struct hk_req *req)
{
	struct fuse_write_out out = {0};
	struct fuse_copy_file_range_in in;
	struct hk_handle *from = NULL;
	struct hk_handle *to = NULL;
	ssize_t n = 0;
	int r = hk_req_take(req, &in, sizeof(in));

	if (r == 0 && in.flags != 0) {
		r = -EINVAL;
	}
	if (r == 0) {
		r = get_file(server, in.fh_in, req->head.nodeid, &from);
	}
	if (r == 0) {
		r = get_file(server, in.fh_out, in.nodeid_out, &to);
	}
	if (r == 0 && from->node->export != to->node->export) {
		r = -EXDEV; /* the guest then reads and writes */
	}
	if (r == 0) {
		struct hk_export *export = to->node->export;

		n = export->backend->ops->copy(export->backend, from->file, in.off_in, to->file,
			in.off_out, (size_t)HK_MIN(in.len, (uint64_t)COPY_MAX));
		hk_export_dirty(export);
		if (n > 0 && (req->head.uid != 0 || !hk_policy_keeps_setid(export))) {
			hk_attr_kill_setid(server, to->node, to->file);
		}
		r = n < 0 ? (int)n : 0;
	}
	hk_handle_put(&server->handles, from);
	hk_handle_put(&server->handles, to);
	if (r < 0) {
		return r;
	}
	out.size = (uint32_t)n;
	return hk_req_put(req, &out, sizeof(out));
}
