/* SPDX-License-Identifier: ISC */
/*
 * The life of machines on KVM: pausing, kicking, stopping at any moment, several at once, nothing
 * left behind, and what is refused.
 */
#include "engine_test.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/fault.h"
#include "base/sys.h"

static struct vm vm;

static void test_pause_200_times(void **arg)
{
	struct vm_config config = guest_config("work", 4, "rounds=1024");
	char *reference = reference_output(&config);
	struct hk_err err = HK_ERR_INIT;
	unsigned pauses = 0;

	assert_ok(vm_start(&vm, &config, &err), &err);
	while (pauses < 200 && hk_machine_pause(vm.machine, &err) == 0) {
		unsigned len = __atomic_load_n(&vm.output_len, __ATOMIC_ACQUIRE);

		if (pauses % 20 == 0) {
			usleep(3000);
			assert_int_equal(len, __atomic_load_n(&vm.output_len, __ATOMIC_ACQUIRE));
		}
		assert_ok(hk_machine_resume(vm.machine, &err), &err);
		if (pauses % 3 == 0) {
			vm_run_for(&vm, random_below(HK_NS_PER_MS));
		}
		pauses++;
	}
	assert_true(vm_wait(&vm, 30000));
	assert_int_equal(pauses, 200);
	assert_string_equal(vm.output, reference);
	vm_destroy(&vm);
	free(reference);
}

static atomic_bool kicking;

static void *kick_all_the_time(void *arg)
{
	struct hk_engine *engine = hk_machine_engine(vm.machine);

	for (unsigned i = 0; atomic_load(&kicking); i++) {
		hk_vcpu_kick(hk_engine_vcpu(engine, i % vm.config.cpus));
		if (i % 8 == 0) {
			usleep(300); /* or the guest never comes to a whole instruction */
		}
	}
	return NULL;
}

/* Two kickers against each other: the guest must neither stand still nor notice. */
static void test_kicks(void **arg)
{
	struct vm_config config = guest_config("work", 2, "rounds=256");
	char *reference = reference_output(&config);
	struct hk_err err = HK_ERR_INIT;
	pthread_t kickers[2];

	assert_ok(vm_start(&vm, &config, &err), &err);
	atomic_store(&kicking, true);
	for (unsigned i = 0; i < HK_ARRAY_SIZE(kickers); i++) {
		assert_int_equal(pthread_create(&kickers[i], NULL, kick_all_the_time, NULL), 0);
	}
	bool ended = vm_wait(&vm, 30000);

	atomic_store(&kicking, false);
	for (unsigned i = 0; i < HK_ARRAY_SIZE(kickers); i++) {
		pthread_join(kickers[i], NULL);
	}
	assert_true(ended);
	assert_string_equal(vm.output, reference);
	vm_destroy(&vm);
	free(reference);
}

static void test_stop_at_any_moment(void **arg)
{
	struct vm_config config = guest_config("stuck", 2, NULL);
	struct hk_err err = HK_ERR_INIT;

	for (unsigned i = 0; i < 10; i++) {
		assert_ok(vm_start(&vm, &config, &err), &err);
		if (i > 0) {
			usleep((useconds_t)random_below(300 * i));
		}
		hk_machine_stop(vm.machine);
		assert_true(vm_wait(&vm, 10000));
		assert_int_equal(vm.why, HK_STOP_ASKED);
		vm_destroy(&vm);
	}
}

static void test_stop_before_start(void **arg)
{
	struct vm_config config = guest_config("stuck", 2, NULL);
	struct hk_err err = HK_ERR_INIT;

	assert_ok(vm_create(&vm, &config, &err), &err);
	assert_ok(vm_load(&vm, &err), &err);
	hk_machine_stop(vm.machine);
	assert_ok(hk_machine_start(vm.machine, &err), &err);
	assert_true(vm_wait(&vm, 10000));
	assert_int_equal(vm.why, HK_STOP_ASKED);
	assert_int_equal(vm.output_len, 0);
	vm_destroy(&vm);
}

