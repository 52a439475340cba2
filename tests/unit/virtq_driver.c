/* SPDX-License-Identifier: ISC */
/* A virtio driver in memory, for tests of devices: see virtq_driver.h. */
#include "virtq_driver.h"

#undef NDEBUG
#include <assert.h>
#include <errno.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/util.h"

enum {
	AVAIL_F_NO_INTERRUPT = 1u << 0,
	USED_F_NO_NOTIFY = 1u << 0,
	STATUS_INIT = HK_VIRTIO_STATUS_ACKNOWLEDGE | HK_VIRTIO_STATUS_DRIVER,
};

static const uint64_t ram_bytes = 64 * HK_MIB;
static const hk_gpa first_gpa = HK_MIB;

static void *at(const struct hk_mem *mem, hk_gpa gpa, uint64_t len)
{
	void *host = hk_mem_at(mem, gpa, len);

	assert(host != NULL);
	return host;
}

static uint16_t *u16_at(struct vqd *d, hk_gpa gpa)
{
	return at(d->mem, gpa, 2);
}

static uint16_t *avail_flags(struct vqd *d)
{
	return u16_at(d, d->avail_gpa);
}

static uint16_t *avail_idx(struct vqd *d)
{
	return u16_at(d, d->avail_gpa + 2);
}

static uint16_t *used_event(struct vqd *d)
{
	return u16_at(d, d->avail_gpa + 4 + 2 * d->size);
}

static uint16_t *used_flags(struct vqd *d)
{
	return u16_at(d, d->used_gpa);
}

static uint16_t *used_idx(struct vqd *d)
{
	return u16_at(d, d->used_gpa + 2);
}

static uint16_t *avail_event(struct vqd *d)
{
	return u16_at(d, d->used_gpa + 4 + 8 * d->size);
}

hk_gpa vqd_init(struct vqd *d, const struct hk_mem *mem, hk_gpa area, uint16_t size)
{
	*d = (struct vqd){.mem = mem, .size = size, .free_count = size, .callbacks = true};
	d->desc_gpa = area;
	d->avail_gpa = d->desc_gpa + (uint64_t)size * VQD_DESC_SIZE;
	d->used_gpa = hk_align_up(d->avail_gpa + 6 + 2 * (uint64_t)size, 4);
	d->tables_gpa = hk_align_up(d->used_gpa + 6 + 8 * (uint64_t)size, VQD_DESC_SIZE);
	memset(at(mem, area, d->tables_gpa - area), 0, d->tables_gpa - area);
	for (uint16_t i = 0; i < size; i++) {
		d->next[i] = (uint16_t)(i + 1);
	}
	return hk_align_up(
		d->tables_gpa + (uint64_t)size * VQD_TABLE_ENTRIES * VQD_DESC_SIZE, HK_PAGE_SIZE);
}

void vqd_raw_table_desc(struct vqd *d, hk_gpa table, unsigned index, hk_gpa addr, uint32_t len,
	uint16_t flags, uint16_t next)
{
	uint8_t *raw = at(d->mem, table + (uint64_t)index * VQD_DESC_SIZE, VQD_DESC_SIZE);

	hk_store_le64(raw, addr);
	hk_store_le32(raw + 8, len);
	hk_store_le16(raw + 12, flags);
	hk_store_le16(raw + 14, next);
}

void vqd_raw_desc(
	struct vqd *d, unsigned index, hk_gpa addr, uint32_t len, uint16_t flags, uint16_t next)
{
	vqd_raw_table_desc(d, d->desc_gpa, index % d->size, addr, len, flags, next);
}

void vqd_raw_avail_idx(struct vqd *d, uint16_t idx)
{
	d->avail_idx = idx;
	/* Release: pairs with look_ahead() in virtq.c, as Linux's virtio_wmb(). */
	hk_store_release(avail_idx(d), idx);
}

void vqd_raw_offer(struct vqd *d, uint16_t head)
{
	hk_gpa entry = d->avail_gpa + 4 + 2 * (uint64_t)(d->avail_idx & (d->size - 1));

	hk_store_once(u16_at(d, entry), head);
	vqd_raw_avail_idx(d, (uint16_t)(d->avail_idx + 1));
}

static uint16_t take_free(struct vqd *d)
{
	uint16_t index = d->free_head;

	assert(d->free_count > 0);
	d->free_head = d->next[index];
	d->free_count--;
	return index;
}

static uint16_t buf_flags(const struct vqd_buf *bufs, unsigned i, unsigned count)
{
	return (uint16_t)((bufs[i].writable ? VQD_F_WRITE : 0) | (i + 1 < count ? VQD_F_NEXT : 0));
}

