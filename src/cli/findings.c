/* SPDX-License-Identifier: ISC */
/*
 * What an audit found: see findings.h.
 *
 * Theory: files are opened before the command runs, and hidden from it. Else it could put a link in
 * the place of one, and have what only the caller may write to overwritten, or a pipe that nobody
 * reads. They are hidden by their paths, so a file with further names (hard links, which an earlier
 * run may have made) will not do: by those it could be rewritten.
 */
#include "cli/findings.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/str.h"
#include "base/sys.h"
#include "base/util.h"
#include "cli/report.h"

static bool is_stderr(const char *path)
{
	return strcmp(path, "-") == 0;
}

static int dup_stderr(void)
{
	int fd = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, STDERR_FILENO + 1);

	return fd < 0 ? -errno : fd;
}

static int fail_output(const char *option, const char *path, int error, struct hk_err *err)
{
	hk_fail(err, error, "%s '%s'", option, path);
	return hk_err_hint(err, "name a file, new or your own, or - for standard error");
}

static int check_output(
	const char *option, const char *path, const struct stat *st, struct hk_err *err)
{
	if (st->st_nlink <= 1) {
		return 0;
	}
	hk_fail_msg(err, EINVAL,
		"%s '%s': the file has other names (hard links), by which it could be rewritten",
		option, path);
	return hk_err_hint(err, "remove this name or those, or name another file");
}

static int open_output(
	const char *option, const char *path, int *ret_fd, char **ret_real, struct hk_err *err)
{
	autoclose int fd = is_stderr(path)
		? dup_stderr()
		: hk_open(AT_FDCWD, path, O_WRONLY | O_CREAT | O_NOCTTY, 0666);
	struct stat st;

	if (fd < 0) {
		return fail_output(option, path, -fd, err);
	}
	if (!is_stderr(path) && fstat(fd, &st) == 0 && S_ISREG(st.st_mode)) {
		int r = check_output(option, path, &st, err);

		if (r < 0) {
			return r;
		}
		*ret_real = realpath(path, NULL);
		if (*ret_real == NULL) {
			return fail_output(option, path, errno, err);
		}
	}
	*ret_fd = take_fd(&fd);
	return 0;
}

/*
 * @names: of the policy and the files, NULL: not given. @files: regular ones; others have no
 * device.
 */
static int check_apart(
	const char *const *names, const struct stat *files, size_t count, struct hk_err *err)
{
	for (size_t i = 0; i < count; i++) {
		for (size_t j = i + 1; j < count; j++) {
			if (files[i].st_nlink > 0 && files[i].st_dev == files[j].st_dev &&
				files[i].st_ino == files[j].st_ino) {
				hk_fail_msg(
					err, EINVAL, "%s and %s are one file", names[i], names[j]);
				hk_err_hint(err, "give each a file of its own");
				return -EINVAL;
			}
		}
	}
	return 0;
}

int hk_findings_open(struct hk_findings *findings, const char *policy, struct hk_err *err)
{
	static const char *const names[] = {"--policy", "--log", "--report", "--learn"};
	const char *paths[] = {
		findings->options->log, findings->options->report, findings->options->learn};
	int *fds[] = {&findings->log_fd, &findings->report_fd, &findings->learn_fd};
	struct stat files[HK_FINDINGS_FILES + 1] = {0};
	int r = 0;

	for (size_t i = 0; r == 0 && i < HK_FINDINGS_FILES; i++) {
		if (paths[i] != NULL) {
			r = open_output(names[i + 1], paths[i], fds[i], &findings->real[i], err);
		}
		if (r == 0 && findings->real[i] != NULL && fstat(*fds[i], &files[i + 1]) < 0) {
			r = hk_fail(err, errno, "%s '%s'", names[i + 1], paths[i]);
		}
	}
	if (policy != NULL && (stat(policy, &files[0]) < 0 || !S_ISREG(files[0].st_mode))) {
		files[0] = (struct stat){0}; /* what is wrong with it is said when it is read */
	}
	return r == 0 ? check_apart(names, files, HK_ARRAY_SIZE(files), err) : r;
}

