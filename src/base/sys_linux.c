/* SPDX-License-Identifier: ISC */
/*
 * System calls as we want them: see sys.h.
 *
 * Theory: every call asks the fault hook first (which then stands for EIO), is retried on EINTR,
 * and gives -errno. Files are replaced through a temporary file in the same directory, addressed
 * relative to a descriptor of that directory, so that renaming a parent meanwhile cannot move the
 * two apart.
 *
 * Limits: hk_write_file_atomic() replaces a symbolic link instead of following it, and leaves a
 * ".hako-*.tmp" behind if the process is killed in between. Syncing the directory afterwards is
 * best effort: some file systems cannot, and by then the new file is in place.
 */
#include "base/sys.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/fault.h"
#include "base/str.h"
#include "base/util.h"

/* @call once if the fault hook lets it, again as long as it is interrupted. */
#define RETRY(call) \
	({ \
		__typeof__(call) result_; \
		do { \
			result_ = faulted() ? -1 : (call); \
		} while (result_ < 0 && errno == EINTR); \
		result_; \
	})

static bool faulted(void)
{
	if (hk_fault(HK_FAULT_SYSCALL)) {
		errno = EIO;
		return true;
	}
	return false;
}

int hk_open(int dir_fd, const char *path, int flags, mode_t mode)
{
	int fd = RETRY(openat(dir_fd, path, flags | O_CLOEXEC, mode));

	return fd < 0 ? -errno : fd;
}

ssize_t hk_read_full(int fd, void *buf, size_t len)
{
	size_t done = 0;

	while (done < len) {
		ssize_t n = RETRY(read(fd, (char *)buf + done, len - done));

		if (n < 0) {
			return -errno;
		}
		if (n == 0) {
			break;
		}
		done += (size_t)n;
	}
	return (ssize_t)done;
}

ssize_t hk_read_text(int dir_fd, const char *path, char *text, size_t size)
{
	autoclose int fd = hk_open(dir_fd, path, O_RDONLY | O_NOCTTY | O_NOFOLLOW, 0);
	ssize_t n = fd < 0 ? fd : hk_read_full(fd, text, size - 1);

	text[HK_MAX(n, 0)] = '\0';
	return n;
}

ssize_t hk_pread_full(int fd, void *buf, size_t len, uint64_t offset)
{
	size_t done = 0;

	if (!hk_range_within(offset, len, INT64_MAX)) {
		return -EINVAL;
	}
	while (done < len) {
		ssize_t n =
			RETRY(pread(fd, (char *)buf + done, len - done, (off_t)(offset + done)));

		if (n < 0) {
			return -errno;
		}
		if (n == 0) {
			break;
		}
		done += (size_t)n;
	}
	return (ssize_t)done;
}

int hk_write_full(int fd, const void *buf, size_t len)
{
	size_t done = 0;

	while (done < len) {
		ssize_t n = RETRY(write(fd, (const char *)buf + done, len - done));

		if (n < 0) {
			return -errno;
		}
		if (n == 0) {
			return -EIO; /* a file that takes nothing and says nothing */
		}
		done += (size_t)n;
	}
	return 0;
}

/* How many bytes to ask for at first: the size where the file tells one, else a page. */
static int size_guess(int fd, size_t limit, size_t *ret_size)
{
	struct stat st;

	if (RETRY(fstat(fd, &st)) < 0) {
		return -errno;
	}
	*ret_size = 4096;
	if (S_ISREG(st.st_mode) && st.st_size > 0) {
		if ((uint64_t)st.st_size > limit) {
			return -EFBIG;
		}
		*ret_size = (size_t)st.st_size;
	}
	*ret_size = HK_MIN(*ret_size, limit);
	return 0;
}

/* Reads to the end; files grow and /proc tells no sizes, so the guess is only a start. */
static int read_all(int fd, size_t limit, void **ret_data, size_t *ret_len)
{
	autofree char *data = NULL;
	size_t cap = 0;
	size_t len = 0;
	int r = size_guess(fd, limit, &cap);

	if (r < 0) {
		return r;
	}
	for (;;) {
		/* One byte over @cap: room for the NUL, and to notice that there is more. */
		char *grown = hk_realloc_array(data, cap + 1, 1);
		ssize_t n;

		if (grown == NULL) {
			return -ENOMEM;
		}
		data = grown;
		n = hk_read_full(fd, data + len, cap + 1 - len);
		if (n < 0) {
			return (int)n;
		}
		len += (size_t)n;
		if (len <= cap) {
			break;
		}
		if (cap == limit) {
			return -EFBIG;
		}
		cap = cap > limit / 2 ? limit : cap * 2;
	}
	data[len] = '\0';
	*ret_data = take_ptr(data);
	*ret_len = len;
	return 0;
}

