/* SPDX-License-Identifier: ISC */
/*
 * virtio-fs: carries FUSE requests between the guest's kernel and a FUSE server. Each request queue
 * has a thread of its own, which answers there and then.
 * Source: VIRTIO 1.2, section 5.11.
 */
#ifndef HK_VIRTIO_FS_H
#define HK_VIRTIO_FS_H

#include "base/err.h"
#include "fuse/server.h"
#include "virtio/device.h"

/**
 * struct hk_fs_config - @server is borrowed and outlives the device
 * @tag: what the guest mounts, at most 36 bytes
 * @request_queues: 1 to 16
 */
struct hk_fs_config {
	struct hk_fuse_server *server;
	const char *tag;
	unsigned request_queues;
};

int hk_fs_create(const struct hk_fs_config *config, struct hk_virtio **ret_dev, struct hk_err *err);

#endif
