/* SPDX-License-Identifier: ISC */
/*
 * Removing a tree that a program has made as it liked: see overlay_impl.h and layer.h.
 *
 * Theory: nobody knows how deep it is, so there is no recursion, and no more than two directories
 * are open. What cannot be removed at once, a directory with something in it, moves up to the top;
 * with all of them moved, or removed, the directory they were in is empty. Each directory moves at
 * most once.
 *
 * Limits: whoever is interrupted leaves a tree in another order.
 */
#include <linux/limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/str.h"
#include "fuse/layer_impl.h"

enum { LISTED = 32768 };

struct removal {
	int top;
	unsigned moved;
	char *buf; /* owned; of LISTED bytes */
};

/*
 * Its owner may have locked himself out. Not lent (overlay_rights_linux.c): what goes needs nothing
 * back.
 */
static int open_dir(int dir, const char *name)
{
	int fd = hk_host_open_name(dir, name, O_RDONLY | O_DIRECTORY, 0);

	if (fd == -EACCES && HK_HOST_CALL(fchmodat(dir, name, 0700, 0)) == 0) {
		fd = hk_host_open_name(dir, name, O_RDONLY | O_DIRECTORY, 0);
	}
	if (fd >= 0 && geteuid() != 0) {
		fchmod(fd, 0700); /* if not, what follows says why */
	}
	return fd;
}

/* A directory moves to the top, under a name nobody has. */
static int move_up(struct removal *removal, int dir, const char *name)
{
	char to[24];
	int r;

	if (geteuid() != 0) {
		fchmodat(dir, name, 0700, 0); /* its ".." is written */
	}
	do {
		hk_fmt(to, sizeof(to), ".removed-%x", removal->moved++);
		r = HK_HOST_CALL(renameat(dir, name, removal->top, to));
	} while (r == -ENOTEMPTY || r == -EEXIST || r == -ENOTDIR);
	return r;
}

/* One entry. Return: 0; 1: a directory of the top in which there is something; -errno. */
static int remove_entry(struct removal *removal, int dir, const char *name)
{
	int r = HK_HOST_CALL(unlinkat(dir, name, 0));

	if (r == -EISDIR) {
		r = HK_HOST_CALL(unlinkat(dir, name, AT_REMOVEDIR));
		if (r == -ENOTEMPTY || r == -EEXIST) {
			r = dir == removal->top ? 1 : move_up(removal, dir, name);
		}
	}
	return r == -ENOENT ? 0 : r;
}

/* Return: 0; 1: not all of it; -errno. @found: a directory to be emptied first */
static int remove_entries(struct removal *removal, int dir, char found[NAME_MAX + 1])
{
	ssize_t n;

	while ((n = hk_host_read_dir(NULL, dir, removal->buf, LISTED)) > 0) {
		for (ssize_t at = 0; at < n;) {
			const struct hk_dirent *entry =
				(const struct hk_dirent *)(removal->buf + at);
			int r;

			at += entry->record_len;
			if (strcmp(entry->name, ".") == 0 || strcmp(entry->name, "..") == 0) {
				continue;
			}
			r = remove_entry(removal, dir, entry->name);
			if (r > 0) {
				hk_fmt(found, NAME_MAX + 1, "%s", entry->name);
			}
			if (r != 0) {
				return r;
			}
		}
	}
	return (int)n;
}

static int empty_dir(struct removal *removal, const char *name)
{
	char none[NAME_MAX + 1];
	autoclose int fd = open_dir(removal->top, name);
	int r = fd < 0 ? fd : remove_entries(removal, fd, none);

	return r < 0 ? r : HK_HOST_CALL(unlinkat(removal->top, name, AT_REMOVEDIR));
}

int hk_ov_remove_tree(int dir)
{
	autoclose int top = open_dir(dir, ".");
	autofree char *buf = hk_malloc(LISTED);
	struct removal removal = {.top = top, .buf = buf};
	char found[NAME_MAX + 1];
	int r = top < 0 ? top : buf == NULL ? -ENOMEM : 1;

	while (r > 0) {
		r = HK_HOST_CALL(lseek(top, 0, SEEK_SET)) < 0
			? -EIO
			: remove_entries(&removal, top, found);
		if (r > 0) {
			r = empty_dir(&removal, found);
			r = r == 0 || r == -ENOTEMPTY || r == -EEXIST ? 1 : r;
		}
	}
	return r;
}

int hk_apply_remove_at(int dir, const char *name)
{
	int r = HK_HOST_CALL(unlinkat(dir, name, 0));

	if (r == -EISDIR) {
		autoclose int fd = open_dir(dir, name);

		r = fd < 0 ? fd : hk_ov_remove_tree(fd);
		if (r == 0) {
			r = HK_HOST_CALL(unlinkat(dir, name, AT_REMOVEDIR));
		}
	}
	return r;
}

int hk_layer_empty(int dir)
{
	return hk_ov_remove_tree(dir);
}
