/* SPDX-License-Identifier: ISC */
/* The virtual machine that the agent runs in. */
#include "platform.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/random.h>
#include <linux/vm_sockets.h>
#include <net/if.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <time.h>
#include <unistd.h>

#include "control/control.h"
#include "mount.h"

/* The virtiofs device's tag. */
static const char shares_tag[] = "hako";

int hk_platform_dial(uint32_t port)
{
	const struct sockaddr_vm address = {
		.svm_family = AF_VSOCK,
		.svm_port = port,
		.svm_cid = VMADDR_CID_HOST,
	};
	int fd = socket(AF_VSOCK, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	int r = 0;

	if (fd < 0) {
		return -errno;
	}
	if (connect(fd, (const struct sockaddr *)&address, sizeof(address)) < 0) {
		r = -errno;
	}
	if (r < 0 && r != -EINPROGRESS) {
		close(fd);
		return r;
	}
	return fd;
}

/*
 * The kernel reads 128 KiB ahead, which suits a disk; here each request leaves the machine, so
 * fewer and larger ones are faster. It works without.
 */
static void raise_read_ahead(int mount_fd)
{
	static const char kib[] = "1024";
	char path[64];
	struct stat st;
	int sys = hk_platform_mount_sys();
	int fd = -1;

	if (sys >= 0 && fstat(mount_fd, &st) == 0) {
		snprintf(path, sizeof(path), "class/bdi/%u:%u/read_ahead_kb", major(st.st_dev),
			minor(st.st_dev));
		fd = openat(sys, path, O_WRONLY | O_CLOEXEC);
	}
	if (fd >= 0) {
		(void)!write(fd, kib, sizeof(kib) - 1);
		close(fd);
	}
	if (sys >= 0) {
		close(sys);
	}
}

int hk_platform_mount_shares(void)
{
	int fd = hk_mount_new("virtiofs",
		(const struct hk_mount_option[]){{"source", shares_tag}, {NULL, NULL}},
		HK_MOUNT_NOSUID | HK_MOUNT_NODEV);

	if (fd >= 0) {
		raise_read_ahead(fd);
	}
	return fd;
}

int hk_platform_mount_dev(void)
{
	static const char *const links[][2] = {
		{"/proc/self/fd", "fd"},
		{"/proc/self/fd/0", "stdin"},
		{"/proc/self/fd/1", "stdout"},
		{"/proc/self/fd/2", "stderr"},
	};
	int fd = hk_mount_new("devtmpfs", NULL, HK_MOUNT_NOSUID | HK_MOUNT_NOEXEC);

	for (size_t i = 0; fd >= 0 && i < sizeof(links) / sizeof(links[0]); i++) {
		if (symlinkat(links[i][0], fd, links[i][1]) < 0 && errno != EEXIST) {
			int r = -errno;

			close(fd);
			return r;
		}
	}
	return fd;
}

int hk_platform_mount_sys(void)
{
	return hk_mount_new("sysfs", NULL, HK_MOUNT_NOSUID | HK_MOUNT_NODEV | HK_MOUNT_NOEXEC);
}

int hk_platform_become_user(uint32_t uid, uint32_t gid)
{
	if (setgroups(0, NULL) < 0 || setresgid(gid, gid, gid) < 0 ||
		setresuid(uid, uid, uid) < 0) {
		return -errno;
	}
	return 0;
}

int hk_platform_set_clock(uint64_t wall_time_ns)
{
	const struct timespec now = {
		.tv_sec = (time_t)(wall_time_ns / 1000000000),
		.tv_nsec = (long)(wall_time_ns % 1000000000),
	};

	return clock_settime(CLOCK_REALTIME, &now) < 0 ? -errno : 0;
}

int hk_platform_add_entropy(const uint8_t *bytes, uint32_t len)
{
	struct {
		struct rand_pool_info info; /* ends in a flexible array */
		uint8_t bytes[HK_CONTROL_ENTROPY_BYTES];
	} pool;
	int fd;
	int r = 0;

	if (len > sizeof(pool.bytes)) {
		return -EINVAL;
	}
	pool.info.entropy_count = (int)(8 * len);
	pool.info.buf_size = (int)len;
	memcpy(pool.bytes, bytes, len);
	fd = open("/dev/urandom", O_RDONLY | O_CLOEXEC);
	/* Reseed: what was drawn from a generator that came out of a snapshot must not go on. */
	if (fd < 0 || ioctl(fd, RNDADDENTROPY, &pool) < 0 || ioctl(fd, RNDRESEEDCRNG) < 0) {
		r = -errno;
	}
	if (fd >= 0) {
		close(fd);
	}
	memset(&pool, 0, sizeof(pool));
	return r;
}

int hk_platform_set_hostname(const char *name)
{
	return sethostname(name, strlen(name)) < 0 ? -errno : 0;
}

int hk_platform_raise_loopback(void)
{
	struct ifreq request = {.ifr_name = "lo"};
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	int r = 0;

	if (fd < 0) {
		/* A kernel without networking. */
		return errno == EAFNOSUPPORT ? 0 : -errno;
	}
	request.ifr_flags = IFF_UP;
	if (ioctl(fd, SIOCSIFFLAGS, &request) < 0) {
		r = -errno;
	}
	close(fd);
	return r;
}
