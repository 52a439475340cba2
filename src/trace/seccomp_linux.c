/* SPDX-License-Identifier: ISC */
/*
 * System calls that the sandbox does without.
 *
 * Theory: programs of any kind run here, so the list says what is refused, not what is allowed. It has what would lead
 * around the mirror (mounts, namespaces, files by handle), what reaches the host through no file (keys, the machine,
 * typing on the caller's terminal), and large parts of the kernel that are known for their holes. The command could do
 * most of it only with capabilities it has not got; this is the second lock.
 *
 * Refused calls give EPERM; those that libc has another way for, or that programs ask for by trying, ENOSYS: clone3,
 * whose flags cannot be looked at, becomes clone. Programs of 32 bits are ruled by the same list under their own numbers;
 * those of the x32 ABI, which nothing uses, do not run.
 *
 * The kernel (5.11) remembers which calls are allowed whatever their arguments, and does not run the program for them.
 *
 * Limits: x86-64.
 */
#include <assert.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/util.h"
#include "trace/sandbox_impl_linux.h"

enum { MAX_PROGRAM = 512, X32_BIT = 0x40000000, NONE = -1 };

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

struct program {
	struct sock_filter code[MAX_PROGRAM];
	unsigned length;
};

static void emit(struct program *p, uint16_t code, uint32_t k, uint8_t jt, uint8_t jf)
{
	assert(p->length < MAX_PROGRAM);
	p->code[p->length++] = (struct sock_filter){code, jt, jf, k};
}

static void emit_return(struct program *p, uint32_t verdict)
{
	emit(p, BPF_RET | BPF_K, verdict, 0, 0);
}

static void load(struct program *p, size_t offset)
{
	emit(p, BPF_LD | BPF_W | BPF_ABS, (uint32_t)offset, 0, 0);
}

/* The low half of an argument is all that the kernel takes of those looked at here. */
static void load_argument(struct program *p, unsigned arg)
{
	load(p, offsetof(struct seccomp_data, args) + 8 * arg);
}

static void refuse_if_equal(struct program *p, uint32_t value, int error)
{
	emit(p, BPF_JMP | BPF_JEQ | BPF_K, value, 0, 1);
	emit_return(p, SECCOMP_RET_ERRNO | (uint32_t)error);
}

/* If the number is @nr, what is emitted until end_call() decides. */
static unsigned begin_call(struct program *p, int nr)
{
	emit(p, BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)nr, 0, 0);
	return p->length;
}

static void end_call(struct program *p, unsigned start)
{
	emit_return(p, SECCOMP_RET_ALLOW);
	p->code[start - 1].jf = (uint8_t)(p->length - start);
}

static void emit_namespaces(struct program *p, int nr)
{
	unsigned start = begin_call(p, nr);

	load_argument(p, 0);
	emit(p, BPF_JMP | BPF_JSET | BPF_K, NEW_NAMESPACES, 0, 1);
	emit_return(p, SECCOMP_RET_ERRNO | EPERM);
	end_call(p, start);
}

/* Typing into the terminal, for the caller's shell to read when we are gone. */
static void emit_ioctl(struct program *p, int nr)
{
	unsigned start = begin_call(p, nr);

	load_argument(p, 1);
	refuse_if_equal(p, TIOCSTI, EPERM);
	refuse_if_equal(p, TIOCLINUX, EPERM);
	end_call(p, start);
}

/* Families that know of network namespaces; vsock, for one, leads to the machine's host from each. */
static void emit_socket(struct program *p, int nr)
{
	static const uint8_t families[] = {AF_UNIX, AF_INET, AF_INET6, AF_NETLINK};
	unsigned start = begin_call(p, nr);

	load_argument(p, 0);
	for (size_t i = 0; i < HK_ARRAY_SIZE(families); i++) {
		emit(p, BPF_JMP | BPF_JEQ | BPF_K, families[i], 0, 1);
		emit_return(p, SECCOMP_RET_ALLOW);
	}
	emit_return(p, SECCOMP_RET_ERRNO | EAFNOSUPPORT);
	p->code[start - 1].jf = (uint8_t)(p->length - start);
}

/* Programs of 64 or of 32 bits; the architecture is in the accumulator, and is left there for others. */
static void emit_abi(struct program *p, bool wide, bool net)
{
	unsigned start;

	emit(p, BPF_JMP | BPF_JEQ | BPF_K, wide ? AUDIT_ARCH_X86_64 : AUDIT_ARCH_I386, 1, 0);
	start = p->length;
	emit(p, BPF_JMP | BPF_JA, 0, 0, 0);
	load(p, offsetof(struct seccomp_data, nr));
	if (wide) {
		emit(p, BPF_JMP | BPF_JGE | BPF_K, X32_BIT, 0, 1);
		emit_return(p, SECCOMP_RET_ERRNO | ENOSYS);
	}
	emit_ioctl(p, wide ? SYS_ioctl : 54);
	emit_namespaces(p, wide ? SYS_clone : 120);
	emit_namespaces(p, wide ? SYS_unshare : 310);
	if (!net) {
		emit_socket(p, wide ? SYS_socket : 359);
		if (!wide) {
			/* Its arguments are in memory; libc has used socket(2) for many years. */
			refuse_if_equal(p, 102 /* socketcall */, ENOSYS);
		}
	}
	for (size_t i = 0; i < HK_ARRAY_SIZE(refused); i++) {
		int nr = wide ? refused[i].wide : refused[i].narrow;

		if (nr != NONE) {
			refuse_if_equal(p, (uint32_t)nr, refused[i].error);
		}
	}
	emit_return(p, SECCOMP_RET_ALLOW);
	p->code[start].k = p->length - start - 1;
}

int hk_seccomp_sandbox(bool net, struct hk_err *err)
{
	struct program p = {.length = 0};
	struct sock_fprog program = {.filter = p.code};

	load(&p, offsetof(struct seccomp_data, arch));
	emit_abi(&p, true, net);
	emit_abi(&p, false, net);
	emit_return(&p, SECCOMP_RET_KILL_PROCESS);
	program.len = (unsigned short)p.length;
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 ||
		syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_SPEC_ALLOW,
			&program) < 0) {
		return hk_fail(err, errno, "seccomp");
	}
	return 0;
}
