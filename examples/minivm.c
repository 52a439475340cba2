/* SPDX-License-Identifier: ISC */
/*
 * The smallest use of libhako's machine: boots a kernel and shows its serial console.
 *
 *	minivm VMLINUX [INITRAMFS [COMMAND LINE]]
 *
 * Ends when the guest powers off or resets. Ctrl-C stops it.
 */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/util.h"
#include "machine/machine.h"

struct minivm {
	struct hk_machine_owner owner; /* told of output and of the end */
	struct hk_loop *loop;
	struct hk_machine *machine;
	struct hk_signal interrupt;
};

static void show_serial(struct hk_machine_owner *owner, const uint8_t *bytes, unsigned len)
{
	fwrite(bytes, 1, len, stdout);
	fflush(stdout);
}

static void machine_stopped(struct hk_machine_owner *owner, enum hk_stop why)
{
	static const char *const reasons[HK_STOP_COUNT] = {
		[HK_STOP_POWER_OFF] = "powered off",
		[HK_STOP_RESET] = "asked for a reset",
		[HK_STOP_CRASH] = "crashed (triple fault)",
		[HK_STOP_ENGINE] = "engine failed",
		[HK_STOP_ASKED] = "stopped",
	};
	struct minivm *vm = hk_container_of(owner, struct minivm, owner);

	fprintf(stderr, "minivm: %s %s\n", reasons[why], hk_machine_stop_error(vm->machine));
	hk_loop_stop(vm->loop);
}

static void interrupted(struct hk_signal *sig, const struct signalfd_siginfo *info)
{
	hk_machine_stop(hk_container_of(sig, struct minivm, interrupt)->machine);
}

static int boot(
	struct minivm *vm, int vmlinux, int initramfs, const char *cmdline, struct hk_err *err)
{
	struct hk_machine_config config = {
		.loop = vm->loop,
		.cpu = {.base = HK_CPU_HAKO_V2},
		.vcpu_count = 1,
		.ram_bytes = 256 * HK_MIB,
		.owner = &vm->owner,
	};
	struct hk_boot what = {
		.vmlinux_fd = vmlinux,
		.initramfs_fd = initramfs,
		.cmdline = cmdline,
	};
	int r;

	vm->interrupt.caught = interrupted;
	if ((r = hk_machine_create(&config, &vm->machine, err)) < 0 ||
		(r = hk_machine_load(vm->machine, &what, err)) < 0 ||
		(r = hk_signal_add(vm->loop, &vm->interrupt, SIGINT, err)) < 0 ||
		(r = hk_machine_start(vm->machine, err)) < 0) {
		return r;
	}
	return hk_loop_run(vm->loop);
}

int main(int argc, char **argv)
{
	struct hk_err err = HK_ERR_INIT;
	struct minivm vm = {.owner = {.stopped = machine_stopped, .serial = show_serial}};
	autoclose int vmlinux = argc > 1 ? open(argv[1], O_RDONLY | O_CLOEXEC) : -1;
	autoclose int initramfs = argc > 2 ? open(argv[2], O_RDONLY | O_CLOEXEC) : -1;
	const char *cmdline = argc > 3 ? argv[3] : "console=ttyS0 panic=-1 reboot=t";

	if (vmlinux < 0 || (argc > 2 && initramfs < 0)) {
		fprintf(stderr, "usage: minivm VMLINUX [INITRAMFS [COMMAND LINE]]\n");
		return 2;
	}

	int r = hk_loop_create(&vm.loop, &err);

	r = r < 0 ? r : boot(&vm, vmlinux, initramfs, cmdline, &err);
	if (r < 0) {
		fprintf(stderr, "minivm: %s\n", hk_err_text(&err));
		if (err.hint[0] != '\0') {
			fprintf(stderr, "minivm: hint: %s\n", err.hint);
		}
	}
	hk_signal_remove(&vm.interrupt);
	hk_machine_destroy(vm.machine);
	hk_loop_destroy(vm.loop);
	return r < 0 ? 1 : 0;
}
