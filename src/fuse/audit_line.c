/* SPDX-License-Identifier: ISC */
/*
 * The lines of the log: one event each, as JSON; hako-audit(5) is their schema.
 *
 * Theory: the thread that writes them shares the processors with whom it writes about, so a line
 * has to be cheap. What a line has in common with the one before is copied from it: the time up to
 * the second, and who it was.
 */
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <time.h>

#include "base/str.h"
#include "fuse/audit_impl.h"

/* A string literal, as it is. */
#define ADD(json, literal) hk_json_raw_bytes(json, literal, sizeof(literal) - 1)

/* A member that is not the first: @key is a literal; @name needs no escapes. */
#define ADD_NAME(json, key, name) \
	(ADD(json, ",\"" key "\":\""), hk_json_raw(json, name), ADD(json, "\""))
#define ADD_NUMBER(json, key, value) (ADD(json, ",\"" key "\":"), hk_json_u64(json, value))

static const char *const op_names[] = {
	[HK_EVENT_LOOKUP] = "lookup",
	[HK_EVENT_OPEN] = "open",
	[HK_EVENT_CREATE] = "create",
	[HK_EVENT_MKDIR] = "mkdir",
	[HK_EVENT_MKNOD] = "mknod",
	[HK_EVENT_SYMLINK] = "symlink",
	[HK_EVENT_LINK] = "link",
	[HK_EVENT_UNLINK] = "unlink",
	[HK_EVENT_RMDIR] = "rmdir",
	[HK_EVENT_RENAME] = "rename",
	[HK_EVENT_READLINK] = "readlink",
	[HK_EVENT_TRUNCATE] = "truncate",
	[HK_EVENT_CHMOD] = "chmod",
	[HK_EVENT_CHOWN] = "chown",
	[HK_EVENT_UTIMES] = "utimes",
	[HK_EVENT_SETXATTR] = "setxattr",
	[HK_EVENT_REMOVEXATTR] = "removexattr",
	[HK_EVENT_LIST] = "list",
	[HK_EVENT_EXEC] = "exec",
	[HK_EVENT_CLOSE] = "close",
};

static_assert(HK_ARRAY_SIZE(op_names) == HK_EVENT_COUNT, "a name for each");

const char *hk_event_op_name(enum hk_event_op op)
{
	return (unsigned)op < HK_EVENT_COUNT ? op_names[op] : "?";
}

#define ERROR(name) \
	{ \
		name, #name \
	}

static const struct {
	int code;
	const char *name;
} errors[] = {
	ERROR(EPERM),
	ERROR(ENOENT),
	ERROR(EINTR),
	ERROR(EIO),
	ERROR(ENXIO),
	ERROR(E2BIG),
	ERROR(ENOEXEC),
	ERROR(EBADF),
	ERROR(EAGAIN),
	ERROR(ENOMEM),
	ERROR(EACCES),
	ERROR(EFAULT),
	ERROR(EBUSY),
	ERROR(EEXIST),
	ERROR(EXDEV),
	ERROR(ENODEV),
	ERROR(ENOTDIR),
	ERROR(EISDIR),
	ERROR(EINVAL),
	ERROR(ENFILE),
	ERROR(EMFILE),
	ERROR(ENOTTY),
	ERROR(ETXTBSY),
	ERROR(EFBIG),
	ERROR(ENOSPC),
	ERROR(ESPIPE),
	ERROR(EROFS),
	ERROR(EMLINK),
	ERROR(ERANGE),
	ERROR(ENAMETOOLONG),
	ERROR(ENOSYS),
	ERROR(ENOTEMPTY),
	ERROR(ELOOP),
	ERROR(ENODATA),
	ERROR(EOVERFLOW),
	ERROR(EOPNOTSUPP),
	ERROR(ESTALE),
	ERROR(EDQUOT),
};

static void add_error(struct hk_json *json, int error)
{
	for (size_t i = 0; i < HK_ARRAY_SIZE(errors); i++) {
		if (errors[i].code == error) {
			ADD_NAME(json, "error", errors[i].name);
			return;
		}
	}
	ADD(json, ",\"error\":\"E");
	hk_json_u64(json, (uint64_t)(error < 0 ? 0 : error));
	ADD(json, "\"");
}

#define FLAG(name) \
	{ \
		name, #name \
	}

