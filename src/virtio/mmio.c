/* SPDX-License-Identifier: ISC */
/*
 * The virtio-mmio transport: puts a device's registers (mmio_regs.c) on the machine's bus and
 * connects its notifications.
 *
 * Theory of operation. Each queue has an eventfd. The driver's write to QueueNotify signals it:
 * where the engine has doorbells that need no return to us, else from the register's handler. The
 * loop watches it and lets the device look at the queue; a device with threads of its own watches
 * it itself.
 *
 * In the other direction the device's interrupt sets a bit in InterruptStatus and then pulses its
 * line, by an eventfd that the engine watches where it can. The DSDT declares the lines
 * edge-triggered, so a pulse is all there is to it, and none is ever withdrawn. A pulse too many
 * finds no bit set, and the driver shrugs. One too few, and the driver waits for ever: a device's
 * threads pulse one after the other, as an edge on a line that is high already is none.
 *
 * Limits: one interrupt for all queues, as virtio-mmio has it.
 */
#include "virtio/mmio.h"

#include <assert.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/util.h"
#include "virtio/mmio_regs.h"

struct queue {
	struct hk_source source; /* kick_fd in the loop; not added with HK_VIRTIO_OWN_THREADS */
	struct hk_virtio_mmio *transport;
	unsigned index;
	bool doorbell; /* the engine signals kick_fd */
};

/**
 * struct hk_virtio_mmio - one slot with a device
 * @irq_fd: the engine pulses the line when it is written; -1 where we do that ourselves
 * @pulse_lock: up and down again are one; a leaf
 * @quiesced: the device rests; notifications wait for the resume. Loop's thread.
 */
struct hk_virtio_mmio {
	struct hk_virtio_transport transport;
	struct hk_mmio_regs regs;
	struct hk_region region;
	struct hk_virtio *dev;    /* borrowed */
	struct hk_engine *engine; /* borrowed */
	struct hk_slot slot;
	int irq_fd;
	pthread_mutex_t pulse_lock;
	bool quiesced;
	struct queue queues[HK_VIRTIO_MAX_QUEUES];
};

static void signal_fd(int fd)
{
	/* Fails only where the counter is full: then it is readable already. */
	(void)eventfd_write(fd, 1);
}

static void pulse(struct hk_virtio_mmio *transport)
{
	if (transport->irq_fd >= 0) {
		signal_fd(transport->irq_fd);
	} else {
		pthread_mutex_lock(&transport->pulse_lock);
		(void)hk_engine_irq(transport->engine, transport->slot.gsi, true);
		(void)hk_engine_irq(transport->engine, transport->slot.gsi, false);
		pthread_mutex_unlock(&transport->pulse_lock);
	}
}

static void raise_interrupt(struct hk_virtio_transport *base, bool config_changed)
{
	struct hk_virtio_mmio *transport = hk_container_of(base, struct hk_virtio_mmio, transport);

	hk_mmio_regs_raise(&transport->regs, config_changed);
	pulse(transport);
}

static void notify_later(struct hk_virtio_transport *base, unsigned index)
{
	struct hk_virtio_mmio *transport = hk_container_of(base, struct hk_virtio_mmio, transport);

	signal_fd(transport->dev->queues[index].kick_fd);
}

static const struct hk_virtio_transport_ops transport_ops = {
	.name = "virtio-mmio",
	.interrupt = raise_interrupt,
	.notify = notify_later,
};

/* Without a doorbell the write arrives here, and goes the same way from here on. */
static void notify(struct hk_mmio_regs *regs, unsigned index)
{
	if (regs->dev->queues[index].synchronous) {
		hk_mmio_regs_kick(regs, index);
	} else {
		signal_fd(regs->dev->queues[index].kick_fd);
	}
}

static const struct hk_mmio_regs_ops regs_ops = {
	.name = "virtio-mmio",
	.notify = notify,
};

static uint64_t region_read(struct hk_region *region, uint64_t offset, unsigned len)
{
	struct hk_virtio_mmio *transport = hk_container_of(region, struct hk_virtio_mmio, region);

	return hk_mmio_regs_read(&transport->regs, offset, len);
}

