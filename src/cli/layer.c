/* SPDX-License-Identifier: ISC */
/*
 * `hako layers`: lists what copy-on-write runs have kept. And what the other verbs about layers
 * share.
 */
#include "cli/layer.h"

#include <dirent.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/str.h"
#include "base/util.h"
#include "cli/builtin.h"
#include "cli/layers.h"
#include "cli/opts.h"
#include "cli/report.h"
#include "fuse/layer.h"

int hk_cli_find_layer(const char *name, char **ret_path, struct hk_err *err)
{
	autofree char *dir = NULL;
	autofree char *path = NULL;
	int r = hk_layers_dir(&dir, err);

	if (r == 0) {
		r = hk_layers_named(dir, name, &path, err);
	}
	if (r < 0) {
		return r;
	}
	if (access(path, F_OK) < 0) {
		if (errno != ENOENT) {
			return hk_fail(err, errno, "layer '%s'", name);
		}
		hk_fail_msg(err, ENOENT, "there is no layer '%s'", name);
		hk_err_hint(err, "see hako layers");
		return -ENOENT;
	}
	*ret_path = take_ptr(path);
	return 0;
}

int hk_cli_open_layer(
	const char *name, struct hk_layer **ret_layer, char **ret_lower, struct hk_err *err)
{
	autofree char *path = NULL;
	autofree char *lower = NULL;
	int r = hk_cli_find_layer(name, &path, err);

	if (r == 0) {
		r = hk_layer_lower(path, &lower, err);
		if (r == -ENOENT) {
			hk_fail_msg(err, ENOENT, "layer '%s' is not whole: its run could not begin",
				name);
			hk_err_hint(err, "hako discard %s removes it", name);
		}
	}
	if (r == 0) {
		r = hk_layer_open(path, lower, ret_layer, err);
		if (r == -EBUSY) {
			/* A run that wants it is told to take another name. */
			hk_fail_msg(err, EBUSY, "layer '%s' is in use by a run", name);
			hk_err_hint(err, "wait for it");
		}
	}
	if (r == 0) {
		*ret_lower = take_ptr(lower);
	}
	return r;
}

/* Without what leads to @lower, and with single slashes. Return: NULL where it is elsewhere. */
static char *from_lower(const char *word, const char *lower)
{
	size_t len = strcmp(lower, "/") == 0 ? 0 : strlen(lower);
	char *path;
	char *to;

	if (word[0] == '/') {
		if (strncmp(word, lower, len) != 0 || (word[len] != '/' && word[len] != '\0')) {
			return NULL;
		}
		word += len;
	}
	path = hk_strdup(word);
	to = path;
	while (path != NULL && *word != '\0') {
		size_t n = strcspn(word, "/");

		if (n == 2 && word[0] == '.' && word[1] == '.') {
			free(path);
			return NULL;
		}
		if (n > 0 && !(n == 1 && word[0] == '.')) {
			if (to != path) {
				*to++ = '/';
			}
			memcpy(to, word, n);
			to += n;
		}
		word += n + (word[n] == '/');
	}
	if (path != NULL) {
		*to = '\0';
	}
	return path;
}

int hk_cli_layer_paths(char *const *words, const char *lower, char ***ret_paths, struct hk_err *err)
{
	size_t count = 0;
	char **paths;

	while (words[count] != NULL) {
		count++;
	}
	*ret_paths = NULL;
	if (count == 0) {
		return 0;
	}
	paths = hk_calloc(count + 1, sizeof(*paths));
	if (paths == NULL) {
		return hk_fail(err, ENOMEM, "paths");
	}
	for (size_t i = 0; i < count; i++) {
		paths[i] = from_lower(words[i], lower);
		if (paths[i] == NULL) {
			hk_cli_free_paths(paths);
			hk_fail_msg(
				err, EINVAL, "'%.200s' is not within '%.200s'", words[i], lower);
			hk_err_hint(err,
				strstr(words[i], "..") != NULL ? "give a path without '..', within "
								 "what the layer was made over"
							       : "the layer was made over that");
			return -EINVAL;
		}
	}
	*ret_paths = paths;
	return 0;
}

void hk_cli_free_paths(char **paths)
{
	for (size_t i = 0; paths != NULL && paths[i] != NULL; i++) {
		free(paths[i]);
	}
	free(paths);
}

int hk_cli_path_is_among(char *const *paths, const char *path)
{
	if (paths == NULL) {
		return 1;
	}
	for (; *paths != NULL; paths++) {
		size_t len = strlen(*paths);

		if (len == 0 ||
			(strncmp(*paths, path, len) == 0 &&
				(path[len] == '/' || path[len] == '\0'))) {
			return 1;
		}
	}
	return 0;
}

/* --- the verb --- */

enum { OPT_HELP };

static const struct hk_opt options[] = {
	[OPT_HELP] = {"help", 'h', NULL, "this"},
};

static void print_layer(const char *name)
{
	struct hk_err err = HK_ERR_INIT;
	autofree char *path = NULL;
	autofree char *lower = NULL;
	char shown[512];
	char shown_name[1024];
	char date[32] = "?";
	struct stat st;
	struct tm local;
	bool is_whole = hk_cli_find_layer(name, &path, &err) == 0 &&
		hk_layer_lower(path, &lower, &err) == 0;

	if (path != NULL && stat(path, &st) == 0 && localtime_r(&st.st_mtime, &local) != NULL) {
		strftime(date, sizeof(date), "%Y-%m-%d %H:%M", &local);
	}
	hk_str_escape(shown, sizeof(shown), is_whole ? lower : "", is_whole ? strlen(lower) : 0);
	hk_str_escape(shown_name, sizeof(shown_name), name, strlen(name));
	printf("%-20s %s  %s\n", shown_name, date, is_whole ? shown : "(not whole)");
}

/* Those with a name: others go with their run. */
static int is_named(const struct dirent *entry)
{
	return entry->d_name[0] != '.' && strncmp(entry->d_name, "tmp.", 4) != 0;
}

static int list(struct hk_err *err)
{
	autofree char *dir = NULL;
	struct dirent **entries;
	int count;
	int r = hk_layers_dir(&dir, err);

	if (r < 0) {
		return r;
	}
	count = scandir(dir, &entries, is_named, alphasort);
	if (count < 0) {
		return hk_fail(err, errno, "'%s'", dir);
	}
	for (int i = 0; i < count; i++) {
		print_layer(entries[i]->d_name);
		free(entries[i]);
	}
	free(entries);
	return 0;
}

int hk_cmd_layers(char **argv)
{
	struct hk_err err = HK_ERR_INIT;
	struct hk_opts opts;
	const char *value;
	int r;

	hk_opts_init(&opts, "layers", options, HK_ARRAY_SIZE(options), argv);
	r = hk_opts_next(&opts, &value, &err);
	if (r == OPT_HELP) {
		puts("usage: hako layers\n\nLists the layers that copy-on-write runs have kept: "
		     "name, "
		     "date, and what each was made over.");
		return HK_STATUS_OK;
	}
	if (r != HK_OPTS_END) {
		return hk_report_err("layers", &err, HK_STATUS_USAGE);
	}
	if (argv[opts.next] != NULL) {
		hk_report("layers", "too many words; see hako layers --help");
		return HK_STATUS_USAGE;
	}
	r = list(&err);
	return r < 0 ? hk_report_err("layers", &err, HK_STATUS_FAILURE) : HK_STATUS_OK;
}