/* O_SYNC is two bits, so it comes before O_DSYNC. */
static const struct {
	uint32_t bits;
	const char *name;
} open_flags[] = {
	FLAG(O_CREAT),
	FLAG(O_EXCL),
	FLAG(O_TRUNC),
	FLAG(O_APPEND),
	FLAG(O_NONBLOCK),
	FLAG(O_SYNC),
	FLAG(O_DSYNC),
	FLAG(O_DIRECT),
	FLAG(O_TMPFILE),
	FLAG(O_DIRECTORY),
	FLAG(O_NOFOLLOW),
	FLAG(O_NOATIME),
	FLAG(O_CLOEXEC),
	FLAG(O_NOCTTY),
};

/*
 * What the kernel adds to each open: O_LARGEFILE, and FMODE_EXEC, which is an operation of its own
 * here.
 */
enum { OPEN_FLAGS_UNTOLD = 0100000 | 0x20 };

static void add_open_flags(struct hk_json *json, uint32_t flags)
{
	static const char *const modes[] = {"O_RDONLY", "O_WRONLY", "O_RDWR", "O_ACCMODE"};

	ADD(json, ",\"flags\":\"");
	hk_json_raw(json, modes[flags & O_ACCMODE]);
	flags &= ~(uint32_t)(O_ACCMODE | OPEN_FLAGS_UNTOLD);
	for (size_t i = 0; flags != 0 && i < HK_ARRAY_SIZE(open_flags); i++) {
		if ((flags & open_flags[i].bits) == open_flags[i].bits) {
			ADD(json, "|");
			hk_json_raw(json, open_flags[i].name);
			flags &= ~open_flags[i].bits;
		}
	}
	if (flags != 0) {
		char rest[16];

		hk_fmt(rest, sizeof(rest), "|0x%x", flags);
		hk_json_raw(json, rest);
	}
	ADD(json, "\"");
}

/* As chmod(1) takes it: "0644". */
static void add_mode(struct hk_json *json, uint32_t mode)
{
	char text[16];
	size_t at = sizeof(text) - 1;

	text[at] = '\0';
	do {
		text[--at] = (char)('0' + (mode & 7));
		mode >>= 3;
	} while (mode != 0);
	text[--at] = '0';
	ADD_NAME(json, "mode", text + at);
}

static void add_flags(struct hk_json *json, const struct hk_record *record)
{

	switch ((enum hk_event_op)record->op) {
	case HK_EVENT_OPEN:
	case HK_EVENT_CREATE:
	case HK_EVENT_CLOSE:
		add_open_flags(json, record->flags);
		break;
	case HK_EVENT_MKDIR:
	case HK_EVENT_MKNOD:
	case HK_EVENT_CHMOD:
		add_mode(json, record->flags);
		break;
	case HK_EVENT_RENAME:
		if (record->flags != 0) {
			ADD_NUMBER(json, "flags", record->flags);
		}
		break;
	default:
		break;
	}
}

/* RFC 3339, UTC, nanoseconds: sorts as text, and no reader's floating point number spoils it. */
static void add_time(struct hk_lines *lines, uint64_t time_ns)
{
	uint64_t second = time_ns / HK_NS_PER_SEC;
	uint32_t rest = (uint32_t)(time_ns % HK_NS_PER_SEC);
	char nanoseconds[9];

	if (second != lines->second || lines->second == 0) {
		time_t seconds = (time_t)second;
		struct tm tm;

		gmtime_r(&seconds, &tm);
		hk_fmt(lines->time, sizeof(lines->time),
			"{\"time\":\"%04d-%02d-%02dT%02d:%02d:%02d.", tm.tm_year + 1900,
			tm.tm_mon + 1, tm.tm_mday, tm.tm_hour, tm.tm_min, tm.tm_sec);
		lines->second = second;
	}
	for (size_t at = sizeof(nanoseconds); at-- > 0; rest /= 10) {
		nanoseconds[at] = (char)('0' + rest % 10);
	}
	hk_json_raw(&lines->json, lines->time);
	hk_json_raw_bytes(&lines->json, nanoseconds, sizeof(nanoseconds));
	ADD(&lines->json, "Z\"");
	lines->json.comma = true;
}

