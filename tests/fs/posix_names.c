/* SPDX-License-Identifier: ISC */
/* posix: names and directories. See posix.h. */
#include "posix.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <linux/fs.h>

static int rename2(const char *from, const char *to, unsigned flags)
{
	return (int)syscall(SYS_renameat2, AT_FDCWD, from, AT_FDCWD, to, flags);
}

void posix_open(void)
{
	char text[8] = {0};
	int fd;
	int other;

	check(open("none", O_RDONLY), ENOENT);
	check(open("none/none", O_RDONLY | O_CREAT, 0644), ENOENT);
	check(fd = open("a", O_RDWR | O_CREAT | O_EXCL, 0640), 0);
	ok(posix_mode_of("a") == 0640);
	check(open("a", O_RDWR | O_CREAT | O_EXCL, 0640), EEXIST);
	check(write(fd, "hello", 5), 0);
	check(other = open("a", O_RDWR | O_CREAT, 0), 0);
	ok(read(other, text, 8) == 5 && memcmp(text, "hello", 5) == 0);
	close(other);
	check(other = open("a", O_WRONLY | O_TRUNC), 0);
	ok(lseek(fd, 0, SEEK_END) == 0);
	close(other);
	close(fd);

	check(open("a/", O_RDONLY), ENOTDIR);
	check(open("a/b", O_RDONLY), ENOTDIR);
	check(open("a", O_RDONLY | O_DIRECTORY), ENOTDIR);
	check(mkdir("d", 0755), 0);
	check(open("d", O_WRONLY), EISDIR);
	check(open("d", O_RDWR | O_CREAT, 0644), EISDIR);
	check(fd = open("d", O_RDONLY), 0);
	check(read(fd, text, 8), EISDIR);
	close(fd);

	check(fd = open("a", O_RDONLY), 0);
	check(write(fd, "x", 1), EBADF);
	close(fd);
	check(fd = open("a", O_WRONLY), 0);
	check(read(fd, text, 1), EBADF);
	close(fd);

	check(fd = open("secret", O_RDWR | O_CREAT | O_EXCL, 0), 0);
	check(write(fd, "still", 5), 0);
	ok(posix_mode_of("secret") == 0);
	close(fd);

	check(fd = open("log", O_WRONLY | O_CREAT | O_APPEND, 0644), 0);
	check(other = open("log", O_WRONLY | O_APPEND), 0);
	check(write(fd, "one ", 4), 0);
	check(write(other, "two ", 4), 0);
	check(write(fd, "three", 5), 0);
	ok(posix_has("log", "one two three"));
	check(pwrite(fd, "four", 4, 0), 0); /* Linux appends here, too: open(2), BUGS */
	ok(posix_has("log", "one two threefour"));
	close(fd);
	close(other);

	fd = open(".", O_TMPFILE | O_RDWR, 0600);
	if (fd < 0 && errno == EOPNOTSUPP) {
		posix_skip("no O_TMPFILE");
	} else {
		char path[64];

		ok(fd >= 0);
		check(write(fd, "temporary", 9), 0);
		snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
		check(linkat(AT_FDCWD, path, AT_FDCWD, "kept", AT_SYMLINK_FOLLOW), 0);
		ok(posix_has("kept", "temporary"));
		ok(posix_links("kept") == 1);
		close(fd);
	}
	fd = open(".", O_TMPFILE | O_RDWR | O_EXCL, 0600);
	if (fd < 0) {
		posix_skip("no O_TMPFILE");
	} else {
		char path[64];

		snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
		check(linkat(AT_FDCWD, path, AT_FDCWD, "never", AT_SYMLINK_FOLLOW), ENOENT);
		close(fd);
	}

	check(fd = open("a", O_PATH), 0);
	check(read(fd, text, 1), EBADF);
	close(fd);
}

