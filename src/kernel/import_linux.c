/* SPDX-License-Identifier: ISC */
/*
 * Where kernels come from: Debian's packages, the host's /boot, files.
 *
 * Theory: each way ends with an image file and a module directory, which content_linux.c reads,
 * checks and stores. A fetch holds the lock from the start, so that of two at the same time one
 * downloads and the other finds the kernel there.
 *
 * Limits: the newest kernel of /boot is the one whose name sorts last by its numbers.
 */
#include "kernel/kernel.h"

#include <dirent.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/str.h"
#include "base/util.h"
#include "kernel/apt.h"
#include "kernel/deb.h"
#include "kernel/release.h"
#include "kernel/store_impl.h"

static int hint_if_full(int r, struct hk_err *err)
{
	if (r == -ENOSPC || r == -EDQUOT) {
		hk_err_hint(err,
			"'hako kernel list' shows what can be removed with "
			"'hako kernel remove'");
	}
	return r;
}

/* --- files --- */

/* Loads a kernel, takes the lock, stores it as @flavour. */
static int import(struct hk_kernel_store *store, const char *path, const char *modules_dir,
	enum hk_kernel_flavour flavour, struct hk_kernel_progress *progress,
	struct hk_kernel_info *ret_info, struct hk_err *err)
{
	struct hk_kernel_content content;
	struct hk_kernel_info there;
	autoclose int lock_fd = -1;
	int r = hk_kernel_content_load(path, modules_dir, progress, &content, err);

	if (r < 0) {
		return r;
	}
	content.info.flavour = flavour;
	if (hk_store_read_info(store, content.info.id, &there) == 0 && there.flavour <= flavour) {
		*ret_info = there; /* the usual case needs no lock */
	} else {
		r = hk_store_lock(store, progress, &lock_fd, err);
		if (r == 0) {
			r = hk_kernel_content_store(store, &content, ret_info, err);
		}
	}
	hk_kernel_content_finish(&content);
	return hint_if_full(r, err);
}

int hk_kernel_import_file(struct hk_kernel_store *store, const char *path, const char *modules_dir,
	struct hk_kernel_progress *progress, struct hk_kernel_info *ret_info, struct hk_err *err)
{
	return import(store, path, modules_dir, HK_KERNEL_FILE, progress, ret_info, err);
}

int hk_kernel_resolve(struct hk_kernel_store *store, const char *name, const char *modules_dir,
	struct hk_kernel_progress *progress, struct hk_kernel_info *ret_info, struct hk_err *err)
{
	if (name != NULL && strchr(name, '/') != NULL) {
		return hk_kernel_import_file(store, name, modules_dir, progress, ret_info, err);
	}
	return hk_kernel_find(store, name, ret_info, err);
}

/* --- the host --- */

/* Finds the release of the newest ROOT/boot/vmlinuz-*. Return: 0, -ENOENT, or -errno. */
static int newest_release(const char *root, char ret_release[HK_KERNEL_RELEASE_SIZE])
{
	static const char prefix[] = "vmlinuz-";
	struct hk_str dir = {0};
	struct dirent *entry;
	DIR *stream;

	ret_release[0] = '\0';
	hk_str_addf(&dir, "%s/boot", root);
	stream = dir.failed ? NULL : opendir(hk_str_text(&dir));
	hk_str_finish(&dir);
	if (stream == NULL) {
		return -ENOENT;
	}
	while ((entry = readdir(stream)) != NULL) {
		char release[HK_KERNEL_RELEASE_SIZE];
		const char *name = entry->d_name + sizeof(prefix) - 1;

		if (strncmp(entry->d_name, prefix, sizeof(prefix) - 1) == 0 &&
			hk_release_parse(name, strlen(name), release, sizeof(release)) == 0 &&
			strverscmp(release, ret_release) > 0) {
			memcpy(ret_release, release, sizeof(release));
		}
	}
	closedir(stream);
	return ret_release[0] != '\0' ? 0 : -ENOENT;
}

/* Where distributions put the kernel of a release. */
static const char *const image_places[] = {
	"%s/boot/vmlinuz-%s",
	"%s/lib/modules/%s/vmlinuz",
	"%s/usr/lib/modules/%s/vmlinuz",
};

/* Finds the image of @release. Return: 0, -ENOENT or -ENOMEM. */
static int find_image(const char *root, const char *release, char **ret_path)
{
	for (size_t i = 0; i < HK_ARRAY_SIZE(image_places); i++) {
		struct hk_str path = {0};

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
		hk_str_addf(&path, image_places[i], root, release);
#pragma GCC diagnostic pop
		if (path.failed || access(hk_str_text(&path), F_OK) == 0) {
			int r = hk_str_take(&path, ret_path);

			hk_str_finish(&path);
			return r;
		}
		hk_str_finish(&path);
	}
	return -ENOENT;
}

int hk_kernel_import_host_at(struct hk_kernel_store *store, const char *root, const char *release,
	struct hk_kernel_progress *progress, struct hk_kernel_info *ret_info, struct hk_err *err)
{
	char newest[HK_KERNEL_RELEASE_SIZE];
	struct hk_str modules_dir = {0};
	autofree char *path = NULL;
	int r = find_image(root, release, &path);

