/* SPDX-License-Identifier: ISC */
/*
 * Packages through apt.
 *
 * Theory: `apt-cache show` tells which package a meta package depends on, `apt-get download` gets
 * it and checks its hash against the signed lists. Neither needs root. As root apt would drop to
 * the user _apt, who may not write to our directory, and warn about it: the sandbox is set to root.
 * What apt says is kept, and shown only as the reason of a failure. Its status descriptor tells how
 * far a download is.
 *
 * Limits: the lists are taken as they are; we do not run `apt-get update`, which needs root.
 */
#include "kernel/apt.h"

#include <dirent.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/str.h"
#include "base/util.h"
#include "kernel/child.h"

static void cleanup_child(struct hk_child *child)
{
	hk_child_finish(child);
}

#define autochild HK_CLEANUP(cleanup_child)

/* Copies the characters of @set that stand at @text. Return: how many, 0 if too many. */
static size_t copy_word(const char *text, const char *set, char *out, size_t out_size)
{
	size_t n = strspn(text, set);

	if (n >= out_size) {
		return 0;
	}
	memcpy(out, text, n);
	out[n] = '\0';
	return n;
}

#define LOWER_DIGITS "abcdefghijklmnopqrstuvwxyz0123456789"

/* Source: Debian Policy, "Package" and "Version". */
int hk_apt_parse_depends(const char *text, struct hk_apt_package *ret_package)
{
	static const char field[] = "Depends: ";
	static const char name_set[] = LOWER_DIGITS "+-.";
	static const char version_set[] = LOWER_DIGITS "ABCDEFGHIJKLMNOPQRSTUVWXYZ+-.:~";
	struct hk_apt_package package;
	const char *line = text;
	const char *end;

	while (strncmp(line, field, sizeof(field) - 1) != 0) {
		line = strchr(line, '\n');
		if (line == NULL) {
			return -EBADMSG;
		}
		line++;
	}
	end = strchrnul(line, '\n');
	for (line += sizeof(field) - 1; line < end; line += strspn(line, ", ")) {
		size_t n = copy_word(line, name_set, package.name, sizeof(package.name));

		if (n > 0 && strncmp(package.name, "linux-image-", 12) == 0 &&
			strncmp(line + n, " (= ", 4) == 0) {
			const char *version = line + n + 4;

			n = copy_word(
				version, version_set, package.version, sizeof(package.version));
			if (n > 0 && version[n] == ')') {
				*ret_package = package;
				return 0;
			}
		}
		line += strcspn(line, ",\n");
	}
	return -EBADMSG;
}

/* Records a failure of apt with the last thing it complained of. */
static int fail_apt(struct hk_err *err, int code, const struct hk_child *child, const char *what)
{
	const char *text = hk_str_text(&child->complaints);
	const char *reason = NULL;
	char shown[300];

	for (const char *line = text; line != NULL; line = strchr(line, '\n')) {
		line += *line == '\n';
		if (strncmp(line, "E: ", 3) == 0) {
			reason = line + 3;
		}
	}
	if (reason == NULL) {
		return hk_fail_msg(err, code, "%s: '%s' failed with exit status %d", what,
			child->argv[0], child->exit_status);
	}
	hk_str_escape(shown, sizeof(shown), reason, strcspn(reason, "\n"));
	return hk_fail_msg(err, code, "%s: apt: %s", what, shown);
}

static int run_apt(struct hk_child *child, struct hk_err *err)
{
	int r = hk_child_run(child, err);

	if (r == -ENOENT) {
		hk_err_hint(err,
			"this host has no apt: take a kernel with "
			"'hako kernel fetch --from-host' or '--kernel FILE'");
	}
	return r;
}

int hk_apt_resolve(const char *meta, struct hk_apt_package *ret_package, struct hk_err *err)
{
	const char *argv[] = {"apt-cache", "show", "--no-all-versions", meta, NULL};
	autochild struct hk_child child = {.argv = argv};
	int r = run_apt(&child, err);

	if (r < 0) {
		return r;
	}
	if (child.exit_status != 0 || child.out.len == 0) {
		hk_fail_msg(err, ENOENT, "apt's lists have no package '%s'", meta);
		hk_err_hint(err,
			"run 'apt-get update' as root and try again, or take a kernel "
			"with 'hako kernel fetch --from-host'");
		return -ENOENT;
	}
	r = hk_apt_parse_depends(hk_str_text(&child.out), ret_package);
	if (r < 0) {
		return hk_fail_msg(
			err, -r, "cannot tell which kernel the package '%s' stands for", meta);
	}
	return 0;
}

/* A download being watched. */
struct download {
	struct hk_child child;
	struct hk_kernel_progress *progress;
	const char *what;
	int shown_percent;
};

/* "dlstatus:1:20.25:Retrieving file 1 of 1". Source: apt, doc/progress-reporting.md. */
static void show_status(struct hk_child *child, const char *line)
{
	struct download *download = hk_container_of(child, struct download, child);
	char digits[4];
	uint64_t percent;

	if (download->progress == NULL || strncmp(line, "dlstatus:", 9) != 0) {
		return;
	}
	line = strchr(line + 9, ':');
	if (line != NULL && copy_word(line + 1, "0123456789", digits, sizeof(digits)) > 0 &&
		hk_parse_uint(digits, 0, 100, &percent) == 0 &&
		(int)percent != download->shown_percent) {
		download->shown_percent = (int)percent;
		download->progress->step(download->progress, download->what, (int)percent);
	}
}

/* apt names the file with %3a for the version's colon, so it is found rather than computed. */
static int find_deb(const char *dir, char **ret_path)
{
	struct hk_str path = {0};
	int r = -ENOENT;
	struct dirent *entry;
	DIR *stream = opendir(dir);

	if (stream == NULL) {
		return -errno;
	}
	while (r == -ENOENT && (entry = readdir(stream)) != NULL) {
		const char *dot = strrchr(entry->d_name, '.');

		if (dot != NULL && strcmp(dot, ".deb") == 0) {
			hk_str_addf(&path, "%s/%s", dir, entry->d_name);
			r = hk_str_take(&path, ret_path);
		}
	}
	hk_str_finish(&path);
	closedir(stream);
	return r;
}

int hk_apt_download(const struct hk_apt_package *package, const char *dir,
	struct hk_kernel_progress *progress, char **ret_path, struct hk_err *err)
{
	char what[160];
	char wanted[260];
	const char *argv[] = {"apt-get", "download", "-q", "-o", "APT::Sandbox::User=root", "-o",
		"APT::Status-Fd=3", wanted, NULL};
	struct download download = {
		.child = {.argv = argv, .dir = dir, .status = show_status},
		.progress = progress,
		.what = what,
	};
	int r;

	hk_fmt(what, sizeof(what), "downloading %s", package->name);
	hk_fmt(wanted, sizeof(wanted), "%s=%s", package->name, package->version);
	if (progress != NULL) {
		progress->step(progress, what, 0);
	}
	r = run_apt(&download.child, err);
	if (r == 0 && download.child.exit_status != 0) {
		r = fail_apt(err, EIO, &download.child, what);
		hk_err_hint(err,
			"if the package is not found, apt's lists are old: run "
			"'apt-get update' as root and try again");
	}
	hk_child_finish(&download.child);
	if (r < 0) {
		return r;
	}
	r = find_deb(dir, ret_path);
	return r < 0 ? hk_fail(err, -r, "%s: the package", what) : 0;
}
