/* SPDX-License-Identifier: ISC */
/*
 * Events of any bytes: each line of the log is JSON, and so are both reports; the learnt policy is
 * one, and allows what was done; the summary has no control characters.
 *
 * An input is a list of records: operation, class, verdict, error, flags, one or two names of any
 * bytes.
 */
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "fuse/audit_impl.h"
#include "../unit/json_check.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { MAX_EVENTS = 64, HEAD = 6, MAX_NAME = 255 };

static void must(bool condition, const char *what, const char *text)
{
	if (!condition) {
		fprintf(stderr, "fuzz_audit: %s: %s\n", what, text);
		abort();
	}
}

/* The server has no names "." and "..". */
static void replace_dots(char *path)
{
	while (*(path += strspn(path, "/")) != '\0') {
		size_t len = strcspn(path, "/");

		if (len <= 2 && strspn(path, ".") == len) {
			path[0] = 'x';
		}
		path += len;
	}
}

/* Takes a path off the input: one byte of length, then bytes; there is no NUL in it. */
static void take_path(const uint8_t **data, size_t *size, char path[MAX_NAME + 2])
{
	size_t len = *size > 0 ? (*data)[0] : 0;

	*data += *size > 0;
	*size -= *size > 0;
	len = HK_MIN(len, *size);
	path[0] = '/';
	for (size_t i = 0; i < len; i++) {
		path[i + 1] = (*data)[i] != 0 ? (char)(*data)[i] : '/';
	}
	path[len + 1] = '\0';
	replace_dots(path);
	*data += len;
	*size -= len;
}

/** struct deed - what the learnt policy must allow; @class HK_CLASS_COUNT: nothing */
struct deed {
	enum hk_class class;
	char path[MAX_NAME + 2];
};

struct deeds {
	struct deed deed[MAX_EVENTS];
	unsigned count;
	bool refused; /* something was: then what is allowed is another question */
};

static enum hk_class class_of(enum hk_event_op op)
{
	static const uint8_t classes[] = {
		[HK_EVENT_LOOKUP] = HK_CLASS_COUNT,
		[HK_EVENT_OPEN] = HK_CLASS_COUNT,
		[HK_EVENT_CREATE] = HK_CLASS_CREATE,
		[HK_EVENT_MKDIR] = HK_CLASS_CREATE,
		[HK_EVENT_MKNOD] = HK_CLASS_CREATE,
		[HK_EVENT_SYMLINK] = HK_CLASS_CREATE,
		[HK_EVENT_LINK] = HK_CLASS_CREATE,
		[HK_EVENT_UNLINK] = HK_CLASS_DELETE,
		[HK_EVENT_RMDIR] = HK_CLASS_DELETE,
		[HK_EVENT_RENAME] = HK_CLASS_DELETE,
		[HK_EVENT_READLINK] = HK_CLASS_READ,
		[HK_EVENT_TRUNCATE] = HK_CLASS_WRITE,
		[HK_EVENT_CHMOD] = HK_CLASS_METADATA,
		[HK_EVENT_CHOWN] = HK_CLASS_METADATA,
		[HK_EVENT_UTIMES] = HK_CLASS_METADATA,
		[HK_EVENT_SETXATTR] = HK_CLASS_METADATA,
		[HK_EVENT_REMOVEXATTR] = HK_CLASS_METADATA,
		[HK_EVENT_LIST] = HK_CLASS_LIST,
		[HK_EVENT_EXEC] = HK_CLASS_EXEC,
		[HK_EVENT_CLOSE] = HK_CLASS_COUNT,
	};

	return (enum hk_class)classes[op];
}

static unsigned tell(struct hk_audit *audit, const uint8_t *data, size_t size, struct deeds *deeds)
{
	unsigned count = 0;
	char path[MAX_NAME + 2], other[MAX_NAME + 2];

	while (size >= HEAD && count < MAX_EVENTS) {
		struct hk_audit_event event = {
			.op = data[0] % HK_EVENT_COUNT,
			.class = data[1] % HK_CLASS_COUNT,
			.verdict = data[2] % HK_VERDICT_COUNT,
			.error = data[3] < 128 ? 0 : data[3] - 128,
			.flags = (uint32_t)data[4] << (data[5] % 24),
			.rule = data[5] % 4,
			.time_ns = (uint64_t)data[4] << (data[5] % 56),
			.bytes_read = data[4],
			.bytes_written = data[5],
			.path = path,
			.other = data[1] >= 128 ? other : NULL,
		};

		data += HEAD;
		size -= HEAD;
		take_path(&data, &size, path);
		take_path(&data, &size, other);
		hk_audit_event(audit, &event);
		deeds->deed[count].class = class_of(event.op);
		memcpy(deeds->deed[count].path, path, sizeof(path));
		deeds->refused |= hk_verdict_refuses(event.verdict, event.error);
		deeds->count = ++count;
	}
	return count;
}

