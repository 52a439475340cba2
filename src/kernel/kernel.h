/* SPDX-License-Identifier: ISC */
/*
 * The kernel store: the kernels that boxes boot, each with the modules a guest needs.
 *
 *	${XDG_DATA_HOME:-~/.local/share}/hako/kernels/
 *		lock			flock()ed by whoever changes the store
 *		<id>/info		what it is: "key value" lines
 *		<id>/vmlinux		the ELF kernel
 *		<id>/modules/		plain .ko files and "order"
 *		<id>/initramfs-<key>	made on demand, one per guest agent
 *		tmp-<random>/		unfinished; removed by the next one who changes the store
 *
 * An entry is made in tmp-* and renamed to its place, so it is whole or not there: processes may
 * use one store at the same time, and be killed at any point. The id is a hash of the content.
 *
 * Functions block (files, apt, waiting for the lock) and may be called from any thread; a store is
 * used by one thread at a time.
 */
#ifndef HK_KERNEL_KERNEL_H
#define HK_KERNEL_KERNEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

struct hk_kernel_store;

/** enum hk_kernel_flavour - where a kernel came from; in order of preference */
enum hk_kernel_flavour {
	HK_KERNEL_CLOUD, /* Debian's linux-image-cloud-amd64 */
	HK_KERNEL_FULL,  /* Debian's linux-image-amd64 */
	HK_KERNEL_HOST,  /* the host's own, out of /boot */
	HK_KERNEL_FILE,  /* a file that the user named */
	HK_KERNEL_FLAVOUR_COUNT,
};

enum { HK_KERNEL_ID_SIZE = 17, HK_KERNEL_RELEASE_SIZE = 65, HK_KERNEL_SOURCE_SIZE = 256 };

/**
 * struct hk_kernel_info - one entry of the store
 * @id: 16 hexadecimal digits
 * @release: as `uname -r` will say in the guest
 * @source: for people: "linux-image-6.1.0-56-cloud-amd64 6.1.192-2", "/boot/vmlinuz-6.1"
 * @added_s: when it came to the store, seconds since 1970
 * @bytes: what the entry takes on disk
 * @module_count: how many modules it has
 * @needs: names the list by which its modules were picked; another hako may have another list
 * @pvh: the kernel has a PVH entry
 */
struct hk_kernel_info {
	char id[HK_KERNEL_ID_SIZE];
	char release[HK_KERNEL_RELEASE_SIZE];
	char source[HK_KERNEL_SOURCE_SIZE];
	enum hk_kernel_flavour flavour;
	int64_t added_s;
	uint64_t bytes;
	unsigned module_count;
	uint32_t needs;
	bool pvh;
};

/** struct hk_kernel_progress - embedded in whoever shows progress */
struct hk_kernel_progress {
	/*
	 * @what is a short phrase ("downloading linux-image-6.1.0-56-cloud-amd64"), borrowed;
	 * @percent is 0 to 100, or -1 if not known. Called on the caller's thread. Required.
	 */
	void (*step)(struct hk_kernel_progress *progress, const char *what, int percent);
};

/**
 * struct hk_kernel - a kernel ready to boot; hk_kernel_finish() it
 * @vmlinux_fd, @initramfs_fd: owned, read-only; they stay good if the entry is removed
 * @vmlinux_path, @initramfs_path: owned
 */
struct hk_kernel {
	struct hk_kernel_info info;
	int vmlinux_fd;
	int initramfs_fd;
	char *vmlinux_path;
	char *initramfs_path;
};

/** hk_kernel_flavour_name() - "cloud", "full", "host", "file"; static */
const char *hk_kernel_flavour_name(enum hk_kernel_flavour flavour);

/**
 * hk_kernel_store_open() - open the store, making its directory if need be
 * @dir: where it is; NULL for the user's: $XDG_DATA_HOME/hako/kernels,
 *	$HOME/.local/share/hako/kernels, for root without a home /var/lib/hako/kernels
 *
 * Return: 0, -ENOENT if the environment names no place, or -errno.
 */
int hk_kernel_store_open(const char *dir, struct hk_kernel_store **ret_store, struct hk_err *err);
void hk_kernel_store_close(struct hk_kernel_store *store);            /* NULL is fine */
const char *hk_kernel_store_dir(const struct hk_kernel_store *store); /* borrowed */

