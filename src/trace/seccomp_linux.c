/* SPDX-License-Identifier: ISC */
/*
 * System calls that the sandbox does without.
 *
 * Theory: programs of any kind run here, so the list says what is refused, not what is allowed. It
 * has what would lead around the mirror (mounts, namespaces, files by handle), what reaches the
 * host through no file (keys, the machine, typing on the caller's terminal), and large parts of the
 * kernel that are known for their holes. The command could do most of it only with capabilities it
 * has not got; this is the second lock.
 *
 * Refused calls give EPERM; those that libc has another way for, or that programs ask for by
 * trying, ENOSYS: clone3, whose flags cannot be looked at, becomes clone. Programs of 32 bits are
 * ruled by the same list under their own numbers; those of the x32 ABI, which nothing uses, do not
 * run.
 *
 * The kernel (5.11) remembers which calls are allowed whatever their arguments, and does not run
 * the program for them.
 *
 * Limits: x86-64.
 */
#include <linux/audit.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/bpf_linux.h"
#include "base/util.h"
#include "trace/sandbox_impl_linux.h"

enum { X32_BIT = 0x40000000, NONE = -1 };

/* Any of these makes a namespace. */
#define NEW_NAMESPACES \
	((uint32_t)(CLONE_NEWNS | CLONE_NEWCGROUP | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWUSER | \
		CLONE_NEWPID | CLONE_NEWNET | 0x80 /* CLONE_NEWTIME */))

/**
 * struct call - one that is refused
 * @wide, @narrow: its number for programs of 64 and of 32 bits, or NONE
 * @error: what it gives
 */
struct call {
	int16_t wide, narrow;
	uint16_t error;
};

/* clang-format off */
static const struct call refused[] = {
	/* the view of files */
	{SYS_mount, 21, EPERM}, {SYS_umount2, 52, EPERM}, {NONE, 22 /* umount */, EPERM},
	{SYS_pivot_root, 217, EPERM}, {428 /* open_tree */, 428, EPERM}, {429 /* move_mount */, 429, EPERM},
	{430 /* fsopen */, 430, EPERM}, {431 /* fsconfig */, 431, EPERM}, {432 /* fsmount */, 432, EPERM},
	{433 /* fspick */, 433, EPERM}, {442 /* mount_setattr */, 442, EPERM}, {467 /* open_tree_attr */, 467, EPERM},
	{SYS_setns, 346, EPERM}, {SYS_open_by_handle_at, 342, EPERM}, {SYS_clone3, 435, ENOSYS},
	{SYS_swapon, 87, EPERM}, {SYS_swapoff, 115, EPERM}, {SYS_acct, 51, EPERM},
	{SYS_quotactl, 131, EPERM}, {443 /* quotactl_fd */, 443, EPERM},
	/* keys belong to users, not to namespaces */
	{SYS_add_key, 286, ENOSYS}, {SYS_request_key, 287, ENOSYS}, {SYS_keyctl, 288, ENOSYS},
	/* large parts of the kernel */
	{SYS_bpf, 357, EPERM}, {SYS_perf_event_open, 336, EPERM}, {SYS_userfaultfd, 374, ENOSYS},
	/* the machine */
	{SYS_kexec_load, 283, EPERM}, {SYS_kexec_file_load, NONE, EPERM}, {SYS_init_module, 128, EPERM},
	{SYS_finit_module, 350, EPERM}, {SYS_delete_module, 129, EPERM}, {SYS_reboot, 88, EPERM},
	{SYS_iopl, 110, EPERM}, {SYS_ioperm, 101, EPERM}, {SYS_settimeofday, 79, EPERM},
	{SYS_clock_settime, 264, EPERM}, {NONE, 404 /* clock_settime64 */, EPERM}, {SYS_syslog, 103, EPERM},
	{SYS_vhangup, 111, EPERM}, {SYS_lookup_dcookie, 253, EPERM},
};
/* clang-format on */

static void refuse_if_equal(struct hk_bpf *bpf, uint32_t value, int error)
{
	hk_bpf_if(bpf, BPF_JEQ, value, 0, 1);
	hk_bpf_return(bpf, SECCOMP_RET_ERRNO | (uint32_t)error);
}

