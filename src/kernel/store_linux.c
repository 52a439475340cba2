/* SPDX-License-Identifier: ISC */
/*
 * The kernel store on disk: opening, locking, listing, finding, removing.
 *
 * Theory: an entry is a directory named by its id. It comes into being by a rename of a finished
 * "tmp-*" directory and goes by a rename back to such a name; so who reads needs no lock. Who
 * changes the store holds the lock, and may therefore take every "tmp-*" for the leftover of
 * somebody who was killed.
 *
 * Limits: the lock is flock(2), which on some network file systems works within one host only.
 */
#include "kernel/kernel.h"

#include <dirent.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/sys.h"
#include "base/util.h"
#include "kernel/release.h"
#include "kernel/store_impl.h"

#define STAGE_PREFIX "tmp-"

enum { INFO_MAX_BYTES = 4096, REMOVE_MAX_DEPTH = 32 };

static const char *const flavour_names[HK_KERNEL_FLAVOUR_COUNT] = {
	[HK_KERNEL_CLOUD] = "cloud",
	[HK_KERNEL_FULL] = "full",
	[HK_KERNEL_HOST] = "host",
	[HK_KERNEL_FILE] = "file",
};

const char *hk_kernel_flavour_name(enum hk_kernel_flavour flavour)
{
	return flavour_names[flavour];
}

/* --- opening --- */

/* Source: XDG Base Directory Specification: a relative XDG_DATA_HOME is to be ignored. */
static int default_dir(char **ret_dir, struct hk_err *err)
{
	const char *data = getenv("XDG_DATA_HOME");
	const char *home = getenv("HOME");
	struct hk_str dir = {0};
	int r;

	if (data != NULL && data[0] == '/') {
		hk_str_addf(&dir, "%s/hako/kernels", data);
	} else if (home != NULL && home[0] == '/') {
		hk_str_addf(&dir, "%s/.local/share/hako/kernels", home);
	} else if (geteuid() == 0) {
		hk_str_add(&dir, "/var/lib/hako/kernels");
	} else {
		hk_fail_msg(err, ENOENT,
			"there is no place for kernels: neither XDG_DATA_HOME nor HOME is set");
		hk_err_hint(err, "set HOME to your home directory");
		return -ENOENT;
	}
	r = hk_str_take(&dir, ret_dir);
	hk_str_finish(&dir);
	return r < 0 ? hk_fail(err, -r, "kernel store") : 0;
}

int hk_kernel_store_open(const char *dir, struct hk_kernel_store **ret_store, struct hk_err *err)
{
	autofree char *path = NULL;
	autoclose int fd = -1;
	struct hk_kernel_store *store;
	int r;

	if (dir == NULL) {
		r = default_dir(&path, err);
		if (r < 0) {
			return r;
		}
	} else {
		path = hk_strdup(dir);
		if (path == NULL) {
			return hk_fail(err, ENOMEM, "kernel store");
		}
	}
	fd = hk_open(AT_FDCWD, path, O_RDONLY | O_DIRECTORY, 0);
	if (fd == -ENOENT) {
		r = hk_mkdir_p(path, 0755, err);
		if (r < 0) {
			hk_err_ctx(err, "kernel store");
			hk_err_hint(err, "name another place with XDG_DATA_HOME");
			return r;
		}
		fd = hk_open(AT_FDCWD, path, O_RDONLY | O_DIRECTORY, 0);
	}
	if (fd < 0) {
		return hk_fail(err, -fd, "kernel store '%s': open", path);
	}
	if (hk_new(store) == NULL) {
		return hk_fail(err, ENOMEM, "kernel store");
	}
	store->dir = take_ptr(path);
	store->dir_fd = take_fd(&fd);
	*ret_store = store;
	return 0;
}

void hk_kernel_store_close(struct hk_kernel_store *store)
{
	if (store == NULL) {
		return;
	}
	hk_close(&store->dir_fd);
	free(store->dir);
	free(store);
}

const char *hk_kernel_store_dir(const struct hk_kernel_store *store)
{
	return store->dir;
}

int hk_store_path(const struct hk_kernel_store *store, const char *a, const char *b,
	char **ret_path, struct hk_err *err)
{
	struct hk_str path = {0};
	int r;

	hk_str_addf(&path, "%s/%s", store->dir, a);
	if (b != NULL) {
		hk_str_addf(&path, "/%s", b);
	}
	r = hk_str_take(&path, ret_path);
	hk_str_finish(&path);
	return r < 0 ? hk_fail(err, -r, "kernel store '%s'", store->dir) : 0;
}

/* --- removing, sweeping, locking --- */

