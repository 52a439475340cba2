/* SPDX-License-Identifier: ISC */
/*
 * The registers of a virtio-mmio device, version 2, without anything around them: no eventfd, no
 * engine, no machine. mmio.c puts them on the bus.
 *
 * Threads: reads and writes come from any vCPU's thread and take the device's lock, but for the
 * three registers of the fast path (QueueNotify, InterruptStatus, InterruptACK), so that a vCPU
 * does not wait there for a device at work.
 *
 * Source: VIRTIO 1.2, section 4.2.2.
 */
#ifndef HK_VIRTIO_MMIO_REGS_H
#define HK_VIRTIO_MMIO_REGS_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/state.h"
#include "virtio/device.h"

/* Offsets. R: may be read, W: may be written; all are 32 bits wide but for the last. */
enum hk_mmio_reg {
	HK_MMIO_MAGIC = 0x000,               /* R: "virt" */
	HK_MMIO_VERSION = 0x004,             /* R: 2 */
	HK_MMIO_DEVICE_ID = 0x008,           /* R: enum hk_virtio_type */
	HK_MMIO_VENDOR_ID = 0x00c,           /* R */
	HK_MMIO_DEVICE_FEATURES = 0x010,     /* R: the half that DEVICE_FEATURES_SEL names */
	HK_MMIO_DEVICE_FEATURES_SEL = 0x014, /* W */
	HK_MMIO_DRIVER_FEATURES = 0x020,     /* W: the half that DRIVER_FEATURES_SEL names */
	HK_MMIO_DRIVER_FEATURES_SEL = 0x024, /* W */
	HK_MMIO_QUEUE_SEL = 0x030,           /* W: which queue the queue registers are about */
	HK_MMIO_QUEUE_NUM_MAX = 0x034,       /* R: 0 where there is no such queue */
	HK_MMIO_QUEUE_NUM = 0x038,           /* W */
	HK_MMIO_QUEUE_READY = 0x044,         /* RW */
	HK_MMIO_QUEUE_NOTIFY = 0x050,        /* W: index of the queue with new buffers */
	HK_MMIO_INTERRUPT_STATUS = 0x060,    /* R: enum hk_mmio_isr */
	HK_MMIO_INTERRUPT_ACK = 0x064,       /* W: bits to clear there */
	HK_MMIO_STATUS = 0x070,              /* RW: enum hk_virtio_status; writing 0 resets */
	HK_MMIO_QUEUE_DESC_LOW = 0x080,      /* W, as the five that follow */
	HK_MMIO_QUEUE_DESC_HIGH = 0x084,
	HK_MMIO_QUEUE_DRIVER_LOW = 0x090, /* available ring */
	HK_MMIO_QUEUE_DRIVER_HIGH = 0x094,
	HK_MMIO_QUEUE_DEVICE_LOW = 0x0a0, /* used ring */
	HK_MMIO_QUEUE_DEVICE_HIGH = 0x0a4,
	HK_MMIO_SHM_SEL = 0x0ac,     /* W: which shared-memory region the next are about */
	HK_MMIO_SHM_LEN_LOW = 0x0b0, /* R: all ones where there is no such region */
	HK_MMIO_SHM_LEN_HIGH = 0x0b4,
	HK_MMIO_SHM_BASE_LOW = 0x0b8,
	HK_MMIO_SHM_BASE_HIGH = 0x0bc,
	HK_MMIO_CONFIG_GENERATION = 0x0fc, /* R: changes whenever CONFIG does */
	HK_MMIO_CONFIG = 0x100,            /* RW: device-specific, any width */
};

#define HK_MMIO_MAGIC_VALUE  UINT32_C(0x74726976)
#define HK_MMIO_VENDOR_VALUE UINT32_C(0x4f4b4148) /* "HAKO" */

enum hk_mmio_isr {
	HK_MMIO_ISR_USED = 1u << 0,
	HK_MMIO_ISR_CONFIG = 1u << 1,
};

/* VIRTIO 1.2, 2.1. */
enum hk_virtio_status {
	HK_VIRTIO_STATUS_ACKNOWLEDGE = 1u << 0,
	HK_VIRTIO_STATUS_DRIVER = 1u << 1,
	HK_VIRTIO_STATUS_DRIVER_OK = 1u << 2,
	HK_VIRTIO_STATUS_FEATURES_OK = 1u << 3,
	HK_VIRTIO_STATUS_NEEDS_RESET = 1u << 6,
	HK_VIRTIO_STATUS_FAILED = 1u << 7,
};

struct hk_mmio_regs;

struct hk_mmio_regs_ops {
	const char *name;
	/* The driver notified queue @index, which exists. Any vCPU's thread, no lock held.
	 * Required. */
	void (*notify)(struct hk_mmio_regs *regs, unsigned index);
};

/**
 * struct hk_mmio_regs - embedded in the transport
 * @dev: borrowed; its lock guards what follows but for the atomics
 * @status: without NEEDS_RESET, which is dev->needs_reset
 * @active: the device is between activate() and reset()
 * @driver_features: as written, not checked yet
 * @isr: bits of enum hk_mmio_isr
 * @generation: of the configuration space
 */
struct hk_mmio_regs {
	const struct hk_mmio_regs_ops *ops;
	struct hk_virtio *dev;
	uint32_t status;
	bool active;
	uint32_t device_features_sel;
	uint32_t driver_features_sel;
	uint64_t driver_features;
	uint32_t queue_sel;
	uint32_t shm_sel;
	atomic_uint isr;
	atomic_uint generation;
};

/** hk_mmio_regs_init() - as after power-on; @dev is set up but for its queues' addresses */
void hk_mmio_regs_init(
	struct hk_mmio_regs *regs, const struct hk_mmio_regs_ops *ops, struct hk_virtio *dev);

/**
 * hk_mmio_regs_read() - @len is 1, 2, 4 or 8. Return: the little-endian value; 0 where there is
 * nothing.
 */
uint64_t hk_mmio_regs_read(struct hk_mmio_regs *regs, uint64_t offset, unsigned len);
void hk_mmio_regs_write(struct hk_mmio_regs *regs, uint64_t offset, unsigned len, uint64_t value);

/** hk_mmio_regs_raise() - what an interrupt tells, to be called before the interrupt itself. Any
 * thread. */
void hk_mmio_regs_raise(struct hk_mmio_regs *regs, bool config_changed);

/**
 * hk_mmio_regs_kick() - queue @index was notified: let the device look, if it is in a state to
 *
 * Takes the device's lock. For devices that have no threads of their own.
 */
void hk_mmio_regs_kick(struct hk_mmio_regs *regs, unsigned index);

/* Registers and queues, then the device's own section. Both with the device's lock held. */
void hk_mmio_regs_save(struct hk_mmio_regs *regs, struct hk_writer *w);
/** hk_mmio_regs_restore() - on a device as after power-on; a failed reader leaves it so */
void hk_mmio_regs_restore(struct hk_mmio_regs *regs, struct hk_reader *r);

#endif