int hk_read_file(
	const char *path, size_t limit, void **ret_data, size_t *ret_len, struct hk_err *err)
{
	autoclose int fd = hk_open(AT_FDCWD, path, O_RDONLY | O_NOCTTY, 0);
	int r;

	if (fd < 0) {
		return hk_fail(err, -fd, "'%s': open", path);
	}
	r = read_all(fd, HK_MIN(limit, (size_t)PTRDIFF_MAX - 1), ret_data, ret_len);
	return r < 0 ? hk_fail(err, -r, "'%s': read", path) : 0;
}

/* Opens the directory that holds @path; sets the name in it, borrowed from @path. */
static int open_parent(const char *path, const char **ret_name)
{
	const char *slash = strrchr(path, '/');
	autofree char *dir = NULL;

	*ret_name = slash != NULL ? slash + 1 : path;
	if ((*ret_name)[0] == '\0') {
		return path[0] == '\0' ? -ENOENT : -EISDIR;
	}
	dir = hk_strdup(slash == NULL ? "." : path);
	if (dir == NULL) {
		return -ENOMEM;
	}
	if (slash != NULL) {
		dir[slash == path ? 1 : slash - path] = '\0';
	}
	return hk_open(AT_FDCWD, dir, O_PATH | O_DIRECTORY, 0);
}

/* Creates a file that nobody else has in @dir_fd. */
static int create_temporary(int dir_fd, mode_t mode, char *name, size_t name_size)
{
	for (int tries = 0; tries < 16; tries++) {
		uint64_t id = 0;
		int fd;

		if (RETRY(getrandom(&id, sizeof(id), 0)) != sizeof(id)) {
			return -EIO;
		}
		fd = hk_fmt(name, name_size, ".hako-%016" PRIx64 ".tmp", id);
		if (fd < 0) {
			return fd;
		}
		fd = hk_open(dir_fd, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, mode);
		if (fd != -EEXIST) {
			return fd;
		}
	}
	return -EEXIST;
}

static int fill_and_sync(int fd, const void *data, size_t len)
{
	int r = hk_write_full(fd, data, len);

	if (r < 0) {
		return r;
	}
	return RETRY(fsync(fd)) < 0 ? -errno : 0;
}

static void sync_directory(int dir_fd)
{
	autoclose int fd = hk_open(dir_fd, ".", O_RDONLY | O_DIRECTORY, 0);

	if (fd >= 0) {
		fsync(fd);
	}
}

int hk_write_file_atomic(
	const char *path, const void *data, size_t len, mode_t mode, struct hk_err *err)
{
	const char *name;
	char temporary[40];
	autoclose int dir_fd = open_parent(path, &name);
	autoclose int fd = -1;
	int r;

	if (dir_fd < 0) {
		return hk_fail(err, -dir_fd, "'%s': open directory", path);
	}
	fd = create_temporary(dir_fd, mode, temporary, sizeof(temporary));
	if (fd < 0) {
		return hk_fail(err, -fd, "'%s': create", path);
	}
	r = fill_and_sync(fd, data, len);
	if (r < 0) {
		unlinkat(dir_fd, temporary, 0);
		return hk_fail(err, -r, "'%s': write", path);
	}
	if (RETRY(renameat(dir_fd, temporary, dir_fd, name)) < 0) {
		r = errno;
		unlinkat(dir_fd, temporary, 0);
		return hk_fail(err, r, "'%s': rename", path);
	}
	sync_directory(dir_fd);
	return 0;
}

static int make_directory(const char *path, mode_t mode)
{
	struct stat st;

	if (RETRY(mkdir(path, mode)) == 0) {
		return 0;
	}
	if (errno != EEXIST) {
		return -errno;
	}
	if (RETRY(stat(path, &st)) < 0) {
		return -errno;
	}
	return S_ISDIR(st.st_mode) ? 0 : -ENOTDIR;
}

int hk_mkdir_p(const char *path, mode_t mode, struct hk_err *err)
{
	autofree char *copy = NULL;
	int r = make_directory(path, mode);

	if (r != -ENOENT || path[0] == '\0') {
		return r < 0 ? hk_fail(err, -r, "'%s': mkdir", path) : 0;
	}
	copy = hk_strdup(path);
	if (copy == NULL) {
		return hk_fail(err, ENOMEM, "'%s': mkdir", path);
	}
	/* Parents must let their owner in, or the next one could not be made. */
	for (char *p = copy + 1; *p != '\0'; p++) {
		if (*p != '/' || p[-1] == '/') {
			continue;
		}
		*p = '\0';
		r = make_directory(copy, mode | S_IWUSR | S_IXUSR);
		if (r < 0) {
			return hk_fail(err, -r, "'%s': mkdir", copy);
		}
		*p = '/';
	}
	r = make_directory(path, mode);
	return r < 0 ? hk_fail(err, -r, "'%s': mkdir", path) : 0;
}

int hk_memfd(const char *name, uint64_t size)
{
	autoclose int fd = -1;

	if (size > INT64_MAX) {
		return -EFBIG;
	}
	fd = RETRY(memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING));
	if (fd < 0) {
		return -errno;
	}
	if (RETRY(ftruncate(fd, (off_t)size)) < 0) {
		return -errno;
	}
	return take_fd(&fd);
}