	if (r == -ENOENT) {
		r = newest_release(root, newest);
		if (r == 0) {
			release = newest;
			r = find_image(root, release, &path);
		}
	}
	if (r == -ENOENT) {
		hk_fail_msg(err, ENOENT, "this host has no kernel in '%s/boot'", root);
		hk_err_hint(err, "get one with 'hako kernel fetch', or name a file with --kernel");
		return -ENOENT;
	}
	hk_str_addf(&modules_dir, "%s/lib/modules/%s", root, release);
	if (r < 0 || modules_dir.failed) {
		r = hk_fail(err, ENOMEM, "kernel of the host");
	} else {
		r = import(store, path, hk_str_text(&modules_dir), HK_KERNEL_HOST, progress,
			ret_info, err);
	}
	hk_str_finish(&modules_dir);
	if (r == -EACCES) {
		hk_err_hint(err,
			"only root may read this host's kernel: run 'sudo chmod a+r %s', "
			"or use 'hako kernel fetch'",
			path);
	}
	return r;
}

int hk_kernel_import_host(struct hk_kernel_store *store, struct hk_kernel_progress *progress,
	struct hk_kernel_info *ret_info, struct hk_err *err)
{
	struct utsname names;

	if (uname(&names) < 0) {
		return hk_fail(err, errno, "uname");
	}
	return hk_kernel_import_host_at(store, "", names.release, progress, ret_info, err);
}

/* --- Debian's packages --- */

/* Downloads and unpacks in the stage, then stores. */
static int fetch_in(struct hk_kernel_store *store, const char *stage,
	const struct hk_apt_package *package, enum hk_kernel_flavour flavour,
	const char source[HK_KERNEL_SOURCE_SIZE], struct hk_kernel_progress *progress,
	struct hk_kernel_info *ret_info, struct hk_err *err)
{
	struct hk_kernel_content content;
	autofree char *dir = NULL;
	autofree char *deb = NULL;
	autofree char *image = NULL;
	autofree char *modules = NULL;
	int r = hk_store_path(store, stage, NULL, &dir, err);

	if (r == 0) {
		r = hk_store_path(store, stage, "vmlinuz", &image, err);
	}
	if (r == 0) {
		r = hk_store_path(store, stage, "modules", &modules, err);
	}
	if (r == 0) {
		r = hk_apt_download(package, dir, progress, &deb, err);
	}
	if (r == 0) {
		r = hk_deb_unpack(deb, dir, progress, err);
	}
	if (r == 0) {
		r = hk_kernel_content_load(image, modules, progress, &content, err);
	}
	if (r < 0) {
		return r;
	}
	/* All is in memory. Let go of the files before they are written out with those that stay.
	 */
	hk_store_discard(store, stage);
	content.info.flavour = flavour;
	memcpy(content.info.source, source, sizeof(content.info.source));
	r = hk_kernel_content_store(store, &content, ret_info, err);
	hk_kernel_content_finish(&content);
	return r;
}

/* Is the package in the store already, with the modules that we want? */
static int find_source(struct hk_kernel_store *store, enum hk_kernel_flavour flavour,
	const char *source, struct hk_kernel_info *ret_info, struct hk_err *err)
{
	autofree struct hk_kernel_info *infos = NULL;
	size_t count;
	int r = hk_kernel_list(store, &infos, &count, err);

	if (r < 0) {
		return r;
	}
	for (size_t i = 0; i < count; i++) {
		if (infos[i].flavour == flavour && strcmp(infos[i].source, source) == 0 &&
			infos[i].needs == hk_module_needs_key(hk_module_needs)) {
			*ret_info = infos[i];
			return 0;
		}
	}
	return -ENOENT;
}

int hk_kernel_fetch(struct hk_kernel_store *store, enum hk_kernel_flavour flavour,
	struct hk_kernel_progress *progress, struct hk_kernel_info *ret_info, struct hk_err *err)
{
	const char *meta =
		flavour == HK_KERNEL_FULL ? "linux-image-amd64" : "linux-image-cloud-amd64";
	char source[HK_KERNEL_SOURCE_SIZE] = "";
	struct hk_apt_package package;
	char stage[HK_STAGE_SIZE];
	autoclose int lock_fd = -1;
	int r = hk_apt_resolve(meta, &package, err);

	if (r == 0) {
		r = hk_store_lock(store, progress, &lock_fd, err);
	}
	if (r < 0) {
		return r;
	}
	hk_fmt(source, sizeof(source), "%s %s", package.name, package.version);
	r = find_source(store, flavour, source, ret_info, err);
	if (r != -ENOENT) {
		return r;
	}
	r = hk_store_stage(store, stage, err);
	if (r < 0) {
		return r;
	}
	r = fetch_in(store, stage, &package, flavour, source, progress, ret_info, err);
	hk_store_discard(store, stage);
	return hint_if_full(r, err);
}
