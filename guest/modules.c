/* SPDX-License-Identifier: ISC */
/*
 * Kernel modules.
 *
 * Theory: the initramfs holds plain .ko files and the list; the kernel reads each file itself. The
 * files are deleted as they are loaded: an initramfs is memory, and the box needs it more.
 *
 * Limits: a list of LIST_BYTES.
 */
#include "modules.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "say.h"

enum { LIST_BYTES = 8192 };

static void load(const char *name)
{
	char path[NAME_MAX + 16];
	int fd;

	snprintf(path, sizeof(path), "/modules/%s", name);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0) {
		hk_say("module '%s': open: %s", name, strerror(errno));
		return;
	}
	if (syscall(SYS_finit_module, fd, "", 0) < 0 && errno != EEXIST) {
		hk_say("module '%s': load: %s", name, strerror(errno));
	}
	close(fd);
	unlink(path);
}

/* The list, read once; the position in it stays between stages. */
static char *list(void)
{
	static const char path[] = "/modules/order";
	static char text[LIST_BYTES];
	ssize_t n;
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	if (fd < 0) {
		if (errno != ENOENT) {
			hk_say("'%s': open: %s", path, strerror(errno));
		}
		return text;
	}
	n = read(fd, text, sizeof(text));
	close(fd);
	unlink(path);
	if (n < 0 || n == (ssize_t)sizeof(text)) {
		hk_say("'%s': %s", path, n < 0 ? strerror(errno) : "too long");
		n = 0;
	}
	text[n] = '\0';
	return text;
}

void hk_modules_load(void)
{
	static char *at;

	if (!at) {
		at = list();
	}
	while (*at) {
		char *line = at;
		size_t len = strcspn(line, "\n");

		at += len + (line[len] == '\n');
		line[len] = '\0';
		if (strcmp(line, "--") == 0) {
			break;
		}
		if (len) {
			load(line);
		}
	}
}
