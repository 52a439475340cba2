/* SPDX-License-Identifier: ISC */
/*
 * bzImage: the setup header and the payload.
 *
 *	0              0x1f1              (setup_sects + 1) * 512     + payload_offset
 *	+--------------+--------------+---+---------------------------+-------------+---
 *	| boot sector  | setup header |...| decompressor              | payload     |...
 *	+--------------+--------------+---+---------------------------+-------------+---
 *
 * Theory: the payload is the compressed vmlinux, and its last four bytes are the size of the
 * vmlinux. gzip has them of itself; behind the other formats the kernel's build appends them.
 *
 * Limits: what follows the ELF file in the unpacked data (relocations of a randomized kernel) stays
 * where it is: no loader looks at it.
 */
#include "kernel/bzimage.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/cleanup.h"
#include "base/util.h"
#include "kernel/release.h"

enum {
	SETUP_SECTS = 0x1f1,    /* u8; 0 means 4 */
	BOOT_FLAG = 0x1fe,      /* u16, 0xaa55 */
	HEADER_MAGIC = 0x202,   /* "HdrS" */
	VERSION = 0x206,        /* u16 */
	KERNEL_VERSION = 0x20e, /* u16, offset of a string, less 0x200 */
	PAYLOAD_OFFSET = 0x248, /* u32, since 2.08 */
	PAYLOAD_LENGTH = 0x24c, /* u32, since 2.08 */
	HEADER_END = 0x250,

	SECTOR_BYTES = 512,
	SIZE_BYTES = 4, /* the vmlinux's size at the end of the payload */
};

bool hk_bzimage_detect(const void *data, size_t len)
{
	const uint8_t *bytes = data;

	return len >= VERSION && hk_load_le16(bytes + BOOT_FLAG) == 0xaa55 &&
		memcmp(bytes + HEADER_MAGIC, "HdrS", 4) == 0;
}

static int read_release(
	const uint8_t *data, size_t setup_len, struct hk_bzimage *image, struct hk_err *err)
{
	size_t offset = hk_load_le16(data + KERNEL_VERSION);

	if (offset == 0) {
		return hk_fail_msg(err, EBADMSG, "the setup header names no kernel version");
	}
	offset += 0x200;
	if (offset >= setup_len ||
		hk_release_parse((const char *)data + offset, setup_len - offset, image->release,
			sizeof(image->release)) < 0) {
		return hk_fail_msg(err, EBADMSG, "corrupt: the kernel's version is not readable");
	}
	return 0;
}

int hk_bzimage_parse(const void *data, size_t len, struct hk_bzimage *ret_image, struct hk_err *err)
{
	const uint8_t *bytes = data;
	struct hk_bzimage image = {0};
	unsigned version;
	size_t setup_len;
	uint64_t offset;
	int r;

	if (!hk_bzimage_detect(data, len)) {
		return hk_fail_msg(err, ENOEXEC, "not a bzImage");
	}
	if (len < HEADER_END) {
		return hk_fail_msg(err, EBADMSG, "cut short within the setup header");
	}
	version = hk_load_le16(bytes + VERSION);
	if (version < 0x0208) {
		return hk_fail_msg(err, ENOTSUP, "boot protocol %u.%02u is too old, 2.08 is needed",
			version >> 8, version & 0xff);
	}
	setup_len = (bytes[SETUP_SECTS] == 0 ? 5u : bytes[SETUP_SECTS] + 1u) * SECTOR_BYTES;
	if (setup_len > len) {
		return hk_fail_msg(err, EBADMSG, "cut short within the real-mode code");
	}
	r = read_release(bytes, setup_len, &image, err);
	if (r < 0) {
		return r;
	}
	offset = setup_len + (uint64_t)hk_load_le32(bytes + PAYLOAD_OFFSET);
	image.payload_len = hk_load_le32(bytes + PAYLOAD_LENGTH);
	if (image.payload_len <= SIZE_BYTES) {
		return hk_fail_msg(err, EBADMSG, "corrupt: it holds no compressed kernel");
	}
	if (!hk_range_within(offset, image.payload_len, len)) {
		return hk_fail_msg(err, EBADMSG,
			"cut short: the compressed kernel ends at byte %llu, the file at %zu",
			(unsigned long long)offset + image.payload_len, len);
	}
	image.payload_offset = (size_t)offset;
	image.pack = hk_pack_detect(bytes + offset, image.payload_len - SIZE_BYTES);
	image.vmlinux_len = hk_load_le32(bytes + offset + image.payload_len - SIZE_BYTES);
	if (image.vmlinux_len == 0 || image.vmlinux_len > HK_VMLINUX_MAX_BYTES) {
		return hk_fail_msg(err, EBADMSG, "corrupt: the kernel in it would be %zu bytes",
			image.vmlinux_len);
	}
	*ret_image = image;
	return 0;
}

int hk_bzimage_extract(const void *data, const struct hk_bzimage *image, void **ret_vmlinux,
	size_t *ret_len, struct hk_err *err)
{
	const uint8_t *payload = (const uint8_t *)data + image->payload_offset;
	size_t len = image->payload_len - (image->pack == HK_PACK_GZIP ? 0 : SIZE_BYTES);
	int r = hk_unpack(image->pack, payload, len, image->vmlinux_len, ret_vmlinux, ret_len, err);

	if (r == -EFBIG) { /* more than it says itself */
		return hk_fail_msg(err, EBADMSG,
			"corrupt: the compressed kernel is not of the size that it names");
	}
	if (r < 0) {
		return r;
	}
	if (*ret_len != image->vmlinux_len) {
		free(take_ptr(*ret_vmlinux));
		return hk_fail_msg(err, EBADMSG,
			"corrupt: the compressed kernel gives %zu bytes instead of %zu", *ret_len,
			image->vmlinux_len);
	}
	return 0;
}