/**
 * hk_kernel_fetch() - get a Debian kernel through apt, without installing it
 * @flavour: HK_KERNEL_CLOUD or HK_KERNEL_FULL
 * @progress: borrowed; may be NULL
 * @ret_info: the entry, also if it was there already
 *
 * Return: 0, -ENOENT (no apt, or the package is not in its lists), -EIO (apt failed), -EBADMSG (not
 * a kernel package), or what hk_kernel_import_file() returns.
 */
int hk_kernel_fetch(struct hk_kernel_store *store, enum hk_kernel_flavour flavour,
	struct hk_kernel_progress *progress, struct hk_kernel_info *ret_info, struct hk_err *err);

/**
 * hk_kernel_import_host() - take the running kernel out of /boot, or the newest one there
 *
 * Return: 0, -ENOENT (there is none), or what hk_kernel_import_file() returns.
 */
int hk_kernel_import_host(struct hk_kernel_store *store, struct hk_kernel_progress *progress,
	struct hk_kernel_info *ret_info, struct hk_err *err);

/**
 * hk_kernel_import_file() - take a kernel from a file
 * @path: a bzImage or an ELF vmlinux
 * @modules_dir: holds modules.dep or kernel/; NULL for /lib/modules/RELEASE; if that is not there
 *	either, all that a guest needs must be built in
 *
 * Return: 0, -ENOEXEC (not a kernel), -EBADMSG (a corrupt one), -ENOTSUP (a way of compression that
 * we do not know), -ENODEV (a driver that boxes need is neither built in nor a module), -EFBIG, or
 * -errno of a system call.
 */
int hk_kernel_import_file(struct hk_kernel_store *store, const char *path, const char *modules_dir,
	struct hk_kernel_progress *progress, struct hk_kernel_info *ret_info, struct hk_err *err);

/**
 * hk_kernel_list() - all entries, best first: by flavour, then newest release first
 * @ret_infos: array of *@ret_count, owned by the caller, free(); NULL if there are none
 *
 * Damaged entries are left out.
 */
int hk_kernel_list(struct hk_kernel_store *store, struct hk_kernel_info **ret_infos,
	size_t *ret_count, struct hk_err *err);

/**
 * hk_kernel_find() - the entry that a user means
 * @name: NULL for the best one; else a flavour's name, a release or id, or the beginning of one.
 *	Where several fit, ids must be unambiguous, and of releases the best one is meant
 *
 * Return: 0, -ENOENT (with the hint how to get one), or -ENOTUNIQ.
 */
int hk_kernel_find(struct hk_kernel_store *store, const char *name, struct hk_kernel_info *ret_info,
	struct hk_err *err);

/**
 * hk_kernel_resolve() - what `--kernel NAME` means: a path (anything with a slash) is imported, all
 * else is found
 * @name: NULL for the best one
 * @modules_dir: as for hk_kernel_import_file(); may be NULL
 */
int hk_kernel_resolve(struct hk_kernel_store *store, const char *name, const char *modules_dir,
	struct hk_kernel_progress *progress, struct hk_kernel_info *ret_info, struct hk_err *err);

/** hk_kernel_remove() - remove an entry. Return: 0, -ENOENT, or -errno. */
int hk_kernel_remove(struct hk_kernel_store *store, const char *id, struct hk_err *err);

/**
 * hk_kernel_prepare() - open an entry for booting; makes its initramfs if there is none yet
 * @id: from hk_kernel_info
 * @guest: the guest agent's program, @guest_len bytes; usually hk_guest_blob()
 * @ret_kernel: filled on success only
 *
 * Return: 0, -ENOENT (no such entry), or -errno.
 */
int hk_kernel_prepare(struct hk_kernel_store *store, const char *id, const void *guest,
	size_t guest_len, struct hk_kernel *ret_kernel, struct hk_err *err);
void hk_kernel_finish(struct hk_kernel *kernel);

/** hk_guest_blob() - the guest agent built with this program; static, read-only */
const void *hk_guest_blob(size_t *ret_len);

#endif