static void region_write(struct hk_region *region, uint64_t offset, unsigned len, uint64_t value)
{
	struct hk_virtio_mmio *transport = hk_container_of(region, struct hk_virtio_mmio, region);

	hk_mmio_regs_write(&transport->regs, offset, len, value);
}

static const struct hk_region_ops region_ops = {
	.name = "virtio-mmio",
	.read = region_read,
	.write = region_write,
};

static void kick_ready(struct hk_source *source, uint32_t events)
{
	struct queue *queue = hk_container_of(source, struct queue, source);
	eventfd_t count;

	(void)events;
	if (eventfd_read(source->fd, &count) < 0) {
		return; /* nothing there after all */
	}
	/* While the device rests, resume() remembers for us. */
	if (!queue->transport->quiesced) {
		hk_mmio_regs_kick(&queue->transport->regs, queue->index);
	}
}

static hk_gpa notify_gpa(const struct hk_virtio_mmio *transport)
{
	return transport->slot.gpa + HK_MMIO_QUEUE_NOTIFY;
}

static int attach_queue(struct hk_virtio_mmio *transport, unsigned index, struct hk_err *err)
{
	struct hk_virtio *dev = transport->dev;
	struct queue *queue = &transport->queues[index];
	/* seccomp: eventfd2 */
	int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	int rc;

	if (fd < 0) {
		return hk_fail(err, errno, "eventfd of queue %u", index);
	}
	dev->queues[index].kick_fd = fd;
	dev->queues[index].vq.mem = dev->mem;
	queue->transport = transport;
	queue->index = index;
	if (!dev->queues[index].synchronous) {
		rc = hk_engine_doorbell(transport->engine, notify_gpa(transport), index, fd, true);
		if (rc < 0 && rc != -ENOTSUP) {
			return hk_fail(err, -rc, "doorbell of queue %u", index);
		}
		queue->doorbell = rc == 0;
	}
	if (dev->flags & HK_VIRTIO_OWN_THREADS) {
		return 0;
	}
	queue->source = (struct hk_source){.fd = fd, .events = EPOLLIN, .ready = kick_ready};
	return hk_source_add(dev->loop, &queue->source, err);
}

static void detach_queue(struct hk_virtio_mmio *transport, unsigned index)
{
	struct queue *queue = &transport->queues[index];
	int *kick_fd = &transport->dev->queues[index].kick_fd;

	hk_source_remove(&queue->source);
	if (queue->doorbell) {
		(void)hk_engine_doorbell(
			transport->engine, notify_gpa(transport), index, *kick_fd, false);
	}
	hk_close(kick_fd);
}

static int attach_interrupt(struct hk_virtio_mmio *transport, struct hk_err *err)
{
	autoclose int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	int rc;

	if (fd < 0) {
		return hk_fail(err, errno, "eventfd of the interrupt");
	}
	rc = hk_engine_irqfd(transport->engine, transport->slot.gsi, fd, true);
	if (rc == -ENOTSUP) {
		return 0;
	}
	if (rc < 0) {
		return hk_fail(err, -rc, "interrupt %u", transport->slot.gsi);
	}
	transport->irq_fd = take_fd(&fd);
	return 0;
}

/* All but the allocation; what it leaves half-made hk_virtio_mmio_destroy() undoes. */
static int attach(struct hk_virtio_mmio *transport, struct hk_machine *machine, struct hk_err *err)
{
	struct hk_virtio *dev = transport->dev;
	int rc = hk_machine_slot(machine, &transport->slot, err);

	if (rc < 0) {
		return rc;
	}
	rc = attach_interrupt(transport, err);
	if (rc < 0) {
		return rc;
	}
	for (unsigned i = 0; i < dev->queue_count; i++) {
		rc = attach_queue(transport, i, err);
		if (rc < 0) {
			return rc;
		}
	}
	transport->region = (struct hk_region){
		.ops = &region_ops,
		.space = HK_SPACE_MMIO,
		.base = transport->slot.gpa,
		.size = transport->slot.len_bytes,
	};
	/* Last: from here on the guest can see it. It has no way back, and needs none. */
	return hk_bus_add(hk_machine_bus(machine), &transport->region, err);
}

