/* SPDX-License-Identifier: ISC */
/*
 * The policy of Gentoo's sandbox: see gentoo.h.
 *
 * Theory: a list becomes an array of prefixes, each as it was written and as its real path, since
 * the paths that are asked about have no symlinks left in them. An operation either reads or
 * writes: what a file is opened for decides, and everything that makes, removes or changes a name
 * or its attributes is a write. Looking at names and attributes is never judged.
 *
 * Limits: a file made by an open that only reads is a write here; Gentoo's has it as a read, and so
 * lets it pass.
 */
#include "trace/gentoo.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>

#include "base/alloc.h"
#include "base/util.h"
#include "fuse/audit.h"
#include "fuse/server.h"

/* Where the logs of interactive runs are. Nobody in a sandbox writes there. */
static const char log_prefix[] = "/var/log/sandbox";

const char hk_gentoo_log_head[] = "VERSION 1.0\n"
				  "FORMAT: F - Function called\n"
				  "FORMAT: S - Access Status\n"
				  "FORMAT: P - Path as passed to function\n"
				  "FORMAT: A - Absolute Path (not canonical)\n"
				  "FORMAT: R - Canonical Path\n"
				  "FORMAT: C - Command Line\n";

static const char *const names[HK_GENTOO_VARS] = {
	[HK_GENTOO_DENY] = "SANDBOX_DENY",
	[HK_GENTOO_READ] = "SANDBOX_READ",
	[HK_GENTOO_WRITE] = "SANDBOX_WRITE",
	[HK_GENTOO_PREDICT] = "SANDBOX_PREDICT",
	[HK_GENTOO_ON] = "SANDBOX_ON",
	[HK_GENTOO_VERBOSE] = "SANDBOX_VERBOSE",
	[HK_GENTOO_DEBUG] = "SANDBOX_DEBUG",
};

const char *hk_gentoo_var_name(enum hk_gentoo_var var)
{
	return names[var];
}

enum hk_gentoo_var hk_gentoo_var_find(const char *name, size_t len)
{
	size_t var = 0;

	while (var < HK_GENTOO_VARS &&
		(strncmp(names[var], name, len) != 0 || names[var][len] != '\0')) {
		var++;
	}
	return (enum hk_gentoo_var)var;
}

bool hk_gentoo_is_on(const char *value)
{
	static const char *const words[] = {"1", "yes", "true", "on"};

	for (size_t i = 0; value != NULL && i < HK_ARRAY_SIZE(words); i++) {
		if (strcasecmp(value, words[i]) == 0) {
			return true;
		}
	}
	return false;
}

/* Prefixes */

static void free_prefixes(struct hk_gentoo_prefix *prefixes, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		free(prefixes[i].path);
	}
	free(prefixes);
}

/* @path becomes the array's. */
static int add_prefix(struct hk_gentoo_prefix **prefixes, size_t *count, char *path)
{
	struct hk_gentoo_prefix *more = hk_realloc_array(*prefixes, *count + 1, sizeof(*more));

	if (more == NULL) {
		free(path);
		return -ENOMEM;
	}
	more[*count] = (struct hk_gentoo_prefix){.path = path, .len = strlen(path)};
	*prefixes = more;
	(*count)++;
	return 0;
}

/* One entry of a list, as it is, and where it really is. */
static int add_entry(struct hk_gentoo_prefix **prefixes, size_t *count, const char *entry,
	struct hk_gentoo_env *env)
{
	char *path = hk_strdup(entry);
	char *real;
	int r = path == NULL ? -ENOMEM : add_prefix(prefixes, count, path);

	if (r < 0) {
		return r;
	}
	real = env->real(env, entry);
	if (real != NULL && strcmp(real, entry) != 0) {
		return add_prefix(prefixes, count, real);
	}
	free(real);
	return 0;
}

static int compile(const char *list, struct hk_gentoo_env *env,
	struct hk_gentoo_prefix **ret_prefixes, size_t *ret_count)
{
	struct hk_gentoo_prefix *prefixes = NULL;
	size_t count = 0;
	char *text = hk_strdup(list);
	char *rest = text;
	char *entry;
	int r = text == NULL ? -ENOMEM : 0;

	while (r == 0 && (entry = strsep(&rest, ":")) != NULL) {
		r = *entry == '\0' ? 0 : add_entry(&prefixes, &count, entry, env);
	}
	free(text);
	if (r < 0) {
		free_prefixes(prefixes, count);
		return r;
	}
	*ret_prefixes = prefixes;
	*ret_count = count;
	return 0;
}

