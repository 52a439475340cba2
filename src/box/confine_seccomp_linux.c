/* SPDX-License-Identifier: ISC */
/*
 * The system call filter: see confine.h.
 *
 * Theory: which calls are made is said in comments where they are made; tools/seccomp-list collects
 * them into seccomp_list.h (what libc does on its own account stands below). From that list a
 * program for the kernel's filter machine is made here:
 *
 *	number ──▶ binary search among ranges of one verdict ──▶ verdict
 *	                        └▶ for some calls: compare an argument ──▶ verdict
 *
 * Where all arguments are allowed the kernel (5.11) remembers the verdict and does not run the
 * program any more; KVM_RUN, whose argument is looked at, is the first of its list.
 *
 * Verdicts: a call that is not listed fails with EPERM, as libc and libraries make calls that we do
 * not know of, and go on without most of them. clone3 and calls that are newer than this file do
 * not exist (ENOSYS): libc then takes the older one, whose flags are in a register, where they can
 * be looked at. Calls that have no place in a monitor at work, and are what an attacker wants most,
 * kill.
 *
 * Limits: pointers cannot be followed, so paths are Landlock's business. Built with a sanitizer's
 * runtime there is no filter.
 */
#include <assert.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/fs.h>
#include <linux/kvm.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <termios.h>
#include <ucontext.h>
#include <unistd.h>

#include "base/bpf_linux.h"
#include "base/log.h"
#include "base/util.h"
#include "box/confine_impl_linux.h"

HK_LOG_CHANNEL("confine");

/* The newest number this file knows to be harmless, or not; from Linux 6.1. */
enum { MAX_CALLS = 451, X32_BIT = 0x40000000 };

/* Boxes in which a call is made. */
enum group {
	ALWAYS = 1 << 0,
	WRITE = 1 << 1, /* with a writable share */
	DISK = 1 << 2,  /* with disks */
};

enum test { ANYTHING, EQUAL, HAS_ALL, HAS_NONE };

/**
 * struct rule - a call that is allowed
 * @group: in which boxes
 * @test: of argument number @arg against @value
 */
struct rule {
	uint16_t nr;
	uint8_t group;
	uint8_t test;
	uint8_t arg;
	uint32_t value;
};

/* Which argument the comments' CALL:VALUE is about. */
enum {
	ARG_fcntl = 1,
	ARG_ioctl = 1,
	ARG_madvise = 2,
	ARG_mmap = 2,
	ARG_mprotect = 2,
	ARG_clone = 0,
	ARG_prctl = 0,
	ARG_prlimit64 = 0,
	ARG_socketpair = 0,
	ARG_tgkill = 0,
	ARG_unshare = 0,
};

#define CALL(group, name)                 {SYS_##name, group, ANYTHING, 0, 0},
#define CALL_IF(group, name, test, value) {SYS_##name, group, test, ARG_##name, (uint32_t)(value)},

/* What glibc, musl and threads need. No memory becomes code; no signal goes to anybody else. */
/* seccomp: brk mmap:-PROT_EXEC mprotect:-PROT_EXEC mremap munmap */
/* seccomp: madvise:MADV_DONTNEED madvise:MADV_FREE */
/* seccomp: clone:+CLONE_THREAD|CLONE_VM set_robust_list rseq exit exit_group */
/* seccomp: futex membarrier sched_yield sched_getaffinity getcpu restart_syscall */
/* seccomp: rt_sigprocmask rt_sigaction rt_sigreturn sigaltstack tgkill:getpid() */
/* seccomp: getpid gettid prlimit64:0 clock_gettime gettimeofday time */
/* seccomp: read write close lseek fstat newfstatat fcntl:F_GETFD */

