/* SPDX-License-Identifier: ISC */
/*
 * posix: the frame; see posix.h.
 *
 *	posix DIRECTORY [GROUP]...
 *
 * Makes a directory of its own in DIRECTORY and removes it in the end. Exit status: 0 if all checks
 * hold, 1 if not.
 */
#include "posix.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static const struct {
	const char *name;
	void (*run)(void);
} groups[] = {
	{"open", posix_open},
	{"names", posix_names},
	{"mkdir", posix_mkdir},
	{"link", posix_link},
	{"rename", posix_rename},
	{"symlink", posix_symlink},
	{"special", posix_special},
	{"deleted", posix_deleted},
	{"mode", posix_mode},
	{"owner", posix_owner},
	{"truncate", posix_truncate},
	{"times", posix_times},
	{"stat", posix_stat},
	{"xattr", posix_xattr},
	{"space", posix_space},
	{"copy", posix_copy},
	{"data", posix_data},
	{"mmap", posix_mmap},
	{"fcntl_locks", posix_fcntl_locks},
	{"flock", posix_flock},
	{"ofd_locks", posix_ofd_locks},
	{"watch", posix_watch},
	{"readdir", posix_readdir},
	{"deep", posix_deep},
};

static const char *group;
static unsigned count;
static unsigned failures;

bool posix_ok(bool condition, const char *fmt, ...)
{
	va_list args;

	printf("%s %u - %s: ", condition ? "ok" : "not ok", ++count, group);
	va_start(args, fmt);
	vprintf(fmt, args);
	va_end(args);
	printf("\n");
	failures += !condition;
	return condition;
}

long posix_check(const char *call, long result, int want)
{
	int got = result < 0 ? errno : 0;

	if (got == want) {
		posix_ok(true, "%s: %s", call, want == 0 ? "done" : strerror(want));
	} else {
		posix_ok(false, "%s: %s", call, want == 0 ? "done" : strerror(want));
		printf("# got: %s\n", got == 0 ? "done" : strerror(got));
	}
	return result;
}

void posix_skip(const char *why)
{
	printf("ok %u - %s # SKIP %s\n", ++count, group, why);
}

int posix_create(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0644);
	ssize_t n;

	if (fd < 0) {
		return -1;
	}
	n = write(fd, text, strlen(text));
	return close(fd) == 0 && n == (ssize_t)strlen(text) ? 0 : -1;
}

bool posix_has(const char *path, const char *text)
{
	char buf[4096];
	int fd = open(path, O_RDONLY);
	ssize_t n;

	if (fd < 0) {
		return false;
	}
	n = read(fd, buf, sizeof(buf));
	close(fd);
	return n == (ssize_t)strlen(text) && memcmp(buf, text, (size_t)n) == 0;
}

mode_t posix_mode_of(const char *path)
{
	struct stat st;

	return lstat(path, &st) == 0 ? st.st_mode & 07777 : (mode_t)-1;
}

nlink_t posix_links(const char *path)
{
	struct stat st;

	return lstat(path, &st) == 0 ? st.st_nlink : 0;
}

int posix_child(int (*body)(void))
{
	int status;
	pid_t pid;

	fflush(stdout);
	pid = fork();
	if (pid == 0) {
		_exit(body());
	}
	if (pid < 0 || waitpid(pid, &status, 0) != pid || !WIFEXITED(status)) {
		return -1;
	}
	return WEXITSTATUS(status);
}

static void run_group(unsigned i, const char *base)
{
	group = groups[i].name;
	if (chdir(base) < 0 || mkdir(group, 0755) < 0 || chdir(group) < 0) {
		posix_ok(false, "a directory for the group");
		return;
	}
	groups[i].run();
	fflush(stdout);
}

int main(int argc, char **argv)
{
	char base[4096];
	char command[4200];

	if (argc < 2 || chdir(argv[1]) < 0) {
		fprintf(stderr, "usage: posix DIRECTORY [GROUP]...\n");
		return 2;
	}
	umask(022);
	setvbuf(stdout, NULL, _IOLBF, 0);
	snprintf(base, sizeof(base), "posix-XXXXXX");
	if (mkdtemp(base) == NULL || chmod(base, 0755) < 0 || chdir(base) < 0 ||
		getcwd(base, sizeof(base)) == NULL) {
		perror("posix");
		return 2;
	}
	for (unsigned i = 0; i < sizeof(groups) / sizeof(groups[0]); i++) {
		bool wanted = argc == 2;

		for (int a = 2; a < argc; a++) {
			wanted = wanted || strcmp(argv[a], groups[i].name) == 0;
		}
		if (wanted) {
			run_group(i, base);
		}
	}
	group = "end";
	snprintf(command, sizeof(command), "rm -rf '%s'", base);
	ok(chdir("/") == 0);
	ok(system(command) == 0);
	printf("1..%u\n", count);
	return failures == 0 ? 0 : 1;
}
