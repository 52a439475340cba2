/* SPDX-License-Identifier: ISC */
/*
 * A kernel on its way into the store: from files to memory, from memory to an entry.
 *
 * Theory: all that can be wrong with a kernel is found while it is in memory; the store sees only
 * what is good. The id is a hash over the image as it was given and the modules that were picked,
 * so the same kernel from two places is one entry, and another choice of modules is another one.
 *
 * Limits: an ELF kernel must hold its banner, from which the release is read.
 */
#include "kernel/store_impl.h"

#include <fcntl.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/cleanup.h"
#include "base/sys.h"
#include "base/util.h"
#include "kernel/bzimage.h"
#include "kernel/elf_file.h"

void hk_kernel_content_finish(struct hk_kernel_content *content)
{
	if (content->vmlinux != content->image) {
		free(content->vmlinux);
	}
	free(content->image);
	hk_module_set_finish(&content->modules);
	*content = (struct hk_kernel_content){0};
}

static void step(struct hk_kernel_progress *progress, const char *what)
{
	if (progress != NULL) {
		progress->step(progress, what, -1);
	}
}

/* Opening a FIFO would wait for ever, a device could give anything. */
static int check_regular(const char *path, struct hk_err *err)
{
	struct stat st;

	if (stat(path, &st) < 0) {
		return hk_fail(err, errno, "open");
	}
	if (!S_ISREG(st.st_mode)) {
		return hk_fail_msg(err, ENOEXEC, "not a regular file");
	}
	return 0;
}

/* From the image to a checked vmlinux with its release. */
static int extract(struct hk_kernel_content *content, struct hk_err *err)
{
	struct hk_kernel_info *info = &content->info;
	struct hk_bzimage bzimage;
	int r;

	if (hk_elf_detect(content->image, content->image_len)) {
		content->vmlinux = content->image;
		content->vmlinux_len = content->image_len;
		return hk_elf_kernel_release(content->vmlinux, content->vmlinux_len, info->release,
			       sizeof(info->release)) < 0
			? hk_fail_msg(err, ENOEXEC, "not a Linux kernel: it has no banner")
			: 0;
	}
	if (!hk_bzimage_detect(content->image, content->image_len)) {
		return hk_fail_msg(
			err, ENOEXEC, "not a kernel for x86-64: neither a bzImage nor an ELF file");
	}
	r = hk_bzimage_parse(content->image, content->image_len, &bzimage, err);
	if (r < 0) {
		return r;
	}
	memcpy(info->release, bzimage.release, sizeof(info->release));
	return hk_bzimage_extract(
		content->image, &bzimage, &content->vmlinux, &content->vmlinux_len, err);
}

static int load_image(struct hk_kernel_content *content, const char *path,
	struct hk_kernel_progress *progress, struct hk_err *err)
{
	int r = check_regular(path, err);

	if (r < 0) {
		hk_err_ctx(err, "kernel '%s'", path);
		return r;
	}
	r = hk_read_file(path, HK_VMLINUX_MAX_BYTES, &content->image, &content->image_len, err);
	if (r < 0) { /* names the path itself */
		hk_err_ctx(err, "kernel");
		return r;
	}
	step(progress, "extracting the kernel");
	r = extract(content, err);
	if (r == 0) {
		r = hk_elf_check_kernel(
			content->vmlinux, content->vmlinux_len, &content->info.pvh, err);
	}
	if (r < 0) {
		hk_err_ctx(err, "kernel '%s'", path);
	}
	return r;
}

/* Picks the modules from @dir, or finds that none are needed. */
static int pick(struct hk_kernel_content *content, const char *dir, bool must_exist,
	struct hk_modules *modules, struct hk_err *err)
{
	struct hk_module_dir module_dir;
	int r = hk_module_dir_load(dir, modules, err);
	bool absent = r == -ENOENT && !must_exist;

	if (r < 0 && !absent) {
		return r;
	}
	hk_module_dir_init(&module_dir, dir);
	r = hk_modules_pick(modules, hk_module_needs, content->info.release, content->vmlinux,
		content->vmlinux_len, &module_dir.reader, &content->modules, err);
	if (r == -ENODEV) {
		if (absent) {
			hk_err_hint(err,
				"there is no '%s' to take modules from; name another "
				"directory with --modules",
				dir);
		} else {
			hk_err_hint(err, "'hako kernel fetch' gets a kernel that has it");
		}
	}
	return r;
}

static int load_modules(struct hk_kernel_content *content, const char *dir, struct hk_err *err)
{
	struct hk_modules *modules;
	char installed[16 + HK_KERNEL_RELEASE_SIZE];
	int r = hk_modules_create(&modules, err);

	if (r < 0) {
		return r;
	}
	hk_fmt(installed, sizeof(installed), "/lib/modules/%s", content->info.release);
	r = pick(content, dir != NULL ? dir : installed, dir != NULL, modules, err);
	hk_modules_destroy(modules);
	return r;
}

static void hash_number(crypto_generichash_state *hash, uint64_t number)
{
	uint8_t bytes[8];

	hk_store_le64(bytes, number);
	crypto_generichash_update(hash, bytes, sizeof(bytes));
}

static void make_id(struct hk_kernel_content *content)
{
	static const char domain[] = "hako kernel 1";
	crypto_generichash_state hash;
	uint8_t digest[crypto_generichash_BYTES];

	crypto_generichash_init(&hash, NULL, 0, sizeof(digest));
	crypto_generichash_update(&hash, (const uint8_t *)domain, sizeof(domain));
	hash_number(&hash, content->image_len);
	crypto_generichash_update(&hash, content->image, content->image_len);
	for (size_t i = 0; i < content->modules.count; i++) {
		const struct hk_module_file *file = &content->modules.files[i];

		crypto_generichash_update(&hash, (const uint8_t *)file->name, sizeof(file->name));
		hash_number(&hash, file->stage);
		hash_number(&hash, file->len);
		crypto_generichash_update(&hash, file->data, file->len);
	}
	crypto_generichash_final(&hash, digest, sizeof(digest));
	sodium_bin2hex(content->info.id, sizeof(content->info.id), digest,
		(sizeof(content->info.id) - 1) / 2);
}

