/* SPDX-License-Identifier: ISC */
/*
 * Debian packages: an ar archive that holds debian-binary, control.tar.* and data.tar.*.
 *
 * Theory: libarchive reads the outer archive, and a second reader takes the bytes of data.tar from
 * it as they come, so nothing is unpacked twice or kept in memory. We choose the names that we
 * write, from the parts of an entry's name that we understand; links and devices are passed over,
 * so nothing can lead out of the directory.
 *
 * libarchive is loaded when it is needed: it brings a dozen other libraries with it, which would
 * cost every start of hako 2 ms and 3 MB, and most starts unpack nothing.
 *
 * Limits: at most 4 GiB of files.
 *
 * Source: deb(5).
 */
#include "kernel/deb.h"

#include <archive.h>
#include <archive_entry.h>
#include <dlfcn.h>
#include <fcntl.h>
#include <pthread.h>
#include <string.h>
#include <sys/stat.h>

#include "base/cleanup.h"
#include "base/str.h"
#include "base/sys.h"
#include "base/util.h"
#include "kernel/release.h"

#define MAX_TOTAL_BYTES (4 * HK_GIB)

/* What we call of it. */
#define LIB_FUNCTIONS(X) \
	X(archive_entry_filetype) \
	X(archive_entry_hardlink) \
	X(archive_entry_pathname) \
	X(archive_errno) \
	X(archive_error_string) \
	X(archive_filter_bytes) \
	X(archive_read_data_block) \
	X(archive_read_free) \
	X(archive_read_new) \
	X(archive_read_next_header) \
	X(archive_read_open) \
	X(archive_read_open_filename) \
	X(archive_read_support_filter_gzip) \
	X(archive_read_support_filter_xz) \
	X(archive_read_support_filter_zstd) \
	X(archive_read_support_format_ar) \
	X(archive_read_support_format_tar) \
	X(archive_set_error)

static struct {
#define DECLARE(function) __typeof__(function) *function;
	LIB_FUNCTIONS(DECLARE)
#undef DECLARE
	bool loaded;
} lib;

static void load_lib(void)
{
	void *handle = dlopen("libarchive.so.13", RTLD_NOW | RTLD_LOCAL);
	bool complete = handle != NULL;

#define LOAD(function) \
	if (complete) { \
		lib.function = (__typeof__(lib.function))dlsym(handle, #function); \
		complete = lib.function != NULL; \
	}
	LIB_FUNCTIONS(LOAD)
#undef LOAD
	lib.loaded = complete;
}

/* Any thread. The library stays loaded. */
static bool have_lib(void)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;

	pthread_once(&once, load_lib);
	return lib.loaded;
}

struct unpacker {
	struct archive *outer;
	const char *dir; /* borrowed */
	struct hk_kernel_progress *progress;
	uint64_t deb_bytes;
	uint64_t written_bytes;
	int shown_percent;
	bool has_kernel;
	struct hk_str last_parent; /* made already */
	struct hk_err *err;
};

static void cleanup_archive(struct archive **archive)
{
	if (*archive != NULL) {
		lib.archive_read_free(*archive);
	}
}

#define autoarchive HK_CLEANUP(cleanup_archive)

/* What libarchive has to say becomes our error. */
static int fail_archive(struct hk_err *err, struct archive *archive)
{
	const char *reason = lib.archive_error_string(archive);
	int code = lib.archive_errno(archive);
	char shown[200];

	if (code == ENOMEM) {
		return hk_fail(err, ENOMEM, "unpack");
	}
	if (reason == NULL) {
		reason = "unknown error";
	}
	hk_str_escape(shown, sizeof(shown), reason, strlen(reason));
	return hk_fail_msg(err, EBADMSG, "corrupt or not a Debian package: %s", shown);
}

static void show_progress(struct unpacker *unpacker)
{
	uint64_t done = (uint64_t)lib.archive_filter_bytes(unpacker->outer, -1);
	int percent;

	if (unpacker->progress == NULL || unpacker->deb_bytes == 0) {
		return;
	}
	percent = (int)(HK_MIN(done, unpacker->deb_bytes) * 100 / unpacker->deb_bytes);
	if (percent != unpacker->shown_percent) {
		unpacker->shown_percent = percent;
		unpacker->progress->step(unpacker->progress, "unpacking", percent);
	}
}

