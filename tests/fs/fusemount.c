/* SPDX-License-Identifier: ISC */
/*
 * fusemount: a test-only transport. Mounts a directory through the FUSE server core over /dev/fuse
 * and runs a command in it, so that the server meets a real kernel without a virtual machine.
 *
 *	fusemount [OPTION]... DIR MOUNTPOINT -- COMMAND [ARGUMENT]...
 *
 *	-r		read-only
 *	-p		public only
 *	-l		long-lived caches
 *	-s		strip NO_OPENDIR_SUPPORT from what the kernel offers
 *	-v		trace each request
 *	-t THREADS	that serve (2)
 *	-n NOFILE	descriptors the process may have
 *
 * The mount is in a mount namespace of its own; the command starts in the export, MOUNTPOINT/x.
 * Exit status: the command's; 77 where mounting is not permitted (meson: skipped); 125 for other
 * failures.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/fuse.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/err.h"
#include "base/log.h"
#include "fuse/server.h"

enum { BUFFER = (1 << 20) + 65536, MAX_THREADS = 16 };

struct mounted {
	struct hk_fuse_server *server;
	int fd;
	bool strip;
};

struct worker {
	struct mounted *mounted;
	pthread_t thread;
	int fd;
	char *in;
	char *out;
};

static void strip_no_opendir(char *request)
{
	struct fuse_in_header *head = (struct fuse_in_header *)request;
	struct fuse_init_in *init = (struct fuse_init_in *)(head + 1);

	if (head->opcode == FUSE_INIT) {
		init->flags &= ~(unsigned)FUSE_NO_OPENDIR_SUPPORT;
	}
}

static void *serve(void *arg)
{
	struct worker *w = arg;

	hk_fuse_thread_start();
	for (;;) {
		ssize_t n = read(w->fd, w->in, BUFFER);
		struct iovec in = {w->in, 0};
		struct iovec out = {w->out, BUFFER};

		if (n < 0 && (errno == EINTR || errno == ENOENT || errno == EAGAIN)) {
			continue;
		}
		if (n <= 0) {
			return NULL; /* ENODEV: unmounted */
		}
		if (w->mounted->strip) {
			strip_no_opendir(w->in);
		}
		in.iov_len = (size_t)n;
		n = hk_fuse_handle(w->mounted->server, &in, 1, &out, 1);
		if (n < 0) {
			fprintf(stderr, "fusemount: %s\n", strerror((int)-n));
			return NULL;
		}
		if (n > 0 && write(w->fd, w->out, (size_t)n) < 0 && errno != ENOENT) {
			fprintf(stderr, "fusemount: reply: %s\n", strerror(errno));
		}
	}
}

static void show_denial(struct hk_fuse_owner *owner, const struct hk_fuse_denial *d)
{
	fprintf(stderr, "fusemount: denied: %s '%s/%s': %s\n", d->operation, d->export_name,
		d->path, strerror(d->error));
}

static int start(struct worker *w, struct mounted *m, bool clone)
{
	w->mounted = m;
	w->fd = m->fd;
	if (clone) {
		w->fd = open("/dev/fuse", O_RDWR | O_CLOEXEC);
		if (w->fd < 0 || ioctl(w->fd, FUSE_DEV_IOC_CLONE, &m->fd) < 0) {
			return -errno;
		}
	}
	w->in = malloc(BUFFER);
	w->out = malloc(BUFFER);
	if (w->in == NULL || w->out == NULL) {
		return -ENOMEM;
	}
	return -pthread_create(&w->thread, NULL, serve, w);
}

static int run(char **argv, const char *dir)
{
	int status;
	pid_t pid = fork();

	if (pid == 0) {
		if (chdir(dir) < 0) {
			perror("fusemount: chdir");
			_exit(125);
		}
		execvp(argv[0], argv);
		perror("fusemount: exec");
		_exit(127);
	}
	if (pid < 0 || waitpid(pid, &status, 0) < 0) {
		return 125;
	}
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

int main(int argc, char **argv)
{
	static struct worker workers[MAX_THREADS];
	struct hk_fuse_owner owner = {.denied = show_denial};
	struct hk_fuse_export export = {.name = "x"};
	struct mounted m = {0};
	struct hk_err err = HK_ERR_INIT;
	unsigned threads = 2;
	char options[128];
	char inside[512];
	int status;
	int opt;

	while ((opt = getopt(argc, argv, "+rplsvt:n:")) != -1) {
		switch (opt) {
		case 'r':
			export.read_only = true;
			break;
		case 'p':
			export.public_only = true;
			break;
		case 'l':
			export.cache = HK_FUSE_CACHE_LONG;
			break;
		case 'v':
			hk_log_configure("fuse:trace", NULL);
			break;
		case 's':
			m.strip = true;
			break;
		case 't':
			threads = (unsigned)strtoul(optarg, NULL, 10);
			break;
		case 'n': {
			struct rlimit limit = {
				strtoul(optarg, NULL, 10), strtoul(optarg, NULL, 10)};

			setrlimit(RLIMIT_NOFILE, &limit);
			break;
		}
		default:
			return 125;
		}
	}
	if (argc - optind < 4 || threads < 1 || threads > MAX_THREADS) {
		return 125;
	}
	export.path = argv[optind];
	m.fd = open("/dev/fuse", O_RDWR | O_CLOEXEC);
	if (m.fd < 0 || unshare(CLONE_NEWNS) < 0 ||
		mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0) {
		perror("fusemount");
		return 77;
	}
	if (hk_fuse_server_create(&owner, &m.server, &err) < 0 ||
		hk_fuse_server_export(m.server, &export, &err) < 0) {
		fprintf(stderr, "fusemount: %s\n", hk_err_text(&err));
		return 125;
	}
	snprintf(options, sizeof(options),
		"fd=%d,rootmode=40000,user_id=0,group_id=0,allow_other,default_permissions", m.fd);
	if (mount("hako", argv[optind + 1], "fuse", 0, options) < 0) {
		perror("fusemount: mount");
		return 77;
	}
	for (unsigned i = 0; i < threads; i++) {
		int r = start(&workers[i], &m, i > 0);

		if (r < 0) {
			fprintf(stderr, "fusemount: %s\n", strerror(-r));
			return 125;
		}
	}
	snprintf(inside, sizeof(inside), "%s/x", argv[optind + 1]);
	status = run(argv + optind + 3, inside);
	umount2(argv[optind + 1], MNT_DETACH);
	for (unsigned i = 0; i < threads; i++) {
		pthread_join(workers[i].thread, NULL);
		free(workers[i].in);
		free(workers[i].out);
	}
	hk_fuse_server_destroy(m.server);
	return status;
}
