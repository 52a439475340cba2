/* SPDX-License-Identifier: ISC */
/* A backend that passes all to another, but for the one operation that it fails: for tests. */
#include "virtio/blk_backend.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#include "base/alloc.h"
#include "base/util.h"

struct fault {
	struct hk_blk_backend base;   /* first */
	struct hk_blk_backend *inner; /* owned */
	enum hk_blk_op op;
	uint64_t left; /* operations @op until the one that fails */
	int error;
};

static const struct hk_blk_backend_ops fault_ops;

static struct fault *fault_of(struct hk_blk_backend *backend)
{
	assert(backend->ops == &fault_ops);
	return hk_container_of(backend, struct fault, base);
}

static void fault_submit(struct hk_blk_backend *backend, struct hk_blk_io *io)
{
	struct fault *fault = fault_of(backend);

	if (io->op == fault->op && fault->left > 0 && --fault->left == 0) {
		io->done(io, -fault->error);
		return;
	}
	fault->inner->ops->submit(fault->inner, io);
}

static void fault_kick(struct hk_blk_backend *backend)
{
	struct hk_blk_backend *inner = fault_of(backend)->inner;

	if (inner->ops->kick != NULL) {
		inner->ops->kick(inner);
	}
}

static void fault_reap(struct hk_blk_backend *backend)
{
	struct hk_blk_backend *inner = fault_of(backend)->inner;

	if (inner->ops->reap != NULL) {
		inner->ops->reap(inner);
	}
}

static void fault_drain(struct hk_blk_backend *backend)
{
	struct hk_blk_backend *inner = fault_of(backend)->inner;

	inner->ops->drain(inner);
}

static void fault_destroy(struct hk_blk_backend *backend)
{
	struct fault *fault = fault_of(backend);

	hk_blk_backend_destroy(fault->inner);
	free(fault);
}

static const struct hk_blk_backend_ops fault_ops = {
	.name = "fault",
	.submit = fault_submit,
	.kick = fault_kick,
	.reap = fault_reap,
	.drain = fault_drain,
	.destroy = fault_destroy,
};

int hk_blk_open_fault(struct hk_blk_backend *inner, enum hk_blk_op op, uint64_t nth, int error,
	struct hk_blk_backend **ret_backend, struct hk_err *err)
{
	struct fault *fault;

	if (hk_new(fault) == NULL) {
		hk_blk_backend_destroy(inner);
		return hk_fail(err, ENOMEM, "disk");
	}
	fault->base = *inner;
	fault->base.ops = &fault_ops;
	fault->inner = inner;
	fault->op = op;
	fault->left = nth;
	fault->error = error;
	*ret_backend = &fault->base;
	return 0;
}
