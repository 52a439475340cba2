/* SPDX-License-Identifier: ISC */
/* posix: attributes. See posix.h. */
#include "posix.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/xattr.h>
#include <time.h>
#include <unistd.h>

void posix_mode(void)
{
	int fd;

	check(posix_create("f", ""), 0);
	ok(posix_mode_of("f") == 0644);
	check(chmod("f", 0), 0);
	ok(posix_mode_of("f") == 0);
	check(chmod("f", 07777), 0);
	ok((posix_mode_of("f") & 05777) == 05777);
	check(fd = open("f", O_RDONLY), 0);
	check(fchmod(fd, 0600), 0);
	ok(posix_mode_of("f") == 0600);
	close(fd);
	check(symlink("f", "s"), 0);
	check(chmod("s", 0640), 0);
	ok(posix_mode_of("f") == 0640);
	check(chmod("none", 0600), ENOENT);
	check(chmod("f/x", 0600), ENOTDIR);
	check(mkdir("d", 0700), 0);
	check(chmod("d", 03711), 0);
	ok((posix_mode_of("d") & 01777) == 01711);
	umask(0);
	check(fd = open("all", O_CREAT | O_WRONLY, 0666), 0);
	close(fd);
	ok(posix_mode_of("all") == 0666);
	check(mkdir("alld", 0777), 0);
	ok(posix_mode_of("alld") == 0777);
	umask(077);
	check(fd = open("mine", O_CREAT | O_WRONLY, 0777), 0);
	close(fd);
	ok(posix_mode_of("mine") == 0700);
	umask(022);
}

enum { OTHER_UID = 12345, OTHER_GID = 23456, EXTRA_GID = 34567 };

/* In a child: become somebody. */
static int become(uid_t uid, gid_t gid)
{
	gid_t extra = EXTRA_GID;

	return setgroups(1, &extra) == 0 && setgid(gid) == 0 && setuid(uid) == 0 ? 0 : -1;
}

static int as_other(void)
{
	struct stat st;
	int fd;

	if (become(OTHER_UID, OTHER_GID) < 0) {
		return 100;
	}
	fd = open("shared/new", O_CREAT | O_RDWR, 0666);
	if (fd < 0 || fstat(fd, &st) < 0 || st.st_uid != OTHER_UID || st.st_gid != OTHER_GID ||
		(st.st_mode & 0777) != 0644) {
		return 1;
	}
	if (mkdir("shared/dir", 0777) < 0 || stat("shared/dir", &st) < 0 ||
		st.st_uid != OTHER_UID) {
		return 2;
	}
	if (open("private", O_RDONLY) >= 0 || errno != EACCES) {
		return 3;
	}
	if (chmod("owned", 0600) == 0 || errno != EPERM) {
		return 4;
	}
	if (unlink("sticky/owned") == 0 || (errno != EPERM && errno != EACCES)) {
		return 5;
	}
	if (chown("shared/new", 0, (gid_t)-1) == 0 || errno != EPERM) {
		return 6;
	}
	if (chown("shared/new", (uid_t)-1, EXTRA_GID) < 0) {
		return 7;
	}
	if (open("closed/x", O_CREAT | O_RDWR, 0666) >= 0 || errno != EACCES) {
		return 8;
	}
	fd = open("group/new", O_CREAT | O_RDWR, 0600); /* by its further group */
	if (fd < 0 || fstat(fd, &st) < 0 || st.st_uid != OTHER_UID || st.st_gid != OTHER_GID) {
		return 9;
	}
	fd = open("inherit/new", O_CREAT | O_RDWR, 0600);
	if (fd < 0 || fstat(fd, &st) < 0 || st.st_gid != EXTRA_GID) {
		return 10;
	}
	if (mkdir("inherit/dir", 0700) < 0 || stat("inherit/dir", &st) < 0 ||
		st.st_gid != EXTRA_GID || (st.st_mode & S_ISGID) == 0) {
		return 11;
	}
	if (symlink("x", "shared/link") < 0 || lstat("shared/link", &st) < 0 ||
		st.st_uid != OTHER_UID) {
		return 12;
	}
	if (mkfifo("shared/fifo", 0600) < 0 || lstat("shared/fifo", &st) < 0 ||
		st.st_uid != OTHER_UID) {
		return 13;
	}
	if (utimensat(AT_FDCWD, "owned-open", NULL, 0) < 0) {
		return 14; /* writable: may be touched */
	}
	if (rename("sticky/owned", "sticky/moved") == 0 || (errno != EPERM && errno != EACCES)) {
		return 15;
	}
	return 0;
}