static void check_log(int fd, unsigned count)
{
	off_t len = lseek(fd, 0, SEEK_END);
	char *text = malloc((size_t)len + 1);
	char *at = text;

	must(text != NULL && pread(fd, text, (size_t)len, 0) == len, "log", "read");
	text[len] = '\0';
	must(strlen(text) == (size_t)len, "log", "NUL");
	for (unsigned i = 0; i < count + 2; i++) {
		char *end = strchr(at, '\n');

		must(end != NULL, "a line is missing", at);
		*end = '\0';
		must(json_is_valid(at, (size_t)(end - at)), "no JSON", at);
		at = end + 1;
	}
	must(*at == '\0', "too many lines", at);
	free(text);
}

typedef int report_fn(struct hk_audit *audit, FILE *to, const char *command);

static char *report_of(struct hk_audit *audit, report_fn *report, const char *command)
{
	char *text = NULL;
	size_t len = 0;
	FILE *to = open_memstream(&text, &len);

	must(to != NULL && report(audit, to, command) == 0 && fclose(to) == 0, "report", command);
	must(strlen(text) == len, "report", "NUL");
	return text;
}

static void check_page(char *text)
{
	char *data = strstr(text, "id=\"data\">") + strlen("id=\"data\">");
	char *rest = strstr(data, "</script>");

	must(json_is_valid(data, (size_t)(rest - data)), "no JSON in the page", data);
	rest = strstr(rest + 1, "</script>");
	must(rest != NULL && strstr(rest + 1, "</script>") == NULL, "the page's scripts", data);
}

static hk_place place_of(struct hk_rules *rules, const char *path)
{
	hk_place place = hk_rules_root(rules);
	char name[MAX_NAME + 1];

	while (*(path += strspn(path, "/")) != '\0') {
		size_t len = strcspn(path, "/");

		memcpy(name, path, len);
		name[len] = '\0';
		place = hk_rules_step(rules, place, name);
		path += len;
	}
	return place;
}

static void check_policy(const char *text, const struct deeds *deeds)
{
	struct hk_rules_env env = {0};
	struct hk_rules *rules = NULL;
	struct hk_err err = HK_ERR_INIT;

	must(hk_rules_parse("learnt", text, &env, &rules, &err) == 0, hk_err_text(&err), text);
	for (unsigned i = 0; i < deeds->count && !deeds->refused; i++) {
		const struct deed *deed = &deeds->deed[i];
		enum hk_verdict verdict = HK_VERDICT_ALLOW;

		if (deed->class != HK_CLASS_COUNT) {
			verdict = hk_rules_at(rules, place_of(rules, deed->path), deed->class)
					  .verdict;
		}
		must(verdict == HK_VERDICT_ALLOW || verdict == HK_VERDICT_COW, deed->path, text);
	}
	hk_rules_free(rules);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static FILE *log;
	struct hk_audit_options options = {.proc = ""};
	static struct deeds deeds;
	struct hk_audit *audit;
	unsigned count;
	char *text;

	if (log == NULL) {
		log = tmpfile();
		must(log != NULL, "tmpfile", "");
	}
	options.log_fd = fileno(log);
	must(ftruncate(options.log_fd, 0) == 0 && lseek(options.log_fd, 0, SEEK_SET) == 0, "log",
		"");
	must(hk_audit_create(&options, &audit, NULL) == 0, "create", "");
	deeds.count = 0;
	deeds.refused = false;
	count = tell(audit, data, size, &deeds);
	must(hk_audit_finish(audit, NULL) == 0, "finish", "");
	check_log(options.log_fd, count);

	text = report_of(audit, hk_audit_report_json, "x");
	must(json_is_valid(text, strlen(text)), "no JSON", text);
	free(text);
	text = report_of(audit, hk_audit_report_html, "</script>");
	check_page(text);
	free(text);
	text = report_of(audit, hk_audit_learn, "a\nb");
	check_policy(text, &deeds);
	free(text);
	text = report_of(audit, hk_audit_summary, "\033[m");
	for (const char *p = text; *p != '\0'; p++) {
		must((uint8_t)*p >= ' ' || *p == '\n', "a control character", text);
	}
	free(text);
	hk_audit_free(audit);
	return 0;
}
