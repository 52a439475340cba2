/* SPDX-License-Identifier: ISC */
/*
 * JSON: a small writer, and the lines of the log (hako-audit(5) is their schema).
 *
 * Theory: file names are bytes, JSON is Unicode. A name that is valid UTF-8 is written as it is. In any other, each byte
 * that belongs to no character becomes U+FFFD, and a second member, "path_hex" beside "path", has all bytes as hex digits.
 * So nothing is lost, any parser reads it, and names mean what they look like: there is no escape of our own to undo.
 *
 * Output is ASCII where that matters: control characters (DEL and C1, too) are escaped for terminals, '<' for pages that
 * have the JSON within a <script>.
 *
 * The buffer goes to @put when it is full, so nothing is allocated.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <time.h>

#include "base/str.h"
#include "fuse/audit_impl.h"

static const char hex_digits[] = "0123456789abcdef";

void hk_json_flush(struct hk_json *json)
{
	if (json->len != 0) {
		json->put(json, json->buffer, json->len);
		json->len = 0;
	}
}

/* Room for @len bytes, a few only. */
static char *room(struct hk_json *json, size_t len)
{
	if (HK_JSON_BUFFER - json->len < len) {
		hk_json_flush(json);
	}
	return json->buffer + json->len;
}

static void add(struct hk_json *json, const char *bytes, size_t len)
{
	while (len > 0) {
		size_t part = HK_MIN(len, HK_JSON_BUFFER / 2);

		memcpy(room(json, part), bytes, part);
		json->len += part;
		bytes += part;
		len -= part;
	}
}

void hk_json_raw_bytes(struct hk_json *json, const char *bytes, size_t len)
{
	add(json, bytes, len);
}

void hk_json_raw(struct hk_json *json, const char *text)
{
	add(json, text, strlen(text));
}

void hk_json_element(struct hk_json *json)
{
	if (json->comma) {
		add(json, ",", 1);
	}
	json->comma = true;
}

void hk_json_open(struct hk_json *json, char bracket)
{
	add(json, &bracket, 1);
	json->comma = false;
}

void hk_json_close(struct hk_json *json, char bracket)
{
	add(json, &bracket, 1);
	json->comma = true;
}

void hk_json_key(struct hk_json *json, const char *key)
{
	size_t len = strlen(key);
	char *p;

	hk_json_element(json);
	p = room(json, len + 3);
	*p++ = '"';
	memcpy(p, key, len);
	p += len;
	*p++ = '"';
	*p = ':';
	json->len += len + 3;
}

void hk_json_u64(struct hk_json *json, uint64_t value)
{
	char digits[20];
	size_t at = sizeof(digits);

	do {
		digits[--at] = (char)('0' + value % 10);
		value /= 10;
	} while (value != 0);
	add(json, digits + at, sizeof(digits) - at);
}

void hk_json_number(struct hk_json *json, const char *key, uint64_t value)
{
	hk_json_key(json, key);
	hk_json_u64(json, value);
}

/* Length of the UTF-8 character at @p, at least two bytes, or 0 where there is none; sets its code. */
static size_t decode(const uint8_t *p, size_t len, uint32_t *ret_code)
{
	static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
	size_t size = p[0] >= 0xf0 ? 4 : p[0] >= 0xe0 ? 3 : 2;
	uint32_t code;

	if (p[0] < 0xc2 || p[0] > 0xf4 || len < size) {
		return 0;
	}
	code = p[0] & (0x7fu >> size);
	for (size_t i = 1; i < size; i++) {
		if ((p[i] & 0xc0) != 0x80) {
			return 0;
		}
		code = code << 6 | (p[i] & 0x3fu);
	}
	if (code < least[size] || code > 0x10ffff || (code >= 0xd800 && code <= 0xdfff)) {
		return 0;
	}
	*ret_code = code;
	return size;
}

static void add_escaped(struct hk_json *json, uint32_t code)
{
	char *p = room(json, 6);

	p[0] = '\\';
	p[1] = 'u';
	for (unsigned i = 0; i < 4; i++) {
		p[2 + i] = hex_digits[code >> (12 - 4 * i) & 15];
	}
	json->len += 6;
}

static bool is_plain(uint8_t c)
{
	return c >= ' ' && c < 0x7f && c != '"' && c != '\\' && c != '<';
}

