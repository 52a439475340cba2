/* SPDX-License-Identifier: ISC */
/*
 * Machines that move: a guest at work is paused at some moment and saved, its process ends, and
 * another process goes on with it; again and again until the guest is done. What it says must be
 * what it says when left alone.
 *
 * The steps are this program run anew: "test_engine_move --step FILE NANOSECONDS CPUS GUESTS
 * ENGINE". On "kvm+soft" they take turns: what KVM saved goes on in software, and back.
 */
#include "engine_test.h"

#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/sys.h"

enum { STEP_SAVED = 0, STEP_DONE = 10, STEP_FAILED = 1 };

static const char options[] = "rounds=512";
static const char *guests;
static const char *engines[2];
static unsigned engine_count;

/* --- one step, in a process of its own ------------------------------------------- */

static int step_fail(const struct hk_err *err)
{
	fprintf(stderr, "step: %s\n", hk_err_text(err));
	return STEP_FAILED;
}

static int step(const char *path, uint64_t ns, unsigned cpus)
{
	static struct vm vm;
	struct vm_config config = guest_config("work", cpus, options);
	struct hk_err err = HK_ERR_INIT;
	bool first = access(path, F_OK) < 0;

	if (vm_create(&vm, &config, &err) < 0 ||
		(first ? vm_load(&vm, &err) : vm_restore(&vm, path, &err)) < 0) {
		return step_fail(&err);
	}
	if (ns > 0) { /* or else saved as it is, before the first instruction */
		if (hk_machine_start(vm.machine, &err) < 0) {
			return step_fail(&err);
		}
		vm_run_for(&vm, ns);
		if (!vm.stopped && hk_machine_pause(vm.machine, &err) < 0) {
			vm_wait(&vm, 10000);
		}
	}
	if (vm.stopped) {
		if (hk_write_file_atomic(path, vm.output, vm.output_len, 0600, &err) < 0) {
			return step_fail(&err);
		}
		return vm.why == HK_STOP_POWER_OFF ? STEP_DONE : STEP_FAILED;
	}
	return vm_save(&vm, path, &err) < 0 ? step_fail(&err) : STEP_SAVED;
}

static int step_main(char **argv)
{
	uint64_t ns, cpus;

	if (hk_parse_uint(argv[1], 0, UINT64_MAX, &ns) < 0 ||
		hk_parse_uint(argv[2], 1, HK_MAX_VCPUS, &cpus) < 0) {
		return 2;
	}
	test_on(argv[3], argv[4]);
	return step(argv[0], ns, (unsigned)cpus);
}

/* --- the test -------------------------------------------------------------------- */

static int run_step(const char *path, uint64_t ns, unsigned cpus, const char *engine)
{
	char ns_text[24], cpus_text[8];
	int status;

	hk_fmt(ns_text, sizeof(ns_text), "%llu", (unsigned long long)ns);
	hk_fmt(cpus_text, sizeof(cpus_text), "%u", cpus);
	fflush(NULL);

	pid_t pid = fork();

	assert_true(pid >= 0);
	if (pid == 0) {
		execl("/proc/self/exe", "test_engine_move", "--step", path, ns_text, cpus_text,
			guests, engine, (char *)NULL);
		_exit(127);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	return WEXITSTATUS(status);
}

static void move_until_done(unsigned cpus)
{
	struct vm_config config = guest_config("work", cpus, options);
	char *reference = reference_output(&config);
	struct hk_err err = HK_ERR_INIT;
	char path[] = "/tmp/hako-move-XXXXXX";
	int fd = mkstemp(path);
	unsigned saves = 0;
	void *output;
	size_t len;
	int status;

	assert_true(fd >= 0);
	close(fd);
	unlink(path); /* its absence says "from the beginning" */
	do {
		/*
		 * First before the first instruction, then while the other CPUs start, then later.
		 */
		uint64_t ns = saves == 0 ? 0
			: saves < 4      ? random_below(3 * HK_NS_PER_MS) + 1
					 : random_below(saves * 15 * HK_NS_PER_MS) + 1;

		status = run_step(path, ns, cpus, engines[saves % engine_count]);
		saves += status == STEP_SAVED;
	} while (status == STEP_SAVED && saves < 60);
	assert_int_equal(status, STEP_DONE);

	assert_ok(hk_read_file(path, VM_OUTPUT_MAX, &output, &len, &err), &err);
	assert_string_equal(output, reference);
	print_message("%u CPUs: moved %u times\n", cpus, saves);
	assert_true(saves >= 5);
	unlink(path);
	free(output);
	free(reference);
}

static void test_move_one_cpu(void **arg)
{
	move_until_done(1);
}

static void test_move_four_cpus(void **arg)
{
	move_until_done(4);
}

/* A stream that was cut or changed on the way is refused or restored as it is; nothing crashes. */
static void test_damaged_snapshot(void **arg)
{
	static struct vm vm;
	struct vm_config config = guest_config("work", 2, options);
	struct hk_err err = HK_ERR_INIT;
	struct hk_writer w = {0};
	struct hk_reader r;
	unsigned refused = 0;

	assert_ok(vm_start(&vm, &config, &err), &err);
	vm_run_for(&vm, 20 * HK_NS_PER_MS);
	assert_ok(hk_machine_pause(vm.machine, &err), &err);
	assert_ok(hk_machine_save(vm.machine, &w, &err), &err);
	vm_destroy(&vm);

	assert_ok(vm_create(&vm, &config, &err), &err);
	for (size_t len = 0; len < w.len; len += 1 + random_below(w.len / 20)) {
		hk_reader_init(&r, w.data, len);
		err = HK_ERR_INIT;
		assert_true(hk_machine_restore(vm.machine, &r, &err) < 0);
		assert_true(hk_err_text(&err)[0] != '\0');
	}
	for (unsigned i = 0; i < 100; i++) {
		size_t at = random_below(w.len);
		uint8_t was = w.data[at];

		w.data[at] ^= (uint8_t)(1 + random_below(255));
		hk_reader_init(&r, w.data, w.len);
		err = HK_ERR_INIT;
		refused += hk_machine_restore(vm.machine, &r, &err) < 0;
		w.data[at] = was;
	}
	print_message("%u of 100 changed streams refused\n", refused);
	hk_reader_init(&r, w.data, w.len);
	err = HK_ERR_INIT;
	assert_ok(hk_machine_restore(vm.machine, &r, &err), &err);
	vm_destroy(&vm);

	config.cpus = 1;
	assert_ok(vm_create(&vm, &config, &err), &err);
	hk_reader_init(&r, w.data, w.len);
	assert_int_equal(hk_machine_restore(vm.machine, &r, &err), -EINVAL);
	assert_non_null(strstr(hk_err_text(&err), "snapshot of another machine: 2 CPUs"));
	vm_destroy(&vm);
	hk_writer_finish(&w);
}

int main(int argc, char **argv)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_move_one_cpu),
		cmocka_unit_test(test_move_four_cpus),
		cmocka_unit_test(test_damaged_snapshot),
	};

	if (argc == 7 && strcmp(argv[1], "--step") == 0) {
		return step_main(argv + 2);
	}
	guests = argc > 1 ? argv[1] : ".";
	if (argc > 2 && strcmp(argv[2], "kvm+soft") == 0) {
		engines[engine_count++] = "kvm";
		argv[2] = "soft";
	}
	engines[engine_count++] = argc > 2 ? argv[2] : "soft";
	return engine_test_main(argc, argv, tests);
}
