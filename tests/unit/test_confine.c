/* SPDX-License-Identifier: ISC */
/* Confinement, in children that give everything up and then try what is forbidden. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/str.h"
#include "base/util.h"
#include "box/confine.h"
#include "box/confine_impl_linux.h"
#include "fuse/backend.h"

/* What is opened before the confinement, as the file server does it. */
static struct place {
	char path[64];
	char ro[80], rw[80], elsewhere[80];
	int ro_fd, rw_fd, elsewhere_fd, proc_fd;
} place;

static void make_file(const char *dir)
{
	char path[96];
	FILE *file;

	assert_int_equal(mkdir(dir, 0755), 0);
	hk_fmt(path, sizeof(path), "%s/file", dir);
	file = fopen(path, "w");
	assert_non_null(file);
	fputs("data", file);
	fclose(file);
}

static int set_up(void **state)
{
	struct place *p = &place;

	hk_fmt(p->path, sizeof(p->path), "/tmp/hako-test-XXXXXX");
	assert_non_null(mkdtemp(p->path));
	hk_fmt(p->ro, sizeof(p->ro), "%s/ro", p->path);
	hk_fmt(p->rw, sizeof(p->rw), "%s/rw", p->path);
	hk_fmt(p->elsewhere, sizeof(p->elsewhere), "%s/elsewhere", p->path);
	make_file(p->ro);
	make_file(p->rw);
	make_file(p->elsewhere);
	p->ro_fd = open(p->ro, O_PATH | O_CLOEXEC);
	p->rw_fd = open(p->rw, O_PATH | O_CLOEXEC);
	p->elsewhere_fd = open(p->elsewhere, O_PATH | O_CLOEXEC);
	return 0;
}

static int tear_down(void **state)
{
	char command[96];

	hk_fmt(command, sizeof(command), "rm -r '%s'", place.path);
	return system(command);
}

/* What a child finds: 0 or more as the call gave it, or -errno. */
typedef int probe_fn(void);

static int result(long r)
{
	return r < 0 ? -errno : 0;
}

static int at(int dir, const char *name, int flags)
{
	return result(openat(dir, name, flags | O_CLOEXEC, 0600));
}

static int read_ro(void)
{
	return at(place.ro_fd, "file", O_RDONLY);
}

static int list_ro(void)
{
	return at(place.ro_fd, ".", O_RDONLY | O_DIRECTORY);
}

static int reopen_ro(void)
{
	char name[12];
	int fd = openat(place.ro_fd, "file", O_PATH);

	hk_fmt(name, sizeof(name), "%d", fd);
	return at(place.proc_fd, name, O_RDONLY);
}

static int write_ro(void)
{
	return at(place.ro_fd, "file", O_WRONLY);
}

static int create_ro(void)
{
	return at(place.ro_fd, "new", O_WRONLY | O_CREAT | O_EXCL);
}

static int write_rw(void)
{
	return at(place.rw_fd, "file", O_RDWR | O_TRUNC);
}

static int create_rw(void)
{
	return at(place.rw_fd, "new", O_WRONLY | O_CREAT | O_EXCL);
}

static int tmpfile_rw(void)
{
	return at(place.rw_fd, ".", O_WRONLY | O_TMPFILE);
}

static int move_rw(void)
{
	int r = result(mkdirat(place.rw_fd, "dir", 0755));

	return r < 0
		? r
		: result(syscall(SYS_renameat2, place.rw_fd, "file", place.rw_fd, "dir/file", 0));
}

static int read_elsewhere(void)
{
	return at(place.elsewhere_fd, "file", O_RDONLY);
}

static int read_passwd(void)
{
	return at(AT_FDCWD, "/etc/passwd", O_RDONLY);
}

static int change_mode(void)
{
	return result(fchmodat(place.rw_fd, "file", 0644, 0));
}

static int connect_out(void)
{
	return result(socket(AF_INET, SOCK_STREAM, 0));
}

static int make_pair(void)
{
	int pair[2];

	return result(socketpair(AF_UNIX, SOCK_STREAM, 0, pair));
}

static int trace(void)
{
	return result(ptrace(PTRACE_TRACEME, 0, NULL, NULL));
}

static int execute(void)
{
	char *argv[] = {(char *)"true", NULL};

	return result(execv("/bin/true", argv));
}

static int fork_off(void)
{
	pid_t child = (pid_t)syscall(SYS_fork);

	if (child == 0) {
		_exit(0);
	}
	return result(child);
}

static int ring(void)
{
	return result(syscall(SYS_io_uring_setup, 1, NULL));
}