int hk_virtio_mmio_attach(struct hk_machine *machine, struct hk_virtio *dev,
	struct hk_virtio_mmio **ret_transport, struct hk_err *err)
{
	struct hk_virtio_mmio *transport;
	int rc;

	assert(dev->transport == NULL);
	if (!hk_new(transport)) {
		return hk_fail(err, ENOMEM, "virtio %s", dev->ops->name);
	}
	transport->transport.ops = &transport_ops;
	transport->dev = dev;
	transport->engine = hk_machine_engine(machine);
	transport->irq_fd = -1;
	pthread_mutex_init(&transport->pulse_lock, NULL);
	hk_mmio_regs_init(&transport->regs, &regs_ops, dev);
	dev->transport = &transport->transport;
	dev->loop = hk_machine_loop(machine);
	dev->mem = hk_machine_mem(machine);
	rc = attach(transport, machine, err);
	if (rc < 0) {
		(void)hk_err_ctx(err, "virtio %s", dev->ops->name);
		hk_virtio_mmio_destroy(transport);
		return rc;
	}
	*ret_transport = transport;
	return 0;
}

void hk_virtio_mmio_destroy(struct hk_virtio_mmio *transport)
{
	struct hk_virtio *dev;

	if (transport == NULL) {
		return;
	}
	dev = transport->dev;
	/* First the device, so that none of its threads is left to use what goes next. */
	hk_mmio_regs_write(&transport->regs, HK_MMIO_STATUS, 4, 0);
	for (unsigned i = 0; i < dev->queue_count; i++) {
		detach_queue(transport, i);
		dev->queues[i].vq.mem = NULL;
	}
	if (transport->irq_fd >= 0) {
		(void)hk_engine_irqfd(
			transport->engine, transport->slot.gsi, transport->irq_fd, false);
		hk_close(&transport->irq_fd);
	}
	dev->transport = NULL;
	dev->loop = NULL;
	dev->mem = NULL;
	pthread_mutex_destroy(&transport->pulse_lock);
	free(transport);
}

void hk_virtio_mmio_quiesce(struct hk_virtio_mmio *transport)
{
	struct hk_virtio *dev = transport->dev;

	pthread_mutex_lock(&dev->lock);
	transport->quiesced = true;
	if (transport->regs.active && dev->ops->quiesce != NULL) {
		dev->ops->quiesce(dev);
	}
	pthread_mutex_unlock(&dev->lock);
}

void hk_virtio_mmio_resume(struct hk_virtio_mmio *transport)
{
	struct hk_virtio *dev = transport->dev;

	pthread_mutex_lock(&dev->lock);
	transport->quiesced = false;
	if (transport->regs.active && dev->ops->resume != NULL) {
		dev->ops->resume(dev);
	}
	pthread_mutex_unlock(&dev->lock);
	/*
	 * Notifications that came while the device rested were dropped, and those that were on
	 * their way when it was saved are in no snapshot. One too many does no harm.
	 */
	for (unsigned i = 0; i < dev->queue_count; i++) {
		signal_fd(dev->queues[i].kick_fd);
	}
	/* Nor is a pulse between us and the interrupt controller. */
	if (atomic_load_explicit(&transport->regs.isr, memory_order_relaxed) != 0) {
		pulse(transport);
	}
}

void hk_virtio_mmio_save(struct hk_virtio_mmio *transport, struct hk_writer *w)
{
	assert(transport->quiesced);
	pthread_mutex_lock(&transport->dev->lock);
	hk_mmio_regs_save(&transport->regs, w);
	pthread_mutex_unlock(&transport->dev->lock);
}

void hk_virtio_mmio_restore(struct hk_virtio_mmio *transport, struct hk_reader *r)
{
	pthread_mutex_lock(&transport->dev->lock);
	transport->quiesced = true;
	hk_mmio_regs_restore(&transport->regs, r);
	pthread_mutex_unlock(&transport->dev->lock);
}
