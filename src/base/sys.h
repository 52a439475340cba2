/* SPDX-License-Identifier: ISC */
/*
 * System calls as we want them: EINTR retried, CLOEXEC always, the fault hook
 * asked, -errno returned. Only the calls that need it; others are used directly.
 */
#ifndef HK_BASE_SYS_H
#define HK_BASE_SYS_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/uio.h>

#include "base/err.h"

/** hk_open() - openat(2) with O_CLOEXEC. Return: a descriptor the caller owns, or -errno. */
int hk_open(int dir_fd, const char *path, int flags, mode_t mode);

/** hk_read_full() - read until @len bytes or end of file. Return: bytes read, or -errno. */
ssize_t hk_read_full(int fd, void *buf, size_t len);
ssize_t hk_pread_full(int fd, void *buf, size_t len, uint64_t offset);

/**
 * hk_read_text() - a small file, such as those of /proc; what is beyond @size - 1 bytes of it is
 * left out
 * @path: if it is a symbolic link, that is -ELOOP
 * @text: NUL-terminated, "" on failure
 *
 * Return: how many bytes without the NUL, or -errno.
 */
ssize_t hk_read_text(int dir_fd, const char *path, char *text, size_t size);

/** hk_write_full() - write all of it. Return: 0, or -errno. */
int hk_write_full(int fd, const void *buf, size_t len);

/**
 * hk_read_file() - a whole file into memory, NUL-terminated
 * @limit: more bytes than this is -EFBIG
 * @ret_data: owned by the caller, free()
 *
 * Return: 0, or -errno with the path in @err.
 */
int hk_read_file(
	const char *path, size_t limit, void **ret_data, size_t *ret_len, struct hk_err *err);

/**
 * hk_write_file_atomic() - create or replace @path: temporary file beside it, fsync, rename
 * @path: a symbolic link is replaced, not followed
 * @mode: of the new file, less the umask
 *
 * Return: 0, or -errno with the path in @err; the old file is then untouched.
 */
int hk_write_file_atomic(
	const char *path, const void *data, size_t len, mode_t mode, struct hk_err *err);

/**
 * hk_mkdir_p() - make a directory and its parents
 * @mode: of what is made, less the umask; parents get u+wx besides
 *
 * Return: 0, also if it is there; or -errno with the path in @err.
 */
int hk_mkdir_p(const char *path, mode_t mode, struct hk_err *err);

/** hk_memfd() - memfd_create with CLOEXEC, sealing allowed, and @size bytes. Return: descriptor or
 * -errno. */
int hk_memfd(const char *name, uint64_t size);

#endif
