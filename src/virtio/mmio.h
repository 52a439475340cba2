/* SPDX-License-Identifier: ISC */
/*
 * The virtio-mmio transport, version 2 (no legacy): a device in a slot of the machine.
 * Source: VIRTIO 1.2, section 4.2.2. The registers themselves are mmio_regs.h.
 */
#ifndef HK_VIRTIO_MMIO_H
#define HK_VIRTIO_MMIO_H

#include "machine/machine.h"
#include "virtio/device.h"

struct hk_virtio_mmio;

/**
 * hk_virtio_mmio_attach() - put @dev in the next slot of @machine
 * @dev: stays the caller's; destroyed by the caller after the transport
 *
 * Makes the queues' eventfds, registers doorbells and interrupt with the engine where it can.
 * Before the vCPUs start; loop's thread.
 *
 * Return: 0; -ENOSPC where all slots are taken; -EMFILE and the like where eventfds cannot be had.
 */
int hk_virtio_mmio_attach(struct hk_machine *machine, struct hk_virtio *dev,
	struct hk_virtio_mmio **ret_transport, struct hk_err *err);

/**
 * hk_virtio_mmio_destroy() - reset the device and take it off its slot
 *
 * vCPUs have stopped, for good; the machine is still there. Loop's thread. NULL is fine.
 */
void hk_virtio_mmio_destroy(struct hk_virtio_mmio *transport);

/*
 * All on the loop's thread, with the machine paused or not yet started. Resume follows save or
 * restore, before the machine goes on.
 */
void hk_virtio_mmio_quiesce(struct hk_virtio_mmio *transport);
void hk_virtio_mmio_resume(struct hk_virtio_mmio *transport);
/** hk_virtio_mmio_save() - of a quiesced device */
void hk_virtio_mmio_save(struct hk_virtio_mmio *transport, struct hk_writer *w);
/** hk_virtio_mmio_restore() - into one just attached, which is quiesced then; checks all it reads
 */
void hk_virtio_mmio_restore(struct hk_virtio_mmio *transport, struct hk_reader *r);

#endif
