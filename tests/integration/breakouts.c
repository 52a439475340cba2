/* SPDX-License-Identifier: ISC */
/*
 * Tries to reach what a policy forbids in a directory: breakouts DIR. In DIR is a file `secret`.
 * Each way leads to DIR by another road than its name, and then reads the secret, and makes a file;
 * or it takes the secret itself elsewhere. Prints a line for each that worked, and exits with 1 if
 * any did. For boxes: mounts where it may.
 */
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { PATH_SIZE = 8192, RACE_SECONDS = 2 };

#define DIRECTORY (O_PATH | O_DIRECTORY)

static bool reads(int dir, const char *name)
{
	char byte;
	int fd = openat(dir, name, O_RDONLY);
	bool yes = fd >= 0 && read(fd, &byte, 1) == 1;

	if (fd >= 0) {
		close(fd);
	}
	return yes;
}

static int open_f(const char *fmt, const char *a, const char *b)
{
	char path[PATH_SIZE];

	snprintf(path, sizeof(path), fmt, a, b);
	return open(path, DIRECTORY);
}

/* Ways to the directory. Return: a descriptor of it, or -1. */

static int by_name(const char *dir)
{
	return open(dir, DIRECTORY);
}

static int by_dotdot(const char *dir)
{
	char copy[PATH_SIZE];

	snprintf(copy, sizeof(copy), "%s", dir);
	return open_f("%s/./..//%s", dir, basename(copy));
}

static int by_symlink(const char *dir)
{
	unlink("symlink");
	return symlink(dir, "symlink") < 0 ? -1 : open("symlink/.", DIRECTORY);
}

static int by_proc_root(const char *dir)
{
	return open_f("/proc/self/root%s%s", dir, "");
}

static int by_init_root(const char *dir)
{
	return open_f("/proc/1/root%s%s", dir, "");
}

static int by_proc_cwd(const char *dir)
{
	int here = open(".", DIRECTORY);
	int fd = chdir(dir) < 0 ? -1 : open("/proc/self/cwd/.", DIRECTORY);

	return fchdir(here) < 0 ? -1 : fd;
}

static int by_other_process(const char *dir)
{
	int held = open(dir, DIRECTORY);
	char path[PATH_SIZE];
	pid_t child = fork();
	int fd;

	if (child == 0) {
		pause();
		_exit(0);
	}
	snprintf(path, sizeof(path), "/proc/%d/fd/%d", (int)child, held);
	fd = open(path, DIRECTORY);
	kill(child, SIGKILL);
	waitpid(child, NULL, 0);
	return fd;
}

static int by_handle(const char *dir)
{
	union {
		struct file_handle handle;
		char room[sizeof(struct file_handle) + MAX_HANDLE_SZ];
	} of = {.handle = {.handle_bytes = MAX_HANDLE_SZ}};
	int mount_id;
	int mount = open(".", O_RDONLY | O_DIRECTORY);

	if (name_to_handle_at(AT_FDCWD, dir, &of.handle, &mount_id, 0) < 0) {
		return -1;
	}
	return open_by_handle_at(mount, &of.handle, O_RDONLY | O_DIRECTORY);
}

static int by_bind(const char *dir)
{
	mkdir("bind", 0700);
	return unshare(CLONE_NEWNS) < 0 || mount(dir, "bind", NULL, MS_BIND, NULL) < 0
		? -1
		: open("bind", DIRECTORY);
}

static int by_user_namespace(const char *dir)
{
	return unshare(CLONE_NEWUSER) < 0 ? -1 : by_bind(dir);
}

/* All that the monitor serves, by its tag. */
static int by_mounting_again(const char *dir)
{
	char copy[PATH_SIZE];

	snprintf(copy, sizeof(copy), "%s", dir);
	mkdir("again", 0700);
	return unshare(CLONE_NEWNS) < 0 || mount("hako", "again", "virtiofs", 0, NULL) < 0
		? -1
		: open_f("again/v0/%s%s", basename(copy), "");
}

static int by_overlay(const char *dir)
{
	char options[PATH_SIZE + 16];

	snprintf(options, sizeof(options), "lowerdir=%s:/usr/lib", dir);
	mkdir("/tmp/overlay", 0700);
	return unshare(CLONE_NEWNS) < 0 || mount("x", "/tmp/overlay", "overlay", 0, options) < 0
		? -1
		: open("/tmp/overlay", DIRECTORY);
}

static int by_chroot(const char *dir)
{
	return chroot(dir) < 0 ? -1 : open("/", DIRECTORY);
}

static int by_renaming(const char *dir)
{
	return rename(dir, "moved") < 0 ? -1 : open("moved", DIRECTORY);
}

/* Where `there` leads to changes all the time between a directory of ours and the forbidden one. */
static atomic_bool race_is_over;

