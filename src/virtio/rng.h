/* SPDX-License-Identifier: ISC */
/* virtio-rng: entropy from the host. Source: VIRTIO 1.2, section 5.4. */
#ifndef HK_VIRTIO_RNG_H
#define HK_VIRTIO_RNG_H

#include <stddef.h>

#include "base/err.h"
#include "virtio/device.h"

/* Fills @len bytes, which the guest may see and change meanwhile; never fails. Injected so that the
 * device stays a protocol core. Called on the loop's thread with at most a few KiB. */
typedef void hk_random_fn(void *buf, size_t len);

/** hk_rng_create() - Return: 0, or -ENOMEM; @ret_dev is the caller's, for hk_virtio_destroy() */
int hk_rng_create(hk_random_fn *random, struct hk_virtio **ret_dev, struct hk_err *err);

#endif