static int write_as_other(void)
{
	int fd;

	if (become(OTHER_UID, OTHER_GID) < 0) {
		return 100;
	}
	fd = open("setid", O_WRONLY);
	return fd >= 0 && write(fd, "x", 1) == 1 ? 0 : 1;
}

static int truncate_as_other(void)
{
	return become(OTHER_UID, OTHER_GID) == 0 && truncate("setid", 0) == 0 ? 0 : 1;
}

static int allocate_as_other(void)
{
	int fd;

	if (become(OTHER_UID, OTHER_GID) < 0) {
		return 100;
	}
	fd = open("setid", O_WRONLY);
	return fd >= 0 && fallocate(fd, 0, 0, 4096) == 0 ? 0 : 1;
}

void posix_owner(void)
{
	struct stat st;

	if (geteuid() != 0) {
		posix_skip("not root");
		return;
	}
	check(posix_create("f", ""), 0);
	check(chown("f", 1234, 2345), 0);
	check(stat("f", &st), 0);
	ok(st.st_uid == 1234 && st.st_gid == 2345);
	check(chown("f", (uid_t)-1, 7), 0);
	check(stat("f", &st), 0);
	ok(st.st_uid == 1234 && st.st_gid == 7);
	check(symlink("f", "s"), 0);
	check(lchown("s", 99, 98), 0);
	check(lstat("s", &st), 0);
	ok(st.st_uid == 99 && st.st_gid == 98);
	check(stat("f", &st), 0);
	ok(st.st_uid == 1234);
	check(chmod("f", 06755), 0);
	check(chown("f", 1, 1), 0);
	ok(posix_mode_of("f") == 0755);

	check(mkdir("shared", 0777), 0);
	check(chmod("shared", 0777), 0);
	check(posix_create("private", ""), 0);
	check(chmod("private", 0600), 0);
	check(posix_create("owned", ""), 0);
	check(posix_create("owned-open", ""), 0);
	check(chmod("owned-open", 0666), 0);
	check(mkdir("sticky", 01777), 0);
	check(chmod("sticky", 01777), 0);
	check(posix_create("sticky/owned", ""), 0);
	check(mkdir("closed", 0755), 0);
	check(mkdir("group", 0770), 0);
	check(chown("group", 0, EXTRA_GID), 0);
	check(chmod("group", 0770), 0);
	check(mkdir("inherit", 0770), 0);
	check(chown("inherit", 0, EXTRA_GID), 0);
	check(chmod("inherit", 02770), 0);
	ok(posix_child(as_other) == 0);

	check(posix_create("setid", "#!/bin/sh\n"), 0);
	check(chmod("setid", 06777), 0);
	ok(posix_child(write_as_other) == 0);
	ok(posix_mode_of("setid") == 0777);
	check(chmod("setid", 06777), 0);
	ok(posix_child(truncate_as_other) == 0);
	ok(posix_mode_of("setid") == 0777);
	check(chmod("setid", 06777), 0);
	ok(posix_child(allocate_as_other) == 0);
	ok(posix_mode_of("setid") == 0777);
	check(chmod("setid", 06777), 0);
	check(truncate("setid", 1), 0);
	ok(posix_mode_of("setid") == 06777); /* root may */
}