/* Skips "DIR/RELEASE/" at the start of @name. Return: what follows, or NULL if it is not so. */
static const char *behind_release(const char *name, const char *dir)
{
	char release[HK_KERNEL_RELEASE_SIZE];
	size_t dir_len = strlen(dir);
	const char *slash;

	if (strncmp(name, dir, dir_len) != 0) {
		return NULL;
	}
	name += dir_len;
	slash = strchr(name, '/');
	if (slash == NULL ||
		hk_release_parse(name, (size_t)(slash - name), release, sizeof(release)) < 0) {
		return NULL;
	}
	return slash + 1;
}

/* Is each component a name, rather than nothing, "." or ".."? */
static bool path_is_plain(const char *path)
{
	for (;;) {
		size_t n = strcspn(path, "/");

		if (n == 0 || (path[0] == '.' && (n == 1 || (n == 2 && path[1] == '.')))) {
			return false;
		}
		if (path[n] == '\0') {
			return true;
		}
		path += n + 1;
	}
}

/* Decides what an entry is for us: sets where it goes, below our directory. */
static bool wanted(const char *name, struct hk_str *target)
{
	static const char image[] = "boot/vmlinuz-";
	const char *rest;

	name += strncmp(name, "./", 2) == 0 ? 2 : 0;
	if (strncmp(name, image, sizeof(image) - 1) == 0) {
		hk_str_add(target, "vmlinuz");
		return strchr(name + sizeof(image) - 1, '/') == NULL;
	}
	name += strncmp(name, "usr/", 4) == 0 ? 4 : 0;
	rest = behind_release(name, "lib/modules/");
	if (rest == NULL || !path_is_plain(rest)) {
		return false;
	}
	hk_str_addf(target, "modules/%s", rest);
	return true;
}

static int make_parent(struct unpacker *unpacker, const char *path)
{
	const char *slash = strrchr(path, '/');
	struct hk_str parent = {0};
	int r = 0;

	hk_str_add_bytes(&parent, path, (size_t)(slash - path));
	if (strcmp(hk_str_text(&parent), hk_str_text(&unpacker->last_parent)) != 0) {
		r = parent.failed ? hk_fail(unpacker->err, ENOMEM, "unpack")
				  : hk_mkdir_p(hk_str_text(&parent), 0755, unpacker->err);
	}
	if (r < 0) {
		hk_str_finish(&parent);
		return r;
	}
	hk_str_finish(&unpacker->last_parent);
	unpacker->last_parent = parent;
	return 0;
}

static int write_entry(struct unpacker *unpacker, struct archive *data, const char *path)
{
	autoclose int fd = -1;
	la_int64_t pos = 0;
	int r = make_parent(unpacker, path);

	if (r < 0) {
		return r;
	}
	fd = hk_open(AT_FDCWD, path, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, 0644);
	if (fd < 0) {
		return hk_fail(unpacker->err, -fd, "'%s': create", path);
	}
	for (;;) {
		const void *block;
		size_t len;
		la_int64_t offset;
		int status = lib.archive_read_data_block(data, &block, &len, &offset);

		if (status == ARCHIVE_EOF) {
			return 0;
		}
		if (status < ARCHIVE_WARN) {
			return fail_archive(unpacker->err, data);
		}
		if (offset != pos) {
			return hk_fail_msg(unpacker->err, EBADMSG, "it holds a sparse file");
		}
		pos += (la_int64_t)len;
		unpacker->written_bytes += len;
		if (unpacker->written_bytes > MAX_TOTAL_BYTES) {
			return hk_fail_msg(unpacker->err, EFBIG, "it holds more than 4 GiB");
		}
		r = hk_write_full(fd, block, len);
		if (r < 0) {
			return hk_fail(unpacker->err, -r, "'%s': write", path);
		}
	}
}

static int unpack_entry(
	struct unpacker *unpacker, struct archive *data, struct archive_entry *entry)
{
	const char *name = lib.archive_entry_pathname(entry);
	struct hk_str target = {0};
	struct hk_str path = {0};
	int r = 0;

