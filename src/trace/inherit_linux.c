/* SPDX-License-Identifier: ISC */
/*
 * Directories that the caller has left open for the command.
 *
 * Theory: a descriptor of a directory is a way into the tree it is of, and that is the host's:
 * openat(2) from it would ask no policy. So each is opened anew, by its path, in the mirror. What
 * cannot be is closed.
 *
 * Limits: descriptors of files, pipes and sockets are passed on as they are: their data is the
 * caller's gift. A file among them can be opened anew through /proc/self/fd, with what rights the
 * user has for it.
 */
#include <dirent.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/str.h"
#include "trace/sandbox_impl_linux.h"

/** struct hk_inherited - one of a list */
struct hk_inherited {
	struct hk_inherited *next;
	int fd;
	char path[PATH_MAX];
};

/* Of a directory, and not to be closed by execve(2)? */
static bool is_inherited_dir(int fd)
{
	int flags = fcntl(fd, F_GETFD);
	struct stat st;

	return flags >= 0 && (flags & FD_CLOEXEC) == 0 && fstat(fd, &st) == 0 &&
		S_ISDIR(st.st_mode);
}

static int add(struct hk_inherited **list, int fd)
{
	struct hk_inherited *one;
	char link[32];
	ssize_t n;

	if (hk_new(one) == NULL) {
		return -ENOMEM;
	}
	hk_fmt(link, sizeof(link), "/proc/self/fd/%d", fd);
	n = readlink(link, one->path, sizeof(one->path) - 1);
	one->path[n < 0 ? 0 : n] = '\0';
	one->fd = fd;
	one->next = *list;
	*list = one;
	return 0;
}

int hk_inherited_find(struct hk_inherited **ret_list, struct hk_err *err)
{
	DIR *dir = opendir("/proc/self/fd");
	const struct dirent *entry;
	int r = dir == NULL ? -errno : 0;

	*ret_list = NULL;
	while (r == 0 && (entry = readdir(dir)) != NULL) {
		int fd = (int)strtol(entry->d_name, NULL, 10);

		if (entry->d_name[0] != '.' && is_inherited_dir(fd)) {
			r = add(ret_list, fd);
		}
	}
	if (dir != NULL) {
		closedir(dir);
	}
	return r < 0 ? hk_fail(err, -r, "/proc/self/fd") : 0;
}

void hk_inherited_reopen(const struct hk_inherited *list)
{
	for (const struct hk_inherited *one = list; one != NULL; one = one->next) {
		int flags = fcntl(one->fd, F_GETFL) & O_PATH;
		int fd = open(one->path, flags | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

		if (fd < 0 || dup2(fd, one->fd) < 0) {
			close(one->fd);
		}
		hk_close(&fd);
	}
}

void hk_inherited_free(struct hk_inherited *list)
{
	while (list != NULL) {
		struct hk_inherited *next = list->next;

		free(list);
		list = next;
	}
}
