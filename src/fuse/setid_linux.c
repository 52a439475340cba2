/* SPDX-License-Identifier: ISC */
/*
 * The right to keep set-id bits: see setid_linux.h.
 *
 * Theory: when a file is passed through, the kernel remembers the credentials of the thread that
 * registers it, and makes each write with these. A thread with CAP_FSETID would keep a file's
 * set-id bits for whoever writes, also where it gets them while it is open. So the right is laid
 * down for that. On the other hand root may keep those bits: where he sets or keeps them by a
 * request of his, the thread needs the right.
 *
 * Changing capabilities takes the kernel longer than registering a file, and files are registered
 * all the time, while hardly any has such a bit. So a thread that has laid the right down leaves it
 * there, until it does something for which it matters. That it does not matter is seen from the
 * mode: with one look at the file, only while the right is down.
 *
 * Limits: who is not root, or root of a container without the capability, has nothing to lay down.
 */
#include "fuse/setid_linux.h"

#include <assert.h>
#include <linux/capability.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

/* What the thread may do, asked once. */
static _Thread_local struct {
	bool known;
	bool is_down;
	struct __user_cap_data_struct sets[_LINUX_CAPABILITY_U32S_3];
} mine;

static_assert(CAP_FSETID < 32, "linux/capability.h");

static bool ask(void)
{
	struct __user_cap_header_struct head = {.version = _LINUX_CAPABILITY_VERSION_3};

	if (!mine.known) {
		mine.known = syscall(SYS_capget, &head, mine.sets) == 0;
	}
	return mine.known;
}

static bool set(bool up)
{
	struct __user_cap_header_struct head = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct sets[_LINUX_CAPABILITY_U32S_3];

	memcpy(sets, mine.sets, sizeof(sets));
	if (!up) {
		sets[0].effective &= ~(1u << CAP_FSETID);
	}
	return syscall(SYS_capset, &head, sets) == 0;
}

bool hk_setid_lay_down(void)
{
	if (mine.is_down) {
		return true;
	}
	if (!ask()) {
		return false;
	}
	if ((mine.sets[0].effective & 1u << CAP_FSETID) == 0) {
		return true;
	}
	mine.is_down = set(false);
	return mine.is_down;
}

void hk_setid_take_up(void)
{
	if (mine.is_down) {
		mine.is_down = !set(true);
	}
}

void hk_setid_take_up_for(mode_t mode)
{
	if ((mode & (S_ISUID | S_ISGID)) != 0) {
		hk_setid_take_up();
	}
}

void hk_setid_take_up_of(int fd)
{
	struct stat st;

	if (mine.is_down && fstat(fd, &st) == 0) {
		hk_setid_take_up_for(st.st_mode);
	}
}

void hk_setid_is_up(void)
{
	mine.is_down = false;
}