void posix_names(void)
{
	char name[PATH_MAX + 16];
	char path[PATH_MAX + 16];

	memset(name, 'n', sizeof(name));
	name[NAME_MAX] = '\0';
	check(posix_create(name, "long"), 0);
	ok(posix_has(name, "long"));
	check(unlink(name), 0);
	check(mkdir(name, 0755), 0);
	check(rmdir(name), 0);
	check(symlink("x", name), 0);
	check(unlink(name), 0);
	name[NAME_MAX] = 'n';
	name[NAME_MAX + 1] = '\0';
	check(posix_create(name, ""), ENAMETOOLONG);
	check(mkdir(name, 0755), ENAMETOOLONG);
	check(rename(name, "x"), ENAMETOOLONG);
	check(unlink(name), ENAMETOOLONG);
	check(symlink("x", name), ENAMETOOLONG);
	check(access(name, F_OK), ENAMETOOLONG);
	for (size_t i = 0; i < PATH_MAX; i += 2) {
		path[i] = '.';
		path[i + 1] = '/';
	}
	path[PATH_MAX] = '\0';
	check(access(path, F_OK), ENAMETOOLONG);

	check(posix_create("with space \t and \x01 and \xff\xfe", "odd"), 0);
	ok(posix_has("with space \t and \x01 and \xff\xfe", "odd"));
	check(posix_create("...", "dots"), 0);
	ok(posix_has("...", "dots"));
	check(posix_create("\\", "backslash"), 0);
	check(posix_create("-rf", "minus"), 0);
	check(access("", F_OK), ENOENT);
	check(posix_create("Case", "upper"), 0);
	check(access("case", F_OK), ENOENT);
}

void posix_mkdir(void)
{
	ok(posix_links(".") >= 1);
	check(mkdir("a", 0777), 0);
	ok(posix_mode_of("a") == 0755);
	check(mkdir("a", 0777), EEXIST);
	check(mkdir("a/b", 01700), 0);
	ok(posix_mode_of("a/b") == 01700);
	check(mkdir("none/x", 0755), ENOENT);
	check(posix_create("file", ""), 0);
	check(mkdir("file", 0755), EEXIST);
	check(mkdir("file/x", 0755), ENOTDIR);
	check(symlink("nowhere", "dangling"), 0);
	check(mkdir("dangling", 0755), EEXIST);
	check(rmdir("a"), ENOTEMPTY);
	check(rmdir("file"), ENOTDIR);
	check(rmdir("none"), ENOENT);
	check(rmdir("a/b/."), EINVAL);
	check(rmdir("a/b/.."), ENOTEMPTY);
	check(rmdir("a/b/"), 0);
	check(rmdir("a"), 0);
	check(access("a", F_OK), ENOENT);
	check(mkdir("trailing/", 0755), 0);
	check(rmdir("trailing"), 0);
}

void posix_link(void)
{
	struct stat a;
	struct stat b;
	char text[8];
	int fd;

	check(posix_create("a", "linked"), 0);
	check(link("a", "b"), 0);
	ok(posix_links("a") == 2);
	check(stat("a", &a), 0);
	check(stat("b", &b), 0);
	ok(a.st_ino == b.st_ino && a.st_dev == b.st_dev);
	check(link("a", "b"), EEXIST);
	check(link("none", "c"), ENOENT);
	check(link("a", "none/c"), ENOENT);
	check(mkdir("d", 0755), 0);
	check(link("d", "e"), EPERM);
	check(posix_create("b", "LINKED"), 0);
	ok(posix_has("a", "LINKED"));
	check(unlink("a"), 0);
	ok(posix_links("b") == 1);
	ok(posix_has("b", "LINKED"));
	check(link("b", "a"), 0);
	check(unlink("b"), 0);
	check(chmod("a", 0600), 0);
	ok(posix_mode_of("a") == 0600);
	ok(posix_has("a", "LINKED"));

	/* Names come and go while the inode is known by an open file, and by a path only. */
	check(fd = open("a", O_RDWR), 0);
	check(link("a", "d/b"), 0);
	check(unlink("a"), 0);
	check(fstat(fd, &a), 0);
	ok(a.st_nlink == 1);
	check(rename("d/b", "c"), 0);
	check(unlink("c"), 0);
	check(fstat(fd, &a), 0);
	ok(a.st_nlink == 0);
	check(pread(fd, text, 6, 0), 0);
	ok(memcmp(text, "LINKED", 6) == 0);
	check(write(fd, "after", 5), 0);
	check(ftruncate(fd, 3), 0);
	check(fchmod(fd, 0640), 0);
	close(fd);

	check(unlink("none"), ENOENT);
	check(unlink("d"), EISDIR);
	check(symlink("a", "s"), 0);
	check(link("s", "t"), 0);
	check(lstat("t", &a), 0);
	ok(S_ISLNK(a.st_mode) && a.st_nlink == 2);
	check(posix_create("f", ""), 0);
	check(unlink("f/"), ENOTDIR);
}

