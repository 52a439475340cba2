/* SPDX-License-Identifier: ISC */
/*
 * The transport over /dev/fuse with a real kernel: how it starts, how it ends, and what the kernel
 * passes through.
 *
 * Needs to mount: as root, or in a user namespace of its own; else it is skipped. Passthrough needs
 * root of the machine.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/util.h"
#include "fuse/dev_linux.h"
#include "fuse/proto.h"
#include "fuse/server_impl.h"
#include "fuse_client.h"

enum { PATH_SIZE = 128, WAIT_MS = 10000 };

/* A directory, a place to mount it, a server. Its owner can hold up a request that is refused. */
struct mounted {
	struct hk_fuse_owner owner; /* first */
	struct hk_fuse_server *server;
	struct hk_fuse_dev *dev;
	int fd;
	char dir[64];
	char in[80];
	char mnt[80];
	atomic_bool hold;
	sem_t held, go_on;
};

static bool is_root;

static void hold_up(struct hk_fuse_owner *owner, const struct hk_fuse_denial *denial)
{
	struct mounted *m = (struct mounted *)owner;

	if (m->hold) {
		sem_post(&m->held);
		while (sem_wait(&m->go_on) < 0) {
		}
	}
}

static void prepare_with(struct mounted *m, const struct hk_fuse_export *config)
{
	struct hk_fuse_export export = *config;
	struct hk_err err = HK_ERR_INIT;

	memset(m, 0, sizeof(*m));
	snprintf(m->dir, sizeof(m->dir), "/tmp/hako-fuse-dev-XXXXXX");
	must(mkdtemp(m->dir) != NULL);
	snprintf(m->in, sizeof(m->in), "%s/in", m->dir);
	snprintf(m->mnt, sizeof(m->mnt), "%s/mnt", m->dir);
	must(mkdir(m->in, 0755) == 0 && mkdir(m->mnt, 0755) == 0);
	must(sem_init(&m->held, 1, 0) == 0 && sem_init(&m->go_on, 1, 0) == 0);
	m->owner.denied = hold_up;
	export.name = "x";
	export.path = m->in;
	must(hk_fuse_server_create(&m->owner, &m->server, &err) == 0);
	must(hk_fuse_server_export(m->server, &export, &err) == 0);
	m->fd = open("/dev/fuse", O_RDWR | O_CLOEXEC);
	must(m->fd >= 0);
}

static void prepare(struct mounted *m, bool read_only)
{
	prepare_with(m, &(struct hk_fuse_export){.read_only = read_only});
}

static int mount_at(struct mounted *m)
{
	char options[128];

	snprintf(options, sizeof(options),
		"fd=%d,rootmode=40000,user_id=%u,group_id=%u,allow_other,default_permissions",
		m->fd, getuid(), getgid());
	return mount("hako", m->mnt, "fuse", MS_NOSUID | MS_NODEV, options);
}

static void serve(struct mounted *m, unsigned threads)
{
	struct hk_err err = HK_ERR_INIT;

	must(hk_fuse_dev_create(m->server, m->fd, threads, &m->dev, &err) == 0);
}

static void start(struct mounted *m, unsigned threads, bool read_only)
{
	prepare(m, read_only);
	must(mount_at(m) == 0);
	serve(m, threads);
}

static void clean_up(struct mounted *m)
{
	char command[128];

	umount2(m->mnt, MNT_DETACH);
	hk_fuse_dev_destroy(m->dev);
	hk_fuse_server_destroy(m->server);
	sem_destroy(&m->held);
	sem_destroy(&m->go_on);
	snprintf(command, sizeof(command), "rm -rf '%s'", m->dir);
	must(system(command) == 0);
}

static const char *at(const struct mounted *m, const char *name)
{
	static _Thread_local char path[PATH_SIZE];

	snprintf(path, sizeof(path), "%s/x/%s", m->mnt, name);
	return path;
}

static const char *below(const struct mounted *m, const char *name)
{
	static _Thread_local char path[PATH_SIZE];

	snprintf(path, sizeof(path), "%s/%s", m->in, name);
	return path;
}

