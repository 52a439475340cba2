/* SPDX-License-Identifier: ISC */
/*
 * Errors with context.
 *
 * Set-up and control functions return 0 or -errno and take a `struct hk_err *`
 * as last argument. The function that meets the cause writes it with hk_fail();
 * each caller that knows an object of the user's prefixes it with hk_err_ctx(),
 * so that the user reads one line, outermost object first:
 *
 *	disk 'a.img': open: Permission denied
 *
 * The text lives in a fixed buffer filled from its right end: where it does not
 * fit, outer context is dropped (marked "..."), never the cause. Nothing here
 * allocates, so running out of memory can be reported too.
 */
#ifndef HK_BASE_ERR_H
#define HK_BASE_ERR_H

#include <errno.h>
#include <stddef.h>

#define HK_PRINTF(fmt_index, first_arg) __attribute__((format(printf, fmt_index, first_arg)))

enum { HK_ERR_TEXT_SIZE = 768, HK_ERR_HINT_SIZE = 384 };

/**
 * struct hk_err - one error on its way up to the user
 * @code: positive errno value of the cause; 0 while there is none
 * @start: offset in @text where the message begins
 * @text: the message, right-aligned, NUL-terminated
 * @hint: what the user can do next, or empty; NUL-terminated
 */
struct hk_err {
	int code;
	size_t start;
	char text[HK_ERR_TEXT_SIZE];
	char hint[HK_ERR_HINT_SIZE];
};

#define HK_ERR_INIT \
	(struct hk_err) \
	{ \
		.start = HK_ERR_TEXT_SIZE - 1 \
	}

/**
 * hk_fail() - record a cause: the formatted text, ": ", strerror(@code)
 * @err: where to write it, replacing what was there; may be NULL
 * @code: positive errno value
 *
 * Return: -@code, so that `return hk_fail(err, errno, "open");` reads well.
 */
int hk_fail(struct hk_err *err, int code, const char *fmt, ...) HK_PRINTF(3, 4);

/**
 * hk_fail_msg() - record a cause whose text says it all, without strerror()
 *
 * Return: -@code.
 */
int hk_fail_msg(struct hk_err *err, int code, const char *fmt, ...) HK_PRINTF(3, 4);

/**
 * hk_err_ctx() - prefix "formatted text: " to the message
 * @err: an error already recorded; may be NULL
 *
 * Return: -(the recorded code); -EIO if @err is NULL or empty, so a caller that
 * can be given NULL keeps its own return code instead of using this one.
 */
int hk_err_ctx(struct hk_err *err, const char *fmt, ...) HK_PRINTF(2, 3);

/**
 * hk_err_hint() - say what the user can do next; the first (innermost) hint stays
 *
 * Return: as hk_err_ctx().
 */
int hk_err_hint(struct hk_err *err, const char *fmt, ...) HK_PRINTF(2, 3);

/** hk_err_text() - the message, "" where nothing was recorded; borrowed from @err */
const char *hk_err_text(const struct hk_err *err);

#endif
