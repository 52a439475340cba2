/* SPDX-License-Identifier: ISC */
/*
 * virtio-console: one port (hvc0), for kernel messages and debugging; the terminals of commands go over vsock.
 * Source: VIRTIO 1.2, section 5.3.
 */
#ifndef HK_VIRTIO_CONSOLE_H
#define HK_VIRTIO_CONSOLE_H

#include "base/err.h"
#include "virtio/device.h"

struct hk_console_owner {
	/* Bytes the guest wrote. Loop's thread. Required. */
	void (*output)(struct hk_console_owner *owner, const uint8_t *bytes, size_t len);
};

int hk_console_create(struct hk_console_owner *owner, struct hk_virtio **ret_dev, struct hk_err *err);
/** hk_console_input() - bytes for the guest. Return: how many were taken (queue space permitting). */
size_t hk_console_input(struct hk_virtio *dev, const uint8_t *bytes, size_t len);
void hk_console_resize(struct hk_virtio *dev, uint16_t cols, uint16_t rows);

#endif