static void put(const char *path, const char *text, mode_t mode)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	must(fd >= 0);
	must(write(fd, text, strlen(text)) == (ssize_t)strlen(text));
	must(fchmod(fd, mode) == 0);
	close(fd);
}

static bool becomes_readable(int fd)
{
	struct pollfd p = {.fd = fd, .events = POLLIN};

	return poll(&p, 1, WAIT_MS) == 1 && (p.revents & POLLIN) != 0;
}

static int try_stat(const char *path)
{
	struct stat st;

	return stat(path, &st) < 0 ? -errno : 0;
}

static mode_t mode_of(const char *path)
{
	struct stat st;

	must(stat(path, &st) == 0);
	return st.st_mode;
}

static uint64_t nodeid_of(const struct mounted *m, const char *name)
{
	for (uint32_t i = 1; i < hk_nodes_end(&m->server->nodes); i++) {
		const struct hk_node *node = hk_nodes_at(&m->server->nodes, i);

		if (node != NULL && node->used && node->name != NULL &&
			strcmp(node->name, name) == 0) {
			return hk_node_id(node);
		}
	}
	abort();
}

static void test_ends_with_the_mount(void **state)
{
	struct mounted m;
	struct pollfd p = {.events = POLLIN};

	start(&m, 3, false);
	put(at(&m, "a"), "text", 0600);
	assert_int_equal(try_stat(below(&m, "a")), 0);
	p.fd = hk_fuse_dev_ended_fd(m.dev);
	assert_int_equal(poll(&p, 1, 0), 0);
	assert_int_equal(umount2(m.mnt, 0), 0);
	assert_true(becomes_readable(p.fd));
	assert_int_equal(hk_fuse_dev_count(m.dev, FUSE_INIT), 1);
	assert_int_equal(hk_fuse_dev_count(m.dev, FUSE_CREATE), 1);
	assert_int_equal(hk_fuse_dev_count(m.dev, FUSE_RMDIR), 0);
	clean_up(&m);
}

static void test_is_mounted_later(void **state)
{
	struct mounted m;

	prepare(&m, false);
	serve(&m, 2);
	usleep(20 * 1000);
	assert_int_equal(mount_at(&m), 0);
	put(at(&m, "a"), "text", 0600);
	assert_int_equal(try_stat(below(&m, "a")), 0);
	clean_up(&m);
}

static void test_is_never_mounted(void **state)
{
	struct mounted m;

	prepare(&m, false);
	serve(&m, 0);
	clean_up(&m);
}

static void test_goes_without_unmount(void **state)
{
	struct mounted m;
	int fd;

	start(&m, 2, false);
	put(at(&m, "a"), "text", 0600);
	fd = open(at(&m, "a"), O_RDONLY | O_CLOEXEC);
	assert_true(fd >= 0);
	hk_fuse_dev_destroy(m.dev);
	m.dev = NULL;
	assert_int_equal(try_stat(at(&m, "b")), -ENOTCONN);
	assert_int_equal(open(at(&m, "a"), O_RDONLY), -1);
	assert_int_equal(errno, ENOTCONN);
	close(fd);
	clean_up(&m);
}

struct asker {
	struct mounted *m;
	pthread_t thread;
	const char *name;
	bool creates;
	int result;
};

static void *ask(void *arg)
{
	struct asker *a = arg;

	if (a->creates) {
		a->result = open(at(a->m, a->name), O_CREAT | O_WRONLY | O_CLOEXEC, 0600) < 0
			? -errno
			: 0;
	} else {
		a->result = try_stat(at(a->m, a->name));
	}
	return NULL;
}

static void *destroy(void *arg)
{
	hk_fuse_dev_destroy(arg);
	return NULL;
}

