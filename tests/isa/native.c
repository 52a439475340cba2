/* SPDX-License-Identifier: ISC */
/*
 * Test cases on the real CPU.
 *
 * Purpose: to learn what hardware does with a case, some 100,000 times a second.
 *
 * Theory: a child process shares the batches with us. For each case it writes code and data to
 * their fixed addresses, loads all registers and goes to the code with IRETQ, which sets RIP, CS,
 * RFLAGS, SS and RSP at once. The case ends in an exception, so in a signal; its handler, on a
 * stack of its own, does not return: it goes back to where the case was entered, and the kernel's
 * frame holds the registers, the vector, the error code and CR2. So a case costs one trap, no
 * system call.
 *
 *	parent: fill batch 0 -> start -> fill batch 1 -> wait 0 -> start 1 -> compare 0 ...
 *	child:                  run 0 .................  done      run 1 ...
 *
 * A case that kills or hangs the child is marked as lost, and a new child goes on with the next
 * one. The child may make no system calls but those of its loop (seccomp).
 *
 * Limits: Linux on x86-64 only. The handler finds its registers by RIP-relative addresses and the
 * signal stack, so the code may destroy whatever it likes but memory outside its pages: nothing
 * else is mapped below 4 GiB, and 64-bit addresses hit something by chance only.
 */
#include "native.h"

#include <cpuid.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <ucontext.h>
#include <unistd.h>

#include "engine/soft/cpu.h"
#include "engine/soft/isa.h"

enum { HANG_MS = 5000, SIGNAL_STACK = 128 * 1024 };

struct batch {
	struct isa_case cases[ISA_BATCH];
	struct isa_result results[ISA_BATCH];
};

/* Shared with the child. */
struct shared {
	_Atomic unsigned current; /* the case that runs */
	struct batch batches[ISA_BATCHES];
	alignas(ISA_PAGE) uint8_t code[ISA_CODE_BYTES];
	uint8_t data[ISA_DATA_BYTES + ISA_CONST_BYTES];
};

struct order {
	uint16_t batch, first, count;
};

struct isa_native {
	struct shared *shared; /* owned mapping */
	int fd;                /* the same memory */
	pid_t child;
	int orders, answers; /* pipes to and from the child */
	struct order order;
	bool running;
	bool code32, fsgsbase;
};

/*
 * native_enter(start, cs): run a case. Returns the signal's ucontext.
 * The handler jumps into its second half.
 */
ucontext_t *native_enter(const struct isa_state *start, uint64_t cs);
void native_signal(int signal, siginfo_t *info, void *context);
/* Of the trampoline: where to go back to; the host's segment state; that of the case. */
extern uint64_t native_stack, native_has_fsgsbase, native_fs_base, native_gs_base;
extern uint64_t native_end_fs_base, native_end_gs_base;
extern uint16_t native_end_sel[6];

#define GPR(n)    "8*" #n "(%rdi)"
#define ST(field) "%c[" #field "](%%rdi)"

_Static_assert(offsetof(struct isa_state, gpr) == 0, "native_enter counts on it");
_Static_assert(offsetof(struct isa_state, rip) == 128, "native_enter counts on it");
_Static_assert(offsetof(struct isa_state, rflags) == 136, "native_enter counts on it");
_Static_assert(offsetof(struct isa_state, fs_base) == 144, "native_enter counts on it");
_Static_assert(offsetof(struct isa_state, gs_base) == 152, "native_enter counts on it");
_Static_assert(offsetof(struct isa_state, sel) == 160, "native_enter counts on it");
_Static_assert(offsetof(struct isa_state, fx) == 176, "native_enter counts on it");

