/* SPDX-License-Identifier: ISC */
/*
 * virtio-console: one port (hvc0), for kernel messages and debugging; the terminals of commands go
 * over vsock.
 * Source: VIRTIO 1.2, section 5.3.
 */
#ifndef HK_VIRTIO_CONSOLE_H
#define HK_VIRTIO_CONSOLE_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "virtio/device.h"

/* Embedded in whoever shows the console. Both are called on the loop's thread with the device's
 * lock held, so they must not call the functions below; @writable is best answered with a
 * hk_loop_post(). */
struct hk_console_owner {
	/* Bytes the guest wrote, which it may change meanwhile: look at them once. Required. */
	void (*output)(struct hk_console_owner *owner, const uint8_t *bytes, size_t len);
	/* The guest gave room for input, perhaps. Optional. */
	void (*writable)(struct hk_console_owner *owner);
};

/** hk_console_create() - @owner is borrowed. Return: 0, or -ENOMEM. */
int hk_console_create(
	struct hk_console_owner *owner, struct hk_virtio **ret_dev, struct hk_err *err);

/**
 * hk_console_input() - bytes for the guest. Loop's thread.
 *
 * Return: how many were taken, as the guest gave room; the rest waits for writable().
 */
size_t hk_console_input(struct hk_virtio *dev, const uint8_t *bytes, size_t len);

/** hk_console_resize() - the terminal's size changed. Any thread. */
void hk_console_resize(struct hk_virtio *dev, uint16_t cols, uint16_t rows);

#endif