/* One request is being answered, two wait for the only thread. */
static void test_abort_in_flight(void **state)
{
	struct mounted m;
	struct asker askers[3] = {{.name = "new", .creates = true}, {.name = "b"}, {.name = "c"}};
	pthread_t destroyer;

	start(&m, 1, true);
	assert_int_equal(try_stat(at(&m, "")), 0);
	m.hold = true;
	for (unsigned i = 0; i < 3; i++) {
		askers[i].m = &m;
		must(pthread_create(&askers[i].thread, NULL, ask, &askers[i]) == 0);
		if (i == 0) {
			sem_wait(&m.held);
		}
	}
	usleep(50 *
		1000); /* they are in the kernel by now; if not, they get ENOTCONN, which is as good */
	must(pthread_create(&destroyer, NULL, destroy, m.dev) == 0);
	usleep(20 * 1000);
	sem_post(&m.go_on);
	pthread_join(destroyer, NULL);
	m.dev = NULL;
	for (unsigned i = 0; i < 3; i++) {
		int r;

		pthread_join(askers[i].thread, NULL);
		r = askers[i].result;
		assert_true(r == -ECONNABORTED || r == -ENOTCONN || (i == 0 && r == -EROFS));
	}
	assert_int_equal(try_stat(at(&m, "d")), -ENOTCONN);
	clean_up(&m);
}

/* A request that takes its time holds nobody up, and neither do more of them. */
static void test_others_are_served_meanwhile(void **state)
{
	enum { HELD = 4 };
	struct mounted m;
	struct asker askers[HELD];

	start(&m, HELD + 1, true);
	put(below(&m, "a"), "text", 0600);
	assert_int_equal(try_stat(at(&m, "a")), 0);
	usleep(1300 * 1000); /* by now nobody is awake */
	m.hold = true;
	for (unsigned i = 0; i < HELD; i++) {
		/* Each in a directory of its own, which the kernel locks meanwhile. */
		static const char *const names[HELD] = {"0/new", "1/new", "2/new", "3/new"};
		char dir[] = {(char)('0' + i), '\0'};

		must(mkdir(below(&m, dir), 0755) == 0);
		askers[i] = (struct asker){.m = &m, .name = names[i], .creates = true};
		must(pthread_create(&askers[i].thread, NULL, ask, &askers[i]) == 0);
		sem_wait(&m.held);
		assert_int_equal(try_stat(at(&m, dir)), 0);
		assert_int_equal(try_stat(at(&m, "a")), 0);
		assert_int_equal(try_stat(at(&m, "missing")), -ENOENT);
	}
	for (unsigned i = 0; i < HELD; i++) {
		sem_post(&m.go_on);
	}
	for (unsigned i = 0; i < HELD; i++) {
		pthread_join(askers[i].thread, NULL);
		assert_int_equal(askers[i].result, -EROFS);
	}
	clean_up(&m);
}

static void *make_and_remove(void *arg)
{
	struct asker *a = arg;
	char path[PATH_SIZE];

	for (unsigned i = 0; i < 300 && a->result == 0; i++) {
		snprintf(path, sizeof(path), "%s/x/%s-%u", a->m->mnt, a->name, i);
		put(path, "text", 0600);
		a->result = try_stat(path) | (unlink(path) < 0 ? -errno : 0);
	}
	return NULL;
}

static void test_many_at_once(void **state)
{
	struct mounted m;
	struct asker askers[] = {{.name = "a"}, {.name = "b"}, {.name = "c"}, {.name = "d"}};

	start(&m, 0, false);
	for (unsigned i = 0; i < HK_ARRAY_SIZE(askers); i++) {
		askers[i].m = &m;
		must(pthread_create(&askers[i].thread, NULL, make_and_remove, &askers[i]) == 0);
	}
	for (unsigned i = 0; i < HK_ARRAY_SIZE(askers); i++) {
		pthread_join(askers[i].thread, NULL);
		assert_int_equal(askers[i].result, 0);
	}
	assert_int_equal(hk_fuse_dev_count(m.dev, FUSE_UNLINK), 1200);
	clean_up(&m);
}

