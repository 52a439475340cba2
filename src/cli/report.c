/* SPDX-License-Identifier: ISC */
/* Lines on stderr: see report.h. A line is one write, so that it stays one among others'. */
#include "cli/report.h"

#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/str.h"
#include "base/sys.h"

static bool raw_terminal;

void hk_report_on_raw_terminal(int raw)
{
	raw_terminal = raw != 0;
}

void hk_report(const char *verb, const char *fmt, ...)
{
	char text[HK_ERR_TEXT_SIZE + HK_ERR_HINT_SIZE];
	char line[sizeof(text) + 64];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	hk_fmt(line, sizeof(line), "%shako %s: %s%s\n", raw_terminal ? "\r" : "", verb, text,
		raw_terminal ? "\r" : "");

	(void)hk_write_full(STDERR_FILENO, line, strlen(line)); /* there is nobody else to tell */
}

int hk_report_err(const char *verb, const struct hk_err *err, int status)
{
	hk_report(verb, "%s%s%s", hk_err_text(err), err->hint[0] == '\0' ? "" : "; ", err->hint);
	return status;
}