/* Paused before the start, stopped and destroyed while paused: nobody waits for ever. */
static void test_stop_while_paused(void **arg)
{
	struct vm_config config = guest_config("stuck", 2, NULL);
	struct hk_err err = HK_ERR_INIT;

	assert_ok(vm_create(&vm, &config, &err), &err);
	assert_ok(vm_load(&vm, &err), &err);
	assert_ok(hk_machine_pause(vm.machine, &err), &err);
	assert_ok(hk_machine_start(vm.machine, &err), &err);
	vm_run_for(&vm, 20 * HK_NS_PER_MS);
	assert_int_equal(vm.output_len, 0);
	hk_machine_stop(vm.machine);
	assert_true(vm_wait(&vm, 10000));
	assert_int_equal(vm.why, HK_STOP_ASKED);
	assert_ok(hk_machine_resume(vm.machine, &err), &err);
	assert_int_equal(hk_machine_pause(vm.machine, &err), -ESRCH);
	assert_int_equal(hk_machine_pause(vm.machine, &err), -ESRCH);
	vm_destroy(&vm);
}

static void test_destroy_at_any_stage(void **arg)
{
	struct vm_config config = guest_config("stuck", 2, NULL);
	struct hk_err err = HK_ERR_INIT;
	unsigned fds = count_fds();
	unsigned threads = count_threads();

	assert_ok(vm_create(&vm, &config, &err), &err);
	vm_destroy(&vm);
	assert_ok(vm_create(&vm, &config, &err), &err);
	assert_ok(vm_load(&vm, &err), &err);
	vm_destroy(&vm);
	assert_ok(vm_start(&vm, &config, &err), &err);
	vm_destroy(&vm); /* at work */
	assert_false(vm.stopped);
	assert_int_equal(count_fds(), fds);
	assert_int_equal(count_threads(), threads);
}

static void test_two_machines(void **arg)
{
	static struct vm other;
	struct vm_config config = guest_config("work", 2, "rounds=256");
	char *reference = reference_output(&config);
	struct hk_err err = HK_ERR_INIT;

	assert_ok(vm_start(&vm, &config, &err), &err);
	assert_ok(vm_start(&other, &config, &err), &err);
	assert_true(vm_wait(&vm, 30000));
	assert_true(vm_wait(&other, 30000));
	assert_string_equal(vm.output, reference);
	assert_string_equal(other.output, reference);
	vm_destroy(&vm);
	vm_destroy(&other);
	free(reference);
}

static void test_50_machines_leave_nothing(void **arg)
{
	struct vm_config config = guest_config("hello", 1, NULL);
	struct hk_err err = HK_ERR_INIT;
	unsigned fds = 0;
	unsigned threads = 0;

	for (unsigned i = 0; i < 50; i++) {
		assert_ok(vm_start(&vm, &config, &err), &err);
		assert_true(vm_wait(&vm, 10000));
		assert_int_equal(vm.why, HK_STOP_POWER_OFF);
		vm_destroy(&vm);
		if (i == 0) {
			fds = count_fds();
			threads = count_threads();
		}
	}
	assert_int_equal(count_fds(), fds);
	assert_int_equal(count_threads(), threads);
}

/* The reason of a failed engine must be there to tell. */
static void test_engine_failure(void **arg)
{
	struct vm_config config = guest_config("lost", 1, NULL);
	struct hk_err err = HK_ERR_INIT;

	assert_ok(vm_start(&vm, &config, &err), &err);
	assert_true(vm_wait(&vm, 10000));
	if (test_is_on("kvm")) {
		assert_int_equal(vm.why, HK_STOP_ENGINE);
		assert_non_null(
			strstr(hk_machine_stop_error(vm.machine), "vCPU 0 at rip 0xd0100000"));
	} else {
		char line[HK_CRASH_LINE];

		/* #UD, as hardware would have it, for which this guest has no handler. */
		assert_int_equal(vm.why, HK_STOP_CRASH);
		hk_crash_line(hk_machine_crash(vm.machine), line);
		assert_string_equal(line, "at RIP 0xd0100000, where no memory is mapped");
	}
	vm_destroy(&vm);
}