/* A default ACL takes the place of the umask, as on the host: the same is done there and here. */
static void test_acls(void **state)
{
	/*
	 * rwx for owner, group and one more user, nothing for others: struct posix_acl_xattr_header
	 * and _entry.
	 */
	static const uint8_t acl[] = {2, 0, 0, 0, /**/ 1, 0, 7, 0, 255, 255, 255, 255, /**/ 2, 0, 7,
		0, 0x39, 0x30, 0, 0, /**/ 4, 0, 7, 0, 255, 255, 255, 255, /**/ 0x10, 0, 7, 0, 255,
		255, 255, 255, /**/ 0x20, 0, 0, 0, 255, 255, 255, 255};
	struct mounted m;
	char value[64];
	mode_t saved;

	if (!is_root) {
		skip();
	}
	prepare_with(&m, &(struct hk_fuse_export){.acls = true});
	must(mkdir(below(&m, "host"), 0755) == 0);
	if (setxattr(below(&m, "host"), "system.posix_acl_default", acl, sizeof(acl), 0) < 0) {
		skip(); /* a file system without */
	}
	must(mount_at(&m) == 0);
	serve(&m, 0);
	must(mkdir(at(&m, "mine"), 0755) == 0);
	assert_int_equal(
		setxattr(at(&m, "mine"), "system.posix_acl_default", acl, sizeof(acl), 0), 0);
	assert_int_equal(
		getxattr(below(&m, "mine"), "system.posix_acl_default", value, sizeof(value)),
		sizeof(acl));
	assert_memory_equal(value, acl, sizeof(acl));
	saved = umask(027);
	must(mkdir(below(&m, "host/d"), 0775) == 0 && mkdir(at(&m, "mine/d"), 0775) == 0);
	close(open(below(&m, "host/f"), O_CREAT | O_WRONLY | O_CLOEXEC, 0664));
	close(open(at(&m, "mine/f"), O_CREAT | O_WRONLY | O_CLOEXEC, 0664));
	must(mkdir(at(&m, "plain"), 0777) == 0);
	umask(saved);
	assert_int_equal(mode_of(below(&m, "mine/d")), mode_of(below(&m, "host/d")));
	assert_int_equal(mode_of(below(&m, "mine/f")), mode_of(below(&m, "host/f")));
	assert_int_equal(mode_of(below(&m, "plain")), S_IFDIR | 0750);
	assert_int_equal(mode_of(at(&m, "mine/f")), mode_of(below(&m, "mine/f")));
	clean_up(&m);
}