/* clang-format off */
/* Calls that kill. */
static const uint16_t deadly[] = {
	/* other programs; processes of our own, which leave the box's thread group */
	SYS_execve, SYS_execveat, SYS_fork, SYS_vfork, SYS_clone,
	/* other processes */
	SYS_ptrace, SYS_process_vm_readv, SYS_process_vm_writev, SYS_pidfd_getfd, SYS_kcmp,
	/* the view of files */
	SYS_mount, SYS_umount2, SYS_pivot_root, SYS_chroot, SYS_move_mount, SYS_fsopen,
	SYS_fsconfig, SYS_fsmount, SYS_fspick, SYS_open_tree, SYS_mount_setattr, SYS_setns,
	SYS_unshare, SYS_open_by_handle_at, SYS_quotactl, SYS_swapon, SYS_swapoff,
	SYS_acct,
	/* large parts of the kernel that are known for their holes */
	SYS_bpf, SYS_perf_event_open, SYS_userfaultfd, SYS_io_uring_setup,
	SYS_io_uring_register, SYS_keyctl, SYS_add_key, SYS_request_key, SYS_modify_ldt,
	/* the machine */
	SYS_kexec_load, SYS_kexec_file_load, SYS_init_module, SYS_finit_module,
	SYS_delete_module, SYS_reboot, SYS_iopl, SYS_ioperm, SYS_settimeofday,
	SYS_clock_settime, SYS_sethostname,
};
/* clang-format on */

/* A verdict is what the program returns; or this: rules of that number are tried first. */
#define ARGUMENTS 1u

/**
 * struct filter - a program under construction
 * @rules: those that hold for this box, sorted by number
 * @refusal: what happens to calls that are not listed
 */
struct filter {
	struct rule rules[256];
	unsigned rule_count;
	uint32_t refusal;
	uint32_t verdicts[MAX_CALLS];
	unsigned starts[MAX_CALLS + 1]; /* of ranges with one verdict */
	unsigned range_count;
	struct hk_bpf bpf;
};

static bool is_deadly(unsigned nr)
{
	for (size_t i = 0; i < HK_ARRAY_SIZE(deadly); i++) {
		if (deadly[i] == nr) {
			return true;
		}
	}
	return false;
}

/* Rules of @nr, whose argument is one and the same. */
static void emit_arguments(struct filter *f, unsigned nr)
{
	bool loaded = false;

	for (unsigned i = 0; i < f->rule_count; i++) {
		const struct rule *rule = &f->rules[i];

		if (rule->nr != nr) {
			continue;
		}
		if (!loaded) {
			hk_bpf_load_arg(&f->bpf, rule->arg);
		}
		loaded = rule->test != HAS_ALL; /* which overwrites it */
		switch (rule->test) {
		case EQUAL:
			hk_bpf_if(&f->bpf, BPF_JEQ, rule->value, 0, 1);
			break;
		case HAS_ALL:
			hk_bpf_and(&f->bpf, rule->value);
			hk_bpf_if(&f->bpf, BPF_JEQ, rule->value, 0, 1);
			break;
		default: /* HAS_NONE */
			hk_bpf_if(&f->bpf, BPF_JSET, rule->value, 1, 0);
			break;
		}
		hk_bpf_return(&f->bpf, SECCOMP_RET_ALLOW);
	}
	hk_bpf_return(&f->bpf, is_deadly(nr) ? SECCOMP_RET_KILL_PROCESS : f->refusal);
}

/* The number is in the accumulator, and in ranges @first to @last. */
static void emit_search(struct filter *f, unsigned first, unsigned last)
{
	unsigned middle = first + (last - first + 1) / 2;
	unsigned jump;

	if (first == last) {
		uint32_t verdict = f->verdicts[f->starts[first]];

		if (verdict == ARGUMENTS) {
			emit_arguments(f, f->starts[first]);
		} else {
			hk_bpf_return(&f->bpf, verdict);
		}
		return;
	}
	/* Not below: over a jump, as a branch reaches 255 instructions only. */
	hk_bpf_if(&f->bpf, BPF_JGE, f->starts[middle], 0, 1);
	jump = hk_bpf_jump(&f->bpf);
	emit_search(f, first, middle - 1);
	hk_bpf_land(&f->bpf, jump);
	emit_search(f, middle, last);
}

static void find_ranges(struct filter *f)
{
	for (unsigned nr = 0; nr < MAX_CALLS; nr++) {
		if (nr == 0 || f->verdicts[nr] != f->verdicts[nr - 1] ||
			f->verdicts[nr] == ARGUMENTS) {
			f->starts[f->range_count++] = nr;
		}
	}
}

