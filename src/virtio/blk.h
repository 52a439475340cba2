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

enum { HK_BLK_SECTOR_SIZE = 512, HK_BLK_SERIAL_SIZE = 20, HK_BLK_MAX_QUEUES = 16 };

/**
 * struct hk_blk_config - what kind of disk the guest sees
 * @backend: the device's own from here on, also where hk_blk_create() fails
 * @read_only: writes are refused, whatever the backend could do
 * @serial: shown to the guest (/sys/block/vda/serial); NUL-padded, not always terminated
 * @queue_count: 1 to HK_BLK_MAX_QUEUES; one per vCPU is a good choice
 */
struct hk_blk_config {
	struct hk_blk_backend *backend;
	bool read_only;
	char serial[HK_BLK_SERIAL_SIZE];
	unsigned queue_count;
};

/**
 * hk_blk_create() - loop's thread
 *
 * The guest's last flush is the last word on what is on the disk: the owner of the device flushes
 * nothing of its own.
 *
 * Return: 0, -EINVAL (queue_count) or -ENOMEM.
 */
int hk_blk_create(
	const struct hk_blk_config *config, struct hk_virtio **ret_dev, struct hk_err *err);

#endif
