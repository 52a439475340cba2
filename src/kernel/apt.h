/* SPDX-License-Identifier: ISC */
/* Getting a package's file through apt, as any user, without installing it. */
#ifndef HK_KERNEL_APT_H
#define HK_KERNEL_APT_H

#include "base/err.h"
#include "kernel/kernel.h"

struct hk_apt_package {
	char name[128];
	char version[128];
};

/**
 * hk_apt_parse_depends() - find the kernel that a meta package stands for
 * @text: output of `apt-cache show`, NUL-terminated: the first "Depends:" field counts
 *
 * Return: 0, or -EBADMSG if it names no "linux-image-... (= version)".
 */
int hk_apt_parse_depends(const char *text, struct hk_apt_package *ret_package);

/**
 * hk_apt_resolve() - ask apt's lists for the kernel package behind @meta
 *
 * Return: 0, -ENOENT (no apt, or @meta is not in its lists), -EBADMSG (it is no such meta package).
 */
int hk_apt_resolve(const char *meta, struct hk_apt_package *ret_package, struct hk_err *err);

/**
 * hk_apt_download() - download and check a package
 * @dir: where to put it; an empty directory
 * @progress: may be NULL
 * @ret_path: of the .deb; owned by the caller, free()
 *
 * Return: 0, -ENOENT (no apt), -EIO (apt failed; its reason is in @err), -ENOMEM.
 */
int hk_apt_download(const struct hk_apt_package *package, const char *dir,
	struct hk_kernel_progress *progress, char **ret_path, struct hk_err *err);

#endif