static void remove_tree(int dir_fd, const char *name, unsigned depth)
{
	struct dirent *entry;
	DIR *stream;
	int fd;

	if (unlinkat(dir_fd, name, 0) == 0 || depth == REMOVE_MAX_DEPTH) {
		return;
	}
	fd = hk_open(dir_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW, 0);
	if (fd < 0) {
		return;
	}
	stream = fdopendir(fd);
	if (stream == NULL) {
		hk_close(&fd);
		return;
	}
	while ((entry = readdir(stream)) != NULL) {
		if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0) {
			remove_tree(fd, entry->d_name, depth + 1);
		}
	}
	closedir(stream);
	unlinkat(dir_fd, name, AT_REMOVEDIR);
}

void hk_store_discard(struct hk_kernel_store *store, const char *name)
{
	remove_tree(store->dir_fd, name, 0);
}

static bool id_is_valid(const char *id)
{
	return strlen(id) == HK_KERNEL_ID_SIZE - 1 &&
		strspn(id, "0123456789abcdef") == HK_KERNEL_ID_SIZE - 1;
}

static DIR *open_dir_at(int dir_fd, const char *name)
{
	int fd = hk_open(dir_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW, 0);
	DIR *stream = fd < 0 ? NULL : fdopendir(fd);

	if (stream == NULL) {
		hk_close(&fd);
	}
	return stream;
}

/* Removes what hk_write_file_atomic() left in an entry when it was killed. */
static void sweep_entry(struct hk_kernel_store *store, const char *id)
{
	DIR *stream = open_dir_at(store->dir_fd, id);
	struct dirent *entry;

	if (stream == NULL) {
		return;
	}
	while ((entry = readdir(stream)) != NULL) {
		if (strncmp(entry->d_name, ".hako-", 6) == 0) {
			unlinkat(dirfd(stream), entry->d_name, 0);
		}
	}
	closedir(stream);
}

static void sweep(struct hk_kernel_store *store)
{
	DIR *stream = open_dir_at(store->dir_fd, ".");
	struct dirent *entry;

	if (stream == NULL) {
		return;
	}
	while ((entry = readdir(stream)) != NULL) {
		if (strncmp(entry->d_name, STAGE_PREFIX, strlen(STAGE_PREFIX)) == 0) {
			hk_store_discard(store, entry->d_name);
		} else if (id_is_valid(entry->d_name)) {
			sweep_entry(store, entry->d_name);
		}
	}
	closedir(stream);
}

int hk_store_lock(struct hk_kernel_store *store, struct hk_kernel_progress *progress, int *ret_fd,
	struct hk_err *err)
{
	autoclose int fd = hk_open(store->dir_fd, "lock", O_RDWR | O_CREAT | O_NOFOLLOW, 0644);

	if (fd < 0) {
		hk_fail(err, -fd, "'%s/lock': open", store->dir);
		if (fd == -EACCES || fd == -EROFS) {
			hk_err_hint(err,
				"you may not change this kernel store; "
				"name a place of your own with XDG_DATA_HOME");
		}
		return fd;
	}
	if (flock(fd, LOCK_EX | LOCK_NB) < 0) {
		if (errno == EWOULDBLOCK && progress != NULL) {
			progress->step(progress, "waiting for another hako", -1);
		}
		while (flock(fd, LOCK_EX) < 0) {
			if (errno != EINTR) {
				return hk_fail(err, errno, "'%s/lock': lock", store->dir);
			}
		}
	}
	sweep(store);
	*ret_fd = take_fd(&fd);
	return 0;
}

int hk_store_stage(struct hk_kernel_store *store, char ret_name[HK_STAGE_SIZE], struct hk_err *err)
{
	uint64_t id;

	if (getrandom(&id, sizeof(id), 0) != sizeof(id)) {
		return hk_fail(err, errno, "random name");
	}
	hk_fmt(ret_name, HK_STAGE_SIZE, STAGE_PREFIX "%016" PRIx64, id);
	if (mkdirat(store->dir_fd, ret_name, 0755) < 0) {
		return hk_fail(err, errno, "'%s/%s': mkdir", store->dir, ret_name);
	}
	return 0;
}

/* --- info --- */

static const char info_format[] = "hako-kernel 1\n"
				  "release %s\n"
				  "flavour %s\n"
				  "added %" PRId64 "\n"
				  "bytes %" PRIu64 "\n"
				  "modules %u\n"
				  "needs %" PRIu32 "\n"
				  "pvh %d\n"
				  "source %s\n";