static void test_refused(void **arg)
{
	static const struct {
		const char *engine; /* NULL: the one under test */
		uint64_t ram_bytes;
		int code;
		const char *text;
	} table[] = {
		{"vmm", 64 * HK_MIB, -EINVAL, "engine 'vmm': not known"},
		{"kvm,fast", 64 * HK_MIB, -EINVAL, "engine 'kvm': option 'fast': not known"},
		{"soft,fast", 64 * HK_MIB, -EINVAL, "engine 'soft': option 'fast': not known"},
		{NULL, 16 * HK_MIB, -EINVAL, "at least 32 MiB"},
		{NULL, 64 * HK_MIB + 1, -EINVAL, "whole pages"},
		{NULL, UINT64_C(1) << 62, -ENOMEM, "guest memory of"},
	};
	unsigned fds = count_fds();

	for (unsigned i = 0; i < HK_ARRAY_SIZE(table); i++) {
		struct vm_config config = guest_config("hello", 1, NULL);
		struct hk_err err = HK_ERR_INIT;

		config.engine = table[i].engine != NULL ? table[i].engine : test_engine();
		config.ram_bytes = table[i].ram_bytes;

		int r = vm_create(&vm, &config, &err);

		if (r >= 0 || strstr(hk_err_text(&err), table[i].text) == NULL) {
			fail_msg("'%s' instead of '%s'", hk_err_text(&err), table[i].text);
		}
		if (table[i].code != -ENOMEM) { /* the host may say E... of its own for sizes */
			assert_int_equal(r, table[i].code);
		}
		vm_destroy(&vm);
	}
	assert_int_equal(count_fds(), fds);
}

static void test_refused_guests(void **arg)
{
	struct vm_config config = guest_config("hello", 1, NULL);
	struct hk_err err = HK_ERR_INIT;
	char long_options[3000];

	memset(long_options, 'x', sizeof(long_options));
	long_options[sizeof(long_options) - 1] = '\0';

	assert_ok(vm_create(&vm, &config, &err), &err);
	vm.config.guest = "/proc/self/cmdline";
	assert_int_equal(vm_load(&vm, &err), -ENOEXEC);
	assert_non_null(strstr(hk_err_text(&err), "kernel: not an x86-64 ELF file"));

	err = HK_ERR_INIT;
	vm.config.guest = "/nonexistent";
	assert_int_equal(vm_load(&vm, &err), -ENOENT);

	int fd = hk_open(AT_FDCWD, config.guest, O_RDONLY, 0);
	struct hk_boot boot = {.vmlinux_fd = fd, .initramfs_fd = -1, .cmdline = long_options};

	err = HK_ERR_INIT;
	assert_int_equal(hk_machine_load(vm.machine, &boot, &err), -E2BIG);
	close(fd);

	struct hk_slot slot;
	int r = 0;

	for (unsigned i = 0; r == 0 && i <= HK_MAX_SLOTS; i++) {
		r = hk_machine_slot(vm.machine, &slot, &err);
	}
	assert_int_equal(r, -ENOSPC);
	vm_destroy(&vm);
}

/* Every allocation and system call on the way to a running guest fails once. */
static void test_faults(void **arg)
{
	struct vm_config config = guest_config("hello", 2, NULL);
	unsigned fds = count_fds();
	unsigned threads = count_threads();
	unsigned nth = 1;

	for (;; nth++) {
		struct hk_err err = HK_ERR_INIT;

		hk_fault_arm(HK_FAULT_ALLOC | HK_FAULT_SYSCALL, nth);

		int r = vm_start(&vm, &config, &err);
		bool fired = hk_fault_fired();

		hk_fault_arm(0, 0);
		if (r == 0) {
			assert_true(vm_wait(&vm, 10000));
		} else {
			assert_true(fired);
			assert_true(hk_err_text(&err)[0] != '\0');
		}
		vm_destroy(&vm);
		assert_int_equal(count_fds(), fds);
		assert_int_equal(count_threads(), threads);
		if (!fired) {
			break;
		}
	}
	print_message("%u faults\n", nth - 1);
	assert_true(nth > 5);
}

int main(int argc, char **argv)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_pause_200_times),
		cmocka_unit_test(test_kicks),
		cmocka_unit_test(test_stop_at_any_moment),
		cmocka_unit_test(test_stop_before_start),
		cmocka_unit_test(test_stop_while_paused),
		cmocka_unit_test(test_destroy_at_any_stage),
		cmocka_unit_test(test_two_machines),
		cmocka_unit_test(test_50_machines_leave_nothing),
		cmocka_unit_test(test_engine_failure),
		cmocka_unit_test(test_refused),
		cmocka_unit_test(test_refused_guests),
		cmocka_unit_test(test_faults),
	};

	return engine_test_main(argc, argv, tests);
}