int hk_gentoo_set(struct hk_gentoo_policy *policy, enum hk_gentoo_var var, const char *value,
	struct hk_gentoo_env *env)
{
	struct hk_gentoo_prefix *prefixes = NULL;
	size_t count = 0;
	char *text = value == NULL ? NULL : hk_strdup(value);

	if (value != NULL && text == NULL) {
		return -ENOMEM;
	}
	if (var < HK_GENTOO_LISTS && value != NULL && compile(value, env, &prefixes, &count) < 0) {
		free(text);
		return -ENOMEM;
	}
	if (var < HK_GENTOO_LISTS) {
		free_prefixes(policy->prefixes[var], policy->counts[var]);
		policy->prefixes[var] = prefixes;
		policy->counts[var] = count;
	}
	free(policy->text[var]);
	policy->text[var] = text;
	policy->on = hk_gentoo_is_on(policy->text[HK_GENTOO_ON]);
	policy->verbose = hk_gentoo_is_on(policy->text[HK_GENTOO_VERBOSE]);
	policy->debug = hk_gentoo_is_on(policy->text[HK_GENTOO_DEBUG]);
	return 0;
}

void hk_gentoo_finish(struct hk_gentoo_policy *policy)
{
	for (unsigned var = 0; var < HK_GENTOO_VARS; var++) {
		free(policy->text[var]);
	}
	for (unsigned var = 0; var < HK_GENTOO_LISTS; var++) {
		free_prefixes(policy->prefixes[var], policy->counts[var]);
	}
	*policy = (struct hk_gentoo_policy){0};
}

/* Not in the middle of a name, unless the prefix itself ends with a slash. */
static bool is_below(const struct hk_gentoo_prefix *prefix, const char *path)
{
	return strncmp(path, prefix->path, prefix->len) == 0 &&
		(prefix->path[prefix->len - 1] == '/' || path[prefix->len] == '/' ||
			path[prefix->len] == '\0');
}

static bool matches(
	const struct hk_gentoo_policy *policy, enum hk_gentoo_var list, const char *path)
{
	for (size_t i = 0; i < policy->counts[list]; i++) {
		if (is_below(&policy->prefixes[list][i], path)) {
			return true;
		}
	}
	return false;
}

/* Judging */

static bool opens_to_write(const struct hk_fuse_question *question)
{
	return (question->flags & O_ACCMODE) != O_RDONLY || (question->flags & O_TRUNC) != 0;
}

static const char *function_of_open(const struct hk_fuse_question *question)
{
	bool writes = opens_to_write(question);

	if (question->op == HK_EVENT_CREATE) {
		return writes ? "open_wr_creat" : "open_rd_creat";
	}
	return writes ? "open_wr" : "open_rd";
}

const char *hk_gentoo_function(const struct hk_fuse_question *question)
{
	static const char *const functions[HK_EVENT_COUNT] = {
		[HK_EVENT_MKDIR] = "mkdir",
		[HK_EVENT_SYMLINK] = "symlink",
		[HK_EVENT_LINK] = "link",
		[HK_EVENT_UNLINK] = "unlink",
		[HK_EVENT_RMDIR] = "rmdir",
		[HK_EVENT_RENAME] = "rename",
		[HK_EVENT_TRUNCATE] = "truncate",
		[HK_EVENT_CHMOD] = "chmod",
		[HK_EVENT_CHOWN] = "chown",
		[HK_EVENT_UTIMES] = "utimensat",
		[HK_EVENT_SETXATTR] = "setxattr",
		[HK_EVENT_REMOVEXATTR] = "removexattr",
		[HK_EVENT_LIST] = "opendir",
		[HK_EVENT_EXEC] = "execve",
	};

	switch (question->op) {
	case HK_EVENT_OPEN:
	case HK_EVENT_CREATE:
		return function_of_open(question);
	case HK_EVENT_MKNOD:
		return S_ISFIFO(question->flags) ? "mkfifo" : "mknod";
	default:
		return question->op < HK_EVENT_COUNT ? functions[question->op] : NULL;
	}
}

static bool is_read(const struct hk_fuse_question *question)
{
	return question->op == HK_EVENT_LIST || question->op == HK_EVENT_EXEC ||
		(question->op == HK_EVENT_OPEN && !opens_to_write(question));
}

