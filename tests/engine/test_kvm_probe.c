/* SPDX-License-Identifier: ISC */
/* What a host without usable KVM is told. Runs anywhere: the device is any file. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/str.h"
#include "engine/kvm/kvm.h"

static void assert_refused(
	const char *device, bool has_virtualization, int code, const char *text, const char *hint)
{
	struct hk_err err = HK_ERR_INIT;
	int r = hk_kvm_open_device(device, has_virtualization, &err);

	if (r != -code || strcmp(hk_err_text(&err), text) != 0 || strstr(err.hint, hint) == NULL) {
		fail_msg("%d '%s', hint '%s'", r, hk_err_text(&err), err.hint);
	}
}

static void test_no_device(void **arg)
{
	assert_refused("/nonexistent/kvm", true, ENOENT,
		"/nonexistent/kvm: No such file or directory", "load kvm_intel or kvm_amd");
}

static void test_not_kvm(void **arg)
{
	assert_refused("/dev/null", true, ENOTSUP, "/dev/null: is not KVM's device", "");
}

/* The device is there, but the processor has no virtualization: this is found first. */
static void test_no_virtualization(void **arg)
{
	assert_refused("/dev/null", false, ENOTSUP,
		"/dev/null: the CPU shows neither vmx nor svm, so KVM could only emulate",
		"hardware virtualization");
}

/* As an ordinary user, which root is not: in a process of its own. */
static void test_not_permitted(void **arg)
{
	char path[] = "/tmp/hako-kvm-XXXXXX";
	int fd = mkstemp(path);
	int status;

	assert_true(fd >= 0);
	assert_int_equal(fchmod(fd, 0), 0);
	close(fd);

	pid_t pid = fork();

	assert_true(pid >= 0);
	if (pid == 0) {
		struct hk_err err = HK_ERR_INIT;

		if (geteuid() == 0 && setuid(65534) < 0) {
			_exit(2);
		}

		int r = hk_kvm_open_device(path, true, &err);

		_exit(r == -EACCES && strstr(hk_err_text(&err), "Permission denied") != NULL &&
					strstr(err.hint, "usermod -aG kvm") != NULL
				? 0
				: 1);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	unlink(path);
	assert_int_equal(status, 0);
}

/* Whatever this host is, there is a reason, and a way out where it is not usable. */
static void test_this_host(void **arg)
{
	struct hk_engine_probe probe = {.name = "kvm"};
	const char *must_work = getenv("MUST_WORK");

	hk_kvm_probe(&probe);
	assert_true(probe.reason[0] != '\0');
	assert_true(probe.usable || probe.hint[0] != '\0');
	if (must_work != NULL && strcmp(must_work, "1") == 0) {
		assert_true(probe.usable);
	}
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_no_device),
		cmocka_unit_test(test_not_kvm),
		cmocka_unit_test(test_no_virtualization),
		cmocka_unit_test(test_not_permitted),
		cmocka_unit_test(test_this_host),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