static void test_server_killed(void **state)
{
	struct mounted m;
	struct asker asker = {.m = &m, .name = "new", .creates = true};
	sem_t *held;
	int status;
	pid_t pid;

	prepare(&m, true);
	put(below(&m, "a"), "text", 0600);
	assert_int_equal(mount_at(&m), 0);
	held = mmap(NULL, sizeof(*held), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	must(held != MAP_FAILED && sem_init(held, 1, 0) == 0);
	pid = fork();
	must(pid >= 0);
	if (pid == 0) {
		m.hold = true;
		serve(&m, 2);
		sem_wait(&m.held);
		sem_post(held);
		pause();
		_exit(1);
	}
	close(m.fd); /* else the mount would wait for us to serve it */
	assert_int_equal(try_stat(at(&m, "a")), 0);
	must(pthread_create(&asker.thread, NULL, ask, &asker) == 0);
	while (sem_wait(held) < 0) {
	}
	kill(pid, SIGKILL);
	waitpid(pid, &status, 0);
	pthread_join(asker.thread, NULL);
	assert_true(asker.result == -ECONNABORTED || asker.result == -ENOTCONN);
	assert_int_equal(try_stat(at(&m, "b")), -ENOTCONN);
	assert_int_equal(umount2(m.mnt, 0), 0);
	munmap(held, sizeof(*held));
	clean_up(&m);
}

/* What the kernel remembers for a day is asked for again when it is told so. */
static void test_kernel_forgets(void **state)
{
	struct mounted m;
	struct hk_fuse_transport *transport;
	char text[8] = "";
	int fd;

	prepare_with(&m, &(struct hk_fuse_export){.cache = HK_FUSE_CACHE_LONG});
	hk_fuse_server_leave_out(m.server, FUSE_PASSTHROUGH);
	must(mount_at(&m) == 0);
	serve(&m, 0);
	assert_int_equal(try_stat(at(&m, "later")), -ENOENT);
	put(below(&m, "later"), "text", 0600);
	assert_int_equal(try_stat(at(&m, "later")), -ENOENT);
	transport = m.server->transport;
	transport->forget_entry(transport, hk_node_id(m.server->exports[0].node), "later");
	assert_int_equal(try_stat(at(&m, "later")), 0);

	fd = open(at(&m, "later"), O_RDONLY | O_CLOEXEC);
	assert_int_equal(read(fd, text, 4), 4);
	put(below(&m, "later"), "TEXT", 0600);
	assert_int_equal(pread(fd, text, 4, 0), 4);
	assert_memory_equal(text, "text", 4);
	transport->forget_data(
		transport, 2 + hk_node_id(m.server->exports[0].node)); /* nobody: fine */
	transport->forget_data(transport, nodeid_of(&m, "later"));
	assert_int_equal(pread(fd, text, 4, 0), 4);
	assert_memory_equal(text, "TEXT", 4);
	close(fd);
	clean_up(&m);
}

/* Reads or writes a few bytes at the start. Return: how many, or -errno. */
static ssize_t touch(int fd, bool writes)
{
	char byte[4] = "new";
	ssize_t n = writes ? pwrite(fd, byte, sizeof(byte), 0) : pread(fd, byte, sizeof(byte), 0);

	return n < 0 ? -errno : n;
}

static uint64_t moved(const struct mounted *m)
{
	return hk_fuse_dev_count(m->dev, FUSE_READ) + hk_fuse_dev_count(m->dev, FUSE_WRITE);
}

static void start_passing(struct mounted *m)
{
	if (!is_root) {
		skip();
	}
	start(m, 1, false);
	put(at(m, "probe"), "text", 0600);
	if (moved(m) > 0) {
		clean_up(m);
		skip(); /* a kernel before 6.9, or root of a container */
	}
}

static void test_data_is_passed_through(void **state)
{
	struct mounted m;
	char text[16];
	char *map;
	int a, b;

	start_passing(&m);
	put(below(&m, "f"), "0123456789", 0600);
	a = open(at(&m, "f"), O_RDONLY | O_CLOEXEC);
	b = open(at(&m, "f"), O_RDWR | O_CLOEXEC);
	assert_true(a >= 0 && b >= 0);
	assert_int_equal(touch(b, true), 4);
	assert_int_equal(pread(a, text, sizeof(text), 0), 10);
	assert_memory_equal(text, "new\000456789", 10);
	map = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, b, 0);
	assert_true(map != MAP_FAILED);
	map[9] = 'X';
	assert_int_equal(pread(a, text, 1, 9), 1);
	assert_int_equal(text[0], 'X');
	close(a);
	close(b);
	map[8] = 'Y'; /* the file is closed, its mapping goes on */
	a = open(at(&m, "f"), O_RDONLY | O_CLOEXEC);
	assert_int_equal(pread(a, text, 1, 8), 1);
	assert_int_equal(text[0], 'Y');
	munmap(map, 4096);
	close(a);
	assert_int_equal(moved(&m), 0);
	clean_up(&m);
}

static void write_text(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);

	must(fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text));
	close(fd);
}

/* As if it had not changed for an hour. */
static void make_old(const char *path)
{
	struct timespec now;
	struct timespec times[2] = {{.tv_nsec = UTIME_OMIT}};

	must(clock_gettime(CLOCK_REALTIME, &now) == 0);
	times[1] = (struct timespec){.tv_sec = now.tv_sec - 3600, .tv_nsec = now.tv_nsec};
	must(utimensat(AT_FDCWD, path, times, 0) == 0);
}