static uint16_t add_indirect(struct vqd *d, const struct vqd_buf *bufs, unsigned count)
{
	uint16_t head = take_free(d);
	hk_gpa table = d->tables_gpa + (uint64_t)head * VQD_TABLE_ENTRIES * VQD_DESC_SIZE;

	for (unsigned i = 0; i < count; i++) {
		vqd_raw_table_desc(d, table, i, bufs[i].gpa, bufs[i].len, buf_flags(bufs, i, count),
			(uint16_t)(i + 1));
	}
	vqd_raw_desc(d, head, table, count * VQD_DESC_SIZE, VQD_F_INDIRECT, 0);
	d->chain_len[head] = 1;
	return head;
}

static uint16_t add_direct(struct vqd *d, const struct vqd_buf *bufs, unsigned count)
{
	uint16_t head = d->free_head;

	for (unsigned i = 0; i < count; i++) {
		uint16_t index = take_free(d);

		vqd_raw_desc(d, index, bufs[i].gpa, bufs[i].len, buf_flags(bufs, i, count),
			d->next[index]);
	}
	d->chain_len[head] = (uint16_t)count;
	return head;
}

int vqd_add(struct vqd *d, const struct vqd_buf *bufs, unsigned count, uint64_t token)
{
	bool in_table = d->indirect && count > 1 && count <= VQD_TABLE_ENTRIES && count <= d->size;
	uint16_t head;

	assert(count > 0);
	if ((in_table ? 1 : count) > d->free_count) {
		return -ENOSPC;
	}
	head = in_table ? add_indirect(d, bufs, count) : add_direct(d, bufs, count);
	d->tokens[head] = token;
	vqd_raw_offer(d, head);
	return head;
}

bool vqd_wants_kick(struct vqd *d)
{
	uint16_t added = (uint16_t)(d->avail_idx - d->kicked);

	/* Full: pairs with hk_virtq_want_kicks(). */
	atomic_thread_fence(memory_order_seq_cst);
	d->kicked = d->avail_idx;
	if (d->event_idx) {
		uint16_t event = hk_load_once(avail_event(d));

		return (uint16_t)(d->avail_idx - event - 1) < added;
	}
	return added != 0 && !(hk_load_once(used_flags(d)) & USED_F_NO_NOTIFY);
}

bool vqd_take(struct vqd *d, struct vqd_used *ret_used)
{
	/* Acquire: pairs with hk_virtq_push(). */
	uint16_t idx = hk_load_acquire(used_idx(d));
	hk_gpa entry = d->used_gpa + 4 + 8 * (uint64_t)(d->last_used & (d->size - 1));
	const uint32_t *elem = at(d->mem, entry, 8);
	uint16_t head, tail;

	if (idx == d->last_used) {
		return false;
	}
	assert(hk_load_once(&elem[0]) < d->size);
	head = (uint16_t)hk_load_once(&elem[0]);
	*ret_used = (struct vqd_used){
		.head = head,
		.len = hk_load_once(&elem[1]),
		.token = d->tokens[head],
	};
	d->last_used++;
	if (d->chain_len[head] != 0) {
		tail = head;
		for (unsigned i = 1; i < d->chain_len[head]; i++) {
			tail = d->next[tail];
		}
		d->next[tail] = d->free_head;
		d->free_head = head;
		d->free_count = (uint16_t)(d->free_count + d->chain_len[head]);
		d->chain_len[head] = 0;
	}
	if (d->callbacks && d->event_idx) {
		hk_store_once(used_event(d), d->last_used);
		/* Full: pairs with hk_virtq_wants_interrupt(). */
		atomic_thread_fence(memory_order_seq_cst);
	}
	return true;
}

bool vqd_enable_callbacks(struct vqd *d)
{
	d->callbacks = true;
	if (d->event_idx) {
		hk_store_once(used_event(d), d->last_used);
	} else {
		hk_store_once(avail_flags(d), 0);
	}
	/* Full: pairs with hk_virtq_wants_interrupt(). */
	atomic_thread_fence(memory_order_seq_cst);
	return hk_load_once(used_idx(d)) == d->last_used;
}

void vqd_disable_callbacks(struct vqd *d)
{
	d->callbacks = false;
	if (d->event_idx) {
		/* Half the indices away: not reached before the next look. */
		hk_store_once(used_event(d), (uint16_t)(d->last_used + 0x8000));
	} else {
		hk_store_once(avail_flags(d), AVAIL_F_NO_INTERRUPT);
	}
}

static void count_interrupt(struct hk_virtio_transport *transport, bool config_changed)
{
	struct vqh *h = hk_container_of(transport, struct vqh, transport);

	hk_mmio_regs_raise(&h->regs, config_changed);
	atomic_fetch_add(config_changed ? &h->config_changes : &h->interrupts, 1);
}

