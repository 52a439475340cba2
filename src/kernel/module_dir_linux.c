/* SPDX-License-Identifier: ISC */
/*
 * A kernel's module directory, /lib/modules/RELEASE or a copy of it.
 *
 * Theory: modules.dep tells what there is. Debian's packages come without one (depmod makes it when
 * they are installed): then the directory is walked for module files.
 *
 * Limits: a walk takes the first of two files of one name. Files over 64 MiB are refused.
 */
#include "kernel/store_impl.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/sys.h"
#include "base/util.h"
#include "kernel/unpack.h"

#define INDEX_MAX_BYTES  ((size_t)(16 * HK_MIB))
#define MODULE_MAX_BYTES ((size_t)(64 * HK_MIB))

enum { MAX_DEPTH = 24 };

static int read_below(const char *dir, const char *path, size_t limit, void **ret_data,
	size_t *ret_len, struct hk_err *err)
{
	struct hk_str full = {0};
	int r;

	/* depmod -b writes paths relative to the directory, some old tools absolute ones. */
	hk_str_addf(&full, "%s%s%s", path[0] == '/' ? "" : dir, path[0] == '/' ? "" : "/", path);
	if (full.failed) {
		r = hk_fail(err, ENOMEM, "'%s'", dir);
	} else {
		r = hk_read_file(hk_str_text(&full), limit, ret_data, ret_len, err);
	}
	hk_str_finish(&full);
	return r;
}

/* --- the walk --- */

static int walk(int dir_fd, struct hk_str *path, unsigned depth, struct hk_modules *modules,
	struct hk_err *err);

static int walk_entry(int dir_fd, const char *name, struct hk_str *path, unsigned depth,
	struct hk_modules *modules, struct hk_err *err)
{
	size_t len = path->len;
	struct stat st;
	int r = 0;

	if (fstatat(dir_fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0) {
		return hk_fail(err, errno, "'%s'", name);
	}
	hk_str_addf(path, "%s%s", len > 0 ? "/" : "", name);
	if (path->failed) {
		return hk_fail(err, ENOMEM, "modules");
	}
	if (S_ISREG(st.st_mode)) {
		r = hk_modules_add_file(modules, hk_str_text(path), err);
	} else if (S_ISDIR(st.st_mode) && depth < MAX_DEPTH) {
		autoclose int fd = hk_open(dir_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW, 0);

		r = fd < 0 ? hk_fail(err, -fd, "'%s': open", hk_str_text(path))
			   : walk(fd, path, depth + 1, modules, err);
	}
	path->len = len; /* shorten it again */
	path->data[len] = '\0';
	return r;
}

static int walk(int dir_fd, struct hk_str *path, unsigned depth, struct hk_modules *modules,
	struct hk_err *err)
{
	int fd = hk_open(dir_fd, ".", O_RDONLY | O_DIRECTORY, 0);
	DIR *stream = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *entry;
	int r = 0;

	if (stream == NULL) {
		hk_close(&fd);
		return hk_fail(err, errno, "'%s': open", hk_str_text(path));
	}
	while (r == 0 && (entry = readdir(stream)) != NULL) {
		if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0) {
			r = walk_entry(fd, entry->d_name, path, depth, modules, err);
		}
	}
	closedir(stream);
	return r;
}

/* --- index and reader --- */

static int load_index(const char *dir, const char *name, struct hk_modules *modules,
	int (*add)(struct hk_modules *, const char *, size_t, struct hk_err *), struct hk_err *err)
{
	autofree void *text = NULL;
	size_t len;
	int r = read_below(dir, name, INDEX_MAX_BYTES, &text, &len, err);

	return r < 0 ? r : add(modules, text, len, err);
}

static int load(const char *dir, int dir_fd, struct hk_modules *modules, struct hk_err *err)
{
	int r = load_index(dir, "modules.dep", modules, hk_modules_add_dep, err);

	if (r == -ENOENT) {
		struct hk_str path = {0};

		r = walk(dir_fd, &path, 0, modules, err);
		hk_str_finish(&path);
	}
	if (r < 0) {
		return r;
	}
	r = load_index(dir, "modules.builtin", modules, hk_modules_add_builtin, err);
	return r == -ENOENT ? 0 : r;
}

int hk_module_dir_load(const char *dir, struct hk_modules *modules, struct hk_err *err)
{
	autoclose int fd = hk_open(AT_FDCWD, dir, O_RDONLY | O_DIRECTORY, 0);
	int r;

	if (fd < 0) {
		return hk_fail(err, -fd, "modules '%s': open", dir);
	}
	r = load(dir, fd, modules, err);
	if (r < 0) {
		hk_err_ctx(err, "modules '%s'", dir);
	}
	return r;
}

static int read_module(struct hk_module_reader *reader, const char *path, void **ret_data,
	size_t *ret_len, struct hk_err *err)
{
	struct hk_module_dir *dir = hk_container_of(reader, struct hk_module_dir, reader);
	autofree void *file = NULL;
	enum hk_pack pack;
	size_t len;
	int r = read_below(dir->dir, path, MODULE_MAX_BYTES, &file, &len, err);

	if (r < 0) {
		return r;
	}
	pack = hk_pack_detect(file, len);
	if (pack == HK_PACK_NONE) {
		*ret_data = take_ptr(file);
		*ret_len = len;
		return 0;
	}
	r = hk_unpack(pack, file, len, MODULE_MAX_BYTES, ret_data, ret_len, err);
	if (r < 0) {
		hk_err_ctx(err, "'%s/%s'", dir->dir, path);
	}
	return r;
}

void hk_module_dir_init(struct hk_module_dir *module_dir, const char *dir)
{
	*module_dir = (struct hk_module_dir){.reader = {.read = read_module}, .dir = dir};
}
