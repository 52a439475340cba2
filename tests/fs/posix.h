/* SPDX-License-Identifier: ISC */
/*
 * posix: does a file system behave as POSIX and the Linux manual pages say? Prints TAP. Written
 * from those pages; in the manner of pjdfstest. Run on two file systems its output must agree, line
 * by line.
 */
#ifndef HK_TESTS_FS_POSIX_H
#define HK_TESTS_FS_POSIX_H

#include <stdbool.h>
#include <sys/types.h>

/** check() - @call must succeed (@want 0) or fail with errno @want. Gives what the call returned.
 */
#define check(call, want) posix_check(#call, (errno = 0, (long)(call)), want)
/** ok() - @condition must hold; it is also what the line says */
#define ok(condition) posix_ok((condition), "%s", #condition)

long posix_check(const char *call, long result, int want);
bool posix_ok(bool condition, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/** posix_skip() - a line in place of checks that cannot be done here */
void posix_skip(const char *why);

/* Each in a fresh current directory. */
void posix_open(void), posix_mkdir(void), posix_link(void), posix_rename(void), posix_symlink(void);
void posix_special(void), posix_mode(void), posix_owner(void), posix_names(void),
	posix_deleted(void);
void posix_truncate(void), posix_times(void), posix_stat(void), posix_xattr(void);
void posix_space(void), posix_copy(void), posix_data(void), posix_mmap(void);
void posix_fcntl_locks(void), posix_flock(void), posix_ofd_locks(void);
void posix_readdir(void), posix_deep(void), posix_watch(void);

/* Helpers. */
int posix_create(const char *path, const char *text); /* a file with this content; 0 or -1 */
bool posix_has(const char *path, const char *text);   /* is this its content? */
mode_t posix_mode_of(const char *path); /* permission bits, as lstat tells; (mode_t)-1 */
nlink_t posix_links(const char *path);
/* Runs @body in a child. Return: what it returned, 0 to 255, or -1. */
int posix_child(int (*body)(void));

#endif