static void fill_info(struct hk_kernel_content *content, const char *path)
{
	struct hk_kernel_info *info = &content->info;

	info->flavour = HK_KERNEL_FILE;
	hk_str_escape(info->source, sizeof(info->source), path, strlen(path));
	info->added_s = time(NULL);
	info->module_count = (unsigned)content->modules.count;
	info->needs = hk_module_needs_key(hk_module_needs);
	info->bytes = content->vmlinux_len;
	for (size_t i = 0; i < content->modules.count; i++) {
		info->bytes += content->modules.files[i].len;
	}
	make_id(content);
}

int hk_kernel_content_load(const char *path, const char *modules_dir,
	struct hk_kernel_progress *progress, struct hk_kernel_content *ret_content,
	struct hk_err *err)
{
	struct hk_kernel_content content = {0};
	int r = load_image(&content, path, progress, err);

	if (r == 0) {
		r = load_modules(&content, modules_dir, err);
		if (r < 0) {
			hk_err_ctx(err, "kernel '%s'", path);
		}
	}
	if (r < 0) {
		hk_kernel_content_finish(&content);
		return r;
	}
	fill_info(&content, path);
	*ret_content = content;
	return 0;
}

/* --- into the store --- */

/* The list that the guest reads: a file a line, "--" where the late ones begin. */
static int write_order(struct hk_kernel_store *store, const char *dir,
	const struct hk_module_set *set, struct hk_err *err)
{
	enum hk_module_stage stage = HK_MODULE_EARLY;
	autofree char *path = NULL;
	struct hk_str text = {0};
	int r = hk_store_path(store, dir, "order", &path, err);

	if (r < 0) {
		return r;
	}
	for (size_t i = 0; i < set->count; i++) {
		if (set->files[i].stage != stage) {
			stage = set->files[i].stage;
			hk_str_add(&text, "--\n");
		}
		hk_str_addf(&text, "%s.ko\n", set->files[i].name);
	}
	r = text.failed ? hk_fail(err, ENOMEM, "'%s'", path)
			: hk_write_file_atomic(path, hk_str_text(&text), text.len, 0644, err);
	hk_str_finish(&text);
	return r;
}

static int write_modules(struct hk_kernel_store *store, const char *stage,
	const struct hk_module_set *set, struct hk_err *err)
{
	char dir[HK_STAGE_SIZE + 16];

	hk_fmt(dir, sizeof(dir), "%s/modules", stage);
	if (mkdirat(store->dir_fd, dir, 0755) < 0) {
		return hk_fail(err, errno, "'%s/%s': mkdir", store->dir, dir);
	}
	for (size_t i = 0; i < set->count; i++) {
		const struct hk_module_file *file = &set->files[i];
		char name[HK_MODULE_NAME_SIZE + 4];
		autofree char *path = NULL;
		int r;

		hk_fmt(name, sizeof(name), "%s.ko", file->name);
		r = hk_store_path(store, dir, name, &path, err);
		if (r == 0) {
			r = hk_write_file_atomic(path, file->data, file->len, 0644, err);
		}
		if (r < 0) {
			return r;
		}
	}
	return write_order(store, dir, set, err);
}

static int write_entry(struct hk_kernel_store *store, const char *stage,
	const struct hk_kernel_content *content, struct hk_err *err)
{
	autofree char *path = NULL;
	int r = hk_store_path(store, stage, "vmlinux", &path, err);

	if (r == 0) {
		r = hk_write_file_atomic(path, content->vmlinux, content->vmlinux_len, 0644, err);
	}
	if (r == 0) {
		r = write_modules(store, stage, &content->modules, err);
	}
	if (r == 0) {
		r = hk_store_write_info(store, stage, &content->info, err);
	}
	return r;
}

/* An entry that is there stays; only where it comes from may be told better now. */
static int keep(struct hk_kernel_store *store, const struct hk_kernel_info *there,
	const struct hk_kernel_info *now, struct hk_kernel_info *ret_info, struct hk_err *err)
{
	if (now->flavour < there->flavour ||
		(now->flavour == there->flavour && strcmp(now->source, there->source) != 0)) {
		int r = hk_store_write_info(store, now->id, now, err);

		if (r < 0) {
			return r;
		}
		*ret_info = *now;
		return 0;
	}
	*ret_info = *there;
	return 0;
}

int hk_kernel_content_store(struct hk_kernel_store *store, struct hk_kernel_content *content,
	struct hk_kernel_info *ret_info, struct hk_err *err)
{
	struct hk_kernel_info there;
	char stage[HK_STAGE_SIZE];
	int r;

	if (hk_store_read_info(store, content->info.id, &there) == 0) {
		return keep(store, &there, &content->info, ret_info, err);
	}
	hk_store_discard(store, content->info.id); /* a damaged one, if any */
	r = hk_store_stage(store, stage, err);
	if (r < 0) {
		return r;
	}
	r = write_entry(store, stage, content, err);
	if (r == 0 && renameat(store->dir_fd, stage, store->dir_fd, content->info.id) < 0) {
		r = hk_fail(err, errno, "'%s/%s': rename", store->dir, content->info.id);
	}
	if (r < 0) {
		hk_store_discard(store, stage);
		return r;
	}
	fsync(store->dir_fd);
	*ret_info = content->info;
	return 0;
}
