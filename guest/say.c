/* SPDX-License-Identifier: ISC */
/*
 * Lines on the console, which is descriptor 2 of the agent. Longer ones are cut.
 */
#include "say.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

void hk_say(const char *format, ...)
{
	static const char prefix[] = "hako-guest: ";
	char line[512];
	size_t len = sizeof(prefix) - 1;
	va_list args;
	int r;

	memcpy(line, prefix, len);
	va_start(args, format);
	r = vsnprintf(line + len, sizeof(line) - 1 - len, format, args);
	va_end(args);
	if (r < 0) {
		return;
	}
	len += strlen(line + len);
	line[len++] = '\n';
	/* There is nobody to tell that telling failed. */
	if (write(STDERR_FILENO, line, len) < 0) {
		return;
	}
}
