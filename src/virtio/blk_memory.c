/* SPDX-License-Identifier: ISC */
/* A disk in memory: zeros at first, gone in the end. Operations end within submit(). */
#include "virtio/blk_backend.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/util.h"

struct memory {
	struct hk_blk_backend base; /* first */
	uint8_t *bytes;             /* owned */
};

static const struct hk_blk_backend_ops memory_ops;

static struct memory *memory_of(struct hk_blk_backend *backend)
{
	assert(backend->ops == &memory_ops);
	return hk_container_of(backend, struct memory, base);
}

static void memory_submit(struct hk_blk_backend *backend, struct hk_blk_io *io)
{
	uint8_t *at = memory_of(backend)->bytes + io->offset_bytes;

	assert(hk_range_within(io->offset_bytes, io->len_bytes, backend->size_bytes));
	switch (io->op) {
	case HK_BLK_READ:
		for (unsigned i = 0; i < io->iov_count; i++) {
			memcpy(io->iov[i].iov_base, at, io->iov[i].iov_len);
			at += io->iov[i].iov_len;
		}
		break;
	case HK_BLK_WRITE:
		for (unsigned i = 0; i < io->iov_count; i++) {
			memcpy(at, io->iov[i].iov_base, io->iov[i].iov_len);
			at += io->iov[i].iov_len;
		}
		break;
	case HK_BLK_DISCARD:
	case HK_BLK_WRITE_ZEROES:
		memset(at, 0, io->len_bytes);
		break;
	default:
		break;
	}
	io->done(io, 0);
}

static void memory_drain(struct hk_blk_backend *backend)
{
	(void)backend;
}

static void memory_destroy(struct hk_blk_backend *backend)
{
	struct memory *memory = memory_of(backend);

	free(memory->bytes);
	free(memory);
}

static const struct hk_blk_backend_ops memory_ops = {
	.name = "memory",
	.submit = memory_submit,
	.drain = memory_drain,
	.destroy = memory_destroy,
};

int hk_blk_open_memory(uint64_t size_bytes, struct hk_blk_backend **ret_backend, struct hk_err *err)
{
	struct memory *memory;

	assert(size_bytes % 512 == 0);
	if (hk_new(memory) == NULL) {
		return hk_fail(err, ENOMEM, "disk in memory");
	}
	memory->base = (struct hk_blk_backend){
		.ops = &memory_ops,
		.size_bytes = size_bytes,
		.can_discard = true,
		.event_fd = -1,
	};
	memory->bytes = hk_calloc(1, size_bytes);
	if (memory->bytes == NULL) {
		free(memory);
		return hk_fail(err, ENOMEM, "disk in memory of %llu bytes",
			(unsigned long long)size_bytes);
	}
	*ret_backend = &memory->base;
	return 0;
}
