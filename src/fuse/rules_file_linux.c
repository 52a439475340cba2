/* SPDX-License-Identifier: ISC */
/* Rules from files: see rules_file_linux.h. */
#include "fuse/rules_file_linux.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/str.h"
#include "base/sys.h"
#include "base/util.h"

enum { MAX_POLICY_BYTES = 64 << 20 };

struct file_env {
	struct hk_rules_env env;
	const struct hk_rules_user *user;
	struct hk_rules_files *files;
	char *home; /* owned: behind links */
	char uid[16];
};

/* As far as @path exists, where it leads; what does not is as it is written. */
static char *resolve(struct hk_rules_env *env, const char *path)
{
	autofree char *lead = hk_strdup(path);
	char *real = NULL;
	struct hk_str whole = {0};
	size_t len = strlen(path);
	char *result = NULL;

	(void)env;
	while (lead != NULL && len > 0 && (real = realpath(lead, NULL)) == NULL) {
		while (len > 0 && lead[--len] != '/') {
		}
		lead[len] = '\0';
	}
	if (real == NULL) {
		return NULL;
	}
	hk_str_addf(&whole, "%s%s", strcmp(real, "/") == 0 && path[len] != '\0' ? "" : real,
		path + len);
	free(real);
	(void)hk_str_take(&whole, &result);
	hk_str_finish(&whole);
	return result;
}

static const char *variable(struct hk_rules_env *env, const char *name)
{
	const struct file_env *file = hk_container_of(env, struct file_env, env);

	if (strcmp(name, "HOME") == 0 && (file->home != NULL || file->user->home != NULL)) {
		return file->home != NULL ? file->home : file->user->home;
	}
	if (strcmp(name, "PWD") == 0 && file->user->pwd != NULL) {
		return file->user->pwd;
	}
	return strcmp(name, "UID") == 0 ? file->uid : getenv(name);
}

/* Takes @path over, which may be NULL. */
static int add_file(struct hk_rules_files *files, char *path)
{
	char **paths = path == NULL
		? NULL
		: hk_realloc_array(files->paths, files->count + 1, sizeof(*paths));

	if (paths == NULL) {
		free(path);
		return -ENOMEM;
	}
	files->paths = paths;
	paths[files->count++] = path;
	return 0;
}

/* The name itself, with the directory behind links. */
static char *name_of_link(const char *path)
{
	const char *slash = strrchr(path, '/');
	autofree char *dir = slash == NULL ? hk_strdup(".") : hk_strdup(path);
	autofree char *real = NULL;
	struct hk_str whole = {0};
	char *result = NULL;

	if (dir == NULL) {
		return NULL;
	}
	if (slash != NULL) {
		dir[slash - path + 1] = '\0';
	}
	real = realpath(dir, NULL);
	if (real != NULL) {
		hk_str_addf(&whole, "%s/%s", strcmp(real, "/") == 0 ? "" : real,
			slash == NULL ? path : slash + 1);
		(void)hk_str_take(&whole, &result);
		hk_str_finish(&whole);
	}
	return result;
}

static int note_file(struct hk_rules_files *files, const char *path)
{
	struct stat st;
	int r;

	if (stat(path, &st) < 0 || !S_ISREG(st.st_mode)) {
		return 0;
	}
	r = add_file(files, realpath(path, NULL));
	if (r == 0 && lstat(path, &st) == 0 && S_ISLNK(st.st_mode)) {
		r = add_file(files, name_of_link(path));
	}
	return r;
}

void hk_rules_files_finish(struct hk_rules_files *files)
{
	for (size_t i = 0; i < files->count; i++) {
		free(files->paths[i]);
	}
	free(files->paths);
	*files = (struct hk_rules_files){0};
}

static bool is_pipe(const char *path)
{
	struct stat st;

	return stat(path, &st) == 0 && S_ISFIFO(st.st_mode);
}

/*
 * Text, NUL-terminated. What should have written to a pipe may have failed: that is no policy that
 * allows all.
 */
