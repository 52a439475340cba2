/* SPDX-License-Identifier: ISC */
/*
 * The registers of a virtio-mmio device, version 2.
 *
 * Theory of operation. The driver walks the device through a sequence (VIRTIO 1.2, 3.1.1), and each
 * step closes what came before:
 *
 *	reset -> ACKNOWLEDGE -> DRIVER -> features -> FEATURES_OK -> queues -> DRIVER_OK
 *
 * Features may be written until FEATURES_OK, queues until DRIVER_OK, and nothing goes back but by
 * a reset. A step out of order is ignored and logged: the driver sees that its bit is not there.
 * A queue that lies where no queue can lie makes the device need a reset.
 *
 * Limits: no legacy (version 1) interface, no per-queue reset, no notification data. Registers
 * answer to aligned 32-bit accesses only, as the specification asks of drivers; the configuration
 * space to all.
 */
#include "virtio/mmio_regs.h"

#include <string.h>

#include "base/bytes.h"
#include "base/log.h"
#include "base/util.h"

HK_LOG_CHANNEL("virtio");

/* Offered for every device; the rest of bits 24-127 is the transport's too, and is not. */
#define TRANSPORT_FEATURES \
	(HK_VIRTIO_F_INDIRECT_DESC | HK_VIRTIO_F_EVENT_IDX | HK_VIRTIO_F_VERSION_1)

enum { VERSION = 2, STATE_VERSION = 1 };

static const uint32_t driver_status = HK_VIRTIO_STATUS_ACKNOWLEDGE | HK_VIRTIO_STATUS_DRIVER |
	HK_VIRTIO_STATUS_DRIVER_OK | HK_VIRTIO_STATUS_FEATURES_OK | HK_VIRTIO_STATUS_FAILED;

void hk_mmio_regs_init(
	struct hk_mmio_regs *regs, const struct hk_mmio_regs_ops *ops, struct hk_virtio *dev)
{
	*regs = (struct hk_mmio_regs){.ops = ops, .dev = dev};
	atomic_init(&regs->isr, 0);
	atomic_init(&regs->generation, 0);
}

static uint64_t offered_features(const struct hk_virtio *dev)
{
	return dev->offered | TRANSPORT_FEATURES;
}

/* The half of a 64-bit register that a selector names; there are no feature bits beyond 63. */
static uint32_t half(uint64_t value, uint32_t sel)
{
	return sel > 1 ? 0 : (uint32_t)(value >> (32 * sel));
}

static void set_half(uint64_t *value, uint32_t sel, uint32_t bits)
{
	*value &= ~((uint64_t)UINT32_MAX << (32 * sel));
	*value |= (uint64_t)bits << (32 * sel);
}

/* The selected queue, or NULL. */
static struct hk_virtio_queue *selected_queue(struct hk_mmio_regs *regs)
{
	return regs->queue_sel < regs->dev->queue_count ? &regs->dev->queues[regs->queue_sel]
							: NULL;
}

static uint64_t shm_len(const struct hk_mmio_regs *regs)
{
	if (regs->shm_sel >= HK_VIRTIO_MAX_SHM || regs->dev->shm[regs->shm_sel].window == NULL) {
		return UINT64_MAX;
	}
	return regs->dev->shm[regs->shm_sel].window->len_bytes;
}

static uint64_t shm_base(const struct hk_mmio_regs *regs)
{
	if (regs->shm_sel >= HK_VIRTIO_MAX_SHM || regs->dev->shm[regs->shm_sel].window == NULL) {
		return UINT64_MAX;
	}
	return regs->dev->shm[regs->shm_sel].window->gpa;
}

static uint32_t read_status(const struct hk_mmio_regs *regs)
{
	bool needs_reset = atomic_load_explicit(&regs->dev->needs_reset, memory_order_acquire);

	return regs->status | (needs_reset ? HK_VIRTIO_STATUS_NEEDS_RESET : 0);
}

/* Registers that are not here read as 0: those only written, reserved ones, and no register at all.
 */