static void notify_later(struct hk_virtio_transport *transport, unsigned index)
{
	struct vqh *h = hk_container_of(transport, struct vqh, transport);

	if (h->dev->flags & HK_VIRTIO_OWN_THREADS) {
		(void)eventfd_write(h->dev->queues[index].kick_fd, 1);
	} else {
		atomic_fetch_or(&h->again, 1u << index);
	}
}

static const struct hk_virtio_transport_ops transport_ops = {
	.name = "test",
	.interrupt = count_interrupt,
	.notify = notify_later,
};

static void notify(struct hk_mmio_regs *regs, unsigned index)
{
	struct vqh *h = hk_container_of(regs, struct vqh, regs);
	struct hk_virtio *dev = regs->dev;

	if (dev->flags & HK_VIRTIO_OWN_THREADS) {
		(void)eventfd_write(dev->queues[index].kick_fd, 1);
		return;
	}
	do {
		hk_mmio_regs_kick(regs, index);
	} while (atomic_fetch_and(&h->again, ~(1u << index)) & (1u << index));
}

static const struct hk_mmio_regs_ops regs_ops = {.name = "test", .notify = notify};

static void attach_device(struct vqh *h, struct hk_virtio *dev, struct hk_loop *loop)
{
	h->dev = dev;
	hk_mmio_regs_init(&h->regs, &regs_ops, dev);
	dev->transport = &h->transport;
	dev->loop = loop;
	dev->mem = &h->mem;
	for (unsigned i = 0; i < dev->queue_count; i++) {
		dev->queues[i].vq.mem = &h->mem;
		dev->queues[i].kick_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
		assert(dev->queues[i].kick_fd >= 0);
	}
}

static void detach_device(struct vqh *h)
{
	struct hk_virtio *dev = h->dev;

	vqh_write(h, HK_MMIO_STATUS, 0);
	for (unsigned i = 0; i < dev->queue_count; i++) {
		close(dev->queues[i].kick_fd);
		dev->queues[i].kick_fd = -1;
		dev->queues[i].vq.mem = NULL;
	}
	dev->transport = NULL;
	dev->loop = NULL;
	dev->mem = NULL;
	h->dev = NULL;
}

void vqh_attach(struct vqh *h, struct hk_virtio *dev, struct hk_loop *loop)
{
	int rc;

	memset(h, 0, sizeof(*h));
	h->transport.ops = &transport_ops;
	h->next_gpa = first_gpa;
	rc = hk_mem_create(&h->mem, ram_bytes, NULL);
	assert(rc == 0);
	attach_device(h, dev, loop);
}

bool vqh_negotiate(struct vqh *h, uint64_t features)
{
	features |= HK_VIRTIO_F_VERSION_1;
	vqh_write(h, HK_MMIO_STATUS, 0);
	vqh_write(h, HK_MMIO_STATUS, HK_VIRTIO_STATUS_ACKNOWLEDGE);
	vqh_write(h, HK_MMIO_STATUS, STATUS_INIT);
	vqh_write(h, HK_MMIO_DRIVER_FEATURES_SEL, 1);
	vqh_write(h, HK_MMIO_DRIVER_FEATURES, (uint32_t)(features >> 32));
	vqh_write(h, HK_MMIO_DRIVER_FEATURES_SEL, 0);
	vqh_write(h, HK_MMIO_DRIVER_FEATURES, (uint32_t)features);
	vqh_write(h, HK_MMIO_STATUS, STATUS_INIT | HK_VIRTIO_STATUS_FEATURES_OK);
	return (vqh_read(h, HK_MMIO_STATUS) & HK_VIRTIO_STATUS_FEATURES_OK) != 0;
}

void vqh_setup_queue(struct vqh *h, unsigned index, uint16_t size)
{
	struct vqd *d = &h->queues[index];

	h->next_gpa = vqd_init(d, &h->mem, h->next_gpa, size);
	d->event_idx = hk_virtio_has(h->dev, HK_VIRTIO_F_EVENT_IDX);
	d->indirect = hk_virtio_has(h->dev, HK_VIRTIO_F_INDIRECT_DESC);
	vqh_write(h, HK_MMIO_QUEUE_SEL, index);
	vqh_write(h, HK_MMIO_QUEUE_NUM, size);
	vqh_write(h, HK_MMIO_QUEUE_DESC_LOW, (uint32_t)d->desc_gpa);
	vqh_write(h, HK_MMIO_QUEUE_DESC_HIGH, (uint32_t)(d->desc_gpa >> 32));
	vqh_write(h, HK_MMIO_QUEUE_DRIVER_LOW, (uint32_t)d->avail_gpa);
	vqh_write(h, HK_MMIO_QUEUE_DRIVER_HIGH, (uint32_t)(d->avail_gpa >> 32));
	vqh_write(h, HK_MMIO_QUEUE_DEVICE_LOW, (uint32_t)d->used_gpa);
	vqh_write(h, HK_MMIO_QUEUE_DEVICE_HIGH, (uint32_t)(d->used_gpa >> 32));
	vqh_write(h, HK_MMIO_QUEUE_READY, 1);
	assert(vqh_read(h, HK_MMIO_QUEUE_READY) == 1);
}