int hk_store_write_info(struct hk_kernel_store *store, const char *name,
	const struct hk_kernel_info *info, struct hk_err *err)
{
	char text[INFO_MAX_BYTES];
	autofree char *path = NULL;
	int len;
	int r = hk_store_path(store, name, "info", &path, err);

	if (r < 0) {
		return r;
	}
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
	len = hk_fmt(text, sizeof(text), info_format, info->release,
		hk_kernel_flavour_name(info->flavour), info->added_s, info->bytes,
		info->module_count, info->needs, info->pvh, info->source);
#pragma GCC diagnostic pop
	if (len < 0) {
		return hk_fail(err, -len, "'%s'", path);
	}
	return hk_write_file_atomic(path, text, (size_t)len, 0644, err);
}

/* Takes the line "@key VALUE" from *@text on; sets the value, NUL-terminated in place. */
static bool next_value(char **text, const char *key, char **ret_value)
{
	size_t key_len = strlen(key);
	char *newline = strchr(*text, '\n');

	if (newline == NULL || strncmp(*text, key, key_len) != 0 || (*text)[key_len] != ' ') {
		return false;
	}
	*newline = '\0';
	*ret_value = *text + key_len + 1;
	*text = newline + 1;
	return true;
}

static bool next_number(char **text, const char *key, uint64_t max, uint64_t *ret_value)
{
	char *value;

	return next_value(text, key, &value) && hk_parse_uint(value, 0, max, ret_value) == 0;
}

static bool parse_flavour(const char *name, enum hk_kernel_flavour *ret_flavour)
{
	for (unsigned i = 0; i < HK_KERNEL_FLAVOUR_COUNT; i++) {
		if (strcmp(name, flavour_names[i]) == 0) {
			*ret_flavour = (enum hk_kernel_flavour)i;
			return true;
		}
	}
	return false;
}

static bool parse_info(char *text, struct hk_kernel_info *info)
{
	uint64_t added;
	uint64_t modules;
	uint64_t needs;
	uint64_t pvh;
	char *version;
	char *release;
	char *flavour;
	char *source;

	if (!next_value(&text, "hako-kernel", &version) || strcmp(version, "1") != 0 ||
		!next_value(&text, "release", &release) ||
		!next_value(&text, "flavour", &flavour) ||
		!next_number(&text, "added", INT64_MAX, &added) ||
		!next_number(&text, "bytes", INT64_MAX, &info->bytes) ||
		!next_number(&text, "modules", UINT32_MAX, &modules) ||
		!next_number(&text, "needs", UINT32_MAX, &needs) ||
		!next_number(&text, "pvh", 1, &pvh) || !next_value(&text, "source", &source)) {
		return false;
	}
	info->added_s = (int64_t)added;
	info->module_count = (unsigned)modules;
	info->needs = (uint32_t)needs;
	info->pvh = pvh != 0;
	return parse_flavour(flavour, &info->flavour) &&
		hk_release_parse(release, strlen(release), info->release, sizeof(info->release)) ==
		0 &&
		hk_fmt(info->source, sizeof(info->source), "%s", source) >= 0;
}

int hk_store_read_info(
	struct hk_kernel_store *store, const char *id, struct hk_kernel_info *ret_info)
{
	char text[INFO_MAX_BYTES];
	struct hk_kernel_info info = {0};
	char name[HK_KERNEL_ID_SIZE + 8];
	ssize_t n;

	if (!id_is_valid(id)) {
		return -ENOENT;
	}
	hk_fmt(name, sizeof(name), "%s/info", id);
	n = hk_read_text(store->dir_fd, name, text, sizeof(text));
	if (n < 0) {
		return (int)n;
	}
	if (strlen(text) != (size_t)n || !parse_info(text, &info)) {
		return -ENOENT;
	}
	hk_fmt(info.id, sizeof(info.id), "%s", id);
	*ret_info = info;
	return 0;
}

/* --- listing and finding --- */

/* Best first. */
static int compare_infos(const void *a, const void *b)
{
	const struct hk_kernel_info *left = a;
	const struct hk_kernel_info *right = b;
	int order = (int)left->flavour - (int)right->flavour;

	if (order == 0) {
		order = strverscmp(right->release, left->release);
	}
	if (order == 0) {
		order = (right->added_s > left->added_s) - (right->added_s < left->added_s);
	}
	return order != 0 ? order : strcmp(left->id, right->id);
}

static int collect(struct hk_kernel_store *store, DIR *stream, struct hk_kernel_info **infos,
	size_t *ret_count)
{
	struct dirent *entry;
	size_t count = 0;
	size_t cap = 0;

	while ((entry = readdir(stream)) != NULL) {
		struct hk_kernel_info info;

		if (hk_store_read_info(store, entry->d_name, &info) < 0) {
			continue;
		}
		if (count == cap) {
			struct hk_kernel_info *grown;

			cap = cap == 0 ? 8 : cap * 2;
			grown = hk_realloc_array(*infos, cap, sizeof(*grown));
			if (grown == NULL) {
				return -ENOMEM;
			}
			*infos = grown;
		}
		(*infos)[count++] = info;
	}
	*ret_count = count;
	return 0;
}