bool hk_json_text(struct hk_json *json, const char *bytes, size_t len)
{
	const uint8_t *p = (const uint8_t *)bytes;
	bool is_text = true;

	add(json, "\"", 1);
	while (len > 0) {
		uint32_t code = p[0];
		size_t n = 0;

		while (n < len && is_plain(p[n])) {
			n++;
		}
		if (n != 0) {
			add(json, (const char *)p, n);
		} else if (p[0] == '"' || p[0] == '\\' || p[0] == '\n' || p[0] == '\t') {
			char *to = room(json, 2);

			to[0] = '\\';
			to[1] = p[0] == '\n' ? 'n' : p[0] == '\t' ? 't' : (char)p[0];
			json->len += 2;
			n = 1;
		} else if (p[0] < 0x80) {
			add_escaped(json, code);
			n = 1;
		} else if ((n = decode(p, len, &code)) == 0) {
			is_text = false;
			add_escaped(json, 0xfffd);
			n = 1;
		} else if (code < 0xa0 || code == 0x2028 || code == 0x2029) {
			add_escaped(json, code);
		} else {
			add(json, (const char *)p, n);
		}
		p += n;
		len -= n;
	}
	add(json, "\"", 1);
	return is_text;
}

void hk_json_bytes(struct hk_json *json, const char *key, const char *bytes, size_t len)
{
	char hex_key[32];

	hk_json_key(json, key);
	if (hk_json_text(json, bytes, len)) {
		return;
	}
	hk_fmt(hex_key, sizeof(hex_key), "%s_hex", key);
	hk_json_key(json, hex_key);
	add(json, "\"", 1);
	for (size_t i = 0; i < len; i++) {
		char *p = room(json, 2);

		p[0] = hex_digits[(uint8_t)bytes[i] >> 4];
		p[1] = hex_digits[(uint8_t)bytes[i] & 15];
		json->len += 2;
	}
	add(json, "\"", 1);
}

/* Into a stream */

static void put_file(struct hk_json *json, const char *bytes, size_t len)
{
	struct hk_json_file *file = hk_container_of(json, struct hk_json_file, json);

	errno = EIO;
	if (file->error == 0 && fwrite(bytes, 1, len, file->to) != len) {
		file->error = errno;
	}
}

void hk_json_file_init(struct hk_json_file *file, FILE *to)
{
	file->json.put = put_file;
	file->json.comma = false;
	file->json.len = 0;
	file->to = to;
	file->error = 0;
}

int hk_json_file_finish(struct hk_json_file *file)
{
	hk_json_flush(&file->json);
	errno = EIO;
	if (file->error == 0 && fflush(file->to) != 0) {
		file->error = errno;
	}
	return -file->error;
}

/* Lines */

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

_Static_assert(HK_ARRAY_SIZE(op_names) == HK_EVENT_COUNT, "a name for each");

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
	hk_json_key(json, "error");
	for (size_t i = 0; i < HK_ARRAY_SIZE(errors); i++) {
		if (errors[i].code == error) {
			hk_json_text(json, errors[i].name, strlen(errors[i].name));
			return;
		}
	}
	add(json, "\"E", 2);
	hk_json_u64(json, (uint64_t)(error < 0 ? 0 : error));
	add(json, "\"", 1);
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

/* What the kernel adds to each open: O_LARGEFILE, and FMODE_EXEC, which is an operation of its own here. */
enum { OPEN_FLAGS_UNTOLD = 0100000 | 0x20 };

static void add_open_flags(struct hk_json *json, uint32_t flags)
{
	static const char *const modes[] = {"O_RDONLY", "O_WRONLY", "O_RDWR", "O_ACCMODE"};

	hk_json_key(json, "flags");
	add(json, "\"", 1);
	hk_json_raw(json, modes[flags & O_ACCMODE]);
	flags &= ~(uint32_t)(O_ACCMODE | OPEN_FLAGS_UNTOLD);
	for (size_t i = 0; i < HK_ARRAY_SIZE(open_flags); i++) {
		if ((flags & open_flags[i].bits) == open_flags[i].bits) {
			add(json, "|", 1);
			hk_json_raw(json, open_flags[i].name);
			flags &= ~open_flags[i].bits;
		}
	}
	if (flags != 0) {
		char rest[16];

		hk_fmt(rest, sizeof(rest), "|0x%x", flags);
		hk_json_raw(json, rest);
	}
	add(json, "\"", 1);
}