static uint32_t read_reg_locked(struct hk_mmio_regs *regs, uint64_t offset)
{
	struct hk_virtio_queue *queue = selected_queue(regs);

	switch (offset) {
	case HK_MMIO_MAGIC:
		return HK_MMIO_MAGIC_VALUE;
	case HK_MMIO_VERSION:
		return VERSION;
	case HK_MMIO_DEVICE_ID:
		return regs->dev->ops->type;
	case HK_MMIO_VENDOR_ID:
		return HK_MMIO_VENDOR_VALUE;
	case HK_MMIO_DEVICE_FEATURES:
		return half(offered_features(regs->dev), regs->device_features_sel);
	case HK_MMIO_QUEUE_NUM_MAX:
		return queue == NULL ? 0 : queue->size_max;
	case HK_MMIO_QUEUE_READY:
		return queue == NULL ? 0 : queue->vq.enabled;
	case HK_MMIO_STATUS:
		return read_status(regs);
	case HK_MMIO_SHM_LEN_LOW:
		return half(shm_len(regs), 0);
	case HK_MMIO_SHM_LEN_HIGH:
		return half(shm_len(regs), 1);
	case HK_MMIO_SHM_BASE_LOW:
		return half(shm_base(regs), 0);
	case HK_MMIO_SHM_BASE_HIGH:
		return half(shm_base(regs), 1);
	case HK_MMIO_CONFIG_GENERATION:
		return atomic_load_explicit(&regs->generation, memory_order_relaxed);
	default:
		return 0;
	}
}

static uint64_t read_config_locked(struct hk_mmio_regs *regs, uint64_t offset, unsigned len)
{
	struct hk_virtio *dev = regs->dev;
	uint8_t bytes[8] = {0};

	if (hk_range_within(offset, len, dev->config_len)) {
		dev->ops->read_config(dev, (unsigned)offset, bytes, len);
	}
	return hk_load_le64(bytes);
}

static void write_config_locked(
	struct hk_mmio_regs *regs, uint64_t offset, unsigned len, uint64_t value)
{
	struct hk_virtio *dev = regs->dev;
	uint8_t bytes[8];

	if (dev->ops->write_config != NULL && hk_range_within(offset, len, dev->config_len)) {
		hk_store_le64(bytes, value);
		dev->ops->write_config(dev, (unsigned)offset, bytes, len);
	}
}

static void reset_locked(struct hk_mmio_regs *regs)
{
	struct hk_virtio *dev = regs->dev;

	dev->ops->reset(dev);
	for (unsigned i = 0; i < dev->queue_count; i++) {
		hk_virtq_reset(&dev->queues[i].vq);
	}
	dev->features = 0;
	regs->status = 0;
	regs->active = false;
	regs->device_features_sel = 0;
	regs->driver_features_sel = 0;
	regs->driver_features = 0;
	regs->queue_sel = 0;
	regs->shm_sel = 0;
	/* The device is silent by now, so nobody sets these again behind our back. */
	atomic_store_explicit(&regs->isr, 0, memory_order_relaxed);
	atomic_store_explicit(&dev->needs_reset, false, memory_order_relaxed);
}

/* FEATURES_OK: are they a set that we can serve? */
static bool accept_features(struct hk_mmio_regs *regs)
{
	struct hk_virtio *dev = regs->dev;
	uint64_t unknown = regs->driver_features & ~offered_features(dev);

	if (unknown != 0) {
		hk_log_debug("%s: driver takes features %#llx, which were not offered",
			dev->ops->name, (unsigned long long)unknown);
		return false;
	}
	if (!(regs->driver_features & HK_VIRTIO_F_VERSION_1)) {
		hk_log_debug("%s: driver is a legacy one", dev->ops->name);
		return false;
	}
	dev->features = regs->driver_features;
	return true;
}

static void apply_queue_features(struct hk_virtio *dev)
{
	for (unsigned i = 0; i < dev->queue_count; i++) {
		dev->queues[i].vq.event_idx = hk_virtio_has(dev, HK_VIRTIO_F_EVENT_IDX);
		dev->queues[i].vq.indirect = hk_virtio_has(dev, HK_VIRTIO_F_INDIRECT_DESC);
	}
}

