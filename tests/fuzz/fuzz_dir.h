/* SPDX-License-Identifier: ISC */
/*
 * A directory whose content the input makes. What is in it is hostile: a symbolic link there may
 * lead to any file of this machine, so no name of it is ever followed.
 */
#ifndef HK_TESTS_FUZZ_DIR_H
#define HK_TESTS_FUZZ_DIR_H

#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

enum { FUZZ_FILE_BYTES = 1 << 20 };

/*
 * Makes a directory, in memory where there is one. @path gets its name. Return: 0 or -1 with errno.
 */
static inline int fuzz_dir_make(char *path, size_t size)
{
	snprintf(path, size, "%s/hako-fuzz-XXXXXX",
		access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp");
	return mkdtemp(path) != NULL ? 0 : -1;
}

/*
 * From now on no file of this process grows beyond FUZZ_FILE_BYTES, whatever offset is written at.
 */
static inline int fuzz_dir_limit(void)
{
	return setrlimit(RLIMIT_FSIZE, &(struct rlimit){FUZZ_FILE_BYTES, FUZZ_FILE_BYTES});
}

static inline int fuzz_dir_open(const char *path, const struct stat *st, int kind, struct FTW *ftw)
{
	(void)kind;
	(void)ftw;
	/* Only for directories: chmod() would follow a link to a file outside. */
	return S_ISDIR(st->st_mode) ? chmod(path, 0700) : 0;
}

static inline int fuzz_dir_remove(
	const char *path, const struct stat *st, int kind, struct FTW *ftw)
{
	(void)st;
	(void)kind;
	return ftw->level > 0 ? remove(path) : 0;
}

/* Removes all that is in the directory, and leaves itself. */
static inline void fuzz_dir_empty(const char *path)
{
	nftw(path, fuzz_dir_open, 8, FTW_PHYS);
	nftw(path, fuzz_dir_remove, 8, FTW_PHYS | FTW_DEPTH);
}

#endif
