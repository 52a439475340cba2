/* SPDX-License-Identifier: ISC */
/*
 * What all virtio devices have in common: their queues' shape, and how they reach the driver.
 *
 * A device that is not attached to a transport (in unit tests, or before its slot) has nobody to
 * interrupt: the calls are then without effect, but for needs_reset.
 */
#include "virtio/device.h"

#include <assert.h>

#include "base/log.h"

HK_LOG_CHANNEL("virtio");

void hk_virtio_init(struct hk_virtio *dev, const struct hk_virtio_ops *ops, unsigned queue_count,
	const uint16_t *queue_sizes)
{
	assert(queue_count <= HK_VIRTIO_MAX_QUEUES);

	dev->ops = ops;
	dev->queue_count = queue_count;
	for (unsigned i = 0; i < HK_VIRTIO_MAX_QUEUES; i++) {
		dev->queues[i].kick_fd = -1;
	}
	for (unsigned i = 0; i < queue_count; i++) {
		assert(queue_sizes[i] <= HK_VIRTQ_MAX_SIZE);
		dev->queues[i].size_max = queue_sizes[i];
	}
	pthread_mutex_init(&dev->lock, NULL);
	atomic_init(&dev->needs_reset, false);
}

void hk_virtio_destroy(struct hk_virtio *dev)
{
	if (dev == NULL) {
		return;
	}
	assert(dev->transport == NULL);
	pthread_mutex_destroy(&dev->lock);
	dev->ops->destroy(dev);
}

static void interrupt(struct hk_virtio *dev, bool config_changed)
{
	if (dev->transport != NULL) {
		dev->transport->ops->interrupt(dev->transport, config_changed);
	}
}

void hk_virtio_interrupt(struct hk_virtio *dev, unsigned index)
{
	assert(index < dev->queue_count);

	if (hk_virtq_wants_interrupt(&dev->queues[index].vq)) {
		interrupt(dev, false);
	}
}

void hk_virtio_config_changed(struct hk_virtio *dev)
{
	interrupt(dev, true);
}

void hk_virtio_fail(struct hk_virtio *dev, const char *why)
{
	/* Release: what led here, before the status that shows it. Only the first failure is news.
	 */
	if (atomic_exchange_explicit(&dev->needs_reset, true, memory_order_acq_rel)) {
		return;
	}
	hk_log_debug("%s: needs reset: %s", dev->ops->name, why);
	interrupt(dev, true);
}

void hk_virtio_notify_self(struct hk_virtio *dev, unsigned index)
{
	assert(index < dev->queue_count);

	if (dev->transport != NULL) {
		dev->transport->ops->notify(dev->transport, index);
	}
}

/* Serves up to @budget chains. Return: as hk_virtq_pop(), 1 where the budget ended first. */
static int serve_some(
	struct hk_virtio *dev, unsigned index, hk_virtio_serve_fn *serve, unsigned *budget)
{
	struct hk_virtq *vq = &dev->queues[index].vq;
	struct iovec iov[HK_VIRTQ_MAX_SIZE];

	for (; *budget > 0; --*budget) {
		struct hk_chain chain = {.iov = iov, .capacity = HK_VIRTQ_MAX_SIZE};
		int rc = hk_virtq_pop(vq, &chain);
		uint32_t written;

		if (rc <= 0) {
			return rc;
		}
		written = serve(dev, index, &chain);
		if (atomic_load_explicit(&dev->needs_reset, memory_order_relaxed)) {
			return 0;
		}
		hk_virtq_push(vq, &chain, written);
	}
	return 1;
}

void hk_virtio_serve(struct hk_virtio *dev, unsigned index, hk_virtio_serve_fn *serve)
{
	struct hk_virtq *vq = &dev->queues[index].vq;
	unsigned budget = vq->size;
	int rc;

	do {
		rc = serve_some(dev, index, serve, &budget);
	} while (rc == 0 && hk_virtq_want_kicks(vq, true) &&
		!atomic_load_explicit(&dev->needs_reset, memory_order_relaxed));
	hk_virtio_interrupt(dev, index);
	if (rc < 0) {
		hk_virtio_fail(dev, vq->why);
	} else if (rc > 0) {
		hk_virtio_notify_self(dev, index);
	}
}