/* DRIVER_OK. */
static void activate_locked(struct hk_mmio_regs *regs)
{
	struct hk_virtio *dev = regs->dev;

	if (atomic_load_explicit(&dev->needs_reset, memory_order_acquire)) {
		return; /* already failed, on a queue: there is nothing to start */
	}
	apply_queue_features(dev);
	if (dev->ops->activate(dev) < 0) {
		hk_virtio_fail(dev, "could not start");
		return;
	}
	regs->active = true;
	/*
	 * Linux's balloon driver adds its first buffers, and notifies of them, before it says
	 * DRIVER_OK. That was too early for hk_mmio_regs_kick().
	 */
	for (unsigned i = 0; i < dev->queue_count; i++) {
		if (dev->queues[i].vq.enabled) {
			hk_virtio_notify_self(dev, i);
		}
	}
}

static void write_status_locked(struct hk_mmio_regs *regs, uint32_t value)
{
	const uint32_t need_features_ok = HK_VIRTIO_STATUS_ACKNOWLEDGE | HK_VIRTIO_STATUS_DRIVER;
	uint32_t added;

	if (value == 0) {
		reset_locked(regs);
		return;
	}
	/* Drivers write back what they read, NEEDS_RESET and reserved bits included. */
	value &= driver_status;
	if ((regs->status & ~value) != 0) {
		hk_log_debug("%s: status %#x: bits are cleared only by a reset",
			regs->dev->ops->name, value);
		return;
	}
	added = value & ~regs->status;
	regs->status |= added & (need_features_ok | HK_VIRTIO_STATUS_FAILED);
	if ((added & HK_VIRTIO_STATUS_FEATURES_OK) &&
		(regs->status & need_features_ok) == need_features_ok && accept_features(regs)) {
		regs->status |= HK_VIRTIO_STATUS_FEATURES_OK;
	}
	if (added & HK_VIRTIO_STATUS_DRIVER_OK) {
		if (!(regs->status & HK_VIRTIO_STATUS_FEATURES_OK)) {
			hk_log_debug("%s: DRIVER_OK before FEATURES_OK", regs->dev->ops->name);
			return;
		}
		regs->status |= HK_VIRTIO_STATUS_DRIVER_OK;
		activate_locked(regs);
	}
}

static void write_queue_ready_locked(struct hk_mmio_regs *regs, struct hk_virtq *vq, uint32_t value)
{
	if (value == 0) {
		vq->enabled = false;
		return;
	}
	if (!vq->enabled && hk_virtq_enable(vq) < 0) {
		hk_log_debug(
			"%s: queue %u: size %u, descriptors %#llx, available %#llx, used %#llx",
			regs->dev->ops->name, regs->queue_sel, vq->size,
			(unsigned long long)vq->desc_gpa, (unsigned long long)vq->avail_gpa,
			(unsigned long long)vq->used_gpa);
		hk_virtio_fail(regs->dev, "queue where none can be");
	}
}

static void write_queue_locked(struct hk_mmio_regs *regs, uint64_t offset, uint32_t value)
{
	struct hk_virtio_queue *queue = selected_queue(regs);
	bool open = queue != NULL && !(regs->status & HK_VIRTIO_STATUS_DRIVER_OK) &&
		(!queue->vq.enabled || offset == HK_MMIO_QUEUE_READY);

	if (!open) {
		hk_log_debug("%s: queue %u: register %#llx is closed", regs->dev->ops->name,
			regs->queue_sel, (unsigned long long)offset);
		return;
	}
	switch (offset) {
	case HK_MMIO_QUEUE_NUM:
		/* A size that cannot be is refused when the queue is made ready. */
		queue->vq.size = value <= queue->size_max ? (uint16_t)value : 0;
		break;
	case HK_MMIO_QUEUE_READY:
		write_queue_ready_locked(regs, &queue->vq, value);
		break;
	case HK_MMIO_QUEUE_DESC_LOW:
		set_half(&queue->vq.desc_gpa, 0, value);
		break;
	case HK_MMIO_QUEUE_DESC_HIGH:
		set_half(&queue->vq.desc_gpa, 1, value);
		break;
	case HK_MMIO_QUEUE_DRIVER_LOW:
		set_half(&queue->vq.avail_gpa, 0, value);
		break;
	case HK_MMIO_QUEUE_DRIVER_HIGH:
		set_half(&queue->vq.avail_gpa, 1, value);
		break;
	case HK_MMIO_QUEUE_DEVICE_LOW:
		set_half(&queue->vq.used_gpa, 0, value);
		break;
	case HK_MMIO_QUEUE_DEVICE_HIGH:
		set_half(&queue->vq.used_gpa, 1, value);
		break;
	default:
		break;
	}
}