int hk_kernel_list(struct hk_kernel_store *store, struct hk_kernel_info **ret_infos,
	size_t *ret_count, struct hk_err *err)
{
	autofree struct hk_kernel_info *infos = NULL;
	DIR *stream = open_dir_at(store->dir_fd, ".");
	size_t count = 0;
	int r;

	if (stream == NULL) {
		return hk_fail(err, errno, "kernel store '%s': open", store->dir);
	}
	r = collect(store, stream, &infos, &count);
	closedir(stream);
	if (r < 0) {
		return hk_fail(err, -r, "kernel store '%s'", store->dir);
	}
	if (count > 0) {
		qsort(infos, count, sizeof(*infos), compare_infos);
	}
	*ret_infos = take_ptr(infos);
	*ret_count = count;
	return 0;
}

static bool starts_with(const char *text, const char *start)
{
	return strncmp(text, start, strlen(start)) == 0;
}

/*
 * The first of the list that @name means: as flavour, whole release or id; else as the beginning of
 * a release; else as that of an id, which must be the only one.
 */
static int choose(const struct hk_kernel_info *infos, size_t count, const char *name,
	const struct hk_kernel_info **ret_info)
{
	const struct hk_kernel_info *by_id = NULL;

	for (size_t i = 0; i < count; i++) {
		if (strcmp(name, flavour_names[infos[i].flavour]) == 0 ||
			strcmp(name, infos[i].release) == 0 || strcmp(name, infos[i].id) == 0) {
			*ret_info = &infos[i];
			return 0;
		}
	}
	for (size_t i = 0; i < count; i++) {
		if (starts_with(infos[i].release, name)) {
			*ret_info = &infos[i];
			return 0;
		}
	}
	for (size_t i = 0; i < count; i++) {
		if (starts_with(infos[i].id, name)) {
			if (by_id != NULL) {
				return -ENOTUNIQ;
			}
			by_id = &infos[i];
		}
	}
	*ret_info = by_id;
	return by_id != NULL ? 0 : -ENOENT;
}

int hk_kernel_find(struct hk_kernel_store *store, const char *name, struct hk_kernel_info *ret_info,
	struct hk_err *err)
{
	autofree struct hk_kernel_info *infos = NULL;
	const struct hk_kernel_info *found;
	size_t count;
	int r = hk_kernel_list(store, &infos, &count, err);

	if (r < 0) {
		return r;
	}
	if (count == 0) {
		hk_fail_msg(err, ENOENT, "there is no kernel in '%s' yet", store->dir);
		hk_err_hint(err,
			"get one with 'hako kernel fetch', or take this host's with "
			"'hako kernel fetch --from-host'");
		return -ENOENT;
	}
	if (name == NULL) {
		*ret_info = infos[0];
		return 0;
	}
	r = name[0] == '\0' ? -ENOENT : choose(infos, count, name, &found);
	if (r == -ENOTUNIQ) {
		hk_fail_msg(err, ENOTUNIQ, "kernel '%s': several ids begin like this", name);
	} else if (r < 0) {
		hk_fail_msg(err, ENOENT, "kernel '%s': there is none of this name", name);
	}
	if (r < 0) {
		hk_err_hint(
			err, "'hako kernel list' shows them; a file needs a slash: './%s'", name);
		return r;
	}
	*ret_info = *found;
	return 0;
}

int hk_kernel_remove(struct hk_kernel_store *store, const char *id, struct hk_err *err)
{
	char stage[HK_STAGE_SIZE];
	autoclose int lock_fd = -1;
	int r;

	if (!id_is_valid(id)) {
		return hk_fail_msg(err, ENOENT, "kernel '%s': not an id", id);
	}
	r = hk_store_lock(store, NULL, &lock_fd, err);
	if (r < 0) {
		return r;
	}
	r = hk_store_stage(store, stage, err);
	if (r < 0) {
		return r;
	}
	/* An empty directory may be renamed over. */
	if (renameat(store->dir_fd, id, store->dir_fd, stage) < 0) {
		r = errno == ENOENT ? hk_fail_msg(err, ENOENT, "kernel '%s': not there", id)
				    : hk_fail(err, errno, "kernel '%s': remove", id);
	}
	hk_store_discard(store, stage);
	return r;
}
