/* SPDX-License-Identifier: ISC */
/*
 * What the kernel of a mount is told unasked: files to pass through, names and data to forget.
 *
 * Passthrough: the kernel opens the file once more with the credentials of the thread that registers it, and each write
 * is made with these. A thread that may keep set-id bits (CAP_FSETID) would keep them for everybody, also where a file
 * gets them while it is open; so that capability is laid down for the moment.
 *
 * Notifications are written like replies, with 0 for the request they answer.
 *
 * Limits: the kernel takes the directory's lock to forget a name, and waits for reads to forget data: who tells it so
 * must not be at work on a request (server.h).
 */
#include "fuse/dev_impl_linux.h"

#include <assert.h>
#include <errno.h>
#include <linux/capability.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include "base/log.h"
#include "base/util.h"
#include "fuse/proto.h"

HK_LOG_CHANNEL("fuse");

static struct hk_fuse_tell *tell_of(struct hk_fuse_transport *transport)
{
	return hk_container_of(transport, struct hk_fuse_tell, transport);
}

/* What the thread may do, asked once. */
static _Thread_local struct {
	bool known;
	struct __user_cap_data_struct sets[_LINUX_CAPABILITY_U32S_3];
} my_caps;

static_assert(CAP_FSETID < 32 && CAP_SYS_ADMIN < 32, "linux/capability.h");

static bool may(unsigned capability)
{
	struct __user_cap_header_struct head = {.version = _LINUX_CAPABILITY_VERSION_3};

	if (!my_caps.known) {
		my_caps.known = syscall(SYS_capget, &head, my_caps.sets) == 0;
	}
	return (my_caps.sets[0].effective & 1u << capability) != 0;
}

/* Lays CAP_FSETID down, or takes it up again. Return: false where the thread does not have it. */
static bool hold_fsetid(bool hold)
{
	struct __user_cap_header_struct head = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct sets[_LINUX_CAPABILITY_U32S_3];

	if (!may(CAP_FSETID)) {
		return false;
	}
	memcpy(sets, my_caps.sets, sizeof(sets));
	if (!hold) {
		sets[0].effective &= ~(1u << CAP_FSETID);
	}
	return syscall(SYS_capset, &head, sets) == 0;
}

static int backing_open(struct hk_fuse_transport *transport, int fd)
{
	struct hk_fuse_tell *tell = tell_of(transport);
	struct fuse_backing_map map = {.fd = fd};
	bool held;
	int id;

	if (atomic_load_explicit(&tell->no_backing, memory_order_relaxed)) {
		return -EPERM;
	}
	held = hold_fsetid(false);
	id = ioctl(tell->fd, FUSE_DEV_IOC_BACKING_OPEN, &map);
	id = id < 0 ? -errno : id;
	if (held) {
		hold_fsetid(true);
	}
	if (id == -EPERM || id == -ENOTTY) {
		atomic_store(&tell->no_backing, true); /* it will not change its mind */
		hk_log_debug("no passthrough: %s", strerror(-id));
	}
	return id;
}

static void backing_close(struct hk_fuse_transport *transport, int id)
{
	uint32_t number = (uint32_t)id;

	if (ioctl(tell_of(transport)->fd, FUSE_DEV_IOC_BACKING_CLOSE, &number) < 0) {
		hk_log_debug("backing file %d: close: %s", id, strerror(errno));
	}
}

/* Sends the kernel a message it did not ask for. ENOENT: it does not know the object, which is fine. */
static void notify(struct hk_fuse_tell *tell, int code, const struct iovec *parts, unsigned count)
{
	struct fuse_out_header head = {.len = sizeof(head), .error = code};
	struct iovec iov[4] = {{&head, sizeof(head)}};

	assert(count < HK_ARRAY_SIZE(iov));
	for (unsigned i = 0; i < count; i++) {
		iov[i + 1] = parts[i];
		head.len += (uint32_t)parts[i].iov_len;
	}
	if (writev(tell->fd, iov, (int)count + 1) < 0 && errno != ENOENT) {
		hk_log_debug("notification %d: %s", code, strerror(errno));
	}
}

static void forget_entry(struct hk_fuse_transport *transport, uint64_t parent, const char *name)
{
	size_t len = strlen(name);
	struct fuse_notify_inval_entry_out out = {.parent = parent, .namelen = (uint32_t)len};
	struct iovec parts[2] = {{&out, sizeof(out)}, {(void *)name, len + 1}};

	notify(tell_of(transport), FUSE_NOTIFY_INVAL_ENTRY, parts, 2);
}

static void forget_data(struct hk_fuse_transport *transport, uint64_t nodeid)
{
	struct fuse_notify_inval_inode_out out = {.ino = nodeid}; /* from 0, to the end */
	struct iovec part = {&out, sizeof(out)};

	notify(tell_of(transport), FUSE_NOTIFY_INVAL_INODE, &part, 1);
}

void hk_fuse_tell_init(struct hk_fuse_tell *tell, int fd)
{
	tell->transport = (struct hk_fuse_transport){
		.backing_open = backing_open,
		.backing_close = backing_close,
		.forget_entry = forget_entry,
		.forget_data = forget_data,
	};
	if (!may(CAP_SYS_ADMIN)) {
		/* Not even asked for: a mount with passthrough cannot carry an overlayfs. */
		tell->transport.backing_open = NULL;
		tell->transport.backing_close = NULL;
	}
	tell->fd = fd;
	atomic_init(&tell->no_backing, false);
}