static void write_reg_locked(struct hk_mmio_regs *regs, uint64_t offset, uint32_t value)
{
	switch (offset) {
	case HK_MMIO_DEVICE_FEATURES_SEL:
		regs->device_features_sel = value;
		break;
	case HK_MMIO_DRIVER_FEATURES:
		if (regs->status & HK_VIRTIO_STATUS_FEATURES_OK) {
			hk_log_debug("%s: features are settled", regs->dev->ops->name);
		} else if (regs->driver_features_sel <= 1) {
			set_half(&regs->driver_features, regs->driver_features_sel, value);
		}
		break;
	case HK_MMIO_DRIVER_FEATURES_SEL:
		regs->driver_features_sel = value;
		break;
	case HK_MMIO_QUEUE_SEL:
		regs->queue_sel = value;
		break;
	case HK_MMIO_QUEUE_NUM:
	case HK_MMIO_QUEUE_READY:
	case HK_MMIO_QUEUE_DESC_LOW:
	case HK_MMIO_QUEUE_DESC_HIGH:
	case HK_MMIO_QUEUE_DRIVER_LOW:
	case HK_MMIO_QUEUE_DRIVER_HIGH:
	case HK_MMIO_QUEUE_DEVICE_LOW:
	case HK_MMIO_QUEUE_DEVICE_HIGH:
		write_queue_locked(regs, offset, value);
		break;
	case HK_MMIO_STATUS:
		write_status_locked(regs, value);
		break;
	case HK_MMIO_SHM_SEL:
		regs->shm_sel = value;
		break;
	default:
		break;
	}
}

static bool is_register_access(uint64_t offset, unsigned len)
{
	return len == 4 && offset % 4 == 0;
}

uint64_t hk_mmio_regs_read(struct hk_mmio_regs *regs, uint64_t offset, unsigned len)
{
	uint64_t value = 0;

	if (offset == HK_MMIO_INTERRUPT_STATUS && len == 4) {
		/* Acquire: pairs with hk_mmio_regs_raise(). */
		return atomic_load_explicit(&regs->isr, memory_order_acquire);
	}
	pthread_mutex_lock(&regs->dev->lock);
	if (offset >= HK_MMIO_CONFIG) {
		value = read_config_locked(regs, offset - HK_MMIO_CONFIG, len);
	} else if (is_register_access(offset, len)) {
		value = read_reg_locked(regs, offset);
	}
	pthread_mutex_unlock(&regs->dev->lock);
	return value;
}

void hk_mmio_regs_write(struct hk_mmio_regs *regs, uint64_t offset, unsigned len, uint64_t value)
{
	if (offset == HK_MMIO_QUEUE_NOTIFY && len == 4) {
		if ((uint32_t)value < regs->dev->queue_count) {
			regs->ops->notify(regs, (uint32_t)value);
		}
		return;
	}
	if (offset == HK_MMIO_INTERRUPT_ACK && len == 4) {
		/*
		 * Acquire: pairs with hk_mmio_regs_raise(), so that a driver that acknowledges
		 * first and then looks at its queues finds what the acknowledged interrupt was for.
		 */
		atomic_fetch_and_explicit(&regs->isr, ~(unsigned)value, memory_order_acquire);
		return;
	}
	pthread_mutex_lock(&regs->dev->lock);
	if (offset >= HK_MMIO_CONFIG) {
		write_config_locked(regs, offset - HK_MMIO_CONFIG, len, value);
	} else if (is_register_access(offset, len)) {
		write_reg_locked(regs, offset, (uint32_t)value);
	}
	pthread_mutex_unlock(&regs->dev->lock);
}

void hk_mmio_regs_raise(struct hk_mmio_regs *regs, bool config_changed)
{
	if (config_changed) {
		atomic_fetch_add_explicit(&regs->generation, 1, memory_order_relaxed);
	}
	/* Release: used rings and configuration, before the bit that tells of them. */
	atomic_fetch_or_explicit(&regs->isr, config_changed ? HK_MMIO_ISR_CONFIG : HK_MMIO_ISR_USED,
		memory_order_release);
}