static void assert_reads(const struct mounted *m, const char *name, const char *text)
{
	uint64_t released = hk_fuse_dev_count(m->dev, FUSE_RELEASE);
	size_t len = strlen(text);
	char buf[64];
	int fd = open(at(m, name), O_RDONLY | O_CLOEXEC);

	assert_true(fd >= 0);
	assert_int_equal(read(fd, buf, sizeof(buf)), len);
	assert_memory_equal(buf, text, len);
	close(fd);
	for (int i = 0; hk_fuse_dev_count(m->dev, FUSE_RELEASE) == released && i < WAIT_MS; i++) {
		usleep(1000);
	}
}

/* A file that is read time and again is asked for once; what changes it is seen all the same. */
static void test_what_is_read_often_is_cached(void **state)
{
	struct mounted m;

	start_passing(&m);
	put(below(&m, "f"), "0123456789", 0600);
	assert_reads(&m, "f", "0123456789");
	assert_reads(&m, "f", "0123456789");
	assert_int_equal(moved(&m), 0); /* it is new, and may change once more */
	make_old(below(&m, "f"));
	assert_reads(&m, "f", "0123456789");
	assert_int_equal(moved(&m), 0);
	for (int i = 0; i < 5; i++) {
		assert_reads(&m, "f", "0123456789");
	}
	assert_int_equal(moved(&m), 1);
	/* By the host. */
	put(below(&m, "f"), "abcdefghij", 0600);
	assert_reads(&m, "f", "abcdefghij");
	make_old(below(&m, "f"));
	for (int i = 0; i < 5; i++) {
		assert_reads(&m, "f", "abcdefghij");
	}
	/* Through the mount, past us. */
	write_text(at(&m, "f"), "ABCDEFGHIJ");
	assert_reads(&m, "f", "ABCDEFGHIJ");
	make_old(at(&m, "f"));
	for (int i = 0; i < 5; i++) {
		assert_reads(&m, "f", "ABCDEFGHIJ");
	}
	assert_int_equal(hk_fuse_dev_count(m.dev, FUSE_WRITE), 0);
	clean_up(&m);
}

/* A mapping outlives the open file, and writes past the mount: then nothing is cached. */
static void test_what_is_mapped_is_not_cached(void **state)
{
	struct mounted m;
	char *map;
	int fd;

	start_passing(&m);
	put(below(&m, "f"), "0123456789", 0600);
	fd = open(at(&m, "f"), O_RDWR | O_CLOEXEC);
	map = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	must(map != MAP_FAILED);
	close(fd);
	map[0] = 'A';
	make_old(at(&m, "f"));
	assert_reads(&m, "f", "A123456789");
	assert_reads(&m, "f", "A123456789");
	map[0] = 'B';
	assert_reads(&m, "f", "B123456789");
	assert_int_equal(moved(&m), 0);
	munmap(map, 4096);
	clean_up(&m);
}

/* Whoever writes while it is read from the cache: both see one file. */
static void test_written_while_cached(void **state)
{
	struct mounted m;
	char text[16];
	int reader, writer;

	start_passing(&m);
	put(below(&m, "f"), "0123456789", 0600);
	make_old(below(&m, "f"));
	assert_reads(&m, "f", "0123456789");
	reader = open(at(&m, "f"), O_RDONLY | O_CLOEXEC);
	assert_int_equal(pread(reader, text, sizeof(text), 0), 10);
	assert_int_equal(hk_fuse_dev_count(m.dev, FUSE_READ), 1);
	writer = open(at(&m, "f"), O_RDWR | O_CLOEXEC);
	assert_int_equal(touch(writer, true), 4);
	assert_int_equal(pread(reader, text, sizeof(text), 0), 10);
	assert_memory_equal(text, "new\000456789", 10);
	close(reader);
	close(writer);
	clean_up(&m);
}

