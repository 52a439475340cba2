/* SPDX-License-Identifier: ISC */
/*
 * A vsock listener that connects the guest's streams to a unix socket of the host.
 *
 * Theory: one connect(2) for each stream, non-blocking: a server whose backlog is full refuses the
 * guest instead of holding up the loop.
 *
 * Limits: paths of at most 107 bytes.
 */
#include "virtio/vsock.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/util.h"

struct hk_vsock_unix {
	struct hk_vsock_listener listener;
	struct hk_vsock *vsock; /* borrowed */
	struct sockaddr_un address;
};

static int unix_accept(struct hk_vsock_listener *listener, uint32_t guest_port)
{
	struct hk_vsock_unix *self = hk_container_of(listener, struct hk_vsock_unix, listener);
	autoclose int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	if (fd < 0 ||
		connect(fd, (const struct sockaddr *)&self->address, sizeof(self->address)) < 0) {
		return -errno;
	}
	return take_fd(&fd);
}

static const struct hk_vsock_listener_ops unix_ops = {
	.name = "unix",
	.accept = unix_accept,
};

int hk_vsock_unix_create(struct hk_vsock *vsock, uint32_t port, const char *socket_path,
	struct hk_vsock_unix **ret_listener, struct hk_err *err)
{
	size_t len = strlen(socket_path);
	struct hk_vsock_unix *self;
	int r;

	if (len >= sizeof(self->address.sun_path)) {
		hk_fail(err, ENAMETOOLONG, "socket '%s'", socket_path);
		hk_err_hint(err, "the path of a socket has at most %zu bytes: use a shorter one",
			sizeof(self->address.sun_path) - 1);
		return -ENAMETOOLONG;
	}
	if (hk_new(self) == NULL) {
		return hk_fail(err, ENOMEM, "socket '%s'", socket_path);
	}
	self->vsock = vsock;
	self->listener.ops = &unix_ops;
	self->listener.port = port;
	self->address.sun_family = AF_UNIX;
	memcpy(self->address.sun_path, socket_path, len + 1);
	r = hk_vsock_listen(vsock, &self->listener);
	if (r < 0) {
		free(self);
		return hk_fail(err, -r, "socket '%s': vsock port %u", socket_path, port);
	}
	*ret_listener = self;
	return 0;
}

void hk_vsock_unix_destroy(struct hk_vsock_unix *listener)
{
	if (listener != NULL) {
		hk_vsock_unlisten(listener->vsock, &listener->listener);
		free(listener);
	}
}
