/* SPDX-License-Identifier: ISC */
/*
 * fusemount: mounts a directory through the FUSE server and its /dev/fuse transport, and runs a
 * command in it, so that both meet a real kernel without anything else of Hako's.
 *
 *	fusemount [OPTION]... DIR MOUNTPOINT -- COMMAND [ARGUMENT]...
 *
 *	-r		read-only
 *	-p		public only
 *	-l		long-lived caches
 *	-s		without NO_OPENDIR_SUPPORT
 *	-a		without passthrough: all data comes to the server
 *	-A		with the host's ACLs
 *	-c		show at the end how many requests there were
 *	-v		trace each request
 *	-t THREADS	that serve; 0: as many as the transport likes
 *	-o LAYER	copy-on-write, into this directory
 *	-n NOFILE	descriptors the process may have
 *
 * The mount is in a mount namespace of its own; the command starts in the export, MOUNTPOINT/x.
 * Exit status: the command's; 77 where mounting is not permitted (meson: skipped); 125 for other
 * failures.
 */
#include <fcntl.h>
#include <linux/fuse.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/err.h"
#include "base/log.h"
#include "fuse/dev_linux.h"
#include "fuse/proto.h"
#include "fuse/overlay.h"
#include "fuse/server.h"

static void show_denial(struct hk_fuse_owner *owner, const struct hk_fuse_denial *d)
{
	fprintf(stderr, "fusemount: denied: %s '%s/%s': %s\n", d->operation, d->export_name,
		d->path, strerror(d->error));
}

static void show_counts(const struct hk_fuse_dev *dev)
{
	uint64_t all = 0;

	for (uint32_t opcode = 0; opcode < 64; opcode++) {
		uint64_t count = hk_fuse_dev_count(dev, opcode);
		const char *name = hk_fuse_op_name(opcode);

		all += count;
		if (count > 0 && name != NULL) {
			fprintf(stderr, "%-16s %8llu\n", name, (unsigned long long)count);
		} else if (count > 0) {
			fprintf(stderr, "opcode %-9u %8llu\n", opcode, (unsigned long long)count);
		}
	}
	fprintf(stderr, "%-16s %8llu\n", "all", (unsigned long long)all);
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
	struct hk_fuse_owner owner = {.denied = show_denial};
	struct hk_fuse_export export = {.name = "x"};
	struct hk_fuse_server *server;
	struct hk_fuse_dev *dev;
	struct hk_err err = HK_ERR_INIT;
	uint64_t left_out = 0;
	unsigned threads = 0;
	const char *layer = NULL;
	bool count = false;
	char options[128];
	char inside[512];
	int status;
	int opt;
	int fd;

	while ((opt = getopt(argc, argv, "+rplsacAvt:n:o:")) != -1) {
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
			left_out |= FUSE_NO_OPENDIR_SUPPORT;
			break;
		case 'a':
			left_out |= FUSE_PASSTHROUGH;
			break;
		case 'A':
			export.acls = true;
			break;
		case 'c':
			count = true;
			break;
		case 'o':
			layer = optarg;
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
	if (argc - optind < 4) {
		return 125;
	}
	export.path = argv[optind];
	fd = open("/dev/fuse", O_RDWR | O_CLOEXEC);
	if (fd < 0 || unshare(CLONE_NEWNS) < 0 ||
		mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0) {
		perror("fusemount");
		return 77;
	}
	if (layer != NULL &&
		hk_overlay_open(&(struct hk_overlay_options){.lower = export.path, .layer = layer},
			&export.backend, &err) < 0) {
		fprintf(stderr, "fusemount: %s\n", hk_err_text(&err));
		return 125;
	}
	if (hk_fuse_server_create(&owner, &server, &err) < 0 ||
		hk_fuse_server_export(server, &export, &err) < 0) {
		fprintf(stderr, "fusemount: %s\n", hk_err_text(&err));
		return 125;
	}
	hk_fuse_server_leave_out(server, left_out);
	snprintf(options, sizeof(options),
		"fd=%d,rootmode=40000,user_id=0,group_id=0,allow_other,default_permissions", fd);
	if (mount("hako", argv[optind + 1], "fuse", 0, options) < 0) {
		perror("fusemount: mount");
		return 77;
	}
	if (hk_fuse_dev_create(server, fd, threads, &dev, &err) < 0) {
		fprintf(stderr, "fusemount: %s\n", hk_err_text(&err));
		return 125;
	}
	snprintf(inside, sizeof(inside), "%s/x", argv[optind + 1]);
	status = run(argv + optind + 3, inside);
	umount2(argv[optind + 1], MNT_DETACH);
	if (count) {
		show_counts(dev);
	}
	hk_fuse_dev_destroy(dev);
	hk_fuse_server_destroy(server);
	return status;
}