static void add_namespaces(struct hk_bpf *bpf, int nr)
{
	unsigned other_call = hk_bpf_if(bpf, BPF_JEQ, (uint32_t)nr, 0, 0);

	hk_bpf_load_arg(bpf, 0);
	hk_bpf_if(bpf, BPF_JSET, NEW_NAMESPACES, 0, 1);
	hk_bpf_return(bpf, SECCOMP_RET_ERRNO | EPERM);
	hk_bpf_return(bpf, SECCOMP_RET_ALLOW);
	hk_bpf_land(bpf, other_call);
}

/* Typing into the terminal, for the caller's shell to read when we are gone. */
static void add_ioctl(struct hk_bpf *bpf, int nr)
{
	unsigned other_call = hk_bpf_if(bpf, BPF_JEQ, (uint32_t)nr, 0, 0);

	hk_bpf_load_arg(bpf, 1);
	refuse_if_equal(bpf, TIOCSTI, EPERM);
	refuse_if_equal(bpf, TIOCLINUX, EPERM);
	hk_bpf_return(bpf, SECCOMP_RET_ALLOW);
	hk_bpf_land(bpf, other_call);
}

/*
 * Families that know of network namespaces; vsock, for one, leads to the machine's host from each.
 */
static void add_socket(struct hk_bpf *bpf, int nr)
{
	static const uint8_t families[] = {AF_UNIX, AF_INET, AF_INET6, AF_NETLINK};
	unsigned other_call = hk_bpf_if(bpf, BPF_JEQ, (uint32_t)nr, 0, 0);

	hk_bpf_load_arg(bpf, 0);
	for (size_t i = 0; i < HK_ARRAY_SIZE(families); i++) {
		hk_bpf_if(bpf, BPF_JEQ, families[i], 0, 1);
		hk_bpf_return(bpf, SECCOMP_RET_ALLOW);
	}
	hk_bpf_return(bpf, SECCOMP_RET_ERRNO | EAFNOSUPPORT);
	hk_bpf_land(bpf, other_call);
}

/*
 * Programs of 64 or of 32 bits; the architecture is in the accumulator, and is left there for
 * others.
 */
static void add_abi(struct hk_bpf *bpf, bool wide, bool net)
{
	unsigned other_abi;

	hk_bpf_if(bpf, BPF_JEQ, wide ? AUDIT_ARCH_X86_64 : AUDIT_ARCH_I386, 1, 0);
	other_abi = hk_bpf_jump(bpf);
	hk_bpf_load(bpf, offsetof(struct seccomp_data, nr));
	if (wide) {
		hk_bpf_if(bpf, BPF_JGE, X32_BIT, 0, 1);
		hk_bpf_return(bpf, SECCOMP_RET_ERRNO | ENOSYS);
	}
	add_ioctl(bpf, wide ? SYS_ioctl : 54);
	add_namespaces(bpf, wide ? SYS_clone : 120);
	add_namespaces(bpf, wide ? SYS_unshare : 310);
	if (!net) {
		/* It makes sockets, too, and nobody looks at its calls. */
		refuse_if_equal(bpf, 425 /* io_uring_setup */, ENOSYS);
		add_socket(bpf, wide ? SYS_socket : 359);
		if (!wide) {
			/* Its arguments are in memory; libc has used socket(2) for many years. */
			refuse_if_equal(bpf, 102 /* socketcall */, ENOSYS);
		}
	}
	for (size_t i = 0; i < HK_ARRAY_SIZE(refused); i++) {
		int nr = wide ? refused[i].wide : refused[i].narrow;

		if (nr != NONE) {
			refuse_if_equal(bpf, (uint32_t)nr, refused[i].error);
		}
	}
	hk_bpf_return(bpf, SECCOMP_RET_ALLOW);
	hk_bpf_land(bpf, other_abi);
}

int hk_seccomp_sandbox(bool net, struct hk_err *err)
{
	struct hk_bpf bpf = {.length = 0};

	hk_bpf_load(&bpf, offsetof(struct seccomp_data, arch));
	add_abi(&bpf, true, net);
	add_abi(&bpf, false, net);
	hk_bpf_return(&bpf, SECCOMP_RET_KILL_PROCESS);
	return hk_bpf_restrict(&bpf, err);
}
