/* SPDX-License-Identifier: ISC */
/*
 * Bounded strings, growing strings, escapes and numbers from text.
 *
 * Theory: struct hk_str doubles its buffer and keeps a sticky failure flag, so that a text made of
 * many pieces is checked once, when it is taken. The parsers accept exactly one spelling of the
 * whole text: no blanks, signs or rest, and they look at all of it before they say "too large".
 *
 * Limits: what is added to a hk_str must not lie inside that string. Escaping knows no terminal:
 * bidirectional controls are valid UTF-8 and pass.
 */
#include "base/str.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"

int hk_fmt(char *buf, size_t size, const char *fmt, ...)
{
	va_list ap;
	int n;

	assert(size > 0);
	va_start(ap, fmt);
	n = vsnprintf(buf, size, fmt, ap);
	va_end(ap);
	if (n < 0) {
		buf[0] = '\0';
		return -ENAMETOOLONG;
	}
	return (size_t)n < size ? n : -ENAMETOOLONG;
}

bool hk_str_ends_with(const char *text, const char *end)
{
	size_t text_len = strlen(text);
	size_t end_len = strlen(end);

	return text_len >= end_len && memcmp(text + text_len - end_len, end, end_len) == 0;
}

const char *hk_path_within(const char *path, const char *dir)
{
	size_t len = strlen(dir);

	if (len == 0 || (len == 1 && dir[0] == '/')) {
		return path;
	}
	return strncmp(path, dir, len) == 0 && (path[len] == '/' || path[len] == '\0') ? path + len
										       : NULL;
}

/* Makes room for @extra bytes and a NUL. */
static bool reserve(struct hk_str *s, size_t extra)
{
	size_t cap = s->cap == 0 ? 64 : s->cap;
	char *data;

	if (s->failed) {
		return false;
	}
	if (extra > PTRDIFF_MAX - 1 - s->len) {
		s->failed = true;
		return false;
	}
	while (cap < s->len + extra + 1) {
		cap = cap > PTRDIFF_MAX / 2 ? PTRDIFF_MAX : cap * 2;
	}
	if (cap == s->cap) {
		return true;
	}
	data = hk_realloc_array(s->data, cap, 1);
	if (data == NULL) {
		s->failed = true;
		return false;
	}
	s->data = data;
	s->cap = cap;
	return true;
}

void hk_str_add(struct hk_str *s, const char *text)
{
	hk_str_add_bytes(s, text, strlen(text));
}

void hk_str_add_bytes(struct hk_str *s, const void *bytes, size_t len)
{
	if (len == 0 || !reserve(s, len)) {
		return;
	}
	memcpy(s->data + s->len, bytes, len);
	s->len += len;
	s->data[s->len] = '\0';
}

void hk_str_addf(struct hk_str *s, const char *fmt, ...)
{
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vsnprintf(NULL, 0, fmt, ap);
	va_end(ap);
	if (n < 0) {
		s->failed = true;
		return;
	}
	if (n == 0 || !reserve(s, (size_t)n)) {
		return;
	}
	va_start(ap, fmt);
	vsnprintf(s->data + s->len, (size_t)n + 1, fmt, ap);
	va_end(ap);
	s->len += (size_t)n;
}

const char *hk_str_text(const struct hk_str *s)
{
	return s->data != NULL ? s->data : "";
}

int hk_str_take(struct hk_str *s, char **ret_text)
{
	if (s->data == NULL && reserve(s, 0)) {
		s->data[0] = '\0';
	}
	if (s->failed) {
		return -ENOMEM;
	}
	*ret_text = s->data;
	*s = (struct hk_str){0};
	return 0;
}

void hk_str_finish(struct hk_str *s)
{
	free(s->data);
	*s = (struct hk_str){0};
}

/*
 * Length of the valid UTF-8 character at @p, or 0 (RFC 3629: no overlong forms, no surrogates,
 * nothing over U+10FFFF). C1 controls (U+0080 to U+009F) count as not valid.
 */
