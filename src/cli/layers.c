/* SPDX-License-Identifier: ISC */
/*
 * Where layers are kept: see layers.h.
 *
 * Theory: a run holds an flock(2) on its layer's directory (fuse/overlay_linux.c). A temporary one
 * that nobody holds is what a killed run left behind.
 */
#include "cli/layers.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/str.h"
#include "base/sys.h"
#include "fuse/layer.h"

#define TEMPORARY "tmp."

enum { NEW_SECONDS = 10 };

int hk_layers_dir(char **ret_path, struct hk_err *err)
{
	const char *data = getenv("XDG_DATA_HOME");
	const char *home = getenv("HOME");
	autofree char *path = NULL;
	struct hk_str text = {0};
	int r;

	/* A relative one is to be ignored, says its specification. */
	if (data != NULL && data[0] == '/') {
		hk_str_addf(&text, "%s/hako/layers", data);
	} else if (home != NULL && home[0] == '/') {
		hk_str_addf(&text, "%s/.local/share/hako/layers", home);
	} else {
		hk_fail_msg(err, ENOENT,
			"there is no place for layers: neither XDG_DATA_HOME nor HOME is set");
		return -ENOENT;
	}
	r = hk_str_take(&text, &path);
	hk_str_finish(&text);
	if (r < 0) {
		return hk_fail(err, -r, "layers");
	}
	r = hk_mkdir_p(path, 0700, err);
	if (r < 0) {
		if (r == -ENOENT) {
			/* All around it could be made. */
			hk_fail_msg(err, ENOENT,
				"'%s' is hidden here, as it is from all that hako runs", path);
		}
		hk_err_hint(err, "name another place with XDG_DATA_HOME");
		return r;
	}
	*ret_path = realpath(path, NULL);
	return *ret_path == NULL ? hk_fail(err, errno, "'%s'", path) : 0;
}

static int add(const char *dir, const char *name, char **ret_path, struct hk_err *err)
{
	struct hk_str text = {0};
	int r;

	hk_str_addf(&text, "%s/%s", dir, name);
	r = hk_str_take(&text, ret_path);
	hk_str_finish(&text);
	return r < 0 ? hk_fail(err, -r, "layer '%s'", name) : 0;
}

int hk_layers_named(const char *dir, const char *name, char **ret_path, struct hk_err *err)
{
	if (name[0] == '\0' || name[0] == '.' || strchr(name, '/') != NULL || strlen(name) > 200 ||
		strncmp(name, TEMPORARY, strlen(TEMPORARY)) == 0) {
		hk_fail_msg(err, EINVAL, "'%s' cannot name a layer", name);
		hk_err_hint(err,
			"a name has no slash and begins neither with a dot nor with " TEMPORARY);
		return -EINVAL;
	}
	return add(dir, name, ret_path, err);
}

/* The layer at @path, if no run has it. One that was just made may not be locked yet. */
static void remove_abandoned(const char *path)
{
	autoclose int fd = hk_open(AT_FDCWD, path, O_RDONLY | O_DIRECTORY, 0);
	struct hk_err err = HK_ERR_INIT;
	struct stat st;

	if (fd >= 0 && fstat(fd, &st) == 0 && time(NULL) - st.st_mtime > NEW_SECONDS &&
		flock(fd, LOCK_EX | LOCK_NB) == 0) {
		hk_layers_remove(path, &err);
	}
}

static void sweep(const char *dir)
{
	DIR *stream = opendir(dir);
	const struct dirent *entry;

	while (stream != NULL && (entry = readdir(stream)) != NULL) {
		autofree char *path = NULL;

		if (strncmp(entry->d_name, TEMPORARY, strlen(TEMPORARY)) == 0 &&
			add(dir, entry->d_name, &path, NULL) == 0) {
			remove_abandoned(path);
		}
	}
	if (stream != NULL) {
		closedir(stream);
	}
}

/* A new one without a name; those of runs that were killed go. */
static int make_temporary(const char *dir, char **ret_path, struct hk_err *err)
{
	int r;

	sweep(dir);
	r = add(dir, TEMPORARY "XXXXXX", ret_path, err);
	if (r == 0 && mkdtemp(*ret_path) == NULL) {
		r = hk_fail(err, errno, "'%s'", *ret_path);
		free(*ret_path);
		*ret_path = NULL;
	}
	return r;
}

int hk_layers_make(const char *dir, const char *name, char **ret_path, struct hk_err *err)
{
	int r;

	if (name == NULL) {
		return make_temporary(dir, ret_path, err);
	}
	/* What there is may be called so; it would read as an option. */
	if (name[0] == '-') {
		hk_fail_msg(err, EINVAL, "'%s' cannot name a layer", name);
		return hk_err_hint(err, "a name does not begin with a dash");
	}
	r = hk_layers_named(dir, name, ret_path, err);
	return r == 0 ? hk_mkdir_p(*ret_path, 0700, err) : r;
}

int hk_layers_remove(const char *path, struct hk_err *err)
{
	autoclose int fd = hk_open(AT_FDCWD, path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW, 0);
	int r = fd < 0 ? fd : hk_layer_empty(fd);

	if (r == 0 && rmdir(path) < 0) {
		r = -errno;
	}
	return r < 0 ? hk_fail(err, -r, "'%s': remove", path) : 0;
}
