/* SPDX-License-Identifier: ISC */
/*
 * JSON: a small writer.
 *
 * Theory: file names are bytes, JSON is Unicode. A name that is valid UTF-8 is written as it is. In
 * any other, each byte that belongs to no character becomes U+FFFD, and a second member, "path_hex"
 * beside "path", has all bytes as hex digits. So nothing is lost, any parser reads it, and names
 * mean what they look like: there is no escape of our own to undo.
 *
 * Output is ASCII where that matters: control characters (DEL and C1, too) are escaped for
 * terminals, '<' for pages that have the JSON within a <script>.
 *
 * The buffer goes to @put when it is full, so nothing is allocated.
 */
#include <errno.h>
#include <string.h>

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

char *hk_json_room(struct hk_json *json, size_t len)
{
	if (HK_JSON_BUFFER - json->len < len) {
		hk_json_flush(json);
	}
	return json->buffer + json->len;
}

static void add(struct hk_json *json, const char *bytes, size_t len)
{
	if (len <= HK_JSON_BUFFER - json->len) { /* as mostly */
		memcpy(json->buffer + json->len, bytes, len);
		json->len += len;
		return;
	}
	while (len > 0) {
		size_t part = HK_MIN(len, HK_JSON_BUFFER / 2);

		memcpy(hk_json_room(json, part), bytes, part);
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
	p = hk_json_room(json, len + 3);
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

/*
 * Length of the UTF-8 character at @p, at least two bytes, or 0 where there is none; sets its code.
 */
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
	char *p = hk_json_room(json, 6);

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

/* Every byte of a word. */
static uint64_t all(uint8_t c)
{
	return UINT64_C(0x0101010101010101) * c;
}

/*
 * Is there a byte @c in @word? The upper bit of a byte is set if it is, and maybe of bytes above
 * it.
 */
static uint64_t has(uint64_t word, uint8_t c)
{
	uint64_t zero = word ^ all(c);

	return (zero - all(1)) & ~zero;
}

/*
 * How many bytes from @p on need no escape: eight at a time while that is sure, as paths are long
 * and plain.
 */
static size_t plain_len(const uint8_t *p, size_t len)
{
	size_t n = 0;

	for (; len - n >= sizeof(uint64_t); n += sizeof(uint64_t)) {
		uint64_t word;

		memcpy(&word, p + n, sizeof(word));
		if (((word | (word - all(' ')) | has(word, 0x7f) | has(word, '"') |
			     has(word, '\\') | has(word, '<')) &
			    all(0x80)) != 0) {
			break;
		}
	}
	while (n < len && is_plain(p[n])) {
		n++;
	}
	return n;
}

bool hk_json_text(struct hk_json *json, const char *bytes, size_t len)
{
	const uint8_t *p = (const uint8_t *)bytes;
	bool is_text = true;

	add(json, "\"", 1);
	while (len > 0) {
		uint32_t code = p[0];
		size_t n = plain_len(p, len);

		if (n != 0) {
			add(json, (const char *)p, n);
		} else if (p[0] == '"' || p[0] == '\\' || p[0] == '\n' || p[0] == '\t') {
			char *to = hk_json_room(json, 2);

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
		char *p = hk_json_room(json, 2);

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