static size_t utf8_len(const uint8_t *p, size_t len)
{
	static const struct {
		uint8_t first_min, first_max, second_min, second_max, len;
	} forms[] = {
		{0xc2, 0xc2, 0xa0, 0xbf, 2}, /* without C1 */
		{0xc3, 0xdf, 0x80, 0xbf, 2},
		{0xe0, 0xe0, 0xa0, 0xbf, 3},
		{0xe1, 0xec, 0x80, 0xbf, 3},
		{0xed, 0xed, 0x80, 0x9f, 3}, /* without surrogates */
		{0xee, 0xef, 0x80, 0xbf, 3},
		{0xf0, 0xf0, 0x90, 0xbf, 4},
		{0xf1, 0xf3, 0x80, 0xbf, 4},
		{0xf4, 0xf4, 0x80, 0x8f, 4},
	};

	for (size_t i = 0; i < sizeof(forms) / sizeof(forms[0]); i++) {
		if (p[0] < forms[i].first_min || p[0] > forms[i].first_max) {
			continue;
		}
		if (len < forms[i].len || p[1] < forms[i].second_min ||
			p[1] > forms[i].second_max) {
			return 0;
		}
		for (size_t k = 2; k < forms[i].len; k++) {
			if ((p[k] & 0xc0) != 0x80) {
				return 0;
			}
		}
		return forms[i].len;
	}
	return 0;
}

/* Writes what stands for the character at @p to @unit; sets how many input bytes it took. */
static size_t escape_one(char unit[4], const uint8_t *p, size_t len, size_t *ret_taken)
{
	static const char hex[] = "0123456789abcdef";
	size_t n;

	*ret_taken = 1;
	if (p[0] == '\n' || p[0] == '\t') {
		unit[0] = '\\';
		unit[1] = p[0] == '\n' ? 'n' : 't';
		return 2;
	}
	if (p[0] >= ' ' && p[0] < 0x7f && p[0] != '\\') {
		unit[0] = (char)p[0];
		return 1;
	}
	n = utf8_len(p, len);
	if (n != 0) {
		memcpy(unit, p, n);
		*ret_taken = n;
		return n;
	}
	unit[0] = '\\';
	unit[1] = 'x';
	unit[2] = hex[p[0] >> 4];
	unit[3] = hex[p[0] & 15];
	return 4;
}

size_t hk_str_escape(char *out, size_t out_size, const void *bytes, size_t len)
{
	const uint8_t *p = bytes;
	size_t out_len = 0;

	if (out_size == 0) {
		return 0;
	}
	while (len > 0) {
		char unit[4];
		size_t taken;
		size_t n = escape_one(unit, p, len, &taken);

		if (n >= out_size - out_len) {
			break;
		}
		memcpy(out + out_len, unit, n);
		out_len += n;
		p += taken;
		len -= taken;
	}
	out[out_len] = '\0';
	return out_len;
}

/* Reads digits and moves *@text past them. Return: 0, -EINVAL (no digit), -ERANGE (over 64 bits) */
static int parse_digits(const char **text, uint64_t *ret_value)
{
	const char *p = *text;
	uint64_t value = 0;
	bool overflow = false;

	if (*p < '0' || *p > '9') {
		return -EINVAL;
	}
	for (; *p >= '0' && *p <= '9'; p++) {
		overflow |= __builtin_mul_overflow(value, 10, &value);
		overflow |= __builtin_add_overflow(value, (uint64_t)(*p - '0'), &value);
	}
	*text = p;
	*ret_value = value;
	return overflow ? -ERANGE : 0;
}

/* How far a size suffix shifts, or -1. */
static int suffix_shift(const char *suffix)
{
	static const char letters[] = "KMGT";
	const char *letter;
	char upper = *suffix >= 'a' && *suffix <= 'z' ? (char)(*suffix - 'a' + 'A') : *suffix;

	if (*suffix == '\0') {
		return 0;
	}
	letter = strchr(letters, upper);
	if (letter == NULL) {
		return -1;
	}
	suffix++;
	if (strcmp(suffix, "") != 0 && strcmp(suffix, "B") != 0 && strcmp(suffix, "iB") != 0) {
		return -1;
	}
	return 10 * (int)(letter - letters + 1);
}

int hk_parse_size(const char *text, uint64_t *ret_bytes)
{
	static const uint64_t max = UINT64_C(1) << 63;
	uint64_t value;
	int r = parse_digits(&text, &value);
	int shift;

	if (r == -EINVAL) {
		return r;
	}
	shift = suffix_shift(text);
	if (shift < 0) {
		return -EINVAL;
	}
	if (r < 0 || value > max >> shift) {
		return -ERANGE;
	}
	*ret_bytes = value << shift;
	return 0;
}

int hk_parse_uint(const char *text, uint64_t min, uint64_t max, uint64_t *ret_value)
{
	uint64_t value;
	int r = parse_digits(&text, &value);

	if (r == -EINVAL || *text != '\0') {
		return -EINVAL;
	}
	if (r < 0 || value < min || value > max) {
		return -ERANGE;
	}
	*ret_value = value;
	return 0;
}