void posix_truncate(void)
{
	char buf[16];
	struct stat st;
	int fd;
	int ro;

	check(posix_create("f", "0123456789"), 0);
	check(truncate("f", 4), 0);
	ok(posix_has("f", "0123"));
	check(truncate("f", 8), 0);
	check(ro = open("f", O_RDONLY), 0);
	ok(pread(ro, buf, 16, 0) == 8 && memcmp(buf, "0123\0\0\0\0", 8) == 0);
	check(ftruncate(ro, 0), EINVAL);
	check(fd = open("f", O_RDWR), 0);
	check(ftruncate(fd, 2), 0);
	ok(pread(ro, buf, 16, 0) == 2);
	check(ftruncate(fd, 5000000000), 0);
	check(stat("f", &st), 0);
	ok(st.st_size == 5000000000);
	check(ftruncate(fd, -1), EINVAL);
	check(truncate("f", -1), EINVAL);
	check(ftruncate(fd, 0), 0);
	close(fd);
	close(ro);
	check(truncate("none", 0), ENOENT);
	check(mkdir("d", 0755), 0);
	check(truncate("d", 0), EISDIR);
	check(fd = open("readonly", O_RDWR | O_CREAT, 0444), 0);
	check(ftruncate(fd, 100), 0);
	check(write(fd, "x", 1), 0);
	close(fd);
	check(stat("readonly", &st), 0);
	ok(st.st_size == 100);
}

static bool newer(struct timespec a, struct timespec b)
{
	return a.tv_sec > b.tv_sec || (a.tv_sec == b.tv_sec && a.tv_nsec > b.tv_nsec);
}

static void tick(void)
{
	nanosleep(&(struct timespec){.tv_nsec = 20000000}, NULL);
}

void posix_times(void)
{
	struct timespec set[2] = {{1000000000, 123456789}, {1100000000, 987654321}};
	struct stat before;
	struct stat after;
	int fd;

	check(posix_create("f", "x"), 0);
	check(utimensat(AT_FDCWD, "f", set, 0), 0);
	check(stat("f", &after), 0);
	ok(after.st_atim.tv_sec == 1000000000 && after.st_atim.tv_nsec == 123456789);
	ok(after.st_mtim.tv_sec == 1100000000 && after.st_mtim.tv_nsec == 987654321);
	set[0].tv_nsec = UTIME_OMIT;
	set[1].tv_sec = 5;
	set[1].tv_nsec = 6;
	check(utimensat(AT_FDCWD, "f", set, 0), 0);
	check(stat("f", &after), 0);
	ok(after.st_atim.tv_sec == 1000000000 && after.st_mtim.tv_sec == 5 &&
		after.st_mtim.tv_nsec == 6);
	check(utimensat(AT_FDCWD, "f", NULL, 0), 0);
	check(stat("f", &after), 0);
	ok(after.st_mtim.tv_sec > 1500000000 && after.st_atim.tv_sec > 1500000000);
	set[1].tv_nsec = 1000000000;
	check(utimensat(AT_FDCWD, "f", set, 0), EINVAL);
	check(symlink("f", "s"), 0);
	set[0] = (struct timespec){77, 0};
	set[1] = (struct timespec){88, 0};
	check(utimensat(AT_FDCWD, "s", set, AT_SYMLINK_NOFOLLOW), 0);
	check(lstat("s", &after), 0);
	ok(after.st_mtim.tv_sec == 88);
	check(stat("f", &after), 0);
	ok(after.st_mtim.tv_sec != 88);

	check(stat("f", &before), 0);
	tick();
	check(fd = open("f", O_WRONLY), 0);
	check(write(fd, "y", 1), 0);
	check(fstat(fd, &after), 0);
	ok(newer(after.st_mtim, before.st_mtim) && newer(after.st_ctim, before.st_ctim));
	close(fd);
	before = after;
	tick();
	check(chmod("f", 0600), 0);
	check(stat("f", &after), 0);
	ok(newer(after.st_ctim, before.st_ctim) && !newer(after.st_mtim, before.st_mtim));
	check(stat(".", &before), 0);
	tick();
	check(posix_create("new", ""), 0);
	check(stat(".", &after), 0);
	ok(newer(after.st_mtim, before.st_mtim));
	before = after;
	tick();
	check(unlink("new"), 0);
	check(stat(".", &after), 0);
	ok(newer(after.st_mtim, before.st_mtim));
	check(utimensat(AT_FDCWD, "f", (struct timespec[2]){{-1, 0}, {-2, 0}}, 0), 0);
	check(stat("f", &after), 0);
	ok(after.st_mtim.tv_sec == -2);
}