enum hk_gentoo_verdict hk_gentoo_judge(
	const struct hk_gentoo_policy *policy, const struct hk_fuse_question *question)
{
	const char *path = question->path;

	if (!policy->on || hk_gentoo_function(question) == NULL) {
		return HK_GENTOO_ALLOWED;
	}
	/* Of a path that is too long, or not known, nothing can be said. */
	if (path[0] != '/' || matches(policy, HK_GENTOO_DENY, path)) {
		return HK_GENTOO_DENIED;
	}
	if (is_read(question)) {
		return matches(policy, HK_GENTOO_READ, path) ? HK_GENTOO_ALLOWED : HK_GENTOO_DENIED;
	}
	if (strncmp(path, log_prefix, sizeof(log_prefix) - 1) == 0) {
		return HK_GENTOO_DENIED;
	}
	if (matches(policy, HK_GENTOO_WRITE, path)) {
		return HK_GENTOO_ALLOWED;
	}
	return matches(policy, HK_GENTOO_PREDICT, path) ? HK_GENTOO_PREDICTED : HK_GENTOO_DENIED;
}

/*
 * Configuration: lines of NAME=VALUE as a shell has them, the value in quotes or not, and comments.
 */

/* Appends a value with its variables replaced. A lone '$' is itself. */
static void substitute(struct hk_str *out, const char *value, size_t len,
	const char *(*variable)(const char *name))
{
	const char *end = value + len;

	while (value < end) {
		const char *close =
			value[0] == '$' ? memchr(value, '}', (size_t)(end - value)) : NULL;
		char name[128];

		if (close != NULL && value[1] == '{' &&
			(size_t)(close - value - 2) < sizeof(name)) {
			const char *found;

			memcpy(name, value + 2, (size_t)(close - value - 2));
			name[close - value - 2] = '\0';
			found = variable(name);
			hk_str_add(out, found == NULL ? "" : found);
			value = close + 1;
		} else {
			hk_str_add_bytes(out, value++, 1);
		}
	}
}

/* Where a line assigns to @name: its value, without quotes. */
static const char *value_in(const char *line, size_t line_len, const char *name, size_t *ret_len)
{
	const char *end = line + line_len;
	size_t name_len = strlen(name);
	char quote;

	while (line < end && isspace((unsigned char)*line)) {
		line++;
	}
	if ((size_t)(end - line) <= name_len || strncmp(line, name, name_len) != 0 ||
		line[name_len] != '=') {
		return NULL;
	}
	line += name_len + 1;
	quote = line < end && (*line == '"' || *line == '\'') ? *line++ : '\0';
	*ret_len = 0;
	while (line + *ret_len < end &&
		(quote != '\0' ? line[*ret_len] != quote
			       : !isspace((unsigned char)line[*ret_len]) &&
					line[*ret_len] != '#')) {
		(*ret_len)++;
	}
	return line;
}

bool hk_gentoo_config(const char *text, const char *name, bool is_list,
	const char *(*variable)(const char *name), struct hk_str *out)
{
	const char *last = NULL;
	size_t last_len = 0;

	while (*text != '\0') {
		size_t line_len = strcspn(text, "\n");
		size_t len;
		const char *value = value_in(text, line_len, name, &len);

		if (value != NULL && is_list) {
			hk_str_add(out, out->len > 0 ? ":" : "");
			substitute(out, value, len, variable);
		}
		if (value != NULL) {
			last = value;
			last_len = len;
		}
		text += line_len + (text[line_len] == '\n');
	}
	if (last != NULL && !is_list) {
		hk_str_add_bytes(out, last, last_len);
	}
	return last != NULL;
}

/* The log */

/* A path is bytes, but a line ends at a newline: one in a name must not make a line of its own. */
static void add_line(struct hk_str *out, const char *key, const char *text)
{
	hk_str_add(out, key);
	while (*text != '\0') {
		size_t len = strcspn(text, "\n");

		hk_str_add_bytes(out, text, len);
		text += len;
		if (*text == '\n') {
			hk_str_add(out, "\\n");
			text++;
		}
	}
	hk_str_add(out, "\n");
}

void hk_gentoo_record(struct hk_str *out, const struct hk_gentoo_event *event)
{
	hk_str_addf(out, "\nF: %s\nS: %s\n", event->function, event->allowed ? "allow" : "deny");
	add_line(out, "P: ", event->passed);
	add_line(out, "A: ", event->absolute);
	add_line(out, "R: ", event->real);
	add_line(out, "C: ", event->command == NULL ? "" : event->command);
}
