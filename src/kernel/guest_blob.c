/* SPDX-License-Identifier: ISC */
/* The guest agent within this program: guest_blob.S includes its bytes, here they get a type. */
#include <stdint.h>

#include "kernel/kernel.h"

extern const uint8_t hk_guest_start[];
extern const uint8_t hk_guest_end[];

const void *hk_guest_blob(size_t *ret_len)
{
	*ret_len = (size_t)(hk_guest_end - hk_guest_start);
	return hk_guest_start;
}