void vqh_driver_ok(struct vqh *h)
{
	vqh_write(h, HK_MMIO_STATUS, vqh_read(h, HK_MMIO_STATUS) | HK_VIRTIO_STATUS_DRIVER_OK);
	/* Nothing was added before, so the device's first look at each queue is left out. */
	atomic_store(&h->again, 0);
}

void vqh_start(struct vqh *h, struct hk_virtio *dev, struct hk_loop *loop, uint64_t features)
{
	bool accepted;

	vqh_attach(h, dev, loop);
	accepted = vqh_negotiate(h, features);
	assert(accepted);
	for (unsigned i = 0; i < dev->queue_count; i++) {
		vqh_write(h, HK_MMIO_QUEUE_SEL, i);
		vqh_setup_queue(h, i, (uint16_t)vqh_read(h, HK_MMIO_QUEUE_NUM_MAX));
	}
	vqh_driver_ok(h);
	assert(vqh_read(h, HK_MMIO_STATUS) & HK_VIRTIO_STATUS_DRIVER_OK);
}

void vqh_finish(struct vqh *h)
{
	detach_device(h);
	hk_mem_finish(&h->mem);
}

hk_gpa vqh_alloc(struct vqh *h, uint64_t len)
{
	hk_gpa gpa = h->next_gpa;

	h->next_gpa = hk_align_up(gpa + len, HK_PAGE_SIZE);
	memset(at(&h->mem, gpa, len), 0, len);
	return gpa;
}

void *vqh_at(struct vqh *h, hk_gpa gpa, uint64_t len)
{
	return at(&h->mem, gpa, len);
}

void vqh_kick(struct vqh *h, unsigned index)
{
	vqh_write(h, HK_MMIO_QUEUE_NOTIFY, index);
}

uint32_t vqh_read(struct vqh *h, unsigned reg)
{
	return (uint32_t)hk_mmio_regs_read(&h->regs, reg, 4);
}

void vqh_write(struct vqh *h, unsigned reg, uint32_t value)
{
	hk_mmio_regs_write(&h->regs, reg, 4, value);
}

uint64_t vqh_config(struct vqh *h, unsigned offset, unsigned len)
{
	return hk_mmio_regs_read(&h->regs, HK_MMIO_CONFIG + offset, len);
}

void vqh_write_config(struct vqh *h, unsigned offset, unsigned len, uint64_t value)
{
	hk_mmio_regs_write(&h->regs, HK_MMIO_CONFIG + offset, len, value);
}

bool vqh_needs_reset(struct vqh *h)
{
	return (vqh_read(h, HK_MMIO_STATUS) & HK_VIRTIO_STATUS_NEEDS_RESET) != 0;
}

void vqh_save(struct vqh *h, struct hk_writer *w)
{
	struct hk_virtio *dev = h->dev;

	pthread_mutex_lock(&dev->lock);
	if (h->regs.active && dev->ops->quiesce != NULL) {
		dev->ops->quiesce(dev);
	}
	hk_mmio_regs_save(&h->regs, w);
	pthread_mutex_unlock(&dev->lock);
}

bool vqh_restore(struct vqh *h, struct hk_virtio *fresh, struct hk_reader *r)
{
	struct hk_loop *loop = h->dev->loop;

	detach_device(h);
	attach_device(h, fresh, loop);
	pthread_mutex_lock(&fresh->lock);
	hk_mmio_regs_restore(&h->regs, r);
	if (r->error == 0 && h->regs.active && fresh->ops->resume != NULL) {
		fresh->ops->resume(fresh);
	}
	pthread_mutex_unlock(&fresh->lock);
	if (r->error != 0) {
		return false;
	}
	for (unsigned i = 0; i < fresh->queue_count; i++) {
		vqh_kick(h, i);
	}
	return true;
}

bool vqh_move(struct vqh *h, struct hk_virtio *fresh)
{
	struct hk_writer w = {0};
	struct hk_reader r;
	bool ok;

	vqh_save(h, &w);
	assert(w.error == 0);
	hk_reader_init(&r, w.data, w.len);
	ok = vqh_restore(h, fresh, &r);
	hk_writer_finish(&w);
	return ok;
}