static void *swap(void *arg)
{
	while (!race_is_over) {
		syscall(SYS_renameat2, AT_FDCWD, "there", AT_FDCWD, "other", 1 << 1 /* EXCHANGE */);
	}
	return NULL;
}

static int by_race(const char *dir)
{
	time_t end = time(NULL) + RACE_SECONDS;
	pthread_t thread;
	int found = -1;
	int ours;

	mkdir("there", 0700);
	unlink("other");
	if (symlink(dir, "other") < 0 || pthread_create(&thread, NULL, swap, NULL) != 0) {
		return -1;
	}
	ours = open("there/ours", O_WRONLY | O_CREAT, 0600);
	while (found < 0 && time(NULL) < end) {
		int fd = open("there/.", DIRECTORY);

		if (reads(AT_FDCWD, "there/secret")) {
			printf("race: read by its path\n");
			found = fd;
		} else if (fd >= 0 && reads(fd, "secret")) {
			found = fd;
		} else if (fd >= 0) {
			close(fd);
		}
	}
	race_is_over = true;
	pthread_join(thread, NULL);
	close(ours);
	return found;
}

/* Ways to the secret itself. Return: a directory and, by way of @name, what it is called there. */

static int take_link(const char *dir, const char **name)
{
	int fd = open(dir, DIRECTORY);

	*name = "linked";
	unlink("linked");
	return linkat(fd, "secret", AT_FDCWD, "linked", 0) < 0 ? -1 : AT_FDCWD;
}

static int take_proc_link(const char *dir, const char **name)
{
	int fd = openat(open(dir, DIRECTORY), "secret", O_PATH);
	char path[64];

	*name = "proc-linked";
	unlink("proc-linked");
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	return fd < 0 || linkat(AT_FDCWD, path, AT_FDCWD, "proc-linked", AT_SYMLINK_FOLLOW) < 0
		? -1
		: AT_FDCWD;
}

static int take_rename(const char *dir, const char **name)
{
	*name = "renamed";
	return renameat(open(dir, DIRECTORY), "secret", AT_FDCWD, "renamed") < 0 ? -1 : AT_FDCWD;
}

/* The disk with the files, if a node leads to it. */
static int take_device(const char *dir, const char **name)
{
	struct stat st;

	*name = "device";
	unlink("device");
	return stat(dir, &st) < 0 || mknod("device", S_IFBLK | 0600, st.st_dev) < 0 ? -1 : AT_FDCWD;
}

static const struct {
	const char *name;
	int (*reach)(const char *dir);
	int (*take)(const char *dir, const char **name);
} ways[] = {
	{"name", by_name, NULL},
	{"dotdot", by_dotdot, NULL},
	{"symlink", by_symlink, NULL},
	{"proc-root", by_proc_root, NULL},
	{"init-root", by_init_root, NULL},
	{"proc-cwd", by_proc_cwd, NULL},
	{"other-process", by_other_process, NULL},
	{"handle", by_handle, NULL},
	{"bind", by_bind, NULL},
	{"user-namespace", by_user_namespace, NULL},
	{"mounting-again", by_mounting_again, NULL},
	{"overlay", by_overlay, NULL},
	{"chroot", by_chroot, NULL},
	{"race", by_race, NULL},
	{"link", NULL, take_link},
	{"proc-link", NULL, take_proc_link},
	{"rename", NULL, take_rename},
	{"device", NULL, take_device},
	{"rename-directory", by_renaming, NULL},
};

/* In a process of its own, as some ways change the process. Return: 1 if it worked. */
static int try_way(size_t i, const char *dir)
{
	const char *name = "secret";
	char made[64];
	int fd = ways[i].reach != NULL ? ways[i].reach(dir) : ways[i].take(dir, &name);
	int worked = 0;

	if (fd < 0 && fd != AT_FDCWD) {
		fprintf(stderr, "%s: not reached: %s\n", ways[i].name, strerror(errno));
		return 0;
	}
	if (reads(fd, name)) {
		printf("%s: read\n", ways[i].name);
		worked = 1;
	}
	if (ways[i].reach != NULL) {
		snprintf(made, sizeof(made), "made-by-%s", ways[i].name);
		if (openat(fd, made, O_WRONLY | O_CREAT, 0600) >= 0) {
			printf("%s: written\n", ways[i].name);
			worked = 1;
		}
	}
	return worked;
}

int main(int argc, char **argv)
{
	int worked = 0;

	if (argc != 2) {
		return 2;
	}
	setvbuf(stdout, NULL, _IOLBF, 0);
	for (size_t i = 0; i < sizeof(ways) / sizeof(ways[0]); i++) {
		int status = -1;
		pid_t child = fork();

		if (child == 0) {
			_exit(try_way(i, argv[1]));
		}
		waitpid(child, &status, 0);
		if (!WIFEXITED(status)) {
			printf("%s: ended by signal %d\n", ways[i].name, WTERMSIG(status));
		}
		worked |= status != 0;
	}
	return worked;
}
