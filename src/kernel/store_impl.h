/* SPDX-License-Identifier: ISC */
/* What the files of the store share. Not for others. */
#ifndef HK_KERNEL_STORE_IMPL_H
#define HK_KERNEL_STORE_IMPL_H

#include "base/err.h"
#include "base/str.h"
#include "kernel/kernel.h"
#include "kernel/modules.h"

struct hk_kernel_store {
	char *dir;  /* owned */
	int dir_fd; /* owned */
};

enum { HK_STAGE_SIZE = 32 };

/**
 * hk_store_lock() - wait until nobody else changes the store, then remove what killed ones left
 * @progress: told if there is a wait; may be NULL
 * @ret_fd: owned by the caller; closing it unlocks
 */
int hk_store_lock(struct hk_kernel_store *store, struct hk_kernel_progress *progress, int *ret_fd,
	struct hk_err *err);

/** hk_store_stage() - make an empty directory in the store to work in; the lock is held */
int hk_store_stage(struct hk_kernel_store *store, char ret_name[HK_STAGE_SIZE], struct hk_err *err);

/** hk_store_discard() - remove a directory of the store with all that is in it, as far as it can */
void hk_store_discard(struct hk_kernel_store *store, const char *name);

/** hk_store_path() - DIR/a or DIR/a/b; owned by the caller. Return: 0, or -ENOMEM in @err. */
int hk_store_path(const struct hk_kernel_store *store, const char *a, const char *b,
	char **ret_path, struct hk_err *err);

/** hk_store_read_info() - Return: 0, -ENOENT (no entry, or a damaged one) or -errno; no message */
int hk_store_read_info(
	struct hk_kernel_store *store, const char *id, struct hk_kernel_info *ret_info);
int hk_store_write_info(struct hk_kernel_store *store, const char *name,
	const struct hk_kernel_info *info, struct hk_err *err);

/** struct hk_kernel_content - a kernel on its way into the store, in memory; zero-initialize */
struct hk_kernel_content {
	struct hk_kernel_info info;
	void *image; /* owned: the file as it was given */
	size_t image_len;
	void *vmlinux; /* owned, or the same as @image */
	size_t vmlinux_len;
	struct hk_module_set modules;
};

/** hk_kernel_content_load() - read and check image and modules; arguments as of the import */
int hk_kernel_content_load(const char *path, const char *modules_dir,
	struct hk_kernel_progress *progress, struct hk_kernel_content *ret_content,
	struct hk_err *err);
void hk_kernel_content_finish(struct hk_kernel_content *content);

/** hk_kernel_content_store() - put it in the store, if it is not there yet; the lock is held */
int hk_kernel_content_store(struct hk_kernel_store *store, struct hk_kernel_content *content,
	struct hk_kernel_info *ret_info, struct hk_err *err);

/** hk_kernel_import_host_at() - hk_kernel_import_host() with / at @root, running @release */
int hk_kernel_import_host_at(struct hk_kernel_store *store, const char *root, const char *release,
	struct hk_kernel_progress *progress, struct hk_kernel_info *ret_info, struct hk_err *err);

/** hk_module_dir_load() - read the index of a module directory; -ENOENT if it is not there */
int hk_module_dir_load(const char *dir, struct hk_modules *modules, struct hk_err *err);

/** struct hk_module_dir - a reader of module files */
struct hk_module_dir {
	struct hk_module_reader reader;
	const char *dir; /* borrowed */
};
void hk_module_dir_init(struct hk_module_dir *module_dir, const char *dir);

#endif
