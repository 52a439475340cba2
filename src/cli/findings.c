/* SPDX-License-Identifier: ISC */
/* What an audit found: see findings.h. */
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

int hk_output_open(const char *option, const char *path, bool keep, int *ret_fd, char **ret_real,
	struct hk_err *err)
{
	int flags = O_WRONLY | O_CREAT | O_NOCTTY | (keep ? 0 : O_TRUNC);
	autoclose int fd = is_stderr(path) ? dup_stderr() : hk_open(AT_FDCWD, path, flags, 0666);
	struct stat st;

	if (fd < 0) {
		return hk_fail(err, -fd, "%s '%s'", option, path);
	}
	*ret_real = NULL;
	if (!is_stderr(path) && fstat(fd, &st) == 0 && S_ISREG(st.st_mode)) {
		*ret_real = realpath(path, NULL);
	}
	*ret_fd = take_fd(&fd);
	return 0;
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

/* Takes @fd over, which may be -1. */
static FILE *open_file(const char *path, int fd)
{
	FILE *file;

	if (strcmp(path, "-") == 0) {
		return stderr;
	}
	if (fd < 0) {
		return fopen(path, "we");
	}
	/* seccomp: ftruncate */
	if (ftruncate(fd, 0) < 0 && errno != EINVAL) { /* a pipe, a terminal */
		close(fd);
		return NULL;
	}
	file = fdopen(fd, "w");
	if (file == NULL) {
		close(fd);
	}
	return file;
}

static bool write_to(const struct hk_findings *findings, const char *path, int *fd,
	report_fn *write, struct hk_audit *audit)
{
	FILE *file = open_file(path, fd == NULL ? -1 : take_fd(fd));
	struct hk_str command = {0};
	int r = -errno;

	if (file != NULL) {
		join(&command, findings->argv);
		r = write(audit, file, hk_str_text(&command));
		hk_str_finish(&command);
	}
	if (file != NULL && (file == stderr ? fflush(file) : fclose(file)) != 0 && r == 0) {
		r = -errno;
	}
	if (r < 0) {
		hk_report(findings->verb, "'%s': %s", path, strerror(-r));
	}
	return r == 0;
}

bool hk_findings_tell(struct hk_findings *findings, struct hk_audit *audit)
{
	bool good = true;

	if (audit == NULL) {
		return true;
	}
	if (findings->summary == HK_SUMMARY_ALWAYS ||
		(findings->summary == HK_SUMMARY_IF_DENIED && hk_audit_violations(audit) > 0)) {
		good &= write_to(findings, "-", NULL, hk_audit_summary, audit);
	}
	if (findings->report != NULL) {
		good &= write_to(findings, findings->report, &findings->report_fd,
			report_for(findings->report), audit);
	}
	if (findings->learn != NULL) {
		good &= write_to(
			findings, findings->learn, &findings->learn_fd, hk_audit_learn, audit);
	}
	return good;
}

void hk_findings_finish(struct hk_findings *findings)
{
	hk_close(&findings->report_fd);
	hk_close(&findings->learn_fd);
}
