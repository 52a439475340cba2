/* SPDX-License-Identifier: ISC */
/* Filters of system calls: does the kernel take them, and do jumps land where they should? */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/bpf_linux.h"

enum { UNFILTERED = 77 };

/* The errno of access(NULL, @mode), under the filter. */
static int errno_under(struct hk_bpf *bpf, int mode)
{
	int status;
	pid_t pid = fork();

	assert_true(pid >= 0);
	if (pid == 0) {
		if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 || hk_bpf_restrict(bpf, NULL) < 0) {
			_exit(UNFILTERED);
		}
		syscall(SYS_access, NULL, mode);
		_exit(errno);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	return WEXITSTATUS(status);
}

/* access() gives @error for @mode; others fail as the kernel has it. */
static void refuse_mode(struct hk_bpf *bpf, uint32_t mode, int error)
{
	hk_bpf_if(bpf, BPF_JEQ, mode, 0, 1);
	hk_bpf_return(bpf, SECCOMP_RET_ERRNO | (uint32_t)error);
}

static void test_branches(void **state)
{
	struct hk_bpf bpf = {.length = 0};
	unsigned other;

	hk_bpf_load(&bpf, offsetof(struct seccomp_data, nr));
	other = hk_bpf_if(&bpf, BPF_JEQ, SYS_access, 0, 0);
	hk_bpf_load_arg(&bpf, 1);
	refuse_mode(&bpf, 1, ENOTTY);
	hk_bpf_and(&bpf, 4);
	refuse_mode(&bpf, 4, EXDEV);
	hk_bpf_return(&bpf, SECCOMP_RET_ALLOW);
	hk_bpf_land(&bpf, other);
	hk_bpf_return(&bpf, SECCOMP_RET_ALLOW);
	assert_int_equal(errno_under(&bpf, 1), ENOTTY);
	assert_int_equal(errno_under(&bpf, 2), EFAULT);
	assert_int_equal(errno_under(&bpf, 6), EXDEV);
}

static void test_a_long_jump(void **state)
{
	struct hk_bpf bpf = {.length = 0};
	unsigned jump;

	hk_bpf_load(&bpf, offsetof(struct seccomp_data, nr));
	hk_bpf_if(&bpf, BPF_JEQ, SYS_access, 1, 0);
	hk_bpf_return(&bpf, SECCOMP_RET_ALLOW);
	jump = hk_bpf_jump(&bpf);
	for (int i = 0; i < 600; i++) {
		hk_bpf_return(&bpf, SECCOMP_RET_ERRNO | ENOTTY);
	}
	hk_bpf_land(&bpf, jump);
	hk_bpf_return(&bpf, SECCOMP_RET_ERRNO | EXDEV);
	assert_int_equal(errno_under(&bpf, 0), EXDEV);
}

static void test_what_the_kernel_does_not_take(void **state)
{
	struct hk_bpf bpf = {.length = 0};

	hk_bpf_load(&bpf, 3); /* not aligned */
	hk_bpf_return(&bpf, SECCOMP_RET_ALLOW);
	assert_int_equal(errno_under(&bpf, 0), UNFILTERED);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_branches),
		cmocka_unit_test(test_a_long_jump),
		cmocka_unit_test(test_what_the_kernel_does_not_take),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
