/* SPDX-License-Identifier: ISC */
/* Output of tiny guests: bytes to the serial port, and as much of printf as they need. */
#include "guest.h"

static void put(char c)
{
	outb(SERIAL_PORT, (uint8_t)c);
}

static void put_text(const char *text)
{
	for (; *text != '\0'; text++) {
		put(*text);
	}
}

static void put_number(uint64_t value, unsigned base, unsigned width)
{
	char digits[24];
	unsigned n = 0;

	do {
		digits[n++] = "0123456789abcdef"[value % base];
		value /= base;
	} while (value != 0 || n < width);
	while (n > 0) {
		put(digits[--n]);
	}
}

void say(const char *fmt, ...)
{
	va_list args;

	va_start(args, fmt);
	for (; *fmt != '\0'; fmt++) {
		unsigned width = 0;

		if (*fmt != '%') {
			put(*fmt);
			continue;
		}
		for (fmt++; *fmt >= '0' && *fmt <= '9'; fmt++) {
			width = width * 10 + (unsigned)(*fmt - '0');
		}
		switch (*fmt) {
		case 's':
			put_text(va_arg(args, const char *));
			break;
		case 'c':
			put((char)va_arg(args, int));
			break;
		case 'x':
			put_number(va_arg(args, uint64_t), 16, width);
			break;
		default:
			put_number(va_arg(args, uint64_t), 10, width);
			break;
		}
	}
	va_end(args);
}

void check(bool good, const char *what)
{
	say("%s %s\n", good ? "ok" : "not ok", what);
}