static char *read_text(const char *path, struct hk_rules_files *files, struct hk_err *err)
{
	void *data = NULL;
	size_t len;

	if (hk_read_file(path, MAX_POLICY_BYTES, &data, &len, err) < 0) {
		return NULL;
	}
	if (len == 0 && is_pipe(path)) {
		hk_fail_msg(err, EINVAL, "'%s': nothing was written to this pipe", path);
		hk_err_hint(err, "see to what should have; a policy without rules is /dev/null");
		free(data);
		return NULL;
	}
	if (memchr(data, '\0', len) != NULL) {
		hk_fail_msg(err, EINVAL, "'%s': not a text file", path);
		free(data);
		return NULL;
	}
	if (note_file(files, path) < 0) {
		hk_fail(err, ENOMEM, "'%s'", path);
		free(data);
		return NULL;
	}
	return data;
}

/* Seen from the directory of the file that includes it. */
static char *include(struct hk_rules_env *env, const char *from, const char *path, char **ret_name,
	struct hk_err *err)
{
	const struct file_env *own = hk_container_of(env, struct file_env, env);
	const char *slash = from == NULL ? NULL : strrchr(from, '/');
	autofree char *file = NULL;
	struct hk_str name = {0};
	char *text;

	if (path[0] != '/' && slash != NULL) {
		hk_str_add_bytes(&name, from, (size_t)(slash - from) + 1);
	}
	hk_str_add(&name, path);
	if (hk_str_take(&name, &file) < 0) {
		hk_str_finish(&name);
		hk_fail(err, ENOMEM, "'%s'", path);
		return NULL;
	}
	text = read_text(file, own->files, err);
	if (text != NULL) {
		/* By way of ".." a file would have ever longer names, and never be known again. */
		char *real = strstr(path, "..") != NULL ? realpath(file, NULL) : NULL;

		*ret_name = real != NULL ? real : take_ptr(file);
	}
	return text;
}

int hk_rules_load(const char *path, const struct hk_rules_user *user, struct hk_rules_files *files,
	struct hk_rules **ret_rules, struct hk_err *err)
{
	struct file_env file = {
		.env = {.variable = variable, .include = include}, .user = user, .files = files};
	autofree char *text = NULL;
	const char *home = user->home != NULL ? user->home : getenv("HOME");
	int r;

	if (path == NULL) {
		*ret_rules = hk_rules_new();
		return *ret_rules == NULL ? hk_fail(err, ENOMEM, "policy") : 0;
	}
	hk_fmt(file.uid, sizeof(file.uid), "%u", user->uid);
	text = read_text(path, files, err);
	if (text == NULL) {
		hk_err_ctx(err, "--policy");
		return hk_err_hint(err, "name a file of rules, see hako-policy(5)");
	}
	if (!user->elsewhere) {
		file.env.resolve = resolve;
		file.home = home != NULL && home[0] == '/' ? resolve(&file.env, home) : NULL;
	}
	r = hk_rules_parse(path, text, &file.env, ret_rules, err);
	free(file.home);
	return r;
}

int hk_rules_load_fusebox(const char *path, struct hk_rules_files *files,
	struct hk_rules **ret_rules, struct hk_err *err)
{
	autofree char *text = read_text(path, files, err);

	if (text == NULL) {
		hk_err_ctx(err, "--fusebox-acl");
		return hk_err_hint(err, "name a file of Fusebox's commands, see hako-policy(5)");
	}
	return hk_rules_parse_fusebox(path, text, ret_rules, err);
}

int hk_rules_hide(struct hk_rules *rules, const char *path)
{
	int r = hk_rules_add(rules, HK_VERDICT_HIDE, HK_CLASSES_ALL, path, true);

	if (r == 0) {
		hk_rules_make_quiet(rules);
	}
	return r;
}

int hk_rules_keep(struct hk_rules *rules, const char *path)
{
	return hk_rules_add(rules, HK_VERDICT_DENY, HK_CLASSES_CHANGING, path, false);
}

bool hk_rules_is_cow(struct hk_rules *rules, const char *path)
{
	hk_place place = hk_rules_root(rules);
	char name[NAME_MAX + 1];

	for (path += strspn(path, "/"); *path != '\0'; path += strspn(path, "/")) {
		size_t len = strcspn(path, "/");

		if (len >= sizeof(name)) {
			return true;
		}
		memcpy(name, path, len);
		name[len] = '\0';
		place = hk_rules_step(rules, place, name);
		path += len;
	}
	return hk_rules_at(rules, place, HK_CLASS_WRITE).verdict == HK_VERDICT_COW;
}
