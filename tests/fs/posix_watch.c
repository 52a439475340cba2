/* SPDX-License-Identifier: ISC */
/*
 * posix: who watches files is told what is done to them; see posix.h. Source: inotify(7),
 * fanotify(7).
 */
#include "posix.h"

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <unistd.h>

static int watch;

/* The next event of the queue is this one. */
static bool told(uint32_t mask, const char *name)
{
	static char events[4096] __attribute__((aligned(8)));
	static ssize_t left, at;
	const struct inotify_event *event;

	if (left == at) {
		left = read(watch, events, sizeof(events));
		at = 0;
	}
	if (left <= at) {
		left = at = 0;
		return mask == 0;
	}
	event = (const struct inotify_event *)(events + at);
	at += (ssize_t)(sizeof(*event) + event->len);
	if ((event->mask & ~(uint32_t)IN_ISDIR) != mask ||
		strcmp(event->len > 0 ? event->name : "", name) != 0) {
		printf("# got: %x '%s'\n", event->mask, event->len > 0 ? event->name : "");
		return false;
	}
	return true;
}

void posix_watch(void)
{
	char byte;
	int fd;

	check(mkdir("w", 0755), 0);
	check(watch = inotify_init1(IN_NONBLOCK | IN_CLOEXEC), 0);
	check(inotify_add_watch(watch, "w", IN_ALL_EVENTS), 0);
	ok(told(0, ""));

	check(fd = open("w/f", O_RDWR | O_CREAT | O_EXCL, 0644), 0);
	ok(told(IN_CREATE, "f"));
	ok(told(IN_OPEN, "f"));
	check(write(fd, "x", 1), 0);
	ok(told(IN_MODIFY, "f"));
	check(pread(fd, &byte, 1, 0), 0);
	ok(told(IN_ACCESS, "f"));
	check(ftruncate(fd, 100), 0);
	ok(told(IN_MODIFY, "f"));
	check(fchmod(fd, 0600), 0);
	ok(told(IN_ATTRIB, "f"));
	check(close(fd), 0);
	ok(told(IN_CLOSE_WRITE, "f"));

	check(fd = open("w/f", O_RDONLY), 0);
	ok(told(IN_OPEN, "f"));
	check(close(fd), 0);
	ok(told(IN_CLOSE_NOWRITE, "f"));
	check(link("w/f", "w/l"), 0);
	ok(told(IN_CREATE, "l"));
	check(rename("w/f", "w/g"), 0);
	ok(told(IN_MOVED_FROM, "f"));
	ok(told(IN_MOVED_TO, "g"));
	check(rename("w/g", "out"), 0);
	ok(told(IN_MOVED_FROM, "g"));
	check(unlink("w/l"), 0);
	ok(told(IN_DELETE, "l"));
	check(mkdir("w/d", 0755), 0);
	ok(told(IN_CREATE, "d"));
	check(rmdir("w/d"), 0);
	ok(told(IN_DELETE, "d"));
	check(truncate("out", 0), 0); /* not in there */
	ok(told(0, ""));
	check(rmdir("w"), 0);
	ok(told(IN_DELETE_SELF, ""));
	ok(told(IN_IGNORED, ""));
	check(close(watch), 0);

	/* A file itself, under whatever name. */
	check(watch = inotify_init1(IN_NONBLOCK | IN_CLOEXEC), 0);
	check(inotify_add_watch(
		      watch, "out", IN_MODIFY | IN_ATTRIB | IN_DELETE_SELF | IN_MOVE_SELF),
		0);
	check(link("out", "other"), 0);
	ok(told(IN_ATTRIB, ""));
	check(rename("out", "moved"), 0);
	ok(told(IN_MOVE_SELF, ""));
	check(truncate("other", 10), 0);
	ok(told(IN_MODIFY, ""));
	check(unlink("other"), 0);
	ok(told(IN_ATTRIB, ""));
	check(unlink("moved"), 0);
	ok(told(IN_ATTRIB, ""));
	ok(told(IN_DELETE_SELF, ""));
	ok(told(IN_IGNORED, ""));
	check(close(watch), 0);
}
