/* SPDX-License-Identifier: ISC */
/*
 * The virtio-mmio transport, version 2 (no legacy).
 * Source: VIRTIO 1.2, section 4.2.2 (register layout).
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
 */
int hk_virtio_mmio_attach(struct hk_machine *machine, struct hk_virtio *dev,
	struct hk_virtio_mmio **ret_transport, struct hk_err *err);
void hk_virtio_mmio_destroy(struct hk_virtio_mmio *transport); /* vCPUs have stopped; NULL is fine */

void hk_virtio_mmio_quiesce(struct hk_virtio_mmio *transport); /* loop's thread, machine paused */
void hk_virtio_mmio_resume(struct hk_virtio_mmio *transport);
void hk_virtio_mmio_save(struct hk_virtio_mmio *transport, struct hk_writer *w); /* quiesced */
void hk_virtio_mmio_restore(struct hk_virtio_mmio *transport, struct hk_reader *r);

#endif
