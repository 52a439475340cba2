/* SPDX-License-Identifier: ISC */
/*
 * virtio-rng: one queue of buffers to fill with random bytes.
 *
 * Limits: at most MAX_BYTES of a buffer are filled, which the specification allows (5.4.6.1), so
 * that one chain does not keep the loop busy for long.
 */
#include "virtio/rng.h"

#include <stdlib.h>

#include "base/alloc.h"
#include "base/util.h"

enum { QUEUE_SIZE = 64, MAX_BYTES = 4096, STATE_VERSION = 1 };

struct rng {
	struct hk_virtio dev;
	hk_random_fn *random;
};

static uint32_t serve(struct hk_virtio *dev, unsigned index, const struct hk_chain *chain)
{
	struct rng *rng = hk_container_of(dev, struct rng, dev);
	struct iovec iov[8];
	unsigned count;
	uint32_t written = 0;

	(void)index;
	if (chain->writable_bytes == 0) {
		hk_virtio_fail(dev, "nowhere to put random bytes");
		return 0;
	}
	count = hk_chain_slice(chain, true, 0, MAX_BYTES, iov, HK_ARRAY_SIZE(iov));
	for (unsigned i = 0; i < count; i++) {
		rng->random(iov[i].iov_base, iov[i].iov_len);
		written += (uint32_t)iov[i].iov_len;
	}
	return written;
}

static int rng_activate(struct hk_virtio *dev)
{
	(void)dev;
	return 0;
}

static void rng_kick(struct hk_virtio *dev, unsigned index)
{
	hk_virtio_serve(dev, index, serve);
}

static void rng_reset(struct hk_virtio *dev)
{
	(void)dev;
}

static void rng_save(struct hk_virtio *dev, struct hk_writer *w)
{
	(void)dev;
	/* No state; the section keeps a place for some. */
	hk_writer_end(w, hk_writer_begin(w, "virtio-rng", STATE_VERSION));
}

static void rng_restore(struct hk_virtio *dev, struct hk_reader *r)
{
	(void)dev;
	hk_reader_end(r, hk_reader_begin(r, "virtio-rng", STATE_VERSION));
}

static void rng_destroy(struct hk_virtio *dev)
{
	free(hk_container_of(dev, struct rng, dev));
}

static const struct hk_virtio_ops rng_ops = {
	.name = "rng",
	.type = HK_VIRTIO_RNG,
	.activate = rng_activate,
	.kick = rng_kick,
	.reset = rng_reset,
	.save = rng_save,
	.restore = rng_restore,
	.destroy = rng_destroy,
};

int hk_rng_create(hk_random_fn *random, struct hk_virtio **ret_dev, struct hk_err *err)
{
	static const uint16_t queue_sizes[] = {QUEUE_SIZE};
	struct rng *rng;

	if (!hk_new(rng)) {
		return hk_fail(err, ENOMEM, "virtio rng");
	}
	hk_virtio_init(&rng->dev, &rng_ops, HK_ARRAY_SIZE(queue_sizes), queue_sizes);
	rng->random = random;
	*ret_dev = &rng->dev;
	return 0;
}