__asm__(".pushsection .text\n"
	".globl native_enter, native_signal\n"
	".hidden native_enter, native_signal\n"
	".type native_enter, @function\n"
	".type native_signal, @function\n"
	"native_enter:\n"
	"	push %rbx\n"
	"	push %rbp\n"
	"	push %r12\n"
	"	push %r13\n"
	"	push %r14\n"
	"	push %r15\n"
	"	mov %rsp, native_stack(%rip)\n"
	"	cmpq $0, native_has_fsgsbase(%rip)\n"
	"	je 1f\n"
	"	rdfsbase %rax\n"
	"	mov %rax, native_fs_base(%rip)\n"
	"	rdgsbase %rax\n"
	"	mov %rax, native_gs_base(%rip)\n"
	"	mov 144(%rdi), %rax\n"
	"	wrfsbase %rax\n"
	"	mov 152(%rdi), %rax\n"
	"	wrgsbase %rax\n"
	"1:	mov 160(%rdi), %es\n"
	"	mov 166(%rdi), %ds\n"
	"	fxrstor64 176(%rdi)\n"
	"	movzwl 164(%rdi), %eax\n"
	"	push %rax\n"
	"	push 32(%rdi)\n"
	"	push 136(%rdi)\n"
	"	push %rsi\n"
	"	push 128(%rdi)\n"
	"	mov 0(%rdi), %rax\n"
	"	mov 8(%rdi), %rcx\n"
	"	mov 16(%rdi), %rdx\n"
	"	mov 24(%rdi), %rbx\n"
	"	mov 40(%rdi), %rbp\n"
	"	mov 48(%rdi), %rsi\n"
	"	mov 64(%rdi), %r8\n"
	"	mov 72(%rdi), %r9\n"
	"	mov 80(%rdi), %r10\n"
	"	mov 88(%rdi), %r11\n"
	"	mov 96(%rdi), %r12\n"
	"	mov 104(%rdi), %r13\n"
	"	mov 112(%rdi), %r14\n"
	"	mov 120(%rdi), %r15\n"
	"	mov 56(%rdi), %rdi\n"
	"	iretq\n"
	/*
	 * The signal handler: RDX is the context. The flags are the case's: AC and NT may be set.
	 */
	"native_signal:\n"
	"	pushq $0x202\n"
	"	popfq\n"
	"	mov %es, native_end_sel(%rip)\n"
	"	mov %ds, native_end_sel+6(%rip)\n"
	"	mov %fs, native_end_sel+8(%rip)\n"
	"	mov %gs, native_end_sel+10(%rip)\n"
	"	cmpq $0, native_has_fsgsbase(%rip)\n"
	"	je 2f\n"
	"	rdfsbase %rax\n"
	"	mov %rax, native_end_fs_base(%rip)\n"
	"	rdgsbase %rax\n"
	"	mov %rax, native_end_gs_base(%rip)\n"
	"	xor %eax, %eax\n"
	"	cmpl $0, native_end_sel+8(%rip)\n" /* FS and GS */
	"	je 3f\n"
	"	mov %eax, %fs\n"
	"	mov %eax, %gs\n"
	"3:	mov native_fs_base(%rip), %rax\n"
	"	wrfsbase %rax\n"
	"	mov native_gs_base(%rip), %rax\n"
	"	wrgsbase %rax\n"
	"2:	mov %rdx, %rax\n"
	"	mov native_stack(%rip), %rsp\n"
	"	pop %r15\n"
	"	pop %r14\n"
	"	pop %r13\n"
	"	pop %r12\n"
	"	pop %rbp\n"
	"	pop %rbx\n"
	"	ret\n"
	".size native_signal, . - native_signal\n"
	".popsection\n"
	".pushsection .bss\n"
	".balign 8\n"
	".globl native_stack, native_has_fsgsbase, native_fs_base, native_gs_base\n"
	".globl native_end_fs_base, native_end_gs_base, native_end_sel\n"
	".hidden native_stack, native_has_fsgsbase, native_fs_base, native_gs_base\n"
	".hidden native_end_fs_base, native_end_gs_base, native_end_sel\n"
	"native_stack: .skip 8\n"
	"native_has_fsgsbase: .skip 8\n"
	"native_fs_base: .skip 8\n"
	"native_gs_base: .skip 8\n"
	"native_end_fs_base: .skip 8\n"
	"native_end_gs_base: .skip 8\n"
	"native_end_sel: .skip 16\n"
	".popsection\n");

