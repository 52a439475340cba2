/* SPDX-License-Identifier: ISC */
/*
 * Virtio devices: what a device gives to a transport, and what it gets from it.
 *
 * A device is a base object with an ops table and its queues; the transport (mmio.h) owns registers
 * and negotiation. Device behaviour and transport are separate tables, neither changes at run time.
 *
 * Threads and locks. vCPU threads touch registers, the loop's thread serves queues; both hold
 * `lock` while they do. So every op but @destroy is called with `lock` held. A device that serves
 * queues on threads of its own sets HK_VIRTIO_OWN_THREADS: then nobody watches the queues' kick_fd
 * for it; from @activate (or @resume) to the return of @reset (or @quiesce) a queue belongs to its
 * thread, which does not take `lock`. Functions that a device offers to the box (console input,
 * balloon target) take the lock themselves, so an op must not end up in them.
 *
 * A device is active from a successful @activate to @reset. @kick, @quiesce and @resume are called
 * only while it is. One that failed (hk_virtio_fail()) stays active but is not kicked any more.
 *
 * Source: VIRTIO 1.2, section 2 (basic facilities), 3 (initialization), 4.2 (MMIO).
 *
 * Adding a device:
 *	1. virtio/NAME.h: a config struct and hk_NAME_create(); docstring with the VIRTIO section.
 *	2. virtio/NAME.c: embed `struct hk_virtio` first, fill an ops table, save and restore from
 *	   the start; a line in meson.build.
 *	3. Tests: tests/unit/test_virtio_NAME.c with tests/unit/virtq_driver.h (a driver in memory),
 *	   and a fuzz target if it parses what the guest writes.
 *	4. box/ creates it and puts it in a slot; ARCHITECTURE.md names it; the module goes in
 *	   kernel/modules.c.
 */
#ifndef HK_VIRTIO_DEVICE_H
#define HK_VIRTIO_DEVICE_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/loop.h"
#include "base/state.h"
#include "virtio/virtq.h"

/* Device types: VIRTIO 1.2, section 5. */
enum hk_virtio_type {
	HK_VIRTIO_NET = 1,
	HK_VIRTIO_BLK = 2,
	HK_VIRTIO_CONSOLE = 3,
	HK_VIRTIO_RNG = 4,
	HK_VIRTIO_BALLOON = 5,
	HK_VIRTIO_GPU = 16,
	HK_VIRTIO_INPUT = 18,
	HK_VIRTIO_VSOCK = 19,
	HK_VIRTIO_SND = 25,
	HK_VIRTIO_FS = 26,
};

/* Feature bits of every device: VIRTIO 1.2, section 6. The transport offers these itself. */
#define HK_VIRTIO_F_INDIRECT_DESC (UINT64_C(1) << 28)
#define HK_VIRTIO_F_EVENT_IDX     (UINT64_C(1) << 29)
#define HK_VIRTIO_F_VERSION_1     (UINT64_C(1) << 32)

enum { HK_VIRTIO_MAX_QUEUES = 20, HK_VIRTIO_MAX_SHM = 2 };

enum hk_virtio_flags {
	HK_VIRTIO_OWN_THREADS = 1u << 0,
};

struct hk_virtio;

struct hk_virtio_ops {
	const char *name;
	enum hk_virtio_type type;
	/* Device configuration space. @offset + @len lies within config_len. Required if config_len
	 * > 0. */
	void (*read_config)(struct hk_virtio *dev, unsigned offset, void *buf, unsigned len);
	/* Optional: without it writes are ignored. */
	void (*write_config)(struct hk_virtio *dev, unsigned offset, const void *buf, unsigned len);
	/* The driver is ready (DRIVER_OK); dev->features is final. A queue the driver left alone is
	 * not enabled: it gives no chains. Required. Return: 0, or -errno: needs-reset, and @reset
	 * will come. */
	int (*activate)(struct hk_virtio *dev);
	/* Enabled queue @index may have buffers, or may not. Required unless HK_VIRTIO_OWN_THREADS.
	 */
	void (*kick)(struct hk_virtio *dev, unsigned index);
	/* Back to power-on state; on return nothing of the device touches a queue or guest memory.
	 * The device may never have been active. Required. */
	void (*reset)(struct hk_virtio *dev);
	/* Let work in flight end, start no new; then save() may be called, or resume(). Optional: a
	 * device that has nothing in flight outside of its ops needs neither. */
	void (*quiesce)(struct hk_virtio *dev);
	/* Go on after quiesce(), or begin after restore() (instead of activate()). Every enabled
	 * queue gets a notification afterwards, so none that came meanwhile is lost. Optional. */
	void (*resume)(struct hk_virtio *dev);
	/* Device-specific state (queues and registers are the transport's), active or not.
	 * Required. Restore checks all values, is called on a device created with the same
	 * configuration, and is followed by resume() if the device was active. */
	void (*save)(struct hk_virtio *dev, struct hk_writer *w);
	void (*restore)(struct hk_virtio *dev, struct hk_reader *r);
	/* Frees the device. The transport is gone already. Required. */
	void (*destroy)(struct hk_virtio *dev);
};

