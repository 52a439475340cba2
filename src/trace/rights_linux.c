/* SPDX-License-Identifier: ISC */
/*
 * Capabilities of the command, and whom it reaches beside files.
 *
 * Theory: who is not root has none: he keeps his id in the sandbox, and new privileges are off.
 * Root keeps his ids and is root of the host for every file he can name, so what he may do beyond
 * that is what must be limited: he gets what building and installing packages takes, and nothing
 * that leads around the mirror.
 *
 * Not kept, and why:
 *	DAC_READ_SEARCH	open_by_handle_at(2): files by number instead of by path
 *	MKNOD		a device node made through the mirror is a real one, of the host's. Kept where no policy limits what
 *			root leaves on the host; in here nothing but /dev's own entries can be opened as a device
 *	SYS_ADMIN	mounts, and much else
 *	SYS_PTRACE	processes of others; its own it may trace without
 *	SYS_RAWIO, SYS_MODULE, SYS_BOOT, SYS_TIME, BPF, PERFMON, SYSLOG, ...	the machine
 *	NET_ADMIN, NET_RAW	the host's network; and in a network of its own, much of the kernel that is known for its holes
 *	SETPCAP		nobody needs it
 *	LINUX_IMMUTABLE, SYS_RESOURCE, LEASE, ...	the file server has other ways, or none
 *
 * Two things of the host are reached by no file, and by no namespace that the command can do
 * without: abstract sockets belong to the network, which may be the host's, and process groups to
 * the terminal. Landlock keeps both apart where the kernel has it (Linux 6.12): the command
 * connects to no such socket of others, and a signal to its group reaches the group's members in
 * the sandbox only.
 *
 * Limits: names of capabilities up to Linux 5.9; later ones are dropped, too.
 */
#include <linux/capability.h>
#include <stdint.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/landlock_linux.h"
#include "base/util.h"
#include "trace/sandbox_impl_linux.h"

static const uint8_t kept_by_root[] = {
	CAP_CHOWN,        /* install -o, tar, dpkg */
	CAP_DAC_OVERRIDE, /* root writes where he likes: in the mirror, and that asks the policy */
	CAP_FOWNER,       /* chmod and utimes of others' files */
	CAP_FSETID,       /* install -m 4755 */
	CAP_SETFCAP,      /* packages whose programs have file capabilities */
	CAP_SETUID,       /* su, sudo -u, apt's own sandbox */
	CAP_SETGID, CAP_KILL, /* of its own processes: there are no others */
	CAP_SYS_CHROOT,       /* dpkg --root, debootstrap: a smaller view of what is seen anyway */
	CAP_NET_BIND_SERVICE, /* test suites of servers */
};

struct sets {
	struct __user_cap_header_struct header;
	struct __user_cap_data_struct data[_LINUX_CAPABILITY_U32S_3];
};

static int get(struct sets *sets)
{
	*sets = (struct sets){.header.version = _LINUX_CAPABILITY_VERSION_3};
	return (int)syscall(SYS_capget, &sets->header, sets->data);
}

bool hk_rights_are_full(void)
{
	struct sets sets;

	return geteuid() == 0 && get(&sets) == 0 &&
		(sets.data[0].effective & UINT32_C(1) << CAP_SYS_ADMIN) != 0;
}

static uint64_t bits(const uint8_t *list, size_t count)
{
	uint64_t set = 0;

	for (size_t i = 0; i < count; i++) {
		set |= UINT64_C(1) << list[i];
	}
	return set;
}

int hk_rights_drop(const struct hk_sandbox_setup *setup, struct hk_err *err)
{
	uint64_t keep = setup->privileged ? bits(kept_by_root, HK_ARRAY_SIZE(kept_by_root)) : 0;
	struct sets sets;

	if (setup->privileged && setup->options->device_nodes) {
		keep |= UINT64_C(1) << CAP_MKNOD;
	}
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0) {
		return hk_fail(err, errno, "no new privileges");
	}
	/* The bounding set first, as that takes a capability. */
	for (int cap = 0; prctl(PR_CAPBSET_READ, cap, 0, 0, 0) >= 0; cap++) {
		if (((keep >> cap) & 1) == 0 && prctl(PR_CAPBSET_DROP, cap, 0, 0, 0) < 0) {
			return hk_fail(err, errno, "capability %d", cap);
		}
	}
	if (get(&sets) < 0) {
		return hk_fail(err, errno, "capabilities");
	}
	for (unsigned i = 0; i < HK_ARRAY_SIZE(sets.data); i++) {
		sets.data[i].permitted &= (uint32_t)(keep >> (32 * i));
		sets.data[i].effective = sets.data[i].permitted;
		sets.data[i].inheritable = 0; /* which empties the ambient set, too */
	}
	if (syscall(SYS_capset, &sets.header, sets.data) < 0) {
		return hk_fail(err, errno, "capabilities");
	}
	return 0;
}

int hk_rights_scope(struct hk_err *err)
{
	const struct hk_landlock_attr attr = {
		.scoped = HK_LANDLOCK_SCOPE_ABSTRACT_UNIX_SOCKET | HK_LANDLOCK_SCOPE_SIGNAL,
	};
	int abi = hk_landlock_abi();
	autoclose int ruleset = -1;

	if (abi < HK_LANDLOCK_SCOPED) {
		return 0;
	}
	ruleset = hk_landlock_create(abi, &attr, err);
	return ruleset < 0 ? ruleset : hk_landlock_restrict(ruleset, err);
}