static int signal_parent(void)
{
	return result(kill(getppid(), SIGCONT));
}

static int signal_self(void)
{
	return result(raise(SIGCONT));
}

static int make_code(void)
{
	void *p = mmap(
		NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	return p == MAP_FAILED ? -errno : 0;
}

static int type_for_user(void)
{
	return result(ioctl(STDIN_FILENO, TIOCSTI, "x"));
}

static int ask_clone3(void)
{
	return result(syscall(SYS_clone3, NULL, 0));
}

static int ask_future(void)
{
	return result(syscall(4095));
}

static void *run_probe(void *arg)
{
	probe_fn **probe = arg;

	return (void *)(intptr_t)(*probe)();
}

static int in_thread(probe_fn *probe)
{
	pthread_t thread;
	void *r;

	if (pthread_create(&thread, NULL, run_probe, &probe) != 0 ||
		pthread_join(thread, &r) != 0) {
		return -ENOTRECOVERABLE;
	}
	return (int)(intptr_t)r;
}

enum { KILLED = -5000, NOT_CONFINED, ASLEEP_S = 20 };

static const struct hk_confine_needs *needs_of(bool writable)
{
	static struct hk_confine_tree trees[2];
	static struct hk_confine_needs needs;

	trees[0] = (struct hk_confine_tree){.path = place.ro};
	trees[1] = (struct hk_confine_tree){.path = place.rw, .writable = true};
	needs = (struct hk_confine_needs){.trees = trees, .tree_count = writable ? 2 : 1};
	return &needs;
}

/* Runs @probe in a confined child. Return: what it found, KILLED or NOT_CONFINED. */
static int confined(probe_fn *probe, bool writable, bool thread)
{
	char text[HK_CONFINE_TEXT_SIZE];
	int status;
	int fds[2];
	int r = NOT_CONFINED;
	pid_t child;

	assert_int_equal(pipe(fds), 0);
	child = fork();
	if (child == 0) {
		alarm(ASLEEP_S);
		place.proc_fd = open("/proc/self/fd", O_PATH | O_CLOEXEC);
		if (hk_confine(needs_of(writable), text, NULL) == 0) {
			r = thread ? in_thread(probe) : probe();
		}
		(void)!write(fds[1], &r, sizeof(r));
		_exit(0);
	}
	close(fds[1]);
	if (read(fds[0], &r, sizeof(r)) != sizeof(r)) {
		r = KILLED;
	}
	close(fds[0]);
	assert_int_equal(waitpid(child, &status, 0), child);
	if (r == KILLED) {
		assert_true(WIFSIGNALED(status));
		assert_int_equal(WTERMSIG(status), SIGSYS);
	}
	return r;
}

static const struct row {
	const char *name;
	probe_fn *probe;
	int without_write; /* result where nothing is writable */
	int with_write;
	enum { BOTH, LANDLOCK, SECCOMP } by;
} rows[] = {
	{"read ro", read_ro, 0, 0, BOTH},
	{"list ro", list_ro, 0, 0, BOTH},
	{"reopen ro", reopen_ro, 0, 0, BOTH},
	{"write ro", write_ro, -EACCES, -EACCES, LANDLOCK},
	{"create ro", create_ro, -EACCES, -EACCES, LANDLOCK},
	{"create rw", create_rw, -EACCES, 0, LANDLOCK},
	{"tmpfile rw", tmpfile_rw, -EACCES, 0, LANDLOCK},
	{"write rw", write_rw, -EACCES, 0, LANDLOCK},
	{"move rw", move_rw, -EPERM, 0, SECCOMP},
	{"read elsewhere", read_elsewhere, -EACCES, -EACCES, LANDLOCK},
	{"read passwd", read_passwd, -EACCES, -EACCES, LANDLOCK},
	{"change mode", change_mode, -EPERM, 0, SECCOMP},
	{"socket", connect_out, -EPERM, -EPERM, SECCOMP},
	{"socketpair", make_pair, 0, 0, BOTH},
	{"ptrace", trace, KILLED, KILLED, SECCOMP},
	{"execute", execute, KILLED, KILLED, SECCOMP},
	{"fork", fork_off, KILLED, KILLED, SECCOMP},
	{"io_uring", ring, KILLED, KILLED, SECCOMP},
	{"signal to the parent", signal_parent, -EPERM, -EPERM, SECCOMP},
	{"signal to itself", signal_self, 0, 0, BOTH},
	{"code", make_code, -EPERM, -EPERM, SECCOMP},
	{"TIOCSTI", type_for_user, -EPERM, -EPERM, SECCOMP},
	{"clone3", ask_clone3, -ENOSYS, -ENOSYS, SECCOMP},
	{"a call of the future", ask_future, -ENOSYS, -ENOSYS, BOTH},
};

/* Is what decides @row there, so that its result can be expected? */
static bool is_expected(const struct row *row)
{
	if (row->by == LANDLOCK && hk_landlock_abi() < 2) {
		print_message("no Landlock here: %s not tested\n", row->name);
		return false;
	}
	if (row->by == SECCOMP && !hk_seccomp_offered()) {
		print_message("no seccomp here: %s not tested\n", row->name);
		return false;
	}
	return true;
}

static void check_row(const struct row *row, bool writable, bool thread)
{
	int expected = writable ? row->with_write : row->without_write;
	int got = confined(row->probe, writable, thread);

	/* Where there is nothing but the empty view, a path does not even exist. */
	if (row->probe == read_passwd && got == -ENOENT && geteuid() == 0) {
		return;
	}
	if (row->probe == tmpfile_rw && got == -EOPNOTSUPP) {
		print_message("no nameless files here: not tested\n");
		return;
	}
	if (got != expected) {
		fail_msg("%s (%s%s): %d, not %d", row->name, writable ? "with writing" : "reading",
			thread ? ", in a thread" : "", got, expected);
	}
}

static void undo_writes(void)
{
	unlinkat(place.rw_fd, "new", 0);
	if (renameat(place.rw_fd, "dir/file", place.rw_fd, "file") == 0) {
		unlinkat(place.rw_fd, "dir", AT_REMOVEDIR);
	}
}

static void check_all(bool writable, bool thread)
{
	for (size_t i = 0; i < HK_ARRAY_SIZE(rows); i++) {
		if (is_expected(&rows[i])) {
			check_row(&rows[i], writable, thread);
		}
		undo_writes();
	}
}

static void test_reading(void **state)
{
	check_all(false, false);
}

static void test_writing(void **state)
{
	check_all(true, false);
}

static void test_later_threads(void **state)
{
	check_all(false, true);
	check_all(true, true);
}

/* Without confinement all of it works: so the rows above test something. */
static void test_unconfined(void **state)
{
	assert_int_equal(read_elsewhere(), 0);
	assert_int_equal(write_ro(), 0);
	assert_int_equal(connect_out(), 0);
	assert_int_equal(make_code(), 0);
	assert_int_equal(signal_self(), 0);
	assert_int_equal(change_mode(), 0);
	assert_int_not_equal(ask_clone3(), -ENOSYS);
}

/* The filter does not allow to ask, so the kernel is asked from outside. */
static unsigned long long capabilities_of(pid_t pid, const char *label)
{
	char path[32];
	char line[128];
	unsigned long long set = 0;
	FILE *file;

	hk_fmt(path, sizeof(path), "/proc/%d/status", pid);
	file = fopen(path, "r");
	assert_non_null(file);
	while (fgets(line, sizeof(line), file) != NULL) {
		if (strncmp(line, label, strlen(label)) == 0) {
			set = strtoull(line + strlen(label), NULL, 16);
		}
	}
	fclose(file);
	return set;
}

static void check_capabilities(const struct hk_confine_needs *needs, unsigned long long allowed)
{
	char text[HK_CONFINE_TEXT_SIZE];
	char byte = 'n';
	int up[2];
	int down[2];
	pid_t child;

	assert_int_equal(pipe(up), 0);
	assert_int_equal(pipe(down), 0);
	child = fork();
	if (child == 0) {
		alarm(ASLEEP_S);
		byte = hk_confine(needs, text, NULL) == 0 ? 'y' : 'n';
		(void)!write(up[1], &byte, 1);
		(void)!read(down[0], &byte, 1);
		_exit(0);
	}
	assert_int_equal(read(up[0], &byte, 1), 1);
	assert_int_equal(byte, 'y');
	assert_int_equal(capabilities_of(child, "CapPrm:") & ~allowed, 0);
	assert_int_equal(capabilities_of(child, "CapEff:") & ~allowed, 0);
	assert_int_equal(capabilities_of(child, "CapInh:"), 0);
	assert_int_equal(capabilities_of(child, "CapAmb:"), 0);
	assert_int_equal(capabilities_of(child, "NoNewPrivs:"), 1);
	assert_int_equal(write(down[1], "", 1), 1);
	assert_int_equal(waitpid(child, NULL, 0), child);
	for (int i = 0; i < 2; i++) {
		close(up[i]);
		close(down[i]);
	}
}

static void test_capabilities(void **state)
{
	struct hk_confine_tree public = {.path = place.ro, .is_public = true};
	unsigned long long read_all = 1ull << CAP_DAC_READ_SEARCH;
	unsigned long long act_for_others = read_all | 1ull << CAP_CHOWN |
		1ull << CAP_DAC_OVERRIDE | 1ull << CAP_FOWNER | 1ull << CAP_FSETID |
		1ull << CAP_SETFCAP | 1ull << CAP_SETGID | 1ull << CAP_SETUID;

	check_capabilities(&(struct hk_confine_needs){.trees = &public, .tree_count = 1}, 0);
	check_capabilities(needs_of(false), read_all);
	check_capabilities(needs_of(true), act_for_others);
}

/* A device that everybody may open, where devices work. */
static int make_node(void)
{
	return result(mknodat(place.rw_fd, "null", S_IFCHR | 0666, makedev(1, 3)));
}

static int make_block(void)
{
	return result(mknodat(place.rw_fd, "block", S_IFBLK | 0600, makedev(7, 0)));
}

static int open_node(void)
{
	return at(place.rw_fd, "null", O_RDONLY);
}

static int in_child(probe_fn *probe, const struct hk_confine_needs *needs)
{
	char text[HK_CONFINE_TEXT_SIZE];
	int status;
	pid_t child = fork();

	if (child == 0) {
		alarm(ASLEEP_S);
		_exit(hk_confine(needs, text, NULL) == 0 ? -probe() : 255);
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	return WIFEXITED(status) ? -WEXITSTATUS(status) : KILLED;
}

static void test_device_nodes(void **state)
{
	struct hk_err err = HK_ERR_INIT;
	struct hk_confine_needs needs = *needs_of(true);
	struct hk_backend *backend;
	int plain_fd = place.rw_fd;
	int r;

	r = in_child(make_node, &needs);
	assert_true(r == -EPERM || r == -EACCES);
	r = hk_host_open_nodev(place.rw, &backend, &err);
	if (r < 0) {
		print_message("no mounts here: %s\n", hk_err_text(&err));
		return;
	}
	place.rw_fd = backend->root;
	needs.nodev = true;
	assert_int_equal(in_child(make_node, &needs), 0);
	assert_int_equal(in_child(make_block, &needs), 0);
	assert_int_equal(in_child(open_node, &needs), -EACCES);
	assert_int_equal(in_child(write_rw, &needs), 0);
	backend->ops->destroy(backend);
	place.rw_fd = plain_fd;
}

static void *sleep_on(void *arg)
{
	pause();
	return NULL;
}

static void test_threads_refused(void **state)
{
	int status;
	pid_t child = fork();

	if (HK_CONFINE_SANITIZED) {
		print_message("threads of a sanitizer: not tested\n");
	}
	if (child == 0) {
		struct hk_err err = HK_ERR_INIT;
		char text[HK_CONFINE_TEXT_SIZE];
		pthread_t thread;

		alarm(ASLEEP_S);
		pthread_create(&thread, NULL, sleep_on, NULL);
		_exit(hk_confine(needs_of(false), text, &err) == -EBUSY ? 0 : 1);
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_true(HK_CONFINE_SANITIZED || (WIFEXITED(status) && WEXITSTATUS(status) == 0));
}

static void test_missing_tree(void **state)
{
	struct hk_confine_tree gone = {.path = "/nonexistent/tree"};
	struct hk_err err = HK_ERR_INIT;
	char text[HK_CONFINE_TEXT_SIZE];

	if (hk_landlock_abi() < 2) {
		print_message("no Landlock here: nothing to open\n");
		return;
	}
	assert_int_equal(
		hk_confine(&(struct hk_confine_needs){.trees = &gone, .tree_count = 1}, text, &err),
		-ENOENT);
	assert_non_null(strstr(hk_err_text(&err), "/nonexistent/tree"));
}

static void test_probe(void **state)
{
	char text[HK_CONFINE_TEXT_SIZE] = "";
	bool all = hk_confine_probe(text);

	assert_int_equal(all, strstr(text, "no ") == NULL);
	assert_int_equal(hk_landlock_abi() > 0, strstr(text, "Landlock ABI") != NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_unconfined),
		cmocka_unit_test(test_reading),
		cmocka_unit_test(test_writing),
		cmocka_unit_test(test_later_threads),
		cmocka_unit_test(test_capabilities),
		cmocka_unit_test(test_device_nodes),
		cmocka_unit_test(test_threads_refused),
		cmocka_unit_test(test_missing_tree),
		cmocka_unit_test(test_probe),
	};

	return cmocka_run_group_tests(tests, set_up, tear_down);
}