/**
 * struct hk_virtio_queue - a queue and its notifications
 * @size_max: most entries the driver may ask for
 * @synchronous: @kick runs on the vCPU's thread, before the driver's notification returns to it.
 * Set by the
 *               creator, for queues whose driver counts on that; slow for all others.
 */
struct hk_virtio_queue {
	struct hk_virtq vq;
	uint16_t size_max;
	bool synchronous;
	int kick_fd; /* non-blocking eventfd, the transport's; readable when the driver has notified
		      */
};

/** struct hk_virtio_shm - a shared-memory region (VIRTIO 1.2, 2.10) */
struct hk_virtio_shm {
	const struct hk_mem_region *window; /* borrowed; NULL: absent */
};

/* The transport's side, as devices see it; first member of every transport. */
struct hk_virtio_transport {
	const struct hk_virtio_transport_ops *ops;
};

struct hk_virtio_transport_ops {
	const char *name;
	/* Tell the driver: of used buffers, or that the configuration space or the status changed.
	 * Any thread, with or without the device's lock. Required. */
	void (*interrupt)(struct hk_virtio_transport *transport, bool config_changed);
	/* As if the driver had notified queue @index. Any thread, with or without the lock.
	 * Required. */
	void (*notify)(struct hk_virtio_transport *transport, unsigned index);
};

/**
 * struct hk_virtio - first member of every device
 * @ops: constant
 * @transport: borrowed; set by the transport while attached, else NULL
 * @offered: device-specific feature bits offered (24-127 are the transport's)
 * @features: bits the driver accepted, of all kinds
 * @config_len: bytes of configuration space
 * @queue_count: of @queues that exist; each with its size_max set by the device's creator
 * @needs_reset: set by hk_virtio_fail()
 */
struct hk_virtio {
	const struct hk_virtio_ops *ops;
	struct hk_virtio_transport *transport;
	unsigned flags; /* enum hk_virtio_flags */
	uint64_t offered;
	uint64_t features;
	unsigned config_len;
	unsigned queue_count;
	struct hk_virtio_queue queues[HK_VIRTIO_MAX_QUEUES];
	struct hk_virtio_shm shm[HK_VIRTIO_MAX_SHM];
	pthread_mutex_t lock;
	atomic_bool needs_reset;
	struct hk_loop *loop;     /* borrowed; from attach on */
	const struct hk_mem *mem; /* borrowed; from attach on */
};

/**
 * hk_virtio_init() - for creators, first thing; @dev is zeroed memory
 * @queue_sizes: @queue_count elements, each the most entries the queue may have (a power of two)
 *
 * The creator then sets flags, offered, config_len and shm as it needs. A creator that fails
 * afterwards undoes this with hk_virtio_destroy().
 */
void hk_virtio_init(struct hk_virtio *dev, const struct hk_virtio_ops *ops, unsigned queue_count,
	const uint16_t *queue_sizes);

/** hk_virtio_destroy() - after the transport; NULL is fine */
void hk_virtio_destroy(struct hk_virtio *dev);

/** hk_virtio_interrupt() - after pushes on @index: interrupts the driver if it wants. Queue's
 * thread. Call once for each batch; without pushes since the last call it does nothing. */
void hk_virtio_interrupt(struct hk_virtio *dev, unsigned index);

/** hk_virtio_config_changed() - the configuration space changed. Any thread; in the same critical
 * section of `lock` as the change, so that the driver cannot read a mix of old and new. */
void hk_virtio_config_changed(struct hk_virtio *dev);

/** hk_virtio_fail() - the guest broke the rules (or we cannot go on): needs-reset. Any thread.
 * @why: for the debug log; nothing of the guest's in it */
void hk_virtio_fail(struct hk_virtio *dev, const char *why);

/** hk_virtio_notify_self() - come back to queue @index later, after others had their turn. Any
 * thread. */
void hk_virtio_notify_self(struct hk_virtio *dev, unsigned index);

/**
 * typedef hk_virtio_serve_fn - answer one chain there and then
 *
 * It may hk_virtio_fail() the device; the chain does not go back then.
 *
 * Return: bytes written to the chain's writable part.
 */
typedef uint32_t hk_virtio_serve_fn(
	struct hk_virtio *dev, unsigned index, const struct hk_chain *chain);

/**
 * hk_virtio_serve() - a whole @kick, for queues whose chains can be answered at once
 *
 * Gives each chain to @serve and back to the driver, interrupts, and fails the device if the
 * queue is broken. A driver that adds buffers as fast as they are served does not keep it for
 * ever: what is left after a queue's length of chains waits for another turn.
 */
void hk_virtio_serve(struct hk_virtio *dev, unsigned index, hk_virtio_serve_fn *serve);

static inline bool hk_virtio_has(const struct hk_virtio *dev, uint64_t feature)
{
	return (dev->features & feature) != 0;
}

#endif
