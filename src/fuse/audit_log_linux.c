/* SPDX-License-Identifier: ISC */
/*
 * What the audit asks of a descriptor: writing a log whose reader may be slow, and what a terminal
 * is like.
 */
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "base/fault.h"
#include "fuse/audit_impl.h"

enum { DEFAULT_COLUMNS = 100, MIN_COLUMNS = 40, MAX_COLUMNS = 160 };

int hk_log_write(int fd, const char *bytes, size_t len)
{
	while (len > 0) {
		ssize_t n = -1;

		errno = EIO;
		if (!hk_fault(HK_FAULT_SYSCALL)) {
			n = write(fd, bytes, len);
		}
		if (n < 0 && errno == EAGAIN) {
			/*
			 * Somebody made it non-blocking; it is shared with others, who may want
			 * that.
			 */
			poll(&(struct pollfd){.fd = fd, .events = POLLOUT}, 1, -1);
			continue;
		}
		if (n < 0 && errno != EINTR) {
			return -errno;
		}
		if (n == 0) {
			return -EIO; /* a file that takes nothing and says nothing */
		}
		if (n > 0) {
			bytes += n;
			len -= (size_t)n;
		}
	}
	return 0;
}

struct hk_terminal hk_terminal_of(FILE *to)
{
	struct hk_terminal terminal = {.columns = DEFAULT_COLUMNS};
	const char *no_color = getenv("NO_COLOR");
	const char *kind = getenv("TERM");
	int fd = fileno(to);
	struct winsize size;

	if (fd < 0 || !isatty(fd)) {
		return terminal;
	}
	/* https://no-color.org: set and not empty. */
	terminal.colours = (no_color == NULL || no_color[0] == '\0') &&
		(kind == NULL || strcmp(kind, "dumb") != 0);
	if (ioctl(fd, TIOCGWINSZ, &size) == 0 && size.ws_col != 0) {
		terminal.columns = HK_MAX(MIN_COLUMNS, HK_MIN(size.ws_col, MAX_COLUMNS));
	}
	return terminal;
}