void posix_rename(void)
{
	struct stat before;
	struct stat after;
	int fd;

	check(posix_create("a", "a"), 0);
	check(posix_create("b", "b"), 0);
	check(stat("a", &before), 0);
	check(rename("a", "c"), 0);
	check(access("a", F_OK), ENOENT);
	check(stat("c", &after), 0);
	ok(before.st_ino == after.st_ino);
	check(fd = open("b", O_RDONLY), 0);
	check(rename("c", "b"), 0);
	ok(posix_has("b", "a"));
	check(fstat(fd, &after), 0);
	ok(after.st_nlink == 0);
	close(fd);
	check(rename("none", "b"), ENOENT);
	check(rename("b", "none/x"), ENOENT);

	check(mkdir("d", 0755), 0);
	check(mkdir("e", 0755), 0);
	check(posix_create("e/f", "f"), 0);
	check(rename("b", "d"), EISDIR);
	check(rename("d", "b"), ENOTDIR);
	check(rename("d", "d/sub"), EINVAL);
	check(rename("d", "e"), ENOTEMPTY);
	check(rename("e", "d"), 0);
	ok(posix_has("d/f", "f"));
	check(access("e", F_OK), ENOENT);
	check(rename("d/f", "d/g"), 0);
	ok(posix_has("d/g", "f"));
	check(rename("d/g", "d/g"), 0);

	/* Two names of one file: nothing happens. */
	check(link("b", "b2"), 0);
	check(rename("b", "b2"), 0);
	ok(posix_links("b") == 2 && posix_links("b2") == 2);

	/* What is below a moved directory moves along. */
	check(mkdir("d/deep", 0755), 0);
	check(posix_create("d/deep/x", "x"), 0);
	check(fd = open("d/deep", O_RDONLY | O_DIRECTORY), 0);
	check(mkdir("m", 0755), 0);
	check(rename("d", "m/d"), 0);
	ok(posix_has("m/d/deep/x", "x"));
	check(faccessat(fd, "x", F_OK, 0), 0);
	check(mkdirat(fd, "new", 0755), 0);
	check(access("m/d/deep/new", F_OK), 0);
	close(fd);

	check(posix_create("p", "p"), 0);
	check(posix_create("q", "q"), 0);
	check(rename2("p", "q", RENAME_NOREPLACE), EEXIST);
	ok(posix_has("p", "p") && posix_has("q", "q"));
	check(rename2("p", "r", RENAME_NOREPLACE), 0);
	ok(posix_has("r", "p"));
	check(rename2("r", "q", RENAME_EXCHANGE), 0);
	ok(posix_has("r", "q") && posix_has("q", "p"));
	check(rename2("r", "m", RENAME_EXCHANGE), 0);
	ok(posix_has("m", "q") && posix_has("r/d/deep/x", "x"));
	check(rename2("r", "none", RENAME_EXCHANGE), ENOENT);
	check(rename2("r", "m", RENAME_EXCHANGE | RENAME_NOREPLACE), EINVAL);
	check(rename2("r", "r/d/deep", RENAME_EXCHANGE), EINVAL);
}

void posix_symlink(void)
{
	char target[PATH_MAX];
	char text[PATH_MAX];
	struct stat st;

	check(symlink("target", "s"), 0);
	ok(readlink("s", text, sizeof(text)) == 6 && memcmp(text, "target", 6) == 0);
	ok(readlink("s", text, 3) == 3);
	check(lstat("s", &st), 0);
	ok(S_ISLNK(st.st_mode) && st.st_size == 6);
	check(stat("s", &st), ENOENT);
	check(symlink("other", "s"), EEXIST);
	check(symlink("", "empty"), ENOENT);
	check(posix_create("s", "through"), 0);
	ok(posix_has("target", "through"));
	check(open("s", O_RDONLY | O_NOFOLLOW), ELOOP);
	check(open("s", O_RDONLY | O_CREAT | O_EXCL, 0644), EEXIST);
	check(readlink("target", text, sizeof(text)), EINVAL);
	check(symlink("two", "one"), 0);
	check(symlink("one", "two"), 0);
	check(open("one", O_RDONLY), ELOOP);
	check(chdir("one"), ELOOP);
	memset(target, 't', sizeof(target));
	target[PATH_MAX - 1] = '\0';
	check(symlink(target, "long"), 0);
	ok(readlink("long", text, sizeof(text)) == PATH_MAX - 1);
	ok(memcmp(text, target, PATH_MAX - 1) == 0);
	check(mkdir("d", 0755), 0);
	check(posix_create("d/f", "in d"), 0);
	check(symlink("d", "to-d"), 0);
	ok(posix_has("to-d/f", "in d"));
	check(rmdir("to-d"), ENOTDIR);
	check(unlink("to-d"), 0);
	check(symlink("../symlink/d/f", "up"), 0);
	ok(posix_has("up", "in d"));
	check(rename("up", "up2"), 0);
	ok(readlink("up2", text, sizeof(text)) == 14);
}

