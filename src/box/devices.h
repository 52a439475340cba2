/* SPDX-License-Identifier: ISC */
/* The devices of a box: made from its configuration, put in the machine's slots, taken away again.
 */
#ifndef HK_BOX_DEVICES_H
#define HK_BOX_DEVICES_H

#include "base/err.h"
#include "box/layout.h"
#include "box/policy.h"
#include "fuse/server.h"
#include "machine/machine.h"
#include "virtio/device.h"
#include "virtio/mmio.h"
#include "virtio/vsock.h"

/* fs, vsock, rng, balloon, and the disks. */
enum { HK_BOX_MAX_DEVICES = 4 + HK_BOX_MAX_DISKS };

/** struct hk_devices - zero-initialize, then hk_devices_create(); hk_devices_destroy() in any case
 */
struct hk_devices {
	struct hk_fuse_server *server;
	struct hk_vsock *vsock; /* one of @devs */
	struct hk_virtio *devs[HK_BOX_MAX_DEVICES];
	struct hk_virtio_mmio *transports[HK_BOX_MAX_DEVICES];
	unsigned count;
	bool nodev; /* no export can have a device opened through it */
	/* Where shares are mapped. */
	struct hk_mem_mender mender; /* the machine's */
	struct hk_timer mend_timer;
	struct hk_loop *loop; /* borrowed */
};

/** HK_BOX_FS_TAG - under which the guest's agent finds the file server */
#define HK_BOX_FS_TAG "hako"

int hk_devices_create(struct hk_devices *devices, struct hk_machine *machine,
	const struct hk_layout *layout, struct hk_box_policy *policy, struct hk_fuse_owner *owner,
	struct hk_err *err);

/** hk_devices_destroy() - the machine has stopped; fine if there are none */
void hk_devices_destroy(struct hk_devices *devices);

#endif
