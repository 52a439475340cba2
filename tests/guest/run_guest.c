/* SPDX-License-Identifier: ISC */
/*
 * Runs one tiny guest and shows its output.
 *
 *	run_guest [option]... GUEST
 *
 *	--engine E      as hako's; or $HAKO_ENGINE; else the best
 *	--cpus N        (1)
 *	--memory SIZE   (64M)
 *	--option WORDS  for the guest's command line
 *	--pvh           by the PVH entry
 *	--initramfs     with an initramfs of 5000 bytes
 *	--timeout S     (60)
 *	--expect FILE   compare the output with it
 *	--ends HOW      off (default), reset, crash, failure (of the engine): how the machine must
 *end
 *
 * Exit status: 0 if all is as it should be, 1 if not, 2 for wrong usage; 77 where the engine
 * cannot run here, but with MUST_WORK=1 in the environment that is 1.
 */
#include <fcntl.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/str.h"
#include "base/sys.h"
#include "base/util.h"
#include "vm.h"

static const char *const ends[HK_STOP_COUNT] = {
	[HK_STOP_POWER_OFF] = "off",
	[HK_STOP_RESET] = "reset",
	[HK_STOP_CRASH] = "crash",
	[HK_STOP_ENGINE] = "failure",
	[HK_STOP_ASKED] = "stopped",
};

struct arguments {
	struct vm_config vm;
	unsigned timeout_s;
	const char *expect;
	const char *ends;
};

static int usage(void)
{
	fprintf(stderr, "usage: run_guest [option]... GUEST; the options are in run_guest.c\n");
	return 2;
}

static bool parse(int argc, char **argv, struct arguments *args)
{
	static const struct option options[] = {
		{"engine", required_argument, NULL, 'e'},
		{"cpus", required_argument, NULL, 'c'},
		{"memory", required_argument, NULL, 'm'},
		{"option", required_argument, NULL, 'o'},
		{"pvh", no_argument, NULL, 'p'},
		{"initramfs", no_argument, NULL, 'i'},
		{"timeout", required_argument, NULL, 't'},
		{"expect", required_argument, NULL, 'x'},
		{"ends", required_argument, NULL, 'n'},
		{NULL},
	};
	uint64_t number = 0;
	int r = 0;
	int c;

	*args = (struct arguments){
		.vm = {.engine = getenv("HAKO_ENGINE"), .cpus = 1, .ram_bytes = 64 * HK_MIB},
		.timeout_s = 60,
		.ends = "off",
	};
	while (r == 0 && (c = getopt_long(argc, argv, "", options, NULL)) != -1) {
		switch (c) {
		case 'e':
			args->vm.engine = optarg;
			break;
		case 'c':
			r = hk_parse_uint(optarg, 1, HK_MAX_VCPUS, &number);
			args->vm.cpus = (unsigned)number;
			break;
		case 'm':
			r = hk_parse_size(optarg, &args->vm.ram_bytes);
			break;
		case 'o':
			args->vm.options = optarg;
			break;
		case 'p':
			args->vm.pvh = true;
			break;
		case 'i':
			args->vm.initramfs = true;
			break;
		case 't':
			r = hk_parse_uint(optarg, 1, 3600, &number);
			args->timeout_s = (unsigned)number;
			break;
		case 'x':
			args->expect = optarg;
			break;
		case 'n':
			args->ends = optarg;
			break;
		default:
			return false;
		}
	}
	if (r < 0 || optind != argc - 1) {
		return false;
	}
	args->vm.guest = argv[optind];
	return true;
}

/* Shows both texts where they differ. */
static bool as_expected(const struct vm *vm, const char *path)
{
	struct hk_err err = HK_ERR_INIT;
	autofree void *expected = NULL;
	size_t len;

	if (path == NULL) {
		fwrite(vm->output, 1, vm->output_len, stdout);
		return true;
	}
	if (hk_read_file(path, VM_OUTPUT_MAX, &expected, &len, &err) < 0) {
		fprintf(stderr, "run_guest: %s\n", hk_err_text(&err));
		return false;
	}
	if (len == vm->output_len && memcmp(expected, vm->output, len) == 0) {
		return true;
	}
	printf("--- expected\n%s--- output\n%s---\n", (char *)expected, vm->output);
	return false;
}

/* What a guest that does not end is doing. */
static void describe_cpus(struct vm *vm)
{
	static const char *const doing[HK_MP_STATE_COUNT] = {"running", "halted", "not started"};
	static struct hk_vcpu_state state;
	struct hk_err err = HK_ERR_INIT;

	if (hk_machine_pause(vm->machine, &err) < 0) {
		return;
	}
	for (unsigned i = 0; i < vm->config.cpus; i++) {
		struct hk_vcpu *vcpu = hk_engine_vcpu(hk_machine_engine(vm->machine), i);

		if (hk_vcpu_get_state(vcpu, &state, &err) < 0) {
			fprintf(stderr, "cpu %u: %s\n", i, hk_err_text(&err));
			continue;
		}
		fprintf(stderr, "cpu %u: %s at rip 0x%llx, rflags 0x%llx, cr2 0x%llx\n", i,
			doing[state.mp_state], (unsigned long long)state.rip,
			(unsigned long long)state.rflags, (unsigned long long)state.cr2);
	}
	hk_machine_resume(vm->machine, &err);
}

static int run(struct vm *vm, const struct arguments *args, struct hk_err *err)
{
	int r = vm_start(vm, &args->vm, err);

	if (r < 0) {
		return r;
	}
	if (!vm_wait(vm, args->timeout_s * 1000)) {
		as_expected(vm, args->expect);
		describe_cpus(vm);
		return hk_fail_msg(err, ETIMEDOUT, "still running after %u s", args->timeout_s);
	}
	if (!as_expected(vm, args->expect)) {
		return hk_fail_msg(err, EPROTO, "other output than expected");
	}
	if (strcmp(ends[vm->why], args->ends) != 0) {
		return hk_fail_msg(err, EPROTO, "ended by '%s' instead of '%s' %s", ends[vm->why],
			args->ends, hk_machine_stop_error(vm->machine));
	}
	return 0;
}

int main(int argc, char **argv)
{
	static struct vm vm;
	struct hk_err err = HK_ERR_INIT;
	struct arguments args;

	if (!parse(argc, argv, &args)) {
		return usage();
	}

	int skip = vm_require(args.vm.engine);

	if (skip != 0) {
		return skip;
	}

	int r = run(&vm, &args, &err);

	if (r < 0) {
		fprintf(stderr, "run_guest: %s: %s\n", args.vm.guest, hk_err_text(&err));
	}
	vm_destroy(&vm);
	return r < 0 ? 1 : 0;
}
