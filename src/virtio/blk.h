/* SPDX-License-Identifier: ISC */
/*
 * virtio-blk: a disk. The device (blk.c) knows requests; a backend knows storage.
 * Source: VIRTIO 1.2, section 5.2.
 */
#ifndef HK_VIRTIO_BLK_H
#define HK_VIRTIO_BLK_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "virtio/blk_backend.h"
#include "virtio/device.h"

/**
 * struct hk_blk_config - @backend becomes the device's own
 * @serial: at most 20 bytes are shown to the guest
 * @queue_count: 1 to 16; one per vCPU is a good choice
 */
struct hk_blk_config {
	struct hk_blk_backend *backend;
	bool read_only;
	char serial[20];
	unsigned queue_count;
};

int hk_blk_create(const struct hk_blk_config *config, struct hk_virtio **ret_dev, struct hk_err *err);

#endif