static int write_fifo(void)
{
	int fd = open("fifo", O_WRONLY);

	return fd >= 0 && write(fd, "through", 7) == 7 ? 0 : 1;
}

void posix_special(void)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX, .sun_path = "socket"};
	char text[8];
	struct stat st;
	pid_t pid;
	int server;
	int client;
	int fd;

	check(mkfifo("fifo", 0622), 0);
	ok(posix_mode_of("fifo") == 0600);
	check(mkfifo("fifo", 0600), EEXIST);
	check(lstat("fifo", &st), 0);
	ok(S_ISFIFO(st.st_mode));
	check(open("fifo", O_WRONLY | O_NONBLOCK), ENXIO);
	fflush(stdout);
	pid = fork();
	if (pid == 0) {
		_exit(write_fifo());
	}
	check(fd = open("fifo", O_RDONLY), 0);
	ok(read(fd, text, 7) == 7 && memcmp(text, "through", 7) == 0);
	close(fd);
	waitpid(pid, NULL, 0);
	check(rename("fifo", "fifo2"), 0);
	check(chmod("fifo2", 0640), 0);
	ok(posix_mode_of("fifo2") == 0640);
	check(unlink("fifo2"), 0);

	check(server = socket(AF_UNIX, SOCK_STREAM, 0), 0);
	check(bind(server, (struct sockaddr *)&address, sizeof(address)), 0);
	check(lstat("socket", &st), 0);
	ok(S_ISSOCK(st.st_mode));
	check(open("socket", O_RDONLY), ENXIO);
	check(listen(server, 1), 0);
	check(client = socket(AF_UNIX, SOCK_STREAM, 0), 0);
	check(connect(client, (struct sockaddr *)&address, sizeof(address)), 0);
	close(client);
	close(server);
	check(connect(socket(AF_UNIX, SOCK_STREAM, 0), (struct sockaddr *)&address,
		      sizeof(address)),
		ECONNREFUSED);
	check(unlink("socket"), 0);
	check(mknod("regular", S_IFREG | 0640, 0), 0);
	ok(posix_mode_of("regular") == 0640);
	check(mknod("directory", S_IFDIR | 0755, 0), EPERM);
}

void posix_deleted(void)
{
	char path[PATH_MAX];
	struct stat st;
	int dir;
	int fd;

	check(mkdir("gone", 0755), 0);
	check(dir = open("gone", O_RDONLY | O_DIRECTORY), 0);
	check(chdir("gone"), 0);
	check(rmdir("../gone"), 0);
	check(fstat(dir, &st), 0);
	ok(st.st_nlink == 0 || st.st_nlink == 1); /* btrfs says 1 */
	check(stat(".", &st), 0);
	check(openat(dir, "x", O_RDWR | O_CREAT, 0644), ENOENT);
	check(mkdir("x", 0755), ENOENT);
	check(access("x", F_OK), ENOENT);
	ok(getcwd(path, sizeof(path)) == NULL && errno == ENOENT);
	check(fchdir(dir), 0);
	close(dir);
	check(chdir(".."), 0);

	/* A path descriptor of a file with a further name. */
	check(posix_create("a", "text"), 0);
	check(link("a", "b"), 0);
	check(fd = open("a", O_PATH), 0);
	check(unlink("a"), 0);
	check(fstat(fd, &st), 0);
	ok(st.st_nlink == 1);
	check(posix_create("a", "another"), 0);
	check(fstat(fd, &st), 0);
	ok(st.st_nlink == 1 && st.st_size == 4);
	close(fd);

	/* A name used anew is another file. */
	check(posix_create("again", "1"), 0);
	check(fd = open("again", O_RDONLY), 0);
	check(unlink("again"), 0);
	check(posix_create("again", "22"), 0);
	check(fstat(fd, &st), 0);
	ok(st.st_size == 1);
	ok(posix_has("again", "22"));
	close(fd);
}