static void add_flags(struct hk_json *json, const struct hk_record *record)
{
	char mode[16];

	switch ((enum hk_event_op)record->op) {
	case HK_EVENT_OPEN:
	case HK_EVENT_CREATE:
	case HK_EVENT_CLOSE:
		add_open_flags(json, record->flags);
		break;
	case HK_EVENT_MKDIR:
	case HK_EVENT_MKNOD:
	case HK_EVENT_CHMOD:
		hk_fmt(mode, sizeof(mode), "\"0%o\"", record->flags);
		hk_json_key(json, "mode");
		hk_json_raw(json, mode);
		break;
	case HK_EVENT_RENAME:
		if (record->flags != 0) {
			hk_json_number(json, "flags", record->flags);
		}
		break;
	default:
		break;
	}
}

/* RFC 3339, UTC, nanoseconds: sorts as text, and no reader's floating point number spoils it. */
static void add_time(struct hk_json *json, uint64_t time_ns)
{
	time_t seconds = (time_t)(time_ns / HK_NS_PER_SEC);
	char text[64];
	struct tm tm;

	gmtime_r(&seconds, &tm);
	hk_fmt(text, sizeof(text), "{\"time\":\"%04d-%02d-%02dT%02d:%02d:%02d.%09uZ\"",
		tm.tm_year + 1900, tm.tm_mon + 1, tm.tm_mday, tm.tm_hour, tm.tm_min, tm.tm_sec,
		(unsigned)(time_ns % HK_NS_PER_SEC));
	hk_json_raw(json, text);
	json->comma = true;
}

static void add_name(struct hk_json *json, const char *key, const char *name)
{
	hk_json_key(json, key);
	add(json, "\"", 1);
	hk_json_raw(json, name);
	add(json, "\"", 1);
}

void hk_audit_line_begin(struct hk_json *json, uint64_t time_ns)
{
	add_time(json, time_ns);
	add_name(json, "op", "begin");
	hk_json_number(json, "version", HK_AUDIT_VERSION);
	hk_json_key(json, "hako");
	hk_json_text(json, HAKO_VERSION, strlen(HAKO_VERSION));
	add(json, "}\n", 2);
}

void hk_audit_line_end(struct hk_json *json, uint64_t time_ns, uint64_t events, uint64_t violations,
	uint64_t blocked_ns)
{
	add_time(json, time_ns);
	add_name(json, "op", "end");
	hk_json_number(json, "events", events);
	hk_json_number(json, "violations", violations);
	hk_json_number(json, "blocked_ns", blocked_ns);
	add(json, "}\n", 2);
}

void hk_audit_line_event(
	struct hk_json *json, const struct hk_record *record, const struct hk_rules *rules)
{
	const struct hk_process *process = &record->process;
	const char *rule;

	add_time(json, record->time_ns);
	hk_json_number(json, "pid", (uint32_t)process->pid);
	if (record->tid != process->pid) {
		hk_json_number(json, "tid", (uint32_t)record->tid);
	}
	hk_json_number(json, "ppid", (uint32_t)process->ppid);
	hk_json_number(json, "uid", record->uid);
	hk_json_bytes(
		json, "command", process->command, strnlen(process->command, HK_COMMAND_SIZE));
	add_name(json, "op", hk_event_op_name((enum hk_event_op)record->op));
	add_name(json, "class", hk_class_name((enum hk_class)record->class));
	hk_json_bytes(json, "path", record->paths, record->path_len);
	if (record->has_other) {
		hk_json_bytes(json, "other", hk_record_other(record), record->other_len);
	}
	if (record->cut) {
		hk_json_key(json, "cut");
		hk_json_raw(json, "true");
	}
	add_flags(json, record);
	add_name(json, "verdict", hk_verdict_name((enum hk_verdict)record->verdict));
	if (record->rule != 0) {
		hk_json_number(json, "rule", record->rule);
		rule = rules != NULL ? hk_rules_text(rules, record->rule) : NULL;
		if (rule != NULL) {
			hk_json_bytes(json, "rule_text", rule, strlen(rule));
		}
	}
	if (record->error != 0) {
		add_error(json, record->error);
	}
	if (record->op == HK_EVENT_CLOSE) {
		hk_json_number(json, "bytes_read", record->bytes_read);
		hk_json_number(json, "bytes_written", record->bytes_written);
		if (!record->exact) {
			hk_json_key(json, "exact");
			hk_json_raw(json, "false");
		}
	}
	add(json, "}\n", 2);
}
