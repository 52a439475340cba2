/* SPDX-License-Identifier: ISC */
/* virtio-rng: entropy from the host's getrandom(2). Source: VIRTIO 1.2, section 5.4. */
#ifndef HK_VIRTIO_RNG_H
#define HK_VIRTIO_RNG_H

#include "base/err.h"
#include "virtio/device.h"

/* Fills @len bytes; never fails. Injected so that the device stays a protocol core. */
typedef void hk_random_fn(void *buf, size_t len);

int hk_rng_create(hk_random_fn *random, struct hk_virtio **ret_dev, struct hk_err *err);

#endif
