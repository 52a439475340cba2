/* SPDX-License-Identifier: ISC */
/*
 * What the kernel of a mount is told unasked: files to pass through, names and data to forget.
 *
 * Passthrough: the kernel opens the file once more with the credentials of the thread that
 * registers it, and each write is made with these. So the thread must not have the right to keep
 * set-id bits (setid_linux.h).
 *
 * Notifications are written like replies, with 0 for the request they answer.
 *
 * Limits: the kernel takes the directory's lock to forget a name, and waits for reads to forget
 * data: who tells it so must not be at work on a request (server.h).
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
#include "fuse/setid_linux.h"

HK_LOG_CHANNEL("fuse");

static struct hk_fuse_tell *tell_of(struct hk_fuse_transport *transport)
{
	return hk_container_of(transport, struct hk_fuse_tell, transport);
}

static bool is_admin(void)
{
	struct __user_cap_header_struct head = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct sets[_LINUX_CAPABILITY_U32S_3];

	static_assert(CAP_SYS_ADMIN < 32, "linux/capability.h");
	return syscall(SYS_capget, &head, sets) == 0 &&
		(sets[0].effective & 1u << CAP_SYS_ADMIN) != 0;
}

static int backing_open(struct hk_fuse_transport *transport, int fd)
{
	struct hk_fuse_tell *tell = tell_of(transport);
	struct fuse_backing_map map = {.fd = fd};
	int id;

	if (atomic_load_explicit(&tell->no_backing, memory_order_relaxed) || !hk_setid_lay_down()) {
		return -EPERM;
	}
	id = ioctl(tell->fd, FUSE_DEV_IOC_BACKING_OPEN, &map);
	id = id < 0 ? -errno : id;
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

/*
 * Sends the kernel a message it did not ask for. ENOENT: it does not know the object, which is
 * fine.
 */
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
	if (!is_admin()) {
		/* Not even asked for: a mount with passthrough cannot carry an overlayfs. */
		tell->transport.backing_open = NULL;
		tell->transport.backing_close = NULL;
	}
	tell->fd = fd;
	atomic_init(&tell->no_backing, false);
}
