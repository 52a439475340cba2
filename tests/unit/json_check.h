/* SPDX-License-Identifier: ISC */
/* Is it JSON? RFC 8259 to the letter: grammar, escapes, UTF-8. For tests of what writes JSON. */
#ifndef HK_TESTS_JSON_CHECK_H
#define HK_TESTS_JSON_CHECK_H

#include <stdbool.h>
#include <stddef.h>
#include <string.h>

struct json_check {
	const unsigned char *p, *end;
	unsigned depth;
};

static inline bool json_check_value(struct json_check *c);

static inline void json_check_blank(struct json_check *c)
{
	while (c->p < c->end && strchr(" \t\r\n", *c->p) != NULL && *c->p != '\0') {
		c->p++;
	}
}

static inline bool json_check_char(struct json_check *c, unsigned char wanted)
{
	if (c->p >= c->end || *c->p != wanted) {
		return false;
	}
	c->p++;
	return true;
}

static inline bool json_check_word(struct json_check *c, const char *word)
{
	for (; *word != '\0'; word++) {
		if (!json_check_char(c, (unsigned char)*word)) {
			return false;
		}
	}
	return true;
}

static inline bool json_check_digits(struct json_check *c)
{
	const unsigned char *start = c->p;

	while (c->p < c->end && *c->p >= '0' && *c->p <= '9') {
		c->p++;
	}
	return c->p > start;
}

static inline bool json_check_number(struct json_check *c)
{
	json_check_char(c, '-');
	if (!json_check_char(c, '0') && !json_check_digits(c)) {
		return false;
	}
	if (json_check_char(c, '.') && !json_check_digits(c)) {
		return false;
	}
	if (json_check_char(c, 'e') || json_check_char(c, 'E')) {
		if (!json_check_char(c, '+')) {
			json_check_char(c, '-');
		}
		return json_check_digits(c);
	}
	return true;
}

/* One character of UTF-8, at least two bytes. */
static inline bool json_check_utf8(struct json_check *c)
{
	unsigned char first = *c->p;
	size_t size = first >= 0xf0 ? 4 : first >= 0xe0 ? 3 : 2;
	unsigned long code = first & (0x7fu >> size);
	static const unsigned long least[] = {0, 0, 0x80, 0x800, 0x10000};

	if (first < 0xc2 || first > 0xf4 || (size_t)(c->end - c->p) < size) {
		return false;
	}
	for (size_t i = 1; i < size; i++) {
		if ((c->p[i] & 0xc0) != 0x80) {
			return false;
		}
		code = code << 6 | (c->p[i] & 0x3fu);
	}
	c->p += size;
	return code >= least[size] && code <= 0x10ffff && (code < 0xd800 || code > 0xdfff);
}

static inline bool json_check_escape(struct json_check *c)
{
	if (c->p >= c->end || *c->p == '\0') {
		return false;
	}
	if (*c->p != 'u') {
		return strchr("\"\\/bfnrt", *c->p++) != NULL;
	}
	c->p++;
	for (unsigned i = 0; i < 4; i++, c->p++) {
		if (c->p >= c->end || *c->p == '\0' ||
			strchr("0123456789abcdefABCDEF", *c->p) == NULL) {
			return false;
		}
	}
	return true;
}

static inline bool json_check_string(struct json_check *c)
{
	if (!json_check_char(c, '"')) {
		return false;
	}
	while (c->p < c->end) {
		bool good = true;

		if (json_check_char(c, '"')) {
			return true;
		}
		if (json_check_char(c, '\\')) {
			good = json_check_escape(c);
		} else if (*c->p >= 0x80) {
			good = json_check_utf8(c);
		} else {
			good = *c->p >= ' ';
			c->p++;
		}
		if (!good) {
			return false;
		}
	}
	return false;
}

static inline bool json_check_members(struct json_check *c, bool keys, unsigned char end)
{
	json_check_blank(c);
	if (json_check_char(c, end)) {
		return true;
	}
	do {
		json_check_blank(c);
		if (keys) {
			if (!json_check_string(c)) {
				return false;
			}
			json_check_blank(c);
			if (!json_check_char(c, ':')) {
				return false;
			}
		}
		if (!json_check_value(c)) {
			return false;
		}
		json_check_blank(c);
	} while (json_check_char(c, ','));
	return json_check_char(c, end);
}

static inline bool json_check_value(struct json_check *c)
{
	bool good;

	json_check_blank(c);
	if (c->p >= c->end || ++c->depth > 64) {
		return false;
	}
	switch (*c->p) {
	case '{':
	case '[':
		c->p++;
		good = c->p[-1] == '{' ? json_check_members(c, true, '}')
				       : json_check_members(c, false, ']');
		break;
	case '"':
		good = json_check_string(c);
		break;
	case 't':
		good = json_check_word(c, "true");
		break;
	case 'f':
		good = json_check_word(c, "false");
		break;
	case 'n':
		good = json_check_word(c, "null");
		break;
	default:
		good = json_check_number(c);
		break;
	}
	c->depth--;
	return good;
}

/* One value, and nothing but blanks after it. */
static inline bool json_is_valid(const char *text, size_t len)
{
	struct json_check c = {
		.p = (const unsigned char *)text, .end = (const unsigned char *)text + len};

	if (!json_check_value(&c)) {
		return false;
	}
	json_check_blank(&c);
	return c.p == c.end;
}

#endif