/* ---- The child ---- */

static void allow_only_the_loop(void)
{
	struct sock_filter filter[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, arch)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, AUDIT_ARCH_X86_64, 0, 5),
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_read, 4, 0),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_write, 3, 0),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_exit_group, 2, 0),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_rt_sigreturn, 1, 0),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog program = {.len = sizeof(filter) / sizeof(*filter), .filter = filter};

	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 ||
		prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) != 0) {
		fprintf(stderr, "test_isa: no seccomp filter: %s\n", strerror(errno));
	}
}

static void map_at(uint64_t va, size_t len, int prot, int fd, off_t offset)
{
	void *want = (void *)(uintptr_t)va; /* NOLINT: a fixed address is what we need */

	if (mmap(want, len, prot, MAP_SHARED | MAP_FIXED_NOREPLACE | MAP_POPULATE, fd, offset) !=
		want) {
		fprintf(stderr, "test_isa: mmap at %#lx: %s\n", (unsigned long)va, strerror(errno));
		_exit(1);
	}
}

static void child_setup(const struct isa_native *native)
{
	static const int signals[] = {SIGTRAP, SIGSEGV, SIGILL, SIGFPE, SIGBUS};
	struct sigaction action = {
		.sa_sigaction = native_signal, .sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER};
	stack_t stack = {.ss_size = SIGNAL_STACK};

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	map_at(ISA_CODE, ISA_CODE_BYTES, PROT_READ | PROT_EXEC, native->fd,
		offsetof(struct shared, code));
	map_at(ISA_DATA, ISA_DATA_BYTES, PROT_READ | PROT_WRITE, native->fd,
		offsetof(struct shared, data));
	map_at(ISA_CONST, ISA_CONST_BYTES, PROT_READ, native->fd,
		offsetof(struct shared, data) + ISA_DATA_BYTES);
	stack.ss_sp = mmap(
		NULL, SIGNAL_STACK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (stack.ss_sp == MAP_FAILED || sigaltstack(&stack, NULL) != 0) {
		_exit(1);
	}
	for (unsigned i = 0; i < sizeof(signals) / sizeof(*signals); i++) {
		sigaction(signals[i], &action, NULL);
	}
	native_has_fsgsbase = native->fsgsbase;
	allow_only_the_loop();
}

/* From the kernel's numbering of registers to the architecture's. */
static const uint8_t greg_of[HK_GPR_COUNT] = {REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP,
	REG_RSI, REG_RDI, REG_R8, REG_R9, REG_R10, REG_R11, REG_R12, REG_R13, REG_R14, REG_R15};

static void run_case(struct shared *shared, const struct isa_case *c, struct isa_result *r)
{
	static uint64_t filled = UINT64_MAX;
	unsigned off = (unsigned)(c->start.rip - ISA_CODE);
	const greg_t *greg;
	ucontext_t *context;

	memcpy(shared->code + off, c->code, c->len);
	/*
	 * The constant page changes only with the seed; data pages are as cheap to fill as to
	 * check.
	 */
	if (filled != c->memory) {
		isa_memory_fill(c->memory, shared->data, sizeof(shared->data));
		filled = c->memory;
	} else {
		isa_memory_fill(c->memory, shared->data, ISA_DATA_BYTES);
	}
	context = native_enter(&c->start, c->code32 ? ISA_SEL_CODE32 : ISA_SEL_CODE64);
	greg = context->uc_mcontext.gregs;
	r->end = ISA_TRAP;
	r->vector = (uint8_t)greg[REG_TRAPNO];
	r->code = (uint32_t)greg[REG_ERR];
	r->cr2 = r->vector == HK_VECTOR_PF ? (uint64_t)greg[REG_CR2] : 0;
	for (unsigned i = 0; i < HK_GPR_COUNT; i++) {
		r->state.gpr[i] = (uint64_t)greg[greg_of[i]];
	}
	r->state.rip = (uint64_t)greg[REG_RIP];
	r->state.rflags = (uint64_t)greg[REG_EFL];
	memcpy(r->state.sel, native_end_sel, sizeof(r->state.sel));
	r->state.sel[HK_CS] = (uint16_t)greg[REG_CSGSFS];
	r->state.sel[HK_SS] = (uint16_t)((uint64_t)greg[REG_CSGSFS] >> 48);
	r->state.fs_base = native_end_fs_base;
	r->state.gs_base = native_end_gs_base;
	memcpy(r->state.fx, context->uc_mcontext.fpregs, sizeof(r->state.fx));
	memcpy(r->data, shared->data, ISA_DATA_BYTES);
	memset(shared->code + off, ISA_INT3, c->len);
}

static _Noreturn void child_main(const struct isa_native *native, int orders, int answers)
{
	struct shared *shared = native->shared;
	struct order order;

	child_setup(native);
	memset(shared->code, ISA_INT3, sizeof(shared->code));
	while (read(orders, &order, sizeof(order)) == sizeof(order)) {
		struct batch *batch = &shared->batches[order.batch];

		for (unsigned i = order.first; i < order.count; i++) {
			shared->current = i;
			run_case(shared, &batch->cases[i], &batch->results[i]);
		}
		if (write(answers, "", 1) != 1) {
			break;
		}
	}
	_exit(0);
}

/* ---- The parent ---- */

static bool start_child(struct isa_native *native)
{
	int orders[2], answers[2];

	if (pipe2(orders, O_CLOEXEC) != 0) {
		return false;
	}
	if (pipe2(answers, O_CLOEXEC) != 0) {
		close(orders[0]);
		close(orders[1]);
		return false;
	}
	fflush(NULL);
	native->child = fork();
	if (native->child == 0) {
		close(orders[1]);
		close(answers[0]);
		child_main(native, orders[0], answers[1]);
	}
	close(orders[0]);
	close(answers[1]);
	native->orders = orders[1];
	native->answers = answers[0];
	return native->child > 0;
}

static void stop_child(struct isa_native *native)
{
	if (native->child > 0) {
		close(native->orders);
		close(native->answers);
		kill(native->child, SIGKILL);
		waitpid(native->child, NULL, 0);
		native->child = -1;
	}
}

static void give_order(struct isa_native *native)
{
	if (write(native->orders, &native->order, sizeof(native->order)) != sizeof(native->order)) {
		perror("test_isa: the child process does not listen");
		exit(1);
	}
}

static int64_t now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

struct isa_case *isa_native_cases(struct isa_native *native, unsigned batch)
{
	return native->shared->batches[batch].cases;
}

void isa_native_start(struct isa_native *native, unsigned batch, unsigned count)
{
	native->order = (struct order){.batch = (uint16_t)batch, .count = (uint16_t)count};
	give_order(native);
}

const struct isa_result *isa_native_wait(struct isa_native *native, unsigned batch)
{
	struct batch *b = &native->shared->batches[batch];
	int64_t begin_ms = now_ms();

	for (;;) {
		struct pollfd ready = {.fd = native->answers, .events = POLLIN};
		uint8_t answer;
		unsigned current;

		int n = poll(&ready, 1, HANG_MS);

		if (n < 0 && errno == EINTR && now_ms() - begin_ms < HANG_MS) {
			continue;
		}
		if (n > 0 && read(native->answers, &answer, 1) == 1) {
			return b->results;
		}
		/*
		 * Dead, or it hangs: on with the next case in a new one. A batch takes a few
		 * milliseconds.
		 */
		current = native->shared->current;
		b->results[current].end = ISA_LOST;
		stop_child(native);
		if (!start_child(native)) {
			perror("test_isa: fork");
			exit(1);
		}
		native->order.first = (uint16_t)(current + 1);
		give_order(native);
		begin_ms = now_ms();
	}
}

/* A case that is nothing but its end. */
static bool try_mode(struct isa_native *native, bool code32)
{
	struct isa_case *c = isa_native_cases(native, 0);
	const struct isa_result *r;

	*c = (struct isa_case){.code32 = code32, .code = {0x90}, .len = 1};
	c->start.rip = ISA_CODE;
	c->start.rflags = HK_FLAG_FIXED | HK_FLAG_IF;
	c->start.sel[HK_ES] = c->start.sel[HK_SS] = c->start.sel[HK_DS] = ISA_SEL_DATA;
	isa_put16(c->start.fx + ISA_FX_FCW, 0x37f);
	isa_put16(c->start.fx + ISA_FX_MXCSR, 0x1f80);
	isa_native_start(native, 0, 1);
	r = isa_native_wait(native, 0);
	return r->end == ISA_TRAP && r->vector == HK_VECTOR_BP && r->state.rip == ISA_CODE + 2;
}

struct isa_native *isa_native_create(void)
{
	struct isa_native *native = calloc(1, sizeof(*native));
	bool ok = native != NULL;

	if (!ok) {
		return NULL;
	}
	native->child = -1;
	native->fsgsbase = (getauxval(AT_HWCAP2) & 2) != 0; /* HWCAP2_FSGSBASE */
	native->fd = memfd_create("test_isa", MFD_CLOEXEC);
	ok = native->fd >= 0 && ftruncate(native->fd, sizeof(struct shared)) == 0;
	if (ok) {
		native->shared = mmap(NULL, sizeof(struct shared), PROT_READ | PROT_WRITE,
			MAP_SHARED, native->fd, 0);
		ok = native->shared != MAP_FAILED;
	}
	if (!ok || !start_child(native)) {
		perror("test_isa: cannot make a process to run code in");
		isa_native_destroy(native);
		return NULL;
	}
	if (!try_mode(native, false)) {
		fprintf(stderr, "test_isa: the host does not run a NOP as expected\n");
		isa_native_destroy(native);
		return NULL;
	}
	native->code32 = try_mode(native, true);
	return native;
}

void isa_native_destroy(struct isa_native *native)
{
	if (native == NULL) {
		return;
	}
	stop_child(native);
	if (native->shared != NULL && native->shared != MAP_FAILED) {
		munmap(native->shared, sizeof(struct shared));
	}
	if (native->fd >= 0) {
		close(native->fd);
	}
	free(native);
}

bool isa_native_code32(const struct isa_native *native)
{
	return native->code32;
}

bool isa_native_fsgsbase(const struct isa_native *native)
{
	return native->fsgsbase;
}

uint32_t isa_native_features(void)
{
	unsigned eax, ebx, ecx, edx;
	uint32_t features = 1u << HK_FEAT_BASE;

	if (__get_cpuid(1, &eax, &ebx, &ecx, &edx)) {
		features |= (ecx >> 22 & 1) << HK_FEAT_MOVBE;
		features |= (ecx >> 30 & 1) << HK_FEAT_RDRAND;
	}
	if (__get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx)) {
		features |= (ebx >> 3 & 1) << HK_FEAT_BMI1;
		features |= (ebx >> 8 & 1) << HK_FEAT_BMI2;
		features |= (ebx >> 18 & 1) << HK_FEAT_RDSEED;
		features |= (ebx >> 19 & 1) << HK_FEAT_ADX;
		features |= (ebx >> 29 & 1) << HK_FEAT_SHA;
	}
	if (__get_cpuid(0x80000001, &eax, &ebx, &ecx, &edx)) {
		features |= (ecx >> 5 & 1) << HK_FEAT_LZCNT;
	}
	if ((getauxval(AT_HWCAP2) & 2) != 0) {
		features |= 1u << HK_FEAT_FSGSBASE;
	}
	return features;
}
