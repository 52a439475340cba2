/* SPDX-License-Identifier: ISC */
/*
 * virtio-console: one port, with a receive queue (bytes for the guest) and a transmit queue.
 *
 * The device buffers nothing: what the guest writes goes to the owner at once, and the owner keeps
 * what the guest has no room for.
 *
 * Limits: no multiport, no emergency write. A write of more than MAX_WRITE bytes breaks the
 * rules, since it would keep the loop busy; Linux sends 32 KiB and the pages of one pipe at most.
 */
#include "virtio/console.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/bytes.h"
#include "base/util.h"

enum {
	RX = 0,
	TX = 1,
	QUEUE_SIZE = 128,
	MAX_WRITE = 1 << 20,
	STATE_VERSION = 1,
};

#define CONSOLE_F_SIZE (UINT64_C(1) << 0)

/* VIRTIO 1.2, 5.3.4. */
struct config {
	uint16_t cols;
	uint16_t rows;
	uint32_t max_nr_ports; /* multiport only */
	uint32_t emerg_wr;     /* emergency write only */
};
static_assert(sizeof(struct config) == 12, "VIRTIO 1.2, 5.3.4");

struct console {
	struct hk_virtio dev;
	struct hk_console_owner *owner; /* borrowed */
	uint16_t cols;
	uint16_t rows;
};

static struct console *from_dev(struct hk_virtio *dev)
{
	return hk_container_of(dev, struct console, dev);
}

static void console_read_config(struct hk_virtio *dev, unsigned offset, void *buf, unsigned len)
{
	struct console *console = from_dev(dev);
	uint8_t config[sizeof(struct config)] = {0};

	hk_store_le16(config + offsetof(struct config, cols), console->cols);
	hk_store_le16(config + offsetof(struct config, rows), console->rows);
	memcpy(buf, config + offset, len);
}

static int console_activate(struct hk_virtio *dev)
{
	(void)dev;
	return 0;
}

static uint32_t transmit(struct hk_virtio *dev, unsigned index, const struct hk_chain *chain)
{
	struct console *console = from_dev(dev);

	(void)index;
	if (chain->readable_bytes > MAX_WRITE) {
		hk_virtio_fail(dev, "write of more than 1 MiB");
		return 0;
	}
	for (unsigned i = 0; i < chain->readable_count; i++) {
		console->owner->output(
			console->owner, chain->iov[i].iov_base, chain->iov[i].iov_len);
	}
	return 0;
}

static void console_kick(struct hk_virtio *dev, unsigned index)
{
	struct console *console = from_dev(dev);

	if (index == TX) {
		hk_virtio_serve(dev, TX, transmit);
	} else if (console->owner->writable != NULL) {
		console->owner->writable(console->owner);
	}
}

/* Fills one chain. Return: bytes taken, 0 where there is no chain. */
static size_t receive(struct hk_virtio *dev, const uint8_t *bytes, size_t len)
{
	struct hk_virtq *vq = &dev->queues[RX].vq;
	struct iovec iov[QUEUE_SIZE];
	struct hk_chain chain = {.iov = iov, .capacity = QUEUE_SIZE};
	int rc = hk_virtq_pop(vq, &chain);
	uint32_t written;

	if (rc == 0 && hk_virtq_want_kicks(vq, true)) {
		rc = hk_virtq_pop(vq, &chain); /* it came just now, without a notification */
	}
	if (rc < 0) {
		hk_virtio_fail(dev, vq->why);
	}
	if (rc <= 0) {
		return 0;
	}
	written = hk_chain_write(&chain, 0, bytes, (uint32_t)HK_MIN(len, UINT32_MAX));
	if (written == 0) {
		hk_virtio_fail(dev, "input buffer that cannot be written");
		return 0;
	}
	hk_virtq_push(vq, &chain, written);
	return written;
}

size_t hk_console_input(struct hk_virtio *dev, const uint8_t *bytes, size_t len)
{
	size_t done = 0;

	pthread_mutex_lock(&dev->lock);
	while (done < len && !atomic_load_explicit(&dev->needs_reset, memory_order_relaxed)) {
		size_t taken = receive(dev, bytes + done, len - done);

		if (taken == 0) {
			break;
		}
		done += taken;
	}
	hk_virtio_interrupt(dev, RX);
	pthread_mutex_unlock(&dev->lock);
	return done;
}

void hk_console_resize(struct hk_virtio *dev, uint16_t cols, uint16_t rows)
{
	struct console *console = from_dev(dev);

	pthread_mutex_lock(&dev->lock);
	console->cols = cols;
	console->rows = rows;
	hk_virtio_config_changed(dev);
	pthread_mutex_unlock(&dev->lock);
}

static void console_reset(struct hk_virtio *dev)
{
	(void)dev; /* the size is the terminal's, not the driver's */
}

static void console_save(struct hk_virtio *dev, struct hk_writer *w)
{
	struct console *console = from_dev(dev);
	size_t mark = hk_writer_begin(w, "virtio-console", STATE_VERSION);

	hk_write_u16(w, console->cols);
	hk_write_u16(w, console->rows);
	hk_writer_end(w, mark);
}

static void console_restore(struct hk_virtio *dev, struct hk_reader *r)
{
	struct console *console = from_dev(dev);
	struct hk_section section = hk_reader_begin(r, "virtio-console", STATE_VERSION);

	console->cols = hk_read_u16(r);
	console->rows = hk_read_u16(r);
	hk_reader_end(r, section);
}

static void console_destroy(struct hk_virtio *dev)
{
	free(from_dev(dev));
}

static const struct hk_virtio_ops console_ops = {
	.name = "console",
	.type = HK_VIRTIO_CONSOLE,
	.read_config = console_read_config,
	.activate = console_activate,
	.kick = console_kick,
	.reset = console_reset,
	.save = console_save,
	.restore = console_restore,
	.destroy = console_destroy,
};

int hk_console_create(
	struct hk_console_owner *owner, struct hk_virtio **ret_dev, struct hk_err *err)
{
	static const uint16_t queue_sizes[] = {[RX] = QUEUE_SIZE, [TX] = QUEUE_SIZE};
	struct console *console;

	if (!hk_new(console)) {
		return hk_fail(err, ENOMEM, "virtio console");
	}
	hk_virtio_init(&console->dev, &console_ops, HK_ARRAY_SIZE(queue_sizes), queue_sizes);
	console->dev.offered = CONSOLE_F_SIZE;
	console->dev.config_len = sizeof(struct config);
	console->owner = owner;
	*ret_dev = &console->dev;
	return 0;
}
