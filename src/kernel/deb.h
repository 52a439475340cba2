/* SPDX-License-Identifier: ISC */
/* Taking the kernel and its modules out of a Debian package. */
#ifndef HK_KERNEL_DEB_H
#define HK_KERNEL_DEB_H

#include "base/err.h"
#include "kernel/kernel.h"

/**
 * hk_deb_unpack() - unpack boot/vmlinuz-* and lib/modules/ of a kernel package
 * @path: the .deb
 * @dir: gets "vmlinuz" and "modules/", without the release in the names; must be there
 * @progress: may be NULL
 *
 * Return: 0, -EBADMSG (not a package, corrupt, or no kernel in it), -EFBIG, or -errno.
 */
int hk_deb_unpack(
	const char *path, const char *dir, struct hk_kernel_progress *progress, struct hk_err *err);

#endif
