/* SPDX-License-Identifier: ISC */
/*
 * Making an entry ready to boot: its initramfs.
 *
 *	dev/console		so that the kernel gives init its stdin, stdout and stderr
 *	init			hako-guest
 *	modules/order		file names in load order, one a line; "--" stands between those
 *				needed before the control channel and those loaded after it is up
 *	modules/NAME.ko
 *
 * Theory: an initramfs depends on the entry's modules and on the agent, and is kept beside the
 * entry under a hash of the agent; so it is made once for each build of hako. It is 1.5 MB and not
 * compressed: with gzip, lz4 or zstd the guest is ready neither sooner nor later (measured).
 *Modules keep their signatures: without, they would load in 0.6 of the time, but taint the kernel.
 *
 * Limits: only the newest few are kept; who has one open is not disturbed by its removal.
 */
#include "kernel/kernel.h"

#include <dirent.h>
#include <fcntl.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/sys.h"
#include "base/util.h"
#include "kernel/cpio.h"
#include "kernel/store_impl.h"

#define INITRAMFS_PREFIX "initramfs-"
#define FILE_MAX_BYTES   ((size_t)(64 * HK_MIB))

enum { KEPT_COUNT = 4, INITRAMFS_NAME_SIZE = sizeof(INITRAMFS_PREFIX) + 16 };

static void make_name(const void *guest, size_t guest_len, char ret_name[INITRAMFS_NAME_SIZE])
{
	static const char domain[] = "hako initramfs 1"; /* count up if the layout changes */
	uint8_t digest[crypto_generichash_BYTES];
	char hex[17];

	crypto_generichash(digest, sizeof(digest), guest, guest_len, (const uint8_t *)domain,
		sizeof(domain) - 1);
	sodium_bin2hex(hex, sizeof(hex), digest, 8);
	hk_fmt(ret_name, INITRAMFS_NAME_SIZE, INITRAMFS_PREFIX "%s", hex);
}

/* Adds modules/NAME of the entry to the archive. */
static int add_module_file(struct hk_kernel_store *store, const char *id, const char *name,
	struct hk_cpio *cpio, void **ret_data, size_t *ret_len, struct hk_err *err)
{
	struct hk_str below = {0};
	autofree char *path = NULL;
	int r;

	hk_str_addf(&below, "modules/%s", name);
	r = below.failed ? hk_fail(err, ENOMEM, "initramfs")
			 : hk_store_path(store, id, hk_str_text(&below), &path, err);
	if (r == 0) {
		r = hk_read_file(path, FILE_MAX_BYTES, ret_data, ret_len, err);
	}
	if (r == 0) {
		hk_cpio_add_file(cpio, hk_str_text(&below), 0644, *ret_data, *ret_len);
	}
	hk_str_finish(&below);
	return r;
}

static int add_modules(
	struct hk_kernel_store *store, const char *id, struct hk_cpio *cpio, struct hk_err *err)
{
	autofree void *order = NULL;
	size_t order_len;
	char *rest;
	char *name;
	int r;

	hk_cpio_add_dir(cpio, "modules", 0755);
	r = add_module_file(store, id, "order", cpio, &order, &order_len, err);
	if (r < 0) {
		return r;
	}
	rest = order;
	while ((name = strsep(&rest, "\n")) != NULL) {
		autofree void *data = NULL;
		size_t len;

		if (name[0] == '\0' || strcmp(name, "--") == 0) {
			continue;
		}
		r = add_module_file(store, id, name, cpio, &data, &len, err);
		if (r < 0) {
			return r;
		}
	}
	return 0;
}

static int build(struct hk_kernel_store *store, const char *id, const void *guest, size_t guest_len,
	const char *path, struct hk_err *err)
{
	struct hk_cpio cpio = {0};
	autofree void *data = NULL;
	size_t len;
	int r;

	hk_cpio_add_dir(&cpio, "dev", 0755);
	hk_cpio_add_char_device(&cpio, "dev/console", 0600, 5, 1);
	hk_cpio_add_file(&cpio, "init", 0755, guest, guest_len);
	r = add_modules(store, id, &cpio, err);
	if (r == 0) {
		r = hk_cpio_end(&cpio, &data, &len);
		r = r < 0 ? hk_fail(err, -r, "initramfs")
			  : hk_write_file_atomic(path, data, len, 0644, err);
	}
	hk_cpio_finish(&cpio);
	return r;
}