void posix_stat(void)
{
	struct statvfs fs;
	struct stat st;
	struct stat other;
	int fd;

	check(posix_create("f", "12345"), 0);
	check(stat("f", &st), 0);
	ok(S_ISREG(st.st_mode) && st.st_size == 5 && st.st_nlink == 1);
	ok(st.st_uid == geteuid());
	check(fd = open("f", O_RDONLY), 0);
	check(fstat(fd, &other), 0);
	ok(st.st_ino == other.st_ino && st.st_dev == other.st_dev);
	close(fd);
	check(mkdir("d", 0755), 0);
	check(stat("d", &other), 0);
	ok(other.st_dev == st.st_dev && other.st_ino != st.st_ino && S_ISDIR(other.st_mode));
	check(stat("d/..", &st), 0);
	check(stat(".", &other), 0);
	ok(st.st_ino == other.st_ino);
	check(statvfs(".", &fs), 0);
	ok(fs.f_bsize > 0 && fs.f_blocks > 0 && fs.f_namemax == 255);
}

void posix_xattr(void)
{
	static char large[3000];
	char buf[4096];
	ssize_t n;

	check(posix_create("f", ""), 0);
	if (setxattr("f", "user.one", "1", 1, 0) < 0 && errno == EOPNOTSUPP) {
		posix_skip("no extended attributes");
		return;
	}
	ok(getxattr("f", "user.one", buf, sizeof(buf)) == 1 && buf[0] == '1');
	ok(getxattr("f", "user.one", NULL, 0) == 1);
	check(getxattr("f", "user.none", buf, sizeof(buf)), ENODATA);
	check(setxattr("f", "user.one", "x", 1, XATTR_CREATE), EEXIST);
	check(setxattr("f", "user.two", "x", 1, XATTR_REPLACE), ENODATA);
	check(setxattr("f", "user.two", "", 0, XATTR_CREATE), 0);
	ok(getxattr("f", "user.two", buf, sizeof(buf)) == 0);
	check(setxattr("f", "user.one", "longer", 6, XATTR_REPLACE), 0);
	check(getxattr("f", "user.one", buf, 3), ERANGE);
	n = listxattr("f", buf, sizeof(buf));
	ok(n == 18 && memmem(buf, (size_t)n, "user.one", 9) != NULL &&
		memmem(buf, (size_t)n, "user.two", 9) != NULL);
	ok(listxattr("f", NULL, 0) == 18);
	check(listxattr("f", buf, 5), ERANGE);
	check(removexattr("f", "user.one"), 0);
	check(removexattr("f", "user.one"), ENODATA);
	memset(large, 'v', sizeof(large));
	check(setxattr("f", "user.large", large, sizeof(large), 0), 0);
	ok(getxattr("f", "user.large", buf, sizeof(buf)) == sizeof(large) &&
		memcmp(buf, large, sizeof(large)) == 0);
	check(mkdir("d", 0755), 0);
	check(setxattr("d", "user.dir", "d", 1, 0), 0);
	ok(getxattr("d", "user.dir", buf, sizeof(buf)) == 1);
	check(symlink("f", "s"), 0);
	check(lsetxattr("s", "user.link", "x", 1, 0), EPERM);
	check(setxattr("f", "nosuchclass.x", "x", 1, 0), EOPNOTSUPP);
	check(rename("f", "g"), 0);
	ok(getxattr("g", "user.two", buf, sizeof(buf)) == 0);
	check(link("g", "h"), 0);
	ok(getxattr("h", "user.large", NULL, 0) == sizeof(large));
}