static void emit_all(struct filter *f)
{
	hk_bpf_load(&f->bpf, offsetof(struct seccomp_data, arch));
	hk_bpf_if(&f->bpf, BPF_JEQ, AUDIT_ARCH_X86_64, 1, 0);
	hk_bpf_return(&f->bpf, SECCOMP_RET_KILL_PROCESS);
	hk_bpf_load(&f->bpf, offsetof(struct seccomp_data, nr));
	hk_bpf_if(&f->bpf, BPF_JGE, X32_BIT, 0, 1);
	hk_bpf_return(&f->bpf, SECCOMP_RET_KILL_PROCESS);
	hk_bpf_if(&f->bpf, BPF_JGE, MAX_CALLS, 0, 1);
	hk_bpf_return(&f->bpf, SECCOMP_RET_ERRNO | ENOSYS);
	find_ranges(f);
	emit_search(f, 0, f->range_count - 1);
}

/* Return: how many calls that makes. */
static int add_rules(struct filter *f, const struct rule *rules, size_t count, unsigned groups)
{
	int added = 0;

	for (size_t i = 0; i < count; i++) {
		const struct rule *rule = &rules[i];
		uint32_t *verdict = &f->verdicts[rule->nr];

		if ((rule->group & groups) == 0 || *verdict == SECCOMP_RET_ALLOW) {
			continue;
		}
		added += *verdict != ARGUMENTS;
		*verdict = rule->test == ANYTHING ? SECCOMP_RET_ALLOW : ARGUMENTS;
		if (rule->test != ANYTHING) {
			assert(f->rule_count < HK_ARRAY_SIZE(f->rules));
			f->rules[f->rule_count++] = *rule;
		}
	}
	return added;
}

static int build(struct filter *f, unsigned groups)
{
	static const struct rule hot = {SYS_ioctl, ALWAYS, EQUAL, ARG_ioctl, (uint32_t)KVM_RUN};
	const struct rule listed[] = {
#include "seccomp_list.h"
	};
	int count;

	for (unsigned nr = 0; nr < MAX_CALLS; nr++) {
		f->verdicts[nr] = is_deadly(nr) ? SECCOMP_RET_KILL_PROCESS : f->refusal;
	}
	f->verdicts[SYS_clone3] = SECCOMP_RET_ERRNO | ENOSYS;
	count = add_rules(f, &hot, 1, groups);
	count += add_rules(f, listed, HK_ARRAY_SIZE(listed), groups);
	emit_all(f);
	return count;
}

/* Instead of a refused call, in the thread that made it; it goes on with EPERM. */
static void report_refusal(int signo, siginfo_t *info, void *context)
{
	ucontext_t *at = context;
	int nr = info->si_syscall;

	hk_log_debug("system call %d is not allowed", nr);
	at->uc_mcontext.gregs[REG_RAX] = -EPERM;
}

static uint32_t choose_refusal(void)
{
	struct sigaction action = {.sa_sigaction = report_refusal, .sa_flags = SA_SIGINFO};

	if (hk_log_enabled(HK_LOG_DEBUG, hk_log_channel) && sigaction(SIGSYS, &action, NULL) == 0) {
		return SECCOMP_RET_TRAP;
	}
	return SECCOMP_RET_ERRNO | EPERM;
}

bool hk_seccomp_offered(void)
{
	return !HK_CONFINE_SANITIZED && prctl(PR_GET_SECCOMP, 0, 0, 0, 0) >= 0;
}

int hk_seccomp_restrict(const struct hk_confine_needs *needs, struct hk_err *err)
{
	struct filter f = {.refusal = choose_refusal()};
	unsigned groups = ALWAYS | (needs->has_disks ? DISK : 0);
	int count;
	int r;

	for (unsigned i = 0; i < needs->tree_count; i++) {
		groups |= needs->trees[i].writable ? WRITE : 0;
	}
	count = build(&f, groups);
	r = hk_bpf_restrict(&f.bpf, err);
	return r < 0 ? r : count;
}
