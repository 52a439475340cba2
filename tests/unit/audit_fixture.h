/* SPDX-License-Identifier: ISC */
/* What the tests of the audit share: an audit whose log is a file, and looks at what it says. */
#ifndef HK_TESTS_AUDIT_FIXTURE_H
#define HK_TESTS_AUDIT_FIXTURE_H

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <setjmp.h>
#include <cmocka.h>

#include "fuse/audit_impl.h"
#include "json_check.h"

#define HOME     "/home/anna"
#define CWD      "/home/anna/work"
#define START_NS UINT64_C(1795276645123456789) /* 2026-11-21T15:57:25.123456789Z */

struct fixture {
	struct hk_audit *audit;
	struct hk_rules *rules;
	int log; /* a file */
	char *text;
	size_t len;
};

static inline int log_file(void)
{
	FILE *file = tmpfile();
	int fd;

	assert_non_null(file);
	fd = dup(fileno(file));
	fclose(file);
	assert_true(fd >= 0);
	return fd;
}

static inline void start(struct fixture *f, const char *proc)
{
	struct hk_err err = HK_ERR_INIT;
	struct hk_audit_options options = {
		.log_fd = f->log,
		.rules = f->rules,
		.home = HOME "/",
		.cwd = CWD,
		.proc = proc,
	};

	assert_int_equal(hk_audit_create(&options, &f->audit, &err), 0);
}

static inline struct fixture begin(void)
{
	struct fixture f = {.log = log_file()};

	start(&f, "");
	return f;
}

static inline void tell(struct fixture *f, struct hk_audit_event event)
{
	event.time_ns = event.time_ns != 0 ? event.time_ns : START_NS;
	event.exact = true;
	hk_audit_event(f->audit, &event);
}

static inline void finish(struct fixture *f)
{
	struct hk_err err = HK_ERR_INIT;

	assert_int_equal(hk_audit_finish(f->audit, &err), 0);
	free(f->text);
	f->len = (size_t)lseek(f->log, 0, SEEK_END);
	f->text = malloc(f->len + 1);
	assert_non_null(f->text);
	assert_int_equal(pread(f->log, f->text, f->len, 0), f->len);
	f->text[f->len] = '\0';
}

static inline void end(struct fixture *f)
{
	hk_audit_free(f->audit);
	hk_rules_free(f->rules);
	free(f->text);
	close(f->log);
}

/*
 * Line @number of the log, from 0: "begin" is the first. It must be JSON. Good until the next call.
 */
static inline const char *line(const struct fixture *f, unsigned number)
{
	static char *copy;
	const char *at = f->text;

	while (number-- > 0) {
		at = strchr(at, '\n');
		assert_non_null(at);
		at++;
	}
	assert_non_null(strchr(at, '\n'));
	free(copy);
	copy = strndup(at, (size_t)(strchr(at, '\n') - at));
	assert_non_null(copy);
	assert_true(json_is_valid(copy, strlen(copy)));
	return copy;
}

static inline void assert_has(const char *text, const char *part)
{
	if (strstr(text, part) == NULL) {
		fail_msg("'%s' is not in '%s'", part, text);
	}
}

static inline void assert_has_not(const char *text, const char *part)
{
	if (strstr(text, part) != NULL) {
		fail_msg("'%s' is in '%s'", part, text);
	}
}

typedef int report_fn(struct hk_audit *audit, FILE *to, const char *command);

static inline char *report_of(
	struct hk_audit *audit, report_fn *report, const char *command, size_t *ret_len)
{
	/* The stream writes to them when it is closed. */
	static char *text;
	static size_t len;
	FILE *to = open_memstream(&text, &len);

	assert_non_null(to);
	assert_int_equal(report(audit, to, command), 0);
	fclose(to);
	if (ret_len != NULL) {
		*ret_len = len;
	}
	return text;
}

static inline const char *variable(struct hk_rules_env *env, const char *name)
{
	(void)env;
	return strcmp(name, "HOME") == 0 ? HOME : strcmp(name, "PWD") == 0 ? CWD : NULL;
}

static inline struct hk_rules *parse(const char *text)
{
	struct hk_rules_env env = {.variable = variable};
	struct hk_rules *rules;
	struct hk_err err = HK_ERR_INIT;

	if (hk_rules_parse("policy", text, &env, &rules, &err) != 0) {
		fail_msg("%s in:\n%s", hk_err_text(&err), text);
	}
	return rules;
}

#endif