static void test_direct_io(void **state)
{
	static _Alignas(4096) char page[4096];
	struct mounted m;
	int native, mine;

	start_passing(&m);
	put(below(&m, "f"), "0123456789", 0600);
	native = open(below(&m, "f"), O_RDWR | O_DIRECT | O_CLOEXEC);
	mine = open(at(&m, "f"), O_RDWR | O_DIRECT | O_CLOEXEC);
	assert_int_equal(mine >= 0, native >= 0);
	if (mine >= 0) {
		assert_int_equal(pread(mine, page, sizeof(page), 0), 10);
		assert_memory_equal(page, "0123456789", 10);
		assert_int_equal(pwrite(mine, page, sizeof(page), 4096), sizeof(page));
		close(mine);
		close(native);
	}
	clean_up(&m);
}

/*
 * Who comes second follows who came first, whatever the mode says by then: everything else gives
 * EIO.
 */
static void test_opens_of_a_file_agree(void **state)
{
	struct mounted m;
	int plain, other, passed;

	start_passing(&m);
	put(below(&m, "setid"), "text", 04700);
	plain = open(at(&m, "setid"), O_RDWR | O_CLOEXEC);
	assert_true(plain >= 0);
	assert_int_equal(fchmod(plain, 0700), 0);
	other = open(at(&m, "setid"), O_RDWR | O_CLOEXEC);
	assert_true(other >= 0);
	assert_int_equal(touch(plain, true), 4);
	assert_int_equal(touch(other, true), 4);
	assert_int_equal(hk_fuse_dev_count(m.dev, FUSE_WRITE), 2);
	close(plain);
	close(other);
	/* Closed: the next one may be passed through. RELEASE comes when it comes. */
	for (int i = 0; hk_fuse_dev_count(m.dev, FUSE_RELEASE) < 3 && i < WAIT_MS; i++) {
		usleep(1000);
	}
	usleep(10 * 1000);
	passed = open(at(&m, "setid"), O_RDWR | O_CLOEXEC);
	assert_int_equal(touch(passed, true), 4);
	assert_int_equal(hk_fuse_dev_count(m.dev, FUSE_WRITE), 2);
	assert_int_equal(fchmod(passed, 04700), 0);
	other = open(at(&m, "setid"), O_RDONLY | O_CLOEXEC);
	assert_int_equal(touch(other, false), 4);
	assert_int_equal(moved(&m), 2);
	close(passed);
	close(other);
	clean_up(&m);
}

static void test_privileges_go_with_a_write(void **state)
{
	/* struct vfs_cap_data of revision 2: CAP_NET_RAW, effective. */
	static const uint8_t caps[20] = {1, 0, 0, 2, 0, 0x20};
	struct mounted m;
	struct stat st;
	char value[32];
	pid_t pid;
	int status;
	int fd;

	start_passing(&m);
	put(below(&m, "f"), "text", 0777);
	assert_int_equal(setxattr(below(&m, "f"), "security.capability", caps, sizeof(caps), 0), 0);
	fd = open(at(&m, "f"), O_WRONLY | O_CLOEXEC);
	assert_int_equal(touch(fd, true), 4);
	assert_int_equal(getxattr(below(&m, "f"), "security.capability", value, sizeof(value)), -1);
	assert_int_equal(errno, ENODATA);
	/* Set while it is open; then somebody writes who may not keep the bits. */
	assert_int_equal(chmod(at(&m, "f"), 06777), 0);
	pid = fork();
	must(pid >= 0);
	if (pid == 0) {
		_exit(setgid(12345) < 0 || setuid(12345) < 0 || touch(fd, true) != 4);
	}
	waitpid(pid, &status, 0);
	assert_int_equal(status, 0);
	assert_int_equal(stat(below(&m, "f"), &st), 0);
	assert_int_equal(st.st_mode & 07777, 0777);
	assert_int_equal(moved(&m), 0);
	close(fd);
	clean_up(&m);
}

/*
 * Registering a file to pass through takes a right away from the thread: root has it all the same.
 */