/* Is it the one that did what the line before tells of? */
static bool is_same_who(const struct hk_lines *lines, const struct hk_record *record)
{
	return lines->who_len != 0 && record->tid == lines->tid && record->uid == lines->uid &&
		record->process.pid == lines->process.pid &&
		record->process.ppid == lines->process.ppid &&
		strncmp(record->process.command, lines->process.command, HK_COMMAND_SIZE) == 0;
}

static void add_who(struct hk_lines *lines, const struct hk_record *record)
{
	const struct hk_process *process = &record->process;
	struct hk_json *json = &lines->json;
	const char *start;

	if (is_same_who(lines, record)) {
		hk_json_raw_bytes(json, lines->who, lines->who_len);
		return;
	}
	start = hk_json_room(json, sizeof(lines->who));
	ADD_NUMBER(json, "pid", (uint32_t)process->pid);
	if (record->tid != process->pid) {
		ADD_NUMBER(json, "tid", (uint32_t)record->tid);
	}
	ADD_NUMBER(json, "ppid", (uint32_t)process->ppid);
	ADD_NUMBER(json, "uid", record->uid);
	hk_json_bytes(
		json, "command", process->command, strnlen(process->command, HK_COMMAND_SIZE));
	lines->tid = record->tid;
	lines->uid = record->uid;
	lines->process = *process;
	lines->who_len = (size_t)(json->buffer + json->len - start);
	memcpy(lines->who, start, lines->who_len);
}

void hk_lines_begin(struct hk_lines *lines, uint64_t time_ns, const struct hk_audit_root *roots,
	unsigned root_count)
{
	struct hk_json *json = &lines->json;

	add_time(lines, time_ns);
	ADD_NAME(json, "op", "begin");
	ADD_NUMBER(json, "version", HK_AUDIT_VERSION);
	ADD_NAME(json, "hako", HAKO_VERSION);
	for (unsigned i = 0; i < root_count; i++) {
		hk_json_raw(json, i == 0 ? ",\"roots\":[{" : ",{");
		json->comma = false;
		hk_json_bytes(json, "path", roots[i].path, strlen(roots[i].path));
		hk_json_bytes(json, "host", roots[i].host, strlen(roots[i].host));
		hk_json_raw(json, i == root_count - 1 ? "}]" : "}");
	}
	ADD(json, "}\n");
}

void hk_lines_end(struct hk_lines *lines, uint64_t time_ns, uint64_t events, uint64_t violations,
	uint64_t blocked_ns)
{
	struct hk_json *json = &lines->json;

	add_time(lines, time_ns);
	ADD_NAME(json, "op", "end");
	ADD_NUMBER(json, "events", events);
	ADD_NUMBER(json, "violations", violations);
	ADD_NUMBER(json, "blocked_ns", blocked_ns);
	ADD(json, "}\n");
}

void hk_lines_event(
	struct hk_lines *lines, const struct hk_record *record, const struct hk_rules *rules)
{
	struct hk_json *json = &lines->json;
	const char *rule;

	add_time(lines, record->time_ns);
	add_who(lines, record);
	ADD_NAME(json, "op", hk_event_op_name((enum hk_event_op)record->op));
	ADD_NAME(json, "class", hk_class_name((enum hk_class)record->class));
	hk_json_bytes(json, "path", record->paths, record->path_len);
	if (record->has_other) {
		hk_json_bytes(json, "other", hk_record_other(record), record->other_len);
	}
	if (record->cut) {
		ADD(json, ",\"cut\":true");
	}
	add_flags(json, record);
	ADD_NAME(json, "verdict", hk_verdict_name((enum hk_verdict)record->verdict));
	if (record->rule != 0) {
		ADD_NUMBER(json, "rule", record->rule);
		rule = rules != NULL ? hk_rules_text(rules, record->rule) : NULL;
		if (rule != NULL) {
			hk_json_bytes(json, "rule_text", rule, strlen(rule));
		}
	}
	if (record->error != 0) {
		add_error(json, record->error);
	}
	if (record->op == HK_EVENT_CLOSE) {
		ADD_NUMBER(json, "bytes_read", record->bytes_read);
		ADD_NUMBER(json, "bytes_written", record->bytes_written);
		if (!record->exact) {
			ADD(json, ",\"exact\":false");
		}
	}
	ADD(json, "}\n");
}
