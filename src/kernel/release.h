/* SPDX-License-Identifier: ISC */
/* Kernel releases, as `uname -r` prints them: read with care, for they become file names. */
#ifndef HK_KERNEL_RELEASE_H
#define HK_KERNEL_RELEASE_H

#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <string.h>

/* ASCII only, whatever the locale. */
static inline bool hk_release_char(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
		(c != '\0' && strchr("._+~-", c) != NULL);
}

/**
 * hk_release_parse() - take the word at @text, which must begin with a digit
 * @text: @len bytes; the word ends at a blank, a NUL or the end
 * @ret_release: @size bytes, NUL-terminated; untouched on failure
 *
 * Return: 0, or -EINVAL.
 */
static inline int hk_release_parse(const char *text, size_t len, char *ret_release, size_t size)
{
	size_t n = 0;

	while (n < len && hk_release_char(text[n])) {
		n++;
	}
	if (n == 0 || n >= size || text[0] < '0' || text[0] > '9' ||
		(n < len && text[n] != ' ' && text[n] != '\0' && text[n] != '\n')) {
		return -EINVAL;
	}
	memcpy(ret_release, text, n);
	ret_release[n] = '\0';
	return 0;
}

#endif