void hk_mmio_regs_kick(struct hk_mmio_regs *regs, unsigned index)
{
	struct hk_virtio *dev = regs->dev;

	pthread_mutex_lock(&dev->lock);
	if (regs->active && dev->queues[index].vq.enabled &&
		!atomic_load_explicit(&dev->needs_reset, memory_order_acquire)) {
		dev->ops->kick(dev, index);
	}
	pthread_mutex_unlock(&dev->lock);
}

void hk_mmio_regs_save(struct hk_mmio_regs *regs, struct hk_writer *w)
{
	struct hk_virtio *dev = regs->dev;
	size_t mark = hk_writer_begin(w, "virtio-mmio", STATE_VERSION);

	hk_write_u32(w, dev->ops->type);
	hk_write_u32(w, dev->queue_count);
	hk_write_u32(w, regs->status);
	hk_write_u8(w, atomic_load_explicit(&dev->needs_reset, memory_order_acquire));
	hk_write_u8(w, regs->active);
	hk_write_u64(w, dev->features);
	hk_write_u64(w, regs->driver_features);
	hk_write_u32(w, regs->device_features_sel);
	hk_write_u32(w, regs->driver_features_sel);
	hk_write_u32(w, regs->queue_sel);
	hk_write_u32(w, regs->shm_sel);
	hk_write_u32(w, atomic_load_explicit(&regs->isr, memory_order_acquire));
	hk_write_u32(w, atomic_load_explicit(&regs->generation, memory_order_relaxed));
	for (unsigned i = 0; i < dev->queue_count; i++) {
		hk_virtq_save(&dev->queues[i].vq, w);
	}
	dev->ops->save(dev, w);
	hk_writer_end(w, mark);
}

/* Could a driver have brought us here? */
static bool is_possible(const struct hk_mmio_regs *regs)
{
	const struct hk_virtio *dev = regs->dev;
	bool features_ok = (regs->status & HK_VIRTIO_STATUS_FEATURES_OK) != 0;
	bool driver_ok = (regs->status & HK_VIRTIO_STATUS_DRIVER_OK) != 0;

	if ((regs->status & ~driver_status) != 0 || (driver_ok && !features_ok) ||
		(regs->active && !driver_ok)) {
		return false;
	}
	if (features_ok ? !(dev->features & HK_VIRTIO_F_VERSION_1) : dev->features != 0) {
		return false;
	}
	if ((dev->features & ~offered_features(dev)) != 0) {
		return false;
	}
	for (unsigned i = 0; i < dev->queue_count; i++) {
		if (dev->queues[i].vq.size > dev->queues[i].size_max) {
			return false;
		}
	}
	return (atomic_load(&regs->isr) & ~(unsigned)(HK_MMIO_ISR_USED | HK_MMIO_ISR_CONFIG)) == 0;
}

void hk_mmio_regs_restore(struct hk_mmio_regs *regs, struct hk_reader *r)
{
	struct hk_virtio *dev = regs->dev;
	struct hk_section section = hk_reader_begin(r, "virtio-mmio", STATE_VERSION);

	if (hk_read_u32(r) != dev->ops->type || hk_read_u32(r) != dev->queue_count) {
		hk_reader_fail(r);
	}
	regs->status = hk_read_u32(r);
	atomic_store(&dev->needs_reset, hk_read_u8(r) != 0);
	regs->active = hk_read_u8(r);
	dev->features = hk_read_u64(r);
	regs->driver_features = hk_read_u64(r);
	regs->device_features_sel = hk_read_u32(r);
	regs->driver_features_sel = hk_read_u32(r);
	regs->queue_sel = hk_read_u32(r);
	regs->shm_sel = hk_read_u32(r);
	atomic_store(&regs->isr, hk_read_u32(r));
	atomic_store(&regs->generation, hk_read_u32(r));
	for (unsigned i = 0; i < dev->queue_count; i++) {
		hk_virtq_restore(&dev->queues[i].vq, r);
	}
	if (r->error == 0 && !is_possible(regs)) {
		hk_reader_fail(r);
	}
	if (r->error == 0) {
		apply_queue_features(dev);
		dev->ops->restore(dev, r);
	}
	hk_reader_end(r, section);
	if (r->error != 0) {
		reset_locked(regs);
	}
}