static void test_root_keeps_setid(void **state)
{
	struct mounted m;
	int fd;

	start_passing(&m);
	put(below(&m, "f"), "text", 0755);
	must(chown(below(&m, "f"), 1234, 1234) == 0);
	put(at(&m, "passed"), "text", 0600);
	assert_int_equal(chmod(at(&m, "f"), 06755), 0);
	assert_int_equal(mode_of(below(&m, "f")) & 07777, 06755);
	put(at(&m, "passed"), "text", 0600);
	fd = open(at(&m, "f"), O_RDWR | O_CLOEXEC);
	put(at(&m, "passed again"), "text", 0600);
	assert_int_equal(touch(fd, true), 4);
	assert_int_equal(mode_of(below(&m, "f")) & 07777, 06755);
	put(at(&m, "and again"), "text", 0600);
	assert_int_equal(ftruncate(fd, 2), 0);
	assert_int_equal(mode_of(below(&m, "f")) & 07777, 06755);
	assert_int_equal(hk_fuse_dev_count(m.dev, FUSE_WRITE), 1);
	close(fd);
	clean_up(&m);
}

/* That there is none is remembered for a while: but not once one was set. */
static void test_capabilities_set_are_seen(void **state)
{
	static const uint8_t caps[20] = {1, 0, 0, 2, 0, 0x20};
	struct mounted m;
	char value[32];

	start_passing(&m);
	put(below(&m, "f"), "text", 0777);
	assert_int_equal(getxattr(at(&m, "f"), "security.capability", value, sizeof(value)), -1);
	assert_int_equal(errno, ENODATA);
	assert_int_equal(setxattr(at(&m, "f"), "security.capability", caps, sizeof(caps), 0), 0);
	assert_int_equal(getxattr(at(&m, "f"), "security.capability", value, sizeof(value)),
		(int)sizeof(caps));
	assert_int_equal(removexattr(at(&m, "f"), "security.capability"), 0);
	assert_int_equal(getxattr(at(&m, "f"), "security.capability", value, sizeof(value)), -1);
	clean_up(&m);
}

/* A mount namespace in which this process may mount. */
static bool enter_namespace(void)
{
	char map[64];
	uid_t uid = geteuid();
	gid_t gid = getegid();

	is_root = uid == 0;
	if (access("/dev/fuse", R_OK | W_OK) < 0) {
		return false;
	}
	if (unshare(is_root ? CLONE_NEWNS : CLONE_NEWUSER | CLONE_NEWNS) < 0) {
		return false;
	}
	if (!is_root) {
		write_text("/proc/self/setgroups", "deny");
		snprintf(map, sizeof(map), "0 %u 1", uid);
		write_text("/proc/self/uid_map", map);
		snprintf(map, sizeof(map), "0 %u 1", gid);
		write_text("/proc/self/gid_map", map);
	}
	return mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_ends_with_the_mount),
		cmocka_unit_test(test_is_mounted_later),
		cmocka_unit_test(test_is_never_mounted),
		cmocka_unit_test(test_goes_without_unmount),
		cmocka_unit_test(test_abort_in_flight),
		cmocka_unit_test(test_others_are_served_meanwhile),
		cmocka_unit_test(test_many_at_once),
		cmocka_unit_test(test_server_killed),
		cmocka_unit_test(test_kernel_forgets),
		cmocka_unit_test(test_data_is_passed_through),
		cmocka_unit_test(test_what_is_read_often_is_cached),
		cmocka_unit_test(test_what_is_mapped_is_not_cached),
		cmocka_unit_test(test_written_while_cached),
		cmocka_unit_test(test_direct_io),
		cmocka_unit_test(test_opens_of_a_file_agree),
		cmocka_unit_test(test_privileges_go_with_a_write),
		cmocka_unit_test(test_capabilities_set_are_seen),
		cmocka_unit_test(test_root_keeps_setid),
		cmocka_unit_test(test_acls),
	};

	if (!enter_namespace()) {
		fprintf(stderr, "test_fuse_dev: mounting is not permitted here\n");
		return 77;
	}
	return cmocka_run_group_tests(tests, NULL, NULL);
}