void hk_findings_hide(const struct hk_findings *findings, const char **hidden, unsigned *count)
{
	for (size_t i = 0; i < HK_FINDINGS_FILES; i++) {
		if (findings->real[i] != NULL) {
			hidden[(*count)++] = findings->real[i];
		}
	}
}

int hk_findings_begin(const struct hk_findings *findings, struct hk_err *err)
{
	return findings->real[0] != NULL && ftruncate(findings->log_fd, 0) < 0
		? hk_fail(err, errno, "--log '%s'", findings->options->log)
		: 0;
}

static void join(struct hk_str *text, char *const *argv)
{
	for (size_t i = 0; argv[i] != NULL; i++) {
		hk_str_add(text, i > 0 ? " " : "");
		hk_str_add(text, argv[i]);
	}
}

typedef int report_fn(struct hk_audit *audit, FILE *to, const char *command);

static report_fn *report_for(const char *path)
{
	if (hk_str_ends_with(path, ".html") || hk_str_ends_with(path, ".htm")) {
		return hk_audit_report_html;
	}
	return hk_str_ends_with(path, ".json") ? hk_audit_report_json : hk_audit_summary;
}

/* Takes @fd over. Return: 0 or -errno */
static int open_file(int fd, FILE **ret_file)
{
	FILE *file = NULL;
	int r = 0;

	/* seccomp: ftruncate */
	if (ftruncate(fd, 0) < 0 && errno != EINVAL) { /* EINVAL: a pipe, a terminal */
		r = -errno;
	} else if ((file = fdopen(fd, "w")) == NULL) {
		r = -errno;
	}
	if (r < 0) {
		close(fd);
		return r;
	}
	*ret_file = file;
	return 0;
}

static int write_report(
	const struct hk_findings *findings, FILE *to, report_fn *write, struct hk_audit *audit)
{
	struct hk_str command = {0};
	int r;

	join(&command, findings->argv);
	r = write(audit, to, hk_str_text(&command));
	hk_str_finish(&command);
	if (fflush(to) != 0 && r == 0) {
		r = -errno;
	}
	return r;
}

/*
 * To what @option says: @path, open as *@fd, which is taken over. Return: is it all there? If not,
 * it is said
 */
static bool write_output(const struct hk_findings *findings, const char *option, const char *path,
	int *fd, report_fn *write, struct hk_audit *audit)
{
	struct hk_err err = HK_ERR_INIT;
	FILE *file = NULL;
	int r;

	if (is_stderr(path)) {
		return write_report(findings, stderr, write, audit) ==
			0; /* where would it be said? */
	}
	r = open_file(take_fd(fd), &file);
	if (r == 0) {
		r = write_report(findings, file, write, audit);
	}
	if (file != NULL && fclose(file) != 0 && r == 0) {
		r = -errno;
	}
	if (r < 0) {
		hk_fail(&err, -r, "%s '%s': it is not complete", option, path);
		hk_err_hint(&err, "name a file where there is room");
		hk_report_err(findings->verb, &err, 0);
	}
	return r == 0;
}

bool hk_findings_tell(struct hk_findings *findings, struct hk_audit *audit)
{
	const struct hk_watch_options *options = findings->options;
	bool good = true;

	if (audit == NULL) {
		return true;
	}
	if (findings->summary == HK_SUMMARY_ALWAYS ||
		(findings->summary == HK_SUMMARY_IF_DENIED && hk_audit_violations(audit) > 0)) {
		good &= write_report(findings, stderr, hk_audit_summary, audit) == 0;
	}
	if (options->report != NULL) {
		good &= write_output(findings, "--report", options->report, &findings->report_fd,
			report_for(options->report), audit);
	}
	if (options->learn != NULL) {
		good &= write_output(findings, "--learn", options->learn, &findings->learn_fd,
			hk_audit_learn, audit);
	}
	return good;
}

void hk_findings_finish(struct hk_findings *findings)
{
	hk_close(&findings->log_fd);
	hk_close(&findings->report_fd);
	hk_close(&findings->learn_fd);
	for (size_t i = 0; i < HK_FINDINGS_FILES; i++) {
		free(findings->real[i]);
	}
}