	if (name != NULL && lib.archive_entry_filetype(entry) == AE_IFREG &&
		lib.archive_entry_hardlink(entry) == NULL && wanted(name, &target)) {
		hk_str_addf(&path, "%s/%s", unpacker->dir, hk_str_text(&target));
		if (target.failed || path.failed) {
			r = hk_fail(unpacker->err, ENOMEM, "unpack");
		} else {
			r = write_entry(unpacker, data, hk_str_text(&path));
		}
		unpacker->has_kernel |= strcmp(hk_str_text(&target), "vmlinuz") == 0;
	}
	hk_str_finish(&target);
	hk_str_finish(&path);
	return r;
}

static la_ssize_t read_nested(struct archive *data, void *context, const void **ret_block)
{
	struct unpacker *unpacker = context;
	la_int64_t offset;
	size_t len = 0;
	int status = lib.archive_read_data_block(unpacker->outer, ret_block, &len, &offset);

	if (status == ARCHIVE_EOF) {
		return 0;
	}
	if (status < ARCHIVE_WARN) {
		lib.archive_set_error(data, lib.archive_errno(unpacker->outer), "%s",
			lib.archive_error_string(unpacker->outer));
		return -1;
	}
	return (la_ssize_t)len;
}

/* Unpacks data.tar, at which the outer archive stands. */
static int unpack_data(struct unpacker *unpacker)
{
	autoarchive struct archive *data = lib.archive_read_new();
	struct archive_entry *entry;
	int status;
	int r;

	if (data == NULL) {
		return hk_fail(unpacker->err, ENOMEM, "unpack");
	}
	lib.archive_read_support_filter_gzip(data);
	lib.archive_read_support_filter_xz(data);
	lib.archive_read_support_filter_zstd(data);
	lib.archive_read_support_format_tar(data);
	if (lib.archive_read_open(data, unpacker, NULL, read_nested, NULL) != ARCHIVE_OK) {
		return fail_archive(unpacker->err, data);
	}
	while ((status = lib.archive_read_next_header(data, &entry)) != ARCHIVE_EOF) {
		if (status < ARCHIVE_WARN) {
			return fail_archive(unpacker->err, data);
		}
		show_progress(unpacker);
		r = unpack_entry(unpacker, data, entry);
		if (r < 0) {
			return r;
		}
	}
	return 0;
}

static int find_data(struct unpacker *unpacker, const char *path)
{
	struct archive_entry *entry;
	int status;

	lib.archive_read_support_format_ar(unpacker->outer);
	if (lib.archive_read_open_filename(unpacker->outer, path, 1 << 16) != ARCHIVE_OK) {
		return fail_archive(unpacker->err, unpacker->outer);
	}
	while ((status = lib.archive_read_next_header(unpacker->outer, &entry)) >= ARCHIVE_WARN &&
		status != ARCHIVE_EOF) {
		const char *name = lib.archive_entry_pathname(entry);

		if (name != NULL && strncmp(name, "data.tar", 8) == 0) {
			return unpack_data(unpacker);
		}
	}
	if (status != ARCHIVE_EOF) {
		return fail_archive(unpacker->err, unpacker->outer);
	}
	return hk_fail_msg(unpacker->err, EBADMSG, "not a Debian package: there is no data in it");
}

int hk_deb_unpack(
	const char *path, const char *dir, struct hk_kernel_progress *progress, struct hk_err *err)
{
	autoarchive struct archive *outer = NULL;
	struct unpacker unpacker = {
		.dir = dir,
		.progress = progress,
		.shown_percent = -1,
		.err = err,
	};
	struct stat st;
	int r;

	if (!have_lib()) {
		hk_fail_msg(err, ENOENT, "'%s': unpack: libarchive.so.13 is not there", path);
		hk_err_hint(err, "install it (Debian: the package libarchive13)");
		return -ENOENT;
	}
	outer = lib.archive_read_new();
	if (outer == NULL) {
		return hk_fail(err, ENOMEM, "'%s': unpack", path);
	}
	unpacker.outer = outer;
	if (stat(path, &st) < 0) {
		return hk_fail(err, errno, "'%s'", path);
	}
	unpacker.deb_bytes = (uint64_t)st.st_size;
	r = find_data(&unpacker, path);
	hk_str_finish(&unpacker.last_parent);
	if (r == 0 && !unpacker.has_kernel) {
		r = hk_fail_msg(err, EBADMSG, "there is no kernel in this package");
	}
	if (r < 0) {
		hk_err_ctx(err, "'%s'", path);
	}
	return r;
}