/* Removes the oldest initramfs of the entry if there are too many. */
static void prune(int entry_fd)
{
	int fd = hk_open(entry_fd, ".", O_RDONLY | O_DIRECTORY, 0);
	DIR *stream = fd < 0 ? NULL : fdopendir(fd);
	char oldest[INITRAMFS_NAME_SIZE] = "";
	struct timespec oldest_time = {0};
	struct dirent *entry;
	unsigned count = 0;

	if (stream == NULL) {
		hk_close(&fd);
		return;
	}
	while ((entry = readdir(stream)) != NULL) {
		struct stat st;

		if (strncmp(entry->d_name, INITRAMFS_PREFIX, strlen(INITRAMFS_PREFIX)) != 0 ||
			strlen(entry->d_name) >= sizeof(oldest) ||
			fstatat(fd, entry->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0) {
			continue;
		}
		count++;
		if (oldest[0] == '\0' || st.st_mtim.tv_sec < oldest_time.tv_sec ||
			(st.st_mtim.tv_sec == oldest_time.tv_sec &&
				st.st_mtim.tv_nsec < oldest_time.tv_nsec)) {
			hk_fmt(oldest, sizeof(oldest), "%s", entry->d_name);
			oldest_time = st.st_mtim;
		}
	}
	if (count > KEPT_COUNT) {
		unlinkat(fd, oldest, 0);
	}
	closedir(stream);
}

/* Makes the initramfs unless somebody else did meanwhile. */
static int make_initramfs(struct hk_kernel_store *store, const char *id, int entry_fd,
	const void *guest, size_t guest_len, const char *name, const char *path, struct hk_err *err)
{
	autoclose int lock_fd = -1;
	int r = hk_store_lock(store, NULL, &lock_fd, err);

	if (r < 0) {
		return r;
	}
	if (faccessat(entry_fd, name, F_OK, 0) == 0) {
		return 0;
	}
	r = build(store, id, guest, guest_len, path, err);
	if (r == 0) {
		prune(entry_fd);
	}
	return r;
}

static int open_entry(struct hk_kernel_store *store, const void *guest, size_t guest_len,
	struct hk_kernel *kernel, struct hk_err *err)
{
	const char *id = kernel->info.id;
	char name[INITRAMFS_NAME_SIZE];
	autoclose int entry_fd = hk_open(store->dir_fd, id, O_RDONLY | O_DIRECTORY, 0);
	int r;

	if (entry_fd < 0) {
		return hk_fail(err, -entry_fd, "open");
	}
	make_name(guest, guest_len, name);
	r = hk_store_path(store, id, "vmlinux", &kernel->vmlinux_path, err);
	if (r == 0) {
		r = hk_store_path(store, id, name, &kernel->initramfs_path, err);
	}
	if (r < 0) {
		return r;
	}
	kernel->vmlinux_fd = hk_open(entry_fd, "vmlinux", O_RDONLY, 0);
	if (kernel->vmlinux_fd < 0) {
		return hk_fail(err, -kernel->vmlinux_fd, "'%s': open", kernel->vmlinux_path);
	}
	kernel->initramfs_fd = hk_open(entry_fd, name, O_RDONLY, 0);
	if (kernel->initramfs_fd == -ENOENT) {
		r = make_initramfs(
			store, id, entry_fd, guest, guest_len, name, kernel->initramfs_path, err);
		if (r < 0) {
			return r;
		}
		kernel->initramfs_fd = hk_open(entry_fd, name, O_RDONLY, 0);
	}
	if (kernel->initramfs_fd < 0) {
		return hk_fail(err, -kernel->initramfs_fd, "'%s': open", kernel->initramfs_path);
	}
	return 0;
}

int hk_kernel_prepare(struct hk_kernel_store *store, const char *id, const void *guest,
	size_t guest_len, struct hk_kernel *ret_kernel, struct hk_err *err)
{
	struct hk_kernel kernel = {.vmlinux_fd = -1, .initramfs_fd = -1};
	int r;

	if (guest_len == 0) {
		return hk_fail_msg(err, ENOENT, "this hako was built without its guest agent");
	}
	r = hk_store_read_info(store, id, &kernel.info);
	if (r < 0) {
		hk_fail(err, -r, "kernel '%s'", id);
		hk_err_hint(err, "'hako kernel list' shows what is there");
		return r;
	}
	r = open_entry(store, guest, guest_len, &kernel, err);
	if (r < 0) {
		hk_kernel_finish(&kernel);
		hk_err_ctx(err, "kernel '%s'", id);
		return r;
	}
	*ret_kernel = kernel;
	return 0;
}

void hk_kernel_finish(struct hk_kernel *kernel)
{
	hk_close(&kernel->vmlinux_fd);
	hk_close(&kernel->initramfs_fd);
	free(kernel->vmlinux_path);
	free(kernel->initramfs_path);
	*kernel = (struct hk_kernel){.vmlinux_fd = -1, .initramfs_fd = -1};
}
