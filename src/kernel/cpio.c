/* SPDX-License-Identifier: ISC */
/*
 * cpio "newc" writer.
 *
 * Theory: an entry is a header of 110 ASCII characters (a magic and thirteen 8-digit hexadecimal
 * numbers), the name with its NUL, and the data; name and data are each padded to 4 bytes.
 *
 * Limits: files under 4 GiB; the archive is made in memory.
 */
#include "kernel/cpio.h"

#include <assert.h>
#include <string.h>
#include <sys/stat.h>

#include "base/util.h"

static void pad(struct hk_cpio *cpio)
{
	size_t len = cpio->out.len;

	hk_str_add_bytes(&cpio->out, "\0\0\0", hk_align_up(len, 4) - len);
}

static void add(struct hk_cpio *cpio, const char *path, mode_t mode, uint32_t inode,
	const void *data, size_t len, unsigned major, unsigned minor)
{
	size_t name_size = strlen(path) + 1;
	unsigned links = S_ISDIR(mode) ? 2 : 1;

	assert(len <= UINT32_MAX && path[0] != '/');
	hk_str_addf(&cpio->out, "070701%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x", inode,
		(unsigned)mode, 0u /* uid */, 0u /* gid */, links, 0u /* time */, (unsigned)len,
		0u /* device */, 0u, major, minor, (unsigned)name_size, 0u /* checksum */);
	hk_str_add_bytes(&cpio->out, path, name_size);
	pad(cpio);
	hk_str_add_bytes(&cpio->out, data, len);
	pad(cpio);
}

void hk_cpio_add_dir(struct hk_cpio *cpio, const char *path, mode_t mode)
{
	add(cpio, path, S_IFDIR | mode, ++cpio->inode_count, "", 0, 0, 0);
}

void hk_cpio_add_file(
	struct hk_cpio *cpio, const char *path, mode_t mode, const void *data, size_t len)
{
	add(cpio, path, S_IFREG | mode, ++cpio->inode_count, data, len, 0, 0);
}

void hk_cpio_add_char_device(
	struct hk_cpio *cpio, const char *path, mode_t mode, unsigned major, unsigned minor)
{
	add(cpio, path, S_IFCHR | mode, ++cpio->inode_count, "", 0, major, minor);
}

int hk_cpio_end(struct hk_cpio *cpio, void **ret_data, size_t *ret_len)
{
	char *data;
	size_t len;
	int r;

	add(cpio, "TRAILER!!!", 0, 0, "", 0, 0, 0);
	len = cpio->out.len;
	r = hk_str_take(&cpio->out, &data);
	if (r < 0) {
		return r;
	}
	*ret_data = data;
	*ret_len = len;
	return 0;
}

void hk_cpio_finish(struct hk_cpio *cpio)
{
	hk_str_finish(&cpio->out);
}
