/* SPDX-License-Identifier: ISC */
/*
 * Bounded strings. hk_fmt() formats into an array and tells when it did not fit;
 * struct hk_str grows on the heap for text whose size is not known.
 */
#ifndef HK_BASE_STR_H
#define HK_BASE_STR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

/**
 * hk_fmt() - snprintf that reports truncation
 * @buf: @size bytes, NUL-terminated on return also where the text was cut
 *
 * Return: length without the NUL, or -ENAMETOOLONG if it did not fit.
 */
int hk_fmt(char *buf, size_t size, const char *fmt, ...) HK_PRINTF(3, 4);

/**
 * hk_str_ends_with() - are the last bytes of @text those of @end? A text that is nothing else ends
 * with it, too.
 */
bool hk_str_ends_with(const char *text, const char *end);
/**
 * hk_path_within() - is @path @dir, or in it? By the letter: both are from the root, or both from
 * one directory
 * @dir: "/" and "" are all
 *
 * Return: what follows of @path, "" or "/..." (all of it for these two); NULL: it is not.
 */
const char *hk_path_within(const char *path, const char *dir);

/**
 * struct hk_str - a growing NUL-terminated string; zero-initialize, then hk_str_finish()
 * @data: owned; NULL while empty (hk_str_text() gives "" then)
 * @len: bytes without the NUL
 * @failed: an allocation failed; sticky, checked once at the end with hk_str_take()
 */
struct hk_str {
	char *data;
	size_t len;
	size_t cap;
	bool failed;
};

void hk_str_add(struct hk_str *s, const char *text);
void hk_str_add_bytes(struct hk_str *s, const void *bytes, size_t len);
void hk_str_addf(struct hk_str *s, const char *fmt, ...) HK_PRINTF(2, 3);
const char *hk_str_text(const struct hk_str *s);

/** hk_str_take() - hand the string over. Return: 0, or -ENOMEM (then *@ret_text is untouched). */
int hk_str_take(struct hk_str *s, char **ret_text);
void hk_str_finish(struct hk_str *s);

/**
 * hk_str_escape() - make untrusted bytes safe to print on a terminal
 * @out: @out_size bytes, NUL-terminated; what does not fit is cut before a whole escape
 *
 * Printable ASCII and valid UTF-8 (other than C1 controls) pass, backslash and all else become
 * \xHH, newline \n, tab \t.
 *
 * Return: length of the result.
 */
size_t hk_str_escape(char *out, size_t out_size, const void *bytes, size_t len);

/**
 * hk_parse_size() - "512M", "2G", "65536", "64KiB"; suffixes K M G T or k m g t, base 1024
 * @ret_bytes: set on success only
 *
 * After a suffix B or iB may stand, which changes nothing.
 *
 * Return: 0, -EINVAL (not a size) or -ERANGE (over 2^63).
 */
int hk_parse_size(const char *text, uint64_t *ret_bytes);

/**
 * hk_parse_uint() - a whole decimal number, nothing else around it, from @min to @max
 *
 * Return: 0, -EINVAL or -ERANGE.
 */
int hk_parse_uint(const char *text, uint64_t min, uint64_t max, uint64_t *ret_value);

#endif
