/* SPDX-License-Identifier: ISC */
/*
 * virtio-fs: carries FUSE requests between the guest's kernel and a FUSE server. Each queue has
 * threads of its own, which answer there and then. Source: VIRTIO 1.2, section 5.11.
 */
#ifndef HK_VIRTIO_FS_H
#define HK_VIRTIO_FS_H

#include "base/err.h"
#include "engine/mem.h"
#include "fuse/server.h"
#include "virtio/device.h"

/**
 * struct hk_fs_config - @server is borrowed and outlives the device, which saves, restores and
 * resets it
 * @tag: what the guest mounts, at most 36 bytes
 * @request_queues: 1 to 16. Linux before 6.11 uses the first only, whatever there is
 * @window: for DAX, of the machine the device will be in, and the server's
 * (hk_fuse_server_set_window()); borrowed; NULL: none
 * @threads: that serve one request queue at most, 1 to 16; 0: a good number. They are started as
 * they are needed
 */
struct hk_fs_config {
	struct hk_fuse_server *server;
	const char *tag;
	unsigned request_queues;
	unsigned threads;
	const struct hk_mem_region *window;
};

int hk_fs_create(const struct hk_fs_config *config, struct hk_virtio **ret_dev, struct hk_err *err);

#endif
