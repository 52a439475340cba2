/* SPDX-License-Identifier: ISC */
/*
 * Errors with context: err.h has the theory.
 *
 * Limits: one piece of context is formatted into a buffer of the message's size first, so the end
 * of a longer one is lost. Its arguments must not lie in the error itself.
 */
#include "base/err.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static const char elision[] = "...";

/* Puts @len bytes of @text before the message; keeps what fits of its end and marks the loss. */
static void prepend(struct hk_err *err, const char *text, size_t len)
{
	size_t room = err->start;

	if (len <= room) {
		err->start -= len;
		memcpy(err->text + err->start, text, len);
		return;
	}
	memcpy(err->text, text + (len - room), room);
	memcpy(err->text, elision, sizeof(elision) - 1);
	err->start = 0;
}

HK_PRINTF(3, 0)
static void vprepend(struct hk_err *err, const char *suffix, const char *fmt, va_list ap)
{
	char buf[HK_ERR_TEXT_SIZE];
	int n = vsnprintf(buf, sizeof(buf), fmt, ap);
	size_t len = n < 0 ? 0 : (size_t)n < sizeof(buf) ? (size_t)n : sizeof(buf) - 1;

	prepend(err, suffix, strlen(suffix));
	prepend(err, buf, len);
}

static void start_over(struct hk_err *err, int code)
{
	assert(code > 0);
	err->code = code;
	err->start = sizeof(err->text) - 1;
	err->text[err->start] = '\0';
	err->hint[0] = '\0';
}

/* There are two functions of this name: GNU's returns the text, which may not be in @buf. */
static const char *describe(int code, char *buf, size_t size)
{
#ifdef __GLIBC__
	return strerror_r(code, buf, size);
#else
	return strerror_r(code, buf, size) == 0 ? buf : "Unknown error";
#endif
}

int hk_fail(struct hk_err *err, int code, const char *fmt, ...)
{
	if (err != NULL) {
		va_list ap;
		char buf[128];
		const char *reason = describe(code, buf, sizeof(buf));

		start_over(err, code);
		prepend(err, reason, strlen(reason));
		va_start(ap, fmt);
		vprepend(err, ": ", fmt, ap);
		va_end(ap);
	}
	return -code;
}

int hk_fail_msg(struct hk_err *err, int code, const char *fmt, ...)
{
	if (err != NULL) {
		va_list ap;

		start_over(err, code);
		va_start(ap, fmt);
		vprepend(err, "", fmt, ap);
		va_end(ap);
	}
	return -code;
}

static int code_of(const struct hk_err *err)
{
	return err == NULL || err->code == 0 ? -EIO : -err->code;
}

int hk_err_ctx(struct hk_err *err, const char *fmt, ...)
{
	if (err != NULL && err->code != 0) {
		va_list ap;

		va_start(ap, fmt);
		vprepend(err, ": ", fmt, ap);
		va_end(ap);
	}
	return code_of(err);
}

int hk_err_hint(struct hk_err *err, const char *fmt, ...)
{
	if (err != NULL && err->hint[0] == '\0') {
		va_list ap;

		va_start(ap, fmt);
		vsnprintf(err->hint, sizeof(err->hint), fmt, ap);
		va_end(ap);
	}
	return code_of(err);
}

const char *hk_err_text(const struct hk_err *err)
{
	return err->code == 0 ? "" : err->text + err->start;
}
